//! The `entroos` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Zygote and pod shims fork, so this must come before the first thread.
    #[cfg(feature = "full")]
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "sandbox-init") {
        return entroos::container::runtime::sandbox_init();
    }
    entroos::cli::main()
}
