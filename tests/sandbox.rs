//! Real sandboxes on this machine: they need root, cgroups and overlayfs, and say loudly when they are skipped.
#![cfg(feature = "full")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use entroos::base::scope::Scope;
use entroos::base::{Bytes, Millicores, Uid};
use entroos::container::logs;
use entroos::container::runtime::{Config, Error, Runtime, Sandbox};
use entroos::container::spec::{ContainerRecord, ContainerSpec, ContainerState, ExecSpec, Exit, Limits, SandboxSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A data directory, a busybox layer and a runtime over them.
struct Bed {
    dir: tempfile::TempDir,
    layer: PathBuf,
    config: Config,
    runtime: Runtime,
    scope: Scope,
    sweep: Sweep,
}

/// `None`, said loudly, where sandboxes cannot run.
async fn bed(name: &str) -> Option<Bed> {
    let dir = tempfile::Builder::new().prefix("entroos-sandbox-").tempdir().unwrap();
    let config = Config {
        data_dir: dir.path().join("data"),
        cgroup: format!("test-{name}-{}", std::process::id()),
        program: env!("CARGO_BIN_EXE_entroos").into(),
    };
    let scope = Scope::default();
    let runtime = match Runtime::start(config.clone(), &scope).await {
        Ok(runtime) => runtime,
        Err(Error::Unsupported(why)) => {
            println!("SKIPPED: {why}");
            return None;
        }
        Err(error) => panic!("{error:?}"),
    };
    if !Path::new("/bin/busybox").exists() {
        println!("SKIPPED: /bin/busybox is missing (package busybox-static)");
        return None;
    }
    let layer = dir.path().join("layer");
    busybox(&layer);
    let sweep = Sweep(config.cgroup.clone());
    Some(Bed { dir, layer, config, runtime, scope, sweep })
}

fn busybox(layer: &Path) {
    for sub in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(layer.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    let applets = "sh echo cat sleep id ls mount umount mknod dd head tail kill ps hostname ip ping stty true false touch mkdir \
                   chroot unshare test printf seq grep wc tr stat readlink env pwd chown chmod su nice trap rm ln sync tty yes";
    for applet in applets.split_whitespace() {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nlog:x:4:web\nweb:x:34:\n").unwrap();
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

impl Bed {
    fn spec(number: u8) -> SandboxSpec {
        SandboxSpec {
            uid: Uid([number; 16]),
            namespace: "default".into(),
            name: format!("pod-{number}"),
            hostname: format!("pod-{number}"),
            host_network: false,
        }
    }

    async fn pod(&self, number: u8) -> Sandbox {
        self.runtime.create(Self::spec(number)).await.unwrap()
    }

    fn container(&self, name: &str, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            attempt: 0,
            layers: vec![self.layer.clone()],
            args: args.iter().map(ToString::to_string).collect(),
            env: vec![],
            cwd: String::new(),
            user: String::new(),
            run_as_group: None,
            run_as_non_root: false,
            read_only_root: false,
            limits: Limits { pids: Some(64), ..Limits::default() },
            tty: false,
            stdin: false,
            log_max: Bytes(1 << 20),
            log_files_max: 3,
        }
    }

    fn sh(&self, script: &str) -> ContainerSpec {
        self.container("main", &["sh", "-c", script])
    }

    fn log_path(&self, sandbox: &Sandbox, container: &str, attempt: u32) -> PathBuf {
        let spec = sandbox.spec();
        logs::file(&logs::pod_dir(&self.config.data_dir, &spec.namespace, &spec.name, &spec.uid), container, attempt)
    }

    /// What the container printed: text alone.
    fn printed(&self, sandbox: &Sandbox, container: &str) -> String {
        let log = fs::read_to_string(self.log_path(sandbox, container, 0)).unwrap_or_default();
        log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    /// Runs a container to its end in pod `number`; its exit and what it printed.
    async fn run(&self, number: u8, spec: ContainerSpec) -> (Exit, String) {
        let sandbox = self.pod(number).await;
        let name = spec.name.clone();
        let started = sandbox.start(spec).await.unwrap();
        assert!(matches!(started.state, ContainerState::Running { .. }), "{started:?}");
        let exit = ended(&sandbox, &name).await;
        let printed = self.printed(&sandbox, &name);
        sandbox.destroy().await.unwrap();
        (exit, printed)
    }
}

async fn wait_for(sandbox: &Sandbox, wanted: impl Fn(&ContainerRecord) -> bool) -> ContainerRecord {
    let mut records = sandbox.records();
    let found = records.wait_for(|records| records.iter().any(&wanted));
    let records: Arc<Vec<_>> =
        Arc::clone(&tokio::time::timeout(Duration::from_mins(1), found).await.expect("in time").unwrap());
    records.iter().find(|r| wanted(r)).unwrap().clone()
}

async fn ended(sandbox: &Sandbox, name: &str) -> Exit {
    let record = wait_for(sandbox, |r| r.name == name && matches!(r.state, ContainerState::Exited(_))).await;
    let ContainerState::Exited(exit) = record.state else { unreachable!() };
    exit
}

#[tokio::test]
async fn hello_is_printed_logged_and_recorded() {
    let Some(bed) = bed("hello").await else { return };
    let sandbox = bed.pod(1).await;
    let record = sandbox.start(bed.sh("echo 'Hello, EntroOS!'; printf half; echo oops >&2; exit 3")).await.unwrap();
    assert!(matches!(record.state, ContainerState::Running { pid, .. } if pid > 0), "{record:?}");
    let exit = ended(&sandbox, "main").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, 0, false));
    assert!(exit.finished >= exit.started);
    let log = fs::read_to_string(bed.log_path(&sandbox, "main", 0)).unwrap();
    let mut entries: Vec<_> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["stderr F oops", "stdout F Hello, EntroOS!", "stdout P half"]);
    sandbox.destroy().await.unwrap();
    assert!(!sandbox.alive());
    assert!(!bed.config.data_dir.join("pods").join(sandbox.spec().uid.to_string()).exists());
    assert!(bed.log_path(&sandbox, "main", 0).exists(), "logs stay");
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let Some(bed) = bed("exits").await else { return };
    let (exit, _) = bed.run(1, bed.sh("exit 137")).await;
    assert_eq!((exit.code, exit.signal), (137, 0));
    let sandbox = bed.pod(2).await;
    sandbox.start(bed.sh("echo up; exec sleep 1000")).await.unwrap();
    // A first process gets no signal it has no handler for, except from outside its namespace.
    sandbox.signal("main", 0, 15).await.unwrap();
    let other = bed.container("other", &["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"]);
    sandbox.start(other).await.unwrap();
    wait_for_text(&bed, &sandbox, "other", "ready").await;
    sandbox.signal("other", 0, 15).await.unwrap();
    assert_eq!(ended(&sandbox, "other").await.code, 7);
    sandbox.kill("main", 0).await.unwrap();
    let exit = ended(&sandbox, "main").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, false));
    assert!(matches!(sandbox.signal("main", 0, 15).await, Err(Error::NotRunning(_))));
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn an_attempt_is_started_once_however_often_asked() {
    let Some(bed) = bed("once").await else { return };
    let sandbox = bed.pod(1).await;
    let spec = bed.sh("echo once");
    let (first, second) = tokio::join!(sandbox.start(spec.clone()), sandbox.start(spec.clone()));
    assert_eq!(first.unwrap().attempt, second.unwrap().attempt);
    ended(&sandbox, "main").await;
    let again = sandbox.start(spec.clone()).await.unwrap();
    assert!(matches!(again.state, ContainerState::Exited(_)), "{again:?}");
    assert_eq!(bed.printed(&sandbox, "main"), "once\n");
    let next = sandbox.start(ContainerSpec { attempt: 1, ..spec.clone() }).await.unwrap();
    assert!(matches!(next.state, ContainerState::Running { .. }));
    wait_for(&sandbox, |r| r.attempt == 1 && matches!(r.state, ContainerState::Exited(_))).await;
    assert!(bed.log_path(&sandbox, "main", 1).exists());
    let twin = bed.runtime.create(sandbox.spec().clone()).await.unwrap();
    assert_eq!(twin.records().borrow().len(), 2, "the sandbox that is there");
    sandbox.destroy().await.unwrap();
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_failed_start_says_why_and_is_no_exit_code() {
    let Some(bed) = bed("failed").await else { return };
    fs::write(bed.layer.join("bin/script"), "#!/no/such/interpreter\n").unwrap();
    fs::write(bed.layer.join("bin/data"), "neither a program nor a script").unwrap();
    fs::write(bed.layer.join("bin/secret"), "#!/bin/sh\n").unwrap();
    for (name, mode) in [("script", 0o755), ("data", 0o755), ("secret", 0o700)] {
        fs::set_permissions(bed.layer.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let sandbox = bed.pod(1).await;
    let with = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = bed.sh("true");
        change(&mut spec);
        spec
    };
    let cases: Vec<(ContainerSpec, &str)> = vec![
        (with(&|s| s.args = vec!["nosuch".into()]), "\"nosuch\" not found in $PATH"),
        (with(&|s| s.args = vec!["/bin/nosuch".into()]), "\"/bin/nosuch\" not found in the image"),
        (with(&|s| s.args = vec!["script".into()]), "interpreter"),
        (with(&|s| s.args = vec!["data".into()]), "architecture"),
        (with(&|s| (s.args, s.user) = (vec!["secret".into()], "web".into())), "permission denied"),
        (with(&|s| s.args = vec![]), "no command"),
        (with(&|s| s.user = "nobody".into()), "runAsUser"),
        (with(&|s| s.run_as_non_root = true), "runAsNonRoot"),
        (with(&|s| s.cwd = "relative".into()), "not absolute"),
        (with(&|s| s.layers = vec!["/no/such/layer".into()]), "/no/such/layer"),
    ];
    for (attempt, (spec, wanted)) in (0..).zip(cases) {
        let record = sandbox.start(ContainerSpec { attempt, ..spec }).await.unwrap();
        let ContainerState::StartFailed { message, .. } = &record.state else { panic!("{wanted}: {record:?}") };
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
    // The shim has lost nothing by all this.
    let shim = shim_pid(&bed, &sandbox);
    let open = fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
    for attempt in 10..20 {
        sandbox
            .start(ContainerSpec { attempt, layers: vec![bed.dir.path().join("none")], ..bed.sh("true") })
            .await
            .unwrap();
    }
    // A connection or two may just be opening or closing.
    assert!(fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count() < open + 5);
    sandbox.start(ContainerSpec { attempt: 20, ..bed.sh("exit 5") }).await.unwrap();
    assert_eq!(ended(&sandbox, "main").await.code, 5);
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn limits_are_applied_and_memory_ends_in_oom_killed() {
    let Some(bed) = bed("limits").await else { return };
    let limits = Limits {
        cpu: Some(Millicores(250)),
        cpu_request: Some(Millicores(500)),
        memory: Some(Bytes(32 << 20)),
        pids: Some(20),
    };
    let sandbox = bed.pod(1).await;
    sandbox.start(ContainerSpec { limits, ..bed.sh("sleep 1000") }).await.unwrap();
    let read = |controller: &str, file: &str| {
        let group = format!("entroos/{}/{}/main-0", bed.config.cgroup, sandbox.spec().uid);
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("cgroup.controllers").exists() { root.to_path_buf() } else { root.join(controller) };
        fs::read_to_string(root.join(group).join(file)).unwrap_or_default().trim().to_owned()
    };
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(read("cpu", "cpu.max"), "25000 100000");
        assert_eq!(read("memory", "memory.max"), (32 << 20).to_string());
    } else {
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "25000");
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("memory", "memory.limit_in_bytes"), (32 << 20).to_string());
    }
    assert_eq!(read("pids", "pids.max"), "20");
    sandbox.destroy().await.unwrap();

    let hungry = ContainerSpec { limits, ..bed.sh("exec tail /dev/zero") };
    let (exit, _) = bed.run(2, hungry).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, true));

    let forks = bed.sh("i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; echo unreachable");
    let (exit, printed) = bed.run(3, ContainerSpec { limits, ..forks }).await;
    assert!(printed.contains("can't fork") && !printed.contains("unreachable"), "{exit:?} {printed}");
}

