//! What an object must be to enter the state. The API parses; this decides, on every node.

use std::collections::BTreeSet;

use super::command::Refusal;
use super::names::{self, invalid};
use super::object::{
    Body, Capacity, ConfigMap, Container, EnvValue, Kind, Meta, Node, Object, Pod, PodSpec, PodStatus, Port,
    Quantities, Secret,
};
use crate::base::codec;
use crate::math::fixed::Fx;

/// Most bytes of an object as its maker gives it.
pub const OBJECT_MAX: usize = 1024 * 1024;
/// Most bytes of the data of a `ConfigMap` or Secret.
pub const DATA_MAX: usize = OBJECT_MAX;
pub const CONTAINERS_MAX: usize = 128;
/// Most of any quantity one container may ask for or one node may have: sums over a network stay far below `u64::MAX`.
pub const QUANTITY_MAX: u64 = 1 << 50;
/// Most pods a node may take.
pub const NODE_PODS_MAX: u64 = 1 << 20;
/// Ten years.
pub const GRACE_SECONDS_MAX: u64 = 315_360_000;
const IMAGE_NAME_MAX: usize = 1_024;
const NODE_TEXT_MAX: usize = 4_096;
const CLASSES_MAX: usize = 16;

/// Downward API fields without an argument.
const FIELDS: [&str; 6] =
    ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.hostIP", "status.podIP"];
const RESOURCES: [&str; 4] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Checks an object that is to be created or to take the place of another, and strips what only `apply` may set.
pub fn admit(object: &mut Object) -> Result<(), Refusal> {
    meta(object.kind(), &object.meta)?;
    match &mut object.body {
        Body::Namespace(namespace) => namespace.sealed_keys.clear(),
        Body::Pod(pod) => {
            pod.status = PodStatus::default();
            pod.placement = None;
            pod_spec(pod)?;
        }
        Body::ConfigMap(map) => config_map(map)?,
        Body::Secret(secret) => self::secret(secret)?,
        Body::Node(_) => {}
        Body::Event(_) => {
            return Err(invalid(
                "kind",
                "events are written by nodes and the scheduler: they cannot be made or changed",
            ));
        }
    }
    size(object)
}

/// Whether the object is within [`OBJECT_MAX`].
pub fn size(object: &Object) -> Result<(), Refusal> {
    codec::encode::<OBJECT_MAX, _>(object)
        .map(drop)
        .map_err(|_| invalid("metadata", format!("the object is larger than {OBJECT_MAX} bytes: make it smaller")))
}

fn meta(kind: Kind, meta: &Meta) -> Result<(), Refusal> {
    match kind {
        Kind::Namespace => names::label("metadata.name", &meta.name)?,
        _ => names::subdomain("metadata.name", &meta.name)?,
    }
    if kind.namespaced() {
        names::label("metadata.namespace", &meta.namespace)?;
    } else if !meta.namespace.is_empty() {
        return Err(invalid("metadata.namespace", "objects of this kind live in no namespace: leave it out"));
    }
    names::labels("metadata.labels", &meta.labels)?;
    names::annotations("metadata.annotations", &meta.annotations)
}

fn config_map(map: &ConfigMap) -> Result<(), Refusal> {
    for key in map.data.keys() {
        names::data_key(&format!("data[{key}]"), key)?;
    }
    for key in map.binary_data.keys() {
        let field = format!("binaryData[{key}]");
        names::data_key(&field, key)?;
        if map.data.contains_key(key) {
            return Err(invalid(field, "stands in data too: give the key once"));
        }
    }
    Ok(())
}

fn secret(secret: &mut Secret) -> Result<(), Refusal> {
    if secret.secret_type.is_empty() {
        "Opaque".clone_into(&mut secret.secret_type);
    }
    if secret.secret_type.len() > names::SUBDOMAIN_MAX {
        return Err(invalid("type", "is longer than 253 characters: use a shorter one, such as 'Opaque'"));
    }
    for key in secret.data.keys() {
        names::data_key(&format!("data[{key}]"), key)?;
    }
    Ok(())
}

