//! The second look: points, source by source in commit order.

use super::sources::{EVERYTHING, Place};
use super::{PointSink, Salvage, SalvageReport, SalvagedFile, SeriesName, Wanted};
use crate::column::{Column, Presence};
use crate::ids::{FieldId, MeasurementId, NamespaceId, Seq, SeriesId};
use crate::ingest::payload;
use crate::memtable::SeriesBatch;
use crate::segment::{Finder, Lost, Piece, Remains};
use crate::tombstone::Tombstone;
use crate::wal::{Record, RecordKind, ReplayFloor, log_path, replay};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use wattlog_model::{FieldValue, TagSet};

/// Rows of one series, from one source.
struct Rows<'a> {
    namespace: NamespaceId,
    measurement: MeasurementId,
    series: SeriesId,
    /// No delete up to here hides any of them.
    seq: Seq,
    /// As the source says; else the catalog is asked.
    tags: Option<&'a TagSet>,
    times: &'a [i64],
    columns: &'a [(FieldId, Column)],
}

pub(super) struct Emitter<'a> {
    salvage: &'a Salvage,
    wanted: &'a Wanted,
    sink: &'a mut dyn PointSink,
    report: &'a mut SalvageReport,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        salvage: &'a Salvage,
        wanted: &'a Wanted,
        sink: &'a mut dyn PointSink,
        report: &'a mut SalvageReport,
    ) -> Self {
        Self { salvage, wanted, sink, report }
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let salvage = self.salvage;
        for (path, lost) in &salvage.found.unreadable {
            let mut file = SalvagedFile::new(path);
            file.lose(lost.clone());
            self.report.files.push(file);
        }
        let mut segments = salvage.found.segments.iter().peekable();
        let mut logs: BTreeMap<String, SalvagedFile> = BTreeMap::new();
        if salvage.found.logs {
            // A record whose points are in a segment comes before that segment: what it holds was merged there.
            let mut visit = |record: Record<'_>| {
                while let Some(place) = segments.next_if(|place| place.max_seq < record.head.seq) {
                    self.segment(place)?;
                }
                let path = log_path(record.log);
                let file = logs.entry(path.clone()).or_insert_with(|| SalvagedFile::new(&path));
                self.record(&record, file)
            };
            let mut replayed = replay(&salvage.disk, salvage.store, EVERYTHING, &mut visit)?;
            if let Some(flushed_seq) = salvage.found.flushed_seq {
                // What must be there, but is not: a log that is gone leaves no other trace.
                let floor = ReplayFloor { flushed_seq, durable_seq: flushed_seq, unknown: false };
                let strict = replay(&salvage.disk, salvage.store, floor, &mut |_| Ok(()))?;
                replayed.corrupt.extend(strict.corrupt);
            }
            for found in replayed.corrupt {
                let file = logs
                    .entry(found.damage.file.clone())
                    .or_insert_with(|| SalvagedFile::new(&found.damage.file));
                file.lose(Lost::anything(found.damage));
            }
            for torn in replayed.torn {
                let note = format!(
                    "{} ends in a torn write at byte {}; nobody was told it is stored",
                    torn.file, torn.offset
                );
                self.report.notes.push(note);
            }
        }
        for place in segments {
            self.segment(place)?;
        }
        self.report.files.extend(logs.into_values());
        Ok(())
    }

    fn segment(&mut self, place: &Place) -> io::Result<()> {
        let mut file = SalvagedFile::new(&place.path);
        if self.is_wanted(place.namespace) {
            match Remains::open(&*self.salvage.disk, &place.path, self.salvage.store) {
                Ok(remains) => {
                    let mut finder = OfSegment { emitter: self, place, file: &mut file };
                    remains.walk(&mut finder)?;
                }
                Err(error) => file.lose(Lost::anything(error.to_damage())),
            }
        }
        self.report.files.push(file);
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, file: &mut SalvagedFile) -> io::Result<()> {
        if record.head.kind != RecordKind::Points {
            return Ok(());
        }
        let Ok((namespace, batches)) = payload::decode(record.payload) else {
            let (file_path, expected) = (file.file.clone(), record.head.seq.0);
            let damage = crate::error::Damage {
                file: file_path,
                offset: 0,
                part: "points payload",
                expected,
                found: 0,
            };
            file.lose(Lost::anything(damage));
            return Ok(());
        };
        if !self.is_wanted(namespace) {
            return Ok(());
        }
        for SeriesBatch { series, measurement, times, columns } in &batches {
            let rows = Rows {
                namespace,
                measurement: *measurement,
                series: *series,
                seq: record.head.seq,
                tags: None,
                times,
                columns,
            };
            self.rows(&rows, file)?;
        }
        Ok(())
    }

    fn is_wanted(&self, namespace: NamespaceId) -> bool {
        let (database, policy) = self.salvage.namespace_name(namespace);
        let fits =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        fits(&self.wanted.database, &database) && fits(&self.wanted.policy, &policy)
    }

    /// Gives rows to the sink, without what deletes hide.
    fn rows(&mut self, rows: &Rows<'_>, file: &mut SalvagedFile) -> io::Result<()> {
        let salvage = self.salvage;
        let told = match rows.tags {
            Some(_) => None,
            None => salvage.catalog.series_tags(rows.series).ok().flatten().map(|(_, tags)| tags),
        };
        let (Some(measurement), Some(tags)) =
            (salvage.catalog.measurement_name(rows.measurement), rows.tags.or(told.as_ref()))
        else {
            file.nameless += rows.columns.iter().map(|(_, column)| column.values.len() as u64).sum::<u64>();
            return Ok(());
        };
        let (database, policy) = salvage.namespace_name(rows.namespace);
        let name = SeriesName { database: &database, policy: &policy, measurement: &measurement, tags };
        let tombstones: Vec<&Tombstone> = salvage
            .tombstones
            .iter()
            .filter(|t| t.seq > rows.seq && t.namespace == rows.namespace)
            .filter(|t| t.measurement == rows.measurement && t.covers(rows.series))
            .collect();
        let mut columns = Vec::with_capacity(rows.columns.len());
        for (id, column) in rows.columns {
            let Some((_, field)) = salvage.catalog.field_by_id(*id) else {
                file.nameless += column.values.len() as u64;
                continue;
            };
            // A field that was dropped and written again has a new id; its name speaks of that one.
            let newest = salvage.catalog.field(rows.measurement, &field.name);
            if newest.is_some_and(|newest| newest.id == *id) {
                columns.push(Cursor { id: *id, name: field.name, column, next: 0 });
            }
        }
        let mut fields: Vec<(Arc<str>, FieldValue)> = Vec::with_capacity(columns.len());
        for (row, time) in rows.times.iter().enumerate() {
            fields.clear();
            for column in &mut columns {
                let Some(value) = column.take(row as u32) else { continue };
                let hides = |t: &&Tombstone| {
                    let field = t.fields.as_ref().is_none_or(|ids| ids.binary_search(&column.id).is_ok());
                    field && t.range.contains(time)
                };
                if tombstones.iter().any(hides) {
                    self.report.deleted += 1;
                } else {
                    fields.push((column.name.clone(), value));
                }
            }
            if !fields.is_empty() {
                file.points += 1;
                file.values += fields.len() as u64;
                self.sink.point(&name, *time, &fields)?;
            }
        }
        Ok(())
    }
}

/// A column read row by row.
struct Cursor<'a> {
    id: FieldId,
    name: Arc<str>,
    column: &'a Column,
    /// Position of the next value.
    next: usize,
}

impl Cursor<'_> {
    /// The value of `row`; rows are asked for in order.
    fn take(&mut self, row: u32) -> Option<FieldValue> {
        let here = match &self.column.presence {
            Presence::All => true,
            Presence::Rows(rows) => rows.get(self.next) == Some(&row),
        };
        here.then(|| {
            self.next += 1;
            self.column.values.get(self.next - 1)
        })
    }
}

struct OfSegment<'e, 'a> {
    emitter: &'e mut Emitter<'a>,
    place: &'e Place,
    file: &'e mut SalvagedFile,
}

impl Finder for OfSegment<'_, '_> {
    fn found(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        let rows = Rows {
            namespace: self.place.namespace,
            measurement: piece.section.measurement(),
            series: piece.series,
            seq: self.place.max_seq,
            tags: piece.tags,
            times: &piece.rows.times,
            columns: &piece.rows.columns,
        };
        self.emitter.rows(&rows, self.file)
    }

    fn lost(&mut self, lost: Lost) {
        self.file.lose(lost);
    }
}
