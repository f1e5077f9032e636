//! Producers that post rows with unique numbers, and the account of what they were promised.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::common::{PATIENCE, Server, eventually};

/// Seed of everything random here: `RINGHOUSE_CHAOS_SEED`, or 1.
pub fn seed() -> u64 {
    from_environment("RINGHOUSE_CHAOS_SEED", 1)
}

/// How many times longer than usual the tests try to break things: `RINGHOUSE_CHAOS_SCALE`, or 1.
pub fn scale() -> u64 {
    from_environment("RINGHOUSE_CHAOS_SCALE", 1)
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// A keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// A reply on it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: bool,
    pub closes: bool,
    pub body: String,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE * 2))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    pub fn post(&mut self, target: &str, body: &str) -> io::Result<Answer> {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream
            .get_mut()
            .write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer {
            status: 0,
            retry_after: false,
            closes: false,
            body: String::new(),
        };
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                None => answer.status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(("retry-after", _)) => answer.retry_after = true,
                Some(("connection", "close")) => answer.closes = true,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }
}

/// What producers were promised.
#[derive(Debug, Default)]
pub struct Sent {
    /// Numbers of rows answered 200 at `inserted`.
    pub inserted: Vec<u64>,
    /// Numbers of rows answered 202 at `memory`.
    pub memory: Vec<u64>,
    /// Replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// 503 replies without Retry-After.
    pub without_retry_after: u64,
    /// Connections that ended under a request.
    pub broken: Vec<String>,
}

impl Sent {
    fn add(&mut self, other: Sent) {
        self.inserted.extend(other.inserted);
        self.memory.extend(other.memory);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.without_retry_after += other.without_retry_after;
        self.broken.extend(other.broken);
    }
}

/// Running producers.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    producers: Vec<JoinHandle<Sent>>,
}

/// What the producers post, and where.
#[derive(Clone)]
pub struct Plan {
    /// Path without `?ack=`.
    pub path: String,
    /// Producers at `inserted` and at `memory`.
    pub producers: (u64, u64),
    /// Most rows in one request.
    pub rows_max: u64,
    /// Longest pause between two requests of a producer.
    pub pause_max_ms: u64,
    /// The row with this number, as JSON.
    pub row: fn(u64) -> String,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            path: "/ingest".to_owned(),
            producers: (3, 2),
            rows_max: 40,
            pause_max_ms: 8,
            row: |number| {
                format!(r#"{{"message":"{number}","service":"chaos","level":"info","n":{number}}}"#)
            },
        }
    }
}

impl Load {
    pub fn start(port: u16, plan: &Plan) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let confirmed = Arc::new(AtomicU64::new(0));
        let (inserted, memory) = plan.producers;
        let producers = (0..inserted + memory)
            .map(|index| {
                let (plan, stop) = (plan.clone(), Arc::clone(&stop));
                let level = if index < inserted { "inserted" } else { "memory" };
                let counters = [Arc::clone(&acknowledged), Arc::clone(&confirmed)];
                thread::spawn(move || produce(port, index, level, &plan, &stop, &counters))
            })
            .collect();
        Load {
            stop,
            acknowledged,
            confirmed,
            producers,
        }
    }

    /// Waits until so many more rows were promised at any level.
    pub fn more(&self, rows: u64) {
        more(&self.acknowledged, rows);
    }

    /// Waits until so many more rows were promised at `inserted`.
    pub fn more_inserted(&self, rows: u64) {
        more(&self.confirmed, rows);
    }

    /// Lets every producer finish its request.
    pub fn finish(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::default();
        for producer in self.producers {
            sent.add(producer.join().expect("a producer does not panic"));
        }
        sent
    }
}

fn more(counter: &AtomicU64, rows: u64) {
    let before = counter.load(Ordering::Relaxed);
    eventually("more acknowledged rows", || {
        (counter.load(Ordering::Relaxed) >= before + rows).then_some(())
    });
}

