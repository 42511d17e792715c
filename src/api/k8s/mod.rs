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
mod openapi;
mod options;
mod patch;
mod pod;
mod pod_status;
mod proto;
mod quantity;
mod read;
mod resource;
mod schema;
mod schema_pod;
mod schema_types;
mod selector;
mod strategic;
mod strict;
mod table;
mod table_pod;
mod time;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use body::parse_body;
pub use codec::{decode, encode, encode_list};
pub use discovery::{discovery, version};
pub use error::{ApiError, Cause};
pub use openapi::openapi;
pub use options::{DeleteOptions, delete_options};
pub use patch::patch;
pub use resource::{Resource, describe_key, resource, resources};
pub use selector::Selector;
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
