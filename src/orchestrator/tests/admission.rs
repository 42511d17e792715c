//! Every refusal names its field and leaves no trace.

use super::*;
use crate::orchestrator::object::Port;

/// A pod with its specification changed, as it is refused.
fn refused(change: impl FnOnce(&mut PodSpec)) -> String {
    let mut chain = Chain::new();
    let before = chain.state.revision();
    let outcome = chain.create(with_spec(pod("p"), change));
    assert_eq!(chain.state.revision(), before, "a refusal changes nothing");
    field_of(&outcome).to_owned()
}

fn env(name: &str, value: EnvValue) -> impl FnOnce(&mut PodSpec) {
    let name = name.to_owned();
    move |spec| spec.containers[0].env = vec![EnvVar { name, value }]
}

#[test]
fn a_pod_specification_is_checked_field_by_field() {
    let text = |text: &str| EnvValue::Literal(text.into());
    assert_eq!(refused(|spec| spec.containers.clear()), "spec.containers");
    assert_eq!(refused(|spec| spec.containers[0].name = "Main".into()), "spec.containers[0].name");
    assert_eq!(refused(|spec| spec.containers.push(spec.containers[0].clone())), "spec.containers[1].name");
    assert_eq!(refused(|spec| spec.containers[0].image = "a b".into()), "spec.containers[0].image");
    assert_eq!(refused(|spec| spec.containers[0].command = vec!["a\0".into()]), "spec.containers[0].command[0]");
    assert_eq!(refused(env("A=B", text(""))), "spec.containers[0].env[0].name");
    assert_eq!(refused(env("", text(""))), "spec.containers[0].env[0].name");
    assert_eq!(refused(env("A", text("\0"))), "spec.containers[0].env[0].value");
    let field = EnvValue::Field("metadata.nam".into());
    assert_eq!(refused(env("A", field)), "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath");
    let other = EnvValue::Resource { container: "other".into(), resource: "limits.cpu".into() };
    assert_eq!(refused(env("A", other)), "spec.containers[0].env[0].valueFrom.resourceFieldRef.containerName");
    let key = EnvValue::ConfigMapKey { name: "c".into(), key: "a/b".into(), optional: false };
    assert_eq!(refused(env("A", key)), "spec.containers[0].env[0].valueFrom.configMapKeyRef.key");
    let over = |spec: &mut PodSpec| {
        spec.containers[0].requests.memory = Some(Bytes(2));
        spec.containers[0].limits.memory = Some(Bytes(1));
    };
    assert_eq!(refused(over), "spec.containers[0].resources.requests.memory");
    let huge = |spec: &mut PodSpec| spec.containers[0].limits.cpu = Some(Millicores(u64::MAX));
    assert_eq!(refused(huge), "spec.containers[0].resources.limits.cpu");
    let port = |spec: &mut PodSpec| {
        spec.containers[0].ports = vec![Port { name: String::new(), container_port: 80, protocol: "tcp".into() }];
    };
    assert_eq!(refused(port), "spec.containers[0].ports[0].protocol");
    assert_eq!(
        refused(|spec| spec.constraints.entropy_score = Some(Fx::from_num(2))),
        "spec.constraints.entropy_score"
    );
    assert_eq!(refused(|spec| spec.hostname = "a.b".into()), "spec.hostname");
    let selector = |spec: &mut PodSpec| drop(spec.node_selector.insert("a b".into(), String::new()));
    assert_eq!(refused(selector), "spec.nodeSelector");
    assert_eq!(refused(|spec| spec.node_name = "nowhere".into()), "spec.nodeName");
    assert_eq!(refused(|spec| spec.grace_seconds = u64::MAX), "spec.terminationGracePeriodSeconds");
}

#[test]
fn downward_fields_with_a_key_are_known() {
    let mut chain = Chain::new();
    let value = EnvValue::Field("metadata.labels['app']".into());
    assert!(chain.create(with_spec(pod("p"), env("A", value))).is_ok());
}

#[test]
fn names_labels_and_annotations_follow_kubernetes() {
    let mut chain = Chain::new();
    for name in ["", "A", "a_b", "-a", "a..b", &"a".repeat(254)] {
        assert_eq!(field_of(&chain.create(pod(name))), "metadata.name", "{name:?}");
    }
    assert!(chain.create(pod("a.b-c.9")).is_ok());
    assert_eq!(field_of(&chain.create(namespace("a.b"))), "metadata.name");
    let mut labelled = pod("l");
    labelled.meta.labels.insert("example.com/app".into(), "-".into());
    assert_eq!(field_of(&chain.create(labelled.clone())), "metadata.labels");
    labelled.meta.labels.clear();
    labelled.meta.annotations.insert("note".into(), "x".repeat(256 * 1024));
    assert_eq!(field_of(&chain.create(labelled)), "metadata.annotations");
    let mut placed = namespace("x");
    placed.meta.namespace = "default".into();
    assert_eq!(field_of(&chain.create(placed)), "metadata.namespace");
}

#[test]
fn an_object_may_not_be_larger_than_a_mebibyte() {
    let mut chain = Chain::new();
    assert!(chain.create(config_map("fits", &"x".repeat(1_000_000))).is_ok());
    assert_eq!(field_of(&chain.create(config_map("large", &"x".repeat(1_100_000)))), "metadata");
}

#[test]
fn nodes_and_events_are_not_made_by_users() {
    let mut chain = Chain::new();
    let made = Object { meta: Meta { name: "x".into(), ..Meta::default() }, body: Body::Node(node(9, 1, 1)) };
    assert_eq!(field_of(&chain.create(made)), "kind");
    chain.create(pod("p")).unwrap();
    let event = chain.state.list(Kind::Event, None).next().unwrap().clone();
    assert_eq!(field_of(&chain.create(Object::clone(&event))), "kind");
}

