//! What one core makes of JSON lines: parsed only, and parsed, typed and sealed as a block.
//!
//! Claims: throughput of parse → columns → sealed block (LZ4 included) for the default table in memory, against two
//! bounds nobody passes: copying the bytes, and simd-json's tape of the same chunks made ready as JSON arrays; `parse`
//! is our parser, from lines to a checked tape. Does not claim: anything of sockets, of ClickHouse, or of several cores.
//!
//! Run with `cargo bench --bench kernel`; `cargo bench --bench kernel -- --test` runs each once on little data.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringhouse::batch::TableSink;
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::json::{Parser, RowErrors, RowForm, RowsText, Split, Splitter};
use ringhouse::limits::Limits;
use ringhouse::mapping::MappingConfig;
use ringhouse::schema::{TableName, TableSchema};

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// Lines with the number of rows in them.
struct Input {
    name: &'static str,
    text: Vec<u8>,
    rows: u64,
}

fn inputs() -> Vec<Input> {
    // Under `--test` a little of everything is enough.
    let rows = if std::env::args().any(|argument| argument == "--test") {
        100
    } else {
        40_000
    };
    let mut inputs = vec![generated(rows)];
    match corpus(rows as usize) {
        Some(corpus) => inputs.push(corpus),
        None => eprintln!("no corpus beside the project: only generated lines are measured"),
    }
    inputs
}

/// Lines of about 238 bytes as a web service writes them.
fn generated(rows: u64) -> Input {
    let mut text = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for row in 0..rows {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let level = ["INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"][(random >> 33) as usize % 6];
        let service = ["checkout", "payments", "search", "frontend"][(random >> 40) as usize % 4];
        let line = format!(
            "{{\"timestamp\":\"2023-11-14T22:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"{service}\",\
             \"message\":\"GET /api/v1/orders/{} took {} ms for user {}\",\"trace_id\":\"{:016x}{random:016x}\",\
             \"pid\":{},\"host\":\"node-{:02}.eu-west\",\"status\":{}}}\n",
            row / 60_000 % 60,
            row / 1000 % 60,
            row % 1000,
            random >> 44,
            random >> 54,
            random >> 50,
            random.rotate_left(17),
            1000 + (random >> 52),
            random >> 59,
            200 + (random >> 61) * 100,
        );
        text.extend_from_slice(line.as_bytes());
    }
    Input {
        name: "generated",
        text,
        rows,
    }
}

fn corpus(rows_max: usize) -> Option<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
        .collect();
    files.sort();
    let mut text = Vec::new();
    let mut rows = 0;
    for file in files {
        for line in std::fs::read(file)
            .ok()?
            .split_inclusive(|byte| *byte == b'\n')
            .take(rows_max)
        {
            text.extend_from_slice(line);
            rows += 1;
        }
    }
    (rows > 0).then_some(Input {
        name: "corpus",
        text,
        rows,
    })
}

/// The chunks in which a receive buffer would show the text.
fn chunks(text: &[u8], limits: &Limits) -> Vec<(usize, usize)> {
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

/// The same lines as one JSON array.
fn one_text(lines: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.trim_ascii_end().split(|byte| *byte == b'\n').collect();
    [b"[", lines.join(&b","[..]).as_slice(), b"]"].concat()
}

/// Everything one core holds for one table.
struct Core {
    parser: Parser,
    sink: TableSink,
    encoder: FrameEncoder,
    errors: RowErrors,
    frames: Vec<u8>,
    rows_sealed: u64,
}

impl Core {
    fn new(limits: &Limits) -> Self {
        let name = TableName {
            database: "default".into(),
            table: "otel_logs".into(),
        };
        let schema = Arc::new(TableSchema::default_table(name));
        Core {
            parser: Parser::new(limits),
            sink: TableSink::new(schema, &MappingConfig::default(), limits),
            encoder: FrameEncoder::new(),
            errors: RowErrors::new(limits),
            frames: Vec::with_capacity(FrameEncoder::bound(2 * limits.batch_bytes_max)),
            rows_sealed: 0,
        }
    }

    fn push(&mut self, mut text: RowsText<'_>) {
        while !text.bytes.is_empty() {
            let pushed = self
                .sink
                .push(&mut self.parser, text, 0, NOW_NS, &mut self.errors);
            text = text.from_offset(pushed.consumed);
            let full = (0..64).find(|batch| pushed.touched >> batch & 1 == 1 && self.sink.is_full(*batch));
            if let Some(batch) = pushed.blocked_on.or(full) {
                self.seal(batch);
            }
        }
    }

    fn seal(&mut self, batch: usize) {
        self.frames.clear();
        let block = self.sink.seal(batch, &mut self.encoder, &mut self.frames);
        self.rows_sealed += u64::from(block.rows);
    }

    /// Seals what is open; returns all rows sealed so far.
    fn finish(&mut self) -> u64 {
        let open: Vec<usize> = self.sink.open().map(|(batch, _)| batch).collect();
        for batch in open {
            self.seal(batch);
        }
        assert_eq!(self.errors.count, 0, "{:?}", self.errors.first);
        self.rows_sealed
    }
}

fn kernel(c: &mut Criterion) {
    let limits = Limits::default();
    for Input { name, text, rows } in inputs() {
        let chunks = chunks(&text, &limits);
        let mut group = c.benchmark_group("kernel");
        group.throughput(Throughput::ElementsAndBytes {
            elements: rows,
            bytes: text.len() as u64,
        });
        let mut copy = vec![0; limits.chunk_bytes];
        group.bench_function(BenchmarkId::new("copy", name), |b| {
            b.iter(|| {
                for &(start, end) in &chunks {
                    copy[..end - start].copy_from_slice(black_box(&text[start..end]));
                    black_box(&copy);
                }
            })
        });
        let texts: Vec<Vec<u8>> = chunks
            .iter()
            .map(|&(start, end)| one_text(&text[start..end]))
            .collect();
        let mut padded = Vec::new();
        let mut buffers = simd_json::Buffers::new(limits.chunk_bytes);
        let mut nodes = Vec::new();
        group.bench_function(BenchmarkId::new("tape", name), |b| {
            b.iter(|| {
                for text in &texts {
                    // simd-json unescapes in place, so each parse needs its own copy.
                    padded.clear();
                    padded.extend_from_slice(text);
                    padded.resize(text.len() + simd_json::INPUT_PADDING, b' ');
                    let mut tape = simd_json::Tape(std::mem::take(&mut nodes));
                    simd_json::fill_tape_padded(&mut padded, text.len(), &mut buffers, &mut tape).unwrap();
                    black_box(&tape);
                    nodes = tape.reset().0;
                }
            })
        });
        let mut parser = Parser::new(&limits);
        group.bench_function(BenchmarkId::new("parse", name), |b| {
            b.iter(|| {
                let of_chunk = |&(start, end): &(usize, usize)| {
                    let text = RowsText {
                        bytes: &text[start..end],
                        form: RowForm::Lines,
                    };
                    parser.parse(text, |parsed| parsed.rows.len() as u64)
                };
                assert_eq!(chunks.iter().map(of_chunk).sum::<u64>(), rows);
            })
        });
        let mut core = Core::new(&limits);
        group.bench_function(BenchmarkId::new("block", name), |b| {
            b.iter(|| {
                let before = core.rows_sealed;
                for &(start, end) in &chunks {
                    core.push(RowsText {
                        bytes: &text[start..end],
                        form: RowForm::Lines,
                    });
                }
                assert_eq!(core.finish() - before, rows);
            })
        });
        group.finish();
    }
}

criterion_group!(benches, kernel);
criterion_main!(benches);
