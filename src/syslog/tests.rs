//! Streams and messages as senders write them, pushed into a table and read back from its blocks.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::batch::Span;
use crate::batch::taken::take_all;
use crate::limits::Limits;
use crate::schema::{RawColumn, Schema, TableName, TableSchema};
use crate::timestamp::DateCache;
use crate::zone::Zone;

/// 2023-11-14T22:13:20.123456789Z
const NOW_NS: i64 = 1_700_000_000_123_456_789;
const NOW_S: i64 = NOW_NS / 1_000_000_000;

fn name() -> TableName {
    TableName {
        database: "d".into(),
        table: "t".into(),
    }
}

fn default_table() -> Schema {
    Arc::new(TableSchema::default_table(name()))
}

fn spans_of<'m>(messages: impl IntoIterator<Item = &'m [u8]>) -> (Vec<u8>, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for message in messages {
        let start = bytes.len();
        bytes.extend_from_slice(message);
        spans.push(Span::new(start, bytes.len()));
    }
    (bytes, spans)
}

fn rows_with<'m>(limits: &Limits, messages: impl IntoIterator<Item = &'m [u8]>) -> Vec<Json> {
    let (bytes, spans) = spans_of(messages);
    let input = Messages {
        bytes: &bytes,
        spans: &spans,
    };
    let taken = take_all(&default_table(), limits, &input, NOW_NS);
    assert_eq!(taken.errors.count, 0, "{:?}", taken.errors.first);
    assert_eq!(taken.count, spans.len() as u64);
    taken.rows
}

/// The one row of a message, without the columns that are empty.
fn row(message: impl AsRef<[u8]>) -> Json {
    let mut rows = rows_with(&Limits::default(), [message.as_ref()]);
    let mut row = rows.pop().unwrap();
    row.as_object_mut().unwrap().retain(|_, value| {
        !matches!(value, Json::String(text) if text.is_empty()) && *value != json!({}) && *value != json!(0)
    });
    row
}

#[test]
fn the_examples_of_rfc_5424_are_read() {
    let bom = '\u{feff}';
    assert_eq!(
        row(format!(
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - {bom}'su root' failed for lonvick on /dev/pts/8"
        )),
        json!({
            "Timestamp": "2003-10-11 22:14:15.003000000", "SeverityText": "crit", "SeverityNumber": 18,
            "ServiceName": "su", "Body": "'su root' failed for lonvick on /dev/pts/8",
            "ResourceAttributes": {"host.name": "mymachine.example.com"},
            "LogAttributes": {"syslog.facility": "auth", "syslog.msgid": "ID47"},
        })
    );
    assert_eq!(
        row(
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts."
        ),
        json!({
            "Timestamp": "2003-08-24 12:14:15.000003000", "SeverityText": "notice", "SeverityNumber": 10,
            "ServiceName": "myproc", "Body": "%% It's time to make the do-nuts.",
            "ResourceAttributes": {"host.name": "192.0.2.1"},
            "LogAttributes": {"syslog.facility": "local4", "syslog.procid": "8710"},
        })
    );
    let data = r#"[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]"#;
    let attributes = json!({
        "syslog.facility": "local4", "syslog.msgid": "ID47",
        "exampleSDID@32473.iut": "3", "exampleSDID@32473.eventSource": "Application",
        "exampleSDID@32473.eventID": "1011", "examplePriority@32473.class": "high",
    });
    let head = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47";
    let with_text = row(format!("{head} {data} {bom}An application event log entry..."));
    assert_eq!(with_text["Body"], "An application event log entry...");
    assert_eq!(with_text["LogAttributes"], attributes);
    let without_text = row(format!("{head} {data}"));
    assert_eq!(
        (without_text.get("Body"), &without_text["LogAttributes"]),
        (None, &attributes)
    );
}

