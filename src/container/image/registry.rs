//! One registry, as one pull sees it: without login, over TLS (plain HTTP on this machine), everything bounded.
//!
//! Tokens and blobs are oci-client's. Manifests are fetched here, because it reads them into memory whatever their size
//! and lets a redirect lead from TLS to plain HTTP.

use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference as OciReference, RegistryOperation};
use reqwest::header::{ACCEPT, AUTHORIZATION};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::document::{self, DOCUMENT_BYTES_MAX, sha256};
use super::error::{Error, RegistryProblem as Problem};
use super::reference::Reference;
use crate::base::id::hex;

/// How often a blob is tried; each goes on where the one before broke off.
const ATTEMPTS_MAX: u32 = 5;
/// The wait after the first failure; it doubles.
const BACKOFF: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence within an answer.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const REDIRECTS_MAX: usize = 5;
const USER_AGENT: &str = concat!("entroos/", env!("CARGO_PKG_VERSION"));
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

pub struct Registry {
    reference: Reference,
    oci: OciReference,
    client: Client,
    http: reqwest::Client,
    token: Option<String>,
}

/// A blob to fetch.
pub struct Blob<'a> {
    pub what: &'static str,
    pub digest: &'a str,
    pub size: u64,
}

impl Registry {
    /// Makes the clients and asks for an anonymous token where the registry wants one.
    pub async fn connect(reference: &Reference) -> Result<Self, Error> {
        // Fails where one is installed already: as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects());
        if reference.is_loopback() {
            http = http.no_proxy();
        }
        // Built before oci-client's, which panics where this fails.
        let http = http.build().map_err(Error::HttpClient)?;
        let tag = reference.tag.clone().unwrap_or_else(|| "latest".into());
        let oci = OciReference::with_tag(reference.registry.clone(), reference.repository.clone(), tag);
        // A proxy that is never asked, for this machine's own registry: it takes the place of the environment's.
        let no_proxy = reference.is_loopback();
        let client = Client::new(ClientConfig {
            http_proxy: no_proxy.then(|| "http://127.0.0.1:9".into()),
            no_proxy: no_proxy.then(|| "localhost,127.0.0.0/8,::1".into()),
            protocol: if reference.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        });
        let mut this = Self { reference: reference.clone(), oci, client, http, token: None };
        let token = this.client.auth(&this.oci, &RegistryAuth::Anonymous, RegistryOperation::Pull).await;
        this.token = token.map_err(|e| this.fail(e.into(), 1))?;
        Ok(this)
    }

