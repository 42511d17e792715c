//! The values of `node.toml`: units and bounds, checked as they are read.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

use crate::base::{Bytes, Millicores};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Whose pods may share the machine's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostNetworkPolicy {
    None,
    /// Admission lets nobody but the operator make such pods, and a chain of one has one operator: this node's.
    #[default]
    Operator,
}

/// A right that nobody can be given yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoOnePolicy;

impl<'de> Deserialize<'de> for NoOnePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "none" => Ok(Self),
            other => Err(de::Error::custom(format!("must be \"none\": {other:?} is not supported by this version"))),
        }
    }
}

/// A node's name; empty until it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(pub String);

impl Name {
    /// Whether the text can be a node's name (a DNS label or several).
    #[must_use]
    pub fn valid(text: &str) -> bool {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        text.len() <= 63
            && edge(text.chars().next())
            && edge(text.chars().last())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
            && !text.contains("..")
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || Self::valid(&text) {
            return Ok(Self(text));
        }
        let allowed = "lower-case letters, digits, '-' and '.', at most 63, a letter or digit at both ends";
        Err(de::Error::custom(format!("{text:?} cannot name a node: allowed are {allowed}")))
    }
}

/// A label's key: `name` or `prefix/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelKey(pub String);

impl<'de> Deserialize<'de> for LabelKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (prefix, name) = text.split_once('/').map_or((None, text.as_str()), |(p, n)| (Some(p), n));
        if prefix.is_some_and(|p| p == "kubernetes.io" || p.ends_with(".kubernetes.io")) {
            return Err(de::Error::custom(format!("label {text:?}: kubernetes.io/ is set by the node itself")));
        }
        let prefix_fits = prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(Name::valid));
        if prefix_fits && !name.is_empty() && label_word(name) {
            return Ok(Self(text));
        }
        Err(de::Error::custom(format!("{text:?} cannot be a label's key: allowed is NAME or DOMAIN/NAME")))
    }
}

/// A label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelValue(pub String);

impl<'de> Deserialize<'de> for LabelValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || label_word(&text) {
            return Ok(Self(text));
        }
        let allowed = "letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends";
        Err(de::Error::custom(format!("{text:?} cannot be a label's value: allowed are {allowed}")))
    }
}

fn label_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A number or a text, as TOML has them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a text")]
enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Float(n) => write!(f, "{n}"),
            Self::Text(t) => f.write_str(t),
        }
    }
}

/// A count from `MIN` to `MAX`.
pub fn count<'de, const MIN: i64, const MAX: i64, T: TryFrom<i64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let n = i64::deserialize(deserializer)?;
    let refused = || de::Error::custom(format!("must be from {MIN} to {MAX}, not {n}"));
    if (MIN..=MAX).contains(&n) { T::try_from(n).map_err(|_| refused()) } else { Err(refused()) }
}

/// A size from `MIN` to `MAX` bytes.
pub fn size<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let scalar = Scalar::deserialize(deserializer)?;
    let bytes = parse_size(&scalar.to_string()).map_err(de::Error::custom)?;
    if (MIN..=MAX).contains(&bytes.0) {
        return Ok(bytes);
    }
    Err(de::Error::custom(format!("must be from {} to {}, not {scalar}", binary(MIN), binary(MAX))))
}

/// Any size.
pub fn data_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    size::<0, { i64::MAX as u64 }, D>(deserializer)
}

/// The size of one log file.
pub fn log_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    size::<{ 16 << 10 }, { 1 << 30 }, D>(deserializer)
}

/// A size; empty is `None`.
pub fn size_or_detect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    match Scalar::deserialize(deserializer)?.to_string() {
        text if text.is_empty() => Ok(None),
        text => parse_size(&text).map(Some).map_err(de::Error::custom),
    }
}

/// CPU cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores(pub Millicores);

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_cores(&Scalar::deserialize(deserializer)?.to_string()).map(Self).map_err(de::Error::custom)
    }
}

