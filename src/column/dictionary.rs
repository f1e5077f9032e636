//! Distinct values in wire form and the key of each: what a LowCardinality column is made of.

use super::arena::Arena;
use super::ends::ends_of;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// A dictionary and the keys of the rows, in the wire form of one LowCardinality block:
///
/// `UInt64 key type and flags, UInt64 dictionary size, dictionary, UInt64 rows, keys`; nothing at all for no rows. (Its version
/// number goes before the data of the whole column, see `Builder::put_prefix`.)
#[derive(Debug)]
pub(super) struct Dictionary {
    table: HashTable<u32>,
    hasher: RandomState,
    /// The dictionary as it goes out.
    values: Arena,
    /// Where each value's own bytes lie in `values`.
    spans: Vec<Span>,
    /// Width of a value in bytes, `None` for Strings.
    width: Option<usize>,
    /// Entry 0 stands for NULL.
    nullable: bool,
    /// Keys of values looked up lately, by [`recent_slot`]: few values make up most rows, and a hash of all bytes costs more.
    recent: Box<[u32; RECENT]>,
    keys: Vec<u32>,
    /// The keys in the width the dictionary's size needs; filled when the column goes out.
    narrow: Arena,
    marked_rows: usize,
    /// The empty or zero value.
    default: Vec<u8>,
}

/// Where a value is, and its [`ends_of`].
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
    head: u64,
    tail: u64,
}

/// Half a KiB for each dictionary.
const RECENT: usize = 128;

/// No key: there are never so many values.
const NO_KEY: u32 = u32::MAX;

/// The key of NULL.
pub(super) const NULL_KEY: u32 = 0;

/// The block brings its own dictionary, and it replaces the one before.
const OWN_DICTIONARY: u64 = 1 << 9 | 1 << 10;

impl Dictionary {
    pub(super) fn new(width: Option<usize>, nullable: bool, rows_max: usize) -> Dictionary {
        let mut dictionary = Dictionary {
            table: HashTable::with_capacity(64),
            hasher: RandomState::default(),
            values: Arena::default(),
            spans: Vec::with_capacity(64),
            width,
            nullable,
            recent: Box::new([NO_KEY; RECENT]),
            keys: Vec::with_capacity(rows_max),
            narrow: Arena::default(),
            marked_rows: 0,
            default: vec![0; width.unwrap_or(0)],
        };
        dictionary.clear();
        dictionary
    }

    /// The key of a value, adding it if it is new.
    #[inline]
    pub(super) fn key_of(&mut self, value: &[u8]) -> u32 {
        let (head, tail) = ends_of(value);
        let slot = recent_slot(head, tail, value.len());
        let key = self.recent[slot];
        if let Some(&span) = self.spans.get(key as usize)
            && span.head == head
            && span.tail == tail
            && span.len as usize == value.len()
            && (value.len() <= 16 || bytes_at(&self.values, span) == value)
        {
            return key;
        }
        let key = self.find_or_add(value);
        self.recent[slot] = key;
        key
    }

    #[inline(never)]
    fn find_or_add(&mut self, value: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(value);
        let found = self.table.find(hash, |&key| {
            bytes_at(&self.values, self.spans[key as usize]) == value
        });
        match found {
            Some(&key) => key,
            None => self.add(hash, value),
        }
    }

    #[cold]
    fn add(&mut self, hash: u64, value: &[u8]) -> u32 {
        let key = self.spans.len() as u32;
        self.put_value(value);
        let (values, spans, hasher) = (&self.values, &self.spans, &self.hasher);
        self.table.insert_unique(hash, key, |&key| {
            hasher.hash_one(bytes_at(values, spans[key as usize]))
        });
        key
    }

    fn put_value(&mut self, value: &[u8]) {
        match self.width {
            None => self.values.put_string(value),
            Some(_) => self.values.put(value),
        }
        let start = (self.values.len() - value.len()) as u32;
        let (head, tail) = ends_of(value);
        self.spans.push(Span {
            start,
            len: value.len() as u32,
            head,
            tail,
        });
    }

