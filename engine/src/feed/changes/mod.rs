//! Changes: which ranges and which buckets a consumer has to look at again (ADR 0013).
//!
//! A subscription names a database or a measurement, and perhaps buckets. It has one **watermark**: the greatest time of a
//! row that it was told of, where a row that is ahead of the wall clock of its commit counts as that clock. The **horizon** is the
//! watermark less `grace`; with buckets, the start of the bucket which that lies in. A bucket that ends at or before the
//! horizon is **finished**.
//!
//! Promise, for the answers of functions over the values that a bucket holds:
//! 1. Each bucket that the horizon passes is announced once, as [`ChangeEvent::Finished`], in order and without holes. A
//!    subscription without a cursor begins at the watermark of what is stored; one of an empty store with the bucket of its
//!    first row, or that of the horizon if it is earlier.
//! 2. Each finished bucket whose answer changed is then announced: as [`ChangeEvent::Revised`], or within the times of a
//!    [`ChangeEvent::Dirty`]. Without buckets, every change is within an [`ChangeEvent::Appended`] or a `Dirty`.
//! 3. Whoever asks a query after having heard of a change gets an answer that holds it, and whoever asks for changes after a
//!    write was answered hears of it.
//! 4. Going on from the cursor of an answer, with the same request, promises 1 and 2 hold over restarts, also by `kill -9`.
//!    What is not kept any more is told as `Dirty` with [`Cause::Missed`].
//!
//! Allowed: an event for a bucket whose answer did not change, where a row was written again with its old value, where a
//! delete, a cutoff or damage met no row of the bucket, and after a restart for all that is hidden by age. Events of one answer
//! are joined where they say the same. A `Dirty` may reach further than what changed, never less far.
//!
//! Functions between points (`integral`, `increase` ...) look at neighbours outside their bucket: where one was revised, the
//! buckets within `gap` of it may have changed too, and a `grace` of at least the pause between rows is wanted.
//!
//! Bounds: an answer has at most `limit` events. What a single change needs beyond that is told as one `Dirty` that holds it, with
//! [`Cause::Many`] where buckets were finished or several causes are joined. A reader holds one answer and [`LOOK_ENTRIES`]
//! entries of the feed.

mod cursor;
mod event;
mod request;
mod told;

pub use cursor::ChangeCursor;
pub use event::{ChangeEvent, Changes, Subject};
pub use request::{BucketRule, ChangeRequest, ChangeStart};

use super::extent::{ALL_TIME, Cause, Extent, Scope};
use super::{CommittedBatch, Cursor, Entry, Place, Shared as FeedShared, What};
use crate::catalog::Catalog;
use crate::engine::Shared;
use crate::ids::{LogId, MeasurementId, NamespaceId};
use crate::query::{self, Aggregate, Buckets, CancelFlag, Every, QueryError};
use crate::snapshot::Snapshot;
use cursor::Known;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use told::{Told, Touched, widen};

/// A subscription at work.
#[derive(Debug)]
pub struct ChangeReader {
    feed: Arc<FeedShared>,
    shared: Arc<Shared>,
    request: ChangeRequest,
    buckets: Option<Buckets>,
    place: Place,
    log_id: LogId,
    watermark: Option<i64>,
    /// The cursor is of an end that was lost, or of another store.
    lost: bool,
    /// What the filter says of measurements that were met.
    names: HashMap<(NamespaceId, MeasurementId), Option<Subject>>,
}

/// Entries of the feed that are looked at together.
const LOOK_ENTRIES: usize = 256;
/// How often a reader that waits looks whether its caller is still there.
const CANCEL_LOOK: Duration = Duration::from_millis(250);
/// A reader that nothing concerned rests for so long: a busy feed does not wake it for each body.
const REST: Duration = Duration::from_millis(10);
/// How long a body that was answered may take to come in, on a machine that does not come to it.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest wait.
const MAX_WAIT: Duration = Duration::from_hours(1);
/// Measurements whose names a reader remembers.
const MAX_NAMES: usize = 4096;

enum Look {
    Entries(Vec<Entry>),
    Missed(Place, LogId, Vec<Extent>),
    Nothing,
    Closed,
}

/// What one change comes to.
struct Judged {
    events: Vec<ChangeEvent>,
    watermark: Option<i64>,
}

/// Buckets of a range.
enum Spans {
    Each(Vec<Range<i64>>),
    /// More than events may tell, with the outer borders.
    Wide(Range<i64>),
}

