//! The small documents: health, discovery, the node's own status, why a pod is where it is.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::context::Call;
use super::error::{self, json_response};
use super::k8s::{self, ApiError};
use super::metrics::{pods_by_phase, resident_bytes};
use crate::orchestrator::{Body as ObjectBody, Key, Kind, explain};

fn text(body: &'static str) -> Response {
    error::stream_response("text/plain; charset=utf-8", Body::from(body))
}

/// The process answers.
pub(super) fn health() -> Response {
    text("ok")
}

/// The node can take changes. That pods cannot run here does not make it unready: it serves all else.
pub(super) fn ready(call: &Call) -> Result<Response, ApiError> {
    if call.context.stop.is_cancelled() {
        return Err(error::unavailable("the node is stopping"));
    }
    // The ledger's task holds the sender of snapshots: once it is gone no change can be made.
    match call.context.api.client.watch().has_changed() {
        Ok(_) => Ok(text("ok")),
        Err(_) => Err(error::unavailable("the ledger has stopped")),
    }
}

pub(super) fn version(call: &Call) -> Response {
    json_response(StatusCode::OK, &k8s::version(call.context.api.version))
}

pub(super) fn discovery(call: &Call) -> Result<Response, ApiError> {
    document(call, k8s::discovery)
}

pub(super) fn openapi(call: &Call) -> Result<Response, ApiError> {
    document(call, k8s::openapi)
}

fn document(call: &Call, find: impl Fn(&str) -> Option<Value>) -> Result<Response, ApiError> {
    let path = call.parts.uri.path();
    let value = find(path.trim_end_matches('/')).ok_or_else(|| error::no_route(path))?;
    Ok(json_response(StatusCode::OK, &value))
}

/// What Kubernetes has and this version does not.
pub(super) fn not_yet(call: &Call) -> Result<Response, ApiError> {
    let what = call.parts.uri.path().rsplit('/').next().unwrap_or_default();
    let instead = match what {
        "attach" => "use `kubectl logs -f` to read and `kubectl exec -it` to type",
        _ => "give the pod hostNetwork and connect to the port itself",
    };
    Err(error::not_implemented(format!("{what} is not there yet; {instead}")))
}

pub(super) fn status(call: &Call) -> Response {
    let api = &call.context.api;
    let snapshot = api.client.snapshot();
    let pods: Map<String, Value> =
        pods_by_phase(&snapshot.state).into_iter().map(|(phase, count)| (phase.to_owned(), count.into())).collect();
    let node = snapshot.state.get(&Key { kind: Kind::Node, namespace: String::new(), name: api.node_name.clone() });
    let cgroup = match node.map(|object| &object.body) {
        Some(ObjectBody::Node(node)) => node.info.cgroup.clone(),
        _ => String::new(),
    };
    let problem = (api.runtime.is_none())
        .then(|| api.runtime_problem.clone().unwrap_or_else(|| "containers cannot run here".into()));
    json_response(
        StatusCode::OK,
        &json!({
            "node": {"id": api.node.to_string(), "name": api.node_name},
            "version": api.version,
            "height": snapshot.height.0,
            "revision": snapshot.state.revision(),
            "blockTimeMillis": snapshot.time.0,
            "chain": crate::base::id::hex(&api.client.ledger.chain()),
            "uptimeSeconds": call.context.started.elapsed().as_secs(),
            "residentBytes": resident_bytes(),
            "pods": pods,
            "runtime": {"ready": problem.is_none(), "problem": problem},
            "images": api.images.list().len(),
            "api": call.context.address.to_string(),
            "net": api.net,
            "dataDir": api.data_dir.display().to_string(),
            "cgroup": cgroup,
            "watches": call.context.streams.open(),
            "you": call.caller.0.to_string(),
        }),
    )
}

/// The scheduler's decision about a pod, with every term of every candidate.
pub(super) fn explain(call: &Call) -> Result<Response, ApiError> {
    let (namespace, name) = (call.param("namespace"), call.param("name"));
    let snapshot = call.context.api.client.snapshot();
    let key = Key { kind: Kind::Pod, namespace: namespace.into(), name: name.into() };
    let object = snapshot.state.get(&key).map(|object| &object.body);
    let (Some(ObjectBody::Pod(pod)), Some(placement)) = (object, explain::explain(&snapshot.state, &key)) else {
        return Err(error::missing(format!("pods {name:?} not found in namespace {namespace:?}")));
    };
    let (phase, message) = (format!("{:?}", pod.status.phase), placement.message.clone());
    // Before the scheduler has looked there is nothing to explain.
    let placement = placement.height.is_some().then_some(placement);
    Ok(json_response(
        StatusCode::OK,
        &json!({"namespace": namespace, "name": name, "phase": phase, "message": message, "placement": placement}),
    ))
}
