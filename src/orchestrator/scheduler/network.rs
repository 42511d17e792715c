//! The nodes as one pass of the scheduler sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::object::{Capacity, Kind, Node, Object};
use super::super::state::State;
use crate::math::fixed::Fx;
use crate::math::{class_share, entropy_score};

/// The dimensions of diversity, each weighed alike (λ of eq. 14).
pub const DIMENSIONS: [&str; 4] = ["operator", "prefix", "latency", "platform"];
/// e of eq. 14: the score of a node that is as all others.
const ENTROPY_FLOOR: Fx = Fx::from_bits(1 << 63);

/// All nodes, in order of name.
pub struct Network {
    pub nodes: Vec<NodeView>,
    /// The best entropy score of a node that is ready.
    pub best_entropy: Fx,
    /// What all nodes together can give: capacities of eq. 27.
    pub total: Capacity,
}

/// One node and what is taken of it.
pub struct NodeView {
    object: Arc<Object>,
    pub used: Capacity,
    /// Eq. 14.
    pub entropy: Fx,
    /// Rises with each pod placed here in this pass: what was computed before is stale.
    pub version: u32,
}

impl NodeView {
    pub fn name(&self) -> &str {
        &self.object.meta.name
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.object.meta.labels
    }

    /// `None` never happens: only nodes are viewed.
    pub fn node(&self) -> Option<&Node> {
        self.object.as_node()
    }
}

impl Network {
    pub fn new(state: &State) -> Self {
        let objects: Vec<&Arc<Object>> = state.list(Kind::Node, None).collect();
        let shares = Shares::new(objects.iter().filter_map(|object| object.as_node()));
        let view = |object: &&Arc<Object>| {
            let node = object.as_node()?;
            Some(NodeView {
                object: Arc::clone(object),
                used: state.used_on(&object.meta.name),
                entropy: shares.entropy_of(node),
                version: 0,
            })
        };
        let nodes: Vec<NodeView> = objects.iter().filter_map(view).collect();
        let ready = nodes.iter().filter(|view| view.node().is_some_and(|node| node.ready.ready));
        let best_entropy = ready.map(|view| view.entropy).max().unwrap_or(ENTROPY_FLOOR);
        let allocatable = nodes.iter().filter_map(NodeView::node).map(|node| node.allocatable);
        let total = allocatable.fold(Capacity::default(), Capacity::plus);
        Self { nodes, best_entropy, total }
    }
}

/// Stake by class, for each dimension of diversity.
pub struct Shares<'a> {
    by_class: [BTreeMap<&'a str, u64>; DIMENSIONS.len()],
    total: u64,
}

impl<'a> Shares<'a> {
    pub fn new(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let mut shares = Self { by_class: Default::default(), total: 0 };
        for node in nodes {
            shares.total = shares.total.saturating_add(node.stake);
            for (dimension, classes) in DIMENSIONS.iter().zip(&mut shares.by_class) {
                let stake = classes.entry(class_of(node, dimension)).or_default();
                *stake = stake.saturating_add(node.stake);
            }
        }
        shares
    }

    /// Eq. 13 for each class of a dimension, in order of class.
    pub fn of_dimension(&self, index: usize) -> Vec<Fx> {
        self.by_class[index].values().map(|stake| class_share(*stake, self.total)).collect()
    }

    /// Eq. 14.
    pub fn entropy_of(&self, node: &Node) -> Fx {
        let weight = Fx::ONE / DIMENSIONS.len() as i128;
        let mut pairs = [(weight, Fx::ONE); DIMENSIONS.len()];
        for (i, dimension) in DIMENSIONS.iter().enumerate() {
            let stake = self.by_class[i].get(class_of(node, dimension)).copied().unwrap_or_default();
            pairs[i].1 = class_share(stake, self.total);
        }
        entropy_score(ENTROPY_FLOOR, &pairs)
    }
}

/// Nodes that do not tell their class are all of one: being unknown makes nobody rare.
fn class_of<'a>(node: &'a Node, dimension: &str) -> &'a str {
    node.classes.get(dimension).map_or("", String::as_str)
}