#[test]
fn the_examples_of_rfc_3164_are_read() {
    assert_eq!(
        row("<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8"),
        json!({
            "Timestamp": "2023-10-11 22:14:15.000000000", "SeverityText": "crit", "SeverityNumber": 18,
            "ServiceName": "su", "Body": "'su root' failed for lonvick on /dev/pts/8",
            "ResourceAttributes": {"host.name": "mymachine"}, "LogAttributes": {"syslog.facility": "auth"},
        })
    );
    assert_eq!(
        row("Use the BFG!"),
        json!({
            "Timestamp": "2023-11-14 22:13:20.123456789", "SeverityText": "notice", "SeverityNumber": 10,
            "Body": "Use the BFG!", "LogAttributes": {"syslog.facility": "user"},
        })
    );
    // The RFC itself calls CST the host here.
    let zone = "<165>Aug 24 05:34:00 CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.";
    assert_eq!(
        row(zone)["Body"],
        "1987 mymachine myproc[10]: %% It's time to make the do-nuts."
    );
    let year = "1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!";
    let row = row(format!("<0>{year}"));
    assert_eq!(
        (&row["Body"], &row["SeverityText"], &row["SeverityNumber"]),
        (&json!(year), &json!("emerg"), &json!(21))
    );
}

fn parsed(text: &str) -> Message<'_> {
    parse(text, NOW_S, Zone::UTC, &mut DateCache::default())
}

#[test]
fn what_senders_make_of_rfc_3164_is_read() {
    for (text, hostname, app_name, procid, content) in [
        (
            "<13>Nov  9 10:00:00 host app[12]: text: more",
            "host",
            "app",
            "12",
            "text: more",
        ),
        (
            "<13>Nov 09 10:00:00 host postfix/smtpd[7]:",
            "host",
            "postfix/smtpd",
            "7",
            "",
        ),
        ("<13>Nov 9 10:00:00.250 host app: text", "host", "app", "", "text"),
        (
            "<13>Nov  9 2023 10:00:00 host app: text",
            "host",
            "app",
            "",
            "text",
        ),
        (
            "<13>2023-11-09T11:00:00.5+01:00 host app: text",
            "host",
            "app",
            "",
            "text",
        ),
        // Written by the host's own C library.
        ("<13>Nov  9 10:00:00 app[12]: text", "", "app", "12", "text"),
        ("<13>Nov  9 10:00:00 app: text", "", "app", "", "text"),
        // No tag.
        ("<13>Nov  9 10:00:00 host a text", "host", "", "", "a text"),
        ("<13>Nov  9 10:00:00 host tag:text", "host", "", "", "tag:text"),
        ("<13>Nov  9 10:00:00 host tag[text", "host", "", "", "tag[text"),
        (
            "<13>Nov  9 10:00:00 fe80::1 app: text",
            "fe80::1",
            "app",
            "",
            "text",
        ),
        ("<13>Nov  9 10:00:00", "", "", "", ""),
        ("<13>Nov  9 10:00:00: %SYS-5: text", "", "%SYS-5", "", "text"),
    ] {
        let message = parsed(text);
        assert!(message.time_ns.is_some(), "{text}");
        assert_eq!(
            (message.hostname, message.app_name, message.procid, message.text),
            (hostname, app_name, procid, content),
            "{text}"
        );
    }
}

