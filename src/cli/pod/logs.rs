//! `pod logs`.

use std::time::Duration;

use clap::Args;

use super::super::client::{Ask, Client, query};
use super::super::{duration, output};
use super::{Namespace, pod_path};

#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Name of the pod
    pub name: String,
    #[command(flatten)]
    pub namespace: Namespace,
    /// Container, where the pod has several
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Go on as it is written
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Of the container's previous run
    #[arg(short, long)]
    pub previous: bool,
    /// Only what was written in this time: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// Each line with its time
    #[arg(long)]
    pub timestamps: bool,
}

pub async fn run(client: &Client, args: &Logs) -> anyhow::Result<()> {
    copy(client, args).await
}

/// Copies the log to standard output.
pub async fn copy(client: &Client, args: &Logs) -> anyhow::Result<()> {
    let path = pod_path(&args.namespace.namespace, &args.name)?;
    let ask = Ask::get(format!("{path}/log{}", query(&pairs(args)))).accept("*/*");
    let mut reply = client.send(if args.follow { ask.patient() } else { ask }).await?;
    while let Some(chunk) = reply.chunk().await? {
        output::write(chunk)?;
    }
    Ok(())
}

fn pairs(args: &Logs) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    pairs.extend(args.container.iter().map(|name| ("container", name.clone())));
    for (name, set) in [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)] {
        if set {
            pairs.push((name, "true".into()));
        }
    }
    pairs.extend(args.tail.map(|lines| ("tailLines", lines.to_string())));
    // Kubernetes counts whole seconds; less than one still means some.
    pairs.extend(args.since.map(|since| ("sinceSeconds", since.as_secs().max(1).to_string())));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_kubernetes_query() {
        let args = Logs {
            name: "a".into(),
            namespace: Namespace { namespace: "default".into() },
            container: Some("c".into()),
            follow: true,
            tail: Some(5),
            previous: false,
            since: Some(Duration::from_millis(300)),
            timestamps: true,
        };
        assert_eq!(query(&pairs(&args)), "?container=c&follow=true&timestamps=true&tailLines=5&sinceSeconds=1");
    }
}
