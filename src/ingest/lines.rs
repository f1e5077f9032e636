//! Lines of text as rows: each is a Body, beside what the request says of all of them.

use std::mem;

use memchr::memchr;

use crate::batch::{Place, Pushed, RowInput, RowSource, RowStop, RowWriter, TableSink};
use crate::column::Node;
use crate::json::{Parser, RowErrors};

/// Names and values that a request gives all its lines.
pub(super) type LineFields = Vec<(&'static str, Box<str>)>;

/// Complete lines; blank ones are no rows.
pub(super) struct TextLines<'b> {
    pub bytes: &'b [u8],
    pub fields: &'b [(&'static str, Box<str>)],
}

/// The usual name of the Body.
const BODY: &str = "message";

/// Bytes of a replacement character, in place of one byte that is no UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

impl RowInput for TextLines<'_> {
    const PASS_BY_PASS: bool = false;

    fn end(&self) -> usize {
        self.bytes.len()
    }

    fn push(
        &self,
        at: usize,
        sink: &mut TableSink,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let bytes = &self.bytes[at..];
        // Only for lines that are not as they should be.
        let room_bytes = match simdutf8::basic::from_utf8(bytes) {
            Ok(_) => 0,
            Err(_) => REPLACEMENT.len() * bytes.len(),
        };
        parser.lend(room_bytes, |room, tape| {
            let mut rows = LineRows {
                lines: bytes,
                fields: self.fields,
                room,
                places: Vec::new(),
                generation: None,
            };
            let lines_max = memchr::memchr_iter(b'\n', bytes).count() + 1;
            let mut pushed = sink.push_rows(&mut rows, lines_max, tape, first_row, now_ns, errors);
            pushed.consumed = offset_of(bytes, pushed.rows);
            pushed
        })
    }
}

/// Where the row of this number begins, or the end.
fn offset_of(bytes: &[u8], rows: u64) -> usize {
    let mut rest = bytes;
    for _ in 0..rows {
        next_line(&mut rest);
    }
    // Blank lines are done with.
    let mut ahead = rest;
    match next_line(&mut ahead) {
        None => bytes.len(),
        Some(_) => bytes.len() - rest.len(),
    }
}

/// Takes the next line that is not blank, without its end.
fn next_line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    while !rest.is_empty() {
        let (line, next) = match memchr(b'\n', rest) {
            Some(newline) => (&rest[..newline], &rest[newline + 1..]),
            None => (*rest, &[][..]),
        };
        *rest = next;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.trim_ascii().is_empty() {
            return Some(line);
        }
    }
    None
}

struct LineRows<'t> {
    lines: &'t [u8],
    fields: &'t [(&'static str, Box<str>)],
    room: &'t mut [u8],
    /// Of the body, then of the fields.
    places: Vec<Place>,
    generation: Option<u32>,
}

impl<'t> LineRows<'t> {
    /// The line as text, what is no UTF-8 replaced.
    fn text(&mut self, line: &'t [u8]) -> Result<&'t str, RowStop> {
        if let Ok(text) = simdutf8::basic::from_utf8(line) {
            return Ok(text);
        }
        let room = mem::take(&mut self.room);
        let mut length = 0;
        let mut put = |text: &str| {
            room[length..length + text.len()].copy_from_slice(text.as_bytes());
            length += text.len();
        };
        for chunk in line.utf8_chunks() {
            put(chunk.valid());
            if !chunk.invalid().is_empty() {
                put(REPLACEMENT);
            }
        }
        let (text, rest) = room.split_at_mut(length);
        self.room = rest;
        Ok(std::str::from_utf8(text).expect("it was put together from texts"))
    }
}

impl<'t> RowSource<'t> for LineRows<'t> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        let mut rest = self.lines;
        let Some(line) = next_line(&mut rest) else {
            return Ok(false);
        };
        if self.generation != Some(row.generation()) {
            self.places.clear();
            let names = self.fields.iter().map(|(name, _)| *name);
            for name in std::iter::once(BODY).chain(names) {
                let place = row.place(name)?;
                self.places.push(place);
            }
            self.generation = Some(row.generation());
        }
        let text = self.text(line)?;
        let values = std::iter::once(text).chain(self.fields.iter().map(|(_, value)| &**value));
        for (place, value) in self.places.iter().zip(values) {
            row.put_node(*place, Node::String(value))?;
        }
        self.lines = rest;
        Ok(true)
    }

    fn skip(&mut self) {
        next_line(&mut self.lines);
    }
}
