//! The way in and the way out: Kubernetes' JSON to our objects and back.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::{ApiError, Cause, decoding_failed};
use super::read::At;
use super::resource::{kind_of, resource};
use super::{FieldValidation, config, event, meta, node, pod, pod_status, strict};
use crate::orchestrator::object::Namespace;
use crate::orchestrator::{Body, Kind, Object};

/// Kubernetes' JSON to our object. `namespace` is the path's (empty: the body's counts, else `default`). Unknown fields:
/// by `validation`; a known field that is not enforced here is a 422 that names it, always. Warnings come back for the
/// `Warning` header. `metadata.uid` and `metadata.resourceVersion` come along as preconditions; other metadata that the
/// server sets, status and placement do not.
///
/// Secrets: values are plain in the object returned (in `data` and `sealed_annotations`); the caller seals them before
/// they become a command.
pub fn decode(
    kind: Kind,
    namespace: &str,
    value: &Value,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    meta::check_type(kind, value)?;
    let object =
        read(kind, namespace, &At::root(value)).map_err(|cause| ApiError::invalid(kind, &name_in(value), &[cause]))?;
    let (unknown, mistyped) = match strict::unknown_fields(kind, value) {
        Ok(unknown) => (unknown, None),
        Err(why) => (std::collections::BTreeSet::new(), Some(why)),
    };
    // Unknown fields first, as in Kubernetes: a typing error is not a field that waits to be enforced.
    if validation == FieldValidation::Strict && !unknown.is_empty() {
        let said: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        return Err(decoding_failed(kind, &format!("strict decoding error: {}", said.join(", "))));
    }
    let causes = strict::not_enforced(kind, value, &encode(&object), &unknown);
    if !causes.is_empty() {
        return Err(ApiError::invalid(kind, &name_in(value), &causes));
    }
    if let Some(why) = mistyped {
        return Err(decoding_failed(kind, &why));
    }
    let warn = |path: &String| (validation == FieldValidation::Warn).then(|| format!("unknown field \"{path}\""));
    Ok((object, unknown.iter().filter_map(warn).collect()))
}

fn read(kind: Kind, namespace: &str, root: &At) -> Result<Object, Cause> {
    let mut meta = meta::decode(kind, namespace, root)?;
    let body = match kind {
        Kind::Namespace => Body::Namespace(Namespace::default()),
        Kind::Node => Body::Node(node::decode(root)?),
        Kind::Pod => Body::Pod(pod::decode(root)?),
        Kind::ConfigMap => Body::ConfigMap(config::decode_config_map(root)?),
        Kind::Secret => Body::Secret(config::decode_secret(root, &mut meta)?),
        Kind::Event => Body::Event(event::decode(root)?),
    };
    Ok(Object { meta, body })
}

/// The name for a message, before anything is known to be right.
fn name_in(value: &Value) -> String {
    let metadata = &value["metadata"];
    let name = metadata["name"].as_str().filter(|n| !n.is_empty());
    name.or_else(|| metadata["generateName"].as_str()).unwrap_or_default().to_owned()
}

/// Our object to Kubernetes' JSON, with `apiVersion` and `kind`. Secrets must hold plain values or none.
pub fn encode(object: &Object) -> Value {
    let mut out = Map::new();
    out.insert("apiVersion".into(), "v1".into());
    out.insert("kind".into(), resource(kind_of(object)).name.into());
    out.insert("metadata".into(), meta::encode(&object.meta));
    match &object.body {
        Body::Namespace(_) => {
            let phase = if object.meta.deleted.is_some() { "Terminating" } else { "Active" };
            out.insert("spec".into(), json!({}));
            out.insert("status".into(), json!({ "phase": phase }));
        }
        Body::Node(node) => {
            out.insert("spec".into(), node::encode_spec(node));
            out.insert("status".into(), node::encode_status(&object.meta, node));
        }
        Body::Pod(pod) => {
            out.insert("spec".into(), pod::encode_spec(&pod.spec));
            out.insert("status".into(), pod_status::encode(&object.meta, pod));
        }
        Body::ConfigMap(map) => config::encode_config_map(map, &mut out),
        Body::Secret(secret) => config::encode_secret(secret, &mut out),
        Body::Event(event) => event::encode(event, &mut out),
    }
    out.into()
}

/// A `kind: …List`.
pub fn encode_list(kind: Kind, objects: &[Arc<Object>], revision: u64) -> Value {
    let items: Vec<Value> = objects.iter().map(|object| encode(object)).collect();
    json!({
        "apiVersion": "v1", "kind": format!("{}List", resource(kind).name),
        "metadata": { "resourceVersion": revision.to_string() }, "items": items,
    })
}
