//! Images made by hand.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

pub fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A plain tar of files and the directories above them.
pub fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in files {
        if let Some((above, _)) = path.rsplit_once('/') {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, above, std::io::empty()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        builder.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut &bytes[..], &mut out).unwrap();
    out.finish().unwrap()
}

pub fn config(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|l| sha256(l)).collect();
    serde_json::to_vec(&json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/hello"], "Env": ["A=1"], "Volumes": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap()
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(body.len() as u64);
        builder.append_data(&mut header, path, body.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// As `docker save` wrote it for years: the second layer of a name is a link.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<_> = (0..layers.len()).map(|i| format!("{i:064}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    let mut files = vec![
        ("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap()),
        ("config.json".to_owned(), config(layers, ARCH)),
    ];
    files.extend(names.into_iter().zip(layers.iter().cloned()));
    tar_of(&files)
}

/// An OCI layout in the making.
#[derive(Clone, Default)]
pub struct Layout {
    pub blobs: Vec<(String, Vec<u8>)>,
    pub manifests: Vec<Value>,
}

impl Layout {
    pub fn blob(&mut self, bytes: Vec<u8>) -> (String, usize) {
        let (digest, size) = (sha256(&bytes), bytes.len());
        self.blobs.push((digest.clone(), bytes));
        (digest, size)
    }

    /// Adds an image of gzip layers; returns the descriptor of its manifest.
    pub fn image(&mut self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let (config_digest, config_size) = self.blob(config(layers, architecture));
        let layers: Vec<_> = layers
            .iter()
            .map(|l| {
                let (digest, size) = self.blob(gzip(l));
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size},
            "layers": layers,
        });
        let (digest, size) = self.blob(serde_json::to_vec(&manifest).unwrap());
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size})
    }

    /// Adds an index of images for several machines; returns its descriptor.
    pub fn index(&mut self, images: &[(Value, &str)]) -> Value {
        let manifests: Vec<_> = images
            .iter()
            .map(|(descriptor, architecture)| {
                let mut descriptor = descriptor.clone();
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .collect();
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
        let (digest, size) = self.blob(serde_json::to_vec(&index).unwrap());
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size})
    }

    /// Names a descriptor in the layout's index.
    pub fn name(&mut self, mut descriptor: Value, name: Option<&str>) {
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
        ];
        files.extend(self.blobs.iter().map(|(d, b)| (format!("blobs/{}", d.replacen(':', "/", 1)), b.clone())));
        files
    }

    pub fn tar(&self) -> Vec<u8> {
        tar_of(&self.files())
    }

    pub fn write(&self, dir: &Path) {
        for (path, body) in self.files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, body).unwrap();
        }
    }
}
