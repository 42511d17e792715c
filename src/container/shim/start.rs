//! Starting one attempt of a container and following it to its end.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;

use super::super::cri_log::{Lines, Log, timestamp};
use super::super::protocol::{Failure, Reply, chain};
use super::super::spec::{ContainerRecord, ContainerSpec, ContainerState, Exit};
use super::super::user::User;
use super::super::{logs, rootfs, sys};
use super::exec::{Console, FailurePipe, Pipes, remove_root, resolve_user, without_leaks};
use super::{CONTAINERS, Shim, oci};
use crate::base::UnixMillis;

/// How much is read from one stream before others get their turn.
const READ_MAX: usize = 64 * 1024;

/// An attempt that runs.
pub struct Running {
    pub spec: ContainerSpec,
    pub user: User,
    /// libcontainer's name for it.
    pub id: String,
    pub bundle: PathBuf,
    pub pid: i32,
    pub started: UnixMillis,
    pub cgroup: String,
    pub log: Log,
    pub streams: Vec<Stream>,
    /// Kept open where the container's stdin is to stay open.
    _stdin: Option<OwnedFd>,
}

/// One way the container prints.
pub struct Stream {
    pub file: fs::File,
    pub lines: Lines,
}

struct Started {
    user: User,
    pid: i32,
    streams: Vec<Stream>,
    stdin: Option<OwnedFd>,
}

/// The places of one attempt.
struct Attempt {
    id: String,
    bundle: PathBuf,
    root: PathBuf,
    writable: PathBuf,
    cgroup: String,
}

impl Shim {
    /// Starts an attempt, or tells what became of it when it was asked for before.
    pub(super) fn start(&mut self, spec: ContainerSpec) -> Result<ContainerRecord, Failure> {
        if let Some(record) = self.records.find(&spec.name, spec.attempt) {
            return Ok(record.clone());
        }
        if self.records.outdated(&spec.name, spec.attempt) {
            return Err(Failure::Other(format!(
                "a later attempt than {} of container {} was begun",
                spec.attempt, spec.name
            )));
        }
        if self.running.keys().any(|(name, _)| *name == spec.name) {
            return Err(Failure::Other(format!("an earlier attempt of container {} still runs", spec.name)));
        }
        if !is_plain(&spec.name) {
            return Err(Failure::Other(format!("\"{}\" is not a container name", spec.name)));
        }
        let (name, number, started) = (spec.name.clone(), spec.attempt, UnixMillis::now());
        // Durable before anything runs: after a crash this attempt counts as lost and is never started again.
        self.records.begin(&name, number, started).map_err(|e| Failure::other("recording the start", &e))?;
        let attempt = self.attempt(&name, number);
        let state = match self.launch_attempt(&spec, &attempt) {
            Ok(done) => {
                let pid = done.pid;
                let path = logs::file(&self.launch.log_dir, &name, number);
                let log = Log::open(path, spec.log_max.0, spec.log_files_max);
                let running = Running {
                    spec,
                    user: done.user,
                    id: attempt.id,
                    bundle: attempt.bundle,
                    pid,
                    started,
                    cgroup: attempt.cgroup,
                    log,
                    streams: done.streams,
                    _stdin: done.stdin,
                };
                self.running.insert((name.clone(), number), running);
                ContainerState::Running { pid, started }
            }
            Err(message) => {
                let message = self.with_memory_hint(message, &attempt.cgroup);
                self.clean_up(&name, number);
                ContainerState::StartFailed { message, at: UnixMillis::now() }
            }
        };
        let record = ContainerRecord { name, attempt: number, state };
        if matches!(record.state, ContainerState::Running { .. }) {
            self.records.running(record.clone());
            self.tell(&record);
        } else {
            self.finish(record.clone(), started);
        }
        Ok(record)
    }

    fn attempt(&self, name: &str, number: u32) -> Attempt {
        let id = format!("{name}-{number}");
        let bundle = self.run.join("c").join(&id);
        Attempt {
            root: bundle.join("root"),
            writable: self.launch.pod_dir.join(CONTAINERS).join(name).join(format!("{number}.root")),
            cgroup: format!("{}/{id}", self.launch.cgroup),
            bundle,
            id,
        }
    }

