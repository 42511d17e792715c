//! Config maps and secrets. A secret's values are plain here; the caller seals them before they become a command.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::Cause;
use super::meta::LAST_APPLIED;
use super::read::At;
use crate::orchestrator::Meta;
use crate::orchestrator::object::{ConfigMap, Secret};

pub(super) fn decode_config_map(root: &At) -> Result<ConfigMap, Cause> {
    Ok(ConfigMap {
        data: root.text_map_of("data")?,
        binary_data: base64_map(root, "binaryData")?,
        immutable: root.truth_of("immutable")?.unwrap_or(false),
    })
}

pub(super) fn encode_config_map(map: &ConfigMap, out: &mut Map<String, Value>) {
    if !map.data.is_empty() {
        out.insert("data".into(), json!(map.data));
    }
    if !map.binary_data.is_empty() {
        out.insert("binaryData".into(), print_base64(&map.binary_data));
    }
    if map.immutable {
        out.insert("immutable".into(), true.into());
    }
}

/// Takes the annotation that repeats the data out of `meta`.
pub(super) fn decode_secret(root: &At, meta: &mut Meta) -> Result<Secret, Cause> {
    let mut data = base64_map(root, "data")?;
    // Write-only, and wins over `data`, as in Kubernetes.
    data.extend(root.text_map_of("stringData")?.into_iter().map(|(key, text)| (key, text.into_bytes())));
    let kind = root.text_of("type")?;
    let sealed = meta.annotations.remove_entry(LAST_APPLIED);
    Ok(Secret {
        secret_type: if kind.is_empty() { "Opaque".into() } else { kind },
        data,
        sealed_annotations: sealed.into_iter().map(|(key, text)| (key, text.into_bytes())).collect(),
        immutable: root.truth_of("immutable")?.unwrap_or(false),
    })
}

pub(super) fn encode_secret(secret: &Secret, out: &mut Map<String, Value>) {
    out.insert("type".into(), secret.secret_type.as_str().into());
    if !secret.data.is_empty() {
        out.insert("data".into(), print_base64(&secret.data));
    }
    if secret.immutable {
        out.insert("immutable".into(), true.into());
    }
    // What is not text is not plain: it was not opened, and is not shown.
    for (key, value) in &secret.sealed_annotations {
        if let (Ok(text), Some(metadata)) =
            (std::str::from_utf8(value), out.get_mut("metadata").and_then(Value::as_object_mut))
        {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[key.as_str()] = text.into();
        }
    }
}

fn base64_map(root: &At, key: &str) -> Result<BTreeMap<String, Vec<u8>>, Cause> {
    let read = |(name, at): (&str, At)| {
        let bytes = STANDARD.decode(at.text()?).map_err(|_| at.wrong("must be base64 (RFC 4648, padded)"))?;
        Ok((name.to_owned(), bytes))
    };
    root.entries_of(key)?.into_iter().map(read).collect()
}

fn print_base64(data: &BTreeMap<String, Vec<u8>>) -> Value {
    data.iter().map(|(key, bytes)| (key.clone(), Value::String(STANDARD.encode(bytes)))).collect::<Map<_, _>>().into()
}
