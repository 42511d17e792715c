//! `entropy_router`: a node that only routes; identity proofs.

// These documentation comments are the help that users read.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::not_yet;

/// Entropy Socket Router. NOT IN THIS VERSION YET: every command is refused.
#[derive(Debug, Parser)]
#[command(name = "entropy_router", version, subcommand_required = true, arg_required_else_help = true)]
pub struct EntropyRouter {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Not in this version yet: run a node that only routes
    Run(Run),
    /// Not in this version yet: prove something of an identity without showing it
    IdentityVerify(IdentityVerify),
}

#[derive(Debug, Args)]
struct Run {
    /// Where links from other nodes are taken
    #[arg(long, value_name = "ADDR:PORT")]
    bind: SocketAddr,
}

#[derive(Debug, Args)]
struct IdentityVerify {
    /// What is to be proved: "age >= 21 AND country_of_residence = 'Canada'"
    #[arg(long, value_name = "STATEMENT")]
    prove: String,
    /// The identity's key file
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Who is to be convinced
    #[arg(long, value_name = "ID")]
    to: String,
    /// Show nothing but that the statement holds
    #[arg(long)]
    without_revealing_attributes: bool,
}

pub fn run(asked: EntropyRouter) -> anyhow::Result<u8> {
    Err(match asked.verb {
        Verb::Run(run) => not_yet(&format!("entropy_router run (on {})", run.bind), "links between nodes"),
        Verb::IdentityVerify(asked) => {
            let quiet = if asked.without_revealing_attributes { " in zero knowledge" } else { "" };
            let what =
                format!("entropy_router identity-verify ({:?}, {} to {})", asked.prove, asked.from.display(), asked.to);
            not_yet(&what, &format!("credentials, their proof{quiet} and messages between nodes"))
        }
    })
}
