//! The sink against a naive model of its table, through a decoder of sealed blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clickhouse::frame::{NEXT_BLOCK, decode_frame};
use crate::clickhouse::wire::Decoded;
use crate::column::ValueError;
use crate::json::RowForm;
use crate::mapping::{Constants, Vocabulary};
use crate::schema::{DataType, RawColumn, TableName, TableSchema};

const NOW_NS: i64 = 1_700_000_000_123_456_789;
const DAY_NS: i64 = 86_400_000_000_000;

fn name() -> TableName {
    TableName {
        database: "default".into(),
        table: "logs".into(),
    }
}

fn default_table() -> Schema {
    Arc::new(TableSchema::default_table(name()))
}

fn table(columns: &[(&str, &str, &str)], partition_key: &str) -> Schema {
    let raw: Vec<RawColumn> = columns
        .iter()
        .map(|(name, type_name, default)| RawColumn {
            name: (*name).into(),
            type_name: (*type_name).into(),
            default_kind: if default.is_empty() {
                String::new()
            } else {
                "DEFAULT".into()
            },
            default_expression: (*default).into(),
        })
        .collect();
    Arc::new(TableSchema::from_columns(name(), &raw, partition_key).unwrap())
}

/// A sink with what belongs to it.
struct Bench {
    sink: TableSink,
    parser: Parser,
    encoder: FrameEncoder,
    errors: RowErrors,
    next_row: u64,
    accepted: u64,
    blocks: Vec<(BlockInfo, Vec<u8>)>,
}

impl Bench {
    fn new(schema: &Schema, limits: &Limits) -> Self {
        Self::with_mapping(schema, &MappingConfig::default(), limits)
    }

    fn with_mapping(schema: &Schema, mapping: &MappingConfig, limits: &Limits) -> Self {
        Bench {
            sink: TableSink::new(Schema::clone(schema), mapping, limits),
            parser: Parser::new(limits),
            encoder: FrameEncoder::new(),
            errors: RowErrors::new(limits),
            next_row: 0,
            accepted: 0,
            blocks: Vec::new(),
        }
    }

    /// Pushes lines as the core does: what is blocked is sealed, what is full too.
    fn push(&mut self, lines: &str) {
        let mut text = RowsText {
            bytes: lines.as_bytes(),
            form: RowForm::Lines,
        };
        while !text.bytes.is_empty() {
            let pushed = self
                .sink
                .push(&mut self.parser, text, self.next_row, NOW_NS, &mut self.errors);
            self.next_row += pushed.rows;
            self.accepted += pushed.accepted;
            assert_eq!(
                self.accepted + self.errors.count,
                self.next_row,
                "every row is accounted for"
            );
            assert_eq!(pushed.blocked_on.is_none(), pushed.consumed == text.bytes.len());
            assert_eq!(pushed.touched == 0, pushed.accepted == 0);
            text = text.from_offset(pushed.consumed);
            if let Some(batch) = pushed.blocked_on {
                self.seal(batch);
            }
            for batch in self.sink.open().map(|(batch, _)| batch).collect::<Vec<_>>() {
                if self.sink.is_full(batch) {
                    self.seal(batch);
                }
            }
        }
    }

    fn seal(&mut self, batch: usize) {
        let mut frames = Vec::new();
        let info = self.sink.seal(batch, &mut self.encoder, &mut frames);
        assert!(
            self.sink.open().all(|(open, _)| open != batch),
            "a sealed batch is free"
        );
        self.blocks.push((info, frames));
    }

    fn seal_all(&mut self) {
        for batch in self.sink.open().map(|(batch, _)| batch).collect::<Vec<_>>() {
            self.seal(batch);
        }
    }

    /// Every row of every block, as column name to value; columns that were left to their DEFAULT are missing.
    fn rows(&mut self) -> Vec<BTreeMap<String, String>> {
        self.seal_all();
        self.blocks.iter().flat_map(decode_block).collect()
    }
}

fn decode_block((block, frames): &(BlockInfo, Vec<u8>)) -> Vec<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    let mut frames = frames.as_slice();
    while !frames.is_empty() {
        match decode_frame(frames, &mut bytes).unwrap() {
            Decoded::Complete((), used) => frames = &frames[used..],
            Decoded::Partial => panic!("a frame is cut"),
        }
    }
    let bytes = bytes
        .strip_suffix(&NEXT_BLOCK)
        .expect("the next block begins where one ends");
    assert_eq!(bytes.len(), block.wire_bytes as usize);
    let mut decoder = Decoder(bytes);
    assert_eq!(
        decoder.take(8),
        [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0],
        "block info"
    );
    let (columns, rows) = (decoder.varint(), decoder.varint());
    assert_eq!(rows, block.rows as usize);
    let mut decoded = vec![BTreeMap::new(); rows];
    for _ in 0..columns {
        let name = decoder.string();
        let data_type = DataType::parse(&decoder.string()).unwrap();
        decoder.prefix(&data_type);
        for (row, value) in decoded.iter_mut().zip(decoder.data(&data_type, rows)) {
            row.insert(name.clone(), value);
        }
    }
    assert!(decoder.0.is_empty());
    decoded
}

