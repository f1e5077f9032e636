//! What operators do with keys: make one, and hash a token they have.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::key_file::{FileWritten, KeyFileError, KeyWritten, NoKeyFile, read_file, read_keys};
use super::token::{TOKEN_BYTES_MAX, Token};
use crate::limits::Limits;

/// A key to be made.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Tables it reaches; all when empty.
    pub tables: Vec<String>,
    /// For the admin pages, not for rows.
    pub admin: bool,
    /// Names of the certificates that it is, as the key file has them; it has no token then.
    pub certificates: Vec<String>,
}

/// Why a command on keys failed.
#[derive(Debug)]
pub enum KeysError {
    /// The system gives no random numbers, or takes no output.
    Io(io::Error),
    /// The key, or the file with it, would not be taken.
    Key(KeyFileError),
    /// The file cannot be used as it is.
    File(NoKeyFile),
    /// The file cannot be written.
    Write(PathBuf, io::Error),
    /// Standard input holds no token.
    NoToken,
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysError::Io(error) => error.fmt(f),
            KeysError::Key(error) => error.fmt(f),
            KeysError::File(error) => error.fmt(f),
            KeysError::Write(path, error) => write!(f, "cannot write {}: {error}", path.display()),
            KeysError::NoToken => write!(
                f,
                "standard input holds no token: one line of 1 to {TOKEN_BYTES_MAX} visible ASCII characters"
            ),
        }
    }
}

impl std::error::Error for KeysError {}

/// Makes a key. Its token, unless certificates stand for one, is printed once and kept nowhere. Its section is printed below it,
/// or appended to the file `append`, which is made when there is none; then the output is the token alone.
///
/// # Errors
/// [`KeysError`]; the file is as it was then.
pub fn new_key(new: &NewKey, append: Option<&Path>, out: &mut dyn Write) -> Result<(), KeysError> {
    let token = match new.certificates.is_empty() {
        true => Some(Token::random().map_err(KeysError::Io)?),
        false => None,
    };
    let section = section(new, token.as_ref());
    // Whatever the flags hold, what is printed can be used.
    read_keys(&section, &Limits::default(), 1, &[]).map_err(KeysError::Key)?;
    let mut text = String::new();
    if let Some(token) = &token {
        text = format!("{}\n", token.expose());
    }
    match append {
        Some(path) => append_section(path, &section)?,
        None if text.is_empty() => text = section,
        None => text = format!("{text}\n{section}"),
    }
    out.write_all(text.as_bytes()).map_err(KeysError::Io)
}

fn section(new: &NewKey, token: Option<&Token>) -> String {
    let written = FileWritten {
        key: vec![KeyWritten {
            name: new.name.clone(),
            hash: token.map(|token| token.digest().to_string()),
            certificates: new.certificates.clone(),
            tables: (!new.tables.is_empty()).then(|| new.tables.clone()),
            admin: new.admin.then_some(true),
            ingest: new.admin.then_some(false),
            ..KeyWritten::default()
        }],
    };
    toml::to_string(&written).expect("every field has a TOML form")
}

/// Replaces the file in one step, so that a server that reads it meanwhile sees the old one or the new one.
fn append_section(path: &Path, section: &str) -> Result<(), KeysError> {
    // The server's own bounds are not known here, and it says so itself when they are passed.
    let limits = Limits {
        keys_max: usize::MAX,
        keys_file_bytes_max: u64::MAX - 1,
        ..Limits::default()
    };
    let is_new = !path.exists();
    let mut text = if is_new {
        String::new()
    } else {
        read_file(path, &limits).map_err(|error| in_file(path, error))?
    };
    if !text.is_empty() {
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    text.push_str(section);
    read_keys(&text, &limits, 1, &[]).map_err(|error| in_file(path, error))?;
    replace(path, &text, is_new).map_err(|error| KeysError::Write(path.to_owned(), error))
}

fn in_file(path: &Path, error: KeyFileError) -> KeysError {
    KeysError::File(NoKeyFile {
        path: path.to_owned(),
        error: Box::new(error),
    })
}

fn replace(path: &Path, text: &str, is_new: bool) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = if is_new {
        path.to_owned()
    } else {
        fs::canonicalize(path)?
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        // Digests are no secrets one could send with, but nobody else needs to read who has keys.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        if !is_new {
            file.set_permissions(fs::metadata(&path)?.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// Prints the hash of the token on standard input, as the key file wants it.
///
/// # Errors
/// [`KeysError::NoToken`], or the input or output fails.
pub fn hash_token(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), KeysError> {
    let mut line = Vec::new();
    let bytes_max = TOKEN_BYTES_MAX as u64 + 2;
    io::Read::take(input, bytes_max)
        .read_until(b'\n', &mut line)
        .map_err(KeysError::Io)?;
    let token = Token::new(line.trim_ascii_end()).ok_or(KeysError::NoToken)?;
    writeln!(out, "{}", token.digest()).map_err(KeysError::Io)
}
