//! Listeners: what is spoken where, and what becomes of the rows that come in there.

use super::{ConfigError, Secret, is_identifier};
use crate::access::AllowList;
use crate::ack::AckLevel;
use crate::tls::{self, ServerFiles};
use crate::zone::Zone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The listener that `listen` gives an address to, and that is always there.
pub const MAIN_LISTENER: &str = "http";

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP, and every dialect that is spoken over it.
    #[default]
    Http,
    /// Syslog over TCP.
    Syslog,
    /// Syslog over UDP.
    SyslogUdp,
    /// Fluent Forward.
    Forward,
    /// A row in JSON a line, over TCP.
    Json,
}

impl Protocol {
    /// All of them, by the names they are written with.
    pub const NAMES: &'static [(&'static str, Protocol)] = &[
        ("http", Protocol::Http),
        ("syslog", Protocol::Syslog),
        ("syslog-udp", Protocol::SyslogUdp),
        ("forward", Protocol::Forward),
        ("json", Protocol::Json),
    ];

    /// Whether its clients can send a token.
    pub fn has_token(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Json)
    }

    /// Whether it comes in datagrams; UDP's ports are others than TCP's.
    pub fn is_udp(self) -> bool {
        self == Protocol::SyslogUdp
    }

    /// What a TLS listener offers by ALPN, the preferred one first; with none, ALPN is not answered.
    pub fn alpn(self) -> &'static [&'static str] {
        match self {
            Protocol::Http => tls::HTTP_2,
            Protocol::Syslog | Protocol::SyslogUdp | Protocol::Forward | Protocol::Json => &[],
        }
    }

    /// Its name as it is written.
    pub fn name(self) -> &'static str {
        let (name, _) = Self::NAMES
            .iter()
            .find(|(_, protocol)| *protocol == self)
            .expect("every protocol has a name");
        name
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, protocol)| *protocol).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "the protocol `{text}` is not spoken here; there are {}",
                names.join(", ")
            )
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `[listener.NAME]` section as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ListenerWritten {
    /// What is spoken there; HTTP when absent.
    pub protocol: Option<Protocol>,
    /// Where; only the main listener has one without being told.
    pub address: Option<SocketAddr>,
    /// Table of rows that name none, as `table` or `database.table`.
    pub table: Option<String>,
    /// Ack level of requests that name none.
    pub ack: Option<AckLevel>,
    /// Constant fields of every row that comes in here; they replace the row's own of the same name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Forward: the key that clients must know.
    pub shared_key: Option<Secret>,
    /// Forward: passwords of the users that are let in, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, Secret>,
    /// Whether requests need a key; they do when there is a key file.
    pub require_key: Option<bool>,
    /// Networks and addresses requests are taken from; all when absent.
    pub allow: Option<Vec<String>>,
    /// Connections come from a proxy that sends a PROXY protocol header first.
    pub proxy_protocol: Option<bool>,
    /// Syslog: the zone of times that name none (`Europe/Berlin`, `+02:00`); UTC when absent.
    pub timezone: Option<Zone>,
    /// Certificate chain (PEM): the listener speaks TLS.
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    pub tls_key: Option<PathBuf>,
    /// Authorities one of which every client's certificate must be of (PEM).
    pub tls_client_ca: Option<PathBuf>,
}

