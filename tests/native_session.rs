//! The native-protocol session against a real server.
//!
//! The server is an embedded engine, or the one `RINGHOUSE_TEST_CLICKHOUSE` names as `host:port` of its native
//! protocol. User `default` must have no password. With `RINGHOUSE_TEST_CLICKHOUSE_PASSWORD` set, user `secret` must
//! exist and have that password. Leave it unset for the embedded engine: a failed login over the native
//! protocol ends its process (26.7: the exception leaves TCPHandler uncaught).

mod common;

use clickhouse_rs::Pool;
use ringhouse::clickhouse::error::{CODES, Exception, Verdict};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::clickhouse::packet::{self, CLIENT_REVISION, Login, Query, Setting};
use ringhouse::clickhouse::session::{Event, Phase, Session};
use ringhouse::clickhouse::wire::{put_string, put_varint};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

const LOGIN: Login<'_> = Login {
    user: "default",
    password: "",
    database: "default",
};

/// Revision of 18.16, which has neither LowCardinality by default nor DateTime64, Map or JSON.
const REVISION_18_16: u64 = 54412;

#[test]
fn inserts_blocks_of_small_and_large_pieces() {
    let server = Server::start();
    server.execute("DROP TABLE IF EXISTS native_session_insert");
    server.execute(
        "CREATE TABLE native_session_insert (id UInt64, body String) ENGINE = MergeTree ORDER BY id",
    );
    let mut connection = server.connect();

    // Bodies of 100 bytes: 3 rows gather into one frame, 40,000 make frames of 256 KiB.
    let (mut rows_sent, mut next_id) = (0, 0);
    for rows in [3, 40_000] {
        let event = connection
            .begin_insert("INSERT INTO `default`.`native_session_insert` (`id`, `body`) FORMAT Native");
        let Event::Ready(sample) = event else {
            panic!("expected Ready, not {event:?}")
        };
        let names: Vec<_> = sample
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.type_name.as_str()))
            .collect();
        assert_eq!(names, [("id", "UInt64"), ("body", "String")]);
        // Two blocks in one INSERT.
        for _ in 0..2 {
            connection.send_block(&id_and_body(next_id, rows));
            next_id += rows;
            rows_sent += rows;
        }
        assert_eq!(connection.end_insert(), Event::Finished);
        assert_eq!(connection.session.phase(), Phase::Idle);
        assert!(!connection.session.data_sent());
    }

    assert_eq!(
        server.number("SELECT count() FROM native_session_insert"),
        rows_sent
    );
    assert_eq!(
        server.number("SELECT uniqExact(id) FROM native_session_insert"),
        rows_sent
    );
    let intact = "SELECT countIf(body = concat(toString(id), ' ', substring('";
    let intact = format!(
        "{intact}{}', 1, 100))) FROM native_session_insert",
        "x".repeat(100)
    );
    assert_eq!(server.number(&intact), rows_sent);
}

#[test]
fn inserts_low_cardinality() {
    let server = Server::start();
    let mut connection = server.connect();
    if connection.session.revision() <= REVISION_18_16 {
        return eprintln!("skipped: this server has LowCardinality only as an experiment");
    }
    server.execute("DROP TABLE IF EXISTS native_session_low");
    server.execute(
        "CREATE TABLE native_session_low (level LowCardinality(String)) ENGINE = MergeTree ORDER BY level",
    );
    let event = connection.begin_insert("INSERT INTO native_session_low (level) VALUES");
    let Event::Ready(sample) = event else {
        panic!("expected Ready, not {event:?}")
    };
    assert_eq!(sample.columns[0].type_name, "LowCardinality(String)");

    let mut block = block_head(1, 4);
    put_string(&mut block, "level");
    put_string(&mut block, "LowCardinality(String)");
    block.extend(1u64.to_le_bytes()); // version of the keys
    block.extend(0x600u64.to_le_bytes()); // own dictionary in this block, 8-bit keys
    block.extend(3u64.to_le_bytes());
    for word in ["", "INFO", "WARN"] {
        put_string(&mut block, word);
    }
    block.extend(4u64.to_le_bytes());
    block.extend([1, 2, 1, 0]);
    connection.send_block(&block);
    assert_eq!(connection.end_insert(), Event::Finished);

    assert_eq!(
        server.number("SELECT countIf(level = 'INFO') FROM native_session_low"),
        2
    );
    assert_eq!(
        server.number("SELECT countIf(level = 'WARN') FROM native_session_low"),
        1
    );
    assert_eq!(
        server.number("SELECT countIf(level = '') FROM native_session_low"),
        1
    );
}