    /// The manifest that `name`, a tag or a digest, leads to, and its digest.
    pub async fn manifest(&self, name: &str) -> Result<(Vec<u8>, String), Error> {
        let mut attempt = 1;
        let bytes = loop {
            match self.manifest_once(name).await {
                Ok(bytes) => break bytes?,
                Err(problem) if attempt < ATTEMPTS_MAX && is_transient(&problem) => {
                    tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                Err(problem) => return Err(self.fail(problem, attempt)),
            }
        };
        if name.contains(':') {
            document::verify("the manifest", &bytes, name)?;
        }
        let digest = sha256(&bytes);
        Ok((bytes, digest))
    }

    async fn manifest_once(&self, name: &str) -> Result<Result<Vec<u8>, Error>, Problem> {
        let scheme = if self.reference.is_loopback() { "http" } else { "https" };
        let url =
            format!("{scheme}://{}/v2/{}/manifests/{name}", self.oci.resolve_registry(), self.reference.repository);
        let mut request = self.http.get(url).header(ACCEPT, MANIFEST_TYPES);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.send().await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(Problem::Status(response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > DOCUMENT_BYTES_MAX {
                return Ok(Err(Error::DocumentTooLarge { what: "the manifest", max: DOCUMENT_BYTES_MAX }));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Ok(bytes))
    }

    /// Writes a blob to `file`, verified. `progress` hears of bytes that came (negative: that must come again).
    pub async fn blob(
        &self,
        blob: &Blob<'_>,
        file: &mut tokio::fs::File,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<(), Error> {
        let mut transfer = Transfer { blob, file, done: 0, hasher: Sha256::new(), progress };
        let mut attempt = 1;
        loop {
            let problem = match transfer.run(self).await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            match problem {
                Problem::Digest(actual, expected) if attempt >= 2 => {
                    return Err(Error::Digest { what: blob.what, expected, actual });
                }
                // What came is worth nothing: from the start.
                Problem::Digest(..) => {
                    transfer.restart().await.map_err(|e| self.fail(Problem::Transfer(e), attempt))?;
                }
                problem if attempt >= ATTEMPTS_MAX || !is_transient(&problem) => {
                    return Err(self.fail(problem, attempt));
                }
                problem => tracing::debug!(%problem, digest = blob.digest, attempt, "a blob is tried again"),
            }
            tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    /// The error that names registry, reference and the cure.
    fn fail(&self, source: Problem, attempts: u32) -> Error {
        let (registry, reference) = (self.reference.registry.clone(), self.reference.to_string());
        match status(&source) {
            Some(401 | 403) => Error::Unauthorised { registry, reference },
            Some(404) => Error::NoSuchImage { registry, reference },
            Some(429) => Error::RateLimited { registry, reference },
            _ if is_unreachable(&source) => Error::Unreachable { registry, reference, source },
            _ => Error::Registry { registry, reference, attempts, source },
        }
    }
}

/// A blob on its way into a file.
struct Transfer<'a> {
    blob: &'a Blob<'a>,
    file: &'a mut tokio::fs::File,
    done: u64,
    hasher: Sha256,
    progress: &'a (dyn Fn(i64) + Send + Sync),
}

impl Transfer<'_> {
    async fn run(&mut self, registry: &Registry) -> Result<(), Problem> {
        let digest = self.blob.digest;
        let mut stream = if self.done == 0 {
            registry.client.pull_blob_stream(&registry.oci, digest).await?
        } else {
            match registry.client.pull_blob_stream_partial(&registry.oci, digest, self.done, None).await? {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    self.restart().await.map_err(Problem::Transfer)?;
                    stream
                }
            }
        };
        while self.done < self.blob.size || self.blob.size == 0 {
            let Some(chunk) = stream.next().await else { break };
            let chunk = chunk.map_err(|e| self.classify(e))?;
            let length = chunk.len() as u64;
            if self.done + length > self.blob.size {
                return Err(Problem::TooLong(self.blob.size));
            }
            self.file.write_all(&chunk).await.map_err(Problem::Transfer)?;
            self.hasher.update(&chunk);
            self.done += length;
            (self.progress)(length.cast_signed());
        }
        self.file.flush().await.map_err(Problem::Transfer)?;
        if self.done < self.blob.size {
            return Err(Problem::Truncated(self.done, self.blob.size));
        }
        let actual = format!("sha256:{}", hex(&self.hasher.clone().finalize()));
        if actual != digest {
            return Err(Problem::Digest(actual, digest.into()));
        }
        // More than announced is a lie too, though the rest was right.
        match stream.next().await {
            Some(Ok(more)) if !more.is_empty() => Err(Problem::TooLong(self.blob.size)),
            _ => Ok(()),
        }
    }

    fn classify(&self, error: std::io::Error) -> Problem {
        match error.get_ref().and_then(|e| e.downcast_ref::<DigestError>()) {
            Some(DigestError::VerificationError { actual, .. }) if self.done == self.blob.size => {
                Problem::Digest(actual.clone(), self.blob.digest.into())
            }
            Some(_) => Problem::Truncated(self.done, self.blob.size),
            None => Problem::Transfer(error),
        }
    }

    async fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.progress)(-self.done.cast_signed());
        self.done = 0;
        self.hasher = Sha256::new();
        Ok(())
    }
}

/// Never from TLS to plain HTTP, and not for ever.
fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let downgrade = attempt.previous().iter().any(|u| u.scheme() == "https") && attempt.url().scheme() != "https";
        if downgrade || attempt.previous().len() > REDIRECTS_MAX { attempt.stop() } else { attempt.follow() }
    })
}

fn status(problem: &Problem) -> Option<u16> {
    match problem {
        Problem::Status(code) | Problem::Oci(OciDistributionError::ServerError { code, .. }) => Some(*code),
        Problem::Oci(
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_),
        ) => Some(401),
        Problem::Oci(OciDistributionError::RegistryError { envelope, .. }) => {
            envelope.errors.first().and_then(|e| match e.code {
                OciErrorCode::Unauthorized | OciErrorCode::Denied => Some(401),
                OciErrorCode::Toomanyrequests => Some(429),
                OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestUnknown
                | OciErrorCode::ManifestBlobUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound => Some(404),
                _ => None,
            })
        }
        Problem::Oci(OciDistributionError::RequestError(e)) | Problem::Http(e) => e.status().map(|s| s.as_u16()),
        _ => None,
    }
}

fn is_unreachable(problem: &Problem) -> bool {
    match problem {
        Problem::Oci(OciDistributionError::RequestError(e)) | Problem::Http(e) => e.is_connect() || e.is_timeout(),
        _ => false,
    }
}

/// Whether another attempt may go better.
fn is_transient(problem: &Problem) -> bool {
    match status(problem) {
        Some(code) => code >= 500 || code == 408,
        None => match problem {
            Problem::Transfer(_) | Problem::Truncated(..) => true,
            Problem::Oci(OciDistributionError::RequestError(e)) | Problem::Http(e) => {
                !e.is_builder() && !e.is_connect()
            }
            _ => false,
        },
    }
}
