//! Reads the key file: TOML, one `[[key]]` section for each key.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::allow_list::{AllowList, AllowListError};
use super::certificate::{CertificateName, NoCertificateName};
use super::glob::TableGlob;
use super::key::{Key, KeyUsage};
use super::quota::{Quota, RATE_MAX, Rate, Unit};
use super::token::{NoDigest, TokenDigest};
use crate::config::{ConfigError, split_table_name};
use crate::limits::{Limits, nearest};
use crate::mapping::Constants;

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct FileWritten {
    pub key: Vec<KeyWritten>,
}

/// One section. Field names are the file's keys.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct KeyWritten {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_burst: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Every key of a `[[key]]` section.
const KEYS: [&str; 13] = [
    "name",
    "hash",
    "certificates",
    "tables",
    "table",
    "admin",
    "ingest",
    "allow",
    "requests_per_second",
    "requests_burst",
    "bytes_per_second",
    "bytes_burst",
    "fields",
];

/// Bytes of a key's name: it is a label of metrics.
const NAME_BYTES_MAX: usize = 64;

/// Names of certificates of one key: the hosts of a fleet, or the old fingerprint beside the new one.
const CERTIFICATES_MAX: usize = 1000;

/// Fields of one key, and bytes of each name and value: they are added to every row.
const FIELDS_MAX: usize = 16;
const FIELD_BYTES_MAX: usize = 256;

/// Why a key file is not taken. Always the operator's to fix; no message holds a digest, which may be a token in the wrong
/// place.
#[derive(Debug)]
pub enum KeyFileError {
    /// It cannot be read.
    Io(io::Error),
    /// It is longer than `Limits::keys_file_bytes_max`.
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// It is no TOML, or a value is of a wrong type.
    Malformed(ConfigError),
    /// A key that does not exist.
    UnknownKey {
        /// As written.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// It holds no `[[key]]`: a file that was cut off is likelier than one that shall lock everybody out.
    NoKeys,
    /// More keys than `Limits::keys_max`.
    TooMany {
        /// The limit.
        keys_max: usize,
    },
    /// One section cannot be what it is meant to be.
    Key {
        /// Which one, from 1.
        number: usize,
        /// Its name, when it has one.
        name: String,
        /// What is wrong with it.
        error: KeyError,
    },
}

/// What is wrong with a `[[key]]` section.
#[derive(Debug)]
pub enum KeyError {
    /// The name is missing, too long, or not made of letters, digits, `_`, `-` and `.`.
    Name,
    /// Another key has the name.
    NameTwice,
    /// It has neither a hash nor a certificate.
    Unreachable,
    /// The hash is none.
    Hash(NoDigest),
    /// Another key has the hash.
    HashTwice,
    /// An entry of `certificates` names none.
    Certificate(NoCertificateName),
    /// More names of certificates than [`CERTIFICATES_MAX`].
    Certificates,
    /// Another key has a certificate of the same name.
    CertificateTwice(String),
    /// It may neither send rows nor read pages.
    Useless,
    /// `tables` is empty.
    NoTables,
    /// An entry of `tables` is no pattern.
    Glob(String),
    /// The default table is none.
    Table(ConfigError),
    /// The list of addresses is none.
    Allow(AllowListError),
    /// A rate or burst is 0 or above [`RATE_MAX`].
    Rate(&'static str),
    /// A burst without its rate.
    BurstAlone(&'static str),
    /// More than so many fields, or one that is too long or without a name.
    Fields,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFileError::Io(error) => write!(f, "it cannot be read: {error}"),
            KeyFileError::TooLong { bytes_max } => {
                write!(f, "it is longer than keys_file_bytes_max = {bytes_max} bytes")
            }
            KeyFileError::Malformed(error) => error.fmt(f),
            KeyFileError::UnknownKey {
                key,
                nearest: Some(nearest),
            } => {
                write!(f, "unknown key `{key}`; did you mean `{nearest}`?")
            }
            KeyFileError::UnknownKey { key, nearest: None } => {
                write!(
                    f,
                    "unknown key `{key}`; a [[key]] section has {}",
                    KEYS.join(", ")
                )
            }
            KeyFileError::NoKeys => {
                f.write_str("it holds no [[key]] section; `ringhouse keys new` makes one")
            }
            KeyFileError::TooMany { keys_max } => write!(f, "it holds more keys than keys_max = {keys_max}"),
            KeyFileError::Key { number, name, error } if name.is_empty() => {
                write!(f, "key {number}: {error}")
            }
            KeyFileError::Key { number, name, error } => write!(f, "key {number} (`{name}`): {error}"),
        }
    }
}

impl std::error::Error for KeyFileError {}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Name => write!(
                f,
                "name must be 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"
            ),
            KeyError::NameTwice => f.write_str("another key has this name"),
            KeyError::Hash(error) => write!(f, "hash: {error}"),
            KeyError::HashTwice => {
                f.write_str("another key has this hash; every key needs a token of its own")
            }
            KeyError::Unreachable => {
                f.write_str("it needs a hash (`ringhouse keys hash` makes one of a token) or certificates")
            }
            KeyError::Certificate(error) => write!(f, "certificates: {error}"),
            KeyError::Certificates => write!(f, "certificates: at most {CERTIFICATES_MAX} for one key"),
            KeyError::CertificateTwice(name) => {
                write!(
                    f,
                    "certificates: `{name}` is another key's; a certificate is one key's only"
                )
            }
            KeyError::Useless => {
                f.write_str("with ingest = false and without admin = true it may do nothing")
            }
            KeyError::NoTables => {
                f.write_str("tables: an empty list would reach no table; leave it out to reach all")
            }
            KeyError::Glob(text) => write!(
                f,
                "tables: `{text}` is no pattern like `app_*`, `database.table` or `*.*`"
            ),
            KeyError::Table(error) => write!(f, "table: {error}"),
            KeyError::Allow(error) => write!(f, "allow: {error}"),
            KeyError::Rate(key) => write!(
                f,
                "{key} must be from 1 to {RATE_MAX}, and a burst no more than comes in a year"
            ),
            KeyError::BurstAlone(key) => write!(f, "{key} means something only together with its rate"),
            KeyError::Fields => write!(
                f,
                "fields: at most {FIELDS_MAX}, each with a name, and names and values of at most {FIELD_BYTES_MAX} bytes"
            ),
        }
    }
}

