//! `/log`: what a container printed, as plain text, followed as it grows.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::context::{Call, Context};
use super::error;
use super::k8s::ApiError;
use super::objects;
use crate::base::{Uid, UnixMillis};
use crate::container::logs::{self, Options};
use crate::container::spec;
use crate::orchestrator::object::{ContainerState, ContainerStatus, Phase, Pod, RestartPolicy};
use crate::orchestrator::{Body as ObjectBody, Key, Object, State};

pub(super) fn logs(call: &Call) -> Result<Response, ApiError> {
    let snapshot = call.context.api.client.snapshot();
    let object = objects::find(call, &snapshot.state)?;
    let pod = guarded_pod(call, &object, "the log")?;
    let container = container(&object.meta.name, pod, call.query.get("container"))?;
    let options = options(call)?;
    let permit = options.follow.then(|| call.context.streams.enter(call.caller)).transpose()?;
    let source = Source {
        context: Arc::clone(&call.context),
        key: call.key()?,
        uid: object.meta.uid,
        container: container.to_owned(),
        dir: logs::pod_dir(&call.context.api.data_dir, &object.meta.namespace, &object.meta.name, &object.meta.uid),
    };
    let newest = source.newest(pod);
    let attempt = match (call.query.flag("previous")?, newest) {
        (false, newest) => newest,
        (true, Some(newest)) if newest > 0 && source.file(newest - 1).exists() => Some(newest - 1),
        (true, _) => {
            return Err(error::bad_request(format!(
                "previous terminated container {container:?} in pod {:?} not found",
                object.meta.name
            )));
        }
    };
    if attempt.is_none() && !options.follow {
        return never_started(pod, container, &object.meta.name);
    }
    let follow = options.follow && !call.query.flag("previous")?;
    let mut tail =
        Tail { source, left: options.limit_bytes, options, follow, attempt: None, pieces: None, _permit: permit };
    if let Some(attempt) = attempt {
        tail.open(attempt);
    }
    Ok(error::stream_response("text/plain; charset=utf-8", Body::from_stream(stream::unfold(tail, Tail::next))))
}

/// The pod, where the caller may look into it and it runs on this node.
pub(super) fn guarded_pod<'a>(call: &Call, object: &'a Object, what: &str) -> Result<&'a Pod, ApiError> {
    let ObjectBody::Pod(pod) = &object.body else { return Err(error::internal("a pod's key led to another kind")) };
    if pod.privileged() && !call.caller.is_operator() {
        return Err(error::forbidden(format!(
            "{what} of pod {:?} is for the operator, for the pod has the host's network or reads a Secret: {}",
            object.meta.name,
            call.context.cure()
        )));
    }
    let here = &call.context.api.node_name;
    if !pod.spec.node_name.is_empty() && pod.spec.node_name != *here {
        return Err(error::not_implemented(format!(
            "pod {:?} runs on node {:?}, and this is {here:?}: ask there, for links between nodes are not there yet",
            object.meta.name, pod.spec.node_name
        )));
    }
    Ok(pod)
}

/// The container asked for; where none was, the only one.
pub(super) fn container<'a>(name: &str, pod: &'a Pod, wanted: Option<&str>) -> Result<&'a str, ApiError> {
    let names: Vec<&str> = pod.spec.containers.iter().map(|c| c.name.as_str()).collect();
    match (wanted, names.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(error::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            names.join(" ")
        ))),
        (Some(wanted), _) => names.iter().find(|n| **n == wanted).copied().ok_or_else(|| {
            error::bad_request(format!(
                "container {wanted} is not valid for pod {name}, choose one of: [{}]",
                names.join(" ")
            ))
        }),
    }
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    pod.status.containers.iter().find(|status| status.name == container)
}

/// A log that does not exist: an error while it may come, empty where the container ended without ever running.
fn never_started(pod: &Pod, container: &str, name: &str) -> Result<Response, ApiError> {
    let reason = match status(pod, container).map(|status| &status.state) {
        Some(ContainerState::Terminated(_)) => {
            return Ok(error::stream_response("text/plain; charset=utf-8", Body::empty()));
        }
        Some(ContainerState::Waiting { reason, message }) if message.is_empty() => reason.clone(),
        Some(ContainerState::Waiting { reason, message }) => format!("{reason} ({message})"),
        Some(ContainerState::Running { .. }) => "its log is not there yet".into(),
        None if pod.status.reason.is_empty() => "the pod has not been started".into(),
        None => format!("{} {}", pod.status.reason, pod.status.message),
    };
    Err(error::bad_request(format!("container {container:?} in pod {name:?} is waiting to start: {reason}")))
}

fn options(call: &Call) -> Result<Options, ApiError> {
    let query = &call.query;
    let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(_), Some(_)) => {
            return Err(error::bad_request("sinceSeconds: may not be given together with sinceTime"));
        }
        (Some(0), None) => return Err(error::bad_request("sinceSeconds: must be more than 0")),
        (Some(seconds), None) => Some(UnixMillis(UnixMillis::now().0.saturating_sub(seconds.saturating_mul(1000)))),
        (None, Some(text)) => {
            let time: jiff::Timestamp = text.parse().map_err(|_| {
                error::bad_request(format!("sinceTime: {text:?} must be a time such as 2026-01-31T12:00:00Z"))
            })?;
            Some(UnixMillis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
        }
        (None, None) => None,
    };
    let limit_bytes = query.number("limitBytes")?;
    if limit_bytes == Some(0) {
        return Err(error::bad_request("limitBytes: must be more than 0"));
    }
    Ok(Options {
        follow: query.flag("follow")?,
        tail_lines: query.number("tailLines")?,
        limit_bytes,
        since,
        timestamps: query.flag("timestamps")?,
    })
}

