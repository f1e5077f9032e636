//! What HTTP costs a core per request: reading a head and writing the reply of one accepted row.
//!
//! Claims nothing about sockets, JSON or columns: these are the nanoseconds a request pays before and after
//! them. `bare` is the limit to compare with: finding the end of the head and copying a finished reply.
//! Also the rate at which bodies are de-chunked and inflated. Run: `cargo bench --bench http`.

use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhouse::http::{
    BodyDecoder, DecoderPool, Encoding, Envelope, Framing, IngestReply, Parse, Replier, Status, parse_head,
};
use ringhouse::limits::Limits;

/// What a log shipper sends: nothing optional left out, nothing exotic.
const SHIPPER: &[u8] = b"POST /ingest HTTP/1.1\r\nHost: logs.example.com:8080\r\nUser-Agent: Vector/0.49.0 (x86_64)\r\n\
    Content-Type: application/x-ndjson\r\nAccept-Encoding: zstd, gzip, deflate, br\r\nContent-Length: 214\r\n\r\n";
/// The least a client can send.
const MINIMAL: &[u8] = b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 214\r\n\r\n";

fn requests(c: &mut Criterion) {
    let limits = Limits::default();
    let mut replier = Replier::new(1_800_000_000, 1);
    replier.tick(1_800_000_001);
    let mut group = c.benchmark_group("http/request");
    for (name, text) in [("minimal", MINIMAL), ("shipper", SHIPPER)] {
        group.bench_function(format!("head/{name}"), |b| {
            b.iter(|| match parse_head(black_box(text), &limits) {
                Ok(Parse::Complete(length, head)) => (length, head.framing, head.persistence),
                other => panic!("a head: {other:?}"),
            });
        });
    }
    let mut out = Vec::with_capacity(4096);
    group.bench_function("reply", |b| {
        b.iter(|| {
            out.clear();
            reply(&replier, &mut out, black_box(1));
            out.len()
        });
    });
    group.bench_function("head and reply/shipper", |b| {
        b.iter(|| {
            out.clear();
            let Ok(Parse::Complete(_, head)) = parse_head(black_box(SHIPPER), &limits) else {
                panic!("a head");
            };
            let body = IngestReply {
                status: Status::Ok,
                accepted: 1,
                rejected: 0,
                ack: "inserted",
            };
            replier.ingest(&mut out, head.envelope(), &body, []);
            out.len()
        });
    });
    let mut finished = Vec::new();
    reply(&replier, &mut finished, 1);
    group.bench_function("bare/shipper", |b| {
        b.iter(|| {
            out.clear();
            let end = memchr::memmem::find(black_box(SHIPPER), b"\r\n\r\n").expect("a head");
            out.extend_from_slice(&finished);
            end + out.len()
        });
    });
    group.finish();
}

fn reply(replier: &Replier, out: &mut Vec<u8>, accepted: u64) {
    let envelope = Envelope::KEEP;
    let body = IngestReply {
        status: Status::Ok,
        accepted,
        rejected: 0,
        ack: "inserted",
    };
    replier.ingest(out, envelope, &body, []);
}

fn bodies(c: &mut Criterion) {
    let limits = Limits {
        inflate_ratio_max: u64::MAX,
        ..Limits::default()
    };
    let pool = DecoderPool::new(&limits);
    let content = lines(1 << 20);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&content).expect("memory");
    let bodies = [
        ("chunked", Framing::Chunked, Encoding::Identity, chunked(&content)),
        (
            "gzip",
            Framing::None,
            Encoding::Gzip,
            gzip.finish().expect("memory"),
        ),
        (
            "zstd",
            Framing::None,
            Encoding::Zstd,
            zstd::encode_all(&content[..], 3).expect("memory"),
        ),
    ];
    let mut group = c.benchmark_group("http/body");
    group.throughput(Throughput::Bytes(content.len() as u64));
    let mut out = vec![0; limits.body_buffer_bytes];
    for (name, framing, encoding, raw) in &bodies {
        let framing = if *framing == Framing::None {
            Framing::Length(raw.len() as u64)
        } else {
            *framing
        };
        group.bench_function(*name, |b| {
            b.iter(|| {
                let mut decoder = BodyDecoder::new(framing, *encoding, &limits, &pool).expect("room");
                let mut rest = &raw[..];
                loop {
                    let step = decoder.decode(rest, &mut out).expect("valid");
                    rest = &rest[step.consumed..];
                    if step.done {
                        break;
                    }
                }
                assert_eq!(decoder.content_bytes(), content.len() as u64);
                out[0]
            });
        });
    }
    group.finish();
}

/// Chunks of 8 KiB, as HTTP libraries write them.
fn chunked(content: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    for chunk in content.chunks(8192) {
        write!(raw, "{:x}\r\n", chunk.len()).expect("memory");
        raw.extend_from_slice(chunk);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

/// Generated log lines with some entropy in each.
fn lines(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut text = Vec::with_capacity(bytes + 256);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        writeln!(
            text,
            "{{\"time\":\"2026-11-21T05:{:02}:{:02}Z\",\"level\":\"info\",\"service\":\"checkout-{}\",\"message\":\"order {} took {} ms\"}}",
            state >> 20 & 31,
            state >> 25 & 31,
            state >> 30 & 7,
            state >> 33 & 0xfffff,
            state >> 53,
        )
        .expect("memory");
    }
    text.truncate(bytes);
    text
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(std::time::Duration::from_secs(2)).sample_size(30);
    targets = requests, bodies
}
criterion_main!(benches);
