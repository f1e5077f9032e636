//! The smallest blocks there are: one column of numbers, each number the name of a row.

use ringhouse::clickhouse::frame::{FrameEncoder, NEXT_BLOCK, decode_frame};
use ringhouse::schema::{RawColumn, Schema, TableName, TableSchema};

/// What a block starts with: field 1 `is_overflows` 0, field 2 `bucket_num` -1, end.
const BLOCK_INFO: [u8; 8] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];

const COLUMN: &[u8] = b"\x02id\x06UInt64";

/// Appends the frames of a block of fewer than 128 rows.
pub fn put_frames(ids: &[u64], encoder: &mut FrameEncoder, out: &mut Vec<u8>) {
    let mut block = BLOCK_INFO.to_vec();
    block.push(1);
    block.push(u8::try_from(ids.len()).expect("blocks are small here"));
    block.extend_from_slice(COLUMN);
    ids.iter()
        .for_each(|id| block.extend_from_slice(&id.to_le_bytes()));
    encoder.put(&block, out);
    encoder.finish(out);
}

/// The rows of a block's frames, whole or cut.
///
/// # Panics
/// When the bytes are no such block.
pub fn ids_of(mut frames: &[u8]) -> Vec<u64> {
    let mut block = Vec::new();
    while !frames.is_empty() {
        let decoded = decode_frame(frames, &mut block).expect("frames come back as they were written");
        let ringhouse::clickhouse::wire::Decoded::Complete((), taken) = decoded else {
            panic!("a frame is cut");
        };
        frames = &frames[taken..];
    }
    let head_bytes = BLOCK_INFO.len() + 2;
    assert_eq!(block[..BLOCK_INFO.len()], BLOCK_INFO);
    assert_eq!(&block[head_bytes..head_bytes + COLUMN.len()], COLUMN);
    let values = block[head_bytes + COLUMN.len()..].strip_suffix(&NEXT_BLOCK);
    let values = values.expect("the next block begins where one ends");
    assert_eq!(values.len(), 8 * usize::from(block[head_bytes - 1]));
    values
        .chunks_exact(8)
        .map(|value| u64::from_le_bytes(value.try_into().expect("eight bytes")))
        .collect()
}

/// A table's columns in one of two versions: an ALTER adds a column with a DEFAULT, which the blocks leave out.
pub fn schema(table: usize, version: usize) -> Schema {
    let column = |name: &str, type_name: &str, default_kind: &str| RawColumn {
        name: name.into(),
        type_name: type_name.into(),
        default_kind: default_kind.into(),
        default_expression: String::new(),
    };
    let columns = [column("id", "UInt64", ""), column("note", "String", "DEFAULT")];
    let name = TableName {
        database: "logs".into(),
        table: format!("t{table}"),
    };
    let schema = TableSchema::from_columns(name, &columns[..=version], "").expect("both types are known");
    Schema::new(schema)
}

#[test]
fn rows_come_back_from_a_block_and_from_its_parts() {
    let ids: Vec<u64> = (1..=9).collect();
    let (mut encoder, mut frames) = (FrameEncoder::new(), Vec::new());
    put_frames(&ids, &mut encoder, &mut frames);
    assert_eq!(ids_of(&frames), ids);
    let rows = ringhouse::column::rows::Rows::read(&frames).expect("it is a block");
    let mut part = Vec::new();
    rows.cut(3..7, &mut encoder, &mut part);
    assert_eq!(ids_of(&part), ids[3..7]);
}
