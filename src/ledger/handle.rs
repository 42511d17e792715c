//! What the other rooms hold of the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::block::{Block, SignedCommand, unseal};
use super::chain::{Chain, height_of};
use super::core::{Admitted, Rejected};
use super::task::Task;
use super::{Committed, Config, Damage, Error, Snapshot, StateMachine};
use crate::base::key::NodeKey;
use crate::base::scope::Scope;
use crate::base::{Height, UnixMillis};
use crate::store::{Engine, Table};

/// Opens the chain in `engine`, verifies its tail, and runs it within `scope`.
///
/// # Errors
/// Where the store cannot be read, or what it holds is damaged or another node's.
pub fn spawn<M: StateMachine>(
    machine: M,
    engine: Engine,
    key: NodeKey,
    config: Config,
    scope: &Scope,
) -> Result<Handle<M>, Error> {
    let commands_max = config.commands_max.max(1);
    let chain = Chain::open(machine, engine.clone(), key.clone(), &config, UnixMillis::now())?;
    let (jobs_tx, jobs) = mpsc::channel(commands_max);
    let (snapshots_tx, snapshots) = watch::channel(chain.snapshot());
    let handle = Handle {
        shared: Arc::new(Shared {
            jobs: jobs_tx,
            snapshots,
            chain: chain.id(),
            nonce: AtomicU64::new(chain.highest_nonce(&key.id()) + 1),
            key,
            engine,
        }),
    };
    let task = Task::new(chain, jobs, snapshots_tx, commands_max);
    scope.spawn("ledger", |stop| task.run(stop));
    Ok(handle)
}

/// Submits commands and reads the committed state. Cheap to clone.
pub struct Handle<M: StateMachine> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: StateMachine> {
    jobs: mpsc::Sender<Job<M>>,
    snapshots: watch::Receiver<Arc<Snapshot<M::State>>>,
    chain: [u8; 32],
    /// The next one of this node's.
    nonce: AtomicU64,
    key: NodeKey,
    engine: Engine,
}

/// A command that waits for its block.
pub(super) struct Job<M: StateMachine> {
    pub command: Admitted<M::Principal>,
    pub reply: oneshot::Sender<Result<Committed<M::Outcome>, Error>>,
    pub claim: Claim,
}

/// Belongs to whoever takes it first: the task, which then makes the block, or the submitter, whose time is over.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl<M: StateMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: StateMachine> Handle<M> {
    /// Signs `payload` with the node's key on behalf of `principal` and resolves once it is durable and applied.
    /// `valid_for`: how long it may wait for a block; refused later. Only while its block is being written may it take
    /// longer, because only then is it not known what came of it.
    ///
    /// # Errors
    /// After [`Error::Timeout`], [`Error::Full`] and [`Error::Rejected`] it is not committed and never will be.
    pub async fn submit(
        &self,
        principal: M::Principal,
        payload: Vec<u8>,
        valid_for: Duration,
    ) -> Result<Committed<M::Outcome>, Error> {
        let shared = &*self.shared;
        let until = Instant::now() + valid_for;
        let permit = timeout_at(until, shared.jobs.reserve()).await.map_err(|_| Error::Timeout)?;
        let permit = permit.map_err(|_| Error::Stopped)?;
        // From here to the queue nothing waits, so that nonces reach the block nearly in order, within their window.
        let command = self.sign(principal, payload, until)?;
        let (reply, mut replied) = oneshot::channel();
        let claim = Claim::default();
        permit.send(Job { command, reply, claim: claim.clone() });
        match timeout_at(until, &mut replied).await {
            Ok(reply) => reply.unwrap_or(Err(Error::Stopped)),
            Err(_) if claim.take() => Err(Error::Timeout),
            Err(_) => replied.await.unwrap_or(Err(Error::Stopped)),
        }
    }

    fn sign(&self, principal: M::Principal, payload: Vec<u8>, until: Instant) -> Result<Admitted<M::Principal>, Error> {
        let Shared { chain, key, nonce, snapshots, .. } = &*self.shared;
        if payload.len() > super::block::PAYLOAD_MAX {
            return Err(Error::Rejected(Rejected::TooLarge));
        }
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        // Block time may be ahead of a clock that was set back.
        let now = UnixMillis::now().max(snapshots.borrow().time.plus(1));
        let valid_until = now.plus(u64::try_from(left).unwrap_or(u64::MAX));
        let nonce = nonce.fetch_add(1, Ordering::Relaxed);
        let command =
            SignedCommand::sign(key, *chain, principal, nonce, valid_until, payload).map_err(Error::Encode)?;
        Admitted::check(command, chain).map_err(Error::Rejected)
    }

    /// The newest committed state.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot<M::State>> {
        Arc::clone(&self.shared.snapshots.borrow())
    }

    /// Tells of each new snapshot; a slow reader sees only the newest.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot<M::State>>> {
        self.shared.snapshots.clone()
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        self.shared.chain
    }

    /// The committed blocks from `from` on, then each new one. Read as they are asked for: nothing is queued.
    #[must_use]
    pub fn blocks(&self, from: Height) -> Blocks<M> {
        Blocks { handle: self.clone(), snapshots: self.watch(), next: Height(from.0.max(1)) }
    }
}

/// A committed block and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedBlock<P> {
    pub hash: [u8; 32],
    pub block: Block<P>,
}

/// See [`Handle::blocks`].
pub struct Blocks<M: StateMachine> {
    handle: Handle<M>,
    snapshots: watch::Receiver<Arc<Snapshot<M::State>>>,
    next: Height,
}

impl<M: StateMachine> Blocks<M> {
    /// The next block; waits until there is one. `None` once the ledger has stopped.
    ///
    /// # Errors
    /// [`Error::Pruned`] where it is no longer kept; [`Error::Damaged`] where the disk holds something else.
    pub async fn next(&mut self) -> Result<Option<CommittedBlock<M::Principal>>, Error> {
        let wanted = self.next;
        if self.snapshots.wait_for(|snapshot| snapshot.height >= wanted).await.is_err() {
            return Ok(None);
        }
        let Shared { engine, key, .. } = &*self.handle.shared;
        let Some(sealed) = engine.get(Table::Block, &wanted.0.to_be_bytes())? else {
            let oldest = engine.scan(Table::Block).next().transpose()?;
            let first = Height(oldest.and_then(|(key, _)| height_of(&key)).unwrap_or(wanted.0 + 1));
            return Err(Error::Pruned { asked: wanted, first });
        };
        let (hash, bytes) = unseal(&key.id(), &sealed).ok_or(Error::Damaged(Damage::Signature(wanted)))?;
        let block = Block::decode(bytes).map_err(|source| Error::Damaged(Damage::Block(wanted, source)))?;
        self.next = Height(wanted.0 + 1);
        Ok(Some(CommittedBlock { hash, block }))
    }
}
