//! Pods: what is asked for, how it goes, and where the scheduler put it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Capacity;
use crate::base::{Bytes, Height, Millicores, UnixMillis};
use crate::math::fixed::Fx;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub spec: PodSpec,
    pub status: PodStatus,
    /// The scheduler's decision or its last failure to make one; `None` before it looked.
    pub placement: Option<Placement>,
}

impl Pod {
    /// What the scheduler sets aside for it.
    #[must_use]
    pub fn demand(&self) -> Capacity {
        let one = |container: &Container| {
            let requests = container.effective_requests();
            Capacity {
                cpu: requests.cpu.unwrap_or_default(),
                memory: requests.memory.unwrap_or_default(),
                pods: 0,
                bandwidth: container.bandwidth_min.unwrap_or_default(),
            }
        };
        let containers = self.spec.containers.iter().map(one).fold(Capacity::default(), Capacity::plus);
        Capacity { pods: 1, ..containers }
    }

    /// Ended for good: it holds nothing of its node any more.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it may do what an unprivileged container may not, or shows what a Secret holds: the operator's alone.
    #[must_use]
    pub fn privileged(&self) -> bool {
        let secret = |container: &Container| {
            container.env.iter().any(|variable| matches!(variable.value, EnvValue::SecretKey { .. }))
        };
        self.spec.host_network || self.spec.containers.iter().any(secret)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// At least one; names are unique.
    pub containers: Vec<Container>,
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL; 30 unless said.
    pub grace_seconds: u64,
    pub host_network: bool,
    /// Empty: the pod's name.
    pub hostname: String,
    pub node_selector: BTreeMap<String, String>,
    /// Asked for by the user, or set by the scheduler; empty until then.
    pub node_name: String,
    pub security: Security,
    pub constraints: Constraints,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// The specification's `constraints`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// Least ratio of the node's entropy score (eq. 14) to the best node's, in [0, 1].
    pub entropy_score: Option<Fx>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub name: String,
    /// As the user wrote it; empty: the image or module named like the container.
    pub image: String,
    pub pull_policy: PullPolicy,
    /// Replaces the image's entrypoint where not empty.
    pub command: Vec<String>,
    /// Replaces the image's command where not empty.
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<EnvVar>,
    pub ports: Vec<Port>,
    /// Kubernetes' `resources`.
    pub requests: Quantities,
    pub limits: Quantities,
    /// The specification's `resource_requirements`: request and limit at once, where `resources` is silent.
    pub requirements: Quantities,
    /// The specification's `connectivity_requirements.bandwidth_min`, bits per second.
    pub bandwidth_min: Option<u64>,
    pub security: Security,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
}

impl Container {
    /// What the scheduler sets aside: the request, else the limit, else the requirement.
    #[must_use]
    pub fn effective_requests(&self) -> Quantities {
        let pick = |a: Quantities| (a.cpu, a.memory);
        let all = [pick(self.requests), pick(self.limits), pick(self.requirements)];
        Quantities { cpu: all.iter().find_map(|q| q.0), memory: all.iter().find_map(|q| q.1) }
    }

    /// What the sandbox enforces: the limit, else the requirement.
    #[must_use]
    pub fn effective_limits(&self) -> Quantities {
        Quantities {
            cpu: self.limits.cpu.or(self.requirements.cpu),
            memory: self.limits.memory.or(self.requirements.memory),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantities {
    pub cpu: Option<Millicores>,
    pub memory: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// The default for every tag, `latest` too: a node must work without a network.
    #[default]
    IfNotPresent,
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    /// `$(NAME)` of an earlier variable is expanded, as Kubernetes does.
    Literal(String),
    ConfigMapKey {
        name: String,
        key: String,
        optional: bool,
    },
    SecretKey {
        name: String,
        key: String,
        optional: bool,
    },
    /// Downward API: `metadata.name`, `metadata.namespace`, `metadata.uid`, `metadata.labels['k']`,
    /// `metadata.annotations['k']`, `spec.nodeName`, `status.hostIP`, `status.podIP`.
    Field(String),
    /// Downward API: `limits.cpu`, `limits.memory`, `requests.cpu`, `requests.memory` of `container` (empty: this one).
    Resource {
        container: String,
        resource: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// The security context, of a pod or of one container (which wins).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: Option<bool>,
    /// Container only.
    pub read_only_root: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    pub phase: Phase,
    /// CamelCase, for programs; empty where there is nothing to say.
    pub reason: String,
    pub message: String,
    pub host_ip: String,
    pub started: Option<UnixMillis>,
    /// When the pod last became, or ceased to be, ready. Set in `apply`.
    pub ready_changed: Option<UnixMillis>,
    /// When it was placed. Set in `apply`.
    pub scheduled: Option<UnixMillis>,
    /// In the order of the specification; empty before the node has looked at the pod.
    pub containers: Vec<ContainerStatus>,
}

impl PodStatus {
    /// Ready: running, with every container ready.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.phase == Phase::Running && !self.containers.is_empty() && self.containers.iter().all(|c| c.ready)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: String,
    pub state: ContainerState,
    /// How the attempt before this one ended.
    pub last: Option<Terminated>,
    pub restarts: u32,
    /// Its full reference, as resolved.
    pub image: String,
    /// Digest of what runs; empty until it is known.
    pub image_id: String,
    /// `entroos://<uid>/<name>/<attempt>`; empty until started.
    pub id: String,
    pub ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// `reason`: `ContainerCreating`, `ImagePullBackOff`, `ErrImagePull`, `CrashLoopBackOff`, `CreateContainerError`, …
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: UnixMillis,
    },
    Terminated(Terminated),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// 128 + n after signal n.
    pub exit_code: i32,
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
    pub started: UnixMillis,
    pub finished: UnixMillis,
}

/// What the scheduler decided and why: shown by `entroos pod explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub height: Height,
    pub at: UnixMillis,
    /// The node's name; `None` where no node could take the pod.
    pub node: Option<String>,
    /// The best candidates first, then those left out, at most [`Placement::CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
    /// How many nodes were looked at.
    pub looked_at: u32,
}

impl Placement {
    pub const CANDIDATES_MAX: usize = 8;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub node: String,
    /// Why it cannot take the pod; `None` where it can.
    pub refused: Option<String>,
    pub terms: Vec<Term>,
    /// Eq. 35; zero where refused.
    pub score: Fx,
}

/// One factor of eq. 35.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Its number in the catalogue of equations.
    pub equation: u8,
    pub name: String,
    pub value: Fx,
    pub weight: Fx,
}
