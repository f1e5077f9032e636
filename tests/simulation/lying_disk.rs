//! The log alone on a disk that tears, reorders, shortens, refuses and changes what is written.

use std::path::PathBuf;
use std::sync::Arc;

use ringhouse::block::{BlockId, BlockInfo, Partitions};
use ringhouse::clickhouse::frame::FrameEncoder;
use ringhouse::dead_letter::DeadLetters;
use ringhouse::wal::Commit;
use ringhouse::wal::commit::BLOCK_HEAD_BYTES;
use ringhouse::wal::disk::{Disk, read_full_at};
use ringhouse::wal::journal::{Change, End, Journal};
use ringhouse::wal::log::{Log, LogConfig, LogError};
use ringhouse::wal::record::{self, Found, Kind};
use ringhouse::wal::recovery::{self, Recovered};
use ringhouse::wal::segment::{Budget, SegmentId};
use ringhouse::writer::group::{Group, Part};
use ringhouse::writer::store::{ReadError, Store};

use crate::blocks::{ids_of, put_frames, schema};
use crate::disk::{Faults, SimDisk};
use crate::process::{journal, quarantine, wal};

const SEGMENT_BYTES: u64 = 4096;

/// Rows of the blocks of the commits in most tests.
const COMMITS: [&[&[u64]]; 3] = [&[&[1, 2]], &[&[3], &[4, 5, 6], &[7]], &[&[8, 9], &[10]]];

struct Rig {
    disk: SimDisk,
    log: Log,
    budget: Arc<Budget>,
    sequence: u64,
}

impl Rig {
    fn new(disk: SimDisk) -> Rig {
        let budget = Arc::new(Budget::new(1 << 20, 1000));
        let config = LogConfig {
            disk: Arc::new(disk.clone()),
            directory: wal().to_owned(),
            boot: 7,
            core: 0,
            segment_bytes: SEGMENT_BYTES,
            budget: Arc::clone(&budget),
        };
        Rig {
            disk,
            log: Log::new(config),
            budget,
            sequence: 0,
        }
    }

    fn commit(&mut self, blocks: &[&[u64]]) -> Commit {
        let mut commit = Commit::with_capacity(1024);
        for ids in blocks {
            let id = BlockId {
                boot: 7,
                core: 0,
                sequence: self.sequence,
            };
            self.sequence += 1;
            commit.put_block(id, |out| {
                put_frames(ids, &mut FrameEncoder::new(), out);
                BlockInfo {
                    schema: schema(0, 0),
                    omitted: 0,
                    rows: ids.len() as u32,
                    wire_bytes: 8 * ids.len() as u32,
                    partitions: Partitions::UNKNOWN,
                    opened_at_ns: 0,
                }
            });
        }
        commit
    }

    fn append(&mut self, blocks: &[&[u64]]) -> Result<(), LogError> {
        let mut commit = self.commit(blocks);
        self.log.append(&mut commit)
    }
}

fn segment(index: u32) -> PathBuf {
    let id = SegmentId {
        boot: 7,
        core: 0,
        index,
    };
    wal().join(id.file_name())
}

fn recover(disk: &SimDisk) -> Recovered {
    let budget = Arc::new(Budget::new(1 << 20, 1000));
    recovery::recover(disk, wal(), quarantine(), &budget).expect("the disk can be read")
}

/// Rows of each block, read where recovery says that it lies.
fn rows(disk: &SimDisk, recovered: &Recovered) -> Vec<Vec<u64>> {
    let read = |block: &ringhouse::block::Block| {
        let file = disk.open(block.segment.path()).expect("the segment is there");
        let mut frames = vec![0; block.frames_bytes as usize];
        let at = block.record_at + (record::HEADER_BYTES + BLOCK_HEAD_BYTES) as u64;
        read_full_at(&*file, &mut frames, at).expect("it can be read");
        let ids = ids_of(&frames);
        assert_eq!(ids.len(), block.info.rows as usize);
        ids
    };
    recovered.blocks.iter().map(read).collect()
}

/// The bytes of a segment with [`COMMITS`].
fn written() -> Vec<u8> {
    let mut rig = Rig::new(SimDisk::new(0));
    for commit in COMMITS {
        rig.append(commit).expect("nothing fails");
    }
    rig.disk.content(&segment(0))
}

