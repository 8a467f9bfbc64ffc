//! Catalog files with a block that cannot be used any more are given up: their series are taken from the blocks that are
//! good, from segments, which hold the names of all they contain, and from the logs, which define all that is not sealed.
//!
//! Invariants
//! 1. Nobody sees a moment in which a series of such a file is unknown: it would get a second id.
//! 2. A file is kept while a series that has unsealed rows would lose its name, and while a segment cannot be read: then it
//!    may be the device, and the next look finds more.
//! 3. Only the sealing thread looks, between seals, so a file that is being written is never in between.

use crate::catalog::{decode_definitions, file_path};
use crate::engine::Shared;
use crate::error::Damage;
use crate::recovery;
use crate::segment::SegmentError;
use crate::wal;
use std::time::Duration;

/// When to look next. A look that ends without a result makes the pause to the next one longer.
#[derive(Debug, Default)]
pub(crate) struct Healer {
    due: Duration,
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Healer {
    /// Gives up files that have to be, if it is time to; true if any was.
    pub(crate) fn look(&mut self, shared: &Shared) -> bool {
        let now = shared.clock.monotonic();
        if shared.catalog.broken_files().is_empty() || now < self.due {
            return false;
        }
        let healed = heal(shared);
        self.pause = if healed { FIRST_PAUSE } else { (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) };
        self.due = now + self.pause;
        healed
    }
}

fn heal(shared: &Shared) -> bool {
    let mut salvage = shared.catalog.salvage_broken();
    let view = shared.view();
    for handle in view.segments.iter() {
        if salvage.missing.is_empty() {
            break;
        }
        let mut definitions = Vec::new();
        let read = recovery::names_of(handle, &mut definitions);
        if let Err(error @ SegmentError::Io { .. }) = read {
            tracing::warn!(file = %handle.entry().path(), %error, "a segment cannot be read");
            return false;
        }
        // What of a damaged segment cannot be read is lost with it, whatever the catalog says.
        salvage.take_missing(&definitions);
    }
    // A series whose name is put into a catalog file while its rows are in memory is in no segment.
    let unsealed: Vec<_> = std::iter::once(&view.active)
        .chain(&view.frozen)
        .flat_map(|memtable| memtable.series_ids())
        .collect();
    if unsealed.iter().any(|id| salvage.missing.contains(id.0)) {
        let read = wal::each_definition(&*shared.disk, shared.store, &mut |payload| {
            if let Ok(definitions) = decode_definitions(payload) {
                salvage.take_missing(&definitions);
            }
        });
        if let Err(error) = read {
            tracing::warn!(%error, "the logs cannot be read");
            return false;
        }
    }
    if unsealed.iter().any(|id| salvage.missing.contains(id.0)) {
        tracing::warn!(
            "a damaged catalog file is kept: it alone names series whose points are not sealed yet"
        );
        return false;
    }
    for id in &salvage.files {
        let file = file_path(*id);
        shared.report_damage(&Damage { file, offset: 0, part: "catalog file", expected: 1, found: 0 });
    }
    shared.metrics.catalog_files_lost.add(salvage.files.len() as u64);
    shared.catalog.replace_files(salvage);
    true
}
