//! What an owner may ask about a store: names, counts, bytes.

use crate::engine::Shared;
use crate::io::DirEntry;
use wattlog_model::{FieldKind, FieldType, Timestamp, Unit};

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its name.
    pub name: String,
    /// Names of its retention policies.
    pub retention_policies: Vec<String>,
    /// Measurements in all of them.
    pub measurements: usize,
    /// Series in all of them.
    pub series: u64,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementInfo {
    /// Its fields, by id: in the order of their first write.
    pub fields: Vec<FieldInfo>,
    /// Keys of the tags of its series, by name.
    pub tag_keys: Vec<String>,
    /// Its series.
    pub series: u64,
    /// Time of its oldest point.
    pub first: Option<Timestamp>,
    /// Time of its newest point.
    pub last: Option<Timestamp>,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its name.
    pub name: String,
    /// Its type, fixed by the first write.
    pub field_type: FieldType,
    /// Its unit, if it was told.
    pub unit: Option<Unit>,
    /// How it behaves between points.
    pub kind: FieldKind,
}

/// Size of a store. Bytes are those of files in use; temporary and set-aside files are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageInfo {
    /// Series in the catalog.
    pub series: u64,
    /// Rows in segments and memtables (a rewritten row counts until a compaction joins it).
    pub points: u64,
    /// Values in them.
    pub values: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of field blocks.
    pub data_bytes: u64,
    /// Bytes of time blocks.
    pub time_bytes: u64,
    /// Bytes of headers, meta regions and footers.
    pub meta_bytes: u64,
    /// Segments among them that were set aside: answers do without them and say so.
    pub quarantined_segments: u64,
    /// Log files.
    pub wal_files: u64,
    /// Bytes of log files.
    pub wal_bytes: u64,
    /// Files that were moved aside; not counted anywhere else.
    pub quarantine_files: u64,
    /// Bytes of them.
    pub quarantine_bytes: u64,
    /// Bytes of catalog files.
    pub catalog_bytes: u64,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// Memory of points that are not sealed yet.
    pub memtable_bytes: u64,
    /// Values that are not sealed yet.
    pub memtable_values: u64,
    /// Deletes that may still hide values of segments.
    pub tombstones: u64,
    /// Segments that are open.
    pub open_segments: u64,
}

impl StorageInfo {
    pub(crate) fn of(shared: &Shared) -> Self {
        let view = shared.view();
        let mut info = Self { series: shared.catalog.series_total(), ..Self::default() };
        for handle in view.segments.iter() {
            let entry = handle.entry();
            info.segments += 1;
            info.quarantined_segments += u64::from(entry.quarantined);
            info.points += entry.rows;
            info.values += entry.values;
            info.data_bytes += entry.data_bytes;
            info.time_bytes += entry.time_bytes;
            info.meta_bytes += entry.meta_bytes;
        }
        for memtable in view.frozen.iter().chain([&view.active]) {
            info.points += memtable.rows();
            info.values += memtable.values();
            info.memtable_values += memtable.values();
            info.memtable_bytes += memtable.bytes();
        }
        info.tombstones = view.tombstones.len() as u64;
        (info.wal_files, info.wal_bytes) = folder(shared, "wal");
        (info.quarantine_files, info.quarantine_bytes) = folder(shared, "quarantine");
        let manifest = shared.manifest.lock();
        info.catalog_bytes = manifest.state().catalogs.iter().map(|entry| entry.file_bytes).sum();
        info.manifest_bytes = manifest.bytes();
        info.open_segments = shared.opener.open_count() as u64;
        info
    }
}

/// Files in a folder, and their bytes; one that is not there has none.
fn folder(shared: &Shared, folder: &str) -> (u64, u64) {
    let bytes = |entries: &[DirEntry]| entries.iter().map(|entry| entry.len).sum();
    shared.disk.list(folder).map_or((0, 0), |entries| (entries.len() as u64, bytes(&entries)))
}
