//! Pulling: manifest, then layers in parallel, each unpacked as soon as those below it are.
//!
//! Pulls of one reference at once are one flight: whoever waits drives it, and it ends when nobody waits any more.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use oci_spec::image::ImageManifest;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::document::{self, DOCUMENT_BYTES_MAX, Manifest};
use super::error::{Error, LayerProblem};
use super::index::{Record, digest_reference};
use super::layers::{Hold, Layer, Scratch, chain_ids};
use super::reference::{Reference, is_digest};
use super::registry::{Blob, Registry};
use super::{Image, Images, Progress, blocking};

/// Layers fetched at once, per pull.
const PARALLEL: usize = 3;
const INDEX_DEPTH_MAX: u32 = 3;

type Work = Shared<BoxFuture<'static, Result<Arc<Image>, Arc<Error>>>>;

/// The pulls under way, by reference.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<String, Flight>>);

struct Flight {
    work: WeakShared<BoxFuture<'static, Result<Arc<Image>, Arc<Error>>>>,
    progress: watch::Receiver<Progress>,
}

pub async fn pull(
    images: &Images,
    reference: Reference,
    progress: Option<mpsc::Sender<Progress>>,
) -> Result<Arc<Image>, Error> {
    let (mut work, mut seen) = images.0.flights.join(images, reference);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Ok(()) = seen.changed(), if progress.is_some() => {
                let now = seen.borrow_and_update().clone();
                // One who does not keep up hears of a later state.
                let _ = progress.as_ref().map(|p| p.try_send(now));
            }
        }
    };
    if let Some(progress) = &progress {
        let _ = progress.try_send(seen.borrow().clone());
    }
    result.map_err(Error::Shared)
}

impl Flights {
    fn join(&self, images: &Images, reference: Reference) -> (Work, watch::Receiver<Progress>) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, f| f.work.upgrade().is_some_and(|w| w.peek().is_none()));
        let name = reference.to_string();
        if let Some(flight) = flights.get(&name)
            && let Some(work) = flight.work.upgrade()
        {
            return (work, flight.progress.clone());
        }
        let (sender, receiver) = watch::channel(Progress::default());
        let images = images.clone();
        let work = async move { fly(images, reference, sender).await.map_err(Arc::new) }.boxed().shared();
        if let Some(weak) = work.downgrade() {
            flights.insert(name, Flight { work: weak, progress: receiver.clone() });
        }
        (work, receiver)
    }
}

async fn fly(images: Images, reference: Reference, progress: watch::Sender<Progress>) -> Result<Arc<Image>, Error> {
    let registry = Arc::new(Registry::connect(&reference).await?);
    let (manifest, digests) = manifest(&registry, &reference).await?;
    let layers = images.0.layers.clone();
    let scratch = blocking({
        let layers = layers.clone();
        move |_| layers.scratch()
    })
    .await?;
    let config = config(&registry, &manifest, scratch.path()).await?;
    let mut image = document::image(&reference.to_string(), &config)?;
    if image.layers.len() != manifest.layers().len() {
        return Err(Error::NotAnImage("its manifest and its configuration disagree about its layers"));
    }
    image.size = manifest.layers().iter().fold(config.len() as u64, |sum, l| sum.saturating_add(l.size()));
    image.references = vec![reference.to_string()];
    image.manifest = digests.last().cloned().unwrap_or_default();
    let (hold, done) = stack(&images, registry, &image, &manifest, scratch, progress).await?;
    image.unpacked = done.iter().map(|l| l.bytes).sum();
    let digests = digests.iter().filter_map(|d| digest_reference(&reference, d)).collect();
    let record = Record { image: Arc::new(image), digests, layers: done };
    let mut made = blocking(move |_| {
        let made = images.0.commit(vec![record]);
        drop(hold);
        made
    })
    .await?;
    made.pop().ok_or(Error::Cancelled)
}

/// The manifest for this machine, and the digests that lead to it.
async fn manifest(registry: &Registry, reference: &Reference) -> Result<(Box<ImageManifest>, Vec<String>), Error> {
    let wanted = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let (mut bytes, mut digest) = registry.manifest(wanted).await?;
    let mut digests = Vec::new();
    for _ in 0..=INDEX_DEPTH_MAX {
        digests.push(digest);
        match document::manifest(&bytes)? {
            Manifest::Image(manifest) => return Ok((manifest, digests)),
            Manifest::Index(index) => {
                let chosen = document::choose(&reference.to_string(), index.manifests())?.digest().to_string();
                if !is_digest(&chosen) {
                    return Err(Error::DigestAlgorithm(chosen.chars().take(100).collect()));
                }
                (bytes, digest) = registry.manifest(&chosen).await?;
            }
        }
    }
    Err(Error::NotAnImage("its indexes name one another too deeply"))
}

async fn config(registry: &Registry, manifest: &ImageManifest, scratch: &Path) -> Result<Vec<u8>, Error> {
    let (what, size) = ("the configuration", manifest.config().size());
    if size > DOCUMENT_BYTES_MAX {
        return Err(Error::DocumentTooLarge { what, max: DOCUMENT_BYTES_MAX });
    }
    let digest = manifest.config().digest().to_string();
    let path = scratch.join("config");
    fetch(registry, &Blob { what, digest: &digest, size }, &path, &|_| {}).await?;
    let bytes = tokio::fs::read(&path).await.map_err(Error::disk("read", &path))?;
    document::verify(what, &bytes, &digest)?;
    Ok(bytes)
}

