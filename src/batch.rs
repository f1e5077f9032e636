//! Puts the rows of one table on one core into open batches, and seals those into blocks.

mod names;
mod open;
mod scan;
mod span;
mod writer;

pub use self::span::Span;
pub(crate) use self::span::Spans;
pub use self::writer::{Place, RowRefusal, RowSource, RowStop, RowWriter};

use self::open::{Batch, Failure, Gather, Pass, Route, is_omitted};
use self::scan::{Scan, Stopped};
use crate::block::{BlockInfo, Partitions};
use crate::clickhouse::frame::FrameEncoder;
use crate::column::{Append, Column, Node, partition_of};
use crate::json::{Parsed, Parser, RowErrors, RowsText};
use crate::limits::Limits;
use crate::mapping::{MappingConfig, Reading};
use crate::schema::{ColumnSpec, PartitionKey, PartitionUnit, Role, Schema};
use crate::zone::Zone;

/// What became of pushed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pushed {
    /// How far the input is done, its rows accepted or rejected, in the input's own measure; of a text, less than all only when
    /// blocked.
    pub consumed: usize,
    /// Rows done.
    pub rows: u64,
    /// Rows of them that are in batches now; the others are in the `RowErrors`.
    pub accepted: u64,
    /// The batch that must be sealed before the rest of the text is pushed again.
    pub blocked_on: Option<usize>,
    /// Bit i: open batch i got rows.
    pub touched: u64,
}

/// Rows that came together, in a form that knows how to push them.
pub trait RowInput {
    /// It is long, and others want the core between two passes.
    const PASS_BY_PASS: bool;

    /// Where they end, in the input's own measure: bytes of a text, records of a message.
    fn end(&self) -> usize;

    /// Pushes rows from `at` on, one pass at least; see [`TableSink::push`].
    fn push(
        &self,
        at: usize,
        sink: &mut TableSink,
        parser: &mut Parser,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed;
}

impl RowInput for RowsText<'_> {
    const PASS_BY_PASS: bool = false;

    fn end(&self) -> usize {
        self.bytes.len()
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
        sink.push(parser, self.from_offset(at), first_row, now_ns, errors)
    }
}

/// An open batch as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBatch {
    /// Rows in it, at least one.
    pub rows: usize,
    /// Bytes it will have before compression.
    pub wire_bytes: usize,
    /// Receive time of its first row, nanoseconds since 1970.
    pub opened_at_ns: i64,
}

/// Bytes by which a batch may exceed `batch_bytes_max`: what one chunk and one long row become.
///
/// Text stays as long as it is, a short number becomes up to four times as long; twice the text covers every
/// log, and the `line_bytes_max` of what records share that the rows of a pass repeat. A block for anything else grows.
pub fn overshoot_bytes(limits: &Limits) -> usize {
    2 * (limits.chunk_bytes + limits.line_bytes_max)
}

/// Partitions of one bucket: a bit for each in a word.
///
/// A bucket is 64 units of UTC on end, aligned. Where ClickHouse counts in another time zone they lie in 65 units at most, or
/// 66 when a clock is set back within them: below the 100 that an INSERT may touch, however scattered the rows are.
const BUCKET_PARTITIONS_MAX: i64 = 64;

/// The bucket of rows whose partition only ClickHouse knows.
const UNKNOWN_BUCKET: i64 = i64::MIN;

/// The open batches of one table on one core.
#[derive(Debug)]
pub struct TableSink {
    schema: Schema,
    limits: Limits,
    scan: Scan,
    batches: Vec<Batch>,
    /// For each column its bit in `Route::omitted`, when it has a DEFAULT and is among the first 64 that have.
    default_bits: Vec<Option<u32>>,
    partition: Option<TimePartition>,
    bucket_partitions: i64,
    ticks: Vec<i64>,
    /// For each row of a pass: it was rejected.
    bad: Vec<bool>,
    refused: Vec<(usize, RowRefusal)>,
    failures: Vec<Failure>,
    /// For each row of a pass the columns left to their DEFAULT.
    omitted: Vec<u64>,
    /// For each row of a pass its partition.
    ordinals: Vec<i64>,
    /// For each row of a pass the batch it goes to.
    destinations: Vec<u8>,
    /// The rows that go to the batch being appended to.
    members: Vec<u32>,
    gather: Gather,
    head: Vec<u8>,
}

/// A partition key that is a calendar unit of a time column.
#[derive(Debug, Clone)]
struct TimePartition {
    column: usize,
    unit: PartitionUnit,
    spec: ColumnSpec,
    /// Absent values are left to ClickHouse, and their partition with them.
    default_bit: Option<u32>,
}

