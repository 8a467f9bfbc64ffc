//! An open segment: header and footer first, pages of the meta region when asked for. Blocks are read in `read`.
//!
//! Promise: no value is given out whose block, and the page that names it, did not pass their checksums in the very
//! copy that was decoded. Damage is an error that names file, place and part; it never ends the process.
//!
//! Invariant: what is allocated is bounded by the file's length and the limits of `layout`, never by a length field alone.
//!
//! Threads: a [`Segment`] is immutable and shared by any number of readers.

use super::chunk::Frame;
use super::ends::{read_footer, read_header};
use super::entry::{SegmentEntry, SegmentSpec};
use super::error::{SegmentError, io_error};
use super::layout::{BlockEntry, Footer, GroupEntry, HEADER_LEN, MAX_GROUP_ROWS, SectionEntry, SeriesEntry};
use super::meta::{Meta, MetaPlace, Table};
use super::page::PageCache;
use super::section::Section;
use crate::ids::{MeasurementId, SegmentId, Seq, SeriesId, StoreId};
use crate::io::{Disk, Map, ReadMode, open_sealed};
use bytemuck::Zeroable;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wattlog_model::TagSet;

/// Pages that a segment opened by itself keeps.
pub(super) const OWN_CACHE_PAGES: usize = 64;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    pub(super) data: Arc<dyn Map>,
    pub(crate) meta: Meta,
    pub(super) spec: SegmentSpec,
    pub(crate) footer: Footer,
    pub(super) sections: Vec<(SectionEntry, OnceLock<Arc<Section>>)>,
}

/// A row group: up to 1024 rows of one series with one block of times and one block for each field that has values.
///
/// A handle of the segment that gave it; cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroup {
    /// Time of the first and the last row.
    pub first_time: i64,
    pub last_time: i64,
    /// Number of rows.
    pub rows: u32,
    /// Few rows, no statistics: always to be decoded.
    pub compact: bool,
    pub(super) section: u32,
    pub(super) ordinal: u32,
    pub(super) offset: u64,
    pub(super) first_block_or_len: u32,
    pub(super) block_count_or_crc: u32,
}

impl RowGroup {
    /// Whether a row of `range` can be in it.
    pub fn overlaps(&self, range: &Range<i64>) -> bool {
        self.first_time < range.end && self.last_time >= range.start
    }

    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn compact_len(&self) -> u32 {
        if self.compact { self.first_block_or_len } else { 0 }
    }

    /// Range of the group's entries in the block table.
    pub(crate) fn block_range(&self) -> (u32, u32) {
        if self.compact { (0, 0) } else { (self.first_block_or_len, self.block_count_or_crc) }
    }

    pub(crate) fn frame(&self) -> Frame {
        Frame { rows: self.rows, first_time: self.first_time, last_time: self.last_time }
    }
}

impl Segment {
    /// Opens a sealed file. Reads its header, its footer and the first page of the meta region.
    pub fn open(
        disk: &dyn Disk,
        path: &str,
        store: StoreId,
        id: SegmentId,
        mode: ReadMode,
    ) -> Result<Self, SegmentError> {
        Self::open_with(disk, path, store, id, mode, Arc::new(PageCache::new(OWN_CACHE_PAGES)))
    }

    /// The same with a cache of pages that other segments share.
    pub fn open_with(
        disk: &dyn Disk,
        path: &str,
        store: StoreId,
        id: SegmentId,
        mode: ReadMode,
        cache: Arc<PageCache>,
    ) -> Result<Self, SegmentError> {
        let data = open_sealed(disk, path, mode).map_err(|source| io_error(path, source))?;
        let footer = read_footer(&*data, path, store, id)?;
        let header = read_header(&*data, path, store, id)?;
        let place =
            MetaPlace { file: path.to_owned(), base: footer.meta_offset.get(), len: footer.meta_len.get() };
        let meta = Meta::open(Arc::clone(&data), place, store, id, cache)?;
        let segment = Self::with_meta(data, meta, store, footer)?;
        let agree = (header.min_seq, header.max_seq, header.first_day, header.end_day);
        let own = &segment.meta.header;
        if agree != (own.min_seq, own.max_seq, own.first_day, own.end_day) {
            return Err(segment.meta.damage("min_seq", 0, header.min_seq.get(), own.min_seq.get()).into());
        }
        Ok(segment)
    }

    /// Opens a meta region that stands alone in `meta_source`; `data` gives the bytes of the segment's file, of which
    /// only those of asked blocks are read.
    pub fn open_detached(
        meta_source: Arc<dyn Map>,
        data: Arc<dyn Map>,
        file: &str,
        store: StoreId,
        id: SegmentId,
    ) -> Result<Self, SegmentError> {
        let place = MetaPlace { file: file.to_owned(), base: 0, len: meta_source.len() };
        let meta = Meta::open(meta_source, place, store, id, Arc::new(PageCache::new(OWN_CACHE_PAGES)))?;
        let footer = Footer { data_end: meta.header.data_end, ..Footer::zeroed() };
        Self::with_meta(data, meta, store, footer)
    }

