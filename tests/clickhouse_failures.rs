//! ClickHouse dies, hangs, refuses and lies about connections, under load: every promised row is there, once.

mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::thread;
use std::time::{Duration, Instant};

use common::{BINARY, Engine, Server, eventually, free_port, signal, sql};
use load::{Client, Load, Plan, assert_exactly_once, producers, readyz, scale, seed, settled};
use proxy::{Fault, Proxy};
use ringhouse::clickhouse::embedded::{Embedded, EmbeddedConfig};
use rustix::process::Signal;
use small_disk::SmallDisk;

const TABLE: &str = "otel_logs";

/// The number of a row in the default table.
const NUMBER: &str = "toUInt64(Body)";

fn url(port: u16) -> String {
    format!("tcp://default@127.0.0.1:{port}/default")
}

/// `serve` in front of a ClickHouse on `port`, with pauses short enough for tests.
fn serve(port: u16, arguments: &[&str]) -> Server {
    let url = url(port);
    let mut all = vec![
        "--clickhouse",
        &url,
        "--create-tables",
        "--limit",
        "retry_pause_max_ms=500",
        "--limit",
        "schema_refresh_ms=500",
        "--limit",
        "connect_deadline_ms=1000",
    ];
    all.extend_from_slice(arguments);
    Server::start(&all)
}

fn serve_ready(port: u16, arguments: &[&str]) -> Server {
    let server = serve(port, arguments);
    server.wait_until_ready();
    server
}

fn kill_and_await_restart(engine: &Engine) {
    let (pid, restarts) = (engine.embedded.pid(), engine.embedded.restarts());
    if pid != 0 {
        signal(pid, Signal::KILL);
    }
    eventually("the engine's restart", || {
        (engine.embedded.restarts() > restarts).then_some(())
    });
    eventually("the engine's answer", || engine.try_sql("SELECT 1").ok());
}

fn check(engine: &Engine, load: Load, server: &Server) {
    let sent = load.finish();
    let query = |text: &str| eventually("the engine's answer", || engine.try_sql(text).ok());
    assert_exactly_once(query, TABLE, NUMBER, &sent, server);
}

#[test]
fn a_killed_clickhouse_loses_and_doubles_nothing() {
    let engine = Engine::start();
    let server = serve_ready(engine.tcp_port(), &[]);
    let load = Load::start(server.port, &Plan::default());
    for _ in 0..3 * scale() {
        load.more_inserted(200);
        kill_and_await_restart(&engine);
    }
    load.more_inserted(200);
    check(&engine, load, &server);
}

#[test]
fn a_killed_embedded_engine_is_restarted_and_loses_nothing() {
    let server = Server::embedded(&["--limit", "retry_pause_max_ms=500"]);
    let load = Load::start(server.port, &Plan::default());
    for _ in 0..2 * scale() {
        load.more_inserted(200);
        let pid = server.engine_pid();
        signal(pid, Signal::KILL);
        eventually("another engine", || {
            common::children(server.pid())
                .into_iter()
                .find(|child| *child != pid)
        });
    }
    load.more_inserted(200);
    let sent = load.finish();
    let port = server.clickhouse_http_port;
    let query = |text: &str| eventually("the engine's answer", || common::try_sql(port, text).ok());
    assert_exactly_once(query, TABLE, NUMBER, &sent, &server);
}

#[test]
fn a_paused_clickhouse_is_waited_for() {
    let engine = Engine::start();
    // Short, so that INSERTs are given up with an unknown outcome while ClickHouse still has them.
    let server = serve_ready(engine.tcp_port(), &["--limit", "insert_deadline_ms=700"]);
    let load = Load::start(server.port, &Plan::default());
    for _ in 0..2 * scale() {
        load.more_inserted(200);
        let pid = engine.embedded.pid();
        signal(pid, Signal::STOP);
        thread::sleep(Duration::from_millis(3_000));
        signal(pid, Signal::CONT);
    }
    load.more_inserted(200);
    check(&engine, load, &server);
}