/// libcontainer mounts version 1 cgroups read-write whatever is asked: so none may be there at all.
#[tokio::test]
async fn root_in_the_container_cannot_lift_its_own_limit() {
    let Some(bed) = bed("lift").await else { return };
    let script = "grep -c cgroup /proc/self/mounts; ls /sys/fs/cgroup; mkdir /tmp/c; mount -t cgroup -o memory c /tmp/c 2>&1; \
                  mount -t cgroup2 c /tmp/c 2>&1; echo 1000000000 > /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /proc/self/cgroup";
    let limits = Limits { memory: Some(Bytes(32 << 20)), pids: Some(20), ..Limits::default() };
    let (_, printed) = bed.run(1, ContainerSpec { limits, ..bed.sh(script) }).await;
    assert!(printed.lines().any(|line| line == "0"), "no cgroup is mounted: {printed}");
    assert_eq!(printed.matches("ermission denied").count() + printed.matches("not permitted").count(), 2, "{printed}");
    assert!(printed.contains("nonexistent directory") || printed.contains("Read-only"), "{printed}");
    assert!(!printed.contains("entroos"), "the cgroup namespace hides where it is: {printed}");
}

#[tokio::test]
async fn dangerous_calls_are_refused_and_usual_ones_are_not() {
    let Some(bed) = bed("seccomp").await else { return };
    // A program of ours makes each call: EPERM must come even for root, before the arguments are looked at.
    let calls = bed.dir.path().join("calls.c");
    fs::write(&calls, include_str!("sandbox_calls.c")).unwrap();
    let built = std::process::Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(bed.layer.join("bin/calls"))
        .arg(&calls)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no C compiler to build the caller with");
        return;
    }
    let wanted = "mount EPERM\numount2 EPERM\nunshare EPERM\nsetns EPERM\nclone-newuser EPERM\nclone3 ENOSYS\nkeyctl EPERM\n\
                  add_key EPERM\nbpf EPERM\nkexec_load EPERM\ninit_module EPERM\nperf_event_open EPERM\nuserfaultfd EPERM\n\
                  io_uring_setup EPERM\nopen_by_handle_at EPERM\npivot_root EPERM\nsocket-vsock EPERM\npersonality EPERM\n\
                  unknown-999 ENOSYS\ngetpid ok\nsocket-inet ok\nchroot ok\nno-new-privileges 0\n";
    let (exit, printed) = bed.run(1, bed.container("main", &["calls"])).await;
    assert_eq!((exit.code, printed.as_str()), (0, wanted));
    // Neither may a process that joins later.
    let sandbox = bed.pod(2).await;
    sandbox.start(bed.sh("sleep 1000")).await.unwrap();
    let (code, out, _) = exec(&sandbox, &["calls"], None).await;
    assert_eq!((code, out.as_str()), (0, wanted));
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn capabilities_devices_and_mounts_are_those_of_containerd() {
    let Some(bed) = bed("caps").await else { return };
    let script = "grep -E '^(Cap|Seccomp:|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status | tr '\t' ' '; hostname; cat /etc/hostname; \
                  ip -o link 2>/dev/null | grep -c LOOPBACK,UP; mknod /tmp/disk b 254 0 && dd if=/tmp/disk count=1 2>&1; \
                  touch /sys/x 2>&1; echo x > /proc/sys/kernel/domainname; head -c1 /proc/kcore | wc -c; \
                  stat -c '%a' /dev/shm; stat -f -c %T / ; ls /dev | tr '\n' ' '; chown 5:5 /tmp && echo chowned; ping -c1 -w2 127.0.0.1 | grep -c '1 packets received'";
    let (_, printed) = bed.run(1, bed.sh(script)).await;
    for wanted in [
        "CapInh: 0000000000000000",
        "CapPrm: 00000000a80425fb",
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "Seccomp: 2",
        "NoNewPrivs: 0",
        "SigBlk: 0000000000000000",
        "SigIgn: 0000000000000000",
        "pod-1\npod-1\n1\n",
        "dd: can't open '/tmp/disk': Operation not permitted",
        "touch: /sys/x: Read-only file system",
        "1777",
        "chowned\n1\n",
    ] {
        assert!(printed.contains(wanted), "{wanted}:\n{printed}");
    }
    for device in [
        "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ] {
        assert!(device == "console" || printed.contains(&format!("{device} ")), "{device}: {printed}");
    }
}

