//! The command line: what each subcommand takes.

// The doc comments of arguments are their help texts, where `[env: NAME]` is no link.
#![allow(rustdoc::broken_intra_doc_links)]

use crate::access;
use crate::ack::AckLevel;
use crate::admin::{self, FetchError, Target};
use crate::bench::BenchCommand;
use crate::config::{
    self, ConfigError, LogFormat, NamedListener, Urls, Written, set_limit, split_table_name,
};
use crate::dead_letter;
use crate::histogram::Measure;
use crate::limits::LimitsWritten;
use crate::schema::{TableName, TableSchema};
use crate::tls::{ClientFiles, Identity, Trust};
use crate::topology::CoreChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Takes logs in over HTTP at the full speed of each CPU core and puts them into ClickHouse.
#[derive(Debug, Parser)]
#[command(name = "ringhouse", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ringhouse serve --embedded
      everything on this machine: a ClickHouse of its own, its table created
  ringhouse serve --clickhouse tcp://ringhouse@db1:9000/logs --table otel_logs --table app.events
      into an existing ClickHouse; the password comes from RINGHOUSE_CLICKHOUSE_PASSWORD
  curl -d '{\"level\":\"info\",\"message\":\"hello\"}' http://127.0.0.1:8080/ingest
      a first row
  ringhouse schema | clickhouse-client
      creates the default table by hand
  ringhouse histograms --format log > latencies.hlog
      the latencies of the running server, for the HdrHistogram tools

`ringhouse help COMMAND` shows every option of a command.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Takes rows in and inserts them until SIGTERM
    Serve(SettingsArgs),
    /// Checks the configuration and, when ClickHouse answers, the mapping against its tables
    ///
    /// Takes the options of `serve` and prints what it would run with, as a configuration file, on standard output.
    Check(SettingsArgs),
    /// Prints the DDL of the default table
    Schema(SchemaArgs),
    /// Prints the latency histograms of a running server
    ///
    /// Where its admin pages need a key, RINGHOUSE_TOKEN holds the token.
    Histograms(HistogramsArgs),
    /// Lists, shows, replays or drops the rows that ClickHouse refused for their content
    ///
    /// They are JSON lines under DIRECTORY/dead-letters. Every command may run beside a running server.
    DeadLetters(DeadLettersArgs),
    /// Makes the keys under which requests are taken
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Measures what this program can do, beside what else there is, and counts what became of every row
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Runs the embedded ClickHouse in this process until standard input closes; `serve --embedded` starts it
    #[command(hide = true)]
    EmbeddedEngine(EngineArgs),
}

/// Options of `serve` and `check`. Flags stand above variables, variables above the file, the file above defaults.
#[derive(Debug, Default, Args)]
#[command(after_long_help = SETTINGS_HELP)]
pub struct SettingsArgs {
    /// Configuration file (TOML) [env: RINGHOUSE_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub config: Option<PathBuf>,

    /// Address rows are posted to [env: RINGHOUSE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", help_heading = "General")]
    pub listen: Option<SocketAddr>,

    /// A further listener, as NAME=PROTOCOL://ADDRESS; repeat for more [env: RINGHOUSE_LISTENERS, comma-separated]
    ///
    /// `http` speaks every dialect of the main listener, for example on the port a client expects:
    /// otlp=http://0.0.0.0:4318. What else can be said of one stands in the file, under [listener.NAME].
    #[arg(long = "listener", value_name = "NAME=URL", help_heading = "General")]
    pub listeners: Vec<NamedListener>,

    /// Address of the admin pages [env: RINGHOUSE_ADMIN] [default: 127.0.0.1:8081]
    ///
    /// They are /livez, /readyz, /metrics, /histograms and /status. On another address than loopback all but the first two
    /// need a key with `admin = true`.
    #[arg(long, value_name = "ADDRESS", help_heading = "General")]
    pub admin: Option<SocketAddr>,

    /// Whether the admin pages need a key [env: RINGHOUSE_ADMIN_REQUIRE_KEY] [default: unless they are on loopback]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "General")]
    pub admin_require_key: Option<bool>,

