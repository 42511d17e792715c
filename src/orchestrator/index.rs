//! What is derived from the objects and kept up to date with each change, so that no decision reads them all.

use imbl::{OrdMap, OrdSet};

use super::object::{Body, Capacity, Key, Object};
use crate::base::{Uid, UnixMillis};

/// Every field follows from the objects alone; entries that hold nothing are removed, so that equal objects give an
/// equal index whatever way led to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// What pods that have not ended hold of each node, by the node's name.
    pub on_nodes: OrdMap<String, Capacity>,
    /// The same by namespace.
    pub by_namespaces: OrdMap<String, Capacity>,
    /// Pods without a node, oldest first.
    pub pending: OrdSet<(UnixMillis, Key)>,
    /// Events by their last occurrence.
    pub events: OrdSet<(UnixMillis, Key)>,
    /// Events of each object, by their last occurrence.
    pub events_of: OrdMap<Uid, OrdSet<(UnixMillis, Key)>>,
}

impl Index {
    pub fn add(&mut self, key: &Key, object: &Object) {
        match &object.body {
            Body::Pod(pod) if pod.ended() => {}
            Body::Pod(pod) if pod.spec.node_name.is_empty() => {
                self.pending.insert((object.meta.created, key.clone()));
            }
            Body::Pod(pod) => {
                let demand = pod.demand();
                add_to(&mut self.on_nodes, &pod.spec.node_name, demand);
                add_to(&mut self.by_namespaces, &key.namespace, demand);
            }
            Body::Event(event) => {
                self.events.insert((event.last, key.clone()));
                self.events_of.entry(event.involved_uid).or_default().insert((event.last, key.clone()));
            }
            Body::Namespace(_) | Body::Node(_) | Body::ConfigMap(_) | Body::Secret(_) => {}
        }
    }

    pub fn remove(&mut self, key: &Key, object: &Object) {
        match &object.body {
            Body::Pod(pod) if pod.ended() => {}
            Body::Pod(pod) if pod.spec.node_name.is_empty() => {
                self.pending.remove(&(object.meta.created, key.clone()));
            }
            Body::Pod(pod) => {
                let demand = pod.demand();
                take_from(&mut self.on_nodes, &pod.spec.node_name, demand);
                take_from(&mut self.by_namespaces, &key.namespace, demand);
            }
            Body::Event(event) => {
                let entry = (event.last, key.clone());
                self.events.remove(&entry);
                if let Some(of) = self.events_of.get_mut(&event.involved_uid) {
                    of.remove(&entry);
                    if of.is_empty() {
                        self.events_of.remove(&event.involved_uid);
                    }
                }
            }
            Body::Namespace(_) | Body::Node(_) | Body::ConfigMap(_) | Body::Secret(_) => {}
        }
    }
}

fn add_to(map: &mut OrdMap<String, Capacity>, name: &str, demand: Capacity) {
    let total = map.get(name).copied().unwrap_or_default().plus(demand);
    map.insert(name.to_owned(), total);
}

/// Each quantity is bounded at admission ([`super::admission`]), so sums never saturate and this is exact.
fn take_from(map: &mut OrdMap<String, Capacity>, name: &str, demand: Capacity) {
    let left = map.get(name).copied().unwrap_or_default().minus(demand);
    if left == Capacity::default() {
        map.remove(name);
    } else {
        map.insert(name.to_owned(), left);
    }
}
