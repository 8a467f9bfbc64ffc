//! Scrub: every byte of every sealed file is read and verified again and again, before anybody needs it.
//!
//! Promise: damage in a segment or a catalog file is found within one pass. It is then told as if a reader had met it
//! (`/health`, metrics, partial answers); a catalog file is replaced from what segments and logs tell (`heal`). Nothing is repaired
//! here and no file is touched.
//!
//! Invariants
//! 1. Files are read by rising number; how far the pass has come is kept over restarts. Losing that costs a re-read.
//! 2. A file is read from the device, by `pread`, with the code of `check`; what seems damaged is read a second time.
//! 3. In the background it reads no faster than the owner allows, and stops at once when the store closes.
//! 4. A segment whose checksums hold and whose statistics contradict its values is told with an alarm and stays: its values are
//!    whole, and a fault in what is compared here must not take history out of the answers.
//! 5. A want of file descriptors or memory says nothing about a file: the pass stays where it is and tries again.
//!
//! Threads: one, `wattlog-scrubber`. `plan` chooses (pure), this acts. Not here: logs, which every opening reads whole,
//! and the manifest, which is written anew by every opening that changes something.

mod paced;
mod plan;
mod position;

use crate::catalog::{CatalogError, CatalogFile};
use crate::check::{FileReport, is_want_of_resources, unreadable};
use crate::engine::Shared;
use crate::error::{Damage, EngineError};
use crate::ids::{CatalogFileId, SegmentId};
use crate::io::{ReadMode, open_sealed};
use crate::segment;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use paced::{Pace, PacedDisk};
use parking_lot::Mutex;
use plan::{Step, plan};
use position::Position;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wattlog_model::Timestamp;

pub(crate) use position::PARTS;

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// Files read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files with damage.
    pub damaged: u64,
}

/// How far scrubbing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubStatus {
    /// Whether a pass is going on.
    pub running: bool,
    /// Bytes of sealed files that this pass has read; 0 between passes.
    pub done_bytes: u64,
    /// Bytes of all sealed files.
    pub total_bytes: u64,
    /// When the last full pass ended, by the wall clock of that time.
    pub finished: Option<Timestamp>,
}

type Request = Sender<Result<ScrubReport, EngineError>>;

/// The way to the scrubbing thread.
#[derive(Debug)]
pub(crate) struct Scrubber {
    requests: Mutex<Option<Sender<Request>>>,
    orders: Arc<Orders>,
    position: Arc<Mutex<Position>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a running pass is told.
#[derive(Debug, Default)]
struct Orders {
    /// Give up: the store closes.
    stop: AtomicBool,
    /// Callers that wait: while there are any, as fast as it goes.
    waiting: AtomicUsize,
}

/// An idle scrubber looks this often.
const LOOK: Duration = Duration::from_secs(1);
/// Nothing is read in the background so soon after an opening: others have more to do then.
const HOLD_OFF: Duration = Duration::from_mins(10);
/// What could not be read for want of file descriptors or memory is tried again after so long.
const RESOURCES_PAUSE: Duration = Duration::from_mins(1);
/// How far a pass has come is kept no more often than this.
const SAVE_EVERY: Duration = Duration::from_mins(1);

impl Scrubber {
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let (requests, queue) = unbounded();
        let orders = Arc::new(Orders::default());
        let position = Arc::new(Mutex::new(Position::load(&*shared.disk, shared.store)));
        let worker = Worker::new(shared.clone(), orders.clone(), position.clone());
        let thread = std::thread::Builder::new().name("wattlog-scrubber".to_owned());
        let thread = thread.spawn(move || worker.run(&queue)).expect("the system gives a thread at start");
        let (requests, thread) = (Mutex::new(Some(requests)), Mutex::new(Some(thread)));
        Self { requests, orders, position, thread }
    }

    /// Reads every sealed file now, from the first on.
    pub(crate) fn full_pass(&self) -> Result<ScrubReport, EngineError> {
        let (reply, answer) = bounded(1);
        // Before the request: for the file that is being read at the moment.
        self.orders.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.requests.lock().as_ref().map(|requests| requests.send(reply));
        let report = match sent {
            Some(Ok(())) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            _ => Err(EngineError::Closed),
        };
        self.orders.waiting.fetch_sub(1, Ordering::Relaxed);
        report
    }

    pub(crate) fn status(&self, shared: &Shared) -> ScrubStatus {
        let position = *self.position.lock();
        let files = files(shared);
        let bytes = |files: &mut dyn Iterator<Item = (&u64, &Sealed)>| -> u64 {
            files.map(|(_, file)| file.bytes()).sum()
        };
        let running = position.began.is_some();
        let done_bytes = if running { bytes(&mut files.range(..=position.after)) } else { 0 };
        ScrubStatus {
            running,
            done_bytes,
            total_bytes: bytes(&mut files.iter()),
            finished: position.finished,
        }
    }

