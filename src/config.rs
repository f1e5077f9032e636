//! What was written (file, environment, flags), and what is run with.

mod error;
mod listener;
mod urls;
mod written;

pub use error::ConfigError;
pub use listener::{ListenerSettings, ListenerWritten, MAIN_LISTENER, NamedListener, Protocol};
pub use urls::Urls;
pub use written::{LogFormat, ROUTES_MAX, RouteConfig, TableConfig, Written, set_limit};

use crate::ack::AckLevel;
use crate::clickhouse::endpoint::Endpoint;
use crate::limits::Limits;
use crate::tls::{ClientFiles, Identity, ServerFiles};
use crate::topology::Topology;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the server is run with: every choice made, every value checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where rows come in; the first is the main listener, which speaks HTTP. Never empty.
    pub listeners: Vec<ListenerSettings>,
    /// Which rows go to another table than the listener's.
    pub routes: Vec<RouteConfig>,
    /// Address of the admin pages.
    pub admin: SocketAddr,
    /// The admin pages need a key with `admin = true`.
    pub admin_require_key: bool,
    /// Who may send, and what; whoever connects, and everything, when absent.
    pub keys_file: Option<PathBuf>,
    /// What the admin pages prove themselves with; `None` shows them without TLS.
    pub admin_tls: Option<ServerFiles>,
    /// Where rows go.
    pub clickhouse: ClickHouse,
    /// Create the default table when it does not exist.
    pub create_tables: bool,
    /// Tables rows may go into; the first is the default table. Never empty.
    pub tables: Vec<TableSettings>,
    /// Directory of the embedded engine's data.
    pub data_dir: PathBuf,
    /// Which core does what.
    pub topology: Topology,
    /// Ack level of requests that name none.
    pub ack: AckLevel,
    /// Filter of the server's own log, like `info` or `warn,ringhouse::writer=debug`.
    pub log_level: String,
    /// Form of the server's own log.
    pub log_format: LogFormat,
    /// Every bound.
    pub limits: Limits,
}

/// The ClickHouse rows go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickHouse {
    /// Servers somebody else runs.
    Remote {
        /// `tcp://user:password@host:port/database` of each replica; never empty.
        urls: Vec<Secret>,
        /// Password from its own file or variable; stands above the URLs'.
        password: Option<Secret>,
        /// Authorities that `tcps://` servers must be vouched for by, and what is shown to them.
        tls: ClientFiles,
    },
    /// A child process of ours, listening on loopback.
    Embedded {
        /// Native protocol.
        tcp_port: u16,
        /// HTTP, for people and their tools.
        http_port: Option<u16>,
    },
}

impl ClickHouse {
    /// The servers somebody else runs, the preferred one first; none when the engine is our own, which has its
    /// endpoint once it runs.
    ///
    /// # Errors
    /// As [`Settings::resolve`] for these addresses.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        match self {
            ClickHouse::Remote { urls, password, tls } => urls::endpoints(urls, password.as_ref(), tls),
            ClickHouse::Embedded { .. } => Ok(Vec::new()),
        }
    }
}

/// One table rows may go into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// Database, when named; else the one ClickHouse's URL names.
    pub database: Option<String>,
    /// Table.
    pub table: String,
    /// Names of keys and of the overflow column beyond what the columns say themselves.
    pub config: TableConfig,
}