#[tokio::test]
async fn an_ordinary_user_is_who_the_image_says() {
    let Some(bed) = bed("user").await else { return };
    let script = "id; echo $HOME; pwd; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | tr '\t' ' '; echo to-stdout > /dev/stdout; \
                  echo to-stderr > /proc/self/fd/2; touch /etc/x 2>&1; touch /tmp/y && echo tmp-ok; cat; echo stdin-ended";
    let spec = ContainerSpec { user: "web".into(), cwd: "/srv/new/dir".into(), ..bed.sh(script) };
    let (_, printed) = bed.run(1, spec).await;
    for wanted in [
        "uid=33(web) gid=34(web) groups=4(log),34(web)\n/srv/web\n/srv/new/dir\n",
        "CapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 00000000a80425fb",
        "to-stdout\n",
        "to-stderr\n",
        "touch: /etc/x: Permission denied",
        "tmp-ok\nstdin-ended\n",
    ] {
        assert!(printed.contains(wanted), "{wanted}:\n{printed}");
    }
    let spec =
        ContainerSpec { user: "1234:77".into(), read_only_root: true, ..bed.sh("id -u; id -g; touch /tmp/z 2>&1") };
    assert_eq!(bed.run(2, spec).await.1, "1234\n77\ntouch: /tmp/z: Read-only file system\n");
}

