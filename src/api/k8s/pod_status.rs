//! A pod's status, in the words kubectl and `wait` look for.

use serde_json::{Map, Value, json};

use super::time::rfc3339;
use crate::base::UnixMillis;
use crate::orchestrator::Meta;
use crate::orchestrator::object::{ContainerState, ContainerStatus, Phase, Pod, Terminated};

/// Prints `status`.
pub(super) fn encode(meta: &Meta, pod: &Pod) -> Value {
    let status = &pod.status;
    let mut out = Map::new();
    out.insert("phase".into(), phase(status.phase).into());
    out.insert("conditions".into(), conditions(meta, pod).into());
    out.insert("qosClass".into(), qos_class(pod).into());
    for (key, text) in [("reason", &status.reason), ("message", &status.message), ("hostIP", &status.host_ip)] {
        if !text.is_empty() {
            out.insert(key.into(), text.as_str().into());
        }
    }
    if !status.host_ip.is_empty() {
        out.insert("hostIPs".into(), json!([{ "ip": status.host_ip }]));
    }
    if let Some(started) = status.started {
        out.insert("startTime".into(), rfc3339(started).into());
    }
    if !status.containers.is_empty() {
        out.insert("containerStatuses".into(), status.containers.iter().map(container).collect());
    }
    out.into()
}

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Unknown => "Unknown",
    }
}

/// The four every pod has.
fn conditions(meta: &Meta, pod: &Pod) -> Vec<Value> {
    let status = &pod.status;
    let scheduled = status.scheduled.is_some() || !pod.spec.node_name.is_empty();
    let since_scheduled = status.scheduled.unwrap_or(meta.created);
    let condition = |kind: &str, holds: bool, since: UnixMillis, why: Option<(&str, String)>| {
        let mut out = json!({
            "type": kind, "status": if holds { "True" } else { "False" },
            "lastProbeTime": null, "lastTransitionTime": rfc3339(since),
        });
        if let Some((reason, message)) = why {
            out["reason"] = reason.into();
            if !message.is_empty() {
                out["message"] = message.into();
            }
        }
        out
    };
    if !scheduled {
        return vec![condition("PodScheduled", false, meta.created, unscheduled(pod))];
    }
    let why = match status.phase {
        _ if status.ready() => None,
        Phase::Succeeded => Some(("PodCompleted", String::new())),
        Phase::Failed => Some(("PodFailed", String::new())),
        _ => Some(("ContainersNotReady", unready(pod))),
    };
    let since_ready = status.ready_changed.unwrap_or(since_scheduled);
    vec![
        condition("Initialized", true, since_scheduled, None),
        condition("Ready", status.ready(), since_ready, why.clone()),
        condition("ContainersReady", status.ready(), since_ready, why),
        condition("PodScheduled", true, since_scheduled, None),
    ]
}

/// Why no node took it, in kube-scheduler's form: `0/2 nodes are available: 1 too little memory, …`.
fn unscheduled(pod: &Pod) -> Option<(&'static str, String)> {
    let placement = pod.placement.as_ref()?;
    let refused: Vec<String> = placement
        .candidates
        .iter()
        .filter_map(|c| c.refused.as_ref().map(|why| format!("{}: {why}", c.node)))
        .collect();
    let mut message = format!("0/{} nodes are available", placement.looked_at);
    if !refused.is_empty() {
        message = format!("{message}: {}", refused.join("; "));
    }
    Some(("Unschedulable", message))
}

fn unready(pod: &Pod) -> String {
    let ready = |name: &str| pod.status.containers.iter().any(|c| c.name == name && c.ready);
    let names: Vec<&str> = pod.spec.containers.iter().map(|c| c.name.as_str()).filter(|name| !ready(name)).collect();
    format!("containers with unready status: [{}]", names.join(" "))
}

/// Guaranteed: every container's cpu and memory are limited and requested alike. `BestEffort`: none asks for any.
fn qos_class(pod: &Pod) -> &'static str {
    let containers = &pod.spec.containers;
    let asks = |q: crate::orchestrator::object::Quantities| q.cpu.is_some() || q.memory.is_some();
    if !containers.iter().any(|c| asks(c.effective_requests()) || asks(c.effective_limits())) {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|c| {
        let limits = c.effective_limits();
        limits.cpu.is_some() && limits.memory.is_some() && limits == c.effective_requests()
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn container(status: &ContainerStatus) -> Value {
    let running = matches!(status.state, ContainerState::Running { .. });
    let last = status.last.as_ref().map_or_else(|| json!({}), |t| json!({ "terminated": terminated(t, "") }));
    let mut out = json!({
        "name": status.name, "ready": status.ready, "started": running, "restartCount": status.restarts,
        "image": status.image, "imageID": status.image_id, "state": state(status), "lastState": last,
    });
    if !status.id.is_empty() {
        out["containerID"] = status.id.as_str().into();
    }
    out
}

fn state(status: &ContainerStatus) -> Value {
    match &status.state {
        ContainerState::Waiting { reason, message } => {
            let mut waiting = json!({ "reason": reason });
            if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            json!({ "waiting": waiting })
        }
        ContainerState::Running { since } => json!({ "running": { "startedAt": rfc3339(*since) } }),
        ContainerState::Terminated(t) => json!({ "terminated": terminated(t, &status.id) }),
    }
}

fn terminated(end: &Terminated, id: &str) -> Value {
    let mut out = json!({
        "exitCode": end.exit_code, "reason": end.reason,
        "startedAt": rfc3339(end.started), "finishedAt": rfc3339(end.finished),
    });
    if end.signal != 0 {
        out["signal"] = end.signal.into();
    }
    for (key, text) in [("message", end.message.as_str()), ("containerID", id)] {
        if !text.is_empty() {
            out[key] = text.into();
        }
    }
    out
}
