//! Retention: points older than a rule allows are hidden at once and dropped later, by one cutoff (ADR 0011).
//!
//! Promise: shortening a rule hides at once; lengthening brings nothing back; no wrong clock hides a point that a right one
//! would show, but for the day that each start may add. A cutoff is in force when the manifest holds it, durably.
//!
//! Hiding: every reader clips its range (`query::plan`), every writer refuses what is older (`ingest::prepare`). Dropping,
//! only under a proven clock: seals and merges leave the rows out; a file with nothing else goes as a whole, by one manifest
//! edit (`plan`); it is unlinked when its last reader is done.
//!
//! Threads: the compactor looks once a second; callers that set a rule do it on their own thread. Lock order: the watch, then
//! the manifest, then the view.

mod clock;
mod cutoffs;
pub(crate) mod plan;

pub use clock::ClockCondition;
pub use cutoffs::{ClockRecord, NO_CUTOFF, PROVEN_NS, Purpose, Retained, Retentions, Rule};

use crate::engine::Shared;
use crate::error::{EngineError, WriteError, is_disk_full};
use crate::manifest::{Edit, Manifest};
use crate::options::Options;
use clock::{Calm, Look, RetentionClock};
use cutoffs::{Content, Key, MAX_RULES};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use wattlog_model::{Clock, Timestamp};

/// One rule, with the names of what it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionInfo {
    /// Name of the database.
    pub database: String,
    /// Name of the retention policy.
    pub policy: String,
    /// Name of the measurement; none: all that have no rule of their own.
    pub measurement: Option<String>,
    /// For how long its points are kept.
    pub rule: Rule,
    /// Points before this instant are hidden.
    pub cutoff: Option<Timestamp>,
}

/// What the store believes the time to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionClockInfo {
    /// That instant.
    pub believed: Timestamp,
    /// What the machine says.
    pub wall: Timestamp,
    /// True once it ran steadily for 24 hours, or a person said that it is right: before, nothing is dropped.
    pub proven: bool,
    /// How the two stand to each other.
    pub condition: ClockCondition,
}

/// What a pass of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionReport {
    /// Files dropped as a whole.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The clocks of an open store.
#[derive(Debug)]
pub(crate) struct Watch(Mutex<Watched>);

#[derive(Debug)]
struct Watched {
    calm: Calm,
    /// None until there is a rule.
    clock: Option<RetentionClock>,
    /// By how much it went back since the cutoffs last followed it.
    back_ns: i64,
    /// What was last said about it.
    told: ClockCondition,
}

impl Watch {
    pub(crate) fn new(record: Option<ClockRecord>, clock: &dyn Clock) -> Self {
        let (wall, monotonic) = (clock.wall().0, clock.monotonic());
        Self(Mutex::new(Watched {
            calm: Calm::new(wall, monotonic),
            clock: record.map(|record| RetentionClock::new(record, monotonic)),
            back_ns: 0,
            told: ClockCondition::default(),
        }))
    }
}

/// What readers, writers, seals and merges go by. Where nothing is to be dropped, the clock counts as never proven.
pub(crate) fn in_force(options: &Options, known: &Retentions) -> Arc<Retentions> {
    let clock = known.clock.filter(|_| options.retention);
    Arc::new(Retentions { clock, ..known.clone() })
}

/// Looks at the clocks and moves the cutoffs on as far as they allow.
///
/// Does nothing where [`crate::Options::retention`] is off.
///
/// # Errors
/// The manifest's. The cutoffs stay where they were then, and the next look tries again.
pub(crate) fn look(shared: &Shared) -> io::Result<()> {
    if !shared.options.retention {
        return Ok(());
    }
    let mut watched = shared.retention.0.lock();
    watched.follow(shared)?;
    let Some(clock) = watched.clock.as_ref() else { return Ok(()) };
    let (record, known) = (clock.record(), shared.view().retentions.clone());
    let timed = known.is_timed();
    watched.tell(shared, timed);
    if timed && (known.is_due(record.now_ns) || proof_is_due(&known, record)) {
        publish(shared, known.moved(record))?;
    }
    Ok(())
}

/// Whether the manifest should hear how well the clock is proven: once an hour until it is, and at once when it made a step
/// and has to begin again.
fn proof_is_due(known: &Retentions, record: ClockRecord) -> bool {
    let written = known.clock.map_or(0, |clock| clock.steady_ns);
    let step_ns = PROVEN_NS / 24;
    record.steady_ns < written
        || (written < PROVEN_NS && (record.steady_ns >= PROVEN_NS || record.steady_ns >= written + step_ns))
}

