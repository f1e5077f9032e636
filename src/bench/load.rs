//! Sends requests over many connections from few pinned threads, and reads every reply.
//!
//! Each thread has an epoll of its own and non-blocking sockets, a socket's buffer being written in one call: a bare
//! responder on one core answered 131,000 to 164,000 single-row requests a second over epoll and 102,000 over glommio
//! (64 connections), and whoever measures a server must be faster than it.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::ingest::BenchError;
use super::link::{self, Flight, Link, Settled};
use super::measured::{Measured, Progress};
use super::process;
use super::reply::{Expected, Verdict};
use super::request::{RequestPlan, Requests};
use super::rows::Rows;
use super::schedule::{Schedule, Share};
use crate::topology;

/// Pause before a request that was refused is sent again, in nanoseconds.
const RETRY_PAUSE_NS: u64 = 20_000_000;

/// Longest sleep, in nanoseconds, so that a thread sees in time that it is to stop.
const SLEEP_MAX_NS: u64 = 50_000_000;

/// Time without any reply after which those that are still awaited count as missing.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);

/// Times that one request is refused at most: a minute of nothing else.
const REFUSALS_MAX: u32 = 3_000;

/// Rows of one thread; none sends more.
const NUMBERS_PER_THREAD: u64 = 1_000_000_000_000;

/// What a run sends, when and where.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The server.
    pub address: SocketAddr,
    /// When requests are due.
    pub schedule: Schedule,
    /// Connections of all threads together.
    pub connections: usize,
    /// Requests in flight on one connection at most.
    pub pipeline: usize,
    /// Rows of a request.
    pub rows: u64,
    /// Time before anything is measured.
    pub warm_up: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// What replies must say.
    pub expected: Expected,
}

/// What one thread sends, and where.
pub struct Part {
    plan: RequestPlan,
    requests: Requests,
    streams: Vec<TcpStream>,
}

/// Makes the requests and connections of so many threads.
///
/// # Errors
/// The server does not take the connections, or there is no compressor.
pub fn prepare(
    plan: &LoadPlan,
    threads: usize,
    requests: &RequestPlan,
    rows: &Rows,
) -> Result<Vec<Part>, BenchError> {
    let of_thread = |thread: usize| {
        // Each has rows of its own: bodies are changed where they are when they are sent.
        let mut rows = rows.of_thread(thread as u64);
        Ok(Part {
            plan: requests.clone(),
            requests: Requests::new(requests, &mut rows).map_err(BenchError::System)?,
            streams: connect(plan, thread, threads)
                .map_err(|error| BenchError::Connect(plan.address.to_string(), error))?,
        })
    };
    (0..threads).map(of_thread).collect()
}

fn connect(plan: &LoadPlan, thread: usize, threads: usize) -> io::Result<Vec<TcpStream>> {
    let count = plan.connections / threads + usize::from(thread < plan.connections % threads);
    (0..count).map(|_| link::connect(plan.address)).collect()
}

/// A thread that sends.
pub type Sending<'scope> = ScopedJoinHandle<'scope, Measured>;

/// Starts a thread for each part, on the CPU of the same place where there is one. `origin` is when the run begins.
///
/// # Errors
/// The system gives no thread.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    plan: &'scope LoadPlan,
    cpus: &[Option<usize>],
    parts: Vec<Part>,
    origin: Instant,
    progress: &'scope Progress,
) -> io::Result<Vec<Sending<'scope>>> {
    let threads = parts.len();
    let start_one = |(thread, part): (usize, Part)| {
        let cpu = cpus[thread];
        std::thread::Builder::new()
            .name(format!("load-{thread}"))
            .spawn_scoped(scope, move || {
                run(plan, (thread, threads), cpu, part, origin, progress)
            })
    };
    parts.into_iter().enumerate().map(start_one).collect()
}

/// What the threads have measured together, once they have ended.
///
/// # Panics
/// When one of them did.
pub fn join(senders: Vec<Sending<'_>>) -> Measured {
    let mut measured = Measured::new();
    for sender in senders {
        measured.add(&sender.join().expect("a sender does not panic"));
    }
    measured
}

/// The body of thread `thread` of `threads`: sends until the time is over and every reply is there, or until it is
/// stopped. `cpu` is where it runs, `origin` when the run began.
fn run(
    plan: &LoadPlan,
    (thread, threads): (usize, usize),
    cpu: Option<usize>,
    part: Part,
    origin: Instant,
    progress: &Progress,
) -> Measured {
    if let Some(cpu) = cpu {
        // Without it the figures spread more; that is no reason not to measure.
        let _ = topology::pin_current_thread(cpu);
    }
    let mut sender = match Sender::new(plan, (thread, threads), part, origin, progress) {
        Ok(sender) => sender,
        Err(error) => {
            progress.fail(format!("no epoll for the load: {error}"));
            return Measured::new();
        }
    };
    sender.run();
    sender.measured.time = process::thread_time();
    sender.measured
}

/// A connection, and what holds places on it.
struct Seat {
    link: Link,
    /// Requests that were refused and hold their places until they are sent again.
    waiting: usize,
    /// It is among those that can take a request.
    is_free: bool,
    /// Epoll tells when it can be written to.
    is_watched_to_write: bool,
}

