//! Keeps the rows of quarters in step with the points: a thread that follows the change feed.
//!
//! The thread takes changes into a list of ranges to compute, computes the youngest day of it, writes its rows, and so on. What
//! it has not computed yet is written after the rows, as is its place in the feed; so it goes on after a crash where it was or
//! a little before, and what it does twice comes out the same.

use super::compute::{number, of_device, times};
use super::units::tell_units;
use super::{
    DEVICE, EnergyError, EnergyOptions, FIELDS, QUARTER_NS, QUARTERS, Quarters, RAW, Values, quarter_of,
    quarters,
};
use crate::follow::{FollowError, Followed, Owner, cutoff};
use crate::pending::{LOST_EVERY, Pending};
use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use wattlog_engine::query::{CancelFlag, Every, GroupBy, QueryControl, QueryError, QueryRequest, Zone};
use wattlog_engine::{
    BucketRule, Cause, ChangeEvent, ChangeRequest, DeleteRequest, Engine, WriteBatch, WriteError,
};
use wattlog_model::{Clock, TagSet, Timestamp};

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnergyStatus {
    /// Ranges of time whose rows are not as their points are.
    pub pending: Vec<Range<i64>>,
    /// Rows of quarters before this instant are kept; those after it come when they are over. None: nothing is known yet.
    pub horizon: Option<i64>,
    /// Rows written since the start.
    pub rows: u64,
    /// True once it is known how far the rows are.
    pub is_following: bool,
    /// Why it does not get on, if so.
    pub error: Option<String>,
    /// Times of which points cannot be read, and those beyond all that is known: tried again each hour and at a start.
    pub lost: Vec<Range<i64>>,
    /// Attempts since the start that failed.
    pub failures: u64,
    /// When it had last done, or found that there is nothing to do.
    pub last_success: Option<Timestamp>,
    /// False once the thread has ended.
    pub is_running: bool,
}

/// The thread, and how it stands.
#[derive(Debug)]
pub struct EnergyKeeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    options: EnergyOptions,
    clock: Arc<dyn Clock>,
    cancel: CancelFlag,
    status: Mutex<EnergyStatus>,
}

/// Raised when the same points give other rows: all rows that points are still there for are then computed again.
const VERSION: u32 = 1;
/// One step computes at most this long a time.
const STEP_NS: i64 = 86_400_000_000_000;
/// Without anything to do it looks this often whether it is to stop.
const LOOK: Duration = Duration::from_millis(250);
/// After a failure it waits this long, then twice as long each time, and at most [`MOST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Looks at the feed before it is taken for known: whoever writes all the while does not hold up a start or a stop.
const MOST_LOOKS: usize = 1000;

impl EnergyKeeper {
    /// Begins to follow.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(engine: Engine, options: EnergyOptions, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let status = Mutex::new(EnergyStatus { is_running: true, ..EnergyStatus::default() });
        let cancel = CancelFlag::default();
        let shared = Arc::new(Shared { engine, options, clock, cancel, status });
        let follower = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("wattlog-energy".to_owned());
        let thread = thread.spawn(move || {
            // Also if it panics.
            let _ending = Ending(&follower);
            follower.run();
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// How it stands.
    pub fn status(&self) -> EnergyStatus {
        self.shared.status.lock().clone()
    }

    /// What it was started with.
    pub fn options(&self) -> &EnergyOptions {
        &self.shared.options
    }

    /// Ends the thread after the step it is at.
    pub fn stop(&self) {
        self.shared.cancel.cancel();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps energies ended by itself");
        }
    }
}

impl Drop for EnergyKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.status.lock().is_running = false;
    }
}

/// What is written with the place in the feed.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// [`VERSION`] of the rows.
    #[serde(default)]
    version: u32,
    horizon: Option<i64>,
    /// Start and end of what is to be computed.
    pending: Vec<(i64, i64)>,
    /// Of what could not be read.
    #[serde(default)]
    lost: Vec<(i64, i64)>,
}

