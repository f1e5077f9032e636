//! Finds the rows in a request body as it arrives: lines, array elements or objects, told apart by content.

use std::fmt;

use memchr::{memchr, memrchr};

use super::outline::{ElementEnd, ObjectEnd, Outline};
use crate::limits::Limits;

/// What the splitter found at the front of the buffer.
///
/// `consumed` counts from the buffer's front: the caller drops that many bytes, with `Rows` after it has taken them,
/// and shows the rest with whatever came behind it in the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Complete rows, at most `chunk_bytes` and one row of them.
    Rows(Rows),
    /// No complete row; more bytes are needed. A buffer of `line_bytes_max` + 1 is enough for every row.
    NeedMore {
        /// Bytes that are no part of a row.
        consumed: usize,
    },
    /// A row longer than `line_bytes_max` was dropped; it counts as one row. The splitter goes on behind it.
    TooLong {
        /// Bytes of it to drop now.
        consumed: usize,
    },
    /// The body is not what it started as; the rows found before stand. `Done` follows.
    BodyError(BodyFault),
    /// The body has ended and every row was given out.
    Done,
}

/// Bytes that hold complete rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// First byte, counted from the buffer's front.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// What separates them.
    pub form: RowForm,
    /// Bytes to drop from the buffer once the rows are taken.
    pub consumed: usize,
}

impl Rows {
    /// The rows themselves, from the buffer that was given to [`Splitter::next`].
    pub fn text<'b>(&self, buffer: &'b [u8]) -> RowsText<'b> {
        RowsText {
            bytes: &buffer[self.start..self.end],
            form: self.form,
        }
    }
}

/// How rows stand in their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowForm {
    /// One a line; blank lines are no rows.
    Lines,
    /// JSON values with commas between them.
    Elements,
    /// Objects one after the other, over any number of lines.
    Objects,
}

/// The text of complete rows.
#[derive(Debug, Clone, Copy)]
pub struct RowsText<'b> {
    /// Their bytes.
    pub bytes: &'b [u8],
    /// What separates them.
    pub form: RowForm,
}

/// What is wrong with a body beyond a single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// A comma with no value before it.
    MissingElement,
    /// `,]`
    TrailingComma,
    /// Something other than white space after the array.
    AfterArray,
    /// The body ended within the array.
    UnfinishedArray,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyFault::MissingElement => "the JSON array has a comma with no element before it",
            BodyFault::TrailingComma => "the JSON array has a comma after its last element",
            BodyFault::AfterArray => "something follows the JSON array",
            BodyFault::UnfinishedArray => "the body ends before the JSON array does",
        })
    }
}

/// Splits one request body. It keeps offsets, never bytes: memory does not grow with the body.
#[derive(Debug)]
pub struct Splitter {
    mode: Mode,
    /// Bytes at the buffer's front that were looked at already; no byte is scanned twice in one mode.
    scanned: usize,
    outline: Outline,
    /// The first object, while what follows it on its line is not known.
    first_object_bytes: usize,
    chunk_bytes: usize,
    line_bytes_max: usize,
    shape: Shape,
}

/// What is known of a body before it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing: its content tells.
    Unknown,
    /// Objects, any number of them on a line, or an array.
    Objects,
    /// Lines, whatever is on them.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Start,
    /// Behind the byte order mark, or where it would have stood.
    Unmarked,
    Lines,
    /// Within a line that is dropped.
    LongLine,
    /// Within the first object, not yet known whether a line is a row.
    FirstObject,
    /// Behind the first object, which was on one line; what follows on that line decides.
    AfterFirstObject,
    /// Between objects.
    Objects,
    Object,
    LongObject,
    /// Before an array element, or before the bracket of an empty array.
    FirstElement,
    BeforeElement,
    Element,
    LongElement,
    AfterArray,
    Failed,
}

impl Splitter {
    /// A splitter at the start of a body.
    pub fn new(limits: &Limits) -> Self {
        Self::of(Shape::Unknown, limits)
    }

