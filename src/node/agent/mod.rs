//! The agent: makes this node match its assignments.
//!
//! `plan` (pure) says which pods need a worker; each worker is an idempotent reconciler that rereads the newest snapshot
//! on every wake. A wake carries no data, so nothing is lost when the node restarts: what was committed and what the
//! shims recorded is all there is to know.

pub mod env;
pub mod history;
mod local;
pub mod plan;
pub mod process;
mod start;
pub mod status;
mod submit;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::history::Backoff;
use self::plan::Action;
use self::process::Bounds;
use self::worker::Worker;
use crate::base::scope::Scope;
use crate::base::seal::SealKey;
use crate::base::{NodeId, Uid};
use crate::container::image::Images;
use crate::container::runtime::Runtime;
use crate::orchestrator::client::Client;
use crate::orchestrator::object::{Capacity, Policy};
use crate::orchestrator::{Key, Kind, State};

/// How pods are run here.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Enforced whatever the ledger says.
    pub policy: Policy,
    pub bounds: Bounds,
    pub backoff: Backoff,
    /// Sandboxes and containers started at once.
    pub starts_parallel: usize,
    pub pulls_parallel: usize,
    /// Most workers; pods beyond it wait.
    pub workers_max: usize,
}

/// What the agent stands on.
pub struct Agent {
    pub client: Client,
    pub images: Images,
    /// Why pods cannot run here, where they cannot.
    pub runtime: Result<Runtime, String>,
    pub seal: SealKey,
    pub node: NodeId,
    pub node_name: String,
    pub address: String,
    pub allocatable: Capacity,
    pub data_dir: PathBuf,
    pub config: Config,
}

/// What all workers share.
struct Context {
    agent: Agent,
    starts: Semaphore,
    ends: Semaphore,
    pulls: Arc<Semaphore>,
}

/// Adopts what runs here and starts the agent.
pub fn spawn(agent: Agent, scope: &Scope) {
    let context = Arc::new(Context {
        starts: Semaphore::new(agent.config.starts_parallel),
        ends: Semaphore::new(agent.config.starts_parallel),
        pulls: Arc::new(Semaphore::new(agent.config.pulls_parallel)),
        agent,
    });
    scope.spawn("agent", |stop| async move {
        let mut workers = Workers::new(context, stop);
        if let Err(problem) = workers.adopt().await {
            tracing::error!("the pods that ran here cannot be adopted: {problem}");
            return;
        }
        workers.run().await;
    });
}

/// The workers there are, one a pod.
struct Workers {
    context: Arc<Context>,
    stop: CancellationToken,
    active: BTreeMap<Uid, Active>,
    tasks: JoinSet<Uid>,
    /// Sandboxes that may be here without a worker, and what their pods were called.
    sandboxes: BTreeMap<Uid, Key>,
    revision: Option<u64>,
    full: bool,
}

struct Active {
    task: Id,
    wake: Arc<Notify>,
    /// The worker waits for an object that its pod refers to, so any change may concern it.
    wants_all: Arc<AtomicBool>,
    /// Of the pod, when the worker was last woken.
    revision: u64,
    key: Key,
}

impl Workers {
    fn new(context: Arc<Context>, stop: CancellationToken) -> Self {
        Self {
            context,
            stop,
            active: BTreeMap::new(),
            tasks: JoinSet::new(),
            sandboxes: BTreeMap::new(),
            revision: None,
            full: false,
        }
    }

    /// Finds what an earlier process of this node left running, and the logs of pods that are gone.
    async fn adopt(&mut self) -> Result<(), String> {
        if let Ok(runtime) = &self.context.agent.runtime {
            let found = runtime.adopt().await.map_err(|e| chain(&e))?;
            if !found.is_empty() {
                tracing::info!(count = found.len(), "adopted the sandboxes that were here");
            }
            for sandbox in found {
                let spec = sandbox.spec();
                let key = Key { kind: Kind::Pod, namespace: spec.namespace.clone(), name: spec.name.clone() };
                self.sandboxes.insert(spec.uid, key);
            }
        }
        let snapshot = self.context.agent.client.snapshot();
        let mut known: BTreeSet<Uid> = snapshot.state.list(Kind::Pod, None).map(|o| o.meta.uid).collect();
        known.extend(self.sandboxes.keys());
        let data_dir = self.context.agent.data_dir.clone();
        let swept = tokio::task::spawn_blocking(move || local::sweep_logs(&data_dir, &known)).await;
        if let Ok(Err(e)) = swept {
            tracing::warn!("logs of pods that are gone cannot be removed: {e}");
        }
        Ok(())
    }

