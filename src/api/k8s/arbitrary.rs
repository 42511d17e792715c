//! Objects for property tests: anything the state may hold, and JSON that is nearly right.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::base::{Bytes, Height, Millicores, NodeId, Uid, UnixMillis};
use crate::math::fixed::Fx;
use crate::orchestrator::object::{
    Candidate, Capacity, ConfigMap, Constraints, Container, ContainerState, ContainerStatus, Deletion, EnvValue,
    EnvVar, Event, Namespace, Node, NodeInfo, Note, Phase, Placement, Pod, PodSpec, PodStatus, Policy, Port,
    PullPolicy, Quantities, Ready, RestartPolicy, Secret, Security, Terminated,
};
use crate::orchestrator::{Body, Key, Kind, Meta, Object};

const KINDS: [Kind; 6] = [Kind::Namespace, Kind::Node, Kind::Pod, Kind::ConfigMap, Kind::Secret, Kind::Event];

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}[a-z0-9]"
}

/// Any text, empty too.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,12}", word()]
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[a-z]{1,4}([./][a-z]{1,4}){0,2}", text(), 0..4)
}

/// Kubernetes prints whole seconds.
fn time() -> impl Strategy<Value = UnixMillis> {
    (0..4_000_000_000u64).prop_map(|seconds| UnixMillis(seconds * 1000))
}

fn uid() -> impl Strategy<Value = Uid> {
    any::<[u8; 16]>().prop_map(Uid)
}

fn meta(kind: Kind) -> impl Strategy<Value = Meta> {
    let deletion = (time(), 0..100u64).prop_map(|(due, grace_seconds)| Deletion { due, grace_seconds });
    let names = (word(), word(), prop_oneof![Just(String::new()), word()]);
    (names, uid(), any::<u64>(), 0..9u64, time(), option::of(deletion), texts(), texts()).prop_map(
        move |((name, namespace, generate_name), uid, revision, generation, created, deleted, labels, annotations)| {
            let namespace = if kind.namespaced() { namespace } else { String::new() };
            Meta { name, namespace, generate_name, uid, revision, generation, created, deleted, labels, annotations }
        },
    )
}

fn quantities() -> impl Strategy<Value = Quantities> {
    (option::of(any::<u64>()), option::of(any::<u64>()))
        .prop_map(|(cpu, memory)| Quantities { cpu: cpu.map(Millicores), memory: memory.map(Bytes) })
}

fn security(container: bool) -> impl Strategy<Value = Security> {
    let id = || option::of(0..u32::MAX);
    (id(), id(), option::of(any::<bool>()), option::of(any::<bool>())).prop_map(
        move |(run_as_user, run_as_group, run_as_non_root, read_only)| Security {
            run_as_user,
            run_as_group,
            run_as_non_root,
            read_only_root: read_only.filter(|_| container),
        },
    )
}

fn env() -> impl Strategy<Value = EnvVar> {
    let value = prop_oneof![
        text().prop_map(EnvValue::Literal),
        (word(), word(), any::<bool>()).prop_map(|(name, key, optional)| EnvValue::ConfigMapKey {
            name,
            key,
            optional
        }),
        (word(), word(), any::<bool>()).prop_map(|(name, key, optional)| EnvValue::SecretKey { name, key, optional }),
        prop_oneof![Just("metadata.name".to_owned()), word().prop_map(|key| format!("metadata.labels['{key}']"))]
            .prop_map(EnvValue::Field),
        (prop_oneof![Just(String::new()), word()], prop_oneof![Just("limits.cpu"), Just("requests.memory")])
            .prop_map(|(container, resource)| EnvValue::Resource { container, resource: resource.into() }),
    ];
    ("[A-Z_]{1,6}", value).prop_map(|(name, value)| EnvVar { name, value })
}

fn port() -> impl Strategy<Value = Port> {
    (prop_oneof![Just(String::new()), word()], 1..=u16::MAX, prop_oneof![Just("TCP"), Just("UDP"), Just("SCTP")])
        .prop_map(|(name, container_port, protocol)| Port { name, container_port, protocol: protocol.into() })
}

