//! Compaction: many segments become few, without holding up writers or readers.
//!
//! Promise: answers are the same before and after, to the bit; what a power cut finds is either all of the old files or all
//! of the new ones. Order (format-spec.md section 8): write each file under a temporary name, sync it, rename it, sync the
//! folder; one manifest edit that names the new and drops the old; readers switch; an old file goes with its last reader.
//!
//! Invariants
//! 1. Inputs are neighbours in commit order among the files of their month (`plan`).
//! 2. A damaged input ends the attempt: a bad block is never copied forward with a good checksum. The file is left alone
//!    until the store is opened again.
//! 3. In the background it reads and writes no faster than the owner allows, and stops when the store closes.
//!
//! Threads: one, `wattlog-compactor`. `plan` chooses (pure), `run` acts.

mod plan;
mod run;

use crate::engine::Shared;
use crate::error::{EngineError, is_disk_full};
use crate::ids::SegmentId;
use crate::retention::plan::{Span, Worth};
use crate::retention::{self, RetentionReport};
use crate::segment::{Section, SegmentError, SegmentHandle};
use crate::snapshot::View;
use crate::status::LastWork;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use plan::{Apart, Effort, Step, plan};
use run::{Failure, Pace};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What compactions did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionReport {
    /// Steps carried out.
    pub steps: u64,
    /// Files that were replaced.
    pub segments_before: u64,
    /// Files that stand for them.
    pub segments_after: u64,
    /// Bytes of the files replaced.
    pub bytes_before: u64,
    /// Bytes of the files written.
    pub bytes_after: u64,
}

impl CompactionReport {
    fn add(&mut self, step: Self) {
        self.steps += step.steps;
        self.segments_before += step.segments_before;
        self.segments_after += step.segments_after;
        self.bytes_before += step.bytes_before;
        self.bytes_after += step.bytes_after;
    }
}

/// What callers ask of the compacting thread.
#[derive(Debug)]
enum Request {
    /// Merge all that can be merged.
    Everything(Sender<Result<CompactionReport, EngineError>>),
    /// Look at the cutoffs, drop what is beyond them.
    Retain(Sender<Result<RetentionReport, EngineError>>),
}

/// The way to the compacting thread.
#[derive(Debug)]
pub(crate) struct Compactor {
    requests: Mutex<Option<Sender<Request>>>,
    orders: Arc<Orders>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a running step is told.
#[derive(Debug, Default)]
struct Orders {
    /// Give up: the store closes.
    stop: AtomicBool,
    /// So many callers wait: as fast as it goes.
    waiting: AtomicUsize,
}

/// An idle compactor looks this often.
const LOOK: Duration = Duration::from_secs(1);
/// Months that are over are merged once nothing was sealed for so long.
const QUIET: Duration = Duration::from_secs(60);
/// More deletes than this are applied although it is not quiet.
const MANY_TOMBSTONES: usize = 64;
/// Deletes are applied after so long at the latest.
const DELETES_WAIT: Duration = Duration::from_secs(600);
/// What the disk refused is tried again after so long; other files are merged meanwhile.
const FAILURE_PAUSE: Duration = Duration::from_secs(600);

/// A pass of retention that the disk refused is tried again after [`LOOK`], then after twice as long each time, this at most.
const MOST_RETENTION_PAUSE: Duration = Duration::from_secs(60);

impl Compactor {
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let (requests, queue) = unbounded();
        let orders = Arc::new(Orders::default());
        let worker = Worker::new(shared.clone(), orders.clone());
        let thread = std::thread::Builder::new().name("wattlog-compactor".to_owned());
        let thread = thread.spawn(move || worker.run(&queue)).expect("the system gives a thread at start");
        Self { requests: Mutex::new(Some(requests)), orders, thread: Mutex::new(Some(thread)) }
    }

    /// Merges all that can be merged now.
    pub(crate) fn everything(&self) -> Result<CompactionReport, EngineError> {
        self.ask(Request::Everything)
    }

    /// Moves cutoffs on and drops the files that have nothing to show any more.
    pub(crate) fn retain(&self) -> Result<RetentionReport, EngineError> {
        self.ask(Request::Retain)
    }

    fn ask<T>(
        &self,
        request: impl FnOnce(Sender<Result<T, EngineError>>) -> Request,
    ) -> Result<T, EngineError> {
        let (reply, answer) = bounded(1);
        self.orders.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.requests.lock().as_ref().map(|requests| requests.send(request(reply)));
        let answered = match sent {
            Some(Ok(())) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            _ => Err(EngineError::Closed),
        };
        self.orders.waiting.fetch_sub(1, Ordering::Relaxed);
        answered
    }

