//! The command line: what each subcommand takes.

// The doc comments of arguments are their help texts, where `[env: NAME]` is no link.
#![allow(rustdoc::broken_intra_doc_links)]

use crate::ack::AckLevel;
use crate::config::{ConfigError, LogFormat, Secret, Written, set_limit};
use crate::histogram::Measure;
use crate::limits::LimitsWritten;
use crate::topology::CoreChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    Histograms(HistogramsArgs),
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

    /// Address of the admin pages [env: RINGHOUSE_ADMIN] [default: 127.0.0.1:8081]
    ///
    /// They are /livez, /readyz, /metrics, /histograms and /status, and not protected: keep them off the internet.
    #[arg(long, value_name = "ADDRESS", help_heading = "General")]
    pub admin: Option<SocketAddr>,

    /// When a request is answered [env: RINGHOUSE_ACK] [default: inserted]
    ///
    /// `memory`: its rows are parsed and typed; they are lost with the process; 202. `inserted`: ClickHouse has confirmed
    /// them; 200. A request may choose its own with ?ack=LEVEL.
    #[arg(long, value_name = "LEVEL", value_parser = ack_levels(), help_heading = "General")]
    pub ack: Option<AckLevel>,

    /// Directory of the embedded engine's data [env: RINGHOUSE_DATA_DIR] [default: ~/.local/share/ringhouse]
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

    /// ClickHouse's native port [env: RINGHOUSE_CLICKHOUSE] [default: tcp://default@127.0.0.1:9000/default]
    ///
    /// As tcp://user:password@host:9000/database. Every user of a machine sees its command lines: give the password by
    /// RINGHOUSE_CLICKHOUSE_PASSWORD or by file instead; either stands above the one in the URL.
    #[arg(long, value_name = "URL", help_heading = "ClickHouse")]
    pub clickhouse: Option<Secret>,

    /// File that holds nothing but ClickHouse's password [env: RINGHOUSE_CLICKHOUSE_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", help_heading = "ClickHouse")]
    pub clickhouse_password_file: Option<PathBuf>,

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
  blocks_per_core       rows held while ClickHouse is away, in blocks; then 503
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
    /// Admin address of the running server
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "RINGHOUSE_ADMIN",
        default_value = "127.0.0.1:8081"
    )]
    pub admin: SocketAddr,

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

/// Options of the hidden `embedded-engine`.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// The library and what it is started with, as `Embedded` wrote them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
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
            admin: self.admin,
            clickhouse: self.clickhouse,
            clickhouse_password: None,
            clickhouse_password_file: self.clickhouse_password_file,
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

/// Lets clap list the histograms and name the nearest one.
fn measures() -> clap::builder::PossibleValuesParser {
    Measure::ALL.map(Measure::name).into()
}

/// Lets clap list the levels and name the nearest one.
fn ack_levels() -> impl clap::builder::TypedValueParser<Value = AckLevel> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new([AckLevel::Memory.name(), AckLevel::Inserted.name()])
        .try_map(|name| name.parse::<AckLevel>())
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
