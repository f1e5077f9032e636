//! One key: who it is, what it may do, how much, and what it has done.

use std::net::IpAddr;
use std::sync::Arc;

use super::Refusal;
use super::allow_list::AllowList;
use super::certificate::CertificateName;
use super::glob::TableGlob;
use super::quota::Quota;
use super::token::TokenDigest;
use crate::mapping::Constants;
use crate::metrics::Counter;

/// A key as the file has it. Copies share their quotas and counters.
#[derive(Debug, Clone)]
pub struct Key {
    /// What people call it; also the label of its counters.
    pub name: Arc<str>,
    /// What its token is known by, when it has one.
    pub digest: Option<TokenDigest>,
    /// What the certificates are known by that are enough instead of the token.
    pub certificates: Vec<CertificateName>,
    /// Tables it reaches; all when absent.
    pub tables: Option<Vec<TableGlob>>,
    /// May read the admin pages.
    pub admin: bool,
    /// May send rows.
    pub ingest: bool,
    /// Where it may be used from; everywhere when absent.
    pub allow: Option<AllowList>,
    /// Table of requests that name none, as `table` or `database.table`.
    pub table: Option<String>,
    /// What is added to each of its rows.
    pub fields: Constants,
    /// Requests it may send.
    pub requests: Option<Arc<Quota>>,
    /// Bytes of bodies it may send.
    pub bytes: Option<Arc<Quota>>,
    /// What it has sent.
    pub usage: Arc<KeyUsage>,
}

impl Key {
    /// Whether rows are taken under this key from this address; `None` when a proxy does not tell it.
    ///
    /// # Errors
    /// [`Refusal::NotIngest`] or [`Refusal::NotAllowedFrom`].
    pub fn admit_rows(&self, from: Option<IpAddr>) -> Result<(), Refusal> {
        if !self.ingest {
            return Err(Refusal::NotIngest);
        }
        self.check_address(from)
    }

    /// Whether the admin pages are shown under this key to this address.
    ///
    /// # Errors
    /// [`Refusal::NotAdmin`] or [`Refusal::NotAllowedFrom`].
    pub fn admit_admin(&self, from: Option<IpAddr>) -> Result<(), Refusal> {
        if !self.admin {
            return Err(Refusal::NotAdmin);
        }
        self.check_address(from)
    }

    fn check_address(&self, from: Option<IpAddr>) -> Result<(), Refusal> {
        match &self.allow {
            Some(allow) => allow.check(from),
            None => Ok(()),
        }
    }

    /// Whether the key reaches a table.
    ///
    /// # Errors
    /// [`Refusal::TableNotAllowed`].
    pub fn reach(&self, database: &str, table: &str, default_database: &str) -> Result<(), Refusal> {
        let reaches = |glob: &TableGlob| glob.matches(database, table, default_database);
        match &self.tables {
            Some(globs) if !globs.iter().any(reaches) => Err(Refusal::TableNotAllowed),
            _ => Ok(()),
        }
    }

    /// Takes a request and, when its length is known, its body out of the quotas before anything of it is read.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`]; nothing is taken then.
    pub fn charge(&self, body_bytes: Option<u64>, now_ns: u64) -> Result<(), Refusal> {
        if let Some(requests) = &self.requests {
            requests.take(1, now_ns).map_err(Refusal::OverQuota)?;
        }
        if let Some(bytes) = &self.bytes {
            // A body of unknown length is paid for as it comes, but not begun while something is owed.
            let known = body_bytes.unwrap_or(1);
            if let Err(over) = bytes.take(known, now_ns) {
                if let Some(requests) = &self.requests {
                    requests.give_back(1);
                }
                return Err(Refusal::OverQuota(over));
            }
        }
        Ok(())
    }

    /// Takes bytes that have come of a body whose length was not known. They are taken in whether the quota holds them or not: a body
    /// that is cut off would have its first rows doubled when it is sent again. What is beyond is owed, and later requests
    /// are refused until it is paid back.
    pub fn owe_bytes(&self, bytes: u64, now_ns: u64) {
        if let Some(quota) = &self.bytes {
            quota.owe(bytes, now_ns);
        }
    }
}

/// What was taken in under a key, counted by each core for itself.
#[derive(Debug)]
pub struct KeyUsage(Box<[CoreUsage]>);

/// What one core took in under a key. On its own cache line, so that cores do not slow each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CoreUsage {
    /// Requests whose body was read.
    pub requests: Counter,
    /// Bytes of their bodies as they came over the wire.
    pub bytes: Counter,
    /// Rows accepted.
    pub rows: Counter,
}

impl KeyUsage {
    pub(super) fn new(cores: usize) -> KeyUsage {
        KeyUsage((0..cores).map(|_| CoreUsage::default()).collect())
    }

    /// The counters of one core, by its index.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn of(&self, core: usize) -> &CoreUsage {
        &self.0[core]
    }

    /// Requests, bytes and rows of all cores.
    pub fn totals(&self) -> (u64, u64, u64) {
        self.0.iter().fold((0, 0, 0), |(requests, bytes, rows), core| {
            (
                requests + core.requests.get(),
                bytes + core.bytes.get(),
                rows + core.rows.get(),
            )
        })
    }
}
