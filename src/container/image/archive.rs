//! Importing images from files: `docker save` archives (old ones and those that are OCI layouts too), OCI layout
//! archives, plain or compressed, and OCI layout directories.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::document::{self, DOCUMENT_BYTES_MAX, Manifest};
use super::error::Error;
use super::index::Record;
use super::layers::{Cancel, Hold, Layers, Scratch, chain_ids, decompress};
use super::reference::{is_digest, normalise};
use super::tarball::{self, Kind, Tar};
use crate::base::id::hex;

/// Most files of one archive; real ones have some hundreds.
const FILES_MAX: usize = 100_000;
/// Most bytes of file names of one archive.
const NAME_BYTES_MAX: usize = 16 << 20;
/// A compressed archive is unpacked first, to at most so many times the bound of one layer.
const LAYERS_OF_ARCHIVE: u64 = 4;
/// Most images one archive may hold.
const IMAGES_MAX: usize = 1000;
/// An index may name an index, but not for ever.
const INDEX_DEPTH_MAX: u32 = 3;
const LINKS_MAX: u32 = 8;

/// Reads every image in `path`. Their layers are held by `hold`.
pub fn import(
    path: &Path,
    tag: Option<&str>,
    layers: &Layers,
    hold: &mut Hold,
    cancel: &Cancel,
) -> Result<Vec<Record>, Error> {
    let tag = tag.map(normalise).transpose()?;
    let source = Source::open(path, layers, cancel)?;
    let mut found = if source.has("manifest.json")? {
        docker(&source)?
    } else if source.has("index.json")? {
        layout(&source)?
    } else {
        return Err(Error::UnknownArchive(path.into()));
    };
    if let Some(tag) = tag {
        let unnamed = found.iter().filter(|f| f.references.is_empty()).count();
        match (found.as_mut_slice(), unnamed) {
            ([one], _) => one.references.push(tag),
            (many, 1) => {
                many.iter_mut().filter(|f| f.references.is_empty()).for_each(|f| f.references.push(tag.clone()));
            }
            _ => return Err(Error::ManyUnnamed(unnamed)),
        }
    }
    found.into_iter().map(|f| unpack(&source, f, hold, cancel)).collect()
}

/// An image in an archive: where its parts are.
struct Found {
    references: Vec<String>,
    config: Vec<u8>,
    manifest: String,
    layers: Vec<Part>,
}

struct Part {
    file: String,
    /// What it must hash to, where that is said.
    digest: Option<String>,
}

fn unpack(source: &Source, found: Found, hold: &mut Hold, cancel: &Cancel) -> Result<Record, Error> {
    let name = found.references.first().map_or("the image", String::as_str);
    let mut image = document::image(name, &found.config)?;
    if image.layers.len() != found.layers.len() {
        return Err(Error::NotAnImage("its manifest and its configuration disagree about its layers"));
    }
    image.size = found.config.len() as u64;
    let mut done = Vec::with_capacity(image.layers.len());
    for ((diff_id, chain_id), part) in image.layers.iter().zip(chain_ids(&image.layers)).zip(&found.layers) {
        let (mut blob, size) = source.file(&part.file)?;
        image.size += size;
        let layer = if let Some(layer) = hold.find(diff_id, &chain_id) {
            layer
        } else {
            if let Some(digest) = &part.digest {
                check_blob(&mut blob, digest, cancel)?;
                blob = source.file(&part.file)?.0;
            }
            hold.unpack(blob, diff_id, &chain_id, &done, cancel)?
        };
        done.push(layer);
    }
    image.unpacked = done.iter().map(|l| l.bytes).sum();
    image.references = found.references;
    image.manifest = found.manifest;
    Ok(Record { image: Arc::new(image), digests: Vec::new(), layers: done })
}

fn check_blob(blob: &mut dyn Read, digest: &str, cancel: &Cancel) -> Result<(), Error> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        if cancel.is_set() {
            return Err(Error::Cancelled);
        }
        match blob.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Archive(PathBuf::from(digest), e)),
        }
    }
    let actual = format!("sha256:{}", hex(&hasher.finalize()));
    if actual == digest { Ok(()) } else { Err(Error::Digest { what: "a layer", expected: digest.into(), actual }) }
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker(source: &Source) -> Result<Vec<Found>, Error> {
    let bytes = source.document("manifest.json", "manifest.json")?;
    let saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: "manifest.json", source })?;
    if saved.is_empty() {
        return Err(Error::NotAnImage("the archive holds no image"));
    }
    if saved.len() > IMAGES_MAX {
        return Err(Error::NotAnImage("the archive holds more than 1000 images"));
    }
    let found = |image: Saved| {
        let config = source.document(&image.config, "the configuration")?;
        if let Some(digest) = blob_digest(&image.config) {
            document::verify("the configuration", &config, &digest)?;
        }
        let references = image.repo_tags.unwrap_or_default();
        let references = references.iter().map(|r| normalise(r)).collect::<Result<_, _>>()?;
        let layers = image.layers.unwrap_or_default();
        let layers = layers.into_iter().map(|file| Part { digest: blob_digest(&file), file }).collect();
        Ok(Found { references, config, manifest: String::new(), layers })
    };
    saved.into_iter().map(found).collect()
}

