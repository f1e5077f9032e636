//! Attribute names seen by one table on one core: bytes to a small number and back.

use super::arena::Arena;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Attribute names with their ids, which count up from 0. Bounded: the owner clears it when it is full.
#[derive(Debug)]
pub struct KeyTable {
    table: HashTable<u32>,
    hasher: RandomState,
    bytes: Arena,
    /// End of each name in `bytes`.
    ends: Vec<u32>,
    keys_max: usize,
    generation: u32,
}

impl KeyTable {
    /// Bytes of all names together, as far as their ends are counted. The bounds on names keep far below it.
    const BYTES_MAX: usize = u32::MAX as usize;

    /// A table that keeps at most `keys_max` names.
    pub fn new(keys_max: usize) -> KeyTable {
        KeyTable {
            table: HashTable::with_capacity(keys_max.min(4096)),
            hasher: RandomState::default(),
            bytes: Arena::default(),
            ends: Vec::with_capacity(keys_max.min(4096)),
            keys_max,
            generation: 0,
        }
    }

    /// The id of `name`, a new one if it has none yet; `None` when the table is full.
    #[inline]
    pub fn intern(&mut self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        if let Some(&id) = self
            .table
            .find(hash, |&id| name_at(&self.ends, &self.bytes, id) == name)
        {
            return Some(id);
        }
        self.add(hash, name)
    }

    #[cold]
    fn add(&mut self, hash: u64, name: &[u8]) -> Option<u32> {
        if self.ends.len() >= self.keys_max || self.bytes.len() + name.len() > Self::BYTES_MAX {
            return None;
        }
        let id = self.ends.len() as u32;
        self.bytes.put(name);
        self.ends.push(self.bytes.len() as u32);
        let (ends, bytes, hasher) = (&self.ends, &self.bytes, &self.hasher);
        self.table
            .insert_unique(hash, id, |&id| hasher.hash_one(name_at(ends, bytes, id)));
        Some(id)
    }

    /// The id of `name` if it has one.
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        self.table
            .find(hash, |&id| name_at(&self.ends, &self.bytes, id) == name)
            .copied()
    }

    /// The name of `id`.
    ///
    /// # Panics
    /// When the table has not given out `id` since it was last cleared.
    #[inline]
    pub fn name(&self, id: u32) -> &[u8] {
        name_at(&self.ends, &self.bytes, id)
    }

    /// Names kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No names are kept.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all names and keeps the memory; ids start again at 0 under the next generation.
    pub fn clear(&mut self) {
        self.table.clear();
        self.bytes.clear();
        self.ends.clear();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Counts the clears: who keeps ids compares it and forgets them when it changed.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

#[inline]
fn name_at<'a>(ends: &[u32], bytes: &'a Arena, id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &bytes.as_slice()[start as usize..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_id_until_the_table_is_cleared() {
        let mut keys = KeyTable::new(10_000);
        let names: Vec<String> = (0..10_000).map(|i| format!("key.{i}")).collect();
        for _ in 0..2 {
            for (i, name) in names.iter().enumerate() {
                assert_eq!(keys.intern(name.as_bytes()), Some(i as u32));
                assert_eq!(keys.name(i as u32), name.as_bytes());
            }
        }
        assert_eq!(keys.intern(b"one more"), None);
        assert_eq!(keys.find(b"one more"), None);
        assert_eq!(keys.find(b"key.7"), Some(7));
        keys.clear();
        assert_eq!((keys.len(), keys.is_empty(), keys.generation()), (0, true, 1));
        assert_eq!(keys.find(b"key.7"), None);
        assert_eq!(keys.intern(b""), Some(0));
        assert_eq!(keys.name(0), b"");
    }
}
