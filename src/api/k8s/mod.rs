//! Kubernetes' shapes: parsed strictly, printed faithfully. Pure functions.

use crate::base::UnixMillis;
use crate::orchestrator::{Key, Kind, Object, Refusal};
use serde_json::Value;
use std::sync::Arc;

/// A refusal in Kubernetes' words; becomes a `metav1.Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `BadRequest`, `Forbidden`, …
    pub reason: &'static str,
    pub message: String,
    /// Kubernetes' `details` (kind, name, causes).
    pub details: Option<Value>,
}
impl ApiError {
    pub fn status(&self) -> Value {
        todo!()
    }
}
impl From<Refusal> for ApiError {
    fn from(_: Refusal) -> Self {
        todo!()
    }
}

/// What kubectl can name.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    pub name: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub verbs: &'static [&'static str],
}
pub fn resources() -> &'static [Resource] {
    todo!()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
}

/// Reads a body by its content type: JSON, YAML or Kubernetes' protobuf. Absent or unknown types are read as JSON or refused with 415.
pub fn parse_body(_content_type: Option<&str>, _body: &[u8]) -> Result<Value, ApiError> {
    todo!()
}

/// Kubernetes' JSON to our object. `namespace` is the path's. Unknown fields: by `validation`; a known field that is not
/// enforced here is a 422 that names it, always. Warnings come back for the `Warning` header.
/// Secrets: values are plain in the object returned (in `data` and `sealed_annotations`); the caller seals them before they become a command.
pub fn decode(
    _kind: Kind,
    _namespace: &str,
    _value: &Value,
    _validation: FieldValidation,
) -> Result<(Object, Vec<String>), ApiError> {
    todo!()
}

/// Our object to Kubernetes' JSON, with `apiVersion` and `kind`. Secrets must hold plain values or none.
pub fn encode(_object: &Object) -> Value {
    todo!()
}

/// A `kind: …List`.
pub fn encode_list(_kind: Kind, _objects: &[Arc<Object>], _revision: u64) -> Value {
    todo!()
}

/// `kind: Table`. `include`: `Metadata` (default), `Object`, `None`.
pub fn table(
    _kind: Kind,
    _objects: &[Arc<Object>],
    _revision: u64,
    _include: &str,
    _headers: bool,
    _now: UnixMillis,
) -> Value {
    todo!()
}

/// Applies a patch to Kubernetes' JSON.
pub fn patch(_kind: Kind, _current: &Value, _patch_type: PatchType, _patch: &Value) -> Result<Value, ApiError> {
    todo!()
}

/// Label and field selectors.
#[derive(Clone, Debug, Default)]
pub struct Selector {}
impl Selector {
    pub fn parse(_kind: Kind, _labels: Option<&str>, _fields: Option<&str>) -> Result<Self, ApiError> {
        todo!()
    }
    pub fn matches(&self, _object: &Object) -> bool {
        todo!()
    }
}

pub fn version(_version: &str) -> Value {
    todo!()
}
/// `/api`, `/apis`, `/api/v1` …: the document at this path, where it is a discovery document.
pub fn discovery(_path: &str) -> Option<Value> {
    todo!()
}
/// `/openapi/v3` and `/openapi/v3/api/v1`, likewise.
pub fn openapi(_path: &str) -> Option<Value> {
    todo!()
}

/// `v1/Pod default/hello`: for messages.
pub fn describe_key(_key: &Key) -> String {
    todo!()
}