    /// File of the keys under which requests are taken [env: RINGHOUSE_KEYS_FILE] [default: whoever connects may send]
    ///
    /// `ringhouse keys new` makes one. It is read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub keys_file: Option<PathBuf>,
    /// Certificate chain (PEM) of the admin pages: they are shown through TLS [env: RINGHOUSE_ADMIN_TLS_CERT]
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub admin_tls_cert: Option<PathBuf>,

    /// Private key of that certificate (PEM) [env: RINGHOUSE_ADMIN_TLS_KEY]
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub admin_tls_key: Option<PathBuf>,

    /// Authorities (PEM) one of which must vouch for whoever reads them [env: RINGHOUSE_ADMIN_TLS_CLIENT_CA]
    #[arg(long, value_name = "FILE", help_heading = "General")]
    pub admin_tls_client_ca: Option<PathBuf>,

    /// When a request is answered [env: RINGHOUSE_ACK] [default: wal]
    ///
    /// `memory`: its rows are parsed and typed; they are lost with the process; 202. `wal`: they are in the write-ahead log,
    /// fdatasync'ed; 200. `inserted`: ClickHouse has confirmed them; 200. A request may choose its own with ?ack=LEVEL.
    #[arg(long, value_name = "LEVEL", value_parser = ack_levels(), help_heading = "General")]
    pub ack: Option<AckLevel>,

    /// Directory of the write-ahead log, the dead letters and the embedded engine's data [env: RINGHOUSE_DATA_DIR]
    /// [default: ~/.local/share/ringhouse]
    ///
    /// On a disk that keeps what fdatasync confirms. One process at a time; it may be started again with other settings.
    #[arg(long, value_name = "DIRECTORY", help_heading = "General")]
    pub data_dir: Option<PathBuf>,

    /// Filter of the server's own log on stderr [env: RINGHOUSE_LOG] [default: info]
    ///
    /// off, error, warn, info, debug, trace, or directives like `warn,ringhouse::writer=debug`.
    #[arg(long, value_name = "FILTER", help_heading = "General")]
    pub log_level: Option<String>,

    /// Form of the server's own log [env: RINGHOUSE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "General")]
    pub log_format: Option<LogFormat>,

    /// ClickHouse's native port; repeat for its replicas [env: RINGHOUSE_CLICKHOUSE] [default: tcp://default@127.0.0.1:9000/default]
    ///
    /// As tcp://user:password@host:9000/database, comma-separated or repeated for several servers: the replicas of one
    /// shard, which hold the same Replicated tables in the same database (or servers with one Distributed table). One is
    /// used while it works; when it fails, the one that failed least recently is. Plain MergeTree tables on several
    /// servers share nothing: each row is on the server that was in use, and rows whose INSERT broke off are held
    /// until the server that had them is back. --create-tables creates a plain table where it finds none.
    ///
    /// Every user of a machine sees its command lines: give the password by RINGHOUSE_CLICKHOUSE_PASSWORD or by file
    /// instead; either stands above those in the URLs, for all servers. In a URL write a comma as %2C.
    #[arg(long, value_name = "URL", help_heading = "ClickHouse")]
    pub clickhouse: Vec<Urls>,

    /// File that holds nothing but ClickHouse's password [env: RINGHOUSE_CLICKHOUSE_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", help_heading = "ClickHouse")]
    pub clickhouse_password_file: Option<PathBuf>,

    /// File of the authorities that may vouch for ClickHouse [env: RINGHOUSE_CLICKHOUSE_CA] [default: the system's]
    ///
    /// PEM; for addresses that begin with tcps://, the native protocol inside TLS, port 9440 unless they name another. It
    /// is read again when it changes.
    #[arg(long, value_name = "FILE", help_heading = "ClickHouse")]
    pub clickhouse_ca: Option<PathBuf>,

