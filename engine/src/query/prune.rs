//! Which segments a query has to read, opened when first needed; and what could not be read.
//!
//! A segment that is lost (set aside, or damaged beyond its blocks) is no error: the answer says which time may lack
//! values. It also hides what older segments hold in that time, see `scan`.

use super::error::QueryError;
use super::plan::Plan;
use super::request::{Order, QueryControl, QueryLimits, QueryRequest};
use super::result::{PartialRange, ResultValues};
use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq};
use crate::retention::{NO_CUTOFF, Purpose};
use crate::segment::{Section, Segment, SegmentError, SegmentHandle};
use crate::snapshot::Snapshot;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wattlog_model::Timestamp;

/// A segment that can hold rows of the answer. It is not kept open between uses: that is up to the set of segments,
/// which bounds how many are.
#[derive(Debug)]
pub(super) struct Source {
    handle: Arc<SegmentHandle>,
    /// Set at its first use.
    state: OnceLock<SourceState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SourceState {
    /// It cannot be read, for this reason.
    Lost(String),
    /// It has no rows of the measurement with a field of the answer.
    Empty,
    Used,
}

/// An open segment with rows of the measurement.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    pub(super) section: Arc<Section>,
}

/// What a source turned out to be.
#[derive(Debug)]
pub(super) enum Opened {
    Lost,
    Empty,
    Rows(Open),
}

/// The segments of a query by precedence: a later one overrides an earlier one.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) list: Vec<Source>,
    /// Segments of the namespace that were left out.
    pub(super) pruned: u64,
}

impl Sources {
    pub(super) fn new(snapshot: &Snapshot, plan: &Plan) -> Self {
        let segments = snapshot.segments();
        let list: Vec<Source> = segments
            .for_range(plan.namespace, plan.measurement, plan.range.clone())
            .map(|handle| Source { handle: handle.clone(), state: OnceLock::new() })
            .collect();
        let of_namespace = segments.iter().filter(|h| h.entry().namespace == plan.namespace).count();
        Self { pruned: (of_namespace - list.len()) as u64, list }
    }

    /// Rows of all of them together in `range`, as if those of each were evenly spread over its time.
    pub(super) fn rows(&self, range: &Range<i64>) -> u64 {
        let of_source = |source: &Source| {
            let (first, last) = source.times();
            let whole = i128::from(last) - i128::from(first) + 1;
            let part = i128::from(range.end.min(last.saturating_add(1))) - i128::from(range.start.max(first));
            (i128::from(source.handle.entry().rows) * part.clamp(0, whole) / whole) as u64
        };
        self.list.iter().map(of_source).sum()
    }
}

impl Source {
    /// First and last time of its rows, both inclusive.
    pub(super) fn times(&self) -> (i64, i64) {
        let entry = self.handle.entry();
        (entry.first_time, entry.last_time)
    }

    /// Last commit whose rows it holds.
    pub(super) fn max_seq(&self) -> Seq {
        self.handle.entry().max_seq
    }

    pub(super) fn id(&self) -> SegmentId {
        self.handle.entry().id
    }

    /// The segment, opened now if it is not; if it is lost, `losses` knows.
    ///
    /// # Errors
    /// [`QueryError::NoResources`]: the machine cannot open it now, which says nothing about the file.
    pub(super) fn open(&self, plan: &Plan, losses: &Losses<'_>) -> Result<Opened, QueryError> {
        match self.state.get() {
            Some(SourceState::Lost(reason)) => {
                // Each part of an export has losses of its own.
                losses.add(self.id(), None, self.times(), reason);
                return Ok(Opened::Lost);
            }
            Some(SourceState::Empty) => return Ok(Opened::Empty),
            Some(SourceState::Used) | None => {}
        }
        if self.handle.entry().quarantined {
            let reason = "the segment was set aside because it is damaged";
            losses.add(self.id(), None, self.times(), reason);
            _ = self.state.set(SourceState::Lost(reason.to_owned()));
            return Ok(Opened::Lost);
        }
        let opened = self.handle.open().and_then(|segment| {
            let section = segment.section(plan.measurement)?;
            let wanted = section.map(|section| wanted(&segment, section, plan)).transpose()?;
            Ok(wanted.flatten().map(|section| Open { segment, section }))
        });
        let (state, opened) = match opened {
            Ok(Some(open)) => (SourceState::Used, Opened::Rows(open)),
            Ok(None) => (SourceState::Empty, Opened::Empty),
            Err(error) if error.is_out_of_resources() => {
                return Err(QueryError::NoResources(error.to_damage().to_string()));
            }
            Err(error) => {
                losses.add_error(self.id(), None, self.times(), &error);
                (SourceState::Lost(error.to_damage().to_string()), Opened::Lost)
            }
        };
        _ = self.state.set(state);
        Ok(opened)
    }
}

