//! The replicated state and how it is read.

use super::object::{Key, Kind, Object};
use std::sync::Arc;

/// Cheap to clone: persistent maps.
#[derive(Clone, Default)]
pub struct State {}

/// One change of one object, for watches.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub key: Key,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

impl State {
    pub fn get(&self, _key: &Key) -> Option<&Arc<Object>> {
        todo!()
    }
    /// In order of namespace and name.
    pub fn list<'a>(&'a self, _kind: Kind, _namespace: Option<&str>) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        todo!()
    }
    /// The counter at the last change (`resourceVersion` of lists).
    pub fn revision(&self) -> u64 {
        todo!()
    }
    /// All changes after `revision`, in order; `None` where it is too old to know (or of the future): list again.
    pub fn changes_since(&self, _revision: u64) -> Option<Vec<Change>> {
        todo!()
    }
}
