//! Short lives for the suite in which a disk call fails: each is about one part of the store, so that a failure names it,
//! and short, so that every call of it can fail in its turn.

use crate::support::content::{Body, Cell, Deletion, Exact};
use crate::support::history::{START_NS, Step};
use std::ops::Range;
use std::time::Duration;
use wattlog_model::FieldValue;

/// A point of three fields in the `series`-th series of a database, so many nanoseconds after the start of time.
pub(crate) fn body(database: usize, series: usize, time: i64) -> Body {
    let cell = |field| Cell { database, series, time: START_NS + time, field };
    let cells = vec![
        (cell(0), Exact(FieldValue::Float(time as f64 / 8.0))),
        (cell(2), Exact(FieldValue::Integer(time))),
        (cell(5), Exact(FieldValue::String(format!("at {time}").into()))),
    ];
    Body::new(database, cells)
}

/// Sealed twice, with a value written over another before and after.
pub(crate) fn steady_writes_and_seals() -> Vec<Step> {
    vec![write(1), write(2), write(1), Step::Seal, write(3), write(2), Step::Seal, write(4)]
}

/// Answered before the sync, which comes due by itself, by a body that must be synced, and by a seal.
pub(crate) fn an_interval_database() -> Vec<Step> {
    let taken = |time| Step::Write(body(2, 1, time));
    let due = || Step::Wait(Duration::from_secs(11));
    vec![taken(1), taken(2), due(), taken(3), write(4), taken(5), Step::Seal, taken(6), due(), taken(7)]
}

/// Deletes of what is in memory and in a segment, applied by a merge; one that is still open when the life ends.
pub(crate) fn deletes_and_a_compaction() -> Vec<Step> {
    vec![
        write(1),
        write(2),
        Step::Write(deletion(1..2)),
        write(3),
        Step::Seal,
        Step::Write(deletion(2..3)),
        write(4),
        Step::Compact,
        Step::Write(deletion(3..4)),
    ]
}

/// A rule that hides what is in memory and in a segment, refuses what is older, and drops a file.
pub(crate) fn retention() -> Vec<Step> {
    let old = -5_000_000_000;
    vec![
        write(old),
        Step::Seal,
        write(old + 1),
        write(1),
        Step::Write(cutoff(-1_000_000_000)),
        write(old + 2),
        Step::Compact,
        write(2),
    ]
}

/// Closed in order, dropped, opened again; the second seal leaves a log whose file is used again.
pub(crate) fn reopening_and_recycling() -> Vec<Step> {
    vec![
        write(1),
        Step::Reopen,
        write(2),
        Step::Seal,
        write(3),
        Step::Drop,
        write(4),
        Step::Seal,
        write(5),
        Step::Seal,
        write(6),
        Step::Reopen,
    ]
}

/// New names with every seal, told units, and the catalog files read back.
pub(crate) fn catalog_growth() -> Vec<Step> {
    let new = |series, time| Step::Write(body(0, series, time));
    vec![
        new(0, 1),
        Step::Describe,
        Step::Seal,
        new(3, 2),
        Step::Seal,
        new(4, 3),
        Step::Seal,
        Step::Reopen,
        new(2, 4),
        Step::Write(body(1, 3, 5)),
    ]
}

fn write(time: i64) -> Step {
    Step::Write(body(0, 1, time))
}

pub(crate) fn deletion(times: Range<i64>) -> Body {
    let times = START_NS + times.start..START_NS + times.end;
    let deletion = Deletion { series: 1, field: None, times };
    Body { deletion: Some(deletion), ..Body::new(0, Vec::new()) }
}

fn cutoff(time: i64) -> Body {
    Body { cutoff: Some(START_NS + time), ..Body::new(0, Vec::new()) }
}
