//! Reads every segment back at start: what is whole is replayed, a torn tail is cut, damage is set aside.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::commit::BlockHead;
use super::disk::{Disk, DiskFile, read_whole, write_all_at};
use super::record::{self, Found, Kind};
use super::segment::{Budget, Segment, SegmentId};
use crate::block::{Block, BlockId};
use crate::schema::{Schema, TableSchema};

/// What the log held.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Every block, settled or not, in the order it was sealed by its core.
    pub blocks: Vec<Block>,
    /// Payloads of the idempotency keys, in the order they were logged.
    pub keys: Vec<Vec<u8>>,
    /// Every segment; each has a claim of recovery's own, and one for each of its blocks.
    pub segments: Vec<Arc<Segment>>,
    /// Writes at the end of a segment that had not finished: nothing of them was acknowledged.
    pub torn_tails: u64,
    /// Pieces between records that are none; their bytes are in quarantine.
    pub damaged: u64,
    /// Blocks whose record is whole but of no use: their schema is damaged, say. They are in quarantine too.
    pub unreadable: u64,
}

/// Reads all segments in `directory`.
///
/// # Errors
/// The disk cannot be read, or what must be set aside cannot be written.
pub fn recover(
    disk: &dyn Disk,
    directory: &Path,
    quarantine: &Path,
    budget: &Arc<Budget>,
) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let mut names = HashMap::new();
    // One handle for each schema, so that blocks of one can be told by its pointer.
    let mut schemas: HashMap<u64, Known> = HashMap::new();
    for path in disk.list(directory)? {
        let Some(id) = SegmentId::of_path(&path) else {
            continue;
        };
        let file = disk.open(&path)?;
        let bytes = read_whole(&*file)?;
        // A process that was killed leaves commits that are read and not durable. What is inserted from here on must
        // still be here after the next crash: an INSERT without one of its blocks cannot be repeated.
        file.sync()?;
        let size = bytes.len() as u64;
        budget.count(size);
        let segment = Arc::new(Segment::new(id, path, size, Arc::clone(budget)));
        let mut scan = Scan {
            bytes: &bytes,
            file: &*file,
            segment: &segment,
            disk,
            quarantine,
            schemas: &mut schemas,
            commit: Vec::new(),
            commit_is_damaged: false,
            recovered: &mut recovered,
            names: &mut names,
        };
        scan.run()?;
        recovered.segments.push(segment);
    }
    Ok(recovered)
}

/// A schema, and the segment that was seen to have it last.
struct Known {
    schema: Schema,
    segment: Arc<Segment>,
}

struct Scan<'a> {
    bytes: &'a [u8],
    file: &'a dyn DiskFile,
    segment: &'a Arc<Segment>,
    disk: &'a dyn Disk,
    quarantine: &'a Path,
    schemas: &'a mut HashMap<u64, Known>,
    /// Records of a commit whose end was not seen yet: where each lies.
    commit: Vec<Entry>,
    /// Records of it are damaged.
    commit_is_damaged: bool,
    recovered: &'a mut Recovered,
    /// Where in `recovered` the blocks seen so far are.
    names: &'a mut HashMap<BlockId, usize>,
}

#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    at: usize,
    payload_at: usize,
    payload_bytes: usize,
}

