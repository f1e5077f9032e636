//! A disk in memory that fails as disks do: what was synced stays, of the rest it keeps what it likes.
//!
//! Creating, removing and cutting a file are durable when they return, as [`ringhouse::wal::disk::Disk`] asks. A write is
//! visible at once and durable after the next sync that succeeds. A sync that fails gives the writes it should have made
//! durable up for lost: no later one brings them back, though they are read until the power goes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ringhouse::wal::disk::{Disk, DiskFile};

use crate::world::note;

/// What a disk writes at once or not at all.
const SECTOR_BYTES: usize = 512;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How often, of a thousand calls, each goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A write takes a part of its bytes.
    pub short_writes: u32,
    /// A write takes a part of its bytes and fails.
    pub writes: u32,
    /// A sync fails.
    pub syncs: u32,
    /// A file is not created: the disk is full.
    pub creates: u32,
    /// A file is not cut.
    pub truncates: u32,
    /// A file is not removed.
    pub removes: u32,
    /// A read fails, or a listing.
    pub reads: u32,
}

/// The disk as one process sees it: with that process gone, its calls fail.
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Shared>>,
    process: u64,
}

#[derive(Debug)]
struct Shared {
    rng: fastrand::Rng,
    faults: Faults,
    names: BTreeMap<PathBuf, usize>,
    files: Vec<Content>,
    /// The process that may use it now.
    process: u64,
    /// Calls left before the process dies in the middle of one.
    fuse: Option<u32>,
    /// The process died within a call.
    died: bool,
}

#[derive(Debug, Default)]
struct Content {
    /// Size; bytes beyond those below are zeros.
    bytes: u64,
    durable: Vec<u8>,
    /// What is read.
    seen: Vec<u8>,
    unsynced: Vec<Write>,
    /// The size that is told leaves the zeros at the end out: a journal has megabytes of them, which took most of a start.
    is_trimmed: bool,
}

#[derive(Debug)]
struct Write {
    at: usize,
    bytes: Vec<u8>,
    /// A sync of it has failed.
    is_given_up: bool,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    index: usize,
}

/// Whether a call comes to its end.
#[derive(PartialEq)]
enum Call {
    Whole,
    /// The process dies in its middle.
    Cut,
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new(seed: u64) -> SimDisk {
        let shared = Shared {
            rng: fastrand::Rng::with_seed(seed),
            faults: Faults::default(),
            names: BTreeMap::new(),
            files: Vec::new(),
            process: 0,
            fuse: None,
            died: false,
        };
        SimDisk {
            shared: Arc::new(Mutex::new(shared)),
            process: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Lets the process die in the middle of the call after `calls` others.
    pub fn set_fuse(&self, calls: Option<u32>) {
        self.lock().fuse = calls;
    }

    /// The process died within a call.
    pub fn has_died(&self) -> bool {
        self.lock().died
    }

    /// The process dies; what it wrote stays to be read. Returns the disk as the next process sees it.
    pub fn kill(&self) -> SimDisk {
        let mut shared = self.lock();
        shared.process += 1;
        shared.fuse = None;
        shared.died = false;
        // What the disk would not take is only in memory, and memory is wanted for other things. (Linux keeps it for a
        // while, and then a process that reads it takes it for durable: nothing it could do would show that.)
        let Shared { rng, files, .. } = &mut *shared;
        for file in files {
            file.drop_given_up(rng);
        }
        SimDisk {
            shared: Arc::clone(&self.shared),
            process: shared.process,
        }
    }

    /// The power goes: of what was not synced anything may be kept, in any order, by sectors.
    pub fn lose_power(&self) -> SimDisk {
        let next = self.kill();
        let mut shared = next.lock();
        let Shared { rng, files, .. } = &mut *shared;
        for file in files {
            file.lose_power(rng);
        }
        drop(shared);
        next
    }

    /// What a file holds, to its size.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let shared = self.lock();
        let file = &shared.files[shared.names[path]];
        let mut bytes = file.seen.clone();
        bytes.resize(file.bytes as usize, 0);
        bytes
    }

    /// Changes a byte that was durable.
    pub fn rot(&self, path: &Path, at: usize) {
        let mut shared = self.lock();
        let index = shared.names[path];
        let file = &mut shared.files[index];
        for bytes in [&mut file.durable, &mut file.seen] {
            bytes[at] ^= 0x55;
        }
    }

    /// Puts a file there, durable.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut shared = self.lock();
        shared.add(path, bytes.len() as u64);
        let file = shared.files.last_mut().expect("it was just added");
        file.durable = bytes.to_vec();
        file.seen = bytes.to_vec();
    }
}

