//! Unpacking one layer into a directory, as overlayfs wants it.
//!
//! Invariant: nothing is written outside of the directory, whatever the tar says. Every path is resolved by the kernel
//! with the directory as root (`openat2`, `RESOLVE_IN_ROOT`), files are created exclusively and without following a
//! link, and nobody else can change the directory meanwhile (its parent is readable by its owner alone).
//!
//! OCI whiteouts become overlayfs's: `.wh.NAME` a character device 0/0 of that name, `.wh..wh..opq` the attribute
//! `trusted.overlay.opaque`. A directory that the tar implies but does not hold takes owner and mode from the layers
//! below, as it would shadow theirs.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::LayerProblem as Problem;
use super::paths::{at, below, clean, is_directory, is_whiteout, lossy, name, parts, split, stat, times};
use super::tarball::{Entry, Kind, Tar};

/// Most entries of one layer.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Most bytes of directory names kept until their times are set.
const DIRECTORY_BYTES_MAX: usize = 128 << 20;
/// As the kernel: so many symbolic links in one path, then no more.
const LINKS_MAX: u32 = 40;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub bytes: u64,
    /// Directories were implied: what they look like depends on the layers below.
    pub implied: bool,
    /// It hides everything below.
    pub opaque_root: bool,
}

/// The bounds, and what this process may do.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub bytes_max: u64,
    pub entries_max: u64,
    /// Sets owners, makes devices, writes `trusted.*`.
    pub privileged: bool,
}