impl TableSettings {
    /// The name as written: `table` or `database.table`.
    pub fn name(&self) -> String {
        match &self.database {
            Some(database) => format!("{database}.{}", self.table),
            None => self.table.clone(),
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself; whoever calls this must not print it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text if it is a URL, with `***` in place of its password; else nothing but `***`.
    pub fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return "***".to_owned();
        };
        // The last `@`: a password may hold one.
        match rest.rsplit_once('@') {
            // What is no address may be the first half of a password that holds a comma.
            None if self.0.parse::<Endpoint>().is_err() => format!("{scheme}://***"),
            None => self.0.clone(),
            Some((user_info, host)) => {
                let user = user_info.split(':').next().unwrap_or_default();
                let hidden = if user_info.contains(':') { ":***" } else { "" };
                format!("{scheme}://{user}{hidden}@{host}")
            }
        }
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Secret, Self::Err> {
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.redacted().serialize(serializer)
    }
}

/// Where a ClickHouse listens when nobody says otherwise.
const CLICKHOUSE_URL: &str = "tcp://default@127.0.0.1:9000/default";

/// The OpenTelemetry log table's usual name.
const DEFAULT_TABLE: &str = "otel_logs";

/// ClickHouse's own ports, so that its client finds the embedded engine without being told.
const EMBEDDED_TCP_PORT: u16 = 9000;
const EMBEDDED_HTTP_PORT: u16 = 8123;

impl Settings {
    /// Reads the file (named by flag or by `RINGHOUSE_CONFIG`) and the environment under the flags, and resolves them.
    ///
    /// `variable` looks up an environment variable; `cpus` are those the process may run on.
    ///
    /// # Errors
    /// The first thing written that cannot be run with.
    pub fn load(
        flags: Written,
        variable: &dyn Fn(&str) -> Option<String>,
        cpus: &[usize],
    ) -> Result<Settings, ConfigError> {
        let environment = Written::from_environment(variable)?;
        let upper = flags.over(environment);
        let file = match &upper.config {
            Some(path) => Written::from_file(path)?,
            None => Written::default(),
        };
        Settings::resolve(upper.over(file), data_home(variable).as_deref(), cpus)
    }

    /// Makes every choice that was left open and checks what was chosen.
    ///
    /// `data_home` is the directory programs of this user keep data in.
    ///
    /// # Errors
    /// The first thing written that cannot be run with.
    pub fn resolve(
        written: Written,
        data_home: Option<&Path>,
        cpus: &[usize],
    ) -> Result<Settings, ConfigError> {
        let limits = written.limits.resolve()?;
        let topology = Topology::plan(cpus, written.ingest_cores.as_ref(), written.writer_core)?;
        let admin = written
            .admin
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8081)));
        let admin_tls = listener::server_files(
            written.admin_tls_cert.clone(),
            written.admin_tls_key.clone(),
            written.admin_tls_client_ca.clone(),
        )
        .map_err(ConfigError::AdminTls)?;
        let ack = written.ack.unwrap_or_default();
        let clickhouse = clickhouse(&written)?;
        let listeners = listener::resolve(
            written.listener,
            written.listen,
            admin,
            ack,
            written.keys_file.is_some(),
        )?;
        for (at, route) in written.route.iter().enumerate() {
            route
                .check(at, &listeners)
                .map_err(|why| ConfigError::Route { number: at + 1, why })?;
        }
        let embedded = matches!(clickhouse, ClickHouse::Embedded { .. });
        let data_dir = written.data_dir.unwrap_or_else(|| default_data_dir(data_home));
        let log_level = written.log_level.unwrap_or_else(|| "info".to_owned());
        crate::telemetry::check_filter(&log_level)?;
        Ok(Settings {
            listeners,
            routes: written.route,
            admin,
            admin_require_key: written.admin_require_key.unwrap_or(!admin.ip().is_loopback()),
            keys_file: written.keys_file,
            admin_tls,
            clickhouse,
            create_tables: written.create_tables.unwrap_or(embedded),
            tables: tables(written.tables, written.mapping)?,
            data_dir,
            topology,
            ack,
            log_level,
            log_format: written.log_format.unwrap_or_default(),
            limits,
        })
    }

    /// These settings as a configuration file, complete and without secrets.
    pub fn to_toml(&self) -> String {
        toml::to_string(&Written::from(self)).expect("every field has a TOML form")
    }
}

/// The data directory `serve` would use, for a command that needs nothing else of the settings.
///
/// # Errors
/// A variable or the file `RINGHOUSE_CONFIG` names cannot be read.
pub fn data_dir(
    flag: Option<PathBuf>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, ConfigError> {
    if let Some(path) = flag {
        return Ok(path);
    }
    let environment = Written::from_environment(variable)?;
    let written = match (environment.data_dir, environment.config) {
        (None, Some(file)) => Written::from_file(&file)?.data_dir,
        (written, _) => written,
    };
    Ok(written.unwrap_or_else(|| default_data_dir(data_home(variable).as_deref())))
}

/// The directory programs of this user keep data in.
fn data_home(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".local/share")))
}

