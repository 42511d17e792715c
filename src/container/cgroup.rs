//! Control groups: `entroos/<node>/<pod>/<container>-<attempt>` below the root, on version 1 and version 2.
//!
//! On version 2 processes stand in leaves alone (`shim` and the containers); inner groups only hand controllers down.

use std::fs;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use super::spec::Limits;

const ROOT: &str = "/sys/fs/cgroup";
/// Of version 1: what limits a container or counts what it uses.
const CONTROLLERS_V1: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "devices"];
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota the kernel takes.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// How long processes that were killed may take to go.
const EMPTY_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Unsupported(String),
    #[error("cgroup file {path} cannot be written with \"{value}\"")]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("cgroup {path} cannot be made")]
    Create { path: PathBuf, source: io::Error },
    #[error("cgroup {path} cannot be removed")]
    Remove { path: PathBuf, source: io::Error },
    #[error("cgroup {0} still has processes after they were killed")]
    Busy(PathBuf),
}

/// The machine's cgroup hierarchy.
#[derive(Clone, Debug)]
pub enum Hierarchy {
    /// Controllers, each with a tree of its own.
    V1(Vec<(&'static str, PathBuf)>),
    V2(PathBuf),
}

impl Hierarchy {
    /// Finds out what this machine has; says what is missing.
    pub fn detect() -> Result<Self, Error> {
        let root = Path::new(ROOT);
        if statfs(root).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            missing(|name| controllers.split_whitespace().any(|c| c == name))?;
            return Ok(Self::V2(root.to_path_buf()));
        }
        let mut found = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for name in CONTROLLERS_V1 {
            // `cpu` and `cpuacct` may be two names for one tree.
            let Ok(path) = fs::canonicalize(root.join(name)) else { continue };
            if path.join("cgroup.procs").exists() && (seen.insert(path.clone()) || NEEDED.contains(&name)) {
                found.push((name, path));
            }
        }
        missing(|name| found.iter().any(|(n, _)| *n == name))?;
        Ok(Self::V1(found))
    }

    /// For a process with its own mount namespace: keeps the hierarchy open and, on version 1, takes its mounts away.
    ///
    /// libcontainer would look for twelve controllers in the mount table for every process it makes, and move it into each;
    /// we place processes ourselves. On version 2 it is one write, into the group the process is in already.
    pub fn hold_and_hide(self) -> io::Result<Self> {
        let Self::V1(controllers) = self else { return Ok(self) };
        let mut held = Vec::new();
        for (name, root) in controllers {
            // Open for the rest of this process's life, and in those it forks.
            let fd = fs::File::open(&root)?.into_raw_fd();
            held.push((name, PathBuf::from(format!("/proc/self/fd/{fd}"))));
        }
        for entry in fs::read_dir(ROOT)? {
            let path = entry?.path();
            if !path.is_symlink() {
                // Not a mount point of its own: then there is nothing to hide.
                let _ = umount2(&path, MntFlags::MNT_DETACH);
            }
        }
        Ok(Self::V1(held))
    }

    fn dirs(&self, group: &str) -> Vec<PathBuf> {
        match self {
            Self::V1(controllers) => controllers.iter().map(|(_, root)| root.join(group)).collect(),
            Self::V2(root) => vec![root.join(group)],
        }
    }

    /// The directory of `group` in the tree of `controller`.
    fn dir(&self, controller: &str, group: &str) -> Option<PathBuf> {
        match self {
            Self::V1(controllers) => {
                controllers.iter().find(|(n, _)| *n == controller).map(|(_, root)| root.join(group))
            }
            Self::V2(root) => Some(root.join(group)),
        }
    }

    /// Makes an inner group, whose children may be limited.
    pub fn create_inner(&self, group: &str) -> Result<(), Error> {
        match self {
            Self::V1(_) => self.create_leaf(group),
            Self::V2(root) => {
                let mut path = root.clone();
                hand_down(&path)?;
                for part in group.split('/') {
                    path.push(part);
                    make(&path)?;
                    hand_down(&path)?;
                }
                Ok(())
            }
        }
    }

    /// Makes a group for processes; those above it exist.
    pub fn create_leaf(&self, group: &str) -> Result<(), Error> {
        for path in self.dirs(group) {
            make(&path)?;
        }
        Ok(())
    }

    /// Moves this process into `group`.
    pub fn enter(&self, group: &str) -> Result<(), Error> {
        self.dirs(group).iter().try_for_each(|path| write(&path.join("cgroup.procs"), "0"))
    }

    /// Sets the limits of a container's group.
    pub fn limit(&self, group: &str, limits: &Limits) -> Result<(), Error> {
        let set = |controller: &str, file: &str, value: String| match self.dir(controller, group) {
            Some(path) => write(&path.join(file), &value),
            None => Ok(()),
        };
        let v2 = matches!(self, Self::V2(_));
        if let Some(cpu) = limits.cpu {
            let quota = cpu.0.saturating_mul(CPU_PERIOD_US / 1000).max(CPU_QUOTA_MIN_US);
            if v2 {
                set("cpu", "cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
            } else {
                set("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
            }
        }
        if let Some(request) = limits.cpu_request {
            let shares = (request.0.saturating_mul(1024) / 1000).clamp(2, 262_144);
            if v2 {
                set("cpu", "cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string())?;
            } else {
                set("cpu", "cpu.shares", shares.to_string())?;
            }
        }
        if let Some(pids) = limits.pids {
            set("pids", "pids.max", pids.max(1).to_string())?;
        }
        self.limit_memory(group, limits)
    }

    fn limit_memory(&self, group: &str, limits: &Limits) -> Result<(), Error> {
        let Some(path) = self.dir("memory", group) else { return Ok(()) };
        let bytes = limits.memory.map(|m| m.0.to_string());
        if matches!(self, Self::V2(_)) {
            if let Some(bytes) = bytes {
                write(&path.join("memory.max"), &bytes)?;
                write_if_there(&path.join("memory.swap.max"), "0")?;
            }
            return write_if_there(&path.join("memory.oom.group"), "1");
        }
        if let Some(bytes) = bytes {
            write(&path.join("memory.limit_in_bytes"), &bytes)?;
            // Memory and swap together: no swap beyond the limit, where swap is accounted.
            write_if_there(&path.join("memory.memsw.limit_in_bytes"), &bytes)?;
        }
        Ok(())
    }

    /// Allows the devices every container has and no other.
    pub fn limit_devices(&self, group: &str) -> Result<(), Error> {
        match self {
            Self::V1(_) => {
                let Some(path) = self.dir("devices", group) else { return Ok(()) };
                write(&path.join("devices.deny"), "a")?;
                for rule in DEVICES {
                    write(&path.join("devices.allow"), rule)?;
                }
                Ok(())
            }
            Self::V2(root) => super::sys::attach_device_filter(&root.join(group)).map_err(|source| Error::Write {
                path: root.join(group),
                value: "device filter".into(),
                source,
            }),
        }
    }

    /// How many processes of `group` the kernel killed for want of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let file = if matches!(self, Self::V1(_)) { "memory.oom_control" } else { "memory.events" };
        let Some(path) = self.dir("memory", group) else { return 0 };
        let text = fs::read_to_string(path.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// The names of the groups right below `group`.
    pub fn children(&self, group: &str) -> Vec<String> {
        let entries = self.dirs(group).into_iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let mut names: Vec<String> = entries
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The processes in `group` and below it.
    pub fn processes(&self, group: &str) -> Vec<Pid> {
        let mut found = Vec::new();
        if let Some(path) = self.dir("pids", group) {
            collect(&path, &mut found);
        }
        found
    }

    /// Sends SIGKILL to every process in `group` and below it, once.
    pub fn kill(&self, group: &str) {
        if let Self::V2(root) = self
            && fs::write(root.join(group).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // No new processes while the old ones are killed, or a fork bomb would outrun us.
        if let Some(path) = self.dir("pids", group) {
            let _ = fs::write(path.join("pids.max"), "0");
        }
        for pid in self.processes(group) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Kills everything in `group` and below it, waits until it is gone, and removes the groups. May take long: not for
    /// an event loop.
    pub fn destroy(&self, group: &str) -> Result<(), Error> {
        let deadline = Instant::now() + EMPTY_WAIT;
        let mut pause = Duration::from_micros(200);
        while !self.processes(group).is_empty() {
            self.kill(group);
            if Instant::now() > deadline {
                return Err(Error::Busy(PathBuf::from(group)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.remove(group)
    }

    /// Removes `group` and those below it; they are empty of processes, or become so shortly.
    pub fn remove(&self, group: &str) -> Result<(), Error> {
        self.dirs(group).iter().try_for_each(|path| remove_tree(path))
    }
}

/// What a container may do with device files: make any, use those of containerd's default list.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

fn missing(has: impl Fn(&str) -> bool) -> Result<(), Error> {
    let missing: Vec<_> = NEEDED.iter().filter(|name| !has(name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "pods cannot run here: the cgroup controllers {} are not available under {ROOT}; enable them on the kernel \
         command line (cgroup_enable=memory) or, inside a container, delegate them to it",
        missing.join(", ")
    )))
}

/// Version 2: lets the children of `path` be limited.
fn hand_down(path: &Path) -> Result<(), Error> {
    let file = path.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    for name in NEEDED.iter().filter(|name| !enabled.split_whitespace().any(|e| e == **name)) {
        write(&file, &format!("+{name}"))?;
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Create { path: path.to_path_buf(), source })
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| Error::Write { path: path.to_path_buf(), value: value.to_owned(), source })
}

fn write_if_there(path: &Path, value: &str) -> Result<(), Error> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

fn collect(path: &Path, found: &mut Vec<Pid>) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0).map(Pid::from_raw));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A process that has just ended may still be counted for a moment.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_micros(500));
            }
            Err(source) => return Err(Error::Remove { path: path.to_path_buf(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version 2 hierarchy, also where a hybrid machine keeps it beside version 1.
    fn version_2_root() -> Option<PathBuf> {
        let roots = [PathBuf::from(ROOT), Path::new(ROOT).join("unified")];
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists());
        if root.is_none() || !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root and a version 2 cgroup hierarchy");
            return None;
        }
        root
    }

    #[test]
    fn version_2_refuses_devices_by_a_filter() {
        let Some(root) = version_2_root() else { return };
        let group = format!("entroos-filter-{}", std::process::id());
        make(&root.join(&group)).unwrap();
        Hierarchy::V2(root.clone()).limit_devices(&group).unwrap();
        let script = "echo 0 > $0/cgroup.procs; head -c0 /dev/null && head -c0 /dev/urandom && echo usual; head -c0 /dev/kmsg; \
                      mknod $1/disk b 254 0 && echo made; head -c0 $1/disk";
        let dir = tempfile::tempdir().unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).arg(root.join(&group)).arg(dir.path()).env("LC_ALL", "C");
        let output = shell.output().unwrap();
        let hierarchy = Hierarchy::V2(root);
        hierarchy.destroy(&group).unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out, "usual\nmade\n", "{err}");
        assert_eq!(err.matches("Operation not permitted").count(), 2, "{err}");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let error = missing(|name| name != "memory").unwrap_err().to_string();
        assert!(error.contains("controllers memory are"), "{error}");
        assert!(missing(|_| true).is_ok());
    }
}
