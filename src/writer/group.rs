//! Which sealed blocks share an INSERT: everything that waits, as far as one INSERT may carry it.

use std::collections::VecDeque;

use crate::block::Block;
use crate::limits::Limits;

/// The blocks of one INSERT, in the order they are sent. A retry sends the same group under the same token.
#[derive(Debug)]
pub struct Group {
    /// At least one block; all of one table, schema, set of omitted columns and range of partitions.
    pub blocks: Vec<Box<Block>>,
    /// Sum over the blocks.
    pub rows: u64,
    /// Sum over the blocks, compressed.
    pub frame_bytes: u64,
    /// Sum over the blocks, before compression.
    pub wire_bytes: u64,
    /// Distinct partitions of all blocks, ascending. Each becomes a part.
    pub partitions: Vec<i64>,
}

/// Bytes of one INSERT before compression. ClickHouse collects an INSERT into one block of its own up to 268,402,944
/// bytes of its own form, in which a short String takes 9 bytes more. Half of that stays one block, and of one
/// block ClickHouse writes nothing before it has checked all.
const INSERT_WIRE_BYTES_MAX: u64 = 134_201_472;

/// Takes the oldest block and every later one that may share its INSERT; the others keep their order.
///
/// Blocks of one range of partitions stay together so that an INSERT touches at most
/// `Limits::partitions_per_insert_max` of them: ClickHouse squashes the blocks of an INSERT before it splits
/// them into parts, so the limit holds for the INSERT and not for the block.
pub fn take_group(queue: &mut VecDeque<Box<Block>>, limits: &Limits) -> Option<Group> {
    let mut group = Group::of(queue.pop_front()?);
    for _ in 0..queue.len() {
        let block = queue.pop_front().expect("the loop runs once per waiting block");
        if group.may_take(&block, limits) {
            group.take(block);
        } else {
            queue.push_back(block);
        }
    }
    Some(group)
}

impl Group {
    fn of(block: Box<Block>) -> Group {
        Group {
            rows: u64::from(block.rows),
            frame_bytes: block.frames.len() as u64,
            wire_bytes: u64::from(block.wire_bytes),
            partitions: block.partitions.clone(),
            blocks: vec![block],
        }
    }

    /// Two groups of half the blocks each, in order.
    ///
    /// # Panics
    /// When there is only one block.
    pub fn halves(mut self) -> [Group; 2] {
        let rest = self.blocks.split_off(self.blocks.len() / 2);
        let of = |blocks: Vec<Box<Block>>| {
            let mut blocks = blocks.into_iter();
            let mut group = Group::of(
                blocks
                    .next()
                    .expect("a group is halved when it has two blocks or more"),
            );
            blocks.for_each(|block| group.take(block));
            group
        };
        [of(self.blocks), of(rest)]
    }

    fn may_take(&self, block: &Block, limits: &Limits) -> bool {
        let first = &self.blocks[0];
        block.sealed_schema().fingerprint == first.sealed_schema().fingerprint
            && block.omitted == first.omitted
            && block.partition_bucket == first.partition_bucket
            && self.rows + u64::from(block.rows) <= limits.insert_rows_max as u64
            && self.frame_bytes + block.frames.len() as u64 <= limits.insert_bytes_max as u64
            && self.wire_bytes + u64::from(block.wire_bytes) <= INSERT_WIRE_BYTES_MAX
            && union_len(&self.partitions, &block.partitions) <= limits.partitions_per_insert_max
    }

    fn take(&mut self, block: Box<Block>) {
        self.rows += u64::from(block.rows);
        self.frame_bytes += block.frames.len() as u64;
        self.wire_bytes += u64::from(block.wire_bytes);
        for &partition in &block.partitions {
            if let Err(at) = self.partitions.binary_search(&partition) {
                self.partitions.insert(at, partition);
            }
        }
        self.blocks.push(block);
    }
}

