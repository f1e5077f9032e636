//! One table's way into ClickHouse: wait for blocks, announce an INSERT, send it, and again until it is settled.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::block::{Block, BlockId, Settlement};
use crate::clickhouse::error::Verdict;
use crate::histogram::Measure;
use crate::ledger::Account;
use crate::metrics::{BreakerState, TableMetrics};
use crate::runtime::{self, Notify};
use crate::wal::journal::{Announced, Change, End};

use super::Writer;
use super::breaker::{Admission, Backoff};
use super::failover;
use super::feed::{Buried, Feed};
use super::group::{Group, Part};
use super::insert::{self, Failure, Link};
use super::queue::{Announcement, Next, Queue, Turn};
use super::store::ReadError;

/// A table's blocks and its pace.
pub(super) struct Lane {
    queue: RefCell<Queue>,
    arrived: Notify,
    in_flight: Cell<u64>,
    /// A drain has found that ClickHouse does not take the table's rows now: they stay in the log.
    gave_up: Cell<bool>,
    account: Arc<Account>,
    metrics: Arc<TableMetrics>,
    backlog: RefCell<Backlog>,
    /// Awaited blocks whose rows end apart.
    apart: RefCell<Vec<Apart>>,
}

/// An awaited block some of whose rows have ended.
struct Apart {
    block: BlockId,
    /// Those that became dead letters.
    dead_rows: Vec<u32>,
    /// How many have ended.
    ended: u32,
}

/// What was last said of a backlog.
#[derive(Default)]
struct Backlog {
    /// When it began, and how large it was then.
    since: Option<(u64, u64)>,
    said_ms: u64,
}

/// How long a lane waits at most before it looks again whether the queue has become urgent.
const PACE_POLL_MS: u64 = 20;

/// Tries after which a block counts as refused whose columns the table does not take, although they were fitted to the
/// table as it is now: one more ALTER may be under way, but a type that cannot become the new one never will.
const MISFITS_MAX: u32 = 5;

/// ClickHouse's code for too many parts.
const TOO_MANY_PARTS: i32 = 252;

/// How often the progress of a backlog is told.
const BACKLOG_REPORT_MS: u64 = 5_000;

/// How an INSERT ended.
enum Outcome {
    Inserted,
    /// ClickHouse refused it for the content of some of its rows.
    Refused {
        code: i32,
        reason: String,
    },
    /// The table's columns cannot take the blocks at all.
    Misfit {
        code: i32,
        reason: String,
    },
    /// A block cannot be read from the log.
    Damaged(Box<Block>),
    /// It broke off, and only the server it was sent to can tell whether it has the rows.
    Hold,
    /// The process drains and ClickHouse does not take it.
    GaveUp,
}

impl Lane {
    pub(super) fn new(metrics: Arc<TableMetrics>, account: Arc<Account>) -> Self {
        Lane {
            queue: RefCell::default(),
            arrived: Notify::default(),
            in_flight: Cell::new(0),
            gave_up: Cell::new(false),
            account,
            metrics,
            backlog: RefCell::default(),
            apart: RefCell::default(),
        }
    }

    pub(super) fn enqueue(&self, block: Block) {
        self.queue.borrow_mut().push(block);
        self.arrived.notify();
    }

    pub(super) fn enqueue_recovered(&self, block: Block) {
        self.queue.borrow_mut().push_recovered(block);
        self.arrived.notify();
    }

    pub(super) fn enqueue_announced(&self, announcement: Announcement, group: Group) {
        self.queue.borrow_mut().push_announced(announcement, group);
        self.arrived.notify();
    }

    /// Has the lane's tasks look whether the writer has finished.
    pub(super) fn wake(&self) {
        self.arrived.notify();
    }

