//! Which blocks went into which INSERT under which token, and how it ended: written before and after each.
//!
//! ClickHouse drops a repeated INSERT only when it brings the same blocks in the same order under the same token. So
//! the grouping is durable before the first byte is sent ([`Change::Open`]), and after a crash of either side the same group
//! is sent again. A refused group is replaced by smaller ones in one step ([`Change::Split`]): a crash leaves either the
//! whole or the parts, never both.
//!
//! [`State`] is plain data that changes are applied to; [`Journal`] is the file behind it. A file begins with a checkpoint
//! of the whole state and goes on with changes; when it is full, another begins.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, read_whole, write_all_at};
use super::record::{self, Found, Kind};
use crate::block::BlockId;
use crate::schema::TableName;

/// Rows of a block that go into one INSERT.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// The block.
    #[serde(with = "id_form")]
    pub block: BlockId,
    /// Rows of the block in all.
    pub of: u32,
    /// Those that are meant.
    pub rows: Range<u32>,
}

impl Piece {
    /// All rows of a block.
    pub fn whole(block: BlockId, rows: u32) -> Piece {
        Piece {
            block,
            of: rows,
            rows: 0..rows,
        }
    }

    /// Whether it is the block as it was sealed.
    pub fn is_whole(&self) -> bool {
        self.rows == (0..self.of)
    }

    /// Rows that are meant.
    pub fn len(&self) -> u32 {
        self.rows.end - self.rows.start
    }

    /// No rows are meant.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows of a block that can be.
    fn is_sane(&self) -> bool {
        self.rows.start <= self.rows.end && self.rows.end <= self.of && self.block.sequence < u64::MAX
    }
}

/// One INSERT that was announced and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Deduplication token: no other INSERT has it.
    pub token: String,
    /// Where it goes.
    pub table: TableName,
    /// What it brings, in this order.
    pub pieces: Vec<Piece>,
    /// The server, `host:port`, that it goes or went to, if that server alone would know it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

impl Announced {
    fn is_sane(&self) -> bool {
        self.pieces.iter().all(Piece::is_sane)
    }
}

/// How an INSERT ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// ClickHouse has confirmed it.
    Inserted,
    /// Its rows are in the dead-letter store.
    DeadLettered,
}

/// A change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// This INSERT is about to be sent.
    Open(Announced),
    /// It is about to be sent to another server than was announced: the other one does not have it.
    Send {
        /// Its token.
        token: String,
        /// The server.
        server: String,
    },
    /// It ended.
    Close {
        /// Its token.
        token: String,
        /// How.
        end: End,
    },
    /// It was refused and is replaced by these, which bring the same rows.
    Split {
        /// Its token.
        token: String,
        /// What takes its place.
        into: Vec<Announced>,
    },
    /// A block is settled without an INSERT: it cannot be read from the log, and its bytes are in quarantine.
    Lost {
        /// The block.
        #[serde(with = "id_form")]
        block: BlockId,
    },
}

/// Rows of a table by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// ClickHouse has confirmed them.
    pub inserted: u64,
    /// They are in the dead-letter store.
    pub dead_lettered: u64,
}

/// Where every block stands that left the log for an INSERT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Announced and not ended, by token.
    pub open: BTreeMap<String, Announced>,
    /// Sequences of settled blocks, by process and core.
    settled: BTreeMap<(u64, u16), Ranges>,
    /// Rows left of blocks whose rows end apart.
    partial: HashMap<BlockId, u32>,
    /// Rows that ended, by table.
    pub ended: BTreeMap<TableName, Ended>,
}

