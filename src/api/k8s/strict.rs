//! Nothing is ignored: what a body says and our own rendering of the parsed object does not is refused by name.
//!
//! Two questions, two sources. Whether Kubernetes knows a field at all is asked of its own types (k8s-openapi, by
//! `serde_ignored`). Whether we enforce a field it knows is not listed anywhere, so that no list can be forgotten: the
//! object is rendered again and compared with what came.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Cause;
use super::read::{is_empty, join};
use crate::orchestrator::Kind;

/// Paths of the fields Kubernetes does not know (and that are not the specification's three), or why the body is not
/// of Kubernetes' types.
pub(super) fn unknown_fields(kind: Kind, value: &Value) -> Result<BTreeSet<String>, String> {
    let mut plain = value.clone();
    normalise(&mut plain);
    let mut unknown = match kind {
        Kind::Namespace => ignored::<core::Namespace>(&plain),
        Kind::Node => ignored::<core::Node>(&plain),
        Kind::Pod => ignored::<core::Pod>(&plain),
        Kind::ConfigMap => ignored::<core::ConfigMap>(&plain),
        Kind::Secret => ignored::<core::Secret>(&plain),
        Kind::Event => ignored::<core::Event>(&plain),
    }?;
    if kind == Kind::Pod {
        unknown.retain(|path| !is_ours(path));
        unknown_in_ours(value, &mut unknown);
    }
    Ok(unknown)
}

fn ignored<T: DeserializeOwned>(value: &Value) -> Result<BTreeSet<String>, String> {
    let mut unknown = BTreeSet::new();
    serde_ignored::deserialize::<_, _, T>(value, |path| {
        unknown.insert(print(&path));
    })
    .map_err(|e| e.to_string())?;
    Ok(unknown)
}

/// `serde_ignored` prints `spec.?.containers.?.0.imagee`; people write `spec.containers[0].imagee`.
fn print(path: &serde_ignored::Path) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", print(parent)),
        Path::Map { parent, key } => join(&print(parent), key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => print(parent),
    }
}

/// Null is absent, and a quantity may be a number: both are right in Kubernetes and foreign to its Rust types.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            for (key, inner) in map.iter_mut() {
                if let ("requests" | "limits" | "capacity" | "allocatable", Value::Object(quantities)) =
                    (key.as_str(), &mut *inner)
                {
                    for quantity in quantities.values_mut().filter(|q| q.is_number()) {
                        *quantity = Value::String(quantity.to_string());
                    }
                }
                if key == "divisor" && inner.is_number() {
                    *inner = Value::String(inner.to_string());
                }
                normalise(inner);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// The specification's own fields (line 4).
fn is_ours(path: &str) -> bool {
    matches!(
        pattern(path).as_str(),
        "spec.constraints" | "spec.containers[].resource_requirements" | "spec.containers[].connectivity_requirements"
    )
}

fn unknown_in_ours(value: &Value, unknown: &mut BTreeSet<String>) {
    let mut check = |object: &Value, path: String, known: &[&str]| {
        for key in object.as_object().into_iter().flat_map(|m| m.keys()).filter(|k| !known.contains(&k.as_str())) {
            unknown.insert(join(&path, key));
        }
    };
    check(&value["spec"]["constraints"], "spec.constraints".into(), &["entropy_score"]);
    for (i, container) in value["spec"]["containers"].as_array().into_iter().flatten().enumerate() {
        let path = format!("spec.containers[{i}]");
        check(&container["resource_requirements"], format!("{path}.resource_requirements"), &["cpu", "memory"]);
        let connectivity = format!("{path}.connectivity_requirements");
        check(&container["connectivity_requirements"], connectivity, &["bandwidth_min"]);
    }
}

/// What `input` asks for and `rendered` does not carry. `unknown` paths are another's business.
pub(super) fn not_enforced(kind: Kind, input: &Value, rendered: &Value, unknown: &BTreeSet<String>) -> Vec<Cause> {
    let mut compare = Compare { kind, unknown, causes: Vec::new() };
    compare.value(String::new(), input, Some(rendered));
    compare.causes
}

/// More complaints than this help nobody.
const CAUSES_MAX: usize = 20;

struct Compare<'a> {
    kind: Kind,
    unknown: &'a BTreeSet<String>,
    causes: Vec<Cause>,
}

impl Compare<'_> {
    fn value(&mut self, path: String, input: &Value, rendered: Option<&Value>) {
        if is_empty(input) || self.unknown.contains(&path) || self.causes.len() >= CAUSES_MAX {
            return;
        }
        let shape = pattern(&path);
        if read_and_set_aside(self.kind, &shape) || harmless(self.kind, &shape, input) {
            return;
        }
        match (input, rendered) {
            (Value::Object(input), Some(Value::Object(rendered))) => {
                for (key, inner) in input {
                    self.value(join(&path, key), inner, rendered.get(key));
                }
            }
            (Value::Array(input), Some(Value::Array(rendered))) => {
                for (i, inner) in input.iter().enumerate() {
                    self.value(format!("{path}[{i}]"), inner, rendered.get(i));
                }
            }
            // Nothing of it is carried: its fields may each be harmless, and if not, they are worth naming.
            (Value::Object(input), None) => {
                for (key, inner) in input {
                    self.value(join(&path, key), inner, None);
                }
            }
            (input, Some(rendered)) if input == rendered => {}
            _ => self.causes.push(Cause::not_enforced(path)),
        }
    }
}

