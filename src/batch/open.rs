//! An open batch: the columns rows of one route go to, until it is sealed.

use super::scan::Scan;
use crate::clickhouse::frame::FrameEncoder;
use crate::clickhouse::wire::put_varint;
use crate::column::{Append, Column, EntryRange, Node, Overflow, ValueError};
use crate::limits::Limits;
use crate::schema::{DataType, Role, Schema};
use std::collections::BTreeMap;

/// Rows of one route can go into one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Range of partitions.
    pub(super) bucket: i64,
    /// Columns with a DEFAULT that have no value: bit i is the i-th such column.
    pub(super) omitted: u64,
}

/// A value that does not fit its column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) row: u32,
    pub(super) column: u32,
    pub(super) error: ValueError,
}

/// The rows of one pass in the form the columns take them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) scan: &'a Scan,
    pub(super) tape: &'a [Node<'a>],
    pub(super) now_ns: i64,
    /// The partition column and its parsed times, one for each row.
    pub(super) ticks: Option<(usize, &'a [i64])>,
}

/// Room to gather the values of some rows of a pass.
#[derive(Debug, Default)]
pub(super) struct Gather {
    values: Vec<u32>,
    ticks: Vec<i64>,
    ranges: Vec<EntryRange>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per column of an open batch, made once and never moved"
)]
enum Store {
    Column(Column),
    Overflow(Overflow),
}

/// A batch's columns, whether rows are in them or not.
#[derive(Debug)]
pub(super) struct Batch {
    stores: Vec<Store>,
    nested: Vec<Vec<usize>>,
    /// Columns that get the receive time where a row has none.
    stamped: Vec<bool>,
    pub(super) route: Option<Route>,
    pub(super) rows: usize,
    /// Bit i: the i-th partition of the route's bucket has rows.
    pub(super) partitions: u64,
    pub(super) opened_at_ns: i64,
}

impl Batch {
    pub(super) fn new(schema: &Schema, overflow: Option<usize>, limits: &Limits) -> Self {
        let stores = schema.columns.iter().enumerate().map(|(i, spec)| {
            if Some(i) == overflow {
                return Store::Overflow(Overflow::new(spec, limits));
            }
            Store::Column(Column::new(spec, limits))
        });
        let stamped = schema
            .columns
            .iter()
            .map(|spec| spec.role == Role::Time)
            .collect();
        Batch {
            stores: stores.collect(),
            nested: nested_columns(schema),
            stamped,
            route: None,
            rows: 0,
            partitions: 0,
            opened_at_ns: 0,
        }
    }

    pub(super) fn open(&mut self, route: Route, now_ns: i64) {
        debug_assert!(self.route.is_none() && self.rows == 0);
        self.route = Some(route);
        self.opened_at_ns = now_ns;
    }

    pub(super) fn wire_bytes(&self) -> usize {
        self.stores
            .iter()
            .map(|store| match store {
                Store::Column(column) => column.wire_bytes(),
                Store::Overflow(overflow) => overflow.wire_bytes(),
            })
            .sum()
    }

    pub(super) fn mark(&mut self) {
        for store in &mut self.stores {
            match store {
                Store::Column(column) => column.mark(),
                Store::Overflow(overflow) => overflow.mark(),
            }
        }
    }

    pub(super) fn rollback(&mut self) {
        for store in &mut self.stores {
            match store {
                Store::Column(column) => column.rollback(),
                Store::Overflow(overflow) => overflow.rollback(),
            }
        }
    }

    /// Appends the rows `members` of a pass, or all when `None`, noting every value that does not fit.
    pub(super) fn append(
        &mut self,
        pass: &Pass<'_>,
        members: Option<&[u32]>,
        default_bits: &[Option<u32>],
        gather: &mut Gather,
        failures: &mut Vec<Failure>,
    ) {
        let omitted = self.route.expect("rows go to an open batch").omitted;
        for (index, store) in self.stores.iter_mut().enumerate() {
            if is_omitted(omitted, default_bits[index]) {
                continue;
            }
            match store {
                Store::Overflow(overflow) => {
                    let ranges = gathered(members, pass.scan.ranges(), &mut gather.ranges);
                    overflow.append(pass.tape, pass.scan.keys(), pass.scan.entries(), ranges);
                }
                Store::Column(column) => {
                    if let Some((time, ticks)) = pass.ticks
                        && time == index
                    {
                        column.append_ticks(gathered(members, ticks, &mut gather.ticks));
                        continue;
                    }
                    let slots = pass.scan.slots_of(index);
                    if !self.stamped[index] && slots.iter().all(|slot| *slot == 0) {
                        // Most rows leave most columns out: one step for all of them.
                        column.append_defaults(members.map_or(slots.len(), <[u32]>::len));
                        continue;
                    }
                    let values = gathered(members, slots, &mut gather.values);
                    let append = Append {
                        tape: pass.tape,
                        values,
                        now_ns: pass.now_ns,
                    };
                    column.append(&append, &mut |position, error| {
                        let row = members.map_or(position as u32, |members| members[position]);
                        failures.push(Failure {
                            row,
                            column: index as u32,
                            error,
                        });
                    });
                }
            }
        }
        for columns in &self.nested {
            let sent = |column: &&usize| !is_omitted(omitted, default_bits[**column]);
            let mut sent = columns.iter().filter(sent);
            let Some(first) = sent.next() else { continue };
            for column in sent {
                compare_lengths(pass, members, *first, *column, failures);
            }
        }
    }

