//! `metadata`, `apiVersion` and `kind`.

use serde_json::{Map, Value, json};

use super::error::{ApiError, Cause};
use super::read::At;
use super::resource::resource;
use super::time::rfc3339;
use crate::base::Uid;
use crate::orchestrator::{Kind, Meta};

/// kubectl keeps a whole copy of what it applied in this annotation: of a Secret, its data.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `apiVersion` and `kind` may be absent, but not be another's.
pub(super) fn check_type(kind: Kind, value: &Value) -> Result<(), ApiError> {
    let name = resource(kind).name;
    let object = value.as_object().ok_or_else(|| {
        ApiError::bad_request(format!("the body must be a {name} as an object, is {}", super::read::brief(value)))
    })?;
    for (field, expected) in [("apiVersion", "v1"), ("kind", name)] {
        match object.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() || text == expected => {}
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "{field}: must be \"{expected}\" on this path, is {}",
                    super::read::brief(other)
                )));
            }
        }
    }
    Ok(())
}

/// Reads `metadata`. `uid` and `resourceVersion` come along as the caller's preconditions; other fields that only the
/// server sets are left at their defaults. `namespace` is the path's; where it is empty the body's counts, else `default`.
pub(super) fn decode(kind: Kind, namespace: &str, root: &At) -> Result<Meta, Cause> {
    let empty = json!({});
    let at = root.get("metadata")?.unwrap_or(At { path: "metadata".into(), value: &empty });
    let mut meta = Meta {
        name: at.text_of("name")?,
        generate_name: at.text_of("generateName")?,
        labels: at.text_map_of("labels")?,
        annotations: at.text_map_of("annotations")?,
        ..Meta::default()
    };
    if meta.name.is_empty() && meta.generate_name.is_empty() {
        return Err(Cause::required("metadata.name", "name or generateName is required"));
    }
    let said = at.text_of("namespace")?;
    if kind.namespaced() {
        meta.namespace = match (namespace, said.as_str()) {
            ("", "") => "default".into(),
            ("", said) => said.into(),
            (path, said) if said.is_empty() || said == path => path.into(),
            (path, said) => {
                let message = format!("\"{said}\" does not match \"{path}\", the namespace of the request's path");
                return Err(Cause::invalid("metadata.namespace", message));
            }
        };
    } else if !said.is_empty() {
        let message = format!("a {} is in no namespace; remove it", resource(kind).name);
        return Err(Cause::invalid("metadata.namespace", message));
    }
    let uid = at.text_of("uid")?;
    if !uid.is_empty() {
        meta.uid = Uid::parse(&uid).ok_or_else(|| Cause::invalid("metadata.uid", "must be a UUID, or absent"))?;
    }
    let revision = at.text_of("resourceVersion")?;
    if !revision.is_empty() {
        meta.revision = revision
            .parse()
            .map_err(|_| Cause::invalid("metadata.resourceVersion", "must be a number as text, or absent"))?;
    }
    Ok(meta)
}

/// Prints `metadata`.
pub(super) fn encode(meta: &Meta) -> Value {
    let mut out = Map::new();
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            out.insert(key.into(), value.into());
        }
    };
    text("name", &meta.name);
    text("namespace", &meta.namespace);
    text("generateName", &meta.generate_name);
    if meta.uid != Uid::default() {
        out.insert("uid".into(), meta.uid.to_string().into());
    }
    if meta.revision != 0 {
        out.insert("resourceVersion".into(), meta.revision.to_string().into());
    }
    if meta.generation != 0 {
        out.insert("generation".into(), meta.generation.into());
    }
    let created = (meta.created.0 != 0).then(|| rfc3339(meta.created));
    out.insert("creationTimestamp".into(), created.into());
    if let Some(deletion) = meta.deleted {
        out.insert("deletionTimestamp".into(), rfc3339(deletion.due).into());
        out.insert("deletionGracePeriodSeconds".into(), deletion.grace_seconds.into());
    }
    for (key, map) in [("labels", &meta.labels), ("annotations", &meta.annotations)] {
        if !map.is_empty() {
            out.insert(key.into(), json!(map));
        }
    }
    out.into()
}
