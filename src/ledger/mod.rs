//! The ledger's seam: commands go in signed, come out ordered and durable, the same on every node.
//!
//! Today's implementation is a chain of one: a local durable log with group commit. The consensus engine takes its place
//! behind the same [`Handle`] without a change above it.
//!
//! Invariant: the ledger is generic over [`StateMachine`] and never knows what a pod is.

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

/// A command as it travels and as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCommand<P> {
    /// The chain it is meant for.
    pub chain: [u8; 32],
    pub principal: P,
    pub signer: NodeId,
    /// Unique within a window of 1,024 per signer.
    pub nonce: u64,
    /// No block of a later time may hold it.
    pub valid_until: UnixMillis,
    pub payload: Vec<u8>,
    /// Ed25519 over the encoding of all of the above; 64 bytes.
    pub signature: Vec<u8>,
}

/// Where a command came to stand, and what came of it.
#[derive(Clone, Debug)]
pub struct Committed<O> {
    pub height: Height,
    pub index: u32,
    pub outcome: O,
}

// ---- skeleton: to be replaced by ledger's engineer ----

/// A committed state and where it stands.
#[derive(Clone, Debug)]
pub struct Snapshot<S> {
    pub height: Height,
    pub time: UnixMillis,
    pub state: S,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the node is stopping")]
    Stopped,
    #[error("skeleton")]
    Skeleton,
}

pub struct Handle<M: StateMachine> {
    _machine: std::marker::PhantomData<fn() -> M>,
}
impl<M: StateMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub blocks_kept: u64,
    pub commands_max: usize,
}

impl<M: StateMachine> Handle<M> {
    /// Signs `payload` with the node's key on behalf of `principal` and resolves once it is durable and applied.
    /// `valid_for`: how long it may wait for a block; refused later.
    pub async fn submit(
        &self,
        _principal: M::Principal,
        _payload: Vec<u8>,
        _valid_for: std::time::Duration,
    ) -> Result<Committed<M::Outcome>, Error> {
        todo!()
    }
    /// The newest committed state.
    pub fn snapshot(&self) -> std::sync::Arc<Snapshot<M::State>> {
        todo!()
    }
    /// Tells of each new snapshot; a slow reader sees only the newest.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<std::sync::Arc<Snapshot<M::State>>> {
        todo!()
    }
    pub fn chain(&self) -> [u8; 32] {
        todo!()
    }
}

pub fn spawn<M: StateMachine>(
    _machine: M,
    _engine: crate::store::Engine,
    _key: crate::base::key::NodeKey,
    _config: Config,
    _scope: &crate::base::scope::Scope,
) -> Result<Handle<M>, Error> {
    todo!()
}
