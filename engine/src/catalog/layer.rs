//! Series that no catalog file holds yet.
//!
//! Compact, for there may be a million of them before the first seal: keys lie in chunks one after another, a table holds
//! four bytes a series, and a tag value that only one series has costs no bitmap.

use super::definition::Definition;
use super::key::parse_key_pairs;
use crate::ids::{MeasurementId, SeriesId};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

/// Definitions since the last catalog file, or since the last seal began.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    keys: KeyArena,
    /// Rising by id: the writer gives ids in order. Rebuilding from segments may not, and sorts.
    entries: Vec<Entry>,
    /// Index into `entries` by the key's hash; the newest id of a key.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    postings: HashMap<MeasurementId, MeasurementPostings>,
    /// Everything but series, in the order it was applied.
    pub(crate) names: Vec<Definition>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: SeriesId,
    key: KeyAt,
}

/// Series ids that share something.
#[derive(Debug, Clone)]
pub(crate) enum Posting {
    One(u32),
    Many(Box<RoaringBitmap>),
}

#[derive(Debug, Default)]
pub(crate) struct MeasurementPostings {
    pub(crate) all: RoaringBitmap,
    pub(crate) keys: BTreeMap<Box<str>, KeyPostings>,
}

#[derive(Debug, Default)]
pub(crate) struct KeyPostings {
    /// Series that have the key at all.
    pub(crate) all: RoaringBitmap,
    pub(crate) values: BTreeMap<Box<str>, Posting>,
}

impl Posting {
    fn insert(&mut self, id: u32) {
        match self {
            Self::One(one) if *one == id => {}
            Self::One(one) => *self = Self::Many(Box::new(RoaringBitmap::from_iter([*one, id]))),
            Self::Many(many) => {
                many.insert(id);
            }
        }
    }

    pub(crate) fn add_to(&self, out: &mut RoaringBitmap) {
        match self {
            Self::One(one) => {
                out.insert(*one);
            }
            Self::Many(many) => *out |= &**many,
        }
    }

    pub(crate) fn to_bitmap(&self) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        self.add_to(&mut out);
        out
    }
}

impl Layer {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.names.is_empty()
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An empty layer. All layers and caches of a catalog share a hasher, so that a key is hashed once.
    pub(crate) fn new(hasher: DefaultHashBuilder) -> Self {
        Self { hasher, ..Self::default() }
    }

    /// The newest id given to `key`; `hash` is the shared hasher's.
    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<SeriesId> {
        let found = self.table.find(hash, |&index| self.keys.get(self.entries[index as usize].key) == key)?;
        Some(self.entries[*found as usize].id)
    }

    /// Key of a series.
    pub(crate) fn key(&self, id: SeriesId) -> Option<&[u8]> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some(self.keys.get(self.entries[at].key))
    }

    /// Adds a series whose id this layer does not hold. False, and nothing changed, if `key` is not canonical.
    pub(crate) fn insert(&mut self, id: SeriesId, key: &[u8]) -> bool {
        let Some((measurement, tags)) = parse_key_pairs(key) else { return false };
        let entry = Entry { id, key: self.keys.push(key) };
        let index = self.entries.partition_point(|entry| entry.id < id);
        if index < self.entries.len() {
            // Only a rebuild comes here: ids out of order. Indexes at and above move up by one.
            self.table.iter_mut().for_each(|slot| *slot += u32::from(*slot as usize >= index));
        }
        self.entries.insert(index, entry);
        self.index(index, key);
        let postings = self.postings.entry(measurement).or_default();
        postings.all.insert(id.0);
        for (tag, value) in tags {
            if !postings.keys.contains_key(tag) {
                postings.keys.insert(tag.into(), KeyPostings::default());
            }
            let of_key = postings.keys.get_mut(tag).expect("inserted above");
            of_key.all.insert(id.0);
            match of_key.values.get_mut(value) {
                Some(posting) => posting.insert(id.0),
                None => {
                    of_key.values.insert(value.into(), Posting::One(id.0));
                }
            }
        }
        true
    }

    /// Points the table at `entries[index]` for `key`, unless a newer id has the key already.
    fn index(&mut self, index: usize, key: &[u8]) {
        let Self { keys, entries, table, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        if let Some(slot) = table.find_mut(hash, |&at| keys.get(entries[at as usize].key) == key) {
            *slot = (*slot).max(index as u32);
        } else {
            table
                .insert_unique(hash, index as u32, |&at| hasher.hash_one(keys.get(entries[at as usize].key)));
        }
    }

    /// Series rising by id, with their keys.
    pub(crate) fn series(&self) -> impl Iterator<Item = (SeriesId, &[u8])> {
        self.entries.iter().map(|entry| (entry.id, self.keys.get(entry.key)))
    }

    pub(crate) fn postings(&self, measurement: MeasurementId) -> Option<&MeasurementPostings> {
        self.postings.get(&measurement)
    }

    pub(crate) fn all_postings(&self) -> impl Iterator<Item = (MeasurementId, &MeasurementPostings)> {
        self.postings.iter().map(|(id, postings)| (*id, postings))
    }
}

/// Keys one after another in chunks that never move or grow.
#[derive(Debug, Default)]
struct KeyArena {
    chunks: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct KeyAt {
    chunk: u32,
    offset: u32,
    len: u32,
}

/// Large enough that the waste at a chunk's end is nothing, small enough for a store of ten series.
const CHUNK_BYTES: usize = 32 * 1024;

impl KeyArena {
    fn push(&mut self, key: &[u8]) -> KeyAt {
        let fits = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= key.len());
        if !fits {
            self.chunks.push(Vec::with_capacity(key.len().max(CHUNK_BYTES)));
        }
        let chunk = self.chunks.len() - 1;
        let bytes = &mut self.chunks[chunk];
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(key);
        KeyAt { chunk: chunk as u32, offset, len: key.len() as u32 }
    }

    fn get(&self, at: KeyAt) -> &[u8] {
        &self.chunks[at.chunk as usize][at.offset as usize..][..at.len as usize]
    }
}
