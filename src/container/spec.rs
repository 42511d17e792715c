//! What the node agent asks of the container room: words shared by agent, runtime, zygote and shim.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Bytes, Millicores, Uid, UnixMillis};

/// A pod's sandbox: the shim that owns its network, IPC and UTS namespaces and parents its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub uid: Uid,
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    /// Shares the machine's network namespace; otherwise a new one with `lo` up and nothing else.
    pub host_network: bool,
}

/// One attempt to run one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub name: String,
    /// 0, 1, 2 …: the shim starts an attempt once, however often it is asked.
    pub attempt: u32,
    /// Unpacked layers, lowest first (absolute paths).
    pub layers: Vec<PathBuf>,
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub cwd: String,
    /// Image's USER or the pod's `runAsUser`, as text: `uid`, `uid:gid`, `name`, `name:group`; empty: root. Names are
    /// resolved in the container's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Overrides the group.
    pub run_as_group: Option<u32>,
    pub run_as_non_root: bool,
    pub read_only_root: bool,
    pub limits: Limits,
    pub tty: bool,
    /// Keep stdin open for `attach`; else it is at its end.
    pub stdin: bool,
    pub log_max: Bytes,
    pub log_files_max: u32,
}

/// What the container's cgroup enforces; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub cpu: Option<Millicores>,
    /// What it asked for: its weight when the machine is busy.
    pub cpu_request: Option<Millicores>,
    pub memory: Option<Bytes>,
    pub pids: Option<u64>,
}

/// What the shim knows of one attempt; survives the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Running {
        pid: i32,
        started: UnixMillis,
    },
    Exited(Exit),
    /// It never ran: why, in words that lead to the cure.
    StartFailed {
        message: String,
        at: UnixMillis,
    },
    /// The machine or the shim died under it; how it ended is not known.
    Lost {
        started: UnixMillis,
        at: UnixMillis,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status, or 128 + n after signal n.
    pub code: i32,
    /// 0 where it exited by itself.
    pub signal: i32,
    pub oom_killed: bool,
    pub started: UnixMillis,
    pub finished: UnixMillis,
}

/// A further process in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub container: String,
    pub args: Vec<String>,
    /// With a terminal stdout and stderr are one.
    pub tty: bool,
    pub stdin: bool,
    /// Columns and rows of the terminal at its start.
    pub size: Option<(u16, u16)>,
}
