//! The segments of a snapshot: found by time without opening them, opened when first read, a bounded number at once.
//!
//! Invariants
//! 1. At most the given number of segments stay open; the one not read for longest is let go first. A reader that
//!    holds one keeps it until it is done.
//! 2. A [`SegmentSet`] never changes; a change makes a new one that shares the handles.
//!
//! 3. A file that was replaced is removed when the last set that holds it is gone, so a snapshot keeps what it may open.
//!
//! Threads: any number of readers. Lock order: a handle's own lock, then the opener's list.

use super::entry::SegmentEntry;
use super::error::SegmentError;
use super::page::PageCache;
use super::reader::Segment;
use crate::error::Damage;
use crate::ids::{MeasurementId, NamespaceId, SegmentId, StoreId};
use crate::io::{Disk, ReadMode};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// How segments are opened, and which are open.
#[derive(Debug)]
pub struct SegmentOpener {
    disk: Arc<dyn Disk>,
    store: StoreId,
    mode: ReadMode,
    max_open: usize,
    cache: Arc<PageCache>,
    /// Counts reads; a handle remembers its last.
    clock: AtomicU64,
    open: Mutex<Vec<Weak<SegmentHandle>>>,
}

impl SegmentOpener {
    /// `max_open` segments at once (at least one), `cache_pages` verified meta pages of 4 KiB for all of them.
    pub fn new(
        disk: Arc<dyn Disk>,
        store: StoreId,
        mode: ReadMode,
        max_open: usize,
        cache_pages: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            store,
            mode,
            max_open: max_open.max(1),
            cache: Arc::new(PageCache::new(cache_pages)),
            clock: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        })
    }

    /// A handle for a segment that the manifest names; nothing is opened yet.
    pub fn handle(self: &Arc<Self>, entry: SegmentEntry) -> Arc<SegmentHandle> {
        let path = entry.path();
        Arc::new(SegmentHandle {
            entry,
            opener: Arc::clone(self),
            segment: RwLock::new(None),
            last_read: AtomicU64::new(0),
            file: Arc::new(NamedFile { disk: Arc::clone(&self.disk), path, retired: AtomicBool::new(false) }),
        })
    }

    /// Segments that are open now.
    pub fn open_count(&self) -> usize {
        self.open.lock().iter().filter(|held| held.strong_count() > 0).count()
    }

    /// Notes that `handle` was opened, and lets the one go that was not read for longest if there are too many.
    fn opened(&self, handle: &Arc<SegmentHandle>) {
        let mut open = self.open.lock();
        open.retain(|held| held.strong_count() > 0 && held.as_ptr() != Arc::as_ptr(handle));
        if open.len() >= self.max_open {
            let excess = open.len() + 1 - self.max_open;
            Self::let_go(&mut open, excess);
        }
        open.push(Arc::downgrade(handle));
    }

    /// Closes half of what is open, for a machine that has no descriptors left.
    fn make_room(&self) {
        let mut open = self.open.lock();
        let half = open.len().div_ceil(2);
        Self::let_go(&mut open, half);
    }

    /// Closes up to `count` segments, those first that were not read for longest.
    fn let_go(open: &mut Vec<Weak<SegmentHandle>>, count: usize) {
        let mut held: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
        held.sort_unstable_by_key(|held| held.last_read.load(Ordering::Relaxed));
        let mut left = count;
        for held in held {
            if left == 0 {
                break;
            }
            // One that is being opened this moment is passed over.
            let Some(mut segment) = held.segment.try_write() else { continue };
            *segment = None;
            open.retain(|other| other.as_ptr() != Arc::as_ptr(&held));
            left -= 1;
        }
    }
}

/// One segment of a set.
#[derive(Debug)]
pub struct SegmentHandle {
    entry: SegmentEntry,
    opener: Arc<SegmentOpener>,
    segment: RwLock<Option<Arc<Segment>>>,
    last_read: AtomicU64,
    /// Below `segment`, so that the map goes before the file.
    file: Arc<NamedFile>,
}

/// The file of a segment on the disk, whichever handles speak of it.
#[derive(Debug)]
struct NamedFile {
    disk: Arc<dyn Disk>,
    path: String,
    /// No manifest names the file any more: it goes with the last handle, so with the last reader that may want it.
    retired: AtomicBool,
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        // A file that cannot be removed is an orphan for the next opening.
        if self.retired.load(Ordering::Relaxed)
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(file = %self.path, %error, "a file that was replaced could not be removed");
        }
    }
}

impl SegmentHandle {
    /// The file is removed once nobody holds a handle of it any more. Only for a file that the manifest no longer names.
    pub(crate) fn retire(&self) {
        self.file.retired.store(true, Ordering::Relaxed);
    }

    /// A handle of the same file that nobody opens any more; older ones stay as they are.
    pub(crate) fn set_aside(&self) -> Arc<Self> {
        Arc::new(Self {
            entry: SegmentEntry { quarantined: true, ..self.entry.clone() },
            opener: Arc::clone(&self.opener),
            segment: RwLock::new(None),
            last_read: AtomicU64::new(0),
            file: Arc::clone(&self.file),
        })
    }

