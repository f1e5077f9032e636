//! What an ingest core does with lines once it has received them, without everything around it.

use std::sync::Arc;

use super::inputs::{PLAIN_COLUMNS, Table};
use crate::batch::{RowInput, TableSink};
use crate::clickhouse::frame::FrameEncoder;
use crate::json::{Parser, RowErrors, RowForm, RowsText, Split, Splitter};
use crate::limits::Limits;
use crate::mapping::MappingConfig;
use crate::otlp::Message;
use crate::schema::{RawColumn, TableName, TableSchema};

/// Time of receipt: no line is without a time of its own.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// Everything one core holds for one table.
pub struct Core {
    parser: Parser,
    sink: TableSink,
    encoder: FrameEncoder,
    errors: RowErrors,
    frames: Vec<u8>,
    rows_sealed: u64,
    frame_bytes: u64,
}

impl Core {
    /// With the limits of a server.
    pub fn new(table: Table, limits: &Limits) -> Core {
        let schema = Arc::new(schema(table));
        Core {
            parser: Parser::new(limits),
            sink: TableSink::new(schema, &MappingConfig::default(), limits),
            encoder: FrameEncoder::new(),
            errors: RowErrors::new(limits),
            frames: Vec::with_capacity(FrameEncoder::bound(2 * limits.batch_bytes_max)),
            rows_sealed: 0,
            frame_bytes: 0,
        }
    }

    /// Takes lines of any number and gives all their blocks away.
    ///
    /// # Panics
    /// When a line was no row.
    pub fn push_into(&mut self, lines: &[u8], give: &mut dyn FnMut(&[u8])) {
        let limits = Limits::default();
        for (start, end) in chunks(lines, &limits) {
            let mut text = RowsText {
                bytes: &lines[start..end],
                form: RowForm::Lines,
            };
            while let Some(batch) = self.push_some(&mut text) {
                self.seal(batch);
                give(&self.frames);
            }
        }
        let open: Vec<usize> = self.sink.open().map(|(batch, _)| batch).collect();
        for batch in open {
            self.seal(batch);
            give(&self.frames);
        }
        assert_eq!(self.errors.count, 0, "{:?}", self.errors.first);
    }

    /// Takes lines; full batches become blocks.
    pub fn push(&mut self, lines: &[u8]) {
        let mut text = RowsText {
            bytes: lines,
            form: RowForm::Lines,
        };
        while let Some(batch) = self.push_some(&mut text) {
            self.seal(batch);
        }
    }

    /// Takes the records of an OTLP request; full batches become blocks.
    ///
    /// # Panics
    /// When it is no such request.
    pub fn push_otlp(&mut self, request: &[u8]) {
        let message = Message::parse(request).expect("the request was made here");
        self.push_rows(&message);
    }

    /// Takes rows that came together; full batches become blocks.
    pub fn push_rows(&mut self, rows: &impl RowInput) {
        let mut at = 0;
        while at < rows.end() {
            let (sink, parser, errors) = (&mut self.sink, &mut self.parser, &mut self.errors);
            let pushed = rows.push(at, sink, parser, 0, NOW_NS, errors);
            at += pushed.consumed;
            let full = (0..64).find(|batch| pushed.touched >> batch & 1 == 1 && self.sink.is_full(*batch));
            if let Some(batch) = pushed.blocked_on.or(full) {
                self.seal(batch);
            }
        }
    }

    /// Takes lines until a batch must be sealed, or all are taken.
    fn push_some<'t>(&mut self, text: &mut RowsText<'t>) -> Option<usize> {
        while !text.bytes.is_empty() {
            let pushed = self
                .sink
                .push(&mut self.parser, *text, 0, NOW_NS, &mut self.errors);
            *text = text.from_offset(pushed.consumed);
            let full = (0..64).find(|batch| pushed.touched >> batch & 1 == 1 && self.sink.is_full(*batch));
            if let Some(batch) = pushed.blocked_on.or(full) {
                return Some(batch);
            }
        }
        None
    }

    fn seal(&mut self, batch: usize) {
        self.frames.clear();
        let block = self.sink.seal(batch, &mut self.encoder, &mut self.frames);
        self.rows_sealed += u64::from(block.rows);
        self.frame_bytes += self.frames.len() as u64;
    }

    /// Seals what is open; returns all rows sealed so far.
    ///
    /// # Panics
    /// When a line was no row: a figure would be of something else.
    pub fn finish(&mut self) -> u64 {
        let open: Vec<usize> = self.sink.open().map(|(batch, _)| batch).collect();
        for batch in open {
            self.seal(batch);
        }
        assert_eq!(self.errors.count, 0, "{:?}", self.errors.first);
        self.rows_sealed
    }

    /// Bytes of all blocks sealed so far, compressed.
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bytes
    }
}

fn schema(table: Table) -> TableSchema {
    let name = |table: &str| TableName {
        database: "default".into(),
        table: table.into(),
    };
    match table {
        Table::Default => TableSchema::default_table(name("otel_logs")),
        Table::Plain => {
            let columns = PLAIN_COLUMNS.map(|(name, type_name)| RawColumn {
                name: name.into(),
                type_name: type_name.into(),
                default_kind: String::new(),
                default_expression: String::new(),
            });
            TableSchema::from_columns(name("plain"), &columns, "toDate(time)").expect("the types are known")
        }
    }
}

/// The chunks in which a receive buffer would show the text: where each begins and ends.
///
/// # Panics
/// When the text is no lines that fit the limits.
pub fn chunks(text: &[u8], limits: &Limits) -> Vec<(usize, usize)> {
    let mut splitter = Splitter::new(limits);
    let mut chunks = Vec::new();
    let mut at = 0;
    loop {
        match splitter.next(&text[at..], true) {
            Split::Rows(rows) => {
                chunks.push((at + rows.start, at + rows.end));
                at += rows.consumed;
            }
            Split::Done => return chunks,
            other => panic!("the input is no plain lines: {other:?}"),
        }
    }
}

/// simd-json's tape of JSON texts, and nothing made of it: what no parser above simd-json passes.
pub struct TapeOnly {
    padded: Vec<u8>,
    buffers: simd_json::Buffers,
    nodes: Vec<simd_json::Node<'static>>,
}

impl TapeOnly {
    /// For texts of about `chunk_bytes`.
    pub fn new(chunk_bytes: usize) -> TapeOnly {
        TapeOnly {
            padded: Vec::new(),
            buffers: simd_json::Buffers::new(chunk_bytes),
            nodes: Vec::new(),
        }
    }

    /// Parses one text and returns the number of nodes.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn parse(&mut self, text: &[u8]) -> usize {
        // simd-json unescapes in place, so each parse needs its own copy.
        self.padded.clear();
        self.padded.extend_from_slice(text);
        self.padded.resize(text.len() + simd_json::INPUT_PADDING, b' ');
        let mut tape = simd_json::Tape(std::mem::take(&mut self.nodes));
        simd_json::fill_tape_padded(&mut self.padded, text.len(), &mut self.buffers, &mut tape)
            .expect("the input is JSON");
        let nodes = tape.0.len();
        self.nodes = tape.reset().0;
        nodes
    }
}

/// Lines as one JSON array, the form simd-json takes many of them in.
pub fn one_text(lines: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.trim_ascii_end().split(|byte| *byte == b'\n').collect();
    [b"[", lines.join(&b","[..]).as_slice(), b"]"].concat()
}