/// Reads the file. Never more of it than `limits.keys_file_bytes_max`.
pub(super) fn read_file(path: &Path, limits: &Limits) -> Result<String, KeyFileError> {
    let bytes_max = limits.keys_file_bytes_max;
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text))
        .map_err(KeyFileError::Io)?;
    if text.len() as u64 > bytes_max {
        return Err(KeyFileError::TooLong { bytes_max });
    }
    Ok(text)
}

/// Reads the keys in a text. A key that is among `former` by its name keeps its counters and, with the same rates, what
/// is left of its quotas. `cores` is how many there are to count.
pub(super) fn read_keys(
    text: &str,
    limits: &Limits,
    cores: usize,
    former: &[Key],
) -> Result<Vec<Key>, KeyFileError> {
    let written = parse(text)?;
    if written.key.is_empty() {
        return Err(KeyFileError::NoKeys);
    }
    if written.key.len() > limits.keys_max {
        return Err(KeyFileError::TooMany {
            keys_max: limits.keys_max,
        });
    }
    let (mut names, mut digests, mut certificates) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(written.key.len());
    for (at, section) in written.key.into_iter().enumerate() {
        let (name, written) = (section.name.clone(), section.certificates.clone());
        let key = resolve(section, cores, former).and_then(|key| {
            if !names.insert(Arc::clone(&key.name)) {
                return Err(KeyError::NameTwice);
            }
            if key.digest.is_some_and(|digest| !digests.insert(digest)) {
                return Err(KeyError::HashTwice);
            }
            let mut taken = key
                .certificates
                .iter()
                .cloned()
                .map(|name| !certificates.insert(name));
            if let Some(twice) = taken.position(|is_taken| is_taken) {
                return Err(KeyError::CertificateTwice(written[twice].clone()));
            }
            Ok(key)
        });
        keys.push(key.map_err(|error| KeyFileError::Key {
            number: at + 1,
            name,
            error,
        })?);
    }
    Ok(keys)
}

fn parse(text: &str) -> Result<FileWritten, KeyFileError> {
    let malformed = |error: toml::de::Error| KeyFileError::Malformed(ConfigError::malformed(text, &error));
    let deserializer = toml::Deserializer::parse(text).map_err(malformed)?;
    let mut unknown = None;
    let written = serde_ignored::deserialize(deserializer, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    })
    .map_err(malformed)?;
    let Some(path) = unknown else {
        return Ok(written);
    };
    // `key.0.nmae` within a section, `keys` outside of one.
    let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
    Err(KeyFileError::UnknownKey {
        nearest: match section {
            "" => Some("[[key]]").filter(|_| nearest(key, ["key"].into_iter()).is_some()),
            _ => nearest(key, KEYS.into_iter()),
        },
        key: key.to_owned(),
    })
}

