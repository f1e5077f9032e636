//! Entries in both encodings, pushed into the default table and read back from its blocks.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::json::{MessageParser, RejectReason};
use crate::limits::Limits;
use crate::message::testing::{Proto, Taken, default_table, proto, take_all};

fn take_json(text: &str) -> Result<Taken, String> {
    let limits = Limits::default();
    let taken = MessageParser::new(&limits).parse(text.as_bytes(), |nodes| {
        let message = JsonMessage::parse(nodes).map_err(|wrong| wrong.to_string())?;
        Ok(take_all(&default_table(), &limits, &message))
    });
    taken.map_err(|fault| fault.to_string())?
}

fn take(message: &Message<'_>) -> Taken {
    take_all(&default_table(), &Limits::default(), message)
}

/// The one row of an entry, or why it is none.
fn row_of(mut taken: Taken) -> Result<Json, String> {
    assert_eq!(taken.accepted + taken.errors.count, 1);
    match taken.errors.first.pop() {
        Some(error) => {
            assert_eq!(error.reason, RejectReason::Rule, "{error:?}");
            Err(error.text)
        }
        None => Ok(taken.rows.remove(0)),
    }
}

fn entry() -> Json {
    json!({
        "app_id": "shop", "level": "warn", "message": "it \"broke\"", "source": "checkout", "environment": "prod",
        "timestamp": "2023-11-14T22:13:21.5Z", "trace_id": "00112233445566778899AABBCCDDEEFF", "user_id": "u1",
        "metadata": {"k": "v", "n": 7, "o": {"a": [1, null]}, "none": null},
    })
}

fn member(name: &str, value: &str) -> Proto {
    proto().bytes(1, name).bytes(2, value)
}

