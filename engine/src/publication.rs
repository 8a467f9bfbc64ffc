//! How what is true reaches readers: a view that is replaced whole, and behind it a cursor up to which it counts.
//!
//! Invariants
//! 1. A view is changed by one step under the lock: a reader sees all of a change or nothing of it.
//! 2. Whoever publishes a cursor has put everything up to it into the active memtable of the view before.
//! 3. A reader takes the cursor first and the view after it, so the view holds at least everything up to the cursor.
//!
//! Checked under every order of steps that a scheduler draws: `tests/interleavings`. Not here: what a view is (`snapshot`).

use crate::feed::Cursor;
use crate::ids::{LogId, Seq};
use crate::sync::{AtomicU64, Ordering, RwLock};
use std::sync::Arc;

/// The view of now and the cursor of now.
#[derive(Debug)]
pub(crate) struct Publication<V> {
    view: RwLock<Arc<V>>,
    log_id: AtomicU64,
    seq: AtomicU64,
}

impl<V> Publication<V> {
    pub(crate) fn new(view: V, cursor: Cursor) -> Self {
        Self {
            view: RwLock::new(Arc::new(view)),
            log_id: AtomicU64::new(cursor.log_id.0),
            seq: AtomicU64::new(cursor.seq.0),
        }
    }

    pub(crate) fn view(&self) -> Arc<V> {
        self.view.read().clone()
    }

    /// Puts what `next` makes of the view in its place; nobody changes it meanwhile. None: it stays.
    pub(crate) fn change(&self, next: impl FnOnce(&V) -> Option<V>) {
        let mut view = self.view.write();
        if let Some(next) = next(&view) {
            *view = Arc::new(next);
        }
    }

    /// Everything up to `cursor` is in the view: readers may see it from now on.
    pub(crate) fn publish(&self, cursor: Cursor) {
        self.log_id.store(cursor.log_id.0, Ordering::Relaxed);
        self.seq.store(cursor.seq.0, Ordering::Release);
    }

    pub(crate) fn cursor(&self) -> Cursor {
        let seq = Seq(self.seq.load(Ordering::Acquire));
        Cursor { log_id: LogId(self.log_id.load(Ordering::Relaxed)), seq }
    }

    /// What a reader goes by. `sealed` tells the sequence up to which a view has everything in segments.
    pub(crate) fn snapshot(&self, sealed: impl FnOnce(&V) -> Seq) -> (Cursor, Arc<V>) {
        let mut cursor = self.cursor();
        let view = self.view();
        // A memtable sealed in between is seen as a whole, so the snapshot reaches at least to its end.
        cursor.seq = cursor.seq.max(sealed(&view));
        (cursor, view)
    }
}
