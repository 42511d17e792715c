//! `node.toml` (see config/node.toml), overridden by flags and environment.
//!
//! Invariant: what leaves this module is checked; an error names file, line, key and what is allowed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::value::{
    self, Cores, HostNetworkPolicy, LogFormat, Name, NoOnePolicy, count, data_size, level, log_size, loopback, size,
};
use crate::base::{Bytes, Millicores};

/// The embedded default: every key, documented.
pub const DEFAULT: &str = include_str!("../../config/node.toml");

/// Everything a node is told from outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Empty until [`Config::load`] has settled it.
    pub data_dir: PathBuf,
    pub api: Api,
    pub net: Net,
    pub log: Log,
    pub node: Node,
    pub resources: Resources,
    pub policy: Policy,
    pub pods: Pods,
    pub ledger: Ledger,
    pub images: Images,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    #[serde(deserialize_with = "loopback")]
    pub addr: SocketAddr,
    #[serde(deserialize_with = "size::<{ 64 << 10 }, { 64 << 20 }, _>")]
    pub body_max: Bytes,
    #[serde(deserialize_with = "count::<1, 65536, _, _>")]
    pub connections_max: usize,
    #[serde(deserialize_with = "count::<1, 65536, _, _>")]
    pub watches_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net {
    #[serde(deserialize_with = "value::address")]
    pub addr: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    #[serde(deserialize_with = "level")]
    pub level: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub name: Name,
    pub address: String,
    pub operator: String,
    pub labels: BTreeMap<value::LabelKey, value::LabelValue>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// `None`: what is there.
    #[serde(deserialize_with = "value::cores_or_detect")]
    pub cpu: Option<Millicores>,
    pub cpu_reserved: Cores,
    /// `None`: what is there.
    #[serde(deserialize_with = "value::size_or_detect")]
    pub memory: Option<Bytes>,
    #[serde(deserialize_with = "data_size")]
    pub memory_reserved: Bytes,
    #[serde(deserialize_with = "count::<1, 10000, _, _>")]
    pub pods: u64,
    /// Bits per second.
    #[serde(deserialize_with = "value::bandwidth")]
    pub bandwidth: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub host_network: HostNetworkPolicy,
    pub host_paths: NoOnePolicy,
    pub privileged: NoOnePolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pods {
    #[serde(deserialize_with = "log_size")]
    pub log_max: Bytes,
    #[serde(deserialize_with = "count::<1, 100, _, _>")]
    pub log_files: u32,
    #[serde(deserialize_with = "count::<16, 4194304, _, _>")]
    pub pids_default: u64,
    #[serde(deserialize_with = "count::<1, 256, _, _>")]
    pub starts_parallel: usize,
    /// Seconds.
    #[serde(deserialize_with = "count::<1, 3600, _, _>")]
    pub backoff_base: u64,
    /// Seconds.
    #[serde(deserialize_with = "count::<1, 86400, _, _>")]
    pub backoff_cap: u64,
    /// Seconds.
    #[serde(deserialize_with = "count::<1, 86400, _, _>")]
    pub backoff_reset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    #[serde(deserialize_with = "count::<1, 1000000000, _, _>")]
    pub blocks_kept: u64,
    #[serde(deserialize_with = "count::<1, 65536, _, _>")]
    pub commands_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    #[serde(deserialize_with = "size::<{ 1 << 20 }, { 1 << 40 }, _>")]
    pub layer_max: Bytes,
    #[serde(deserialize_with = "count::<1, 64, _, _>")]
    pub pull_parallel: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            api: Api::default(),
            net: Net::default(),
            log: Log::default(),
            node: Node::default(),
            resources: Resources::default(),
            policy: Policy::default(),
            pods: Pods::default(),
            ledger: Ledger::default(),
            images: Images::default(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8080));
        Self { addr, body_max: Bytes(3 << 20), connections_max: 1024, watches_max: 512 }
    }
}

impl Default for Net {
    fn default() -> Self {
        Self { addr: SocketAddr::from(([0, 0, 0, 0], 7946)) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: None,
            cpu_reserved: Cores::default(),
            memory: None,
            memory_reserved: Bytes(256 << 20),
            pods: 110,
            bandwidth: 1_000_000_000,
        }
    }
}