impl ListenerWritten {
    /// Every key of the section.
    pub const KEYS: &'static [&'static str] = &[
        "protocol",
        "address",
        "table",
        "ack",
        "fields",
        "shared_key",
        "users",
        "require_key",
        "allow",
        "proxy_protocol",
        "timezone",
        "tls_cert",
        "tls_key",
        "tls_client_ca",
    ];

    /// This layer's listener over the `lower` one of the same name.
    pub fn over(self, lower: ListenerWritten) -> ListenerWritten {
        ListenerWritten {
            protocol: self.protocol.or(lower.protocol),
            address: self.address.or(lower.address),
            table: self.table.or(lower.table),
            ack: self.ack.or(lower.ack),
            fields: if self.fields.is_empty() {
                lower.fields
            } else {
                self.fields
            },
            shared_key: self.shared_key.or(lower.shared_key),
            users: if self.users.is_empty() {
                lower.users
            } else {
                self.users
            },
            require_key: self.require_key.or(lower.require_key),
            allow: self.allow.or(lower.allow),
            proxy_protocol: self.proxy_protocol.or(lower.proxy_protocol),
            timezone: self.timezone.or(lower.timezone),
            tls_cert: self.tls_cert.or(lower.tls_cert),
            tls_key: self.tls_key.or(lower.tls_key),
            tls_client_ca: self.tls_client_ca.or(lower.tls_client_ca),
        }
    }

    /// The listener as it is run.
    ///
    /// # Errors
    /// No address, a name that is none, or half of what TLS needs.
    pub(super) fn resolve(
        self,
        name: String,
        default_ack: AckLevel,
        has_keys: bool,
    ) -> Result<ListenerSettings, ConfigError> {
        if !is_identifier(&name) {
            return Err(ConfigError::ListenerName(name));
        }
        if let Some(table) = &self.table {
            super::split_table_name(table)?;
        }
        check_fields(&name, &self.fields)?;
        let Some(address) = self.address else {
            return Err(ConfigError::ListenerAddress(name));
        };
        let protocol = self.protocol.unwrap_or_default();
        let is_forward = protocol == Protocol::Forward;
        // A certificate can stand for a key where there is no place for a token.
        let brings_key = protocol.has_token() || self.tls_client_ca.is_some();
        let meaningless = [
            ("shared_key", self.shared_key.is_some() && !is_forward),
            ("users", !self.users.is_empty() && !is_forward),
            ("require_key", self.require_key == Some(true) && !brings_key),
            (
                "proxy_protocol",
                self.proxy_protocol == Some(true) && protocol.is_udp(),
            ),
            (
                "timezone",
                self.timezone.is_some() && !matches!(protocol, Protocol::Syslog | Protocol::SyslogUdp),
            ),
            ("tls_cert", self.tls_cert.is_some() && protocol.is_udp()),
        ];
        if let Some((key, _)) = meaningless.into_iter().find(|(_, is_set)| *is_set) {
            return Err(ConfigError::ListenerKey(name, key, protocol.name()));
        }
        // The handshake asks for the key in any case: a password without one would be no secret at all.
        if self.shared_key.is_none() && !self.users.is_empty() {
            return Err(ConfigError::UsersWithoutSharedKey(name));
        }
        if self.require_key == Some(true) && !has_keys {
            return Err(ConfigError::RequireKeyWithoutKeys(name));
        }
        let allow = self.allow.as_deref().map(AllowList::parse).transpose();
        let allow = allow.map_err(|error| ConfigError::Allow(name.clone(), error))?;
        let tls = match server_files(self.tls_cert, self.tls_key, self.tls_client_ca) {
            Ok(tls) => tls,
            Err(missing) => return Err(ConfigError::ListenerTls(name, missing)),
        };
        Ok(ListenerSettings {
            name,
            require_key: self.require_key.unwrap_or(has_keys && brings_key),
            allow,
            proxy_protocol: self.proxy_protocol.unwrap_or(false),
            protocol,
            address,
            table: self.table,
            ack: self.ack.unwrap_or(default_ack),
            fields: self.fields,
            shared_key: self.shared_key,
            users: self.users,
            timezone: self.timezone.unwrap_or_default(),
            tls,
        })
    }
}

/// Constant fields a listener may have, and bytes of a name and of a value.
const FIELDS_MAX: usize = 64;
const FIELD_NAME_BYTES_MAX: usize = 256;
const FIELD_VALUE_BYTES_MAX: usize = 4096;

fn check_fields(listener: &str, fields: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let is_bounded = |(name, value): (&String, &String)| {
        (1..=FIELD_NAME_BYTES_MAX).contains(&name.len()) && value.len() <= FIELD_VALUE_BYTES_MAX
    };
    if fields.len() <= FIELDS_MAX && fields.iter().all(is_bounded) {
        return Ok(());
    }
    Err(ConfigError::ListenerFields {
        listener: listener.to_owned(),
        fields_max: FIELDS_MAX,
        name_bytes_max: FIELD_NAME_BYTES_MAX,
        value_bytes_max: FIELD_VALUE_BYTES_MAX,
    })
}

/// What TLS needs, all of it or nothing.
///
/// # Errors
/// The key of what is missing.
pub(super) fn server_files(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<ServerFiles>, &'static str> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(ServerFiles {
            certificate,
            key,
            client_ca,
        })),
        (None, None) if client_ca.is_none() => Ok(None),
        (None, _) => Err("tls_cert"),
        (Some(_), None) => Err("tls_key"),
    }
}

/// One listener as it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name.
    pub name: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where; every ingest core listens there.
    pub address: SocketAddr,
    /// Table of rows that name none, as `table` or `database.table`; else the default table.
    pub table: Option<String>,
    /// Ack level of requests that name none.
    pub ack: AckLevel,
    /// Constant fields of every row.
    pub fields: BTreeMap<String, String>,
    /// Forward: the key that clients must know; without one anyone is let in.
    pub shared_key: Option<Secret>,
    /// Forward: passwords by user; without any the key alone is asked for.
    pub users: BTreeMap<String, Secret>,
    /// Requests need a key.
    pub require_key: bool,
    /// Where requests are taken from; everywhere when absent.
    pub allow: Option<AllowList>,
    /// Each connection begins with a PROXY protocol header, which says whose it is.
    pub proxy_protocol: bool,
    /// Syslog: the zone of times that name none.
    pub timezone: Zone,
    /// What it proves itself with; `None` speaks without TLS.
    pub tls: Option<ServerFiles>,
}

