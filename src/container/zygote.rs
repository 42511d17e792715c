//! The zygote: a small single-threaded process that forks pod shims for the node.
//!
//! The node itself runs many threads and must not fork. It starts `<program> sandbox-init zygote` with a socket as standard
//! input and sends one [`Launch`] per pod, with a socket beside it that becomes the shim's first connection. The zygote
//! ends with the node; shims live on.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::Signal;

use super::protocol::{self, Failure, Launch, Reply};
use super::{cgroup, seccomp, shim, sys};

/// The zygote's whole life.
pub fn run() -> ExitCode {
    let node = UnixStream::from(sys::inherited_fd(0));
    match serve(&node) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = protocol::send(&node, &Reply::Failed(Failure::other("zygote", &error)), &[]);
            ExitCode::FAILURE
        }
    }
}

fn serve(node: &UnixStream) -> std::io::Result<()> {
    // Out of the node's session: Ctrl-C in its terminal is not for us.
    let _ = nix::unistd::setsid();
    sys::set_name(c"entroos:zygote");
    // The kernel reaps shims that end.
    sys::ignore_signal(Signal::SIGCHLD, true)?;
    sys::ignore_signal(Signal::SIGPIPE, true)?;
    sys::ignore_signal(Signal::SIGHUP, true)?;
    let filter = match prepare() {
        Ok(filter) => filter,
        Err(failure) => return protocol::send(node, &Reply::Failed(failure), &[]),
    };
    protocol::send(node, &Reply::Ready, &[])?;
    while let Some((launch, mut fds)) = protocol::receive::<Launch>(node)? {
        let Some(connection) = fds.pop() else { continue };
        match sys::fork() {
            Ok(Some(_)) => {}
            Ok(None) => {
                sys::close_all_but(&[connection.as_raw_fd()]);
                shim::run(launch, UnixStream::from(connection), &filter);
            }
            Err(error) => {
                let failure = Failure::other("forking the pod's shim", &error);
                let _ = protocol::send(&UnixStream::from(connection), &Reply::Failed(failure), &[]);
            }
        }
    }
    Ok(())
}

/// What every shim needs, made once: the compiled filter, and the knowledge that cgroups are there.
fn prepare() -> Result<Vec<u8>, Failure> {
    cgroup::Hierarchy::detect().map_err(|e| Failure::Other(e.to_string()))?;
    seccomp::compile().map_err(|e| Failure::other("compiling the seccomp filter", &e))
}
