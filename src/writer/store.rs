//! The writer's side of the disk: journal, reading blocks back, deleting segments. Everything here blocks and runs on the
//! writer's worker thread.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::group::Part;
use crate::block::{Block, BlockId};
use crate::clickhouse::frame::FrameEncoder;
use crate::column::rows::Rows;
use crate::dead_letter::{DeadLetters, Letter, Totals};
use crate::ingest::KeyLog;
use crate::wal::commit::BLOCK_HEAD_BYTES;
use crate::wal::disk::{Disk, DiskFile, read_full_at, write_all_at};
use crate::wal::journal::{Change, End, Journal};
use crate::wal::record::{self, Found};
use crate::wal::segment::{Segment, SegmentId};

/// Segments of the log that are kept open for reading.
const OPEN_SEGMENTS_MAX: usize = 16;

/// What the writer keeps on disk.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    journal: Mutex<Journal>,
    dead_letters: Mutex<DeadLetters>,
    /// Holds the idempotency keys of segments that are deleted.
    key_log: Arc<Mutex<KeyLog>>,
    /// The segment of each settled block that still has its claim.
    settled: Mutex<Vec<Arc<Segment>>>,
    quarantine: PathBuf,
    /// Segments that were read last, the most recent at the end. A backlog has thousands: not all can be open.
    open: Mutex<Vec<(SegmentId, Arc<dyn DiskFile>)>>,
    /// The block that was read last for some of its rows: the next rows are likely of the same.
    last_cut: Mutex<Option<(BlockId, Arc<Rows>)>>,
}

/// Why a block cannot be sent.
#[derive(Debug)]
pub enum ReadError {
    /// The disk refuses; perhaps for a while.
    Disk(io::Error),
    /// What lies there is not what was written.
    Damaged(Box<Block>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Disk(error) => write!(f, "the write-ahead log cannot be read: {error}"),
            ReadError::Damaged(block) => write!(f, "block {} is damaged in the write-ahead log", block.id),
        }
    }
}

impl Store {
    /// On `disk`, with what was recovered.
    pub fn new(
        disk: Arc<dyn Disk>,
        journal: Journal,
        dead_letters: DeadLetters,
        key_log: Arc<Mutex<KeyLog>>,
        quarantine: PathBuf,
    ) -> Store {
        Store {
            disk,
            journal: Mutex::new(journal),
            dead_letters: Mutex::new(dead_letters),
            key_log,
            settled: Mutex::default(),
            quarantine,
            open: Mutex::default(),
            last_cut: Mutex::new(None),
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no holder of this lock panics")
    }

    /// What the dead-letter store holds now. Looks at the disk, because commands change it as well.
    pub fn dead_letters(&self) -> Totals {
        let mut store = self.dead_letters.lock().expect("no holder of this lock panics");
        store.refresh().unwrap_or_else(|_| store.totals())
    }

    /// Writes changes that must be durable before what they tell of happens.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub fn announce(&self, changes: &[Change]) -> io::Result<()> {
        self.journal().append(changes, true)
    }

