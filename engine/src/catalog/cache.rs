//! Keys of sealed series in use: so that the next body of a device costs one look-up in memory, not a page of a file.

use crate::ids::SeriesId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher;

/// Most bytes of keys and table held. When it is reached the cache starts anew: what is in use comes back at once.
pub(crate) const MAX_CACHE_BYTES: usize = 64 << 20;
/// Bytes an entry costs besides its key.
const ENTRY_BYTES: usize = 48;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct KeyCache {
    table: HashTable<(Box<[u8]>, SeriesId)>,
    bytes: usize,
}

impl KeyCache {
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<SeriesId> {
        self.table.find(hash, |(known, _)| **known == *key).map(|(_, id)| *id)
    }

    /// `hasher` must be the one `hash` was made by.
    pub(crate) fn insert(&mut self, hasher: &impl BuildHasher, key: &[u8], id: SeriesId) {
        if self.bytes + key.len() + ENTRY_BYTES > MAX_CACHE_BYTES {
            *self = Self::default();
        }
        let hash = hasher.hash_one(key);
        let entry =
            self.table.entry(hash, |(known, _)| **known == *key, |(known, _)| hasher.hash_one(&**known));
        match entry {
            Entry::Occupied(mut entry) => entry.get_mut().1 = id,
            Entry::Vacant(entry) => {
                entry.insert((key.into(), id));
                self.bytes += key.len() + ENTRY_BYTES;
            }
        }
    }
}
