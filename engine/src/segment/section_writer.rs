//! Writing one section: rows become row groups, blocks, statistics, and the entries that describe them.

use super::block::{self, FieldCoder, Packing};
use super::chunk::{self, Frame};
use super::describe::{KeyWriter, put_fields};
use super::entry::FieldDef;
use super::layout::{
    BlockEntry, GroupEntry, STATISTICS_CHUNK, SectionEntry, SeriesEntry, TIME_FIELD, place_crc,
};
use super::plan::{self, ColumnPart, GroupPlan};
use super::statistics::BlockStatistics;
use super::writer::{Out, misuse};
use crate::codec;
use crate::column::{Column, SeriesRows, Values};
use crate::ids::{FieldId, MeasurementId, SeriesId};
use bytemuck::Zeroable;
use std::io;
use wattlog_model::{FieldType, TagSet};

/// The section being written.
#[derive(Debug)]
pub(super) struct SectionWriter {
    measurement: MeasurementId,
    name: String,
    fields: Vec<FieldDef>,
    coders: Vec<FieldCoder>,
    statistics: Vec<ChunkStream>,
    summaries: Vec<ChunkStream>,
    pub(super) series: Vec<SeriesEntry>,
    pub(super) groups: Vec<GroupEntry>,
    pub(super) blocks: Vec<BlockEntry>,
    keys: KeyWriter,
    /// The series being written.
    open: Option<OpenSeries>,
    /// Its statistics so far by field, with the number of blocks joined.
    joined: Vec<Option<(u32, BlockStatistics)>>,
    rows: u64,
    values: u64,
    /// Blocks of compact groups, which have no entry of their own.
    compact_blocks: u32,
    pack_before: i64,
    scratch: Vec<u8>,
}

/// What is known of a series while its rows come.
#[derive(Debug)]
struct OpenSeries {
    series: SeriesId,
    first_group: usize,
    /// Time of the first and the last row.
    span: Option<(i64, i64)>,
    rows: u64,
    /// Values by field.
    values: Vec<u64>,
}

/// Columns of a series with the place of their field in the section.
pub(super) type Resolved<'a> = Vec<(usize, &'a Column)>;

impl SectionWriter {
    pub(super) fn new(measurement: MeasurementId, name: &str, fields: &[FieldDef], pack_before: i64) -> Self {
        Self {
            measurement,
            name: name.to_owned(),
            fields: fields.to_vec(),
            coders: fields.iter().map(|_| FieldCoder::default()).collect(),
            statistics: fields.iter().map(|_| ChunkStream::default()).collect(),
            summaries: fields.iter().map(|_| ChunkStream::default()).collect(),
            series: Vec::new(),
            groups: Vec::new(),
            blocks: Vec::new(),
            keys: KeyWriter::default(),
            open: None,
            joined: vec![None; fields.len()],
            rows: 0,
            values: 0,
            pack_before,
            compact_blocks: 0,
            scratch: Vec::new(),
        }
    }

