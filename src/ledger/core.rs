//! The rules of the chain of one: which commands may stand in the next block, and when it is.
//!
//! Invariant: pure. Time comes as `now`; nothing here can wait, read or write. A proposal changes nothing until it is
//! committed, so that a block that could not be made durable leaves no trace.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::Transaction;
use super::block::{BLOCK_COMMANDS_MAX, BLOCK_PAYLOAD_MAX, Block, PAYLOAD_MAX, SignedCommand, Tip};
use super::nonce::Nonces;
use crate::base::key::verify;
use crate::base::{Height, NodeId, UnixMillis};

/// Why a command may not stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the command is for another chain")]
    Chain,
    #[error("the signature is not the signer's")]
    Signature,
    #[error("the command is larger than {PAYLOAD_MAX} bytes")]
    TooLarge,
    #[error("the command's time to be committed is over")]
    Expired,
    #[error("the nonce was used before, or is more than 1,024 behind")]
    Replayed,
}

/// A command whose chain, size and signature are right: what no state can change was checked once, before the queue.
#[derive(Clone, Debug)]
pub struct Admitted<P> {
    command: SignedCommand<P>,
    digest: [u8; 32],
}

impl<P: Serialize> Admitted<P> {
    /// Checks all that can be checked without the state.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(command: SignedCommand<P>, chain: &[u8; 32]) -> Result<Self, Rejected> {
        if command.chain != *chain {
            return Err(Rejected::Chain);
        }
        if command.payload.len() > PAYLOAD_MAX {
            return Err(Rejected::TooLarge);
        }
        let digest = command.digest().map_err(|_| Rejected::TooLarge)?;
        let signature = command.signature.as_slice().try_into().map_err(|_| Rejected::Signature)?;
        if verify(&command.signer, &digest, signature) {
            Ok(Self { command, digest })
        } else {
            Err(Rejected::Signature)
        }
    }

    /// How much of a block it takes.
    pub fn payload_len(&self) -> usize {
        self.command.payload.len()
    }
}

/// Whether `taken` commands of `bytes` bytes of payload leave room for one more of `next` bytes.
#[must_use]
pub fn has_room(taken: usize, bytes: usize, next: usize) -> bool {
    taken < BLOCK_COMMANDS_MAX && (taken == 0 || bytes + next <= BLOCK_PAYLOAD_MAX)
}

/// Where the chain stands.
#[derive(Clone, Debug)]
pub struct Core {
    tip: Tip,
    nonces: BTreeMap<NodeId, Nonces>,
}

/// The next block, and what becomes of each command that was offered.
#[derive(Debug)]
pub struct Proposal<P> {
    pub block: Block<P>,
    /// The block's commands, in its order.
    pub transactions: Vec<Transaction<P>>,
    /// For each command offered: its index in the block, or why it is not there.
    pub verdicts: Vec<Result<u32, Rejected>>,
    /// The windows of the signers of this block.
    pub nonces: BTreeMap<NodeId, Nonces>,
}

impl Core {
    #[must_use]
    pub fn new(tip: Tip, nonces: BTreeMap<NodeId, Nonces>) -> Self {
        Self { tip, nonces }
    }

    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The highest nonce that `signer` has used; 0 where it has used none.
    #[must_use]
    pub fn highest_nonce(&self, signer: &NodeId) -> u64 {
        self.nonces.get(signer).map_or(0, Nonces::highest)
    }

    /// The time of a block made now: the clock's, but never the parent's or earlier.
    #[must_use]
    pub fn block_time(&self, now: UnixMillis) -> UnixMillis {
        now.max(self.tip.time.plus(1))
    }

    /// The next block out of `commands`, in their order.
    #[must_use]
    pub fn propose<P: Copy + Serialize + DeserializeOwned>(
        &self,
        commands: Vec<Admitted<P>>,
        now: UnixMillis,
    ) -> Proposal<P> {
        let time = self.block_time(now);
        let height = Height(self.tip.height.0 + 1);
        let mut proposal = Proposal {
            block: Block { height, parent: self.tip.hash, time, commands: vec![] },
            transactions: vec![],
            verdicts: vec![],
            nonces: BTreeMap::new(),
        };
        for Admitted { command, digest } in commands {
            let verdict = self.judge(&command, time, &mut proposal.nonces).map(|()| {
                let (principal, signer, payload) = (command.principal, command.signer, command.payload.clone());
                proposal.transactions.push(Transaction { principal, signer, hash: digest, payload });
                proposal.block.commands.push(command);
                u32::try_from(proposal.transactions.len() - 1).unwrap_or(u32::MAX)
            });
            proposal.verdicts.push(verdict);
        }
        proposal
    }

    /// Moves on to a block that is durable.
    pub fn commit(&mut self, tip: Tip, nonces: BTreeMap<NodeId, Nonces>) {
        assert!(tip.height.0 == self.tip.height.0 + 1 && tip.time > self.tip.time, "blocks follow one another");
        self.tip = tip;
        self.nonces.extend(nonces);
    }

