//! Counters in a mapped file: they outlive the process, however it ends, without a system call per count.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapOptions};

/// The counters of one account: a cache line.
pub(super) type Counters = [AtomicU64; 8];

/// Maps the first `count` counters of a file that is at least as long, for as long as the process lives.
///
/// # Errors
/// The system cannot map it.
pub(super) fn map(file: &File, count: usize) -> io::Result<&'static [Counters]> {
    let bytes = count * size_of::<Counters>();
    assert!(
        file.metadata()?.len() >= bytes as u64,
        "the file holds the counters"
    );
    // SAFETY: the file lies in the locked data directory, where no other process writes or cuts it, and its space is
    // reserved.
    let mapping: MmapMut = unsafe { MmapOptions::new().len(bytes).map_mut(file)? };
    let mapping: &'static mut MmapMut = Box::leak(Box::new(mapping));
    let first = mapping.as_mut_ptr().cast::<Counters>();
    assert!(first.is_aligned(), "a mapping begins at a page");
    // SAFETY: `first` is aligned and begins `bytes` bytes of a mapping that is never unmapped; any bytes are valid
    // counters; the only other reference to the mapping is the one this pointer came from, and it is not used again.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}
