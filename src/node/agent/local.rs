//! What a worker remembers of its containers between wakes, and the logs on disk. All of it can be lost.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::history::Failures;
use crate::base::{Uid, UnixMillis};
use crate::container::image::Image;

/// Of one container.
#[derive(Default)]
pub struct Local {
    pub image: Option<Arc<Image>>,
    /// The attempt the image was pulled for, with pull policy Always.
    pub pulled_for: Option<u32>,
    pub pulling: Option<UnixMillis>,
    pub pull: Setback,
    pub create: Setback,
    pub failures: Failures,
    /// The attempt whose back-off was told of.
    pub backoff_told: Option<u32>,
    /// The attempt that got its stop signal.
    pub stopped: Option<u32>,
    /// The last complaint, so that it is not repeated.
    pub complaint: String,
}

/// Something outside keeps failing; it is tried again ever more rarely.
#[derive(Default)]
pub struct Setback {
    pub count: u32,
    pub retry_at: Option<UnixMillis>,
    pub message: String,
}

impl Setback {
    /// Counts a failure; waits `base` milliseconds, doubled each time up to `cap`.
    pub fn fail(&mut self, message: String, base: u64, cap: u64) {
        let doubled = base.saturating_mul(1 << self.count.min(20));
        self.count = self.count.saturating_add(1);
        self.retry_at = Some(UnixMillis::now().plus(doubled.min(cap)));
        self.message = message;
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// When it may be tried again, where that is still to come.
    pub fn blocked(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.retry_at.filter(|&at| at > now)
    }
}

/// Removes the logs of pods that nobody knows any more.
pub fn sweep_logs(data_dir: &Path, known: &BTreeSet<Uid>) -> io::Result<()> {
    let entries = match std::fs::read_dir(data_dir.join("logs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // `<namespace>_<name>_<uid>`; anything else is not ours to remove.
        let uid = entry.file_name().to_str().and_then(|name| Uid::parse(name.rsplit('_').next()?));
        if uid.is_some_and(|uid| !known.contains(&uid)) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Removes the logs of a container's attempts before the last two, so that a crash loop cannot fill the disk.
pub fn prune_logs(container_dir: &Path, attempt: u32) -> io::Result<()> {
    for entry in std::fs::read_dir(container_dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
        if number.is_some_and(|n| n.saturating_add(1) < attempt) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory tree; one that is not there is removed already.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_attempts_and_unknown_pods_lose_their_logs() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, gone] = [Uid([1; 16]), Uid([2; 16])];
        let of = |uid| dir.path().join("logs").join(format!("default_pod_{uid}")).join("main");
        std::fs::create_dir_all(of(kept)).unwrap();
        std::fs::create_dir_all(of(gone)).unwrap();
        std::fs::create_dir_all(dir.path().join("logs/lost+found")).unwrap();
        for name in ["0.log", "0.log.1", "1.log", "2.log", "notes"] {
            std::fs::write(of(kept).join(name), b"").unwrap();
        }
        sweep_logs(dir.path(), &BTreeSet::from([kept])).unwrap();
        assert!(of(kept).exists() && !of(gone).exists() && dir.path().join("logs/lost+found").exists());
        prune_logs(&of(kept), 2).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(of(kept)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["1.log", "2.log", "notes"]);
    }
}
