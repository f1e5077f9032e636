//! Why a configuration cannot be run with. Always the operator's to fix; no message holds a secret.

use crate::access::AllowListError;
use crate::clickhouse::endpoint::EndpointError;
use crate::limits::LimitError;
use crate::tls::TlsError;
use crate::topology::TopologyError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What is wrong with what was written.
#[derive(Debug)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text is no TOML, or a value is of a wrong type.
    Malformed {
        /// The file, when the text came from one.
        file: Option<PathBuf>,
        /// Line, from 1.
        line: usize,
        /// Key on that line.
        key: String,
        /// What the TOML reader says.
        message: String,
    },
    /// A key that does not exist.
    UnknownKey {
        /// The file, when the text came from one.
        file: Option<PathBuf>,
        /// Path of the key.
        key: String,
        /// Path of the known key most like it.
        nearest: Option<String>,
    },
    /// An environment variable cannot be what it stands for.
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with the value.
        why: String,
    },
    /// A limit is refused.
    Limit(LimitError),
    /// `--limit` or `RINGHOUSE_LIMITS` without `=`.
    LimitWithoutValue(String),
    /// The cores cannot be laid out.
    Topology(TopologyError),
    /// Two listeners, or one and the admin pages, are on one address.
    SameAddress(String, String, SocketAddr),
    /// A listener's name is not of plain letters.
    ListenerName(String),
    /// A listener without an address.
    ListenerAddress(String),
    /// A key of the section that means nothing to the listener's protocol: listener, key, protocol.
    ListenerKey(String, &'static str, &'static str),
    /// Users without a shared key.
    UsersWithoutSharedKey(String),
    /// A listener whose requests need a key, without a file of them.
    RequireKeyWithoutKeys(String),
    /// The list of addresses of a listener is none.
    Allow(String, AllowListError),
    /// Too many constant fields, or too long ones.
    ListenerFields {
        /// The listener.
        listener: String,
        /// Fields it may have.
        fields_max: usize,
        /// Bytes of a name.
        name_bytes_max: usize,
        /// Bytes of a value.
        value_bytes_max: usize,
    },
    /// A listener with some of the files TLS needs and not this one, by its key.
    ListenerTls(String, &'static str),
    /// The admin pages have some of the files TLS needs and not this one, by its key without `admin_`.
    AdminTls(&'static str),
    /// The main listener is told to speak something else.
    MainListener,
    /// A route that names no condition, one table that is none, or too many routes.
    Route {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An embedded ClickHouse and one elsewhere asked for in one layer, which this names.
    TwoClickHouses(&'static str),
    /// An address of ClickHouse is none. Without its text, which may hold a password.
    ClickHouse {
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        count: usize,
        /// What is wrong with it.
        error: EndpointError,
    },
    /// `clickhouse` is an empty list.
    NoClickHouse,
    /// Two addresses of one server, `host:port`.
    ClickHouseTwice(String),
    /// The addresses name two databases.
    ClickHouseDatabases(String, String),
    /// TLS with ClickHouse cannot be set up.
    ClickHouseTls(TlsError),
    /// A key that means something only for TLS beside addresses none of which is `tcps://`.
    ClickHouseTlsUnused(&'static str),
    /// `clickhouse_tls_cert` or `clickhouse_tls_key` without the other, which is named.
    ClickHouseIdentity(&'static str),
    /// A key that means something only beside `embedded`.
    NeedsEmbedded(&'static str),
    /// The embedded engine must listen on the native protocol.
    EmbeddedTcpPortZero,
    /// The embedded engine's ports are one.
    EmbeddedSamePort(u16),
    /// The password file cannot be read.
    PasswordFile {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `tables` is empty.
    NoTables,
    /// A table named twice.
    TableTwice(String),
    /// A table's name is not `table` or `database.table` of plain letters.
    TableName(String),
    /// A `[mapping.TABLE]` for a table not in `tables`.
    MappingOfNoTable {
        /// The table.
        table: String,
        /// The served table most like it.
        nearest: Option<String>,
    },
    /// The log filter cannot be read.
    LogLevel {
        /// The filter.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ConfigError {
    /// An error of the TOML reader, told by line and key. Its own text would show the whole line, which may hold a
    /// password.
    pub(crate) fn malformed(text: &str, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        // No further than a bare key goes: without a `=` the rest of the line would follow.
        let is_key = |letter: char| letter.is_ascii_alphanumeric() || "_-.[]".contains(letter);
        let key: String = text[line_start..]
            .trim_start_matches([' ', '\t'])
            .chars()
            .take_while(|c| is_key(*c))
            .collect();
        ConfigError::Malformed {
            file: None,
            line: text[..at].matches('\n').count() + 1,
            key,
            message: error.message().replace('\n', " "),
        }
    }

    /// Names the file a text came from.
    pub(super) fn in_file(mut self, path: &Path) -> ConfigError {
        if let ConfigError::Malformed { file, .. } | ConfigError::UnknownKey { file, .. } = &mut self {
            *file = Some(path.to_owned());
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_file = |f: &mut fmt::Formatter<'_>, file: &Option<PathBuf>| match file {
            Some(path) => write!(f, "{}: ", path.display()),
            None => Ok(()),
        };
        match self {
            ConfigError::File { path, source } => {
                write!(f, "cannot read the configuration {}: {source}", path.display())
            }
            ConfigError::Malformed {
                file,
                line,
                key,
                message,
            } => {
                in_file(f, file)?;
                write!(f, "line {line}, `{key}`: {message}")
            }
            ConfigError::UnknownKey { file, key, nearest } => {
                in_file(f, file)?;
                write!(f, "unknown key `{key}`")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => f.write_str("; `ringhouse check` prints every key"),
                }
            }
            ConfigError::Variable { variable, why } => write!(f, "{variable}: {why}"),
            ConfigError::Limit(error) => error.fmt(f),
            ConfigError::LimitWithoutValue(text) => {
                write!(
                    f,
                    "limit `{text}` has no value; write it as KEY=VALUE, like batch_age_ms=200"
                )
            }
            ConfigError::Topology(error) => error.fmt(f),
            ConfigError::SameAddress(one, other, address) => {
                write!(f, "{one} and {other} are both {address}; give each an address of its own")
            }
            ConfigError::ListenerName(name) => write!(
                f,
                "`{name}` is no name for a listener; use letters, digits, `_` and `-`"
            ),
            ConfigError::ListenerAddress(name) => {
                write!(f, "listener.{name} has no address; give it one like address = \"0.0.0.0:4318\"")
            }
            ConfigError::ListenerKey(name, key, protocol) => {
                write!(f, "listener.{name}: {key} means nothing to the protocol `{protocol}`")
            }
            ConfigError::UsersWithoutSharedKey(name) => {
                write!(f, "listener.{name}: users are let in with a shared_key only")
            }
            ConfigError::RequireKeyWithoutKeys(name) => write!(
                f,
                "listener.{name} has require_key = true, but there are no keys; name their file with keys_file"
            ),
            ConfigError::Allow(name, error) => write!(f, "listener.{name}: allow: {error}"),
            ConfigError::ListenerFields {
                listener,
                fields_max,
                name_bytes_max,
                value_bytes_max,
            } => write!(
                f,
                "listener.{listener}.fields: at most {fields_max}, with names of 1 to {name_bytes_max} bytes and values of at most \
                 {value_bytes_max}"
            ),
            ConfigError::ListenerTls(name, missing) => write!(
                f,
                "listener.{name} has no {missing}; TLS needs tls_cert and tls_key, two PEM files"
            ),
            ConfigError::AdminTls(missing) => write!(
                f,
                "there is no admin_{missing}; TLS for the admin pages needs admin_tls_cert and admin_tls_key, two PEM files"
            ),
            ConfigError::MainListener => {
                f.write_str("listener.http is the main listener and speaks HTTP; give another protocol a listener of another name")
            }
            ConfigError::Route { number, why } => write!(f, "route {number}: {why}"),
            ConfigError::TwoClickHouses(layer) => {
                write!(
                    f,
                    "{layer} asks for both `clickhouse` and `embedded`; choose the one that shall hold the rows"
                )
            }
            ConfigError::ClickHouse { count: 1, error, .. } => write!(f, "clickhouse: {error}"),
            ConfigError::ClickHouse { number, count, error } => write!(
                f,
                "clickhouse, address {number} of {count}: {error}; a comma separates two addresses, write one in a \
                 password as %2C"
            ),
            ConfigError::NoClickHouse => f.write_str("clickhouse must name at least one address"),
            ConfigError::ClickHouseTwice(authority) => write!(
                f,
                "clickhouse names {authority} twice; name each replica once, under one account"
            ),
            ConfigError::ClickHouseDatabases(first, other) => write!(
                f,
                "clickhouse names the databases `{first}` and `{other}`; replicas of one shard hold the same tables, so \
                 all addresses must name one database"
            ),
            ConfigError::ClickHouseTls(error) => write!(f, "clickhouse: {error}; clickhouse_ca names a file of authorities"),
            ConfigError::ClickHouseTlsUnused(key) => write!(
                f,
                "{key} means something only for an address that begins with tcps://; without it the connection is not \
                 encrypted"
            ),
            ConfigError::ClickHouseIdentity(missing) => write!(
                f,
                "clickhouse_tls_cert and clickhouse_tls_key belong together, and there is no {missing}"
            ),
            ConfigError::NeedsEmbedded(key) => {
                write!(f, "{key} means something only together with `embedded`")
            }
            ConfigError::EmbeddedTcpPortZero => {
                f.write_str("embedded_tcp_port must not be 0: rows go to the embedded engine through it")
            }
            ConfigError::EmbeddedSamePort(port) => {
                write!(
                    f,
                    "embedded_tcp_port and embedded_http_port are both {port}; they need two ports"
                )
            }
            ConfigError::PasswordFile { path, source } => {
                write!(
                    f,
                    "cannot read clickhouse_password_file {}: {source}",
                    path.display()
                )
            }
            ConfigError::NoTables => f.write_str("tables must name at least one table"),
            ConfigError::TableTwice(table) => write!(f, "tables names `{table}` twice"),
            ConfigError::TableName(table) => write!(
                f,
                "`{table}` is not a table's name like `otel_logs` or `database.table` (letters, digits, `_` and `-`)"
            ),
            ConfigError::MappingOfNoTable { table, nearest } => {
                write!(f, "mapping.{table} is for a table that `tables` does not name")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
                    None => Ok(()),
                }
            }
            ConfigError::LogLevel { text, why } => write!(f, "log_level = `{text}`: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<LimitError> for ConfigError {
    fn from(error: LimitError) -> Self {
        ConfigError::Limit(error)
    }
}

impl From<TopologyError> for ConfigError {
    fn from(error: TopologyError) -> Self {
        ConfigError::Topology(error)
    }
}
