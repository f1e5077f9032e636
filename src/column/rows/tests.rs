//! Blocks as the sink seals them, read back, cut, printed and posted again; and damaged ones.

#[expect(dead_code, reason = "the differential test asks more of a value")]
#[path = "../../../tests/differential/values.rs"]
mod values;

use super::*;
use crate::batch::TableSink;
use crate::clickhouse::frame::put_plain_frame;
use crate::json::{Parser, RowErrors, RowForm, RowsText};
use crate::limits::Limits;
use crate::mapping::MappingConfig;
use crate::schema::{RawColumn, Schema, TableName, TableSchema};
use fastrand::Rng;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use std::sync::Arc;

const NOW_NS: i64 = 1_700_000_000_123_456_789;

const TYPES: [&str; 70] = [
    "String",
    "FixedString(8)",
    "Bool",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Int128",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt128",
    "Float32",
    "Float64",
    "Date",
    "Date32",
    "DateTime",
    "DateTime('Asia/Kolkata')",
    "DateTime64(0)",
    "DateTime64(3)",
    "DateTime64(6, 'America/New_York')",
    "DateTime64(9)",
    "Enum8('a' = -128, 'b' = 0, 'it''s' = 127)",
    "Enum16('ä' = -32768, 'b' = 1, 'c' = 300)",
    "UUID",
    "IPv4",
    "IPv6",
    "Decimal(9, 0)",
    "Decimal(9, 4)",
    "Decimal(18, 18)",
    "Decimal(18, 6)",
    "Decimal(38, 10)",
    "Decimal(38, 38)",
    "LowCardinality(String)",
    "LowCardinality(Nullable(String))",
    "LowCardinality(FixedString(3))",
    "LowCardinality(UInt64)",
    "LowCardinality(Nullable(Int16))",
    "LowCardinality(Date)",
    "LowCardinality(Nullable(DateTime))",
    "LowCardinality(UUID)",
    "Nullable(String)",
    "Nullable(FixedString(4))",
    "Nullable(Int32)",
    "Nullable(Float64)",
    "Nullable(Bool)",
    "Nullable(DateTime64(3))",
    "Nullable(Enum8('x' = 1, 'y' = 2))",
    "Nullable(UUID)",
    "Nullable(IPv6)",
    "Nullable(Decimal(18, 6))",
    "Array(String)",
    "Array(UInt16)",
    "Array(Nullable(Int64))",
    "Array(LowCardinality(Nullable(String)))",
    "Array(Array(Array(Float64)))",
    "Array(Tuple(a UInt8, b Array(String)))",
    "Map(String, String)",
    "Map(LowCardinality(String), UInt32)",
    "Map(UInt16, Array(Nullable(String)))",
    "Map(String, Map(String, Int8))",
    "Map(Date, LowCardinality(String))",
    "Map(UUID, Float32)",
    "Tuple(String, UInt8, Nullable(Float32))",
    "Tuple(a String, b Int16, c Array(UInt8))",
    "Tuple(a Tuple(x Int8, y String), `b c` Map(String, String))",
    "Nested(name String, value Float64)",
    "JSON",
    "Array(JSON)",
];

fn table(columns: &[RawColumn]) -> Schema {
    let name = TableName {
        database: "d".into(),
        table: "t".into(),
    };
    Arc::new(TableSchema::from_columns(name, columns, "").unwrap())
}

fn column(name: &str, type_name: &str) -> RawColumn {
    RawColumn {
        name: name.into(),
        type_name: type_name.into(),
        ..RawColumn::default()
    }
}

fn default_table() -> Schema {
    Arc::new(TableSchema::default_table(TableName {
        database: "d".into(),
        table: "t".into(),
    }))
}

/// The frames of the blocks that `lines` become, and how many rows were rejected.
fn blocks(schema: &Schema, lines: &str) -> (Vec<Vec<u8>>, u64) {
    let limits = Limits {
        line_bytes_max: 16 * 1024 * 1024,
        batch_rows_max: 100_000,
        batch_bytes_max: 64 * 1024 * 1024,
        ..Limits::default()
    };
    let mut sink = TableSink::new(Schema::clone(schema), &MappingConfig::default(), &limits);
    let (mut parser, mut errors) = (Parser::new(&limits), RowErrors::new(&limits));
    let mut encoder = FrameEncoder::new();
    let mut sealed = Vec::new();
    let mut seal = |sink: &mut TableSink, batch: usize| {
        let mut frames = Vec::new();
        sink.seal(batch, &mut encoder, &mut frames);
        sealed.push(frames);
    };
    let mut text = RowsText {
        bytes: lines.as_bytes(),
        form: RowForm::Lines,
    };
    while !text.bytes.is_empty() {
        let pushed = sink.push(&mut parser, text, 0, NOW_NS, &mut errors);
        text = text.from_offset(pushed.consumed);
        if let Some(batch) = pushed.blocked_on {
            seal(&mut sink, batch);
        }
    }
    for batch in sink.open().map(|(batch, _)| batch).collect::<Vec<_>>() {
        seal(&mut sink, batch);
    }
    (sealed, errors.count)
}

