//! Kubernetes' shapes: parsed strictly, printed faithfully. Pure functions.
//!
//! Invariant: nothing is ignored. A field that Kubernetes does not know is named; one that it knows and we do not enforce
//! is refused (`strict`). Kubernetes' types stop at this door: what leaves it is `orchestrator::Object`.

mod body;
mod codec;
mod config;
mod container;
mod discovery;
mod error;
mod event;
mod meta;
mod node;
mod pod;
mod pod_status;
mod proto;
mod quantity;
mod read;
mod resource;
mod strict;
mod table;
mod table_pod;
mod time;

pub use body::parse_body;
pub use codec::{decode, encode, encode_list};
pub use discovery::{discovery, version};
pub use error::{ApiError, Cause, explain};
pub use resource::{Resource, describe_key, resource, resources};
pub use table::{table, table_event};

/// What becomes of fields that Kubernetes does not know (`?fieldValidation=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refused.
    Strict,
    /// Dropped, with a warning.
    Warn,
    /// Dropped.
    Ignore,
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists of named things are merged by name.
    Strategic,
}

use crate::orchestrator::{Kind, Object};
use serde_json::Value;

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
/// `/openapi/v3` and `/openapi/v3/api/v1`, likewise.
pub fn openapi(_path: &str) -> Option<Value> {
    todo!()
}
