//! Several ClickHouse servers with the same table: one dies, hangs or takes no rows, and ingestion goes on with another.
//!
//! The tables are plain, because Replicated ones need a Keeper. They share nothing, so each row must be on exactly one of
//! the servers, and an INSERT that broke off may be repeated on its own server only.

mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/proxy.rs"]
mod proxy;

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use common::{BINARY, Server, eventually, free_port, signal, try_sql};
use load::{Load, Plan, Sent, producers, readyz, seed, settled, status};
use proxy::{Fault, Proxy};
use ringhouse::clickhouse::control::{ControlConfig, check};
use ringhouse::clickhouse::embedded::{Embedded, EmbeddedConfig};
use ringhouse::clickhouse::endpoint::Endpoint;
use ringhouse::limits::Limits;
use ringhouse::schema::{TableName, TableSchema};
use rustix::process::Signal;

/// Longest time between two confirmed requests while a server is replaced by another. Continuous integration shares
/// its cores; without load it is a few milliseconds.
const FAILOVER_MAX: Duration = Duration::from_secs(10);

/// A ClickHouse that can be dead for as long as a test wants.
struct Clickhouse {
    directory: tempfile::TempDir,
    tcp_port: u16,
    http_port: u16,
    engine: Option<Embedded>,
}

impl Clickhouse {
    /// Not started yet: nobody listens on its port.
    fn absent() -> Clickhouse {
        Clickhouse {
            directory: tempfile::tempdir().unwrap(),
            tcp_port: free_port(),
            http_port: free_port(),
            engine: None,
        }
    }

    /// With the default table.
    fn start() -> Clickhouse {
        let mut clickhouse = Clickhouse::absent();
        clickhouse.revive();
        clickhouse.sql(&TableSchema::default_table_ddl(&otel_logs(), None));
        clickhouse
    }

