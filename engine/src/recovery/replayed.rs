//! What logs hold that is in no segment, record by record.

use crate::catalog::{Catalog, Definition, decode_definitions};
use crate::error::Damage;
use crate::feed::{CommittedBatch, Cursor, Entry, Extent, History, Place, What};
use crate::ids::{FieldId, NextIds, Seq};
use crate::ingest::payload;
use crate::memtable::Memtable;
use crate::tombstone::{Tombstone, decode_deletes};
use crate::undefined;
use crate::wal::{Record, RecordKind};
use std::sync::Arc;

/// Records of one log with points of which nothing says whose they are.
pub(super) struct Nameless {
    /// The first of them.
    pub(super) damage: Damage,
    /// Where the last one ends.
    pub(super) end: u64,
    pub(super) records: u64,
}

impl Nameless {
    pub(super) fn reach(&mut self, end: u64) {
        self.end = end;
        self.records += 1;
    }
}

/// What logs hold that is in no segment.
pub(super) struct Recent {
    /// Rows before a delete that hides some of them, oldest first, with the sequence up to which each goes.
    pub(super) frozen: Vec<(Arc<Memtable>, Seq)>,
    pub(super) active: Arc<Memtable>,
    pub(super) tombstones: Vec<Tombstone>,
    /// What readers of the feed resume from.
    pub(super) feed: History,
    /// Above all ids of points in the logs.
    pub(super) met: NextIds,
}

impl Recent {
    pub(super) fn new(base: Seq, feed_bytes: usize) -> Self {
        // Watched until the store is open: a reader may come for what goes beyond `feed_bytes`.
        let mut feed = History::new(base, feed_bytes);
        feed.watched = true;
        Self {
            frozen: Vec::new(),
            active: Arc::new(Memtable::new(base)),
            tombstones: Vec::new(),
            feed,
            met: NextIds::default(),
        }
    }

    pub(super) fn take_feed(&mut self) -> History {
        self.feed.watched = false;
        std::mem::replace(&mut self.feed, History::new(Seq(0), 0))
    }

    pub(super) fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        self.frozen.iter().map(|(memtable, _)| memtable).chain([&self.active]).map(|memtable| &**memtable)
    }

    fn delete(&mut self, seq: Seq, tombstones: Vec<Tombstone>) {
        if tombstones.iter().any(|tombstone| self.active.meets(tombstone)) {
            let full = std::mem::replace(&mut self.active, Arc::new(Memtable::new(seq)));
            self.frozen.push((full, Seq(seq.0 - 1)));
        }
        self.tombstones.extend(tombstones);
    }
}

/// Which points of logs are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Points {
    All,
    /// Those whose series and field the catalog knows.
    Defined,
}

/// What is wrong with a record of points of which some are not [`Points::Defined`].
pub(super) const UNDEFINED: &str = "definition of its points";

/// Takes one record in; the name of what is wrong with it otherwise.
///
/// What fields mean counts if `meanings` says so.
/// What changes an answer goes on to the feed.
pub(super) fn apply(
    catalog: &Catalog,
    recent: &mut Recent,
    record: &Record<'_>,
    meanings: bool,
    points: Points,
) -> Result<(), &'static str> {
    let seq = record.head.seq;
    let entry = |what| Entry { place: Place::of_record(seq), log_id: record.log, what };
    match record.head.kind {
        RecordKind::Define => {
            let mut definitions = decode_definitions(record.payload).map_err(|_| "definition")?;
            definitions.retain(|definition| meanings || !matches!(definition, Definition::Meaning { .. }));
            let applied = catalog.apply(&definitions);
            let meant = Extent::meanings(catalog, &fields_told_of(&definitions));
            // Definitions below the floor are given again; what they changed was sealed.
            if !meant.is_empty() && seq > recent.feed.evicted() {
                recent.feed.push(entry(What::Extents(meant.into())));
            }
            if applied.refused > 0 { Err("definition") } else { Ok(()) }
        }
        RecordKind::Points => {
            let (namespace, mut batches) = payload::decode(record.payload).map_err(|_| "points payload")?;
            undefined::note_ids(&mut recent.met, namespace, &batches);
            let is_less = points == Points::Defined && undefined::take_out(catalog, namespace, &mut batches);
            recent.active.apply(namespace, seq, &batches);
            let (cursor, wall) = (Cursor { log_id: record.log, seq }, record.head.wall);
            let batch = CommittedBatch { cursor, wall, namespace, batches };
            recent.feed.push(entry(What::Batch(Arc::new(batch))));
            if is_less { Err(UNDEFINED) } else { Ok(()) }
        }
        RecordKind::Delete => {
            let deletes = decode_deletes(record.payload, seq).ok_or("delete payload")?;
            let extents: Vec<Extent> = deletes.iter().map(Extent::deleted).collect();
            recent.delete(seq, deletes);
            recent.feed.push(entry(What::Extents(extents.into())));
            Ok(())
        }
        RecordKind::Clock | RecordKind::End => Ok(()),
    }
}

/// The fields of which something is told.
fn fields_told_of(definitions: &[Definition]) -> Vec<FieldId> {
    let field = |definition: &Definition| match definition {
        Definition::Meaning { field, .. } => Some(*field),
        _ => None,
    };
    definitions.iter().filter_map(field).collect()
}
