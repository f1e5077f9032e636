//! Clients that send slowly, wrongly, endlessly or not at all: others are unharmed, and memory is bounded.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};

use crate::common::{Server, eventually, http, signal};
use crate::{connect, port_of, rows};
use rustix::process::Signal;

fn server() -> Server {
    let listeners = [
        "s=syslog://127.0.0.1:0",
        "f=forward://127.0.0.1:0",
        "j=json://127.0.0.1:0",
    ];
    let listeners = listeners.map(|listener| ["--listener", listener]);
    let limits =
        ["body_deadline_ms=2000", "body_buffers_bytes_per_core=33554432"].map(|limit| ["--limit", limit]);
    let arguments = [
        &["--create-tables"][..],
        listeners.as_flattened(),
        limits.as_flattened(),
    ]
    .concat();
    Server::embedded(&arguments)
}

/// A counter of all cores together.
fn counter(server: &Server, name: &str) -> u64 {
    let metrics = server.admin("/metrics").unwrap().body;
    let values = metrics.lines().filter(|line| line.starts_with(name));
    values
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The server ends a connection; whether it sent anything before is not looked at.
fn wait_for_end(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while !matches!(stream.read(&mut bytes), Ok(0) | Err(_)) {}
}

/// Rows of a well-behaved client come through.
fn assert_others_are_served(server: &Server, name: &str) {
    let mut stream = connect(port_of(server, "s"));
    stream
        .write_all(format!("<14>1 - h {name} - - - good\n").as_bytes())
        .unwrap();
    rows(server, "Body", &format!("ServiceName = '{name}'"), 1);
}

#[test]
fn a_message_may_come_byte_by_byte_and_end_with_half_of_the_connection() {
    let server = server();
    let mut stream = connect(port_of(&server, "s"));
    stream.set_nodelay(true).unwrap();
    let counted = b"<14>1 - h counted - - - c";
    let text = [
        b"<14>1 - h slow - - - a\n\n".as_slice(),
        format!("{} ", counted.len()).as_bytes(),
        counted,
        b"<14>1 - h slow - - - b",
    ]
    .concat();
    for byte in text {
        stream.write_all(&[byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    wait_for_end(stream);
    rows(&server, "Body", "ServiceName = 'slow' AND Body IN ('a', 'b')", 2);
    rows(&server, "Body", "ServiceName = 'counted' AND Body = 'c'", 1);
}

#[test]
fn garbage_and_lengths_that_cannot_be_cost_neither_memory_nor_others() {
    let server = server();
    assert_others_are_served(&server, "before");
    let before = server.resident_bytes();
    let mut random = fastrand::Rng::with_seed(0x5eed_0004);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(4 << 20).collect();
    let length = [b"1000000000 <14>".as_slice(), &vec![b'x'; 32 << 20]].concat();
    // Syslog takes anything: what is too long is skipped, the rest are rows.
    for bytes in [&garbage, &length] {
        let mut stream = connect(port_of(&server, "s"));
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        wait_for_end(stream);
    }
    // Forward ends what it cannot understand.
    let endless_map = [b"\xdf\xff\xff\xff\xff".as_slice(), &vec![0xc0; 32 << 20]].concat();
    let nested_maps = vec![0x81; 1 << 20];
    let large_binary = [b"\x92\xa1t\xc6\xff\xff\xff\xff".as_slice(), &vec![0; 1 << 20]].concat();
    let bomb = [b"\x93\xa1t\xc6\x00\x00\x00\x04junk\x81\xaacompressed\xa4gzip".as_slice()].concat();
    for bytes in [
        &endless_map,
        &nested_maps,
        &large_binary,
        &bomb,
        &b"\xc1".to_vec(),
    ] {
        let mut stream = connect(port_of(&server, "f"));
        // It may be ended before all is sent.
        let _ = stream.write_all(bytes);
        wait_for_end(stream);
    }
    let mut stream = connect(port_of(&server, "j"));
    stream.write_all(&garbage).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wait_for_end(stream);
    assert_others_are_served(&server, "after");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "{grown} bytes more");
}

#[test]
fn who_stalls_in_a_message_loses_the_connection_and_holds_up_nobody() {
    let server = server();
    let stalled: Vec<TcpStream> = (0..40)
        .map(|client| {
            let (listener, begin): (&str, &[u8]) = match client % 3 {
                0 => ("s", b"<14>1 - h stalled - - - half of it"),
                1 => ("f", b"\x92\xa1t\xdb\x00\x00\xff\xff"),
                _ => ("j", b"{\"service\":\"stalled\",\"message\":"),
            };
            let mut stream = connect(port_of(&server, listener));
            stream.write_all(begin).unwrap();
            // More than a small buffer holds, so that a larger one is lent.
            stream.write_all(&[b'x'; 20_000]).unwrap();
            stream
        })
        .collect();
    assert_others_are_served(&server, "beside");
    for stream in stalled {
        wait_for_end(stream);
    }
    // What there was of a syslog message is a row.
    rows(
        &server,
        "Body",
        "ServiceName = 'stalled' AND startsWith(Body, 'half of itx')",
        14,
    );
    assert_others_are_served(&server, "behind");
}

#[test]
fn a_chunk_is_acknowledged_once_its_rows_are_inserted_and_a_broken_one_never() {
    let server = server();
    let mut stream = connect(port_of(&server, "f"));
    let record = b"\x81\xa7message\xa3one";
    let entries = [b"\x91\x92\x01".as_slice(), record].concat();
    let message = [b"\x93\xa1t".as_slice(), &entries, b"\x81\xa5chunk\xa2id"].concat();
    stream.write_all(&message).unwrap();
    let mut ack = [0; 8];
    stream.read_exact(&mut ack).unwrap();
    assert_eq!(&ack, b"\x81\xa3ack\xa2id");
    assert_eq!(
        server.sql("SELECT count() FROM otel_logs WHERE Body = 'one'"),
        "1"
    );
    // A message that is none is passed over; a sign of life and the next message are understood.
    stream.write_all(b"\xc0\x07").unwrap();
    stream.write_all(&message).unwrap();
    stream.read_exact(&mut ack).unwrap();
    let metrics = eventually("a rejected row", || {
        let metrics = server.admin("/metrics").unwrap().body;
        metrics.contains("\"messagepack\"} 1").then_some(metrics)
    });
    assert!(metrics.contains("messagepack"));
    // Half a message, and the end: no ack.
    stream.write_all(&message[..message.len() - 1]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert_eq!(
        server.sql("SELECT count() FROM otel_logs WHERE Body = 'one'"),
        "2"
    );
}

#[test]
fn while_the_log_is_full_senders_wait_and_datagrams_stay_in_the_kernel() {
    let listeners =
        ["s=syslog://127.0.0.1:0", "u=syslog-udp://127.0.0.1:0"].map(|listener| ["--listener", listener]);
    let limits =
        ["wal_blocks_max=16", "batch_rows_max=100", "ack_deadline_ms=2000"].map(|limit| ["--limit", limit]);
    let arguments = [
        &["--create-tables", "--ack", "wal"][..],
        listeners.as_flattened(),
        limits.as_flattened(),
    ]
    .concat();
    let server = Server::embedded(&arguments);
    // The table is there from here on.
    let reply = server.post("/ingest?ack=inserted", "{}");
    assert_eq!(reply.status, 200, "{reply:?}");
    // With its engine stopped the log fills.
    let engine = server.engine_pid();
    signal(engine, Signal::STOP);
    eventually("503", || {
        let reply = http("POST", server.port, "/ingest", &[], b"{\"service\":\"filler\"}").unwrap();
        (reply.status == 503 && reply.body.contains("wal_blocks_max")).then_some(())
    });
    let accepted = counter(&server, "ringhouse_rows_accepted_total");
    let received = counter(&server, "ringhouse_received_wire_bytes_total");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in 0..50 {
        let datagram = format!("<14>1 - h udp - - - line {line}");
        udp.send_to(datagram.as_bytes(), ("127.0.0.1", port_of(&server, "u")))
            .unwrap();
    }
    let mut tcp = connect(port_of(&server, "s"));
    let lines: String = (0..5_000)
        .map(|line| format!("<14>1 - h tcp - - - line {line}\n"))
        .collect();
    tcp.write_all(lines.as_bytes()).unwrap();
    eventually("its first bytes to be received", || {
        (counter(&server, "ringhouse_received_wire_bytes_total") > received).then_some(())
    });
    // They fill a buffer, and nothing of them is in a batch.
    assert_eq!(counter(&server, "ringhouse_datagrams_total"), 0);
    assert_eq!(counter(&server, "ringhouse_rows_accepted_total"), accepted);
    signal(engine, Signal::CONT);
    rows(&server, "Body", "ServiceName = 'tcp'", 5_000);
    rows(&server, "Body", "ServiceName = 'udp'", 50);
    assert_eq!(
        server.sql("SELECT uniqExact(Body) FROM otel_logs WHERE ServiceName = 'tcp'"),
        "5000"
    );
    assert_eq!(counter(&server, "ringhouse_datagrams_dropped_total"), 0);
}
