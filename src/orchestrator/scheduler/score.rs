//! How good a node is for a pod: the terms of eq. 35, their weights, and the choice among equals.

use super::super::object::{Capacity, Term};
use super::Shape;
use super::network::NodeView;
use crate::math::fixed::{Fx, ratio};
use crate::math::{balance, bandwidth_headroom, fit_alignment, placement_score, stranded_capacity};

/// Number and name of each term's equation, and its weight in parts. The weights of the terms that apply are scaled to
/// sum to one. To become network parameters.
const TERMS: [(u8, &str, u64); 6] = [
    (14, "entropy_score", ENTROPY_PARTS),
    (18, "reliability_score", RELIABILITY_PARTS),
    (28, "fit_alignment", FIT_PARTS),
    (29, "stranded_capacity", STRANDED_PARTS),
    (30, "balance", BALANCE_PARTS),
    (33, "bandwidth_headroom", BANDWIDTH_PARTS),
];
const ENTROPY_PARTS: u64 = 3;
const RELIABILITY_PARTS: u64 = 2;
const FIT_PARTS: u64 = 2;
const STRANDED_PARTS: u64 = 2;
const BALANCE_PARTS: u64 = 2;
const BANDWIDTH_PARTS: u64 = 2;

/// A node's score and the values it came from, in the order of [`TERMS`]; `None` where a term does not apply.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    pub value: Fx,
    values: [Option<Fx>; TERMS.len()],
}

impl Score {
    /// Of a node that can take the pod.
    pub fn new(view: &NodeView, shape: &Shape) -> Self {
        let (allocatable, reliability) =
            view.node().map_or((Capacity::default(), Fx::ZERO), |node| (node.allocatable, node.reliability));
        let before = allocatable.minus(view.used);
        let after = before.minus(shape.demand);
        // A node without a resource has none of it free and none in use.
        let part_of = |part: u64, whole: u64| ratio(part, whole).unwrap_or(Fx::ZERO);
        let (cpu, memory) = (allocatable.cpu.0, allocatable.memory.0);
        let free = [part_of(after.cpu.0, cpu), part_of(after.memory.0, memory)];
        let used = [part_of(cpu - after.cpu.0, cpu), part_of(memory - after.memory.0, memory)];
        let fit = [
            (part_of(shape.demand.cpu.0, cpu), part_of(before.cpu.0, cpu)),
            (part_of(shape.demand.memory.0, memory), part_of(before.memory.0, memory)),
        ];
        let bandwidth = (shape.demand.bandwidth > 0)
            .then(|| bandwidth_headroom(before.bandwidth, shape.demand.bandwidth, allocatable.bandwidth));
        let values = [
            Some(view.entropy),
            Some(reliability),
            Some(fit_alignment(&fit)),
            Some(stranded_capacity(&free)),
            Some(balance(&used)),
            bandwidth,
        ];
        Self { value: combine(&values), values }
    }

    /// The terms that apply, as they are shown.
    pub fn terms(&self) -> Vec<Term> {
        let parts = parts(&self.values);
        let applied = TERMS.iter().zip(self.values).filter_map(|(term, value)| Some((term, value?)));
        let term = |(&(equation, name, weight), value): (&(u8, &str, u64), Fx)| Term {
            equation,
            name: name.to_owned(),
            value,
            weight: ratio(weight, parts).unwrap_or(Fx::ZERO),
        };
        applied.map(term).collect()
    }
}

fn parts(values: &[Option<Fx>; TERMS.len()]) -> u64 {
    TERMS.iter().zip(values).filter(|(_, value)| value.is_some()).map(|(term, _)| term.2).sum()
}

fn combine(values: &[Option<Fx>; TERMS.len()]) -> Fx {
    let parts = parts(values);
    let mut terms = [(Fx::ONE, Fx::ZERO); TERMS.len()];
    for ((term, value), slot) in TERMS.iter().zip(values).zip(&mut terms) {
        if let Some(value) = value {
            *slot = (*value, ratio(term.2, parts).unwrap_or(Fx::ZERO));
        }
    }
    placement_score(&terms)
}
