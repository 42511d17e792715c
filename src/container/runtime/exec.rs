//! A process that `exec` started, seen from the node.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::super::protocol::{self, Reply};
use super::super::spec::ExecSpec;
use super::super::sys;
use super::{Error, decode, io_error};

/// A process that `exec` started. Dropping it kills the process.
pub struct Exec {
    pub stdin: Option<pipe::Sender>,
    /// The terminal's both ways are `stdin` and `stdout` then.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    terminal: Option<OwnedFd>,
    connection: UnixStream,
    received: Vec<u8>,
}

impl Exec {
    pub(super) fn new(spec: &ExecSpec, connection: StdStream, fds: Vec<OwnedFd>) -> Result<Self, Error> {
        Self::assemble(spec, connection, fds).map_err(io_error("taking over the process"))
    }

    fn assemble(spec: &ExecSpec, connection: StdStream, fds: Vec<OwnedFd>) -> io::Result<Self> {
        connection.set_nonblocking(true)?;
        for fd in &fds {
            fcntl(std::os::fd::AsRawFd::as_raw_fd(fd), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let mut exec = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            connection: UnixStream::from_std(connection)?,
            received: Vec::new(),
        };
        let mut fds = fds.into_iter();
        let mut next =
            || fds.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing"));
        if spec.tty {
            let master = next()?;
            if spec.stdin {
                exec.stdin = Some(pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?);
            }
            exec.stdout = Some(Box::new(Terminal(pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?)));
            exec.terminal = Some(master);
        } else {
            if spec.stdin {
                exec.stdin = Some(pipe::Sender::from_owned_fd_unchecked(next()?)?);
            }
            exec.stdout = Some(Box::new(pipe::Receiver::from_owned_fd_unchecked(next()?)?));
            exec.stderr = Some(Box::new(pipe::Receiver::from_owned_fd_unchecked(next()?)?));
        }
        Ok(exec)
    }

    /// Columns and rows.
    #[allow(clippy::unused_async, reason = "callers await it; another transport may have to ask the shim")]
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else {
            return Err(Error::Refused("the process has no terminal to resize: start it with tty".to_owned()));
        };
        sys::set_window_size(terminal.as_fd(), columns, rows).map_err(io_error("resizing the terminal"))
    }

    /// The exit status (128 + n after signal n). May be cancelled and called again.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>().map(|b| u32::from_le_bytes(*b) as usize) {
                if length > protocol::LIMIT {
                    return Err(Error::Gone);
                }
                if let Some(body) = self.received.get(4..4 + length) {
                    return match decode(body).map_err(io_error("hearing of the process's end"))? {
                        Reply::ExecExited(code) => Ok(code),
                        Reply::Failed(failure) => Err(failure.into()),
                        _ => Err(Error::Gone),
                    };
                }
            }
            match self.connection.read_buf(&mut self.received).await {
                Ok(0) => return Err(Error::Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Error::Gone),
                Err(error) => return Err(io_error("hearing of the process's end")(error)),
            }
        }
    }
}

/// A terminal's master as something to read: it says EIO where others say that they are at their end.
struct Terminal(pipe::Receiver);

impl AsyncRead for Terminal {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::EIO) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}
