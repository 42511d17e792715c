//! Where the node is, and the token to show it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::Error;

/// The port of a node's API unless it is told otherwise.
const DEFAULT_PORT: u16 = 8080;

/// Most bytes of a token file.
const TOKEN_MAX: usize = 4096;

/// An address to send requests to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// The addresses to try in turn, and what to write into `Host`.
    Tcp {
        addresses: Vec<SocketAddr>,
        authority: String,
    },
    Unix(PathBuf),
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { authority, .. } => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Server {
    /// Reads `http://HOST:PORT` or `unix:///PATH`.
    ///
    /// # Errors
    /// [`Error::Address`], which says what is allowed.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Address { url: url.to_owned(), why: why.to_owned() };
        if let Some(path) = url.strip_prefix("unix://").or_else(|| url.strip_prefix("unix:")) {
            return if path.starts_with('/') {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(wrong("the path of a unix socket is absolute: unix:///path/to/run/api.sock"))
            };
        }
        if url.starts_with("https://") {
            return Err(wrong("TLS is not in this version: use http:// on loopback, or the unix socket"));
        }
        let Some(authority) = url.strip_prefix("http://") else {
            return Err(wrong("write http://HOST:PORT or unix:///PATH"));
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Ok(Self::tcp(vec![address], authority));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("the port is a number from 0 to 65535"))?)
            }
            _ => (authority, DEFAULT_PORT),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.eq_ignore_ascii_case("localhost") {
            let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(Self::tcp(both.map(|ip| SocketAddr::new(ip, port)).to_vec(), &format!("localhost:{port}")));
        }
        let ip: IpAddr =
            host.parse().map_err(|_| wrong("the host is an IP address or localhost: names come with TLS"))?;
        let address = SocketAddr::new(ip, port);
        Ok(Self::tcp(vec![address], &address.to_string()))
    }

    fn tcp(addresses: Vec<SocketAddr>, authority: &str) -> Self {
        Self::Tcp { addresses, authority: authority.to_owned() }
    }

    /// The address asked for; else the data directory's socket where `listens` says that somebody does; else the
    /// default port of this machine.
    ///
    /// # Errors
    /// Where the address asked for cannot be read.
    pub fn choose(asked: Option<&str>, data_dir: &Path, listens: impl Fn(&Path) -> bool) -> Result<Self, Error> {
        if let Some(url) = asked {
            return Self::parse(url);
        }
        let socket = data_dir.join("run/api.sock");
        if listens(&socket) {
            return Ok(Self::Unix(socket));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        Ok(Self::tcp(vec![address], &address.to_string()))
    }

    /// Whether what is sent there stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { addresses, .. } => addresses.iter().all(|a| a.ip().is_loopback()),
            Self::Unix(_) => true,
        }
    }
}

/// The token asked for, else the data directory's where it can be read. The latter is never shown to another machine.
#[must_use]
pub fn token(asked: Option<&str>, server: &Server, data_dir: &Path) -> Option<String> {
    if let Some(token) = asked {
        return Some(token.to_owned()).filter(|t| !t.is_empty());
    }
    if !server.is_local() {
        return None;
    }
    let text = std::fs::read(data_dir.join("token")).ok().filter(|bytes| bytes.len() <= TOKEN_MAX)?;
    let text = String::from_utf8(text).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty() && t.chars().all(|c| c.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_the_cure() {
        let parsed = |url: &str| Server::parse(url).unwrap().to_string();
        assert_eq!(parsed("http://127.0.0.1:9000/"), "http://127.0.0.1:9000");
        assert_eq!(parsed("http://[::1]:9000"), "http://[::1]:9000");
        assert_eq!(parsed("http://127.0.0.1"), "http://127.0.0.1:8080");
        assert_eq!(parsed("http://localhost"), "http://localhost:8080");
        assert_eq!(parsed("unix:///run/x.sock"), "unix:///run/x.sock");
        for (url, cure) in [
            ("127.0.0.1:8080", "http://HOST:PORT"),
            ("https://127.0.0.1", "TLS is not in this version"),
            ("http://example.org:80", "IP address or localhost"),
            ("http://127.0.0.1:99999", "0 to 65535"),
            ("unix://run/x.sock", "absolute"),
        ] {
            let error = Server::parse(url).unwrap_err().to_string();
            assert!(error.contains(cure), "{url}: {error}");
        }
    }

    #[test]
    fn the_socket_is_taken_where_somebody_listens() {
        let dir = Path::new("/data");
        let chosen = |asked, listens| Server::choose(asked, dir, |_| listens).unwrap().to_string();
        assert_eq!(chosen(None, true), "unix:///data/run/api.sock");
        assert_eq!(chosen(None, false), "http://127.0.0.1:8080");
        assert_eq!(chosen(Some("http://127.0.0.1:1"), true), "http://127.0.0.1:1");
    }

    #[test]
    fn the_local_token_stays_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "abc\n").unwrap();
        let near = Server::parse("http://127.0.0.1:1").unwrap();
        let far = Server::parse("http://192.0.2.1:1").unwrap();
        assert_eq!(token(None, &near, dir.path()).as_deref(), Some("abc"));
        assert_eq!(token(None, &far, dir.path()), None);
        assert_eq!(token(Some("x"), &far, dir.path()).as_deref(), Some("x"));
        assert_eq!(token(None, &near, Path::new("/nonexistent")), None);
    }
}
