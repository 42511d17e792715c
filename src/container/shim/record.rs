//! What a shim leaves on disk: who it is, and for each attempt that it was begun and how it ended.
//!
//! `containers/<name>/<attempt>.json` has two lines. The first, padded to a sector, is synced before the attempt starts; the
//! second says how it ended and is written in place, where room was kept, so that it takes a single sync of data. A record
//! without an end whose shim is gone is `Lost`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::spec::{ContainerRecord, ContainerState, SandboxSpec};
use super::SHIM_FILE;
use crate::base::UnixMillis;

/// How many attempts of one container are remembered.
pub const ATTEMPTS_KEPT: usize = 8;
/// Bytes of the first line: a name has 63 at most.
const LINE: usize = 512;
/// Bytes a record takes before its end is known.
const ROOM: usize = 4096;

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

/// An attempt as the first line of its file has it: it was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    name: String,
    attempt: u32,
    at: UnixMillis,
}

/// One attempt as its file holds it.
#[derive(Clone, Debug)]
struct Stored {
    begun: Begun,
    end: Option<ContainerState>,
}

impl Stored {
    fn record(self, now: UnixMillis) -> ContainerRecord {
        let Begun { name, attempt, at: begun } = self.begun;
        ContainerRecord { name, attempt, state: self.end.unwrap_or(ContainerState::Lost { started: begun, at: now }) }
    }
}

/// The attempts of one pod.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    list: Vec<ContainerRecord>,
    /// Containers whose directory is known to be on disk.
    synced: BTreeSet<String>,
}

impl Records {
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_path_buf(), list: read_all(dir)?, synced: BTreeSet::new() })
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

    /// Makes the directory for a container's attempts.
    pub fn make_room(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(name))
    }

    /// Writes, synced, that the attempt is about to start.
    pub fn begin(&mut self, name: &str, attempt: u32, begun: UnixMillis) -> io::Result<()> {
        let dir = self.dir.join(name);
        let mut bytes = serde_json::to_vec(&Begun { name: name.to_owned(), attempt, at: begun })?;
        bytes.resize(LINE - 1, b' ');
        bytes.push(b'\n');
        // Room for the end, so that writing it later changes no metadata and takes one short sync.
        bytes.resize(ROOM, b' ');
        let mut file = File::create(dir.join(file_name(attempt)))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        sync_dir(&dir)?;
        if self.synced.insert(name.to_owned()) { sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Remembers that the attempt runs.
    pub fn running(&mut self, record: ContainerRecord) {
        self.list.push(record);
    }

    /// Writes, synced, how the attempt ended; the attempts that are forgotten for it come back.
    pub fn end(&mut self, record: ContainerRecord) -> (Vec<u32>, io::Result<()>) {
        let dir = self.dir.join(&record.name);
        let result = write_end(&dir.join(file_name(record.attempt)), &record.state);
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
                let lost = ContainerState::Lost { started: stored.begun.at, at: now };
                write_end(&dir.join(&stored.begun.name).join(file_name(stored.begun.attempt)), &lost)?;
                stored.end = Some(lost);
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
            let bytes = fs::read(&path)?;
            let (first, second) = bytes.split_at(bytes.len().min(LINE));
            // A file cut short by a power failure still says that the attempt was begun, and half an end is none.
            let begun = serde_json::from_slice::<Begun>(first).map_or(UnixMillis(0), |line| line.at);
            let begun = Begun { name, attempt, at: begun };
            found.push(Stored { begun, end: serde_json::from_slice(second).ok() });
        }
    }
    found.sort_by(|a, b| (&a.begun.name, a.begun.attempt).cmp(&(&b.begun.name, b.begun.attempt)));
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

/// Writes the second line of an attempt's file in place, and syncs it.
fn write_end(path: &Path, end: &ContainerState) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let mut bytes = serde_json::to_vec(end)?;
    // Over whatever half an end a crash left there.
    bytes.resize(bytes.len().max(ROOM - LINE - 1), b' ');
    bytes.push(b'\n');
    file.seek(SeekFrom::Start(LINE as u64))?;
    file.write_all(&bytes)?;
    file.sync_data()
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
        records.make_room("a").unwrap();
        records.begin("a", 0, UnixMillis(1)).unwrap();
        records.end(exited("a", 0)).1.unwrap();
        records.begin("a", 1, UnixMillis(7)).unwrap();
        fs::write(dir.path().join("a/2.json"), b"{\"na").unwrap();
        let half = fs::read(dir.path().join("a/0.json")).unwrap();
        fs::write(dir.path().join("a/3.json"), &half[..LINE + 20]).unwrap();
        let settled = settle(dir.path()).unwrap();
        assert_eq!(settled[0], exited("a", 0));
        assert!(matches!(settled[1].state, ContainerState::Lost { started: UnixMillis(7), .. }));
        assert!(matches!(settled[2].state, ContainerState::Lost { started: UnixMillis(0), .. }));
        assert!(matches!(settled[3], ContainerRecord { attempt: 3, state: ContainerState::Lost { .. }, .. }));
        assert_eq!(read_all(dir.path()).unwrap(), settled, "the loss is written down");
    }

    #[test]
    fn old_attempts_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        for attempt in 0..20 {
            records.make_room("a").unwrap();
            records.begin("a", attempt, UnixMillis(1)).unwrap();
            records.running(exited("a", attempt));
            records.end(exited("a", attempt)).1.unwrap();
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
