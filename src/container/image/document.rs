//! The JSON documents of an image, read within bounds: manifests, indexes, configurations.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, Platform};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::Error;
use super::reference::is_digest;
use super::{Image, ImageConfig};
use crate::base::id::hex;

/// Registries refuse larger manifests, too.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// overlayfs stacks no more than this many (and Docker makes no more).
pub const LAYERS_MAX: usize = 127;
/// This machine, in the words of images.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "riscv64") {
    "riscv64"
} else if cfg!(target_arch = "arm") {
    "arm"
} else {
    std::env::consts::ARCH
};

/// Either of what a reference may lead to.
pub enum Manifest {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Whether `bytes` are what `digest` names.
pub fn verify(what: &'static str, bytes: &[u8], digest: &str) -> Result<(), Error> {
    if !is_digest(digest) {
        return Err(Error::DigestAlgorithm(digest.chars().take(100).collect()));
    }
    let actual = sha256(bytes);
    if actual == digest { Ok(()) } else { Err(Error::Digest { what, expected: digest.into(), actual }) }
}

pub fn manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    #[derive(Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u32>,
    }
    let malformed = |source| Error::Document { what: "the manifest", source };
    let shape: Shape = serde_json::from_slice(bytes).map_err(malformed)?;
    match (shape.manifests, shape.layers, shape.schema_version) {
        (_, _, Some(1)) => {
            Err(Error::NotAnImage("its manifest is of the old schema 1; push it again with a current tool"))
        }
        (Some(_), None, _) => serde_json::from_slice(bytes).map(|i| Manifest::Index(Box::new(i))).map_err(malformed),
        (None, Some(_), _) => serde_json::from_slice(bytes).map(|m| Manifest::Image(Box::new(m))).map_err(malformed),
        _ => Err(Error::NotAnImage("its manifest names neither layers nor manifests")),
    }
}

fn shown(platform: &Platform) -> String {
    let variant = platform.variant().as_ref().map(|v| format!("/{v}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

/// The entry for this machine. `name`: what the error calls the image.
pub fn choose<'a>(name: &str, descriptors: &'a [Descriptor]) -> Result<&'a Descriptor, Error> {
    let fits = |d: &&Descriptor| {
        d.platform()
            .as_ref()
            .is_some_and(|p| p.os().to_string() == "linux" && p.architecture().to_string() == ARCHITECTURE)
    };
    // One manifest that does not say what it is for: its configuration will.
    let only = || match descriptors {
        [one] if one.platform().is_none() => Some(one),
        _ => None,
    };
    descriptors.iter().find(fits).or_else(only).ok_or_else(|| Error::Platform {
        name: name.into(),
        wanted: ARCHITECTURE,
        available: descriptors
            .iter()
            .filter_map(|d| d.platform().as_ref())
            .map(shown)
            .filter(|p| p != "unknown/unknown")
            .collect(),
    })
}

/// A configuration, as Docker and OCI tools write it: any field may be missing or null.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    config: Option<Process>,
    rootfs: Option<RootFs>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
#[allow(clippy::zero_sized_map_values, reason = "in JSON they are maps to empty objects")]
struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Reads a configuration into an image without references, whose layers are still to be unpacked.
pub fn image(name: &str, config: &[u8]) -> Result<Image, Error> {
    let file: ConfigFile =
        serde_json::from_slice(config).map_err(|source| Error::Document { what: "the configuration", source })?;
    let layers = file.rootfs.and_then(|r| r.diff_ids).unwrap_or_default();
    if layers.is_empty() {
        return Err(Error::NotAnImage("its configuration names no layers"));
    }
    if layers.len() > LAYERS_MAX {
        return Err(Error::TooManyLayers { count: layers.len(), max: LAYERS_MAX });
    }
    if let Some(bad) = layers.iter().find(|l| !is_digest(l)) {
        return Err(Error::DigestAlgorithm(bad.chars().take(100).collect()));
    }
    let (os, architecture) = (file.os.unwrap_or_default(), file.architecture.unwrap_or_default());
    if !matches!(os.as_str(), "" | "linux") || (!architecture.is_empty() && architecture != ARCHITECTURE) {
        let available = vec![format!("{os}/{architecture}")];
        return Err(Error::Platform { name: name.into(), wanted: ARCHITECTURE, available });
    }
    let process = file.config.unwrap_or_default();
    Ok(Image {
        references: Vec::new(),
        id: sha256(config),
        manifest: String::new(),
        size: 0,
        unpacked: 0,
        created: file.created.unwrap_or_default(),
        architecture: if architecture.is_empty() { ARCHITECTURE.into() } else { architecture },
        layers,
        config: ImageConfig {
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            env: process.env.unwrap_or_default(),
            user: process.user.unwrap_or_default(),
            working_dir: process.working_dir.unwrap_or_default(),
            stop_signal: process.stop_signal.unwrap_or_default(),
            labels: process.labels.unwrap_or_default(),
            exposed_ports: process.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: process.volumes.unwrap_or_default().into_keys().collect(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(layers: usize) -> String {
        let ids = vec![format!("\"sha256:{}\"", "0".repeat(64)); layers].join(",");
        format!(
            r#"{{"config":{{"Env":null,"Cmd":["sh"],"ExposedPorts":{{"80/tcp":{{}}}},"Volumes":null}},"rootfs":{{"diff_ids":[{ids}]}}}}"#
        )
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let image = image("x", config(2).as_bytes()).unwrap();
        assert_eq!(image.config.cmd, ["sh"]);
        assert_eq!(image.config.exposed_ports, ["80/tcp"]);
        assert!(image.config.env.is_empty());
    }

    #[test]
    fn the_number_of_layers_is_bounded() {
        assert!(image("x", config(LAYERS_MAX).as_bytes()).is_ok());
        assert!(matches!(image("x", config(LAYERS_MAX + 1).as_bytes()), Err(Error::TooManyLayers { .. })));
        assert!(matches!(image("x", config(0).as_bytes()), Err(Error::NotAnImage(_))));
    }

    #[test]
    fn a_foreign_machine_is_named() {
        let error = image("x", br#"{"os":"windows","architecture":"amd64","rootfs":{"diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#);
        assert!(error.unwrap_err().to_string().contains("windows/amd64"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_document_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = manifest(&bytes);
            let _ = image("x", &bytes);
        }
    }
}
