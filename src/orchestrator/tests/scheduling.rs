//! Where pods go on networks of several nodes, and what is told of it.

use super::*;
use crate::math::{fixed, placement_score};
use crate::orchestrator::explain::explain;
use crate::orchestrator::object::Candidate;

const MIB: u64 = 1 << 20;

fn chain_of(nodes: &[Node]) -> Chain {
    let mut chain = Chain::new();
    for (n, node) in (1..).zip(nodes) {
        chain.register(n, node.clone()).unwrap();
    }
    chain
}

fn candidates(chain: &Chain, name: &str) -> Vec<Candidate> {
    chain.pod(name).placement.unwrap().candidates
}

fn why_not(chain: &Chain, name: &str) -> String {
    assert_eq!(chain.node_of(name), "", "{name} waits");
    chain.pod(name).status.message
}

#[test]
fn a_pod_goes_where_it_fits() {
    let mut chain = chain_of(&[node(1, 1_000, GIB), node(2, 4_000, 8 * GIB)]);
    let made = chain.create(pod_of("p", 2_000, GIB)).unwrap().unwrap();
    assert_eq!(made.as_pod().unwrap().spec.node_name, "", "the answer is the pod as it was made");
    assert_eq!(chain.node_of("p"), "n2");
    assert_eq!(chain.state.used_on("n2").cpu, Millicores(2_000));
    assert_eq!(chain.state.used_by("default").pods, 1);
    let refused = &candidates(&chain, "p")[1];
    assert_eq!(refused.node, "n1");
    assert!(refused.refused.as_ref().unwrap().contains("insufficient cpu: needs 2000m, 1000m of 1000m are free"));
    assert_eq!(chain.events("Scheduled")[0].note.message, "Successfully assigned default/p to n2");
    chain.create(pod_of("q", 3_000, GIB)).unwrap();
    assert_eq!(why_not(&chain, "q"), "0/2 nodes are available: 2 Insufficient cpu.");
}

#[test]
fn what_does_not_fit_says_why_once() {
    let mut chain = chain_of(&[node(1, 1_000, GIB), node(2, 1_000, 8 * GIB)]);
    chain.create(pod_of("p", 2_000, 2 * GIB)).unwrap();
    let message = "0/2 nodes are available: 2 Insufficient cpu, 1 Insufficient memory.";
    assert_eq!(why_not(&chain, "p"), message);
    let revision = chain.object(&Key::pod("default", "p")).meta.revision;
    chain.create(pod("other")).unwrap();
    chain.delete(Key::pod("default", "other"), None).unwrap();
    chain.gone(if chain.node_of("other") == "n1" { 1 } else { 2 }, "other").unwrap();
    assert_eq!(chain.object(&Key::pod("default", "p")).meta.revision, revision, "the same answer is no change");
    let events = chain.events("FailedScheduling");
    assert_eq!((events.len(), events[0].count), (1, 1));
    assert_eq!(events[0].note.message, message);
    let mut none = Chain::new();
    none.create(pod("p")).unwrap();
    assert!(why_not(&none, "p").starts_with("0/0 nodes"));
}

#[test]
fn freed_capacity_is_used() {
    let mut chain = chain_of(&[node(1, 1_000, GIB)]);
    for name in ["a", "b", "c", "d"] {
        chain.create(pod_of(name, 800, 0)).unwrap();
    }
    assert_eq!(chain.node_of("a"), "n1");
    // One ends by itself: it holds nothing any more, and the oldest that waits comes in.
    chain.report(1, "a", status(Phase::Succeeded, false), vec![]).unwrap();
    assert_eq!((chain.node_of("b"), chain.node_of("c")), ("n1".into(), String::new()));
    assert_eq!(chain.pod("b").status.message, "");
    // One is deleted: its place is free when its node has ended it, not before.
    chain.delete(Key::pod("default", "b"), None).unwrap();
    assert_eq!(chain.node_of("c"), "");
    chain.gone(1, "b").unwrap();
    assert_eq!(chain.node_of("c"), "n1");
    // A node grows.
    chain.register(1, node(1, 2_000, GIB)).unwrap();
    assert_eq!(chain.node_of("d"), "n1");
}

