//! Push requests in both encodings, pushed into the default table and read back from its blocks.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::json::{MessageParser, RejectReason};
use crate::limits::Limits;
use crate::message::testing::{Proto, Taken, default_table, proto, take_all};

const SECONDS: u64 = 1_700_000_001;

fn take(request: &Proto) -> Taken {
    let message = Message::parse(&request.0).unwrap();
    take_all(&default_table(), &Limits::default(), &message)
}

fn take_json(request: &Json) -> Result<Taken, String> {
    let limits = Limits::default();
    let taken = MessageParser::new(&limits).parse(request.to_string().as_bytes(), |nodes| {
        let message = JsonMessage::parse(nodes).map_err(|wrong| wrong.to_string())?;
        Ok(take_all(&default_table(), &limits, &message))
    });
    taken.map_err(|fault| fault.to_string())?
}

fn time(seconds: u64, nanos: u64) -> Proto {
    proto().varint(1, seconds).varint(2, nanos)
}

fn entry(line: &str) -> Proto {
    proto().message(1, time(SECONDS, 2)).bytes(2, line)
}

fn metadata(name: &str, value: &str) -> Proto {
    proto().bytes(1, name).bytes(2, value)
}

fn stream(labels: &str, entries: impl IntoIterator<Item = Proto>) -> Proto {
    let stream = proto().bytes(1, labels);
    let entries = entries
        .into_iter()
        .fold(stream, |stream, entry| stream.message(2, entry));
    entries.varint(3, 7)
}

fn json_stream(labels: Json, values: Json) -> Json {
    json!({"streams": [{"stream": labels, "values": values}]})
}

/// The one row of a request.
fn row(taken: Taken) -> Json {
    assert_eq!(
        (taken.accepted, taken.errors.count),
        (1, 0),
        "{:?}",
        taken.errors.first
    );
    taken.rows.into_iter().next().unwrap()
}

