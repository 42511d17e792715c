//! One node: configuration, start and stop of every subsystem, the agent that makes this node match its assignments.
//!
//! Invariant: subsystems start in the order of `start` and stop in reverse; containers outlive them all.

pub mod agent;
pub mod config;
mod detect;
mod directory;
mod memory;
pub mod value;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use self::agent::history::Backoff;
use self::agent::process::Bounds;
use self::config::Config;
use self::directory::Directory;
use self::value::LogFormat;
use crate::api;
use crate::base::key::NodeKey;
use crate::base::scope::Scope;
use crate::base::seal::SealKey;
use crate::container::image::{self, Images};
use crate::container::runtime::{self, Runtime};
use crate::ledger;
use crate::orchestrator::client::{Client, Machine};
use crate::orchestrator::object::{Body, Node};
use crate::orchestrator::{Command, Kind, Principal};
use crate::store::Engine;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the node until SIGTERM or SIGINT, or until a subsystem fails.
pub fn run(config: Config) -> anyhow::Result<()> {
    memory::few_heaps();
    log(&config)?;
    raise_file_limit();
    // More threads would mostly cost memory: the work is in the kernel and in the shims.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(2));
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    let result = tokio.block_on(serve(config));
    // What is still blocked in a system call must not hold up the stop.
    tokio.shutdown_timeout(Duration::from_millis(300));
    result
}

fn log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(&config.log.level).context("log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.log.format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().try_init(),
    };
    // Tests may run several nodes in one process: the first one's logging stands.
    if set.is_err() {
        tracing::debug!("logging was set up before");
    }
    Ok(())
}

/// Each pod costs the node a few descriptors; the usual soft limit of 1,024 would be reached by some hundred pods.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED.min(hard)
        && let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, WANTED.min(hard), hard)
    {
        tracing::warn!("the limit of open files stays at {soft}: {e}");
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut scopes = Scopes::default();
    let started = tokio::select! {
        started = start(config, &mut scopes) => started,
        // Asked to stop while starting: whatever runs already is stopped in order.
        _ = terminate.recv() => return stop(scopes, None).await,
        _ = interrupt.recv() => return stop(scopes, None).await,
    };
    let directory = match started {
        Ok(directory) => directory,
        Err(error) => {
            let _ = stop(scopes, None).await;
            return Err(error);
        }
    };
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        name = scopes.ended() => Some(name),
    };
    stop(scopes, Some(&directory)).await?;
    match failed {
        Some(name) => anyhow::bail!("the {name} has failed (see the log above), so the node stopped"),
        None => Ok(()),
    }
}

/// One scope a subsystem, in the order they start.
#[derive(Default)]
struct Scopes {
    ledger: Scope,
    container: Scope,
    agent: Scope,
    api: Scope,
}

impl Scopes {
    /// Resolves with the name of the first subsystem that ended by itself.
    async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.ledger.stopped() => "ledger",
            () = self.container.stopped() => "container runtime",
            () = self.agent.stopped() => "agent",
            () = self.api.stopped() => "API",
        }
    }
}

async fn stop(scopes: Scopes, directory: Option<&Directory>) -> anyhow::Result<()> {
    if let Some(directory) = directory {
        tracing::info!("stopping; containers run on");
        directory.withdraw_address();
    }
    let order = [
        ("API", scopes.api, 1800),
        ("agent", scopes.agent, 1000),
        ("container runtime", scopes.container, 500),
        ("ledger", scopes.ledger, 1000),
    ];
    for (name, scope, limit_ms) in order {
        if tokio::time::timeout(Duration::from_millis(limit_ms), scope.shutdown()).await.is_err() {
            tracing::warn!("the {name} did not stop within {limit_ms} ms and is cut short");
        }
    }
    Ok(())
}

