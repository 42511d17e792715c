//! The listeners: TCP and unix socket, one router behind both, and an end within [`SHUTDOWN`].

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::context::Context;
use super::door::Peer;
use super::routes::{self, Service};
use crate::base::{NodeId, scope::Scope, seal::SealKey};
use crate::container::{image::Images, runtime::Runtime};
use crate::orchestrator::client::Client;

/// How long a client may take to send the head of a request, and a connection may idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's head.
const HEADER_MAX: usize = 64 * 1024;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 64;
/// How long connections may take to finish once the node stops; the whole node has five seconds.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// Pause after `accept` failed (out of file descriptors), so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Said to a client that comes when all connections are taken; no request is read for it.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Limits of the door.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most bytes of a request body.
    pub body_max: usize,
    /// Most connections on each listener, so that guests on loopback cannot lock the operator out of the unix socket.
    pub connections_max: usize,
    /// Most watches, followed logs and exec sessions at once; operators and others are counted apart.
    pub watches_max: usize,
}

/// What the API stands on.
#[derive(Clone)]
pub struct Api {
    pub client: Client,
    pub images: Images,
    /// `None`: pods cannot run here; `runtime_problem` says why.
    pub runtime: Option<Runtime>,
    pub runtime_problem: Option<String>,
    pub seal: SealKey,
    pub node: NodeId,
    pub node_name: String,
    pub data_dir: PathBuf,
    /// Bearer token that makes the bearer the operator.
    pub token: Arc<str>,
    /// What `status` says of `--net`.
    pub net: String,
    pub version: &'static str,
    pub config: Config,
}

/// Serves on a TCP listener (loopback; principal `Local`, or `Operator` with the token) and on a unix socket (peer
/// credentials: uid 0 or the node's own is `Operator`, else `Local`).
pub fn spawn(
    api: Api,
    tcp: std::net::TcpListener,
    unix: std::os::unix::net::UnixListener,
    scope: &Scope,
) -> io::Result<()> {
    tcp.set_nonblocking(true)?;
    unix.set_nonblocking(true)?;
    let address = tcp.local_addr()?;
    let (tcp, unix) = (TcpListener::from_std(tcp)?, UnixListener::from_std(unix)?);
    super::images::clear_uploads(&api.data_dir)?;
    let connections_max = api.config.connections_max;
    let context = Arc::new(Context::new(api, address, scope.token()));
    let service = routes::service(context.clone());
    info!(%address, "the api listens");

    let (service_tcp, service_unix) = (service.clone(), service);
    scope.spawn("api", move |stop| async move {
        let mut tcp_listener = Listener::new(service_tcp, connections_max);
        let mut unix_listener = Listener::new(service_unix, connections_max);
        tokio::join!(
            tcp_listener.serve(&stop, || accept_tcp(&tcp)),
            unix_listener.serve(&stop, || accept_unix(&unix)),
        );
        // Sessions that left HTTP behind (exec); they see the same token.
        context.tasks.close();
        if timeout(SHUTDOWN, context.tasks.wait()).await.is_err() {
            warn!("exec sessions did not end in time and are dropped");
        }
    });
    Ok(())
}

/// One listener's connections. The accepting side differs, what follows does not.
struct Listener {
    service: Service,
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Listener {
    fn new(service: Service, connections_max: usize) -> Self {
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { service, permits: Arc::new(Semaphore::new(connections_max)), connections: JoinSet::new() }
    }

    /// Accepts until told to stop, then gives the connections [`SHUTDOWN`] to finish what they do.
    async fn serve<S, F>(&mut self, stop: &CancellationToken, accept: impl Fn() -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + TryWrite + 'static,
        F: Future<Output = io::Result<(S, Peer)>>,
    {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        warn!(%error, "a connection's task panicked");
                    }
                }
                accepted = accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, stop),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        tokio::select! { () = stop.cancelled() => break, () = tokio::time::sleep(ACCEPT_PAUSE) => {} }
                    }
                },
            }
        }
        let finish = async { while self.connections.join_next().await.is_some() {} };
        if timeout(SHUTDOWN, finish).await.is_err() {
            warn!(left = self.connections.len(), "connections did not end in time and are dropped");
            self.connections.shutdown().await;
        }
    }

    fn admit<S>(&mut self, stream: S, peer: Peer, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + TryWrite + 'static,
    {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            self.connections.spawn(connection(stream, peer, self.service.clone(), stop.clone(), permit));
        } else {
            warn!("all connections are taken: one is turned away");
            let _ = stream.try_write_now(FULL);
        }
    }
}

/// Serves one connection until its client leaves or the node stops.
async fn connection<S>(stream: S, peer: Peer, service: Service, stop: CancellationToken, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoke = Arc::new(AtomicBool::new(false));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(HEADER_TIMEOUT);
    let requests = {
        let spoke = spoke.clone();
        hyper::service::service_fn(move |request: Request<Incoming>| {
            spoke.store(true, Ordering::Relaxed);
            let service = service.clone();
            async move { Ok::<Response, Infallible>(service.answer(peer, request.map(axum::body::Body::new)).await) }
        })
    };
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), requests);
    tokio::pin!(serving);
    // hyper's own header timeout starts only once it knows the protocol; a client that says nothing must not stay.
    let silence = sleep_until(Instant::now() + HEADER_TIMEOUT);
    tokio::pin!(silence);
    let (mut stopping, mut waited) = (false, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    debug!(error = %error, "a connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = silence.as_mut(), if !waited => {
                waited = true;
                if !spoke.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, from) = listener.accept().await?;
    // Watch events and exec keystrokes are small and must not wait for one another.
    stream.set_nodelay(true)?;
    Ok((stream, Peer::Tcp(from)))
}

async fn accept_unix(listener: &UnixListener) -> io::Result<(UnixStream, Peer)> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok((stream, Peer::Unix { uid }))
}

/// Writes what fits at once, and never waits.
trait TryWrite {
    fn try_write_now(&self, bytes: &[u8]) -> io::Result<usize>;
}
impl TryWrite for TcpStream {
    fn try_write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}
impl TryWrite for UnixStream {
    fn try_write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}