/// Where the rows of a pass go, as far as there are batches for them.
#[derive(Debug, Clone, Copy)]
struct Assigned {
    /// Rows before the first that finds no batch.
    done: usize,
    blocked_on: Option<usize>,
    /// All rows of the pass go there, and none is bad.
    all_into: Option<usize>,
}

impl TableSink {
    /// A sink without open batches.
    ///
    /// # Panics
    /// When `limits.batches_per_table` is not between 1 and 64.
    pub fn new(schema: Schema, mapping: &MappingConfig, limits: &Limits) -> Self {
        assert!(
            (1..=64).contains(&limits.batches_per_table),
            "open batches are named by bits of a word"
        );
        let scan = Scan::new(&schema, mapping, limits);
        let mut bits = 0..64;
        let default_bits: Vec<Option<u32>> = schema
            .columns
            .iter()
            .map(|spec| {
                (spec.has_default && spec.role != Role::Time)
                    .then(|| bits.next())
                    .flatten()
            })
            .collect();
        let partition = match schema.partition {
            PartitionKey::Time { column, unit } if schema.columns[column].data_type.is_time() => {
                Some(TimePartition {
                    column,
                    unit,
                    spec: schema.columns[column].clone(),
                    default_bit: default_bits[column],
                })
            }
            _ => None,
        };
        let partitions_max = i64::try_from(limits.partitions_per_insert_max).unwrap_or(i64::MAX);
        TableSink {
            scan,
            batches: Vec::new(),
            default_bits,
            partition,
            bucket_partitions: partitions_max.clamp(1, BUCKET_PARTITIONS_MAX),
            ticks: Vec::new(),
            bad: Vec::new(),
            refused: Vec::new(),
            failures: Vec::new(),
            omitted: Vec::new(),
            ordinals: Vec::new(),
            destinations: Vec::new(),
            members: Vec::new(),
            gather: Gather::default(),
            head: Vec::new(),
            limits: *limits,
            schema,
        }
    }

    /// The table's columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Values so far whose key no column knows; a table without overflow column drops them.
    pub fn unknown_fields(&self) -> u64 {
        self.scan.unknown_fields
    }

    /// The batches that have rows, with their numbers.
    pub fn open(&self) -> impl Iterator<Item = (usize, OpenBatch)> {
        self.batches
            .iter()
            .enumerate()
            .filter(|(_, batch)| batch.rows > 0)
            .map(|(index, batch)| {
                let open = OpenBatch {
                    rows: batch.rows,
                    wire_bytes: batch.wire_bytes(),
                    opened_at_ns: batch.opened_at_ns,
                };
                (index, open)
            })
    }

    /// Rows in a batch now.
    pub fn rows(&self, batch: usize) -> usize {
        self.batches[batch].rows
    }

    /// Whether a batch has reached a bound and takes no more rows.
    pub fn is_full(&self, batch: usize) -> bool {
        let batch = &self.batches[batch];
        batch.rows >= self.limits.batch_rows_max || batch.wire_bytes() >= self.limits.batch_bytes_max
    }

    /// The zone of times that name none.
    pub fn zone(&self) -> Zone {
        self.scan.zone()
    }

    /// How the next rows are read, until it is said otherwise.
    #[inline]
    pub fn read_as(&mut self, reading: Reading) {
        self.scan.read_as(reading);
    }

    /// Parses `text` and puts its rows into batches. Row numbers in `errors` count from `first_row`.
    ///
    /// A row that cannot be taken is rejected alone. When a batch must be sealed first, the rows up to there are
    /// done, and the caller pushes `text` from `consumed` on again afterwards.
    pub fn push(
        &mut self,
        parser: &mut Parser,
        text: RowsText<'_>,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let mut pushed = Pushed::default();
        self.push_text(parser, text, first_row, now_ns, errors, &mut pushed);
        if pushed.consumed < text.bytes.len() && pushed.blocked_on.is_none() {
            let rest = text.from_offset(pushed.consumed);
            let before = pushed.rows;
            parser.parse_with(rest, self.scan.constants(), |parsed| {
                self.push_parsed(parsed, first_row + before, now_ns, errors, &mut pushed)
            });
            pushed.consumed += match pushed.blocked_on {
                None => rest.bytes.len(),
                Some(_) => rest.offset_of_row((pushed.rows - before) as usize),
            };
        }
        pushed
    }

