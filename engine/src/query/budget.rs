//! What a query may still spend, and who may stop it. Looked at once per block, never per row.

use super::error::QueryError;
use super::request::{QueryControl, QueryLimits};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Shared by the threads of one query.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    limits: &'a QueryLimits,
    control: &'a QueryControl,
    /// Set when one thread has failed: the others need not go on.
    failed: AtomicBool,
    rows: AtomicU64,
    buckets: AtomicU64,
    scanned: AtomicU64,
    bytes: AtomicU64,
    pub(super) points_scanned: AtomicU64,
    pub(super) blocks_decoded: AtomicU64,
    pub(super) blocks_from_statistics: AtomicU64,
    pub(super) groups_pruned: AtomicU64,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limits: &'a QueryLimits, control: &'a QueryControl) -> Self {
        Self {
            limits,
            control,
            failed: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            buckets: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            points_scanned: AtomicU64::new(0),
            blocks_decoded: AtomicU64::new(0),
            blocks_from_statistics: AtomicU64::new(0),
            groups_pruned: AtomicU64::new(0),
        }
    }

    /// Whether the query must end now.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        if self.control.cancel.is_cancelled() || self.failed.load(Ordering::Relaxed) {
            return Err(QueryError::Cancelled);
        }
        match self.control.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(QueryError::TimedOut),
            _ => Ok(()),
        }
    }

    /// Tells the other threads to stop.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Notes rows read with `values` of them in all columns.
    pub(super) fn scan(&self, rows: u64, values: u64) -> Result<(), QueryError> {
        self.points_scanned.fetch_add(rows, Ordering::Relaxed);
        let limit = self.limits.max_scanned;
        spend(&self.scanned, values, limit, QueryError::TooMuchScanned { limit })
    }

    /// Notes rows of the answer.
    pub(super) fn answer_rows(&self, rows: u64) -> Result<(), QueryError> {
        let limit = self.limits.max_points;
        spend(&self.rows, rows, limit, QueryError::TooManyPoints { limit })
    }

    /// Takes rows and their bytes back that did not get into the answer.
    pub(super) fn give_back(&self, rows: u64, bytes: u64) {
        self.rows.fetch_sub(rows, Ordering::Relaxed);
        self.let_go(bytes);
    }

    /// Notes bytes of rows or buckets in hand.
    pub(super) fn hold_bytes(&self, bytes: u64) -> Result<(), QueryError> {
        let limit = self.limits.max_bytes;
        let held = spend(&self.bytes, bytes, limit, QueryError::TooManyBytes { limit })
            .and_then(|()| self.control.memory.hold(bytes));
        if held.is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        held
    }

    /// Notes that so many bytes were let go.
    pub(super) fn let_go(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.control.memory.let_go(bytes);
    }

    /// Notes that nothing is in hand any more.
    pub(super) fn let_go_all(&self) {
        self.let_go(self.bytes.load(Ordering::Relaxed));
    }

    /// Notes that what took `held` bytes takes `now`.
    pub(super) fn hold_instead(&self, held: &mut u64, now: u64) -> Result<(), QueryError> {
        if now > *held {
            self.hold_bytes(now - *held)?;
        } else {
            self.let_go(*held - now);
        }
        *held = now;
        Ok(())
    }

    /// Notes buckets of one series of the answer.
    pub(super) fn answer_buckets(&self, buckets: u64) -> Result<(), QueryError> {
        let wanted = self.buckets.fetch_add(buckets, Ordering::Relaxed) + buckets;
        self.allow_buckets(wanted)
    }

    /// Whether an answer may have so many buckets: asked while they are still being found.
    pub(super) fn allow_buckets(&self, wanted: u64) -> Result<(), QueryError> {
        let limit = self.limits.max_buckets;
        if wanted > limit { Err(QueryError::TooManyBuckets { wanted, limit }) } else { Ok(()) }
    }
}

/// Bytes in hand as long as this lives.
#[derive(Debug)]
pub(super) struct Held<'a> {
    budget: &'a Budget<'a>,
    bytes: u64,
}

impl<'a> Held<'a> {
    /// Notes `bytes`, which it takes back when it is dropped.
    pub(super) fn new(budget: &'a Budget<'a>, bytes: u64) -> Result<Self, QueryError> {
        budget.hold_bytes(bytes)?;
        Ok(Self { budget, bytes })
    }

    /// Notes that it is `bytes` from here on.
    pub(super) fn set(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.budget.hold_instead(&mut self.bytes, bytes)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.let_go(self.bytes);
    }
}

fn spend(counter: &AtomicU64, amount: u64, limit: u64, error: QueryError) -> Result<(), QueryError> {
    let total = counter.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
    if total > limit { Err(error) } else { Ok(()) }
}
