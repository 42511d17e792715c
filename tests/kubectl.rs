//! Stock kubectl against a node: every verb the README promises.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Node, SOON, eventually, said, shell_pod};

#[test]
fn discovery_and_lists() {
    require!("kubectl");
    let node = Node::with_image();
    assert!(node.kubectl_ok(&["version"]).contains("Server Version"));
    let resources = node.kubectl_ok(&["api-resources"]);
    for line in ["pods", "nodes", "namespaces", "configmaps", "secrets", "events"] {
        assert!(resources.contains(line), "{resources}");
    }
    let nodes = node.kubectl_ok(&["get", "nodes", "-o", "wide"]);
    assert!(nodes.contains("Ready") && nodes.contains("INTERNAL-IP"), "{nodes}");
    node.apply(&shell_pod("one", "sleep 1000"));
    node.kubectl_ok(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]);
    let wide = node.kubectl_ok(&["get", "pods", "-o", "wide", "-A"]);
    assert!(wide.contains("NAMESPACE") && wide.contains("1/1") && wide.contains("NODE"), "{wide}");
    assert_eq!(node.kubectl_ok(&["get", "pod", "one", "-o", "name"]), "pod/one\n");
    assert!(node.kubectl_ok(&["get", "pod", "one", "-o", "yaml"]).contains("phase: Running"));
    assert_eq!(node.kubectl_ok(&["get", "po", "one", "-o", "jsonpath={.status.phase}"]), "Running");
    assert!(node.kubectl_ok(&["describe", "pod", "one"]).contains("Started"));
    assert!(node.kubectl_ok(&["describe", "node"]).contains("Allocatable"));
    assert!(eventually(SOON, || node.kubectl_ok(&["get", "events"]).contains("Scheduled")));
    let missing = node.kubectl(&["get", "pod", "nobody"]);
    assert!(said(&missing).contains("NotFound"), "{}", said(&missing));
}

#[test]
fn labels_annotations_and_selectors() {
    require!("kubectl");
    let node = Node::with_image();
    node.apply(&shell_pod("a", "sleep 1000"));
    node.apply(&shell_pod("b", "sleep 1000"));
    node.kubectl_ok(&["label", "pod", "a", "tier=front"]);
    node.kubectl_ok(&["annotate", "pod", "a", "note=hello there"]);
    let front = node.kubectl_ok(&["get", "pods", "-l", "tier=front", "-o", "name"]);
    assert_eq!(front, "pod/a\n");
    assert_eq!(node.kubectl_ok(&["get", "pods", "-l", "tier notin (front)", "-o", "name"]), "pod/b\n");
    let overwrite = node.kubectl(&["label", "pod", "a", "tier=back"]);
    assert!(!overwrite.status.success());
    node.kubectl_ok(&["label", "pod", "a", "tier=back", "--overwrite"]);
    node.kubectl_ok(&["label", "pod", "a", "tier-"]);
    assert_eq!(node.kubectl_ok(&["get", "pods", "-l", "tier", "-o", "name"]), "");
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"p":"merge"}}}"#),
        ("json", r#"[{"op":"replace","path":"/metadata/labels/p","value":"json"}]"#),
        ("strategic", r#"{"metadata":{"labels":{"p":"strategic"}}}"#),
    ] {
        node.kubectl_ok(&["patch", "pod", "a", "--type", kind, "-p", patch]);
        assert_eq!(node.kubectl_ok(&["get", "pod", "a", "-o", "jsonpath={.metadata.labels.p}"]), kind);
    }
}

