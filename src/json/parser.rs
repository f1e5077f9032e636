//! Parses the rows of a text in one go with simd-json, and row by row only when that fails.

use std::fmt;
use std::mem;
use std::ops::Range;

use memchr::memchr_iter;
use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, Tape, fill_tape_padded};

use super::reader::Reader;
use super::splitter::{RowForm, RowsText, is_blank};
use crate::limits::Limits;
use crate::mapping::Constants;

/// Why a row is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowFault {
    /// What is wrong.
    pub kind: RowFaultKind,
    /// Byte of the row at which it was noticed.
    pub at: u32,
}

/// What can be wrong with a row's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFaultKind {
    /// Not JSON, or more than one value.
    Json,
    /// Not UTF-8, or an escaped lone surrogate, which no UTF-8 can hold.
    Utf8,
    /// JSON, but not an object.
    NotObject,
    /// Nested deeper than `depth_max`.
    TooDeep,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RowFaultKind::Json => write!(f, "not valid JSON at byte {}", self.at),
            RowFaultKind::Utf8 => write!(f, "not valid UTF-8, or a lone surrogate"),
            RowFaultKind::NotObject => write!(f, "not a JSON object"),
            RowFaultKind::TooDeep => write!(f, "nested too deep at byte {}", self.at),
        }
    }
}

/// Appends the constants' values to a tape; where the first is.
fn add(tape: &mut Vec<Node<'_>>, constants: Constants) -> u32 {
    let added = tape.len() as u32;
    tape.extend(constants.pairs().iter().map(|(_, value)| Node::String(value)));
    added
}

/// The rows of one text, parsed.
#[derive(Debug)]
pub struct Parsed<'p, 'text> {
    /// simd-json's nodes; index 0 is the array around the rows and never a value.
    pub tape: &'p [Node<'text>],
    /// Tape index of each good row's object.
    pub rows: &'p [u32],
    /// The number in the text of each good row; empty when all are good.
    ordinals: &'p [u32],
    /// The bad rows, ascending by number.
    pub faults: &'p [(u32, RowFault)],
    /// Good and bad rows.
    pub count: u32,
    /// Tape index of the first value that was added.
    pub added: u32,
}

impl Parsed<'_, '_> {
    /// The number in the text of good row `row`.
    #[inline]
    pub fn ordinal(&self, row: usize) -> u32 {
        if self.ordinals.is_empty() {
            row as u32
        } else {
            self.ordinals[row]
        }
    }
}

/// One per core: its buffers grow to the largest text seen, `chunk_bytes` and one row, and stay.
pub struct Parser {
    /// `[`, the rows with commas between them, `]`, padding.
    text: Vec<u8>,
    buffers: Buffers,
    /// Empty between calls: only its memory is kept.
    tape: Vec<Node<'static>>,
    /// A reader's room for texts without their escapes.
    unescaped: Vec<u8>,
    depth_max: u32,
    /// Where in `text` each row's first key is, or `EMPTY`.
    keys: Vec<u32>,
    rows: Vec<u32>,
    ordinals: Vec<u32>,
    faults: Vec<(u32, RowFault)>,
    /// Good rows found one by one, in the received text, and whether their large integers are to be quoted.
    good: Vec<(Range<usize>, bool)>,
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser")
            .field("text_bytes", &self.text.capacity())
            .finish_non_exhaustive()
    }
}

impl Parser {
    /// A parser with room for texts of `chunk_bytes`.
    pub fn new(limits: &Limits) -> Self {
        // The array around the rows is one level, its own.
        let buffers = Buffers::with_max_depth(limits.chunk_bytes, limits.depth_max + 1);
        Parser {
            text: Vec::with_capacity(limits.chunk_bytes + 2 + INPUT_PADDING),
            buffers,
            tape: Vec::new(),
            unescaped: vec![0; limits.chunk_bytes],
            depth_max: limits.depth_max as u32,
            keys: Vec::new(),
            rows: Vec::new(),
            ordinals: Vec::new(),
            faults: Vec::new(),
            good: Vec::new(),
        }
    }

    /// Gives `text` to `read` with a reader at its start and a tape for the values; `None` when it is not UTF-8.
    pub fn read<R>(
        &mut self,
        text: RowsText<'_>,
        read: impl for<'t> FnOnce(Reader<'t>, &mut Vec<Node<'t>>) -> R,
    ) -> Option<R> {
        let form = text.form;
        let text = simdutf8::basic::from_utf8(text.bytes).ok()?;
        if self.unescaped.len() < text.len() {
            self.unescaped.resize(text.len(), 0);
        }
        let mut tape = Tape(mem::take(&mut self.tape));
        let reader = Reader::new(text, form, &mut self.unescaped, self.depth_max);
        let result = read(reader, &mut tape.0);
        self.tape = tape.reset().0;
        Some(result)
    }

