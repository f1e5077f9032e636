//! One layer of configuration as written: every choice may be left open.

use super::listener::{self, ListenerSettings, ListenerWritten, NamedListener};
use super::{ClickHouse, ConfigError, Secret, Settings, Urls};
use crate::ack::AckLevel;
use crate::limits::{Limits, LimitsWritten, nearest};
use crate::topology::CoreChoice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What one source says: the file, the environment or the flags. Field names are the file's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Written {
    /// The file that lies below; no key of the file itself.
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address rows are posted to.
    pub listen: Option<SocketAddr>,
    /// Listeners by name; the main one is `http`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listener: BTreeMap<String, ListenerWritten>,
    /// Which rows go to another table than the listener's: the first that matches. The layers' routes do not mix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteConfig>,
    /// Address of the admin pages.
    pub admin: Option<SocketAddr>,
    /// Whether the admin pages need a key; they do unless they are on loopback.
    pub admin_require_key: Option<bool>,
    /// File of the keys under which requests are taken.
    pub keys_file: Option<PathBuf>,
    /// Certificate chain (PEM) of the admin pages: they are shown through TLS.
    pub admin_tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    pub admin_tls_key: Option<PathBuf>,
    /// Authorities one of which must vouch for whoever reads the admin pages (PEM).
    pub admin_tls_client_ca: Option<PathBuf>,
    /// URLs of ClickHouse: the replicas of one shard.
    pub clickhouse: Option<Urls>,
    /// Password of ClickHouse; environment only, a file would be copied around with it.
    #[serde(skip)]
    pub clickhouse_password: Option<Secret>,
    /// File that holds nothing but the password.
    pub clickhouse_password_file: Option<PathBuf>,
    /// File of the authorities that vouch for a ClickHouse reached through TLS.
    pub clickhouse_ca: Option<PathBuf>,
    /// Certificate chain (PEM) to show to a ClickHouse that asks for one.
    pub clickhouse_tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    pub clickhouse_tls_key: Option<PathBuf>,
    /// Run a ClickHouse of our own.
    pub embedded: Option<bool>,
    /// Its port for the native protocol.
    pub embedded_tcp_port: Option<u16>,
    /// Its port for HTTP, 0 for none.
    pub embedded_http_port: Option<u16>,
    /// Create the default table when it does not exist.
    pub create_tables: Option<bool>,
    /// Tables rows may go into; the first is the default one.
    pub tables: Option<Vec<String>>,
    /// Directory of the embedded engine's data.
    pub data_dir: Option<PathBuf>,
    /// Ingest cores.
    pub ingest_cores: Option<CoreChoice>,
    /// CPU of the writer core.
    pub writer_core: Option<usize>,
    /// Default ack level.
    pub ack: Option<AckLevel>,
    /// Filter of the server's own log.
    pub log_level: Option<String>,
    /// Form of the server's own log.
    pub log_format: Option<LogFormat>,
    /// Bounds.
    pub limits: LimitsWritten,
    /// Names beyond the columns' own, by table as in `tables`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mapping: BTreeMap<String, TableConfig>,
}

/// The `[mapping.TABLE]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct TableConfig {
    /// Further keys of rows, and the column each goes to.
    pub columns: BTreeMap<String, String>,
    /// Column unknown keys go to: a Map or JSON column.
    pub overflow: Option<String>,
}

/// One `[[route]]`: every condition it names must hold. A pattern is a text in which `*` stands for any text and `?` for any
/// one character.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RouteConfig {
    /// Name of a listener.
    pub listener: Option<String>,
    /// Pattern of the URL's path.
    pub path: Option<String>,
    /// Patterns of header values, by the header's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// Pattern of the index a row names (Elasticsearch, Splunk).
    pub index: Option<String>,
    /// Patterns of stream labels (Loki).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub label: BTreeMap<String, String>,
    /// The table, as `table` or `database.table`.
    pub table: String,
}