    /// A splitter at the start of a body of which something is known.
    pub fn of(shape: Shape, limits: &Limits) -> Self {
        Splitter {
            mode: match shape {
                Shape::Lines => Mode::Lines,
                Shape::Unknown | Shape::Objects => Mode::Start,
            },
            shape,
            scanned: 0,
            outline: Outline::default(),
            first_object_bytes: 0,
            // A line longer than `line_bytes_max` then never hides within a chunk of shorter ones.
            chunk_bytes: limits.chunk_bytes.min(limits.line_bytes_max),
            line_bytes_max: limits.line_bytes_max,
        }
    }

    /// A splitter of a stream that has one row a line, whatever it begins with.
    pub fn of_lines(limits: &Limits) -> Self {
        Splitter {
            mode: Mode::Lines,
            ..Splitter::new(limits)
        }
    }

    /// Looks at the unconsumed bytes of the body: what the last call left, and what came since.
    pub fn next(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        assert!(
            self.scanned <= buffer.len(),
            "the caller dropped bytes that were not consumed"
        );
        let split = match self.mode {
            Mode::Start => self.start(buffer, end_of_body),
            Mode::Unmarked => self.unmarked(buffer, end_of_body),
            Mode::Lines => self.lines(buffer, end_of_body),
            Mode::LongLine => self.long_line(buffer, end_of_body),
            Mode::FirstObject => self.first_object(buffer, end_of_body),
            Mode::AfterFirstObject => self.after_first_object(buffer, end_of_body),
            Mode::Objects | Mode::Object => self.objects(buffer, end_of_body),
            Mode::LongObject => self.long_object(buffer, end_of_body),
            Mode::FirstElement | Mode::BeforeElement | Mode::Element => self.elements(buffer, end_of_body),
            Mode::LongElement => self.long_element(buffer, end_of_body),
            Mode::AfterArray => self.after_array(buffer, end_of_body),
            Mode::Failed => Split::Done,
        };
        if let Split::BodyError(_) = split {
            self.mode = Mode::Failed;
            self.scanned = 0;
        }
        split
    }

    fn start(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
        if !end_of_body && buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(buffer) {
            return Split::NeedMore { consumed: 0 };
        }
        let mark_bytes = if buffer.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        self.mode = Mode::Unmarked;
        shifted(self.unmarked(&buffer[mark_bytes..], end_of_body), mark_bytes)
    }

    fn unmarked(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let lead = blank_bytes(buffer);
        let (mode, skip) = match buffer.get(lead) {
            None => return need_more_or_done(lead, end_of_body),
            Some(b'[') => (Mode::FirstElement, lead + 1),
            Some(_) if self.shape == Shape::Objects => (Mode::Objects, lead),
            Some(b'{') => (Mode::FirstObject, lead),
            Some(_) => (Mode::Lines, lead),
        };
        self.mode = mode;
        shifted(self.next(&buffer[skip..], end_of_body), skip)
    }

    fn lines(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let chunk_end = buffer.len().min(self.chunk_bytes);
        if self.scanned < chunk_end
            && let Some(newline) = memrchr(b'\n', &buffer[self.scanned..chunk_end])
        {
            return self.rows(0, self.scanned + newline + 1, RowForm::Lines, 0);
        }
        if self.scanned < buffer.len() {
            let from = self.scanned.max(chunk_end);
            if let Some(newline) = memchr(b'\n', &buffer[from..]) {
                let end = from + newline;
                if end > self.line_bytes_max {
                    self.scanned = 0;
                    return Split::TooLong { consumed: end + 1 };
                }
                return self.rows(0, end + 1, RowForm::Lines, 0);
            }
        }
        if buffer.len() > self.line_bytes_max {
            self.mode = Mode::LongLine;
            self.scanned = 0;
            return Split::TooLong {
                consumed: buffer.len(),
            };
        }
        if !end_of_body {
            self.scanned = buffer.len();
            return Split::NeedMore { consumed: 0 };
        }
        if buffer.is_empty() {
            Split::Done
        } else {
            self.rows(0, buffer.len(), RowForm::Lines, 0)
        }
    }

    fn long_line(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        match memchr(b'\n', buffer) {
            None => need_more_or_done(buffer.len(), end_of_body),
            Some(newline) => {
                self.mode = Mode::Lines;
                shifted(self.lines(&buffer[newline + 1..], end_of_body), newline + 1)
            }
        }
    }

