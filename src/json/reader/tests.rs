//! The reader against simd-json: what it takes, simd-json takes for the same values.

use proptest::prelude::*;

use super::*;
use crate::json::{Parser, RowsText};
use crate::limits::Limits;

/// Every row's nodes, in a form that tells -0.0 from 0.0.
type Rows = Vec<Vec<String>>;

fn limits() -> Limits {
    Limits {
        depth_max: 6,
        ..Limits::default()
    }
}

fn nodes(tape: &[Node<'_>]) -> Vec<String> {
    tape.iter().map(|node| format!("{node:?}")).collect()
}

/// The rows before the first that the reader does not take, and whether there was none.
fn read(bytes: &[u8], form: RowForm) -> (Rows, bool) {
    let mut parser = Parser::new(&limits());
    let read = parser.read(RowsText { bytes, form }, |mut reader, tape| {
        let mut rows = Rows::new();
        let mut read = || -> Result<(), Irregular> {
            while reader.row()? {
                tape.clear();
                reader.object(tape, 0)?;
                let more = reader.row_end()?;
                rows.push(nodes(tape));
                if !more {
                    break;
                }
            }
            Ok(())
        };
        let whole = read().is_ok();
        (rows, whole)
    });
    read.unwrap_or_default()
}

/// The same of simd-json, `None` for a row that is none.
fn parse(bytes: &[u8], form: RowForm) -> Vec<Option<Vec<String>>> {
    let mut parser = Parser::new(&limits());
    parser.parse(RowsText { bytes, form }, |parsed| {
        let mut rows = vec![None; parsed.count as usize];
        for (number, &object) in parsed.rows.iter().enumerate() {
            let object = object as usize;
            let Node::Object { count, .. } = parsed.tape[object] else {
                panic!("a row is an object");
            };
            rows[parsed.ordinal(number) as usize] = Some(nodes(&parsed.tape[object..=object + count]));
        }
        rows
    })
}

fn compare(bytes: &[u8], form: RowForm) {
    let (read, whole) = read(bytes, form);
    let mut parsed = parse(bytes, form);
    if !whole {
        assert!(read.len() <= parsed.len());
        parsed.truncate(read.len());
    }
    let read: Vec<Option<Vec<String>>> = read.into_iter().map(Some).collect();
    assert_eq!(read, parsed, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn takes_what_producers_write() {
    for row in [
        r#"{}"#,
        r#"{ }"#,
        r#"{"a":1}"#,
        r#"{"a": 1, "b": "two"}"#,
        "{\"a\":\t1 ,\r\"b\" : null }\r",
        r#"{"a":[],"b":{},"c":[1,"x",[true,false]],"d":{"e":{"f":[{}]}}}"#,
        r#"{"quote":"\"","escapes":"\\\/\b\f\n\r\t","unicode":"\u00e9\u20AC\ud83d\ude00\u0000"}"#,
        r#"{"key \"with\" escapes":1,"":2,"ключ":"значение"}"#,
        r#"{"zero":0,"minus":-0,"most":18446744073709551615,"least":-9223372036854775808}"#,
        r#"{"ns":1700000000000000000,"f":1.5,"e":1e3,"E":-2.25E-7,"small":0.000001,"zero":-0.0,"none":1e-999}"#,
        &format!(r#"{{"long":"{}"}}"#, "x".repeat(1000)),
    ] {
        // 20 digits are the parser's.
        let is_regular = !row.contains("18446744073709551615");
        for (form, separators) in [
            (RowForm::Lines, ["\n", "\r\n", "\n\n \n"]),
            (RowForm::Elements, [",", " , ", ",\n"]),
            (RowForm::Objects, ["", " ", "\n"]),
        ] {
            for separator in separators {
                let text = [row, row, row].join(separator);
                compare(text.as_bytes(), form);
                let (rows, whole) = read(text.as_bytes(), form);
                assert_eq!(
                    (rows.len(), whole),
                    if is_regular { (3, true) } else { (0, false) },
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn leaves_to_the_parser_what_is_wrong_or_rare() {
    let deep = format!("{}1{}", "[".repeat(6), "]".repeat(6));
    for row in [
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}x",
        "{\"a\":1}{\"b\":2}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":1e999}",
        "{\"a\":+1}",
        "{\"a\":0x10}",
        "{\"a\":tru}",
        "{\"a\":trues}",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"x}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{'a':1}",
        "{a:1}",
        "[]",
        "1",
        "{\"a\":\n1}",
        "{\"a\":123456789012345678901}",
        &format!("{{\"a\":{deep}}}"),
    ] {
        let text = ["{\"good\":1}", row, "{\"good\":2}"].join("\n");
        let (rows, whole) = read(text.as_bytes(), RowForm::Lines);
        assert_eq!((rows.len(), whole), (1, false), "{row}");
        compare(text.as_bytes(), RowForm::Lines);
    }
    assert_eq!(read(b"{\"a\":\"\xff\"}", RowForm::Lines), (Vec::new(), false));
}

#[test]
fn a_text_may_end_anywhere() {
    let text =
        "{\"a\":\"b\\n\\ud83d\\ude00é\",\"n\":-12.5e3,\"o\":{\"t\":[true,null]}}\n{\"b\": 1}\n".as_bytes();
    for end in 0..=text.len() {
        compare(&text[..end], RowForm::Lines);
    }
}

/// A value as JSON text, with blanks and escapes where they may be.
fn value_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?",
        string_text(),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let member = (string_text(), blank(), inner.clone())
            .prop_map(|(key, blank, value)| format!("{key}{blank}:{blank}{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..4), blank())
                .prop_map(|(values, blank)| format!("[{blank}{}]", values.join(&format!("{blank},")))),
            (prop::collection::vec(member, 0..4), blank())
                .prop_map(|(members, blank)| format!("{{{blank}{}}}", members.join(&format!(",{blank}")))),
        ]
    })
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\r]{0,2}"
}

fn string_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[ -!#-\\[\\]-~]{0,20}",
        1 => "\\PC{1,3}".prop_map(|text| text.replace(['"', '\\'], "?")),
        1 => "\\\\[\"\\\\/bfnrt]",
        1 => "\\\\u[0-9a-fA-F]{4}",
        1 => Just("\\ud83d\\ude00".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn row_text() -> impl Strategy<Value = String> {
    let member = (string_text(), blank(), value_text())
        .prop_map(|(key, blank, value)| format!("{key}{blank}:{value}{blank}"));
    prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn what_the_reader_takes_simd_json_takes_for_the_same(rows in prop::collection::vec(row_text(), 1..6)) {
        compare(rows.join("\n").as_bytes(), RowForm::Lines);
        compare(rows.join(",\n").as_bytes(), RowForm::Elements);
        compare(rows.join("\n ").as_bytes(), RowForm::Objects);
    }

    #[test]
    fn a_damaged_row_is_never_taken_for_another(
        row in row_text(),
        at in any::<prop::sample::Index>(),
        damage in prop_oneof![
            prop::sample::select(b"{}[]:,\"\\ \n0-.eu\x00\x1f".to_vec()),
            any::<u8>(),
        ],
        insert in any::<bool>(),
    ) {
        let mut bytes = row.into_bytes();
        let at = at.index(bytes.len());
        if insert {
            bytes.insert(at, damage);
        } else {
            bytes[at] = damage;
        }
        compare(&bytes, RowForm::Lines);
        compare(&bytes, RowForm::Elements);
    }

    #[test]
    fn specials_are_found_wherever_they_are(bytes in prop::collection::vec(any::<u8>(), 0..100), from in 0usize..110) {
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let naive = bytes.iter().skip(from).position(is_special).map(|at| from + at);
        prop_assert_eq!(find_special(&bytes, from), naive);
    }
}

#[test]
fn real_lines_are_regular() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus");
    let mut lines = 0;
    let Ok(files) = std::fs::read_dir(folder) else {
        println!("no corpus at {folder}");
        return;
    };
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "ndjson") {
            continue;
        }
        for line in std::fs::read(&path).unwrap().split(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                let (rows, whole) = read(line, RowForm::Lines);
                assert!(whole && rows.len() == 1, "{}", String::from_utf8_lossy(line));
                compare(line, RowForm::Lines);
                lines += 1;
            }
        }
    }
    assert!(lines > 1_000, "{lines} lines in {folder}");
}
