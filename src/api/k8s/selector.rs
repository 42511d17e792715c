//! Label and field selectors.

use std::collections::BTreeSet;

use super::error::ApiError;
use super::pod_status::phase;
use super::resource::resource;
use crate::base::Uid;
use crate::orchestrator::object::RestartPolicy;
use crate::orchestrator::{Body, Kind, Object};

/// Longer ones are refused.
const TEXT_MAX: usize = 16 * 1024;

/// Label and field selectors: every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<(String, Requirement)>,
    fields: Vec<(Field, Requirement)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    /// One of these values.
    In(BTreeSet<String>),
    /// None of these, or absent.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|v| values.contains(v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    NodeName,
    RestartPolicy,
    HostNetwork,
    Phase,
    Unschedulable,
    SecretType,
    InvolvedKind,
    InvolvedName,
    InvolvedNamespace,
    InvolvedUid,
    InvolvedApiVersion,
    Reason,
    Source,
    EventType,
}

impl Field {
    fn named(kind: Kind, name: &str) -> Option<Self> {
        match (kind, name) {
            (_, "metadata.name") => Some(Self::Name),
            (_, "metadata.namespace") if kind.namespaced() => Some(Self::Namespace),
            (Kind::Pod, "spec.nodeName") => Some(Self::NodeName),
            (Kind::Pod, "spec.restartPolicy") => Some(Self::RestartPolicy),
            (Kind::Pod, "spec.hostNetwork") => Some(Self::HostNetwork),
            (Kind::Pod | Kind::Namespace, "status.phase") => Some(Self::Phase),
            (Kind::Node, "spec.unschedulable") => Some(Self::Unschedulable),
            (Kind::Secret, "type") => Some(Self::SecretType),
            (Kind::Event, "involvedObject.kind") => Some(Self::InvolvedKind),
            (Kind::Event, "involvedObject.name") => Some(Self::InvolvedName),
            (Kind::Event, "involvedObject.namespace") => Some(Self::InvolvedNamespace),
            (Kind::Event, "involvedObject.uid") => Some(Self::InvolvedUid),
            (Kind::Event, "involvedObject.apiVersion") => Some(Self::InvolvedApiVersion),
            (Kind::Event, "reason") => Some(Self::Reason),
            (Kind::Event, "source" | "reportingComponent") => Some(Self::Source),
            (Kind::Event, "type") => Some(Self::EventType),
            _ => None,
        }
    }

    /// The field's text; empty where the object has none.
    fn of(self, object: &Object) -> String {
        let truth = |b: bool| if b { "true" } else { "false" }.to_owned();
        match (self, &object.body) {
            (Self::Name, _) => object.meta.name.clone(),
            (Self::Namespace, _) => object.meta.namespace.clone(),
            (Self::NodeName, Body::Pod(pod)) => pod.spec.node_name.clone(),
            (Self::HostNetwork, Body::Pod(pod)) => truth(pod.spec.host_network),
            (Self::RestartPolicy, Body::Pod(pod)) => match pod.spec.restart_policy {
                RestartPolicy::Always => "Always".into(),
                RestartPolicy::OnFailure => "OnFailure".into(),
                RestartPolicy::Never => "Never".into(),
            },
            (Self::Phase, Body::Pod(pod)) => phase(pod.status.phase).into(),
            (Self::Phase, _) => if object.meta.deleted.is_some() { "Terminating" } else { "Active" }.into(),
            (Self::Unschedulable, Body::Node(node)) => truth(node.unschedulable),
            (Self::SecretType, Body::Secret(secret)) => secret.secret_type.clone(),
            (field, Body::Event(event)) => match field {
                Self::InvolvedKind => resource(event.involved.kind).name.into(),
                Self::InvolvedName => event.involved.name.clone(),
                Self::InvolvedNamespace => event.involved.namespace.clone(),
                Self::InvolvedUid if event.involved_uid == Uid::default() => String::new(),
                Self::InvolvedUid => event.involved_uid.to_string(),
                Self::InvolvedApiVersion => "v1".into(),
                Self::Reason => event.note.reason.clone(),
                Self::Source => event.source.clone(),
                Self::EventType => if event.note.warning { "Warning" } else { "Normal" }.into(),
                _ => String::new(),
            },
            _ => String::new(),
        }
    }
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a query.
    pub fn parse(kind: Kind, labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        let mut selector = Self::default();
        for text in split_outside_parens(bounded(labels)?) {
            selector.labels.push(label_requirement(text).map_err(|why| {
                ApiError::bad_request(format!("labelSelector: unable to parse requirement \"{text}\": {why}"))
            })?);
        }
        for text in split_unescaped(bounded(fields)?) {
            selector.fields.push(field_requirement(kind, text)?);
        }
        Ok(selector)
    }

