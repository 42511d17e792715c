//! `/exec`: a further process in a container, over a WebSocket as kubectl speaks it (`v5.channel.k8s.io`, `v4`).
//!
//! Each message begins with its channel: 0 stdin, 1 stdout, 2 stderr, 3 how it ended (a `Status`), 4 the terminal's new
//! size; in v5 255 closes the channel its next byte names, so that a command can see the end of its stdin.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::Method;
use axum::response::Response;
use futures_util::stream::{self, SplitSink};
use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::context::Call;
use super::error;
use super::k8s::ApiError;
use super::logs::{container, guarded_pod};
use super::objects;
use crate::container::runtime::{self, Exec, Sandbox};
use crate::container::spec::ExecSpec;
use crate::orchestrator::Body as ObjectBody;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Most bytes of one message from a client.
const MESSAGE_MAX: usize = 1 << 20;
/// Bytes read from the process at once.
const READ_BYTES: usize = 32 * 1024;
/// Messages on their way to the client; a slow client then stops the process from writing.
const OUTGOING_MAX: usize = 8;
/// Silence is broken this often, so that a client that is gone is found out.
const PING_EVERY: Duration = Duration::from_secs(20);
/// What the process's children may still print once it has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// A client with a terminal says its size at once; one that does not is not waited for longer.
const FIRST_SIZE: Duration = Duration::from_millis(250);
/// Longest command line, in arguments.
const ARGS_MAX: usize = 4096;

pub(super) async fn exec(mut call: Call) -> Result<Response, ApiError> {
    let snapshot = call.context.api.client.snapshot();
    let object = objects::find(&call, &snapshot.state)?;
    let pod = guarded_pod(&call, &object, "exec")?;
    let container = container(&object.meta.name, pod, call.query.get("container"))?.to_owned();
    let args: Vec<String> = call.query.all("command").into_iter().map(str::to_owned).collect();
    if args.is_empty() || args.len() > ARGS_MAX {
        return Err(error::bad_request(format!("command: you must specify between 1 and {ARGS_MAX} of them for exec")));
    }
    let wants = Wants {
        stdin: call.query.flag("stdin")?,
        stdout: call.query.flag("stdout")?,
        stderr: call.query.flag("stderr")?,
        tty: call.query.flag("tty")?,
    };
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err(error::bad_request("specify at least one of stdin, stdout, stderr"));
    }
    if wants.tty && wants.stderr {
        return Err(error::bad_request("stderr: a terminal has no stderr of its own; leave it out where tty is true"));
    }
    let ObjectBody::Pod(_) = &object.body else { return Err(error::internal("a pod's key led to another kind")) };
    let sandbox = running_sandbox(&call, &object.meta.uid, &object.meta.name, &container)?;
    let spec = ExecSpec { container, args, tty: wants.tty, stdin: wants.stdin, size: None };

    let upgrade = upgrade(&mut call).await?;
    let Some(v5) = upgrade.selected_protocol().map(|protocol| protocol == V5) else {
        return Err(error::bad_request(format!("Sec-WebSocket-Protocol must offer {V5} or {V4}")));
    };
    let permit = call.context.streams.enter(call.caller)?;
    let (stop, task) = (call.context.stop.clone(), call.context.tasks.token());
    Ok(upgrade.on_upgrade(move |socket| async move {
        Session { sandbox, spec, wants, v5, stop }.run(socket).await;
        drop((permit, task));
    }))
}

/// Turns the request into a WebSocket; a client that speaks SPDY learns what to do instead.
async fn upgrade(call: &mut Call) -> Result<WebSocketUpgrade, ApiError> {
    let wanted = call.header("upgrade").unwrap_or_default().to_ascii_lowercase();
    if wanted != "websocket" || call.parts.method != Method::GET {
        return Err(error::bad_request(
            "exec speaks WebSocket only, not SPDY: use kubectl 1.30 or newer (with 1.29 set \
             KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true), or `entroos pod exec`",
        ));
    }
    WebSocketUpgrade::from_request_parts(&mut call.parts, &())
        .await
        .map(|upgrade| upgrade.protocols([V5, V4]).max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX))
        .map_err(|e| error::bad_request(format!("not a WebSocket handshake: {e}")))
}

fn running_sandbox(call: &Call, uid: &crate::base::Uid, name: &str, container: &str) -> Result<Sandbox, ApiError> {
    let api = &call.context.api;
    let runtime = api.runtime.as_ref().ok_or_else(|| {
        let why = api.runtime_problem.as_deref().unwrap_or("containers cannot run here");
        error::unavailable(format!("this node runs no pods: {why}"))
    })?;
    let sandbox = runtime.get(uid).filter(Sandbox::alive);
    let runs = sandbox.as_ref().is_some_and(|sandbox| {
        sandbox.records().borrow().iter().any(|record| {
            record.name == container && matches!(record.state, crate::container::spec::ContainerState::Running { .. })
        })
    });
    sandbox.filter(|_| runs).ok_or_else(|| {
        error::bad_request(format!("container {container:?} of pod {name:?} is not running; exec needs a running one"))
    })
}

