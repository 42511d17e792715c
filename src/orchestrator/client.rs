//! How the rooms to the right ask the state machine.

use std::sync::Arc;

use super::{Command, Object, Principal, Refusal, State};
use crate::base::UnixMillis;
use crate::ledger::{self, BlockContext, Snapshot, StateMachine, Transaction};

/// The state machine the ledger drives.
pub struct Machine {}

impl StateMachine for Machine {
    type State = State;
    type Principal = Principal;
    type Outcome = super::Outcome;
    fn restore(&self, _entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<State, String> {
        todo!()
    }
    fn apply(
        &self,
        _state: &mut State,
        _block: &BlockContext,
        _commands: &[Transaction<Principal>],
    ) -> Vec<super::Outcome> {
        todo!()
    }
    fn persist(&self, _before: &State, _after: &State) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        todo!()
    }
    fn next_deadline(&self, _state: &State) -> Option<UnixMillis> {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Codec(#[from] crate::base::codec::Error),
}

#[derive(Clone)]
pub struct Client {
    pub(crate) ledger: ledger::Handle<Machine>,
}

impl Client {
    pub fn new(ledger: ledger::Handle<Machine>) -> Self {
        Self { ledger }
    }
    /// Resolves once durable and applied. Returns the object as it is now (or as it last was, where it went).
    pub async fn submit(&self, _principal: Principal, _command: &Command) -> Result<Option<Arc<Object>>, Error> {
        todo!()
    }
    pub fn snapshot(&self) -> Arc<Snapshot<State>> {
        self.ledger.snapshot()
    }
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Arc<Snapshot<State>>> {
        self.ledger.watch()
    }
}