    /// Certificate chain (PEM) to show to a ClickHouse that asks for one [env: RINGHOUSE_CLICKHOUSE_TLS_CERT]
    ///
    /// For addresses that begin with tcps://. It is read again, with its key, when they change.
    #[arg(long, value_name = "FILE", help_heading = "ClickHouse")]
    pub clickhouse_tls_cert: Option<PathBuf>,

    /// Private key of that certificate (PEM) [env: RINGHOUSE_CLICKHOUSE_TLS_KEY]
    #[arg(long, value_name = "FILE", help_heading = "ClickHouse")]
    pub clickhouse_tls_key: Option<PathBuf>,

    /// Run a ClickHouse of our own as a child process, on loopback [env: RINGHOUSE_EMBEDDED]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "ClickHouse")]
    pub embedded: Option<bool>,

    /// Its port for the native protocol [env: RINGHOUSE_EMBEDDED_TCP_PORT] [default: 9000]
    #[arg(long, value_name = "PORT", help_heading = "ClickHouse")]
    pub embedded_tcp_port: Option<u16>,

    /// Its port for HTTP, 0 for none [env: RINGHOUSE_EMBEDDED_HTTP_PORT] [default: 8123]
    #[arg(long, value_name = "PORT", help_heading = "ClickHouse")]
    pub embedded_http_port: Option<u16>,

    /// Create the default table when it does not exist; implied by --embedded [env: RINGHOUSE_CREATE_TABLES]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "ClickHouse")]
    pub create_tables: Option<bool>,

    /// Table rows may go into; repeat for more [env: RINGHOUSE_TABLES, comma-separated] [default: otel_logs]
    ///
    /// As `table` or `database.table`. The first takes what is posted to /ingest, each what is posted to /ingest/NAME.
    #[arg(long = "table", value_name = "NAME", help_heading = "ClickHouse")]
    pub tables: Vec<String>,

    /// Ingest cores: a count (`4`) or CPUs (`0,2-5`) [env: RINGHOUSE_INGEST_CORES] [default: every CPU but the writer's]
    #[arg(long, value_name = "CORES", help_heading = "Cores")]
    pub ingest_cores: Option<CoreChoice>,

    /// CPU of the core that talks to ClickHouse [env: RINGHOUSE_WRITER_CORE] [default: the last CPU]
    #[arg(long, value_name = "CPU", help_heading = "Cores")]
    pub writer_core: Option<usize>,

    /// Set any key of the file's [limits]; repeat for more [env: RINGHOUSE_LIMITS, comma-separated]
    #[arg(long = "limit", value_name = "KEY=VALUE", help_heading = "Limits")]
    pub limits: Vec<String>,
}

const SETTINGS_HELP: &str = "\
Limits people tune (`ringhouse check` prints them all with their values):
  batch_age_ms          age at which rows leave for ClickHouse at the latest
  batch_rows_max        rows of one block; larger blocks make fewer, larger parts
  insert_interval_ms    pause between two INSERTs while requests wait for them
  wal_bytes_max         bytes on disk that hold rows while ClickHouse is away; then 503
  body_bytes_max        largest request body, decompressed; memory does not grow with it
  line_bytes_max        largest row
  connections_per_core  connections one ingest core holds
  drain_deadline_ms     time after SIGTERM to insert what is held

