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
//! 4. A segment whose checksums hold and whose statistics contradict its values is set aside: readers would believe them.
//!
//! Threads: one, `wattlog-scrubber`. `plan` chooses (pure), this acts. Not here: logs, which every opening reads whole,
//! and the manifest, which is written anew by every opening that changes something.

mod paced;
mod plan;
mod position;

use crate::catalog::CatalogFile;
use crate::check::FileReport;
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
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Somebody waits: as fast as it goes.
    hurry: AtomicBool,
}

/// An idle scrubber looks this often.
const LOOK: Duration = Duration::from_secs(1);
/// Nothing is read in the background so soon after an opening: others have more to do then.
const HOLD_OFF: Duration = Duration::from_mins(10);
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
        // For the file that is being read at the moment.
        self.orders.hurry.store(true, Ordering::Relaxed);
        let sent = self.requests.lock().as_ref().map(|requests| requests.send(reply));
        match sent {
            Some(Ok(())) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            _ => Err(EngineError::Closed),
        }
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
}

/// The store is closing.
struct Closing;

impl Worker {
    fn new(shared: Arc<Shared>, orders: Arc<Orders>, position: Arc<Mutex<Position>>) -> Self {
        let now = shared.clock.monotonic();
        let rate = shared.options.scrub_bytes_per_second;
        let pace = Pace::new(shared.clock.clone(), orders.clone(), rate);
        let disk = PacedDisk { disk: shared.disk.clone(), pace };
        Self { shared, orders, position, disk, opened: now, saved: now }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(LOOK) {
                Ok(reply) => {
                    self.orders.hurry.store(true, Ordering::Relaxed);
                    let report = self.full_pass();
                    self.orders.hurry.store(false, Ordering::Relaxed);
                    drop(reply.send(report));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.look(requests).is_err() {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.save();
    }

    /// Carries out what is due.
    fn look(&mut self, requests: &Receiver<Request>) -> Result<(), Closing> {
        let options = &self.shared.options;
        let interval = options.scrub_interval;
        let off = interval.is_zero() || options.scrub_bytes_per_second == 0;
        if off || self.shared.clock.monotonic().saturating_sub(self.opened) < HOLD_OFF {
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
            let read = self.step(step, &files).map_err(|Closing| EngineError::Closed)?;
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

    fn step(&mut self, step: Step, files: &BTreeMap<u64, Sealed>) -> Result<ScrubReport, Closing> {
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

    fn verify(&self, file: Sealed) -> Result<ScrubReport, Closing> {
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
        damage.iter().for_each(|damage| self.shared.report_damage(damage));
        match file {
            Sealed::Catalog { id, .. } => self.shared.catalog.distrust(id),
            Sealed::Segment { id, .. } => {
                let contradicts = |damage: &Damage| matches!(damage.part, "statistics" | "summary");
                // Where a checksum fails, readers see it themselves and leave out that block alone.
                if damage.iter().all(contradicts)
                    && let Err(error) = self.shared.quarantine(id)
                {
                    tracing::warn!(file = %file.path(), %error, "a damaged segment could not be set aside");
                }
            }
        }
        Ok(report)
    }

    /// Whether a file is still one that counts: it may have been replaced while it was read.
    fn is_in_use(&self, file: Sealed) -> bool {
        let id = match file {
            Sealed::Segment { id, .. } => id.0,
            Sealed::Catalog { id, .. } => id.0,
        };
        files(&self.shared).contains_key(&id)
    }

    fn damage_of(&self, file: Sealed) -> Result<Vec<Damage>, Closing> {
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
            Sealed::Catalog { id, .. } => self.catalog_damage(id, path),
        };
        if self.orders.stop.load(Ordering::Relaxed) {
            return Err(Closing);
        }
        Ok(damage)
    }

    /// Every block against its checksum; the directory and the ends by opening the file.
    fn catalog_damage(&self, id: CatalogFileId, path: String) -> Vec<Damage> {
        let map = match open_sealed(&self.disk, &path, ReadMode::Pread) {
            Ok(map) => map,
            Err(error) => return vec![crate::check::unreadable(&path, &error)],
        };
        let file = match CatalogFile::read(map, path, self.shared.store, id) {
            Ok((file, _)) => file,
            Err(error) => return vec![error.into()],
        };
        let blocks = 0..file.directory().len() as u32;
        blocks.filter_map(|number| file.block(number).err().map(Damage::from)).collect()
    }
}
