//! Producers that post rows with unique numbers, and the account of what they were promised.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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
        self.post_with(target, "", body)
    }

    /// `headers` are whole lines.
    fn post_with(&mut self, target: &str, headers: &str, body: &str) -> io::Result<Answer> {
        self.stream.get_mut().write_all(&request(target, headers, body))?;
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

fn request(target: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// How safe a row is when its request is answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Memory,
    Wal,
    Inserted,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Memory, Level::Wal, Level::Inserted];

    pub fn name(self) -> &'static str {
        match self {
            Level::Memory => "memory",
            Level::Wal => "wal",
            Level::Inserted => "inserted",
        }
    }
}

/// What producers were promised.
#[derive(Debug, Default)]
pub struct Sent {
    /// Numbers of rows answered 200 at `inserted`.
    pub inserted: Vec<u64>,
    /// Numbers of rows answered 200 at `wal`.
    pub wal: Vec<u64>,
    /// Numbers of rows answered 202 at `memory`.
    pub memory: Vec<u64>,
    /// Rows posted in tries that ended without a promise of `wal` or `inserted`; those tried twice count twice.
    pub unpromised: u64,
    /// One past the highest number each producer has posted.
    pub ends: Vec<u64>,
    /// Replies by status.
    pub statuses: BTreeMap<u16, u64>,
    /// 503 replies without Retry-After.
    pub without_retry_after: u64,
    /// Connections that ended under a request.
    pub broken: Vec<String>,
    /// Requests with an idempotency key that nothing but failures came back to.
    pub given_up: Vec<String>,
}

impl Sent {
    pub fn at(&self, level: Level) -> &Vec<u64> {
        match level {
            Level::Memory => &self.memory,
            Level::Wal => &self.wal,
            Level::Inserted => &self.inserted,
        }
    }

    fn promise(&mut self, level: Level, numbers: Range<u64>) {
        match level {
            Level::Memory => self.memory.extend(numbers),
            Level::Wal => self.wal.extend(numbers),
            Level::Inserted => self.inserted.extend(numbers),
        }
    }

    pub fn add(&mut self, other: Sent) {
        self.inserted.extend(other.inserted);
        self.wal.extend(other.wal);
        self.memory.extend(other.memory);
        self.unpromised += other.unpromised;
        self.ends.extend(other.ends);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.without_retry_after += other.without_retry_after;
        self.broken.extend(other.broken);
        self.given_up.extend(other.given_up);
    }
}

/// One producer's ways.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    pub level: Level,
    /// Its requests have an `Idempotency-Key` and are sent again and again until success is their answer.
    pub keyed: bool,
    /// Most rows in one request.
    pub rows_max: u64,
}

/// So many producers at `inserted` and at `memory`.
pub fn producers(inserted: usize, memory: usize, rows_max: u64) -> Vec<Producer> {
    let of = |level| Producer {
        level,
        keyed: false,
        rows_max,
    };
    let mut producers = vec![of(Level::Inserted); inserted];
    producers.resize(inserted + memory, of(Level::Memory));
    producers
}

/// What the producers post, and where.
#[derive(Clone)]
pub struct Plan {
    /// Path without `?ack=`.
    pub path: String,
    pub producers: Vec<Producer>,
    /// Number of the first producer. Its rows have numbers from `number << 40` on.
    pub producer_first: u64,
    /// Longest pause between two requests of a producer.
    pub pause_max_ms: u64,
    /// The row with this number, as JSON.
    pub row: fn(u64) -> String,
    /// The server is killed and started again on the same port: what cannot connect tries again. Otherwise a producer
    /// that cannot connect ends.
    pub reconnects: bool,
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            path: "/ingest".to_owned(),
            producers: producers(3, 2, 40),
            producer_first: 0,
            pause_max_ms: 8,
            row: |number| {
                format!(r#"{{"message":"{number}","service":"chaos","level":"info","n":{number}}}"#)
            },
            reconnects: false,
            seed: seed(),
        }
    }
}

/// What the producers tell while they run. Each counter is meaningful alone: relaxed is enough.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    /// Rows promised, by level.
    promised: [AtomicU64; 3],
    /// Replies of 503.
    refusals: AtomicU64,
}

