//! HTTP: the Kubernetes-compatible surface, the native surface, metrics, and who may come in.
//!
//! A request's way: [`server`] accepts it, [`door`] says who asks and refuses web pages, [`routes`] (the one table) finds
//! the action and whether the caller may ask for it, the action's room answers.
//!
//! Invariant: no decisions; what it changes goes through the ledger, what it reads is a snapshot.

mod context;
mod door;
mod error;
mod exec;
mod extract;
mod images;
pub mod k8s;
mod logs;
mod metrics;
mod native;
mod objects;
mod patch;
mod routes;
mod secrets;
mod server;
mod watch;

pub use routes::{Access, Action, Route, table};
pub use secrets::{annotation_context, data_context};
pub use server::{Api, Config, spawn};
