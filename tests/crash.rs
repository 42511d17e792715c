//! kill -9 at any moment: nothing acknowledged is lost, nothing runs twice, nothing is orphaned.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use common::{Node, SOON, eventually, shell_pod};
use serde_json::Value;

fn names(node: &Node, path: &str) -> BTreeSet<String> {
    let list = node.json(path);
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_string())
        .collect()
}

/// Writers note each acknowledged object; the node is killed again and again; every one noted is there.
#[test]
fn no_acknowledged_object_is_lost() {
    require!("curl");
    let mut node = Node::start();
    let acknowledged = Mutex::new(BTreeSet::new());
    let counter = AtomicU32::new(0);
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || start.elapsed() < common::budget() {
        rounds += 1;
        let stop = AtomicBool::new(false);
        let url = node.url.clone();
        let before = acknowledged.lock().unwrap().len();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("c{}", counter.fetch_add(1, Ordering::Relaxed));
                        let body = format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"k":"{name}"}}}}"#);
                        let output = Command::new("curl")
                            .args([
                                "-sf",
                                "--max-time",
                                "5",
                                "-X",
                                "POST",
                                "-H",
                                "Content-Type: application/json",
                                "-d",
                                &body,
                            ])
                            .arg(format!("{url}/api/v1/namespaces/default/configmaps"))
                            .output()
                            .unwrap();
                        if output.status.success() {
                            acknowledged.lock().unwrap().insert(name);
                        }
                    }
                });
            }
            let enough = || acknowledged.lock().unwrap().len() >= before + 20 + 7 * rounds as usize;
            assert!(eventually(SOON, enough), "writers make no progress\n{}", node.log());
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
        node.up();
        let there = names(&node, "/api/v1/namespaces/default/configmaps");
        let acknowledged = acknowledged.lock().unwrap();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {rounds}: acknowledged and lost: {lost:?}");
    }
    println!("{rounds} kills, {} objects acknowledged, none lost", acknowledged.lock().unwrap().len());
}

/// Pods are created while the node dies at random moments; in the end each container ran exactly once.
#[test]
fn nothing_starts_twice_and_nothing_is_orphaned() {
    require!("curl");
    let mut node = Node::with_image();
    let mut made = 0;
    let mut random = 0x9e37_79b9_u64;
    for round in 0..4 {
        for _ in 0..5 {
            let name = format!("once-{made}");
            node.apply_json(&shell_pod(&name, &format!("echo start {name}; sleep 0.2; echo end {name}")));
            made += 1;
        }
        // A moment that differs from round to round, between nothing and all of them started.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        std::thread::sleep(std::time::Duration::from_millis(random >> 56));
        node.kill();
        node.up();
    }
    for i in 0..made {
        let name = format!("once-{i}");
        let pod = node.wait_phase(&name, "Succeeded");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
        assert_eq!(node.ok(&["pod", "logs", &name]), format!("start {name}\nend {name}\n"));
    }
    let uids: Vec<String> =
        (0..made).map(|i| node.pod(&format!("once-{i}"))["metadata"]["uid"].as_str().unwrap().to_string()).collect();
    let left = || uids.iter().flat_map(|uid| common::cgroups_of(uid)).collect::<Vec<_>>();
    assert!(eventually(SOON, || left().is_empty()), "cgroups of ended pods are left: {:?}", left());
}

