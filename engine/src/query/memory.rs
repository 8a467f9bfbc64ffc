//! Memory that the queries of a process share.
//!
//! Promise: what all charges hold together never passes the limit. A query that would need more ends with an error; it may
//! be asked again when others are done.
//!
//! Invariant: a charge holds what its query noted and has not given back, until the last copy of it is dropped: the
//! caller still has the answer when the query is done.

use super::error::QueryError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub struct QueryMemory {
    limit: u64,
    held: AtomicU64,
}

/// What one query holds of a [`QueryMemory`]; clones share it. The default one counts nothing.
#[derive(Debug, Clone, Default)]
pub struct QueryCharge(Option<Arc<Charge>>);

#[derive(Debug)]
struct Charge {
    memory: Arc<QueryMemory>,
    bytes: AtomicU64,
}

impl QueryMemory {
    /// So many bytes for all queries together.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit: limit_bytes, held: AtomicU64::new(0) })
    }

    /// A charge of nothing yet, for one query.
    pub fn charge(self: &Arc<Self>) -> QueryCharge {
        QueryCharge(Some(Arc::new(Charge { memory: self.clone(), bytes: AtomicU64::new(0) })))
    }

    /// Bytes that are held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl QueryCharge {
    /// A charge of nothing yet against the same memory: what one question of several holds is given back with its answer.
    #[must_use]
    pub fn another(&self) -> Self {
        Self(
            self.0
                .as_ref()
                .map(|charge| Arc::new(Charge { memory: charge.memory.clone(), bytes: AtomicU64::new(0) })),
        )
    }

    /// Holds `bytes` more; if that is refused, the charge is as before.
    pub(super) fn hold(&self, bytes: u64) -> Result<(), QueryError> {
        let Some(charge) = &self.0 else { return Ok(()) };
        let QueryMemory { limit, held } = &*charge.memory;
        let more = |held: u64| held.checked_add(bytes).filter(|total| total <= limit);
        match held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => {
                charge.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err(QueryError::MemoryTaken { limit: *limit }),
        }
    }

    /// Gives `bytes` back, or all that is held if that is less.
    pub(super) fn let_go(&self, bytes: u64) {
        let Some(charge) = &self.0 else { return };
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let before = charge.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0);
        charge.memory.held.fetch_sub(bytes.min(before), Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_share_what_there_is_and_give_it_back() {
        let memory = QueryMemory::new(100);
        let (first, second) = (memory.charge(), memory.charge());
        first.hold(60).unwrap();
        assert!(matches!(second.hold(41), Err(QueryError::MemoryTaken { limit: 100 })));
        second.hold(40).unwrap();
        first.let_go(25);
        assert_eq!(memory.held(), 75);
        // More than is held cannot be given back.
        second.let_go(1000);
        assert_eq!(memory.held(), 35);
        let copy = first.clone();
        drop(first);
        assert_eq!(memory.held(), 35);
        let another = copy.another();
        another.hold(40).unwrap();
        assert_eq!(memory.held(), 75);
        drop(another);
        assert_eq!(memory.held(), 35);
        drop(copy);
        assert_eq!(memory.held(), 0);
        QueryCharge::default().another().hold(u64::MAX).unwrap();
        assert!(second.hold(u64::MAX).is_err());
        QueryCharge::default().hold(u64::MAX).unwrap();
    }
}
