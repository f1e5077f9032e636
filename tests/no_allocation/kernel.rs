//! Text to sealed block and back to an empty one: not one allocation.

use std::sync::Arc;

use ringhouse::batch::{RowInput, Span, TableSink};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::forward::msgpack::Extent;
use ringhouse::forward::{Rows as Entries, Shape};
use ringhouse::json::{Parser, RowErrors, RowsText, Split, Splitter};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{RawColumn, Schema, TableName, TableSchema};
use ringhouse::syslog::{Framer, Messages};

use crate::counting::{Thread, Trace};
use crate::{Random, log_lines};

const NOW_NS: i64 = 1_795_240_800_000_000_000;

/// Two full batches of 16,384 rows and a third that is sealed before it is full.
const ROWS: usize = 40_000;

/// One core's way from text to blocks, with its pool.
struct Core {
    limits: Limits,
    parser: Parser,
    sink: TableSink,
    encoder: FrameEncoder,
    pool: Vec<Vec<u8>>,
    rows_sealed: u64,
}

impl Core {
    fn new(schema: Schema) -> Core {
        let limits = Limits::default();
        let frames_bytes = FrameEncoder::bound(2 * limits.batch_bytes_max);
        Core {
            parser: Parser::new(&limits),
            sink: TableSink::new(schema, &MappingConfig::default(), &limits),
            encoder: FrameEncoder::new(),
            pool: (0..2).map(|_| Vec::with_capacity(frames_bytes)).collect(),
            limits,
            rows_sealed: 0,
        }
    }

    /// Takes a body as it would arrive, chunk by chunk, and seals every batch of it.
    fn take(&mut self, body: &[u8]) {
        let mut errors = RowErrors::new(&self.limits);
        let mut splitter = Splitter::new(&self.limits);
        let mut at = 0;
        loop {
            match splitter.next(&body[at..], true) {
                Split::Rows(rows) => {
                    self.push(rows.text(&body[at..]), &mut errors);
                    at += rows.consumed;
                }
                Split::Done => break,
                other => panic!("the body is whole and of lines: {other:?}"),
            }
        }
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        self.seal_all();
    }

    fn seal_all(&mut self) {
        for batch in 0..self.limits.batches_per_table {
            if self.sink.open().any(|(open, _)| open == batch) {
                self.seal(batch);
            }
        }
    }

    fn push_rows(&mut self, rows: &impl RowInput, errors: &mut RowErrors) {
        let mut at = 0;
        while at < rows.end() {
            let pushed = rows.push(at, &mut self.sink, &mut self.parser, 0, NOW_NS, errors);
            at += pushed.consumed;
            let full = (0..64).find(|batch| pushed.touched >> batch & 1 == 1 && self.sink.is_full(*batch));
            if let Some(batch) = pushed.blocked_on.or(full) {
                self.seal(batch);
            }
        }
    }

    fn push(&mut self, mut text: RowsText<'_>, errors: &mut RowErrors) {
        while !text.bytes.is_empty() {
            let pushed = self.sink.push(&mut self.parser, text, 0, NOW_NS, errors);
            text = text.from_offset(pushed.consumed);
            let full = (0..64).find(|batch| pushed.touched >> batch & 1 == 1 && self.sink.is_full(*batch));
            if let Some(batch) = pushed.blocked_on.or(full) {
                self.seal(batch);
            }
        }
    }

    fn seal(&mut self, batch: usize) {
        // First in, first out, as buffers come back from the log.
        let mut frames = self.pool.remove(0);
        let block = self.sink.seal(batch, &mut self.encoder, &mut frames);
        self.rows_sealed += u64::from(block.rows);
        frames.clear();
        self.pool.push(frames);
    }
}

/// Warms up with some bodies, then takes others like them and counts.
fn allocates_nothing(schema: TableSchema, body: impl Fn(u64) -> Vec<u8>) {
    let mut core = Core::new(Arc::new(schema));
    let bodies: Vec<Vec<u8>> = (0..5).map(body).collect();
    for body in &bodies[..3] {
        core.take(body);
    }
    let made = Thread::current().traced(|| bodies[3..].iter().for_each(|body| core.take(body)));
    assert_eq!(core.rows_sealed, 5 * ROWS as u64);
    let traces: String = made.iter().take(3).map(Trace::describe).collect();
    assert_eq!(made.len(), 0, "allocations for {} rows:{traces}", 2 * ROWS);
}

#[test]
fn log_lines_into_the_default_table_allocate_nothing() {
    let name = TableName {
        database: "default".into(),
        table: "otel_logs".into(),
    };
    allocates_nothing(TableSchema::default_table(name), |seed| log_lines(seed, ROWS));
}