    /// An INSERT ended: its blocks leave the log, and segments without any are deleted.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub fn close(&self, token: &str, end: End, parts: &[Part]) -> io::Result<()> {
        let change = Change::Close {
            token: token.to_owned(),
            end,
        };
        // The end of an INSERT need not be durable: at worst it is repeated under its token. Dead letters are not
        // ClickHouse's to drop.
        let blocks = parts.iter().map(|part| &part.block);
        self.settle(&[change], end == End::DeadLettered, blocks)
    }

    /// Appends changes, and lets go of those of `blocks` that they settle: a block whose rows end apart is settled with the
    /// last of them.
    fn settle<'a>(
        &self,
        changes: &[Change],
        sync: bool,
        blocks: impl Iterator<Item = &'a Block>,
    ) -> io::Result<()> {
        let mut journal = self.journal();
        let unsettled: Vec<&Block> = blocks
            .filter(|block| !journal.state().is_settled(block.id))
            .collect();
        journal.append(changes, sync)?;
        let mut settled = self.settled.lock().expect("no holder of this lock panics");
        for block in unsettled {
            if journal.state().is_settled(block.id) {
                settled.push(Arc::clone(&block.segment));
            }
        }
        self.release(&mut journal, &mut settled);
        Ok(())
    }

    /// Gives up the claims of settled blocks, and deletes the segments that have no other.
    fn release(&self, journal: &mut Journal, settled: &mut Vec<Arc<Segment>>) {
        settled.sort_unstable_by_key(|segment| segment.id);
        let of_segments = settled.chunk_by(|a, b| a.id == b.id);
        let mut last_blocks =
            of_segments.filter(|of_segment| of_segment[0].blocks() <= of_segment.len() as u64);
        // Before the blocks are gone it must be certain that nobody will look for them, and that the keys among them are
        // kept elsewhere. The last block of a segment that still takes some counts as well: the log deletes it when it goes
        // on to the next, and knows nothing of the journal.
        if last_blocks.next().is_some() {
            let mut keys = self.key_log.lock().expect("no holder of this lock panics");
            if let Err(error) = journal.sync().and_then(|()| keys.settle()) {
                tracing::warn!(%error, "the journal or the idempotency keys cannot be made durable; segments of the log are kept");
                return;
            }
        }
        for segment in settled.drain(..) {
            if !segment.release_block() {
                continue;
            }
            self.open
                .lock()
                .expect("no holder of this lock panics")
                .retain(|(id, _)| *id != segment.id);
            if segment.delete(&*self.disk) {
                journal.forget_range(segment.id.boot, segment.id.core, segment.sequences());
            }
        }
    }

    /// Appends the frames of `parts` to `buffer`, which is emptied first; where each part's lie.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, parts: &[Part], buffer: &mut Vec<u8>) -> Result<Vec<Range<usize>>, ReadError> {
        buffer.clear();
        let mut ranges = Vec::with_capacity(parts.len());
        for part in parts {
            let start = buffer.len();
            if part.is_whole() {
                self.read_block(&part.block, buffer)?;
            } else {
                let rows = self.rows(&part.block)?;
                let range = part.rows.start as usize..part.rows.end as usize;
                rows.cut(range, &mut FrameEncoder::new(), buffer);
            }
            ranges.push(start..buffer.len());
        }
        Ok(ranges)
    }

    fn open(&self, segment: &Segment) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.open.lock().expect("no holder of this lock panics");
        let file = match open.iter().position(|(id, _)| *id == segment.id) {
            Some(index) => open.remove(index).1,
            None => self.disk.open(segment.path())?,
        };
        if open.len() >= OPEN_SEGMENTS_MAX {
            open.remove(0);
        }
        open.push((segment.id, Arc::clone(&file)));
        Ok(file)
    }

    /// Appends a block's frames.
    fn read_block(&self, block: &Block, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        let start = buffer.len();
        let payload_bytes = BLOCK_HEAD_BYTES + block.frames_bytes as usize;
        let record_bytes = (record::HEADER_BYTES + payload_bytes).next_multiple_of(record::ALIGNMENT);
        buffer.resize(start + record_bytes, 0);
        let read = self
            .open(&block.segment)
            .and_then(|file| read_full_at(&*file, &mut buffer[start..], block.record_at));
        if let Err(error) = read {
            buffer.truncate(start);
            return Err(ReadError::Disk(error));
        }
        match record::read(&buffer[start..], 0, block.segment.id.salt()) {
            Found::Record(record, _) if record.payload.len() == payload_bytes => {}
            _ => {
                buffer.truncate(start);
                return Err(ReadError::Damaged(Box::new(block.clone())));
            }
        }
        let frames_at = start + record::HEADER_BYTES + BLOCK_HEAD_BYTES;
        buffer.copy_within(frames_at..frames_at + block.frames_bytes as usize, start);
        buffer.truncate(start + block.frames_bytes as usize);
        Ok(())
    }

    fn rows(&self, block: &Block) -> Result<Arc<Rows>, ReadError> {
        let mut last = self.last_cut.lock().expect("no holder of this lock panics");
        if let Some((id, rows)) = &*last
            && *id == block.id
        {
            return Ok(Arc::clone(rows));
        }
        let mut frames = Vec::new();
        self.read_block(block, &mut frames)?;
        // Frames whose checksum holds and that do not decode were built wrong, not damaged; they cannot be told apart row
        // by row either way.
        let rows = Rows::read(&frames).map_err(|error| {
            tracing::error!(block = %block.id, %error, "a block of the log cannot be read row by row");
            ReadError::Damaged(Box::new(block.clone()))
        })?;
        let rows = Arc::new(rows);
        *last = Some((block.id, Arc::clone(&rows)));
        Ok(rows)
    }

    /// Puts every row of `parts` into the dead-letter store, durably, and ends the INSERT they were announced for.
    ///
    /// # Errors
    /// A block cannot be read, or the store cannot be written: nothing has changed for the journal, and letters that were
    /// written already are not written twice.
    pub fn bury(
        &self,
        token: &str,
        parts: &[Part],
        code: i32,
        reason: &str,
        time_unix_ms: i64,
    ) -> Result<(), ReadError> {
        let mut letters = Vec::new();
        for part in parts {
            let rows = self.rows(&part.block)?;
            for row in part.rows.clone() {
                let mut json = Vec::new();
                rows.put_json(row as usize, &mut json);
                letters.push(Letter {
                    key: format!("{}-{row}", part.block.id),
                    time_unix_ms,
                    table: part.block.info.schema.name.plain(),
                    code,
                    reason: reason.to_owned(),
                    row: String::from_utf8_lossy(&json).into_owned(),
                });
            }
        }
        self.dead_letters
            .lock()
            .expect("no holder of this lock panics")
            .append(&letters)
            .map(drop)
            .map_err(ReadError::Disk)?;
        self.close(token, End::DeadLettered, parts)
            .map_err(ReadError::Disk)
    }

    /// Sets a damaged block aside and replaces the INSERT it was announced in by others without it.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub fn set_aside(&self, block: &Block, changes: &[Change]) -> io::Result<()> {
        let name = format!("{}-{}.damaged", block.segment.id.file_name(), block.record_at);
        let bytes = record::HEADER_BYTES + BLOCK_HEAD_BYTES + block.frames_bytes as usize;
        let mut copy = vec![0; bytes];
        let copied = self.open(&block.segment).and_then(|segment| {
            let read = read_full_at(&*segment, &mut copy, block.record_at)?;
            let file = self.disk.create(&self.quarantine.join(&name), read as u64)?;
            write_all_at(&*file, &copy[..read], 0)
        });
        if let Err(error) = copied {
            tracing::warn!(%name, %error, "cannot set a damaged block aside");
        }
        self.settle(changes, true, std::iter::once(block))
    }
}
