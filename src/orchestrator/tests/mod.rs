//! The state machine as its callers see it: blocks in, outcomes and state out.

mod admission;
mod authorisation;
mod events;
mod lifecycle;
mod properties;
mod scheduling;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::{self, Block, COMMAND_MAX, Input};
use super::object::{
    Body, Capacity, ConfigMap, Container, ContainerState, ContainerStatus, EnvValue, EnvVar, Namespace, Node, NodeInfo,
    Note, Phase, Pod, PodSpec, PodStatus, Policy, Quantities, Ready, Secret,
};
use super::{Command, Key, Kind, Meta, Object, Outcome, Precondition, Principal, Refusal, State};
use crate::base::{Bytes, Height, Millicores, NodeId, UnixMillis, codec};
use crate::math::fixed::Fx;

pub const GIB: u64 = 1 << 30;
const START: u64 = 1_700_000_000_000;

/// A chain of one machine under test. Every block is also applied to a state that was just restored, which must agree.
pub struct Chain {
    pub state: State,
    pub time: u64,
    height: u64,
    transactions: u64,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Chain {
    /// With the first block, which is empty.
    pub fn new() -> Self {
        let mut chain =
            Self { state: State::default(), time: START, height: 0, transactions: 0, entries: BTreeMap::new() };
        chain.block(&[]);
        chain
    }

    pub fn block(&mut self, commands: &[(Principal, Command)]) -> Vec<Outcome> {
        let payloads: Vec<Vec<u8>> =
            commands.iter().map(|(_, command)| codec::encode::<COMMAND_MAX, _>(command).unwrap()).collect();
        let signed = commands.iter().zip(&payloads).map(|((principal, _), payload)| {
            let (Principal::Node(id) | Principal::Local(id) | Principal::Operator(id)) = *principal;
            (*principal, id, payload.as_slice())
        });
        let signed: Vec<_> = signed.collect();
        self.raw(&signed)
    }

    pub fn raw(&mut self, signed: &[(Principal, NodeId, &[u8])]) -> Vec<Outcome> {
        self.height += 1;
        self.time += 1_000;
        let block = Block { height: Height(self.height), time: UnixMillis(self.time), parent: [7; 32] };
        let mut inputs = Vec::new();
        for (principal, signer, payload) in signed {
            self.transactions += 1;
            let hash = *blake3::hash(&self.transactions.to_be_bytes()).as_bytes();
            inputs.push(Input { principal: *principal, signer: *signer, hash, payload });
        }
        let mut restored = self.restored();
        let before = self.state.clone();
        let outcomes = machine::apply(&mut self.state, &block, inputs.iter().copied());
        assert_eq!(machine::apply(&mut restored, &block, inputs.iter().copied()), outcomes);
        assert_eq!(restored, self.state, "a restored node and one that never stopped must agree");
        for (key, value) in machine::persist(&before, &self.state) {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
        outcomes
    }

    pub fn restored(&self) -> State {
        machine::restore(&mut self.entries.clone().into_iter()).unwrap()
    }

    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.entries
    }

    /// One command in a block of its own.
    pub fn one(&mut self, principal: Principal, command: Command) -> Outcome {
        self.block(&[(principal, command)]).remove(0)
    }

    pub fn create(&mut self, object: Object) -> Outcome {
        self.one(operator(), Command::Create { object })
    }

    pub fn replace(&mut self, object: Object) -> Outcome {
        self.one(operator(), Command::Replace { object, precondition: Precondition::default() })
    }

    pub fn delete(&mut self, key: Key, grace_seconds: Option<u64>) -> Outcome {
        self.one(operator(), Command::Delete { key, precondition: Precondition::default(), grace_seconds })
    }

    pub fn register(&mut self, n: u8, node: Node) -> Outcome {
        let (name, labels) = (format!("n{n}"), BTreeMap::from([("kubernetes.io/hostname".into(), format!("n{n}"))]));
        self.one(Principal::Node(id(n)), Command::RegisterNode { name, node, labels })
    }

    pub fn report(&mut self, n: u8, name: &str, status: PodStatus, notes: Vec<Note>) -> Outcome {
        let key = Key::pod("default", name);
        let uid = self.object(&key).meta.uid;
        self.one(Principal::Node(id(n)), Command::ReportPod { key, uid, status, notes })
    }

    pub fn gone(&mut self, n: u8, name: &str) -> Outcome {
        let key = Key::pod("default", name);
        let uid = self.object(&key).meta.uid;
        self.one(Principal::Node(id(n)), Command::PodGone { key, uid })
    }

    pub fn object(&self, key: &Key) -> Arc<Object> {
        Arc::clone(self.state.get(key).unwrap_or_else(|| panic!("{key} is there")))
    }

    pub fn pod(&self, name: &str) -> Pod {
        self.object(&Key::pod("default", name)).as_pod().unwrap().clone()
    }

    /// Where the pod is; empty while it waits.
    pub fn node_of(&self, name: &str) -> String {
        self.pod(name).spec.node_name
    }

    pub fn events(&self, reason: &str) -> Vec<super::object::Event> {
        let events = self.state.list(Kind::Event, None).filter_map(|object| object.as_event().cloned());
        events.filter(|event| event.note.reason == reason).collect()
    }
}

pub fn id(n: u8) -> NodeId {
    NodeId([n; 32])
}

pub fn operator() -> Principal {
    Principal::Operator(id(1))
}

pub fn local() -> Principal {
    Principal::Local(id(1))
}

pub fn node(n: u8, cpu: u64, memory: u64) -> Node {
    let capacity = Capacity { cpu: Millicores(cpu), memory: Bytes(memory), pods: 110, bandwidth: 1_000_000_000 };
    Node {
        id: id(n),
        seal_key: [n; 32],
        unschedulable: false,
        ready: Ready { ready: true, reason: "NodeReady".into(), message: String::new(), since: UnixMillis(0) },
        capacity,
        allocatable: capacity,
        policy: Policy::default(),
        info: NodeInfo::default(),
        address: "127.0.0.1".into(),
        classes: BTreeMap::from([("operator".into(), format!("o{n}"))]),
        stake: 1_000_000,
        reliability: Fx::ONE,
    }
}

pub fn meta(name: &str) -> Meta {
    Meta { name: name.into(), namespace: "default".into(), ..Meta::default() }
}

pub fn pod(name: &str) -> Object {
    pod_of(name, 0, 0)
}

/// A pod with one container that asks for millicores and bytes.
pub fn pod_of(name: &str, cpu: u64, memory: u64) -> Object {
    let requests =
        Quantities { cpu: (cpu > 0).then_some(Millicores(cpu)), memory: (memory > 0).then_some(Bytes(memory)) };
    let container = Container { name: "main".into(), image: "alpine".into(), requests, ..Container::default() };
    let spec = PodSpec { containers: vec![container], grace_seconds: 30, ..PodSpec::default() };
    Object { meta: meta(name), body: Body::Pod(Pod { spec, status: PodStatus::default(), placement: None }) }
}

/// `object` with its pod's specification changed.
pub fn with_spec(mut object: Object, change: impl FnOnce(&mut PodSpec)) -> Object {
    if let Body::Pod(pod) = &mut object.body {
        change(&mut pod.spec);
    }
    object
}

pub fn with_secret_env(object: Object) -> Object {
    with_spec(object, |spec| {
        let value = EnvValue::SecretKey { name: "s".into(), key: "k".into(), optional: false };
        spec.containers[0].env.push(EnvVar { name: "PASSWORD".into(), value });
    })
}

pub fn namespace(name: &str) -> Object {
    let meta = Meta { name: name.into(), ..Meta::default() };
    Object { meta, body: Body::Namespace(Namespace::default()) }
}

pub fn config_map(name: &str, value: &str) -> Object {
    let data = BTreeMap::from([("key".into(), value.into())]);
    Object { meta: meta(name), body: Body::ConfigMap(ConfigMap { data, ..ConfigMap::default() }) }
}

pub fn secret(name: &str, value: &[u8]) -> Object {
    let data = BTreeMap::from([("key".into(), value.into())]);
    Object { meta: meta(name), body: Body::Secret(Secret { data, ..Secret::default() }) }
}

pub fn status(phase: Phase, ready: bool) -> PodStatus {
    let container = ContainerStatus {
        name: "main".into(),
        state: ContainerState::Running { since: UnixMillis(1) },
        last: None,
        restarts: 0,
        image: String::new(),
        image_id: String::new(),
        id: String::new(),
        ready,
    };
    PodStatus { phase, containers: vec![container], ..PodStatus::default() }
}

pub fn note(reason: &str, message: &str) -> Note {
    Note { warning: false, reason: reason.into(), message: message.into() }
}

/// The field an outcome complains of.
pub fn field_of(outcome: &Outcome) -> &str {
    match outcome {
        Err(Refusal::Invalid { field, message }) => {
            assert!(!message.is_empty());
            field
        }
        other => panic!("expected an invalid field, got {other:?}"),
    }
}

pub fn forbidden(outcome: &Outcome) -> &str {
    match outcome {
        Err(Refusal::Forbidden { message }) => message,
        other => panic!("expected forbidden, got {other:?}"),
    }
}
