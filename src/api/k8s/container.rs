//! One container of a pod, from Kubernetes' JSON and back, with the specification's extra fields.

use serde_json::{Map, Value, json};

use super::error::Cause;
use super::pod::{decode_security, encode_security};
use super::quantity::{parse_bandwidth, parse_cpu, parse_memory, print_bandwidth, print_cpu, print_memory};
use super::read::{At, brief};
use crate::orchestrator::object::{Container, EnvValue, EnvVar, Port, PullPolicy, Quantities, Security};

const PULL_POLICIES: [(&str, PullPolicy); 3] =
    [("Always", PullPolicy::Always), ("IfNotPresent", PullPolicy::IfNotPresent), ("Never", PullPolicy::Never)];
const PROTOCOLS: [(&str, &str); 3] = [("TCP", "TCP"), ("UDP", "UDP"), ("SCTP", "SCTP")];
const FIELDS: [&str; 7] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "status.hostIP",
    "status.podIP",
    "metadata.labels['KEY'], metadata.annotations['KEY']",
];
const RESOURCES: [&str; 4] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

pub(super) fn decode(at: &At) -> Result<Container, Cause> {
    let resources = at.get("resources")?;
    let of = |key: &str| resources.as_ref().map_or(Ok(Quantities::default()), |r| decode_quantities(r, key));
    let connectivity = at.get("connectivity_requirements")?;
    Ok(Container {
        name: at.required_text("name")?,
        image: at.text_of("image")?,
        pull_policy: at.choice_of("imagePullPolicy", &PULL_POLICIES)?.unwrap_or_default(),
        command: at.texts_of("command")?,
        args: at.texts_of("args")?,
        working_dir: at.text_of("workingDir")?,
        env: at.list_of("env")?.iter().map(decode_env).collect::<Result<_, _>>()?,
        ports: at.list_of("ports")?.iter().map(decode_port).collect::<Result<_, _>>()?,
        requests: of("requests")?,
        limits: of("limits")?,
        requirements: decode_quantities(at, "resource_requirements")?,
        bandwidth_min: connectivity.map(|c| decode_bandwidth(&c)).transpose()?.flatten(),
        security: at.get("securityContext")?.map_or(Ok(Security::default()), |s| decode_security(&s, true))?,
        stdin: at.truth_of("stdin")?.unwrap_or(false),
        stdin_once: at.truth_of("stdinOnce")?.unwrap_or(false),
        tty: at.truth_of("tty")?.unwrap_or(false),
    })
}

/// `cpu` and `memory` of the object at `key`; whatever else is in it is for the comparison to name.
fn decode_quantities(at: &At, key: &str) -> Result<Quantities, Cause> {
    let Some(at) = at.get(key)? else { return Ok(Quantities::default()) };
    let cpu = at.get("cpu")?.map(|at| {
        let message = "must be a number of cores such as 0.5, or thousandths of one such as 500m";
        at.decimal_text()
            .and_then(|t| parse_cpu(&t).ok_or_else(|| at.wrong(format!("{message}; is {}", brief(at.value)))))
    });
    let memory = at.get("memory")?.map(|at| {
        let message = "must be a number of bytes such as 256Mi, 1.5Gi or 268435456";
        at.decimal_text()
            .and_then(|t| parse_memory(&t).ok_or_else(|| at.wrong(format!("{message}; is {}", brief(at.value)))))
    });
    Ok(Quantities { cpu: cpu.transpose()?, memory: memory.transpose()? })
}

fn decode_bandwidth(at: &At) -> Result<Option<u64>, Cause> {
    let Some(at) = at.get("bandwidth_min")? else { return Ok(None) };
    let wrong = || {
        at.wrong(format!(
            "must be a bandwidth such as \"10Mbps\" (units bps, kbps, Mbps, Gbps), is {}",
            brief(at.value)
        ))
    };
    at.value.as_str().and_then(parse_bandwidth).map(Some).ok_or_else(wrong)
}

fn decode_port(at: &At) -> Result<Port, Cause> {
    let number = at.number_of("containerPort", 1, u64::from(u16::MAX))?;
    let number =
        number.ok_or_else(|| Cause::required(at.child_path("containerPort"), "is required, from 1 to 65535"))?;
    Ok(Port {
        name: at.text_of("name")?,
        container_port: u16::try_from(number).unwrap_or_default(),
        protocol: at.choice_of("protocol", &PROTOCOLS)?.unwrap_or("TCP").to_owned(),
    })
}

