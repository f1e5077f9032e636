//! Measures when rows become visible: posts marked rows at fixed times and asks ClickHouse for them until they are there.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::clickhouse::ClickHouse;
use super::id::{PROBE_NUMBER_MIN, RunId};
use super::measured::{Progress, histogram};
use super::reply::{self, Expected, Verdict};
use super::request::Requests;

/// Pause between two questions to ClickHouse. A shorter one would take a noticeable share of its CPUs.
pub const POLL_PAUSE: Duration = Duration::from_millis(20);

/// Time a reply may take.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked, while a reply is awaited, whether the run goes on.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is posted when, and where it is looked for.
#[derive(Debug)]
pub struct ProbePlan {
    /// The server.
    pub address: SocketAddr,
    /// When the load began; nothing is measured before `warm_up`.
    pub origin: Instant,
    /// Time before anything is measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// Time between two rows.
    pub interval: Duration,
    /// What replies must say.
    pub expected: Expected,
    /// Where the rows become visible.
    pub clickhouse: ClickHouse,
    /// SELECT of the probes' ids, to which a condition is added.
    pub select: String,
    /// SQL expression of a row's id.
    pub id_sql: String,
    /// Whose rows they are.
    pub run: RunId,
}

/// What was posted and seen. Times in nanoseconds.
#[derive(Debug, Clone)]
pub struct Probed {
    /// Rows posted.
    pub sent: u64,
    /// Rows acknowledged.
    pub acknowledged: u64,
    /// Scheduled time to the end of the question that saw the row.
    pub visible: Histogram<u64>,
    /// Start of one question to the start of the next, of those asked while a row was awaited: a time may be too
    /// long by as much.
    pub poll: Histogram<u64>,
    /// Rows that were not seen before the questions ended.
    pub unseen: u64,
}

impl Probed {
    /// Nothing was posted.
    pub fn none() -> Probed {
        Probed {
            sent: 0,
            acknowledged: 0,
            visible: histogram(),
            poll: histogram(),
            unseen: 0,
        }
    }
}

/// Rows that are on their way: when each was due, by its id.
type Awaited = Mutex<BTreeMap<String, Instant>>;

/// Posts and asks until the measured time is over and every row was seen, or none is for `patience`.
///
/// # Errors
/// A row was not acknowledged, or ClickHouse does not answer; one sentence.
pub fn run(
    plan: &ProbePlan,
    requests: Requests,
    patience: Duration,
    progress: &Progress,
) -> Result<Probed, String> {
    let (awaited, posting) = (Awaited::default(), AtomicBool::new(true));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(plan, &awaited, &posting, patience, progress));
        let posted = post(plan, requests, &awaited, progress);
        posting.store(false, Ordering::Release);
        let mut probed = asking.join().expect("it does not panic")?;
        (probed.sent, probed.acknowledged) = posted?;
        Ok(probed)
    })
}

fn post(
    plan: &ProbePlan,
    mut requests: Requests,
    awaited: &Awaited,
    progress: &Progress,
) -> Result<(u64, u64), String> {
    let mut stream = connect(plan.address).map_err(|error| format!("the probe cannot connect: {error}"))?;
    let end = plan.origin + plan.warm_up + plan.duration;
    let (mut sent, mut acknowledged) = (0, 0);
    let mut due = plan.origin + plan.warm_up;
    while due < end && !progress.is_stopped() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let number = PROBE_NUMBER_MIN + sent;
        lock(awaited).insert(plan.run.id(number), due);
        sent += 1;
        let ready = requests
            .make(number)
            .map_err(|error| format!("a body cannot be compressed: {error}"))?;
        loop {
            match exchange(&mut stream, ready.bytes, &plan.expected, progress) {
                Ok(Verdict::Taken) => break,
                Ok(Verdict::Refused) if !progress.is_stopped() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(Verdict::Refused) => return Ok((sent, acknowledged)),
                Ok(Verdict::Wrong(said)) => return Err(format!("the probe was answered {said}")),
                Err(_) if progress.is_stopped() => return Ok((sent, acknowledged)),
                Err(error) => return Err(format!("the probe's connection broke: {error}")),
            }
        }
        acknowledged += 1;
        due += plan.interval;
    }
    Ok((sent, acknowledged))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, REPLY_PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK_INTERVAL))?;
    Ok(stream)
}

/// One request, one reply, unless the run is stopped before it comes.
fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    expected: &Expected,
    progress: &Progress,
) -> io::Result<Verdict> {
    let started = Instant::now();
    stream.write_all(request)?;
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match reply::read(&received) {
            Ok(Some(reply)) => return Ok(expected.judge(&reply)),
            Ok(None) => {}
            Err(reply::NotAReply) => return Err(io::ErrorKind::InvalidData.into()),
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => received.extend_from_slice(&piece[..count]),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && started.elapsed() < REPLY_PATIENCE
                    && !progress.is_stopped() => {}
            Err(error) => return Err(error),
        }
    }
}

fn ask(
    plan: &ProbePlan,
    awaited: &Awaited,
    posting: &AtomicBool,
    patience: Duration,
    progress: &Progress,
) -> Result<Probed, String> {
    let mut probed = Probed::none();
    let mut before: Option<Instant> = None;
    let mut seen_at = Instant::now();
    loop {
        // Acquire: pairs with the release after the last row was noted.
        let is_posting = posting.load(Ordering::Acquire);
        let oldest = lock(awaited).keys().next().cloned();
        let Some(oldest) = oldest else {
            if !is_posting {
                return Ok(probed);
            }
            (before, seen_at) = (None, Instant::now());
            std::thread::sleep(POLL_PAUSE);
            continue;
        };
        let started = Instant::now();
        if let Some(before) = before.replace(started) {
            let gap = started - before;
            probed.poll.saturating_record(gap.as_nanos() as u64);
        }
        let sql = format!(
            "{} AND {id} >= '{oldest}' AND startsWith({id}, '{}')",
            plan.select,
            plan.run.prefix(),
            id = plan.id_sql
        );
        let is_over = seen_at.elapsed() > patience || (progress.is_stopped() && !is_posting);
        let rows = match plan.clickhouse.rows::<1>(&sql) {
            Ok(rows) => rows,
            Err(error) if is_over => return Err(error.to_string()),
            // It may come back, and the server holds what it has acknowledged.
            Err(_) => Vec::new(),
        };
        let answered = Instant::now();
        let mut waiting = lock(awaited);
        for [id] in &rows {
            if let Some(due) = waiting.remove(id) {
                seen_at = answered;
                probed
                    .visible
                    .saturating_record((answered - due).as_nanos() as u64);
            }
        }
        let unseen = waiting.len() as u64;
        drop(waiting);
        if seen_at.elapsed() > patience || (progress.is_stopped() && !is_posting) {
            probed.unseen = unseen;
            return Ok(probed);
        }
        std::thread::sleep(POLL_PAUSE.saturating_sub(started.elapsed()));
    }
}

fn lock(awaited: &Awaited) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
    awaited.lock().expect("no holder of this lock panics")
}