/// The section, if it has a field of the answer; its types must be those of the catalog.
fn wanted(
    segment: &Segment,
    section: Arc<Section>,
    plan: &Plan,
) -> Result<Option<Arc<Section>>, SegmentError> {
    let mut found = false;
    for field in &plan.fields {
        let Some(place) = section.field_place(field.def.id) else { continue };
        let (expected, own) = (field.def.field_type, section.fields()[place].field_type);
        if expected != own {
            return Err(segment.damage("field_type", 0, expected as u64, own as u64).into());
        }
        found = true;
    }
    Ok(found.then_some(section))
}

/// What could not be read, gathered by all threads of a query.
#[derive(Debug)]
pub(super) struct Losses<'a> {
    snapshot: &'a Snapshot,
    range: Range<i64>,
    list: Mutex<Vec<(SegmentId, Option<FieldId>, PartialRange)>>,
}

impl<'a> Losses<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, range: Range<i64>) -> Self {
        Self { snapshot, range, list: Mutex::default() }
    }

    /// Notes a loss (`times` inclusive); losses of one field in one segment are told as one stretch.
    pub(super) fn add(&self, segment: SegmentId, field: Option<FieldId>, times: (i64, i64), reason: &str) {
        let first = times.0.max(self.range.start);
        let last = times.1.min(self.range.end - 1);
        let mut list = self.list.lock();
        match list.iter_mut().find(|(s, f, _)| (*s, *f) == (segment, field)) {
            Some((.., known)) => {
                known.first = known.first.min(first);
                known.last = known.last.max(last);
            }
            None => {
                let reason = reason.to_owned();
                let loss = PartialRange { segment: Some(segment), field: None, first, last, reason };
                list.push((segment, field, loss));
            }
        }
    }

    /// The same for an error, which is also reported to the store.
    pub(super) fn add_error(
        &self,
        segment: SegmentId,
        field: Option<FieldId>,
        times: (i64, i64),
        error: &SegmentError,
    ) {
        let damage: Damage = error.to_damage();
        self.snapshot.report_damage(&damage);
        self.add(segment, field, times, &damage.to_string());
    }

    /// What was lost first, if anything was.
    pub(super) fn first(&self) -> Option<(SegmentId, String)> {
        self.list.lock().first().map(|(segment, _, loss)| (*segment, loss.reason.clone()))
    }

    /// Tells the store of damage that costs the answer nothing.
    pub(super) fn report(&self, error: &SegmentError) {
        self.snapshot.report_damage(&error.to_damage());
    }

    pub(super) fn into_ranges(self, plan: &Plan) -> Vec<PartialRange> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|(segment, field, _)| (*segment, *field));
        let named = |(_, field, loss): (_, Option<FieldId>, PartialRange)| {
            let slot = field.and_then(|field| plan.slot(field));
            PartialRange { field: slot.map(|slot| plan.def(slot).name.to_string()), ..loss }
        };
        list.into_iter().map(named).collect()
    }
}

/// How long rows are looked for where deletes or retention may hide the first or the last.
const LOOK_FOR_ROWS: Duration = Duration::from_secs(1);

/// First and last time of all rows of a measurement, lost segments left out; none if it has no rows.
pub fn time_range(
    snapshot: &Snapshot,
    namespace: NamespaceId,
    measurement: MeasurementId,
) -> Result<Option<(i64, i64)>, QueryError> {
    let cutoff_ns = snapshot.cutoff(namespace, measurement, Purpose::Hide);
    if (cutoff_ns != NO_CUTOFF || snapshot.tombstones_of(measurement).next().is_some())
        && let Ok(found) = time_range_of_rows(snapshot, namespace, measurement)
    {
        return Ok(found);
    }
    let mut found: Option<(i64, i64)> = None;
    for series in snapshot.catalog().select(measurement, &[])? {
        for memtable in snapshot.memtables() {
            widen(&mut found, memtable.time_range(series, snapshot.seq()));
        }
    }
    let mut handles: Vec<&Arc<SegmentHandle>> =
        snapshot.segments().for_range(namespace, measurement, i64::MIN..i64::MAX).collect();
    handles.retain(|handle| !handle.entry().quarantined);
    // From either end, until no segment that follows can reach further: history between the ends is not opened.
    handles.sort_by_key(|handle| handle.entry().first_time);
    for handle in &handles {
        if found.is_some_and(|(first, _)| first <= handle.entry().first_time) {
            break;
        }
        widen(&mut found, rows_of(snapshot, handle, measurement));
    }
    handles.sort_by_key(|handle| std::cmp::Reverse(handle.entry().last_time));
    for handle in &handles {
        if found.is_some_and(|(_, last)| last >= handle.entry().last_time) {
            break;
        }
        widen(&mut found, rows_of(snapshot, handle, measurement));
    }
    Ok(found.filter(|(_, last)| *last >= cutoff_ns).map(|(first, last)| (first.max(cutoff_ns), last)))
}

