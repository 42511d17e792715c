//! The main job: lines 1 to 4 of the specification as they are typed.

mod common;

use common::{Node, SOON, eventually, file, said, shell_pod};
use serde_json::Value;

/// Specification, line 3, to the letter.
const MY_FIRST_APP: &str = r#"{"metadata":{"name":"hello-entroos"},"spec":{"containers":[{"name":"hello","image":"alpine:latest","command":["echo","Hello, EntroOS!"]}]}}"#;

fn post_pod(node: &Node, body: &str) -> (bool, Value) {
    let output = node.curl(&["/api/v1/pods", "-X", "POST", "-H", "Content-Type: application/json", "-d", body]);
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

#[test]
fn a_posted_pod_says_hello() {
    require!("curl");
    let node = Node::with_image();
    let (created, pod) = post_pod(&node, MY_FIRST_APP);
    assert!(created, "{pod:#}");
    assert_eq!(pod["kind"], "Pod");
    assert_eq!(pod["metadata"]["namespace"], "default");
    let logs = || String::from_utf8(node.entroos(&["pod", "logs", "hello-entroos"]).stdout).unwrap();
    assert!(eventually(SOON, || logs() == "Hello, EntroOS!\n"), "{}", logs());
    // No restart policy is Kubernetes' Always: it runs again, with a back-off.
    let pod = node.wait_pod("hello-entroos", "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"], "Completed");
}

#[test]
fn the_native_fields_are_enforced_and_kept() {
    require!("curl");
    let node = Node::with_image();
    // Line 4: no image, so the one named like the container is taken.
    node.ok(&["image", "import", common::hello_image().to_str().unwrap(), "--tag", "sensor-reader"]);
    let body = r#"{"metadata":{"name":"line-four"},"spec":{"constraints":{"entropy_score":0.8},"containers":[
        {"name":"alpine","command":["sleep","100"],
         "resource_requirements":{"cpu":0.5,"memory":"256Mi"},"connectivity_requirements":{"bandwidth_min":"10Mbps"}}]}}"#;
    let (created, pod) = post_pod(&node, body);
    assert!(created, "{pod:#}");
    assert_eq!(pod["spec"]["constraints"]["entropy_score"].to_string().trim_matches('"'), "0.8");
    let pod = node.wait_phase("line-four", "Running");
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let limit = common::cgroups_of(uid).iter().find_map(|dir| {
        std::fs::read_to_string(dir.join("memory.limit_in_bytes"))
            .or_else(|_| std::fs::read_to_string(dir.join("memory.max")))
            .ok()
            .filter(|l| l.trim() == "268435456")
    });
    assert!(limit.is_some(), "no cgroup of the pod has its memory limit");
    let explained = node.ok(&["pod", "explain", "line-four"]);
    for term in ["entropy_score", "fit_alignment", "stranded_capacity", "balance", "bandwidth_headroom"] {
        assert!(explained.contains(term), "no {term} in\n{explained}");
    }

    let (created, refusal) = post_pod(
        &node,
        r#"{"metadata":{"name":"x"},"spec":{"constraints":{"entropy_score":1.8},"containers":[{"name":"a"}]}}"#,
    );
    assert!(!created);
    assert_eq!(refusal["code"], 422, "{refusal:#}");
    assert!(refusal["message"].as_str().unwrap().contains("spec.constraints.entropy_score"), "{refusal:#}");
}

#[test]
fn an_image_that_is_not_there_is_explained() {
    require!("curl");
    let node = Node::with_image();
    let (created, _) = post_pod(
        &node,
        r#"{"metadata":{"name":"nameless"},"spec":{"containers":[{"name":"no-such-image-here","imagePullPolicy":"Never"}]}}"#,
    );
    assert!(created);
    let pod = node.wait_pod("nameless", "waiting for its image", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("no-such-image-here"))
    });
    assert_eq!(pod["status"]["phase"], "Pending");
    assert!(eventually(SOON, || node.ok(&["pod", "describe", "nameless"]).contains("entroos image import")));
    // The image comes, and so does the pod.
    node.ok(&["image", "import", common::hello_image().to_str().unwrap(), "--tag", "no-such-image-here"]);
}

#[test]
fn bad_input_is_told_where() {
    require!("curl");
    let node = Node::with_image();
    let cases = [
        (r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"a","imagee":"x"}]}}"#, "imagee"),
        (r#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#, "spec.containers"),
        (r#"{"metadata":{"name":"Not A Name"},"spec":{"containers":[{"name":"a","image":"x"}]}}"#, "metadata.name"),
        (
            r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"x"},{"name":"a","image":"x"}]}}"#,
            "spec.containers[1].name",
        ),
        (
            r#"{"metadata":{"name":"a"},"spec":{"hostPID":true,"containers":[{"name":"a","image":"x"}]}}"#,
            "spec.hostPID",
        ),
        (
            r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"x","resources":{"limits":{"memory":"lots"}}}]}}"#,
            "memory",
        ),
        (r#"{"metadata":{"name":"a"},"spec":{"hostNetwork":true,"containers":[{"name":"a","image":"x"}]}}"#, "token"),
        (r#"{"metadata":{"name":"a""#, "JSON"),
    ];
    for (body, needle) in cases {
        let (created, refusal) = post_pod(&node, body);
        assert!(!created, "{body} was taken");
        assert_eq!(refusal["kind"], "Status", "{body}: {refusal:#}");
        assert!(refusal["message"].as_str().is_some_and(|m| m.contains(needle)), "{body}: {refusal:#}");
    }
    assert_eq!(node.json("/api/v1/pods")["items"].as_array().unwrap().len(), 0);
}

#[test]
fn entroos_pod_drives_the_whole_life() {
    require!();
    let node = Node::with_image();
    let manifest = file(&node, "life.json", &shell_pod("life", "echo out; echo err >&2; sleep 1000"));
    assert!(node.ok(&["pod", "apply", &manifest]).contains("life"));
    node.ok(&["pod", "wait", "life", "--for=condition=Ready", "--timeout", "60s"]);
    assert!(node.ok(&["pod", "list"]).contains("Running"));
    assert!(eventually(SOON, || node.ok(&["pod", "logs", "life"]).contains("err")));
    assert_eq!(node.ok(&["pod", "exec", "life", "--", "echo", "from exec"]), "from exec\n");
    let failed = node.entroos(&["pod", "exec", "life", "--", "sh", "-c", "exit 9"]);
    assert_eq!(failed.status.code(), Some(9), "{}", said(&failed));
    assert!(node.ok(&["pod", "get", "life", "--output", "yaml"]).contains("restartPolicy: Never"));
    assert!(node.ok(&["pod", "describe", "life"]).contains("Started"));
    node.ok(&["pod", "delete", "life", "--grace-period", "0", "--wait"]);
    let gone = node.entroos(&["pod", "get", "life"]);
    assert!(!gone.status.success());
    assert!(said(&gone).contains("not found"), "{}", said(&gone));
    assert!(node.ok(&["status"]).contains("not listening"));
}
