//! A body is parsed as it arrives: the server's memory does not grow with it.

mod common;

use std::fs;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use common::client::Client;
use common::{PATIENCE, Server, eventually, http, raw};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// What a 256 MiB body may need more than one of 64 MiB: noise of the allocator, a fifth of what is sent more.
const NOISE_KIB_MAX: u64 = 40 * 1024;

/// What it may need more than a 1 MiB one: the pool of blocks, which a short body leaves mostly untouched. A quarter of
/// the body.
const POOL_KIB_MAX: u64 = 64 * 1024;

/// The most memory the process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One MiB of lines, each different from its neighbours.
fn lines() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::with_capacity(MIB);
    while text.len() < MIB - 512 {
        let words: String = (0..20).map(|_| format!("{:x} ", random.u32(..))).collect();
        text.push_str(&format!(
            "{{\"n\":{},\"message\":\"{words}\",\"service\":\"s{}\"}}\n",
            random.u32(..),
            random.u8(..9)
        ));
    }
    text.push_str(&" ".repeat(MIB - text.len() - 1));
    text.push('\n');
    text.into_bytes()
}

/// How a body of so many MiB is written: its headers, and its bytes.
struct Form {
    name: &'static str,
    send: fn(&mut TcpStream, mebibytes: usize, lines: &[u8]) -> std::io::Result<()>,
}

const FORMS: [Form; 3] = [
    Form {
        name: "NDJSON with its length",
        send: |stream, mebibytes, lines| {
            write!(stream, "Content-Length: {}\r\n\r\n", mebibytes * MIB)?;
            (0..mebibytes).try_for_each(|_| stream.write_all(lines))
        },
    },
    Form {
        name: "an array in chunks",
        send: |stream, mebibytes, lines| {
            let elements = String::from_utf8(lines.to_vec())
                .unwrap()
                .trim_end()
                .replace('\n', ",");
            write!(stream, "Transfer-Encoding: chunked\r\n\r\n")?;
            let mut chunks = Chunks(stream);
            chunks.write_all(b"[{}")?;
            for _ in 0..mebibytes {
                chunks.write_all(b",")?;
                chunks.write_all(elements.as_bytes())?;
            }
            chunks.write_all(b"]")?;
            chunks.end()
        },
    },
    Form {
        name: "zstd",
        send: |stream, mebibytes, lines| {
            write!(
                stream,
                "Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n"
            )?;
            let chunks = BufWriter::with_capacity(65_536, Chunks(stream));
            let mut encoder = zstd::Encoder::new(chunks, 1)?;
            (0..mebibytes).try_for_each(|_| encoder.write_all(lines))?;
            encoder
                .finish()?
                .into_inner()
                .map_err(|error| error.into_error())?
                .end()
        },
    },
];

/// Every write is a chunk.
struct Chunks<'s>(&'s mut TcpStream);

impl Chunks<'_> {
    fn end(&mut self) -> std::io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !bytes.is_empty() {
            write!(self.0, "{:x}\r\n", bytes.len())?;
            self.0.write_all(bytes)?;
            self.0.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Uploads a body and asserts that every row was accepted.
fn upload(port: u16, form: &Form, mebibytes: usize, lines: &[u8]) {
    let started = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST /ingest/sink HTTP/1.1\r\nHost: x\r\n").unwrap();
    (form.send)(&mut stream, mebibytes, lines).unwrap();
    let reply = Client::from(stream).reply();
    let rows = lines.iter().filter(|byte| **byte == b'\n').count() - 1;
    let expected = mebibytes * rows + usize::from(form.name.contains("array"));
    let told: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        (reply.status, &told["accepted"], &told["rejected"]),
        (200, &expected.into(), &0.into()),
        "{reply:?}"
    );
    println!("{}: {mebibytes} MiB in {:?}", form.name, started.elapsed());
}

#[test]
fn a_body_of_256_mib_needs_no_more_memory_than_a_short_one() {
    let server = Server::embedded(&["--limit", "schema_refresh_ms=200"]);
    server.sql("CREATE TABLE sink (n UInt32, message String, service LowCardinality(String)) ENGINE = Null");
    eventually("the table", || {
        let reply = raw(
            server.port,
            b"POST /ingest/sink HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
        )
        .unwrap();
        (reply.status == 200).then_some(())
    });
    let lines = lines();
    let peak_after = |forms: &[Form], mebibytes: usize| {
        forms
            .iter()
            .for_each(|form| upload(server.port, form, mebibytes, &lines));
        peak_kib(server.pid())
    };
    let short = peak_after(&FORMS, 1);
    let middle = peak_after(&FORMS, 64);
    let long = peak_after(&FORMS[..1], 256).max(peak_after(&FORMS[1..], 96));
    println!("peaks: {short} KiB, {middle} KiB, {long} KiB");
    assert!(
        long.saturating_sub(short) <= POOL_KIB_MAX,
        "{short} KiB after 1 MiB, {long} KiB after 256 MiB"
    );
    assert!(
        long.saturating_sub(middle) <= NOISE_KIB_MAX,
        "{middle} KiB after 64 MiB, {long} KiB after 256 MiB"
    );
}

/// Records without anything that share a resource of 256 KiB: 8 KB of them, and 1 GiB of rows.
const EMPTY_RECORDS: usize = 4000;
const RESOURCE_BYTES: usize = 256 * 1024;

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

#[test]
fn empty_records_below_a_long_resource_need_no_memory_for_all_of_their_rows() {
    let server = Server::embedded(&["--limit", "schema_refresh_ms=200"]);
    server.sql("CREATE TABLE hostile (ResourceAttributes Map(String, String)) ENGINE = Null");
    let post = |media_type: &str, body: &[u8]| {
        let headers = [("Content-Type", media_type)];
        http(
            "POST",
            server.port,
            "/v1/logs?table=hostile&ack=inserted",
            &headers,
            body,
        )
        .unwrap()
    };
    eventually("the table", || {
        (post("application/json", b"{}").status == 200).then_some(())
    });
    let value = "x".repeat(RESOURCE_BYTES);
    let attribute = [field(1, b"a"), field(2, &field(1, value.as_bytes()))].concat();
    let resource = field(1, &field(1, &attribute));
    let records = field(2, &field(2, b"").repeat(EMPTY_RECORDS));
    let protobuf = field(1, &[resource, records].concat());
    let json = serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "a", "value": {"stringValue": value}}]},
        "scopeLogs": [{"logRecords": vec![serde_json::json!({}); EMPTY_RECORDS]}],
    }]});
    let before = peak_kib(server.pid());
    for (media_type, body, nothing_rejected) in [
        ("application/x-protobuf", protobuf, ""),
        ("application/json", json.to_string().into_bytes(), "{}"),
    ] {
        let reply = post(media_type, &body);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, nothing_rejected),
            "{reply:?}"
        );
    }
    let after = peak_kib(server.pid());
    println!("peaks: {before} KiB, {after} KiB");
    assert!(
        after - before <= POOL_KIB_MAX,
        "{before} KiB before, {after} KiB after"
    );
}
