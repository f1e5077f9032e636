//! Messages as exporters encode them, pushed into a table and read back from its blocks.

mod json;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::reply::{put_json_response, put_json_status, put_response, put_status};
use super::*;
use crate::json::RejectReason;
use crate::limits::Limits;
use crate::message::testing::{Proto, Taken, default_table, name, proto, take_all};
use crate::schema::{RawColumn, Schema, TableSchema};

const TIME_NS: u64 = 1_700_000_001_000_000_002;

fn text(value: &str) -> Proto {
    proto().bytes(1, value)
}

fn key_value(key: &str, value: Proto) -> Proto {
    proto().bytes(1, key).message(2, value)
}

fn record(body: &str) -> Proto {
    proto().fixed64(1, TIME_NS).message(5, text(body))
}

/// A request of one resource and one scope.
fn request(records: impl IntoIterator<Item = Proto>) -> Proto {
    let scope_logs = records
        .into_iter()
        .fold(proto(), |scope, record| scope.message(2, record));
    proto().message(1, proto().message(2, scope_logs))
}

fn take(schema: &Schema, limits: &Limits, request: &Proto) -> Result<Taken, crate::protobuf::Malformed> {
    let message = Message::parse(&request.0)?;
    Ok(take_all(schema, limits, &message))
}

fn rows(request: &Proto) -> Vec<Json> {
    let taken = take(&default_table(), &Limits::default(), request).unwrap();
    assert_eq!(taken.errors.count, 0, "{:?}", taken.errors.first);
    taken.rows
}

