//! Keeps rows that ClickHouse refused for their content: JSON lines under `<data-dir>/dead-letters/`.
//!
//! A letter is one line, written and synced before [`DeadLetters::append`] returns:
//!
//! ```json
//! {"id":"...","time":"2026-01-31T23:59:59.999Z","table":"db.table","code":469,"reason":"...","row":{"level":"info"}}
//! ```
//!
//! Files are named by a rising number, `0000000001.jsonl`; the last one is appended to. One that is full is followed by
//! the next, and when all together exceed their bound the oldest is deleted. Commands ([`list`], [`show`], [`remove`],
//! [`replay()`]) may rewrite or delete files while the server runs: every change is made under a lock, and an append
//! looks at the directory anew each time, so that it never writes into a file that is no longer there.
//!
//! **Appending twice.** The writer appends first and journals after, so a crash between the two makes it append the same
//! letters again. The store knows the last [`RECENT_IDS_MAX`] ids, also those of before a restart, and skips them. It does
//! not know letters that a command removed before the restart; they would come back, and are then removed again.

mod commands;
mod directory;
mod line;
mod replay;

pub use crate::admin::Target;
pub use commands::{CommandError, Removed, Selection, list, remove, replay, show};
pub use replay::{ReplayError, Replayed};

use directory::Directory;
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Ids an append is compared with: eight blocks of the default 16,384 rows, some 8 MiB when all are taken. One call of
/// [`DeadLetters::append`] with more letters than this is not idempotent.
pub const RECENT_IDS_MAX: usize = 131_072;

/// Words by which a reply of the server promises that each row of the request is either inserted or in the server's own
/// dead-letter store. `replay` then removes the letter it sent: it is in the store under a new id.
///
/// In the reason of one row they speak for that row; in the one sentence of an error reply they speak for all rows, so a
/// request that also had rows rejected for another reason must not be answered with them.
pub const SETTLED_WORDS: &str = "dead-letter store";

/// A row that ClickHouse refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Chosen by the caller, the same whenever the same row is appended; becomes `id`.
    pub key: String,
    /// When it was refused.
    pub time_unix_ms: i64,
    /// `database.table`.
    pub table: String,
    /// ClickHouse's error code; 0 when it was Ringhouse that refused.
    pub code: i32,
    /// What ClickHouse says.
    pub reason: String,
    /// The row as a JSON object. A text that is none is kept as a JSON string.
    pub row: String,
}

/// What an append did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Letters written.
    pub rows: u64,
    /// Letters left out because they are in the store already.
    pub known: u64,
    /// Older letters deleted to make room.
    pub dropped_rows: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Letters.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Letters deleted to make room since the store was opened.
    pub dropped_rows: u64,
}

/// The store. One writer has it open; commands work beside it. Every method but [`DeadLetters::totals`] blocks on disk.
#[derive(Debug)]
pub struct DeadLetters {
    directory: Directory,
    bytes_max: u64,
    file_bytes_max: u64,
    /// By rising number.
    files: Vec<LetterFile>,
    /// The largest ever seen: a number is not used again when commands have emptied the store.
    last_number: u64,
    recent: RecentIds,
    dropped_rows: u64,
}

/// A file as it was when it was last looked at.
#[derive(Debug, Clone, Copy)]
struct LetterFile {
    number: u64,
    bytes: u64,
    rows: u64,
    version: Version,
}