#[test]
fn a_server_starts_before_its_clickhouse() {
    let port = free_port();
    let server = serve(port, &[]);
    let (status, page) = readyz(&server);
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("ClickHouse does not answer"), "{page}");
    // The table will be created, so its columns are known: rows are taken and held.
    let load = Load::start(server.port, &Plan::default());
    load.more(300);

    let other = Server::start(&["--clickhouse", &url(port)]);
    let reply = other.post("/ingest", r#"{"message":"1"}"#);
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(
        reply.head.to_ascii_lowercase().contains("retry-after"),
        "{reply:?}"
    );

    let directory = tempfile::tempdir().unwrap();
    let http_port = free_port();
    let _engine = Embedded::start(EmbeddedConfig {
        directory: directory.path().join("clickhouse"),
        tcp_port: Some(port),
        http_port,
        memory_bytes_max: Some(2 << 30),
        users_config: None,
        executable: Some(BINARY.into()),
    })
    .unwrap_or_else(|error| panic!("{error}"));
    server.wait_until_ready();
    other.wait_until_ready();
    load.more_inserted(150);
    let sent = load.finish();
    assert_exactly_once(|text| sql(http_port, text), TABLE, NUMBER, &sent, &server);
}

#[test]
fn a_table_that_is_dropped_and_created_again_holds_its_rows() {
    let engine = Engine::start();
    let server = serve_ready(engine.tcp_port(), &[]);
    let create = engine.sql("SHOW CREATE TABLE otel_logs FORMAT TSVRaw");
    drop(server);
    // Without --create-tables: it is not ringhouse that brings the table back.
    let url = url(engine.tcp_port());
    let server = Server::start(&[
        "--clickhouse",
        &url,
        "--limit",
        "schema_refresh_ms=300",
        "--limit",
        "retry_pause_max_ms=300",
    ]);
    server.wait_until_ready();
    let mut before = Vec::new();
    for _ in 0..2 * scale() {
        let load = Load::start(
            server.port,
            &Plan {
                producers: producers(0, 2, 40),
                ..Plan::default()
            },
        );
        load.more(200);
        engine.sql("DROP TABLE otel_logs SYNC");
        eventually("/readyz to tell", || (readyz(&server).0 == 503).then_some(()));
        assert!(
            readyz(&server).1.contains("default table no more"),
            "{}",
            readyz(&server).1
        );
        load.more(200);
        let sent = load.finish();
        assert_eq!(
            sent.statuses.keys().collect::<Vec<_>>(),
            [&202],
            "nothing but success: {:?}",
            sent.statuses
        );
        engine.sql(&create);
        server.wait_until_ready();
        let ledger = settled(&server);
        assert_eq!((ledger.rejected, ledger.dead_lettered, ledger.lost), (0, 0, 0));
        let there = engine.sql("SELECT count(), uniqExact(Body) FROM otel_logs");
        before.push((sent, there));
    }
    // Rows that were in the table when it was dropped are gone with it; those held must all be in the new one.
    for (sent, there) in before {
        let (count, unique) = there.split_once('\t').unwrap();
        assert_eq!(count, unique);
        assert!(
            count.parse::<usize>().unwrap() >= 200,
            "{there} of {}",
            sent.memory.len()
        );
    }
}

