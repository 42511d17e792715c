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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::object::{Container, ContainerStatus, Deletion, PodSpec, PodStatus};

    fn container(state: ContainerState, ready: bool) -> ContainerStatus {
        let (name, image, image_id, id) = (String::new(), String::new(), String::new(), String::new());
        ContainerStatus { name, state, last: None, restarts: 0, image, image_id, id, ready }
    }

    fn waiting(reason: &str) -> ContainerStatus {
        container(ContainerState::Waiting { reason: reason.into(), message: String::new() }, false)
    }

    fn running(ready: bool) -> ContainerStatus {
        container(ContainerState::Running { since: UnixMillis(0) }, ready)
    }

    fn over(exit_code: i32, reason: &str) -> Terminated {
        let (started, finished) = (UnixMillis(0), UnixMillis(60_000));
        Terminated { exit_code, signal: 0, reason: reason.into(), message: String::new(), started, finished }
    }

    fn terminated(exit_code: i32, reason: &str) -> ContainerStatus {
        container(ContainerState::Terminated(over(exit_code, reason)), false)
    }

    fn pod(phase: Phase, containers: Vec<ContainerStatus>) -> Pod {
        let spec = PodSpec { containers: vec![Container::default(); containers.len().max(1)], ..PodSpec::default() };
        Pod { spec, status: PodStatus { phase, containers, ..PodStatus::default() }, placement: None }
    }

    /// The words people know from kubectl.
    #[test]
    fn the_status_says_what_is_wrong() {
        for (phase, containers, word) in [
            (Phase::Pending, vec![], "Pending"),
            (Phase::Pending, vec![waiting("ContainerCreating")], "ContainerCreating"),
            (Phase::Pending, vec![waiting("ImagePullBackOff")], "ImagePullBackOff"),
            (Phase::Running, vec![running(true)], "Running"),
            (Phase::Running, vec![running(true), waiting("CrashLoopBackOff")], "CrashLoopBackOff"),
            (Phase::Running, vec![terminated(137, "OOMKilled"), running(true)], "OOMKilled"),
            (Phase::Running, vec![terminated(0, "Completed"), running(true)], "NotReady"),
            (Phase::Succeeded, vec![terminated(0, "Completed")], "Completed"),
            (Phase::Failed, vec![terminated(1, "Error")], "Error"),
            (Phase::Failed, vec![terminated(3, "")], "ExitCode:3"),
        ] {
            assert_eq!(status(&Meta::default(), &pod(phase, containers)), word);
        }
        let mut evicted = pod(Phase::Failed, vec![]);
        evicted.status.reason = "Evicted".into();
        assert_eq!(status(&Meta::default(), &evicted), "Evicted");
        let going = Meta { deleted: Some(Deletion { due: UnixMillis(0), grace_seconds: 30 }), ..Meta::default() };
        assert_eq!(status(&going, &pod(Phase::Running, vec![running(true)])), "Terminating");
        assert_eq!(status(&going, &pod(Phase::Succeeded, vec![terminated(0, "Completed")])), "Completed");
    }

    #[test]
    fn a_row_counts_what_is_ready_and_what_came_again() {
        let mut crashed = running(true);
        (crashed.restarts, crashed.last) = (3, Some(over(1, "Error")));
        let mut pod = pod(Phase::Running, vec![crashed, running(false)]);
        pod.spec.node_name = "n1".into();
        let meta = Meta { name: "x".into(), created: UnixMillis(1000), ..Meta::default() };
        let row = cells(&meta, &pod, UnixMillis(181_000));
        assert_eq!(row, ["x", "1/2", "Running", "3 (2m1s ago)", "3m", "<none>", "n1", "<none>", "<none>"]);
    }
}