/// Size of the union of two ascending lists without doubles.
fn union_len(left: &[i64], right: &[i64]) -> usize {
    left.len()
        + right
            .iter()
            .filter(|partition| left.binary_search(partition).is_err())
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{TableName, TableSchema};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn block(
        schema: &Arc<TableSchema>,
        omitted: u64,
        bucket: i64,
        partitions: &[i64],
        rows: u32,
    ) -> Box<Block> {
        let mut block = Box::new(Block::with_capacity(0, 0));
        block.schema = Some(Arc::clone(schema));
        block.omitted = omitted;
        block.partition_bucket = bucket;
        block.partitions = partitions.to_vec();
        block.rows = rows;
        block.frames = vec![0; rows as usize];
        block
    }

    fn schema() -> Arc<TableSchema> {
        Arc::new(TableSchema::default_table(TableName {
            database: "d".into(),
            table: "t".into(),
        }))
    }

    #[test]
    fn an_empty_queue_has_no_group() {
        assert!(take_group(&mut VecDeque::new(), &Limits::default()).is_none());
    }

    #[test]
    fn halves_hold_the_same_blocks_in_the_same_order() {
        let schema = schema();
        for blocks in 2..9_u32 {
            let mut queue: VecDeque<_> = (1..=blocks)
                .map(|rows| block(&schema, 0, 0, &[i64::from(rows % 3)], rows))
                .collect();
            let group = take_group(&mut queue, &Limits::default()).expect("the queue is not empty");
            let (rows, frame_bytes) = (group.rows, group.frame_bytes);
            let [first, second] = group.halves();
            assert_eq!(first.rows + second.rows, rows);
            assert_eq!(first.frame_bytes + second.frame_bytes, frame_bytes);
            let order = first.blocks.iter().chain(&second.blocks).map(|block| block.rows);
            assert_eq!(order.collect::<Vec<_>>(), (1..=blocks).collect::<Vec<_>>());
            assert!(first.blocks.len().abs_diff(second.blocks.len()) <= 1);
            for half in [first, second] {
                let named: BTreeSet<i64> = half
                    .blocks
                    .iter()
                    .flat_map(|block| block.partitions.clone())
                    .collect();
                assert_eq!(half.partitions, named.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_insert_stays_within_what_clickhouse_takes_as_one_block() {
        let schema = schema();
        let mut queue: VecDeque<_> = (0..40)
            .map(|_| {
                let mut block = block(&schema, 0, 0, &[1], 10);
                block.wire_bytes = 10_000_000;
                block
            })
            .collect();
        while let Some(group) = take_group(&mut queue, &Limits::default()) {
            assert!(group.wire_bytes <= INSERT_WIRE_BYTES_MAX, "{}", group.wire_bytes);
            assert!(group.blocks.len() > 3 || queue.is_empty());
        }
    }

    #[test]
    fn the_oldest_block_is_always_taken_and_the_others_keep_their_order() {
        let schema = schema();
        let mut queue: VecDeque<_> = [(0, 1), (1, 2), (0, 3), (2, 4), (1, 5)]
            .into_iter()
            .map(|(omitted, rows)| block(&schema, omitted, 0, &[1], rows))
            .collect();
        let rows = |group: &Group| group.blocks.iter().map(|block| block.rows).collect::<Vec<_>>();
        let limits = Limits::default();
        assert_eq!(
            rows(&take_group(&mut queue, &limits).expect("five blocks wait")),
            [1, 3]
        );
        assert_eq!(
            rows(&take_group(&mut queue, &limits).expect("three blocks wait")),
            [2, 5]
        );
        assert_eq!(
            rows(&take_group(&mut queue, &limits).expect("one block waits")),
            [4]
        );
    }

    proptest! {
        /// Nothing is lost or doubled, no group breaks a bound, and a group's partitions are its blocks'.
        #[test]
        fn groups_partition_the_queue_within_bounds(
            shape in proptest::collection::vec((0u64..3, 0i64..3, proptest::collection::btree_set(0i64..64, 1..64), 1u32..500), 0..60),
            rows_max in 1usize..2000,
            partitions_max in 64usize..101,
        ) {
            let schema = schema();
            let limits = Limits { insert_rows_max: rows_max, insert_bytes_max: 1500, partitions_per_insert_max: partitions_max, ..Limits::default() };
            let mut queue: VecDeque<_> = shape.iter().enumerate().map(|(index, (omitted, bucket, partitions, rows))| {
                let partitions: Vec<i64> = partitions.iter().map(|p| p + bucket * 64).collect();
                let mut block = block(&schema, *omitted, *bucket, &partitions, *rows);
                block.sequence = index as u64;
                block
            }).collect();
            let mut seen = BTreeSet::new();
            while let Some(group) = take_group(&mut queue, &limits) {
                prop_assert!(group.blocks.len() == 1 || group.rows <= rows_max as u64);
                prop_assert!(group.blocks.len() == 1 || group.frame_bytes <= 1500);
                prop_assert!(group.partitions.len() <= partitions_max);
                let union: BTreeSet<i64> = group.blocks.iter().flat_map(|block| block.partitions.iter().copied()).collect();
                prop_assert_eq!(union.into_iter().collect::<Vec<_>>(), group.partitions);
                for block in &group.blocks {
                    prop_assert!(seen.insert(block.sequence));
                }
            }
            prop_assert_eq!(seen.len(), shape.len());
        }
    }
}
