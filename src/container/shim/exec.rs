//! Processes: the last steps before a container's program runs, and further processes in a running container.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::super::protocol::{self, Failure, Reply, chain};
use super::super::spec::ExecSpec;
use super::super::{rootfs, sys, user};
use super::{Shim, oci};

const CAP_SYS_ADMIN: u32 = 21;

/// Runs in the container's first process (or one that joins it), after libcontainer has set everything else up.
///
/// It loads the seccomp filter (libcontainer would leave processes that join without any), gives up the capability that
/// took, restores signals, and executes. What goes wrong is told on a pipe of its own, which closes when the program starts:
/// so a failed start is never taken for the program's exit code.
#[derive(Clone)]
struct Launcher {
    filter: Rc<[u8]>,
    failure: RawFd,
}

impl Launcher {
    fn launch(&self, spec: &Spec) -> Result<(), String> {
        let process = spec.process().as_ref().ok_or("no process")?;
        let args = process.args().as_deref().unwrap_or_default();
        let env = process.env().as_deref().unwrap_or_default();
        let c_string =
            |text: &String| CString::new(text.as_bytes()).map_err(|_| format!("\"{text:?}\" holds a zero byte"));
        let arguments = args.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
        let environment = env.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
        let name = args.first().ok_or("there is no command to run: set `command` or use an image that has one")?;
        sys::reset_signals().map_err(|e| format!("signals cannot be reset: {e}"))?;
        sys::load_seccomp(&self.filter).map_err(|e| format!("the seccomp filter cannot be loaded: {e}"))?;
        sys::drop_capability(CAP_SYS_ADMIN, process.user().uid() != 0)
            .map_err(|e| format!("CAP_SYS_ADMIN cannot be given up: {e}"))?;
        let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(oci::DEFAULT_PATH);
        Err(execute(name, path, &arguments, &environment))
    }
}

impl Executor for Launcher {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Err(message) = self.launch(spec) else { return Ok(()) };
        // Nobody else owns this number in this process; it ends right after.
        let mut pipe = std::fs::File::from(sys::inherited_fd(self.failure));
        let _ = io::Write::write_all(&mut pipe, message.as_bytes());
        Err(ExecutorError::Other(message))
    }

    /// libcontainer's own check refuses programs that only root may run.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment is given to `execve` in the order it was specified.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Looks `name` up in `path` and executes it; comes back only with the reason why not.
fn execute(name: &str, path: &str, arguments: &[CString], environment: &[CString]) -> String {
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.to_owned()]
    } else {
        path.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir })).collect()
    };
    let mut denied = None;
    for candidate in &candidates {
        let Ok(program) = CString::new(candidate.as_bytes()) else { continue };
        match nix::unistd::execve(&program, arguments, environment) {
            Err(Errno::ENOENT | Errno::ENOTDIR) if Path::new(candidate).exists() => {
                return format!(
                    "cannot run \"{candidate}\": the interpreter or loader it asks for is not in the image: use an image that \
                     has it, or a statically linked program"
                );
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => denied = Some(candidate),
            Err(Errno::ENOEXEC) => {
                return format!(
                    "cannot run \"{candidate}\": it is not a program for this machine ({}): use an image built for this \
                     architecture, and start scripts with `#!`",
                    std::env::consts::ARCH
                );
            }
            Err(errno) => return format!("cannot run \"{candidate}\": {errno}"),
            Ok(_) => return String::new(),
        }
    }
    match denied {
        Some(candidate) => format!(
            "cannot run \"{candidate}\": permission denied for this user: make it executable in the image, or set \
             securityContext.runAsUser"
        ),
        None if name.contains('/') => {
            format!("command \"{name}\" not found in the image: check `command`, `args` and the image")
        }
        None => format!(
            "command \"{name}\" not found in $PATH ({path}) of the image: check `command`, `args` and the image"
        ),
    }
}

/// The pipe a [`Launcher`] complains on.
pub struct FailurePipe {
    read: OwnedFd,
    write: Option<OwnedFd>,
}

impl FailurePipe {
    pub fn new() -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        Ok(Self { read, write: Some(write) })
    }

    pub fn launcher(&self, filter: &Rc<[u8]>) -> impl Executor + 'static {
        Launcher { filter: Rc::clone(filter), failure: self.write.as_ref().map_or(-1, AsRawFd::as_raw_fd) }
    }

    /// Waits until the program runs (`None`) or says why it does not.
    pub fn wait(mut self) -> Option<String> {
        self.write = None;
        let mut text = String::new();
        let _ = std::fs::File::from(self.read).take(16 * 1024).read_to_string(&mut text);
        (!text.is_empty()).then_some(text)
    }
}

