//! What the chain is made of: genesis, commands, blocks, and how each is hashed, signed and kept.
//!
//! Invariant: hashes and signatures are over bytes as stored, never over a re-encoding of what was read. Every signature
//! is over a domain of its own, so that none can pass for another.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::base::key::{NodeKey, verify};
use crate::base::{Height, NodeId, UnixMillis, codec};

/// The most bytes a command's payload may have.
pub const PAYLOAD_MAX: usize = 2 << 20;
/// No further command enters a block that has this many bytes of payload.
pub const BLOCK_PAYLOAD_MAX: usize = 4 << 20;
/// Payloads, and for each of at most [`BLOCK_COMMANDS_MAX`] commands what stands around its payload.
pub const BLOCK_LIMIT: usize = 16 << 20;
/// The most commands of one block.
pub const BLOCK_COMMANDS_MAX: usize = 16_384;
const COMMAND_LIMIT: usize = PAYLOAD_MAX + 1024;
const SMALL_LIMIT: usize = 1024;
const SIGNATURE_LEN: usize = 64;

/// Where a chain begins. Its encoding's hash is the chain's id and the parent of block 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Random: no two chains are the same.
    pub seed: [u8; 32],
    /// Whose signature makes a block.
    pub proposer: NodeId,
    pub time: UnixMillis,
}

impl Genesis {
    pub fn encode(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode::<SMALL_LIMIT, _>(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode::<SMALL_LIMIT, _>(bytes)
    }

    /// The id of the chain that begins with these bytes.
    #[must_use]
    pub fn chain(bytes: &[u8]) -> [u8; 32] {
        blake3::derive_key("entroos 2026 genesis", bytes)
    }
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

/// All of a [`SignedCommand`] but its signature.
#[derive(Serialize)]
struct Unsigned<'a, P> {
    chain: &'a [u8; 32],
    principal: &'a P,
    signer: &'a NodeId,
    nonce: u64,
    valid_until: UnixMillis,
    payload: &'a [u8],
}

impl<P: Serialize> SignedCommand<P> {
    /// Signs `payload` on behalf of `principal`.
    ///
    /// # Errors
    /// Where the command is larger than [`PAYLOAD_MAX`].
    pub fn sign(
        key: &NodeKey,
        chain: [u8; 32],
        principal: P,
        nonce: u64,
        valid_until: UnixMillis,
        payload: Vec<u8>,
    ) -> Result<Self, codec::Error> {
        let mut command = Self { chain, principal, signer: key.id(), nonce, valid_until, payload, signature: vec![] };
        command.signature = key.sign(&command.digest()?).to_vec();
        Ok(command)
    }

    /// What is signed, and the command's name: a hash of all but the signature, so that a second signature over the same
    /// command is not a second command.
    ///
    /// # Errors
    /// Where the command is larger than [`PAYLOAD_MAX`].
    pub fn digest(&self) -> Result<[u8; 32], codec::Error> {
        let Self { chain, principal, signer, nonce, valid_until, payload, signature: _ } = self;
        let unsigned = Unsigned { chain, principal, signer, nonce: *nonce, valid_until: *valid_until, payload };
        let bytes = codec::encode::<COMMAND_LIMIT, _>(&unsigned)?;
        Ok(blake3::derive_key("entroos 2026 ledger command", &bytes))
    }
}

/// A block as it is hashed, signed and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block<P> {
    pub height: Height,
    /// The hash of the block before, or the chain's id.
    pub parent: [u8; 32],
    /// Strictly greater than the parent's.
    pub time: UnixMillis,
    pub commands: Vec<SignedCommand<P>>,
}

impl<P: Serialize + DeserializeOwned> Block<P> {
    pub fn encode(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode::<BLOCK_LIMIT, _>(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode::<BLOCK_LIMIT, _>(bytes)
    }
}

/// The hash of a block's bytes: its name, and what its successor calls `parent`.
#[must_use]
pub fn block_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

fn signed_of(hash: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("entroos 2026 ledger block", hash)
}

/// A block's bytes behind the proposer's signature: 64 bytes of signature, then the block.
#[must_use]
pub fn seal(key: &NodeKey, bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SIGNATURE_LEN + bytes.len());
    sealed.extend_from_slice(&key.sign(&signed_of(&block_hash(bytes))));
    sealed.extend_from_slice(bytes);
    sealed
}

/// The hash and bytes of a sealed block; `None` where the signature is not `proposer`'s over them.
#[must_use]
pub fn unseal<'a>(proposer: &NodeId, sealed: &'a [u8]) -> Option<([u8; 32], &'a [u8])> {
    let (signature, bytes) = sealed.split_first_chunk::<SIGNATURE_LEN>()?;
    let hash = block_hash(bytes);
    verify(proposer, &signed_of(&hash), signature).then_some((hash, bytes))
}

/// How far the chain is applied: written with every block, read at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    pub height: Height,
    pub time: UnixMillis,
    pub hash: [u8; 32],
}

impl Tip {
    pub fn encode(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode::<SMALL_LIMIT, _>(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode::<SMALL_LIMIT, _>(bytes)
    }
}