A configuration file:
  listen = \"0.0.0.0:8080\"
  clickhouse = \"tcp://ringhouse@db1:9000/logs\"
  clickhouse_password_file = \"/run/secrets/clickhouse\"
  tables = [\"otel_logs\", \"app.events\"]
  ingest_cores = \"0-5\"

  [limits]
  batch_age_ms = 500

  [listener.otlp]
  address = \"0.0.0.0:4318\"
  table = \"app.events\"
  fields = { env = \"prod\" }

  [[route]]
  header = { \"X-Scope-OrgID\" = \"team-*\" }
  table = \"app.events\"

  [mapping.\"app.events\"]
  columns = { \"@ts\" = \"event_time\" }
  overflow = \"attributes\"";

/// Options of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Name of the table, as `table` or `database.table`
    #[arg(long, value_name = "NAME", default_value = "otel_logs")]
    pub table: String,

    /// Days after which ClickHouse deletes rows; forever when absent
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub ttl_days: Option<u32>,
}

/// Options of `histograms`.
#[derive(Debug, Args)]
pub struct HistogramsArgs {
    /// Admin address of the running server; https://HOST:PORT where it has TLS
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "RINGHOUSE_ADMIN",
        default_value = "127.0.0.1:8081",
        value_parser = admin_target
    )]
    pub admin: Target,

    /// How it is reached through TLS.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Percentiles to read, the distribution of one histogram for plotters, or an HdrHistogram log of all
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: HistogramFormat,

    /// Histogram that `--format hgrm` prints
    #[arg(long, value_name = "NAME", default_value = "request_inserted", value_parser = measures())]
    pub name: String,
}

impl HistogramsArgs {
    /// The admin page that answers, with its query.
    pub fn path(&self) -> String {
        let format = match self.format {
            HistogramFormat::Text => "text",
            HistogramFormat::Hgrm => "hgrm",
            HistogramFormat::Log => "log",
        };
        format!("/histograms?format={format}&name={}", self.name)
    }
}

/// How a running server is reached through TLS.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// File of the authorities that may vouch for a server at https:// (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Certificate chain (PEM) to show to it, when it asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl TlsArgs {
    /// The server, reached with these files.
    ///
    /// # Errors
    /// There are some, and no TLS to use them for.
    fn reach(self, target: Target) -> Result<Target, FilesWithoutTls> {
        if !target.is_tls() && (self.ca.is_some() || self.cert.is_some()) {
            return Err(FilesWithoutTls(target));
        }
        let identity = self.cert.zip(self.key);
        let trust = Trust::new(ClientFiles {
            ca: self.ca,
            identity: identity.map(|(certificate, key)| Identity { certificate, key }),
        });
        Ok(target.with_trust(&trust))
    }
}

/// Files for TLS beside an address without it.
#[derive(Debug)]
pub struct FilesWithoutTls(Target);

impl fmt::Display for FilesWithoutTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--ca, --cert and --key mean something only for an address that begins with https://; {} would be reached without \
             encryption",
            self.0
        )
    }
}

/// Forms histograms are printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistogramFormat {
    /// Percentiles, a line each.
    Text,
    /// Percentile distribution of one histogram.
    Hgrm,
    /// HdrHistogram interval log of all.
    Log,
}

