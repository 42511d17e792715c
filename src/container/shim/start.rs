//! Starting one attempt of a container and following it to its end.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::super::cri_log::{Lines, Log, timestamp};
use super::super::protocol::{Failure, Reply};
use super::super::spec::{ContainerRecord, ContainerSpec, ContainerState, Exit};
use super::super::user::User;
use super::super::{logs, rootfs, sys};
use super::Shim;
use super::helper::attempt_places;
use super::launcher::Pipes;
use crate::base::UnixMillis;

/// How much is read from one stream before others get their turn.
const READ_MAX: usize = 64 * 1024;

/// An attempt that runs.
pub struct Running {
    pub spec: ContainerSpec,
    pub user: User,
    pub attempt: Attempt,
    pub pid: i32,
    pub started: UnixMillis,
    pub log: Log,
    pub streams: Vec<Stream>,
    /// Kept open where the container's stdin is to stay open.
    _stdin: Option<OwnedFd>,
}

/// One way the container prints.
pub struct Stream {
    pub file: fs::File,
    pub lines: Lines,
    /// Nothing more will come.
    pub ended: bool,
}

/// The places of one attempt.
pub struct Attempt {
    /// libcontainer's name for it.
    pub id: String,
    pub bundle: PathBuf,
    pub root: PathBuf,
    pub writable: PathBuf,
    pub cgroup: String,
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
        let attempt = self.attempt(&name, number);
        let state = match self.launch_attempt(spec, attempt, started)? {
            Ok(running) => {
                let pid = running.pid;
                self.running.insert((name.clone(), number), running);
                ContainerState::Running { pid, started }
            }
            Err(message) => {
                let message = self.with_memory_hint(message, &self.attempt(&name, number).cgroup);
                self.clean_up(&name, number);
                ContainerState::StartFailed { message, at: UnixMillis::now() }
            }
        };
        let record = ContainerRecord { name, attempt: number, state };
        if matches!(record.state, ContainerState::Running { .. }) {
            self.records.running(record.clone());
            self.tell(&record);
        } else {
            self.finish(&record);
        }
        Ok(record)
    }

    fn attempt(&self, name: &str, number: u32) -> Attempt {
        attempt_places(&self.run, &self.launch.pod_dir, &self.launch.cgroup, name, number)
    }

    /// The outer error: nothing was begun.
    fn launch_attempt(
        &mut self,
        spec: ContainerSpec,
        attempt: Attempt,
        started: UnixMillis,
    ) -> Result<Result<Running, String>, Failure> {
        let (mut theirs, mut streams, mut stdin) = (None, Vec::new(), None);
        if !spec.tty {
            let pipes = Pipes::new().map_err(|e| Failure::other("making pipes", &e))?;
            theirs = Some(pipes.theirs);
            streams.push((pipes.stdout, "stdout"));
            streams.push((pipes.stderr, "stderr"));
            // Dropped, it is at its end for the container: /dev/null would be opened again, for reading only.
            stdin = spec.stdin.then_some(pipes.stdin);
        }
        self.records.make_room(&spec.name).map_err(|e| Failure::other("recording the start", &e))?;
        // The disk takes the record while the child sets the container up; the program waits for both.
        let helper = self.set_up(&spec, &attempt, theirs).map_err(|e| Failure::other("forking", &e))?;
        let begun = self.records.begin(&spec.name, spec.attempt, started);
        if let Err(error) = begun {
            helper.abandon();
            self.clean_up(&spec.name, spec.attempt);
            return Err(Failure::other("recording the start", &error));
        }
        let _ = helper.go();
        let (pid, user, terminal) = match helper.report() {
            Ok(report) => report,
            Err(message) => return Ok(Err(message)),
        };
        streams.extend(terminal.map(|terminal| (terminal, "stdout")));
        let streams: io::Result<Vec<_>> = streams.into_iter().map(|(fd, name)| Stream::new(fd, name)).collect();
        let streams = match streams {
            Ok(streams) => streams,
            Err(error) => return Ok(Err(format!("reading what it prints: {error}"))),
        };
        let path = logs::file(&self.launch.log_dir, &spec.name, spec.attempt);
        let log = Log::open(path, spec.log_max.0, spec.log_files_max);
        Ok(Ok(Running { spec, user, attempt, pid, started, log, streams, _stdin: stdin }))
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
        for stream in running.streams.iter_mut().filter(|stream| !stream.ended) {
            while stream.read(&time, &mut entries) == Read::Some {
                running.log.write(&entries);
                entries.clear();
            }
            stream.lines.finish(&time, &mut entries);
        }
        running.log.write(&entries);
        let oom_killed = code != 0 && self.hierarchy.oom_kills(&running.attempt.cgroup) > 0;
        let (started, finished) = (running.started, UnixMillis::now());
        let exit = Exit { code, signal, oom_killed, started, finished };
        let record = ContainerRecord { name: key.0.clone(), attempt: key.1, state: ContainerState::Exited(exit) };
        self.finish(&record);
        self.clean_up(&key.0, key.1);
    }

    /// Writes down how an attempt ended, then tells.
    fn finish(&mut self, record: &ContainerRecord) {
        let (forgotten, result) = self.records.end(record.clone());
        if let Err(error) = result {
            // The node is told all the same; on disk the attempt counts as lost, which makes it run again, not twice.
            eprintln!("the end of {} {} cannot be written: {error}", record.name, record.attempt);
        }
        for attempt in forgotten {
            remove_logs(&logs::file(&self.launch.log_dir, &record.name, attempt));
        }
        self.tell(record);
    }

    fn clean_up(&self, name: &str, number: u32) {
        let attempt = self.attempt(name, number);
        if !self.hierarchy.processes(&attempt.cgroup).is_empty() {
            self.hierarchy.kill(&attempt.cgroup);
        }
        rootfs::unmount(&attempt.root);
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
pub enum Read {
    Some,
    NothingNow,
    End,
}

impl Stream {
    fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(fd.as_raw_fd(), nix::fcntl::FcntlArg::F_SETFL(flags))?;
        Ok(Self { file: fs::File::from(fd), lines: Lines::new(name), ended: false })
    }

    /// Reads once and cuts it into entries.
    pub fn read(&mut self, time: &str, entries: &mut Vec<u8>) -> Read {
        let mut buffer = vec![0; READ_MAX];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Read::End,
                Ok(n) => {
                    self.lines.push(&buffer[..n], time, entries);
                    return Read::Some;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Read::NothingNow,
                // A terminal whose other side is gone says EIO.
                Err(_) => return Read::End,
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