#[test]
fn inserts_the_newer_types_at_our_old_revision() {
    let server = Server::start();
    let mut connection = server.connect();
    if connection.session.revision() <= REVISION_18_16 {
        return eprintln!("skipped: this server has neither DateTime64 nor Map nor JSON");
    }
    const COLUMNS: [(&str, &str); 3] = [
        ("t", "DateTime64(9)"),
        ("m", "Map(LowCardinality(String), String)"),
        ("j", "JSON"),
    ];
    server.execute("DROP TABLE IF EXISTS native_session_types");
    let columns = COLUMNS
        .map(|(name, type_name)| format!("{name} {type_name}"))
        .join(", ");
    server.execute(&format!(
        "CREATE TABLE native_session_types ({columns}) ENGINE = MergeTree ORDER BY t"
    ));
    let event = connection.begin_insert("INSERT INTO native_session_types (t, m, j) VALUES");
    let Event::Ready(sample) = event else {
        panic!("expected Ready, not {event:?}")
    };
    let names: Vec<_> = sample
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.type_name.as_str()))
        .collect();
    assert_eq!(names, COLUMNS);

    let mut block = block_head(3, 2);
    let mut column = |index: usize| {
        put_string(&mut block, COLUMNS[index].0);
        put_string(&mut block, COLUMNS[index].1);
        std::mem::take(&mut block)
    };
    let mut time = column(0);
    time.extend([1_700_000_000_123_456_789i64, 0].map(i64::to_le_bytes).concat());
    let mut map = column(1);
    map.extend(1u64.to_le_bytes()); // version of the keys' dictionary
    map.extend([1u64, 3].map(u64::to_le_bytes).concat()); // one entry, then two
    map.extend(0x600u64.to_le_bytes()); // own dictionary in this block, 8-bit keys
    map.extend(3u64.to_le_bytes());
    ["", "a", "b"].iter().for_each(|key| put_string(&mut map, key));
    map.extend(3u64.to_le_bytes());
    map.extend([1, 1, 2]);
    ["1", "2", "3"]
        .iter()
        .for_each(|value| put_string(&mut map, value));
    let mut json = column(2);
    json.extend(1u64.to_le_bytes()); // version: objects as text
    [r#"{"k": {"n": 7}}"#, "{}"]
        .iter()
        .for_each(|object| put_string(&mut json, object));
    connection.send_block(&[time, map, json].concat());
    assert_eq!(connection.end_insert(), Event::Finished);

    for row in [
        "t = '2023-11-14 22:13:20.123456789' AND m = map('a', '1') AND j.k.n = 7",
        "toUnixTimestamp64Nano(t) = 0 AND m = map('a', '2', 'b', '3') AND empty(JSONAllPaths(j))",
    ] {
        assert_eq!(
            server.number(&format!("SELECT count() FROM native_session_types WHERE {row}")),
            1,
            "{row}"
        );
    }
}

#[test]
fn an_unknown_table_holds_the_rows_and_leaves_the_session_usable() {
    let server = Server::start();
    let mut connection = server.connect();
    let exception = connection.begin_refused("INSERT INTO native_session_absent (id) VALUES");
    assert_eq!(
        (exception.code, exception.verdict()),
        (60, Verdict::HoldAndRetry),
        "{exception}"
    );
    assert_eq!(connection.session.phase(), Phase::Idle);
    assert_eq!(connection.ping(), Event::Pong);
}

#[test]
fn an_unknown_column_says_that_the_schema_changed() {
    let server = Server::start();
    server.execute("DROP TABLE IF EXISTS native_session_columns");
    server.execute("CREATE TABLE native_session_columns (id UInt64) ENGINE = MergeTree ORDER BY id");
    let mut connection = server.connect();
    let exception = connection.begin_refused("INSERT INTO native_session_columns (id, gone) VALUES");
    assert_eq!(exception.verdict(), Verdict::SchemaChanged, "{exception}");
    assert_eq!(connection.ping(), Event::Pong);
}

