//! The engine on `RocksDB`: small in memory, silent when idle, every write synced.
//!
//! Invariant: after a failed write nothing more is written until the directory is opened again (a failed fsync may have
//! dropped the very pages a second one would report as safe).

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::statvfs::statvfs;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    IteratorMode, LogLevel, Options, WriteBatch, WriteOptions,
};

use super::{Batch, Change, Error, Table};

/// Free space that is never written into, so that `RocksDB` can always flush and compact what it has accepted.
const DISK_RESERVE: u64 = 32 << 20;
const MEMTABLE: usize = 4 << 20;
const BLOCK_CACHE: usize = 4 << 20;
const WAL_MAX: u64 = 16 << 20;

/// The entries of a table, in the order of their keys.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, Error>> + 'a>;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One open directory. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    path: PathBuf,
    poisoned: AtomicBool,
    reserve: u64,
}

impl Engine {
    /// Opens the directory, or makes it (mode 0700).
    ///
    /// # Errors
    /// [`Error::Locked`] where another process has it open; [`Error::Corrupt`] where its bytes are damaged.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with_reserve(dir, DISK_RESERVE)
    }

    pub(super) fn open_with_reserve(dir: &Path, reserve: u64) -> Result<Self, Error> {
        let path = dir.to_path_buf();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| Error::Create { path: path.clone(), source })?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(&cache)));
        match DB::open_cf_descriptors(&database_options(), dir, families) {
            Ok(db) => Ok(Self { inner: Arc::new(Inner { db, path, poisoned: AtomicBool::new(false), reserve }) }),
            Err(source) if is_locked(&source) => Err(Error::Locked { path }),
            Err(source) if source.kind() == rocksdb::ErrorKind::Corruption => Err(Error::Corrupt { path, source }),
            Err(source) if is_full(&source) => Err(Error::FullDuringWrite { path, source }),
            Err(source) => Err(Error::Open { path, source }),
        }
    }

    /// The directory it keeps its files in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.db.get_cf(self.family(table), key).map_err(|source| self.read_error(source))
    }

    /// All entries of a table.
    #[must_use]
    pub fn scan(&self, table: Table) -> Entries<'_> {
        self.entries(table, IteratorMode::Start)
    }

    /// The entries whose key is `start` or later.
    #[must_use]
    pub fn scan_from(&self, table: Table, start: &[u8]) -> Entries<'_> {
        self.entries(table, IteratorMode::From(start, Direction::Forward))
    }

    /// The entry with the greatest key.
    pub fn last(&self, table: Table) -> Result<Option<Entry>, Error> {
        self.entries(table, IteratorMode::End).next().transpose()
    }

    /// All or nothing, durable on return. After a failed sync every later write fails until restart.
    ///
    /// # Errors
    /// [`Error::Full`] wrote nothing and may be tried again; after any other the store takes no more writes.
    pub fn write_synced(&self, batch: Batch) -> Result<(), Error> {
        let path = || self.inner.path.clone();
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: path() });
        }
        self.check_space()?;
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.inner.db.write_opt(self.compose(batch), &options).map_err(|source| {
            self.inner.poisoned.store(true, Ordering::Release);
            if is_full(&source) {
                Error::FullDuringWrite { path: path(), source }
            } else {
                Error::Write { path: path(), source }
            }
        })
    }

    /// Refuses before `RocksDB` would: it cannot go on by itself after a write that found the disk full.
    fn check_space(&self) -> Result<(), Error> {
        let Inner { path, reserve, .. } = &*self.inner;
        let disk = statvfs(path).map_err(|source| Error::Space { path: path.clone(), source })?;
        let blocks = if nix::unistd::geteuid().is_root() { disk.blocks_free() } else { disk.blocks_available() };
        let free = blocks.saturating_mul(disk.fragment_size());
        if free < *reserve { Err(Error::Full { path: path.clone(), free, reserve: *reserve }) } else { Ok(()) }
    }

    fn compose(&self, batch: Batch) -> WriteBatch {
        let mut composed = WriteBatch::default();
        for change in batch.changes {
            match change {
                Change::Put { table, key, value } => composed.put_cf(self.family(table), key, value),
                Change::Delete { table, key } => composed.delete_cf(self.family(table), key),
                Change::DeleteRange { table, from, to } => composed.delete_range_cf(self.family(table), from, to),
            }
        }
        composed
    }

    fn entries(&self, table: Table, mode: IteratorMode<'_>) -> Entries<'_> {
        let found = self.inner.db.iterator_cf(self.family(table), mode);
        Box::new(found.map(|entry| match entry {
            Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
            Err(source) => Err(self.read_error(source)),
        }))
    }

    fn read_error(&self, source: rocksdb::Error) -> Error {
        let path = self.inner.path.clone();
        if source.kind() == rocksdb::ErrorKind::Corruption {
            Error::Corrupt { path, source }
        } else {
            Error::Read { path, source }
        }
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        // `open` made every one of `Table::ALL`, so a missing one is a bug of this file.
        self.inner.db.cf_handle(table.name()).expect("every table is opened")
    }

    #[cfg(test)]
    pub(crate) fn poison(&self) {
        self.inner.poisoned.store(true, Ordering::Release);
    }
}

fn is_full(error: &rocksdb::Error) -> bool {
    error.as_ref().contains("No space left")
}

fn is_locked(error: &rocksdb::Error) -> bool {
    let message: &str = error.as_ref();
    message.contains("lock file") || message.contains("lock hold by current process")
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A torn last record is a write nobody was told of; damage before it is not to be cut off in silence.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    options.set_db_write_buffer_size(2 * MEMTABLE);
    options.set_max_total_wal_size(WAL_MAX);
    options.set_max_manifest_file_size(1 << 20);
    options.set_manifest_preallocation_size(64 << 10);
    // An idle node writes nothing: no statistics, and an info log of warnings alone.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(MEMTABLE);
    options.set_max_write_buffer_number(2);
    options.set_compression_type(DBCompressionType::None);
    options.set_target_file_size_base(8 << 20);
    options.set_max_bytes_for_level_base(32 << 20);
    options
}
