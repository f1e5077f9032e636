//! What of a table is inserted next: live rows at their pace, and beside them a backlog in large blocks at a capped rate.

use std::collections::VecDeque;

use super::group::{Group, take_group};
use super::pace::Pace;
use crate::block::Block;
use crate::limits::Limits;

/// A group with what the journal knows of it, when it was announced before.
#[derive(Debug)]
pub struct Next {
    /// What to insert.
    pub group: Group,
    /// How it was announced, if it was.
    pub announced: Option<Announcement>,
}

/// What the journal knows of a group beside its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its deduplication token.
    pub token: String,
    /// Index of the one server that would know it again, if it is bound for one.
    pub server: Option<usize>,
}

impl From<Group> for Next {
    /// One that was not announced.
    fn from(group: Group) -> Next {
        Next {
            group,
            announced: None,
        }
    }
}

/// What a lane does now.
#[derive(Debug)]
pub enum Turn {
    /// Insert this.
    Insert(Next),
    /// Look again in so many milliseconds.
    WaitMs(u64),
    /// Nothing waits.
    Empty,
}

/// The blocks of one table, in the order they wait. Reads no clock: time comes in as milliseconds.
#[derive(Debug, Default)]
pub struct Queue {
    /// Groups a former process announced: they go first, as they are.
    announced: VecDeque<(Announcement, Group)>,
    live: VecDeque<Block>,
    backlog: VecDeque<Block>,
    pace: Pace,
    live_count: Count,
    backlog_count: Count,
    /// When the next backlog INSERT may start.
    backlog_due_ms: u64,
    /// The last INSERT was of the backlog: now live rows are first.
    backlog_was_last: bool,
}

/// Rows and bytes that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Rows.
    pub rows: u64,
    /// Compressed bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, block: &Block) {
        self.rows += u64::from(block.info.rows);
        self.bytes += u64::from(block.frames_bytes);
    }

    fn take(&mut self, group: &Group) {
        self.rows -= group.rows;
        self.bytes -= group.frame_bytes;
    }
}

impl Queue {
    /// A block that was just sealed.
    pub fn push(&mut self, block: Block) {
        self.live_count.add(&block);
        self.live.push_back(block);
    }

    /// A block that a former process has left.
    pub fn push_recovered(&mut self, block: Block) {
        self.backlog_count.add(&block);
        self.backlog.push_back(block);
    }

    /// A group that a former process has announced and not settled.
    pub fn push_announced(&mut self, announcement: Announcement, group: Group) {
        self.announced.push_back((announcement, group));
    }

    /// Blocks that wait.
    pub fn blocks(&self) -> usize {
        self.live.len()
            + self.backlog.len()
            + self
                .announced
                .iter()
                .map(|(_, group)| group.parts.len())
                .sum::<usize>()
    }

    /// Live blocks wait.
    pub fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// What waits of the backlog.
    pub fn backlog(&self) -> Count {
        self.announced
            .iter()
            .fold(self.backlog_count, |count, (_, group)| Count {
                rows: count.rows + group.rows,
                bytes: count.bytes + group.frame_bytes,
            })
    }

    /// An INSERT of this group starts.
    pub fn started(&mut self, now_ms: u64, group: &Group) {
        self.pace.started(now_ms, group.partitions.count().max(1));
    }

    /// ClickHouse has too many parts: the table's next INSERTs are fewer and larger.
    pub fn too_many_parts(&mut self, limits: &Limits) {
        self.pace.slow_down(limits);
    }

    /// An INSERT was confirmed.
    pub fn succeeded(&mut self) {
        self.pace.speed_up();
    }

    /// What to do now. `draining` waits for nothing and leaves the backlog to the next process.
    pub fn next(&mut self, now_ms: u64, draining: bool, parts: u64, limits: &Limits) -> Turn {
        if draining {
            self.backlog_was_last = false;
            return match self.take_live(limits) {
                Some(group) => Turn::Insert(group.into()),
                None => Turn::Empty,
            };
        }
        self.move_excess(limits);
        let pressure = self.live_count.rows >= limits.insert_rows_max as u64 / 2;
        let pace_ms = self.pace.wait_ms(now_ms, pressure, parts, limits);
        if let Some((announcement, group)) = self.announced.pop_front() {
            return Turn::Insert(Next {
                group,
                announced: Some(announcement),
            });
        }
        let live_ms = (!self.live.is_empty()).then_some(pace_ms);
        let backlog_ms = (!self.backlog.is_empty()).then(|| {
            self.backlog_due_ms
                .saturating_sub(now_ms)
                .max(self.pace.parts_wait_ms(now_ms, parts, limits))
        });
        match (live_ms, backlog_ms) {
            (None, None) => Turn::Empty,
            (Some(0), Some(0)) if !self.backlog_was_last => self.insert_backlog(now_ms, limits),
            (Some(0), _) => {
                self.backlog_was_last = false;
                let group = self.take_live(limits).expect("live blocks wait");
                Turn::Insert(group.into())
            }
            (_, Some(0)) => self.insert_backlog(now_ms, limits),
            (live, backlog) => Turn::WaitMs(live.unwrap_or(u64::MAX).min(backlog.unwrap_or(u64::MAX))),
        }
    }

