//! ClickHouse's compressed frames: checksum, method, sizes, data.
//!
//! A frame is 16 bytes CityHash128 (version 1.0.2) of all that follows it, then one byte method, `u32`
//! size of the compressed data with its nine header bytes, `u32` size of the data, and the data; integers
//! are little-endian (ClickHouse `Compression/CompressedReadBufferBase.cpp`). A block may be cut into
//! frames anywhere: the server reads them as one stream.

use super::error::ProtocolError;
use super::wire::{Decoded, Reader, Stop, decode};

/// Most data in one frame. On 2 MiB of log lines, 256 KiB compresses 5 % faster than 1 MiB (1.83 against
/// 1.75 GB/s on one Xeon core, LZ4 1.10) and 1.3 % worse (8.06 against 8.16 times); 64 KiB 10 % faster, 6 % worse.
const FRAME_DATA_BYTES_MAX: usize = 256 * 1024;

/// Pieces from this size on are compressed where they lie; smaller ones are gathered first, because every
/// frame costs 25 bytes and starts with an empty LZ4 window.
const PIECE_IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// Small pieces are gathered up to this size: LZ4 looks 64 KiB back.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// What LZ4 can make of the last frame of a block beyond its data (`LZ4_COMPRESSBOUND` of lz4.h).
const LAST_FRAME_GROWTH_MAX: usize = (GATHERED_BYTES_MAX + NEXT_BLOCK.len()) / 255 + 16;

const CHECKSUM_BYTES: usize = 16;
/// Method and the two sizes: what the checksum covers beside the data.
const HEADER_BYTES: usize = 9;
const FRAME_OVERHEAD_BYTES: usize = CHECKSUM_BYTES + HEADER_BYTES;

const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;

/// Most data accepted in one frame of a reply. The server compresses out of a buffer of 1 MiB; the rest is
/// reserve.
const REPLY_FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// What follows a block within its last frame: the beginning of the next block, field 1 of a BlockInfo (`is_overflows`) of
/// value 0. The next block begins with all of its BlockInfo, and so names the field twice, which servers take.
///
/// A server that finds the end of the stream where a block would begin takes that for a block of no columns
/// (`Formats/NativeReader.cpp`), and with one an INSERT is complete. So of an INSERT whose client dies right behind a
/// packet's header the blocks before it are inserted, and its repetition, which brings more blocks under the same token, is
/// inserted as well (seen with 26.7). Behind these bytes a block has begun, and the end of the stream within a block fails
/// the INSERT.
///
/// Their frame is LZ4 even if that makes it larger: a server reads the data of an uncompressed one where it was received,
/// and what is left of that is overwritten by the next packet (`Compression/CompressedReadBufferBase.cpp`).
pub const NEXT_BLOCK: [u8; 2] = [1, 0];

/// Turns the pieces of a block into frames. One per core; its memory is allocated once, in `new`.
#[derive(Debug)]
pub struct FrameEncoder {
    gathered: Vec<u8>,
    compressed: Vec<u8>,
}

impl Default for FrameEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameEncoder {
    /// Allocates the scratch: about 320 KiB.
    pub fn new() -> Self {
        let bound = lz4::block::compress_bound(FRAME_DATA_BYTES_MAX).expect("a frame is below LZ4's limit");
        FrameEncoder {
            gathered: Vec::with_capacity(GATHERED_BYTES_MAX + NEXT_BLOCK.len()),
            compressed: vec![0; bound],
        }
    }

    /// Appends the next piece of the block to `out`, now or with the pieces that follow it.
    pub fn put(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.len() < PIECE_IN_PLACE_BYTES_MIN {
            if self.gathered.len() + piece.len() > GATHERED_BYTES_MAX {
                self.flush(out);
            }
            self.gathered.extend_from_slice(piece);
            return;
        }
        self.flush(out);
        // The block may end here, and its last byte shares a frame with what follows it.
        let (piece, last) = piece.split_at(piece.len() - 1);
        // Equal parts: 256 KiB + 1 byte becomes two halves, not a full frame and a frame of one byte.
        let frames = piece.len().div_ceil(FRAME_DATA_BYTES_MAX);
        for data in piece.chunks(piece.len().div_ceil(frames)) {
            write_frame(data, &mut self.compressed, out);
        }
        self.gathered.extend_from_slice(last);
    }