    fn launch_attempt(&self, spec: &ContainerSpec, attempt: &Attempt) -> Result<Started, String> {
        let text = |e: &dyn std::error::Error| chain(e);
        let _ = fs::remove_dir_all(&attempt.writable);
        fs::create_dir_all(&attempt.bundle).map_err(|e| text(&e))?;
        rootfs::mount_overlay(&spec.layers, &attempt.writable, &attempt.bundle.join("l"), &attempt.root)
            .map_err(|e| text(&e))?;
        let root = rootfs::Root::open(&attempt.root).map_err(|e| text(&e))?;
        let user = resolve_user(spec, &root)?;
        let cwd = if spec.cwd.is_empty() { "/" } else { spec.cwd.as_str() };
        if !cwd.starts_with('/') {
            return Err(format!("workingDir \"{cwd}\" is not absolute: let it start with /"));
        }
        root.create_dir_all(cwd).map_err(|e| format!("workingDir \"{cwd}\" cannot be made: {e}"))?;
        drop(root);

        self.hierarchy.create_leaf(&attempt.cgroup).map_err(|e| text(&e))?;
        self.hierarchy.limit(&attempt.cgroup, &spec.limits).map_err(|e| text(&e))?;
        self.hierarchy.limit_devices(&attempt.cgroup).map_err(|e| text(&e))?;

        let env = oci::environment(&spec.env, &user, &self.launch.spec.hostname, spec.tty);
        let process = oci::process(&spec.args, &env, cwd, &user, spec.tty).map_err(|e| text(&e))?;
        let places = oci::Places {
            root: &attempt.root,
            etc: &self.run.join("etc"),
            shm: &self.run.join("shm"),
            cgroup: &attempt.cgroup,
        };
        let oci = oci::container(spec, process, &places).map_err(|e| text(&e))?;
        oci.save(attempt.bundle.join("config.json")).map_err(|e| text(&e))?;
        self.run_libcontainer(spec, attempt, user)
    }

    fn run_libcontainer(&self, spec: &ContainerSpec, attempt: &Attempt, user: User) -> Result<Started, String> {
        let text = |e: &dyn std::error::Error| chain(e);
        let state = self.run.join("state");
        fs::create_dir_all(&state).map_err(|e| text(&e))?;
        let failure = FailurePipe::new().map_err(|e| text(&e))?;
        let mut builder = ContainerBuilder::new(attempt.id.clone(), SyscallType::default())
            .with_root_path(state)
            .map_err(|e| text(&e))?
            .with_executor(failure.launcher(&self.filter));
        let (mut console, mut streams, mut stdin) = (None, Vec::new(), None);
        if spec.tty {
            let new = Console::new(&attempt.bundle).map_err(|e| text(&e))?;
            builder = builder.with_console_socket(Some(new.path.clone()));
            console = Some(new);
        } else {
            let pipes = Pipes::new(user.uid).map_err(|e| text(&e))?;
            let [theirs_in, theirs_out, theirs_err] = pipes.theirs;
            builder = builder.with_stdin(theirs_in).with_stdout(theirs_out).with_stderr(theirs_err);
            streams = vec![
                Stream::new(pipes.stdout, "stdout").map_err(|e| text(&e))?,
                Stream::new(pipes.stderr, "stderr").map_err(|e| text(&e))?,
            ];
            // Dropped, it is at its end for the container: /dev/null would be opened again, for reading only.
            stdin = spec.stdin.then_some(pipes.stdin);
        }
        let init = builder.as_init(&attempt.bundle).with_systemd(false).with_detach(true);
        let mut container = without_leaks(|| init.build()).map_err(|e| text(&e))?;
        let pid = container.pid().ok_or("the container has no first process")?.as_raw();
        if let Some(console) = console {
            let master = console.master().map_err(|e| format!("getting the terminal: {e}"))?;
            streams = vec![Stream::new(master, "stdout").map_err(|e| text(&e))?];
        }
        container.start().map_err(|e| text(&e))?;
        match failure.wait() {
            None => Ok(Started { user, pid, streams, stdin }),
            Some(message) => Err(message),
        }
    }

