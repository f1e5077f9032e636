//! One ingest core's log: appends commits to preallocated segments, each durable before anyone hears of it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_lite::future::block_on;

use super::commit::Commit;
use super::disk::{Disk, DiskFile, write_all_at};
use super::record::{self, Kind};
use super::segment::{Budget, Segment, SegmentId};
use crate::doorbell::Doorbell;
use crate::ring::{Consumer, Producer};
use crate::schema::Schema;

/// Why a commit is not durable. Nothing of it was acknowledged; it can be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogError {
    /// All segments together are as large as they may be: ClickHouse has been away, or slow, for long.
    BytesMax,
    /// As many blocks wait for ClickHouse as may: it has been away while many small requests came.
    BlocksMax,
    /// The disk refused; the operating system's number for why.
    Disk(i32),
}

impl LogError {
    fn of(error: &io::Error) -> LogError {
        // An error without a number is one the standard library made of a write of no bytes: the disk is full.
        LogError::Disk(
            error
                .raw_os_error()
                .unwrap_or(rustix::io::Errno::NOSPC.raw_os_error()),
        )
    }

    /// As a number for a gauge: 0 is left for «no error», a negative one is no error of the system's.
    pub fn code(self) -> i32 {
        match self {
            LogError::BytesMax => -1,
            LogError::BlocksMax => -2,
            LogError::Disk(code) => code,
        }
    }

    /// The error of a [`LogError::code`].
    pub fn from_code(code: i32) -> Option<LogError> {
        match code {
            0 => None,
            -2 => Some(LogError::BlocksMax),
            code if code < 0 => Some(LogError::BytesMax),
            code => Some(LogError::Disk(code)),
        }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::BytesMax => f.write_str(
                "the write-ahead log is as large as it may be (wal_bytes_max) because ClickHouse does not take rows fast enough",
            ),
            LogError::BlocksMax => f.write_str(
                "as many blocks wait in the write-ahead log as may (wal_blocks_max) because ClickHouse does not take rows fast enough",
            ),
            LogError::Disk(code) => write!(
                f,
                "the write-ahead log cannot be written: {}",
                io::Error::from_raw_os_error(*code)
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// Where a core's segments go.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Directory of the segments.
    pub directory: PathBuf,
    /// Names this process.
    pub boot: u64,
    /// The core.
    pub core: u16,
    /// Size of a segment; one larger commit gets a larger one.
    pub segment_bytes: u64,
    /// Shared by all cores.
    pub budget: Arc<Budget>,
}

/// The log of one core.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    open: Option<Open>,
    next_index: u32,
    /// Records of schemas that the open segment lacks.
    schemas: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes; everything before is durable.
    at: u64,
    /// Fingerprints of the schemas it has.
    schemas: Vec<u64>,
}

impl Log {
    /// A log without segments.
    pub fn new(config: LogConfig) -> Log {
        Log {
            config,
            open: None,
            next_index: 0,
            schemas: Vec::new(),
        }
    }

    /// Makes a commit durable; its blocks are in `commit.durable` then.
    ///
    /// # Errors
    /// See [`LogError`]. The commit is as it was.
    pub fn append(&mut self, commit: &mut Commit) -> Result<(), LogError> {
        if commit.is_empty() {
            return Ok(());
        }
        let result = self.try_append(commit);
        if matches!(result, Err(LogError::Disk(_))) {
            // What a failed write or sync left in the file is unknown, and a later sync may claim success without
            // having written it: what follows goes into another file.
            self.close(true);
        }
        result
    }

    fn try_append(&mut self, commit: &mut Commit) -> Result<(), LogError> {
        if !self.config.budget.has_room_for_blocks() {
            return Err(LogError::BlocksMax);
        }
        self.list_schemas(commit);
        let bytes = (self.schemas.len() + commit.len()) as u64;
        if let Some(open) = &self.open
            && open.at + bytes > open.segment.bytes()
        {
            self.close(false);
        }
        if self.open.is_none() {
            // Without an open segment every schema is missing.
            self.list_schemas(commit);
            self.create((self.schemas.len() + commit.len()) as u64)?;
            self.list_schemas(commit);
        }
        let open = self.open.as_mut().expect("it is open or was just created");
        let salt = open.segment.id.salt();
        let commit_at = open.at + self.schemas.len() as u64;
        let file = &*open.file;
        let write = |bytes: &[u8], at| write_all_at(file, bytes, at);
        if !self.schemas.is_empty() {
            write(&self.schemas, open.at).map_err(|error| LogError::of(&error))?;
        }
        let bytes = commit.finish(salt);
        let end = commit_at + bytes.len() as u64;
        write(bytes, commit_at)
            .and_then(|()| file.sync())
            .map_err(|error| LogError::of(&error))?;
        for schema in commit.schemas() {
            if !open.schemas.contains(&schema.fingerprint) {
                open.schemas.push(schema.fingerprint);
            }
        }
        commit.settle(&open.segment, commit_at);
        open.at = end;
        Ok(())
    }

