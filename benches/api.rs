//! What a user of one node feels: apply to running through the API, idle memory, idle CPU.
//!
//! Drives the real binary on a directory and a port of its own, as root (pods need it). Prints each figure beside its
//! target and fails where a pod does not run; a missed target is printed, not hidden.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PODS: usize = 50;
const IDLE: Duration = Duration::from_secs(10);
const RUNNING_WITHIN: Duration = Duration::from_secs(30);

fn main() {
    // `cargo test --benches` runs it to see that it starts; the measurement is `cargo bench`'s.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("benches/api: skipped: pods run as root only (sudo cargo bench)");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::start(dir.path());
    println!(
        "entroos, {} build",
        if cfg!(debug_assertions) { "dev (figures of a release build are better)" } else { "release" }
    );
    let (rss, cpu) = node.idle();
    println!("idle RSS                  {:>8.1} MB   (target < 40 MB)", rss as f64 / 1e6);
    println!("idle PSS, with zygote     {:>8.1} MB   (what is shared counts once)", node.proportional() as f64 / 1e6);
    println!("idle CPU                  {:>8.2} %    (target < 0.5 % of a core)", cpu * 100.0);

    node.import(&busybox_image(dir.path()));
    let mut watch = node.watch();
    // One pod warms what is made once (the unpacked layer, page cache).
    node.apply_to_running(&mut watch, "warm");
    let mut times: Vec<Duration> = (0..PODS).map(|i| node.apply_to_running(&mut watch, &format!("pod-{i}"))).collect();
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("apply to running, p50     {:>8.1} ms   (target < 100 ms, {PODS} pods one by one)", at(50));
    println!("apply to running, p90     {:>8.1} ms", at(90));
    println!("apply to running, p99     {:>8.1} ms", at(99));
    let (rss, cpu) = node.idle();
    println!("node's RSS with {} pods   {:>8.1} MB", PODS + 1, rss as f64 / 1e6);
    println!(
        "PSS of all with {} pods   {:>8.1} MB   (node, zygote and the pods' shims)",
        PODS + 1,
        node.proportional() as f64 / 1e6
    );
    println!("CPU with {} idle pods     {:>8.2} %", PODS + 1, cpu * 100.0);
    node.delete_all();
}

/// A node of its own; ended with the bench, whatever happens.
struct Node {
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(dir: &Path) -> Self {
        let log = fs::File::create(dir.join("node.log")).expect("the node's log");
        let data = dir.join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_entroos"));
        command.args(["node", "--api", "127.0.0.1:0", "--data-dir"]).arg(&data).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a descriptor")).stderr(log).spawn().expect("start the node");
        let mut node = Self { child, address: String::new(), dir: data };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(address) = fs::read_to_string(node.dir.join("run/api")) {
                address.trim().clone_into(&mut node.address);
                if !node.address.is_empty() && node.get("/readyz").is_some() {
                    return node;
                }
            }
            let ended = node.child.try_wait().expect("the node's state");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the node does not come up: {}",
                fs::read_to_string(dir.join("node.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn token(&self) -> String {
        fs::read_to_string(self.dir.join("token")).unwrap_or_default().trim().to_owned()
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(2))).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            self.token(),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        Some(stream)
    }

    /// The whole answer where it is a success.
    fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<String, String> {
        let mut answer = String::new();
        let mut stream = self.send(method, path, content_type, body).ok_or("cannot connect")?;
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        if answer.starts_with("HTTP/1.1 2") { Ok(answer) } else { Err(answer) }
    }

    fn get(&self, path: &str) -> Option<String> {
        self.ask("GET", path, "application/json", b"").ok()
    }

    fn import(&self, archive: &[u8]) {
        let path = "/entroos/v1/images/import?tag=bench:latest";
        self.ask("POST", path, "application/x-tar", archive).expect("import the image");
    }

