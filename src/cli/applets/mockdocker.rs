//! `mockdocker`: Docker's command line for the pods of a node. A container is a pod of one container.

// These documentation comments are the help that users read.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::cli::args::Connection;
use crate::cli::client::{Ask, Client};
use crate::cli::output::{self, Table};
use crate::cli::pod::{self, Exec, Logs, Namespace};
use crate::cli::{block_on, duration, image};

mod run;

/// Docker's command line for the pods of an EntroOS node: each container is a pod of one container.
#[derive(Debug, Parser)]
#[command(name = "mockdocker", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Mockdocker {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a container; in the foreground its exit code becomes ours
    Run(run::Run),
    /// List containers that run
    Ps {
        /// Those that do not, too
        #[arg(short, long)]
        all: bool,
    },
    /// Print what a container wrote
    Logs {
        name: String,
        /// Go on as it is written
        #[arg(short, long)]
        follow: bool,
        /// Only the last N lines
        #[arg(long, value_name = "N")]
        tail: Option<u64>,
        /// Each line with its time
        #[arg(short, long)]
        timestamps: bool,
    },
    /// Run a program in a running container; its exit code becomes ours
    Exec(DockerExec),
    /// End a container: SIGTERM, then SIGKILL. The pod goes with it: stopped ones are not kept in this version
    Stop {
        #[arg(required = true)]
        names: Vec<String>,
        /// Seconds between the signals [default: the pod's own]
        #[arg(short, long, value_name = "S")]
        time: Option<u32>,
    },
    /// Remove containers that have ended, with their logs
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
        /// Those that run, too
        #[arg(short, long)]
        force: bool,
    },
    /// List images
    Images,
    /// Pull an image
    Pull { reference: String },
}

#[derive(Debug, Args)]
struct DockerExec {
    /// Pass our standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    name: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(asked: Mockdocker) -> anyhow::Result<u8> {
    let client = asked.connection.client()?;
    block_on(answer(&client, asked.verb))
}

fn namespace() -> Namespace {
    Namespace { namespace: "default".into() }
}

async fn answer(client: &Client, verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Run(run) => return run::run(client, &run).await,
        Verb::Ps { all } => ps(client, all).await?,
        Verb::Logs { name, follow, tail, timestamps } => {
            let (namespace, container, previous, since) = (namespace(), None, false, None);
            let logs = Logs { name, namespace, container, follow, tail, previous, since, timestamps };
            pod::copy_logs(client, &logs).await?;
        }
        Verb::Exec(asked) => {
            let DockerExec { interactive: stdin, tty, name, command } = asked;
            let exec = Exec { name, namespace: namespace(), container: None, stdin, tty, command };
            return pod::run_exec(client, &exec).await;
        }
        Verb::Stop { names, time } => {
            for name in &names {
                remove(client, name, time).await?;
            }
        }
        Verb::Rm { names, force } => {
            for name in &names {
                if !force && runs(&client.json(Ask::get(pod::pod_path("default", name)?)).await?) {
                    anyhow::bail!("{name} runs: end it with `mockdocker stop {name}` or remove it with -f");
                }
                remove(client, name, force.then_some(0)).await?;
            }
        }
        Verb::Images => {
            let answer = client.json(Ask::get("/entroos/v1/images")).await?;
            output::write(image::table(image::images(&answer)).render())?;
        }
        Verb::Pull { reference } => output::line(image::name_and_id(&image::pull(client, &reference).await?))?,
    }
    Ok(0)
}

async fn remove(client: &Client, name: &str, grace: Option<u32>) -> anyhow::Result<()> {
    let uid = pod::delete::ask(client, "default", name, grace).await?;
    pod::delete::gone(client, "default", name, &uid).await?;
    output::line(name)
}

fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

async fn ps(client: &Client, all: bool) -> anyhow::Result<()> {
    let list = client.json(Ask::get(pod::collection("default", "pods")?)).await?;
    let shown = list["items"].as_array().into_iter().flatten().filter(|pod| all || runs(pod));
    output::write(containers(shown, jiff::Timestamp::now()).render())
}

fn containers<'a>(pods: impl Iterator<Item = &'a Value>, now: jiff::Timestamp) -> Table {
    let mut table = Table::new(["container id", "image", "command", "created", "status", "names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for pod in pods {
        let uid: String = text(&pod["metadata"]["uid"]).chars().filter(|&c| c != '-').take(12).collect();
        let container = &pod["spec"]["containers"][0];
        let words =
            [&container["command"], &container["args"]].map(|words| words.as_array().cloned().unwrap_or_default());
        let words: Vec<String> = words.iter().flatten().map(text).collect();
        let command: String = format!("\"{}\"", words.join(" ")).chars().take(30).collect();
        let created = text(&pod["metadata"]["creationTimestamp"]).parse::<jiff::Timestamp>();
        let age = created.map(|then| u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0));
        let age = age.map_or_else(|_| "?".to_owned(), |seconds| format!("{} ago", duration::human(seconds)));
        let name = text(&pod["metadata"]["name"]);
        table.row([uid, text(&container["image"]), command, age, status(pod), name]);
    }
    table
}

/// Docker's words for where a container stands.
fn status(pod: &Value) -> String {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let reason = |of: &Value| of["reason"].as_str().unwrap_or_default().to_owned();
    if let Some(ended) = state.get("terminated") {
        return format!("Exited ({})", ended["exitCode"]);
    }
    if state.get("running").is_some() {
        return "Up".into();
    }
    match reason(&state["waiting"]) {
        reason if !reason.is_empty() => format!("Created ({reason})"),
        _ => pod["status"]["phase"].as_str().unwrap_or("Unknown").to_owned(),
    }
}

/// A pod of one container that ends when it ends.
fn pod_of(run: &run::Run) -> anyhow::Result<Value> {
    let mut container = json!({"name": "main", "image": run.image});
    if !run.command.is_empty() {
        // Docker's CMD: the image's entrypoint stays, as in Kubernetes' args.
        container["args"] = json!(run.command);
    }
    if let Some(program) = &run.entrypoint {
        container["command"] = json!([program]);
    }
    let env = run.env.iter().filter_map(|variable| match variable.split_once('=') {
        Some((name, value)) => Some(json!({"name": name, "value": value})),
        // Alone, the name takes our own value, if there is one.
        None => std::env::var(variable).ok().map(|value| json!({"name": variable, "value": value})),
    });
    let env: Vec<Value> = env.collect();
    if !env.is_empty() {
        container["env"] = Value::Array(env);
    }
    let mut limits = serde_json::Map::new();
    if let Some(memory) = &run.memory {
        limits.insert("memory".into(), run::bytes(memory)?.to_string().into());
    }
    limits.extend(run.cpus.iter().map(|cpus| ("cpu".to_owned(), cpus.clone().into())));
    if !limits.is_empty() {
        container["resources"] = json!({"limits": limits});
    }
    let mut spec = json!({"restartPolicy": "Never", "containers": [container]});
    if run.network.as_deref() == Some("host") {
        spec["hostNetwork"] = true.into();
    }
    let metadata = match &run.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": "mockdocker-"}),
    };
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}