    /// Collects the records of schemas that blocks of the commit need and the open segment lacks.
    fn list_schemas(&mut self, commit: &Commit) {
        self.schemas.clear();
        let known: &[u64] = self.open.as_ref().map_or(&[], |open| &open.schemas);
        let salt = self.open.as_ref().map_or(0, |open| open.segment.id.salt());
        let mut listed: Vec<u64> = Vec::new();
        for schema in commit.schemas() {
            if known.contains(&schema.fingerprint) || listed.contains(&schema.fingerprint) {
                continue;
            }
            listed.push(schema.fingerprint);
            put_schema(&mut self.schemas, schema, salt);
        }
    }

    fn create(&mut self, bytes_min: u64) -> Result<(), LogError> {
        let LogConfig {
            disk,
            directory,
            boot,
            core,
            segment_bytes,
            budget,
        } = &self.config;
        let bytes = bytes_min.max(*segment_bytes);
        if !budget.take(bytes) {
            // When nothing waits for ClickHouse there is nothing to wait for: all space is that of open segments.
            if budget.blocks() > 0 {
                return Err(LogError::BytesMax);
            }
            budget.count(bytes);
        }
        let id = SegmentId {
            boot: *boot,
            core: *core,
            index: self.next_index,
        };
        // A number is used once, also when creating failed half-way.
        self.next_index += 1;
        let path = directory.join(id.file_name());
        match disk.create(&path, bytes) {
            Ok(file) => {
                let segment = Segment::new(id, path, bytes, Arc::clone(budget));
                self.open = Some(Open {
                    segment: Arc::new(segment),
                    file,
                    at: 0,
                    schemas: Vec::new(),
                });
                Ok(())
            }
            Err(error) => {
                budget.give(bytes);
                Err(LogError::of(&error))
            }
        }
    }

    /// Appends no more to the open segment. After a failure what it holds beyond its last commit is cut off, if the disk
    /// lets us; else recovery finds the blocks twice and takes them once, as they have the same names.
    fn close(&mut self, failed: bool) {
        let Some(open) = self.open.take() else { return };
        if failed && let Err(error) = open.file.truncate(open.at) {
            tracing::warn!(segment = %open.segment.path().display(), %error, "cannot cut a segment of the log after a failed write");
        }
        if open.segment.release() && open.segment.delete(&*self.config.disk) {
            // The journal forgets its blocks at the next start.
            tracing::debug!(segment = %open.segment.path().display(), "the segment held nothing any more");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// Appends the record of a schema.
pub fn put_schema(out: &mut Vec<u8>, schema: &Schema, salt: u64) {
    record::put(out, Kind::Schema, schema.to_json().as_bytes(), salt);
}

/// The core's ends of its log.
#[derive(Debug)]
pub struct LogEnd {
    /// Commits to append, at most one at a time.
    pub commits: Producer<Box<Commit>>,
    /// The same, durable or not.
    pub done: Consumer<Box<Commit>>,
}

/// Starts the thread that appends a core's commits. It ends with the process.
///
/// A thread and not io_uring: fdatasync blocks a kernel worker there all the same, glommio's own file interface takes
/// a buffer for good with every write, and the copy into the page cache is better made on another core.
///
/// # Errors
/// The system gives no thread.
pub fn start(mut log: Log, core_bell: Arc<Doorbell>) -> io::Result<LogEnd> {
    let bell = Arc::new(Doorbell::new());
    let (commits, mut incoming) = crate::ring::ring(1, Arc::clone(&bell));
    let (mut outgoing, done) = crate::ring::ring(1, core_bell);
    std::thread::Builder::new()
        .name(format!("log-{}", log.config.core))
        .spawn(move || {
            loop {
                let mut commit: Box<Commit> = block_on(bell.wait(|| incoming.pop()));
                let started = std::time::Instant::now();
                commit.result = log.append(&mut commit);
                commit.took = started.elapsed();
                outgoing
                    .push(commit)
                    .unwrap_or_else(|_| unreachable!("one commit is under way at a time"));
            }
        })?;
    Ok(LogEnd { commits, done })
}