/// Options of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    /// Data directory of the server [env: RINGHOUSE_DATA_DIR] [default: ~/.local/share/ringhouse]
    #[arg(long, value_name = "DIRECTORY", global = true)]
    pub data_dir: Option<PathBuf>,

    /// What to do with them.
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Prints rows, bytes and times per table and reason
    List(SelectionArgs),
    /// Prints them as JSON lines, oldest first
    Show {
        /// Which ones.
        #[command(flatten)]
        selection: SelectionArgs,

        /// At most so many
        #[arg(long, value_name = "ROWS")]
        limit: Option<u64>,
    },
    /// Posts them to a running server and removes those it has inserted
    ///
    /// Where it needs a key, RINGHOUSE_TOKEN holds the token.
    ///
    /// Without a selection all of them. A row that is rejected again stays, with the new reason. A batch without an answer is
    /// sent again by the next replay, under the same Idempotency-Key: send it to the same server. Fails unless every row sent
    /// is in ClickHouse.
    Replay {
        /// Which ones.
        #[command(flatten)]
        selection: SelectionArgs,

        /// The server, as http://HOST:PORT or https://HOST:PORT
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
        to: Target,

        /// How it is reached through TLS.
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// Deletes them for good
    #[command(group = clap::ArgGroup::new("what").args(["table", "ids", "all"]).required(true).multiple(true))]
    Drop {
        /// Which ones.
        #[command(flatten)]
        selection: SelectionArgs,

        /// All of them
        #[arg(long, conflicts_with_all = ["table", "ids"])]
        all: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    /// Those of one table, as database.table
    #[arg(long, value_name = "NAME", value_parser = full_table_name)]
    pub table: Option<String>,

    /// The one with this id; repeat for more
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<String>,
}

impl From<SelectionArgs> for dead_letter::Selection {
    fn from(args: SelectionArgs) -> dead_letter::Selection {
        dead_letter::Selection {
            table: args.table,
            ids: args.ids.into_iter().collect(),
        }
    }
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Makes a key: prints its token, which is kept nowhere, and its section for the key file
    New {
        /// What to call it: letters, digits, `_`, `-` and `.`
        #[arg(long, value_name = "NAME")]
        name: String,

        /// Tables it reaches, like `app_*`, `database.table` or `*.*`; repeat or separate by commas; all when absent
        #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
        tables: Vec<String>,

        /// For the admin pages, not for rows
        #[arg(long, conflicts_with_all = ["tables", "certificates"])]
        admin: bool,

        /// Client certificate that is this key in place of a token: `CN=`, `DNS:`, `URI:` or `sha256:` and its name; repeat
        /// for more
        #[arg(long = "certificate", value_name = "NAME")]
        certificates: Vec<String>,

        /// Append the section to this file, and print the token alone
        #[arg(long, value_name = "FILE")]
        append: Option<PathBuf>,
    },
    /// Reads a token from standard input and prints its hash for the key file
    Hash,
}

/// The body of `keys`.
///
/// # Errors
/// The key would not be taken, the file cannot be used, or standard input holds no token.
pub fn keys(command: KeysCommand) -> Result<(), access::KeysError> {
    let out = &mut io::stdout().lock();
    match command {
        KeysCommand::New {
            name,
            tables,
            admin,
            certificates,
            append,
        } => {
            let new = access::NewKey {
                name,
                tables,
                admin,
                certificates,
            };
            access::new_key(&new, append.as_deref(), out)
        }
        KeysCommand::Hash => access::hash_token(&mut io::stdin().lock(), out),
    }
}

/// Options of the hidden `embedded-engine`.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// The engine's library, then the arguments of `clickhouse local`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

impl SettingsArgs {
    /// The uppermost layer of configuration.
    ///
    /// # Errors
    /// A `--limit` that is no known `KEY=NUMBER`.
    pub fn into_written(self) -> Result<Written, ConfigError> {
        let mut limits = LimitsWritten::default();
        for assignment in &self.limits {
            set_limit(&mut limits, assignment)?;
        }
        Written {
            config: self.config,
            listen: self.listen,
            listener: self
                .listeners
                .into_iter()
                .map(|named| (named.name, named.listener))
                .collect(),
            route: Vec::new(),
            admin: self.admin,
            admin_require_key: self.admin_require_key,
            keys_file: self.keys_file,
            admin_tls_cert: self.admin_tls_cert,
            admin_tls_key: self.admin_tls_key,
            admin_tls_client_ca: self.admin_tls_client_ca,
            clickhouse: (!self.clickhouse.is_empty()).then(|| self.clickhouse.into_iter().collect()),
            clickhouse_password: None,
            clickhouse_password_file: self.clickhouse_password_file,
            clickhouse_ca: self.clickhouse_ca,
            clickhouse_tls_cert: self.clickhouse_tls_cert,
            clickhouse_tls_key: self.clickhouse_tls_key,
            embedded: self.embedded,
            embedded_tcp_port: self.embedded_tcp_port,
            embedded_http_port: self.embedded_http_port,
            create_tables: self.create_tables,
            tables: (!self.tables.is_empty()).then_some(self.tables),
            data_dir: self.data_dir,
            ingest_cores: self.ingest_cores,
            writer_core: self.writer_core,
            ack: self.ack,
            log_level: self.log_level,
            log_format: self.log_format,
            limits,
            mapping: Default::default(),
        }
        .refuse_two_clickhouses("the command line")
    }
}

/// The body of `schema`: prints the DDL.
///
/// # Errors
/// The name is none, or standard output takes nothing.
pub fn print_schema(args: &SchemaArgs) -> Result<(), PrintError> {
    let (database, table) = split_table_name(&args.table).map_err(PrintError::Table)?;
    let name = TableName {
        database: database.unwrap_or("default").to_owned(),
        table: table.to_owned(),
    };
    let ddl = TableSchema::default_table_ddl(&name, args.ttl_days);
    print(&format!("{};\n", ddl.trim_end().trim_end_matches(';')))
}

/// The token that this program shows to a running server. By a variable only: every user of a machine sees its command lines.
fn own_token() -> Result<Option<access::Token>, NoOwnToken> {
    match std::env::var_os("RINGHOUSE_TOKEN").filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match access::Token::new(text.as_encoded_bytes()) {
            Some(token) => Ok(Some(token)),
            None => Err(NoOwnToken),
        },
    }
}

