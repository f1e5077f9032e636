//! The processes of one run: ringhouse in one life after another, a proxy, the engine behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ringhouse::clickhouse::embedded::{Embedded, EmbeddedConfig};
use rustix::process::{Pid, Signal, kill_process};

use super::common::{BINARY, Server, eventually, free_port, try_sql};
use super::has_log;
use super::proxy::Proxy;

/// Time ClickHouse has for an INSERT. Short, so that it is given up while ClickHouse still has it.
pub const INSERT_DEADLINE_MS: u64 = 2_000;

/// Short pauses, so that a cycle is short.
const LIMITS: [&str; 5] = [
    "retry_pause_max_ms=300",
    "schema_refresh_ms=500",
    "connect_deadline_ms=1000",
    "ack_deadline_ms=10000",
    "drain_deadline_ms=20000",
];

/// Ends what it started when dropped. When the test fails then, prints what ringhouse logged and keeps everything.
pub struct Rig {
    server: Option<Server>,
    engine: Option<Embedded>,
    engine_config: EmbeddedConfig,
    pub proxy: Proxy,
    /// Where ringhouse listens in every life.
    pub port: u16,
    arguments: Vec<String>,
    data: PathBuf,
    directory: Option<tempfile::TempDir>,
    lives: u64,
    /// Lives before this one are not printed: their rows have been checked.
    life_first: u64,
    pub kills: u64,
    /// Starts that found the port still taken by the life before.
    pub starts_too_early: u64,
}