fn log_entry() -> Proto {
    proto()
        .bytes(2, "shop")
        .varint(3, 1_700_000_001_500)
        .varint(4, 2)
        .bytes(5, "it \"broke\"")
        .bytes(6, "checkout")
        .bytes(7, "prod")
        .message(8, member("k", "v"))
        .message(8, member("n", "7"))
        .message(8, member("o", r#"{"a":[1,null]}"#))
        .bytes(9, "00112233445566778899aabbccddeeff")
        .bytes(10, "u1")
}

fn log_entry_input() -> Proto {
    proto()
        .bytes(1, "shop")
        .bytes(2, "Warn")
        .bytes(3, "it \"broke\"")
        .bytes(4, "checkout")
        .bytes(5, "prod")
        .message(6, member("k", "v"))
        .message(6, member("n", "7"))
        .message(6, member("o", r#"{"a":[1,null]}"#))
        .bytes(7, "00112233445566778899AABBCCDDEEFF")
        .bytes(8, "u1")
}

fn expected(timestamp: &str) -> Json {
    json!({
        "Timestamp": timestamp,
        "TraceId": "00112233445566778899aabbccddeeff",
        "SpanId": "",
        "TraceFlags": 0,
        "SeverityText": "WARN",
        "SeverityNumber": 13,
        "ServiceName": "checkout",
        "Body": "it \"broke\"",
        "ResourceSchemaUrl": "",
        "ResourceAttributes": {},
        "ScopeSchemaUrl": "",
        "ScopeName": "",
        "ScopeVersion": "",
        "ScopeAttributes": {},
        "LogAttributes": {
            "k": "v", "n": "7", "o": r#"{"a":[1,null]}"#, "app_id": "shop", "environment": "prod", "user_id": "u1",
        },
        "EventName": "",
    })
}

#[test]
fn every_field_has_its_column_in_every_message() {
    let sent = "2023-11-14 22:13:21.500000000";
    assert_eq!(
        row_of(take_json(&entry().to_string()).unwrap()),
        Ok(expected(sent))
    );
    let (bytes, batch) = (log_entry().0, proto().message(1, log_entry()).0);
    assert_eq!(row_of(take(&Message::entry(&bytes))), Ok(expected(sent)));
    assert_eq!(row_of(take(&Message::batch(&batch).unwrap())), Ok(expected(sent)));
    // It has no time: that of receipt.
    let request = proto().message(1, log_entry_input()).0;
    let request = Message::ingest_logs_request(&request).unwrap();
    assert_eq!(
        row_of(take(&request)),
        Ok(expected("2023-11-14 22:13:20.123456789"))
    );
}

#[test]
fn an_entry_that_breaks_a_rule_is_rejected_alone_and_told_which() {
    let with = |name: &str, value: Json| {
        let mut entry = entry();
        entry[name] = value;
        entry
    };
    for (name, longest) in [
        ("app_id", 64),
        ("message", 4096),
        ("source", 32),
        ("environment", 32),
    ] {
        assert!(row_of(take_json(&with(name, json!("é".repeat(longest))).to_string()).unwrap()).is_ok());
        for wrong in [
            json!("é".repeat(longest + 1)),
            json!("x".repeat(4 * longest + 1)),
            json!(""),
            json!(null),
            json!(1),
        ] {
            let batch = json!([entry(), with(name, wrong), entry()]);
            let taken = take_json(&batch.to_string()).unwrap();
            assert_eq!((taken.accepted, taken.errors.count), (2, 1));
            let error = &taken.errors.first[0];
            assert_eq!((error.row, error.reason), (1, RejectReason::Rule));
            assert!(error.text.starts_with(name), "{error:?}");
        }
    }
    for (name, wrong) in [
        ("level", json!("NOTICE")),
        ("level", json!(30)),
        ("metadata", json!("text")),
        ("metadata", json!({"k": "x".repeat(16_377)})),
        ("timestamp", json!({})),
    ] {
        let reason = row_of(take_json(&with(name, wrong).to_string()).unwrap()).unwrap_err();
        assert!(reason.starts_with(name), "{reason}");
    }
    // {"k":""} is eight bytes of the 16,384.
    assert!(
        row_of(take_json(&with("metadata", json!({"k": "x".repeat(16_376)})).to_string()).unwrap()).is_ok()
    );
    assert_eq!(
        take_json("[7]").unwrap().errors.first[0].text,
        "a log entry must be an object"
    );
    let bad_time = take_json(&with("timestamp", json!("yesterday")).to_string()).unwrap();
    assert_eq!(bad_time.errors.first[0].reason, RejectReason::Time);
}

#[test]
fn a_damaged_entry_of_a_batch_is_rejected_alone() {
    let fits = |bytes: usize| log_entry().message(8, member("m", &"x".repeat(bytes)));
    for (bad, reason) in [
        (log_entry().bytes(5, b"\xff"), RejectReason::Utf8),
        (log_entry().bytes(8, b"\x0a\x05four"), RejectReason::Protobuf),
        (
            Proto([&log_entry().0[..], b"\x80"].concat()),
            RejectReason::Protobuf,
        ),
        (log_entry().varint(4, 5), RejectReason::Rule),
        (log_entry().varint(3, u64::MAX), RejectReason::Rule),
        (fits(17_000), RejectReason::Rule),
        (proto(), RejectReason::Rule),
    ] {
        let batch = proto()
            .message(1, log_entry())
            .message(1, bad)
            .message(1, fits(16_000))
            .0;
        let taken = take(&Message::batch(&batch).unwrap());
        assert_eq!(
            (taken.accepted, taken.errors.count),
            (2, 1),
            "{:?}",
            taken.errors.first
        );
        assert_eq!(
            (taken.errors.first[0].row, taken.errors.first[0].reason),
            (1, reason)
        );
    }
    assert!(Message::batch(b"\x0a\x05four").is_err());
    assert_eq!(
        take_json("7").err().unwrap(),
        "not a log entry or an array of them: the body is of the wrong type"
    );
}

#[test]
fn a_level_that_is_not_sent_is_the_first_of_the_enum_and_none_as_text() {
    let without_level = |layout: Proto| layout.bytes(5, "m").bytes(6, "s").bytes(7, "e");
    let bytes = without_level(proto().bytes(2, "a")).0;
    assert_eq!(
        row_of(take(&Message::entry(&bytes))).unwrap()["SeverityText"],
        "DEBUG"
    );
    let input = proto().bytes(1, "a").bytes(3, "m").bytes(4, "s").bytes(5, "e");
    let request = proto().message(1, input).0;
    let reason = row_of(take(&Message::ingest_logs_request(&request).unwrap())).unwrap_err();
    assert!(reason.starts_with("level"), "{reason}");
}

#[test]
fn what_has_no_column_is_an_attribute() {
    let mut entry = entry();
    entry["trace_id"] = json!("no-trace");
    entry["request"] = json!({"path": "/"});
    let row = row_of(take_json(&entry.to_string()).unwrap()).unwrap();
    assert_eq!(
        (&row["TraceId"], &row["LogAttributes"]["trace_id"]),
        (&json!(""), &json!("no-trace"))
    );
    assert_eq!(row["LogAttributes"]["request"], r#"{"path":"/"}"#);
}

#[test]
fn entries_beyond_a_pass_and_a_batch_all_come_in_order() {
    let limits = Limits {
        batch_rows_max: 100,
        batches_per_table: 1,
        chunk_bytes: 4096,
        ..Limits::default()
    };
    let entries: Vec<Json> = (0..1000)
        .map(|i| json!({"app_id": "a", "level": "INFO", "message": i.to_string(), "source": "s", "environment": "e"}))
        .collect();
    let batch = (0..1000).fold(proto(), |batch, i| {
        batch.message(1, log_entry().bytes(5, i.to_string()))
    });
    let bodies = |taken: Taken| -> Vec<String> {
        assert_eq!(taken.errors.count, 0);
        taken
            .rows
            .iter()
            .map(|row| row["Body"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let message = Message::batch(&batch.0).unwrap();
    assert_eq!(bodies(take_all(&default_table(), &limits, &message)), expected);
    let text = json!(entries).to_string();
    let taken = MessageParser::new(&limits).parse(text.as_bytes(), |nodes| {
        take_all(&default_table(), &limits, &JsonMessage::parse(nodes).unwrap())
    });
    assert_eq!(bodies(taken.unwrap()), expected);
}

proptest! {
    #[test]
    fn a_damaged_message_is_refused_or_its_entries_are_taken_or_rejected(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        };
        // Counts are compared in there.
        let bytes = damaged((0..5).fold(proto(), |batch, _| batch.message(1, log_entry())).0);
        take(&Message::entry(&bytes));
        if let Ok(message) = Message::batch(&bytes) {
            take(&message);
        }
        if let Ok(message) = Message::ingest_logs_request(&bytes) {
            take(&message);
        }
        if let Ok(text) = String::from_utf8(damaged(json!([entry(), entry()]).to_string().into_bytes())) {
            let _ = take_json(&text);
        }
    }
}