    /// Ends the thread; a step that runs is given up.
    pub(crate) fn stop(&self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        drop(self.requests.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the compacting thread ended in a panic");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    /// Inputs that are damaged.
    avoid: HashSet<SegmentId>,
    /// Inputs of steps that the disk refused, until they are tried again.
    postponed: HashSet<SegmentId>,
    postponed_until: Duration,
    /// Version of the view at the last look, and when a seal last changed it.
    seen: u64,
    changed: Duration,
    /// Since when there have been deletes to apply.
    deletes_since: Option<Duration>,
    /// Times of the measurements in files that retention may want written again.
    spans: HashMap<SegmentId, Vec<Span>>,
    /// Passes of retention that the disk refused one after the other, and when the next is due.
    retention_failures: u32,
    retention_due: Duration,
    /// What there was to plan with when nothing was found to do.
    idle: Option<(u64, i32, bool, bool)>,
}

impl Worker {
    fn new(shared: Arc<Shared>, orders: Arc<Orders>) -> Self {
        let now = shared.clock.monotonic();
        Self {
            shared,
            orders,
            avoid: HashSet::new(),
            postponed: HashSet::new(),
            postponed_until: now,
            seen: 0,
            changed: now,
            deletes_since: None,
            spans: HashMap::new(),
            retention_failures: 0,
            retention_due: now,
            idle: None,
        }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(LOOK) {
                Ok(Request::Everything(reply)) => drop(reply.send(self.everything())),
                Ok(Request::Retain(reply)) => {
                    let done = retention::pass(&self.shared);
                    drop(reply.send(done.map_err(|error| retention::failed(&error))));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.retain();
                    self.look(requests);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Retention goes on also where nothing is merged in the background.
    fn retain(&mut self) {
        let now = self.shared.clock.monotonic();
        if self.retention_failures > 0 && now < self.retention_due {
            return;
        }
        match retention::pass(&self.shared) {
            Ok(_) => self.retention_failures = 0,
            Err(error) => {
                if self.retention_failures == 0 {
                    tracing::warn!(%error, "retention could not go on; it is tried again, at least once a minute");
                }
                self.retention_due =
                    now + MOST_RETENTION_PAUSE.min(LOOK * (1 << self.retention_failures.min(6)));
                self.retention_failures = self.retention_failures.saturating_add(1);
            }
        }
    }

    /// Carries out what is due.
    fn look(&mut self, requests: &Receiver<Request>) {
        let rate = self.shared.options.compaction_bytes_per_second;
        let mut now = self.shared.clock.monotonic();
        if now >= self.postponed_until && !self.postponed.is_empty() {
            self.postponed.clear();
            self.idle = None;
        }
        while rate > 0 && requests.is_empty() && !self.orders.stop.load(Ordering::Relaxed) {
            let version = self.shared.view_version();
            if version != self.seen {
                self.seen = version;
                self.changed = now;
            }
            let quiet = now.saturating_sub(self.changed) >= QUIET;
            let deletes = self.shared.view().tombstones.len();
            self.deletes_since = if deletes == 0 { None } else { self.deletes_since.or(Some(now)) };
            let waited = self.deletes_since.is_some_and(|since| now.saturating_sub(since) >= DELETES_WAIT);
            let apply_deletes = deletes > 0 && (quiet || waited || deletes > MANY_TOMBSTONES);
            let today = self.shared.clock.wall().utc_day();
            let state = (version, today, quiet, apply_deletes);
            if self.idle == Some(state) {
                return;
            }
            let Some(step) = self.next(Effort::Due { quiet, apply_deletes }) else {
                self.forget_applied();
                self.idle = Some(state);
                return;
            };
            let done = self.step(&step, Some(rate));
            // The view changed by this step; that is no seal.
            self.seen = self.shared.view_version();
            if let Err(Failure::Closing) = done {
                return;
            }
            // There may be much to do; cutoffs move on meanwhile.
            now = self.shared.clock.monotonic();
            self.retain();
        }
    }

    fn everything(&mut self) -> Result<CompactionReport, EngineError> {
        retention::pass(&self.shared).map_err(|error| retention::failed(&error))?;
        self.postponed.clear();
        self.idle = None;
        let mut report = CompactionReport::default();
        while let Some(step) = self.next(Effort::Everything) {
            match self.step(&step, None) {
                Ok(done) => report.add(done),
                // The files are left out of the next plan.
                Err(Failure::Damaged(..)) => {}
                Err(Failure::Closing) => return Err(EngineError::Closed),
                Err(Failure::Disk(error)) => {
                    return Err(EngineError::Disk { action: "compact", message: error.to_string() });
                }
            }
        }
        self.forget_applied();
        Ok(report)
    }

    fn next(&mut self, effort: Effort) -> Option<Step> {
        let view = self.shared.view();
        let entries: Vec<_> = view.segments.iter().map(|handle| handle.entry()).collect();
        let today = self.shared.clock.wall().utc_day();
        let worth = match effort {
            Effort::Due { .. } => Worth::WholeMeasurement,
            Effort::Everything => Worth::AnyRow,
        };
        let avoid: HashSet<SegmentId> = self.avoid.union(&self.postponed).copied().collect();
        let pack_before = plan::pack_before(today, self.shared.options.pco_after);
        let apart = Apart { aged: self.aged(&view, worth, &avoid), avoid, pack_before };
        plan(&entries, &view.tombstones, today, effort, &apart)
    }

    /// Files that are worth writing again for what retention hides in them.
    fn aged(&mut self, view: &View, worth: Worth, avoid: &HashSet<SegmentId>) -> HashSet<SegmentId> {
        let mut aged = HashSet::new();
        if !view.retentions.is_proven() || view.retentions.is_empty() {
            return aged;
        }
        let there: HashSet<SegmentId> = view.segments.iter().map(|handle| handle.entry().id).collect();
        self.spans.retain(|id, _| there.contains(id));
        for handle in view.segments.iter() {
            let entry = handle.entry();
            if avoid.contains(&entry.id) || !retention::plan::may_hold_hidden(entry, &view.retentions) {
                continue;
            }
            let spans = match self.spans.entry(entry.id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match spans_of(handle) {
                    Ok(spans) => place.insert(spans),
                    // Nothing is known of the file then.
                    Err(error) if error.is_out_of_resources() => continue,
                    Err(error) => {
                        self.shared.report_damage(&error.to_damage());
                        continue;
                    }
                },
            };
            if retention::plan::is_worth(entry, spans, &view.retentions, worth) {
                aged.insert(entry.id);
            }
        }
        aged
    }

    fn step(&mut self, step: &Step, rate: Option<u64>) -> Result<CompactionReport, Failure> {
        let done = run::run(&self.shared, step, Pace::new(&self.shared, &self.orders, rate));
        let metrics = &self.shared.metrics;
        let note = |bytes, error| {
            let ended = self.shared.clock.wall();
            self.shared.status.merged(LastWork { ended, bytes, error });
        };
        match &done {
            Ok(report) => {
                metrics.compactions.add(1);
                metrics.compaction_bytes_read.add(report.bytes_before);
                metrics.compaction_bytes_written.add(report.bytes_after);
                note(report.bytes_after, None);
            }
            Err(Failure::Closing) => {}
            Err(Failure::Damaged(segment, reason)) => {
                metrics.compaction_failures.add(1);
                note(0, Some(reason.clone()));
                tracing::warn!(%reason, "segments are not merged: one of them is damaged");
                match segment {
                    Some(segment) if step.inputs.contains(segment) => drop(self.avoid.insert(*segment)),
                    _ => self.avoid.extend(&step.inputs),
                }
            }
            Err(Failure::Disk(error)) => {
                metrics.compaction_failures.add(1);
                note(0, Some(error.to_string()));
                tracing::warn!(%error, full = is_disk_full(error), "segments could not be merged; tried again later");
                self.postponed.extend(&step.inputs);
                self.postponed_until = self.shared.clock.monotonic() + FAILURE_PAUSE;
            }
        }
        done
    }

    /// Deletes that hide nothing, because there never was anything or a seal had nothing of it, are forgotten too.
    fn forget_applied(&self) {
        if let Err(error) = run::forget_applied(&self.shared) {
            tracing::warn!(%error, "the manifest could not be told of deletes that were applied");
        }
    }
}

/// First and last time of each measurement in a file.
fn spans_of(handle: &Arc<SegmentHandle>) -> Result<Vec<Span>, SegmentError> {
    let entry = handle.entry();
    if let Some(own) = entry.measurement {
        return Ok(vec![(own, entry.first_time, entry.last_time)]);
    }
    let span = |section: &Section| {
        let (first, last) = section.time_range();
        (section.measurement(), first, last)
    };
    Ok(handle.open()?.sections()?.iter().map(|section| span(section)).collect())
}
