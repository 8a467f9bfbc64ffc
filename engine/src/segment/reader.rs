//! Reading a segment: footer and header first, pages of the meta region when asked for, blocks by copy.
//!
//! Promise: no value is given out whose block, and the page that names it, did not pass their checksums in the very
//! copy that was decoded. Damage is an error that names file, place and part; it never ends the process.
//!
//! Invariants
//! 1. A block is copied to a buffer of the thread, the copy is verified and decoded, every time.
//! 2. What is allocated is bounded by the file's length and the limits of `layout`, never by a length field alone.
//!
//! Threads: a [`Segment`] is immutable and shared by any number of readers.

use super::block::{self, BadBlock};
use super::chunk::Frame;
use super::ends::{read_footer, read_header};
use super::entry::SegmentEntry;
use super::entry::SegmentSpec;
use super::error::{SegmentError, io_error};
use super::layout::{
    BlockEntry, Footer, GroupEntry, HEADER_LEN, MAX_BLOCK_BYTES, MAX_GROUP_ROWS, STATISTICS_CHUNK,
    SectionEntry, SeriesEntry, TIME_FIELD, place_crc,
};
use super::meta::{Meta, MetaPlace, Table};
use super::page::PageCache;
use super::section::{Level, Section};
use super::statistics::BlockStatistics;
use crate::codec;
use crate::column::Column;
use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, SegmentId, SeriesId, StoreId};
use crate::io::{Disk, Map, ReadMode, open_sealed};
use bytemuck::Zeroable;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use wattlog_model::TagSet;

/// Pages that a segment opened by itself keeps.
const OWN_CACHE_PAGES: usize = 64;

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    data: Arc<dyn Map>,
    pub(crate) meta: Meta,
    spec: SegmentSpec,
    pub(crate) footer: Footer,
    sections: Vec<(SectionEntry, OnceLock<Arc<Section>>)>,
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
    section: u32,
    ordinal: u32,
    offset: u64,
    first_block_or_len: u32,
    block_count_or_crc: u32,
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

