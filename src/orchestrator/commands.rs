//! What each command does, once it is known that its principal may ask for it.
//!
//! Every function checks first and changes then, so that a refusal leaves no trace.

use std::sync::Arc;

use super::command::{Command, Outcome, Precondition, Refusal};
use super::machine::{Input, Run};
use super::names::{self, invalid};
use super::object::{Body, Key, Kind, Meta, Object, PodSpec};
use super::state::State;
use super::{admission, deletion, nodes, scheduler};
use crate::base::{NodeId, Uid};

pub const DEFAULT_NAMESPACE: &str = "default";
/// Kubernetes' label of a namespace's own name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Kubernetes' alphabet of generated names: nothing that spells words or looks alike.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const GENERATED_PREFIX_MAX: usize = names::LABEL_MAX - SUFFIX_LENGTH;
const GENERATE_TRIES: u8 = 8;
const SEALED_KEYS_MAX: usize = 4_096;
const SEALED_KEY_BYTES_MAX: usize = 256;

/// Does what the command asks.
pub fn execute(run: &mut Run, input: &Input, command: Command) -> Outcome {
    match command {
        Command::Create { object } => create(run, input, object),
        Command::Replace { object, precondition } => replace(run, object, precondition),
        Command::Delete { key, precondition, grace_seconds } => {
            deletion::delete(run, &key, precondition, grace_seconds)
        }
        Command::RegisterNode { name, node, labels } => nodes::register(run, input, name, node, labels),
        Command::ReportPod { key, uid, status, notes } => nodes::report_pod(run, &key, uid, status, &notes),
        Command::PodGone { key, uid } => deletion::pod_gone(run, &key, uid),
        Command::SealNamespace { namespace, sealed_keys } => seal_namespace(run, &namespace, sealed_keys),
    }
}

/// The object, where it is there and the precondition holds.
pub fn existing(state: &State, key: &Key, precondition: Precondition) -> Result<Arc<Object>, Refusal> {
    let object = state.get(key).cloned().ok_or_else(|| Refusal::NotFound { key: key.clone() })?;
    let conflict = |message: String| Refusal::Conflict { key: key.clone(), message };
    if let Some(uid) = precondition.uid.filter(|uid| *uid != object.meta.uid) {
        return Err(conflict(format!(
            "{key} has uid {}, not {uid}: it was deleted and made anew; read it again",
            object.meta.uid
        )));
    }
    if let Some(revision) = precondition.revision.filter(|revision| *revision != object.meta.revision) {
        return Err(conflict(format!(
            "{key} has changed since revision {revision} (it is at {}): read it again and repeat the change",
            object.meta.revision
        )));
    }
    Ok(object)
}

fn create(run: &mut Run, input: &Input, mut object: Object) -> Outcome {
    generate_name(run.state, input, &mut object)?;
    admission::admit(&mut object)?;
    let key = object.key();
    if key.kind == Kind::Node {
        return Err(invalid("kind", "nodes register themselves: start `entroos node` on the machine"));
    }
    if run.state.get(&key).is_some() {
        return Err(Refusal::AlreadyExists { key });
    }
    if key.kind.namespaced() {
        living_namespace(run.state, &key.namespace)?;
    }
    if let Body::Namespace(_) = &object.body {
        object.meta.labels.insert(NAME_LABEL.to_owned(), object.meta.name.clone());
    }
    object.meta = Meta {
        uid: Uid::derive(&input.hash, 0),
        revision: 0,
        generation: 1,
        created: run.block.time,
        deleted: None,
        ..object.meta
    };
    match &object.body {
        Body::Pod(pod) if !pod.spec.node_name.is_empty() => scheduler::bind_named(run, &object).map(Some),
        Body::Pod(_) => {
            run.fresh.push(key);
            Ok(Some(run.state.put(object)))
        }
        _ => Ok(Some(run.state.put(object))),
    }
}

/// Completes `generateName` with five characters drawn from the transaction's hash.
fn generate_name(state: &State, input: &Input, object: &mut Object) -> Result<(), Refusal> {
    if !object.meta.name.is_empty() || object.meta.generate_name.is_empty() {
        return Ok(());
    }
    let kind = object.kind();
    let prefix = names::cut(object.meta.generate_name.clone(), GENERATED_PREFIX_MAX);
    for attempt in 0..GENERATE_TRIES {
        let mut hasher = blake3::Hasher::new_derive_key("entroos 2026 generated name");
        let hash = hasher.update(&input.hash).update(&[attempt]).finalize();
        let letter = |&byte: &u8| char::from(SUFFIX_ALPHABET[usize::from(byte) % SUFFIX_ALPHABET.len()]);
        let suffix: String = hash.as_bytes().iter().take(SUFFIX_LENGTH).map(letter).collect();
        let name = format!("{prefix}{suffix}");
        if state.get(&Key::new(kind, &*object.meta.namespace, &*name)).is_none() {
            object.meta.name = name;
            return Ok(());
        }
    }
    let key = Key::new(kind, &*object.meta.namespace, prefix);
    Err(Refusal::Conflict { key, message: "no free name was found after `generateName`: try again".to_owned() })
}