impl State {
    /// Applies a change. One that does not fit the state changes nothing; then the journal is not of this log.
    pub fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Open(announced) => {
                if self.open.contains_key(&announced.token) || !announced.is_sane() {
                    return false;
                }
                self.open.insert(announced.token.clone(), announced.clone());
            }
            Change::Send { token, server } => {
                let Some(announced) = self.open.get_mut(token) else {
                    return false;
                };
                announced.server = Some(server.clone());
            }
            Change::Close { token, end } => {
                let Some(announced) = self.open.remove(token) else {
                    return false;
                };
                let rows: u64 = announced.pieces.iter().map(|piece| u64::from(piece.len())).sum();
                let ended = self.ended.entry(announced.table).or_default();
                match end {
                    End::Inserted => ended.inserted = ended.inserted.saturating_add(rows),
                    End::DeadLettered => ended.dead_lettered = ended.dead_lettered.saturating_add(rows),
                }
                for piece in &announced.pieces {
                    self.settle(piece);
                }
            }
            Change::Split { token, into } => {
                if !into.iter().all(Announced::is_sane) || self.open.remove(token).is_none() {
                    return false;
                }
                for announced in into {
                    self.open.insert(announced.token.clone(), announced.clone());
                }
            }
            Change::Lost { block } if block.sequence == u64::MAX => return false,
            Change::Lost { block } => self.settle_block(*block),
        }
        true
    }

    fn settle(&mut self, piece: &Piece) {
        if piece.is_whole() {
            return self.settle_block(piece.block);
        }
        let left = self.partial.entry(piece.block).or_insert(piece.of);
        *left -= piece.len().min(*left);
        if *left == 0 {
            self.partial.remove(&piece.block);
            self.settle_block(piece.block);
        }
    }

    fn settle_block(&mut self, block: BlockId) {
        self.settled
            .entry((block.boot, block.core))
            .or_default()
            .insert(block.sequence);
    }

    /// Whether every row of the block has ended.
    pub fn is_settled(&self, block: BlockId) -> bool {
        self.settled
            .get(&(block.boot, block.core))
            .is_some_and(|ranges| ranges.contains(block.sequence))
    }

    /// Forgets the blocks that are not among those that exist: their segments are deleted.
    pub fn forget_others(&mut self, existing: impl IntoIterator<Item = BlockId>) {
        // Not block by block of what is settled: a process may have settled billions.
        let (mut settled, mut partial) = (BTreeMap::<_, Ranges>::new(), HashMap::new());
        for block in existing {
            if self.is_settled(block) {
                let ranges = settled.entry((block.boot, block.core)).or_default();
                ranges.insert(block.sequence);
            } else if let Some(left) = self.partial.get(&block) {
                partial.insert(block, *left);
            }
        }
        (self.settled, self.partial) = (settled, partial);
    }

    /// Forgets settled blocks of one core from `sequences`: their segment is deleted.
    pub fn forget_range(&mut self, boot: u64, core: u16, sequences: Range<u64>) {
        if let Some(ranges) = self.settled.get_mut(&(boot, core)) {
            ranges.remove(sequences);
            if ranges.0.is_empty() {
                self.settled.remove(&(boot, core));
            }
        }
    }

    fn to_kept(&self) -> Kept {
        Kept {
            open: self.open.values().cloned().collect(),
            settled: self
                .settled
                .iter()
                .map(|(&(boot, core), ranges)| (boot, core, ranges.0.iter().map(|(a, b)| (*a, *b)).collect()))
                .collect(),
            partial: self
                .partial
                .iter()
                .map(|(block, left)| (block.boot, block.core, block.sequence, *left))
                .collect(),
            ended: self
                .ended
                .iter()
                .map(|(table, ended)| (table.clone(), *ended))
                .collect(),
        }
    }

    /// `None` when it is no state that can be.
    fn from_kept(kept: Kept) -> Option<State> {
        kept.open.iter().all(Announced::is_sane).then(|| State {
            open: kept
                .open
                .into_iter()
                .map(|announced| (announced.token.clone(), announced))
                .collect(),
            settled: kept
                .settled
                .into_iter()
                .map(|(boot, core, ranges)| ((boot, core), Ranges(ranges.into_iter().collect())))
                .collect(),
            partial: kept
                .partial
                .into_iter()
                .map(|(boot, core, sequence, left)| (BlockId { boot, core, sequence }, left))
                .collect(),
            ended: kept.ended.into_iter().collect(),
        })
    }
}

