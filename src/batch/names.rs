//! Remembers the keys of rows: which name a key under a parent has, and which key comes next.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::column::{KeyTable, ends_of};
use crate::limits::Limits;
use crate::mapping::{Resolved, Resolver, Target, Vocabulary};

/// The row object itself, in our own vocabulary: the parent of its keys, and what precedes the first.
pub(super) const ROOT: u32 = 0;
/// A name that is too long to keep, in a table that has no place for it anyway.
const IGNORED: u32 = 1;
/// Behind these two come the row objects in the other vocabularies.
const FIXED: u32 = 2 + Vocabulary::OTHERS.len() as u32;

/// The row object of a vocabulary.
pub(super) fn root_of(vocabulary: Vocabulary) -> u32 {
    let other = Vocabulary::OTHERS.iter().position(|other| *other == vocabulary);
    other.map_or(ROOT, |at| 2 + at as u32)
}

/// The vocabulary of a row object; `None` for the name of a key.
fn vocabulary_of(name: u32) -> Option<Vocabulary> {
    match name {
        ROOT => Some(Vocabulary::Own),
        IGNORED => None,
        other => Vocabulary::OTHERS.get(other as usize - 2).copied(),
    }
}

/// Why a key has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameRefused {
    /// No room for another name: forget all and start anew.
    Full,
    /// The joined name is longer than `attribute_name_bytes_max`.
    TooLong,
}

/// A key under a parent, seen before. Two cache lines at most; a hit reads one.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// First and last eight bytes of the key, overlapping for keys below 16, with its length: equal for equal keys.
    head: u64,
    tail: u64,
    key_len: u32,
    parent: u32,
    /// The keys that came after this one, latest first: most producers write the same keys in the same order.
    next: [u32; 2],
    pub(super) target: Target,
    /// An object under this name is a value.
    pub(super) takes_object: bool,
    /// Keys below this one are attributes, whatever they are called.
    only_attributes: bool,
    /// Keys below this one stand in its place.
    inline: bool,
    /// Id of the joined name in the `KeyTable`.
    pub(super) attribute: u32,
    /// The row (its serial) in which this name last held an object.
    pub(super) opened: u32,
    key_start: u32,
    path_start: u32,
    path_len: u32,
}

/// How a name's key stands in a row, its quotes and its colon included, when nothing in it needs an escape.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// First and last eight bytes, overlapping for keys below 13; of shorter ones the first and zeros, in both.
    head: u64,
    tail: u64,
    /// Zero for what is never found this way.
    len: u32,
    parent: u32,
}

impl Written {
    const NEVER: Written = Written {
        head: 0,
        tail: 0,
        len: 0,
        parent: u32::MAX,
    };

    fn new(key: &[u8], parent: u32) -> Written {
        let written = [b"\"", key, b"\":"].concat();
        let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        if key.iter().any(is_escaped) || key.len() > WRITTEN_KEY_BYTES_MAX {
            return Written::NEVER;
        }
        let (head, tail) = match (written.first_chunk::<8>(), written.last_chunk::<8>()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => {
                let mut head = [0; 8];
                head[..written.len()].copy_from_slice(&written);
                (u64::from_le_bytes(head), u64::from_le_bytes(head))
            }
        };
        Written {
            head,
            tail,
            len: written.len() as u32,
            parent,
        }
    }
}

/// Longer keys are rare, and found by their text.
const WRITTEN_KEY_BYTES_MAX: usize = 64;

/// The names of one table on one core. Bounded: `names_max` of at most `attribute_name_bytes_max` bytes.
#[derive(Debug)]
pub(super) struct Names {
    names: Vec<Name>,
    /// As many.
    written: Vec<Written>,
    by_key: HashTable<u32>,
    hasher: RandomState,
    /// Keys and joined names.
    bytes: Vec<u8>,
    keys: KeyTable,
    names_max: usize,
    name_bytes_max: usize,
}

impl Names {
    pub(super) fn new(limits: &Limits) -> Self {
        // Eight rows of the largest kind, none sharing a name. A producer that makes names up does not come
        // by more memory than that; the others stay far below.
        let names_max = limits.attributes_per_row_max.max(128) * 8;
        let mut names = Names {
            names: Vec::new(),
            written: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::default(),
            bytes: Vec::new(),
            keys: KeyTable::new(names_max),
            names_max,
            name_bytes_max: limits.attribute_name_bytes_max,
        };
        names.forget();
        names
    }

    /// Forgets all names; the `KeyTable`'s generation changes with it.
    pub(super) fn forget(&mut self) {
        self.keys.clear();
        self.by_key.clear();
        self.bytes.clear();
        self.names.clear();
        let fixed = Name {
            head: 0,
            tail: 0,
            key_len: 0,
            // No key has the parent `u32::MAX`, so none of these is ever found as a key.
            parent: u32::MAX,
            next: [ROOT; 2],
            target: Target::Unknown,
            takes_object: true,
            only_attributes: false,
            inline: false,
            attribute: 0,
            opened: 0,
            key_start: 0,
            path_start: 0,
            path_len: 0,
        };
        self.names.resize(FIXED as usize, fixed);
        self.written.clear();
        self.written.resize(self.names.len(), Written::NEVER);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len() - FIXED as usize + 2
    }

    pub(super) fn keys(&self) -> &KeyTable {
        &self.keys
    }

