//! What one ingest core takes over HTTP: the real server, a real ClickHouse, real sockets.
//!
//! Claims: rows and requests a second of the ingest core's own CPU time at `ack=memory` and at `ack=wal`, in the same run
//! beside a glommio core that reads the same requests and answers each with a fixed reply: what the sockets alone cost.
//! What `wal` costs beside `memory`, by the core's time and by the clock; what a steady 100,000 rows a second at `wal` take
//! of all the server's threads; how soon a single row is answered. The wall clock is printed too, but on a small
//! machine it measures the load generator, the writer and ClickHouse as well, which share its CPUs. Does not claim:
//! anything of several cores or of a network.
//!
//! Every reply is checked, and after each run ClickHouse must hold as many rows as were accepted.
//!
//! Run with `cargo bench --bench ingest`; `cargo bench --bench ingest -- --test` runs it once on little data.
//! `cargo bench --bench ingest -- --load bulk --seconds 10` (or `--load one`) sends nothing but that load, at `wal` into a
//! Null table, for so long: what flamegraphs/record samples and tuning/README.md compares settings by. `--load single` takes
//! the latency of single rows alone, `--load burst` the time in which many clients that come at once are answered.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Server, eventually};
use ringhouse::bench::kernel::service;
use ringhouse::runtime::{self, Connection, CoreOptions, Listener};
use ringhouse::topology;
use socket2::{Domain, Socket, Type};

/// How much is sent, and how often.
struct Size {
    runs: usize,
    rows: usize,
    requests: usize,
    /// Seconds of the steady load.
    steady_s: u64,
    /// Single rows whose latency is taken.
    singles: usize,
}

/// Requests of one kind.
struct Load {
    name: &'static str,
    ack: &'static str,
    /// Rows of one request.
    rows: usize,
    connections: usize,
    /// Of each connection.
    requests: usize,
    request: Vec<u8>,
}

/// What one run took.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

fn main() {
    // As criterion does: `cargo bench` says `--bench`, `cargo test` says nothing.
    let says = |word: &str| std::env::args().any(|argument| argument == word);
    let test = says("--test") || !says("--bench");
    let size = if test {
        Size {
            runs: 1,
            rows: 32_000,
            requests: 640,
            steady_s: 1,
            singles: 20,
        }
    } else {
        Size {
            runs: 5,
            rows: 1_600_000,
            requests: 128_000,
            steady_s: 10,
            singles: 500,
        }
    };
    let cpus = topology::available();
    if let Some(kind) = word_after("--load") {
        let seconds = word_after("--seconds").map_or(10, |text| text.parse().expect("whole seconds"));
        return hold(&size, cpus[0], &kind, Duration::from_secs(seconds));
    }
    let bare = Bare::start(cpus[0]);
    let server = start(cpus[0]);
    let ingest = eventually("the ingest core's thread", || thread_of(server.pid(), "ingest-0"));
    let idle_kib = memory_kib(server.pid(), "VmRSS");

    let mut sent = 0;
    for table in ["null_logs", "otel_logs"] {
        for [memory, wal] in loads(&size, table) {
            let mut results = [Vec::new(), Vec::new()];
            let mut ratios = [Vec::new(), Vec::new()];
            for _ in 0..size.runs {
                let bare = measure(bare.thread, || memory.run(bare.port, None));
                for (load, (times, ratios)) in [&memory, &wal]
                    .into_iter()
                    .zip(results.iter_mut().zip(&mut ratios))
                {
                    let wanted = inserted(&server) + load.rows_sent() as u64;
                    let ours = measure(ingest, || load.run(server.port, Some(load.rows)));
                    eventually("the rows in ClickHouse", || {
                        (inserted(&server) == wanted).then_some(())
                    });
                    ratios.push(ours.cpu.as_secs_f64() / bare.cpu.as_secs_f64());
                    times.push(ours);
                    if table == "otel_logs" {
                        sent += load.rows_sent();
                    }
                }
            }
            memory.report(table, &results[0], median(ratios[0].clone()));
            wal.report(table, &results[1], median(ratios[1].clone()));
            report_cost(memory.name, table, &results);
        }
    }
    steady(&server, size.steady_s);
    single_rows(&server, size.singles);
    let stored: usize = server
        .sql("SELECT count() FROM otel_logs")
        .parse()
        .expect("a number");
    assert_eq!(stored, sent + 1, "every row is in its table once");
    println!(
        "memory of the server: {:.1} MiB idle, {:.1} MiB at most",
        idle_kib as f64 / 1024.0,
        memory_kib(server.pid(), "VmHWM") as f64 / 1024.0
    );
}