/// The one row of a request of one record.
fn row(record: Proto) -> Json {
    let mut rows = rows(&request([record]));
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn every_field_has_its_column() {
    let resource = proto()
        .message(1, key_value("host.name", text("node-1")))
        .message(1, key_value("service.name", text("checkout")))
        .varint(2, 7);
    let scope = proto()
        .bytes(1, "logger")
        .bytes(2, "1.2.3")
        .message(3, key_value("thread", proto().varint(3, 4)));
    let log = proto()
        .fixed64(1, TIME_NS)
        .fixed64(11, TIME_NS + 5)
        .varint(2, 17)
        .bytes(3, "Error")
        .message(5, text("it broke"))
        .message(6, key_value("http.method", text("GET")))
        .message(6, key_value("retries", proto().varint(3, 3)))
        .varint(7, 2)
        .fixed32(8, 0x101)
        .bytes(
            9,
            *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
        )
        .bytes(10, *b"\x01\x23\x45\x67\x89\xab\xcd\xef")
        .bytes(12, "order.failed");
    let scope_logs = proto().message(1, scope).message(2, log).bytes(3, "urn:scope");
    let resource_logs = proto()
        .message(1, resource)
        .message(2, scope_logs)
        .bytes(3, "urn:resource");
    assert_eq!(
        rows(&proto().message(1, resource_logs)),
        [json!({
            "Timestamp": "2023-11-14 22:13:21.000000002",
            "TraceId": "00112233445566778899aabbccddeeff",
            "SpanId": "0123456789abcdef",
            "TraceFlags": 1,
            "SeverityText": "Error",
            "SeverityNumber": 17,
            "ServiceName": "checkout",
            "Body": "it broke",
            "ResourceSchemaUrl": "urn:resource",
            "ResourceAttributes": {"host.name": "node-1", "service.name": "checkout"},
            "ScopeSchemaUrl": "urn:scope",
            "ScopeName": "logger",
            "ScopeVersion": "1.2.3",
            "ScopeAttributes": {"thread": "4"},
            "LogAttributes": {"http.method": "GET", "retries": "3"},
            "EventName": "order.failed",
        })]
    );
}

#[test]
fn what_is_left_out_or_invalid_by_definition_is_empty() {
    let zeros = record("b")
        .bytes(9, [0; 16])
        .bytes(10, [0; 8])
        .varint(2, 0)
        .fixed32(8, 0);
    for record in [record("b"), zeros] {
        assert_eq!(
            row(record),
            json!({
                "Timestamp": "2023-11-14 22:13:21.000000002", "TraceId": "", "SpanId": "", "TraceFlags": 0,
                "SeverityText": "", "SeverityNumber": 0, "ServiceName": "", "Body": "b", "ResourceSchemaUrl": "",
                "ResourceAttributes": {}, "ScopeSchemaUrl": "", "ScopeName": "", "ScopeVersion": "",
                "ScopeAttributes": {}, "LogAttributes": {}, "EventName": "",
            })
        );
    }
}

#[test]
fn a_record_without_time_has_the_observed_or_the_receive_time() {
    let time = |record| row(record)["Timestamp"].clone();
    assert_eq!(
        time(proto().fixed64(11, TIME_NS)),
        "2023-11-14 22:13:21.000000002"
    );
    assert_eq!(time(proto().fixed64(1, 0)), "2023-11-14 22:13:20.123456789");
    // A number so small is no time of nanoseconds elsewhere.
    assert_eq!(time(proto().fixed64(1, 1)), "1970-01-01 00:00:00.000000001");
    assert_eq!(
        time(proto().fixed64(1, 99_999_999_999_999_999)),
        "1973-03-03 09:46:39.999999999"
    );
}

#[test]
fn a_severity_without_number_has_that_of_its_text() {
    assert_eq!(row(record("b").bytes(3, "WARN"))["SeverityNumber"], 13);
    assert_eq!(
        row(record("b").varint(2, 9).bytes(3, "WARN"))["SeverityNumber"],
        9
    );
    assert_eq!(
        row(record("b").bytes(3, "WARN").varint(2, 9))["SeverityNumber"],
        9
    );
    assert_eq!(row(record("b").varint(2, 99))["SeverityNumber"], 0);
}

#[test]
fn values_of_every_kind_are_text_or_json() {
    let list = |values: Vec<Proto>| {
        let list = values
            .into_iter()
            .fold(proto(), |list, value| list.message(1, value));
        proto().message(5, list)
    };
    let object = |members: Vec<(&str, Proto)>| {
        let members = members.into_iter().fold(proto(), |list, (key, value)| {
            list.message(1, key_value(key, value))
        });
        proto().message(6, members)
    };
    for (value, expected) in [
        (text("x\"y"), "x\"y"),
        (text(""), ""),
        (proto(), ""),
        (proto().varint(2, 1), "true"),
        (proto().varint(2, 0), "false"),
        (proto().varint(3, 42), "42"),
        (proto().varint(3, -7_i64 as u64), "-7"),
        (proto().fixed64(4, 1.5_f64.to_bits()), "1.5"),
        (proto().fixed64(4, f64::NAN.to_bits()), "NaN"),
        (proto().fixed64(4, f64::NEG_INFINITY.to_bits()), "-Infinity"),
        (proto().bytes(7, b"\xff\x00\x01"), "/wAB"),
        (
            list(vec![text("a"), proto().varint(3, 1), list(vec![])]),
            r#"["a",1,[]]"#,
        ),
        (
            object(vec![("k", text("v")), ("o", object(vec![("n", proto())]))]),
            r#"{"k":"v","o":{"n":null}}"#,
        ),
        // Of a oneof that is sent twice the last one counts.
        (text("first").varint(3, 2), "2"),
        (list(vec![text("a")]).varint(3, 2), "2"),
        (
            text("first").bytes(5, list(vec![text("a")]).0.split_at(2).1),
            r#"["a"]"#,
        ),
        // What a later version may send beside it changes nothing.
        (text("x").varint(99, 1), "x"),
        (list(vec![text("a")]).varint(99, 1), r#"["a"]"#),
    ] {
        let log = proto()
            .message(5, value.clone())
            .message(6, key_value("a", value));
        let row = row(log);
        assert_eq!(row["Body"], expected);
        assert_eq!(row["LogAttributes"]["a"], expected);
    }
}

#[test]
fn records_have_the_resource_and_the_scope_around_them_wherever_those_stand() {
    let scope_logs = |scope: &str, bodies: &[&str], scope_first: bool| {
        let scope = proto().bytes(1, scope);
        let start = if scope_first {
            proto().message(1, scope.clone())
        } else {
            proto()
        };
        let logs = bodies
            .iter()
            .fold(start, |logs, body| logs.message(2, record(body)));
        if scope_first { logs } else { logs.message(1, scope) }
    };
    let resource = |service: &str| proto().message(1, key_value("service.name", text(service)));
    let request = proto()
        .message(
            1,
            proto()
                .message(1, resource("one"))
                .message(2, scope_logs("s1", &["a", "b"], true))
                .message(2, scope_logs("s2", &["c"], false)),
        )
        .message(1, proto().message(1, resource("empty")))
        .message(
            1,
            proto()
                .message(2, scope_logs("s3", &["d"], false))
                .message(1, resource("two")),
        )
        .message(1, proto().message(2, proto().message(2, record("e"))));
    let seen: Vec<String> = rows(&request)
        .iter()
        .map(|row| format!("{} {} {}", row["ServiceName"], row["ScopeName"], row["Body"]).replace('"', ""))
        .collect();
    assert_eq!(seen, ["one s1 a", "one s1 b", "one s2 c", "two s3 d", "  e"]);
}

#[test]
fn what_stands_before_all_records_is_not_looked_for_behind_them() {
    let scope_logs = |scope: &str, body: &str| {
        let scope_logs = proto().message(1, proto().bytes(1, scope)).bytes(3, "urn:scope");
        scope_logs.message(2, record(body)).message(2, record(body))
    };
    let resource_logs = proto()
        .message(1, proto().message(1, key_value("service.name", text("one"))))
        .bytes(3, "urn:resource")
        .message(2, scope_logs("s1", "a"))
        .message(2, scope_logs("s2", "b"));
    let request = proto()
        .message(1, resource_logs.clone())
        .message(1, resource_logs);
    let rows = rows(&request);
    let seen: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["ScopeName"], row["Body"]).replace('"', ""))
        .collect();
    assert_eq!(seen, ["s1 a", "s1 a", "s2 b", "s2 b"].repeat(2));
    for row in rows {
        let of_all = [
            &row["ServiceName"],
            &row["ResourceSchemaUrl"],
            &row["ScopeSchemaUrl"],
        ];
        assert_eq!(of_all, ["one", "urn:resource", "urn:scope"]);
    }
}

