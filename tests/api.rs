//! The API over real sockets and the real ledger on a fresh data directory; no containers run.

use std::time::Duration;

use entroos::api::{Access, Action, table};
use serde_json::{Value, json};

mod api_support;
use api_support::{Node, POD, Via};

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn who_comes_by_which_door() {
    let node = Node::start().await;
    let you = async |via, headers: &[(&str, &str)]| {
        let reply = node.ask(via, "GET", "/entroos/v1/status", headers, "").await;
        (reply.code, reply.json()["you"].as_str().unwrap_or_default().split('@').next().unwrap().to_owned())
    };
    let bearer = format!("Bearer {}", api_support::TOKEN);
    assert_eq!(you(Via::Tcp, &[]).await, (200, "local".into()));
    assert_eq!(you(Via::Unix, &[]).await, (200, "operator".into()), "the node's own user");
    assert_eq!(you(Via::Tcp, &[("authorization", &bearer)]).await, (200, "operator".into()));
    assert_eq!(you(Via::Tcp, &[("authorization", "Bearer nonsense")]).await.0, 401);
    assert_eq!(you(Via::Tcp, &[("host", "evil.example:8080")]).await.0, 403);
    assert_eq!(you(Via::Tcp, &[("origin", "http://evil.example")]).await.0, 403);
    assert_eq!(you(Via::Unix, &[("origin", "http://evil.example")]).await.0, 403);
    let refused = node.ask(Via::Tcp, "GET", "/api", &[("host", "evil.example")], "").await.json();
    assert_eq!((&refused["kind"], &refused["code"]), (&json!("Status"), &json!(403)));
    assert!(refused["message"].as_str().unwrap().contains("http://localhost:"), "{refused}");
    node.stop().await;
}

/// Each row answers under its path and verb, and rows of the operator's refuse everybody else.
#[tokio::test]
async fn the_table_is_what_is_served() {
    let node = Node::start().await;
    let rows = table();
    assert!(rows.len() > 40);
    for row in &rows {
        let path = row.path.replace("{namespace}", "default").replace("{name}", "nobody").replace("{*name}", "nobody");
        // These pull from a registry or answer with a stream; their own tests ask them.
        if matches!(row.action, Action::Pull) {
            continue;
        }
        let path = path.replace("{*rest}", "nothing");
        let reply = node.ask(Via::Tcp, row.method.as_str(), &path, &[], "").await;
        let said = reply.text();
        assert_ne!(reply.code, 405, "{} {path}: {said}", row.method);
        assert!(reply.code < 500 || row.action == Action::NotYet, "{} {path}: {} {said}", row.method, reply.code);
        if row.access == Access::Operator {
            assert_eq!(reply.code, 403, "{} {path}: {said}", row.method);
            assert!(said.contains("run/api.sock"), "the cure is missing: {said}");
        }
        let twin = rows.iter().filter(|r| r.method == row.method && r.path == row.path).count();
        assert_eq!(twin, 1, "{} {path} stands twice", row.method);
    }
    for path in ["/", "/apix", "/api/v1/pod", "/api/v2", "/api/v1/namespaces/default/pods/x/nothing", "/apis/apps/v1"] {
        let reply = node.ask(Via::Unix, "GET", path, &[], "").await;
        assert_eq!((reply.code, &reply.json()["reason"]), (404, &json!("NotFound")), "{path}");
    }
    let reply = node.ask(Via::Unix, "PUT", "/api/v1/pods", &[], "").await;
    assert_eq!((reply.code, &reply.json()["reason"]), (405, &json!("MethodNotAllowed")));
    node.stop().await;
}

