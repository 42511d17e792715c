//! Secrets: sealed before they become a command, unsealed for the operator alone.
//!
//! Values are encrypted under their namespace's key, which the `Namespace` object keeps sealed to each node that may run
//! its pods; the first secret of a namespace makes the key. A ciphertext is bound to its place ([`data_context`]), so
//! that it cannot be moved to another secret and read there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::Context;
use super::door::Caller;
use super::error;
use super::k8s::ApiError;
use crate::base::NodeId;
use crate::base::seal::NamespaceKey;
use crate::orchestrator::object::Secret;
use crate::orchestrator::{Body, Command, Key, Kind, Object, Principal, State};

/// The place of a value, authenticated with it.
pub fn data_context(namespace: &str, name: &str, key: &str) -> String {
    format!("{namespace}/{name}/{key}")
}

/// The place of a sealed annotation; no data key can have this form, for those hold no slash.
pub fn annotation_context(namespace: &str, name: &str, key: &str) -> String {
    format!("{namespace}/{name}/metadata/annotations/{key}")
}

/// Puts ciphertext in the place of every value of a secret; other objects stay as they are. Values that `old` (the
/// sealed object this one replaces) holds already keep their ciphertext, so that an equal secret is no change.
pub(super) async fn seal(
    context: &Context,
    object: &mut Object,
    old: Option<&Object>,
    dry_run: bool,
) -> Result<(), ApiError> {
    let Body::Secret(secret) = &mut object.body else { return Ok(()) };
    if object.meta.name.is_empty() {
        complete_name(&mut object.meta.name, &object.meta.generate_name)?;
    }
    let (namespace, name) = (object.meta.namespace.clone(), object.meta.name.clone());
    let key = namespace_key(context, &namespace, dry_run).await?;
    let old = old.and_then(|old| if let Body::Secret(secret) = &old.body { Some(secret) } else { None });
    let values = secret
        .data
        .iter_mut()
        .map(|(k, v)| (data_context(&namespace, &name, k), old.and_then(|old| old.data.get(k)), v));
    let annotations = secret
        .sealed_annotations
        .iter_mut()
        .map(|(k, v)| (annotation_context(&namespace, &name, k), old.and_then(|old| old.sealed_annotations.get(k)), v));
    for (place, before, value) in values.chain(annotations) {
        let same = before.filter(|sealed| key.decrypt(&place, sealed).is_ok_and(|plain| plain == *value));
        *value = match same {
            Some(sealed) => sealed.clone(),
            None => key
                .encrypt(&place, value)
                .map_err(|e| error::internal(format!("a secret's value cannot be sealed: {}", error::chain(&e))))?,
        };
    }
    Ok(())
}

/// The state machine completes generated names, but a value is sealed to its full name before it gets there.
fn complete_name(name: &mut String, prefix: &str) -> Result<(), ApiError> {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    if prefix.is_empty() {
        return Err(error::bad_request("metadata.name: a name or metadata.generateName is required"));
    }
    let random: [u8; 5] =
        crate::base::key::random().map_err(|e| error::internal(format!("the machine has no randomness: {e}")))?;
    name.push_str(prefix);
    name.extend(random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])));
    Ok(())
}

/// The namespace's key; made now where there is none yet.
async fn namespace_key(context: &Context, namespace: &str, dry_run: bool) -> Result<NamespaceKey, ApiError> {
    // Twice: where somebody else made the key meanwhile ours is refused, and theirs is there.
    for last in [false, true] {
        let snapshot = context.api.client.snapshot();
        if let Some(key) = open(context, &snapshot.state, namespace)? {
            return Ok(key);
        }
        let key = NamespaceKey::generate().map_err(|e| error::internal(format!("no randomness for a key: {e}")))?;
        if dry_run {
            return Ok(key);
        }
        let sealed_keys = key
            .seal_to(&seal_keys(context, &snapshot.state))
            .map_err(|e| error::internal(format!("a namespace key cannot be sealed: {}", error::chain(&e))))?;
        let command = Command::SealNamespace { namespace: namespace.into(), sealed_keys };
        let at = namespace_object(namespace);
        match context.submit(Principal::Node(context.api.node), &at, &command).await {
            Ok(_) => return Ok(key),
            Err(refused) if last || refused.code == 404 => return Err(refused),
            Err(_) => {}
        }
    }
    Err(error::conflict("the namespace's key changed twice; try again"))
}

/// The seal keys of all nodes, this one's surely among them.
fn seal_keys(context: &Context, state: &State) -> BTreeMap<NodeId, [u8; 32]> {
    let mut keys: BTreeMap<NodeId, [u8; 32]> = state
        .list(Kind::Node, None)
        .filter_map(|object| if let Body::Node(node) = &object.body { Some((node.id, node.seal_key)) } else { None })
        .collect();
    keys.insert(context.api.node, context.api.seal.public());
    keys
}

