//! Inflates frames of LZ4, block by block. Source: LZ4 Frame Format 1.6.

use twox_hash::XxHash32;

use super::piece::{Pieces, inflated};
use super::{Encoding, InflateError, Inflated};

#[derive(Debug)]
pub(super) struct Lz4 {
    state: State,
    pieces: Pieces,
    flags: u8,
    block_bytes_max: usize,
    /// The last output of the frame: blocks may point into it.
    window: Vec<u8>,
    /// Bytes the frame says it has, if it does, and those it had so far.
    content_bytes: Option<u64>,
    made_bytes: u64,
    /// Of all content so far, where the frame ends with it.
    checksum: Option<XxHash32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a frame: the body may end here.
    Magic,
    /// The flags, which say how long the descriptor is.
    Flags,
    Descriptor {
        bytes: usize,
    },
    BlockSize,
    Block {
        bytes: usize,
        is_compressed: bool,
    },
    ContentChecksum,
    SkippableSize,
    Skip {
        bytes: usize,
    },
}

const MAGIC: u32 = 0x184d_2204;

/// The four lowest bits of the magic number of a frame to skip are free.
const MAGIC_SKIPPABLE: u32 = 0x184d_2a50;

/// How far back a block may point into those before it.
const WINDOW_BYTES: usize = 64 * 1024;

const FLAG_DICTIONARY: u8 = 1;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_INDEPENDENT: u8 = 1 << 5;

