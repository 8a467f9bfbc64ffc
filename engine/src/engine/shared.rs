//! What the threads of a store share: how the view changes, and in what order.

use crate::ballast::Ballast;
use crate::catalog::Catalog;
use crate::error::{Damage, EngineError};
use crate::feed::{Cursor, Extent, Feed, FeedSource};
use crate::ids::{NamespaceId, SegmentId, Seq, StoreId};
use crate::io::Disk;
use crate::manifest::{Edit, Manifest};
use crate::memtable::Memtable;
use crate::metrics::Metrics;
use crate::options::{Durability, Options};
use crate::publication::Publication;
use crate::retention::{self, Retentions, Watch};
use crate::segment::{SegmentEntry, SegmentOpener, SegmentSet};
use crate::snapshot::View;
use crate::space::SpaceGuard;
use crate::status::Status;
use crate::tombstone::Tombstone;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wattlog_model::Clock;

/// What the threads of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: StoreId,
    pub(crate) catalog: Catalog,
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
    pub(crate) ballast: Ballast,
    pub(crate) space: SpaceGuard,
    pub(crate) feed: Feed,
    pub(crate) opener: Arc<SegmentOpener>,
    pub(crate) retention: Watch,
    pub(super) durability: RwLock<HashMap<NamespaceId, Durability>>,
    publication: Publication<View>,
    next_file: AtomicU64,
    /// Rises with each change of the segments or the deletes of the view.
    view_version: AtomicU64,
    /// Newest manifest edit that logs are to attest, beside those that the writer knows of.
    to_attest: AtomicU64,
}