    fn with_meta(
        data: Arc<dyn Map>,
        meta: Meta,
        store: StoreId,
        footer: Footer,
    ) -> Result<Self, SegmentError> {
        if footer.data_end != meta.header.data_end {
            let (expected, found) = (footer.data_end.get(), meta.header.data_end.get());
            return Err(meta.damage("data_end", 0, expected, found).into());
        }
        let (min_seq, max_seq) = meta.seqs();
        let spec = SegmentSpec {
            store,
            id: meta.segment(),
            namespace: meta.namespace,
            namespace_name: meta.namespace_name()?,
            min_seq,
            max_seq,
            first_day: meta.header.first_day.get(),
            end_day: meta.header.end_day.get(),
            midnights: meta.midnights()?,
        };
        let (count, offset) = (meta.header.section_count.get(), meta.header.directory_offset.get());
        let entry_len = size_of::<SectionEntry>() as u64;
        meta.check_range("section_count", offset, u64::from(count) * entry_len)?;
        let mut sections: Vec<(SectionEntry, OnceLock<Arc<Section>>)> = Vec::with_capacity(count as usize);
        for i in 0..u64::from(count) {
            let entry: SectionEntry = meta.read("section", offset + i * entry_len)?;
            if let Some((before, _)) = sections.last()
                && before.measurement.get() >= entry.measurement.get()
            {
                let (expected, found) = (before.measurement.get(), entry.measurement.get());
                let damage =
                    meta.damage("measurement", offset + i * entry_len, u64::from(expected), u64::from(found));
                return Err(damage.into());
            }
            sections.push((entry, OnceLock::new()));
        }
        Ok(Self { data, meta, spec, footer, sections })
    }

    /// What the segment says of itself.
    pub fn spec(&self) -> &SegmentSpec {
        &self.spec
    }

    /// What a manifest would say of it.
    pub fn entry(&self) -> SegmentEntry {
        let (rows, values) = self.totals();
        let (first_time, last_time) = self.time_range();
        let (data_bytes, time_bytes, meta_bytes) = self.bytes_by_kind();
        let mut measurements = self.measurements();
        let (first, second) = (measurements.next(), measurements.next());
        SegmentEntry {
            id: self.spec.id,
            namespace: self.spec.namespace,
            measurement: first.filter(|_| second.is_none()),
            first_time,
            last_time,
            min_seq: self.spec.min_seq,
            max_seq: self.spec.max_seq,
            rows,
            values,
            data_bytes,
            time_bytes,
            meta_bytes,
            file_bytes: self.data.len(),
            deletes_applied: Seq(0),
            quarantined: false,
            packed: false,
        }
    }

    /// Path it was opened by.
    pub fn file(&self) -> &str {
        &self.meta.file
    }

    /// Whether a page of the file could not be read since it was opened: nothing read from it counts.
    pub fn is_poisoned(&self) -> bool {
        self.data.is_poisoned()
    }

    /// Rows and values in the whole file.
    pub fn totals(&self) -> (u64, u64) {
        (self.meta.header.rows.get(), self.meta.header.values.get())
    }

    /// Time of the oldest and the newest row of the whole file.
    pub fn time_range(&self) -> (i64, i64) {
        (self.meta.header.first_time.get(), self.meta.header.last_time.get())
    }

    /// Bytes of data (blocks of fields, compact groups), of time blocks and of all else.
    pub fn bytes_by_kind(&self) -> (u64, u64, u64) {
        let time = self.meta.header.time_bytes.get();
        let blocks = self.meta.header.data_end.get().saturating_sub(HEADER_LEN as u64);
        (blocks.saturating_sub(time), time, self.data.len().saturating_sub(blocks))
    }

    /// Measurements in the segment, by rising id.
    pub fn measurements(&self) -> impl Iterator<Item = MeasurementId> {
        self.sections.iter().map(|(entry, _)| MeasurementId(entry.measurement.get()))
    }

    /// The section of a measurement, if the segment has rows of it.
    pub fn section(&self, measurement: MeasurementId) -> Result<Option<Arc<Section>>, SegmentError> {
        let found = self.sections.binary_search_by_key(&measurement.0, |(entry, _)| entry.measurement.get());
        found.ok().map(|index| self.section_at(index)).transpose()
    }