    /// What the manifest says of it.
    pub fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// The segment, opened now if it is not. One that was set aside is an error at once, without a look at the disk.
    pub fn open(self: &Arc<Self>) -> Result<Arc<Segment>, SegmentError> {
        if self.entry.quarantined {
            let file = self.entry.path();
            return Err(Damage { file, offset: 0, part: "quarantined", expected: 0, found: 1 }.into());
        }
        self.last_read.store(self.opener.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // A map that met a page it could not read gives nothing any more; a new one has all other pages.
        let usable = |held: &Option<Arc<Segment>>| held.clone().filter(|segment| !segment.is_poisoned());
        if let Some(segment) = usable(&self.segment.read()) {
            return Ok(segment);
        }
        let mut place = self.segment.write();
        if let Some(segment) = usable(&place) {
            return Ok(segment);
        }
        let segment = match self.open_file() {
            Err(error) if error.is_out_of_resources() => {
                self.opener.make_room();
                self.open_file()?
            }
            opened => opened?,
        };
        let segment = Arc::new(segment);
        *place = Some(Arc::clone(&segment));
        drop(place);
        self.opener.opened(self);
        Ok(segment)
    }

    fn open_file(&self) -> Result<Segment, SegmentError> {
        let opener = &self.opener;
        let (path, cache) = (self.entry.path(), Arc::clone(&opener.cache));
        Segment::open_with(&*opener.disk, &path, opener.store, self.entry.id, opener.mode, cache)
    }
}

/// The segments that are true at one moment.
#[derive(Debug, Clone, Default)]
pub struct SegmentSet {
    namespaces: Arc<HashMap<NamespaceId, ByTime>>,
    all: Arc<[Arc<SegmentHandle>]>,
}

/// Handles of one namespace by rising last time.
#[derive(Debug, Default)]
struct ByTime {
    handles: Vec<Arc<SegmentHandle>>,
    /// Least first time of a handle and all after it: where a search may stop.
    least_first: Vec<i64>,
}

impl ByTime {
    fn new(mut handles: Vec<Arc<SegmentHandle>>) -> Self {
        handles.sort_by_key(|handle| (handle.entry.last_time, handle.entry.id));
        let mut least_first: Vec<i64> = handles.iter().map(|handle| handle.entry.first_time).collect();
        for i in (1..least_first.len()).rev() {
            least_first[i - 1] = least_first[i - 1].min(least_first[i]);
        }
        Self { handles, least_first }
    }
}

impl SegmentSet {
    /// A set of these segments.
    pub fn new(handles: impl IntoIterator<Item = Arc<SegmentHandle>>) -> Self {
        let mut all: Vec<_> = handles.into_iter().collect();
        all.sort_by_key(|handle| (handle.entry.max_seq, handle.entry.id));
        let mut by_namespace: HashMap<NamespaceId, Vec<Arc<SegmentHandle>>> = HashMap::new();
        for handle in &all {
            by_namespace.entry(handle.entry.namespace).or_default().push(Arc::clone(handle));
        }
        let namespaces = by_namespace.into_iter().map(|(id, handles)| (id, ByTime::new(handles))).collect();
        Self { namespaces: Arc::new(namespaces), all: all.into() }
    }

    /// The same with some added and some removed.
    #[must_use]
    pub fn with(&self, added: impl IntoIterator<Item = Arc<SegmentHandle>>, removed: &[SegmentId]) -> Self {
        let kept = self.all.iter().filter(|handle| !removed.contains(&handle.entry.id)).cloned();
        Self::new(kept.chain(added))
    }

    /// All segments by rising `max_seq`, those set aside included.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SegmentHandle>> {
        self.all.iter()
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Segments that can hold rows of a measurement in `range`, by rising `max_seq`; those set aside included, so that
    /// an answer that would need one can say that it is partial.
    pub fn for_range(
        &self,
        namespace: NamespaceId,
        measurement: MeasurementId,
        range: Range<i64>,
    ) -> impl Iterator<Item = &Arc<SegmentHandle>> {
        let mut found: Vec<&Arc<SegmentHandle>> = Vec::new();
        if let Some(by_time) = self.namespaces.get(&namespace)
            && !range.is_empty()
        {
            let start = by_time.handles.partition_point(|handle| handle.entry.last_time < range.start);
            for (handle, least_first) in by_time.handles[start..].iter().zip(&by_time.least_first[start..]) {
                if *least_first >= range.end {
                    break;
                }
                let entry = &handle.entry;
                if entry.overlaps(&range) && entry.measurement.is_none_or(|own| own == measurement) {
                    found.push(handle);
                }
            }
        }
        found.sort_by_key(|handle| (handle.entry.max_seq, handle.entry.id));
        found.into_iter()
    }
}
