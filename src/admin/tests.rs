use super::*;
use crate::ack::AckLevel;
use crate::histogram::Recorder;
use crate::ledger::Totals;
use crate::metrics::{BreakerState, WriterMetrics};
use crate::wal::log::LogError;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A server on a free port of loopback, two ingest cores, everything well.
struct Server {
    address: SocketAddr,
    state: Arc<AdminState>,
    recorders: Vec<Recorder>,
}

fn serve(ack: AckLevel) -> Server {
    serve_bounded(ack, listener::CONNECTIONS, listener::EXCHANGE_DEADLINE)
}

fn serve_bounded(ack: AckLevel, connections: usize, exchange_deadline: Duration) -> Server {
    let (recorders, histograms) = histogram::channel(3);
    let state = Arc::new(AdminState {
        ingest: vec![Arc::default(), Arc::default()],
        writer: Arc::new(WriterMetrics::of(
            ["tcp://a:9000", "tcp://b:9000"].map(String::from).into_iter(),
        )),
        dead_letters: Box::new(|| crate::dead_letter::Totals {
            rows: 3,
            bytes: 300,
            dropped_rows: 0,
        }),
        keys: crate::idempotency::Keys::new(10, 1 << 20, 1000),
        log: Arc::new(Budget::new(1_000, 8)),
        histograms,
        ledger: Box::new(|| {
            let totals = Totals {
                received: 17,
                inserted: 6,
                rejected: 1,
                dead_lettered: 2,
                waiting: 3,
                lost: 5,
            };
            vec![LedgerEntry {
                table: "d.t".into(),
                totals,
            }]
        }),
        guard: Guard::new(Arc::new(crate::access::Access::open()), false),
        readiness: Arc::new(Readiness::new(ack)),
        limits: Limits::default(),
        topology: Topology {
            ingest: vec![0, 2],
            writer: 3,
        },
        tables: vec!["t".into()],
        started: Started::now(),
    });
    let now_ms = unix_ms(SystemTime::now());
    // An hour ahead: no pause of the test machine makes a core look dead.
    state
        .ingest
        .iter()
        .for_each(|core| core.heartbeat_ms.set(now_ms + 3_600_000));
    state.writer.heartbeat_ms.set(now_ms + 3_600_000);
    state.ingest.iter().for_each(|core| core.has_room.set(1));
    state.readiness.set_clickhouse_reachable(true);
    state.readiness.set_table_known(true);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    start_bounded(listener, None, state.clone(), connections, exchange_deadline).unwrap();
    Server {
        address,
        state,
        recorders,
    }
}

