//! Every constant and offset of a segment file, with the names of format-spec.md section 5.
//!
//! Entries are fixed, aligned and little-endian; they are read from a verified page through `bytemuck`. Nothing here
//! does I/O or checks a value: a parser does both.

use crate::file_header::FILE_HEADER_LEN;
use bytemuck::{Pod, Zeroable};

/// First eight bytes of a segment file. The line ends in the middle show a file that went through a text mode.
pub const SEGMENT_MAGIC: [u8; 8] = *b"wlseg\r\n\0";
/// First eight bytes of the meta region's content.
pub const META_MAGIC: [u8; 8] = *b"wlmeta\r\n";
/// First eight bytes of the footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"wlsegend";
/// Bytes 4..8 of each meta page.
pub const PAGE_MAGIC: u32 = u32::from_le_bytes(*b"wlmp");
/// Length of the header: one sector of any disk.
pub const HEADER_LEN: usize = 512;
/// Length of a meta page.
pub const PAGE_LEN: usize = 4096;
/// Bytes of a meta page before its content.
pub const PAGE_HEADER_LEN: usize = 32;
/// Content of one meta page: a multiple of 32, so that an aligned entry of at most 32 bytes never straddles two pages.
pub const PAGE_CONTENT_LEN: usize = PAGE_LEN - PAGE_HEADER_LEN;
/// Alignment of every part inside the meta region's content.
pub const META_ALIGN: usize = 32;

/// Most rows of a row group.
pub const MAX_GROUP_ROWS: usize = 1024;
/// A series with fewer rows than this in a segment is written in compact groups.
pub const COMPACT_ROWS: usize = 64;
/// A series with fewer rows than this on each day may have row groups that span days of one UTC month.
pub const SPARSE_DAY_ROWS: usize = 256;
/// Most bytes of text in one row group, unless a single row has more; most plain bytes of a compact group.
pub const MAX_GROUP_BYTES: usize = 1 << 20;
/// Longest block or compact group: bounds the buffer of a reading thread.
pub const MAX_BLOCK_BYTES: usize = 1 << 22;
/// Row groups (or series) described by one chunk of statistics.
pub const STATISTICS_CHUNK: usize = 64;
/// Most texts in the dictionary of one field of one section.
pub const MAX_DICTIONARY_TEXTS: usize = 4096;
/// Most bytes of text in such a dictionary.
pub const MAX_DICTIONARY_BYTES: usize = 1 << 20;
/// Most fields of a section.
pub const MAX_FIELDS: usize = 65_534;
/// Series keys in one chunk of keys, and the bytes after which a chunk is closed.
pub const KEY_CHUNK_SERIES: usize = 1024;
/// See [`KEY_CHUNK_SERIES`].
pub const KEY_CHUNK_BYTES: usize = 64 * 1024;
/// A chunk of keys is stored compressed only if it shrinks by no more than this factor, which bounds a reader's memory.
pub const MAX_KEY_EXPANSION: usize = 256;
/// Room for local midnights in the header: more than a month has.
pub const MAX_MIDNIGHTS: usize = 48;

/// Field index of a time block.
pub const TIME_FIELD: u16 = u16::MAX;
/// Bit of [`GroupEntry::offset_rows`]'s row part that says "compact".
pub const COMPACT_FLAG: u16 = 1 << 15;

macro_rules! little_endian {
    ($name:ident, $inner:ty) => {
        #[doc = concat!("A little-endian `", stringify!($inner), "`.")]
        #[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Takes a number of this machine.
            pub const fn new(value: $inner) -> Self {
                Self(value.to_le())
            }

            /// Gives a number of this machine.
            pub const fn get(self) -> $inner {
                <$inner>::from_le(self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self::new(value)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.get().fmt(f)
            }
        }
    };
}

little_endian!(Le16, u16);
little_endian!(Le32, u32);
little_endian!(Le64, u64);
little_endian!(LeI32, i32);
little_endian!(LeI64, i64);

/// What follows the common file header in the header (spec 5.2); midnights and zeros up to `segment_header_crc` follow.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SegmentHeader {
    pub min_seq: Le64,
    pub max_seq: Le64,
    pub first_day: LeI32,
    pub end_day: LeI32,
    /// Local midnights that follow; zero in what a seal writes.
    pub midnight_count: Le32,
    pub reserved: Le32,
}
const _: () = assert!(size_of::<SegmentHeader>() == 32);

/// Where the midnights stand in the header.
pub const MIDNIGHTS_OFFSET: usize = FILE_HEADER_LEN + size_of::<SegmentHeader>();
/// Where the checksum of the header stands; it covers all before it.
pub const SEGMENT_HEADER_CRC_OFFSET: usize = HEADER_LEN - 4;
const _: () = assert!(MIDNIGHTS_OFFSET + 8 * MAX_MIDNIGHTS <= SEGMENT_HEADER_CRC_OFFSET);

/// Start of a meta page (spec 5.4). `page_crc` covers the rest of the page, so segment and page number as well.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct PageHeader {
    pub page_crc: Le32,
    pub page_magic: Le32,
    pub segment: Le64,
    pub page_number: Le32,
    pub page_count: Le32,
    pub reserved: Le64,
}
const _: () = assert!(size_of::<PageHeader>() == PAGE_HEADER_LEN);
const _: () = assert!(PAGE_CONTENT_LEN.is_multiple_of(META_ALIGN));

