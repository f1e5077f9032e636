//! One table's way into ClickHouse: wait for blocks, wait for the pace, insert, and again until it is settled.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::block::{Block, Outcome};
use crate::clickhouse::error::Verdict;
use crate::histogram::Measure;
use crate::metrics::{BreakerState, TableMetrics};
use crate::runtime::{self, Notify};

use super::Writer;
use super::breaker::{Admission, Backoff};
use super::failover;
use super::group::{Group, take_group};
use super::insert::{Failure, Link};
use super::pace::Pace;

/// A table's queue of sealed blocks and its pace.
pub(super) struct Lane {
    queue: RefCell<VecDeque<Box<Block>>>,
    arrived: Notify,
    pace: RefCell<Pace>,
    in_flight: Cell<u64>,
    metrics: Arc<TableMetrics>,
}

/// How long a lane waits at most before it looks again whether the queue has become urgent.
const PACE_POLL_MS: u64 = 20;

/// Tries after which a block counts as refused whose columns the table does not take, although they were fitted to the
/// table as it is now: one more ALTER may be under way, but a type that cannot become the new one never will.
const MISFITS_MAX: u32 = 5;

impl Lane {
    pub(super) fn new(metrics: Arc<TableMetrics>) -> Self {
        Lane {
            queue: RefCell::new(VecDeque::new()),
            arrived: Notify::default(),
            pace: RefCell::new(Pace::default()),
            in_flight: Cell::new(0),
            metrics,
        }
    }

    pub(super) fn enqueue(&self, block: Box<Block>) {
        self.queue.borrow_mut().push_back(block);
        self.arrived.notify();
    }

    /// Has the lane's tasks look whether the writer has finished.
    pub(super) fn wake(&self) {
        self.arrived.notify();
    }

    pub(super) fn show(&self, breaker: BreakerState) {
        self.metrics.blocks_waiting.set(self.queue.borrow().len() as u64);
        self.metrics.in_flight.set(self.in_flight.get());
        self.metrics.set_breaker(breaker);
    }

    /// The next group, when there is one and its time has come; `None` once the writer has finished.
    async fn next_group(&self, writer: &Writer) -> Option<Group> {
        loop {
            if self.queue.borrow().is_empty() {
                if writer.finished.get() {
                    return None;
                }
                self.arrived.notified().await;
                // What other cores are sealing right now shares the INSERT.
                runtime::yield_now().await;
                continue;
            }
            let wait_ms = if writer.is_draining() {
                0
            } else {
                let pressure = self.queue.borrow().len() >= writer.limits.blocks_per_core / 2;
                self.pace
                    .borrow()
                    .wait_ms(writer.clock.now_ms(), pressure, &writer.limits)
            };
            if wait_ms == 0 {
                // Nothing was awaited since the queue was seen not to be empty.
                return take_group(&mut self.queue.borrow_mut(), &writer.limits);
            }
            runtime::sleep(Duration::from_millis(wait_ms.min(PACE_POLL_MS))).await;
        }
    }
}

/// Inserts group after group until the writer has finished, and then closes its connection.
pub(super) async fn run(writer: Rc<Writer>, lane: Rc<Lane>) {
    let mut link = Link::default();
    while let Some(group) = lane.next_group(&writer).await {
        let token = writer.next_token();
        insert_apart(&writer, &lane, &mut link, group, token).await;
    }
}

/// Settles a group, beginning with this token, while it counts as in flight.
pub(super) async fn insert_apart(
    writer: &Rc<Writer>,
    lane: &Rc<Lane>,
    link: &mut Link,
    group: Group,
    token: String,
) {
    lane.in_flight.set(lane.in_flight.get() + 1);
    settle_apart(writer, lane, link, group, token).await;
    lane.in_flight.set(lane.in_flight.get() - 1);
}

/// Settles a group. One that is refused for its content is halved until the guilty blocks stand alone: they must not take
/// their neighbours along. Each half has a token of its own, which doubles nothing: ClickHouse checks all of an
/// INSERT of this size before it writes any of it.
async fn settle_apart(writer: &Rc<Writer>, lane: &Rc<Lane>, link: &mut Link, group: Group, token: String) {
    let mut groups = vec![(group, token)];
    while let Some((group, token)) = groups.pop() {
        let Some(outcome) = settle(writer, lane, link, &group, &token).await else {
            let held = failover::hold(Rc::clone(writer), Rc::clone(lane), group, link.endpoint, token);
            runtime::spawn(held);
            continue;
        };
        if let Outcome::Refused(reason) = &outcome {
            if group.blocks.len() > 1 {
                let [first, second] = group.halves();
                groups.extend([second, first].map(|half| (half, writer.next_token())));
                continue;
            }
            let table = &group.blocks[0].sealed_schema().name;
            tracing::error!(%table, rows = group.rows, %reason, "ClickHouse refused rows for their content");
        }
        for mut block in group.blocks {
            block.outcome = Some(outcome.clone());
            writer.give_back(block);
        }
    }
}

