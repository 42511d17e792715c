//! A container's environment: literals, and what they take from config maps, secrets, the pod and its resources.

use std::collections::BTreeMap;

use crate::base::seal::{self, SealKey};
use crate::base::{Bytes, Millicores, NodeId};
use crate::orchestrator::object::{Body, Capacity, Container, EnvValue, Pod, Quantities};
use crate::orchestrator::{Key, Kind, Object, State};

/// Why a variable has no value. Most cures are objects that may still appear, so the container waits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("variable {variable}: {kind} {name:?} is not in namespace {namespace:?}: create it, or mark it optional")]
    NoObject { variable: String, kind: &'static str, namespace: String, name: String },
    #[error("variable {variable}: {kind} {name:?} has no key {key:?} (it has: {there})")]
    NoKey { variable: String, kind: &'static str, name: String, key: String, there: String },
    #[error("variable {variable}: {kind} {name:?}, key {key:?}, is not UTF-8 text, which a variable must be")]
    NotText { variable: String, kind: &'static str, name: String, key: String },
    #[error("variable {variable}: this node holds no key to the secrets of namespace {namespace:?}")]
    NoNamespaceKey { variable: String, namespace: String },
    #[error("variable {variable}: secret {name:?}, key {key:?}, cannot be unsealed")]
    Unseal { variable: String, name: String, key: String, source: seal::Error },
    #[error(
        "variable {variable}: field {field:?} is not known; known are metadata.name, metadata.namespace, \
             metadata.uid, metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, status.hostIP and status.podIP"
    )]
    Field { variable: String, field: String },
    #[error(
        "variable {variable}: resource {resource:?} is not known; known are limits.cpu, limits.memory, requests.cpu and \
             requests.memory of a container of this pod"
    )]
    Resource { variable: String, resource: String },
}

/// What the values are taken from.
pub struct Source<'a> {
    pub state: &'a State,
    pub object: &'a Object,
    pub pod: &'a Pod,
    pub node: NodeId,
    pub node_name: &'a str,
    pub address: &'a str,
    pub allocatable: Capacity,
    pub seal: &'a SealKey,
}

