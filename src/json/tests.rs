//! The splitter and the parser against serde_json, and against themselves piece by piece.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::limits::Limits;

fn limits() -> Limits {
    Limits {
        chunk_bytes: 64,
        line_bytes_max: 200,
        depth_max: 6,
        ..Limits::default()
    }
}

/// What a client sees of a body: good rows as JSON text with their number, bad ones without text, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    rows: Vec<Option<Value>>,
    fault: Option<BodyFault>,
}

impl Seen {
    fn good(&self) -> Vec<&Value> {
        self.rows.iter().flatten().collect()
    }
}

/// Takes `body` in pieces that end at `cuts`, dropping what is consumed as a receive buffer does.
fn take(body: &[u8], cuts: &[usize], limits: &Limits) -> Seen {
    take_as(Shape::Unknown, body, cuts, limits)
}

fn take_as(shape: Shape, body: &[u8], cuts: &[usize], limits: &Limits) -> Seen {
    let mut seen = Seen::default();
    let mut parser = Parser::new(limits);
    let mut splitter = Splitter::of(shape, limits);
    let mut buffer = Vec::new();
    let mut cuts = cuts.iter().copied().chain([body.len()]);
    let mut received = 0;
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 100 * (body.len() + 100), "no end in sight");
        let consumed = match splitter.next(&buffer, received == body.len()) {
            Split::Rows(rows) => {
                assert!(rows.start <= rows.end && rows.end <= rows.consumed && rows.consumed > 0);
                let text = rows.text(&buffer);
                assert!(
                    text.bytes.len() <= limits.chunk_bytes + limits.line_bytes_max + 2,
                    "a chunk is bounded"
                );
                seen.rows.extend(parse(&mut parser, text));
                rows.consumed
            }
            Split::NeedMore { consumed } => {
                assert!(received < body.len(), "asked for more after the end");
                let next = cuts.next().unwrap();
                buffer.extend_from_slice(&body[received..next]);
                received = next;
                consumed
            }
            Split::TooLong { consumed } => {
                assert!(consumed > 0);
                seen.rows.push(None);
                consumed
            }
            Split::BodyError(fault) => {
                seen.fault = Some(fault);
                assert_eq!(splitter.next(&buffer, true), Split::Done);
                return seen;
            }
            Split::Done => return seen,
        };
        buffer.drain(..consumed);
    }
}

fn whole(body: &[u8]) -> Seen {
    take(body, &[], &limits())
}

fn parse(parser: &mut Parser, text: RowsText<'_>) -> Vec<Option<Value>> {
    parser.parse(text, |parsed| {
        let mut rows = vec![None; parsed.count as usize];
        for (row, at) in parsed.rows.iter().enumerate() {
            let cell = &mut rows[parsed.ordinal(row) as usize];
            assert_eq!(
                cell.replace(value_at(parsed.tape, &mut (*at as usize))),
                None,
                "a row comes once"
            );
        }
        for (ordinal, _) in parsed.faults {
            assert_eq!(rows[*ordinal as usize], None, "a row is good or bad");
        }
        assert_eq!(
            rows.iter().filter(|row| row.is_none()).count(),
            parsed.faults.len()
        );
        rows
    })
}

fn value_at(tape: &[simd_json::Node<'_>], at: &mut usize) -> Value {
    use simd_json::{Node, StaticNode};
    let node = tape[*at];
    *at += 1;
    match node {
        Node::String(text) => Value::from(text),
        Node::Static(StaticNode::Null) => Value::Null,
        Node::Static(StaticNode::Bool(value)) => Value::from(value),
        Node::Static(StaticNode::I64(value)) => Value::from(value),
        Node::Static(StaticNode::U64(value)) => Value::from(value),
        Node::Static(StaticNode::F64(value)) => Value::from(value),
        Node::Array { len, .. } => (0..len).map(|_| value_at(tape, at)).collect(),
        Node::Object { len, .. } => {
            let mut object = serde_json::Map::new();
            for _ in 0..len {
                let Value::String(key) = value_at(tape, at) else {
                    unreachable!()
                };
                object.insert(key, value_at(tape, at));
            }
            Value::Object(object)
        }
    }
}

/// What serde_json reads from a row: an object or nothing.
fn naive(row: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(row).ok().filter(Value::is_object)
}

/// Integers beyond 64 bits are text here and floats there: as floats of low precision they are equal.
fn inexact(value: &Value) -> Value {
    match value {
        Value::String(text)
            if text.len() >= 19 && text.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) =>
        {
            text.parse::<f32>().map_or(Value::Null, Value::from)
        }
        Value::Array(values) => values.iter().map(inexact).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), inexact(value)))
            .collect(),
        // serde_json is off by one unit in the last place now and then, unless built to be exact.
        Value::Number(number) if number.is_f64() => Value::from(number.as_f64().map(|number| number as f32)),
        other => other.clone(),
    }
}

