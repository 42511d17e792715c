//! 200 pods come and go, and the machine is as it was.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Node, SOON, eventually, shell_pod};

const PODS: usize = 200;

/// What could be left behind, of this node: its processes, mounts, cgroups, directories, and network namespaces.
fn remains(node: &Node, uids: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) || name == node.pid().to_string() {
            continue;
        }
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if uids.iter().any(|uid| cgroup.contains(uid.as_str())) {
            found.push(format!("process {name}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = node.dir().to_str().unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(dir)).map(|line| format!("mount {line}")));
    let all = common::cgroups_of("entroos");
    found.extend(
        all.iter()
            .filter(|path| uids.iter().any(|uid| path.to_string_lossy().contains(uid.as_str())))
            .map(|p| format!("cgroup {}", p.display())),
    );
    for sub in ["pods", "logs"] {
        found.extend(
            fs::read_dir(node.dir().join(sub))
                .unwrap()
                .flatten()
                .map(|e| format!("{sub}/{}", e.file_name().to_string_lossy())),
        );
    }
    found
}

fn network_namespaces() -> BTreeSet<String> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|pid| fs::read_link(pid.path().join("ns/net")).ok())
        .map(|ns| ns.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn two_hundred_pods_leave_nothing() {
    require!("curl");
    let node = Node::with_image();
    let before = network_namespaces();
    let mut uids = Vec::new();
    for i in 0..PODS {
        // A quarter runs until it is deleted.
        let command = if i % 4 == 0 { "sleep 1000" } else { "echo done" };
        node.apply_json(&shell_pod(&format!("p{i}"), command));
    }
    let settled = eventually(SOON * 4, || {
        let pods = node.json("/api/v1/namespaces/default/pods");
        let phases: Vec<_> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["status"]["phase"].as_str().unwrap().to_string())
            .collect();
        phases.iter().filter(|phase| *phase == "Succeeded").count() == PODS - PODS / 4
            && phases.iter().filter(|phase| *phase == "Running").count() == PODS / 4
    });
    let pods = node.json("/api/v1/namespaces/default/pods");
    let odd: Vec<_> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["status"]["phase"] == "Pending" || p["status"]["phase"] == "Failed")
        .map(|p| p["status"].to_string())
        .take(3)
        .collect();
    assert!(settled, "not all pods came to run: {odd:#?}\n{}", node.log());
    for pod in pods["items"].as_array().unwrap() {
        uids.push(pod["metadata"]["uid"].as_str().unwrap().to_string());
    }
    // The check can fail: now there is much.
    assert!(remains(&node, &uids).len() > PODS / 4);
    let all: Vec<String> = (0..PODS).map(|i| format!("p{i}")).collect();
    for chunk in all.chunks(50) {
        let mut args = vec!["pod", "delete", "--grace-period", "0"];
        args.extend(chunk.iter().map(String::as_str));
        node.ok(&args);
    }
    let empty = || node.json("/api/v1/namespaces/default/pods")["items"].as_array().unwrap().is_empty();
    assert!(eventually(SOON * 2, empty), "pods are left");
    assert!(eventually(SOON, || remains(&node, &uids).is_empty()), "left behind: {:#?}", remains(&node, &uids));
    let namespaces: Vec<_> = network_namespaces().difference(&before).cloned().collect();
    // Other tests of this machine may have made some meanwhile; 50 pods of ours would show.
    assert!(namespaces.len() < 20, "{} network namespaces are left", namespaces.len());
}