    /// Nothing is being inserted, and nothing will be while the process drains.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.get() == 0 && (!self.queue.borrow().has_live() || self.gave_up.get())
    }

    pub(super) fn show(&self, breaker: BreakerState, now_ms: u64, table: &str) {
        let queue = self.queue.borrow();
        self.metrics.blocks_waiting.set(queue.blocks() as u64);
        self.metrics.in_flight.set(self.in_flight.get());
        self.metrics.set_breaker(breaker);
        let left = queue.backlog();
        self.metrics.backlog_rows.set(left.rows);
        self.metrics.backlog_bytes.set(left.bytes);
        let mut backlog = self.backlog.borrow_mut();
        if left.rows == 0 {
            self.metrics.backlog_left_ms.set(0);
            if let Some((since_ms, _)) = backlog.since.take() {
                tracing::info!(
                    table,
                    seconds = (now_ms - since_ms) / 1000,
                    "the backlog is inserted"
                );
            }
            return;
        }
        let (since_ms, rows) = *backlog.since.get_or_insert((now_ms, left.rows));
        let took_ms = now_ms - since_ms;
        let done = rows.saturating_sub(left.rows);
        let left_ms = (took_ms * left.rows).checked_div(done).unwrap_or(0);
        self.metrics.backlog_left_ms.set(left_ms);
        if now_ms >= backlog.said_ms + BACKLOG_REPORT_MS || took_ms == 0 {
            backlog.said_ms = now_ms;
            tracing::info!(
                table,
                rows_left = left.rows,
                bytes_left = left.bytes,
                estimate_s = left_ms / 1000,
                "a backlog is being inserted beside the live rows"
            );
        }
    }

    /// What to insert, when there is something and its time has come; `None` once the writer has finished.
    async fn next(&self, writer: &Writer) -> Option<Next> {
        loop {
            let draining = writer.finished.get();
            if draining && self.gave_up.get() {
                return None;
            }
            let parts = self.metrics.parts_max.get();
            let turn = self
                .queue
                .borrow_mut()
                .next(writer.clock.now_ms(), draining, parts, &writer.limits);
            match turn {
                Turn::Insert(next) => return Some(next),
                Turn::Empty if draining => return None,
                Turn::Empty => {
                    self.arrived.notified().await;
                    // What other cores are sealing right now shares the INSERT.
                    runtime::yield_now().await;
                }
                Turn::WaitMs(ms) => runtime::sleep(Duration::from_millis(ms.min(PACE_POLL_MS))).await,
            }
        }
    }

    /// Rows of a block became dead letters: its requests hear of it when all its rows have ended.
    fn note_dead(&self, part: &Part) {
        if part.block.awaited.is_none() {
            return;
        }
        let mut apart = self.apart.borrow_mut();
        let index = position(&mut apart, part.block.id);
        apart[index].dead_rows.extend(part.rows.clone());
    }

    /// Rows of a block have ended; when they were the last ones, its dead rows.
    fn note_ended(&self, part: &Part) -> Option<Vec<u32>> {
        if part.is_whole() && self.apart.borrow().is_empty() {
            return Some(Vec::new());
        }
        let mut apart = self.apart.borrow_mut();
        let index = position(&mut apart, part.block.id);
        apart[index].ended += part.len();
        (apart[index].ended == part.block.info.rows).then(|| apart.swap_remove(index).dead_rows)
    }
}

fn position(apart: &mut Vec<Apart>, block: BlockId) -> usize {
    let known = apart.iter().position(|known| known.block == block);
    known.unwrap_or_else(|| {
        apart.push(Apart {
            block,
            dead_rows: Vec::new(),
            ended: 0,
        });
        apart.len() - 1
    })
}

/// Inserts group after group until the writer has finished, and then closes its connection.
pub(super) async fn run(writer: Rc<Writer>, lane: Rc<Lane>) {
    let mut link = Link::default();
    let mut feed = Feed::new(&writer.worker, Arc::clone(&writer.store));
    while let Some(next) = lane.next(&writer).await {
        insert_apart(&writer, &lane, &mut link, &mut feed, next).await;
    }
}

/// Settles a group while it counts as in flight.
pub(super) async fn insert_apart(
    writer: &Rc<Writer>,
    lane: &Rc<Lane>,
    link: &mut Link,
    feed: &mut Feed,
    next: Next,
) {
    lane.in_flight.set(lane.in_flight.get() + 1);
    settle_apart(writer, lane, link, feed, next).await;
    lane.in_flight.set(lane.in_flight.get() - 1);
}

