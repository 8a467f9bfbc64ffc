//! Proving a segment file: every byte is read, every checksum computed, every block decoded, every statistic computed
//! again from the values.
//!
//! It reads through `pread`, so that a disk that cannot give a page says so, and past every cache. After damage it goes
//! on with what does not depend on it: the report names each damaged block once.

use super::block;
use super::ends::{peek_identity, read_header};
use super::entry::SegmentEntry;
use super::error::SegmentError;
use super::layout::{
    BlockEntry, FOOTER_LEN, HEADER_LEN, MAX_MIDNIGHTS, MIDNIGHTS_OFFSET, SEGMENT_HEADER_CRC_OFFSET,
    SeriesEntry, TIME_FIELD,
};
use super::page::PageCache;
use super::reader::{RowGroup, Segment};
use super::section::{Level, Section};
use super::statistics::BlockStatistics;
use crate::check::FileReport;
use crate::codec;
use crate::column::{Column, Presence, Values};
use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, SegmentId, StoreId};
use crate::io::{Disk, Map, ReadMode, open_sealed};
use std::sync::Arc;
use wattlog_model::FieldType;

/// Verifies a segment file, which must be the one of `store` and `id` where they are given; where not, it is taken for
/// the one it says it is.
pub fn verify_file(disk: &dyn Disk, path: &str, store: Option<StoreId>, id: Option<u64>) -> FileReport {
    let mut report = FileReport::new(path);
    if let Err(error) = Check::run(disk, path, (store, id.map(SegmentId)), &mut report) {
        report.damage.push(error.to_damage());
    }
    report
}

/// The first thing that a segment says of itself otherwise than the manifest does.
pub fn differs_from(disk: &dyn Disk, entry: &SegmentEntry, store: StoreId) -> Option<Damage> {
    let segment = match Segment::open(disk, &entry.path(), store, entry.id, ReadMode::Pread) {
        Ok(segment) => segment,
        Err(error) => return Some(error.to_damage()),
    };
    let own = segment.entry();
    let id = |measurement: Option<MeasurementId>| u64::from(measurement.unwrap_or_default().0);
    let parts = [
        ("namespace", u64::from(entry.namespace.0), u64::from(own.namespace.0)),
        ("measurement", id(entry.measurement), id(own.measurement)),
        ("first_time", entry.first_time as u64, own.first_time as u64),
        ("last_time", entry.last_time as u64, own.last_time as u64),
        ("min_seq", entry.min_seq.0, own.min_seq.0),
        ("max_seq", entry.max_seq.0, own.max_seq.0),
        ("rows", entry.rows, own.rows),
        ("values", entry.values, own.values),
        ("data_bytes", entry.data_bytes, own.data_bytes),
        ("time_bytes", entry.time_bytes, own.time_bytes),
        ("meta_bytes", entry.meta_bytes, own.meta_bytes),
    ];
    let (part, expected, found) = parts.into_iter().find(|(_, expected, found)| expected != found)?;
    Some(segment.damage(part, 0, expected, found))
}

/// One run over one file.
struct Check<'a> {
    segment: Segment,
    data: Arc<dyn Map>,
    report: &'a mut FileReport,
    /// Where the next block must start: blocks tile the data region in the order of the index.
    next_offset: u64,
    time_bytes: u64,
    blocks: u64,
}

impl<'a> Check<'a> {
    fn run(
        disk: &dyn Disk,
        path: &str,
        (store, id): (Option<StoreId>, Option<SegmentId>),
        report: &'a mut FileReport,
    ) -> Result<(), SegmentError> {
        let data = open_sealed(disk, path, ReadMode::Pread)
            .map_err(|source| SegmentError::Io { file: path.to_owned(), source })?;
        report.bytes = data.len();
        // A header that cannot be read at all is found, and told, by the ordinary open below.
        let (own_store, own_id) = peek_identity(&*data).unwrap_or_default();
        let (store, id) = (store.unwrap_or(own_store), id.unwrap_or(own_id));
        let segment =
            Segment::open_with(disk, path, store, id, ReadMode::Pread, Arc::new(PageCache::new(4096)))?;
        let mut check =
            Check { segment, data, report, next_offset: HEADER_LEN as u64, time_bytes: 0, blocks: 0 };
        check.ends()?;
        check.pages();
        let sections = check.segment.sections()?;
        for section in &sections {
            if let Err(error) = check.section(section) {
                check.report.damage.push(error.to_damage());
            }
        }
        check.totals(&sections);
        Ok(())
    }

