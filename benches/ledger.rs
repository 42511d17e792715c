//! Acknowledged submits a second, beside the floor of the same disk in the same run: a loop of write and fdatasync.
//!
//! `cargo bench --bench ledger`; `LEDGER_BENCH_DIR` names the directory (default: under the system's temporary one, which
//! must be a real disk for the numbers to mean anything).

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use entroos::base::UnixMillis;
use entroos::base::key::NodeKey;
use entroos::base::scope::Scope;
use entroos::ledger::{BlockContext, Config, Handle, StateMachine, Transaction, spawn};
use entroos::store::Engine;

/// One command's payload and the object it becomes: about a small pod's.
const PAYLOAD: usize = 600;
const RUN: Duration = Duration::from_secs(4);

/// Keeps the last payload of each of a thousand names, as objects are.
struct Store;

#[derive(Clone, Default)]
struct Stored(Vec<(u64, Vec<u8>)>);

impl StateMachine for Store {
    type State = Stored;
    type Principal = u8;
    type Outcome = ();

    fn restore(&self, _: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Stored, String> {
        Ok(Stored::default())
    }

    fn apply(&self, state: &mut Stored, block: &BlockContext, commands: &[Transaction<u8>]) -> Vec<()> {
        let name = |n: usize| (block.height.0 * 31 + n as u64) % 1000;
        state.0 = commands.iter().enumerate().map(|(n, command)| (name(n), command.payload.clone())).collect();
        vec![(); commands.len()]
    }

    fn persist(&self, _: &Stored, after: &Stored) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        after.0.iter().map(|(name, payload)| (name.to_be_bytes().to_vec(), Some(payload.clone()))).collect()
    }

    fn next_deadline(&self, _: &Stored) -> Option<UnixMillis> {
        None
    }
}

fn main() {
    let base = std::env::var_os("LEDGER_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).expect("a directory to write in");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("{} bytes a command, {} s each, in {}", PAYLOAD, RUN.as_secs(), dir.path().display());
    println!("{:>24}  {:>10}  {:>12}  {:>9}  {:>9}", "", "acks/s", "commands/blk", "p50 ms", "p99 ms");
    floor(dir.path());
    runtime.block_on(async {
        let key = NodeKey::load_or_create(&dir.path().join("node.key")).expect("a key");
        let engine = Engine::open(&dir.path().join("state")).expect("an engine");
        let scope = Scope::default();
        let config = Config { blocks_kept: 10_000, commands_max: 1024 };
        let handle = spawn(Store, engine, key, config, &scope).expect("a ledger");
        for clients in [1, 16, 256] {
            clients_at_once(&handle, clients).await;
        }
        scope.shutdown().await;
    });
    floor(dir.path());
}

fn floor(dir: &Path) {
    let mut file = std::fs::File::create(dir.join("floor")).expect("a file");
    let bytes = [7; PAYLOAD];
    let (begin, mut took) = (Instant::now(), vec![]);
    while begin.elapsed() < RUN / 2 {
        let one = Instant::now();
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a write");
        took.push(one.elapsed());
    }
    report("floor: write+fdatasync", begin.elapsed(), &mut took, None);
}

async fn clients_at_once(handle: &Handle<Store>, clients: u64) {
    let blocks_before = handle.snapshot().height.0;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let mut took = vec![];
                while begin.elapsed() < RUN {
                    let one = Instant::now();
                    handle.submit(0, vec![1; PAYLOAD], Duration::from_secs(30)).await.expect("an acknowledgement");
                    took.push(one.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = vec![];
    for task in tasks {
        took.extend(task.await.expect("a client"));
    }
    let blocks = handle.snapshot().height.0 - blocks_before;
    report(&format!("{clients} clients"), begin.elapsed(), &mut took, Some(blocks));
}

#[allow(clippy::cast_precision_loss)] // counts of seconds, for people
fn report(name: &str, elapsed: Duration, took: &mut [Duration], blocks: Option<u64>) {
    took.sort_unstable();
    let percentile = |p: usize| took[(took.len() - 1) * p / 100].as_secs_f64() * 1000.0;
    let (count, blocks) = (took.len() as f64, blocks.unwrap_or(took.len() as u64) as f64);
    println!(
        "{name:>24}  {:>10.0}  {:>12.1}  {:>9.2}  {:>9.2}",
        count / elapsed.as_secs_f64(),
        count / blocks,
        percentile(50),
        percentile(99)
    );
}
