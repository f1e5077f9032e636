//! Columns of times: Date, Date32, DateTime and DateTime64.

use super::arena::Arena;
use super::builder::Builder;
use super::{Node, StaticNode, ValueError};
use crate::timestamp::{self, DateCache, TimeUnit, UnixTime};

/// Ticks in the width of the column's type.
#[derive(Debug)]
pub(super) struct Times {
    arena: Arena,
    unit: TimeUnit,
    marked: usize,
    ticks: Vec<i64>,
}

/// Pushes one tick per value; a value that is no time pushes `absent`, as one that is missing does.
pub(super) fn parse_ticks(
    unit: TimeUnit,
    absent: i64,
    tape: &[Node<'_>],
    values: &[u32],
    ticks: &mut Vec<i64>,
    on_error: &mut dyn FnMut(usize, ValueError),
) {
    let mut cache = DateCache::default();
    // As ClickHouse's toDate: a number up to the last day of `Date` is a day, a greater one a time.
    let days_end = match unit {
        TimeUnit::Days16 | TimeUnit::Days32 => u64::from(u16::MAX) + 1,
        TimeUnit::Seconds32 | TimeUnit::Ticks64(_) => 0,
    };
    ticks.reserve(values.len());
    for (position, &index) in values.iter().enumerate() {
        let time = match tape[index as usize] {
            _ if index == 0 => {
                ticks.push(absent);
                continue;
            }
            Node::String(text) => timestamp::parse(text.as_bytes(), &mut cache),
            Node::Static(StaticNode::I64(value)) => Some(UnixTime::from_epoch(value)),
            Node::Static(StaticNode::U64(day)) if day < days_end => Some(UnixTime::from_day(day as i64)),
            Node::Static(StaticNode::U64(value)) => i64::try_from(value).ok().map(UnixTime::from_epoch),
            Node::Static(StaticNode::F64(value)) => UnixTime::from_float(value),
            Node::Static(StaticNode::Null) => {
                ticks.push(absent);
                continue;
            }
            _ => None,
        };
        let tick = match time.map(|time| time.ticks(unit)) {
            Some(Some(tick)) => Ok(tick),
            Some(None) => Err(ValueError::TimeOutOfRange),
            None => Err(ValueError::BadTime),
        };
        ticks.push(tick.unwrap_or_else(|error| {
            on_error(position, error);
            absent
        }));
    }
}

impl Times {
    pub(super) fn new(unit: TimeUnit, rows_max: usize) -> Times {
        Times {
            arena: Arena::with_capacity(rows_max * width_of(unit)),
            unit,
            marked: 0,
            ticks: Vec::with_capacity(rows_max),
        }
    }

    /// Appends ticks of the column's own unit and range.
    pub(super) fn append_ticks(&mut self, ticks: &[i64]) {
        match self.unit {
            TimeUnit::Days16 => {
                let slots = self.arena.slots::<2>(ticks.len());
                slots
                    .iter_mut()
                    .zip(ticks)
                    .for_each(|(to, &tick)| *to = (tick as u16).to_le_bytes());
            }
            TimeUnit::Days32 | TimeUnit::Seconds32 => {
                let slots = self.arena.slots::<4>(ticks.len());
                slots
                    .iter_mut()
                    .zip(ticks)
                    .for_each(|(to, &tick)| *to = (tick as u32).to_le_bytes());
            }
            TimeUnit::Ticks64(_) => {
                let slots = self.arena.slots::<8>(ticks.len());
                slots
                    .iter_mut()
                    .zip(ticks)
                    .for_each(|(to, &tick)| *to = tick.to_le_bytes());
            }
        }
    }

    /// `append` with `absent` where a row has no time.
    pub(super) fn append_or(
        &mut self,
        absent: i64,
        tape: &[Node<'_>],
        values: &[u32],
        on_error: &mut dyn FnMut(usize, ValueError),
    ) {
        let mut ticks = std::mem::take(&mut self.ticks);
        ticks.clear();
        parse_ticks(self.unit, absent, tape, values, &mut ticks, on_error);
        self.append_ticks(&ticks);
        self.ticks = ticks;
    }
}

fn width_of(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Days16 => 2,
        TimeUnit::Days32 | TimeUnit::Seconds32 => 4,
        TimeUnit::Ticks64(_) => 8,
    }
}

impl Builder for Times {
    fn append(&mut self, tape: &[Node<'_>], values: &[u32], on_error: &mut dyn FnMut(usize, ValueError)) {
        self.append_or(0, tape, values, on_error);
    }

    fn append_defaults(&mut self, rows: usize) {
        self.arena.put_zeros(rows * width_of(self.unit));
    }

    fn rows(&self) -> usize {
        self.arena.len() / width_of(self.unit)
    }

    fn wire_bytes(&self) -> usize {
        self.arena.len()
    }

    fn mark(&mut self) {
        self.marked = self.arena.len();
    }

    fn rollback(&mut self) {
        self.arena.truncate(self.marked);
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.marked = 0;
    }

    fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        emit(self.arena.as_slice());
    }
}
