//! `entroos pod …`.

mod apply;
pub mod delete;
mod describe;
mod exec;
mod explain;
mod list;
mod logs;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::client::{Client, encode};
use super::duration;
use super::output::{Format, ListFormat};

pub use exec::{Exec, run as run_exec};
pub use logs::{Logs, copy as copy_logs};
pub use wait::{Condition, state, wait_for};

/// What can be done with pods (and, by `apply`, with the objects around them).
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create objects, or change those that exist, from JSON or YAML
    ///
    /// FILE holds one object, several documents, or a list; an object without `kind` is a pod. An object that exists
    /// gets what the file says of its labels, annotations, specification and data (a merge patch); what the file does
    /// not mention stays.
    Apply(Apply),
    /// List pods
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one pod
    Get(Get),
    /// Print what a container wrote
    Logs(Logs),
    /// Run a program in a running container; its exit code becomes ours
    Exec(Exec),
    /// Delete pods: SIGTERM, the grace period, SIGKILL
    Delete(Delete),
    /// Show a pod, its containers, conditions and events for people
    Describe(Target),
    /// Show why a pod was placed where it was: every term of the placement with its equation
    Explain(Explain),
    /// Wait until a pod has come to a condition or a phase, or is gone
    Wait(Wait),
}

/// In which namespace.
#[derive(Clone, Debug, Args)]
pub struct Namespace {
    /// Namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// File, directory (its .json, .yaml and .yml files), or - for standard input
    #[arg(value_name = "FILE|DIR|-")]
    pub file: PathBuf,
    /// Namespace of objects that name none [default: default]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Wait until every applied pod is ready or has succeeded
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, require_equals = true, default_missing_value = "5m", value_parser = duration::parse)]
    pub wait: Option<Duration>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub namespace: Namespace,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only pods with these labels: a=b,c!=d,e
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Go on printing as they change
    #[arg(short, long)]
    pub watch: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ListFormat,
}

#[derive(Debug, Args)]
pub struct Get {
    /// Name of the pod
    pub name: String,
    #[command(flatten)]
    pub namespace: Namespace,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ListFormat,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Names of the pods
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub namespace: Namespace,
    /// Seconds between SIGTERM and SIGKILL [default: the pod's own]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=86_400 * 365))]
    pub grace_period: Option<u32>,
    /// Return only when they are gone
    #[arg(long)]
    pub wait: bool,
}

/// A pod by its name.
#[derive(Debug, Args)]
pub struct Target {
    /// Name of the pod
    pub name: String,
    #[command(flatten)]
    pub namespace: Namespace,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub target: Target,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    pub target: Target,
    /// condition=NAME[=STATUS], phase=PHASE, or delete
    #[arg(long = "for", value_name = "WHAT", default_value = "condition=Ready")]
    pub condition: Condition,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Runs the command.
///
/// # Errors
/// Whatever it cannot do, in words that lead to the cure.
pub async fn run(client: &Client, verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Apply(apply) => apply::run(client, &apply).await?,
        Verb::List(list) => list::run(client, &list).await?,
        Verb::Get(get) => list::get(client, &get).await?,
        Verb::Logs(logs) => logs::run(client, &logs).await?,
        Verb::Exec(exec) => return exec::run(client, &exec).await,
        Verb::Delete(delete) => delete::run(client, &delete).await?,
        Verb::Describe(target) => describe::run(client, &target).await?,
        Verb::Explain(explain) => explain::run(client, &explain).await?,
        Verb::Wait(wait) => wait::run(client, &wait).await?,
    }
    Ok(0)
}

/// `/api/v1/namespaces/NS/RESOURCE`
pub fn collection(namespace: &str, resource: &str) -> anyhow::Result<String> {
    Ok(format!("/api/v1/namespaces/{}/{resource}", checked(namespace)?))
}

/// `/api/v1/namespaces/NS/pods/NAME`; `pod/NAME` is understood too.
pub fn pod_path(namespace: &str, name: &str) -> anyhow::Result<String> {
    Ok(format!("{}/{}", collection(namespace, "pods")?, checked(bare(name))?))
}

/// The name in `pod/NAME`, as our own output prints it.
pub fn bare(name: &str) -> &str {
    name.strip_prefix("pod/").or_else(|| name.strip_prefix("pods/")).unwrap_or(name)
}

/// A name that stands in a path: it must not be empty, nor climb.
fn checked(name: &str) -> anyhow::Result<String> {
    if name.is_empty() || name.chars().all(|c| c == '.') {
        bail!("{name:?} is not a name");
    }
    Ok(encode(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_that_cannot_climb() {
        assert_eq!(pod_path("default", "pod/a").unwrap(), "/api/v1/namespaces/default/pods/a");
        assert_eq!(pod_path("x/y", "a b").unwrap(), "/api/v1/namespaces/x%2Fy/pods/a%20b");
        assert!(pod_path("..", "a").is_err());
        assert!(pod_path("default", "").is_err());
    }
}