/// Running producers. They end when this is dropped.
pub struct Load {
    progress: Arc<Progress>,
    producers: Vec<JoinHandle<Sent>>,
}

impl Load {
    pub fn start(port: u16, plan: &Plan) -> Load {
        let progress = Arc::new(Progress::default());
        let producers = plan.producers.iter().zip(plan.producer_first..);
        let producers = producers
            .map(|(producer, index)| {
                let posting = Posting {
                    port,
                    producer: *producer,
                    plan: plan.clone(),
                    progress: Arc::clone(&progress),
                    random: fastrand::Rng::with_seed(plan.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    client: None,
                    sent: Sent::default(),
                };
                thread::spawn(move || posting.run(index << 40))
            })
            .collect();
        Load { progress, producers }
    }

    /// Waits until so many more rows were promised at any level.
    pub fn more(&self, rows: u64) {
        let promised = || {
            let counters = self.progress.promised.iter();
            counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        more("more acknowledged rows", rows, promised);
    }

    /// Waits until so many more rows were promised at `level`.
    pub fn more_at(&self, level: Level, rows: u64) {
        let counter = &self.progress.promised[level as usize];
        let what = format!("more rows acknowledged at {}", level.name());
        more(&what, rows, || counter.load(Ordering::Relaxed));
    }

    /// Waits until so many more rows were promised at `inserted`.
    pub fn more_inserted(&self, rows: u64) {
        self.more_at(Level::Inserted, rows);
    }

    /// Waits until so many more requests were answered 503.
    pub fn more_refusals(&self, requests: u64) {
        more("more 503", requests, || {
            self.progress.refusals.load(Ordering::Relaxed)
        });
    }

    /// Lets every producer finish its request.
    pub fn finish(mut self) -> Sent {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::default();
        for producer in self.producers.drain(..) {
            sent.add(producer.join().expect("a producer does not panic"));
        }
        sent
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

fn more(what: &str, amount: u64, count: impl Fn() -> u64) {
    let before = count();
    eventually(what, || (count() >= before + amount).then_some(()));
}

/// Pause after what was no success.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// One in so many requests with an idempotency key is left by its client: half sent, or sent and not listened to.
const HANG_UP_ONE_IN: u8 = 16;

/// A producer's thread.
struct Posting {
    port: u16,
    producer: Producer,
    plan: Plan,
    progress: Arc<Progress>,
    random: fastrand::Rng,
    client: Option<Client>,
    sent: Sent,
}

/// What came of one try.
enum Tried {
    Answered(Answer),
    /// The connection ended, or the client has left it.
    Broken(String),
    CannotConnect(String),
}

impl Posting {
    fn run(mut self, first: u64) -> Sent {
        let target = format!("{}?ack={}", self.plan.path, self.producer.level.name());
        // Numbers are never used twice: what became of a row without an answer is unknown.
        let mut next = first;
        while !self.is_stopping() {
            let numbers = next..next + self.random.u64(1..=self.producer.rows_max);
            next = numbers.end;
            let body: String = numbers
                .clone()
                .map(|number| (self.plan.row)(number) + "\n")
                .collect();
            let goes_on = if self.producer.keyed {
                self.post_until_success(&target, &numbers, &body)
            } else {
                let tried = self.post(&target, "", &body);
                let could_connect = !matches!(tried, Tried::CannotConnect(_));
                self.note(tried, &numbers);
                could_connect || self.plan.reconnects
            };
            if !goes_on {
                break;
            }
            thread::sleep(Duration::from_millis(self.random.u64(0..=self.plan.pause_max_ms)));
        }
        self.sent.ends.push(next);
        self.sent
    }

    fn is_stopping(&self) -> bool {
        self.progress.stop.load(Ordering::Relaxed)
    }

    /// Sends the same body with the same key until its rows are promised. Gives up some time after it should have ended.
    fn post_until_success(&mut self, target: &str, numbers: &Range<u64>, body: &str) -> bool {
        let key = format!("Idempotency-Key: {:x}-{:x}\r\n", self.plan.seed, numbers.start);
        let mut stopping_since = None;
        loop {
            let tried = if self.random.u8(0..HANG_UP_ONE_IN) == 0 {
                self.hang_up(target, &key, body)
            } else {
                self.post(target, &key, body)
            };
            let why = match &tried {
                Tried::Answered(answer) => format!("{answer:?}"),
                Tried::Broken(error) | Tried::CannotConnect(error) => error.clone(),
            };
            if self.note(tried, numbers) {
                return true;
            }
            if self.is_stopping() && stopping_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                self.sent.given_up.push(format!("{key:?}: {why}"));
                return false;
            }
        }
    }

    fn post(&mut self, target: &str, headers: &str, body: &str) -> Tried {
        let mut client = match self.connected() {
            Ok(client) => client,
            Err(cannot) => return cannot,
        };
        match client.post_with(target, headers, body) {
            Ok(answer) => {
                if !answer.closes {
                    self.client = Some(client);
                }
                Tried::Answered(answer)
            }
            Err(error) => Tried::Broken(error.to_string()),
        }
    }

    /// Sends a request, or half of it, and closes the connection.
    fn hang_up(&mut self, target: &str, headers: &str, body: &str) -> Tried {
        let mut client = match self.connected() {
            Ok(client) => client,
            Err(cannot) => return cannot,
        };
        let request = request(target, headers, body);
        let part = if self.random.bool() {
            request.len()
        } else {
            self.random.usize(0..request.len())
        };
        let _ = client.stream.get_mut().write_all(&request[..part]);
        Tried::Broken("the client hung up".to_owned())
    }

    fn connected(&mut self) -> Result<Client, Tried> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => Client::connect(self.port)
                .map_err(|error| Tried::CannotConnect(format!("cannot connect: {error}"))),
        }
    }

    /// Writes down what came of a try. Whether it was a promise.
    fn note(&mut self, tried: Tried, numbers: &Range<u64>) -> bool {
        let rows = numbers.end - numbers.start;
        let promised = match tried {
            Tried::Answered(answer) => {
                *self.sent.statuses.entry(answer.status).or_default() += 1;
                if answer.status == 503 {
                    self.sent.without_retry_after += u64::from(!answer.retry_after);
                    self.progress.refusals.fetch_add(1, Ordering::Relaxed);
                }
                match answer.status {
                    200 => Some(self.producer.level),
                    202 => Some(Level::Memory),
                    _ => None,
                }
            }
            Tried::Broken(error) | Tried::CannotConnect(error) => {
                self.sent.broken.push(error);
                None
            }
        };
        if let Some(level) = promised {
            self.sent.promise(level, numbers.clone());
            self.progress.promised[level as usize].fetch_add(rows, Ordering::Relaxed);
        } else {
            thread::sleep(ERROR_PAUSE);
        }
        if matches!(promised, None | Some(Level::Memory)) {
            self.sent.unpromised += rows;
        }
        promised.is_some()
    }
}

/// The server's ledger of all tables, from `/status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    pub received: u64,
    pub inserted: u64,
    pub rejected: u64,
    pub dead_lettered: u64,
    pub waiting: u64,
    pub lost: u64,
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
        dead_lettered: sum("dead_lettered"),
        waiting: sum("waiting"),
        lost: sum("lost"),
    }
}

/// Waits until no row waits any more; the ledger then.
pub fn settled(server: &Server) -> Ledger {
    let ledger = eventually("every row's end", || {
        Some(ledger(server)).filter(|ledger| ledger.waiting == 0)
    });
    let ended = ledger.inserted + ledger.rejected + ledger.dead_lettered + ledger.lost;
    assert_eq!(ledger.received, ended, "{ledger:?}");
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
    assert_eq!((ledger.dead_lettered, ledger.lost), (0, 0), "{ledger:?}");
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
    for (level, numbers) in [
        ("inserted", &sent.inserted),
        ("wal", &sent.wal),
        ("memory", &sent.memory),
    ] {
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
        "{} rows at inserted, {} at wal, {} at memory, {count} in ClickHouse, replies {:?}",
        sent.inserted.len(),
        sent.wal.len(),
        sent.memory.len(),
        sent.statuses
    );
}