#[test]
fn a_violated_constraint_refuses_the_rows_and_closes_the_session() {
    let server = Server::start();
    let mut connection = server.connect();
    if connection.session.revision() <= REVISION_18_16 {
        return eprintln!("skipped: this server has no CHECK constraints");
    }
    server.execute("DROP TABLE IF EXISTS native_session_check");
    server.execute(
        "CREATE TABLE native_session_check (id UInt64, body String, CONSTRAINT low CHECK id < 5) \
         ENGINE = MergeTree PARTITION BY id ORDER BY id",
    );
    let event = connection.begin_insert("INSERT INTO native_session_check (id, body) VALUES");
    assert!(matches!(event, Event::Ready(_)), "{event:?}");
    // Nothing of the first block, nor of the second's good rows, may be in the table afterwards.
    connection.send_block(&id_and_body(0, 3));
    connection.send_block(&id_and_body(3, 3));
    assert!(connection.session.data_sent());
    let event = connection.end_insert();
    let Event::Exception(exception) = event else {
        panic!("expected an exception, not {event:?}")
    };
    assert_eq!(
        (exception.code, exception.verdict().after_data()),
        (469, Verdict::Refused),
        "{exception}"
    );
    assert_eq!(connection.session.phase(), Phase::Closed);
    assert_eq!(server.number("SELECT count() FROM native_session_check"), 0);
}

#[test]
fn a_view_that_refuses_leaves_the_rows_in_the_table() {
    let server = Server::start();
    for name in [
        "native_session_view",
        "native_session_viewed",
        "native_session_seen",
    ] {
        server.execute(&format!("DROP TABLE IF EXISTS {name}"));
    }
    let columns = "(id UInt64, body String) ENGINE = MergeTree ORDER BY id";
    server.execute(&format!("CREATE TABLE native_session_viewed {columns}"));
    server.execute("CREATE TABLE native_session_seen (refused UInt8) ENGINE = MergeTree ORDER BY refused");
    server.execute(
        "CREATE MATERIALIZED VIEW native_session_view TO native_session_seen \
         AS SELECT throwIf(id = 3) AS refused FROM native_session_viewed",
    );
    let mut connection = server.connect();
    let event = connection.begin_insert("INSERT INTO native_session_viewed (id, body) VALUES");
    assert!(matches!(event, Event::Ready(_)), "{event:?}");
    connection.send_block(&id_and_body(0, 10));
    let event = connection.end_insert();
    let Event::Exception(exception) = event else {
        panic!("expected an exception, not {event:?}")
    };
    assert_eq!(
        (exception.code, exception.verdict().after_data()),
        (395, Verdict::OutcomeUnknown),
        "{exception}"
    );
    assert_eq!(server.number("SELECT count() FROM native_session_viewed"), 10);
}

#[test]
fn a_frame_with_a_flipped_bit_is_refused_by_the_server() {
    let server = Server::start();
    server.execute("DROP TABLE IF EXISTS native_session_flip");
    server
        .execute("CREATE TABLE native_session_flip (id UInt64, body String) ENGINE = MergeTree ORDER BY id");
    let mut connection = server.connect();
    let event = connection.begin_insert("INSERT INTO native_session_flip (id, body) VALUES");
    assert!(matches!(event, Event::Ready(_)), "{event:?}");
    let mut frames = frames_of(&id_and_body(0, 10));
    *frames.last_mut().expect("a frame is not empty") ^= 1;
    connection.send_frames(&frames);
    let event = connection.end_insert();
    let Event::Exception(exception) = event else {
        panic!("expected an exception, not {event:?}")
    };
    const CHECKSUM_DOESNT_MATCH: i32 = 40;
    const CANNOT_DECOMPRESS: i32 = 271; // what newer servers make of it
    assert!(
        [CHECKSUM_DOESNT_MATCH, CANNOT_DECOMPRESS].contains(&exception.code),
        "{exception}"
    );
    assert_eq!(exception.verdict().after_data(), Verdict::OutcomeUnknown);
    assert_eq!(server.number("SELECT count() FROM native_session_flip"), 0);
}

