//! The writer's side of sealing: when a memtable is frozen, who waits for its seal, and what a seal lets go of.
//!
//! Invariants
//! 1. At most `max_frozen` memtables wait behind the one that is being sealed.
//! 2. Who asks for a seal is answered when the memtable that held the newest row at that moment is sealed, or failed to be.

use super::{Group, TICK, Writer};
use crate::error::{EngineError, WriteError};
use crate::ids::Seq;
use crate::memtable::Memtable;
use crate::seal::{SealJob, SealNews, SealReport};
use crate::wal::{LogHealth, LogWriter, RecordKind, Retired};
use crossbeam_channel::Sender;
use std::sync::Arc;

/// How a log that was to be ended came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogEnd {
    /// All that is visible and not sealed yet is durable in it, or in logs before it.
    Durable,
    /// Its sync failed: what is visible was sealed instead, or writing has ended.
    Died,
}

impl Writer {
    pub(super) fn seal_if_due(&mut self) {
        let view = self.shared.view();
        let options = &self.shared.options;
        let active = &view.active;
        let log_bytes = self.log.as_ref().map_or(0, LogWriter::bytes);
        self.shared.status.set_wal(self.unsealed_logs.len() as u64, log_bytes);
        let old = self.shared.clock.monotonic().saturating_sub(self.active_since) >= options.seal_age;
        let large = active.bytes() >= options.memtable_bytes || log_bytes >= options.wal_bytes;
        let due = large || old || self.freeze_wanted;
        if !due || active.is_empty() {
            return;
        }
        if self.frozen > options.max_frozen {
            return;
        }
        if let Err(reason) = self.end_log_and_freeze() {
            tracing::error!(%reason, "the memtable could not be frozen");
        }
    }

    pub(super) fn seal_now(&mut self, reply: Sender<Result<SealReport, EngineError>>) {
        let empty = self.shared.view().active.is_empty();
        if empty && self.frozen == 0 {
            let _ = reply.send(Ok(SealReport::default()));
            return;
        }
        if empty {
            self.seal_waiters.push((self.frozen_through, reply));
            return;
        }
        if self.frozen > self.shared.options.max_frozen {
            // One more would be without bound; it is frozen when one of those before it is sealed.
            match &self.stuck {
                Some(error) => {
                    let message = error.to_string();
                    let _ = reply.send(Err(EngineError::Disk { action: "seal", message }));
                }
                None => {
                    self.freeze_wanted = true;
                    self.seal_waiters.push((self.last, reply));
                }
            }
            return;
        }
        if let Err(message) = self.end_log_and_freeze() {
            let _ = reply.send(Err(EngineError::Disk { action: "seal", message }));
        } else if self.frozen > 0 {
            self.seal_waiters.push((self.frozen_through, reply));
        } else {
            // A log that died on the way was followed by a seal of everything, or by the end of writing.
            let _ = reply.send(match self.shared.status.read_only() {
                None => Ok(SealReport::default()),
                Some(message) => Err(EngineError::Disk { action: "seal", message }),
            });
        }
    }

    /// Ends the current log, so that it is whole and durable, and hands the memtable to the sealer.
    pub(super) fn end_log_and_freeze(&mut self) -> Result<(), String> {
        match self.end_log() {
            LogEnd::Durable => self.freeze(),
            LogEnd::Died => Ok(()),
        }
    }

    /// Ends the current log, if there is one, and leaves it.
    pub(super) fn end_log(&mut self) -> LogEnd {
        let head = self.head(RecordKind::End, self.last);
        let Some(log) = self.log.as_mut() else { return LogEnd::Durable };
        match log.end(head) {
            Ok(()) => self.durable = self.last,
            // The sealing record did not fit; what is before it can still be made durable.
            Err(error) if log.health() == LogHealth::Abandoned => {
                tracing::warn!(%error, "a log was left without its sealing record");
                if let Err(error) = self.sync_log() {
                    self.replace_dead_log(&error);
                    return LogEnd::Died;
                }
            }
            Err(error) => {
                self.replace_dead_log(&error);
                return LogEnd::Died;
            }
        }
        self.sync_due = None;
        self.leave_log(Retired::Spare);
        LogEnd::Durable
    }

