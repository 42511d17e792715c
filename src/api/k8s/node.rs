//! Nodes. They make themselves known; a client changes labels, annotations and `spec.unschedulable` alone.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::error::Cause;
use super::quantity::{print_cpu, print_memory};
use super::read::At;
use super::time::rfc3339;
use crate::base::{NodeId, UnixMillis, id::hex};
use crate::math::fixed::Fx;
use crate::orchestrator::Meta;
use crate::orchestrator::object::{Capacity, Node, NodeInfo, Policy, Ready};

/// Prefix of `spec.providerID`, before the node's key in hexadecimal.
const PROVIDER: &str = "entroos://";

/// Reads `spec.unschedulable` and the node's id. What a node says of itself (capacity, policy, …) is left empty: only
/// the node reports it, and `apply` keeps what was reported.
pub(super) fn decode(root: &At) -> Result<Node, Cause> {
    let (mut id, mut unschedulable) = (NodeId([0; 32]), false);
    if let Some(spec) = root.get("spec")? {
        unschedulable = spec.truth_of("unschedulable")?.unwrap_or(false);
        if let Some(at) = spec.get("providerID")? {
            id = parse_id(at.text()?).ok_or_else(|| at.wrong("is the node's own and cannot be changed"))?;
        }
    }
    Ok(Node {
        id,
        seal_key: [0; 32],
        unschedulable,
        ready: Ready { ready: false, reason: String::new(), message: String::new(), since: UnixMillis(0) },
        capacity: Capacity::default(),
        allocatable: Capacity::default(),
        policy: Policy::default(),
        info: NodeInfo::default(),
        address: String::new(),
        classes: std::collections::BTreeMap::new(),
        stake: 0,
        reliability: Fx::ZERO,
    })
}

fn parse_id(text: &str) -> Option<NodeId> {
    let digits = text.strip_prefix(PROVIDER).filter(|d| d.len() == 64 && d.is_ascii())?;
    let mut id = [0; 32];
    for (i, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(NodeId(id))
}

pub(super) fn encode_spec(node: &Node) -> Value {
    let mut out = json!({ "providerID": format!("{PROVIDER}{}", hex(&node.id.0)) });
    if node.unschedulable {
        out["unschedulable"] = true.into();
    }
    out
}

pub(super) fn encode_status(meta: &Meta, node: &Node) -> Value {
    json!({
        "capacity": capacity(&node.capacity),
        "allocatable": capacity(&node.allocatable),
        "conditions": [ready(&node.ready)],
        "addresses": addresses(meta, node),
        "nodeInfo": info(node),
    })
}

fn capacity(of: &Capacity) -> Value {
    let mut out = json!({
        "cpu": print_cpu(of.cpu), "memory": print_memory(of.memory), "pods": of.pods.to_string(),
    });
    if of.bandwidth != 0 {
        // Bits per second; not one of Kubernetes' resources, so under a name of its own.
        out["entroos.io/bandwidth"] = of.bandwidth.to_string().into();
    }
    out
}

fn ready(ready: &Ready) -> Value {
    json!({
        "type": "Ready", "status": if ready.ready { "True" } else { "False" },
        "reason": ready.reason, "message": ready.message,
        "lastTransitionTime": rfc3339(ready.since), "lastHeartbeatTime": rfc3339(ready.since),
    })
}

fn addresses(meta: &Meta, node: &Node) -> Vec<Value> {
    let mut out = Vec::new();
    if node.address.parse::<IpAddr>().is_ok() {
        out.push(json!({ "type": "InternalIP", "address": node.address }));
    } else if !node.address.is_empty() {
        out.push(json!({ "type": "InternalDNS", "address": node.address }));
    }
    let hostname = meta.labels.get("kubernetes.io/hostname").unwrap_or(&meta.name);
    out.push(json!({ "type": "Hostname", "address": hostname }));
    out
}

fn info(node: &Node) -> Value {
    let info = &node.info;
    let mut out = Map::new();
    for (key, text) in [
        ("architecture", &info.architecture),
        ("operatingSystem", &info.operating_system),
        ("kernelVersion", &info.kernel),
        ("osImage", &info.os_image),
        ("machineID", &info.machine_id),
        ("systemUUID", &info.machine_id),
        ("bootID", &info.boot_id),
        ("kubeletVersion", &info.version),
    ] {
        out.insert(key.into(), text.as_str().into());
    }
    out.insert("containerRuntimeVersion".into(), format!("entroos://{}", info.version).into());
    // Deprecated in Kubernetes and never true here; kubectl wants the field.
    out.insert("kubeProxyVersion".into(), "".into());
    out.into()
}