    #[inline]
    pub(super) fn get(&self, name: u32) -> &Name {
        &self.names[name as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, name: u32) -> &mut Name {
        &mut self.names[name as usize]
    }

    /// Forgets in which row each name held an object.
    pub(super) fn close_all(&mut self) {
        for name in &mut self.names {
            name.opened = 0;
        }
    }

    /// The name of the key that `ahead` starts with, and the bytes of the key with its quotes and its colon, if it is
    /// the one expected behind `previous`.
    #[inline]
    pub(super) fn expected(&self, previous: u32, parent: u32, ahead: &[u8]) -> Option<(u32, usize)> {
        let name = self.names[previous as usize].next[0];
        let written = &self.written[name as usize];
        let len = written.len as usize;
        let head = u64::from_le_bytes(*ahead.first_chunk()?);
        if written.parent != parent {
            return None;
        }
        if len < 8 {
            // Never the case for `Written::NEVER`, whose parent is none.
            let mask = (1 << (8 * len)) - 1;
            return (head & mask == written.head).then_some((name, len));
        }
        let tail = u64::from_le_bytes(*ahead.get(..len)?.last_chunk()?);
        let is_it = head == written.head
            && tail == written.tail
            && (len <= 16 || {
                let key = self.key_of(&self.names[name as usize]);
                ahead[8..len - 8] == key[7..key.len() - 6]
            });
        is_it.then_some((name, len))
    }

    /// The name of `key` under `parent`, when `previous` is the name of the key before it.
    #[inline]
    pub(super) fn find(
        &mut self,
        previous: u32,
        parent: u32,
        key: &[u8],
        resolver: &Resolver,
    ) -> Result<u32, NameRefused> {
        let (head, tail) = ends_of(key);
        let guess = self.names[previous as usize].next[0];
        if self.is(guess, parent, key, head, tail) {
            return Ok(guess);
        }
        self.find_unexpected(previous, parent, key, resolver)
    }

    #[inline]
    fn is(&self, name: u32, parent: u32, key: &[u8], head: u64, tail: u64) -> bool {
        let name = &self.names[name as usize];
        name.head == head
            && name.tail == tail
            && name.key_len as usize == key.len()
            && name.parent == parent
            && (key.len() <= 16 || self.key_of(name) == key)
    }

    fn key_of(&self, name: &Name) -> &[u8] {
        &self.bytes[name.key_start as usize..][..name.key_len as usize]
    }

    #[inline(never)]
    fn find_unexpected(
        &mut self,
        previous: u32,
        parent: u32,
        key: &[u8],
        resolver: &Resolver,
    ) -> Result<u32, NameRefused> {
        let (head, tail) = ends_of(key);
        let [latest, second] = self.names[previous as usize].next;
        if self.is(second, parent, key, head, tail) {
            return Ok(second);
        }
        let hash = hash_of(&self.hasher, parent, key);
        let found = self
            .by_key
            .find(hash, |name| self.is(*name, parent, key, head, tail))
            .copied();
        let name = match found {
            Some(name) => name,
            None => self.add(hash, parent, key, resolver)?,
        };
        self.names[previous as usize].next = [name, latest];
        Ok(name)
    }

    #[cold]
    fn add(&mut self, hash: u64, parent: u32, key: &[u8], resolver: &Resolver) -> Result<u32, NameRefused> {
        if self.names.len() >= self.names_max + FIXED as usize - 2 {
            return Err(NameRefused::Full);
        }
        let above = &self.names[parent as usize];
        let only_attributes = above.only_attributes || above.target == Target::Attributes;
        let vocabulary = vocabulary_of(parent);
        let joined = vocabulary.is_none() && above.target != Target::Attributes && !above.inline;
        let above_path = above.path_start as usize..(above.path_start + above.path_len) as usize;

        let path_start = self.bytes.len();
        if joined {
            self.bytes.extend_from_within(above_path);
            self.bytes.push(b'.');
        }
        let key_start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let path = &self.bytes[path_start..];
        let Resolved { target, inline } = match vocabulary {
            _ if only_attributes => Resolved {
                target: Target::Unknown,
                inline: false,
            },
            Some(vocabulary) => resolver.resolve_in(vocabulary, path),
            None => Resolved {
                target: resolver.resolve(path),
                inline: false,
            },
        };
        if target == Target::Unknown && path.len() > self.name_bytes_max {
            self.bytes.truncate(path_start);
            // Without an overflow column the value goes nowhere, whatever its name.
            return if resolver.overflow().is_none() {
                Ok(IGNORED)
            } else {
                Err(NameRefused::TooLong)
            };
        }
        let Some(attribute) = self.keys.intern(path) else {
            self.bytes.truncate(path_start);
            return Err(NameRefused::Full);
        };
        let (head, tail) = ends_of(key);
        let name = self.names.len() as u32;
        let path_len = path.len() as u32;
        self.names.push(Name {
            head,
            tail,
            key_len: key.len() as u32,
            parent,
            next: [ROOT; 2],
            target,
            takes_object: !inline && resolver.takes_object(target),
            only_attributes,
            inline,
            attribute,
            opened: 0,
            key_start: key_start as u32,
            path_start: path_start as u32,
            path_len,
        });
        self.written.push(Written::new(key, parent));
        let Names {
            names,
            by_key,
            hasher,
            bytes,
            ..
        } = self;
        by_key.insert_unique(hash, name, |name| {
            let name = &names[*name as usize];
            hash_of(
                hasher,
                name.parent,
                &bytes[name.key_start as usize..][..name.key_len as usize],
            )
        });
        Ok(name)
    }
}

fn hash_of(hasher: &RandomState, parent: u32, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    parent.hash(&mut state);
    state.write(key);
    state.finish()
}