/// The same by looking for the oldest and the newest row of each series: what deletes and retention hide is not in the answer. Where that
/// takes too long, the range of the files has to do until they were rewritten.
fn time_range_of_rows(
    snapshot: &Snapshot,
    namespace: NamespaceId,
    measurement: MeasurementId,
) -> Result<Option<(i64, i64)>, QueryError> {
    let catalog = snapshot.catalog();
    let names = catalog.namespace_name(namespace).zip(catalog.measurement_name(measurement));
    let Some(((database, policy), name)) = names else { return Ok(None) };
    let mut request = QueryRequest::raw(&database, &name, Timestamp(i64::MIN), Timestamp(i64::MAX));
    request.retention_policy = Some(policy.to_string());
    request.limit = Some(1);
    let control = QueryControl { deadline: Some(Instant::now() + LOOK_FOR_ROWS), ..QueryControl::default() };
    let mut found = None;
    for order in [Order::Ascending, Order::Descending] {
        request.order = order;
        let answer = super::run(snapshot, &request, &QueryLimits::default(), &control)?;
        for series in answer.series {
            let times = series.columns.iter().find_map(|column| match &column.values {
                ResultValues::Time(times) => times.first().copied().flatten(),
                _ => None,
            });
            widen(&mut found, times.map(|time| (time, time)));
        }
    }
    Ok(found)
}

fn widen(found: &mut Option<(i64, i64)>, more: Option<(i64, i64)>) {
    if let Some((first, last)) = more {
        *found = Some(found.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    }
}

/// First and last time of a measurement's rows in a segment; none if it has none or cannot be read, which is reported.
fn rows_of(
    snapshot: &Snapshot,
    handle: &Arc<SegmentHandle>,
    measurement: MeasurementId,
) -> Option<(i64, i64)> {
    let entry = handle.entry();
    if entry.measurement == Some(measurement) {
        return Some((entry.first_time, entry.last_time));
    }
    match handle.open().and_then(|segment| segment.section(measurement)) {
        Ok(section) => section.map(|section| section.time_range()),
        Err(error) => {
            snapshot.report_damage(&error.to_damage());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;
    use crate::query::budget::Budget;
    use crate::query::{QueryControl, QueryLimits, QueryRequest};
    use crate::{Engine, Options, WriteBatch};
    use wattlog_model::{ManualClock, TagSet, Timestamp};

    #[test]
    fn rows_are_estimated_by_the_time_asked_for() {
        let clock = Arc::new(ManualClock::new(Timestamp(5)));
        let options = Options { ballast_bytes: 0, ..Options::default() };
        let engine = Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).unwrap();
        let mut batch = WriteBatch::new("d", None);
        let slot = batch.series("m", &TagSet::default());
        (0..1000).for_each(|second| batch.row(slot, Timestamp(second), 1).float("v", 1.0));
        engine.write(batch).unwrap();
        engine.seal().unwrap();
        let snapshot = engine.snapshot();
        let request = QueryRequest::raw("d", "m", Timestamp::MIN, Timestamp::MAX);
        let (limits, control) = (QueryLimits::default(), QueryControl::default());
        let plan = Plan::new(&snapshot, &request, &limits, &Budget::new(&limits, &control)).unwrap().unwrap();
        let sources = Sources::new(&snapshot, &plan);
        for (range, rows) in [
            (i64::MIN..i64::MAX, 1000),
            (100..200, 100),
            (-50..10, 10),
            (999..5000, 1),
            (1000..1001, 0),
            (5..5, 0),
        ] {
            assert_eq!(sources.rows(&range), rows, "{range:?}");
        }
    }

    #[test]
    fn a_query_keeps_no_segment_open_that_it_has_done_with() {
        // Merges hold their inputs open too.
        let options = Options {
            ballast_bytes: 0,
            max_open_maps: 3,
            compaction_bytes_per_second: 0,
            ..Options::default()
        };
        let clock = Arc::new(ManualClock::new(Timestamp(5)));
        let engine = Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).unwrap();
        for second in 0..12 {
            let mut batch = WriteBatch::new("d", None);
            let slot = batch.series("m", &TagSet::default());
            batch.row(slot, Timestamp(second), 1).float("v", 1.0);
            engine.write(batch).unwrap();
            engine.seal().unwrap();
        }
        let snapshot = engine.snapshot();
        let request = QueryRequest::raw("d", "m", Timestamp::MIN, Timestamp::MAX);
        let (limits, control) = (QueryLimits::default(), QueryControl::default());
        let plan = Plan::new(&snapshot, &request, &limits, &Budget::new(&limits, &control)).unwrap().unwrap();
        let (sources, losses) = (Sources::new(&snapshot, &plan), Losses::new(&snapshot, plan.range.clone()));
        let opened = sources.list.iter().map(|source| match source.open(&plan, &losses).unwrap() {
            Opened::Rows(open) => Arc::downgrade(&open.segment),
            other => panic!("a whole segment with rows is {other:?}"),
        });
        let opened: Vec<_> = opened.collect();
        assert_eq!(opened.len(), 12);
        assert!(opened.iter().filter(|segment| segment.strong_count() > 0).count() <= 3);
    }
}
