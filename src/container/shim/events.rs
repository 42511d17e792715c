//! The shim's loop: it sleeps in one `poll` until a node asks, a container prints or a process ends. No timers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::cri_log::timestamp;
use super::super::protocol::{Failure, Reply, Request};
use super::Shim;
use super::connection::Connection;
use super::exec::kill_session;
use super::start::Read;

/// Watches, requests and execs at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// What a poll entry stands for.
#[derive(Clone)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Stream((String, u32), usize),
}

impl Shim {
    /// Takes a connection whose other end the node holds already.
    pub(super) fn adopt_connection(&mut self, stream: UnixStream) {
        if let Ok(connection) = Connection::new(stream) {
            self.connections.insert(self.next_connection, connection);
            self.next_connection += 1;
        }
    }

    /// Until the process is killed: a shim ends with its pod.
    pub(super) fn serve(&mut self) {
        loop {
            let ready = self.wait();
            // Output comes first, then ends: what a container printed stands in its log when its end is told.
            for (source, flags) in &ready {
                match source {
                    Source::Stream(key, index) => self.print(key, *index),
                    Source::Connection(id) => self.converse(*id, *flags),
                    Source::Listener => self.accept(),
                    Source::Signals => {}
                }
            }
            if ready.iter().any(|(source, _)| matches!(source, Source::Signals)) {
                while matches!(self.signals.read_signal(), Ok(Some(_))) {}
            }
            self.reap();
            self.hang_up();
        }
    }

    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.connections.len() < CONNECTIONS_MAX {
            sources.push(Source::Listener);
            fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        for (id, connection) in &self.connections {
            let write = if connection.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push(Source::Connection(*id));
            fds.push(PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN | write));
        }
        for (key, running) in &self.running {
            for (index, stream) in running.streams.iter().enumerate().filter(|(_, stream)| !stream.ended) {
                sources.push(Source::Stream(key.clone(), index));
                fds.push(PollFd::new(stream.file.as_fd(), PollFlags::POLLIN));
            }
        }
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let ready = sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty());
        let (mut streams, others): (Vec<_>, Vec<_>) =
            ready.partition(|(source, _)| matches!(source, Source::Stream(..)));
        streams.extend(others);
        streams
    }

    fn print(&mut self, key: &(String, u32), index: usize) {
        let Some(running) = self.running.get_mut(key) else { return };
        let Some(stream) = running.streams.get_mut(index) else { return };
        let (time, mut entries) = (timestamp(), Vec::new());
        let read = stream.read(&time, &mut entries);
        if read == Read::End {
            stream.lines.finish(&time, &mut entries);
            stream.ended = true;
        }
        running.log.write(&entries);
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => self.adopt_connection(stream),
                Err(_) => return,
            }
        }
    }

    fn converse(&mut self, id: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if flags.contains(PollFlags::POLLOUT) {
            connection.flush();
        }
        if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            for request in connection.read() {
                self.answer(id, request);
            }
        }
    }

    fn answer(&mut self, id: u64, request: Request) {
        let reply = match request {
            Request::Watch => {
                let records = self.records.all().to_vec();
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches = true;
                }
                Reply::Records(records)
            }
            Request::Start(spec) => match self.start(*spec) {
                Ok(record) => Reply::Record(record),
                Err(failure) => Reply::Failed(failure),
            },
            Request::Signal { container, attempt, signal } => self.signal(container, attempt, signal),
            Request::Kill { container, attempt } => match self.running.get(&(container.clone(), attempt)) {
                Some(running) => {
                    self.hierarchy.kill(&running.attempt.cgroup);
                    Reply::Done
                }
                None => Reply::Failed(Failure::NotRunning(container)),
            },
            Request::Exec(spec) => return self.exec(id, &spec),
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.send(&reply);
        }
    }

    fn signal(&self, container: String, attempt: u32, signal: i32) -> Reply {
        let Some(pid) = self.running.get(&(container.clone(), attempt)).map(|r| Pid::from_raw(r.pid)) else {
            return Reply::Failed(Failure::NotRunning(container));
        };
        let sent = Signal::try_from(signal).and_then(|signal| kill(pid, signal));
        sent.map_or_else(|e| Reply::Failed(Failure::other("sending the signal", &e)), |()| Reply::Done)
    }

    /// Collects every process that has ended: containers, execs, and orphans that became ours.
    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32, signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(id) = self.execs.remove(&pid) {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.exec = None;
                    connection.send(&Reply::ExecExited(code));
                }
                continue;
            }
            let key = self.running.iter().find(|(_, running)| running.pid == pid).map(|(key, _)| key.clone());
            if let Some(key) = key {
                self.ended(&key, code, signal);
            }
        }
    }

    /// Forgets connections that broke; a process lives no longer than its exec's connection.
    fn hang_up(&mut self) {
        self.connections.retain(|_, connection| {
            if connection.broken
                && let Some(pid) = connection.exec
            {
                kill_session(pid);
            }
            !connection.broken
        });
    }
}
