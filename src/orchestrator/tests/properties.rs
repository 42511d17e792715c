//! What holds whatever is asked: random commands, block by block.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Create { name: u8, cpu: u64, memory: u64, grace: u64, named: Option<u8> },
    Label { name: u8, value: u8 },
    Delete { name: u8, grace: Option<u64> },
    Report { name: u8, phase: u8, ready: bool, note: u8 },
    Gone { name: u8 },
    Register { n: u8, ready: bool },
    ConfigMap { name: u8, value: u8 },
    Namespace { delete: bool },
    Time { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..12u8;
    prop_oneof![
        4 => (name.clone(), 0..900u64, 0..900u64, 0..60u64, prop::option::weighted(0.1, 1..4u8))
            .prop_map(|(name, cpu, memory, grace, named)| Step::Create { name, cpu, memory, grace, named }),
        1 => (name.clone(), 0..3u8).prop_map(|(name, value)| Step::Label { name, value }),
        2 => (name.clone(), prop::option::of(0..60u64)).prop_map(|(name, grace)| Step::Delete { name, grace }),
        3 => (name.clone(), 0..5u8, any::<bool>(), 0..3u8)
            .prop_map(|(name, phase, ready, note)| Step::Report { name, phase, ready, note }),
        2 => name.clone().prop_map(|name| Step::Gone { name }),
        1 => (1..4u8, prop::bool::weighted(0.8)).prop_map(|(n, ready)| Step::Register { n, ready }),
        1 => (name, 0..3u8).prop_map(|(name, value)| Step::ConfigMap { name, value }),
        1 => any::<bool>().prop_map(|delete| Step::Namespace { delete }),
        1 => (0..4_000_000u64).prop_map(|millis| Step::Time { millis }),
    ]
}

/// Odd names live in a namespace that comes and goes.
fn key(name: u8) -> Key {
    Key::pod(if name % 2 == 1 { "team" } else { "default" }, format!("p{name}"))
}

fn command(chain: &mut Chain, step: &Step) -> Option<(Principal, Command)> {
    let precondition = Precondition::default();
    let assigned = |key: &Key| {
        let object = chain.state.get(key)?;
        let node = object.as_pod()?.spec.node_name.strip_prefix('n')?.parse().ok()?;
        Some((object.meta.uid, Principal::Node(id(node))))
    };
    Some(match *step {
        Step::Create { name, cpu, memory, grace, named } => {
            let key = key(name);
            let mut object = with_spec(pod_of(&key.name, cpu, memory << 20), |spec| spec.grace_seconds = grace);
            object.meta.namespace = key.namespace;
            let node_name = named.map_or(String::new(), |n| format!("n{n}"));
            (operator(), Command::Create { object: with_spec(object, |spec| spec.node_name = node_name) })
        }
        Step::Label { name, value } => {
            let mut object = Object::clone(chain.state.get(&key(name))?);
            object.meta.labels.insert("app".into(), value.to_string());
            (operator(), Command::Replace { object, precondition })
        }
        Step::Delete { name, grace } => {
            (operator(), Command::Delete { key: key(name), precondition, grace_seconds: grace })
        }
        Step::Report { name, phase, ready, note: n } => {
            let key = key(name);
            let (uid, principal) = assigned(&key)?;
            let phases = [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Unknown];
            let status = status(phases[usize::from(phase)], ready);
            (principal, Command::ReportPod { key, uid, status, notes: vec![note("N", &n.to_string())] })
        }
        Step::Gone { name } => {
            let key = key(name);
            let (uid, principal) = assigned(&key)?;
            (principal, Command::PodGone { key, uid })
        }
        Step::Register { n, ready } => {
            let mut node = node(n, 2_000, 2 * GIB);
            node.ready.ready = ready;
            let labels = BTreeMap::new();
            (Principal::Node(id(n)), Command::RegisterNode { name: format!("n{n}"), node, labels })
        }
        Step::ConfigMap { name, value } => {
            (local(), Command::Create { object: config_map(&format!("c{name}"), &value.to_string()) })
        }
        Step::Namespace { delete: true } => {
            (operator(), Command::Delete { key: Key::namespace("team"), precondition, grace_seconds: None })
        }
        Step::Namespace { delete: false } => (operator(), Command::Create { object: namespace("team") }),
        Step::Time { millis } => {
            chain.time += millis;
            return None;
        }
    })
}

