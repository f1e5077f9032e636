//! Which server an INSERT goes to next, and which rows must wait for the one server that may have them.
//!
//! A server that does not answer is left at once for the next one; only when none answers does the breaker open. A server
//! that answers but does not take the rows (read-only, without the table, full) is left too, with the pause of a
//! failed INSERT after every round.
//!
//! An INSERT that broke off after its data were sent may be in the table or not. Its server recognises the token when it
//! is sent again. Another one does so only when the table's engine shares its tokens with its replicas; else these
//! rows wait, beside the lane, for the server they were sent to, while all others go elsewhere.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clickhouse::endpoints::Round;
use crate::metrics::EndpointMetrics;
use crate::runtime;

use super::breaker::Backoff;
use super::feed::Feed;
use super::group::Group;
use super::insert::Link;
use super::lane::{self, Lane};
use super::queue::{Announcement, Next};
use super::{Begun, Writer};

/// How long the end of the process may go unnoticed.
const DRAIN_POLL_MS: u64 = 100;

impl Writer {
    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        self.endpoints.borrow().list().len()
    }

    /// The server's name in the journal.
    pub(super) fn server_name(&self, index: usize) -> String {
        self.endpoints.borrow().list()[index].authority()
    }

    fn server_named(&self, name: &str) -> Option<usize> {
        let endpoints = self.endpoints.borrow();
        endpoints
            .list()
            .iter()
            .position(|endpoint| endpoint.authority() == name)
    }

    /// Whether any server would know an INSERT of the group that another one has taken.
    pub(super) fn replicas_share(&self, group: &Group) -> bool {
        let sealed_for = &group.parts[0].block.info.schema;
        let current = self.current_schema(&sealed_for.name);
        current.as_ref().unwrap_or(sealed_for).shares_deduplication
    }

    fn server_metrics(&self, index: usize) -> &EndpointMetrics {
        &self.metrics.endpoints()[index]
    }

    fn unix_ms(&self) -> u64 {
        (self.clock.unix_ns() / 1_000_000) as u64
    }
}

/// The address of the link's server, for log lines.
pub(super) fn address<'w>(writer: &'w Writer, link: &Link) -> &'w str {
    &writer.server_metrics(link.endpoint).endpoint
}

/// A connection was made to this server.
pub(super) fn connected(writer: &Writer, index: usize) {
    writer.server_metrics(index).connect();
}

/// The link's server confirmed or refused an INSERT: whatever it said about one table, it is there.
pub(super) fn answered(writer: &Writer, link: &Link) {
    // Held rows were admitted by no breaker, and their server is not the one in use.
    if link.only.is_none() {
        writer.breaker.borrow_mut().succeeded();
        writer.endpoints.borrow_mut().answered();
    }
}

/// The link's server did not answer. Returns the pause before the next try; the breaker has its own.
pub(super) fn unanswered(writer: &Writer, link: &Link, backoff: &mut Backoff) -> u64 {
    writer.server_metrics(link.endpoint).fail(writer.unix_ms());
    if link.only.is_some() {
        return backoff.next_pause_ms();
    }
    let now_ms = writer.clock.now_ms();
    match writer.endpoints.borrow_mut().failed(link.endpoint) {
        Round::Over => writer.breaker.borrow_mut().failed(now_ms),
        Round::GoesOn => writer.breaker.borrow_mut().moved_on(now_ms),
    }
    0
}

/// The link's server answered that it does not take the rows, for the `refusals`th time any did. Returns the pause
/// before the next try: none until every server was asked.
pub(super) fn refused(writer: &Writer, link: &Link, refusals: u64, backoff: &mut Backoff) -> u64 {
    if writer.servers() == 1 || link.only.is_some() {
        return backoff.next_pause_ms();
    }
    writer.server_metrics(link.endpoint).fail(writer.unix_ms());
    writer.endpoints.borrow_mut().refused(link.endpoint);
    if refusals.is_multiple_of(writer.servers() as u64) {
        backoff.next_pause_ms()
    } else {
        0
    }
}

/// Whether the rows of the INSERT that has just failed may go to no other server.
pub(super) fn must_wait(writer: &Writer, link: &Link, group: &Group) -> bool {
    link.only.is_none() && link.outcome_unknown && writer.servers() > 1 && !writer.replicas_share(group)
}

/// Goes on with an INSERT that a former process has begun: at the one server that may have it, if there are others.
pub(super) fn resume(writer: &Rc<Writer>, begun: Begun) {
    let Begun { token, server, group } = begun;
    let lane = Writer::lane(writer, &group.parts[0].block);
    let index = server.as_deref().and_then(|name| writer.server_named(name));
    let announcement = Announcement { token, server: index };
    let is_bound = server.is_some() && !writer.replicas_share(&group);
    match (is_bound, index) {
        (true, Some(index)) if writer.servers() > 1 => {
            let next = Next {
                group,
                announced: Some(announcement),
            };
            runtime::spawn(hold(Rc::clone(writer), lane, next, index));
        }
        (true, None) => {
            tracing::error!(
                table = %group.parts[0].block.info.schema.name,
                rows = group.rows,
                endpoint = server,
                "an INSERT was begun at a server that is not among those of --clickhouse any more: if that one has its \
                 rows, they are doubled"
            );
            lane.enqueue_announced(announcement, group);
        }
        _ => lane.enqueue_announced(announcement, group),
    }
}

/// Holds the rows of an INSERT that broke off until its server has said what became of it. When the process ends before,
/// they wait in the log.
pub(super) async fn hold(writer: Rc<Writer>, lane: Rc<Lane>, next: Next, endpoint: usize) {
    let rows = next.group.rows;
    let table = next.group.parts[0].block.info.schema.name.clone();
    let metrics = writer.server_metrics(endpoint);
    tracing::warn!(
        %table, rows, endpoint = metrics.endpoint,
        "an INSERT broke off and its table is not replicated: its rows are held until this server answers, new rows go to \
         another"
    );
    metrics.held_rows.set(metrics.held_rows.get() + rows);
    let mut link = Link::only(endpoint);
    let mut feed = Feed::new(&writer.worker, Arc::clone(&writer.store));
    lane::insert_apart(&writer, &lane, &mut link, &mut feed, next).await;
    metrics.held_rows.set(metrics.held_rows.get() - rows);
}

/// Waits before the next try; not to its end when the process drains.
pub(super) async fn pause(writer: &Writer, pause_ms: u64) {
    let until_ms = writer.clock.now_ms() + pause_ms;
    loop {
        let left_ms = until_ms.saturating_sub(writer.clock.now_ms());
        if left_ms == 0 || writer.finished.get() {
            return;
        }
        runtime::sleep(Duration::from_millis(left_ms.min(DRAIN_POLL_MS))).await;
    }
}
