//! The meta region's content: its parts in order, each on a multiple of 32 bytes.

use super::entry::SegmentSpec;
use super::layout::{
    DictionaryEntry, KeyChunkEntry, META_HEADER_END, META_MAGIC, MetaHeader, SectionEntry, aligned,
};
use super::page::{PageWriter, page_count};
use super::section_writer::FinishedSection;
use super::writer::file_header;
use crate::bytes::put_sized;
use crate::ids::MeasurementId;
use bytemuck::Zeroable;
use std::io;

#[derive(Debug)]
pub(super) struct Totals {
    pub(super) sections: Vec<MeasurementId>,
    pub(super) rows: u64,
    pub(super) values: u64,
    pub(super) blocks: u32,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) data_end: u64,
    pub(super) time_bytes: u64,
}

impl Totals {
    pub(super) fn of(sections: &[FinishedSection]) -> Self {
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
pub(super) struct Content {
    parts: Vec<Vec<u8>>,
    pub(super) len: u64,
}

impl Content {
    pub(super) fn lay_out(spec: &SegmentSpec, totals: &Totals, sections: Vec<FinishedSection>) -> Self {
        let directory_len = sections.len() * size_of::<SectionEntry>();
        let mut names = Vec::new();
        put_sized(&mut names, spec.namespace_name.0.as_bytes());
        put_sized(&mut names, spec.namespace_name.1.as_bytes());
        // Header and directory are known last but stand first.
        let names_offset = META_HEADER_END + aligned(directory_len);
        let mut content = Self { parts: vec![Vec::new(), Vec::new()], len: names_offset as u64 };
        let names_len = names.len();
        content.add(names);
        let midnights: Vec<u8> = spec.midnights.iter().flat_map(|time| time.to_le_bytes()).collect();
        let midnights_offset = if midnights.is_empty() { 0 } else { content.add(midnights) };
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
            midnights_offset: midnights_offset.into(),
            midnight_count: (spec.midnights.len() as u32).into(),
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

    pub(super) fn write<W: FnMut(&[u8]) -> io::Result<()>>(
        self,
        pages: &mut PageWriter<W>,
    ) -> io::Result<()> {
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
