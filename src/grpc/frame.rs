//! Finds the messages in a stream of bytes: five bytes of prefix, then the message.
//!
//! Source: PROTOCOL-HTTP2.md, "Length-Prefixed-Message".

use std::fmt;

/// Bytes before every message: one says whether it is compressed, four its length, the highest first.
pub const PREFIX_BYTES: usize = 5;

/// Reads one message, or the only one of a call. Takes bytes in pieces of any size.
#[derive(Debug, Clone, Copy)]
pub struct MessageFrame {
    prefix: [u8; PREFIX_BYTES],
    known: usize,
    /// Bytes of the message that are missing; known with the prefix.
    left: u32,
    bytes_max: u32,
    /// Nothing may follow it.
    is_only: bool,
    /// Nothing more comes.
    ended: bool,
}

/// What stands at the start of the bytes received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the prefix, to be skipped.
    pub prefix: usize,
    /// Bytes of the message after them.
    pub payload: usize,
    /// The prefix is complete with this piece: whether the message is compressed.
    pub compressed: Option<bool>,
    /// Nothing of it is missing, once the payload is taken.
    pub end: bool,
}

/// Why the bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The flag is neither 0 nor 1.
    Flag(u8),
    /// Longer than the limit.
    TooLong {
        /// `Limits::message_bytes_max`.
        bytes_max: u32,
    },
    /// The flag says compressed, and no grpc-encoding says how.
    CompressedAsNothing,
    /// The stream ended within the prefix or the message.
    Truncated,
    /// The stream ended without a message.
    None,
    /// Another message follows the only one.
    Another,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Flag(flag) => {
                return write!(
                    f,
                    "a message begins with the flag {flag}, which is neither 0 nor 1"
                );
            }
            FrameError::TooLong { bytes_max } => {
                return write!(
                    f,
                    "a message is longer than {bytes_max} bytes; send it in several"
                );
            }
            FrameError::CompressedAsNothing => "a message is compressed, but no grpc-encoding says how",
            FrameError::Truncated => "the call ended within a message",
            FrameError::None => "the call ended without a message",
            FrameError::Another => "the call has more than one message, and takes one",
        })
    }
}

impl MessageFrame {
    /// One message of at most `bytes_max` bytes, with nothing after it when it `is_only`.
    pub fn new(bytes_max: usize, is_only: bool) -> MessageFrame {
        MessageFrame {
            prefix: [0; PREFIX_BYTES],
            known: 0,
            left: 0,
            bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
            is_only,
            ended: false,
        }
    }

    /// What `received` begins with. Everything that came before has been skipped or taken.
    ///
    /// # Errors
    /// It is no message, or one that is too long.
    pub fn next(&mut self, received: &[u8]) -> Result<Piece, FrameError> {
        let prefix = (PREFIX_BYTES - self.known).min(received.len());
        self.prefix[self.known..self.known + prefix].copy_from_slice(&received[..prefix]);
        self.known += prefix;
        let mut compressed = None;
        if prefix > 0 && self.known == PREFIX_BYTES {
            let [flag, length @ ..] = self.prefix;
            if flag > 1 {
                return Err(FrameError::Flag(flag));
            }
            self.left = u32::from_be_bytes(length);
            if self.left > self.bytes_max {
                return Err(FrameError::TooLong {
                    bytes_max: self.bytes_max,
                });
            }
            compressed = Some(flag == 1);
        }
        let rest = received.len() - prefix;
        let payload = rest.min(self.left as usize);
        let is_whole = self.known == PREFIX_BYTES && self.left == 0;
        if is_whole && self.is_only && rest > 0 {
            return Err(FrameError::Another);
        }
        if self.ended && !is_whole && payload == 0 {
            return Err(match self.known {
                0 => FrameError::None,
                _ => FrameError::Truncated,
            });
        }
        Ok(Piece {
            prefix,
            payload,
            compressed,
            end: is_whole && (self.ended || !self.is_only),
        })
    }