/// What follows the common file header at the start of the meta region's content (spec 5.5).
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct MetaHeader {
    pub min_seq: Le64,
    pub max_seq: Le64,
    pub first_day: LeI32,
    pub end_day: LeI32,
    pub data_end: Le64,
    pub time_bytes: Le64,
    pub rows: Le64,
    pub values: Le64,
    pub first_time: LeI64,
    pub last_time: LeI64,
    pub content_len: Le64,
    pub directory_offset: Le64,
    pub names_offset: Le64,
    pub names_len: Le32,
    pub section_count: Le32,
    pub midnights_offset: Le64,
    pub midnight_count: Le32,
    pub reserved_word: Le32,
    pub reserved: [Le64; 9],
}
const _: () = assert!(size_of::<MetaHeader>() == 192);
/// Where the section directory may begin.
pub const META_HEADER_END: usize = FILE_HEADER_LEN + size_of::<MetaHeader>();
const _: () = assert!(META_HEADER_END.is_multiple_of(META_ALIGN));

/// One section: the rows of one measurement (spec 5.6). Offsets count in the meta region's content.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SectionEntry {
    pub measurement: Le32,
    pub field_count: Le32,
    pub series_count: Le32,
    pub group_count: Le32,
    pub block_count: Le32,
    pub fields_len: Le32,
    pub first_time: LeI64,
    pub last_time: LeI64,
    pub rows: Le64,
    pub values: Le64,
    pub fields_offset: Le64,
    pub series_offset: Le64,
    pub groups_offset: Le64,
    pub blocks_offset: Le64,
    pub statistics_index_offset: Le64,
    pub statistics_offset: Le64,
    pub summary_index_offset: Le64,
    pub summary_offset: Le64,
    pub dictionaries_offset: Le64,
    pub key_chunks_offset: Le64,
    pub dictionary_count: Le32,
    pub key_chunk_count: Le32,
    pub reserved: [Le64; 2],
}
const _: () = assert!(size_of::<SectionEntry>() == 160);

/// One series of a section (spec 5.8), by rising id.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SeriesEntry {
    pub series: Le32,
    pub first_group: Le32,
    pub group_count: Le32,
    pub rows: Le32,
}
const _: () = assert!(size_of::<SeriesEntry>() == 16);

/// One row group (spec 5.9), by series and then time.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct GroupEntry {
    pub first_time: LeI64,
    pub last_time: LeI64,
    /// Low 48 bits: where the group's bytes start in the file. High 16: rows, and [`COMPACT_FLAG`].
    pub offset_rows: Le64,
    /// Index of the group's first block entry; of a compact group its length in bytes.
    pub first_block_or_len: Le32,
    /// Number of block entries; of a compact group its checksum.
    pub block_count_or_crc: Le32,
}
const _: () = assert!(size_of::<GroupEntry>() == 32);

/// One block (spec 5.10). The first block of a group is its time block; fields follow by rising index.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct BlockEntry {
    /// From the start of the group.
    pub offset: Le32,
    pub len: Le32,
    pub crc: Le32,
    /// Place in the section's field table, or [`TIME_FIELD`].
    pub field: Le16,
    pub codec: u8,
    /// 0: every row has a value. 1: the block starts with the rows that have one.
    pub presence: u8,
}
const _: () = assert!(size_of::<BlockEntry>() == 16);

/// A dictionary of texts of one field (spec 5.12).
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct DictionaryEntry {
    pub offset: Le64,
    pub len: Le32,
    pub field: Le16,
    pub text_count: Le16,
}
const _: () = assert!(size_of::<DictionaryEntry>() == 16);

/// A chunk of series keys (spec 5.13).
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct KeyChunkEntry {
    pub offset: Le64,
    pub stored_len: Le32,
    /// Equal to `stored_len` when the chunk is not compressed.
    pub raw_len: Le32,
}
const _: () = assert!(size_of::<KeyChunkEntry>() == 16);

/// Last bytes of the file (spec 5.15): proof that it is complete.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Footer {
    pub magic: [u8; 8],
    pub segment: Le64,
    pub store: [u8; 16],
    pub file_len: Le64,
    pub meta_offset: Le64,
    pub meta_len: Le64,
    pub data_end: Le64,
    pub rows: Le64,
    pub values: Le64,
    pub block_count: Le32,
    pub page_count: Le32,
    /// CRC over the `page_crc` of every page in order, each as it stands in the file.
    pub meta_crc: Le32,
    /// CRC over the footer before this field.
    pub footer_crc: Le32,
}
/// Length of [`Footer`].
pub const FOOTER_LEN: usize = 96;
const _: () = assert!(size_of::<Footer>() == FOOTER_LEN);
/// Shortest file that can be a segment.
pub const MIN_FILE_LEN: u64 = (HEADER_LEN + PAGE_LEN + FOOTER_LEN) as u64;

impl GroupEntry {
    /// Packs the place and the number of rows.
    pub fn pack(offset: u64, rows: u16, compact: bool) -> Le64 {
        debug_assert!(offset < 1 << 48 && rows <= MAX_GROUP_ROWS as u16);
        Le64::new(offset | u64::from(rows | if compact { COMPACT_FLAG } else { 0 }) << 48)
    }

    /// Where the group's bytes start.
    pub fn offset(&self) -> u64 {
        self.offset_rows.get() & ((1 << 48) - 1)
    }

    /// Rows of the group.
    pub fn rows(&self) -> u16 {
        (self.offset_rows.get() >> 48) as u16 & !COMPACT_FLAG
    }

    /// Whether all blocks of the group stand in one piece with one checksum.
    pub fn is_compact(&self) -> bool {
        self.offset_rows.get() >> 63 == 1
    }
}

/// Checksum of bytes at a place: a block read from the wrong place or file does not pass.
pub fn place_crc(segment: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place);
    hasher.update(bytes);
    hasher.finalize()
}

/// The next multiple of [`META_ALIGN`].
pub fn aligned(len: usize) -> usize {
    len.next_multiple_of(META_ALIGN)
}
