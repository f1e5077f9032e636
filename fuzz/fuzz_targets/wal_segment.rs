//! Whatever a segment holds, every block that is found lies in it, the next start finds the same, and its room is given back.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringhouse::block::BlockId;
use ringhouse::wal::commit::BLOCK_HEAD_BYTES;
use ringhouse::wal::record::{self, Kind};
use ringhouse::wal::recovery::recover;
use ringhouse::wal::segment::{Budget, SegmentId};

use disk::SimDisk;

#[allow(dead_code)]
#[path = "../../tests/simulation/disk.rs"]
mod disk;

/// What the disk needs of the simulation.
mod world {
    macro_rules! note {
        ($($what:tt)*) => {};
    }
    pub(crate) use note;
}

const ID: SegmentId = SegmentId {
    boot: 0,
    core: 0,
    index: 0,
};

fuzz_target!(|input: &[u8]| {
    let disk = SimDisk::new(0);
    let bytes = segment(input);
    disk.put(&Path::new("wal").join(ID.file_name()), &bytes);
    let found = blocks(&disk, bytes.len());
    assert_eq!(blocks(&disk, bytes.len()), found, "a second start finds the same");
});

/// Names and places of the blocks. All of them are settled then.
fn blocks(disk: &SimDisk, bytes: usize) -> Vec<(BlockId, u64)> {
    let budget = Arc::new(Budget::new(0, 0));
    let recovered = recover(disk, Path::new("wal"), Path::new("quarantine"), &budget).expect("the disk does not fail");
    for block in &recovered.blocks {
        let payload_at = block.record_at as usize + record::HEADER_BYTES;
        assert!(payload_at + BLOCK_HEAD_BYTES + block.frames_bytes as usize <= bytes);
        assert!(!block.segment.release_block(), "recovery has a claim of its own");
    }
    assert!(recovered.segments.iter().all(|segment| segment.release()));
    assert_eq!(budget.blocks(), 0);
    recovered.blocks.iter().map(|block| (block.id, block.record_at)).collect()
}

/// The input as records with checksums that hold, which are not to be guessed, and bytes as they are. Each piece: what it is,
/// records that follow, length, content.
fn segment(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [what, left, length, rest @ ..] = input {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let at = record::begin(&mut bytes);
        bytes.extend_from_slice(content);
        let payload_bytes = record::end(&mut bytes, at);
        let kind = [Kind::Block, Kind::Schema, Kind::Key, Kind::Change][usize::from(*what % 4)];
        record::finish(&mut bytes[at..], payload_bytes, kind, u32::from(*left % 4), ID.salt());
        // One in four is damaged.
        if *what >= 192 {
            let hit = at + usize::from(*what - 192) % (bytes.len() - at);
            bytes[hit] ^= 1;
        }
        input = rest;
    }
    bytes
}
