//! Kubernetes' protobuf bodies, as kubectl sends some of them: `k8s\0`, then a `runtime.Unknown` that wraps the object.
//!
//! Read by a table of messages (`proto_messages.txt`: number, JSON name and type of each field, from the public `.proto`
//! files) into the very JSON the other bodies are, so that the same strictness follows. A field number that the table does
//! not know is an error: typed structs would drop it in silence.
//!
//! In the table: `s` text, `b` bytes, `t` truth, `i` integer, another word a message; `*` repeated, `%` a map by text; the
//! name `-` stands for a message whose fields are its parent's in JSON.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::error::ApiError;

const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any message of the table.
const DEPTH_MAX: u32 = 24;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("it ends in the middle of a field")]
    Short,
    #[error("field {0} of {1} is not known to this version")]
    UnknownField(u64, String),
    #[error("field {0} of {1} is of another type")]
    WrongType(String, String),
    #[error("it is nested too deeply")]
    Deep,
    #[error("field {0} is not text")]
    NotText(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    Repeated,
    Map,
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    shape: Shape,
    of: &'static str,
}

type Message = BTreeMap<u64, Field>;

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> = LazyLock::new(|| {
    include_str!("proto_messages.txt").lines().filter_map(|line| line.split_once(": ")).map(read_line).collect()
});

fn read_line((name, fields): (&'static str, &'static str)) -> (&'static str, Message) {
    let read = |field: &'static str| {
        let mut words = field.split(' ');
        let (number, name, of) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        let (shape, of) = match of.split_at(1) {
            ("*", of) => (Shape::Repeated, of),
            ("%", of) => (Shape::Map, of),
            _ => (Shape::One, of),
        };
        Some((number, Field { name, shape, of }))
    };
    (name, fields.split(", ").filter_map(read).collect())
}

/// Reads a body into JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, ApiError> {
    let bad = |why: &Error| ApiError::bad_request(format!("the body is not Kubernetes' protobuf: {why}"));
    let unwrapped = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| ApiError::bad_request("the body is not Kubernetes' protobuf: it does not begin with k8s\\0"))?;
    let unknown = unwrap(unwrapped).map_err(|e| bad(&e))?;
    if !unknown.encoding.is_empty() {
        return Err(ApiError::unsupported_media_type(
            "a compressed protobuf body is not supported; send application/json",
        ));
    }
    let kind = unknown.kind.as_str();
    let served = match unknown.api_version.as_str() {
        "v1" => matches!(kind, "Namespace" | "ConfigMap" | "Secret" | "Event" | "Pod" | "DeleteOptions"),
        version => kind == "DeleteOptions" && version.starts_with("meta.k8s.io/"),
    };
    if !served {
        return Err(ApiError::unsupported_media_type(format!(
            "{} {kind} is not read from protobuf by this version; send application/json",
            unknown.api_version
        )));
    }
    let mut object = Map::new();
    message(kind, unknown.raw, &mut object, 0).map_err(|e| bad(&e))?;
    object.insert("apiVersion".into(), unknown.api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(object.into())
}

/// `runtime.Unknown`.
struct Unknown<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    encoding: String,
}

fn unwrap(body: &[u8]) -> Result<Unknown<'_>, Error> {
    let mut unknown = Unknown { api_version: String::new(), kind: String::new(), raw: &[], encoding: String::new() };
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                let mut inner = Reader(bytes);
                while let Some((number, wire)) = inner.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => unknown.api_version = text(bytes, "apiVersion")?,
                        (2, Wire::Bytes(bytes)) => unknown.kind = text(bytes, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => unknown.raw = bytes,
            (3, Wire::Bytes(bytes)) => unknown.encoding = text(bytes, "contentEncoding")?,
            // The content type repeats what the header said.
            _ => {}
        }
    }
    Ok(unknown)
}

