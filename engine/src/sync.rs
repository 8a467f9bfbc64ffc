//! The locks, atomics and cells of what readers and writers share without waiting long for each other: the memtable, and how
//! views are published. Both modules take them from here alone, because `tests/interleavings` compiles their source a second
//! time with types in this place whose every use is a point where another thread may go on.

pub(crate) use parking_lot::{Mutex, RwLock};
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// So many cells, all zero, of memory that takes no room before it is used.
pub(crate) fn zeroed_cells(count: usize) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(count)
}
