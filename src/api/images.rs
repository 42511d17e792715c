//! Images of this node: list, inspect, pull with its progress, import by upload, remove.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::context::Call;
use super::error::{self, json_response};
use super::k8s::ApiError;
use crate::container::image::{self, Image, Progress};
use crate::orchestrator::object::Phase;
use crate::orchestrator::{Body as ObjectBody, Kind, State};

/// Largest archive that can be uploaded.
const UPLOAD_MAX: u64 = 16 << 30;
/// An upload that says nothing for so long has broken off.
const UPLOAD_SILENCE: Duration = Duration::from_mins(1);
/// Progress that waits for a slow client.
const PROGRESS_MAX: usize = 16;

/// Removes what uploads of an earlier process left.
pub(super) fn clear_uploads(data_dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(uploads(data_dir)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn uploads(data_dir: &Path) -> PathBuf {
    data_dir.join("uploads")
}

pub(super) fn list(call: &Call) -> Response {
    let images: Vec<Value> = call.context.api.images.list().iter().map(|image| json!(**image)).collect();
    json_response(StatusCode::OK, &json!({"images": images}))
}

pub(super) fn inspect(call: &Call) -> Result<Response, ApiError> {
    let image = call.context.api.images.find(call.param("name")).map_err(|e| from_image(&e))?;
    Ok(json_response(StatusCode::OK, &json!(*image)))
}

pub(super) async fn remove(call: &Call) -> Result<Response, ApiError> {
    let snapshot = call.context.api.client.snapshot();
    let users = users(&snapshot.state, &call.context.api.node_name);
    let in_use = |image: &Image| {
        let names = image.references.iter().chain([&image.id, &image.manifest]);
        names.filter(|name| !name.is_empty()).find_map(|name| users.get(name.as_str()).cloned())
    };
    let name = call.param("name");
    call.context.api.images.remove(name, &in_use).await.map_err(|e| from_image(&e))?;
    Ok(json_response(StatusCode::OK, &json!({"removed": name})))
}

/// Names and digests of images that pods of this node need, and one pod that does.
fn users(state: &State, node: &str) -> BTreeMap<String, String> {
    let mut users = BTreeMap::new();
    for object in state.list(Kind::Pod, None) {
        let ObjectBody::Pod(pod) = &object.body else { continue };
        if pod.spec.node_name != node || matches!(pod.status.phase, Phase::Succeeded | Phase::Failed) {
            continue;
        }
        let user = format!("pod {}/{}", object.meta.namespace, object.meta.name);
        for container in &pod.spec.containers {
            // No image named: the one named like the container.
            let named = if container.image.is_empty() { &container.name } else { &container.image };
            users.insert(image::normalise(named).unwrap_or_else(|_| named.clone()), user.clone());
        }
        for status in &pod.status.containers {
            users.insert(status.image.clone(), user.clone());
            users.insert(status.image_id.clone(), user.clone());
            if let Some((_, digest)) = status.image_id.rsplit_once('@') {
                users.insert(digest.to_owned(), user.clone());
            }
        }
    }
    users.remove("");
    users
}

/// Pulls, and tells how far it is. A pull that fails before it began is an error; later it is the last line.
pub(super) async fn pull(call: Call) -> Result<Response, ApiError> {
    let reference = call.query.get("reference").ok_or_else(|| {
        error::bad_request("reference: name the image, as in /entroos/v1/images/pull?reference=alpine:3.20")
    })?;
    let reference = image::normalise(reference).map_err(|e| from_image(&e))?;
    let permit = call.context.streams.enter(call.caller)?;
    let (progress, mut steps) = mpsc::channel(PROGRESS_MAX);
    let (done, result) = oneshot::channel();
    let context = call.context.clone();
    // Tracked: a client that leaves does not stop a pull that others may share, the node's end does.
    call.context.tasks.spawn(async move {
        let pulled = tokio::select! {
            () = context.stop.cancelled() => Err(error::unavailable("the node is stopping")),
            pulled = context.api.images.pull(&reference, Some(progress)) => pulled.map_err(|e| from_image(&e)),
        };
        let _ = done.send(pulled);
        drop(permit);
    });
    let Some(first) = steps.recv().await else {
        let image = finished(result).await?;
        return Ok(lines(stream::iter([Ok(image)])));
    };
    let rest = stream::unfold(Some((Some(first), steps, result)), |state| async move {
        let (step, mut steps, result) = state?;
        let step = match step {
            Some(step) => Some(step),
            None => steps.recv().await,
        };
        if let Some(step) = step {
            return Some((Ok(progress_line(&step)), Some((None, steps, result))));
        }
        let last = finished(result).await.unwrap_or_else(|refused| json!({"error": refused.status()}));
        Some((Ok(last), None))
    });
    Ok(lines(rest))
}

async fn finished(result: oneshot::Receiver<Result<std::sync::Arc<Image>, ApiError>>) -> Result<Value, ApiError> {
    let image = result.await.map_err(|_| error::internal("the pull ended without a result"))??;
    Ok(json!({"image": *image}))
}

fn progress_line(progress: &Progress) -> Value {
    json!({"progress": progress})
}

fn lines(values: impl futures_util::Stream<Item = Result<Value, io::Error>> + Send + 'static) -> Response {
    use futures_util::TryStreamExt;
    let lines = values.map_ok(|value| Bytes::from(format!("{value}\n")));
    error::stream_response("application/json", Body::from_stream(lines))
}

pub(super) async fn import(mut call: Call) -> Result<Response, ApiError> {
    let tag = call.query.get("tag").map(str::to_owned);
    if let Some(tag) = &tag {
        image::normalise(tag).map_err(|e| from_image(&e))?;
    }
    let body = call.take_body();
    let upload = Upload::receive(&call.context.api.data_dir, body).await?;
    let images = call.context.api.images.import(&upload.path, tag.as_deref()).await.map_err(|e| from_image(&e))?;
    let images: Vec<Value> = images.iter().map(|image| json!(**image)).collect();
    Ok(json_response(StatusCode::CREATED, &json!({"images": images})))
}

/// An uploaded file, gone when this is dropped.
struct Upload {
    path: PathBuf,
}

impl Upload {
    async fn receive(data_dir: &Path, mut body: Body) -> Result<Self, ApiError> {
        let failed = |e: io::Error| error::internal(format!("the upload cannot be kept in the data directory: {e}"));
        let dir = uploads(data_dir);
        tokio::fs::create_dir_all(&dir).await.map_err(failed)?;
        let name: [u8; 16] = crate::base::key::random().map_err(failed)?;
        let upload = Self { path: dir.join(format!("{}.tar", crate::base::id::hex(&name))) };
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&upload.path).await.map_err(failed)?;
        let mut size = 0u64;
        loop {
            let frame = tokio::time::timeout(UPLOAD_SILENCE, body.frame())
                .await
                .map_err(|_| error::timeout(format!("the upload was silent for {} s", UPLOAD_SILENCE.as_secs())))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|e| error::bad_request(format!("the upload broke off: {e}")))?;
            let Ok(bytes) = frame.into_data() else { continue };
            size += bytes.len() as u64;
            if size > UPLOAD_MAX {
                return Err(error::too_large(format!("an archive may have {UPLOAD_MAX} bytes at most")));
            }
            file.write_all(&bytes).await.map_err(failed)?;
        }
        if size == 0 {
            return Err(error::bad_request(
                "the body is empty; send the archive (`docker save`, or an OCI layout as tar)",
            ));
        }
        file.flush().await.map_err(failed)?;
        Ok(upload)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), error = %e, "an upload cannot be removed");
        }
    }
}

fn from_image(e: &image::Error) -> ApiError {
    let text = error::chain(e);
    match e {
        image::Error::NotFound(_) => error::missing(text),
        image::Error::Reference(..) => error::bad_request(text),
        image::Error::InUse(..) => error::conflict(text),
        _ => error::internal(text),
    }
}
