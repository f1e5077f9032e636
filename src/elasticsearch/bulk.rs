//! Tells the actions and documents of a bulk body apart as it arrives, and blanks the actions out.
//!
//! Documents on end for one index then stand as lines in one text, blank lines between them, and are taken where they were
//! received, as the rows of any other body are.

use memchr::memchr;

use super::action::{ACTION_BYTES_MAX, Action, ActionError};
use super::items::{Items, Kind, Outcome};
use crate::limits::Limits;

/// What the reader found at the front of the buffer.
///
/// `consumed` counts from the buffer's front: the caller drops that many bytes, with `Documents` after it has taken them,
/// and shows the rest with whatever came behind it in the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Complete documents of one index, one a line, at most `chunk_bytes` and one document of them.
    Documents {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// The item of the first; those of the others follow.
        first_item: usize,
        /// How many.
        documents: usize,
        /// Number of their index.
        index: u16,
        /// Bytes to drop once they are taken.
        consumed: usize,
    },
    /// No complete document; more bytes are needed. A buffer of `line_bytes_max` + 1 is enough.
    NeedMore {
        /// Bytes that are done with.
        consumed: usize,
    },
    /// An item's document is longer than `line_bytes_max`.
    TooLong {
        /// Its item.
        item: usize,
        /// Number of its index.
        index: u16,
        /// Bytes of it to drop now.
        consumed: usize,
    },
    /// An item's document is a blank line, or the body ends before it.
    Missing {
        /// Its item.
        item: usize,
        /// Number of its index.
        index: u16,
        /// Bytes that are done with.
        consumed: usize,
    },
    /// The request ends here; the items before stand.
    Failed(ActionError),
    /// The body has ended.
    Done,
}

/// Reads one bulk body. Memory does not grow with it, but for its [`Items`].
#[derive(Debug)]
pub struct BulkReader {
    mode: Mode,
    /// Bytes at the buffer's front that hold no line end.
    scanned: usize,
    /// Lines done.
    line: u64,
    /// The last action line, if it has no id and is of usual length: most actions of a request are alike.
    usual: Vec<u8>,
    kind: Kind,
    outcome: Outcome,
    /// Of the last action.
    index: u16,
    chunk_bytes: usize,
    line_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Action,
    /// Before the document of the last item.
    Document,
    /// Before a line that is no row.
    Skip,
    /// Within a line that is dropped.
    Rest,
    Failed,
}

/// Longer actions are parsed each time.
const USUAL_BYTES_MAX: usize = 512;

/// Documents on end.
struct Run {
    start: usize,
    end: usize,
    documents: usize,
    index: u16,
}

/// A line of the buffer.
enum Line {
    /// Where it ends, and where the next one begins.
    Complete(usize, usize),
    Incomplete,
}

impl BulkReader {
    /// A reader at the start of a body.
    pub fn new(limits: &Limits) -> BulkReader {
        BulkReader {
            mode: Mode::Action,
            scanned: 0,
            line: 0,
            usual: Vec::new(),
            kind: Kind::Index,
            outcome: Outcome::Created,
            index: 0,
            chunk_bytes: limits.chunk_bytes.min(limits.line_bytes_max),
            line_bytes_max: limits.line_bytes_max,
        }
    }

    /// Looks at the unconsumed bytes of the body: what the last call left, and what came since. Each action is noted in
    /// `items` before its document is given out.
    pub fn next(&mut self, buffer: &mut [u8], end_of_body: bool, items: &mut Items) -> Bulk {
        let mut run = Run {
            start: 0,
            end: 0,
            documents: 0,
            index: 0,
        };
        let mut at = 0;
        loop {
            if run.documents > 0 && run.end - run.start >= self.chunk_bytes {
                return self.give(run, at, items);
            }
            let (end, next) = match self.line(buffer, at, end_of_body) {
                Line::Complete(end, next) => (end, next),
                Line::Incomplete => return self.incomplete(buffer, at, run, items),
            };
            let length = end - at;
            let line = &mut buffer[at..end];
            match self.mode {
                Mode::Action if length == 0 && next == at => {
                    // The body has ended.
                    return match run.documents {
                        0 => Bulk::Done,
                        _ => self.give(run, at, items),
                    };
                }
                Mode::Action if is_blank(line) => self.line += 1,
                Mode::Action => {
                    if self.is_usual(line) {
                        if let Err(error) = items.note_again(self.kind, self.outcome, self.index) {
                            return self.end(run, at, items, error);
                        }
                    } else {
                        let run_index = (run.documents > 0).then_some(run.index);
                        match self.note(line, run_index, items) {
                            Ok(true) => {}
                            Ok(false) => return self.give(run, at, items),
                            Err(error) => return self.end(run, at, items, error),
                        }
                    }
                    self.line += 1;
                    line.fill(b' ');
                    self.mode = match (self.kind, self.outcome) {
                        (Kind::Delete, _) => Mode::Action,
                        (_, Outcome::Created) => Mode::Document,
                        _ => Mode::Skip,
                    };
                    if self.mode != Mode::Document && run.documents > 0 {
                        // Its item lies between those of the documents.
                        self.scanned = 0;
                        return Bulk::Documents {
                            start: run.start,
                            end: run.end,
                            first_item: items.len() - 1 - run.documents,
                            documents: run.documents,
                            index: run.index,
                            consumed: next,
                        };
                    }
                }
                Mode::Document if length > self.line_bytes_max || is_blank(line) => {
                    if run.documents > 0 {
                        return self.give(run, at, items);
                    }
                    self.line += 1;
                    self.mode = Mode::Action;
                    self.scanned = 0;
                    let (item, index, consumed) = (items.len() - 1, self.index, next);
                    return match length > self.line_bytes_max {
                        true => Bulk::TooLong {
                            item,
                            index,
                            consumed,
                        },
                        false => Bulk::Missing {
                            item,
                            index,
                            consumed,
                        },
                    };
                }
                Mode::Document => {
                    if run.documents == 0 {
                        (run.start, run.index) = (at, self.index);
                    }
                    run.documents += 1;
                    run.end = end;
                    self.line += 1;
                    self.mode = Mode::Action;
                }
                Mode::Skip | Mode::Rest => {
                    self.line += 1;
                    self.mode = Mode::Action;
                }
                Mode::Failed => return Bulk::Done,
            }
            at = next;
            self.scanned = 0;
        }
    }

