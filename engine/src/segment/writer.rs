//! Writing a segment: blocks stream to the file, what describes them is kept in memory until the end.
//!
//! Promise: after `finish` returned `Ok` the file's bytes are durable; its name is not (rename and directory sync are
//! the caller's). A file that was not finished has no footer and is never taken for a segment.

use super::block::FieldCoder;
use super::chunk::{self, Frame};
use super::describe::{KeyWriter, put_fields};
use super::entry::{FieldDef, SegmentSpec, SegmentSummary};
use super::layout::{
    BlockEntry, DictionaryEntry, FOOTER_LEN, FOOTER_MAGIC, Footer, GroupEntry, HEADER_CRC_OFFSET,
    KeyChunkEntry, MAX_FIELDS, META_HEADER_END, META_MAGIC, MetaHeader, PAGE_LEN, SEGMENT_MAGIC,
    STATISTICS_CHUNK, SectionEntry, SegmentHeader, SeriesEntry, TIME_FIELD, aligned, place_crc,
};
use super::page::{PageWriter, page_count};
use super::plan::{self, ColumnPart, GroupPlan};
use super::statistics::BlockStatistics;
use crate::bytes::put_sized;
use crate::codec;
use crate::column::{Column, SeriesRows, Values};
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{FieldId, MeasurementId, SeriesId};
use crate::io::{Disk, File};
use bytemuck::Zeroable;
use std::io;
use std::sync::Arc;
use wattlog_model::{FieldType, TagSet};

/// Bytes gathered before they go to the file.
const BUFFER_LEN: usize = 256 * 1024;

/// Writes one segment file.
#[derive(Debug)]
pub struct SegmentWriter {
    out: Out,
    spec: SegmentSpec,
    finished: Vec<FinishedSection>,
    current: Option<Section>,
    time_bytes: u64,
}

/// The file and what waits to be written to it.
#[derive(Debug)]
struct Out {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Place of the buffer's start in the file.
    offset: u64,
}

impl Out {
    /// Where the next byte goes.
    fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.flush_if_full()
    }
}

impl SegmentWriter {
    /// Makes the file and writes its header page.
    pub fn create(disk: &dyn Disk, path: &str, spec: SegmentSpec) -> io::Result<Self> {
        let file = disk.create(path)?;
        let mut out = Out { file, buffer: Vec::with_capacity(BUFFER_LEN + PAGE_LEN), offset: 0 };
        out.put(&header_page(&spec))?;
        Ok(Self { out, spec, finished: Vec::new(), current: None, time_bytes: 0 })
    }

    /// Begins the rows of a measurement. Sections come by rising measurement id; `fields` by rising id.
    pub fn begin_section(
        &mut self,
        measurement: MeasurementId,
        name: &str,
        fields: &[FieldDef],
    ) -> io::Result<()> {
        self.end_section()?;
        if self.finished.last().is_some_and(|before| before.entry.measurement.get() >= measurement.0) {
            return Err(misuse("sections come by rising measurement id"));
        }
        if fields.len() > MAX_FIELDS || fields.windows(2).any(|pair| pair[0].id >= pair[1].id) {
            return Err(misuse("fields come by rising id, at most 65534 of them"));
        }
        self.current = Some(Section::new(measurement, name, fields));
        Ok(())
    }

