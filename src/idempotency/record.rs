//! A key with its stored reply, in memory and as bytes.
//!
//! Bytes of a record, all integers little-endian:
//!
//! ```text
//! u32 length of the payload
//! u32 CRC32C of the four length bytes and the payload
//! payload:
//!   u8  version, 1
//!   i64 expires, Unix milliseconds
//!   u16 status
//!   u64 rows accepted
//!   u64 rows rejected
//!   u8  length of the ack level's name
//!   u8  length of the key, 1 to 128
//!   u16 length of the table's name, up to 1024
//!   u16 length of the reply's body, up to 4096
//!   then level, key, table and body
//! ```
//!
//! The checksum covers the length too: of zeros alone it would be zero, and a tail of zeros, as a crash leaves
//! it, would read as records.

use std::fmt;
use std::sync::Arc;

use crate::ack::AckLevel;
use crate::http::head::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::http::reply::{IngestReply, ingest_body};
use crate::http::status::Status;

/// Bytes of a stored reply body. A longer one is stored without its list of errors.
pub const STORED_BODY_BYTES_MAX: usize = 4096;

/// Bytes of a table's name: twice what ClickHouse takes of a database and a table, which are files to it.
pub const TABLE_BYTES_MAX: usize = 1024;

/// A key within its table: the same key on another table is another one. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    /// Table, then key, in one allocation.
    text: Arc<[u8]>,
    table_bytes: usize,
}

impl Name {
    /// The name of `key` on `table`.
    ///
    /// # Panics
    /// When the key is empty or longer than [`IDEMPOTENCY_KEY_BYTES_MAX`], which the head's parser refuses, or the
    /// name of the table is longer than [`TABLE_BYTES_MAX`], which no table that exists has.
    pub fn new(key: &[u8], table: &str) -> Name {
        assert!(
            (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()),
            "a key's length was checked when it was read"
        );
        assert!(
            table.len() <= TABLE_BYTES_MAX,
            "a table that is served has a name ClickHouse takes"
        );
        Name {
            text: [table.as_bytes(), key].concat().into(),
            table_bytes: table.len(),
        }
    }

    /// The key, without quotes.
    pub fn key(&self) -> &[u8] {
        &self.text[self.table_bytes..]
    }

    /// The table's name as it was given.
    pub fn table(&self) -> &str {
        std::str::from_utf8(&self.text[..self.table_bytes]).expect("it was made from a str")
    }

    /// Whether this is `key` on `table`.
    pub fn is(&self, key: &[u8], table: &str) -> bool {
        self.table_bytes == table.len()
            && &self.text[..self.table_bytes] == table.as_bytes()
            && self.key() == key
    }

    /// Bytes of both.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.key().escape_ascii(), self.table())
    }
}

/// The reply duplicates get. Cheap to clone: the body is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReply {
    /// Status of the reply.
    pub status: Status,
    /// Rows taken.
    pub accepted: u64,
    /// Rows refused.
    pub rejected: u64,
    /// The ack level that was reached. A duplicate may ask for another one and still gets this reply.
    pub ack: AckLevel,
    body: Arc<[u8]>,
}

impl StoredReply {
    /// A reply of these numbers whose whole JSON body is `body`.
    ///
    /// A body longer than [`STORED_BODY_BYTES_MAX`] becomes an ingest reply of the same numbers without its list of
    /// errors. A protocol whose long replies look otherwise has to shorten them itself.
    pub fn new(status: Status, accepted: u64, rejected: u64, ack: AckLevel, body: &[u8]) -> StoredReply {
        let reply = StoredReply {
            status,
            accepted,
            rejected,
            ack,
            body: body.into(),
        };
        if body.len() > STORED_BODY_BYTES_MAX {
            return reply.without_errors();
        }
        reply
    }

    /// The whole JSON body, for [`Replier::replay`](crate::http::reply::Replier::replay).
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same numbers in at most [`SHORT_BODY_BYTES_MAX`] bytes.
    pub(super) fn without_errors(&self) -> StoredReply {
        let reply = IngestReply {
            status: self.status,
            accepted: self.accepted,
            rejected: self.rejected,
            ack: self.ack.name(),
        };
        let mut body = Vec::with_capacity(SHORT_BODY_BYTES_MAX);
        ingest_body(&mut body, &reply, []);
        assert!(
            body.len() <= SHORT_BODY_BYTES_MAX,
            "two numbers and a word are short"
        );
        StoredReply {
            body: body.into(),
            ..self.clone()
        }
    }
}

