//! The chain of one against a real directory: a small machine that counts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::block::{Block, Tip, seal};
use super::*;
use crate::base::UnixMillis;
use crate::base::key::NodeKey;
use crate::base::scope::Scope;
use crate::store::{Batch, Engine, Table};

const LONG: Duration = Duration::from_secs(30);

/// Adds payloads (a name and a deadline in ms after the block, 0 for none) to a list that can be looked at.
#[derive(Default)]
struct Counter {
    /// Whoever holds it holds up `apply`.
    gate: Arc<Mutex<()>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Name → (height, time of the block).
    seen: Arc<BTreeMap<Vec<u8>, (u64, u64)>>,
    due: Option<UnixMillis>,
    fired: Vec<u64>,
}

impl StateMachine for Counter {
    type State = Counted;
    type Principal = u8;
    type Outcome = usize;

    #[allow(clippy::cast_possible_truncation)] // two halves, each taken as such
    fn restore(&self, entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Counted, String> {
        let mut state = Counted::default();
        for (key, value) in entries {
            let value = value.try_into().map_err(|_| format!("entry {key:?} is malformed"))?;
            let value = u128::from_be_bytes(value);
            let pair = ((value >> 64) as u64, value as u64);
            Arc::make_mut(&mut state.seen).insert(key, pair);
        }
        Ok(state)
    }

    fn apply(&self, state: &mut Counted, block: &BlockContext, commands: &[Transaction<u8>]) -> Vec<usize> {
        drop(self.gate.lock().unwrap());
        if state.due.is_some_and(|due| due <= block.time) {
            state.due = None;
            state.fired.push(block.height.0);
        }
        let count = |transaction: &Transaction<u8>| {
            if let Some(delay) = transaction.payload.strip_prefix(b"wait ") {
                let delay: u64 = std::str::from_utf8(delay).unwrap().parse().unwrap();
                state.due = Some(block.time.plus(delay));
            } else {
                let seen = Arc::make_mut(&mut state.seen);
                seen.insert(transaction.payload.clone(), (block.height.0, block.time.0));
            }
            state.seen.len()
        };
        commands.iter().map(count).collect()
    }

    fn persist(&self, before: &Counted, after: &Counted) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let new = after.seen.iter().filter(|(key, _)| !before.seen.contains_key(*key));
        new.map(|(key, (height, time))| {
            let value = (u128::from(*height) << 64) | u128::from(*time);
            (key.clone(), Some(value.to_be_bytes().to_vec()))
        })
        .collect()
    }

    fn next_deadline(&self, state: &Counted) -> Option<UnixMillis> {
        state.due
    }
}

struct Running {
    handle: Handle<Counter>,
    scope: Scope,
    gate: Arc<Mutex<()>>,
    engine: Engine,
}

impl Running {
    fn open(dir: &Path, blocks_kept: u64) -> Result<Self, Error> {
        let key = NodeKey::load_or_create(&dir.join("node.key")).unwrap();
        let engine = Engine::open(&dir.join("state"))?;
        let scope = Scope::default();
        let config = Config { blocks_kept, commands_max: 64 };
        let machine = Counter::default();
        let gate = Arc::clone(&machine.gate);
        Ok(Self { handle: spawn(machine, engine.clone(), key, config, &scope)?, scope, gate, engine })
    }

    async fn add(&self, name: &str) -> Committed<usize> {
        self.handle.submit(1, name.into(), LONG).await.unwrap()
    }

    async fn close(self) -> Counted {
        let state = self.handle.snapshot().state.clone();
        self.scope.shutdown().await;
        assert!(matches!(self.handle.submit(1, b"late".to_vec(), LONG).await, Err(Error::Stopped)));
        state
    }
}

