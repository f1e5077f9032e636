//! The framing of everything in the log and the journal: a checked header, then a checked payload.
//!
//! ```text
//!  0  u32  magic "RREC"
//!  4  u32  CRC32C of bytes 8 to 31
//!  8  u32  bytes of the payload
//! 12  u32  CRC32C of the payload
//! 16  u8   kind
//! 17  u8   version of the kind's payload
//! 18  u16  0
//! 20  u32  records of the same commit that follow
//! 24  u64  salt of the file
//! 32       payload, then zeros up to a multiple of 8
//! ```
//!
//! Integers are little-endian. The header has a checksum of its own so that a damaged payload does not hide the records
//! behind it. The salt is made from the file's name: bytes of another file, left over in a reused part of the disk, are
//! no records here.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this, so that the one behind a damaged header is found by looking there.
pub const ALIGNMENT: usize = 8;

/// The version every payload has today.
pub const VERSION: u8 = 1;

/// Most bytes of a payload: a block is far below, a length beyond is damage.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const MAGIC: [u8; 4] = *b"RREC";

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Log: a table's columns, before the first block built for them.
    Schema = 1,
    /// Log: a sealed block.
    Block = 2,
    /// Log: an idempotency key and the reply its request got.
    Key = 3,
    /// Journal: the whole state; forgets everything before it.
    Checkpoint = 16,
    /// Journal: a change of the state.
    Change = 17,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [
            Kind::Schema,
            Kind::Block,
            Kind::Key,
            Kind::Checkpoint,
            Kind::Change,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A complete, undamaged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// Records of the same commit that follow it.
    pub left: u32,
    /// The payload.
    pub payload: &'a [u8],
}

/// What stands at a position of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A record, and where the next one begins.
    Record(Record<'a>, usize),
    /// Nothing but zeros, or nothing at all, to the end of the file.
    End,
    /// Bytes that are no record, up to where one begins again.
    Damage(usize),
    /// Bytes that are no record, and none behind them: a write that did not finish.
    Torn,
}

/// Appends room for a header; returns where the record begins. The payload is appended next, then
/// [`finish`] is called.
pub fn begin(out: &mut Vec<u8>) -> usize {
    debug_assert_eq!(out.len() % ALIGNMENT, 0, "records begin aligned");
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    at
}

/// Pads the record that began at `at` and is the last in `out`; returns the bytes of its payload.
///
/// # Panics
/// When the payload is longer than [`PAYLOAD_BYTES_MAX`].
pub fn end(out: &mut Vec<u8>, at: usize) -> usize {
    let payload_bytes = out.len() - at - HEADER_BYTES;
    assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a payload is far below 1 GiB");
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    payload_bytes
}

/// Writes the header of the record at the start of `record`, whose payload is `payload_bytes` long.
pub fn finish(record: &mut [u8], payload_bytes: usize, kind: Kind, left: u32, salt: u64) {
    let payload_crc = crc32c::crc32c(&record[HEADER_BYTES..HEADER_BYTES + payload_bytes]);
    let header = &mut record[..HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header[12..16].copy_from_slice(&payload_crc.to_le_bytes());
    header[16] = kind as u8;
    header[17] = VERSION;
    header[18..20].copy_from_slice(&[0; 2]);
    header[20..24].copy_from_slice(&left.to_le_bytes());
    header[24..32].copy_from_slice(&salt.to_le_bytes());
    let header_crc = crc32c::crc32c(&header[8..]);
    header[4..8].copy_from_slice(&header_crc.to_le_bytes());
}

/// Appends a whole record that is a commit of its own.
pub fn put(out: &mut Vec<u8>, kind: Kind, payload: &[u8], salt: u64) {
    let at = begin(out);
    out.extend_from_slice(payload);
    let payload_bytes = end(out, at);
    finish(&mut out[at..], payload_bytes, kind, 0, salt);
}

/// What stands at `at`, which is a multiple of [`ALIGNMENT`].
pub fn read(bytes: &[u8], at: usize, salt: u64) -> Found<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(found) = record_at(rest, salt) {
        let (record, size) = found;
        return Found::Record(record, at + size);
    }
    if rest.iter().all(|byte| *byte == 0) {
        return Found::End;
    }
    // A header that is whole tells where the next record is; behind one that is not, look everywhere.
    let mut next = at + header(rest, salt).map_or(ALIGNMENT, |header| header.size());
    while next < bytes.len() {
        if header(&bytes[next..], salt).is_some() {
            return Found::Damage(next);
        }
        next += ALIGNMENT;
    }
    Found::Torn
}

