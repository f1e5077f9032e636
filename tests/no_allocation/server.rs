//! The whole server in this process: on its ingest core nobody but glommio allocates.
//!
//! glommio does for every poll of a socket, for every timer and every wake from another thread. That is not ours to
//! avoid, so each allocation is told apart by where it came from.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;

use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;
use ringhouse::cli::{Arguments, Command};
use ringhouse::config::Settings;
use ringhouse::{server, topology};
use rustix::process::Signal;

use crate::common::{Engine, PATIENCE, eventually, free_port, http, signal};
use crate::counting::{Thread, Trace};
use crate::log_lines;

/// Requests of one kind.
struct Load {
    name: &'static str,
    request: Vec<u8>,
    status: &'static str,
    connections: usize,
    /// Requests a connection sends before it reads their replies.
    pipelined: usize,
    /// Rounds before the count, and during it. In a round every connection sends and then reads.
    warm_up: usize,
    counted: usize,
}

impl Load {
    fn requests(&self) -> u64 {
        (self.connections * self.pipelined * self.counted) as u64
    }

    /// Runs against the server on `port` whose ingest core is `core`: what that allocated in the counted rounds.
    fn run(&self, port: u16, core: Thread) -> Vec<Trace> {
        let mut streams: Vec<TcpStream> = (0..self.connections).map(|_| connect(port)).collect();
        self.rounds(&mut streams, self.warm_up);
        core.traced(|| self.rounds(&mut streams, self.counted))
    }

    fn rounds(&self, streams: &mut [TcpStream], rounds: usize) {
        let requests = self.request.repeat(self.pipelined);
        for _ in 0..rounds {
            for stream in &mut *streams {
                stream.write_all(&requests).expect("the server reads");
            }
            for stream in &mut *streams {
                self.read_replies(stream).expect("the server answers");
            }
        }
    }

    fn read_replies(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut received = Vec::new();
        let mut piece = [0; 16 * 1024];
        let mut replies = 0;
        while replies < self.pipelined {
            match stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => received.extend_from_slice(&piece[..count]),
            }
            while let Some(length) = message_bytes(&received).filter(|length| *length <= received.len()) {
                let reply = String::from_utf8_lossy(&received[..length]);
                let expected = format!("HTTP/1.1 {}", self.status);
                assert!(reply.starts_with(&expected), "{}: {reply}", self.name);
                received.drain(..length);
                replies += 1;
            }
        }
        assert_eq!(
            (replies, received.len()),
            (self.pipelined, 0),
            "one reply for one request"
        );
        Ok(())
    }
}

fn connect(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("the server listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a constant above zero");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Bytes of the HTTP message at the start of `bytes`, once its head is complete.
fn message_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let name = b"content-length:";
    let at = bytes[..head]
        .windows(name.len())
        .position(|window| window.eq_ignore_ascii_case(name))?;
    let value = bytes[at + name.len()..head].split(|byte| *byte == b'\r').next()?;
    let length: usize = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(head + length)
}

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn chunked(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut request = head.into_bytes();
    for chunk in body.chunks(10_000) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// `ringhouse serve` on a thread of this process.
struct InProcess {
    port: u16,
    thread: JoinHandle<()>,
}

impl InProcess {
    fn start(engine: &Engine, directory: &std::path::Path) -> InProcess {
        let (port, admin_port) = (free_port(), free_port());
        let arguments = [
            "ringhouse".into(),
            "serve".into(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin=127.0.0.1:{admin_port}"),
            format!(
                "--clickhouse=tcp://default@127.0.0.1:{}/default",
                engine.tcp_port()
            ),
            format!("--data-dir={}", directory.display()),
            "--create-tables".into(),
            "--ack=inserted".into(),
            "--ingest-cores=1".into(),
            "--limit=insert_interval_ms=10".into(),
        ];
        let Command::Serve(args) = Arguments::parse_from(arguments).command else {
            panic!("these are arguments of serve");
        };
        let written = args.into_written().expect("the limit exists");
        let settings =
            Settings::load(written, &|_| None, &topology::available()).expect("settings that work");
        let thread = std::thread::spawn(move || {
            server::serve(&settings).expect("the server starts");
        });
        eventually("/readyz", || {
            (http("GET", admin_port, "/readyz", &[], b"").ok()?.status == 200).then_some(())
        });
        // The server made every panic end the process, and with it what the test has to say.
        let _ = std::panic::take_hook();
        InProcess { port, thread }
    }

    fn end(self) {
        signal(std::process::id(), Signal::TERM);
        self.thread.join().expect("the server drains");
    }
}

#[test]
fn the_ingest_core_allocates_nothing_of_its_own() {
    let (one, many) = (log_lines(1, 1), log_lines(2, 20_000));
    let large = |name, request| Load {
        name,
        request,
        status: "202",
        connections: 1,
        pipelined: 1,
        warm_up: 3,
        counted: 3,
    };
    let small = |name, target, status, pipelined| Load {
        name,
        request: request(target, "", &one),
        status,
        connections: 16,
        pipelined,
        warm_up: 20,
        counted: 20,
    };
    // The large ones first: they bring the batches to their working size.
    let loads = [
        large("many logs", request("/ingest?ack=memory", "", &many)),
        large("many logs, chunked", chunked("/ingest?ack=memory", &many)),
        large(
            "many logs, gzip",
            request("/ingest?ack=memory", "Content-Encoding: gzip\r\n", &gzip(&many)),
        ),
        large(
            "many logs, zstd",
            request(
                "/ingest?ack=memory",
                "Content-Encoding: zstd\r\n",
                &zstd::encode_all(&many[..], 3).expect("memory takes everything"),
            ),
        ),
        small("one log, ack=memory", "/ingest?ack=memory", "202", 1),
        small("one log, ack=memory, pipelined", "/ingest?ack=memory", "202", 32),
        small("one log, ack=wal", "/ingest?ack=wal", "200", 1),
        small("one log, ack=wal, pipelined", "/ingest?ack=wal", "200", 32),
        small("one log, ack=inserted", "/ingest?ack=inserted", "200", 1),
        small(
            "one log, ack=inserted, pipelined",
            "/ingest?ack=inserted",
            "200",
            32,
        ),
    ];
    let engine = Engine::start();
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let server = InProcess::start(&engine, directory.path());
    let core = eventually("the ingest core's thread", || Thread::named("ingest-0"));
    let outcomes = loads.each_ref().map(|load| (load, load.run(server.port, core)));
    server.end();
    for (load, made) in outcomes {
        let ours: Vec<_> = made.iter().filter(|trace| !trace.is_glommios()).collect();
        println!(
            "{}: {} requests, {} allocations, all but {} glommio's",
            load.name,
            load.requests(),
            made.len(),
            ours.len()
        );
        let traces: String = ours.iter().take(3).map(|trace| trace.describe()).collect();
        assert!(
            ours.is_empty(),
            "{}: {} allocations of ours:{traces}",
            load.name,
            ours.len()
        );
    }
}
