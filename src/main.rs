//! The `entroos` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Zygote and pod shims fork, so this must come before the first thread.
    entroos::cli::sandbox_init().unwrap_or_else(entroos::cli::main)
}
