//! `node.toml` (see config/node.toml), overridden by flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, Default)]
pub struct Config {}

/// What the command line may override.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    pub api: Option<SocketAddr>,
    pub net: Option<SocketAddr>,
}

impl Config {
    /// Reads `path` (or the embedded default), then applies the overrides. Errors name file, line, key and what is allowed.
    pub fn load(_path: Option<&std::path::Path>, _overrides: Overrides) -> anyhow::Result<Self> {
        todo!()
    }
}

/// `/var/lib/entroos` as root, else `~/.local/share/entroos` (`XDG_DATA_HOME` obeyed); `ENTROOS_DATA_DIR` wins.
pub fn default_data_dir() -> PathBuf {
    todo!()
}
