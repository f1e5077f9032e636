//! Posts dead letters to a running server again, without losing or doubling one.
//!
//! A batch is noted in `replay.json`, synced, before it is sent, and the note is removed when its answer has been carried
//! out. A replay that finds a note sends that very batch again under the same `Idempotency-Key`, so that a server that
//! has taken it already does not take it twice. A batch that is answered gets a new key when it is sent the next time: a
//! table that was repaired meanwhile must not be told the old answer.
//!
//! | answer | its letters |
//! |---|---|
//! | 200, "rejected":0 | are removed |
//! | 200, or nothing accepted, with errors by row | accepted ones are removed, the others stay with the new reason |
//! | errors by row, then a remark with [`SETTLED_WORDS`] on so many of the others | those that are not named are removed: each is in ClickHouse or in the store under a new id |
//! | a row's reason with [`SETTLED_WORDS`] | that one is removed: the server has stored it under a new id |
//! | 400 whose sentence has [`SETTLED_WORDS`] | are removed: each is in ClickHouse or in the store under a new id |
//! | 400 that says "refused" | stay as they are, and replay goes on |
//! | anything else | stay, and replay stops |
//!
//! The last line but one is a server that does not say what it did with each row: rather a letter twice than never. Some
//! of these rows may be in ClickHouse, and the refused ones in the store a second time.

use super::SETTLED_WORDS;
use super::commands::Selection;
use super::directory::{Directory, Fate, remove_if_there};
use super::line::Line;
use crate::admin::{ExchangeError, Reply, Target};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rows of one request.
const ROWS_MAX: usize = 1_000;
/// Rows of the first request, and of one after a request that had rejected rows: the server spells out as many errors
/// by default, so that it is known which rows they are. Doubles while all goes well.
const ROWS_FIRST: usize = 20;
/// Bytes of one request, but for a single row that is larger.
const BYTES_MAX: usize = 1024 * 1024;
/// Time the server may stay silent: four times its own default deadline for an INSERT's answer.
const PATIENCE: Duration = Duration::from_secs(120);
const NOTE_FILE: &str = "replay.json";

/// What became of the letters that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// In ClickHouse now, and no longer in the store.
    pub inserted: u64,
    /// Refused again and stored by the server under a new id, the old letter removed. Where the server speaks for a whole
    /// request, its good rows are counted here too.
    pub moved: u64,
    /// Sent and rejected, or not worth sending, and still in the store.
    pub kept: u64,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replayed {
            inserted,
            moved,
            kept,
        } = self;
        write!(f, "inserted {inserted} rows, kept {kept}")?;
        if *moved > 0 {
            write!(
                f,
                "; of {moved} the server stored those again that ClickHouse refused"
            )?;
        }
        Ok(())
    }
}

/// One run of `replay`.
pub(super) struct Replay<'a> {
    directory: &'a Directory,
    selection: &'a Selection,
    to: &'a Target,
    replayed: &'a mut Replayed,
    batch_rows: usize,
}

/// What is noted of a batch before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    key: String,
    table: String,
    /// By row.
    ids: Vec<String>,
}

