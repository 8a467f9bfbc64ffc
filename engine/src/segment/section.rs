//! A section of an open segment: the measurement, its fields, and where its tables are.

use super::chunk::{Chunk, Frame};
use super::describe::{take_dictionary, take_fields, take_keys};
use super::entry::FieldDef;
use super::error::SegmentError;
use super::layout::{
    BlockEntry, DictionaryEntry, GroupEntry, KEY_CHUNK_SERIES, KeyChunkEntry, Le32, MAX_FIELDS,
    STATISTICS_CHUNK, SectionEntry, SeriesEntry,
};
use super::meta::{Meta, Table};
use super::statistics::BlockStatistics;
use crate::ids::{FieldId, MeasurementId, SeriesId};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use wattlog_model::TagSet;

/// The rows of one measurement in one segment.
#[derive(Debug)]
pub struct Section {
    /// Place of the section in the segment.
    pub(crate) index: u32,
    pub(crate) entry: SectionEntry,
    name: Arc<str>,
    fields: Arc<[FieldDef]>,
    /// One for each entry of the dictionary table, read when first needed.
    dictionaries: Vec<(DictionaryEntry, OnceLock<Texts>)>,
    /// Behind the series that was found last. Only a hint: who asks for many asks for the next one.
    next: AtomicU32,
}

/// Texts of a dictionary by number.
pub(crate) type Texts = Arc<[Arc<str>]>;

/// Which of the two sets of statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Of row groups.
    Groups,
    /// Of all row groups of a series.
    Series,
}

impl Section {
    pub(crate) fn parse(meta: &Meta, index: u32, entry: SectionEntry) -> Result<Self, SegmentError> {
        let field_count = entry.field_count.get() as usize;
        let (offset, len) = (entry.fields_offset.get(), u64::from(entry.fields_len.get()));
        let parsed = meta.with_bytes("fields", offset, len, |bytes| take_fields(bytes, field_count))?;
        let Some((name, fields)) = parsed.filter(|_| field_count <= MAX_FIELDS) else {
            return Err(meta.damage("fields", offset, field_count as u64, 0).into());
        };
        let count = entry.dictionary_count.get();
        let mut table =
            meta.table::<DictionaryEntry>("dictionary_entry", entry.dictionaries_offset.get(), count)?;
        let mut dictionaries = Vec::new();
        for i in 0..count {
            dictionaries.push((table.get(i)?, OnceLock::new()));
        }
        Ok(Self { index, entry, name, fields: fields.into(), dictionaries, next: AtomicU32::new(0) })
    }