/// Unpacks `layer`, a plain tar, into `root`. `parents`: the `fs` directories below it, lowest first.
///
/// Returns the reader too: what stands behind the end of the archive is still to be hashed.
pub fn unpack<R: Read>(layer: R, root: OwnedFd, parents: &[&Path], rules: Rules) -> Result<(Unpacked, R), Problem> {
    let parents = parents
        .iter()
        .rev()
        .map(|&p| {
            fs::open(p, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(at(b"lower layer"))
        })
        .collect::<Result<_, _>>()?;
    let mut unpacker = Unpacker {
        root: Rc::new(root),
        parents,
        rules,
        done: Unpacked::default(),
        cache: None,
        directories: BTreeMap::new(),
        directory_bytes: 0,
        buffer: vec![0; 128 << 10],
    };
    let mut tar = Tar::new(layer);
    let mut entries = 0;
    while let Some(entry) = tar.entry()? {
        entries += 1;
        if entries > rules.entries_max {
            return Err(Problem::TooMany(rules.entries_max));
        }
        unpacker.entry(&entry, &mut tar)?;
    }
    unpacker.finish()?;
    Ok((unpacker.done, tar.into_inner()))
}

struct Unpacker {
    root: Rc<OwnedFd>,
    /// Highest first.
    parents: Vec<OwnedFd>,
    rules: Rules,
    done: Unpacked,
    /// The directory of the entry before.
    cache: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Mode and time of each directory, set at the end: what is put into it changes its time.
    directories: BTreeMap<Vec<u8>, (u32, (i64, u32))>,
    directory_bytes: usize,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &Entry, body: &mut Tar<R>) -> Result<(), Problem> {
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => self.directory(&self.root.clone(), &path, entry),
                _ => Err(Problem::Name(lossy(&entry.path))),
            };
        }
        let (parent, file) = split(&path);
        if file.starts_with(WHITEOUT) {
            return self.whiteout(parent, file);
        }
        let dir = self.parent(parent)?;
        let there = stat(&dir, file, &path)?;
        let keep = entry.kind == Kind::Directory && there.as_ref().is_some_and(is_directory);
        let hidden = there.as_ref().is_some_and(is_whiteout);
        if there.is_some() && !keep {
            self.remove(&dir, file, &path)?;
        }
        match entry.kind {
            Kind::Directory => {
                if !keep {
                    fs::mkdirat(&dir, name(file), Mode::from(0o755)).map_err(at(&path))?;
                }
                self.directory(&dir, &path, entry)?;
                if hidden {
                    self.set_opaque(&dir, file, &path)?;
                }
                Ok(())
            }
            Kind::File => self.file(&dir, &path, entry, body),
            Kind::HardLink => self.hard_link(&dir, &path, entry),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(Problem::Name(lossy(&path)));
                }
                fs::symlinkat(OsStr::from_bytes(&entry.link), &dir, name(file)).map_err(at(&path))?;
                self.attributes(&dir, &path, entry)
            }
            Kind::Character | Kind::Block | Kind::Fifo => self.node(&dir, &path, entry),
        }
    }

    fn file<R: Read>(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry, body: &mut Tar<R>) -> Result<(), Problem> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(dir, name(split(path).1), flags, Mode::from(0o600)).map_err(at(path))?;
        let mut file = std::fs::File::from(fd);
        match &entry.sparse {
            None => self.copy(&mut file, entry.stored, path, body)?,
            Some(pieces) => {
                for &(offset, length) in pieces {
                    file.seek(SeekFrom::Start(offset)).map_err(at(path))?;
                    self.copy(&mut file, length, path, body)?;
                }
                file.set_len(entry.size).map_err(at(path))?;
            }
        }
        if self.rules.privileged {
            fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(at(path))?;
        }
        // After the owner: a change of owner takes setuid and capabilities away.
        fs::fchmod(&file, Mode::from(entry.mode)).map_err(at(path))?;
        let by_descriptor = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        self.xattrs(&by_descriptor, true, path, entry)?;
        fs::futimens(&file, &times(entry.mtime)).map_err(at(path))
    }

    fn copy<R: Read>(
        &mut self,
        to: &mut std::fs::File,
        mut left: u64,
        path: &[u8],
        body: &mut Tar<R>,
    ) -> Result<(), Problem> {
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = match body.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(super::tarball::Error::Read(io::ErrorKind::UnexpectedEof.into()).into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(super::tarball::Error::Read(e).into()),
            };
            self.done.bytes += read as u64;
            if self.done.bytes > self.rules.bytes_max {
                return Err(Problem::TooLarge(self.rules.bytes_max));
            }
            to.write_all(&self.buffer[..read]).map_err(at(path))?;
            left -= read as u64;
        }
        Ok(())
    }

    /// The target's last part is not followed: a link to a symbolic link is one more name of that symbolic link.
    fn hard_link(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Problem> {
        let target = clean(&entry.link)?;
        let (parent, file) = split(&target);
        let missing = || Problem::HardLink(lossy(path), lossy(&entry.link));
        if file.is_empty() {
            return Err(missing());
        }
        let from = match self.open_directory(parent) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            Err(e) => return Err(at(&target)(e)),
        };
        match fs::linkat(&from, name(file), dir, name(split(path).1), AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(missing()),
            Err(Errno::PERM) if stat(&from, file, &target)?.as_ref().is_some_and(is_directory) => Err(missing()),
            Err(e) => Err(at(path)(e)),
        }
    }

    /// Devices only as root, as containerd does; the sandbox's device cgroup denies their use.
    fn node(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Problem> {
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            _ if !self.rules.privileged => return Ok(()),
            Kind::Block => (FileType::BlockDevice, fs::makedev(entry.device.0, entry.device.1)),
            _ => (FileType::CharacterDevice, fs::makedev(entry.device.0, entry.device.1)),
        };
        fs::mknodat(dir, name(split(path).1), kind, Mode::from(entry.mode), device).map_err(at(path))?;
        self.attributes(dir, path, entry)
    }

    /// Remembers a directory's mode and time, sets the rest.
    fn directory(&mut self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Problem> {
        let file = split(path).1;
        if self.rules.privileged {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fs::chownat(dir, name(file), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at(path))?;
        }
        self.xattrs(&below(dir, file), false, path, entry)?;
        self.remember(path, entry.mode, entry.mtime)
    }

    fn remember(&mut self, path: &[u8], mode: u32, mtime: (i64, u32)) -> Result<(), Problem> {
        self.directory_bytes += path.len() + 64;
        if self.directory_bytes > DIRECTORY_BYTES_MAX {
            return Err(Problem::TooMany(self.rules.entries_max));
        }
        self.directories.insert(path.to_vec(), (mode, mtime));
        Ok(())
    }

    /// Owner, mode, extended attributes and time of what is neither file nor directory.
    fn attributes(&self, dir: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Problem> {
        let file = name(split(path).1);
        if self.rules.privileged {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fs::chownat(dir, file, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at(path))?;
        }
        if entry.kind != Kind::Symlink {
            // Just made, exclusively: it is no link.
            fs::chmodat(dir, file, Mode::from(entry.mode), AtFlags::empty()).map_err(at(path))?;
        }
        self.xattrs(&below(dir, split(path).1), false, path, entry)?;
        fs::utimensat(dir, file, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(at(path))
    }

    /// Only file capabilities and `user.*` come from an image: `trusted.overlay.*` and its kin would steer overlayfs.
    fn xattrs(&self, target: &Path, follow: bool, path: &[u8], entry: &Entry) -> Result<(), Problem> {
        for (key, value) in &entry.xattrs {
            let wanted = (key == b"security.capability" && self.rules.privileged)
                || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."));
            if !wanted || key.contains(&0) {
                continue;
            }
            let key = OsStr::from_bytes(key);
            let set = if follow {
                fs::setxattr(target, key, value, XattrFlags::empty())
            } else {
                fs::lsetxattr(target, key, value, XattrFlags::empty())
            };
            match set {
                // Not on this file system, or not on this kind of file: as containerd, do without.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(e) => return Err(at(path)(e)),
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, parent: &[u8], file: &[u8]) -> Result<(), Problem> {
        let full = || lossy(&[parent, b"/", file].concat());
        if file == OPAQUE {
            let dir = self.parent(parent)?;
            if parent.is_empty() {
                self.done.opaque_root = true;
            }
            return self.set_opaque(&dir, b"", parent);
        }
        let hidden = &file[WHITEOUT.len()..];
        if hidden.starts_with(WHITEOUT) {
            return Ok(()); // `.wh..wh.plnk` and its like: old AUFS bookkeeping.
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Problem::Escape(full()));
        }
        let dir = self.parent(parent)?;
        match stat(&dir, hidden, file)? {
            // The same layer holds it too: it is new, what is below is hidden.
            Some(stat) if is_directory(&stat) => self.set_opaque(&dir, hidden, file),
            Some(_) => Ok(()),
            None => fs::mknodat(&dir, name(hidden), FileType::CharacterDevice, Mode::empty(), 0).map_err(at(file)),
        }
    }

    fn set_opaque(&self, dir: &OwnedFd, file: &[u8], path: &[u8]) -> Result<(), Problem> {
        let key = if self.rules.privileged { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        fs::lsetxattr(below(dir, file), key, b"y", XattrFlags::empty()).map_err(at(path))
    }

    /// Removes what an earlier entry of this layer made.
    fn remove(&mut self, dir: &OwnedFd, file: &[u8], path: &[u8]) -> Result<(), Problem> {
        match fs::unlinkat(dir, name(file), AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                self.cache = None;
                std::fs::remove_dir_all(below(dir, file)).map_err(at(path))
            }
            other => other.map_err(at(path)),
        }
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&*self.root, name(path), flags, Mode::empty(), resolve)
    }

    /// The directory of that (clean) path, made where it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Problem> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some((cached, fd)) = &self.cache
            && cached == path
        {
            return Ok(fd.clone());
        }
        let fd = match self.open_directory(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_directory(path)?,
            Err(Errno::LOOP) => return Err(Problem::Parent(lossy(path))),
            Err(e) => return Err(at(path)(e)),
        };
        let fd = Rc::new(fd);
        self.cache = Some((path.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// Walks part by part, makes what is missing, and resolves symbolic links inside the root, dangling ones too (their
    /// target may be in a lower layer).
    fn make_directory(&mut self, path: &[u8]) -> Result<OwnedFd, Problem> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut todo: VecDeque<Vec<u8>> = parts(path).collect();
        let mut links = 0;
        let mut here = fs::openat(&*self.root, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(at(path))?;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                done.pop();
                here = self.open_directory(&done.join(&b'/')).map_err(at(path))?;
                continue;
            }
            match stat(&here, &part, path)? {
                Some(stat) if is_directory(&stat) => {}
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Problem::Parent(lossy(path)));
                    }
                    let target = fs::readlinkat(&here, name(&part), Vec::new()).map_err(at(path))?;
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        done.clear();
                        here = self.open_directory(b"").map_err(at(path))?;
                    }
                    for part in parts(target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(part);
                    }
                    continue;
                }
                Some(stat) if is_whiteout(&stat) => {
                    self.remove(&here, &part, path)?;
                    self.imply(&here, &done, &part)?;
                    self.set_opaque(&here, &part, path)?;
                }
                Some(_) => return Err(Problem::Parent(lossy(path))),
                None => self.imply(&here, &done, &part)?,
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            here = fs::openat(&here, name(&part), flags, Mode::empty()).map_err(at(path))?;
            done.push(part);
        }
        Ok(here)
    }

    /// Makes a directory the tar does not hold, like the one in the layers below if there is one.
    fn imply(&mut self, here: &OwnedFd, above: &[Vec<u8>], part: &[u8]) -> Result<(), Problem> {
        let mut path = above.join(&b'/');
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
        fs::mkdirat(here, name(part), Mode::from(0o755)).map_err(at(&path))?;
        self.done.implied = true;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let lower = self.parents.iter().find_map(|p| fs::openat2(p, name(&path), flags, Mode::empty(), resolve).ok());
        let Some(lower) = lower else { return Ok(()) };
        let stat = fs::fstat(&lower).map_err(at(&path))?;
        if !is_directory(&stat) {
            return Ok(());
        }
        if self.rules.privileged {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            fs::chownat(here, name(part), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at(&path))?;
        }
        #[allow(clippy::useless_conversion, reason = "their types differ between architectures")]
        let mtime = (i64::from(stat.st_mtime), u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        self.remember(&path, stat.st_mode & 0o7777, mtime)
    }

    /// Modes and times of directories, the deepest first.
    fn finish(&mut self) -> Result<(), Problem> {
        self.cache = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for (path, (mode, mtime)) in std::mem::take(&mut self.directories).into_iter().rev() {
            match fs::openat2(&*self.root, name(&path), flags, Mode::empty(), resolve) {
                Ok(dir) => {
                    fs::fchmod(&dir, Mode::from(mode)).map_err(at(&path))?;
                    fs::futimens(&dir, &times(mtime)).map_err(at(&path))?;
                }
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(at(&path)(e)),
            }
        }
        Ok(())
    }
}
