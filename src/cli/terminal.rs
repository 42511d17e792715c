//! The user's terminal: its size, and raw mode, which never outlives us.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::sys::termios::{self, SetArg, Termios};

/// The terminal on standard input in raw mode; as it was again when this is dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// `None` where standard input is no terminal.
    ///
    /// # Errors
    /// Where the terminal refuses.
    pub fn enter() -> std::io::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        let guard = Self { before };
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw)?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Not DRAIN: a stopped terminal must not keep us from leaving.
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Columns and rows of the terminal on standard output or input; `None` where there is none.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let of = |size: rustix::io::Result<rustix::termios::Winsize>| {
        size.ok().filter(|size| size.ws_col > 0).map(|size| (size.ws_col, size.ws_row))
    };
    of(rustix::termios::tcgetwinsize(std::io::stdout())).or_else(|| of(rustix::termios::tcgetwinsize(std::io::stdin())))
}
