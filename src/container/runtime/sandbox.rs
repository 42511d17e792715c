//! One pod's sandbox, seen from the node.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::super::cgroup::Hierarchy;
use super::super::protocol::{Reply, Request};
use super::super::shim::{CONTAINERS, record};
use super::super::spec::{ContainerRecord, ContainerSpec, ExecSpec, SandboxSpec};
use super::{Error, Exec, Sandboxes, blocking, io_error, link};

/// How long a shim may take to answer.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
/// How long a shim that was killed may hold its lock.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// Cloneable handle to one pod's sandbox.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    spec: SandboxSpec,
    pod_dir: PathBuf,
    cgroup: String,
    hierarchy: Hierarchy,
    alive: AtomicBool,
    destroying: AtomicBool,
    records: watch::Sender<Arc<Vec<ContainerRecord>>>,
    known: Weak<<Sandboxes as std::ops::Deref>::Target>,
}

impl Sandbox {
    pub(super) fn new(
        spec: SandboxSpec,
        pod_dir: PathBuf,
        cgroup: String,
        hierarchy: Hierarchy,
        known: &Sandboxes,
    ) -> Self {
        let inner = Inner {
            spec,
            pod_dir,
            cgroup,
            hierarchy,
            alive: AtomicBool::new(true),
            destroying: AtomicBool::new(false),
            records: watch::Sender::new(Arc::default()),
            known: Arc::downgrade(known),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn spec(&self) -> &SandboxSpec {
        &self.inner.spec
    }

    /// False once its shim is gone: `destroy` it.
    pub fn alive(&self) -> bool {
        self.inner.alive.load(Ordering::Acquire)
    }

    /// Newest records; wakes at every start and exit and when the shim dies.
    pub fn records(&self) -> watch::Receiver<Arc<Vec<ContainerRecord>>> {
        self.inner.records.subscribe()
    }

    /// Starts an attempt once: asked again for an attempt it knows, it returns that record.
    pub async fn start(&self, spec: ContainerSpec) -> Result<ContainerRecord, Error> {
        match self.ask(Request::Start(Box::new(spec))).await? {
            Reply::Record(record) => Ok(record),
            _ => Err(unexpected()),
        }
    }

    /// Sends a signal to the container's first process.
    pub async fn signal(&self, container: &str, attempt: u32, signal: i32) -> Result<(), Error> {
        let container = container.to_owned();
        self.ask(Request::Signal { container, attempt, signal }).await.map(drop)
    }

    /// Kills every process of the container.
    pub async fn kill(&self, container: &str, attempt: u32) -> Result<(), Error> {
        let container = container.to_owned();
        self.ask(Request::Kill { container, attempt }).await.map(drop)
    }

    /// Starts a further process in a running container.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec, Error> {
        let dir = self.inner.pod_dir.clone();
        let request = spec.clone();
        let (socket, reply, fds) = blocking(move || link::ask(&dir, &Request::Exec(request), ANSWER_WAIT)).await?;
        match reply {
            Reply::ExecStarted => Exec::new(&spec, socket, fds),
            _ => Err(unexpected()),
        }
    }

    /// Kills whatever runs; removes processes, mounts, cgroups, namespaces and the sandbox's directory (not the logs).
    pub async fn destroy(&self) -> Result<(), Error> {
        let sandbox = self.clone();
        blocking(move || sandbox.remove_all()).await?;
        if let Some(known) = self.inner.known.upgrade() {
            known.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.inner.spec.uid);
        }
        Ok(())
    }

    async fn ask(&self, request: Request) -> Result<Reply, Error> {
        let dir = self.inner.pod_dir.clone();
        blocking(move || link::ask(&dir, &request, ANSWER_WAIT)).await.map(|(_, reply, _)| reply)
    }

    pub(super) fn pod_dir(&self) -> &Path {
        &self.inner.pod_dir
    }

    pub(super) fn cgroup(&self) -> &str {
        &self.inner.cgroup
    }

    /// Whether somebody is taking it away.
    pub(super) fn is_leaving(&self) -> bool {
        self.inner.destroying.load(Ordering::Acquire)
    }

    /// A new connection to a shim that still lives.
    pub(super) fn reconnect(&self) -> Option<UnixStream> {
        link::connect(&self.inner.pod_dir).ok()
    }

    /// All records anew.
    pub(super) fn publish(&self, records: Vec<ContainerRecord>) {
        self.inner.records.send_replace(Arc::new(records));
    }

    /// One record changed.
    pub(super) fn update(&self, record: ContainerRecord) {
        self.inner.records.send_modify(|records| {
            let records = Arc::make_mut(records);
            match records.iter_mut().find(|r| r.name == record.name && r.attempt == record.attempt) {
                Some(known) => *known = record,
                None => records.push(record),
            }
            forget_old(records);
        });
    }

    /// For a sandbox whose shim is gone: kills what it left, writes down what is lost, and tells. May wait.
    pub(super) fn settle(&self) -> Result<(), Error> {
        self.inner.hierarchy.destroy(&self.inner.cgroup)?;
        let records = record::settle(&self.inner.pod_dir.join(CONTAINERS)).map_err(io_error("settling the records"))?;
        self.bury(records);
        Ok(())
    }

    /// The shim is gone and this is all that is known.
    pub(super) fn bury(&self, records: Vec<ContainerRecord>) {
        self.inner.alive.store(false, Ordering::Release);
        self.publish(records);
    }

    pub(super) fn last_records(&self) -> Vec<ContainerRecord> {
        self.inner.records.borrow().to_vec()
    }

    /// Kills and removes everything; whatever state it was in, and however often it is called. May wait.
    pub(super) fn remove_all(&self) -> Result<(), Error> {
        self.inner.destroying.store(true, Ordering::Release);
        let deadline = Instant::now() + LOCK_WAIT;
        let _lock = loop {
            // Mounts and namespaces go with the last process that is in them.
            self.inner.hierarchy.destroy(&self.inner.cgroup)?;
            if !self.inner.pod_dir.exists() {
                break None;
            }
            // A shim that had not entered its cgroup yet shows by its lock.
            if let Some(lock) = link::lock(&self.inner.pod_dir) {
                break Some(lock);
            }
            if Instant::now() > deadline {
                return Err(Error::Refused("the pod's shim still holds its lock after it was killed".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // A shim that came late now finds the lock taken, then the directory gone; what it made of its cgroup goes too.
        match std::fs::remove_dir_all(&self.inner.pod_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("removing the pod's directory")(error));
            }
            _ => {}
        }
        self.bury(self.last_records());
        Ok(())
    }
}

/// As many attempts as the shim remembers.
fn forget_old(records: &mut Vec<ContainerRecord>) {
    let Some(name) = records.last().map(|r| r.name.clone()) else { return };
    let mut attempts: Vec<u32> = records.iter().filter(|r| r.name == name).map(|r| r.attempt).collect();
    attempts.sort_unstable();
    if let Some(surplus) = attempts.len().checked_sub(record::ATTEMPTS_KEPT)
        && surplus > 0
    {
        let oldest = attempts[surplus];
        records.retain(|r| r.name != name || r.attempt >= oldest);
    }
}

fn unexpected() -> Error {
    Error::Refused("the shim answered something else than it was asked".to_owned())
}