    pub(super) fn freeze(&mut self) -> Result<(), String> {
        if self.shared.view().active.is_empty() { Ok(()) } else { self.hand_to_sealer() }
    }

    pub(super) fn hand_to_sealer(&mut self) -> Result<(), String> {
        let frozen = self.shared.view().active.clone();
        self.shared.freeze(Arc::new(Memtable::new(self.last)));
        self.frozen += 1;
        self.unsealed_bytes.push_back(0);
        self.frozen_through = self.last;
        self.freeze_wanted = false;
        let job = SealJob { memtable: frozen, through: self.last };
        self.sealer.send(job).map_err(|_| "the sealing thread is gone".to_owned())
    }

    /// Waits until every frozen memtable is sealed, or the first failure to seal one.
    pub(super) fn await_seals(&mut self) -> Result<(), String> {
        while self.frozen > 0 {
            self.shared.status.beat();
            match self.news.recv_timeout(TICK) {
                Ok(SealNews::Failed { reason, full }) => {
                    self.heard(SealNews::Failed { reason: reason.clone(), full });
                    return Err(reason);
                }
                Ok(news @ SealNews::Sealed { .. }) => self.heard(news),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                    return Err("the sealing thread is gone".into());
                }
            }
        }
        Ok(())
    }

    /// The sealing thread ended without being told to: a bug. What is in the log is safe; nothing new is taken.
    pub(super) fn lost_sealer(&mut self) {
        self.news = crossbeam_channel::never();
        tracing::error!("the sealing thread is gone: the store is read-only until it is opened again");
        self.shared.status.set_read_only("the sealing thread ended");
        for (_, reply) in self.seal_waiters.drain(..) {
            let _ = reply.send(Err(EngineError::Closed));
        }
        for (_, reply) in self.waiting_deletes.drain(..) {
            let _ = reply.send(Err(WriteError::Closed));
        }
    }

    pub(super) fn heard(&mut self, news: SealNews) {
        match news {
            SealNews::Sealed { through, manifest_edit, report } => {
                self.frozen -= 1;
                self.unsealed_bytes.pop_front();
                self.stuck = None;
                if self.frozen == 0 && std::mem::take(&mut self.log_dead) {
                    // Nothing was taken since the log died: all that is visible is in segments.
                    self.durable = self.last;
                    self.shared.status.set_refusing(None);
                }
                self.manifest_edit = self.manifest_edit.max(manifest_edit);
                // Later, from the turn of the thread: a log that dies meanwhile is sealed on its own.
                self.retire_through = Some(through);
                let waiters = std::mem::take(&mut self.seal_waiters);
                for (wanted, reply) in waiters {
                    if wanted <= through {
                        let _ = reply.send(Ok(report));
                    } else {
                        self.seal_waiters.push((wanted, reply));
                    }
                }
            }
            SealNews::Failed { reason, full } => {
                for (_, reply) in self.seal_waiters.drain(..) {
                    let _ = reply.send(Err(EngineError::Disk { action: "seal", message: reason.clone() }));
                }
                let what = format!("recent points cannot be sealed: {reason}");
                self.stuck = Some(if full { WriteError::DiskFull(what) } else { WriteError::Disk(what) });
            }
        }
    }

    /// Retires logs whose every record is sealed, once a durable record attests the manifest edit that says so.
    pub(super) fn retire_logs(&mut self, through: Seq) {
        let any = self.unsealed_logs.iter().any(|log| log.last <= through);
        if !any || self.ensure_log().is_err() {
            return;
        }
        // The body of this record is empty of news: its header carries the number of the manifest's edit.
        let mut group = Group { must_sync: true, ..Group::default() };
        let wall = self.shared.clock.wall().0.to_le_bytes();
        let payload: Vec<u8> = wall.iter().chain(&wall).copied().collect();
        self.append(RecordKind::Clock, &payload, crc32fast::hash(&payload), &mut group);
        self.commit(group);
        if self.log.is_none() || self.shared.status.read_only().is_some() {
            return;
        }
        let recycler = &mut self.recycler;
        let disk = &self.shared.disk;
        self.unsealed_logs.retain(|log| {
            if log.last > through {
                return true;
            }
            match recycler.retire(disk, log.id, log.then) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(log = log.id.0, %error, "a sealed log could not be retired; it will be later");
                    true
                }
            }
        });
    }
}