fn pod_spec(pod: &Pod) -> Result<(), Refusal> {
    let PodSpec { containers, grace_seconds, hostname, node_selector, node_name, constraints, .. } = &pod.spec;
    if containers.is_empty() {
        return Err(invalid("spec.containers", "is required: give at least one container"));
    }
    if containers.len() > CONTAINERS_MAX {
        return Err(invalid("spec.containers", format!("a pod may have {CONTAINERS_MAX} containers at most")));
    }
    let mut seen = BTreeSet::new();
    for (i, one) in containers.iter().enumerate() {
        let field = format!("spec.containers[{i}]");
        container(&field, one, containers)?;
        if !seen.insert(&one.name) {
            return Err(invalid(format!("{field}.name"), format!("{:?} names two containers: rename one", one.name)));
        }
    }
    if *grace_seconds > GRACE_SECONDS_MAX {
        let message = format!("must be at most {GRACE_SECONDS_MAX} seconds");
        return Err(invalid("spec.terminationGracePeriodSeconds", message));
    }
    if !hostname.is_empty() {
        names::label("spec.hostname", hostname)?;
    }
    names::labels("spec.nodeSelector", node_selector)?;
    if !node_name.is_empty() {
        names::subdomain("spec.nodeName", node_name)?;
    }
    if constraints.entropy_score.is_some_and(|least| least < Fx::ZERO || least > Fx::ONE) {
        return Err(invalid("spec.constraints.entropy_score", "must be between 0 and 1, such as 0.8"));
    }
    Ok(())
}

fn container(field: &str, container: &Container, siblings: &[Container]) -> Result<(), Refusal> {
    names::label(&format!("{field}.name"), &container.name)?;
    image(&format!("{field}.image"), &container.image)?;
    for (name, list) in [("command", &container.command), ("args", &container.args)] {
        for (i, text) in list.iter().enumerate() {
            names::no_nul(&format!("{field}.{name}[{i}]"), text)?;
        }
    }
    names::no_nul(&format!("{field}.workingDir"), &container.working_dir)?;
    for (i, variable) in container.env.iter().enumerate() {
        let field = format!("{field}.env[{i}]");
        names::env_name(&format!("{field}.name"), &variable.name)?;
        env_value(&field, &variable.value, siblings)?;
    }
    ports(field, &container.ports)?;
    quantities(&format!("{field}.resources.requests"), container.requests)?;
    quantities(&format!("{field}.resources.limits"), container.limits)?;
    quantities(&format!("{field}.resource_requirements"), container.requirements)?;
    requests_within_limits(field, container)?;
    if container.bandwidth_min.is_some_and(|bits| bits > QUANTITY_MAX) {
        let message = format!("must be at most {QUANTITY_MAX} bits per second");
        return Err(invalid(format!("{field}.connectivity_requirements.bandwidth_min"), message));
    }
    Ok(())
}

/// The reference is resolved on the node; here only what no reference can be is refused.
fn image(field: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > IMAGE_NAME_MAX || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let rule = "1024 characters at most, without spaces, such as 'docker.io/library/alpine:latest'";
        return Err(invalid(field, format!("is not an image reference: use {rule}")));
    }
    Ok(())
}

fn env_value(field: &str, value: &EnvValue, siblings: &[Container]) -> Result<(), Refusal> {
    match value {
        EnvValue::Literal(text) => names::no_nul(&format!("{field}.value"), text),
        EnvValue::ConfigMapKey { name, key, .. } => {
            names::subdomain(&format!("{field}.valueFrom.configMapKeyRef.name"), name)?;
            names::data_key(&format!("{field}.valueFrom.configMapKeyRef.key"), key)
        }
        EnvValue::SecretKey { name, key, .. } => {
            names::subdomain(&format!("{field}.valueFrom.secretKeyRef.name"), name)?;
            names::data_key(&format!("{field}.valueFrom.secretKeyRef.key"), key)
        }
        EnvValue::Field(path) => {
            let subscript = ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| {
                path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']")).is_some_and(|key| !key.is_empty())
            });
            if subscript || FIELDS.contains(&path.as_str()) {
                return Ok(());
            }
            let known = format!("{}, metadata.labels['KEY'] or metadata.annotations['KEY']", FIELDS.join(", "));
            Err(invalid(format!("{field}.valueFrom.fieldRef.fieldPath"), format!("{path:?} is not known: use {known}")))
        }
        EnvValue::Resource { container, resource } => {
            let field = format!("{field}.valueFrom.resourceFieldRef");
            if !container.is_empty() && !siblings.iter().any(|sibling| sibling.name == *container) {
                let message = format!("the pod has no container {container:?}: name one of it, or none for this one");
                return Err(invalid(format!("{field}.containerName"), message));
            }
            if RESOURCES.contains(&resource.as_str()) {
                return Ok(());
            }
            let message = format!("{resource:?} is not known: use {}", RESOURCES.join(", "));
            Err(invalid(format!("{field}.resource"), message))
        }
    }
}

