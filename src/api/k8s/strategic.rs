//! Kubernetes' strategic merge patch, applied by the server.
//!
//! Like RFC 7386, but lists of named things are merged by name (`schema` knows the key), and directives say what plain
//! JSON cannot: `$patch: replace | delete | merge`, `$retainKeys`, `$setElementOrder/FIELD`,
//! `$deleteFromPrimitiveList/FIELD`. Source: Kubernetes' `strategicpatch` package and its design document.

// `patch` and `path` are the words of the trade.
#![allow(clippy::similar_names)]

use serde_json::{Map, Value};

use super::read::join;
use super::schema::{self, Shape, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Why a patch cannot be applied. Every message begins with the path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("{path}: $patch must be replace, delete or merge, is {said}")]
    Directive { path: String, said: String },
    #[error("{path}: must be a list")]
    NotList { path: String },
    #[error("{path}: an element of the patch lacks its merge key {key}")]
    NoMergeKey { path: String, key: &'static str },
    #[error("{path}: $retainKeys does not list {key}, which the patch sets")]
    NotRetained { path: String, key: String },
}

type Object = Map<String, Value>;

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Object, path: &str) -> Result<Directive, Error> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "merge" => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "replace" => Ok(Directive::Replace),
        Some(Value::String(word)) if word == "delete" => Ok(Directive::Delete),
        Some(said) => Err(Error::Directive { path: path.to_owned(), said: super::read::brief(said) }),
    }
}

/// Merges `patch` into `original`, an object of type `of` at `path`.
pub(super) fn merge(
    mut original: Object,
    patch: &Object,
    of: Option<&'static Type>,
    path: &str,
) -> Result<Object, Error> {
    match directive(patch, path)? {
        Directive::Merge => {}
        Directive::Delete => return Ok(Object::new()),
        Directive::Replace => return Ok(plain_object(patch)),
    }
    retain_keys(&mut original, patch, path)?;
    for (name, value) in patch {
        if name == PATCH || name == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = name.strip_prefix(DELETE_PRIMITIVES) {
            let gone = list(value, &join(path, name))?;
            if let Some(Value::Array(there)) = original.get_mut(field) {
                there.retain(|element| !gone.contains(element));
            }
        } else if let Some(field) = name.strip_prefix(ELEMENT_ORDER) {
            list(value, &join(path, name))?;
            // Lists are put in order as they are merged; one that the patch only orders is done here.
            if !patch.contains_key(field) {
                let shape = of.and_then(|t| t.shape(field));
                reorder(&mut original, field, value, shape, &[]);
            }
        } else {
            merge_field(&mut original, name, value, patch, of, path)?;
        }
    }
    Ok(original)
}

fn merge_field(
    original: &mut Object,
    name: &str,
    value: &Value,
    patch: &Object,
    of: Option<&'static Type>,
    path: &str,
) -> Result<(), Error> {
    let shape = of.and_then(|t| t.shape(name));
    let path = join(path, name);
    let merged = match (original.remove(name), value) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(there)), Value::Object(with)) => {
            let inner = if let Some(Shape::Ref(of)) = shape { schema::named(of) } else { None };
            let deleted = matches!(directive(with, &path)?, Directive::Delete);
            let merged = merge(there, with, inner, &path)?;
            if deleted && merged.is_empty() {
                return Ok(());
            }
            merged.into()
        }
        (there, Value::Array(with)) if matches!(shape, Some(Shape::MergeList(..) | Shape::MergeSet)) => {
            let there = if let Some(Value::Array(there)) = there { there } else { Vec::new() };
            let before = there.clone();
            let merged = match shape {
                Some(Shape::MergeList(of, key)) => merge_list(there, with, schema::named(of), key, &path)?,
                _ => union(there, with),
            };
            original.insert(name.to_owned(), merged.into());
            if let Some(order) = patch.get(&format!("{ELEMENT_ORDER}{name}")) {
                reorder(original, name, order, shape, &before);
            }
            return Ok(());
        }
        (_, Value::Object(with)) => {
            if matches!(directive(with, &path)?, Directive::Delete) {
                return Ok(());
            }
            // Merged into nothing, so that directives inside it are obeyed too.
            let inner = if let Some(Shape::Ref(of)) = shape { schema::named(of) } else { None };
            merge(Object::new(), with, inner, &path)?.into()
        }
        (_, with) => plain(with),
    };
    original.insert(name.to_owned(), merged);
    Ok(())
}

