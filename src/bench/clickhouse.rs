//! Asks ClickHouse what it has, over HTTP or its native protocol.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::admin::{ExchangeError, Request, exchange};
use crate::clickhouse::control::{self, ControlError};
use crate::clickhouse::endpoint::{Endpoint, EndpointError, Secret};

/// Port of the HTTP interface when the URL names none.
const HTTP_PORT: u16 = 8123;

/// Time ClickHouse may take to accept, and between two pieces of an answer: counting billions of rows takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ClickHouse that is asked, as `http://user:password@host:8123/database` or `tcp://...:9000/database`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouse {
    endpoint: Endpoint,
    is_http: bool,
}

impl FromStr for ClickHouse {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<ClickHouse, EndpointError> {
        let Some(rest) = text.strip_prefix("http://") else {
            let endpoint = text.parse()?;
            return Ok(ClickHouse {
                endpoint,
                is_http: false,
            });
        };
        let mut endpoint: Endpoint = format!("tcp://{rest}").parse()?;
        let location = rest.rsplit_once('@').map_or(rest, |(_, location)| location);
        let authority = location.split('/').next().unwrap_or(location);
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        if !has_port {
            endpoint.port = HTTP_PORT;
        }
        Ok(ClickHouse {
            endpoint,
            is_http: true,
        })
    }
}

impl fmt::Display for ClickHouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let native = self.endpoint.to_string();
        let shown = if self.is_http {
            native.replacen("tcp", "http", 1)
        } else {
            native
        };
        f.write_str(&shown)
    }
}

impl ClickHouse {
    /// The HTTP interface of an embedded engine.
    pub fn local_http(port: u16) -> ClickHouse {
        ClickHouse {
            endpoint: Endpoint::local(port),
            is_http: true,
        }
    }

    /// The same with a password from elsewhere.
    pub fn with_password(mut self, password: &str) -> ClickHouse {
        self.endpoint.password = Secret::new(password);
        self
    }

    /// Database of tables that are named without one.
    pub fn database(&self) -> &str {
        &self.endpoint.database
    }

    /// Where its HTTP interface listens.
    ///
    /// # Errors
    /// It has no address.
    pub fn http_address(&self) -> Result<SocketAddr, AskError> {
        resolve(&self.endpoint.authority())
    }

    /// Runs a SELECT of `N` columns, each of them a String that needs no escaping. Blocks the thread.
    ///
    /// # Errors
    /// ClickHouse does not answer, or refuses.
    pub fn rows<const N: usize>(&self, sql: &str) -> Result<Vec<[String; N]>, AskError> {
        if !self.is_http {
            return control::ask(&self.endpoint, PATIENCE, sql).map_err(AskError::Native);
        }
        let body = self.post(&format!("{sql} FORMAT TabSeparated"))?;
        body.lines().map(fields).collect()
    }

    /// Runs a SELECT of one number, as a String. Blocks the thread.
    ///
    /// # Errors
    /// ClickHouse does not answer, or refuses.
    pub fn number(&self, sql: &str) -> Result<u64, AskError> {
        let rows = self.rows::<1>(sql)?;
        let number = rows.first().and_then(|[text]| text.parse().ok());
        number.ok_or_else(|| AskError::Refused(format!("no number: {sql}")))
    }

    /// Runs a statement without a result. Blocks the thread.
    ///
    /// # Errors
    /// ClickHouse does not answer, or refuses.
    pub fn run(&self, sql: &str) -> Result<(), AskError> {
        if self.is_http {
            return self.post(sql).map(drop);
        }
        control::ask::<0>(&self.endpoint, PATIENCE, sql)
            .map(drop)
            .map_err(AskError::Native)
    }

    fn post(&self, sql: &str) -> Result<String, AskError> {
        let database = format!("/?database={}", self.database());
        let headers = [
            ("X-ClickHouse-User", self.endpoint.user.as_str()),
            ("X-ClickHouse-Key", self.endpoint.password.expose()),
        ];
        let authority = self.endpoint.authority();
        let request = Request {
            method: "POST",
            host: &authority,
            path: &database,
            headers: &headers,
            body: sql.as_bytes(),
        };
        let reply = exchange(self.http_address()?, &request, PATIENCE).map_err(AskError::Http)?;
        if reply.status != 200 {
            let said: String = reply.body.trim().chars().take(300).collect();
            return Err(AskError::Refused(said));
        }
        Ok(reply.body)
    }
}

fn fields<const N: usize>(line: &str) -> Result<[String; N], AskError> {
    let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
    fields
        .try_into()
        .map_err(|_| AskError::Refused(format!("an answer of another form: {line}")))
}

fn resolve(authority: &str) -> Result<SocketAddr, AskError> {
    let failed = |error| AskError::Http(ExchangeError::Io(error));
    let mut addresses = authority.to_socket_addrs().map_err(failed)?;
    addresses
        .next()
        .ok_or_else(|| AskError::Refused(format!("{authority} has no address")))
}

/// Why ClickHouse did not tell.
#[derive(Debug)]
pub enum AskError {
    /// No connection or no answer over HTTP.
    Http(ExchangeError),
    /// The same, or a refusal, over the native protocol.
    Native(ControlError),
    /// It answered with an exception.
    Refused(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Http(error) => write!(f, "ClickHouse does not answer: {error}"),
            AskError::Native(error) => error.fmt(f),
            AskError::Refused(said) => write!(f, "ClickHouse refused: {said}"),
        }
    }
}

impl std::error::Error for AskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_both_protocols_and_knows_their_ports() {
        let shown = |text: &str| text.parse::<ClickHouse>().map(|c| c.to_string());
        assert_eq!(shown("http://h"), Ok("http://h:8123".into()));
        assert_eq!(shown("http://u:p@h:1/d"), Ok("http://u@h:1/d".into()));
        assert_eq!(shown("http://[::1]/"), Ok("http://[::1]:8123".into()));
        assert_eq!(shown("tcp://h"), Ok("tcp://h:9000".into()));
        assert_eq!(shown("h:1"), Err(EndpointError::Scheme));
    }
}
