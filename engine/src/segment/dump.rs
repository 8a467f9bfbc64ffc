//! Printing a segment file with the names of the specification.

use super::chunk::Frame;
use super::error::SegmentError;
use super::layout::{BlockEntry, FOOTER_LEN, GroupEntry, HEADER_LEN, SectionEntry};
use super::page::PageCache;
use super::parts::lines;
use super::reader::Segment;
use super::section::{Level, Section};
use super::statistics::BlockStatistics;
use crate::check::DumpLine;
use crate::codec::CodecTag;
use crate::file_header::{self, FILE_HEADER_LEN};
use crate::io::{Disk, Map, ReadMode, open_sealed};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use wattlog_model::FieldValue;

/// What stands where in a segment file. What a damaged part would tell is left out, and a line says so.
pub fn dump_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    let data = open_sealed(disk, path, ReadMode::Pread)?;
    let mut out = Vec::new();
    ends(&*data, &mut out)?;
    let (store, id) = super::ends::peek_identity(&*data).unwrap_or_default();
    let opened = Segment::open_with(disk, path, store, id, ReadMode::Pread, Arc::new(PageCache::new(256)));
    if let Err(error) = opened.and_then(|segment| content(&segment, &mut out)) {
        let damage = error.to_damage();
        out.push(DumpLine { offset: damage.offset, len: 0, part: "damage", value: damage.to_string() });
    }
    Ok(out)
}

/// Header and footer as they stand, whether or not they are right.
fn ends(data: &dyn Map, out: &mut Vec<DumpLine>) -> io::Result<()> {
    let mut header = vec![0; HEADER_LEN.min(data.len() as usize)];
    data.copy_at(0, &mut header)?;
    for (part, offset, size) in file_header::PARTS {
        if let Some(field) = header.get(*offset..offset + size) {
            let value = match *part {
                "magic" => field.escape_ascii().to_string(),
                _ => field.iter().rev().fold("0x".to_owned(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                }),
            };
            out.push(DumpLine { offset: *offset as u64, len: *size as u64, part, value });
        }
    }
    out.extend(lines("header", &header, 0, |offset| offset));
    if let Some(at) = data.len().checked_sub(FOOTER_LEN as u64) {
        let mut footer = [0; FOOTER_LEN];
        data.copy_at(at, &mut footer)?;
        out.extend(lines("footer", &footer, 0, |offset| at + offset));
    }
    Ok(())
}

fn content(segment: &Segment, out: &mut Vec<DumpLine>) -> Result<(), SegmentError> {
    let meta = &segment.meta;
    for number in 0..meta.page_count() {
        let page = meta.read_page(number)?;
        let at = meta.page_offset(number);
        out.extend(lines("page", bytemuck::bytes_of(&page.header()), 0, |offset| at + offset));
    }
    let header = meta.header;
    out.extend(lines("meta", bytemuck::bytes_of(&header), FILE_HEADER_LEN, |offset| {
        meta.file_offset(offset)
    }));
    let (database, policy) = &segment.spec().namespace_name;
    push(
        out,
        meta.file_offset(header.names_offset.get()),
        header.names_len.get(),
        "names",
        format!("{database:?} {policy:?}"),
    );
    for section in segment.sections()? {
        section_lines(segment, &section, out)?;
    }
    Ok(())
}

fn push(out: &mut Vec<DumpLine>, offset: u64, len: u32, part: &'static str, value: String) {
    out.push(DumpLine { offset, len: u64::from(len), part, value });
}

fn section_lines(segment: &Segment, section: &Section, out: &mut Vec<DumpLine>) -> Result<(), SegmentError> {
    let meta = &segment.meta;
    let at = meta.header.directory_offset.get() + u64::from(section.index) * size_of::<SectionEntry>() as u64;
    out.extend(lines("section", bytemuck::bytes_of(&section.entry), 0, |offset| {
        meta.file_offset(at + offset)
    }));
    let fields_at = meta.file_offset(section.entry.fields_offset.get());
    push(out, fields_at, section.entry.fields_len.get(), "fields", format!("{:?}", section.name()));
    for field in section.fields().iter() {
        let unit = field.unit.as_ref().map_or("", |unit| unit.as_str());
        let value = format!("{} {:?} {} {:?} {:?}", field.id, field.name, field.field_type, field.kind, unit);
        push(out, fields_at, 0, "field", value);
    }
    for (i, entry) in section.dictionary_entries().enumerate() {
        let at = section.entry.dictionaries_offset.get() + (i * size_of_val(entry)) as u64;
        out.extend(lines("dictionary", bytemuck::bytes_of(entry), 0, |offset| meta.file_offset(at + offset)));
        let texts = section.texts(meta, usize::from(entry.field.get()))?;
        push(
            out,
            meta.file_offset(entry.offset.get()),
            entry.len.get(),
            "dictionary_texts",
            format!("{texts:?}"),
        );
    }
    let mut chunks = section.key_chunk_table(meta)?;
    for i in 0..chunks.len() {
        let (entry, at) = (chunks.get(i)?, chunks.place(i));
        out.extend(lines("keys", bytemuck::bytes_of(&entry), 0, |offset| meta.file_offset(at + offset)));
    }
    let mut keys = Vec::new();
    segment.series_keys(section, &mut |_, tags| keys.push(tags))?;
    let mut series = section.series_table(meta)?;
    for (ordinal, key) in keys.iter().enumerate() {
        let ordinal = ordinal as u32;
        let (entry, at) = (series.get(ordinal)?, series.place(ordinal));
        let text = key.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
        push(out, meta.file_offset(at), size_of_val(&entry) as u32, "series_key", text);
        out.extend(lines("series", bytemuck::bytes_of(&entry), 0, |offset| meta.file_offset(at + offset)));
        let start = entry.first_group.get();
        for group in start..start.saturating_add(entry.group_count.get()) {
            group_lines(segment, section, group, out)?;
        }
        summary_lines(segment, section, ordinal, &entry, out)?;
    }
    Ok(())
}

