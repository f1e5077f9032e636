//! Columns against a decoder of the wire form written for these tests only.

use super::*;
use crate::schema::{DataType, TableName, TableSchema};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A value as the decoder prints it; NULL is `\N`.
type Shown = String;

/// Reads a block's bytes as the protocol describes them, without sharing a line with the builders.
struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        taken
    }

    fn unsigned(&mut self, width: usize) -> u128 {
        self.take(width)
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u128::from(byte))
    }

    fn signed(&mut self, width: usize) -> i128 {
        let shift = 128 - 8 * width as u32;
        ((self.unsigned(width) << shift) as i128) >> shift
    }

    fn string(&mut self) -> String {
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let byte = self.take(1)[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    /// Version numbers, before any data.
    fn prefix(&mut self, data_type: &DataType) {
        match data_type {
            DataType::LowCardinality(_) | DataType::Json => assert_eq!(self.unsigned(8), 1),
            DataType::Nullable(inner) | DataType::Array(inner) => self.prefix(inner),
            DataType::Map(key, value) => {
                self.prefix(key);
                self.prefix(value);
            }
            DataType::Tuple(elements) => elements.iter().for_each(|(_, element)| self.prefix(element)),
            _ => {}
        }
    }

    fn data(&mut self, data_type: &DataType, rows: usize) -> Vec<Shown> {
        match data_type {
            DataType::Nullable(inner) => {
                let nulls = self.take(rows);
                let values = self.data(inner, rows);
                nulls
                    .iter()
                    .zip(values)
                    .map(|(&null, v)| if null == 1 { "\\N".into() } else { v })
                    .collect()
            }
            DataType::LowCardinality(inner) => {
                if rows == 0 {
                    return Vec::new();
                }
                let flags = self.unsigned(8);
                assert_eq!(flags & !3, 0x600);
                let distinct = self.unsigned(8) as usize;
                let (value_type, nullable) = match &**inner {
                    DataType::Nullable(value_type) => (&**value_type, true),
                    value_type => (value_type, false),
                };
                let mut values = self.data(value_type, distinct);
                if nullable {
                    values[0] = "\\N".into();
                }
                assert_eq!(self.unsigned(8) as usize, rows);
                (0..rows)
                    .map(|_| values[self.unsigned(1 << (flags & 3)) as usize].clone())
                    .collect()
            }
            DataType::Array(inner) => {
                let ends: Vec<usize> = (0..rows).map(|_| self.unsigned(8) as usize).collect();
                let values = self.data(inner, ends.last().copied().unwrap_or(0));
                split(&ends, &values)
                    .iter()
                    .map(|part| format!("[{}]", part.join(",")))
                    .collect()
            }
            DataType::Map(key, value) => {
                let ends: Vec<usize> = (0..rows).map(|_| self.unsigned(8) as usize).collect();
                let count = ends.last().copied().unwrap_or(0);
                let keys = self.data(key, count);
                let values = self.data(value, count);
                let pairs: Vec<_> = keys
                    .iter()
                    .zip(&values)
                    .map(|(k, v)| format!("{k}:{v}"))
                    .collect();
                split(&ends, &pairs)
                    .iter()
                    .map(|part| format!("{{{}}}", part.join(",")))
                    .collect()
            }
            DataType::Tuple(elements) => {
                let columns: Vec<_> = elements
                    .iter()
                    .map(|(_, element)| self.data(element, rows))
                    .collect();
                (0..rows)
                    .map(|row| {
                        let parts: Vec<_> = columns.iter().map(|column| column[row].clone()).collect();
                        format!("({})", parts.join(","))
                    })
                    .collect()
            }
            scalar => (0..rows).map(|_| self.scalar(scalar)).collect(),
        }
    }

    fn scalar(&mut self, data_type: &DataType) -> Shown {
        match data_type {
            DataType::String | DataType::Json => self.string(),
            DataType::FixedString(width) => String::from_utf8(self.take(*width).to_vec()).unwrap(),
            DataType::Bool => (self.unsigned(1) == 1).to_string(),
            DataType::UInt8 => self.unsigned(1).to_string(),
            DataType::UInt16 | DataType::Date => self.unsigned(2).to_string(),
            DataType::UInt32 | DataType::DateTime => self.unsigned(4).to_string(),
            DataType::UInt64 => self.unsigned(8).to_string(),
            DataType::UInt128 => self.unsigned(16).to_string(),
            DataType::Int8 | DataType::Enum8(_) => self.signed(1).to_string(),
            DataType::Int16 | DataType::Enum16(_) => self.signed(2).to_string(),
            DataType::Int32 | DataType::Date32 => self.signed(4).to_string(),
            DataType::Int64 | DataType::DateTime64 { .. } => self.signed(8).to_string(),
            DataType::Int128 => self.signed(16).to_string(),
            DataType::Float32 => f32::from_bits(self.unsigned(4) as u32).to_string(),
            DataType::Float64 => f64::from_bits(self.unsigned(8) as u64).to_string(),
            DataType::Uuid => {
                let (high, low) = (self.unsigned(8), self.unsigned(8));
                format!("{:032x}", high << 64 | low)
            }
            DataType::Ipv4 => Ipv4Addr::from(self.unsigned(4) as u32).to_string(),
            DataType::Ipv6 => Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)).unwrap()).to_string(),
            DataType::Decimal { precision, .. } => {
                let width = if *precision <= 9 {
                    4
                } else if *precision <= 18 {
                    8
                } else {
                    16
                };
                self.signed(width).to_string()
            }
            other => panic!("{other:?} is no scalar"),
        }
    }
}

