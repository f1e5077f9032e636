//! The text of a dead letter: one JSON object a line, its row last and untouched.

use super::Letter;
use crate::http::date::civil;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What stands before the row. No string before it can hold these bytes: inside one, a quote follows a backslash, and
/// the quote that ends one is followed by a comma.
const ROW: &[u8] = b",\"row\":";

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) id: String,
    /// RFC 3339, of fixed width: times compare as texts.
    pub(super) time: String,
    pub(super) table: String,
    pub(super) code: i32,
    pub(super) reason: String,
    /// JSON as it was given: no number or key is read and written again on the way back to the server.
    pub(super) row: &'a str,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    time: String,
    table: String,
    code: i32,
    reason: String,
}

/// Appends a letter and its newline.
pub(super) fn encode(letter: &Letter, out: &mut Vec<u8>) {
    begin(
        out,
        &letter.key,
        &rfc3339(letter.time_unix_ms),
        &letter.table,
        letter.code,
        &letter.reason,
    );
    let row = letter.row.trim_ascii();
    if row.starts_with('{') && serde_json::from_str::<IgnoredAny>(row).is_ok() {
        // JSON strings hold no raw line ends: those that are there are whitespace.
        out.extend(row.bytes().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => other,
        }));
    } else {
        string(out, &letter.row);
    }
    out.extend_from_slice(b"}\n");
}

impl<'a> Line<'a> {
    /// Reads a line without its newline; `None` when it is not as [`encode`] writes it.
    pub(super) fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let line = str::from_utf8(line).ok()?;
        let at = memchr::memmem::find(line.as_bytes(), ROW)?;
        let head: Head = serde_json::from_str(&format!("{}}}", &line[..at])).ok()?;
        let row = line[at + ROW.len()..].strip_suffix('}')?;
        serde_json::from_str::<IgnoredAny>(row).ok()?;
        Some(Line {
            id: head.id,
            time: head.time,
            table: head.table,
            code: head.code,
            reason: head.reason,
            row,
        })
    }

    /// Appends the line and its newline with another code and reason.
    pub(super) fn encode_with(&self, code: i32, reason: &str, out: &mut Vec<u8>) {
        begin(out, &self.id, &self.time, &self.table, code, reason);
        out.extend_from_slice(self.row.as_bytes());
        out.extend_from_slice(b"}\n");
    }
}

/// The id of a line, without reading the rest of it.
pub(super) fn id(line: &[u8]) -> Option<String> {
    let line = line.strip_prefix(b"{\"id\":")?;
    // As with `ROW`: no string holds these bytes.
    let end = memchr::memmem::find(line, b",\"time\":")?;
    serde_json::from_slice(&line[..end]).ok()
}

fn begin(out: &mut Vec<u8>, id: &str, time: &str, table: &str, code: i32, reason: &str) {
    out.extend_from_slice(b"{\"id\":");
    string(out, id);
    out.extend_from_slice(b",\"time\":");
    string(out, time);
    out.extend_from_slice(b",\"table\":");
    string(out, table);
    out.extend_from_slice(b",\"code\":");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.extend_from_slice(b",\"reason\":");
    string(out, reason);
    out.extend_from_slice(ROW);
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is JSON and a vector takes it");
}

/// `2026-01-31T23:59:59.999Z`. A time before 1970 shows as 1970, one after 9999 as that year's end.
fn rfc3339(unix_ms: i64) -> String {
    const UNIX_MS_MAX: i64 = 253_402_300_799_999;
    let unix_ms = unix_ms.clamp(0, UNIX_MS_MAX).cast_unsigned();
    let (second, ms) = (unix_ms / 1000 % 86_400, unix_ms % 1000);
    let (year, month, day) = civil(unix_ms / 86_400_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(row: &str) -> Letter {
        Letter {
            key: "k".into(),
            time_unix_ms: 1_769_903_999_999,
            table: "d.t".into(),
            code: 469,
            reason: "r".into(),
            row: row.into(),
        }
    }

    fn encoded(letter: &Letter) -> String {
        let mut out = Vec::new();
        encode(letter, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_letter_is_this_line() {
        assert_eq!(
            encoded(&letter(r#"{"n":18446744073709551616,"n":1.0}"#)),
            "{\"id\":\"k\",\"time\":\"2026-01-31T23:59:59.999Z\",\"table\":\"d.t\",\"code\":469,\"reason\":\"r\",\
             \"row\":{\"n\":18446744073709551616,\"n\":1.0}}\n"
        );
    }

    #[test]
    fn a_row_of_several_lines_becomes_one() {
        assert!(encoded(&letter("{\r\n \"a\": 1\n}\n")).ends_with("\"row\":{   \"a\": 1 }}\n"));
    }

    #[test]
    fn what_is_no_object_is_kept_as_a_string() {
        for row in ["{\"a\":", "[1]", "", "{\"a\":1}{", "a\nb \"c\"", "{\"a\":\"\n\"}"] {
            let text = encoded(&letter(row));
            assert_eq!(text.matches('\n').count(), 1, "{row:?}");
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["row"], row);
        }
    }

    #[test]
    fn reads_what_it_writes_whatever_the_texts_hold() {
        for text in [
            "plain",
            "",
            ",\"row\":{}",
            "\\",
            "ends,",
            "\",\"row\":",
            "\u{1}\n\u{e9}\u{2028}",
            ",\"time\":\"",
        ] {
            let letter = Letter {
                key: text.into(),
                table: text.into(),
                reason: text.into(),
                row: format!("{{\"a\":{}}}", serde_json::to_string(text).unwrap()),
                ..letter("")
            };
            let written = encoded(&letter);
            let line = written.strip_suffix('\n').unwrap();
            let read = Line::parse(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((&*read.id, &*read.table, &*read.reason), (text, text, text));
            assert_eq!((read.code, read.row), (469, &*letter.row));
            assert_eq!(id(written.as_bytes()).as_deref(), Some(text));
            let mut again = Vec::new();
            read.encode_with(469, text, &mut again);
            assert_eq!(again, written.as_bytes());
            for end in 0..line.len() {
                assert_eq!(Line::parse(&line.as_bytes()[..end]), None, "{}", &line[..end]);
            }
        }
    }

    #[test]
    fn times_are_of_fixed_width() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