/// A place in the feed, and what is to be computed of what it told.
struct Follower {
    feed: Followed,
    pending: Pending,
    /// Points of it could not be read; and when all of it was tried last.
    lost: Pending,
    tried: Duration,
    /// End of the last quarter that is over.
    horizon: Option<i64>,
    has_told_units: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Energy(#[from] EnergyError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("{0}")]
    Other(String),
}

impl Shared {
    fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.cancel.is_cancelled() {
            match self.follow(&mut pause) {
                Ok(()) => return,
                Err(error) => {
                    // A database that nobody wrote to yet is no failure.
                    let is_new = matches!(&error, Failure::Follow(error) if error.is_new());
                    if !is_new {
                        tracing::warn!(%error, "energies are not kept: tried again in {pause:?}");
                        let mut status = self.status.lock();
                        (status.error, status.failures) = (Some(error.to_string()), status.failures + 1);
                    }
                    self.rest(pause);
                    pause = if is_new { FIRST_PAUSE } else { (2 * pause).min(MOST_PAUSE) };
                }
            }
        }
    }

    fn rest(&self, pause: Duration) {
        let until = self.clock.monotonic() + pause;
        let mut slept = Duration::ZERO;
        // A clock that stands still must not hold up the stop.
        while !self.cancel.is_cancelled() && self.clock.monotonic() < until && slept < pause {
            std::thread::sleep(LOOK.min(pause));
            slept += LOOK.min(pause);
        }
    }

    /// Follows until told to stop, the store is closed, or something fails.
    fn follow(&self, pause: &mut Duration) -> Result<(), Failure> {
        let mut follower = self.restore()?;
        // Nobody is told that nothing waits before that is known.
        self.catch_up(&mut follower)?;
        self.tell(&follower);
        loop {
            // Before the feed is heard: what retention hides by now is left out then.
            let now = self.clock.monotonic();
            if now.saturating_sub(follower.tried) >= LOST_EVERY {
                follower.try_lost(now);
            }
            let wait = if follower.pending.is_empty() { LOOK } else { Duration::ZERO };
            let closed = self.hear(&mut follower, wait)?;
            if follower.feed.take_forgotten() {
                let (pending, horizon) = self.everything()?;
                (follower.pending, follower.horizon) = (pending, follower.horizon.max(horizon));
                follower.lost = Pending::default();
            }
            self.tell(&follower);
            if closed {
                return Ok(());
            }
            if self.cancel.is_cancelled() {
                return self.leave(&mut follower);
            }
            if follower.feed.is_due() {
                self.write_state(&mut follower)?;
            }
            if let Some(part) = follower.pending.youngest(STEP_NS) {
                self.step(&part, &mut follower)?;
                *pause = FIRST_PAUSE;
                self.tell(&follower);
            }
            let mut status = self.status.lock();
            (status.error, status.last_success) = (None, Some(self.clock.wall()));
        }
    }

    /// Takes what the feed tells; true if nothing more will come.
    fn hear(&self, follower: &mut Follower, wait: Duration) -> Result<bool, Failure> {
        let changes = follower.feed.next(wait, &self.cancel);
        for event in &changes.events {
            self.take(event, follower);
        }
        self.clip(follower)?;
        Ok(changes.closed)
    }

    /// Takes all that the feed has.
    fn catch_up(&self, follower: &mut Follower) -> Result<(), Failure> {
        for _ in 0..MOST_LOOKS {
            let before = follower.feed.cursor();
            if self.hear(follower, Duration::ZERO)? || follower.feed.cursor() == before {
                break;
            }
        }
        Ok(())
    }

