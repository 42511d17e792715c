//! What a container may count on, and what it may not do.

mod common;

use common::{Node, SOON, eventually, said, shell_pod};
use serde_json::{Value, json};

fn pod(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
        .to_string()
}

fn container(command: &str, more: &Value) -> Value {
    let mut container = json!({"name": "c", "image": "alpine:latest", "command": ["sh", "-c", command]});
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    container
}

fn once(containers: &Value) -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": containers})
}

fn log(node: &Node, pod: &str, container: &str) -> String {
    node.ok(&["pod", "logs", pod, "-c", container])
}

#[test]
fn environment_user_and_directory() {
    require!("kubectl");
    let node = Node::with_image();
    node.kubectl_ok(&["create", "configmap", "settings", "--from-literal=color=blue"]);
    let env = json!([
        {"name": "PLAIN", "value": "a b"},
        {"name": "EXPANDED", "value": "$(PLAIN)-$$(PLAIN)-$(NOBODY)"},
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "none", "optional": true}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}
    ]);
    let command =
        "echo $PLAIN/$EXPANDED/$COLOR/${MAYBE-unset}/$POD/$APP/$MEM; id -u; id -g; pwd; hostname; cat /proc/1/comm";
    let more = json!({"env": env, "workingDir": "/srv/made", "securityContext": {"runAsUser": 1234, "runAsGroup": 4321},
        "resources": {"limits": {"memory": "64Mi"}}});
    node.apply(&pod("env", &once(&json!([container(command, &more)]))));
    node.wait_phase("env", "Succeeded");
    assert_eq!(
        log(&node, "env", "c"),
        "a b/a b-$(PLAIN)-$(NOBODY)/blue/unset/env/env/67108864\n1234\n4321\n/srv/made\nenv\ncat\n"
    );
    // A reference to nothing is told, and mended without a new pod.
    let late = json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]});
    node.apply(&pod("late", &once(&json!([container("echo $X", &late)]))));
    node.wait_pod("late", "waiting for its configmap", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError" && waiting["message"].as_str().unwrap().contains("late")
    });
    node.kubectl_ok(&["create", "configmap", "late", "--from-literal=k=came"]);
    node.wait_phase("late", "Succeeded");
    assert_eq!(log(&node, "late", "c"), "came\n");
}