/// A server with one ingest core on `cpu` and the tables `otel_logs` and `null_logs`, which hold one row each.
fn start(cpu: usize) -> Server {
    // The comma makes it a list of one CPU, not a count.
    let server = Server::embedded(&[&format!("--ingest-cores={cpu},"), "--ack", "memory"]);
    // The server learns of a table by itself; the row that asks for it is one of its rows.
    let probe = |table: &str| {
        let target = format!("/ingest/{table}?ack=inserted");
        eventually(table, || (server.post(&target, "{}").status == 200).then_some(()));
    };
    probe("otel_logs");
    server.sql("CREATE TABLE null_logs ENGINE = Null AS SELECT * FROM otel_logs LIMIT 0");
    probe("null_logs");
    server
}

/// One load at `wal` for a time, over connections that are opened anew about once a second; or single rows.
fn hold(size: &Size, cpu: usize, kind: &str, time: Duration) {
    let [[_, bulk], [_, one]] = loads(size, "null_logs");
    let server = start(cpu);
    let load = match kind {
        "bulk" => bulk,
        "one" => one,
        "single" => return single_rows(&server, size.singles),
        "burst" => return burst(&server),
        other => panic!("--load is bulk, one, single or burst, not {other}"),
    };
    let ingest = eventually("the ingest core's thread", || thread_of(server.pid(), "ingest-0"));
    let before = inserted(&server);
    // Whoever samples the server waits for this line.
    println!("loading process {} for {} s", server.pid(), time.as_secs());
    let started = Instant::now();
    let mut runs = 0;
    let took = measure(ingest, || {
        while started.elapsed() < time {
            load.run(server.port, Some(load.rows));
            runs += 1;
        }
    });
    let rows = (runs * load.rows_sent()) as u64;
    eventually("the rows in ClickHouse", || {
        (inserted(&server) == before + rows).then_some(())
    });
    println!(
        "{} at wal: {:.0} rows/s of core time, {:.0} rows/s by the clock, {:.1} MiB resident, {:.1} MiB at most",
        load.name,
        rows as f64 / took.cpu.as_secs_f64(),
        rows as f64 / took.wall.as_secs_f64(),
        memory_kib(server.pid(), "VmRSS") as f64 / 1024.0,
        memory_kib(server.pid(), "VmHWM") as f64 / 1024.0,
    );
}

/// The argument behind this one.
fn word_after(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)
}

/// What `wal` gives of what `memory` gives, run by run.
fn report_cost(name: &str, table: &str, [memory, wal]: &[Vec<Took>; 2]) {
    let ratio = |of: fn(&Took) -> Duration| {
        let pairs = memory.iter().zip(wal);
        median(
            pairs
                .map(|(memory, wal)| of(memory).as_secs_f64() / of(wal).as_secs_f64())
                .collect(),
        )
    };
    println!(
        "{name} into {table}: wal gives {:.2} of memory by core time, {:.2} by the clock",
        ratio(|took| took.cpu),
        ratio(|took| took.wall),
    );
}

/// 100,000 rows a second in requests of 8,192 rows, each due at its time, over one connection at `wal`.
fn steady(server: &Server, seconds: u64) {
    const ROWS: usize = 8192;
    const ROWS_A_SECOND: u64 = 100_000;
    let load = Load {
        name: "steady",
        ack: "wal",
        rows: ROWS,
        connections: 1,
        requests: 1,
        request: request("null_logs", "wal", &service(ROWS as u64).text),
    };
    let mut stream = connect(server.port);
    let mut reply = [0; 4096];
    let interval = Duration::from_nanos(ROWS as u64 * 1_000_000_000 / ROWS_A_SECOND);
    let requests = (seconds * ROWS_A_SECOND).div_ceil(ROWS as u64);
    let expected = format!("{{\"accepted\":{ROWS},");
    let wanted = inserted(server) + requests * ROWS as u64;
    let (started, before) = (Instant::now(), process_time(server.pid()));
    for number in 0..requests as u32 {
        thread::sleep((started + interval * number).saturating_duration_since(Instant::now()));
        stream.write_all(&load.request).expect("the server reads");
        load.read_reply(&mut stream, &mut reply, Some(&expected));
    }
    thread::sleep((started + interval * requests as u32).saturating_duration_since(Instant::now()));
    let (took, wall) = (process_time(server.pid()) - before, started.elapsed());
    eventually("the rows in ClickHouse", || {
        (inserted(server) == wanted).then_some(())
    });
    println!(
        "a steady {:.0} rows/s at wal, {ROWS} a request: {:.1} % of one core, all threads of the server together, over {:.1} s",
        requests as f64 * ROWS as f64 / wall.as_secs_f64(),
        took.as_secs_f64() / wall.as_secs_f64() * 100.0,
        wall.as_secs_f64(),
    );
}

