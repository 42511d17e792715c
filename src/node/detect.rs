//! What this machine is: found out when the node starts, and told to the ledger.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use super::config::Config;
use super::value::{HostNetworkPolicy, Name};
use crate::base::{Bytes, Millicores, NodeId, UnixMillis};
use crate::math::fixed::Fx;
use crate::orchestrator::object::{Capacity, Node, NodeInfo, Policy, Ready};

/// The host's name as a node may be called; `None` where it cannot be.
pub fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?.to_ascii_lowercase();
    Name::valid(&name).then_some(name)
}

/// The address this machine would speak from; no packet is sent to find out.
pub fn address() -> String {
    let spoken = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // An address kept for documentation (RFC 5737): routed like any other, reached by nobody.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    spoken.map_or_else(|_| "127.0.0.1".to_owned(), |addr| addr.ip().to_string())
}

/// What the configuration says the machine has, else what it has.
pub fn capacity(config: &Config) -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let resources = &config.resources;
    Capacity {
        cpu: resources.cpu.unwrap_or(Millicores(cores * 1000)),
        memory: resources.memory.unwrap_or_else(memory),
        pods: resources.pods,
        bandwidth: resources.bandwidth,
    }
}

/// What is left for pods.
pub fn allocatable(capacity: Capacity, config: &Config) -> Capacity {
    let resources = &config.resources;
    Capacity {
        cpu: Millicores(capacity.cpu.0.saturating_sub(resources.cpu_reserved.0.0)),
        memory: Bytes(capacity.memory.0.saturating_sub(resources.memory_reserved.0)),
        ..capacity
    }
}

fn memory() -> Bytes {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Bytes(kib.unwrap_or(0).saturating_mul(1024))
}

/// What pods may do here, as advertised and enforced.
pub fn policy(config: &Config) -> Policy {
    Policy {
        host_network: config.policy.host_network == HostNetworkPolicy::Operator,
        host_paths: false,
        privileged: false,
    }
}

/// Kubernetes' name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn info() -> NodeInfo {
    let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    NodeInfo {
        architecture: architecture().to_owned(),
        operating_system: std::env::consts::OS.to_owned(),
        kernel: first_line("/proc/sys/kernel/osrelease"),
        os_image: pretty.unwrap_or_default().trim_matches('"').to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine_id: first_line("/etc/machine-id"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        cgroup: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" }.to_owned(),
    }
}

/// Labels of every node, and the configured ones.
pub fn labels(config: &Config, name: &str) -> BTreeMap<String, String> {
    let own = [("hostname", name), ("os", std::env::consts::OS), ("arch", architecture())];
    let mut labels: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (format!("kubernetes.io/{key}"), value.to_owned())).collect();
    labels.extend(config.node.labels.iter().map(|(key, value)| (key.0.clone(), value.0.clone())));
    labels
}

/// What the node tells of itself. `problem`: why pods cannot run here.
pub fn node(config: &Config, id: NodeId, seal_key: [u8; 32], address: &str, problem: Option<&str>) -> Node {
    let capacity = capacity(config);
    let info = info();
    let kernel_major = info.kernel.split('.').next().unwrap_or_default().to_owned();
    let operator = if config.node.operator.is_empty() { id.to_string() } else { config.node.operator.clone() };
    let classes = [
        ("operator", operator),
        // Nobody has looked at this node from outside yet.
        ("prefix", "local".to_owned()),
        ("latency", "0".to_owned()),
        ("platform", format!("{}-linux{kernel_major}", info.architecture)),
    ];
    let ready = Ready {
        ready: problem.is_none(),
        reason: if problem.is_none() { "AgentReady" } else { "PodsUnsupported" }.to_owned(),
        message: problem.unwrap_or("the agent runs pods").to_owned(),
        since: UnixMillis::now(),
    };
    Node {
        id,
        seal_key,
        unschedulable: false,
        ready,
        capacity,
        allocatable: allocatable(capacity, config),
        policy: policy(config),
        info,
        address: address.to_owned(),
        classes: classes.map(|(dimension, class)| (dimension.to_owned(), class)).into(),
        // Eq. 20 of a node that is its own median.
        stake: 1_000_000,
        // Eq. 18's floor of an active node without evidence.
        reliability: Fx::from_num(1) / 2,
    }
}