/// A column of each type, with an overflow column beside them.
const TYPED: &[(&str, &str)] = &[
    ("s", "String"),
    ("fs", "FixedString(8)"),
    ("b", "Bool"),
    ("i8", "Int8"),
    ("i64", "Int64"),
    ("u16", "UInt16"),
    ("u64", "UInt64"),
    ("f32", "Float32"),
    ("f64", "Float64"),
    ("d", "Date"),
    ("d32", "Date32"),
    ("dt", "DateTime"),
    ("dt64", "DateTime64(3)"),
    ("e8", "Enum8('a' = 1, 'b' = 2)"),
    ("uuid", "UUID"),
    ("v4", "IPv4"),
    ("v6", "IPv6"),
    ("dec", "Decimal(18, 4)"),
    ("lc", "LowCardinality(String)"),
    ("lcn", "LowCardinality(Nullable(String))"),
    ("ns", "Nullable(String)"),
    ("ni", "Nullable(Int32)"),
    ("arr", "Array(String)"),
    ("nest", "Array(Array(UInt32))"),
    ("map", "Map(LowCardinality(String), String)"),
    ("tup", "Tuple(a UInt32, b String)"),
    ("json", "JSON"),
    ("attributes", "Map(String, String)"),
];

fn typed_lines(seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    let mut text = String::new();
    for row in 0..ROWS {
        let (a, b) = (random.next(), random.next());
        let second = row % 60;
        let absent = row % 2 == 0;
        text.push_str(&format!(
            "{{\"s\":\"text \\\"{:06}\\\"\",\"fs\":\"{:08}\",\"b\":{},\"i8\":{},\"i64\":{},\"u16\":{},\"u64\":{},\
             \"f32\":1.{:04},\"f64\":2.{:06}e10,\"d\":\"2026-11-21\",\"d32\":\"1950-01-01\",\"dt\":\"2026-11-21 05:00:{second:02}\",\
             \"dt64\":\"2026-11-21T05:00:{second:02}.123Z\",\"e8\":\"{}\",\"uuid\":\"{a:016x}-0000-4000-8000-{:012x}\",",
            a % 1_000_000,
            b % 100_000_000,
            absent,
            a % 100,
            1_000_000_000 + a % 1_000_000_000,
            10_000 + a % 50_000,
            1_000_000_000 + b % 1_000_000_000,
            a % 10_000,
            b % 1_000_000,
            ["a", "b"][row % 2],
            b & 0xffff_ffff_ffff,
        ).replacen(&format!("{a:016x}-0000"), &format!("{:08x}-0000", a & 0xffff_ffff), 1));
        text.push_str(&format!(
            "\"v4\":\"10.0.0.{}\",\"v6\":\"2001:db8::{:04x}\",\"dec\":\"{:06}.1234\",\"lc\":\"name-{}\",\"lcn\":{},\"ns\":{},\"ni\":{},\
             \"arr\":[\"p{:04}\",\"q\"],\"nest\":[[{}],[2,3]],\"map\":{{\"k\":\"v{:04}\",\"l\":\"w\"}},\"tup\":{{\"a\":{},\"b\":\"t\"}},\
             \"json\":{{\"x\":{{\"y\":{}}},\"z\":[true,null]}},\"unknown\":{},\"other\":{{\"deep\":\"\\u00fc{:04}\"}}}}\n",
            100 + a % 100,
            0x1000 + b % 0xf000,
            a % 1_000_000,
            row % 10,
            if absent { "null" } else { "\"there\"" },
            if absent { "null" } else { "\"there\"" },
            if absent { "null" } else { "12345" },
            a % 10_000,
            1000 + b % 9000,
            a % 10_000,
            1000 + a % 9000,
            1000 + b % 9000,
            1000 + a % 9000,
            b % 10_000,
        ));
    }
    text.into_bytes()
}

#[test]
fn rows_of_every_type_allocate_nothing() {
    let column = |(name, type_name): &(&str, &str)| RawColumn {
        name: (*name).into(),
        type_name: (*type_name).into(),
        ..RawColumn::default()
    };
    let columns: Vec<RawColumn> = TYPED.iter().map(column).collect();
    let name = TableName {
        database: "default".into(),
        table: "typed".into(),
    };
    let schema = TableSchema::from_columns(name, &columns, "toYYYYMM(dt)").expect("every type is supported");
    allocates_nothing(schema, typed_lines);
}

