//! Why a pod runs where it runs, or nowhere: the equations with their values, for `entroos pod explain` and the API.

use serde::{Deserialize, Serialize};

use super::object::{Candidate, Key, Kind, Object, Pod};
use super::scheduler::network::{DIMENSIONS, Network, Shares};
use super::scheduler::share;
use super::state::State;
use crate::math::fixed::{self, Fx};
use crate::math::{equation, evenness, rendezvous_tiebreak, shannon_entropy};

/// A pod's placement in figures. Numbers are decimal text, exact to the last bit, so that a reader can do the sums again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub namespace: String,
    pub name: String,
    /// Where it runs; `None` where no node could take it.
    pub node: Option<String>,
    /// What keeps it from being placed; empty where it is.
    pub message: String,
    /// The block that decided, and its time in milliseconds since 1970; `None` before the scheduler looked.
    pub height: Option<u64>,
    pub at: Option<u64>,
    /// How many nodes were looked at; of them the best and some of those left out are listed.
    pub looked_at: u32,
    pub candidates: Vec<Choice>,
    /// What the score and the order of pods come from.
    pub rules: Vec<Rule>,
    /// Eq. 27 of the pod's namespace, as it is now.
    pub dominant_share: String,
    /// How diverse the nodes are, as they are now.
    pub diversity: Vec<Diversity>,
}

/// One node that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    pub node: String,
    pub chosen: bool,
    /// Why it cannot take the pod; `None` where it can.
    pub refused: Option<String>,
    /// Eq. 35.
    pub score: String,
    pub terms: Vec<Factor>,
    /// Eq. 36, hexadecimal: among equal scores the greatest wins.
    pub draw: String,
}

/// One factor of eq. 35.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Factor {
    pub equation: u8,
    pub name: String,
    pub value: String,
    pub weight: String,
}

/// An equation as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub equation: u8,
    pub name: String,
    pub formula: String,
}

/// One dimension of diversity over all nodes, weighed by stake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diversity {
    pub dimension: String,
    pub classes: u32,
    /// Eq. 1, in nats.
    pub entropy: String,
    /// Eq. 2: 1 where all classes have the same stake.
    pub evenness: String,
}

/// The equations behind a placement; those of terms are added as they occur.
const RULES: [u8; 3] = [27, 35, 36];

/// Explains the placement of the pod at `key`; `None` where there is no such pod.
#[must_use]
pub fn explain(state: &State, key: &Key) -> Option<Explanation> {
    let object = state.get(key)?;
    let pod = object.as_pod()?;
    let placement = pod.placement.as_ref();
    let candidates = placement.map_or(&[][..], |placement| &placement.candidates);
    let node = Some(pod.spec.node_name.clone()).filter(|node| !node.is_empty());
    Some(Explanation {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        message: if node.is_none() { pod.status.message.clone() } else { String::new() },
        height: placement.map(|placement| placement.height.0),
        at: placement.map(|placement| placement.at.0),
        looked_at: placement.map_or(0, |placement| placement.looked_at),
        candidates: candidates.iter().map(|candidate| choice(key, pod, candidate)).collect(),
        rules: rules(candidates),
        dominant_share: fixed::text(share(state, &Network::new(state), &key.namespace)),
        diversity: diversity(state),
        node,
    })
}

fn choice(key: &Key, pod: &Pod, candidate: &Candidate) -> Choice {
    let draw = rendezvous_tiebreak(&format!("{}/{}", key.namespace, key.name), &candidate.node);
    let factor = |term: &super::object::Term| Factor {
        equation: term.equation,
        name: term.name.clone(),
        value: fixed::text(term.value),
        weight: fixed::text(term.weight),
    };
    Choice {
        node: candidate.node.clone(),
        chosen: candidate.node == pod.spec.node_name,
        refused: candidate.refused.clone(),
        score: fixed::text(candidate.score),
        terms: candidate.terms.iter().map(factor).collect(),
        draw: crate::base::id::hex(&draw[..8]),
    }
}

fn rules(candidates: &[Candidate]) -> Vec<Rule> {
    let terms = candidates.iter().flat_map(|candidate| candidate.terms.iter().map(|term| term.equation));
    let mut numbers: Vec<u8> = terms.chain(RULES).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let rule = |number| {
        let known = equation(number)?;
        Some(Rule { equation: number, name: known.name.to_owned(), formula: known.formula.to_owned() })
    };
    numbers.into_iter().filter_map(rule).collect()
}

fn diversity(state: &State) -> Vec<Diversity> {
    let nodes: Vec<&std::sync::Arc<Object>> = state.list(Kind::Node, None).collect();
    let shares = Shares::new(nodes.iter().filter_map(|object| object.as_node()));
    let one = |(index, dimension): (usize, &&str)| {
        let of_classes: Vec<Fx> = shares.of_dimension(index);
        let classes = u32::try_from(of_classes.len()).unwrap_or(u32::MAX);
        Diversity {
            dimension: (*dimension).to_owned(),
            classes,
            entropy: fixed::text(shannon_entropy(&of_classes)),
            evenness: fixed::text(evenness(&of_classes, classes)),
        }
    };
    DIMENSIONS.iter().enumerate().map(one).collect()
}