/// Starts every subsystem and returns when the node serves.
async fn start(config: Config, scopes: &mut Scopes) -> anyhow::Result<Directory> {
    let directory = Directory::open(&config.data_dir)?;
    let path = directory.path().to_owned();
    let key = NodeKey::load_or_create(&path.join("node.key")).context("the node's key, node.key")?;
    let seal = SealKey::load_or_create(&path.join("seal.key")).context("the node's seal key, seal.key")?;
    let token: Arc<str> = directory.token()?.into();
    let id = key.id();
    // Doors first: a port that is taken must not cost a registration.
    let (tcp, unix, addr) = doors(&config, &directory)?;

    let engine = Engine::open(&path.join("state")).context("the store, state/")?;
    let settings = ledger::Config { blocks_kept: config.ledger.blocks_kept, commands_max: config.ledger.commands_max };
    let handle = ledger::spawn(Machine {}, engine, key, settings, &scopes.ledger).context("the ledger")?;
    let client = Client::new(handle);
    let images = Images::open(image::Config { data_dir: path.clone(), layer_max: config.images.layer_max })
        .context("the images, images/")?;
    let runtime = start_runtime(&path, &id.short(), &scopes.container).await;
    if let Err(problem) = &runtime {
        tracing::warn!("pods cannot run on this node: {problem}");
    }

    let name = node_name(&config, &client, id)?;
    let address = if config.node.address.is_empty() { detect::address() } else { config.node.address.clone() };
    let node = detect::node(&config, id, seal.public(), &address, runtime.as_ref().err().map(String::as_str));
    let allocatable = node.allocatable;
    let policy = node.policy;
    register(&client, &config, &name, node).await?;

    let problem = runtime.as_ref().err().cloned();
    agent::spawn(
        agent::Agent {
            client: client.clone(),
            images: images.clone(),
            runtime: runtime.clone(),
            seal: seal.clone(),
            node: id,
            node_name: name.clone(),
            address,
            allocatable,
            data_dir: path.clone(),
            config: agent_config(&config, policy),
        },
        &scopes.agent,
    );
    let served = api::Api {
        client,
        images,
        runtime: runtime.ok(),
        runtime_problem: problem,
        seal,
        node: id,
        node_name: name.clone(),
        data_dir: path.clone(),
        token,
        net: format!("not listening on {}: links between nodes come in a later version", config.net.addr),
        version: VERSION,
        config: api::Config {
            body_max: usize::try_from(config.api.body_max.0).unwrap_or(usize::MAX),
            connections_max: config.api.connections_max,
            watches_max: config.api.watches_max,
        },
    };
    api::spawn(served, tcp, unix, &scopes.api).context("the API")?;
    directory.publish_address(addr)?;
    println!("entroos {VERSION} serves on http://{addr} as node {name}, data in {}, id {id}", path.display());
    Ok(directory)
}

/// Binds what the API serves on.
fn doors(config: &Config, directory: &Directory) -> anyhow::Result<(TcpListener, UnixListener, SocketAddr)> {
    let addr = config.api.addr;
    let tcp = TcpListener::bind(addr).with_context(|| {
        format!("cannot listen on {addr} (--api or api.addr in node.toml chooses another; port 0 takes a free one)")
    })?;
    tcp.set_nonblocking(true)?;
    let addr = tcp.local_addr()?;
    let unix = directory.socket()?;
    unix.set_nonblocking(true)?;
    Ok((tcp, unix, addr))
}

/// The runtime, or why there is none: the node serves its API all the same.
async fn start_runtime(data_dir: &std::path::Path, cgroup: &str, scope: &Scope) -> Result<Runtime, String> {
    let program = std::env::current_exe().map_err(|e| format!("the program's own file cannot be found: {e}"))?;
    let config = runtime::Config { data_dir: data_dir.to_owned(), cgroup: cgroup.to_owned(), program };
    Runtime::start(config, scope).await.map_err(|e| agent::chain(&e))
}

fn agent_config(config: &Config, policy: crate::orchestrator::object::Policy) -> agent::Config {
    let pods = &config.pods;
    agent::Config {
        policy,
        bounds: Bounds { log_max: pods.log_max, log_files_max: pods.log_files, pids: pods.pids_default },
        backoff: Backoff {
            base: pods.backoff_base * 1000,
            cap: pods.backoff_cap * 1000,
            reset: pods.backoff_reset * 1000,
        },
        starts_parallel: pods.starts_parallel,
        pulls_parallel: config.images.pull_parallel,
        // Pods that are ending or have ended count no more for the scheduler, but their workers are still here.
        workers_max: usize::try_from(config.resources.pods).unwrap_or(10_000).saturating_mul(4).max(1024),
    }
}

/// The configured name, else the one this node was registered by, else the host's.
fn node_name(config: &Config, client: &Client, id: crate::base::NodeId) -> anyhow::Result<String> {
    let snapshot = client.snapshot();
    let registered = snapshot.state.list(Kind::Node, None).find_map(|object| match &object.body {
        Body::Node(node) if node.id == id => Some(object.meta.name.clone()),
        _ => None,
    });
    let wanted = &config.node.name.0;
    match registered {
        // Another name than before is refused by the state machine where pods are still assigned to the old one.
        _ if !wanted.is_empty() => Ok(wanted.clone()),
        Some(name) => Ok(name),
        None => detect::host_name().context(
            "the host's name cannot name a node: set node.name in node.toml (lower-case letters, digits, '-', '.')",
        ),
    }
}

async fn register(client: &Client, config: &Config, name: &str, node: Node) -> anyhow::Result<()> {
    let principal = Principal::Node(node.id);
    let labels = detect::labels(config, name);
    let command = Command::RegisterNode { name: name.to_owned(), node, labels };
    client.submit(principal, &command).await.context("the node cannot register itself")?;
    Ok(())
}
