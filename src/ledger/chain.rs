//! The chain on disk: opened and verified, then grown by one synced batch a block.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `genesis` | [`Genesis`] |
//! | meta | `tip` | [`Tip`]: how far the objects are applied |
//! | meta | `nonce/` + signer | [`Nonces`] |
//! | block | height, 8 bytes, big endian | 64 bytes of signature, then [`Block`] |
//! | object | as [`StateMachine::persist`] says | likewise |
//!
//! Invariant: block, objects, tip and nonces of one height are one batch, so the disk never holds one without the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::block::{Block, Genesis, Tip, block_hash, seal, unseal};
use super::core::{Admitted, Core, Proposal, Rejected};
use super::nonce::Nonces;
use super::{BlockContext, Config, Damage, Error, Snapshot, StateMachine};
use crate::base::key::{self, NodeKey};
use crate::base::{Height, NodeId, UnixMillis};
use crate::store::{Batch, Engine, Table};

/// How many of the newest blocks are verified at start.
const VERIFIED_AT_START: u64 = 1_000;
const GENESIS: &[u8] = b"genesis";
const TIP: &[u8] = b"tip";
const NONCE: &[u8] = b"nonce/";
/// Up to here old blocks are deleted one by one, which is cheaper to read past than a range.
const SINGLE_DELETES_MAX: u64 = 8;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The open chain and the state at its tip.
pub struct Chain<M: StateMachine> {
    machine: M,
    engine: Engine,
    key: NodeKey,
    id: [u8; 32],
    core: Core,
    state: M::State,
    /// The oldest block on disk, or the next one where there is none.
    first: Height,
    blocks_kept: u64,
}

/// What a block came to.
pub struct Made<M: StateMachine> {
    /// For each command offered: its index and outcome, or why it is not in the block.
    pub verdicts: Vec<Result<(u32, M::Outcome), Rejected>>,
    /// The state after it; `None` where no block was made because no command could stand in one.
    pub snapshot: Option<Arc<Snapshot<M::State>>>,
}

impl<M: StateMachine> Chain<M> {
    /// Opens the chain and verifies its tail, or begins one.
    pub fn open(machine: M, engine: Engine, key: NodeKey, config: &Config, now: UnixMillis) -> Result<Self, Error> {
        let genesis = match engine.get(Table::Meta, GENESIS)? {
            Some(bytes) => bytes,
            None => begin(&engine, &key, now)?,
        };
        let id = Genesis::chain(&genesis);
        let Genesis { proposer, .. } =
            Genesis::decode(&genesis).map_err(|e| Error::Damaged(Damage::Record("genesis", e)))?;
        if proposer != key.id() {
            return Err(Error::OtherNode { owner: proposer, found: key.id() });
        }
        let tip = engine.get(Table::Meta, TIP)?.ok_or(Error::Damaged(Damage::Missing("tip")))?;
        let tip = Tip::decode(&tip).map_err(|e| Error::Damaged(Damage::Record("tip", e)))?;
        let first = verify_tail::<M>(&engine, &proposer, &id, tip)?;
        let core = Core::new(tip, read_nonces(&engine)?);
        let state = restore(&machine, &engine)?;
        Ok(Self { machine, engine, key, id, core, state, first, blocks_kept: config.blocks_kept.max(1) })
    }

    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    pub fn snapshot(&self) -> Arc<Snapshot<M::State>> {
        let Tip { height, time, .. } = self.core.tip();
        Arc::new(Snapshot { height, time, state: self.state.clone() })
    }

    pub fn deadline(&self) -> Option<UnixMillis> {
        self.machine.next_deadline(&self.state)
    }

    /// The highest nonce that `signer` has used.
    pub fn highest_nonce(&self, signer: &NodeId) -> u64 {
        self.core.highest_nonce(signer)
    }

    /// Makes one block of those commands that may stand in it, and makes it durable. After an error nothing has changed.
    /// `by_deadline`: also where no command may.
    pub fn make_block(
        &mut self,
        commands: Vec<Admitted<M::Principal>>,
        by_deadline: bool,
        now: UnixMillis,
    ) -> Result<Made<M>, Error> {
        let proposal = self.core.propose(commands, now);
        if proposal.transactions.is_empty() && !by_deadline {
            let verdicts = proposal.verdicts.into_iter().filter_map(|verdict| verdict.err().map(Err)).collect();
            return Ok(Made { verdicts, snapshot: None });
        }
        self.warn_of_jump(proposal.block.time);
        let Proposal { block, transactions, verdicts, nonces } = proposal;
        let context = BlockContext { height: block.height, time: block.time, parent: block.parent };
        let mut after = self.state.clone();
        let outcomes = self.machine.apply(&mut after, &context, &transactions);
        assert_eq!(outcomes.len(), transactions.len(), "one outcome for each command");

        let bytes = block.encode().map_err(Error::Encode)?;
        let tip = Tip { height: block.height, time: block.time, hash: block_hash(&bytes) };
        let keep_from = Height((tip.height.0 + 1).saturating_sub(self.blocks_kept).max(self.first.0));
        let mut batch = self.compose(&after, tip, &nonces)?;
        batch.put(Table::Block, &tip.height.0.to_be_bytes(), &seal(&self.key, &bytes));
        prune(&mut batch, self.first, keep_from);
        self.engine.write_synced(batch)?;

        self.core.commit(tip, nonces);
        self.state = after;
        self.first = keep_from;
        let mut outcomes = outcomes.into_iter();
        let verdicts = verdicts
            .into_iter()
            .map(|verdict| verdict.map(|index| (index, outcomes.next().expect("counted above"))))
            .collect();
        Ok(Made { verdicts, snapshot: Some(self.snapshot()) })
    }

