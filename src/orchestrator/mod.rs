//! The replicated state machine: objects, admission, authorisation, scheduler. Pure: `apply(state, command) → outcome`.
//!
//! Invariant: no clock, socket, thread, float, hash map or randomness; every node computes the same from the same block.

pub mod admission;
mod authorise;
#[cfg(feature = "full")]
pub mod client;
pub mod command;
mod commands;
mod deletion;
mod events;
pub mod explain;
mod index;
pub mod machine;
mod names;
mod nodes;
pub mod object;
mod scheduler;
pub mod state;

pub use command::{Command, Outcome, Precondition, Principal, Refusal};
pub use object::{Body, Key, Kind, Meta, Object};
pub use state::{Change, State};

#[cfg(test)]
mod tests;
