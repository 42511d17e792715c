//! `pod delete`.

use anyhow::Context;
use serde_json::Value;

use super::super::client::{Ask, Client, query, until};
use super::super::output;
use super::{Delete, bare, collection, pod_path};

/// Deletes each; with `--wait` returns when the last is gone.
pub async fn run(client: &Client, args: &Delete) -> anyhow::Result<()> {
    let namespace = &args.namespace.namespace;
    let mut going = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match ask(client, namespace, name, args.grace_period).await {
            Ok(uid) => {
                if !args.wait {
                    output::line(format!("pod/{} deleted", bare(name)))?;
                }
                going.push((bare(name), uid));
            }
            Err(e) => failures.push(e),
        }
    }
    if args.wait {
        for (name, uid) in going {
            gone(client, namespace, name, &uid).await?;
            output::line(format!("pod/{name} deleted"))?;
        }
    }
    let last = failures.pop();
    failures.iter().for_each(super::super::tell);
    last.map_or(Ok(()), Err)
}

/// Asks for the deletion; returns the uid of what is being deleted.
pub async fn ask(client: &Client, namespace: &str, name: &str, grace: Option<u32>) -> anyhow::Result<String> {
    let grace: Vec<_> = grace.iter().map(|s| ("gracePeriodSeconds", s.to_string())).collect();
    let path = format!("{}{}", pod_path(namespace, name)?, query(&grace));
    let object = client.json(Ask::delete(path)).await.with_context(|| format!("cannot delete pod/{}", bare(name)))?;
    Ok(object["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the pod with this uid is gone (a namesake may be there).
pub async fn gone(client: &Client, namespace: &str, name: &str, uid: &str) -> anyhow::Result<()> {
    let is_it = |object: &Value| uid.is_empty() || object["metadata"]["uid"] == uid;
    until(client, &collection(namespace, "pods")?, name, |object| Ok((!object.is_some_and(is_it)).then_some(()))).await
}