    /// So many bytes of the payload were taken.
    ///
    /// # Panics
    /// When they are more than the message has.
    pub fn took(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a message is shorter than 4 GiB");
        self.left = self
            .left
            .checked_sub(bytes)
            .expect("only its own bytes are taken");
    }

    /// Nothing comes any more.
    pub fn end(&mut self) {
        self.ended = true;
    }
}

/// Appends a message that is not compressed, which `put` writes.
///
/// # Panics
/// When it is longer than 4 GiB.
pub fn put_message(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    put(out);
    let bytes = u32::try_from(out.len() - start - PREFIX_BYTES).expect("a message is shorter than 4 GiB");
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&bytes.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the messages of a stream that comes in two pieces; how it ended.
    fn read(bytes: &[u8], cut: usize, is_only: bool) -> (Vec<(bool, Vec<u8>)>, Option<FrameError>) {
        let mut messages = Vec::new();
        let (mut received, mut rest) = (bytes[..cut].to_vec(), Some(&bytes[cut..]));
        loop {
            let mut frame = MessageFrame::new(1000, is_only);
            let (mut is_compressed, mut message) = (None, Vec::new());
            loop {
                let piece = match frame.next(&received) {
                    Ok(piece) => piece,
                    Err(FrameError::None) if !is_only => return (messages, None),
                    Err(error) => return (messages, Some(error)),
                };
                is_compressed = is_compressed.or(piece.compressed);
                message.extend_from_slice(&received[piece.prefix..piece.prefix + piece.payload]);
                received.drain(..piece.prefix + piece.payload);
                frame.took(piece.payload);
                if piece.end {
                    break;
                }
                if piece.prefix + piece.payload == 0 {
                    match rest.take() {
                        Some(bytes) => received.extend_from_slice(bytes),
                        None => frame.end(),
                    }
                }
            }
            messages.push((is_compressed.expect("told with the prefix"), message));
            if is_only {
                return (messages, None);
            }
        }
    }

    #[test]
    fn finds_messages_wherever_the_stream_is_cut() {
        let mut bytes = Vec::new();
        put_message(&mut bytes, |out| out.extend_from_slice(b"one"));
        put_message(&mut bytes, |_| {});
        put_message(&mut bytes, |out| out.extend_from_slice(&[7; 300]));
        bytes[8] = 1;
        let expected = vec![
            (false, b"one".to_vec()),
            (true, Vec::new()),
            (false, vec![7; 300]),
        ];
        for cut in 0..=bytes.len() {
            assert_eq!(read(&bytes, cut, false), (expected.clone(), None), "cut at {cut}");
            let (_, error) = read(&bytes, cut, true);
            assert_eq!(error, Some(FrameError::Another), "cut at {cut}");
        }
    }

    #[test]
    fn the_only_message_is_found_wherever_it_is_cut_and_missed_wherever_it_ends_early() {
        let mut bytes = Vec::new();
        put_message(&mut bytes, |out| out.extend_from_slice(b"message"));
        for cut in 0..=bytes.len() {
            assert_eq!(
                read(&bytes, cut, true),
                (vec![(false, b"message".to_vec())], None)
            );
        }
        for end in 0..bytes.len() {
            let error = if end == 0 {
                FrameError::None
            } else {
                FrameError::Truncated
            };
            for cut in 0..=end {
                assert_eq!(read(&bytes[..end], cut, true), (Vec::new(), Some(error)), "{end}");
            }
        }
    }

    #[test]
    fn rejects_a_wrong_flag_and_a_message_too_long_at_its_prefix() {
        let next = |bytes: &[u8]| MessageFrame::new(1000, true).next(bytes);
        assert_eq!(next(&[2, 0, 0, 0, 0]), Err(FrameError::Flag(2)));
        assert!(next(&[0, 0, 0, 3, 0xe8]).is_ok());
        assert_eq!(
            next(&[0, 0, 0, 3, 0xe9]),
            Err(FrameError::TooLong { bytes_max: 1000 })
        );
        assert_eq!(
            next(&[1, 0xff, 0xff, 0xff, 0xff]),
            Err(FrameError::TooLong { bytes_max: 1000 })
        );
    }
}
