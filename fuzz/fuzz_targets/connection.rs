//! Whatever a client sends, by HTTP/1.1 or in frames of HTTP/2, its connection comes to an end and the server goes on: it still
//! answers another client.

#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use ringhouse::clickhouse::embedded::free_port;
use ringhouse::config::{Settings, Written};
use ringhouse::{server, topology};

const PATIENCE: Duration = Duration::from_secs(20);

fuzz_target!(|bytes: &[u8]| {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => exchange(&[rest]),
        1 => exchange(&[PREFACE, rest]),
        _ => {
            let frames = frames(rest);
            let mut pieces = vec![PREFACE];
            pieces.extend(frames.iter().map(Vec::as_slice));
            exchange(&pieces)
        }
    };
    if SENT.fetch_add(1, Ordering::Relaxed) % 64 == 0 {
        let reply = exchange(&[b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]);
        assert!(reply.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&reply));
    }
});

/// The client's preface and its empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The input as frames whose lengths are right: of each its type, flags, stream and length are a byte before the payload.
fn frames(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [kind, flags, stream, len, rest @ ..] = input {
        let (payload, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        // Those that are defined, and one that is not.
        let head = [0, 0, payload.len() as u8, kind % 11, *flags, 0, 0, 0, stream % 8];
        frames.push([&head[..], payload].concat());
        input = rest;
    }
    frames
}

/// Sends the pieces and nothing more, and waits for the end of the connection.
fn exchange(pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server()).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    for piece in pieces {
        // It may have had enough.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the connection stays open behind {reply:?}")
        }
        _ => reply,
    }
}

/// Where the server listens, which is started once. Its ClickHouse is away: rows are refused, all else is as ever.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().expect("a port is free")));
        let directory = std::env::temp_dir().join(format!("ringhouse-fuzz-{}", std::process::id()));
        let written = Written::from_toml(&format!(
            "listen = \"{address}\"\nadmin = \"127.0.0.1:0\"\nclickhouse = \"tcp://127.0.0.1:1\"\ndata_dir = {:?}\n\
             [limits]\nhead_bytes_max = 1024\n",
            directory.display().to_string(),
        ));
        let settings = Settings::resolve(written.expect("it is well written"), None, &topology::available());
        let settings = settings.expect("it can be run with");
        thread::spawn(move || server::serve(&settings).expect("the server starts"));
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < PATIENCE, "the server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        address
    })
}
