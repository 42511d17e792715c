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
    Some(Bed { dir, layer, config, runtime, scope })
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
    fn spec(&self, number: u8) -> SandboxSpec {
        SandboxSpec {
            uid: Uid([number; 16]),
            namespace: "default".into(),
            name: format!("pod-{number}"),
            hostname: format!("pod-{number}"),
            host_network: false,
        }
    }

    async fn pod(&self, number: u8) -> Sandbox {
        self.runtime.create(self.spec(number)).await.unwrap()
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
        Arc::clone(&tokio::time::timeout(Duration::from_secs(60), found).await.expect("in time").unwrap());
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

/// A test that failed leaves nothing running either.
impl Drop for Bed {
    fn drop(&mut self) {
        let mut left = Vec::new();
        for root in cgroup_roots() {
            collect_groups(&root.join("entroos").join(&self.config.cgroup), &mut left);
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