/// One row a request, one after the other, over one connection: an idle server's latency.
fn single_rows(server: &Server, count: usize) {
    for ack in ["memory", "wal"] {
        let load = Load {
            name: "single rows",
            ack,
            rows: 1,
            connections: 1,
            requests: count,
            request: request("null_logs", ack, &service(1).text),
        };
        let mut stream = connect(server.port);
        let mut reply = [0; 4096];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            thread::sleep(Duration::from_millis(5));
            let started = Instant::now();
            stream.write_all(&load.request).expect("the server reads");
            load.read_reply(&mut stream, &mut reply, Some("{\"accepted\":1,"));
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!(
            "one row every 5 ms at {ack}: answered in {:.2} ms at the median, {:.2} ms at p99 of {count}",
            times[count / 2],
            times[count * 99 / 100],
        );
    }
}

/// Clients that connect at the same moment, as after a network was away, each with one row.
fn burst(server: &Server) {
    const CLIENTS: usize = 3000;
    let request = request("null_logs", "memory", &service(1).text);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port)).into();
    let started = Instant::now();
    let sockets: Vec<Socket> = (0..CLIENTS)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
            socket.set_nonblocking(true).expect("a socket");
            // It goes on by itself; what is sent waits for it.
            let _ = socket.connect(&address);
            socket
        })
        .collect();
    let mut streams: Vec<TcpStream> = sockets.into_iter().map(TcpStream::from).collect();
    for stream in &mut streams {
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
        stream.write_all(&request).expect("the server reads");
    }
    let mut reply = [0; 4096];
    for stream in &mut streams {
        let length = stream.read(&mut reply).expect("the server answers");
        assert!(reply[..length].starts_with(b"HTTP/1.1 202"), "{reply:?}");
    }
    println!(
        "{CLIENTS} clients at once: {:.3} s until all were answered",
        started.elapsed().as_secs_f64()
    );
}

impl Load {
    fn rows_sent(&self) -> usize {
        self.rows * self.connections * self.requests
    }

    /// Sends everything over connections that stay open, each waiting for its reply before it sends again.
    /// `accepted` is what every reply must say, if the server says it.
    fn run(&self, port: u16, accepted: Option<usize>) {
        let expected = accepted.map(|rows| format!("{{\"accepted\":{rows},\"rejected\":0,"));
        let mut streams: Vec<TcpStream> = (0..self.connections).map(|_| connect(port)).collect();
        // Two threads, so that the server has work while one of them reads.
        let (left, right) = streams.split_at_mut(self.connections / 2);
        thread::scope(|scope| {
            for streams in [left, right] {
                scope.spawn(|| self.rounds(streams, expected.as_deref()));
            }
        });
    }

    fn rounds(&self, streams: &mut [TcpStream], expected: Option<&str>) {
        // Off the ingest core, as far as there is another CPU; without it the figures only spread more.
        if let Some(cpu) = topology::available().last() {
            let _ = topology::pin_current_thread(*cpu);
        }
        let mut reply = [0; 4096];
        for _ in 0..self.requests {
            for stream in &mut *streams {
                stream.write_all(&self.request).expect("the server reads");
            }
            for stream in &mut *streams {
                self.read_reply(stream, &mut reply, expected);
            }
        }
    }

    fn read_reply(&self, stream: &mut TcpStream, reply: &mut [u8], expected: Option<&str>) {
        loop {
            // A reply is far smaller than a segment, and one is awaited at a time.
            let length = stream.read(reply).expect("the server answers");
            let text = std::str::from_utf8(&reply[..length]).expect("ASCII");
            if !text.starts_with("HTTP/1.1 503") {
                let status = if self.ack == "memory" { 202 } else { 200 };
                assert!(
                    text.starts_with(&format!("HTTP/1.1 {status}")) || expected.is_none(),
                    "{text}"
                );
                assert!(expected.is_none_or(|expected| text.contains(expected)), "{text}");
                return;
            }
            // ClickHouse is slower than the core: nothing of the request was taken.
            assert!(text.contains("{\"error\":"), "{text}");
            thread::sleep(Duration::from_millis(20));
            stream.write_all(&self.request).expect("the server reads");
        }
    }