    /// The measurement.
    pub fn measurement(&self) -> MeasurementId {
        MeasurementId(self.entry.measurement.get())
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its fields by rising id.
    pub fn fields(&self) -> &Arc<[FieldDef]> {
        &self.fields
    }

    /// Place of a field among [`Section::fields`].
    pub fn field_place(&self, field: FieldId) -> Option<usize> {
        self.fields.binary_search_by_key(&field, |f| f.id).ok()
    }

    /// Number of series.
    pub fn series_count(&self) -> u32 {
        self.entry.series_count.get()
    }

    /// Number of row groups.
    pub fn group_count(&self) -> u32 {
        self.entry.group_count.get()
    }

    /// Time of the oldest and the newest row.
    pub fn time_range(&self) -> (i64, i64) {
        (self.entry.first_time.get(), self.entry.last_time.get())
    }

    /// Rows of all series together.
    pub fn rows(&self) -> u64 {
        self.entry.rows.get()
    }

    /// Values of all fields together.
    pub fn values(&self) -> u64 {
        self.entry.values.get()
    }

    pub(crate) fn series_table<'a>(&self, meta: &'a Meta) -> Result<Table<'a, SeriesEntry>, SegmentError> {
        meta.table("series_entry", self.entry.series_offset.get(), self.series_count())
    }

    pub(crate) fn group_table<'a>(&self, meta: &'a Meta) -> Result<Table<'a, GroupEntry>, SegmentError> {
        meta.table("group_entry", self.entry.groups_offset.get(), self.group_count())
    }

    pub(crate) fn block_table<'a>(&self, meta: &'a Meta) -> Result<Table<'a, BlockEntry>, SegmentError> {
        meta.table("block_entry", self.entry.blocks_offset.get(), self.entry.block_count.get())
    }

    pub(crate) fn key_chunk_table<'a>(
        &self,
        meta: &'a Meta,
    ) -> Result<Table<'a, KeyChunkEntry>, SegmentError> {
        meta.table("key_chunk_entry", self.entry.key_chunks_offset.get(), self.entry.key_chunk_count.get())
    }

    pub(crate) fn dictionary_entries(&self) -> impl Iterator<Item = &DictionaryEntry> {
        self.dictionaries.iter().map(|(entry, _)| entry)
    }

    /// Texts of a field's dictionary; empty if it has none.
    pub(crate) fn texts(&self, meta: &Meta, field: usize) -> Result<Texts, SegmentError> {
        let of_field =
            |(entry, _): &&(DictionaryEntry, OnceLock<Texts>)| usize::from(entry.field.get()) == field;
        let Some((entry, texts)) = self.dictionaries.iter().find(of_field) else {
            return Ok(Texts::default());
        };
        if let Some(texts) = texts.get() {
            return Ok(Arc::clone(texts));
        }
        let (offset, count) = (entry.offset.get(), usize::from(entry.text_count.get()));
        let len = u64::from(entry.len.get());
        let read = meta.with_bytes("dictionary", offset, len, |bytes| take_dictionary(bytes, count))?;
        let read = read.ok_or_else(|| meta.damage("dictionary", offset, count as u64, 0))?;
        Ok(Arc::clone(texts.get_or_init(|| read)))
    }

    /// Entry of a series, with its place.
    pub(crate) fn find_series(
        &self,
        meta: &Meta,
        series: SeriesId,
    ) -> Result<Option<(u32, SeriesEntry)>, SegmentError> {
        let mut table = self.series_table(meta)?;
        let next = self.next.load(Relaxed).min(table.len());
        let mut range = 0..table.len();
        // Steps that double from where the last one was found: a series that follows closely is met at once.
        let (mut at, mut step) = (next, 1_u32);
        while at < range.end {
            if table.get(at)?.series.get() >= series.0 {
                range.end = at + 1;
                break;
            }
            range.start = at + 1;
            at = at.saturating_add(step);
            step = step.saturating_mul(2);
        }
        let place = table.partition_point(range, |entry| entry.series.get() < series.0)?;
        if place == table.len() {
            return Ok(None);
        }
        let entry = table.get(place)?;
        let is_found = entry.series.get() == series.0;
        self.next.store(place + u32::from(is_found), Relaxed);
        Ok(is_found.then_some((place, entry)))
    }

    /// Ids of all series with their keys, by rising id.
    pub(crate) fn series_keys(
        &self,
        meta: &Meta,
        visit: &mut dyn FnMut(SeriesId, TagSet),
    ) -> Result<(), SegmentError> {
        let mut series = self.series_table(meta)?;
        let chunks = self.key_chunk_count();
        let mut place = 0;
        for i in 0..chunks {
            for key in self.key_chunk(meta, i)? {
                visit(SeriesId(series.get(place)?.series.get()), key);
                place += 1;
            }
        }
        Ok(())
    }

    /// Chunks of keys that the series of the section need.
    fn key_chunk_count(&self) -> u32 {
        self.series_count().div_ceil(KEY_CHUNK_SERIES as u32)
    }

    /// Keys of the series `chunk * KEY_CHUNK_SERIES` and those that follow, in their order.
    pub(crate) fn key_chunk(&self, meta: &Meta, chunk: u32) -> Result<Vec<TagSet>, SegmentError> {
        let mut chunks = self.key_chunk_table(meta)?;
        if chunks.len() != self.key_chunk_count() {
            let (expected, found) = (u64::from(self.key_chunk_count()), u64::from(chunks.len()));
            return Err(meta.damage("key_chunk_count", 0, expected, found).into());
        }
        let count = (self.series_count() - chunk * KEY_CHUNK_SERIES as u32).min(KEY_CHUNK_SERIES as u32);
        let chunk = chunks.get(chunk)?;
        let (offset, len) = (chunk.offset.get(), u64::from(chunk.stored_len.get()));
        let raw_len = chunk.raw_len.get() as usize;
        let keys =
            meta.with_bytes("key_chunk", offset, len, |bytes| take_keys(bytes, raw_len, count as usize))?;
        keys.ok_or_else(|| meta.damage("key_chunk", offset, u64::from(count), 0).into())
    }

    /// Lets `read` see the chunk of statistics of a field that has the entry of `ordinal`.
    pub(crate) fn with_chunk<R>(
        &self,
        meta: &Meta,
        level: Level,
        field: usize,
        ordinal: u32,
        read: impl FnOnce(&Chunk<'_>) -> Result<R, &'static str>,
    ) -> Result<R, SegmentError> {
        let (index_offset, offset, count) = match level {
            Level::Groups => {
                (self.entry.statistics_index_offset, self.entry.statistics_offset, self.group_count())
            }
            Level::Series => {
                (self.entry.summary_index_offset, self.entry.summary_offset, self.series_count())
            }
        };
        let chunks = u64::from(count.div_ceil(STATISTICS_CHUNK as u32));
        let entry = field as u64 * chunks + u64::from(ordinal / STATISTICS_CHUNK as u32);
        let at = index_offset.get().saturating_add(4 * entry);
        // Start of this chunk and of the next.
        let [start, end] = meta.read::<[Le32; 2]>("statistics_index", at)?.map(Le32::get);
        if end < start {
            return Err(meta.damage("statistics_index", at, u64::from(start), u64::from(end)).into());
        }
        let chunk_offset = offset.get().saturating_add(u64::from(start));
        let result = meta.with_bytes("statistics", chunk_offset, u64::from(end - start), |bytes| {
            Chunk::parse(bytes).and_then(|chunk| read(&chunk))
        })?;
        result.map_err(|part| meta.damage(part, chunk_offset, 0, 0).into())
    }

    /// Statistics of a field in one row group; none if it has no value there or none are kept.
    pub(crate) fn statistics(
        &self,
        meta: &Meta,
        level: Level,
        field: usize,
        ordinal: u32,
        frame: Frame,
    ) -> Result<Option<BlockStatistics>, SegmentError> {
        let texts = self.texts(meta, field)?;
        let place = ordinal % STATISTICS_CHUNK as u32;
        self.with_chunk(meta, level, field, ordinal, |chunk| {
            chunk.get(place, frame, self.fields[field].field_type, &texts)
        })
    }
}
