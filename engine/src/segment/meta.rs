//! The meta region as a reader sees it: bytes of its content, verified page by page when first asked for.
//!
//! A meta region stands at the end of its segment, or alone in a file of its own (`<segment>.meta`): [`Meta`] needs to
//! know only where its first page is.
//!
//! Invariants
//! 1. No byte is given out whose page did not pass its checksum.
//! 2. Offsets and lengths out of a page are checked against the content's length before they are used.

use super::error::SegmentError;
use super::layout::{
    MAX_MIDNIGHTS, META_ALIGN, META_HEADER_END, META_MAGIC, MetaHeader, PAGE_CONTENT_LEN, PAGE_HEADER_LEN,
    PAGE_LEN,
};
use super::page::{Page, PageCache, page_count};
use crate::bytes::Reader;
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader, HeaderError};
use crate::ids::{NamespaceId, SegmentId, Seq, StoreId};
use crate::io::Map;
use bytemuck::Pod;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers opened meta regions, so that a cached page belongs to one of them for ever.
static OWNERS: AtomicU64 = AtomicU64::new(1);

/// An open meta region.
#[derive(Debug)]
pub(crate) struct Meta {
    source: Arc<dyn Map>,
    /// Path of the file, for errors.
    pub(crate) file: String,
    /// Where the first page stands in it.
    base: u64,
    segment: SegmentId,
    page_count: u32,
    content_len: u64,
    cache: Arc<PageCache>,
    owner: u64,
    pub(crate) header: MetaHeader,
    pub(crate) namespace: NamespaceId,
}

/// Where a meta region is.
#[derive(Debug)]
pub(crate) struct MetaPlace {
    pub file: String,
    pub base: u64,
    pub len: u64,
}

impl Meta {
    /// Opens the meta region at `place` and checks its header.
    pub(crate) fn open(
        source: Arc<dyn Map>,
        place: MetaPlace,
        store: StoreId,
        segment: SegmentId,
        cache: Arc<PageCache>,
    ) -> Result<Self, SegmentError> {
        let MetaPlace { file, base, len } = place;
        let pages = len / PAGE_LEN as u64;
        let whole = pages > 0
            && len.is_multiple_of(PAGE_LEN as u64)
            && base.checked_add(len).is_some_and(|end| end <= source.len());
        let Some(page_count) = u32::try_from(pages).ok().filter(|_| whole) else {
            return Err(
                Damage { file, offset: base, part: "meta_len", expected: source.len(), found: len }.into()
            );
        };
        Self::of_pages(source, (file, base), page_count, (store, segment), cache)
    }

