//! Writing a segment anew from its own values, if all of them can be read.
//!
//! Invariant: the new file says the same of its rows, values and times as the manifest says of the old one, or it is not
//! used: a block that is lost never gets a good checksum.

use super::same_content;
use crate::column::SeriesRows;
use crate::engine::Shared;
use crate::ids::{MeasurementId, SegmentId, SeriesId};
use crate::rows::merge_runs;
use crate::seal::Begun;
use crate::segment::{
    Finder, Lost, Part, Piece, Remains, SegmentEntry, SegmentSpec, SegmentWriter, segment_path,
};
use std::io;
use std::sync::Arc;
use wattlog_model::TagSet;

/// What became of it.
pub(super) enum Rewritten {
    /// Durable under its own name; no manifest names it yet.
    Whole(SegmentEntry),
    /// Not every value could be read: so many could.
    NotWhole { values: u64 },
}

/// Reads the segment of `entry` and writes it again under a new number.
pub(super) fn rewrite(shared: &Arc<Shared>, entry: &SegmentEntry) -> io::Result<Rewritten> {
    let Ok(remains) = Remains::open(&*shared.disk, &entry.path(), shared.store) else {
        return Ok(Rewritten::NotWhole { values: 0 });
    };
    let mut count = Count::default();
    remains.walk(&mut count)?;
    // What is lost, if it were values, would be missing here; statistics, ends and what is unused are not.
    if count.values != entry.values || remains.spec().id != entry.id {
        return Ok(Rewritten::NotWhole { values: count.values });
    }
    // A file without the name of its database would give that name to the catalog.
    let known = shared.catalog.namespace_name(entry.namespace);
    let known = known.map(|(database, policy)| (database.to_string(), policy.to_string()));
    let namespace_name = known.unwrap_or_else(|| remains.spec().namespace_name.clone());
    if namespace_name.0.is_empty() {
        return Ok(Rewritten::NotWhole { values: count.values });
    }
    let id = SegmentId(shared.next_file_id());
    let path = segment_path(id);
    let temporary = format!("{path}.tmp");
    let mut begun = Begun::new(shared);
    begun.add(&path);
    let spec = SegmentSpec { id, namespace_name, ..remains.spec().clone() };
    let writer = SegmentWriter::create(&*shared.disk, &temporary, spec.clone())?;
    let mut copy = Copy { shared, writer, section: None, series: None, failed: false };
    remains.walk(&mut copy)?;
    copy.end_series()?;
    let Copy { writer, failed, .. } = copy;
    if failed {
        return Ok(Rewritten::NotWhole { values: count.values });
    }
    let summary = writer.finish()?;
    let new = SegmentEntry { deletes_applied: entry.deletes_applied, ..summary.entry(&spec) };
    if !same_content(entry, &new) {
        return Ok(Rewritten::NotWhole { values: count.values });
    }
    shared.disk.rename(&temporary, &path)?;
    shared.disk.sync_dir("segments")?;
    begun.keep();
    Ok(Rewritten::Whole(new))
}

#[derive(Default)]
struct Count {
    values: u64,
}

impl Finder for Count {
    fn found(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        self.values += piece.rows.columns.iter().map(|(_, column)| column.values.len() as u64).sum::<u64>();
        Ok(())
    }

    fn lost(&mut self, _: Lost) {}
}

struct Copy<'a> {
    shared: &'a Shared,
    writer: SegmentWriter,
    section: Option<MeasurementId>,
    /// The series that is being read, and its rows so far.
    series: Option<(SeriesId, TagSet, Vec<SeriesRows>)>,
    /// Something that is needed besides the values is not known.
    failed: bool,
}

impl Copy<'_> {
    fn end_series(&mut self) -> io::Result<()> {
        if let Some((series, tags, rows)) = self.series.take() {
            self.writer.begin_series(series)?;
            self.writer.write_rows(&merge_runs(rows), Part::Whole)?;
            self.writer.end_series(&tags)?;
        }
        Ok(())
    }
}

impl Finder for Copy<'_> {
    fn found(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let measurement = piece.section.measurement();
        if self.section != Some(measurement) {
            self.end_series()?;
            self.section = Some(measurement);
            self.writer.begin_section(measurement, piece.section.name(), piece.section.fields())?;
        }
        if self.series.as_ref().is_none_or(|(series, ..)| *series != piece.series) {
            self.end_series()?;
            let tags = match piece.tags {
                Some(tags) => Some(tags.clone()),
                None => {
                    let known = self.shared.catalog.series_tags(piece.series).map_err(io::Error::other)?;
                    known.map(|(_, tags)| tags)
                }
            };
            let Some(tags) = tags else {
                self.failed = true;
                return Ok(());
            };
            self.series = Some((piece.series, tags, Vec::new()));
        }
        if let Some((_, _, rows)) = &mut self.series {
            rows.push(piece.rows.clone());
        }
        Ok(())
    }

    fn lost(&mut self, _: Lost) {}
}
