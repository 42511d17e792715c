//! What is to be done on this node: the pods assigned to it, set against the sandboxes that are here. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Uid;
use crate::orchestrator::object::{Body, Phase, Pod};
use crate::orchestrator::{Key, Kind, Object};

/// A pod the ledger assigned to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub key: Key,
    /// It has succeeded or failed: nothing of it will run again.
    pub finished: bool,
    pub deleted: bool,
}

/// What a worker is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Bring it about, and keep it so.
    Run(Key),
    /// It is being deleted: end it, clean up, say so.
    End(Key),
    /// It has finished, and its sandbox is still here.
    Retire(Key),
    /// A sandbox whose pod the ledger does not know (any more).
    Discard,
}

/// One action for each pod that is not as it should be; nothing for one that has finished and left nothing behind.
#[must_use]
pub fn plan(assigned: &BTreeMap<Uid, Assigned>, sandboxes: &BTreeSet<Uid>) -> BTreeMap<Uid, Action> {
    let mut actions: BTreeMap<Uid, Action> = BTreeMap::new();
    for (uid, pod) in assigned {
        let action = match (pod.deleted, pod.finished) {
            (true, _) => Action::End(pod.key.clone()),
            (false, false) => Action::Run(pod.key.clone()),
            (false, true) if sandboxes.contains(uid) => Action::Retire(pod.key.clone()),
            (false, true) => continue,
        };
        actions.insert(*uid, action);
    }
    for uid in sandboxes.iter().filter(|uid| !assigned.contains_key(uid)) {
        actions.insert(*uid, Action::Discard);
    }
    actions
}

/// Reads a pod object that is assigned to `node`; `None` for any other object.
#[must_use]
pub fn assigned(object: &Object, node: &str) -> Option<(Uid, Assigned)> {
    let Body::Pod(pod) = &object.body else { return None };
    if !placed_on(pod, node) {
        return None;
    }
    let key = Key { kind: Kind::Pod, namespace: object.meta.namespace.clone(), name: object.meta.name.clone() };
    let finished = matches!(pod.status.phase, Phase::Succeeded | Phase::Failed);
    Some((object.meta.uid, Assigned { key, finished, deleted: object.meta.deleted.is_some() }))
}

/// Whether the pod is bound to the node, by the scheduler or by name.
#[must_use]
pub fn placed_on(pod: &Pod, node: &str) -> bool {
    pod.spec.node_name == node
}
