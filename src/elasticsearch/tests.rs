use proptest::prelude::*;
use serde_json::{Value, json};

use super::filter::Filter;
use super::reply::{BulkReply, IdMaker, put_reply};
use super::*;
use crate::limits::Limits;

/// What a body is read as: each document with its item, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Read {
    documents: Vec<(usize, String, String)>,
    too_long: Vec<usize>,
    missing: Vec<usize>,
    failure: Option<ActionError>,
    items: Vec<(Kind, Outcome, String, String)>,
}

fn limits() -> Limits {
    Limits {
        line_bytes_max: 1024,
        chunk_bytes: 4096,
        ..Limits::default()
    }
}

/// Shows the reader the body in pieces of the lengths given, then the rest.
fn read(body: &[u8], pieces: &[usize], items_max: usize) -> Read {
    let mut reader = BulkReader::new(&limits());
    let mut items = Items::new(items_max, "of_path");
    let mut read = Read::default();
    let mut buffer: Vec<u8> = Vec::new();
    let mut rest = body;
    let mut pieces = pieces.iter();
    loop {
        match reader.next(&mut buffer, rest.is_empty(), &mut items) {
            Bulk::Documents {
                start,
                end,
                first_item,
                documents,
                index,
                consumed,
            } => {
                let text = String::from_utf8_lossy(&buffer[start..end]).into_owned();
                let lines: Vec<&str> = text
                    .split('\n')
                    .filter(|line| !line.trim_matches([' ', '\t', '\r']).is_empty())
                    .collect();
                assert_eq!(lines.len(), documents, "{text:?}");
                for (at, line) in lines.into_iter().enumerate() {
                    let index = items.index_name(index).to_owned();
                    read.documents.push((first_item + at, index, line.to_owned()));
                }
                buffer.drain(..consumed);
            }
            Bulk::NeedMore { consumed } => {
                assert!(!rest.is_empty(), "asked for more than there is");
                buffer.drain(..consumed);
                let length = pieces.next().copied().unwrap_or(rest.len()).clamp(1, rest.len());
                buffer.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
            Bulk::TooLong { item, consumed, .. } => {
                read.too_long.push(item);
                buffer.drain(..consumed);
            }
            Bulk::Missing { item, consumed, .. } => {
                read.missing.push(item);
                buffer.drain(..consumed);
            }
            Bulk::Failed(error) => {
                read.failure = Some(error);
                break;
            }
            Bulk::Done => break,
        }
    }
    read.items = items
        .iter()
        .map(|item| (item.kind, item.outcome, item.index.to_owned(), item.id.to_owned()))
        .collect();
    read
}

/// The same, line by line.
fn naive(body: &[u8], items_max: usize) -> Read {
    let is_blank = |line: &[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
    let mut read = Read::default();
    let mut lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if is_blank(line) {
            continue;
        }
        let malformed = Some(ActionError::Malformed(at as u64));
        let Ok(action) = serde_json::from_slice::<Value>(line) else {
            read.failure = malformed;
            break;
        };
        let action = action
            .as_object()
            .and_then(|members| (members.len() == 1).then(|| members.iter().next().unwrap()));
        let Some((name, metadata)) = action else {
            read.failure = malformed;
            break;
        };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
            read.failure = malformed;
            break;
        };
        if read.items.len() == items_max {
            read.failure = Some(ActionError::TooMany);
            break;
        }
        let index = metadata["_index"].as_str().unwrap_or("of_path").to_owned();
        let id = match &metadata["_id"] {
            Value::Null => String::new(),
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let outcome = match kind {
            Kind::Index | Kind::Create => Outcome::Created,
            Kind::Update | Kind::Delete => Outcome::Unsupported,
        };
        let item = read.items.len();
        read.items.push((kind, outcome, index.clone(), id));
        if kind == Kind::Delete {
            continue;
        }
        let document = lines.get(at).copied();
        at += 1;
        if outcome != Outcome::Created {
            continue;
        }
        match document {
            Some(document) if document.len() > 1024 => read.too_long.push(item),
            Some(document) if !is_blank(document) => {
                let text = String::from_utf8_lossy(document).into_owned();
                read.documents.push((item, index, text));
            }
            _ => read.missing.push(item),
        }
    }
    read
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => Just(&br#"{"create":{}}"#[..]).prop_map(Vec::from),
        4 => Just(&br#"{"create":{"_index":"logs"}}"#[..]).prop_map(Vec::from),
        4 => Just(&br#"{ "index" : { "_index" : "logs", "_id" : "a1", "routing": {"x": [1]} } } "#[..]).prop_map(Vec::from),
        1 => Just(&br#"{"index":{"_id":17}}"#[..]).prop_map(Vec::from),
        1 => Just(&br#"{"update":{"_id":"x"}}"#[..]).prop_map(Vec::from),
        1 => Just(&br#"{"delete":{"_id":"x"}}"#[..]).prop_map(Vec::from),
        16 => "\\{\"message\":\"[a-z ]{0,30}\"\\}\r?".prop_map(String::into_bytes),
        1 => Just(b"".to_vec()),
        1 => Just(b" \t\r".to_vec()),
        1 => (1000_usize..1100).prop_map(|length| vec![b'x'; length]),
        1 => prop::collection::vec(any::<u8>().prop_filter("no line end", |byte| *byte != b'\n'), 1..20),
    ];
    (prop::collection::vec(line, 0..24), any::<bool>()).prop_map(|(lines, ended)| {
        let mut body = lines.join(&b'\n');
        if ended {
            body.push(b'\n');
        }
        body
    })
}

/// Bodies as clients write them: few lines are out of place.
fn pairs() -> impl Strategy<Value = Vec<u8>> {
    let action = prop::sample::select(vec![
        r#"{"create":{}}"#,
        r#"{"create":{}}"#,
        r#"{"create":{"_index":"a"}}"#,
        r#"{"index":{"_index":"b","_id":"7"}}"#,
    ]);
    let document = "\\{\"m\":\"[a-z]{0,9}\"\\}";
    prop::collection::vec((action, document), 0..40).prop_map(|pairs| {
        let lines = pairs
            .iter()
            .map(|(action, document)| format!("{action}\n{document}\n"));
        lines.collect::<String>().into_bytes()
    })
}

proptest! {
    #[test]
    fn reads_what_a_naive_reader_does_however_the_body_arrives(
        body in prop_oneof![lines(), pairs()],
        pieces in prop::collection::vec(1_usize..200, 0..40),
        items_max in prop_oneof![Just(1000_usize), 1_usize..6],
    ) {
        // The oracle parses whole documents: what it takes for an action, and the reader does not, is none to compare.
        let expected = naive(&body, items_max);
        prop_assert_eq!(&read(&body, &pieces, items_max), &expected);
        prop_assert_eq!(&read(&body, &[], items_max), &expected);
    }
}

#[test]
fn reads_the_same_at_every_split() {
    let body = b"{\"create\":{}}\n{\"a\":1}\n{\"create\":{\"_index\":\"x\"}}\n{\"a\":2}\n\n{\"delete\":{\"_id\":\"1\"}}\n\
                 {\"update\":{\"_id\":\"1\"}}\n{\"doc\":{}}\n{\"index\":{}}\n\n{\"index\":{}}\n{\"a\":3}\n{\"index\":{}}";
    let expected = naive(body, 100);
    assert_eq!(expected.items.len(), 7);
    assert_eq!(expected.missing, [4, 6]);
    for split in 0..body.len() {
        assert_eq!(read(body, &[split], 100), expected, "split at {split}");
    }
    assert_eq!(read(body, &vec![1; body.len()], 100), expected);
}

#[test]
fn documents_of_one_index_stand_in_one_run() {
    let body = "{\"create\":{\"_index\":\"x\"}}\n{\"a\":1}\n".repeat(3);
    let mut buffer = body.into_bytes();
    let mut items = Items::new(10, "");
    let found = BulkReader::new(&limits()).next(&mut buffer, true, &mut items);
    let Bulk::Documents {
        documents,
        first_item,
        consumed,
        ..
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((documents, first_item, consumed), (3, 0, buffer.len()));
}

#[test]
fn rejects_lines_that_are_no_action() {
    for line in [
        "7",
        "[]",
        "{}",
        r#"{"attempts":0}"#,
        r#"{"create":7}"#,
        r#"{"create":null}"#,
        r#"{"put":{}}"#,
        r#"{"create":{"_index":7}}"#,
        r#"{"create":{"_id":true}}"#,
        r#"{"create":{}} x"#,
        r#"{"create":{},"index":{}}"#,
    ] {
        let body = format!("{{\"create\":{{}}}}\n{{\"a\":1}}\n{line}\n{{}}\n");
        let read = read(body.as_bytes(), &[], 10);
        assert_eq!(read.failure, Some(ActionError::Malformed(3)), "{line}");
        assert_eq!(read.documents.len(), 1, "{line}");
    }
    let long = format!("{{\"create\":{{\"x\":\"{}\"}}}}\n{{}}\n", "x".repeat(9000));
    for pieces in [&[][..], &[8500]] {
        assert_eq!(
            read(long.as_bytes(), pieces, 10).failure,
            Some(ActionError::TooLong(1))
        );
    }
}

#[test]
fn accepts_what_else_stands_beside_an_action() {
    for line in [
        r#"{"index":{"_index":"a","pipeline":null},"attempts":0}"#,
        r#"{"attempts":{"index":{}},"index":{"_index":"a"}}"#,
    ] {
        let action = Action::parse(line.as_bytes(), 1).expect(line);
        assert_eq!((action.kind, action.index.as_deref()), (Kind::Index, Some("a")));
    }
}

#[test]
fn names_that_are_too_long_cost_their_item() {
    let body = format!(
        "{{\"create\":{{\"_index\":\"{}\"}}}}\n{{\"a\":1}}\n{{\"create\":{{\"_id\":\"{}\"}}}}\n{{\"a\":2}}\n{{\"create\":{{}}}}\n{{\"a\":3}}\n",
        "é".repeat(128),
        "x".repeat(513)
    );
    let read = read(body.as_bytes(), &[], 10);
    let outcomes: Vec<Outcome> = read.items.iter().map(|item| item.1).collect();
    assert_eq!(outcomes, [Outcome::Name, Outcome::Name, Outcome::Created]);
    assert_eq!(read.documents.len(), 1);
}

fn reply(items: &Items, filter: Filter) -> Value {
    let mut out = Vec::new();
    let reply = BulkReply {
        took_ms: 3,
        filter,
        ids: IdMaker { maker: 5, first: 70 },
        nameless: "otel_logs",
    };
    put_reply(&mut out, &reply, items, |item| {
        (item == 1).then_some("column \"A\": bad")
    });
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn some_items() -> Items {
    let mut body =
        b"{\"create\":{}}\n{\"a\":1}\n{\"index\":{\"_index\":\"x\",\"_id\":\"a\\u0041\\\"\"}}\n{\"a\":2}\n\
          {\"delete\":{\"_id\":\"d\"}}\n{\"create\":{}}\n{\"a\":3}\n"
            .to_vec();
    let mut items = Items::new(10, "");
    let mut reader = BulkReader::new(&limits());
    loop {
        match reader.next(&mut body, true, &mut items) {
            Bulk::Documents { consumed, .. } => drop(body.drain(..consumed)),
            Bulk::Done => break,
            other => panic!("{other:?}"),
        }
    }
    items.reject(1, crate::json::RejectReason::Type);
    items.mark(3..4, Outcome::Full);
    items
}

#[test]
fn every_item_is_told_what_became_of_it() {
    let reply = reply(&some_items(), Filter::ALL);
    let id = reply["items"][0]["create"]["_id"].as_str().unwrap();
    assert_eq!(id.len(), 20);
    assert_eq!(
        reply,
        json!({"took": 3, "errors": true, "items": [
            {"create": {"_index": "otel_logs", "_id": id, "_version": 1, "result": "created",
                "_shards": {"total": 1, "successful": 1, "failed": 0}, "_seq_no": 70, "_primary_term": 1, "status": 201}},
            {"index": {"_index": "x", "_id": "aA\"", "status": 400,
                "error": {"type": "document_parsing_exception", "reason": "column \"A\": bad"}}},
            {"delete": {"_index": "otel_logs", "_id": "d", "status": 400, "error": {"type": "illegal_argument_exception",
                "reason": "rows are neither updated nor deleted here; send index or create"}}},
            {"create": {"_index": "otel_logs", "_id": null, "status": 429, "error": {"type": "es_rejected_execution_exception",
                "reason": "the server holds as many rows as it can; send this item again later"}}},
        ]})
    );
}

#[test]
fn made_ids_differ_between_documents_and_makers() {
    let mut ids = std::collections::HashSet::new();
    for maker in [0, 1, 1 << 16, u64::MAX] {
        for first in [0, 1000] {
            for item in 0..1000 {
                assert!(ids.insert(IdMaker { maker, first }.id(item)));
            }
        }
    }
}

#[test]
fn only_what_filter_path_names_is_told() {
    let items = some_items();
    let told = |patterns: &str| reply(&items, Filter::parse(patterns));
    let everything = reply(&items, Filter::ALL);
    for (patterns, expected) in [
        ("errors", json!({"errors": true})),
        ("took,errors", json!({"took": 3, "errors": true})),
        (
            "errors,items.*.error.type,items.*.status",
            json!({"errors": true, "items": [
                {"create": {"status": 201}},
                {"index": {"status": 400, "error": {"type": "document_parsing_exception"}}},
                {"delete": {"status": 400, "error": {"type": "illegal_argument_exception"}}},
                {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}},
            ]}),
        ),
        ("items.index._id", json!({"items": [{"index": {"_id": "aA\""}}]})),
        (
            "items.**.total",
            json!({"items": [{"create": {"_shards": {"total": 1}}}]}),
        ),
        (
            "items.d*.err*",
            json!({"items": [{"delete": {"error": everything["items"][2]["delete"]["error"]}}]}),
        ),
        ("-items", json!({"took": 3, "errors": true})),
        ("items.*.status,-items.create", {
            json!({"items": [{"index": {"status": 400}}, {"delete": {"status": 400}}]})
        }),
        ("none", json!({})),
        ("items.*.status.more", json!({})),
        ("a.b.c.d.e.f.g.h.i", json!({})),
    ] {
        assert_eq!(told(patterns), expected, "{patterns}");
    }
    for patterns in ["", "**", "*", "took,errors,items", "-none"] {
        assert_eq!(told(patterns), everything, "{patterns}");
    }
    assert_eq!(
        reply(&Items::new(1, ""), Filter::parse("items,errors")),
        json!({"errors": false})
    );
}

#[test]
fn probes_answer_json_and_the_version_they_claim() {
    let root = probes::find("GET", "/").unwrap();
    let root: Value = serde_json::from_str(&root.body).unwrap();
    assert_eq!(root["version"]["number"], probes::VERSION);
    for path in [
        "/_license",
        "/_xpack",
        "/_cluster/health",
        "/_nodes/http",
        "/_ilm/policy/x",
        "/_ingest/pipeline/x",
    ] {
        let probe = probes::find("GET", path).unwrap();
        assert!(serde_json::from_str::<Value>(&probe.body).is_ok(), "{path}");
    }
    assert!(probes::find("PUT", "/_index_template/x").is_some());
    for (method, path) in [
        ("POST", "/"),
        ("GET", "/_search"),
        ("GET", "/x"),
        ("DELETE", "/_ilm/policy/x"),
    ] {
        assert_eq!(probes::find(method, path), None, "{method} {path}");
    }
    assert!(probes::find("GET", "/logs-app/_refresh").is_some());
    assert!(probes::find("POST", "/_refresh").is_some());
    assert!(probes::index("HEAD", "logs-app").is_some());
    for name in ["", "_bulk", "a/b", "a\"b"] {
        assert_eq!(probes::index("HEAD", name), None, "{name}");
    }
}
