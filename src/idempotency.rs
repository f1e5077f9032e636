//! Remembers what requests with an `Idempotency-Key` were answered, so that a retry does not double rows.
//!
//! A key is in flight from [`Keys::begin`] until its [`Ticket`] comes back, then its reply is kept for a time:
//! duplicates are told 409 first and the stored reply later. `file` carries the replies over a restart, as the bytes
//! of `record`.

pub mod file;
pub mod record;

pub use file::KeyFile;
pub use record::{Name, Record, STORED_BODY_BYTES_MAX, StoredReply};

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use record::SHORT_BODY_BYTES_MAX;

/// The keys of all tables, shared by all cores. A clone is another handle.
///
/// One lock for all: only requests with a key take it, twice each, to look up, link or unlink one entry.
#[derive(Debug, Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

/// What a key means for the request that brings it.
#[derive(Debug)]
pub enum Begin {
    /// No such key: take the request. The key is in flight while the ticket lives.
    New(Ticket),
    /// The first request of this key is not answered yet: 409.
    InFlight,
    /// It was answered so.
    Done(StoredReply),
    /// The bounds are used up by keys in flight, which are never forgotten: 503.
    Full,
}

/// A key in flight, held by the request that began it.
///
/// To drop it frees the key, as [`Keys::abandon`] does: right as long as none of the request's rows were taken. After
/// that the ticket must outlive the connection until the rows' outcome is known, or a retry doubles them.
#[derive(Debug)]
#[must_use = "dropping the ticket frees the key"]
pub struct Ticket {
    keys: Keys,
    name: Name,
    hash: u64,
    sequence: u64,
    finished: bool,
}

impl Ticket {
    /// The key and its table.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.keys.lock().remove(self.hash, self.sequence);
        }
    }
}

#[derive(Debug)]
struct Shared {
    hasher: RandomState,
    entries_max: usize,
    bytes_max: usize,
    ttl_ms: i64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashTable<Box<Entry>>,
    /// Hashes of the answered keys by when they expire and by their sequence: the oldest is the first.
    order: BTreeMap<(i64, u64), u64>,
    sequence_next: u64,
    /// What all entries cost, and those in flight.
    bytes: usize,
    in_flight_bytes: usize,
    /// Bytes the answered ones take in a [`KeyFile`].
    file_bytes: u64,
    evicted: u64,
    evicted_warned: u64,
    warned_ms: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    hash: u64,
    sequence: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    InFlight,
    Done {
        expires_unix_ms: i64,
        reply: StoredReply,
    },
}

impl State {
    /// Bytes of the body; a key in flight has room for a short one set aside.
    fn body_bytes(&self) -> usize {
        match self {
            State::InFlight => SHORT_BODY_BYTES_MAX,
            State::Done { reply, .. } => reply.body().len(),
        }
    }
}

/// What an entry takes besides its name and body: 88 for itself, 21 for its place in the table (nine bytes, at worst
/// 7/16 full), 32 for the counts of two shared texts, some 30 lost to rounding three allocations up, 53 for its place
/// in the order (24 bytes, nodes at worst half full).
const ENTRY_BYTES: usize = 224;

/// Entries removed or copied under one lock: some ten microseconds, so that no core waits for long.
const PAGE: usize = 128;

/// Least time between two warnings of evictions.
const WARNING_INTERVAL_MS: i64 = 60_000;

impl Keys {
    /// Remembers at most `entries_max` keys in `bytes_max` bytes, each for `ttl_ms` from its reply on.
    pub fn new(entries_max: usize, bytes_max: usize, ttl_ms: u64) -> Keys {
        Keys {
            shared: Arc::new(Shared {
                hasher: RandomState::default(),
                entries_max,
                bytes_max,
                ttl_ms: i64::try_from(ttl_ms).unwrap_or(i64::MAX),
                inner: Mutex::default(),
            }),
        }
    }

    /// What `key` on `table` means to the request that brings it. At most one caller has a key's ticket.
    ///
    /// # Panics
    /// As [`Name::new`].
    pub fn begin(&self, key: &[u8], table: &str, now_unix_ms: i64) -> Begin {
        let hash = self.hash(key, table);
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.find(hash, |entry| entry.name.is(key, table)) {
            match &entry.state {
                State::InFlight => return Begin::InFlight,
                State::Done {
                    expires_unix_ms,
                    reply,
                } if *expires_unix_ms > now_unix_ms => return Begin::Done(reply.clone()),
                State::Done { .. } => {
                    let sequence = entry.sequence;
                    inner.remove(hash, sequence);
                }
            }
        }
        let name = Name::new(key, table);
        if !self.make_room(&mut inner, cost(&name, SHORT_BODY_BYTES_MAX), now_unix_ms) {
            return Begin::Full;
        }
        let sequence = inner.insert(name.clone(), hash, State::InFlight);
        self.warn_of_evictions(inner, now_unix_ms);
        Begin::New(Ticket {
            keys: self.clone(),
            name,
            hash,
            sequence,
            finished: false,
        })
    }

