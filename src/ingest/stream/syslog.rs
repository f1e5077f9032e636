//! Syslog over TCP: messages are cut out of the stream and pushed as they come; there are no replies.

use std::io;

use crate::syslog::{Framer, Messages};

use super::{ROWS_MAX, Received, Stream};

impl Stream<'_> {
    /// Takes messages until the stream ends; what there is of one at the end is one.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn take_syslog(&mut self) -> io::Result<()> {
        let core = self.core;
        let mut framer = Framer::new(&core.limits);
        let mut spans = Vec::new();
        let mut end = false;
        let mut broken = None;
        loop {
            let bytes = self.buffer.unread();
            let listed = framer.list(bytes, end, &mut spans, ROWS_MAX);
            if !spans.is_empty() || listed.too_long > 0 {
                let Some(table) = core.table_of_port(&self.port, self.rows.key.as_deref()).await else {
                    return Ok(());
                };
                for _ in 0..listed.too_long {
                    self.rows.reject_too_long(core, &table);
                }
                core.metrics.bytes_decoded.add(listed.consumed as u64);
                let messages = Messages {
                    bytes: self.buffer.unread(),
                    spans: &spans,
                };
                self.rows.push(core, &table, &messages, None).await;
            }
            let is_full = spans.len() == ROWS_MAX;
            spans.clear();
            self.consume(listed.consumed);
            if is_full {
                continue;
            }
            if end {
                return broken.map_or(Ok(()), Err);
            }
            match self.receive(None).await {
                Ok(received) => end = received == Received::End,
                Err(error) => (end, broken) = (true, Some(error)),
            }
        }
    }
}
