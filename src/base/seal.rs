//! Sealing: what keeps secrets out of the log.

use super::id::NodeId;
use std::collections::BTreeMap;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("skeleton")]
    Skeleton,
}

/// The node's X25519 secret, to which namespace keys are sealed.
#[derive(Clone)]
pub struct SealKey(pub(crate) [u8; 32]);
impl SealKey {
    pub fn load_or_create(_path: &std::path::Path) -> std::io::Result<Self> {
        todo!()
    }
    pub fn public(&self) -> [u8; 32] {
        todo!()
    }
    /// Opens a namespace key sealed to this node.
    pub fn open(&self, _sealed: &[u8]) -> Result<NamespaceKey, Error> {
        todo!()
    }
}
/// The symmetric key of one namespace.
#[derive(Clone)]
pub struct NamespaceKey(pub(crate) [u8; 32]);
impl NamespaceKey {
    pub fn generate() -> std::io::Result<Self> {
        todo!()
    }
    /// The key sealed to each node's seal key.
    pub fn seal_to(&self, _nodes: &BTreeMap<NodeId, [u8; 32]>) -> Result<BTreeMap<NodeId, Vec<u8>>, Error> {
        todo!()
    }
    /// `context` (namespace/name/field) is authenticated, so that a ciphertext cannot be moved to another place.
    pub fn encrypt(&self, _context: &str, _plain: &[u8]) -> Result<Vec<u8>, Error> {
        todo!()
    }
    pub fn decrypt(&self, _context: &str, _sealed: &[u8]) -> Result<Vec<u8>, Error> {
        todo!()
    }
}