/// Letters of one table that are sent together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    note: Note,
    /// The noted ones that are still in the store; by row of `body`.
    ids: Vec<String>,
    body: Vec<u8>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        selection: &'a Selection,
        to: &'a Target,
        replayed: &'a mut Replayed,
    ) -> Replay<'a> {
        Replay {
            directory,
            selection,
            to,
            replayed,
            batch_rows: ROWS_FIRST,
        }
    }

    pub(super) fn run(mut self) -> Result<(), ReplayError> {
        let Some(_only) = self.directory.try_lock_replay().map_err(store)? else {
            return Err(ReplayError::Busy);
        };
        let address = self.address()?;
        self.finish_noted(address)?;
        // Those it kept are sent anew below, if they are selected, and counted then.
        self.replayed.kept = 0;
        // The lengths of now: letters this replay brings about are not for this replay.
        let mut files = Vec::new();
        for number in self.directory.numbers().map_err(store)? {
            match fs::metadata(self.directory.letters(number)) {
                Ok(metadata) => files.push((number, metadata.len())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(store(error)),
            }
        }
        for (number, bytes) in files {
            let text = self.directory.read(number, bytes).map_err(store)?;
            let mut tables: BTreeMap<String, Vec<Line<'_>>> = BTreeMap::new();
            for line in text.split(|byte| *byte == b'\n').filter_map(Line::parse) {
                if !self.selection.matches(&line) {
                    continue;
                }
                // What is no object would spoil the request of its neighbours.
                if !line.row.starts_with('{') {
                    self.replayed.kept += 1;
                    continue;
                }
                tables.entry(line.table.clone()).or_default().push(line);
            }
            for (table, lines) in tables {
                let mut lines = &lines[..];
                while !lines.is_empty() {
                    let (batch, rest) = lines.split_at(batch_len(lines, self.batch_rows));
                    self.deliver(address, &new_batch(&table, batch), &[number])?;
                    lines = rest;
                }
            }
        }
        Ok(())
    }

    fn address(&self) -> Result<SocketAddr, ReplayError> {
        self.to.address().map_err(|source| ReplayError::Address {
            to: self.to.clone(),
            source,
        })
    }

    /// Sends the batch again that an earlier replay left without an answer. Letters that are gone were dropped since.
    fn finish_noted(&mut self, address: SocketAddr) -> Result<(), ReplayError> {
        let path = self.directory.file(NOTE_FILE);
        let note: Note = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|_| ReplayError::Note(path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(store(error)),
        };
        let numbers = self.directory.numbers().map_err(store)?;
        let wanted: HashSet<String> = note.ids.iter().cloned().collect();
        let mut batch = Batch::new(note);
        for number in &numbers {
            let text = self.directory.read(*number, u64::MAX).map_err(store)?;
            for line in text.split(|byte| *byte == b'\n').filter_map(Line::parse) {
                if wanted.contains(&line.id) {
                    batch.push(&line);
                }
            }
        }
        if batch.ids.is_empty() {
            return self.forget();
        }
        self.deliver(address, &batch, &numbers)
    }

    /// Sends a batch and carries out the answer on the files its letters are in.
    fn deliver(&mut self, address: SocketAddr, batch: &Batch, files: &[u64]) -> Result<(), ReplayError> {
        self.note(&batch.note)?;
        let path = format!("/ingest/{}?ack=inserted", encode_path(&batch.note.table));
        let headers = [
            ("Content-Type", "application/x-ndjson"),
            ("Idempotency-Key", batch.note.key.as_str()),
        ];
        let reply = self
            .to
            .ask(address, "POST", &path, &headers, &batch.body, PATIENCE);
        let reply = reply.map_err(|error| ReplayError::NoAnswer {
            to: self.to.clone(),
            error,
        })?;
        // A server that knows the key answers for the rows it was sent then, also when some of the letters are gone now.
        let mut ids = &batch.note.ids;
        let mut verdict = judge(reply.status, &reply.body, ids.len());
        if verdict == Verdict::NotKnown {
            ids = &batch.ids;
            verdict = judge(reply.status, &reply.body, ids.len());
        }
        match verdict {
            Verdict::Rows(outcomes) => {
                self.carry_out(ids, &outcomes, files)?;
                self.forget()
            }
            Verdict::Unclear { outcomes, inserted } => {
                let unknown = outcomes
                    .iter()
                    .filter(|outcome| matches!(outcome, Outcome::Unknown(_)))
                    .count();
                self.carry_out(ids, &outcomes, files)?;
                self.forget()?;
                Err(ReplayError::Unclear { unknown, inserted })
            }
            Verdict::NotTaken => {
                self.forget()?;
                Err(self.refused(reply))
            }
            Verdict::NotKnown => Err(self.refused(reply)),
        }
    }

    fn refused(&self, reply: Reply) -> ReplayError {
        ReplayError::Refused {
            to: self.to.clone(),
            status: reply.status,
            body: reply.body,
        }
    }

    fn carry_out(&mut self, ids: &[String], outcomes: &[Outcome], files: &[u64]) -> Result<(), ReplayError> {
        let by_id: HashMap<&str, &Outcome> = ids.iter().map(String::as_str).zip(outcomes).collect();
        for number in files {
            let mut replayed = *self.replayed;
            let rewritten = self.directory.rewrite(*number, &mut |line| {
                let outcome = line.and_then(|line| by_id.get(line.id.as_str()));
                match outcome {
                    None => Fate::Stays,
                    Some(Outcome::Inserted) => {
                        replayed.inserted += 1;
                        Fate::Goes
                    }
                    Some(Outcome::Moved) => {
                        replayed.moved += 1;
                        Fate::Goes
                    }
                    Some(Outcome::Refused) => {
                        replayed.kept += 1;
                        Fate::Stays
                    }
                    Some(Outcome::Rejected(reason) | Outcome::Unknown(reason)) => {
                        replayed.kept += 1;
                        Fate::StaysFor(reason.clone())
                    }
                }
            });
            rewritten.map_err(store)?;
            *self.replayed = replayed;
        }
        self.batch_rows = if outcomes.iter().all(|outcome| *outcome == Outcome::Inserted) {
            (self.batch_rows * 2).min(ROWS_MAX)
        } else {
            ROWS_FIRST
        };
        Ok(())
    }

    fn note(&self, note: &Note) -> Result<(), ReplayError> {
        let text = serde_json::to_vec(note).expect("texts have a JSON form");
        let _lock = self.directory.lock().map_err(store)?;
        self.directory
            .replace(&self.directory.file(NOTE_FILE), &text)
            .map_err(store)
    }

    fn forget(&self) -> Result<(), ReplayError> {
        remove_if_there(&self.directory.file(NOTE_FILE))
            .and_then(|()| self.directory.sync())
            .map_err(store)
    }
}