/// Whether a rule for `key` can be set; none: one of a measurement that has no id yet.
///
/// # Errors
/// `TooManyRetentions` if it would be one too many.
pub(crate) fn check_room(shared: &Shared, key: Option<Key>) -> Result<(), WriteError> {
    let known = &shared.view().retentions.entries;
    if key.is_none_or(|key| !known.contains_key(&key)) && known.len() >= MAX_RULES {
        return Err(WriteError::TooManyRetentions { limit: MAX_RULES });
    }
    Ok(())
}

/// Puts a rule in force, durably; gives what is in force then.
pub(crate) fn set(shared: &Shared, key: Key, rule: Rule) -> Result<Retained, WriteError> {
    // Looked at first: what comes meanwhile is within the rules in force.
    let empty = key.1.is_some_and(|measurement| shared.catalog.series_count(measurement) == 0);
    let content = if empty { Content::None } else { Content::Some };
    let mut watched = shared.retention.0.lock();
    check_room(shared, Some(key))?;
    watched.follow(shared).map_err(refused)?;
    let record = watched.record(shared);
    let known = shared.view().retentions.clone();
    let retained = match known.entries.get(&key) {
        // Told again, as at each start: its cutoff moves on by itself.
        Some(entry) if entry.rule == rule => *entry,
        _ => {
            let told = known.set(key, rule, record, content);
            let retained = told.entries[&key];
            publish(shared, told).map_err(refused)?;
            retained
        }
    };
    let timed = shared.view().retentions.is_timed();
    watched.tell(shared, timed);
    Ok(retained)
}

/// A person says that the wall clock is right: what was held counts, and the clock is proven.
pub(crate) fn confirm(shared: &Shared) -> Result<(), WriteError> {
    let mut watched = shared.retention.0.lock();
    watched.follow(shared).map_err(refused)?;
    let (wall, monotonic) = (shared.clock.wall().0, shared.clock.monotonic());
    let mut clock = RetentionClock::new(watched.record(shared), monotonic);
    clock.believe(wall, monotonic);
    publish(shared, shared.view().retentions.moved(clock.record())).map_err(refused)?;
    watched.clock = Some(clock);
    let timed = shared.view().retentions.is_timed();
    watched.tell(shared, timed);
    tracing::info!(now = wall, "the clock was confirmed");
    Ok(())
}

/// What the store believes; none if no rule was ever set.
pub(crate) fn clock(shared: &Shared) -> Option<RetentionClockInfo> {
    let watched = shared.retention.0.lock();
    let clock = watched.clock.as_ref()?;
    let record = clock.record();
    Some(RetentionClockInfo {
        believed: Timestamp(record.now_ns),
        wall: shared.clock.wall(),
        proven: record.steady_ns >= PROVEN_NS,
        condition: clock.condition(),
    })
}

impl Watched {
    /// Looks at both clocks. If one that is not proven went back, the cutoffs follow it.
    fn follow(&mut self, shared: &Shared) -> io::Result<()> {
        let (wall, monotonic) = (shared.clock.wall().0, shared.clock.monotonic());
        let stepped = self.calm.look(wall, monotonic);
        let Some(clock) = self.clock.as_mut() else { return Ok(()) };
        if let Look::Back(step_ns) = clock.look(wall, monotonic, &self.calm, stepped) {
            self.back_ns = self.back_ns.saturating_add(step_ns);
        }
        if self.back_ns > 0 {
            publish(shared, shared.view().retentions.moved_back(clock.record(), self.back_ns))?;
            self.back_ns = 0;
        }
        Ok(())
    }

    /// What is believed now; begun with the wall clock if there was no rule yet.
    fn record(&mut self, shared: &Shared) -> ClockRecord {
        let (wall, monotonic) = (shared.clock.wall().0, shared.clock.monotonic());
        let begun = ClockRecord { now_ns: wall, steady_ns: self.calm.steady_ns(monotonic) };
        self.clock.get_or_insert_with(|| RetentionClock::new(begun, monotonic)).record()
    }

