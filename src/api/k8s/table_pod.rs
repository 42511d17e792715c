//! The row of a pod: the one word that says how it is.

use serde_json::Value;

use super::pod_status::phase;
use super::table::Column;
use super::time::age;
use crate::base::UnixMillis;
use crate::orchestrator::Meta;
use crate::orchestrator::object::{ContainerState, Phase, Pod, Terminated};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", "string", false, "Name of the object, unique in its namespace."),
    ("Ready", "string", false, "How many of its containers are ready."),
    ("Status", "string", false, "How it is, in one word."),
    ("Restarts", "string", false, "How often its containers were started again, and when last."),
    ("Age", "string", false, "Time since the object was created."),
    ("IP", "string", true, "Its address."),
    ("Node", "string", true, "The node it is placed on."),
    ("Nominated Node", "string", true, "The node that makes room for it."),
    ("Readiness Gates", "string", true, "Conditions of others it waits for."),
];

pub(super) fn cells(meta: &Meta, pod: &Pod, now: UnixMillis) -> Vec<Value> {
    let ready = pod.status.containers.iter().filter(|c| c.ready).count();
    let node = if pod.spec.node_name.is_empty() { "<none>" } else { &pod.spec.node_name };
    // A pod on the machine's network has the machine's address; any other has none yet.
    let ip = if pod.spec.host_network && !pod.status.host_ip.is_empty() { &pod.status.host_ip } else { "<none>" };
    vec![
        meta.name.as_str().into(),
        format!("{ready}/{}", pod.spec.containers.len()).into(),
        status(meta, pod).into(),
        restarts(pod, now).into(),
        age(meta.created, now).into(),
        ip.into(),
        node.into(),
        "<none>".into(),
        "<none>".into(),
    ]
}

/// What is wrong wins over what is right, an earlier container over a later one; going wins over all.
pub(super) fn status(meta: &Meta, pod: &Pod) -> String {
    if meta.deleted.is_some() && !matches!(pod.status.phase, Phase::Succeeded | Phase::Failed) {
        return "Terminating".into();
    }
    let mut said =
        if pod.status.reason.is_empty() { phase(pod.status.phase).into() } else { pod.status.reason.clone() };
    let mut running = false;
    for container in pod.status.containers.iter().rev() {
        match &container.state {
            ContainerState::Waiting { reason, .. } if !reason.is_empty() => said.clone_from(reason),
            ContainerState::Waiting { .. } => {}
            ContainerState::Terminated(end) => said = ended(end),
            ContainerState::Running { .. } => running |= container.ready,
        }
    }
    // One is done, another runs: the pod runs.
    if said == "Completed" && running {
        said = if pod.status.ready() { "Running" } else { "NotReady" }.into();
    }
    said
}

fn ended(end: &Terminated) -> String {
    match (end.reason.as_str(), end.signal) {
        ("", 0) => format!("ExitCode:{}", end.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// `3 (2m ago)`.
fn restarts(pod: &Pod, now: UnixMillis) -> String {
    let count: u64 = pod.status.containers.iter().map(|c| u64::from(c.restarts)).sum();
    let last = pod.status.containers.iter().filter_map(|c| c.last.as_ref()).map(|end| end.finished).max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(last, now)),
        _ => count.to_string(),
    }
}
