//! What has become of a container's attempts, read from the shim's records and the committed status. Pure.
//!
//! Invariant: attempt numbers never go back. The shim's records are there until the sandbox is destroyed, the committed
//! status is written before that, and the shim starts an attempt once; so no attempt runs twice, whatever crashed when.

use crate::base::{Uid, UnixMillis};
use crate::container::spec::{self, ContainerRecord};
use crate::math::restart_backoff;
use crate::orchestrator::object::{ContainerState, ContainerStatus, RestartPolicy, Terminated};

/// The newest attempt of one container and how the one before it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub latest: Option<Attempt>,
    pub before: Option<Terminated>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub state: AttemptState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    Running {
        since: UnixMillis,
    },
    Ended(Terminated),
    /// It ended with the machine or the shim, by no fault of its own.
    Lost(Terminated),
}

impl AttemptState {
    #[must_use]
    pub fn ended(&self) -> Option<&Terminated> {
        match self {
            Self::Running { .. } => None,
            Self::Ended(t) | Self::Lost(t) => Some(t),
        }
    }
}

impl History {
    /// Joins what the shim knows (`records`, of all containers) with what was committed. `now` dates an end nobody saw.
    #[must_use]
    pub fn read(name: &str, records: &[ContainerRecord], committed: Option<&ContainerStatus>, now: UnixMillis) -> Self {
        let mut attempts: Vec<Attempt> =
            records.iter().filter(|r| r.name == name).map(|r| from_record(r, now)).collect();
        attempts.sort_by_key(|a| a.number);
        let told = committed.and_then(|status| from_status(status, now));
        // An attempt the shim knows is the shim's to tell of; what was committed fills in for sandboxes that are gone.
        if let Some(told) = told
            && attempts.last().is_none_or(|a| a.number < told.number)
        {
            attempts.push(told);
        }
        let latest = attempts.pop();
        let before = latest.as_ref().and_then(|a| a.number.checked_sub(1)).and_then(|number| {
            let by_shim = attempts.into_iter().rev().find(|a| a.number == number);
            by_shim.map_or_else(|| committed_end(number, committed?), |a| a.state.ended().cloned())
        });
        Self { latest, before }
    }

    /// The end of the newest attempt, where it has ended.
    #[must_use]
    pub fn end(&self) -> Option<&Terminated> {
        self.latest.as_ref().and_then(|a| a.state.ended())
    }
}

/// `entroos://<uid>/<name>/<attempt>`
#[must_use]
pub fn container_id(uid: &Uid, name: &str, attempt: u32) -> String {
    format!("entroos://{uid}/{name}/{attempt}")
}

fn from_record(record: &ContainerRecord, now: UnixMillis) -> Attempt {
    let state = match &record.state {
        spec::ContainerState::Running { started, .. } => AttemptState::Running { since: *started },
        spec::ContainerState::Exited(exit) => AttemptState::Ended(Terminated {
            exit_code: exit.code,
            signal: exit.signal,
            reason: match (exit.oom_killed, exit.code) {
                (true, _) => "OOMKilled",
                (false, 0) => "Completed",
                (false, _) => "Error",
            }
            .into(),
            message: String::new(),
            started: exit.started,
            finished: exit.finished,
        }),
        spec::ContainerState::StartFailed { message, at } => AttemptState::Ended(Terminated {
            exit_code: 128,
            signal: 0,
            reason: "StartError".into(),
            message: super::cut(message.clone()),
            started: *at,
            finished: *at,
        }),
        spec::ContainerState::Lost { started, at } => AttemptState::Lost(lost(*started, (*at).min(now))),
    };
    Attempt { number: record.attempt, state }
}

fn from_status(status: &ContainerStatus, now: UnixMillis) -> Option<Attempt> {
    let number = status.id.rsplit('/').next()?.parse().ok()?;
    let state = match &status.state {
        ContainerState::Running { since } => AttemptState::Lost(lost(*since, now)),
        ContainerState::Terminated(t) => ended(t),
        ContainerState::Waiting { .. } => ended(status.last.as_ref()?),
    };
    Some(Attempt { number, state })
}

