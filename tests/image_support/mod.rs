//! Images made by hand.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

pub fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A plain tar of files and the directories above them.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in files {
        if let Some((above, _)) = path.rsplit_once('/') {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, above, std::io::empty()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        builder.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut &bytes[..], &mut out).unwrap();
    out.finish().unwrap()
}

pub fn config(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| sha256(l)).collect();
    serde_json::to_vec(&json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/hello"], "Env": ["A=1"], "Volumes": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap()
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        builder.append_data(&mut header, path, body.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// As `docker save` wrote it for years: the second layer of a name is a link.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<_> = (0..layers.len()).map(|i| format!("{i:064}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    let mut files = vec![
        ("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap()),
        ("config.json".to_owned(), config(layers, ARCH)),
    ];
    files.extend(names.into_iter().zip(layers.iter().cloned()));
    tar_of(&files)
}

/// An OCI layout in the making.
#[derive(Clone, Default)]
pub struct Layout {
    pub blobs: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn blob(&mut self, bytes: Vec<u8>) -> (String, usize) {
        let (digest, size) = (sha256(&bytes), bytes.len());
        self.blobs.push((digest.clone(), bytes));
        (digest, size)
    }

    /// Adds an image of gzip layers; returns the descriptor of its manifest.
    pub fn image(&mut self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let (config_digest, config_size) = self.blob(config(layers, architecture));
        let layers: Vec<_> = layers
            .iter()
            .map(|l| {
                let (digest, size) = self.blob(gzip(l));
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size},
            "layers": layers,
        });
        let (digest, size) = self.blob(serde_json::to_vec(&manifest).unwrap());
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size})
    }

    /// Adds an index of images for several machines; returns its descriptor.
    pub fn index(&mut self, images: &[(Value, &str)]) -> Value {
        let manifests: Vec<_> = images
            .iter()
            .map(|(descriptor, architecture)| {
                let mut descriptor = descriptor.clone();
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .collect();
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
        let (digest, size) = self.blob(serde_json::to_vec(&index).unwrap());
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size})
    }

    /// Names a descriptor in the layout's index.
    pub fn name(&mut self, mut descriptor: Value, name: Option<&str>) {
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        ];
        files.extend(self.blobs.iter().map(|(d, b)| (format!("blobs/{}", d.replacen(':', "/", 1)), b.clone())));
        files
    }

    pub fn tar(&self) -> Vec<u8> {
        tar_of(&self.files())
    }

    pub fn write(&self, dir: &Path) {
        for (path, body) in self.files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, body).unwrap();
        }
    }
}

/// Debian's registry on a free port, serving over plain HTTP. `None`, loudly, where it is not installed.
pub struct Registry {
    process: std::process::Child,
    pub address: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    pub fn start() -> Option<Self> {
        if std::process::Command::new("docker-registry").arg("--version").output().is_err() {
            eprintln!("SKIPPED: docker-registry is not installed");
            return None;
        }
        // Another process may take the port between our look and the registry's start: then once more.
        (0..5).find_map(|_| Self::start_once())
    }

    fn start_once() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            dir.path().join("data").display()
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while process.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(&address).is_ok() {
                return Some(Self { process, address, dir });
            }
            std::thread::yield_now();
        }
        None
    }

    /// Pushes a whole layout's blobs, and one manifest under a name.
    pub async fn push(&self, layout: &Layout, repository: &str, tag: &str, manifest: &Value) {
        let base = format!("http://{}/v2/{repository}", self.address);
        let manifests = layout.blobs.iter().filter(|(_, b)| b.starts_with(b"{") && is_manifest(b));
        for (digest, bytes) in &layout.blobs {
            let started = http("POST", &format!("{base}/blobs/uploads/"), "", b"").await;
            let location = started.header("location");
            let joiner = if location.contains('?') { '&' } else { '?' };
            let put =
                http("PUT", &format!("{location}{joiner}digest={digest}"), "application/octet-stream", bytes).await;
            assert_eq!(put.status, 201, "{put:?}");
        }
        // What an index names must be there before it: images first.
        let mut manifests: Vec<_> = manifests.collect();
        manifests.sort_by_key(|(_, b)| serde_json::from_slice::<Value>(b).unwrap()["manifests"].is_array());
        for (digest, bytes) in manifests {
            let kind = serde_json::from_slice::<Value>(bytes).unwrap()["mediaType"].as_str().unwrap().to_owned();
            for name in [digest.as_str()].into_iter().chain((manifest["digest"] == digest.as_str()).then_some(tag)) {
                let put = http("PUT", &format!("{base}/manifests/{name}"), &kind, bytes).await;
                assert_eq!(put.status, 201, "{put:?}");
            }
        }
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

fn is_manifest(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|v| v["schemaVersion"] == 2)
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
}