fn produce(
    port: u16,
    index: u64,
    level: &str,
    plan: &Plan,
    stop: &AtomicBool,
    [acknowledged, confirmed]: &[Arc<AtomicU64>; 2],
) -> Sent {
    let mut random = fastrand::Rng::with_seed(seed() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let target = format!("{}?ack={level}", plan.path);
    let mut sent = Sent::default();
    let mut client = None;
    // Numbers are never used twice: what became of a row without an answer is unknown.
    let mut next = index << 40;
    while !stop.load(Ordering::Relaxed) {
        let numbers = next..next + random.u64(1..=plan.rows_max);
        next = numbers.end;
        let body: String = numbers.clone().map(|number| (plan.row)(number) + "\n").collect();
        let mut connected = match client.take() {
            Some(client) => client,
            None => match Client::connect(port) {
                Ok(client) => client,
                Err(error) => {
                    sent.broken.push(format!("cannot connect: {error}"));
                    return sent;
                }
            },
        };
        match connected.post(&target, &body) {
            Ok(answer) => {
                *sent.statuses.entry(answer.status).or_default() += 1;
                match answer.status {
                    200 => sent.inserted.extend(numbers.clone()),
                    202 => sent.memory.extend(numbers.clone()),
                    503 => sent.without_retry_after += u64::from(!answer.retry_after),
                    _ => {}
                }
                if answer.status == 200 {
                    confirmed.fetch_add(numbers.end - numbers.start, Ordering::Relaxed);
                }
                if matches!(answer.status, 200 | 202) {
                    acknowledged.fetch_add(numbers.end - numbers.start, Ordering::Relaxed);
                } else {
                    thread::sleep(Duration::from_millis(20));
                }
                if !answer.closes {
                    client = Some(connected);
                }
            }
            Err(error) => sent.broken.push(error.to_string()),
        }
        thread::sleep(Duration::from_millis(random.u64(0..=plan.pause_max_ms)));
    }
    sent
}

/// The server's ledger of all tables, from `/status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    pub received: u64,
    pub inserted: u64,
    pub rejected: u64,
    pub waiting: u64,
}

pub fn status(server: &Server) -> serde_json::Value {
    let page = server.admin("/status").expect("the admin pages answer");
    serde_json::from_str(&page.body).expect("/status is JSON")
}

pub fn ledger(server: &Server) -> Ledger {
    let status = status(server);
    let entries = status["ledger"].as_array().expect("/status has a ledger");
    let sum = |key: &str| {
        entries
            .iter()
            .map(|entry| entry[key].as_u64().expect("a count"))
            .sum()
    };
    Ledger {
        received: sum("received"),
        inserted: sum("inserted"),
        rejected: sum("rejected"),
        waiting: sum("waiting"),
    }
}

/// Waits until no row waits any more; the ledger then.
pub fn settled(server: &Server) -> Ledger {
    let ledger = eventually("every row's end", || {
        Some(ledger(server)).filter(|ledger| ledger.waiting == 0)
    });
    assert_eq!(ledger.received, ledger.inserted + ledger.rejected, "{ledger:?}");
    ledger
}

/// What a page of the admin listener says: its status and its text.
pub fn readyz(server: &Server) -> (u16, String) {
    let page = server.admin("/readyz").expect("the admin pages answer");
    (page.status, page.body)
}

/// Checks that ClickHouse holds every promised row once, and nothing twice. `query` runs SQL, `number` is the
/// expression of a row's number in `table`.
pub fn assert_exactly_once(
    query: impl Fn(&str) -> String,
    table: &str,
    number: &str,
    sent: &Sent,
    server: &Server,
) {
    let ledger = settled(server);
    let seed = seed();
    let counts = query(&format!("SELECT count(), uniqExact({number}) FROM {table}"));
    let (count, unique) = counts.split_once('\t').expect("two columns");
    assert_eq!(
        count, unique,
        "rows are doubled; seed {seed}, {:?}",
        sent.statuses
    );
    assert_eq!(
        count,
        ledger.inserted.to_string(),
        "the ledger does not agree; seed {seed}"
    );
    let there = query(&format!("SELECT {number} FROM {table}"));
    let there: HashSet<u64> = there
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    for (level, numbers) in [("inserted", &sent.inserted), ("memory", &sent.memory)] {
        let missing = numbers.iter().filter(|number| !there.contains(number)).count();
        assert_eq!(
            missing,
            0,
            "of {} rows acknowledged at {level}; seed {seed}",
            numbers.len()
        );
    }
    assert_eq!(sent.broken, Vec::<String>::new(), "connections broke");
    assert_eq!(sent.without_retry_after, 0, "503 without Retry-After");
    eprintln!(
        "{} rows at inserted, {} at memory, {count} in ClickHouse, replies {:?}",
        sent.inserted.len(),
        sent.memory.len(),
        sent.statuses
    );
}