/// `RINGHOUSE_TOKEN` holds no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoOwnToken;

impl fmt::Display for NoOwnToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RINGHOUSE_TOKEN holds no token: 1 to 256 visible ASCII characters")
    }
}

/// The body of `histograms`: prints the page of a running server.
///
/// # Errors
/// The server does not answer, or standard output takes nothing.
pub fn print_histograms(args: &HistogramsArgs) -> Result<(), PrintError> {
    let reached = args.tls.clone().reach(args.admin.clone());
    let admin = reached.map_err(PrintError::Target)?;
    let token = own_token().map_err(PrintError::Token)?;
    print(&admin::fetch(admin, &args.path(), token.as_ref()).map_err(PrintError::Fetch)?)
}

/// The body of `dead-letters`. Fails also without an error: when rows that were to be replayed stay.
///
/// # Errors
/// The data directory is not known, its store cannot be used, or the server takes no rows.
pub fn dead_letters(args: DeadLettersArgs) -> Result<ExitCode, DeadLettersError> {
    let data_dir = config::data_dir(args.data_dir, &|name| std::env::var(name).ok())
        .map_err(DeadLettersError::Config)?;
    let out = &mut io::stdout().lock();
    match args.command {
        DeadLettersCommand::List(selection) => dead_letter::list(&data_dir, &selection.into(), out)?,
        DeadLettersCommand::Show { selection, limit } => {
            dead_letter::show(&data_dir, &selection.into(), limit, out)?;
        }
        DeadLettersCommand::Drop { selection, .. } => {
            let removed = dead_letter::remove(&data_dir, &selection.into())?;
            let _ = writeln!(out, "dropped {} rows, {} bytes", removed.rows, removed.bytes);
        }
        DeadLettersCommand::Replay { selection, to, tls } => {
            let to = tls.reach(to).map_err(DeadLettersError::Target)?;
            let to = to.with_token(own_token().map_err(DeadLettersError::Token)?);
            let mut replayed = dead_letter::Replayed::default();
            let result = dead_letter::replay(&data_dir, &selection.into(), &to, &mut replayed);
            // Also when it stopped halfway; whoever closed the output does not want it.
            let _ = writeln!(out, "{replayed}");
            result?;
            if replayed.moved + replayed.kept > 0 {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why `dead-letters` did not come to its end.
#[derive(Debug)]
pub enum DeadLettersError {
    /// Where the data directory is cannot be read.
    Config(ConfigError),
    /// The server would be reached without the encryption that was meant.
    Target(FilesWithoutTls),
    /// The token to show is none.
    Token(NoOwnToken),
    /// The command failed.
    Command(dead_letter::CommandError),
}

impl From<dead_letter::CommandError> for DeadLettersError {
    fn from(error: dead_letter::CommandError) -> DeadLettersError {
        DeadLettersError::Command(error)
    }
}

impl fmt::Display for DeadLettersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadLettersError::Config(error) => error.fmt(f),
            DeadLettersError::Target(error) => error.fmt(f),
            DeadLettersError::Token(error) => error.fmt(f),
            DeadLettersError::Command(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DeadLettersError {}

fn print(text: &str) -> Result<(), PrintError> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(PrintError::Output),
    }
}

/// Why nothing was printed.
#[derive(Debug)]
pub enum PrintError {
    /// The table's name is none.
    Table(ConfigError),
    /// The server would be reached without the encryption that was meant.
    Target(FilesWithoutTls),
    /// The token to show is none.
    Token(NoOwnToken),
    /// The running server gave no page.
    Fetch(FetchError),
    /// Standard output takes nothing.
    Output(io::Error),
}

impl fmt::Display for PrintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrintError::Table(error) => error.fmt(f),
            PrintError::Target(error) => error.fmt(f),
            PrintError::Token(error) => error.fmt(f),
            PrintError::Fetch(error) => error.fmt(f),
            PrintError::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

impl std::error::Error for PrintError {}

/// Lets clap list the histograms and name the nearest one.
fn measures() -> clap::builder::PossibleValuesParser {
    Measure::ALL.map(Measure::name).into()
}

/// The admin pages by their address alone, as the server's own `--admin` has it, or as a URL.
fn admin_target(text: &str) -> Result<Target, String> {
    let target = match text.parse::<SocketAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Target::parse(text),
    };
    target
        .map_err(|_| "the admin pages are at ADDRESS:PORT, http://HOST:PORT or https://HOST:PORT".to_owned())
}

/// A table as dead letters name it: never without its database.
fn full_table_name(text: &str) -> Result<String, String> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(text.to_owned()),
        _ => Err("dead letters name a table as database.table".to_owned()),
    }
}

