//! The two ends of a segment file: the header says whose it is, the footer that it is all there.
//!
//! Bytes: format-spec.md sections 5.2 and 5.15.

use super::error::{SegmentError, io_error};
use super::layout::{
    FOOTER_LEN, FOOTER_MAGIC, Footer, HEADER_LEN, MIN_FILE_LEN, PAGE_LEN, SEGMENT_HEADER_CRC_OFFSET,
    SEGMENT_MAGIC, SegmentHeader,
};
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{SegmentId, StoreId};
use crate::io::Map;

/// Reads and checks the header: whose file it is, and that this program may read it.
pub(crate) fn read_header(
    data: &dyn Map,
    path: &str,
    store: StoreId,
    id: SegmentId,
) -> Result<SegmentHeader, SegmentError> {
    let mut page = [0; HEADER_LEN];
    data.copy_at(0, &mut page).map_err(|source| io_error(path, source))?;
    FileHeader::decode(&page[..FILE_HEADER_LEN], path, SEGMENT_MAGIC, Some(store), Some(id.0))?;
    let [.., a, b, c, d] = page;
    let found = u32::from_le_bytes([a, b, c, d]);
    let crc = crc32fast::hash(&page[..SEGMENT_HEADER_CRC_OFFSET]);
    if crc != found {
        let offset = SEGMENT_HEADER_CRC_OFFSET as u64;
        let (expected, found) = (u64::from(crc), u64::from(found));
        return Err(
            Damage { file: path.to_owned(), offset, part: "segment_header_crc", expected, found }.into()
        );
    }
    Ok(bytemuck::pod_read_unaligned(&page[FILE_HEADER_LEN..FILE_HEADER_LEN + size_of::<SegmentHeader>()]))
}

/// Reads and checks the footer: the file is all there, and the meta region is where it says.
pub(crate) fn read_footer(
    data: &dyn Map,
    path: &str,
    store: StoreId,
    id: SegmentId,
) -> Result<Footer, SegmentError> {
    let len = data.len();
    let damage =
        |part, offset, expected, found| Damage { file: path.to_owned(), offset, part, expected, found };
    if len < MIN_FILE_LEN {
        return Err(damage("file_len", 0, MIN_FILE_LEN, len).into());
    }
    let at = len - FOOTER_LEN as u64;
    let mut bytes = [0; FOOTER_LEN];
    data.copy_at(at, &mut bytes).map_err(|source| io_error(path, source))?;
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes);
    let crc = crc32fast::hash(&bytes[..FOOTER_LEN - 4]);
    let head = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let meta_end = footer.meta_offset.get().saturating_add(footer.meta_len.get());
    let (sector, page) = (HEADER_LEN as u64, PAGE_LEN as u64);
    let checks = [
        ("footer_magic", 0, head(&FOOTER_MAGIC), head(&footer.magic)),
        ("footer_crc", 92, u64::from(crc), u64::from(footer.footer_crc.get())),
        ("footer_segment", 8, id.0, footer.segment.get()),
        ("footer_store", 16, head(&store.0), head(&footer.store)),
        ("footer_store", 24, head(&store.0[8..]), head(&footer.store[8..])),
        ("file_len", 32, len, footer.file_len.get()),
        ("meta_len", 48, at, meta_end),
        ("meta_offset", 40, 0, footer.meta_offset.get() % sector),
        ("data_end", 56, 1, u64::from(data_ends_before(footer.data_end.get(), footer.meta_offset.get()))),
        ("page_count", 84, footer.meta_len.get() / page, u64::from(footer.page_count.get())),
    ];
    for (part, offset, expected, found) in checks {
        if expected != found {
            return Err(damage(part, at + offset, expected, found).into());
        }
    }
    Ok(footer)
}

/// Whether the data region ends in the sector before the meta region.
fn data_ends_before(data_end: u64, meta_offset: u64) -> bool {
    data_end >= HEADER_LEN as u64 && data_end <= meta_offset && meta_offset - data_end < HEADER_LEN as u64
}

/// Reads what a file says of itself, without knowing whose it should be: for tools, and to rebuild a manifest.
pub fn peek_identity(data: &dyn Map) -> Option<(StoreId, SegmentId)> {
    let mut common = [0; FILE_HEADER_LEN];
    data.copy_at(0, &mut common).ok()?;
    let header = FileHeader::decode(&common, "", SEGMENT_MAGIC, None, None).ok()?;
    Some((header.store, SegmentId(header.file_id)))
}
