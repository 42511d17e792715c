//! Pods on this node: images, sandboxes, logs, exec.
//!
//! Invariant: nothing here knows the desired state of other nodes, nor why a container is to run.

mod cgroup;
mod cri_log;
pub mod image;
pub mod logs;
mod protocol;
mod rootfs;
pub mod runtime;
mod seccomp;
mod shim;
pub mod spec;
mod sys;
mod user;
mod zygote;
