//! Which segments a query has to read, opened when first needed; and what could not be read.
//!
//! A segment that is lost (set aside, or damaged beyond its blocks) is no error: the answer says which time may lack
//! values. It also hides what older segments hold in that time, see `scan`.

use super::plan::Plan;
use super::result::PartialRange;
use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, NamespaceId, SegmentId};
use crate::segment::{Section, Segment, SegmentError, SegmentHandle};
use crate::snapshot::Snapshot;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A segment that can hold rows of the answer.
#[derive(Debug)]
pub(super) struct Source {
    handle: Arc<SegmentHandle>,
    /// Opened once per query; none if it is lost.
    opened: OnceLock<Option<Open>>,
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    /// The measurement's rows in it, if it has any with a field of the answer.
    pub(super) section: Option<Arc<Section>>,
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
            .map(|handle| Source { handle: handle.clone(), opened: OnceLock::new() })
            .collect();
        let of_namespace = segments.iter().filter(|h| h.entry().namespace == plan.namespace).count();
        Self { pruned: (of_namespace - list.len()) as u64, list }
    }

    /// Rows in all of them together: an estimate of the work from above.
    pub(super) fn rows(&self) -> u64 {
        self.list.iter().map(|source| source.handle.entry().rows).sum()
    }
}

impl Source {
    /// First and last time of its rows, both inclusive.
    pub(super) fn times(&self) -> (i64, i64) {
        let entry = self.handle.entry();
        (entry.first_time, entry.last_time)
    }

    pub(super) fn id(&self) -> SegmentId {
        self.handle.entry().id
    }

    /// The segment; none if it is lost, which `losses` then knows.
    pub(super) fn open(&self, plan: &Plan, losses: &Losses<'_>) -> Option<&Open> {
        let open = || {
            if self.handle.entry().quarantined {
                losses.add(self.id(), None, self.times(), "the segment was set aside because it is damaged");
                return None;
            }
            let opened = self.handle.open().and_then(|segment| {
                let section = segment.section(plan.measurement)?;
                let wanted =
                    |section: &Arc<Section>| plan.ids.iter().any(|id| section.field_place(*id).is_some());
                Ok(Open { segment, section: section.filter(wanted) })
            });
            opened.inspect_err(|error| losses.add_error(self.id(), None, self.times(), error)).ok()
        };
        self.opened.get_or_init(open).as_ref()
    }
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

/// First and last time of all rows of a measurement, lost segments left out; none if it has no rows.
pub fn time_range(
    snapshot: &Snapshot,
    namespace: NamespaceId,
    measurement: MeasurementId,
) -> Result<Option<(i64, i64)>, super::QueryError> {
    let mut found: Option<(i64, i64)> = None;
    let mut widen = |(first, last): (i64, i64)| {
        found = Some(found.map_or((first, last), |(a, b)| (a.min(first), b.max(last))));
    };
    for series in snapshot.catalog().select(measurement, &[])? {
        for memtable in snapshot.memtables() {
            memtable.time_range(series, snapshot.seq()).into_iter().for_each(&mut widen);
        }
    }
    for handle in snapshot.segments().for_range(namespace, measurement, i64::MIN..i64::MAX) {
        let entry = handle.entry();
        if entry.quarantined {
            continue;
        }
        if entry.measurement == Some(measurement) {
            widen((entry.first_time, entry.last_time));
            continue;
        }
        match handle.open().and_then(|segment| segment.section(measurement)) {
            Ok(section) => section.map(|section| section.time_range()).into_iter().for_each(&mut widen),
            Err(error) => snapshot.report_damage(&error.to_damage()),
        }
    }
    Ok(found)
}
