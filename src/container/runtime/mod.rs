//! Sandboxes on this node, as the agent and the API hold them.
//!
//! [`Runtime`] asks the zygote for pod shims and finds those an earlier node process left; [`Sandbox`] talks to one shim, each
//! request on a connection of its own and off the runtime's threads.

mod exec;
mod link;
mod sandbox;
mod watcher;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::cgroup::{self, Hierarchy};
use super::protocol::{self, Failure, Launch, Reply, Request};
use super::shim::record::ShimFile;
use super::spec::SandboxSpec;
use super::{logs, zygote};
use crate::base::{Uid, scope::Scope};
pub use exec::Exec;
use link::Zygote;
pub use sandbox::Sandbox;

/// Sandboxes whose watch waits to be taken up.
const WATCHERS_MAX: usize = 1024;
/// How many pods may be made at once, at most.
const TURNS: usize = 128;
/// How long a shim may take to set itself up.
const SETUP_WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pods cannot run here (not root, no overlayfs, no cgroups …): why, and the cure.
    #[error("{0}")]
    Unsupported(String),
    /// The pod's shim is gone: destroy the sandbox.
    #[error("the sandbox is gone")]
    Gone,
    #[error("container {0} does not run")]
    NotRunning(String),
    /// The command of an exec cannot be run: why, and the cure.
    #[error("{0}")]
    Command(String),
    /// The zygote or the shim could not do it.
    #[error("{0}")]
    Refused(String),
    #[error("{operation}")]
    Io { operation: &'static str, source: io::Error },
    #[error("cgroups of the sandbox")]
    Cgroup(#[from] cgroup::Error),
    /// The node is shutting down.
    #[error("the container runtime has stopped")]
    Stopped,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotRunning(container) => Self::NotRunning(container),
            Failure::Command(message) => Self::Command(message),
            Failure::Other(message) => Self::Refused(message),
        }
    }
}

fn io_error(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, source }
}

/// Runs what may wait on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)?
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `pods/` and `logs/` live here.
    pub data_dir: PathBuf,
    /// Name of this node's cgroup below the root (`entroos/<this>`).
    pub cgroup: String,
    /// The binary to run as `sandbox-init`.
    pub program: PathBuf,
}

/// Cloneable handle to the zygote and the sandboxes.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    hierarchy: Hierarchy,
    zygote: Mutex<Zygote>,
    sandboxes: Sandboxes,
    watchers: mpsc::Sender<watcher::Watcher>,
    /// Whoever makes a pod holds the one its uid picks.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

type Sandboxes = Arc<Mutex<HashMap<Uid, Sandbox>>>;

impl Runtime {
    /// Checks that pods can run here and starts the zygote.
    pub async fn start(mut config: Config, scope: &Scope) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Unsupported(
                "pods cannot run here: the node was not started by root; start it with sudo or as a system service"
                    .to_owned(),
            ));
        }
        config.data_dir = std::path::absolute(&config.data_dir).map_err(io_error("finding the data directory"))?;
        let (hierarchy, zygote, config) = blocking(move || {
            let hierarchy = Hierarchy::detect()?;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(config.data_dir.join("pods"))
                .map_err(io_error("making the pods' directory"))?;
            let zygote = Zygote::spawn(&config)?;
            Ok((hierarchy, zygote, config))
        })
        .await
        .map_err(|error| match error {
            Error::Cgroup(cgroup::Error::Unsupported(why)) => Error::Unsupported(why),
            other => other,
        })?;
        let (watchers, incoming) = mpsc::channel(WATCHERS_MAX);
        scope.spawn("sandboxes", |stop| watcher::run(incoming, stop));
        let sandboxes = Arc::default();
        let (zygote, turns) = (Mutex::new(zygote), std::array::from_fn(|_| tokio::sync::Mutex::default()));
        Ok(Self { inner: Arc::new(Inner { config, hierarchy, zygote, sandboxes, watchers, turns }) })
    }

    /// Finds every sandbox an earlier node process left: alive ones are adopted with their records, dead ones are
    /// returned with their records (`Lost` where the end is not known) for the agent to destroy or start anew.
    pub async fn adopt(&self) -> Result<Vec<Sandbox>, Error> {
        let inner = Arc::clone(&self.inner);
        let found = blocking(move || inner.find_all()).await?;
        let mut sandboxes = Vec::new();
        for (sandbox, connection) in found {
            sandboxes.push(self.inner.keep(sandbox, connection).await?);
        }
        Ok(sandboxes)
    }

    /// Makes the sandbox, or returns the one that is there for this uid.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, Error> {
        // Two that make the same pod would take each other's half-made sandbox for a dead one.
        let _turn = self.inner.turns[usize::from(spec.uid.0[15]) % TURNS].lock().await;
        if let Some(sandbox) = self.get(&spec.uid) {
            return Ok(sandbox);
        }
        let inner = Arc::clone(&self.inner);
        let (sandbox, connection) = blocking(move || inner.create(spec)).await?;
        self.inner.keep(sandbox, connection).await
    }

    pub fn get(&self, uid: &Uid) -> Option<Sandbox> {
        self.inner.sandboxes.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }
}