struct Place {
    kind: Kind,
    left: u32,
    payload: std::ops::Range<usize>,
    end: usize,
}

/// Where the records of a segment lie.
fn records(bytes: &[u8]) -> Vec<Place> {
    let salt = SegmentId {
        boot: 7,
        core: 0,
        index: 0,
    }
    .salt();
    let (mut at, mut places) = (0, Vec::new());
    while let Found::Record(record, next) = record::read(bytes, at, salt) {
        let payload_at = at + record::HEADER_BYTES;
        places.push(Place {
            kind: record.kind,
            left: record.left,
            payload: payload_at..payload_at + record.payload.len(),
            end: next,
        });
        at = next;
    }
    places
}

fn expected(commits: &[&[&[u64]]]) -> Vec<Vec<u64>> {
    commits.concat().into_iter().map(<[u64]>::to_vec).collect()
}

#[test]
fn a_write_torn_at_any_byte_leaves_whole_commits() {
    let whole = written();
    let ends: Vec<usize> = records(&whole)
        .iter()
        .filter(|place| place.kind == Kind::Block && place.left == 0)
        .map(|place| place.end)
        .collect();
    assert_eq!(ends.len(), COMMITS.len());
    for cut in 0..ends[2] + 8 {
        let mut torn = whole[..cut].to_vec();
        torn.resize(whole.len(), 0);
        let commits = ends.iter().filter(|end| torn[..**end] == whole[..**end]).count();
        let disk = SimDisk::new(0);
        disk.put(&segment(0), &torn);
        let recovered = recover(&disk);
        assert_eq!(
            rows(&disk, &recovered),
            expected(&COMMITS[..commits]),
            "cut at {cut}"
        );
        assert_eq!((recovered.damaged, recovered.unreadable), (0, 0), "cut at {cut}");
        let again = recover(&disk);
        assert_eq!(
            rows(&disk, &again),
            expected(&COMMITS[..commits]),
            "cut at {cut}, again"
        );
        assert_eq!(again.torn_tails, 0, "cut at {cut}: the tail was cut off");
    }
}

/// A hole in the middle of the last commit looks like damage: nobody knows whether it was durable once. It is loud, then.
#[test]
fn a_reordered_write_leaves_what_was_durable_and_whole_blocks() {
    let (mut kept_all, mut kept_some) = (0, 0);
    for seed in 0..2000 {
        let mut rig = Rig::new(SimDisk::new(seed));
        rig.append(COMMITS[0]).expect("nothing fails");
        // Of several sectors: these blocks are longer.
        let long: Vec<u64> = (100..220).collect();
        let last: [&[u64]; 3] = [&long, &[220], &long];
        rig.disk.set_faults(Faults {
            syncs: 1000,
            truncates: 1000,
            ..Faults::default()
        });
        assert!(matches!(rig.append(&last), Err(LogError::Disk(_))));
        let disk = rig.disk.lose_power();
        disk.set_faults(Faults::default());
        let recovered = recover(&disk);
        let found = rows(&disk, &recovered);
        assert_eq!(found[0], [1, 2], "seed {seed}");
        let of_last = &found[1..];
        assert!(of_last.iter().all(|ids| last.contains(&&ids[..])), "seed {seed}");
        let is_part = !of_last.is_empty() && of_last.len() < last.len();
        assert!(
            !is_part || recovered.damaged > 0,
            "seed {seed}: part of a commit, silently"
        );
        kept_all += u32::from(of_last.len() == last.len());
        kept_some += u32::from(is_part);
        let again = recover(&disk);
        assert_eq!(
            rows(&disk, &again),
            found,
            "seed {seed}: a second look sees the same"
        );
    }
    assert!(
        kept_all > 50 && kept_some > 50,
        "both happen: {kept_all}, {kept_some}"
    );
}