    /// Ends the block: appends what was gathered, and [`NEXT_BLOCK`].
    ///
    /// # Panics
    /// When nothing was put since the last block.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        assert!(
            !self.gathered.is_empty(),
            "a block has bytes, and its last one is gathered"
        );
        // Beyond the bound of what is gathered, if need be: the block's last byte is in the same frame.
        self.gathered.extend_from_slice(&NEXT_BLOCK);
        let size = compress(&self.gathered, &mut self.compressed);
        append_frame(METHOD_LZ4, &self.compressed[..size], self.gathered.len(), out);
        self.gathered.clear();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.gathered.is_empty() {
            write_frame(&self.gathered, &mut self.compressed, out);
            self.gathered.clear();
        }
    }

    /// Most bytes that `wire_bytes` of pieces, in any sizes, can become as one block.
    ///
    /// Data never grows but in the last frame, since what does not compress is framed as it is. Frames: a piece compressed in
    /// place takes one per 32 KiB at most and ends a gathered one before it; two gathered frames in a row
    /// hold more than 64 KiB between them, one per 32 KiB again; one more ends the block.
    pub fn bound(wire_bytes: usize) -> usize {
        let frames = 3 * (wire_bytes / PIECE_IN_PLACE_BYTES_MIN) + 2;
        wire_bytes + NEXT_BLOCK.len() + LAST_FRAME_GROWTH_MAX + frames * FRAME_OVERHEAD_BYTES
    }
}

/// Data from this size on is sampled before it is compressed.
const SAMPLED_BYTES_MIN: usize = 32 * 1024;
const SAMPLE_BYTES: usize = 4 * 1024;

/// Appends `data` as one frame, LZ4 when that saves at least a quarter, else as it is.
///
/// LZ4 takes the longer, per byte, the less it finds: of random ids or times of nanoseconds nothing comes of it but the
/// time. A sample from the middle, a fiftieth of a usual frame, tells that beforehand.
///
/// LZ4 writes into `compressed` and the result is copied. Compressing straight into the tail of `out`
/// would have to zero room for the worst case first, several times as much as is copied here; it
/// measured 2 to 3 % slower (1.78 against 1.83 GB/s) and touches memory that the block then does not need.
fn write_frame(data: &[u8], compressed: &mut [u8], out: &mut Vec<u8>) {
    let is_worth = |size: usize, data: &[u8]| size <= data.len() - data.len() / 4;
    if data.len() >= SAMPLED_BYTES_MIN {
        let sample = &data[data.len() / 2..][..SAMPLE_BYTES];
        if !is_worth(compress(sample, compressed), sample) {
            append_frame(METHOD_NONE, data, data.len(), out);
            return;
        }
    }
    let size = compress(data, compressed);
    if is_worth(size, data) {
        append_frame(METHOD_LZ4, &compressed[..size], data.len(), out);
    } else {
        append_frame(METHOD_NONE, data, data.len(), out);
    }
}

/// Bytes of `compressed` that `data`, of a frame, becomes.
fn compress(data: &[u8], compressed: &mut [u8]) -> usize {
    assert!(!data.is_empty() && data.len() <= FRAME_DATA_BYTES_MAX);
    let room = lz4::block::compress_bound(data.len()).expect("a frame is below LZ4's limit");
    // With room for the worst case LZ4 cannot fail, nor does it check its output bound on the way.
    lz4::block::compress_to_buffer(data, None, false, &mut compressed[..room])
        .expect("LZ4 has room for its worst case")
}

/// Appends `data`, a few bytes, as one uncompressed frame.
pub(crate) fn put_plain_frame(data: &[u8], out: &mut Vec<u8>) {
    append_frame(METHOD_NONE, data, data.len(), out);
}

fn append_frame(method: u8, body: &[u8], data_bytes: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    out.push(method);
    out.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
    out.extend_from_slice(&(data_bytes as u32).to_le_bytes());
    out.extend_from_slice(body);
    let checksum = checksum(&out[start + CHECKSUM_BYTES..]);
    out[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum);
}

/// CityHash128 as ClickHouse writes it: lower half first, each little-endian. The crate's number has that
/// half on top. It hashes 21.7 GB/s where the C++ original does 22.4, next to nothing beside LZ4.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = cityhash_rs::cityhash_102_128(bytes);
    let mut wire = [0; CHECKSUM_BYTES];
    wire[..8].copy_from_slice(&((hash >> 64) as u64).to_le_bytes());
    wire[8..].copy_from_slice(&(hash as u64).to_le_bytes());
    wire
}

/// Appends the data of the frame that starts `bytes` to `data`; gives the frame's size.
///
/// The checksum is verified before anything is decompressed. Errors: `FrameChecksum`, `FrameMethod`,
/// `FrameTooLarge`, `FrameCorrupt`; `data` is then as it was.
pub fn decode_frame(bytes: &[u8], data: &mut Vec<u8>) -> Result<Decoded<()>, ProtocolError> {
    decode(bytes, |reader| read_frame(reader, data))
}

