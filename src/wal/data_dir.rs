//! The directory everything durable lies in: one process at a time, one format.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::disk::sync_directory_of;

/// The format of everything in the directory. A process refuses a directory of any other.
const FORMAT: &str = "ringhouse data 1\n";

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for as long as the process lives; the system lets go of it however that ends.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process holds it; its number when it left one.
    Locked(PathBuf, Option<u32>),
    /// It is of another version of the program.
    Format(PathBuf, String),
    /// The system refuses.
    Io(PathBuf, io::Error),
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Locked(path, process) => {
                write!(
                    f,
                    "the data directory {} is in use by another process",
                    path.display()
                )?;
                if let Some(process) = process {
                    write!(f, " ({process})")?;
                }
                f.write_str("; give this one its own with --data-dir")
            }
            DataDirError::Format(path, found) => write!(
                f,
                "the data directory {} is of another version ({:?}, this one writes {:?}): use the version that wrote it, or another directory",
                path.display(),
                found.trim(),
                FORMAT.trim()
            ),
            DataDirError::Io(path, error) => {
                write!(f, "the data directory {} cannot be used: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {}

impl DataDir {
    /// Makes the directory if need be, locks it and checks its format.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let refused = |error| DataDirError::Io(path.to_owned(), error);
        fs::create_dir_all(path).map_err(refused)?;
        // Its own name, as far as its parent may be read: what lies above is not ours to make durable.
        let _ = fs::canonicalize(path).and_then(|path| sync_directory_of(&path));
        let lock = lock(path)?;
        let directory = DataDir {
            path: path.to_owned(),
            _lock: lock,
        };
        directory.check_format()?;
        for part in [directory.wal(), directory.journal(), directory.quarantine()] {
            fs::create_dir_all(&part)
                .and_then(|()| sync_directory_of(&part))
                .map_err(refused)?;
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Segments of the log.
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Bytes that should have been records.
    pub fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// The ledger's counters.
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger")
    }

    fn check_format(&self) -> Result<(), DataDirError> {
        let path = self.path.join("format");
        let refused = |error| DataDirError::Io(self.path.clone(), error);
        match fs::read_to_string(&path) {
            Ok(text) if text == FORMAT => Ok(()),
            // A crash between creating and writing it: nothing else was written then.
            Ok(text) if !text.is_empty() => Err(DataDirError::Format(self.path.clone(), text)),
            Ok(_) => self.write_format(&path).map_err(refused),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write_format(&path).map_err(refused)
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn write_format(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(FORMAT.as_bytes())?;
        file.sync_all()?;
        sync_directory_of(path)
    }
}

fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join("lock");
    let refused = |error| DataDirError::Io(directory.to_owned(), error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(refused)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(DataDirError::Locked(
                directory.to_owned(),
                text.trim().parse().ok(),
            ));
        }
        Err(error) => return Err(refused(error.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(refused)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_second_process_and_another_format() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        let refused = DataDir::open(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        DataDir::open(directory.path()).unwrap();
        fs::write(directory.path().join("format"), "ringhouse data 99\n").unwrap();
        let refused = DataDir::open(directory.path()).unwrap_err();
        assert!(matches!(refused, DataDirError::Format(..)), "{refused}");
    }

    #[test]
    fn accepts_a_directory_whose_format_was_not_written_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("format"), "").unwrap();
        DataDir::open(directory.path()).unwrap();
    }
}
