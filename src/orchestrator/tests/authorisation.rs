//! Who may do what, decided by every node.

use super::*;

#[test]
fn the_principals_own_node_must_sign() {
    let mut chain = Chain::new();
    let command = codec::encode::<COMMAND_MAX, _>(&Command::Create { object: pod("p") }).unwrap();
    let outcome = chain.raw(&[(Principal::Operator(id(1)), id(2), &command)]);
    forbidden(&outcome[0]);
}

#[test]
fn a_node_speaks_of_itself_and_of_its_pods_alone() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    let labels = BTreeMap::new();
    let other = Command::RegisterNode { name: "n9".into(), node: node(9, 1, 1), labels: labels.clone() };
    forbidden(&chain.one(Principal::Node(id(2)), other));
    let stolen = Command::RegisterNode { name: "n1".into(), node: node(2, 1, 1), labels };
    assert!(forbidden(&chain.one(Principal::Node(id(2)), stolen)).contains("node.toml"));
    chain.create(pod("p")).unwrap();
    chain.register(2, node(2, 1_000, GIB)).unwrap();
    assert_eq!(chain.node_of("p"), "n1");
    forbidden(&chain.report(2, "p", status(Phase::Running, true), vec![]));
    forbidden(&chain.gone(2, "p"));
    assert!(chain.report(1, "p", status(Phase::Running, true), vec![]).is_ok());
    // Neither do users report, nor nodes make pods.
    let key = Key::pod("default", "p");
    let uid = chain.object(&key).meta.uid;
    for principal in [operator(), local()] {
        forbidden(&chain.one(principal, Command::PodGone { key: key.clone(), uid }));
    }
    forbidden(&chain.one(Principal::Node(id(1)), Command::Create { object: pod("q") }));
}

#[test]
fn loopback_gets_no_more_than_unprivileged_pods() {
    let mut chain = Chain::new();
    let mut willing = node(1, 1_000, GIB);
    willing.policy.host_network = true;
    chain.register(1, willing).unwrap();
    let host = |name: &str| with_spec(pod(name), |spec| spec.host_network = true);
    for object in [host("h"), with_secret_env(pod("s"))] {
        let outcome = chain.one(local(), Command::Create { object: object.clone() });
        assert!(forbidden(&outcome).contains("<data dir>/token"));
        chain.create(object.clone()).unwrap();
        let replace = Command::Replace { object: object.clone(), precondition: Precondition::default() };
        forbidden(&chain.one(local(), replace));
        let delete = Command::Delete { key: object.key(), precondition: Precondition::default(), grace_seconds: None };
        forbidden(&chain.one(local(), delete));
    }
    // A plain pod is anybody's.
    assert!(chain.one(local(), Command::Create { object: pod("p") }).is_ok());
    let key = Key::pod("default", "p");
    let delete = Command::Delete { key, precondition: Precondition::default(), grace_seconds: None };
    assert!(chain.one(local(), delete).is_ok());
}

#[test]
fn loopback_touches_no_node_and_no_namespace_of_the_operators_pods() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    let delete = |key| Command::Delete { key, precondition: Precondition::default(), grace_seconds: None };
    forbidden(&chain.one(local(), delete(Key::node("n1"))));
    let object = Object::clone(&chain.object(&Key::node("n1")));
    forbidden(&chain.one(local(), Command::Replace { object, precondition: Precondition::default() }));
    chain.create(namespace("team")).unwrap();
    let mut precious = with_secret_env(pod("p"));
    precious.meta.namespace = "team".into();
    chain.create(precious).unwrap();
    assert!(forbidden(&chain.one(local(), delete(Key::namespace("team")))).contains("team/p"));
    chain.create(namespace("free")).unwrap();
    assert!(chain.one(local(), delete(Key::namespace("free"))).is_ok());
    assert!(chain.one(operator(), delete(Key::namespace("team"))).is_ok());
}

#[test]
fn a_namespace_is_sealed_once() {
    let mut chain = Chain::new();
    let seal = |bytes: &[u8]| Command::SealNamespace {
        namespace: "default".into(),
        sealed_keys: BTreeMap::from([(id(1), bytes.to_vec())]),
    };
    assert_eq!(field_of(&chain.one(operator(), seal(b""))), "sealed_keys");
    chain.one(local(), seal(b"first")).unwrap();
    assert!(matches!(chain.one(operator(), seal(b"second")), Err(Refusal::Conflict { .. })));
    // Labels may change; the key stays.
    chain.replace(namespace("default")).unwrap();
    let object = chain.object(&Key::namespace("default"));
    assert!(matches!(&object.body, Body::Namespace(namespace) if namespace.sealed_keys[&id(1)] == b"first"));
}