    fn revive(&mut self) {
        let engine = Embedded::start(EmbeddedConfig {
            directory: self.directory.path().join("clickhouse"),
            tcp_port: Some(self.tcp_port),
            http_port: self.http_port,
            memory_bytes_max: Some(2 << 30),
            users_config: None,
            executable: Some(BINARY.into()),
        });
        self.engine = Some(engine.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Kills it, and it stays dead: its supervisor ends before its pause is over.
    fn kill(&mut self) {
        let engine = self.engine.take().expect("it is alive");
        signal(engine.pid(), Signal::KILL);
        engine.stop();
    }

    fn signal(&self, which: Signal) {
        signal(self.engine.as_ref().expect("it is alive").pid(), which);
    }

    fn sql(&self, query: &str) -> String {
        eventually("the engine's answer", || try_sql(self.http_port, query).ok())
    }

    /// Numbers of the rows it has.
    fn rows(&self) -> Vec<u64> {
        let numbers = self.sql("SELECT toUInt64(Body) FROM otel_logs");
        numbers
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect()
    }
}

fn otel_logs() -> TableName {
    TableName {
        database: "default".to_owned(),
        table: "otel_logs".to_owned(),
    }
}

fn url(port: u16) -> String {
    format!("tcp://default@127.0.0.1:{port}/default")
}

/// Arguments of `serve` in front of ClickHouses on these ports, with pauses short enough for tests.
///
/// At the strongest ack level, so that success tells that a server has the rows, and `/readyz` that none takes any.
fn arguments(ports: [u16; 2], more: &[&str]) -> Vec<String> {
    let mut all = vec!["--clickhouse".to_owned(), ports.map(url).join(",")];
    all.extend(["--ack", "inserted"].map(String::from));
    for limit in [
        "retry_pause_max_ms=500",
        "schema_refresh_ms=500",
        "connect_deadline_ms=500",
        // Requests whose rows are held for a dead server end within the test.
        "ack_deadline_ms=2000",
    ] {
        all.extend(["--limit", limit].map(String::from));
    }
    all.extend(more.iter().copied().map(String::from));
    all
}

fn serve(ports: [u16; 2], more: &[&str]) -> Server {
    Server::start(&borrowed(&arguments(ports, more)))
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn serve_ready(ports: [u16; 2], arguments: &[&str]) -> Server {
    let server = serve(ports, arguments);
    server.wait_until_ready();
    server
}

/// What `/status` says about one of the servers.
fn endpoint(server: &Server, index: usize, key: &str) -> u64 {
    let value = &status(server)["writer"]["endpoints"][index][key];
    value
        .as_u64()
        .or(value.as_bool().map(u64::from))
        .unwrap_or_else(|| panic!("{key}: {value}"))
}

/// Each row that was promised is on one of the servers, and none is on both or twice on one.
fn assert_exactly_once_on_either(clickhouses: [&Clickhouse; 2], sent: &Sent, server: &Server) {
    let ledger = settled(server);
    assert_eq!((ledger.rejected, ledger.dead_lettered, ledger.lost), (0, 0, 0));
    let [first, second] = clickhouses.map(Clickhouse::rows);
    let there: HashSet<u64> = first.iter().chain(&second).copied().collect();
    let seed = seed();
    assert_eq!(
        first.len() + second.len(),
        there.len(),
        "rows are doubled; seed {seed}"
    );
    assert_eq!(
        there.len() as u64,
        ledger.inserted,
        "the ledger does not agree; seed {seed}"
    );
    for (level, numbers) in [("inserted", &sent.inserted), ("memory", &sent.memory)] {
        let missing = numbers.iter().filter(|number| !there.contains(number)).count();
        assert_eq!(
            missing,
            0,
            "of {} rows acknowledged at {level}; seed {seed}",
            numbers.len()
        );
    }
    assert_eq!(sent.broken, Vec::<String>::new(), "connections broke");
    assert!(
        sent.statuses
            .keys()
            .all(|status| matches!(status, 200 | 202 | 503)),
        "{:?}",
        sent.statuses
    );
    eprintln!(
        "{} + {} rows on the servers, replies {:?}",
        first.len(),
        second.len(),
        sent.statuses
    );
}

#[test]
fn a_killed_server_is_replaced_by_the_other_at_once_and_nothing_is_lost_or_doubled() {
    let (mut first, second) = (Clickhouse::start(), Clickhouse::start());
    let server = serve_ready([first.tcp_port, second.tcp_port], &[]);
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(300);
    assert!(
        second.rows().is_empty(),
        "the first works, so the other has nothing"
    );

    first.kill();
    let killed = Instant::now();
    load.more_inserted(100);
    let failover = killed.elapsed();
    assert!(failover < FAILOVER_MAX, "{failover:?}");
    load.more_inserted(1_000);
    assert!(!second.rows().is_empty());
    assert_eq!(endpoint(&server, 0, "connected"), 0);
    assert!(endpoint(&server, 0, "failures") > 0 && endpoint(&server, 0, "last_failed_ms") > 0);
    assert_eq!(endpoint(&server, 1, "connected"), 1);
    // Every producer can have had one request on its way to the dead server; none fails after that.
    thread::sleep(Duration::from_millis(2_500));
    let metrics = || server.admin("/metrics").unwrap().body;
    let refused = |page: &str| {
        let counted = page.lines().filter(|line| line.contains("status=\"503\""));
        counted
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    let before = refused(&metrics());
    assert!(before <= 5, "{before} requests were answered 503");
    load.more_inserted(300);
    assert_eq!(refused(&metrics()), before);
    server.wait_until_ready();

    // It comes back: the rows whose INSERT broke off get their answer, and the other server stays in use.
    first.revive();
    let count = first.sql("SELECT count() FROM otel_logs");
    load.more_inserted(300);
    let sent = load.finish();
    assert_exactly_once_on_either([&first, &second], &sent, &server);
    let late = first.rows().len() as u64 - count.parse::<u64>().unwrap();
    assert!(late <= 1_000, "only held rows may have gone to the first: {late}");
    assert_eq!(endpoint(&server, 0, "held_rows"), 0);
}

#[test]
fn rows_whose_insert_broke_off_wait_for_their_server_while_others_go_on() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let proxy = Proxy::start(first.tcp_port, seed());
    let server = serve_ready([proxy.port, second.tcp_port], &[]);
    assert_eq!(server.post("/ingest", "{\"message\":\"1\"}").status, 200);

    let cuts = proxy.cuts();
    proxy.set(Fault::LoseAnswer);
    assert_eq!(
        server.post("/ingest?ack=memory", "{\"message\":\"2\"}").status,
        202
    );
    eventually("an answer to be lost", || (proxy.cuts() > cuts).then_some(()));
    proxy.set(Fault::Refuse);
    eventually("the row to be held", || {
        (endpoint(&server, 0, "held_rows") == 1).then_some(())
    });
    let reply = server.post("/ingest", "{\"message\":\"3\"}");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(second.rows(), [3]);
    assert_eq!(first.rows(), [1, 2], "its answer was lost, not the row");
    assert_eq!(load::ledger(&server).waiting, 1);
    assert_eq!(
        readyz(&server).0,
        200,
        "one dead server is no reason not to take rows"
    );
    assert!(
        server
            .log()
            .contains("its rows are held until this server answers"),
        "{}",
        server.log()
    );

    proxy.set(Fault::None);
    assert_eq!(settled(&server).inserted, 3);
    assert_eq!((first.rows(), second.rows()), (vec![1, 2], vec![3]));
    assert_eq!(endpoint(&server, 0, "held_rows"), 0);
    assert_eq!(server.post("/ingest", "{\"message\":\"4\"}").status, 200);
    assert_eq!(second.rows().len(), 2, "the server in use stays in use");
}

/// The log has them, and the journal the token of their INSERT: sent to the same server again it doubles nothing.
#[test]
fn held_rows_wait_in_the_log_for_the_next_start_when_the_process_ends() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let proxy = Proxy::start(first.tcp_port, seed());
    let directory = tempfile::tempdir().unwrap();
    let arguments = arguments([proxy.port, second.tcp_port], &[]);
    let start = || {
        let server = Server::start_in(directory.path(), &borrowed(&arguments));
        server.wait_until_ready();
        server
    };
    // ClickHouse may not have the row yet when the connection ends, or has it: both are unknown outcomes.
    for (number, fault) in [(1, Fault::CutBeforeAnswer), (2, Fault::LoseAnswer)] {
        let mut server = start();
        let cuts = proxy.cuts();
        proxy.set(fault);
        let row = format!("{{\"message\":\"{number}\"}}");
        assert_eq!(server.post("/ingest?ack=memory", row).status, 202);
        eventually("an answer to be lost", || (proxy.cuts() > cuts).then_some(()));
        proxy.set(Fault::Refuse);
        eventually("the row to be held", || {
            (endpoint(&server, 0, "held_rows") == 1).then_some(())
        });
        assert_eq!(second.rows(), Vec::<u64>::new());
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        assert!(server.log().contains("1 rows wait in"), "{}", server.log());
        assert_eq!(second.rows(), Vec::<u64>::new());

        proxy.set(Fault::None);
        let mut server = start();
        assert_eq!(settled(&server).inserted, number);
        let mut there = first.rows();
        there.sort_unstable();
        assert_eq!(there, (1..=number).collect::<Vec<u64>>(), "{}", server.log());
        assert_eq!(second.rows(), Vec::<u64>::new());
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    }
}

/// The journal says which server has them, or may have.
#[test]
fn rows_whose_server_is_away_wait_for_it_also_after_a_crash() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let proxy = Proxy::start(first.tcp_port, seed());
    let directory = tempfile::tempdir().unwrap();
    let arguments = arguments([proxy.port, second.tcp_port], &[]);
    let start = || Server::start_in(directory.path(), &borrowed(&arguments));
    let mut server = start();
    server.wait_until_ready();
    let cuts = proxy.cuts();
    proxy.set(Fault::LoseAnswer);
    assert_eq!(server.post("/ingest?ack=wal", "{\"message\":\"1\"}").status, 200);
    eventually("an answer to be lost", || (proxy.cuts() > cuts).then_some(()));
    proxy.set(Fault::Refuse);
    for life in 2..4 {
        server.kill();
        server = start();
        server.wait_until_ready();
        // Its rows go to the other server, and are not held behind the first one's.
        let row = format!("{{\"message\":\"{life}\"}}");
        assert_eq!(server.post("/ingest", row).status, 200, "{}", server.log());
        assert_eq!(endpoint(&server, 0, "held_rows"), 1);
        assert_eq!(second.rows().len(), life - 1, "{}", server.log());
    }
    proxy.set(Fault::None);
    assert_eq!(settled(&server).inserted, 3);
    assert_eq!(first.rows(), [1]);
    let mut there = second.rows();
    there.sort_unstable();
    assert_eq!(there, [2, 3]);

    // Whoever takes the server out of the list is told what that may do.
    proxy.set(Fault::LoseAnswer);
    let only = |port: u16| ["--clickhouse".to_owned(), url(port)];
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let server = Server::start_in(directory.path(), &borrowed(&only(proxy.port)));
    server.wait_until_ready();
    let cuts = proxy.cuts();
    assert_eq!(server.post("/ingest?ack=wal", "{\"message\":\"4\"}").status, 200);
    eventually("an answer to be lost", || (proxy.cuts() > cuts).then_some(()));
    proxy.set(Fault::Refuse);
    drop(server);
    let server = Server::start_in(directory.path(), &borrowed(&only(second.tcp_port)));
    assert_eq!(settled(&server).inserted, 4);
    assert!(
        server
            .log()
            .contains("is not among those of --clickhouse any more"),
        "{}",
        server.log()
    );
    assert_eq!((first.rows().len(), second.rows().len()), (2, 3));
}

#[test]
fn a_paused_server_is_left_after_its_deadline_and_nothing_is_lost_or_doubled() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let server = serve_ready(
        [first.tcp_port, second.tcp_port],
        &["--limit", "insert_deadline_ms=700"],
    );
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(200);
    first.signal(Signal::STOP);
    let paused = Instant::now();
    load.more_inserted(400);
    let failover = paused.elapsed();
    assert!(failover < FAILOVER_MAX, "{failover:?}");
    assert!(!second.rows().is_empty());
    first.signal(Signal::CONT);
    load.more_inserted(200);
    // And the other way round: the first is the least recently failed one then.
    second.signal(Signal::STOP);
    load.more_inserted(400);
    second.signal(Signal::CONT);
    load.more_inserted(100);
    let sent = load.finish();
    assert_exactly_once_on_either([&first, &second], &sent, &server);
}