    fn report(&self, table: &str, times: &[Took], ratio: f64) {
        let requests = (self.connections * self.requests) as f64;
        let rate = |seconds: f64| match self.rows {
            1 => format!("{:.0} requests/s", requests / seconds),
            rows => format!(
                "{:.0} rows/s, {:.0} MB/s",
                requests * rows as f64 / seconds,
                requests * self.request.len() as f64 / seconds / 1e6
            ),
        };
        let cpu = median(times.iter().map(|took| took.cpu.as_secs_f64()).collect());
        let wall = median(times.iter().map(|took| took.wall.as_secs_f64()).collect());
        println!(
            "{} at {} into {table}: {} of core time ({} by the clock), {ratio:.2} times the core time of the bare responder; \
             median of {} runs of {requests} requests",
            self.name,
            self.ack,
            rate(cpu),
            rate(wall),
            times.len(),
        );
    }
}

/// Each at both ack levels.
fn loads(size: &Size, table: &str) -> [[Load; 2]; 2] {
    let load = |name, rows: usize, connections, requests| {
        ["memory", "wal"].map(|ack| Load {
            name,
            ack,
            rows,
            connections,
            requests,
            request: request(table, ack, &service(rows as u64).text),
        })
    };
    [
        load(
            "1,000 logs a request, 32 connections",
            1000,
            32,
            size.rows / 32_000,
        ),
        load("one log a request, 64 connections", 1, 64, size.requests / 64),
    ]
}

fn request(table: &str, ack: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /ingest/{table}?ack={ack} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn connect(port: u16) -> TcpStream {
    let stream =
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Rows ClickHouse has confirmed, of all tables.
fn inserted(server: &Server) -> u64 {
    let page = server.admin("/metrics").expect("the admin pages answer").body;
    let rows = page
        .lines()
        .filter(|line| line.starts_with("ringhouse_ledger_inserted_rows"));
    rows.map(|line| {
        line.rsplit(' ')
            .next()
            .and_then(|value| value.parse::<u64>().ok())
            .expect("a number")
    })
    .sum()
}

/// A process id and a thread id.
#[derive(Clone, Copy)]
struct ThreadId(u32, u32);

/// The thread of a process whose name starts like this.
fn thread_of(process: u32, start: &str) -> Option<ThreadId> {
    let has_name = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(start))
    };
    let task = fs::read_dir(format!("/proc/{process}/task"))
        .ok()?
        .flatten()
        .find(has_name)?;
    Some(ThreadId(process, task.file_name().to_str()?.parse().ok()?))
}

/// Time the thread has had a CPU.
fn cpu_time(ThreadId(process, thread): ThreadId) -> Duration {
    let text =
        fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).expect("the thread runs");
    Duration::from_nanos(
        text.split(' ')
            .next()
            .and_then(|ns| ns.parse().ok())
            .expect("a number"),
    )
}

/// CPU time of all threads of a process.
fn process_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the server runs");
    tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .map(|thread| cpu_time(ThreadId(process, thread)))
        .sum()
}

fn measure(thread: ThreadId, work: impl FnOnce()) -> Took {
    let (started, before) = (Instant::now(), cpu_time(thread));
    work();
    Took {
        wall: started.elapsed(),
        cpu: cpu_time(thread) - before,
    }
}

/// A line of /proc/PID/status, in KiB.
fn memory_kib(process: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("the server runs");
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .expect("Linux tells");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A glommio core that reads whole requests and answers each with the same bytes.
struct Bare {
    port: u16,
    thread: ThreadId,
}

const BARE_REPLY: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

impl Bare {
    fn start(cpu: usize) -> Bare {
        let listener =
            runtime::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1024).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let options = CoreOptions {
            cpu: Some(cpu),
            spin_before_park: Duration::ZERO,
        };
        // It ends with the process.
        runtime::spawn_core("bare", options, move || async move {
            let listener = Listener::from_std(listener);
            while let Ok(connection) = listener.accept().await {
                runtime::spawn(answer(connection));
            }
        })
        .expect("io_uring works here");
        let thread = eventually("the bare core's thread", || thread_of(std::process::id(), "bare"));
        Bare { port, thread }
    }
}

/// Reads requests that are awaited one at a time, into a buffer as large as the server's.
async fn answer(mut connection: Connection) {
    let mut buffer = vec![0; 128 * 1024];
    let mut left = 0;
    loop {
        let received = match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(received) => received,
        };
        left = match left {
            0 => message_bytes(&buffer[..received]).expect("a head comes in one piece") - received,
            left => left - received,
        };
        if left == 0 && connection.write_all(BARE_REPLY).await.is_err() {
            return;
        }
    }
}

/// Bytes of the request that starts here, by its Content-Length, which stands last in its head.
fn message_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let digits = bytes[..head].rsplit(|byte| *byte == b' ').next()?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(head + 4 + length)
}
