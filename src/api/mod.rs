//! HTTP: the Kubernetes-compatible surface, the native surface, metrics, and who may come in.
//!
//! Invariant: no decisions; what it changes goes through the ledger, what it reads is a snapshot.

pub mod k8s;
mod server;

pub use server::{Api, Config, spawn};
