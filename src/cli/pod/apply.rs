//! Making what files say so.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::super::client::{Ask, Client, Error, encode, query};
use super::super::manifest::{self, Document};
use super::super::output::{self, Format};
use super::{Apply, Condition, wait_for};

/// Namespaces come first, and what pods read before pods.
const ORDER: &[&str] = &["Namespace", "ConfigMap", "Secret"];

/// One object, ready to be sent.
#[derive(Debug)]
struct Item {
    origin: String,
    /// The collection it belongs to: `/api/v1/namespaces/default/pods`.
    collection: String,
    kind: String,
    /// Empty where the node is to make one up.
    name: String,
    namespace: String,
    value: Value,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Applies everything in the file, as far as it can; fails where one object failed.
pub async fn run(client: &Client, args: &Apply) -> anyhow::Result<()> {
    let mut kinds = Kinds { client, known: BTreeMap::new() };
    let mut items = Vec::new();
    for document in manifest::read(&args.file)? {
        items.push(kinds.item(document, args.namespace.as_deref()).await?);
    }
    items.sort_by_key(|item| ORDER.iter().position(|kind| *kind == item.kind).unwrap_or(ORDER.len()));
    let (mut applied, mut failures) = (Vec::new(), Vec::new());
    for item in &items {
        match apply(client, item).await {
            Ok((outcome, object)) => {
                let name = text(&object["metadata"]["name"]).to_owned();
                if args.output == Format::Table {
                    output::line(format!("{}/{name} {}", item.kind.to_lowercase(), outcome.word()))?;
                }
                applied.push((item, name, object));
            }
            Err(e) => failures.push(e.context(format!("{}: {}/{}", item.origin, item.kind.to_lowercase(), item.name))),
        }
    }
    if let Some(timeout) = args.wait.filter(|_| failures.is_empty()) {
        let pods = applied.iter().filter(|(item, ..)| item.kind == "Pod");
        let waiting = pods.map(|(item, name, _)| wait_for(client, &item.namespace, name, &Condition::Settled, timeout));
        futures_util::future::try_join_all(waiting).await?;
    }
    if args.output != Format::Table {
        print(client, args.output, &applied, args.wait.is_some()).await?;
    }
    finish(failures)
}

/// All failures but the last are told here; the last becomes the command's.
fn finish(mut failures: Vec<anyhow::Error>) -> anyhow::Result<()> {
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in &failures {
        super::super::tell(failure);
    }
    Err(last)
}

async fn print(
    client: &Client,
    format: Format,
    applied: &[(&Item, String, Value)],
    reread: bool,
) -> anyhow::Result<()> {
    let mut objects = Vec::new();
    for (item, name, object) in applied {
        let path = format!("{}/{}", item.collection, encode(name));
        objects.push(if reread { client.json(Ask::get(path)).await? } else { object.clone() });
    }
    match objects.as_slice() {
        [one] => output::value(format, one),
        _ => output::value(format, &json!({"apiVersion": "v1", "kind": "List", "items": objects})),
    }
}

/// What kinds the node knows, by its own discovery documents.
struct Kinds<'a> {
    client: &'a Client,
    known: BTreeMap<String, Vec<Value>>,
}

impl Kinds<'_> {
    async fn item(&mut self, document: Document, namespace: Option<&str>) -> anyhow::Result<Item> {
        let Document { origin, mut value } = document;
        // The specification's own examples have neither: a pod is meant.
        for (field, default) in [("apiVersion", "v1"), ("kind", "Pod")] {
            match &value[field] {
                Value::Null => value[field] = default.into(),
                Value::String(_) => {}
                _ => bail!("{origin}: {field} must be text"),
            }
        }
        let (version, kind) = (text(&value["apiVersion"]).to_owned(), text(&value["kind"]).to_owned());
        if !value["metadata"].is_object() {
            bail!("{origin}: metadata: the object needs a name: metadata: {{name: NAME}}");
        }
        let name = text(&value["metadata"]["name"]).to_owned();
        if name.is_empty() && text(&value["metadata"]["generateName"]).is_empty() {
            bail!("{origin}: metadata.name: the object needs a name");
        }
        let resource = self.resource(&version, &kind).await.with_context(|| origin.clone())?;
        let plural = text(&resource["name"]).to_owned();
        let base = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if resource["namespaced"] != json!(true) {
            let collection = format!("{base}/{plural}");
            return Ok(Item { origin, collection, kind, name, namespace: String::new(), value });
        }
        let own = text(&value["metadata"]["namespace"]).to_owned();
        let namespace = match namespace {
            Some(asked) if !own.is_empty() && own != asked => {
                bail!("{origin}: metadata.namespace is {own:?}, but --namespace says {asked:?}: leave one of them out")
            }
            Some(asked) => asked.to_owned(),
            None if own.is_empty() => "default".to_owned(),
            None => own,
        };
        let collection = format!("{base}/namespaces/{}/{plural}", super::checked(&namespace)?);
        Ok(Item { origin, collection, kind, name, namespace, value })
    }

    async fn resource(&mut self, version: &str, kind: &str) -> anyhow::Result<Value> {
        if !self.known.contains_key(version) {
            let path = version.split('/').map(encode).collect::<Vec<_>>().join("/");
            let base = if version.contains('/') { format!("/apis/{path}") } else { format!("/api/{path}") };
            let resources = match self.client.json(Ask::get(base)).await {
                Ok(mut list) => list["resources"].as_array_mut().map(std::mem::take).unwrap_or_default(),
                Err(Error::Refused(refused)) if refused.code == 404 => Vec::new(),
                Err(e) => return Err(e.into()),
            };
            self.known.insert(version.to_owned(), resources);
        }
        let resources = &self.known[version];
        let whole = || resources.iter().filter(|r| !text(&r["name"]).contains('/'));
        if let Some(found) = whole().find(|r| r["kind"] == kind) {
            return Ok(found.clone());
        }
        let there: Vec<&str> = whole().map(|r| text(&r["kind"])).collect();
        match there.as_slice() {
            [] => bail!("apiVersion {version} is not served by this version of EntroOS (kind {kind})"),
            _ => bail!("kind {kind} is not served under apiVersion {version}: there are {}", there.join(", ")),
        }
    }
}

