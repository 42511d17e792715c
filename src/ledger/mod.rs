//! The ledger's seam: commands go in signed, come out ordered and durable, the same on every node.
//!
//! Today's implementation is a chain of one: a local durable log with group commit. The consensus engine takes its place
//! behind the same [`Handle`] without a change above it.
//!
//! Invariant: the ledger is generic over [`StateMachine`] and never knows what a pod is; nothing is published or
//! acknowledged before it is durable.

pub mod block;
mod chain;
pub mod core;
mod handle;
mod machine;
mod nonce;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use block::SignedCommand;
pub use handle::{Blocks, CommittedBlock, Handle, spawn};
pub use machine::{BlockContext, Committed, Snapshot, StateMachine, Transaction};

use crate::base::{Height, NodeId, codec};
use crate::store;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many of the newest blocks are kept; at least one is.
    pub blocks_kept: u64,
    /// The most commands of one block, and the most that wait for the next; at least one.
    pub commands_max: usize,
}

/// Why a command was not committed, or the chain not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command whose block was being written at that moment may be found committed after a restart; any other is not.
    #[error("the node is stopping")]
    Stopped,
    /// It was not committed and never will be.
    #[error("the command was not committed in the time it was given: it will not be committed later; try again")]
    Timeout,
    #[error("the command was refused by the ledger")]
    Rejected(#[source] core::Rejected),
    /// It was not written; try again when there is space.
    #[error("the disk is full: the command was not written; free some space and try again")]
    Full(#[source] Arc<store::Error>),
    /// The disk refused its block. This node counts it as not committed and stops; what the disk kept of it is seen at
    /// the next start.
    #[error("the command could not be made durable and is not acknowledged; the node stops")]
    NotDurable(#[source] Arc<store::Error>),
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error(
        "the ledger is damaged: restore a backup of the data directory, or let this node begin anew in an empty one"
    )]
    Damaged(#[source] Damage),
    #[error("a message cannot be encoded")]
    Encode(#[source] codec::Error),
    #[error(
        "the data directory belongs to node {owner}, but node.key is that of {found}: put back the key that belongs to it"
    )]
    OtherNode { owner: NodeId, found: NodeId },
    #[error("the kernel gave no random bytes")]
    Random(#[source] std::io::Error),
    #[error("block {asked} is no longer kept; the oldest is {first}")]
    Pruned { asked: Height, first: Height },
}

/// What is wrong with the bytes on disk.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("there are blocks or objects, but no genesis")]
    NoGenesis,
    #[error("record `{0}` is missing")]
    Missing(&'static str),
    #[error("record `{0}` is malformed")]
    Record(&'static str, #[source] codec::Error),
    #[error("the nonces of signer `{0}` are malformed")]
    Nonces(String),
    #[error("block {0} is missing")]
    Hole(Height),
    #[error("the signature of block {0} is not the proposer's")]
    Signature(Height),
    #[error("block {0} is malformed")]
    Block(Height, #[source] codec::Error),
    #[error("block {0} does not follow the one before")]
    Link(Height),
    #[error("the state is that of block {applied}, but the last block is {last}")]
    Applied { applied: Height, last: Height },
    #[error("the state is not that of the last block, {0}")]
    Tip(Height),
    /// In the state machine's words.
    #[error("the state cannot be read: {0}")]
    State(String),
}