/// An ingest reply without errors: 46 bytes of JSON around two numbers of at most 20 digits leave 42 for the level.
pub(super) const SHORT_BODY_BYTES_MAX: usize = 128;

/// A key, the reply its duplicates get, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key within its table.
    pub name: Name,
    /// Unix time in milliseconds from which the key is new again.
    pub expires_unix_ms: i64,
    /// What duplicates are told.
    pub reply: StoredReply,
}

const FRAME_BYTES: usize = 8;
const VERSION: u8 = 1;
/// Version, expires, status, two counts and four lengths.
const FIXED_BYTES: usize = 1 + 8 + 2 + 8 + 8 + 1 + 1 + 2 + 2;
const PAYLOAD_BYTES_MAX: usize =
    FIXED_BYTES + u8::MAX as usize + IDEMPOTENCY_KEY_BYTES_MAX + TABLE_BYTES_MAX + STORED_BODY_BYTES_MAX;

impl Record {
    /// Bytes [`encode`](Self::encode) appends.
    pub fn encoded_bytes(&self) -> usize {
        encoded_bytes(&self.name, &self.reply)
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let reply = &self.reply;
        let level = reply.ack.name().as_bytes();
        let (key, table) = (self.name.key(), self.name.table().as_bytes());
        let start = out.len();
        let length = self.encoded_bytes() - FRAME_BYTES;
        out.extend_from_slice(&u32::try_from(length).expect("at most some KiB").to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(VERSION);
        out.extend_from_slice(&self.expires_unix_ms.to_le_bytes());
        out.extend_from_slice(&reply.status.code().to_le_bytes());
        out.extend_from_slice(&reply.accepted.to_le_bytes());
        out.extend_from_slice(&reply.rejected.to_le_bytes());
        out.push(u8::try_from(level.len()).expect("a level is a word"));
        out.push(u8::try_from(key.len()).expect("Name::new checked it"));
        let table_bytes = u16::try_from(table.len()).expect("Name::new checked it");
        out.extend_from_slice(&table_bytes.to_le_bytes());
        let body_bytes = u16::try_from(reply.body.len()).expect("StoredReply::new shortened it");
        out.extend_from_slice(&body_bytes.to_le_bytes());
        for part in [level, key, table, &reply.body] {
            out.extend_from_slice(part);
        }
        debug_assert_eq!(out.len() - start, FRAME_BYTES + length);
        let sum = checksum(&out[start..start + 4], &out[start + FRAME_BYTES..]);
        out[start + 4..start + FRAME_BYTES].copy_from_slice(&sum.to_le_bytes());
    }

    /// `None` for another version, and for what this one never writes.
    fn decode(payload: &[u8]) -> Option<Record> {
        let mut fields = Fields(payload);
        if fields.take()? != [VERSION] {
            return None;
        }
        let expires_unix_ms = i64::from_le_bytes(fields.take()?);
        let status = Status::from_code(u16::from_le_bytes(fields.take()?))?;
        let accepted = u64::from_le_bytes(fields.take()?);
        let rejected = u64::from_le_bytes(fields.take()?);
        let [level_bytes, key_bytes] = fields.take()?;
        let table_bytes = u16::from_le_bytes(fields.take()?).into();
        let body_bytes = u16::from_le_bytes(fields.take()?).into();
        let ack = fields.text(level_bytes.into())?.parse().ok()?;
        let key = fields.slice(key_bytes.into())?;
        let table = fields.text(table_bytes)?;
        let body = fields.slice(body_bytes)?;
        let sane = fields.0.is_empty()
            && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
            && table.len() <= TABLE_BYTES_MAX
            && body.len() <= STORED_BODY_BYTES_MAX;
        sane.then(|| Record {
            name: Name::new(key, table),
            expires_unix_ms,
            reply: StoredReply::new(status, accepted, rejected, ack, body),
        })
    }
}

pub(super) fn encoded_bytes(name: &Name, reply: &StoredReply) -> usize {
    FRAME_BYTES + FIXED_BYTES + reply.ack.name().len() + name.bytes() + reply.body.len()
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), payload)
}

/// What is left of a payload.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn slice(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (field, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(field)
    }

    fn text(&mut self, bytes: usize) -> Option<&'b str> {
        std::str::from_utf8(self.slice(bytes)?).ok()
    }
}

/// What [`read_records`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The records, in the order they were written.
    pub records: Vec<Record>,
    /// Records before `end` that are corrupt, or of another version.
    pub skipped: usize,
    /// Where the last intact record ends. What follows is torn or corrupt.
    pub end: usize,
}

