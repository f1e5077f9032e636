//! Slow, stalled, half-closed and hostile clients, and what the others' latencies show of them.
//!
//! Every listener has such clients at once. Rounds with and without them take turns, so that what else happens on the machine
//! happens to both.

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use authority::Authority;
use common::Server;
use common::client::{Client, post};

/// Clients of each kind on each listener.
const OF_A_KIND: usize = 12;

const ROUNDS: usize = 7;
const REQUESTS_PER_ROUND: usize = 400;

/// Below this a percentile of a shared machine says nothing.
const FLOOR: Duration = Duration::from_millis(1);

/// Each of the slow ones sends a byte about as often.
const SLOW: Duration = Duration::from_millis(50);

/// Datagrams of a flood: nothing, garbage, what is half a message, and one as large as a packet.
const DATAGRAMS: [&[u8]; 4] = [
    b"",
    b"\xff\x00<999999999>\xfe",
    b"<34>1 2026-11-28T12:00:00Z host app",
    &[b'<'; 1400],
];

/// So many come at once, some 10,000 a second: more would measure how the machine shares its cores with who sends them.
const BURST: usize = 50;
const BETWEEN_BURSTS: Duration = Duration::from_millis(5);

/// What clients of a protocol begin with.
struct Listener {
    name: &'static str,
    port: u16,
    /// A beginning that wants more.
    cut: &'static [u8],
    /// Nothing of the protocol.
    garbage: &'static [u8],
}

/// Holds clients that keep a listener busy, and ends them when dropped.
struct Hostiles {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Stalled in the middle, or half-closed there.
    _held: Vec<TcpStream>,
}

impl Hostiles {
    fn start(listeners: &[Listener], datagrams_port: u16) -> Hostiles {
        let mut held = Vec::new();
        let mut slow = Vec::new();
        for listener in listeners {
            let connect = || TcpStream::connect(("127.0.0.1", listener.port)).unwrap();
            for _ in 0..OF_A_KIND {
                held.push(connect());
                for half_closed in [false, true] {
                    let mut stalled = connect();
                    stalled.write_all(listener.cut).unwrap();
                    if half_closed {
                        stalled.shutdown(Shutdown::Write).unwrap();
                    }
                    held.push(stalled);
                }
                // It may be answered and closed at once.
                let mut hostile = connect();
                let _ = hostile.write_all(listener.garbage);
                held.push(hostile);
                slow.push((connect(), listener.cut, 0));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let slow = thread::spawn(move || {
            // A byte of one, then of the next, round and round.
            let pause = SLOW / slow.len() as u32;
            for next in (0..slow.len()).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, bytes, at) = &mut slow[next];
                if *at < bytes.len() && stream.write_all(&bytes[*at..=*at]).is_ok() {
                    *at += 1;
                }
                thread::sleep(pause);
            }
        });
        let stopped = Arc::clone(&stop);
        let flood = thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(("127.0.0.1", datagrams_port)).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                for datagram in DATAGRAMS.iter().cycle().take(BURST) {
                    socket.send(datagram).unwrap();
                }
                thread::sleep(BETWEEN_BURSTS);
            }
        });
        Hostiles {
            stop,
            threads: vec![slow, flood],
            _held: held,
        }
    }
}