    /// Duplicates get `reply` from now on. Returns what [`KeyFile::append`] keeps of it.
    ///
    /// Call this before the record is appended: a rewrite of the file in between takes what is remembered here.
    ///
    /// # Panics
    /// When the ticket is of other keys.
    pub fn finish(&self, mut ticket: Ticket, reply: StoredReply, now_unix_ms: i64) -> Record {
        assert!(
            Arc::ptr_eq(&self.shared, &ticket.keys.shared),
            "a ticket comes back to where it was given"
        );
        ticket.finished = true;
        let mut inner = self.lock();
        inner.remove(ticket.hash, ticket.sequence);
        let mut record = Record {
            name: ticket.name.clone(),
            expires_unix_ms: now_unix_ms.saturating_add(self.shared.ttl_ms),
            reply,
        };
        // An entry in flight has room for a short body, and only others in flight can be in the way of a long one.
        let cost = cost(&record.name, record.reply.body().len());
        if !self.make_room(&mut inner, cost, now_unix_ms) {
            record.reply = record.reply.without_errors();
        }
        inner.insert_done(record.clone(), ticket.hash);
        self.warn_of_evictions(inner, now_unix_ms);
        record
    }

    /// The request failed before any of its rows were taken: the key is free again.
    pub fn abandon(&self, ticket: Ticket) {
        drop(ticket);
    }

    /// Remembers what an earlier process did. Of two records of one key the one that expires later holds; when there are
    /// too many, those that expire first go. The order of the calls does not matter.
    pub fn restore(&self, record: Record, now_unix_ms: i64) {
        if record.expires_unix_ms <= now_unix_ms {
            return;
        }
        let (key, table) = (record.name.key(), record.name.table());
        let hash = self.hash(key, table);
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.find(hash, |entry| entry.name.is(key, table)) {
            match entry.state {
                State::Done { expires_unix_ms, .. } if expires_unix_ms < record.expires_unix_ms => {
                    let sequence = entry.sequence;
                    inner.remove(hash, sequence);
                }
                _ => return,
            }
        }
        inner.insert_done(record, hash);
        while inner.entries.len() > self.shared.entries_max || inner.bytes > self.shared.bytes_max {
            inner.remove_oldest(now_unix_ms);
        }
        self.warn_of_evictions(inner, now_unix_ms);
    }

    /// Forgets what has expired. [`begin`](Self::begin) does not depend on it; it frees the memory.
    pub fn expire(&self, now_unix_ms: i64) {
        loop {
            let mut inner = self.lock();
            for _ in 0..PAGE {
                match inner.order.first_key_value() {
                    Some((&(expires_unix_ms, _), _)) if expires_unix_ms <= now_unix_ms => {
                        inner.remove_oldest(now_unix_ms);
                    }
                    _ => return,
                }
            }
        }
    }

