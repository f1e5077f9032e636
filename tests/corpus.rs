//! Real logs of eight systems through the whole server at once, in every request shape; then every row is looked for.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs, thread};

use common::client::{Client, post, post_chunked};
use common::{Server, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Seed of everything random here.
const SEED: u64 = 0x5eed_0001;

/// Log lines in files by service, each line one JSON object.
fn corpus() -> Vec<Vec<String>> {
    let directory = env::var_os("RINGHOUSE_CORPUS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let Ok(entries) = fs::read_dir(&directory) else {
        println!(
            "no corpus at {}: generated logs take its place",
            directory.display()
        );
        return generated();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "ndjson"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no .ndjson", directory.display());
    paths
        .iter()
        .map(|path| {
            fs::read_to_string(path)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// Eight services whose logs spread over 200 days of 2005 to 2023.
fn generated() -> Vec<Vec<String>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let levels = [
        "INFO", "WARN", "WARNING", "ERROR", "FATAL", "SEVERE", "notice", "error",
    ];
    (0..8)
        .map(|service| {
            (0..2000)
                .map(|line| {
                    let day = (service * 2000 + line) / 80;
                    let (year, month, day) = (2005 + 2 * service, 1 + service, 1 + day % 25);
                    let time = format!(
                        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
                        random.u8(..24),
                        random.u8(..60),
                        random.u8(..60),
                        random.u16(..1000)
                    );
                    let mut row = json!({
                        "timestamp": time,
                        "service": format!("service{service}"),
                        "message": format!("request {} of \"user\" took {} µs\ton \\{line}", random.u64(..), random.u32(..)),
                        "eventid": format!("E{}", random.u8(..80)),
                        "pid": random.u32(..),
                    });
                    if random.u8(..8) > 0 {
                        row["level"] = json!(random.choice(levels));
                    }
                    row.to_string()
                })
                .collect()
        })
        .collect()
}

/// One request and what its reply must say.
struct Request {
    bytes: Vec<u8>,
    rows: usize,
    ack: &'static str,
}

/// Makes requests of one shape, with an ack level drawn for each.
struct Maker {
    random: fastrand::Rng,
}

impl Maker {
    fn request(
        &mut self,
        rows: usize,
        body: &[u8],
        headers: &[(&str, &str)],
        chunk_bytes_max: Option<usize>,
    ) -> Request {
        let mut headers = headers.to_vec();
        let (target, ack) = match self.random.u8(..5) {
            0 => ("/ingest", "inserted"),
            1 => ("/ingest?ack=inserted", "inserted"),
            2 => ("/ingest?ack=memory", "memory"),
            3 => ("/ingest?ack=wal", "wal"),
            _ => {
                headers.push(("X-Ringhouse-Ack", "memory"));
                ("/ingest/default.otel_logs", "memory")
            }
        };
        let bytes = match chunk_bytes_max {
            None => post(target, &headers, body),
            Some(max) => post_chunked(target, &headers, body, || self.random.usize(1..=max)),
        };
        Request { bytes, rows, ack }
    }

    /// The lines in groups of 1 to `rows_max`.
    fn groups<'l>(&mut self, mut lines: &'l [&'l str], rows_max: usize) -> Vec<&'l [&'l str]> {
        let mut groups = Vec::new();
        while !lines.is_empty() {
            let (group, rest) = lines.split_at(self.random.usize(1..=rows_max.min(lines.len())));
            groups.push(group);
            lines = rest;
        }
        groups
    }
}

fn ndjson(lines: &[&str]) -> Vec<u8> {
    let mut text = lines.join("\n");
    text.push('\n');
    text.into_bytes()
}

fn array(lines: &[&str], separator: &str) -> Vec<u8> {
    format!("[{}]", lines.join(separator)).into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// How one client sends its lines.
struct Shape {
    name: &'static str,
    /// Requests sent before the first reply is read.
    pipelined: usize,
    requests: fn(&mut Maker, &[&str]) -> Vec<Request>,
}

const SHAPES: [Shape; 10] = [
    Shape {
        name: "one NDJSON body",
        pipelined: 1,
        requests: |maker, lines| vec![maker.request(lines.len(), &ndjson(lines), &[], None)],
    },
    Shape {
        name: "NDJSON of 1 to 500 rows",
        pipelined: 1,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 500);
            let to_request = |group: &[&str]| maker.request(group.len(), &ndjson(group), &[], None);
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "arrays of 1 to 100 rows",
        pipelined: 4,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 100);
            let json = [("Content-Type", "application/json")];
            let to_request = |group: &[&str]| maker.request(group.len(), &array(group, ","), &json, None);
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "single objects",
        pipelined: 50,
        requests: |maker, lines| {
            let to_request = |line: &&str| maker.request(1, line.as_bytes(), &[], None);
            lines.iter().map(to_request).collect()
        },
    },
    Shape {
        name: "single objects over several lines",
        pipelined: 64,
        requests: |maker, lines| {
            let to_request = |line: &&str| {
                let row: Value = serde_json::from_str(line).unwrap();
                let pretty = serde_json::to_vec_pretty(&row).unwrap();
                maker.request(1, &pretty, &[], None)
            };
            lines.iter().map(to_request).collect()
        },
    },
    Shape {
        name: "chunks of 1 to 99 bytes",
        pipelined: 2,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 120);
            let to_request = |group: &[&str]| maker.request(group.len(), &ndjson(group), &[], Some(99));
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "gzip",
        pipelined: 2,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 400);
            let to_request = |group: &[&str]| {
                let body = gzip(&ndjson(group));
                maker.request(group.len(), &body, &[("Content-Encoding", "gzip")], None)
            };
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "zstd in chunks",
        pipelined: 2,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 400);
            let to_request = |group: &[&str]| {
                let body = zstd::encode_all(&ndjson(group)[..], 3).unwrap();
                maker.request(group.len(), &body, &[("Content-Encoding", "zstd")], Some(701))
            };
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "deflated arrays over several lines",
        pipelined: 3,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 200);
            let to_request = |group: &[&str]| {
                let body = deflate(&array(group, "\r\n ,\t"));
                maker.request(group.len(), &body, &[("Content-Encoding", "deflate")], Some(5000))
            };
            groups.into_iter().map(to_request).collect()
        },
    },
    Shape {
        name: "CRLF, blank lines, a byte order mark, no last newline",
        pipelined: 2,
        requests: |maker, lines| {
            let groups = maker.groups(lines, 60);
            let to_request = |group: &[&str]| {
                let body = format!("\u{feff}\r\n{}", group.join("\r\n\n  \r\n"));
                let headers = [("Content-Type", "application/x-ndjson")];
                maker.request(group.len(), body.as_bytes(), &headers, None)
            };
            groups.into_iter().map(to_request).collect()
        },
    },
];