/// [`decode_frame`] at a reader's position.
pub(super) fn read_frame(reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), Stop> {
    let expected = reader.take(CHECKSUM_BYTES)?;
    let header = reader.clone().take(HEADER_BYTES)?;
    let method = header[0];
    let size = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let (framed_bytes, data_bytes) = (size(1), size(5));
    if framed_bytes > REPLY_FRAME_BYTES_MAX || data_bytes > REPLY_FRAME_BYTES_MAX {
        return Err(ProtocolError::FrameTooLarge {
            framed_bytes,
            data_bytes,
        }
        .into());
    }
    if (framed_bytes as usize) < HEADER_BYTES {
        return Err(ProtocolError::FrameCorrupt.into());
    }
    let framed = reader.take(framed_bytes as usize)?;
    if checksum(framed) != expected {
        return Err(ProtocolError::FrameChecksum.into());
    }
    let body = &framed[HEADER_BYTES..];
    let start = data.len();
    match method {
        METHOD_NONE if body.len() == data_bytes as usize => data.extend_from_slice(body),
        METHOD_LZ4 => {
            data.resize(start + data_bytes as usize, 0);
            let size = lz4::block::decompress_to_buffer(body, Some(data_bytes as i32), &mut data[start..]);
            if !matches!(size, Ok(size) if size == data_bytes as usize) {
                data.truncate(start);
                return Err(ProtocolError::FrameCorrupt.into());
            }
        }
        METHOD_NONE => return Err(ProtocolError::FrameCorrupt.into()),
        other => return Err(ProtocolError::FrameMethod { method: other }.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The block of no columns.
    const EMPTY_BLOCK: [u8; 10] = [1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0];

    #[test]
    fn reads_a_frame_that_clickhouse_wrote() {
        // Sample block of (id UInt64, body String), as 18.16 and 26.7 both send it.
        let frame = b"\xea\xb7\xf5\xb9\x7d\x57\x1e\xe6\x1c\xfa\xa6\xc9\x30\x5e\xa3\x82\
            \x82\x2b\0\0\0\x20\0\0\0\xf0\x11\x01\0\x02\xff\xff\xff\xff\0\x02\0\x02id\x06UInt64\x04body\x06String";
        let mut data = Vec::new();
        assert_eq!(
            decode_frame(frame, &mut data),
            Ok(Decoded::Complete((), frame.len()))
        );
        assert_eq!(
            data,
            b"\x01\0\x02\xff\xff\xff\xff\0\x02\0\x02id\x06UInt64\x04body\x06String"
        );
    }

    #[test]
    fn every_prefix_of_a_frame_is_partial() {
        let mut frame = Vec::new();
        put_plain_frame(&EMPTY_BLOCK, &mut frame);
        let mut data = Vec::new();
        for end in 0..frame.len() {
            assert_eq!(
                decode_frame(&frame[..end], &mut data),
                Ok(Decoded::Partial),
                "{end} bytes"
            );
        }
        assert!(data.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_noticed_or_waits_for_more() {
        let mut frame = Vec::new();
        write_frame(&[7; 300], &mut vec![0; 1000], &mut frame);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut data = Vec::new();
            // A larger size waits for bytes that a real stream would have behind it.
            assert!(
                !matches!(decode_frame(&damaged, &mut data), Ok(Decoded::Complete(..))),
                "bit {bit}"
            );
            assert!(data.is_empty(), "bit {bit}");
        }
    }

    #[test]
    fn rejects_frames_whose_checksum_is_right_and_whose_content_is_not() {
        let framed = |method: u8, body: &[u8], data_bytes: usize| {
            let mut frame = Vec::new();
            append_frame(method, body, data_bytes, &mut frame);
            decode_frame(&frame, &mut Vec::new())
        };
        assert_eq!(framed(METHOD_NONE, b"abc", 4), Err(ProtocolError::FrameCorrupt));
        assert_eq!(
            framed(METHOD_LZ4, b"\xff\xff\xff", 100),
            Err(ProtocolError::FrameCorrupt)
        );
        assert_eq!(framed(METHOD_LZ4, b"", 0), Err(ProtocolError::FrameCorrupt));
        assert_eq!(
            framed(0x90, b"zstd", 4),
            Err(ProtocolError::FrameMethod { method: 0x90 })
        );
        let data_bytes = REPLY_FRAME_BYTES_MAX + 1;
        let too_large = ProtocolError::FrameTooLarge {
            framed_bytes: 10,
            data_bytes,
        };
        assert_eq!(framed(METHOD_LZ4, b"x", data_bytes as usize), Err(too_large));
        let mut shorter_than_its_header = [0; 25];
        shorter_than_its_header[17] = 8;
        assert_eq!(
            decode_frame(&shorter_than_its_header, &mut Vec::new()),
            Err(ProtocolError::FrameCorrupt)
        );
    }

    #[test]
    fn small_pieces_share_a_frame_and_a_large_one_is_cut_evenly() {
        let mut encoder = FrameEncoder::new();
        let mut out = Vec::new();
        (0..100).for_each(|_| encoder.put(b"a small piece", &mut out));
        assert!(out.is_empty(), "gathered, not framed yet");
        encoder.put(&vec![0; FRAME_DATA_BYTES_MAX + 2], &mut out);
        encoder.finish(&mut out);
        assert_eq!(
            sizes(&out),
            [
                1300,
                FRAME_DATA_BYTES_MAX / 2 + 1,
                FRAME_DATA_BYTES_MAX / 2,
                1 + NEXT_BLOCK.len()
            ]
        );
    }

    #[test]
    fn allocates_nothing_beyond_its_bound() {
        let mut encoder = FrameEncoder::new();
        // The worst case: noise, in pieces that alternate around the limit of gathering.
        let noise = noise(1 << 20, 1);
        let mut out = Vec::with_capacity(FrameEncoder::bound(noise.len()));
        let (room, gather_room) = (out.capacity(), encoder.gathered.capacity());
        let mut rest = noise.as_slice();
        for size in [1, PIECE_IN_PLACE_BYTES_MIN].into_iter().cycle() {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            encoder.put(piece, &mut out);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        encoder.finish(&mut out);
        assert_eq!((out.capacity(), encoder.gathered.capacity()), (room, gather_room));
        assert_eq!(decoded(&out), [&noise, &NEXT_BLOCK[..]].concat());
    }

    proptest! {
        #[test]
        fn pieces_come_back_in_order_and_within_the_bound(
            pieces in prop::collection::vec((1usize..100_000, 0u64..8, any::<bool>()), 1..12)
        ) {
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(|(size, seed, compressible)| {
                if compressible { vec![seed as u8; size] } else { noise(size, seed) }
            }).collect();
            let mut encoder = FrameEncoder::new();
            let mut out = Vec::new();
            pieces.iter().for_each(|piece| encoder.put(piece, &mut out));
            encoder.finish(&mut out);
            let mut data = pieces.concat();
            prop_assert!(out.len() <= FrameEncoder::bound(data.len()));
            data.extend(NEXT_BLOCK);
            prop_assert_eq!(decoded(&out), data);
            let (method, last) = frames(&out).pop().expect("a block has a frame");
            prop_assert!(last > NEXT_BLOCK.len(), "the next block begins in the frame in which this one ends");
            prop_assert_eq!(method, METHOD_LZ4);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, data_bytes: u16, fix_checksum: bool) {
            if fix_checksum && bytes.len() >= FRAME_OVERHEAD_BYTES {
                let framed_bytes = (bytes.len() - CHECKSUM_BYTES) as u32;
                bytes[CHECKSUM_BYTES] = METHOD_LZ4;
                bytes[17..21].copy_from_slice(&framed_bytes.to_le_bytes());
                bytes[21..25].copy_from_slice(&u32::from(data_bytes).to_le_bytes());
                let checksum = checksum(&bytes[CHECKSUM_BYTES..]);
                bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum);
            }
            let mut data = vec![42];
            if decode_frame(&bytes, &mut data).is_err() {
                prop_assert_eq!(data, [42]);
            }
        }
    }

    fn decoded(mut frames: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        while !frames.is_empty() {
            match decode_frame(frames, &mut data) {
                Ok(Decoded::Complete((), size)) => frames = &frames[size..],
                other => panic!("{other:?} at {} bytes before the end", frames.len()),
            }
        }
        data
    }

    /// Method and data size of consecutive frames.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, usize)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let mut data = Vec::new();
            let Ok(Decoded::Complete((), size)) = decode_frame(bytes, &mut data) else {
                panic!("no frame")
            };
            frames.push((bytes[CHECKSUM_BYTES], data.len()));
            bytes = &bytes[size..];
        }
        frames
    }

    fn sizes(bytes: &[u8]) -> Vec<usize> {
        frames(bytes).into_iter().map(|(_, size)| size).collect()
    }

    /// Bytes that do not compress (xorshift).
    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..size).map(|_| next()).collect()
    }
}
