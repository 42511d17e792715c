//! The loop: take what waits, make one block of it, publish, acknowledge; in that order.
//!
//! While a block is being synced, further commands queue up and form the next one: that is the group commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::chain::{Chain, Made};
use super::core::{Rejected, has_room};
use super::handle::Job;
use super::{Committed, Error, Snapshot, StateMachine};
use crate::base::UnixMillis;
use crate::store;

/// The clock may be set while a deadline is waited for, so it is looked at this often.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
/// How soon a deadline may follow a block that did not move it, or that found no space.
const DEADLINE_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Task<M: StateMachine> {
    /// Away only while a block is made.
    chain: Option<Chain<M>>,
    jobs: mpsc::Receiver<Job<M>>,
    /// Taken from the queue, but there was no room for it in the last block.
    carried: Option<Job<M>>,
    snapshots: watch::Sender<Arc<Snapshot<M::State>>>,
    commands_max: usize,
    deadline_not_before: Instant,
}

/// The chain cannot go on.
struct Ended;

impl<M: StateMachine> Task<M> {
    pub fn new(
        chain: Chain<M>,
        jobs: mpsc::Receiver<Job<M>>,
        snapshots: watch::Sender<Arc<Snapshot<M::State>>>,
        commands_max: usize,
    ) -> Self {
        let deadline_not_before = Instant::now();
        Self { chain: Some(chain), jobs, carried: None, snapshots, commands_max, deadline_not_before }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let due = self.due();
            let has_carried = self.carried.is_some();
            let (first, by_deadline) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = std::future::ready(()), if has_carried => (self.carried.take(), false),
                job = self.jobs.recv() => match job {
                    Some(job) => (Some(job), false),
                    // Every handle is gone: only time can still change the state.
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => (None, self.is_due()),
            };
            let jobs = first.map(|job| self.collect(job)).unwrap_or_default();
            if (by_deadline || !jobs.is_empty()) && self.make_block(jobs, by_deadline).await.is_err() {
                break;
            }
        }
        self.refuse_rest();
    }

    /// When to look at the deadline again.
    fn due(&self) -> Option<Instant> {
        let deadline = self.chain.as_ref()?.deadline()?;
        let left = Duration::from_millis(deadline.0.saturating_sub(UnixMillis::now().0));
        Some((Instant::now() + left.min(CLOCK_CHECK)).max(self.deadline_not_before))
    }

    fn is_due(&self) -> bool {
        self.chain.as_ref().and_then(Chain::deadline).is_some_and(|deadline| deadline <= UnixMillis::now())
    }

    /// `first` and what else waits, as far as one block goes. What its submitter gave up is dropped here, for good.
    fn collect(&mut self, first: Job<M>) -> Vec<Job<M>> {
        let mut taken = vec![];
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            let len = job.command.payload_len();
            if taken.len() >= self.commands_max || !has_room(taken.len(), bytes, len) {
                self.carried = Some(job);
                break;
            }
            if job.claim.take() {
                bytes += len;
                taken.push(job);
            }
            next = if taken.len() < self.commands_max { self.jobs.try_recv().ok() } else { None };
        }
        taken
    }

    async fn make_block(&mut self, jobs: Vec<Job<M>>, by_deadline: bool) -> Result<(), Ended> {
        let mut chain = self.chain.take().ok_or(Ended)?;
        let (commands, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.command, job.reply)).unzip();
        let made = tokio::task::spawn_blocking(move || {
            let made = chain.make_block(commands, by_deadline, UnixMillis::now());
            (chain, made)
        });
        // A panic in `apply` is reported by its hook; the replies are dropped, and with this task the node ends.
        let (chain, made) = made.await.map_err(|_| Ended)?;
        let chain = self.chain.insert(chain);
        match made {
            Ok(Made { verdicts, snapshot }) => {
                let height = snapshot.as_ref().map(|snapshot| snapshot.height).unwrap_or_default();
                if let Some(snapshot) = snapshot {
                    if by_deadline && chain.deadline().is_some_and(|deadline| deadline <= snapshot.time) {
                        tracing::warn!(%height, "a block did not move the deadline it was made for");
                        self.deadline_not_before = Instant::now() + DEADLINE_PAUSE;
                    }
                    self.snapshots.send_replace(snapshot);
                }
                for (reply, verdict) in replies.into_iter().zip(verdicts) {
                    let answer = match verdict {
                        Ok((index, outcome)) => Ok(Committed { height, index, outcome }),
                        Err(Rejected::Expired) => Err(Error::Timeout),
                        Err(rejected) => Err(Error::Rejected(rejected)),
                    };
                    // Whoever does not wait any more need not be told.
                    let _ = reply.send(answer);
                }
                Ok(())
            }
            Err(Error::Store(error @ (store::Error::Full { .. } | store::Error::Space { .. }))) => {
                tracing::error!(%error, "a block was not written");
                self.deadline_not_before = Instant::now() + DEADLINE_PAUSE;
                let error = Arc::new(error);
                for reply in replies {
                    let _ = reply.send(Err(Error::Full(Arc::clone(&error))));
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger cannot go on");
                if let Error::Store(error) = error {
                    let error = Arc::new(error);
                    for reply in replies {
                        let _ = reply.send(Err(Error::NotDurable(Arc::clone(&error))));
                    }
                }
                Err(Ended)
            }
        }
    }

    /// None of these was in a block, and none will be.
    fn refuse_rest(&mut self) {
        self.jobs.close();
        if let Some(job) = self.carried.take() {
            let _ = job.reply.send(Err(Error::Stopped));
        }
        while let Ok(job) = self.jobs.try_recv() {
            let _ = job.reply.send(Err(Error::Stopped));
        }
    }
}
