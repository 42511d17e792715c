//! Names of images, by Docker's rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::Error;

const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_BYTES_MAX: usize = 255;

/// `registry/repository[:tag][@digest]`, in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `alpine` → `docker.io/library/alpine:latest`; digests are kept.
pub fn normalise(reference: &str) -> Result<String, Error> {
    Reference::parse(reference).map(|r| r.to_string())
}

impl Reference {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Reference(text.chars().take(300).collect(), why.into());
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.contains("://") {
            return Err(bad("leave out the scheme (`http://`, `https://`)"));
        }
        if is_hex(text, 64) {
            return Err(bad("64 hexadecimal digits are an image id"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(bad("the digest after `@` must be `sha256:` and 64 lower-case hexadecimal digits"));
        }
        // A colon behind the last slash begins the tag; one before it, a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad("the tag must be 1 to 128 letters, digits, `_`, `.` and `-`, and begin with none of `.-`"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, name),
        };
        if !registry_is_valid(registry) {
            return Err(bad("the registry must be a host name or an address, perhaps with `:port`"));
        }
        if repository.is_empty() {
            return Err(bad("the name of the image is missing"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("the name must be in lower case"));
        }
        if !repository.split('/').all(is_component) {
            return Err(bad(
                "each part of the name must be lower-case letters and digits, with single `.`, `_`, `__` or dashes between them",
            ));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let library = if registry == DEFAULT_REGISTRY && !repository.contains('/') { "library/" } else { "" };
        let repository = format!("{library}{repository}");
        if registry.len() + 1 + repository.len() > NAME_BYTES_MAX {
            return Err(bad("the name is longer than 255 characters"));
        }
        let tag = tag.or(digest.is_none().then_some("latest")).map(String::from);
        Ok(Self { registry: registry.into(), repository, tag, digest: digest.map(String::from) })
    }

    /// `registry/repository`
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Whether the registry is on this machine: plain HTTP then, TLS everywhere else.
    pub fn is_loopback(&self) -> bool {
        let host = if self.registry.starts_with('[') {
            self.registry.split_once(']').map_or("", |(host, _)| &host[1..])
        } else {
            self.registry.split(':').next().unwrap_or_default()
        };
        host == "localhost"
            || host.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
            || host.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback())
    }
}

pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|d| is_hex(d, 64))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len()) && word(tag.as_bytes()[0]) && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Docker's rule: the first part is a registry where it could not be part of a name on Docker Hub.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn registry_is_valid(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<Ipv6Addr>().is_err() || !(rest.is_empty() || rest.starts_with(':')) {
                return false;
            }
            (None, rest.strip_prefix(':'))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.is_none_or(|h| h.split('.').all(label))
        && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|separator| !separator.is_empty())
        .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_dockers() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (short, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.19", "docker.io/library/alpine:3.19"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("index.docker.io/library/x", "docker.io/library/x:latest"),
            ("docker.io/x", "docker.io/library/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("ghcr.io/a/b__c-d---e.f", "ghcr.io/a/b__c-d---e.f:latest"),
            ("FOO/bar", "FOO/bar:latest"),
        ] {
            assert_eq!(normalise(short).unwrap(), full);
            assert_eq!(normalise(full).unwrap(), full, "normal names stay");
        }
        assert_eq!(normalise(&format!("a@{digest}")).unwrap(), format!("docker.io/library/a@{digest}"));
        assert_eq!(normalise(&format!("a:1@{digest}")).unwrap(), format!("docker.io/library/a:1@{digest}"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        let id = "0".repeat(64);
        for (text, why) in [
            ("", "empty"),
            ("Alpine", "lower case"),
            ("https://x.io/a", "scheme"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a b", "part of the name"),
            ("a//b", "part of the name"),
            ("a/../b", "part of the name"),
            ("a_-b", "part of the name"),
            ("a@sha256:123", "digest"),
            ("a@md5:123", "digest"),
            ("localhost:99999/a", "registry"),
            ("x.io:/a", "registry"),
            ("-x.io/a", "registry"),
            ("x.io/", "missing"),
            (&id, "image id"),
            (&format!("x.io/{}", "a".repeat(300)), "255"),
        ] {
            let message = normalise(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        let loopback = |r: &str| Reference::parse(r).unwrap().is_loopback();
        assert!(
            ["localhost/a", "localhost:5000/a", "127.0.0.1:5000/a", "127.9.8.7/a", "[::1]:5000/a", "[::1]/a"]
                .iter()
                .all(|r| loopback(r))
        );
        assert!(
            !["a", "10.0.0.1:5000/a", "localhost.example.com/a", "127.0.0.1.nip.io/a", "[fe80::1]/a"]
                .iter()
                .any(|r| loopback(r))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_name_or_an_error(text in "\\PC{0,80}") {
            if let Ok(full) = normalise(&text) {
                proptest::prop_assert_eq!(normalise(&full).unwrap(), full.clone());
            }
        }
    }
}