    /// Writes the rows of a series of the section. Series come by rising id, each once; their times rise strictly.
    ///
    /// No rows write nothing: such a series is not in the segment.
    pub fn write_series(&mut self, series: SeriesId, tags: &TagSet, rows: &SeriesRows) -> io::Result<()> {
        let section = self.current.as_mut().ok_or_else(|| misuse("a series needs a section"))?;
        if rows.times.is_empty() {
            return Ok(());
        }
        if section.series.last().is_some_and(|before| before.series.get() >= series.0) {
            return Err(misuse("series come by rising id"));
        }
        if rows.times.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(misuse("times rise strictly"));
        }
        let columns = section.resolve(rows)?;
        let first_group = section.groups.len();
        for plan in plan::groups(rows) {
            let first_block = section.blocks.len();
            section.write_group(&plan, rows, &columns, self.spec.id.0, &mut self.out)?;
            self.time_bytes += section.blocks.get(first_block).map_or(0, |block| u64::from(block.len.get()));
            self.out.flush_if_full()?;
        }
        section.end_series(series, tags, rows, first_group)
    }

    /// Writes the meta region and the footer and makes the file's bytes durable.
    pub fn finish(mut self) -> io::Result<SegmentSummary> {
        self.end_section()?;
        let data_end = self.out.end();
        let padding = data_end.next_multiple_of(PAGE_LEN as u64) - data_end;
        self.out.put(&vec![0; padding as usize])?;
        self.out.flush()?;
        let meta_offset = self.out.end();

        let mut totals = Totals::of(&self.finished);
        totals.data_end = data_end;
        totals.time_bytes = self.time_bytes;
        let content = Content::lay_out(&self.spec, &totals, self.finished);
        let mut pages = PageWriter::new(self.spec.id, content.len, |page| self.out.put(page));
        content.write(&mut pages)?;
        let (page_count, meta_crc) = pages.finish()?;

        let mut footer = Footer {
            magic: FOOTER_MAGIC,
            segment: self.spec.id.0.into(),
            store: self.spec.store.0,
            file_len: (self.out.end() + FOOTER_LEN as u64).into(),
            meta_offset: meta_offset.into(),
            meta_len: (u64::from(page_count) * PAGE_LEN as u64).into(),
            data_end: data_end.into(),
            rows: totals.rows.into(),
            values: totals.values.into(),
            block_count: totals.blocks.into(),
            page_count: page_count.into(),
            meta_crc: meta_crc.into(),
            footer_crc: 0.into(),
        };
        let covered = FOOTER_LEN - 4;
        footer.footer_crc = crc32fast::hash(&bytemuck::bytes_of(&footer)[..covered]).into();
        self.out.put(bytemuck::bytes_of(&footer))?;
        self.out.flush()?;
        self.out.file.sync_data()?;
        let file_bytes = self.out.end();
        Ok(SegmentSummary {
            sections: totals.sections,
            first_time: totals.first_time,
            last_time: totals.last_time,
            rows: totals.rows,
            values: totals.values,
            blocks: u64::from(totals.blocks),
            data_bytes: data_end - PAGE_LEN as u64 - self.time_bytes,
            time_bytes: self.time_bytes,
            meta_bytes: file_bytes - (data_end - PAGE_LEN as u64),
            file_bytes,
        })
    }

    fn end_section(&mut self) -> io::Result<()> {
        if let Some(section) = self.current.take() {
            // A section without rows says nothing: the catalog is rebuilt from what has data.
            if !section.series.is_empty() {
                self.finished.push(section.finish()?);
            }
        }
        Ok(())
    }
}