    /// Puts one pass of the rows that `source` writes into batches, at most `rows`; `consumed` counts rows. Their values
    /// come on `tape`.
    pub fn push_rows<'t>(
        &mut self,
        source: &mut impl RowSource<'t>,
        rows: usize,
        tape: &mut Vec<Node<'t>>,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
    ) -> Pushed {
        let mut pushed = Pushed::default();
        self.refused.clear();
        let refused = &mut self.refused;
        self.scan
            .write_rows(source, rows, tape, |row, refusal| refused.push((row, refusal)));
        self.read_times(tape, now_ns);
        let done = self.take_pass(tape, now_ns, errors, &mut pushed, |row| first_row + row as u64);
        pushed.rows = done as u64;
        pushed.consumed = done;
        pushed
    }

    /// Seals a batch, appends its block to `frames` and leaves the batch free.
    ///
    /// # Panics
    /// When the batch has no rows.
    pub fn seal(&mut self, batch: usize, encoder: &mut FrameEncoder, frames: &mut Vec<u8>) -> BlockInfo {
        let batch = &mut self.batches[batch];
        assert!(batch.rows > 0, "only a batch with rows is sealed");
        let route = batch.route.expect("a batch with rows has a route");
        let rows = u32::try_from(batch.rows).expect("a batch is far below 4 G rows");
        let partitions = match route.bucket {
            UNKNOWN_BUCKET => Partitions::UNKNOWN,
            bucket => Partitions {
                first: bucket * self.bucket_partitions,
                bits: batch.partitions,
            },
        };
        let opened_at_ns = batch.opened_at_ns;
        let wire_bytes = batch.seal(&self.default_bits, &mut self.head, encoder, frames);
        BlockInfo {
            schema: Schema::clone(&self.schema),
            omitted: route.omitted,
            rows,
            wire_bytes: u32::try_from(wire_bytes).unwrap_or(u32::MAX),
            partitions,
            opened_at_ns,
        }
    }

    /// Takes the rows of `text` up to the first that is not written the usual way.
    fn push_text(
        &mut self,
        parser: &mut Parser,
        text: RowsText<'_>,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
        pushed: &mut Pushed,
    ) {
        parser.read(text, |mut reader, tape| {
            let mut stopped = Stopped::Full;
            while stopped == Stopped::Full {
                self.refused.clear();
                stopped = self.scan.read_text(&mut reader, tape);
                self.read_times(tape, now_ns);
                let before = first_row + pushed.rows;
                let done = self.take_pass(tape, now_ns, errors, pushed, |row| before + row as u64);
                pushed.rows += done as u64;
                pushed.consumed = self.scan.start_of(done);
                if done < self.scan.rows() {
                    return;
                }
            }
            if stopped == Stopped::AtEnd {
                pushed.consumed = text.bytes.len();
            }
        });
    }

    fn push_parsed(
        &mut self,
        parsed: Parsed<'_, '_>,
        first_row: u64,
        now_ns: i64,
        errors: &mut RowErrors,
        pushed: &mut Pushed,
    ) {
        let mut done = 0;
        while done < parsed.rows.len() && pushed.blocked_on.is_none() {
            self.refused.clear();
            let refused = &mut self.refused;
            self.scan
                .scan(parsed.tape, &parsed.rows[done..], parsed.added, |row, fault| {
                    refused.push((row, fault));
                });
            self.read_times(parsed.tape, now_ns);
            done += self.take_pass(parsed.tape, now_ns, errors, pushed, |row| {
                first_row + u64::from(parsed.ordinal(done + row))
            });
        }
        let rows = match pushed.blocked_on {
            None => u64::from(parsed.count),
            Some(_) => u64::from(parsed.ordinal(done)),
        };
        for (ordinal, fault) in parsed.faults {
            if u64::from(*ordinal) < rows {
                errors.push_fault(first_row + u64::from(*ordinal), fault);
            }
        }
        pushed.rows += rows;
    }

    /// Puts the rows of a pass into batches, as many as find one, and rejects the bad ones among them. Returns how
    /// many it was done with.
    fn take_pass(
        &mut self,
        tape: &[Node<'_>],
        now_ns: i64,
        errors: &mut RowErrors,
        pushed: &mut Pushed,
        number: impl Fn(usize) -> u64,
    ) -> usize {
        let assigned = self.assign(now_ns);
        pushed.accepted += self.append_pass(assigned, tape, now_ns, &mut pushed.touched);
        self.report(assigned.done, errors, number);
        // A batch that was opened for rows of this pass which all proved bad is free again.
        pushed.blocked_on = assigned.blocked_on.filter(|batch| self.batches[*batch].rows > 0);
        assigned.done
    }

    /// Parses the times that decide on the partitions of a pass.
    fn read_times(&mut self, tape: &[Node<'_>], now_ns: i64) {
        let TableSink {
            scan,
            bad,
            refused,
            failures,
            ticks,
            ..
        } = self;
        bad.clear();
        bad.resize(scan.rows(), false);
        for (row, _) in refused {
            bad[*row] = true;
        }
        failures.clear();
        ticks.clear();
        if let Some(partition) = &self.partition {
            let append = Append {
                tape,
                values: scan.slots_of(partition.column),
                now_ns,
            };
            Column::parse_ticks(&partition.spec, &append, ticks, &mut |row, error| {
                bad[row] = true;
                failures.push(Failure {
                    row: row as u32,
                    column: partition.column as u32,
                    error,
                });
            });
        }
    }

    /// Finds a batch for each row of the pass, in order, until one has none.
    fn assign(&mut self, now_ns: i64) -> Assigned {
        let rows = self.scan.rows();
        self.list_omitted();
        if let Some((route, ordinal)) = self.common_route() {
            self.ordinals.clear();
            self.ordinals.resize(rows, ordinal);
            return match self.batch_for(route, now_ns) {
                Ok(batch) => Assigned {
                    done: rows,
                    blocked_on: None,
                    all_into: Some(batch),
                },
                Err(blocked_on) => Assigned {
                    done: 0,
                    blocked_on: Some(blocked_on),
                    all_into: None,
                },
            };
        }
        self.list_ordinals();
        self.destinations.clear();
        let mut last = None;
        for row in 0..rows {
            if self.bad[row] {
                self.destinations.push(u8::MAX);
                continue;
            }
            let route = self.route_of(row);
            let batch = match last {
                Some((last_route, batch)) if last_route == route => batch,
                _ => match self.batch_for(route, now_ns) {
                    Ok(batch) => batch,
                    Err(batch) => {
                        return Assigned {
                            done: row,
                            blocked_on: Some(batch),
                            all_into: None,
                        };
                    }
                },
            };
            last = Some((route, batch));
            self.destinations.push(batch as u8);
        }
        Assigned {
            done: rows,
            blocked_on: None,
            all_into: None,
        }
    }

    /// For each row the columns left to their DEFAULT.
    fn list_omitted(&mut self) {
        self.omitted.clear();
        self.omitted.resize(self.scan.rows(), 0);
        for (column, bit) in self.default_bits.iter().enumerate() {
            if let Some(bit) = bit {
                for (omitted, slot) in self.omitted.iter_mut().zip(self.scan.slots_of(column)) {
                    *omitted |= u64::from(*slot == 0) << bit;
                }
            }
        }
    }

    /// The route and partition that all rows of the pass share, when no row is bad: the usual case.
    fn common_route(&self) -> Option<(Route, i64)> {
        let omitted = *self.omitted.first()?;
        if !(self.refused.is_empty() && self.failures.is_empty()) {
            return None;
        }
        if self.omitted.iter().any(|other| *other != omitted) {
            return None;
        }
        let ordinal = match &self.partition {
            None => 0,
            // The ordinal grows with the time, so that the first and the last are enough to look at.
            Some(partition) => {
                let first = self.ordinal_of(partition, *self.ticks.iter().min()?);
                let last = self.ordinal_of(partition, *self.ticks.iter().max()?);
                (first == last).then_some(first)?
            }
        };
        Some((
            Route {
                bucket: self.bucket_of(ordinal, omitted),
                omitted,
            },
            ordinal,
        ))
    }

    fn list_ordinals(&mut self) {
        let mut ordinals = std::mem::take(&mut self.ordinals);
        ordinals.clear();
        match &self.partition {
            None => ordinals.resize(self.scan.rows(), 0),
            Some(partition) => {
                ordinals.extend(self.ticks.iter().map(|ticks| self.ordinal_of(partition, *ticks)));
            }
        }
        self.ordinals = ordinals;
    }

    fn ordinal_of(&self, partition: &TimePartition, ticks: i64) -> i64 {
        partition_of(partition.unit, &partition.spec, ticks)
    }

    fn route_of(&self, row: usize) -> Route {
        let omitted = self.omitted[row];
        Route {
            bucket: self.bucket_of(self.ordinals[row], omitted),
            omitted,
        }
    }

    fn bucket_of(&self, ordinal: i64, omitted: u64) -> i64 {
        match (&self.partition, self.schema.partition) {
            (Some(partition), _) if !is_omitted(omitted, partition.default_bit) => {
                ordinal.div_euclid(self.bucket_partitions)
            }
            (None, PartitionKey::None) => 0,
            _ => UNKNOWN_BUCKET,
        }
    }

    /// The batch of a route, opened if need be. `Err` names the batch to seal when it is full or none is free.
    fn batch_for(&mut self, route: Route, now_ns: i64) -> Result<usize, usize> {
        if let Some(batch) = self.batches.iter().position(|batch| batch.route == Some(route)) {
            return if self.is_full(batch) {
                Err(batch)
            } else {
                Ok(batch)
            };
        }
        let free = self.batches.iter().position(|batch| batch.route.is_none());
        let batch = match free {
            Some(batch) => batch,
            None if self.batches.len() < self.limits.batches_per_table => {
                self.batches
                    .push(Batch::new(&self.schema, self.scan.overflow(), &self.limits));
                self.batches.len() - 1
            }
            None => {
                // The largest makes the fewest parts of what must be inserted early. All have rows, or got their
                // route for rows of this very pass: then those go first, and the caller comes back.
                let largest = (0..self.batches.len()).max_by_key(|batch| self.batches[*batch].rows);
                return Err(largest.expect("a table may have at least one open batch"));
            }
        };
        self.batches[batch].open(route, now_ns);
        Ok(batch)
    }

    /// Appends the rows that found a batch; returns how many were accepted.
    fn append_pass(&mut self, assigned: Assigned, tape: &[Node<'_>], now_ns: i64, touched: &mut u64) -> u64 {
        let mut accepted = 0;
        for batch in 0..self.batches.len() {
            self.members.clear();
            let all = assigned.all_into == Some(batch);
            if assigned.all_into.is_none() {
                let destinations = self.destinations[..assigned.done.min(self.destinations.len())].iter();
                let of_batch = destinations
                    .enumerate()
                    .filter(|(_, to)| usize::from(**to) == batch);
                self.members.extend(of_batch.map(|(row, _)| row as u32));
            }
            if all || !self.members.is_empty() {
                let taken = self.append_to(batch, all, tape, now_ns);
                accepted += taken as u64;
                *touched |= u64::from(taken > 0) << batch;
            }
            if self.batches[batch].rows == 0 {
                self.batches[batch].route = None;
            }
        }
        accepted
    }

    /// Appends all rows of the pass, or `members`. When a value does not fit, everything is taken back and the
    /// rows without such values are appended again: two passes at most, and no value is checked before it is written.
    fn append_to(&mut self, batch: usize, all: bool, tape: &[Node<'_>], now_ns: i64) -> usize {
        let TableSink {
            scan,
            batches,
            default_bits,
            partition,
            ticks,
            bad,
            ..
        } = self;
        let TableSink {
            ordinals,
            members,
            failures,
            gather,
            ..
        } = self;
        let batch = &mut batches[batch];
        let ticks = partition
            .as_ref()
            .map(|partition| (partition.column, ticks.as_slice()));
        let pass = Pass {
            scan,
            tape,
            now_ns,
            ticks,
        };
        let failed = failures.len();
        batch.mark();
        batch.append(&pass, (!all).then_some(members), default_bits, gather, failures);
        if all {
            members.extend(0..scan.rows() as u32);
        }
        if failures.len() > failed {
            batch.rollback();
            for failure in &failures[failed..] {
                bad[failure.row as usize] = true;
            }
            members.retain(|row| !bad[*row as usize]);
            let failed = failures.len();
            batch.append(&pass, Some(members), default_bits, gather, failures);
            assert_eq!(failures.len(), failed, "a value that fitted once fits again");
        }
        batch.rows += members.len();
        for row in members.iter() {
            batch.partitions |= 1 << ordinals[*row as usize].rem_euclid(self.bucket_partitions);
        }
        members.len()
    }

    /// Rejects the bad ones among the first `done` rows of the pass, each for the first reason found.
    fn report(&mut self, done: usize, errors: &mut RowErrors, number: impl Fn(usize) -> u64) {
        for (row, refusal) in &self.refused {
            if *row < done {
                errors.push(number(*row), refusal.reason(), || refusal.to_string());
                self.bad[*row] = false;
            }
        }
        for failure in &self.failures {
            let row = failure.row as usize;
            if row < done && std::mem::take(&mut self.bad[row]) {
                let column = &self.schema.columns[failure.column as usize].name;
                let error = failure.error;
                errors.push(number(row), error.into(), || format!("column {column}: {error}"));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod taken;
#[cfg(test)]
mod tests;