/// How attempt `number` ended, where the committed status tells of it or of the one after it.
fn committed_end(number: u32, status: &ContainerStatus) -> Option<Terminated> {
    let told: u32 = status.id.rsplit('/').next()?.parse().ok()?;
    match &status.state {
        ContainerState::Waiting { .. } if told == number => status.last.clone(),
        ContainerState::Terminated(t) if told == number => Some(t.clone()),
        ContainerState::Running { .. } | ContainerState::Terminated(_) if told == number + 1 => status.last.clone(),
        _ => None,
    }
}

fn ended(t: &Terminated) -> AttemptState {
    if t.reason == LOST { AttemptState::Lost(t.clone()) } else { AttemptState::Ended(t.clone()) }
}

const LOST: &str = "ContainerStatusUnknown";

/// How a container ended whose end nobody saw.
fn lost(started: UnixMillis, at: UnixMillis) -> Terminated {
    Terminated {
        exit_code: 137,
        signal: 9,
        reason: LOST.into(),
        message: "the machine or the pod's supervisor went down under it; how it ended is not known".into(),
        started,
        finished: at.max(started),
    }
}

/// How long to wait between attempts (eq. 42 without jitter, as Kubernetes does it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds before the second restart; the first is immediate.
    pub base: u64,
    /// Most milliseconds.
    pub cap: u64,
    /// Milliseconds of running that wipe out the past.
    pub reset: u64,
}

impl Backoff {
    /// Milliseconds to wait after the `failures`th quick end in a row.
    #[must_use]
    pub fn delay(&self, failures: u32) -> u64 {
        match failures.checked_sub(2) {
            None => 0,
            // The whole ceiling, as Kubernetes waits: a wait drawn anew at each look would never be over.
            Some(n) => restart_backoff(self.base, self.cap, n, u64::MAX, 1.0),
        }
    }
}

/// Quick ends in a row, counted once each. Lost with the node process, then guessed from the attempt's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    counted: Option<u32>,
    pub in_a_row: u32,
}

impl Failures {
    /// Takes note of an attempt that has ended.
    pub fn count(&mut self, attempt: u32, state: &AttemptState, backoff: &Backoff) {
        let Some(end) = state.ended() else { return };
        if self.counted == Some(attempt) {
            return;
        }
        let known = self.counted.replace(attempt).is_some();
        let ran = end.finished.0.saturating_sub(end.started.0);
        self.in_a_row = match state {
            AttemptState::Lost(_) => 0,
            _ if ran >= backoff.reset => 0,
            _ if known => self.in_a_row.saturating_add(1),
            _ => attempt.saturating_add(1),
        };
    }
}

/// What is to happen with a container next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Start {
        attempt: u32,
    },
    /// It crashed; not before `until`.
    Wait {
        until: UnixMillis,
    },
    /// It runs.
    Keep,
    /// It has ended for good.
    Done,
}

/// Decides by the restart policy, and by the back-off where it crashed.
#[must_use]
pub fn next_step(
    history: &History,
    policy: RestartPolicy,
    failures: &mut Failures,
    backoff: &Backoff,
    now: UnixMillis,
) -> Step {
    let Some(latest) = &history.latest else { return Step::Start { attempt: 0 } };
    let Some(end) = latest.state.ended() else { return Step::Keep };
    if !restarts(policy, end) {
        return Step::Done;
    }
    failures.count(latest.number, &latest.state, backoff);
    let wait = backoff.delay(failures.in_a_row);
    let until = end.finished.plus(wait);
    // A clock that was set back must not make it wait longer than the back-off.
    if wait > 0 && until > now && until.0 - now.0 <= wait {
        return Step::Wait { until };
    }
    latest.number.checked_add(1).map_or(Step::Done, |attempt| Step::Start { attempt })
}

/// Whether the policy starts a container anew after this end.
#[must_use]
pub fn restarts(policy: RestartPolicy, end: &Terminated) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => end.exit_code != 0,
        RestartPolicy::Never => false,
    }
}