/// Drops what the patch does not want kept: how a union changes its member.
fn retain_keys(original: &mut Object, patch: &Object, path: &str) -> Result<(), Error> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys: Vec<&str> = list(keys, &join(path, RETAIN_KEYS))?.iter().filter_map(Value::as_str).collect();
    let set = patch.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    if let Some((key, _)) = set.clone().find(|(key, _)| !keys.contains(&key.as_str())) {
        return Err(Error::NotRetained { path: path.to_owned(), key: key.clone() });
    }
    original.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

/// Merges a list of named things.
fn merge_list(
    mut there: Vec<Value>,
    patch: &[Value],
    of: Option<&'static Type>,
    key: &'static str,
    path: &str,
) -> Result<Vec<Value>, Error> {
    let is_replace = |value: &Value| value.get(PATCH).is_some_and(|word| word == "replace");
    if patch.iter().any(is_replace) {
        // The directive stands in an element of its own; the rest is the new list.
        there.clear();
    }
    for (i, element) in patch.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Value::Object(with) = element else {
            return Err(Error::NoMergeKey { path, key });
        };
        let directive = directive(with, &path)?;
        if matches!(directive, Directive::Replace) && with.len() == 1 {
            continue;
        }
        let Some(name) = with.get(key).filter(|name| !name.is_null()) else {
            return Err(Error::NoMergeKey { path, key });
        };
        let found = there.iter().position(|value| value.get(key) == Some(name) && same_protocol(value, with));
        match (directive, found) {
            (Directive::Delete, Some(index)) => drop(there.remove(index)),
            (Directive::Delete, None) => {}
            (Directive::Replace, Some(index)) => there[index] = plain_object(with).into(),
            (Directive::Merge, Some(index)) => {
                if let Value::Object(before) = there[index].take() {
                    there[index] = merge(before, with, of, &path)?.into();
                }
            }
            (_, None) => there.push(merge(Object::new(), &without_directive(with), of, &path)?.into()),
        }
    }
    Ok(there)
}

fn without_directive(with: &Object) -> Object {
    with.iter().filter(|(key, _)| key.as_str() != PATCH).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Ports are merged by their number, and 53/TCP and 53/UDP are two: where both sides say a protocol, it must agree.
fn same_protocol(there: &Value, with: &Object) -> bool {
    match (there.get("protocol"), with.get("protocol")) {
        (Some(there), Some(with)) => there == with,
        _ => true,
    }
}

fn union(mut there: Vec<Value>, with: &[Value]) -> Vec<Value> {
    for value in with {
        if !there.contains(value) {
            there.push(value.clone());
        }
    }
    there
}

/// Puts the list `field` in the order the patch asks for. What it does not name (another's elements) keeps its place
/// among the rest, as `before` had it.
fn reorder(original: &mut Object, field: &str, order: &Value, shape: Option<Shape>, before: &[Value]) {
    let (Some(Value::Array(there)), Some(order)) = (original.get_mut(field), order.as_array()) else { return };
    let key = if let Some(Shape::MergeList(_, key)) = shape { Some(key) } else { None };
    let same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    };
    let position = |list: &[Value], value: &Value| list.iter().position(|other| same(other, value));
    let before = if before.is_empty() { there.clone() } else { before.to_vec() };
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(there).into_iter().partition(|value| position(order, value).is_some());
    // Stable: two ports of one number stay as they are.
    named.sort_by_key(|value| position(order, value));
    let mut named = named.into_iter().peekable();
    for other in others {
        let mine = position(&before, &other);
        while let Some(next) = named.next_if(|next| match (position(&before, next), mine) {
            (Some(next), Some(mine)) => next < mine,
            // A new element goes before what it is not compared with.
            _ => true,
        }) {
            there.push(next);
        }
        there.push(other);
    }
    there.extend(named);
}