/// Settles a group. One that is refused for its content is halved until the guilty rows stand alone: they must not take
/// their neighbours along. Each half has a token of its own, which doubles nothing: ClickHouse checks all of an
/// INSERT of this size before it writes any of it, and the journal knows either the whole or the halves.
async fn settle_apart(writer: &Rc<Writer>, lane: &Rc<Lane>, link: &mut Link, feed: &mut Feed, next: Next) {
    let announcement = match next.announced {
        Some(announcement) => announcement,
        None => {
            let (announcement, announced) = announce(writer, link, &next.group);
            if !feed.announce(writer, vec![Change::Open(announced)]).await {
                // Draining: what was not announced waits in the log like any other block.
                lane.gave_up.set(true);
                return;
            }
            announcement
        }
    };
    let mut groups = vec![(announcement, next.group, 0)];
    while let Some((mut announcement, group, mut misfits)) = groups.pop() {
        let outcome = settle(writer, lane, link, feed, &mut announcement, &group, &mut misfits).await;
        let token = announcement.token;
        match outcome {
            Outcome::Inserted => close(writer, lane, feed, token, group).await,
            Outcome::Misfit { code, reason } => {
                let rest = bury(writer, lane, feed, token, group, code, reason).await;
                groups.extend(rest.map(|(announcement, group)| (announcement, group, misfits)));
            }
            Outcome::Refused { code, reason } => match group.halves() {
                Err(single) => {
                    let rest = bury(writer, lane, feed, token, single, code, reason).await;
                    debug_assert!(rest.is_none(), "there is one block");
                }
                Ok(halves) => {
                    let announced = halves.each_ref().map(|half| announce(writer, link, half));
                    let (announcements, into): (Vec<_>, Vec<_>) = announced.into_iter().unzip();
                    let split = Change::Split { token, into };
                    if !feed.announce(writer, vec![split]).await {
                        lane.gave_up.set(true);
                        return;
                    }
                    let halves = announcements.into_iter().zip(halves);
                    // The first is the next.
                    groups.extend(
                        halves
                            .rev()
                            .map(|(announcement, half)| (announcement, half, misfits)),
                    );
                }
            },
            Outcome::Damaged(block) => {
                if let Some(rest) = set_aside(writer, lane, feed, token, group, *block).await {
                    groups.push((rest.0, rest.1, misfits));
                }
            }
            Outcome::Hold => {
                let announcement = Announcement {
                    token,
                    server: announcement.server,
                };
                let next = Next {
                    group,
                    announced: Some(announcement),
                };
                let held = failover::hold(Rc::clone(writer), Rc::clone(lane), next, link.endpoint);
                runtime::spawn(held);
            }
            // Rows that are held for one server say nothing of the others.
            Outcome::GaveUp => {
                lane.gave_up.set(lane.gave_up.get() || link.only.is_none());
                return;
            }
        }
    }
}

/// A new token for the group, and what the journal is to know of it. The server it is bound for is where it will most likely go: if
/// it is another, the journal hears of that before that one hears of the INSERT.
fn announce(writer: &Writer, link: &Link, group: &Group) -> (Announcement, Announced) {
    let server = (!writer.replicas_share(group)).then(|| link.next_server(writer));
    let token = writer.next_token();
    let announced = group.announce(&token, server.map(|index| writer.server_name(index)).as_deref());
    (Announcement { token, server }, announced)
}

/// The INSERT is confirmed: its rows are accounted for, its requests told, its blocks leave the log.
async fn close(writer: &Writer, lane: &Lane, feed: &mut Feed, token: String, group: Group) {
    lane.account.insert(group.rows);
    let now_ns = writer.clock.unix_ns();
    for part in &group.parts {
        let age_ns = now_ns.saturating_sub(part.block.info.opened_at_ns).max(0) as u64;
        writer.recorder.borrow_mut().record(Measure::Visible, age_ns);
        tell(writer, lane, part);
    }
    feed.close(writer, token, End::Inserted, group.parts).await;
}

