//! Counters of one open store. The server gives them their public names (`wattlog_<area>_<what>_<unit>`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of [`HistogramSnapshot`], in seconds; the last bucket has none.
pub const DURATION_BUCKETS_S: [f64; 12] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// Durations by bucket.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; DURATION_BUCKETS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS_S.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed)),
            sum_seconds: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// A histogram at one moment; counts are per bucket, not cumulative.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HistogramSnapshot {
    /// One count per bound of [`DURATION_BUCKETS_S`], then one for what is above.
    pub buckets: [u64; DURATION_BUCKETS_S.len() + 1],
    /// Sum of all durations.
    pub sum_seconds: f64,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What the threads of the store count.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: Counter,)*
            pub(crate) wal_sync: Histogram,
            pub(crate) seal: Histogram,
        }

        /// All counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Time of each sync of the log.
            pub wal_sync: HistogramSnapshot,
            /// Time of each seal.
            pub seal: HistogramSnapshot,
        }

        impl Metrics {
            /// All counters at this moment.
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot {
                    $($name: self.$name.get(),)*
                    wal_sync: self.wal_sync.snapshot(),
                    seal: self.seal.snapshot(),
                }
            }
        }
    };
}

metrics! {
    /// Points committed.
    points,
    /// Values committed.
    values,
    /// Rows refused one by one.
    rejected_points,
    /// Bodies committed.
    bodies,
    /// Bodies refused because the queue stayed full.
    overloaded,
    /// Bodies refused because the disk was full.
    disk_full,
    /// Bodies answered "outcome unknown".
    outcome_unknown,
    /// Groups written to the log (one sync each under `Always`).
    groups,
    /// Bytes written to logs.
    wal_bytes_written,
    /// Logs abandoned after an error.
    logs_abandoned,
    /// Seals that ended well.
    seals,
    /// Attempts to seal that failed.
    seal_failures,
    /// Bytes of sealed segments written.
    segment_bytes_written,
    /// Bytes of catalog files written.
    catalog_bytes_written,
    /// Deletes committed.
    deletes,
    /// Compactions that ended well.
    compactions,
    /// Compactions that failed.
    compaction_failures,
    /// Bytes of segments that compactions read.
    compaction_bytes_read,
    /// Bytes of segments that compactions wrote.
    compaction_bytes_written,
    /// Passes of the scrub over all sealed files.
    scrub_passes,
    /// Files that the scrub read.
    scrub_files,
    /// Bytes of them.
    scrub_bytes,
    /// Files in which the scrub found damage.
    scrub_damaged_files,
    /// Parts of files found damaged while reading.
    damaged_parts,
    /// Catalog files given up for what segments tell.
    catalog_files_lost,
    /// Segments that retention dropped as a whole.
    retention_segments,
    /// Bytes of them.
    retention_bytes,
    /// Rows stored with a time more than 24 hours ahead of the clock.
    future_points,
    /// Times that retention would not follow the wall clock ahead.
    clocks_held,
    /// Steps of the wall clock of more than two seconds.
    clock_steps,
    /// Times the ballast was given up for room.
    ballast_released,
    /// Events that readers of changes were told.
    change_events,
    /// Times that a reader of changes came for what is no longer kept.
    changes_missed,
}
