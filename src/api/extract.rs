//! What a request says: its query, its body within a limit, the shape its client wants back.

use axum::body::{Body, Bytes};
use axum::extract::Query as AxumQuery;
use axum::http::Uri;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::error;
use super::k8s::{ApiError, FieldValidation};

/// Every query parameter some route reads or Kubernetes' clients send. Others are refused, because a mistyped
/// `dryRun` must not commit and a mistyped `labelSelector` must not select everything.
const KNOWN: &[&str] = &[
    "allowWatchBookmarks",
    "command",
    "container",
    "continue",
    "dryRun",
    "fieldManager",
    "fieldSelector",
    "fieldValidation",
    "follow",
    "force",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "includeObject",
    "insecureSkipTLSVerifyBackend",
    "labelSelector",
    "limit",
    "limitBytes",
    "orphanDependents",
    "pretty",
    "previous",
    "propagationPolicy",
    "reference",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "sinceSeconds",
    "sinceTime",
    "stderr",
    "stdin",
    "stdout",
    "tag",
    "tailLines",
    "timeout",
    "timeoutSeconds",
    "timestamps",
    "tty",
    "watch",
];

/// The query, in order; a name may stand more than once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let AxumQuery(pairs) = AxumQuery::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|e| error::bad_request(format!("the query cannot be read: {e}")))?;
        match pairs.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
            Some((name, _)) => Err(error::bad_request(format!("{name}: unknown query parameter"))),
            None => Ok(Self(pairs)),
        }
    }

    /// The first value of that name; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// `?watch`, `?watch=1` and `?watch=true` are true; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.flag_or_none(name)?.unwrap_or(false))
    }

    pub fn flag_or_none(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()) {
            None => Ok(None),
            Some("" | "1" | "true" | "True" | "t") => Ok(Some(true)),
            Some("0" | "false" | "False" | "f") => Ok(Some(false)),
            Some(other) => Err(error::bad_request(format!("{name}: {other:?} must be true or false"))),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.get(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| error::bad_request(format!("{name}: {text:?} must be a whole number, 0 or more")))
            })
            .transpose()
    }

    pub fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            // Stricter than Kubernetes' `Warn` where nothing is said: a field that is not understood is never ignored.
            None | Some("Strict") => Ok(FieldValidation::Strict),
            Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => {
                Err(error::bad_request(format!("fieldValidation: {other:?} must be Strict, Warn or Ignore")))
            }
        }
    }
}

/// The whole body.
pub(super) async fn body(body: Body, max: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => {
            Err(error::too_large(format!("the body is larger than the limit of {max} bytes (`body_max`)")))
        }
        Err(e) => Err(error::bad_request(format!("the body broke off: {e}"))),
    }
}

/// How objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Table,
}

impl Shape {
    /// The first that `Accept` names of what is served; its order is taken as its preference.
    pub fn negotiate(accept: Option<&str>) -> Result<Self, ApiError> {
        let Some(accept) = accept.map(str::trim).filter(|a| !a.is_empty()) else { return Ok(Self::Object) };
        accept.split(',').find_map(Self::of_range).ok_or_else(|| error::not_acceptable(accept))
    }

    fn of_range(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        if !matches!(media.as_str(), "application/json" | "application/*" | "*/*") {
            return None;
        }
        let mut wants = None;
        for part in parts {
            match part.split_once('=') {
                Some(("as", kind)) => wants = Some(kind),
                Some(("v", version)) if version != "v1" => return None,
                Some(("q", weight)) if weight.parse() == Ok(0.0) => return None,
                _ => {}
            }
        }
        match wants {
            None => Some(Self::Object),
            Some("Table") => Some(Self::Table),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_shape_that_is_served_wins() {
        let shape = |accept| Shape::negotiate(Some(accept)).map_err(|e| e.code);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(shape(kubectl), Ok(Shape::Table));
        assert_eq!(shape("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"), Ok(Shape::Object));
        assert_eq!(shape("application/vnd.kubernetes.protobuf, application/json"), Ok(Shape::Object));
        assert_eq!(shape("text/html,*/*;q=0.8"), Ok(Shape::Object));
        assert_eq!(shape("application/yaml"), Err(406));
        assert_eq!(shape("application/json;q=0"), Err(406));
        assert_eq!(Shape::negotiate(None).unwrap(), Shape::Object);
    }

    #[test]
    fn a_mistyped_parameter_is_named() {
        let parse = |query: &str| Query::parse(&format!("/x?{query}").parse().unwrap());
        assert!(parse("dryrun=All").unwrap_err().message.starts_with("dryrun:"));
        let query = parse("watch&follow=0&limit=5&command=ls&command=-l%20a").unwrap();
        assert_eq!((query.flag("watch").unwrap(), query.flag("follow").unwrap()), (true, false));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.all("command"), ["ls", "-l a"]);
        assert!(parse("tailLines=-1").unwrap().number("tailLines").unwrap_err().message.starts_with("tailLines:"));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert_eq!(body(Body::from("1234"), 4).await.unwrap(), "1234");
        assert_eq!(body(Body::from("12345"), 4).await.unwrap_err().code, 413);
    }
}