/// Process, core, and the runs of settled sequences.
type KeptRanges = (u64, u16, Vec<(u64, u64)>);

/// The state as a checkpoint holds it.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    open: Vec<Announced>,
    settled: Vec<KeptRanges>,
    partial: Vec<(u64, u16, u64, u32)>,
    ended: Vec<(TableName, Ended)>,
}

/// A block's name in the journal: three numbers.
mod id_form {
    use super::BlockId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(id: &BlockId, serializer: S) -> Result<S::Ok, S::Error> {
        (id.boot, id.core, id.sequence).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockId, D::Error> {
        let (boot, core, sequence) = Deserialize::deserialize(deserializer)?;
        Ok(BlockId { boot, core, sequence })
    }
}

/// A set of numbers that come mostly in runs: start to end (exclusive) of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn contains(&self, number: u64) -> bool {
        self.0
            .range(..=number)
            .next_back()
            .is_some_and(|(_, end)| number < *end)
    }

    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let mut end = number + 1;
        if let Some(after) = self.0.remove(&end) {
            end = after;
        }
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before == number => *before = end,
            _ => {
                self.0.insert(number, end);
            }
        }
    }

    fn remove(&mut self, gone: Range<u64>) {
        if gone.is_empty() {
            return;
        }
        let touched: Vec<(u64, u64)> = self
            .0
            .range(..gone.end)
            .filter(|(_, end)| **end > gone.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touched {
            self.0.remove(&start);
            if start < gone.start {
                self.0.insert(start, gone.start);
            }
            if end > gone.end {
                self.0.insert(gone.end, end);
            }
        }
    }
}

/// Size of a journal's file; a larger checkpoint gets a larger one.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

const EXTENSION: &str = "journal";

/// The state and its file. Its calls block for as long as the disk takes.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    state: State,
    file: Option<Open>,
    next_index: u64,
    /// Files that a newer one has replaced and that could not be removed yet.
    old: Vec<PathBuf>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    salt: u64,
    at: u64,
    bytes: u64,
}

impl Journal {
    /// Reads what is there and makes it durable: ends of INSERTs may not have been. Writes nothing before the first
    /// [`Journal::append`] or [`Journal::checkpoint`].
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> io::Result<Journal> {
        let mut state = State::default();
        let (mut next_index, mut old) = (0, Vec::new());
        for path in disk.list(directory)? {
            let Some(index) = index_of(&path) else { continue };
            next_index = index + 1;
            let file = disk.open(&path)?;
            replay(&read_whole(&*file)?, salt(index), &path, &mut state);
            file.sync()?;
            old.push(path);
        }
        Ok(Journal {
            disk,
            directory: directory.to_owned(),
            state,
            file: None,
            next_index,
            old,
            buffer: Vec::new(),
        })
    }

    /// What is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// See [`State::forget_others`]; takes effect in the file with the next checkpoint.
    pub fn forget_others(&mut self, existing: impl IntoIterator<Item = BlockId>) {
        self.state.forget_others(existing);
    }

    /// See [`State::forget_range`]; takes effect in the file with the next checkpoint.
    pub fn forget_range(&mut self, boot: u64, core: u16, sequences: Range<u64>) {
        self.state.forget_range(boot, core, sequences);
    }

    /// Applies changes, after they were written; with `sync` they are durable when this returns.
    ///
    /// Ends need not be: a lost one has its INSERT repeated under its token, which ClickHouse drops.
    ///
    /// # Errors
    /// The disk refuses. Nothing has changed then.
    ///
    /// # Panics
    /// When a change does not fit the state: the caller's mistake.
    pub fn append(&mut self, changes: &[Change], sync: bool) -> io::Result<()> {
        let result = self.try_append(changes, sync);
        if result.is_err() {
            self.leave_file();
            return result;
        }
        for change in changes {
            assert!(
                self.state.apply(change),
                "the journal is given changes that fit: {change:?}"
            );
        }
        Ok(())
    }