fn decode_env(at: &At) -> Result<EnvVar, Cause> {
    let name = at.required_text("name")?;
    let literal = at.text_of("value")?;
    let Some(from) = at.get("valueFrom")?.filter(|from| !super::read::is_empty(from.value)) else {
        return Ok(EnvVar { name, value: EnvValue::Literal(literal) });
    };
    if !literal.is_empty() {
        return Err(from.wrong("may not be given together with value"));
    }
    let key_ref = |at: &At| -> Result<(String, String, bool), Cause> {
        Ok((at.required_text("name")?, at.required_text("key")?, at.truth_of("optional")?.unwrap_or(false)))
    };
    let mut found = Vec::new();
    if let Some(at) = from.get("configMapKeyRef")? {
        let (name, key, optional) = key_ref(&at)?;
        found.push(EnvValue::ConfigMapKey { name, key, optional });
    }
    if let Some(at) = from.get("secretKeyRef")? {
        let (name, key, optional) = key_ref(&at)?;
        found.push(EnvValue::SecretKey { name, key, optional });
    }
    if let Some(at) = from.get("fieldRef")? {
        found.push(EnvValue::Field(allowed(&at, "fieldPath", &FIELDS, is_field)?));
    }
    if let Some(at) = from.get("resourceFieldRef")? {
        let resource = allowed(&at, "resource", &RESOURCES, |text| RESOURCES.contains(&text))?;
        found.push(EnvValue::Resource { container: at.text_of("containerName")?, resource });
    }
    match (found.pop(), found.is_empty()) {
        (Some(value), true) => Ok(EnvVar { name, value }),
        (None, _) => Err(from.wrong(
            "this version reads configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef; give one of them",
        )),
        (Some(_), false) => Err(from.wrong("may name one source only")),
    }
}

fn allowed(at: &At, key: &str, words: &[&str], is_one: impl Fn(&str) -> bool) -> Result<String, Cause> {
    let text = at.required_text(key)?;
    if is_one(&text) {
        return Ok(text);
    }
    let message = format!("\"{text}\" is not supported; allowed: {}", words.join(", "));
    Err(Cause { reason: "FieldValueNotSupported", field: at.child_path(key), message })
}

fn is_field(text: &str) -> bool {
    let keyed = ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| {
        text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']")).is_some_and(|key| !key.is_empty())
    });
    keyed || FIELDS[..6].contains(&text)
}

/// Prints a container.
pub(super) fn encode(container: &Container) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), container.name.as_str().into());
    for (key, text) in [("image", &container.image), ("workingDir", &container.working_dir)] {
        if !text.is_empty() {
            out.insert(key.into(), text.as_str().into());
        }
    }
    let policy = PULL_POLICIES.iter().find(|(_, p)| *p == container.pull_policy).map_or("", |(word, _)| word);
    out.insert("imagePullPolicy".into(), policy.into());
    for (key, list) in [("command", &container.command), ("args", &container.args)] {
        if !list.is_empty() {
            out.insert(key.into(), json!(list));
        }
    }
    if !container.env.is_empty() {
        out.insert("env".into(), container.env.iter().map(encode_env).collect());
    }
    if !container.ports.is_empty() {
        out.insert("ports".into(), container.ports.iter().map(encode_port).collect());
    }
    let mut resources = Map::new();
    for (key, quantities) in [("requests", container.requests), ("limits", container.limits)] {
        if quantities != Quantities::default() {
            resources.insert(key.into(), encode_quantities(quantities));
        }
    }
    out.insert("resources".into(), resources.into());
    if container.requirements != Quantities::default() {
        out.insert("resource_requirements".into(), encode_quantities(container.requirements));
    }
    if let Some(bits) = container.bandwidth_min {
        out.insert("connectivity_requirements".into(), json!({ "bandwidth_min": print_bandwidth(bits) }));
    }
    if container.security != Security::default() {
        out.insert("securityContext".into(), encode_security(&container.security));
    }
    for (key, truth) in [("stdin", container.stdin), ("stdinOnce", container.stdin_once), ("tty", container.tty)] {
        if truth {
            out.insert(key.into(), true.into());
        }
    }
    out.into()
}

pub(super) fn encode_quantities(quantities: Quantities) -> Value {
    let mut out = Map::new();
    if let Some(cpu) = quantities.cpu {
        out.insert("cpu".into(), print_cpu(cpu).into());
    }
    if let Some(memory) = quantities.memory {
        out.insert("memory".into(), print_memory(memory).into());
    }
    out.into()
}

fn encode_port(port: &Port) -> Value {
    let mut out = json!({ "containerPort": port.container_port, "protocol": port.protocol });
    if !port.name.is_empty() {
        out["name"] = port.name.as_str().into();
    }
    out
}

fn encode_env(env: &EnvVar) -> Value {
    let key_ref = |name: &str, key: &str, optional: bool| {
        let mut out = json!({ "name": name, "key": key });
        if optional {
            out["optional"] = true.into();
        }
        out
    };
    let from = match &env.value {
        EnvValue::Literal(text) if text.is_empty() => return json!({ "name": env.name }),
        EnvValue::Literal(text) => return json!({ "name": env.name, "value": text }),
        EnvValue::ConfigMapKey { name, key, optional } => json!({ "configMapKeyRef": key_ref(name, key, *optional) }),
        EnvValue::SecretKey { name, key, optional } => json!({ "secretKeyRef": key_ref(name, key, *optional) }),
        EnvValue::Field(path) => json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": path } }),
        EnvValue::Resource { container, resource } if container.is_empty() => {
            json!({ "resourceFieldRef": { "resource": resource } })
        }
        EnvValue::Resource { container, resource } => {
            json!({ "resourceFieldRef": { "containerName": container, "resource": resource } })
        }
    };
    json!({ "name": env.name, "valueFrom": from })
}
