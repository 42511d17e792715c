//! One block: its commands in order, then the scheduler. And how the state is kept between lives of a node.
//!
//! Nothing here knows the ledger: `client` joins the two.

use super::authorise::authorise;
use super::command::{Command, Outcome, Principal, Refusal};
use super::object::{Body, Key, Kind, Meta, Namespace, Object};
use super::state::{Head, State};
use super::{commands, events, scheduler};
use crate::base::codec;
use crate::base::{Height, NodeId, Uid, UnixMillis};

/// Most bytes of a command: an object of [`super::admission::OBJECT_MAX`] and what goes with it.
pub const COMMAND_MAX: usize = 1_536 * 1_024;
/// Most bytes of a persisted object: as admitted, with the status and the placement that `apply` bounds.
const ENTRY_MAX: usize = 8 * 1_024 * 1_024;
const HEAD_KEY: &[u8] = b"head";
const OBJECT_PREFIX: u8 = b'o';

/// What a block tells the machine beside its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub height: Height,
    pub time: UnixMillis,
    /// The parent's hash.
    pub parent: [u8; 32],
}

/// One checked transaction.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub principal: Principal,
    pub signer: NodeId,
    pub hash: [u8; 32],
    pub payload: &'a [u8],
}

/// The work on one block.
pub(super) struct Run<'a> {
    pub state: &'a mut State,
    pub block: Block,
    /// Pods made in this block that no one has looked for a node for.
    pub fresh: Vec<Key>,
    /// Whether room was made, or nodes changed: pods that found no node are worth another look.
    pub freed: bool,
    seed: [u8; 32],
    made: u64,
}

impl Run<'_> {
    /// A uid for an object no transaction asked for.
    pub fn next_uid(&mut self) -> Uid {
        self.made += 1;
        Uid::derive(&self.seed, self.made)
    }
}

/// Applies one block: one outcome for each command, in order.
pub fn apply<'a>(state: &mut State, block: &Block, commands: impl Iterator<Item = Input<'a>>) -> Vec<Outcome> {
    let seed = blake3::Hasher::new_derive_key("entroos 2026 block seed")
        .update(&block.parent)
        .update(&block.height.0.to_be_bytes())
        .finalize();
    let mut run = Run { state, block: *block, fresh: Vec::new(), freed: false, seed: *seed.as_bytes(), made: 0 };
    run.state.head.height = block.height;
    run.state.head.time = block.time;
    found(&mut run);
    events::expire(run.state, block.time);
    let outcomes = commands.map(|input| one(&mut run, &input)).collect();
    scheduler::schedule(&mut run);
    outcomes
}

fn one(run: &mut Run, input: &Input) -> Outcome {
    let command = codec::decode::<COMMAND_MAX, Command>(input.payload).map_err(|_| Refusal::Malformed)?;
    authorise(run.state, input.principal, input.signer, &command)?;
    commands::execute(run, input, command)
}

/// Makes what every chain starts with, in its first block.
fn found(run: &mut Run) {
    if run.state.head.founded {
        return;
    }
    run.state.head.founded = true;
    let meta = Meta {
        name: commands::DEFAULT_NAMESPACE.to_owned(),
        uid: run.next_uid(),
        generation: 1,
        created: run.block.time,
        labels: [(commands::NAME_LABEL.to_owned(), commands::DEFAULT_NAMESPACE.to_owned())].into(),
        ..Meta::default()
    };
    run.state.put(Object { meta, body: Body::Namespace(Namespace::default()) });
}

/// When the state next changes by time alone. A chain without its first block wants it at once.
pub fn next_deadline(state: &State) -> Option<UnixMillis> {
    if state.head.founded { events::next_expiry(state) } else { Some(UnixMillis(0)) }
}

/// The state that `entries` hold; the empty one where there are none.
///
/// # Errors
/// Where an entry is malformed; names it.
pub fn restore(entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<State, String> {
    let mut state = State::default();
    for (key, value) in entries {
        let at = || format!("entry {:?} of the state", String::from_utf8_lossy(&key));
        if key == HEAD_KEY {
            state.head = codec::decode::<64, Head>(&value).map_err(|e| format!("{}: {e}", at()))?;
            continue;
        }
        let object = codec::decode::<ENTRY_MAX, Object>(&value).map_err(|e| format!("{}: {e}", at()))?;
        if entry_key(&object.key()) != key {
            return Err(format!("{} holds another object, {}", at(), object.key()));
        }
        state.restore(object);
    }
    if !state.head.founded && !state.objects().is_empty() {
        return Err("the state has objects but no head: it was not written whole".to_owned());
    }
    Ok(state)
}

/// What changed from `before` to `after`: entries to write (`Some`) and to remove (`None`), ordered by key.
pub fn persist(before: &State, after: &State) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    use imbl::ordmap::DiffItem;
    let mut entries = Vec::new();
    if before.head != after.head {
        entries.push((HEAD_KEY.to_vec(), Some(encode::<64, _>(&after.head))));
    }
    for item in before.objects().diff(after.objects()) {
        entries.push(match item {
            DiffItem::Add(key, object) | DiffItem::Update { new: (key, object), .. } => {
                (entry_key(key), Some(encode::<ENTRY_MAX, _>(object.as_ref())))
            }
            DiffItem::Remove(key, _) => (entry_key(key), None),
        });
    }
    entries
}

/// Admission and `apply` bound every field, so an object that does not fit is a fault of this program; going on
/// would lose an acknowledged change.
fn encode<const LIMIT: usize, T: serde::Serialize>(value: &T) -> Vec<u8> {
    codec::encode::<LIMIT, T>(value).expect("bounded when it entered the state")
}

/// `o`, the kind, the namespace, a zero and the name: in the order of [`Key`].
fn entry_key(key: &Key) -> Vec<u8> {
    let kind = match key.kind {
        Kind::Namespace => 0,
        Kind::Node => 1,
        Kind::Pod => 2,
        Kind::ConfigMap => 3,
        Kind::Secret => 4,
        Kind::Event => 5,
    };
    let mut bytes = vec![OBJECT_PREFIX, kind];
    bytes.extend_from_slice(key.namespace.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.name.as_bytes());
    bytes
}
