//! How objects change and go, and what watches see of it.

use super::*;
use crate::orchestrator::state::CHANGES_MAX;

#[test]
fn a_pod_without_a_node_goes_at_once() {
    let mut chain = Chain::new();
    chain.create(pod("p")).unwrap();
    let last = chain.delete(Key::pod("default", "p"), None).unwrap().unwrap();
    assert_eq!(last.meta.name, "p");
    assert!(chain.state.get(&last.key()).is_none());
    assert!(matches!(chain.delete(last.key(), None), Err(Refusal::NotFound { .. })));
}

#[test]
fn a_placed_pod_goes_when_its_node_has_ended_it() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("p")).unwrap();
    let key = Key::pod("default", "p");
    assert!(matches!(chain.gone(1, "p"), Err(Refusal::Conflict { .. })), "it is not being deleted");
    let marked = chain.delete(key.clone(), None).unwrap().unwrap();
    let first = marked.meta.deleted.unwrap();
    assert_eq!((first.grace_seconds, first.due), (30, UnixMillis(chain.time + 30_000)));
    // A longer grace changes nothing; a shorter one does.
    assert_eq!(chain.delete(key.clone(), Some(60)), Ok(Some(marked)));
    let shorter = chain.delete(key.clone(), Some(1)).unwrap().unwrap().meta.deleted.unwrap();
    assert_eq!((shorter.grace_seconds, shorter.due), (1, UnixMillis(chain.time + 1_000)));
    chain.gone(1, "p").unwrap();
    assert!(chain.state.get(&key).is_none());
    assert_eq!(chain.state.used_on("n1"), Capacity::default());
}

#[test]
fn a_report_for_a_namesake_is_refused() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("p")).unwrap();
    let command = Command::ReportPod {
        key: Key::pod("default", "p"),
        uid: crate::base::Uid([1; 16]),
        status: PodStatus::default(),
        notes: vec![],
    };
    assert!(matches!(chain.one(Principal::Node(id(1)), command), Err(Refusal::Conflict { .. })));
}

#[test]
fn a_status_is_taken_over_and_an_ended_pod_stays_ended() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("p")).unwrap();
    let scheduled = chain.pod("p").status.scheduled;
    assert!(scheduled.is_some());
    chain.report(1, "p", status(Phase::Running, true), vec![]).unwrap();
    let running = chain.pod("p").status;
    assert_eq!(running.ready_changed, Some(UnixMillis(chain.time)));
    assert_eq!(running.scheduled, scheduled);
    // The same again is no change.
    let revision = chain.state.revision();
    chain.report(1, "p", status(Phase::Running, true), vec![]).unwrap();
    assert_eq!(chain.state.revision(), revision);
    chain.report(1, "p", status(Phase::Succeeded, false), vec![]).unwrap();
    assert_eq!(chain.pod("p").status.ready_changed, Some(UnixMillis(chain.time)));
    let back = chain.report(1, "p", status(Phase::Running, true), vec![]);
    assert!(matches!(back, Err(Refusal::Conflict { .. })));
    let mut stranger = status(Phase::Succeeded, false);
    stranger.containers[0].name = "other".into();
    assert_eq!(field_of(&chain.report(1, "p", stranger, vec![])), "status.containerStatuses[0].name");
    let mut long = status(Phase::Succeeded, false);
    long.message = "é".repeat(10_000);
    chain.report(1, "p", long, vec![]).unwrap();
    assert_eq!(chain.pod("p").status.message.len(), 4_096);
}

#[test]
fn a_namespace_goes_after_all_in_it() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(namespace("team")).unwrap();
    for mut object in [pod("p"), config_map("c", "1"), secret("s", b"x")] {
        object.meta.namespace = "team".into();
        chain.create(object).unwrap();
    }
    chain.delete(Key::namespace("team"), None).unwrap();
    let pod_key = Key::pod("team", "p");
    assert!(chain.object(&Key::namespace("team")).meta.deleted.is_some());
    assert_eq!(chain.state.list(Kind::ConfigMap, Some("team")).count(), 0);
    assert_eq!(chain.state.list(Kind::Secret, Some("team")).count(), 0);
    let mut late = config_map("late", "1");
    late.meta.namespace = "team".into();
    assert!(forbidden(&chain.create(late)).contains("terminated"));
    let uid = chain.object(&pod_key).meta.uid;
    chain.one(Principal::Node(id(1)), Command::PodGone { key: pod_key, uid }).unwrap();
    assert!(chain.state.get(&Key::namespace("team")).is_none());
    assert_eq!(chain.state.list(Kind::Event, Some("team")).count(), 0);
    forbidden(&chain.delete(Key::namespace("default"), None));
    chain.create(namespace("empty")).unwrap();
    chain.delete(Key::namespace("empty"), None).unwrap();
    assert!(chain.state.get(&Key::namespace("empty")).is_none());
}