    /// Writes the block's header and columns through `encoder`, and empties the batch.
    ///
    /// Source: ClickHouse `NativeWriter::write`: block info (field 1 `is_overflows`, field 2 `bucket_num`, 0), number
    /// of columns, number of rows, then each column.
    pub(super) fn seal(
        &mut self,
        default_bits: &[Option<u32>],
        head: &mut Vec<u8>,
        encoder: &mut FrameEncoder,
        frames: &mut Vec<u8>,
    ) -> usize {
        let omitted = self.route.take().expect("a batch that is sealed is open").omitted;
        let columns = default_bits
            .iter()
            .filter(|bit| !is_omitted(omitted, **bit))
            .count();
        head.clear();
        head.extend_from_slice(&[1, 0, 2]);
        head.extend_from_slice(&(-1_i32).to_le_bytes());
        head.push(0);
        put_varint(head, columns as u64);
        put_varint(head, self.rows as u64);
        encoder.put(head, frames);
        let mut wire_bytes = head.len();
        for (index, store) in self.stores.iter_mut().enumerate() {
            let mut emit = |piece: &[u8]| {
                wire_bytes += piece.len();
                encoder.put(piece, frames);
            };
            if !is_omitted(omitted, default_bits[index]) {
                match store {
                    Store::Column(column) => {
                        debug_assert_eq!(column.rows(), self.rows);
                        column.for_each_piece(&mut emit);
                    }
                    Store::Overflow(overflow) => {
                        debug_assert_eq!(overflow.rows(), self.rows);
                        overflow.for_each_piece(&mut emit);
                    }
                }
            }
            match store {
                Store::Column(column) => column.clear(),
                Store::Overflow(overflow) => overflow.clear(),
            }
        }
        encoder.finish(frames);
        self.rows = 0;
        self.partitions = 0;
        wire_bytes
    }
}

/// The columns of each flattened Nested: arrays whose names share what is before the first dot.
fn nested_columns(schema: &Schema) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, spec) in schema.columns.iter().enumerate() {
        if let (DataType::Array(_), Some((group, _))) = (&spec.data_type, spec.name.split_once('.')) {
            groups.entry(group).or_default().push(index);
        }
    }
    groups.into_values().filter(|columns| columns.len() > 1).collect()
}

/// Notes each row whose arrays in two columns of one Nested differ in length: ClickHouse would refuse the whole INSERT
/// for it (SIZES_OF_ARRAYS_DONT_MATCH).
fn compare_lengths(
    pass: &Pass<'_>,
    members: Option<&[u32]>,
    first: usize,
    second: usize,
    failures: &mut Vec<Failure>,
) {
    let (firsts, seconds) = (pass.scan.slots_of(first), pass.scan.slots_of(second));
    let length = |slot: u32| match pass.tape[slot as usize] {
        Node::Array { len, .. } if slot != 0 => len,
        _ => 0,
    };
    let rows = members.map_or(pass.scan.rows(), <[u32]>::len);
    for position in 0..rows {
        let row = members.map_or(position, |members| members[position] as usize);
        if length(firsts[row]) != length(seconds[row]) {
            failures.push(Failure {
                row: row as u32,
                column: second as u32,
                error: ValueError::WrongNestedLength,
            });
        }
    }
}

pub(super) fn is_omitted(omitted: u64, default_bit: Option<u32>) -> bool {
    default_bit.is_some_and(|bit| omitted >> bit & 1 == 1)
}

/// The members of `all`, which is all of them when `None`.
fn gathered<'a, T: Copy>(members: Option<&[u32]>, all: &'a [T], room: &'a mut Vec<T>) -> &'a [T] {
    match members {
        None => all,
        Some(members) => {
            room.clear();
            room.extend(members.iter().map(|row| all[*row as usize]));
            room
        }
    }
}
