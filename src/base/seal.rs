//! Sealing: what keeps secrets out of the log.
//!
//! A secret's value is encrypted under its namespace's key (XChaCha20-Poly1305, random nonces); the namespace's key is
//! sealed to the X25519 key of each node that may run the namespace's pods (libsodium's sealed boxes).
//!
//! Invariant: log, state, snapshots and backups hold only what [`NamespaceKey::encrypt`] and [`NamespaceKey::seal_to`] made.

use std::collections::BTreeMap;
use std::{fmt, io, path::Path};

use chacha20poly1305::aead::{Aead, OsRng, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use crypto_box::{PublicKey, SecretKey};
use zeroize::{Zeroize, Zeroizing};

use super::{id::NodeId, key};

/// The first byte of everything sealed today.
const FORMAT: u8 = 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sealed data of format {0} is not known to this version")]
    Format(u8),
    #[error("sealed data is too short")]
    Short,
    /// The wrong node, or bytes that were changed.
    #[error("the namespace key is not sealed to this node's seal.key, or was altered")]
    NotForThisNode,
    /// The wrong key, another place than it was sealed for, or bytes that were changed.
    #[error("the secret was not sealed with this key for `{context}`, or was altered")]
    Altered { context: String },
    #[error("failed to seal")]
    Seal,
    #[error("the kernel gave no random bytes")]
    Random(#[source] io::Error),
}

/// The node's X25519 secret, to which namespace keys are sealed.
#[derive(Clone)]
pub struct SealKey(SecretKey);

impl SealKey {
    /// Reads the key at `path`, or makes one there (mode 0600, synced before it is used).
    ///
    /// # Errors
    /// Where the file cannot be read or written, or is not 32 bytes long.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        let secret = Zeroizing::new(key::secret_file(path)?);
        Ok(Self(SecretKey::from_bytes(*secret)))
    }

    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public_key().to_bytes()
    }

    /// Opens a namespace key sealed to this node.
    ///
    /// # Errors
    /// [`Error::NotForThisNode`] where it was sealed to another, or altered.
    pub fn open(&self, sealed: &[u8]) -> Result<NamespaceKey, Error> {
        let body = unformat(sealed)?;
        let opened = Zeroizing::new(self.0.unseal(body).map_err(|_| Error::NotForThisNode)?);
        opened.as_slice().try_into().map(NamespaceKey).map_err(|_| Error::NotForThisNode)
    }
}

/// The symmetric key of one namespace.
#[derive(Clone)]
pub struct NamespaceKey([u8; 32]);

impl Drop for NamespaceKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl NamespaceKey {
    pub fn generate() -> io::Result<Self> {
        key::random().map(Self)
    }

    /// The key sealed to each node's seal key.
    pub fn seal_to(&self, nodes: &BTreeMap<NodeId, [u8; 32]>) -> Result<BTreeMap<NodeId, Vec<u8>>, Error> {
        let seal = |(&node, public): (&NodeId, &[u8; 32])| {
            let sealed = PublicKey::from_bytes(*public).seal(&mut OsRng, &self.0).map_err(|_| Error::Seal)?;
            Ok((node, [&[FORMAT], sealed.as_slice()].concat()))
        };
        nodes.iter().map(seal).collect()
    }

    /// `context` (namespace/name/field) is authenticated, so that a ciphertext cannot be moved to another place.
    pub fn encrypt(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_LEN] = key::random().map_err(Error::Random)?;
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self.cipher().encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| Error::Seal)?;
        Ok([&[FORMAT], nonce.as_slice(), &sealed].concat())
    }

    /// What was encrypted for `context`.
    ///
    /// # Errors
    /// [`Error::Altered`] where key, context or a single bit is another.
    pub fn decrypt(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let body = unformat(sealed)?;
        if body.len() < NONCE_LEN + TAG_LEN {
            return Err(Error::Short);
        }
        let (nonce, msg) = body.split_at(NONCE_LEN);
        self.cipher()
            .decrypt(XNonce::from_slice(nonce), Payload { msg, aad: context.as_bytes() })
            .map_err(|_| Error::Altered { context: context.to_owned() })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl fmt::Debug for NamespaceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamespaceKey(..)")
    }
}

fn unformat(sealed: &[u8]) -> Result<&[u8], Error> {
    match sealed.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((&other, _)) => Err(Error::Format(other)),
        None => Err(Error::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_key() -> (tempfile::TempDir, SealKey) {
        let dir = tempfile::tempdir().unwrap();
        let key = SealKey::load_or_create(&dir.path().join("seal.key")).unwrap();
        (dir, key)
    }

    #[test]
    fn a_moved_or_changed_secret_is_refused() {
        let key = NamespaceKey::generate().unwrap();
        let sealed = key.encrypt("shop/db/password", b"hunter2").unwrap();
        assert_eq!(key.decrypt("shop/db/password", &sealed).unwrap(), b"hunter2");
        assert!(matches!(key.decrypt("shop/db/user", &sealed), Err(Error::Altered { .. })));
        assert!(NamespaceKey::generate().unwrap().decrypt("shop/db/password", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.decrypt("shop/db/password", &changed).is_err(), "byte {at}");
            assert!(key.decrypt("shop/db/password", &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let key = NamespaceKey::generate().unwrap();
        assert_ne!(key.encrypt("a", b"x").unwrap(), key.encrypt("a", b"x").unwrap());
        assert_eq!(key.decrypt("a", &key.encrypt("a", b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn only_the_node_it_is_sealed_to_opens_a_key() {
        let ((_a, ours), (_b, theirs)) = (seal_key(), seal_key());
        let key = NamespaceKey::generate().unwrap();
        let boxes = key.seal_to(&[(NodeId([1; 32]), ours.public())].into()).unwrap();
        let sealed = &boxes[&NodeId([1; 32])];
        let opened = ours.open(sealed).unwrap();
        let secret = key.encrypt("c", b"plain").unwrap();
        assert_eq!(opened.decrypt("c", &secret).unwrap(), b"plain");
        assert!(matches!(theirs.open(sealed), Err(Error::NotForThisNode)));
        assert!(ours.open(&sealed[..40]).is_err());
        assert!(ours.open(&[]).is_err());
        assert!(matches!(ours.open(&[9]), Err(Error::Format(9))));
    }

    #[test]
    fn a_seal_key_is_kept() {
        let (dir, key) = seal_key();
        assert_eq!(SealKey::load_or_create(&dir.path().join("seal.key")).unwrap().public(), key.public());
    }
}
