//! Where bytes are kept: today the ordered key-value engine under the ledger; Morph comes here.
//!
//! Invariant: RocksDB is named in this room alone, behind one engine type.

use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("skeleton")]
    Skeleton,
}

/// The tables (RocksDB column families) there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Block,
    Object,
    Meta,
}

#[derive(Clone)]
pub struct Engine {}

#[derive(Default)]
pub struct Batch {}
impl Batch {
    pub fn put(&mut self, _table: Table, _key: &[u8], _value: &[u8]) {
        todo!()
    }
    pub fn delete(&mut self, _table: Table, _key: &[u8]) {
        todo!()
    }
}

impl Engine {
    pub fn open(_dir: &Path) -> Result<Self, Error> {
        todo!()
    }
    pub fn get(&self, _table: Table, _key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        todo!()
    }
    pub fn scan(&self, _table: Table) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> + '_> {
        todo!()
    }
    /// All or nothing, durable on return. After a failed sync every later write fails until restart.
    pub fn write_synced(&self, _batch: Batch) -> Result<(), Error> {
        todo!()
    }
}