    #[inline]
    pub(super) fn push(&mut self, key: u32) {
        self.keys.push(key);
    }

    /// Makes room for `rows` more keys at once.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.keys.reserve(rows);
    }

    /// The key of the type's default: NULL, or the empty or zero value.
    pub(super) fn default_key(&mut self) -> u32 {
        if self.nullable {
            return NULL_KEY;
        }
        let default = std::mem::take(&mut self.default);
        let key = self.key_of(&default);
        self.default = default;
        key
    }

    pub(super) fn push_defaults(&mut self, rows: usize) {
        if rows > 0 {
            let key = self.default_key();
            self.keys.resize(self.keys.len() + rows, key);
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Appends the keys from the `start`th on, so many times.
    pub(super) fn repeat(&mut self, start: usize, times: usize) {
        let end = self.keys.len();
        self.keys.reserve((end - start) * times);
        for _ in 0..times {
            self.keys.extend_from_within(start..end);
        }
    }

    pub(super) fn wire_bytes(&self) -> usize {
        if self.keys.is_empty() {
            0
        } else {
            24 + self.values.len() + self.keys.len() * self.key_width()
        }
    }

    pub(super) fn mark(&mut self) {
        self.marked_rows = self.keys.len();
    }

    /// Takes the rows since the mark back; values they brought stay in the dictionary.
    pub(super) fn rollback(&mut self) {
        self.keys.truncate(self.marked_rows);
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.values.clear();
        self.spans.clear();
        self.keys.clear();
        self.marked_rows = 0;
        self.recent.fill(NO_KEY);
        if self.nullable {
            match self.width {
                None => self.put_value(b""),
                Some(width) => {
                    self.values.put_zeros(width);
                    self.spans.push(Span {
                        start: 0,
                        len: width as u32,
                        head: 0,
                        tail: 0,
                    });
                }
            }
        }
    }

    pub(super) fn for_each_piece(&mut self, emit: &mut dyn FnMut(&[u8])) {
        if self.keys.is_empty() {
            return;
        }
        let width = self.key_width();
        let mut head = [0; 16];
        // Key types 0, 1, 2 are UInt8, UInt16, UInt32.
        head[..8].copy_from_slice(&(OWN_DICTIONARY | u64::from(width.ilog2())).to_le_bytes());
        head[8..].copy_from_slice(&(self.spans.len() as u64).to_le_bytes());
        emit(&head);
        emit(self.values.as_slice());
        emit(&(self.keys.len() as u64).to_le_bytes());
        self.narrow.clear();
        let keys = self.keys.iter();
        match width {
            1 => self
                .narrow
                .slots::<1>(keys.len())
                .iter_mut()
                .zip(keys)
                .for_each(|(to, &k)| *to = [k as u8]),
            2 => self
                .narrow
                .slots::<2>(keys.len())
                .iter_mut()
                .zip(keys)
                .for_each(|(to, &k)| *to = (k as u16).to_le_bytes()),
            _ => self
                .narrow
                .slots::<4>(keys.len())
                .iter_mut()
                .zip(keys)
                .for_each(|(to, &k)| *to = k.to_le_bytes()),
        }
        emit(self.narrow.as_slice());
    }

    fn key_width(&self) -> usize {
        match self.spans.len() {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        }
    }
}

/// The slot of a value with these [`ends_of`] in the keys looked up lately.
#[inline]
fn recent_slot(head: u64, tail: u64, len: usize) -> usize {
    // A multiplier of Steele and Vigna (2021); the product's highest bits depend on all below.
    let mixed = (head ^ tail.rotate_left(29) ^ len as u64).wrapping_mul(0xd134_2543_de82_ef95);
    (mixed >> (u64::BITS - RECENT.ilog2())) as usize
}

#[inline]
fn bytes_at(values: &Arena, span: Span) -> &[u8] {
    &values.as_slice()[span.start as usize..][..span.len as usize]
}
