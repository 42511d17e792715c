//! What can go wrong between the command line and a node.

use serde_json::Value;

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--server {url:?}: {why}")]
    Address { url: String, why: String },
    #[error("no node answers at {server}")]
    Unreachable {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the node at {server} did not answer within {seconds} s")]
    Slow { server: String, seconds: u64 },
    #[error("the connection to {server} broke")]
    Broken {
        server: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("what answers at {server} is not a node of EntroOS: {why}")]
    Nonsense { server: String, why: String },
    #[error("{0}")]
    Refused(Box<Refused>),
}

/// The node's own words, from a `metav1.Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `Forbidden`, …
    pub reason: String,
    pub message: String,
    /// `field: message` of each cause.
    pub causes: Vec<String>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Refused {
    /// Reads a refusal's body, whatever it is.
    #[must_use]
    pub fn parse(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = match text(&status["message"]) {
            message if !message.is_empty() => message,
            _ => match String::from_utf8_lossy(body).trim() {
                "" => format!("the node answered with HTTP status {code}"),
                // A body that is no Status may be anything: one line of it is enough.
                other => {
                    let first: String = other.lines().next().unwrap_or_default().chars().take(500).collect();
                    format!("the node answered with HTTP status {code}: {first}")
                }
            },
        };
        let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let causes = causes
            .iter()
            .map(|cause| match (text(&cause["field"]), text(&cause["message"])) {
                (field, message) if field.is_empty() => message,
                (field, message) => format!("{field}: {message}"),
            })
            // Where the message says it already, once is enough.
            .filter(|cause| !cause.is_empty() && !message.contains(cause.as_str()))
            .collect();
        Self { code, reason: text(&status["reason"]), message, causes }
    }
}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "the socket belongs to another user: run the command as that user or as root".into()
            }
            Self::Unreachable { .. } => "start one with `entroos node`, or name a running one with --server URL \
                 (or ENTROOS_SERVER), or its directory with --data-dir DIR (or ENTROOS_DATA_DIR)"
                .into(),
            Self::Slow { .. } => "see whether the node is overloaded: `entroos status` and its log".into(),
            Self::Nonsense { .. } => "name the node's address with --server URL".into(),
            Self::Refused(refused) => return refused.hint(),
            Self::Address { .. } | Self::Broken { .. } => return None,
        })
    }

    /// The refusal's reason, empty where it is something else.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.reason,
            _ => "",
        }
    }
}

impl Refused {
    fn hint(&self) -> Option<String> {
        match (self.code, self.reason.as_str()) {
            (401, _) => Some("the token is not this node's: see --token and ENTROOS_TOKEN".into()),
            (403, _) => Some(
                "as root or the node's own user the unix socket of its data directory grants more \
                 (--data-dir DIR), and so does its token (--token)"
                    .into(),
            ),
            (404, "NotFound") => Some("see what there is: `entroos pod list -A`, `entroos image list`".into()),
            (409, "Conflict") => Some("it was changed meanwhile: run the command again".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_with_its_causes_once() {
        let body = br#"{"kind":"Status","status":"Failure","reason":"Invalid","message":"Pod \"x\" is invalid: spec.a: bad",
            "details":{"causes":[{"field":"spec.a","message":"bad"},{"field":"spec.b","message":"worse"}]},"code":422}"#;
        let refused = Refused::parse(422, body);
        assert_eq!(refused.reason, "Invalid");
        assert_eq!(refused.causes, ["spec.b: worse"]);
    }

    #[test]
    fn a_body_that_is_no_status_is_told_in_one_line() {
        assert!(Refused::parse(502, b"<html>\nno").message.ends_with("502: <html>"));
        assert!(Refused::parse(500, b"").message.ends_with("status 500"));
    }
}