    /// Gives `read` room for texts and a tape for values, as [`Parser::read`] gives a reader.
    pub fn lend<'t, R>(
        &'t mut self,
        room_bytes: usize,
        read: impl FnOnce(&'t mut [u8], &mut Vec<Node<'t>>) -> R,
    ) -> R {
        let Parser { unescaped, tape, .. } = self;
        if unescaped.len() < room_bytes {
            // Not resized: memory that comes zeroed is touched only where it is used.
            *unescaped = vec![0; room_bytes];
        }
        let mut lent = Tape(mem::take(tape));
        let result = read(unescaped, &mut lent.0);
        *tape = lent.reset().0;
        result
    }

    /// Parses every row of `text` and shows the result to `take`; a bad row costs no other row.
    ///
    /// # Panics
    /// If `text` is longer than 2 GiB, which the splitter never gives.
    pub fn parse<R>(&mut self, text: RowsText<'_>, take: impl FnOnce(Parsed<'_, '_>) -> R) -> R {
        self.parse_with(text, Constants::default(), take)
    }

    /// [`Parser::parse`], with the constants' values behind the rows' own on the tape.
    ///
    /// # Panics
    /// As `parse`.
    pub fn parse_with<R>(
        &mut self,
        text: RowsText<'_>,
        constants: Constants,
        take: impl FnOnce(Parsed<'_, '_>) -> R,
    ) -> R {
        assert!(
            i32::try_from(text.bytes.len()).is_ok(),
            "a chunk and a row are far below 2 GiB"
        );
        self.rows.clear();
        self.ordinals.clear();
        self.faults.clear();
        if self.copy_all(text) {
            let mut tape = Tape(mem::take(&mut self.tape));
            self.text.reserve(INPUT_PADDING);
            // Taken when the text has its place: the keys on the tape are compared with it.
            let base = self.text.as_ptr().addr();
            if fill_tape(&mut self.text, &mut self.buffers, &mut tape).is_ok() {
                let keys = (text.form != RowForm::Elements).then_some((base, self.keys.as_slice()));
                if list_rows(
                    &tape.0,
                    keys,
                    &mut self.rows,
                    &mut self.ordinals,
                    &mut self.faults,
                ) {
                    let added = add(&mut tape.0, constants);
                    let taken = take(Parsed {
                        added,
                        tape: &tape.0,
                        rows: &self.rows,
                        ordinals: &self.ordinals,
                        faults: &self.faults,
                        count: (self.rows.len() + self.faults.len()) as u32,
                    });
                    self.tape = tape.reset().0;
                    return taken;
                }
            }
            self.tape = tape.reset().0;
        }
        self.check_one_by_one(text);
        self.copy_good(text.bytes);
        let mut tape = Tape(mem::take(&mut self.tape));
        let parsed = fill_tape(&mut self.text, &mut self.buffers, &mut tape).is_ok();
        // Each of these rows parsed as the only element of an array, so they parse as its elements together.
        let listed = parsed && list_rows(&tape.0, None, &mut self.rows, &mut Vec::new(), &mut Vec::new());
        assert!(
            listed && self.rows.len() == self.ordinals.len(),
            "good rows parse together"
        );
        let added = add(&mut tape.0, constants);
        let taken = take(Parsed {
            added,
            tape: &tape.0,
            rows: &self.rows,
            ordinals: &self.ordinals,
            faults: &self.faults,
            count: (self.rows.len() + self.faults.len()) as u32,
        });
        self.tape = tape.reset().0;
        taken
    }

    /// Makes one JSON text of all rows, noting where each one's first key stands; false when a row shows at its
    /// first byte that it is no object.
    fn copy_all(&mut self, text: RowsText<'_>) -> bool {
        self.text.clear();
        self.keys.clear();
        self.text.push(b'[');
        let plausible = match text.form {
            RowForm::Lines => self.copy_lines(text.bytes),
            RowForm::Elements => {
                self.text.extend_from_slice(text.bytes);
                true
            }
            RowForm::Objects => self.copy_objects(text),
        };
        self.text.push(b']');
        plausible
    }

    /// Copies the lines at once, then makes a comma of the newline before each row but the first.
    fn copy_lines(&mut self, bytes: &[u8]) -> bool {
        self.text.extend_from_slice(bytes);
        let mut start = 0;
        for newline in memchr_iter(b'\n', bytes) {
            if !self.take_line(bytes, start, newline) {
                return false;
            }
            start = newline + 1;
        }
        self.take_line(bytes, start, bytes.len())
    }

    #[inline]
    fn take_line(&mut self, bytes: &[u8], start: usize, end: usize) -> bool {
        let line = &bytes[start..end];
        let lead = match line {
            [b'{', b'"', ..] => 0,
            _ => match line.iter().position(|byte| !is_blank(*byte)) {
                None => return true,
                Some(lead) => lead,
            },
        };
        let Some(key) = first_key(&line[lead..]) else {
            return false;
        };
        if !self.keys.is_empty() {
            // One past the newline's own place, because of the bracket in front.
            self.text[start] = b',';
        }
        // Behind the bracket and the text before the line.
        self.keys.push(if key == EMPTY {
            EMPTY
        } else {
            (1 + start + lead) as u32 + key
        });
        true
    }

    fn copy_objects(&mut self, text: RowsText<'_>) -> bool {
        for range in text.rows() {
            let row = &text.bytes[range.start..range.end];
            let Some(key) = first_key(row) else { return false };
            if !self.keys.is_empty() {
                self.text.push(b',');
            }
            self.keys.push(if key == EMPTY {
                EMPTY
            } else {
                self.text.len() as u32 + key
            });
            self.text.extend_from_slice(row);
        }
        true
    }

    /// Parses each row alone, and keeps where the good ones are and what is wrong with the others.
    #[cold]
    fn check_one_by_one(&mut self, text: RowsText<'_>) {
        self.rows.clear();
        self.ordinals.clear();
        self.faults.clear();
        self.good.clear();
        for (ordinal, range) in text.rows().enumerate() {
            let row = &text.bytes[range.start..range.end];
            let mut quoted = false;
            let mut fault = self.check(|text| text.extend_from_slice(row));
            if fault.is_some_and(|fault| fault.kind == RowFaultKind::Json) && has_large_integer(row) {
                quoted = true;
                fault = self.check(|text| quote_large_integers(row, text));
            }
            match fault {
                Some(fault) => self.faults.push((ordinal as u32, fault)),
                None => {
                    self.good.push((range.start..range.end, quoted));
                    self.ordinals.push(ordinal as u32);
                }
            }
        }
    }

    /// What is wrong with the row that `put` appends.
    fn check(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Option<RowFault> {
        self.text.clear();
        self.text.push(b'[');
        put(&mut self.text);
        self.text.push(b']');
        let mut tape = Tape(mem::take(&mut self.tape));
        let fault = match fill_tape(&mut self.text, &mut self.buffers, &mut tape) {
            Err(error) => Some(RowFault::from_simd_json(&error, 1)),
            Ok(()) => RowFault::of_single(&tape.0),
        };
        self.tape = tape.reset().0;
        fault
    }

    fn copy_good(&mut self, bytes: &[u8]) {
        self.text.clear();
        self.text.push(b'[');
        for (i, (range, quoted)) in self.good.iter().enumerate() {
            if i > 0 {
                self.text.push(b',');
            }
            match quoted {
                false => self.text.extend_from_slice(&bytes[range.clone()]),
                true => quote_large_integers(&bytes[range.clone()], &mut self.text),
            }
        }
        self.text.push(b']');
    }
}