impl Rig {
    /// With ringhouse's data in `data`, or beside everything else.
    pub fn start(seed: u64, data: Option<&Path>, limits: &[&str]) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let (tcp_port, port) = (free_port(), free_port());
        let engine_config = EmbeddedConfig {
            directory: directory.path().join("clickhouse"),
            tcp_port: Some(tcp_port),
            http_port: free_port(),
            memory_bytes_max: Some(2 << 30),
            users_config: None,
            executable: Some(BINARY.into()),
        };
        let proxy = Proxy::start(tcp_port, seed);
        let mut arguments = vec![
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--clickhouse".to_owned(),
            format!("tcp://default@127.0.0.1:{}/default", proxy.port),
            "--create-tables".to_owned(),
            // `/readyz` tells of the log then, and not of ClickHouse.
            "--ack".to_owned(),
            "wal".to_owned(),
        ];
        let insert_deadline = format!("insert_deadline_ms={INSERT_DEADLINE_MS}");
        for limit in LIMITS.iter().chain(limits).chain([&insert_deadline.as_str()]) {
            arguments.extend(["--limit".to_owned(), (*limit).to_owned()]);
        }
        fs::create_dir(directory.path().join("lives")).unwrap();
        let data = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let mut rig = Rig {
            server: None,
            engine: None,
            engine_config,
            proxy,
            port,
            arguments,
            data,
            directory: Some(directory),
            lives: 0,
            life_first: 0,
            kills: 0,
            starts_too_early: 0,
        };
        rig.start_engine();
        rig.start_server();
        rig.server().wait_until_ready();
        rig
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("ringhouse runs between two faults")
    }

    /// The next life, once it listens.
    pub fn start_server(&mut self) {
        let started = Instant::now();
        loop {
            self.spawn_server();
            let server = self.server.as_mut().expect("it was just spawned");
            let Err(status) = server.try_wait_until_it_listens() else {
                return;
            };
            let is_early = found_its_port_taken(server) && started.elapsed() < PORT_PATIENCE;
            assert!(is_early, "ringhouse ended at its start: {status}");
            self.starts_too_early += 1;
            self.server = None;
        }
    }

    /// The next life.
    pub fn spawn_server(&mut self) {
        assert!(self.server.is_none(), "one at a time");
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.server = Some(Server::spawn_life(
            &self.data,
            &self.logs(),
            self.lives,
            &arguments,
        ));
        self.lives += 1;
    }

    pub fn kill_server(&mut self) {
        let mut server = self.server.take().expect("ringhouse runs between two faults");
        let status = server.kill();
        if status.code().is_some() && found_its_port_taken(&server) {
            self.starts_too_early += 1;
            return;
        }
        assert!(status.code().is_none(), "ringhouse ended by itself: {status}");
        self.kills += 1;
    }

    /// SIGTERM. The next life is up to the caller.
    pub fn stop_server(&mut self) {
        let mut server = self.server.take().expect("ringhouse runs between two faults");
        server.signal(Signal::TERM);
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "the end after SIGTERM: {}", server.log());
    }

    /// SIGKILL. Not through the supervisor's restart: its pause grows to ten seconds with a child that dies often.
    pub fn kill_engine(&mut self) {
        self.signal_engine(Signal::KILL);
        self.engine = None;
        self.kills += 1;
    }

    pub fn start_engine(&mut self) {
        assert!(self.engine.is_none(), "one at a time");
        let engine = Embedded::start(self.engine_config.clone());
        self.engine = Some(engine.unwrap_or_else(|error| panic!("{error}")));
    }

    /// To the engine, unless it is just dead by itself: it ends on a reset of any connection.
    pub fn signal_engine(&self, signal: Signal) {
        let pid = self.engine.as_ref().map_or(0, Embedded::pid);
        if let Some(pid) = Pid::from_raw(pid.try_into().expect("a pid")) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the engine until it answers.
    pub fn query(&self, query: &str) -> String {
        eventually("the engine's answer", || {
            try_sql(self.engine_config.http_port, query)
                .map_err(|error| eprintln!("{query}: {error}"))
                .ok()
        })
    }

    /// The write-ahead log's directory.
    pub fn log_directory(&self) -> PathBuf {
        self.data.join("wal")
    }

    fn logs(&self) -> PathBuf {
        let directory = self.directory.as_ref().expect("it is given up at the end only");
        directory.path().join("lives")
    }

    /// Rows that the lives so far have told to be lost.
    ///
    /// A life counts, once it has recovered, what was in the memory of those before it, and adds it to what they had told:
    /// the ledger's line says so on stdout, which outlives the process, and again at its end.
    pub fn rows_lost(&self) -> u64 {
        let of_life = |life| {
            let output = fs::read_to_string(self.logs().join(format!("{life:04}-stdout.txt")));
            let output = output.expect("every life has one");
            let ledgers = output
                .lines()
                .filter(|line| line.starts_with("ringhouse: ledger "));
            ledgers.filter_map(lost_in).max().unwrap_or(0)
        };
        (0..self.lives).map(of_life).max().unwrap_or(0)
    }

    /// Everything up to now is known to be right.
    pub fn forget_earlier_lives(&mut self) {
        self.life_first = self.lives.saturating_sub(1);
    }

    fn print_lives(&self) {
        for life in self.life_first..self.lives {
            for name in ["stdout", "stderr"] {
                let path = self.logs().join(format!("{life:04}-{name}.txt"));
                let text = fs::read_to_string(&path).unwrap_or_default();
                eprintln!("--- {name} of life {life}\n{}", text.trim_end());
            }
        }
    }
}

/// The kernel takes the sockets of a killed process back up to some ten milliseconds after its end when an io_uring
/// waits on them. Who starts services tries again; so does this, for so long.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

fn found_its_port_taken(server: &Server) -> bool {
    server.log().contains("Address already in use")
}

/// `... + lost 12`, in whatever place of the ledger's line.
fn lost_in(line: &str) -> Option<u64> {
    let (_, after) = line.split_once("lost ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A paused process ends no sooner than it is continued.
        self.signal_engine(Signal::CONT);
        let failed = thread::panicking();
        if failed {
            self.print_lives();
        }
        drop(self.server.take());
        drop(self.engine.take());
        if failed && let Some(directory) = self.directory.take() {
            eprintln!("--- kept: {}", directory.keep().display());
        }
    }
}

/// Limits of a write-ahead log that begins a new segment every few seconds.
pub fn log_limits() -> Vec<&'static str> {
    match has_log() {
        true => vec!["wal_segment_bytes=1048576", "wal_bytes_max=67108864"],
        false => Vec::new(),
    }
}
