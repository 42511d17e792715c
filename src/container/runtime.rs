//! Sandboxes on this node, as the agent and the API hold them.

use super::spec::{ContainerRecord, ContainerSpec, ExecSpec, SandboxSpec};
use crate::base::{Uid, scope::Scope};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pods cannot run here (not root, no overlayfs, no cgroups …): why, and the cure.
    #[error("{0}")]
    Unsupported(String),
    #[error("skeleton")]
    Skeleton,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `pods/` and `logs/` live here.
    pub data_dir: PathBuf,
    /// Name of this node's cgroup below the root (`entroos/<this>`).
    pub cgroup: String,
    /// The binary to run as `sandbox-init`.
    pub program: PathBuf,
}

/// Cloneable handle to the zygote and the sandboxes.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Checks that pods can run here and starts the zygote.
    pub async fn start(_config: Config, _scope: &Scope) -> Result<Self, Error> {
        todo!()
    }
    /// Finds every sandbox an earlier node process left: alive ones are adopted with their records, dead ones are
    /// returned with their records (`Lost` where the end is not known) for the agent to destroy or start anew.
    pub async fn adopt(&self) -> Result<Vec<Sandbox>, Error> {
        todo!()
    }
    /// Makes the sandbox, or returns the one that is there for this uid.
    pub async fn create(&self, _spec: SandboxSpec) -> Result<Sandbox, Error> {
        todo!()
    }
    pub fn get(&self, _uid: &Uid) -> Option<Sandbox> {
        todo!()
    }
}

#[derive(Clone)]
pub struct Sandbox {}

impl Sandbox {
    pub fn spec(&self) -> &SandboxSpec {
        todo!()
    }
    /// False once its shim is gone: `destroy` it.
    pub fn alive(&self) -> bool {
        todo!()
    }
    /// Newest records; wakes at every start and exit and when the shim dies.
    pub fn records(&self) -> watch::Receiver<Arc<Vec<ContainerRecord>>> {
        todo!()
    }
    /// Starts an attempt once: asked again for an attempt it knows, it returns that record.
    pub async fn start(&self, _spec: ContainerSpec) -> Result<ContainerRecord, Error> {
        todo!()
    }
    /// Sends a signal to the container's first process.
    pub async fn signal(&self, _container: &str, _attempt: u32, _signal: i32) -> Result<(), Error> {
        todo!()
    }
    /// Kills every process of the container.
    pub async fn kill(&self, _container: &str, _attempt: u32) -> Result<(), Error> {
        todo!()
    }
    pub async fn exec(&self, _spec: ExecSpec) -> Result<Exec, Error> {
        todo!()
    }
    /// Kills whatever runs; removes processes, mounts, cgroups, namespaces and the sandbox's directory (not the logs).
    pub async fn destroy(&self) -> Result<(), Error> {
        todo!()
    }
}

/// A process that `exec` started. Dropping it kills the process.
pub struct Exec {
    pub stdin: Option<tokio::net::unix::pipe::Sender>,
    /// The terminal's both ways are `stdin` and `stdout` then.
    pub stdout: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
}

impl Exec {
    /// Columns and rows.
    pub async fn resize(&mut self, _columns: u16, _rows: u16) -> Result<(), Error> {
        todo!()
    }
    /// The exit status (128 + n after signal n).
    pub async fn wait(&mut self) -> Result<i32, Error> {
        todo!()
    }
}

/// `entroos sandbox-init`: the zygote's and shims' whole life. Called by `main` before any thread exists.
pub fn sandbox_init() -> std::process::ExitCode {
    todo!()
}