    /// Writes the place after all that was told. The row itself may be the first of another log; then the place goes there.
    fn leave(&self, follower: &mut Follower) -> Result<(), Failure> {
        for _ in 0..2 {
            self.catch_up(follower)?;
            self.write_state(follower)?;
            self.catch_up(follower)?;
            if !follower.feed.is_elsewhere() {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self, follower: &Follower) {
        let mut status = self.status.lock();
        status.pending = follower.pending.ranges().to_vec();
        status.lost = follower.lost.ranges().to_vec();
        status.horizon = follower.horizon;
        status.is_following = true;
    }

    /// Goes on from what was written last; from nothing, all there is must be computed.
    fn restore(&self) -> Result<Follower, Failure> {
        let request = ChangeRequest {
            database: Some(self.options.database.clone()),
            measurement: Some(RAW.to_owned()),
            buckets: Some(BucketRule {
                every: Every::Nanos(QUARTER_NS as u64),
                offset_ns: 0,
                zone: Zone::UTC,
            }),
            // A step that reaches into the next quarter must have ended before a quarter is taken for finished.
            grace_ns: self.options.max_gap_ns() as u64,
            limit: 1000,
            ..ChangeRequest::default()
        };
        let (feed, written) = Followed::open::<Written>(self.owner(), request, &self.control())?;
        let (lost, tried) = (Pending::default(), self.clock.monotonic());
        if let Some(written) = written {
            let of =
                |ranges: Vec<(i64, i64)>| Pending::new(ranges.into_iter().map(|(start, end)| start..end));
            let (mut pending, horizon) = (of(written.pending), written.horizon);
            pending.add_all(of(written.lost));
            if written.version != VERSION {
                pending.add_all(self.everything()?.0);
            }
            return Ok(Follower { feed, pending, lost, tried, horizon, has_told_units: false });
        }
        let (pending, horizon) = self.everything()?;
        Ok(Follower { feed, pending, lost, tried, horizon, has_told_units: false })
    }

    /// All quarters of which there are points and that are over, and where they end.
    fn everything(&self) -> Result<(Pending, Option<i64>), QueryError> {
        let known = self.engine.measurement(&self.options.database, RAW)?;
        let Some((first, last)) = known.and_then(|known| known.first.zip(known.last)) else {
            return Ok((Pending::default(), None));
        };
        let newest = quarter_of(last.0.min(self.clock.wall().0).saturating_sub(self.options.max_gap_ns()));
        Ok((Pending::new(std::iter::once(quarter_of(first.0)..newest)), Some(newest)))
    }

    fn owner(&self) -> Owner {
        let (engine, clock) = (self.engine.clone(), self.clock.clone());
        Owner { engine, database: self.options.database.clone(), name: "energy", clock }
    }

    fn control(&self) -> QueryControl {
        QueryControl { cancel: self.cancel.clone(), ..QueryControl::default() }
    }

    fn take(&self, event: &ChangeEvent, follower: &mut Follower) {
        let gap = self.options.max_gap_ns();
        match event {
            ChangeEvent::Finished { bucket } => {
                // What came into this quarter before it was over may have changed the step that leads into it.
                follower.pending.add(quarter_of(bucket.start.saturating_sub(gap))..bucket.end);
                follower.horizon = follower.horizon.max(Some(bucket.end));
            }
            ChangeEvent::Revised { bucket: times, cause, .. } | ChangeEvent::Dirty { times, cause, .. } => {
                match cause {
                    // Values are as they were; or they are hidden by age, or lost, and the rows outlive them.
                    Cause::Meaning | Cause::Retention | Cause::Damage => {}
                    _ => {
                        let (start, end) = (times.start.saturating_sub(gap), times.end.saturating_add(gap));
                        let end = quarter_of(end.saturating_sub(1)).saturating_add(QUARTER_NS);
                        follower.pending.add(quarter_of(start)..end);
                        if matches!(cause, Cause::Missed | Cause::Many) {
                            // Quarters may have been finished among it.
                            follower.horizon = follower.horizon.max(self.finished_by_now());
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The horizon as the newest point tells it.
    fn finished_by_now(&self) -> Option<i64> {
        let known = self.engine.measurement(&self.options.database, RAW).ok()??;
        let newest = known.last?.0.min(self.clock.wall().0);
        Some(quarter_of(newest.saturating_sub(self.options.max_gap_ns())))
    }

    /// The first quarter of which, and of whose surroundings, every point is still there.
    fn whole_from(&self) -> i64 {
        cutoff(&self.engine, &self.options.database, RAW).map_or(i64::MIN, |cutoff| {
            quarter_of(cutoff.saturating_add(self.options.max_gap_ns()).saturating_add(QUARTER_NS - 1))
        })
    }

    /// Leaves out what no point can be in, or retention hides: rows of that stay as they are. Points of a file that is set aside are
    /// not known of, so that what is left out for want of points is tried again.
    fn clip(&self, follower: &mut Follower) -> Result<(), Failure> {
        if follower.pending.is_empty() {
            return Ok(());
        }
        follower.pending.clip(&(self.whole_from()..i64::MAX));
        let mut left_out = follower.pending.clone();
        left_out.clip(&(i64::MIN..follower.horizon.unwrap_or(i64::MIN)));
        let mut times: Option<Range<i64>> = None;
        for measurement in [RAW, QUARTERS] {
            let known = self.engine.measurement(&self.options.database, measurement)?;
            if let Some((first, last)) = known.and_then(|known| known.first.zip(known.last)) {
                let (start, end) = (quarter_of(first.0), quarter_of(last.0).saturating_add(QUARTER_NS));
                times = Some(times.map_or(start..end, |t| t.start.min(start)..t.end.max(end)));
            }
        }
        follower.pending.clip(&times.unwrap_or(0..0));
        follower.pending.ranges().iter().for_each(|kept| left_out.done(kept));
        follower.lost.add_all(left_out);
        Ok(())
    }

    /// Computes `part`, the youngest of what waits, and writes its rows.
    fn step(&self, part: &Range<i64>, follower: &mut Follower) -> Result<(), Failure> {
        let control = self.control();
        let computed = match quarters(&self.engine, &self.options, part, None, &control) {
            Ok(computed) => computed,
            // They stay as they were.
            Err(error @ EnergyError::Points { .. }) => {
                tracing::warn!(%error, from = part.start, to = part.end, "energies stay as they were");
                follower.pending.done(part);
                follower.lost.add(part.clone());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // Hidden by age since the part was taken: what came out of that is no reason to take rows away. It is left out next.
        if self.whole_from() > part.start {
            return Ok(());
        }
        if let Some(lost) = computed.lost.first() {
            let (from, to) = (lost.start, lost.end);
            tracing::warn!(from, to, "points of {RAW} cannot be read: their energies stay as they were");
        }
        self.remove_others(part, &computed, &control)?;
        let mut batch = WriteBatch::new(&self.options.database, None);
        let mut rows = 0;
        for device in &computed.devices {
            let slot = batch.series(QUARTERS, &tags(&device.device)?);
            for row in &device.rows {
                let mut out = batch.row(slot, Timestamp(row.start), rows);
                for (name, value) in FIELDS.iter().zip(row.values) {
                    if let Some(value) = value {
                        out.float(name, value);
                    }
                }
                rows += 1;
            }
        }
        if !batch.is_empty() {
            let receipt = self.engine.write(batch)?;
            if let Some(refused) = receipt.rejected.first() {
                let reason = format!("rows of {QUARTERS} were refused: {}", refused.reason);
                return Err(Failure::Other(reason));
            }
            if !follower.has_told_units {
                tell_units(&self.engine, &self.options.database)?;
                follower.has_told_units = true;
            }
        }
        self.status.lock().rows += u64::from(rows);
        // Only now: rows that were refused are computed again.
        follower.pending.done(part);
        let gap = self.options.max_gap_ns();
        for lost in &computed.lost {
            // The quarters that were left out, and no others: trying them again writes nothing while nothing can be read.
            let from = quarter_of(lost.start.saturating_sub(gap)).max(part.start);
            let last = quarter_of(lost.end.saturating_add(gap).saturating_sub(1));
            follower.lost.add(from..last.saturating_add(QUARTER_NS).min(part.end));
        }
        if part.end - part.start > 2 * QUARTER_NS || !follower.pending.is_empty() {
            self.write_state(follower)?;
        }
        Ok(())
    }

    /// Writes how far the rows are, if that is news.
    fn write_state(&self, follower: &mut Follower) -> Result<(), Failure> {
        // Before there are points there is no database either.
        if follower.horizon.is_none() {
            return Ok(());
        }
        let ranges = |pending: &Pending| pending.ranges().iter().map(|r| (r.start, r.end)).collect();
        let (pending, lost) = (ranges(&follower.pending), ranges(&follower.lost));
        follower.feed.write(&Written { version: VERSION, horizon: follower.horizon, pending, lost })?;
        Ok(())
    }

    /// Deletes what is stored in `part` and did not come out: its points are gone. A row that is written again replaces the
    /// values that it has, not those that it lacks.
    fn remove_others(
        &self,
        part: &Range<i64>,
        computed: &Quarters,
        control: &QueryControl,
    ) -> Result<(), Failure> {
        let request = QueryRequest {
            fields: Some(FIELDS.map(str::to_owned).to_vec()),
            group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
            ..QueryRequest::raw(&self.options.database, QUARTERS, Timestamp(part.start), Timestamp(part.end))
        };
        // Rows that cannot be read are not known to be wrong.
        let result = self.engine.query(&request, control)?;
        let gap = self.options.max_gap_ns();
        let is_kept = |start: i64| {
            let end = start.saturating_add(QUARTER_NS).saturating_add(gap);
            computed.lost.iter().any(|lost| start.saturating_sub(gap) < lost.end && lost.start < end)
        };
        for series in &result.series {
            let device = series.tags.first().map(|(_, value)| value.as_str()).unwrap_or_default();
            let known = computed.devices.iter().find(|known| known.device == device);
            let rows: HashMap<i64, &Values> = known
                .map(|known| known.rows.iter().map(|row| (row.start, &row.values)).collect())
                .unwrap_or_default();
            let is_gone = |time: &i64| !rows.contains_key(time) && !is_kept(*time);
            let gone: Vec<i64> = times(series).filter(is_gone).collect();
            self.remove(device, None, &gone)?;
            for (place, name) in FIELDS.iter().enumerate() {
                let Some(column) = series.column(name) else { continue };
                let is_gone = |(row, time): &(usize, i64)| {
                    number(&column.values, *row).is_some()
                        && rows.get(time).is_some_and(|values| values[place].is_none())
                };
                let gone: Vec<i64> =
                    times(series).enumerate().filter(is_gone).map(|(_, time)| time).collect();
                self.remove(device, Some(name), &gone)?;
            }
        }
        Ok(())
    }

    /// Deletes a field, or all, of the rows at `gone`, which rise.
    fn remove(&self, device: &str, field: Option<&str>, gone: &[i64]) -> Result<(), Failure> {
        for run in gone.chunk_by(|a, b| b - a == QUARTER_NS) {
            let request = DeleteRequest {
                database: self.options.database.clone(),
                retention_policy: None,
                measurement: Some(QUARTERS.to_owned()),
                fields: field.map(|field| vec![field.to_owned()]),
                tags: vec![of_device(device)],
                start: Timestamp(run[0]),
                end: Timestamp(run[run.len() - 1].saturating_add(1)),
            };
            self.engine.delete(&request).map_err(|error| Failure::Other(error.to_string()))?;
        }
        Ok(())
    }
}

impl Follower {
    /// What could not be read is to be computed once more; what still cannot be read comes back.
    fn try_lost(&mut self, now: Duration) {
        self.pending.add_all(std::mem::take(&mut self.lost));
        self.tried = now;
    }
}

fn tags(device: &str) -> Result<TagSet, Failure> {
    let pairs = (!device.is_empty()).then_some((DEVICE, device));
    TagSet::new(pairs).map_err(|error| Failure::Other(error.to_string()))
}