fn namespace_object(namespace: &str) -> Key {
    Key { kind: Kind::Namespace, namespace: String::new(), name: namespace.into() }
}

/// The namespace's key, if it has one. An error where it was not sealed to this node.
fn open(context: &Context, state: &State, namespace: &str) -> Result<Option<NamespaceKey>, ApiError> {
    let Some(object) = state.get(&namespace_object(namespace)) else { return Ok(None) };
    let Body::Namespace(body) = &object.body else { return Ok(None) };
    if body.sealed_keys.is_empty() {
        return Ok(None);
    }
    let sealed = body.sealed_keys.get(&context.api.node).ok_or_else(|| {
        error::unavailable(format!(
            "the secrets of namespace {namespace:?} are not sealed to this node; ask a node that was part of the cluster \
             when its first secret was made"
        ))
    })?;
    context.api.seal.open(sealed).map(Some).map_err(|e| {
        error::internal(format!(
            "the key of namespace {namespace:?} cannot be opened (was `seal.key` in the data directory replaced?): {}",
            error::chain(&e)
        ))
    })
}

/// A secret with its values in plain text.
pub(super) fn unseal(context: &Context, state: &State, object: &Object) -> Result<Object, ApiError> {
    Reader { context, caller: None, keys: BTreeMap::new(), warnings: BTreeSet::new() }.unsealed(state, object)
}

/// Shows objects to a caller: secrets as far as he may see them, all else as it is.
pub(super) struct Reader<'a> {
    context: &'a Context,
    caller: Option<Caller>,
    keys: BTreeMap<String, NamespaceKey>,
    /// For the `Warning` header.
    warnings: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(context: &'a Context, caller: Caller) -> Self {
        Self { context, caller: Some(caller), keys: BTreeMap::new(), warnings: BTreeSet::new() }
    }

    /// `values`: whether what is printed holds values at all. A table counts them only, and needs no key for that.
    pub fn show(&mut self, state: &State, object: &Arc<Object>, values: bool) -> Arc<Object> {
        let Body::Secret(_) = &object.body else { return Arc::clone(object) };
        if !values {
            return Arc::new(without(object, false));
        }
        if !self.caller.is_some_and(Caller::is_operator) {
            self.warnings.insert(format!(
                "the values of Secrets are left out, for the loopback port is open to everybody on this machine: {}",
                self.context.cure()
            ));
            return Arc::new(without(object, true));
        }
        self.unsealed(state, object).map_or_else(
            |refused| {
                self.warnings.insert(refused.message);
                Arc::new(without(object, true))
            },
            Arc::new,
        )
    }

    pub fn warnings(self) -> impl Iterator<Item = String> {
        self.warnings.into_iter()
    }

    fn unsealed(&mut self, state: &State, object: &Object) -> Result<Object, ApiError> {
        let mut plain = object.clone();
        let Body::Secret(secret) = &mut plain.body else { return Ok(plain) };
        if secret.data.is_empty() && secret.sealed_annotations.is_empty() {
            return Ok(plain);
        }
        let (namespace, name) = (&object.meta.namespace, &object.meta.name);
        if !self.keys.contains_key(namespace)
            && let Some(key) = open(self.context, state, namespace)?
        {
            self.keys.insert(namespace.clone(), key);
        }
        let Some(key) = self.keys.get(namespace) else {
            return Err(error::unavailable(format!(
                "the key of namespace {namespace:?} is gone, and its secrets with it"
            )));
        };
        unseal_with(key, secret, namespace, name).map_err(|e| {
            error::internal(format!("secret {namespace}/{name} cannot be unsealed: {}", error::chain(&e)))
        })?;
        Ok(plain)
    }
}

fn unseal_with(
    key: &NamespaceKey,
    secret: &mut Secret,
    namespace: &str,
    name: &str,
) -> Result<(), crate::base::seal::Error> {
    for (field, value) in &mut secret.data {
        *value = key.decrypt(&data_context(namespace, name, field), value)?;
    }
    for (field, value) in &mut secret.sealed_annotations {
        *value = key.decrypt(&annotation_context(namespace, name, field), value)?;
    }
    Ok(())
}

/// The secret without its annotations that repeat the data, and without the data.
fn without(object: &Object, data: bool) -> Object {
    let mut object = object.clone();
    if let Body::Secret(secret) = &mut object.body {
        secret.sealed_annotations.clear();
        if data {
            secret.data.clear();
        }
    }
    object
}