#[test]
fn a_bad_record_is_rejected_alone() {
    let limits = Limits {
        depth_max: 4,
        attributes_per_row_max: 2,
        line_bytes_max: 4096,
        ..Limits::default()
    };
    let deep = (0..5).fold(text("x"), |value, _| {
        proto().message(5, proto().message(1, value))
    });
    let attributes = ["a", "b", "c"].iter().fold(record("b"), |record, key| {
        record.message(6, key_value(key, text("v")))
    });
    for (bad, reason) in [
        (record("b").bytes(5, b"\x0a\x05four"), RejectReason::Protobuf),
        (proto().bytes(5, b"\x80"), RejectReason::Protobuf),
        (proto().message(5, proto().bytes(1, b"\xff")), RejectReason::Utf8),
        (
            record("b").message(6, proto().bytes(1, b"\xc3").message(2, text("v"))),
            RejectReason::Utf8,
        ),
        (proto().message(5, deep), RejectReason::TooDeep),
        (attributes, RejectReason::Attributes),
        (record(&"x".repeat(5000)), RejectReason::TooLong),
        (
            proto().message(6, key_value(&"k".repeat(300), text("v"))),
            RejectReason::Attributes,
        ),
    ] {
        let request = request([record("before"), bad, record("after")]);
        let taken = take(&default_table(), &limits, &request).unwrap();
        let bodies: Vec<&Json> = taken.rows.iter().map(|row| &row["Body"]).collect();
        assert_eq!(bodies, ["before", "after"], "{reason:?}");
        assert_eq!(taken.errors.first[0].row, 1);
        assert_eq!(taken.errors.first[0].reason, reason);
    }
}

#[test]
fn a_bad_message_is_refused_as_a_whole() {
    for bad in [
        &b"\x0a\x05four"[..],
        b"\x0a\x04\x12\x05\x12\x01",
        b"{\"resourceLogs\":[]}",
        b"\xff",
    ] {
        let bytes = [&request([record("good")]).0, bad].concat();
        assert!(Message::parse(&bytes).is_err(), "{bad:?}");
    }
    assert_eq!(Message::parse(b"").map(|message| message.records()), Ok(0));
}

#[test]
fn records_beyond_a_pass_and_a_batch_all_come_in_order() {
    let limits = Limits {
        batch_rows_max: 100,
        batches_per_table: 1,
        chunk_bytes: 4096,
        ..Limits::default()
    };
    let resource = proto().message(1, key_value("service.name", text("s")));
    let logs = (0..1000).fold(proto().message(1, proto().bytes(1, "scope")), |logs, i| {
        logs.message(2, record(&i.to_string()).bytes(9, [1; 16]))
    });
    let request = proto().message(1, proto().message(1, resource).message(2, logs));
    let taken = take(&default_table(), &limits, &request).unwrap();
    assert_eq!(taken.accepted, 1000);
    for (i, row) in taken.rows.iter().enumerate() {
        assert_eq!(row["Body"], i.to_string());
        assert_eq!(
            (&row["ServiceName"], &row["ScopeName"]),
            (&json!("s"), &json!("scope"))
        );
    }
}

