//! How workers tell the ledger: as the node, again where it was only busy.

use std::sync::Arc;
use std::time::Duration;

use super::{Agent, chain};
use crate::orchestrator::client::Error;
use crate::orchestrator::{Command, Object, Principal, Refusal};

/// Why a worker could not do what it was about.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The object is not what it was: reread.
    #[error("the pod has changed or gone meanwhile")]
    Gone,
    /// Refused for good; the state must change first.
    #[error("the report is refused")]
    Refused(#[source] Refusal),
    #[error("the ledger does not answer")]
    Ledger(#[source] Error),
    #[error("the sandbox cannot be destroyed: {0}")]
    Destroy(String),
    #[error("the logs cannot be removed")]
    Logs(#[source] std::io::Error),
}

const TRIES: u32 = 5;

impl Agent {
    /// Commits a command as this node; a busy ledger is asked again, at most [`TRIES`] times in about 3 s.
    pub(super) async fn submit(&self, command: &Command) -> Result<Option<Arc<Object>>, Trouble> {
        let mut delay = Duration::from_millis(100);
        let mut tries = 0;
        loop {
            match self.client.submit(Principal::Node(self.node), command).await {
                Ok(object) => return Ok(object),
                Err(Error::Refused(Refusal::NotFound { .. } | Refusal::Conflict { .. })) => return Err(Trouble::Gone),
                Err(Error::Refused(refusal)) => return Err(Trouble::Refused(refusal)),
                Err(error) => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(Trouble::Ledger(error));
                    }
                    tracing::debug!("the ledger is asked again: {}", chain(&error));
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
            }
        }
    }
}
