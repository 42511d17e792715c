//! Short-lived children of the shim that run libcontainer for it.
//!
//! libcontainer changes the working directory, makes its process non-dumpable and leaves descriptors open when it fails; it
//! would find a dozen cgroup controllers anew for each process. So a child does it: it enters the container's cgroup itself
//! (libcontainer's processes inherit that), lets libcontainer make its processes as siblings, so that the shim is their
//! parent, reports, and is gone.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde::{Deserialize, Serialize};

use super::super::protocol::{self, chain};
use super::super::spec::{ContainerSpec, ExecSpec};
use super::super::user::{self, User};
use super::super::{rootfs, sys};
use super::launcher::{Console, FailurePipe};
use super::start::{Attempt, Running};
use super::{Shim, oci};

/// How long the shim waits for a child; meanwhile it does nothing else.
const SET_UP_WAIT: Duration = Duration::from_secs(45);

/// How it went; a terminal's master travels beside it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    Started {
        pid: i32,
        user: User,
    },
    /// The program cannot be run, or what it needs cannot be made: why, in words that lead to the cure.
    Failed(String),
}

/// A child at work.
pub struct Helper(UnixStream);

impl Helper {
    /// Forks; `work` runs in the child alone.
    fn spawn(work: impl FnOnce(&UnixStream) -> Result<(Report, Option<OwnedFd>), String>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(SET_UP_WAIT))?;
        if sys::fork()?.is_some() {
            return Ok(Self(ours));
        }
        drop(ours);
        let (report, terminal) = work(&theirs).unwrap_or_else(|message| (Report::Failed(message), None));
        let fds: Vec<_> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
        let _ = protocol::send(&theirs, &report, &fds);
        sys::exit_now(0)
    }

    /// Lets the program start: its start is on record.
    pub fn go(&self) -> io::Result<()> {
        io::Write::write_all(&mut &self.0, b"g")
    }

    /// Does not let it start, and waits until the child is done.
    pub fn abandon(self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        let _ = self.report();
    }

    /// Waits for the report.
    pub fn report(self) -> Result<(i32, User, Option<OwnedFd>), String> {
        match protocol::receive(&self.0) {
            Ok(Some((Report::Started { pid, user }, mut fds))) => Ok((pid, user, fds.pop())),
            Ok(Some((Report::Failed(message), _))) => Err(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(format!("the container was not set up within {} s", SET_UP_WAIT.as_secs()))
            }
            Ok(None) | Err(_) => Err("the process that sets the container up was killed".to_owned()),
        }
    }
}

fn text(error: &dyn std::error::Error) -> String {
    chain(error)
}

impl Shim {
    /// A child that sets `attempt` up, waits for [`Helper::go`] and starts it. `stdio` is what the program gets where it has
    /// no terminal.
    pub(super) fn set_up(
        &self,
        spec: &ContainerSpec,
        attempt: &Attempt,
        stdio: Option<[OwnedFd; 3]>,
    ) -> io::Result<Helper> {
        Helper::spawn(|shim| {
            let user = self.make_root(spec, attempt)?;
            self.enter_container(spec, attempt)?;
            self.run(shim, attempt, user, stdio)
        })
    }

    fn make_root(&self, spec: &ContainerSpec, attempt: &Attempt) -> Result<User, String> {
        let _ = fs::remove_dir_all(&attempt.writable);
        fs::create_dir_all(&attempt.bundle).map_err(|e| text(&e))?;
        rootfs::mount_overlay(&spec.layers, &attempt.writable, &attempt.bundle.join("l"), &attempt.root)
            .map_err(|e| text(&e))?;
        let root = rootfs::Root::open(&attempt.root).map_err(|e| text(&e))?;
        let user = resolve_user(spec, &root)?;
        let cwd = working_dir(spec);
        if !cwd.starts_with('/') {
            return Err(format!("workingDir \"{cwd}\" is not absolute: let it start with /"));
        }
        root.create_dir_all(cwd).map_err(|e| format!("workingDir \"{cwd}\" cannot be made: {e}"))?;
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
        Ok(user)
    }

    fn enter_container(&self, spec: &ContainerSpec, attempt: &Attempt) -> Result<(), String> {
        let group = &attempt.cgroup;
        self.hierarchy.create_leaf(group).map_err(|e| text(&e))?;
        self.hierarchy.limit(group, &spec.limits).map_err(|e| text(&e))?;
        self.hierarchy.limit_devices(group).map_err(|e| text(&e))?;
        self.hierarchy.enter(group).map_err(|e| text(&e))
    }