    fn try_append(&mut self, changes: &[Change], sync: bool) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let fits = |open: &Open, buffer: &mut Vec<u8>| {
            buffer.clear();
            for change in changes {
                put(buffer, Kind::Change, change, open.salt);
            }
            open.at + buffer.len() as u64 <= open.bytes
        };
        if !self.file.as_ref().is_some_and(|open| fits(open, &mut buffer)) {
            self.begin_file(buffer.len() as u64 + FILE_BYTES / 4)?;
            let open = self.file.as_ref().expect("it was just begun");
            assert!(fits(open, &mut buffer), "the file was made with room for them");
        }
        let open = self.file.as_mut().expect("it is open");
        write_all_at(&*open.file, &buffer, open.at)?;
        if sync {
            open.file.sync()?;
        }
        open.at += buffer.len() as u64;
        self.buffer = buffer;
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(open) = &self.file else { return Ok(()) };
        let result = open.file.sync();
        if result.is_err() {
            self.leave_file();
        }
        result
    }

    /// Writes no more to the open file: what is in it, or in a newer one that could not be made, is unknown. The checkpoint of
    /// the next file overrules both.
    fn leave_file(&mut self) {
        if let Some(open) = self.file.take() {
            self.old.push(open.path);
        }
    }

    /// Begins a new file with the state as it is, and removes the older ones.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn checkpoint(&mut self) -> io::Result<()> {
        let result = self.begin_file(FILE_BYTES / 4);
        if result.is_err() {
            self.leave_file();
        }
        result
    }

    fn begin_file(&mut self, room_bytes: u64) -> io::Result<()> {
        let index = self.next_index;
        self.next_index += 1;
        let path = self.directory.join(format!("{index:016x}.{EXTENSION}"));
        let mut checkpoint = Vec::new();
        put(
            &mut checkpoint,
            Kind::Checkpoint,
            &self.state.to_kept(),
            salt(index),
        );
        let at = checkpoint.len() as u64;
        let bytes = FILE_BYTES.max(2 * at + room_bytes);
        let file = self.disk.create(&path, bytes)?;
        let written = write_all_at(&*file, &checkpoint, 0).and_then(|()| file.sync());
        if let Err(error) = written {
            self.old.push(path);
            return Err(error);
        }
        if let Some(open) = self.file.replace(Open {
            file,
            path,
            salt: salt(index),
            at,
            bytes,
        }) {
            self.old.push(open.path);
        }
        let disk = &self.disk;
        self.old.retain(|path| match disk.remove(path) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(journal = %path.display(), %error, "cannot remove an old journal");
                true
            }
        });
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, kind: Kind, value: &impl Serialize, salt: u64) {
    let payload = serde_json::to_vec(value).expect("texts and numbers have a JSON form");
    record::put(out, kind, &payload, salt);
}

