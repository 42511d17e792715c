//! Unpacked layers on disk: `layers/<first 32 digits>/{fs/,layer.json}`.
//!
//! A layer is named by its diff id, so that images share it. One that implies directories it does not hold looks
//! different over different layers: that one is named by its chain id (the hash of all diff ids up to it).
//!
//! A layer appears whole by a rename. What no image names is swept when nobody holds it (see [`Hold`]) and at the start.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, LayerProblem};
use super::{tarball, unpack};
use crate::base::id::hex;

/// A layer that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: String,
    /// Name of its directory.
    pub dir: String,
    pub bytes: u64,
    /// It looks as it does because of the layers below.
    pub implied: bool,
    /// It hides everything below.
    pub opaque_root: bool,
}

/// The directory of layers, and who needs which.
#[derive(Debug)]
pub struct Layers {
    dir: PathBuf,
    tmp: PathBuf,
    bytes_max: u64,
    next: AtomicU64,
    use_: Mutex<Use>,
}

#[derive(Debug, Default)]
struct Use {
    /// How many images name each directory.
    named: BTreeMap<String, u32>,
    /// How many pulls and imports at work rely on it.
    held: BTreeMap<String, u32>,
}

/// Keeps layers from being swept while an image that names them is being made. Sweeps at its end.
pub struct Hold {
    layers: Arc<Layers>,
    held: Vec<String>,
}

/// Stops work on a blocking thread when the one who waits for it goes away.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    pub fn guard(&self) -> CancelGuard {
        CancelGuard(self.clone())
    }
}

/// Sets its [`Cancel`] when dropped.
pub struct CancelGuard(Cancel);

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A directory of its own for work in progress, removed at its end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a temporary directory; the next start will");
        }
    }
}

/// The chain ids of a stack of diff ids, lowest first.
pub fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => format!("sha256:{}", hex(&Sha256::digest(format!("{below} {diff_id}")))),
        });
    }
    chains
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(32).collect()
}