/// The rows can never be inserted: they go to the dead-letter store. When a block cannot be read as rows, its bytes are set
/// aside instead; what is left of its group then, under a new token.
async fn bury(
    writer: &Writer,
    lane: &Lane,
    feed: &mut Feed,
    token: String,
    group: Group,
    code: i32,
    reason: String,
) -> Option<(Announcement, Group)> {
    let table = &group.parts[0].block.info.schema.name;
    tracing::error!(%table, rows = group.rows, code, "ClickHouse refused rows for their content; they are dead letters now");
    let group = match feed.bury(writer, token, group, code, reason).await {
        Buried::Yes(group) => group,
        Buried::GaveUp => return None,
        Buried::Unreadable(token, group, block) => {
            return set_aside(writer, lane, feed, token, group, *block).await;
        }
    };
    lane.account.dead_letter(group.rows);
    lane.metrics.dead_lettered.add(group.rows);
    for part in &group.parts {
        lane.note_dead(part);
        tell(writer, lane, part);
    }
    None
}

/// A block cannot be read back: its rows are lost, loudly. What is left of its group, under a new token.
async fn set_aside(
    writer: &Writer,
    lane: &Lane,
    feed: &mut Feed,
    token: String,
    group: Group,
    block: Block,
) -> Option<(Announcement, Group)> {
    let table = &block.info.schema.name;
    let (lost, kept): (Vec<Part>, Vec<Part>) = group
        .parts
        .into_iter()
        .partition(|part| part.block.id == block.id);
    let rows: u64 = lost.iter().map(|part| u64::from(part.len())).sum();
    tracing::error!(%table, block = %block.id, rows, "a block of the write-ahead log cannot be read back: its rows are lost");
    // Whichever server it goes to: this is rare, and the journal hears of that before the server does.
    let rest = (!kept.is_empty()).then(|| {
        let token = writer.next_token();
        (Announcement { token, server: None }, Group::of(kept))
    });
    let into = rest
        .iter()
        .map(|(announcement, group)| group.announce(&announcement.token, None))
        .collect();
    let changes = vec![Change::Split { token, into }, Change::Lost { block: block.id }];
    feed.set_aside(writer, block, changes).await;
    lane.account.lose(rows);
    lane.metrics.lost.add(rows);
    for part in &lost {
        lane.note_dead(part);
        tell(writer, lane, part);
    }
    rest
}

/// Tells the core of an awaited block, once all its rows have ended.
fn tell(writer: &Writer, lane: &Lane, part: &Part) {
    if let Some(block) = part.block.awaited
        && let Some(dead_rows) = lane.note_ended(part)
    {
        writer.tell(part.block.id.core, Settlement { block, dead_rows });
    }
}

