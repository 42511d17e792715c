//! A node's API without containers, and a client that says exactly what a test wants said.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use entroos::api::{self, Api};
use entroos::base::key::NodeKey;
use entroos::base::scope::Scope;
use entroos::base::seal::SealKey;
use entroos::base::{Millicores, NodeId, Uid, UnixMillis};
use entroos::container::image::{self, Images};
use entroos::container::logs;
use entroos::ledger;
use entroos::math::fixed::Fx;
use entroos::orchestrator::client::{Client, Machine};
use entroos::orchestrator::object::{
    self, Capacity, ContainerState, ContainerStatus, NodeInfo, Phase, PodStatus, Policy, Ready, Terminated,
};
use entroos::orchestrator::{Command, Key, Principal};
use entroos::store::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};

pub const TOKEN: &str = "a-token-of-this-test";
pub const BODY_MAX: usize = 64 * 1024;
pub const CONNECTIONS_MAX: usize = 8;
pub const WATCHES_MAX: usize = 5;
/// The specification's first app.
pub const POD: &str = r#"{"metadata":{"name":"hello-entroos"},"spec":{"containers":[{"name":"hello","image":"alpine:latest","command":["echo","Hello, EntroOS!"]}]}}"#;
const WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub enum Via {
    Tcp,
    Unix,
}

pub struct Node {
    pub dir: TempDir,
    pub address: SocketAddr,
    pub client: Client,
    id: NodeId,
    scope: Scope,
}

/// A pod whose container's log and status the test writes.
pub struct Played {
    client: Client,
    node: NodeId,
    key: Key,
    uid: Uid,
    dir: PathBuf,
}

impl Played {
    /// Lines that attempt `attempt` prints.
    pub fn write(&self, attempt: u32, lines: &[&str]) {
        let path = logs::file(&self.dir, "c", attempt);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for line in lines {
            file.write_all(format!("2026-01-01T00:00:00.000000001Z stdout F {line}\n").as_bytes()).unwrap();
        }
    }

    /// Attempt `attempt` runs, or has ended with a status.
    pub async fn report(&self, attempt: u32, exit: Option<i32>) {
        let over = exit == Some(0);
        let state = match exit {
            None => ContainerState::Running { since: UnixMillis(1) },
            Some(exit_code) => ContainerState::Terminated(Terminated {
                exit_code,
                signal: 0,
                reason: String::new(),
                message: String::new(),
                started: UnixMillis(1),
                finished: UnixMillis(2),
            }),
        };
        let container = ContainerStatus {
            name: "c".into(),
            state,
            last: None,
            restarts: attempt,
            image: "i".into(),
            image_id: String::new(),
            id: format!("entroos://{}/c/{attempt}", self.uid),
            ready: exit.is_none(),
        };
        let phase = if over { Phase::Succeeded } else { Phase::Running };
        let status = PodStatus { phase, containers: vec![container], ..PodStatus::default() };
        let report = Command::ReportPod { key: self.key.clone(), uid: self.uid, status, notes: Vec::new() };
        self.client.submit(Principal::Node(self.node), &report).await.unwrap();
    }
}

pub struct Reply {
    pub code: u16,
    pub headers: hyper::HeaderMap,
    body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The document; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Node {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let scope = Scope::default();
        let key = NodeKey::load_or_create(&path.join("node.key")).unwrap();
        let node = key.id();
        let engine = Engine::open(&path.join("state")).unwrap();
        let limits = ledger::Config { blocks_kept: 100, commands_max: 1000 };
        let client = Client::new(ledger::spawn(Machine::default(), engine, key, limits, &scope).unwrap());
        let layer_max = entroos::base::Bytes(1 << 20);
        let images = Images::open(image::Config { data_dir: path.into(), layer_max }).unwrap();
        std::fs::create_dir_all(path.join("run")).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = std::os::unix::net::UnixListener::bind(path.join("run/api.sock")).unwrap();
        let address = tcp.local_addr().unwrap();
        let api = Api {
            client: client.clone(),
            images,
            runtime: None,
            runtime_problem: Some("there is no runtime in this test".into()),
            seal: SealKey::load_or_create(&path.join("seal.key")).unwrap(),
            node,
            node_name: "test".into(),
            data_dir: path.into(),
            token: Arc::from(TOKEN),
            net: "not listening".into(),
            version: "0.0.0-test",
            config: api::Config { body_max: BODY_MAX, connections_max: CONNECTIONS_MAX, watches_max: WATCHES_MAX },
        };
        api::spawn(api, tcp, unix, &scope).unwrap();
        let node = Self { dir, address, client, id: node, scope };
        node.founded().await;
        node
    }