impl Layers {
    /// Opens `layers/` and `tmp/` below `images`; removes all layers but those in `named`, and all work in progress.
    pub fn open(images: &Path, bytes_max: u64) -> Result<Self, Error> {
        let (dir, tmp) = (images.join("layers"), images.join("tmp"));
        remove_tree(&tmp).map_err(Error::disk("remove", &tmp))?;
        for path in [&dir, &tmp] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::disk("create", path))?;
        }
        Ok(Self { dir, tmp, bytes_max, next: AtomicU64::new(0), use_: Mutex::default() })
    }

    /// Removes every layer that none of `named` names.
    pub fn keep_only(&self, named: &BTreeSet<String>) -> Result<(), Error> {
        for entry in std::fs::read_dir(&self.dir).map_err(Error::disk("read", &self.dir))? {
            let entry = entry.map_err(Error::disk("read", &self.dir))?;
            if !entry.file_name().to_str().is_some_and(|n| named.contains(n)) {
                remove_tree(&entry.path()).map_err(Error::disk("remove", entry.path()))?;
            }
        }
        Ok(())
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub fn fs(&self, dir: &str) -> PathBuf {
        self.dir.join(dir).join("fs")
    }

    pub fn is_here(&self, dir: &str) -> bool {
        self.dir.join(dir).join("layer.json").is_file()
    }

    pub fn scratch(&self) -> Result<Scratch, Error> {
        let path = self.tmp.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::disk("create", &path))?;
        Ok(Scratch(path))
    }

    /// Everything written so far reaches the disk.
    pub fn sync(&self) -> Result<(), Error> {
        let sync = || {
            let dir = rustix::fs::open(&self.dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::fs::syncfs(dir)
        };
        sync().map_err(io::Error::from).map_err(Error::disk("sync", &self.dir))
    }

    /// One more image names these directories.
    pub fn name<'a>(&self, dirs: impl IntoIterator<Item = &'a String>) {
        let mut usage = self.usage();
        for dir in dirs {
            *usage.named.entry(dir.clone()).or_default() += 1;
        }
    }

    /// One image less names these directories; those that nothing needs are removed.
    pub fn unname<'a>(&self, dirs: impl IntoIterator<Item = &'a String>) {
        let mut usage = self.usage();
        let mut graves = Vec::new();
        for dir in dirs {
            release(&mut usage.named, dir);
            graves.extend(self.bury(&usage, dir));
        }
        drop(usage);
        remove_all(&graves);
    }

    fn usage(&self) -> std::sync::MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a layer that nothing needs out of the way, to be removed when the lock is given back. Called with it held:
    /// between the look and the rename nobody can take hold.
    fn bury(&self, usage: &Use, dir: &str) -> Option<PathBuf> {
        if usage.named.contains_key(dir) || usage.held.contains_key(dir) {
            return None;
        }
        let grave = self.tmp.join(format!("gone-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        match std::fs::rename(self.dir.join(dir), &grave) {
            Ok(()) => Some(grave),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(layer = dir, %error, "cannot remove a layer; the next start will");
                }
                None
            }
        }
    }

    fn read(&self, dir: &str) -> Option<Layer> {
        let bytes = std::fs::read(self.dir.join(dir).join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

fn remove_all(graves: &[PathBuf]) {
    for grave in graves {
        if let Err(error) = remove_tree(grave) {
            tracing::warn!(path = %grave.display(), %error, "cannot remove a layer; the next start will");
        }
    }
}

fn release(counts: &mut BTreeMap<String, u32>, dir: &str) {
    if let Some(count) = counts.get_mut(dir) {
        *count -= 1;
        if *count == 0 {
            counts.remove(dir);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut usage = self.layers.usage();
        let mut graves = Vec::new();
        for dir in &self.held {
            release(&mut usage.held, dir);
            graves.extend(self.layers.bury(&usage, dir));
        }
        drop(usage);
        remove_all(&graves);
    }
}

impl Hold {
    pub fn new(layers: Arc<Layers>) -> Self {
        Self { layers, held: Vec::new() }
    }

    fn take(&mut self, dir: String) {
        *self.layers.usage().held.entry(dir.clone()).or_default() += 1;
        self.held.push(dir);
    }

    /// The layer, if it is here; held from now on.
    pub fn find(&mut self, diff_id: &str, chain_id: &str) -> Option<Layer> {
        for id in [chain_id, diff_id] {
            let dir = short(id);
            self.take(dir.clone());
            let fits = |l: &Layer| l.diff_id == diff_id && (!l.implied || id == chain_id);
            if let Some(layer) = self.layers.read(&dir).filter(fits) {
                return Some(layer);
            }
        }
        None
    }

    /// Unpacks `blob` (a tar, plain or compressed by gzip or zstd) unless it is here. `below`: the layers under it.
    pub fn unpack(
        &mut self,
        blob: impl Read,
        diff_id: &str,
        chain_id: &str,
        below: &[Layer],
        cancel: &Cancel,
    ) -> Result<Layer, Error> {
        let too_large = Cell::new(false);
        let problem = |problem| {
            let problem = if too_large.get() { LayerProblem::TooLarge(self.layers.bytes_max) } else { problem };
            if cancel.is_set() { Error::Cancelled } else { Error::Layer { diff_id: diff_id.into(), problem } }
        };
        let scratch = self.layers.scratch()?;
        let fs = scratch.path().join("fs");
        std::fs::DirBuilder::new().mode(0o755).create(&fs).map_err(Error::disk("create", &fs))?;
        let root = std::fs::File::open(&fs).map_err(Error::disk("open", &fs))?;
        let parents: Vec<PathBuf> = below.iter().map(|l| self.layers.fs(&l.dir)).collect();
        let parents: Vec<&Path> = parents.iter().map(PathBuf::as_path).collect();
        let rules = unpack::Rules {
            bytes_max: self.layers.bytes_max,
            entries_max: unpack::ENTRIES_MAX,
            privileged: nix::unistd::geteuid().is_root(),
        };
        let tar = decompress(blob).map_err(|e| problem(tarball::Error::from(e).into()))?;
        let tar = Hashing { inner: tar, hasher: Sha256::new(), left: rules.bytes_max, too_large: &too_large, cancel };
        let (done, mut rest) = unpack::unpack(tar, root.into(), &parents, rules).map_err(problem)?;
        io::copy(&mut rest, &mut io::sink()).map_err(|e| problem(tarball::Error::from(e).into()))?;
        let actual = format!("sha256:{}", hex(&rest.hasher.finalize()));
        if actual != diff_id {
            return Err(problem(LayerProblem::DiffId(actual)));
        }
        let dir = short(if done.implied { chain_id } else { diff_id });
        let layer = Layer {
            diff_id: diff_id.into(),
            dir,
            bytes: done.bytes,
            implied: done.implied,
            opaque_root: done.opaque_root,
        };
        self.place(&scratch, layer)
    }

    fn place(&mut self, scratch: &Scratch, layer: Layer) -> Result<Layer, Error> {
        let record = scratch.path().join("layer.json");
        let json = serde_json::to_vec(&layer).map_err(|source| Error::Document { what: "layer record", source })?;
        std::fs::write(&record, json).map_err(Error::disk("write", &record))?;
        self.take(layer.dir.clone());
        let target = self.layers.dir.join(&layer.dir);
        // Another pull may have been faster; the same bytes, so either will do.
        match std::fs::rename(scratch.path(), &target) {
            Err(_) if self.layers.read(&layer.dir).as_ref() == Some(&layer) => Ok(layer),
            other => other.map(|()| layer).map_err(Error::disk("rename", target)),
        }
    }
}

/// Reads a tar that may be compressed: gzip and zstd are known by their first bytes, whatever the media type says.
pub fn decompress<'a>(blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut blob = BufReader::with_capacity(128 << 10, blob);
    let start = blob.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(blob)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::Decoder::with_buffer(blob)?))
    } else {
        Ok(Box::new(blob))
    }
}

/// Hashes and bounds what is read, and ends when nobody waits for it.
struct Hashing<'a, R> {
    inner: R,
    hasher: Sha256,
    left: u64,
    too_large: &'a Cell<bool>,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            self.too_large.set(true);
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Removes a directory and all in it; fine if there is none.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Not root, and a directory in a layer that its owner may not write.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            std::fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    if is_dir && std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).is_ok() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            open_up(&entry.path());
        }
    }
}
