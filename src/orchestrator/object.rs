//! The objects of the replicated state: small types of our own, of what is enforced and nothing else.
//!
//! Invariant: integers, text and ordered maps only; no float, no hash map, no clock. Every type encodes by `base::codec`
//! (so no `skip_serializing_if`, `flatten` or `untagged`). Kubernetes' shapes live in `api`, which parses into these.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Bytes, Height, Millicores, NodeId, Uid, UnixMillis};
use crate::math::fixed::Fx;

/// The kinds there are, in the order the state keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    ConfigMap,
    Secret,
    Event,
}

impl Kind {
    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

/// Where an object is found. `namespace` is empty for kinds without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    #[must_use]
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// The key of a namespace.
    #[must_use]
    pub fn namespace(name: impl Into<String>) -> Self {
        Self::new(Kind::Namespace, "", name)
    }

    /// The key of a node.
    #[must_use]
    pub fn node(name: impl Into<String>) -> Self {
        Self::new(Kind::Node, "", name)
    }

    /// The key of a pod.
    #[must_use]
    pub fn pod(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(Kind::Pod, namespace, name)
    }
}

/// `pod default/hello`, `node n1`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Namespace => "namespace",
            Kind::Node => "node",
            Kind::Pod => "pod",
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::Event => "event",
        };
        if self.namespace.is_empty() {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

/// One object of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub meta: Meta,
    pub body: Body,
}

impl Object {
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }

    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.kind(), &*self.meta.namespace, &*self.meta.name)
    }

    /// The pod, where it is one.
    #[must_use]
    pub fn as_pod(&self) -> Option<&Pod> {
        if let Body::Pod(pod) = &self.body { Some(pod) } else { None }
    }

    /// The node, where it is one.
    #[must_use]
    pub fn as_node(&self) -> Option<&Node> {
        if let Body::Node(node) = &self.body { Some(node) } else { None }
    }

    /// The event, where it is one.
    #[must_use]
    pub fn as_event(&self) -> Option<&Event> {
        if let Body::Event(event) = &self.body { Some(event) } else { None }
    }
}

/// What every object has. `uid`, `revision`, `generation`, `created` and `deleted` are set in `apply` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Empty at creation where `generate_name` is given.
    pub name: String,
    pub namespace: String,
    /// Prefix of a name that `apply` completes with five characters drawn from the transaction's hash.
    pub generate_name: String,
    pub uid: Uid,
    /// Kubernetes' `resourceVersion`: the state's counter at this object's last change, unique to that change.
    pub revision: u64,
    /// Counts changes of the specification.
    pub generation: u64,
    pub created: UnixMillis,
    pub deleted: Option<Deletion>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// An object that is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When the grace ends (Kubernetes' `deletionTimestamp`).
    pub due: UnixMillis,
    pub grace_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    Namespace(Namespace),
    Node(Node),
    Pod(Pod),
    ConfigMap(ConfigMap),
    Secret(Secret),
    Event(Event),
}

impl Body {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Secret(_) => Kind::Secret,
            Self::Event(_) => Kind::Event,
        }
    }
}

/// A namespace and the key its secrets are sealed under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// The namespace key, sealed to the seal key of each node that may run its pods. Empty until its first secret.
    pub sealed_keys: BTreeMap<NodeId, Vec<u8>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMap {
    pub data: BTreeMap<String, String>,
    pub binary_data: BTreeMap<String, Vec<u8>>,
    pub immutable: bool,
}

/// A secret: every value is ciphertext (see [`crate::base::seal`]). `sealed_annotations` keeps annotations that repeat
/// the data, such as kubectl's last-applied configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub secret_type: String,
    pub data: BTreeMap<String, Vec<u8>>,
    pub sealed_annotations: BTreeMap<String, Vec<u8>>,
    pub immutable: bool,
}

/// Something that happened to an object. Equal ones are counted, not repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub involved: Key,
    pub involved_uid: Uid,
    pub note: Note,
    pub count: u32,
    pub first: UnixMillis,
    pub last: UnixMillis,
    /// `scheduler`, or the name of the node that reported it.
    pub source: String,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    pub warning: bool,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people; leads to the cure.
    pub message: String,
}

// ---- nodes ----

/// A machine. Registered by itself, so what it says of itself is a claim: placement may use it, votes may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// X25519 public key to which namespace keys are sealed.
    pub seal_key: [u8; 32],
    pub unschedulable: bool,
    pub ready: Ready,
    pub capacity: Capacity,
    /// What pods may use of it.
    pub allocatable: Capacity,
    pub policy: Policy,
    pub info: NodeInfo,
    /// IP address or host name by which people know it.
    pub address: String,
    /// Its class in each dimension of diversity (eq. 13): `operator`, `prefix`, `latency`, `platform`.
    pub classes: BTreeMap<String, String>,
    /// Stake admitted, in millionths (eq. 20).
    pub stake: u64,
    /// Lower credible bound of its reliability (eq. 18), in (0, 1].
    pub reliability: Fx,
}

/// Whether a node can run pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub ready: bool,
    pub reason: String,
    pub message: String,
    pub since: UnixMillis,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu: Millicores,
    pub memory: Bytes,
    pub pods: u64,
    /// Bits per second.
    pub bandwidth: u64,
}

impl Capacity {
    /// The sum, held at the most a number can be.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            cpu: Millicores(self.cpu.0.saturating_add(other.cpu.0)),
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            pods: self.pods.saturating_add(other.pods),
            bandwidth: self.bandwidth.saturating_add(other.bandwidth),
        }
    }

    /// What is left; nothing where more is taken than there is.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            cpu: Millicores(self.cpu.0.saturating_sub(other.cpu.0)),
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
            pods: self.pods.saturating_sub(other.pods),
            bandwidth: self.bandwidth.saturating_sub(other.bandwidth),
        }
    }
}

/// What this node's owner lets pods do; advertised here, enforced by its agent whatever the ledger says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub host_network: bool,
    pub host_paths: bool,
    pub privileged: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Kubernetes' names: `amd64`, `arm64`.
    pub architecture: String,
    pub operating_system: String,
    pub kernel: String,
    pub os_image: String,
    pub version: String,
    pub machine_id: String,
    pub boot_id: String,
    /// `v1` or `v2`.
    pub cgroup: String,
}

// ---- pods ----

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