/// Changes whenever somebody else changes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Version {
        Version {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Where a failed append began, to go back to.
struct Undo {
    number: u64,
    /// `None`: the append created the file.
    bytes: Option<u64>,
}

impl DeadLetters {
    /// Opens the store of a data directory, or creates it: counts its letters and cuts the partial line a crash has left.
    ///
    /// All files together stay within `bytes_max`, each within `file_bytes_max`, but for a single letter that is larger.
    ///
    /// # Errors
    /// The directory cannot be created, read or locked.
    pub fn open(data_dir: &Path, bytes_max: u64, file_bytes_max: u64) -> io::Result<DeadLetters> {
        let directory = Directory::create(data_dir)?;
        let mut store = DeadLetters {
            directory,
            bytes_max,
            file_bytes_max,
            files: Vec::new(),
            last_number: 0,
            recent: RecentIds::default(),
            dropped_rows: 0,
        };
        let _lock = store.directory.lock()?;
        store.directory.remove_leftovers()?;
        store.look()?;
        store.recent = store.read_recent_ids()?;
        Ok(store)
    }

    /// What the store held at the last [`append`](DeadLetters::append) or [`refresh`](DeadLetters::refresh).
    pub fn totals(&self) -> Totals {
        Totals {
            rows: self.files.iter().map(|file| file.rows).sum(),
            bytes: self.bytes(),
            dropped_rows: self.dropped_rows,
        }
    }

    /// Looks at the directory again: commands may have removed letters.
    ///
    /// # Errors
    /// The directory cannot be read or locked.
    pub fn refresh(&mut self) -> io::Result<Totals> {
        let _lock = self.directory.lock()?;
        self.look()?;
        Ok(self.totals())
    }

    /// Writes and syncs letters. A letter whose key is known is left out, so that appending again is harmless.
    ///
    /// # Errors
    /// The disk takes nothing, or is full: then none of the letters is in the store, and no part of one. Older letters
    /// that were deleted to make room stay deleted.
    pub fn append(&mut self, letters: &[Letter]) -> io::Result<Appended> {
        if letters.is_empty() {
            return Ok(Appended::default());
        }
        let _lock = self.directory.lock()?;
        self.look()?;
        let dropped_before = self.dropped_rows;
        let mut undo = Vec::new();
        let mut appended = Appended::default();
        if let Err(error) = self.write(letters, &mut appended, &mut undo) {
            self.recent.forget_last(appended.rows);
            self.undo(&undo);
            return Err(error);
        }
        appended.dropped_rows = self.dropped_rows - dropped_before;
        Ok(appended)
    }

    /// Writes in pieces that fit a file each. `appended.rows` counts the ids noted, also on an error.
    fn write(&mut self, letters: &[Letter], appended: &mut Appended, undo: &mut Vec<Undo>) -> io::Result<()> {
        let mut piece = Vec::new();
        let mut rows = 0;
        for letter in letters {
            if !self.recent.insert(id_digest(&letter.key)) {
                appended.known += 1;
                continue;
            }
            appended.rows += 1;
            let begin = piece.len();
            line::encode(letter, &mut piece);
            if rows > 0 && piece.len() as u64 > self.room() {
                let rest = piece.split_off(begin);
                self.write_piece(&piece, rows, undo)?;
                piece = rest;
                rows = 0;
            }
            rows += 1;
        }
        if rows > 0 {
            self.write_piece(&piece, rows, undo)?;
        }
        Ok(())
    }

    /// Bytes the next piece may have.
    fn room(&self) -> u64 {
        match self.files.last() {
            Some(file) if file.bytes < self.file_bytes_max => self.file_bytes_max - file.bytes,
            _ => self.file_bytes_max,
        }
    }

    fn write_piece(&mut self, piece: &[u8], rows: u64, undo: &mut Vec<Undo>) -> io::Result<()> {
        let bytes = piece.len() as u64;
        let active = self
            .files
            .last()
            .filter(|file| file.bytes + bytes <= self.file_bytes_max)
            .copied();
        let number = match active {
            Some(file) => file.number,
            None => self.last_number + 1,
        };
        self.make_room(bytes, number)?;
        undo.push(Undo {
            number,
            bytes: active.map(|file| file.bytes),
        });
        let mut file = match active {
            Some(_) => File::options()
                .append(true)
                .open(self.directory.letters(number))?,
            None => self.directory.create_file(&self.directory.letters(number))?,
        };
        file.write_all(piece)?;
        file.sync_data()?;
        let version = Version::from(&file.metadata()?);
        match active {
            Some(_) => {
                let file = self.files.last_mut().expect("the active file is the last");
                file.bytes += bytes;
                file.rows += rows;
                file.version = version;
            }
            None => {
                // The name is a letter's too: without it the file is lost with the power.
                self.directory.sync()?;
                self.last_number = number;
                self.files.push(LetterFile {
                    number,
                    bytes,
                    rows,
                    version,
                });
            }
        }
        Ok(())
    }

    /// Deletes the oldest files until `bytes` more fit, but never file `keep`.
    fn make_room(&mut self, bytes: u64, keep: u64) -> io::Result<()> {
        let mut deleted = false;
        while self.bytes() + bytes > self.bytes_max {
            let Some(oldest) = self.files.first().filter(|file| file.number != keep) else {
                break;
            };
            let (number, rows) = (oldest.number, oldest.rows);
            fs::remove_file(self.directory.letters(number))?;
            self.files.remove(0);
            self.dropped_rows += rows;
            deleted = true;
            tracing::error!(
                rows,
                file = %self.directory.letters(number).display(),
                bytes_max = self.bytes_max,
                "the dead-letter store is full: its oldest rows are deleted for good"
            );
        }
        if deleted {
            self.directory.sync()?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Goes back to before an append, the last step first. What fails here is made good by the next look: a file that is
    /// not as it was left is counted again, and its partial line cut.
    fn undo(&mut self, steps: &[Undo]) {
        for step in steps.iter().rev() {
            let path = self.directory.letters(step.number);
            let undone = match step.bytes {
                None => fs::remove_file(&path),
                Some(bytes) => truncate(&path, bytes),
            };
            match undone {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::error!(%error, file = %path.display(), "cannot take back a failed append of dead letters");
                }
                _ => {}
            }
        }
        let looked = self.directory.sync().and_then(|()| self.look());
        if let Err(error) = looked {
            tracing::error!(%error, "cannot read the dead-letter store");
        }
    }

    /// Brings `files` up to date. Counts again only what somebody else has changed; the caller holds the lock.
    fn look(&mut self) -> io::Result<()> {
        let mut files = Vec::new();
        for number in self.directory.numbers()? {
            let path = self.directory.letters(number);
            let version = Version::from(&fs::metadata(&path)?);
            let known = self
                .files
                .iter()
                .find(|file| file.number == number && file.version == version);
            files.push(match known {
                Some(file) => *file,
                None => count(number, &path)?,
            });
        }
        if let Some(file) = files.last() {
            self.last_number = self.last_number.max(file.number);
        }
        self.files = files;
        Ok(())
    }

    /// Reads the ids of the newest letters, whole files at a time until there are enough.
    fn read_recent_ids(&self) -> io::Result<RecentIds> {
        let mut newest_first = Vec::new();
        for file in self.files.iter().rev() {
            if newest_first.len() >= RECENT_IDS_MAX {
                break;
            }
            let mut reader = BufReader::new(File::open(self.directory.letters(file.number))?);
            let mut ids = Vec::new();
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                ids.extend(line::id(&line).map(|id| id_digest(&id)));
                line.clear();
            }
            newest_first.extend(ids.into_iter().rev());
        }
        let mut recent = RecentIds::default();
        for digest in newest_first.into_iter().rev() {
            recent.insert(digest);
        }
        Ok(recent)
    }
}

/// Counts the lines of a file and cuts what is behind the last of them.
fn count(number: u64, path: &Path) -> io::Result<LetterFile> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut read, mut bytes, mut rows) = (0, 0, 0);
    loop {
        let taken = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for end in memchr::memchr_iter(b'\n', &buffer[..taken]) {
            rows += 1;
            bytes = read + end as u64 + 1;
        }
        read += taken as u64;
    }
    if bytes < read {
        tracing::warn!(file = %path.display(), bytes = read - bytes, "a partial dead letter is cut: its append never returned");
        file.set_len(bytes)?;
        file.sync_data()?;
    }
    Ok(LetterFile {
        number,
        bytes,
        rows,
        version: Version::from(&file.metadata()?),
    })
}

fn truncate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_data()
}

/// 128 bits of an id's SHA-256: two ids that share them will not be seen, and a long id takes no more room.
type IdDigest = [u8; 16];

fn id_digest(id: &str) -> IdDigest {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    digest[..16].try_into().expect("sixteen of thirty-two bytes")
}

/// The last ids, oldest first.
#[derive(Debug, Default)]
struct RecentIds {
    order: VecDeque<IdDigest>,
    known: HashSet<IdDigest>,
}

impl RecentIds {
    /// Notes an id; false when it was noted before.
    fn insert(&mut self, id: IdDigest) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > RECENT_IDS_MAX {
            let oldest = self.order.pop_front().expect("more than the bound");
            self.known.remove(&oldest);
        }
        true
    }

    /// Takes the last `ids` back.
    fn forget_last(&mut self, ids: u64) {
        for _ in 0..ids {
            let Some(id) = self.order.pop_back() else { break };
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
