//! What nodes tell: of themselves, and of the pods assigned to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Outcome, Precondition, Refusal};
use super::commands::existing;
use super::machine::{Input, Run};
use super::names::{self, invalid};
use super::object::{Body, ContainerState, Key, Kind, Meta, Node, Note, Object, Pod, PodStatus, Terminated};
use super::{admission, events};
use crate::base::{NodeId, Uid};

/// Most notes of one report.
pub const NOTES_MAX: usize = 64;
const REASON_MAX: usize = 256;
const MESSAGE_MAX: usize = 4_096;
const IMAGE_MAX: usize = 4_096;

/// Creates or updates the node's object.
pub fn register(
    run: &mut Run,
    input: &Input,
    name: String,
    mut node: Node,
    labels: BTreeMap<String, String>,
) -> Outcome {
    admission::node(&name, &node)?;
    names::labels("metadata.labels", &labels)?;
    let key = Key::node(name);
    let current = run.state.get(&key).cloned();
    let mut object = match &current {
        Some(object) => Object::clone(object),
        None => Object {
            meta: Meta {
                name: key.name.clone(),
                uid: Uid::derive(&input.hash, 0),
                generation: 1,
                created: run.block.time,
                ..Meta::default()
            },
            body: Body::Node(node.clone()),
        },
    };
    let before = current.as_deref().and_then(Object::as_node);
    node.unschedulable = before.map_or(node.unschedulable, |before| before.unschedulable);
    // Time is the block's: a node's own clock may be anything.
    node.ready.since = match before {
        Some(before) if before.ready.ready == node.ready.ready => before.ready.since,
        _ => run.block.time,
    };
    object.meta.labels.extend(labels);
    object.body = Body::Node(node);
    admission::size(&object)?;
    if current.as_deref() == Some(&object) {
        return Ok(current);
    }
    if current.is_none() {
        leave_former_name(run, input.signer)?;
    }
    run.freed = true;
    Ok(Some(run.state.put(object)))
}

/// A machine that comes back under another name leaves the old one, unless pods are still assigned to that.
fn leave_former_name(run: &mut Run, id: NodeId) -> Result<(), Refusal> {
    let former = |object: &&Arc<Object>| object.as_node().is_some_and(|node| node.id == id);
    let Some(former) = run.state.list(Kind::Node, None).find(former).map(|object| object.key()) else {
        return Ok(());
    };
    let held = |object: &Arc<Object>| object.as_pod().is_some_and(|pod| pod.spec.node_name == former.name);
    if run.state.list(Kind::Pod, None).any(held) {
        let name = &former.name;
        let message = format!(
            "this node is registered as {name:?} and pods are assigned to it there: start it under that name, or delete \
             those pods first"
        );
        return Err(Refusal::Conflict { key: former, message });
    }
    run.state.remove(&former);
    Ok(())
}

/// Takes over what the pod's node says of it.
pub fn report_pod(run: &mut Run, key: &Key, uid: Uid, status: PodStatus, notes: &[Note]) -> Outcome {
    let current = existing(run.state, key, Precondition { uid: Some(uid), revision: None })?;
    let Some(pod) = current.as_pod() else {
        return Err(Refusal::NotFound { key: key.clone() });
    };
    if notes.len() > NOTES_MAX {
        return Err(invalid("notes", format!("may be {NOTES_MAX} at most: report the rest later")));
    }
    let status = admitted_status(pod, status)?;
    if pod.ended() && status.phase != pod.status.phase {
        let message = format!("{key} has ended as {:?} and does not become {:?}", pod.status.phase, status.phase);
        return Err(Refusal::Conflict { key: key.clone(), message });
    }
    let source = pod.spec.node_name.clone();
    let mut next = pod.clone();
    next.status = PodStatus {
        ready_changed: if status.ready() == pod.status.ready() {
            pod.status.ready_changed
        } else {
            Some(run.block.time)
        },
        scheduled: pod.status.scheduled,
        ..status
    };
    let outcome = if next == *pod {
        current
    } else {
        run.freed |= next.ended() && !pod.ended();
        let meta = current.meta.clone();
        run.state.put(Object { meta, body: Body::Pod(next) })
    };
    for note in notes {
        events::record(run, key, uid, &source, note);
    }
    Ok(Some(outcome))
}

/// The status within its bounds: long text is cut, for refusing it would only hide how the pod does.
fn admitted_status(pod: &Pod, mut status: PodStatus) -> Result<PodStatus, Refusal> {
    let bound = |text: &mut String, max| *text = names::cut(std::mem::take(text), max);
    bound(&mut status.reason, REASON_MAX);
    bound(&mut status.message, MESSAGE_MAX);
    bound(&mut status.host_ip, REASON_MAX);
    if status.containers.len() > pod.spec.containers.len() {
        return Err(invalid("status.containerStatuses", "names more containers than the pod has"));
    }
    let terminated = |end: &mut Terminated| {
        bound(&mut end.reason, REASON_MAX);
        bound(&mut end.message, MESSAGE_MAX);
    };
    for (i, container) in status.containers.iter_mut().enumerate() {
        if !pod.spec.containers.iter().any(|known| known.name == container.name) {
            let message = format!("the pod has no container {:?}", names::cut(container.name.clone(), REASON_MAX));
            return Err(invalid(format!("status.containerStatuses[{i}].name"), message));
        }
        bound(&mut container.image, IMAGE_MAX);
        bound(&mut container.image_id, IMAGE_MAX);
        bound(&mut container.id, IMAGE_MAX);
        match &mut container.state {
            ContainerState::Waiting { reason, message } => {
                bound(reason, REASON_MAX);
                bound(message, MESSAGE_MAX);
            }
            ContainerState::Terminated(end) => terminated(end),
            ContainerState::Running { .. } => {}
        }
        container.last.as_mut().map(terminated);
    }
    Ok(status)
}