impl Shared {
    /// Begins a call of `process`.
    fn call(&mut self, process: u64) -> io::Result<Call> {
        if self.died || process != self.process {
            return Err(io::Error::other("the process is dead"));
        }
        match &mut self.fuse {
            Some(0) => {
                self.died = true;
                Ok(Call::Cut)
            }
            Some(calls) => {
                *calls -= 1;
                Ok(Call::Whole)
            }
            None => Ok(Call::Whole),
        }
    }

    fn fails(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.u32(..1000) < per_thousand
    }

    fn add(&mut self, path: &Path, bytes: u64) {
        self.names.insert(path.to_owned(), self.files.len());
        self.files.push(Content {
            bytes,
            is_trimmed: path.extension().is_some_and(|extension| extension == "journal"),
            ..Content::default()
        });
    }
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn cut_short() -> io::Error {
    io::Error::other("the process died")
}

fn overlay(onto: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if onto.len() < at + bytes.len() {
        onto.resize(at + bytes.len(), 0);
    }
    onto[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Content {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        assert!(
            at + bytes.len() as u64 <= self.bytes,
            "writes stay within the room that was made for them"
        );
        overlay(&mut self.seen, at as usize, bytes);
        self.unsynced.push(Write {
            at: at as usize,
            bytes: bytes.to_vec(),
            is_given_up: false,
        });
    }

    fn sync(&mut self) {
        for write in self.unsynced.extract_if(.., |write| !write.is_given_up) {
            overlay(&mut self.durable, write.at, &write.bytes);
        }
    }

    fn truncate(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
        self.durable.truncate(bytes as usize);
        self.seen.truncate(bytes as usize);
        self.unsynced.retain_mut(|write| {
            write.bytes.truncate((bytes as usize).saturating_sub(write.at));
            !write.bytes.is_empty()
        });
    }

    fn drop_given_up(&mut self, rng: &mut fastrand::Rng) {
        if !self.unsynced.iter().any(|write| write.is_given_up) {
            return;
        }
        for write in self.unsynced.extract_if(.., |write| write.is_given_up) {
            keep_some(&mut self.durable, &write, rng);
        }
        self.seen = self.durable.clone();
        for write in &self.unsynced {
            overlay(&mut self.seen, write.at, &write.bytes);
        }
    }

    fn lose_power(&mut self, rng: &mut fastrand::Rng) {
        if self.unsynced.is_empty() {
            return;
        }
        let mut writes = std::mem::take(&mut self.unsynced);
        rng.shuffle(&mut writes);
        for write in &writes {
            keep_some(&mut self.durable, write, rng);
        }
        self.seen = self.durable.clone();
    }
}

/// All of a write becomes durable, or nothing, or its beginning, or some of its sectors.
fn keep_some(durable: &mut Vec<u8>, write: &Write, rng: &mut fastrand::Rng) {
    match rng.u8(..4) {
        0 => {}
        1 => overlay(durable, write.at, &write.bytes),
        2 => overlay(durable, write.at, &write.bytes[..rng.usize(..write.bytes.len())]),
        _ => {
            let end = write.at + write.bytes.len();
            let mut at = write.at;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if rng.bool() {
                    overlay(durable, at, &write.bytes[at - write.at..next - write.at]);
                }
                at = next;
            }
        }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut shared = self.lock();
        let call = shared.call(self.process)?;
        if shared.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if call == Call::Cut {
            if shared.rng.bool() {
                let bytes = [0, bytes][shared.rng.usize(..2)];
                shared.add(path, bytes);
            }
            return Err(cut_short());
        }
        let creates = shared.faults.creates;
        if shared.fails(creates) {
            return Err(error(ENOSPC));
        }
        note!("disk: creates {}", path.display());
        shared.add(path, bytes);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            index: shared.files.len() - 1,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut shared = self.lock();
        shared.call(self.process)?;
        let reads = shared.faults.reads;
        if shared.fails(reads) {
            return Err(error(EIO));
        }
        let index = *shared.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            index,
        }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut shared = self.lock();
        shared.call(self.process)?;
        let reads = shared.faults.reads;
        if shared.fails(reads) {
            return Err(error(EIO));
        }
        let inside = shared
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory));
        Ok(inside.cloned().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut shared = self.lock();
        if shared.call(self.process)? == Call::Cut {
            if shared.rng.bool() {
                shared.names.remove(path);
            }
            return Err(cut_short());
        }
        let removes = shared.faults.removes;
        if shared.fails(removes) {
            return Err(error(EIO));
        }
        note!("disk: removes {}", path.display());
        shared.names.remove(path);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut shared = self.disk.lock();
        shared.call(self.disk.process)?;
        let reads = shared.faults.reads;
        if shared.fails(reads) {
            return Err(error(EIO));
        }
        let file = &shared.files[self.index];
        let left = usize::try_from(file.bytes.saturating_sub(at)).expect("files are small here");
        let read = buffer.len().min(left);
        let written = file.seen.get(at as usize..).unwrap_or_default();
        let copied = read.min(written.len());
        buffer[..copied].copy_from_slice(&written[..copied]);
        buffer[copied..read].fill(0);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut shared = self.disk.lock();
        let call = shared.call(self.disk.process)?;
        let Faults {
            writes, short_writes, ..
        } = shared.faults;
        let fails = call == Call::Cut || shared.fails(writes);
        let taken = match fails {
            true => shared.rng.usize(..=bytes.len()),
            false if bytes.len() > 1 && shared.fails(short_writes) => shared.rng.usize(1..bytes.len()),
            false => bytes.len(),
        };
        if taken > 0 {
            shared.files[self.index].write(at, &bytes[..taken]);
        }
        match (call, fails) {
            (Call::Cut, _) => Err(cut_short()),
            (Call::Whole, true) => Err(error(EIO)),
            (Call::Whole, false) => Ok(taken),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut shared = self.disk.lock();
        if shared.call(self.disk.process)? == Call::Cut {
            return Err(cut_short());
        }
        let syncs = shared.faults.syncs;
        let fails = shared.fails(syncs);
        let file = &mut shared.files[self.index];
        if fails {
            for write in &mut file.unsynced {
                write.is_given_up = true;
            }
            note!("disk: a sync fails");
            return Err(error(EIO));
        }
        file.sync();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut shared = self.disk.lock();
        shared.call(self.disk.process)?;
        let file = &shared.files[self.index];
        Ok(match file.is_trimmed {
            true => file.bytes.min(file.seen.len() as u64 + 64),
            false => file.bytes,
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut shared = self.disk.lock();
        let call = shared.call(self.disk.process)?;
        let truncates = shared.faults.truncates;
        let fails = call == Call::Cut || shared.fails(truncates);
        if !fails || (call == Call::Cut && shared.rng.bool()) {
            shared.files[self.index].truncate(bytes);
        }
        match (call, fails) {
            (Call::Cut, _) => Err(cut_short()),
            (Call::Whole, true) => Err(error(EIO)),
            (Call::Whole, false) => Ok(()),
        }
    }
}