/// Where a container's logs and news of it come from.
struct Source {
    context: Arc<Context>,
    key: Key,
    uid: Uid,
    container: String,
    dir: PathBuf,
}

impl Source {
    fn file(&self, attempt: u32) -> PathBuf {
        logs::file(&self.dir, &self.container, attempt)
    }

    /// The pod as `state` has it, unless it is gone or a namesake took its place.
    fn pod<'a>(&self, state: &'a State) -> Option<(&'a Pod, bool)> {
        let object = state.get(&self.key).filter(|object| object.meta.uid == self.uid)?;
        let ObjectBody::Pod(pod) = &object.body else { return None };
        Some((pod, object.meta.deleted.is_some()))
    }

    /// The newest attempt that was started: by the shim's records, which are first to know, or by the pod's status.
    fn newest(&self, pod: &Pod) -> Option<u32> {
        let sandbox = self.context.api.runtime.as_ref().and_then(|runtime| runtime.get(&self.uid));
        let recorded = sandbox.and_then(|sandbox| {
            let records = sandbox.records();
            let records = Arc::clone(&records.borrow());
            records.iter().filter(|record| record.name == self.container).map(|record| record.attempt).max()
        });
        let reported = status(pod, &self.container).and_then(|status| match &status.state {
            ContainerState::Running { .. } => Some(status.restarts),
            // While the next attempt waits, the newest that ran is the one whose log is there.
            _ => (status.restarts.saturating_sub(1)..=status.restarts).rev().find(|&n| self.file(n).exists()),
        });
        recorded.max(reported)
    }

    /// Waits for an attempt after `last`; `None` once there can be none.
    async fn attempt_after(&self, last: Option<u32>) -> Option<u32> {
        let mut snapshots = self.context.api.client.watch();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let (pod, deleted) = self.pod(&snapshot.state)?;
            let newest = self.newest(pod);
            if newest > last {
                return newest;
            }
            if deleted || over(pod, &self.container) {
                return None;
            }
            snapshots.changed().await.ok()?;
        }
    }

    /// Resolves when the attempt runs no longer. It asks the shim's records while there is a sandbox, else the state.
    async fn ended(context: Arc<Context>, key: Key, uid: Uid, container: String, attempt: u32) {
        let mut snapshots = context.api.client.watch();
        loop {
            if let Some(sandbox) = context.api.runtime.as_ref().and_then(|runtime| runtime.get(&uid)) {
                let runs = |record: &spec::ContainerRecord| {
                    record.name == container
                        && record.attempt == attempt
                        && matches!(record.state, spec::ContainerState::Running { .. })
                };
                // An error says that the sandbox is gone, and the container with it.
                let _ = sandbox.records().wait_for(|records| !records.iter().any(runs)).await;
                return;
            }
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let object = snapshot.state.get(&key).filter(|object| object.meta.uid == uid);
            let Some(ObjectBody::Pod(pod)) = object.map(|object| &object.body) else { return };
            let runs = status(pod, &container).is_some_and(|status| {
                status.restarts <= attempt && matches!(status.state, ContainerState::Running { .. })
            });
            if !runs || snapshots.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Whether the container has ended and will not be started again.
fn over(pod: &Pod, container: &str) -> bool {
    if matches!(pod.status.phase, Phase::Succeeded | Phase::Failed) {
        return true;
    }
    let Some(ContainerState::Terminated(end)) = status(pod, container).map(|status| &status.state) else {
        return false;
    };
    match pod.spec.restart_policy {
        RestartPolicy::Never => true,
        RestartPolicy::OnFailure => end.exit_code == 0,
        RestartPolicy::Always => false,
    }
}

/// The body: one attempt's log, and with `follow` those of the attempts after it.
struct Tail {
    source: Source,
    options: Options,
    /// Bytes that may still be sent.
    left: Option<u64>,
    follow: bool,
    attempt: Option<u32>,
    pieces: Option<mpsc::Receiver<std::io::Result<Vec<u8>>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Tail {
    fn open(&mut self, attempt: u32) {
        let Source { context, key, uid, container, .. } = &self.source;
        let ended = Source::ended(Arc::clone(context), key.clone(), *uid, container.clone(), attempt);
        let first = self.attempt.is_none();
        let options = Options {
            follow: self.follow,
            // The end of the first log was asked for; what comes after it is all wanted.
            tail_lines: self.options.tail_lines.filter(|_| first),
            limit_bytes: self.left,
            ..self.options.clone()
        };
        self.pieces = Some(logs::read(self.source.file(attempt), options, ended));
        self.attempt = Some(attempt);
    }

    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        let stop = self.source.context.stop.clone();
        loop {
            if self.left == Some(0) {
                return None;
            }
            if let Some(pieces) = &mut self.pieces {
                let piece = tokio::select! { () = stop.cancelled() => return None, piece = pieces.recv() => piece };
                match piece {
                    Some(Ok(mut bytes)) => {
                        if let Some(left) = &mut self.left {
                            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                            *left -= bytes.len() as u64;
                        }
                        return Some((Ok(Bytes::from(bytes)), self));
                    }
                    // A log that was removed with its pod has simply come to its end.
                    Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => self.pieces = None,
                    Some(Err(e)) => {
                        tracing::warn!(error = %e, container = self.source.container, "a log cannot be read");
                        return Some((Err(e), self));
                    }
                    None => self.pieces = None,
                }
                continue;
            }
            if !self.follow {
                return None;
            }
            let next = tokio::select! {
                () = stop.cancelled() => return None,
                next = self.source.attempt_after(self.attempt) => next?,
            };
            self.open(next);
        }
    }
}