#[test]
fn a_node_keeps_what_its_operator_set() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    let mut cordoned = Object::clone(&chain.object(&Key::node("n1")));
    cordoned.meta.annotations.insert("rack".into(), "7".into());
    cordoned.meta.labels.insert("zone".into(), "a".into());
    if let Body::Node(node) = &mut cordoned.body {
        node.unschedulable = true;
        node.allocatable.pods = 9_999; // not the operator's to say
    }
    chain.replace(cordoned).unwrap();
    chain.register(1, node(1, 2_000, GIB)).unwrap();
    let object = chain.object(&Key::node("n1"));
    let kept = object.as_node().unwrap();
    assert!(kept.unschedulable && object.meta.annotations["rack"] == "7" && object.meta.labels["zone"] == "a");
    assert_eq!((kept.allocatable.cpu, kept.allocatable.pods), (Millicores(2_000), 110));
    let revision = chain.state.revision();
    let mut same = node(1, 2_000, GIB);
    same.ready.since = UnixMillis(5); // its own clock does not count
    chain.register(1, same).unwrap();
    assert_eq!(chain.state.revision(), revision, "the same again is no change");
    let mut senseless = node(1, 1, 1);
    senseless.reliability = Fx::ZERO;
    assert_eq!(field_of(&chain.register(1, senseless)), "status.reliability");
}

#[test]
fn a_renamed_node_leaves_its_old_name_unless_pods_hold_it() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("p")).unwrap();
    let renamed = || Command::RegisterNode { name: "new".into(), node: node(1, 1_000, GIB), labels: BTreeMap::new() };
    assert!(matches!(chain.one(Principal::Node(id(1)), renamed()), Err(Refusal::Conflict { .. })));
    chain.delete(Key::pod("default", "p"), None).unwrap();
    chain.gone(1, "p").unwrap();
    chain.one(Principal::Node(id(1)), renamed()).unwrap();
    assert!(chain.state.get(&Key::node("n1")).is_none());
}

#[test]
fn pods_being_deleted_go_with_their_node() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("going")).unwrap();
    chain.create(pod("staying")).unwrap();
    chain.delete(Key::pod("default", "going"), None).unwrap();
    chain.delete(Key::node("n1"), None).unwrap();
    assert!(chain.state.get(&Key::pod("default", "going")).is_none());
    assert!(chain.state.get(&Key::pod("default", "staying")).is_some());
    chain.delete(Key::pod("default", "staying"), None).unwrap();
    assert!(chain.state.get(&Key::pod("default", "staying")).is_none());
}

#[test]
fn watches_see_each_change_once_and_in_order() {
    let mut chain = Chain::new();
    let start = chain.state.revision();
    chain.create(config_map("c", "1")).unwrap();
    chain.replace(config_map("c", "2")).unwrap();
    chain.delete(Key::new(Kind::ConfigMap, "default", "c"), None).unwrap();
    let changes = chain.state.changes_since(start).unwrap();
    let seen: Vec<_> = changes.iter().map(|c| (c.revision - start, c.before.is_some(), c.after.is_some())).collect();
    assert_eq!(seen, [(1, false, true), (2, true, true), (3, true, false)]);
    assert_eq!(changes[0].after.as_ref().unwrap().meta.revision, changes[0].revision);
    assert_eq!(chain.state.changes_since(start + 2).unwrap().len(), 1);
    assert!(chain.state.changes_since(start + 3).unwrap().is_empty());
    assert!(chain.state.changes_since(start + 4).is_none(), "of the future");
    assert!(chain.state.changes_since(u64::MAX).is_none());
    let restored = chain.restored();
    assert!(restored.changes_since(start + 2).is_none(), "a restart forgets");
    assert!(restored.changes_since(start + 3).is_some(), "but knows where it stands");
}

#[test]
fn the_memory_of_changes_is_bounded() {
    let mut chain = Chain::new();
    let start = chain.state.revision();
    let many = CHANGES_MAX as u64 + 10;
    let replace = |i: u64| {
        let object = config_map("c", &i.to_string());
        (operator(), Command::Replace { object, precondition: Precondition::default() })
    };
    chain.create(config_map("c", "")).unwrap();
    chain.block(&(0..many).map(replace).collect::<Vec<_>>());
    assert!(chain.state.changes_since(start).is_none(), "too old");
    assert_eq!(chain.state.changes_since(start + 11).unwrap().len(), CHANGES_MAX);
}

#[test]
fn lists_are_in_order_and_keep_to_their_kind() {
    let mut chain = Chain::new();
    chain.create(namespace("a")).unwrap();
    for (space, name) in [("default", "x"), ("a", "z"), ("a", "b")] {
        let mut object = config_map(name, "1");
        object.meta.namespace = space.into();
        chain.create(object).unwrap();
    }
    chain.create(secret("s", b"x")).unwrap();
    let names = |namespace| -> Vec<String> {
        chain.state.list(Kind::ConfigMap, namespace).map(|object| object.meta.name.clone()).collect()
    };
    assert_eq!(names(None), ["b", "z", "x"]);
    assert_eq!(names(Some("a")), ["b", "z"]);
    assert_eq!(names(Some("")), Vec::<String>::new());
    assert_eq!(chain.state.list(Kind::Namespace, None).count(), 2);
}

#[test]
fn malformed_entries_are_named() {
    let restore = |entries: Vec<(Vec<u8>, Vec<u8>)>| machine::restore(&mut entries.into_iter());
    let chain = Chain::new();
    let good: Vec<_> = chain.entries().clone().into_iter().collect();
    assert!(restore(good.clone()).is_ok());
    let mut cut = good.clone();
    cut[1].1.pop();
    assert!(restore(cut).unwrap_err().contains("default"));
    let mut moved = good.clone();
    moved[1].0.push(b'x');
    assert!(restore(moved).unwrap_err().contains("another object"));
    assert!(restore(good[1..].to_vec()).unwrap_err().contains("head"));
}
