//! Container start to exit of `echo hello`, beside crun and runc where they are installed, interleaved in one run.
//!
//! `cargo bench --bench sandbox [-- RUNS]`. Needs root. Every runtime gets the same layer mounted as overlay, 32 MiB, half a
//! CPU, new pid, mount, network, ipc and uts namespaces. For ours the pod's network exists before the clock starts, as it
//! does for the second container of a pod; the row "pod" is the whole way, create to destroyed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use entroos::base::scope::Scope;
use entroos::base::{Bytes, Millicores, Uid};
use entroos::container::runtime::{Config, Error, Runtime, Sandbox};
use entroos::container::spec::{ContainerSpec, ContainerState, Limits, SandboxSpec};

const RUNS: usize = 50;
const WARM_UP: usize = 3;

fn main() {
    let runs = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(RUNS);
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio starts");
    tokio.block_on(bench(runs));
}

async fn bench(runs: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let layer = dir.path().join("layer");
    busybox(&layer);
    let config = Config {
        data_dir: dir.path().join("data"),
        cgroup: format!("bench-{}", std::process::id()),
        program: env!("CARGO_BIN_EXE_entroos").into(),
    };
    let scope = Scope::default();
    let runtime = match Runtime::start(config.clone(), &scope).await {
        Ok(runtime) => runtime,
        Err(Error::Unsupported(why)) => return println!("SKIPPED: {why}"),
        Err(error) => panic!("{error}"),
    };
    let warm = runtime.create(pod(0)).await.expect("a sandbox");
    let others: Vec<Other> =
        ["crun", "runc"].into_iter().filter_map(|name| Other::new(name, dir.path(), &layer)).collect();
    let mut rows: Vec<(&str, Vec<Duration>)> = vec![("entroos", vec![]), ("entroos pod", vec![])];
    rows.extend(others.iter().map(|other| (other.name, vec![])));
    for run in 0..runs + WARM_UP {
        let attempt = u32::try_from(run).expect("few runs");
        let mut times = vec![start_to_exit(&warm, spec(&layer, attempt)).await];
        let begun = Instant::now();
        let sandbox = runtime.create(pod(1)).await.expect("a sandbox");
        start_to_exit(&sandbox, spec(&layer, 0)).await;
        sandbox.destroy().await.expect("destroyed");
        times.push(begun.elapsed());
        times.extend(others.iter().map(|other| other.run(run)));
        if run >= WARM_UP {
            rows.iter_mut().zip(times).for_each(|((_, row), time)| row.push(time));
        }
    }
    println!("{:<12} {:>8} {:>8} {:>8}   (ms, {runs} runs)", "", "min", "p50", "p90");
    for (name, mut row) in rows {
        row.sort_unstable();
        let at = |percent: usize| row[(row.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        println!("{name:<12} {:>8.1} {:>8.1} {:>8.1}", at(0), at(50), at(90));
    }
    warm.destroy().await.expect("destroyed");
    scope.shutdown().await;
}

async fn start_to_exit(sandbox: &Sandbox, spec: ContainerSpec) -> Duration {
    let (attempt, begun) = (spec.attempt, Instant::now());
    let mut records = sandbox.records();
    let started = sandbox.start(spec).await.expect("started");
    assert!(!matches!(started.state, ContainerState::StartFailed { .. }), "{started:?}");
    let ended = |state: &ContainerState| matches!(state, ContainerState::Exited(exit) if exit.code == 0);
    let wanted = records.wait_for(|records| records.iter().any(|r| r.attempt == attempt && ended(&r.state)));
    wanted.await.expect("the shim lives");
    begun.elapsed()
}

fn pod(number: u8) -> SandboxSpec {
    let name = format!("bench-{number}");
    SandboxSpec {
        uid: Uid([number; 16]),
        namespace: "default".into(),
        hostname: name.clone(),
        name,
        host_network: false,
    }
}

fn spec(layer: &Path, attempt: u32) -> ContainerSpec {
    ContainerSpec {
        name: "main".into(),
        attempt,
        layers: vec![layer.to_path_buf()],
        args: vec!["/bin/echo".into(), "hello".into()],
        env: vec![],
        cwd: "/".into(),
        user: String::new(),
        run_as_group: None,
        run_as_non_root: false,
        read_only_root: false,
        limits: Limits { cpu: Some(Millicores(500)), memory: Some(Bytes(32 << 20)), ..Limits::default() },
        tty: false,
        stdin: false,
        log_max: Bytes(1 << 20),
        log_files_max: 2,
    }
}

fn busybox(layer: &Path) {
    for sub in ["bin", "etc", "proc", "dev", "sys"] {
        fs::create_dir_all(layer.join(sub)).expect("a directory");
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("package busybox-static is installed");
    symlink("busybox", layer.join("bin/echo")).expect("a link");
}

/// Another runtime, given the same work.
struct Other {
    name: &'static str,
    bundle: PathBuf,
}

impl Other {
    fn new(name: &'static str, dir: &Path, layer: &Path) -> Option<Self> {
        if Command::new(name).arg("--version").output().is_err() {
            println!("{name} not installed: skipped");
            return None;
        }
        let bundle = dir.join(name);
        for sub in ["upper", "work", "rootfs"] {
            fs::create_dir_all(bundle.join(sub)).expect("a directory");
        }
        let spec = Command::new("runc").args(["spec", "--bundle"]).arg(&bundle).status();
        if !spec.is_ok_and(|status| status.success()) {
            let spec = Command::new(name).arg("spec").current_dir(&bundle).status();
            assert!(spec.is_ok_and(|status| status.success()), "{name} spec");
        }
        let path = bundle.join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("config.json")).expect("JSON");
        config["process"]["args"] = serde_json::json!(["/bin/echo", "hello"]);
        config["process"]["terminal"] = false.into();
        config["root"]["readonly"] = false.into();
        config["linux"]["resources"] =
            serde_json::json!({ "memory": { "limit": 32 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 } });
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["type"] != "cgroup");
        fs::write(&path, config.to_string()).expect("config.json");
        let script = format!(
            "mount -t overlay overlay -o lowerdir={},upperdir={b}/upper,workdir={b}/work {b}/rootfs",
            layer.display(),
            b = bundle.display()
        );
        fs::write(bundle.join("mount.sh"), script).expect("a script");
        let other = Self { name, bundle };
        let works = other.command("probe").output().expect("unshare from util-linux is installed");
        if !works.status.success() {
            println!("{name} does not run here: skipped ({})", String::from_utf8_lossy(&works.stderr).trim());
            return None;
        }
        Some(other)
    }

    /// In a mount namespace of its own, for the overlay; crun refuses a hybrid host unless `unified` is hidden from it. The
    /// namespace and the mount are inside the measured time for ours, outside for them.
    fn command(&self, id: &str) -> Command {
        let bundle = self.bundle.display();
        let prepare = format!("umount -l /sys/fs/cgroup/unified 2>/dev/null; sh {bundle}/mount.sh || exit 1");
        let run = format!(
            "s=$(date +%s%N); {} run --bundle {bundle} bench-{id}-$$ || exit 1; e=$(date +%s%N); echo took $((e - s))",
            self.name
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("{prepare}; {run}")]).stdin(Stdio::null());
        command
    }

    fn run(&self, run: usize) -> Duration {
        let output = self.command(&run.to_string()).output().expect("it ran in the probe");
        let text = String::from_utf8_lossy(&output.stdout);
        let took = text.lines().find_map(|line| line.strip_prefix("took ")?.parse().ok());
        Duration::from_nanos(took.unwrap_or_else(|| panic!("{}: {output:?}", self.name)))
    }
}