#[test]
fn what_is_in_neither_form_is_text_and_nothing_of_it_is_lost() {
    for (text, severity, kept) in [
        ("<13>no time", 5, "no time"),
        ("<192>Oct 11 22:14:15 h t: x", 5, "<192>Oct 11 22:14:15 h t: x"),
        ("<00>Oct 11 22:14:15 h t: x", 5, "<00>Oct 11 22:14:15 h t: x"),
        ("<>x", 5, "<>x"),
        ("<1", 5, "<1"),
        ("<0>", 0, ""),
        ("<3>Oct 32 22:14:15 h t: x", 3, "Oct 32 22:14:15 h t: x"),
        ("<3>Oct 11 25:14:15 h t: x", 3, "Oct 11 25:14:15 h t: x"),
        ("<3>1 2003-10-11 h a - - - x", 3, "1 2003-10-11 h a - - - x"),
        ("<3>1 - h a -", 3, "1 - h a -"),
        ("<3>1 - h  - - - x", 3, "1 - h  - - - x"),
        (
            "<3>1 9999-10-11T22:14:15Z h a - - - x",
            3,
            "1 9999-10-11T22:14:15Z h a - - - x",
        ),
        (
            "<3>1 1960-10-11T22:14:15Z h a - - - x",
            3,
            "1 1960-10-11T22:14:15Z h a - - - x",
        ),
        ("<3>0 - h a - - - x", 3, "0 - h a - - - x"),
    ] {
        let message = parsed(text);
        let expected = Message {
            priority: message.priority,
            text: kept,
            ..Message::default()
        };
        assert_eq!(
            (message, message.priority.severity()),
            (expected, severity),
            "{text}"
        );
    }
    // Structured data that is none stays in the text.
    for data in [
        "[",
        "[a",
        "[a b]",
        "[a b=c]",
        r#"[a b="c]"#,
        r#"[a b="c\"#,
        r#"[a b="c"]x"#,
        "[]",
        "x y",
    ] {
        let text = format!("<3>1 - h a - - {data}");
        assert_eq!((parsed(&text).hostname, parsed(&text).text), ("h", data));
    }
}