#[tokio::test]
async fn a_pod_is_created_changed_and_deleted() {
    let node = Node::start().await;
    let made = node.ask(Via::Tcp, "POST", "/api/v1/pods", &[("content-type", "application/json")], POD).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let made = made.json();
    assert_eq!((&made["kind"], &made["metadata"]["namespace"]), (&json!("Pod"), &json!("default")));
    let twice = node.ask(Via::Tcp, "POST", "/api/v1/namespaces/default/pods", &[], POD).await;
    assert_eq!((twice.code, &twice.json()["reason"]), (409, &json!("AlreadyExists")));

    let path = "/api/v1/namespaces/default/pods/hello-entroos";
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = node.ask(Via::Tcp, "PATCH", path, &merge, r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    assert_eq!((patched.code, &patched.json()["metadata"]["labels"]["a"]), (200, &json!("b")), "{}", patched.text());
    let revision = |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let stale = format!(r#"{{"metadata":{{"labels":{{"a":"c"}},"resourceVersion":"{}"}}}}"#, revision(&made));
    let refused = node.ask(Via::Tcp, "PATCH", path, &merge, &stale).await;
    assert_eq!((refused.code, &refused.json()["reason"]), (409, &json!("Conflict")));
    let refused = node.ask(Via::Tcp, "PUT", path, &[], &made.to_string()).await;
    assert_eq!(refused.code, 409, "a replacement of the old revision: {}", refused.text());

    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let rows = node.ask(Via::Tcp, "GET", "/api/v1/pods?labelSelector=a%3Db", &table, "").await.json();
    assert_eq!((&rows["kind"], &rows["rows"][0]["cells"][0]), (&json!("Table"), &json!("hello-entroos")));
    let empty_list = node.ask(Via::Tcp, "GET", "/api/v1/pods?labelSelector=a%3Dx", &[], "").await.json();
    assert_eq!((&empty_list["kind"], empty_list["items"].as_array().unwrap().len()), (&json!("PodList"), 0));

    let gone = node.ask(Via::Tcp, "DELETE", path, &[], r#"{"gracePeriodSeconds":0}"#).await;
    assert_eq!((gone.code, &gone.json()["kind"]), (200, &json!("Pod")), "{}", gone.text());
    node.stop().await;
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let node = Node::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let post = async |query: &str, content: &str, body: &str| {
        let reply = node.ask(Via::Tcp, "POST", &format!("{pods}{query}"), &[("content-type", content)], body).await;
        (reply.code, reply.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let json = "application/json";
    assert_eq!(post("", json, "").await.0, 400);
    assert_eq!(post("", json, "{").await.0, 400);
    assert_eq!(post("", "image/png", POD).await.0, 415);
    assert_eq!(post("", json, &" ".repeat(api_support::BODY_MAX + 1)).await.0, 413);
    let (code, said) = post("", json, &POD.replace("image", "imagee")).await;
    assert!(code >= 400 && said.contains("imagee"), "{code} {said}");
    let (code, said) = post("?dryrun=All", json, POD).await;
    assert!(code == 400 && said.contains("dryrun"), "{code} {said}");
    let (code, said) = post("?dryRun=Some", json, POD).await;
    assert!(code == 400 && said.contains("dryRun"), "{code} {said}");
    let reply = node.ask(Via::Tcp, "GET", pods, &[("accept", "text/csv")], "").await;
    assert_eq!(reply.code, 406);
    let reply = node.ask(Via::Tcp, "GET", pods, &[], "").await.json();
    assert_eq!(reply["items"].as_array().unwrap().len(), 0, "nothing of that was kept");
    node.stop().await;
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    let node = Node::start().await;
    let before = node.revision();
    let reply = node.ask(Via::Tcp, "POST", "/api/v1/pods?dryRun=All", &[], POD).await;
    assert_eq!((reply.code, &reply.json()["metadata"]["name"]), (201, &json!("hello-entroos")), "{}", reply.text());
    let refused = POD.replace("hello-entroos", "Not A Name");
    assert_eq!(node.ask(Via::Tcp, "POST", "/api/v1/pods?dryRun=All", &[], &refused).await.code, 422);
    let secret = r#"{"metadata":{"name":"s"},"stringData":{"k":"v"}}"#;
    let reply = node.ask(Via::Unix, "POST", "/api/v1/namespaces/default/secrets?dryRun=All", &[], secret).await;
    assert_eq!(reply.code, 201, "{}", reply.text());
    assert_eq!(node.revision(), before);
    node.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_and_sees_objects_come_into_its_selection() {
    let node = Node::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let make = async |name: &str, label: &str| {
        let body = json!({"metadata": {"name": name, "labels": {"tier": label}}});
        let reply = node.ask(Via::Tcp, "POST", maps, &[], &body.to_string()).await;
        assert_eq!(reply.code, 201, "{}", reply.text());
        reply.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let first = make("one", "web").await;
    let mut all = node.stream(&format!("{maps}?watch=true")).await;
    assert_eq!(all.event().await, ("ADDED".into(), "one".into()));
    make("two", "db").await;
    assert_eq!(all.event().await, ("ADDED".into(), "two".into()));

    let mut resumed = node.stream(&format!("{maps}?watch=1&resourceVersion={first}")).await;
    assert_eq!(resumed.event().await, ("ADDED".into(), "two".into()), "`one` was known already");

    let mut web = node.stream(&format!("{maps}?watch=1&labelSelector=tier%3Dweb&resourceVersion={first}")).await;
    let mut named = node.stream(&format!("{maps}?watch=1&fieldSelector=metadata.name%3Dtwo")).await;
    assert_eq!(named.event().await, ("ADDED".into(), "two".into()));
    let label = async |name: &str, label: &str| {
        let body = json!({"metadata": {"labels": {"tier": label}}}).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        assert_eq!(node.ask(Via::Tcp, "PATCH", &format!("{maps}/{name}"), &headers, &body).await.code, 200);
    };
    label("two", "web").await;
    assert_eq!(web.event().await, ("ADDED".into(), "two".into()));
    assert_eq!(named.event().await, ("MODIFIED".into(), "two".into()));
    label("two", "db").await;
    assert_eq!(web.event().await, ("DELETED".into(), "two".into()));
    let gone = node.ask(Via::Tcp, "DELETE", &format!("{maps}/one"), &[], "").await;
    assert_eq!((gone.code, &gone.json()["status"]), (200, &json!("Success")));
    assert_eq!(web.event().await, ("DELETED".into(), "one".into()));

    let mut lost = node.stream(&format!("{maps}?watch=1&resourceVersion=999999")).await;
    let line = lost.line().await.unwrap();
    assert_eq!((&line["type"], &line["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(lost.line().await.is_none(), "the stream ends there");

    let initial = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut listing = node.stream(&format!("{maps}?{initial}&timeoutSeconds=1")).await;
    assert_eq!(listing.event().await, ("ADDED".into(), "two".into()));
    let mark = listing.line().await.unwrap();
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(listing.line().await.unwrap()["type"], "BOOKMARK", "before it ends in time");
    assert!(listing.line().await.is_none());
    node.stop().await;
}

#[tokio::test]
async fn a_watch_can_be_a_table() {
    let node = Node::start().await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut rows = node.stream_with(Via::Tcp, "/api/v1/pods?watch=true", &table).await;
    assert_eq!(node.ask(Via::Tcp, "POST", "/api/v1/pods", &[], POD).await.code, 201);
    let line = rows.line().await.unwrap();
    assert_eq!((&line["type"], &line["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(line["object"]["rows"][0]["cells"][0], "hello-entroos");
    assert!(!line["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn secrets_are_sealed_and_shown_to_the_operator_alone() {
    let node = Node::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let body = r#"{"metadata":{"name":"key"},"stringData":{"password":"correct-horse-battery"}}"#;
    let made = node.ask(Via::Tcp, "POST", secrets, &[], body).await;
    assert_eq!(made.code, 201, "{}", made.text());
    assert!(made.json()["data"]["password"].is_null(), "{}", made.text());
    assert!(made.headers["warning"].to_str().unwrap().contains("api.sock"));
    for path in [secrets.to_owned(), format!("{secrets}/key"), format!("{secrets}?watch=1&timeoutSeconds=1")] {
        let shown = node.ask(Via::Tcp, "GET", &path, &[], "").await.text();
        assert!(shown.contains("\"key\"") && !shown.contains("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"), "{path}: {shown}");
        let shown = node.ask(Via::Unix, "GET", &path, &[], "").await.text();
        assert!(shown.contains("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"), "{path}: {shown}");
    }
    // A guest may label it, which keeps the values, but not look at them through a patch.
    let path = format!("{secrets}/key");
    let merge = [("content-type", "application/merge-patch+json")];
    let labelled = node.ask(Via::Tcp, "PATCH", &path, &merge, r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    assert_eq!(labelled.code, 200, "{}", labelled.text());
    let copy = r#"[{"op":"copy","from":"/data/password","path":"/metadata/labels/p"}]"#;
    let copied = node.ask(Via::Tcp, "PATCH", &path, &[("content-type", "application/json-patch+json")], copy).await;
    assert_eq!(copied.code, 403);
    let kept = node.ask(Via::Unix, "GET", &path, &[], "").await.json();
    assert_eq!(kept["data"]["password"], "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5");
    assert_eq!(kept["metadata"]["labels"]["a"], "b");

    let generated = r#"{"metadata":{"generateName":"gen-"},"stringData":{"a":"b"}}"#;
    let made = node.ask(Via::Unix, "POST", secrets, &[], generated).await.json();
    assert_eq!(made["data"]["a"], "Yg==", "{made}");

    let dir = node.stop().await;
    for needle in ["correct-horse-battery", "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"] {
        assert_eq!(api_support::files_with(dir.path(), needle.as_bytes()), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test]
async fn watches_and_connections_have_limits() {
    let node = Node::start().await;
    let path = "/api/v1/pods?watch=true";
    let mut held = Vec::new();
    for _ in 0..api_support::WATCHES_MAX {
        held.push(node.stream(path).await);
    }
    let refused = node.ask(Via::Tcp, "GET", path, &[], "").await;
    assert_eq!((refused.code, refused.headers.contains_key("retry-after")), (429, true));
    assert_eq!(node.ask(Via::Tcp, "GET", "/api/v1/pods", &[], "").await.code, 200, "other requests go on");
    // The operator has places of his own.
    held.push(node.stream_with(Via::Unix, path, &[]).await);
    drop(held);
    tokio::time::timeout(WAIT, async {
        while node.ask(Via::Tcp, "GET", &format!("{path}&timeoutSeconds=1"), &[], "").await.code != 200 {}
    })
    .await
    .expect("places come free");

    let mut idle = Vec::new();
    for _ in 0..=api_support::CONNECTIONS_MAX {
        idle.push(tokio::net::TcpStream::connect(node.address).await.unwrap());
    }
    let turned_away = tokio::time::timeout(WAIT, async {
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(idle.last_mut().unwrap(), &mut text).await.unwrap();
        text
    });
    assert!(turned_away.await.unwrap().starts_with("HTTP/1.1 503"));
    assert_eq!(node.ask(Via::Unix, "GET", "/healthz", &[], "").await.code, 200, "the operator still comes in");
    node.stop().await;
}

#[tokio::test]
async fn an_open_watch_does_not_hold_up_the_end() {
    let node = Node::start().await;
    let mut watch = node.stream("/api/v1/pods?watch=true").await;
    let _dir = tokio::time::timeout(Duration::from_secs(5), node.stop()).await.expect("stopped in time");
    assert!(watch.line().await.is_none(), "ended, not broken off");
}

#[tokio::test]
async fn a_hidden_pod_shows_nothing_to_guests() {
    let node = Node::start().await;
    let pod = r#"{"metadata":{"name":"net"},"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(node.ask(Via::Tcp, "POST", "/api/v1/pods", &[], pod).await.code, 403);
    let made = node.ask(Via::Unix, "POST", "/api/v1/pods", &[], pod).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let path = "/api/v1/namespaces/default/pods/net";
    for (method, tail) in [("GET", "/log"), ("GET", "/exec?command=sh&stdout=1"), ("POST", "/exec?command=sh&stdout=1")]
    {
        let refused = node.ask(Via::Tcp, method, &format!("{path}{tail}"), &[], "").await;
        assert!(refused.code == 403 && refused.text().contains("api.sock"), "{tail}: {}", refused.text());
    }
    assert_eq!(node.ask(Via::Tcp, "DELETE", path, &[], "").await.code, 403);
    // The operator is let in, and learns that it has not been started.
    let early = node.ask(Via::Unix, "GET", &format!("{path}/log"), &[], "").await;
    assert!(early.code == 400 && early.text().contains("waiting to start"), "{}", early.text());
    let wrong = node.ask(Via::Unix, "GET", &format!("{path}/log?container=x"), &[], "").await;
    assert!(wrong.code == 400 && wrong.text().contains("[c]"), "{}", wrong.text());
    node.stop().await;
}

#[tokio::test]
async fn the_native_documents() {
    let node = Node::start().await;
    // kubectl asks for the document under the hash that the index names.
    let index = node.ask(Via::Tcp, "GET", "/openapi/v3?timeout=32s", &[], "").await.json();
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(node.ask(Via::Tcp, "GET", &format!("{url}&timeout=32s"), &[], "").await.code, 200, "{url}");
    for path in ["/healthz", "/readyz?verbose", "/livez"] {
        assert_eq!(node.ask(Via::Tcp, "GET", path, &[], "").await.text(), "ok");
    }
    let status = node.ask(Via::Tcp, "GET", "/entroos/v1/status", &[], "").await.json();
    assert_eq!((&status["runtime"]["ready"], &status["pods"]["Running"]), (&json!(false), &json!(0)));
    assert_eq!(status["runtime"]["problem"], "there is no runtime in this test");
    let page = node.ask(Via::Tcp, "GET", "/metrics", &[], "").await.text();
    assert!(page.contains("entroos_http_requests_total{method=\"GET\",route=\"/healthz\",code=\"200\"} 1"), "{page}");
    assert!(page.contains("process_cpu_seconds_total"));
    node.ask(Via::Tcp, "POST", "/api/v1/pods", &[], POD).await;
    let explained = node.ask(Via::Tcp, "GET", "/entroos/v1/pods/default/hello-entroos/explain", &[], "").await;
    assert_eq!((explained.code, &explained.json()["name"]), (200, &json!("hello-entroos")));
    let images = node.ask(Via::Tcp, "GET", "/entroos/v1/images", &[], "").await.json();
    assert_eq!(images["images"], json!([]));
    let empty = node.ask(Via::Unix, "POST", "/entroos/v1/images/import", &[], "").await;
    assert!(empty.code == 400 && empty.text().contains("empty"), "{}", empty.text());
    let junk = node.ask(Via::Unix, "POST", "/entroos/v1/images/import?tag=x:1", &[], "not a tar").await;
    assert!(junk.code >= 400, "{}", junk.text());
    assert_eq!(std::fs::read_dir(node.dir.path().join("uploads")).unwrap().count(), 0, "no upload is left");
    node.stop().await;
}

/// A followed log goes on over restarts and ends when the container has ended for good.
#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    let node = Node::start().await;
    let pod = node.assigned_pod("talker", "OnFailure").await;
    let why = node.ask(Via::Tcp, "GET", "/entroos/v1/pods/default/talker/explain", &[], "").await.json();
    assert_eq!(why["placement"]["node"], "test");
    assert!(!why["placement"]["candidates"][0]["terms"].as_array().unwrap().is_empty(), "{why}");
    let path = "/api/v1/namespaces/default/pods/talker/log";
    let early = node.ask(Via::Tcp, "GET", path, &[], "").await;
    assert!(early.code == 400 && early.text().contains("waiting to start"), "{}", early.text());
    let mut followed = node.stream(&format!("{path}?follow=true")).await;

    pod.write(0, &["one"]);
    pod.report(0, None).await;
    assert_eq!(followed.text_line().await.as_deref(), Some("one"));
    pod.write(0, &["two"]);
    assert_eq!(followed.text_line().await.as_deref(), Some("two"));
    pod.report(0, Some(1)).await;
    pod.write(1, &["three", "four"]);
    pod.report(1, None).await;
    assert_eq!(followed.text_line().await.as_deref(), Some("three"));
    assert_eq!(followed.text_line().await.as_deref(), Some("four"));
    pod.report(1, Some(0)).await;
    assert_eq!(followed.text_line().await, None);

    let read = async |query: &str| node.ask(Via::Tcp, "GET", &format!("{path}?{query}"), &[], "").await.text();
    assert_eq!(read("").await, "three\nfour\n");
    assert_eq!(read("tailLines=1").await, "four\n");
    assert_eq!(read("previous=true").await, "one\ntwo\n");
    assert_eq!(read("limitBytes=7").await, "three\nf");
    assert!(read("timestamps=true").await.starts_with("2026-01-01T00:00:00"));
    assert!(read("sinceSeconds=0").await.contains("sinceSeconds"));
    node.stop().await;
}
