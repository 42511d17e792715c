//! Images on this node: pulled or imported, verified, unpacked once.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image here.
    #[error("image {0} is not on this node")]
    NotFound(String),
    /// The name cannot be an image's.
    #[error("{0:?} is not an image reference: {1}")]
    Reference(String, String),
    #[error("image {0} is used by {1}")]
    InUse(String, String),
    #[error("skeleton")]
    Skeleton,
}

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

/// `alpine` → `docker.io/library/alpine:latest`; digests are kept.
pub fn normalise(_reference: &str) -> Result<String, Error> {
    todo!()
}

/// Cloneable handle to the images of this node.
#[derive(Clone)]
pub struct Images {}

impl Images {
    /// Opens the directory; removes what an interrupted pull left.
    pub fn open(_config: Config) -> Result<Self, Error> {
        todo!()
    }
    /// By reference, id or unique prefix of an id (at least 4 digits).
    pub fn find(&self, _name: &str) -> Result<Arc<Image>, Error> {
        todo!()
    }
    pub fn list(&self) -> Vec<Arc<Image>> {
        todo!()
    }
    /// Pulls from the registry the reference names; pulls of one reference at once share the work.
    pub async fn pull(&self, _reference: &str, _progress: Option<mpsc::Sender<Progress>>) -> Result<Arc<Image>, Error> {
        todo!()
    }
    /// Reads a `docker save` tar, an OCI layout tar (gzip or plain) or an OCI layout directory. `tag` names what has no name.
    pub async fn import(&self, _path: &Path, _tag: Option<&str>) -> Result<Vec<Arc<Image>>, Error> {
        todo!()
    }
    /// Removes the reference, and the image and its layers where nothing else names them. `in_use`: images that pods use.
    pub async fn remove(&self, _name: &str, _in_use: &(dyn Fn(&Image) -> Option<String> + Sync)) -> Result<(), Error> {
        todo!()
    }
    /// The directories of its layers, lowest first.
    pub fn layer_dirs(&self, _image: &Image) -> Vec<PathBuf> {
        todo!()
    }
}