    /// Waits for what every chain starts with.
    async fn founded(&self) {
        let key = entroos::orchestrator::Key::namespace("default");
        let mut snapshots = self.client.watch();
        let found = snapshots.wait_for(|snapshot| snapshot.state.get(&key).is_some());
        tokio::time::timeout(WAIT, found).await.expect("the namespace `default` comes by itself").unwrap();
    }

    pub fn revision(&self) -> u64 {
        self.client.snapshot().state.revision()
    }

    pub async fn stop(self) -> TempDir {
        self.scope.shutdown().await;
        self.dir
    }

    pub async fn ask(&self, via: Via, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let asked = async {
            let response = self.send(via, method, path, headers, body).await;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { code: parts.status.as_u16(), headers: parts.headers, body }
        };
        tokio::time::timeout(WAIT, asked).await.unwrap_or_else(|_| panic!("{method} {path} is not answered"))
    }

    /// A pod that the scheduler put on this node, whose container `c` the test plays.
    pub async fn assigned_pod(&self, name: &str, restart_policy: &str) -> Played {
        let capacity =
            Capacity { cpu: Millicores(4000), memory: entroos::base::Bytes(1 << 32), pods: 10, bandwidth: 0 };
        let node = object::Node {
            id: self.id,
            seal_key: [0; 32],
            unschedulable: false,
            ready: Ready { ready: true, reason: String::new(), message: String::new(), since: UnixMillis(0) },
            capacity,
            allocatable: capacity,
            policy: Policy::default(),
            info: NodeInfo::default(),
            address: "127.0.0.1".into(),
            classes: BTreeMap::default(),
            stake: 1_000_000,
            reliability: Fx::ONE,
        };
        let register = Command::RegisterNode { name: "test".into(), node, labels: BTreeMap::default() };
        self.client.submit(Principal::Node(self.id), &register).await.unwrap();
        let pod = serde_json::json!({"metadata": {"name": name}, "spec": {"restartPolicy": restart_policy,
            "containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(self.ask(Via::Tcp, "POST", "/api/v1/pods", &[], &pod.to_string()).await.code, 201);
        let key = Key::pod("default", name);
        let mut snapshots = self.client.watch();
        let placed = snapshots.wait_for(|snapshot| {
            snapshot.state.get(&key).and_then(|o| o.as_pod()).is_some_and(|pod| pod.spec.node_name == "test")
        });
        let placed = tokio::time::timeout(WAIT, placed).await.expect("the pod is placed").unwrap();
        let uid = placed.state.get(&key).unwrap().meta.uid;
        drop(placed);
        let dir = logs::pod_dir(self.dir.path(), "default", name, &uid);
        Played { client: self.client.clone(), node: self.id, key, uid, dir }
    }

    pub async fn stream(&self, path: &str) -> Lines {
        self.stream_with(Via::Tcp, path, &[]).await
    }

    pub async fn stream_with(&self, via: Via, path: &str, headers: &[(&str, &str)]) -> Lines {
        let response = self.send(via, "GET", path, headers, "").await;
        assert_eq!(response.status(), 200, "{path}");
        Lines { body: response.into_body(), text: Vec::new() }
    }

    async fn send(
        &self,
        via: Via,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> hyper::Response<Incoming> {
        let mut request = hyper::Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", format!("localhost:{}", self.address.port()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        match via {
            Via::Tcp => exchange(tokio::net::TcpStream::connect(self.address).await.unwrap(), request).await,
            Via::Unix => {
                let path = self.dir.path().join("run/api.sock");
                exchange(tokio::net::UnixStream::connect(path).await.unwrap(), request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: hyper::Request<Full<Bytes>>) -> hyper::Response<Incoming>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// A body that comes line by line.
pub struct Lines {
    body: Incoming,
    text: Vec<u8>,
}

impl Lines {
    /// The next line as it stands.
    pub async fn text_line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(WAIT, self.raw()).await.expect("a line comes")?;
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }

    async fn raw(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.text.iter().position(|&byte| byte == b'\n') {
                return Some(self.text.drain(..=end).collect());
            }
            let frame = self.body.frame().await?.expect("the body is whole");
            if let Ok(data) = frame.into_data() {
                self.text.extend_from_slice(&data);
            }
        }
    }

    /// The next line; `None` once the body has ended as it should.
    pub async fn line(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(WAIT, self.raw()).await.expect("a line comes")?;
        Some(serde_json::from_slice(&line).unwrap())
    }

    /// The next line's type and the name of its object.
    pub async fn event(&mut self) -> (String, String) {
        let line = self.line().await.expect("the stream goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&line["type"]), text(&line["object"]["metadata"]["name"]))
    }
}

/// The files below `dir` that hold these bytes.
pub fn files_with(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), needle));
        } else if kind.is_file() && std::fs::read(entry.path()).unwrap().windows(needle.len()).any(|w| w == needle) {
            found.push(entry.path());
        }
    }
    found
}