fn damage(dir: &Path) -> Damage {
    match Running::open(dir, 100).err() {
        Some(Error::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_blocks_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    let chain = running.handle.chain();
    let submits: Vec<_> = (0..300)
        .map(|n| {
            let handle = running.handle.clone();
            tokio::spawn(async move { handle.submit(1, format!("c{n}").into_bytes(), LONG).await.unwrap() })
        })
        .collect();
    let mut places = vec![];
    for submit in submits {
        let committed = submit.await.unwrap();
        places.push((committed.height, committed.index));
    }
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 300);
    let blocks = running.handle.snapshot().height.0;
    assert!(blocks < 150, "300 commands at once took {blocks} blocks");
    let before = running.close().await;
    assert_eq!(before.seen.len(), 300);

    let running = Running::open(dir.path(), 100).unwrap();
    assert_eq!(running.handle.chain(), chain);
    assert_eq!(running.handle.snapshot().state, before);
    assert_eq!(running.handle.snapshot().height.0, blocks);
    // Nonces go on where they were: a new command is not taken for an old one.
    assert_eq!(running.add("one more").await.height.0, blocks + 1);
}

#[tokio::test]
async fn what_is_acknowledged_is_published_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    for n in 0..20 {
        let committed = running.add(&format!("c{n}")).await;
        let snapshot = running.handle.snapshot();
        assert!(snapshot.height >= committed.height);
        assert_eq!(snapshot.state.seen[format!("c{n}").as_bytes()].0, committed.height.0);
    }
    let mut blocks = running.handle.blocks(Height(1));
    let (mut parent, mut time) = (running.handle.chain(), UnixMillis(0));
    for height in 1..=20 {
        let CommittedBlock { hash, block } = blocks.next().await.unwrap().unwrap();
        assert_eq!((block.height, block.parent), (Height(height), parent));
        assert!(block.time > time);
        (parent, time) = (hash, block.time);
    }
    running.close().await;
    assert!(blocks.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_deadline_makes_a_block_and_idleness_none() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    let mut watch = running.handle.watch();
    let asked = running.add("wait 50").await.height;
    let fired = tokio::time::timeout(LONG, watch.wait_for(|snapshot| !snapshot.state.fired.is_empty())).await;
    let fired = Arc::clone(&*fired.unwrap().unwrap());
    assert_eq!(fired.state.fired, [asked.0 + 1]);
    let mut blocks = running.handle.blocks(fired.height);
    assert!(blocks.next().await.unwrap().unwrap().block.commands.is_empty());
    // Nothing is due any more: the next block is the next command's.
    let idle = tokio::time::timeout(Duration::from_millis(200), blocks.next()).await;
    assert!(idle.is_err(), "an idle chain made a block");
    assert_eq!(running.add("x").await.height.0, fired.height.0 + 1);
}

#[tokio::test]
async fn what_timed_out_is_never_committed() {
    const SHORT: Duration = Duration::from_millis(20);
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    let queued = tokio::sync::Notify::new();
    let in_block = running.handle.submit(1, b"in the block".to_vec(), SHORT);
    let waits = async {
        queued.notified().await;
        let outcome = running.handle.submit(1, b"too late".to_vec(), SHORT).await;
        assert!(matches!(outcome, Err(Error::Timeout)), "{outcome:?}");
    };
    // A block is held up in `apply` until the second command, which waits behind it, has timed out.
    let gate = Arc::clone(&running.gate);
    let (holding, is_held) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _gate = gate.lock().unwrap();
        holding.send(()).unwrap();
        let _ = released.recv();
    });
    is_held.await.unwrap();
    let steer = async {
        tokio::task::yield_now().await;
        queued.notify_one();
    };
    let (committed, ()) = tokio::join!(in_block, async {
        tokio::join!(waits, steer);
        drop(release);
    });
    holder.join().unwrap();
    // Its block was being made when its time was over, so the truth was waited for.
    committed.unwrap();
    running.add("fence").await;
    let state = running.close().await;
    assert_eq!(state.seen.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b"fence"[..], b"in the block"]);
}

#[tokio::test]
async fn a_failed_write_is_not_acknowledged_and_ends_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    running.add("good").await;
    running.engine.poison();
    let error = running.handle.submit(1, b"bad".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(error, Error::NotDurable(_)), "{error}");
    tokio::time::timeout(LONG, running.scope.stopped()).await.unwrap();
    assert_eq!(running.handle.snapshot().height, Height(1));
    running.close().await;
    let state = Running::open(dir.path(), 100).unwrap().close().await;
    assert_eq!(state.seen.keys().collect::<Vec<_>>(), [b"good"]);
}

#[tokio::test]
async fn a_panic_in_apply_ends_the_node_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    running.add("good").await;
    let error = running.handle.submit(1, b"wait forever".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    tokio::time::timeout(LONG, running.scope.stopped()).await.unwrap();
    running.close().await;
    assert_eq!(Running::open(dir.path(), 100).unwrap().handle.snapshot().height, Height(1));
}

#[tokio::test]
async fn old_blocks_go_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 30).unwrap();
    for n in 0..40 {
        running.add(&format!("c{n}")).await;
    }
    let error = running.handle.blocks(Height(10)).next().await.unwrap_err();
    assert!(matches!(error, Error::Pruned { asked: Height(10), first: Height(11) }), "{error}");
    assert_eq!(running.handle.blocks(Height(11)).next().await.unwrap().unwrap().block.height, Height(11));
    running.close().await;

    // Fewer are kept from now on.
    let running = Running::open(dir.path(), 5).unwrap();
    running.add("c40").await;
    assert!(running.handle.blocks(Height(36)).next().await.is_err());
    assert!(running.handle.blocks(Height(37)).next().await.is_ok());
    assert_eq!(running.close().await.seen.len(), 41);
    Running::open(dir.path(), 5).unwrap().close().await;
}

