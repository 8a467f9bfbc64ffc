//! Append-only storage that is readable while it is written: chunks of atomic cells behind a published length.
//!
//! Invariants
//! 1. One writer appends; any number of readers walk the chunks at the same time, without a lock.
//! 2. A cell below the published length of its chunk is never written again.
//! 3. Chunks hold 16 to 1024 cells: a short column wastes little, a long one is walked in few steps.

use super::arena::{Arena, Room};
use crate::sync::{AtomicU32, OnceLock, Ordering};
use std::sync::Arc;

const FIRST_CHUNK_CELLS: u32 = 16;
const LARGEST_CHUNK_CELLS: u32 = 1024;
/// Chunks with gaps stay small: a column that stops skipping rows is dense again soon.
const LARGEST_SPARSE_CELLS: u32 = 64;

/// A rising or arbitrary list of 64-bit cells.
#[derive(Debug, Default)]
pub(super) struct Cells {
    head: OnceLock<Arc<Chunk>>,
}

/// The writer's end of a [`Cells`]: kept apart from what readers see, so that readers share nothing mutable.
#[derive(Debug, Default)]
pub(super) struct CellsTail {
    last: Option<Arc<Chunk>>,
}

/// Some cells of one column.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Row of the first cell; the following cells belong to the following rows unless `rows` says otherwise.
    first_row: u32,
    /// Row of each cell, for chunks with gaps.
    rows: Option<Box<[AtomicU32]>>,
    cells: Room,
    len: AtomicU32,
    next: OnceLock<Arc<Chunk>>,
}

/// Whether the rows of a new chunk are expected to follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Dense,
    Sparse,
}

impl Cells {
    /// Appends `values` for the rows `first_row..`; rows of one column rise. Returns the bytes newly allocated.
    pub(super) fn append_dense(
        &self,
        tail: &mut CellsTail,
        arena: &mut Arena,
        first_row: u32,
        values: impl ExactSizeIterator<Item = u64>,
    ) -> usize {
        let mut allocated = 0;
        let mut values = values;
        let mut row = first_row;
        while values.len() > 0 {
            let (chunk, bytes) = self.chunk_for(tail, arena, row, values.len(), Layout::Dense);
            allocated += bytes;
            let start = chunk.len.load(Ordering::Relaxed) as usize;
            let take = values.len().min(chunk.cells.len() - start);
            for (cell, value) in chunk.cells.cells()[start..].iter().zip(values.by_ref().take(take)) {
                cell.store(value, Ordering::Relaxed);
            }
            if let Some(rows) = &chunk.rows {
                for (cell, row) in rows[start..start + take].iter().zip(row..) {
                    cell.store(row, Ordering::Relaxed);
                }
            }
            row += take as u32;
            chunk.len.store((start + take) as u32, Ordering::Release);
        }
        allocated
    }

    /// Appends one value for a row that need not follow the one before.
    pub(super) fn append_sparse(
        &self,
        tail: &mut CellsTail,
        arena: &mut Arena,
        row: u32,
        value: u64,
    ) -> usize {
        let (chunk, bytes) = self.chunk_for(tail, arena, row, 1, Layout::Sparse);
        let at = chunk.len.load(Ordering::Relaxed) as usize;
        chunk.cells.cells()[at].store(value, Ordering::Relaxed);
        if let Some(rows) = &chunk.rows {
            rows[at].store(row, Ordering::Relaxed);
        }
        chunk.len.store(at as u32 + 1, Ordering::Release);
        bytes
    }

    /// Chunks from the first on, as they are published now.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        std::iter::successors(self.head.get(), |chunk| chunk.next.get())
    }

    /// The chunk that can take a value for `row` next, and the bytes allocated if it is a new one.
    fn chunk_for(
        &self,
        tail: &mut CellsTail,
        arena: &mut Arena,
        row: u32,
        wanted: usize,
        layout: Layout,
    ) -> (Arc<Chunk>, usize) {
        let mut next_cells =
            FIRST_CHUNK_CELLS.max((wanted as u32).min(LARGEST_CHUNK_CELLS).next_power_of_two());
        if let Some(last) = &tail.last {
            let len = last.len.load(Ordering::Relaxed);
            let has_room = (len as usize) < last.cells.len();
            let follows = last.rows.is_some() || row == last.first_row + len;
            if has_room && follows {
                return (last.clone(), 0);
            }
            next_cells = next_cells.max((last.cells.len() as u32 * 2).min(LARGEST_CHUNK_CELLS));
            if !follows || last.has_gaps() {
                // The column skips rows: what comes is stored with its row numbers.
                return self.push(tail, arena, row, next_cells.min(LARGEST_SPARSE_CELLS), Layout::Sparse);
            }
        }
        self.push(tail, arena, row, next_cells, layout)
    }

    fn push(
        &self,
        tail: &mut CellsTail,
        arena: &mut Arena,
        row: u32,
        cells: u32,
        layout: Layout,
    ) -> (Arc<Chunk>, usize) {
        let rows = (layout == Layout::Sparse).then(|| (0..cells).map(|_| AtomicU32::new(0)).collect());
        let chunk = Arc::new(Chunk {
            first_row: row,
            rows,
            cells: arena.take(cells),
            len: AtomicU32::new(0),
            next: OnceLock::new(),
        });
        let bytes = chunk.bytes();
        // Only the one writer links chunks, so the slot is free: a second set would be our own bug.
        let linked = match &tail.last {
            Some(last) => last.next.set(chunk.clone()),
            None => self.head.set(chunk.clone()),
        };
        assert!(linked.is_ok(), "two writers appended to one column of the memtable");
        tail.last = Some(chunk.clone());
        (chunk, bytes)
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // A long list would otherwise be dropped by recursion, one stack frame per chunk.
        let mut next = self.head.take();
        while let Some(chunk) = next {
            next = Arc::try_unwrap(chunk).ok().and_then(|mut chunk| chunk.next.take());
        }
    }
}

