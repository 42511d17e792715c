//! What kubectl asks first: who are you, and what do you serve?

use serde_json::{Value, json};

use super::resource::{Resource, resources};

/// The Kubernetes whose surface this is: kubectl warns where the two are more than one minor version apart.
const MAJOR: &str = "1";
const MINOR: &str = "33";

/// `/version`.
pub fn version(version: &str) -> Value {
    json!({
        "major": MAJOR, "minor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+entroos-{version}"),
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`, `/apis`, `/api/v1` …: the document at this path, where it is a discovery document.
pub fn discovery(path: &str) -> Option<Value> {
    match path.trim_end_matches('/') {
        "/api" => Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })),
        "/apis" => Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] })),
        "/api/v1" => Some(json!({
            "kind": "APIResourceList", "groupVersion": "v1",
            "resources": resources().iter().flat_map(rows).collect::<Vec<_>>(),
        })),
        _ => None,
    }
}

fn rows(resource: &Resource) -> Vec<Value> {
    let row = |suffix: &str, kind: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}{suffix}", resource.plural), "kind": kind,
            "singularName": if suffix.is_empty() { resource.singular } else { "" },
            "namespaced": resource.kind.namespaced(), "verbs": verbs,
        })
    };
    let mut main = row("", resource.name, resource.verbs);
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if resource.name == "Pod" {
        // `kubectl get all`.
        main["categories"] = json!(["all"]);
        return vec![
            main,
            row("/attach", "PodAttachOptions", &["create", "get"]),
            row("/exec", "PodExecOptions", &["create", "get"]),
            row("/log", "Pod", &["get"]),
            row("/status", "Pod", &["get"]),
        ];
    }
    vec![main]
}