#[test]
fn integers_beyond_64_bits_keep_their_digits() {
    let seen = whole(
        b"{\"a\":[18446744073709551615,18446744073709551616,-9223372036854775809,\"\\\"99999999999999999999\",\
          1e3,12345678901234567890123.5]}\n{\"b\":1}\n{\"c\":018446744073709551616}",
    );
    let big = serde_json::json!({"a": [18446744073709551615_u64, "18446744073709551616", "-9223372036854775809",
        "\"99999999999999999999", 1000.0, 12345678901234567890123.5]});
    assert_eq!(seen.rows, [Some(big), naive(b"{\"b\":1}"), None]);
}

const BODIES: &[&[u8]] = &[
    b"",
    b" \r\n\n ",
    b"\xEF\xBB\xBF{\"a\":1}\n{\"b\":2}\n",
    b"{\"a\":1}\n{\"b\":2}",
    b"{\"a\":1}\r\n\r\n\n{ \"b\" : 2 }\r\n  {}\n",
    b"{\"a\":1}\n{\"b\":\n{\"c\":3}\n[1]\n\"x\"\n{\"d\":\"}\\\"\\\\\"}\n",
    b"{\"a\":\"x\n{\"b\":\"y\"}\n",
    b"{\"a\":1\n{\"b\":2}\n{\"c\":3}\n",
    b"{\"a\":{\"x\":[1,2,{\"y\":\"]}\"}]}}",
    b"{\n  \"a\": 1,\n  \"b\": [\n    {\"c\": 2},\n    {\n\"d\": 3}\n  ]\n}\n",
    b"{\n\"a\":1\n}\n{\n\"b\":2\n}{\"c\":3}\n  {\"d\":4}",
    b"{\"a\":1}{\"b\":2} {\"c\":\"}{\"}\n{\"d\":4}",
    b"{\"a\":1}{\"b\":2\n{\"c\":3}\n\n{\"d\":\"\n{\"e\":5}",
    b"{\n\"a\":1",
    b"[]",
    b" [ ] ",
    b"[{\"a\":1}]",
    b"[{\"a\":1},\n {\"b\":[1,{\"c\":\",]\"}]} , {\"d\":\"\\\"\\\\\"},3,\"x\",{\"e\":1 2},{\"f\":1}]\n",
    b"[{\"a\":1},{\"b\":2},]",
    b"[,{\"a\":1}]",
    b"[{\"a\":1},,{\"b\":1}]",
    b"[{\"a\":1}] {\"b\":2}",
    b"[{\"a\":1},{\"b\":",
    b"nonsense\n{\"a\":1}\n",
];

#[test]
fn splitting_anywhere_gives_the_same_rows() {
    let mut long = format!("{{\"a\":\"{}\"}}", "x".repeat(300));
    long = format!("{{\"s\":1}}\n{long}\n{{\"b\":2}}\n");
    let mut long_element = format!("[{{\"s\":1}},{{\"a\":\"{}\"}},{{\"b\":2}}]", "x".repeat(300));
    long_element.push('\n');
    let mut many = String::new();
    for i in 0..40 {
        many.push_str(&format!("{{\"row\":{i},\"text\":\"{}\"}}\n", "y".repeat(i)));
    }
    let many_elements = format!("[{}]", many.trim_end().replace('\n', ","));
    let bodies = BODIES.iter().map(|body| body.to_vec());
    for body in bodies.chain([long, long_element, many, many_elements].map(String::into_bytes)) {
        for shape in [Shape::Unknown, Shape::Objects] {
            let expected = take_as(shape, &body, &[], &limits());
            for cut in 0..body.len() {
                let text = String::from_utf8_lossy(&body);
                let seen = take_as(shape, &body, &[cut], &limits());
                assert_eq!(seen, expected, "{shape:?} cut at {cut}: {text}");
            }
            let every: Vec<usize> = (1..body.len()).collect();
            let seen = take_as(shape, &body, &every, &limits());
            assert_eq!(seen, expected, "{shape:?} byte by byte");
        }
    }
}

