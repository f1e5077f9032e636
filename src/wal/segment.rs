//! A file of the log as its readers and its writer share it, and the space all of them may take.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::Disk;

/// Extension of segments.
pub const EXTENSION: &str = "wal";

/// Which segment: part of its name, and the salt of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId {
    /// Drawn at random by the process that wrote it.
    pub boot: u64,
    /// Ingest core of that process.
    pub core: u16,
    /// Counts the core's segments.
    pub index: u32,
}

impl SegmentId {
    /// The file's name.
    pub fn file_name(self) -> String {
        format!(
            "{:016x}-{:04x}-{:08x}.{EXTENSION}",
            self.boot, self.core, self.index
        )
    }

    /// Reads a file's name.
    pub fn of_path(path: &Path) -> Option<SegmentId> {
        if path.extension()? != EXTENSION {
            return None;
        }
        let mut parts = path.file_stem()?.to_str()?.split('-');
        let id = SegmentId {
            boot: u64::from_str_radix(parts.next()?, 16).ok()?,
            core: u16::from_str_radix(parts.next()?, 16).ok()?,
            index: u32::from_str_radix(parts.next()?, 16).ok()?,
        };
        // One spelling for one segment.
        (parts.next().is_none() && path.file_name()?.to_str()? == id.file_name()).then_some(id)
    }

    /// What sets its records apart from those of any other file.
    pub fn salt(self) -> u64 {
        self.boot
            .wrapping_add(u64::from(self.core) << 32)
            .wrapping_add(u64::from(self.index))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What all segments together may take: bytes on the disk, and blocks in the writer's memory.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicU64,
    bytes_max: u64,
    blocks: AtomicU64,
    blocks_max: u64,
}

impl Budget {
    /// Nothing taken yet.
    pub fn new(bytes_max: u64, blocks_max: u64) -> Budget {
        Budget {
            used_bytes: AtomicU64::new(0),
            bytes_max,
            blocks: AtomicU64::new(0),
            blocks_max,
        }
    }

    /// Blocks that are not settled. Each takes a little memory of the writer's.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Whether one more block may wait.
    pub fn has_room_for_blocks(&self) -> bool {
        self.blocks() < self.blocks_max
    }

    /// Bytes of all segments now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes room for a segment, if there is some.
    pub fn take(&self, bytes: u64) -> bool {
        // Relaxed: the number is all there is to it.
        self.used_bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let then = used.checked_add(bytes)?;
                (then <= self.bytes_max).then_some(then)
            })
            .is_ok()
    }

    /// Counts a segment that was found at start, whether there is room or not.
    pub fn count(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives a segment's room back.
    pub fn give(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "what is given back was taken");
    }
}

/// A segment with blocks that are not settled, or that still takes some. There may be thousands, so it holds no open file.
#[derive(Debug)]
pub struct Segment {
    /// Which one.
    pub id: SegmentId,
    path: PathBuf,
    bytes: u64,
    /// One for each unsettled block, and one while the log still appends.
    claims: AtomicU64,
    /// Those of blocks.
    blocks: AtomicU64,
    /// Sequences of its blocks: the first, and one beyond the last.
    first: AtomicU64,
    end: AtomicU64,
    budget: Arc<Budget>,
    /// Segments that stay as long as this one does. Each has a claim.
    kept: Mutex<Vec<Arc<Segment>>>,
}

impl Segment {
    /// A segment with one claim, its creator's. Its bytes are in the budget already.
    pub fn new(id: SegmentId, path: PathBuf, bytes: u64, budget: Arc<Budget>) -> Segment {
        Segment {
            id,
            path,
            bytes,
            claims: AtomicU64::new(1),
            blocks: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(0),
            budget,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.kept.lock().expect("no holder of this lock panics")
    }

    /// Keeps `other` for as long as this segment is there.
    pub fn keep(&self, other: &Arc<Segment>) {
        let mut kept = self.kept();
        if kept.iter().all(|known| known.id != other.id) {
            // Relaxed: recovery holds a claim of its own.
            other.claims.fetch_add(1, Ordering::Relaxed);
            kept.push(Arc::clone(other));
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One more block that keeps it.
    pub fn claim(&self, sequence: u64) {
        // Relaxed: whoever claims holds a claim already, and only they claim.
        let before = self.claims.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a segment without claims is deleted");
        self.first.fetch_min(sequence, Ordering::Relaxed);
        self.end.fetch_max(sequence.saturating_add(1), Ordering::Relaxed);
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.budget.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Blocks that have a claim. More may come as long as the log appends; fewer there are only when their holder
    /// releases one.
    pub fn blocks(&self) -> u64 {
        // Relaxed: who has been given a block has seen its claim.
        self.blocks.load(Ordering::Relaxed)
    }

    /// A block is settled; true when nothing keeps the segment any more, and then the caller calls
    /// [`Segment::delete`].
    #[must_use]
    pub fn release_block(&self) -> bool {
        self.blocks.fetch_sub(1, Ordering::Relaxed);
        self.budget.blocks.fetch_sub(1, Ordering::Relaxed);
        self.release()
    }

    /// Its creator's claim is given up; true when nothing keeps the segment any more.
    #[must_use]
    pub fn release(&self) -> bool {
        // AcqRel: who deletes has seen everything the other claims' holders did with the file.
        let before = self.claims.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a claim is released once");
        before == 1
    }

    /// Sequences its blocks lie in, to be forgotten when it is deleted. None when it keeps others: they may hold blocks of
    /// the same names, and the next start forgets what is gone.
    pub fn sequences(&self) -> std::ops::Range<u64> {
        if !self.kept().is_empty() {
            return 0..0;
        }
        self.first.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }

    /// Deletes the file and gives its space back; false when the disk refused. Blocks for as long as the disk takes.
    ///
    /// A file that cannot be deleted is tried again at the next start: all its blocks are settled in the journal.
    pub fn delete(&self, disk: &dyn Disk) -> bool {
        if let Err(error) = disk.remove(&self.path) {
            tracing::warn!(segment = %self.path.display(), %error, "cannot delete a segment of the log");
            return false;
        }
        self.budget.give(self.bytes);
        for kept in &*self.kept() {
            if kept.release() {
                kept.delete(disk);
            }
        }
        true
    }
}

/// A segment without bytes, for tests of what only hands blocks around.
#[cfg(test)]
pub(crate) fn empty_segment() -> Arc<Segment> {
    let id = SegmentId {
        boot: 0,
        core: 0,
        index: 0,
    };
    let budget = Arc::new(Budget::new(0, u64::MAX));
    Arc::new(Segment::new(id, PathBuf::new(), 0, budget))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not() {
        let id = SegmentId {
            boot: 0xdead_beef,
            core: 7,
            index: 42,
        };
        let name = id.file_name();
        assert_eq!(SegmentId::of_path(Path::new(&name)), Some(id));
        for other in [
            "x.wal",
            "lost+found",
            "00000000deadbeef-0007-0000002a.tmp",
            "deadbeef-7-2a.wal",
            "00000000deadbeef-0007-0000002a-1.wal",
        ] {
            assert_eq!(SegmentId::of_path(Path::new(other)), None, "{other}");
        }
        assert_ne!(id.salt(), SegmentId { index: 43, ..id }.salt());
        assert_ne!(id.salt(), SegmentId { core: 8, ..id }.salt());
    }

    #[test]
    fn the_budget_is_kept() {
        let budget = Budget::new(100, 1);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert!(budget.take(40));
        budget.give(60);
        assert_eq!(budget.used_bytes(), 40);
        budget.count(1000);
        assert!(!budget.take(1));
    }
}
