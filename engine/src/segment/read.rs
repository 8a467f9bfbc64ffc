//! Reading row groups of an open segment: times, columns, statistics.
//!
//! Invariant: a block is copied to a buffer of the thread, the copy is verified and decoded, every time.

use super::block::{self, BadBlock};
use super::chunk::Frame;
use super::error::{SegmentError, io_error};
use super::layout::{BlockEntry, HEADER_LEN, MAX_BLOCK_BYTES, STATISTICS_CHUNK, TIME_FIELD, place_crc};
use super::meta::Table;
use super::reader::{RowGroup, Segment};
use super::section::{Level, Section};
use super::statistics::{BlockStatistics, Extent};
use crate::codec::{NotFolded, Stretch, Times, Wanted};
use crate::column::Column;
use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, SeriesId};
use std::cell::RefCell;
use std::sync::Arc;
use wattlog_model::FieldType;

thread_local! {
    /// Copy of the block being decoded.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A thread's buffer keeps no more than this between blocks.
const KEPT_BUFFER: usize = 256 * 1024;

impl Segment {
    /// Decodes the times of a group into `out`, in place of what it held.
    pub fn read_times(&self, group: &RowGroup, out: &mut Vec<i64>) -> Result<(), SegmentError> {
        out.clear();
        let found = self
            .with_block(group, TIME_FIELD, |bytes, _, offset| self.list_times(bytes, group, offset, out))?;
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

    /// The blocks of a group that is not compact.
    pub(crate) fn blocks<'a>(&'a self, group: &'a RowGroup) -> Result<Blocks<'a>, SegmentError> {
        let section = self.section_of(group)?;
        let table = section.block_table(&self.meta)?;
        let (first, count) = group.block_range();
        let end = first.saturating_add(count);
        if count == 0 || end > table.len() {
            return Err(self.meta.damage("block_count", 0, u64::from(table.len()), u64::from(end)).into());
        }
        Ok(Blocks { segment: self, section, table, group })
    }

    /// Decodes a compact group in one walk: its times, and each field for which `slot_of` names a column into that
    /// column, in place of what it held; `present` tells which of them are here.
    pub(crate) fn read_compact(
        &self,
        group: &RowGroup,
        slot_of: impl Fn(FieldId) -> Option<usize>,
        times: &mut Vec<i64>,
        columns: &mut [Column],
        present: &mut [bool],
    ) -> Result<(), SegmentError> {
        let section = self.section_of(group)?;
        let rows = group.rows as usize;
        times.clear();
        self.with_compact(group, |bytes| {
            let mut at = 0;
            while let Some(block) = block::take_compact(bytes, &mut at) {
                let block = block.map_err(|bad| self.bad_block("compact_group", group.offset, bad))?;
                let offset = group.offset + block.offset as u64;
                if block.field == TIME_FIELD {
                    self.list_times(block.bytes, group, offset, times)?;
                    continue;
                }
                let place = usize::from(block.field);
                let Some(field) = section.fields().get(place) else {
                    let (fields, place) = (section.fields().len() as u64, u64::from(block.field));
                    return Err(self.damage("compact_group", offset, fields, place).into());
                };
                if let Some(slot) = slot_of(field.id) {
                    let (texts, column) = (section.texts(&self.meta, place)?, &mut columns[slot]);
                    block::decode(block.bytes, block.presence, rows, field.field_type, &texts, column)
                        .map_err(|bad| self.bad_block("field_block", offset, bad))?;
                    present[slot] = true;
                }
            }
            if times.is_empty() {
                return Err(self.damage("time_block", group.offset, 1, 0).into());
            }
            Ok(())
        })
    }

    /// Reads a block of times, whose ends must be those of the group.
    fn take_times(
        &self,
        bytes: &[u8],
        group: &RowGroup,
        offset: u64,
        out: &mut Times,
    ) -> Result<(), SegmentError> {
        out.read(bytes, group.rows as usize)
            .map_err(|bad| self.bad_block("time_block", offset, BadBlock::from(bad)))?;
        if out.ends() != Some((group.first_time, group.last_time)) {
            let found = out.ends().map_or(0, |(first, _)| first as u64);
            return Err(self.damage("time_block", offset, group.first_time as u64, found).into());
        }
        if !out.is_rising() {
            return Err(self.damage("time_block", offset, 0, 0).into());
        }
        Ok(())
    }

    /// The same as a list, in place of what `out` held.
    pub(super) fn list_times(
        &self,
        bytes: &[u8],
        group: &RowGroup,
        offset: u64,
        out: &mut Vec<i64>,
    ) -> Result<(), SegmentError> {
        let mut times = Times::reusing(std::mem::take(out));
        self.take_times(bytes, group, offset, &mut times)?;
        *out = times.into_list();
        Ok(())
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

    /// Count and extremes of one field in many groups of one section, in their order; none for a group without a value of
    /// it, and where none are kept: in compact groups and for plain texts.
    pub(crate) fn extents_of(
        &self,
        groups: &[RowGroup],
        field: FieldId,
        mut visit: impl FnMut(Option<Extent>),
    ) -> Result<(), SegmentError> {
        let Some(first) = groups.first() else { return Ok(()) };
        let section = self.section_of(first)?;
        let Some(place) = section.field_place(field) else {
            groups.iter().for_each(|_| visit(None));
            return Ok(());
        };
        let field_type = section.fields()[place].field_type;
        let chunk_of = |group: &RowGroup| (group.section, group.ordinal / STATISTICS_CHUNK as u32);
        for same in groups.chunk_by(|a, b| chunk_of(a) == chunk_of(b)) {
            section.with_chunk(&self.meta, Level::Groups, place, same[0].ordinal, |chunk| {
                for group in same {
                    visit(chunk.extent(group.ordinal % STATISTICS_CHUNK as u32, group.rows, field_type)?);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Statistics of a field over all rows of a series in this segment. None if the series or its values are not
    /// here, or if none are kept (texts, compact groups, a single block among several groups): the row groups tell.
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
        let mut blocks = self.blocks(group)?;
        let Some(entry) = blocks.entry(field)? else { return Ok(None) };
        blocks.with_verified(&entry, |bytes, offset| read(bytes, entry.presence, offset)).map(Some)
    }

    pub(super) fn with_compact<R>(
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
        let verified = copied.and_then(|()| match place_crc(self.spec().id.0, offset, &buffer) {
            found if found == crc => Ok(()),
            found => Err(self.damage(part, offset, u64::from(crc), u64::from(found)).into()),
        });
        let result = verified.and_then(|()| read(&buffer));
        buffer.truncate(KEPT_BUFFER);
        buffer.shrink_to(KEPT_BUFFER);
        BUFFER.set(buffer);
        result
    }

    pub(super) fn bad_block(&self, part: &'static str, offset: u64, bad: BadBlock) -> SegmentError {
        self.damage(part, offset + bad.offset as u64, 0, 0).into()
    }

    pub(crate) fn damage(&self, part: &'static str, offset: u64, expected: u64, found: u64) -> Damage {
        Damage { file: self.meta.file.clone(), offset, part, expected, found }
    }
}

/// The blocks of one row group, for whoever reads several of them.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    segment: &'a Segment,
    section: Arc<Section>,
    table: Table<'a, BlockEntry>,
    group: &'a RowGroup,
}

/// A block of a field: found, not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldBlock {
    field_type: FieldType,
    entry: BlockEntry,
}

impl Blocks<'_> {
    /// The block of a field; none if no row has a value of it.
    pub(crate) fn find(&mut self, field: FieldId) -> Result<Option<FieldBlock>, SegmentError> {
        let Some(place) = self.section.field_place(field) else { return Ok(None) };
        let field_type = self.section.fields()[place].field_type;
        Ok(self.entry(place as u16)?.map(|entry| FieldBlock { field_type, entry }))
    }

    /// Reads the times of all rows into `out`, in place of what it held.
    pub(crate) fn times(&mut self, out: &mut Times) -> Result<(), SegmentError> {
        out.clear();
        let (segment, group) = (self.segment, self.group);
        let Some(entry) = self.entry(TIME_FIELD)? else {
            return Err(segment.damage("time_block", group.offset, 1, 0).into());
        };
        self.with_verified(&entry, |bytes, offset| segment.take_times(bytes, group, offset, out))
    }

    /// Folds a block: a stretch for each of `ends`, the rows at which they end (rising, up to the last row); gives the
    /// decimal exponent of their values.
    pub(crate) fn fold(
        &self,
        block: &FieldBlock,
        ends: &[u32],
        wanted: Wanted,
        out: &mut Vec<Stretch>,
    ) -> Result<Result<u8, NotFolded>, SegmentError> {
        let FieldBlock { field_type, entry } = block;
        self.with_verified(entry, |bytes, offset| {
            block::fold(bytes, entry.presence, *field_type, ends, wanted, out)
                .map_err(|bad| self.segment.bad_block("field_block", offset, bad))
        })
    }

    /// The time block stands first, fields follow by rising place.
    fn entry(&mut self, place: u16) -> Result<Option<BlockEntry>, SegmentError> {
        let (first, count) = self.group.block_range();
        let end = first + count;
        let at = if place == TIME_FIELD {
            first
        } else {
            self.table.partition_point(first + 1..end, |entry| entry.field.get() < place)?
        };
        if at == end {
            return Ok(None);
        }
        let entry = self.table.get(at)?;
        Ok((entry.field.get() == place).then_some(entry))
    }

    /// Lets `read` see the verified copy of a block and its place in the file.
    fn with_verified<R>(
        &self,
        entry: &BlockEntry,
        read: impl FnOnce(&[u8], u64) -> Result<R, SegmentError>,
    ) -> Result<R, SegmentError> {
        let offset = self.group.offset.saturating_add(u64::from(entry.offset.get()));
        let (len, crc) = (entry.len.get(), entry.crc.get());
        self.segment.with_verified(offset, len, crc, "block_crc", |bytes| read(bytes, offset))
    }
}