    /// Ends the thread; a file that is being read is given up.
    pub(crate) fn stop(&self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        drop(self.requests.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the scrubbing thread ended in a panic");
        }
    }
}

/// A file that is never written again.
#[derive(Debug, Clone, Copy)]
enum Sealed {
    Segment { id: SegmentId, bytes: u64 },
    Catalog { id: CatalogFileId, bytes: u64 },
}

impl Sealed {
    fn bytes(&self) -> u64 {
        match self {
            Self::Segment { bytes, .. } | Self::Catalog { bytes, .. } => *bytes,
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Segment { id, .. } => segment::segment_path(*id),
            Self::Catalog { id, .. } => crate::catalog::file_path(*id),
        }
    }
}

/// Sealed files in use, by number: segments and catalog files are numbered in one row.
fn files(shared: &Shared) -> BTreeMap<u64, Sealed> {
    let view = shared.view();
    let segments = view.segments.iter().map(|handle| handle.entry()).filter(|entry| !entry.quarantined);
    let segments =
        segments.map(|entry| (entry.id.0, Sealed::Segment { id: entry.id, bytes: entry.file_bytes }));
    let catalogs = shared.catalog.file_entries().into_iter();
    let catalogs =
        catalogs.map(|entry| (entry.id.0, Sealed::Catalog { id: entry.id, bytes: entry.file_bytes }));
    segments.chain(catalogs).collect()
}

struct Worker {
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    position: Arc<Mutex<Position>>,
    disk: PacedDisk,
    opened: Duration,
    saved: Duration,
    /// Nothing is read in the background before.
    paused_until: Duration,
}

/// Why nothing is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// The store is closing.
    Closing,
    /// The machine lacks file descriptors or memory.
    NoResources,
}