#[test]
fn apply_again_create_and_conflict() {
    require!("kubectl");
    let node = Node::with_image();
    assert!(node.apply(&shell_pod("x", "sleep 1000")).contains("created"));
    assert!(node.apply(&shell_pod("x", "sleep 1000")).contains("unchanged"));
    let labelled = shell_pod("x", "sleep 1000").replace(r#""name":"x""#, r#""name":"x","labels":{"v":"2"}"#);
    assert!(node.apply(&labelled).contains("configured"));
    let again = node.kubectl_with(&["create", "-f", "-"], &shell_pod("x", "true"));
    assert!(said(&again).contains("AlreadyExists"), "{}", said(&again));
    let unknown =
        node.kubectl_with(&["apply", "-f", "-"], &shell_pod("y", "true").replace("restartPolicy", "restartPolice"));
    assert!(said(&unknown).contains("restartPolice"), "{}", said(&unknown));
    // A write against a version that is no longer the newest.
    let mut old = node.pod("x");
    node.kubectl_ok(&["label", "pod", "x", "moved=on"]);
    old["metadata"]["labels"] = serde_json::json!({"lost": "update"});
    let stale = node.kubectl_with(&["replace", "-f", "-"], &old.to_string());
    assert!(said(&stale).contains("Conflict"), "{}", said(&stale));
    assert_eq!(node.pod("x")["metadata"]["labels"]["moved"], "on");

    node.kubectl_ok(&["create", "namespace", "team"]);
    node.kubectl_ok(&["-n", "team", "create", "configmap", "settings", "--from-literal=color=blue"]);
    assert!(node.kubectl_ok(&["-n", "team", "get", "configmap"]).contains("settings"));
    node.kubectl_ok(&["delete", "namespace", "team"]);
    assert!(!node.kubectl(&["get", "namespace", "team"]).status.success());
}

#[test]
fn logs_follow_and_end_with_the_container() {
    require!("kubectl");
    let node = Node::with_image();
    node.apply(&shell_pod("ticker", "for i in 1 2 3; do echo line $i; sleep 0.3; done; exit 3"));
    assert!(eventually(SOON, || node.kubectl(&["logs", "ticker"]).status.success()));
    assert_eq!(node.kubectl_ok(&["logs", "-f", "ticker"]), "line 1\nline 2\nline 3\n");
    assert_eq!(node.kubectl_ok(&["logs", "ticker", "--tail=1"]), "line 3\n");
    assert!(node.kubectl_ok(&["logs", "ticker", "--timestamps"]).starts_with("20"));
    let pod = node.wait_phase("ticker", "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert!(node.kubectl_ok(&["get", "pods"]).contains("Error"));
}

#[test]
fn exec_with_pipes_and_with_a_terminal() {
    require!("kubectl");
    let node = Node::with_image();
    node.apply(&shell_pod("box", "sleep 1000"));
    node.kubectl_ok(&["wait", "--for=condition=Ready", "pod/box", "--timeout=60s"]);
    assert_eq!(node.kubectl_ok(&["exec", "box", "--", "sh", "-c", "echo out; echo err >&2"]), "out\n");
    let echoed = node.kubectl_with(&["exec", "-i", "box", "--", "sh", "-c", "cat; exit 5"], "through stdin");
    assert_eq!(String::from_utf8_lossy(&echoed.stdout), "through stdin");
    assert!(said(&echoed).contains("exit code 5"), "{}", said(&echoed));
    let missing = node.kubectl(&["exec", "box", "--", "no-such-program"]);
    assert!(!missing.status.success());
    assert!(said(&missing).contains("no-such-program"), "{}", said(&missing));
    // A real terminal: `script` gives kubectl one, and the program in the container sees one too.
    if common::on_path("script") {
        let command = format!(
            "kubectl --server {} exec -it box -- sh -c 'test -t 0 && test -t 1 && echo is-a-terminal; stty size'",
            node.url
        );
        let output = Command::new("script")
            .args(["-qec", &format!("stty rows 33 cols 101; {command}"), "/dev/null"])
            .env("KUBECONFIG", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = said(&output);
        assert!(text.contains("is-a-terminal") && text.contains("33 101"), "{text}");
    } else {
        println!("SKIPPED: the terminal part needs script (util-linux)");
    }
}

#[test]
fn watches_see_a_pod_come_and_go() {
    require!("kubectl");
    let node = Node::with_image();
    let mut watch = Command::new("kubectl")
        .args(["--server", &node.url, "get", "pods", "-w", "--output-watch-events"])
        .env("KUBECONFIG", "/nonexistent")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    node.apply(&shell_pod("seen", "sleep 1000"));
    node.kubectl_ok(&["wait", "--for=condition=Ready", "pod/seen", "--timeout=60s"]);
    node.kubectl_ok(&["delete", "pod", "seen"]);
    let mut seen = String::new();
    while !seen.contains("DELETED") {
        let line = receiver.recv_timeout(SOON).unwrap_or_else(|e| panic!("{e}: the watch showed only:\n{seen}"));
        seen.push_str(&line);
        seen.push('\n');
    }
    assert!(seen.contains("ADDED") && seen.contains("MODIFIED") && seen.contains("Running"), "{seen}");
    watch.kill().unwrap();
    watch.wait().unwrap();
    drop(receiver);
    reader.join().unwrap();
}

#[test]
fn delete_waits_for_the_grace() {
    require!("kubectl");
    let node = Node::with_image();
    // Says goodbye at SIGTERM; the log is read while it ends.
    node.apply(
        &shell_pod("polite", "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done")
            .replace("\"terminationGracePeriodSeconds\":1", "\"terminationGracePeriodSeconds\":20"),
    );
    node.kubectl_ok(&["wait", "--for=condition=Ready", "pod/polite", "--timeout=60s"]);
    assert!(eventually(SOON, || node.kubectl_ok(&["logs", "polite"]).contains("up")));
    let follow = Command::new("kubectl")
        .args(["--server", &node.url, "logs", "-f", "polite"])
        .env("KUBECONFIG", "/nonexistent")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    node.kubectl_ok(&["delete", "pod", "polite"]);
    assert!(start.elapsed().as_secs() < 15, "the grace was waited out although the pod ended");
    assert!(String::from_utf8_lossy(&follow.wait_with_output().unwrap().stdout).contains("bye"));
    // Ignores SIGTERM: killed when the grace is over.
    node.apply(&shell_pod("stubborn", "trap '' TERM; while true; do sleep 0.1; done"));
    node.kubectl_ok(&["wait", "--for=condition=Ready", "pod/stubborn", "--timeout=60s"]);
    node.kubectl_ok(&["delete", "pod", "stubborn", "--grace-period=1"]);
    assert!(said(&node.kubectl(&["get", "pods"])).contains("No resources found"));
}