    fn take_live(&mut self, limits: &Limits) -> Option<Group> {
        let group = take_group(&mut self.live, limits)?;
        self.live_count.take(&group);
        Some(group)
    }

    fn insert_backlog(&mut self, now_ms: u64, limits: &Limits) -> Turn {
        let group = take_group(&mut self.backlog, limits).expect("a backlog waits");
        self.backlog_count.take(&group);
        self.backlog_was_last = true;
        self.backlog_due_ms = now_ms + group.frame_bytes * 1000 / limits.backlog_bytes_per_second;
        Turn::Insert(group.into())
    }

    /// More than one INSERT's worth of live rows is a backlog: what comes next is not made to wait behind all of it.
    fn move_excess(&mut self, limits: &Limits) {
        let rows_max = limits.insert_rows_max as u64;
        let bytes_max = limits.insert_bytes_max as u64;
        if self.live_count.rows > rows_max || self.live_count.bytes > bytes_max {
            self.backlog.append(&mut self.live);
            let moved = std::mem::take(&mut self.live_count);
            self.backlog_count.rows += moved.rows;
            self.backlog_count.bytes += moved.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, BlockInfo, Partitions};
    use crate::schema::{TableName, TableSchema};
    use std::sync::Arc;

    fn block(sequence: u64, rows: u32) -> Block {
        let name = TableName {
            database: "d".into(),
            table: "t".into(),
        };
        Block {
            id: BlockId {
                boot: 0,
                core: 0,
                sequence,
            },
            info: BlockInfo {
                schema: Arc::new(TableSchema::default_table(name)),
                omitted: 0,
                rows,
                wire_bytes: rows * 10,
                partitions: Partitions { first: 0, bits: 1 },
                opened_at_ns: 0,
            },
            segment: crate::wal::segment::empty_segment(),
            record_at: 0,
            frames_bytes: rows,
            awaited: None,
        }
    }

    fn limits() -> Limits {
        Limits {
            insert_rows_max: 100,
            insert_interval_ms: 10,
            parts_per_second: 1000,
            backlog_bytes_per_second: 1024,
            ..Limits::default()
        }
    }

    #[test]
    fn live_rows_flow_while_a_backlog_drains_at_its_rate() {
        let limits = limits();
        let mut queue = Queue::default();
        for sequence in 0..40 {
            queue.push_recovered(block(sequence, 50));
        }
        let (mut now, mut live_sent, mut backlog_rows, mut next) = (0, 0, 0, 1000);
        while queue.backlog().rows > 0 {
            // A live block of ten rows every 10 ms.
            queue.push(block(next, 10));
            next += 1;
            now += 10;
            while let Turn::Insert(insert) = queue.next(now, false, 0, &limits) {
                queue.started(now, &insert.group);
                match insert.group.parts[0].block.id.sequence {
                    0..1000 => {
                        assert_eq!(insert.group.rows, 100, "a backlog goes in large blocks");
                        backlog_rows += insert.group.rows;
                    }
                    _ => live_sent += insert.group.rows,
                }
            }
            assert!(
                queue.live_count.rows <= 20,
                "live rows wait for two turns at most"
            );
        }
        assert_eq!(backlog_rows, 2000);
        assert!(live_sent > 0);
        // 2,000 rows of a byte each at 1,024 bytes a second, the first INSERT at once.
        assert!((1700..2200).contains(&now), "{now}");
    }

    #[test]
    fn announced_groups_go_first_and_under_their_token() {
        let limits = limits();
        let mut queue = Queue::default();
        queue.push(block(5, 1));
        let group = Group::of(vec![super::super::group::Part::whole(block(1, 7))]);
        let announcement = Announcement {
            token: "token".into(),
            server: Some(1),
        };
        queue.push_announced(announcement.clone(), group);
        assert_eq!(queue.backlog().rows, 7);
        let Turn::Insert(first) = queue.next(0, false, 0, &limits) else {
            panic!("a group was announced")
        };
        assert_eq!((first.announced, first.group.rows), (Some(announcement), 7));
        let Turn::Insert(second) = queue.next(0, false, 0, &limits) else {
            panic!("a live block waits")
        };
        assert_eq!((second.announced, second.group.rows), (None, 1));
        assert!(matches!(queue.next(0, false, 0, &limits), Turn::Empty));
    }

    #[test]
    fn more_live_rows_than_one_insert_takes_become_a_backlog() {
        let limits = limits();
        let mut queue = Queue::default();
        for sequence in 0..10 {
            queue.push(block(sequence, 50));
        }
        assert!(matches!(queue.next(0, false, 0, &limits), Turn::Insert(_)));
        assert_eq!(queue.backlog().rows, 400);
        assert_eq!(queue.live_count, Count::default());
    }

    #[test]
    fn a_drain_leaves_the_backlog() {
        let limits = limits();
        let mut queue = Queue::default();
        queue.push_recovered(block(0, 50));
        queue.push(block(1, 3));
        let Turn::Insert(live) = queue.next(0, true, 0, &limits) else {
            panic!("a live block waits")
        };
        assert_eq!(live.group.rows, 3);
        assert!(matches!(queue.next(0, true, 0, &limits), Turn::Empty));
        assert_eq!(queue.backlog().rows, 50);
    }
}
