//! Objects: list, get, create, replace, delete, as Kubernetes' clients ask for them.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::context::Call;
use super::error::{self, json_response};
use super::extract::Shape;
use super::k8s::{self, ApiError, DeleteOptions, Resource, Selector};
use super::secrets::{self, Reader};
use super::watch;
use crate::base::{Uid, UnixMillis};
use crate::orchestrator::{Command, Key, Kind, Object, Precondition, State};

/// Deletions of one collection that are under way at once; the ledger groups them into blocks.
const DELETES_MAX: usize = 64;
/// Warnings that one answer carries.
const WARNINGS_MAX: usize = 16;
/// Where a pod goes that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";

pub(super) fn list(call: Call) -> Result<Response, ApiError> {
    let selector = selector(&call)?;
    if call.query.flag("watch")? {
        return watch::watch(call, selector);
    }
    let form = Form::of(&call)?;
    let snapshot = call.context.api.client.snapshot();
    check_revision(&call, snapshot.state.revision())?;
    let objects = selected(&call, &snapshot.state, &selector)?;
    form.list(&call, &snapshot.state, &objects)
}

pub(super) fn get(call: &Call) -> Result<Response, ApiError> {
    let form = Form::of(call)?;
    let snapshot = call.context.api.client.snapshot();
    let object = find(call, &snapshot.state)?;
    form.one(call, StatusCode::OK, &object, Vec::new())
}