async fn fetch(
    registry: &Registry,
    blob: &Blob<'_>,
    path: &Path,
    progress: &(dyn Fn(i64) + Send + Sync),
) -> Result<(), Error> {
    if !is_digest(blob.digest) {
        return Err(Error::DigestAlgorithm(blob.digest.chars().take(100).collect()));
    }
    let mut file = tokio::fs::File::create(path).await.map_err(Error::disk("create", path))?;
    registry.blob(blob, &mut file, progress).await
}

/// Fetches and unpacks what is not here. The layers are held until the hold is dropped.
async fn stack(
    images: &Images,
    registry: Arc<Registry>,
    image: &Image,
    manifest: &ImageManifest,
    scratch: Scratch,
    progress: watch::Sender<Progress>,
) -> Result<(Hold, Vec<Layer>), Error> {
    let chains = chain_ids(&image.layers);
    let pairs: Vec<(String, String)> = image.layers.iter().cloned().zip(chains).collect();
    let layers = images.0.layers.clone();
    let (mut hold, here) = blocking({
        let (mut hold, pairs) = (Hold::new(layers.clone()), pairs.clone());
        move |_| {
            let here: Vec<bool> = pairs.iter().map(|(diff, chain)| hold.find(diff, chain).is_some()).collect();
            Ok((hold, here))
        }
    })
    .await?;
    let total = manifest.layers().iter().fold(0u64, |sum, l| sum.saturating_add(l.size()));
    progress.send_modify(|p| (p.layers, p.total) = (u32::try_from(pairs.len()).unwrap_or(u32::MAX), total));
    let progress = Arc::new(progress);
    let mut blobs =
        Blobs { tasks: JoinSet::new(), on_the_way: HashMap::new(), parallel: Arc::new(Semaphore::new(PARALLEL)) };
    for (descriptor, (pair, here)) in manifest.layers().iter().zip(pairs.iter().zip(&here)) {
        if descriptor.size() > layers.bytes_max() {
            let problem = LayerProblem::TooLarge(layers.bytes_max());
            return Err(Error::Layer { diff_id: pair.0.clone(), problem });
        }
        if *here {
            progress.send_modify(|p| p.bytes += descriptor.size());
        } else {
            blobs.start(&registry, descriptor.digest().to_string(), descriptor.size(), scratch.path(), &progress);
        }
    }
    let mut done: Vec<Layer> = Vec::with_capacity(pairs.len());
    for (at, (diff, chain)) in pairs.into_iter().enumerate() {
        let digest = manifest.layers()[at].digest();
        let last_use = manifest.layers()[at + 1..].iter().all(|l| l.digest() != digest);
        let blob = blobs.wait(digest.as_ref()).await?;
        let below = done;
        (hold, done) = blocking(move |cancel| {
            let mut done = below;
            let layer = match (hold.find(&diff, &chain), blob) {
                (Some(layer), _) => layer,
                (None, None) => return Err(Error::Missing(diff)),
                (None, Some(path)) => {
                    let blob = std::fs::File::open(&path).map_err(Error::disk("open", &path))?;
                    let layer = hold.unpack(blob, &diff, &chain, &done, &cancel)?;
                    if last_use {
                        // Now rather than at the end: an image need not lie on the disk twice.
                        let _ = std::fs::remove_file(&path);
                    }
                    layer
                }
            };
            done.push(layer);
            Ok((hold, done))
        })
        .await?;
        progress.send_modify(|p| p.layer += 1);
    }
    let _ = tokio::task::spawn_blocking(move || drop(scratch)).await;
    Ok((hold, done))
}

/// Tells that a blob is whole, or why it never will be.
type Arrival = oneshot::Receiver<Result<(), Error>>;

/// Blobs on their way, each fetched once however many layers are made of it.
struct Blobs {
    /// Ends the transfers when the pull ends.
    tasks: JoinSet<()>,
    on_the_way: HashMap<String, (PathBuf, Option<Arrival>)>,
    parallel: Arc<Semaphore>,
}

impl Blobs {
    fn start(
        &mut self,
        registry: &Arc<Registry>,
        digest: String,
        size: u64,
        scratch: &Path,
        progress: &Arc<watch::Sender<Progress>>,
    ) {
        if self.on_the_way.contains_key(&digest) {
            return;
        }
        let path = scratch.join(format!("blob-{}", self.on_the_way.len()));
        let (sender, receiver) = oneshot::channel();
        self.on_the_way.insert(digest.clone(), (path.clone(), Some(receiver)));
        let (registry, progress, parallel) = (registry.clone(), progress.clone(), self.parallel.clone());
        self.tasks.spawn(async move {
            let Ok(_permit) = parallel.acquire().await else { return };
            let count = |n: i64| progress.send_modify(|p| p.bytes = p.bytes.saturating_add_signed(n));
            let blob = Blob { what: "a layer", digest: &digest, size };
            let _ = sender.send(fetch(&registry, &blob, &path, &count).await);
        });
    }

    /// Where the blob lies once it is whole; `None` where it was not asked for.
    async fn wait(&mut self, digest: &str) -> Result<Option<PathBuf>, Error> {
        let Some((path, receiver)) = self.on_the_way.get_mut(digest) else { return Ok(None) };
        if let Some(receiver) = receiver.take() {
            receiver.await.map_err(|_| Error::Cancelled)??;
        }
        Ok(Some(path.clone()))
    }
}