#[test]
fn structured_data_becomes_attributes() {
    let attributes = |data: &str| {
        let mut attributes = row(format!("<14>1 - - - - - {data} text"))["LogAttributes"].clone();
        attributes.as_object_mut().unwrap().remove("syslog.facility");
        attributes
    };
    assert_eq!(
        attributes(r#"[a b="\"\]\\ \n ]"]"#.replace(" ]", " \\]").as_str()),
        json!({"a.b": "\"]\\ \\n ]"})
    );
    assert_eq!(
        attributes(r#"[a][b c="" d="é[="]"#),
        json!({"a": "", "b.c": "", "b.d": "é[="})
    );
    assert_eq!(
        attributes(r#"[origin ip="192.0.2.1" ip="192.0.2.129" software="x"]"#),
        json!({"origin.ip": r#"["192.0.2.1","192.0.2.129"]"#, "origin.software": "x"})
    );
    // Beyond a bound it is one text.
    let many: String = (0..2000).map(|param| format!(" p{param}=\"\"")).collect();
    for data in [format!("[a{many}]"), format!("[{} b=\"\"]", "a".repeat(300))] {
        assert_eq!(attributes(&data), json!({"syslog.structured_data": data}));
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_the_row_is_kept() {
    let broken = row(b"<14>1 - h\xff a - - [a b=\"\xfe\\\"\"] caf\xe9 \xf0\x9f\x98");
    assert_eq!(
        (
            &broken["Body"],
            &broken["ResourceAttributes"]["host.name"],
            &broken["LogAttributes"]["a.b"]
        ),
        (
            &json!("caf\u{fffd} \u{fffd}"),
            &json!("h\u{fffd}"),
            &json!("\u{fffd}\"")
        )
    );
}

#[test]
fn a_table_of_other_columns_is_asked_for_the_same_names() {
    let raw = [
        ("Body", "String"),
        ("ServiceName", "String"),
        ("LogAttributes", "Map(String, String)"),
    ]
    .map(|(name, type_name)| RawColumn {
        name: name.into(),
        type_name: type_name.into(),
        ..RawColumn::default()
    });
    let schema = Arc::new(TableSchema::from_columns(name(), &raw, "").unwrap());
    let message = b"<14>Nov  9 10:00:00 h app[12]: text";
    let input = Messages {
        bytes: message,
        spans: &[Span::new(0, message.len())],
    };
    let taken = take_all(&schema, &Limits::default(), &input, NOW_NS);
    assert_eq!(taken.errors.count, 0, "{:?}", taken.errors.first);
    let row = &taken.rows[0];
    assert_eq!(
        (&row["Body"], &row["ServiceName"]),
        (&json!("text"), &json!("app")),
        "{row}"
    );
    assert_eq!(
        row["LogAttributes"],
        json!({
            "Timestamp": "1699524000000000000", "SeverityText": "info", "SeverityNumber": "9",
            "ResourceAttributes": r#"{"host.name":"h"}"#, "syslog.facility": "user", "syslog.procid": "12",
        })
    );
}

/// A year without a 29 February, one with, and the turn of the year.
#[test]
fn a_time_without_a_year_is_at_most_a_day_ahead_and_the_latest_such() {
    use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Utc};
    let mut random = fastrand::Rng::with_seed(0x5eed_0003);
    for _ in 0..5_000 {
        let now = DateTime::<Utc>::from_timestamp(random.i64(0..4_000_000_000), 0).unwrap();
        let sent = DateTime::<Utc>::from_timestamp(random.i64(0..4_000_000_000), 0).unwrap();
        let expected = (1960..=2100)
            .filter_map(|year| {
                let naive = sent.naive_utc().with_year(year)?;
                Some(Utc.from_utc_datetime(&naive))
            })
            .rfind(|time| *time <= now + TimeDelta::days(1))
            .unwrap();
        let text = format!("<13>{} h a: x", sent.format("%b %e %H:%M:%S"));
        let message = parse(&text, now.timestamp(), Zone::UTC, &mut DateCache::default());
        let time = u64::try_from(expected.timestamp())
            .ok()
            .map(|seconds| seconds * 1_000_000_000);
        assert_eq!(message.time_ns, time, "{text} at {now}");
    }
}

#[test]
fn a_time_without_a_zone_is_of_the_listener_s() {
    let seconds = |text: &str, now_s: i64, zone: &str| {
        let message = parse(text, now_s, zone.parse().unwrap(), &mut DateCache::default());
        message.time_ns.map(|nanos| nanos / 1_000_000_000)
    };
    // 2023-11-14T22:13:20Z
    assert_eq!(
        seconds("<13>Nov 14 23:13:20 h a: x", NOW_S, "+01:00"),
        Some(NOW_S as u64)
    );
    assert_eq!(
        seconds("<13>Nov 14 23:13:20 h a: x", NOW_S, "Europe/Berlin"),
        Some(NOW_S as u64)
    );
    assert_eq!(
        seconds("<13>Nov 14 2023 17:13:20 h a: x", NOW_S, "America/New_York"),
        Some(NOW_S as u64)
    );
    assert_eq!(
        seconds("<13>2023-11-14T23:13:20 h a: x", NOW_S, "+01:00"),
        Some(NOW_S as u64)
    );
    // Whoever names one is believed.
    for text in [
        "<13>2023-11-14T22:13:20Z h a: x",
        "<13>2023-11-14T17:13:20.5-05:00 h a: x",
        "<13>1 2023-11-14T22:13:20Z h a - - - x",
    ] {
        assert_eq!(seconds(text, NOW_S, "Asia/Tokyo"), Some(NOW_S as u64), "{text}");
    }
    // The turn of the year comes when it comes there: 2023-12-31T15:00:05Z.
    let turn_s = 1_704_034_805;
    assert_eq!(
        seconds("<13>Jan  1 00:00:05 h a: x", turn_s, "Asia/Tokyo"),
        Some(turn_s as u64)
    );
    // The hour that Berlin has twice, 2023-10-29T00:30:00Z and an hour later.
    for received_s in [1_698_539_401, 1_698_543_001] {
        let sent = Some(received_s as u64 - 1);
        assert_eq!(
            seconds("<13>Oct 29 02:30:00 h a: x", received_s, "Europe/Berlin"),
            sent
        );
    }
}

/// A message as a stream has it.
#[derive(Debug, Clone)]
enum Written {
    Counted(Vec<u8>),
    Line(Vec<u8>, &'static [u8]),
    Blank,
}

fn short_lines() -> Limits {
    Limits {
        line_bytes_max: 40,
        ..Limits::default()
    }
}

fn written() -> impl Strategy<Value = Written> {
    let text = |bytes: &'static [u8]| prop::collection::vec(prop::sample::select(bytes), 0..60);
    prop_oneof![
        text(b"<13>1 a\n\0\r9").prop_map(|rest| Written::Counted([b"<".as_slice(), &rest].concat())),
        (
            text(b"<13> ab"),
            prop::sample::select(vec![b"\n".as_slice(), b"\r\n", b"\0"])
        )
            .prop_map(|(text, end)| Written::Line([b"x".as_slice(), &text].concat(), end)),
        text(b"0123456789")
            .prop_map(|digits| Written::Line([b"1".as_slice(), &digits, b" a"].concat(), b"\n")),
        Just(Written::Blank),
    ]
}

proptest! {
    /// Oracle: what was written. However it arrives, the messages are the same, and one that is too long costs no other.
    #[test]
    fn a_stream_is_cut_into_what_was_written(
        stream in prop::collection::vec(written(), 0..12),
        pieces in prop::collection::vec(1_usize..30, 1..8),
    ) {
        let mut bytes = Vec::new();
        let mut expected: Vec<Option<Vec<u8>>> = Vec::new();
        for message in &stream {
            let text = match message {
                Written::Counted(text) => {
                    bytes.extend(format!("{} ", text.len()).into_bytes());
                    bytes.extend(text);
                    text
                }
                Written::Line(text, end) => {
                    bytes.extend(text);
                    bytes.extend(*end);
                    text
                }
                Written::Blank => {
                    bytes.push(b'\n');
                    continue;
                }
            };
            let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
            let trailing = text.iter().rev().take_while(|byte| is_end(byte)).count();
            let carriage_return = usize::from(matches!(message, Written::Line(_, b"\r\n")));
            expected.push((text.len() + carriage_return <= short_lines().line_bytes_max)
                .then(|| text[..text.len() - trailing].to_vec()));
        }
        let mut framer = Framer::new(&short_lines());
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut unread = bytes.as_slice();
        let mut pieces = pieces.iter().cycle();
        loop {
            let piece = (*pieces.next().unwrap()).min(unread.len());
            buffer.extend_from_slice(&unread[..piece]);
            unread = &unread[piece..];
            loop {
                match framer.next(&buffer, unread.is_empty()) {
                    Frame::Message { message, consumed } => {
                        found.push(Some(message.of(&buffer).to_vec()));
                        buffer.drain(..consumed);
                    }
                    Frame::TooLong { consumed } => {
                        found.push(None);
                        buffer.drain(..consumed);
                    }
                    Frame::Partial { consumed } => {
                        buffer.drain(..consumed);
                        break;
                    }
                }
            }
            prop_assert!(buffer.len() <= short_lines().line_bytes_max + framing::PREFIX_BYTES_MAX);
            if unread.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }

    /// Oracle: the fields it was written from.
    #[test]
    fn a_message_of_rfc_5424_is_read_as_it_was_written(
        number in 0_u8..192,
        fields in prop::array::uniform4("[!-~é]{1,12}"),
        params in prop::collection::vec(("[a-z@0-9]{1,8}", "[a-zA-Z]{1,8}", "\\PC{0,12}"), 0..5),
        text in "\\PC{0,20}",
    ) {
        let mut data = String::new();
        for (element, name, value) in &params {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
            data += &format!("[{element} {name}=\"{escaped}\"]");
        }
        if params.is_empty() {
            data.push('-');
        }
        let [hostname, app_name, procid, msgid] = &fields;
        let message = format!("<{number}>1 2023-11-14T22:13:20.5Z {hostname} {app_name} {procid} {msgid} {data} {text}");
        let read = parsed(&message);
        let nil = |field: &String| if field == "-" { String::new() } else { field.clone() };
        prop_assert_eq!(read.priority, Priority::new(number).unwrap());
        prop_assert_eq!(read.time_ns, Some(1_700_000_000_500_000_000));
        prop_assert_eq!(
            [read.hostname, read.app_name, read.procid, read.msgid].map(str::to_owned),
            [hostname, app_name, procid, msgid].map(nil)
        );
        prop_assert_eq!(read.text, text.as_str());
        let mut memory = [0; 4096];
        let mut room = crate::message::Room::new(&mut memory, &Limits::default());
        let found: Vec<(String, String, String)> = read
            .structured_data
            .params()
            .map(|param| {
                let value = param.value(&mut room).unwrap();
                (param.element.to_owned(), param.name.to_owned(), value.to_owned())
            })
            .collect();
        prop_assert_eq!(found, params);
    }

    #[test]
    fn every_message_is_a_row_whatever_it_holds(
        messages in prop::collection::vec(
            prop::collection::vec(prop_oneof![
                prop::sample::select(&b"<>1 -[]=\"\\ab:Nov 9 10:00:00\xff\xc3\xa9"[..]),
                any::<u8>(),
            ], 1..80),
            1..40,
        ),
        in_form in any::<bool>(),
    ) {
        let messages: Vec<Vec<u8>> = messages
            .into_iter()
            .map(|message| if in_form { [b"<14>1 - h a p m ".as_slice(), &message].concat() } else { message })
            .collect();
        let limits = Limits { line_bytes_max: 1024, chunk_bytes: 512, attribute_name_bytes_max: 256, ..Limits::default() };
        let rows = rows_with(&limits, messages.iter().map(Vec::as_slice));
        prop_assert_eq!(rows.len(), messages.len());
    }
}

#[test]
fn every_prefix_of_a_message_is_a_row_and_the_stream_waits_for_the_rest() {
    let message = br#"<165>1 2003-10-11T22:14:15.003Z host app 8710 ID47 [a b="c\"d"] text"#;
    let counted = [format!("{} ", message.len()).as_bytes(), message].concat();
    for len in 0..=counted.len() {
        let mut framer = Framer::new(&Limits::default());
        let frame = framer.next(&counted[..len], false);
        assert_eq!(
            matches!(frame, Frame::Message { .. }),
            len == counted.len(),
            "{len} {frame:?}"
        );
    }
    let line = [message.as_slice(), b"\n"].concat();
    for len in 0..=line.len() {
        let mut framer = Framer::new(&Limits::default());
        let frame = framer.next(&line[..len], false);
        assert_eq!(
            matches!(frame, Frame::Message { .. }),
            len == line.len(),
            "{len} {frame:?}"
        );
    }
    for len in 1..message.len() {
        rows_with(&Limits::default(), [&message[..len]]);
    }
}

#[test]
fn a_length_that_cannot_be_is_skipped_in_constant_memory() {
    let limits = Limits::default();
    let mut framer = Framer::new(&limits);
    let mut listed = framer.list(b"1000000000 <13>", false, &mut Vec::new(), 10);
    assert_eq!((listed.consumed, listed.too_long), (15, 1));
    let piece = vec![b'x'; 1 << 20];
    let mut left = 1_000_000_000 - 4;
    while left > 0 {
        let piece = &piece[..piece.len().min(left)];
        listed = framer.list(piece, false, &mut Vec::new(), 10);
        assert_eq!((listed.consumed, listed.too_long), (piece.len(), 0));
        left -= piece.len();
    }
    let mut spans = Vec::new();
    listed = framer.list(b"5 <13>a<13>b\n", false, &mut spans, 10);
    assert_eq!(
        (listed.consumed, spans),
        (13, vec![Span::new(2, 7), Span::new(7, 12)])
    );
}