impl Source<'_> {
    /// The variables the pod's author set, in their order; absent optional ones are left out.
    pub fn variables(&self, container: &Container) -> Result<Vec<(String, String)>, Error> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut variables = Vec::with_capacity(container.env.len());
        for variable in &container.env {
            let name = &variable.name;
            let value = match &variable.value {
                EnvValue::Literal(text) => Some(expand(text, &known)),
                EnvValue::ConfigMapKey { name: map, key, optional } => self.config_map(name, map, key, *optional)?,
                EnvValue::SecretKey { name: secret, key, optional } => self.secret(name, secret, key, *optional)?,
                EnvValue::Field(field) => Some(self.field(name, field)?),
                EnvValue::Resource { container: of, resource } => Some(self.resource(name, container, of, resource)?),
            };
            if let Some(value) = value {
                known.insert(name.clone(), value.clone());
                variables.push((name.clone(), value));
            }
        }
        Ok(variables)
    }

    fn object(&self, kind: Kind, name: &str) -> Option<&Object> {
        let key = Key { kind, namespace: self.object.meta.namespace.clone(), name: name.to_owned() };
        self.state.get(&key).map(AsRef::as_ref)
    }

    fn missing(&self, variable: &str, kind: &'static str, name: &str) -> Error {
        let namespace = self.object.meta.namespace.clone();
        Error::NoObject { variable: variable.into(), kind, namespace, name: name.into() }
    }

    fn config_map(&self, variable: &str, name: &str, key: &str, optional: bool) -> Result<Option<String>, Error> {
        let Some(Body::ConfigMap(map)) = self.object(Kind::ConfigMap, name).map(|o| &o.body) else {
            return if optional { Ok(None) } else { Err(self.missing(variable, "config map", name)) };
        };
        match map.data.get(key) {
            Some(text) => Ok(Some(text.clone())),
            None if map.binary_data.contains_key(key) => Err(Error::NotText {
                variable: variable.into(),
                kind: "config map",
                name: name.into(),
                key: key.into(),
            }),
            None if optional => Ok(None),
            None => Err(no_key(variable, "config map", name, key, map.data.keys())),
        }
    }

    fn secret(&self, variable: &str, name: &str, key: &str, optional: bool) -> Result<Option<String>, Error> {
        let Some(Body::Secret(secret)) = self.object(Kind::Secret, name).map(|o| &o.body) else {
            return if optional { Ok(None) } else { Err(self.missing(variable, "secret", name)) };
        };
        let Some(sealed) = secret.data.get(key) else {
            return if optional { Ok(None) } else { Err(no_key(variable, "secret", name, key, secret.data.keys())) };
        };
        let namespace = &self.object.meta.namespace;
        let refused = |source| Error::Unseal { variable: variable.into(), name: name.into(), key: key.into(), source };
        let of_namespace = Key { kind: Kind::Namespace, namespace: String::new(), name: namespace.clone() };
        let sealed_key = match self.state.get(&of_namespace).map(|o| &o.body) {
            Some(Body::Namespace(namespace)) => namespace.sealed_keys.get(&self.node),
            _ => None,
        };
        let sealed_key = sealed_key
            .ok_or_else(|| Error::NoNamespaceKey { variable: variable.into(), namespace: namespace.clone() })?;
        let opened = self.seal.open(sealed_key).map_err(refused)?;
        let plain = opened.decrypt(&format!("{namespace}/{name}/{key}"), sealed).map_err(refused)?;
        let not_text =
            |_| Error::NotText { variable: variable.into(), kind: "secret", name: name.into(), key: key.into() };
        String::from_utf8(plain).map(Some).map_err(not_text)
    }

    fn field(&self, variable: &str, field: &str) -> Result<String, Error> {
        let meta = &self.object.meta;
        let keyed = |prefix: &str| field.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
        Ok(match field {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.to_string(),
            "spec.nodeName" => self.node_name.to_owned(),
            "status.hostIP" => self.address.to_owned(),
            // Without the machine's network a pod has loopback alone, until the pod network comes.
            "status.podIP" if self.pod.spec.host_network => self.address.to_owned(),
            "status.podIP" => "127.0.0.1".to_owned(),
            _ => {
                let label = keyed("metadata.labels").map(|key| meta.labels.get(key));
                let found = label.or_else(|| keyed("metadata.annotations").map(|key| meta.annotations.get(key)));
                let unknown = || Error::Field { variable: variable.into(), field: field.into() };
                found.ok_or_else(unknown)?.cloned().unwrap_or_default()
            }
        })
    }

    fn resource(&self, variable: &str, own: &Container, of: &str, resource: &str) -> Result<String, Error> {
        let unknown = || Error::Resource { variable: variable.into(), resource: format!("{resource} of {of:?}") };
        let container = match of {
            "" => own,
            name => self.pod.spec.containers.iter().find(|c| c.name == name).ok_or_else(unknown)?,
        };
        let all = Quantities { cpu: Some(self.allocatable.cpu), memory: Some(self.allocatable.memory) };
        let (asked, or) = match resource.split_once('.') {
            // No limit: all that pods may have of this node, as Kubernetes says.
            Some(("limits", _)) => (container.effective_limits(), all),
            Some(("requests", _)) => {
                (container.effective_requests(), Quantities { cpu: Some(Millicores(0)), memory: Some(Bytes(0)) })
            }
            _ => return Err(unknown()),
        };
        match resource.split_once('.').map(|r| r.1) {
            // In units of the divisor 1: whole cores, rounded up.
            Some("cpu") => Ok(asked.cpu.or(or.cpu).map_or(0, |c| c.0.div_ceil(1000)).to_string()),
            Some("memory") => Ok(asked.memory.or(or.memory).map_or(0, |m| m.0).to_string()),
            _ => Err(unknown()),
        }
    }
}

fn no_key<'a>(
    variable: &str,
    kind: &'static str,
    name: &str,
    key: &str,
    there: impl Iterator<Item = &'a String>,
) -> Error {
    let there: Vec<&str> = there.take(10).map(String::as_str).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::NoKey { variable: variable.into(), kind, name: name.into(), key: key.into(), there }
}

/// Expands `$(NAME)` by what is known; `$$` is a dollar sign, an unknown name stays as it stands.
#[must_use]
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}