/// To a server, a stream that ends behind a packet's header is a block of no columns, with which an INSERT is complete:
/// see `NEXT_BLOCK` in frame.rs for what keeps a beginning of an INSERT from being inserted.
#[test]
fn of_an_insert_that_is_cut_anywhere_nothing_is_inserted() {
    let server = Server::start();
    if server.connect().session.revision() <= REVISION_18_16 {
        return eprintln!("skipped: this server takes every beginning, and knows no tokens");
    }
    server.execute("DROP TABLE IF EXISTS native_session_cut");
    server.execute(
        "CREATE TABLE native_session_cut (id UInt64, body String) ENGINE = MergeTree ORDER BY id \
         SETTINGS non_replicated_deduplication_window = 100",
    );
    let query = "INSERT INTO native_session_cut (id, body) VALUES";
    let settings = [
        setting("insert_deduplication_token", "cut"),
        setting("async_insert", "0"),
    ];
    let mut stream = Vec::new();
    let (mut ends, mut rows_sent) = (Vec::new(), 0);
    // The second ends with a piece that is large enough not to be gathered.
    for rows in [10, 1_000, 10] {
        packet::put_data_header(&mut stream);
        ends.push(stream.len());
        stream.extend(frames_of(&id_and_body(rows_sent, rows)));
        ends.push(stream.len());
        rows_sent += rows;
    }
    packet::put_empty_block(&mut stream);
    let cuts = (0..stream.len()).filter(|cut| ends.iter().any(|end| cut.abs_diff(*end) <= 3));
    for cut in cuts.chain([stream.len() - 1]) {
        let mut connection = server.connect();
        let event = connection.begin_insert_with(query, "", &settings);
        assert!(matches!(event, Event::Ready(_)), "{event:?}");
        connection
            .stream
            .write_all(&stream[..cut])
            .expect("the server takes data");
        connection.end();
        let rows = server.number("SELECT count() FROM native_session_cut");
        assert_eq!(
            rows,
            0,
            "{cut} of {} bytes, headers and blocks end at {ends:?}",
            stream.len()
        );
    }
    let mut connection = server.connect();
    connection.begin_insert_with(query, "", &settings);
    connection
        .stream
        .write_all(&stream)
        .expect("the server takes data");
    connection.end();
    assert_eq!(server.number("SELECT count() FROM native_session_cut"), rows_sent);
}

#[test]
fn settings_reach_a_server_that_takes_them_as_text() {
    let server = Server::start();
    let mut connection = server.connect();
    if connection.session.revision() < CLIENT_REVISION {
        return eprintln!("skipped: this server takes no settings as text");
    }
    server.execute("DROP TABLE IF EXISTS native_session_settings");
    server.execute(
        "CREATE TABLE native_session_settings (id UInt64, body String) ENGINE = MergeTree ORDER BY id \
         SETTINGS non_replicated_deduplication_window = 10",
    );
    // The same token twice: the second INSERT is dropped, though its rows differ.
    let settings = [
        setting("insert_deduplication_token", "once"),
        setting("async_insert", "0"),
    ];
    for first_id in [0, 100] {
        let event = connection.begin_insert_with(
            "INSERT INTO native_session_settings (id, body) VALUES",
            "",
            &settings,
        );
        assert!(matches!(event, Event::Ready(_)), "{event:?}");
        connection.send_block(&id_and_body(first_id, 10));
        assert_eq!(connection.end_insert(), Event::Finished);
    }
    assert_eq!(server.number("SELECT count() FROM native_session_settings"), 10);

    let unknown = Setting {
        name: "no_such_setting",
        value: "1",
        important: true,
    };
    let query = "INSERT INTO native_session_settings (id, body) VALUES";
    let event = connection.begin_insert_with(query, "", &[unknown]);
    const UNKNOWN_SETTING: i32 = 115;
    assert!(
        matches!(&event, Event::Exception(e) if e.code == UNKNOWN_SETTING),
        "{event:?}"
    );
}

#[test]
fn replies_come_in_lz4_whatever_the_profile_says() {
    let server = Server::start();
    server.execute("DROP TABLE IF EXISTS native_session_method");
    server.execute("CREATE TABLE native_session_method (id UInt64) ENGINE = MergeTree ORDER BY id");
    let mut connection = server.connect();
    let query = "INSERT INTO native_session_method (id) VALUES";
    let event = connection.begin_insert_with(query, "", &[setting("network_compression_method", "ZSTD")]);
    assert!(matches!(event, Event::Ready(_)), "{event:?}");
}