/// Sends the requests of one shape over one connection and checks every reply.
fn send(port: u16, shape: &Shape, requests: &[Request]) {
    let mut client = Client::connect(port);
    for window in requests.chunks(shape.pipelined) {
        let bytes: Vec<u8> = window.iter().flat_map(|request| request.bytes.clone()).collect();
        client.send(&bytes);
        for request in window {
            let reply = client.reply();
            let expected = json!({"accepted": request.rows, "rejected": 0, "ack": request.ack, "errors": []});
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(body, expected, "{}", shape.name);
            let status = if request.ack == "memory" { 202 } else { 200 };
            assert_eq!(reply.status, status, "{}: {reply:?}", shape.name);
        }
    }
}

/// Rows, and the wrapping sum of a hash of each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hash: u64,
}

/// What ClickHouse must hold of one service, computed from the lines without any code of the server's.
fn expected(lines: &[String], sums: &mut BTreeMap<String, Sum>) {
    for line in lines {
        let Value::Object(mut row) = serde_json::from_str(line).unwrap() else {
            panic!("not an object: {line}")
        };
        let mut take = |key: &str| match row.remove(key) {
            Some(Value::String(text)) => text,
            None => String::new(),
            Some(other) => panic!("{key} is {other}"),
        };
        let nanoseconds = unix_nanoseconds(&take("timestamp"));
        let (level, service, message) = (take("level"), take("service"), take("message"));
        let number = match level.as_str() {
            "" => 0,
            "INFO" => 9,
            "notice" => 10,
            "WARN" | "WARNING" => 13,
            "ERROR" | "error" | "SEVERE" => 17,
            "FATAL" => 21,
            other => panic!("what is the number of {other}?"),
        };
        let mut attributes: Vec<(String, String)> = row
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => (key, text),
                Value::Number(number) => (key, number.to_string()),
                other => panic!("{key} is {other}"),
            })
            .collect();
        attributes.sort();
        let attributes: Vec<String> = attributes
            .into_iter()
            .map(|(k, v)| format!("{k}\u{1}{v}"))
            .collect();
        let canonical = format!(
            "{nanoseconds}\u{3}{service}\u{3}{level}\u{3}{number}\u{3}{message}\u{3}{}",
            attributes.join("\u{2}")
        );
        let digest = Sha256::digest(canonical.as_bytes());
        let sum = sums.entry(service).or_default();
        sum.rows += 1;
        sum.hash = sum
            .hash
            .wrapping_add(u64::from_le_bytes(digest[..8].try_into().unwrap()));
    }
}

/// The same text, hashed and summed by ClickHouse.
const FOUND: &str = "
SELECT ServiceName, count(), sum(reinterpretAsUInt64(substring(SHA256(arrayStringConcat([
    toString(toUnixTimestamp64Nano(Timestamp)), ServiceName, SeverityText, toString(SeverityNumber), Body,
    arrayStringConcat(arraySort(arrayMap((k, v) -> concat(k, char(1), v), mapKeys(LogAttributes), mapValues(LogAttributes))), char(2))
], char(3))), 1, 8)))
FROM otel_logs GROUP BY ServiceName ORDER BY ServiceName";