/// The digest in a name like `blobs/sha256/…`.
fn blob_digest(name: &str) -> Option<String> {
    let digest = format!("sha256:{}", name.trim_start_matches("./").strip_prefix("blobs/sha256/")?);
    is_digest(&digest).then_some(digest)
}

fn blob_file(digest: &str) -> Result<String, Error> {
    if !is_digest(digest) {
        return Err(Error::DigestAlgorithm(digest.chars().take(100).collect()));
    }
    Ok(format!("blobs/{}", digest.replacen(':', "/", 1)))
}

/// The images of an OCI layout: each entry of its index that is for this machine (or does not say).
fn layout(source: &Source) -> Result<Vec<Found>, Error> {
    let bytes = source.document("index.json", "index.json")?;
    let index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: "index.json", source })?;
    let (mut found, mut elsewhere) = (Vec::new(), None);
    for descriptor in index.manifests().iter().take(IMAGES_MAX) {
        if descriptor.platform().is_some()
            && let Err(error) = document::choose("the image", std::slice::from_ref(descriptor))
        {
            elsewhere = Some(error);
            continue;
        }
        let references: Vec<String> = layout_name(descriptor).into_iter().collect();
        let name = references.first().map_or("the image", String::as_str).to_owned();
        let (digest, manifest) = layout_manifest(source, &name, descriptor, INDEX_DEPTH_MAX)?;
        let config = layout_document(source, manifest.config(), "the configuration")?;
        let layers = manifest.layers().iter().map(|l| {
            let digest = l.digest().to_string();
            Ok(Part { file: blob_file(&digest)?, digest: Some(digest) })
        });
        found.push(Found { references, config, manifest: digest, layers: layers.collect::<Result<_, Error>>()? });
    }
    match (found.is_empty(), elsewhere) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(Error::NotAnImage("the layout holds no image")),
        // Of one image for many machines, one entry is ours; names count once.
        _ => Ok(found),
    }
}

/// containerd's full name, else OCI's `ref.name` where it is more than a bare tag.
fn layout_name(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let full = annotations.get("io.containerd.image.name");
    let short = annotations.get("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/', '@']));
    full.or(short).and_then(|n| normalise(n).ok())
}

fn layout_document(source: &Source, descriptor: &Descriptor, what: &'static str) -> Result<Vec<u8>, Error> {
    let digest = descriptor.digest().to_string();
    let bytes = source.document(&blob_file(&digest)?, what)?;
    document::verify(what, &bytes, &digest)?;
    if bytes.len() as u64 != descriptor.size() {
        return Err(Error::Size { what, expected: descriptor.size(), actual: bytes.len() as u64 });
    }
    Ok(bytes)
}

fn layout_manifest(
    source: &Source,
    name: &str,
    descriptor: &Descriptor,
    depth: u32,
) -> Result<(String, Box<ImageManifest>), Error> {
    match document::manifest(&layout_document(source, descriptor, "the manifest")?)? {
        Manifest::Image(manifest) => Ok((descriptor.digest().to_string(), manifest)),
        Manifest::Index(_) if depth == 0 => Err(Error::NotAnImage("its indexes name one another too deeply")),
        Manifest::Index(index) => layout_manifest(source, name, document::choose(name, index.manifests())?, depth - 1),
    }
}

/// Files by name, from a directory or a tar. A name never leads out of it.
struct Source {
    path: PathBuf,
    kind: SourceKind,
}

enum SourceKind {
    Directory(File),
    Tar {
        file: Arc<File>,
        entries: BTreeMap<Vec<u8>, Place>,
        /// Holds the unpacked archive where it came compressed.
        _scratch: Option<Scratch>,
    },
}

enum Place {
    At { offset: u64, size: u64 },
    Link(Vec<u8>),
}

impl Source {
    fn open(path: &Path, layers: &Layers, cancel: &Cancel) -> Result<Self, Error> {
        let unreadable = |e: io::Error| Error::Archive(path.into(), e);
        // A FIFO is opened without waiting for a writer, and then refused.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?);
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Ok(Self { path: path.into(), kind: SourceKind::Directory(file) });
        }
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("neither a file nor a directory")));
        }
        let mut start = [0; 4];
        let read = file.read_at(&mut start, 0).map_err(unreadable)?;
        let compressed = start[..read].starts_with(&[0x1f, 0x8b]) || start[..read] == [0x28, 0xb5, 0x2f, 0xfd];
        let (file, scratch) = if compressed {
            let (file, scratch) = inflate(path, &file, layers, cancel)?;
            (file, Some(scratch))
        } else {
            (file, None)
        };
        let file = Arc::new(file);
        let entries = list(Region::whole(file.clone()).map_err(unreadable)?).map_err(|e| Error::Tar(path.into(), e))?;
        Ok(Self { path: path.into(), kind: SourceKind::Tar { file, entries, _scratch: scratch } })
    }

    fn has(&self, name: &str) -> Result<bool, Error> {
        match self.file(name) {
            Ok(_) => Ok(true),
            Err(Error::Missing(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The file's bytes and how many they are.
    fn file(&self, name: &str) -> Result<(Box<dyn Read>, u64), Error> {
        let missing = || Error::Missing(name.chars().take(300).collect());
        match &self.kind {
            SourceKind::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                let unreadable = |e: io::Error| Error::Archive(self.path.join(name), e);
                let file = match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
                    Ok(fd) => File::from(fd),
                    Err(rustix::io::Errno::NOENT) => return Err(missing()),
                    Err(e) => return Err(unreadable(e.into())),
                };
                let metadata = file.metadata().map_err(unreadable)?;
                if !metadata.is_file() {
                    return Err(unreadable(io::Error::other("not a regular file")));
                }
                Ok((Box::new(file), metadata.len()))
            }
            SourceKind::Tar { file, entries, .. } => {
                let mut name = join(b"", name.as_bytes()).ok_or_else(missing)?;
                for _ in 0..LINKS_MAX {
                    match entries.get(&name).ok_or_else(missing)? {
                        Place::Link(target) => name.clone_from(target),
                        &Place::At { offset, size } => {
                            return Ok((Box::new(Region { file: file.clone(), offset, left: size }), size));
                        }
                    }
                }
                Err(missing())
            }
        }
    }

    /// A JSON document, within bounds.
    fn document(&self, name: &str, what: &'static str) -> Result<Vec<u8>, Error> {
        let (reader, size) = self.file(name)?;
        if size > DOCUMENT_BYTES_MAX {
            return Err(Error::DocumentTooLarge { what, max: DOCUMENT_BYTES_MAX });
        }
        let mut bytes = Vec::new();
        reader.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| Error::Archive(self.path.join(name), e))?;
        Ok(bytes)
    }
}