impl Chunk {
    /// Published cells with their rows, those below `row_end` only, rising.
    pub(super) fn visit(&self, row_end: u32, mut visit: impl FnMut(u32, u64)) {
        let len = self.len.load(Ordering::Acquire) as usize;
        match &self.rows {
            None => {
                let len = len.min(row_end.saturating_sub(self.first_row) as usize);
                for (i, cell) in self.cells.cells()[..len].iter().enumerate() {
                    visit(self.first_row + i as u32, cell.load(Ordering::Relaxed));
                }
            }
            Some(rows) => {
                for (row, cell) in rows[..len].iter().zip(&self.cells.cells()[..len]) {
                    let row = row.load(Ordering::Relaxed);
                    if row >= row_end {
                        break;
                    }
                    visit(row, cell.load(Ordering::Relaxed));
                }
            }
        }
    }

    /// The dense stretch of this chunk that lies in `rows`, appended to `out`; false if the chunk has gaps.
    pub(super) fn copy_dense(&self, rows: &std::ops::Range<u32>, out: &mut Vec<u64>) -> bool {
        if self.rows.is_some() {
            return false;
        }
        let len = self.len.load(Ordering::Acquire);
        let from = rows.start.clamp(self.first_row, self.first_row + len) - self.first_row;
        let to = rows.end.clamp(self.first_row, self.first_row + len) - self.first_row;
        out.extend(
            self.cells.cells()[from as usize..to.max(from) as usize]
                .iter()
                .map(|cell| cell.load(Ordering::Relaxed)),
        );
        true
    }

    /// Row of the first cell.
    pub(super) fn first_row(&self) -> u32 {
        self.rows.as_ref().map_or(self.first_row, |rows| rows[0].load(Ordering::Relaxed))
    }

    /// First cell, if one is published.
    pub(super) fn first_cell(&self) -> Option<u64> {
        (self.len.load(Ordering::Acquire) > 0).then(|| self.cells.cells()[0].load(Ordering::Relaxed))
    }

    /// True for a chunk with row numbers whose rows do not simply follow each other.
    fn has_gaps(&self) -> bool {
        let len = self.len.load(Ordering::Relaxed) as usize;
        self.rows.as_ref().is_some_and(|rows| {
            len > 0
                && rows[len - 1].load(Ordering::Relaxed) - rows[0].load(Ordering::Relaxed) != len as u32 - 1
        })
    }

    fn bytes(&self) -> usize {
        let per_cell = if self.rows.is_some() { 12 } else { 8 };
        self.cells.len() * per_cell + size_of::<Self>() + 2 * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cells: &Cells, row_end: u32) -> Vec<(u32, u64)> {
        let mut out = Vec::new();
        cells.chunks().for_each(|chunk| chunk.visit(row_end, |row, cell| out.push((row, cell))));
        out
    }

    #[test]
    fn rows_with_gaps_come_back_with_their_numbers() {
        let (cells, mut tail, mut arena) = (Cells::default(), CellsTail::default(), Arena::default());
        cells.append_dense(&mut tail, &mut arena, 0, [10, 11, 12].into_iter());
        cells.append_sparse(&mut tail, &mut arena, 5, 15);
        cells.append_sparse(&mut tail, &mut arena, 9, 19);
        cells.append_dense(&mut tail, &mut arena, 10, [20, 21].into_iter());
        assert_eq!(all(&cells, 11), [(0, 10), (1, 11), (2, 12), (5, 15), (9, 19), (10, 20)]);
    }

    #[test]
    fn a_long_list_is_dropped_without_recursion() {
        let (cells, mut tail, mut arena) = (Cells::default(), CellsTail::default(), Arena::default());
        for row in 0..3_000_000_u32 {
            cells.append_dense(&mut tail, &mut arena, row, std::iter::once(u64::from(row)));
        }
        assert_eq!(all(&cells, u32::MAX).len(), 3_000_000);
        drop(tail);
        drop(cells);
    }

    #[test]
    fn readers_see_a_prefix_while_the_writer_appends() {
        let cells = Cells::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut tail, mut arena) = (CellsTail::default(), Arena::default());
                for row in 0..200_000_u32 {
                    cells.append_dense(&mut tail, &mut arena, row, std::iter::once(u64::from(row) * 3));
                }
            });
            let mut seen = 0;
            while seen < 200_000 {
                let now = all(&cells, u32::MAX);
                assert!(now.len() >= seen, "the published length went back");
                assert!(
                    now.iter().enumerate().all(|(i, (row, cell))| *row == i as u32 && *cell == i as u64 * 3)
                );
                seen = now.len();
            }
        });
    }
}
