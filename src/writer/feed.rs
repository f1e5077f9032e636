//! A lane's way to the disk: calls that block are made on the writer's worker, and made again while the disk refuses.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::block::Block;
use crate::offload::{Caller, Worker};
use crate::runtime;
use crate::wal::journal::{Change, End};

use super::Writer;
use super::group::{Group, Part};
use super::store::{ReadError, Store};

/// What is read from the log at once; a larger block is read alone.
const READ_BYTES: u64 = 1024 * 1024;

/// How soon a call that the disk refused is made again.
const DISK_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What became of rows that were to be dead letters.
pub(super) enum Buried {
    /// They are.
    Yes(Group),
    /// This block of theirs cannot be read as rows: token, rows and the block.
    Unreadable(String, Group, Box<Block>),
    /// The process drains and the store refuses: the next process sends them again.
    GaveUp,
}

/// One lane's.
pub(super) struct Feed {
    caller: Caller,
    store: Arc<Store>,
    buffer: Vec<u8>,
}

impl Feed {
    pub(super) fn new(worker: &Worker, store: Arc<Store>) -> Feed {
        Feed {
            caller: worker.caller(),
            store,
            buffer: Vec::new(),
        }
    }

    /// Writes changes to the journal, durably. False when the process drains and the disk refuses.
    pub(super) async fn announce(&mut self, writer: &Writer, changes: Vec<Change>) -> bool {
        let changes = Arc::new(changes);
        loop {
            let (store, given) = (Arc::clone(&self.store), Arc::clone(&changes));
            match self.caller.run(move || store.announce(&given)).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(%error, "the journal cannot be written: nothing is inserted until it can");
                    if writer.finished.get() {
                        return false;
                    }
                    runtime::sleep(DISK_RETRY_PAUSE).await;
                }
            }
        }
    }

    /// An INSERT ended. When the disk refuses while the process drains, the next process repeats it under its token.
    pub(super) async fn close(&mut self, writer: &Writer, token: String, end: End, parts: Vec<Part>) {
        let given = Arc::new((token, parts));
        loop {
            let (store, closed) = (Arc::clone(&self.store), Arc::clone(&given));
            let result = self
                .caller
                .run(move || store.close(&closed.0, end, &closed.1))
                .await;
            let Err(error) = result else { return };
            tracing::error!(%error, "the journal cannot be written: the log keeps blocks that are inserted");
            if writer.finished.get() {
                return;
            }
            runtime::sleep(DISK_RETRY_PAUSE).await;
        }
    }

    /// Puts rows into the dead-letter store. Gives them back when they cannot be read as rows, or when the store refuses while
    /// the process drains.
    pub(super) async fn bury(
        &mut self,
        writer: &Writer,
        token: String,
        group: Group,
        code: i32,
        reason: String,
    ) -> Buried {
        let time_unix_ms = writer.clock.unix_ns() / 1_000_000;
        let given = Arc::new((token, group.parts.clone(), reason));
        loop {
            let (store, buried) = (Arc::clone(&self.store), Arc::clone(&given));
            let result = self
                .caller
                .run(move || {
                    let (token, parts, reason) = &*buried;
                    store.bury(token, parts, code, reason, time_unix_ms)
                })
                .await;
            match result {
                Ok(()) => return Buried::Yes(group),
                Err(ReadError::Damaged(block)) => {
                    return Buried::Unreadable(given.0.clone(), group, block);
                }
                Err(ReadError::Disk(error)) => {
                    tracing::error!(%error, "the dead-letter store cannot be written: the table's rows wait");
                    if writer.finished.get() {
                        return Buried::GaveUp;
                    }
                    runtime::sleep(DISK_RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Sets a damaged block aside.
    pub(super) async fn set_aside(&mut self, writer: &Writer, block: Block, changes: Vec<Change>) {
        let given = Arc::new((block, changes));
        loop {
            let (store, lost) = (Arc::clone(&self.store), Arc::clone(&given));
            let Err(error) = self.caller.run(move || store.set_aside(&lost.0, &lost.1)).await else {
                return;
            };
            tracing::error!(%error, "the journal cannot be written: a damaged block waits to be set aside");
            if writer.finished.get() {
                return;
            }
            runtime::sleep(DISK_RETRY_PAUSE).await;
        }
    }

    /// Reads the first parts from the log, as many as make one read: how many, the bytes and where each part's lie.
    pub(super) async fn read<'f>(
        &'f mut self,
        parts: &[Part],
    ) -> Result<(usize, &'f [u8], Vec<Range<usize>>), ReadError> {
        let mut bytes = 0;
        let more = parts.iter().take_while(|part| {
            bytes += u64::from(part.block.frames_bytes);
            bytes <= READ_BYTES
        });
        let count = more.count().max(1);
        let taken = parts[..count].to_vec();
        let store = Arc::clone(&self.store);
        let mut buffer = std::mem::take(&mut self.buffer);
        let (buffer, ranges) = self
            .caller
            .run(move || {
                let ranges = store.read(&taken, &mut buffer);
                (buffer, ranges)
            })
            .await;
        self.buffer = buffer;
        Ok((count, &self.buffer, ranges?))
    }
}