    fn expect(&mut self, part: &'static str, offset: u64, expected: u64, found: u64) {
        if expected != found {
            let damage = self.segment.damage(part, offset, expected, found);
            self.report.damage.push(damage);
        }
    }

    /// Damage in the meta region's content is told at its start: the page has passed its checksum, so the writer erred.
    fn expect_meta(&mut self, part: &'static str, expected: u64, found: u64) {
        let offset = self.segment.meta.file_offset(0);
        self.expect(part, offset, expected, found);
    }

    /// Bytes that must be zero: what the header reserves, and the padding after the data.
    fn ends(&mut self) -> Result<(), SegmentError> {
        let header =
            read_header(&*self.data, self.segment.file(), self.segment.spec().store, self.segment.spec().id)?;
        let midnights = u64::from(header.midnight_count.get());
        self.expect("header.midnight_count", 88, midnights.min(MAX_MIDNIGHTS as u64), midnights);
        self.expect("header.reserved", 92, 0, u64::from(header.reserved.get()));
        let unused = MIDNIGHTS_OFFSET as u64 + 8 * midnights.min(MAX_MIDNIGHTS as u64);
        self.zeros("header.midnights", unused..SEGMENT_HEADER_CRC_OFFSET as u64)?;
        let own = self.segment.spec().midnights.clone();
        self.expect("header.midnight_count", 88, own.len() as u64, midnights);
        for (i, midnight) in own.into_iter().enumerate() {
            let (offset, mut word) = (MIDNIGHTS_OFFSET as u64 + 8 * i as u64, [0; 8]);
            let copied = self.data.copy_at(offset, &mut word);
            copied.map_err(|source| SegmentError::Io { file: self.segment.file().to_owned(), source })?;
            self.expect("header.midnights", offset, midnight.cast_unsigned(), u64::from_le_bytes(word));
        }
        let (data_end, meta_offset) =
            (self.segment.footer.data_end.get(), self.segment.footer.meta_offset.get());
        self.zeros("data_padding", data_end..meta_offset)
    }

