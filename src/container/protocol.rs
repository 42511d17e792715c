//! What node, zygote and shims say to one another: frames over Unix stream sockets, descriptors beside them.
//!
//! A frame is its length (four bytes, little endian) and a message in the canonical codec. Descriptors travel with the
//! first byte of the frame they belong to.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::spec::{ContainerRecord, ContainerSpec, ExecSpec, SandboxSpec};
use super::sys;
use crate::base::codec;

/// The most bytes one message may take: a container's environment may hold whole config maps.
pub const LIMIT: usize = 8 << 20;
/// The most descriptors beside one frame: three pipes.
const FDS_MAX: usize = 3;

/// Node to zygote; a socket that becomes the shim's first connection travels beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    pub spec: SandboxSpec,
    /// `pods/<uid>`, which exists.
    pub pod_dir: PathBuf,
    /// `logs/<namespace>_<name>_<uid>`.
    pub log_dir: PathBuf,
    /// Below the cgroup root: `entroos/<node>/<uid>`.
    pub cgroup: String,
}

/// Node to shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Tell all records now and each change from now on.
    Watch,
    Start(Box<ContainerSpec>),
    Signal {
        container: String,
        attempt: u32,
        signal: i32,
    },
    Kill {
        container: String,
        attempt: u32,
    },
    /// The process lives as long as the connection.
    Exec(ExecSpec),
}

/// Zygote or shim to node.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The zygote can make sandboxes; the shim is set up.
    Ready,
    /// Another shim owns this pod.
    Busy,
    Done,
    Record(ContainerRecord),
    Records(Vec<ContainerRecord>),
    /// Beside it: the terminal's master, or stdin (where asked for), stdout and stderr.
    ExecStarted,
    ExecExited(i32),
    Failed(Failure),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    #[error("container {0} does not run")]
    NotRunning(String),
    /// The command cannot be run: why, in words that lead to the cure.
    #[error("{0}")]
    Command(String),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub fn other(operation: &str, error: &dyn std::error::Error) -> Self {
        Self::Other(format!("{operation}: {}", chain(error)))
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// A message as the bytes of its frame.
pub fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = codec::encode::<LIMIT, _>(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Takes the first whole frame out of `buffer`.
pub fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(length) = buffer.first_chunk::<4>().map(|b| u32::from_le_bytes(*b) as usize) else { return Ok(None) };
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is larger than its limit"));
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let message = decode(body)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    codec::decode::<LIMIT, T>(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Sends a frame and the descriptors that belong to it; waits until all of it is gone.
pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let bytes = frame(message)?;
    let sent = send_some(stream, &bytes, fds)?;
    stream.write_all(&bytes[sent..])
}

/// Sends as much as the socket takes now, with the descriptors beside the first byte.
pub fn send_some(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives one frame and the descriptors beside it; `None` at the orderly end.
pub fn receive<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut head = [0; 4];
    let (read, fds) = receive_some(stream, &mut head)?;
    if read == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[read..])?;
    let length = u32::from_le_bytes(head) as usize;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is larger than its limit"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((decode(&body)?, fds)))
}

/// Receives what is there now and the descriptors beside it.
pub fn receive_some(stream: &UnixStream, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut slices = [IoSliceMut::new(into)];
    let message = loop {
        match recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            fds.extend(sys::own_fds(&raw));
        }
    }
    Ok((message.bytes, fds))
}
