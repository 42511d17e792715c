//! What a deletion may say.

use serde_json::Value;

use super::error::ApiError;
use super::read::At;
use crate::base::Uid;
use crate::orchestrator::Precondition;

/// `DeleteOptions`, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `None`: the object's own.
    pub grace_seconds: Option<u64>,
    pub precondition: Precondition,
    /// `Background`, `Foreground` or `Orphan`: objects own nothing here, so each means the same.
    pub propagation: Option<String>,
    /// Nothing is to change.
    pub dry_run: bool,
}

/// A year: what is longer is a mistake.
const GRACE_SECONDS_MAX: u64 = 366 * 86_400;

/// Reads the body of a DELETE (null or empty where there is none) and its query's `gracePeriodSeconds`; the body wins.
pub fn delete_options(body: &Value, query_grace: Option<&str>) -> Result<DeleteOptions, ApiError> {
    let mut options = DeleteOptions::default();
    if let Some(text) = query_grace {
        let grace = text.parse().ok().filter(|grace| *grace <= GRACE_SECONDS_MAX);
        options.grace_seconds = Some(grace.ok_or_else(|| {
            ApiError::bad_request(format!(
                "gracePeriodSeconds: must be a whole number of seconds from 0 to {GRACE_SECONDS_MAX}, is \"{text}\""
            ))
        })?);
    }
    if body.is_null() {
        return Ok(options);
    }
    if body.get("kind").and_then(Value::as_str).is_some_and(|kind| kind != "DeleteOptions") {
        return Err(ApiError::bad_request("kind: the body of a DELETE must be DeleteOptions, or absent"));
    }
    read(&At::root(body), &mut options)
        .map_err(|cause| ApiError::bad_request(format!("{}: {}", cause.field, cause.message)))?;
    Ok(options)
}

fn read(at: &At, options: &mut DeleteOptions) -> Result<(), super::error::Cause> {
    if let Some(grace) = at.number_of("gracePeriodSeconds", 0, GRACE_SECONDS_MAX)? {
        options.grace_seconds = Some(grace);
    }
    let policies = [("Background", "Background"), ("Foreground", "Foreground"), ("Orphan", "Orphan")];
    options.propagation = at.choice_of("propagationPolicy", &policies)?.map(str::to_owned);
    for policy in at.list_of("dryRun")? {
        if policy.text()? != "All" {
            return Err(policy.wrong("must be \"All\""));
        }
        options.dry_run = true;
    }
    if let Some(at) = at.get("preconditions")? {
        if let Some(at) = at.get("uid")? {
            let uid = Uid::parse(at.text()?).ok_or_else(|| at.wrong("must be a UUID"))?;
            options.precondition.uid = Some(uid);
        }
        if let Some(at) = at.get("resourceVersion")? {
            let revision = at.text()?.parse().map_err(|_| at.wrong("must be a number as text"))?;
            options.precondition.revision = Some(revision);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kubectls_deletions_are_read() {
        assert_eq!(delete_options(&Value::Null, None).unwrap(), DeleteOptions::default());
        let body = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background",
            "dryRun": ["All"], "preconditions": { "uid": "01234567-89ab-8def-8123-456789abcdef", "resourceVersion": "7" } });
        let options = delete_options(&body, Some("30")).unwrap();
        assert_eq!((options.grace_seconds, options.dry_run, options.precondition.revision), (Some(0), true, Some(7)));
        assert!(options.precondition.uid.is_some());
        assert_eq!(delete_options(&json!({}), Some("30")).unwrap().grace_seconds, Some(30));
        for body in
            [json!({ "gracePeriodSeconds": -1 }), json!({ "dryRun": ["Some"] }), json!({ "kind": "Pod" }), json!([])]
        {
            assert_eq!(delete_options(&body, None).unwrap_err().code, 400, "{body}");
        }
        assert_eq!(delete_options(&Value::Null, Some("soon")).unwrap_err().code, 400);
    }
}
