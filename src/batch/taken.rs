//! Pushes an input into a table of its own and reads the rows back from the blocks, for tests.

use serde_json::Value as Json;

use super::{RowInput, TableSink, overshoot_bytes};
use crate::clickhouse::frame::FrameEncoder;
use crate::column::rows::Rows;
use crate::json::{Parser, RowErrors};
use crate::limits::Limits;
use crate::mapping::MappingConfig;
use crate::schema::Schema;

/// What became of an input's rows.
pub(crate) struct Taken {
    /// Those that were accepted, block by block.
    pub rows: Vec<Json>,
    pub errors: RowErrors,
    pub accepted: u64,
    /// Accepted and rejected.
    pub count: u64,
}

/// Takes all of `input`, each row accepted or rejected once; no batch grows beyond its bound.
pub(crate) fn take_all(schema: &Schema, limits: &Limits, input: &impl RowInput, now_ns: i64) -> Taken {
    let mut sink = TableSink::new(Schema::clone(schema), &MappingConfig::default(), limits);
    let (mut parser, mut errors) = (Parser::new(limits), RowErrors::new(limits));
    let mut encoder = FrameEncoder::new();
    let mut rows = Vec::new();
    let mut seal = |sink: &mut TableSink, batch: usize| {
        let mut frames = Vec::new();
        sink.seal(batch, &mut encoder, &mut frames);
        let block = Rows::read(&frames).unwrap();
        for row in 0..block.len() {
            let mut json = Vec::new();
            block.put_json(row, &mut json);
            rows.push(serde_json::from_slice(&json).unwrap());
        }
    };
    let (mut at, mut count, mut accepted) = (0, 0, 0);
    while at < input.end() {
        let pushed = input.push(at, &mut sink, &mut parser, count, now_ns, &mut errors);
        assert!(
            pushed.consumed > 0 || pushed.blocked_on.is_some(),
            "no end in sight"
        );
        at += pushed.consumed;
        count += pushed.rows;
        accepted += pushed.accepted;
        let batch_bytes = sink.open().map(|(_, batch)| batch.wire_bytes).max().unwrap_or(0);
        assert!(
            batch_bytes <= limits.batch_bytes_max + overshoot_bytes(limits),
            "a batch of {batch_bytes} bytes"
        );
        if let Some(batch) = pushed.blocked_on {
            seal(&mut sink, batch);
        }
    }
    let open: Vec<usize> = sink.open().map(|(batch, _)| batch).collect();
    for batch in open {
        seal(&mut sink, batch);
    }
    assert_eq!(accepted, rows.len() as u64);
    assert_eq!(accepted + errors.count, count);
    Taken {
        rows,
        errors,
        accepted,
        count,
    }
}
