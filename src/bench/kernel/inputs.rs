//! Lines that are measured: of a web service into the default table, of a plain table, and real ones.

use std::fmt::Write;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::super::otlp::{self, Record};
use crate::timestamp::{self, DateCache};

/// Lines of JSON and the table they go to.
#[derive(Debug, Clone)]
pub struct Input {
    /// What they are called in reports.
    pub name: &'static str,
    /// One object a line.
    pub text: Vec<u8>,
    /// How many.
    pub rows: u64,
    /// Where they go.
    pub table: Table,
}

/// Columns the lines become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The OpenTelemetry log table.
    Default,
    /// Six columns of plain types, one for each key.
    Plain,
}

/// The six columns of [`Table::Plain`], with their types.
pub const PLAIN_COLUMNS: [(&str, &str); 6] = [
    ("time", "DateTime64(3)"),
    ("level", "LowCardinality(String)"),
    ("service", "LowCardinality(String)"),
    ("host", "LowCardinality(String)"),
    ("status", "UInt16"),
    ("message", "String"),
];

/// What a line is made of.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0
    }
}

const LEVELS: [&str; 6] = ["INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG"];
const SERVICES: [&str; 4] = ["checkout", "payments", "search", "frontend"];

/// Lines of about 238 bytes as a web service writes them, for the default table.
pub fn service(rows: u64) -> Input {
    lines("default table", Table::Default, rows, |line, row, random| {
        let level = LEVELS[(random >> 33) as usize % LEVELS.len()];
        let service = SERVICES[(random >> 40) as usize % SERVICES.len()];
        write!(
            line,
            "{{\"timestamp\":\"2023-11-14T22:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"{service}\",\
             \"message\":\"GET /api/v1/orders/{} took {} ms for user {}\",\"trace_id\":\"{:016x}{random:016x}\",\
             \"pid\":{},\"host\":\"node-{:02}.eu-west\",\"status\":{}}}",
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
        )
    })
}

/// Lines of about 170 bytes with exactly the six columns of [`PLAIN_COLUMNS`].
pub fn plain(rows: u64) -> Input {
    lines("six columns", Table::Plain, rows, |line, row, random| {
        let level = LEVELS[(random >> 33) as usize % LEVELS.len()];
        let service = SERVICES[(random >> 40) as usize % SERVICES.len()];
        write!(
            line,
            "{{\"time\":\"2023-11-14T22:{:02}:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"{service}\",\
             \"host\":\"node-{:02}.eu-west\",\"status\":{},\"message\":\"GET /api/v1/orders/{} took {} ms for user {}\"}}",
            row / 60_000 % 60,
            row / 1000 % 60,
            row % 1000,
            random >> 59,
            200 + (random >> 61) * 100,
            random >> 44,
            random >> 54,
            random >> 50,
        )
    })
}

/// Lines that bring what their OTLP records bring besides: the attributes of their resource, and the name of their scope.
///
/// # Panics
/// When a line is no object.
pub fn with_resource(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() * 5 / 4);
    for line in text.trim_ascii_end().split(|byte| *byte == b'\n') {
        let row: Value = serde_json::from_slice(line).expect("a line is an object");
        let object = line.strip_suffix(b"}").expect("a line is an object");
        lines.extend_from_slice(object);
        let resource = format!(
            ",\"ResourceAttributes\":{{\"service.name\":{}}},\"ScopeName\":\"bench\"}}\n",
            row["service"]
        );
        lines.extend_from_slice(resource.as_bytes());
    }
    lines
}

/// Lines that go to the default table as OTLP requests of so many rows: what the columns have names for in their fields, the
/// rest among the attributes.
///
/// # Panics
/// When a line is no object.
pub fn otlp_requests(text: &[u8], rows: usize) -> Vec<Vec<u8>> {
    let row = |line: &[u8]| {
        let Ok(Value::Object(mut row)) = serde_json::from_slice(line) else {
            panic!("a line is an object");
        };
        let mut take = |key: &str| match row.remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let time = timestamp::parse(take("timestamp").as_bytes(), &mut DateCache::default());
        Record {
            unix_ns: time.map_or(0, |time| {
                time.seconds as u64 * 1_000_000_000 + u64::from(time.nanos)
            }),
            level: take("level"),
            service: take("service"),
            message: take("message"),
            trace_id: hexadecimal(&take("trace_id")),
            attributes: row.into_iter().collect(),
        }
    };
    let lines: Vec<&[u8]> = text.trim_ascii_end().split(|byte| *byte == b'\n').collect();
    lines
        .chunks(rows)
        .map(|lines| otlp::request(&lines.iter().map(|line| row(line)).collect::<Vec<_>>()))
        .collect()
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().as_chunks::<2>().0.iter();
    let byte = |pair: &[u8; 2]| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    pairs.filter_map(byte).collect()
}

fn lines(
    name: &'static str,
    table: Table,
    rows: u64,
    put: impl Fn(&mut String, u64, u64) -> std::fmt::Result,
) -> Input {
    let mut text = String::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for row in 0..rows {
        put(&mut text, row, random.next()).expect("a String takes everything");
        text.push('\n');
    }
    Input {
        name,
        text: text.into_bytes(),
        rows,
        table,
    }
}

/// The first lines of every `.ndjson` file of a folder.
///
/// # Errors
/// The folder or a file cannot be read, or there is no line.
pub fn corpus(folder: &Path, rows_max: usize) -> io::Result<Input> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    let mut text = Vec::new();
    let mut rows = 0;
    for file in files {
        let lines = std::fs::read(file)?;
        for line in lines.split_inclusive(|byte| *byte == b'\n').take(rows_max) {
            text.extend_from_slice(line);
            rows += 1;
        }
    }
    if rows == 0 {
        return Err(io::Error::other("there is no line in any .ndjson file there"));
    }
    Ok(Input {
        name: "corpus",
        text,
        rows,
        table: Table::Default,
    })
}
