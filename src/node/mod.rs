//! One node: configuration, start and stop of every subsystem, the agent that makes this node match its assignments.

pub mod config;

/// Runs the node until SIGTERM or SIGINT, or until a subsystem fails.
pub fn run(_config: config::Config) -> anyhow::Result<()> {
    todo!()
}