fn split<'a>(ends: &[usize], values: &'a [Shown]) -> Vec<&'a [Shown]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(ends)
        .map(|(start, &end)| &values[start..end])
        .collect()
}

fn spec(type_name: &str) -> ColumnSpec {
    ColumnSpec {
        name: "c".into(),
        type_name: type_name.into(),
        data_type: DataType::parse(type_name).unwrap_or_else(|error| panic!("{type_name}: {error}")),
        has_default: false,
        role: Role::Plain,
    }
}

fn limits() -> Limits {
    Limits {
        batch_rows_max: 64,
        ..Limits::default()
    }
}

/// Runs `test` with the tape of a JSON array and the tape index of each element.
fn with_values<R>(json: &str, test: impl FnOnce(&[Node<'_>], &[u32]) -> R) -> R {
    let mut bytes = json.as_bytes().to_vec();
    let tape = simd_json::to_tape(&mut bytes)
        .unwrap_or_else(|error| panic!("{json}: {error}"))
        .0;
    let Node::Array { len, .. } = tape[0] else {
        panic!("{json} is no array")
    };
    let mut values = Vec::new();
    let mut at = 1;
    for _ in 0..len {
        values.push(at as u32);
        at = text::next_value(&tape, at);
    }
    test(&tape, &values)
}

const NOW_NS: i64 = 1_700_468_130_123_456_789;

/// Appends the elements of `json` and returns the errors.
fn append(column: &mut Column, json: &str) -> Vec<(usize, ValueError)> {
    with_values(json, |tape, values| {
        let mut errors = Vec::new();
        let append = Append {
            tape,
            values,
            now_ns: NOW_NS,
        };
        column.append(&append, &mut |position, error| errors.push((position, error)));
        errors
    })
}

fn bytes_of(column: &mut Column) -> Vec<u8> {
    let mut bytes = Vec::new();
    column.for_each_piece(&mut |piece| bytes.extend_from_slice(piece));
    assert_eq!(bytes.len(), column.wire_bytes());
    bytes
}

fn decode(bytes: &[u8], spec: &ColumnSpec, rows: usize) -> Vec<Shown> {
    let mut decoder = Decoder { bytes };
    assert_eq!(decoder.string(), spec.name);
    assert_eq!(decoder.string(), spec.type_name);
    decoder.prefix(&spec.data_type);
    let values = decoder.data(&spec.data_type, rows);
    assert!(decoder.bytes.is_empty(), "{} bytes are left", decoder.bytes.len());
    values
}

fn shown(column: &mut Column, spec: &ColumnSpec) -> Vec<Shown> {
    let rows = column.rows();
    decode(&bytes_of(column), spec, rows)
}

/// Appends `json` and compares; the same again after a mark and a rollback, a clear, and around defaults.
fn check(type_name: &str, json: &str, expected: &[&str]) {
    let spec = spec(type_name);
    let mut column = Column::new(&spec, &limits());
    assert_eq!(append(&mut column, json), [], "{type_name} {json}");
    assert_eq!(shown(&mut column, &spec), expected, "{type_name} {json}");

    column.mark();
    append(&mut column, json);
    column.append_defaults(3);
    column.rollback();
    assert_eq!(
        shown(&mut column, &spec),
        expected,
        "{type_name} {json} after a rollback"
    );
    append(&mut column, json);
    assert_eq!(
        shown(&mut column, &spec),
        [expected, expected].concat(),
        "{type_name} {json} twice"
    );

    column.clear();
    assert_eq!(column.rows(), 0);
    assert_eq!(shown(&mut column, &spec), [""; 0]);
    column.append_defaults(2);
    append(&mut column, json);
    append(&mut column, "[null]");
    column.append_defaults(1);
    let default = shown(&mut column, &spec)[0].clone();
    let default = default.as_str();
    let all = [&[default, default], expected, &[default, default]].concat();
    assert_eq!(
        shown(&mut column, &spec),
        all,
        "{type_name} {json} between defaults"
    );
}

/// Each element alone is refused with `error` and leaves a default.
fn check_refused(type_name: &str, json_values: &[&str], error: ValueError) {
    let spec = spec(type_name);
    for value in json_values {
        let mut column = Column::new(&spec, &limits());
        assert_eq!(
            append(&mut column, &format!("[null, {value}, null]")),
            [(1, error)],
            "{type_name} {value}"
        );
        let values = shown(&mut column, &spec);
        assert_eq!(values.len(), 3);
        assert_eq!(values[0], values[1], "{type_name} {value}");
    }
}

#[test]
fn integers_take_numbers_and_texts_that_are_exactly_numbers() {
    check(
        "UInt8",
        r#"[0, 255, "7", true, 3.0, null]"#,
        &["0", "255", "7", "1", "3", "0"],
    );
    check("Int8", "[-128, 127, \"-5\"]", &["-128", "127", "-5"]);
    check("UInt16", "[65535]", &["65535"]);
    check("Int16", "[-32768]", &["-32768"]);
    check("UInt32", "[4294967295]", &["4294967295"]);
    check("Int32", "[-2147483648]", &["-2147483648"]);
    check(
        "UInt64",
        r#"[18446744073709551615, "18446744073709551615"]"#,
        &["18446744073709551615"; 2],
    );
    check(
        "Int64",
        "[-9223372036854775808, 9223372036854775807]",
        &["-9223372036854775808", "9223372036854775807"],
    );
    check(
        "Int128",
        r#"["-170141183460469231731687303715884105728", -1]"#,
        &["-170141183460469231731687303715884105728", "-1"],
    );
    check(
        "UInt128",
        r#"["340282366920938463463374607431768211455"]"#,
        &["340282366920938463463374607431768211455"],
    );
    check_refused(
        "UInt8",
        &["256", "-1", "\"256\"", "\"-1\"", "1e300"],
        ValueError::OutOfRange,
    );
    check_refused(
        "Int64",
        &["9223372036854775808", "\"9223372036854775808\""],
        ValueError::OutOfRange,
    );
    check_refused("UInt8", &["1.5"], ValueError::NotIntegral);
    check(
        "Int64",
        "[9007199254740992.0, -1e15]",
        &["9007199254740992", "-1000000000000000"],
    );
    check_refused("Int64", &["9007199254740994.0", "-1e18"], ValueError::Inexact);
    check_refused("UInt128", &["1e18", "1e38"], ValueError::Inexact);
    check_refused("Int64", &["1e19", "1e39"], ValueError::OutOfRange);
    check_refused(
        "Int32",
        &["\"\"", "\"1 \"", "\"x\"", "\"1.0\""],
        ValueError::BadNumber,
    );
    check_refused(
        "Int32",
        &["[]", "{}"],
        ValueError::WrongType {
            expected: "an integer",
        },
    );
}

#[test]
fn floats_and_booleans_are_read() {
    check(
        "Float64",
        r#"[1.5, -2, "1e3", "nan", "-inf", true]"#,
        &["1.5", "-2", "1000", "NaN", "-inf", "1"],
    );
    check("Float32", "[1.5, 0.1]", &["1.5", "0.1"]);
    check_refused("Float32", &["1e39", "-1e300"], ValueError::OutOfRange);
    check_refused("Float64", &["\"abc\"", "\"\""], ValueError::BadNumber);
    check(
        "Bool",
        r#"[true, false, 0, 1, "TRUE", "0"]"#,
        &["true", "false", "false", "true", "true", "false"],
    );
    check_refused(
        "Bool",
        &["2", "\"yes\"", "[]"],
        ValueError::WrongType {
            expected: "true or false",
        },
    );
}

#[test]
fn text_columns_take_everything_as_text() {
    let json = r#"["a", "", 12, -1.5, true, [1, {"k": "q\"\n\u0001"}], {"a": null}, "é", null]"#;
    let texts = [
        "a",
        "",
        "12",
        "-1.5",
        "true",
        r#"[1,{"k":"q\"\n\u0001"}]"#,
        r#"{"a":null}"#,
        "é",
        "",
    ];
    check("String", json, &texts);
    check("LowCardinality(String)", json, &texts);
    let mut nullable = texts;
    nullable[8] = "\\N";
    check("Nullable(String)", json, &nullable);
    check("LowCardinality(Nullable(String))", json, &nullable);
    check(
        "FixedString(3)",
        r#"["abc", "a", 12, "é"]"#,
        &["abc", "a\0\0", "12\0", "é\0"],
    );
    check(
        "LowCardinality(FixedString(2))",
        r#"["ab", "c", "ab"]"#,
        &["ab", "c\0", "ab"],
    );
    check_refused(
        "FixedString(3)",
        &["\"abcd\"", "1234"],
        ValueError::TooLongForFixedString,
    );
    let long = "x".repeat(70_000);
    check("String", &format!("[\"{long}\"]"), &[&long]);
}

#[test]
fn times_are_ticks_of_the_column() {
    let json = r#"["2023-11-20T08:15:30.123456789Z", 1700468130, "1700468130123", 1700468130.5, null]"#;
    let nanos = |tail: &str| format!("1700468130{tail}");
    check(
        "DateTime64(9)",
        json,
        &[
            &nanos("123456789"),
            &nanos("000000000"),
            &nanos("123000000"),
            &nanos("500000000"),
            "0",
        ],
    );
    check(
        "DateTime64(3, 'UTC')",
        json,
        &[&nanos("123"), &nanos("000"), &nanos("123"), &nanos("500"), "0"],
    );
    check(
        "DateTime",
        json,
        &["1700468130", "1700468130", "1700468130", "1700468130", "0"],
    );
    check("Date", json, &["19681", "19681", "19681", "19681", "0"]);
    check("Date32", r#"["1900-01-01", "2299-12-31"]"#, &["-25567", "120529"]);
    for date in ["Date", "Date32"] {
        check(
            date,
            r#"[0, 19681, 65535, 65536, "20231120"]"#,
            &["0", "19681", "65535", "0", "19681"],
        );
    }
    check("DateTime", r#"[19681, "20231120"]"#, &["19681", "1700438400"]);
    check(
        "LowCardinality(Date)",
        r#"["1970-01-02", "1970-01-03"]"#,
        &["1", "2"],
    );
    check(
        "Nullable(DateTime)",
        r#"["1970-01-01 00:00:01", null]"#,
        &["1", "\\N"],
    );
    check_refused(
        "DateTime64(9)",
        &["\"now\"", "\"\"", "true", "[]", "1e300"],
        ValueError::BadTime,
    );
    check_refused(
        "DateTime64(9)",
        &["\"2263-01-01\"", "\"1899-12-31\""],
        ValueError::TimeOutOfRange,
    );
    check_refused("DateTime64(3)", &["\"2300-01-01\""], ValueError::TimeOutOfRange);
    check_refused(
        "DateTime",
        &["\"1969-12-31\"", "\"2106-02-07T06:28:16Z\"", "-1"],
        ValueError::TimeOutOfRange,
    );
    check_refused(
        "Date",
        &["\"1969-12-31\"", "\"2149-06-07\""],
        ValueError::TimeOutOfRange,
    );
}

#[test]
fn enums_uuids_and_addresses_are_read() {
    check(
        "Enum8('a' = -1, 'b' = 5)",
        r#"["b", "a", 5, null]"#,
        &["5", "-1", "5", "-1"],
    );
    check("Enum16('x' = 1000, 'y' = 2)", r#"["x", 2]"#, &["1000", "2"]);
    // A name comes before a number as text.
    check("Enum8('1' = 2, 'b' = 1)", r#"["1", "2", 1]"#, &["2", "2", "1"]);
    check_refused(
        "Enum8('a' = -1)",
        &["\"A\"", "0", "300", "\"\"", "\"0\"", "\"300000\""],
        ValueError::NotInEnum,
    );
    check(
        "UUID",
        r#"["01234567-89ab-cdef-0123-456789ABCDEF", "fedcba98765432100123456789abcdef"]"#,
        &[
            "0123456789abcdef0123456789abcdef",
            "fedcba98765432100123456789abcdef",
        ],
    );
    check_refused(
        "UUID",
        &[
            "\"\"",
            "\"01234567-89ab-cdef-0123-456789ABCDEg\"",
            "\"01234567089ab-cdef-0123-456789abcdef\"",
        ],
        ValueError::BadUuid,
    );
    check(
        "IPv4",
        r#"["127.0.0.1", "255.1.2.3"]"#,
        &["127.0.0.1", "255.1.2.3"],
    );
    check(
        "IPv6",
        r#"["2001:db8::1", "1.2.3.4"]"#,
        &["2001:db8::1", "::ffff:1.2.3.4"],
    );
    check_refused("IPv4", &["\"1.2.3\"", "\"::1\"", "\"\""], ValueError::BadAddress);
    check_refused("IPv6", &["\"x\""], ValueError::BadAddress);
}

#[test]
fn decimals_keep_every_digit_of_their_scale() {
    check(
        "Decimal(9, 2)",
        r#"[1.25, "-1.25", 3, "1e2", "0.999", 1234567.89]"#,
        &["125", "-125", "300", "10000", "99", "123456789"],
    );
    check(
        "Decimal(18, 4)",
        r#"["12345678901234.5678"]"#,
        &["123456789012345678"],
    );
    check(
        "Decimal(38, 10)",
        r#"["1234567890123456789012345678.0123456789", 0.1]"#,
        &["12345678901234567890123456780123456789", "1000000000"],
    );
    check(
        "Decimal(9, 9)",
        r#"["0.123456789", 1e-9, "1e-300"]"#,
        &["123456789", "1", "0"],
    );
    check_refused(
        "Decimal(9, 2)",
        &["10000000", "\"-10000000.00\"", "1e300", "\"1e400\""],
        ValueError::OutOfRange,
    );
    check_refused(
        "Decimal(9, 2)",
        &["\"\"", "\".\"", "\"1e\"", "\"1.2.3\"", "\"x\""],
        ValueError::BadNumber,
    );
}

#[test]
fn nested_types_are_gathered_over_rows() {
    check(
        "Array(UInt8)",
        "[[1, 2], [], [3], null]",
        &["[1,2]", "[]", "[3]", "[]"],
    );
    check(
        "Array(Array(String))",
        r#"[[["a"], []], [], [["b", "c"]]]"#,
        &["[[a],[]]", "[]", "[[b,c]]"],
    );
    check("Array(Nullable(Int8))", "[[1, null]]", &["[1,\\N]"]);
    check(
        "Array(LowCardinality(String))",
        r#"[[], ["x", "x"], []]"#,
        &["[]", "[x,x]", "[]"],
    );
    check(
        "Map(LowCardinality(String), String)",
        r#"[{"a": 1, "b": {"c": [2]}}, {}, {"a": "z"}, null]"#,
        &[r#"{a:1,b:{"c":[2]}}"#, "{}", "{a:z}", "{}"],
    );
    check(
        "Map(UInt8, Array(Int16))",
        r#"[{"1": [2, 3]}, {"4": []}]"#,
        &["{1:[2,3]}", "{4:[]}"],
    );
    check(
        "Tuple(a UInt8, b LowCardinality(Nullable(String)))",
        r#"[{"b": "x", "z": [1], "a": 1}, [2, null], {}, null]"#,
        &["(1,x)", "(2,\\N)", "(0,\\N)", "(0,\\N)"],
    );
    check(
        "Tuple(UInt8, Array(String))",
        r#"[[1, ["a"]], [2, []]]"#,
        &["(1,[a])", "(2,[])"],
    );
    check(
        "Nested(a UInt8, b String)",
        r#"[[{"a": 1, "b": "x"}, {"b": "y"}], []]"#,
        &["[(1,x),(0,y)]", "[]"],
    );
    check("LowCardinality(UInt16)", "[1, 500, 1]", &["1", "500", "1"]);
    check(
        "LowCardinality(Nullable(UInt16))",
        "[1, null, 0]",
        &["1", "\\N", "0"],
    );
    check("SimpleAggregateFunction(max, UInt8)", "[3]", &["3"]);
}

/// Records share their resource's attributes: one object on the tape for many rows.
#[test]
fn rows_that_share_an_object_have_the_bytes_of_rows_with_one_each() {
    for type_name in [
        "Map(String, String)",
        "Map(LowCardinality(String), String)",
        "Map(LowCardinality(String), LowCardinality(String))",
        "Map(String, UInt8)",
    ] {
        let json = r#"[{"a":"1","b":"2"},{"c":"3"},7,{"long name":"12"}]"#;
        let rows = [
            0usize, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 3, 3, 3, 3, 0,
        ];
        with_values(json, |tape, values| {
            let value = |row: &usize| values.get(*row).copied().unwrap_or(0);
            let indexes: Vec<u32> = rows.iter().map(value).collect();
            let append = |column: &mut Column, indexes: &[u32], first: usize, errors: &mut Vec<usize>| {
                let append = Append {
                    tape,
                    values: indexes,
                    now_ns: 0,
                };
                column.append(&append, &mut |row, _| errors.push(first + row));
            };
            let mut together = Column::new(&spec(type_name), &limits());
            let mut one_by_one = Column::new(&spec(type_name), &limits());
            let (mut bad, mut bad_each) = (Vec::new(), Vec::new());
            append(&mut together, &indexes, 0, &mut bad);
            for (row, index) in indexes.iter().enumerate() {
                append(&mut one_by_one, &[*index], row, &mut bad_each);
            }
            assert_eq!(bad, bad_each, "{type_name}");
            assert!(bad.len() >= 5, "7 is no map");
            assert_eq!(bytes_of(&mut together), bytes_of(&mut one_by_one), "{type_name}");
        });
    }
}

#[test]
fn json_columns_carry_each_object_as_text() {
    check(
        "JSON",
        r#"[{"a": {"b": [1, 2.5, null, "q\\"]}}, {}, null]"#,
        &[r#"{"a":{"b":[1,2.5,null,"q\\"]}}"#, "{}", "{}"],
    );
    check(
        "Array(JSON(max_dynamic_paths=2))",
        r#"[[{"a": 1}], []]"#,
        &[r#"[{"a":1}]"#, "[]"],
    );
    check("Nullable(JSON)", r#"[{"a": 1}, null]"#, &[r#"{"a":1}"#, "\\N"]);
    check_refused(
        "JSON",
        &["1", "\"{}\"", "[]"],
        ValueError::WrongType {
            expected: "an object",
        },
    );
}

#[test]
fn an_error_within_a_nested_value_names_its_row() {
    let errors_of = |type_name: &str, json: &str| {
        let spec = spec(type_name);
        let mut column = Column::new(&spec, &limits());
        let errors = append(&mut column, json);
        let rows = shown(&mut column, &spec).len();
        (
            errors.iter().map(|(position, _)| *position).collect::<Vec<_>>(),
            rows,
        )
    };
    assert_eq!(
        errors_of("Array(UInt8)", "[[], [1, 2], [], [3, 300], [400], 5]"),
        (vec![5, 3, 4], 6)
    );
    assert_eq!(
        errors_of("Map(UInt8, UInt8)", r#"[{"1": 1}, {"1": 300}, {"x": 1}]"#),
        (vec![2, 1], 3)
    );
    assert_eq!(
        errors_of("Tuple(UInt8, Array(UInt8))", "[[1], [300, []], [1, [1, 300]]]"),
        (vec![0, 1, 2], 3)
    );
    assert_eq!(
        errors_of("Array(Array(UInt8))", "[[[1]], [[], [2, -1]]]"),
        (vec![1], 2)
    );
    assert_eq!(errors_of("Nullable(UInt8)", "[1, 300]"), (vec![1], 2));
    assert_eq!(errors_of("LowCardinality(UInt8)", "[1, 300]"), (vec![1], 2));
}

#[test]
fn dictionaries_widen_their_keys_as_they_grow() {
    for (distinct, key_bytes) in [(255, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)] {
        let spec = spec("LowCardinality(String)");
        let mut column = Column::new(&spec, &limits());
        let texts: Vec<String> = (0..distinct).map(|i| format!("v{i}")).collect();
        let json = format!(
            "[{}]",
            texts
                .iter()
                .map(|t| format!("\"{t}\""))
                .collect::<Vec<_>>()
                .join(",")
        );
        append(&mut column, &json);
        append(&mut column, &json);
        let expected = [texts.clone(), texts.clone()].concat();
        assert!(shown(&mut column, &spec) == expected, "{distinct}");
        let dictionary: usize = texts.iter().map(|text| text.len() + 1).sum();
        let header = 2 + 1 + spec.type_name.len() + 8;
        assert_eq!(
            column.wire_bytes(),
            header + 24 + dictionary + 2 * distinct * key_bytes
        );
    }
}

#[test]
fn the_bytes_are_those_clickhouse_26_reads() {
    let bytes = |type_name: &str, json: &str| {
        let mut column = Column::new(&spec(type_name), &limits());
        assert_eq!(append(&mut column, json), []);
        let header = 2 + 1 + type_name.len();
        bytes_of(&mut column)[header..].to_vec()
    };
    // Version 1; flags 0x600 with key type 0; NULL's entry, then "b"; two keys.
    assert_eq!(
        bytes("LowCardinality(Nullable(String))", r#"[null, "b"]"#),
        [
            &[1, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 6, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 1, b'b'],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 1],
        ]
        .concat()
    );
    // The version comes before the offsets; no entries, then nothing at all after them.
    assert_eq!(
        bytes("Map(LowCardinality(String), String)", "[{}]"),
        [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]].concat()
    );
    assert_eq!(
        bytes("UUID", r#"["00112233-4455-6677-8899-aabbccddeeff"]"#),
        [
            0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88
        ]
    );
    assert_eq!(bytes("IPv4", r#"["1.2.3.4"]"#), [4, 3, 2, 1]);
    assert_eq!(
        bytes("JSON", r#"[{"a": 1}]"#),
        [&[1, 0, 0, 0, 0, 0, 0, 0, 7][..], b"{\"a\":1}"].concat()
    );
    assert_eq!(
        bytes("Tuple(UInt8, Nullable(Int8))", "[[1, null], [2, 3]]"),
        [1, 2, 1, 0, 0, 3]
    );
}

#[test]
fn the_event_time_of_a_row_without_one_is_its_receive_time() {
    let mut spec = spec("DateTime64(3)");
    spec.role = Role::Time;
    let mut column = Column::new(&spec, &limits());
    append(&mut column, "[null, 1]");
    with_values("[5]", |tape, _| {
        let values = [0];
        let mut ticks = Vec::new();
        let append = Append {
            tape,
            values: &values,
            now_ns: NOW_NS,
        };
        Column::parse_ticks(&spec, &append, &mut ticks, &mut |_, error| panic!("{error}"));
        column.append_ticks(&ticks);
    });
    let now = (NOW_NS / 1_000_000).to_string();
    assert_eq!(shown(&mut column, &spec), [now.as_str(), "1000", now.as_str()]);
}

#[test]
fn levels_become_names_and_numbers() {
    let schema = TableSchema::default_table(TableName {
        database: "d".into(),
        table: "t".into(),
    });
    let of = |role: Role| schema.columns.iter().find(|column| column.role == role).unwrap();
    let json = r#"["Info", 30, "50", 3, 9, "odd", null, 0]"#;

    let spec = of(Role::SeverityText);
    let mut column = Column::new(spec, &limits());
    assert_eq!(append(&mut column, json), []);
    assert_eq!(
        shown(&mut column, spec),
        ["Info", "info", "error", "err", "9", "odd", "", "emerg"]
    );

    let spec = of(Role::SeverityNumber);
    let mut column = Column::new(spec, &limits());
    assert_eq!(append(&mut column, json), []);
    assert_eq!(
        shown(&mut column, spec),
        ["9", "9", "17", "3", "9", "0", "0", "0"]
    );
    column.clear();
    with_values(json, |tape, values| {
        let values: Vec<u32> = values.iter().map(|index| index | FOREIGN_LEVEL).collect();
        let append = Append {
            tape,
            values: &values,
            now_ns: NOW_NS,
        };
        column.append(&append, &mut |_, error| panic!("{error}"));
    });
    assert_eq!(
        shown(&mut column, spec),
        ["9", "9", "17", "17", "0", "0", "0", "21"]
    );
    assert_eq!(append(&mut column, "[true, 1.5]").len(), 2);
}

#[test]
fn every_default_column_starts_empty_and_takes_defaults() {
    let schema = TableSchema::default_table(TableName {
        database: "d".into(),
        table: "t".into(),
    });
    for spec in &schema.columns {
        let mut column = Column::new(spec, &limits());
        column.append_defaults(3);
        assert_eq!(column.rows(), 3);
        assert_eq!(shown(&mut column, spec).len(), 3, "{}", spec.name);
    }
}

/// Appends rows of (key, value) pairs; values come from a JSON array.
fn overflow_rows(overflow: &mut Overflow, keys: &mut KeyTable, rows: &[Vec<(&str, &str)>]) {
    let json: Vec<&str> = rows.iter().flatten().map(|(_, value)| *value).collect();
    with_values(&format!("[{}]", json.join(",")), |tape, values| {
        let (mut entries, mut ranges) = (Vec::new(), Vec::new());
        for row in rows {
            let start = entries.len() as u32;
            for (key, _) in row {
                let key = keys.intern(key.as_bytes()).unwrap();
                entries.push(Entry {
                    key,
                    value: values[entries.len()],
                });
            }
            ranges.push(EntryRange {
                start,
                end: entries.len() as u32,
            });
        }
        overflow.append(tape, keys, &entries, &ranges);
    });
}

fn shown_overflow(overflow: &mut Overflow, spec: &ColumnSpec) -> Vec<Shown> {
    let mut bytes = Vec::new();
    overflow.for_each_piece(&mut |piece| bytes.extend_from_slice(piece));
    assert_eq!(bytes.len(), overflow.wire_bytes());
    decode(&bytes, spec, overflow.rows())
}

#[test]
fn the_overflow_column_takes_the_rest_of_a_row() {
    let rows = [
        vec![("a", "1"), ("b.c", "\"x\"")],
        vec![],
        vec![("b.c", "[1, {\"d\": null}]"), ("e", "null")],
    ];
    let map = ["{a:1,b.c:x}", "{}", r#"{b.c:[1,{"d":null}],e:}"#];
    for type_name in [
        "Map(LowCardinality(String), String)",
        "Map(String, String)",
        "Map(String, LowCardinality(String))",
        "Map(LowCardinality(String), LowCardinality(String))",
        "JSON",
    ] {
        let spec = spec(type_name);
        let expected = match type_name {
            "JSON" => [r#"{"a":1,"b.c":"x"}"#, "{}", r#"{"b.c":[1,{"d":null}],"e":null}"#],
            _ => map,
        };
        let mut keys = KeyTable::new(100);
        let mut overflow = Overflow::new(&spec, &limits());
        overflow_rows(&mut overflow, &mut keys, &rows);
        assert_eq!(shown_overflow(&mut overflow, &spec), expected, "{type_name}");
        overflow.mark();
        overflow_rows(&mut overflow, &mut keys, &[vec![("new", "5")]]);
        overflow.append_defaults(2);
        assert_eq!(overflow.rows(), 6);
        overflow.rollback();
        overflow_rows(&mut overflow, &mut keys, &rows);
        overflow.append_defaults(1);
        let all = [&expected[..], &expected, &["{}"]].concat();
        assert_eq!(shown_overflow(&mut overflow, &spec), all, "{type_name}");
        // Other names under old ids.
        keys.clear();
        overflow_rows(&mut overflow, &mut keys, &[vec![("z", "1"), ("a", "2")]]);
        let last = shown_overflow(&mut overflow, &spec).pop().unwrap();
        assert_eq!(
            last,
            if type_name == "JSON" {
                r#"{"z":1,"a":2}"#
            } else {
                "{z:1,a:2}"
            }
        );
        overflow.clear();
        assert_eq!(shown_overflow(&mut overflow, &spec), [""; 0]);
        overflow_rows(&mut overflow, &mut keys, &[vec![("a", "2")]]);
        assert_eq!(overflow.rows(), 1);
        shown_overflow(&mut overflow, &spec);
    }
}

#[test]
fn partitions_are_counted_in_calendar_units() {
    let day = |text: &str| {
        with_values(&format!("[\"{text}\"]"), |tape, values| {
            let mut ticks = Vec::new();
            let append = Append {
                tape,
                values,
                now_ns: 0,
            };
            Column::parse_ticks(&spec("DateTime"), &append, &mut ticks, &mut |_, error| {
                panic!("{error}")
            });
            ticks[0]
        })
    };
    use PartitionUnit::*;
    let of = |unit, text| partition_of(unit, &spec("DateTime"), day(text));
    assert_eq!(of(Hour, "1970-01-02 01:59:59"), 25);
    assert_eq!(of(Day, "1970-01-02 23:59:59"), 1);
    assert_eq!(of(Week, "2023-11-19 23:59:59") + 1, of(Week, "2023-11-20"));
    assert_eq!(of(Week, "2023-11-20"), of(Week, "2023-11-26"));
    assert_eq!(of(Month, "1971-03-31"), 14);
    assert_eq!(of(Year, "2023-12-31"), 53);
    assert_eq!(partition_of(Month, &spec("Date32"), -1), -1);
    assert_eq!(partition_of(Year, &spec("DateTime64(9)"), -1), -1);
    assert_eq!(partition_of(Hour, &spec("DateTime64(9)"), -1), -1);
}

proptest! {
    #[test]
    fn any_texts_come_back_from_every_text_column(
        chunks in prop::collection::vec(prop::collection::vec("\\PC{0,40}|[ab]{0,2}", 0..20), 1..5),
    ) {
        for type_name in ["String", "LowCardinality(String)", "Nullable(String)", "LowCardinality(Nullable(String))"] {
            let spec = spec(type_name);
            let mut column = Column::new(&spec, &limits());
            let mut expected: Vec<String> = Vec::new();
            for (number, chunk) in chunks.iter().enumerate() {
                // Every other chunk is appended, taken back and appended again.
                if number % 2 == 1 {
                    column.mark();
                    append(&mut column, &serde_json::to_string(chunk).unwrap());
                    column.rollback();
                }
                append(&mut column, &serde_json::to_string(chunk).unwrap());
                expected.extend(chunk.iter().cloned());
            }
            prop_assert_eq!(shown(&mut column, &spec), expected);
        }
    }

    #[test]
    fn any_integers_come_back_or_are_out_of_range(values in prop::collection::vec(any::<i64>(), 0..20), shift in 0u32..64) {
        let values: Vec<i64> = values.iter().map(|value| value >> shift).collect();
        let json = serde_json::to_string(&values).unwrap();
        macro_rules! check {
            ($($integer:ty => $name:literal),*) => { $( {
                let spec = spec($name);
                let mut column = Column::new(&spec, &limits());
                let errors: Vec<usize> = append(&mut column, &json).iter().map(|(position, _)| *position).collect();
                let fits = |value: &i64| <$integer>::try_from(*value);
                let bad: Vec<usize> = (0..values.len()).filter(|&i| fits(&values[i]).is_err()).collect();
                prop_assert_eq!(errors, bad);
                let expected: Vec<String> =
                    values.iter().map(|value| fits(value).unwrap_or(0).to_string()).collect();
                prop_assert_eq!(shown(&mut column, &spec), expected);
            } )* };
        }
        check!(i8 => "Int8", i16 => "Int16", i32 => "Int32", i64 => "Int64", i128 => "Int128",
               u8 => "UInt8", u16 => "UInt16", u32 => "UInt32", u64 => "UInt64", u128 => "UInt128");
    }

    #[test]
    fn any_json_value_is_answered_by_every_type(json in json_value(), also in json_value()) {
        let json = serde_json::to_string(&[&json, &also]).unwrap();
        for type_name in [
            "String", "FixedString(4)", "Bool", "Int8", "UInt64", "Int128", "Float32", "Float64", "Date", "Date32",
            "DateTime", "DateTime64(9)", "Enum8('a' = 1)", "UUID", "IPv4", "IPv6", "Decimal(9, 3)", "Decimal(38, 20)",
            "LowCardinality(String)", "LowCardinality(Nullable(Int8))", "Nullable(Float64)", "Array(String)",
            "Array(Nullable(UInt8))", "Map(String, Array(Int8))", "Map(LowCardinality(String), String)",
            "Tuple(a Int8, b Map(String, String))", "Array(Tuple(String, LowCardinality(String)))", "JSON",
        ] {
            let spec = spec(type_name);
            let mut column = Column::new(&spec, &limits());
            let errors = append(&mut column, &json);
            prop_assert!(errors.iter().all(|(position, _)| *position < 2));
            prop_assert_eq!(shown(&mut column, &spec).len(), 2);
        }
    }
}

/// Any JSON up to four levels deep.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        (-300i64..300).prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        "\\PC{0,10}|a|-?[0-9]{1,20}|[0-9a-f:.]{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("a|b|[0-9]|\\PC{0,4}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}
