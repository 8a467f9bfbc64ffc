//! Pages of the meta region: cut, checked, and kept in a bounded cache.
//!
//! Bytes: format-spec.md section 5.4.
//!
//! Invariants
//! 1. A [`Page`] in the cache was verified after it was copied out of the file; nothing else gives out meta bytes.
//! 2. The cache holds at most the number of pages it was made for.

use super::layout::{PAGE_CONTENT_LEN, PAGE_HEADER_LEN, PAGE_LEN, PAGE_MAGIC, PageHeader};
use crate::ids::SegmentId;
use bytemuck::Zeroable;
use parking_lot::Mutex;
use std::sync::Arc;

/// A verified copy of one meta page.
#[repr(C, align(64))]
pub(crate) struct Page([u8; PAGE_LEN]);

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page({:?})", bytemuck::pod_read_unaligned::<PageHeader>(&self.0[..PAGE_HEADER_LEN]))
    }
}

/// What is wrong with a page: name of the field, expected, found.
pub(crate) type PageFault = (&'static str, u64, u64);

impl Page {
    pub(crate) fn zeroed() -> Self {
        Self([0; PAGE_LEN])
    }

    /// The whole page, to copy file bytes into.
    pub(crate) fn raw_mut(&mut self) -> &mut [u8; PAGE_LEN] {
        &mut self.0
    }

    /// Bytes of the meta region's content in this page.
    pub(crate) fn content(&self) -> &[u8] {
        &self.0[PAGE_HEADER_LEN..]
    }

    pub(crate) fn header(&self) -> PageHeader {
        bytemuck::pod_read_unaligned(&self.0[..PAGE_HEADER_LEN])
    }

    /// Whether this is page `number` of `count` of the meta region of `segment`, bit for bit as it was written.
    pub(crate) fn verify(&self, segment: SegmentId, number: u32, count: u32) -> Result<(), PageFault> {
        let header = self.header();
        let crc = crc32fast::hash(&self.0[4..]);
        let checks = [
            ("page_crc", u64::from(crc), u64::from(header.page_crc.get())),
            ("page_magic", u64::from(PAGE_MAGIC), u64::from(header.page_magic.get())),
            ("page_segment", segment.0, header.segment.get()),
            ("page_number", u64::from(number), u64::from(header.page_number.get())),
            ("page_count", u64::from(count), u64::from(header.page_count.get())),
            ("page_reserved", 0, header.reserved.get()),
        ];
        checks.into_iter().find(|(_, expected, found)| expected != found).map_or(Ok(()), Err)
    }
}

/// Cuts content into pages and hands each, finished, to `write`; gives the CRC over all page CRCs.
pub(crate) struct PageWriter<W> {
    segment: SegmentId,
    page_count: u32,
    number: u32,
    page: Box<Page>,
    filled: usize,
    crcs: crc32fast::Hasher,
    write: W,
}

impl<W: FnMut(&[u8]) -> std::io::Result<()>> PageWriter<W> {
    pub(crate) fn new(segment: SegmentId, content_len: u64, write: W) -> Self {
        let page_count = page_count(content_len);
        let page = Box::new(Page::zeroed());
        Self { segment, page_count, number: 0, page, filled: 0, crcs: crc32fast::Hasher::new(), write }
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(PAGE_CONTENT_LEN - self.filled);
            let (head, rest) = bytes.split_at(taken);
            let start = PAGE_HEADER_LEN + self.filled;
            self.page.0[start..start + taken].copy_from_slice(head);
            self.filled += taken;
            bytes = rest;
            if self.filled == PAGE_CONTENT_LEN {
                self.close_page()?;
            }
        }
        Ok(())
    }

    /// Writes the last page; gives the number of pages and the CRC over their CRCs.
    pub(crate) fn finish(mut self) -> std::io::Result<(u32, u32)> {
        if self.filled > 0 {
            self.close_page()?;
        }
        debug_assert_eq!(self.number, self.page_count, "the content has the length that was announced");
        Ok((self.number, self.crcs.finalize()))
    }

    fn close_page(&mut self) -> std::io::Result<()> {
        let header = PageHeader {
            page_magic: PAGE_MAGIC.into(),
            segment: self.segment.0.into(),
            page_number: self.number.into(),
            page_count: self.page_count.into(),
            ..PageHeader::zeroed()
        };
        self.page.0[..PAGE_HEADER_LEN].copy_from_slice(bytemuck::bytes_of(&header));
        let crc = crc32fast::hash(&self.page.0[4..]).to_le_bytes();
        self.page.0[..4].copy_from_slice(&crc);
        self.crcs.update(&crc);
        (self.write)(&self.page.0)?;
        self.page.0.fill(0);
        self.filled = 0;
        self.number += 1;
        Ok(())
    }
}

/// Pages that hold `content_len` bytes.
pub(crate) fn page_count(content_len: u64) -> u32 {
    u32::try_from(content_len.div_ceil(PAGE_CONTENT_LEN as u64)).expect("a meta region is far below 16 TiB")
}

/// Verified pages of all open segments: a fixed number of places, one page each, the newest stays.
///
/// A page is found by a hash of its owner and number; two pages of the same place displace each other, which costs a
/// copy and a checksum (under a microsecond), so nothing cleverer pays.
#[derive(Debug)]
pub struct PageCache {
    places: Box<[Mutex<Option<Place>>]>,
}

#[derive(Debug)]
struct Place {
    /// Which open of which file; a number never used twice, so a reopened file cannot meet old pages.
    owner: u64,
    number: u32,
    page: Arc<Page>,
}

impl PageCache {
    /// A cache of at most `pages` pages of 4 KiB.
    pub fn new(pages: usize) -> Self {
        Self { places: (0..pages.max(1)).map(|_| Mutex::new(None)).collect() }
    }

    pub(crate) fn get(&self, owner: u64, number: u32) -> Option<Arc<Page>> {
        let place = self.place(owner, number).lock();
        place.as_ref().filter(|p| p.owner == owner && p.number == number).map(|p| Arc::clone(&p.page))
    }

    pub(crate) fn put(&self, owner: u64, number: u32, page: Arc<Page>) {
        *self.place(owner, number).lock() = Some(Place { owner, number, page });
    }

    fn place(&self, owner: u64, number: u32) -> &Mutex<Option<Place>> {
        let mixed = (owner.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number))
            .wrapping_mul(0xff51_afd7_ed55_8ccd);
        &self.places[(mixed >> 32) as usize % self.places.len()]
    }
}