    pub(super) fn resolve<'a>(&self, rows: &'a SeriesRows) -> io::Result<Resolved<'a>> {
        let mut resolved = Vec::with_capacity(rows.columns.len());
        let mut before: Option<FieldId> = None;
        for (id, column) in &rows.columns {
            let place = self.fields.binary_search_by_key(id, |field| field.id);
            let place = place.map_err(|_| misuse("a column needs a field of the section"))?;
            if self.fields[place].field_type != column.values.field_type() {
                return Err(misuse("a column has the type of its field"));
            }
            if before.is_some_and(|before| before >= *id) {
                return Err(misuse("columns come by rising field id"));
            }
            before = Some(*id);
            resolved.push((place, column));
        }
        Ok(resolved)
    }

    pub(super) fn write_group(
        &mut self,
        plan: &GroupPlan,
        rows: &SeriesRows,
        columns: &Resolved<'_>,
        segment: u64,
        out: &mut Out,
    ) -> io::Result<()> {
        let times = &rows.times[plan.rows.clone()];
        let offset = out.end();
        if offset >= 1 << 48 {
            return Err(misuse("a segment ends before 256 TiB"));
        }
        let parts =
            columns.iter().filter_map(|(place, column)| Some((*place, plan::part(column, &plan.rows)?)));
        let (first_block_or_len, block_count_or_crc) = if plan.compact {
            self.put_compact_group(times, parts, segment, out)
        } else {
            self.put_group(times, parts, segment, out)
        };
        self.groups.push(GroupEntry {
            first_time: times[0].into(),
            last_time: times[times.len() - 1].into(),
            offset_rows: GroupEntry::pack(offset, times.len() as u16, plan.compact),
            first_block_or_len: first_block_or_len.into(),
            block_count_or_crc: block_count_or_crc.into(),
        });
        self.rows += times.len() as u64;
        Ok(())
    }

    fn put_group<'a>(
        &mut self,
        times: &[i64],
        parts: impl Iterator<Item = (usize, ColumnPart<'a>)>,
        segment: u64,
        out: &mut Out,
    ) -> (u32, u32) {
        let group_offset = out.end();
        let first_block = self.blocks.len();
        let ordinal = self.groups.len() as u32;
        let frame =
            Frame { rows: times.len() as u32, first_time: times[0], last_time: times[times.len() - 1] };
        let start = out.buffer.len();
        let codec = codec::encode_times(times, &mut out.buffer) as u8;
        self.blocks.push(entry(out, start, group_offset, segment, TIME_FIELD, codec, 0));
        let packing = if frame.last_time < self.pack_before { Packing::Smallest } else { Packing::Fast };
        let mut present_times = Vec::new();
        for (place, part) in parts {
            self.values += part.range.len() as u64;
            let start = out.buffer.len();
            let written = self.coders[place].encode(&part, times.len(), packing, &mut out.buffer);
            self.blocks.push(entry(
                out,
                start,
                group_offset,
                segment,
                place as u16,
                written.codec,
                written.presence,
            ));
            if matches!(part.values, Values::String(_)) && written.codec != codec::CodecTag::StrDict as u8 {
                continue;
            }
            let value_times = match &part.positions {
                None => times,
                Some(positions) => {
                    present_times.clear();
                    present_times.extend(positions.iter().map(|row| times[*row as usize]));
                    &present_times
                }
            };
            let statistics = BlockStatistics::compute(value_times, part.values, part.range)
                .expect("a part of a column has a value");
            match &mut self.joined[place] {
                Some((blocks, joined)) => {
                    *blocks += 1;
                    joined.join(&statistics);
                }
                empty => *empty = Some((1, statistics.clone())),
            }
            self.statistics[place].push(ordinal, frame, statistics, &self.coders[place]);
        }
        (first_block as u32, (self.blocks.len() - first_block) as u32)
    }

    fn put_compact_group<'a>(
        &mut self,
        times: &[i64],
        parts: impl Iterator<Item = (usize, ColumnPart<'a>)>,
        segment: u64,
        out: &mut Out,
    ) -> (u32, u32) {
        let (offset, start) = (out.end(), out.buffer.len());
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        codec::encode_times(times, &mut block);
        block::put_compact(TIME_FIELD, 0, &block, &mut out.buffer);
        self.compact_blocks += 1;
        for (place, part) in parts {
            self.values += part.range.len() as u64;
            self.compact_blocks += 1;
            block.clear();
            let written = self.coders[place].encode(&part, times.len(), Packing::Fast, &mut block);
            block::put_compact(place as u16, written.presence, &block, &mut out.buffer);
        }
        self.scratch = block;
        let bytes = &out.buffer[start..];
        (bytes.len() as u32, place_crc(segment, offset, bytes))
    }

    pub(super) fn begin_series(&mut self, series: SeriesId) -> io::Result<()> {
        if self.open.is_some() {
            return Err(misuse("a series ends before the next begins"));
        }
        if self.series.last().is_some_and(|before| before.series.get() >= series.0) {
            return Err(misuse("series come by rising id"));
        }
        let (first_group, values) = (self.groups.len(), vec![0; self.fields.len()]);
        self.open = Some(OpenSeries { series, first_group, span: None, rows: 0, values });
        Ok(())
    }

    /// Counts rows that are about to be written.
    pub(super) fn note_rows(&mut self, rows: &SeriesRows, columns: &Resolved<'_>) -> io::Result<()> {
        let open = self.open.as_mut().ok_or_else(|| misuse("rows need a series"))?;
        let (first, last) = (rows.times[0], rows.times[rows.times.len() - 1]);
        if open.span.is_some_and(|(_, before)| before >= first) {
            return Err(misuse("times rise strictly"));
        }
        open.span = Some((open.span.map_or(first, |(first, _)| first), last));
        open.rows += rows.times.len() as u64;
        for (place, column) in columns {
            open.values[*place] += column.values.len() as u64;
        }
        Ok(())
    }

    pub(super) fn end_series(&mut self, tags: &TagSet) -> io::Result<()> {
        let open = self.open.take().ok_or_else(|| misuse("a series ends once"))?;
        let Some((first_time, last_time)) = open.span else { return Ok(()) };
        let ordinal = self.series.len() as u32;
        let rows = u32::try_from(open.rows).map_err(|_| misuse("a series has less than 2^32 rows"))?;
        self.series.push(SeriesEntry {
            series: open.series.0.into(),
            first_group: (open.first_group as u32).into(),
            group_count: ((self.groups.len() - open.first_group) as u32).into(),
            rows: rows.into(),
        });
        // The summary is over the whole series: rows that this field lacks do not count, nor does the group's size.
        let frame = Frame { rows: 0, first_time, last_time };
        for (place, joined) in self.joined.iter_mut().enumerate() {
            let Some((blocks, statistics)) = joined.take() else { continue };
            let complete = open.values[place] == u64::from(statistics.count);
            if blocks > 1 && complete {
                self.summaries[place].push(ordinal, frame, statistics, &self.coders[place]);
            }
        }
        self.keys.put(tags)
    }

    pub(super) fn finish(mut self) -> io::Result<FinishedSection> {
        self.keys.close()?;
        let chunks = |count: usize| count.div_ceil(STATISTICS_CHUNK);
        let statistics = finish_streams(self.statistics, &self.coders, chunks(self.groups.len()))?;
        let summaries = finish_streams(self.summaries, &self.coders, chunks(self.series.len()))?;
        let mut fields = Vec::new();
        put_fields(&self.name, &self.fields, &mut fields);
        let mut dictionaries = Vec::new();
        for (place, coder) in self.coders.iter().enumerate() {
            if self.fields[place].field_type == FieldType::String && coder.dictionary.len() > 0 {
                let mut bytes = Vec::new();
                coder.dictionary.put(&mut bytes);
                dictionaries.push((place as u16, coder.dictionary.len() as u16, bytes));
            }
        }
        let first_time = self.groups.iter().map(|g| g.first_time.get()).min().unwrap_or_default();
        let last_time = self.groups.iter().map(|g| g.last_time.get()).max().unwrap_or_default();
        let entry = SectionEntry {
            measurement: self.measurement.0.into(),
            field_count: (self.fields.len() as u32).into(),
            series_count: (self.series.len() as u32).into(),
            group_count: (self.groups.len() as u32).into(),
            block_count: (self.blocks.len() as u32).into(),
            fields_len: (fields.len() as u32).into(),
            first_time: first_time.into(),
            last_time: last_time.into(),
            rows: self.rows.into(),
            values: self.values.into(),
            dictionary_count: (dictionaries.len() as u32).into(),
            key_chunk_count: (self.keys.chunks.len() as u32).into(),
            ..SectionEntry::zeroed()
        };
        Ok(FinishedSection {
            entry,
            all_blocks: self.blocks.len() as u32 + self.compact_blocks,
            fields,
            series: self.series,
            groups: self.groups,
            blocks: self.blocks,
            statistics,
            summaries,
            dictionaries,
            keys: self.keys,
        })
    }
}