/// `2005-12-04T04:47:44.000Z` as nanoseconds since 1970, by counting days.
fn unix_nanoseconds(text: &str) -> i64 {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let (year, month) = (number(0, 4), number(5, 7));
    let lengths = [
        31,
        if is_leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let days = (1970..year)
        .map(|y| if is_leap(y) { 366 } else { 365 })
        .sum::<i64>()
        + lengths[..month as usize - 1].iter().sum::<i64>()
        + number(8, 10)
        - 1;
    let seconds = days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    (seconds * 1000 + number(20, 23)) * 1_000_000
}

#[test]
fn every_line_of_the_corpus_is_in_clickhouse_once_whatever_shape_it_was_sent_in() {
    let files = corpus();
    let mut sums = BTreeMap::new();
    files.iter().for_each(|lines| expected(lines, &mut sums));
    let rows_total: u64 = sums.values().map(|sum| sum.rows).sum();
    let days_total = files
        .iter()
        .flatten()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["timestamp"]
                .as_str()
                .unwrap()[..10]
                .to_owned()
        })
        .collect::<std::collections::BTreeSet<String>>()
        .len();
    assert!(
        days_total > 100,
        "{days_total} days do not need more than 100 partitions"
    );

    // Runs of lines go to each shape in turn, so that every shape gets lines of every file.
    println!("seed {SEED:#x}");
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut lines_of: Vec<Vec<&str>> = vec![Vec::new(); SHAPES.len()];
    for (file, lines) in files.iter().enumerate() {
        let mut turn = file;
        let mut rest: &[String] = lines;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(random.usize(1..=40).min(rest.len()));
            lines_of[turn % SHAPES.len()].extend(run.iter().map(String::as_str));
            (turn, rest) = (turn + 1, after);
        }
    }

    let server = Server::embedded(&["--create-tables"]);
    let port = server.port;
    let started = Instant::now();
    thread::scope(|scope| {
        for (shape, lines) in SHAPES.iter().zip(&lines_of) {
            let random = random.fork();
            scope.spawn(move || {
                let requests = (shape.requests)(&mut Maker { random }, lines);
                assert_eq!(requests.iter().map(|r| r.rows).sum::<usize>(), lines.len());
                send(port, shape, &requests);
                println!(
                    "{}: {} rows in {} requests",
                    shape.name,
                    lines.len(),
                    requests.len()
                );
            });
        }
    });
    let status = eventually("the last rows", || {
        let status: Value = serde_json::from_str(&server.admin("/status").unwrap().body).unwrap();
        (status["ledger"][0]["waiting"] == 0).then_some(status)
    });
    let elapsed = started.elapsed();
    println!("{rows_total} rows of {days_total} days in {elapsed:?}");

    assert_eq!(
        status["ledger"],
        json!([{
            "table": "default.otel_logs", "received": rows_total, "inserted": rows_total, "rejected": 0,
            "dead_lettered": 0, "waiting": 0, "lost": 0,
        }])
    );
    let found: BTreeMap<String, Sum> = server
        .sql(FOUND)
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let (rows, hash) = (fields[1].parse().unwrap(), fields[2].parse().unwrap());
            (fields[0].to_owned(), Sum { rows, hash })
        })
        .collect();
    assert_eq!(found, sums);
    let others = "SELECT count() FROM otel_logs WHERE TraceId != '' OR SpanId != '' OR TraceFlags != 0
        OR ResourceSchemaUrl != '' OR notEmpty(ResourceAttributes) OR ScopeSchemaUrl != '' OR ScopeName != ''
        OR ScopeVersion != '' OR notEmpty(ScopeAttributes) OR EventName != ''";
    assert_eq!(server.sql(others), "0", "columns nothing was sent for");

    // ClickHouse itself refuses an INSERT of more than 100 partitions: none was, and none was sent twice.
    let table = &status["writer"]["tables"][0];
    assert_eq!(table["failed"], json!([]), "{table}");
    assert_eq!(table["retries"], 0, "{table}");
    assert_eq!(table["rows"], rows_total);
    assert_eq!(
        server.sql("SELECT uniqExact(toDate(Timestamp)) FROM otel_logs"),
        days_total.to_string()
    );

    // ClickHouse forgets merged parts, so the writer's own count tells how many there were.
    let parts = table["parts_estimated"].as_u64().unwrap();
    println!("{parts} parts in {} inserts", table["inserts"]);
    assert!(parts >= days_total as u64, "{parts}");
    let listed: u64 = server
        .sql("SELECT count() FROM system.parts WHERE table = 'otel_logs' AND level = 0")
        .parse()
        .unwrap();
    assert!(listed <= parts, "{listed} parts are there, {parts} were counted");
    // Pacing lets a burst of two INSERTs through, then aims at `parts_per_second` = 100.
    let parts_max = 200 + 100 * elapsed.as_secs_f64().ceil() as u64;
    assert!(parts <= parts_max, "{parts} parts in {elapsed:?} are a flood");
}
