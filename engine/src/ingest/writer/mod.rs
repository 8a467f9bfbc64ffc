//! The one writer thread: orders, gives ids, writes, syncs once for all that wait, publishes, answers.
//!
//! Promise: a body is answered "stored" under `Always` only after a sync that began when its bytes were written; what
//! was answered otherwise never becomes visible in this opening of the store.
//!
//! Invariants
//! 1. Sequences rise by one over all records; a log is created only when everything below its first sequence is
//!    durable in an older log or in segments.
//! 2. Bodies reach the memtable in commit order, after the write (interval) or the sync (always) they wait for.
//! 3. A log whose sync failed is never touched again: the memtable is sealed, a new log begins, or the store is
//!    read-only (ADR 0004).
//! 4. A log is retired only when the manifest says that its records are sealed and a later record attests that edit.
//!
//! While a sync runs, the next group gathers in the queue. Not here: parsing and encoding (callers), sealing (`seal`).

mod admit;
mod deletes;
mod failures;
mod request;
mod seals;

pub(crate) use request::{Answer, Request, Stored, WriterStart};

use super::names::DefinedInLog;
use super::prepare::Prepared;
use crate::engine::Shared;
use crate::error::{EngineError, WriteError};
use crate::feed::{CommittedBatch, Cursor, Extent};
use crate::ids::{FieldId, LogId, NextIds, Seq};
use crate::seal::{SealJob, SealNews, SealReport};
use crate::wal::{LogWriter, RecordHead, RecordKind, Recycler, Retired};
use crossbeam_channel::{Receiver, Sender, select};
use request::{Group, Pending, WaitingDelete};
use seals::LogEnd;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The writer thread's state.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    news: Receiver<SealNews>,
    sealer: Sender<SealJob>,
    log: Option<LogWriter>,
    next_log: LogId,
    recycler: Recycler,
    /// Older logs with records that may not be sealed yet.
    unsealed_logs: Vec<OldLog>,
    defined: DefinedInLog,
    next_ids: NextIds,
    /// Last sequence that was published; the next record gets the one after.
    last: Seq,
    durable: Seq,
    manifest_edit: u64,
    /// When the oldest unsynced interval body must be durable, on the monotonic clock.
    sync_due: Option<Duration>,
    /// Wall minus monotonic clock at the last look, in nanoseconds.
    clock_offset: i128,
    /// When the first row came into the active memtable.
    active_since: Duration,
    /// Memtables that wait for their seal, and the last sequence of the newest of them.
    frozen: usize,
    frozen_through: Seq,
    /// Bytes of logs that each of them takes, oldest first, and the active one: what their seals will need on the disk.
    unsealed_bytes: VecDeque<u64>,
    /// Somebody waits for a seal of the active memtable, which waits for those before it.
    freeze_wanted: bool,
    seal_waiters: Vec<(Seq, Sender<Result<SealReport, EngineError>>)>,
    /// Deletes that wait for a seal, because of rows in memory that they hide.
    waiting_deletes: Vec<WaitingDelete>,
    /// Why the last seal failed; cleared by the next that works.
    stuck: Option<WriteError>,
    /// A log died and what it held is not sealed yet: no new log may begin.
    log_dead: bool,
    /// Since when bodies wait because seals are behind.
    backlog_since: Option<Duration>,
    seal_first: bool,
    /// Sealed up to here since logs were last retired.
    retire_through: Option<Seq>,
    /// When a store that refuses looks next whether it still has to.
    resume_due: Duration,
    /// From when on a body that does not fit on a disk that is not full may ask for a seal again.
    room_seal_due: Duration,
}

/// A log that takes no more records.
#[derive(Debug, Clone, Copy)]
struct OldLog {
    id: LogId,
    /// Its last sequence that counts.
    last: Seq,
    /// What becomes of the file when everything in it is sealed.
    then: Retired,
}

