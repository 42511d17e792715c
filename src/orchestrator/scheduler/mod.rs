//! Where pods run: a pure function of committed state, computed alike by every node.

use std::sync::Arc;

use super::command::Refusal;
use super::events;
use super::machine::Run;
use super::names::invalid;
use super::object::{Body, Key, Kind, Note, Object, Placement};

/// Places the pods that wait for a node, where something has changed for them.
pub fn schedule(run: &mut Run) {
    let pending: Vec<Key> = run.state.index().pending.iter().map(|(_, key)| key.clone()).collect();
    for key in pending {
        let Some(object) = run.state.get(&key).cloned() else { continue };
        let Some(pod) = object.as_pod() else { continue };
        let node = run.state.list(Kind::Node, None).find(|object| {
            object.as_node().is_some_and(|node| {
                let free = node.allocatable.minus(run.state.used_on(&object.meta.name));
                let demand = pod.demand();
                node.ready.ready
                    && !node.unschedulable
                    && (node.policy.host_network || !pod.spec.host_network)
                    && free.cpu >= demand.cpu
                    && free.memory >= demand.memory
                    && free.pods >= demand.pods
                    && free.bandwidth >= demand.bandwidth
            })
        });
        let Some(name) = node.map(|node| node.meta.name.clone()) else { continue };
        bind(run, &object, name);
    }
}

fn bind(run: &mut Run, object: &Arc<Object>, node: String) {
    let mut object = Object::clone(object);
    let note = Note {
        warning: false,
        reason: "Scheduled".into(),
        message: format!("Successfully assigned {}/{} to {node}", object.meta.namespace, object.meta.name),
    };
    if let Body::Pod(pod) = &mut object.body {
        pod.spec.node_name.clone_from(&node);
        pod.status.scheduled = Some(run.block.time);
        pod.placement = Some(Placement {
            height: run.block.height,
            at: run.block.time,
            node: Some(node),
            candidates: Vec::new(),
            looked_at: 1,
        });
    }
    let object = run.state.put(object);
    events::record(run, &object.key(), object.meta.uid, events::SCHEDULER, &note);
}

/// Places a pod whose maker named the node.
pub fn bind_named(_run: &mut Run, _object: Object) -> Result<Arc<Object>, Refusal> {
    Err(invalid("spec.nodeName", "is not supported yet: use spec.nodeSelector"))
}
