//! Bodies that are one message: each of its records is a row, read where it lies.
//!
//! A protocol says how its records are found and what goes to which column ([`Records`]); all else is the same for all of them:
//! passes of `chunk_bytes`, the memory they need, where the next one begins.

pub mod objects;
mod places;
mod room;
pub(crate) mod tape;
#[cfg(test)]
pub(crate) mod testing;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

pub use self::places::Places;
pub use self::room::Room;

pub(crate) use self::room::text_of;

use crate::batch::{Pushed, RowInput, RowRefusal, RowSource, RowStop, RowWriter, TableSink};
use crate::json::{Parser, RowErrors};
use crate::limits::Limits;

/// The records of a message that are still to come. A copy goes on from the same place.
pub trait Records<'b>: Copy {
    /// Others may have the core between two passes: what is read is not the core's only one.
    const PASS_BY_PASS: bool;

    /// One record, not looked into yet.
    type Record: Copy;
    /// What records share, as far as it is on the tape of the current pass.
    type Shared: Default;

    /// The next record.
    fn next(&mut self) -> Option<Self::Record>;

    /// The record that came last comes again.
    fn put_back(&mut self, record: &Self::Record);

    /// Number of the group that a record is in: those of a group go to one table.
    fn group(&self, _record: &Self::Record) -> u32 {
        0
    }

    /// Puts the labels of a record's group, which routes may ask for.
    fn labels(&self, _record: &Self::Record, _group: &mut Group) {}

    /// Bytes that count for a record: its own, and those of what it shares with others when it is the first to bring it.
    fn bytes(&self, record: &Self::Record, shared: &Self::Shared) -> usize;

    /// Bytes that the record put last is stored with and did not bring: every row repeats what records share.
    fn repeated_bytes(&self, _shared: &Self::Shared) -> usize {
        0
    }

    /// Puts the parts of a record where they go.
    ///
    /// # Errors
    /// It is malformed, breaks a rule of its protocol, or a bound is reached.
    fn put<'t>(
        &self,
        record: &Self::Record,
        shared: &mut Self::Shared,
        places: &Places,
        room: &mut Room<'t>,
        row: &mut RowWriter<'_, 't>,
    ) -> Result<(), RowStop>
    where
        'b: 't;
}

/// The labels of a group of records.
#[derive(Debug, Default)]
pub struct Group {
    labels: Vec<(String, String)>,
}

impl Group {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(known, _)| known == name);
        label.map(|(_, value)| value.as_str())
    }

    pub(crate) fn put(&mut self, name: &str, value: String) {
        self.labels.push((name.to_owned(), value));
    }
}

/// A message whose structure was checked down to its records.
pub struct Message<'b, R: Records<'b>> {
    records: usize,
    /// Where the group ends that is being pushed.
    end: Cell<usize>,
    /// The records behind so many of them: a pass goes on where the last one ended.
    at: Cell<(usize, R)>,
    bytes: PhantomData<&'b [u8]>,
}

impl<'b, R: Records<'b>> Message<'b, R> {
    /// A message of so many records, `all` of them.
    pub(crate) fn new(records: usize, all: R) -> Self {
        Message {
            records,
            end: Cell::new(records),
            at: Cell::new((0, all)),
            bytes: PhantomData,
        }
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Calls `visit` with the labels of each group from `at` on, and with where it ends, until that fails.
    pub(crate) fn each_group<E>(
        &self,
        at: usize,
        mut visit: impl FnMut(&Group, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut records = self.records_from(at);
        let mut ahead = records.next();
        let mut end = at;
        while let Some(first) = ahead {
            let mut group = Group::default();
            records.labels(&first, &mut group);
            let number = records.group(&first);
            while let Some(record) = ahead
                && records.group(&record) == number
            {
                end += 1;
                ahead = records.next();
            }
            visit(&group, end)?;
        }
        Ok(())
    }

    /// What is pushed next ends here.
    pub(crate) fn end_at(&self, end: usize) {
        assert!(end <= self.records, "a group is within its message");
        self.end.set(end);
    }

    /// The records behind the first `at`, which never becomes less.
    fn records_from(&self, at: usize) -> R {
        let (passed, mut records) = self.at.get();
        for _ in passed..at {
            records.next();
        }
        self.at.set((at, records));
        records
    }
}

impl<'b, R: Records<'b>> RowInput for Message<'b, R> {
    const PASS_BY_PASS: bool = R::PASS_BY_PASS;

    fn end(&self) -> usize {
        self.end.get()
    }

    fn push(
        &self,
        at: usize,
        sink: &mut TableSink,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let limits = *sink.limits();
        let records = self.records_from(at);
        parser.lend(room_bytes(&limits), |room, tape| {
            let mut pass = Pass::new(records, Room::new(room, &limits), &limits);
            let pushed = sink.push_rows(&mut pass, self.end.get() - at, tape, first_row, now_ns, errors);
            // Of rows that found no batch the next pass begins with the first.
            if pass.read == pushed.consumed {
                self.at.set((at + pass.read, pass.rest()));
            }
            pushed
        })
    }
}