#[test]
fn short_writes_are_gone_on_with() {
    for seed in 0..200 {
        let mut rig = Rig::new(SimDisk::new(seed));
        rig.disk.set_faults(Faults {
            short_writes: 900,
            ..Faults::default()
        });
        for commit in COMMITS {
            rig.append(commit).expect("a short write is no error");
        }
        let disk = rig.disk.lose_power();
        let recovered = recover(&disk);
        assert_eq!(rows(&disk, &recovered), expected(&COMMITS), "seed {seed}");
    }
}

#[test]
fn a_commit_that_failed_is_written_elsewhere_and_found_once() {
    let write = Faults {
        writes: 1000,
        ..Faults::default()
    };
    let sync = Faults {
        syncs: 1000,
        ..Faults::default()
    };
    for (faults, truncates) in [(write, 0), (write, 1000), (sync, 0), (sync, 1000)] {
        for seed in 0..200 {
            let mut rig = Rig::new(SimDisk::new(seed));
            rig.append(COMMITS[0]).expect("nothing fails");
            let mut commit = rig.commit(COMMITS[1]);
            rig.disk.set_faults(Faults { truncates, ..faults });
            let failed = rig.log.append(&mut commit);
            assert!(matches!(failed, Err(LogError::Disk(_))));
            assert!(commit.durable.is_empty(), "nothing of it counts as durable");
            rig.disk.set_faults(Faults::default());
            rig.log.append(&mut commit).expect("nothing fails any more");
            assert_eq!(commit.durable.len(), 3);
            assert!(
                commit
                    .durable
                    .iter()
                    .all(|block| block.segment.path() == segment(1))
            );
            let disk = if seed % 2 == 0 {
                rig.disk.kill()
            } else {
                rig.disk.lose_power()
            };
            let recovered = recover(&disk);
            let mut found = rows(&disk, &recovered);
            // A first copy with a hole lists its other blocks first.
            found.sort_unstable();
            assert_eq!(found, expected(&COMMITS[..2]), "seed {seed}");
            assert!(
                recovered.blocks[1..]
                    .iter()
                    .all(|block| block.segment.path() == segment(1)),
                "seed {seed}: the copy whose sync succeeded is the one that is used"
            );
        }
    }
}

#[test]
fn a_changed_byte_costs_one_record_and_is_set_aside() {
    let whole = written();
    let places = records(&whole);
    let used = places.last().expect("there are records").end;
    for at in 0..used {
        let disk = SimDisk::new(0);
        disk.put(&segment(0), &whole);
        disk.rot(&segment(0), at);
        let recovered = recover(&disk);
        let hit = places
            .iter()
            .position(|place| at < place.end)
            .expect("it is in a record");
        let blocks = expected(&COMMITS);
        let found = rows(&disk, &recovered);
        let set_aside = disk.list(quarantine()).expect("no fault").len() as u64;
        assert_eq!(set_aside, recovered.damaged + recovered.unreadable, "byte {at}");
        if at >= places[hit].payload.end {
            assert_eq!(found, blocks, "byte {at} is padding");
        } else if hit == 0 {
            assert!(
                found.is_empty(),
                "byte {at}: without the schema no block can be read"
            );
            assert_eq!(set_aside, 1 + blocks.len() as u64, "byte {at}");
        } else if hit == places.len() - 1 {
            // Not to be told from a write that did not finish, of which no part is kept.
            assert_eq!(found, expected(&COMMITS[..2]), "byte {at}");
        } else {
            // The first record is the schema's.
            let rest = [&blocks[..hit - 1], &blocks[hit..]].concat();
            assert_eq!(found, rest, "byte {at}");
            assert_eq!(set_aside, 1, "byte {at}");
        }
    }
}

