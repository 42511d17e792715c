//! One connection of a node to the shim: frames in, frames out, never waiting.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use super::super::protocol::{self, Request};

/// The most bytes that may wait for a node that does not read.
const OUT_MAX: usize = 4 << 20;

pub struct Connection {
    pub stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Wants every change of a record.
    pub watches: bool,
    /// The process this connection keeps alive.
    pub exec: Option<i32>,
    pub broken: bool,
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new(), output: Vec::new(), watches: false, exec: None, broken: false })
    }

    /// Reads what is there; an end or an error breaks the connection.
    pub fn read(&mut self) -> Vec<Request> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.broken = true;
                    break;
                }
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.broken |= e.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
            if self.input.len() > protocol::LIMIT + 4 {
                break;
            }
        }
        let mut requests = Vec::new();
        loop {
            match protocol::take(&mut self.input) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        requests
    }

    pub fn send<T: Serialize>(&mut self, message: &T) {
        match protocol::frame(message) {
            Ok(bytes) if self.output.len() + bytes.len() <= OUT_MAX + protocol::LIMIT => {
                self.output.extend_from_slice(&bytes);
                self.flush();
            }
            // A node that does not read loses the connection and rereads everything on its next one.
            _ => self.broken = true,
        }
    }

    /// Sends a message and descriptors; the connection is fresh, so its buffer takes them at once.
    pub fn send_with<T: Serialize>(&mut self, message: &T, fds: &[OwnedFd]) {
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let sent = protocol::frame(message).and_then(|bytes| {
            let sent = protocol::send_some(&self.stream, &bytes, &raw)?;
            self.output.extend_from_slice(&bytes[sent..]);
            Ok(())
        });
        self.broken |= sent.is_err();
    }

    pub fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => {
                    self.broken = true;
                    return;
                }
                Ok(n) => {
                    self.output.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.broken |= e.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if self.output.len() > OUT_MAX {
            self.broken = true;
        }
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }
}