#[test]
fn what_happens_while_the_node_is_down_is_there_afterwards() {
    require!();
    let mut node = Node::with_image();
    let gate = node.dir().join("gate");
    // The containers go on by themselves; the node is dead when they print and exit.
    node.apply_json(&shell_pod("lonely", "echo before; sleep 2; echo after; exit 42"));
    node.apply_json(&shell_pod("steady", "echo $$; sleep 1000"));
    node.wait_phase("steady", "Running");
    node.wait_phase("lonely", "Running");
    assert!(eventually(SOON, || node.ok(&["pod", "logs", "lonely"]) == "before\n"));
    let started = node.pod("steady")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
    node.kill();
    fs::write(&gate, "").unwrap();
    let uid_dir = fs::read_dir(node.dir().join("logs"))
        .unwrap()
        .flatten()
        .find(|e| e.file_name().to_string_lossy().contains("lonely"))
        .unwrap();
    let log = uid_dir.path().join("c/0.log");
    assert!(eventually(SOON, || fs::read_to_string(&log).is_ok_and(|text| text.contains("after"))));
    node.up();
    let pod = node.wait_phase("lonely", "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 42);
    assert_eq!(node.ok(&["pod", "logs", "lonely"]), "before\nafter\n");
    let steady = node.wait_phase("steady", "Running");
    assert_eq!(steady["status"]["containerStatuses"][0]["state"]["running"]["startedAt"], started);
    assert_eq!(node.ok(&["pod", "exec", "steady", "--", "echo", "still"]), "still\n");
}

#[test]
fn a_pod_deleted_while_the_node_is_down_or_dying_goes() {
    require!();
    let mut node = Node::with_image();
    node.apply_json(&shell_pod("doomed", "sleep 1000"));
    let uid = node.wait_phase("doomed", "Running")["metadata"]["uid"].as_str().unwrap().to_string();
    node.ok(&["pod", "delete", "doomed", "--grace-period", "1"]);
    node.kill();
    node.up();
    assert!(eventually(SOON, || !node.entroos(&["pod", "get", "doomed"]).status.success()));
    assert!(eventually(SOON, || common::cgroups_of(&uid).is_empty()));
}

#[test]
fn a_killed_shim_is_seen_and_its_containers_go_with_it() {
    require!();
    let node = Node::with_image();
    let manifest = shell_pod("hurt", "echo up; exec sleep 1000")
        .replace("\"restartPolicy\":\"Never\"", "\"restartPolicy\":\"Always\"");
    node.apply_json(&manifest);
    let uid = node.wait_phase("hurt", "Running")["metadata"]["uid"].as_str().unwrap().to_string();
    let shim: Value =
        serde_json::from_str(&fs::read_to_string(node.dir().join("pods").join(&uid).join("shim.json")).unwrap())
            .unwrap();
    common::signal(u32::try_from(shim["pid"].as_u64().unwrap()).unwrap(), "KILL");
    let pod = node.wait_pod("hurt", "restarted once", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    let sleeping = common::cgroups_of(&uid)
        .iter()
        .flat_map(|dir| {
            fs::read_to_string(dir.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .map(str::to_string)
                .collect::<Vec<_>>()
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep"))
        .count();
    assert_eq!(sleeping, 1, "the first attempt's process is still there");
}

/// Before each acknowledgement the kernel is told to sync: counted from outside.
#[test]
fn every_acknowledgement_has_its_sync() {
    require!("strace", "curl");
    let node = Node::start();
    let trace = node.dir().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs", "-o"])
        .arg(&trace)
        .args(["-p", &node.pid().to_string()])
        .spawn()
        .unwrap();
    assert!(eventually(SOON, || {
        fs::read_to_string(format!("/proc/{}/status", node.pid()))
            .unwrap()
            .lines()
            .any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
    }));
    let count = || fs::read_to_string(&trace).unwrap_or_default().lines().filter(|line| line.contains("sync(")).count();
    for i in 0..10 {
        let before = count();
        let body = format!(r#"{{"metadata":{{"name":"s{i}"}}}}"#);
        let output = node.curl(&[
            "/api/v1/namespaces/default/configmaps",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
        ]);
        assert!(output.status.success());
        // strace writes its line when the call returns, which is before the answer could leave.
        assert!(eventually(SOON, || count() > before), "acknowledgement {i} without a sync");
    }
    let syncs = count();
    // The control: what only reads syncs nothing.
    node.json("/api/v1/namespaces/default/configmaps");
    assert_eq!(count(), syncs);
    common::signal(strace.id(), "INT");
    strace.wait().unwrap();
}