fn check(chain: &Chain, before: u64) {
    // Nothing is promised twice.
    for object in chain.state.list(Kind::Node, None) {
        let (used, all) = (chain.state.used_on(&object.meta.name), object.as_node().unwrap().allocatable);
        assert!(used.cpu <= all.cpu && used.memory <= all.memory && used.pods <= all.pods, "{used:?} of {all:?}");
        let held = chain.state.list(Kind::Pod, None).filter_map(|pod| pod.as_pod());
        let held = held.filter(|pod| pod.spec.node_name == object.meta.name && !pod.ended());
        assert_eq!(held.map(Pod::demand).fold(Capacity::default(), Capacity::plus), used);
    }
    // Every change has a revision of its own, and what is there carries its last.
    let changes = chain.state.changes_since(before).unwrap();
    let revisions: Vec<u64> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (before + 1..=chain.state.revision()).collect::<Vec<_>>());
    for change in &changes {
        assert!(change.after.as_ref().is_none_or(|object| object.meta.revision == change.revision));
        assert!(change.before.is_some() || change.after.is_some());
    }
    // Nothing lives outside a namespace that is there.
    for kind in [Kind::Pod, Kind::ConfigMap, Kind::Event] {
        for object in chain.state.list(kind, None) {
            assert!(chain.state.get(&Key::namespace(&*object.meta.namespace)).is_some(), "{}", object.key());
        }
    }
    // Whoever waits was told why.
    for pod in chain.state.list(Kind::Pod, None).filter_map(|object| object.as_pod()) {
        assert!(!pod.spec.node_name.is_empty() || pod.status.message.starts_with("0/"), "{pod:?}");
    }
    assert_eq!(chain.restored(), chain.state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn invariants_hold_under_random_commands(blocks in prop::collection::vec(prop::collection::vec(step(), 1..8), 1..24)) {
        let mut chain = Chain::new();
        let mut again = Chain::new();
        for steps in &blocks {
            let before = chain.state.revision();
            let commands: Vec<_> = steps.iter().filter_map(|step| command(&mut chain, step)).collect();
            let outcomes = chain.block(&commands);
            prop_assert_eq!(outcomes.len(), commands.len());
            check(&chain, before);
            // A second machine given the same blocks writes the same bytes.
            again.time = chain.time - 1_000;
            again.block(&commands);
            prop_assert_eq!(again.entries(), chain.entries());
        }
    }
}

proptest! {
    /// Whatever bytes come as a command: an outcome, never a panic, and no trace of what was refused.
    #[test]
    fn hostile_bytes_are_only_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip: u8) {
        let mut chain = Chain::new();
        let before = chain.state.revision();
        bytes.insert(0, codec::FORMAT);
        let mut bent = codec::encode::<COMMAND_MAX, _>(&Command::Create { object: with_secret_env(pod("p")) }).unwrap();
        let at = at.index(bent.len());
        bent[at] ^= flip;
        let outcomes = chain.raw(&[(local(), id(1), &bytes), (local(), id(1), &bent)]);
        prop_assert!(outcomes.iter().any(Result::is_ok) || chain.state.revision() == before);
        let entry = chain.entries().iter().last().map(|(key, value)| (key.clone(), value.clone())).unwrap();
        let (key, mut value) = entry;
        let at = at % value.len();
        value[at] ^= flip;
        drop(machine::restore(&mut [(key, value), (bytes.clone(), bytes)].into_iter()));
    }
}
