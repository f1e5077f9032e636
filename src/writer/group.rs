//! Which blocks share an INSERT: everything that waits, as far as one INSERT may carry it.

use std::collections::VecDeque;
use std::ops::Range;

use crate::block::{Block, Partitions};
use crate::limits::Limits;
use crate::wal::journal::{Announced, Piece};

/// Rows of one block: all of them, or a range when its rows have to go apart.
#[derive(Debug, Clone)]
pub struct Part {
    /// The block.
    pub block: Block,
    /// Which of its rows.
    pub rows: Range<u32>,
}

impl Part {
    /// All rows of a block.
    pub fn whole(block: Block) -> Part {
        Part {
            rows: 0..block.info.rows,
            block,
        }
    }

    /// Whether it is the block as it was sealed.
    pub fn is_whole(&self) -> bool {
        self.rows == (0..self.block.info.rows)
    }

    /// Rows.
    pub fn len(&self) -> u32 {
        self.rows.end - self.rows.start
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn piece(&self) -> Piece {
        Piece {
            block: self.block.id,
            of: self.block.info.rows,
            rows: self.rows.clone(),
        }
    }

    /// Its share of a number that stands for the whole block.
    fn share(&self, of_block: u32) -> u64 {
        u64::from(of_block) * u64::from(self.len()) / u64::from(self.block.info.rows.max(1))
    }
}

/// The blocks of one INSERT, in the order they are sent. A retry sends the same group under the same token.
#[derive(Debug)]
pub struct Group {
    /// At least one; all of one table, schema, set of omitted columns and range of partitions.
    pub parts: Vec<Part>,
    /// Sum over the parts.
    pub rows: u64,
    /// Sum over the parts, compressed.
    pub frame_bytes: u64,
    /// Sum over the parts, before compression.
    pub wire_bytes: u64,
    /// Partitions of all parts. Each becomes a part of the table's.
    pub partitions: Partitions,
}

/// Bytes of one INSERT before compression. ClickHouse collects an INSERT into one block of its own up to 268,402,944
/// bytes of its own form, in which a short String takes 9 bytes more. Half of that stays one block, and of one
/// block ClickHouse writes nothing before it has checked all.
const INSERT_WIRE_BYTES_MAX: u64 = 134_201_472;

/// Blocks looked at for one group, as a multiple of those it may hold: a long queue of another kind is not searched to its
/// end at every INSERT.
const SEARCH_FACTOR: usize = 4;

/// Takes the oldest block and every later one that may share its INSERT; the others keep their order.
///
/// Blocks of one range of partitions stay together so that an INSERT touches at most
/// `Limits::partitions_per_insert_max` of them: ClickHouse squashes the blocks of an INSERT before it splits
/// them into parts, so the limit holds for the INSERT and not for the block.
pub fn take_group(queue: &mut VecDeque<Block>, limits: &Limits) -> Option<Group> {
    let mut group = Group::of(vec![Part::whole(queue.pop_front()?)]);
    let mut passed = Vec::new();
    let search_max = SEARCH_FACTOR * limits.insert_blocks_max;
    while group.parts.len() < limits.insert_blocks_max && group.parts.len() + passed.len() < search_max {
        let Some(block) = queue.pop_front() else { break };
        if group.may_take(&block, limits) {
            group.take(Part::whole(block));
        } else {
            passed.push(block);
        }
    }
    passed.into_iter().rev().for_each(|block| queue.push_front(block));
    Some(group)
}

impl Group {
    /// A group of parts that may be one.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(parts: Vec<Part>) -> Group {
        let mut parts = parts.into_iter();
        let first = parts.next().expect("a group has at least one part");
        let mut group = Group {
            rows: 0,
            frame_bytes: 0,
            wire_bytes: 0,
            partitions: first.block.info.partitions,
            parts: Vec::with_capacity(parts.len() + 1),
        };
        group.take(first);
        parts.for_each(|part| group.take(part));
        group
    }

