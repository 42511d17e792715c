//! Images on this node: pulled or imported, verified, unpacked once.
//!
//! On disk, below `images/`: `index.json` (which images are here, replaced atomically), `layers/` (unpacked, shared) and
//! `tmp/` (work in progress, emptied at the start). The index is written last, after all layers have reached the disk:
//! what a crash leaves is either an image or nothing.
//!
//! Invariant: bytes become a layer only when their hash is what the image's configuration says.

mod archive;
mod document;
mod error;
mod index;
mod layers;
mod paths;
mod pull;
mod reference;
mod registry;
mod tarball;
mod unpack;
#[cfg(test)]
mod unpack_tests;

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use index::{Index, Record};
use layers::{Cancel, Hold, Layers};

pub use error::{Error, LayerProblem, RegistryProblem};
pub use reference::normalise;

/// An image that is here and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Full references: `docker.io/library/alpine:latest`.
    pub references: Vec<String>,
    /// `sha256:…` of the configuration (Docker's image id).
    pub id: String,
    /// `sha256:…` of the manifest, where it is known.
    pub manifest: String,
    /// Compressed or archive bytes as they came.
    pub size: u64,
    /// Bytes on disk, unpacked (a layer shared by two images counts in each).
    pub unpacked: u64,
    pub created: String,
    pub architecture: String,
    /// Diff ids, lowest first.
    pub layers: Vec<String>,
    pub config: ImageConfig,
}

/// What the image says of the process to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub stop_signal: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
}

/// How far a pull has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub layer: u32,
    pub layers: u32,
    pub bytes: u64,
    pub total: u64,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `images/` lives here.
    pub data_dir: PathBuf,
    /// Most bytes one layer may unpack to (zip bombs).
    pub layer_max: crate::base::Bytes,
}

/// Cloneable handle to the images of this node.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    index_path: PathBuf,
    index: Mutex<Index>,
    layers: Arc<Layers>,
    flights: pull::Flights,
}

impl Images {
    /// Opens the directory; removes what an interrupted pull left.
    #[allow(clippy::needless_pass_by_value, reason = "whoever opens the images is done with their configuration")]
    pub fn open(config: Config) -> Result<Self, Error> {
        let dir = config.data_dir.join("images");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(Error::disk("create", &dir))?;
        let index_path = dir.join("index.json");
        let mut index = Index::read(&index_path)?;
        let layers = Layers::open(&dir, config.layer_max.0)?;
        index.images.retain(|record| {
            let whole = record.dirs().all(|d| layers.is_here(d));
            if !whole {
                tracing::warn!(
                    image = record.image.id,
                    "an image has lost layers and is forgotten; pull or import it again"
                );
            }
            whole
        });
        let named: BTreeSet<String> = index.images.iter().flat_map(Record::dirs).cloned().collect();
        layers.keep_only(&named)?;
        for record in &index.images {
            layers.name(record.dirs());
        }
        let inner =
            Inner { index_path, index: Mutex::new(index), layers: Arc::new(layers), flights: pull::Flights::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// By reference, id or unique prefix of an id (at least 4 digits).
    pub fn find(&self, name: &str) -> Result<Arc<Image>, Error> {
        self.index().find(name).map(|r| r.image.clone())
    }

    pub fn list(&self) -> Vec<Arc<Image>> {
        self.index().images.iter().map(|r| r.image.clone()).collect()
    }

    /// Pulls from the registry the reference names; pulls of one reference at once share the work.
    pub async fn pull(&self, reference: &str, progress: Option<mpsc::Sender<Progress>>) -> Result<Arc<Image>, Error> {
        pull::pull(self, reference::Reference::parse(reference)?, progress).await
    }

    /// Reads a `docker save` tar, an OCI layout tar (plain, gzip or zstd) or an OCI layout directory. `tag` names what
    /// has no name (and is one more name where there is only one image).
    pub async fn import(&self, path: &Path, tag: Option<&str>) -> Result<Vec<Arc<Image>>, Error> {
        let (this, path, tag) = (self.clone(), path.to_owned(), tag.map(String::from));
        blocking(move |cancel| {
            let mut hold = Hold::new(this.0.layers.clone());
            let records = archive::import(&path, tag.as_deref(), &this.0.layers, &mut hold, &cancel)?;
            this.0.commit(records)
        })
        .await
    }

    /// Removes the reference, and the image and its layers where nothing else names them; by id, the image with all its
    /// references. `in_use`: the pod that uses an image, if one does.
    pub async fn remove(&self, name: &str, in_use: &(dyn Fn(&Image) -> Option<String> + Sync)) -> Result<(), Error> {
        let image = self.find(name)?;
        let reference = normalise(name).ok().filter(|r| image.references.contains(r));
        let untag_only = reference.is_some() && image.references.len() > 1;
        if !untag_only && let Some(pod) = in_use(&image) {
            return Err(Error::InUse(name.into(), pod));
        }
        let this = self.clone();
        blocking(move |_| this.0.remove(&image, reference.filter(|_| untag_only).as_deref())).await
    }

    /// The directories of its layers, lowest first.
    pub fn layer_dirs(&self, image: &Image) -> Vec<PathBuf> {
        let index = self.index();
        let Some(record) = index.images.iter().find(|r| r.image.id == image.id) else { return Vec::new() };
        // overlayfs knows no opaque root: leave out what it would hide.
        let first = record.layers.iter().rposition(|l| l.opaque_root).unwrap_or(0);
        record.layers[first..].iter().map(|l| self.0.layers.fs(&l.dir)).collect()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index()
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes images durable and known. Their layers must be held.
    fn commit(&self, records: Vec<Record>) -> Result<Vec<Arc<Image>>, Error> {
        self.layers.sync()?;
        let mut index = self.index();
        let mut next = index.clone();
        let (mut images, mut fresh) = (Vec::new(), Vec::new());
        for record in records {
            let (record, is_new) = next.add(record);
            images.push(record.image.clone());
            if is_new {
                fresh.extend(record.dirs().cloned());
            }
        }
        next.write(&self.index_path)?;
        self.layers.name(&fresh);
        *index = next;
        Ok(images)
    }

    /// Removes one reference, or the image where none is given.
    fn remove(&self, image: &Image, reference: Option<&str>) -> Result<(), Error> {
        let mut index = self.index();
        let mut next = index.clone();
        let at = next.images.iter().position(|r| r.image.id == image.id);
        let at = at.ok_or_else(|| Error::NotFound(image.id.clone()))?;
        let mut dirs = Vec::new();
        if let Some(reference) = reference {
            Arc::make_mut(&mut next.images[at].image).references.retain(|r| r != reference);
        } else {
            dirs.extend(next.images.remove(at).dirs().cloned());
        }
        next.write(&self.index_path)?;
        *index = next;
        drop(index);
        self.layers.unname(&dirs);
        Ok(())
    }
}

/// Runs `work` on a thread that may block. It is told when nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(Cancel) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let cancel = Cancel::default();
    let _guard = cancel.guard();
    match tokio::task::spawn_blocking(move || work(cancel)).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}
