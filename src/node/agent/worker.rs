//! One pod's worker: rereads everything on each wake and does what is missing.
//!
//! Invariant: the end of an attempt is committed before its sandbox is destroyed, so no exit is lost and no attempt
//! number comes twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::history::{History, Step, next_step, restarts};
use super::local::{Local, remove_dir};
use super::start::Pulled;
use super::status::{self, Seen, Waiting};
use super::submit::Trouble;
use super::{Context, chain, plan, process};
use crate::base::{Uid, UnixMillis};
use crate::container::image::normalise;
use crate::container::logs;
use crate::container::runtime::Sandbox;
use crate::container::spec::{ContainerRecord, ContainerState};
use crate::orchestrator::object::ContainerState::Terminated;
use crate::orchestrator::object::{Body, Container, ContainerStatus, Deletion, Note, Phase, Pod, PodStatus};
use crate::orchestrator::{Command, Key, Object};

/// What a look at the pod came to.
enum Next {
    /// Nothing is left to do, ever.
    Done,
    Again,
    /// Until then, or until something changes.
    Wait(Option<UnixMillis>),
}

pub(super) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    pub(super) uid: Uid,
    wake: Arc<Notify>,
    pub(super) wants_all: Arc<AtomicBool>,
    pub(super) sandbox: Option<Sandbox>,
    records: Option<watch::Receiver<Arc<Vec<ContainerRecord>>>>,
    pub(super) locals: BTreeMap<String, Local>,
    /// To go with the next report.
    notes: Vec<Note>,
    /// The pod as the last acknowledgement had it.
    told: Option<Arc<Object>>,
    pub(super) pulls: JoinSet<Pulled>,
    troubles: u32,
}

/// Notes of one report; more than a pod ever needs.
const NOTES_MAX: usize = 64;
/// Looks in a row without a pause; more would be a fault that turns in circles.
const AGAIN_MAX: u32 = 32;

