//! Parses a body that is one JSON value, whole.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use simd_json::{Buffers, ErrorType, Node, Tape};

use super::parser::{RowFault, fill_tape, quote_large_integers};
use crate::limits::Limits;

/// One per core: its buffers grow to the longest message seen, `message_bytes_max`, and stay.
pub struct MessageParser {
    text: Vec<u8>,
    buffers: Buffers,
    /// Empty between calls: only its memory is kept.
    tape: Vec<Node<'static>>,
}

impl fmt::Debug for MessageParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageParser")
            .field("text_bytes", &self.text.capacity())
            .finish_non_exhaustive()
    }
}

/// Levels of nesting in a message for each of a row: what is deeper costs the message, not the row. A protocol that wraps
/// its values needs some.
const LEVELS_PER_LEVEL: usize = 16;

impl MessageParser {
    /// A parser without memory yet.
    pub fn new(limits: &Limits) -> MessageParser {
        MessageParser {
            text: Vec::new(),
            buffers: Buffers::with_max_depth(0, LEVELS_PER_LEVEL * limits.depth_max),
            tape: Vec::new(),
        }
    }

    /// Shows `take` the nodes of `bytes`, the value's own first.
    ///
    /// # Errors
    /// It is not one JSON value, not UTF-8, or nested far too deep.
    pub fn parse<R>(&mut self, bytes: &[u8], take: impl FnOnce(&[Node<'_>]) -> R) -> Result<R, RowFault> {
        let parsed = pin!(self.parse_for(bytes, async |nodes: &[Node<'_>]| take(nodes)));
        match parsed.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => unreachable!("a closure does not wait"),
        }
    }

    /// As [`MessageParser::parse`], for what pauses between two looks at the nodes.
    ///
    /// # Errors
    /// As [`MessageParser::parse`].
    pub async fn parse_for<R>(
        &mut self,
        bytes: &[u8],
        take: impl AsyncFnOnce(&[Node<'_>]) -> R,
    ) -> Result<R, RowFault> {
        self.text.clear();
        self.text.extend_from_slice(bytes);
        match self.parse_text(take).await {
            Ok(taken) => Ok(taken),
            Err((error, take)) => {
                let fault = RowFault::from_simd_json(&error, 0);
                if !matches!(
                    error.error(),
                    ErrorType::InvalidUtf8 | ErrorType::DepthLimitExceeded
                ) {
                    // JSON that simd-json does not take, and others do.
                    let mut replaced = Vec::new();
                    replace_lone_surrogates(bytes, &mut replaced);
                    self.text.clear();
                    quote_large_integers(&replaced, &mut self.text);
                    if self.text != bytes {
                        return self.parse_text(take).await.map_err(|_| fault);
                    }
                }
                Err(fault)
            }
        }
    }

    /// Gives `take` back when the text does not parse.
    async fn parse_text<R, T: AsyncFnOnce(&[Node<'_>]) -> R>(
        &mut self,
        take: T,
    ) -> Result<R, (simd_json::Error, T)> {
        let mut tape = Tape(mem::take(&mut self.tape));
        let filled = fill_tape(&mut self.text, &mut self.buffers, &mut tape);
        let taken = match filled {
            Ok(()) => Ok(take(&tape.0).await),
            Err(error) => Err((error, take)),
        };
        self.tape = tape.reset().0;
        taken
    }
}

/// Appends `json` with U+FFFD for every escaped half of a surrogate pair without its other half, as an encoder of UTF-8 writes
/// it: JavaScript cuts texts between the two.
fn replace_lone_surrogates(json: &[u8], text: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(escape) = memchr::memchr(b'\\', &json[at..]) {
        text.extend_from_slice(&json[at..at + escape]);
        at += escape;
        let rest = &json[at..];
        let (escape, escape_bytes) = match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (&rest[..12], 12),
            (Some(0xd800..0xe000), _) => (&b"\\ufffd"[..], 6),
            _ => (&rest[..rest.len().min(2)], rest.len().min(2)),
        };
        text.extend_from_slice(escape);
        at += escape_bytes;
    }
    text.extend_from_slice(&json[at..]);
}

/// The code unit that an escape of four digits at the start of `json` stands for.
fn code_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::RowFaultKind;
    use simd_json::StaticNode;

    fn parse(bytes: &[u8]) -> Result<Vec<String>, RowFaultKind> {
        let limits = Limits {
            depth_max: 2,
            ..Limits::default()
        };
        let mut parser = MessageParser::new(&limits);
        let first = parser.parse(bytes, |nodes| {
            nodes.iter().map(|node| format!("{node:?}")).collect()
        });
        // Its memory is used again.
        let again = parser.parse(b"{}", |nodes| nodes.len());
        assert_eq!(again, Ok(1));
        first.map_err(|fault| fault.kind)
    }

    #[test]
    fn accepts_what_others_accept() {
        let string = |text| Ok(vec![format!("{:?}", Node::String(text))]);
        assert_eq!(parse(br#" "a\n" "#), string("a\n"));
        assert_eq!(parse(b"18446744073709551616"), string("18446744073709551616"));
        assert_eq!(
            parse(b"18446744073709551615"),
            Ok(vec![format!("{:?}", Node::Static(StaticNode::U64(u64::MAX)))])
        );
        for (text, expected) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (
                r#""\ude00\ud83d\ude00\ud83dx\\ud83d""#,
                "\u{fffd}\u{1f600}\u{fffd}x\\ud83d",
            ),
            (r#""\ud83d\n\ud83d\ud83d\ude00""#, "\u{fffd}\n\u{fffd}\u{1f600}"),
        ] {
            assert_eq!(parse(text.as_bytes()), string(expected), "{text}");
        }
    }

    #[test]
    fn rejects_what_is_no_value() {
        for text in [
            "",
            " ",
            "{",
            "{}{}",
            "[1,]",
            r#"{"a":18446744073709551616"#,
            "\"\n\"",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(RowFaultKind::Json), "{text}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(RowFaultKind::Utf8));
        assert!(parse(&[b"[".repeat(31), b"]".repeat(31)].concat()).is_ok());
        assert_eq!(
            parse(&[b"[".repeat(40), b"]".repeat(40)].concat()),
            Err(RowFaultKind::TooDeep)
        );
    }
}