fn container() -> impl Strategy<Value = Container> {
    let policy = prop_oneof![Just(PullPolicy::IfNotPresent), Just(PullPolicy::Always), Just(PullPolicy::Never)];
    let words = (word(), text(), policy, vec(text(), 0..3), vec(text(), 0..3), text());
    let lists = (vec(env(), 0..4), vec(port(), 0..3), quantities(), quantities(), quantities());
    let rest = (option::of(any::<u64>()), security(true), any::<bool>(), any::<bool>(), any::<bool>());
    (words, lists, rest).prop_map(
        |(
            (name, image, pull_policy, command, args, working_dir),
            (env, ports, requests, limits, requirements),
            (bandwidth_min, security, stdin, stdin_once, tty),
        )| Container {
            name,
            image,
            pull_policy,
            command,
            args,
            working_dir,
            env,
            ports,
            requests,
            limits,
            requirements,
            bandwidth_min,
            security,
            stdin,
            stdin_once,
            tty,
        },
    )
}

fn pod_spec() -> impl Strategy<Value = PodSpec> {
    let policy = prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)];
    let score = option::of(any::<u64>())
        .prop_map(|bits| Constraints { entropy_score: bits.map(|bits| Fx::from_bits(i128::from(bits))) });
    let words = (text(), texts(), text());
    (vec(container(), 1..3), policy, 0..1_000_000u64, any::<bool>(), words, security(false), score).prop_map(
        |(containers, restart_policy, grace_seconds, host_network, words, security, constraints)| PodSpec {
            containers,
            restart_policy,
            grace_seconds,
            host_network,
            hostname: words.0,
            node_selector: words.1,
            node_name: words.2,
            security,
            constraints,
        },
    )
}

fn terminated() -> impl Strategy<Value = Terminated> {
    (any::<i32>(), 0..3i32, text(), text(), time(), time()).prop_map(
        |(exit_code, signal, reason, message, started, finished)| Terminated {
            exit_code,
            signal,
            reason,
            message,
            started,
            finished,
        },
    )
}

fn container_status() -> impl Strategy<Value = ContainerStatus> {
    let state = prop_oneof![
        (text(), text()).prop_map(|(reason, message)| ContainerState::Waiting { reason, message }),
        time().prop_map(|since| ContainerState::Running { since }),
        terminated().prop_map(ContainerState::Terminated),
    ];
    let texts = (text(), text(), text());
    (word(), state, option::of(terminated()), 0..i32::MAX.unsigned_abs(), texts, any::<bool>()).prop_map(
        |(name, state, last, restarts, (image, image_id, id), ready)| ContainerStatus {
            name,
            state,
            last,
            restarts,
            image,
            image_id,
            id,
            ready,
        },
    )
}

fn pod_status() -> impl Strategy<Value = PodStatus> {
    let phase = prop_oneof![
        Just(Phase::Pending),
        Just(Phase::Running),
        Just(Phase::Succeeded),
        Just(Phase::Failed),
        Just(Phase::Unknown)
    ];
    let times = (option::of(time()), option::of(time()), option::of(time()));
    (phase, text(), text(), text(), times, vec(container_status(), 0..3)).prop_map(
        |(phase, reason, message, host_ip, (started, ready_changed, scheduled), containers)| PodStatus {
            phase,
            reason,
            message,
            host_ip,
            started,
            ready_changed,
            scheduled,
            containers,
        },
    )
}

fn placement() -> impl Strategy<Value = Placement> {
    let candidate = (word(), option::of(text())).prop_map(|(node, refused)| Candidate {
        node,
        refused,
        terms: Vec::new(),
        score: Fx::ZERO,
    });
    (time(), option::of(word()), vec(candidate, 0..3), any::<u32>())
        .prop_map(|(at, node, candidates, looked_at)| Placement { height: Height(1), at, node, candidates, looked_at })
}