/// In place of a first key's offset: the row is an object without keys.
const EMPTY: u32 = u32::MAX;

/// The offset of the first key's text in a row, `EMPTY` when it has none, `None` when it is no object.
#[inline]
fn first_key(row: &[u8]) -> Option<u32> {
    match row {
        [b'{', b'"', ..] => Some(2),
        [b'{', rest @ ..] => {
            let blank = rest.iter().take_while(|byte| is_blank(**byte)).count();
            match rest.get(blank) {
                Some(b'"') => Some((blank + 2) as u32),
                Some(b'}') if rest[blank + 1..].iter().all(|byte| is_blank(*byte)) => Some(EMPTY),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Digits from which an integer may not fit 64 bits.
const LARGE_DIGITS: usize = 19;

fn has_large_integer(row: &[u8]) -> bool {
    row.chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit())
        .any(|run| run.len() >= LARGE_DIGITS)
}

/// Appends `row` with every integer that does not fit 64 bits as a string: simd-json refuses those, JSON does not,
/// and as text no digit is lost.
pub(super) fn quote_large_integers(row: &[u8], text: &mut Vec<u8>) {
    let mut at = 0;
    let mut in_string = false;
    while at < row.len() {
        let byte = row[at];
        let start = at;
        at += 1;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => at = (at + 1).min(row.len()),
            b'-' | b'0'..=b'9' if !in_string => {
                let is_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                at += row[at..].iter().take_while(|byte| is_number(byte)).count();
                let number = &row[start..at];
                if is_large_integer(number) {
                    text.push(b'"');
                    text.extend_from_slice(number);
                    text.push(b'"');
                    continue;
                }
            }
            _ => {}
        }
        text.extend_from_slice(&row[start..at]);
    }
}

/// Whether a number is an integer as JSON writes them, and too large for simd-json.
fn is_large_integer(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let is_integer =
        digits.iter().all(u8::is_ascii_digit) && digits.first().is_some_and(|digit| *digit != b'0');
    let fits = std::str::from_utf8(number)
        .is_ok_and(|number| number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok());
    is_integer && digits.len() >= LARGE_DIGITS && !fits
}

/// Parses `text`, which becomes longer by the padding simd-json reads over, in place.
pub(super) fn fill_tape<'t>(
    text: &'t mut Vec<u8>,
    buffers: &mut Buffers,
    tape: &mut Tape<'t>,
) -> Result<(), simd_json::Error> {
    let len = text.len();
    text.resize(len + INPUT_PADDING, b' ');
    fill_tape_padded(text, len, buffers, tape)
}

/// Lists the objects of the array that the tape holds, the other elements as faults.
///
/// With `keys`, the text's address and the offset of each row's first key, it returns false unless element n is
/// row n: two bad rows may make good ones together (`{"a":"` and `","b":1}` around a newline that became a comma).
/// When every row's first key is where that row starts, no row starts within another, so none ends in another.
fn list_rows(
    tape: &[Node<'_>],
    keys: Option<(usize, &[u32])>,
    rows: &mut Vec<u32>,
    ordinals: &mut Vec<u32>,
    faults: &mut Vec<(u32, RowFault)>,
) -> bool {
    let Some(Node::Array { len, .. }) = tape.first() else {
        return false;
    };
    if keys.is_some_and(|(_, keys)| keys.len() != *len) {
        return false;
    }
    rows.reserve(*len);
    let mut at = 1;
    for row in 0..*len {
        match tape[at] {
            Node::Object { len, count } => {
                if let Some((base, keys)) = keys {
                    let expected = keys[row];
                    let found = match tape[at + 1..].first() {
                        Some(Node::String(key)) if len > 0 => (key.as_ptr().addr() - base) as u32,
                        _ => EMPTY,
                    };
                    if found != expected {
                        return false;
                    }
                }
                rows.push(at as u32);
                if !faults.is_empty() {
                    ordinals.push(row as u32);
                }
                at += count;
            }
            other => {
                if faults.is_empty() {
                    ordinals.extend(0..row as u32);
                }
                faults.push((
                    row as u32,
                    RowFault {
                        kind: RowFaultKind::NotObject,
                        at: 0,
                    },
                ));
                if let Node::Array { count, .. } = other {
                    at += count;
                }
            }
        }
        at += 1;
    }
    true
}

impl RowFault {
    #[cold]
    pub(super) fn from_simd_json(error: &simd_json::Error, bytes_before: usize) -> Self {
        let kind = match error.error() {
            ErrorType::InvalidUtf8 | ErrorType::InvalidUnicodeCodepoint => RowFaultKind::Utf8,
            ErrorType::DepthLimitExceeded => RowFaultKind::TooDeep,
            _ => RowFaultKind::Json,
        };
        // What is in front of the row, a bracket, is not the client's.
        RowFault {
            kind,
            at: error.index().saturating_sub(bytes_before) as u32,
        }
    }

    /// What is wrong with a row that parsed as the content of an array.
    fn of_single(tape: &[Node<'_>]) -> Option<Self> {
        match tape {
            [Node::Array { len: 1, .. }, Node::Object { .. }, ..] => None,
            [Node::Array { len: 1, .. }, ..] => Some(RowFault {
                kind: RowFaultKind::NotObject,
                at: 0,
            }),
            _ => Some(RowFault {
                kind: RowFaultKind::Json,
                at: 0,
            }),
        }
    }
}
