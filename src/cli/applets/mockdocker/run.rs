//! `mockdocker run`.

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::{Ask, Client, until};
use crate::cli::output;
use crate::cli::pod::{self, Logs};

#[derive(Debug, Args)]
pub struct Run {
    /// Leave it running and print its name
    #[arg(short, long)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long, conflicts_with = "detach")]
    pub rm: bool,
    /// An environment variable; NAME alone takes our own value
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Its name [default: one is made up]
    #[arg(long)]
    pub name: Option<String>,
    /// Most memory: bytes, or with the unit b, k, m or g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most CPU, in cores: 0.5
    #[arg(long, value_name = "CORES")]
    pub cpus: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// host, or none (loopback alone, the default until the pod network comes)
    #[arg(long, value_name = "NET", value_parser = ["host", "none"])]
    pub network: Option<String>,
    #[command(flatten)]
    pub unsupported: Unsupported,
    /// The image
    pub image: String,
    /// What the container is given to run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What Docker's users will type and this version cannot do: refused with the reason, not as a misspelling.
#[derive(Debug, Args)]
pub struct Unsupported {
    #[arg(short, long, hide = true)]
    publish: Vec<String>,
    #[arg(short, long, hide = true)]
    volume: Vec<String>,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
}

impl Unsupported {
    fn refuse(&self) -> anyhow::Result<()> {
        if !self.publish.is_empty() {
            bail!("-p: ports are published when the pod network comes; until then --network host shares the machine's");
        }
        if !self.volume.is_empty() {
            bail!("-v: volumes are not in this version yet");
        }
        if self.interactive || self.tty {
            bail!(
                "-i and -t: attaching is not in this version yet: run it with -d and enter it with `mockdocker exec -it NAME CMD`"
            );
        }
        Ok(())
    }
}

/// Runs the container; in the foreground, to its end.
pub async fn run(client: &Client, args: &Run) -> anyhow::Result<u8> {
    args.unsupported.refuse()?;
    let body = super::pod_of(args)?;
    let made = client.json(Ask::post(pod::collection("default", "pods")?).json("application/json", &body)).await?;
    let name = made["metadata"]["name"].as_str().ok_or_else(|| anyhow!("the node gave the pod no name"))?.to_owned();
    if args.detach {
        output::line(&name)?;
        return Ok(0);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = foreground(client, &name) => result,
        _ = interrupt.recv() => Ok(128 + 2),
        _ = terminate.recv() => Ok(128 + 15),
    };
    if args.rm {
        pod::delete::ask(client, "default", &name, None).await?;
    } else if !matches!(result, Ok(0)) {
        eprintln!("hint: the container is kept: `mockdocker logs {name}`, `mockdocker rm -f {name}`");
    }
    result
}

/// Follows the container from its start to its end; returns its exit code.
async fn foreground(client: &Client, name: &str) -> anyhow::Result<u8> {
    let pods = pod::collection("default", "pods")?;
    until(client, &pods, name, |object| started(name, object)).await?;
    let logs = Logs {
        name: name.to_owned(),
        namespace: super::namespace(),
        container: None,
        follow: true,
        tail: None,
        previous: false,
        since: None,
        timestamps: false,
    };
    pod::copy_logs(client, &logs).await?;
    until(client, &pods, name, |object| ended(name, object)).await
}

fn status<'a>(name: &str, object: Option<&'a Value>) -> anyhow::Result<&'a Value> {
    object.map(|pod| &pod["status"]).ok_or_else(|| anyhow!("{name} was removed meanwhile"))
}

fn started(name: &str, object: Option<&Value>) -> anyhow::Result<Option<()>> {
    let status = status(name, object)?;
    let state = &status["containerStatuses"][0]["state"];
    if state.get("running").is_some() || state.get("terminated").is_some() {
        return Ok(Some(()));
    }
    let reason = state["waiting"]["reason"].as_str().unwrap_or_default();
    // Docker's user is told at once where the node would try again.
    if reason.starts_with("Err") || reason.ends_with("BackOff") || reason.ends_with("Error") {
        bail!("{name} cannot start: {}", pod::state(object.unwrap_or(&Value::Null)));
    }
    Ok(None)
}

fn ended(name: &str, object: Option<&Value>) -> anyhow::Result<Option<u8>> {
    let status = status(name, object)?;
    if let Some(code) = status["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64() {
        return Ok(Some(u8::try_from(code & 0xff).unwrap_or(1)));
    }
    if status["phase"] == "Failed" {
        bail!("{name} failed: {}", pod::state(object.unwrap_or(&Value::Null)));
    }
    Ok(None)
}

/// Docker's sizes: `256m`, `1g`, `1048576`.
pub fn bytes(text: &str) -> anyhow::Result<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, unit) = match lower.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => lower.split_at(at),
        None => (lower, ""),
    };
    let factor = match unit {
        "" => Some(1u64),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.zip(number.parse::<u64>().ok()).and_then(|(factor, number)| number.checked_mul(factor));
    bytes.ok_or_else(|| anyhow!("--memory: {text:?} is not a size: write for example 256m or 1g"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dockers_sizes_are_read() {
        assert_eq!(bytes("256m").unwrap(), 256 << 20);
        assert_eq!(bytes("1GB").unwrap(), 1 << 30);
        assert_eq!(bytes("77").unwrap(), 77);
        for wrong in ["", "m", "1.5g", "1x", "99999999999g"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_container_that_cannot_start_ends_the_run() {
        let waiting = |reason: &str| {
            json!({"status": {"phase": "Pending", "containerStatuses": [
                {"name": "main", "state": {"waiting": {"reason": reason, "message": "no such image"}}}]}})
        };
        assert!(started("a", Some(&waiting("ContainerCreating"))).unwrap().is_none());
        let error = started("a", Some(&waiting("ErrImagePull"))).unwrap_err().to_string();
        assert!(error.contains("no such image"), "{error}");
        let done = json!({"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 7}}}]}});
        assert_eq!(ended("a", Some(&done)).unwrap(), Some(7));
        assert!(ended("a", None).is_err());
    }
}