/// Tries until ClickHouse has confirmed the group or refused it for its content.
async fn settle(
    writer: &Writer,
    lane: &Lane,
    link: &mut Link,
    feed: &mut Feed,
    announcement: &mut Announcement,
    group: &Group,
    misfits: &mut u32,
) -> Outcome {
    if insert::has_no_values(group) {
        // Never sent: ClickHouse would call it a syntax error each time.
        let reason = "the row has no value for any column of the table".to_owned();
        return Outcome::Misfit { code: 0, reason };
    }
    let table = &group.parts[0].block.info.schema.name;
    let limits = &writer.limits;
    let mut backoff = Backoff::new(
        limits.retry_pause_min_ms,
        limits.retry_pause_max_ms,
        writer.clock.now_ns(),
    );
    let misfits_max = MISFITS_MAX * writer.servers() as u32;
    let mut refusals = 0;
    let mut tries = 0_u64;
    loop {
        // Rows held for one server are no news of the others, nor wait for them.
        let held = link.only.is_some();
        if !held && !wait_for_breaker(writer).await {
            return Outcome::GaveUp;
        }
        lane.queue.borrow_mut().started(writer.clock.now_ms(), group);
        let started_ns = writer.clock.now_ns();
        let current = writer.current_schema(table);
        let result = link
            .insert(writer, feed, group, announcement, current.as_deref())
            .await;
        writer
            .recorder
            .borrow_mut()
            .record(Measure::Insert, writer.clock.now_ns() - started_ns);
        tries += 1;
        let failure = match result {
            Ok(()) => {
                failover::answered(writer, link);
                lane.queue.borrow_mut().succeeded();
                if !held {
                    lane.metrics.failing.set(0);
                }
                count_insert(writer, lane, group);
                if tries > 1 {
                    tracing::info!(%table, rows = group.rows, tries, "inserted after retries");
                }
                return Outcome::Inserted;
            }
            Err(failure) => failure,
        };
        lane.metrics.fail(failure.verdict_name(), failure.code());
        let pause_ms = match &failure {
            Failure::Unreachable(_) => failover::unanswered(writer, link, &mut backoff),
            Failure::Log(ReadError::Damaged(block)) => {
                failover::answered(writer, link);
                return Outcome::Damaged(block.clone());
            }
            Failure::Log(ReadError::Disk(_)) => {
                failover::answered(writer, link);
                backoff.next_pause_ms()
            }
            Failure::Exception { verdict, exception } => {
                failover::answered(writer, link);
                if exception.code == TOO_MANY_PARTS {
                    lane.queue.borrow_mut().too_many_parts(limits);
                }
                let is_misfit = *verdict == Verdict::SchemaChanged;
                if is_misfit {
                    writer.catalog.request_refresh();
                    let built_for = &group.parts[0].block.info.schema;
                    // While the columns are those of the block, as far as we know, the rows are held.
                    *misfits +=
                        u32::from(current.is_some_and(|now| now.fingerprint != built_for.fingerprint));
                }
                let (code, reason) = (exception.code, exception.first_line());
                if *verdict == Verdict::Refused {
                    lane.metrics.failing.set(0);
                    return Outcome::Refused { code, reason };
                }
                if is_misfit && *misfits > misfits_max {
                    lane.metrics.failing.set(0);
                    return Outcome::Misfit { code, reason };
                }
                refusals += 1;
                failover::refused(writer, link, refusals, &mut backoff)
            }
        };
        if !held {
            lane.metrics.failing.set(tries);
        }
        lane.metrics.retries.add(1);
        // The first failure and then every doubling: an hour of trying is a dozen lines.
        if tries.is_power_of_two() {
            let endpoint = failover::address(writer, link);
            tracing::warn!(%table, rows = group.rows, endpoint, tries, failure = %failure, "INSERT failed, rows are held");
        }
        if writer.finished.get() {
            return Outcome::GaveUp;
        }
        if failover::must_wait(writer, link, group) {
            lane.metrics.failing.set(0);
            return Outcome::Hold;
        }
        failover::pause(writer, pause_ms).await;
    }
}

/// Waits until the breaker lets an INSERT through; false when the process drains and it does not.
async fn wait_for_breaker(writer: &Writer) -> bool {
    loop {
        let admission = writer.breaker.borrow_mut().admit(writer.clock.now_ms());
        match admission {
            Admission::Go => return true,
            Admission::WaitMs(_) if writer.finished.get() => return false,
            Admission::WaitMs(ms) => runtime::sleep(Duration::from_millis(ms.min(PACE_POLL_MS))).await,
        }
    }
}

fn count_insert(writer: &Writer, lane: &Lane, group: &Group) {
    let metrics = &lane.metrics;
    metrics.inserts.add(1);
    metrics.rows.add(group.rows);
    metrics.blocks.add(group.parts.len() as u64);
    metrics.bytes_raw.add(group.wire_bytes);
    metrics.bytes_compressed.add(group.frame_bytes);
    metrics
        .parts_estimated
        .add(group.partitions.count().max(1) as u64);
    metrics
        .last_insert_ms
        .set((writer.clock.unix_ns() / 1_000_000) as u64);
}