struct Header {
    payload_bytes: usize,
    payload_crc: u32,
    kind: Kind,
    left: u32,
}

impl Header {
    fn size(&self) -> usize {
        (HEADER_BYTES + self.payload_bytes).next_multiple_of(ALIGNMENT)
    }
}

fn header(bytes: &[u8], salt: u64) -> Option<Header> {
    let header = bytes.get(..HEADER_BYTES)?;
    if header[..4] != MAGIC {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if word(4) != crc32c::crc32c(&header[8..]) || header[24..] != salt.to_le_bytes() {
        return None;
    }
    let payload_bytes = word(8) as usize;
    if header[17] != VERSION || payload_bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    Some(Header {
        payload_bytes,
        payload_crc: word(12),
        kind: Kind::from_byte(header[16])?,
        left: word(20),
    })
}

fn record_at(bytes: &[u8], salt: u64) -> Option<(Record<'_>, usize)> {
    let header = header(bytes, salt)?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + header.payload_bytes)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some((
        Record {
            kind: header.kind,
            left: header.left,
            payload,
        },
        header.size(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;

    fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for payload in payloads {
            starts.push(bytes.len());
            put(&mut bytes, Kind::Block, payload, SALT);
        }
        (bytes, starts)
    }

    fn read_all(bytes: &[u8]) -> (Vec<Vec<u8>>, usize, bool) {
        let (mut at, mut payloads, mut damaged) = (0, Vec::new(), 0);
        loop {
            match read(bytes, at, SALT) {
                Found::Record(record, next) => {
                    payloads.push(record.payload.to_vec());
                    at = next;
                }
                Found::Damage(next) => {
                    damaged += 1;
                    at = next;
                }
                Found::End => return (payloads, damaged, false),
                Found::Torn => return (payloads, damaged, true),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(1u8.., 1..60), 1..8)
    }

    proptest! {
        #[test]
        fn reads_what_was_put_and_stops_at_zeros(payloads in payloads(), zeros in 0usize..200) {
            let (mut bytes, _) = file(&payloads);
            bytes.resize(bytes.len() + zeros, 0);
            prop_assert_eq!(read_all(&bytes), (payloads, 0, false));
        }

        /// Every prefix gives the records that are whole in it, and says that the rest is torn.
        #[test]
        fn every_prefix_gives_its_whole_records(payloads in payloads()) {
            let (bytes, starts) = file(&payloads);
            for cut in 0..bytes.len() {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(bytes.len() + 64, 0);
                let (read, damaged, is_torn) = read_all(&torn);
                let ends = starts.iter().zip(&payloads).map(|(start, payload)| start + HEADER_BYTES + payload.len());
                let whole = ends.take_while(|end| *end <= cut).count();
                prop_assert_eq!(&read, &payloads[..whole]);
                prop_assert_eq!(damaged, 0);
                let started = starts.iter().any(|start| *start < cut && start + 4 <= cut) && cut > starts[whole.min(starts.len() - 1)] && whole < payloads.len();
                prop_assert!(is_torn || !started, "cut at {}", cut);
            }
        }

        /// One damaged record costs no other.
        #[test]
        fn a_flipped_byte_costs_one_record(payloads in payloads(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let (mut bytes, starts) = file(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let hit = starts.iter().rposition(|start| *start <= at).expect("the first record starts at 0");
            let (read, damaged, is_torn) = read_all(&bytes);
            let in_padding = at >= starts[hit] + HEADER_BYTES + payloads[hit].len();
            let expected: Vec<_> = payloads.iter().enumerate().filter(|(i, _)| in_padding || *i != hit).map(|(_, p)| p.clone()).collect();
            prop_assert_eq!(read, expected);
            if !in_padding {
                prop_assert!(damaged == 1 || is_torn);
            }
        }

        #[test]
        fn never_panics_and_always_ends(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            read_all(&bytes);
        }

        #[test]
        fn records_of_another_file_are_none(payloads in payloads()) {
            let (bytes, _) = file(&payloads);
            prop_assert!(!matches!(read(&bytes, 0, SALT ^ 1), Found::Record(..)));
        }
    }
}