impl Response {
    fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned()).next().unwrap_or_default()
    }
}

/// As much HTTP as pushing takes.
async fn http(method: &str, url: &str, kind: &str, body: &[u8]) -> Response {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head }
}

/// What a [`Faulty`] registry does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Breaks off the first answer with a layer in the middle.
    TruncateOnce,
    /// Breaks off so once, and then knows no ranges.
    TruncateOnceNoRanges,
    /// Breaks off every answer with a layer at once.
    TruncateAlways,
    /// One byte of each layer is another.
    Lie,
    /// Layers have more bytes than announced.
    TooLong,
    /// The manifest has no end.
    EndlessManifest,
    Unauthorised,
    RateLimit,
}

/// A registry made of a layout, with faults.
pub struct Faulty {
    pub address: String,
    /// Answers with a layer so far.
    pub layers_sent: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Faulty {
    pub async fn start(layout: Layout, manifest: Value, fault: Fault) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let layers_sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (layout, count) = (std::sync::Arc::new(layout), layers_sent.clone());
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(answer(stream, layout.clone(), manifest.clone(), fault, count.clone()));
            }
        });
        Self { address, layers_sent, server }
    }
}

async fn answer(
    mut stream: tokio::net::TcpStream,
    layout: std::sync::Arc<Layout>,
    manifest: Value,
    fault: Fault,
    count: std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let name = path.rsplit('/').next().unwrap();
    let refuse = match fault {
        Fault::Unauthorised => Some("401 Unauthorized"),
        Fault::RateLimit => Some("429 Too Many Requests"),
        _ => None,
    };
    if let Some(status) = refuse.filter(|_| path != "/v2/") {
        let _ = stream
            .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
        return;
    }
    if fault == Fault::EndlessManifest && path.contains("/manifests/") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        while stream.write_all(&[b' '; 8192]).await.is_ok() {}
        return;
    }
    let wanted =
        if path.contains("/manifests/") && !name.contains(':') { manifest["digest"].as_str().unwrap() } else { name };
    let Some((_, body)) = layout.blobs.iter().find(|(d, _)| d == wanted) else {
        let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
        let _ = stream
            .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
        return;
    };
    let mut body = body.clone();
    let mut status = "200 OK";
    let is_layer = body.starts_with(&[0x1f, 0x8b]);
    let ranges = fault != Fault::TruncateOnceNoRanges;
    let range = request.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    if let Some(start) = range.and_then(|r| r.trim_end_matches('-').parse::<usize>().ok()).filter(|_| ranges) {
        body.drain(..start);
        status = "206 Partial Content";
    }
    let nth = if is_layer { count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) } else { 0 };
    let mut send = body.len();
    match fault {
        Fault::Lie if is_layer => body[20] ^= 1,
        Fault::TooLong if is_layer => body.extend_from_slice(b"more"),
        Fault::TruncateOnce | Fault::TruncateOnceNoRanges if is_layer && nth == 0 => send /= 2,
        Fault::TruncateAlways if is_layer => send = 0,
        _ => {}
    }
    send = if fault == Fault::TooLong { body.len() } else { send };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body[..send]).await;
}
