//! The writer's side of deletes.
//!
//! Invariant: no memtable holds rows that a tombstone hides on both sides of it: one with such rows is frozen first. While as
//! many as may be wait for their seal, the delete waits too.

use super::{Group, WaitingDelete, Writer};
use crate::error::WriteError;
use crate::tombstone::{Tombstone, encode_deletes};
use crate::wal::{MAX_PAYLOAD_LEN, RecordKind};

/// Most bytes of all deletes that wait for a compaction: each manifest holds them.
const MAX_TOMBSTONE_BYTES: usize = 32 << 20;

impl Writer {
    /// Commits a delete by itself; called between groups.
    pub(super) fn delete(&mut self, delete: WaitingDelete) {
        if let Some(error) = self.refusal() {
            let _ = delete.1.send(Err(error));
            return;
        }
        if self.must_freeze_for(&delete) && self.frozen > self.shared.options.max_frozen {
            match &self.stuck {
                Some(error) => drop(delete.1.send(Err(error.clone()))),
                None => self.waiting_deletes.push(delete),
            }
            return;
        }
        let (mut tombstones, reply) = delete;
        if let Err(error) = self.prepare_delete(&tombstones) {
            let _ = reply.send(Err(error));
            return;
        }
        let mut payload = Vec::new();
        encode_deletes(&tombstones, &mut payload);
        if payload.len() > MAX_PAYLOAD_LEN {
            let _ = reply.send(Err(WriteError::TooLarge { len: payload.len(), limit: MAX_PAYLOAD_LEN }));
            return;
        }
        let mut group = Group { must_sync: true, ..Group::default() };
        let seq = self.append(RecordKind::Delete, &payload, crc32fast::hash(&payload), &mut group);
        tombstones.iter_mut().for_each(|tombstone| tombstone.seq = seq);
        group.deletes.push((tombstones, reply));
        self.commit(group);
    }

    /// Deletes that waited for a seal, once there was one.
    pub(super) fn delete_what_waits(&mut self) {
        if self.waiting_deletes.is_empty()
            || (self.frozen > self.shared.options.max_frozen && self.stuck.is_none())
        {
            return;
        }
        for delete in std::mem::take(&mut self.waiting_deletes) {
            self.delete(delete);
        }
    }

    fn must_freeze_for(&self, (tombstones, _): &WaitingDelete) -> bool {
        let active = &self.shared.view().active;
        tombstones.iter().any(|tombstone| active.meets(tombstone))
    }

    fn prepare_delete(&mut self, tombstones: &[Tombstone]) -> Result<(), WriteError> {
        let limit = self.shared.options.max_tombstones;
        let view = self.shared.view();
        let bytes: usize =
            view.tombstones.iter().map(|t| t.bytes()).chain(tombstones.iter().map(Tombstone::bytes)).sum();
        if view.tombstones.len() + tombstones.len() > limit.max(tombstones.len())
            || bytes > MAX_TOMBSTONE_BYTES
        {
            return Err(WriteError::TooManyDeletes { limit });
        }
        let active = self.shared.view().active.clone();
        if tombstones.iter().any(|tombstone| active.meets(tombstone)) {
            self.end_log_and_freeze().map_err(WriteError::Disk)?;
        }
        self.ensure_log()
    }
}
