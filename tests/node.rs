//! Starting, stopping and refusing to start.

mod common;

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use common::{ENTROOS, Node, file, said};

fn node_with(config: &str) -> (tempfile::TempDir, Output) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new("timeout")
        .args(["20", ENTROOS, "node", "--config"])
        .arg(&path)
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    (dir, output)
}

#[test]
fn a_bad_configuration_names_file_line_key_and_cure() {
    let cases: [(&str, &[&str]); 5] = [
        ("[api]\naddr = \"127.0.0.1:0\"\n[log]\nformt = \"json\"\n", &["node.toml", "4", "formt", "format"]),
        ("[log]\nformat = \"xml\"\n", &["node.toml", "2", "format", "text", "json"]),
        ("[api]\naddr = \"0.0.0.0:8080\"\n", &["addr", "TLS", "127.0.0.1"]),
        ("[api]\naddr = 5\n", &["node.toml", "2", "addr"]),
        ("[api\n", &["node.toml", "1"]),
    ];
    for (config, needles) in cases {
        let (_dir, output) = node_with(config);
        assert!(!output.status.success() && output.status.code() != Some(124), "{config} was taken");
        let text = said(&output);
        for needle in needles {
            assert!(text.contains(needle), "{config}: no {needle:?} in: {text}");
        }
    }
    let absent = Command::new(ENTROOS).args(["node", "--config", "/no/such/file.toml"]).output().unwrap();
    assert!(said(&absent).contains("/no/such/file.toml"), "{}", said(&absent));
    let elsewhere = Command::new(ENTROOS)
        .args(["node", "--api", "192.0.2.1:8080", "--data-dir", "/nonexistent/x"])
        .output()
        .unwrap();
    assert!(!elsewhere.status.success() && said(&elsewhere).contains("TLS"), "{}", said(&elsewhere));
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let node = Node::start();
    let second = Command::new("timeout")
        .args(["20", ENTROOS, "node", "--api", "127.0.0.1:0", "--data-dir"])
        .arg(node.dir())
        .output()
        .unwrap();
    assert!(!second.status.success() && second.status.code() != Some(124));
    let text = said(&second);
    assert!(text.contains(&node.pid().to_string()) && text.contains(node.dir().to_str().unwrap()), "{text}");
    assert!(node.ok(&["status"]).contains("not listening"));
}

#[test]
fn sigterm_ends_it_within_five_seconds_with_a_watch_open() {
    let mut node = Node::start();
    let watch = Command::new("curl")
        .args(["-sN", &format!("{}/api/v1/pods?watch=true", node.url)])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(node.stop() < Duration::from_secs(5));
    watch.wait_with_output().unwrap();
    let id = |node: &Node| node.json("/entroos/v1/status")["node"]["id"].clone();
    node.up();
    let first = id(&node);
    assert!(first.is_string(), "{first:#}");
    node.stop();
    node.up();
    assert_eq!(id(&node), first, "the node's identity is kept");
}

#[test]
fn no_web_page_can_drive_it() {
    let node = Node::start();
    let url = "/api/v1/namespaces";
    assert!(node.curl(&[url]).status.success());
    assert!(!node.curl(&[url, "-H", "Host: evil.example"]).status.success());
    assert!(!node.curl(&[url, "-H", "Origin: http://evil.example"]).status.success());
    assert!(!node.curl(&[url, "-H", "Authorization: Bearer wrong"]).status.success());
    assert!(node.curl(&[url, "-H", &format!("Authorization: Bearer {}", node.token)]).status.success());
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        assert!(node.curl(&[path]).status.success(), "{path}");
    }
    let large = file(&node, "large", &"x".repeat(20_000_000));
    let refused =
        node.curl(&[url, "-X", "POST", "-H", "Content-Type: application/json", "--data-binary", &format!("@{large}")]);
    assert!(!refused.status.success());
    assert!(node.curl(&["/readyz"]).status.success());
}

#[test]
fn an_ordinary_user_gets_the_api_and_the_reason() {
    if common::pods_impossible().is_some() {
        println!("SKIPPED: needs root, to become somebody else");
        return;
    }
    let dir = tempfile::Builder::new().prefix("entroos-user-").tempdir().unwrap();
    let program = dir.path().join("entroos");
    fs::copy(ENTROOS, &program).unwrap();
    for path in [dir.path(), &program] {
        assert!(Command::new("chown").arg("65534:65534").arg(path).status().unwrap().success());
    }
    let data = dir.path().join("data");
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(args);
        command.env("ENTROOS_DATA_DIR", &data).env("HOME", dir.path()).env_remove("ENTROOS_SERVER");
        command
    };
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut node = run(&["node", "--api", "127.0.0.1:0"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let ready = common::eventually(common::SOON, || run(&["status"]).output().unwrap().status.success());
    let told = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(ready, "{told}");
    let manifest = dir.path().join("pod.json");
    fs::write(&manifest, common::shell_pod("waits", "true")).unwrap();
    let applied = run(&["pod", "apply", manifest.to_str().unwrap()]).output().unwrap();
    assert!(applied.status.success(), "{}", said(&applied));
    let explained = common::eventually(common::SOON, || {
        let text = said(&run(&["pod", "describe", "waits"]).output().unwrap());
        text.contains("Pending") && text.contains("root")
    });
    let text = said(&run(&["pod", "describe", "waits"]).output().unwrap());
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(explained, "{text}");
}

#[test]
fn logs_are_json_when_asked() {
    let mut node = Node::start_with(&["--log-format", "json"]);
    node.stop();
    let log = node.log();
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with('{')).collect();
    assert!(!lines.is_empty(), "{log}");
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn applets_are_linked_and_answer() {
    let dir = tempfile::tempdir().unwrap();
    let install = || Command::new(ENTROOS).args(["applets", "install"]).arg(dir.path()).output().unwrap();
    assert!(install().status.success());
    assert!(install().status.success(), "a second time is fine");
    for name in ["nko", "mockdocker", "mock_k8", "entropy_router", "morphdb"] {
        let help = Command::new(dir.path().join(name)).arg("--help").output().unwrap();
        assert!(help.status.success() && said(&help).contains(name), "{name}: {}", said(&help));
    }
    fs::remove_file(dir.path().join("nko")).unwrap();
    fs::write(dir.path().join("nko"), "mine").unwrap();
    let refused = install();
    assert!(!refused.status.success() && said(&refused).contains("nko"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(dir.path().join("nko")).unwrap(), "mine");
}