fn resolve(written: KeyWritten, cores: usize, former: &[Key]) -> Result<Key, KeyError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let name = written.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(KeyError::Name);
    }
    let digest = written.hash.map(|hash| hash.parse::<TokenDigest>());
    let digest = digest.transpose().map_err(KeyError::Hash)?;
    if written.certificates.len() > CERTIFICATES_MAX {
        return Err(KeyError::Certificates);
    }
    let certificates = written.certificates.iter().map(|name| name.parse());
    let certificates: Vec<CertificateName> = certificates
        .collect::<Result<_, _>>()
        .map_err(KeyError::Certificate)?;
    if digest.is_none() && certificates.is_empty() {
        return Err(KeyError::Unreachable);
    }
    let (admin, ingest) = (written.admin.unwrap_or(false), written.ingest.unwrap_or(true));
    if !admin && !ingest {
        return Err(KeyError::Useless);
    }
    let allow = written.allow.as_deref().map(AllowList::parse);
    let same = former.iter().find(|key| *key.name == *name);
    let requests = rate(
        ("requests_per_second", written.requests_per_second),
        ("requests_burst", written.requests_burst),
    )?;
    let bytes = rate(
        ("bytes_per_second", written.bytes_per_second),
        ("bytes_burst", written.bytes_burst),
    )?;
    let quota = |unit, rate: Option<Rate>, former: Option<&Arc<Quota>>| {
        rate.map(|rate| match former {
            Some(quota) if quota.rate() == rate => Arc::clone(quota),
            _ => Arc::new(Quota::new(unit, rate)),
        })
    };
    Ok(Key {
        name: name.into(),
        digest,
        certificates,
        tables: written.tables.map(globs).transpose()?,
        admin,
        ingest,
        allow: allow.transpose().map_err(KeyError::Allow)?,
        table: written.table.map(table).transpose()?,
        fields: fields(written.fields)?,
        requests: quota(
            Unit::Requests,
            requests,
            same.and_then(|key| key.requests.as_ref()),
        ),
        bytes: quota(Unit::Bytes, bytes, same.and_then(|key| key.bytes.as_ref())),
        usage: match same {
            Some(key) => Arc::clone(&key.usage),
            None => Arc::new(KeyUsage::new(cores)),
        },
    })
}

fn globs(texts: Vec<String>) -> Result<Vec<TableGlob>, KeyError> {
    if texts.is_empty() {
        return Err(KeyError::NoTables);
    }
    let glob = |text: String| TableGlob::parse(&text).ok_or(KeyError::Glob(text));
    texts.into_iter().map(glob).collect()
}

fn table(name: String) -> Result<String, KeyError> {
    match split_table_name(&name) {
        Ok(_) => Ok(name),
        Err(error) => Err(KeyError::Table(error)),
    }
}

/// A rate; its burst is what comes in a second when none is written.
fn rate(
    (rate_key, per_second): (&'static str, Option<u64>),
    (burst_key, burst): (&'static str, Option<u64>),
) -> Result<Option<Rate>, KeyError> {
    let Some(per_second) = per_second else {
        return match burst {
            Some(_) => Err(KeyError::BurstAlone(burst_key)),
            None => Ok(None),
        };
    };
    let bounds = 1..=RATE_MAX;
    if !bounds.contains(&per_second) {
        return Err(KeyError::Rate(rate_key));
    }
    let burst = burst.unwrap_or(per_second);
    let rate = Rate { per_second, burst };
    if !rate.is_sane() {
        return Err(KeyError::Rate(burst_key));
    }
    Ok(Some(rate))
}

fn fields(written: BTreeMap<String, String>) -> Result<Constants, KeyError> {
    let is_short = |text: &str| text.len() <= FIELD_BYTES_MAX;
    let is_good = |(name, value): (&String, &String)| !name.is_empty() && is_short(name) && is_short(value);
    if written.len() > FIELDS_MAX || !written.iter().all(is_good) {
        return Err(KeyError::Fields);
    }
    Ok(Constants::keep(&written))
}

/// When the file was last changed, as far as the system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    modified_ns: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// `None` while there is no such file.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// A key file that cannot be used, by its path.
#[derive(Debug)]
pub struct NoKeyFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Box<KeyFileError>,
}

impl fmt::Display for NoKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key file {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for NoKeyFile {}

#[cfg(test)]
mod tests;
