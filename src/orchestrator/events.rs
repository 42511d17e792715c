//! What happened, told in events: equal ones counted, bounded for each object and over all, gone after an hour.

use std::sync::Arc;

use super::machine::Run;
use super::names;
use super::object::{Body, Event, Key, Kind, Meta, Note, Object};
use super::state::State;
use crate::base::{Uid, UnixMillis};

/// Most events of one object; the oldest makes room.
pub const PER_OBJECT_MAX: usize = 32;
/// Most events of all objects; the oldest makes room.
pub const TOTAL_MAX: usize = 10_000;
/// How long after its last occurrence an event is kept, in milliseconds of block time.
pub const KEPT_MILLIS: u64 = 3_600_000;
/// Events go together at the turn of a minute, so that an idle chain makes few blocks for them.
const TURN_MILLIS: u64 = 60_000;
const REASON_MAX: usize = 128;
const MESSAGE_MAX: usize = 1_024;
/// The source of events that `apply` itself writes.
pub const SCHEDULER: &str = "scheduler";

/// When an event that last occurred at `last` goes.
const fn expiry(last: UnixMillis) -> UnixMillis {
    UnixMillis(last.0.saturating_add(KEPT_MILLIS).div_ceil(TURN_MILLIS).saturating_mul(TURN_MILLIS))
}

/// When the oldest event goes.
pub fn next_expiry(state: &State) -> Option<UnixMillis> {
    state.index().events.get_min().map(|(last, _)| expiry(*last))
}

/// Removes every event whose time has come.
pub fn expire(state: &mut State, now: UnixMillis) {
    let due = state.index().events.iter().take_while(|(last, _)| expiry(*last) <= now);
    let due: Vec<Key> = due.map(|(_, key)| key.clone()).collect();
    for key in due {
        state.remove(&key);
    }
}

/// Records that `note` happened to an object. Messages are cut to Kubernetes' 1,024 bytes.
pub fn record(run: &mut Run, key: &Key, uid: Uid, source: &str, note: &Note) {
    let note = Note {
        warning: note.warning,
        reason: names::cut(note.reason.clone(), REASON_MAX),
        message: names::cut(note.message.clone(), MESSAGE_MAX),
    };
    let event_key = event_key(key, uid, source, &note);
    if let Some(object) = run.state.get(&event_key).cloned() {
        count(run, object);
        return;
    }
    make_room(run.state, uid);
    let now = run.block.time;
    let event = Event {
        involved: key.clone(),
        involved_uid: uid,
        note,
        count: 1,
        first: now,
        last: now,
        source: source.to_owned(),
    };
    let meta = Meta {
        name: event_key.name,
        namespace: event_key.namespace,
        uid: run.next_uid(),
        generation: 1,
        created: now,
        ..Meta::default()
    };
    run.state.put(Object { meta, body: Body::Event(event) });
}

fn count(run: &mut Run, object: Arc<Object>) {
    let mut object = Arc::unwrap_or_clone(object);
    if let Body::Event(event) = &mut object.body {
        event.count = event.count.saturating_add(1);
        event.last = run.block.time;
    }
    run.state.put(object);
}

fn make_room(state: &mut State, uid: Uid) {
    if let Some(of) = state.index().events_of.get(&uid).filter(|of| of.len() >= PER_OBJECT_MAX) {
        let oldest = of.get_min().map(|(_, key)| key.clone());
        oldest.map(|key| state.remove(&key));
    }
    if state.index().events.len() >= TOTAL_MAX {
        let oldest = state.index().events.get_min().map(|(_, key)| key.clone());
        oldest.map(|key| state.remove(&key));
    }
}

/// `<name>.<hash>` in the object's namespace (`default` for objects without one), the same for equal events.
fn event_key(key: &Key, uid: Uid, source: &str, note: &Note) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("entroos 2026 event name");
    for part in [&uid.0[..], &[u8::from(note.warning)], source.as_bytes(), note.reason.as_bytes()] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(note.message.as_bytes());
    let hash = hasher.finalize().to_hex();
    // The name of an event is bounded as any other, so a long one is cut; the hash tells them apart.
    let short = names::cut(key.name.clone(), names::SUBDOMAIN_MAX - 17);
    let short = short.trim_end_matches(['.', '-']);
    let namespace = if key.kind.namespaced() { key.namespace.as_str() } else { "default" };
    let namespace = if key.kind == Kind::Namespace { key.name.as_str() } else { namespace };
    Key::new(Kind::Event, namespace, format!("{short}.{}", &hash[..16]))
}