/// Unpacks a compressed archive into a scratch file.
fn inflate(path: &Path, file: &File, layers: &Layers, cancel: &Cancel) -> Result<(File, Scratch), Error> {
    let unreadable = |e: io::Error| Error::Archive(path.into(), e);
    let scratch = layers.scratch()?;
    let plain = scratch.path().join("archive.tar");
    let out = File::options().read(true).write(true).create_new(true).open(&plain);
    let mut out = out.map_err(Error::disk("create", &plain))?;
    let max = layers.bytes_max().saturating_mul(LAYERS_OF_ARCHIVE);
    let mut input = decompress(file).map_err(unreadable)?;
    let mut left = max;
    loop {
        if cancel.is_set() {
            return Err(Error::Cancelled);
        }
        // In steps, so that a cancel is noticed.
        let copied = io::copy(&mut (&mut input).take((1 << 20).min(left + 1)), &mut out).map_err(unreadable)?;
        if copied == 0 {
            return Ok((out, scratch));
        }
        left = left.checked_sub(copied).ok_or(Error::DocumentTooLarge { what: "the unpacked archive", max })?;
    }
}

/// Where each file lies in the tar.
fn list(file: Region) -> Result<BTreeMap<Vec<u8>, Place>, tarball::Error> {
    let mut tar = Tar::new(file);
    let (mut entries, mut name_bytes) = (BTreeMap::new(), 0);
    while let Some(entry) = tar.entry()? {
        let Some(name) = join(b"", &entry.path) else { continue };
        name_bytes += name.len() + entry.link.len();
        if entries.len() >= FILES_MAX || name_bytes > NAME_BYTES_MAX {
            return Err(tarball::Error::Malformed("it holds too many files to be an image"));
        }
        let above = name.iter().rposition(|&b| b == b'/').map_or(&b""[..], |slash| &name[..slash]);
        let place = match entry.kind {
            Kind::File if entry.sparse.is_none() => Place::At { offset: tar.position(), size: entry.size },
            // Old archives hold a layer that two images share once, and link to it.
            Kind::Symlink => match join(above, &entry.link) {
                Some(target) => Place::Link(target),
                None => continue,
            },
            Kind::HardLink => match join(b"", &entry.link) {
                Some(target) => Place::Link(target),
                None => continue,
            },
            _ => continue,
        };
        entries.insert(name, place);
    }
    Ok(entries)
}

/// `path` seen from the directory `above`; `None` where it leads out of the archive.
fn join(above: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let above = if path.starts_with(b"/") { &b""[..] } else { above };
    for part in above.split(|&b| b == b'/').chain(path.split(|&b| b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// Part of a file.
struct Region {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Region {
    fn whole(file: Arc<File>) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { file, offset: 0, left })
    }
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn names_stay_in_the_archive() {
        assert_eq!(join(b"a/b", b"../c/layer.tar").as_deref(), Some(&b"a/c/layer.tar"[..]));
        assert_eq!(join(b"", b"./x").as_deref(), Some(&b"x"[..]));
        assert_eq!(join(b"a", b"/x").as_deref(), Some(&b"x"[..]));
        assert_eq!(join(b"a", b"../../x"), None);
    }
}
