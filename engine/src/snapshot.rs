//! Immutable views: what a query reads while writers, seals and compactions go on.
//!
//! Invariants
//! 1. A snapshot holds every body published before it was taken, whole, and nothing of any body published later.
//! 2. It hides by age what was hidden at its moment, whatever is set or passes while it lives.
//! 3. Rows are in memtables or in segments, never in neither: a seal publishes the segments and lets the memtable go
//!    in one step.

use crate::catalog::Catalog;
use crate::engine::Shared;
use crate::error::Damage;
use crate::feed::Cursor;
use crate::ids::{MeasurementId, NamespaceId, Seq};
use crate::memtable::Memtable;
use crate::retention::{Purpose, Retentions};
use crate::segment::SegmentSet;
use crate::tombstone::Tombstone;
use std::sync::Arc;

/// What is true at one moment, apart from the sequence up to which the memtables count.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Takes new rows.
    pub(crate) active: Arc<Memtable>,
    /// Waiting for their seal, oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    /// Sealed files.
    pub(crate) segments: Arc<SegmentSet>,
    /// Deletes that may still hide rows, by rising sequence.
    pub(crate) tombstones: Arc<[Arc<Tombstone>]>,
    /// Everything up to here is in segments.
    pub(crate) sealed: Seq,
    /// What is hidden by age.
    pub(crate) retentions: Arc<Retentions>,
}

/// An immutable view of the store. Cheap to take; holds memory and files for as long as it lives.
#[derive(Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    cursor: Cursor,
    /// Oldest first, the active one last.
    memtables: Vec<Arc<Memtable>>,
    segments: Arc<SegmentSet>,
    tombstones: Arc<[Arc<Tombstone>]>,
    retentions: Arc<Retentions>,
}

impl Snapshot {
    pub(crate) fn take(shared: &Arc<Shared>) -> Self {
        let (cursor, view) = shared.cursor_and_view();
        let mut memtables = view.frozen.clone();
        memtables.push(view.active.clone());
        let (segments, tombstones) = (view.segments.clone(), view.tombstones.clone());
        let retentions = view.retentions.clone();
        Self { shared: shared.clone(), cursor, memtables, segments, tombstones, retentions }
    }

    /// The same with no rows but those of `segments`: what a compaction reads.
    pub(crate) fn only(&self, segments: SegmentSet) -> Self {
        Self {
            shared: self.shared.clone(),
            cursor: self.cursor,
            memtables: Vec::new(),
            segments: Arc::new(segments),
            tombstones: self.tombstones.clone(),
            retentions: self.retentions.clone(),
        }
    }

    /// First instant of a measurement that readers see, or that files have to keep.
    pub(crate) fn cutoff(&self, namespace: NamespaceId, measurement: MeasurementId, purpose: Purpose) -> i64 {
        self.retentions.cutoff(namespace, Some(measurement), purpose)
    }

    /// Deletes that are part of the snapshot and may hide rows.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        // One that came between the sequence and the view is no part of the snapshot.
        self.tombstones.iter().filter(|tombstone| tombstone.seq <= self.cursor.seq)
    }

    /// Those of one measurement.
    pub(crate) fn tombstones_of(&self, measurement: MeasurementId) -> impl Iterator<Item = &Tombstone> {
        let tombstones = self.tombstones().map(|tombstone| &**tombstone);
        tombstones.filter(move |tombstone| tombstone.measurement == measurement)
    }

    /// Place in the commit order up to which this snapshot sees.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Rows above this sequence are no part of the snapshot.
    pub fn seq(&self) -> Seq {
        self.cursor.seq
    }

    /// Names and ids. It may know names that are younger than the snapshot; they have no rows in it.
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Memtables, oldest first; all their rows are younger than every segment.
    pub fn memtables(&self) -> &[Arc<Memtable>] {
        &self.memtables
    }

    /// Sealed files.
    pub fn segments(&self) -> &SegmentSet {
        &self.segments
    }

    /// Tells that a part of a file was found damaged: counted, alarmed, shown by `Engine::health`.
    pub fn report_damage(&self, damage: &Damage) {
        self.shared.report_damage(damage);
    }
}