fn group_lines(
    segment: &Segment,
    section: &Section,
    ordinal: u32,
    out: &mut Vec<DumpLine>,
) -> Result<(), SegmentError> {
    let meta = &segment.meta;
    let mut table = section.group_table(meta)?;
    let (entry, at): (GroupEntry, u64) = (table.get(ordinal)?, table.place(ordinal));
    out.extend(lines("group", bytemuck::bytes_of(&entry), 0, |offset| meta.file_offset(at + offset)));
    let group = segment.group_at(section, ordinal)?;
    if group.compact {
        let value = format!("{} rows, fields {:?}", group.rows, segment.fields_of(&group)?);
        push(out, group.offset(), group.compact_len(), "compact_group", value);
        return Ok(());
    }
    let (first, count) = group.block_range();
    let mut blocks = section.block_table(meta)?;
    for i in first..first.saturating_add(count) {
        let (entry, at): (BlockEntry, u64) = (blocks.get(i)?, blocks.place(i));
        out.extend(lines("block", bytemuck::bytes_of(&entry), 0, |offset| meta.file_offset(at + offset)));
        let codec = CodecTag::from_byte(entry.codec).map_or("unknown codec", CodecTag::name);
        let place = usize::from(entry.field.get());
        let offset = group.offset() + u64::from(entry.offset.get());
        match section.fields().get(place) {
            None => push(out, offset, entry.len.get(), "time_block", format!("{codec} {} rows", group.rows)),
            Some(field) => {
                push(
                    out,
                    offset,
                    entry.len.get(),
                    "field_block",
                    format!("{codec} field {} {:?}", field.id, field.name),
                );
                if let Some(statistics) = segment.statistics(&group, field.id)? {
                    push(
                        out,
                        meta.file_offset(section.entry.statistics_offset.get()),
                        0,
                        "statistics",
                        show(&statistics),
                    );
                }
            }
        }
    }
    Ok(())
}

fn summary_lines(
    segment: &Segment,
    section: &Section,
    ordinal: u32,
    entry: &super::layout::SeriesEntry,
    out: &mut Vec<DumpLine>,
) -> Result<(), SegmentError> {
    if entry.group_count.get() < 2 {
        return Ok(());
    }
    let start = entry.first_group.get();
    let first = segment.group_at(section, start)?;
    let last = segment.group_at(section, start.saturating_add(entry.group_count.get()) - 1)?;
    let frame = Frame { rows: 0, first_time: first.first_time, last_time: last.last_time };
    for (place, field) in section.fields().iter().enumerate() {
        let found = section.statistics(&segment.meta, Level::Series, place, ordinal, frame)?;
        if let Some(statistics) = found {
            let at = segment.meta.file_offset(section.entry.summary_offset.get());
            push(out, at, 0, "summary", format!("{:?} {}", field.name, show(&statistics)));
        }
    }
    Ok(())
}

fn show(s: &BlockStatistics) -> String {
    let value = |v: &FieldValue| match v {
        FieldValue::Float(v) => format!("{v:?}"),
        FieldValue::Integer(v) => v.to_string(),
        FieldValue::Unsigned(v) => v.to_string(),
        FieldValue::Boolean(v) => v.to_string(),
        FieldValue::String(v) => format!("{v:?}"),
    };
    let point = |(time, v): &(i64, FieldValue)| format!("{}@{time}", value(v));
    let extreme = |p: &Option<(i64, FieldValue)>| p.as_ref().map_or("none".to_owned(), point);
    format!(
        "count {} first {} last {} min {} max {} sum {:?} gap_ns {} negative_deltas {} exceptions {}",
        s.count,
        point(&s.first),
        point(&s.last),
        extreme(&s.min),
        extreme(&s.max),
        s.sum.value(),
        s.longest_gap_ns,
        s.negative_deltas,
        s.exceptions
    )
}
