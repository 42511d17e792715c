//! Who comes in: the caller behind a connection and its headers, and what no web page may pass.
//!
//! A browser on this machine reaches loopback too, on behalf of any page it shows. So a request on TCP must name a
//! loopback host (a page's own name that was re-pointed here is refused: DNS rebinding), and one that a page made
//! (`Origin`, `Sec-Fetch-Site`) must come from this node's own address.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Uri};

use super::error;
use super::k8s::ApiError;
use crate::base::NodeId;
use crate::orchestrator::Principal;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    /// By the kernel's word (`SO_PEERCRED`).
    Unix {
        uid: u32,
    },
}

/// On whose behalf a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub Principal);

impl Caller {
    pub const fn is_operator(self) -> bool {
        matches!(self.0, Principal::Operator(_))
    }
}

/// What the door knows.
pub(super) struct Door<'a> {
    pub node: NodeId,
    pub token: &'a str,
    pub address: SocketAddr,
    /// The node's own user.
    pub uid: u32,
}

impl Door<'_> {
    /// Who asks, or why nobody may.
    pub fn enter(&self, peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<Caller, ApiError> {
        match peer {
            Peer::Tcp(from) if !from.ip().to_canonical().is_loopback() => {
                return Err(error::forbidden(format!("{} is not this machine; only loopback is served", from.ip())));
            }
            Peer::Tcp(_) => self.check_host(uri, headers)?,
            Peer::Unix { .. } => {}
        }
        self.check_origin(headers)?;
        let by_token = self.check_token(headers)?;
        let by_uid = matches!(peer, Peer::Unix { uid } if uid == 0 || uid == self.uid);
        Ok(Caller(if by_token || by_uid { Principal::Operator(self.node) } else { Principal::Local(self.node) }))
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(HOST).iter();
        let named = match (hosts.next(), hosts.next(), uri.authority()) {
            (None, _, Some(authority)) => authority.as_str(),
            (Some(host), None, None) => host.to_str().unwrap_or_default(),
            // An absolute request target and a Host header must not disagree.
            (Some(host), None, Some(authority)) if host == authority.as_str() => authority.as_str(),
            _ => return Err(error::forbidden("exactly one Host must be named, such as `Host: localhost`")),
        };
        if is_loopback(named) {
            return Ok(());
        }
        Err(error::forbidden(format!(
            "Host {named:?} is not a name of loopback: use http://localhost:{port} or http://127.0.0.1:{port} \
             (other names are refused so that no web page can reach this node by a name of its own)",
            port = self.address.port()
        )))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        for origin in headers.get_all(ORIGIN) {
            let own = origin.to_str().ok().and_then(|o| o.strip_prefix("http://")).is_some_and(|authority| {
                is_loopback(authority) && split_port(authority).1.unwrap_or(80) == self.address.port()
            });
            if !own {
                return Err(error::forbidden(format!(
                    "Origin {origin:?} is not this node's own address: web pages of other origins may not use it"
                )));
            }
        }
        match headers.get(SEC_FETCH_SITE).map(|v| v.to_str().unwrap_or("cross-site")) {
            None | Some("none" | "same-origin") => Ok(()),
            Some(site) => Err(error::forbidden(format!(
                "Sec-Fetch-Site {site:?}: a browser asks on behalf of a web page of another origin, which may not use this node"
            ))),
        }
    }

    /// Whether the operator's token is there. Anything else under `Authorization` is an error, not a guest: whoever
    /// sends a credential must learn that it is the wrong one.
    fn check_token(&self, headers: &HeaderMap) -> Result<bool, ApiError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(false),
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(error::unauthorized("more than one Authorization header")),
        };
        let given = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| error::unauthorized("Authorization must be `Bearer TOKEN`"))?;
        // Equality of hashes is in constant time, and so tells nothing of the token.
        if !self.token.is_empty() && blake3::hash(given.as_bytes()) == blake3::hash(self.token.as_bytes()) {
            return Ok(true);
        }
        Err(error::unauthorized(
            "the bearer token is not this node's; it stands in the file `token` of its data directory",
        ))
    }
}

