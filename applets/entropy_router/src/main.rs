//! `entropy_router`: a node that only routes, and identity proofs. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The node it runs re-executes this program for zygote and pod shims: before the first thread.
    entroos::cli::sandbox_init().unwrap_or_else(|| entroos::cli::applet("entropy_router", std::env::args_os().skip(1)))
}