impl Default for Pods {
    fn default() -> Self {
        Self {
            log_max: Bytes(10 << 20),
            log_files: 5,
            pids_default: 4096,
            starts_parallel: 8,
            backoff_base: 10,
            backoff_cap: 300,
            backoff_reset: 600,
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { blocks_kept: 10_000, commands_max: 1024 }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self { layer_max: Bytes(16 << 30), pull_parallel: 3 }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{file}:{line}: {key}{message}")]
    Value { file: String, line: usize, key: String, message: String },
    #[error("{flag}: {message}")]
    Override { flag: &'static str, message: String },
}

/// What the command line may override.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    pub api: Option<SocketAddr>,
    pub net: Option<SocketAddr>,
}

impl Config {
    /// Reads `path` (or the embedded default), then applies the overrides. Errors name file, line, key and what is allowed.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> anyhow::Result<Self> {
        let mut config = match path {
            None => Self::parse("config/node.toml", DEFAULT)?,
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
                Self::parse(&path.display().to_string(), &text)?
            }
        };
        let from_environment = std::env::var_os("ENTROOS_DATA_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(dir) = overrides.data_dir.or(from_environment) {
            config.data_dir = dir;
        } else if config.data_dir.as_os_str().is_empty() {
            config.data_dir = default_data_dir();
        }
        config.data_dir = std::path::absolute(&config.data_dir)
            .map_err(|e| Error::Override { flag: "--data-dir", message: e.to_string() })?;
        if let Some(addr) = overrides.api {
            value::check_loopback(addr).map_err(|message| Error::Override { flag: "--api", message })?;
            config.api.addr = addr;
        }
        if let Some(addr) = overrides.net {
            config.net.addr = addr;
        }
        Ok(config)
    }

    /// Reads the text of a configuration; `file` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Value`] with the line, the key and what is allowed.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|e| explain(file, text, &e))?;
        if config.pods.backoff_cap < config.pods.backoff_base {
            let line = text.lines().position(|l| l.trim_start().starts_with("backoff_")).map_or(1, |n| n + 1);
            let message = "must be at least pods.backoff_base".to_owned();
            return Err(Error::Value { file: file.into(), line, key: "pods.backoff_cap: ".into(), message });
        }
        Ok(config)
    }
}

/// Says where in `text` the error is, which key it is about and, for a key that is not known, which was meant.
fn explain(file: &str, text: &str, error: &toml::de::Error) -> Error {
    let start = error.span().map_or(0, |s| s.start).min(text.len());
    let line = text.get(..start).unwrap_or_default().matches('\n').count();
    let mut message = error.message().trim_end().replace('\n', ", ");
    let mut key = key_at(text, line);
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, allowed) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
        let table = table_at(text, line);
        // A table that is not known stands on its own header line.
        key = if table == unknown || table.is_empty() { unknown.to_owned() } else { format!("{table}.{unknown}") };
        let meant = nearest(unknown, &known).map_or_else(String::new, |k| format!("; did you mean {k}?"));
        message = format!("no such key{meant} (allowed: {})", known.join(", "));
    }
    let key = if key.is_empty() { key } else { format!("{key}: ") };
    Error::Value { file: file.into(), line: line + 1, key, message }
}

/// The table whose header stands on or last before the line.
fn table_at(text: &str, line: usize) -> String {
    let headers = text.lines().take(line + 1).filter_map(|l| l.trim().strip_prefix('[')?.split(']').next());
    headers.last().unwrap_or_default().trim().to_owned()
}

fn key_at(text: &str, line: usize) -> String {
    let Some((key, _)) = text.lines().nth(line).and_then(|l| l.split_once('=')) else { return String::new() };
    match table_at(text, line) {
        table if table.is_empty() => key.trim().to_owned(),
        table => format!("{table}.{}", key.trim()),
    }
}

/// The known word nearest to what was typed, where it is near enough to have been meant.
fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|&k| (distance(typed, k), k)).min()?;
    (near.0 <= 1 + typed.chars().count() / 3).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `/var/lib/entroos` as root, else `~/.local/share/entroos` (`XDG_DATA_HOME` obeyed); `ENTROOS_DATA_DIR` wins.
