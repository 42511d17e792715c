//! PATCH: read, patch, replace; again where somebody else was faster.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::context::Call;
use super::error;
use super::k8s::{self, ApiError, PatchType};
use super::objects::{self, Form};
use super::secrets;
use crate::orchestrator::{Kind, Precondition};

/// How often a patch that names no revision is tried against an object that keeps changing.
const TRIES_MAX: usize = 8;

pub(super) async fn patch(mut call: Call) -> Result<Response, ApiError> {
    let (form, dry_run) = (Form::of(&call)?, call.dry_run()?);
    let patch_type = patch_type(call.content_type())?;
    let body = call.read_body().await?;
    let patch: Value =
        serde_json::from_slice(&body).map_err(|e| error::bad_request(format!("the patch is not JSON: {e}")))?;
    let validation = call.query.field_validation()?;
    let key = call.key()?;
    if key.kind == Kind::Secret && patch_type == PatchType::Json && !call.caller.is_operator() {
        // `test`, `copy` and `move` read values; merges only write them.
        return Err(error::forbidden(format!("a JSON patch of a Secret can read it: {}", call.context.cure())));
    }

    let mut tries = 0;
    loop {
        let snapshot = call.context.api.client.snapshot();
        let current = objects::find(&call, &snapshot.state)?;
        // Of a secret the plain text is patched, whoever asks: who may not read it is shown none of it below.
        let plain = secrets::unseal(&call.context, &snapshot.state, &current)?;
        let patched = k8s::patch(key.kind, &k8s::encode(&plain), patch_type, &patch)?;
        let (object, warnings) = k8s::decode(key.kind, &key.namespace, &patched, validation)?;
        let asked = objects::precondition_of(&patched)?;
        let own = asked.revision.is_some_and(|revision| revision != current.meta.revision);
        let revision = asked.revision.or(Some(current.meta.revision));
        let precondition = Precondition { uid: Some(asked.uid.unwrap_or(current.meta.uid)), revision };
        tries += 1;
        match objects::put(&call, &key, object, precondition, dry_run).await {
            Ok(now) => return form.one(&call, StatusCode::OK, &now, warnings),
            // Where the patch itself names a revision, the client wants to hear of the conflict.
            Err(refused) if refused.code == 409 && !own && tries < TRIES_MAX => {}
            Err(refused) => return Err(refused),
        }
    }
}

fn patch_type(content_type: Option<&str>) -> Result<PatchType, ApiError> {
    let media = content_type.and_then(|c| c.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(error::unsupported_media_type(
            "server-side apply is not there yet; use `kubectl apply` without --server-side",
        )),
        other => Err(error::unsupported_media_type(format!(
            "Content-Type {other:?} is no patch; use application/json-patch+json, application/merge-patch+json or \
             application/strategic-merge-patch+json"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_types_go_by_the_content_type() {
        assert_eq!(patch_type(Some("application/merge-patch+json; charset=utf-8")).unwrap(), PatchType::Merge);
        assert_eq!(patch_type(Some("application/strategic-merge-patch+json")).unwrap(), PatchType::Strategic);
        assert_eq!(patch_type(Some("application/json-patch+json")).unwrap(), PatchType::Json);
        assert!(patch_type(Some("application/apply-patch+yaml")).unwrap_err().message.contains("server-side"));
        assert_eq!(patch_type(None).unwrap_err().code, 415);
    }
}
