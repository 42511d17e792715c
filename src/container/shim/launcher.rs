//! The last steps before a program runs in a container, and the pipes and terminals it is given.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;

use super::super::{protocol, sys};
use super::oci;

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
    pub fn new() -> io::Result<Self> {
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let ((their_in, stdin), (stdout, their_out), (stderr, their_err)) = (pipe()?, pipe()?, pipe()?);
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
