//! What holds of every object and of every body.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::arbitrary::{json, object, replace_part};
use super::resource::kind_of;
use super::schema::{Shape, Type, named, of_kind};
use super::*;
use crate::base::UnixMillis;
use crate::orchestrator::object::{Deletion, PodStatus};
use crate::orchestrator::{Body, Kind, Meta, Object};

/// The object as a client may say it: without what the cluster alone sets.
fn as_said(mut object: Object) -> Object {
    object.meta = Meta { generation: 0, created: UnixMillis(0), deleted: None::<Deletion>, ..object.meta };
    match &mut object.body {
        Body::Pod(pod) => (pod.status, pod.placement) = (PodStatus::default(), None),
        Body::Node(node) => {
            let root = serde_json::json!({ "spec": { "unschedulable": node.unschedulable } });
            let id = node.id;
            *node = super::node::decode(&super::read::At::root(&root)).unwrap();
            node.id = id;
        }
        _ => {}
    }
    object
}

/// The first field of `value` that the type's table lacks.
fn undescribed(value: &Value, of: &'static Type, path: &str) -> Option<String> {
    value.as_object()?.iter().find_map(|(key, value)| {
        let path = format!("{path}.{key}");
        match of.shape(key) {
            None => Some(path),
            Some(Shape::Ref(name)) => undescribed(value, named(name)?, &path),
            Some(Shape::List(name) | Shape::MergeList(name, _)) => {
                let of = named(name)?;
                value.as_array()?.iter().find_map(|element| undescribed(element, of, &path))
            }
            Some(_) => None,
        }
    })
}

proptest! {
    /// `kubectl edit` that changes nothing changes nothing.
    #[test]
    fn what_is_printed_is_read_again(object in object()) {
        let kind = kind_of(&object);
        let printed = encode(&object);
        let read = decode(kind, &object.meta.namespace, &printed, FieldValidation::Strict);
        let (read, warnings) = read.map_err(|e| TestCaseError::fail(format!("{e}\n{printed:#}")))?;
        prop_assert_eq!(&read, &as_said(object));
        prop_assert!(warnings.is_empty());
        prop_assert_eq!(parse_body(None, printed.to_string().as_bytes()).unwrap(), printed);
    }

    /// Status too is of Kubernetes' types, and openapi knows every field (or kubectl's patches would miss it).
    #[test]
    fn what_is_printed_is_described(object in object()) {
        let kind = kind_of(&object);
        let printed = encode(&object);
        prop_assert_eq!(super::strict::unknown_fields(kind, &printed), Ok(std::collections::BTreeSet::new()));
        prop_assert_eq!(undescribed(&printed, of_kind(kind), ""), None);
    }

    #[test]
    fn every_object_has_its_row(objects in proptest::collection::vec(object(), 1..5), now in any::<u64>()) {
        for object in objects.into_iter().map(Arc::new) {
            let table = table_event(kind_of(&object), &object, "Metadata", true, UnixMillis(now));
            let cells = table["rows"][0]["cells"].as_array().unwrap();
            prop_assert_eq!(cells.len(), table["columnDefinitions"].as_array().unwrap().len());
            prop_assert!(cells.iter().all(Value::is_string));
        }
    }

    /// A body that is nearly right is read or refused; it never brings the node down.
    #[test]
    fn no_body_panics(object in object(), part in 0..60usize, with in json(), patch_body in json()) {
        let kind = kind_of(&object);
        let mut body = encode(&object);
        let mut part = part;
        replace_part(&mut body, &mut part, &with);
        for validation in [FieldValidation::Strict, FieldValidation::Warn] {
            if let Err(refused) = decode(kind, "default", &body, validation) {
                prop_assert!((400..500).contains(&refused.code), "{refused}");
            }
        }
        let _ = decode(Kind::Pod, "", &with, FieldValidation::Ignore);
        let _ = delete_options(&with, None);
        for patch_type in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            let _ = patch(kind, &body, patch_type, &patch_body);
            let _ = patch(kind, &body, patch_type, &with);
        }
    }

    #[test]
    fn no_text_panics(text in "[a-z!=(), \\\\.]{0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Selector::parse(Kind::Event, Some(&text), Some(&text));
        for media in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
            let _ = parse_body(Some(media), &bytes);
        }
    }
}