fn list<'a>(value: &'a Value, path: &str) -> Result<&'a Vec<Value>, Error> {
    value.as_array().ok_or_else(|| Error::NotList { path: path.to_owned() })
}

/// A value as it is to be stored: without directives and nulls.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => plain_object(map).into(),
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn plain_object(map: &Object) -> Object {
    let is_directive = |key: &str| {
        key == PATCH || key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || key.starts_with(DELETE_PRIMITIVES)
    };
    map.iter()
        .filter(|(key, value)| !is_directive(key) && !value.is_null())
        .map(|(key, value)| (key.clone(), plain(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Kind;
    use serde_json::json;

    fn apply(current: &Value, patch: &Value) -> Result<Value, Error> {
        let (Value::Object(current), Value::Object(patch)) = (current.clone(), patch) else { unreachable!("objects") };
        merge(current, patch, Some(schema::of_kind(Kind::Pod)), "").map(Value::Object)
    }

    fn containers(list: &Value) -> Value {
        json!({ "spec": { "containers": list } })
    }

    /// `kubectl set image pod/x a=new`.
    #[test]
    fn set_image_changes_one_container() {
        let current =
            containers(&json!([{ "name": "a", "image": "old", "tty": true }, { "name": "b", "image": "keep" }]));
        let patch = json!({ "spec": {
            "$setElementOrder/containers": [{ "name": "a" }, { "name": "b" }],
            "containers": [{ "image": "new", "name": "a" }],
        } });
        let expected =
            containers(&json!([{ "name": "a", "image": "new", "tty": true }, { "name": "b", "image": "keep" }]));
        assert_eq!(apply(&current, &patch).unwrap(), expected);
    }

    /// `kubectl apply` after a label went, an annotation changed and a variable was added before another.
    #[test]
    fn apply_merges_by_name() {
        let current = json!({
            "metadata": { "name": "x", "labels": { "gone": "1", "stays": "2" }, "annotations": { "a": "1" } },
            "spec": { "containers": [{ "name": "c", "env": [{ "name": "B", "value": "b" }, { "name": "OLD", "value": "o" }] }] },
        });
        let patch = json!({
            "metadata": { "labels": { "gone": null }, "annotations": { "a": "2" } },
            "spec": { "$setElementOrder/containers": [{ "name": "c" }], "containers": [{
                "name": "c",
                "$setElementOrder/env": [{ "name": "A" }, { "name": "B" }],
                "env": [{ "name": "A", "value": "a" }, { "name": "OLD", "$patch": "delete" }],
            }] },
        });
        let after = apply(&current, &patch).unwrap();
        assert_eq!(after["metadata"], json!({ "name": "x", "labels": { "stays": "2" }, "annotations": { "a": "2" } }));
        let env = &after["spec"]["containers"][0]["env"];
        assert_eq!(env, &json!([{ "name": "A", "value": "a" }, { "name": "B", "value": "b" }]));
    }

    /// A variable that turns from a value into a reference.
    #[test]
    fn retain_keys_changes_a_union() {
        let current = containers(&json!([{ "name": "c", "env": [{ "name": "A", "value": "a" }] }]));
        let from = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
        let patch = containers(
            &json!([{ "name": "c", "env": [{ "name": "A", "$retainKeys": ["name", "valueFrom"], "valueFrom": from }] }]),
        );
        let after = apply(&current, &patch).unwrap();
        assert_eq!(after, containers(&json!([{ "name": "c", "env": [{ "name": "A", "valueFrom": from }] }])));
        let bad = containers(&json!([{ "name": "c", "$retainKeys": ["name"], "image": "i" }]));
        let refused = apply(&current, &bad).unwrap_err();
        assert_eq!(refused.to_string(), "spec.containers[0]: $retainKeys does not list image, which the patch sets");
    }

    #[test]
    fn directives_replace_and_delete() {
        let current = json!({ "metadata": { "labels": { "a": "1" } }, "spec": { "containers": [{ "name": "a" }, { "name": "b" }] } });
        let replaced =
            apply(&current, &json!({ "metadata": { "labels": { "$patch": "replace", "z": "9" } } })).unwrap();
        assert_eq!(replaced["metadata"]["labels"], json!({ "z": "9" }));
        let replaced = apply(&current, &containers(&json!([{ "$patch": "replace" }, { "name": "z" }]))).unwrap();
        assert_eq!(replaced["spec"]["containers"], json!([{ "name": "z" }]));
        let deleted = apply(&current, &containers(&json!([{ "name": "a", "$patch": "delete" }]))).unwrap();
        assert_eq!(deleted["spec"]["containers"], json!([{ "name": "b" }]));
        let gone = apply(&current, &json!({ "metadata": { "labels": { "$patch": "delete" } } })).unwrap();
        assert_eq!(gone["metadata"], json!({}));
    }

    #[test]
    fn one_port_number_of_two_protocols_is_two_ports() {
        let both = json!([{ "containerPort": 53, "protocol": "TCP" }, { "containerPort": 53, "protocol": "UDP" }]);
        let current = containers(&json!([{ "name": "c", "ports": [both[0]] }]));
        let after = apply(&current, &containers(&json!([{ "name": "c", "ports": [both[1]] }]))).unwrap();
        assert_eq!(after["spec"]["containers"][0]["ports"], both);
    }

    #[test]
    fn lists_without_names_are_replaced_whole() {
        let current = containers(&json!([{ "name": "c", "args": ["a", "b"] }]));
        let after = apply(&current, &containers(&json!([{ "name": "c", "args": ["z"] }]))).unwrap();
        assert_eq!(after["spec"]["containers"][0]["args"], json!(["z"]));
    }

    #[test]
    fn primitive_lists_lose_what_is_named() {
        let current = json!({ "metadata": { "finalizers": ["a", "b"] } });
        let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
            "$setElementOrder/finalizers": ["c", "b"] } });
        assert_eq!(apply(&current, &patch).unwrap()["metadata"]["finalizers"], json!(["c", "b"]));
    }

    /// Another client's container stays where it was.
    #[test]
    fn elements_the_patch_does_not_order_keep_their_place() {
        let current = containers(&json!([{ "name": "a" }, { "name": "theirs" }, { "name": "b" }]));
        let patch = json!({ "spec": { "$setElementOrder/containers": [{ "name": "a" }, { "name": "b" }] } });
        assert_eq!(apply(&current, &patch).unwrap(), current);
        let patch = json!({ "spec": { "$setElementOrder/containers": [{ "name": "b" }, { "name": "a" }] } });
        let after = apply(&current, &patch).unwrap();
        assert_eq!(after, containers(&json!([{ "name": "theirs" }, { "name": "b" }, { "name": "a" }])));
    }

    #[test]
    fn mistakes_name_their_place() {
        let current = containers(&json!([{ "name": "c" }]));
        let refused = apply(&current, &containers(&json!([{ "image": "i" }]))).unwrap_err();
        assert_eq!(refused.to_string(), "spec.containers[0]: an element of the patch lacks its merge key name");
        let refused = apply(&current, &json!({ "spec": { "$patch": "explode" } })).unwrap_err();
        assert_eq!(refused.to_string(), "spec: $patch must be replace, delete or merge, is \"explode\"");
        assert!(apply(&current, &json!({ "spec": { "$setElementOrder/containers": 3 } })).is_err());
    }
}
