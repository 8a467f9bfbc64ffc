//! What was computed lately, for as long as it is still true.
//!
//! Promise: a value is given only for the version of the data that it was computed from; whoever asks takes that version
//! before computing, so that what is given may be newer than its version but never older. Memory stays within a bound: what was
//! not asked for the longest goes first, and what alone is larger than the bound is not kept.

use hashlink::LruCache;
use parking_lot::Mutex;
use std::hash::Hash;
use std::sync::Arc;

/// Values by what was asked; clones of a value share it.
#[derive(Debug)]
pub(crate) struct Remembered<K, V> {
    most_bytes: usize,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    bytes: usize,
    entries: LruCache<K, Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    version: u64,
    bytes: usize,
    value: Arc<V>,
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    /// Nothing yet, and never more than `most_bytes`.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let kept = Kept { bytes: 0, entries: LruCache::new_unbounded() };
        Self { most_bytes, kept: Mutex::new(kept) }
    }

    /// What was computed from data of this version.
    pub(crate) fn get(&self, key: &K, version: u64) -> Option<Arc<V>> {
        let mut kept = self.kept.lock();
        let entry = kept.entries.get(key)?;
        (entry.version == version).then(|| Arc::clone(&entry.value))
    }

    /// Keeps a value that takes `bytes`; what was known for the key goes.
    pub(crate) fn put(&self, key: K, version: u64, value: Arc<V>, bytes: usize) {
        let mut kept = self.kept.lock();
        if let Some(former) = kept.entries.remove(&key) {
            kept.bytes -= former.bytes;
        }
        if bytes > self.most_bytes {
            return;
        }
        kept.bytes += bytes;
        kept.entries.insert(key, Entry { version, bytes, value });
        while kept.bytes > self.most_bytes {
            let Some((_, oldest)) = kept.entries.remove_lru() else { return };
            kept.bytes -= oldest.bytes;
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_version_is_given() {
        let known = Remembered::new(100);
        known.put("a", 1, Arc::new(7), 10);
        assert_eq!(known.get(&"a", 1).as_deref(), Some(&7));
        assert_eq!((known.get(&"a", 2), known.get(&"b", 1)), (None, None));
        known.put("a", 2, Arc::new(8), 20);
        assert_eq!((known.get(&"a", 1), known.get(&"a", 2).as_deref()), (None, Some(&8)));
        assert_eq!(known.bytes(), 20);
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let known = Remembered::new(100);
        for key in 0..4 {
            known.put(key, 0, Arc::new(key), 30);
            assert_eq!(known.get(&0, 0).as_deref(), Some(&0));
        }
        let left: Vec<i32> = (0..4).filter(|key| known.get(key, 0).is_some()).collect();
        assert_eq!((left, known.bytes()), (vec![0, 2, 3], 90));
        known.put(0, 1, Arc::new(0), 101);
        assert_eq!((known.get(&0, 1), known.bytes()), (None, 60));
    }
}
