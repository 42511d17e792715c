//! A container's root: layers under one writable directory (overlayfs), and files read or made inside it without ever
//! following a link out of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};

use super::sys;

/// The most bytes of `/etc/passwd` or `/etc/group` that are read.
const FILE_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {path}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the layers cannot be mounted as overlay: {reason}; the data directory must lie on a file system that overlayfs can \
         write to (ext4, xfs, btrfs), not on another overlay or NFS"
    )]
    Overlay { reason: String, source: io::Error },
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_path_buf(), source }
}

/// Mounts `layers` (lowest first) at `target`, writable in `writable`. `links` is an empty directory on a tmpfs: the mount
/// options of a hundred layers fit a page only when each has a short name.
///
/// Changes the working directory; only single-threaded processes call this.
pub fn mount_overlay(layers: &[PathBuf], writable: &Path, links: &Path, target: &Path) -> Result<(), Error> {
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    for dir in [&upper, &work, &links.to_path_buf(), &target.to_path_buf()] {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(at("making", dir))?;
    }
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        let metadata = fs::metadata(layer).map_err(at("finding the image's layer", layer))?;
        if !metadata.is_dir() {
            return Err(at("opening the image's layer", layer)(Errno::ENOTDIR.into()));
        }
        let name = number.to_string();
        symlink(layer, links.join(&name)).map_err(at("linking", layer))?;
        lower.push(name);
    }
    if lower.is_empty() {
        let empty = links.join("none");
        fs::create_dir_all(&empty).map_err(at("making", &empty))?;
        lower.push("none".to_owned());
    }
    for (name, dir) in [("u", &upper), ("w", &work)] {
        symlink(dir, links.join(name)).map_err(at("linking", dir))?;
    }
    std::env::set_current_dir(links).map_err(at("entering", links))?;
    let options = format!("lowerdir={},upperdir=u,workdir=w", lower.join(":"));
    // What a container writes into its own root never outlives the machine, so nothing needs to be synced.
    let mut result = try_overlay(target, &format!("{options},volatile"));
    if result == Err(Errno::EINVAL) {
        result = try_overlay(target, &options);
    }
    let _ = std::env::set_current_dir("/");
    result.map_err(|errno| Error::Overlay {
        reason: format!("{errno} with {} layers", layers.len()),
        source: errno.into(),
    })
}

fn try_overlay(target: &Path, options: &str) -> Result<(), Errno> {
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options))
}

/// Takes a mount away, now or as soon as nobody uses it.
pub fn unmount(target: &Path) {
    let _ = umount2(target, MntFlags::MNT_DETACH);
}

/// The directory everything inside a container's root is looked up from.
pub struct Root(OwnedFd);

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self(sys::inherited_fd(fd)))
    }

    fn resolve(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.is_empty() { "/" } else { path };
        openat2(self.0.as_raw_fd(), path, how).map(sys::inherited_fd)
    }

    /// A text file of the container; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        // Never block on a pipe an image put in a file's place.
        let Ok(fd) = self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) else { return String::new() };
        let file = File::from(fd);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return String::new();
        }
        let mut bytes = Vec::new();
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes the directory `path` and those above it where they are missing.
    pub fn create_dir_all(&self, path: &str) -> io::Result<()> {
        let mut done = String::from("/");
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let parent = self.resolve(&done, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            done.push_str(part);
            match self.resolve(&done, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                Err(Errno::ENOENT) if part != ".." => {
                    mkdirat(Some(parent.as_raw_fd()), part, Mode::from_bits_truncate(0o755))?;
                }
                other => drop(other?),
            }
            done.push('/');
        }
        Ok(())
    }
}

/// What `/etc` needs from us, in the pod's private tmpfs.
pub fn write_etc(dir: &Path, hostname: &str, host_network: bool) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("hostname"), format!("{hostname}\n"))?;
    let hosts = if host_network { fs::read_to_string("/etc/hosts").unwrap_or_default() } else { String::new() };
    let hosts = if hosts.is_empty() {
        format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n127.0.0.1\t{hostname}\n"
        )
    } else {
        hosts
    };
    fs::write(dir.join("hosts"), hosts)?;
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    fs::write(dir.join("resolv.conf"), resolvers(&resolv, host_network))
}

/// The machine's name servers. One that listens on the machine's loopback cannot be reached from another network
/// namespace: such a line would only make every lookup wait.
fn resolvers(text: &str, host_network: bool) -> String {
    let reachable = |line: &&str| {
        let mut words = line.split_whitespace();
        let loopback = words.next() == Some("nameserver")
            && words.next().is_some_and(|address| address.starts_with("127.") || address == "::1");
        host_network || !loopback
    };
    text.lines().filter(reachable).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "outside").unwrap();
        fs::write(root.join("etc/group"), "inside").unwrap();
        symlink("../../../../etc/group", root.join("etc/passwd")).unwrap();
        symlink("/etc", root.join("abs")).unwrap();
        let root = Root::open(&root).unwrap();
        assert_eq!(root.read("/etc/passwd"), "inside");
        assert_eq!(root.read("/../etc/passwd"), "inside");
        assert_eq!(root.read("/abs/group"), "inside");
        assert_eq!(root.read("/etc"), "");
        assert_eq!(root.read("/missing"), "");
    }

    #[test]
    fn directories_are_made_through_links_but_never_outside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        fs::create_dir_all(path.join("data")).unwrap();
        symlink("/data", path.join("app")).unwrap();
        symlink("/nowhere/at/all", path.join("dangling")).unwrap();
        let root = Root::open(&path).unwrap();
        root.create_dir_all("/app/deep/er").unwrap();
        assert!(path.join("data/deep/er").is_dir());
        assert!(root.create_dir_all("/dangling/x").is_err());
        assert!(!Path::new("/nowhere").exists());
    }

    #[test]
    fn loopback_resolvers_are_left_out() {
        let text = "# c\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nsearch x\n";
        assert_eq!(resolvers(text, false), "# c\nnameserver 9.9.9.9\nsearch x\n");
        assert_eq!(resolvers(text, true), text);
    }
}
