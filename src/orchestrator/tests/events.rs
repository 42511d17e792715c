//! Events: counted, bounded, gone in time.

use super::*;
use crate::orchestrator::events::{KEPT_MILLIS, PER_OBJECT_MAX, TOTAL_MAX};

fn running(chain: &mut Chain, name: &str) {
    chain.create(pod(name)).unwrap();
    assert_eq!(chain.node_of(name), "n1");
}

#[test]
fn equal_notes_are_counted() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    running(&mut chain, "p");
    for _ in 0..3 {
        chain.report(1, "p", PodStatus::default(), vec![note("Pulling", "alpine"), note("Pulling", "nginx")]).unwrap();
    }
    let events = chain.events("Pulling");
    assert_eq!(events.len(), 2);
    assert!(
        events.iter().all(|event| event.count == 3 && event.source == "n1" && event.last.0 == event.first.0 + 2_000)
    );
    let names: Vec<_> = chain.state.list(Kind::Event, Some("default")).map(|event| event.meta.name.clone()).collect();
    assert!(names.iter().all(|name| name.starts_with("p.")), "{names:?}");
}

#[test]
fn one_object_has_its_share_of_events_and_no_more() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    running(&mut chain, "p");
    running(&mut chain, "q");
    for i in 0..PER_OBJECT_MAX + 5 {
        chain.report(1, "p", PodStatus::default(), vec![note("N", &i.to_string())]).unwrap();
    }
    let messages: Vec<_> = chain.events("N").into_iter().map(|event| event.note.message).collect();
    assert_eq!(messages.len(), PER_OBJECT_MAX);
    assert!(!messages.contains(&"4".to_owned()) && messages.contains(&"5".to_owned()), "the oldest went");
    assert_eq!(chain.events("Scheduled").len(), 1, "the other pod's stayed");
    let many = vec![note("N", ""); 65];
    assert_eq!(field_of(&chain.report(1, "p", PodStatus::default(), many)), "notes");
}

#[test]
fn the_whole_has_a_bound_too() {
    let mut chain = Chain::new();
    let mut large = node(1, 1_000, GIB);
    large.allocatable.pods = 1_000;
    chain.register(1, large).unwrap();
    let pods = TOTAL_MAX / PER_OBJECT_MAX + 1;
    let commands: Vec<_> = (0..pods).map(|i| (operator(), Command::Create { object: pod(&format!("p{i}")) })).collect();
    chain.block(&commands);
    for from in [0, 16] {
        let notes: Vec<Note> = (from..from + 16).map(|i| note("N", &i.to_string())).collect();
        let report = |i: usize| {
            let key = Key::pod("default", format!("p{i}"));
            let uid = chain.object(&key).meta.uid;
            (
                Principal::Node(id(1)),
                Command::ReportPod { key, uid, status: PodStatus::default(), notes: notes.clone() },
            )
        };
        let commands: Vec<_> = (0..pods).map(report).collect();
        chain.block(&commands);
    }
    assert_eq!(chain.state.list(Kind::Event, None).count(), TOTAL_MAX);
}

#[test]
fn an_event_goes_an_hour_after_its_last_occurrence() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    running(&mut chain, "p");
    let due = machine::next_deadline(&chain.state).unwrap();
    assert!(due.0 >= chain.time + KEPT_MILLIS && due.0 < chain.time + KEPT_MILLIS + 60_000);
    chain.time = due.0 - 1_001;
    chain.block(&[]);
    assert_eq!(chain.events("Scheduled").len(), 1);
    chain.time = due.0 - 1_000;
    chain.block(&[]);
    assert_eq!(chain.events("Scheduled").len(), 0);
    assert_eq!(machine::next_deadline(&chain.state), None);
}

#[test]
fn a_chain_without_a_block_wants_its_first_at_once() {
    assert_eq!(machine::next_deadline(&State::default()), Some(UnixMillis(0)));
    let chain = Chain::new();
    assert_eq!(machine::next_deadline(&chain.state), None);
    assert!(chain.state.get(&Key::namespace("default")).is_some());
}
