//! Cuts a TCP stream into syslog messages: counted bytes or lines, told apart for each message (RFC 6587).

use memchr::memchr2;

use crate::batch::Span;
use crate::limits::Limits;

/// What stands at the front of the buffer. `consumed` counts from there: the caller drops that many bytes before the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A message, without what ends it. It is never empty.
    Message {
        /// Where it is.
        message: Span,
        /// Bytes to drop once it is taken.
        consumed: usize,
    },
    /// No complete message; more bytes are needed. A buffer of `line_bytes_max` and [`PREFIX_BYTES_MAX`] is enough for
    /// every message.
    Partial {
        /// Bytes that are no part of a message.
        consumed: usize,
    },
    /// A message longer than `line_bytes_max` is dropped, its rest with the bytes to come.
    TooLong {
        /// Bytes of it to drop now.
        consumed: usize,
    },
}

/// Digits of a length; more are text. Ten reach 4 GiB.
const LENGTH_DIGITS_MAX: usize = 10;

/// Bytes in front of a counted message: its length and a space.
pub const PREFIX_BYTES_MAX: usize = LENGTH_DIGITS_MAX + 1;

/// Cuts one stream. It keeps offsets, never bytes.
///
/// Where digits, a space and `<` stand, a counted message begins; a message that is counted and begins otherwise is none of RFC 6587's,
/// and lines of text begin with a number more often. All else ends at the next LF or NUL. Blank lines are no
/// messages.
#[derive(Debug)]
pub struct Framer {
    skip: Skip,
    /// Bytes of a line at the buffer's front that hold no end.
    scanned: usize,
    line_bytes_max: usize,
}

/// What is left to drop of a message that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    Bytes(u64),
    Line,
}