fn misuse(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Header page of a segment.
fn header_page(spec: &SegmentSpec) -> Vec<u8> {
    let mut page = vec![0; PAGE_LEN];
    let common = file_header(spec, SEGMENT_MAGIC).encode();
    page[..FILE_HEADER_LEN].copy_from_slice(&common);
    let header = SegmentHeader {
        min_seq: spec.min_seq.0.into(),
        max_seq: spec.max_seq.0.into(),
        first_day: spec.first_day.into(),
        end_day: spec.end_day.into(),
        ..SegmentHeader::zeroed()
    };
    page[FILE_HEADER_LEN..FILE_HEADER_LEN + size_of::<SegmentHeader>()]
        .copy_from_slice(bytemuck::bytes_of(&header));
    let crc = crc32fast::hash(&page[..HEADER_CRC_OFFSET]);
    page[HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    page
}

fn file_header(spec: &SegmentSpec, magic: [u8; 8]) -> FileHeader {
    FileHeader { magic, store: spec.store, file_id: spec.id.0, param: u64::from(spec.namespace.0) }
}

/// The section being written.
#[derive(Debug)]
struct Section {
    measurement: MeasurementId,
    name: String,
    fields: Vec<FieldDef>,
    coders: Vec<FieldCoder>,
    statistics: Vec<ChunkStream>,
    summaries: Vec<ChunkStream>,
    series: Vec<SeriesEntry>,
    groups: Vec<GroupEntry>,
    blocks: Vec<BlockEntry>,
    keys: KeyWriter,
    /// Statistics so far of the series being written, by field, with the number of blocks joined.
    joined: Vec<Option<(u32, BlockStatistics)>>,
    rows: u64,
    values: u64,
    /// Blocks of compact groups, which have no entry of their own.
    compact_blocks: u32,
    scratch: Vec<u8>,
}

/// Columns of a series with the place of their field in the section.
type Resolved<'a> = Vec<(usize, &'a Column)>;

impl Section {
    fn new(measurement: MeasurementId, name: &str, fields: &[FieldDef]) -> Self {
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
            joined: vec![None; fields.len()],
            rows: 0,
            values: 0,
            compact_blocks: 0,
            scratch: Vec::new(),
        }
    }

    fn resolve<'a>(&self, rows: &'a SeriesRows) -> io::Result<Resolved<'a>> {
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

    fn write_group(
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
        let mut present_times = Vec::new();
        for (place, part) in parts {
            self.values += part.range.len() as u64;
            let start = out.buffer.len();
            let written = self.coders[place].encode(&part, times.len(), &mut out.buffer);
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
        super::block::put_compact(TIME_FIELD, 0, &block, &mut out.buffer);
        self.compact_blocks += 1;
        for (place, part) in parts {
            self.values += part.range.len() as u64;
            self.compact_blocks += 1;
            block.clear();
            let written = self.coders[place].encode(&part, times.len(), &mut block);
            super::block::put_compact(place as u16, written.presence, &block, &mut out.buffer);
        }
        self.scratch = block;
        let bytes = &out.buffer[start..];
        (bytes.len() as u32, place_crc(segment, offset, bytes))
    }

    fn end_series(
        &mut self,
        series: SeriesId,
        tags: &TagSet,
        rows: &SeriesRows,
        first_group: usize,
    ) -> io::Result<()> {
        let ordinal = self.series.len() as u32;
        self.series.push(SeriesEntry {
            series: series.0.into(),
            first_group: (first_group as u32).into(),
            group_count: ((self.groups.len() - first_group) as u32).into(),
            rows: (rows.times.len() as u32).into(),
        });
        // The summary is over the whole series: rows that this field lacks do not count, nor does the group's size.
        let frame = Frame { rows: 0, first_time: rows.times[0], last_time: rows.times[rows.times.len() - 1] };
        for (place, joined) in self.joined.iter_mut().enumerate() {
            let Some((blocks, statistics)) = joined.take() else { continue };
            let column = rows.columns.iter().find(|(id, _)| *id == self.fields[place].id);
            let complete = column.is_some_and(|(_, c)| c.values.len() as u64 == u64::from(statistics.count));
            if blocks > 1 && complete {
                self.summaries[place].push(ordinal, frame, statistics, &self.coders[place]);
            }
        }
        self.keys.put(tags)
    }

    fn finish(mut self) -> io::Result<FinishedSection> {
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
struct FinishedChunks {
    index: Vec<u8>,
    bytes: Vec<u8>,
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
struct FinishedSection {
    entry: SectionEntry,
    all_blocks: u32,
    fields: Vec<u8>,
    series: Vec<SeriesEntry>,
    groups: Vec<GroupEntry>,
    blocks: Vec<BlockEntry>,
    statistics: FinishedChunks,
    summaries: FinishedChunks,
    dictionaries: Vec<(u16, u16, Vec<u8>)>,
    keys: KeyWriter,
}

#[derive(Debug)]
struct Totals {
    sections: Vec<MeasurementId>,
    rows: u64,
    values: u64,
    blocks: u32,
    first_time: i64,
    last_time: i64,
    data_end: u64,
    time_bytes: u64,
}

impl Totals {
    fn of(sections: &[FinishedSection]) -> Self {
        let entries = || sections.iter().map(|s| &s.entry);
        Self {
            sections: entries().map(|e| MeasurementId(e.measurement.get())).collect(),
            rows: entries().map(|e| e.rows.get()).sum(),
            values: entries().map(|e| e.values.get()).sum(),
            blocks: sections.iter().map(|s| s.all_blocks).sum(),
            first_time: entries().map(|e| e.first_time.get()).min().unwrap_or_default(),
            last_time: entries().map(|e| e.last_time.get()).max().unwrap_or_default(),
            data_end: 0,
            time_bytes: 0,
        }
    }
}

/// The meta region's content: parts in order, each on a multiple of 32 bytes.
struct Content {
    parts: Vec<Vec<u8>>,
    len: u64,
}

impl Content {
    fn lay_out(spec: &SegmentSpec, totals: &Totals, sections: Vec<FinishedSection>) -> Self {
        let directory_len = sections.len() * size_of::<SectionEntry>();
        let mut names = Vec::new();
        put_sized(&mut names, spec.namespace_name.0.as_bytes());
        put_sized(&mut names, spec.namespace_name.1.as_bytes());
        // Header and directory are known last but stand first.
        let names_offset = META_HEADER_END + aligned(directory_len);
        let mut content = Self { parts: vec![Vec::new(), Vec::new()], len: names_offset as u64 };
        let names_len = names.len();
        content.add(names);
        let mut directory = Vec::with_capacity(directory_len);
        let section_count = sections.len();
        for section in sections {
            directory.extend_from_slice(bytemuck::bytes_of(&content.add_section(section)));
        }
        let header = MetaHeader {
            min_seq: spec.min_seq.0.into(),
            max_seq: spec.max_seq.0.into(),
            first_day: spec.first_day.into(),
            end_day: spec.end_day.into(),
            data_end: totals.data_end.into(),
            time_bytes: totals.time_bytes.into(),
            rows: totals.rows.into(),
            values: totals.values.into(),
            first_time: totals.first_time.into(),
            last_time: totals.last_time.into(),
            content_len: content.len.into(),
            directory_offset: (META_HEADER_END as u64).into(),
            names_offset: (names_offset as u64).into(),
            names_len: (names_len as u32).into(),
            section_count: (section_count as u32).into(),
            ..MetaHeader::zeroed()
        };
        content.parts[0].extend_from_slice(&file_header(spec, META_MAGIC).encode());
        content.parts[0].extend_from_slice(bytemuck::bytes_of(&header));
        content.parts[1] = directory;
        content
    }

    fn add_section(&mut self, section: FinishedSection) -> SectionEntry {
        let mut entry = section.entry;
        entry.fields_offset = self.add(section.fields).into();
        entry.series_offset = self.add_entries(&section.series).into();
        entry.groups_offset = self.add_entries(&section.groups).into();
        entry.blocks_offset = self.add_entries(&section.blocks).into();
        entry.statistics_index_offset = self.add(section.statistics.index).into();
        entry.summary_index_offset = self.add(section.summaries.index).into();
        entry.statistics_offset = self.add(section.statistics.bytes).into();
        entry.summary_offset = self.add(section.summaries.bytes).into();

        let mut dictionaries = Vec::new();
        for (field, text_count, bytes) in section.dictionaries {
            dictionaries.push(DictionaryEntry {
                len: (bytes.len() as u32).into(),
                offset: self.add(bytes).into(),
                field: field.into(),
                text_count: text_count.into(),
            });
        }
        entry.dictionaries_offset = self.add_entries(&dictionaries).into();
        let keys_offset = self.add(section.keys.stored);
        let key_chunks = section.keys.chunks.iter().map(|(start, stored_len, raw_len)| KeyChunkEntry {
            offset: (keys_offset + *start as u64).into(),
            stored_len: (*stored_len as u32).into(),
            raw_len: (*raw_len as u32).into(),
        });
        entry.key_chunks_offset = self.add_entries(&key_chunks.collect::<Vec<_>>()).into();
        entry
    }

    fn add_entries<T: bytemuck::Pod>(&mut self, entries: &[T]) -> u64 {
        self.add(bytemuck::cast_slice(entries).to_vec())
    }

    /// Adds a part; gives its place.
    fn add(&mut self, part: Vec<u8>) -> u64 {
        let offset = self.len;
        self.len += aligned(part.len()) as u64;
        self.parts.push(part);
        offset
    }

    fn write<W: FnMut(&[u8]) -> io::Result<()>>(self, pages: &mut PageWriter<W>) -> io::Result<()> {
        debug_assert_eq!(
            page_count(self.len),
            page_count(self.parts.iter().map(|p| aligned(p.len()) as u64).sum())
        );
        for part in self.parts {
            pages.put(&part)?;
            pages.put(&[0; 32][..aligned(part.len()) - part.len()])?;
        }
        Ok(())
    }
}