/// A table of some columns of any types, and blocks of rows sent to it; three of five fit.
fn random_blocks(seed: u64) -> (Schema, Vec<Vec<u8>>) {
    let mut rng = Rng::with_seed(seed);
    let columns: Vec<RawColumn> = (0..rng.usize(1..6))
        .map(|index| {
            let mut column = column(&format!("c\"{index}.x"), rng.choice(TYPES).unwrap());
            if rng.u8(..6) == 0 {
                column.default_kind = "DEFAULT".into();
            }
            column
        })
        .chain([column("id", "UInt64")])
        .collect();
    let schema = table(&columns);
    let mut lines = String::new();
    for id in 0..rng.usize(1..60) {
        lines.push_str(&format!("{{\"id\":{id}"));
        for column in &schema.columns[..schema.columns.len() - 1] {
            if rng.u8(..8) > 0 {
                let name = serde_json::to_string(&column.name).unwrap();
                lines.push_str(&format!(",{name}:{}", values::value(&mut rng, &column.data_type)));
            }
        }
        lines.push_str("}\n");
    }
    let (blocks, _) = blocks(&schema, &lines);
    (schema, blocks)
}

fn json_rows(rows: &Rows) -> Vec<String> {
    (0..rows.len()).map(|row| json_row(rows, row)).collect()
}

fn json_row(rows: &Rows, row: usize) -> String {
    let mut out = Vec::new();
    rows.put_json(row, &mut out);
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<IgnoredAny>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(!text.contains('\n'), "{text}");
    text
}

fn cut(rows: &Rows, range: Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    let wire_bytes = rows.cut(range, &mut FrameEncoder::new(), &mut out);
    assert_eq!(unframed(&out).len(), wire_bytes);
    out
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_plain_frame(bytes, &mut out);
    out
}

/// The bytes of a sealed block, without the beginning of the next.
fn unframed(frames: &[u8]) -> Vec<u8> {
    let mut bytes = decompress(frames).unwrap();
    assert!(bytes.ends_with(&NEXT_BLOCK));
    bytes.truncate(bytes.len() - NEXT_BLOCK.len());
    bytes
}

/// Reads bytes that may be anything; when they are a block, all that can be done with it is done.
fn check_any(bytes: &[u8]) -> Result<(), RowsError> {
    let rows = Rows::read(&framed(bytes))?;
    let shown = json_rows(&rows);
    if rows.len() > 1 {
        let middle = rows.len() / 2;
        let halves = [cut(&rows, 0..middle), cut(&rows, middle..rows.len())];
        let halves = halves.map(|half| json_rows(&Rows::read(&half).unwrap()));
        assert_eq!(halves.concat(), shown);
    }
    Ok(())
}

/// The JSON rows of `lines` in a table, which all fit and go into one block; posted again they stay as they are.
fn printed(schema: &Schema, lines: &str) -> Vec<String> {
    let read_back = |lines: &str| {
        let (blocks, rejected) = blocks(schema, lines);
        assert_eq!((blocks.len(), rejected), (1, 0), "{lines}");
        json_rows(&Rows::read(&blocks[0]).unwrap())
    };
    let shown = read_back(lines);
    assert_eq!(read_back(&shown.join("\n")), shown);
    shown
}

/// What the elements of `json` in a column of this type are printed as.
fn check(type_name: &str, json_values: &[&str], expected: &[&str]) {
    let schema = table(&[column("c", type_name)]);
    let lines: String = json_values
        .iter()
        .map(|value| format!("{{\"c\":{value}}}\n"))
        .collect();
    let expected: Vec<String> = expected
        .iter()
        .map(|value| format!("{{\"c\":{value}}}"))
        .collect();
    assert_eq!(printed(&schema, &lines), expected, "{type_name}");
}

