//! Further processes in a running container: each lives as long as the connection that asked for it.

use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::super::protocol::{Failure, Reply};
use super::super::spec::ExecSpec;
use super::Shim;
use super::launcher::Pipes;

impl Shim {
    /// Starts a process in a running container; it ends with connection `id`.
    pub(super) fn exec(&mut self, id: u64, spec: &ExecSpec) {
        let result = self.try_exec(spec);
        let Some(connection) = self.connections.get_mut(&id) else {
            if let Ok((pid, _)) = result {
                kill_session(pid);
            }
            return;
        };
        match result {
            Ok((pid, fds)) => {
                connection.exec = Some(pid);
                connection.send_with(&Reply::ExecStarted, &fds);
                self.execs.insert(pid, id);
            }
            Err(failure) => connection.send(&Reply::Failed(failure)),
        }
    }

    fn try_exec(&mut self, spec: &ExecSpec) -> Result<(i32, Vec<OwnedFd>), Failure> {
        let running = self.running.iter().find(|((name, _), _)| *name == spec.container).map(|(_, running)| running);
        let Some(running) = running else { return Err(Failure::NotRunning(spec.container.clone())) };
        if spec.args.is_empty() {
            return Err(Failure::Command("there is no command to run: give one after `--`".to_owned()));
        }
        let (mut theirs, mut ours) = (None, Vec::new());
        if !spec.tty {
            let pipes = Pipes::new().map_err(|e| Failure::other("making pipes", &e))?;
            theirs = Some(pipes.theirs);
            if spec.stdin {
                ours.push(pipes.stdin);
            }
            ours.extend([pipes.stdout, pipes.stderr]);
        }
        let helper = self.join(spec, running, theirs).map_err(|e| Failure::other("forking", &e))?;
        let (pid, _, terminal) = helper.report().map_err(Failure::Command)?;
        ours.extend(terminal);
        Ok((pid, ours))
    }
}

/// Kills an exec's process and those in its process group.
pub fn kill_session(pid: i32) {
    let pid = Pid::from_raw(pid);
    let _ = killpg(pid, Signal::SIGKILL);
    let _ = kill(pid, Signal::SIGKILL);
}
