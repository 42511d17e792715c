//! Errors as answers: each is a `metav1.Status` in JSON, under its code.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::k8s::{ApiError, Resource};
use crate::ledger;
use crate::orchestrator::{Key, Refusal, client};

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if code.is_server_error() && code != StatusCode::NOT_IMPLEMENTED {
            tracing::warn!(code = self.code, reason = self.reason, message = self.message, "a request failed");
        }
        let mut response = json_response(code, &self.status());
        if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if code == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"entroos\""));
        }
        response
    }
}

/// A document.
pub(super) fn json_response(code: StatusCode, value: &Value) -> Response {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Lines of JSON that come as they happen, or plain text.
pub(super) fn stream_response(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What comes line by line must not be gathered by anything on its way, and never be guessed to be HTML.
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

fn new(code: u16, reason: &'static str, message: impl Into<String>) -> ApiError {
    ApiError { code, reason, message: message.into(), details: None }
}

pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
    new(400, "BadRequest", message)
}

pub(super) fn unauthorized(message: impl Into<String>) -> ApiError {
    new(401, "Unauthorized", message)
}

pub(super) fn forbidden(message: impl Into<String>) -> ApiError {
    new(403, "Forbidden", message)
}

/// No such path.
pub(super) fn no_route(path: &str) -> ApiError {
    new(404, "NotFound", format!("the server could not find the requested resource: there is nothing at {path}"))
}

/// No such object.
pub(super) fn not_found(resource: &Resource, name: &str) -> ApiError {
    ApiError {
        details: Some(json!({"name": name, "kind": resource.plural})),
        ..new(404, "NotFound", format!("{} \"{name}\" not found", resource.plural))
    }
}

/// Something native is not there.
pub(super) fn missing(message: impl Into<String>) -> ApiError {
    new(404, "NotFound", message)
}

pub(super) fn method_not_allowed(method: &str, path: &str) -> ApiError {
    new(
        405,
        "MethodNotAllowed",
        format!("the server does not allow this method on the requested resource: {method} {path}"),
    )
}

pub(super) fn not_acceptable(accept: &str) -> ApiError {
    new(
        406,
        "NotAcceptable",
        format!(
            "Accept {accept:?} names nothing that is served; application/json is (also with as=Table;v=v1;g=meta.k8s.io)"
        ),
    )
}

pub(super) fn conflict(message: impl Into<String>) -> ApiError {
    new(409, "Conflict", message)
}

/// What was asked for has been forgotten: list again.
pub(super) fn expired(message: impl Into<String>) -> ApiError {
    new(410, "Expired", message)
}

pub(super) fn too_large(message: impl Into<String>) -> ApiError {
    new(413, "RequestEntityTooLarge", message)
}

pub(super) fn unsupported_media_type(message: impl Into<String>) -> ApiError {
    new(415, "UnsupportedMediaType", message)
}

pub(super) fn too_many(message: impl Into<String>) -> ApiError {
    new(429, "TooManyRequests", message)
}

pub(super) fn internal(message: impl Into<String>) -> ApiError {
    new(500, "InternalError", message)
}

/// It does not exist yet, and says so.
pub(super) fn not_implemented(message: impl Into<String>) -> ApiError {
    new(501, "NotImplemented", message)
}

pub(super) fn unavailable(message: impl Into<String>) -> ApiError {
    new(503, "ServiceUnavailable", message)
}

pub(super) fn timeout(message: impl Into<String>) -> ApiError {
    new(504, "Timeout", message)
}

/// An error with its causes, which the types keep in `source`, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A refusal about the object at `key`.
pub(super) fn refused(refusal: Refusal, key: &Key) -> ApiError {
    ApiError::refused(refusal, key)
}

/// What the state machine or the ledger said.
pub(super) fn from_client(error: client::Error, key: &Key) -> ApiError {
    match error {
        client::Error::Refused(refusal) => refused(refusal, key),
        client::Error::Ledger(ledger::Error::Stopped) => unavailable("the node is stopping; try again later"),
        client::Error::Ledger(cause) => unavailable(format!("the ledger did not take the change: {}", chain(&cause))),
        client::Error::Codec(cause) => too_large(format!("the change does not fit into a command: {}", chain(&cause))),
    }
}