struct Sender<'a> {
    plan: &'a LoadPlan,
    progress: &'a Progress,
    origin: Instant,
    epoll: rustix::fd::OwnedFd,
    timer: rustix::fd::OwnedFd,
    seats: Vec<Seat>,
    requests: Requests,
    share: Share,
    next_number: u64,
    /// Connections that can take a request, each once.
    free: VecDeque<usize>,
    /// Refused requests, their connections, and when they are sent again; the earliest first.
    retries: VecDeque<(u64, usize, Flight)>,
    in_flight: usize,
    end_ns: u64,
    heard: Instant,
    scratch: Box<[u8]>,
    settled: Settled,
    measured: Measured,
}

/// What the timer is known by; connections are known by their index.
const TIMER: u64 = u64::MAX;

impl<'a> Sender<'a> {
    fn new(
        plan: &'a LoadPlan,
        (thread, threads): (usize, usize),
        part: Part,
        origin: Instant,
        progress: &'a Progress,
    ) -> io::Result<Sender<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // epoll_wait alone counts in milliseconds, a schedule in microseconds.
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        let mut seats = Vec::with_capacity(part.streams.len());
        for (index, stream) in part.streams.into_iter().enumerate() {
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            seats.push(Seat {
                link: Link::new(stream, plan.address, &part.plan, &plan.expected)?,
                waiting: 0,
                is_free: true,
                is_watched_to_write: false,
            });
        }
        Ok(Sender {
            plan,
            progress,
            origin,
            epoll,
            timer,
            free: (0..seats.len()).collect(),
            seats,
            requests: part.requests,
            share: Share::new(plan.schedule, thread, threads),
            next_number: thread as u64 * NUMBERS_PER_THREAD,
            retries: VecDeque::new(),
            in_flight: 0,
            end_ns: (plan.warm_up + plan.duration).as_nanos() as u64,
            heard: Instant::now(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            settled: Settled::new(),
            measured: Measured::new(),
        })
    }

    fn run(&mut self) {
        if let Err(failure) = self.turns() {
            self.progress.fail(failure);
        }
    }