    fn zeros(&mut self, part: &'static str, range: std::ops::Range<u64>) -> Result<(), SegmentError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let copied = self.data.copy_at(range.start, &mut bytes);
        copied.map_err(|source| SegmentError::Io { file: self.segment.file().to_owned(), source })?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            self.expect(part, range.start + at as u64, 0, u64::from(bytes[at]));
        }
        Ok(())
    }

    /// Every page, and the checksum over them in the footer.
    fn pages(&mut self) {
        let mut crcs = crc32fast::Hasher::new();
        for number in 0..self.segment.meta.page_count() {
            match self.segment.meta.read_page(number) {
                Ok(page) => crcs.update(bytemuck::bytes_of(&page.header().page_crc)),
                Err(error) => self.report.damage.push(error.to_damage()),
            }
        }
        let at = self.report.bytes - FOOTER_LEN as u64;
        let found = u64::from(crcs.finalize());
        self.expect("footer.meta_crc", at + 88, found, u64::from(self.segment.footer.meta_crc.get()));
    }

    fn totals(&mut self, sections: &[Arc<Section>]) {
        if !self.report.damage.is_empty() {
            return;
        }
        let footer = self.segment.footer;
        let meta = self.segment.meta.header;
        let (rows, values) = (self.report.rows, self.report.values);
        self.expect("footer.rows", self.report.bytes - 32, rows, footer.rows.get());
        self.expect("footer.values", self.report.bytes - 24, values, footer.values.get());
        self.expect(
            "footer.block_count",
            self.report.bytes - 16,
            self.blocks,
            u64::from(footer.block_count.get()),
        );
        self.expect_meta("meta.rows", rows, meta.rows.get());
        self.expect_meta("meta.values", values, meta.values.get());
        self.expect_meta("meta.time_bytes", self.time_bytes, meta.time_bytes.get());
        self.expect_meta("meta.data_end", self.next_offset, meta.data_end.get());
        let first = sections.iter().map(|s| s.time_range().0).min().unwrap_or_default();
        let last = sections.iter().map(|s| s.time_range().1).max().unwrap_or_default();
        self.expect_meta("meta.first_time", first as u64, meta.first_time.get() as u64);
        self.expect_meta("meta.last_time", last as u64, meta.last_time.get() as u64);
        self.report.blocks = self.blocks;
    }

    fn section(&mut self, section: &Section) -> Result<(), SegmentError> {
        for place in 0..section.fields().len() {
            self.segment.section_texts(section, place)?;
        }
        let mut keys = 0_u64;
        self.segment.series_keys(section, &mut |_, _| keys += 1)?;
        self.expect_meta("section.series_count", u64::from(section.series_count()), keys);

        let mut cursor = SectionCursor::default();
        let (rows_before, values_before) = (self.report.rows, self.report.values);
        let mut before = None;
        for ordinal in 0..section.series_count() {
            let entry = self.segment.series_entry(section, ordinal)?;
            let id = entry.series.get();
            if before.is_some_and(|before| before >= id) {
                self.expect_meta("series.series", before.map_or(0, u64::from) + 1, u64::from(id));
            }
            before = Some(id);
            self.expect_meta(
                "series.first_group",
                u64::from(cursor.next_group),
                u64::from(entry.first_group.get()),
            );
            self.series(section, ordinal, entry, &mut cursor)?;
        }
        self.expect_meta(
            "section.group_count",
            u64::from(cursor.next_group),
            u64::from(section.group_count()),
        );
        let block_count = section.entry.block_count.get();
        self.expect_meta("section.block_count", u64::from(cursor.next_block), u64::from(block_count));
        let (first, last) = section.time_range();
        let found = cursor.times.unwrap_or_default();
        self.expect_meta("section.first_time", found.0 as u64, first as u64);
        self.expect_meta("section.last_time", found.1 as u64, last as u64);
        if self.report.damage.is_empty() {
            self.expect_meta("section.rows", self.report.rows - rows_before, section.rows());
            self.expect_meta("section.values", self.report.values - values_before, section.values());
        }
        Ok(())
    }

    fn series(
        &mut self,
        section: &Section,
        ordinal: u32,
        entry: SeriesEntry,
        cursor: &mut SectionCursor,
    ) -> Result<(), SegmentError> {
        let first = cursor.next_group;
        let claimed = first.saturating_add(entry.group_count.get());
        let end = claimed.min(section.group_count());
        self.expect_meta("series.group_count", u64::from(end), u64::from(claimed));
        let mut joined: Vec<Joined> = section.fields().iter().map(|_| Joined::default()).collect();
        let mut series_rows = 0_u64;
        let (mut first_time, mut last_time) = (None, None);
        for group_ordinal in first..end {
            let group = self.segment.group_at(section, group_ordinal)?;
            if last_time.is_some_and(|last| last >= group.first_time) {
                self.expect_meta(
                    "group.first_time",
                    last_time.map_or(0, |t: i64| t as u64),
                    group.first_time as u64,
                );
            }
            first_time = first_time.or(Some(group.first_time));
            last_time = Some(group.last_time);
            cursor.cover(&group);
            self.expect("group.offset_rows", group.offset(), self.next_offset, group.offset());
            series_rows += u64::from(group.rows);
            self.report.rows += u64::from(group.rows);
            if group.compact {
                self.compact_group(section, &group)?;
            } else {
                self.group(section, &group, cursor, &mut joined)?;
            }
        }
        cursor.next_group = end;
        self.expect_meta("series.rows", series_rows, u64::from(entry.rows.get()));
        let (Some(first_time), Some(last_time)) = (first_time, last_time) else {
            self.expect_meta("series.group_count", 1, 0);
            return Ok(());
        };
        let frame = super::chunk::Frame { rows: 0, first_time, last_time };
        for (place, joined) in joined.into_iter().enumerate() {
            let expected = if joined.blocks > 1 && !joined.broken { joined.statistics } else { None };
            let found = section.statistics(&self.segment.meta, Level::Series, place, ordinal, frame)?;
            self.compare("summary", expected.as_ref(), found.as_ref(), joined.lost);
        }
        Ok(())
    }

    /// Statistics as computed and as stored. What was computed over a lost block says nothing.
    fn compare(
        &mut self,
        part: &'static str,
        expected: Option<&BlockStatistics>,
        found: Option<&BlockStatistics>,
        lost: bool,
    ) {
        let same = match (expected, found) {
            (Some(a), Some(b)) => a.same_bits(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !same && !lost {
            let count = |s: Option<&BlockStatistics>| s.map_or(0, |s| u64::from(s.count));
            let offset = self.segment.meta.file_offset(0);
            let damage = self.segment.damage(part, offset, count(expected), count(found));
            self.report.damage.push(damage);
        }
    }

    fn compact_group(&mut self, section: &Section, group: &RowGroup) -> Result<(), SegmentError> {
        self.next_offset = group.offset().saturating_add(u64::from(group.compact_len()));
        let mut times = Vec::new();
        if let Err(error) = self.segment.read_times(group, &mut times) {
            self.report.damage.push(error.to_damage());
            return Ok(());
        }
        self.rising(group, &times);
        let fields = self.segment.fields_of_places(group)?;
        self.expect("compact_fields", group.offset(), 1, u64::from(fields.is_sorted_by(|a, b| a < b)));
        self.blocks += 1 + fields.len() as u64;
        for place in fields {
            let Some(field) = section.fields().get(usize::from(place)) else {
                self.expect("compact_field", group.offset(), section.fields().len() as u64, u64::from(place));
                continue;
            };
            self.column(group, field.id, None);
        }
        Ok(())
    }

    fn rising(&mut self, group: &RowGroup, times: &[i64]) {
        if let Some(at) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
            self.expect("time_block", group.offset(), times[at] as u64, times[at + 1] as u64);
        }
    }

    /// Decodes a column; gives it if it is whole.
    fn column(&mut self, group: &RowGroup, field: FieldId, place: Option<u64>) -> Option<Column> {
        let mut column = Column { presence: Presence::All, values: Values::new(FieldType::Float) };
        match self.segment.read_column(group, field, &mut column) {
            Ok(true) => {
                self.report.values += column.values.len() as u64;
                return Some(column);
            }
            Ok(false) => self.expect("field_block", place.unwrap_or(group.offset()), 1, 0),
            Err(error) => self.report.damage.push(error.to_damage()),
        }
        None
    }

    fn group(
        &mut self,
        section: &Section,
        group: &RowGroup,
        cursor: &mut SectionCursor,
        joined: &mut [Joined],
    ) -> Result<(), SegmentError> {
        let (first, count) = group.block_range();
        self.expect_meta("group.first_block", u64::from(cursor.next_block), u64::from(first));
        cursor.next_block = first.saturating_add(count);
        let mut times = Vec::new();
        let times_whole = match self.segment.read_times(group, &mut times) {
            Ok(()) => {
                self.rising(group, &times);
                true
            }
            Err(error) => {
                self.report.damage.push(error.to_damage());
                false
            }
        };
        let mut before = None;
        let mut here = vec![false; section.fields().len()];
        for i in first..cursor.next_block {
            let entry = self.segment.block_entry(section, i)?;
            let offset = group.offset().saturating_add(u64::from(entry.offset.get()));
            self.expect("block.offset", offset, self.next_offset, offset);
            self.next_offset = offset.saturating_add(u64::from(entry.len.get()));
            self.blocks += 1;
            let field = entry.field.get();
            if i == first {
                self.time_bytes += u64::from(entry.len.get());
                self.expect_meta("block.field", u64::from(TIME_FIELD), u64::from(field));
                self.codec_matches(&entry, offset);
                continue;
            }
            if before.is_some_and(|before| before >= field) || usize::from(field) >= section.fields().len() {
                self.expect_meta(
                    "block.field",
                    before.map_or(0, |b: u16| u64::from(b) + 1),
                    u64::from(field),
                );
                continue;
            }
            before = Some(field);
            here[usize::from(field)] = true;
            self.field_block(section, group, &entry, offset, times_whole.then_some(&times), joined)?;
        }
        // A field without a block has no statistics.
        for (place, here) in here.into_iter().enumerate() {
            if !here {
                let found = section.statistics(
                    &self.segment.meta,
                    Level::Groups,
                    place,
                    group.ordinal(),
                    group.frame(),
                )?;
                self.compare("statistics", None, found.as_ref(), false);
            }
        }
        Ok(())
    }

    fn field_block(
        &mut self,
        section: &Section,
        group: &RowGroup,
        entry: &BlockEntry,
        offset: u64,
        times: Option<&Vec<i64>>,
        joined: &mut [Joined],
    ) -> Result<(), SegmentError> {
        let place = usize::from(entry.field.get());
        let field = &section.fields()[place];
        let column = self.column(group, field.id, Some(offset));
        let (Some(column), Some(times)) = (column, times) else {
            joined[place].lost = true;
            return Ok(());
        };
        self.codec_matches(entry, offset);
        let value_times: Vec<i64> = (0..column.values.len()).map(|i| times[column.row(i)]).collect();
        let plain = field.field_type == FieldType::String && entry.codec != codec::CodecTag::StrDict as u8;
        let range = 0..value_times.len();
        let expected = BlockStatistics::compute(&value_times, &column.values, range).filter(|_| !plain);
        let found =
            section.statistics(&self.segment.meta, Level::Groups, place, group.ordinal(), group.frame())?;
        self.compare("statistics", expected.as_ref(), found.as_ref(), false);
        joined[place].add(expected);
        Ok(())
    }

    /// The codec that the entry names is the one the block was written with.
    fn codec_matches(&mut self, entry: &BlockEntry, offset: u64) {
        let presence = entry.presence;
        let tag =
            self.segment.with_verified(offset, entry.len.get(), entry.crc.get(), "block_crc", |bytes| {
                let values =
                    if presence == block::PRESENT_ALL { bytes } else { block::after_presence(bytes) };
                Ok(values.first().copied())
            });
        if let Ok(tag) = tag {
            self.expect("block.codec", offset, u64::from(entry.codec), tag.map_or(u64::MAX, u64::from));
        }
    }
}

/// Where the tables of a section have been read to.
#[derive(Debug, Default)]
struct SectionCursor {
    next_group: u32,
    next_block: u32,
    times: Option<(i64, i64)>,
}

impl SectionCursor {
    fn cover(&mut self, group: &RowGroup) {
        let (first, last) = self.times.unwrap_or((group.first_time, group.last_time));
        self.times = Some((first.min(group.first_time), last.max(group.last_time)));
    }
}

/// Statistics of a series so far.
#[derive(Debug, Default)]
struct Joined {
    statistics: Option<BlockStatistics>,
    blocks: u32,
    /// A block of it keeps no statistics, so there is no summary.
    broken: bool,
    /// A block of it could not be read.
    lost: bool,
}

impl Joined {
    fn add(&mut self, statistics: Option<BlockStatistics>) {
        let Some(statistics) = statistics else {
            self.broken = true;
            return;
        };
        self.blocks += 1;
        match &mut self.statistics {
            Some(joined) => joined.join(&statistics),
            empty => *empty = Some(statistics),
        }
    }
}
