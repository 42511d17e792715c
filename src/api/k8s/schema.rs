//! The shapes we accept and print, in one table: openapi describes them, the strategic patch merges by them.

use serde_json::{Map, Value, json};

use super::resource::resource;
pub(super) use super::schema_types::TYPES;
use crate::orchestrator::Kind;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Truth,
    Integer,
    /// A number or text.
    Decimal,
    Time,
    TextMap,
    /// Values in base64.
    BytesMap,
    /// A map of quantities.
    Quantities,
    /// Text, replaced as a whole.
    TextList,
    /// Text, merged by its values.
    MergeSet,
    Ref(&'static str),
    /// Replaced as a whole.
    List(&'static str),
    /// Merged by a key of its elements.
    MergeList(&'static str, &'static str),
    /// Anything.
    Free,
}

/// A type: its short name, what it is, its fields (name, shape, what it is) and those of them that must be given.
#[derive(Debug)]
pub(super) struct Type {
    pub name: &'static str,
    pub about: &'static str,
    pub fields: &'static [(&'static str, Shape, &'static str)],
    pub required: &'static [&'static str],
}

impl Type {
    pub fn shape(&self, field: &str) -> Option<Shape> {
        self.fields.iter().find(|(name, ..)| *name == field).map(|&(_, shape, _)| shape)
    }

    /// The name Kubernetes' clients know it by.
    pub fn full_name(&self) -> String {
        let package = match self.name {
            "ObjectMeta" | "DeleteOptions" | "Preconditions" | "Status" | "ListMeta" | "ManagedFieldsEntry" => {
                "io.k8s.apimachinery.pkg.apis.meta.v1"
            }
            _ => "io.k8s.api.core.v1",
        };
        format!("{package}.{}", self.name)
    }

    /// Its JSON schema.
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> =
            self.fields.iter().map(|&(name, shape, about)| (name.to_owned(), field_schema(shape, about))).collect();
        let mut out = json!({ "type": "object", "description": self.about, "properties": properties });
        if !self.required.is_empty() {
            out["required"] = json!(self.required);
        }
        out
    }
}

/// The type of this short name.
pub(super) fn named(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|t| t.name == name)
}

/// The type of a kind's objects.
pub(super) fn of_kind(kind: Kind) -> &'static Type {
    let index = TYPES.iter().position(|t| t.name == resource(kind).name);
    // A test looks every kind up.
    &TYPES[index.unwrap_or_default()]
}

fn field_schema(shape: Shape, about: &str) -> Value {
    let reference = |name: &str| {
        let target = named(name).map(Type::full_name).unwrap_or_default();
        json!({ "allOf": [{ "$ref": format!("#/components/schemas/{target}") }], "default": {} })
    };
    let list = |items: Value| json!({ "type": "array", "items": items });
    let map = |values: Value| json!({ "type": "object", "additionalProperties": values });
    let mut out = match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Truth => json!({ "type": "boolean" }),
        Shape::Integer => json!({ "type": "integer", "format": "int64" }),
        Shape::Decimal => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Shape::Time => json!({ "type": "string", "format": "date-time" }),
        Shape::TextMap => map(json!({ "type": "string", "default": "" })),
        Shape::BytesMap => map(json!({ "type": "string", "format": "byte" })),
        Shape::Quantities => map(json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })),
        Shape::TextList | Shape::MergeSet => list(json!({ "type": "string", "default": "" })),
        Shape::Ref(name) => reference(name),
        Shape::List(name) | Shape::MergeList(name, _) => list(reference(name)),
        Shape::Free => json!({ "type": "object" }),
    };
    out["description"] = about.into();
    match shape {
        Shape::MergeList(_, key) => {
            out["x-kubernetes-patch-merge-key"] = key.into();
            out["x-kubernetes-patch-strategy"] = "merge".into();
        }
        Shape::MergeSet => out["x-kubernetes-patch-strategy"] = "merge".into(),
        Shape::TextList | Shape::List(_) => out["x-kubernetes-list-type"] = "atomic".into(),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::k8s::resources;

    #[test]
    fn every_reference_has_a_type() {
        for of in TYPES {
            for (field, shape, about) in of.fields {
                if let Shape::Ref(name) | Shape::List(name) | Shape::MergeList(name, _) = shape {
                    assert!(named(name).is_some(), "{}.{field} wants {name}", of.name);
                }
                if let Shape::MergeList(name, key) = shape {
                    assert!(named(name).unwrap().shape(key).is_some(), "{}.{field} merges by {key}", of.name);
                }
                assert!(about.ends_with('.'), "{}.{field} is described", of.name);
            }
            for field in of.required {
                assert!(of.shape(field).is_some());
            }
        }
        for resource in resources() {
            assert_eq!(of_kind(resource.kind).name, resource.name);
        }
    }
}
