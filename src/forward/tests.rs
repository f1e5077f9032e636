//! Messages as Fluentd's and Fluent Bit's senders encode them, pushed into a table and read back from its blocks.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::handshake::{Handshake, Secrets, Verdict};
use super::msgpack::{Extent, Malformed, Reader, Value};
use super::*;
use crate::batch::Span;
use crate::batch::taken::{Taken, take_all};
use crate::json::{RejectReason, RowForm, RowsText};
use crate::limits::Limits;
use crate::schema::{Schema, TableName, TableSchema};

const NOW_NS: i64 = 1_700_000_000_123_456_789;

fn default_table() -> Schema {
    Arc::new(TableSchema::default_table(TableName {
        database: "d".into(),
        table: "t".into(),
    }))
}

/// MessagePack of a JSON value; `wide` has every length and number in its longest form.
fn pack(value: &Json, wide: bool, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.push(0xc0),
        Json::Bool(truth) => out.push(0xc2 + u8::from(*truth)),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number @ 0..128), _) if !wide => out.push(number as u8),
            (Some(number), _) => {
                out.push(0xcf);
                out.extend(number.to_be_bytes());
            }
            (None, Some(number @ -32..)) if !wide => out.push(number as u8),
            (None, Some(number)) => {
                out.push(0xd3);
                out.extend(number.to_be_bytes());
            }
            (None, None) => {
                out.push(0xcb);
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        },
        Json::String(text) => {
            head(text.len(), [0xa0, 31, 0xdb], wide, out);
            out.extend(text.as_bytes());
        }
        Json::Array(values) => {
            head(values.len(), [0x90, 15, 0xdd], wide, out);
            values.iter().for_each(|value| pack(value, wide, out));
        }
        Json::Object(members) => {
            head(members.len(), [0x80, 15, 0xdf], wide, out);
            for (key, value) in members {
                pack(&json!(key), wide, out);
                pack(value, wide, out);
            }
        }
    }
}

fn head(len: usize, [short, max, long]: [u8; 3], wide: bool, out: &mut Vec<u8>) {
    if !wide && len <= usize::from(max) {
        out.push(short | len as u8);
    } else {
        out.push(long);
        out.extend((len as u32).to_be_bytes());
    }
}

fn packed(value: &Json) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(value, false, &mut bytes);
    bytes
}

/// `[time, record]`, the time as an EventTime.
fn entry(seconds: u32, nanos: u32, record: &Json) -> Vec<u8> {
    let mut bytes = vec![0x92, 0xd7, 0x00];
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(nanos.to_be_bytes());
    pack(record, false, &mut bytes);
    bytes
}

/// Takes the entries of a message that is not compressed.
fn take_with(limits: &Limits, message: &[u8]) -> Taken {
    let mut extent = Extent::new();
    assert_eq!(
        extent.find(message, Rows::depth_max(limits)),
        Ok(Some(message.len()))
    );
    let event = parse(message).unwrap().unwrap();
    let (whole, shape) = match event.entries {
        Entries::One(span) => (span, Shape::Bare),
        Entries::Listed(span) | Entries::Packed(span, Compression::None) => (span, Shape::Entry),
        Entries::Packed(..) => panic!("compressed"),
    };
    let bytes = whole.of(message);
    let mut spans = Vec::new();
    match shape {
        Shape::Bare => spans.push(Span::new(0, bytes.len())),
        Shape::Entry => assert_eq!(
            Rows::list(bytes, limits, &mut Extent::new(), &mut spans, usize::MAX),
            Ok(bytes.len())
        ),
    }
    let rows = Rows {
        bytes,
        spans: &spans,
        shape,
        tag: event.tag.of(message),
    };
    let taken = take_all(&default_table(), limits, &rows, NOW_NS);
    assert_eq!(taken.count, spans.len() as u64);
    taken
}

fn rows(message: &[u8]) -> Vec<Json> {
    let taken = take_with(&Limits::default(), message);
    assert_eq!(taken.errors.count, 0, "{:?}", taken.errors.first);
    taken.rows
}

fn message_of(elements: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x90 | elements.len() as u8];
    elements
        .iter()
        .for_each(|element| message.extend_from_slice(element));
    message
}