fn default_data_dir(data_home: Option<&Path>) -> PathBuf {
    match data_home {
        Some(home) => home.join("ringhouse"),
        None => PathBuf::from("/var/lib/ringhouse"),
    }
}

fn clickhouse(written: &Written) -> Result<ClickHouse, ConfigError> {
    if written.embedded != Some(true) {
        for (key, port) in [
            ("embedded_tcp_port", written.embedded_tcp_port),
            ("embedded_http_port", written.embedded_http_port),
        ] {
            if port.is_some() {
                return Err(ConfigError::NeedsEmbedded(key));
            }
        }
        let password = match (&written.clickhouse_password, &written.clickhouse_password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(path)) => Some(read_password(path)?),
            (None, None) => None,
        };
        let urls = match &written.clickhouse {
            Some(urls) => urls.as_slice().to_vec(),
            None => vec![Secret::new(CLICKHOUSE_URL)],
        };
        let tls = clickhouse_tls(written)?;
        urls::endpoints(&urls, password.as_ref(), &tls)?;
        return Ok(ClickHouse::Remote { urls, password, tls });
    }
    let tcp_port = written.embedded_tcp_port.unwrap_or(EMBEDDED_TCP_PORT);
    let http_port = written.embedded_http_port.unwrap_or(EMBEDDED_HTTP_PORT);
    if tcp_port == 0 {
        return Err(ConfigError::EmbeddedTcpPortZero);
    }
    if tcp_port == http_port {
        return Err(ConfigError::EmbeddedSamePort(tcp_port));
    }
    Ok(ClickHouse::Embedded {
        tcp_port,
        http_port: (http_port != 0).then_some(http_port),
    })
}

fn clickhouse_tls(written: &Written) -> Result<ClientFiles, ConfigError> {
    let identity = match (&written.clickhouse_tls_cert, &written.clickhouse_tls_key) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        (None, None) => None,
        (None, Some(_)) => return Err(ConfigError::ClickHouseIdentity("clickhouse_tls_cert")),
        (Some(_), None) => return Err(ConfigError::ClickHouseIdentity("clickhouse_tls_key")),
    };
    Ok(ClientFiles {
        ca: written.clickhouse_ca.clone(),
        identity,
    })
}

fn read_password(path: &Path) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::PasswordFile {
        path: path.to_owned(),
        source,
    })?;
    // Editors and `echo` end a file with a newline that is no part of the password.
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

fn tables(
    names: Option<Vec<String>>,
    mut mapping: BTreeMap<String, TableConfig>,
) -> Result<Vec<TableSettings>, ConfigError> {
    let names = names.unwrap_or_else(|| vec![DEFAULT_TABLE.to_owned()]);
    if names.is_empty() {
        return Err(ConfigError::NoTables);
    }
    let mut tables = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            return Err(ConfigError::TableTwice(name.clone()));
        }
        let (database, table) = split_table_name(name)?;
        tables.push(TableSettings {
            database: database.map(str::to_owned),
            table: table.to_owned(),
            config: mapping.remove(name).unwrap_or_default(),
        });
    }
    match mapping.into_keys().next() {
        None => Ok(tables),
        Some(table) => {
            let nearest = crate::limits::nearest(&table, names.iter().map(String::as_str)).map(str::to_owned);
            Err(ConfigError::MappingOfNoTable { table, nearest })
        }
    }
}

/// Splits `table` or `database.table`.
///
/// # Errors
/// [`ConfigError::TableName`].
pub fn split_table_name(name: &str) -> Result<(Option<&str>, &str), ConfigError> {
    let (database, table) = match name.split_once('.') {
        Some((database, table)) => (Some(database), table),
        None => (None, name),
    };
    if is_identifier(table) && database.is_none_or(is_identifier) {
        Ok((database, table))
    } else {
        Err(ConfigError::TableName(name.to_owned()))
    }
}

/// A name that needs no quoting in a URL path; ClickHouse would take more.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests;
