//! `entroos node`.

#[cfg(feature = "full")]
use std::net::SocketAddr;
#[cfg(feature = "full")]
use std::path::PathBuf;

use clap::Args;

/// A command of the full product, in a build of the light parts.
#[cfg(not(feature = "full"))]
#[derive(Debug, Args)]
pub struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<std::ffi::OsString>,
}

/// Says so.
#[cfg(not(feature = "full"))]
pub fn absent(what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{what} is not in this build of the light parts (--no-default-features --features build-fix): \
         build the whole product with `cargo build`"
    )
}

#[cfg(not(feature = "full"))]
pub type Node = Absent;

#[cfg(not(feature = "full"))]
impl Absent {
    pub fn run(self) -> anyhow::Result<u8> {
        Err(absent("the node"))
    }
}

/// How to run the node. Flags win over the environment, the environment over the file.
#[cfg(feature = "full")]
#[derive(Clone, Debug, Default, Args)]
pub struct Node {
    /// Configuration [default: the one embedded in this program, which config/node.toml documents]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where keys, state, images, logs and pods are kept [default: /var/lib/entroos as root, else ~/.local/share/entroos]
    #[arg(long, value_name = "DIR", env = "ENTROOS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the API listens: loopback only; port 0 picks a free one and writes it to run/api in the data directory
    #[arg(long, value_name = "ADDR:PORT")]
    pub api: Option<SocketAddr>,
    /// Where other nodes will reach this one; checked, not listened on until links between nodes come
    #[arg(long, value_name = "ADDR:PORT")]
    pub net: Option<SocketAddr>,
    /// How the node logs
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Check the configuration and end
    #[arg(long)]
    pub check: bool,
}

#[cfg(feature = "full")]
impl Node {
    /// Runs the node until it is told to stop.
    ///
    /// # Errors
    /// Where the configuration is wrong or the node fails.
    pub fn run(self) -> anyhow::Result<u8> {
        use crate::node::config::{Config, Overrides};
        use crate::node::value::LogFormat;
        let data_dir = self.data_dir.filter(|dir| !dir.as_os_str().is_empty());
        let overrides = Overrides { data_dir, api: self.api, net: self.net };
        let mut config = Config::load(self.config.as_deref(), overrides)?;
        match self.log_format.as_deref() {
            Some("json") => config.log.format = LogFormat::Json,
            Some(_) => config.log.format = LogFormat::Text,
            None => {}
        }
        if self.check {
            super::output::line("the configuration is good")?;
            return Ok(0);
        }
        crate::node::run(config).map(|()| 0)
    }
}
