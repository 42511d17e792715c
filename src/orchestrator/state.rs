//! The replicated state and how it is read.
//!
//! Invariant: everything but the ring of changes is a function of the persisted entries, so a node that restored them
//! and a node that never stopped compute the same.

use std::fmt;
use std::sync::Arc;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::object::{Capacity, Key, Kind, Object};
use crate::base::{Height, UnixMillis};

/// How many of the last changes watches can resume from.
pub const CHANGES_MAX: usize = 8_192;

/// Cheap to clone: persistent maps.
#[derive(Clone, Default)]
pub struct State {
    objects: OrdMap<Key, Arc<Object>>,
    pub(super) head: Head,
    index: Index,
    changes: Vector<Change>,
}

/// Where the state stands. Persisted beside the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `resourceVersion` of the last change.
    pub revision: u64,
    pub height: Height,
    pub time: UnixMillis,
    /// Whether the first block has made what every chain starts with.
    pub founded: bool,
}

/// One change of one object, for watches.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub key: Key,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

impl State {
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// In order of namespace and name.
    pub fn list<'a>(&'a self, kind: Kind, namespace: Option<&str>) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
        let first = Key::new(kind, namespace.unwrap_or_default(), "");
        let only = namespace.map(str::to_owned);
        let inside = move |key: &Key| key.kind == kind && only.as_ref().is_none_or(|only| *only == key.namespace);
        Box::new(self.objects.range(first..).take_while(move |(key, _)| inside(key)).map(|(_, object)| object))
    }

    /// The counter at the last change (`resourceVersion` of lists).
    pub fn revision(&self) -> u64 {
        self.head.revision
    }

    /// The last block applied.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What pods that have not ended hold of a node.
    pub fn used_on(&self, node: &str) -> Capacity {
        self.index.on_nodes.get(node).copied().unwrap_or_default()
    }

    /// What a namespace's placed pods hold of all nodes.
    pub fn used_by(&self, namespace: &str) -> Capacity {
        self.index.by_namespaces.get(namespace).copied().unwrap_or_default()
    }

    /// All changes after `revision`, in order; `None` where it is too old to know (or of the future): list again.
    pub fn changes_since(&self, revision: u64) -> Option<Vec<Change>> {
        if revision == self.head.revision {
            return Some(Vec::new());
        }
        let first = self.changes.front()?.revision;
        let skip = revision.checked_add(1)?.checked_sub(first)?;
        let skip = usize::try_from(skip).ok().filter(|&skip| skip < self.changes.len())?;
        Some(self.changes.skip(skip).iter().cloned().collect())
    }

    pub(super) fn objects(&self) -> &OrdMap<Key, Arc<Object>> {
        &self.objects
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Adds or changes an object, under a revision of its own.
    pub(super) fn put(&mut self, mut object: Object) -> Arc<Object> {
        self.head.revision += 1;
        object.meta.revision = self.head.revision;
        let key = object.key();
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&after));
        if let Some(before) = &before {
            self.index.remove(&key, before);
        }
        self.index.add(&key, &after);
        self.remember(Change { revision: self.head.revision, key, before, after: Some(Arc::clone(&after)) });
        after
    }

    /// Removes an object, as one change.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let before = self.objects.remove(key)?;
        self.head.revision += 1;
        self.index.remove(key, &before);
        let change =
            Change { revision: self.head.revision, key: key.clone(), before: Some(Arc::clone(&before)), after: None };
        self.remember(change);
        Some(before)
    }

    /// Puts back an object as it was persisted: no change, no new revision.
    pub(super) fn restore(&mut self, object: Object) {
        let key = object.key();
        let object = Arc::new(object);
        if let Some(before) = self.objects.insert(key.clone(), Arc::clone(&object)) {
            self.index.remove(&key, &before);
        }
        self.index.add(&key, &object);
    }

    fn remember(&mut self, change: Change) {
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
        }
    }
}

/// Equal where they hold the same and would answer every block alike; the memory of changes does not count.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head && self.objects == other.objects && self.index == other.index
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("head", &self.head).field("objects", &self.objects.len()).finish_non_exhaustive()
    }
}