#[test]
fn columns_added_and_dropped_under_load_cost_no_row() {
    let engine = Engine::start();
    engine.sql(
        "CREATE TABLE events (n UInt64, service String, extra UInt64, Body String ALIAS toString(n)) \
         ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000",
    );
    let server = serve_ready(engine.tcp_port(), &["--table", "otel_logs", "--table", "events"]);
    let plan = Plan {
        path: "/ingest/events".to_owned(),
        row: |n| format!(r#"{{"n":{n},"service":"chaos","extra":{n},"late":"x"}}"#),
        ..Plan::default()
    };
    let load = Load::start(server.port, &plan);
    for _ in 0..2 * scale() {
        load.more_inserted(150);
        engine.sql("ALTER TABLE events ADD COLUMN late LowCardinality(String)");
        load.more_inserted(150);
        engine.sql("ALTER TABLE events DROP COLUMN extra SETTINGS mutations_sync = 2");
        load.more_inserted(150);
        engine.sql("ALTER TABLE events MODIFY COLUMN service LowCardinality(String)");
        load.more_inserted(150);
        // Each ALTER alone: ClickHouse fails one that meets another's mutation.
        engine.sql("ALTER TABLE events MODIFY COLUMN service String");
        load.more_inserted(150);
        engine.sql("ALTER TABLE events DROP COLUMN late SETTINGS mutations_sync = 2");
        engine.sql("ALTER TABLE events ADD COLUMN extra UInt64");
    }
    load.more_inserted(150);
    let sent = load.finish();
    assert!(
        sent.statuses.keys().all(|status| matches!(status, 200 | 202)),
        "{:?}",
        sent.statuses
    );
    assert_exactly_once(|text| engine.sql(text), "events", "n", &sent, &server);
    let ledger = settled(&server);
    assert_eq!((ledger.rejected, ledger.dead_lettered), (0, 0));
}

/// Its rows go into batches of columns that were given up while it was on the way.
#[test]
fn a_request_that_outlives_its_tables_columns_is_inserted() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE events (n UInt64, extra UInt64) ENGINE = MergeTree ORDER BY n");
    let server = serve_ready(engine.tcp_port(), &["--table", "events"]);
    let row = "{\"n\":1,\"extra\":2}\n";
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let head = format!(
        "POST /ingest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        row.len()
    );
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    eventually("the request's head", || {
        (load::status(&server)["cores"][0]["connections_open"] == 1).then_some(())
    });
    engine.sql("ALTER TABLE events ADD COLUMN late String, DROP COLUMN extra");
    eventually("the change", || {
        server.log().contains("has changed").then_some(())
    });
    // A tick of the core later, when it has put the old columns away.
    let heartbeats = || load::status(&server)["cores"][0]["heartbeat_age_ms"].as_u64();
    eventually("ticks", || heartbeats().filter(|age| *age > 20));
    eventually("ticks", || heartbeats().filter(|age| *age < 20));
    std::io::Write::write_all(&mut stream, row.as_bytes()).unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(engine.sql("SELECT n, late FROM events"), "1\t");
    assert_eq!(settled(&server).inserted, 1);
}

