//! Events (core v1).

use serde_json::{Map, Value, json};

use super::error::Cause;
use super::read::At;
use super::resource::{kind_named, resource, resources};
use super::time::{parse_rfc3339, rfc3339};
use crate::base::{Uid, UnixMillis};
use crate::orchestrator::Key;
use crate::orchestrator::object::{Event, Note};

pub(super) fn decode(root: &At) -> Result<Event, Cause> {
    let at = root.get("involvedObject")?.ok_or_else(|| Cause::required("involvedObject", "is required"))?;
    let kind_name = at.required_text("kind")?;
    let kind = kind_named(&kind_name).ok_or_else(|| {
        let known: Vec<&str> = resources().iter().map(|r| r.name).collect();
        Cause::invalid(at.child_path("kind"), format!("\"{kind_name}\" is not served; allowed: {}", known.join(", ")))
    })?;
    let version = at.text_of("apiVersion")?;
    if !matches!(version.as_str(), "" | "v1") {
        return Err(Cause::invalid(at.child_path("apiVersion"), "must be v1, or absent"));
    }
    let uid = at.text_of("uid")?;
    let involved_uid = if uid.is_empty() { Some(Uid::default()) } else { Uid::parse(&uid) };
    let time = |key: &str| -> Result<UnixMillis, Cause> {
        let Some(at) = root.get(key)? else { return Ok(UnixMillis(0)) };
        parse_rfc3339(at.text()?).ok_or_else(|| at.wrong("must be a time such as 2026-01-02T03:04:05Z"))
    };
    let count = root.number_of("count", 0, u64::from(u32::MAX))?.unwrap_or(1);
    Ok(Event {
        involved: Key { kind, namespace: at.text_of("namespace")?, name: at.required_text("name")? },
        involved_uid: involved_uid.ok_or_else(|| Cause::invalid(at.child_path("uid"), "must be a UUID, or absent"))?,
        note: Note {
            warning: root.choice_of("type", &[("Normal", false), ("Warning", true)])?.unwrap_or(false),
            reason: root.text_of("reason")?,
            message: root.text_of("message")?,
        },
        count: u32::try_from(count).unwrap_or(u32::MAX),
        first: time("firstTimestamp")?,
        last: time("lastTimestamp")?,
        source: match root.get("source")? {
            Some(source) => source.text_of("component")?,
            None => String::new(),
        },
    })
}

pub(super) fn encode(event: &Event, out: &mut Map<String, Value>) {
    let involved = &event.involved;
    let mut object = json!({ "apiVersion": "v1", "kind": resource(involved.kind).name, "name": involved.name });
    if !involved.namespace.is_empty() {
        object["namespace"] = involved.namespace.as_str().into();
    }
    if event.involved_uid != Uid::default() {
        object["uid"] = event.involved_uid.to_string().into();
    }
    out.insert("involvedObject".into(), object);
    out.insert("type".into(), if event.note.warning { "Warning" } else { "Normal" }.into());
    out.insert("reason".into(), event.note.reason.as_str().into());
    out.insert("message".into(), event.note.message.as_str().into());
    out.insert("count".into(), event.count.into());
    out.insert("source".into(), json!({ "component": event.source }));
    out.insert("reportingComponent".into(), event.source.as_str().into());
    out.insert("reportingInstance".into(), "".into());
    out.insert("eventTime".into(), Value::Null);
    for (key, time) in [("firstTimestamp", event.first), ("lastTimestamp", event.last)] {
        out.insert(key.into(), if time.0 == 0 { Value::Null } else { rfc3339(time).into() });
    }
}
