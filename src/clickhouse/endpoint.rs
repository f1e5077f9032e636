//! Where ClickHouse is and who we are there: `tcp://user:password@host:port/database`, `tcps://` through TLS.

use std::fmt;
use std::str::FromStr;

use crate::tls::Trust;

/// The native protocol's port when the address names none.
const PORT_DEFAULT: u16 = 9000;

/// The same inside TLS (`tcp_port_secure`).
const TLS_PORT_DEFAULT: u16 = 9440;

/// A password: kept out of every log line, panic message and status page by having no way to print itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

/// One ClickHouse server's native-protocol address, with the account and the database to use there.
///
/// `Display` prints it as an address again, without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port of the native protocol.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Its password, empty for none.
    pub password: Secret,
    /// Database of tables that are named without one.
    pub database: String,
    /// Who may vouch for the server; `None` speaks to it without TLS.
    pub tls: Option<Trust>,
}

impl Endpoint {
    /// The embedded engine on this machine: the `default` user without a password, database `default`.
    pub fn local(port: u16) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            user: "default".to_owned(),
            password: Secret::default(),
            database: "default".to_owned(),
            tls: None,
        }
    }

    /// `host:port` as the standard library's address functions take it (IPv6 in brackets).
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "tcps://" } else { "tcp://" })?;
        if self.user != "default" {
            write!(f, "{}@", encode(&self.user))?;
        }
        write!(f, "{}", self.authority())?;
        if self.database != "default" {
            write!(f, "/{}", encode(&self.database))?;
        }
        Ok(())
    }
}

/// Why a text is not an endpoint. No variant carries the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointError {
    /// It begins with neither `tcp://` nor `tcps://`.
    Scheme,
    /// It begins with `http://` or `https://`: the port of the HTTP interface speaks another protocol.
    Http,
    /// It names TLS by another word than `tcps://` (`tls://`, `clickhouses://`).
    Tls,
    /// Nothing stands where the host should.
    HostMissing,
    /// The host holds a character no host has, or an IPv6 address is not closed by `]`.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
    PercentEncoding,
    /// More than one path segment follows the host.
    Database,
    /// `?` or `#`: settings belong into the configuration file.
    Query,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointError::Scheme => {
                "the ClickHouse address must look like tcp://user:password@host:9000/database"
            }
            EndpointError::Http => {
                "the ClickHouse address must be the native protocol's (tcp://host:9000), not the HTTP interface's"
            }
            EndpointError::Tls => "write the address of a ClickHouse that speaks TLS as tcps://user:password@host:9440/database",
            EndpointError::HostMissing => "the ClickHouse address names no host",
            EndpointError::Host => "the host in the ClickHouse address is not a host name or address",
            EndpointError::Port => "the port in the ClickHouse address is not a number from 1 to 65535",
            EndpointError::PercentEncoding => {
                "the ClickHouse address has a % that is not followed by two hexadecimal digits of UTF-8 text; write % as %25"
            }
            EndpointError::Database => "the ClickHouse address has more than a database after the host",
            EndpointError::Query => {
                "the ClickHouse address takes no ? or # part; write them as %3F and %23 inside a name or password"
            }
        })
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Parses `tcp://[user[:password]@]host[:port][/database]`; user, password and database are percent-decoded.
    ///
    /// Defaults are ClickHouse's own: user `default`, no password, port 9000, database `default`. The last `@` ends
    /// the account, so that an unencoded `@` in a password still works. With `tcps://` the port is 9440, and the system's
    /// authorities are trusted.
    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let (tls, rest) = match text.split_once("://") {
            Some(("tcp" | "clickhouse", rest)) => (None, rest),
            Some(("tcps", rest)) => (Some(Trust::system()), rest),
            Some(("http" | "https", _)) => return Err(EndpointError::Http),
            Some(("tls" | "clickhouses", _)) => return Err(EndpointError::Tls),
            _ => return Err(EndpointError::Scheme),
        };
        let (account, location) = match rest.rsplit_once('@') {
            Some((account, location)) => (Some(account), location),
            None => (None, rest),
        };
        if rest.contains(['?', '#']) {
            return Err(EndpointError::Query);
        }
        let (user, password) = match account {
            Some(account) => account.split_once(':').unwrap_or((account, "")),
            None => ("", ""),
        };
        let (authority, database) = location.split_once('/').unwrap_or((location, ""));
        let database = database.strip_suffix('/').unwrap_or(database);
        if database.contains('/') {
            return Err(EndpointError::Database);
        }
        let (host, port) = split_authority(authority)?;
        let usual_port = if tls.is_some() {
            TLS_PORT_DEFAULT
        } else {
            PORT_DEFAULT
        };
        Ok(Endpoint {
            host: host.to_owned(),
            port: port.unwrap_or(usual_port),
            user: or_default(decode(user)?),
            password: Secret(decode(password)?),
            database: or_default(decode(database)?),
            tls,
        })
    }
}

