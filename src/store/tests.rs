//! What the ledger relies on: order, atomicity, refusal.

use super::*;

fn open() -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(&dir.path().join("state")).unwrap();
    (dir, engine)
}

fn keys(entries: Entries<'_>) -> Vec<Vec<u8>> {
    entries.map(|entry| entry.unwrap().0).collect()
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let (dir, engine) = open();
    let mut batch = Batch::default();
    batch.put(Table::Object, b"b", b"2");
    batch.put(Table::Object, b"a", b"1");
    batch.put(Table::Meta, b"a", b"other table");
    engine.write_synced(batch).unwrap();
    let mut batch = Batch::default();
    batch.delete(Table::Object, b"b");
    batch.put(Table::Object, b"c", b"3");
    engine.write_synced(batch).unwrap();
    drop(engine);

    let engine = Engine::open(&dir.path().join("state")).unwrap();
    assert_eq!(keys(engine.scan(Table::Object)), [b"a", b"c"]);
    assert_eq!(engine.get(Table::Meta, b"a").unwrap().unwrap(), b"other table");
    assert_eq!(engine.get(Table::Object, b"b").unwrap(), None);
    assert_eq!(engine.last(Table::Object).unwrap().unwrap().0, b"c");
    assert_eq!(engine.last(Table::Block).unwrap(), None);
}

#[test]
fn ranges_are_read_and_deleted() {
    let (_dir, engine) = open();
    let mut batch = Batch::default();
    for n in 0..10_u8 {
        batch.put(Table::Block, &[n], &[n]);
    }
    engine.write_synced(batch).unwrap();
    assert_eq!(keys(engine.scan_from(Table::Block, &[7])), [[7], [8], [9]]);
    let mut batch = Batch::default();
    batch.delete_range(Table::Block, &[0], &[8]);
    engine.write_synced(batch).unwrap();
    assert_eq!(keys(engine.scan(Table::Block)), [[8], [9]]);
}

#[test]
fn a_directory_has_one_owner() {
    let (dir, engine) = open();
    let error = Engine::open(&dir.path().join("state")).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("state"));
    drop(engine);
    Engine::open(&dir.path().join("state")).unwrap();
}

#[test]
fn a_store_whose_write_failed_takes_no_more() {
    let (_dir, engine) = open();
    engine.poison();
    let mut batch = Batch::default();
    batch.put(Table::Meta, b"k", b"v");
    assert!(matches!(engine.write_synced(batch), Err(Error::Poisoned { .. })));
    assert_eq!(engine.get(Table::Meta, b"k").unwrap(), None);
}

#[test]
fn a_full_disk_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open_with_reserve(dir.path(), u64::MAX).unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Meta, b"k", b"v");
    let error = engine.write_synced(batch).unwrap_err();
    assert!(matches!(error, Error::Full { .. }));
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(engine.get(Table::Meta, b"k").unwrap(), None);
}

#[test]
fn a_file_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    std::fs::write(&path, b"").unwrap();
    assert!(Engine::open(&path).err().unwrap().to_string().contains("state"));
}