    /// Two groups of half the parts each, in order; of half the rows, when there is one part. `None` for a single row.
    pub fn halves(mut self) -> Result<[Group; 2], Group> {
        if self.parts.len() > 1 {
            let rest = self.parts.split_off(self.parts.len() / 2);
            return Ok([Group::of(self.parts), Group::of(rest)]);
        }
        let Part { block, rows } = self.parts[0].clone();
        if rows.len() < 2 {
            return Err(self);
        }
        let middle = rows.start + (rows.end - rows.start) / 2;
        let half = |rows| {
            Group::of(vec![Part {
                block: block.clone(),
                rows,
            }])
        };
        Ok([half(rows.start..middle), half(middle..rows.end)])
    }

    /// The group as the journal announces it, for one server or for any.
    pub fn announce(&self, token: &str, server: Option<&str>) -> Announced {
        Announced {
            token: token.to_owned(),
            table: self.parts[0].block.info.schema.name.clone(),
            pieces: self.parts.iter().map(Part::piece).collect(),
            server: server.map(str::to_owned),
        }
    }

    fn may_take(&self, block: &Block, limits: &Limits) -> bool {
        let first = &self.parts[0].block.info;
        let info = &block.info;
        info.schema.fingerprint == first.schema.fingerprint
            && info.omitted == first.omitted
            && self.rows + u64::from(info.rows) <= limits.insert_rows_max as u64
            && self.frame_bytes + u64::from(block.frames_bytes) <= limits.insert_bytes_max as u64
            && self.wire_bytes + u64::from(info.wire_bytes) <= INSERT_WIRE_BYTES_MAX
            && self
                .partitions
                .union(info.partitions)
                .is_some_and(|union| union.count() <= limits.partitions_per_insert_max)
    }

    fn take(&mut self, part: Part) {
        self.rows += u64::from(part.len());
        self.frame_bytes += part.share(part.block.frames_bytes);
        self.wire_bytes += part.share(part.block.info.wire_bytes);
        self.partitions = self
            .partitions
            .union(part.block.info.partitions)
            .expect("the parts of a group lie in one range of partitions");
        self.parts.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, BlockInfo};
    use crate::schema::{Schema, TableName, TableSchema};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn block(schema: &Schema, omitted: u64, bucket: i64, bits: u64, rows: u32) -> Block {
        Block {
            id: BlockId {
                boot: 0,
                core: 0,
                sequence: u64::from(rows),
            },
            info: BlockInfo {
                schema: Arc::clone(schema),
                omitted,
                rows,
                wire_bytes: 0,
                partitions: Partitions {
                    first: bucket * 64,
                    bits,
                },
                opened_at_ns: 0,
            },
            segment: crate::wal::segment::empty_segment(),
            record_at: 0,
            frames_bytes: rows,
            awaited: None,
        }
    }

    fn schema() -> Schema {
        Arc::new(TableSchema::default_table(TableName {
            database: "d".into(),
            table: "t".into(),
        }))
    }

    fn rows(group: &Group) -> Vec<u32> {
        group.parts.iter().map(Part::len).collect()
    }

    #[test]
    fn an_empty_queue_has_no_group() {
        assert!(take_group(&mut VecDeque::new(), &Limits::default()).is_none());
    }

    #[test]
    fn halves_hold_the_same_rows_in_the_same_order() {
        let schema = schema();
        for blocks in 2..9_u32 {
            let mut queue: VecDeque<_> = (1..=blocks)
                .map(|rows| block(&schema, 0, 0, 1 << (rows % 3), rows))
                .collect();
            let group = take_group(&mut queue, &Limits::default()).expect("the queue is not empty");
            let (sum, frame_bytes) = (group.rows, group.frame_bytes);
            let [first, second] = group.halves().expect("two blocks or more");
            assert_eq!(first.rows + second.rows, sum);
            assert_eq!(first.frame_bytes + second.frame_bytes, frame_bytes);
            assert_eq!(
                [rows(&first), rows(&second)].concat(),
                (1..=blocks).collect::<Vec<_>>()
            );
            assert!(first.parts.len().abs_diff(second.parts.len()) <= 1);
        }
    }

