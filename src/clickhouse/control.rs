//! The control thread: asks ClickHouse which tables there are, again and again, and publishes them.
//!
//! It speaks through `clickhouse-rs`, whose habits shape two things here: a connection is used for one reading and never
//! after an error (its handle panics then), and a reading runs under `catch_unwind` (a server that closes the
//! connection in the middle of its handshake makes it panic).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clickhouse_rs::errors::Error as ClientError;
use clickhouse_rs::{ClientHandle, Options, Pool};
use futures_util::{FutureExt, TryStreamExt};

use crate::catalog::Catalog;
use crate::clickhouse::endpoint::Endpoint;
use crate::clickhouse::endpoints::{Endpoints, Round};
use crate::clickhouse::known_tables::{KnownTable, KnownTables};
use crate::clickhouse::relay;
use crate::limits::Limits;
use crate::schema::{QuotedName, RawColumn, Schema, TableName, TableSchema, shares_deduplication};

/// Least time between two readings, however many ask: a burst of unknown table names costs one.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Name of the control thread.
pub const THREAD_NAME: &str = "control";

/// Characters of a server's message that are kept: it may repeat whole queries.
const MESSAGE_CHARS_MAX: usize = 300;

/// What the control thread is started with.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where ClickHouse is: replicas of one shard with one database, the preferred one first. Never empty.
    pub endpoints: Vec<Endpoint>,
    /// Table of requests that name none; created when `create_tables`.
    pub default_table: TableName,
    /// Tables of other databases to serve too, or with `only_listed` the only tables to serve.
    pub tables: Vec<TableName>,
    /// File in which the tables are kept as they were last read.
    pub known_tables: Option<PathBuf>,
    /// Serve `default_table` and `tables` and nothing else. Otherwise every insertable table of the endpoints'
    /// database is served.
    pub only_listed: bool,
    /// Create the endpoints' database and the default table (with its database) when the server that is read has none.
    pub create_tables: bool,
    /// Days rows of a created default table are kept; `None` = for ever.
    pub ttl_days: Option<u32>,
    /// Deadlines and intervals: `connect_deadline_ms`, `schema_refresh_ms`, `retry_pause_*_ms`.
    pub limits: Limits,
}

impl ControlConfig {
    /// Database of tables that are named without one.
    fn database(&self) -> &str {
        &self.endpoints[0].database
    }
}

/// Whether ClickHouse answers, for `/readyz` and `/status`.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// The last reading succeeded.
    pub connected: bool,
    /// The server that answered last, as an address without its password.
    pub endpoint: Option<String>,
    /// Version of the server that answered last, such as `26.7.2.1`.
    pub server_version: Option<String>,
    /// Why the last reading failed, when it did.
    pub last_error: Option<ControlError>,
    /// Readings that failed since one succeeded.
    pub failures: u32,
}

/// Why ClickHouse could not be asked. Texts hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlError {
    /// ClickHouse answered with an exception.
    Server {
        /// ClickHouse's error code, such as 516 for a wrong password.
        code: u32,
        /// The beginning of its message.
        message: String,
    },
    /// No connection, a broken one, or no answer in time.
    Connection(String),
    /// What each of several servers failed with, by address, in the order they were written.
    Every(Vec<(String, ControlError)>),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Server { code, message } => {
                write!(f, "ClickHouse refused with code {code}: {message}")
            }
            ControlError::Connection(reason) => write!(f, "ClickHouse does not answer: {reason}"),
            ControlError::Every(failures) => {
                write!(
                    f,
                    "none of {} ClickHouse servers answers as it should",
                    failures.len()
                )?;
                failures
                    .iter()
                    .try_for_each(|(endpoint, error)| write!(f, "; {endpoint}: {error}"))
            }
        }
    }
}

impl std::error::Error for ControlError {}

impl From<ClientError> for ControlError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Server(e) => ControlError::Server {
                code: e.code,
                message: shortened(&e.message),
            },
            other => ControlError::Connection(shortened(&other.to_string())),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Handle of the running control thread.
#[derive(Debug, Clone)]
pub struct Control {
    catalog: Arc<Catalog>,
    readiness: Arc<Mutex<Readiness>>,
    parts: Arc<Mutex<BTreeMap<TableName, u64>>>,
    stopping: Arc<Stopping>,
}