/// Reads the wire form of the few types these tests use.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, width: usize) -> u64 {
        self.take(width)
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.number(1) as usize;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn string(&mut self) -> String {
        let length = self.varint();
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn prefix(&mut self, data_type: &DataType) {
        match data_type {
            DataType::LowCardinality(_) => assert_eq!(self.number(8), 1),
            DataType::Map(key, value) => {
                self.prefix(key);
                self.prefix(value);
            }
            _ => {}
        }
    }

    fn data(&mut self, data_type: &DataType, rows: usize) -> Vec<String> {
        match data_type {
            DataType::Nullable(inner) => {
                let nulls = self.take(rows);
                let values = self.data(inner, rows);
                nulls
                    .iter()
                    .zip(values)
                    .map(|(null, v)| if *null == 1 { "NULL".into() } else { v })
                    .collect()
            }
            DataType::LowCardinality(inner) if rows > 0 => {
                let width = 1 << (self.number(8) & 3);
                let distinct = self.number(8) as usize;
                let values = self.data(inner, distinct);
                assert_eq!(self.number(8) as usize, rows);
                (0..rows)
                    .map(|_| values[self.number(width) as usize].clone())
                    .collect()
            }
            DataType::LowCardinality(_) => Vec::new(),
            DataType::Map(key, value) => {
                let ends: Vec<usize> = (0..rows).map(|_| self.number(8) as usize).collect();
                let count = ends.last().copied().unwrap_or(0);
                let (keys, values) = (self.data(key, count), self.data(value, count));
                let mut start = 0;
                ends.into_iter()
                    .map(|end| {
                        let pairs = keys[start..end].iter().zip(&values[start..end]);
                        start = end;
                        let map: BTreeMap<_, _> = pairs.clone().collect();
                        assert_eq!(map.len(), pairs.len(), "a key comes once");
                        json!(map).to_string()
                    })
                    .collect()
            }
            DataType::String => (0..rows).map(|_| self.string()).collect(),
            DataType::UInt8 => (0..rows).map(|_| self.number(1).to_string()).collect(),
            DataType::UInt32 => (0..rows).map(|_| self.number(4).to_string()).collect(),
            DataType::Int64 | DataType::DateTime64 { .. } => {
                (0..rows).map(|_| (self.number(8) as i64).to_string()).collect()
            }
            other => panic!("no test uses {other:?}"),
        }
    }
}

/// The row a line gives in the default table.
fn one(line: &str) -> BTreeMap<String, String> {
    let mut bench = Bench::new(&default_table(), &Limits::default());
    bench.push(line);
    assert_eq!(bench.errors.first, [], "{line}");
    let mut rows = bench.rows();
    assert_eq!(rows.len(), 1, "{line}");
    rows.remove(0)
}

fn attributes(row: &BTreeMap<String, String>) -> Value {
    serde_json::from_str(&row["LogAttributes"]).unwrap()
}

#[test]
fn the_usual_names_fill_the_default_table() {
    let row = one(
        r#"{"timestamp":"2024-01-02T03:04:05.5Z","level":"warn","service":"web","message":"hi","trace_id":"t",
            "span_id":"s","pid":7,"http":{"method":"GET","status":200},"tags":["a",1],"none":null,"empty":{}}"#
            .replace('\n', " ")
            .as_str(),
    );
    for (column, value) in [
        ("Timestamp", "1704164645500000000"),
        ("SeverityText", "warn"),
        ("SeverityNumber", "13"),
        ("ServiceName", "web"),
        ("Body", "hi"),
        ("TraceId", "t"),
        ("SpanId", "s"),
        ("ResourceAttributes", "{}"),
    ] {
        assert_eq!(row[column], value, "{column}");
    }
    let expected = json!({
        "pid": "7", "http.method": "GET", "http.status": "200", "tags": "[\"a\",1]", "none": "", "empty": "{}"
    });
    assert_eq!(attributes(&row), expected);
}