impl RouteConfig {
    /// Every key of the section.
    pub const KEYS: &'static [&'static str] = &["listener", "path", "header", "index", "label", "table"];

    /// Whether it can be followed.
    pub(super) fn check(&self, at: usize, listeners: &[ListenerSettings]) -> Result<(), String> {
        if at >= ROUTES_MAX {
            return Err(format!("there may be {ROUTES_MAX} routes"));
        }
        super::split_table_name(&self.table).map_err(|error| error.to_string())?;
        let bare = RouteConfig {
            table: self.table.clone(),
            ..RouteConfig::default()
        };
        if *self == bare {
            return Err("it has no condition; the default table is the first of `tables`".to_owned());
        }
        match &self.listener {
            Some(name) if !listeners.iter().any(|listener| listener.name == *name) => {
                Err(format!("there is no listener `{name}`"))
            }
            _ => Ok(()),
        }
    }
}

/// Routes there may be: a bit each.
pub const ROUTES_MAX: usize = 64;

/// Form of the server's own log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text with `key=value` fields.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Written {
    /// Every key of the file's top level.
    pub const KEYS: &'static [&'static str] = &[
        "listen",
        "listener",
        "route",
        "admin",
        "admin_require_key",
        "keys_file",
        "admin_tls_cert",
        "admin_tls_key",
        "admin_tls_client_ca",
        "clickhouse",
        "clickhouse_password_file",
        "clickhouse_ca",
        "clickhouse_tls_cert",
        "clickhouse_tls_key",
        "embedded",
        "embedded_tcp_port",
        "embedded_http_port",
        "create_tables",
        "tables",
        "data_dir",
        "ingest_cores",
        "writer_core",
        "ack",
        "log_level",
        "log_format",
        "limits",
        "mapping",
    ];

    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, has a value of a wrong type, or a key that does not exist.
    pub fn from_file(path: &Path) -> Result<Written, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        Written::from_toml(&text).map_err(|error| error.in_file(path))
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// As [`Written::from_file`].
    pub fn from_toml(text: &str) -> Result<Written, ConfigError> {
        let malformed = |error: toml::de::Error| ConfigError::malformed(text, &error);
        let deserializer = toml::Deserializer::parse(text).map_err(malformed)?;
        let mut unknown = None;
        let written = serde_ignored::deserialize(deserializer, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        })
        .map_err(malformed)?;
        match unknown {
            None => Written::refuse_two_clickhouses(written, "the configuration file"),
            Some(key) => Err(unknown_key(key)),
        }
    }

    /// Reads the `RINGHOUSE_*` variables. An empty variable counts as absent, as compose files leave them.
    ///
    /// Unknown ones are left alone: Kubernetes and Docker set their own (`RINGHOUSE_PORT`, `RINGHOUSE_SERVICE_HOST`) for a
    /// service of this name.
    ///
    /// # Errors
    /// A variable whose value cannot be what it stands for.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Written, ConfigError> {
        let source = Environment(variable);
        let mut limits = LimitsWritten::default();
        for assignment in source.list("RINGHOUSE_LIMITS").unwrap_or_default() {
            set_limit(&mut limits, &assignment)?;
        }
        let written = Written {
            config: source.get("RINGHOUSE_CONFIG")?,
            listen: source.get("RINGHOUSE_LISTEN")?,
            listener: source
                .list("RINGHOUSE_LISTENERS")
                .unwrap_or_default()
                .iter()
                .map(|text| text.parse::<NamedListener>())
                .map(|named| named.map(|named| (named.name, named.listener)))
                .collect::<Result<_, _>>()
                .map_err(|why| ConfigError::Variable {
                    variable: "RINGHOUSE_LISTENERS",
                    why,
                })?,
            route: Vec::new(),
            admin: source.get("RINGHOUSE_ADMIN")?,
            admin_require_key: source.get("RINGHOUSE_ADMIN_REQUIRE_KEY")?,
            keys_file: source.get("RINGHOUSE_KEYS_FILE")?,
            admin_tls_cert: source.get("RINGHOUSE_ADMIN_TLS_CERT")?,
            admin_tls_key: source.get("RINGHOUSE_ADMIN_TLS_KEY")?,
            admin_tls_client_ca: source.get("RINGHOUSE_ADMIN_TLS_CLIENT_CA")?,
            clickhouse: source.get("RINGHOUSE_CLICKHOUSE")?,
            clickhouse_password: source.get("RINGHOUSE_CLICKHOUSE_PASSWORD")?,
            clickhouse_password_file: source.get("RINGHOUSE_CLICKHOUSE_PASSWORD_FILE")?,
            clickhouse_ca: source.get("RINGHOUSE_CLICKHOUSE_CA")?,
            clickhouse_tls_cert: source.get("RINGHOUSE_CLICKHOUSE_TLS_CERT")?,
            clickhouse_tls_key: source.get("RINGHOUSE_CLICKHOUSE_TLS_KEY")?,
            embedded: source.get("RINGHOUSE_EMBEDDED")?,
            embedded_tcp_port: source.get("RINGHOUSE_EMBEDDED_TCP_PORT")?,
            embedded_http_port: source.get("RINGHOUSE_EMBEDDED_HTTP_PORT")?,
            create_tables: source.get("RINGHOUSE_CREATE_TABLES")?,
            tables: source.list("RINGHOUSE_TABLES"),
            data_dir: source.get("RINGHOUSE_DATA_DIR")?,
            ingest_cores: source.get("RINGHOUSE_INGEST_CORES")?,
            writer_core: source.get("RINGHOUSE_WRITER_CORE")?,
            ack: source.get("RINGHOUSE_ACK")?,
            log_level: source.get("RINGHOUSE_LOG")?,
            log_format: source.get("RINGHOUSE_LOG_FORMAT")?,
            limits,
            mapping: BTreeMap::new(),
        };
        written.refuse_two_clickhouses("the environment")
    }

    /// Refuses a layer that asks for an embedded ClickHouse and for one elsewhere: which one would hold the rows?
    ///
    /// # Errors
    /// [`ConfigError::TwoClickHouses`].
    pub fn refuse_two_clickhouses(self, layer: &'static str) -> Result<Written, ConfigError> {
        if self.clickhouse.is_some() && self.embedded == Some(true) {
            return Err(ConfigError::TwoClickHouses(layer));
        }
        Ok(self)
    }

    /// This layer, with what it leaves open taken from the `lower` one.
    pub fn over(self, lower: Written) -> Written {
        // Which ClickHouse is one choice, and how it is told its password another: a layer that makes one, drops
        // everything the lower layers said about it.
        let remote = self.clickhouse.is_some();
        let embedded = self.embedded == Some(true);
        let port_below = |port: Option<u16>| if remote { None } else { port };
        let (password, password_file) = match (self.clickhouse_password, self.clickhouse_password_file) {
            (None, None) => (lower.clickhouse_password, lower.clickhouse_password_file),
            chosen => chosen,
        };
        let mut mapping = lower.mapping;
        mapping.extend(self.mapping);
        Written {
            config: self.config.or(lower.config),
            listen: self.listen.or(lower.listen),
            listener: listener::layered(self.listener, lower.listener),
            route: if self.route.is_empty() {
                lower.route
            } else {
                self.route
            },
            admin: self.admin.or(lower.admin),
            admin_require_key: self.admin_require_key.or(lower.admin_require_key),
            keys_file: self.keys_file.or(lower.keys_file),
            admin_tls_cert: self.admin_tls_cert.or(lower.admin_tls_cert),
            admin_tls_key: self.admin_tls_key.or(lower.admin_tls_key),
            admin_tls_client_ca: self.admin_tls_client_ca.or(lower.admin_tls_client_ca),
            clickhouse: self.clickhouse.or(if embedded { None } else { lower.clickhouse }),
            clickhouse_password: password,
            clickhouse_password_file: password_file,
            clickhouse_ca: self.clickhouse_ca.or(lower.clickhouse_ca),
            clickhouse_tls_cert: self.clickhouse_tls_cert.or(lower.clickhouse_tls_cert),
            clickhouse_tls_key: self.clickhouse_tls_key.or(lower.clickhouse_tls_key),
            embedded: self.embedded.or(if remote { None } else { lower.embedded }),
            embedded_tcp_port: self.embedded_tcp_port.or(port_below(lower.embedded_tcp_port)),
            embedded_http_port: self.embedded_http_port.or(port_below(lower.embedded_http_port)),
            create_tables: self.create_tables.or(lower.create_tables),
            tables: self.tables.or(lower.tables),
            data_dir: self.data_dir.or(lower.data_dir),
            ingest_cores: self.ingest_cores.or(lower.ingest_cores),
            writer_core: self.writer_core.or(lower.writer_core),
            ack: self.ack.or(lower.ack),
            log_level: self.log_level.or(lower.log_level),
            log_format: self.log_format.or(lower.log_format),
            limits: self.limits.or(lower.limits),
            mapping,
        }
    }
}