pub(super) async fn create(mut call: Call) -> Result<Response, ApiError> {
    let (form, dry_run) = (Form::of(&call)?, call.dry_run()?);
    let kind = call.kind()?;
    let value = parsed_body(&mut call).await?;
    let namespace = match call.param("namespace") {
        "" if kind.namespaced() => text_of(&value, "namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        namespace => namespace.to_owned(),
    };
    if text_of(&value, "resourceVersion").is_some() {
        return Err(error::bad_request("metadata.resourceVersion: must not be set on an object to be created"));
    }
    let (mut object, warnings) = k8s::decode(kind, &namespace, &value, call.query.field_validation()?)?;
    secrets::seal(&call.context, &mut object, None, dry_run).await?;
    let name = if object.meta.name.is_empty() { &object.meta.generate_name } else { &object.meta.name };
    let key = Key { kind, namespace, name: name.clone() };
    let made = call.context.change(call.caller, &key, &Command::Create { object }, dry_run).await?;
    form.one(&call, StatusCode::CREATED, &made, warnings)
}

pub(super) async fn replace(mut call: Call) -> Result<Response, ApiError> {
    let (form, dry_run) = (Form::of(&call)?, call.dry_run()?);
    let value = parsed_body(&mut call).await?;
    let key = call.key()?;
    let (object, warnings) = k8s::decode(key.kind, &key.namespace, &value, call.query.field_validation()?)?;
    let precondition = precondition_of(&value)?;
    let now = put(&call, &key, object, precondition, dry_run).await?;
    form.one(&call, StatusCode::OK, &now, warnings)
}

/// Seals and submits the new shape of the object at `key`.
pub(super) async fn put(
    call: &Call,
    key: &Key,
    mut object: Object,
    precondition: Precondition,
    dry_run: bool,
) -> Result<Arc<Object>, ApiError> {
    if object.meta.name != key.name {
        return Err(error::bad_request(format!(
            "metadata.name: {:?} does not match the name of the path, {:?}",
            object.meta.name, key.name
        )));
    }
    let snapshot = call.context.api.client.snapshot();
    let old = find(call, &snapshot.state)?;
    secrets::seal(&call.context, &mut object, Some(&old), dry_run).await?;
    call.context.change(call.caller, key, &Command::Replace { object, precondition }, dry_run).await
}

pub(super) async fn delete(mut call: Call) -> Result<Response, ApiError> {
    Form::of(&call)?;
    let options = delete_options(&mut call).await?;
    let key = call.key()?;
    let gone = delete_one(&call, key.clone(), &options).await?;
    let form = Form { shape: Shape::Object, include: "Metadata" };
    // A pod is there until its node has ended it, and then the answer is the pod; else it is a note of success.
    let snapshot = call.context.api.client.snapshot();
    let left = snapshot.state.get(&key).filter(|now| now.meta.uid == gone.meta.uid);
    if key.kind == Kind::Pod || left.is_some() {
        return form.one(&call, StatusCode::OK, &gone, Vec::new());
    }
    Ok(json_response(StatusCode::OK, &ApiError::success(&key, Some(gone.meta.uid))))
}

pub(super) async fn delete_collection(mut call: Call) -> Result<Response, ApiError> {
    let form = Form::of(&call)?;
    let selector = selector(&call)?;
    let options = delete_options(&mut call).await?;
    let snapshot = call.context.api.client.snapshot();
    let objects = selected(&call, &snapshot.state, &selector)?;
    let (call, options) = (&call, &options);
    let deletions = objects.into_iter().map(|object| async move {
        let key = Key { kind: call.kind()?, namespace: object.meta.namespace.clone(), name: object.meta.name.clone() };
        // The very objects that were selected, not namesakes that came meanwhile.
        let only = DeleteOptions {
            precondition: Precondition { uid: Some(object.meta.uid), revision: None },
            ..options.clone()
        };
        match delete_one(call, key, &only).await {
            Ok(gone) => Ok(Some(gone)),
            Err(refused) if refused.code == 404 || refused.code == 409 => Ok(None),
            Err(refused) => Err(refused),
        }
    });
    let mut gone = Vec::new();
    let mut deletions = stream::iter(deletions).buffered(DELETES_MAX);
    while let Some(deleted) = deletions.next().await {
        gone.extend(deleted?);
    }
    form.list(call, &call.context.api.client.snapshot().state, &gone)
}

async fn delete_one(call: &Call, key: Key, options: &DeleteOptions) -> Result<Arc<Object>, ApiError> {
    let DeleteOptions { precondition, grace_seconds, dry_run, .. } = *options;
    let command = Command::Delete { key: key.clone(), precondition, grace_seconds };
    call.context.change(call.caller, &key, &command, dry_run).await
}

/// Fields of `DeleteOptions` that are read, or that change nothing here. Others are refused: a mistyped `dryRun` must
/// not delete.
const DELETE_FIELDS: &[&str] = &[
    "apiVersion",
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "kind",
    "orphanDependents",
    "preconditions",
    "propagationPolicy",
];

/// How a deletion is to be done: from the query and the body, where the body wins.
async fn delete_options(call: &mut Call) -> Result<DeleteOptions, ApiError> {
    let dry_run = call.dry_run()?;
    if let Some(policy) = call.query.get("propagationPolicy")
        && !matches!(policy, "Background" | "Foreground" | "Orphan")
    {
        return Err(error::bad_request(format!(
            "propagationPolicy: {policy:?} must be Background, Foreground or Orphan"
        )));
    }
    let body = call.read_body().await?;
    let value = if body.is_empty() { Value::Null } else { k8s::parse_body(call.content_type(), &body)? };
    check_delete_fields(&value)?;
    let mut options = k8s::delete_options(&value, call.query.get("gracePeriodSeconds"))?;
    options.dry_run |= dry_run;
    Ok(options)
}

fn check_delete_fields(value: &Value) -> Result<(), ApiError> {
    match value {
        Value::Null => Ok(()),
        Value::Object(fields) => match fields.keys().find(|name| !DELETE_FIELDS.contains(&name.as_str())) {
            Some(name) => Err(error::bad_request(format!("{name}: unknown field of DeleteOptions"))),
            None => Ok(()),
        },
        _ => Err(error::bad_request("the body of a DELETE must be DeleteOptions, or absent")),
    }
}

/// `uid` and `resourceVersion` of a JSON object, as a precondition.
fn preconditions(value: &Value) -> Result<Precondition, ApiError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let uid = text("uid")
        .map(|uid| Uid::parse(uid).ok_or_else(|| error::conflict(format!("uid: {uid:?} is no uid of an object here"))));
    let revision = text("resourceVersion").map(|revision| {
        revision.parse().map_err(|_| error::bad_request(format!("resourceVersion: {revision:?} must be a number")))
    });
    Ok(Precondition { uid: uid.transpose()?, revision: revision.transpose()? })
}

/// What an object that replaces another says of it. The empty text and `0` say nothing.
pub(super) fn precondition_of(value: &Value) -> Result<Precondition, ApiError> {
    let found = value.get("metadata").map_or_else(|| Ok(Precondition::default()), preconditions)?;
    Ok(Precondition { revision: found.revision.filter(|&revision| revision != 0), ..found })
}

/// A text of `metadata`, where it is there and not empty.
pub(super) fn text_of<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty())
}

async fn parsed_body(call: &mut Call) -> Result<Value, ApiError> {
    let body = call.read_body().await?;
    if body.is_empty() {
        return Err(error::bad_request("the body is empty; send the object as JSON or YAML"));
    }
    k8s::parse_body(call.content_type(), &body)
}

pub(super) fn resource(call: &Call) -> Result<&'static Resource, ApiError> {
    call.resource.ok_or_else(|| error::internal("a route of objects without a resource"))
}

