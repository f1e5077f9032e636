//! An engine, a proxy that takes it away, and ringhouse in one life after another on the same data.

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ringhouse::clickhouse::embedded::{Embedded, EmbeddedConfig};
use ringhouse::wal::record::{self, Found, Kind};
use ringhouse::wal::segment::SegmentId;

use super::common::{BINARY, Reply, Server, eventually, free_port, http, sql};
use super::load::{Ledger, settled, status};
use super::proxy::{Fault, Proxy};

/// Short pauses, so that what waits for ClickHouse does not make the tests wait.
const LIMITS: [&str; 3] = [
    "retry_pause_max_ms=300",
    "schema_refresh_ms=300",
    "connect_deadline_ms=1000",
];

pub struct Rig {
    clickhouse: Option<Embedded>,
    config: EmbeddedConfig,
    /// Between ringhouse and ClickHouse.
    pub proxy: Proxy,
    arguments: Vec<String>,
    data: PathBuf,
    directory: tempfile::TempDir,
    lives: Cell<u64>,
    is_away: Cell<bool>,
}

impl Rig {
    /// With ClickHouse running. `arguments` are those of every life.
    pub fn start(arguments: &[&str]) -> Rig {
        let mut rig = Rig::without_clickhouse(arguments);
        rig.start_clickhouse();
        rig
    }

    /// Nobody listens where ClickHouse should be.
    pub fn without_clickhouse(arguments: &[&str]) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let tcp_port = free_port();
        let config = EmbeddedConfig {
            directory: directory.path().join("clickhouse"),
            tcp_port: Some(tcp_port),
            http_port: free_port(),
            memory_bytes_max: Some(2 << 30),
            users_config: None,
            executable: Some(BINARY.into()),
        };
        Rig {
            clickhouse: None,
            config,
            proxy: Proxy::start(tcp_port, 1),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            data: directory.path().join("data"),
            directory,
            lives: Cell::new(0),
            is_away: Cell::new(false),
        }
    }

    pub fn start_clickhouse(&mut self) {
        let engine = Embedded::start(self.config.clone());
        self.clickhouse = Some(engine.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Process id of ClickHouse.
    pub fn clickhouse_pid(&self) -> u32 {
        self.clickhouse.as_ref().expect("it runs").pid()
    }

    pub fn sql(&self, query: &str) -> String {
        sql(self.config.http_port, query)
    }

    /// A life, once it listens.
    pub fn serve(&self, more: &[&str]) -> Server {
        let mut server = self.spawn(more);
        server.wait_until_it_listens();
        server
    }

    /// A life, once it takes rows and, where ClickHouse is there, has read its tables.
    pub fn serve_ready(&self, more: &[&str]) -> Server {
        let server = self.serve(more);
        server.wait_until_ready();
        if self.clickhouse.is_some() && !self.is_away.get() {
            eventually("ClickHouse's tables", || {
                (status(&server)["ready"]["clickhouse_reachable"] == true).then_some(())
            });
        }
        server
    }

    /// A life that must not come to listen: what it says.
    pub fn refused(&self) -> String {
        let mut server = self.spawn(&[]);
        let ended = server.try_wait_until_it_listens();
        let status = ended.expect_err("the server must not start");
        assert_eq!(status.code(), Some(1), "{}", server.log());
        server.log()
    }

    fn spawn(&self, more: &[&str]) -> Server {
        let all = self.all_arguments(more);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let life = self.lives.replace(self.lives.get() + 1);
        Server::spawn_life(&self.data, self.directory.path(), life, &all)
    }

    fn all_arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all = vec![
            "--clickhouse".to_owned(),
            format!("tcp://default@127.0.0.1:{}/default", self.proxy.port),
            "--create-tables".to_owned(),
        ];
        for limit in LIMITS {
            all.extend(["--limit".to_owned(), limit.to_owned()]);
        }
        all.extend(self.arguments.iter().cloned());
        all.extend(more.iter().map(|text| (*text).to_owned()));
        if !all.iter().any(|text| text == "--ack") {
            all.extend(["--ack".to_owned(), "wal".to_owned()]);
        }
        all
    }

    /// From now on ringhouse cannot reach ClickHouse.
    pub fn take_clickhouse_away(&self) {
        self.is_away.set(true);
        self.proxy.set(Fault::Refuse);
    }

    pub fn give_clickhouse_back(&self) {
        self.is_away.set(false);
        self.proxy.set(Fault::None);
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Before the first life.
    pub fn put_data_in(&mut self, directory: PathBuf) {
        self.data = directory;
    }

    /// Files of the log, in the order of their names.
    pub fn segments(&self) -> Vec<PathBuf> {
        files(&self.data.join("wal"))
    }

    /// Waits until every row has ended, and checks that `otel_logs` has exactly the rows with these numbers.
    pub fn assert_rows(&self, server: &Server, numbers: impl IntoIterator<Item = u64>) -> Ledger {
        let ledger = settled(server);
        let there = self.sql("SELECT toUInt64(Body) AS n FROM otel_logs ORDER BY n");
        let there: Vec<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
        let mut numbers: Vec<u64> = numbers.into_iter().collect();
        numbers.sort_unstable();
        assert!(
            there == numbers,
            "{} rows and not {}: {there:?}, {}",
            there.len(),
            numbers.len(),
            server.log()
        );
        ledger
    }
}

/// The files in a directory, sorted.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Where each block's payload lies in a segment, and where the last record ends.
pub fn blocks_in(segment: &Path) -> (Vec<Range<usize>>, usize) {
    let bytes = fs::read(segment).unwrap();
    let salt = SegmentId::of_path(segment).expect("a segment's name").salt();
    let (mut at, mut blocks) = (0, Vec::new());
    while let Found::Record(found, next) = record::read(&bytes, at, salt) {
        let payload_at = at + record::HEADER_BYTES;
        if found.kind == Kind::Block {
            blocks.push(payload_at..payload_at + found.payload.len());
        }
        at = next;
    }
    (blocks, at)
}

/// One line for each number.
pub fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    let line = |n| format!("{{\"message\":\"{n}\",\"service\":\"durable\",\"n\":{n}}}\n");
    numbers.into_iter().map(line).collect()
}

/// Posts rows with these numbers at `wal`, which takes them.
pub fn post(server: &Server, numbers: impl IntoIterator<Item = u64>) {
    let reply = server.post("/ingest?ack=wal", lines(numbers));
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// A POST with an idempotency key.
pub fn post_keyed(server: &Server, target: &str, key: &str, body: &str) -> Reply {
    let headers = [("Idempotency-Key", key)];
    http("POST", server.port, target, &headers, body.as_bytes()).unwrap()
}

/// A number of the first table the writer has a lane for.
pub fn table_number(server: &Server, key: &str) -> u64 {
    let status = status(server);
    let number = status["writer"]["tables"][0][key].as_u64();
    number.unwrap_or_else(|| panic!("{key} in {status}"))
}

/// Lines of the log with these words.
pub fn logged(server: &Server, words: &str) -> usize {
    server.log().lines().filter(|line| line.contains(words)).count()
}