impl Server {
    /// Status and page.
    fn get(&self, path: &str) -> (u16, String) {
        match fetch(self.address, path, None) {
            Ok(page) => (200, page),
            Err(FetchError::Refused { status, page }) => (status, page),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn get_json(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, page) = self.get(path);
        (
            status,
            serde_json::from_str(&page).unwrap_or_else(|_| panic!("{page}")),
        )
    }

    /// Fetches while the cores tick.
    fn get_ticking(&mut self, path: &str) -> (u16, String) {
        let recorders = &mut self.recorders;
        let address = self.address;
        std::thread::scope(|scope| {
            let page = scope.spawn(move || fetch(address, path, None));
            while !page.is_finished() {
                recorders.iter_mut().for_each(Recorder::publish);
                std::thread::sleep(Duration::from_millis(1));
            }
            match page.join().unwrap() {
                Ok(page) => (200, page),
                Err(FetchError::Refused { status, page }) => (status, page),
                Err(error) => panic!("{path}: {error}"),
            }
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

#[test]
fn is_alive_while_every_core_ticks_and_names_the_one_that_does_not() {
    let server = serve(AckLevel::Inserted);
    assert_eq!(
        server.get_json("/livez"),
        (200, serde_json::json!({ "alive": true, "silent": [] }))
    );

    server.state.ingest[1]
        .heartbeat_ms
        .set(unix_ms(SystemTime::now()) - 1_500);
    let (status, page) = server.get_json("/livez");
    assert_eq!((status, &page["alive"]), (503, &false.into()));
    assert_eq!(page["silent"].as_array().unwrap().len(), 1);
    assert_eq!(page["silent"][0]["core"], "ingest 1");
    assert!(page["silent"][0]["silent_ms"].as_u64().unwrap() >= 1_500);

    server.state.writer.heartbeat_ms.set(0);
    assert_eq!(server.get_json("/livez").1["silent"][1]["core"], "writer");
}

#[test]
fn is_ready_exactly_when_a_row_can_be_taken_at_the_default_level() {
    for ack in AckLevel::ALL {
        for case in 0..32_u32 {
            let bit = |at: u32| case >> at & 1 == 1;
            let (reachable, known, room, draining) = (bit(0), bit(1), bit(2), bit(3));
            // A core may have an error while another one has room.
            let log_error = bit(4).then_some(LogError::Disk(5));
            let readiness = Readiness::new(ack);
            readiness.set_clickhouse_reachable(reachable);
            readiness.set_table_known(known);
            if draining {
                readiness.set_draining();
            }
            let naive = known && room && !draining && (reachable || ack != AckLevel::Inserted);
            let page = serde_json::to_value(readiness.page(room, log_error)).unwrap();
            assert_eq!(page["ready"], naive, "{ack} {case:05b}");
            assert_eq!(page.get("reason").is_some(), !naive, "{ack} {case:05b}");
            if let Some(error) = log_error.filter(|_| known && !draining && !room) {
                assert_eq!(page["reason"], error.to_string(), "{ack} {case:05b}");
            }
        }
    }
}

#[test]
fn away_clickhouse_makes_nobody_unready_who_promises_the_log() {
    let server = serve(AckLevel::Wal);
    server.state.readiness.set_clickhouse_reachable(false);
    server.state.readiness.set_table_exists(false);
    server.state.readiness.set_inserts_fail(true);
    let (status, page) = server.get_json("/readyz");
    assert_eq!(
        (status, &page["ack"], &page["clickhouse_reachable"]),
        (200, &"wal".into(), &false.into())
    );

    for error in [
        LogError::BytesMax,
        LogError::BlocksMax,
        LogError::Disk(28),
        LogError::Disk(5),
    ] {
        for (core, expected) in server.state.ingest.iter().zip([200, 503]) {
            core.log_error.set(u64::from(error.code() as u32));
            let (status, page) = server.get_json("/readyz");
            assert_eq!(status, expected, "one core that takes rows is enough: {page}");
            if status == 503 {
                assert_eq!(page["reason"], error.to_string());
            }
        }
        server.state.ingest[0].log_error.set(0);
        assert_eq!(server.get_json("/readyz").0, 200);
        server.state.ingest[1].log_error.set(0);
    }
}

#[test]
fn tells_why_it_is_not_ready() {
    let server = serve(AckLevel::Inserted);
    assert_eq!(server.get_json("/readyz").0, 200);
    let reason = |what: &str| {
        let (status, page) = server.get_json("/readyz");
        assert_eq!(status, 503, "{what}");
        let reason = page["reason"].as_str().unwrap();
        assert!(reason.contains(what), "{what}: {reason}");
    };
    server.state.readiness.set_clickhouse_reachable(false);
    reason("ClickHouse does not answer");
    server.state.ingest[0].has_room.set(0);
    reason("ClickHouse does not answer");
    server.state.ingest[1].has_room.set(0);
    reason("faster than the write-ahead log takes them");
    for error in [LogError::BytesMax, LogError::BlocksMax, LogError::Disk(28)] {
        server.state.ingest[1]
            .log_error
            .set(u64::from(error.code() as u32));
        reason(&error.to_string());
    }
    server.state.readiness.set_table_known(false);
    reason("columns are not known");
    server.state.readiness.set_draining();
    reason("shutting down");
}

#[test]
fn serves_the_counters_with_the_type_prometheus_expects() {
    let mut server = serve(AckLevel::Inserted);
    server.state.ingest[1].rows_accepted.add(42);
    server.recorders[2].record(Measure::Insert, 5_000_000);
    let (status, page) = server.get_ticking("/metrics");
    assert_eq!(status, 200);
    assert!(
        page.contains("\nringhouse_rows_accepted_total{core=\"1\"} 42\n"),
        "{page}"
    );
    assert!(
        page.contains("\nringhouse_insert_duration_seconds_count{} 1\n"),
        "{page}"
    );
    assert!(
        page.contains("\nringhouse_ledger_waiting_rows{table=\"d.t\"} 3\n"),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"), "{page}");
    let mut stream = server.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(
        reply.contains(&format!("content-type: {}\r\n", metrics::CONTENT_TYPE)),
        "{reply}"
    );
}

#[test]
fn serves_histograms_in_each_form() {
    let mut server = serve(AckLevel::Inserted);
    server.recorders[0].record(Measure::Parse, 40_000);
    server.recorders[1].record(Measure::Parse, 60_000);
    let (status, text) = server.get_ticking("/histograms");
    let line = text.lines().find(|line| line.starts_with("parse ")).unwrap();
    assert_eq!(
        (status, line.split_whitespace().nth(1)),
        (200, Some("2")),
        "{text}"
    );
    let (status, hgrm) = server.get_ticking("/histograms?format=hgrm&name=parse");
    assert!(
        status == 200 && hgrm.contains("Total count    =            2]"),
        "{hgrm}"
    );
    let (status, log) = server.get_ticking("/histograms?format=log");
    assert!(status == 200 && log.contains("\nTag=parse,"), "{log}");
    assert_eq!(server.get("/histograms?format=png").0, 400);
    let (status, page) = server.get_json("/histograms?name=pars");
    assert_eq!(status, 400);
    assert!(
        page["error"]
            .as_str()
            .unwrap()
            .contains("request_memory, request_wal, request_inserted, parse, commit,"),
        "{page}"
    );
}

#[test]
fn shows_cores_tables_ledger_and_limits() {
    let server = serve(AckLevel::Memory);
    server
        .state
        .readiness
        .set_clickhouse_version("26.7.3", "tcp://a:9000");
    server.state.ingest[1].request(202);
    server.state.ingest[1].reject("time", 4);
    server.state.ingest[1].has_room.set(0);
    server.state.ingest[1].commits.add(9);
    server.state.ingest[1].commits_failed.add(2);
    server.state.ingest[1]
        .log_error
        .set(u64::from(LogError::BytesMax.code() as u32));
    server.state.log.count(640);
    server.state.writer.endpoints()[0].fail(5);
    server.state.writer.endpoints()[1].connect();
    let table = server.state.writer.table("d.t");
    table.rows.add(6);
    table.set_breaker(BreakerState::HalfOpen);
    table.fail("retry", 252);
    table.dead_lettered.add(2);
    table.lost.add(5);
    table.backlog_rows.set(3);
    table.backlog_bytes.set(30);
    table.backlog_left_ms.set(61_900);
    let (status, page) = server.get_json("/status");
    assert_eq!(status, 200);
    assert_eq!(page["clickhouse_version"], "26.7.3");
    assert_eq!(page["ready"]["ready"], true);
    assert_eq!(page["ready"]["clickhouse_endpoint"], "tcp://a:9000");
    assert_eq!(page["cores"][1]["cpu"], 2);
    assert_eq!(page["cores"][1]["requests"], serde_json::json!({ "202": 1 }));
    assert_eq!(
        page["cores"][1]["rows_rejected"],
        serde_json::json!({ "time": 4 })
    );
    assert_eq!(
        page["writer"]["endpoints"],
        serde_json::json!([
            { "endpoint": "tcp://a:9000", "connected": false, "connects": 0, "failures": 1, "last_failed_ms": 5, "held_rows": 0 },
            { "endpoint": "tcp://b:9000", "connected": true, "connects": 1, "failures": 0, "last_failed_ms": 0, "held_rows": 0 },
        ])
    );
    assert_eq!(page["writer"]["tables"][0]["breaker"], "half_open");
    assert_eq!(
        page["writer"]["tables"][0]["failed"],
        serde_json::json!([{ "verdict": "retry", "code": 252, "count": 1 }])
    );
    for (key, expected) in [
        ("dead_lettered", 2),
        ("lost", 5),
        ("backlog_rows", 3),
        ("backlog_bytes", 30),
        ("backlog_left_s", 61),
    ] {
        assert_eq!(page["writer"]["tables"][0][key], expected, "{key}");
    }
    assert_eq!(
        page["wal"],
        serde_json::json!({ "bytes": 640, "bytes_max": 1_000, "blocks_waiting": 0 })
    );
    let [fine, failing] = [0, 1].map(|core| &page["cores"][core]);
    for (key, expected) in [
        ("has_room", serde_json::json!([true, false])),
        ("commits", serde_json::json!([0, 9])),
        ("commits_failed", serde_json::json!([0, 2])),
    ] {
        assert_eq!(serde_json::json!([fine[key], failing[key]]), expected, "{key}");
    }
    assert_eq!(fine.get("log_error"), None::<&serde_json::Value>);
    assert_eq!(failing["log_error"], LogError::BytesMax.to_string());
    assert_eq!(
        page["ledger"],
        serde_json::json!([{
            "table": "d.t", "received": 17, "inserted": 6, "rejected": 1, "dead_lettered": 2, "waiting": 3, "lost": 5
        }])
    );
    assert_eq!(page["limits"]["batch_age_ms"], Limits::default().batch_age_ms);
    assert_eq!(
        page["memory_max_bytes"],
        Limits::default().memory(2).total_bytes()
    );
}

#[test]
fn rejects_what_is_no_page() {
    let server = serve(AckLevel::Inserted);
    let (status, page) = server.get_json("/");
    assert_eq!(status, 404);
    assert!(page["error"].as_str().unwrap().contains("/livez"), "{page}");
    let mut stream = server.connect();
    stream
        .write_all(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
}

#[test]
fn closes_a_peer_that_dawdles_and_gives_its_place_to_the_next() {
    let deadline = Duration::from_millis(300);
    let server = serve_bounded(AckLevel::Inserted, 1, deadline);
    let mut dawdler = server.connect();
    let begun = Instant::now();
    let sender = {
        let mut stream = dawdler.try_clone().unwrap();
        // A byte now and then does not restart the clock.
        std::thread::spawn(move || {
            for byte in b"GET /livez HTTP/1.1\r\n".iter().cycle().take(100) {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    // Queued behind the only place; answered once the dawdler is gone.
    assert_eq!(server.get("/livez").0, 200);
    assert!(begun.elapsed() >= deadline, "there was one place");
    let mut rest = Vec::new();
    // Closed, whether by an end or by a reset: what it sent lies unread.
    assert!(dawdler.read_to_end(&mut rest).map_or(true, |_| rest.is_empty()));
    sender.join().unwrap();
}

#[test]
fn keeps_a_connection_that_reads_its_pages() {
    let server = serve_bounded(AckLevel::Inserted, 1, Duration::from_millis(400));
    let mut stream = server.connect();
    let mut buffer = [0; 4096];
    // Twice the deadline in all; each reply restarts it.
    for _ in 0..8 {
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let got = stream.read(&mut buffer).unwrap();
        assert!(buffer[..got].starts_with(b"HTTP/1.1 200 "));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn tells_what_is_wrong_with_a_server_that_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for (reply, sentence) in [
        (&b"SSH-2.0-OpenSSH\r\n"[..], "not ringhouse's admin pages"),
        (b"", "not ringhouse's admin pages"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            "ended inside the page",
        ),
        (b"HTTP/1.1 503 Away\r\n\r\nlater", "answered 503: later"),
    ] {
        let told = std::thread::scope(|scope| {
            let told = scope.spawn(move || fetch(address, "/livez", None).unwrap_err().to_string());
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(peer.read(&mut request).unwrap() > 0);
            peer.write_all(reply).unwrap();
            drop(peer);
            told.join().unwrap()
        });
        assert!(told.contains(sentence), "{told}");
    }
    drop(listener);
    let told = fetch(address, "/livez", None).unwrap_err().to_string();
    assert!(told.contains("is `ringhouse serve` running"), "{told}");
}
