//! Writing a segment: blocks stream to the file, what describes them is kept in memory until the end.
//!
//! Promise: after `finish` returned `Ok` the file's bytes are durable; its name is not (rename and directory sync are
//! the caller's). A file that was not finished has no footer and is never taken for a segment.

use super::content::{Content, Totals};
use super::entry::{FieldDef, SegmentSpec, SegmentSummary};
use super::layout::{
    FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, MAX_FIELDS, MAX_MIDNIGHTS, MIDNIGHTS_OFFSET, PAGE_LEN,
    SEGMENT_HEADER_CRC_OFFSET, SEGMENT_MAGIC, SegmentHeader,
};
use super::page::PageWriter;
use super::plan::{self, Part};
use super::section_writer::{FinishedSection, SectionWriter};
use crate::column::SeriesRows;
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{MeasurementId, SeriesId};
use crate::io::{Disk, File};
use bytemuck::Zeroable;
use std::io;
use std::sync::Arc;
use wattlog_model::TagSet;

/// Bytes gathered before they go to the file.
const BUFFER_LEN: usize = 256 * 1024;

/// Writes one segment file.
#[derive(Debug)]
pub struct SegmentWriter {
    out: Out,
    spec: SegmentSpec,
    finished: Vec<FinishedSection>,
    current: Option<SectionWriter>,
    time_bytes: u64,
    /// Row groups that end before this are written with PCO where that is smaller.
    pack_before: i64,
}

/// The file and what waits to be written to it.
#[derive(Debug)]
pub(super) struct Out {
    file: Arc<dyn File>,
    pub(super) buffer: Vec<u8>,
    /// Place of the buffer's start in the file.
    pub(super) offset: u64,
}

impl Out {
    /// Where the next byte goes.
    pub(super) fn end(&self) -> u64 {
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
    /// Makes the file and writes its header.
    pub fn create(disk: &dyn Disk, path: &str, spec: SegmentSpec) -> io::Result<Self> {
        if !spec.midnights.is_sorted() || spec.midnights.len() > MAX_MIDNIGHTS {
            return Err(misuse("midnights rise, and there is room for 48"));
        }
        let file = disk.create(path)?;
        let mut out = Out { file, buffer: Vec::with_capacity(BUFFER_LEN + PAGE_LEN), offset: 0 };
        out.put(&header(&spec))?;
        Ok(Self { out, spec, finished: Vec::new(), current: None, time_bytes: 0, pack_before: i64::MIN })
    }

    /// Writes numbers of row groups that end before this time, in nanoseconds, with PCO where that is more than 5 % smaller.
    /// They are several times slower to write and to read.
    #[must_use]
    pub fn packing_before(self, pack_before: i64) -> Self {
        Self { pack_before, ..self }
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
        self.current = Some(SectionWriter::new(measurement, name, fields, self.pack_before));
        Ok(())
    }

    /// Writes the rows of a series of the section. Series come by rising id, each once; their times rise strictly.
    ///
    /// No rows write nothing: such a series is not in the segment.
    pub fn write_series(&mut self, series: SeriesId, tags: &TagSet, rows: &SeriesRows) -> io::Result<()> {
        self.begin_series(series)?;
        self.write_rows(rows, Part::Whole)?;
        self.end_series(tags)
    }

    /// Begins a series whose rows come in parts.
    pub fn begin_series(&mut self, series: SeriesId) -> io::Result<()> {
        let section = self.current.as_mut().ok_or_else(|| misuse("a series needs a section"))?;
        section.begin_series(series)
    }

    /// Writes rows of the series begun, all later than those before.
    pub fn write_rows(&mut self, rows: &SeriesRows, part: Part) -> io::Result<()> {
        let section = self.current.as_mut().ok_or_else(|| misuse("rows need a section"))?;
        if rows.times.is_empty() {
            return Ok(());
        }
        if rows.times.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(misuse("times rise strictly"));
        }
        let columns = section.resolve(rows)?;
        section.note_rows(rows, &columns)?;
        for plan in plan::groups(rows, part, &self.spec.midnights) {
            let first_block = section.blocks.len();
            section.write_group(&plan, rows, &columns, self.spec.id.0, &mut self.out)?;
            self.time_bytes += section.blocks.get(first_block).map_or(0, |block| u64::from(block.len.get()));
            self.out.flush_if_full()?;
        }
        Ok(())
    }

    /// Ends the series begun; without a row it is not in the segment.
    pub fn end_series(&mut self, tags: &TagSet) -> io::Result<()> {
        let section = self.current.as_mut().ok_or_else(|| misuse("a series needs a section"))?;
        section.end_series(tags)
    }

    /// Bytes that are in the file or on their way to it.
    pub fn bytes(&self) -> u64 {
        self.out.end()
    }

    /// Writes the meta region and the footer and makes the file's bytes durable.
    pub fn finish(mut self) -> io::Result<SegmentSummary> {
        self.end_section()?;
        let data_end = self.out.end();
        let padding = data_end.next_multiple_of(HEADER_LEN as u64) - data_end;
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
            data_bytes: data_end - HEADER_LEN as u64 - self.time_bytes,
            time_bytes: self.time_bytes,
            meta_bytes: file_bytes - (data_end - HEADER_LEN as u64),
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

pub(super) fn misuse(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Header of a segment.
fn header(spec: &SegmentSpec) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    let common = file_header(spec, SEGMENT_MAGIC).encode();
    bytes[..FILE_HEADER_LEN].copy_from_slice(&common);
    let header = SegmentHeader {
        min_seq: spec.min_seq.0.into(),
        max_seq: spec.max_seq.0.into(),
        first_day: spec.first_day.into(),
        end_day: spec.end_day.into(),
        midnight_count: (spec.midnights.len() as u32).into(),
        ..SegmentHeader::zeroed()
    };
    bytes[FILE_HEADER_LEN..FILE_HEADER_LEN + size_of::<SegmentHeader>()]
        .copy_from_slice(bytemuck::bytes_of(&header));
    for (place, midnight) in bytes[MIDNIGHTS_OFFSET..].chunks_exact_mut(8).zip(&spec.midnights) {
        place.copy_from_slice(&midnight.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER_CRC_OFFSET]);
    bytes[SEGMENT_HEADER_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn file_header(spec: &SegmentSpec, magic: [u8; 8]) -> FileHeader {
    FileHeader { magic, store: spec.store, file_id: spec.id.0, param: u64::from(spec.namespace.0) }
}
