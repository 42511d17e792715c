//! Watches: changes as lines of JSON, read from committed state.
//!
//! A wake carries no data: at each one the watch asks the state for all changes after its place. A slow client is not
//! asked more often than it reads, so it costs the changes of one wake, which are shared with the state; one that is too
//! slow for the state's memory of changes is told to list again (410).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::context::{Call, Context};
use super::door::Caller;
use super::error;
use super::extract::Shape;
use super::k8s::{self, ApiError, Resource, Selector};
use super::objects::{self, Form};
use super::secrets::Reader;
use crate::base::UnixMillis;
use crate::ledger::Snapshot;
use crate::orchestrator::{Change, Kind, Object, State};

/// Between two bookmarks of a watch that wants them.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A piece of the body is closed once it is this long.
const PIECE_BYTES: usize = 64 * 1024;
/// The longest `timeoutSeconds` that can be counted; longer ones are as good as none.
const TIMEOUT_MAX: Duration = Duration::from_hours(366 * 24);

/// Answers a list request that has `watch=true`.
pub(super) fn watch(call: Call, selector: Selector) -> Result<Response, ApiError> {
    let form = Form::of(&call)?;
    let resource = objects::resource(&call)?;
    let bookmarks = call.query.flag("allowWatchBookmarks")?;
    let revision = call.query.number("resourceVersion")?.filter(|&revision| revision != 0);
    let initial = call.query.flag_or_none("sendInitialEvents")?;
    if initial.is_some() && call.query.get("resourceVersionMatch") != Some("NotOlderThan") {
        return Err(error::bad_request("resourceVersionMatch: must be NotOlderThan where sendInitialEvents is given"));
    }
    let deadline = call
        .query
        .number("timeoutSeconds")?
        .filter(|&seconds| seconds != 0)
        .map(|seconds| Instant::now() + Duration::from_secs(seconds).min(TIMEOUT_MAX));
    let permit = call.context.streams.enter(call.caller)?;

    let mut snapshots = call.context.api.client.watch();
    let snapshot = Arc::clone(&snapshots.borrow_and_update());
    let mut watch = Watch {
        caller: call.caller,
        resource,
        namespace: Some(call.param("namespace").to_owned()).filter(|namespace| !namespace.is_empty()),
        selector,
        form,
        cursor: snapshot.state.revision(),
        pending: VecDeque::new(),
        snapshot: Arc::clone(&snapshot),
        snapshots,
        header_sent: false,
        ended: false,
        bookmarks: bookmarks.then(|| {
            let mut ticks = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }),
        deadline,
        context: call.context,
        _permit: permit,
    };
    // Without a revision a watch starts with the state as it is; with one, from there; `sendInitialEvents` overrules.
    match revision {
        Some(revision) if initial != Some(true) => watch.resume(revision),
        _ if initial == Some(false) => {}
        _ => watch.begin(initial == Some(true) && bookmarks),
    }
    Ok(error::stream_response("application/json", Body::from_stream(stream::unfold(watch, Watch::next))))
}

/// What waits to be written.
enum Item {
    Event(&'static str, Arc<Object>),
    Bookmark {
        initial_end: bool,
    },
    /// Said last.
    Error(ApiError),
}

struct Watch {
    context: Arc<Context>,
    caller: Caller,
    resource: &'static Resource,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    /// All changes up to here are in `pending` or written.
    cursor: u64,
    pending: VecDeque<Item>,
    snapshot: Arc<Snapshot<State>>,
    snapshots: watch::Receiver<Arc<Snapshot<State>>>,
    /// A table's columns are told once.
    header_sent: bool,
    ended: bool,
    bookmarks: Option<tokio::time::Interval>,
    deadline: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Starts with all that is there.
    fn begin(&mut self, tell_end: bool) {
        let kind = self.resource.kind;
        let objects = self.snapshot.state.list(kind, self.namespace.as_deref());
        let objects = objects.filter(|object| self.selector.matches(object));
        self.pending = objects.map(|object| Item::Event("ADDED", Arc::clone(object))).collect();
        if tell_end {
            self.pending.push_back(Item::Bookmark { initial_end: true });
        }
    }