impl Lz4 {
    pub fn new() -> Lz4 {
        Lz4 {
            state: State::Magic,
            pieces: Pieces::default(),
            flags: 0,
            block_bytes_max: 0,
            window: Vec::new(),
            content_bytes: None,
            made_bytes: 0,
            checksum: None,
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.pieces.held_bytes() + self.window.capacity()
    }

    pub fn at_end(&self) -> bool {
        self.state == State::Magic && self.pieces.input().is_empty() && self.pieces.is_given()
    }

    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Inflated, InflateError> {
        let mut read = 0;
        let mut wrote = self.pieces.give(out);
        while self.pieces.is_given() && read < input.len() {
            let rest = &input[read..];
            if let State::Skip { bytes } = self.state {
                let skipped = bytes.min(rest.len());
                read += skipped;
                self.state = match bytes - skipped {
                    0 => State::Magic,
                    bytes => State::Skip { bytes },
                };
                continue;
            }
            let (taken, is_whole) = self.pieces.collect(rest, self.needed());
            read += taken;
            if is_whole {
                let state = self.take_piece()?;
                self.pieces.forget_input();
                self.state = state;
                wrote += self.pieces.give(&mut out[wrote..]);
            }
        }
        Ok(inflated(read, wrote))
    }

    /// Bytes of the piece that comes next.
    fn needed(&self) -> usize {
        match self.state {
            State::Magic | State::BlockSize | State::ContentChecksum | State::SkippableSize => 4,
            // The flags, the block size, and the checksum or what is before it.
            State::Flags => 3,
            State::Descriptor { bytes } | State::Skip { bytes } => bytes,
            State::Block { bytes, .. } => bytes + self.block_checksum_bytes(),
        }
    }

    fn block_checksum_bytes(&self) -> usize {
        if self.flags & FLAG_BLOCK_CHECKSUM != 0 {
            4
        } else {
            0
        }
    }

    /// Takes the piece that was collected; what comes next.
    fn take_piece(&mut self) -> Result<State, InflateError> {
        let piece = self.pieces.input();
        let number = || u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]);
        match self.state {
            State::Magic if number() == MAGIC => Ok(State::Flags),
            State::Magic if number() & !0xf == MAGIC_SKIPPABLE => Ok(State::SkippableSize),
            State::Magic => Err(malformed("it is no LZ4 frame")),
            State::SkippableSize => Ok(match number() {
                0 => State::Magic,
                bytes => State::Skip {
                    bytes: bytes as usize,
                },
            }),
            State::Flags => {
                let flags = piece[0];
                if flags >> 6 != 1 {
                    return Err(malformed("its version is unknown"));
                }
                if flags & FLAG_DICTIONARY != 0 {
                    return Err(malformed("it needs a dictionary"));
                }
                let size_bytes = if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 };
                self.flags = flags;
                // The three bytes come again as the first of the descriptor.
                let begun = [piece[0], piece[1], piece[2]];
                if size_bytes == 0 {
                    return self.begin_frame(&begun);
                }
                self.window.clear();
                self.window.extend_from_slice(&begun);
                Ok(State::Descriptor { bytes: size_bytes })
            }
            State::Descriptor { .. } => {
                let mut descriptor = std::mem::take(&mut self.window);
                descriptor.extend_from_slice(piece);
                self.begin_frame(&descriptor)
            }
            State::BlockSize => {
                let size = number();
                let (bytes, is_compressed) = ((size & 0x7fff_ffff) as usize, size >> 31 == 0);
                match size {
                    0 if self.content_bytes.is_some_and(|bytes| bytes != self.made_bytes) => {
                        Err(malformed("its length is not what it says"))
                    }
                    0 if self.checksum.is_some() => Ok(State::ContentChecksum),
                    0 => Ok(State::Magic),
                    _ if bytes > self.block_bytes_max => Err(malformed("a block of it is too long")),
                    _ => Ok(State::Block { bytes, is_compressed }),
                }
            }
            State::ContentChecksum => match self.checksum.take().map(|sum| sum.finish_32()) {
                Some(sum) if sum == number() => Ok(State::Magic),
                _ => Err(malformed("its checksum does not match")),
            },
            State::Block { bytes, is_compressed } => self.inflate_block(bytes, is_compressed),
            State::Skip { .. } => unreachable!("nothing of it is collected"),
        }
    }

    /// Reads flags, block size, content size if there is one, and their checksum.
    fn begin_frame(&mut self, descriptor: &[u8]) -> Result<State, InflateError> {
        let (said, sum) = descriptor.split_at(descriptor.len() - 1);
        if (XxHash32::oneshot(0, said) >> 8) as u8 != sum[0] {
            return Err(malformed("its checksum does not match"));
        }
        self.block_bytes_max = match said[1] >> 4 & 7 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(malformed("its block size is unknown")),
        };
        let size = said[2..].first_chunk().copied();
        self.content_bytes = size.map(u64::from_le_bytes);
        self.made_bytes = 0;
        self.checksum = (self.flags & FLAG_CONTENT_CHECKSUM != 0).then(|| XxHash32::with_seed(0));
        self.window.clear();
        Ok(State::BlockSize)
    }

    fn inflate_block(&mut self, bytes: usize, is_compressed: bool) -> Result<State, InflateError> {
        let (data, sum) = self.pieces.input().split_at(bytes);
        if sum
            .first_chunk()
            .is_some_and(|sum| u32::from_le_bytes(*sum) != XxHash32::oneshot(0, data))
        {
            return Err(malformed("its checksum does not match"));
        }
        let window = &self.window;
        let room = if is_compressed {
            self.block_bytes_max
        } else {
            bytes
        };
        let content = self.pieces.make(room, |input, output| match is_compressed {
            true => lz4_flex::block::decompress_into_with_dict(&input[..bytes], output, window)
                .map_err(|_| malformed("its data is corrupt")),
            false => {
                output.copy_from_slice(&input[..bytes]);
                Ok(bytes)
            }
        })?;
        self.made_bytes += content.len() as u64;
        if let Some(checksum) = &mut self.checksum {
            std::hash::Hasher::write(checksum, content);
        }
        if self.flags & FLAG_INDEPENDENT == 0 {
            let content = &content[content.len().saturating_sub(WINDOW_BYTES)..];
            let kept = WINDOW_BYTES - content.len();
            let drop = self.window.len().saturating_sub(kept);
            self.window.drain(..drop);
            self.window.extend_from_slice(content);
        }
        Ok(State::BlockSize)
    }
}

fn malformed(reason: &'static str) -> InflateError {
    InflateError::Malformed {
        encoding: Encoding::Lz4,
        reason,
    }
}
