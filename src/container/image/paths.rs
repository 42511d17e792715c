//! Names in a tar and what they lead to on the disk: the small words of `unpack.rs`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::LayerProblem as Problem;

pub fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The failure to write `path`.
pub fn at<E: Into<io::Error>>(path: &[u8]) -> impl FnOnce(E) -> Problem {
    let path = lossy(path);
    move |e| Problem::Write { path, source: e.into() }
}

/// The path without `/`, `.` and empty parts; those that lead upwards are refused. Empty: the root.
pub fn clean(path: &[u8]) -> Result<Vec<u8>, Problem> {
    if path.is_empty() || path.contains(&0) {
        return Err(Problem::Name(lossy(path)));
    }
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        if part == b".." {
            return Err(Problem::Escape(lossy(path)));
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Ok(out)
}

pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|&b| b == b'/').map_or((b"", path), |slash| (&path[..slash], &path[slash + 1..]))
}

pub fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(if bytes.is_empty() { b"." } else { bytes })
}

pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub fn stat(dir: &impl AsFd, file: &[u8], path: &[u8]) -> Result<Option<Stat>, Problem> {
    match fs::statat(dir, name(file), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(at(path)(e)),
    }
}

pub fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec)
}

/// A path to `file` in `dir` for calls that take no descriptor.
pub fn below(dir: &OwnedFd, file: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name(file))
}

pub fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}
