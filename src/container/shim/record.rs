//! What a shim leaves on disk: who it is, and for each attempt that it was begun and how it ended.
//!
//! `containers/<name>/<attempt>.json` is there, synced, before the attempt starts; the end is written to a new file that takes
//! its place. A record without an end whose shim is gone is `Lost`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::spec::{ContainerRecord, ContainerState, SandboxSpec};
use super::SHIM_FILE;
use crate::base::UnixMillis;

/// How many attempts of one container are remembered.
pub const ATTEMPTS_KEPT: usize = 8;

/// `shim.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShimFile {
    pub pid: i32,
    /// In clock ticks since boot: tells this process from a later one with the same id.
    pub start_ticks: u64,
    pub spec: SandboxSpec,
}

impl ShimFile {
    pub fn of_this_process(spec: &SandboxSpec) -> Self {
        let pid = nix::unistd::getpid().as_raw();
        Self { pid, start_ticks: start_ticks(pid).unwrap_or_default(), spec: spec.clone() }
    }

    pub fn write(&self, pod_dir: &Path) -> io::Result<()> {
        write_new(pod_dir, SHIM_FILE, self)
    }

    pub fn read(pod_dir: &Path) -> io::Result<Self> {
        read(&pod_dir.join(SHIM_FILE))
    }
}

/// When process `pid` started, in clock ticks since boot.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; the 22nd field is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// One attempt as its file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    name: String,
    attempt: u32,
    begun: UnixMillis,
    end: Option<ContainerState>,
}

impl Stored {
    fn record(self, now: UnixMillis) -> ContainerRecord {
        let Self { name, attempt, begun, end } = self;
        ContainerRecord { name, attempt, state: end.unwrap_or(ContainerState::Lost { started: begun, at: now }) }
    }
}

/// The attempts of one pod.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    list: Vec<ContainerRecord>,
}

impl Records {
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_path_buf(), list: read_all(dir)? })
    }

    pub fn all(&self) -> &[ContainerRecord] {
        &self.list
    }

    pub fn find(&self, name: &str, attempt: u32) -> Option<&ContainerRecord> {
        self.list.iter().find(|r| r.name == name && r.attempt == attempt)
    }

    /// Whether a later attempt was begun.
    pub fn outdated(&self, name: &str, attempt: u32) -> bool {
        self.list.iter().any(|r| r.name == name && r.attempt > attempt)
    }

    /// Writes, synced, that the attempt is about to start.
    pub fn begin(&mut self, name: &str, attempt: u32, begun: UnixMillis) -> io::Result<()> {
        let dir = self.dir.join(name);
        if !dir.exists() {
            fs::create_dir(&dir)?;
            sync_dir(&self.dir)?;
        }
        write_new(&dir, &file_name(attempt), &Stored { name: name.to_owned(), attempt, begun, end: None })
    }

    /// Remembers that the attempt runs.
    pub fn running(&mut self, record: ContainerRecord) {
        self.list.push(record);
    }

    /// Writes, synced, how the attempt ended; the attempts that are forgotten for it come back.
    pub fn end(&mut self, record: ContainerRecord, begun: UnixMillis) -> (Vec<u32>, io::Result<()>) {
        let dir = self.dir.join(&record.name);
        let stored =
            Stored { name: record.name.clone(), attempt: record.attempt, begun, end: Some(record.state.clone()) };
        let result = replace(&dir, &file_name(record.attempt), &stored);
        let name = record.name.clone();
        match self.list.iter_mut().find(|r| r.name == name && r.attempt == record.attempt) {
            Some(known) => *known = record,
            None => self.list.push(record),
        }
        let mut attempts: Vec<u32> = self.list.iter().filter(|r| r.name == name).map(|r| r.attempt).collect();
        attempts.sort_unstable();
        let forgotten = attempts[..attempts.len().saturating_sub(ATTEMPTS_KEPT)].to_vec();
        self.list.retain(|r| r.name != name || !forgotten.contains(&r.attempt));
        for attempt in &forgotten {
            let _ = fs::remove_file(dir.join(file_name(*attempt)));
        }
        (forgotten, result)
    }
}

/// All attempts on disk; those without an end count as lost.
pub fn read_all(dir: &Path) -> io::Result<Vec<ContainerRecord>> {
    Ok(stored(dir)?.into_iter().map(|s| s.record(UnixMillis::now())).collect())
}

/// For a pod whose shim is gone: writes down that what had no end is lost.
pub fn settle(dir: &Path) -> io::Result<Vec<ContainerRecord>> {
    let now = UnixMillis::now();
    stored(dir)?
        .into_iter()
        .map(|mut stored| {
            if stored.end.is_none() {
                stored.end = Some(ContainerState::Lost { started: stored.begun, at: now });
                replace(&dir.join(&stored.name), &file_name(stored.attempt), &stored)?;
            }
            Ok(stored.record(now))
        })
        .collect()
}

fn stored(dir: &Path) -> io::Result<Vec<Stored>> {
    let mut found = Vec::new();
    let containers = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    for container in containers {
        let container = container?;
        for file in fs::read_dir(container.path())? {
            let path = file?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let attempt = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
            let (Some(attempt), Ok(name)) = (attempt, container.file_name().into_string()) else { continue };
            // A file cut short by a power failure still says that the attempt was begun.
            let begun = UnixMillis(0);
            found.push(read(&path).unwrap_or(Stored { name, attempt, begun, end: None }));
        }
    }
    found.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
    Ok(found)
}

fn file_name(attempt: u32) -> String {
    format!("{attempt}.json")
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
}

/// Makes a file that was not there before: its bytes are synced, then its name.
fn write_new<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let mut file = File::create(dir.join(name))?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    sync_dir(dir)
}

/// Puts a whole new file in an old one's place.
fn replace<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::Exit;
    use super::*;

    fn exited(name: &str, attempt: u32) -> ContainerRecord {
        let (started, finished) = (UnixMillis(1), UnixMillis(2));
        let state = ContainerState::Exited(Exit { code: 0, signal: 0, oom_killed: false, started, finished });
        ContainerRecord { name: name.into(), attempt, state }
    }

    #[test]
    fn what_was_begun_and_not_ended_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        records.begin("a", 0, UnixMillis(1)).unwrap();
        records.end(exited("a", 0), UnixMillis(1)).1.unwrap();
        records.begin("a", 1, UnixMillis(7)).unwrap();
        fs::write(dir.path().join("a/2.json"), b"{\"na").unwrap();
        let settled = settle(dir.path()).unwrap();
        assert_eq!(settled[0], exited("a", 0));
        assert!(matches!(settled[1].state, ContainerState::Lost { started: UnixMillis(7), .. }));
        assert!(matches!(settled[2].state, ContainerState::Lost { started: UnixMillis(0), .. }));
        assert_eq!(read_all(dir.path()).unwrap(), settled, "the loss is written down");
    }

    #[test]
    fn old_attempts_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        for attempt in 0..20 {
            records.begin("a", attempt, UnixMillis(1)).unwrap();
            records.running(exited("a", attempt));
            records.end(exited("a", attempt), UnixMillis(1)).1.unwrap();
        }
        assert_eq!(records.all().len(), ATTEMPTS_KEPT);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), ATTEMPTS_KEPT);
        assert!(records.outdated("a", 3));
    }

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(own).unwrap() > 0);
        assert_eq!(start_ticks(i32::MAX), None);
    }
}