/// The three ways of a process without a terminal: ends for it and for us.
pub struct Pipes {
    pub theirs: [OwnedFd; 3],
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Pipes {
    /// They belong to `uid`, so that a program may open `/dev/stdout` again.
    pub fn new(uid: u32) -> io::Result<Self> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let ((their_in, stdin), (stdout, their_out), (stderr, their_err)) = (pipe()?, pipe()?, pipe()?);
        for fd in [&their_in, &their_out, &their_err] {
            nix::unistd::fchown(fd.as_raw_fd(), Some(nix::unistd::Uid::from_raw(uid)), None)?;
        }
        Ok(Self { theirs: [their_in, their_out, their_err], stdin, stdout, stderr })
    }
}

/// Where libcontainer sends a terminal's master.
pub struct Console {
    listener: UnixListener,
    pub path: std::path::PathBuf,
}

impl Console {
    pub fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join("console.sock");
        let _ = std::fs::remove_file(&path);
        let dir = std::fs::File::open(dir)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/console.sock", dir.as_raw_fd()))?;
        Ok(Self { listener, path })
    }

    /// The master; the process that sent it has been started already.
    pub fn master(self) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept()?;
        let _ = std::fs::remove_file(&self.path);
        stream.set_nonblocking(false)?;
        let (_, mut fds) = protocol::receive_some(&stream, &mut [0; 64])?;
        fds.pop().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no terminal came"))
    }
}

/// Closes what a failed call of libcontainer left open.
pub fn without_leaks<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let before = open_fds();
    let result = call();
    if result.is_err() {
        for fd in open_fds().difference(&before) {
            sys::close_leaked(*fd);
        }
    }
    result
}

fn open_fds() -> std::collections::BTreeSet<RawFd> {
    let names: Vec<_> = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().collect();
    let numbers = names.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The directory itself was open while it was read; it is closed by now.
    numbers.filter(|&fd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok()).collect()
}

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
        let failed = |operation: &'static str| move |e: &dyn std::error::Error| Failure::other(operation, e);
        let bundle = running.bundle.clone();
        let env = oci::environment(&running.spec.env, &running.user, &self.launch.spec.hostname, spec.tty);
        let cwd = if running.spec.cwd.is_empty() { "/" } else { &running.spec.cwd };
        let process = oci::process(&spec.args, &env, cwd, &running.user, spec.tty)
            .map_err(|e| failed("describing the process")(&e))?;
        let process_file = bundle.join("process.json");
        let json = serde_json::to_vec(&process).map_err(|e| failed("describing the process")(&e))?;
        std::fs::write(&process_file, json).map_err(|e| failed("describing the process")(&e))?;

        let failure = FailurePipe::new().map_err(|e| failed("making pipes")(&e))?;
        let mut builder = ContainerBuilder::new(running.id.clone(), SyscallType::default())
            .with_root_path(self.run.join("state"))
            .map_err(|e| failed("finding the container")(&e))?
            .with_executor(failure.launcher(&self.filter));
        let (mut console, mut ours) = (None, Vec::new());
        if spec.tty {
            let new = Console::new(&bundle).map_err(|e| failed("making a terminal")(&e))?;
            builder = builder.with_console_socket(Some(new.path.clone()));
            console = Some(new);
        } else {
            let pipes = Pipes::new(running.user.uid).map_err(|e| failed("making pipes")(&e))?;
            let [stdin, stdout, stderr] = pipes.theirs;
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
            if spec.stdin {
                ours.push(pipes.stdin);
            }
            ours.extend([pipes.stdout, pipes.stderr]);
        }
        let tenant = builder
            .as_tenant()
            .with_detach(true)
            .with_process(Some(process_file))
            .with_container_args(spec.args.clone());
        let built = without_leaks(|| tenant.build());
        if let Some(message) = failure.wait() {
            return Err(Failure::Command(message));
        }
        let pid = built.map_err(|e| Failure::Other(format!("starting the process: {}", chain(&e))))?.as_raw();
        if let Some(console) = console {
            let master =
                console.master().map_err(|e| failed("getting the terminal")(&e)).inspect_err(|_| kill_session(pid))?;
            if let Some((columns, rows)) = spec.size {
                let _ = sys::set_window_size(master.as_fd(), columns, rows);
            }
            ours.push(master);
        }
        Ok((pid, ours))
    }
}

/// Kills an exec's process and those in its process group.
pub fn kill_session(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::killpg(pid, Signal::SIGKILL);
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
}

/// Takes a container's root away once it is not needed.
pub fn remove_root(target: &Path) {
    rootfs::unmount(target);
}

/// The user a container's process runs as, from the container's own files.
pub fn resolve_user(spec: &super::super::spec::ContainerSpec, root: &rootfs::Root) -> Result<user::User, String> {
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
