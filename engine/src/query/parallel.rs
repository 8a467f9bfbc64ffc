//! Parts of a query on all cores, results in order. Small queries stay on the caller's thread.

use super::error::QueryError;
use super::scan::Scan;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many rows a thread costs more than it brings.
const MIN_ROWS: u64 = 200_000;

/// Computes `part(0..parts)`; the first error in the order of parts ends it, and the other threads with it.
pub(super) fn map<T: Send>(
    scan: Scan<'_>,
    parts: usize,
    part: impl Fn(usize) -> Result<T, QueryError> + Sync,
) -> Result<Vec<T>, QueryError> {
    let threads = threads(scan, parts);
    if threads <= 1 {
        return (0..parts).map(part).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<T>>> = Mutex::new((0..parts).map(|_| None).collect());
    let failed: Mutex<Option<QueryError>> = Mutex::new(None);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= parts {
                break;
            }
            match part(i) {
                Ok(result) => done.lock()[i] = Some(result),
                Err(error) => {
                    // The first one tells why; what the others then see is only that it failed.
                    failed.lock().get_or_insert(error);
                    scan.budget.fail();
                    break;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // A machine that gives no more threads computes with those it has.
            if std::thread::Builder::new().name("query".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(done.into_inner().into_iter().flatten().collect()),
    }
}

/// How many threads share so many parts.
pub(super) fn threads(scan: Scan<'_>, parts: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if is_large(scan) { cores.min(parts) } else { 1 }
}

/// Whether there is so much to read that several threads are worth while.
pub(super) fn is_large(scan: Scan<'_>) -> bool {
    estimated_rows(scan) >= MIN_ROWS
}

/// Rows that may have to be read, about: those of all segments, by the share of time and of series asked for.
fn estimated_rows(scan: Scan<'_>) -> u64 {
    let series = scan.snapshot.catalog().series_count(scan.plan.measurement).max(1);
    let in_memory: u64 = scan.snapshot.memtables().iter().map(|memtable| memtable.rows()).sum();
    let rows = u128::from(scan.sources.rows(&scan.plan.range) + in_memory);
    (rows * scan.plan.series.len() as u128 / u128::from(series)) as u64
}
