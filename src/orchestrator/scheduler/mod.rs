//! Where pods run: a pure function of committed state, computed alike by every node.
//!
//! Pods are taken in order of their namespace's dominant share (eq. 27), then of age. Nodes that cannot take a pod are
//! left out with their reasons ([`filter`]); of the others the best by eq. 35 gets it ([`score`]), among equals the one
//! that eq. 36 draws.

mod filter;
pub(super) mod network;
mod score;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::filter::Reason;
use self::network::{Network, NodeView};
use self::score::Score;
use super::command::Refusal;
use super::machine::Run;
use super::names::{self, invalid};
use super::object::{Body, Candidate, Capacity, Key, Note, Object, Placement, Pod};
use super::{events, state::State};
use crate::math::fixed::Fx;
use crate::math::{dominant_share, rendezvous_tiebreak};

/// How many shapes of pods one pass remembers the scores of.
const SHAPES_MAX: usize = 64;
const REFUSED_TEXT_MAX: usize = 1_024;

/// What of a pod decides where it can run: pods of one shape fare alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    demand: Capacity,
    selector: BTreeMap<String, String>,
    entropy: Option<Fx>,
    host_network: bool,
}

impl Shape {
    fn of(pod: &Pod) -> Self {
        Self {
            demand: pod.demand(),
            selector: pod.spec.node_selector.clone(),
            entropy: pod.spec.constraints.entropy_score.filter(|least| *least > Fx::ZERO),
            host_network: pod.spec.host_network,
        }
    }
}

/// What a node is for a pod of some shape.
#[derive(Clone)]
enum Verdict {
    Fits(Score),
    Refused(Vec<Reason>),
}

impl Verdict {
    fn new(network: &Network, view: &NodeView, shape: &Shape, named: bool) -> Self {
        let reasons = filter::reasons(network, view, shape, named);
        if reasons.is_empty() { Self::Fits(Score::new(view, shape)) } else { Self::Refused(reasons) }
    }
}

/// Verdicts on all nodes, each with the version of the node it was reached at.
type Verdicts = Vec<(u32, Verdict)>;

/// One pass over the pods that wait.
struct Pass {
    network: Network,
    /// Verdicts by shape; only nodes that changed since are looked at again.
    known: BTreeMap<Shape, Verdicts>,
}

/// Places the pods that wait for a node: the new ones, and all of them where room was made.
pub fn schedule(run: &mut Run) {
    let fresh = std::mem::take(&mut run.fresh);
    let waiting: Vec<Key> = if std::mem::take(&mut run.freed) {
        run.state.index().pending.iter().map(|(_, key)| key.clone()).collect()
    } else {
        let fresh: BTreeSet<Key> = fresh.into_iter().collect();
        fresh.into_iter().filter(|key| waits(run.state, key)).collect()
    };
    if waiting.is_empty() {
        return;
    }
    let mut pass = Pass { network: Network::new(run.state), known: BTreeMap::new() };
    let mut queues: BTreeMap<String, VecDeque<Key>> = BTreeMap::new();
    for key in waiting {
        queues.entry(key.namespace.clone()).or_default().push_back(key);
    }
    let mut order: BTreeSet<(Fx, String)> =
        queues.keys().map(|namespace| (share(run.state, &pass.network, namespace), namespace.clone())).collect();
    while let Some((_, namespace)) = order.pop_first() {
        let Some(queue) = queues.get_mut(&namespace) else { continue };
        if let Some(key) = queue.pop_front() {
            pass.place(run, &key);
        }
        if !queue.is_empty() {
            order.insert((share(run.state, &pass.network, &namespace), namespace));
        }
    }
}

fn waits(state: &State, key: &Key) -> bool {
    let pod = state.get(key).and_then(|object| object.as_pod());
    pod.is_some_and(|pod| pod.spec.node_name.is_empty() && !pod.ended())
}

/// Eq. 27 of a namespace: its largest part of what all nodes can give.
pub(super) fn share(state: &State, network: &Network, namespace: &str) -> Fx {
    let (used, total) = (state.used_by(namespace), network.total);
    dominant_share(&[
        (used.cpu.0, total.cpu.0),
        (used.memory.0, total.memory.0),
        (used.pods, total.pods),
        (used.bandwidth, total.bandwidth),
    ])
}

impl Pass {
    fn place(&mut self, run: &mut Run, key: &Key) {
        let Some(object) = run.state.get(key).cloned() else { return };
        let Some(pod) = object.as_pod() else { return };
        let shape = Shape::of(pod);
        if self.known.len() >= SHAPES_MAX && !self.known.contains_key(&shape) {
            self.known.clear();
        }
        let Self { network, known } = self;
        let verdicts = known.entry(shape).or_insert_with_key(|shape| {
            network.nodes.iter().map(|view| (view.version, Verdict::new(network, view, shape, false))).collect()
        });
        // The shape again, for the entry holds the only copy.
        let shape = Shape::of(pod);
        for (view, (version, verdict)) in network.nodes.iter().zip(verdicts.iter_mut()) {
            if *version != view.version {
                (*version, *verdict) = (view.version, Verdict::new(network, view, &shape, false));
            }
        }
        let ranking = Ranking::new(key, network, verdicts);
        match ranking.best() {
            Some(index) => {
                let node = network.nodes[index].name().to_owned();
                let object = bound(run, &object, &node, ranking.candidates(), network.nodes.len());
                run.state.put(object);
                tell_scheduled(run, key, &node);
                let view = &mut network.nodes[index];
                view.used = run.state.used_on(&node);
                view.version += 1;
            }
            None => fail(run, &object, network, &ranking),
        }
    }
}