    /// The body starts with `{`: one object a line, one object over many lines, or objects back to back?
    ///
    /// Only what one row may have is looked at, so that the answer does not depend on how the body arrives.
    fn first_object(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let window = &buffer[..buffer.len().min(self.line_bytes_max + 1)];
        match self.outline.object(window, self.scanned) {
            ObjectEnd::Complete(end) if end <= self.line_bytes_max => {
                self.first_object_bytes = end;
                self.scanned = end;
                if self.outline.spans_lines {
                    self.mode = Mode::Objects;
                    return self.rows(0, end, RowForm::Objects, 0);
                }
                self.mode = Mode::AfterFirstObject;
                self.after_first_object(buffer, end_of_body)
            }
            ObjectEnd::Complete(end) if self.outline.spans_lines => {
                self.mode = Mode::Objects;
                self.scanned = 0;
                Split::TooLong { consumed: end }
            }
            // The first line alone is bad or too long; whether a line is a row is plain now.
            ObjectEnd::Complete(_) | ObjectEnd::Cut(_) => self.restart_as_lines(buffer, end_of_body),
            ObjectEnd::More if self.outline.breaks_string => self.restart_as_lines(buffer, end_of_body),
            ObjectEnd::More if window.len() > self.line_bytes_max => {
                self.mode = if self.outline.spans_lines {
                    Mode::LongObject
                } else {
                    Mode::LongLine
                };
                self.scanned = 0;
                Split::TooLong {
                    consumed: window.len(),
                }
            }
            // An object cut short: one bad row rather than one for each of its lines, unless those may be rows.
            ObjectEnd::More if end_of_body && self.outline.spans_lines && !self.outline.holds_brace_line => {
                self.mode = Mode::Objects;
                self.rows(0, buffer.len(), RowForm::Objects, 0)
            }
            ObjectEnd::More if end_of_body => self.restart_as_lines(buffer, end_of_body),
            ObjectEnd::More => {
                self.scanned = buffer.len();
                Split::NeedMore { consumed: 0 }
            }
        }
    }

    fn after_first_object(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let window = &buffer[..buffer.len().min(self.line_bytes_max + 1)];
        let next = window[self.scanned..]
            .iter()
            .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
        match next {
            Some(b'{') => {
                self.mode = Mode::Objects;
                self.rows(0, self.first_object_bytes, RowForm::Objects, 0)
            }
            None if !end_of_body && window.len() <= self.line_bytes_max => {
                self.scanned = buffer.len();
                Split::NeedMore { consumed: 0 }
            }
            _ => self.restart_as_lines(buffer, end_of_body),
        }
    }

    fn restart_as_lines(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        self.mode = Mode::Lines;
        self.scanned = 0;
        self.lines(buffer, end_of_body)
    }

    fn objects(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let mut rows_start = 0;
        let mut rows_end = 0;
        let mut at = 0;
        loop {
            if self.mode == Mode::Objects {
                at += blank_bytes(&buffer[at..]);
                if rows_end == 0 {
                    rows_start = at;
                }
                self.scanned = at;
                if at == buffer.len() {
                    break;
                }
                self.outline = Outline::default();
                self.mode = Mode::Object;
            }
            let end = match self.outline.object(buffer, self.scanned) {
                ObjectEnd::Complete(end) | ObjectEnd::Cut(end) => end,
                ObjectEnd::More => {
                    self.scanned = buffer.len();
                    break;
                }
            };
            if end - at > self.line_bytes_max {
                if rows_end > 0 {
                    // Give out the rows before it first; it is scanned once more from its start.
                    self.mode = Mode::Objects;
                    return self.rows(rows_start, rows_end, RowForm::Objects, at - rows_end);
                }
                self.mode = Mode::Objects;
                self.scanned = 0;
                return Split::TooLong { consumed: end };
            }
            self.mode = Mode::Objects;
            rows_end = end;
            at = end;
            if rows_end - rows_start >= self.chunk_bytes {
                break;
            }
        }
        if rows_end > 0 {
            // `at` is the start of an object that is not complete, or where the next one is looked for.
            self.scanned = if self.mode == Mode::Object {
                self.scanned - at
            } else {
                0
            };
            return Split::Rows(Rows {
                start: rows_start,
                end: rows_end,
                form: RowForm::Objects,
                consumed: at,
            });
        }
        if self.mode == Mode::Objects {
            self.scanned = 0;
            return need_more_or_done(at, end_of_body);
        }
        let held = buffer.len() - at;
        if held > self.line_bytes_max {
            self.mode = Mode::LongObject;
            self.scanned = 0;
            return Split::TooLong {
                consumed: buffer.len(),
            };
        }
        if end_of_body {
            // An unfinished object is a bad row.
            self.mode = Mode::Objects;
            return self.rows(at, buffer.len(), RowForm::Objects, 0);
        }
        self.scanned -= at;
        Split::NeedMore { consumed: at }
    }