#[test]
fn objects_that_are_expected_may_share_lines_anywhere() {
    let body = b"{\"a\":1}\n{\"a\":2}{\"a\":3}\n\n{\"a\":4} {\n\"a\":5}";
    let seen = take_as(Shape::Objects, body, &[], &limits());
    let expected: Vec<Value> = (1..6).map(|a| serde_json::json!({"a": a})).collect();
    assert_eq!(seen.good(), expected.iter().collect::<Vec<_>>());
    let array = take_as(Shape::Objects, b" [{\"a\":1}, {\"a\":2}]", &[], &limits());
    assert_eq!(array.good().len(), 2);
    // A bad one costs itself.
    let seen = take_as(Shape::Objects, b"{\"a\":1}{\"a\":}{\"a\":3}", &[], &limits());
    assert_eq!((seen.rows.len(), seen.good().len()), (3, 2));
}

#[test]
fn lines_are_what_serde_json_reads_from_each_line() {
    for body in BODIES
        .iter()
        .filter(|body| !body.starts_with(b"[") && !body.starts_with(b" ["))
    {
        let seen = whole(body);
        assert_eq!(seen.fault, None);
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let stream: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body).into_iter().collect();
        // A body that is a stream of values from end to end is taken so, however its lines lie.
        let expected: Vec<Value> = match stream {
            Ok(values) => values,
            Err(_) => body.split(|byte| *byte == b'\n').filter_map(naive).collect(),
        };
        let expected: Vec<&Value> = expected.iter().filter(|value| value.is_object()).collect();
        if !body.windows(2).any(|pair| pair == b"}{") {
            assert_eq!(seen.good(), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}

#[test]
fn a_bad_line_costs_no_other_line() {
    let bad: &[&[u8]] = &[
        b"{\"a\":1",
        b"{\"a\":1}}",
        b"{\"a\":[1}",
        b"{\"a\":\"",
        b"}",
        b"]",
        b"[",
        b"{",
        b"{\"a\":1},{\"b\":2}",
        b"{\"a\":1} {\"b\":2}",
        b"{\"a\":tru}",
        b"{\"a\":01}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\udc00\"}",
        b"{\"a\":\"\\ud800x\"}",
        b"{\"a\":\"\\ud800\\u0041\"}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\t\"}",
        b"[{\"a\":1}]",
        b"12",
        b"null",
        b"\"{}\"",
        b"{\"a\":1}\x00",
        b"{a:1}",
        b"{\"a\":[[[[[[1]]]]]]}",
    ];
    for line in bad {
        for at in 0..3 {
            let mut lines: Vec<&[u8]> = vec![b"{\"k\":1}", b"{\"k\":2}"];
            lines.insert(at, line);
            let seen = whole(&lines.join(&b"\n"[..]));
            let shown = String::from_utf8_lossy(line);
            if at > 0 {
                assert_eq!(seen.rows.len(), 3, "{shown} as line {at}");
                assert_eq!(seen.rows[at], None, "{shown} as line {at}");
            }
            assert_eq!(
                seen.fault.is_some(),
                at == 0 && line.starts_with(b"["),
                "{shown} as line {at}"
            );
            if seen.fault.is_none() {
                let good = seen.good().iter().filter(|row| row.get("k").is_some()).count();
                assert_eq!(good, 2, "{shown} as line {at}: {seen:?}");
            }
        }
    }
}

#[test]
fn two_bad_lines_do_not_make_a_good_one() {
    let pairs: &[&[&str]] = &[
        &["{\"p\":1},{\"q\":2}", "{\"c\":\"}", "{\",\"d\":1}"],
        &["{\"p\":1},{\"q\":2}", "{\"a\":[{\"x\":1}", "{\"y\":2}]}"],
        &["{\"a\":[{\"x\":1}", "{\"y\":2}]},{\"z\":1}"],
        &["{\"a\":[{\"x\":1}", "{}", "{\"y\":2}]},{}", "{}"],
        &["{\"a\":[{\"x\":1}", "{\"y\":2}]},{}"],
    ];
    for lines in pairs {
        let mut body = vec!["{\"first\":1}"];
        body.extend_from_slice(lines);
        let expected: Vec<Option<Value>> = body.iter().map(|line| naive(line.as_bytes())).collect();
        assert_eq!(whole(body.join("\n").as_bytes()).rows, expected, "{lines:?}");
    }
}

#[test]
fn depth_is_limited_alike_in_every_form() {
    for depth in 1..=8 {
        let row = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let good = depth <= limits().depth_max;
        for body in [
            row.clone(),
            format!("{row}\n{row}\n"),
            format!("[{row},{row}]"),
            format!("{row}{row}"),
        ] {
            let seen = whole(body.as_bytes());
            assert!(!seen.rows.is_empty());
            assert!(
                seen.rows.iter().all(|row| row.is_some() == good),
                "depth {depth}: {seen:?}"
            );
        }
    }
}

#[test]
fn the_last_of_repeated_keys_is_last_on_the_tape() {
    let seen = whole(b"{\"a\":1,\"a\":2}\n{\"a\":{\"b\":1},\"a\":3}");
    assert_eq!(
        seen.good(),
        [&serde_json::json!({"a": 2}), &serde_json::json!({"a": 3})]
    );
}

#[test]
fn a_row_too_long_is_dropped_alone() {
    let row = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    for body in [
        format!("{{\"k\":1}}\n{row}\n{{\"k\":2}}"),
        format!("[{{\"k\":1}},{row},{{\"k\":2}}]"),
        format!("{{\n\"k\":1}}{row}{{\"k\":2}}"),
    ] {
        let seen = whole(body.as_bytes());
        assert_eq!(seen.rows.len(), 3, "{body}");
        assert_eq!(seen.rows[1], None);
        assert_eq!((seen.fault, seen.good().len()), (None, 2));
    }
}

#[test]
fn a_body_is_told_what_is_wrong_with_its_array() {
    for (body, fault, rows) in [
        ("[{\"a\":1},]", BodyFault::TrailingComma, 1),
        ("[,{\"a\":1}]", BodyFault::MissingElement, 0),
        ("[{\"a\":1},,{\"a\":1}]", BodyFault::MissingElement, 1),
        ("[{\"a\":1}] x", BodyFault::AfterArray, 1),
        ("[{\"a\":1},{\"a\"", BodyFault::UnfinishedArray, 1),
        ("[", BodyFault::UnfinishedArray, 0),
    ] {
        let seen = whole(body.as_bytes());
        assert_eq!((seen.fault, seen.rows.len()), (Some(fault), rows), "{body}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[{}\\[\\],\"\\\\\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d\"\\\\{]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn json_row() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-f\"{,]{0,4}", json_value(), 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn rows_are_what_serde_json_reads_in_every_form(
        rows in prop::collection::vec(json_row(), 1..12),
        cuts in prop::collection::vec(0usize..4000, 0..5),
    ) {
        let limits = Limits { chunk_bytes: 128, ..Limits::default() };
        let texts: Vec<String> = rows.iter().map(Value::to_string).collect();
        // A first object on one line is the sign of one object a line: start with one that is not.
        let pretty: Vec<String> =
            rows.iter().filter(|row| **row != serde_json::json!({})).map(|row| serde_json::to_string_pretty(row).unwrap()).collect();
        for body in [
            texts.join("\n"),
            texts.join("\r\n\n") + "\n",
            format!("[{}]", texts.join(" ,\n ")),
            texts.concat(),
        ] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.sort_unstable();
            let seen = take(body.as_bytes(), &cuts, &limits);
            prop_assert_eq!(seen.fault, None);
            prop_assert_eq!(seen.good(), rows.iter().collect::<Vec<_>>(), "{}", body);
        }
        let body = pretty.join("\n");
        let expected: Vec<Value> = pretty.iter().filter_map(|row| naive(row.as_bytes())).collect();
        let seen = take(body.as_bytes(), &[], &limits);
        prop_assert_eq!(seen.good(), expected.iter().collect::<Vec<_>>(), "{}", body);
    }

    #[test]
    fn damaged_lines_are_judged_one_by_one(
        rows in prop::collection::vec((json_row(), any::<bool>(), 0usize..200, any::<u8>()), 1..12),
    ) {
        let limits = Limits::default();
        let mut lines = vec![b"{\"first\":true}".to_vec()];
        for (row, damage, at, byte) in rows {
            let mut line = row.to_string().into_bytes();
            if damage {
                let at = at % line.len();
                line[at] = if byte == b'\n' { b' ' } else { byte };
            }
            lines.push(line);
        }
        let seen = take(&lines.join(&b"\n"[..]), &[], &limits);
        let blank = |line: &&Vec<u8>| !line.iter().all(|byte| b" \t\r\n".contains(byte));
        let expected: Vec<Option<Value>> = lines.iter().filter(blank).map(|line| naive(line)).collect();
        let inexact = |rows: Vec<Option<Value>>| -> Vec<Option<Value>> {
            rows.iter().map(|row| row.as_ref().map(inexact)).collect()
        };
        prop_assert_eq!(inexact(seen.rows), inexact(expected));
    }

    #[test]
    fn any_bytes_come_to_an_end(body in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let cut = cut.min(body.len());
        prop_assert_eq!(take(&body, &[cut], &limits()), whole(&body));
    }

    #[test]
    fn any_brackets_come_to_an_end(body in "[\\[\\]{},:\"\\\\a \n]{0,200}", cut in 0usize..200) {
        let cut = cut.min(body.len());
        prop_assert_eq!(take(body.as_bytes(), &[cut], &limits()), whole(body.as_bytes()));
    }
}