    /// Opens a meta region of `page_count` pages from byte `base` of the file on, of which some may not be there.
    pub(super) fn of_pages(
        source: Arc<dyn Map>,
        (file, base): (String, u64),
        page_count: u32,
        (store, segment): (StoreId, SegmentId),
        cache: Arc<PageCache>,
    ) -> Result<Self, SegmentError> {
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed);
        let mut meta = Self {
            source,
            file,
            base,
            segment,
            page_count,
            content_len: META_HEADER_END as u64,
            cache,
            owner,
            header: bytemuck::Zeroable::zeroed(),
            namespace: NamespaceId(0),
        };
        meta.read_header(store)?;
        Ok(meta)
    }

    fn read_header(&mut self, store: StoreId) -> Result<(), SegmentError> {
        let page = self.page(0)?;
        let common = &page.content()[..FILE_HEADER_LEN];
        let common = FileHeader::decode(common, &self.file, META_MAGIC, Some(store), Some(self.segment.0));
        let common = common.map_err(|error| self.header_error(error))?;
        self.namespace = NamespaceId(common.param as u32);
        self.header = bytemuck::pod_read_unaligned(&page.content()[FILE_HEADER_LEN..META_HEADER_END]);
        let content_len = self.header.content_len.get();
        if content_len < META_HEADER_END as u64 || page_count_of(content_len) != Some(self.page_count) {
            let found = content_len.div_ceil(PAGE_CONTENT_LEN as u64);
            return Err(self.damage("content_len", 0, u64::from(self.page_count), found).into());
        }
        self.content_len = content_len;
        Ok(())
    }

    /// Header errors speak of the content; tell where that is in the file.
    fn header_error(&self, error: HeaderError) -> SegmentError {
        let moved = |mut damage: Damage| {
            damage.offset += self.base + PAGE_HEADER_LEN as u64;
            damage
        };
        match error {
            HeaderError::Damage(damage) => HeaderError::Damage(moved(damage)).into(),
            HeaderError::TooNew(damage) => HeaderError::TooNew(moved(damage)).into(),
        }
    }

    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    pub(crate) fn page_count(&self) -> u32 {
        self.page_count
    }

    pub(crate) fn seqs(&self) -> (Seq, Seq) {
        (Seq(self.header.min_seq.get()), Seq(self.header.max_seq.get()))
    }

    /// Names of database and retention policy.
    pub(crate) fn namespace_name(&self) -> Result<(String, String), SegmentError> {
        let (offset, len) = (self.header.names_offset.get(), u64::from(self.header.names_len.get()));
        let names = self.with_bytes("names", offset, len, |bytes| {
            let mut reader = Reader::new(bytes);
            let names = (reader.text()?.to_owned(), reader.text()?.to_owned());
            reader.is_empty().then_some(names)
        })?;
        names.ok_or_else(|| self.damage("names", offset, 2, 0).into())
    }

    /// Midnights at which row groups were cut.
    pub(crate) fn midnights(&self) -> Result<Vec<i64>, SegmentError> {
        let (offset, count) = (self.header.midnights_offset.get(), self.header.midnight_count.get());
        if count as usize > MAX_MIDNIGHTS {
            return Err(self.damage("midnight_count", 0, MAX_MIDNIGHTS as u64, u64::from(count)).into());
        }
        self.with_bytes("midnights", offset, u64::from(count) * 8, |bytes| {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().map(|word| i64::from_le_bytes(*word)).collect()
        })
    }

    /// Place in the file of byte `offset` of the content.
    pub(crate) fn file_offset(&self, offset: u64) -> u64 {
        let page = offset / PAGE_CONTENT_LEN as u64;
        self.base + page * PAGE_LEN as u64 + PAGE_HEADER_LEN as u64 + offset % PAGE_CONTENT_LEN as u64
    }

    /// Place of a page in the file.
    pub(crate) fn page_offset(&self, number: u32) -> u64 {
        self.base + u64::from(number) * PAGE_LEN as u64
    }

    /// Damage at byte `offset` of the content.
    pub(crate) fn damage(&self, part: &'static str, offset: u64, expected: u64, found: u64) -> Damage {
        Damage { file: self.file.clone(), offset: self.file_offset(offset), part, expected, found }
    }

    /// A page, verified.
    pub(crate) fn page(&self, number: u32) -> Result<Arc<Page>, SegmentError> {
        if let Some(page) = self.cache.get(self.owner, number) {
            return Ok(page);
        }
        let page = Arc::new(self.read_page(number)?);
        self.cache.put(self.owner, number, Arc::clone(&page));
        Ok(page)
    }

    /// A page from the file, verified, past the cache.
    pub(crate) fn read_page(&self, number: u32) -> Result<Page, SegmentError> {
        let offset = self.page_offset(number);
        let mut page = Page::zeroed();
        let read = self.source.copy_at(offset, page.raw_mut());
        read.map_err(|source| SegmentError::Io { file: self.file.clone(), source })?;
        page.verify(self.segment, number, self.page_count).map_err(|(part, expected, found)| Damage {
            file: self.file.clone(),
            offset,
            part,
            expected,
            found,
        })?;
        Ok(page)
    }

    /// Checks that `offset..offset + len` lies in the content; `part` names it if not.
    pub(crate) fn check_range(&self, part: &'static str, offset: u64, len: u64) -> Result<(), SegmentError> {
        if offset.checked_add(len).is_some_and(|end| end <= self.content_len) {
            return Ok(());
        }
        Err(self.damage(part, 0, self.content_len, offset.saturating_add(len)).into())
    }

    /// Lets `read` see `len` bytes of the content, in one piece.
    pub(crate) fn with_bytes<R>(
        &self,
        part: &'static str,
        offset: u64,
        len: u64,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, SegmentError> {
        self.check_range(part, offset, len)?;
        let len = len as usize;
        if len == 0 {
            return Ok(read(&[]));
        }
        let start = (offset % PAGE_CONTENT_LEN as u64) as usize;
        let mut number = (offset / PAGE_CONTENT_LEN as u64) as u32;
        if start + len <= PAGE_CONTENT_LEN {
            return Ok(read(&self.page(number)?.content()[start..start + len]));
        }
        // The pages are there: the range lies in the content, whose length agrees with the number of pages.
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.page(number)?.content()[start..]);
        while bytes.len() < len {
            number += 1;
            let taken = (len - bytes.len()).min(PAGE_CONTENT_LEN);
            bytes.extend_from_slice(&self.page(number)?.content()[..taken]);
        }
        Ok(read(&bytes))
    }

    /// A fixed entry at `offset`.
    pub(crate) fn read<T: Pod>(&self, part: &'static str, offset: u64) -> Result<T, SegmentError> {
        self.with_bytes(part, offset, size_of::<T>() as u64, |bytes| bytemuck::pod_read_unaligned(bytes))
    }

    /// A table of `count` entries of at most 32 bytes.
    pub(crate) fn table<T: Pod>(
        &self,
        part: &'static str,
        offset: u64,
        count: u32,
    ) -> Result<Table<'_, T>, SegmentError> {
        self.check_range(part, offset, u64::from(count) * size_of::<T>() as u64)?;
        if !offset.is_multiple_of(META_ALIGN as u64) {
            return Err(self.damage(part, 0, 0, offset).into());
        }
        Ok(Table { meta: self, offset, count, page: None, entry: std::marker::PhantomData })
    }
}