#[test]
fn more_names_than_are_remembered_are_forgotten_in_between() {
    let limits = Limits {
        attributes_per_row_max: 128,
        ..Limits::default()
    };
    let records = (0..60).map(|row| {
        (0..100).fold(record(""), |record, i| {
            record.message(6, key_value(&format!("k{row}.{i}"), text("v")))
        })
    });
    let taken = take(&default_table(), &limits, &request(records)).unwrap();
    assert_eq!((taken.accepted, taken.errors.count), (60, 0));
    for (number, row) in taken.rows.iter().enumerate() {
        assert_eq!(row["LogAttributes"].as_object().unwrap().len(), 100);
        assert_eq!(row["LogAttributes"][format!("k{number}.99")], "v");
    }
}

#[test]
fn a_table_of_other_columns_gets_what_it_has_names_for() {
    let columns = [
        ("Body", "String"),
        ("SeverityNumber", "Int32"),
        ("rest", "Map(String, String)"),
    ];
    let columns = columns.map(|(name, type_name)| RawColumn {
        name: name.into(),
        type_name: type_name.into(),
        ..RawColumn::default()
    });
    let schema = Arc::new(TableSchema::from_columns(name(), &columns, "").unwrap());
    let log = record("b").varint(2, 9).message(6, key_value("a", text("v")));
    let taken = take(&schema, &Limits::default(), &request([log])).unwrap();
    assert_eq!(
        taken.rows,
        [json!({"Body": "b", "SeverityNumber": 9, "rest": {}})]
    );
}

#[test]
fn replies_are_the_messages_of_the_protocol() {
    let put = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        out
    };
    assert_eq!(put(&|out| put_response(0, "", out)), b"");
    assert_eq!(
        put(&|out| put_response(3, "why", out)),
        b"\x0a\x07\x08\x03\x12\x03why"
    );
    assert_eq!(put(&|out| put_status(3, "why", out)), b"\x08\x03\x12\x03why");
    assert_eq!(put(&|out| put_json_response(0, "", out)), b"{}");
    assert_eq!(
        serde_json::from_slice::<Json>(&put(&|out| put_json_response(2, "a \"b\"", out))).unwrap(),
        json!({"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "a \"b\""}})
    );
    assert_eq!(
        put(&|out| put_json_status(3, "why", out)),
        br#"{"code":3,"message":"why"}"#
    );
}

/// A resource of 32 KiB that 500 empty records share makes 16 MiB of rows.
#[test]
fn a_long_resource_of_many_empty_records_fills_one_batch_after_the_other() {
    let limits = Limits {
        chunk_bytes: 4096,
        line_bytes_max: 64 << 10,
        batch_bytes_max: 64 << 10,
        ..Limits::default()
    };
    let long = "x".repeat(32 << 10);
    let resource = proto().message(1, key_value("a", text(&long)));
    let records = (0..500).fold(proto(), |scope, _| scope.message(2, proto()));
    let request = proto().message(1, proto().message(1, resource).message(2, records));
    let taken = take(&default_table(), &limits, &request).unwrap();

    let json = json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "a", "value": {"stringValue": long}}]},
        "scopeLogs": [{"logRecords": vec![json!({}); 500]}],
    }]});
    let taken_json = json::take_json(&limits, json.to_string().as_bytes()).unwrap();
    // What a batch may have is compared in there.
    assert_eq!((taken.accepted, taken_json.accepted), (500, 500));
    assert_eq!(taken.rows[499]["ResourceAttributes"], json!({"a": long}));
}

proptest! {
    #[test]
    fn a_damaged_message_is_refused_or_its_records_are_taken_or_rejected(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let attribute = key_value("a", proto().message(5, proto().message(1, text("x")).message(1, proto().varint(3, 9))));
        let logs = (0..5).fold(proto().message(1, proto().bytes(1, "scope")), |logs, i| {
            logs.message(2, record(&i.to_string()).bytes(9, [i; 16]).message(6, attribute.clone()))
        });
        let mut request = proto().message(1, proto().message(1, proto().message(1, attribute.clone())).message(2, logs));
        for (at, byte) in damage {
            let at = at.index(request.0.len());
            request.0[at] = byte;
        }
        if let Some(cut) = cut {
            request.0.truncate(cut.index(request.0.len()));
        }
        // Counts are compared in there.
        let _ = take(&default_table(), &Limits::default(), &request);
    }
}
