//! A pod's status from its containers' histories, as Kubernetes words it. Pure.

use super::history::{AttemptState, History, container_id};
use crate::base::{Uid, UnixMillis};
use crate::orchestrator::object::{ContainerState, ContainerStatus, Phase, PodStatus, RestartPolicy};

/// Why a container does not run (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

impl Waiting {
    #[must_use]
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }

    #[must_use]
    pub fn creating() -> Self {
        Self::new("ContainerCreating", "")
    }
}

/// What is known of one container on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub history: History,
    /// Set where it neither runs nor has ended for good.
    pub waiting: Option<Waiting>,
    pub image: String,
    pub image_id: String,
}

/// One container's status.
#[must_use]
pub fn container_status(uid: &Uid, seen: &Seen) -> ContainerStatus {
    let latest = seen.history.latest.as_ref();
    let ended = seen.history.end().cloned();
    let (state, last) = match (latest.map(|a| &a.state), &seen.waiting) {
        (Some(AttemptState::Running { since }), _) => {
            (ContainerState::Running { since: *since }, seen.history.before.clone())
        }
        (Some(_), Some(waiting)) => (waiting.state(), ended),
        (Some(AttemptState::Ended(t) | AttemptState::Lost(t)), None) => {
            (ContainerState::Terminated(t.clone()), seen.history.before.clone())
        }
        (None, waiting) => (waiting.clone().unwrap_or_else(Waiting::creating).state(), None),
    };
    ContainerStatus {
        name: seen.name.clone(),
        ready: matches!(state, ContainerState::Running { .. }),
        state,
        last,
        restarts: latest.map_or(0, |a| a.number),
        image: seen.image.clone(),
        image_id: seen.image_id.clone(),
        id: latest.map_or_else(String::new, |a| container_id(uid, &seen.name, a.number)),
    }
}

impl Waiting {
    fn state(&self) -> ContainerState {
        ContainerState::Waiting { reason: self.reason.clone(), message: self.message.clone() }
    }
}

/// Kubernetes' rule: a container that waits to be started again counts as stopped, one that never ran as waiting.
#[must_use]
pub fn phase(policy: RestartPolicy, containers: &[ContainerStatus]) -> Phase {
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for container in containers {
        match (&container.state, &container.last) {
            (ContainerState::Running { .. }, _) => running += 1,
            (ContainerState::Terminated(t), _) => {
                stopped += 1;
                succeeded += usize::from(t.exit_code == 0);
            }
            (ContainerState::Waiting { .. }, Some(_)) => stopped += 1,
            (ContainerState::Waiting { .. }, None) => waiting += 1,
        }
    }
    match policy {
        _ if waiting > 0 || containers.is_empty() => Phase::Pending,
        _ if running > 0 => Phase::Running,
        RestartPolicy::Always => Phase::Running,
        _ if stopped == succeeded => Phase::Succeeded,
        RestartPolicy::Never => Phase::Failed,
        RestartPolicy::OnFailure => Phase::Running,
    }
}

/// The pod's status; what `apply` sets is taken over from `committed`.
#[must_use]
pub fn pod_status(
    uid: &Uid,
    policy: RestartPolicy,
    seen: &[Seen],
    committed: &PodStatus,
    host_ip: &str,
    now: UnixMillis,
) -> PodStatus {
    let containers: Vec<_> = seen.iter().map(|s| container_status(uid, s)).collect();
    PodStatus {
        phase: phase(policy, &containers),
        reason: String::new(),
        message: String::new(),
        host_ip: host_ip.to_owned(),
        started: committed.started.or(Some(now)),
        ready_changed: committed.ready_changed,
        scheduled: committed.scheduled,
        containers,
    }
}

/// The status of a pod this node refuses or cannot run.
#[must_use]
pub fn without_containers(
    phase: Phase,
    reason: &str,
    message: &str,
    committed: &PodStatus,
    host_ip: &str,
) -> PodStatus {
    PodStatus {
        phase,
        reason: reason.to_owned(),
        message: message.to_owned(),
        host_ip: host_ip.to_owned(),
        ..committed.clone()
    }
}