#[test]
fn log_lines_in_the_reply_are_read_over() {
    let server = Server::start();
    let mut connection = server.connect();
    if connection.session.revision() < CLIENT_REVISION {
        return eprintln!("skipped: this server takes no settings as text");
    }
    server.execute("DROP TABLE IF EXISTS native_session_logs");
    server
        .execute("CREATE TABLE native_session_logs (id UInt64, body String) ENGINE = MergeTree ORDER BY id");
    let query = "INSERT INTO native_session_logs (id, body) VALUES";
    let event = connection.begin_insert_with(query, "", &[setting("send_logs_level", "trace")]);
    assert!(matches!(event, Event::Ready(_)), "{event:?}");
    connection.send_block(&id_and_body(0, 10));
    assert_eq!(connection.end_insert(), Event::Finished);
    assert_eq!(connection.ping(), Event::Pong);
}

#[test]
fn the_password_lets_in_and_another_is_an_exception_that_holds() {
    let server = Server::start();
    let password = std::env::var("RINGHOUSE_TEST_CLICKHOUSE_PASSWORD").unwrap_or_default();
    if password.is_empty() {
        return eprintln!("skipped: RINGHOUSE_TEST_CLICKHOUSE_PASSWORD is not set");
    }
    let login = Login {
        user: "secret",
        password: &password,
        database: "default",
    };
    let (mut connection, event) = server.log_in(&login);
    assert!(matches!(event, Event::Connected(_)), "{event:?}");
    assert_eq!(connection.ping(), Event::Pong);
    let (_, event) = server.log_in(&Login {
        password: "",
        ..login
    });
    let Event::Exception(exception) = event else {
        panic!("expected an exception, not {event:?}")
    };
    assert_eq!(exception.verdict(), Verdict::HoldAndRetry);
}

#[test]
fn error_codes_have_the_names_the_server_gives_them() {
    let server = Server::start();
    if server.connect().session.revision() < CLIENT_REVISION {
        return eprintln!("skipped: this server has no errorCodeToName");
    }
    let wrong = CODES
        .iter()
        .map(|(code, name, _)| format!("errorCodeToName({code}) != '{name}'"));
    let wrong: Vec<_> = wrong.collect();
    for some in wrong.chunks(50) {
        assert_eq!(
            server.number(&format!("SELECT toUInt64({})", some.join(" OR "))),
            0,
            "{some:?}"
        );
    }
}