#[test]
fn every_part_has_its_column_in_every_encoding() {
    let expected = json!({
        "Timestamp": "2023-11-14 22:13:21.000000002",
        "TraceId": "00112233445566778899aabbccddeeff",
        "SpanId": "0123456789abcdef",
        "TraceFlags": 0,
        "SeverityText": "warn",
        "SeverityNumber": 13,
        "ServiceName": "checkout",
        "Body": "{\"level\":\"error\"} level=error",
        "ResourceSchemaUrl": "",
        "ResourceAttributes": {"app": "checkout", "env": "a \"b\"", "job": "j"},
        "ScopeSchemaUrl": "",
        "ScopeName": "",
        "ScopeVersion": "",
        "ScopeAttributes": {},
        "LogAttributes": {"pod": "p-1"},
        "EventName": "",
    });
    let line = "{\"level\":\"error\"} level=error";
    let sent = entry(line)
        .message(3, metadata("trace_id", "00112233445566778899AABBCCDDEEFF"))
        .message(3, metadata("span_id", "0123456789abcdef"))
        .message(3, metadata("detected_level", "warn"))
        .message(3, metadata("pod", "p-1"));
    let request = proto().message(1, stream(r#"{app="checkout", env="a \"b\"", job="j"}"#, [sent]));
    assert_eq!(row(take(&request)), expected);
    let labels = json!({"app": "checkout", "env": "a \"b\"", "job": "j"});
    let more = json!({
        "trace_id": "00112233445566778899AABBCCDDEEFF", "span_id": "0123456789abcdef", "detected_level": "warn", "pod": "p-1",
    });
    let request = json_stream(labels, json!([["1700000001000000002", line, more]]));
    assert_eq!(row(take_json(&request).unwrap()), expected);
    // The form that Loki had before.
    let request = json!({"streams": [{
        "labels": r#"{app="checkout", env="a \"b\"", job="j"}"#,
        "entries": [{"ts": "2023-11-14T22:13:21.000000002Z", "line": line, "structuredMetadata": more}],
    }]});
    assert_eq!(row(take_json(&request).unwrap()), expected);
}

#[test]
fn a_service_is_named_by_the_first_label_that_loki_looks_for() {
    for (labels, service) in [
        (
            json!({"job": "j", "container": "c", "app": "a", "service": "s", "service_name": "n"}),
            "n",
        ),
        (
            json!({"job": "j", "container": "c", "app": "a", "service": "s"}),
            "s",
        ),
        (json!({"app": "", "job": "j", "container": "c"}), "c"),
        (json!({"host": "h"}), ""),
        (json!({}), ""),
    ] {
        let row = row(take_json(&json_stream(labels.clone(), json!([["1", "x"]]))).unwrap());
        assert_eq!(row["ServiceName"], service, "{labels}");
        assert_eq!(row["ResourceAttributes"], labels);
    }
}

#[test]
fn levels_and_ids_are_those_of_the_entry_before_those_of_the_stream() {
    let trace = "00112233445566778899aabbccddeeff";
    for (labels, more, expected) in [
        (json!({"level": "info"}), json!({}), json!(["info", 9, "", {}])),
        (
            json!({"level": "info"}),
            json!({"level": "error"}),
            json!(["error", 17, "", {}]),
        ),
        (
            json!({"detected_level": "info", "severity": "warn"}),
            json!({}),
            json!(["warn", 13, "", {}]),
        ),
        (
            json!({}),
            json!({"detected_level": "info", "level": "warn", "lvl": "x"}),
            json!(["warn", 13, "", {"detected_level": "info", "lvl": "x"}]),
        ),
        (json!({"trace_id": trace}), json!({}), json!(["", 0, trace, {}])),
        (
            json!({"trace_id": trace}),
            json!({"traceID": "no"}),
            json!(["", 0, trace, {"traceID": "no"}]),
        ),
        (
            json!({"trace_id": "no"}),
            json!({"traceID": trace}),
            json!(["", 0, trace, {}]),
        ),
        (
            json!({}),
            json!({"n": 7, "o": {"k": [1]}}),
            json!(["", 0, "", {"n": "7", "o": r#"{"k":[1]}"#}]),
        ),
    ] {
        let row = row(take_json(&json_stream(labels.clone(), json!([["1", "x", more]]))).unwrap());
        let found = json!([
            row["SeverityText"],
            row["SeverityNumber"],
            row["TraceId"],
            row["LogAttributes"]
        ]);
        assert_eq!(found, expected, "{labels} {more}");
        assert_eq!(row["ResourceAttributes"], labels);
    }
}

#[test]
fn entries_have_the_labels_of_their_stream_wherever_those_stand() {
    let labels_last = proto()
        .message(2, entry("c"))
        .bytes(1, r#"{app="ignored"}"#)
        .bytes(1, r#"{app="two"}"#);
    let request = proto()
        .message(1, stream(r#"{app="one"}"#, [entry("a"), entry("b")]))
        .message(1, stream(r#"{app="none"}"#, []))
        .message(1, labels_last)
        .message(1, proto().message(2, entry("d")));
    let taken = take(&request);
    // Without labels is not with none.
    assert_eq!(taken.errors.first[0].row, 3);
    let seen: Vec<String> = taken
        .rows
        .iter()
        .map(|row| format!("{} {}", row["ServiceName"], row["Body"]).replace('"', ""))
        .collect();
    assert_eq!(seen, ["one a", "one b", "two c"]);
}

#[test]
fn a_time_is_kept_to_the_nanosecond_and_none_is_the_receive_time() {
    let received = "2023-11-14 22:13:20.123456789";
    for (sent, expected) in [
        (proto().message(1, time(1, 5)), "1970-01-01 00:00:01.000000005"),
        (proto().message(1, time(0, 1)), "1970-01-01 00:00:00.000000001"),
        (proto(), received),
        (proto().message(1, proto()), received),
    ] {
        let request = proto().message(1, stream("{}", [sent.bytes(2, "x")]));
        assert_eq!(row(take(&request))["Timestamp"], expected);
    }
    let request = json_stream(json!({}), json!([[1_700_000_001_000_000_002_u64, "x"]]));
    assert_eq!(
        row(take_json(&request).unwrap())["Timestamp"],
        "2023-11-14 22:13:21.000000002"
    );
}

#[test]
fn malformed_labels_cost_the_entries_of_their_stream_alone() {
    let request = proto()
        .message(1, stream(r#"{app="one"}"#, [entry("a")]))
        .message(1, stream(r#"{app="two"#, [entry("b"), entry("c")]))
        .message(1, proto().bytes(1, b"{app=\"\xff\"}").message(2, entry("d")))
        .message(
            1,
            stream(&format!("{{app=\"{}\"}}", "x".repeat(70_000)), [entry("e")]),
        )
        .message(1, stream(r#"{app="six"}"#, [entry("f")]));
    let taken = take(&request);
    let bodies: Vec<&Json> = taken.rows.iter().map(|row| &row["Body"]).collect();
    assert_eq!(bodies, ["a", "f"]);
    let refused: Vec<(u64, RejectReason)> = taken
        .errors
        .first
        .iter()
        .map(|error| (error.row, error.reason))
        .collect();
    assert_eq!(
        refused,
        [
            (1, RejectReason::Rule),
            (2, RejectReason::Rule),
            (3, RejectReason::Utf8),
            (4, RejectReason::Rule)
        ]
    );
    let request = json!({"streams": [
        {"stream": {"app": 7}, "values": [["1", "a"], ["2", "b"]]},
        {"stream": [], "values": [["1", "c"]]},
        {"stream": {"app": "x"}, "values": [["1", "d"]]},
    ]});
    let taken = take_json(&request).unwrap();
    assert_eq!((taken.accepted, taken.errors.count), (1, 3));
}

#[test]
fn a_bad_entry_is_rejected_alone() {
    for (bad, reason) in [
        (entry("").bytes(2, b"\xff"), RejectReason::Utf8),
        (entry("").bytes(1, b"\x08"), RejectReason::Protobuf),
        (entry("").bytes(3, b"\x0a\x05four"), RejectReason::Protobuf),
        (proto().message(1, time(1, 1_000_000_000)), RejectReason::Rule),
        (proto().message(1, time(u64::MAX, 0)), RejectReason::Rule),
        (proto().message(1, time(1 << 34, 0)), RejectReason::Time),
    ] {
        let taken = take(&proto().message(1, stream("{}", [entry("a"), bad, entry("c")])));
        assert_eq!((taken.accepted, taken.errors.count), (2, 1), "{reason:?}");
        assert_eq!(
            (taken.errors.first[0].row, taken.errors.first[0].reason),
            (1, reason)
        );
    }
    for bad in [
        json!(7),
        json!([]),
        json!(["1"]),
        json!(["now", "x"]),
        json!(["-1", "x"]),
        json!([1.5, "x"]),
        json!(["1", 7]),
        json!(["1", "x", 7]),
        json!({"line": 7}),
    ] {
        let values = json!([["1", "a"], bad, ["2", "c"]]);
        let taken = take_json(&json_stream(json!({}), values)).unwrap();
        assert_eq!((taken.accepted, taken.errors.count), (2, 1), "{bad}");
        assert_eq!(
            (taken.errors.first[0].row, taken.errors.first[0].reason),
            (1, RejectReason::Rule)
        );
    }
}

#[test]
fn what_is_no_push_request_is_refused_as_a_whole() {
    for bad in [&b"\x0a\x05four"[..], b"\x0a\x02\x12\x05", b"\xff"] {
        assert!(Message::parse(bad).is_err(), "{bad:?}");
    }
    for (bad, part) in [
        (json!([]), "the body"),
        (json!({"streams": 7}), "streams"),
        (json!({"streams": [7]}), "a stream"),
        (json!({"streams": [{"values": {}}]}), "values"),
        (json!({"streams": [{"entries": "x"}]}), "entries"),
    ] {
        let refused = take_json(&bad).err().unwrap();
        assert_eq!(
            refused,
            format!("not a push request: {part} is of the wrong type")
        );
    }
    assert_eq!(take_json(&json!({})).unwrap().accepted, 0);
    assert_eq!(Message::parse(b"").unwrap().records(), 0);
}

#[test]
fn groups_are_streams_with_their_labels() {
    let request = proto()
        .message(1, stream(r#"{app="a\"", env="x"}"#, [entry("1"), entry("2")]))
        .message(1, stream(r#"{app="b"}"#, [entry("3")]));
    let message = Message::parse(&request.0).unwrap();
    let mut seen = Vec::new();
    let visited: Result<(), ()> = message.each_group(0, |group, end| {
        seen.push((
            group.label("app").map(str::to_owned),
            group.label("env").is_some(),
            end,
        ));
        Ok(())
    });
    visited.unwrap();
    assert_eq!(
        seen,
        [
            (Some("a\"".to_owned()), true, 2),
            (Some("b".to_owned()), false, 3)
        ]
    );
}

#[test]
fn entries_beyond_a_pass_and_a_batch_all_come_in_order() {
    let limits = Limits {
        batch_rows_max: 100,
        batches_per_table: 1,
        chunk_bytes: 4096,
        ..Limits::default()
    };
    let streams = (0..10).fold(proto(), |request, of| {
        let entries = (0..100).map(|i| entry(&(of * 100 + i).to_string()));
        request.message(1, stream(&format!("{{app=\"s\\n{of}\"}}"), entries))
    });
    let message = Message::parse(&streams.0).unwrap();
    let taken = take_all(&default_table(), &limits, &message);
    assert_eq!((taken.accepted, taken.errors.count), (1000, 0));
    for (i, row) in taken.rows.iter().enumerate() {
        assert_eq!(row["Body"], i.to_string());
        assert_eq!(row["ServiceName"], format!("s\n{}", i / 100));
    }
}

/// Labels of 32 KiB that 500 empty entries share make 16 MiB of rows.
#[test]
fn long_labels_of_many_empty_entries_fill_one_batch_after_the_other() {
    let limits = Limits {
        chunk_bytes: 4096,
        line_bytes_max: 64 << 10,
        batch_bytes_max: 64 << 10,
        ..Limits::default()
    };
    let long = "x".repeat(32 << 10);
    let request = proto().message(1, stream(&format!("{{a=\"{long}\"}}"), (0..500).map(|_| proto())));
    let message = Message::parse(&request.0).unwrap();
    // What a batch may have is compared in there.
    let taken = take_all(&default_table(), &limits, &message);
    assert_eq!(taken.accepted, 500);
    assert_eq!(taken.rows[499]["ResourceAttributes"], json!({"a": long}));
}

proptest! {
    #[test]
    fn the_encodings_become_the_same_rows(
        streams in prop::collection::vec(
            (
                prop::collection::btree_map("[a-z_]{1,8}", any::<String>(), 0..4),
                prop::collection::vec((0_u64..2_000_000_000, 0_u64..1_000_000_000, any::<String>(), prop::option::of(any::<String>())), 0..4),
            ),
            0..4,
        ),
    ) {
        let quote = |value: &str| -> String {
            value.chars().map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                '\n' => "\\n".to_owned(),
                c => c.to_string(),
            }).collect()
        };
        let mut request = proto();
        let mut json_streams = Vec::new();
        for (labels, entries) in &streams {
            let set: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            let sent = entries.iter().map(|(seconds, nanos, line, more)| {
                let entry = proto().message(1, time(*seconds, *nanos)).bytes(2, line);
                match more {
                    Some(more) => entry.message(3, metadata("more", more)),
                    None => entry,
                }
            });
            request = request.message(1, stream(&format!("{{{}}}", set.join(",")), sent));
            let values: Vec<Json> = entries.iter().map(|(seconds, nanos, line, more)| {
                let nanos = (seconds * 1_000_000_000 + nanos).to_string();
                match more {
                    Some(more) => json!([nanos, line, {"more": more}]),
                    None => json!([nanos, line]),
                }
            }).collect();
            json_streams.push(json!({"stream": labels, "values": values}));
        }
        let (protobuf, json) = (take(&request), take_json(&json!({"streams": json_streams})).unwrap());
        prop_assert_eq!((protobuf.errors.count, json.errors.count), (0, 0));
        prop_assert_eq!(protobuf.rows, json.rows);
    }

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
        let sent = || entry("line").message(3, metadata("level", "info")).message(3, metadata("trace_id", "x"));
        let request = (0..3).fold(proto(), |request, _| {
            request.message(1, stream("{app=\"a\\n\",b=`c`}", [sent(), sent()]))
        });
        // Counts are compared in there.
        if let Ok(message) = Message::parse(&damaged(request.0)) {
            take_all(&default_table(), &Limits::default(), &message);
        }
        let request = json_stream(json!({"a": "b"}), json!([["1", "x", {"level": "info"}], ["2", "y"]]));
        if let Ok(text) = serde_json::from_slice::<Json>(&damaged(request.to_string().into_bytes())) {
            let _ = take_json(&text);
        }
    }
}