#[test]
fn selectors_cordons_readiness_and_policy_are_obeyed() {
    let mut sick = node(2, 1_000, GIB);
    sick.ready = Ready { ready: false, message: "start it as root".into(), ..sick.ready };
    let mut chain = chain_of(&[node(1, 1_000, GIB), sick]);
    let select = |name: &str, n: &str| {
        let n = n.to_owned();
        with_spec(pod(name), |spec| drop(spec.node_selector.insert("kubernetes.io/hostname".into(), n)))
    };
    chain.create(select("here", "n1")).unwrap();
    assert_eq!(chain.node_of("here"), "n1");
    chain.create(select("sick", "n2")).unwrap();
    let message = why_not(&chain, "sick");
    assert!(message.contains("1 node(s) didn't match Pod's node affinity/selector"), "{message}");
    assert!(message.contains("not ready (start it as root)"), "{message}");
    chain.create(with_spec(pod("host"), |spec| spec.host_network = true)).unwrap();
    assert!(why_not(&chain, "host").contains("`[policy]` in node.toml"));
    let refused = candidates(&chain, "host").into_iter().find(|candidate| candidate.node == "n1").unwrap();
    assert!(refused.refused.unwrap().contains("`host_network = true` under `[policy]`"));
    let mut cordoned = Object::clone(&chain.object(&Key::node("n1")));
    if let Body::Node(node) = &mut cordoned.body {
        node.unschedulable = true;
    }
    chain.replace(cordoned.clone()).unwrap();
    chain.create(pod("late")).unwrap();
    assert!(why_not(&chain, "late").contains("1 node(s) were unschedulable"));
    if let Body::Node(node) = &mut cordoned.body {
        node.unschedulable = false;
    }
    chain.replace(cordoned).unwrap();
    assert_eq!(chain.node_of("late"), "n1");
    let mut willing = node(1, 1_000, GIB);
    willing.policy.host_network = true;
    chain.register(1, willing).unwrap();
    assert_eq!(chain.node_of("host"), "n1");
}

#[test]
fn a_named_node_takes_the_pod_or_it_is_not_made() {
    let mut chain = chain_of(&[node(1, 1_000, GIB), node(2, 1_000, GIB)]);
    let on = |name: &str, n: &str, cpu| with_spec(pod_of(name, cpu, 0), |spec| spec.node_name = n.into());
    for (name, n) in [("a", "n2"), ("b", "n1")] {
        let made = chain.create(on(name, n, 100)).unwrap().unwrap();
        assert_eq!(made.as_pod().unwrap().placement.as_ref().unwrap().node.as_deref(), Some(n));
    }
    assert_eq!(field_of(&chain.create(on("c", "n3", 0))), "spec.nodeName");
    assert_eq!(field_of(&chain.create(on("c", "n1", 901))), "spec.nodeName");
    let host = with_spec(on("c", "n1", 0), |spec| spec.host_network = true);
    assert!(format!("{:?}", chain.create(host)).contains("[policy]"));
    assert!(chain.state.get(&Key::pod("default", "c")).is_none());
}

#[test]
fn the_entropy_constraint_keeps_to_rare_nodes() {
    // Three nodes of one operator, one of another: the rare one scores best.
    let of = |n, operator: &str| {
        let mut node = node(n, 1_000, GIB);
        node.classes = ["operator", "prefix", "latency", "platform"].map(|d| (d.into(), operator.into())).into();
        node
    };
    let mut chain = chain_of(&[of(1, "common"), of(2, "common"), of(3, "common"), of(4, "rare")]);
    let least = |name: &str, score: &str| {
        let score = fixed::parse(score).unwrap();
        with_spec(pod_of(name, 600, 0), |spec| spec.constraints.entropy_score = Some(score))
    };
    chain.create(least("first", "0.8")).unwrap();
    assert_eq!(chain.node_of("first"), "n4");
    // E is 0.625 and 0.875: the ratio of the common ones is 0.714…
    chain.create(least("second", "0.8")).unwrap();
    assert!(why_not(&chain, "second").contains("3 node(s) had too low an entropy score"));
    chain.create(least("third", "0.7")).unwrap();
    assert_ne!(chain.node_of("third"), "");
    let term = &candidates(&chain, "first")[0].terms[0];
    assert_eq!((term.equation, fixed::text(term.value)), (14, "0.875".into()));
}

#[test]
fn bandwidth_is_set_aside() {
    let mut chain = chain_of(&[node(1, 1_000, GIB)]);
    let wants = |name: &str, bits| with_spec(pod(name), |spec| spec.containers[0].bandwidth_min = Some(bits));
    chain.create(wants("a", 600_000_000)).unwrap();
    assert_eq!(chain.node_of("a"), "n1");
    assert!(candidates(&chain, "a")[0].terms.iter().any(|term| term.equation == 33));
    chain.create(wants("b", 600_000_000)).unwrap();
    assert_eq!(why_not(&chain, "b"), "0/1 nodes are available: 1 Insufficient bandwidth.");
    chain.create(pod("c")).unwrap();
    assert!(candidates(&chain, "c")[0].terms.iter().all(|term| term.equation != 33));
}

#[test]
fn pods_go_where_they_leave_the_node_balanced() {
    // n1 has cpu to spare, n2 memory: each pod goes where its own need is.
    let mut chain = chain_of(&[node(1, 4_000, GIB), node(2, 1_000, 4 * GIB)]);
    chain.create(pod_of("computes", 800, 64 * MIB)).unwrap();
    chain.create(pod_of("remembers", 50, 900 * MIB)).unwrap();
    assert_eq!((chain.node_of("computes"), chain.node_of("remembers")), ("n1".into(), "n2".into()));
}