pub fn default_data_dir() -> PathBuf {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("ENTROOS_DATA_DIR") {
        return dir;
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/entroos");
    }
    if let Some(dir) = var("XDG_DATA_HOME").filter(|d| d.is_absolute()) {
        return dir.join("entroos");
    }
    var("HOME").map_or_else(|| PathBuf::from(".entroos"), |home| home.join(".local/share/entroos"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_the_default_and_names_every_key() {
        assert_eq!(Config::parse("node.toml", DEFAULT).unwrap(), Config::default());
        let table: toml::Table = toml::from_str(DEFAULT).unwrap();
        let keys = |prefix: &str| match prefix {
            "" => table.keys().cloned().collect::<Vec<_>>(),
            t => table[t].as_table().unwrap().keys().cloned().collect(),
        };
        // Each structure says its own keys when it is given a wrong one.
        for section in ["", "api", "net", "log", "node", "resources", "policy", "pods", "ledger", "images"] {
            let text =
                if section.is_empty() { "zzzzzzzzzz = 1".into() } else { format!("[{section}]\nzzzzzzzzzz = 1") };
            let message = Config::parse("f", &text).unwrap_err().to_string();
            let allowed = message.split("(allowed: ").nth(1).unwrap().trim_end_matches(')');
            let mut allowed: Vec<String> = allowed.split(", ").map(str::to_owned).collect();
            let mut there = keys(section);
            allowed.sort();
            there.sort();
            assert_eq!(allowed, there, "[{section}]");
        }
    }

    #[test]
    fn a_wrong_key_or_value_is_found_and_explained() {
        let cases = [
            ("\n[api]\nadr = \"127.0.0.1:1\"\n", "n.toml:3: api.adr: no such key; did you mean addr?"),
            ("[apis]\n", "n.toml:1: apis: no such key; did you mean api?"),
            ("data_dri = \"/x\"", "n.toml:1: data_dri: no such key; did you mean data_dir?"),
            ("[api]\naddr = \"0.0.0.0:8080\"\n", "n.toml:2: api.addr: 0.0.0.0:8080 is not a loopback address"),
            ("[api]\naddr = \"localhost\"\n", "n.toml:2: api.addr: \"localhost\" is not ADDRESS:PORT"),
            ("[api]\nbody_max = \"1KiB\"\n", "n.toml:2: api.body_max: must be from 64KiB to 64MiB"),
            ("[pods]\n\nlog_files = 0\n", "n.toml:3: pods.log_files: must be from 1 to 100"),
            ("[log]\nformat = \"xml\"\n", "n.toml:2: log.format: unknown variant `xml`, expected `text` or `json`"),
            ("[policy]\nprivileged = \"operator\"\n", "n.toml:2: policy.privileged: must be \"none\""),
            ("[resources]\nbandwidth = \"1\"\n", "n.toml:2: resources.bandwidth: \"1\" is not a bandwidth"),
            ("[node]\nname = \"Big Host\"\n", "n.toml:2: node.name: \"Big Host\""),
            ("[pods]\nbackoff_cap = 2\n", "n.toml:2: pods.backoff_cap: must be at least pods.backoff_base"),
        ];
        for (text, expected) in cases {
            let message = Config::parse("n.toml", text).expect_err(text).to_string();
            assert!(message.starts_with(expected), "{text:?}: {message}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "data_dir = \"/nowhere\"\n[api]\naddr = \"127.0.0.1:1\"\n").unwrap();
        let api = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let overrides = Overrides { data_dir: Some(dir.path().into()), api, net: None };
        let config = Config::load(Some(&path), overrides).unwrap();
        assert_eq!((config.data_dir.as_path(), config.api.addr.port()), (dir.path(), 0));
        let open = Overrides { api: Some(SocketAddr::from(([0, 0, 0, 0], 80))), ..Overrides::default() };
        let message = Config::load(Some(&path), open).unwrap_err().to_string();
        assert!(message.starts_with("--api: 0.0.0.0:80 is not a loopback address"), "{message}");
    }
}