fn node() -> impl Strategy<Value = Node> {
    let capacity = || {
        any::<[u64; 4]>().prop_map(|[cpu, memory, pods, bandwidth]| Capacity {
            cpu: Millicores(cpu),
            memory: Bytes(memory),
            pods,
            bandwidth,
        })
    };
    let ready = (any::<bool>(), text(), text(), time()).prop_map(|(ready, reason, message, since)| Ready {
        ready,
        reason,
        message,
        since,
    });
    let address = prop_oneof![Just("10.0.0.1".to_owned()), text()];
    (any::<[u8; 32]>(), any::<bool>(), ready, capacity(), capacity(), address, texts()).prop_map(
        |(id, unschedulable, ready, capacity, allocatable, address, classes)| Node {
            id: NodeId(id),
            seal_key: [0; 32],
            unschedulable,
            ready,
            capacity,
            allocatable,
            policy: Policy::default(),
            info: NodeInfo { version: "0.1.0".into(), ..NodeInfo::default() },
            address,
            classes,
            stake: 1,
            reliability: Fx::ONE,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let kind = (0..KINDS.len()).prop_map(|i| KINDS[i]);
    let note = (any::<bool>(), text(), text()).prop_map(|(warning, reason, message)| Note { warning, reason, message });
    ((kind, text(), word()), uid(), note, 0..i32::MAX.unsigned_abs(), time(), time(), text()).prop_map(
        |((kind, namespace, name), involved_uid, note, count, first, last, source)| Event {
            involved: Key { kind, namespace, name },
            involved_uid,
            note,
            count,
            first,
            last,
            source,
        },
    )
}

fn bytes() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    btree_map("[a-z.]{1,6}", vec(any::<u8>(), 0..20), 0..4)
}

fn body(kind: Kind) -> BoxedStrategy<Body> {
    match kind {
        Kind::Namespace => Just(Body::Namespace(Namespace::default())).boxed(),
        Kind::Node => node().prop_map(Body::Node).boxed(),
        Kind::Pod => (pod_spec(), pod_status(), option::of(placement()))
            .prop_map(|(spec, status, placement)| Body::Pod(Pod { spec, status, placement }))
            .boxed(),
        Kind::ConfigMap => (texts(), bytes(), any::<bool>())
            .prop_map(|(data, binary_data, immutable)| Body::ConfigMap(ConfigMap { data, binary_data, immutable }))
            .boxed(),
        Kind::Secret => ("[A-Z][a-z]{1,5}", bytes(), option::of(".{0,20}"), any::<bool>())
            .prop_map(|(secret_type, data, copy, immutable)| {
                let copy = copy.map(|text| (super::meta::LAST_APPLIED.to_owned(), text.into_bytes()));
                Body::Secret(Secret { secret_type, data, sealed_annotations: copy.into_iter().collect(), immutable })
            })
            .boxed(),
        Kind::Event => event().prop_map(Body::Event).boxed(),
    }
}

/// An object of any kind.
pub(super) fn object() -> impl Strategy<Value = Object> {
    (0..KINDS.len()).prop_flat_map(|i| (meta(KINDS[i]), body(KINDS[i])).prop_map(|(meta, body)| Object { meta, body }))
}

/// Any JSON, shallow.
pub(super) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        text().prop_map(Value::from),
    ];
    let name = prop_oneof![
        text(),
        Just("metadata".to_owned()),
        Just("spec".to_owned()),
        Just("containers".to_owned()),
        Just("name".to_owned()),
        Just("env".to_owned()),
        Just("data".to_owned()),
        Just("$patch".to_owned()),
        Just("$setElementOrder/containers".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(name.clone(), inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The value with the `index`th of its parts (in reading order) replaced by `with`.
pub(super) fn replace_part(value: &mut Value, index: &mut usize, with: &Value) -> bool {
    if *index == 0 {
        value.clone_from(with);
        return true;
    }
    *index -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|inner| replace_part(inner, index, with)),
        Value::Object(map) => map.values_mut().any(|inner| replace_part(inner, index, with)),
        _ => false,
    }
}
