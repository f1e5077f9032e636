//! A file system of a few megabytes that a test can fill.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed: it needs root.
    pub fn mount(bytes: u64) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(directory));
        }
        eprintln!("skipped: mounting a small file system needs root");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the space there is, until the ballast is dropped.
    pub fn fill(&self) -> Ballast {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 65_536]).is_ok() {}
        Ballast(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: who wrote there may be a moment from its end.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A file that fills its disk.
pub struct Ballast(PathBuf);

impl Ballast {
    /// Takes what has become free since.
    pub fn refill(&self) {
        let mut file = File::options().append(true).open(&self.0).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