#[test]
fn an_empty_segment_holds_nothing_and_takes_its_room() {
    for bytes in [0, SEGMENT_BYTES] {
        let disk = SimDisk::new(0);
        disk.put(&segment(0), &vec![0; bytes as usize]);
        let budget = Arc::new(Budget::new(1 << 20, 1000));
        let recovered = recovery::recover(&disk, wal(), quarantine(), &budget).expect("the disk can be read");
        assert!(recovered.blocks.is_empty() && recovered.torn_tails == 0);
        assert_eq!(budget.used_bytes(), bytes);
        assert!(recovered.segments[0].release() && recovered.segments[0].delete(&disk));
        assert_eq!(budget.used_bytes(), 0);
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let disk = SimDisk::new(0);
    let names = ["notes.txt", "x.wal", "0000000000000007-0000-00000000.wal.bak"];
    for name in names {
        disk.put(&wal().join(name), b"mine");
    }
    let mut rig = Rig::new(disk);
    rig.append(COMMITS[0]).expect("nothing fails");
    let disk = rig.disk.kill();
    let recovered = recover(&disk);
    assert_eq!(rows(&disk, &recovered), expected(&COMMITS[..1]));
    for name in names {
        assert_eq!(disk.content(&wal().join(name)), b"mine", "{name}");
    }
}

/// A block that was whole at start and is not when it is sent.
#[test]
fn a_block_that_rots_is_set_aside_and_the_others_are_sent() {
    let directory = crate::temporary();
    let mut rig = Rig::new(SimDisk::new(0));
    let mut commit = rig.commit(COMMITS[1]);
    rig.log.append(&mut commit).expect("nothing fails");
    let disk: Arc<dyn Disk> = Arc::new(rig.disk.clone());
    let store = Store::new(
        Arc::clone(&disk),
        Journal::open(Arc::clone(&disk), journal()).expect("it is empty"),
        DeadLetters::open(directory.path(), 1 << 20, 1 << 20).expect("it is empty"),
        crate::key_log(directory.path()),
        quarantine().to_owned(),
    );
    let group = Group::of(commit.durable.drain(..).map(Part::whole).collect());
    store
        .announce(&[Change::Open(group.announce("a", None))])
        .expect("nothing fails");
    let damaged = &group.parts[1].block;
    rig.disk.rot(
        damaged.segment.path(),
        damaged.record_at as usize + record::HEADER_BYTES + 90,
    );
    let mut frames = Vec::new();
    let Err(ReadError::Damaged(found)) = store.read(&group.parts, &mut frames) else {
        panic!("the block is damaged");
    };
    assert_eq!(found.id, damaged.id);
    let kept = group.parts.iter().filter(|part| part.block.id != found.id);
    let rest = Group::of(kept.cloned().collect());
    let changes = [
        Change::Split {
            token: "a".into(),
            into: vec![rest.announce("b", None)],
        },
        Change::Lost { block: found.id },
    ];
    store.set_aside(&found, &changes).expect("nothing fails");
    assert_eq!(disk.list(quarantine()).expect("nothing fails").len(), 1);
    let ranges = store
        .read(&rest.parts, &mut frames)
        .expect("the others are whole");
    let sent: Vec<u64> = ranges
        .into_iter()
        .flat_map(|range| ids_of(&frames[range]))
        .collect();
    assert_eq!(sent, [3, 7]);
    store
        .close("b", End::Inserted, &rest.parts)
        .expect("nothing fails");
    assert_eq!(rig.budget.blocks(), 0);
    drop(rig.log);
    assert_eq!(disk.list(wal()).expect("nothing fails"), Vec::<PathBuf>::new());
}

/// What could not be made durable is in the file all the same, and has the higher number.
#[test]
fn a_checkpoint_that_failed_overrules_nothing_that_follows() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut written = Journal::open(Arc::new(disk.clone()), journal()).expect("it is empty");
        let mut rig = Rig::new(disk.clone());
        let mut commit = rig.commit(COMMITS[2]);
        rig.log.append(&mut commit).expect("nothing fails");
        let [a, b] = ["a", "b"].map(|token| {
            let group = Group::of(vec![Part::whole(commit.durable.pop().expect("there are two"))]);
            Change::Open(group.announce(token, None))
        });
        written.append(&[a], true).expect("nothing fails");
        disk.set_faults(Faults {
            syncs: 1000,
            ..Faults::default()
        });
        assert!(written.checkpoint().is_err());
        disk.set_faults(Faults::default());
        written.append(&[b], true).expect("nothing fails any more");
        let disk = if seed % 2 == 0 {
            disk.kill()
        } else {
            disk.lose_power()
        };
        let read = Journal::open(Arc::new(disk), journal()).expect("nothing fails");
        assert_eq!(read.state(), written.state(), "seed {seed}");
    }
}