/// Messages of RFC 5424, counted and in lines, with structured data and escapes.
fn syslog_stream(seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    let mut stream = Vec::new();
    for row in 0..ROWS {
        let (a, b) = (random.next(), random.next());
        let message = format!(
            "<165>1 2026-11-21T05:00:{:02}.{:06}Z host-{} app {} ID47 [a@1 x=\"{:06}\" y=\"\\\"{:04}\\\"\"][b z=\"q\"] text {:08}",
            row % 60,
            a % 1_000_000,
            row % 3,
            1000 + a % 1000,
            b % 1_000_000,
            a % 10_000,
            b % 100_000_000,
        );
        if row % 2 == 0 {
            stream.extend(format!("{} {message}", message.len()).into_bytes());
        } else {
            stream.extend(message.into_bytes());
            stream.push(b'\n');
        }
    }
    stream
}

/// Entries as Fluent Bit packs them, with a nested map and bytes that are no text.
fn forward_entries(seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    let mut entries = Vec::new();
    for row in 0..ROWS as u32 {
        let number = random.next() % 100_000_000;
        entries.extend(b"\x92\xd7\x00\x69\x1f\xf3\xa0");
        entries.extend(row.to_be_bytes());
        entries.extend(b"\x83\xa3log\xad");
        entries.extend(format!("text {number:08}").into_bytes());
        entries.extend(b"\xa3raw\xc4\x03a\xffb\xaakubernetes\x82\xa8pod_name\xa1p\xa1n\xce");
        entries.extend((0x1000_0000 + number as u32).to_be_bytes());
    }
    entries
}

/// Like [`allocates_nothing`], for what is found by spans.
fn spans_allocate_nothing(
    bytes: impl Fn(u64) -> Vec<u8>,
    mut list: impl FnMut(&[u8], &mut Vec<Span>) -> usize,
    mut push: impl FnMut(&mut Core, &[u8], &[Span], &mut RowErrors),
) {
    let name = TableName {
        database: "default".into(),
        table: "otel_logs".into(),
    };
    let mut core = Core::new(Arc::new(TableSchema::default_table(name)));
    let mut spans = Vec::with_capacity(SPANS);
    let mut take = |core: &mut Core, bytes: &[u8]| {
        let mut errors = RowErrors::new(&core.limits);
        let mut at = 0;
        while at < bytes.len() {
            spans.clear();
            let listed = list(&bytes[at..], &mut spans);
            push(core, &bytes[at..], &spans, &mut errors);
            at += listed;
        }
        assert_eq!(errors.count, 0, "{:?}", errors.first);
        core.seal_all();
    };
    let inputs: Vec<Vec<u8>> = (0..5).map(bytes).collect();
    for input in &inputs[..3] {
        take(&mut core, input);
    }
    let made = Thread::current().traced(|| inputs[3..].iter().for_each(|input| take(&mut core, input)));
    assert_eq!(core.rows_sealed, 5 * ROWS as u64);
    let traces: String = made.iter().take(3).map(Trace::describe).collect();
    assert_eq!(made.len(), 0, "allocations for {} rows:{traces}", 2 * ROWS);
}

/// Messages found at once, as on a connection.
const SPANS: usize = 512;

#[test]
fn syslog_messages_allocate_nothing() {
    let limits = Limits::default();
    let mut framer = Framer::new(&limits);
    spans_allocate_nothing(
        syslog_stream,
        |bytes, spans| framer.list(bytes, true, spans, SPANS).consumed,
        |core, bytes, spans, errors| core.push_rows(&Messages { bytes, spans }, errors),
    );
}

#[test]
fn forward_entries_allocate_nothing() {
    let limits = Limits::default();
    let mut extent = Extent::new();
    spans_allocate_nothing(
        forward_entries,
        |bytes, spans| Entries::list(bytes, &limits, &mut extent, spans, SPANS).expect("entries"),
        |core, bytes, spans, errors| {
            let (shape, tag) = (Shape::Entry, b"tag".as_slice());
            let rows = Entries {
                bytes,
                spans,
                shape,
                tag,
            };
            core.push_rows(&rows, errors);
        },
    );
}

#[test]
fn the_allocator_sees_one_allocation_and_where_it_was_made() {
    let made = Thread::current().traced(|| {
        std::hint::black_box(vec![7u8; 777].into_boxed_slice());
    });
    assert_eq!(made.len(), 1);
    let trace = made[0].describe();
    assert!(
        trace.contains("777 bytes") && trace.contains("kernel.rs"),
        "{trace}"
    );
    assert!(!made[0].is_glommios(), "{trace}");
}