    /// Every change of a pod, as it is committed.
    fn watch(&self) -> BufReader<TcpStream> {
        let path = "/api/v1/namespaces/default/pods?watch=true";
        let stream = self.send("GET", path, "application/json", b"").expect("watch");
        BufReader::new(stream)
    }

    /// From the request to the moment a watcher sees the pod run.
    fn apply_to_running(&self, watch: &mut BufReader<TcpStream>, name: &str) -> Duration {
        let pod = json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "bench:latest", "command": ["/bin/busybox", "sleep", "100000"]}]}});
        let path = "/api/v1/namespaces/default/pods";
        let begun = Instant::now();
        self.ask("POST", path, "application/json", pod.to_string().as_bytes()).expect("create the pod");
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(watch.read_line(&mut line).expect("the watch"), 0, "the watch ended");
            // Headers and the sizes of chunks stand between the events.
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let object = &event["object"];
            if object["metadata"]["name"] == name && object["status"]["phase"] == "Running" {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < RUNNING_WITHIN, "{name} does not run: {}", object["status"]);
        }
    }

    /// Resident bytes, and the share of a core used over ten seconds in which nothing is asked.
    fn idle(&self) -> (u64, f64) {
        // What has just been asked may still be at work.
        std::thread::sleep(Duration::from_secs(2));
        let before = self.cpu_ticks();
        std::thread::sleep(IDLE);
        let ticks = self.cpu_ticks() - before;
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        (self.resident(), ticks as f64 / per_second as f64 / IDLE.as_secs_f64())
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the node's /proc")
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The name may hold spaces; the fields after it do not. utime and stime are the 14th and 15th of all.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).expect("kilobytes") * 1024
    }

    /// Bytes of the node, its zygote and the shims of its pods, shared pages divided among who shares them.
    fn proportional(&self) -> u64 {
        let dir = self.dir.to_string_lossy().into_owned();
        let ours = |process: &Path| {
            fs::read(process.join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&dir))
        };
        let pss = |process: PathBuf| {
            let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
        processes.filter(|process| ours(process)).filter_map(pss).sum::<u64>() * 1024
    }

    /// Deletes the pods and waits until they are gone, so that nothing is left of them.
    fn delete_all(&mut self) {
        for i in 0..PODS {
            let _ = self.ask("DELETE", &format!("/api/v1/namespaces/default/pods/pod-{i}"), "application/json", b"");
        }
        let _ = self.ask("DELETE", "/api/v1/namespaces/default/pods/warm", "application/json", b"");
        let deadline = Instant::now() + Duration::from_mins(2);
        while Instant::now() < deadline {
            let list = self.get("/api/v1/namespaces/default/pods").unwrap_or_default();
            if list.contains("\"items\":[]") {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("warning: some pods are not gone after 120 s");
    }
}

/// A `docker save` archive of one layer: the system's static busybox.
fn busybox_image(dir: &Path) -> Vec<u8> {
    let root = dir.join("image");
    fs::create_dir_all(root.join("root/bin")).expect("the image's directory");
    fs::copy("/bin/busybox", root.join("root/bin/busybox")).expect("/bin/busybox (package busybox-static)");
    let layer = tar(&root.join("root"), "bin");
    let digest = sha256(&layer);
    let config = json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/busybox", "sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}})
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{"Config": name, "RepoTags": ["bench:latest"], "Layers": ["layer.tar"]}]).to_string();
    let archive = root.join("archive");
    fs::create_dir_all(&archive).expect("the archive's directory");
    fs::write(archive.join("layer.tar"), layer).expect("the layer");
    fs::write(archive.join(name), config).expect("the configuration");
    fs::write(archive.join("manifest.json"), manifest).expect("the manifest");
    tar(&archive, ".")
}

fn tar(dir: &Path, what: &str) -> Vec<u8> {
    let output = Command::new("tar").args(["--owner=0", "--group=0", "-C"]).arg(dir).args(["-c", what]).output();
    output.expect("tar").stdout
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    entroos::base::id::hex(&sha2::Sha256::digest(bytes))
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
