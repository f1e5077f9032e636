//! The file operations durability rests on, behind a trait.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// A directory tree on a disk that may fail.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file of `bytes` zeros. When this returns, its name and its room are durable: later writes within it
    /// need no more space.
    ///
    /// # Errors
    /// The file exists, the disk is full, read-only or broken. The file does not exist then, unless the disk refused to
    /// remove it as well.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and for cutting it.
    ///
    /// # Errors
    /// It does not exist or cannot be opened.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Files in a directory, ascending by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Removes a file; durable when this returns. A file that is not there is removed already.
    ///
    /// # Errors
    /// The disk refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads from `at`; 0 is the end of the file. May read less than fits.
    ///
    /// # Errors
    /// The disk refuses.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes at `at`. May write less than all.
    ///
    /// # Errors
    /// The disk refuses.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// The disk refuses. What was written since the last success may be lost then, and a later success says nothing
    /// about it: write it again elsewhere.
    fn sync(&self) -> io::Result<()>;

    /// Size in bytes.
    ///
    /// # Errors
    /// The disk refuses.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file to `bytes`; durable when this returns.
    ///
    /// # Errors
    /// The disk refuses.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// Writes all of `bytes`.
///
/// # Errors
/// The disk refuses, or takes nothing more.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `at`, as far as the file goes; the bytes read.
///
/// # Errors
/// The disk refuses.
pub fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The whole file.
///
/// # Errors
/// The disk refuses.
pub fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    let read = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The machine's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let made = allocate(&file, bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory_of(path));
        if let Err(error) = made {
            // Half a file is of no use, and on a full disk its space is.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_directory_of(path),
        }
    }
}

/// Reserves the file's space, so that no later write finds the disk full.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system that cannot reserve: writes may then fail later, which is handled as well.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names in a file's directory durable.
///
/// # Errors
/// The disk refuses.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().expect("a file of the data directory is in one");
    File::open(directory)?.sync_all()
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)?;
        self.sync_all()
    }
}