/// The complete layer that resolves to these settings.
impl From<&Settings> for Written {
    fn from(settings: &Settings) -> Written {
        let mut written = Written {
            listen: Some(settings.listeners[0].address),
            listener: settings
                .listeners
                .iter()
                .map(|listener| (listener.name.clone(), listener.into()))
                .collect(),
            route: settings.routes.clone(),
            admin: Some(settings.admin),
            admin_require_key: Some(settings.admin_require_key),
            keys_file: settings.keys_file.clone(),
            admin_tls_cert: settings.admin_tls.as_ref().map(|tls| tls.certificate.clone()),
            admin_tls_key: settings.admin_tls.as_ref().map(|tls| tls.key.clone()),
            admin_tls_client_ca: settings.admin_tls.as_ref().and_then(|tls| tls.client_ca.clone()),
            create_tables: Some(settings.create_tables),
            data_dir: Some(settings.data_dir.clone()),
            ingest_cores: Some(CoreChoice::List(settings.topology.ingest.clone())),
            writer_core: Some(settings.topology.writer),
            ack: Some(settings.ack),
            log_level: Some(settings.log_level.clone()),
            log_format: Some(settings.log_format),
            limits: LimitsWritten::from(&settings.limits),
            ..Written::default()
        };
        match &settings.clickhouse {
            ClickHouse::Remote { urls, tls, .. } => {
                written.clickhouse = Some(urls.clone().into());
                written.clickhouse_ca = tls.ca.clone();
                let identity = tls.identity.as_ref();
                written.clickhouse_tls_cert = identity.map(|identity| identity.certificate.clone());
                written.clickhouse_tls_key = identity.map(|identity| identity.key.clone());
            }
            ClickHouse::Embedded { tcp_port, http_port } => {
                written.embedded = Some(true);
                written.embedded_tcp_port = Some(*tcp_port);
                written.embedded_http_port = Some(http_port.unwrap_or(0));
            }
        }
        let mut names = Vec::with_capacity(settings.tables.len());
        for table in &settings.tables {
            if table.config != TableConfig::default() {
                written.mapping.insert(table.name(), table.config.clone());
            }
            names.push(table.name());
        }
        written.tables = Some(names);
        written
    }
}

