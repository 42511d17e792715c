//! `kind: Table`: what `kubectl get` prints.

use std::sync::Arc;

use serde_json::{Value, json};

use super::codec::encode;
use super::meta;
use super::resource::kind_of;
use super::table_pod;
use super::time::age;
use crate::base::UnixMillis;
use crate::orchestrator::object::{Event, Node};
use crate::orchestrator::{Body, Kind, Meta, Object};

/// A column: its name, its type, whether only `-o wide` shows it, and what it means.
pub(super) type Column = (&'static str, &'static str, bool, &'static str);

const NAME: Column = ("Name", "string", false, "Name of the object, unique in its namespace.");
const AGE: Column = ("Age", "string", false, "Time since the object was created.");

const NAMESPACES: &[Column] = &[NAME, ("Status", "string", false, "Active, or Terminating while it goes."), AGE];
const CONFIG_MAPS: &[Column] = &[NAME, ("Data", "string", false, "How many keys it has."), AGE];
const SECRETS: &[Column] = &[
    NAME,
    ("Type", "string", false, "What the data is for."),
    ("Data", "string", false, "How many keys it has."),
    AGE,
];
const NODES: &[Column] = &[
    NAME,
    ("Status", "string", false, "Whether it can run pods."),
    ("Roles", "string", false, "From its labels node-role.kubernetes.io/…."),
    AGE,
    ("Version", "string", false, "Version of EntroOS it runs."),
    ("Internal-IP", "string", true, "Its address among the nodes."),
    ("External-IP", "string", true, "Its address for the world."),
    ("OS-Image", "string", true, "Its operating system."),
    ("Kernel-Version", "string", true, "Its kernel."),
    ("Container-Runtime", "string", true, "What runs its containers."),
];
const EVENTS: &[Column] = &[
    ("Last Seen", "string", false, "When it last happened."),
    ("Type", "string", false, "Normal or Warning."),
    ("Reason", "string", false, "Why, in one word."),
    ("Object", "string", false, "What it happened to."),
    ("Subobject", "string", true, "Which part of it."),
    ("Source", "string", true, "Who reported it."),
    ("Message", "string", false, "What happened."),
    ("First Seen", "string", true, "When it first happened."),
    ("Count", "string", true, "How often."),
    ("Name", "string", true, "Name of the event."),
];

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Namespace => NAMESPACES,
        Kind::Node => NODES,
        Kind::Pod => table_pod::COLUMNS,
        Kind::ConfigMap => CONFIG_MAPS,
        Kind::Secret => SECRETS,
        Kind::Event => EVENTS,
    }
}

/// `kind: Table`. `include`: `Metadata` (default), `Object`, `None`.
pub fn table(
    kind: Kind,
    objects: &[Arc<Object>],
    revision: u64,
    include: &str,
    headers: bool,
    now: UnixMillis,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(object, include, now)).collect();
    let columns: Vec<Value> = if headers { columns(kind).iter().map(definition).collect() } else { Vec::new() };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": revision.to_string() },
        "columnDefinitions": columns, "rows": rows,
    })
}

/// A table of one row, for one event of a watch. kubectl needs the headers in the first one only.
pub fn table_event(kind: Kind, object: &Arc<Object>, include: &str, headers: bool, now: UnixMillis) -> Value {
    table(kind, std::slice::from_ref(object), object.meta.revision, include, headers, now)
}

fn definition(&(name, kind, wide, description): &Column) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({
        "name": name, "type": kind, "format": format, "description": description, "priority": i32::from(wide),
    })
}

fn row(object: &Object, include: &str, now: UnixMillis) -> Value {
    let mut out = json!({ "cells": cells(object, now) });
    match include {
        "None" => {}
        "Object" => out["object"] = encode(object),
        // Sealed annotations are not among these, so a list of secrets needs no key.
        _ => {
            out["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta::encode(&object.meta),
            });
        }
    }
    out
}

fn cells(object: &Object, now: UnixMillis) -> Vec<Value> {
    let meta = &object.meta;
    let old = age(meta.created, now);
    let columns = columns(kind_of(object)).len();
    let cells = match &object.body {
        Body::Namespace(_) => {
            let status = if meta.deleted.is_some() { "Terminating" } else { "Active" };
            vec![meta.name.as_str().into(), status.into(), old.into()]
        }
        Body::ConfigMap(map) => {
            let count = map.data.len() + map.binary_data.len();
            vec![meta.name.as_str().into(), count.to_string().into(), old.into()]
        }
        Body::Secret(secret) => {
            let (kind, count) = (secret.secret_type.as_str(), secret.data.len());
            vec![meta.name.as_str().into(), kind.into(), count.to_string().into(), old.into()]
        }
        Body::Node(node) => node_cells(meta, node, old),
        Body::Pod(pod) => table_pod::cells(meta, pod, now),
        Body::Event(event) => event_cells(meta, event, now),
    };
    debug_assert_eq!(cells.len(), columns, "a cell for each column");
    cells
}

fn node_cells(meta: &Meta, node: &Node, old: String) -> Vec<Value> {
    let mut status = String::from(if node.ready.ready { "Ready" } else { "NotReady" });
    if node.unschedulable {
        status.push_str(",SchedulingDisabled");
    }
    let roles: Vec<&str> = meta
        .labels
        .keys()
        .filter_map(|k| k.strip_prefix("node-role.kubernetes.io/"))
        .filter(|r| !r.is_empty())
        .collect();
    let address = node.address.parse::<std::net::IpAddr>().map_or_else(|_| "<none>".into(), |ip| ip.to_string());
    let or_unknown = |text: &str| Value::from(if text.is_empty() { "<unknown>" } else { text });
    vec![
        meta.name.as_str().into(),
        status.into(),
        if roles.is_empty() { "<none>".into() } else { roles.join(",").into() },
        old.into(),
        or_unknown(&node.info.version),
        address.into(),
        "<none>".into(),
        or_unknown(&node.info.os_image),
        or_unknown(&node.info.kernel),
        format!("entroos://{}", node.info.version).into(),
    ]
}

fn event_cells(meta: &Meta, event: &Event, now: UnixMillis) -> Vec<Value> {
    let ago = |time: UnixMillis| if time.0 == 0 { "<unknown>".to_owned() } else { age(time, now) };
    let (first, mut last) = (ago(event.first), ago(event.last));
    if event.count > 1 {
        last = format!("{last} (x{} over {first})", event.count);
    }
    let object = format!("{}/{}", super::resource::resource(event.involved.kind).singular, event.involved.name);
    vec![
        last.into(),
        if event.note.warning { "Warning" } else { "Normal" }.into(),
        event.note.reason.as_str().into(),
        object.into(),
        "".into(),
        event.source.as_str().into(),
        event.note.message.trim().into(),
        first.into(),
        event.count.to_string().into(),
        meta.name.as_str().into(),
    ]
}
