//! Sockets to the zygote and to shims, seen from the node. Everything here may wait.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt};

use super::super::protocol::{self, Failure, Launch, Reply, Request};
use super::super::shim::record::{ShimFile, start_ticks};
use super::super::shim::{LOCK, SOCKET};
use super::{Config, Error, io_error};

/// How long the zygote may take to find out what this machine can do.
const ZYGOTE_WAIT: Duration = Duration::from_secs(30);

/// The process that forks shims.
pub struct Zygote {
    socket: UnixStream,
    child: Child,
}

impl Zygote {
    pub fn spawn(config: &Config) -> Result<Self, Error> {
        let (socket, theirs) = UnixStream::pair().map_err(io_error("making the zygote's socket"))?;
        let child = Command::new(&config.program)
            .args(["sandbox-init", "zygote"])
            .arg(&config.data_dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(io_error("starting the zygote"))?;
        let zygote = Self { socket, child };
        match reply(&zygote.socket, ZYGOTE_WAIT)? {
            Reply::Ready => Ok(zygote),
            Reply::Failed(Failure::Other(why)) => Err(Error::Unsupported(why)),
            _ => Err(Error::Refused("the zygote answered something else than it was asked".to_owned())),
        }
    }

    /// Asks for a shim; a zygote that has died is started anew once.
    pub fn launch(&mut self, config: &Config, launch: &Launch, connection: RawFd) -> Result<(), Error> {
        if protocol::send(&self.socket, launch, &[connection]).is_ok() {
            return Ok(());
        }
        *self = Self::spawn(config)?;
        protocol::send(&self.socket, launch, &[connection]).map_err(io_error("asking the zygote for a shim"))
    }
}

impl Drop for Zygote {
    /// It ends when its socket does.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// Waits for one reply.
pub fn reply(socket: &UnixStream, wait: Duration) -> Result<Reply, Error> {
    socket.set_read_timeout(Some(wait)).map_err(io_error("setting a timeout"))?;
    match protocol::receive(socket) {
        Ok(Some((reply, _))) => Ok(reply),
        Ok(None) => Err(Error::Gone),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::Refused(format!("no answer from the sandbox within {} s", wait.as_secs())))
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Gone),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Error::Gone),
        Err(error) => Err(io_error("hearing from the sandbox")(error)),
    }
}

/// Connects by way of the directory's descriptor: a socket's whole path may have 107 bytes only.
pub fn connect(pod_dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(pod_dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

/// Asks a shim on a connection of its own; what it answers may carry descriptors.
pub fn ask(pod_dir: &Path, request: &Request, wait: Duration) -> Result<(UnixStream, Reply, Vec<OwnedFd>), Error> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::BrokenPipe => Error::Gone,
        _ => io_error("asking the sandbox")(error),
    };
    let socket = connect(pod_dir).map_err(gone)?;
    socket.set_write_timeout(Some(wait)).map_err(io_error("setting a timeout"))?;
    socket.set_read_timeout(Some(wait)).map_err(io_error("setting a timeout"))?;
    protocol::send(&socket, request, &[]).map_err(gone)?;
    match protocol::receive(&socket) {
        Ok(Some((Reply::Failed(failure), _))) => Err(failure.into()),
        Ok(Some((reply, fds))) => Ok((socket, reply, fds)),
        Ok(None) => Err(Error::Gone),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::Refused(format!("no answer from the sandbox within {} s", wait.as_secs())))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            Err(Error::Gone)
        }
        Err(error) => Err(io_error("hearing from the sandbox")(error)),
    }
}

/// Whether the other end is the very process that wrote `shim.json`.
pub fn is_process(socket: &UnixStream, file: &ShimFile) -> bool {
    getsockopt(socket, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.pid() == file.pid && start_ticks(file.pid) == Some(file.start_ticks))
}

/// The pod's lock, where no shim holds it.
pub fn lock(pod_dir: &Path) -> Option<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(pod_dir.join(LOCK)).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}
