//! `/openapi/v3`: what kubectl reads before it applies, and what `kubectl explain` prints.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::resource::{Resource, resources};
use super::schema::{TYPES, Type, of_kind};
use crate::base::id::hex;

/// Made once: the parts come from constants.
static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
static INDEX: LazyLock<Value> = LazyLock::new(|| {
    // Clients keep the document by this hash.
    let hash = hex(&blake3::hash(DOCUMENT.to_string().as_bytes()).as_bytes()[..16]);
    json!({ "paths": { "api/v1": { "serverRelativeURL": format!("/openapi/v3/api/v1?hash={hash}") } } })
});

/// `/openapi/v3` and `/openapi/v3/api/v1`: the document at this path, where there is one. The path is without its query.
pub fn openapi(path: &str) -> Option<Value> {
    match path.trim_end_matches('/') {
        "/openapi/v3" => Some(INDEX.clone()),
        "/openapi/v3/api/v1" => Some(DOCUMENT.clone()),
        _ => None,
    }
}

fn document() -> Value {
    let mut paths = Map::new();
    for resource in resources() {
        add_paths(resource, &mut paths);
    }
    let mut schemas: Map<String, Value> = TYPES.iter().map(|of| (of.full_name(), of.schema())).collect();
    for resource in resources() {
        let of = of_kind(resource.kind);
        let kind = json!([{ "group": "", "version": "v1", "kind": resource.name }]);
        schemas[&of.full_name()]["x-kubernetes-group-version-kind"] = kind;
        schemas.insert(format!("{}List", of.full_name()), list_schema(resource, of));
    }
    let options = json!([{ "group": "", "version": "v1", "kind": "DeleteOptions" }]);
    schemas["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"] = options;
    schemas.insert(PATCH.into(), json!({ "type": "object", "description": "A patch." }));
    json!({
        "openapi": "3.0.0",
        "info": { "title": "EntroOS", "version": concat!("v", env!("CARGO_PKG_VERSION")) },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list_schema(resource: &Resource, of: &Type) -> Value {
    json!({
        "type": "object", "description": format!("A list of {}.", resource.plural), "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": "Always v1." },
            "kind": { "type": "string", "description": format!("Always {}List.", resource.name) },
            "metadata": { "allOf": [reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")], "default": {} },
            "items": { "type": "array", "items": { "allOf": [reference(&of.full_name())], "default": {} } },
        },
        "x-kubernetes-group-version-kind": [{ "group": "", "version": "v1", "kind": format!("{}List", resource.name) }],
    })
}

fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let plural = resource.plural;
    let named = resource.kind.namespaced();
    let base = if named { format!("/api/v1/namespaces/{{namespace}}/{plural}") } else { format!("/api/v1/{plural}") };
    paths.insert(base.clone(), collection(resource, named));
    if named {
        // Over all namespaces; a POST goes to the namespace of the body, else `default`.
        paths.insert(format!("/api/v1/{plural}"), collection(resource, false));
    }
    paths.insert(format!("{base}/{{name}}"), item(resource, named));
    if resource.name == "Pod" {
        paths.insert(format!("{base}/{{name}}/log"), log(resource));
        for (sub, kind) in [("exec", "PodExecOptions"), ("attach", "PodAttachOptions")] {
            paths.insert(format!("{base}/{{name}}/{sub}"), stream(resource, kind));
        }
    }
}

/// One operation. kubectl looks for the verb and the kind.
fn operation(resource: &Resource, verb: &str, action: &str, reply: &Value, queries: &[(&str, &str, &str)]) -> Value {
    let parameters: Vec<Value> =
        queries.iter().map(|&(name, kind, about)| parameter(name, "query", kind, about)).collect();
    json!({
        "operationId": format!("{verb}CoreV1{}{}", if action.contains("all") { "All" } else { "" }, resource.name),
        "description": format!("{verb} {}", resource.plural),
        "tags": ["core_v1"],
        "parameters": parameters,
        "responses": {
            "200": { "description": "OK", "content": { "application/json": { "schema": reply } } },
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": "", "version": "v1", "kind": resource.name },
    })
}

fn parameter(name: &str, place: &str, kind: &str, about: &str) -> Value {
    let mut out =
        json!({ "name": name, "in": place, "description": about, "schema": { "type": kind, "uniqueItems": true } });
    if place == "path" {
        out["required"] = true.into();
    }
    out
}

const WRITE: &[(&str, &str, &str)] = &[
    ("dryRun", "string", "All: checks and changes nothing."),
    ("fieldManager", "string", "Who writes; not kept."),
    (
        "fieldValidation",
        "string",
        "What becomes of fields Kubernetes does not know: Strict, Warn or Ignore. Known ones that are not enforced are always refused.",
    ),
];
const LIST: &[(&str, &str, &str)] = &[
    ("labelSelector", "string", "Only objects with these labels."),
    ("fieldSelector", "string", "Only objects with these fields."),
    ("watch", "boolean", "Stream changes."),
    ("resourceVersion", "string", "Where the watch goes on."),
    ("allowWatchBookmarks", "boolean", "Whether the watch may tell how far it is."),
    ("timeoutSeconds", "integer", "When the watch ends."),
];
const DELETE: &[(&str, &str, &str)] = &[
    ("dryRun", "string", "All: checks and changes nothing."),
    ("gracePeriodSeconds", "integer", "Seconds between SIGTERM and SIGKILL."),
    ("propagationPolicy", "string", "Background, Foreground or Orphan: objects own nothing yet."),
];

fn body(types: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> =
        types.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
    json!({ "content": content, "required": true })
}

const BODIES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

fn path_parameters(namespaced: bool, name: bool) -> Vec<Value> {
    let mut out = Vec::new();
    if namespaced {
        out.push(parameter("namespace", "path", "string", "The namespace."));
    }
    if name {
        out.push(parameter("name", "path", "string", "The name."));
    }
    out
}

fn collection(resource: &Resource, namespaced: bool) -> Value {
    let of = reference(&of_kind(resource.kind).full_name());
    let list = reference(&format!("{}List", of_kind(resource.kind).full_name()));
    let mut out = json!({
        "get": operation(resource, "list", "list", &list, LIST),
        "parameters": path_parameters(namespaced, false),
    });
    if resource.verbs.contains(&"create") {
        let mut post = operation(resource, "create", "post", &of, WRITE);
        post["requestBody"] = body(BODIES, &of);
        out["post"] = post;
    }
    out
}

fn item(resource: &Resource, namespaced: bool) -> Value {
    let of = reference(&of_kind(resource.kind).full_name());
    let (mut put, mut patch) =
        (operation(resource, "replace", "put", &of, WRITE), operation(resource, "patch", "patch", &of, WRITE));
    put["requestBody"] = body(BODIES, &of);
    patch["requestBody"] = body(PATCHES, &reference(PATCH));
    let status = reference("io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    let mut delete = operation(resource, "delete", "delete", &status, DELETE);
    let options = reference("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    delete["requestBody"] = json!({ "content": body(BODIES, &options)["content"] });
    let mut out = json!({
        "get": operation(resource, "read", "get", &of, &[]),
        "parameters": path_parameters(namespaced, true),
    });
    for (verb, operation) in [("update", put), ("patch", patch), ("delete", delete)] {
        if resource.verbs.contains(&verb) {
            out[if verb == "update" { "put" } else { verb }] = operation;
        }
    }
    out
}

fn log(resource: &Resource) -> Value {
    let queries = &[
        ("container", "string", "Which container; the only one unless said."),
        ("follow", "boolean", "Wait for more."),
        ("previous", "boolean", "Of the attempt before this one."),
        ("sinceSeconds", "integer", "Only the last seconds."),
        ("tailLines", "integer", "Only the last lines."),
        ("limitBytes", "integer", "Only so many bytes."),
        ("timestamps", "boolean", "With the time of each line."),
    ];
    let mut get = operation(resource, "readLog", "get", &json!({ "type": "string" }), queries);
    get["responses"]["200"]["content"] = json!({ "text/plain": { "schema": { "type": "string" } } });
    json!({ "get": get, "parameters": path_parameters(true, true) })
}

fn stream(resource: &Resource, kind: &str) -> Value {
    let queries = &[
        ("container", "string", "Which container; the only one unless said."),
        ("command", "string", "The program and its arguments, one by one."),
        ("stdin", "boolean", "With its standard input."),
        ("stdout", "boolean", "With its standard output."),
        ("stderr", "boolean", "With its standard error."),
        ("tty", "boolean", "With a terminal."),
    ];
    let one = |verb: &str| {
        let mut out = operation(resource, verb, "connect", &json!({ "type": "string" }), queries);
        out["x-kubernetes-group-version-kind"]["kind"] = kind.into();
        out["operationId"] = format!("{verb}CoreV1{kind}").into();
        out
    };
    json!({ "get": one("connectGet"), "post": one("connectPost"), "parameters": path_parameters(true, true) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kubectl checks before it applies: the PATCH of this kind, with `fieldValidation` and a strategic patch.
    #[test]
    fn kubectl_finds_what_it_needs_to_apply() {
        let document = openapi("/openapi/v3/api/v1").unwrap();
        let paths = document["paths"].as_object().unwrap();
        for resource in resources().iter().filter(|r| r.verbs.contains(&"patch")) {
            let mine = |operation: &&Value| operation["x-kubernetes-group-version-kind"]["kind"] == resource.name;
            let patch = paths.values().map(|path| &path["patch"]).find(mine).unwrap();
            let parameters = patch["parameters"].as_array().unwrap();
            assert!(
                parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"),
                "{}",
                resource.name
            );
            let content = &patch["requestBody"]["content"];
            assert!(content["application/strategic-merge-patch+json"].is_object());
            let kinds = |schema: &&Value| schema["x-kubernetes-group-version-kind"][0]["kind"] == resource.name;
            assert!(document["components"]["schemas"].as_object().unwrap().values().any(|s| kinds(&s)));
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Array(list) => list.iter().for_each(|v| references(v, found)),
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|v| references(v, found));
                }
                _ => {}
            }
        }
        let document = openapi("/openapi/v3/api/v1").unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    /// The index leads to the document, and what is no document is nobody's.
    #[test]
    fn the_index_leads_to_the_document() {
        let index = openapi("/openapi/v3/").unwrap();
        let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(openapi(url.split('?').next().unwrap()).is_some());
        assert_eq!(openapi("/openapi/v2"), None);
    }

    /// The paths say what discovery says: no verb of one is missing in the other.
    #[test]
    fn paths_offer_what_discovery_promises() {
        let document = openapi("/openapi/v3/api/v1").unwrap();
        for resource in resources() {
            let base = if resource.kind.namespaced() { "/api/v1/namespaces/{namespace}" } else { "/api/v1" };
            let collection = &document["paths"][format!("{base}/{}", resource.plural)];
            let item = &document["paths"][format!("{base}/{}/{{name}}", resource.plural)];
            for (verb, operation) in [
                ("create", &collection["post"]),
                ("list", &collection["get"]),
                ("get", &item["get"]),
                ("update", &item["put"]),
                ("patch", &item["patch"]),
                ("delete", &item["delete"]),
            ] {
                assert_eq!(operation.is_object(), resource.verbs.contains(&verb), "{verb} {}", resource.plural);
            }
        }
    }
}