fn page_count_of(content_len: u64) -> Option<u32> {
    (content_len < u64::from(u32::MAX) * PAGE_CONTENT_LEN as u64).then(|| page_count(content_len))
}

/// A table of fixed entries in the content; keeps the page it read last.
#[derive(Debug)]
pub(crate) struct Table<'a, T> {
    meta: &'a Meta,
    offset: u64,
    count: u32,
    page: Option<(u32, Arc<Page>)>,
    entry: std::marker::PhantomData<T>,
}

impl<T: Pod> Table<'_, T> {
    /// Size and alignment let no entry straddle two pages.
    const FITS: () = assert!(META_ALIGN.is_multiple_of(size_of::<T>()));

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// Place of an entry in the content.
    pub(crate) fn place(&self, index: u32) -> u64 {
        self.offset + u64::from(index) * size_of::<T>() as u64
    }

    /// Entry `index`, which must be below the count.
    pub(crate) fn get(&mut self, index: u32) -> Result<T, SegmentError> {
        const { Self::FITS };
        if index >= self.count {
            let (part, expected) = ("table_index", u64::from(self.count));
            return Err(self.meta.damage(part, self.offset, expected, u64::from(index)).into());
        }
        let offset = self.place(index);
        let number = (offset / PAGE_CONTENT_LEN as u64) as u32;
        let start = (offset % PAGE_CONTENT_LEN as u64) as usize;
        let page = match &mut self.page {
            Some((held, page)) if *held == number => page,
            other => &mut other.insert((number, self.meta.page(number)?)).1,
        };
        Ok(bytemuck::pod_read_unaligned(&page.content()[start..start + size_of::<T>()]))
    }

    /// The first index whose entry begins on a later page than that of `index`.
    pub(crate) fn after_page(&self, index: u32) -> u32 {
        let size = size_of::<T>() as u64;
        let page_end = (self.place(index) / PAGE_CONTENT_LEN as u64 + 1) * PAGE_CONTENT_LEN as u64;
        // Entries never straddle pages, so the end of the page is the place of one.
        u32::try_from((page_end - self.offset) / size).unwrap_or(u32::MAX).max(index.saturating_add(1))
    }

    /// First index of `range` for which `before` is false, given that it is true up to there and false from there.
    pub(crate) fn partition_point(
        &mut self,
        range: std::ops::Range<u32>,
        mut before: impl FnMut(&T) -> bool,
    ) -> Result<u32, SegmentError> {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}
