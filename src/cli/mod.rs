//! The command line: `entroos …` and the applets.
//!
//! Invariant: no logic; it asks the API and prints.

/// Parses the arguments (the applet by the program's name) and runs the command.
pub fn main() -> std::process::ExitCode {
    todo!()
}