impl Drop for Hostiles {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// The 99th percentile of the latencies of one client's requests, one after the other.
fn p99(client: &mut Client) -> Duration {
    let request = post(
        "/ingest?ack=memory",
        &[],
        br#"{"message":"a neighbour's","level":"info"}"#,
    );
    let mut latencies: Vec<Duration> = (0..REQUESTS_PER_ROUND)
        .map(|_| {
            let started = Instant::now();
            client.send(&request);
            assert_eq!(client.reply().status, 202);
            started.elapsed()
        })
        .collect();
    latencies.sort_unstable();
    latencies[REQUESTS_PER_ROUND * 99 / 100]
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

/// A server with a listener of every protocol, one of them behind TLS.
fn start(directory: &std::path::Path) -> Server {
    let (certificate, key) = Authority::new("the house's")
        .issue("localhost")
        .write(directory, "server");
    let config = directory.join("ringhouse.toml");
    let text = format!(
        "[listener.tls]\naddress = '127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n",
        certificate.display(),
        key.display()
    );
    fs::write(&config, text).unwrap();
    Server::start(&[
        "--clickhouse",
        "tcp://127.0.0.1:1",
        "--create-tables",
        "--config",
        config.to_str().unwrap(),
        "--listener",
        "syslog=syslog://127.0.0.1:0",
        "--listener",
        "forward=forward://127.0.0.1:0",
        "--listener",
        "json=json://127.0.0.1:0",
        "--listener",
        "udp=syslog-udp://127.0.0.1:0",
    ])
}

#[test]
fn clients_that_misbehave_do_not_slow_the_others_down() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let not_http = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\xff\xff\r\n\r\n";
    let listeners = [
        Listener {
            name: "http",
            port: server.port,
            cut: b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{\"message\":\"half a row",
            garbage: not_http,
        },
        Listener {
            name: "http, HTTP/2",
            port: server.port,
            // The preface, SETTINGS, and a header block that does not end.
            cut: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\xff\x01\x04\x00\x00\x00\x01\x82",
            garbage: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        },
        Listener {
            name: "http, TLS",
            port: server.port_of("tls"),
            cut: &not_http[..11],
            garbage: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        },
        Listener {
            name: "syslog",
            port: server.port_of("syslog"),
            cut: b"5000 <34>1 2026-11-28T12:00:00Z host app - - - half a message",
            garbage: b"999999999999 <\xff\x00\xff",
        },
        Listener {
            name: "forward",
            port: server.port_of("forward"),
            cut: b"\x93\xa3tag\xdd\x00\x00\xff\xff\x92\x01\x81\xa3msg",
            garbage: b"\xc1\xc1\xdf\xff\xff\xff\xff",
        },
        Listener {
            name: "json",
            port: server.port_of("json"),
            cut: b"{\"message\":\"whole\"}\n{\"message\":\"half",
            garbage: b"\x00\xff]]}}\n\x00",
        },
    ];
    let mut client = Client::connect(server.port);
    p99(&mut client);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(p99(&mut client));
        let hostiles = Hostiles::start(&listeners, server.port_of("udp"));
        // That so many come at once is not what is measured.
        p99(&mut client);
        beside.push(p99(&mut client));
        drop(hostiles);
    }
    let (alone, beside) = (median(alone), median(beside));
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name).collect();
    println!("p99 alone {alone:?}, beside misbehaving clients of {names:?} {beside:?}");
    assert!(
        beside <= 2 * alone.max(FLOOR),
        "{alone:?} alone, {beside:?} beside them"
    );
    // The flood came in: what there was no room for is counted too.
    let metrics = server.admin("/metrics").unwrap().body;
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("ringhouse_datagrams_"));
    let datagrams: u64 = counted
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    println!("{datagrams} datagrams");
    assert!(datagrams >= (ROUNDS * BURST) as u64, "{datagrams}");
    // The server is as it was: a stranger's garbage is answered.
    let mut stranger = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stranger.write_all(not_http).unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// What one client's message in JSON becomes: 768 MiB of rows, which repeat a resource of 256 KiB. Compressed they are less than the
/// log is behind by before a core waits for it.
fn message_of_much() -> Vec<u8> {
    let value = "x".repeat(256 * 1024);
    let records = ["{}"; 3072].join(",");
    let text = format!(
        "{{\"resourceLogs\":[{{\"resource\":{{\"attributes\":[{{\"key\":\"a\",\"value\":{{\"stringValue\":\"{value}\"}}}}]}},\
         \"scopeLogs\":[{{\"logRecords\":[{records}]}}]}}]}}"
    );
    post(
        "/v1/logs?ack=memory",
        &[("Content-Type", "application/json")],
        text.as_bytes(),
    )
}

#[test]
fn others_have_the_core_while_a_message_in_json_is_taken() {
    let server = Server::start(&[
        "--clickhouse",
        "tcp://127.0.0.1:1",
        "--create-tables",
        "--ingest-cores",
        "1",
    ]);
    let row = post("/ingest?ack=memory", &[], br#"{"message":"a neighbour's"}"#);
    let mut neighbour = Client::connect(server.port);
    neighbour.send(&row);
    assert_eq!(neighbour.reply().status, 202);
    let port = server.port;
    let started = Instant::now();
    let long = thread::spawn(move || {
        let mut client = Client::connect(port);
        client.send(&message_of_much());
        let status = client.reply().status;
        (status, started.elapsed())
    });
    let mut latencies = Vec::new();
    while !long.is_finished() {
        let asked = Instant::now();
        neighbour.send(&row);
        // The log may be behind, which is told at once.
        let status = neighbour.reply().status;
        assert!(matches!(status, 202 | 503), "{status}");
        latencies.push(asked.elapsed());
    }
    let (status, taken) = long.join().unwrap();
    assert_eq!(status, 200);
    let slowest = latencies.iter().max().unwrap();
    println!(
        "a message taken in {taken:?}, {} replies meanwhile, the slowest in {slowest:?}",
        latencies.len()
    );
    assert!(*slowest <= taken / 2, "{slowest:?} of {taken:?}");
}
