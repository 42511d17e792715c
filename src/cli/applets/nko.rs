//! `nko`: the Node Kernel Operator.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::not_yet;

/// Node Kernel Operator: WebAssembly contracts with proofs of execution. NOT IN THIS VERSION YET: every command is refused.
#[derive(Debug, Parser)]
#[command(name = "nko", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Nko {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Not in this version yet: run a contract and prove its execution
    ExecuteContract(ExecuteContract),
}

#[derive(Debug, Args)]
struct ExecuteContract {
    /// Prove the execution and verify the proof
    #[arg(long)]
    verify_execution: bool,
    /// An input of the contract; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// Where the hash of the output is anchored
    #[arg(long, value_name = "WHERE", value_parser = ["blockchain"])]
    output_hash_to: Option<String>,
    /// The contract's WebAssembly module
    contract: PathBuf,
}

pub fn run(nko: Nko) -> anyhow::Result<u8> {
    let Verb::ExecuteContract(asked) = nko.verb;
    let proof = if asked.verify_execution { " and the proof system" } else { "" };
    let what = format!("nko execute-contract ({}, {} inputs)", asked.contract.display(), asked.input.len());
    let anchor = if asked.output_hash_to.is_some() { " and anchors on the ledger" } else { "" };
    Err(not_yet(&what, &format!("the WebAssembly kernel{proof}{anchor}")))
}
