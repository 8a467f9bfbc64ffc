//! What an owner may set, with units and defaults.

use crate::io::ReadMode;
use crate::query::QueryLimits;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::Timestamp;

/// When the writer of a body hears "yes".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After a sync that began once the body's bytes were written.
    #[default]
    Always,
    /// At once; a sync follows within this time. A power cut loses at most a suffix of the commit order.
    Interval(Duration),
}

/// Settings of a store. Every limit has a unit and a default; reaching one shows in the metrics.
#[derive(Debug, Clone)]
pub struct Options {
    /// How sealed files are read: through maps, or by `pread`.
    pub read_mode: ReadMode,
    /// A memtable of this many bytes is frozen and sealed.
    pub memtable_bytes: u64,
    /// An unsealed log of this many bytes makes the memtable be sealed.
    pub wal_bytes: u64,
    /// A memtable older than this is sealed whatever its size.
    pub seal_age: Duration,
    /// Frozen memtables that may wait for their seal before writers have to.
    pub max_frozen: usize,
    /// Bodies that may wait for the writer thread.
    pub queue_len: usize,
    /// How long a caller waits for a place in the queue before it is refused.
    pub queue_wait: Duration,
    /// Most encoded bytes that one sync makes durable.
    pub group_bytes: usize,
    /// Bytes kept back for one seal and one manifest snapshot on a full disk.
    pub ballast_bytes: u64,
    /// Bytes of the disk that writes leave free; none: 64 MiB, or a fiftieth of the disk if that is less; zero: no guard.
    pub disk_reserve_bytes: Option<u64>,
    /// Free bytes below which the health warns; none: a tenth of the disk, at most 1 GiB, at least twice the reserve.
    pub disk_warning_bytes: Option<u64>,
    /// Most series of the store.
    pub max_series: u32,
    /// Most fields of one measurement, up to [`Options::MAX_FIELDS`].
    pub max_fields: u32,
    /// Most deletes that may wait until a compaction has taken out what they hide.
    pub max_tombstones: usize,
    /// Shortest retention that may be set.
    pub min_retention: Duration,
    /// Bytes a second that background compaction may read and write together; zero stops it.
    pub compaction_bytes_per_second: u64,
    /// Blocks of numbers whose rows are of UTC days that ended so long ago are written with PCO where that is more than 5 %
    /// smaller; in whole days, none: never. They take a tenth less room and ten times as long to decode (ADR 0012).
    pub pco_after: Option<Duration>,
    /// Bytes of plain rows of one series that a compaction gathers before it writes some of them; it takes up to three times that.
    pub compaction_memory_bytes: usize,
    /// Every sealed file is read and verified this often; zero: never in the background.
    pub scrub_interval: Duration,
    /// Bytes a second that the background scrub may read; zero stops it.
    pub scrub_bytes_per_second: u64,
    /// Whether cutoffs move on and points beyond them are dropped; if not, what is hidden stays hidden and on the disk.
    pub retention: bool,
    /// Midnights of the home zone: where compaction cuts row groups, so that daily answers come from statistics.
    pub midnights: Midnights,
    /// Most segments open at a time.
    pub max_open_maps: usize,
    /// Whether a write to an unknown database creates it.
    pub auto_create_databases: bool,
    /// Durability of namespaces that have none of their own.
    pub default_durability: Durability,
    /// Bytes of committed bodies kept for readers of the change feed.
    pub feed_bytes: usize,
    /// Limits of one query.
    pub query: QueryLimits,
}

/// Instants at which local days begin, rising, for a range of time in nanoseconds.
#[derive(Clone)]
pub struct Midnights(Arc<MidnightsIn>);

type MidnightsIn = dyn Fn(Range<i64>) -> Vec<i64> + Send + Sync;

impl Midnights {
    /// Those that `within` gives.
    pub fn new(within: impl Fn(Range<i64>) -> Vec<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(within))
    }

    /// Those of UTC.
    pub fn utc() -> Self {
        Self::new(|range| {
            let first = Timestamp(range.start).utc_day();
            let days = (first..).map(|day| Timestamp::of_utc_days(day..day + 1).start);
            days.skip_while(|midnight| *midnight < range.start).take_while(|m| *m < range.end).collect()
        })
    }

    /// The midnights in `range`.
    pub fn within(&self, range: Range<i64>) -> Vec<i64> {
        (self.0)(range)
    }
}

impl std::fmt::Debug for Midnights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Midnights")
    }
}

impl Options {
    /// Highest value of `max_fields`: as many as a section of a segment has.
    pub const MAX_FIELDS: u32 = crate::segment::layout::MAX_FIELDS as u32;
    /// Default of `min_retention`. A start may move cutoffs on by a day with a wrong clock: what is younger than another day
    /// has to be out of its reach.
    pub const MIN_RETENTION: Duration = Duration::from_hours(48);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_mode: ReadMode::default(),
            memtable_bytes: 32 << 20,
            wal_bytes: 16 << 20,
            seal_age: Duration::from_secs(24 * 3600),
            max_frozen: 1,
            queue_len: 256,
            queue_wait: Duration::from_secs(10),
            group_bytes: 8 << 20,
            ballast_bytes: 8 << 20,
            disk_reserve_bytes: None,
            disk_warning_bytes: None,
            max_series: 1_000_000,
            max_fields: 16_384,
            max_tombstones: 1024,
            min_retention: Self::MIN_RETENTION,
            compaction_bytes_per_second: 32 << 20,
            pco_after: Some(Duration::from_hours(400 * 24)),
            compaction_memory_bytes: 32 << 20,
            scrub_interval: Duration::from_hours(7 * 24),
            scrub_bytes_per_second: 4 << 20,
            retention: true,
            midnights: Midnights::utc(),
            max_open_maps: 1024,
            auto_create_databases: true,
            default_durability: Durability::Always,
            feed_bytes: 4 << 20,
            query: QueryLimits::default(),
        }
    }
}