fn index_of(path: &Path) -> Option<u64> {
    if path.extension()? != EXTENSION {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

/// What sets a file's records apart from those of any other.
pub fn salt(index: u64) -> u64 {
    (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Applies a file's records to the state. Damage is told and passed over: what it hid is at worst sent again.
fn replay(bytes: &[u8], salt: u64, path: &Path, state: &mut State) {
    let mut at = 0;
    loop {
        let (record, next) = match record::read(bytes, at, salt) {
            Found::Record(record, next) => (record, next),
            Found::End => return,
            Found::Torn => {
                tracing::warn!(journal = %path.display(), at, "the journal's tail is torn: its last INSERT was not sent");
                return;
            }
            Found::Damage(next) => {
                tracing::error!(
                    journal = %path.display(), at,
                    "the journal is damaged: INSERTs that it told of may be sent again under another token, which doubles their rows"
                );
                at = next;
                continue;
            }
        };
        at = next;
        let fits = match record.kind {
            Kind::Checkpoint => {
                let kept = serde_json::from_slice(record.payload)
                    .ok()
                    .and_then(State::from_kept);
                kept.map(|kept| *state = kept).is_some()
            }
            Kind::Change => serde_json::from_slice(record.payload).is_ok_and(|change| state.apply(&change)),
            Kind::Schema | Kind::Block | Kind::Key => false,
        };
        if !fits {
            tracing::error!(journal = %path.display(), at, "a record of the journal does not fit what stands before it");
        }
    }
}

/// Reads a journal's bytes as recovery does, for fuzzing: any bytes give a state.
pub fn read(bytes: &[u8]) -> State {
    let mut state = State::default();
    replay(bytes, salt(0), Path::new("bytes"), &mut state);
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::disk::RealDisk;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table() -> TableName {
        TableName {
            database: "d".into(),
            table: "t".into(),
        }
    }

    fn id(sequence: u64) -> BlockId {
        BlockId {
            boot: 7,
            core: 0,
            sequence,
        }
    }

    fn announced(token: &str, sequences: Range<u64>) -> Announced {
        Announced {
            token: token.into(),
            table: table(),
            pieces: sequences.map(|sequence| Piece::whole(id(sequence), 10)).collect(),
            server: None,
        }
    }

    fn close(token: &str, end: End) -> Change {
        Change::Close {
            token: token.into(),
            end,
        }
    }

    #[test]
    fn a_group_is_open_until_it_ends_and_its_blocks_are_settled_then() {
        let mut state = State::default();
        assert!(state.apply(&Change::Open(announced("a", 0..3))));
        assert!(
            !state.apply(&Change::Open(announced("a", 3..4))),
            "a token is used once"
        );
        assert!(!state.is_settled(id(1)));
        assert!(state.apply(&close("a", End::Inserted)));
        assert!((0..3).all(|sequence| state.is_settled(id(sequence))));
        assert!(!state.is_settled(id(3)));
        assert!(!state.apply(&close("a", End::Inserted)), "it ends once");
        assert_eq!(state.ended[&table()].inserted, 30);
    }

    #[test]
    fn a_block_whose_rows_end_apart_is_settled_with_the_last() {
        let mut state = State::default();
        state.apply(&Change::Open(announced("a", 5..6)));
        let part = |token: &str, rows: Range<u32>| Announced {
            token: token.into(),
            table: table(),
            pieces: vec![Piece {
                block: id(5),
                of: 10,
                rows,
            }],
            server: None,
        };
        state.apply(&Change::Split {
            token: "a".into(),
            into: vec![part("b", 0..4), part("c", 4..10)],
        });
        state.apply(&close("c", End::Inserted));
        assert!(!state.is_settled(id(5)));
        state.apply(&Change::Split {
            token: "b".into(),
            into: vec![part("d", 0..1), part("e", 1..4)],
        });
        state.apply(&close("e", End::Inserted));
        assert!(!state.is_settled(id(5)));
        state.apply(&close("d", End::DeadLettered));
        assert!(state.is_settled(id(5)));
        assert_eq!(
            state.ended[&table()],
            Ended {
                inserted: 9,
                dead_lettered: 1
            }
        );
        assert!(state.partial.is_empty() && state.open.is_empty());
    }

    #[test]
    fn an_insert_is_at_the_server_it_was_last_sent_to() {
        let mut state = State::default();
        let send = |server: &str| Change::Send {
            token: "a".into(),
            server: server.into(),
        };
        assert!(!state.apply(&send("one:9000")), "nothing is announced");
        let mut open = announced("a", 0..1);
        open.server = Some("one:9000".into());
        assert!(state.apply(&Change::Open(open)));
        assert!(state.apply(&send("two:9000")));
        assert_eq!(state.open["a"].server.as_deref(), Some("two:9000"));
        let kept = serde_json::to_vec(&state.to_kept()).unwrap();
        let read = State::from_kept(serde_json::from_slice(&kept).unwrap());
        assert_eq!(read, Some(state));
    }

    #[test]
    fn what_has_no_segment_any_more_is_forgotten() {
        let mut state = State::default();
        state.apply(&Change::Open(announced("a", 0..4)));
        state.apply(&close("a", End::Inserted));
        state.apply(&Change::Lost {
            block: id(u64::MAX - 1),
        });
        state.forget_others([id(2), id(9)]);
        let settled: Vec<u64> = (0..10)
            .filter(|sequence| state.is_settled(id(*sequence)))
            .collect();
        assert_eq!(settled, [2]);
        state.forget_others([]);
        assert!(state.settled.is_empty() && state.partial.is_empty());
        assert_eq!(state.ended[&table()].inserted, 40, "rows are counted for ever");
    }

    #[test]
    fn refuses_rows_that_no_block_has() {
        let mut state = State::default();
        for (of, rows) in [(4, 3..5), (4, 5..5), (4, Range { start: 3, end: 2 })] {
            let mut wrong = announced("a", 0..1);
            wrong.pieces.push(Piece {
                block: id(7),
                of,
                rows,
            });
            assert!(!state.apply(&Change::Open(wrong)));
        }
        assert!(!state.apply(&Change::Lost { block: id(u64::MAX) }));
        assert_eq!(state, State::default());
    }

    #[test]
    fn a_reopened_journal_knows_what_the_last_one_did() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Journal::open(Arc::new(RealDisk), directory.path()).unwrap();
        let mut journal = open();
        let mut expected = State::default();
        for round in 0..40_u64 {
            let token = format!("t{round}");
            let changes = [Change::Open(announced(&token, round * 3..round * 3 + 3))];
            journal.append(&changes, true).unwrap();
            expected.apply(&changes[0]);
            if round % 3 != 0 {
                let end = [close(&token, End::Inserted)];
                journal.append(&end, false).unwrap();
                expected.apply(&end[0]);
            }
            if round % 7 == 0 {
                journal.checkpoint().unwrap();
            }
            if round % 5 == 0 {
                drop(journal);
                journal = open();
            }
            assert_eq!(journal.state(), &expected, "round {round}");
        }
        drop(journal);
        assert_eq!(open().state(), &expected);
    }

    #[test]
    fn a_full_file_is_followed_by_another() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(Arc::new(RealDisk), directory.path()).unwrap();
        let many = announced(&"x".repeat(100), 0..20_000);
        for round in 0..12 {
            let mut announced = many.clone();
            announced.token = format!("t{round}");
            journal.append(&[Change::Open(announced)], true).unwrap();
            journal
                .append(&[close(&format!("t{round}"), End::Inserted)], false)
                .unwrap();
        }
        assert!(journal.next_index > 1);
        assert_eq!(
            RealDisk.list(directory.path()).unwrap().len(),
            1,
            "old files are removed"
        );
        let state = journal.state().clone();
        drop(journal);
        let journal = Journal::open(Arc::new(RealDisk), directory.path()).unwrap();
        assert_eq!(journal.state(), &state);
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(ops in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..10), 0..100)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (insert, number, length) in ops {
                if insert {
                    ranges.insert(number);
                    model.insert(number);
                } else {
                    ranges.remove(number..number + length);
                    model.retain(|n| !(number..number + length).contains(n));
                }
                prop_assert!((0..60).all(|n| ranges.contains(n) == model.contains(&n)));
                let bounds: Vec<_> = ranges.0.iter().collect();
                prop_assert!(bounds.windows(2).all(|pair| pair[0].1 < pair[1].0), "runs are merged");
            }
        }

        /// However the file is cut, the state is one that was, and what was synced before the cut is in it.
        #[test]
        fn a_cut_journal_gives_a_state_that_was(cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            let (mut states, mut ends) = (vec![State::default()], vec![0]);
            for round in 0..6_u64 {
                let token = format!("t{round}");
                for change in [Change::Open(announced(&token, round..round + 1)), close(&token, End::Inserted)] {
                    put(&mut bytes, Kind::Change, &change, salt(0));
                    let mut state = states.last().expect("there is one").clone();
                    state.apply(&change);
                    states.push(state);
                    ends.push(bytes.len());
                }
            }
            let cut = cut.index(bytes.len() + 1);
            let state = read(&bytes[..cut]);
            // Padding may be cut and the record still be whole.
            let known = ends.iter().rposition(|end| *end <= cut).expect("0 is one");
            prop_assert!(state == states[known] || states.get(known + 1) == Some(&state));
        }
    }
}