impl ListenerSettings {
    /// What its address is printed with, such as `http` or `https`.
    pub fn scheme(&self) -> String {
        match (self.protocol, &self.tls) {
            (protocol, None) => protocol.to_string(),
            (Protocol::Http, Some(_)) => "https".to_owned(),
            (protocol, Some(_)) => format!("{protocol}+tls"),
        }
    }
}

impl From<&ListenerSettings> for ListenerWritten {
    fn from(settings: &ListenerSettings) -> ListenerWritten {
        ListenerWritten {
            protocol: Some(settings.protocol),
            address: Some(settings.address),
            table: settings.table.clone(),
            ack: Some(settings.ack),
            fields: settings.fields.clone(),
            shared_key: settings.shared_key.clone(),
            users: settings.users.clone(),
            require_key: Some(settings.require_key),
            allow: settings.allow.as_ref().map(AllowList::to_texts),
            proxy_protocol: Some(settings.proxy_protocol),
            timezone: (settings.timezone != Zone::UTC).then_some(settings.timezone),
            tls_cert: settings.tls.as_ref().map(|tls| tls.certificate.clone()),
            tls_key: settings.tls.as_ref().map(|tls| tls.key.clone()),
            tls_client_ca: settings.tls.as_ref().and_then(|tls| tls.client_ca.clone()),
        }
    }
}

/// `NAME=PROTOCOL://ADDRESS`, as a flag or a variable names a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedListener {
    /// Its name.
    pub name: String,
    /// Protocol and address.
    pub listener: ListenerWritten,
}

impl FromStr for NamedListener {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedListener, String> {
        let form = "a listener is written NAME=PROTOCOL://ADDRESS, like `otlp=http://0.0.0.0:4318`";
        let (name, rest) = text.split_once('=').ok_or(form)?;
        let (protocol, address) = rest.split_once("://").ok_or(form)?;
        Ok(NamedListener {
            name: name.to_owned(),
            listener: ListenerWritten {
                protocol: Some(protocol.parse()?),
                address: Some(
                    address
                        .parse()
                        .map_err(|_| format!("`{address}` is no address like 127.0.0.1:4318"))?,
                ),
                ..ListenerWritten::default()
            },
        })
    }
}

/// The listeners of two layers, those of the upper one over those of the lower.
pub(super) fn layered(
    upper: BTreeMap<String, ListenerWritten>,
    mut lower: BTreeMap<String, ListenerWritten>,
) -> BTreeMap<String, ListenerWritten> {
    for (name, listener) in upper {
        let below = lower.remove(&name).unwrap_or_default();
        lower.insert(name, listener.over(below));
    }
    lower
}

/// The main listener first, then the others by name.
///
/// # Errors
/// One cannot be run, or two have one address.
pub(super) fn resolve(
    mut written: BTreeMap<String, ListenerWritten>,
    listen: Option<SocketAddr>,
    admin: SocketAddr,
    default_ack: AckLevel,
    has_keys: bool,
) -> Result<Vec<ListenerSettings>, ConfigError> {
    let mut main = written.remove(MAIN_LISTENER).unwrap_or_default();
    if main.protocol.is_some_and(|protocol| protocol != Protocol::Http) {
        return Err(ConfigError::MainListener);
    }
    main.address = listen
        .or(main.address)
        .or(Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
    let mut listeners = vec![main.resolve(MAIN_LISTENER.to_owned(), default_ack, has_keys)?];
    for (name, listener) in written {
        listeners.push(listener.resolve(name, default_ack, has_keys)?);
    }
    // Port 0 is a port of the system's choice: two of them never collide.
    for (at, listener) in listeners.iter().enumerate() {
        let address = listener.address;
        if address.port() == 0 {
            continue;
        }
        if address == admin && !listener.protocol.is_udp() {
            return Err(ConfigError::SameAddress(
                "admin".to_owned(),
                listener.name.clone(),
                address,
            ));
        }
        let is_same = |other: &&ListenerSettings| {
            other.address == address && other.protocol.is_udp() == listener.protocol.is_udp()
        };
        if let Some(other) = listeners[..at].iter().find(is_same) {
            return Err(ConfigError::SameAddress(
                other.name.clone(),
                listener.name.clone(),
                address,
            ));
        }
    }
    Ok(listeners)
}
