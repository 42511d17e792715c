//! `mock_k8`: the node with orchestrator and API.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::not_yet;
use crate::cli::node::Node;

/// The node with orchestrator and API. Without a command it runs the node, like `entroos node`.
#[derive(Debug, Parser)]
#[command(name = "mock_k8", version, args_conflicts_with_subcommands = true)]
#[cfg_attr(not(feature = "full"), command(about = "NOT IN THIS BUILD of the light parts: every command is refused"))]
pub struct MockK8 {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the node (what no command at all does too)
    #[cfg_attr(not(feature = "full"), command(hide = true))]
    Node(Node),
    /// Not in this version yet: one instance of an application on every device of a class
    Deploy(Deploy),
    /// Not in this version yet: proposals and votes that change parameters of the cluster
    Consensus {
        #[command(subcommand)]
        verb: Consensus,
    },
}

#[derive(Debug, Args)]
struct Deploy {
    /// Pack by eq. 28-30 and prefer WebAssembly variants
    #[arg(long)]
    resource_optimized: bool,
    /// Nodes labelled device-class=CLASS
    #[arg(long, value_name = "CLASS")]
    target_devices: Option<String>,
    /// Most memory on each node, such as 50MB
    #[arg(long, value_name = "SIZE")]
    max_memory_per_node: Option<String>,
    /// Most CPU on each node, in cores
    #[arg(long, value_name = "CORES")]
    cpu_limit: Option<String>,
    /// The application's manifest
    #[arg(long, value_name = "FILE")]
    application: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Consensus {
    /// Not in this version yet: propose a change
    Propose(Propose),
}

#[derive(Debug, Args)]
struct Propose {
    /// What changes: parameter=value
    #[arg(long, value_name = "PARAMETER=VALUE")]
    action: String,
    /// How votes count
    #[arg(long, value_name = "METHOD", value_parser = ["entropy_weighted"])]
    voting_method: Option<String>,
    /// Least share of the weight that must vote, from 0 to 1
    #[arg(long, value_name = "SHARE")]
    quorum: Option<String>,
    /// How long votes are taken
    #[arg(long, value_name = "TIME", value_parser = crate::cli::duration::parse)]
    voting_period: Option<std::time::Duration>,
}

pub fn run(asked: MockK8) -> anyhow::Result<u8> {
    match asked.verb {
        None => asked.node.run(),
        Some(Verb::Node(node)) => node.run(),
        Some(Verb::Deploy(deploy)) => {
            let class = deploy.target_devices.as_deref().unwrap_or("every device");
            let mut needs = "instances per device and rolling updates".to_owned();
            if deploy.resource_optimized {
                needs.push_str(", packing by eq. 28-30");
            }
            let limits = [&deploy.max_memory_per_node, &deploy.cpu_limit].into_iter().flatten().count();
            if limits > 0 {
                needs.push_str(", limits per node");
            }
            Err(not_yet(&format!("mock_k8 deploy ({} on {class})", deploy.application.display()), &needs))
        }
        Some(Verb::Consensus { verb: Consensus::Propose(propose) }) => {
            let details = [&propose.voting_method, &propose.quorum].into_iter().flatten().cloned();
            let days = propose.voting_period.map(|period| format!("{} s", period.as_secs()));
            let details: Vec<String> = details.chain(days).collect();
            let what = format!("mock_k8 consensus propose ({:?} {})", propose.action, details.join(", "));
            Err(not_yet(&what, "consensus between several nodes and votes on the ledger"))
        }
    }
}
