//! What people do with dead letters: list, show and drop them, beside a running server or without one.

use super::directory::{Directory, Fate};
use super::line::Line;
use super::replay::{Replay, ReplayError, Replayed};
use crate::admin::Target;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Which letters a command is about; the empty selection is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of one `database.table`.
    pub table: Option<String>,
    /// Those with one of these ids, unless empty.
    pub ids: HashSet<String>,
}

impl Selection {
    pub(super) fn matches(&self, line: &Line<'_>) -> bool {
        self.table.as_ref().is_none_or(|table| *table == line.table)
            && (self.ids.is_empty() || self.ids.contains(&line.id))
    }

    fn is_all(&self) -> bool {
        self.table.is_none() && self.ids.is_empty()
    }
}

/// Bytes of a reason that letters are told apart by in a summary.
const REASON_BYTES_MAX: usize = 160;
/// Lines of a summary: reasons may name the value they are about, and then each letter has its own.
const GROUPS_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Group {
    rows: u64,
    bytes: u64,
    first: String,
    last: String,
}

/// Prints rows, bytes, first and last time per table, code and reason.
///
/// # Errors
/// The store cannot be read, or `out` takes nothing.
pub fn list(data_dir: &Path, selection: &Selection, out: &mut dyn Write) -> Result<(), CommandError> {
    let mut groups: HashMap<(String, i32, String), Group> = HashMap::new();
    let mut unreadable = 0;
    visit(data_dir, &mut |text, line| {
        let Some(line) = line else {
            unreadable += 1;
            return Ok(true);
        };
        if !selection.matches(&line) {
            return Ok(true);
        }
        let reason = &line.reason[..line.reason.floor_char_boundary(REASON_BYTES_MAX)];
        let mut key = (line.table, line.code, reason.to_owned());
        if groups.len() >= GROUPS_MAX && !groups.contains_key(&key) {
            key = ("(other tables and reasons)".to_owned(), 0, String::new());
        }
        let group = groups.entry(key).or_default();
        group.rows += 1;
        group.bytes += text.len() as u64;
        if group.rows == 1 || line.time < group.first {
            group.first.clone_from(&line.time);
        }
        if line.time > group.last {
            group.last = line.time;
        }
        Ok(true)
    })?;
    print(out, &summary(groups, unreadable))
}

fn summary(groups: HashMap<(String, i32, String), Group>, unreadable: u64) -> String {
    let mut text = String::new();
    if groups.is_empty() {
        text.push_str("no dead letters\n");
    } else {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by(|(left_key, left), (right_key, right)| {
            (&left_key.0, right.rows, left_key).cmp(&(&right_key.0, left.rows, right_key))
        });
        let width = groups
            .iter()
            .map(|(key, _)| key.0.chars().count())
            .max()
            .unwrap_or_default()
            .max("TABLE".len());
        text.push_str(&format!(
            "{:width$}  {:>10}  {:>13}  {:24}  {:24}  {:>5}  REASON\n",
            "TABLE", "ROWS", "BYTES", "FIRST", "LAST", "CODE"
        ));
        for ((table, code, reason), group) in groups {
            let Group {
                rows,
                bytes,
                first,
                last,
            } = group;
            // A reason of several lines would break the table.
            let reason = reason.replace(char::is_control, " ");
            text.push_str(&format!(
                "{table:width$}  {rows:>10}  {bytes:>13}  {first:24}  {last:24}  {code:>5}  {reason}\n"
            ));
        }
    }
    if unreadable > 0 {
        text.push_str(&format!(
            "{unreadable} lines are no letters; `drop --all` removes them too\n"
        ));
    }
    text
}

/// Prints letters as they are stored, oldest first, at most `limit`.
///
/// # Errors
/// The store cannot be read, or `out` takes nothing.
pub fn show(
    data_dir: &Path,
    selection: &Selection,
    limit: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut left = limit.unwrap_or(u64::MAX);
    visit(data_dir, &mut |text, line| {
        if left > 0 && line.is_some_and(|line| selection.matches(&line)) {
            left -= 1;
            match out.write_all(text) {
                // Whoever reads has seen enough, as `head` does.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
                result => result.map_err(CommandError::Output)?,
            }
        }
        Ok(left > 0)
    })
}

/// What [`remove`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Letters.
    pub rows: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// Deletes the selected letters for good, file by file; the empty selection deletes all, and what is no letter with them.
///
/// # Errors
/// The store cannot be read or written; what was deleted before is gone.
pub fn remove(data_dir: &Path, selection: &Selection) -> Result<Removed, CommandError> {
    let mut removed = Removed::default();
    let store = |source| CommandError::Store { source };
    let Some(directory) = Directory::existing(data_dir).map_err(store)? else {
        return Ok(removed);
    };
    for number in directory.numbers().map_err(store)? {
        let (rows, bytes) = directory
            .rewrite(number, &mut |line| {
                if line.map_or(selection.is_all(), |line| selection.matches(line)) {
                    Fate::Goes
                } else {
                    Fate::Stays
                }
            })
            .map_err(store)?;
        removed.rows += rows;
        removed.bytes += bytes;
    }
    Ok(removed)
}

/// Posts the selected letters to a running server and removes those it has taken.
///
/// What was done until an error is in `replayed`. A letter goes only when the server has answered for it; the batch that
/// is without an answer is noted, and sent again under the same `Idempotency-Key` by the next call.
///
/// # Errors
/// The server does not take rows now, or the store cannot be read or written.
pub fn replay(
    data_dir: &Path,
    selection: &Selection,
    to: &Target,
    replayed: &mut Replayed,
) -> Result<(), CommandError> {
    let store = |source| CommandError::Store { source };
    match Directory::existing(data_dir).map_err(store)? {
        None => Ok(()),
        Some(directory) => Replay::new(&directory, selection, to, replayed)
            .run()
            .map_err(CommandError::Replay),
    }
}

/// Takes a line and the letter in it; false ends the visit.
type Visitor<'v> = dyn FnMut(&[u8], Option<Line<'_>>) -> Result<bool, CommandError> + 'v;

/// Calls `each` with every line, oldest first, and the letter in it if it is one, until it returns false.
fn visit(data_dir: &Path, each: &mut Visitor<'_>) -> Result<(), CommandError> {
    let store = |source| CommandError::Store { source };
    let Some(directory) = Directory::existing(data_dir).map_err(store)? else {
        return Ok(());
    };
    for number in directory.numbers().map_err(store)? {
        let text = directory.read(number, u64::MAX).map_err(store)?;
        for text in text.split_inclusive(|byte| *byte == b'\n') {
            if !each(text, Line::parse(&text[..text.len() - 1]))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn print(out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CommandError::Output),
    }
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub enum CommandError {
    /// The store cannot be read or written.
    Store {
        /// What the system says.
        source: io::Error,
    },
    /// Nobody takes the output.
    Output(io::Error),
    /// `replay` stopped.
    Replay(ReplayError),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Store { source } => write!(f, "cannot use the dead-letter store: {source}"),
            CommandError::Output(error) => write!(f, "cannot write to standard output: {error}"),
            CommandError::Replay(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