/// CPU cores; empty is `None`.
pub fn cores_or_detect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millicores>, D::Error> {
    match Scalar::deserialize(deserializer)?.to_string() {
        text if text.is_empty() => Ok(None),
        text => parse_cores(&text).map(Some).map_err(de::Error::custom),
    }
}

/// Bits per second.
pub fn bandwidth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let units = [("Gbps", 1_000_000_000), ("Mbps", 1_000_000), ("kbps", 1_000), ("bps", 1)];
    let value = units.iter().find_map(|&(unit, factor)| scaled(text.strip_suffix(unit)?.trim_end(), factor));
    value.ok_or_else(|| {
        de::Error::custom(format!("{text:?} is not a bandwidth: a number with bps, kbps, Mbps or Gbps, such as 1Gbps"))
    })
}

/// `ADDRESS:PORT`.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!("{text:?} is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080 (no host names)"))
    })
}

/// `ADDRESS:PORT` on loopback.
pub fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let addr = address(deserializer)?;
    check_loopback(addr).map_err(de::Error::custom)?;
    Ok(addr)
}

/// Refuses what other machines could reach.
pub fn check_loopback(addr: SocketAddr) -> Result<(), String> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{addr} is not a loopback address: the API has no TLS yet, so anybody on the network could read and drive it. \
         Use 127.0.0.1:{port} or [::1]:{port}, and an SSH tunnel from elsewhere",
        port = addr.port()
    ))
}

/// What `tracing` shows.
pub fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let plain = ["error", "warn", "info", "debug", "trace"];
    // A bare word that is not a level would be taken for a module's name.
    let bare = |d: &str| !d.contains('=') && !plain.contains(&d.trim());
    let broken = text.split(',').any(bare) || text.parse::<tracing_subscriber::filter::EnvFilter>().is_err();
    if !broken {
        return Ok(text);
    }
    Err(de::Error::custom(format!(
        "{text:?} is not a level: error, warn, info, debug, trace, or a filter such as info,entroos::node=debug"
    )))
}

fn parse_size(text: &str) -> Result<Bytes, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("", 1),
    ];
    let value = units.iter().find_map(|&(unit, factor)| scaled(text.strip_suffix(unit)?.trim_end(), factor));
    value.map(Bytes).ok_or_else(|| format!("{text:?} is not a size: bytes as a number, or such as 256MiB or 1.5GiB"))
}

fn parse_cores(text: &str) -> Result<Millicores, String> {
    let value = match text.strip_suffix('m') {
        Some(milli) => milli.parse().ok(),
        None => scaled(text, 1000),
    };
    let fits = value.filter(|&v| v <= 1_000_000_000);
    fits.map(Millicores).ok_or_else(|| format!("{text:?} is not a number of cores: such as 2, 0.5 or \"500m\""))
}

/// A decimal number times `factor`, exactly; `None` where it is no number or does not fit.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(digits.checked_mul(u128::from(factor))? / denominator).ok().filter(|&v| i64::try_from(v).is_ok())
}

/// A power of 1,024 as people write it.
fn binary(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, name)| format!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_exact() {
        assert_eq!(parse_size("1.5GiB"), Ok(Bytes(3 << 29)));
        assert_eq!(parse_size("10 MB"), Ok(Bytes(10_000_000)));
        assert_eq!(parse_size("12"), Ok(Bytes(12)));
        assert!(["", "-1", "1e3", "x", "1.MiB.", "99999999999TiB"].iter().all(|t| parse_size(t).is_err()));
        assert_eq!(parse_cores("0.5"), Ok(Millicores(500)));
        assert_eq!(parse_cores("250m"), Ok(Millicores(250)));
        assert!(parse_cores("two").is_err());
    }

    #[test]
    fn names_are_dns_names() {
        assert!(["a", "node-1", "host.example.org"].iter().all(|n| Name::valid(n)));
        assert!(["", "-a", "a.", "A", "a_b", "a..b", &"a".repeat(64)].iter().all(|n| !Name::valid(n)));
    }
}
