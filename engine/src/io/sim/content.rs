//! What is in a file: the image that calls see, the image that survives, and the changes between the two.
//!
//! Invariants
//! 1. `durable` changes only by a sync, `settle` and the hand of a test.
//! 2. Without a failed sync, `durable` with `pending` applied in order is `current`. A failed sync forgets `pending`:
//!    calls go on seeing the bytes, as the page cache shows them, until `forget_cached`, and a cut loses them.
//! 3. After a cut each piece of the file holds one of the versions it had since the last sync, and the length is one of
//!    those it had; a piece that was written but did not arrive, beyond the old end, holds zeros or old bytes of the disk.

use super::rng::Rng;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Inode(pub(super) Mutex<Content>);

impl Inode {
    /// A file that holds `bytes`, durably.
    pub(super) fn new(bytes: Vec<u8>) -> Arc<Self> {
        let image = Arc::new(bytes);
        Arc::new(Self(Mutex::new(Content {
            allocated: image.len() as u64,
            durable: Arc::clone(&image),
            current: image,
            pending: Vec::new(),
            bad: Vec::new(),
        })))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) current: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// In the order they were made.
    pending: Vec<Change>,
    /// Bytes from the start that were ever written: what the file takes from the disk. Growing by `set_len` takes none.
    allocated: u64,
    /// Pages the device cannot read any more.
    bad: Vec<Range<u64>>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[start..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => image.resize(*len as usize, 0),
        }
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.current.len() as u64
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes that a write would take from the disk.
    pub(super) fn growth(&self, offset: u64, len: u64) -> u64 {
        (offset + len).saturating_sub(self.allocated)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.allocated = self.allocated.max(offset + bytes.len() as u64);
            self.change(Change::Write { offset, bytes: bytes.into() });
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.allocated = self.allocated.min(len);
        self.change(Change::SetLen(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.current));
        self.pending.push(change);
    }

    /// Copies what is there; `None` if a page of it cannot be read.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Option<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.current.len());
        let count = buf.len().min(self.current.len() - start);
        let asked = offset..offset + count as u64;
        if self.bad.iter().any(|bad| bad.start < asked.end && asked.start < bad.end) {
            return None;
        }
        buf[..count].copy_from_slice(&self.current[start..start + count]);
        Some(count)
    }

    /// Makes the changes durable and gives the number of bytes that took.
    pub(super) fn sync(&mut self) -> u64 {
        let mut bytes = 0;
        if !self.pending.is_empty() {
            let durable = Arc::make_mut(&mut self.durable);
            for change in self.pending.drain(..) {
                change.apply(durable);
                bytes += match change {
                    Change::Write { bytes, .. } => bytes.len() as u64,
                    Change::SetLen(_) => 0,
                };
            }
        }
        bytes
    }

    /// A sync that fails: chance takes some pieces to the disk, and none of the rest is ever tried again.
    pub(super) fn fail_sync(&mut self, piece: usize, rng: &mut Rng) {
        self.durable = Arc::new(self.after_cut(50, piece, &[], rng));
        self.pending.clear();
    }

    /// Reads come from the device again: what a failed sync forgot is gone from sight too.
    pub(super) fn forget_cached(&mut self) {
        let mut image = self.durable.as_ref().clone();
        self.pending.iter().for_each(|change| change.apply(&mut image));
        self.current = Arc::new(image);
    }

    /// The hand of a test: both images become `bytes`, nothing is left to sync.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) {
        self.allocated = bytes.len() as u64;
        self.current = Arc::new(bytes);
        self.settle();
    }

    /// What calls see is durable from here on.
    pub(super) fn settle(&mut self) {
        self.pending.clear();
        self.durable = Arc::clone(&self.current);
    }

    pub(super) fn spoil(&mut self, range: Range<u64>) {
        self.bad.push(range);
    }

    pub(super) fn durable(&self) -> &Arc<Vec<u8>> {
        &self.durable
    }

    /// The bytes after a power cut. `chance` is the share of unsynced pieces that survive, in percent; `stale` is what lay
    /// on the disk before (no bytes are zeros).
    pub(super) fn after_cut(&self, chance: u64, piece: usize, stale: &[u8], rng: &mut Rng) -> Vec<u8> {
        match chance {
            _ if self.pending.is_empty() => self.durable.as_ref().clone(),
            0 => self.durable.as_ref().clone(),
            100 => {
                let mut image = self.durable.as_ref().clone();
                self.pending.iter().for_each(|change| change.apply(&mut image));
                image
            }
            _ => self.in_pieces(chance, piece, stale, rng),
        }
    }

    fn in_pieces(&self, chance: u64, piece: usize, stale: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut lens = vec![self.durable.len()];
        // For each piece the changes that touched it, in order.
        let mut touched: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut image_len = self.durable.len();
        for (index, change) in self.pending.iter().enumerate() {
            let before = lens[lens.len() - 1];
            let (range, after) = match change {
                Change::Write { offset, bytes } => {
                    let end = *offset as usize + bytes.len();
                    (*offset as usize..end, before.max(end))
                }
                Change::SetLen(len) => (*len as usize..before, *len as usize),
            };
            if !range.is_empty() {
                for at in range.start / piece..=(range.end - 1) / piece {
                    touched.entry(at).or_default().push(index);
                }
            }
            lens.push(after);
            image_len = image_len.max(after);
        }
        // Room for every piece in full, so that each is built in place.
        let mut image = self.durable.as_ref().clone();
        image.resize(image_len.next_multiple_of(piece), 0);
        for (at, changes) in touched {
            let (start, end) = (at * piece, (at + 1) * piece);
            let versions = if rng.chance(chance) { 1 + rng.index(changes.len()) } else { 0 };
            // The newest version is the likeliest: that is what the page cache holds when it is written out.
            let versions = if versions > 0 && rng.chance(50) { changes.len() } else { versions };
            if versions == 0 {
                if start >= self.durable.len() {
                    let old = stale.get(start.min(stale.len())..end.min(stale.len())).unwrap_or_default();
                    image[start..start + old.len()].copy_from_slice(old);
                }
                continue;
            }
            for &index in &changes[..versions] {
                match &self.pending[index] {
                    Change::Write { offset, bytes } => {
                        let from = start.max(*offset as usize);
                        let to = end.min(*offset as usize + bytes.len());
                        image[from..to]
                            .copy_from_slice(&bytes[from - *offset as usize..to - *offset as usize]);
                    }
                    Change::SetLen(len) => image[start.max(*len as usize)..end].fill(0),
                }
            }
        }
        let len = match rng.below(4) {
            0 => lens[0],
            1 => *rng.pick(&lens),
            _ => lens[lens.len() - 1],
        };
        image.truncate(len);
        image.resize(len, 0);
        image
    }
}