/// Sets one limit from `KEY=VALUE`.
///
/// # Errors
/// No `=`, no such key, or no number.
pub fn set_limit(limits: &mut LimitsWritten, assignment: &str) -> Result<(), ConfigError> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(ConfigError::LimitWithoutValue(assignment.to_owned()));
    };
    limits.set(key.trim(), value.trim()).map_err(ConfigError::Limit)
}

/// Names the key of the same section most like the unknown one. `key` is a path like `limits.batch_row_max`.
fn unknown_key(key: String) -> ConfigError {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
    let known: &[&'static str] = match section {
        "" => Written::KEYS,
        "limits" => Limits::KEYS,
        _ if section.starts_with("listener.") => ListenerWritten::KEYS,
        _ if section.starts_with("route.") => RouteConfig::KEYS,
        _ => &["columns", "overflow"],
    };
    let mut nearest = nearest(name, known.iter().copied()).map(|name| match section {
        "" => name.to_owned(),
        _ => format!("{section}.{name}"),
    });
    // A limit written outside its section is the likeliest slip of all.
    if section.is_empty() && Limits::KEYS.contains(&name) {
        nearest = Some(format!("limits.{name}"));
    }
    ConfigError::UnknownKey {
        key,
        nearest,
        file: None,
    }
}

/// The process's variables behind a function, because setting real ones in a test is a data race.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn text(&self, variable: &'static str) -> Option<String> {
        (self.0)(variable).filter(|text| !text.is_empty())
    }

    fn get<T: FromStr<Err: fmt::Display>>(&self, variable: &'static str) -> Result<Option<T>, ConfigError> {
        // The value stays out of the message: RINGHOUSE_CLICKHOUSE holds a password.
        self.text(variable)
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| ConfigError::Variable {
                variable,
                why: T::Err::to_string(&error),
            })
    }

    /// Comma-separated values.
    fn list(&self, variable: &'static str) -> Option<Vec<String>> {
        self.text(variable)
            .map(|text| text.split(',').map(|value| value.trim().to_owned()).collect())
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LogFormat, &'static str> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("it must be `text` or `json`"),
        }
    }
}