/// Lets clap list the levels and name the nearest one.
pub(crate) fn ack_levels() -> impl clap::builder::TypedValueParser<Value = AckLevel> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(AckLevel::ALL.map(AckLevel::name)).try_map(|name| name.parse::<AckLevel>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn is_a_command_line_clap_accepts() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn names_the_nearest_subcommand() {
        let refused = Arguments::try_parse_from(["ringhouse", "serv"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("serve"), "{refused}");
    }

    #[test]
    fn names_an_existing_variable_and_default_for_every_option_of_serve() {
        let help = Arguments::try_parse_from(["ringhouse", "serve", "--help"])
            .unwrap_err()
            .to_string();
        let mut named = Vec::new();
        for (at, _) in help.match_indices("[env: ") {
            let name = help[at + 6..]
                .split(|letter: char| letter != '_' && !letter.is_ascii_uppercase())
                .next()
                .unwrap();
            named.push(name.to_owned());
        }
        let asked = std::cell::RefCell::new(Vec::new());
        let variable = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            None
        };
        Written::from_environment(&variable).unwrap();
        let mut asked = asked.into_inner();
        // It has no flag on purpose: a command line is public.
        asked.retain(|name| name != "RINGHOUSE_CLICKHOUSE_PASSWORD");
        named.sort_unstable();
        asked.sort_unstable();
        assert_eq!(named, asked);
    }

    #[test]
    fn asks_for_the_histogram_it_is_told() {
        let path = |arguments: &[&str]| {
            let arguments = ["ringhouse", "histograms", "--admin=127.0.0.1:1"]
                .iter()
                .chain(arguments);
            match Arguments::try_parse_from(arguments).map(|arguments| arguments.command) {
                Ok(Command::Histograms(arguments)) => arguments.path(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(path(&[]), "/histograms?format=text&name=request_inserted");
        assert_eq!(
            path(&["--format=hgrm", "--name=parse"]),
            "/histograms?format=hgrm&name=parse"
        );
        let refused = Arguments::try_parse_from(["ringhouse", "histograms", "--name=pars"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("'parse'"), "{refused}");
    }

    fn dead_letters_command(arguments: &[&str]) -> Result<DeadLettersArgs, String> {
        let arguments = ["ringhouse", "dead-letters"].iter().chain(arguments);
        match Arguments::try_parse_from(arguments).map(|arguments| arguments.command) {
            Ok(Command::DeadLetters(arguments)) => Ok(arguments),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn takes_the_data_directory_before_and_behind_the_command() {
        for arguments in [["--data-dir=/d", "list"], ["list", "--data-dir=/d"]] {
            let args = dead_letters_command(&arguments).unwrap();
            assert_eq!(args.data_dir, Some(PathBuf::from("/d")));
        }
    }

    #[test]
    fn selects_dead_letters_by_table_and_id() {
        let args =
            dead_letters_command(&["show", "--table=d.t", "--id=a", "--id", "b", "--limit=3"]).unwrap();
        let DeadLettersCommand::Show { selection, limit } = args.command else {
            panic!("{args:?}");
        };
        let selection = dead_letter::Selection::from(selection);
        assert_eq!((selection.table.as_deref(), limit), (Some("d.t"), Some(3)));
        assert_eq!(selection.ids, ["a".to_owned(), "b".to_owned()].into());
        for table in ["t", "d.", ".t"] {
            let refused = dead_letters_command(&["list", "--table", table]).unwrap_err();
            assert!(refused.contains("as database.table"), "{refused}");
        }
    }

    #[test]
    fn drops_dead_letters_only_when_told_which() {
        for accepted in [
            &["--all"][..],
            &["--id=a"],
            &["--table=d.t"],
            &["--table=d.t", "--id=a"],
        ] {
            dead_letters_command(&[&["drop"], accepted].concat()).unwrap();
        }
        for refused in [&[][..], &["--all", "--id=a"], &["--all", "--table=d.t"]] {
            dead_letters_command(&[&["drop"], refused].concat()).unwrap_err();
        }
    }

    #[test]
    fn replays_to_the_server_of_this_machine_unless_told_otherwise() {
        let to = |arguments: &[&str]| {
            dead_letters_command(arguments).map(|args| match args.command {
                DeadLettersCommand::Replay { to, .. } => to.to_string(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(to(&["replay"]).as_deref(), Ok("http://127.0.0.1:8080"));
        assert_eq!(to(&["replay", "--to=http://h:1/"]).as_deref(), Ok("http://h:1"));
        let refused = to(&["replay", "--to=h:1"]).unwrap_err();
        assert!(refused.contains("http://HOST:PORT"), "{refused}");
        assert_eq!(to(&["replay", "--to=https://h"]).as_deref(), Ok("https://h:443"));
        dead_letters_command(&["replay", "--to=https://h", "--cert=c"]).unwrap_err();
    }

    #[test]
    fn hands_the_engine_its_arguments_untouched() {
        let arguments = [
            "ringhouse",
            "embedded-engine",
            "/lib.so",
            "--path",
            "/d",
            "--help",
            "--",
            "-x",
        ];
        match Arguments::try_parse_from(arguments).map(|arguments| arguments.command) {
            Ok(Command::EmbeddedEngine(engine)) => assert_eq!(engine.arguments, arguments[2..]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rejects_a_schema_for_what_is_no_table() {
        let refused = print_schema(&SchemaArgs {
            table: "a b".into(),
            ttl_days: None,
        })
        .unwrap_err();
        assert!(
            refused.to_string().starts_with("`a b` is not a table's name"),
            "{refused}"
        );
    }

    #[test]
    fn names_only_limits_that_exist_in_its_help() {
        let listed = SETTINGS_HELP.lines().skip(1).take_while(|line| !line.is_empty());
        for key in listed.map(|line| line.split_whitespace().next().unwrap()) {
            assert!(crate::limits::Limits::KEYS.contains(&key), "{key}");
        }
    }

    #[test]
    fn shows_a_configuration_file_that_resolves() {
        let (_, file) = SETTINGS_HELP.split_once("A configuration file:\n").unwrap();
        let mut written = Written::from_toml(file).unwrap();
        // The one key that must name something on this machine.
        written.clickhouse_password_file = None;
        let settings = crate::config::Settings::resolve(written, None, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(settings.tables[1].config.columns["@ts"], "event_time");
        assert_eq!(settings.limits.batch_age_ms, 500);
    }
}