async fn apply(client: &Client, item: &Item) -> anyhow::Result<(Outcome, Value)> {
    let strict = query(&[("fieldValidation", "Strict".into())]);
    let create = Ask::post(format!("{}{strict}", item.collection)).json("application/json", &item.value);
    match client.json(create).await {
        Ok(object) => return Ok((Outcome::Created, object)),
        Err(e) if e.reason() == "AlreadyExists" && !item.name.is_empty() => {}
        Err(e) => return Err(e.into()),
    }
    let path = format!("{}/{}", item.collection, encode(&item.name));
    let current = client.json(Ask::get(path.clone())).await?;
    let wanted = merge_patch(&item.value);
    if says_already(&current, &wanted) {
        return Ok((Outcome::Unchanged, current));
    }
    let ask = Ask::patch(format!("{path}{strict}")).json("application/merge-patch+json", &wanted);
    let object = client.json(ask).await?;
    let outcome = if same_but_revision(&current, &object) { Outcome::Unchanged } else { Outcome::Configured };
    Ok((outcome, object))
}

/// What the file says, without what only the node may say and what cannot change.
fn merge_patch(value: &Value) -> Value {
    let mut patch = Map::new();
    for (field, value) in value.as_object().into_iter().flatten() {
        match field.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => {
                let kept = ["labels", "annotations"];
                let kept = kept.iter().filter_map(|f| Some(((*f).to_owned(), value.get(f)?.clone())));
                patch.insert(field.clone(), Value::Object(kept.collect()));
            }
            _ => {
                patch.insert(field.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// Whether `current` holds everything the patch says, so that nothing need be sent.
fn says_already(current: &Value, patch: &Value) -> bool {
    match (current, patch) {
        (Value::Object(current), Value::Object(patch)) => patch.iter().all(|(field, wanted)| match wanted {
            // A null takes the field away.
            Value::Null => current.get(field).is_none_or(Value::is_null),
            // An empty mapping asks for nothing.
            Value::Object(map) if map.is_empty() => true,
            _ => current.get(field).is_some_and(|there| says_already(there, wanted)),
        }),
        (Value::Array(current), Value::Array(patch)) => {
            current.len() == patch.len() && current.iter().zip(patch).all(|(there, wanted)| says_already(there, wanted))
        }
        _ => current == patch,
    }
}

fn same_but_revision(before: &Value, after: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
            metadata.remove("generation");
        }
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
        }
        value
    };
    bare(before) == bare(after)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_may_change() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"},
            "metadata": {"name": "a", "uid": "1", "labels": {"x": "y"}}, "spec": {"containers": []}});
        assert_eq!(merge_patch(&value), json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": []}}));
    }

    #[test]
    fn what_is_there_already_is_not_sent_again() {
        let current = json!({"metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i", "tty": false}]}});
        let same =
            json!({"metadata": {"labels": {"a": "1"}, "annotations": {}}, "spec": {"containers": [{"name": "c"}]}});
        assert!(says_already(&current, &same));
        for other in [
            json!({"metadata": {"labels": {"a": "2"}}}),
            json!({"metadata": {"labels": {"a": null}}}),
            json!({"spec": {"containers": [{"name": "c", "image": "j"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "d"}]}}),
            json!({"spec": {"nodeName": "n"}}),
        ] {
            assert!(!says_already(&current, &other), "{other}");
        }
    }

    #[test]
    fn a_change_is_more_than_a_new_revision() {
        let before = json!({"metadata": {"resourceVersion": "1"}, "spec": {"a": 1}, "status": {"phase": "Pending"}});
        let mut after = json!({"metadata": {"resourceVersion": "2"}, "spec": {"a": 1}, "status": {"phase": "Running"}});
        assert!(same_but_revision(&before, &after));
        after["spec"]["a"] = json!(2);
        assert!(!same_but_revision(&before, &after));
    }
}