/// Runs a command in container `main` without a terminal: its code, what it printed on both ways.
async fn exec(sandbox: &Sandbox, args: &[&str], stdin: Option<&str>) -> (i32, String, String) {
    let spec = ExecSpec {
        container: "main".into(),
        args: args.iter().map(ToString::to_string).collect(),
        tty: false,
        stdin: stdin.is_some(),
        size: None,
    };
    let mut exec = sandbox.exec(spec).await.unwrap();
    let (mut stdout, mut stderr) = (exec.stdout.take().unwrap(), exec.stderr.take().unwrap());
    if let Some(text) = stdin {
        let mut input = exec.stdin.take().unwrap();
        input.write_all(text.as_bytes()).await.unwrap();
    }
    let (mut out, mut err) = (String::new(), String::new());
    let read = async { tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("in time").unwrap();
    (exec.wait().await.unwrap(), out, err)
}

#[tokio::test]
async fn exec_joins_the_container_with_pipes() {
    let Some(bed) = bed("exec").await else { return };
    let sandbox = bed.pod(1).await;
    let spec = ContainerSpec {
        user: "web".into(),
        env: vec!["GREETING=hi".into()],
        cwd: "/tmp".into(),
        ..bed.sh("exec sleep 1000")
    };
    sandbox.start(spec).await.unwrap();
    let script = "id -un; pwd; echo $GREETING; cat; echo err >&2; ps -o args | grep -c '^sleep 1000'; exit 9";
    let (code, out, err) = exec(&sandbox, &["sh", "-c", script], Some("typed\n")).await;
    assert_eq!((code, out.as_str(), err.as_str()), (9, "web\n/tmp\nhi\ntyped\n1\n", "err\n"));
    let (code, _, _) = exec(&sandbox, &["sh", "-c", "kill -9 $$"], None).await;
    assert_eq!(code, 137);
    let missing =
        ExecSpec { container: "main".into(), args: vec!["nosuch".into()], tty: false, stdin: false, size: None };
    match sandbox.exec(missing.clone()).await.err() {
        Some(Error::Command(message)) => assert!(message.contains("not found"), "{message}"),
        other => panic!("{other:?}"),
    }
    let nowhere = ExecSpec { container: "other".into(), ..missing };
    assert!(matches!(sandbox.exec(nowhere).await.err(), Some(Error::NotRunning(_))));
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn exec_has_a_terminal_that_can_be_resized() {
    let Some(bed) = bed("tty").await else { return };
    let sandbox = bed.pod(1).await;
    sandbox.start(bed.sh("exec sleep 1000")).await.unwrap();
    let spec = ExecSpec {
        container: "main".into(),
        args: vec!["sh".into(), "-c".into(), "stty size; read line; stty size; test -t 1 && tty; exit 4".into()],
        tty: true,
        stdin: true,
        size: Some((100, 30)),
    };
    let mut exec = sandbox.exec(spec).await.unwrap();
    let mut stdout = exec.stdout.take().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains("30 100") {
        let n =
            tokio::time::timeout(Duration::from_secs(30), stdout.read(&mut buffer)).await.expect("in time").unwrap();
        assert!(n > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    exec.resize(120, 40).await.unwrap();
    exec.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), stdout.read_to_string(&mut seen)).await.expect("in time").unwrap();
    assert!(seen.contains("40 120") && seen.contains("/dev/pts/"), "{seen}");
    assert_eq!(exec.wait().await.unwrap(), 4);
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn an_exec_ends_with_its_handle() {
    let Some(bed) = bed("drop").await else { return };
    let sandbox = bed.pod(1).await;
    sandbox.start(bed.sh("exec sleep 1000")).await.unwrap();
    let args = vec!["sh".into(), "-c".into(), "echo here; sleep 2222; true".into()];
    let spec = ExecSpec { container: "main".into(), args, tty: false, stdin: false, size: None };
    let mut running = sandbox.exec(spec).await.unwrap();
    let mut byte = [0];
    running.stdout.as_mut().unwrap().read_exact(&mut byte).await.unwrap();
    drop(running);
    let gone = async {
        while exec(&sandbox, &["sh", "-c", "ps | grep -v grep | grep -c 'sleep 2222'"], None).await.1 != "0\n" {}
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the process ends with its connection");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_container_may_have_a_terminal() {
    let Some(bed) = bed("console").await else { return };
    let (exit, printed) =
        bed.run(1, ContainerSpec { tty: true, ..bed.sh("test -t 0 && test -t 1 && tty; echo $TERM; exit 6") }).await;
    assert_eq!(exit.code, 6);
    assert_eq!(printed.replace('\r', ""), "/dev/pts/0\nxterm\n");
}

#[tokio::test]
async fn containers_of_a_pod_share_network_ipc_and_name() {
    let Some(bed) = bed("share").await else { return };
    let sandbox = bed.pod(1).await;
    let look = "for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    sandbox.start(bed.container("one", &["sh", "-c", &format!("{look}; echo shared > /dev/shm/x")])).await.unwrap();
    ended(&sandbox, "one").await;
    sandbox.start(bed.container("two", &["sh", "-c", &format!("{look}; cat /dev/shm/x")])).await.unwrap();
    ended(&sandbox, "two").await;
    assert!(bed.printed(&sandbox, "one").starts_with("net:["));
    assert_eq!(bed.printed(&sandbox, "one") + "shared\n", bed.printed(&sandbox, "two"));
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!bed.printed(&sandbox, "one").contains(own.to_str().unwrap()));
    sandbox.destroy().await.unwrap();
    let sandbox = bed.runtime.create(SandboxSpec { host_network: true, ..Bed::spec(2) }).await.unwrap();
    sandbox.start(bed.container("one", &["sh", "-c", look])).await.unwrap();
    ended(&sandbox, "one").await;
    assert!(bed.printed(&sandbox, "one").contains(own.to_str().unwrap()));
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_hundred_and_twenty_layers_fit() {
    let Some(bed) = bed("layers").await else { return };
    let mut layers = vec![bed.layer.clone()];
    for number in 0..120 {
        let layer = bed.dir.path().join(format!("{number:0>64}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/layer"), format!("{number}\n")).unwrap();
        layers.push(layer);
    }
    let (_, printed) = bed.run(1, ContainerSpec { layers, ..bed.sh("cat /etc/layer") }).await;
    assert_eq!(printed, "119\n");
}

#[tokio::test]
async fn a_data_directory_may_be_deep() {
    let Some(mut bed) = bed("deep").await else { return };
    bed.config.data_dir = bed.dir.path().join("d".repeat(120)).join("e".repeat(120));
    let scope = Scope::default();
    bed.runtime = Runtime::start(bed.config.clone(), &scope).await.unwrap();
    let (exit, printed) = bed.run(1, bed.sh("echo deep")).await;
    assert_eq!((exit.code, printed.as_str()), (0, "deep\n"));
}

#[tokio::test]
async fn a_restarted_node_finds_what_runs_and_what_ended() {
    let Some(bed) = bed("adopt").await else { return };
    let sandbox = bed.pod(1).await;
    let dead = bed.pod(2).await;
    sandbox
        .start(
            bed.container(
                "long",
                &["sh", "-c", "while [ ! -e /dev/shm/stop ]; do sleep 0.01; done; echo late; exit 8"],
            ),
        )
        .await
        .unwrap();
    sandbox.start(bed.container("short", &["sh", "-c", "exit 3"])).await.unwrap();
    ended(&sandbox, "short").await;
    dead.start(bed.sh("exec sleep 1000")).await.unwrap();
    let shim = shim_pid(&bed, &dead);

    // The node goes, and with it its zygote; one shim is killed while nobody looks, the other's container ends.
    let (config, scope) = (bed.config.clone(), bed.scope.clone());
    drop(sandbox);
    drop(dead);
    scope.shutdown().await;
    let Bed { dir, layer, config: kept, runtime, scope: _, sweep } = bed;
    drop(runtime);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();

    let scope = Scope::default();
    let runtime = Runtime::start(config, &scope).await.unwrap();
    let bed = Bed { dir, layer, config: kept, runtime, scope, sweep };
    let mut found = bed.runtime.adopt().await.unwrap();
    found.sort_by_key(|s| s.spec().uid);
    let [sandbox, dead] = &found[..] else { panic!("{}", found.len()) };
    assert!(sandbox.alive());
    assert_eq!(sandbox.records().borrow().len(), 2, "with its records");
    wait_for(sandbox, |r| r.name == "long" && matches!(r.state, ContainerState::Running { .. })).await;
    let short = wait_for(sandbox, |r| r.name == "short").await;
    assert!(matches!(short.state, ContainerState::Exited(Exit { code: 3, .. })), "{short:?}");
    let (code, _, _) = exec_in(sandbox, "long", &["touch", "/dev/shm/stop"]).await;
    assert_eq!(code, 0);
    assert_eq!(ended(sandbox, "long").await.code, 8);
    assert_eq!(bed.printed(sandbox, "long"), "late\n");

    assert!(!dead.alive());
    let records = dead.records().borrow().clone();
    assert!(matches!(records[..], [ContainerRecord { state: ContainerState::Lost { .. }, .. }]), "{records:?}");
    assert!(matches!(dead.start(bed.sh("true")).await, Err(Error::Gone)));
    for sandbox in found {
        sandbox.destroy().await.unwrap();
    }
    assert!(bed.runtime.adopt().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_death_of_a_shim_is_noticed_and_its_containers_go_with_it() {
    let Some(bed) = bed("death").await else { return };
    let sandbox = bed.pod(1).await;
    let record = sandbox.start(bed.sh("exec sleep 1000")).await.unwrap();
    let ContainerState::Running { pid, .. } = record.state else { panic!() };
    wait_for(&sandbox, |r| matches!(r.state, ContainerState::Running { .. })).await;
    let shim = nix::unistd::Pid::from_raw(shim_pid(&bed, &sandbox));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for(&sandbox, |r| matches!(r.state, ContainerState::Lost { .. })).await;
    assert!(!sandbox.alive());
    // Dead, though whoever inherited it may not have collected it yet.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| ") Z".to_owned());
    assert!(stat.contains(") Z"), "{stat}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn secrets_in_the_environment_never_reach_the_disk() {
    let Some(bed) = bed("secret").await else { return };
    let sandbox = bed.pod(1).await;
    let env = vec!["PASSWORD=xyzzy-plugh-31337".to_owned()];
    sandbox.start(ContainerSpec { env, ..bed.sh("exec sleep 1000") }).await.unwrap();
    let (code, _, _) = exec(&sandbox, &["sh", "-c", "test $PASSWORD = xyzzy-plugh-31337"], None).await;
    assert_eq!(code, 0);
    let found = std::process::Command::new("grep")
        .args(["-r", "xyzzy-plugh-31337"])
        .arg(&bed.config.data_dir)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn logs_rotate_while_a_container_prints() {
    let Some(bed) = bed("rotate").await else { return };
    let sandbox = bed.pod(1).await;
    let spec = ContainerSpec { log_max: Bytes(20_000), log_files_max: 3, ..bed.sh("seq 1 5000") };
    sandbox.start(spec).await.unwrap();
    ended(&sandbox, "main").await;
    let log = bed.log_path(&sandbox, "main", 0);
    let size = |suffix: &str| fs::metadata(format!("{}{suffix}", log.display())).map(|m| m.len());
    assert!(size("").is_ok() && size(".1").is_ok() && size(".2").is_ok() && size(".3").is_err());
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.trim_end().ends_with(" stdout F 5000"), "{text}");
    sandbox.destroy().await.unwrap();
}

/// What a machine has that a pod could leave behind.
fn remains(bed: &Bed) -> (Vec<PathBuf>, String, Vec<String>) {
    let mut groups = Vec::new();
    for root in cgroup_roots() {
        collect_groups(&root.join("entroos").join(&bed.config.cgroup), &mut groups);
    }
    groups.retain(|group| group.file_name().unwrap() != bed.config.cgroup.as_str());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let data = bed.config.data_dir.to_str().unwrap();
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // Shims have no file of ours open but their mounts: the private tmpfs and overlays lie below the data directory.
        let mounts = fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
        if mounts.contains(data) {
            processes.push(entry.file_name().into_string().unwrap());
        }
    }
    (groups, mounts, processes)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_make_the_same_pod_get_the_same_sandbox() {
    let Some(bed) = bed("twice").await else { return };
    for number in 0..10 {
        let (one, two) = tokio::join!(bed.runtime.create(Bed::spec(number)), bed.runtime.create(Bed::spec(number)));
        let (one, two) = (one.unwrap(), two.unwrap());
        one.start(bed.sh("exit 3")).await.unwrap();
        assert_eq!(ended(&two, "main").await.code, 3);
        two.destroy().await.unwrap();
        assert!(!one.alive());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sandboxes_come_at_once_and_leave_nothing() {
    let Some(bed) = bed("hundred").await else { return };
    let before = remains(&bed);
    let bed = Arc::new(bed);
    let mut pods = tokio::task::JoinSet::new();
    for number in 0..100 {
        let bed = Arc::clone(&bed);
        pods.spawn(async move {
            let sandbox = bed.pod(number).await;
            sandbox.start(bed.sh("echo $HOSTNAME; sleep 1000 & exec sleep 1000")).await.unwrap();
            wait_for_text(&bed, &sandbox, "main", &format!("pod-{number}")).await;
            let shim = shim_pid(&bed, &sandbox);
            sandbox.destroy().await.unwrap();
            shim
        });
    }
    let mut shims = Vec::new();
    while let Some(pod) = pods.join_next().await {
        shims.push(pod.unwrap());
    }
    assert_eq!(remains(&bed), before);
    assert_eq!(fs::read_dir(bed.config.data_dir.join("pods")).unwrap().count(), 0);
    // The zygote collects its shims: none stays as a zombie.
    let collected = async {
        while shims.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), collected).await.expect("every shim is collected");
}

async fn exec_in(sandbox: &Sandbox, container: &str, args: &[&str]) -> (i32, String, String) {
    let args = args.iter().map(ToString::to_string).collect();
    let spec = ExecSpec { container: container.into(), args, tty: false, stdin: false, size: None };
    let mut exec = sandbox.exec(spec).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    exec.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    exec.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    (exec.wait().await.unwrap(), out, err)
}

/// Waits until a container has printed `text`.
async fn wait_for_text(bed: &Bed, sandbox: &Sandbox, container: &str, text: &str) {
    let printed = async {
        while !bed.printed(sandbox, container).contains(text) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), printed).await.expect("printed in time");
}

fn shim_pid(bed: &Bed, sandbox: &Sandbox) -> i32 {
    let file = bed.config.data_dir.join("pods").join(sandbox.spec().uid.to_string()).join("shim.json");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    i32::try_from(json["pid"].as_i64().unwrap()).unwrap()
}

/// A test that failed leaves nothing running either.
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        let mut left = Vec::new();
        for root in cgroup_roots() {
            collect_groups(&root.join("entroos").join(&self.0), &mut left);
        }
        for group in &left {
            for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for group in left.iter().rev() {
            for _ in 0..1000 {
                if fs::remove_dir(group).is_ok() || !group.exists() {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }
}

fn cgroup_roots() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// `group` and those below it, parents first.
fn collect_groups(group: &Path, into: &mut Vec<PathBuf>) {
    if !group.is_dir() {
        return;
    }
    into.push(group.to_path_buf());
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_groups(&entry.path(), into);
        }
    }
}
