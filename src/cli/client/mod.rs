//! Asking a node: HTTP over loopback or its unix socket.

mod error;
mod server;
mod stream;
mod watch;

use std::path::Path;
use std::time::Duration;

use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

pub use error::Error;
pub use server::Server;
pub use stream::{Duplex, ReadsOn};
pub use watch::{Watch, until};

/// Most bytes of an answer that is taken whole (a list of a full node).
const ANSWER_MAX: usize = 256 << 20;
/// Most bytes of one line of a stream (one object).
const LINE_MAX: usize = 16 << 20;
/// How long a node may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request without its address.
#[derive(Debug)]
pub struct Ask {
    method: &'static str,
    /// Path and query.
    path: String,
    accept: &'static str,
    content_type: Option<&'static str>,
    body: Body,
    /// `None`: as long as it takes.
    timeout: Option<Duration>,
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        let body = Full::default().map_err(|never| match never {}).boxed_unsync();
        let (path, accept) = (path.into(), "application/json");
        Self { method, path, accept, content_type: None, body, timeout: Some(ANSWER_TIMEOUT) }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    pub fn patch(path: impl Into<String>) -> Self {
        Self::new("PATCH", path)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path)
    }

    #[must_use]
    pub fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    /// With a value as body.
    #[must_use]
    pub fn json(mut self, content_type: &'static str, value: &Value) -> Self {
        self.content_type = Some(content_type);
        self.body = Full::from(value.to_string()).map_err(|never| match never {}).boxed_unsync();
        self
    }

    /// With a body that is read as it is sent.
    #[must_use]
    pub fn stream<S>(mut self, content_type: &'static str, stream: S) -> Self
    where
        S: Stream<Item = std::io::Result<Frame<Bytes>>> + Send + 'static,
    {
        self.content_type = Some(content_type);
        self.body = StreamBody::new(stream).boxed_unsync();
        self
    }

    /// For what takes as long as it takes.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.timeout = None;
        self
    }
}

/// Asks one node.
#[derive(Clone, Debug)]
pub struct Client {
    pub server: Server,
    token: Option<String>,
}

impl Client {
    /// Finds the node: by what was asked for, else by the data directory.
    ///
    /// # Errors
    /// Where the address asked for cannot be read.
    pub fn new(server: Option<&str>, token: Option<&str>, data_dir: &Path) -> Result<Self, Error> {
        let listens = |socket: &Path| std::os::unix::net::UnixStream::connect(socket).is_ok();
        let server = Server::choose(server, data_dir, listens)?;
        let token = server::token(token, &server, data_dir);
        Ok(Self { server, token })
    }

    /// Connects. Every request has a connection of its own: the command line makes few, and it is on this machine.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn connect(&self) -> Result<Duplex, Error> {
        let unreachable = |source| Error::Unreachable { server: self.server.to_string(), source };
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Duplex::connect(&self.server));
        connecting.await.unwrap_or_else(|late| Err(late.into())).map_err(unreachable)
    }

    /// The headers every request has: who is asked, and the token.
    pub fn headers(&self) -> Vec<(header::HeaderName, String)> {
        let authority = match &self.server {
            Server::Tcp { authority, .. } => authority.clone(),
            Server::Unix(_) => "localhost".into(),
        };
        let mut headers = vec![(header::HOST, authority)];
        headers.push((header::USER_AGENT, concat!("entroos/", env!("CARGO_PKG_VERSION")).into()));
        headers.extend(self.token.iter().map(|token| (header::AUTHORIZATION, format!("Bearer {token}"))));
        headers
    }

    /// Sends a request; an answer that is no success is an error.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn send(&self, ask: Ask) -> Result<Reply, Error> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|e| self.broken(e))?;
        // Ends with the connection; aborted where the reply is dropped first.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("connection ended: {e}");
            }
        }));
        let mut request = hyper::Request::builder().method(ask.method).uri(&ask.path);
        request = request.header(header::ACCEPT, ask.accept);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        if let Some(content_type) = ask.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(ask.body).map_err(|e| self.broken(e))?;
        let answering = sender.send_request(request);
        let response = match ask.timeout {
            Some(limit) => tokio::time::timeout(limit, answering)
                .await
                .map_err(|_| Error::Slow { server: self.server.to_string(), seconds: limit.as_secs() })?,
            None => answering.await,
        };
        let (head, body) = response.map_err(|e| self.broken(e))?.into_parts();
        for warning in head.headers.get_all(header::WARNING) {
            tell_warning(warning.to_str().unwrap_or_default());
        }
        let reply = Reply { server: self.server.to_string(), body, _driver: driver };
        if head.status.is_success() {
            return Ok(reply);
        }
        let body = reply.bytes().await.unwrap_or_default();
        Err(Error::Refused(Box::new(error::Refused::parse(head.status.as_u16(), &body))))
    }

    /// Sends a request and reads the answer as JSON.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn json(&self, ask: Ask) -> Result<Value, Error> {
        let body = self.send(ask).await?.bytes().await?;
        serde_json::from_slice(&body).map_err(|e| Error::Nonsense {
            server: self.server.to_string(),
            why: format!("its answer is not JSON: {e}"),
        })
    }

    fn broken(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Broken { server: self.server.to_string(), source: Box::new(source) }
    }

    /// What a refused WebSocket handshake says.
    pub fn refused(code: u16, body: &[u8]) -> Error {
        Error::Refused(Box::new(error::Refused::parse(code, body)))
    }
}

/// `Warning: 299 - "text"`, as Kubernetes sends them.
fn tell_warning(header: &str) {
    let text = header.splitn(3, ' ').nth(2).unwrap_or(header);
    eprintln!("warning: {}", super::output::printable(text.trim_matches('"')));
}

/// A good answer, its body yet to be read.
pub struct Reply {
    server: String,
    body: Incoming,
    _driver: AbortOnDropHandle<()>,
}

impl Reply {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| Error::Broken { server: self.server.clone(), source: Box::new(e) })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`Error::Broken`]; [`Error::Nonsense`] where it is larger than any answer should be.
    pub async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(self.too_large("answer"));
            }
        }
        Ok(bytes)
    }

    /// The body's lines as they come.
    #[must_use]
    pub fn lines(self) -> Lines {
        Lines { reply: self, buffer: Vec::new() }
    }

    fn too_large(&self, what: &str) -> Error {
        Error::Nonsense { server: self.server.clone(), why: format!("its {what} has no end") }
    }
}

/// A body read by lines, each one JSON value.
pub struct Lines {
    reply: Reply,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// Where the connection breaks or what comes is not JSON.
    pub async fn next(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.parse(&line).map(Some);
            }
            if self.buffer.len() > LINE_MAX {
                return Err(self.reply.too_large("line"));
            }
            if let Some(chunk) = self.reply.chunk().await? {
                self.buffer.extend_from_slice(&chunk);
            } else {
                let rest = std::mem::take(&mut self.buffer);
                let blank = rest.iter().all(u8::is_ascii_whitespace);
                return if blank { Ok(None) } else { self.parse(&rest).map(Some) };
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(line).map_err(|e| Error::Nonsense {
            server: self.reply.server.clone(),
            why: format!("a line of its answer is not JSON: {e}"),
        })
    }
}

/// Percent-encodes one segment of a path or one value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// A query: `?a=b&c=d`, or nothing.
#[must_use]
pub fn query(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_encoded() {
        assert_eq!(encode("a/b c=ä"), "a%2Fb%20c%3D%C3%A4");
        assert_eq!(query(&[]), "");
        assert_eq!(query(&[("a", "x y".into()), ("b", "1".into())]), "?a=x%20y&b=1");
    }
}
