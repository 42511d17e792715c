//! How objects go: at once, after their node has ended them, or after all that is in them.

use std::sync::Arc;

use super::admission::GRACE_SECONDS_MAX;
use super::command::{Outcome, Precondition, Refusal};
use super::commands::{DEFAULT_NAMESPACE, existing};
use super::machine::Run;
use super::names::invalid;
use super::object::{Deletion, Key, Kind, Object};
use crate::base::Uid;

/// Deletes an object, or marks it to be deleted.
pub fn delete(run: &mut Run, key: &Key, precondition: Precondition, grace_seconds: Option<u64>) -> Outcome {
    let object = existing(run.state, key, precondition)?;
    if grace_seconds.is_some_and(|grace| grace > GRACE_SECONDS_MAX) {
        return Err(invalid("gracePeriodSeconds", format!("must be at most {GRACE_SECONDS_MAX} seconds")));
    }
    match key.kind {
        Kind::Pod => Ok(Some(delete_pod(run, &object, grace_seconds))),
        Kind::Namespace => delete_namespace(run, &object),
        Kind::Node => {
            let removed = run.state.remove(key);
            forget_pods_of(run, &key.name);
            run.freed = true;
            Ok(removed)
        }
        Kind::ConfigMap | Kind::Secret | Kind::Event => Ok(run.state.remove(key)),
    }
}

/// A pod that never got a node, or whose node is no more, goes at once; any other is marked, and its node ends it.
/// Deleting it again may only shorten its grace.
fn delete_pod(run: &mut Run, object: &Arc<Object>, grace_seconds: Option<u64>) -> Arc<Object> {
    let key = object.key();
    let Some(pod) = object.as_pod() else { return Arc::clone(object) };
    if run.state.get(&Key::node(&*pod.spec.node_name)).is_none() {
        run.freed = true;
        run.state.remove(&key);
        finish_namespace(run, &key.namespace);
        return Arc::clone(object);
    }
    let grace_seconds = grace_seconds.unwrap_or(pod.spec.grace_seconds);
    let due = run.block.time.plus(grace_seconds.saturating_mul(1_000));
    if object.meta.deleted.is_some_and(|deleted| deleted.due <= due) {
        return Arc::clone(object);
    }
    let mut object = Object::clone(object);
    object.meta.deleted = Some(Deletion { due, grace_seconds });
    run.state.put(object)
}

fn delete_namespace(run: &mut Run, object: &Arc<Object>) -> Outcome {
    let name = &object.meta.name;
    if name == DEFAULT_NAMESPACE {
        let message =
            format!("namespace {DEFAULT_NAMESPACE} is part of every chain and cannot be deleted: delete what is in it");
        return Err(Refusal::Forbidden { message });
    }
    if object.meta.deleted.is_none() {
        let mut marked = Object::clone(object);
        marked.meta.deleted = Some(Deletion { due: run.block.time, grace_seconds: 0 });
        run.state.put(marked);
    }
    for kind in [Kind::ConfigMap, Kind::Secret, Kind::Pod] {
        let inside: Vec<_> = run.state.list(kind, Some(name)).cloned().collect();
        for object in inside {
            if kind == Kind::Pod {
                delete_pod(run, &object, None);
            } else {
                run.state.remove(&object.key());
            }
        }
    }
    let marked = run.state.get(&object.key()).cloned();
    finish_namespace(run, name);
    // Where it went with its last pod, as it last was.
    Ok(marked.or_else(|| Some(Arc::clone(object))))
}

/// Removes a namespace that is being deleted once nothing but events is left in it.
fn finish_namespace(run: &mut Run, name: &str) {
    let key = Key::namespace(name);
    let terminating = run.state.get(&key).is_some_and(|object| object.meta.deleted.is_some());
    let empty = |kind| run.state.list(kind, Some(name)).next().is_none();
    if !terminating || ![Kind::Pod, Kind::ConfigMap, Kind::Secret].into_iter().all(empty) {
        return;
    }
    let events: Vec<Key> = run.state.list(Kind::Event, Some(name)).map(|event| event.key()).collect();
    for event in events {
        run.state.remove(&event);
    }
    run.state.remove(&key);
}

/// The node has ended and cleaned up a pod that was being deleted.
pub fn pod_gone(run: &mut Run, key: &Key, uid: Uid) -> Outcome {
    let object = existing(run.state, key, Precondition { uid: Some(uid), revision: None })?;
    if object.meta.deleted.is_none() {
        let message = format!("{key} is not being deleted: delete it first");
        return Err(Refusal::Conflict { key: key.clone(), message });
    }
    run.state.remove(key);
    run.freed = true;
    finish_namespace(run, &key.namespace);
    Ok(Some(object))
}

/// Nobody is left to end the pods of a node that is no more: those being deleted go with it.
fn forget_pods_of(run: &mut Run, node: &str) {
    let going = |object: &Object| {
        object.meta.deleted.is_some() && object.as_pod().is_some_and(|pod| pod.spec.node_name == node)
    };
    let keys: Vec<Key> = run.state.list(Kind::Pod, None).filter(|object| going(object)).map(|pod| pod.key()).collect();
    for key in keys {
        run.state.remove(&key);
        finish_namespace(run, &key.namespace);
    }
}