/// Reads a message's fields into `out`.
fn message(name: &str, body: &[u8], out: &mut Map<String, Value>, depth: u32) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Deep);
    }
    // The table is closed: a test looks every name up.
    let Some(fields) = MESSAGES.get(name) else { return Err(Error::UnknownField(0, name.to_owned())) };
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        let field = fields.get(&number).ok_or_else(|| Error::UnknownField(number, name.to_owned()))?;
        let wrong = || Error::WrongType(field.name.to_owned(), name.to_owned());
        match (field.shape, wire) {
            (Shape::One, Wire::Bytes(bytes)) if field.name == "-" => message(field.of, bytes, out, depth + 1)?,
            (Shape::One, wire) => {
                let value = value(field, wire, depth)?.ok_or_else(wrong)?;
                // Kubernetes writes empty text where nothing was said.
                if value != "" {
                    out.insert(field.name.to_owned(), value);
                }
            }
            (Shape::Repeated, Wire::Bytes(bytes)) if field.of == "i" => {
                let mut packed = Reader(bytes);
                while !packed.0.is_empty() {
                    push(out, field.name, packed.varint()?.cast_signed().into());
                }
            }
            (Shape::Repeated, wire) => {
                let value = value(field, wire, depth)?.ok_or_else(wrong)?;
                push(out, field.name, value);
            }
            (Shape::Map, Wire::Bytes(bytes)) => {
                let (key, value) = entry(field, bytes, depth)?;
                let map = out.entry(field.name).or_insert_with(|| json!({}));
                map[key] = value;
            }
            (Shape::Map, Wire::Varint(_)) => return Err(wrong()),
        }
    }
    Ok(())
}

fn push(out: &mut Map<String, Value>, name: &str, value: Value) {
    if let Value::Array(list) = out.entry(name).or_insert_with(|| json!([])) {
        list.push(value);
    }
}

/// An entry of a map: a message of a key (1) and a value (2).
fn entry(field: &Field, body: &[u8], depth: u32) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes, field.name)?,
            (2, wire) => found = value(field, wire, depth)?,
            _ => return Err(Error::UnknownField(number, field.name.to_owned())),
        }
    }
    Ok((key, found.unwrap_or_else(|| "".into())))
}

/// One value; `None` where the wire's type is not the table's.
fn value(field: &Field, wire: Wire, depth: u32) -> Result<Option<Value>, Error> {
    Ok(Some(match (field.of, wire) {
        ("t", Wire::Varint(n)) => (n != 0).into(),
        ("i", Wire::Varint(n)) => n.cast_signed().into(),
        ("s", Wire::Bytes(bytes)) => text(bytes, field.name)?.into(),
        ("b", Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
        ("Time" | "MicroTime", Wire::Bytes(bytes)) => time(bytes)?,
        ("Quantity", Wire::Bytes(bytes)) => single(bytes, 1)?,
        ("IntOrString", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        // Who wrote which field: kept by servers, never read from clients.
        ("FieldsV1", Wire::Bytes(_)) => json!({}),
        ("t" | "i" | "s" | "b", _) | (_, Wire::Varint(_)) => return Ok(None),
        (name, Wire::Bytes(bytes)) => {
            let mut out = Map::new();
            message(name, bytes, &mut out, depth + 1)?;
            out.into()
        }
    }))
}

/// Seconds (1) and nanoseconds (2); empty is no time.
fn time(body: &[u8]) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => seconds = Some(n.cast_signed()),
            (2, Wire::Varint(n)) => nanos = i32::try_from(n.cast_signed()).unwrap_or_default(),
            _ => {}
        }
    }
    let time = seconds.and_then(|s| Timestamp::new(s, nanos).ok());
    Ok(time.map_or(Value::Null, |t| t.to_string().into()))
}

/// A message whose only field of interest is a text.
fn single(body: &[u8], number: u64) -> Result<Value, Error> {
    let mut reader = Reader(body);
    let mut found = Value::Null;
    while let Some((n, wire)) = reader.next()? {
        if let (true, Wire::Bytes(bytes)) = (n == number, wire) {
            found = text(bytes, "quantity")?.into();
        }
    }
    Ok(found)
}