impl Worker {
    pub(super) fn new(
        context: Arc<Context>,
        key: Key,
        uid: Uid,
        wake: Arc<Notify>,
        wants_all: Arc<AtomicBool>,
    ) -> Self {
        Self {
            context,
            key,
            uid,
            wake,
            wants_all,
            sandbox: None,
            records: None,
            locals: BTreeMap::new(),
            notes: Vec::new(),
            told: None,
            pulls: JoinSet::new(),
            troubles: 0,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut again = 0;
        loop {
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            let until = match looked {
                Ok(Next::Done) => return,
                Ok(Next::Again) if again < AGAIN_MAX => {
                    again += 1;
                    continue;
                }
                Ok(Next::Again) => Some(UnixMillis::now().plus(1_000)),
                Ok(Next::Wait(until)) => {
                    self.troubles = 0;
                    until
                }
                Err(trouble) => Some(self.after(&trouble)),
            };
            again = 0;
            let timer = async {
                match until {
                    // A clock that jumps must not make it sleep for long.
                    Some(at) => tokio::time::sleep(until_then(at).min(Duration::from_mins(1))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = changed(&mut self.records) => {}
                Some(ended) = self.pulls.join_next() => match ended {
                    Ok(pulled) => self.pulled(pulled),
                    Err(_) => self.pull_lost(),
                },
                () = timer => {}
            }
        }
    }

    /// When to look again after trouble: from a tenth of a second to half a minute.
    fn after(&mut self, trouble: &Trouble) -> UnixMillis {
        let wait = 100u64.saturating_mul(1 << self.troubles.min(9)).min(30_000);
        self.troubles = self.troubles.saturating_add(1);
        if !matches!(trouble, Trouble::Gone) {
            let (namespace, name) = (&self.key.namespace, &self.key.name);
            tracing::warn!(namespace, pod = name, retry_ms = wait, "{}", chain(trouble));
        }
        UnixMillis::now().plus(wait)
    }

    async fn look(&mut self) -> Result<Next, Trouble> {
        self.wants_all.store(false, Ordering::SeqCst);
        self.find_sandbox();
        let Some(object) = self.newest() else { return self.discard().await };
        let Body::Pod(pod) = &object.body else { return Ok(Next::Done) };
        if let Some(deletion) = object.meta.deleted {
            return self.end(pod, deletion).await;
        }
        if matches!(pod.status.phase, Phase::Succeeded | Phase::Failed) {
            self.destroy().await?;
            return Ok(Next::Done);
        }
        self.keep_running(&object, pod).await
    }

    /// The pod as it is now; `None` where it is gone, has a namesake, or is another node's.
    fn newest(&self) -> Option<Arc<Object>> {
        let agent = &self.context.agent;
        let snapshot = agent.client.snapshot();
        let object = snapshot.state.get(&self.key).filter(|o| o.meta.uid == self.uid)?;
        let Body::Pod(pod) = &object.body else { return None };
        if !plan::placed_on(pod, &agent.node_name) {
            return None;
        }
        // What was acknowledged may be ahead of the snapshot.
        let told = self.told.as_ref().filter(|t| t.meta.revision > object.meta.revision);
        Some(told.unwrap_or(object).clone())
    }

    fn find_sandbox(&mut self) {
        if self.sandbox.is_none()
            && let Ok(runtime) = &self.context.agent.runtime
            && let Some(sandbox) = runtime.get(&self.uid)
        {
            self.hold(sandbox);
        }
    }

    pub(super) fn hold(&mut self, sandbox: Sandbox) {
        self.records = Some(sandbox.records());
        self.sandbox = Some(sandbox);
    }

    /// The shim's records; what ran under a dead shim is lost.
    fn records(&mut self) -> Vec<ContainerRecord> {
        let Some(sandbox) = &self.sandbox else { return Vec::new() };
        let alive = sandbox.alive();
        let records = match &mut self.records {
            Some(records) => records.borrow_and_update().clone(),
            None => sandbox.records().borrow().clone(),
        };
        let mut records = Arc::unwrap_or_clone(records);
        if !alive {
            for record in &mut records {
                if let ContainerState::Running { started, .. } = record.state {
                    record.state = ContainerState::Lost { started, at: UnixMillis::now() };
                }
            }
        }
        records
    }

    async fn keep_running(&mut self, object: &Arc<Object>, pod: &Pod) -> Result<Next, Trouble> {
        if let Some(message) = self.refusal(pod) {
            self.note(true, "Forbidden", &message);
            let address = &self.context.agent.address;
            let status = status::without_containers(Phase::Failed, "Forbidden", &message, &pod.status, address);
            self.report(&pod.status, status).await?;
            return Ok(Next::Again);
        }
        if let Err(problem) = &self.context.agent.runtime {
            let message = problem.clone();
            let address = &self.context.agent.address;
            let status =
                status::without_containers(Phase::Pending, "NodeCannotRunPods", &message, &pod.status, address);
            if status != pod.status {
                self.note(true, "NodeCannotRunPods", &message);
            }
            self.report(&pod.status, status).await?;
            return Ok(Next::Wait(None));
        }
        if self.sandbox.as_ref().is_some_and(|s| !s.alive()) {
            return self.replace_sandbox(pod).await;
        }
        let mut wait: Option<UnixMillis> = None;
        let mut waiting = Vec::with_capacity(pod.spec.containers.len());
        for container in &pod.spec.containers {
            let step = self.step(pod, container);
            let (why, until) = match step {
                Step::Keep | Step::Done => (None, None),
                Step::Wait { until } => (Some(self.crashed(pod, container, until)), Some(until)),
                Step::Start { attempt } => match self.start(object, pod, container, attempt).await {
                    Ok(()) => (None, None),
                    Err(stuck) => (Some(stuck.waiting), stuck.until),
                },
            };
            wait = [wait, until].into_iter().flatten().min();
            waiting.push(why);
        }
        let status = self.status(pod, waiting);
        let policy = pod.spec.restart_policy;
        let restart = |c: &ContainerStatus| matches!(&c.state, Terminated(end) if restarts(policy, end));
        if status.containers.iter().any(restart) {
            // It ended while others were started: the policy decides before anything is told.
            return Ok(Next::Again);
        }
        let finished = matches!(status.phase, Phase::Succeeded | Phase::Failed);
        self.report(&pod.status, status).await?;
        Ok(if finished { Next::Again } else { Next::Wait(wait) })
    }

    /// Why this node's owner does not let the pod run, whatever the ledger says.
    fn refusal(&self, pod: &Pod) -> Option<String> {
        (pod.spec.host_network && !self.context.agent.config.policy.host_network).then(|| {
            "hostNetwork is not allowed on this node: its owner set policy.host_network = \"none\" in node.toml"
                .to_owned()
        })
    }

    fn step(&mut self, pod: &Pod, container: &Container) -> Step {
        let now = UnixMillis::now();
        let records = self.records();
        let history = history(&records, pod, &container.name, now);
        let backoff = self.context.agent.config.backoff;
        let local = self.locals.entry(container.name.clone()).or_default();
        next_step(&history, pod.spec.restart_policy, &mut local.failures, &backoff, now)
    }

    /// It ends again and again.
    fn crashed(&mut self, pod: &Pod, container: &Container, until: UnixMillis) -> Waiting {
        let records = self.records();
        let history = history(&records, pod, &container.name, UnixMillis::now());
        let attempt = history.latest.as_ref().map(|a| a.number);
        let wait = history.end().map_or(0, |end| until.0.saturating_sub(end.finished.0)) / 1000;
        let local = self.locals.entry(container.name.clone()).or_default();
        let ends = local.failures.in_a_row;
        if std::mem::replace(&mut local.backoff_told, attempt) != attempt {
            let message = format!("back-off {wait}s before container {} is started again", container.name);
            self.note(true, "BackOff", &message);
        }
        let message = format!(
            "back-off {wait}s after it ended {ends} times in a row: starts again at {}; see its log (--previous)",
            rfc3339(until)
        );
        Waiting::new("CrashLoopBackOff", message)
    }

    /// The status as the newest records have it.
    fn status(&mut self, pod: &Pod, waiting: Vec<Option<Waiting>>) -> PodStatus {
        let now = UnixMillis::now();
        let records = self.records();
        let seen: Vec<Seen> = pod
            .spec
            .containers
            .iter()
            .zip(waiting)
            .map(|(container, waiting)| {
                let before = pod.status.containers.iter().find(|c| c.name == container.name);
                let image = self.locals.get(&container.name).and_then(|l| l.image.as_deref());
                Seen {
                    name: container.name.clone(),
                    history: history(&records, pod, &container.name, now),
                    waiting,
                    image: match normalise(&container.image) {
                        Ok(reference) if !container.image.is_empty() => reference,
                        // The image of the container's own name, or a name that cannot be one.
                        _ => image.and_then(|i| i.references.first()).unwrap_or(&container.image).clone(),
                    },
                    image_id: match (image, before) {
                        (Some(image), _) => image.id.clone(),
                        (None, Some(before)) => before.image_id.clone(),
                        (None, None) => String::new(),
                    },
                }
            })
            .collect();
        let address = &self.context.agent.address;
        status::pod_status(&self.uid, pod.spec.restart_policy, &seen, &pod.status, address, now)
    }

    /// The shim died, or the machine went down: commit what is known of its containers, then start anew.
    async fn replace_sandbox(&mut self, pod: &Pod) -> Result<Next, Trouble> {
        let now = UnixMillis::now();
        let records = self.records();
        let policy = pod.spec.restart_policy;
        let waiting = pod.spec.containers.iter().map(|container| {
            let history = history(&records, pod, &container.name, now);
            let again = history.end().is_none_or(|end| restarts(policy, end));
            again.then(Waiting::creating)
        });
        let waiting = waiting.collect();
        self.note(true, "SandboxLost", "the pod's supervisor is gone (the machine restarted, or it was killed); what ran is started again by the restart policy");
        let status = self.status(pod, waiting);
        self.report(&pod.status, status).await?;
        self.destroy().await?;
        Ok(Next::Again)
    }

    /// The pod is being deleted: asks its processes to stop, waits out the grace, and cleans up.
    async fn end(&mut self, pod: &Pod, deletion: Deletion) -> Result<Next, Trouble> {
        self.pulls.abort_all();
        let now = UnixMillis::now();
        let due = deletion.due.min(now.plus(deletion.grace_seconds.saturating_mul(1000)));
        if let Some(sandbox) = self.sandbox.clone().filter(Sandbox::alive) {
            let running: Vec<(String, u32)> = self
                .records()
                .into_iter()
                .filter(|r| matches!(r.state, ContainerState::Running { .. }))
                .map(|r| (r.name, r.attempt))
                .collect();
            let mut told = false;
            for (name, attempt) in &running {
                let local = self.locals.entry(name.clone()).or_default();
                if now >= due || local.stopped.replace(*attempt) == Some(*attempt) {
                    continue;
                }
                let signal = self.stop_signal(pod, name);
                if let Err(e) = sandbox.signal(name, *attempt, signal).await {
                    tracing::debug!(pod = self.key.name, container = name, "stop signal: {}", chain(&e));
                }
                self.note(false, "Killing", &format!("Stopping container {name}"));
                told = true;
            }
            if told {
                self.report(&pod.status, pod.status.clone()).await?;
                return Ok(Next::Again);
            }
            if !running.is_empty() && now < due {
                return Ok(Next::Wait(Some(due)));
            }
        }
        self.destroy().await?;
        self.remove_logs().await?;
        match self.context.agent.submit(&Command::PodGone { key: self.key.clone(), uid: self.uid }).await {
            Ok(_) | Err(Trouble::Gone) => Ok(Next::Done),
            Err(trouble) => Err(trouble),
        }
    }

    fn stop_signal(&self, pod: &Pod, container: &str) -> i32 {
        let held = self.locals.get(container).and_then(|l| l.image.clone());
        let image = held.or_else(|| {
            let status = pod.status.containers.iter().find(|c| c.name == container && !c.image_id.is_empty())?;
            self.context.agent.images.find(&status.image_id).ok()
        });
        process::stop_signal(image.as_ref().map_or("", |i| &i.config.stop_signal))
    }

    /// The ledger knows no such pod here (any more).
    async fn discard(&mut self) -> Result<Next, Trouble> {
        self.pulls.abort_all();
        self.destroy().await?;
        self.remove_logs().await?;
        Ok(Next::Done)
    }

    async fn destroy(&mut self) -> Result<(), Trouble> {
        if let Some(sandbox) = &self.sandbox {
            let _permit = self.context.ends.acquire().await;
            sandbox.destroy().await.map_err(|e| Trouble::Destroy(chain(&e)))?;
            self.sandbox = None;
            self.records = None;
        }
        Ok(())
    }

    async fn remove_logs(&self) -> Result<(), Trouble> {
        let dir = logs::pod_dir(&self.context.agent.data_dir, &self.key.namespace, &self.key.name, &self.uid);
        match tokio::task::spawn_blocking(move || remove_dir(&dir)).await {
            Ok(removed) => removed.map_err(Trouble::Logs),
            Err(stopping) => Err(Trouble::Logs(std::io::Error::other(stopping))),
        }
    }

    /// Adds an event to the next report.
    pub(super) fn note(&mut self, warning: bool, reason: &str, message: &str) {
        let note = Note { warning, reason: reason.to_owned(), message: message.to_owned() };
        if self.notes.len() < NOTES_MAX && self.notes.last() != Some(&note) {
            self.notes.push(note);
        }
    }

    /// Commits the status and the notes, where there is anything new.
    async fn report(&mut self, committed: &PodStatus, status: PodStatus) -> Result<(), Trouble> {
        if self.notes.is_empty() && status == *committed {
            return Ok(());
        }
        let notes = self.notes.clone();
        let command = Command::ReportPod { key: self.key.clone(), uid: self.uid, status, notes };
        let object = self.context.agent.submit(&command).await?;
        self.told = object;
        self.notes.clear();
        Ok(())
    }
}

fn history(records: &[ContainerRecord], pod: &Pod, name: &str, now: UnixMillis) -> History {
    History::read(name, records, pod.status.containers.iter().find(|c| c.name == name), now)
}

async fn changed(records: &mut Option<watch::Receiver<Arc<Vec<ContainerRecord>>>>) {
    match records {
        None => std::future::pending().await,
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                *records = None;
            }
        }
    }
}

fn until_then(at: UnixMillis) -> Duration {
    Duration::from_millis(at.0.saturating_sub(UnixMillis::now().0))
}

fn rfc3339(at: UnixMillis) -> String {
    let second = i64::try_from(at.0 / 1000).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    second.map_or_else(|| format!("{} ms", at.0), |t| t.to_string())
}