    pub fn matches(&self, object: &Object) -> bool {
        let labels = &object.meta.labels;
        self.labels.iter().all(|(key, requirement)| requirement.holds(labels.get(key).map(String::as_str)))
            && self.fields.iter().all(|(field, requirement)| requirement.holds(Some(&field.of(object))))
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, where there is one: the caller need not look at every object.
    pub fn name(&self) -> Option<&str> {
        self.fields.iter().find_map(|(field, requirement)| match (field, requirement) {
            (Field::Name, Requirement::In(names)) if names.len() == 1 => names.first().map(String::as_str),
            _ => None,
        })
    }
}

fn bounded(text: Option<&str>) -> Result<&str, ApiError> {
    let text = text.unwrap_or_default().trim();
    if text.len() > TEXT_MAX {
        return Err(ApiError::bad_request(format!("a selector may have at most {TEXT_MAX} bytes")));
    }
    Ok(text)
}

fn split_outside_parens(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0u32);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn label_requirement(text: &str) -> Result<(String, Requirement), String> {
    let text = text.trim();
    if let Some(key) = text.strip_prefix('!') {
        return Ok((label_key(key)?, Requirement::Absent));
    }
    if let Some((left, values)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let values: BTreeSet<String> = values.split(',').map(label_value).collect::<Result<_, _>>()?;
        return match left.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => Ok((label_key(key)?, Requirement::In(values))),
            Some((key, "notin")) => Ok((label_key(key)?, Requirement::NotIn(values))),
            _ => Err("expected `key in (…)` or `key notin (…)`".into()),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok((label_key(key)?, Requirement::NotIn([label_value(value)?].into())));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok((label_key(key)?, Requirement::In([label_value(value)?].into())));
    }
    Ok((label_key(text)?, Requirement::Exists))
}

fn is_word(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn label_key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            if prefix.is_empty() || prefix.len() > 253 || !prefix.chars().all(fine) {
                return Err(format!("\"{text}\" has a prefix that is not a DNS name"));
            }
            name
        }
        None => text,
    };
    if is_word(name) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "\"{text}\" is not a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        ))
    }
}

fn label_value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || is_word(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "\"{text}\" is not a label's value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        ))
    }
}

/// Splits at commas; `\,` is a comma of a value.
fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn field_requirement(kind: Kind, text: &str) -> Result<(Field, Requirement), ApiError> {
    let (name, value, equal) = if let Some((name, value)) = text.split_once("!=") {
        (name, value, false)
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, value, true)
    } else {
        return Err(ApiError::bad_request(format!(
            "fieldSelector: invalid selector \"{text}\"; can't understand it: expected `field=value` or `field!=value`"
        )));
    };
    let field = Field::named(kind, name.trim()).ok_or_else(|| {
        ApiError::bad_request(format!(
            "Unable to find \"/v1, Resource={}\" that match field selector \"{text}\": field label not supported: {}",
            resource(kind).plural,
            name.trim()
        ))
    })?;
    let value = BTreeSet::from([unescape(value)]);
    Ok((field, if equal { Requirement::In(value) } else { Requirement::NotIn(value) }))
}

fn unescape(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|&c| {
            escaped = c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Meta;
    use crate::orchestrator::object::ConfigMap;

    fn object(labels: &[(&str, &str)]) -> Object {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let meta = Meta { name: "n".into(), namespace: "s".into(), labels, ..Meta::default() };
        Object { meta, body: Body::ConfigMap(ConfigMap::default()) }
    }

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        Selector::parse(Kind::ConfigMap, Some(text), None).unwrap().matches(&object(labels))
    }

    #[test]
    fn labels_select() {
        let a1: &[(&str, &str)] = &[("a", "1"), ("x.y/b", "")];
        for text in [
            "",
            "a=1",
            "a==1",
            "a",
            "a in (1, 2)",
            "a!=2",
            "!c",
            "c!=1",
            "c notin (1)",
            "x.y/b=",
            "a=1,x.y/b",
            "a in (1),!c",
        ] {
            assert!(selects(text, a1), "{text}");
        }
        for text in ["a=2", "c", "!a", "a notin (1,2)", "a in (2)", "a!=1", "a=1,c", "c=", "c in ()"] {
            assert!(!selects(text, a1), "{text}");
        }
    }

    #[test]
    fn nonsense_is_a_bad_request() {
        for text in ["a=b=c", "a in 1", "=1", "a b", "a in (1", ",", "a,,b", "a>1", "é", "a=-"] {
            assert_eq!(Selector::parse(Kind::Pod, Some(text), None).unwrap_err().code, 400, "{text}");
        }
        let refused = Selector::parse(Kind::Pod, None, Some("spec.color=red")).unwrap_err();
        assert!(refused.code == 400 && refused.message.contains("field label not supported: spec.color"));
        assert_eq!(Selector::parse(Kind::Pod, None, Some("metadata.name")).unwrap_err().code, 400);
    }

    #[test]
    fn fields_select() {
        let fields = |text: &str| Selector::parse(Kind::ConfigMap, None, Some(text)).unwrap();
        assert!(fields("metadata.name=n,metadata.namespace!=t").matches(&object(&[])));
        assert!(!fields("metadata.name=m").matches(&object(&[])));
        assert_eq!(fields("metadata.name=n").name(), Some("n"));
        assert_eq!(fields("metadata.name!=n").name(), None);
        assert_eq!(fields("metadata.name=a\\,b").name(), Some("a,b"));
    }
}