fn living_namespace(state: &State, name: &str) -> Result<(), Refusal> {
    let key = Key::namespace(name);
    let Some(namespace) = state.get(&key) else {
        return Err(Refusal::NotFound { key });
    };
    if namespace.meta.deleted.is_some() {
        let message = format!("unable to create new content in namespace {name} because it is being terminated");
        return Err(Refusal::Forbidden { message });
    }
    Ok(())
}

fn replace(run: &mut Run, mut object: Object, precondition: Precondition) -> Outcome {
    admission::admit(&mut object)?;
    let key = object.key();
    let current = existing(run.state, &key, precondition)?;
    let body = replaced_body(&current, object.body)?;
    let mut next = Object::clone(&current);
    next.meta.labels = object.meta.labels;
    next.meta.annotations = object.meta.annotations;
    if key.kind == Kind::Namespace {
        next.meta.labels.insert(NAME_LABEL.to_owned(), key.name.clone());
    }
    if next.body != body {
        next.body = body;
        next.meta.generation += 1;
    }
    if next == *current {
        return Ok(Some(current));
    }
    // Labels steer placement, and so does whether a node takes pods.
    run.freed |= key.kind == Kind::Node;
    Ok(Some(run.state.put(next)))
}

/// What becomes of the body: what users may change from `new`, all else as it is.
fn replaced_body(current: &Object, new: Body) -> Result<Body, Refusal> {
    match (&current.body, new) {
        (Body::Pod(old), Body::Pod(new)) => {
            same_spec(&old.spec, new.spec)?;
            Ok(current.body.clone())
        }
        (Body::Node(old), Body::Node(new)) => {
            let mut node = old.clone();
            node.unschedulable = new.unschedulable;
            Ok(Body::Node(node))
        }
        (Body::ConfigMap(old), Body::ConfigMap(new)) => {
            if old.immutable && *old != new {
                let field = if new.immutable { "data" } else { "immutable" };
                return Err(invalid(field, "the ConfigMap is immutable: delete it and create it anew"));
            }
            Ok(Body::ConfigMap(new))
        }
        (Body::Secret(old), Body::Secret(new)) => {
            if old.secret_type != new.secret_type {
                return Err(invalid("type", "cannot be changed: delete the Secret and create it anew"));
            }
            if old.immutable && (old.data != new.data || !new.immutable) {
                let field = if new.immutable { "data" } else { "immutable" };
                return Err(invalid(field, "the Secret is immutable: delete it and create it anew"));
            }
            Ok(Body::Secret(new))
        }
        // A namespace has nothing but its keys, which users do not set; events are refused by admission.
        _ => Ok(current.body.clone()),
    }
}

/// A pod's specification stays as it was made; what the scheduler set may be left out.
fn same_spec(old: &PodSpec, mut new: PodSpec) -> Result<(), Refusal> {
    if new.node_name.is_empty() {
        new.node_name.clone_from(&old.node_name);
    }
    if *old == new {
        return Ok(());
    }
    let mut field = "spec".to_owned();
    if new.node_name != old.node_name {
        "spec.nodeName".clone_into(&mut field);
    } else if new.containers.len() != old.containers.len() {
        "spec.containers".clone_into(&mut field);
    } else if let Some(i) = (0..new.containers.len()).find(|&i| new.containers[i] != old.containers[i]) {
        let part = if new.containers[i].image == old.containers[i].image { "" } else { ".image" };
        field = format!("spec.containers[{i}]{part}");
    }
    Err(invalid(field, "a pod's specification cannot be changed: delete the pod and create it anew"))
}

fn seal_namespace(run: &mut Run, name: &str, sealed_keys: std::collections::BTreeMap<NodeId, Vec<u8>>) -> Outcome {
    let key = Key::namespace(name);
    living_namespace(run.state, name)?;
    if sealed_keys.is_empty() || sealed_keys.len() > SEALED_KEYS_MAX {
        return Err(invalid("sealed_keys", format!("must be for 1 to {SEALED_KEYS_MAX} nodes")));
    }
    if sealed_keys.values().any(|sealed| sealed.is_empty() || sealed.len() > SEALED_KEY_BYTES_MAX) {
        return Err(invalid("sealed_keys", format!("each must be 1 to {SEALED_KEY_BYTES_MAX} bytes long")));
    }
    let mut object = Object::clone(&*existing(run.state, &key, Precondition::default())?);
    if let Body::Namespace(namespace) = &mut object.body {
        if !namespace.sealed_keys.is_empty() {
            let message = format!("{key} has a key already: read it again");
            return Err(Refusal::Conflict { key, message });
        }
        namespace.sealed_keys = sealed_keys;
    }
    Ok(Some(run.state.put(object)))
}