/// Tries until ClickHouse has confirmed the group or refused it for its content. `None`: the rows must wait for the server
/// they were sent to.
async fn settle(
    writer: &Writer,
    lane: &Lane,
    link: &mut Link,
    group: &Group,
    token: &str,
) -> Option<Outcome> {
    let table = &group.blocks[0].sealed_schema().name;
    let limits = &writer.limits;
    let mut backoff = Backoff::new(
        limits.retry_pause_min_ms,
        limits.retry_pause_max_ms,
        writer.clock.now_ns(),
    );
    let (mut misfits, mut refusals) = (0, 0);
    let misfits_max = MISFITS_MAX * writer.servers() as u32;
    let mut tries = 0_u64;
    loop {
        // Rows held for one server are no news of the others, nor wait for them.
        let held = link.only.is_some();
        if !held {
            wait_for_breaker(writer).await;
        }
        lane.pace
            .borrow_mut()
            .started(writer.clock.now_ms(), group.partitions.len().max(1));
        let started_ns = writer.clock.now_ns();
        let current = writer.current_schema(table);
        let result = link.insert(writer, group, token, current.as_deref()).await;
        writer
            .recorder
            .borrow_mut()
            .record(Measure::Insert, writer.clock.now_ns() - started_ns);
        tries += 1;
        let failure = match result {
            Ok(()) => {
                failover::answered(writer, link);
                if !held {
                    lane.metrics.failing.set(0);
                }
                count_insert(writer, lane, group);
                if tries > 1 {
                    tracing::info!(%table, rows = group.rows, tries, "inserted after retries");
                }
                return Some(Outcome::Inserted);
            }
            Err(failure) => failure,
        };
        lane.metrics.fail(failure.verdict_name(), failure.code());
        if !held {
            lane.metrics.failing.set(tries);
        }
        let pause_ms = match &failure {
            Failure::Unreachable(_) => failover::unanswered(writer, link, &mut backoff),
            Failure::Exception { verdict, exception } => {
                failover::answered(writer, link);
                if *verdict == Verdict::SchemaChanged {
                    writer.catalog.request_refresh();
                    let built_for = group.blocks[0].sealed_schema();
                    // While the columns are those of the block, as far as we know, the rows are held.
                    misfits += u32::from(current.is_some_and(|now| now.fingerprint != built_for.fingerprint));
                }
                if *verdict == Verdict::Refused || misfits > misfits_max {
                    lane.metrics.failing.set(0);
                    return Some(Outcome::Refused(exception.summary().into()));
                }
                refusals += 1;
                failover::refused(writer, link, refusals, &mut backoff)
            }
        };
        lane.metrics.retries.add(1);
        // The first failure and then every doubling: an hour of trying is a dozen lines.
        if tries.is_power_of_two() {
            let endpoint = failover::address(writer, link);
            tracing::warn!(%table, rows = group.rows, endpoint, tries, failure = %failure, "INSERT failed, rows are held");
        }
        if failover::must_wait(writer, link, group) {
            lane.metrics.failing.set(0);
            return None;
        }
        failover::pause(writer, link, group, pause_ms).await;
    }
}

async fn wait_for_breaker(writer: &Writer) {
    loop {
        let admission = writer.breaker.borrow_mut().admit(writer.clock.now_ms());
        match admission {
            Admission::Go => return,
            Admission::WaitMs(ms) => runtime::sleep(Duration::from_millis(ms)).await,
        }
    }
}

fn count_insert(writer: &Writer, lane: &Lane, group: &Group) {
    let metrics = &lane.metrics;
    metrics.inserts.add(1);
    metrics.rows.add(group.rows);
    metrics.blocks.add(group.blocks.len() as u64);
    metrics.bytes_raw.add(group.wire_bytes);
    metrics.bytes_compressed.add(group.frame_bytes);
    metrics.parts_estimated.add(group.partitions.len().max(1) as u64);
    metrics
        .last_insert_ms
        .set((writer.clock.unix_ns() / 1_000_000) as u64);
}
