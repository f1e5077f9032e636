//! Finds the payload inside a chunked body (RFC 9112 section 7.1), without copying it.

use std::fmt;

/// Chunked framing of one body: where payload begins and ends in a stream of received bytes.
///
/// Extensions and trailers are checked, bounded and dropped.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    /// Size read so far, then payload bytes of the chunk still to come.
    left: u64,
    size_digits: u32,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// What stands at the front of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// After `framing` bytes to skip, `payload` bytes of payload; report those taken to [`Chunked::took`].
    Payload {
        /// Bytes of framing before the payload.
        framing: usize,
        /// Bytes of payload at hand, at least one.
        payload: usize,
    },
    /// `framing` bytes to skip, then more must be received.
    NeedMore {
        /// Bytes of framing: all there were.
        framing: usize,
    },
    /// `framing` bytes to skip, then the body is over.
    End {
        /// Bytes of framing up to the end of the body.
        framing: usize,
    },
}

/// Why chunked framing is refused. The connection ends: what follows cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// No hexadecimal size at the start of a chunk, or something other than an extension after it.
    Size,
    /// A size of more than sixteen digits.
    SizeTooLong,
    /// A line of the framing does not end in CRLF.
    LineEnd,
    /// A control character in an extension or trailer, or a trailer that is no header line.
    Field,
    /// More than [`EXTENSION_BYTES_MAX`] bytes of extensions.
    ExtensionsTooLong,
    /// More than [`TRAILER_BYTES_MAX`] bytes of trailers.
    TrailersTooLong,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChunkError::Size => f.write_str("A chunk does not begin with its size in hexadecimal."),
            ChunkError::SizeTooLong => f.write_str("A chunk size has more than 16 digits."),
            ChunkError::LineEnd => f.write_str("A chunk or its size does not end in CRLF where it should."),
            ChunkError::Field => f.write_str("A chunk extension or trailer is malformed."),
            ChunkError::ExtensionsTooLong => {
                write!(
                    f,
                    "The chunk extensions are longer than {EXTENSION_BYTES_MAX} bytes; send none."
                )
            }
            ChunkError::TrailersTooLong => {
                write!(
                    f,
                    "The trailers are longer than {TRAILER_BYTES_MAX} bytes; send none."
                )
            }
        }
    }
}

impl std::error::Error for ChunkError {}

/// Bytes of extensions in one body. They carry nothing for us; without a bound a client could keep the core
/// busy skipping them and never send a row.
pub const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of trailers after one body.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Sixteen hexadecimal digits are 64 bits.
const SIZE_DIGITS_MAX: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks after the size are allowed before an extension only.
    SizeBlank,
    Extension,
    SizeLf,
    Payload,
    PayloadCr,
    PayloadLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked {
            state: State::Size,
            left: 0,
            size_digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }
}

impl Chunked {
    /// Reads framing at the start of `received` up to the next payload, the end, or the end of `received`.
    ///
    /// Framing is consumed by this call, payload by [`took`](Self::took).
    pub fn next(&mut self, received: &[u8]) -> Result<Chunk, ChunkError> {
        let mut framing = 0;
        loop {
            match self.state {
                State::End => return Ok(Chunk::End { framing }),
                State::Payload => {
                    let at_hand = received.len() - framing;
                    // A chunk longer than memory is cut to what is at hand, which fits.
                    let payload = usize::try_from(self.left).unwrap_or(usize::MAX).min(at_hand);
                    return Ok(match payload {
                        0 => Chunk::NeedMore { framing },
                        _ => Chunk::Payload { framing, payload },
                    });
                }
                _ => {}
            }
            let Some(&byte) = received.get(framing) else {
                return Ok(Chunk::NeedMore { framing });
            };
            self.state = self.step(byte)?;
            framing += 1;
        }
    }

    /// Counts `bytes` of the payload that [`next`](Self::next) found as taken.
    ///
    /// # Panics
    ///
    /// When the chunk has less left.
    pub fn took(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        assert!(
            self.state == State::Payload && bytes as u64 <= self.left,
            "took more than the chunk has"
        );
        self.left -= bytes as u64;
        if self.left == 0 {
            self.state = State::PayloadCr;
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.size_digits += 1;
                if self.size_digits > SIZE_DIGITS_MAX {
                    return Err(ChunkError::SizeTooLong);
                }
                let digit = (byte as char)
                    .to_digit(16)
                    .expect("matched as a hexadecimal digit");
                self.left = self.left << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, _) if self.size_digits == 0 => return Err(ChunkError::Size),
            (State::Size, b'\r') | (State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::SizeBlank, b';') => State::Extension,
            (State::Size | State::SizeBlank, b' ' | b'\t') => {
                self.extension()?;
                State::SizeBlank
            }
            (State::Size, b'\n') => return Err(ChunkError::LineEnd),
            (State::Size | State::SizeBlank, _) => return Err(ChunkError::Size),
            (State::Extension, b'\n') => return Err(ChunkError::LineEnd),
            (State::Extension, _) if !is_field_byte(byte) => return Err(ChunkError::Field),
            (State::Extension, _) => {
                self.extension()?;
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                self.size_digits = 0;
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Payload
                }
            }
            (State::PayloadCr, b'\r') => State::PayloadLf,
            (State::PayloadLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, b'\n') => return Err(ChunkError::LineEnd),
            (State::TrailerStart | State::TrailerName, _) => self.trailer_name(byte)?,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\n') => return Err(ChunkError::LineEnd),
            (State::TrailerValue, _) if !is_field_byte(byte) => return Err(ChunkError::Field),
            (State::TrailerValue, _) => {
                self.trailer()?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            (State::SizeLf | State::PayloadCr | State::PayloadLf | State::TrailerLf | State::EndLf, _) => {
                return Err(ChunkError::LineEnd);
            }
            (State::Payload | State::End, _) => unreachable!("next() returns in these states"),
        })
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer()?;
        match byte {
            b':' if self.state == State::TrailerName => Ok(State::TrailerValue),
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~' => {
                Ok(State::TrailerName)
            }
            _ if byte.is_ascii_alphanumeric() => Ok(State::TrailerName),
            _ => Err(ChunkError::Field),
        }
    }

    fn extension(&mut self) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            Err(ChunkError::ExtensionsTooLong)
        } else {
            Ok(())
        }
    }

    fn trailer(&mut self) -> Result<(), ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            Err(ChunkError::TrailersTooLong)
        } else {
            Ok(())
        }
    }
}

/// Blank, tab, visible ASCII and obs-text: what a field value may hold (RFC 9110 section 5.5).
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
