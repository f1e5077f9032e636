//! Keeps answered keys in a file, so that they outlive the process and the log segments that carried them.
//!
//! Records are appended to `keys`. When more than half of it is dead, the living are written to `keys.tmp`, which
//! then takes its place. One thread owns the file; its calls block.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{Record, read_records};

/// The file of one data directory, open for appending.
#[derive(Debug)]
pub struct KeyFile {
    directory: PathBuf,
    file: File,
    /// Where the next record goes. After a failed write there may be more behind it.
    bytes: u64,
    scratch: Vec<u8>,
}

const NAME: &str = "keys";
const NAME_OF_NEXT: &str = "keys.tmp";

/// A file below this is not worth a rewrite.
const REWRITE_BYTES_MIN: u64 = 1024 * 1024;

impl KeyFile {
    /// Opens the file in `directory`, making both where they are missing, and reads what it holds, oldest first: also
    /// expired records and several of one key, which [`Keys::restore`](super::Keys::restore) sorts out.
    ///
    /// Corrupt records are skipped and a torn or corrupt end is cut off, each with a warning: a key that is lost that
    /// way is new again.
    ///
    /// # Errors
    /// When the disk refuses. The content is never the reason.
    pub fn open(directory: &Path) -> io::Result<(KeyFile, Vec<Record>)> {
        fs::create_dir_all(directory)?;
        let path = directory.join(NAME);
        // A rewrite that did not come to its end.
        match fs::remove_file(directory.join(NAME_OF_NEXT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let content = fs::read(&path)?;
        let reading = read_records(&content);
        if reading.skipped > 0 {
            tracing::warn!(
                path = %path.display(),
                records = reading.skipped,
                "skipped corrupt idempotency keys; a retry of one of them is taken as new"
            );
        }
        let cut_bytes = content.len() - reading.end;
        if cut_bytes > 0 {
            tracing::warn!(
                path = %path.display(),
                at = reading.end,
                bytes = cut_bytes,
                "cut off the torn or corrupt end of the idempotency keys"
            );
            file.set_len(reading.end as u64)?;
        }
        file.sync_all()?;
        sync_directory(directory)?;
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        let file = KeyFile {
            directory: directory.to_owned(),
            file,
            bytes: reading.end as u64,
            scratch: Vec::new(),
        };
        Ok((file, reading.records))
    }

    /// Writes `records` behind the others. They are safe after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// When the disk refuses; none of them counts as written then, and they may be appended again.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.scratch.clear();
        for record in records {
            record.encode(&mut self.scratch);
        }
        // At the known end: what a failed write left there would hide everything behind it.
        self.file.write_all_at(&self.scratch, self.bytes)?;
        self.bytes += self.scratch.len() as u64;
        Ok(())
    }

    /// Waits until everything appended is on disk.
    ///
    /// # Errors
    /// When the disk refuses. The kernel may have dropped what it could not write: [`rewrite`](Self::rewrite) before
    /// anything is relied on again.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a rewrite is due, given the [`Keys::file_bytes`](super::Keys::file_bytes) that live.
    pub fn outgrew(&self, live_bytes: u64) -> bool {
        self.bytes > REWRITE_BYTES_MIN && self.bytes / 2 > live_bytes
    }

    /// Replaces the file by one of these records alone; they are on disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses. Whichever of the two files is in place then, it is appended to.
    pub fn rewrite(&mut self, live: impl IntoIterator<Item = Record>) -> io::Result<()> {
        let next_path = self.directory.join(NAME_OF_NEXT);
        let written = write_next(&next_path, live, &mut self.scratch);
        let renamed = written.and_then(|(file, bytes)| {
            fs::rename(&next_path, self.directory.join(NAME))?;
            Ok((file, bytes))
        });
        match renamed {
            Ok((file, bytes)) => {
                self.file = file;
                self.bytes = bytes;
                sync_directory(&self.directory)
            }
            Err(error) => {
                // The next rewrite or start begins it anew; a full disk has the bytes back now.
                let _ = fs::remove_file(&next_path);
                Err(error)
            }
        }
    }
}

/// Writes and syncs the file that is to take the other's place.
fn write_next(
    path: &Path,
    live: impl IntoIterator<Item = Record>,
    scratch: &mut Vec<u8>,
) -> io::Result<(File, u64)> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let mut writer = BufWriter::with_capacity(64 * 1024, file);
    let mut bytes = 0;
    for record in live {
        scratch.clear();
        record.encode(scratch);
        writer.write_all(scratch)?;
        bytes += scratch.len() as u64;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((file, bytes))
}

/// A created, renamed or removed file is so on disk only after its directory was synced.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::record::tests::{encode, record};
    use super::super::{Begin, Keys};
    use super::*;

    fn records(range: std::ops::Range<u64>) -> Vec<Record> {
        range.map(record).collect()
    }

    fn open(directory: &TempDir) -> (KeyFile, Vec<Record>) {
        KeyFile::open(&directory.path().join("idempotency")).expect("a temporary directory is writable")
    }

