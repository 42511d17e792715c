//! The zygote: a small single-threaded process that forks pod shims for the node.
//!
//! The node itself runs many threads and must not fork. It starts `<program> sandbox-init zygote` with a socket as standard
//! input and sends one [`Launch`] per pod, with a socket beside it that becomes the shim's first connection. The zygote
//! ends with the node; shims live on.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::protocol::{self, Failure, Launch, Reply};
use super::{cgroup, rootfs, seccomp, shim, sys};

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
    sys::ignore_signal(Signal::SIGPIPE, true)?;
    sys::ignore_signal(Signal::SIGHUP, true)?;
    let filter = match prepare() {
        Ok(filter) => filter,
        Err(failure) => return protocol::send(node, &Reply::Failed(failure), &[]),
    };
    // The kernel reaps shims that end.
    sys::ignore_signal(Signal::SIGCHLD, true)?;
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

/// What every shim needs, made once: the compiled filter, and the knowledge that this machine can run pods.
fn prepare() -> Result<Vec<u8>, Failure> {
    cgroup::Hierarchy::detect().map_err(|e| Failure::Other(e.to_string()))?;
    let data_dir = std::env::args_os().nth(3).map(PathBuf::from);
    probe(&data_dir.ok_or_else(|| Failure::Other("the zygote was started without a data directory".to_owned()))?)?;
    seccomp::compile().map_err(|e| Failure::other("compiling the seccomp filter", &e))
}

/// Tries in a child what every pod needs, so that a machine that cannot do it says so before the first pod comes.
fn probe(data_dir: &Path) -> Result<(), Failure> {
    let place = data_dir.join("pods").join(".probe");
    let _ = fs::remove_dir_all(&place);
    let (ours, theirs) = UnixStream::pair().map_err(|e| Failure::other("probing", &e))?;
    match sys::fork().map_err(|e| Failure::other("probing", &e))? {
        None => {
            let result = try_namespaces_and_overlay(&place);
            let reply = result.err().map_or(Reply::Ready, Reply::Failed);
            let _ = protocol::send(&theirs, &reply, &[]);
            sys::exit_now(0)
        }
        Some(child) => {
            drop(theirs);
            let reply = protocol::receive(&ours);
            let _ = nix::sys::wait::waitpid(child, None);
            let _ = fs::remove_dir_all(&place);
            match reply {
                Ok(Some((Reply::Ready, _))) => Ok(()),
                Ok(Some((Reply::Failed(failure), _))) => Err(failure),
                _ => Err(Failure::Other("pods cannot run here: the probing process died".to_owned())),
            }
        }
    }
}

fn try_namespaces_and_overlay(place: &Path) -> Result<(), Failure> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    unshare(flags).map_err(|errno| {
        Failure::Other(format!(
            "pods cannot run here: the kernel makes no new namespaces ({errno}); run the node as root with CAP_SYS_ADMIN, outside \
             of a container that forbids it"
        ))
    })?;
    let none = None::<&str>;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    private.map_err(|e| Failure::other("pods cannot run here: mounts cannot be made private", &e))?;
    let result = rootfs::mount_overlay(&[], place, &place.join("l"), &place.join("root"));
    result.map_err(|e| Failure::other("pods cannot run here", &e))
}