fn entry(
    out: &Out,
    start: usize,
    group_offset: u64,
    segment: u64,
    field: u16,
    codec: u8,
    presence: u8,
) -> BlockEntry {
    let bytes = &out.buffer[start..];
    let offset = out.offset + start as u64;
    BlockEntry {
        offset: ((offset - group_offset) as u32).into(),
        len: (bytes.len() as u32).into(),
        crc: place_crc(segment, offset, bytes).into(),
        field: field.into(),
        codec,
        presence,
    }
}

/// Chunks of statistics of one field, written as they fill.
#[derive(Debug, Default)]
struct ChunkStream {
    bytes: Vec<u8>,
    /// Where each chunk starts in `bytes`.
    starts: Vec<u32>,
    pending: Vec<(u32, Frame, BlockStatistics)>,
}

impl ChunkStream {
    fn push(&mut self, ordinal: u32, frame: Frame, statistics: BlockStatistics, coder: &FieldCoder) {
        self.close_before(ordinal as usize / STATISTICS_CHUNK, coder);
        self.pending.push((ordinal % STATISTICS_CHUNK as u32, frame, statistics));
    }

    /// Closes all chunks before `chunk`; those without an entry are empty.
    fn close_before(&mut self, chunk: usize, coder: &FieldCoder) {
        while self.starts.len() < chunk {
            self.starts.push(self.bytes.len() as u32);
            let pending = std::mem::take(&mut self.pending);
            chunk::pack(&pending, &|text| coder.dictionary.id(text), &mut self.bytes);
        }
    }
}

/// Offsets of the chunks (field by field, one more for the end) and their bytes.
#[derive(Debug)]
pub(super) struct FinishedChunks {
    pub(super) index: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

fn finish_streams(
    streams: Vec<ChunkStream>,
    coders: &[FieldCoder],
    chunks: usize,
) -> io::Result<FinishedChunks> {
    let mut all = FinishedChunks { index: Vec::new(), bytes: Vec::new() };
    for (mut stream, coder) in streams.into_iter().zip(coders) {
        stream.close_before(chunks, coder);
        let base = u32::try_from(all.bytes.len())
            .ok()
            .filter(|b| b.checked_add(stream.bytes.len() as u32).is_some());
        let base = base.ok_or_else(|| misuse("statistics of a section end before 4 GiB"))?;
        stream.starts.iter().for_each(|start| all.index.extend_from_slice(&(base + start).to_le_bytes()));
        all.bytes.extend_from_slice(&stream.bytes);
    }
    all.index.extend_from_slice(&(all.bytes.len() as u32).to_le_bytes());
    Ok(all)
}

/// All that describes a section.
#[derive(Debug)]
pub(super) struct FinishedSection {
    pub(super) entry: SectionEntry,
    pub(super) all_blocks: u32,
    pub(super) fields: Vec<u8>,
    pub(super) series: Vec<SeriesEntry>,
    pub(super) groups: Vec<GroupEntry>,
    pub(super) blocks: Vec<BlockEntry>,
    pub(super) statistics: FinishedChunks,
    pub(super) summaries: FinishedChunks,
    pub(super) dictionaries: Vec<(u16, u16, Vec<u8>)>,
    pub(super) keys: KeyWriter,
}
