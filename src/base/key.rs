//! A node's ed25519 key: kept in one file, readable by its owner alone.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::id::NodeId;

/// Signs as a node.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Reads the key at `path`, or makes one there (mode 0600, synced before it is used).
    ///
    /// # Errors
    /// Where the file cannot be read or written, or is not 32 bytes long.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        Ok(Self(SigningKey::from_bytes(&secret_file(path)?)))
    }

    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Whether `signature` is `signer`'s over `message`, by the strict rules (no malleable or small-order keys).
#[must_use]
pub fn verify(signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&signer.0)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// Reads 32 secret bytes from `path`, or fills it with random ones first. A crash leaves the whole file or none.
///
/// # Errors
/// Where the file cannot be read or written, or has another length.
pub fn secret_file(path: &Path) -> io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(bytes) => {
            bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "key file is not 32 bytes"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let secret = random()?;
            let parent = path.parent().unwrap_or(Path::new("."));
            let temporary = path.with_extension("new");
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            std::fs::File::open(parent)?.sync_all()?;
            Ok(secret)
        }
        Err(e) => Err(e),
    }
}

/// Random bytes from the kernel.
///
/// # Errors
/// Where the kernel has none to give.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = NodeKey::load_or_create(&path).unwrap();
        assert_eq!(NodeKey::load_or_create(&path).unwrap().id(), key.id());
        let signature = key.sign(b"hello");
        assert!(verify(&key.id(), b"hello", &signature));
        assert!(!verify(&key.id(), b"hullo", &signature));
        std::fs::write(&path, b"short").unwrap();
        assert!(NodeKey::load_or_create(&path).is_err());
    }
}
