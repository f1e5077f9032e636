//! The same rows as a program without this one would handle them: serde_json into the columns of a `clickhouse-rs` block.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hint::black_box;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clickhouse_rs::Block;
use serde::Deserialize;
use serde_json::Value;

use super::inputs::Table;

/// Rows of one block, as many as this program puts into one.
const BLOCK_ROWS: usize = 16_384;

/// Parses every line into a `serde_json::Value`; how many there were.
pub fn serde_json_values(text: &[u8]) -> u64 {
    let mut rows = 0;
    for line in lines(text) {
        black_box(serde_json::from_slice::<Value>(line).expect("the input is JSON"));
        rows += 1;
    }
    rows
}

/// Builds the blocks of a `clickhouse-rs` client, ready to be sent; how many rows there were. Its encoding and compression are left
/// out, for they happen inside of the client: in truth it takes longer.
pub fn clickhouse_rs_blocks(table: Table, text: &[u8]) -> u64 {
    let lines: Vec<&[u8]> = lines(text).collect();
    for some in lines.chunks(BLOCK_ROWS) {
        let block = match table {
            Table::Default => default_block(some),
            Table::Plain => plain_block(some),
        };
        assert_eq!(black_box(&block).row_count(), some.len());
    }
    lines.len() as u64
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn time(text: &str) -> DateTime<Tz> {
    let time = DateTime::parse_from_rfc3339(text).expect("the input's times are RFC 3339");
    time.with_timezone(&Utc).with_timezone(&Tz::UTC)
}

#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    status: u16,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

fn plain_block(lines: &[&[u8]]) -> Block {
    let (mut times, mut statuses) = (Vec::new(), Vec::new());
    let [mut levels, mut services, mut hosts, mut messages] = [(); 4].map(|()| Vec::<String>::new());
    for line in lines {
        let row: Plain<'_> = serde_json::from_slice(line).expect("the input has six keys");
        times.push(time(&row.time));
        levels.push(row.level.into_owned());
        services.push(row.service.into_owned());
        hosts.push(row.host.into_owned());
        statuses.push(row.status);
        messages.push(row.message.into_owned());
    }
    Block::new()
        .column("time", times)
        .column("level", levels)
        .column("service", services)
        .column("host", hosts)
        .column("status", statuses)
        .column("message", messages)
}

/// The columns of the default table that the lines fill; what is no column is an attribute. `clickhouse-rs` takes no map of texts
/// to texts as a column: two arrays hold the same, and are what a map is on the wire.
///
/// # Panics
/// When a line is no row of the generator's.
pub fn default_block(lines: &[&[u8]]) -> Block {
    let mut times = Vec::new();
    let [mut trace_ids, mut levels, mut services, mut bodies] = [(); 4].map(|()| Vec::<String>::new());
    let mut numbers: Vec<u8> = Vec::new();
    let [mut keys, mut values] = [(); 2].map(|()| Vec::<Vec<String>>::new());
    for line in lines {
        let mut row: HashMap<String, Value> = serde_json::from_slice(line).expect("the input is objects");
        let mut text = |key: &str| match row.remove(key) {
            Some(Value::String(text)) => text,
            None => String::new(),
            Some(other) => other.to_string(),
        };
        times.push(time(&text("timestamp")));
        trace_ids.push(text("trace_id"));
        let level = text("level");
        numbers.push(crate::severity::number_of_word(level.as_bytes()).unwrap_or(0));
        levels.push(level);
        services.push(text("service"));
        bodies.push(text("message"));
        let as_text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let attributes = row.into_iter().map(|(key, value)| (key, as_text(value)));
        let (its_keys, its_values) = attributes.unzip();
        keys.push(its_keys);
        values.push(its_values);
    }
    Block::new()
        .column("Timestamp", times)
        .column("TraceId", trace_ids)
        .column("SeverityText", levels)
        .column("SeverityNumber", numbers)
        .column("ServiceName", services)
        .column("Body", bodies)
        .column("LogAttributes.keys", keys)
        .column("LogAttributes.values", values)
}