/// Type (1: 1 is text), integer (2), text (3).
fn int_or_string(body: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut integer, mut words) = (false, 0, String::new());
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Varint(n)) => is_text = n == 1,
            (2, Wire::Varint(n)) => integer = n.cast_signed(),
            (3, Wire::Bytes(bytes)) => words = text(bytes, "string")?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { integer.into() })
}

fn text(bytes: &[u8], field: &str) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::NotText(field.to_owned()))
}

/// The wire format: what is left to read.
struct Reader<'a>(&'a [u8]);

#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| Error::Short)?)?)
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return Err(Error::Short),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Short)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    /// What kubectl would send: the crate that writes it here shares nothing with the reader.
    fn wrap(api_version: &str, kind: &str, raw: Vec<u8>) -> Vec<u8> {
        use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
        let type_meta = Some(TypeMeta { api_version: Some(api_version.into()), kind: Some(kind.into()) });
        let unknown = Unknown { type_meta, raw: Some(raw), content_encoding: None, content_type: None };
        [MAGIC, &unknown.encode_to_vec()].concat()
    }

    #[test]
    fn a_pod_reads_as_its_json() {
        use k8s_pb::api::core::v1 as core;
        use k8s_pb::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1 as meta};
        let quantity = Quantity { string: Some("500m".into()) };
        let key = core::SecretKeySelector {
            local_object_reference: Some(core::LocalObjectReference { name: Some("s".into()) }),
            key: Some("k".into()),
            optional: Some(true),
        };
        let env = core::EnvVar {
            name: Some("E".into()),
            value: Some(String::new()),
            value_from: Some(core::EnvVarSource { secret_key_ref: Some(key), ..Default::default() }),
        };
        let container = core::Container {
            name: Some("c".into()),
            args: vec!["-x".into(), String::new()],
            env: vec![env],
            ports: vec![core::ContainerPort { container_port: Some(80), ..Default::default() }],
            resources: Some(core::ResourceRequirements {
                limits: [("cpu".to_owned(), quantity)].into(),
                ..Default::default()
            }),
            stdin: Some(true),
            ..Default::default()
        };
        let pod = core::Pod {
            metadata: Some(meta::ObjectMeta {
                name: Some("x".into()),
                labels: [("a".to_owned(), "b".to_owned()), ("e".to_owned(), String::new())].into(),
                creation_timestamp: Some(meta::Time::default()),
                ..Default::default()
            }),
            spec: Some(core::PodSpec {
                containers: vec![container],
                host_network: Some(false),
                termination_grace_period_seconds: Some(0),
                volumes: vec![core::Volume {
                    name: Some("v".into()),
                    volume_source: Some(core::VolumeSource {
                        host_path: Some(core::HostPathVolumeSource { path: Some("/".into()), r#type: None }),
                        ..Default::default()
                    }),
                }],
                ..Default::default()
            }),
            status: None,
        };
        let read = parse(&wrap("v1", "Pod", pod.encode_to_vec())).unwrap();
        let expected = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "x", "labels": { "a": "b", "e": "" }, "creationTimestamp": null },
            "spec": { "hostNetwork": false, "terminationGracePeriodSeconds": 0,
                "volumes": [{ "name": "v", "hostPath": { "path": "/" } }],
                "containers": [{ "name": "c", "args": ["-x", ""], "stdin": true, "ports": [{ "containerPort": 80 }],
                    "env": [{ "name": "E", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k", "optional": true } } }],
                    "resources": { "limits": { "cpu": "500m" } } }] } });
        assert_eq!(read, expected);
    }

    /// Go writes its zero values too: they ask for nothing.
    #[test]
    fn a_pod_as_go_writes_it_is_accepted() {
        use k8s_pb::api::core::v1 as core;
        use k8s_pb::apimachinery::pkg::apis::meta::v1 as meta;
        let none = || Some(String::new());
        let container = core::Container {
            name: Some("c".into()),
            image: Some("i".into()),
            working_dir: none(),
            resources: Some(core::ResourceRequirements::default()),
            ports: vec![core::ContainerPort {
                name: none(),
                host_port: Some(0),
                container_port: Some(80),
                protocol: Some("TCP".into()),
                host_ip: none(),
            }],
            termination_message_path: none(),
            termination_message_policy: none(),
            image_pull_policy: none(),
            stdin: Some(false),
            stdin_once: Some(false),
            tty: Some(false),
            ..Default::default()
        };
        let spec = core::PodSpec {
            containers: vec![container],
            restart_policy: none(),
            dns_policy: none(),
            service_account_name: none(),
            service_account: none(),
            node_name: none(),
            host_network: Some(false),
            host_pid: Some(false),
            host_ipc: Some(false),
            security_context: Some(core::PodSecurityContext::default()),
            hostname: none(),
            subdomain: none(),
            scheduler_name: none(),
            priority_class_name: none(),
            ..Default::default()
        };
        let metadata = meta::ObjectMeta {
            name: Some("x".into()),
            generate_name: none(),
            namespace: none(),
            self_link: none(),
            uid: none(),
            resource_version: none(),
            generation: Some(0),
            creation_timestamp: Some(meta::Time::default()),
            ..Default::default()
        };
        let status = core::PodStatus { phase: none(), message: none(), reason: none(), ..Default::default() };
        let pod = core::Pod { metadata: Some(metadata), spec: Some(spec), status: Some(status) };
        let read = parse(&wrap("v1", "Pod", pod.encode_to_vec())).unwrap();
        let (kind, strict) = (crate::orchestrator::Kind::Pod, crate::api::k8s::FieldValidation::Strict);
        crate::api::k8s::decode(kind, "default", &read, strict).unwrap();
    }

    #[test]
    fn other_bodies_read_as_their_json() {
        use k8s_pb::api::core::v1 as core;
        use k8s_pb::apimachinery::pkg::apis::meta::v1 as meta;
        let secret = core::Secret {
            data: [("a".to_owned(), vec![1, 2])].into(),
            r#type: Some("Opaque".into()),
            ..Default::default()
        };
        let read = parse(&wrap("v1", "Secret", secret.encode_to_vec())).unwrap();
        assert_eq!(read, json!({ "apiVersion": "v1", "kind": "Secret", "data": { "a": "AQI=" }, "type": "Opaque" }));
        let options = meta::DeleteOptions {
            grace_period_seconds: Some(5),
            propagation_policy: Some("Background".into()),
            ..Default::default()
        };
        let read = parse(&wrap("meta.k8s.io/v1", "DeleteOptions", options.encode_to_vec())).unwrap();
        assert_eq!((&read["gracePeriodSeconds"], &read["propagationPolicy"]), (&json!(5), &json!("Background")));
    }

    #[test]
    fn what_would_be_dropped_is_refused() {
        let unknown_field = parse(&wrap("v1", "Namespace", vec![0xfa, 0x3e, 0])).unwrap_err();
        assert_eq!(unknown_field.code, 400);
        assert!(unknown_field.message.contains("field 1007 of Namespace"), "{unknown_field}");
        let other = parse(&wrap("apps/v1", "Deployment", Vec::new())).unwrap_err();
        assert_eq!(other.code, 415);
        assert!(other.message.contains("application/json"));
        assert_eq!(parse(b"{}").unwrap_err().code, 400);
    }

    #[test]
    fn the_table_is_closed() {
        const LEAVES: [&str; 9] = ["s", "b", "t", "i", "Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1"];
        for (name, fields) in MESSAGES.iter() {
            for field in fields.values() {
                assert!(LEAVES.contains(&field.of) || MESSAGES.contains_key(field.of), "{name}.{}", field.name);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4usize) {
            let _ = parse(&raw);
            let _ = parse(&wrap("v1", ["Pod", "Secret", "Event", "DeleteOptions"][kind], raw));
        }
    }
}