    fn with_memory_hint(&self, message: String, cgroup: &str) -> String {
        if self.hierarchy.oom_kills(cgroup) == 0 {
            return message;
        }
        format!("the memory limit is too small for the container to start: raise resources.limits.memory ({message})")
    }

    /// The container's first process is gone.
    pub(super) fn ended(&mut self, key: &(String, u32), code: i32, signal: i32) {
        let Some(mut running) = self.running.remove(key) else { return };
        let time = timestamp();
        let mut entries = Vec::new();
        for stream in &mut running.streams {
            while stream.read(&time, &mut entries) == Read1::Some {
                running.log.write(&entries);
                entries.clear();
            }
            stream.lines.finish(&time, &mut entries);
        }
        running.log.write(&entries);
        let oom_killed = code != 0 && self.hierarchy.oom_kills(&running.cgroup) > 0;
        let (started, finished) = (running.started, UnixMillis::now());
        let exit = Exit { code, signal, oom_killed, started, finished };
        let record = ContainerRecord { name: key.0.clone(), attempt: key.1, state: ContainerState::Exited(exit) };
        self.finish(record, started);
        self.clean_up(&key.0, key.1);
    }

    /// Writes down how an attempt ended, then tells.
    fn finish(&mut self, record: ContainerRecord, started: UnixMillis) {
        let (forgotten, result) = self.records.end(record.clone(), started);
        if let Err(error) = result {
            // The node is told all the same; on disk the attempt counts as lost, which makes it run again, not twice.
            eprintln!("the end of {} {} cannot be written: {error}", record.name, record.attempt);
        }
        for attempt in forgotten {
            remove_logs(&logs::file(&self.launch.log_dir, &record.name, attempt));
        }
        self.tell(&record);
    }

    fn clean_up(&self, name: &str, number: u32) {
        let attempt = self.attempt(name, number);
        if !self.hierarchy.processes(&attempt.cgroup).is_empty() {
            self.hierarchy.kill(&attempt.cgroup);
        }
        remove_root(&attempt.root);
        let _ = fs::remove_dir_all(&attempt.bundle);
        let _ = fs::remove_dir_all(self.run.join("state").join(&attempt.id));
        // A writable layer may hold many files: another process deletes them while this one goes on.
        match sys::fork() {
            Ok(None) => {
                let _ = self.hierarchy.remove(&attempt.cgroup);
                let _ = fs::remove_dir_all(&attempt.writable);
                sys::exit_now(0)
            }
            Ok(Some(_)) => {}
            Err(_) => {
                let _ = fs::remove_dir_all(&attempt.writable);
            }
        }
    }

    /// Tells everybody who watches.
    pub(super) fn tell(&mut self, record: &ContainerRecord) {
        for connection in self.connections.values_mut().filter(|c| c.watches) {
            connection.send(&Reply::Record(record.clone()));
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Read1 {
    Some,
    NothingNow,
    End,
}

impl Stream {
    fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(fd.as_raw_fd(), nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok(Self { file: fs::File::from(fd), lines: Lines::new(name) })
    }

    /// Reads once and cuts it into entries.
    pub fn read(&mut self, time: &str, entries: &mut Vec<u8>) -> Read1 {
        let mut buffer = [0; READ_MAX];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Read1::End,
                Ok(n) => {
                    self.lines.push(&buffer[..n], time, entries);
                    return Read1::Some;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Read1::NothingNow,
                // A terminal whose other side is gone says EIO.
                Err(_) => return Read1::End,
            }
        }
    }
}

/// A name that is one plain path component.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn remove_logs(path: &Path) {
    let Some((dir, name)) = path.parent().zip(path.file_name().and_then(|n| n.to_str())) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(|n| n == name || n.strip_prefix(name).is_some_and(|r| r.starts_with('.')))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
