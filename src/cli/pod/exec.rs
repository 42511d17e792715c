//! `pod exec`: Kubernetes' WebSocket protocol `v5.channel.k8s.io`. The first byte of a message is its channel.

use std::io::IsTerminal;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue};

use super::super::client::{Client, Duplex, ReadsOn, query};
use super::super::{output, terminal};
use super::{Namespace, pod_path};

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the channel that ends.
const CLOSE: u8 = 255;

#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// Name of the pod
    pub name: String,
    #[command(flatten)]
    pub namespace: Namespace,
    /// Container, where the pod has several
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Pass our standard input on
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the program a terminal
    #[arg(short = 't', long)]
    pub tty: bool,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What ended the session beside its own end.
enum Ended {
    /// The program's exit code.
    Exit(u8),
    /// We were told to go.
    Signal(u8),
}

/// Runs the program; its exit code is ours.
///
/// # Errors
/// Where it cannot be run, or the connection breaks.
pub async fn run(client: &Client, args: &Exec) -> anyhow::Result<u8> {
    let mut args = args.clone();
    if args.tty && args.stdin && !std::io::stdin().is_terminal() {
        eprintln!("warning: standard input is not a terminal: the program gets none (leave -t out)");
        args.tty = false;
    }
    let socket = connect(client, &args).await?;
    let raw = if args.tty && args.stdin { terminal::Raw::enter().context("cannot set the terminal")? } else { None };
    let (sink, stream) = socket.split();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        ended = receive(stream) => ended,
        failed = send(sink, &args) => failed.map(|never| match never {}),
        _ = hangup.recv() => Ok(Ended::Signal(128 + 1)),
        _ = terminate.recv() => Ok(Ended::Signal(128 + 15)),
    };
    // The terminal is as it was before anything more is printed.
    drop(raw);
    match ended? {
        Ended::Exit(code) | Ended::Signal(code) => Ok(code),
    }
}

type Socket = tokio_tungstenite::WebSocketStream<ReadsOn<Duplex>>;

async fn connect(client: &Client, args: &Exec) -> anyhow::Result<Socket> {
    let mut pairs: Vec<(&str, String)> = args.command.iter().map(|word| ("command", word.clone())).collect();
    pairs.extend(args.container.iter().map(|name| ("container", name.clone())));
    pairs.extend(
        [("stdin", args.stdin), ("stdout", true), ("stderr", !args.tty), ("tty", args.tty)]
            .map(|(name, set)| (name, set.to_string())),
    );
    let path = format!("{}/exec{}", pod_path(&args.namespace.namespace, &args.name)?, query(&pairs));
    let mut request = format!("ws://localhost{path}").into_client_request()?;
    for (name, value) in client.headers() {
        request
            .headers_mut()
            .insert(name, value.parse().map_err(|_| anyhow!("the token holds characters that no header can"))?);
    }
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
    match tokio_tungstenite::client_async(request, ReadsOn(client.connect().await?)).await {
        Ok((socket, response)) => match response.headers().get("sec-websocket-protocol") {
            Some(protocol) if protocol == PROTOCOL => Ok(socket),
            _ => bail!("what answers at {} does not speak {PROTOCOL}", client.server),
        },
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            Err(Client::refused(response.status().as_u16(), body).into())
        }
        Err(e) => Err(anyhow::Error::new(e).context(format!("the connection to {} broke", client.server))),
    }
}

async fn receive<S>(mut stream: S) -> anyhow::Result<Ended>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    while let Some(message) = stream.next().await {
        let message = message.context("the connection broke while the program ran")?;
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => break,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDOUT, data)) => output::write(data)?,
            Some((&STDERR, data)) => {
                use std::io::Write;
                // Who closed our standard error does not want to know.
                let _ = std::io::stderr().lock().write_all(data);
            }
            Some((&ERROR, status)) => return exit_code(status).map(Ended::Exit),
            _ => {}
        }
    }
    bail!("the connection ended before the program's exit code came: whether it still runs is not known")
}

enum Never {}

/// Sends what is typed and the terminal's sizes; ends only where that fails.
async fn send<S>(mut sink: S, args: &Exec) -> anyhow::Result<Never>
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let mut resized = signal(SignalKind::window_change())?;
    if args.tty {
        send_size(&mut sink).await?;
    }
    let mut stdin = tokio::io::stdin();
    let mut reading = args.stdin;
    let mut buffer = vec![0; 32 << 10];
    loop {
        tokio::select! {
            read = stdin.read(&mut buffer), if reading => {
                let message = match read.context("cannot read standard input")? {
                    0 => {
                        reading = false;
                        vec![CLOSE, STDIN]
                    }
                    n => [&[STDIN], &buffer[..n]].concat(),
                };
                // A program that has ended takes no more input; its exit code is on the way.
                if sink.send(Message::binary(message)).await.is_err() {
                    reading = false;
                }
            }
            _ = resized.recv() => if args.tty { send_size(&mut sink).await? },
        }
    }
}

async fn send_size<S>(sink: &mut S) -> anyhow::Result<()>
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin,
{
    let Some((columns, rows)) = terminal::size() else { return Ok(()) };
    let size = json!({"Width": columns, "Height": rows}).to_string();
    let message = [&[RESIZE], size.as_bytes()].concat();
    sink.send(Message::binary(message)).await.context("the connection broke while the program ran")
}

/// The exit code in a `metav1.Status`; any other failure is an error.
fn exit_code(status: &[u8]) -> anyhow::Result<u8> {
    let parsed: Value = serde_json::from_slice(status).unwrap_or_default();
    if parsed["status"] == "Success" {
        return Ok(0);
    }
    let causes = parsed["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode").and_then(|cause| cause["message"].as_str());
    if let Some(code) = code.filter(|_| parsed["reason"] == "NonZeroExitCode") {
        let code: i32 = code.parse().with_context(|| format!("the node sent the exit code {code:?}"))?;
        // As a shell would: what does not fit is its lowest byte, but never a success.
        return Ok(u8::try_from(code & 0xff).unwrap_or(1).max(1));
    }
    Err(Client::refused(parsed["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500), status).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_exit_code_is_read() {
        assert_eq!(exit_code(br#"{"status":"Success"}"#).unwrap(), 0);
        let failed = |code: &str| {
            let status = json!({"status": "Failure", "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code}]}});
            exit_code(status.to_string().as_bytes())
        };
        assert_eq!(failed("3").unwrap(), 3);
        assert_eq!(failed("137").unwrap(), 137);
        assert_eq!(failed("256").unwrap(), 1);
        assert!(failed("x").is_err());
        let refused = exit_code(br#"{"status":"Failure","message":"no such program: foo","code":500}"#).unwrap_err();
        assert_eq!(refused.to_string(), "no such program: foo");
    }

    /// The node pings, sends the exit code and closes, before our pong is out: what has come counts all the same.
    #[tokio::test]
    async fn an_exit_code_is_read_though_the_node_has_closed() {
        use tokio_tungstenite::tungstenite::protocol::Role;
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut node = tokio_tungstenite::WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let status = [&[ERROR], br#"{"status":"Success"}"#.as_slice()].concat();
        node.send(Message::Ping(Vec::new().into())).await.unwrap();
        node.send(Message::binary(status)).await.unwrap();
        drop(node);
        let socket = tokio_tungstenite::WebSocketStream::from_raw_socket(ReadsOn(ours), Role::Client, None).await;
        assert!(matches!(receive(socket).await.unwrap(), Ended::Exit(0)));
    }
}
