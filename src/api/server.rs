//! skeleton
use crate::base::{NodeId, scope::Scope, seal::SealKey};
use crate::container::{image::Images, runtime::Runtime};
use crate::orchestrator::client::Client;
use std::path::PathBuf;
use std::sync::Arc;

/// Limits of the door.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most bytes of a request body.
    pub body_max: usize,
    pub connections_max: usize,
    pub watches_max: usize,
}

/// What the API stands on.
#[derive(Clone)]
pub struct Api {
    pub client: Client,
    pub images: Images,
    /// `None`: pods cannot run here; `runtime_problem` says why.
    pub runtime: Option<Runtime>,
    pub runtime_problem: Option<String>,
    pub seal: SealKey,
    pub node: NodeId,
    pub node_name: String,
    pub data_dir: PathBuf,
    /// Bearer token that makes the bearer the operator.
    pub token: Arc<str>,
    /// What `status` says of `--net`.
    pub net: String,
    pub version: &'static str,
    pub config: Config,
}

/// Serves on a TCP listener (loopback; principal `Local`, or `Operator` with the token) and on a unix socket (peer
/// credentials: uid 0 or the node's own is `Operator`, else `Local`).
pub fn spawn(
    _api: Api,
    _tcp: std::net::TcpListener,
    _unix: std::os::unix::net::UnixListener,
    _scope: &Scope,
) -> std::io::Result<()> {
    todo!()
}
