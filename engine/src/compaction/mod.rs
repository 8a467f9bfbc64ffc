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
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use hashbrown::HashSet;
use parking_lot::Mutex;
use plan::{Effort, Step, plan};
use run::{Failure, Pace};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

type Request = Sender<Result<CompactionReport, EngineError>>;

/// The way to the compacting thread.
#[derive(Debug)]
pub(crate) struct Compactor {
    requests: Mutex<Option<Sender<Request>>>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// An idle compactor looks this often.
const LOOK: Duration = Duration::from_secs(1);
/// Months that are over are merged once nothing was sealed for so long.
const QUIET: Duration = Duration::from_secs(60);
/// More deletes than this are applied although it is not quiet.
const MANY_TOMBSTONES: usize = 64;
/// After a failure nothing is tried for so long.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

impl Compactor {
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let (requests, queue) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(shared.clone(), stopping.clone());
        let thread = std::thread::Builder::new().name("wattlog-compactor".to_owned());
        let thread = thread.spawn(move || worker.run(&queue)).expect("the system gives a thread at start");
        Self { requests: Mutex::new(Some(requests)), stopping, thread: Mutex::new(Some(thread)) }
    }

    /// Merges all that can be merged now.
    pub(crate) fn everything(&self) -> Result<CompactionReport, EngineError> {
        let (reply, answer) = bounded(1);
        let sent = self.requests.lock().as_ref().map(|requests| requests.send(reply));
        match sent {
            Some(Ok(())) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            _ => Err(EngineError::Closed),
        }
    }

    /// Ends the thread; a step that runs is given up.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
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
    stopping: Arc<AtomicBool>,
    /// Inputs of steps that met damage.
    avoid: HashSet<SegmentId>,
    /// Identity of the segment list at the last look, and when it last changed.
    seen: usize,
    changed: Duration,
    /// What there was to plan with when nothing was found to do.
    idle: Option<(usize, i32, usize, bool)>,
    paused_until: Duration,
}

impl Worker {
    fn new(shared: Arc<Shared>, stopping: Arc<AtomicBool>) -> Self {
        let now = shared.clock.monotonic();
        let avoid = HashSet::new();
        Self { shared, stopping, avoid, seen: 0, changed: now, idle: None, paused_until: now }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(LOOK) {
                Ok(reply) => drop(reply.send(self.everything())),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Carries out what is due.
    fn look(&mut self) {
        let rate = self.shared.options.compaction_bytes_per_second;
        let now = self.shared.clock.monotonic();
        while rate > 0 && now >= self.paused_until && !self.stopping.load(Ordering::Relaxed) {
            let view = self.shared.view();
            let identity = Arc::as_ptr(&view.segments) as usize;
            if identity != self.seen {
                self.seen = identity;
                self.changed = now;
            }
            let quiet = now.saturating_sub(self.changed) >= QUIET;
            let deletes = view.tombstones.len();
            let today = self.shared.clock.wall().utc_day();
            let state = (identity, today, deletes, quiet);
            if self.idle == Some(state) {
                return;
            }
            let apply_deletes = deletes > 0 && (quiet || deletes > MANY_TOMBSTONES);
            let Some(step) = self.next(Effort::Due { quiet, apply_deletes }) else {
                self.forget_applied();
                self.idle = Some(state);
                return;
            };
            let done = self.step(&step, Some(rate));
            // The set changed by this step; that is no seal.
            self.seen = Arc::as_ptr(&self.shared.view().segments) as usize;
            if done.is_err() {
                return;
            }
        }
    }

    fn everything(&mut self) -> Result<CompactionReport, EngineError> {
        let mut report = CompactionReport::default();
        while let Some(step) = self.next(Effort::Everything) {
            match self.step(&step, None) {
                Ok(done) => report.add(done),
                // The files are left out of the next plan.
                Err(Failure::Damaged(_)) => {}
                Err(Failure::Closing) => return Err(EngineError::Closed),
                Err(Failure::Disk(error)) => {
                    return Err(EngineError::Disk { action: "compact", message: error.to_string() });
                }
            }
        }
        self.forget_applied();
        Ok(report)
    }

    fn next(&self, effort: Effort) -> Option<Step> {
        let view = self.shared.view();
        let entries: Vec<_> = view.segments.iter().map(|handle| handle.entry()).collect();
        let today = self.shared.clock.wall().utc_day();
        plan(&entries, &view.tombstones, today, effort, &self.avoid)
    }

    fn step(&mut self, step: &Step, rate: Option<u64>) -> Result<CompactionReport, Failure> {
        let done = run::run(&self.shared, step, Pace::new(&self.shared, &self.stopping, rate));
        let metrics = &self.shared.metrics;
        match &done {
            Ok(report) => {
                metrics.compactions.add(1);
                metrics.compaction_bytes_read.add(report.bytes_before);
                metrics.compaction_bytes_written.add(report.bytes_after);
            }
            Err(Failure::Closing) => {}
            Err(Failure::Damaged(reason)) => {
                metrics.compaction_failures.add(1);
                tracing::warn!(%reason, "segments are not merged: one of them is damaged");
                self.avoid.extend(&step.inputs);
            }
            Err(Failure::Disk(error)) => {
                metrics.compaction_failures.add(1);
                tracing::warn!(%error, full = is_disk_full(error), "segments could not be merged; tried again later");
                self.paused_until = self.shared.clock.monotonic() + FAILURE_PAUSE;
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
