//! When the disk refuses: what becomes of the group, of the log, and of writing.
//!
//! Invariants: a group is failed as a whole; a log that failed is left, and nothing new is taken before all that is visible is
//! durable elsewhere. Which promises that keeps stands at the head of the parent module.

use super::{Answer, Group, OldLog, RESUME_PAUSE, Writer};
use crate::error::{WriteError, is_disk_full};
use crate::ids::{LogId, Seq};
use crate::ingest::names::DefinedInLog;
use crate::wal::{LogWriter, Retired};
use std::io;

impl Writer {
    /// Also when nobody writes the owner hears that the disk fills up.
    pub(super) fn look_at_the_disk(&mut self) {
        if let Some(error) = self.no_room(0)
            && !self.shared.status.is_refusing()
        {
            self.shared.status.set_refusing(Some(error.to_string()));
        }
    }

    /// Clears what `/health` says once nothing stands in the way any more: a sender that waits for it sends nothing.
    pub(super) fn look_whether_writes_resume(&mut self) {
        let now = self.shared.clock.monotonic();
        if !self.shared.status.is_refusing() || now < self.resume_due {
            return;
        }
        self.resume_due = now + RESUME_PAUSE;
        if self.refusal().is_none() && self.no_room(0).is_none() && self.ensure_log().is_ok() {
            self.shared.status.set_refusing(None);
        }
    }

    /// A write failed: nothing of the group was stored. The log keeps what it has; a new one begins with the next body.
    pub(super) fn abandon_log(&mut self, group: Group, error: &io::Error) {
        self.shared.metrics.logs_abandoned.add(1);
        tracing::warn!(%error, full = is_disk_full(error), "a log was abandoned after a failed write");
        let failure = if is_disk_full(error) {
            self.shared.space.met_the_end();
            WriteError::DiskFull(error.to_string())
        } else {
            WriteError::Disk(error.to_string())
        };
        // Whole records of the group may have reached the file: they go before anybody is told that they were refused.
        // The sync is also for interval bodies that were answered before.
        let cut = self.log.as_mut().map_or(Ok(()), LogWriter::cut_to_good);
        match (cut, self.sync_log()) {
            (Ok(()), Ok(())) => {
                self.fail(group, &failure);
                self.leave_log(Retired::Spare);
            }
            (Err(error), Ok(())) => {
                self.fail(group, &WriteError::OutcomeUnknown(error.to_string()));
                self.leave_log(Retired::Spare);
            }
            (_, Err(error)) => self.log_died(group, &error),
        }
    }

    /// A sync failed: whether the group is durable is unknown, so nobody is told that it is and nobody sees it.
    pub(super) fn log_died(&mut self, group: Group, error: &io::Error) {
        self.fail(group, &WriteError::OutcomeUnknown(error.to_string()));
        self.replace_dead_log(error);
    }

    /// Seals what is visible and begins a new log; if either fails, the store is read-only from now on.
    pub(super) fn replace_dead_log(&mut self, error: &io::Error) {
        self.shared.metrics.logs_abandoned.add(1);
        tracing::error!(%error, "a sync of the log failed: sealing what is in memory and starting a new log");
        self.leave_log(Retired::Removed);
        self.sync_due = None;
        self.seal_after_failed_sync(&format!("a sync of the log failed ({error})"));
    }

    /// Everything visible has to be in segments before the next log may begin right after it. While the disk is full the
    /// sealing thread goes on trying, and writes resume when it is done; any other failure ends writing.
    pub(super) fn seal_after_failed_sync(&mut self, what: &str) {
        self.log_dead = true;
        // Also with no rows: definitions may be what is not durable.
        let sealed = self.hand_to_sealer().and_then(|()| self.await_seals());
        let resumed = sealed.and_then(|()| match self.ensure_log() {
            Ok(()) | Err(WriteError::DiskFull(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
        let Err(reason) = resumed else { return };
        let reason = format!("{what} and writing could not resume: {reason}");
        if matches!(self.stuck, Some(WriteError::DiskFull(_))) {
            tracing::error!(%reason, "writes are refused until there is room");
            self.shared.status.set_refusing(Some(reason));
            return;
        }
        tracing::error!(%reason, "the store is read-only");
        self.shared.status.set_read_only(&reason);
    }

    pub(super) fn fail(&mut self, group: Group, error: &WriteError) {
        self.count_failure(error, group.writes.len() as u64);
        for write in group.writes {
            let _ = write.reply.send(Answer::Failed(error.clone()));
        }
        for (_, reply) in group.namespaces {
            let _ = reply.send(Err(error.clone()));
        }
        for (_, reply) in group.measurements {
            let _ = reply.send(Err(error.clone()));
        }
        for (_, reply) in group.deletes {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in group.meanings {
            let _ = reply.send(Err(error.clone()));
        }
    }

    pub(super) fn count_failure(&self, error: &WriteError, bodies: u64) {
        let metrics = &self.shared.metrics;
        match error {
            WriteError::DiskFull(_) => metrics.disk_full.add(bodies),
            WriteError::OutcomeUnknown(_) => metrics.outcome_unknown.add(bodies),
            _ => {}
        }
    }

    /// Sets the current log aside; the next body begins a new one.
    pub(super) fn leave_log(&mut self, then: Retired) {
        if let Some(log) = self.log.take() {
            // Above the last published sequence the log holds nothing that counts.
            self.unsealed_logs.push(OldLog { id: log.id(), last: self.last, then });
            self.shared.status.set_wal(self.unsealed_logs.len() as u64, 0);
        }
    }

    pub(super) fn ensure_log(&mut self) -> Result<(), WriteError> {
        if self.log.is_some() {
            return Ok(());
        }
        if self.log_dead {
            return Err(WriteError::Disk("what a dead log held is not sealed yet".to_owned()));
        }
        let id = self.next_log;
        self.next_log = LogId(id.0 + 1);
        let first = Seq(self.last.0 + 1);
        let spare = self.recycler.take();
        let created = LogWriter::create(&self.shared.disk, self.shared.store, id, spare.as_deref(), first);
        let log = created.map_err(|error| {
            if is_disk_full(&error) {
                WriteError::DiskFull(format!("no room for a new log: {error}"))
            } else {
                WriteError::Disk(format!("a new log could not be started: {error}"))
            }
        })?;
        self.durable = self.last;
        self.defined = DefinedInLog::default();
        self.log = Some(log);
        Ok(())
    }
}