fn or_default(text: String) -> String {
    if text.is_empty() {
        "default".to_owned()
    } else {
        text
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), EndpointError> {
    let (host, port) = if let Some(inside) = authority.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(EndpointError::Host)?;
        host.parse::<std::net::Ipv6Addr>()
            .map_err(|_| EndpointError::Host)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(EndpointError::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err(EndpointError::HostMissing);
    }
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(known) {
        return Err(EndpointError::Host);
    }
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return Err(EndpointError::Port),
        },
    };
    Ok((host, port))
}

fn decode(text: &str) -> Result<String, EndpointError> {
    let digit = |b: Option<u8>| {
        b.and_then(|b| (b as char).to_digit(16))
            .ok_or(EndpointError::PercentEncoding)
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| EndpointError::PercentEncoding)
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Endpoint {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn accepts_every_part_and_decodes_it() {
        let e = parse("tcp://log%20writer:p%40ss%3A%2F@ch.example.org:9440/app%5Flogs");
        assert_eq!(e.host, "ch.example.org");
        assert_eq!(e.port, 9440);
        assert_eq!(e.user, "log writer");
        assert_eq!(e.password.expose(), "p@ss:/");
        assert_eq!(e.database, "app_logs");
    }

    #[test]
    fn fills_in_clickhouse_defaults() {
        assert_eq!(
            parse("tcp://localhost"),
            Endpoint {
                host: "localhost".into(),
                ..Endpoint::local(9000)
            }
        );
        assert_eq!(parse("tcp://127.0.0.1:9000/"), Endpoint::local(9000));
        assert_eq!(parse("tcp://:pw@127.0.0.1").user, "default");
    }

    #[test]
    fn accepts_ipv6_with_and_without_a_port() {
        assert_eq!(parse("tcp://[::1]").authority(), "[::1]:9000");
        assert_eq!(parse("tcp://u@[fe80::1]:9001/d").authority(), "[fe80::1]:9001");
    }

    #[test]
    fn a_tcps_address_is_one_of_tls_and_has_its_port() {
        let e = parse("tcps://u:p@h/d");
        assert_eq!((e.port, &e.tls), (9440, &Some(Trust::system())));
        assert_eq!(e.to_string(), "tcps://u@h:9440/d");
        assert_eq!(parse("tcps://[::1]:9000").authority(), "[::1]:9000");
        let plain = parse("tcp://u:p@h:9440/d");
        assert_eq!(plain.tls, None);
        assert_ne!(e, plain);
    }

    #[test]
    fn accepts_unencoded_colons_and_ats_in_a_password() {
        assert_eq!(parse("tcp://u:a:b@c@host").password.expose(), "a:b@c");
    }

    #[test]
    fn rejects_each_mistake_with_its_own_reason() {
        let cases = [
            ("localhost:9000", EndpointError::Scheme),
            ("http://localhost:8123", EndpointError::Http),
            ("tls://localhost:9440", EndpointError::Tls),
            ("tcp://", EndpointError::HostMissing),
            ("tcp://user@:9000", EndpointError::HostMissing),
            ("tcp://ho st", EndpointError::Host),
            ("tcp://[::1", EndpointError::Host),
            ("tcp://[nonsense]", EndpointError::Host),
            ("tcp://[::1]9000", EndpointError::Host),
            ("tcp://h:", EndpointError::Port),
            ("tcp://h:0", EndpointError::Port),
            ("tcp://h:+1", EndpointError::Port),
            ("tcp://h:65536", EndpointError::Port),
            ("tcp://u:%zz@h", EndpointError::PercentEncoding),
            ("tcp://u:%4@h", EndpointError::PercentEncoding),
            ("tcp://u:%ff@h", EndpointError::PercentEncoding),
            ("tcp://h/a/b", EndpointError::Database),
            ("tcp://h/a?compression=lz4", EndpointError::Query),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Endpoint>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn never_prints_the_password() {
        let e = parse("tcp://u:hunter2@h/d");
        assert_eq!(e.to_string(), "tcp://u@h:9000/d");
        assert!(!format!("{e:?}").contains("hunter2"));
        assert!(!format!("{:?}", e.password).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(user in "\\PC{1,12}", password in "\\PC{0,12}", database in "\\PC{1,12}") {
            let text = format!("tcp://{}:{}@h:1/{}", encode(&user), encode(&password), encode(&database));
            let e = parse(&text);
            prop_assert_eq!(e.user, user);
            prop_assert_eq!(e.password.expose(), password);
            prop_assert_eq!(e.database, database);
        }

        #[test]
        fn no_text_panics(text in "(tcps?://)?\\PC{0,40}") {
            let _ = text.parse::<Endpoint>();
        }
    }
}
