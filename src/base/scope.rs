//! The lifetime all subsystems share.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

/// A set of subsystems that live and end together.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scope {
    /// Runs a subsystem. Its end, by return or by panic, stops all the others.
    pub fn spawn<F>(&self, name: &'static str, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop_all = self.stop.clone().drop_guard();
        let running = run(self.stop.clone());
        let task = async move {
            let _stop_all = stop_all;
            running.await;
        };
        self.tasks.spawn(task.instrument(info_span!("subsystem", name)));
    }

    /// A scope that ends with this one and may end before it.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), tasks: TaskTracker::new() }
    }

    /// Resolves when the scope is told to stop, or a subsystem has ended.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The token that tells of the end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every subsystem to stop and waits until each has.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