/// The object the path names.
pub(super) fn find(call: &Call, state: &State) -> Result<Arc<Object>, ApiError> {
    let key = call.key()?;
    let resource = resource(call)?;
    state.get(&key).cloned().ok_or_else(|| error::not_found(resource, &key.name))
}

pub(super) fn selector(call: &Call) -> Result<Selector, ApiError> {
    Selector::parse(call.kind()?, call.query.get("labelSelector"), call.query.get("fieldSelector"))
}

fn selected(call: &Call, state: &State, selector: &Selector) -> Result<Vec<Arc<Object>>, ApiError> {
    let namespace = Some(call.param("namespace")).filter(|namespace| !namespace.is_empty());
    Ok(state.list(call.kind()?, namespace).filter(|object| selector.matches(object)).cloned().collect())
}

/// Lists come from the newest state alone: older ones are gone, later ones are not there.
fn check_revision(call: &Call, now: u64) -> Result<(), ApiError> {
    let wanted = call.query.number("resourceVersion")?.unwrap_or(0);
    match call.query.get("resourceVersionMatch") {
        None | Some("NotOlderThan") if wanted > now => Err(error::timeout(format!(
            "resourceVersion: {wanted} is later than the newest, {now}; this node may have lost its data"
        ))),
        Some("Exact") if wanted != now => {
            Err(error::expired(format!("resourceVersion: only the newest, {now}, can be listed, not exactly {wanted}")))
        }
        None | Some("NotOlderThan" | "Exact") => Ok(()),
        Some(other) => {
            Err(error::bad_request(format!("resourceVersionMatch: {other:?} must be Exact or NotOlderThan")))
        }
    }
}

/// How an answer is printed. Decided before anything is changed, so that a wrong `Accept` changes nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub shape: Shape,
    pub include: &'static str,
}

impl Form {
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let include = match call.query.get("includeObject") {
            None | Some("Metadata") => "Metadata",
            Some("Object") => "Object",
            Some("None") => "None",
            Some(other) => {
                return Err(error::bad_request(format!("includeObject: {other:?} must be Metadata, Object or None")));
            }
        };
        Ok(Self { shape: Shape::negotiate(call.header("accept"))?, include })
    }

    /// Whether values of objects are printed.
    pub fn values(self) -> bool {
        self.shape == Shape::Object || self.include == "Object"
    }

    pub fn one(
        self,
        call: &Call,
        code: StatusCode,
        object: &Arc<Object>,
        warnings: Vec<String>,
    ) -> Result<Response, ApiError> {
        let mut reader = Reader::new(&call.context, call.caller);
        let snapshot = call.context.api.client.snapshot();
        let shown = reader.show(&snapshot.state, object, self.values());
        let value = match self.shape {
            Shape::Object => k8s::encode(&shown),
            Shape::Table => {
                let now = UnixMillis::now();
                k8s::table(call.kind()?, &[shown], object.meta.revision, self.include, true, now)
            }
        };
        Ok(warn(json_response(code, &value), warnings.into_iter().chain(reader.warnings())))
    }

    fn list(self, call: &Call, state: &State, objects: &[Arc<Object>]) -> Result<Response, ApiError> {
        let mut reader = Reader::new(&call.context, call.caller);
        let shown: Vec<Arc<Object>> = objects.iter().map(|o| reader.show(state, o, self.values())).collect();
        let (kind, revision) = (call.kind()?, state.revision());
        let value = match self.shape {
            Shape::Object => k8s::encode_list(kind, &shown, revision),
            Shape::Table => k8s::table(kind, &shown, revision, self.include, true, UnixMillis::now()),
        };
        Ok(warn(json_response(StatusCode::OK, &value), reader.warnings()))
    }
}

/// Adds `Warning` headers, which kubectl prints.
pub(super) fn warn(mut response: Response, warnings: impl Iterator<Item = String>) -> Response {
    for warning in warnings.take(WARNINGS_MAX) {
        let text: String = warning
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                ' '..='~' => vec![c],
                _ => vec!['?'],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mistyped_option_does_not_delete() {
        assert!(check_delete_fields(&Value::Null).is_ok());
        assert!(check_delete_fields(&json!({"kind": "DeleteOptions", "gracePeriodSeconds": 5})).is_ok());
        assert!(check_delete_fields(&json!({"dryrun": ["All"]})).unwrap_err().message.starts_with("dryrun:"));
        assert_eq!(check_delete_fields(&json!([])).unwrap_err().code, 400);
    }

    #[test]
    fn warnings_are_fit_for_a_header() {
        let response = warn(Response::default(), ["say \"x\"\n\u{e9}".to_owned()].into_iter());
        assert_eq!(response.headers()["warning"], "299 - \"say \\\"x\\\"??\"");
    }
}