impl Inner {
    /// Puts a sandbox among the known ones and watches it; one that is known already wins.
    async fn keep(&self, sandbox: Sandbox, connection: Option<UnixStream>) -> Result<Sandbox, Error> {
        {
            let mut known = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(&sandbox.spec().uid) {
                return Ok(known.clone());
            }
            known.insert(sandbox.spec().uid, sandbox.clone());
        }
        if let Some(connection) = connection {
            let watcher = watcher::Watcher { sandbox: sandbox.clone(), connection };
            self.watchers.send(watcher).await.map_err(|_| Error::Stopped)?;
        }
        Ok(sandbox)
    }

    fn pods(&self) -> PathBuf {
        self.config.data_dir.join("pods")
    }

    fn node_group(&self) -> String {
        format!("entroos/{}", self.config.cgroup)
    }

    fn sandbox(&self, spec: SandboxSpec) -> Sandbox {
        let pod_dir = self.pods().join(spec.uid.to_string());
        let cgroup = format!("{}/{}", self.node_group(), spec.uid);
        Sandbox::new(spec, pod_dir, cgroup, self.hierarchy.clone(), &self.sandboxes)
    }

    fn create(&self, spec: SandboxSpec) -> Result<(Sandbox, Option<UnixStream>), Error> {
        let sandbox = self.sandbox(spec.clone());
        let pod_dir = sandbox.pod_dir().to_path_buf();
        if ShimFile::read(&pod_dir).is_ok() {
            return self.find(&pod_dir);
        }
        if pod_dir.exists() && link::lock(&pod_dir).is_some() {
            // A shim that died before it was set up; nothing was started by it.
            sandbox.remove_all()?;
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&pod_dir)
            .map_err(io_error("making the pod's directory"))?;
        let launch = Launch {
            log_dir: logs::pod_dir(&self.config.data_dir, &spec.namespace, &spec.name, &spec.uid),
            pod_dir: pod_dir.clone(),
            cgroup: sandbox.cgroup().to_owned(),
            spec,
        };
        let (ours, theirs) = UnixStream::pair().map_err(io_error("making a socket"))?;
        {
            let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
            zygote.launch(&self.config, &launch, theirs.as_raw_fd())?;
        }
        drop(theirs);
        // The pod's directory is on disk before anything in it counts; the shim sets itself up meanwhile.
        File::open(self.pods()).and_then(|dir| dir.sync_all()).map_err(io_error("syncing the pods' directory"))?;
        match link::reply(&ours, SETUP_WAIT) {
            Ok(Reply::Ready) => Ok((sandbox, Some(ours))),
            Ok(Reply::Busy) => self.find(&pod_dir),
            Ok(Reply::Failed(failure)) => {
                sandbox.remove_all()?;
                Err(failure.into())
            }
            Ok(_) => Err(Error::Refused("the shim answered something else than it was asked".to_owned())),
            Err(error) => {
                sandbox.remove_all()?;
                Err(error)
            }
        }
    }

    /// Everything in `pods/`, and nothing else in our cgroup.
    fn find_all(&self) -> Result<Vec<(Sandbox, Option<UnixStream>)>, Error> {
        let mut found = Vec::new();
        let mut uids = Vec::new();
        for entry in std::fs::read_dir(self.pods()).map_err(io_error("reading the pods' directory"))? {
            let entry = entry.map_err(io_error("reading the pods' directory"))?;
            let Some(uid) = entry.file_name().to_str().and_then(Uid::parse) else { continue };
            if let Ok(sandbox) = self.find(&entry.path()) {
                uids.push(uid.to_string());
                found.push(sandbox);
            } else {
                // Never set up: nobody was told of it, so nobody has to hear of its end.
                let (namespace, name, hostname) = Default::default();
                self.sandbox(SandboxSpec { uid, namespace, name, hostname, host_network: false }).remove_all()?;
            }
        }
        for name in self.hierarchy.children(&self.node_group()) {
            if !uids.contains(&name) {
                self.hierarchy.destroy(&format!("{}/{name}", self.node_group()))?;
            }
        }
        Ok(found)
    }

    /// The sandbox in `pod_dir`: with a connection where its shim lives, settled where it is dead.
    fn find(&self, pod_dir: &Path) -> Result<(Sandbox, Option<UnixStream>), Error> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let file = ShimFile::read(pod_dir);
            if let Ok(file) = &file
                && let Ok(connection) = link::connect(pod_dir)
                && link::is_process(&connection, file)
            {
                let sandbox = self.sandbox(file.spec.clone());
                // Whoever gets the sandbox sees its records at once.
                protocol::send(&connection, &Request::Watch, &[]).map_err(io_error("asking the sandbox"))?;
                if let Reply::Records(records) = link::reply(&connection, SETUP_WAIT)? {
                    sandbox.publish(records);
                }
                return Ok((sandbox, Some(connection)));
            }
            if link::lock(pod_dir).is_some() || Instant::now() > deadline {
                let file = file.map_err(io_error("reading shim.json"))?;
                let sandbox = self.sandbox(file.spec);
                sandbox.settle()?;
                return Ok((sandbox, None));
            }
            // Its shim is being set up, or is dying.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// `entroos sandbox-init`: the zygote's and shims' whole life. Called by `main` before any thread exists.
pub fn sandbox_init() -> std::process::ExitCode {
    zygote::run()
}

/// Reads a frame as a reply, for whoever waits on a socket of ours.
fn decode(body: &[u8]) -> io::Result<Reply> {
    protocol::decode(body)
}
