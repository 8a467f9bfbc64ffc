//! Salvage: every point that can still be read of a damaged store, whatever else is lost.
//!
//! Promise: nothing of the store is changed, not even its lock; a value is given out only if the block (or the record) that
//! holds it is whole; what cannot be read is told, file by file.
//!
//! What is read: the segments that the manifest names, those set aside in `quarantine/`, and all logs. Without a manifest
//! that can be trusted, every segment there is. Names come from the segments and logs themselves, from catalog files where
//! those are damaged.
//!
//! Order: sources by rising commit order, so whoever takes the points one after the other and lets the last write win for
//! each field has what the store had. Three things differ from a query of the store. Where a younger value is lost, an older one of the same time
//! may come out in its place ([`SalvagedFile::lost`] says where that can be). And of deletes only those count that can
//! still be read: in the manifest and in logs. And points that a retention rule hides come out as long as they are on the disk.
//!
//! Memory: the names of all series, as an open store has them, and one row group or log record. Time: each file is read
//! twice, its data once.

mod emit;
mod sources;

use crate::catalog::Catalog;
use crate::error::OpenError;
use crate::ids::{NamespaceId, StoreId};
use crate::io::Disk;
use crate::io::read_only::ReadOnlyDisk;
use crate::tombstone::Tombstone;
use emit::Emitter;
use sources::{Sources, Whereabouts};
use std::io;
use std::sync::Arc;
use wattlog_model::{FieldValue, TagSet};

pub use crate::segment::Lost;

/// What is lost of one file is listed up to here; the rest is counted.
pub const MAX_LISTED: usize = 1000;

/// Takes the points.
pub trait PointSink {
    /// One point of a series; `fields` is never empty. Later values of the same series, time and field take the place of
    /// earlier ones.
    ///
    /// # Errors
    /// End the salvage.
    fn point(
        &mut self,
        series: &SeriesName<'_>,
        time: i64,
        fields: &[(Arc<str>, FieldValue)],
    ) -> io::Result<()>;
}

/// Whose point it is.
#[derive(Debug, Clone, Copy)]
pub struct SeriesName<'a> {
    /// `namespace-<id>` if the name is lost.
    pub database: &'a str,
    /// Retention policy.
    pub policy: &'a str,
    /// Measurement.
    pub measurement: &'a str,
    /// Its tags.
    pub tags: &'a TagSet,
}

/// What came out of one file, and what did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvagedFile {
    /// Path within the store.
    pub file: String,
    /// Points given to the sink; a point of a very wide group counts once for each part.
    pub points: u64,
    /// Values in them.
    pub values: u64,
    /// Values whose series or field nothing names any more.
    pub nameless: u64,
    /// What cannot be read, at most [`MAX_LISTED`] entries.
    pub lost: Vec<Lost>,
    /// Further entries.
    pub lost_more: u64,
}

impl SalvagedFile {
    fn new(file: &str) -> Self {
        Self { file: file.to_owned(), points: 0, values: 0, nameless: 0, lost: Vec::new(), lost_more: 0 }
    }

    fn lose(&mut self, lost: Lost) {
        // One page that cannot be read is met by all who need it.
        if self.lost.contains(&lost) {
            return;
        }
        if self.lost.len() < MAX_LISTED {
            self.lost.push(lost);
        } else {
            self.lost_more += 1;
        }
    }

    /// Whether all of it was read.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.nameless == 0
    }
}

/// What a salvage found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SalvageReport {
    /// Files that were read, in the order of their commits; the logs last.
    pub files: Vec<SalvagedFile>,
    /// Values that deletes hide, and that were therefore left out.
    pub deleted: u64,
    /// Deletes that could be read.
    pub deletes: u64,
    /// What a person should know, in sentences.
    pub notes: Vec<String>,
}

impl SalvageReport {
    /// Points given to the sink.
    pub fn points(&self) -> u64 {
        self.files.iter().map(|file| file.points).sum()
    }

    /// Values given to the sink.
    pub fn values(&self) -> u64 {
        self.files.iter().map(|file| file.values).sum()
    }

    /// Whether nothing was lost.
    pub fn is_whole(&self) -> bool {
        self.files.iter().all(SalvagedFile::is_whole)
    }
}

/// A damaged store, looked through once: names, deletes and files are known, points were not read yet.
#[derive(Debug)]
pub struct Salvage {
    disk: Arc<dyn Disk>,
    store: StoreId,
    catalog: Catalog,
    tombstones: Vec<Tombstone>,
    found: Whereabouts,
    notes: Vec<String>,
}

/// Which points are wanted; all if nothing is named.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this database.
    pub database: Option<String>,
    /// Of this retention policy.
    pub policy: Option<String>,
}

impl Salvage {
    /// Looks through the store on `disk`.
    ///
    /// # Errors
    /// `TooNew` if its manifest or a catalog file is of a newer version; `Disk` if no file there says which store it is.
    pub fn look(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk::new(disk));
        let Sources { store, catalog, tombstones, found, notes } = Sources::look(&disk)?;
        Ok(Self { disk, store, catalog, tombstones, found, notes })
    }

    /// Databases and retention policies that hold points, by name.
    pub fn namespaces(&self) -> Vec<(String, String)> {
        let in_segments = self.found.segments.iter().map(|segment| segment.namespace);
        let mut all: Vec<_> = in_segments
            .chain(self.found.in_logs.iter().copied())
            .map(|id| self.namespace_name(id))
            .map(|(database, policy)| (database.to_string(), policy.to_string()))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn namespace_name(&self, id: NamespaceId) -> (Arc<str>, Arc<str>) {
        self.catalog
            .namespace_name(id)
            .unwrap_or_else(|| (format!("namespace-{id}").into(), crate::catalog::DEFAULT_POLICY.into()))
    }

    /// Gives every point that can be read to `sink`.
    ///
    /// # Errors
    /// The sink's.
    pub fn run(&self, wanted: &Wanted, sink: &mut dyn PointSink) -> io::Result<SalvageReport> {
        let mut report = SalvageReport {
            notes: self.notes.clone(),
            deletes: self.tombstones.len() as u64,
            ..SalvageReport::default()
        };
        Emitter::new(self, wanted, sink, &mut report).run()?;
        Ok(report)
    }
}