    fn compose(&self, after: &M::State, tip: Tip, nonces: &BTreeMap<NodeId, Nonces>) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for (key, value) in self.machine.persist(&self.state, after) {
            match value {
                Some(value) => batch.put(Table::Object, &key, &value),
                None => batch.delete(Table::Object, &key),
            }
        }
        for (signer, window) in nonces {
            batch.put(Table::Meta, &[NONCE, &signer.0].concat(), &window.encode().map_err(Error::Encode)?);
        }
        batch.put(Table::Meta, TIP, &tip.encode().map_err(Error::Encode)?);
        Ok(batch)
    }

    fn warn_of_jump(&self, time: UnixMillis) {
        let parent = self.core.tip();
        if parent.height.0 > 0 && time.0 - parent.time.0 > DAY_MS {
            tracing::warn!(
                from_ms = parent.time.0,
                to_ms = time.0,
                "block time moves on by more than a day: a long rest, or a clock that was set"
            );
        }
    }
}

/// Writes the genesis of a new chain; its time is what block 1 must exceed.
fn begin(engine: &Engine, key: &NodeKey, now: UnixMillis) -> Result<Vec<u8>, Error> {
    for table in [Table::Block, Table::Object, Table::Meta] {
        if engine.last(table)?.is_some() {
            return Err(Error::Damaged(Damage::NoGenesis));
        }
    }
    let genesis = Genesis { seed: key::random().map_err(Error::Random)?, proposer: key.id(), time: now };
    let bytes = genesis.encode().map_err(Error::Encode)?;
    let tip = Tip { height: Height(0), time: now, hash: Genesis::chain(&bytes) };
    let mut batch = Batch::default();
    batch.put(Table::Meta, GENESIS, &bytes);
    batch.put(Table::Meta, TIP, &tip.encode().map_err(Error::Encode)?);
    engine.write_synced(batch)?;
    Ok(bytes)
}

/// Checks signatures, hashes and heights of the newest blocks, and that the state is the last one's. Returns the height
/// of the oldest block kept.
fn verify_tail<M: StateMachine>(
    engine: &Engine,
    proposer: &NodeId,
    chain: &[u8; 32],
    tip: Tip,
) -> Result<Height, Error> {
    let damaged = |damage| Err(Error::Damaged(damage));
    let last = engine.last(Table::Block)?.map_or(Some(0), |(key, _)| height_of(&key));
    let last = Height(last.ok_or(Error::Damaged(Damage::Missing("block height")))?);
    if last != tip.height {
        return damaged(Damage::Applied { applied: tip.height, last });
    }
    if last == Height(0) {
        return if tip.hash == *chain { Ok(Height(1)) } else { damaged(Damage::Tip(last)) };
    }
    let first = engine.scan(Table::Block).next().transpose()?.and_then(|(key, _)| height_of(&key)).unwrap_or(1);
    let begin = first.max((last.0 + 1).saturating_sub(VERIFIED_AT_START));
    let mut before = (begin == 1).then_some((*chain, UnixMillis(0)));
    for (expected, entry) in (begin..).zip(engine.scan_from(Table::Block, &begin.to_be_bytes())) {
        let (key, sealed) = entry?;
        let height = Height(expected);
        if height_of(&key) != Some(expected) {
            return damaged(Damage::Hole(height));
        }
        let (hash, bytes) = unseal(proposer, &sealed).ok_or(Error::Damaged(Damage::Signature(height)))?;
        let block =
            Block::<M::Principal>::decode(bytes).map_err(|source| Error::Damaged(Damage::Block(height, source)))?;
        let follows = before.is_none_or(|(parent, time)| block.parent == parent && block.time > time);
        if block.height != height || !follows {
            return damaged(Damage::Link(height));
        }
        before = Some((hash, block.time));
    }
    if before == Some((tip.hash, tip.time)) { Ok(Height(first)) } else { damaged(Damage::Tip(last)) }
}

pub(super) fn height_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn read_nonces(engine: &Engine) -> Result<BTreeMap<NodeId, Nonces>, Error> {
    let mut nonces = BTreeMap::new();
    for entry in engine.scan_from(Table::Meta, NONCE) {
        let (key, value) = entry?;
        let Some(signer) = key.strip_prefix(NONCE) else { break };
        let malformed = || Error::Damaged(Damage::Nonces(crate::base::id::hex(signer)));
        let id = NodeId(signer.try_into().map_err(|_| malformed())?);
        nonces.insert(id, Nonces::decode(&value).map_err(|_| malformed())?);
    }
    Ok(nonces)
}

fn restore<M: StateMachine>(machine: &M, engine: &Engine) -> Result<M::State, Error> {
    let mut failed = None;
    let mut entries = engine.scan(Table::Object).map_while(|entry| entry.map_err(|e| failed = Some(e)).ok());
    let restored = machine.restore(&mut entries);
    drop(entries);
    match failed {
        Some(error) => Err(error.into()),
        None => restored.map_err(|message| Error::Damaged(Damage::State(message))),
    }
}

fn prune(batch: &mut Batch, first: Height, keep_from: Height) {
    if keep_from.0 - first.0 > SINGLE_DELETES_MAX {
        batch.delete_range(Table::Block, &first.0.to_be_bytes(), &keep_from.0.to_be_bytes());
    } else {
        for height in first.0..keep_from.0 {
            batch.delete(Table::Block, &height.to_be_bytes());
        }
    }
}