/// INSERTs that failed with this code of ClickHouse's.
fn failures(server: &Server, code: i32) -> u64 {
    let page = server.admin("/metrics").expect("the admin pages answer").body;
    let label = format!("code=\"{code}\"");
    let counted = page.lines().filter(|line| line.contains(&label));
    counted
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// A users file in which `writer` has this profile and these rights.
fn users(profile: &str, rights: &str) -> String {
    let user = |name: &str, more: &str| {
        format!(
            "<{name}><password></password><networks><ip>127.0.0.1</ip></networks><quota>default</quota>{more}</{name}>"
        )
    };
    format!(
        "<clickhouse><users>{}{}</users><profiles><default></default><writer>{profile}</writer></profiles>\
         <quotas><default></default></quotas></clickhouse>",
        user("default", "<profile>default</profile>"),
        user(
            "writer",
            &format!("<profile>writer</profile><grants><query>{rights}</query></grants>")
        ),
    )
}

#[test]
fn a_user_who_may_not_insert_for_a_while_holds_the_rows() {
    const ALL: &str = "GRANT ALL ON *.*";
    let engine = Engine::start_with(Some(&users("", ALL)));
    let url = format!("tcp://writer@127.0.0.1:{}/default", engine.tcp_port());
    let server = Server::start(&[
        "--clickhouse",
        &url,
        "--create-tables",
        "--limit",
        "retry_pause_max_ms=300",
    ]);
    server.wait_until_ready();
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(150);
    let change = |profile: &str, rights: &str| {
        std::fs::write(engine.directory().join("test-users.xml"), users(profile, rights)).unwrap();
        // The embedded engine reads its users when it starts.
        kill_and_await_restart(&engine);
    };
    let trouble = [
        (164, "<readonly>1</readonly>", ALL),
        (497, "", "GRANT SELECT ON *.*"),
        (
            452,
            "<insert_deduplicate>0</insert_deduplicate>\
             <constraints><insert_deduplicate><const/></insert_deduplicate></constraints>",
            ALL,
        ),
    ];
    for (code, profile, rights) in trouble.repeat(scale() as usize) {
        let before = failures(&server, code);
        change(profile, rights);
        eventually("the code", || (failures(&server, code) > before).then_some(()));
        assert_eq!(readyz(&server).0, 503);
        change("", ALL);
        server.wait_until_ready();
        load.more_inserted(150);
    }
    check(&engine, load, &server);
}

#[test]
fn a_table_that_takes_no_rows_for_a_while_holds_them() {
    let engine = Engine::start();
    let server = serve_ready(engine.tcp_port(), &[]);
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(150);
    let trouble = [
        // TABLE_IS_PERMANENTLY_READ_ONLY and TOO_MANY_PARTS.
        (
            774,
            "MODIFY SETTING table_readonly = 1",
            "MODIFY SETTING table_readonly = 0",
        ),
        (
            252,
            "MODIFY SETTING parts_to_throw_insert = 1",
            "RESET SETTING parts_to_throw_insert",
        ),
    ];
    for (code, forbid, allow) in trouble.repeat(scale() as usize) {
        let before = failures(&server, code);
        engine.sql(&format!("ALTER TABLE {TABLE} {forbid}"));
        eventually("the code", || (failures(&server, code) > before).then_some(()));
        eventually("/readyz to tell", || (readyz(&server).0 == 503).then_some(()));
        let (_, page) = readyz(&server);
        assert!(page.contains("INSERTs into the default table fail"), "{page}");
        engine.sql(&format!("ALTER TABLE {TABLE} {allow}"));
        server.wait_until_ready();
        load.more_inserted(150);
    }
    check(&engine, load, &server);
}

#[test]
fn connections_cut_anywhere_double_nothing() {
    let engine = Engine::start();
    let proxy = Proxy::start(engine.tcp_port(), seed());
    let server = serve_ready(proxy.port, &[]);
    let load = Load::start(
        server.port,
        &Plan {
            producers: producers(3, 2, 400),
            ..Plan::default()
        },
    );
    for round in 0..4 * scale() {
        let cuts = proxy.cuts();
        // From within the hello to within the data of a few INSERTs.
        proxy.set(Fault::CutWithin(1 << (9 + 2 * (round % 4))));
        eventually("connections to be cut", || {
            (proxy.cuts() >= cuts + 8).then_some(())
        });
        proxy.set(Fault::Delay(2));
        load.more_inserted(150);
        proxy.set(Fault::Refuse);
        thread::sleep(Duration::from_millis(200));
        proxy.set(Fault::None);
        load.more_inserted(150);
    }
    check(&engine, load, &server);
}

#[test]
fn an_insert_whose_answer_is_lost_is_not_doubled() {
    let engine = Engine::start();
    let proxy = Proxy::start(engine.tcp_port(), seed());
    let server = serve_ready(proxy.port, &[]);
    let load = Load::start(server.port, &Plan::default());
    for fault in [Fault::LoseAnswer, Fault::CutBeforeAnswer].repeat(scale() as usize) {
        for _ in 0..3 {
            load.more_inserted(60);
            let cuts = proxy.cuts();
            proxy.set(fault);
            eventually("an answer to be lost", || (proxy.cuts() > cuts).then_some(()));
            proxy.set(Fault::None);
        }
    }
    check(&engine, load, &server);
    assert_eq!(
        engine.embedded.restarts(),
        0,
        "the test shall cut connections and not kill the engine"
    );
}

#[test]
fn a_full_server_says_so_and_recovers() {
    let engine = Engine::start();
    let proxy = Proxy::start(engine.tcp_port(), seed());
    let arguments = [
        "--ingest-cores",
        "1",
        "--limit",
        "wal_segment_bytes=65536",
        "--limit",
        "wal_bytes_max=262144",
        "--limit",
        "batch_rows_max=50",
        "--limit",
        "ack_deadline_ms=2000",
    ];
    let server = serve_ready(proxy.port, &arguments);
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(150);
    proxy.set(Fault::Refuse);
    eventually("/readyz to tell", || (readyz(&server).0 == 503).then_some(()));
    let mut client = Client::connect(server.port).unwrap();
    let answer = eventually("503", || {
        let answer = client
            .post("/ingest?ack=memory", "{\"message\":\"9\"}")
            .expect("the connection is kept");
        (answer.status == 503).then_some(answer)
    });
    assert!(answer.retry_after && !answer.closes, "{answer:?}");
    let reason = "the write-ahead log is as large as it may be (wal_bytes_max)";
    assert!(answer.body.contains(reason), "{answer:?}");
    eventually("/readyz to tell why", || {
        readyz(&server).1.contains(reason).then_some(())
    });
    proxy.set(Fault::None);
    server.wait_until_ready();
    eventually("202", || {
        let answer = client
            .post("/ingest?ack=memory", "{\"message\":\"9\"}")
            .expect("the connection is kept");
        (answer.status == 202).then_some(())
    });
    load.more_inserted(150);
    let sent = load.finish();
    assert!(sent.statuses[&503] > 0, "{:?}", sent.statuses);
    // The rows of this test's own client all have the number 9.
    let ledger = settled(&server);
    assert_eq!(
        engine.sql("SELECT count() FROM otel_logs"),
        ledger.inserted.to_string()
    );
    engine.sql("ALTER TABLE otel_logs DELETE WHERE Body = '9' SETTINGS mutations_sync = 1");
    let counts = engine.sql("SELECT count(), uniqExact(Body) FROM otel_logs");
    let (count, unique) = counts.split_once('\t').unwrap();
    assert_eq!(count, unique);
    assert_eq!(sent.broken, Vec::<String>::new());
    assert_eq!(sent.without_retry_after, 0);
}

#[test]
fn a_refused_block_takes_no_neighbour_along() {
    let engine = Engine::start();
    engine.sql(
        "CREATE TABLE checked (n UInt64, CONSTRAINT odd_one CHECK n != 7) ENGINE = MergeTree ORDER BY n \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let proxy = Proxy::start(engine.tcp_port(), seed());
    let arguments = [
        "--table",
        "otel_logs",
        "--table",
        "checked",
        "--limit",
        "batch_rows_max=10",
    ];
    let server = serve_ready(proxy.port, &arguments);
    let post = |target: &str, rows: &[u64]| {
        let body: String = rows.iter().map(|n| format!("{{\"n\":{n}}}\n")).collect();
        server.post(target, body)
    };
    let reply = post("/ingest/checked", &[6, 7, 8]);
    assert_eq!(reply.status, 200, "{reply:?}");
    let told = r#"{"accepted":2,"rejected":1,"ack":"inserted","errors":[{"row":3,"reason":"1 of the rows were refused by ClickHouse"#;
    assert!(
        reply.body.starts_with(told) && reply.body.contains("dead-letter store"),
        "{reply:?}"
    );
    // None of its rows is in: then the request as a whole has failed.
    let reply = post("/ingest/checked", &[7]);
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.body.contains(r#""accepted":0,"rejected":1"#), "{reply:?}");
    assert_eq!(
        post("/ingest/checked", &[1, 2, 3]).status,
        200,
        "the lane goes on"
    );

    // Blocks of ten that wait for ClickHouse together and share an INSERT: one of them is refused.
    proxy.set(Fault::Refuse);
    for ten in 10..20 {
        let rows: Vec<u64> = (ten * 10..ten * 10 + 10)
            .map(|n| if n == 155 { 7 } else { n })
            .collect();
        assert_eq!(post("/ingest/checked?ack=memory", &rows).status, 202);
    }
    proxy.set(Fault::None);
    let ledger = settled(&server);
    assert_eq!(
        engine.sql("SELECT count(), uniqExact(n), countIf(n = 7) FROM checked"),
        "104\t104\t0"
    );
    assert_eq!(
        (ledger.inserted, ledger.dead_lettered, ledger.rejected),
        (104, 3, 0)
    );
}

#[test]
fn rows_left_when_it_ends_are_told_and_inserted_by_the_next_start() {
    let engine = Engine::start();
    let proxy = Proxy::start(engine.tcp_port(), seed());
    let directory = tempfile::tempdir().unwrap();
    let url = url(proxy.port);
    let start = || {
        let server = Server::start_in(directory.path(), &["--clickhouse", &url, "--create-tables"]);
        server.wait_until_ready();
        server
    };
    let mut server = start();
    proxy.set(Fault::Refuse);
    let rows: String = (0..123).map(|n| format!("{{\"message\":\"{n}\"}}\n")).collect();
    assert_eq!(server.post("/ingest?ack=memory", rows).status, 202);
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // Not the 30 s of the drain deadline: the log has the rows, and ClickHouse is known to be away.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert!(server.log().contains("123 rows wait in"), "{}", server.log());
    let told = "received 123 = inserted 0 + rejected 0 + dead-lettered 0 + waiting 123 + lost 0";
    assert!(server.output().contains(told), "{}", server.output());

    proxy.set(Fault::None);
    let mut server = start();
    assert_eq!(settled(&server).inserted, 123);
    assert_eq!(
        engine.sql("SELECT count(), uniqExact(Body) FROM otel_logs"),
        "123\t123"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let told = "received 123 = inserted 123 + rejected 0 + dead-lettered 0 + waiting 0 + lost 0";
    assert!(server.output().contains(told), "{}", server.output());
}

/// Stopping in normal operation must not reset connections: the embedded engine aborts on a reset.
#[test]
fn a_server_that_drains_under_load_loses_nothing_promised_and_resets_nobody() {
    let engine = Engine::start();
    for _ in 0..2 * scale() {
        let mut server = serve_ready(engine.tcp_port(), &[]);
        let load = Load::start(
            server.port,
            &Plan {
                producers: producers(2, 2, 40),
                ..Plan::default()
            },
        );
        load.more_inserted(150);
        // Producers cannot connect any more after this and are stopped by their own failure to.
        let drained = thread::scope(|scope| {
            let draining = scope.spawn(|| {
                server.signal(Signal::TERM);
                server.wait()
            });
            draining.join().expect("the server ends")
        });
        assert_eq!(drained.code(), Some(0), "{}", server.log());
        let sent = load.finish();
        let there = engine.sql("SELECT Body FROM otel_logs");
        let there: std::collections::HashSet<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
        assert!(
            sent.inserted
                .iter()
                .chain(&sent.memory)
                .all(|number| there.contains(number))
        );
        engine.sql("TRUNCATE TABLE otel_logs");
    }
    assert_eq!(engine.embedded.restarts(), 0, "the engine saw a reset");
}

#[test]
fn a_full_disk_holds_the_rows_until_there_is_space() {
    let Some(disk) = SmallDisk::mount(64 << 20) else {
        return;
    };
    let (tcp_port, http_port) = (free_port(), free_port());
    let engine = Embedded::start(EmbeddedConfig {
        directory: disk.path().join("clickhouse"),
        tcp_port: Some(tcp_port),
        http_port,
        memory_bytes_max: Some(2 << 30),
        users_config: None,
        executable: Some(BINARY.into()),
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let server = serve_ready(tcp_port, &[]);
    let load = Load::start(server.port, &Plan::default());
    load.more_inserted(150);
    let ballast = disk.fill();
    eventually("/readyz to tell", || (readyz(&server).0 == 503).then_some(()));
    drop(ballast);
    server.wait_until_ready();
    load.more_inserted(150);
    let sent = load.finish();
    let query = |text: &str| eventually("the engine's answer", || common::try_sql(http_port, text).ok());
    assert_exactly_once(query, TABLE, NUMBER, &sent, &server);
    drop((server, engine));
}