/// Fields that the decoder reads and judges itself, or that only a server sets: their text may differ and mean the same.
fn read_and_set_aside(kind: Kind, shape: &str) -> bool {
    match shape {
        // Set by the server; a client that sends them back sends what it was given.
        "status"
        | "metadata.creationTimestamp"
        | "metadata.uid"
        | "metadata.resourceVersion"
        | "metadata.generation"
        | "metadata.managedFields"
        | "metadata.selfLink"
        | "metadata.deletionTimestamp"
        | "metadata.deletionGracePeriodSeconds" => true,
        // Ours, read by the decoder to the last field; and quantities, where equal in value is equal (0.5 = 500m; other
        // resources than these are not read and so named).
        "spec.constraints"
        | "spec.containers[].resource_requirements"
        | "spec.containers[].connectivity_requirements"
        | "spec.containers[].resources.requests.cpu"
        | "spec.containers[].resources.requests.memory"
        | "spec.containers[].resources.limits.cpu"
        | "spec.containers[].resources.limits.memory" => kind == Kind::Pod,
        // Becomes `data`.
        "stringData" => kind == Kind::Secret,
        // Times are kept to the millisecond and printed to the second.
        "firstTimestamp" | "lastTimestamp" => kind == Kind::Event,
        _ => false,
    }
}

/// Values that ask for nothing but what happens anyway.
fn harmless(kind: Kind, shape: &str, value: &Value) -> bool {
    let Value::Object(_) = value else {
        return kind == Kind::Pod && harmless_in_pod(shape, value) || kind == Kind::Event && harmless_in_event(shape);
    };
    // Every container runs under our equivalent of the runtime's default filter.
    matches!(shape, "spec.securityContext.seccompProfile" | "spec.containers[].securityContext.seccompProfile")
        && kind == Kind::Pod
        && value["type"] == "RuntimeDefault"
}

/// A field's path without indices, and why a value of it may be passed over.
type Passed = (&'static str, &'static str);

const PASSED_FALSE: &[Passed] = &[
    ("spec.hostNetwork", "what an absent field means"),
    ("spec.hostPID", "a pod has a process namespace of its own"),
    ("spec.hostIPC", "a pod has an IPC namespace of its own"),
    ("spec.shareProcessNamespace", "each container has a process namespace of its own"),
    ("spec.setHostnameAsFQDN", "the host name is short"),
    ("spec.enableServiceLinks", "there are no services, so nothing is linked"),
    ("spec.automountServiceAccountToken", "there are no service accounts, so nothing is mounted"),
    ("spec.containers[].stdin", "what an absent field means"),
    ("spec.containers[].stdinOnce", "what an absent field means"),
    ("spec.containers[].tty", "what an absent field means"),
    ("spec.containers[].securityContext.privileged", "no container gets privileges"),
    ("spec.containers[].env[].valueFrom.configMapKeyRef.optional", "what an absent field means"),
    ("spec.containers[].env[].valueFrom.secretKeyRef.optional", "what an absent field means"),
];

const PASSED_TRUE: &[Passed] = &[
    ("spec.enableServiceLinks", "there are no services, so nothing is linked"),
    ("spec.hostUsers", "users are the machine's"),
    ("spec.containers[].securityContext.allowPrivilegeEscalation", "set-user-id programs work"),
];

const PASSED_ZERO: &[Passed] = &[
    ("spec.priority", "nothing outranks"),
    ("spec.containers[].ports[].hostPort", "no port of the machine is asked for"),
    ("spec.containers[].env[].valueFrom.resourceFieldRef.divisor", "Kubernetes' default, one"),
];

const PASSED_WORDS: &[(&str, &[&str], &str)] = &[
    ("spec.dnsPolicy", &["ClusterFirst", "Default"], "a pod without a network has no server to ask either way"),
    ("spec.schedulerName", &["default-scheduler"], "there is one scheduler"),
    ("spec.serviceAccountName", &["default"], "the account every pod of Kubernetes has"),
    ("spec.serviceAccount", &["default"], "its older name"),
    ("spec.preemptionPolicy", &["PreemptLowerPriority"], "nothing preempts, for nothing outranks"),
    ("spec.os.name", &["linux"], "what every container is"),
    ("spec.containers[].terminationMessagePath", &["/dev/termination-log"], "the default every exported pod carries"),
    ("spec.containers[].terminationMessagePolicy", &["File"], "the default every exported pod carries"),
    ("spec.containers[].securityContext.procMount", &["Default"], "/proc is masked"),
    ("spec.containers[].env[].valueFrom.fieldRef.apiVersion", &["v1"], "there is no other"),
    ("spec.containers[].env[].valueFrom.resourceFieldRef.divisor", &["0", "1"], "Kubernetes' default, one"),
];

fn harmless_in_pod(shape: &str, value: &Value) -> bool {
    let passed = |list: &[Passed]| list.iter().any(|(field, _)| *field == shape);
    match value {
        Value::Bool(false) => passed(PASSED_FALSE),
        Value::Bool(true) => passed(PASSED_TRUE),
        Value::Number(number) => number.as_u64() == Some(0) && passed(PASSED_ZERO),
        Value::String(word) => {
            PASSED_WORDS.iter().any(|(field, words, _)| *field == shape && words.contains(&word.as_str()))
        }
        _ => false,
    }
}

/// The newer words for what `source` says.
fn harmless_in_event(shape: &str) -> bool {
    matches!(shape, "reportingComponent" | "reportingInstance")
}

/// A path without its indices: `spec.containers[].image`.
fn pattern(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        shape.push_str(before);
        let Some((index, tail)) = after.split_once(']') else { break };
        shape.push('[');
        if !index.bytes().all(|b| b.is_ascii_digit()) {
            shape.push_str(index);
        }
        shape.push(']');
        rest = tail;
    }
    shape.push_str(rest);
    shape
}