/// How many of `lines` go into one batch: at least one.
fn batch_len(lines: &[Line<'_>], rows_max: usize) -> usize {
    let mut bytes = 0;
    let fit = lines.iter().take(rows_max).take_while(|line| {
        bytes += line.row.len() + 1;
        bytes <= BYTES_MAX
    });
    fit.count().max(1)
}

/// A batch with a key of its own.
fn new_batch(table: &str, lines: &[Line<'_>]) -> Batch {
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let mut hash = Sha256::new();
    hash.update(now_ns.to_le_bytes());
    for line in lines {
        hash.update((line.id.len() as u64).to_le_bytes());
        hash.update(&line.id);
    }
    let mut batch = Batch::new(Note {
        // 128 bits are enough never to meet another batch's.
        key: hash.finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        table: table.to_owned(),
        ids: lines.iter().map(|line| line.id.clone()).collect(),
    });
    lines.iter().for_each(|line| batch.push(line));
    batch
}

impl Batch {
    fn new(note: Note) -> Batch {
        Batch {
            note,
            ids: Vec::new(),
            body: Vec::new(),
        }
    }

    fn push(&mut self, line: &Line<'_>) {
        self.ids.push(line.id.clone());
        self.body.extend_from_slice(line.row.as_bytes());
        self.body.push(b'\n');
    }
}

/// A table's name as a piece of a path (RFC 3986 section 2.3).
fn encode_path(table: &str) -> String {
    let mut path = String::with_capacity(table.len());
    for byte in table.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    path
}

/// What an answer means for one row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Inserted,
    /// In the store under a new id.
    Moved,
    /// One of a request that was refused as a whole, as far as is known.
    Refused,
    Rejected(String),
    /// One of several of which some were inserted.
    Unknown(String),
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Known for each row.
    Rows(Vec<Outcome>),
    /// Known for some; `inserted` of the others are in ClickHouse.
    Unclear { outcomes: Vec<Outcome>, inserted: usize },
    /// The server has taken none, and will not.
    NotTaken,
    /// The server may have taken some, or may yet: only the same key can tell.
    NotKnown,
}

#[derive(Deserialize)]
struct IngestReply {
    accepted: usize,
    rejected: usize,
    errors: Vec<RowError>,
}

#[derive(Deserialize)]
struct RowError {
    row: usize,
    reason: String,
}

#[derive(Deserialize)]
struct ErrorReply {
    error: String,
}

/// Reads the answer to a batch of `rows` rows.
fn judge(status: u16, body: &str, rows: usize) -> Verdict {
    if let Ok(reply) = serde_json::from_str::<IngestReply>(body) {
        if status == 200 && reply.rejected == 0 {
            return Verdict::Rows(vec![Outcome::Inserted; rows]);
        }
        // A server that answers for other rows than were sent has taken part of them, or misunderstood them.
        let whole = reply.accepted + reply.rejected == rows;
        let settled = status == 200 || (reply.accepted == 0 && (400..500).contains(&status));
        if whole && settled {
            return judge_refused(&reply, rows).unwrap_or_else(|| judge_rows(&reply, rows));
        }
        return Verdict::NotKnown;
    }
    let error = serde_json::from_str::<ErrorReply>(body).map_or(String::new(), |reply| reply.error);
    match status {
        400 if error.contains(SETTLED_WORDS) => Verdict::Rows(vec![Outcome::Moved; rows]),
        400 if error.contains("refused") => Verdict::Rows(vec![Outcome::Refused; rows]),
        400 | 401 | 403 | 404 | 405 | 413 | 415 | 429 => Verdict::NotTaken,
        _ => Verdict::NotKnown,
    }
}

/// A server that has isolated rows which ClickHouse refused does not say which of them: it has stored them itself, and
/// says so behind the errors of all others. Nothing is left to be done for any row that it does not name.
fn judge_refused(reply: &IngestReply, rows: usize) -> Option<Verdict> {
    let (remark, listed) = reply.errors.split_last()?;
    let refused: usize = remark.reason.split(' ').next()?.parse().ok()?;
    let is_remark = remark.row == rows && remark.reason.contains(SETTLED_WORDS);
    if !is_remark || listed.len() + refused != reply.rejected || listed.iter().any(|error| error.row >= rows)
    {
        return None;
    }
    let mut outcomes = vec![Outcome::Inserted; rows];
    for error in listed {
        outcomes[error.row] = Outcome::Rejected(error.reason.clone());
    }
    let unnamed = outcomes
        .iter_mut()
        .filter(|outcome| matches!(outcome, Outcome::Inserted));
    unnamed
        .take(refused)
        .for_each(|outcome| *outcome = Outcome::Moved);
    Some(Verdict::Rows(outcomes))
}

/// The server spells out the first errors by row. Rows behind the last of them are known if all or none was inserted.
fn judge_rows(reply: &IngestReply, rows: usize) -> Verdict {
    let rising = reply.errors.is_sorted_by(|left, right| left.row < right.row);
    let known = reply.errors.last().map_or(0, |error| error.row + 1);
    if !rising || known > rows || reply.errors.len() > reply.rejected {
        return Verdict::NotKnown;
    }
    let Some(inserted) = reply.accepted.checked_sub(known - reply.errors.len()) else {
        return Verdict::NotKnown;
    };
    let mut outcomes = vec![Outcome::Inserted; known];
    for error in &reply.errors {
        outcomes[error.row] = if error.reason.contains(SETTLED_WORDS) {
            Outcome::Moved
        } else {
            Outcome::Rejected(error.reason.clone())
        };
    }
    let rest = rows - known;
    if inserted == rest {
        outcomes.resize(rows, Outcome::Inserted);
    } else if inserted == 0 {
        let reason = "rejected when it was replayed; the server spelled out the reasons of other rows only";
        outcomes.resize(rows, Outcome::Rejected(reason.to_owned()));
    } else {
        let reason =
            format!("replayed: {inserted} of {rest} such rows were inserted, the server did not say which");
        outcomes.resize(rows, Outcome::Unknown(reason));
        return Verdict::Unclear { outcomes, inserted };
    }
    Verdict::Rows(outcomes)
}

fn store(source: io::Error) -> ReplayError {
    ReplayError::Store(source)
}

/// Why `replay` stopped.
#[derive(Debug)]
pub enum ReplayError {
    /// Another one runs.
    Busy,
    /// The store cannot be read or written. A batch that was answered stays noted and is sent again under its key.
    Store(io::Error),
    /// The note of an earlier replay cannot be read.
    Note(PathBuf),
    /// The host has no address.
    Address {
        /// Where letters were to go.
        to: Target,
        /// What the system says.
        source: io::Error,
    },
    /// No answer came.
    NoAnswer {
        /// Where letters were sent.
        to: Target,
        /// Why.
        error: ExchangeError,
    },
    /// The server does not take the rows.
    Refused {
        /// Where letters were sent.
        to: Target,
        /// HTTP status.
        status: u16,
        /// What it says.
        body: String,
    },
    /// The server rejected more rows than it spelled out.
    Unclear {
        /// Rows of which it did not say.
        unknown: usize,
        /// How many of them are in ClickHouse.
        inserted: usize,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Busy => f.write_str("another replay of these dead letters is running"),
            ReplayError::Store(error) => write!(
                f,
                "cannot use the dead-letter store: {error}; a batch that was sent is sent again under its key by the next replay"
            ),
            ReplayError::Note(path) => write!(
                f,
                "{} is no note of an unanswered batch; without it, rows of that batch may be inserted twice",
                path.display()
            ),
            ReplayError::Address { to, source } => write!(f, "{to} has no address: {source}"),
            ReplayError::NoAnswer { to, error } => write!(
                f,
                "no answer from {to} ({error}); its letters are kept, and the next replay sends the same batch under the same key"
            ),
            ReplayError::Refused { to, status, body } => {
                write!(
                    f,
                    "{to} answered {status}, the letters are kept: {}",
                    body.trim_end()
                )
            }
            ReplayError::Unclear { unknown, inserted } => write!(
                f,
                "{inserted} of {unknown} rows were inserted, but the server did not say which; these letters are kept, replaying them again \
                 doubles rows. `--limit errors_in_reply_max=1000` makes the server say"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

#[cfg(test)]
mod tests;
