//! The JSON form beside the protobuf form of the same records.

use super::*;
use crate::batch::{RowInput, TableSink};
use crate::clickhouse::frame::FrameEncoder;
use crate::column::rows::Rows;
use crate::json::{MessageParser, Parser, RowErrors, RowFaultKind};
use crate::mapping::MappingConfig;
use crate::message::testing::NOW_NS;

pub(super) fn take_json(limits: &Limits, text: &[u8]) -> Result<Taken, String> {
    let mut parser = MessageParser::new(limits);
    let taken = parser.parse(text, |nodes| {
        let message = JsonMessage::parse(nodes).map_err(|wrong| wrong.to_string())?;
        Ok(take_all(&default_table(), limits, &message))
    });
    taken.map_err(|fault| fault.to_string())?
}

/// The one row of a request of one record.
fn json_row(record: &str) -> Result<Json, RejectReason> {
    let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
    let mut taken = take_json(&Limits::default(), text.as_bytes()).unwrap();
    match taken.errors.first.first() {
        None => Ok(taken.rows.remove(0)),
        Some(error) => Err(error.reason),
    }
}

#[test]
fn every_member_has_its_column() {
    let text = br#"{"resourceLogs":[{
        "resource":{"attributes":[{"key":"host.name","value":{"stringValue":"node-1"}},
            {"key":"service.name","value":{"stringValue":"checkout"}}],"droppedAttributesCount":7},
        "scopeLogs":[{
            "scope":{"name":"logger","version":"1.2.3","attributes":[{"key":"thread","value":{"intValue":"4"}}]},
            "logRecords":[{
                "timeUnixNano":"1700000001000000002","observedTimeUnixNano":"1700000001000000007",
                "severityNumber":17,"severityText":"Error","body":{"stringValue":"it broke"},
                "attributes":[{"key":"http.method","value":{"stringValue":"GET"}},{"key":"retries","value":{"intValue":3}}],
                "droppedAttributesCount":2,"flags":257,
                "traceId":"00112233445566778899AABBCCDDEEFF","spanId":"0123456789abcdef","eventName":"order.failed"}],
            "schemaUrl":"urn:scope"}],
        "schemaUrl":"urn:resource"}]}"#;
    assert_eq!(
        take_json(&Limits::default(), text).unwrap().rows,
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
fn takes_values_in_every_form_they_are_written_in() {
    for (value, expected) in [
        (r#"{"stringValue":"x\"y"}"#, "x\"y"),
        (r#"{"stringValue":"cut \ud83d"}"#, "cut \u{fffd}"),
        (r#"{"boolValue":false}"#, "false"),
        (r#"{"intValue":"-9223372036854775808"}"#, "-9223372036854775808"),
        (r#"{"intValue":9223372036854775807}"#, "9223372036854775807"),
        (r#"{"intValue":1e3}"#, "1000"),
        (r#"{"intValue":"1e3"}"#, "1000"),
        (r#"{"doubleValue":1.5}"#, "1.5"),
        (r#"{"doubleValue":"-0.25"}"#, "-0.25"),
        (r#"{"doubleValue":100000000000000000000}"#, "1e20"),
        (r#"{"doubleValue":"NaN"}"#, "NaN"),
        (r#"{"doubleValue":"-Infinity"}"#, "-Infinity"),
        (r#"{"bytesValue":"/wAB"}"#, "/wAB"),
        (r#"{"bytesValue":"_wA"}"#, "/wA="),
        (
            r#"{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":1},{},{"arrayValue":{}}]}}"#,
            r#"["a",1,null,[]]"#,
        ),
        (
            r#"{"kvlistValue":{"values":[{"value":{"intValue":1},"key":"k"},{"key":"n"}]}}"#,
            r#"{"k":1,"n":null}"#,
        ),
        // null is absent, unknown members are passed over, the last of a oneof counts.
        (r#"{"stringValue":"x","intValue":null,"newValue":[1,{}]}"#, "x"),
        (r#"{"stringValue":"x","intValue":2}"#, "2"),
        (r#"{}"#, ""),
        (r#"null"#, ""),
    ] {
        let record = format!(r#"{{"body":{value},"attributes":[{{"value":{value},"key":"a"}}]}}"#);
        let row = json_row(&record).unwrap();
        assert_eq!(row["Body"], expected, "{value}");
        assert_eq!(row["LogAttributes"]["a"], expected, "{value}");
    }
}

#[test]
fn a_wrong_record_is_rejected_alone() {
    let nested = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        format!(r#"{{"body":{open}{}}}"#, "]}}".repeat(levels))
    };
    assert!(json_row(&nested(63)).is_ok());
    for (bad, reason) in [
        ("7", RejectReason::Type),
        (r#"{"body":"text"}"#, RejectReason::Type),
        (r#"{"body":{"stringValue":1}}"#, RejectReason::Type),
        (r#"{"body":{"boolValue":"true"}}"#, RejectReason::Type),
        (r#"{"body":{"intValue":1.5}}"#, RejectReason::Type),
        (
            r#"{"body":{"intValue":"9223372036854775808"}}"#,
            RejectReason::Type,
        ),
        (
            r#"{"body":{"intValue":99999999999999999999}}"#,
            RejectReason::Type,
        ),
        (r#"{"body":{"doubleValue":"inf"}}"#, RejectReason::Type),
        (r#"{"body":{"bytesValue":"*"}}"#, RejectReason::Type),
        (r#"{"body":{"arrayValue":[]}}"#, RejectReason::Type),
        (r#"{"attributes":{}}"#, RejectReason::Type),
        (r#"{"attributes":[{"key":1}]}"#, RejectReason::Type),
        (r#"{"timeUnixNano":"yesterday"}"#, RejectReason::Type),
        (r#"{"timeUnixNano":-1}"#, RejectReason::Type),
        (r#"{"severityNumber":"SEVERITY_NUMBER_INFO"}"#, RejectReason::Type),
        (r#"{"flags":4294967296}"#, RejectReason::Type),
        (r#"{"traceId":"xyz0"}"#, RejectReason::Type),
        (r#"{"spanId":"123"}"#, RejectReason::Type),
        (&nested(65), RejectReason::TooDeep),
        (&nested(300), RejectReason::TooDeep),
    ] {
        let good = |body| format!(r#"{{"body":{{"stringValue":"{body}"}}}}"#);
        let records = [good("before"), bad.to_owned(), good("after")].join(",");
        let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
        let taken = take_json(&Limits::default(), text.as_bytes()).unwrap();
        let bodies: Vec<&Json> = taken.rows.iter().map(|row| &row["Body"]).collect();
        assert_eq!(bodies, ["before", "after"], "{bad}");
        assert_eq!(
            (taken.errors.first[0].row, taken.errors.first[0].reason),
            (1, reason),
            "{bad}"
        );
    }
    // What is wrong around records is wrong for each of them.
    let text = br#"{"resourceLogs":[{"resource":7,"scopeLogs":[{"logRecords":[{},{}]}]},{"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    let taken = take_json(&Limits::default(), text).unwrap();
    assert_eq!((taken.accepted, taken.errors.count), (1, 2));
}

#[test]
fn a_message_of_another_structure_is_refused_as_a_whole() {
    for bad in [
        "7",
        "[]",
        "null",
        r#"{"resourceLogs":{}}"#,
        r#"{"resourceLogs":[1]}"#,
        r#"{"resourceLogs":[{"scopeLogs":"x"}]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[[]]}]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":{}}]}]}"#,
    ] {
        let wrong = take_json(&Limits::default(), bad.as_bytes()).err().unwrap();
        assert!(
            wrong.starts_with("not an ExportLogsServiceRequest"),
            "{bad}: {wrong}"
        );
    }
    for empty in [
        "{}",
        r#"{"resourceLogs":null}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":null},{}]},{},null]}"#,
        r#"{"resource_logs":7}"#,
    ] {
        let taken = take_json(&Limits::default(), empty.as_bytes()).unwrap();
        assert_eq!((taken.accepted, taken.errors.count), (0, 0), "{empty}");
    }
    let mut parser = MessageParser::new(&Limits::default());
    let deep = [b"[".repeat(2000), b"]".repeat(2000)].concat();
    let fault = parser.parse(&deep, |_| ()).unwrap_err();
    assert_eq!(fault.kind, RowFaultKind::TooDeep);
}

#[test]
fn a_message_parsed_again_goes_on_where_it_was() {
    let records: Vec<String> = (0..500)
        .map(|number| format!(r#"{{"body":{{"stringValue":"{number}"}}}}"#))
        .collect();
    let (first, second) = records.split_at(200);
    let scope_logs = |records: &[String]| format!(r#"{{"logRecords":[{}]}}"#, records.join(","));
    let text = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{}]}},{{"scopeLogs":[{}]}}]}}"#,
        scope_logs(first),
        scope_logs(second)
    );
    let limits = Limits {
        batch_rows_max: 64,
        batches_per_table: 1,
        ..Limits::default()
    };
    let mut sink = TableSink::new(default_table(), &MappingConfig::default(), &limits);
    let (mut parser, mut errors) = (Parser::new(&limits), RowErrors::new(&limits));
    let mut messages = MessageParser::new(&limits);
    let (mut at, mut bodies) = (0, Vec::new());
    while at < records.len() {
        let pushed = messages.parse(text.as_bytes(), |nodes| {
            let message = JsonMessage::parse(nodes).unwrap();
            assert_eq!(message.records(), records.len());
            message.push(at, &mut sink, &mut parser, at as u64, NOW_NS, &mut errors)
        });
        at += pushed.unwrap().consumed;
        for batch in sink.open().map(|(batch, _)| batch).collect::<Vec<_>>() {
            let mut frames = Vec::new();
            sink.seal(batch, &mut FrameEncoder::new(), &mut frames);
            let block = Rows::read(&frames).unwrap();
            for row in 0..block.len() {
                let mut json = Vec::new();
                block.put_json(row, &mut json);
                bodies.push(serde_json::from_slice::<Json>(&json).unwrap()["Body"].clone());
            }
        }
    }
    let expected: Vec<Json> = (0..500).map(|number| json!(number.to_string())).collect();
    assert_eq!((bodies, errors.count), (expected, 0));
}

#[derive(Debug, Clone)]
enum Any {
    Nothing,
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Any>),
    Object(Vec<(String, Any)>),
}

#[derive(Debug, Clone)]
struct Log {
    times: (u64, u64),
    severity: (i32, String),
    body: Any,
    attributes: Vec<(String, Any)>,
    flags: u32,
    ids: (Vec<u8>, Vec<u8>),
    event: String,
}

/// A resource with one scope.
#[derive(Debug, Clone)]
struct Group {
    resource: Vec<(String, Any)>,
    scope: (String, String, Vec<(String, Any)>),
    urls: (String, String),
    logs: Vec<Log>,
}

/// How JSON is written.
#[derive(Debug, Clone, Copy)]
struct Manner {
    integers_as_texts: bool,
    backwards: bool,
    upper_case: bool,
    nulls: bool,
}

fn proto_value(value: &Any) -> Proto {
    match value {
        Any::Nothing => proto(),
        Any::Text(value) => text(value),
        Any::Bool(truth) => proto().varint(2, u64::from(*truth)),
        Any::Int(number) => proto().varint(3, *number as u64),
        Any::Double(number) => proto().fixed64(4, number.to_bits()),
        Any::Bytes(bytes) => proto().bytes(7, bytes),
        Any::List(values) => {
            let values = values
                .iter()
                .fold(proto(), |list, value| list.message(1, proto_value(value)));
            proto().message(5, values)
        }
        Any::Object(members) => proto().message(6, proto_attributes(proto(), 1, members)),
    }
}

fn proto_attributes(message: Proto, number: u32, attributes: &[(String, Any)]) -> Proto {
    attributes.iter().fold(message, |message, (key, value)| {
        message.message(number, key_value(key, proto_value(value)))
    })
}

fn proto_request(groups: &[Group]) -> Proto {
    groups.iter().fold(proto(), |request, group| {
        let (name, version, attributes) = &group.scope;
        let scope = proto_attributes(proto().bytes(1, name).bytes(2, version), 3, attributes);
        let logs = group.logs.iter().fold(proto(), |logs, log| {
            let record = proto()
                .fixed64(1, log.times.0)
                .fixed64(11, log.times.1)
                .varint(2, log.severity.0 as u64)
                .bytes(3, &log.severity.1)
                .message(5, proto_value(&log.body))
                .fixed32(8, log.flags)
                .bytes(9, &log.ids.0)
                .bytes(10, &log.ids.1)
                .bytes(12, &log.event);
            logs.message(2, proto_attributes(record, 6, &log.attributes))
        });
        let scope_logs = logs.message(1, scope).bytes(3, &group.urls.1);
        let resource = proto_attributes(proto(), 1, &group.resource);
        let resource_logs = proto()
            .message(1, resource)
            .message(2, scope_logs)
            .bytes(3, &group.urls.0);
        request.message(1, resource_logs)
    })
}

impl Manner {
    fn object(self, mut members: Vec<(&str, String)>) -> String {
        if self.nulls {
            members.push(("unknownName", r#"{"a":[null,{}]}"#.to_owned()));
            members.push(("droppedAttributesCount", "null".to_owned()));
        }
        if self.backwards {
            members.reverse();
        }
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("{}: {value}", json!(name)))
            .collect();
        format!("{{{}}}", members.join(" ,\n"))
    }

    fn integer(self, number: impl std::fmt::Display) -> String {
        match self.integers_as_texts {
            true => format!("\"{number}\""),
            false => number.to_string(),
        }
    }

    fn id(self, id: &[u8]) -> String {
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        json!(if self.upper_case {
            digits.to_uppercase()
        } else {
            digits
        })
        .to_string()
    }

    fn value(self, value: &Any) -> String {
        use base64::Engine;
        let list = |values: Vec<String>| self.object(vec![("values", format!("[{}]", values.join(",")))]);
        self.object(vec![match value {
            Any::Nothing => return if self.nulls { "null" } else { "{}" }.to_owned(),
            Any::Text(text) => ("stringValue", json!(text).to_string()),
            Any::Bool(truth) => ("boolValue", truth.to_string()),
            Any::Int(number) => ("intValue", self.integer(number)),
            Any::Double(number) if number.is_nan() => ("doubleValue", "\"NaN\"".to_owned()),
            Any::Double(number) if *number == f64::INFINITY => ("doubleValue", "\"Infinity\"".to_owned()),
            Any::Double(number) if number.is_infinite() => ("doubleValue", "\"-Infinity\"".to_owned()),
            Any::Double(number) => ("doubleValue", format!("{number:?}")),
            Any::Bytes(bytes) => (
                "bytesValue",
                json!(base64::prelude::BASE64_STANDARD.encode(bytes)).to_string(),
            ),
            Any::List(values) => (
                "arrayValue",
                list(values.iter().map(|value| self.value(value)).collect()),
            ),
            Any::Object(members) => ("kvlistValue", list(self.key_values(members))),
        }])
    }

    fn key_values(self, attributes: &[(String, Any)]) -> Vec<String> {
        let key_value = |(key, value): &(String, Any)| {
            self.object(vec![
                ("key", json!(key).to_string()),
                ("value", self.value(value)),
            ])
        };
        attributes.iter().map(key_value).collect()
    }

    fn attributes(self, attributes: &[(String, Any)]) -> String {
        format!("[{}]", self.key_values(attributes).join(","))
    }

    fn log(self, log: &Log) -> String {
        self.object(vec![
            ("timeUnixNano", self.integer(log.times.0)),
            ("observedTimeUnixNano", self.integer(log.times.1)),
            ("severityNumber", log.severity.0.to_string()),
            ("severityText", json!(log.severity.1).to_string()),
            ("body", self.value(&log.body)),
            ("attributes", self.attributes(&log.attributes)),
            ("flags", log.flags.to_string()),
            ("traceId", self.id(&log.ids.0)),
            ("spanId", self.id(&log.ids.1)),
            ("eventName", json!(log.event).to_string()),
        ])
    }

    fn request(self, groups: &[Group]) -> String {
        let resource_logs = |group: &Group| {
            let logs: Vec<String> = group.logs.iter().map(|log| self.log(log)).collect();
            let scope = self.object(vec![
                ("name", json!(group.scope.0).to_string()),
                ("version", json!(group.scope.1).to_string()),
                ("attributes", self.attributes(&group.scope.2)),
            ]);
            let scope_logs = self.object(vec![
                ("scope", scope),
                ("logRecords", format!("[{}]", logs.join(","))),
                ("schemaUrl", json!(group.urls.1).to_string()),
            ]);
            self.object(vec![
                (
                    "resource",
                    self.object(vec![("attributes", self.attributes(&group.resource))]),
                ),
                ("scopeLogs", format!("[{scope_logs}]")),
                ("schemaUrl", json!(group.urls.0).to_string()),
            ])
        };
        let groups: Vec<String> = groups.iter().map(resource_logs).collect();
        self.object(vec![("resourceLogs", format!("[{}]", groups.join(",")))])
    }
}

fn any_value() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Nothing),
        ".{0,12}".prop_map(Any::Text),
        any::<bool>().prop_map(Any::Bool),
        any::<i64>().prop_map(Any::Int),
        any::<f64>().prop_map(Any::Double),
        prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(3.0)
        ]
        .prop_map(Any::Double),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Any::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Any::List),
            prop::collection::vec(("[a-c.]{0,3}", inner), 0..4).prop_map(Any::Object),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<(String, Any)>> {
    prop::collection::vec(("service.name|[a-d.é]{0,4}", any_value()), 0..4)
}

fn log() -> impl Strategy<Value = Log> {
    let time = || prop_oneof![Just(0), 1..2_000_000_000_000_000_000_u64];
    let id = |bytes| {
        prop_oneof![
            Just(Vec::new()),
            Just(vec![0; bytes]),
            prop::collection::vec(any::<u8>(), bytes)
        ]
    };
    (
        (time(), time()),
        (0..26_i32, "|INFO|warn|[a-z]{3}"),
        any_value(),
        attributes(),
        any::<u32>(),
        (id(16), id(8)),
        "|[a-z.]{1,8}",
    )
        .prop_map(|(times, severity, body, attributes, flags, ids, event)| Log {
            times,
            severity,
            body,
            attributes,
            flags,
            ids,
            event,
        })
}

fn group() -> impl Strategy<Value = Group> {
    (
        attributes(),
        ("[a-z]{0,4}", "[0-9.]{0,4}", attributes()),
        ("[a-z:]{0,6}", "[a-z:]{0,6}"),
        prop::collection::vec(log(), 0..4),
    )
        .prop_map(|(resource, scope, urls, logs)| Group {
            resource,
            scope,
            urls,
            logs,
        })
}

proptest! {
    #[test]
    fn rows_are_those_of_the_protobuf_form(
        groups in prop::collection::vec(group(), 0..4),
        (integers_as_texts, backwards, upper_case, nulls) in any::<(bool, bool, bool, bool)>(),
    ) {
        let manner = Manner { integers_as_texts, backwards, upper_case, nulls };
        let limits = Limits { batch_rows_max: 3, batches_per_table: 1, chunk_bytes: 4096, ..Limits::default() };
        let text = manner.request(&groups);
        let json = take_json(&limits, text.as_bytes()).unwrap();
        let proto = take(&default_table(), &limits, &proto_request(&groups)).unwrap();
        prop_assert_eq!(json.errors.first, proto.errors.first, "{}", text);
        prop_assert_eq!(json.rows, proto.rows, "{}", text);
    }

    #[test]
    fn a_damaged_text_is_refused_or_its_records_are_taken_or_rejected(
        groups in prop::collection::vec(group(), 1..3),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let manner = Manner { integers_as_texts: true, backwards: false, upper_case: false, nulls: false };
        let mut text = manner.request(&groups).into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(text.len()));
        }
        // Counts are compared in there.
        let _ = take_json(&Limits::default(), &text);
    }
}
