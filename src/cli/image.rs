//! `entroos image …`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures_util::{Stream, StreamExt};
use hyper::body::{Bytes, Frame};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::client::{Ask, Client, encode, query};
use super::output::{self, Format, Table, printable};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Import a `docker save` archive or a tar of an OCI layout (plain or gzip); - is standard input
    Import(Import),
    /// Pull an image from its registry
    Pull(Pull),
    /// List the images of the node
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove a name, and the image where it was its last
    #[command(visible_alias = "rm")]
    Remove(Remove),
    /// Show all that is known of an image
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub struct Import {
    /// The archive
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Name for an image that has none
    #[arg(long, value_name = "NAME:TAG")]
    tag: Option<String>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// Its name: alpine, registry.example/app:1.2, name@sha256:…
    reference: String,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub struct List {
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Name, id, or the beginning of an id
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Name, id, or the beginning of an id
    name: String,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    output: Format,
}

/// Runs the command.
///
/// # Errors
/// Whatever it cannot do.
pub async fn run(client: &Client, verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Import(args) => import(client, &args).await?,
        Verb::Pull(args) => {
            let image = pull(client, &args.reference).await?;
            match args.output {
                Format::Table => output::line(name_and_id(&image))?,
                format => output::value(format, &image)?,
            }
        }
        Verb::List(args) => list(client, args.output).await?,
        Verb::Remove(args) => {
            for name in &args.names {
                remove(client, name).await?;
            }
        }
        Verb::Inspect(args) => {
            let image = client.json(Ask::get(path(&args.name)?)).await?;
            match args.output {
                Format::Table => output::write(table(std::slice::from_ref(&image)).render())?,
                format => output::value(format, &image)?,
            }
        }
    }
    Ok(0)
}

async fn import(client: &Client, args: &Import) -> anyhow::Result<()> {
    let tag: Vec<_> = args.tag.iter().map(|tag| ("tag", tag.clone())).collect();
    let ask = Ask::post(format!("/entroos/v1/images/import{}", query(&tag))).patient();
    let name = args.file.display();
    let ask = if args.file == Path::new("-") {
        ask.stream("application/x-tar", frames(tokio::io::stdin()))
    } else {
        if args.file.is_dir() {
            bail!("{name} is a directory: `tar -C {name} -c . | entroos image import -` imports an OCI layout");
        }
        let file = tokio::fs::File::open(&args.file).await.with_context(|| format!("cannot open {name}"))?;
        ask.stream("application/x-tar", frames(file))
    };
    let answer = client.json(ask).await.with_context(|| format!("cannot import {name}"))?;
    match args.output {
        Format::Table => images(&answer).iter().try_for_each(|image| output::line(name_and_id(image))),
        format => output::value(format, &answer),
    }
}

fn frames(
    reader: impl tokio::io::AsyncRead + Send + 'static,
) -> impl Stream<Item = std::io::Result<Frame<Bytes>>> + Send + 'static {
    ReaderStream::with_capacity(reader, 64 << 10).map(|chunk| chunk.map(Frame::data))
}

/// Pulls, showing how far it is on a terminal; returns the image.
pub async fn pull(client: &Client, reference: &str) -> anyhow::Result<Value> {
    let path = format!("/entroos/v1/images/pull{}", query(&[("reference", reference.to_owned())]));
    let mut lines = client.send(Ask::post(path).patient()).await?.lines();
    let mut bar = Bar::new();
    while let Some(mut line) = lines.next().await? {
        if let Some(error) = line.get("error") {
            bar.clear();
            let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            let error = Client::refused(code, error.to_string().as_bytes());
            return Err(anyhow::Error::new(error).context(format!("cannot pull {reference}")));
        }
        if line.get("image").is_some() {
            bar.clear();
            return Ok(line["image"].take());
        }
        bar.show(&line["progress"]);
    }
    bail!("the node ended the pull of {reference} without saying how it went: see its log")
}

/// One line of progress, on a terminal only.
struct Bar {
    shown: bool,
    terminal: bool,
}

impl Bar {
    fn new() -> Self {
        Self { shown: false, terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: &Value) {
        if self.terminal && progress.is_object() {
            let number = |field: &str| progress[field].as_u64().unwrap_or(0);
            let total = if number("total") > 0 { format!(" of {}", size(number("total"))) } else { String::new() };
            eprint!("\r\x1b[Klayer {} of {}, {}{total}", number("layer"), number("layers"), size(number("bytes")));
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

async fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let answer = client.json(Ask::get("/entroos/v1/images")).await?;
    match format {
        Format::Table => output::write(table(images(&answer)).render()),
        format => output::value(format, &answer),
    }
}

/// Removes one name.
pub async fn remove(client: &Client, name: &str) -> anyhow::Result<()> {
    client.send(Ask::delete(path(name)?)).await.with_context(|| format!("cannot remove image {name}"))?;
    output::line(format!("image/{name} removed"))
}

/// The node's list as a table.
pub fn table(images: &[Value]) -> Table {
    let mut table = Table::new(["name", "image id", "architecture", "size", "unpacked", "created"]);
    for image in images {
        let text = |field: &str| image[field].as_str().unwrap_or_default().to_owned();
        let bytes = |field: &str| size(image[field].as_u64().unwrap_or(0));
        let names = image["references"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        for name in if names.is_empty() { vec!["<none>"] } else { names } {
            let cells = [short(&text("id")), text("architecture"), bytes("size"), bytes("unpacked"), text("created")];
            table.row(std::iter::once(name.to_owned()).chain(cells));
        }
    }
    table
}

/// The images in an answer: bare, or under `images`.
pub fn images(answer: &Value) -> &[Value] {
    let list = answer.as_array().or_else(|| answer["images"].as_array()).or_else(|| answer["items"].as_array());
    list.map(Vec::as_slice).unwrap_or_default()
}

/// A line that tells which image it is.
pub fn name_and_id(image: &Value) -> String {
    let names = image["references"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    printable(&format!("{} {}", names.join(" "), image["id"].as_str().unwrap_or_default()))
}

fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// The path of an image, whose name may hold slashes.
fn path(name: &str) -> anyhow::Result<String> {
    if name.is_empty() || name.split('/').any(|part| part.is_empty() || part.chars().all(|c| c == '.')) {
        bail!("{name:?} is not an image's name");
    }
    Ok(format!("/entroos/v1/images/{}", name.split('/').map(encode).collect::<Vec<_>>().join("/")))
}

/// Bytes for people: `7.3 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_are_listed_by_each_of_their_names() {
        let image = json!({"references": ["docker.io/library/a:1", "docker.io/library/a:2"], "id": "sha256:0123456789abcdef",
            "architecture": "amd64", "size": 7_340_000, "unpacked": 950, "created": "2026-01-01T00:00:00Z"});
        let text = table(&[image]).render();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("docker.io/library/a:2   0123456789ab   amd64          7.3 MB   950 B"), "{text}");
    }

    #[test]
    fn an_image_path_cannot_climb() {
        assert_eq!(path("docker.io/library/a:1").unwrap(), "/entroos/v1/images/docker.io/library/a%3A1");
        for name in ["", "a/../b", "/a", "a//b"] {
            assert!(path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(
            [size(999), size(1000), size(1_234_567), size(5_000_000_000)],
            ["999 B", "1.0 kB", "1.2 MB", "5.0 GB"]
        );
    }
}