#[test]
fn the_reliable_node_is_preferred() {
    let mut shaky = node(1, 1_000, GIB);
    shaky.reliability = Fx::from_num(0.5);
    let mut chain = chain_of(&[shaky, node(2, 1_000, GIB)]);
    for i in 0..5 {
        chain.create(pod(&format!("p{i}"))).unwrap();
        assert_eq!(chain.node_of(&format!("p{i}")), "n2");
    }
}

#[test]
fn equal_nodes_share_by_draw() {
    let mut chain = chain_of(&[node(1, 1_000, GIB), node(2, 1_000, GIB), node(3, 1_000, GIB)]);
    for i in 0..60 {
        chain.create(pod(&format!("p{i}"))).unwrap();
    }
    for n in ["n1", "n2", "n3"] {
        assert!((10..=30).contains(&chain.state.used_on(n).pods), "{n}");
    }
}

#[test]
fn namespaces_take_turns() {
    let mut chain = Chain::new();
    chain.create(namespace("late")).unwrap();
    let mut commands = Vec::new();
    for i in 0..8 {
        commands.push((operator(), Command::Create { object: pod_of(&format!("p{i}"), 100, 0) }));
    }
    chain.block(&commands);
    let mut other = pod_of("only", 100, 0);
    other.meta.namespace = "late".into();
    chain.create(other).unwrap();
    // Room for four: the namespace that has nothing is not starved by the one that asked first.
    chain.register(1, node(1, 400, GIB)).unwrap();
    let late = chain.object(&Key::pod("late", "only"));
    assert_eq!(late.as_pod().unwrap().spec.node_name, "n1");
    assert_eq!(chain.state.used_by("default").pods, 3);
}

#[test]
fn shown_terms_give_the_score() {
    let mut chain = chain_of(&[node(1, 3_000, GIB), node(2, 2_000, 3 * GIB), node(3, 100, GIB)]);
    let asked = with_spec(pod_of("p", 500, 300 * MIB), |spec| spec.containers[0].bandwidth_min = Some(1_000));
    chain.create(asked).unwrap();
    let explanation = explain(&chain.state, &Key::pod("default", "p")).unwrap();
    assert_eq!(explanation.node.as_deref(), Some(chain.node_of("p").as_str()));
    assert_eq!((explanation.looked_at, explanation.candidates.len()), (3, 3));
    assert!(explanation.candidates[0].chosen && explanation.candidates[2].refused.is_some());
    for choice in &explanation.candidates[..2] {
        let number = |text: &str| fixed::parse(text).unwrap();
        let terms: Vec<_> = choice.terms.iter().map(|term| (number(&term.value), number(&term.weight))).collect();
        let score = fixed::text(placement_score(&terms));
        assert_eq!(score, choice.score, "the reader's sum");
        assert_eq!(choice.terms.iter().map(|term| term.equation).collect::<Vec<_>>(), [14, 18, 28, 29, 30, 33]);
    }
    assert!(explanation.candidates[0].score >= explanation.candidates[1].score);
    assert!(explanation.rules.iter().any(|rule| rule.name == "placement_score"));
    let operators = &explanation.diversity[0];
    assert_eq!((operators.classes, operators.dimension.as_str()), (3, "operator"));
    assert!(operators.evenness.starts_with("0.99999") || operators.evenness == "1");
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<crate::orchestrator::explain::Explanation>(&json).unwrap(), explanation);
    assert!(explain(&chain.state, &Key::node("n1")).is_none());
    assert!(explain(&chain.state, &Key::pod("default", "none")).is_none());
}

#[test]
fn the_order_of_commands_in_a_block_does_not_move_pods() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let place = |order: &[&str]| {
        let mut chain = chain_of(&[node(1, 1_000, GIB), node(2, 700, 2 * GIB)]);
        let create = |name: &&str| (operator(), Command::Create { object: pod_of(name, 250, 100 * MIB) });
        chain.block(&order.iter().map(create).collect::<Vec<_>>());
        names.map(|name| chain.node_of(name))
    };
    let forward = place(&names);
    assert_eq!(forward, place(&["f", "e", "d", "c", "b", "a"]));
    assert_eq!(forward, place(&["c", "a", "f", "b", "e", "d"]));
}

/// 1,000 different pods on 100 nodes. The bound is generous, for the build under test is not optimised.
#[test]
fn a_thousand_pods_are_placed_in_a_moment() {
    let nodes: Vec<Node> = (1..=100).map(|n| node(n, 16_000, 64 * GIB)).collect();
    let mut chain = chain_of(&nodes);
    let object = |i: u64| pod_of(&format!("p{i}"), 100 + i % 500, (64 + i) * MIB);
    let commands: Vec<_> = (0..1_000).map(|i| (operator(), Command::Create { object: object(i) })).collect();
    let start = std::time::Instant::now();
    let outcomes = chain.block(&commands);
    let spent = start.elapsed();
    assert!(outcomes.iter().all(Result::is_ok));
    assert!((0..1_000).all(|i| !chain.node_of(&format!("p{i}")).is_empty()));
    println!("twice 1,000 pods on 100 nodes: {spent:?}");
    assert!(spent.as_secs() < 10, "{spent:?}");
}
