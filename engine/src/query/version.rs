//! Whether the data behind a question can have changed, without answering it.

use super::budget::Budget;
use super::error::QueryError;
use super::plan::Plan;
use super::request::{QueryControl, QueryLimits, QueryRequest};
use crate::snapshot::Snapshot;
use std::hash::{DefaultHasher, Hash, Hasher};
use wattlog_model::Unit;

/// A number that is the same in two snapshots of one run of the process only if the answer to `request` is: files that
/// meet its range, rows in memory that do, deletes that do, and what the catalog says of its fields and series.
///
/// The converse does not hold: a seal or a compaction gives another number and the same answer.
///
/// # Errors
/// As [`run`](super::run) for names, ranges and too many series.
pub fn version(snapshot: &Snapshot, request: &QueryRequest, limits: &QueryLimits) -> Result<u64, QueryError> {
    let mut hasher = DefaultHasher::new();
    let control = QueryControl::default();
    let budget = Budget::new(limits, &control);
    let Some(plan) = Plan::new(snapshot, request, limits, &budget)? else { return Ok(hasher.finish()) };
    for field in &plan.fields {
        (field.def.id.0, field.def.unit.as_ref().map(Unit::as_str), field.def.kind as u8).hash(&mut hasher);
    }
    // A condition's name is a field's as soon as there is such a field.
    for field in snapshot.catalog().fields(plan.measurement).iter() {
        (field.id.0, &field.name).hash(&mut hasher);
    }
    // Retention moves the start of what is read.
    plan.range.hash(&mut hasher);
    plan.series.iter().for_each(|series| series.0.hash(&mut hasher));
    for handle in snapshot.segments().for_range(plan.namespace, plan.measurement, plan.range.clone()) {
        (handle.entry().id.0, handle.entry().quarantined).hash(&mut hasher);
    }
    for memtable in snapshot.memtables() {
        let meets = plan.series.iter().any(|series| {
            let times = memtable.time_range(*series, snapshot.seq());
            times.is_some_and(|(first, last)| first < plan.range.end && last >= plan.range.start)
        });
        if meets {
            (memtable.base().0, memtable.max_seq().min(snapshot.seq()).0).hash(&mut hasher);
        }
    }
    for tombstone in snapshot.tombstones_of(plan.measurement) {
        if tombstone.overlaps(&plan.range) {
            tombstone.seq.0.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}
