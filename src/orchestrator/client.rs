//! How the rooms to the right ask the state machine.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{self, Block, COMMAND_MAX, Input};
use super::{Command, Object, Principal, Refusal, State};
use crate::base::UnixMillis;
use crate::base::codec;
use crate::ledger::{self, BlockContext, Snapshot, StateMachine, Transaction};

/// How long a command may wait for a block; it cannot take effect later.
const VALID_FOR: Duration = Duration::from_secs(30);

/// The state machine the ledger drives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {}

impl StateMachine for Machine {
    type State = State;
    type Principal = Principal;
    type Outcome = super::Outcome;

    fn restore(&self, entries: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<State, String> {
        machine::restore(entries)
    }

    fn apply(
        &self,
        state: &mut State,
        block: &BlockContext,
        commands: &[Transaction<Principal>],
    ) -> Vec<super::Outcome> {
        let block = Block { height: block.height, time: block.time, parent: block.parent };
        let inputs = commands.iter().map(|transaction| Input {
            principal: transaction.principal,
            signer: transaction.signer,
            hash: transaction.hash,
            payload: &transaction.payload,
        });
        machine::apply(state, &block, inputs)
    }

    fn persist(&self, before: &State, after: &State) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        machine::persist(before, after)
    }

    fn next_deadline(&self, state: &State) -> Option<UnixMillis> {
        machine::next_deadline(state)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// Cloneable handle to the replicated state: commands in, snapshots out.
#[derive(Clone)]
pub struct Client {
    pub(crate) ledger: ledger::Handle<Machine>,
}

impl Client {
    pub fn new(ledger: ledger::Handle<Machine>) -> Self {
        Self { ledger }
    }

    /// Resolves once durable and applied. Returns the object as it is now (or as it last was, where it went).
    pub async fn submit(&self, principal: Principal, command: &Command) -> Result<Option<Arc<Object>>, Error> {
        let payload = codec::encode::<COMMAND_MAX, _>(command).map_err(|error| match error {
            codec::Error::TooLarge(_) => Error::Refused(Refusal::Invalid {
                field: "metadata".to_owned(),
                message: format!("the object is larger than {} bytes: make it smaller", super::admission::OBJECT_MAX),
            }),
            other => Error::Codec(other),
        })?;
        let committed = self.ledger.submit(principal, payload, VALID_FOR).await?;
        Ok(committed.outcome?)
    }

    /// The newest committed state.
    pub fn snapshot(&self) -> Arc<Snapshot<State>> {
        self.ledger.snapshot()
    }

    /// Tells of each new snapshot; a slow reader sees only the newest.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Arc<Snapshot<State>>> {
        self.ledger.watch()
    }
}