    /// The line at `at`; the last one may have no line end.
    fn line(&self, buffer: &[u8], at: usize, end_of_body: bool) -> Line {
        // What was scanned lies at the front of the buffer, and nothing was taken of it yet when there is some.
        let from = at + self.scanned;
        match memchr(b'\n', &buffer[from..]) {
            Some(newline) => Line::Complete(from + newline, from + newline + 1),
            None if end_of_body => Line::Complete(buffer.len(), buffer.len()),
            None => Line::Incomplete,
        }
    }

    /// What is done at the end of what was received, within a line.
    fn incomplete(&mut self, buffer: &[u8], at: usize, run: Run, items: &Items) -> Bulk {
        if run.documents > 0 {
            let given = self.give(run, at, items);
            self.scanned = buffer.len() - at;
            return given;
        }
        let held = buffer.len() - at;
        match self.mode {
            Mode::Action if held > ACTION_BYTES_MAX => {
                self.mode = Mode::Failed;
                Bulk::Failed(ActionError::TooLong(self.line + 1))
            }
            Mode::Document if held > self.line_bytes_max => {
                self.mode = Mode::Rest;
                self.scanned = 0;
                Bulk::TooLong {
                    item: items.len() - 1,
                    index: self.index,
                    consumed: buffer.len(),
                }
            }
            Mode::Skip | Mode::Rest => {
                self.scanned = 0;
                Bulk::NeedMore {
                    consumed: buffer.len(),
                }
            }
            _ => {
                self.scanned = held;
                Bulk::NeedMore { consumed: at }
            }
        }
    }

    /// Gives a run out; what begins at `at` comes with the next call.
    fn give(&mut self, run: Run, at: usize, items: &Items) -> Bulk {
        self.scanned = 0;
        let waiting = usize::from(self.mode == Mode::Document);
        Bulk::Documents {
            start: run.start,
            end: run.end,
            first_item: items.len() - waiting - run.documents,
            documents: run.documents,
            index: run.index,
            consumed: at,
        }
    }

    /// Ends the request, after what came before was taken.
    fn end(&mut self, run: Run, at: usize, items: &Items, error: ActionError) -> Bulk {
        if run.documents > 0 {
            // The line fails again as the first of the next call.
            self.usual.clear();
            return self.give(run, at, items);
        }
        self.mode = Mode::Failed;
        Bulk::Failed(error)
    }

    fn is_usual(&self, line: &[u8]) -> bool {
        !line.is_empty() && self.usual == line
    }

    /// Notes the action on a line; false when it names another index than the run before it, and comes again.
    fn note(&mut self, line: &[u8], run_index: Option<u16>, items: &mut Items) -> Result<bool, ActionError> {
        let number = self.line + 1;
        if line.len() > ACTION_BYTES_MAX {
            return Err(ActionError::TooLong(number));
        }
        let action = Action::parse(line, number)?;
        let index = items.index(&action)?;
        if run_index.is_some_and(|of_run| of_run != index) {
            return Ok(false);
        }
        self.outcome = items.note(&action, index)?;
        (self.kind, self.index) = (action.kind, index);
        self.usual.clear();
        if action.id.is_none() && line.len() <= USUAL_BYTES_MAX {
            self.usual.extend_from_slice(line);
        }
        Ok(true)
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