/// The streams the client asked for.
#[derive(Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "they are Kubernetes' query parameters")]
struct Wants {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

struct Session {
    sandbox: Sandbox,
    spec: ExecSpec,
    wants: Wants,
    v5: bool,
    stop: CancellationToken,
}

/// Why a session is over.
enum End {
    /// The process ended by itself.
    Exit(Result<i32, runtime::Error>),
    /// The client is gone; the process goes with it.
    Left,
    Stopping,
}

impl Session {
    async fn run(mut self, socket: WebSocket) {
        let (mut sink, mut source) = socket.split();
        // The terminal's size comes as a message; a program that asks for it at its start must not see none.
        let first =
            if self.spec.tty { tokio::time::timeout(FIRST_SIZE, source.next()).await.ok().flatten() } else { None };
        if let Some(Ok(Message::Binary(bytes))) = &first
            && let Some((&RESIZE, size)) = bytes.split_first()
        {
            self.spec.size = parse_size(size);
        }
        let source = stream::iter(first).chain(source);
        let status = match self.sandbox.exec(self.spec.clone()).await {
            Err(refused) => Some(failed_to_start(&error::chain(&refused))),
            Ok(process) => match self.serve(process, &mut sink, source).await {
                End::Exit(Ok(code)) => Some(exit_status(code)),
                End::Exit(Err(lost)) => Some(failed_to_start(&error::chain(&lost))),
                End::Stopping => Some(failed_to_start("the node is stopping")),
                End::Left => None,
            },
        };
        let Some(status) = status else { return };
        let _ = sink.send(message(ERROR, status.to_string().as_bytes())).await;
        let _ = sink.send(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }))).await;
        let _ = sink.close().await;
    }

    /// Carries bytes both ways until the process ends or the client leaves.
    async fn serve(
        &self,
        mut process: Exec,
        sink: &mut SplitSink<WebSocket, Message>,
        source: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    ) -> End {
        let (outgoing, mut to_send) = mpsc::channel(OUTGOING_MAX);
        let (sizes, mut resizes) = mpsc::channel(1);
        let stdin = process.stdin.take().filter(|_| self.wants.stdin);
        let stdout = pump(process.stdout.take(), STDOUT, self.wants.stdout, outgoing.clone());
        let stderr = pump(process.stderr.take(), STDERR, self.wants.stderr, outgoing);

        let printing = async { tokio::join!(stdout, stderr) };
        let ending = async {
            loop {
                tokio::select! {
                    ended = process.wait() => return ended,
                    Some((columns, rows)) = resizes.recv() => {
                        // A terminal that ended meanwhile has no size; the end itself is told above.
                        let _ = process.resize(columns, rows).await;
                    }
                }
            }
        };
        let both = async {
            tokio::pin!(printing);
            tokio::pin!(ending);
            let code = tokio::select! {
                code = &mut ending => {
                    let _ = tokio::time::timeout(DRAIN, printing).await;
                    return code;
                }
                _ = &mut printing => ending.await,
            };
            code
        };
        let sending = async {
            let mut pings = interval(PING_EVERY);
            pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let message = tokio::select! {
                    message = to_send.recv() => match message {
                        Some(message) => message,
                        None => std::future::pending().await,
                    },
                    _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
                };
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        };
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopping,
            code = both => End::Exit(code),
            () = sending => End::Left,
            () = receive(source, stdin, sizes, self.v5) => End::Left,
        };
        // What was read from the process but not yet sent.
        while let Ok(message) = to_send.try_recv() {
            if sink.send(message).await.is_err() {
                return End::Left;
            }
        }
        end
    }
}

/// From the client: keys and sizes. Returns when the client is gone; the end of stdin alone is not that.
async fn receive(
    mut source: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    mut stdin: Option<pipe::Sender>,
    sizes: mpsc::Sender<(u16, u16)>,
    v5: bool,
) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, input)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(input).await.is_err()
                {
                    // The process closed its stdin; what else is typed goes nowhere.
                    stdin = None;
                }
            }
            Some((&RESIZE, size)) => {
                if let Some(size) = parse_size(size) {
                    let _ = sizes.try_send(size);
                }
            }
            Some((&CLOSE, &[STDIN])) if v5 => stdin = None,
            _ => {}
        }
    }
}

/// From the process to the client. What nobody wants is read all the same, or the process would stop for want of room.
async fn pump(from: Option<Box<dyn AsyncRead + Send + Unpin>>, channel: u8, wanted: bool, to: mpsc::Sender<Message>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if wanted && to.send(message(channel, &buffer[..read])).await.is_err() {
            return;
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// `{"Width":80,"Height":24}`.
fn parse_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| value.get(name)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some((side("Width")?, side("Height")?))
}

/// How the process ended, as kubectl reads it.
fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit code {code}"),
        "reason": "NonZeroExitCode", "code": 500,
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failed_to_start(why: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("error executing command in container: {why}"), "reason": "InternalError", "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_terminals() {
        assert_eq!(parse_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(parse_size(br#"{"Width":80}"#), None);
        assert_eq!(parse_size(br#"{"Width":70000,"Height":1}"#), None);
        assert_eq!(parse_size(b"x"), None);
    }

    #[test]
    fn kubectl_finds_the_exit_code() {
        assert_eq!(exit_status(0)["status"], "Success");
        let status = exit_status(3);
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["reason"]),
            (&json!("NonZeroExitCode"), &json!("ExitCode"))
        );
        assert_eq!(status["details"]["causes"][0]["message"], "3");
    }
}