impl From<Unread> for EngineError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Closing => Self::Closed,
            Unread::NoResources => {
                let message =
                    "no file descriptors or no memory left to read with; try again later".to_owned();
                Self::Disk { action: "scrub", message }
            }
        }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, orders: Arc<Orders>, position: Arc<Mutex<Position>>) -> Self {
        let now = shared.clock.monotonic();
        let rate = shared.options.scrub_bytes_per_second;
        let pace = Pace::new(shared.clock.clone(), orders.clone(), rate);
        let disk = PacedDisk { disk: shared.disk.clone(), pace };
        Self { shared, orders, position, disk, opened: now, saved: now, paused_until: now }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(LOOK) {
                Ok(reply) => drop(reply.send(self.full_pass())),
                Err(RecvTimeoutError::Timeout) => match self.look(requests) {
                    Ok(()) => {}
                    Err(Unread::Closing) => break,
                    Err(Unread::NoResources) => {
                        tracing::warn!(
                            "the scrub waits: there are no file descriptors or no memory left to read with"
                        );
                        self.paused_until = self.shared.clock.monotonic() + RESOURCES_PAUSE;
                    }
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.save();
    }

    /// Carries out what is due.
    fn look(&mut self, requests: &Receiver<Request>) -> Result<(), Unread> {
        let options = &self.shared.options;
        let interval = options.scrub_interval;
        let off = interval.is_zero() || options.scrub_bytes_per_second == 0;
        let now = self.shared.clock.monotonic();
        if off || now.saturating_sub(self.opened) < HOLD_OFF || now < self.paused_until {
            return Ok(());
        }
        while requests.is_empty() && !self.orders.stop.load(Ordering::Relaxed) {
            let files = files(&self.shared);
            let ids: Vec<u64> = files.keys().copied().collect();
            let position = *self.position.lock();
            let Some(step) = plan(&ids, &position, self.shared.clock.wall(), interval) else { break };
            self.step(step, &files)?;
        }
        Ok(())
    }

    fn full_pass(&mut self) -> Result<ScrubReport, EngineError> {
        let mut report = ScrubReport::default();
        let mut step = Step::Begin;
        loop {
            let files = files(&self.shared);
            let read = self.step(step, &files)?;
            report.files += read.files;
            report.bytes += read.bytes;
            report.damaged += read.damaged;
            if step == Step::Finish {
                return Ok(report);
            }
            let ids: Vec<u64> = files.keys().copied().collect();
            let position = *self.position.lock();
            let next = plan(&ids, &position, self.shared.clock.wall(), Duration::ZERO);
            step = next.unwrap_or(Step::Finish);
        }
    }

    fn step(&mut self, step: Step, files: &BTreeMap<u64, Sealed>) -> Result<ScrubReport, Unread> {
        let wall = self.shared.clock.wall();
        let mut report = ScrubReport::default();
        match step {
            Step::Begin => {
                let mut position = self.position.lock();
                (position.after, position.began) = (0, Some(wall));
            }
            Step::Verify(id) => {
                if let Some(file) = files.get(&id) {
                    report = self.verify(*file)?;
                }
                self.position.lock().after = id;
            }
            Step::Finish => {
                let mut position = self.position.lock();
                *position = Position { after: 0, began: None, finished: Some(wall) };
                drop(position);
                self.shared.metrics.scrub_passes.add(1);
            }
        }
        let now = self.shared.clock.monotonic();
        if matches!(step, Step::Finish) || now.saturating_sub(self.saved) >= SAVE_EVERY {
            self.saved = now;
            self.save();
        }
        Ok(report)
    }

    fn save(&self) {
        let position = *self.position.lock();
        if position == Position::default() {
            return;
        }
        if let Err(error) = position.save(&*self.shared.disk, self.shared.store) {
            tracing::warn!(%error, "how far the scrub has come could not be kept; it begins anew at the next start");
        }
    }

    fn verify(&self, file: Sealed) -> Result<ScrubReport, Unread> {
        let mut damage = self.damage_of(file)?;
        if !damage.is_empty() {
            // A page that the device gave wrong once it may give right the next time.
            damage = self.damage_of(file)?;
        }
        let report = ScrubReport { files: 1, bytes: file.bytes(), damaged: u64::from(!damage.is_empty()) };
        let metrics = &self.shared.metrics;
        metrics.scrub_files.add(1);
        metrics.scrub_bytes.add(report.bytes);
        if damage.is_empty() || !self.is_in_use(file) {
            return Ok(ScrubReport { damaged: 0, ..report });
        }
        metrics.scrub_damaged_files.add(1);
        tracing::warn!(file = %file.path(), parts = damage.len(), "the scrub found a damaged file");
        let contradicts = |damage: &Damage| matches!(damage.part, "statistics" | "summary");
        if matches!(file, Sealed::Segment { .. }) && damage.iter().all(contradicts) {
            self.tell_contradiction(&damage[0]);
            return Ok(report);
        }
        // Where a checksum fails, readers see it themselves and leave out that block alone.
        damage.iter().for_each(|damage| self.shared.report_damage(damage));
        if let Sealed::Catalog { id, .. } = file {
            self.shared.catalog.distrust(id);
        }
        Ok(report)
    }

    /// Tells once of a segment with whole values and statistics that say otherwise; no more of them than of other damage.
    fn tell_contradiction(&self, first: &Damage) {
        if self.shared.status.add_damage(first) {
            self.shared.metrics.damaged_parts.add(1);
            tracing::error!(file = %first.file, offset = first.offset, "statistics of a segment contradict its values");
            self.shared.status.add_alarm(format!(
                "{}: the statistics contradict the values, which are whole: sums, means and extremes over them may be wrong, until \
                 `wattlog check --repair` writes the file anew",
                first.file
            ));
        }
    }

    /// Whether a file is still one that counts: it may have been replaced while it was read.
    fn is_in_use(&self, file: Sealed) -> bool {
        let id = match file {
            Sealed::Segment { id, .. } => id.0,
            Sealed::Catalog { id, .. } => id.0,
        };
        files(&self.shared).contains_key(&id)
    }

    fn damage_of(&self, file: Sealed) -> Result<Vec<Damage>, Unread> {
        let (path, store) = (file.path(), self.shared.store);
        let damage = match file {
            Sealed::Segment { id, bytes } => {
                let FileReport { damage, bytes: found, .. } =
                    segment::verify_file(&self.disk, &path, Some(store), Some(id.0));
                let short = damage.is_empty() && found != bytes;
                let short = short.then_some(Damage {
                    file: path,
                    offset: 0,
                    part: "segment file",
                    expected: bytes,
                    found,
                });
                damage.into_iter().chain(short).collect()
            }
            Sealed::Catalog { id, .. } => self.catalog_damage(id, path)?,
        };
        if self.orders.stop.load(Ordering::Relaxed) {
            return Err(Unread::Closing);
        }
        if damage.iter().any(is_want_of_resources) {
            return Err(Unread::NoResources);
        }
        Ok(damage)
    }

    /// Every block against its checksum; the directory and the ends by opening the file.
    fn catalog_damage(&self, id: CatalogFileId, path: String) -> Result<Vec<Damage>, Unread> {
        let damage = |error: CatalogError| match error {
            error if error.is_for_want_of_resources() => Err(Unread::NoResources),
            error => Ok(Damage::from(error)),
        };
        let map = match open_sealed(&self.disk, &path, ReadMode::Pread) {
            Ok(map) => map,
            Err(error) => return Ok(vec![unreadable(&path, &error)]),
        };
        let file = match CatalogFile::read(map, path, self.shared.store, id) {
            Ok((file, _)) => file,
            Err(error) => return Ok(vec![damage(error)?]),
        };
        let blocks = 0..file.directory().len() as u32;
        blocks.filter_map(|number| file.block(number).err().map(damage)).collect()
    }
}
