//! Which images are here: one JSON file, replaced atomically, so that a crash at any moment leaves the old or the new.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Image;
use super::error::Error;
use super::layers::Layer;
use super::reference::{Reference, is_digest};

const FORMAT: u32 = 1;

/// An image and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(with = "shared")]
    pub image: Arc<Image>,
    /// Digests it was pulled by, `registry/repository@sha256:…`: a multi-platform index's and its manifest's.
    pub digests: Vec<String>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// An `Arc` is written as what it holds.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Image;

    pub fn serialize<S: Serializer>(image: &Arc<Image>, to: S) -> Result<S::Ok, S::Error> {
        image.as_ref().serialize(to)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Image>, D::Error> {
        Image::deserialize(from).map(Arc::new)
    }
}

impl Record {
    pub fn dirs(&self) -> impl Iterator<Item = &String> {
        self.layers.iter().map(|l| &l.dir)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u32,
    images: Vec<Record>,
}

/// The images, in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pub images: Vec<Record>,
}

impl Index {
    /// Reads the index; none yet is an empty one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Error::disk("read", path))?,
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| Error::Index(path.into(), e))?;
        if file.format != FORMAT {
            return Err(Error::IndexFormat(path.into(), file.format));
        }
        Ok(Self { images: file.images })
    }

    /// Writes the index beside the old one, syncs it and puts it in its place.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let file = File { format: FORMAT, images: self.images.clone() };
        let json = serde_json::to_vec_pretty(&file).map_err(|e| Error::Index(path.into(), e))?;
        let temporary: PathBuf = path.with_extension("new");
        let replace = || {
            let mut out = std::fs::File::create(&temporary)?;
            out.write_all(&json)?;
            out.sync_all()?;
            std::fs::rename(&temporary, path)?;
            std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        replace().map_err(Error::disk("write", path))
    }

    /// By reference, else by id or a unique prefix of one (at least four digits).
    pub fn find(&self, name: &str) -> Result<&Record, Error> {
        let reference = Reference::parse(name);
        if let Some(record) = reference.as_ref().ok().and_then(|r| self.by_reference(r)) {
            return Ok(record);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let is_prefix =
            (4..=64).contains(&digits.len()) && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_prefix {
            let mut found = self.images.iter().filter(|r| r.image.id["sha256:".len()..].starts_with(digits));
            match (found.next(), found.next()) {
                (Some(record), None) => return Ok(record),
                (Some(_), Some(_)) => return Err(Error::Ambiguous(name.into())),
                _ if name.starts_with("sha256:") || digits.len() == 64 => return Err(Error::NotFound(name.into())),
                _ => {}
            }
        }
        reference.and_then(|r| Err(Error::NotFound(r.to_string())))
    }

    pub fn by_reference(&self, reference: &Reference) -> Option<&Record> {
        let full = reference.to_string();
        let exact = self.images.iter().find(|r| r.image.references.contains(&full));
        let by_digest = || {
            let digest = format!("{}@{}", reference.name(), reference.digest.as_ref()?);
            self.images.iter().find(|r| r.digests.contains(&digest))
        };
        exact.or_else(by_digest)
    }

    /// Adds an image, or its references and digests to the same image; a reference names one image only, the last.
    /// Returns the record as it is now, and whether it is new.
    pub fn add(&mut self, record: Record) -> (Record, bool) {
        let references = &record.image.references;
        for other in &mut self.images {
            if other.image.references.iter().any(|r| references.contains(r)) && other.image.id != record.image.id {
                Arc::make_mut(&mut other.image).references.retain(|r| !references.contains(r));
            }
        }
        let Some(known) = self.images.iter_mut().find(|r| r.image.id == record.image.id) else {
            self.images.push(record.clone());
            return (record, true);
        };
        let image = Arc::make_mut(&mut known.image);
        merge(&mut image.references, references);
        if image.manifest.is_empty() {
            image.manifest.clone_from(&record.image.manifest);
        }
        merge(&mut known.digests, &record.digests);
        (known.clone(), false)
    }
}

fn merge(to: &mut Vec<String>, from: &[String]) {
    for item in from {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

/// Digests are what find-by-digest compares: never anything else.
pub fn digest_reference(reference: &Reference, digest: &str) -> Option<String> {
    is_digest(digest).then(|| format!("{}@{digest}", reference.name()))
}
