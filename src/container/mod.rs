//! Pods on this node: images, sandboxes, logs, exec.
//!
//! Invariant: nothing here knows the desired state of other nodes, nor why a container is to run.

pub mod image;
pub mod logs;
pub mod runtime;
pub mod spec;
