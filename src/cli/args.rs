//! `entroos …`: the commands and their arguments.

// These documentation comments are the help that users read.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::applets;
use super::node::Node;

#[cfg(feature = "full")]
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed (why stands on standard error)
  2  the command line cannot be understood
  `pod exec` exits with the code of the program it ran.";
#[cfg(not(feature = "full"))]
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed (why stands on standard error)
  2  the command line cannot be understood
This is a build of the light parts: node, pod, image and status are in the whole product only.";

/// Turns Linux machines into one self-governing computer.
#[derive(Debug, Parser)]
#[command(name = "entroos", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub struct Entroos {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node: API, state, and the pods of this machine
    #[cfg_attr(not(feature = "full"), command(hide = true))]
    Node(Node),
    /// Apply, list, watch, enter, explain and delete pods
    #[cfg(feature = "full")]
    #[command(after_help = EXIT_CODES)]
    Pod {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        verb: super::pod::Verb,
    },
    /// Import, pull, list and remove the images of a node
    #[cfg(feature = "full")]
    #[command(after_help = EXIT_CODES)]
    Image {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        verb: super::image::Verb,
    },
    /// Show how the node is
    #[cfg(feature = "full")]
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        show: super::status::Show,
    },
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Pod(super::node::Absent),
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Image(super::node::Absent),
    #[cfg(not(feature = "full"))]
    #[command(hide = true)]
    Status(super::node::Absent),
    /// The equations that decide: list and explain them
    Math {
        #[command(subcommand)]
        verb: super::math::Verb,
    },
    /// The other names this program answers to: nko, mockdocker, mock_k8, entropy_router, morphdb
    Applets {
        #[command(subcommand)]
        verb: Applets,
    },
}

#[derive(Debug, Subcommand)]
enum Applets {
    /// Link the five names to this program in a directory (best one that is on PATH)
    ///
    /// Links that are there already stay; a file that is not ours is never overwritten.
    Install(Install),
}

#[derive(Debug, Args)]
struct Install {
    /// Directory for the links; made where it does not exist
    dir: PathBuf,
}

/// Which node is asked.
#[cfg(feature = "full")]
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which node")]
pub struct Connection {
    /// Address: http://HOST:PORT or unix:///PATH [default: the data directory's run/api.sock where a node listens, else
    /// http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL", env = "ENTROOS_SERVER")]
    pub server: Option<String>,
    /// Bearer token that makes you the node's operator [default: the data directory's, where it can be read]
    #[arg(long, global = true, value_name = "TOKEN", env = "ENTROOS_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Data directory of the node [default: /var/lib/entroos as root, else ~/.local/share/entroos]
    #[arg(long, global = true, value_name = "DIR", env = "ENTROOS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

#[cfg(feature = "full")]
impl Connection {
    /// The node to ask.
    ///
    /// # Errors
    /// Where the address cannot be read.
    pub fn client(&self) -> anyhow::Result<super::client::Client> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let data_dir = self.data_dir.clone().filter(|dir| !dir.as_os_str().is_empty());
        let data_dir = data_dir.unwrap_or_else(crate::node::config::default_data_dir);
        let client =
            super::client::Client::new(filled(&self.server).as_deref(), filled(&self.token).as_deref(), &data_dir)?;
        Ok(client)
    }
}

/// Runs the command; the exit status is its own.
///
/// # Errors
/// Whatever it cannot do.
pub fn run(entroos: Entroos) -> anyhow::Result<u8> {
    match entroos.verb {
        Verb::Node(node) => node.run(),
        #[cfg(feature = "full")]
        Verb::Pod { connection, verb } => {
            let client = connection.client()?;
            super::block_on(super::pod::run(&client, verb))
        }
        #[cfg(feature = "full")]
        Verb::Image { connection, verb } => {
            let client = connection.client()?;
            super::block_on(super::image::run(&client, verb))
        }
        #[cfg(feature = "full")]
        Verb::Status { connection, show } => {
            let client = connection.client()?;
            super::block_on(super::status::run(&client, &show))
        }
        #[cfg(not(feature = "full"))]
        Verb::Pod(_) | Verb::Image(_) | Verb::Status(_) => Err(super::node::absent("this command")),
        Verb::Math { verb } => super::math::run(verb),
        Verb::Applets { verb: Applets::Install(install) } => applets::install::run(&install.dir).map(|()| 0),
    }
}