/// A message in JSON, or what is around its records, is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongStructure {
    /// Something is of the wrong type.
    Type {
        /// What the message should be, with its article.
        message: &'static str,
        /// The part that is wrong.
        part: &'static str,
    },
    /// More records than the protocol allows for.
    TooMany {
        /// How many it allows for.
        records_max: usize,
    },
}

impl fmt::Display for WrongStructure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongStructure::Type { message, part } => {
                write!(f, "not {message}: {part} is of the wrong type")
            }
            WrongStructure::TooMany { records_max } => {
                write!(
                    f,
                    "longer than {records_max} records; split it into several requests"
                )
            }
        }
    }
}

/// Bytes of room that any record of so many bytes fits: hexadecimal doubles ids, Base64 adds a third.
fn room_of(record_bytes: usize) -> usize {
    2 * record_bytes + 64
}

/// Bytes of room so that a pass takes one record at least.
fn room_bytes(limits: &Limits) -> usize {
    room_of(limits.line_bytes_max.max(limits.chunk_bytes))
}

/// The records of one pass.
struct Pass<'b, 't, R: Records<'b>> {
    records: R,
    /// Records written or skipped.
    read: usize,
    current: Option<R::Record>,
    shared: R::Shared,
    places: Option<Places>,
    room: Room<'t>,
    record_bytes_max: usize,
    /// Bytes of records this pass may still take.
    left: usize,
    /// Bytes its rows may still repeat. With the last row a pass repeats twice `line_bytes_max` at most, for which a batch has
    /// room ([`crate::batch::overshoot_bytes`]), however many empty records share a long resource.
    repeats_left: usize,
}

impl<'b, 't, R: Records<'b>> Pass<'b, 't, R> {
    /// The records from the next one on.
    fn new(records: R, room: Room<'t>, limits: &Limits) -> Self {
        Pass {
            records,
            read: 0,
            current: None,
            shared: R::Shared::default(),
            places: None,
            room,
            record_bytes_max: limits.line_bytes_max,
            left: limits.chunk_bytes,
            repeats_left: limits.line_bytes_max,
        }
    }

    /// The records it was not done with.
    fn rest(&self) -> R {
        let mut records = self.records;
        if let Some(record) = &self.current {
            records.put_back(record);
        }
        records
    }
}

impl<'b: 't, 't, R: Records<'b>> RowSource<'t> for Pass<'b, 't, R> {
    fn write(&mut self, row: &mut RowWriter<'_, 't>) -> Result<bool, RowStop> {
        if self.current.is_none() {
            self.current = self.records.next();
        }
        let Some(record) = self.current else {
            return Ok(false);
        };
        let bytes = self.records.bytes(&record, &self.shared);
        let is_full = self.left < bytes || self.repeats_left == 0 || self.room.bytes() < room_of(bytes);
        if is_full && row.number() > 0 {
            return Ok(false);
        }
        if bytes > self.record_bytes_max {
            return Err(RowRefusal::TooLong.into());
        }
        let places = match &mut self.places {
            Some(places) if places.generation == row.generation() => places,
            places => places.insert(Places::find(row)?),
        };
        self.records
            .put(&record, &mut self.shared, places, &mut self.room, row)?;
        self.left = self.left.saturating_sub(bytes);
        let repeated_bytes = self.records.repeated_bytes(&self.shared);
        self.repeats_left = self.repeats_left.saturating_sub(repeated_bytes);
        self.current = None;
        self.read += 1;
        Ok(true)
    }

    fn skip(&mut self) {
        self.current = None;
        self.read += 1;
    }
}