#[test]
fn secrets_reach_the_container_and_nothing_else() {
    require!("kubectl");
    let node = Node::with_image();
    let secret = "correct-horse-battery-staple";
    let manifest =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"word": secret}})
            .to_string();
    // kubectl apply also writes the data into an annotation.
    node.apply(&manifest);
    let env = json!({"env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}}]});
    let reader = pod(
        "reader",
        &once(&json!([container("test \"$WORD\" = correct-horse-battery-staple && echo yes; sleep 1000", &env)])),
    );
    // Whoever comes over loopback could print it: refused with the cure.
    let refused = node.kubectl_with(&["apply", "-f", "-"], &reader.replace("correct-horse-battery-staple", "x"));
    assert!(said(&refused).contains("token"), "{}", said(&refused));
    // The test's own needle must not stand in the command.
    let reader = reader.replace("test \\\"$WORD\\\" = correct-horse-battery-staple", "test ${#WORD} = 28");
    assert!(!reader.contains(secret), "{reader}");
    // kubectl sends its token over TLS only; the operator's own command comes by the unix socket.
    node.apply_json(&reader);
    node.wait_phase("reader", "Running");
    assert!(eventually(SOON, || log(&node, "reader", "c") == "yes\n"));

    let plain = node.kubectl_ok(&["get", "secret", "key", "-o", "yaml"]);
    assert!(!plain.contains(secret) && !plain.contains("Y29ycmVjdC1ob3JzZS"), "{plain}");
    let full = node.json("/api/v1/namespaces/default/secrets/key")["data"]["word"].clone();
    assert_eq!(full, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ==");
    let exec = node.kubectl(&["exec", "reader", "--", "env"]);
    assert!(!exec.status.success() && said(&exec).contains("token"), "{}", said(&exec));

    // The bytes, plain or in base64, stand nowhere in the data directory.
    for needle in [secret, "Y29ycmVjdC1ob3JzZS"] {
        let found = std::process::Command::new("grep").args(["-rlaF", needle]).arg(node.dir()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{needle} stands in the data directory");
    }
    // The search can find: the pod's own name stands there.
    let found =
        std::process::Command::new("grep").args(["-rlaF", "reader"]).arg(node.dir().join("state")).output().unwrap();
    assert!(!found.stdout.is_empty());
}

#[test]
fn limits_are_kept() {
    require!();
    let node = Node::with_image();
    let limits = json!({"resources": {"limits": {"memory": "32Mi", "cpu": "200m"}}});
    node.apply(&pod(
        "greedy",
        &once(&json!([container("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo survived", &limits)])),
    ));
    let ended = node.wait_phase("greedy", "Failed");
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&state["reason"], &state["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{state:#}");

    let spin = json!({"resources": {"limits": {"cpu": "200m", "memory": "32Mi"}}});
    // Half a second of CPU at a fifth of a core takes more than two seconds.
    let command = "read up _ < /proc/uptime; i=0; while [ $(cut -d' ' -f14 /proc/self/stat) -ge 0 ] && [ $i -lt 200 ]; do i=$((i+1)); done; read end _ < /proc/uptime; cat /proc/self/cgroup > /dev/null; echo done";
    node.apply(&pod("spin", &once(&json!([container(command, &spin)]))));
    let uid = node.wait_pod("spin", "started", |pod| pod["status"]["phase"] != "Pending")["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_string();
    let throttled = eventually(SOON, || {
        common::cgroups_of(&uid).iter().any(|dir| {
            std::fs::read_to_string(dir.join("cpu.cfs_quota_us")).is_ok_and(|quota| quota.trim() == "20000")
                || std::fs::read_to_string(dir.join("cpu.max")).is_ok_and(|max| max.starts_with("20000 "))
        }) || node.pod("spin")["status"]["phase"] == "Succeeded"
    });
    assert!(throttled);
    node.wait_phase("spin", "Succeeded");
}

#[test]
fn a_container_cannot_reach_out() {
    require!();
    let node = Node::with_image();
    let command = "
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        unshare -U true 2>/dev/null && echo unshared
        find / -xdev -name memory.limit_in_bytes 2>/dev/null | grep . && echo cgroup-seen
        for f in $(find / -name 'memory.*limit_in_bytes' -o -name memory.max 2>/dev/null); do echo -1 > $f 2>/dev/null && echo lifted; done
        echo b > /proc/sysrq-trigger 2>/dev/null && echo sysrq
        echo x > /proc/sys/kernel/hostname 2>/dev/null && echo sysctl
        dd if=/dev/kmsg of=/dev/null count=1 2>/dev/null && echo kmsg
        mknod /tmp/vda b 254 0 2>/dev/null && dd if=/tmp/vda of=/dev/null count=1 2>/dev/null && echo disk
        chroot /proc/1/root true 2>/dev/null || echo no-proc-root
        ls /sys/class/net; ip -o -4 addr show 2>/dev/null | awk '{print $2, $4}'
        grep -c . /proc/net/dev > /dev/null; echo end";
    node.apply(&pod("caged", &once(&json!([container(command, &json!({}))]))));
    node.wait_phase("caged", "Succeeded");
    let said = log(&node, "caged", "c");
    for escape in ["mounted", "unshared", "cgroup-seen", "lifted", "sysrq", "sysctl", "kmsg", "disk"] {
        assert!(!said.lines().any(|line| line == escape), "the container could: {escape}\n{said}");
    }
    assert!(said.contains("lo 127.0.0.1/8") && said.ends_with("end\n"), "{said}");
    let events = node.ok(&["pod", "describe", "caged"]);
    assert!(events.contains("loopback"), "no event says that the pod has loopback alone:\n{events}");
}

#[test]
fn several_containers_share_the_pod() {
    require!();
    let node = Node::with_image();
    let containers = json!([
        {"name": "server", "image": "alpine:latest", "command": ["sh", "-c", "echo hi > /tmp/index.html; exec httpd -f -p 127.0.0.1:7777 -h /tmp"]},
        {"name": "client", "image": "alpine:latest", "command": ["sh", "-c", "until wget -qO- http://127.0.0.1:7777/; do sleep 0.1; done"]}
    ]);
    node.apply(&pod("pair", &once(&containers)));
    node.wait_pod("pair", "served", |pod| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        statuses
            .is_some_and(|all| all.iter().any(|c| c["name"] == "client" && c["state"]["terminated"]["exitCode"] == 0))
    });
    assert!(log(&node, "pair", "client").ends_with("hi\n"));
    assert_eq!(node.pod("pair")["status"]["phase"], "Running", "the server goes on");
    let unnamed = node.entroos(&["pod", "logs", "pair"]);
    assert!(said(&unnamed).contains("client"), "an unnamed container must be asked for: {}", said(&unnamed));
}

#[test]
fn restarts_back_off_and_count() {
    require!();
    let node = Node::with_image();
    let spec = json!({"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1,
        "containers": [container("echo attempt; exit 4", &json!({}))]});
    node.apply(&pod("crash", &spec));
    let crashed = node.wait_pod("crash", "in back-off after a restart", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"].as_u64() >= Some(1) && status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(crashed["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 4);
    assert_eq!(node.ok(&["pod", "logs", "crash", "--previous"]), "attempt\n");
    let nothing = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "alpine:latest", "command": ["/no/such/program"]}]});
    node.apply(&pod("nothing", &nothing));
    let failed = node.wait_phase("nothing", "Failed");
    let state = &failed["status"]["containerStatuses"][0]["state"]["terminated"];
    assert!(state["message"].as_str().is_some_and(|m| m.contains("/no/such/program")), "{state:#}");
}

#[test]
fn host_network_is_for_those_who_may() {
    require!("kubectl");
    let node = Node::with_image();
    let mut spec = once(&json!([container("ls /sys/class/net | wc -l; ip -o link | wc -l; sleep 1000", &json!({}))]));
    spec["hostNetwork"] = json!(true);
    let refused = node.kubectl_with(&["apply", "-f", "-"], &pod("host", &spec));
    assert!(said(&refused).contains("Forbidden"), "{}", said(&refused));
    node.apply_json(&pod("host", &spec));
    node.wait_phase("host", "Running");
    for args in
        [["delete", "pod", "host"].as_slice(), &["exec", "host", "--", "true"], &["label", "pod", "host", "a=b"]]
    {
        let refused = node.kubectl(args);
        assert!(!refused.status.success(), "loopback could {args:?}");
    }
    node.ok(&["pod", "delete", "host", "--wait"]);
    let plain = shell_pod("plain", "true");
    assert!(node.apply(&plain).contains("created"));
}
