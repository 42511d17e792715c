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

/// Reads 32 secret bytes from `path`, or fills it with random ones first. A crash leaves the whole file or none, and of
/// two processes that begin at once both get the same bytes.
///
/// # Errors
/// Where the file cannot be read or written, or has another length; names it.
pub fn secret_file(path: &Path) -> io::Result<[u8; 32]> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("key file `{}`: {e}", path.display()));
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            publish_secret(path).map_err(named)?;
            std::fs::read(path)
        }
        read => read,
    }
    .and_then(|bytes| {
        let length = bytes.len();
        bytes.try_into().map_err(|_| {
            let message = format!("{length} bytes long, not 32: restore it from a backup");
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    })
    .map_err(named)
}

/// Puts random bytes at `path` unless somebody else was faster. The link makes the complete file visible at once and
/// never replaces one.
fn publish_secret(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = parent.join(format!(".key-{}", super::id::hex(&random::<8>()?)));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let published = file.write_all(&random::<32>()?).and_then(|()| file.sync_all()).and_then(|()| {
        match std::fs::hard_link(&temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = std::fs::remove_file(&temporary);
    published.and(removed)?;
    std::fs::File::open(parent)?.sync_all()
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
        let error = NodeKey::load_or_create(&path).err().unwrap().to_string();
        assert!(error.contains("node.key") && error.contains("5 bytes"), "{error}");
    }

    #[test]
    fn all_who_begin_at_once_get_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| secret_file(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["node.key"]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