    fn long_object(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        match self.outline.object(buffer, 0) {
            ObjectEnd::More => need_more_or_done(buffer.len(), end_of_body),
            ObjectEnd::Complete(end) | ObjectEnd::Cut(end) => {
                self.mode = Mode::Objects;
                shifted(self.next(&buffer[end..], end_of_body), end)
            }
        }
    }

    fn elements(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let mut rows_start = 0;
        let mut rows_end = 0;
        // Start of the element that is scanned, or of what comes before the next one.
        let mut at = 0;
        let fault = loop {
            if self.mode != Mode::Element {
                at += blank_bytes(&buffer[at..]);
                if rows_end == 0 {
                    rows_start = at;
                }
                self.scanned = at;
                match buffer.get(at) {
                    None => break None,
                    Some(b',') => break Some(BodyFault::MissingElement),
                    Some(b']') if self.mode == Mode::BeforeElement => break Some(BodyFault::TrailingComma),
                    Some(b']') => {
                        self.mode = Mode::AfterArray;
                        at += 1;
                        break None;
                    }
                    Some(_) => {
                        self.mode = Mode::Element;
                        self.outline = Outline::default();
                    }
                }
            }
            let end = match self.outline.element(buffer, self.scanned) {
                ElementEnd::More => {
                    self.scanned = buffer.len();
                    break None;
                }
                ElementEnd::Comma(end) => {
                    self.mode = Mode::BeforeElement;
                    end
                }
                ElementEnd::Bracket(end) => {
                    self.mode = Mode::AfterArray;
                    end
                }
            };
            if end - at > self.line_bytes_max {
                if rows_end > 0 {
                    // Give out the rows before it first; it is scanned once more from its start.
                    self.mode = Mode::BeforeElement;
                    self.scanned = 0;
                    let form = RowForm::Elements;
                    return Split::Rows(Rows {
                        start: rows_start,
                        end: rows_end,
                        form,
                        consumed: at,
                    });
                }
                self.scanned = 0;
                return Split::TooLong { consumed: end + 1 };
            }
            rows_end = end;
            at = end + 1;
            if self.mode == Mode::AfterArray || rows_end - rows_start >= self.chunk_bytes {
                break None;
            }
        };
        if rows_end > 0 {
            // A fault is met again by the next call, which starts at it.
            self.scanned = if self.mode == Mode::Element {
                self.scanned - at
            } else {
                0
            };
            return Split::Rows(Rows {
                start: rows_start,
                end: rows_end,
                form: RowForm::Elements,
                consumed: at,
            });
        }
        if let Some(fault) = fault {
            return Split::BodyError(fault);
        }
        if self.mode == Mode::AfterArray {
            self.scanned = 0;
            return shifted(self.after_array(&buffer[at..], end_of_body), at);
        }
        if self.mode == Mode::Element && buffer.len() - at > self.line_bytes_max {
            self.mode = Mode::LongElement;
            self.scanned = 0;
            return Split::TooLong {
                consumed: buffer.len(),
            };
        }
        if end_of_body {
            return Split::BodyError(BodyFault::UnfinishedArray);
        }
        self.scanned = if self.mode == Mode::Element {
            self.scanned - at
        } else {
            0
        };
        Split::NeedMore { consumed: at }
    }