/// Reads records until no more are found. Takes any bytes.
///
/// A corrupt record is stepped over by its length; that the length was right shows when an intact record follows,
/// at once or behind more corrupt ones.
pub fn read_records(bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let (mut at, mut corrupt) = (0, 0);
    while let Some(frame) = Frame::at(&bytes[at..]) {
        at += FRAME_BYTES + frame.payload.len();
        if !frame.intact {
            corrupt += 1;
            continue;
        }
        reading.skipped += corrupt;
        reading.end = at;
        corrupt = 0;
        match Record::decode(frame.payload) {
            Some(record) => reading.records.push(record),
            None => reading.skipped += 1,
        }
    }
    reading
}

struct Frame<'b> {
    payload: &'b [u8],
    intact: bool,
}

impl<'b> Frame<'b> {
    /// The frame that begins here; `None` when there is none of a possible length.
    fn at(bytes: &'b [u8]) -> Option<Frame<'b>> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let payload_bytes = u32::from_le_bytes(*length) as usize;
        if !(1..=PAYLOAD_BYTES_MAX).contains(&payload_bytes) {
            return None;
        }
        let payload = rest.get(..payload_bytes)?;
        Some(Frame {
            payload,
            intact: checksum(length, payload) == u32::from_le_bytes(*sum),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record that differs with `n`, also in its length.
    pub(in super::super) fn record(n: u64) -> Record {
        let body = format!(
            "{{\"accepted\":{n},\"rejected\":{},\"ack\":\"inserted\",\"errors\":[]}}",
            n / 2
        );
        Record {
            name: Name::new(format!("key-{n}").as_bytes(), "default.logs"),
            expires_unix_ms: 1_700_000_000_000 + n as i64,
            reply: StoredReply::new(Status::Ok, n, n / 2, AckLevel::Inserted, body.as_bytes()),
        }
    }

    /// `records` as bytes, and where each of them ends.
    pub(in super::super) fn encode(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for record in records {
            let start = bytes.len();
            record.encode(&mut bytes);
            assert_eq!(bytes.len() - start, record.encoded_bytes());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn records(count: u64) -> Vec<Record> {
        (0..count).map(record).collect()
    }

    #[test]
    fn a_record_is_these_bytes() {
        let record = Record {
            name: Name::new(b"k", "t"),
            expires_unix_ms: -2,
            reply: StoredReply::new(Status::Accepted, 3, 4, AckLevel::Memory, b"{}"),
        };
        let (bytes, _) = encode(&[record]);
        assert_eq!(bytes[..4], 43u32.to_le_bytes());
        let expected = b"\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xca\x00\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\
                         \x06\x01\x01\0\x02\0memorykt{}";
        assert_eq!(bytes[8..], expected[..]);
    }

    #[test]
    fn a_name_is_a_key_on_its_table() {
        let name = Name::new(b"bc", "a");
        assert_eq!((name.key(), name.table()), (&b"bc"[..], "a"));
        assert!(name.is(b"bc", "a"));
        assert!(!name.is(b"c", "ab"), "the same letters, split elsewhere");
        assert_ne!(name, Name::new(b"c", "ab"));
    }

    #[test]
    fn a_long_body_is_stored_without_its_errors() {
        let long = vec![b' '; STORED_BODY_BYTES_MAX + 1];
        let reply = |body| StoredReply::new(Status::Ok, u64::MAX, u64::MAX, AckLevel::Inserted, body);
        assert_eq!(
            reply(&long[1..]).body(),
            &long[1..],
            "the longest that is kept whole"
        );
        let json: serde_json::Value = serde_json::from_slice(reply(&long).body()).unwrap();
        let expected =
            serde_json::json!({"accepted": u64::MAX, "rejected": u64::MAX, "ack": "inserted", "errors": []});
        assert_eq!(json, expected);
        assert!(reply(&long).body().len() <= SHORT_BODY_BYTES_MAX);
    }

    #[test]
    fn every_prefix_reads_as_the_records_that_are_whole_in_it() {
        let records = records(4);
        let (bytes, ends) = encode(&records);
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= length).count();
            let expected = Reading {
                records: records[..whole].to_vec(),
                skipped: 0,
                end: if whole == 0 { 0 } else { ends[whole - 1] },
            };
            assert_eq!(read_records(&bytes[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn steps_over_corrupt_records_when_an_intact_one_follows() {
        let records = records(5);
        let (bytes, ends) = encode(&records);
        for (corrupt, kept, skipped) in [
            (vec![0], vec![1, 2, 3, 4], 1),
            (vec![1, 2], vec![0, 3, 4], 2),
            (vec![0, 2], vec![1, 3, 4], 2),
            (vec![4], vec![0, 1, 2, 3], 0),
            (vec![0, 1, 2, 3, 4], vec![], 0),
        ] {
            let mut bytes = bytes.clone();
            for &at in &corrupt {
                bytes[ends[at] - 1] ^= 1;
            }
            let expected = Reading {
                records: kept.iter().map(|&at: &usize| records[at].clone()).collect(),
                skipped,
                end: kept.last().map_or(0, |&last| ends[last]),
            };
            assert_eq!(read_records(&bytes), expected, "{corrupt:?} are corrupt");
        }
    }

    #[test]
    fn cuts_behind_a_record_whose_length_leads_nowhere() {
        let records = records(3);
        let (mut bytes, ends) = encode(&records);
        bytes[ends[0]..ends[0] + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let reading = read_records(&bytes);
        assert_eq!((reading.records, reading.end), (records[..1].to_vec(), ends[0]));
    }

    #[test]
    fn zeros_are_no_records() {
        let (mut bytes, ends) = encode(&records(1));
        bytes.resize(10_000, 0);
        let reading = read_records(&bytes);
        assert_eq!((reading.records.len(), reading.end), (1, ends[0]));
        assert_eq!(read_records(&[0; 10_000]), Reading::default());
    }

    #[test]
    fn skips_an_intact_record_it_does_not_understand() {
        let records = records(2);
        let (mut bytes, ends) = encode(&records);
        let set = |bytes: &mut [u8], at: usize, to: u8| {
            bytes[at] = to;
            let sum = checksum(&bytes[..4], &bytes[8..ends[0]]);
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        };
        // Version, status, level, and the lengths of level, key, table and body.
        for at in [8, 17, 41, 35, 36, 37, 38, 39, 40] {
            let before = bytes[at];
            set(&mut bytes, at, 255);
            let reading = read_records(&bytes);
            let rest = (reading.records.as_slice(), reading.skipped, reading.end);
            assert_eq!(rest, (&records[1..], 1, ends[1]), "byte {at}");
            set(&mut bytes, at, before);
        }
        assert_eq!(read_records(&bytes).records, records);
    }

    proptest! {
        #[test]
        fn every_record_reads_back(
            key in prop::collection::vec(any::<u8>(), 1..=IDEMPOTENCY_KEY_BYTES_MAX),
            table in "\\PC{0,40}",
            expires_unix_ms: i64, accepted: u64, rejected: u64,
            status in prop::sample::select(Status::ALL.to_vec()),
            ack in prop::sample::select(vec![AckLevel::Memory, AckLevel::Inserted]),
            body in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let reply = StoredReply::new(status, accepted, rejected, ack, &body);
            let record = Record { name: Name::new(&key, &table), expires_unix_ms, reply };
            let (bytes, _) = encode(&[record.clone(), record.clone()]);
            let expected = Reading { records: vec![record.clone(), record], skipped: 0, end: bytes.len() };
            prop_assert_eq!(read_records(&bytes), expected);
        }

        #[test]
        fn a_flipped_bit_never_changes_a_record(bit in 0usize..8 * 700, count in 2u64..7) {
            let records = records(count);
            let (mut bytes, ends) = encode(&records);
            let bit = bit % (8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|&&end| end <= bit / 8).count();
            let reading = read_records(&bytes);
            // What is before it is read, itself never, and nothing is made up.
            prop_assert_eq!(&reading.records[..hit], &records[..hit]);
            prop_assert!(!reading.records.contains(&records[hit]));
            prop_assert!(reading.records.iter().all(|record| records.contains(record)));
            // Outside the length, what follows is read too.
            let in_record = bit / 8 - if hit == 0 { 0 } else { ends[hit - 1] };
            if in_record >= 4 {
                prop_assert_eq!(&reading.records[hit..], &records[hit + 1..]);
            }
        }

        #[test]
        fn any_bytes_are_read_up_to_the_end_that_is_told(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(40), any::<u8>()], 0..2000),
        ) {
            let reading = read_records(&bytes);
            prop_assert!(reading.end <= bytes.len());
            prop_assert_eq!(read_records(&bytes[..reading.end]), reading);
        }
    }
}