#[test]
fn a_server_that_takes_no_rows_is_left_too() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let server = serve_ready([first.tcp_port, second.tcp_port], &[]);
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(200);
    first.sql("ALTER TABLE otel_logs MODIFY SETTING table_readonly = 1");
    load.more_inserted(600);
    assert!(second.rows().len() >= 200);
    let sent = load.finish();
    // Should one of its refusals have come after the data, it has to say that it did not take them.
    first.sql("ALTER TABLE otel_logs MODIFY SETTING table_readonly = 0");
    assert_exactly_once_on_either([&first, &second], &sent, &server);
}

#[test]
fn a_first_server_that_was_never_there_stops_nothing() {
    let (first, second) = (Clickhouse::absent(), Clickhouse::start());
    let server = serve_ready([first.tcp_port, second.tcp_port], &[]);
    let (_, page) = readyz(&server);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let address = format!("tcp://127.0.0.1:{}", second.tcp_port);
    assert_eq!(page["clickhouse_endpoint"], address, "{page}");
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(500);
    let sent = load.finish();
    assert_eq!(
        sent.statuses.keys().collect::<Vec<_>>(),
        [&200, &202],
        "nothing but success: {:?}",
        sent.statuses
    );
    settled(&server);
    let there: HashSet<u64> = second.rows().into_iter().collect();
    assert!(
        sent.inserted
            .iter()
            .chain(&sent.memory)
            .all(|number| there.contains(number))
    );
    // One failure, once: the second stays in use.
    assert_eq!(endpoint(&server, 0, "failures"), 1);
    assert_eq!(endpoint(&server, 0, "connects"), 0);
    assert!(endpoint(&server, 1, "connects") > 0);
    let gone = format!("endpoint=tcp://127.0.0.1:{}", first.tcp_port);
    assert!(server.log().contains(&gone), "{}", server.log());
}