    /// Tells the owner when the wall clock cannot be followed, and when it can be again.
    fn tell(&mut self, shared: &Shared, timed: bool) {
        let followed = ClockCondition::Followed;
        let condition = self.clock.as_ref().filter(|_| timed).map_or(followed, RetentionClock::condition);
        if std::mem::discriminant(&condition) == std::mem::discriminant(&self.told) {
            return;
        }
        self.told = condition;
        shared.status.set_clock_alarm(match condition {
            ClockCondition::Followed => {
                tracing::info!("retention follows the wall clock again");
                None
            }
            ClockCondition::Held { ahead_ns } => {
                let ahead_s = ahead_ns / 1_000_000_000;
                shared.metrics.clocks_held.add(1);
                tracing::warn!(ahead_s, "the wall clock is ahead by more than retention believes: it is held");
                Some(format!(
                    "the clock of the machine is {ahead_s} s ahead of what retention believes: nothing is hidden by it until it has run \
                     steadily for 24 hours, or POST /api/v1/admin/confirm-clock says that it is right"
                ))
            }
            ClockCondition::Behind { by_ns } => {
                let behind_s = by_ns / 1_000_000_000;
                tracing::warn!(behind_s, "the wall clock is behind what retention believes: cutoffs wait for it");
                Some(format!(
                    "the clock of the machine is {behind_s} s behind what retention believes: nothing more is dropped until it has caught up"
                ))
            }
        });
    }
}

/// Makes an edit of rules and cutoffs durable, then lets readers and writers go by it.
fn publish(shared: &Shared, told: Retentions) -> io::Result<()> {
    let mut manifest = shared.manifest.lock();
    let ballast = append(shared, &mut manifest, &Edit::Retention(told))?;
    let state = manifest.state();
    shared.publish_retentions(in_force(&shared.options, &state.retentions), state.edit);
    drop(manifest);
    ballast.lay_again(shared);
    Ok(())
}

/// What became of the ballast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BallastUse {
    /// Nothing.
    Kept,
    /// It was given up.
    Released,
}

impl BallastUse {
    /// To be called once what the edit freed is free.
    pub(crate) fn lay_again(self, shared: &Shared) {
        if self == Self::Released {
            shared.ballast.lay(&*shared.disk);
        }
    }
}

/// Makes an edit durable that frees room or leads to it: on a full disk the ballast is given up for it.
pub(crate) fn append(shared: &Shared, manifest: &mut Manifest, edit: &Edit) -> io::Result<BallastUse> {
    let wall_ns = shared.clock.wall().0;
    let (number, ballast) = match manifest.append(edit, wall_ns) {
        Ok(number) => (number, BallastUse::Kept),
        Err(error) if is_disk_full(&error) && shared.ballast.release(&*shared.disk) => {
            shared.metrics.ballast_released.add(1);
            tracing::warn!(%error, "the disk is full: the ballast was given up so that old points can go");
            (manifest.append(edit, wall_ns)?, BallastUse::Released)
        }
        Err(error) => return Err(error),
    };
    shared.attest(number);
    Ok(ballast)
}

fn refused(error: io::Error) -> WriteError {
    if is_disk_full(&error) {
        WriteError::DiskFull(error.to_string())
    } else {
        WriteError::Disk(error.to_string())
    }
}

/// Moves cutoffs on and drops the files that have nothing to show any more.
///
/// # Errors
/// The manifest's; what was not dropped is dropped by the next pass.
pub(crate) fn pass(shared: &Shared) -> io::Result<RetentionReport> {
    look(shared)?;
    let expired = {
        let view = shared.view();
        plan::expired(view.segments.iter().map(|handle| handle.entry()), &view.retentions)
    };
    if expired.is_empty() {
        return Ok(RetentionReport::default());
    }
    let mut manifest = shared.manifest.lock();
    // One that was set aside or merged meanwhile is looked at again by the next pass.
    let view = shared.view();
    let there = |id| view.segments.iter().any(|handle| handle.entry().id == id);
    let expired: Vec<_> = expired.into_iter().filter(|entry| there(entry.id)).collect();
    let ids: Vec<_> = expired.iter().map(|entry| entry.id).collect();
    let next_file = shared.peek_next_file();
    let edit =
        Edit::Compacted { segments: Vec::new(), replaced: ids.clone(), next_file, applied: Vec::new() };
    append(shared, &mut manifest, &edit)?;
    shared.publish_compaction(Vec::new(), &ids, &[]);
    drop(manifest);
    drop(view);
    // Also if moving the cutoffs on took it.
    shared.ballast.lay(&*shared.disk);
    let report = RetentionReport {
        segments: expired.len() as u64,
        rows: expired.iter().map(|entry| entry.rows).sum(),
        bytes: expired.iter().map(|entry| entry.file_bytes).sum(),
    };
    shared.metrics.retention_segments.add(report.segments);
    shared.metrics.retention_bytes.add(report.bytes);
    tracing::info!(segments = report.segments, rows = report.rows, "segments were dropped by age");
    Ok(report)
}

/// For callers that waited for a pass.
pub(crate) fn failed(error: &io::Error) -> EngineError {
    EngineError::Disk { action: "drop by age", message: error.to_string() }
}