/// A pause between looks at timers that depend on the clock of the store.
const TICK: Duration = Duration::from_millis(50);
/// A store that refuses writes looks this often whether it still has to.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// Between two seals that long bodies ask for while the disk has room for ordinary ones.
const ROOM_SEAL_PAUSE: Duration = Duration::from_secs(60);
/// The wall clock may step this far against the monotonic one without a record of it.
const CLOCK_STEP_NS: u128 = 2_000_000_000;

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Receiver<Request>,
        news: Receiver<SealNews>,
        sealer: Sender<SealJob>,
        start: WriterStart,
    ) -> Self {
        let now = shared.clock.monotonic();
        let active_bytes = shared.view().active.bytes();
        let memtables = start.frozen.iter().map(|(memtable, _)| memtable.bytes());
        let unsealed_bytes = memtables.chain([active_bytes]).collect();
        let (frozen, frozen_through) = (start.frozen.len(), start.frozen.last().map(|(_, through)| *through));
        for (memtable, through) in start.frozen {
            // The sealer is there as long as this thread is.
            let _ = sealer.send(SealJob { memtable, through });
        }
        // A log that could not be synced at opening is as dead as one whose sync failed here.
        let then = if start.seal_first { Retired::Removed } else { Retired::Spare };
        Self {
            clock_offset: clock_offset(&shared),
            shared,
            requests,
            news,
            sealer,
            log: None,
            next_log: start.next_log,
            recycler: start.recycler,
            unsealed_logs: start
                .unsealed_logs
                .into_iter()
                .map(|(id, last)| OldLog { id, last, then })
                .collect(),
            defined: DefinedInLog::default(),
            next_ids: start.next_ids,
            last: start.last,
            durable: start.last,
            manifest_edit: start.manifest_edit,
            sync_due: None,
            active_since: now,
            frozen,
            frozen_through: frozen_through.unwrap_or(start.last),
            unsealed_bytes,
            freeze_wanted: false,
            seal_waiters: Vec::new(),
            waiting_deletes: Vec::new(),
            stuck: None,
            log_dead: false,
            backlog_since: None,
            seal_first: start.seal_first,
            retire_through: None,
            resume_due: now,
            room_seal_due: now,
        }
    }

    /// Serves requests until it is told to close or every caller is gone.
    pub(crate) fn run(mut self) {
        if std::mem::take(&mut self.seal_first) {
            self.seal_after_failed_sync("a log could not be synced when the store was opened");
        }
        let requests = self.requests.clone();
        let nothing = crossbeam_channel::never();
        loop {
            self.shared.status.beat();
            let holds_back = self.holds_back();
            let wait = if self.sync_due.is_some() || holds_back { TICK } else { TICK * 20 };
            let requests = if holds_back { &nothing } else { &requests };
            select! {
                recv(self.news) -> news => match news {
                    Ok(news) => self.heard(news),
                    Err(_) => self.lost_sealer(),
                },
                recv(requests) -> request => {
                    let Ok(request) = request else {
                        let _ = self.close();
                        return;
                    };
                    if let Some(reply) = self.serve(request) {
                        let _ = reply.send(self.close());
                        return;
                    }
                },
                default(wait) => {}
            }
            self.tick();
        }
    }

    /// Commits one group of requests; gives back the caller that asked for the end, if one did.
    fn serve(&mut self, first: Request) -> Option<Sender<Result<(), EngineError>>> {
        let mut group = Group::default();
        let mut next = Some(first);
        let mut closing = None;
        let mut sealing = None;
        let mut deleting = None;
        while let Some(request) = next.take() {
            match request {
                Request::Seal(reply) => sealing = Some(reply),
                Request::Close(reply) => closing = Some(reply),
                Request::Delete { tombstones, reply } => deleting = Some((tombstones, reply)),
                request => self.admit(request, &mut group),
            }
            let gathered = self.log.as_ref().map_or(0, LogWriter::group_bytes);
            let alone = sealing.is_some() || closing.is_some() || deleting.is_some();
            if gathered < self.shared.options.group_bytes && !alone {
                next = self.requests.try_recv().ok();
            }
        }
        self.commit(group);
        if let Some(reply) = sealing {
            self.seal_now(reply);
        }
        if let Some(delete) = deleting {
            self.delete(delete);
        }
        closing
    }

    /// Whether requests wait in the queue: seals are behind and the memtable is twice as large as it may be. Callers that
    /// came before wait for as long as those in the queue do, then they are refused.
    fn holds_back(&mut self) -> bool {
        if self.frozen <= self.shared.options.max_frozen
            || !self.is_overfull()
            || self.shared.status.closing()
        {
            self.backlog_since = None;
            return false;
        }
        let now = self.shared.clock.monotonic();
        let since = *self.backlog_since.get_or_insert(now);
        self.stuck.is_none() && now.saturating_sub(since) < self.shared.options.queue_wait
    }

    fn is_overfull(&self) -> bool {
        self.shared.view().active.bytes() >= 2 * self.shared.options.memtable_bytes
    }

    /// Why nothing can be taken at the moment.
    fn refusal(&self) -> Option<WriteError> {
        if let Some(reason) = self.shared.status.read_only() {
            return Some(WriteError::ReadOnly(reason));
        }
        let backlog = self.backlog_since.is_some() && self.is_overfull();
        if !backlog && !self.log_dead {
            return None;
        }
        let retry_after = self.shared.options.queue_wait.max(Duration::from_secs(1));
        Some(self.stuck.clone().unwrap_or(WriteError::Overloaded { retry_after }))
    }

    /// Why a request that adds `bytes` to the log would not leave enough room on the disk.
    fn no_room(&mut self, bytes: u64) -> Option<WriteError> {
        let (shared, now) = (&self.shared, self.shared.clock.monotonic());
        let empty = shared.view().active.is_empty();
        if empty && let Some(active) = self.unsealed_bytes.back_mut() {
            // Names and deletes alone are not sealed; nothing would ever take them off.
            *active = 0;
        }
        let unsealed = self.unsealed_bytes.iter().sum();
        let refused = shared.space.refusal(&*shared.disk, &shared.status, now, (bytes, unsealed))?;
        // What is in memory may become far less. A long body that does not fit is no reason for many small segments.
        if !empty && (shared.space.info().full || now >= self.room_seal_due) {
            self.freeze_wanted = true;
            self.room_seal_due = now + ROOM_SEAL_PAUSE;
        }
        Some(WriteError::DiskFull(refused))
    }

    fn append(&mut self, kind: RecordKind, payload: &[u8], crc: u32, group: &mut Group) -> Seq {
        let seq = Seq(group.last.unwrap_or(self.last).0 + 1);
        let head = self.head(kind, seq);
        let log = self.log.as_mut().expect("admit made sure of a log");
        log.append(head, payload, crc);
        group.last = Some(seq);
        seq
    }

    fn head(&self, kind: RecordKind, seq: Seq) -> RecordHead {
        let wall = self.shared.clock.wall();
        let manifest_edit = self.manifest_edit.max(self.shared.to_attest());
        RecordHead { kind, seq, durable_seq: self.durable, wall, manifest_edit }
    }

    /// Writes the group, syncs if anybody waits for it, publishes and answers.
    fn commit(&mut self, mut group: Group) {
        if group.last.is_none() {
            // Nothing for the log: bodies whose every row was refused.
            self.publish(group);
            return;
        }
        self.note_clock_step(&mut group);
        let Some(log) = self.log.as_mut() else { return };
        self.shared.metrics.wal_bytes_written.add(log.group_bytes() as u64);
        let group_bytes = log.group_bytes() as u64;
        self.shared.space.spend(group_bytes);
        self.shared.metrics.groups.add(1);
        if let Err(error) = log.write() {
            self.abandon_log(group, &error);
            return;
        }
        // What was not written needs no seal.
        if let Some(active) = self.unsealed_bytes.back_mut() {
            *active += group_bytes;
        }
        if group.must_sync {
            if let Err(error) = self.sync_log() {
                self.log_died(group, &error);
                return;
            }
        } else if let Some(within) = group.sync_within {
            let due = self.shared.clock.monotonic() + within;
            self.sync_due = Some(self.sync_due.map_or(due, |before| before.min(due)));
        }
        self.publish(group);
    }

    fn sync_log(&mut self) -> io::Result<()> {
        let Some(log) = self.log.as_mut() else { return Ok(()) };
        let began = self.shared.clock.monotonic();
        log.sync()?;
        self.shared.metrics.wal_sync.observe(self.shared.clock.monotonic().saturating_sub(began));
        self.durable = log.synced_seq();
        self.sync_due = None;
        Ok(())
    }

    /// Makes a written group visible and answers its callers.
    fn publish(&mut self, group: Group) {
        if !group.definitions.is_empty() {
            self.shared.catalog.apply(&group.definitions);
        }
        let log_id = self.log.as_ref().map_or(LogId(0), LogWriter::id);
        let view = self.shared.view();
        if view.active.is_empty() {
            self.active_since = self.shared.clock.monotonic();
        }
        for write in &group.writes {
            if !write.prepared.batches.is_empty() {
                view.active.apply(write.prepared.namespace, write.seq, &write.prepared.batches);
            }
        }
        let (mut deleted, mut extents) = (Vec::new(), Vec::new());
        for (tombstones, reply) in group.deletes {
            self.shared.metrics.deletes.add(1);
            extents.extend(tombstones.iter().map(Extent::deleted));
            // Before the sequence: whoever reads it sees the delete.
            self.shared.publish_tombstones(tombstones);
            deleted.push(reply);
        }
        if let Some(last) = group.last {
            self.last = last;
            self.shared.publish(Cursor { log_id, seq: last });
        }
        for reply in deleted {
            let _ = reply.send(Ok(Cursor { log_id, seq: self.last }));
        }
        for (id, reply) in group.namespaces {
            let _ = reply.send(Ok(id));
        }
        for (id, reply) in group.measurements {
            let _ = reply.send(Ok(id));
        }
        for reply in group.meanings {
            let _ = reply.send(Ok(()));
        }
        // From here on what changed answers goes to the feed, in commit order; a delete is alone in its group.
        if !extents.is_empty() {
            self.shared.feed.changed(Cursor { log_id, seq: self.last }, extents);
        }
        let metrics = &self.shared.metrics;
        let wall = self.shared.clock.wall();
        let mut meant = group.meant.into_iter().peekable();
        for Pending { mut prepared, seq, reply } in group.writes {
            let cursor = Cursor { log_id, seq };
            while let Some((told, fields)) = meant.next_if(|(told, _)| *told < seq) {
                self.tell_meaning(Cursor { log_id, seq: told }, &fields);
            }
            let rejections = std::mem::take(&mut prepared.rejections);
            metrics.points.add(prepared.points);
            metrics.future_points.add(prepared.future_points);
            metrics.values.add(prepared.values);
            metrics.bodies.add(1);
            metrics.rejected_points.add(rejections.len() as u64);
            let (points, values) = (prepared.points, prepared.values);
            let _ = reply.send(Answer::Stored(Box::new(Stored { cursor, points, values, rejections })));
            if !prepared.batches.is_empty() {
                let Prepared { namespace, batches, .. } = *prepared;
                self.shared.feed.push(CommittedBatch { cursor, wall, namespace, batches });
            }
        }
        for (seq, fields) in meant {
            self.tell_meaning(Cursor { log_id, seq }, &fields);
        }
        if group.last.is_some() {
            self.shared.feed.settle();
        }
    }

    fn tell_meaning(&self, cursor: Cursor, fields: &[FieldId]) {
        self.shared.feed.changed(cursor, Extent::meanings(&self.shared.catalog, fields));
    }

    fn note_clock_step(&mut self, group: &mut Group) {
        let offset = clock_offset(&self.shared);
        let step = (offset - self.clock_offset).unsigned_abs();
        if step <= CLOCK_STEP_NS {
            return;
        }
        let mut payload = [0_u8; 16];
        let wall = self.shared.clock.wall();
        let expected = i128::from(wall.0) - (offset - self.clock_offset);
        let expected = i64::try_from(expected).unwrap_or(if expected < 0 { i64::MIN } else { i64::MAX });
        payload[..8].copy_from_slice(&expected.to_le_bytes());
        payload[8..].copy_from_slice(&wall.0.to_le_bytes());
        self.append(RecordKind::Clock, &payload, crc32fast::hash(&payload), group);
        self.clock_offset = offset;
        self.shared.metrics.clock_steps.add(1);
        tracing::warn!(step_s = step as f64 / 1e9, "the wall clock stepped");
    }

    fn tick(&mut self) {
        if let Some(due) = self.sync_due
            && self.shared.clock.monotonic() >= due
            && let Err(error) = self.sync_log()
        {
            self.replace_dead_log(&error);
        }
        if let Some(through) = self.retire_through.take() {
            self.retire_logs(through);
        }
        self.look_at_the_disk();
        self.look_whether_writes_resume();
        self.delete_what_waits();
        self.seal_if_due();
    }

    fn close(&mut self) -> Result<(), EngineError> {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Seal(reply) => drop(reply.send(Err(EngineError::Closed))),
                Request::Close(reply) => drop(reply.send(Ok(()))),
                Request::Delete { reply, .. } => drop(reply.send(Err(WriteError::Closed))),
                request => {
                    let mut group = Group::default();
                    self.admit(request, &mut group);
                    self.commit(group);
                }
            }
        }
        if self.end_log() == LogEnd::Died {
            // All it held was sealed, so the log that followed it has nothing to lose.
            self.end_log();
        }
        let result = if self.durable < self.last {
            let reason = self.shared.status.read_only().unwrap_or_else(|| "a log is dead".to_owned());
            let message = format!("the newest points may not be durable: {reason}");
            Err(EngineError::Disk { action: "end the log", message })
        } else {
            Ok(())
        };
        self.shared.feed.close();
        for (_, reply) in self.waiting_deletes.drain(..) {
            let _ = reply.send(Err(WriteError::Closed));
        }
        for (_, reply) in self.seal_waiters.drain(..) {
            let _ = reply.send(Err(EngineError::Closed));
        }
        result
    }
}

fn clock_offset(shared: &Shared) -> i128 {
    i128::from(shared.clock.wall().0) - shared.clock.monotonic().as_nanos() as i128
}