/// The server under test: the session's way in, and another client's to prepare and verify.
struct Server {
    address: String,
    pool: Pool,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    /// The server named by the environment, else an embedded engine that all tests of this process share.
    fn start() -> Server {
        static ENGINE: OnceLock<common::Engine> = OnceLock::new();
        let address = std::env::var("RINGHOUSE_TEST_CLICKHOUSE").unwrap_or_else(|_| {
            // Never dropped: the engine ends with this process, which holds the other end of its pipe.
            format!(
                "127.0.0.1:{}",
                ENGINE.get_or_init(common::Engine::start).tcp_port()
            )
        });
        let pool = Pool::new(format!(
            "tcp://default@{address}/default?compression=lz4&pool_min=1"
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Server {
            address,
            pool,
            runtime: runtime.expect("a runtime"),
        }
    }

    fn execute(&self, ddl: &str) {
        self.runtime.block_on(async {
            let mut client = self.pool.get_handle().await.expect("a connection");
            client
                .execute(ddl)
                .await
                .unwrap_or_else(|error| panic!("{ddl}: {error}"));
        });
    }

    fn number(&self, query: &str) -> u64 {
        self.runtime.block_on(async {
            let mut client = self.pool.get_handle().await.expect("a connection");
            let block = client.query(query).fetch_all().await;
            let block = block.unwrap_or_else(|error| panic!("{query}: {error}"));
            block.get(0, 0).expect("one UInt64")
        })
    }

    fn connect(&self) -> Connection {
        let (connection, event) = self.log_in(&LOGIN);
        let Event::Connected(hello) = event else {
            panic!("expected Connected, not {event:?}")
        };
        assert_eq!(hello.name, "ClickHouse");
        assert_eq!(connection.session.revision(), hello.revision.min(CLIENT_REVISION));
        connection
    }

    fn log_in(&self, login: &Login<'_>) -> (Connection, Event) {
        let stream = TcpStream::connect(&self.address).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let mut connection = Connection {
            session: Session::new(),
            stream,
            received: Vec::new(),
        };
        let mut out = Vec::new();
        connection.session.begin_hello(&mut out, login);
        let event = connection.exchange(&out);
        (connection, event)
    }
}

/// A session and its socket, driven the simplest way there is.
struct Connection {
    session: Session,
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    fn begin_insert(&mut self, text: &str) -> Event {
        self.begin_insert_with(text, "", &[])
    }

    fn begin_insert_with(&mut self, text: &str, id: &str, settings: &[Setting<'_>]) -> Event {
        let mut out = Vec::new();
        self.session.begin_insert(&mut out, &Query { id, text, settings });
        self.exchange(&out)
    }

    fn begin_refused(&mut self, text: &str) -> Exception {
        match self.begin_insert(text) {
            Event::Exception(exception) => exception,
            event => panic!("expected an exception, not {event:?}"),
        }
    }

    fn send_block(&mut self, block: &[u8]) {
        self.send_frames(&frames_of(block));
    }

    fn send_frames(&mut self, frames: &[u8]) {
        let mut out = Vec::new();
        self.session.put_data_header(&mut out);
        out.extend_from_slice(frames);
        self.stream.write_all(&out).expect("the server takes data");
    }

    fn end_insert(&mut self) -> Event {
        let mut out = Vec::new();
        self.session.end_insert(&mut out);
        self.exchange(&out)
    }

    fn ping(&mut self) -> Event {
        let mut out = Vec::new();
        self.session.ping(&mut out);
        self.exchange(&out)
    }

    /// Says that nothing more comes, and waits until the server has done with it.
    fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection");
        let mut rest = Vec::new();
        self.stream
            .read_to_end(&mut rest)
            .expect("the server ends as well");
    }

    /// Sends `out` and waits for the first event that is not progress.
    fn exchange(&mut self, out: &[u8]) -> Event {
        self.stream.write_all(out).expect("the server takes packets");
        loop {
            let (consumed, event) = self
                .session
                .feed(&self.received)
                .expect("the server keeps to the protocol");
            self.received.drain(..consumed);
            match event {
                Some(Event::Progress(_)) => {}
                Some(event) => return event,
                None => {
                    let mut some = [0; 4096];
                    let count = self.stream.read(&mut some).expect("the server answers in time");
                    assert!(count > 0, "the server closed the connection");
                    self.received.extend_from_slice(&some[..count]);
                }
            }
        }
    }
}

fn setting<'a>(name: &'a str, value: &'a str) -> Setting<'a> {
    Setting {
        name,
        value,
        important: true,
    }
}

/// BlockInfo and counts.
fn block_head(columns: u64, rows: u64) -> Vec<u8> {
    let mut block = vec![1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];
    put_varint(&mut block, columns);
    put_varint(&mut block, rows);
    block
}

/// Rows (`first_id` + i, "<id> xxx...").
fn id_and_body(first_id: u64, rows: u64) -> Vec<u8> {
    let mut block = block_head(2, rows);
    put_string(&mut block, "id");
    put_string(&mut block, "UInt64");
    for id in first_id..first_id + rows {
        block.extend(id.to_le_bytes());
    }
    put_string(&mut block, "body");
    put_string(&mut block, "String");
    for id in first_id..first_id + rows {
        put_string(&mut block, format!("{id} {}", "x".repeat(100)));
    }
    block
}

/// The block as frames: its first 50 bytes as pieces of 7, the rest as one.
fn frames_of(block: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new();
    let mut frames = Vec::new();
    let (small, rest) = block.split_at(block.len().min(50));
    small
        .chunks(7)
        .chain([rest])
        .for_each(|piece| encoder.put(piece, &mut frames));
    encoder.finish(&mut frames);
    assert!(frames.len() <= FrameEncoder::bound(block.len()));
    frames
}
