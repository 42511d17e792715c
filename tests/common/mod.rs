//! A real node in a temporary directory on a free port, driven by the real command line, curl and kubectl.

#![allow(dead_code)] // each test binary uses its part

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

pub const ENTROOS: &str = env!("CARGO_BIN_EXE_entroos");

/// How long anything that ought to happen soon may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Why pods cannot run here, if they cannot: the caller prints `SKIPPED: …` and returns.
pub fn pods_impossible() -> Option<String> {
    if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
        return Some("needs root".into());
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    (!filesystems.contains("overlay")).then(|| "the kernel has no overlayfs".into())
}

/// Returns from the test, loudly, where pods cannot run or a program is missing.
#[macro_export]
macro_rules! require {
    ($($program:literal),*) => {
        if let Some(why) = $crate::common::pods_impossible() {
            println!("SKIPPED: {why}");
            return;
        }
        $(if !$crate::common::on_path($program) {
            println!("SKIPPED: {} is not installed (scripts/packages.sh test)", $program);
            return;
        })*
    };
}

pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists())
    })
}

/// For how long a randomised test may look for trouble.
pub fn budget() -> Duration {
    Duration::from_secs(std::env::var("ENTROOS_TEST_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5))
}

/// A node of its own. Dropping it kills it, ends its pods and removes its directory.
pub struct Node {
    dir: tempfile::TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    pub url: String,
    pub token: String,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("entroos-test-").tempdir().unwrap();
        let mut node = Self {
            dir,
            child: None,
            extra: extra.iter().map(ToString::to_string).collect(),
            url: String::new(),
            token: String::new(),
        };
        node.up();
        node
    }

    /// A node that has the busybox image as `alpine:latest`.
    pub fn with_image() -> Self {
        let node = Self::start();
        node.ok(&["image", "import", hello_image().to_str().unwrap()]);
        node
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Starts the process and waits until it is ready.
    pub fn up(&mut self) {
        assert!(self.child.is_none());
        let _ = fs::remove_file(self.dir.path().join("run/api"));
        let log = File::options().create(true).append(true).open(self.dir.path().join("node.log")).unwrap();
        let child = Command::new(ENTROOS)
            .arg("node")
            .arg("--data-dir")
            .arg(self.dir.path())
            .args(["--api", "127.0.0.1:0"])
            .args(&self.extra)
            .env_remove("ENTROOS_SERVER")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        loop {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(exited.is_none(), "the node ended: {exited:?}\n{}", self.log());
            if let Ok(address) = fs::read_to_string(self.dir.path().join("run/api")) {
                self.url = format!("http://{}", address.trim());
                if self.curl(&["/readyz"]).status.success() {
                    break;
                }
            }
            assert!(start.elapsed() < SOON, "the node is not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.token = fs::read_to_string(self.dir.path().join("token")).unwrap().trim().to_string();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("node.log")).unwrap_or_default()
    }

    /// kill -9 of the node process alone; its pods live on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; returns how long the end took.
    pub fn stop(&mut self) -> Duration {
        let mut child = self.child.take().expect("the node runs");
        let start = Instant::now();
        signal(child.id(), "TERM");
        let status = child.wait().unwrap();
        assert!(status.success(), "the node ended with {status}\n{}", self.log());
        start.elapsed()
    }

    /// `entroos ARGS` as the node's operator (over the unix socket).
    pub fn entroos(&self, args: &[&str]) -> Output {
        Command::new(ENTROOS)
            .args(args)
            .env("ENTROOS_DATA_DIR", self.dir.path())
            .env_remove("ENTROOS_SERVER")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same, which must succeed; returns what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        text_of_success(&format!("entroos {args:?}"), &self.entroos(args), self)
    }

    /// `kubectl ARGS` over loopback without a credential.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with(args, "")
    }

    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Output {
        let home = self.dir.path().join("kubectl");
        fs::create_dir_all(&home).unwrap();
        let mut child = Command::new("kubectl")
            .args(["--server", &self.url])
            .args(args)
            .env("HOME", &home)
            .env("KUBECONFIG", home.join("none"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let text = stdin.to_string();
        let writer = std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    #[track_caller]
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        text_of_success(&format!("kubectl {args:?}"), &self.kubectl(args), self)
    }

    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        text_of_success("kubectl apply", &self.kubectl_with(&["apply", "-f", "-"], manifest), self)
    }

    /// POST of a pod as the operator, without kubectl.
    #[track_caller]
    pub fn apply_json(&self, manifest: &str) {
        let output = self.curl(&[
            "/api/v1/namespaces/default/pods",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/json",
            "-H",
            &format!("Authorization: Bearer {}", self.token),
            "-d",
            manifest,
        ]);
        text_of_success("POST pod", &output, self);
    }

    /// curl of a path with further arguments; `--fail-with-body` makes refusals failures.
    pub fn curl(&self, args: &[&str]) -> Output {
        let (path, rest) = args.split_first().expect("a path");
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60"])
            .args(rest)
            .arg(format!("{}{path}", self.url))
            .output()
            .unwrap()
    }

    /// GET as the operator.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let output = self.curl(&[path, "-H", &format!("Authorization: Bearer {}", self.token)]);
        let text = text_of_success(&format!("GET {path}"), &output, self);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
    }

    pub fn pod(&self, name: &str) -> Value {
        self.json(&format!("/api/v1/namespaces/default/pods/{name}"))
    }

    /// Waits until `seen` holds of the pod, or says what it was last.
    #[track_caller]
    pub fn wait_pod(&self, name: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = eventually(SOON, || {
            last = self.pod(name);
            seen(&last)
        });
        assert!(
            found,
            "pod {name} is not {what}: {:#}\nevents: {}\n{}",
            last["status"],
            String::from_utf8_lossy(&self.entroos(&["pod", "describe", name]).stdout),
            self.log()
        );
        last
    }

    #[track_caller]
    pub fn wait_phase(&self, name: &str, phase: &str) -> Value {
        self.wait_pod(name, phase, |pod| pod["status"]["phase"] == phase)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the node ---\n{}", self.log().lines().rev().take(60).collect::<Vec<_>>().join("\n"));
        }
        if self.child.is_some() {
            self.kill();
        }
        end_sandboxes(self.dir.path());
    }
}

/// Ends whatever pods a dead node left: its shims and the processes in its cgroups.
pub fn end_sandboxes(dir: &Path) {
    let Ok(pods) = fs::read_dir(dir.join("pods")) else { return };
    for pod in pods.flatten() {
        let Ok(text) = fs::read_to_string(pod.path().join("shim.json")) else { continue };
        let uid = pod.file_name().to_string_lossy().into_owned();
        let cgroups = cgroups_of(&uid);
        for cgroup in &cgroups {
            for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
                signal(pid.parse().unwrap(), "KILL");
            }
        }
        if let Some(pid) = serde_json::from_str::<Value>(&text).ok().and_then(|shim| shim["pid"].as_u64()) {
            let named = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if named.contains("sandbox-init") {
                signal(u32::try_from(pid).unwrap(), "KILL");
            }
        }
        for _ in 0..20 {
            let left: Vec<_> = cgroups_of(&uid);
            if left.is_empty() {
                break;
            }
            for cgroup in left.iter().rev() {
                let _ = fs::remove_dir(cgroup);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// All cgroups of any hierarchy whose path names `uid`, parents first.
pub fn cgroups_of(uid: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue: Vec<PathBuf> = vec!["/sys/fs/cgroup".into()];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.path().to_string_lossy().contains(uid) {
                    found.push(entry.path());
                }
                queue.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

#[track_caller]
fn text_of_success(what: &str, output: &Output, node: &Node) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{text}{}\n--- node ---\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        node.log().lines().rev().take(20).collect::<Vec<_>>().join("\n")
    );
    text
}

/// Everything a program printed, both ways.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asks again until `condition` holds or `limit` has passed.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// A small image made from the system's static busybox, tagged `alpine:latest`; made once per test binary.
pub fn hello_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hello-{}.tar", std::process::id()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hello-image.sh");
        assert!(Command::new(script).arg(&path).status().unwrap().success());
        path
    })
}

/// A pod that runs a shell command in the busybox image and is not restarted.
pub fn shell_pod(name: &str, command: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "c", "image": "alpine:latest", "command": ["sh", "-c", command]}]}
    })
    .to_string()
}

/// The path of a file that holds `text`, inside the node's directory.
pub fn file(node: &Node, name: &str, text: &str) -> String {
    let path = node.dir().join(name);
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}