    async fn run(&mut self) {
        let mut snapshots = self.context.agent.client.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            self.reconcile(&snapshot.state);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                changed = snapshots.changed() => if changed.is_err() { break },
            }
        }
        // Workers see the token and leave their containers running.
        let gone = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_millis(700), gone).await.is_err() {
            tracing::warn!("some pods' workers did not stop in time and are cut short; their containers run on");
            self.tasks.abort_all();
        }
    }

    /// Wakes the workers whose pods changed and starts those that are missing.
    fn reconcile(&mut self, state: &State) {
        let revision = Some(state.revision());
        if self.revision == revision {
            return;
        }
        self.revision = revision;
        let mut assigned = BTreeMap::new();
        let mut revisions = BTreeMap::new();
        for object in state.list(Kind::Pod, None) {
            if let Some((uid, pod)) = plan::assigned(object, &self.context.agent.node_name) {
                revisions.insert(uid, object.meta.revision);
                assigned.insert(uid, pod);
            }
        }
        for (uid, active) in &mut self.active {
            // 0 is nobody's revision: the pod is gone.
            let now = revisions.get(uid).copied().unwrap_or(0);
            if now != active.revision || active.wants_all.load(Ordering::SeqCst) {
                active.revision = now;
                active.wake.notify_one();
            }
        }
        let mut here: BTreeSet<Uid> = self.sandboxes.keys().copied().collect();
        here.extend(self.active.keys());
        for (uid, action) in plan::plan(&assigned, &here) {
            if self.active.contains_key(&uid) {
                continue;
            }
            let key = match action {
                Action::Run(key) | Action::End(key) | Action::Retire(key) => key,
                Action::Discard => match self.sandboxes.get(&uid) {
                    Some(key) => key.clone(),
                    None => continue,
                },
            };
            self.start(uid, key, revisions.get(&uid).copied().unwrap_or(0), Duration::ZERO);
        }
    }

    fn start(&mut self, uid: Uid, key: Key, revision: u64, delay: Duration) {
        if self.active.len() >= self.context.agent.config.workers_max {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(max = self.active.len(), "no more pods than this at once; further ones wait");
            }
            return;
        }
        let wake = Arc::new(Notify::new());
        let wants_all = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(self.context.clone(), key.clone(), uid, wake.clone(), wants_all.clone());
        let stop = self.stop.clone();
        let task = self.tasks.spawn(async move {
            if !delay.is_zero() {
                tokio::select! { () = stop.cancelled() => return uid, () = tokio::time::sleep(delay) => {} }
            }
            worker.run(stop).await;
            uid
        });
        self.active.insert(uid, Active { task: task.id(), wake, wants_all, revision, key });
    }

    fn ended(&mut self, ended: Result<(Id, Uid), JoinError>) {
        self.full = false;
        // Whoever is left over by the snapshot that is known already is looked at again.
        self.revision = None;
        match ended {
            Ok((_, uid)) => {
                self.active.remove(&uid);
                self.sandboxes.remove(&uid);
            }
            Err(error) => {
                let Some(uid) = self.active.iter().find(|(_, a)| a.task == error.id()).map(|(uid, _)| *uid) else {
                    return;
                };
                let Some(active) = self.active.remove(&uid) else { return };
                tracing::error!(pod = %active.key.name, "a pod's worker failed and is started again: {error}");
                self.sandboxes.insert(uid, active.key.clone());
                self.start(uid, active.key, 0, Duration::from_secs(5));
            }
        }
    }
}

/// Most characters of a message that goes into a status.
const MESSAGE_MAX: usize = 1_000;

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let next = e.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = e.source();
    }
    cut(text)
}

/// The text, with its end left out where it is too long for a status.
fn cut(text: String) -> String {
    match text.char_indices().nth(MESSAGE_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