#[test]
fn rows_are_held_while_every_server_is_away_and_go_to_the_first_that_comes() {
    let (first, mut second) = (Clickhouse::absent(), Clickhouse::absent());
    let ports = [first.tcp_port, second.tcp_port];
    let server = serve(ports, &["--create-tables"]);
    let load = Load::start(
        server.port,
        &Plan {
            producers: producers(0, 2, 40),
            ..Plan::default()
        },
    );
    load.more(300);
    let page = eventually("both reasons", || {
        let (status, page) = readyz(&server);
        (status == 503 && page.contains("none of 2 ClickHouse servers")).then_some(page)
    });
    for port in ports {
        assert!(page.contains(&format!("127.0.0.1:{port}")), "{page}");
    }
    eventually("the breaker", || {
        (status(&server)["writer"]["tables"][0]["breaker"] != "closed").then_some(())
    });
    second.revive();
    server.wait_until_ready();
    load.more(300);
    let sent = load.finish();
    let ledger = settled(&server);
    let there: HashSet<u64> = second.rows().into_iter().collect();
    assert_eq!(there.len() as u64, ledger.inserted);
    assert!(sent.memory.iter().all(|number| there.contains(number)));
}

#[test]
fn check_tells_what_several_servers_do_not_share() {
    let (first, second) = (Clickhouse::start(), Clickhouse::start());
    let config = |ports: &[u16]| ControlConfig {
        endpoints: ports.iter().copied().map(Endpoint::local).collect(),
        default_table: otel_logs(),
        tables: Vec::new(),
        only_listed: false,
        known_tables: None,
        create_tables: false,
        ttl_days: None,
        limits: Limits::default(),
    };
    let warnings = |ports: &[u16]| check(&config(ports)).unwrap().tables.remove(0).warnings;
    assert_eq!(warnings(&[first.tcp_port]), Vec::<String>::new());
    let both = [first.tcp_port, second.tcp_port];
    let told = warnings(&both);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("MergeTree shares nothing between them"),
        "{told:?}"
    );
    second.sql("ALTER TABLE otel_logs ADD COLUMN more String");
    let told = warnings(&both);
    assert!(told.len() == 2 && told[1].contains("other columns"), "{told:?}");

    let absent = free_port();
    let report = check(&config(&[absent, first.tcp_port])).unwrap();
    assert_eq!(report.endpoint, format!("tcp://127.0.0.1:{}", first.tcp_port));
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, format!("tcp://127.0.0.1:{absent}"));
}