    fn run(
        &self,
        mut shim: &UnixStream,
        attempt: &Attempt,
        user: User,
        stdio: Option<[OwnedFd; 3]>,
    ) -> Result<(Report, Option<OwnedFd>), String> {
        let failure = FailurePipe::new().map_err(|e| text(&e))?;
        let (builder, console) = self.builder(attempt, &failure, stdio, user.uid)?;
        let init = builder.as_init(&attempt.bundle).with_systemd(false).with_detach(true).as_sibling(true);
        let mut container = init.build().map_err(|e| text(&e))?;
        let pid = container.pid().ok_or("the container has no first process")?.as_raw();
        let terminal = console.map(Console::master).transpose().map_err(|e| format!("getting the terminal: {e}"))?;
        shim.read_exact(&mut [0]).map_err(|_| "the start could not be recorded".to_owned())?;
        container.start().map_err(|e| text(&e))?;
        match failure.wait() {
            None => Ok((Report::Started { pid, user }, terminal)),
            Some(message) => Err(message),
        }
    }

    /// A child that starts a further process in a running container.
    pub(super) fn join(&self, spec: &ExecSpec, running: &Running, stdio: Option<[OwnedFd; 3]>) -> io::Result<Helper> {
        Helper::spawn(|_| {
            self.hierarchy.enter(&running.attempt.cgroup).map_err(|e| text(&e))?;
            let (user, bundle) = (&running.user, &running.attempt.bundle);
            let env = oci::environment(&running.spec.env, user, &self.launch.spec.hostname, spec.tty);
            let process =
                oci::process(&spec.args, &env, working_dir(&running.spec), user, spec.tty).map_err(|e| text(&e))?;
            let process_file = bundle.join("process.json");
            fs::write(&process_file, serde_json::to_vec(&process).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
            let failure = FailurePipe::new().map_err(|e| text(&e))?;
            let (builder, console) = self.builder(&running.attempt, &failure, stdio, user.uid)?;
            let tenant = builder
                .as_tenant()
                .with_detach(true)
                .as_sibling(true)
                .with_process(Some(process_file))
                .with_container_args(spec.args.clone());
            let built = tenant.build();
            if let Some(message) = failure.wait() {
                return Err(message);
            }
            let pid = built.map_err(|e| text(&e))?.as_raw();
            let terminal =
                console.map(Console::master).transpose().map_err(|e| format!("getting the terminal: {e}"))?;
            if let (Some(terminal), Some((columns, rows))) = (&terminal, spec.size) {
                let _ = sys::set_window_size(terminal.as_fd(), columns, rows);
            }
            Ok((Report::Started { pid, user: user.clone() }, terminal))
        })
    }

    /// What first processes and those that join have in common; without `stdio` they get a terminal.
    fn builder(
        &self,
        attempt: &Attempt,
        failure: &FailurePipe,
        stdio: Option<[OwnedFd; 3]>,
        uid: u32,
    ) -> Result<(ContainerBuilder, Option<Console>), String> {
        let state = self.run.join("state");
        fs::create_dir_all(&state).map_err(|e| text(&e))?;
        let builder = ContainerBuilder::new(attempt.id.clone(), SyscallType::default());
        let builder =
            builder.with_root_path(state).map_err(|e| text(&e))?.with_executor(failure.launcher(&self.filter));
        let Some(stdio) = stdio else {
            let console = Console::new(&attempt.bundle).map_err(|e| text(&e))?;
            return Ok((builder.with_console_socket(Some(console.path.clone())), Some(console)));
        };
        for fd in &stdio {
            // The program's ways belong to its user, so that it may open `/dev/stdout` again.
            nix::unistd::fchown(fd.as_raw_fd(), Some(nix::unistd::Uid::from_raw(uid)), None).map_err(|e| text(&e))?;
        }
        let [input, output, errors] = stdio;
        Ok((builder.with_stdin(input).with_stdout(output).with_stderr(errors), None))
    }
}

fn working_dir(spec: &ContainerSpec) -> &str {
    if spec.cwd.is_empty() { "/" } else { &spec.cwd }
}

/// The user a container's process runs as, from the container's own files.
fn resolve_user(spec: &ContainerSpec, root: &rootfs::Root) -> Result<User, String> {
    let user = user::resolve(&spec.user, spec.run_as_group, &root.read("/etc/passwd"), &root.read("/etc/group"))?;
    if spec.run_as_non_root && user.uid == 0 {
        return Err(
            "runAsNonRoot is set and the container would run as root: set securityContext.runAsUser to a number \
                    other than 0, or use an image with another USER"
                .to_owned(),
        );
    }
    Ok(user)
}

/// Where an attempt's files are.
pub fn attempt_places(run: &Path, pod_dir: &Path, group: &str, name: &str, number: u32) -> Attempt {
    let id = format!("{name}-{number}");
    let bundle = run.join("c").join(&id);
    Attempt {
        root: bundle.join("root"),
        writable: pod_dir.join(super::CONTAINERS).join(name).join(format!("{number}.root")),
        cgroup: format!("{group}/{id}"),
        bundle,
        id,
    }
}
