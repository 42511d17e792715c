//! The command line: `entroos …` and the applets.
//!
//! Invariant: no logic; it asks the API and prints.

mod applets;
mod args;
#[cfg(feature = "full")]
mod client;
mod duration;
#[cfg(feature = "full")]
mod image;
#[cfg(feature = "full")]
mod manifest;
mod math;
mod node;
mod output;
#[cfg(feature = "full")]
mod pod;
#[cfg(feature = "full")]
mod status;
#[cfg(feature = "full")]
mod terminal;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// Exit status of a command line that cannot be understood.
const USAGE: u8 = 2;

/// Parses the arguments (the applet by the program's name) and runs the command.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    match name.filter(|name| applets::NAMES.contains(name)) {
        Some(name) => applet(name, args.iter().skip(1).cloned()),
        None => finish(parse::<args::Entroos>(args).and_then(args::run)),
    }
}

/// Runs the applet called `name` with the arguments behind the program's name.
pub fn applet(name: &str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    finish(applets::run(name, std::iter::once(OsString::from(name)).chain(args)))
}

/// The zygote's and shims' life, where this process was started as one (`… sandbox-init`); every program that may start a
/// node calls this first of all, before any thread exists.
pub fn sandbox_init() -> Option<ExitCode> {
    #[cfg(feature = "full")]
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "sandbox-init") {
        return Some(crate::container::runtime::sandbox_init());
    }
    None
}

/// Parses, and makes help, version and usage errors errors like the others.
fn parse<T: Parser>(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<T> {
    T::try_parse_from(args).map_err(anyhow::Error::new)
}

/// A command line that parses but contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs a command that asks a node.
#[cfg(feature = "full")]
fn block_on<F: Future<Output = anyhow::Result<u8>>>(command: F) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // A read of standard input may wait for ever in its thread.
    runtime.shutdown_background();
    result
}

/// Tells what went wrong and makes it an exit status.
fn finish(result: anyhow::Result<u8>) -> ExitCode {
    let error = match result {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    if error.is::<output::ReaderGone>() {
        return ExitCode::SUCCESS;
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Nobody left to read the help is no error.
        let _ = usage.print();
        return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(USAGE));
    }
    tell(&error);
    ExitCode::from(if error.is::<Usage>() { USAGE } else { 1 })
}

/// What went wrong, why, and what to do next, on standard error.
fn tell(error: &anyhow::Error) {
    eprint!("{}", words(error));
}

fn words(error: &anyhow::Error) -> String {
    use std::fmt::Write;
    let mut text = String::from("error: ");
    let mut last = String::new();
    for (i, cause) in error.chain().enumerate() {
        let cause = cause.to_string();
        // Some errors repeat their source in their own words.
        if i > 0 && last.contains(&cause) {
            continue;
        }
        let _ = write!(text, "{}{cause}", if i == 0 { "" } else { ": " });
        last = cause;
    }
    text.push('\n');
    #[cfg(feature = "full")]
    if let Some(asked) = error.chain().find_map(|cause| cause.downcast_ref::<client::Error>()) {
        if let client::Error::Refused(refused) = asked {
            refused.causes.iter().for_each(|cause| {
                let _ = writeln!(text, "  - {cause}");
            });
        }
        if let Some(hint) = asked.hint() {
            let _ = writeln!(text, "hint: {hint}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