    /// Starts with what changed after `revision`.
    fn resume(&mut self, revision: u64) {
        self.cursor = revision;
        self.advance();
    }

    /// Takes up all changes between the cursor and the newest state.
    fn advance(&mut self) {
        let Some(changes) = self.snapshot.state.changes_since(self.cursor) else {
            let (asked, now) = (self.cursor, self.snapshot.state.revision());
            self.pending.push_back(Item::Error(error::expired(format!(
                "too old resource version: {asked} ({now}): list again and watch from there"
            ))));
            return;
        };
        self.cursor = self.snapshot.state.revision();
        let kind = self.resource.kind;
        let namespace = self.namespace.as_deref();
        let items = changes.into_iter().filter_map(|change| event(change, kind, namespace, &self.selector));
        self.pending.extend(items);
    }

    /// The next piece of the body; `None` ends it.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        loop {
            if let Some(piece) = self.piece() {
                return Some((Ok(piece), self));
            }
            if self.ended {
                return None;
            }
            let deadline = self.deadline;
            let due =
                async { if let Some(at) = deadline { sleep_until(at).await } else { std::future::pending().await } };
            let tick = async {
                match &mut self.bookmarks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return None,
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    self.snapshot = Arc::clone(&self.snapshots.borrow_and_update());
                    self.advance();
                }
                () = due => {
                    self.ended = true;
                    if self.bookmarks.is_some() {
                        self.pending.push_back(Item::Bookmark { initial_end: false });
                    }
                }
                _ = tick => self.pending.push_back(Item::Bookmark { initial_end: false }),
            }
        }
    }

    /// Writes what waits, up to one piece.
    fn piece(&mut self) -> Option<Bytes> {
        if self.ended && self.pending.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        let context = Arc::clone(&self.context);
        let mut reader = Reader::new(&context, self.caller);
        while text.len() < PIECE_BYTES
            && let Some(item) = self.pending.pop_front()
        {
            let (event, object) = match item {
                Item::Event(event, object) => {
                    let shown = reader.show(&self.snapshot.state, &object, self.form.values());
                    (event, self.print(&shown))
                }
                Item::Bookmark { initial_end } => ("BOOKMARK", self.bookmark(initial_end)),
                Item::Error(refused) => {
                    self.ended = true;
                    self.pending.clear();
                    ("ERROR", refused.status())
                }
            };
            text.extend_from_slice(json!({"type": event, "object": object}).to_string().as_bytes());
            text.push(b'\n');
        }
        (!text.is_empty()).then(|| Bytes::from(text))
    }

    fn print(&mut self, object: &Arc<Object>) -> Value {
        match self.form.shape {
            Shape::Object => k8s::encode(object),
            Shape::Table => {
                let columns = !std::mem::replace(&mut self.header_sent, true);
                k8s::table_event(self.resource.kind, object, self.form.include, columns, UnixMillis::now())
            }
        }
    }

    fn bookmark(&self, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.form.shape {
            Shape::Object => json!({"kind": self.resource.name, "apiVersion": "v1", "metadata": metadata}),
            Shape::Table => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "columnDefinitions": [], "rows": []}),
        }
    }
}

/// What a change is to a watch: an object that starts to match is added, one that stops is deleted.
fn event(change: Change, kind: Kind, namespace: Option<&str>, selector: &Selector) -> Option<Item> {
    if change.key.kind != kind || namespace.is_some_and(|namespace| namespace != change.key.namespace) {
        return None;
    }
    let before = change.before.filter(|object| selector.matches(object));
    let after = change.after;
    match (before, after) {
        (None, Some(after)) if selector.matches(&after) => Some(Item::Event("ADDED", after)),
        (Some(_), Some(after)) if selector.matches(&after) => Some(Item::Event("MODIFIED", after)),
        (Some(_), Some(after)) => Some(Item::Event("DELETED", after)),
        (Some(before), None) => {
            // Under the revision of its removal, from which the client goes on.
            let mut last = Object::clone(&before);
            last.meta.revision = change.revision;
            Some(Item::Event("DELETED", Arc::new(last)))
        }
        (None, _) => None,
    }
}