impl Scan<'_> {
    fn run(&mut self) -> io::Result<()> {
        let salt = self.segment.id.salt();
        let (mut at, mut commit_at) = (0, 0);
        loop {
            match record::read(self.bytes, at, salt) {
                Found::Record(record, next) => {
                    if record.kind == Kind::Schema {
                        self.take_schema(record.payload);
                    } else {
                        self.commit.push(Entry {
                            kind: record.kind,
                            at,
                            payload_at: at + record::HEADER_BYTES,
                            payload_bytes: record.payload.len(),
                        });
                    }
                    if record.left == 0 {
                        self.take_commit()?;
                        commit_at = next;
                    }
                    at = next;
                }
                Found::Damage(next) => {
                    self.set_aside(at..next)?;
                    self.recovered.damaged += 1;
                    self.commit_is_damaged = true;
                    at = next;
                }
                Found::End if self.commit.is_empty() => return Ok(()),
                // Nobody was told of a commit that is not whole; keeping a part of it would keep a part of a request.
                Found::End | Found::Torn => return self.cut(commit_at),
            }
        }
    }

    fn take_schema(&mut self, payload: &[u8]) {
        if let Some(schema) = TableSchema::from_json(payload) {
            let known = self.schemas.entry(schema.fingerprint).or_insert_with(|| Known {
                schema: Arc::new(schema),
                segment: Arc::clone(self.segment),
            });
            known.segment = Arc::clone(self.segment);
        }
    }

    fn take_commit(&mut self) -> io::Result<()> {
        let damaged = std::mem::take(&mut self.commit_is_damaged);
        for entry in std::mem::take(&mut self.commit) {
            let payload = &self.bytes[entry.payload_at..entry.payload_at + entry.payload_bytes];
            match entry.kind {
                Kind::Block => self.take_block(entry, payload)?,
                // Of a damaged commit rows may be missing: who repeats its request must not be told that all is well.
                Kind::Key if damaged => {}
                Kind::Key => self.recovered.keys.push(payload.to_vec()),
                Kind::Schema | Kind::Checkpoint | Kind::Change => {}
            }
        }
        Ok(())
    }

    fn take_block(&mut self, entry: Entry, payload: &[u8]) -> io::Result<()> {
        let head = BlockHead::read(payload);
        let known = head.and_then(|head| self.schemas.get(&head.fingerprint));
        let (Some(head), Some(Known { schema, segment })) = (head, known) else {
            self.recovered.unreadable += 1;
            return self.set_aside(entry.at..entry.payload_at + entry.payload_bytes);
        };
        if segment.id != self.segment.id {
            // The block cannot be read without it.
            self.segment.keep(segment);
        }
        let known = self.names.get(&head.id).copied();
        let first = known.map(|index| Arc::clone(&self.recovered.blocks[index].segment));
        if let Some(first) = &first {
            if first.id == self.segment.id || first.id == segment.id {
                return Ok(());
            }
            // As long as the first copy is there, so is this one, or at least the journal knows that it is settled.
            first.keep(self.segment);
        }
        self.segment.claim(head.id.sequence);
        let block = Block {
            id: head.id,
            info: head.info(Arc::clone(schema)),
            segment: Arc::clone(self.segment),
            record_at: entry.at as u64,
            frames_bytes: head.frames_bytes,
            awaited: None,
        };
        match (known, first) {
            // The commit was written again after an error: the first copy may not be durable, whatever a sync says now.
            (Some(index), Some(first)) => {
                self.recovered.blocks[index] = block;
                let is_last = first.release_block();
                assert!(!is_last, "recovery has a claim of its own");
            }
            _ => {
                self.names.insert(head.id, self.recovered.blocks.len());
                self.recovered.blocks.push(block);
            }
        }
        Ok(())
    }

    fn cut(&mut self, at: usize) -> io::Result<()> {
        self.recovered.torn_tails += 1;
        tracing::warn!(
            segment = %self.segment.path().display(),
            at,
            "the log's tail is torn: a write had not finished and nobody was told of it; it is cut off"
        );
        if let Err(error) = self.file.truncate(at as u64) {
            tracing::warn!(segment = %self.segment.path().display(), %error, "cannot cut the log's tail");
        }
        Ok(())
    }

    /// Copies damaged bytes to a file of their own, for whoever wants to look.
    fn set_aside(&self, range: std::ops::Range<usize>) -> io::Result<()> {
        let name = format!("{}-{}.damaged", self.segment.id.file_name(), range.start);
        let path = self.quarantine.join(name);
        tracing::error!(
            segment = %self.segment.path().display(),
            at = range.start,
            bytes = range.len(),
            quarantine = %path.display(),
            "the log is damaged: rows in these bytes are lost, the rest is replayed"
        );
        let bytes = &self.bytes[range];
        let written = match self.disk.create(&path, bytes.len() as u64) {
            // Set aside by an earlier start.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created.and_then(|file| {
                write_all_at(&*file, bytes, 0)?;
                file.sync()
            }),
        };
        // The segment itself stays as long as blocks of it wait: failing to start would cost more than this copy.
        if let Err(error) = written {
            tracing::warn!(quarantine = %path.display(), %error, "cannot set damaged bytes aside");
        }
        Ok(())
    }
}