/// The end of the control thread.
#[derive(Debug, Default)]
struct Stopping {
    asked: tokio::sync::Notify,
    ended: (Mutex<bool>, Condvar),
}

/// Time the control thread has to finish its reading when the process ends.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

impl Control {
    /// The tables, as last read.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Active parts of each table's fullest partition, as last read.
    pub fn parts(&self) -> BTreeMap<TableName, u64> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread after its reading, if that takes no longer than a moment.
    pub fn stop(&self) {
        self.stopping.asked.notify_one();
        let (ended, bell) = &self.stopping.ended;
        let guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = bell.wait_timeout_while(guard, STOP_PATIENCE, |ended| !*ended);
    }

    /// State of the connection, as last seen.
    pub fn readiness(&self) -> Readiness {
        self.readiness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Starts the control thread. It ends with the process; ClickHouse being away never ends it.
///
/// Until ClickHouse has answered, the catalog knows the tables as a former process has read them last; the default table
/// by its built-in columns when this process is to create it and none has ever seen it; and nothing else.
///
/// # Errors
///
/// Only when the operating system gives no thread or no event loop.
pub fn start_control(config: ControlConfig) -> io::Result<Control> {
    let known = config.known_tables.as_deref().map(KnownTables::open);
    let mut assumed = known.as_ref().map_or_else(Vec::new, KnownTables::schemas);
    if config.create_tables && assumed.iter().all(|schema| schema.name != config.default_table) {
        assumed.push(Arc::new(TableSchema::default_table(config.default_table.clone())));
    }
    let control = Control {
        catalog: Arc::new(Catalog::new(
            config.default_table.clone(),
            &config.tables,
            assumed,
        )),
        readiness: Arc::new(Mutex::new(Readiness::default())),
        parts: Arc::default(),
        stopping: Arc::default(),
    };
    let event_loop = event_loop()?;
    let running = control.clone();
    thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(move || event_loop.block_on(keep_reading(&config, &running, known)))?;
    Ok(control)
}

fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn keep_reading(config: &ControlConfig, control: &Control, mut known: Option<KnownTables>) {
    let refresh = Duration::from_millis(config.limits.schema_refresh_ms);
    let pause_max = Duration::from_millis(config.limits.retry_pause_max_ms).max(REFRESH_INTERVAL_MIN);
    let mut pause = REFRESH_INTERVAL_MIN;
    let mut report_of = BTreeMap::new();
    let mut reader = Reader::new(config);
    loop {
        let read = reader.read(config).await;
        let readable = read.is_ok();
        match read {
            Ok(mut reading) => {
                pause = REFRESH_INTERVAL_MIN;
                let tables = std::mem::take(&mut reading.known);
                if let Some(Err(error)) = known.as_mut().map(|known| known.save(tables)) {
                    tracing::debug!(%error, "the tables' columns cannot be kept for the next start");
                }
                publish(control, reading, &mut report_of);
            }
            Err(error) => {
                pause = (pause * 2).min(pause_max);
                note_failure(control, error);
            }
        }
        let pausing = async {
            if readable {
                let wait = refresh.saturating_sub(REFRESH_INTERVAL_MIN);
                tokio::time::sleep(REFRESH_INTERVAL_MIN).await;
                let _ = tokio::time::timeout(wait, control.catalog.refresh_requested()).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = pausing => {}
            () = control.stopping.asked.notified() => break,
        }
    }
    let (ended, bell) = &control.stopping.ended;
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    bell.notify_all();
}

/// Reads from the server that answered last, and from the others in turn when it does not.
struct Reader {
    endpoints: Endpoints,
    /// What each server failed with last, by its index.
    errors: Vec<Option<ControlError>>,
}

impl Reader {
    fn new(config: &ControlConfig) -> Reader {
        Reader {
            endpoints: Endpoints::new(config.endpoints.clone()),
            errors: vec![None; config.endpoints.len()],
        }
    }

    /// The first reading that succeeds, or why none did.
    async fn read(&mut self, config: &ControlConfig) -> Result<Reading, ControlError> {
        let list = Arc::clone(self.endpoints.list());
        loop {
            let index = self.endpoints.pick();
            let error = match guarded(read_tables(config, &list[index])).await {
                Ok(reading) => {
                    self.endpoints.answered();
                    self.errors[index] = None;
                    return Ok(reading);
                }
                Err(error) => error,
            };
            let before = self.errors[index].take();
            let error = kept_reason(before.as_ref(), error);
            let round = self.endpoints.failed(index);
            // Said once per reason, not once per try; what every server fails with is said by `note_failure`.
            if round == Round::GoesOn && before.as_ref() != Some(&error) {
                tracing::warn!(endpoint = %list[index], "{error}; the next server is asked");
            }
            self.errors[index] = Some(error);
            if round == Round::Over {
                return Err(self.every_error(&list));
            }
        }
    }

    fn every_error(&self, list: &[Endpoint]) -> ControlError {
        let failures = list.iter().zip(&self.errors);
        let mut failures: Vec<(String, ControlError)> = failures
            .filter_map(|(endpoint, error)| Some((endpoint.to_string(), error.clone()?)))
            .collect();
        assert_eq!(
            failures.len(),
            list.len(),
            "a round is over when every server failed"
        );
        match failures.len() {
            1 => failures.remove(0).1,
            _ => ControlError::Every(failures),
        }
    }
}

/// A server that refuses a login closes the connection, and now and then only that is seen: what it said before is
/// still the reason.
fn kept_reason(before: Option<&ControlError>, now: ControlError) -> ControlError {
    let closed = matches!(&now, ControlError::Connection(reason) if reason == CLOSED_IN_ANSWER);
    match before {
        Some(refusal @ ControlError::Server { .. }) if closed => refusal.clone(),
        _ => now,
    }
}

fn publish(control: &Control, reading: Reading, report_of: &mut BTreeMap<TableName, String>) {
    let first = {
        let mut readiness = control.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !readiness.connected || readiness.endpoint.as_ref() != Some(&reading.endpoint);
        *readiness = Readiness {
            connected: true,
            endpoint: Some(reading.endpoint.clone()),
            server_version: Some(reading.version.clone()),
            last_error: None,
            failures: 0,
        };
        first
    };
    if first {
        tracing::info!(
            endpoint = reading.endpoint,
            version = reading.version,
            tables = reading.served.len(),
            "ClickHouse answers"
        );
    }
    // A table that cannot be served is said once, and again when its reason changes.
    for (name, reason) in &reading.refused {
        if report_of.get(name) != Some(reason) {
            tracing::warn!("table {}.{} is not served: {reason}", name.database, name.table);
        }
    }
    *report_of = reading.refused.into_iter().collect();
    *control.parts.lock().unwrap_or_else(PoisonError::into_inner) = reading.parts;
    let changes = control.catalog.publish(reading.served);
    for name in &changes.changed {
        tracing::info!("table {}.{} has changed", name.database, name.table);
    }
    for name in &changes.gone {
        tracing::warn!("table {}.{} is gone", name.database, name.table);
    }
}

fn note_failure(control: &Control, error: ControlError) {
    let mut readiness = control.readiness.lock().unwrap_or_else(PoisonError::into_inner);
    // Said once per reason, not once per try.
    if readiness.last_error.as_ref() != Some(&error) {
        tracing::warn!("{error}; rows are held and it is asked again");
    }
    readiness.connected = false;
    readiness.failures = readiness.failures.saturating_add(1);
    readiness.last_error = Some(error);
}

/// What a lost connection looks like when it made the client library panic.
const CLOSED_IN_ANSWER: &str = "the connection was closed in the middle of an answer";

/// Turns a panic of the client library into a lost connection.
async fn guarded<T>(work: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(_) => Err(ControlError::Connection(CLOSED_IN_ANSWER.to_owned())),
    }
}

/// One look at ClickHouse.
#[derive(Debug, Default)]
struct Reading {
    /// Who was asked.
    endpoint: String,
    version: String,
    served: Vec<Schema>,
    /// Tables that would be served but cannot be, with the reason.
    refused: Vec<(TableName, String)>,
    /// What system.tables says of each of both.
    described: Vec<Described>,
    /// Active parts of each table's fullest partition.
    parts: BTreeMap<TableName, u64>,
    /// The served tables, for the next start.
    known: Vec<KnownTable>,
}

/// A row of `system.tables`.
#[derive(Debug, Clone)]
struct Described {
    name: TableName,
    engine: String,
    partition_key: String,
    create: String,
}

async fn read_tables(config: &ControlConfig, endpoint: &Endpoint) -> Result<Reading, ControlError> {
    let mut session = Session::open(endpoint, &config.limits).await?;
    if config.create_tables {
        for database in [config.database(), &config.default_table.database] {
            session
                .run(&format!("CREATE DATABASE IF NOT EXISTS {}", QuotedName(database)))
                .await?;
        }
        session
            .run(&TableSchema::default_table_ddl(
                &config.default_table,
                config.ttl_days,
            ))
            .await?;
    }
    let mut reading = Reading {
        endpoint: endpoint.to_string(),
        version: session.one("SELECT version()").await?,
        ..Reading::default()
    };
    let tables = session
        .rows::<5>(&format!(
            "SELECT database, name, engine, partition_key, create_table_query FROM system.tables WHERE {}",
            filter(config, "name")
        ))
        .await?;
    // 18.16 does not number its columns; it gives them in their order.
    let numbered = "SELECT name FROM system.columns WHERE database = 'system' AND table = 'columns' AND name = 'position'";
    let order = match session.rows::<1>(numbered).await?.is_empty() {
        true => "",
        false => "ORDER BY database, table, position",
    };
    let mut columns: BTreeMap<TableName, Vec<RawColumn>> = BTreeMap::new();
    let rows = session
        .rows::<6>(&format!(
            "SELECT database, table, name, type, default_kind, default_expression FROM system.columns \
             WHERE {} {order}",
            filter(config, "table")
        ))
        .await?;
    for [database, table, name, type_name, default_kind, default_expression] in rows {
        let column = RawColumn {
            name,
            type_name,
            default_kind,
            default_expression,
        };
        columns
            .entry(TableName { database, table })
            .or_default()
            .push(column);
    }
    // The last question: a connection that has answered with an error is not asked again.
    reading.parts = match read_parts(&mut session, config).await {
        Err(ControlError::Server { .. }) => BTreeMap::new(),
        parts => parts?,
    };
    for [database, table, engine, partition_key, create] in tables {
        let name = TableName { database, table };
        if !insertable(&engine) {
            continue;
        }
        let raw = columns.remove(&name).unwrap_or_default();
        match TableSchema::from_columns(name.clone(), &raw, &partition_key) {
            Ok(schema) => {
                reading.served.push(Arc::new(schema.with_engine(&engine)));
                reading.known.push(KnownTable {
                    name: name.clone(),
                    engine: engine.clone(),
                    partition_key: partition_key.clone(),
                    columns: raw,
                });
            }
            Err(error) => reading.refused.push((name.clone(), error.to_string())),
        }
        reading.described.push(Described {
            name,
            engine,
            partition_key,
            create,
        });
    }
    Ok(reading)
}

/// How many parts the fullest partition of each table has. A user who may not see that slows nobody down.
async fn read_parts(
    session: &mut Session,
    config: &ControlConfig,
) -> Result<BTreeMap<TableName, u64>, ControlError> {
    let query = format!(
        "SELECT database, table, toString(max(parts)) FROM \
         (SELECT database, table, partition, count() AS parts FROM system.parts WHERE active AND {} \
         GROUP BY database, table, partition) GROUP BY database, table",
        filter(config, "table")
    );
    let rows = session.rows::<3>(&query).await?;
    let parts =
        |[database, table, parts]: [String; 3]| (TableName { database, table }, parts.parse().unwrap_or(0));
    Ok(rows.into_iter().map(parts).collect())
}

/// The served tables as a condition on `database` and the column that holds the table's name.
fn filter(config: &ControlConfig, name_column: &str) -> String {
    let mut terms = Vec::new();
    if !config.only_listed {
        terms.push(format!("database = {}", quoted(config.database())));
    }
    for table in std::iter::once(&config.default_table).chain(&config.tables) {
        terms.push(format!(
            "(database = {} AND {name_column} = {})",
            quoted(&table.database),
            quoted(&table.table)
        ));
    }
    format!("({})", terms.join(" OR "))
}

/// A string literal of ClickHouse's SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Engines that take INSERTs of rows. Views, dictionaries, table functions and the system's own are not destinations.
fn insertable(engine: &str) -> bool {
    engine.ends_with("MergeTree")
        || matches!(
            engine,
            "Null" | "Memory" | "Distributed" | "Buffer" | "Log" | "TinyLog" | "StripeLog"
        )
}

/// One connection for a few queries in a row. Drop it after the first error.
struct Session {
    handle: ClientHandle,
}

impl Session {
    async fn open(endpoint: &Endpoint, limits: &Limits) -> Result<Session, ControlError> {
        let deadline = Duration::from_millis(limits.connect_deadline_ms);
        let opened = tokio::time::timeout(deadline, Session::open_within(endpoint, deadline));
        opened.await.map_err(|_| {
            ControlError::Connection(format!("no answer within {} ms", limits.connect_deadline_ms))
        })?
    }

    async fn open_within(endpoint: &Endpoint, deadline: Duration) -> Result<Session, ControlError> {
        let authority = match &endpoint.tls {
            None => endpoint.authority(),
            Some(trust) => relay::open(endpoint, trust, deadline)
                .await
                .map_err(|reason| ControlError::Connection(shortened(&reason)))?
                .to_string(),
        };
        let options = Options::from_str(&format!("tcp://{authority}"))?
            .username(&endpoint.user)
            .password(endpoint.password.expose())
            // Not the endpoint's database: it may be one we are about to create.
            .database("default")
            .pool_min(1)
            .pool_max(1)
            .ping_before_query(false)
            .send_retries(0)
            .connection_timeout(deadline);
        let handle = Pool::new(options).get_handle().await?;
        Ok(Session { handle })
    }

    async fn run(&mut self, sql: &str) -> Result<(), ControlError> {
        self.rows::<0>(sql).await.map(drop)
    }

    async fn one(&mut self, sql: &str) -> Result<String, ControlError> {
        let rows = self.rows::<1>(sql).await?;
        let first = rows.into_iter().next();
        first
            .map(|[text]| text)
            .ok_or_else(|| ControlError::Connection("an empty answer".to_owned()))
    }

    /// Rows of `N` String columns. Reads by block: the library's own `fetch_all` and `execute` panic on an empty result
    /// and on a connection that ends early.
    async fn rows<const N: usize>(&mut self, sql: &str) -> Result<Vec<[String; N]>, ControlError> {
        let work = async {
            let mut rows = Vec::new();
            let mut blocks = self.handle.query(sql).stream_blocks();
            while let Some(block) = blocks.try_next().await? {
                for row in 0..if N == 0 { 0 } else { block.row_count() } {
                    let mut texts = [const { String::new() }; N];
                    for (column, text) in texts.iter_mut().enumerate() {
                        *text = block.get(row, column)?;
                    }
                    rows.push(texts);
                }
            }
            Ok(rows)
        };
        tokio::time::timeout(QUERY_DEADLINE, work).await.map_err(|_| {
            ControlError::Connection(format!("no answer within {} s", QUERY_DEADLINE.as_secs()))
        })?
    }
}

/// Time one query on system tables may take. Creating a table on a busy replicated server takes seconds.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);

/// Runs one SELECT of `N` String columns on a connection of its own. Blocks; call it from no event loop.
///
/// # Errors
///
/// When ClickHouse does not answer within `connect_deadline`, or refuses.
pub fn ask<const N: usize>(
    endpoint: &Endpoint,
    connect_deadline: Duration,
    sql: &str,
) -> Result<Vec<[String; N]>, ControlError> {
    let limits = Limits {
        connect_deadline_ms: connect_deadline.as_millis() as u64,
        ..Limits::default()
    };
    let event_loop = event_loop().map_err(|error| ControlError::Connection(error.to_string()))?;
    event_loop.block_on(guarded(async {
        let mut session = Session::open(endpoint, &limits).await?;
        session.rows(sql).await
    }))
}

/// What `ringhouse check` found out about one table.
#[derive(Debug)]
pub struct TableReport {
    /// The table.
    pub name: TableName,
    /// Its engine, such as `MergeTree`.
    pub engine: String,
    /// Its partition key as ClickHouse prints it; empty for none.
    pub partition_key: String,
    /// How its columns are read, or why it cannot be served.
    pub schema: Result<Schema, String>,
    /// What works but should be known.
    pub warnings: Vec<String>,
}

/// What `ringhouse check` found out.
#[derive(Debug)]
pub struct CheckReport {
    /// The server whose tables these are, as an address without its password.
    pub endpoint: String,
    /// Its version.
    pub server_version: String,
    /// Servers that do not answer as they should, and why.
    pub failed: Vec<(String, ControlError)>,
    /// The served tables, ascending by name.
    pub tables: Vec<TableReport>,
    /// Listed tables (the default one among them) that do not exist.
    pub missing: Vec<TableName>,
}

/// Reads the live tables of every server once and reports how rows map to those of the first that answers, and where
/// the others differ. Creates nothing. Blocks; call it from no event loop.
///
/// # Errors
///
/// When no ClickHouse answers, or each refuses.
pub fn check(config: &ControlConfig) -> Result<CheckReport, ControlError> {
    let config = ControlConfig {
        create_tables: false,
        ..config.clone()
    };
    let event_loop = event_loop().map_err(|error| ControlError::Connection(error.to_string()))?;
    let mut failed = Vec::new();
    let mut readings = Vec::new();
    for endpoint in &config.endpoints {
        match event_loop.block_on(guarded(read_tables(&config, endpoint))) {
            Ok(reading) => readings.push(reading),
            Err(error) => failed.push((endpoint.to_string(), error)),
        }
    }
    if readings.is_empty() {
        return Err(match failed.len() {
            1 => failed.remove(0).1,
            _ => ControlError::Every(failed),
        });
    }
    let reading = readings.remove(0);
    let several = config.endpoints.len() > 1;
    let mut tables: Vec<TableReport> = reading
        .described
        .into_iter()
        .map(|table| {
            let served = reading.served.iter().find(|schema| schema.name == table.name);
            let refused = reading.refused.iter().find(|(name, _)| *name == table.name);
            let schema = match (served, refused) {
                (Some(schema), _) => Ok(Arc::clone(schema)),
                (None, refused) => Err(refused.map_or_else(String::new, |(_, reason)| reason.clone())),
            };
            let mut warnings = warnings(&table);
            if several && !shares_deduplication(&table.engine) {
                warnings.push(format!(
                    "several servers are given, but {} shares nothing between them: each row is on the one that was in \
                     use, and rows whose INSERT broke off are held until their server is back; use a Replicated engine",
                    table.engine
                ));
            }
            warnings.extend(readings.iter().filter_map(|other| difference(&table.name, served, other)));
            TableReport {
                name: table.name,
                engine: table.engine,
                partition_key: table.partition_key,
                schema,
                warnings,
            }
        })
        .collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = std::iter::once(&config.default_table).chain(&config.tables);
    let missing = listed
        .filter(|name| tables.iter().all(|t| t.name != **name))
        .cloned()
        .collect();
    Ok(CheckReport {
        endpoint: reading.endpoint,
        server_version: reading.version,
        failed,
        tables,
        missing,
    })
}

/// What another server has in place of this table, when not the same.
fn difference(name: &TableName, served: Option<&Schema>, other: &Reading) -> Option<String> {
    let there = other.served.iter().find(|schema| schema.name == *name);
    match (served, there) {
        (Some(here), Some(there)) if here.fingerprint != there.fingerprint => Some(format!(
            "it has other columns or another partition key on {}: rows that fit here may be held there",
            other.endpoint
        )),
        (Some(_), None) => Some(format!(
            "{} does not have it, or not so that rows could go there",
            other.endpoint
        )),
        _ => None,
    }
}

fn warnings(table: &Described) -> Vec<String> {
    doubled(table).into_iter().collect()
}

/// Why an INSERT into the table is doubled when it is retried after its outcome got lost, if it is.
fn doubled(table: &Described) -> Option<String> {
    let (name, engine) = (&table.name, table.engine.as_str());
    let why = |why: String| {
        Some(format!(
            "an INSERT whose outcome got lost is doubled when it is retried: {why}"
        ))
    };
    let window = |setting| setting_in(&table.create, setting);
    match engine {
        // What goes in is gone.
        "Null" => None,
        _ if shares_deduplication(engine) => match window("replicated_deduplication_window") {
            Some(0) => why(format!(
                "the table forgets every token at once: ALTER TABLE {name} MODIFY SETTING replicated_deduplication_window = 1000"
            )),
            _ => None,
        },
        _ if engine.ends_with("MergeTree") => match window("non_replicated_deduplication_window") {
            None | Some(0) => why(format!(
                "the table remembers no tokens (unless the server's <merge_tree> settings say so for all tables): \
                 ALTER TABLE {name} MODIFY SETTING non_replicated_deduplication_window = 1000"
            )),
            Some(_) => None,
        },
        "Distributed" => why(
            "only the tables behind it can tell; insert into a local table of each shard, or see to it that they deduplicate"
                .to_owned(),
        ),
        _ => why(format!("the engine {engine} knows no deduplication tokens")),
    }
}

/// A number among the table's own settings.
fn setting_in(create: &str, setting: &str) -> Option<u64> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    create.match_indices(setting).find_map(|(at, _)| {
        // Not the end of a longer name.
        if at > 0 && is_word(create.as_bytes()[at - 1]) {
            return None;
        }
        let value = create[at + setting.len()..]
            .trim_start()
            .strip_prefix('=')?
            .trim_start();
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        value[..digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(only_listed: bool) -> ControlConfig {
        let name = |database: &str, table: &str| TableName {
            database: database.into(),
            table: table.into(),
        };
        ControlConfig {
            endpoints: vec![Endpoint {
                database: "it's".into(),
                ..Endpoint::local(1)
            }],
            default_table: name("it's", "logs"),
            tables: vec![name("other", "back\\slash")],
            only_listed,
            known_tables: None,
            create_tables: false,
            ttl_days: None,
            limits: Limits {
                connect_deadline_ms: 300,
                ..Limits::default()
            },
        }
    }

    #[test]
    fn names_in_the_filter_are_escaped() {
        assert_eq!(
            filter(&config(true), "name"),
            r"((database = 'it\'s' AND name = 'logs') OR (database = 'other' AND name = 'back\\slash'))"
        );
        assert!(filter(&config(false), "table").starts_with(r"(database = 'it\'s' OR (database"));
    }

    #[test]
    fn views_and_dictionaries_are_no_destinations() {
        for engine in [
            "MergeTree",
            "ReplicatedReplacingMergeTree",
            "SharedMergeTree",
            "Null",
            "Distributed",
            "Buffer",
        ] {
            assert!(insertable(engine), "{engine}");
        }
        for engine in [
            "View",
            "MaterializedView",
            "Dictionary",
            "Merge",
            "SystemLog",
            "Kafka",
            "URL",
        ] {
            assert!(!insertable(engine), "{engine}");
        }
    }

    #[test]
    fn a_plain_table_without_a_deduplication_window_is_warned_about() {
        let table = |engine: &str, create: &str| Described {
            name: TableName {
                database: "d".into(),
                table: "t".into(),
            },
            engine: engine.into(),
            partition_key: String::new(),
            create: create.into(),
        };
        let with = "CREATE TABLE d.t (a Int) SETTINGS non_replicated_deduplication_window = 1000, x = 1";
        assert_eq!(warnings(&table("MergeTree", "CREATE TABLE d.t (a Int)")).len(), 1);
        assert_eq!(warnings(&table("MergeTree", with)).len(), 0);
        assert_eq!(
            warnings(&table("ReplicatedMergeTree", "CREATE TABLE d.t (a Int)")).len(),
            0
        );
        assert_eq!(warnings(&table("Null", "CREATE TABLE d.t (a Int)")).len(), 0);
        let replicated = |window: u64| {
            let create =
                format!("CREATE TABLE d.t (a Int) SETTINGS replicated_deduplication_window = {window}");
            warnings(&table("ReplicatedMergeTree", &create)).len()
        };
        assert_eq!((replicated(0), replicated(100)), (1, 0));
        // The one setting's name ends with the other's.
        let create = "CREATE TABLE d.t (a Int) SETTINGS non_replicated_deduplication_window = 0";
        assert_eq!(warnings(&table("SharedMergeTree", create)).len(), 0);
        assert_eq!(warnings(&table("ReplacingMergeTree", create)).len(), 1);
        let memory = warnings(&table("Memory", "CREATE TABLE d.t (a Int)"));
        assert!(memory[0].contains("Memory knows no"), "{memory:?}");
    }

    /// A server that does to every connection what `act` does.
    fn server(act: fn(std::net::TcpStream)) -> Endpoint {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().flatten().for_each(act));
        Endpoint::local(port)
    }

    #[test]
    fn a_server_that_closes_at_once_is_a_lost_connection() {
        let config = ControlConfig {
            endpoints: vec![server(drop)],
            ..config(true)
        };
        assert!(matches!(check(&config), Err(ControlError::Connection(_))));
    }

    /// A load balancer without a server behind it does this. The client library panics on it.
    #[test]
    fn a_server_that_closes_after_the_hello_is_a_lost_connection() {
        let read_hello_and_close = |mut stream: std::net::TcpStream| {
            let _ = io::Read::read(&mut stream, &mut [0; 4096]);
        };
        let config = ControlConfig {
            endpoints: vec![server(read_hello_and_close)],
            ..config(true)
        };
        assert!(matches!(check(&config), Err(ControlError::Connection(_))));
    }

    #[test]
    fn a_server_that_stays_silent_is_a_lost_connection_in_time() {
        let config = ControlConfig {
            endpoints: vec![server(std::mem::forget)],
            ..config(true)
        };
        assert!(matches!(check(&config), Err(ControlError::Connection(_))));
    }

    #[test]
    fn an_absent_server_leaves_tables_not_yet_known_and_a_reason() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let control = start_control(ControlConfig {
            endpoints: vec![Endpoint::local(closed)],
            ..config(true)
        })
        .unwrap();
        while control.readiness().failures == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!control.readiness().connected);
        assert!(control.readiness().last_error.is_some());
        assert!(matches!(
            control.catalog().lookup(None, None),
            crate::catalog::Lookup::NotYetKnown
        ));
    }

    #[test]
    fn every_server_is_asked_before_the_reading_fails_and_each_says_why() {
        let config = ControlConfig {
            endpoints: vec![server(drop), server(std::mem::forget)],
            ..config(true)
        };
        let reasons = |error: ControlError| match error {
            ControlError::Every(failures) => failures.into_iter().map(|(endpoint, _)| endpoint).collect(),
            other => vec![other.to_string()],
        };
        let both: Vec<String> = config.endpoints.iter().map(Endpoint::to_string).collect();
        assert_eq!(reasons(check(&config).unwrap_err()), both);
        let mut reader = Reader::new(&config);
        for _ in 0..2 {
            let error = event_loop().unwrap().block_on(reader.read(&config)).unwrap_err();
            assert_eq!(
                reasons(error),
                both,
                "in the order they were written, whoever was asked first"
            );
        }
    }

    #[test]
    fn a_table_that_differs_elsewhere_is_told() {
        let name = TableName {
            database: "d".into(),
            table: "t".into(),
        };
        let schema = |column: &str| {
            let raw = RawColumn {
                name: column.into(),
                type_name: "String".into(),
                ..RawColumn::default()
            };
            Arc::new(TableSchema::from_columns(name.clone(), &[raw], "").unwrap())
        };
        let other = |served: Vec<Schema>| Reading {
            endpoint: "tcp://b:9000".into(),
            served,
            ..Reading::default()
        };
        let here = schema("a");
        assert_eq!(difference(&name, Some(&here), &other(vec![schema("a")])), None);
        let told = difference(&name, Some(&here), &other(vec![schema("b")])).unwrap();
        assert!(
            told.contains("other columns") && told.contains("tcp://b:9000"),
            "{told}"
        );
        let told = difference(&name, Some(&here), &other(Vec::new())).unwrap();
        assert!(told.contains("does not have it"), "{told}");
    }
}
