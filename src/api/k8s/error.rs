//! Refusals in Kubernetes' words.

use serde_json::{Value, json};

use super::resource::resource;
use crate::orchestrator::{Key, Kind, Refusal};

/// A refusal in Kubernetes' words; becomes a `metav1.Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `BadRequest`, `Forbidden`, …
    pub reason: &'static str,
    pub message: String,
    /// Kubernetes' `details` (kind, name, causes).
    pub details: Option<Value>,
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, …
    pub reason: &'static str,
    /// A path such as `spec.containers[0].name`.
    pub field: String,
    pub message: String,
}

impl Cause {
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: message.into() }
    }

    pub fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), message: message.into() }
    }

    /// A field Kubernetes knows and this version does not enforce.
    pub fn not_enforced(field: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: "Kubernetes knows this field, but this version of EntroOS does not enforce it yet; remove it"
                .into(),
        }
    }
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// 400: the request is not one.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404 for an object: `pods "hello" not found`.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let plural = resource(kind).plural;
        Self {
            details: Some(json!({ "name": name, "kind": plural })),
            ..Self::new(404, "NotFound", format!("{plural} \"{name}\" not found"))
        }
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 409 for an object that changed meanwhile.
    pub fn conflict(kind: Kind, name: &str, message: &str) -> Self {
        let plural = resource(kind).plural;
        Self {
            details: Some(json!({ "name": name, "kind": plural })),
            ..Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {plural} \"{name}\": {message}"))
        }
    }

    /// 410: a watch asked for changes that are forgotten; list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: `Pod "hello" is invalid: spec.containers[0].name: …`.
    pub fn invalid(kind: Kind, name: &str, causes: &[Cause]) -> Self {
        let kind_name = resource(kind).name;
        let said: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let said = if said.len() == 1 { said[0].clone() } else { format!("[{}]", said.join(", ")) };
        Self {
            details: Some(json!({ "name": name, "kind": kind_name, "causes": causes_json(causes) })),
            ..Self::new(422, "Invalid", format!("{kind_name} \"{name}\" is invalid: {said}"))
        }
    }

    /// 500: our fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// 503: try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// A refusal of the state machine about the object at `key`; names it where the refusal itself does not.
    pub fn refused(refusal: Refusal, key: &Key) -> Self {
        match refusal {
            Refusal::Invalid { field, message } => {
                Self::invalid(key.kind, &key.name, &[Cause::invalid(field, message)])
            }
            Refusal::Forbidden { message } => {
                let plural = resource(key.kind).plural;
                Self {
                    details: Some(json!({ "name": key.name, "kind": plural })),
                    ..Self::forbidden(format!("{plural} \"{}\" is forbidden: {message}", key.name))
                }
            }
            other => other.into(),
        }
    }

    /// The `metav1.Status` that goes over the wire.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    /// The `metav1.Status` that tells of success, such as after a deletion.
    pub fn success(key: &Key, uid: Option<crate::base::Uid>) -> Value {
        let mut details = json!({ "name": key.name, "kind": resource(key.kind).plural });
        if let Some(uid) = uid {
            details["uid"] = uid.to_string().into();
        }
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
    }
}

fn causes_json(causes: &[Cause]) -> Value {
    causes.iter().map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field })).collect()
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AlreadyExists { key } => {
                let plural = resource(key.kind).plural;
                Self {
                    details: Some(json!({ "name": key.name, "kind": plural })),
                    ..Self::new(409, "AlreadyExists", format!("{plural} \"{}\" already exists", key.name))
                }
            }
            Refusal::NotFound { key } => Self::not_found(key.kind, &key.name),
            Refusal::Conflict { key, message } => Self::conflict(key.kind, &key.name, &message),
            Refusal::Invalid { field, message } => {
                let cause = Cause::invalid(field, message);
                Self {
                    details: Some(json!({ "causes": causes_json(std::slice::from_ref(&cause)) })),
                    ..Self::new(422, "Invalid", format!("invalid: {}: {}", cause.field, cause.message))
                }
            }
            Refusal::Forbidden { message } => Self::forbidden(format!("forbidden: {message}")),
            Refusal::Malformed => Self::bad_request(
                "the state machine could not read the command: this node and the ledger are of different versions",
            ),
        }
    }
}

/// 400: the body is no object of this kind.
pub(super) fn decoding_failed(kind: Kind, why: &str) -> ApiError {
    let name = resource(kind).name;
    ApiError::bad_request(format!("{name} in version \"v1\" cannot be handled as a {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { kind: Kind::Pod, namespace: "default".into(), name: "hello".into() }
    }

    /// kubectl prints these words and decides by `reason` and `code`.
    #[test]
    fn refusals_speak_kubernetes() {
        let missing: ApiError = Refusal::NotFound { key: key() }.into();
        assert_eq!(
            (missing.code, missing.reason, missing.message.as_str()),
            (404, "NotFound", "pods \"hello\" not found")
        );
        let twice: ApiError = Refusal::AlreadyExists { key: key() }.into();
        assert_eq!((twice.code, twice.message.as_str()), (409, "pods \"hello\" already exists"));
        assert_eq!(twice.status()["details"]["kind"], "pods");
        let invalid = ApiError::refused(Refusal::Invalid { field: "spec.x".into(), message: "bad".into() }, &key());
        assert_eq!(invalid.message, "Pod \"hello\" is invalid: spec.x: bad");
        assert_eq!(invalid.status()["details"]["causes"][0]["field"], "spec.x");
        assert_eq!(invalid.status()["status"], "Failure");
        let forbidden = ApiError::refused(Refusal::Forbidden { message: "no".into() }, &key());
        assert_eq!((forbidden.code, forbidden.message.as_str()), (403, "pods \"hello\" is forbidden: no"));
    }
}
