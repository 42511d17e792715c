//! EntroOS: one binary that turns Linux machines into one self-governing computer. See `ARCHITECTURE.md`.
//!
//! The rooms in their one-way order; a module imports only from those above it (`tests/tidy.rs` checks).

#![deny(unsafe_code)]

#[cfg(feature = "full")]
pub mod api;
pub mod base;
pub mod cli;
#[cfg(feature = "full")]
pub mod container;
#[cfg(feature = "full")]
pub mod ledger;
pub mod math;
#[cfg(feature = "full")]
pub mod node;
pub mod orchestrator;
#[cfg(feature = "full")]
pub mod store;
