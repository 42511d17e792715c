//! Who may ask for what. Part of `apply`, so that no API and no node can be talked round it.

use super::command::{Command, Principal, Refusal};
use super::names::invalid;
use super::object::{Key, Kind, Object, Pod};
use super::state::State;
use crate::base::NodeId;

const CURE: &str = "use the unix socket as root or the node's user, or the token in <data dir>/token";

/// Refuses what `principal` may not do. `signer` signed the transaction and vouches for the principal.
pub fn authorise(state: &State, principal: Principal, signer: NodeId, command: &Command) -> Result<(), Refusal> {
    let (Principal::Node(node) | Principal::Local(node) | Principal::Operator(node)) = principal;
    if node != signer {
        return forbidden(format!(
            "{principal} cannot be vouched for by node {}: its own node must sign",
            signer.short()
        ));
    }
    match (principal, command) {
        (_, Command::SealNamespace { .. })
        | (Principal::Operator(_), Command::Create { .. } | Command::Replace { .. } | Command::Delete { .. }) => Ok(()),
        (Principal::Node(_), Command::RegisterNode { name, node: said, .. }) => register(state, node, name, said.id),
        (Principal::Node(_), Command::ReportPod { key, .. } | Command::PodGone { key, .. }) => report(state, node, key),
        (Principal::Node(_), _) => {
            forbidden(format!("{principal} may only speak of itself and of pods assigned to it"))
        }
        (_, Command::RegisterNode { .. } | Command::ReportPod { .. } | Command::PodGone { .. }) => {
            forbidden(format!("{principal} is not a node: only a node speaks of itself and of its pods"))
        }
        (Principal::Local(_), Command::Create { object }) => local_create(object),
        (Principal::Local(_), Command::Replace { object, .. }) => local_change(state, &object.key(), false),
        (Principal::Local(_), Command::Delete { key, .. }) => local_change(state, key, true),
    }
}

fn forbidden(message: String) -> Result<(), Refusal> {
    Err(Refusal::Forbidden { message })
}

fn register(state: &State, signer: NodeId, name: &str, said: NodeId) -> Result<(), Refusal> {
    if said != signer {
        return forbidden(format!("node {} may register only itself, not {}", signer.short(), said.short()));
    }
    match state.get(&Key::node(name)).and_then(|object| object.as_node()) {
        Some(other) if other.id != signer => forbidden(format!(
            "the name {name:?} belongs to node {}: give this node another name in node.toml",
            other.id.short()
        )),
        _ => Ok(()),
    }
}

fn report(state: &State, signer: NodeId, key: &Key) -> Result<(), Refusal> {
    if key.kind != Kind::Pod {
        return Err(invalid("key.kind", "must be a pod's"));
    }
    let Some(pod) = state.get(key).and_then(|object| object.as_pod()) else {
        return Err(Refusal::NotFound { key: key.clone() });
    };
    let assigned = state.get(&Key::node(&*pod.spec.node_name)).and_then(|object| object.as_node());
    if assigned.is_some_and(|node| node.id == signer) {
        return Ok(());
    }
    forbidden(format!("{key} is not assigned to node {}: only its own node may report it", signer.short()))
}

fn local_create(object: &Object) -> Result<(), Refusal> {
    match object.kind() {
        Kind::Node => forbidden(format!("nodes cannot be made through the open loopback port: {CURE}")),
        Kind::Pod => object.as_pod().map_or(Ok(()), |pod| local_pod("created", &object.key(), pod)),
        _ => Ok(()),
    }
}

fn local_change(state: &State, key: &Key, delete: bool) -> Result<(), Refusal> {
    match key.kind {
        Kind::Node => forbidden(format!("{key} cannot be changed or deleted through the open loopback port: {CURE}")),
        Kind::Pod => {
            let pod = state.get(key).and_then(|object| object.as_pod());
            pod.map_or(Ok(()), |pod| local_pod("changed or deleted", key, pod))
        }
        Kind::Namespace if delete => {
            let mut pods = state.list(Kind::Pod, Some(&key.name));
            match pods.find(|object| object.as_pod().is_some_and(Pod::privileged)) {
                Some(object) => forbidden(format!(
                    "{key} cannot be deleted through the open loopback port, for it holds {} of the operator: \
                     {CURE}",
                    object.key()
                )),
                None => Ok(()),
            }
        }
        Kind::Namespace | Kind::ConfigMap | Kind::Secret | Kind::Event => Ok(()),
    }
}

fn local_pod(verb: &str, key: &Key, pod: &Pod) -> Result<(), Refusal> {
    if !pod.privileged() {
        return Ok(());
    }
    let what = if pod.spec.host_network { "it has hostNetwork" } else { "its environment reads a Secret" };
    forbidden(format!("{key} cannot be {verb} through the open loopback port, for {what}: {CURE}"))
}
