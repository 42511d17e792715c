//! The objects of the replicated state: small types of our own, of what is enforced and nothing else.
//!
//! Invariant: integers, text and ordered maps only; no float, no hash map, no clock. Every type encodes by `base::codec`
//! (so no `skip_serializing_if`, `flatten` or `untagged`). Kubernetes' shapes live in `api`, which parses into these.

mod pod;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Bytes, Millicores, NodeId, Uid, UnixMillis};
use crate::math::fixed::Fx;

pub use pod::{
    Candidate, Constraints, Container, ContainerState, ContainerStatus, EnvValue, EnvVar, Phase, Placement, Pod,
    PodSpec, PodStatus, Port, PullPolicy, Quantities, RestartPolicy, Security, Term, Terminated,
};

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
