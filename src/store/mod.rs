//! Where bytes are kept: today the ordered key-value engine under the ledger; Morph comes here.
//!
//! Invariant: `RocksDB` is named in this room alone, behind one engine type.

mod engine;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use engine::{Engine, Entries, Entry};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{path}` is in use by another process: stop the other node, or give this one a data directory of its own")]
    Locked { path: PathBuf },
    #[error("failed to create `{path}`")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to open the store in `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    /// `RocksDB` found bytes that are not what it wrote.
    #[error(
        "the store in `{path}` is damaged: check the disk, then restore a backup or let this node begin anew in an empty directory"
    )]
    Corrupt {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    #[error("failed to read from the store in `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    /// Refused before anything was written; goes on by itself when there is space.
    #[error(
        "the disk of `{path}` is full ({free} bytes left, {reserve} are kept back): nothing was written; free some space"
    )]
    Full { path: PathBuf, free: u64, reserve: u64 },
    #[error("the disk of `{path}` became full during a write: free some space, then start the node again")]
    FullDuringWrite {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    #[error("failed to write to the store in `{path}`: check the disk, then start the node again")]
    Write {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    /// What a failed sync left in the page cache cannot be known, so only a restart, which reads the disk, may go on.
    #[error("the store in `{path}` takes no writes since one failed: start the node again")]
    Poisoned { path: PathBuf },
    #[error("failed to ask for the free space of `{path}`")]
    Space {
        path: PathBuf,
        #[source]
        source: nix::Error,
    },
}

/// The tables (`RocksDB` column families) there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Block,
    Object,
    Meta,
}

impl Table {
    const ALL: [Self; 3] = [Self::Block, Self::Object, Self::Meta];

    const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Object => "object",
            Self::Meta => "meta",
        }
    }
}

/// Changes that take effect together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    Delete { table: Table, key: Vec<u8> },
    DeleteRange { table: Table, from: Vec<u8>, to: Vec<u8> },
}

impl Batch {
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.changes.push(Change::Put { table, key: key.to_vec(), value: value.to_vec() });
    }

    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.push(Change::Delete { table, key: key.to_vec() });
    }

    /// Deletes every key in `from..to`. Leaves a mark that later reads step over, so it is for rare, large removals.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.changes.push(Change::DeleteRange { table, from: from.to_vec(), to: to.to_vec() });
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