/// The nodes in order of merit for one pod.
struct Ranking<'a> {
    network: &'a Network,
    verdicts: &'a Verdicts,
    /// Indices of the nodes that can take it, the best first.
    fitting: Vec<usize>,
}

impl<'a> Ranking<'a> {
    fn new(key: &Key, network: &'a Network, verdicts: &'a Verdicts) -> Self {
        let pod = format!("{}/{}", key.namespace, key.name);
        let fits = |(index, (_, verdict)): (usize, &(u32, Verdict))| match verdict {
            Verdict::Fits(score) => Some((score.value, index)),
            Verdict::Refused(_) => None,
        };
        let mut scored: Vec<(Fx, usize)> = verdicts.iter().enumerate().filter_map(fits).collect();
        scored.sort_by_key(|scored| std::cmp::Reverse(scored.0));
        // Only equals need a draw, and only those that will be shown.
        for equals in scored.chunk_by_mut(|a, b| a.0 == b.0).scan(0, |before, equals| {
            let shown = *before < Placement::CANDIDATES_MAX;
            *before += equals.len();
            shown.then_some(equals)
        }) {
            if equals.len() > 1 {
                let draw = |&(_, index): &(Fx, usize)| rendezvous_tiebreak(&pod, network.nodes[index].name());
                equals.sort_by_cached_key(|scored| std::cmp::Reverse(draw(scored)));
            }
        }
        Self { network, verdicts, fitting: scored.into_iter().map(|(_, index)| index).collect() }
    }

    fn best(&self) -> Option<usize> {
        self.fitting.first().copied()
    }

    /// The best first, then those left out, by name.
    fn candidates(&self) -> Vec<Candidate> {
        let refused = (0..self.verdicts.len()).filter(|index| matches!(self.verdicts[*index].1, Verdict::Refused(_)));
        let shown = self.fitting.iter().copied().chain(refused).take(Placement::CANDIDATES_MAX);
        shown.map(|index| candidate(self.network.nodes[index].name(), &self.verdicts[index].1)).collect()
    }
}

fn candidate(node: &str, verdict: &Verdict) -> Candidate {
    let node = node.to_owned();
    match verdict {
        Verdict::Fits(score) => Candidate { node, refused: None, terms: score.terms(), score: score.value },
        Verdict::Refused(reasons) => {
            let refused = Some(names::cut(filter::details(reasons), REFUSED_TEXT_MAX));
            Candidate { node, refused, terms: Vec::new(), score: Fx::ZERO }
        }
    }
}

/// The pod as it is with its node.
fn bound(run: &Run, object: &Object, node: &str, candidates: Vec<Candidate>, looked_at: usize) -> Object {
    let mut object = object.clone();
    let looked_at = u32::try_from(looked_at).unwrap_or(u32::MAX);
    if let Body::Pod(pod) = &mut object.body {
        node.clone_into(&mut pod.spec.node_name);
        pod.status.message = String::new();
        pod.status.scheduled = Some(run.block.time);
        pod.placement = Some(Placement {
            height: run.block.height,
            at: run.block.time,
            node: Some(node.to_owned()),
            candidates,
            looked_at,
        });
    }
    object
}

fn tell_scheduled(run: &mut Run, key: &Key, node: &str) {
    let Some(uid) = run.state.get(key).map(|object| object.meta.uid) else { return };
    let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
    let assigned = Note { warning: false, reason: "Scheduled".to_owned(), message };
    events::record(run, key, uid, events::SCHEDULER, &assigned);
}

/// Says why no node could take the pod; once, until the answer is another.
fn fail(run: &mut Run, object: &Arc<Object>, network: &Network, ranking: &Ranking) {
    let refused = ranking.verdicts.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Refused(reasons) => Some(reasons.as_slice()),
        Verdict::Fits(_) => None,
    });
    let message = names::cut(filter::summary(network.nodes.len(), refused), REFUSED_TEXT_MAX);
    if object.as_pod().is_some_and(|pod| pod.placement.is_some() && pod.status.message == message) {
        return;
    }
    let mut next = Object::clone(object);
    if let Body::Pod(pod) = &mut next.body {
        pod.status.message.clone_from(&message);
        pod.placement = Some(Placement {
            height: run.block.height,
            at: run.block.time,
            node: None,
            candidates: ranking.candidates(),
            looked_at: u32::try_from(network.nodes.len()).unwrap_or(u32::MAX),
        });
    }
    let (key, uid) = (next.key(), next.meta.uid);
    run.state.put(next);
    let note = Note { warning: true, reason: "FailedScheduling".to_owned(), message };
    events::record(run, &key, uid, events::SCHEDULER, &note);
}

/// Places a pod that is being made and whose maker named the node: there or nowhere.
pub fn bind_named(run: &mut Run, object: &Object) -> Result<Arc<Object>, Refusal> {
    const FIELD: &str = "spec.nodeName";
    let Some(pod) = object.as_pod() else { return Err(invalid(FIELD, "is for pods")) };
    let network = Network::new(run.state);
    let name = pod.spec.node_name.clone();
    let Some(view) = network.nodes.iter().find(|view| view.name() == name) else {
        let message = format!("there is no node {name:?}: see `kubectl get nodes`, or leave it out");
        return Err(invalid(FIELD, message));
    };
    let verdict = Verdict::new(&network, view, &Shape::of(pod), true);
    if let Verdict::Refused(reasons) = &verdict {
        let reasons = names::cut(filter::details(reasons), REFUSED_TEXT_MAX);
        return Err(invalid(FIELD, format!("node {name:?} cannot take the pod: {reasons}")));
    }
    let object = bound(run, object, &name, vec![candidate(&name, &verdict)], 1);
    let key = object.key();
    let object = run.state.put(object);
    tell_scheduled(run, &key, &name);
    Ok(object)
}
