//! The user's terminal: its size, and raw mode, which never outlives us.

#![allow(unsafe_code)]

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};

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
    let fds = [std::io::stdout().as_raw_fd(), std::io::stdin().as_raw_fd()];
    fds.into_iter().find_map(|fd| {
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is one and lives through the call.
        let answer = unsafe { nix::libc::ioctl(fd, nix::libc::TIOCGWINSZ, &raw mut size) };
        (answer == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
    })
}