    /// What is answered and not expired, for [`KeyFile::rewrite`]. Takes the lock for some records at a time: what is
    /// answered meanwhile may be missing.
    pub fn live(&self, now_unix_ms: i64) -> impl Iterator<Item = Record> + '_ {
        let mut after = (now_unix_ms, u64::MAX);
        let mut page = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if page.len() == 0 {
                page = self.page(&mut after).into_iter();
            }
            page.next()
        })
    }

    fn page(&self, after: &mut (i64, u64)) -> Vec<Record> {
        let inner = self.lock();
        let rest = inner.order.range((Excluded(*after), Unbounded));
        rest.take(PAGE)
            .map(|(&(expires_unix_ms, sequence), &hash)| {
                *after = (expires_unix_ms, sequence);
                let entry = inner
                    .entries
                    .find(hash, |entry| entry.sequence == sequence)
                    .expect("what is in the order is in the table");
                let State::Done { reply, .. } = &entry.state else {
                    unreachable!("only answered keys are in the order");
                };
                Record {
                    name: entry.name.clone(),
                    expires_unix_ms,
                    reply: reply.clone(),
                }
            })
            .collect()
    }

    /// Keys in flight and answered.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// No key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys in flight.
    pub fn in_flight(&self) -> usize {
        let inner = self.lock();
        inner.entries.len() - inner.order.len()
    }

    /// Bytes all keys take.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Bytes the answered keys take in a file, for [`KeyFile::outgrew`].
    pub fn file_bytes(&self) -> u64 {
        self.lock().file_bytes
    }

    /// Answered keys that were forgotten before their time.
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn hash(&self, key: &[u8], table: &str) -> u64 {
        let mut hasher = self.shared.hasher.build_hasher();
        key.hash(&mut hasher);
        table.hash(&mut hasher);
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets answered keys, expired ones first, until one more of `bytes` fits; false, and nothing forgotten, when
    /// those in flight leave no room.
    fn make_room(&self, inner: &mut Inner, bytes: usize, now_unix_ms: i64) -> bool {
        let Shared {
            entries_max,
            bytes_max,
            ..
        } = *self.shared;
        let in_flight = inner.entries.len() - inner.order.len();
        if in_flight >= entries_max || inner.in_flight_bytes + bytes > bytes_max {
            return false;
        }
        while inner.entries.len() >= entries_max || inner.bytes + bytes > bytes_max {
            inner.remove_oldest(now_unix_ms);
        }
        true
    }

    /// Says, once a minute, that keys are forgotten before their time.
    fn warn_of_evictions(&self, mut inner: MutexGuard<'_, Inner>, now_unix_ms: i64) {
        let evicted = inner.evicted - inner.evicted_warned;
        // `abs_diff`: a clock that was set back must not silence this.
        let due = inner
            .warned_ms
            .is_none_or(|warned_ms| warned_ms.abs_diff(now_unix_ms) >= WARNING_INTERVAL_MS as u64);
        if evicted == 0 || !due {
            return;
        }
        inner.evicted_warned = inner.evicted;
        inner.warned_ms = Some(now_unix_ms);
        drop(inner);
        tracing::warn!(
            evicted,
            keys_max = self.shared.entries_max,
            bytes_max = self.shared.bytes_max,
            "idempotency keys were forgotten before their time, and a retry of one doubles its rows; raise \
             idempotency_keys_max and idempotency_bytes_max or lower idempotency_ttl_ms"
        );
    }
}

impl Inner {
    fn insert(&mut self, name: Name, hash: u64, state: State) -> u64 {
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let cost = cost(&name, state.body_bytes());
        self.bytes += cost;
        match &state {
            State::InFlight => self.in_flight_bytes += cost,
            State::Done {
                expires_unix_ms,
                reply,
            } => {
                self.file_bytes += record::encoded_bytes(&name, reply) as u64;
                self.order.insert((*expires_unix_ms, sequence), hash);
            }
        }
        let entry = Box::new(Entry {
            name,
            hash,
            sequence,
            state,
        });
        self.entries.insert_unique(hash, entry, |entry| entry.hash);
        sequence
    }

    fn insert_done(&mut self, record: Record, hash: u64) {
        let state = State::Done {
            expires_unix_ms: record.expires_unix_ms,
            reply: record.reply,
        };
        self.insert(record.name, hash, state);
    }

    fn remove(&mut self, hash: u64, sequence: u64) {
        let (entry, _) = self
            .entries
            .find_entry(hash, |entry| entry.sequence == sequence)
            .expect("an entry is removed once, by its ticket or by its place in the order")
            .remove();
        let cost = cost(&entry.name, entry.state.body_bytes());
        self.bytes -= cost;
        match &entry.state {
            State::InFlight => self.in_flight_bytes -= cost,
            State::Done {
                expires_unix_ms,
                reply,
            } => {
                self.file_bytes -= record::encoded_bytes(&entry.name, reply) as u64;
                self.order.remove(&(*expires_unix_ms, sequence));
            }
        }
    }

    /// Forgets the answered key that expires first; there is one.
    fn remove_oldest(&mut self, now_unix_ms: i64) {
        let (&(expires_unix_ms, sequence), &hash) = self
            .order
            .first_key_value()
            .expect("those in flight alone are within the bounds");
        self.evicted += u64::from(expires_unix_ms > now_unix_ms);
        self.remove(hash, sequence);
    }
}

fn cost(name: &Name, body_bytes: usize) -> usize {
    ENTRY_BYTES + name.bytes() + body_bytes
}

#[cfg(test)]
mod tests;