    /// A directory whose file holds `content`.
    fn holding(content: &[u8]) -> TempDir {
        let directory = TempDir::new().unwrap();
        let inner = directory.path().join("idempotency");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join(NAME), content).unwrap();
        directory
    }

    #[test]
    fn reads_back_what_was_appended() {
        let directory = TempDir::new().unwrap();
        let (mut file, found) = open(&directory);
        assert_eq!((found, file.bytes()), (vec![], 0));
        file.append(&records(0..3)).unwrap();
        file.append(&[]).unwrap();
        file.append(&records(3..4)).unwrap();
        file.sync().unwrap();
        let bytes = file.bytes();
        drop(file);
        let (mut file, found) = open(&directory);
        assert_eq!((found, file.bytes()), (records(0..4), bytes));
        file.append(&records(4..5)).unwrap();
        assert_eq!(open(&directory).1, records(0..5));
    }

    #[test]
    fn every_prefix_opens_with_its_whole_records_and_takes_more() {
        let (bytes, ends) = encode(&records(0..2));
        for length in 0..=bytes.len() {
            let directory = holding(&bytes[..length]);
            let whole = ends.iter().filter(|&&end| end <= length).count() as u64;
            let (mut file, found) = open(&directory);
            assert_eq!(found, records(0..whole), "{length} bytes");
            file.append(&records(7..8)).unwrap();
            let expected = [records(0..whole), records(7..8)].concat();
            assert_eq!(open(&directory).1, expected, "{length} bytes");
        }
    }

    #[test]
    fn what_a_failed_write_left_is_written_over() {
        let directory = TempDir::new().unwrap();
        let (mut file, _) = open(&directory);
        file.append(&records(0..2)).unwrap();
        // What a full disk leaves: the beginning of an append that did not count.
        let (torn, _) = encode(&records(1_000_000..1_000_002));
        file.file
            .write_all_at(&torn[..torn.len() - 3], file.bytes)
            .unwrap();
        file.append(&records(2..3)).unwrap();
        assert_eq!(open(&directory).1, records(0..3));
    }

    #[test]
    fn a_rewrite_keeps_the_living_and_what_is_appended_after() {
        let directory = TempDir::new().unwrap();
        let (mut file, _) = open(&directory);
        file.append(&records(0..50)).unwrap();
        let before = file.bytes();
        file.rewrite(records(10..12)).unwrap();
        assert!(file.bytes() < before / 10);
        file.append(&records(60..61)).unwrap();
        file.sync().unwrap();
        assert!(!directory.path().join("idempotency").join(NAME_OF_NEXT).exists());
        let expected = [records(10..12), records(60..61)].concat();
        let (mut file, found) = open(&directory);
        assert_eq!(found, expected);
        file.rewrite([]).unwrap();
        assert_eq!((open(&directory).1, file.bytes()), (vec![], 0));
    }

    #[test]
    fn a_rewrite_that_failed_leaves_the_file_as_it_was() {
        let directory = TempDir::new().unwrap();
        let (mut file, _) = open(&directory);
        file.append(&records(0..3)).unwrap();
        // A directory in the way of the new file.
        let obstacle = directory.path().join("idempotency").join(NAME_OF_NEXT);
        fs::create_dir(&obstacle).unwrap();
        assert!(file.rewrite(records(0..1)).is_err());
        file.append(&records(3..4)).unwrap();
        fs::remove_dir(&obstacle).unwrap();
        assert_eq!(open(&directory).1, records(0..4));
    }

    #[test]
    fn a_rewrite_that_was_cut_off_is_forgotten() {
        let (bytes, _) = encode(&records(0..3));
        let directory = holding(&bytes);
        let next = directory.path().join("idempotency").join(NAME_OF_NEXT);
        fs::write(&next, &bytes[..20]).unwrap();
        assert_eq!(open(&directory).1, records(0..3));
        assert!(!next.exists());
    }

    #[test]
    fn outgrows_what_lives_when_more_than_half_is_dead() {
        let directory = TempDir::new().unwrap();
        let (mut file, _) = open(&directory);
        assert!(!file.outgrew(0), "an empty file");
        file.append(&records(0..20)).unwrap();
        assert!(!file.outgrew(0), "a small file");
        file.bytes = 2 * REWRITE_BYTES_MIN;
        assert!(!file.outgrew(REWRITE_BYTES_MIN));
        assert!(file.outgrew(REWRITE_BYTES_MIN - 1));
    }

    #[test]
    fn keys_answer_after_a_restart_as_before() {
        let directory = TempDir::new().unwrap();
        let (mut file, _) = open(&directory);
        let keys = Keys::new(1000, 1 << 20, 1000);
        let mut replies = Vec::new();
        for n in 0..500u64 {
            let Begin::New(ticket) = keys.begin(format!("{n}").as_bytes(), "d.t", n as i64) else {
                panic!("{n} is new");
            };
            let reply = record(n).reply;
            file.append(&[keys.finish(ticket, reply.clone(), n as i64)])
                .unwrap();
            replies.push(reply);
        }
        assert_eq!(file.bytes(), keys.file_bytes());
        // The first hundred expire; half of the rest comes through a rewrite, all of it through another start.
        let now_unix_ms = 1099;
        keys.expire(now_unix_ms);
        file.rewrite(keys.live(now_unix_ms)).unwrap();
        assert_eq!(file.bytes(), keys.file_bytes());
        let restarted = Keys::new(1000, 1 << 20, 1000);
        for record in open(&directory).1 {
            restarted.restore(record, now_unix_ms);
        }
        assert_eq!(
            (restarted.len(), restarted.bytes(), restarted.file_bytes()),
            (400, keys.bytes(), keys.file_bytes())
        );
        for (n, reply) in replies.iter().enumerate() {
            match restarted.begin(format!("{n}").as_bytes(), "d.t", now_unix_ms) {
                Begin::New(_) => assert!(n < 100, "{n} was forgotten"),
                Begin::Done(found) => assert!(n >= 100 && found == *reply, "{n}"),
                other => panic!("{n}: {other:?}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_file_opens_and_takes_more(
            flips in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, _) = encode(&records(0..6));
            for flip in &flips {
                let bit = flip.index(8 * bytes.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let directory = holding(&bytes);
            let (mut file, found) = open(&directory);
            prop_assert!(found.iter().all(|record| records(0..6).contains(record)));
            file.append(&records(9..10)).unwrap();
            prop_assert_eq!(open(&directory).1, [found, records(9..10)].concat());
        }
    }
}