#[test]
fn every_kind_of_type_is_printed_in_the_form_it_is_read_in() {
    check(
        "Int8",
        &["-128", "127", "true", "null"],
        &["-128", "127", "1", "0"],
    );
    check(
        "UInt64",
        &["18446744073709551615", "0"],
        &["18446744073709551615", "0"],
    );
    check("Int64", &["-9223372036854775808"], &["-9223372036854775808"]);
    check(
        "Int128",
        &["-1", "\"-170141183460469231731687303715884105728\""],
        &["\"-1\"", "\"-170141183460469231731687303715884105728\""],
    );
    check(
        "UInt128",
        &["\"340282366920938463463374607431768211455\""],
        &["\"340282366920938463463374607431768211455\""],
    );
    let floats = [
        "1.5", "-2", "\"nan\"", "\"-inf\"", "\"inf\"", "\"-nan\"", "0.1", "\"-0.0\"",
    ];
    let shown = [
        "1.5", "-2.0", "\"nan\"", "\"-inf\"", "\"inf\"", "\"-nan\"", "0.1", "-0.0",
    ];
    check("Float64", &floats, &shown);
    check("Float32", &floats, &shown);
    check("Bool", &["true", "0"], &["true", "false"]);
    check(
        "String",
        &[r#""a\n\u0001\"é""#, "12", "null"],
        &[r#""a\n\u0001\"é""#, r#""12""#, r#""""#],
    );
    check(
        "FixedString(3)",
        &[r#""ab""#, r#""é""#, r#""a\u0000b""#],
        &[r#""ab""#, r#""é""#, r#""a\u0000b""#],
    );
    check(
        "Date",
        &[r#""1970-01-01""#, r#""2149-06-06""#],
        &[r#""1970-01-01""#, r#""2149-06-06""#],
    );
    check(
        "Date32",
        &[r#""1900-01-01""#, r#""2299-12-31""#],
        &[r#""1900-01-01""#, r#""2299-12-31""#],
    );
    check(
        "DateTime('Asia/Kolkata')",
        &["0", r#""2106-02-07T06:28:15Z""#],
        &[r#""1970-01-01 00:00:00""#, r#""2106-02-07 06:28:15""#],
    );
    check(
        "DateTime64(3)",
        &["-0.5", r#""1900-01-01T00:00:00.001Z""#],
        &[r#""1969-12-31 23:59:59.500""#, r#""1900-01-01 00:00:00.001""#],
    );
    check(
        "DateTime64(0)",
        &[r#""2299-12-31T23:59:59Z""#],
        &[r#""2299-12-31 23:59:59""#],
    );
    check(
        "DateTime64(9)",
        &["1700468130123456789"],
        &[r#""2023-11-20 08:15:30.123456789""#],
    );
    check(
        r"Enum8('a' = -128, 'it\'s' = 1)",
        &["1", "null"],
        &[r#""it's""#, r#""a""#],
    );
    check("Enum16('ä' = -32768)", &[r#""ä""#], &[r#""ä""#]);
    let uuid = r#""00112233-4455-6677-8899-aabbccddeeff""#;
    check("UUID", &[uuid], &[uuid]);
    check("IPv4", &[r#""1.2.3.4""#], &[r#""1.2.3.4""#]);
    check(
        "IPv6",
        &[r#""1.2.3.4""#, r#""2001:db8::1""#],
        &[r#""::ffff:1.2.3.4""#, r#""2001:db8::1""#],
    );
    check(
        "Decimal(9, 4)",
        &["-0.05", "12345", "1.23456"],
        &[r#""-0.0500""#, r#""12345.0000""#, r#""1.2345""#],
    );
    check("Decimal(9, 0)", &["-7"], &[r#""-7""#]);
    let decimal = r#""-0.99999999999999999999999999999999999999""#;
    check("Decimal(38, 38)", &[decimal], &[decimal]);
    check("LowCardinality(String)", &["\"a\"", "null"], &["\"a\"", "\"\""]);
    check(
        "LowCardinality(Nullable(Int16))",
        &["7", "null", "0"],
        &["7", "null", "0"],
    );
    check("Nullable(UUID)", &["null", uuid], &["null", uuid]);
    check(
        "Array(Array(Nullable(UInt8)))",
        &["[[1,null],[]]", "[]"],
        &["[[1,null],[]]", "[]"],
    );
    check("Map(Float64, Bool)", &[r#"{"1":1}"#], &[r#"{"1.0":true}"#]);
    check(
        "Map(String, String)",
        &[r#"{"a":1,"a":2}"#],
        &[r#"{"a":"1","a":"2"}"#],
    );
    check("Tuple(UInt8, String)", &["[1,2]"], &[r#"[1,"2"]"#]);
    check(
        "Tuple(a UInt8, `b\"` String)",
        &["[1,2]"],
        &[r#"{"a":1,"b\"":"2"}"#],
    );
    let object = r#"{"a.b":[1.5,{"c":null}],"":"\n"}"#;
    check("JSON", &[object, "null"], &[object, "{}"]);
    check("Array(JSON)", &["[{},{\"a\":1}]"], &["[{},{\"a\":1}]"]);
}

#[test]
fn rows_of_the_default_table_are_posted_again_as_they_are() {
    let shown = printed(
        &default_table(),
        r#"{"time":1700000000,"level":"loud","msg":"m","k":{"a":[1,{}],"level":2},"ResourceAttributes":{"host":"h"}}
           {"time":1700000000,"level":30,"x":{}}
           {"time":1700000000}"#
            .replace("\n           ", "\n")
            .as_str(),
    );
    assert_eq!(shown.len(), 3);
    assert!(
        shown[0].ends_with(r#""LogAttributes":{"k.a":"[1,{}]","k.level":"2"},"EventName":""}"#),
        "{}",
        shown[0]
    );
    assert!(
        shown[2].starts_with(r#"{"Timestamp":"2023-11-14 22:13:20.000000000","TraceId":"","#),
        "{}",
        shown[2]
    );
    assert!(
        shown[2].contains(r#""SeverityText":"","SeverityNumber":0,"#),
        "{}",
        shown[2]
    );
}

#[test]
fn unknown_keys_in_a_json_column_are_posted_again_as_they_are() {
    let schema = table(&[column("extra", "JSON"), column("n", "Array(UInt8)")]);
    let shown = printed(&schema, r#"{"n":[1],"a":{"b":{},"c":[{"d":1}]},"e":null}"#);
    assert_eq!(
        shown,
        [r#"{"extra":{"a.b":{},"a.c":[{"d":1}],"e":null},"n":[1]}"#]
    );
    assert_eq!(printed(&schema, r#"{"n":[]}"#), [r#"{"extra":{},"n":[]}"#]);
}

#[test]
fn arrays_of_one_nested_are_posted_again_as_they_are() {
    let schema = table(&[column("n.a", "Array(UInt8)"), column("n.b", "Array(String)")]);
    assert_eq!(
        printed(&schema, r#"{"n":{"a":[1,2],"b":["x",null]}}"#),
        [r#"{"n.a":[1,2],"n.b":["x",""]}"#]
    );
}

#[test]
fn a_range_of_a_large_block_keeps_wide_keys_and_counts_its_elements_anew() {
    let schema = table(&[
        column("k", "LowCardinality(String)"),
        column("a", "Array(UInt32)"),
    ]);
    let lines: String = (0..70_000)
        .map(|i| format!("{{\"k\":\"key {i}\",\"a\":[{i},{i}]}}\n"))
        .collect();
    let (blocks, _) = blocks(&schema, &lines);
    let rows = Rows::read(&blocks[0]).unwrap();
    let whole = cut(&rows, 0..70_000);
    assert_eq!(decompress(&whole).unwrap(), decompress(&blocks[0]).unwrap());
    let middle = Rows::read(&cut(&rows, 30_000..30_002)).unwrap();
    assert_eq!(
        json_rows(&middle),
        [
            r#"{"k":"key 30000","a":[30000,30000]}"#,
            r#"{"k":"key 30001","a":[30001,30001]}"#
        ]
    );
}

/// The head of a block of one column `c`.
fn head(rows: u8, type_name: &str) -> Vec<u8> {
    let mut bytes = BLOCK_INFO.to_vec();
    bytes.extend_from_slice(&[1, rows, 1, b'c', type_name.len() as u8]);
    bytes.extend_from_slice(type_name.as_bytes());
    bytes
}

#[test]
fn values_that_ingestion_never_builds_are_printed_for_people() {
    for (type_name, value, expected) in [
        ("String", b"\x02\xffa".as_slice(), "\"\u{fffd}a\""),
        ("FixedString(2)", b"\xff\0", "\"\u{fffd}\""),
        ("Enum8('a' = 1)", b"\x07", "7"),
        ("Bool", b"\x07", "true"),
        ("Date32", b"\0\0\0\x80", "\"-5877641-06-23\""),
        (
            "DateTime64(9)",
            b"\0\0\0\0\0\0\0\x80",
            "\"1677-09-21 00:12:43.145224192\"",
        ),
        (
            "Decimal(38, 0)",
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80",
            "\"-170141183460469231731687303715884105728\"",
        ),
        (
            "Map(Array(UInt8), Nullable(UInt8))",
            b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\x02\x01\0",
            r#"{"[1,2]":null}"#,
        ),
        ("JSON", b"\x01\0\0\0\0\0\0\0\x08{ \"a\"\n:1", r#""{ \"a\"\n:1""#),
        ("JSON", b"\x01\0\0\0\0\0\0\0\x02[]", r#""[]""#),
        ("JSON", b"\x01\0\0\0\0\0\0\0\x09{\n\"a\":1\t}", r#"{ "a":1 }"#),
    ] {
        let bytes = [&head(1, type_name), value].concat();
        let rows = Rows::read(&framed(&bytes)).unwrap();
        assert_eq!(json_row(&rows, 0), format!("{{\"c\":{expected}}}"));
    }
    let deep = 1_000_000;
    let mut bytes = [head(1, "JSON").as_slice(), b"\x01\0\0\0\0\0\0\0"].concat();
    let text = format!("{{\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
    put_varint(&mut bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
    check_any(&bytes).unwrap();
}

#[test]
fn accepts_dictionaries_and_arrays_that_hold_together() {
    let strings = head(2, "LowCardinality(String)");
    let version = 1u64.to_le_bytes();
    let dictionary = |flags: u64, size: u64, rows: u64, keys: &[u8]| {
        let parts = [flags.to_le_bytes(), size.to_le_bytes()].concat();
        check_any(
            &[
                &strings,
                &version[..],
                &parts,
                b"\0\x01a",
                &rows.to_le_bytes(),
                keys,
            ]
            .concat(),
        )
    };
    assert_eq!(dictionary(0x600, 2, 2, b"\x01\0"), Ok(()));
    for damaged in [
        dictionary(0x600, 2, 2, b"\x01\x02"),
        dictionary(0x600, 2, 3, b"\x01\x01"),
        dictionary(0x600, 3, 2, b"\x01\x01"),
        dictionary(0x600, u64::MAX, 2, b"\x01\x01"),
        dictionary(0x603, 2, 2, b"\x01\x01"),
        dictionary(0x200, 2, 2, b"\x01\x01"),
        dictionary(0x601, 2, 2, b"\x01\x01"),
    ] {
        assert!(matches!(damaged, Err(RowsError::Malformed(_))), "{damaged:?}");
    }
    let arrays = head(2, "Array(UInt8)");
    let array = |first: u64, second: u64| {
        check_any(&[&arrays, &first.to_le_bytes()[..], &second.to_le_bytes(), b"abc"].concat())
    };
    assert_eq!(array(1, 3), Ok(()));
    for (first, second) in [(1, 2), (1, 4), (3, 2), (4, 3), (0, u64::MAX)] {
        assert!(
            matches!(array(first, second), Err(RowsError::Malformed(_))),
            "{first} {second}"
        );
    }
}

/// Of a table with a DEFAULT for every column.
#[test]
fn rows_without_a_column_are_empty_objects() {
    let rows = Rows::read(&framed(&[&BLOCK_INFO[..], &[0, 9]].concat())).unwrap();
    assert_eq!(rows.len(), 9);
    let mut json = Vec::new();
    rows.put_json(8, &mut json);
    assert_eq!(json, b"{}");
}

#[test]
fn rejects_what_is_no_block_of_rows() {
    let read = |bytes: &[u8]| Rows::read(&framed(bytes)).unwrap_err();
    assert_eq!(Rows::read(b"").unwrap_err(), RowsError::Malformed(0));
    assert_eq!(read(b"\x01\0"), RowsError::Malformed(0));
    let mut endless = [&BLOCK_INFO[..], &[0]].concat();
    put_varint(&mut endless, ROWS_WITHOUT_COLUMNS_MAX as u64 + 1);
    assert_eq!(read(&endless), RowsError::Malformed(endless.len()));
    let without_version = head(0, "JSON");
    assert_eq!(
        read(&without_version),
        RowsError::Malformed(without_version.len())
    );
    let trailed = [head(1, "UInt8").as_slice(), b"ab"].concat();
    assert_eq!(read(&trailed), RowsError::Malformed(trailed.len() - 1));
    let error = read(&head(1, "Int256"));
    assert_eq!(error.to_string(), "column `c`: type Int256 is not supported");
    let mut many_rows = [&BLOCK_INFO[..], &[1]].concat();
    put_varint(&mut many_rows, u64::MAX);
    many_rows.extend_from_slice(b"\x01c\x06String\0");
    assert_eq!(read(&many_rows), RowsError::Malformed(many_rows.len() - 1));

    let frames = framed(&head(0, "UInt8"));
    assert!(Rows::read(&frames).unwrap().is_empty());
    for end in 1..frames.len() {
        assert_eq!(Rows::read(&frames[..end]).unwrap_err(), RowsError::FrameCut);
    }
    let mut damaged = frames;
    damaged[30] ^= 1;
    assert_eq!(
        Rows::read(&damaged).unwrap_err(),
        RowsError::Frame(ProtocolError::FrameChecksum)
    );
}

#[test]
#[should_panic(expected = "no range")]
fn an_empty_range_is_no_block() {
    let (blocks, _) = blocks(&table(&[column("c", "UInt8")]), "{\"c\":1}");
    cut(&Rows::read(&blocks[0]).unwrap(), 1..1);
}

proptest! {
    #[test]
    fn all_rows_give_the_same_block_and_its_parts_the_same_rows(seed: u64, at: prop::sample::Index) {
        for frames in random_blocks(seed).1 {
            let rows = Rows::read(&frames).unwrap();
            let whole = cut(&rows, 0..rows.len());
            prop_assert_eq!(decompress(&whole).unwrap(), decompress(&frames).unwrap());
            prop_assert_eq!(&whole, &cut(&rows, 0..rows.len()));
            let shown = json_rows(&rows);
            let middle = at.index(rows.len());
            let mut parts = json_rows(&Rows::read(&cut(&rows, middle..rows.len())).unwrap());
            if middle > 0 {
                parts.splice(0..0, json_rows(&Rows::read(&cut(&rows, 0..middle)).unwrap()));
            }
            prop_assert_eq!(parts, shown);
        }
    }

    #[test]
    fn a_printed_row_posted_again_is_the_same_row(seed: u64) {
        let (schema, sealed) = random_blocks(seed);
        for frames in sealed {
            let shown = json_rows(&Rows::read(&frames).unwrap());
            let (again, rejected) = blocks(&schema, &shown.join("\n"));
            prop_assert_eq!((again.len(), rejected), (1, 0), "{}", shown.join("\n"));
            prop_assert_eq!(json_rows(&Rows::read(&again[0]).unwrap()), shown);
        }
    }

    #[test]
    fn every_float_is_posted_again_bit_by_bit(bits: Vec<u64>) {
        let schema = table(&[column("f", "Float32"), column("d", "Float64")]);
        let mut bytes = [&BLOCK_INFO[..], &[2]].concat();
        put_varint(&mut bytes, bits.len() as u64);
        let is_number = |bits: &u64| !f32::from_bits(*bits as u32).is_nan() && !f64::from_bits(*bits).is_nan();
        let bits: Vec<u64> = bits.into_iter().map(|bits| if is_number(&bits) { bits } else { 0 }).collect();
        bytes.extend_from_slice(b"\x01f\x07Float32");
        bits.iter().for_each(|bits| bytes.extend_from_slice(&(*bits as u32).to_le_bytes()));
        bytes.extend_from_slice(b"\x01d\x07Float64");
        bits.iter().for_each(|bits| bytes.extend_from_slice(&bits.to_le_bytes()));
        let shown = json_rows(&Rows::read(&framed(&bytes)).unwrap());
        for frames in blocks(&schema, &shown.join("\n")).0 {
            prop_assert_eq!(unframed(&frames), &bytes[..], "{:?}", shown);
        }
    }

    #[test]
    fn a_block_that_is_cut_off_is_an_error(seed: u64, at: prop::sample::Index) {
        for frames in random_blocks(seed).1 {
            let bytes = unframed(&frames);
            prop_assert!(check_any(&bytes[..at.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_or_other_rows(
        seed: u64,
        damage: [(prop::sample::Index, u8); 3],
        count in 1usize..=3,
    ) {
        for frames in random_blocks(seed).1 {
            let mut bytes = unframed(&frames);
            for (at, byte) in &damage[..count] {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = check_any(&bytes);
        }
    }

    #[test]
    fn bytes_behind_a_head_of_any_type_are_an_error_or_rows(
        at: prop::sample::Index,
        rows in 0u8..20,
        tail: Vec<u8>,
    ) {
        let bytes = [head(rows, TYPES[at.index(TYPES.len())]), tail].concat();
        let _ = check_any(&bytes);
    }
}
