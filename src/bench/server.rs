//! A ringhouse with its embedded ClickHouse as child processes, in a directory that goes with them.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::clickhouse::{AskError, ClickHouse};
use super::interrupt::Interrupt;
use super::process;
use crate::ack::AckLevel;
use crate::admin;
use crate::clickhouse::embedded::free_port;
use crate::config::Protocol;
use crate::schema::TableName;
use crate::topology::CoreChoice;

/// Time to become ready. The engine is fetched once, 178 MB; after that seconds are usual.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// Time to drain and end after SIGTERM; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// Time the engine has to end after its parent has.
const ENGINE_END_PATIENCE: Duration = Duration::from_secs(10);

/// Time the server has to see a new table.
const TABLE_PATIENCE: Duration = Duration::from_secs(30);

/// The table whose rows are thrown away, and the one that has their ids.
pub const NULL_TABLE: &str = "bench_null";
/// See [`NULL_TABLE`].
pub const ID_TABLE: &str = "bench_ids";

/// A listener besides that of HTTP.
#[derive(Debug, Clone)]
pub struct SocketPlan {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where its rows go.
    pub table: String,
    /// What its acks promise, if it has any.
    pub ack: AckLevel,
}

/// What that listener is called.
const SOCKET: &str = "load";

impl SocketPlan {
    /// Its section of the configuration.
    fn config(&self) -> String {
        let SocketPlan { protocol, table, ack } = self;
        format!(
            "[listener.{SOCKET}]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:0\"\ntable = \"{table}\"\nack = \"{ack}\"\n"
        )
    }
}

/// How the server is to run.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    /// CPUs of its ingest cores.
    pub ingest: Vec<usize>,
    /// CPU of its writer.
    pub writer: usize,
    /// Its table.
    pub table: TableName,
    /// A listener besides that of HTTP.
    pub socket: Option<SocketPlan>,
    /// CPUs of its ClickHouse; any when there are none.
    pub clickhouse: Vec<usize>,
    /// Further limits, as KEY=VALUE.
    pub limits: Vec<String>,
}

