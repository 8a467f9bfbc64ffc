//! What stands in the place of `engine/src/sync.rs`: every use is a point where the scheduler may let another thread go on.
//!
//! The shapes are those of parking_lot and std. All atomics are as if `SeqCst`: a wrong order of two steps is found here, an
//! `Ordering` that is too weak for them is not.

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// Cells of the one slab of a checked memtable. More than a scene needs, and few enough to be made thousands of times.
const MODEL_CELLS: usize = 1024;

/// The first of so many cells; a scene that wants more than there are ends in a panic.
pub(crate) fn zeroed_cells(count: usize) -> Box<[AtomicU64]> {
    (0..count.min(MODEL_CELLS)).map(|_| AtomicU64::new(0)).collect()
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the check")
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a panic ends the check")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a panic ends the check")
    }
}

/// Set once; seen by nobody before `is_set`.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { is_set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::SeqCst) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// For a slot that one thread alone fills, as the memtable's are.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            assert!(self.set(make()).is_ok(), "two threads filled one slot");
        }
        self.value.get().expect("just set")
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}