    #[test]
    fn a_block_is_halved_down_to_its_rows() {
        let mut groups = vec![Group::of(vec![Part::whole(block(&schema(), 0, 0, 1, 1000))])];
        let mut singles = Vec::new();
        let mut inserts = 0;
        while let Some(group) = groups.pop() {
            inserts += 1;
            match group.halves() {
                Ok([first, second]) => groups.extend([second, first]),
                Err(single) => singles.push(single.parts[0].rows.start),
            }
        }
        assert_eq!(singles, (0..1000).collect::<Vec<_>>());
        assert_eq!(inserts, 1999);
    }

    #[test]
    fn an_insert_stays_within_what_clickhouse_takes_as_one_block() {
        let schema = schema();
        let mut queue: VecDeque<_> = (0..40)
            .map(|_| {
                let mut block = block(&schema, 0, 0, 1, 10);
                block.info.wire_bytes = 10_000_000;
                block
            })
            .collect();
        while let Some(group) = take_group(&mut queue, &Limits::default()) {
            assert!(group.wire_bytes <= INSERT_WIRE_BYTES_MAX, "{}", group.wire_bytes);
            assert!(group.parts.len() > 3 || queue.is_empty());
        }
    }

    #[test]
    fn the_oldest_block_is_always_taken_and_the_others_keep_their_order() {
        let schema = schema();
        let mut queue: VecDeque<_> = [(0, 1), (1, 2), (0, 3), (2, 4), (1, 5)]
            .into_iter()
            .map(|(omitted, rows)| block(&schema, omitted, 0, 1, rows))
            .collect();
        let limits = Limits::default();
        let mut next = || rows(&take_group(&mut queue, &limits).expect("blocks wait"));
        assert_eq!([next(), next(), next()], [vec![1, 3], vec![2, 5], vec![4]]);
    }

    proptest! {
        /// Nothing is lost or doubled, no group breaks a bound, and a group's partitions are its blocks'.
        #[test]
        fn groups_partition_the_queue_within_bounds(
            shape in proptest::collection::vec((0u64..3, 0i64..3, any::<u64>(), 1u32..500), 0..60),
            rows_max in 1usize..2000,
            blocks_max in 1usize..20,
            partitions_max in 64usize..101,
        ) {
            let schema = schema();
            let limits = Limits {
                insert_rows_max: rows_max,
                insert_bytes_max: 1500,
                insert_blocks_max: blocks_max,
                partitions_per_insert_max: partitions_max,
                ..Limits::default()
            };
            let mut queue: VecDeque<_> = shape.iter().enumerate().map(|(index, (omitted, bucket, bits, rows))| {
                let mut block = block(&schema, *omitted, *bucket, *bits, *rows);
                block.id.sequence = index as u64;
                block
            }).collect();
            let mut seen = BTreeSet::new();
            while let Some(group) = take_group(&mut queue, &limits) {
                prop_assert!(group.parts.len() == 1 || group.rows <= rows_max as u64);
                prop_assert!(group.parts.len() == 1 || group.frame_bytes <= 1500);
                prop_assert!(group.parts.len() <= blocks_max);
                prop_assert!(group.partitions.count() <= partitions_max);
                let union = group.parts.iter().fold(0, |bits, part| bits | part.block.info.partitions.bits);
                prop_assert_eq!(union, group.partitions.bits);
                let order: Vec<u64> = group.parts.iter().map(|part| part.block.id.sequence).collect();
                prop_assert!(order.is_sorted());
                prop_assert!(order.into_iter().all(|sequence| seen.insert(sequence)));
                prop_assert!(queue.iter().map(|block| block.id.sequence).is_sorted());
            }
            prop_assert_eq!(seen.len(), shape.len());
        }
    }
}
