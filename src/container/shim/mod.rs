//! The pod shim: one small single-threaded process per pod that owns the pod's namespaces, parents its containers, writes
//! their logs and records how they ended. It outlives the node, which finds it again by `shim.sock`.
//!
//! Invariant: whoever holds the lock on `pods/<uid>/lock` is the pod's only shim, so an attempt is started at most once.
//! What may hold secrets (bundles, environments) lies on a tmpfs in the shim's own mount namespace and never on a disk.

mod connection;
mod events;
mod exec;
mod helper;
mod launcher;
mod oci;
pub mod record;
mod start;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::Hierarchy;
use super::protocol::{self, Failure, Launch, Reply};
use super::{rootfs, sys};
use connection::Connection;
use record::{Records, ShimFile};

/// The file whose lock makes a shim the pod's only one.
pub const LOCK: &str = "lock";
/// What a shim tells of itself, written when it is set up.
pub const SHIM_FILE: &str = "shim.json";
/// Where it listens.
pub const SOCKET: &str = "shim.sock";
/// Records and writable layers.
pub const CONTAINERS: &str = "containers";
/// The private tmpfs.
const RUN: &str = "run";
/// Its size: bundles are small.
const RUN_OPTIONS: &str = "mode=0755,size=64m";
const SHM_OPTIONS: &str = "mode=1777,size=64m";

/// A shim that is set up.
struct Shim {
    launch: Launch,
    hierarchy: Hierarchy,
    /// The compiled seccomp filter.
    filter: Rc<[u8]>,
    run: PathBuf,
    records: Records,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    running: BTreeMap<(String, u32), start::Running>,
    /// Process of an exec → the connection it lives with.
    execs: BTreeMap<i32, u64>,
    _lock: Flock<File>,
}

enum SetupError {
    Busy,
    Failed(Failure),
}

fn step<T, E: std::error::Error>(operation: &str, result: Result<T, E>) -> Result<T, SetupError> {
    result.map_err(|e| SetupError::Failed(Failure::other(operation, &e)))
}

/// The shim's whole life, in a freshly forked process. Never returns.
pub fn run(launch: Launch, connection: UnixStream, filter: &[u8]) -> ! {
    match setup(launch, filter) {
        Ok(mut shim) => {
            let told = protocol::send(&connection, &Reply::Ready, &[]).is_ok();
            if told {
                shim.adopt_connection(connection);
            }
            shim.serve();
            sys::exit_now(0)
        }
        Err(error) => {
            let reply = match error {
                SetupError::Busy => Reply::Busy,
                SetupError::Failed(failure) => Reply::Failed(failure),
            };
            let _ = protocol::send(&connection, &reply, &[]);
            sys::exit_now(1)
        }
    }
}

fn setup(launch: Launch, filter: &[u8]) -> Result<Shim, SetupError> {
    step("leaving the node's session", nix::unistd::setsid())?;
    sys::set_name(c"entroos:shim");
    step("standard files", redirect_stdio(&launch.pod_dir))?;
    let lock = lock(&launch.pod_dir)?;
    let hierarchy = step("cgroups", Hierarchy::detect())?;
    enter_cgroup(&hierarchy, &launch.cgroup)?;
    step("signals", sys::ignore_signal(Signal::SIGCHLD, false))?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    step("signals", sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None))?;
    let signals = step("signals", SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))?;
    step("becoming the parent of orphans", sys::become_subreaper())?;
    enter_namespaces(&launch)?;
    let hierarchy = step("cgroups", hierarchy.hold_and_hide())?;
    let run = launch.pod_dir.join(RUN);
    step("mounting the pod's private tmpfs", private_mounts(&run))?;
    step("writing /etc", rootfs::write_etc(&run.join("etc"), &launch.spec.hostname, launch.spec.host_network))?;
    let listener = step("listening", listen(&launch.pod_dir))?;
    let records = step("records", Records::open(&launch.pod_dir.join(CONTAINERS)))?;
    step("writing shim.json", ShimFile::of_this_process(&launch.spec).write(&launch.pod_dir))?;
    Ok(Shim {
        hierarchy,
        filter: Rc::from(filter),
        run,
        records,
        listener,
        signals,
        connections: BTreeMap::new(),
        next_connection: 0,
        running: BTreeMap::new(),
        execs: BTreeMap::new(),
        launch,
        _lock: lock,
    })
}

/// The first of all: a second shim for the same pod must end before it has touched anything.
fn lock(pod_dir: &Path) -> Result<Flock<File>, SetupError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(pod_dir.join(LOCK));
    match Flock::lock(step("opening the pod's lock", file)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(SetupError::Busy),
        Err((_, errno)) => Err(SetupError::Failed(Failure::other("locking the pod", &errno))),
    }
}

fn redirect_stdio(pod_dir: &Path) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).open(pod_dir.join("shim.log"))?;
    nix::unistd::dup2(null.as_raw_fd(), 0)?;
    nix::unistd::dup2(null.as_raw_fd(), 1)?;
    nix::unistd::dup2(log.as_raw_fd(), 2)?;
    Ok(())
}

fn enter_cgroup(hierarchy: &Hierarchy, group: &str) -> Result<(), SetupError> {
    let leaf = format!("{group}/shim");
    step("making the pod's cgroup", hierarchy.create_inner(group))?;
    step("making the shim's cgroup", hierarchy.create_leaf(&leaf))?;
    step("entering the shim's cgroup", hierarchy.enter(&leaf))
}

fn enter_namespaces(launch: &Launch) -> Result<(), SetupError> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !launch.spec.host_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    step("making the pod's namespaces", unshare(flags))?;
    let none = None::<&str>;
    step("making mounts private", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))?;
    step("setting the host name", nix::unistd::sethostname(&launch.spec.hostname))?;
    if !launch.spec.host_network {
        step("raising loopback", sys::raise_loopback())?;
    }
    Ok(())
}

fn private_mounts(run: &Path) -> Result<(), Errno> {
    fs::create_dir_all(run).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("entroos"), run, Some("tmpfs"), flags, Some(RUN_OPTIONS))?;
    let shm = run.join("shm");
    fs::create_dir_all(&shm).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))?;
    mount(Some("shm"), &shm, Some("tmpfs"), flags | MsFlags::MS_NOEXEC, Some(SHM_OPTIONS))
}

/// Binds by way of the directory's descriptor: a socket's whole path may have 107 bytes only.
fn listen(pod_dir: &Path) -> io::Result<UnixListener> {
    let dir = File::open(pod_dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