#[test]
fn a_row_without_time_gets_the_receive_time() {
    assert_eq!(one("{}")["Timestamp"], NOW_NS.to_string());
    assert_eq!(one(r#"{"timestamp":null}"#)["Timestamp"], NOW_NS.to_string());
}

#[test]
fn of_several_names_for_a_column_the_best_wins_and_the_others_are_attributes() {
    let keys = ["Body", "message", "msg", "body", "log"];
    for best in 0..keys.len() {
        for reversed in [false, true] {
            let mut names = keys[best..].to_vec();
            if reversed {
                names.reverse();
            }
            let pairs: Vec<String> = names
                .iter()
                .map(|name| format!("\"{name}\":\"{name}!\""))
                .collect();
            let row = one(&format!("{{{}}}", pairs.join(",")));
            assert_eq!(row["Body"], format!("{}!", keys[best]), "{names:?}");
            let others: BTreeMap<_, _> = keys[best + 1..]
                .iter()
                .map(|key| (key, format!("{key}!")))
                .collect();
            assert_eq!(attributes(&row), json!(others), "{names:?}");
        }
    }
    assert_eq!(one(r#"{"message":null,"msg":"x"}"#)["Body"], "x");
    assert_eq!(one(r#"{"msg":"x","message":null}"#)["Body"], "x");
}

#[test]
fn a_level_gives_text_and_number_unless_the_number_is_given() {
    for (line, text, number, rest) in [
        (r#"{"level":"ERROR"}"#, "ERROR", "17", json!({})),
        (r#"{"level":30}"#, "info", "9", json!({})),
        (r#"{"level":"6"}"#, "info", "9", json!({})),
        (r#"{"level":"loud"}"#, "loud", "0", json!({})),
        (r#"{"level":true}"#, "true", "0", json!({})),
        (r#"{"SeverityText":"fatal"}"#, "fatal", "21", json!({})),
        (r#"{"severity_number":6}"#, "", "6", json!({})),
        (r#"{"level":"INFO","SeverityNumber":12}"#, "INFO", "12", json!({})),
        (
            r#"{"severity_number":12,"level":"INFO"}"#,
            "INFO",
            "12",
            json!({}),
        ),
        (r#"{"log":{"level":"warning"}}"#, "warning", "13", json!({})),
        (
            r#"{"log.level":"warning","log":"text"}"#,
            "warning",
            "13",
            json!({}),
        ),
        (
            r#"{"level":"info","severity":"high"}"#,
            "info",
            "9",
            json!({"severity": "high"}),
        ),
        (
            r#"{"severity":"error","level":"info"}"#,
            "info",
            "9",
            json!({"severity": "error"}),
        ),
    ] {
        let row = one(line);
        assert_eq!(
            (row["SeverityText"].as_str(), row["SeverityNumber"].as_str()),
            (text, number),
            "{line}"
        );
        assert_eq!(attributes(&row), rest, "{line}");
    }
}

#[test]
fn attributes_keep_their_own_names() {
    let row = one(r#"{"attributes":{"level":"x","a":{"b":1}},"LogAttributes":{"c":2},"level":"info"}"#);
    assert_eq!(attributes(&row), json!({"level": "x", "a.b": "1", "c": "2"}));
    assert_eq!(row["SeverityText"], "info");
    let row = one(r#"{"LogAttributes":"text","ResourceAttributes":{"host":"h"}}"#);
    assert_eq!(attributes(&row), json!({"LogAttributes": "text"}));
    assert_eq!(row["ResourceAttributes"], r#"{"host":"h"}"#);
}

#[test]
fn the_last_of_repeated_keys_wins() {
    for (line, body, rest) in [
        (r#"{"msg":"a","msg":"b","x":1,"x":2}"#, "b", json!({"x": "2"})),
        (r#"{"x":{"y":1,"z":1},"x":{"y":2}}"#, "", json!({"x.y": "2"})),
        (r#"{"x":{"y":1},"x":3,"w":0}"#, "", json!({"x": "3", "w": "0"})),
        (r#"{"x":3,"x":{"y":1}}"#, "", json!({"x.y": "1"})),
        (r#"{"x":{"y":1},"x.y":2}"#, "", json!({"x.y": "2"})),
        (r#"{"x.y":2,"x":{"y":1}}"#, "", json!({"x.y": "1"})),
        (
            r#"{"message":"a","message":{"k":1}}"#,
            "",
            json!({"message.k": "1"}),
        ),
        (r#"{"message":{"k":1},"message":"a"}"#, "a", json!({})),
        (r#"{"message":"a","message":null}"#, "", json!({})),
        (
            r#"{"a":{"b":{"c":1},"b":{"d":2}},"msg":"m"}"#,
            "m",
            json!({"a.b.d": "2"}),
        ),
    ] {
        let row = one(line);
        assert_eq!(row["Body"], body, "{line}");
        assert_eq!(attributes(&row), rest, "{line}");
    }
}

#[test]
fn configured_names_come_before_the_usual_ones() {
    let mapping = MappingConfig {
        columns: [
            ("text".to_owned(), "Body".to_owned()),
            ("a.b".to_owned(), "ServiceName".to_owned()),
        ]
        .into(),
        overflow: Some("ScopeAttributes".into()),
    };
    let mut bench = Bench::with_mapping(&default_table(), &mapping, &Limits::default());
    bench.push(r#"{"message":"m","text":"t","a":{"b":"svc"},"z":1}"#);
    let row = &bench.rows()[0];
    assert_eq!((row["Body"].as_str(), row["ServiceName"].as_str()), ("t", "svc"));
    assert_eq!(row["ScopeAttributes"], r#"{"message":"m","z":"1"}"#);
}

#[test]
fn a_plain_table_knows_only_its_own_names_and_counts_the_rest() {
    let schema = table(
        &[("level", "String", ""), ("n", "Int64", ""), ("o", "String", "")],
        "",
    );
    let mut bench = Bench::new(&schema, &Limits::default());
    bench.push(r#"{"level":"x","message":"gone","n":"5","o":{"a":[1]},"p":{"q":1,"r":2}}"#);
    let row = &bench.rows()[0];
    assert_eq!(
        (row["level"].as_str(), row["n"].as_str(), row["o"].as_str()),
        ("x", "5", r#"{"a":[1]}"#)
    );
    assert_eq!(bench.sink.unknown_fields(), 3);
}

#[test]
fn rows_go_to_the_block_that_leaves_their_defaults_out() {
    let schema = table(
        &[
            ("a", "Int64", "1 + 1"),
            ("b", "String", ""),
            ("c", "Nullable(String)", "'x'"),
        ],
        "",
    );
    let mut bench = Bench::new(&schema, &Limits::default());
    bench.push("{\"a\":1,\"b\":\"1\",\"c\":\"1\"}\n{\"b\":\"2\"}\n{\"a\":null,\"b\":\"3\"}\n{\"b\":\"4\",\"c\":null}\n");
    let rows = bench.rows();
    let shown = |row: &BTreeMap<String, String>| {
        ["a", "b", "c"].map(|column| row.get(column).map_or("-", String::as_str).to_owned())
    };
    let rows: BTreeSet<[String; 3]> = rows.iter().map(shown).collect();
    let expected = [
        ["1", "1", "1"],
        ["-", "2", "-"],
        ["-", "3", "-"],
        ["-", "4", "NULL"],
    ];
    assert_eq!(rows, expected.iter().map(|row| row.map(str::to_owned)).collect());
    let mut omitted: Vec<u64> = bench.blocks.iter().map(|(block, _)| block.omitted).collect();
    omitted.sort_unstable();
    assert_eq!(omitted, [0, 1, 3]);
}

#[test]
fn arrays_of_one_nested_have_one_length_in_each_row() {
    let schema = table(
        &[
            ("n.a", "Array(Int64)", ""),
            ("n.b", "Array(String)", ""),
            ("n.c", "Array(String)", "['x']"),
            ("m.a", "Array(Int64)", ""),
        ],
        "",
    );
    let mut bench = Bench::new(&schema, &Limits::default());
    for line in [
        r#"{"n.a":[1,2],"n.b":["x","y"],"m.a":[1]}"#,
        r#"{"n.a":[1],"n.b":["x","y"]}"#,
        r#"{"n.b":[]}"#,
        r#"{"n.b":["x"]}"#,
        r#"{"n.a":[1],"n.b":["x"],"n.c":["x","y"]}"#,
        r#"{"n.a":[1],"n.b":["x"],"n.c":["x"]}"#,
    ] {
        bench.push(&format!("{line}\n"));
    }
    assert_eq!(bench.accepted, 3);
    let rejected: Vec<_> = bench
        .errors
        .first
        .iter()
        .map(|error| (error.row, error.text.as_str()))
        .collect();
    let text = |column| format!("column {column}: {}", ValueError::WrongNestedLength);
    let expected = [(1, text("n.b")), (3, text("n.b")), (4, text("n.c"))];
    assert_eq!(
        rejected,
        expected.each_ref().map(|(row, text)| (*row, text.as_str()))
    );
}

#[test]
fn rows_of_many_days_lie_in_blocks_of_few_partitions() {
    for partitions_max in [100, 10] {
        let limits = Limits {
            partitions_per_insert_max: partitions_max,
            ..Limits::default()
        };
        let mut bench = Bench::new(&default_table(), &limits);
        let mut expected = Vec::new();
        for i in 0..40_i64 {
            let lines: Vec<String> = (0..50_i64)
                .map(|j| {
                    let day = (i * 37 + j * j * 11) % 5000;
                    expected.push((day, i * 50 + j));
                    format!(
                        "{{\"ts\":{},\"message\":\"{}\"}}",
                        day * DAY_NS / 1_000_000_000 + 60,
                        i * 50 + j
                    )
                })
                .collect();
            bench.push(&lines.join("\n"));
        }
        assert_eq!(bench.errors.first, []);
        bench.seal_all();
        let mut stored = Vec::new();
        for block in &bench.blocks {
            let rows = decode_block(block);
            let days: BTreeSet<i64> = rows
                .iter()
                .map(|row| row["Timestamp"].parse::<i64>().unwrap() / DAY_NS)
                .collect();
            let partitions = block.0.partitions;
            assert!(partitions.iter().eq(days.iter().copied()));
            assert!(partitions.count() <= partitions_max);
            let width = (partitions_max as i64).min(64);
            assert!(
                days.iter()
                    .all(|day| day.div_euclid(width) * width == partitions.first)
            );
            stored.extend(rows.iter().map(|row| {
                (
                    row["Timestamp"].parse::<i64>().unwrap() / DAY_NS,
                    row["Body"].parse::<i64>().unwrap(),
                )
            }));
        }
        stored.sort_unstable();
        expected.sort_unstable();
        assert_eq!(stored, expected);
    }
}

#[test]
fn a_batch_takes_no_more_than_a_pass_beyond_its_bounds() {
    let limits = Limits {
        batch_rows_max: 100,
        chunk_bytes: 1000,
        ..Limits::default()
    };
    let mut bench = Bench::new(&default_table(), &limits);
    for _ in 0..50 {
        bench.push(&"{\"msg\":\"x\"}\n".repeat(60));
    }
    bench.seal_all();
    assert!(bench.blocks.iter().all(|(block, _)| block.rows <= 160));
    assert_eq!(
        bench
            .blocks
            .iter()
            .map(|(block, _)| u64::from(block.rows))
            .sum::<u64>(),
        3000
    );
}

#[test]
fn a_full_batch_blocks_and_loses_nothing() {
    let limits = Limits {
        batch_rows_max: 10,
        ..Limits::default()
    };
    let mut sink = TableSink::new(default_table(), &MappingConfig::default(), &limits);
    let (mut parser, mut errors) = (Parser::new(&limits), RowErrors::new(&limits));
    let bytes = "{\"msg\":1}\n".repeat(12);
    let text = RowsText {
        bytes: bytes.as_bytes(),
        form: RowForm::Lines,
    };
    assert_eq!(sink.push(&mut parser, text, 0, NOW_NS, &mut errors).accepted, 12);
    let pushed = sink.push(&mut parser, text, 12, NOW_NS, &mut errors);
    assert_eq!((pushed.consumed, pushed.rows, pushed.blocked_on), (0, 0, Some(0)));
}

#[test]
fn rejects_rows_with_hostile_names_and_keeps_memory_bounded() {
    let limits = Limits {
        attributes_per_row_max: 20,
        attribute_name_bytes_max: 40,
        ..Limits::default()
    };
    let mut bench = Bench::new(&default_table(), &limits);
    let many: Vec<String> = (0..21).map(|i| format!("\"k{i}\":1")).collect();
    let deep = format!("{}1{}", "{\"aaaaaaaaaa\":".repeat(5), "}".repeat(5));
    bench.push(&format!(
        "{{\"a\":1}}\n{{{}}}\n{{\"{}\":1}}\n{deep}\n{{\"a\":2}}\n",
        many.join(","),
        "n".repeat(41)
    ));
    let rejected: Vec<_> = bench
        .errors
        .first
        .iter()
        .map(|error| (error.row, error.reason))
        .collect();
    assert_eq!(
        rejected,
        [1, 2, 3].map(|row| (row, crate::json::RejectReason::Attributes))
    );
    assert_eq!(bench.rows().len(), 2);

    bench.blocks.clear();
    for round in 0..300 {
        let lines: String = (0..20)
            .map(|i| format!("{{\"name-{round}-{i}\":{i},\"msg\":\"m\"}}\n"))
            .collect();
        bench.push(&lines);
    }
    let names = bench.sink.scan.names_kept();
    assert!(names <= 1024 + 2, "{names} names are kept of 6000");
    let rows = bench.rows();
    assert_eq!(rows.len(), 6000);
    for (i, row) in rows.iter().enumerate() {
        let name = format!("name-{}-{}", i / 20, i % 20);
        assert_eq!(attributes(row), json!({name: (i % 20).to_string()}));
    }
}

/// What a row of the default table holds, read with serde_json only.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    body: String,
    service: String,
    time: i64,
    attributes: BTreeMap<String, String>,
}

fn flatten(prefix: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                flatten(&format!("{prefix}.{key}"), value, out);
            }
        }
        Value::Null => drop(out.insert(prefix.into(), String::new())),
        Value::String(text) => drop(out.insert(prefix.into(), text.clone())),
        other => drop(out.insert(prefix.into(), other.to_string())),
    }
}

/// `None` when the row's time is no time.
fn model(row: &Value) -> Option<Model> {
    let mut attributes = BTreeMap::new();
    let mut model = Model {
        body: String::new(),
        service: String::new(),
        time: NOW_NS,
        attributes: BTreeMap::new(),
    };
    for (key, value) in row.as_object().unwrap() {
        match key.as_str() {
            "message" => model.body = value.as_str().unwrap().into(),
            "service" => model.service = value.as_str().unwrap().into(),
            "time" => model.time = value.as_i64()? * 1_000_000_000,
            key => flatten(key, value, &mut attributes),
        }
    }
    model.attributes = attributes;
    Some(model)
}

fn model_of(row: &BTreeMap<String, String>) -> Model {
    Model {
        body: row["Body"].clone(),
        service: row["ServiceName"].clone(),
        time: row["Timestamp"].parse().unwrap(),
        attributes: serde_json::from_str(&row["LogAttributes"]).unwrap(),
    }
}

fn random_row() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    let value = scalar.prop_recursive(2, 8, 3, |inner| {
        prop::collection::btree_map("[a-c]{1,2}", inner, 0..3)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    let time = prop_oneof![
        4 => (1_000_000_000_i64..1_700_000_000).prop_map(Value::from),
        1 => Just(json!("not a time")),
        1 => Just(json!(true)),
    ];
    (
        prop::option::of("\\PC{0,30}"),
        prop::option::of("[a-d]{1,3}"),
        prop::option::of(time),
        prop::collection::btree_map("[p-r]{1,2}", value, 0..5),
    )
        .prop_map(|(message, service, time, rest)| {
            let mut row: serde_json::Map<String, Value> = rest.into_iter().collect();
            message.map(|message| row.insert("message".into(), message.into()));
            service.map(|service| row.insert("service".into(), service.into()));
            time.map(|time| row.insert("time".into(), time));
            Value::Object(row)
        })
}

/// A row that only the tape's way can read: a key comes twice and holds objects. Behind it a text is parsed.
const ODD_ROW: &str = "{\"o\":{\"p\":1},\"o\":{\"p\":2}}\n";

/// Rows, the numbers of the rejected ones, and fields that no column knows.
fn outcome(bench: &mut Bench) -> (Vec<BTreeMap<String, String>>, BTreeSet<u64>, u64) {
    let errors = bench.errors.first.iter().map(|error| error.row);
    let errors = errors.collect();
    (bench.rows(), errors, bench.sink.unknown_fields())
}

#[test]
fn rows_before_an_odd_one_are_taken_once() {
    for schema in [
        default_table(),
        table(&[("message", "String", ""), ("n", "UInt8", "")], ""),
    ] {
        let mut bench = Bench::new(&schema, &Limits::default());
        let good = "{\"message\":\"m\",\"n\":1,\"unknown\":2}\n";
        let bad = "{\"message\":\"m\",\"n\":1,\"unknown\":2,\"rest\n";
        bench.push(&[good, good, ODD_ROW, good, bad, good].concat());
        assert_eq!((bench.accepted, bench.next_row), (5, 6));
        assert_eq!(bench.errors.first[0].row, 4);
        if bench.sink.schema().overflow.is_none() {
            // Those of the rows taken: the odd one has one.
            assert_eq!(bench.sink.unknown_fields(), 4 + 1);
        }
        assert_eq!(bench.rows().len(), 5);
    }
}

proptest! {
    #[test]
    fn rows_are_the_same_from_their_text_and_from_the_tape(
        rows in prop::collection::vec((random_row(), random_row(), 0..4_u8), 1..20),
        plain in any::<bool>(),
    ) {
        // Some rows have keys twice, and some are damaged.
        let lines: String = rows
            .iter()
            .map(|(row, more, form)| match form {
                0 => format!("{}\n", format!("{row}{more}").replace("}{", ",").replace("{,", "{").replace(",}", "}")),
                1 if row.as_object().is_some_and(|row| row.len() > 3) => format!("{}\n", row.to_string().trim_end_matches('}')),
                _ => format!("{row}\n"),
            })
            .collect();
        let schema = match plain {
            true => table(&[("message", "String", ""), ("time", "Int64", ""), ("p", "UInt8", ""), ("q", "Nullable(String)", "'x'")], ""),
            false => default_table(),
        };
        let of = |lines: &str| {
            let mut bench = Bench::new(&schema, &Limits::default());
            bench.push(lines);
            outcome(&mut bench)
        };
        let (of_text, of_tape, of_odd) = (of(&lines), of(&[ODD_ROW, &lines].concat()), of(ODD_ROW));
        prop_assert_eq!(of_text.1.iter().map(|row| row + 1).collect::<BTreeSet<_>>(), of_tape.1);
        let mut rows = [of_text.0, of_odd.0].concat();
        let mut rows_of_tape = of_tape.0;
        rows.sort();
        rows_of_tape.sort();
        prop_assert_eq!(rows, rows_of_tape);
        prop_assert_eq!(of_text.2 + of_odd.2, of_tape.2);
    }

    #[test]
    fn accepted_rows_are_the_models(
        rows in prop::collection::vec(random_row(), 1..60),
        chunk in 1usize..30,
    ) {
        let limits = Limits { batch_rows_max: 16, batches_per_table: 3, ..Limits::default() };
        let mut bench = Bench::new(&default_table(), &limits);
        for rows in rows.chunks(chunk) {
            bench.push(&rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        }
        let mut stored: Vec<Model> = bench.rows().iter().map(model_of).collect();
        let mut expected: Vec<Model> = rows.iter().filter_map(model).collect();
        prop_assert_eq!(bench.errors.count as usize, rows.len() - expected.len());
        stored.sort();
        expected.sort();
        prop_assert_eq!(stored, expected);
    }

    #[test]
    fn a_bad_value_in_any_column_rejects_its_row_alone(
        rows in prop::collection::vec((0..400_i64, -50..300_i64, prop::option::of(0..3_u32)), 1..50),
    ) {
        let columns = [("a", "UInt8", ""), ("s", "LowCardinality(String)", ""), ("b", "UInt8", ""),
            ("m", "Map(LowCardinality(String), String)", ""), ("c", "Nullable(UInt32)", "")];
        let mut bench = Bench::with_mapping(
            &table(&columns, ""),
            &MappingConfig { overflow: Some("m".into()), ..MappingConfig::default() },
            &Limits::default(),
        );
        let lines: String = rows
            .iter()
            .map(|(a, b, c)| {
                let c = c.map_or(json!(null), |c| if c == 2 { json!("x") } else { json!(c) });
                let row = json!({"a": a, "b": b, "c": c, "s": format!("s{a}"), format!("k{b}"): b});
                format!("{row}\n")
            })
            .collect();
        bench.push(&lines);
        let fits = |(a, b, c): &(i64, i64, Option<u32>)| *a < 256 && (0..256).contains(b) && *c != Some(2);
        let expected: Vec<String> = rows
            .iter()
            .filter(|row| fits(row))
            .map(|(a, b, c)| {
                let c = c.map_or("NULL".into(), |c| c.to_string());
                format!("{a} {b} {c} s{a} {{\"k{b}\":\"{b}\"}}")
            })
            .collect();
        let stored: Vec<String> = bench
            .rows()
            .iter()
            .map(|row| format!("{} {} {} {} {}", row["a"], row["b"], row["c"], row["s"], row["m"]))
            .collect();
        prop_assert_eq!(stored, expected);
        let bad: Vec<u64> = (0..).zip(&rows).filter(|(_, row)| !fits(row)).map(|(i, _)| i).take(20).collect();
        let rejected: Vec<u64> = bench.errors.first.iter().map(|error| error.row).collect();
        prop_assert_eq!(rejected, bad);
    }
}

/// The rows of one text, read so.
fn rows_read_as(reading: Reading, lines: &str) -> Vec<BTreeMap<String, String>> {
    let mut bench = Bench::new(&default_table(), &Limits::default());
    bench.sink.read_as(reading);
    bench.push(lines);
    assert_eq!(bench.errors.count, 0, "{:?}", bench.errors.first);
    bench.rows()
}

#[test]
fn a_vocabulary_gives_keys_the_meaning_of_their_dialect() {
    let splunk = Reading {
        vocabulary: Vocabulary::SplunkEvent,
        ..Reading::default()
    };
    let rows = rows_read_as(
        splunk,
        r#"{"time":1700000000.5,"host":"h","source":"s","event":"plain","fields":{"level":"x","n":1}}
{"event":{"message":"inner","level":"error","a":{"b":2},"service":"web"},"sourcetype":"t"}
{"event":7,"fields":{}}
{"event":["a",1]}
{"\u0065vent":{"message":"escaped","level":"warn"},"fields":{"a":{"b":null,"c":3}}}
"#,
    );
    assert_eq!(rows[0]["Body"], "plain");
    assert_eq!(rows[0]["Timestamp"], "1700000000500000000");
    assert_eq!(rows[0]["SeverityText"], "");
    for (row, key) in [
        (0, "host"),
        (0, "source"),
        (0, "level"),
        (0, "n"),
        (1, "a.b"),
        (1, "sourcetype"),
        (4, "a.c"),
    ] {
        assert!(
            rows[row]["LogAttributes"].contains(key),
            "{row} {key}: {:?}",
            rows[row]
        );
    }
    assert_eq!(rows[0]["ServiceName"], "", "a source is a file here");
    assert_eq!((&*rows[1]["Body"], &*rows[1]["SeverityText"]), ("inner", "error"));
    assert_eq!(rows[1]["ServiceName"], "web");
    assert_eq!(rows[2]["Body"], "7");
    assert_eq!(rows[3]["Body"], r#"["a",1]"#);
    assert_eq!(
        (&*rows[4]["Body"], &*rows[4]["SeverityText"]),
        ("escaped", "warn")
    );

    let datadog = Reading {
        vocabulary: Vocabulary::Datadog,
        ..Reading::default()
    };
    let rows = rows_read_as(
        datadog,
        "{\"message\":\"m\",\"status\":\"warning\",\"service\":\"s\",\"hostname\":\"h\"}\n",
    );
    assert_eq!((&*rows[0]["Body"], &*rows[0]["SeverityText"]), ("m", "warning"));
    assert_eq!(rows[0]["SeverityNumber"], "13");

    let own = rows_read_as(
        Reading::default(),
        "{\"message\":\"m\",\"event\":{\"level\":\"warn\"},\"status\":200}\n",
    );
    assert_eq!(own[0]["SeverityText"], "", "{own:?}");
    assert!(own[0]["LogAttributes"].contains("event.level"));
}

#[test]
fn a_column_of_the_keys_own_name_goes_before_its_meaning() {
    let schema = table(
        &[
            ("time", "DateTime64(9)", ""),
            ("event", "String", ""),
            ("host", "String", ""),
            ("status", "UInt8", ""),
        ],
        "",
    );
    for vocabulary in Vocabulary::OTHERS {
        let mut bench = Bench::new(&schema, &Limits::default());
        bench.sink.read_as(Reading {
            vocabulary,
            ..Reading::default()
        });
        bench.push("{\"time\":1700000000,\"event\":{\"a\":1},\"host\":\"h\",\"status\":200}\n");
        let rows = bench.rows();
        assert_eq!((&*rows[0]["event"], &*rows[0]["host"]), (r#"{"a":1}"#, "h"));
        assert_eq!(rows[0]["status"], "200", "{vocabulary:?}");
    }
}

#[test]
fn constants_replace_the_rows_own_values_on_every_path() {
    let fields = [
        ("env", "prod"),
        ("service.name", "fixed"),
        ("level", "error"),
        ("a.b", "c"),
    ];
    let fields: BTreeMap<String, String> = fields.map(|(name, value)| (name.into(), value.into())).into();
    let constants = Constants::keep(&fields);
    assert_eq!(constants, Constants::keep(&fields), "equal ones are kept once");
    let reading = Reading {
        constants,
        ..Reading::default()
    };
    // Read from the text; by simd-json for its escaped key; with a key twice; without any of them.
    let lines = [
        r#"{"message":"1","env":"dev","service":"mine","level":"debug","a":{"b":1,"d":2}}"#,
        r#"{"\u006dessage":"2","env":"dev","service":"mine","level":"debug","a":{"b":1,"d":2}}"#,
        r#"{"message":"3","a":{"b":1},"env":"x","env":"dev","a":{"b":2,"d":2},"level":7}"#,
        r#"{"message":"4","a":{"d":2}}"#,
    ];
    let together = rows_read_as(reading, &lines.join("\n"));
    for (at, line) in lines.iter().enumerate() {
        let alone = rows_read_as(reading, line);
        for row in [&together[at], &alone[0]] {
            assert_eq!(row["Body"], (at + 1).to_string());
            assert_eq!((&*row["ServiceName"], &*row["SeverityText"]), ("fixed", "error"));
            assert_eq!(row["SeverityNumber"], "17");
            let attributes = &row["LogAttributes"];
            for part in ["env", "prod", "a.b", "a.d"] {
                assert!(attributes.contains(part), "{part}: {attributes}");
            }
            assert!(!attributes.contains("dev"), "{attributes}");
        }
    }
}