#[test]
fn a_name_is_taken_once_and_generated_where_asked() {
    let mut chain = Chain::new();
    let made = chain.create(pod("p")).unwrap().unwrap();
    let key = made.key();
    assert_eq!(chain.create(pod("p")), Err(Refusal::AlreadyExists { key }));
    let mut generated = pod("");
    generated.meta.generate_name = "web-".into();
    let both = [0, 1].map(|_| chain.create(generated.clone()).unwrap().unwrap().meta.name.clone());
    assert!(both.iter().all(|name| name.starts_with("web-") && name.len() == 9), "{both:?}");
    assert_ne!(both[0], both[1]);
}

#[test]
fn a_namespace_must_be_there() {
    let mut chain = Chain::new();
    let mut stray = pod("p");
    stray.meta.namespace = "nowhere".into();
    assert_eq!(chain.create(stray), Err(Refusal::NotFound { key: Key::namespace("nowhere") }));
}

#[test]
fn apply_alone_sets_status_and_placement() {
    let mut chain = Chain::new();
    let mut lying = pod("p");
    lying.meta.uid = crate::base::Uid([9; 16]);
    lying.meta.revision = 77;
    if let Body::Pod(pod) = &mut lying.body {
        pod.status.phase = Phase::Succeeded;
    }
    chain.create(lying).unwrap();
    let object = chain.object(&Key::pod("default", "p"));
    assert_eq!(object.as_pod().unwrap().status.phase, Phase::Pending);
    assert_ne!(object.meta.uid, crate::base::Uid([9; 16]));
    assert_eq!(object.meta.generation, 1);
    assert_eq!(object.meta.created, UnixMillis(chain.time));
}

#[test]
fn a_replace_changes_labels_and_never_a_pods_specification() {
    let mut chain = Chain::new();
    chain.register(1, node(1, 1_000, GIB)).unwrap();
    chain.create(pod("p")).unwrap();
    let before = chain.object(&Key::pod("default", "p"));
    // As the user wrote it, without the node the scheduler set: nothing changes, not even the revision.
    let revision = chain.state.revision();
    assert_eq!(chain.replace(pod("p")), Ok(Some(Arc::clone(&before))));
    assert_eq!(chain.state.revision(), revision);
    let mut labelled = pod("p");
    labelled.meta.labels.insert("app".into(), "web".into());
    let after = chain.replace(labelled.clone()).unwrap().unwrap();
    assert_eq!(after.meta.revision, revision + 1);
    assert_eq!(after.meta.uid, before.meta.uid);
    assert_eq!(after.body, before.body);
    let image = chain.replace(with_spec(labelled.clone(), |spec| spec.containers[0].image = "nginx".into()));
    assert_eq!(field_of(&image), "spec.containers[0].image");
    let moved = chain.replace(with_spec(labelled.clone(), |spec| spec.node_name = "n2".into()));
    assert_eq!(field_of(&moved), "spec.nodeName");
    let network = chain.replace(with_spec(labelled, |spec| spec.host_network = true));
    assert_eq!(field_of(&network), "spec");
    assert!(matches!(chain.replace(pod("other")), Err(Refusal::NotFound { .. })));
}

#[test]
fn preconditions_guard_against_what_changed_meanwhile() {
    let mut chain = Chain::new();
    let made = chain.create(config_map("c", "1")).unwrap().unwrap();
    let at = |revision, uid| Precondition { uid, revision };
    let replace = |value: &str, precondition| Command::Replace { object: config_map("c", value), precondition };
    let now = Some(made.meta.revision);
    let changed = chain.one(operator(), replace("2", at(now, Some(made.meta.uid)))).unwrap().unwrap();
    assert_eq!(changed.meta.generation, 2);
    assert!(matches!(chain.one(operator(), replace("3", at(now, None))), Err(Refusal::Conflict { .. })));
    let other = Some(crate::base::Uid([1; 16]));
    assert!(matches!(chain.one(operator(), replace("3", at(None, other))), Err(Refusal::Conflict { .. })));
    let delete = Command::Delete { key: made.key(), precondition: at(now, None), grace_seconds: None };
    assert!(matches!(chain.one(operator(), delete), Err(Refusal::Conflict { .. })));
}

#[test]
fn what_is_immutable_stays() {
    let mut chain = Chain::new();
    let frozen = |value: &str, immutable| {
        let mut object = config_map("c", value);
        if let Body::ConfigMap(map) = &mut object.body {
            map.immutable = immutable;
        }
        object
    };
    chain.create(frozen("1", true)).unwrap();
    assert_eq!(field_of(&chain.replace(frozen("2", true))), "data");
    assert_eq!(field_of(&chain.replace(frozen("1", false))), "immutable");
    let mut labelled = frozen("1", true);
    labelled.meta.labels.insert("app".into(), "web".into());
    assert!(chain.replace(labelled).is_ok());
    chain.create(secret("s", b"x")).unwrap();
    let made = chain.object(&Key::new(Kind::Secret, "default", "s"));
    assert!(matches!(&made.body, Body::Secret(secret) if secret.secret_type == "Opaque"));
    let mut retyped = secret("s", b"x");
    if let Body::Secret(secret) = &mut retyped.body {
        secret.secret_type = "kubernetes.io/tls".into();
    }
    assert_eq!(field_of(&chain.replace(retyped)), "type");
}

#[test]
fn bytes_that_are_no_command_are_refused() {
    let mut chain = Chain::new();
    let outcomes = chain.raw(&[(operator(), id(1), b"\x01nonsense"), (operator(), id(1), b"")]);
    assert_eq!(outcomes, [Err(Refusal::Malformed), Err(Refusal::Malformed)]);
}
