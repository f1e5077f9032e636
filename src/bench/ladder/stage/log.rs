//! A log of JSON lines: durable before a reply, its files deleted once their lines are in ClickHouse.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size from which on another file is begun, as the server's own has by default.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// A file of a log. Whoever has lines of it holds it.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
}

impl Segment {
    /// Deletes the file when nobody else holds it.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn release(self: Arc<Self>) -> io::Result<()> {
        Arc::into_inner(self).map_or(Ok(()), |segment| fs::remove_file(segment.path))
    }
}

/// The log of one core.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    core: usize,
    number: u64,
    file: File,
    bytes: u64,
    segment: Arc<Segment>,
}

impl Log {
    /// An empty one.
    ///
    /// # Errors
    /// The system gives no file, or there is one of that core already.
    pub fn create(directory: &Path, core: usize) -> io::Result<Log> {
        let (file, segment) = begin(directory, core, 0)?;
        Ok(Log {
            directory: directory.to_owned(),
            core,
            number: 0,
            file,
            bytes: 0,
            segment,
        })
    }

    /// Writes lines and waits until the disk has them. Where they are.
    ///
    /// # Errors
    /// The disk does not have them, or an old file cannot be deleted.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<Arc<Segment>> {
        if self.bytes >= SEGMENT_BYTES {
            self.number += 1;
            let (file, segment) = begin(&self.directory, self.core, self.number)?;
            self.file = file;
            self.bytes = 0;
            std::mem::replace(&mut self.segment, segment).release()?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(Arc::clone(&self.segment))
    }
}

fn begin(directory: &Path, core: usize, number: u64) -> io::Result<(File, Arc<Segment>)> {
    let path = directory.join(format!("{core}-{number}.{EXTENSION}"));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // The file's name must outlive a crash too.
    File::open(directory)?.sync_all()?;
    Ok((file, Arc::new(Segment { path })))
}

const EXTENSION: &str = "log";

/// The logs in a directory, each with its whole lines: the end of one that was cut off was never replied to.
///
/// # Errors
/// One cannot be read.
pub fn left_behind(directory: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let mut lines = fs::read(&path)?;
            let whole = memchr::memrchr(b'\n', &lines).map_or(0, |last| last + 1);
            lines.truncate(whole);
            found.push((path, lines));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_whole_lines_after_the_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path(), 3).unwrap();
        log.append(b"{1}\n{2}\n").unwrap();
        log.append(b"{3}\n").unwrap();
        // What a crash within a write leaves.
        log.file.write_all(b"{4").unwrap();
        drop(log);
        let found = left_behind(directory.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, b"{1}\n{2}\n{3}\n");
    }

    #[test]
    fn deletes_a_file_once_nobody_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let mut log = Log::create(directory.path(), 0).unwrap();
        let first = log.append(b"{1}\n").unwrap();
        log.bytes = SEGMENT_BYTES;
        let second = log.append(b"{2}\n").unwrap();
        assert_eq!(count(), 2);
        first.release().unwrap();
        assert_eq!(count(), 1);
        second.release().unwrap();
        assert_eq!(count(), 1, "the log still writes to it");
        assert_eq!(left_behind(directory.path()).unwrap()[0].1, b"{2}\n");
    }
}
