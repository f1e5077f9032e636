//! The directory of dead letters: its files, its lock, and how a file is rewritten.

use super::line::Line;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Under the data directory.
const NAME: &str = "dead-letters";
const SUFFIX: &str = ".jsonl";
/// What a file is written to before it takes its name.
const UNFINISHED: &str = "tmp";

/// The directory; it exists.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// Held while anything is changed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Goes,
    /// Stays with another reason, which Ringhouse gave.
    StaysFor(String),
}

impl Directory {
    /// Creates the directory under `data_dir` unless it exists. Rows are nobody else's business: it is its owner's alone.
    pub(super) fn create(data_dir: &Path) -> io::Result<Directory> {
        let path = data_dir.join(NAME);
        if !path.is_dir() {
            fs::create_dir_all(data_dir)?;
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            File::open(data_dir)?.sync_all()?;
        }
        Ok(Directory { path })
    }

    /// The directory under `data_dir`, if there is one.
    pub(super) fn existing(data_dir: &Path) -> io::Result<Option<Directory>> {
        let path = data_dir.join(NAME);
        match fs::metadata(&path) {
            Ok(_) => Ok(Some(Directory { path })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock. Nobody holds it for longer than it takes to rewrite one file.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let file = self.open_lock("lock")?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock of `replay`, unless another one runs.
    pub(super) fn try_lock_replay(&self) -> io::Result<Option<Lock>> {
        let file = self.open_lock("replay.lock")?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_lock(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        match self.create_file(&path) {
            // Somebody else was as quick.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => File::open(&path),
            result => result,
        }
    }

    /// The path of a file by its number.
    pub(super) fn letters(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:010}{SUFFIX}"))
    }

    /// The path of any other file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Numbers of the files, rising: the oldest letters first.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            // A file with another name is somebody's copy.
            numbers.extend(
                number
                    .filter(|digits| digits.len() == 10)
                    .and_then(|digits| digits.parse::<u64>().ok()),
            );
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Whole lines of a file, at most its first `bytes_max` bytes; empty when it is gone.
    pub(super) fn read(&self, number: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut text = match fs::read(self.letters(number)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        text.truncate(usize::try_from(bytes_max).unwrap_or(usize::MAX));
        // What is behind the last newline is being written, or was when the server died.
        text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1));
        Ok(text)
    }

    /// Writes a file anew without the lines that go; deletes it when none stays. Holds the lock meanwhile.
    ///
    /// `fate` sees `None` for a line that is no letter. Returns how many lines went and how many bytes they were.
    pub(super) fn rewrite(
        &self,
        number: u64,
        fate: &mut dyn FnMut(Option<&Line<'_>>) -> Fate,
    ) -> io::Result<(u64, u64)> {
        let _lock = self.lock()?;
        let text = self.read(number, u64::MAX)?;
        let mut kept = Vec::with_capacity(text.len());
        let (mut gone_rows, mut gone_bytes) = (0, 0);
        for text in text.split_inclusive(|byte| *byte == b'\n') {
            let line = Line::parse(&text[..text.len() - 1]);
            match (fate(line.as_ref()), line) {
                (Fate::Goes, _) => {
                    gone_rows += 1;
                    gone_bytes += text.len() as u64;
                }
                (Fate::StaysFor(reason), Some(line)) => line.encode_with(0, &reason, &mut kept),
                (Fate::Stays | Fate::StaysFor(_), _) => kept.extend_from_slice(text),
            }
        }
        if kept == text {
            return Ok((0, 0));
        }
        let path = self.letters(number);
        if kept.is_empty() {
            fs::remove_file(&path)?;
            self.sync()?;
        } else {
            self.replace(&path, &kept)?;
        }
        Ok((gone_rows, gone_bytes))
    }

    /// Puts a file in another's place, whole or not at all.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let unfinished = path.with_extension(UNFINISHED);
        let written = remove_if_there(&unfinished)
            .and_then(|()| self.create_file(&unfinished))
            .and_then(|mut file| {
                file.write_all(content)?;
                file.sync_data()
            })
            .and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            // It would only take room, and opening the store removes it at the latest.
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| self.sync())
    }

    /// Creates a file that belongs to the directory's owner: a command run by root must not lock the server out.
    pub(super) fn create_file(&self, path: &Path) -> io::Result<File> {
        let file = File::options()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let (directory, own) = (fs::metadata(&self.path)?, file.metadata()?);
        if (own.uid(), own.gid()) != (directory.uid(), directory.gid()) && own.uid() == 0 {
            fchown(&file, Some(directory.uid()), Some(directory.gid()))?;
        }
        Ok(file)
    }

    /// Makes names that came or went outlast a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Removes what a command that was killed had not finished.
    pub(super) fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
