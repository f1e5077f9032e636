//! Inflates snappy: framed, chunk by chunk, or one block, which is needed whole.
//!
//! Which of them it is the first bytes tell. Sources: the framing format's and the block format's descriptions of Snappy 1.1.

use super::piece::{Pieces, inflated};
use super::{Encoding, InflateError, Inflated};

#[derive(Debug)]
pub(super) struct Snappy {
    state: State,
    pieces: Pieces,
    block_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first bytes are known.
    Start,
    /// One block, up to the end of the body.
    Block,
    /// The block was made output.
    BlockMade,
    /// Before the four bytes of a chunk's header.
    Header,
    /// Within the data of a chunk, compressed or not.
    Data { bytes: usize, is_compressed: bool },
    /// Within a repeated stream identifier.
    Identifier,
    /// Within a chunk that means nothing here.
    Skip { bytes: usize },
}

/// A framed stream begins with it: type 0xff, six bytes.
const IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";

/// Bytes of a chunk's content before compression.
const CONTENT_BYTES_MAX: usize = 65_536;

/// Bytes of the checksum before a chunk's content.
const CHECKSUM_BYTES: usize = 4;

impl Snappy {
    pub fn new(block_bytes_max: usize) -> Snappy {
        Snappy {
            state: State::Start,
            pieces: Pieces::default(),
            block_bytes_max,
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.pieces.held_bytes()
    }

    pub fn at_end(&self) -> bool {
        match self.state {
            State::Start => self.pieces.input().is_empty(),
            State::Header => self.pieces.input().is_empty() && self.pieces.is_given(),
            State::BlockMade => self.pieces.is_given(),
            _ => false,
        }
    }

    /// The body has ended; only then a block is known to be whole.
    pub fn close(&mut self) -> Result<(), InflateError> {
        if self.state == State::Start && !self.pieces.input().is_empty() {
            self.state = State::Block;
        }
        if self.state != State::Block {
            return Ok(());
        }
        let bytes =
            snap::raw::decompress_len(self.pieces.input()).map_err(|_| malformed("it is not snappy"))?;
        if bytes > self.block_bytes_max {
            return Err(InflateError::BlockTooLong {
                bytes_max: self.block_bytes_max,
            });
        }
        self.pieces
            .make(bytes, |input, output| {
                snap::raw::Decoder::new().decompress(input, output)
            })
            .map_err(|_| malformed("its data is corrupt"))?;
        self.pieces.forget_input();
        self.state = State::BlockMade;
        Ok(())
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        let mut read = 0;
        let mut wrote = self.pieces.give(out);
        while self.pieces.is_given() && read < input.len() {
            let rest = &input[read..];
            match self.state {
                State::Start => {
                    let (taken, is_whole) = self.pieces.collect(rest, IDENTIFIER.len());
                    read += taken;
                    let begun = self.pieces.input();
                    if !IDENTIFIER.starts_with(begun) {
                        self.state = State::Block;
                    } else if is_whole {
                        self.next(State::Header);
                    }
                }
                State::Block => {
                    // One more, so that one too long is seen to be.
                    let (taken, is_whole) = self.pieces.collect(rest, self.block_bytes_max + 1);
                    read += taken;
                    if is_whole {
                        return Err(InflateError::BlockTooLong {
                            bytes_max: self.block_bytes_max,
                        });
                    }
                }
                State::BlockMade => {
                    return Err(InflateError::TrailingBytes {
                        encoding: Encoding::Snappy,
                    });
                }
                State::Header => {
                    let (taken, is_whole) = self.pieces.collect(rest, 4);
                    read += taken;
                    if is_whole {
                        let state = self.chunk()?;
                        self.next(state);
                    }
                }
                State::Identifier => {
                    let (taken, is_whole) = self.pieces.collect(rest, IDENTIFIER.len() - 4);
                    read += taken;
                    if is_whole {
                        if self.pieces.input() != &IDENTIFIER[4..] {
                            return Err(malformed("it is not snappy"));
                        }
                        self.next(State::Header);
                    }
                }
                State::Skip { bytes } => {
                    let skipped = bytes.min(rest.len());
                    read += skipped;
                    self.state = match bytes - skipped {
                        0 => State::Header,
                        bytes => State::Skip { bytes },
                    };
                }
                State::Data { bytes, is_compressed } => {
                    let (taken, is_whole) = self.pieces.collect(rest, bytes);
                    read += taken;
                    if is_whole {
                        self.inflate_chunk(is_compressed)?;
                        self.next(State::Header);
                        wrote += self.pieces.give(&mut out[wrote..]);
                    }
                }
            }
        }
        Ok(inflated(read, wrote))
    }

    fn next(&mut self, state: State) {
        self.state = state;
        self.pieces.forget_input();
    }

    /// What the header that was collected announces.
    fn chunk(&self) -> Result<State, InflateError> {
        let header = self.pieces.input();
        let bytes = u32::from_le_bytes([header[1], header[2], header[3], 0]) as usize;
        let content_max = CHECKSUM_BYTES + CONTENT_BYTES_MAX;
        match header[0] {
            0x00 if (CHECKSUM_BYTES..=snap::raw::max_compress_len(content_max)).contains(&bytes) => {
                Ok(State::Data {
                    bytes,
                    is_compressed: true,
                })
            }
            0x01 if (CHECKSUM_BYTES..=content_max).contains(&bytes) => Ok(State::Data {
                bytes,
                is_compressed: false,
            }),
            0x00 | 0x01 => Err(malformed("a chunk of it is too long or too short")),
            0x02..=0x7f => Err(malformed("it has a chunk of an unknown kind")),
            0xff if bytes == IDENTIFIER.len() - 4 => Ok(State::Identifier),
            0xff => Err(malformed("it is not snappy")),
            _ if bytes == 0 => Ok(State::Header),
            _ => Ok(State::Skip { bytes }),
        }
    }

    fn inflate_chunk(&mut self, is_compressed: bool) -> Result<(), InflateError> {
        let corrupt = malformed("its data is corrupt");
        let data = &self.pieces.input()[CHECKSUM_BYTES..];
        let bytes = match is_compressed {
            true => snap::raw::decompress_len(data).map_err(|_| corrupt)?,
            false => data.len(),
        };
        if bytes > CONTENT_BYTES_MAX {
            return Err(malformed("a chunk of it is too long or too short"));
        }
        let mut checksum = 0;
        let content = self.pieces.make(bytes, |input, output| {
            let (sum, data) = input.split_at(CHECKSUM_BYTES);
            checksum = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            match is_compressed {
                true => snap::raw::Decoder::new()
                    .decompress(data, output)
                    .map_err(|_| corrupt),
                false => {
                    output.copy_from_slice(data);
                    Ok(data.len())
                }
            }
        })?;
        // Masked, as the framing format says.
        let masked = crc32c::crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8);
        match masked == checksum {
            true => Ok(()),
            false => Err(malformed("its checksum does not match")),
        }
    }
}

fn malformed(reason: &'static str) -> InflateError {
    InflateError::Malformed {
        encoding: Encoding::Snappy,
        reason,
    }
}
