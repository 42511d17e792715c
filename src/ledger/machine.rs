//! What the ledger asks of the machine it drives, and what it tells it.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::base::{Height, NodeId, UnixMillis};

/// The deterministic machine the chain drives.
pub trait StateMachine: Send + 'static {
    /// Cheap to clone: a clone is a snapshot for readers.
    type State: Clone + Send + Sync + 'static;
    type Principal: Copy + Debug + Serialize + for<'a> Deserialize<'a> + Send + 'static;
    type Outcome: Send + 'static;

    /// The state of an empty chain, or the one that `entries` (as [`StateMachine::persist`] wrote them) hold.
    ///
    /// # Errors
    /// Where an entry is malformed; names it.
    fn restore(&self, entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self::State, String>;

    /// Applies one block: one outcome for each command, in order. Called once a block; must not fail or block.
    fn apply(
        &self,
        state: &mut Self::State,
        block: &BlockContext,
        commands: &[Transaction<Self::Principal>],
    ) -> Vec<Self::Outcome>;

    /// What changed from `before` to `after`: entries to write (`Some`) and to remove (`None`).
    fn persist(&self, before: &Self::State, after: &Self::State) -> Vec<(Vec<u8>, Option<Vec<u8>>)>;

    /// When the state next changes by time alone; the ledger then makes a block without commands.
    fn next_deadline(&self, state: &Self::State) -> Option<UnixMillis>;
}

/// What `apply` may know of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockContext {
    pub height: Height,
    /// Strictly greater than the parent's.
    pub time: UnixMillis,
    /// The parent's hash: the seed of whatever needs one.
    pub parent: [u8; 32],
}

/// A command that was checked: chain, signature, nonce and `valid_until` are right.
#[derive(Clone, Debug)]
pub struct Transaction<P> {
    pub principal: P,
    pub signer: NodeId,
    pub hash: [u8; 32],
    pub payload: Vec<u8>,
}

/// Where a command came to stand, and what came of it.
#[derive(Clone, Debug)]
pub struct Committed<O> {
    pub height: Height,
    pub index: u32,
    pub outcome: O,
}

/// A committed state and where it stands.
#[derive(Clone, Debug)]
pub struct Snapshot<S> {
    pub height: Height,
    pub time: UnixMillis,
    pub state: S,
}
