//! Whole series out of some segments, joined and without what deletes and retention hide: what compaction writes again.
//!
//! Promise: a loss ends the reading with an error; no row is handed over that could have been overwritten by one that is
//! lost.

use super::budget::Budget;
use super::error::QueryError;
use super::merge::slice;
use super::plan::{Group, Plan, PlannedField};
use super::prune::{Losses, Sources};
use super::request::{QueryControl, QueryLimits};
use super::scan::{Block, GroupSource, Scan, Sink};
use crate::column::{Presence, SeriesRows};
use crate::ids::{MeasurementId, NamespaceId, SegmentId, SeriesId};
use crate::retention::Purpose;
use crate::rows::slice_rows;
use crate::segment::FieldDef;
use crate::snapshot::Snapshot;
use std::ops::Range;

/// Takes series by rising id, each in parts of rising time.
pub(crate) trait MergeSink {
    type Error;
    fn begin(&mut self, series: SeriesId) -> Result<(), Self::Error>;
    fn rows(&mut self, rows: SeriesRows) -> Result<(), Self::Error>;
    fn end(&mut self, series: SeriesId) -> Result<(), Self::Error>;
}

/// Why not everything could be handed over.
#[derive(Debug)]
pub(crate) enum MergeError<E> {
    /// A part of an input cannot be read.
    Lost(SegmentId, String),
    Query(QueryError),
    /// What the taker said.
    Sink(E),
}

/// Hands all rows of `series` (rising) of one measurement in the segments of `snapshot` to `sink`; of their columns those
/// in `fields` (by rising id).
pub(crate) fn merge_series<S: MergeSink>(
    snapshot: &Snapshot,
    namespace: NamespaceId,
    measurement: MeasurementId,
    fields: Vec<FieldDef>,
    series: &[SeriesId],
    control: &QueryControl,
    sink: &mut S,
) -> Result<(), MergeError<S::Error>> {
    let limits = QueryLimits {
        max_series: u64::MAX,
        max_buckets: u64::MAX,
        max_points: u64::MAX,
        max_scanned: u64::MAX,
        max_bytes: u64::MAX,
    };
    let budget = Budget::new(&limits, control);
    // What retention hides for good is left out as well.
    let range = snapshot.cutoff(namespace, measurement, Purpose::Drop)..i64::MAX;
    let ids = fields.iter().map(|def| def.id).collect();
    let fields = fields.into_iter().enumerate().map(|(slot, def)| PlannedField { def, slot }).collect();
    let groups = vec![Group { tags: Vec::new(), members: 0..series.len() }];
    let plan = Plan {
        namespace,
        measurement,
        range: range.clone(),
        asked: range.clone(),
        fields,
        computed: Vec::new(),
        ids,
        named: false,
        series: series.to_vec(),
        groups,
    };
    let sources = Sources::new(snapshot, &plan);
    let losses = Losses::new(snapshot, range.clone());
    let scan = Scan {
        snapshot,
        plan: &plan,
        filter: None,
        prices: None,
        sources: &sources,
        losses: &losses,
        budget: &budget,
    };
    for id in series {
        sink.begin(*id).map_err(MergeError::Sink)?;
        let mut pass = Pass { scan, sink, block: Block::default(), failed: None };
        let run = scan.run(*id, &range, &mut pass);
        if let Some(error) = pass.failed {
            return Err(MergeError::Sink(error));
        }
        if let Some((segment, reason)) = losses.first() {
            return Err(MergeError::Lost(segment, reason));
        }
        run.map_err(MergeError::Query)?;
        sink.end(*id).map_err(MergeError::Sink)?;
    }
    Ok(())
}

struct Pass<'a, 's, S: MergeSink> {
    scan: Scan<'a>,
    sink: &'s mut S,
    block: Block,
    failed: Option<S::Error>,
}

impl<S: MergeSink> Pass<'_, '_, S> {
    fn hand_over(&mut self, rows: SeriesRows) -> Result<(), QueryError> {
        // Before anything that may be wrong is written.
        if self.scan.losses.first().is_some() {
            return Err(QueryError::Cancelled);
        }
        let rows = without_empty(rows);
        if rows.times.is_empty() {
            return Ok(());
        }
        self.sink.rows(rows).map_err(|error| {
            self.failed = Some(error);
            QueryError::Cancelled
        })
    }
}

impl<S: MergeSink> Sink for Pass<'_, '_, S> {
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        self.hand_over(slice(rows, range))
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        for group in source.groups {
            self.scan.budget.check()?;
            let slots = 0..self.scan.plan.ids.len();
            let mut block = std::mem::take(&mut self.block);
            self.scan.decode(source.source, source.open, group, slots, &mut block, |_| {})?;
            self.hand_over(slice_rows(block.into_rows(self.scan.plan), range))?;
        }
        Ok(())
    }
}

/// Without rows of which no column has a value: a delete of fields may leave such.
fn without_empty(rows: SeriesRows) -> SeriesRows {
    if rows.columns.iter().any(|(_, column)| column.presence == Presence::All) {
        return rows;
    }
    let mut kept: Vec<u32> = Vec::new();
    for (_, column) in &rows.columns {
        if let Presence::Rows(present) = &column.presence {
            kept.extend_from_slice(present);
        }
    }
    kept.sort_unstable();
    kept.dedup();
    if kept.len() == rows.times.len() {
        return rows;
    }
    let times = kept.iter().map(|row| rows.times[*row as usize]).collect();
    let place = |row: &u32| kept.binary_search(row).unwrap_or_default() as u32;
    let columns = rows.columns.into_iter().map(|(field, mut column)| {
        if let Presence::Rows(present) = &column.presence {
            let places: Vec<u32> = present.iter().map(place).collect();
            column.presence = crate::rows::all_if_full(places, kept.len());
        }
        (field, column)
    });
    SeriesRows { times, columns: columns.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Column, Values};
    use crate::ids::FieldId;

    #[test]
    fn rows_without_a_value_go() {
        let column = |rows: &[u32]| Column {
            presence: Presence::Rows(rows.to_vec()),
            values: Values::Integer(rows.iter().map(|row| i64::from(*row)).collect()),
        };
        let rows = SeriesRows {
            times: vec![10, 11, 12, 13, 14],
            columns: vec![(FieldId(1), column(&[1, 3])), (FieldId(2), column(&[3]))],
        };
        let found = without_empty(rows);
        assert_eq!(found.times, [11, 13]);
        assert_eq!(found.columns[0].1.presence, Presence::All);
        assert_eq!(found.columns[1].1.presence, Presence::Rows(vec![1]));
    }
}