/// What recovery hands over to make a [`Shared`].
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) catalog: Catalog,
    pub(crate) opener: Arc<SegmentOpener>,
    pub(crate) segments: SegmentSet,
    pub(crate) active: Arc<Memtable>,
    /// Full of what a delete in the log hides; they wait for their seal, oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) feed: FeedSource,
    pub(crate) next_file: u64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options, clock: Arc<dyn Clock>, found: Found) -> Self {
        let Found { manifest, catalog, opener, segments, active, frozen, tombstones, feed, next_file } =
            found;
        let published = feed.opened;
        let state = manifest.state();
        let durability = state.durability.iter().map(|(id, d)| (*id, *d)).collect();
        let sealed = state.flushed_seq;
        let tombstones = tombstones.into_iter().map(Arc::new).collect();
        let retention = Watch::new(state.retentions.clock, &*clock);
        let retentions = retention::in_force(&options, &state.retentions);
        let view = View { active, frozen, segments: Arc::new(segments), tombstones, sealed, retentions };
        Self {
            store: manifest.store(),
            retention,
            ballast: Ballast::new(options.ballast_bytes),
            space: SpaceGuard::new(options.disk_reserve_bytes, options.disk_warning_bytes),
            feed: Feed::new(feed),
            manifest: Mutex::new(manifest),
            metrics: Metrics::default(),
            status: Status::default(),
            durability: RwLock::new(durability),
            publication: Publication::new(view, published),
            next_file: AtomicU64::new(next_file),
            view_version: AtomicU64::new(1),
            to_attest: AtomicU64::new(0),
            disk,
            options,
            clock,
            catalog,
            opener,
        }
    }

    pub(crate) fn view_version(&self) -> u64 {
        self.view_version.load(Ordering::Acquire)
    }

    /// The next record of the log says that the manifest goes at least so far.
    pub(crate) fn attest(&self, edit: u64) {
        self.to_attest.fetch_max(edit, Ordering::Release);
    }

    pub(crate) fn to_attest(&self) -> u64 {
        self.to_attest.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.publication.view()
    }

    /// Everything up to `cursor` is in the memtable: readers may see it from now on.
    pub(crate) fn publish(&self, cursor: Cursor) {
        // The feed first: whoever reads the cursor may ask the feed for what follows it.
        self.feed.published(cursor);
        self.publication.publish(cursor);
    }

    pub(crate) fn published(&self) -> Cursor {
        self.publication.cursor()
    }

    /// What a reader goes by: a view that holds at least everything up to the cursor.
    pub(crate) fn cursor_and_view(&self) -> (Cursor, Arc<View>) {
        self.publication.snapshot(|view| view.sealed)
    }

    /// Puts another view in place whose segments, deletes or cutoffs differ.
    fn change_data(&self, next: impl FnOnce(&View) -> Option<View>) {
        self.publication.change(|view| {
            let next = next(view)?;
            self.view_version.fetch_add(1, Ordering::Release);
            Some(next)
        });
    }

    /// The active memtable waits for its seal from now on; `fresh` takes new rows.
    pub(crate) fn freeze(&self, fresh: Arc<Memtable>) {
        self.publication.change(|view| {
            let mut frozen = view.frozen.clone();
            frozen.push(view.active.clone());
            Some(View { active: fresh, frozen, ..view.clone() })
        });
    }

    /// Readers no longer see what `tombstones` hide.
    pub(crate) fn publish_tombstones(&self, tombstones: Vec<Tombstone>) {
        self.change_data(|view| {
            let all = view.tombstones.iter().cloned().chain(tombstones.into_iter().map(Arc::new)).collect();
            Some(View { tombstones: all, ..view.clone() })
        });
    }

    /// Readers use `entries` instead of `sealed` from now on.
    pub(crate) fn publish_segments(&self, sealed: &Arc<Memtable>, entries: Vec<SegmentEntry>, through: Seq) {
        let added: Vec<_> = entries.into_iter().map(|entry| self.opener.handle(entry)).collect();
        self.change_data(|view| {
            let frozen = view.frozen.iter().filter(|m| !Arc::ptr_eq(m, sealed)).cloned().collect();
            let segments = Arc::new(view.segments.with(added, &[]));
            Some(View { frozen, segments, sealed: through, ..view.clone() })
        });
    }

    /// Readers use `entries` instead of `replaced` from now on, and no longer look at the deletes `applied`.
    pub(crate) fn publish_compaction(
        &self,
        entries: Vec<SegmentEntry>,
        replaced: &[SegmentId],
        applied: &[Seq],
    ) {
        let added: Vec<_> = entries.into_iter().map(|entry| self.opener.handle(entry)).collect();
        self.change_data(|view| {
            for handle in view.segments.iter().filter(|handle| replaced.contains(&handle.entry().id)) {
                handle.retire();
            }
            let segments = Arc::new(view.segments.with(added, replaced));
            let live = |tombstone: &&Arc<Tombstone>| !applied.contains(&tombstone.seq);
            let tombstones = view.tombstones.iter().filter(live).cloned().collect();
            Some(View { segments, tombstones, ..view.clone() })
        });
    }

    /// Readers and writers go by these cutoffs from now on, as manifest edit `edit` says.
    pub(crate) fn publish_retentions(&self, retentions: Arc<Retentions>, edit: u64) {
        let mut moved = Vec::new();
        self.change_data(|view| {
            moved = Extent::retained(&view.retentions, &retentions);
            Some(View { retentions, ..view.clone() })
        });
        // After the view: whoever is told reads what is in force.
        self.feed.note(edit, moved);
    }

    /// A number for a new segment or catalog file, never given before.
    pub(crate) fn next_file_id(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that the next file will get.
    pub(crate) fn peek_next_file(&self) -> u64 {
        self.next_file.load(Ordering::Relaxed)
    }

    pub(crate) fn durability(&self, namespace: NamespaceId) -> Durability {
        self.durability.read().get(&namespace).copied().unwrap_or(self.options.default_durability)
    }

    /// Readers do without a segment from now on, and say so.
    pub(crate) fn quarantine(&self, segment: SegmentId) -> Result<(), EngineError> {
        let wall = self.clock.wall().0;
        let disk =
            |error: std::io::Error| EngineError::Disk { action: "quarantine", message: error.to_string() };
        // Held until readers know: a compaction looks at both under it.
        let mut manifest = self.manifest.lock();
        let edit = manifest.append(&Edit::Quarantined(segment), wall).map_err(disk)?;
        let mut lost = Vec::new();
        self.change_data(|view| {
            let handle = view.segments.iter().find(|h| h.entry().id == segment)?;
            let entry = handle.entry();
            let times = (entry.first_time, entry.last_time);
            lost = vec![Extent::damaged(entry.namespace, entry.measurement, times)];
            let segments = Arc::new(view.segments.with([handle.set_aside()], &[segment]));
            Some(View { segments, ..view.clone() })
        });
        self.feed.note(edit, lost);
        Ok(())
    }

    pub(crate) fn report_damage(&self, damage: &Damage) {
        if self.status.add_damage(damage) {
            self.metrics.damaged_parts.add(1);
            tracing::error!(
                file = %damage.file, offset = damage.offset, part = damage.part,
                "a damaged part was found: answers that need it are partial; restore the file from a backup"
            );
        }
    }
}