    fn turns(&mut self) -> Result<(), String> {
        let mut events = Vec::with_capacity(256);
        while !self.progress.is_stopped() {
            let wake_ns = self.send_what_is_due()?;
            if self.in_flight == 0 && self.retries.is_empty() && wake_ns >= self.end_ns {
                return Ok(());
            }
            self.wait(wake_ns, &mut events)
                .map_err(|e| format!("epoll: {e}"))?;
            for event in &events {
                let event: &epoll::Event = event;
                let (flags, data) = (event.flags, event.data);
                match data.u64() {
                    TIMER => {
                        let mut expirations = [0; 8];
                        // It may have been set anew since it rang.
                        let _ = rustix::io::read(&self.timer, &mut expirations);
                    }
                    index => self.serve(index as usize, flags)?,
                }
            }
            if self.in_flight > 0 && self.heard.elapsed() > REPLY_PATIENCE {
                return Err(format!(
                    "{} requests of a thread were not answered within {} s",
                    self.in_flight,
                    REPLY_PATIENCE.as_secs()
                ));
            }
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Sends all that is due as far as connections are free. Returns when there is more to send, in nanoseconds since the
    /// start; beyond the end when there is not.
    fn send_what_is_due(&mut self) -> Result<u64, String> {
        loop {
            let now_ns = self.now_ns();
            if let Some((at_ns, index, flight)) = self.retries.front().copied()
                && at_ns <= now_ns
            {
                self.retries.pop_front();
                self.seats[index].waiting -= 1;
                self.send(index, flight)?;
                continue;
            }
            let retry_ns = self.retries.front().map_or(u64::MAX, |(at_ns, ..)| *at_ns);
            let due_ns = self.share.due_ns(now_ns);
            if due_ns >= self.end_ns || self.free.is_empty() {
                if now_ns < self.end_ns {
                    return Ok(retry_ns.min(self.end_ns));
                }
                self.give_up_unsent(now_ns);
                return Ok(retry_ns);
            }
            // Also after the end, when this thread woke up late: that is no fault of the server's.
            if due_ns > now_ns {
                return Ok(due_ns.min(retry_ns));
            }
            let index = self.free.pop_front().expect("it is not empty");
            let first = self.next_number;
            self.next_number += self.plan.rows;
            self.share.advance();
            self.measured.rows_sent += self.plan.rows;
            self.progress.behind_ns.store(now_ns - due_ns, Ordering::Relaxed);
            if self.is_measured(due_ns) && self.plan.schedule != Schedule::Closed {
                self.measured.late.saturating_record(now_ns - due_ns);
            }
            self.seats[index].is_free = false;
            let flight = Flight {
                due_ns,
                first,
                body_bytes: 0,
                wire_bytes: 0,
                refusals: 0,
            };
            self.send(index, flight)?;
        }
    }

    /// Charges the server for the requests that were due and found no free connection: at least the time they waited.
    fn give_up_unsent(&mut self, now_ns: u64) {
        if self.plan.schedule == Schedule::Closed {
            return;
        }
        let mut due_ns = self.share.due_ns(now_ns);
        while due_ns < self.end_ns {
            if self.is_measured(due_ns) {
                self.measured.reply.saturating_record(now_ns - due_ns);
            }
            self.measured.unsent += 1;
            self.share.advance();
            due_ns = self.share.due_ns(now_ns);
        }
    }

    fn is_measured(&self, at_ns: u64) -> bool {
        (self.plan.warm_up.as_nanos() as u64..self.end_ns).contains(&at_ns)
    }

    fn has_room(&self, index: usize) -> bool {
        let seat = &self.seats[index];
        seat.link.in_flight() + seat.waiting < self.plan.pipeline
    }

    /// Sends the request of `flight`, whose sizes are not known yet.
    fn send(&mut self, index: usize, flight: Flight) -> Result<(), String> {
        let ready = self
            .requests
            .make(flight.first)
            .map_err(|error| format!("a body cannot be compressed: {error}"))?;
        let flight = Flight {
            body_bytes: ready.body_bytes,
            wire_bytes: ready.bytes.len(),
            ..flight
        };
        if self.in_flight == 0 {
            self.heard = Instant::now();
        }
        self.in_flight += 1;
        self.seats[index]
            .link
            .send(flight, ready.bytes, &mut self.settled)?;
        self.settle(index)
    }

    fn wait(&mut self, wake_ns: u64, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let sleep_ns = wake_ns.saturating_sub(self.now_ns()).min(SLEEP_MAX_NS);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if sleep_ns > 0 {
            let timer = Itimerspec {
                it_interval: zero,
                it_value: Timespec {
                    tv_sec: 0,
                    tv_nsec: sleep_ns as i64,
                },
            };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        }
        events.clear();
        let timeout = (sleep_ns == 0).then_some(&zero);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn serve(&mut self, index: usize, flags: EventFlags) -> Result<(), String> {
        let link = &mut self.seats[index].link;
        link.serve(flags, &mut self.scratch, &mut self.settled)?;
        self.settle(index)
    }

    /// Notes what became of requests on a connection, and what it waits for now.
    fn settle(&mut self, index: usize) -> Result<(), String> {
        if !self.settled.is_empty() {
            self.note_settled(index)?;
        }
        if !self.seats[index].is_free && self.has_room(index) {
            self.seats[index].is_free = true;
            self.free.push_back(index);
        }
        self.watch(index)
    }

    fn note_settled(&mut self, index: usize) -> Result<(), String> {
        let now_ns = self.now_ns();
        self.heard = Instant::now();
        self.in_flight -= self.settled.len();
        let mut settled = std::mem::take(&mut self.settled);
        for (flight, verdict) in settled.drain(..) {
            match verdict {
                Verdict::Taken => self.note_taken(&flight, now_ns),
                Verdict::Refused if flight.refusals == REFUSALS_MAX => {
                    return Err(format!("a request was refused {REFUSALS_MAX} times"));
                }
                Verdict::Refused => {
                    self.measured.refused += 1;
                    self.progress.refused.fetch_add(1, Ordering::Relaxed);
                    self.seats[index].waiting += 1;
                    let refusals = flight.refusals + 1;
                    let again = Flight { refusals, ..flight };
                    self.retries.push_back((now_ns + RETRY_PAUSE_NS, index, again));
                }
                Verdict::Wrong(said) => return Err(format!("a request was answered {said}")),
            }
        }
        self.settled = settled;
        Ok(())
    }

    /// Has epoll tell what the connection waits for, also when it is another one than before.
    fn watch(&mut self, index: usize) -> Result<(), String> {
        let seat = &mut self.seats[index];
        let data = EventData::new_u64(index as u64);
        let wants = seat.link.waits_to_write();
        let flags = match wants {
            true => EventFlags::IN | EventFlags::OUT,
            false => EventFlags::IN,
        };
        let watched = if seat.link.was_opened_anew() {
            self.measured.reopened += 1;
            epoll::add(&self.epoll, &seat.link, data, flags)
        } else if wants != seat.is_watched_to_write {
            epoll::modify(&self.epoll, &seat.link, data, flags)
        } else {
            return Ok(());
        };
        seat.is_watched_to_write = wants;
        watched.map_err(|error| format!("epoll: {error}"))
    }

    fn note_taken(&mut self, flight: &Flight, now_ns: u64) {
        let rows = self.plan.rows;
        self.measured.rows_acknowledged += rows;
        self.progress.rows.fetch_add(rows, Ordering::Relaxed);
        self.progress.requests.fetch_add(1, Ordering::Relaxed);
        if self.is_measured(flight.due_ns) {
            // Also when the reply comes after the end: leaving out the slowest would flatter the server.
            self.measured.reply.saturating_record(now_ns - flight.due_ns);
        }
        if self.is_measured(now_ns) {
            self.measured.rows += rows;
            self.measured.requests += 1;
            self.measured.body_bytes += flight.body_bytes as u64;
            self.measured.wire_bytes += flight.wire_bytes as u64;
        }
    }
}