    fn long_element(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let end = match self.outline.element(buffer, 0) {
            ElementEnd::More if end_of_body => return Split::BodyError(BodyFault::UnfinishedArray),
            ElementEnd::More => {
                return Split::NeedMore {
                    consumed: buffer.len(),
                };
            }
            ElementEnd::Comma(end) => {
                self.mode = Mode::BeforeElement;
                end
            }
            ElementEnd::Bracket(end) => {
                self.mode = Mode::AfterArray;
                end
            }
        };
        shifted(self.next(&buffer[end + 1..], end_of_body), end + 1)
    }

    fn after_array(&mut self, buffer: &[u8], end_of_body: bool) -> Split {
        let blank = blank_bytes(buffer);
        if blank < buffer.len() {
            return Split::BodyError(BodyFault::AfterArray);
        }
        need_more_or_done(blank, end_of_body)
    }

    fn rows(&mut self, start: usize, end: usize, form: RowForm, separator_bytes: usize) -> Split {
        self.scanned = 0;
        Split::Rows(Rows {
            start,
            end,
            form,
            consumed: end + separator_bytes,
        })
    }
}

fn need_more_or_done(consumed: usize, end_of_body: bool) -> Split {
    if end_of_body {
        Split::Done
    } else {
        Split::NeedMore { consumed }
    }
}

/// What was found in a buffer without its first `by` bytes, for the whole buffer.
fn shifted(split: Split, by: usize) -> Split {
    match split {
        Split::Rows(rows) => Split::Rows(Rows {
            start: rows.start + by,
            end: rows.end + by,
            consumed: rows.consumed + by,
            form: rows.form,
        }),
        Split::NeedMore { consumed } => Split::NeedMore {
            consumed: consumed + by,
        },
        Split::TooLong { consumed } => Split::TooLong {
            consumed: consumed + by,
        },
        Split::BodyError(_) | Split::Done => split,
    }
}

fn blank_bytes(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| !is_blank(*byte))
        .unwrap_or(text.len())
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'b> RowsText<'b> {
    /// The text of each row, without blanks around it. Rows are numbered in this order.
    pub(super) fn rows(&self) -> RowTexts<'b> {
        RowTexts { text: *self, at: 0 }
    }

    /// The offset at which row number `row` starts, blanks before it included; the text's end when there is none.
    pub fn offset_of_row(&self, row: usize) -> usize {
        if row == 0 {
            0
        } else {
            self.rows()
                .nth(row - 1)
                .map_or(self.bytes.len(), |range| range.next)
        }
    }

    /// The rows from `offset` on, which [`RowsText::offset_of_row`] gave.
    pub fn from_offset(&self, offset: usize) -> RowsText<'b> {
        RowsText {
            bytes: &self.bytes[offset..],
            form: self.form,
        }
    }
}

/// One row within a [`RowsText`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRange {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Where the next row may start.
    next: usize,
}

/// Finds the rows of a text one by one: slower than a parse of all of them, for when that failed.
pub(super) struct RowTexts<'b> {
    text: RowsText<'b>,
    at: usize,
}

impl Iterator for RowTexts<'_> {
    type Item = RowRange;

    fn next(&mut self) -> Option<RowRange> {
        let bytes = self.text.bytes;
        let start = self.at + blank_bytes(&bytes[self.at..]);
        if start == bytes.len() {
            return None;
        }
        let (end, next) = match self.text.form {
            RowForm::Lines => {
                let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |n| start + n);
                (end, (end + 1).min(bytes.len()))
            }
            RowForm::Elements => match Outline::default().element(bytes, start) {
                ElementEnd::Comma(end) | ElementEnd::Bracket(end) => (end, end + 1),
                ElementEnd::More => (bytes.len(), bytes.len()),
            },
            RowForm::Objects => match Outline::default().object(bytes, start) {
                ObjectEnd::Complete(end) | ObjectEnd::Cut(end) => (end, end),
                ObjectEnd::More => (bytes.len(), bytes.len()),
            },
        };
        self.at = next;
        let blanks = bytes[start..end]
            .iter()
            .rev()
            .take_while(|byte| is_blank(**byte))
            .count();
        Some(RowRange {
            start,
            end: end - blanks,
            next,
        })
    }
}
