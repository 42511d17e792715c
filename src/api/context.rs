//! What every request shares: the node's handles, limits and counters; and one request as its action sees it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::door::Caller;
use super::error;
use super::extract::{self, Query};
use super::k8s::{ApiError, Resource};
use super::metrics::Metrics;
use crate::base::codec;
use crate::base::{Height, UnixMillis};
use crate::ledger::{BlockContext, StateMachine, Transaction};
use crate::orchestrator::client::Machine;
use crate::orchestrator::machine::COMMAND_MAX;
use crate::orchestrator::{Command, Key, Kind, Object, Principal};

/// Shared by all requests.
pub(super) struct Context {
    pub api: Api,
    /// Where the TCP listener stands: what an `Origin` of our own names.
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub streams: Streams,
    pub started: Instant,
    pub stop: CancellationToken,
    /// Sessions that outlive their request (exec).
    pub tasks: TaskTracker,
}

impl Context {
    pub fn new(api: Api, address: SocketAddr, stop: CancellationToken) -> Self {
        let streams = Streams::new(api.config.watches_max);
        Self {
            api,
            address,
            metrics: Metrics::default(),
            streams,
            started: Instant::now(),
            stop,
            tasks: TaskTracker::new(),
        }
    }

    /// Makes a change and waits until it is durable. The object as it is now, or as it last was.
    pub async fn submit(&self, principal: Principal, key: &Key, command: &Command) -> Result<Arc<Object>, ApiError> {
        let outcome = self.api.client.submit(principal, command).await;
        self.metrics.command(outcome.is_ok());
        outcome
            .map_err(|e| error::from_client(e, key))?
            .ok_or_else(|| error::internal("the change left no object to show"))
    }

    /// What [`Context::submit`] would answer, on a copy of the state: nothing is changed or written.
    pub fn try_out(&self, principal: Principal, key: &Key, command: &Command) -> Result<Arc<Object>, ApiError> {
        let snapshot = self.api.client.snapshot();
        let mut state = snapshot.state.clone();
        let block = BlockContext {
            height: Height(snapshot.height.0 + 1),
            time: UnixMillis(UnixMillis::now().0.max(snapshot.time.0 + 1)),
            parent: [0; 32],
        };
        let payload = codec::encode::<COMMAND_MAX, _>(command).map_err(|e| error::too_large(format!("dryRun: {e}")))?;
        let hash = crate::base::key::random().map_err(|e| error::internal(format!("dryRun: no randomness: {e}")))?;
        let transaction = Transaction { principal, signer: self.api.node, hash, payload };
        let outcome = Machine::default().apply(&mut state, &block, &[transaction]).pop();
        let outcome = outcome.ok_or_else(|| error::internal("dryRun: no outcome"))?;
        outcome
            .map_err(|refusal| error::refused(refusal, key))?
            .ok_or_else(|| error::internal("dryRun: the change left no object to show"))
    }

    /// [`Context::submit`], or [`Context::try_out`] where the caller asked for `dryRun`.
    pub async fn change(
        &self,
        caller: Caller,
        key: &Key,
        command: &Command,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        if dry_run { self.try_out(caller.0, key, command) } else { self.submit(caller.0, key, command).await }
    }

    /// How a caller who may not becomes one who may.
    pub fn cure(&self) -> String {
        let dir = self.api.data_dir.display();
        format!(
            "ask through the unix socket {dir}/run/api.sock as root or as the node's user, as the `entroos` command does, \
             or send the token of {dir}/token as `Authorization: Bearer TOKEN` (kubectl sends tokens over TLS only, which \
             is not there yet)"
        )
    }
}

/// Counts watches, followed logs and exec sessions. Operators have places of their own.
pub(super) struct Streams {
    max: usize,
    local: Arc<Semaphore>,
    operator: Arc<Semaphore>,
}

impl Streams {
    fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { max, local: Arc::new(Semaphore::new(max)), operator: Arc::new(Semaphore::new(max)) }
    }

    /// A place, held as long as the permit lives.
    pub fn enter(&self, caller: Caller) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = if caller.is_operator() { &self.operator } else { &self.local };
        places.clone().try_acquire_owned().map_err(|_| {
            error::too_many(format!(
                "{} watches, followed logs and exec sessions are open, which is the limit (`watches_max`); try again later",
                self.max
            ))
        })
    }

    pub fn open(&self) -> usize {
        2 * self.max - self.local.available_permits() - self.operator.available_permits()
    }
}

/// One request as its action sees it.
pub(super) struct Call {
    pub context: Arc<Context>,
    pub caller: Caller,
    pub resource: Option<&'static Resource>,
    /// From the path, decoded.
    pub params: Vec<(String, String)>,
    pub query: Query,
    pub parts: Parts,
    /// In a mutex that nobody locks: a body may move between threads but not be shared, and a call is shared.
    pub body: Mutex<Body>,
}

impl Call {
    /// A parameter of the path; empty where the route has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn kind(&self) -> Result<Kind, ApiError> {
        self.resource.map(|r| r.kind).ok_or_else(|| error::internal("a route of objects without a resource"))
    }

    pub fn key(&self) -> Result<Key, ApiError> {
        Ok(Key { kind: self.kind()?, namespace: self.param("namespace").into(), name: self.param("name").into() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// The body, for one who reads it as it comes.
    pub fn take_body(&mut self) -> Body {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// The whole body, within the limit.
    pub async fn read_body(&mut self) -> Result<Bytes, ApiError> {
        extract::body(self.take_body(), self.context.api.config.body_max).await
    }

    /// `?dryRun=All`; any other value is refused, so that a mistyped one never commits.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        match self.query.all("dryRun").as_slice() {
            [] => Ok(false),
            values if values.iter().all(|v| *v == "All") => Ok(true),
            values => {
                Err(error::bad_request(format!("dryRun: {:?} is not supported; only `All` is", values.join(","))))
            }
        }
    }
}
