//! Room for the cells of a memtable: large zeroed slabs, handed out from the front.
//!
//! Promise: what a memtable took goes back to the system whole when it is dropped, so that memory after a load is what
//! the points still there need. A slab is larger than any size from which an allocator keeps freed memory for itself;
//! room that was not handed out costs addresses, no memory.
//!
//! Tried: keeping a slab that came free for the next memtable. It saves the writer a quarter of its time under load (the
//! pages need not come from the system again), but the memtable that stays after the load then holds all pages of the
//! largest one before it.
//!
//! Invariants
//! 1. A cell is handed out once; cells never overlap.
//! 2. Cells are zero until they are written.

use crate::sync::{AtomicU64, zeroed_cells};
use std::ops::Range;
use std::sync::Arc;

/// Cells of a slab. glibc keeps freed blocks of up to 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX`); this is one MiB more.
const SLAB_CELLS: u32 = (33 << 20) / size_of::<u64>() as u32;

/// Where the one writer of a memtable gets cells from.
#[derive(Debug, Default)]
pub(super) struct Arena {
    slab: Option<Arc<Slab>>,
    used: u32,
}

#[derive(Debug)]
struct Slab(Box<[AtomicU64]>);

/// Cells that belong to one chunk.
#[derive(Debug)]
pub(super) struct Room {
    slab: Arc<Slab>,
    cells: Range<u32>,
}

impl Arena {
    /// So many cells, all zero.
    pub(super) fn take(&mut self, cells: u32) -> Room {
        debug_assert!(cells <= SLAB_CELLS, "chunks are small");
        if cells > SLAB_CELLS - self.used {
            self.slab = None;
        }
        let slab = self.slab.get_or_insert_with(|| {
            self.used = 0;
            Arc::new(Slab(zeroed_cells(SLAB_CELLS as usize)))
        });
        let first = self.used;
        self.used += cells;
        Room { slab: slab.clone(), cells: first..self.used }
    }
}

impl Room {
    /// The cells.
    #[inline]
    pub(super) fn cells(&self) -> &[AtomicU64] {
        &self.slab.0[self.cells.start as usize..self.cells.end as usize]
    }

    /// Their number.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn rooms_never_overlap_also_across_slabs() {
        let mut arena = Arena::default();
        let rooms: Vec<Room> = (0..10_000).map(|i| arena.take(16 + i % 1009)).collect();
        assert!(!Arc::ptr_eq(&rooms[0].slab, &rooms[9999].slab), "one slab is not enough for these");
        for (number, room) in rooms.iter().enumerate() {
            assert_eq!(room.len(), 16 + number % 1009);
            for cell in room.cells() {
                assert_eq!(cell.swap(number as u64 + 1, Ordering::Relaxed), 0, "new memory is zero");
            }
        }
        for (number, room) in rooms.iter().enumerate() {
            assert!(room.cells().iter().all(|cell| cell.load(Ordering::Relaxed) == number as u64 + 1));
        }
    }
}
