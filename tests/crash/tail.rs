//! Damage to the write-ahead log behind its last record, where nothing durable is: what a torn write leaves.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringhouse::wal::record::{self, Found};
use ringhouse::wal::segment::SegmentId;

/// Records begin at multiples of this many bytes.
const RECORD_ALIGN: usize = record::ALIGNMENT;

/// Most bytes a fault leaves.
const GARBAGE_BYTES_MAX: usize = 40_000;

/// Damages the segment that was written last. What was done; `None` when there is none, or no place in it.
pub fn damage(log: &Path, random: &mut fastrand::Rng) -> Option<String> {
    let path = newest(log)?;
    let segment = fs::read(&path).expect("nobody else has the log now");
    let salt = SegmentId::of_path(&path)?.salt();
    // Zeros may belong to the last record: its header tells where it ends. What is behind it and no record is left over
    // from a write that was killed.
    let mut records_end = 0;
    while let Found::Record(_, next) = record::read(&segment, records_end, salt) {
        records_end = next;
    }
    let written = segment.iter().rposition(|byte| *byte != 0)? + 1;
    let end = written.max(records_end).next_multiple_of(RECORD_ALIGN);
    let room = segment.len().checked_sub(end)?.min(GARBAGE_BYTES_MAX);
    if room == 0 {
        return None;
    }
    let file = File::options().write(true).open(&path).unwrap();
    let what = match random.u8(0..4) {
        0 => {
            let garbage: Vec<u8> = (0..random.usize(1..=room)).map(|_| random.u8(..)).collect();
            file.write_all_at(&garbage, end as u64).unwrap();
            format!("{} random bytes at {end}", garbage.len())
        }
        1 => {
            let at = end + random.usize(0..room);
            file.write_all_at(&[random.u8(1..)], at as u64).unwrap();
            format!("one byte at {at}")
        }
        2 => {
            // Part of the log as it was, as if a record were begun again; whole records may be among it.
            let starts = end / RECORD_ALIGN;
            let back = match random.bool() {
                true => random.usize(1..=starts.min(8)),
                false => random.usize(1..=starts),
            };
            let from = end - back * RECORD_ALIGN;
            let length = random.usize(1..=room.min(end - from));
            let copy = &segment[from..from + length];
            file.write_all_at(copy, end as u64).unwrap();
            format!("{length} bytes from {from} again at {end}")
        }
        _ => {
            file.set_len(end as u64).unwrap();
            format!("cut off at {end}")
        }
    };
    Some(format!("{}: {what}", path.file_name()?.display()))
}

/// The segment written to last.
fn newest(log: &Path) -> Option<PathBuf> {
    let segments = fs::read_dir(log).ok()?.flatten().map(|entry| entry.path());
    segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok())
}

#[test]
fn damage_leaves_every_record_as_it_was() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().unwrap();
        let name = |index| {
            SegmentId {
                boot: 1,
                core: 0,
                index,
            }
            .file_name()
        };
        let (older, newer) = (directory.path().join(name(1)), directory.path().join(name(2)));
        fs::write(&older, [7; 10_000]).unwrap();
        let written = random.usize(1..150_000);
        let mut segment: Vec<u8> = (0..written).map(|_| random.u8(1..)).collect();
        segment.resize(200_000, 0);
        fs::write(&newer, &segment).unwrap();
        // Both may have been written within one tick of the file system's clock.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        File::options()
            .write(true)
            .open(&newer)
            .unwrap()
            .set_modified(later)
            .unwrap();
        let what = damage(directory.path(), &mut random).expect("there is room");
        let after = fs::read(&newer).unwrap();
        assert_eq!(after[..written], segment[..written], "seed {seed}: {what}");
        assert_ne!(after, segment, "seed {seed}: {what}");
        assert_eq!(fs::read(&older).unwrap(), [7; 10_000], "seed {seed}: {what}");
    }
}
