//! Names, offsets and sizes of everything fixed in a segment file, for `dump` and for the comparison with the text of
//! format-spec.md.

use super::layout::{
    BlockEntry, DictionaryEntry, Footer, GroupEntry, HEADER_LEN, KeyChunkEntry, Le16, Le32, Le64, LeI32,
    LeI64, MIDNIGHTS_OFFSET, MetaHeader, PageHeader, SEGMENT_HEADER_CRC_OFFSET, SectionEntry, SegmentHeader,
    SeriesEntry,
};
use crate::check::{DumpLine, PartSpec};
use crate::file_header::FILE_HEADER_LEN;

/// Name of a field's type in the specification.
trait Named {
    const NAME: &'static str;
}

macro_rules! named {
    ($($type:ty => $name:literal),*) => { $(impl Named for $type { const NAME: &'static str = $name; })* };
}
named!(Le16 => "u16", Le32 => "u32", Le64 => "u64", LeI32 => "i32", LeI64 => "i64", u8 => "u8");

impl<const N: usize> Named for [u8; N] {
    const NAME: &'static str = "bytes";
}

impl<const N: usize> Named for [Le64; N] {
    const NAME: &'static str = "bytes";
}

/// Size and type of the field that `of` names.
const fn field<T, F: Named>(_of: fn(&T) -> &F) -> (u64, &'static str) {
    (size_of::<F>() as u64, F::NAME)
}

macro_rules! parts {
    ($($type:ident at $base:expr, $prefix:literal { $($name:ident),* })*) => {
        /// Every fixed part of a segment file.
        pub const PARTS: &[PartSpec] = &[
            $($(PartSpec {
                file_kind: "segment",
                name: concat!($prefix, ".", stringify!($name)),
                offset: ($base + std::mem::offset_of!($type, $name)) as u64,
                size: field(|of: &$type| &of.$name).0,
                type_name: field(|of: &$type| &of.$name).1,
            },)*)*
            PartSpec {
                file_kind: "segment",
                name: "header.midnights",
                offset: MIDNIGHTS_OFFSET as u64,
                size: (SEGMENT_HEADER_CRC_OFFSET - MIDNIGHTS_OFFSET) as u64,
                type_name: "bytes",
            },
            PartSpec {
                file_kind: "segment",
                name: "header.segment_header_crc",
                offset: SEGMENT_HEADER_CRC_OFFSET as u64,
                size: (HEADER_LEN - SEGMENT_HEADER_CRC_OFFSET) as u64,
                type_name: "u32",
            },
        ];
    };
}

parts! {
    SegmentHeader at FILE_HEADER_LEN, "header" {
        min_seq, max_seq, first_day, end_day, midnight_count, reserved
    }
    PageHeader at 0, "page" { page_crc, page_magic, segment, page_number, page_count, reserved }
    MetaHeader at FILE_HEADER_LEN, "meta" {
        min_seq, max_seq, first_day, end_day, data_end, time_bytes, rows, values, first_time, last_time, content_len,
        directory_offset, names_offset, names_len, section_count, midnights_offset, midnight_count, reserved_word,
        reserved
    }
    SectionEntry at 0, "section" {
        measurement, field_count, series_count, group_count, block_count, fields_len, first_time, last_time, rows,
        values, fields_offset, series_offset, groups_offset, blocks_offset, statistics_index_offset,
        statistics_offset, summary_index_offset, summary_offset, dictionaries_offset, key_chunks_offset,
        dictionary_count, key_chunk_count, reserved
    }
    SeriesEntry at 0, "series" { series, first_group, group_count, rows }
    GroupEntry at 0, "group" { first_time, last_time, offset_rows, first_block_or_len, block_count_or_crc }
    BlockEntry at 0, "block" { offset, len, crc, field, codec, presence }
    DictionaryEntry at 0, "dictionary" { offset, len, field, text_count }
    KeyChunkEntry at 0, "keys" { offset, stored_len, raw_len }
    Footer at 0, "footer" {
        magic, segment, store, file_len, meta_offset, meta_len, data_end, rows, values, block_count, page_count,
        meta_crc, footer_crc
    }
}

/// The fields of the structure called `prefix`, whose parts are given by `bytes` from `start` of it; `place` tells where
/// in the file a byte of the structure is.
pub(super) fn lines<'a>(
    prefix: &'a str,
    bytes: &'a [u8],
    start: usize,
    place: impl Fn(u64) -> u64 + 'a,
) -> impl Iterator<Item = DumpLine> + 'a {
    let of_prefix =
        move |part: &&PartSpec| part.name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    PARTS.iter().filter(of_prefix).filter_map(move |part| {
        let from = (part.offset as usize).checked_sub(start)?;
        let field = bytes.get(from..from + part.size as usize)?;
        Some(DumpLine {
            offset: place(part.offset),
            len: part.size,
            part: part.name,
            value: show(part, field),
        })
    })
}

fn show(part: &PartSpec, field: &[u8]) -> String {
    let mut word = [0; 8];
    if field.len() <= 8 {
        word[..field.len()].copy_from_slice(field);
    }
    let number = u64::from_le_bytes(word);
    match part.type_name {
        "i64" => (number as i64).to_string(),
        "i32" => (number as u32 as i32).to_string(),
        "bytes" if field.iter().all(|byte| *byte == 0) => "zeros".to_owned(),
        "bytes" => field.escape_ascii().to_string(),
        _ if part.name.ends_with("crc") || part.name.ends_with("magic") => format!("{number:#010x}"),
        _ => number.to_string(),
    }
}