fn ports(field: &str, ports: &[Port]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let field = format!("{field}.ports[{i}]");
        if port.container_port == 0 {
            return Err(invalid(format!("{field}.containerPort"), "must be between 1 and 65535"));
        }
        if !matches!(port.protocol.as_str(), "TCP" | "UDP" | "SCTP") {
            let message = format!("{:?} is not known: use TCP, UDP or SCTP", port.protocol);
            return Err(invalid(format!("{field}.protocol"), message));
        }
        if !port.name.is_empty() {
            names::port_name(&format!("{field}.name"), &port.name)?;
            if !seen.insert(&port.name) {
                let message = format!("{:?} names two ports: rename one", port.name);
                return Err(invalid(format!("{field}.name"), message));
            }
        }
    }
    Ok(())
}

fn quantities(field: &str, quantities: Quantities) -> Result<(), Refusal> {
    if quantities.cpu.is_some_and(|cpu| cpu.0 > QUANTITY_MAX) {
        return Err(invalid(format!("{field}.cpu"), format!("must be at most {QUANTITY_MAX} millicores")));
    }
    if quantities.memory.is_some_and(|memory| memory.0 > QUANTITY_MAX) {
        return Err(invalid(format!("{field}.memory"), format!("must be at most {QUANTITY_MAX} bytes")));
    }
    Ok(())
}

fn requests_within_limits(field: &str, container: &Container) -> Result<(), Refusal> {
    let (requests, limits) = (container.effective_requests(), container.effective_limits());
    let over = |request: Option<u64>, limit: Option<u64>| Some((request?, limit?)).filter(|(r, l)| r > l);
    let cpu = over(requests.cpu.map(|cpu| cpu.0), limits.cpu.map(|cpu| cpu.0));
    let memory = over(requests.memory.map(|memory| memory.0), limits.memory.map(|memory| memory.0));
    for (name, unit, over) in [("cpu", "m", cpu), ("memory", "", memory)] {
        if let Some((request, limit)) = over {
            let message =
                format!("{request}{unit} is more than the limit of {limit}{unit}: lower it or raise the limit");
            return Err(invalid(format!("{field}.resources.requests.{name}"), message));
        }
    }
    Ok(())
}

/// What a node says of itself.
pub fn node(name: &str, node: &Node) -> Result<(), Refusal> {
    names::subdomain("metadata.name", name)?;
    for (field, capacity) in [("status.capacity", node.capacity), ("status.allocatable", node.allocatable)] {
        let Capacity { cpu, memory, pods, bandwidth } = capacity;
        if cpu.0 > QUANTITY_MAX || memory.0 > QUANTITY_MAX || pods > NODE_PODS_MAX || bandwidth > QUANTITY_MAX {
            return Err(invalid(field, format!("is beyond {QUANTITY_MAX} of a resource or {NODE_PODS_MAX} pods")));
        }
    }
    if node.reliability <= Fx::ZERO || node.reliability > Fx::ONE {
        return Err(invalid("status.reliability", "must be above 0 and at most 1"));
    }
    if node.stake > QUANTITY_MAX {
        return Err(invalid("status.stake", format!("must be at most {QUANTITY_MAX} millionths")));
    }
    if node.classes.len() > CLASSES_MAX {
        return Err(invalid("status.classes", format!("may name {CLASSES_MAX} dimensions at most")));
    }
    let texts = node.classes.iter().flat_map(|(dimension, class)| [dimension, class]);
    let texts = texts.chain([&node.address, &node.ready.reason, &node.ready.message]);
    if texts.map(String::len).max().unwrap_or_default() > NODE_TEXT_MAX {
        return Err(invalid("status", format!("holds a text of more than {NODE_TEXT_MAX} bytes")));
    }
    Ok(())
}
