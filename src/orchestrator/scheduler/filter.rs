//! Which nodes can take a pod, and why others cannot.

use std::collections::BTreeMap;

use super::Shape;
use super::network::{Network, NodeView};
use crate::math::fixed::{self, Fx};

/// Most groups of reasons a message lists.
const GROUPS_MAX: usize = 8;

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// With what the node says of it.
    NotReady(String),
    Cordoned,
    HostNetwork,
    Selector {
        label: String,
        wanted: String,
    },
    Entropy {
        ratio: Fx,
        least: Fx,
    },
    Short {
        resource: &'static str,
        needs: u64,
        free: u64,
        of: u64,
    },
}

impl Reason {
    /// As Kubernetes counts them: the same for every node it holds of.
    fn group(&self) -> String {
        match self {
            Self::NotReady(message) if message.is_empty() => "node(s) were not ready".to_owned(),
            Self::NotReady(message) => format!("node(s) were not ready ({message})"),
            Self::Cordoned => "node(s) were unschedulable".to_owned(),
            Self::HostNetwork => {
                "node(s) do not let pods use hostNetwork: set `host_network = true` under `[policy]` in node.toml"
                    .to_owned()
            }
            Self::Selector { .. } => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Entropy { .. } => "node(s) had too low an entropy score for constraints.entropy_score".to_owned(),
            Self::Short { resource: "pods", .. } => "Too many pods".to_owned(),
            Self::Short { resource, .. } => format!("Insufficient {resource}"),
        }
    }

    /// With the figures of one node.
    fn detail(&self) -> String {
        match self {
            Self::NotReady(message) if message.is_empty() => "not ready".to_owned(),
            Self::NotReady(message) => format!("not ready: {message}"),
            Self::Cordoned => "unschedulable: `kubectl uncordon` it".to_owned(),
            Self::HostNetwork => {
                "does not let pods use hostNetwork: set `host_network = true` under `[policy]` in its node.toml"
                    .to_owned()
            }
            Self::Selector { label, wanted } => format!("label {label} is not {wanted:?}"),
            Self::Entropy { ratio, least } => {
                let (ratio, least) = (fixed::text(*ratio), fixed::text(*least));
                format!("its entropy score is {ratio} of the best node's, below constraints.entropy_score {least}")
            }
            Self::Short { resource, needs, free, of } => {
                let unit = match *resource {
                    "cpu" => "m",
                    "memory" => " bytes",
                    "bandwidth" => " bit/s",
                    _ => "",
                };
                format!("insufficient {resource}: needs {needs}{unit}, {free}{unit} of {of}{unit} are free")
            }
        }
    }
}

/// Every reason why this node cannot take such a pod; none where it can. `named`: the pod's maker chose the node, which
/// overrides its being unschedulable, as in Kubernetes.
pub fn reasons(network: &Network, view: &NodeView, shape: &Shape, named: bool) -> Vec<Reason> {
    let Some(node) = view.node() else { return vec![Reason::NotReady(String::new())] };
    let mut reasons = Vec::new();
    if !node.ready.ready {
        reasons.push(Reason::NotReady(node.ready.message.clone()));
    }
    if node.unschedulable && !named {
        reasons.push(Reason::Cordoned);
    }
    if shape.host_network && !node.policy.host_network {
        reasons.push(Reason::HostNetwork);
    }
    let unmatched = shape.selector.iter().find(|&(label, wanted)| view.labels().get(label) != Some(wanted));
    if let Some((label, wanted)) = unmatched {
        reasons.push(Reason::Selector { label: label.clone(), wanted: wanted.clone() });
    }
    if let Some(least) = shape.entropy {
        let ratio = view.entropy / network.best_entropy;
        if ratio < least {
            reasons.push(Reason::Entropy { ratio, least });
        }
    }
    let (all, free, demand) = (node.allocatable, node.allocatable.minus(view.used), shape.demand);
    let resources = [
        ("cpu", demand.cpu.0, free.cpu.0, all.cpu.0),
        ("memory", demand.memory.0, free.memory.0, all.memory.0),
        ("pods", demand.pods, free.pods, all.pods),
        ("bandwidth", demand.bandwidth, free.bandwidth, all.bandwidth),
    ];
    let short = resources.into_iter().filter(|(_, needs, free, _)| needs > free);
    reasons.extend(short.map(|(resource, needs, free, of)| Reason::Short { resource, needs, free, of }));
    reasons
}

/// All reasons of one node, in words.
pub fn details(reasons: &[Reason]) -> String {
    reasons.iter().map(Reason::detail).collect::<Vec<_>>().join("; ")
}

/// `0/3 nodes are available: 2 Insufficient memory, 1 node(s) were unschedulable.`
pub fn summary<'a>(nodes: usize, refused: impl Iterator<Item = &'a [Reason]>) -> String {
    if nodes == 0 {
        return "0/0 nodes are available: no node has registered yet.".to_owned();
    }
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for reason in refused.flatten() {
        *counts.entry(reason.group()).or_default() += 1;
    }
    let mut groups: Vec<(u32, String)> = counts.into_iter().map(|(group, count)| (count, group)).collect();
    groups.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let listed: Vec<String> = groups.iter().take(GROUPS_MAX).map(|(count, group)| format!("{count} {group}")).collect();
    format!("0/{nodes} nodes are available: {}.", listed.join(", "))
}
