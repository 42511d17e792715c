//! What can go wrong with images, each in words that lead to the cure.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::tarball;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image here.
    #[error("image {0} is not on this node")]
    NotFound(String),
    /// The name cannot be an image's.
    #[error("{0:?} is not an image reference: {1}")]
    Reference(String, String),
    #[error("image {0} is used by {1}; delete that pod first")]
    InUse(String, String),
    #[error("{0:?} is the beginning of more than one image id; give more digits")]
    Ambiguous(String),
    /// The image directory itself.
    #[error("cannot {verb} `{path}`")]
    Disk {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` is not an index of images this version reads; move it away to start with none")]
    Index(PathBuf, #[source] serde_json::Error),
    #[error("`{0}` was written by a newer version (format {1})")]
    IndexFormat(PathBuf, u32),

    // What images are made of.
    #[error("layer {diff_id}: {problem}")]
    Layer {
        diff_id: String,
        #[source]
        problem: LayerProblem,
    },
    #[error("{what} of the image is larger than {max} bytes")]
    DocumentTooLarge { what: &'static str, max: u64 },
    #[error("{what} of the image is malformed")]
    Document {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("not a container image: {0}")]
    NotAnImage(&'static str),
    #[error("the image has {count} layers; at most {max} can be stacked")]
    TooManyLayers { count: usize, max: usize },
    #[error("{what} hashes to {actual}, not to {expected}: it was damaged or tampered with; fetch it again")]
    Digest { what: &'static str, expected: String, actual: String },
    #[error("{what} has {actual} bytes, not the {expected} that were announced")]
    Size { what: &'static str, expected: u64, actual: u64 },
    #[error("digest {0:?} is not supported; only sha256 is")]
    DigestAlgorithm(String),
    #[error("{name} is not for this machine (linux/{wanted}); it is made for: {}", available.join(", "))]
    Platform { name: String, wanted: &'static str, available: Vec<String> },

    // Registries.
    #[error("registry {registry} has no image {reference}; check the spelling and the tag")]
    NoSuchImage { registry: String, reference: String },
    #[error(
        "registry {registry} does not let anyone pull {reference} (or it does not exist): login is not supported yet"
    )]
    Unauthorised { registry: String, reference: String },
    #[error("registry {registry} cannot be reached for {reference}; check the name, the network and the proxy")]
    Unreachable {
        registry: String,
        reference: String,
        #[source]
        source: RegistryProblem,
    },
    #[error("registry {registry} did not deliver {reference} after {attempts} attempts; try again later")]
    Registry {
        registry: String,
        reference: String,
        attempts: u32,
        #[source]
        source: RegistryProblem,
    },
    #[error("registry {registry} lets this machine pull no more for now (rate limit); try {reference} later")]
    RateLimited { registry: String, reference: String },
    #[error("no HTTP client for registries; on Debian, install `ca-certificates`")]
    HttpClient(#[source] reqwest::Error),

    // Archives.
    #[error("`{0}` cannot be read")]
    Archive(PathBuf, #[source] io::Error),
    #[error("`{0}` is not a tar archive")]
    Tar(PathBuf, #[source] tarball::Error),
    #[error("`{0}` is neither a `docker save` archive (manifest.json) nor an OCI layout (index.json)")]
    UnknownArchive(PathBuf),
    #[error("the archive has no file {0:?}")]
    Missing(String),
    #[error("the archive holds {0} images without a name; a tag can name only one")]
    ManyUnnamed(usize),

    /// The work was abandoned because nobody waits for it.
    #[error("cancelled")]
    Cancelled,
    /// A pull that others waited for too.
    #[error(transparent)]
    Shared(Arc<Error>),
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerProblem {
    #[error(transparent)]
    Tar(#[from] tarball::Error),
    #[error("cannot write `{path}`")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("it names `{0}`, which leads out of the image")]
    Escape(String),
    #[error("it holds an entry with an impossible name (`{0}`)")]
    Name(String),
    #[error("hard link `{0}` points to `{1}`, which the layer does not hold")]
    HardLink(String, String),
    #[error("`{0}` lies below something that is no directory")]
    Parent(String),
    #[error("it unpacks to more than {0} bytes (`layer_max`)")]
    TooLarge(u64),
    #[error("it holds more than {0} entries")]
    TooMany(u64),
    #[error("it hashes to {0}: it was damaged or tampered with; fetch it again")]
    DiffId(String),
    #[error("cancelled")]
    Cancelled,
}

/// What a registry did wrong.
#[derive(Debug, thiserror::Error)]
pub enum RegistryProblem {
    #[error(transparent)]
    Oci(#[from] oci_client::errors::OciDistributionError),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("it answered {0}")]
    Status(u16),
    #[error("the transfer broke off")]
    Transfer(#[source] io::Error),
    #[error("the transfer ended after {0} of {1} bytes")]
    Truncated(u64, u64),
    #[error("it sent more than the {0} bytes it announced")]
    TooLong(u64),
    #[error("it sent {0} instead of {1}")]
    Digest(String, String),
}

impl Error {
    pub(super) fn disk(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { verb, path, source }
    }
}