/// Whether `authority` (a host with or without a port) names loopback.
fn is_loopback(authority: &str) -> bool {
    let (host, _) = split_port(authority);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match (bare, bare.unwrap_or(host).parse::<IpAddr>()) {
        (Some(_), Ok(ip @ IpAddr::V6(_))) | (None, Ok(ip @ IpAddr::V4(_))) => ip.is_loopback(),
        _ => false,
    }
}

/// Host and port. What follows the last colon and is no port stays with the host, which then names nothing.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 32]);

    fn enter(peer: Peer, headers: &[(&'static str, &str)]) -> Result<bool, u16> {
        let door = Door { node: NODE, token: "s3cret", address: "127.0.0.1:8080".parse().unwrap(), uid: 1000 };
        let headers: HeaderMap =
            headers.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect();
        door.enter(peer, &Uri::from_static("/api"), &headers).map(Caller::is_operator).map_err(|e| e.code)
    }
    fn tcp() -> Peer {
        Peer::Tcp("127.0.0.1:5000".parse().unwrap())
    }

    #[test]
    fn only_names_of_loopback_are_hosts() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:8080"] {
            assert_eq!(enter(tcp(), &[("host", host)]), Ok(false), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8080",
            "10.0.0.1",
            "",
            ":8080",
            "[::2]:8080",
            "::1",
            "[127.0.0.1]",
            "localhost:x",
        ] {
            assert_eq!(enter(tcp(), &[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(enter(tcp(), &[]), Err(403));
    }

    #[test]
    fn a_guest_from_another_machine_is_refused() {
        let peer = Peer::Tcp("10.0.0.7:5000".parse().unwrap());
        assert_eq!(enter(peer, &[("host", "localhost"), ("authorization", "Bearer s3cret")]), Err(403));
    }

    #[test]
    fn no_page_of_another_origin_drives_the_node() {
        let with = |name, value| enter(tcp(), &[("host", "localhost:8080"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:8080"), Ok(false));
        assert_eq!(with("origin", "http://127.0.0.1:8080"), Ok(false));
        for origin in ["http://localhost:3000", "https://localhost:8080", "http://evil.example:8080", "null", ""] {
            assert_eq!(with("origin", origin), Err(403), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "none"), Ok(false));
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(403));
        assert_eq!(enter(Peer::Unix { uid: 0 }, &[("origin", "http://evil.example")]), Err(403));
    }

    #[test]
    fn the_token_makes_the_operator_and_a_wrong_one_nobody() {
        let with = |value| enter(tcp(), &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(with("Bearer s3cret"), Ok(true));
        assert_eq!(with("bearer  s3cret"), Ok(true));
        for value in ["Bearer s3creT", "Bearer ", "Bearer", "Basic s3cret", "s3cret"] {
            assert_eq!(with(value), Err(401), "{value}");
        }
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let door = Door { node: NODE, token: "", address: "127.0.0.1:80".parse().unwrap(), uid: 1 };
        let headers =
            HeaderMap::from_iter([(HOST, "localhost".parse().unwrap()), (AUTHORIZATION, "Bearer ".parse().unwrap())]);
        assert_eq!(door.enter(tcp(), &Uri::from_static("/"), &headers).map_err(|e| e.code), Err(401));
    }

    #[test]
    fn the_kernel_vouches_on_the_unix_socket() {
        assert_eq!(enter(Peer::Unix { uid: 0 }, &[]), Ok(true));
        assert_eq!(enter(Peer::Unix { uid: 1000 }, &[("host", "anything")]), Ok(true));
        assert_eq!(enter(Peer::Unix { uid: 1001 }, &[]), Ok(false));
        assert_eq!(enter(Peer::Unix { uid: 1001 }, &[("authorization", "Bearer s3cret")]), Ok(true));
    }
}
