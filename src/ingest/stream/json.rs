//! JSON over TCP: a row a line, behind a first line that may name a token and fields for all of them.

use std::io;

use serde_json::{Map, Value};

use crate::json::{RowForm, RowsText, Split, Splitter};

use super::{Received, Stream};

/// The first line of a connection, when it is no row: `{"authToken": "...", "fields": {...}}`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    token: Option<String>,
    /// The fields as members of a JSON object, without the braces around them.
    members: String,
}

impl Header {
    /// Takes a line apart; `None` when it is a row.
    fn parse(line: &[u8]) -> Option<Header> {
        let Ok(Value::Object(header)) = serde_json::from_slice(line) else {
            return None;
        };
        let is_header = header.get("authToken").is_some_and(Value::is_string)
            && header
                .iter()
                .all(|(key, value)| key == "authToken" || (key == "fields" && value.is_object()));
        let fields = header.get("fields").and_then(Value::as_object);
        is_header.then(|| Header {
            token: header.get("authToken").and_then(Value::as_str).map(str::to_owned),
            members: fields.map(members).unwrap_or_default(),
        })
    }
}

fn members(fields: &Map<String, Value>) -> String {
    let object = Value::Object(fields.clone()).to_string();
    object[1..object.len() - 1].to_owned()
}

impl Stream<'_> {
    /// Takes rows until the stream ends.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn take_json(&mut self) -> io::Result<()> {
        let core = self.core;
        let mut end = false;
        let header = self.header(&mut end).await?;
        if self.port.require_key {
            self.come_under(header.token.as_deref())
                .map_err(|refusal| self.refused(&refusal))?;
        }
        let mut splitter = Splitter::of_lines(&core.limits);
        let mut with_members = Vec::new();
        let mut broken = None;
        loop {
            let consumed = match splitter.next(self.buffer.unread(), end) {
                Split::Rows(rows) => {
                    let Some(table) = core.table_of_port(&self.port, self.rows.key.as_deref()).await else {
                        return Ok(());
                    };
                    core.metrics.bytes_decoded.add(rows.consumed as u64);
                    let text = rows.text(self.buffer.unread());
                    if header.members.is_empty() {
                        self.rows.push(core, &table, &text, None).await;
                    } else {
                        let mut rest = text.bytes;
                        while !rest.is_empty() {
                            with_members.clear();
                            rest = put_members(
                                rest,
                                &header.members,
                                core.limits.chunk_bytes,
                                &mut with_members,
                            );
                            let text = RowsText {
                                bytes: &with_members,
                                form: RowForm::Lines,
                            };
                            self.rows.push(core, &table, &text, None).await;
                        }
                    }
                    rows.consumed
                }
                Split::TooLong { consumed } => {
                    let Some(table) = core.table_of_port(&self.port, self.rows.key.as_deref()).await else {
                        return Ok(());
                    };
                    self.rows.reject_too_long(core, &table);
                    consumed
                }
                Split::NeedMore { consumed } => {
                    self.consume(consumed);
                    match self.receive(None).await {
                        Ok(received) => end = received == Received::End,
                        Err(error) => (end, broken) = (true, Some(error)),
                    }
                    0
                }
                Split::BodyError(_) => unreachable!("lines are never at fault together"),
                Split::Done => return broken.map_or(Ok(()), Err),
            };
            self.consume(consumed);
        }
    }

    /// Reads the first line and drops it if it is a header; one longer than a head of HTTP is a row.
    async fn header(&mut self, end: &mut bool) -> io::Result<Header> {
        loop {
            let bytes = self.buffer.unread();
            let is_begun = bytes.first().is_none_or(|first| *first == b'{');
            let line = memchr::memchr(b'\n', bytes);
            if let Some(line) = line {
                let header = Header::parse(&bytes[..line]);
                if header.is_some() {
                    self.consume(line + 1);
                }
                return Ok(header.unwrap_or_default());
            }
            if *end || !is_begun || bytes.len() > self.core.limits.head_bytes_max {
                return Ok(Header::default());
            }
            *end = self.receive(None).await? == Received::End;
        }
    }
}

/// Appends lines from the front of `text` with `members` in each object, until `out` has `bytes_max`; the lines left. A member of the
/// row's own stands behind them and replaces one of the same name.
fn put_members<'t>(text: &'t [u8], members: &str, bytes_max: usize, out: &mut Vec<u8>) -> &'t [u8] {
    let mut rest = text;
    while !rest.is_empty() && out.len() < bytes_max {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        let line = rest[..end].trim_ascii();
        rest = &rest[end..];
        match line.strip_prefix(b"{") {
            Some(inner) => {
                out.push(b'{');
                out.extend_from_slice(members.as_bytes());
                let inner = inner.trim_ascii_start();
                if inner.first() != Some(&b'}') {
                    out.push(b',');
                }
                out.extend_from_slice(inner);
            }
            None => out.extend_from_slice(line),
        }
        out.push(b'\n');
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_is_a_header_only_if_it_names_a_token_and_nothing_else() {
        let members = |line: &str| Header::parse(line.as_bytes()).map(|header| header.members);
        assert_eq!(members(r#"{"authToken":"t"}"#), Some(String::new()));
        let fields = r#"{"authToken":"t","fields":{"a":"b\"","n":1}} "#;
        assert_eq!(members(fields), Some(r#""a":"b\"","n":1"#.to_owned()));
        for row in [
            r#"{"fields":{"a":1}}"#,
            r#"{"authToken":7}"#,
            r#"{"authToken":"t","fields":7}"#,
            r#"{"authToken":"t","message":"x"}"#,
            r#"["authToken"]"#,
            r#"{"authToken":"t""#,
            "",
        ] {
            assert_eq!(members(row), None, "{row}");
        }
    }

    #[test]
    fn fields_come_before_the_members_of_every_row_in_bounded_pieces() {
        let text = b"{\"a\":1}\n\n {} \r\n{ }\nno row\n{\"b\":2}";
        let mut all = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let mut out = Vec::new();
            rest = put_members(rest, "\"f\":0", 20, &mut out);
            assert!(out.len() < 20 + 30, "{}", out.len());
            all.extend_from_slice(&out);
        }
        let expected = "{\"f\":0,\"a\":1}\n\n{\"f\":0}\n{\"f\":0}\nno row\n{\"f\":0,\"b\":2}\n";
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }
}
