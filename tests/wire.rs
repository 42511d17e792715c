//! What was written by an earlier version is read by this one: one sample of each wire type, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo test --test wire` rewrites the samples; a change of theirs breaks every existing data directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use entroos::base::codec::{self, decode, encode};
use entroos::base::{Bytes, Height, Millicores, NodeId, Uid, UnixMillis};
use entroos::ledger::SignedCommand;
use entroos::ledger::block::{Block, Genesis, Tip};
use entroos::math::fixed::Fx;
use entroos::orchestrator::object::*;
use entroos::orchestrator::{Command, Precondition, Principal};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

/// Every sample: its file, its bytes as this version writes them, and whether this version reads bytes as that very value.
type Sample = (&'static str, Vec<u8>, Box<dyn Fn(&[u8]) -> bool>);

fn sample<T>(name: &'static str, value: T) -> Sample
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + 'static,
{
    let bytes = encode::<LIMIT, T>(&value).unwrap();
    (name, bytes, Box::new(move |bytes| decode::<LIMIT, T>(bytes).is_ok_and(|read| read == value)))
}

fn samples() -> Vec<Sample> {
    let (key, uid) = (key(Kind::Pod, "web"), Uid([7; 16]));
    let precondition = Precondition { uid: Some(uid), revision: Some(12) };
    let commands: [(&str, Command); 7] = [
        ("command_create", Command::Create { object: object(Body::Pod(pod())) }),
        ("command_replace", Command::Replace { object: object(Body::ConfigMap(config_map())), precondition }),
        ("command_delete", Command::Delete { key: key.clone(), precondition, grace_seconds: Some(5) }),
        ("command_register_node", Command::RegisterNode { name: "n1".into(), node: node(), labels: map("zone", "a") }),
        ("command_report_pod", Command::ReportPod { key: key.clone(), uid, status: status(), notes: vec![note()] }),
        ("command_pod_gone", Command::PodGone { key, uid }),
        (
            "command_seal_namespace",
            Command::SealNamespace { namespace: "shop".into(), sealed_keys: [(NodeId([3; 32]), vec![1, 2])].into() },
        ),
    ];
    let mut samples: Vec<Sample> = commands.into_iter().map(|(name, command)| sample(name, command)).collect();
    samples.extend([
        sample("genesis", Genesis { seed: [9; 32], proposer: NodeId([3; 32]), time: UnixMillis(1_700_000_000_000) }),
        sample("tip", Tip { height: Height(300), time: UnixMillis(1_700_000_000_001), hash: [8; 32] }),
        sample("signed_command", signed()),
        sample(
            "block",
            Block {
                height: Height(300),
                parent: [5; 32],
                time: UnixMillis(1_700_000_000_000),
                commands: vec![signed(), SignedCommand { principal: Principal::Operator(NodeId([4; 32])), ..signed() }],
            },
        ),
        sample(
            "object_namespace",
            object(Body::Namespace(Namespace { sealed_keys: [(NodeId([3; 32]), vec![1])].into() })),
        ),
        sample("object_node", object(Body::Node(node()))),
        sample("object_pod", object(Body::Pod(pod()))),
        sample("object_config_map", object(Body::ConfigMap(config_map()))),
        sample("object_secret", object(Body::Secret(secret()))),
        sample("object_event", object(Body::Event(event()))),
    ]);
    samples
}

#[test]
fn golden_bytes_are_read_and_written_as_ever() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, bytes, reads) in samples() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
        if update {
            std::fs::write(&path, to_hex(&bytes)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let golden = from_hex(&text);
        assert!(reads(&golden), "{name}: the golden bytes are read as something else");
        assert_eq!(to_hex(&bytes), text, "{name}: written otherwise than the golden bytes");
        // The negative control: another byte is another value, or none.
        for at in 0..golden.len() {
            let mut changed = golden.clone();
            changed[at] ^= 1;
            assert!(!reads(&changed), "{name}: byte {at} does not matter");
        }
        for len in 0..golden.len() {
            assert!(!reads(&golden[..len]), "{name}: cut to {len} bytes");
        }
    }
}

fn read_as_everything(bytes: &[u8]) -> [Result<(), codec::Error>; 6] {
    [
        decode::<LIMIT, Command>(bytes).map(drop),
        decode::<LIMIT, Object>(bytes).map(drop),
        decode::<LIMIT, SignedCommand<Principal>>(bytes).map(drop),
        Block::<Principal>::decode(bytes).map(drop),
        Genesis::decode(bytes).map(drop),
        Tip::decode(bytes).map(drop),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..512), known in any::<bool>()) {
        if known && !bytes.is_empty() {
            bytes[0] = codec::FORMAT;
        }
        let _ = read_as_everything(&bytes);
    }

    #[test]
    fn no_mutation_makes_a_decoder_panic(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let all = samples();
        let (_, mut bytes, _) = { let mut all = all; all.swap_remove(which.index(17)) };
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read_as_everything(&bytes);
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(entroos::base::id::hex);
    lines.map(|line| line + "\n").collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

// ---- the samples: no field has its default, so that one left out is seen ----

fn signed() -> SignedCommand<Principal> {
    SignedCommand {
        chain: [1; 32],
        principal: Principal::Local(NodeId([2; 32])),
        signer: NodeId([2; 32]),
        nonce: 70_000,
        valid_until: UnixMillis(1_700_000_030_000),
        payload: b"payload".to_vec(),
        signature: vec![6; 64],
    }
}

fn key(kind: Kind, name: &str) -> Key {
    Key { kind, namespace: "shop".into(), name: name.into() }
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn object(body: Body) -> Object {
    let meta = Meta {
        name: "web".into(),
        namespace: "shop".into(),
        generate_name: "web-".into(),
        uid: Uid([7; 16]),
        revision: 1234,
        generation: 2,
        created: UnixMillis(1_700_000_000_000),
        deleted: Some(Deletion { due: UnixMillis(1_700_000_060_000), grace_seconds: 30 }),
        labels: map("app", "web"),
        annotations: map("note", "grüße"),
    };
    Object { meta, body }
}

fn config_map() -> ConfigMap {
    ConfigMap { data: map("a", "b"), binary_data: [("c".into(), vec![0, 255])].into(), immutable: true }
}

fn secret() -> Secret {
    Secret {
        secret_type: "Opaque".into(),
        data: [("password".into(), vec![1, 2, 3])].into(),
        sealed_annotations: [("last".into(), vec![4])].into(),
        immutable: true,
    }
}

fn note() -> Note {
    Note { warning: true, reason: "Failed".into(), message: "image `x` not found".into() }
}

fn event() -> Event {
    Event {
        involved: key(Kind::Pod, "web"),
        involved_uid: Uid([7; 16]),
        note: note(),
        count: 3,
        first: UnixMillis(1),
        last: UnixMillis(2),
        source: "scheduler".into(),
    }
}

fn node() -> Node {
    let capacity = |n| Capacity { cpu: Millicores(n), memory: Bytes(n << 20), pods: 110, bandwidth: 1_000_000 };
    Node {
        id: NodeId([3; 32]),
        seal_key: [4; 32],
        unschedulable: true,
        ready: Ready { ready: true, reason: "Ready".into(), message: "all is well".into(), since: UnixMillis(5) },
        capacity: capacity(4000),
        allocatable: capacity(3500),
        policy: Policy { host_network: true, host_paths: false, privileged: true },
        info: NodeInfo {
            architecture: "amd64".into(),
            operating_system: "linux".into(),
            kernel: "6.1".into(),
            os_image: "Debian".into(),
            version: "0.1.0".into(),
            machine_id: "m".into(),
            boot_id: "b".into(),
            cgroup: "v2".into(),
        },
        address: "127.0.0.1".into(),
        classes: map("platform", "amd64"),
        stake: 1_000_000,
        reliability: Fx::from_num(0.75),
    }
}

fn terminated() -> Terminated {
    Terminated {
        exit_code: 137,
        signal: 9,
        reason: "OOMKilled".into(),
        message: "out of memory".into(),
        started: UnixMillis(10),
        finished: UnixMillis(20),
    }
}

fn status() -> PodStatus {
    let container = |state| ContainerStatus {
        name: "main".into(),
        state,
        last: Some(terminated()),
        restarts: 2,
        image: "docker.io/library/alpine:latest".into(),
        image_id: "sha256:00".into(),
        id: "entroos://u/main/2".into(),
        ready: true,
    };
    PodStatus {
        phase: Phase::Running,
        reason: "r".into(),
        message: "m".into(),
        host_ip: "127.0.0.1".into(),
        started: Some(UnixMillis(9)),
        ready_changed: Some(UnixMillis(11)),
        scheduled: Some(UnixMillis(8)),
        containers: vec![
            container(ContainerState::Waiting { reason: "CrashLoopBackOff".into(), message: "back-off".into() }),
            container(ContainerState::Running { since: UnixMillis(30) }),
            container(ContainerState::Terminated(terminated())),
        ],
    }
}

fn pod() -> Pod {
    let quantities = |n| Quantities { cpu: Some(Millicores(n)), memory: Some(Bytes(n << 20)) };
    let security = Security {
        run_as_user: Some(1000),
        run_as_group: Some(1001),
        run_as_non_root: Some(true),
        read_only_root: Some(true),
    };
    let env = |name: &str, value| EnvVar { name: name.into(), value };
    let (name, key) = ("n".to_owned(), "k".to_owned());
    let container = Container {
        name: "main".into(),
        image: "alpine".into(),
        pull_policy: PullPolicy::Never,
        command: vec!["sh".into()],
        args: vec!["-c".into(), "true".into()],
        working_dir: "/w".into(),
        env: vec![
            env("A", EnvValue::Literal("1".into())),
            env("B", EnvValue::ConfigMapKey { name: name.clone(), key: key.clone(), optional: true }),
            env("C", EnvValue::SecretKey { name, key, optional: true }),
            env("D", EnvValue::Field("metadata.name".into())),
            env("E", EnvValue::Resource { container: "main".into(), resource: "limits.cpu".into() }),
        ],
        ports: vec![Port { name: "http".into(), container_port: 8080, protocol: "TCP".into() }],
        requests: quantities(100),
        limits: quantities(200),
        requirements: quantities(150),
        bandwidth_min: Some(1_000_000),
        security,
        stdin: true,
        stdin_once: true,
        tty: true,
    };
    let term = Term { equation: 35, name: "fit".into(), value: Fx::from_num(0.5), weight: Fx::from_num(-1.25) };
    let candidate =
        Candidate { node: "n1".into(), refused: Some("full".into()), terms: vec![term], score: Fx::from_num(2) };
    Pod {
        spec: PodSpec {
            containers: vec![container],
            restart_policy: RestartPolicy::OnFailure,
            grace_seconds: 30,
            host_network: true,
            hostname: "h".into(),
            node_selector: map("zone", "a"),
            node_name: "n1".into(),
            security,
            constraints: Constraints { entropy_score: Some(Fx::from_num(0.5)) },
        },
        status: status(),
        placement: Some(Placement {
            height: Height(300),
            at: UnixMillis(8),
            node: Some("n1".into()),
            candidates: vec![candidate],
            looked_at: 4,
        }),
    }
}
