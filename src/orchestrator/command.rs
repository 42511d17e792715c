//! What can be asked of the state machine, by whom, and what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::object::{Key, Node, Note, Object, PodStatus};
use crate::base::{NodeId, Uid};

/// The payload of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes `object` under a name that must be free. What `apply` sets (uid, revision, status…) is ignored here.
    Create { object: Object },
    /// Replaces labels, annotations and specification of an existing object; status and placement stay.
    Replace { object: Object, precondition: Precondition },
    /// Pods get a deadline and go when their node has ended them; other objects go at once, a namespace after all in it.
    /// `grace_seconds`: `None` for the pod's own.
    Delete { key: Key, precondition: Precondition, grace_seconds: Option<u64> },
    /// A node tells of itself, at its start and when something has changed. Creates or updates its `Node` object
    /// (`unschedulable` and annotations are kept; `labels` are merged over those it reported before).
    RegisterNode { name: String, node: Node, labels: BTreeMap<String, String> },
    /// The node a pod is assigned to tells how the pod does. `uid` guards against a namesake.
    ReportPod { key: Key, uid: Uid, status: PodStatus, notes: Vec<Note> },
    /// The node has ended and cleaned up a pod that was being deleted: the object goes.
    PodGone { key: Key, uid: Uid },
    /// Adds a namespace key sealed to nodes. Refused where the namespace has a key already (two made one at once: reread).
    SealNamespace { namespace: String, sealed_keys: BTreeMap<NodeId, Vec<u8>> },
}

/// What must hold of the object a command is about; `None` fields do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precondition {
    pub uid: Option<Uid>,
    pub revision: Option<u64>,
}

/// On whose behalf a command is made. The node signs for its local users and vouches for this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// The node itself: its registration, its pods' status.
    Node(NodeId),
    /// Somebody who reached the node's loopback port without a credential. Never more than unprivileged containers.
    Local(NodeId),
    /// The node's operator: came by the unix socket as root or the node's user, or with the node's token.
    Operator(NodeId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node@{}", id.short()),
            Self::Local(id) => write!(f, "local@{}", id.short()),
            Self::Operator(id) => write!(f, "operator@{}", id.short()),
        }
    }
}

/// What came of a command: the object as it is now (as it last was, where it went), or a refusal that changed nothing.
pub type Outcome = Result<Option<Arc<Object>>, Refusal>;

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{key:?} already exists")]
    AlreadyExists { key: Key },
    #[error("{key:?} not found")]
    NotFound { key: Key },
    /// The precondition does not hold, or the object changed meanwhile.
    #[error("{message}")]
    Conflict { key: Key, message: String },
    /// `field` is a path such as `spec.containers[0].name`.
    #[error("{field}: {message}")]
    Invalid { field: String, message: String },
    #[error("{message}")]
    Forbidden { message: String },
    /// The bytes are not a command: a node of another version, or a lie.
    #[error("malformed command")]
    Malformed,
}
