//! Gathers lines up to a limit while what was gathered before is being dealt with.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::log::Segment;

/// Bytes of lines that are gathered before whoever brings more waits. Another buffer of as many may be in an INSERT.
pub const ROWS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Lines, and the files that hold them too.
#[derive(Debug, Default)]
pub struct Rows {
    /// Each with its end.
    pub lines: Vec<u8>,
    /// Each once, unless others came in between.
    pub segments: Vec<Arc<Segment>>,
}

impl Rows {
    /// For lines that are in ClickHouse.
    ///
    /// # Errors
    /// A file that is needed no more cannot be deleted.
    pub fn release(self) -> io::Result<()> {
        self.segments.into_iter().try_for_each(Segment::release)
    }
}

/// Lines being gathered. Any number of tasks bring some, one takes them all.
#[derive(Debug, Default)]
pub struct Buffer {
    filling: Mutex<Filling>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Filling {
    rows: Rows,
    /// How often it was taken.
    number: u64,
}

impl Buffer {
    /// Adds lines, once there is room. The number they will be taken under.
    pub async fn append(&self, lines: &[u8], segments: &[Arc<Segment>]) -> u64 {
        loop {
            // Made before the look: it is woken from here on.
            let emptied = self.emptied.notified();
            if let Some(number) = self.try_append(lines, segments) {
                self.filled.notify_one();
                return number;
            }
            emptied.await;
        }
    }

    fn try_append(&self, lines: &[u8], segments: &[Arc<Segment>]) -> Option<u64> {
        let mut filling = self.filling();
        let rows = &mut filling.rows;
        // The last lines may go beyond: any body fits an empty buffer.
        if rows.lines.len() >= ROWS_BYTES_MAX {
            return None;
        }
        rows.lines.extend_from_slice(lines);
        if lines.last().is_some_and(|byte| *byte != b'\n') {
            rows.lines.push(b'\n');
        }
        for segment in segments {
            if !rows
                .segments
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, segment))
            {
                rows.segments.push(Arc::clone(segment));
            }
        }
        Some(filling.number)
    }

    /// Waits until there are so many bytes. One task at a time.
    pub async fn has(&self, bytes: usize) {
        while self.filling().rows.lines.len() < bytes {
            self.filled.notified().await;
        }
    }

    /// Everything that is there, with its number.
    pub fn take(&self) -> (u64, Rows) {
        let mut filling = self.filling();
        // As large as the last one was: it grows no more when the load is steady.
        let empty = Rows {
            lines: Vec::with_capacity(filling.rows.lines.len()),
            segments: Vec::new(),
        };
        let rows = std::mem::replace(&mut filling.rows, empty);
        let number = filling.number;
        filling.number += 1;
        self.emptied.notify_waiters();
        (number, rows)
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn gives_lines_back_in_order_under_their_number() {
        block_on(async {
            let buffer = Buffer::default();
            assert_eq!(buffer.append(b"a\n", &[]).await, 0);
            assert_eq!(buffer.append(b"b", &[]).await, 0);
            buffer.has(4).await;
            let (number, rows) = buffer.take();
            assert_eq!((number, rows.lines.as_slice()), (0, b"a\nb\n".as_slice()));
            assert_eq!(buffer.append(b"c\n", &[]).await, 1);
            assert_eq!(buffer.take().1.lines, b"c\n");
        });
    }

    #[test]
    fn holds_back_what_is_too_much_until_it_is_taken() {
        block_on(async {
            let buffer = Buffer::default();
            buffer.append(&vec![b'\n'; ROWS_BYTES_MAX], &[]).await;
            let append = buffer.append(b"late\n", &[]);
            tokio::pin!(append);
            let waited = tokio::time::timeout(Duration::from_millis(20), &mut append).await;
            assert!(waited.is_err(), "it took more than it may");
            assert_eq!(buffer.take().1.lines.len(), ROWS_BYTES_MAX);
            assert_eq!(append.await, 1);
            assert_eq!(buffer.take().1.lines, b"late\n");
        });
    }
}