    fn judge<P>(
        &self,
        command: &SignedCommand<P>,
        time: UnixMillis,
        taken: &mut BTreeMap<NodeId, Nonces>,
    ) -> Result<(), Rejected> {
        if time > command.valid_until {
            return Err(Rejected::Expired);
        }
        let mut window =
            taken.get(&command.signer).or_else(|| self.nonces.get(&command.signer)).copied().unwrap_or_default();
        if !window.take(command.nonce) {
            return Err(Rejected::Replayed);
        }
        taken.insert(command.signer, window);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::NodeKey;

    const CHAIN: [u8; 32] = [1; 32];
    const NOW: UnixMillis = UnixMillis(1_000);

    fn key() -> NodeKey {
        let dir = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(&dir.path().join("key")).unwrap()
    }

    fn core() -> Core {
        Core::new(Tip { height: Height(0), time: UnixMillis(10), hash: CHAIN }, BTreeMap::new())
    }

    fn command(key: &NodeKey, nonce: u64, valid_until: u64) -> Admitted<u8> {
        let signed = SignedCommand::sign(key, CHAIN, 7, nonce, UnixMillis(valid_until), vec![1, 2]).unwrap();
        Admitted::check(signed, &CHAIN).unwrap()
    }

    fn commit(core: &mut Core, proposal: Proposal<u8>) {
        let bytes = proposal.block.encode().unwrap();
        let Block { height, time, .. } = proposal.block;
        core.commit(Tip { height, time, hash: super::super::block::block_hash(&bytes) }, proposal.nonces);
    }

    #[test]
    fn a_replayed_nonce_is_rejected_in_the_same_block_and_later() {
        let (key, mut core) = (key(), core());
        let one = command(&key, 1, 5_000);
        let proposal = core.propose(vec![one.clone(), one.clone(), command(&key, 2, 5_000)], NOW);
        assert_eq!(proposal.verdicts, [Ok(0), Err(Rejected::Replayed), Ok(1)]);
        commit(&mut core, proposal);
        assert_eq!(core.propose(vec![one.clone()], NOW).verdicts, [Err(Rejected::Replayed)]);
        // The nonces of one signer are nothing to another.
        assert_eq!(core.propose(vec![command(&self::key(), 1, 5_000)], NOW).verdicts, [Ok(0)]);
    }

    #[test]
    fn a_proposal_that_was_not_committed_leaves_no_trace() {
        let (key, core) = (key(), core());
        let one = command(&key, 1, 5_000);
        assert_eq!(core.propose(vec![one.clone()], NOW).verdicts, [Ok(0)]);
        assert_eq!(core.propose(vec![one], NOW).verdicts, [Ok(0)]);
    }

    #[test]
    fn a_command_expires_by_block_time() {
        let (key, core) = (key(), core());
        let offered = vec![command(&key, 1, 999), command(&key, 2, 1_000)];
        assert_eq!(core.propose(offered, NOW).verdicts, [Err(Rejected::Expired), Ok(0)]);
        // The clock went back behind the chain: block time, not the clock, decides.
        assert_eq!(core.propose(vec![command(&key, 3, 10)], UnixMillis(0)).verdicts, [Err(Rejected::Expired)]);
        assert_eq!(core.propose(vec![command(&key, 3, 11)], UnixMillis(0)).verdicts, [Ok(0)]);
    }

    #[test]
    fn block_time_always_grows() {
        let mut core = core();
        for now in [500, 500, 100, 0, 501] {
            let before = core.tip().time;
            let proposal = core.propose(vec![], UnixMillis(now));
            assert!(proposal.block.time > before);
            commit(&mut core, proposal);
        }
        assert_eq!(core.tip().time, UnixMillis(504));
        assert_eq!(core.tip().height, Height(5));
    }

    #[test]
    fn only_what_was_signed_for_this_chain_is_admitted() {
        let key = key();
        let good = SignedCommand::sign(&key, CHAIN, 7_u8, 1, UnixMillis(5), vec![1, 2]).unwrap();
        assert!(Admitted::check(good.clone(), &CHAIN).is_ok());
        assert_eq!(Admitted::check(good.clone(), &[2; 32]).unwrap_err(), Rejected::Chain);
        let altered: [fn(&mut SignedCommand<u8>); 6] = [
            |c| c.principal = 8,
            |c| c.nonce = 2,
            |c| c.valid_until = UnixMillis(6),
            |c| c.payload[0] = 9,
            |c| c.signature[5] ^= 1,
            |c| c.signature.truncate(63),
        ];
        for alter in altered {
            let mut bad = good.clone();
            alter(&mut bad);
            assert_eq!(Admitted::check(bad, &CHAIN).unwrap_err(), Rejected::Signature);
        }
        let mut stolen = good;
        stolen.signer = self::key().id();
        assert_eq!(Admitted::check(stolen, &CHAIN).unwrap_err(), Rejected::Signature);
    }

    #[test]
    fn a_block_has_bounds() {
        assert!(has_room(0, 0, PAYLOAD_MAX));
        assert!(!has_room(2, BLOCK_PAYLOAD_MAX, 1));
        assert!(!has_room(BLOCK_COMMANDS_MAX, 0, 0));
        let per_command = 32 + 64 + 32 + 64 + 32;
        assert!(BLOCK_PAYLOAD_MAX + BLOCK_COMMANDS_MAX * per_command < super::super::block::BLOCK_LIMIT);
    }
}