thread_local! {
    /// Copy of the block being decoded.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A thread's buffer keeps no more than this between blocks.
const KEPT_BUFFER: usize = 256 * 1024;

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
            quarantined: false,
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

    fn section_at(&self, index: usize) -> Result<Arc<Section>, SegmentError> {
        let (entry, section) = &self.sections[index];
        if let Some(section) = section.get() {
            return Ok(Arc::clone(section));
        }
        let parsed = Arc::new(Section::parse(&self.meta, index as u32, *entry)?);
        Ok(Arc::clone(section.get_or_init(|| parsed)))
    }

    fn section_of(&self, group: &RowGroup) -> Result<Arc<Section>, SegmentError> {
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

    fn row_group(
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

    /// Decodes the times of a group into `out`, in place of what it held.
    pub fn read_times(&self, group: &RowGroup, out: &mut Vec<i64>) -> Result<(), SegmentError> {
        out.clear();
        let found = self.with_block(group, TIME_FIELD, |bytes, _, offset| {
            let decoded = codec::decode_times(bytes, group.rows as usize, out).map_err(BadBlock::from);
            decoded.map_err(|bad| self.bad_block("time_block", offset, bad))?;
            if (out.first(), out.last()) != (Some(&group.first_time), Some(&group.last_time)) {
                let found = out.first().map_or(0, |time| *time as u64);
                return Err(self.damage("time_block", offset, group.first_time as u64, found).into());
            }
            Ok(())
        })?;
        found.ok_or_else(|| self.damage("time_block", group.offset, 1, 0).into())
    }

    /// Decodes a field of a group into `out`, in place of what it held; false if no row has a value of it.
    pub fn read_column(
        &self,
        group: &RowGroup,
        field: FieldId,
        out: &mut Column,
    ) -> Result<bool, SegmentError> {
        let section = self.section_of(group)?;
        let Some(place) = section.field_place(field) else { return Ok(false) };
        let texts = section.texts(&self.meta, place)?;
        let field_type = section.fields()[place].field_type;
        let found = self.with_block(group, place as u16, |bytes, presence, offset| {
            block::decode(bytes, presence, group.rows as usize, field_type, &texts, out)
                .map_err(|bad| self.bad_block("field_block", offset, bad))
        })?;
        Ok(found.is_some())
    }

    /// Fields that have a value in a group, by rising id.
    pub fn fields_of(&self, group: &RowGroup) -> Result<Vec<FieldId>, SegmentError> {
        let section = self.section_of(group)?;
        let places = self.fields_of_places(group)?;
        Ok(places
            .into_iter()
            .filter_map(|place| Some(section.fields().get(usize::from(place))?.id))
            .collect())
    }

    /// The same as places in the section's field table, as they stand in the file.
    pub(crate) fn fields_of_places(&self, group: &RowGroup) -> Result<Vec<u16>, SegmentError> {
        let mut places = Vec::new();
        if group.compact {
            self.with_compact(group, |bytes| {
                let mut at = 0;
                while let Some(block) = block::take_compact(bytes, &mut at) {
                    places
                        .push(block.map_err(|bad| self.bad_block("compact_group", group.offset, bad))?.field);
                }
                Ok(())
            })?;
        } else {
            let section = self.section_of(group)?;
            let mut table = section.block_table(&self.meta)?;
            let (first, count) = group.block_range();
            for i in first..first.saturating_add(count) {
                places.push(table.get(i)?.field.get());
            }
        }
        places.retain(|place| *place != TIME_FIELD);
        Ok(places)
    }

    /// Makes sure that a field's dictionary, if it has one, can be read.
    pub(crate) fn section_texts(&self, section: &Section, field: usize) -> Result<(), SegmentError> {
        section.texts(&self.meta, field).map(drop)
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

    /// Statistics of a field in a group. None if no row has a value of it, or if none are kept: in compact groups and
    /// for plain texts; then the block must be decoded.
    pub fn statistics(
        &self,
        group: &RowGroup,
        field: FieldId,
    ) -> Result<Option<BlockStatistics>, SegmentError> {
        let section = self.section_of(group)?;
        let Some(place) = section.field_place(field).filter(|_| !group.compact) else { return Ok(None) };
        section.statistics(&self.meta, Level::Groups, place, group.ordinal, group.frame())
    }

    /// Statistics of one field in many groups of one section, in their order; each chunk of 64 is looked up once.
    pub fn statistics_of(
        &self,
        groups: &[RowGroup],
        field: FieldId,
        mut visit: impl FnMut(&RowGroup, Option<BlockStatistics>),
    ) -> Result<(), SegmentError> {
        let Some(first) = groups.first() else { return Ok(()) };
        let section = self.section_of(first)?;
        let Some(place) = section.field_place(field) else {
            for group in groups {
                visit(group, None);
            }
            return Ok(());
        };
        let texts = section.texts(&self.meta, place)?;
        let field_type = section.fields()[place].field_type;
        let chunk_of = |group: &RowGroup| (group.section, group.ordinal / STATISTICS_CHUNK as u32);
        for same in groups.chunk_by(|a, b| chunk_of(a) == chunk_of(b)) {
            debug_assert_eq!(same[0].section, first.section, "groups of one section");
            section.with_chunk(&self.meta, Level::Groups, place, same[0].ordinal, |chunk| {
                for group in same {
                    let at = group.ordinal % STATISTICS_CHUNK as u32;
                    visit(group, chunk.get(at, group.frame(), field_type, &texts)?);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Statistics of a field over all rows of a series in this segment. None if the series or its values are not
    /// here, or if none are kept: then its row groups tell.
    pub fn series_statistics(
        &self,
        measurement: MeasurementId,
        series: SeriesId,
        field: FieldId,
    ) -> Result<Option<BlockStatistics>, SegmentError> {
        let Some(section) = self.section(measurement)? else { return Ok(None) };
        let Some(place) = section.field_place(field) else { return Ok(None) };
        let Some((ordinal, entry)) = section.find_series(&self.meta, series)? else { return Ok(None) };
        let (start, count) = (entry.first_group.get(), entry.group_count.get());
        let mut table = section.group_table(&self.meta)?;
        let first = self.row_group(section.index, start, &mut table)?;
        if count == 1 {
            return self.statistics(&first, field);
        }
        let last = table.get(start.saturating_add(count).saturating_sub(1))?;
        let frame = Frame { rows: 0, first_time: first.first_time, last_time: last.last_time.get() };
        section.statistics(&self.meta, Level::Series, place, ordinal, frame)
    }

    /// Lets `read` see the verified copy of a field's block: (bytes, presence, place in the file).
    fn with_block<R>(
        &self,
        group: &RowGroup,
        field: u16,
        read: impl FnOnce(&[u8], u8, u64) -> Result<R, SegmentError>,
    ) -> Result<Option<R>, SegmentError> {
        if group.compact {
            return self.with_compact(group, |bytes| {
                let mut at = 0;
                while let Some(block) = block::take_compact(bytes, &mut at) {
                    let block = block.map_err(|bad| self.bad_block("compact_group", group.offset, bad))?;
                    if block.field == field {
                        return read(block.bytes, block.presence, group.offset + block.offset as u64)
                            .map(Some);
                    }
                }
                Ok(None)
            });
        }
        let section = self.section_of(group)?;
        let Some(entry) = self.find_block(&section, group, field)? else { return Ok(None) };
        let offset = group.offset.saturating_add(u64::from(entry.offset.get()));
        let len = entry.len.get();
        self.with_verified(offset, len, entry.crc.get(), "block_crc", |bytes| {
            read(bytes, entry.presence, offset)
        })
        .map(Some)
    }

    fn find_block(
        &self,
        section: &Section,
        group: &RowGroup,
        field: u16,
    ) -> Result<Option<BlockEntry>, SegmentError> {
        let mut table = section.block_table(&self.meta)?;
        let (first, count) = group.block_range();
        let end = first.saturating_add(count);
        if count == 0 || end > table.len() {
            return Err(self.meta.damage("block_count", 0, u64::from(table.len()), u64::from(end)).into());
        }
        // The time block stands first, fields follow by rising place.
        let place = if field == TIME_FIELD {
            first
        } else {
            table.partition_point(first + 1..end, |entry| entry.field.get() < field)?
        };
        if place == end {
            return Ok(None);
        }
        let entry = table.get(place)?;
        Ok((entry.field.get() == field).then_some(entry))
    }

    fn with_compact<R>(
        &self,
        group: &RowGroup,
        read: impl FnOnce(&[u8]) -> Result<R, SegmentError>,
    ) -> Result<R, SegmentError> {
        self.with_verified(
            group.offset,
            group.first_block_or_len,
            group.block_count_or_crc,
            "compact_crc",
            read,
        )
    }

    /// Copies bytes of the data region, verifies the copy and lets `read` see it.
    pub(crate) fn with_verified<R>(
        &self,
        offset: u64,
        len: u32,
        crc: u32,
        part: &'static str,
        read: impl FnOnce(&[u8]) -> Result<R, SegmentError>,
    ) -> Result<R, SegmentError> {
        let end = offset.checked_add(u64::from(len));
        let inside = offset >= HEADER_LEN as u64 && end.is_some_and(|end| end <= self.footer.data_end.get());
        if !inside || len as usize > MAX_BLOCK_BYTES {
            return Err(self
                .damage("block_place", offset, self.footer.data_end.get(), u64::from(len))
                .into());
        }
        // Taken, not borrowed: a reader called by `read` would find a buffer of its own.
        let mut buffer = BUFFER.take();
        buffer.resize(len as usize, 0);
        let copied = self.data.copy_at(offset, &mut buffer).map_err(|source| io_error(self.file(), source));
        let verified = copied.and_then(|()| match place_crc(self.spec.id.0, offset, &buffer) {
            found if found == crc => Ok(()),
            found => Err(self.damage(part, offset, u64::from(crc), u64::from(found)).into()),
        });
        let result = verified.and_then(|()| read(&buffer));
        buffer.truncate(KEPT_BUFFER);
        buffer.shrink_to(KEPT_BUFFER);
        BUFFER.set(buffer);
        result
    }

    fn bad_block(&self, part: &'static str, offset: u64, bad: BadBlock) -> SegmentError {
        self.damage(part, offset + bad.offset as u64, 0, 0).into()
    }

    pub(crate) fn damage(&self, part: &'static str, offset: u64, expected: u64, found: u64) -> Damage {
        Damage { file: self.meta.file.clone(), offset, part, expected, found }
    }
}
