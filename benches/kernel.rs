//! What one core makes of JSON lines: parsed only, and parsed, typed and sealed as a block.
//!
//! Claims: throughput of parse → columns → sealed block (LZ4 included) for the default table in memory, against two
//! bounds nobody passes: copying the bytes, and simd-json's tape of the same chunks made ready as JSON arrays; `parse`
//! is our parser, from lines to a checked tape. Does not claim: anything of sockets, of ClickHouse, or of several cores.
//!
//! Run with `cargo bench --bench kernel`; `cargo bench --bench kernel -- --test` runs each once on little data.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringhouse::bench::kernel::{Core, Input, TapeOnly, chunks, corpus, one_text, service};
use ringhouse::json::{Parser, RowForm, RowsText};
use ringhouse::limits::Limits;

fn inputs() -> Vec<Input> {
    // Under `--test` a little of everything is enough.
    let rows = if std::env::args().any(|argument| argument == "--test") {
        100
    } else {
        40_000
    };
    let mut inputs = vec![service(rows)];
    match corpus(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        rows as usize,
    ) {
        Ok(corpus) => inputs.push(corpus),
        Err(error) => eprintln!("no corpus beside the project, only generated lines are measured: {error}"),
    }
    inputs
}

fn kernel(c: &mut Criterion) {
    let limits = Limits::default();
    for Input {
        name,
        text,
        rows,
        table,
    } in inputs()
    {
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
        let mut tape = TapeOnly::new(limits.chunk_bytes);
        group.bench_function(BenchmarkId::new("tape", name), |b| {
            b.iter(|| texts.iter().map(|text| tape.parse(text)).sum::<usize>())
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
        let mut core = Core::new(table, &limits);
        group.bench_function(BenchmarkId::new("block", name), |b| {
            b.iter(|| {
                let before = core.finish();
                for &(start, end) in &chunks {
                    core.push(&text[start..end]);
                }
                assert_eq!(core.finish() - before, rows);
            })
        });
        group.finish();
    }
}

criterion_group!(benches, kernel);
criterion_main!(benches);