/// What [`Framer::list`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// Bytes to drop once the messages are taken.
    pub consumed: usize,
    /// Messages among them that were too long.
    pub too_long: u64,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new(limits: &Limits) -> Framer {
        Framer {
            skip: Skip::Nothing,
            scanned: 0,
            line_bytes_max: limits.line_bytes_max,
        }
    }

    /// Appends the messages at the front of `bytes` to `spans`, up to `count` of them there.
    pub fn list(&mut self, bytes: &[u8], end_of_stream: bool, spans: &mut Vec<Span>, count: usize) -> Listed {
        let mut listed = Listed::default();
        while spans.len() < count {
            match self.next(&bytes[listed.consumed..], end_of_stream) {
                Frame::Message { message, consumed } => {
                    let from = listed.consumed;
                    spans.push(Span::new(
                        from + message.start as usize,
                        from + message.end as usize,
                    ));
                    listed.consumed += consumed;
                }
                Frame::TooLong { consumed } => {
                    listed.too_long += 1;
                    listed.consumed += consumed;
                }
                Frame::Partial { consumed } => {
                    listed.consumed += consumed;
                    break;
                }
            }
        }
        listed
    }

    /// Looks at the unconsumed bytes of the stream: what the last call left, and what came since. At its end, what there is of a
    /// message is one.
    pub fn next(&mut self, bytes: &[u8], end_of_stream: bool) -> Frame {
        let mut start = match self.skip(bytes) {
            Some(start) => start,
            None => {
                return Frame::Partial {
                    consumed: bytes.len(),
                };
            }
        };
        loop {
            start += bytes[start..].iter().take_while(|byte| is_end(**byte)).count();
            let ahead = &bytes[start..];
            let frame = match counted(ahead) {
                Counted::Message { prefix, len } => self.counted_message(ahead, prefix, len, end_of_stream),
                Counted::Unknown if !end_of_stream => Frame::Partial { consumed: 0 },
                Counted::Unknown | Counted::No => self.line(ahead, end_of_stream),
            };
            return match frame {
                // Nothing but ends of lines.
                Frame::Message { message, consumed } if message.is_empty() => {
                    start += consumed;
                    continue;
                }
                Frame::Message { message, consumed } => Frame::Message {
                    message: Span::new(start + message.start as usize, start + message.end as usize),
                    consumed: start + consumed,
                },
                Frame::Partial { consumed } => Frame::Partial {
                    consumed: start + consumed,
                },
                Frame::TooLong { consumed } => Frame::TooLong {
                    consumed: start + consumed,
                },
            };
        }
    }

    /// Where what is to be dropped ends; `None` beyond `bytes`.
    fn skip(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.skip {
            Skip::Nothing => Some(0),
            Skip::Bytes(left) => {
                let dropped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.skip = match left - dropped as u64 {
                    0 => Skip::Nothing,
                    left => Skip::Bytes(left),
                };
                (self.skip == Skip::Nothing).then_some(dropped)
            }
            Skip::Line => {
                let end = memchr2(b'\n', 0, bytes)?;
                self.skip = Skip::Nothing;
                Some(end + 1)
            }
        }
    }

    fn counted_message(&mut self, ahead: &[u8], prefix: usize, len: u64, end_of_stream: bool) -> Frame {
        let available = ahead.len() - prefix;
        if len > self.line_bytes_max as u64 {
            let dropped = usize::try_from(len).unwrap_or(usize::MAX).min(available);
            self.skip = match len - dropped as u64 {
                0 => Skip::Nothing,
                left => Skip::Bytes(left),
            };
            return Frame::TooLong {
                consumed: prefix + dropped,
            };
        }
        let len = len as usize;
        if available < len && !end_of_stream {
            return Frame::Partial { consumed: 0 };
        }
        message(ahead, prefix, prefix + len.min(available), 0)
    }

    fn line(&mut self, ahead: &[u8], end_of_stream: bool) -> Frame {
        let scanned = std::mem::take(&mut self.scanned).min(ahead.len());
        match memchr2(b'\n', 0, &ahead[scanned..]).map(|end| scanned + end) {
            Some(end) if end > self.line_bytes_max => Frame::TooLong { consumed: end + 1 },
            Some(end) => message(ahead, 0, end, 1),
            None if ahead.len() > self.line_bytes_max => {
                self.skip = Skip::Line;
                Frame::TooLong {
                    consumed: ahead.len(),
                }
            }
            None if end_of_stream && !ahead.is_empty() => message(ahead, 0, ahead.len(), 0),
            None => {
                self.scanned = ahead.len();
                Frame::Partial { consumed: 0 }
            }
        }
    }
}

/// The message `start..end` without the ends of lines it closes with, and `behind` bytes more that belong to it.
fn message(ahead: &[u8], start: usize, end: usize, behind: usize) -> Frame {
    let len = trimmed(&ahead[start..end]).len();
    Frame::Message {
        message: Span::new(start, start + len),
        consumed: end + behind,
    }
}

/// A message without the LF, CR and NUL that some put behind it.
pub fn trimmed(message: &[u8]) -> &[u8] {
    let trailing = message.iter().rev().take_while(|byte| is_end(**byte)).count();
    &message[..message.len() - trailing]
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0)
}

/// Whether a counted message begins here.
enum Counted {
    Message {
        prefix: usize,
        len: u64,
    },
    /// Too few bytes to tell.
    Unknown,
    No,
}

#[inline]
fn counted(ahead: &[u8]) -> Counted {
    if !matches!(ahead.first(), Some(b'1'..=b'9')) {
        return Counted::No;
    }
    let mut len = 0;
    for (at, byte) in ahead.iter().take(PREFIX_BYTES_MAX).enumerate() {
        match (byte, ahead.get(at + 1)) {
            (b'0'..=b'9', _) if at < LENGTH_DIGITS_MAX => len = len * 10 + u64::from(byte - b'0'),
            (b' ', Some(b'<')) => return Counted::Message { prefix: at + 1, len },
            (b' ', None) => return Counted::Unknown,
            _ => return Counted::No,
        }
    }
    if ahead.len() <= PREFIX_BYTES_MAX {
        Counted::Unknown
    } else {
        Counted::No
    }
}
