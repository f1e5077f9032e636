//! Key files.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::BINARY;

/// Makes a key with these `lines` more in its section, in a file that is made when there is none; its token.
pub fn add_key(file: &Path, name: &str, lines: &str) -> String {
    let made = Command::new(BINARY)
        .args(["keys", "new", "--name", name, "--append"])
        .arg(file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = fs::read_to_string(file).unwrap();
    replace(file, &format!("{text}{lines}\n"));
    String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
}

/// Replaces a file in one step, as the server is never to see half of one.
pub fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, file).unwrap();
}
