//! The resources served, by the names kubectl knows.

use crate::orchestrator::{Body, Key, Kind, Object};

/// What kubectl can name.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    /// `Pod`.
    pub name: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub verbs: &'static [&'static str],
}

const ALL: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

/// In the order kubectl lists them.
static RESOURCES: [Resource; 6] = [
    Resource {
        kind: Kind::ConfigMap,
        name: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        verbs: ALL,
    },
    // The cluster tells what happened; nobody else does.
    Resource {
        kind: Kind::Event,
        name: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        verbs: &["delete", "get", "list", "watch"],
    },
    Resource {
        kind: Kind::Namespace,
        name: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        verbs: ALL,
    },
    // Nodes make themselves known; nobody else can create one.
    Resource {
        kind: Kind::Node,
        name: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        verbs: &["delete", "get", "list", "patch", "update", "watch"],
    },
    Resource { kind: Kind::Pod, name: "Pod", plural: "pods", singular: "pod", short_names: &["po"], verbs: ALL },
    Resource {
        kind: Kind::Secret,
        name: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        verbs: ALL,
    },
];

/// All resources.
pub fn resources() -> &'static [Resource] {
    &RESOURCES
}

/// The resource of a kind.
pub fn resource(kind: Kind) -> &'static Resource {
    let index = match kind {
        Kind::ConfigMap => 0,
        Kind::Event => 1,
        Kind::Namespace => 2,
        Kind::Node => 3,
        Kind::Pod => 4,
        Kind::Secret => 5,
    };
    &RESOURCES[index]
}

/// The kind called `name` (`Pod`), if it is served.
pub(super) fn kind_named(name: &str) -> Option<Kind> {
    RESOURCES.iter().find(|r| r.name == name).map(|r| r.kind)
}

/// The kind of an object's body.
pub(super) fn kind_of(object: &Object) -> Kind {
    match object.body {
        Body::Namespace(_) => Kind::Namespace,
        Body::Node(_) => Kind::Node,
        Body::Pod(_) => Kind::Pod,
        Body::ConfigMap(_) => Kind::ConfigMap,
        Body::Secret(_) => Kind::Secret,
        Body::Event(_) => Kind::Event,
    }
}

/// `v1/Pod default/hello`: for messages.
pub fn describe_key(key: &Key) -> String {
    let kind = resource(key.kind).name;
    if key.namespace.is_empty() {
        format!("v1/{kind} {}", key.name)
    } else {
        format!("v1/{kind} {}/{}", key.namespace, key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_finds_its_own_row() {
        for kind in [Kind::Namespace, Kind::Node, Kind::Pod, Kind::ConfigMap, Kind::Secret, Kind::Event] {
            assert_eq!(resource(kind).kind, kind);
            assert_eq!(kind_named(resource(kind).name), Some(kind));
        }
    }
}