impl ChangeReader {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        mut request: ChangeRequest,
        start: ChangeStart,
    ) -> Result<Self, QueryError> {
        request.limit = request.limit.max(1);
        let buckets = match &request.buckets {
            None => None,
            Some(BucketRule { every: Every::Parts(_), .. }) => return Err(QueryError::BadBucket),
            Some(BucketRule { every, offset_ns, zone }) => {
                let (every, offset_ns, zone) = (Some(*every), *offset_ns, zone.clone());
                let asked = Aggregate { every, offset_ns, zone, ..Aggregate::default() };
                Some(Buckets::new(&asked, ALL_TIME).ok_or(QueryError::BadBucket)?)
            }
        };
        let feed = shared.feed.shared();
        let mut state = feed.state.lock();
        state.history.watched = true;
        let newest = state.history.end().max(Place::of_record(state.newest.seq));
        let (place, log_id, lost) = match start {
            ChangeStart::Now => (newest, state.newest.log_id, false),
            ChangeStart::After(ChangeCursor { at, known }) => {
                let edit = known.map_or(0, |known| known.edit);
                if state.is_lost(at) {
                    (Place::of_record(state.opened.seq), state.opened.log_id, true)
                } else if at.seq > state.newest.seq {
                    (newest, state.newest.log_id, true)
                } else if edit > state.edit {
                    (Place::of_record(at.seq), at.log_id, true)
                } else {
                    (Place { seq: at.seq, edit }, at.log_id, false)
                }
            }
        };
        drop(state);
        let watermark = match start {
            ChangeStart::After(ChangeCursor { known: Some(known), .. }) => known.watermark,
            _ => stored_watermark(shared, &request)?,
        };
        let (shared, names) = (shared.clone(), HashMap::new());
        Ok(Self { feed, shared, request, buckets, place, log_id, watermark, lost, names })
    }

    /// Where to go on after all that was told so far.
    pub fn cursor(&self) -> ChangeCursor {
        ChangeCursor {
            at: Cursor { log_id: self.log_id, seq: self.place.seq },
            known: Some(Known { edit: self.place.edit, watermark: self.watermark }),
        }
    }

    /// What changed since the last call, waiting for it for at most `wait` (an hour).
    pub fn next(&mut self, wait: Duration, cancel: &CancelFlag) -> Changes {
        let deadline = Instant::now() + wait.min(MAX_WAIT);
        let mut told = Told::default();
        loop {
            match self.look(deadline, cancel) {
                Look::Nothing => return self.answer(told, false),
                Look::Closed => return self.answer(told, true),
                Look::Missed(upto, log_id, extents) => {
                    self.shared.metrics.changes_missed.add(1);
                    let judged = self.judge_missed(&extents);
                    self.lost = false;
                    (self.place, self.log_id) = (upto, log_id);
                    self.watermark = judged.watermark;
                    told.add_all(judged.events);
                }
                Look::Entries(entries) => {
                    for entry in entries {
                        let judged = match &entry.what {
                            What::Batch(batch) => self.judge_batch(batch),
                            What::Extents(extents) => {
                                let events = self.judge_extents(extents);
                                Judged { events, watermark: self.watermark }
                            }
                        };
                        if !told.has_room(judged.events.len(), self.request.limit) {
                            return self.answer(told, false);
                        }
                        (self.place, self.log_id) = (entry.place, entry.log_id);
                        self.watermark = judged.watermark;
                        told.add_all(judged.events);
                    }
                }
            }
            if !told.events.is_empty() || cancel.is_cancelled() {
                return self.answer(told, false);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(REST.min(left));
        }
    }

    fn answer(&self, told: Told, closed: bool) -> Changes {
        self.shared.metrics.change_events.add(told.events.len() as u64);
        Changes { events: told.events, cursor: self.cursor(), closed }
    }

    /// What the feed has for this reader.
    fn look(&self, deadline: Instant, cancel: &CancelFlag) -> Look {
        let mut state = self.feed.state.lock();
        // Whoever asks after a writer was answered is told what it wrote: that is on its way.
        let (answered, settling) = (state.newest.seq, Instant::now() + SETTLE);
        while state.settled < answered && !state.closed {
            if self.feed.changed.wait_until(&mut state, settling).timed_out() {
                break;
            }
        }
        loop {
            if self.lost {
                return Look::Missed(self.place, self.log_id, vec![Extent::everything()]);
            }
            if let Some((upto, extents)) = state.history.missed_after(self.place) {
                return Look::Missed(upto, state.log_of(upto.seq), extents);
            }
            let entries: Vec<Entry> = state.history.after(self.place).take(LOOK_ENTRIES).cloned().collect();
            if !entries.is_empty() {
                return Look::Entries(entries);
            }
            if state.closed {
                return Look::Closed;
            }
            let now = Instant::now();
            if now >= deadline || cancel.is_cancelled() {
                return Look::Nothing;
            }
            self.feed.changed.wait_until(&mut state, deadline.min(now + CANCEL_LOOK));
        }
    }

    fn judge_batch(&mut self, batch: &CommittedBatch) -> Judged {
        let horizon = self.horizon(self.watermark);
        let mut touched: BTreeMap<MeasurementId, (Subject, Touched)> = BTreeMap::new();
        let mut rows: Option<Range<i64>> = None;
        for series in &batch.batches {
            let Some(subject) = self.subject(batch.namespace, series.measurement) else { continue };
            let (_, touched) =
                touched.entry(series.measurement).or_insert_with(|| (subject, Touched::default()));
            touched.rows(&series.times, horizon, self.buckets.as_ref(), self.request.limit);
            series.times.iter().for_each(|time| widen(&mut rows, *time));
        }
        let mut events = Vec::new();
        for (of, touched) in touched.into_values() {
            touched.events(&of, self.buckets.as_ref(), &mut events);
        }
        let Some(rows) = rows else { return Judged { events, watermark: self.watermark } };
        let reached = (rows.end - 1).min(batch.wall.0);
        let mut events = self.bounded(events, Cause::Many);
        let watermark = Some(self.watermark.map_or(reached, |before| before.max(reached)));
        self.finish(rows.start, watermark, &mut events);
        Judged { events: self.bounded(events, Cause::Many), watermark }
    }

    fn judge_missed(&mut self, extents: &[Extent]) -> Judged {
        let mut events = self.judge_extents(extents);
        let (mut newest, mut first) = (None, i64::MAX);
        for extent in extents {
            if extent.cause != Cause::Missed || self.subjects(extent).is_empty() {
                continue;
            }
            first = first.min(extent.times.start);
            newest = newest.max(match extent.namespace {
                Some(_) => Some((extent.times.end - 1).min(self.shared.clock.wall().0)),
                // An error is one of the names of series: the watermark waits for the next row then.
                None => stored_watermark(&self.shared, &self.request).unwrap_or_default(),
            });
        }
        let watermark = self.watermark.max(newest);
        self.finish(first, watermark, &mut events);
        Judged { events: self.bounded(events, Cause::Many), watermark }
    }

    fn judge_extents(&mut self, extents: &[Extent]) -> Vec<ChangeEvent> {
        let horizon = self.horizon(self.watermark);
        let mut events = Vec::new();
        for extent in extents {
            let (cause, mut times) = (extent.cause, extent.times.clone());
            if self.buckets.is_some() {
                times.end = times.end.min(horizon);
            }
            if times.is_empty() {
                continue;
            }
            let fields = extent.fields.as_ref().map(|fields| self.field_names(fields));
            for of in self.subjects(extent) {
                let dirty =
                    |times| ChangeEvent::Dirty { of: of.clone(), times, fields: fields.clone(), cause };
                match self.spans(times.clone()) {
                    None => events.push(dirty(times.clone())),
                    Some(Spans::Wide(times)) => events.push(dirty(times)),
                    Some(Spans::Each(buckets)) => {
                        let revised = |bucket| ChangeEvent::Revised { of: of.clone(), bucket, cause };
                        events.extend(buckets.into_iter().map(revised));
                    }
                }
                if events.len() > self.request.limit {
                    // Bounded at once: a delete may name thousands of measurements.
                    events = self.bounded(events, Cause::Many);
                }
            }
        }
        events
    }

    /// Adds the buckets that the horizon passes when the watermark becomes `after`; `first` is a row of the first of them if
    /// there was no watermark.
    fn finish(&self, first: i64, after: Option<i64>, events: &mut Vec<ChangeEvent>) {
        let Some(buckets) = &self.buckets else { return };
        let before = match self.watermark {
            Some(_) => self.horizon(self.watermark),
            None => buckets.of(first).start,
        };
        let passed = before..self.horizon(after);
        if passed.is_empty() {
            return;
        }
        match self.spans(passed) {
            Some(Spans::Each(passed)) => {
                events.extend(passed.into_iter().map(|bucket| ChangeEvent::Finished { bucket }));
            }
            Some(Spans::Wide(times)) => {
                let (of, cause) = (self.asked(), Cause::Many);
                events.push(ChangeEvent::Dirty { of, times, fields: None, cause });
            }
            None => {}
        }
    }

    /// No more than `limit` events: others become one that holds them all.
    fn bounded(&self, events: Vec<ChangeEvent>, cause: Cause) -> Vec<ChangeEvent> {
        if events.len() <= self.request.limit {
            return events;
        }
        let mut hull: Option<Range<i64>> = None;
        for event in &events {
            let (ChangeEvent::Appended { times, .. }
            | ChangeEvent::Dirty { times, .. }
            | ChangeEvent::Finished { bucket: times }
            | ChangeEvent::Revised { bucket: times, .. }) = event;
            widen(&mut hull, times.start);
            widen(&mut hull, times.end - 1);
        }
        let times = hull.unwrap_or(ALL_TIME);
        vec![ChangeEvent::Dirty { of: self.asked(), times, fields: None, cause }]
    }

    /// First instant that is not finished.
    fn horizon(&self, watermark: Option<i64>) -> i64 {
        let Some(watermark) = watermark else { return i64::MIN };
        let edge = watermark.saturating_sub_unsigned(self.request.grace_ns);
        self.buckets.as_ref().map_or(edge, |buckets| buckets.of(edge).start)
    }

    /// The buckets that meet a range that is not empty; none if none were asked for.
    fn spans(&self, times: Range<i64>) -> Option<Spans> {
        let buckets = self.buckets.as_ref()?;
        let mut found: Vec<Range<i64>> = Vec::new();
        let mut next = times.start;
        while next < times.end {
            if found.len() >= self.request.limit {
                return Some(Spans::Wide(found[0].start..buckets.of(times.end - 1).end));
            }
            let bucket = buckets.of(next);
            next = bucket.end;
            found.push(bucket);
        }
        Some(Spans::Each(found))
    }

    /// What was asked for, as far as it is named.
    fn asked(&self) -> Subject {
        let name = |name: &Option<String>| name.as_deref().map(Arc::from);
        Subject {
            database: name(&self.request.database),
            retention_policy: name(&self.request.retention_policy),
            measurement: name(&self.request.measurement),
        }
    }

    /// The names of a measurement, if it was asked for.
    fn subject(&mut self, namespace: NamespaceId, measurement: MeasurementId) -> Option<Subject> {
        if let Some(known) = self.names.get(&(namespace, measurement)) {
            return known.clone();
        }
        let catalog = &self.shared.catalog;
        let found = namespace_asked_for(catalog, &self.request, namespace).and_then(|of| {
            let name = catalog.measurement_name(measurement)?;
            let wanted = self.request.measurement.as_ref().is_none_or(|wanted| **wanted == *name);
            wanted.then_some(Subject { measurement: Some(name), ..of })
        });
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert((namespace, measurement), found.clone());
        found
    }

    /// Whom of those that were asked for an extent concerns.
    fn subjects(&mut self, extent: &Extent) -> Vec<Subject> {
        let Some(namespace) = extent.namespace else { return vec![self.asked()] };
        if let Scope::One(measurement) = extent.scope {
            return self.subject(namespace, measurement).into_iter().collect();
        }
        let shared = self.shared.clone();
        let Some(of) = namespace_asked_for(&shared.catalog, &self.request, namespace) else {
            return Vec::new();
        };
        let Some(name) = &self.request.measurement else { return vec![of] };
        let id = shared.catalog.measurement(namespace, name).filter(|id| extent.scope.holds(*id));
        id.and_then(|id| self.subject(namespace, id)).into_iter().collect()
    }

    fn field_names(&self, fields: &[crate::ids::FieldId]) -> Vec<String> {
        let name = |id: &crate::ids::FieldId| {
            self.shared.catalog.field_by_id(*id).map(|(_, field)| field.name.to_string())
        };
        let mut names: Vec<String> = fields.iter().filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Names of a namespace, if it was asked for.
fn namespace_asked_for(catalog: &Catalog, request: &ChangeRequest, id: NamespaceId) -> Option<Subject> {
    let (database, policy) = catalog.namespace_name(id)?;
    let wanted = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| *asked == name);
    let both = wanted(&request.database, &database) && wanted(&request.retention_policy, &policy);
    both.then_some(Subject { database: Some(database), retention_policy: Some(policy), measurement: None })
}

/// The watermark of what is stored.
fn stored_watermark(shared: &Arc<Shared>, request: &ChangeRequest) -> Result<Option<i64>, QueryError> {
    let snapshot = Snapshot::take(shared);
    let mut newest = None;
    for (namespace, ..) in shared.catalog.namespaces() {
        if namespace_asked_for(&shared.catalog, request, namespace).is_none() {
            continue;
        }
        if let Some(name) = &request.measurement {
            if let Some(id) = shared.catalog.measurement(namespace, name) {
                newest = newest.max(query::time_range(&snapshot, namespace, id)?.map(|(_, last)| last));
            }
            continue;
        }
        let sealed = snapshot.segments().iter().map(|handle| handle.entry());
        let sealed = sealed.filter(|entry| entry.namespace == namespace && !entry.quarantined);
        newest = newest.max(sealed.map(|entry| entry.last_time).max());
        for memtable in snapshot.memtables() {
            newest = newest.max(memtable.newest(namespace));
        }
    }
    Ok(newest.map(|newest| newest.min(shared.clock.wall().0)))
}
