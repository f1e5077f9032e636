//! A running server as commands name it: where it is, how it is trusted, and the token to show there.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use super::client::{self, ExchangeError, Reply, Request};
use crate::access::Token;
use crate::tls::Trust;

/// `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port.
    authority: String,
    /// Who may vouch for the server, and the certificate to show there; `None` is plain HTTP.
    tls: Option<Trust>,
    /// Of the key to come under. Boxed, for a target is part of errors.
    token: Option<Box<Token>>,
}

impl Target {
    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`; the system's authorities vouch for the latter.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let (tls, port, authority) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(authority), _) => (None, 80, authority),
            (_, Some(authority)) => (Some(Trust::system()), 443, authority),
            (None, None) => return Err(TargetError),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(allowed) {
            return Err(TargetError);
        }
        let written = authority.rsplit_once(':').map(|(_, port)| port);
        let authority = match written {
            Some(port) if !port.ends_with(']') => {
                port.parse::<u16>().map_err(|_| TargetError)?;
                authority.to_owned()
            }
            _ => format!("{authority}:{port}"),
        };
        Ok(Target {
            authority,
            tls,
            token: None,
        })
    }

    /// The same place, with the token of a key to show there.
    pub fn with_token(self, token: Option<Token>) -> Target {
        Target {
            token: token.map(Box::new),
            ..self
        }
    }

    /// The same place, trusted by `trust` if it is reached through TLS.
    pub fn with_trust(self, trust: &Trust) -> Target {
        Target {
            tls: self.tls.map(|_| trust.clone()),
            ..self
        }
    }

    /// Whether it is reached through TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The first of its addresses. Blocks while the name is looked up.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let mut addresses = self.authority.to_socket_addrs()?;
        addresses.next().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Sends a request there, to an address of its own, as [`client::exchange`] does.
    ///
    /// # Errors
    /// Those of [`client::exchange`]; it does not prove to be the server it is named as.
    pub fn ask(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        patience: Duration,
    ) -> Result<Reply, ExchangeError> {
        let authorization = self.token.as_deref().map(Token::authorization);
        let shown = authorization.as_deref().map(|value| ("Authorization", value));
        let headers: Vec<_> = headers.iter().copied().chain(shown).collect();
        let request = Request {
            method,
            host: &self.authority,
            path,
            headers: &headers,
            body,
        };
        match &self.tls {
            None => client::exchange(address, &request, patience),
            Some(trust) => client::exchange_within_tls(address, trust, self.host(), &request, patience),
        }
    }

    /// The host a certificate must be for.
    fn host(&self) -> &str {
        let (host, _) = self.authority.rsplit_once(':').expect("it was made with a port");
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target {
            authority: address.to_string(),
            tls: None,
            token: None,
        }
    }
}

/// Of plain HTTP alone, for those who speak nothing else; [`Target::parse`] takes both.
impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        match Target::parse(text) {
            Ok(target) if target.is_tls() => Err(TargetError),
            parsed => parsed,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// The text names no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetError;

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server is written http://HOST:PORT, or https://HOST:PORT where TLS is spoken")
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_an_address_of_http_and_nothing_else() {
        for (text, printed, host) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1"),
            ("http://logs.example/", "http://logs.example:80", "logs.example"),
            ("https://logs.example", "https://logs.example:443", "logs.example"),
            (
                "https://logs.example:8443/",
                "https://logs.example:8443",
                "logs.example",
            ),
            ("http://[::1]:8080", "http://[::1]:8080", "::1"),
            ("https://[::1]", "https://[::1]:443", "::1"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.to_string().as_str(), target.host()), (printed, host));
            assert_eq!(target.is_tls(), text.starts_with("https"), "{text}");
            assert_eq!(text.parse::<Target>().is_ok(), !target.is_tls(), "{text}");
        }
        for text in [
            "127.0.0.1:8080",
            "ftp://a:1",
            "http://",
            "https://",
            "http://a:1/ingest",
            "http://u@a:1",
            "http://a:b",
            "http://a:70000",
            "http://a b",
            "http://a\r\nX: y",
        ] {
            assert_eq!(Target::parse(text), Err(TargetError), "{text:?}");
        }
    }
}