fn binary(bytes: &[u8]) -> Vec<u8> {
    [&[0xc6][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

#[test]
fn the_modes_carry_the_same_rows() {
    let record =
        json!({"log": "text", "level": "warn", "kubernetes": {"pod": "p", "labels": {"a": "b"}}, "n": -5});
    let tag = packed(&json!("app.web"));
    let one = message_of(&[&tag, &entry(1_700_000_001, 5, &record)[1..]]);
    let one = [&[0x93], &one[1..]].concat();
    let entries = [entry(1_700_000_001, 5, &record), entry(1_700_000_001, 5, &record)];
    let listed = message_of(&[
        &tag,
        &message_of(&[&entries[0], &entries[1]]),
        &packed(&json!({"chunk": "id"})),
    ]);
    let bytes = message_of(&[
        &tag,
        &binary(&entries.concat()),
        &packed(&json!({"size": 2, "compressed": "text"})),
    ]);
    let text = message_of(&[&tag, &packed(&json!("")), &packed(&Json::Null)]);
    let expected = json!({
        "Timestamp": "2023-11-14 22:13:21.000000005", "SeverityText": "warn", "SeverityNumber": 13, "Body": "text",
        "LogAttributes": {"kubernetes.pod": "p", "kubernetes.labels.a": "b", "n": "-5", "fluent.tag": "app.web"},
    });
    for (message, count) in [(&one, 1), (&listed, 2), (&bytes, 2), (&text, 0)] {
        let rows = rows(message);
        assert_eq!(rows.len(), count);
        for row in rows {
            for (column, value) in expected.as_object().unwrap() {
                assert_eq!(row[column], *value, "{row}");
            }
        }
    }
    let chunk = parse(&listed).unwrap().unwrap().chunk.unwrap();
    assert_eq!(chunk.of(&listed), b"id");
    let mut ack = Vec::new();
    put_ack(b"id", &mut ack);
    assert_eq!(ack, packed(&json!({"ack": "id"})));
}

#[test]
fn a_time_is_seconds_an_event_time_or_what_fluent_bit_wraps_it_in() {
    let record = packed(&json!({"message": "x"}));
    let time_of = |time: &[u8]| {
        let entry = message_of(&[time, &record]);
        let row = rows(&message_of(&[&packed(&json!("t")), &message_of(&[&entry])])).remove(0);
        (
            row["Timestamp"].as_str().unwrap().to_owned(),
            row["LogAttributes"].clone(),
        )
    };
    let tag = json!({"fluent.tag": "t"});
    for (time, expected) in [
        (packed(&json!(1_700_000_001)), "2023-11-14 22:13:21.000000000"),
        (packed(&json!(1_700_000_001.5)), "2023-11-14 22:13:21.500000000"),
        (packed(&Json::Null), "2023-11-14 22:13:20.123456789"),
        // As ext 8 of eight bytes, and before March 1973.
        (
            [&[0xc7, 8, 0][..], &[0, 0, 0, 1, 0, 0, 0, 2]].concat(),
            "1970-01-01 00:00:01.000000002",
        ),
        (
            [&[0xd7, 0][..], &[0x65, 0x53, 0xf1, 1, 0, 0, 0, 2]].concat(),
            "2023-11-14 22:13:21.000000002",
        ),
        (
            packed(&json!([1_700_000_001, {}])),
            "2023-11-14 22:13:21.000000000",
        ),
    ] {
        assert_eq!(time_of(&time), (expected.to_owned(), tag.clone()));
    }
    let (_, attributes) = time_of(&packed(&json!([1_700_000_001, {"a": 1}])));
    assert_eq!(
        attributes,
        json!({"fluent.tag": "t", "fluent.metadata": "{\"a\":1}"})
    );
}

#[test]
fn the_messages_own_time_and_tag_go_before_those_of_the_record() {
    let record = packed(&json!({"time": "2001-01-01T00:00:00Z", "fluent.tag": "own", "message": "x"}));
    let row = rows(&message_of(&[
        &packed(&json!("t")),
        &packed(&json!(1_700_000_001)),
        &record,
    ]))
    .remove(0);
    assert_eq!(row["Timestamp"], "2023-11-14 22:13:21.000000000");
    assert_eq!(
        row["LogAttributes"],
        json!({"time": "2001-01-01T00:00:00Z", "fluent.tag": "t"})
    );
}

#[test]
fn what_json_has_no_value_for_becomes_a_text() {
    let mut record = vec![0x87];
    for (key, value) in [
        (&b"\xa3bin"[..], &b"\xc4\x03a\xffb"[..]),
        (b"\xa3str", b"\xa2\xc3\x28"),
        (b"\xc4\x03ext", b"\xd4\x05\xff"),
        (b"\xa3nan", b"\xca\x7f\xc0\x00\x00"),
        (b"\x07", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        (b"\xd0\x80", b"\xca\x3f\x80\x00\x00"),
        (b"\xa4when", b"\xd7\x00\x65\x53\xf1\x01\x00\x00\x00\x02"),
    ] {
        record.extend_from_slice(key);
        record.extend_from_slice(value);
    }
    let row = rows(&message_of(&[b"\xa1t", b"\x01", &record])).remove(0);
    assert_eq!(
        row["LogAttributes"],
        json!({
            "bin": "a\u{fffd}b", "str": "\u{fffd}(", "ext": "/w==", "nan": "NaN", "7": "18446744073709551615",
            "-128": "1.0", "when": "1700000001000000002", "fluent.tag": "t",
        })
    );
}

#[test]
fn an_entry_that_is_none_costs_no_other() {
    let good = entry(1_700_000_001, 0, &json!({"message": "good"}));
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    let limits = Limits {
        line_bytes_max: 1024,
        ..Limits::default()
    };
    for (bad, reason) in [
        (packed(&json!(7)), RejectReason::Type),
        (packed(&json!([1])), RejectReason::Type),
        (packed(&json!([1, 2, 3])), RejectReason::Type),
        (packed(&json!([1, "text"])), RejectReason::NotObject),
        (packed(&json!(["time", {}])), RejectReason::Type),
        (b"\x92\x01\x81\xc0\x01".to_vec(), RejectReason::Type),
        (b"\x92\xd6\x00\x00\x00\x00\x00\x80".to_vec(), RejectReason::Type),
        (packed(&json!([1, {"deep": deep}])), RejectReason::TooDeep),
        (
            packed(&json!([1, {"long": "x".repeat(1024)}])),
            RejectReason::TooLong,
        ),
        (
            packed(&json!([1, {"x".repeat(300): 1}])),
            RejectReason::Attributes,
        ),
    ] {
        let entries = [good.clone(), bad.clone(), good.clone()].concat();
        let taken = take_with(&limits, &message_of(&[b"\xa1t", &binary(&entries)]));
        assert_eq!(taken.rows.len(), 2, "{bad:x?}");
        assert!(taken.errors.only(reason), "{bad:x?} {:?}", taken.errors.first);
        assert_eq!(taken.errors.first[0].row, 1);
    }
    // What is cut short or begins no value ends the list.
    for rest in [
        &b"\x92\x01"[..],
        b"\xc1",
        b"\xdb\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
    ] {
        let entries = [&good[..], &good, rest].concat();
        let mut spans = Vec::new();
        let listed = Rows::list(&entries, &limits, &mut Extent::new(), &mut spans, usize::MAX);
        assert_eq!((listed, spans.len()), (Err((2 * good.len(), Malformed::Byte)), 2));
    }
}

#[test]
fn what_is_no_message_is_told_and_the_next_is_found_behind_it() {
    for (value, wrong) in [
        (json!(7), WrongMessage::Shape),
        (json!({}), WrongMessage::Shape),
        (json!([]), WrongMessage::Shape),
        (json!([1, 2, 3]), WrongMessage::Shape),
        (json!(["tag"]), WrongMessage::Shape),
        (json!(["tag", 1]), WrongMessage::Shape),
        (json!(["tag", [], 7]), WrongMessage::Shape),
        (json!(["tag", [], {}, 7]), WrongMessage::Shape),
        (json!(["tag", 1, {}, {}, 7]), WrongMessage::Shape),
        (
            json!(["tag", "", {"compressed": "lz4"}]),
            WrongMessage::Compression,
        ),
        (json!(["tag", "", {"fluent_signal": 1}]), WrongMessage::Signal),
    ] {
        assert_eq!(parse(&packed(&value)), Err(wrong), "{value}");
    }
    assert_eq!(parse(b"\xc0"), Ok(None));
    assert!(
        parse(&packed(&json!(["tag", [], {"fluent_signal": 0}])))
            .unwrap()
            .is_some()
    );
}

#[test]
fn every_prefix_of_a_message_waits_for_the_rest() {
    let record = json!({"message": "x".repeat(300), "list": [1, -1, 1.5, null, true, {"a": "b"}]});
    for wide in [false, true] {
        let mut message = Vec::new();
        pack(
            &json!(["tag", [[1, record], [2, record]], {"chunk": "id"}]),
            wide,
            &mut message,
        );
        let behind = [&message[..], b"\x93"].concat();
        let mut growing = Extent::new();
        for len in 0..message.len() {
            assert_eq!(Extent::new().find(&message[..len], 9), Ok(None), "{len}");
            assert_eq!(growing.find(&message[..len], 9), Ok(None), "{len}");
            assert!(parse(&message[..len]).is_err(), "{len}");
        }
        assert_eq!(growing.find(&behind, 9), Ok(Some(message.len())));
        // The next value, with the same memory.
        assert_eq!(growing.find(b"\xa1", 9), Ok(None));
        assert_eq!(growing.find(b"\xa1x", 9), Ok(Some(2)));
    }
}

#[test]
fn endless_headers_are_refused_or_cost_no_memory() {
    let maps = [0x81; 1000];
    assert_eq!(Extent::new().find(&maps, 64), Err(Malformed::TooDeep));
    assert_eq!(Extent::new().find(&[0x91; 64], 64), Ok(None));
    assert_eq!(Extent::new().find(&[0xc1], 64), Err(Malformed::Byte));
    let mut extent = Extent::new();
    let wide = [&b"\xdf\xff\xff\xff\xff"[..], &[0xc0; 100_000]].concat();
    assert_eq!(extent.find(&wide, 64), Ok(None));
    assert_eq!(extent.bytes_min(), wide.len() as u64);
    // A length is believed without its bytes: the caller sees it is too long.
    let mut extent = Extent::new();
    assert_eq!(extent.find(b"\xdb\xff\xff\xff\xff", 64), Ok(None));
    assert_eq!(extent.bytes_min(), 5 + u64::from(u32::MAX));
}

fn value() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(|truth| json!(truth)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        "\\PC{0,40}".prop_map(|text| json!(text)),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::btree_map("[a-c.é]{1,3}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

/// Records with the keys that mean something.
fn records() -> impl Strategy<Value = Vec<serde_json::Map<String, Json>>> {
    let key = prop_oneof![
        "[a-c]{1,2}",
        prop::sample::select(vec![
            "log",
            "message",
            "level",
            "service",
            "LogAttributes",
            "attributes",
            "trace_id",
            "Body"
        ])
        .prop_map(str::to_owned),
    ];
    let record = prop::collection::btree_map(key, value(), 0..8);
    prop::collection::vec(record.prop_map(|record| record.into_iter().collect()), 1..8)
}

proptest! {
    /// Oracle: the same rows as JSON, with the tag in them.
    #[test]
    fn a_record_is_the_row_that_the_same_json_is(records in records(), wide in any::<bool>()) {
        let (mut message, mut lines) = (vec![0x92], String::new());
        pack(&json!("t.ag"), wide, &mut message);
        let entries: Vec<Json> = records.iter().map(|record| json!([1_700_000_001, record])).collect();
        pack(&json!(entries), wide, &mut message);
        for record in &records {
            let mut row = record.clone();
            row.insert("Timestamp".to_owned(), json!(1_700_000_001));
            row.insert("fluent.tag".to_owned(), json!("t.ag"));
            lines += &format!("{}\n", Json::Object(row));
        }
        let limits = Limits { chunk_bytes: 4096, ..Limits::default() };
        let taken = take_with(&limits, &message);
        let text = RowsText { bytes: lines.as_bytes(), form: RowForm::Lines };
        let expected = take_all(&default_table(), &limits, &text, NOW_NS);
        let rejected = |taken: &Taken| taken.errors.first.iter().map(|error| (error.row, error.reason)).collect::<Vec<_>>();
        prop_assert_eq!(rejected(&taken), rejected(&expected));
        prop_assert_eq!(taken.rows, expected.rows);
    }

    /// Oracle: a reader that recurses.
    #[test]
    fn the_end_of_a_value_is_where_a_reader_that_recurses_ends(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80_u8..0xa4, 0xc0_u8..0xe0], 0..60),
        depth_max in 0_usize..8,
        step in 1_usize..9,
    ) {
        fn end(reader: &mut Reader<'_>, depth_left: usize) -> Result<(), Option<Malformed>> {
            let before = reader.rest();
            let Some(value) = reader.read() else {
                return Err((before.first() == Some(&0xc1)).then_some(Malformed::Byte));
            };
            let inner = match value {
                Value::Array(values) => u64::from(values),
                Value::Map(pairs) => 2 * u64::from(pairs),
                _ => return Ok(()),
            };
            if depth_left == 0 {
                return Err(Some(Malformed::TooDeep));
            }
            (0..inner).try_for_each(|_| end(reader, depth_left - 1))
        }
        let mut reader = Reader::new(&bytes);
        let expected = match end(&mut reader, depth_max) {
            Ok(()) => Ok(Some(bytes.len() - reader.rest().len())),
            Err(None) => Ok(None),
            Err(Some(malformed)) => Err(malformed),
        };
        prop_assert_eq!(Extent::new().find(&bytes, depth_max), expected);
        let mut growing = Extent::new();
        let mut found = Ok(None);
        for len in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            found = growing.find(&bytes[..len], depth_max);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let message = [&[0x93, 0xa1, b't'][..], &bytes].concat();
        let _ = parse(&message);
        let mut spans = Vec::new();
        let _ = Rows::list(&bytes, &Limits::default(), &mut Extent::new(), &mut spans, usize::MAX);
        for shape in [Shape::Bare, Shape::Entry] {
            let rows = Rows { bytes: &bytes, spans: &spans, shape, tag: b"\xff" };
            take_all(&default_table(), &Limits::default(), &rows, NOW_NS);
        }
    }
}

fn secrets(users: &[(&str, &str)]) -> Secrets {
    Secrets {
        shared_key: "key".to_owned(),
        users: users
            .iter()
            .map(|(user, password)| (user.to_string(), password.to_string()))
            .collect(),
    }
}

/// The client's side, as the specification has it.
fn ping(helo: &[u8], key: &str, user: &str, password: &str) -> Vec<u8> {
    use sha2::{Digest, Sha512};
    let mut reader = Reader::new(helo);
    assert_eq!(reader.read(), Some(Value::Array(2)));
    assert_eq!(reader.read(), Some(Value::Bytes(b"HELO")));
    assert_eq!(reader.read(), Some(Value::Map(3)));
    let mut option = |name: &[u8]| {
        assert_eq!(reader.read(), Some(Value::Bytes(name)));
        match reader.read() {
            Some(Value::Bytes(bytes)) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    };
    let (nonce, auth) = (option(b"nonce"), option(b"auth"));
    let hex = |parts: &[&[u8]]| {
        let digest = Sha512::digest(parts.concat());
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let digest = hex(&[b"salt", b"client", &nonce, key.as_bytes()]);
    let password = match auth.as_slice() {
        [] => String::new(),
        auth => hex(&[auth, user.as_bytes(), password.as_bytes()]),
    };
    packed(&json!(["PING", "client", "salt", digest, user, password]))
}

#[test]
fn who_knows_the_key_and_a_password_is_let_in_and_nobody_else() {
    let with_users = secrets(&[("ann", "a"), ("bob", "b")]);
    for (secrets, key, user, password, refused) in [
        (secrets(&[]), "key", "", "", None),
        (secrets(&[]), "kez", "", "", Some("shared_key mismatch")),
        (secrets(&[]), "", "", "", Some("shared_key mismatch")),
        (with_users.clone(), "key", "bob", "b", None),
        (
            with_users.clone(),
            "key",
            "bob",
            "a",
            Some("username/password mismatch"),
        ),
        (
            with_users.clone(),
            "key",
            "eve",
            "b",
            Some("username/password mismatch"),
        ),
        (
            with_users.clone(),
            "key",
            "",
            "",
            Some("username/password mismatch"),
        ),
        (with_users, "kez", "bob", "b", Some("shared_key mismatch")),
    ] {
        let handshake = Handshake::new(&secrets, "server", std::array::from_fn(|at| at as u8));
        let mut helo = Vec::new();
        handshake.put_helo(&mut helo);
        let mut pong = Vec::new();
        let verdict = handshake.answer(&ping(&helo, key, user, password), &mut pong);
        let expected = refused.map_or(Verdict::Welcome, Verdict::Refused);
        assert_eq!(verdict, expected, "{key} {user} {password}");
        let mut reader = Reader::new(&pong);
        assert_eq!(reader.read(), Some(Value::Array(5)));
        assert_eq!(reader.read(), Some(Value::Bytes(b"PONG")));
        assert_eq!(
            reader.read(),
            Some(Value::Plain(super::msgpack::Head::Bool(refused.is_none())))
        );
        assert_eq!(
            reader.read(),
            Some(Value::Bytes(refused.unwrap_or("").as_bytes()))
        );
        assert_eq!(reader.read(), Some(Value::Bytes(b"server")));
        let Some(Value::Bytes(digest)) = reader.read() else {
            panic!("no digest");
        };
        assert_eq!(
            (digest.len(), reader.rest().len()),
            (if refused.is_none() { 128 } else { 0 }, 0)
        );
    }
    let secrets = secrets(&[]);
    let handshake = Handshake::new(&secrets, "server", [0; 32]);
    for message in [json!(["tag", 1, {}]), json!(["PING"]), json!(7)] {
        let verdict = handshake.answer(&packed(&message), &mut Vec::new());
        assert_eq!(verdict, Verdict::Refused("the first message is no PING"));
    }
}
