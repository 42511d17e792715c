//! The other names this program answers to, each with the command line the specification gives it.
//!
//! What an applet cannot do in this version it refuses, with the reason; its `--help` says so too.

mod entropy_router;
pub mod install;
mod mock_k8;
#[cfg(feature = "full")]
mod mockdocker;
mod morphdb;
mod nko;

use std::ffi::OsString;

/// The names.
pub const NAMES: [&str; 5] = ["nko", "mockdocker", "mock_k8", "entropy_router", "morphdb"];

/// Runs the applet called `name`; `args` begin with the program's name.
///
/// # Errors
/// Whatever it cannot do.
pub fn run(name: &str, args: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    use super::parse;
    match name {
        "nko" => parse(args).and_then(nko::run),
        "mock_k8" => parse(args).and_then(mock_k8::run),
        "entropy_router" => parse(args).and_then(entropy_router::run),
        "morphdb" => parse(args).and_then(morphdb::run),
        #[cfg(feature = "full")]
        "mockdocker" => parse(args).and_then(mockdocker::run),
        #[cfg(not(feature = "full"))]
        "mockdocker" => Err(super::node::absent("mockdocker")),
        _ => Err(super::Usage(format!("{name:?} is not an applet: there are {}", NAMES.join(", "))).into()),
    }
}

/// A promise of the specification that this version does not keep yet.
fn not_yet(what: &str, needs: &str) -> anyhow::Error {
    anyhow::anyhow!("{what} is not in this version of EntroOS yet: it needs {needs}; nothing was done")
}

/// The command lines of all, for tests.
#[cfg(test)]
pub fn commands() -> Vec<clap::Command> {
    use clap::CommandFactory;
    vec![
        nko::Nko::command(),
        mock_k8::MockK8::command(),
        entropy_router::EntropyRouter::command(),
        morphdb::Morphdb::command(),
        #[cfg(feature = "full")]
        mockdocker::Mockdocker::command(),
    ]
}