/// A running server. Dropping it ends it, its engine and its directory.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Process of the engine.
    engine: Option<u32>,
    /// Where rows are posted.
    pub address: SocketAddr,
    /// Its listener besides, if it was to have one.
    pub socket: Option<SocketAddr>,
    /// Its admin pages.
    pub admin: SocketAddr,
    /// Its ClickHouse.
    pub clickhouse: ClickHouse,
    /// Port of the same one's native protocol.
    pub native_port: u16,
    // Last: fields are dropped in this order, and the engine writes into it while it lives.
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts `ringhouse serve --embedded` on free ports of loopback and waits until it takes rows. Call it from a thread
    /// that is not pinned: the engine may run wherever this thread may.
    ///
    /// # Errors
    /// It does not start, or a signal has come.
    pub fn start(plan: &ServerPlan, interrupt: &Interrupt) -> Result<Server, ServerError> {
        let directory = tempfile::Builder::new()
            .prefix("ringhouse-bench-")
            .tempdir()
            .map_err(ServerError::Io)?;
        let port = || free_port().map_err(ServerError::Io);
        let (tcp, http) = (port()?, port()?);
        let file = |name: &str| File::create(directory.path().join(name)).map_err(ServerError::Io);
        let mut command = Command::new(std::env::current_exe().map_err(ServerError::Io)?);
        command
            .args([
                "serve",
                "--embedded",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .args(["--embedded-tcp-port", &tcp.to_string()])
            .args(["--embedded-http-port", &http.to_string()])
            .args([
                "--ingest-cores",
                &CoreChoice::List(plan.ingest.clone()).to_string(),
            ])
            .args(["--writer-core", &plan.writer.to_string()])
            .args(["--table", &plan.table.plain()])
            .arg("--data-dir")
            .arg(directory.path().join("data"));
        if let Some(socket) = &plan.socket {
            let file = directory.path().join("config.toml");
            fs::write(&file, socket.config()).map_err(ServerError::Io)?;
            command.arg("--config").arg(file);
        }
        for limit in &plan.limits {
            command.args(["--limit", limit]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout.txt")?)
            .stderr(file("stderr.txt")?)
            // Ctrl-C in a terminal goes to the whole group: whoever started it ends it, when nothing more is asked of it.
            .process_group(0)
            .spawn()
            .map_err(ServerError::Io)?;
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Server {
            child,
            engine: None,
            address: unknown,
            socket: None,
            admin: unknown,
            clickhouse: ClickHouse::local_http(http),
            native_port: tcp,
            directory,
        };
        server.wait_until_ready(plan, interrupt)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, plan: &ServerPlan, interrupt: &Interrupt) -> Result<(), ServerError> {
        let exists = format!("SELECT 1 FROM {} LIMIT 0", plan.table);
        let socket = plan
            .socket
            .as_ref()
            .map(|socket| format!("ringhouse: {SOCKET} on {}://", socket.protocol));
        let ready = interrupt.wait_for(START_PATIENCE, || {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(Err(ServerError::Ended(status, self.last_words()))),
                Err(error) => return Some(Err(ServerError::Io(error))),
            }
            let output = fs::read_to_string(self.directory.path().join("stdout.txt")).ok()?;
            self.address = announced(&output, "ringhouse: listening on http://")?;
            self.admin = announced(&output, "ringhouse: admin on http://")?;
            self.socket = socket.as_deref().and_then(|socket| announced(&output, socket));
            admin::fetch(self.admin, "/readyz", None).ok()?;
            // It takes rows for a table that it has yet to create.
            self.clickhouse.run(&exists).ok().map(Ok)
        });
        match ready {
            Some(result) => result?,
            None if interrupt.has_come() => return Err(ServerError::Interrupted),
            None => return Err(ServerError::Silent(self.last_words())),
        }
        self.engine = process::children(self.pid()).first().copied();
        match self.engine {
            Some(pid) if !plan.clickhouse.is_empty() => {
                process::pin(pid, &plan.clickhouse).map_err(ServerError::Io)
            }
            _ => Ok(()),
        }
    }

    /// Creates a table that keeps nothing but the ids of its rows, which `id_sql` is, and waits until the server takes rows for it: what
    /// is measured then is the server, not ClickHouse's columns, compression and merges.
    ///
    /// # Errors
    /// ClickHouse refuses, or the server does not see the table.
    pub fn create_null_table(&self, id_sql: &str, interrupt: &Interrupt) -> Result<(), ServerError> {
        for sql in [
            format!("CREATE TABLE {NULL_TABLE} AS otel_logs ENGINE = Null"),
            format!(
                "CREATE MATERIALIZED VIEW {ID_TABLE} ENGINE = MergeTree ORDER BY (ServiceName, Timestamp) \
                 AS SELECT {id_sql} AS TraceId, ServiceName, Timestamp FROM {NULL_TABLE}"
            ),
        ] {
            self.clickhouse.run(&sql).map_err(ServerError::Table)?;
        }
        let request = admin::Request {
            method: "POST",
            host: &self.address.to_string(),
            path: &format!("/ingest/{NULL_TABLE}"),
            headers: &[],
            // No row: it is refused, but otherwise than for a table that is not known.
            body: b"\n",
        };
        let known = interrupt.wait_for(TABLE_PATIENCE, || {
            let reply = admin::exchange(self.address, &request, TABLE_PATIENCE).ok()?;
            (reply.status == 400).then_some(())
        });
        known.ok_or_else(|| match interrupt.has_come() {
            true => ServerError::Interrupted,
            false => ServerError::Silent(format!("it takes no rows for {NULL_TABLE}")),
        })
    }

    /// Rows each ingest core has accepted, by core; empty when the server does not tell.
    pub fn rows_by_core(&self) -> Vec<u64> {
        let rows = |page: String| {
            let status: serde_json::Value = serde_json::from_str(&page).ok()?;
            let cores = status["cores"].as_array()?;
            cores.iter().map(|core| core["rows_accepted"].as_u64()).collect()
        };
        admin::fetch(self.admin, "/status", None)
            .ok()
            .and_then(rows)
            .unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The engine's process.
    pub fn engine_pid(&self) -> Option<u32> {
        self.engine
    }

    /// SIGKILL to it and its engine: ends every request and query that is still awaited. For a run that nobody wants the end
    /// of. The engine by itself would wait for its connections, and they for it.
    pub fn kill(&self) {
        // Not one that has ended before: another process may have its id.
        let engine = self
            .engine
            .filter(|pid| process::children(self.pid()).contains(pid));
        for pid in [Some(self.pid()), engine].into_iter().flatten() {
            kill(pid, Signal::KILL);
        }
    }

    /// The end of what it logged, in one line.
    fn last_words(&self) -> String {
        last_lines(&self.directory.path().join("stderr.txt"))
    }

    /// SIGTERM, then SIGKILL when it takes too long; returns when it is gone.
    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It is ours and not waited for yet, so no other process has its id.
        kill(self.pid(), Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > END_PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Also of one that did not become ready; of one that is dead already the children have another parent.
        let mut engines = process::children(self.pid());
        engines.extend(self.engine);
        self.end();
        let asked = Instant::now();
        while engines.iter().any(|pid| process::is_alive(*pid)) && asked.elapsed() < ENGINE_END_PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub(super) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

pub(super) fn announced(output: &str, what: &str) -> Option<SocketAddr> {
    let rest = output.lines().find_map(|line| line.strip_prefix(what))?;
    rest.split(' ').next()?.parse().ok()
}

pub(super) fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// Why there is no server to measure.
#[derive(Debug)]
pub enum ServerError {
    /// The system gives no directory, port or process.
    Io(io::Error),
    /// It ended at its start, having said this.
    Ended(ExitStatus, String),
    /// It did not become ready, having said this.
    Silent(String),
    /// A table cannot be created.
    Table(AskError),
    /// SIGINT or SIGTERM has come.
    Interrupted,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Io(error) => write!(f, "the server to measure cannot be started: {error}"),
            ServerError::Ended(status, said) => {
                write!(f, "the server to measure ended at its start ({status}): {said}")
            }
            ServerError::Silent(said) => write!(
                f,
                "the server to measure was not ready within {} s: {said}",
                START_PATIENCE.as_secs()
            ),
            ServerError::Table(error) => write!(f, "the table to measure with cannot be created: {error}"),
            ServerError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for ServerError {}