    /// All sections, by rising measurement id.
    pub fn sections(&self) -> Result<Vec<Arc<Section>>, SegmentError> {
        (0..self.sections.len()).map(|index| self.section_at(index)).collect()
    }

    pub(super) fn section_at(&self, index: usize) -> Result<Arc<Section>, SegmentError> {
        let (entry, section) = &self.sections[index];
        if let Some(section) = section.get() {
            return Ok(Arc::clone(section));
        }
        let parsed = Arc::new(Section::parse(&self.meta, index as u32, *entry)?);
        Ok(Arc::clone(section.get_or_init(|| parsed)))
    }

    pub(super) fn section_of(&self, group: &RowGroup) -> Result<Arc<Section>, SegmentError> {
        self.section_at(group.section as usize)
    }

    /// Ids and keys of all series of a section, by rising id; with [`Section::fields`] all that a catalog needs.
    pub fn series_keys(
        &self,
        section: &Section,
        visit: &mut dyn FnMut(SeriesId, TagSet),
    ) -> Result<(), SegmentError> {
        section.series_keys(&self.meta, visit)
    }

    /// Row groups of a series that can hold rows of `range`, in time order.
    pub fn row_groups(
        &self,
        measurement: MeasurementId,
        series: SeriesId,
        range: Range<i64>,
    ) -> Result<Vec<RowGroup>, SegmentError> {
        let mut groups = Vec::new();
        if let Some(section) = self.section(measurement)? {
            self.for_each_group(&section, series, range, |group| groups.push(group))?;
        }
        Ok(groups)
    }

    /// The same without an allocation: visits the row groups of one series.
    pub fn for_each_group(
        &self,
        section: &Section,
        series: SeriesId,
        range: Range<i64>,
        mut visit: impl FnMut(RowGroup),
    ) -> Result<(), SegmentError> {
        let (first, last) = section.time_range();
        if range.is_empty() || last < range.start || first >= range.end {
            return Ok(());
        }
        let Some((_, entry)) = section.find_series(&self.meta, series)? else { return Ok(()) };
        let mut table = section.group_table(&self.meta)?;
        let start = entry.first_group.get();
        let end = start.saturating_add(entry.group_count.get());
        if end > table.len() {
            let damage = self.meta.damage("group_count", 0, u64::from(table.len()), u64::from(end));
            return Err(damage.into());
        }
        let from = table.partition_point(start..end, |group| group.last_time.get() < range.start)?;
        for ordinal in from..end {
            let group = self.row_group(section.index, ordinal, &mut table)?;
            if group.first_time >= range.end {
                break;
            }
            visit(group);
        }
        Ok(())
    }

    /// Visits every row group of the segment's section in file order: by series, then time.
    pub fn for_all_groups(
        &self,
        section: &Section,
        mut visit: impl FnMut(SeriesId, RowGroup) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let mut series = section.series_table(&self.meta)?;
        let mut groups = section.group_table(&self.meta)?;
        for i in 0..series.len() {
            let entry = series.get(i)?;
            let start = entry.first_group.get();
            for ordinal in start..start.saturating_add(entry.group_count.get()) {
                visit(SeriesId(entry.series.get()), self.row_group(section.index, ordinal, &mut groups)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn row_group(
        &self,
        section: u32,
        ordinal: u32,
        table: &mut Table<'_, GroupEntry>,
    ) -> Result<RowGroup, SegmentError> {
        let entry = table.get(ordinal)?;
        let rows = entry.rows();
        if rows == 0 || usize::from(rows) > MAX_GROUP_ROWS {
            let place = table.place(ordinal);
            return Err(self.meta.damage("group_rows", place, MAX_GROUP_ROWS as u64, u64::from(rows)).into());
        }
        Ok(RowGroup {
            first_time: entry.first_time.get(),
            last_time: entry.last_time.get(),
            rows: u32::from(rows),
            compact: entry.is_compact(),
            section,
            ordinal,
            offset: entry.offset(),
            first_block_or_len: entry.first_block_or_len.get(),
            block_count_or_crc: entry.block_count_or_crc.get(),
        })
    }

    /// Entry `ordinal` of a section's series.
    pub(crate) fn series_entry(&self, section: &Section, ordinal: u32) -> Result<SeriesEntry, SegmentError> {
        section.series_table(&self.meta)?.get(ordinal)
    }

    /// Row group `ordinal` of a section.
    pub(crate) fn group_at(&self, section: &Section, ordinal: u32) -> Result<RowGroup, SegmentError> {
        self.row_group(section.index, ordinal, &mut section.group_table(&self.meta)?)
    }

    /// Entry `index` of a section's blocks.
    pub(crate) fn block_entry(&self, section: &Section, index: u32) -> Result<BlockEntry, SegmentError> {
        section.block_table(&self.meta)?.get(index)
    }
}
