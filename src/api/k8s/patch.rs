//! The three patches: RFC 6902, RFC 7386, and Kubernetes' own (`strategic`).

use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::Value;

use super::error::ApiError;
use super::{PatchType, schema, strategic};
use crate::orchestrator::Kind;

/// As many operations as Kubernetes takes.
const OPERATIONS_MAX: usize = 10_000;
/// What `copy` may add up to: sixteen of them can make a megabyte of a few bytes.
const COPIED_MAX: usize = 3 << 20;
/// As deep as a body may be: a patch must not build what nobody could send.
const DEPTH_MAX: usize = 128;

/// Applies a patch to Kubernetes' JSON.
pub fn patch(kind: Kind, current: &Value, patch_type: PatchType, patch: &Value) -> Result<Value, ApiError> {
    match patch_type {
        PatchType::Json => operations(current, patch),
        PatchType::Merge => {
            if !patch.is_object() {
                return Err(ApiError::bad_request("a merge patch must be an object"));
            }
            let mut merged = current.clone();
            json_patch::merge(&mut merged, patch);
            Ok(merged)
        }
        PatchType::Strategic => {
            let (Value::Object(original), Value::Object(patch)) = (current, patch) else {
                return Err(ApiError::bad_request("a strategic merge patch must be an object"));
            };
            let merged = strategic::merge(original.clone(), patch, Some(schema::of_kind(kind)), "")
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
            Ok(merged.into())
        }
    }
}

fn operations(current: &Value, patch: &Value) -> Result<Value, ApiError> {
    let list = patch.as_array().ok_or_else(|| ApiError::bad_request("a JSON patch must be a list of operations"))?;
    if list.len() > OPERATIONS_MAX {
        let message = format!("the patch has {} operations; at most {OPERATIONS_MAX} are allowed", list.len());
        return Err(ApiError::new(413, "RequestEntityTooLarge", message));
    }
    let mut value = current.clone();
    let mut copied = 0;
    for (i, operation) in list.iter().enumerate() {
        let malformed = |why: String| ApiError::bad_request(format!("operation {i} of the JSON patch: {why}"));
        // An internally tagged enum forgives an unknown `op` nothing, but its words are for programmers.
        let operation: PatchOperation =
            serde_json::from_value(operation.clone()).map_err(|e| malformed(e.to_string()))?;
        check_growth(&value, &operation, &mut copied).map_err(|why| malformed(why.to_owned()))?;
        json_patch::patch(&mut value, std::slice::from_ref(&operation)).map_err(|e| {
            let message = format!("operation {i} of the JSON patch, at {}: {}", operation.path(), e.kind);
            ApiError::new(422, "Invalid", message)
        })?;
    }
    Ok(value)
}

fn check_growth(value: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), &'static str> {
    let source = |from: &Pointer| from.resolve(value).unwrap_or(&Value::Null);
    let added = match operation {
        PatchOperation::Add(add) => &add.value,
        PatchOperation::Replace(replace) => &replace.value,
        PatchOperation::Move(r#move) => source(&r#move.from),
        PatchOperation::Copy(copy) => {
            let from = source(&copy.from);
            *copied += size(from);
            if *copied > COPIED_MAX {
                return Err("its copies add up to more than 3 MiB");
            }
            from
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if operation.path().tokens().count() + depth(added) > DEPTH_MAX {
        return Err("its result would be nested more than 128 deep");
    }
    Ok(())
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => 2 + list.iter().map(|v| 1 + size(v)).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| 4 + k.len() + size(v)).sum::<usize>(),
        Value::String(text) => 2 + text.len(),
        _ => 8,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(patch_type: PatchType, current: &Value, with: &Value) -> Result<Value, ApiError> {
        patch(Kind::Pod, current, patch_type, with)
    }

    #[test]
    fn operations_apply_in_order_or_not_at_all() {
        let current = json!({ "metadata": { "labels": { "a": "1" } } });
        let with = json!([
            { "op": "test", "path": "/metadata/labels/a", "value": "1" },
            { "op": "replace", "path": "/metadata/labels/a", "value": "2" },
            { "op": "add", "path": "/metadata/labels/b", "value": "3" },
        ]);
        let after = apply(PatchType::Json, &current, &with).unwrap();
        assert_eq!(after, json!({ "metadata": { "labels": { "a": "2", "b": "3" } } }));
        let failed = apply(PatchType::Json, &after, &with).unwrap_err();
        assert_eq!((failed.code, failed.message.contains("operation 0")), (422, true));
        assert!(failed.message.contains("/metadata/labels/a"), "{failed}");
        for malformed in
            [json!({}), json!([{ "op": "fly", "path": "/a" }]), json!([{ "op": "add", "path": "a", "value": 1 }])]
        {
            assert_eq!(apply(PatchType::Json, &current, &malformed).unwrap_err().code, 400);
        }
        let missing = json!([{ "op": "remove", "path": "/metadata/labels/zzz" }]);
        assert_eq!(apply(PatchType::Json, &current, &missing).unwrap_err().code, 422);
    }

    /// Each copy doubles the document: forty would need terabytes.
    #[test]
    fn a_copy_bomb_is_refused() {
        let copies: Vec<Value> =
            (0..40).map(|i| json!({ "op": "copy", "from": "/a", "path": format!("/a/{i}") })).collect();
        let refused = apply(PatchType::Json, &json!({ "a": {} }), &copies.into()).unwrap_err();
        assert_eq!(refused.code, 400);
        let mut deep = json!(0);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        let twice = json!([{ "op": "add", "path": "/a", "value": deep }, { "op": "copy", "from": "/a", "path": format!("/a{}", "/0".repeat(100)) }]);
        assert_eq!(apply(PatchType::Json, &json!({}), &twice).unwrap_err().code, 400);
    }

    #[test]
    fn a_merge_takes_null_for_removal() {
        let current = json!({ "metadata": { "labels": { "a": "1", "b": "2" } } });
        let with = json!({ "metadata": { "labels": { "a": null, "c": "3" } } });
        let after = apply(PatchType::Merge, &current, &with).unwrap();
        assert_eq!(after, json!({ "metadata": { "labels": { "b": "2", "c": "3" } } }));
        assert_eq!(apply(PatchType::Merge, &current, &json!("x")).unwrap_err().code, 400);
    }
}