#[tokio::test]
async fn tampering_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    for n in 0..6 {
        running.add(&format!("c{n}")).await;
    }
    let state = dir.path().join("state");
    running.close().await;

    let engine = || Engine::open(&state).unwrap();
    let at = |height: u64| height.to_be_bytes();
    let write = |table, key: &[u8], value: Option<&[u8]>| {
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.put(table, key, value),
            None => batch.delete(table, key),
        }
        engine().write_synced(batch).unwrap();
    };
    let third = engine().get(Table::Block, &at(3)).unwrap().unwrap();
    let mut flipped = third.clone();
    *flipped.last_mut().unwrap() ^= 1;
    write(Table::Block, &at(3), Some(&flipped));
    assert!(matches!(damage(dir.path()), Damage::Signature(Height(3))));

    write(Table::Block, &at(3), None);
    assert!(matches!(damage(dir.path()), Damage::Hole(Height(3))));

    // Even the node's own key cannot change the past: the next block names the parent's hash.
    let key = NodeKey::load_or_create(&dir.path().join("node.key")).unwrap();
    let mut block = Block::<u8>::decode(&third[64..]).unwrap();
    block.commands.clear();
    write(Table::Block, &at(3), Some(&seal(&key, &block.encode().unwrap())));
    assert!(matches!(damage(dir.path()), Damage::Link(Height(4))));
    write(Table::Block, &at(3), Some(&third));

    let tip = Tip::decode(&engine().get(Table::Meta, b"tip").unwrap().unwrap()).unwrap();
    let behind = Tip { height: Height(5), ..tip };
    write(Table::Meta, b"tip", Some(&behind.encode().unwrap()));
    assert!(matches!(damage(dir.path()), Damage::Applied { applied: Height(5), last: Height(6) }));
    write(Table::Meta, b"tip", Some(&tip.encode().unwrap()));

    let entry = engine().get(Table::Object, b"c1").unwrap().unwrap();
    write(Table::Object, b"c1", Some(b"short"));
    assert!(matches!(damage(dir.path()), Damage::State(_)));
    write(Table::Object, b"c1", Some(&entry));
    assert_eq!(Running::open(dir.path(), 100).unwrap().close().await.seen.len(), 6);

    std::fs::remove_file(dir.path().join("node.key")).unwrap();
    assert!(matches!(Running::open(dir.path(), 100).err(), Some(Error::OtherNode { .. })));
}

#[tokio::test]
async fn a_payload_beyond_the_limit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), 100).unwrap();
    let error = running.handle.submit(1, vec![0; block::PAYLOAD_MAX + 1], LONG).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(core::Rejected::TooLarge)));
    // Those within the limit share blocks only as far as their bytes go.
    let submit = |n| running.handle.submit(1, vec![n; block::PAYLOAD_MAX], LONG);
    let (one, two, three) = tokio::join!(submit(1), submit(2), submit(3));
    for committed in [one, two, three] {
        committed.unwrap();
    }
    assert_eq!(running.close().await.seen.len(), 3);
}

const WRITER: &str = "ENTROOS_TEST_LEDGER_WRITER";

/// Not a test of its own: what `no_acknowledged_command_is_lost_by_kill` runs in a child and kills.
#[test]
fn writer_to_be_killed() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let running = Running::open(Path::new(&dir), 50).unwrap();
        let begin = running.handle.snapshot().height.0;
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let handle = running.handle.clone();
                tokio::spawn(async move {
                    for n in 0_u64.. {
                        let name = format!("{begin}-{writer}-{n}");
                        handle.submit(1, name.clone().into_bytes(), LONG).await.unwrap();
                        // One line is one write, so that what was printed was acknowledged.
                        println!("ack {name}");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[tokio::test]
async fn no_acknowledged_command_is_lost_by_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![];
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::writer_to_be_killed", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ack = |line: String| line.split_once("ack ").map(|(_, name)| name.to_owned());
        acknowledged.extend(lines.by_ref().filter_map(ack).take(60 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be cut; the whole ones before it were acknowledged.
        let rest: Vec<_> = lines.filter_map(ack).collect();
        acknowledged.extend(rest.split_last().map_or(&[][..], |(_, whole)| whole).iter().cloned());

        let state = Running::open(dir.path(), 50).unwrap().close().await;
        for name in &acknowledged {
            assert!(state.seen.contains_key(name.as_bytes()), "round {round}: {name} was acknowledged and is lost");
        }
    }
    assert!(acknowledged.len() >= 600);
}
