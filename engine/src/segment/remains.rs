//! What can still be read of a damaged segment, page by page and block by block: for `salvage`.
//!
//! The ends of the file may be cut off or damaged: the meta region is then found by the checksum of its first page. Of
//! the meta region each page counts by itself; a page that is damaged or behind the end of the file costs what it describes.
//! Without its first page (it says where everything is) nothing is left.
//!
//! Invariants
//! 1. A value is given out only if its block, the times of its group and all pages that led there passed their checksums.
//! 2. Blocks are read in the order in which they tile the file, each once: bytes with right checksums and wrong meaning
//!    cost no more time than the file is long, and a group no more memory than [`MAX_PIECE_BYTES`] beside one block.

use super::block;
use super::ends::peek_identity;
use super::entry::SegmentSpec;
use super::error::{SegmentError, io_error};
use super::layout::{
    BlockEntry, HEADER_LEN, KEY_CHUNK_SERIES, PAGE_CONTENT_LEN, PAGE_HEADER_LEN, PAGE_LEN, PAGE_MAGIC,
    PageHeader, SectionEntry, TIME_FIELD,
};
use super::meta::{Meta, Table};
use super::page::{Page, PageCache};
use super::reader::{OWN_CACHE_PAGES, RowGroup, Segment};
use super::section::Section;
use crate::column::{Column, Presence, SeriesRows, Values};
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{SegmentId, SeriesId, StoreId};
use crate::io::{Disk, Map, ReadMode, open_sealed};
use bytemuck::Zeroable;
use std::io;
use std::sync::{Arc, OnceLock};
use wattlog_model::TagSet;

/// Bytes of decoded columns of one group that are handed on together.
const MAX_PIECE_BYTES: usize = 16 << 20;
/// A meta region is not looked for further behind the end of a cut file than this many pages: 256 MiB.
const MAX_MISSING_PAGES: u64 = 1 << 16;
/// Bytes read at once in search of a meta region.
const SEARCH_BYTES: usize = 1 << 20;

/// A segment of which not everything may be left.
#[derive(Debug)]
pub(crate) struct Remains {
    segment: Segment,
    /// Found at opening.
    lost: Vec<Lost>,
}

/// Something that cannot be read, as far as one can tell what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Where, and what did not fit.
    pub damage: Damage,
    /// Measurement of what is lost; none if it may be any.
    pub measurement: Option<Arc<str>>,
    /// Field of what is lost; none for all fields.
    pub field: Option<Arc<str>>,
    /// Times of the first and the last point concerned; none if it may be any.
    pub times: Option<(i64, i64)>,
}

impl Lost {
    /// All that one can say is where the damage is.
    pub(crate) fn anything(damage: Damage) -> Self {
        Self { damage, measurement: None, field: None, times: None }
    }

    fn of_section(section: &Section, error: &SegmentError) -> Self {
        Self { measurement: Some(section.name().clone()), ..Self::anything(error.to_damage()) }
    }
}

/// Rows of one group, or some of its columns.
pub(crate) struct Piece<'a> {
    pub(crate) section: &'a Section,
    pub(crate) series: SeriesId,
    /// None if what names the series in this file is damaged.
    pub(crate) tags: Option<&'a TagSet>,
    pub(crate) rows: &'a SeriesRows,
}

/// Takes what is found.
pub(crate) trait Finder {
    fn found(&mut self, piece: &Piece<'_>) -> io::Result<()>;
    fn lost(&mut self, lost: Lost);
}

impl Remains {
    /// Opens what is left of the file at `path`, which must be one of `store`.
    ///
    /// # Errors
    /// If nothing can be read of it: `Damage` without the first page of its meta region, or for a file of another store.
    pub(crate) fn open(disk: &dyn Disk, path: &str, store: StoreId) -> Result<Self, SegmentError> {
        let data = open_sealed(disk, path, ReadMode::Pread).map_err(|source| io_error(path, source))?;
        if let Some((own, id)) = peek_identity(&*data)
            && own == store
            && let Ok(segment) = Segment::open(disk, path, store, id, ReadMode::Pread)
        {
            return Ok(Self { segment, lost: Vec::new() });
        }
        let found = find_meta(&*data).map_err(|source| io_error(path, source))?;
        let Some((base, header)) = found else {
            let (file, len) = (path.to_owned(), data.len());
            return Err(Damage { file, offset: 0, part: "meta_page", expected: 1, found: len }.into());
        };
        let mut lost = Vec::new();
        let end = Damage { file: path.to_owned(), offset: base, part: "segment ends", expected: 1, found: 0 };
        lost.push(Lost::anything(end));
        let there = data.len().saturating_sub(base) / PAGE_LEN as u64;
        let pages = u64::from(header.page_count.get()).min(there + MAX_MISSING_PAGES) as u32;
        let identity = (store, SegmentId(header.segment.get()));
        let cache = Arc::new(PageCache::new(OWN_CACHE_PAGES));
        let meta = Meta::of_pages(Arc::clone(&data), (path.to_owned(), base), pages, identity, cache)?;
        Ok(Self { segment: without_ends(data, meta, store, &mut lost), lost })
    }

    /// What the segment says of itself; names of database and policy are empty if they are lost.
    pub(crate) fn spec(&self) -> &SegmentSpec {
        self.segment.spec()
    }

    /// Sections that can be read.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Arc<Section>> {
        (0..self.segment.sections.len()).filter_map(|index| self.segment.section_at(index).ok())
    }

    /// Names of the series of a section as far as they can be read.
    pub(crate) fn series_keys(&self, section: &Section, visit: &mut dyn FnMut(SeriesId, TagSet)) {
        let Ok(mut series) = section.series_table(&self.segment.meta) else { return };
        let mut ordinal = 0;
        while ordinal < series.len() {
            let chunk = ordinal / KEY_CHUNK_SERIES as u32;
            for (at, tags) in section.key_chunk(&self.segment.meta, chunk).into_iter().flatten().enumerate() {
                if let Ok(entry) = series.get(ordinal + at as u32) {
                    visit(SeriesId(entry.series.get()), tags);
                }
            }
            ordinal = ordinal.saturating_add(KEY_CHUNK_SERIES as u32);
        }
    }

    /// Gives all that can be read to `finder`, by section, series and time, and tells it what cannot.
    ///
    /// # Errors
    /// The finder's.
    pub(crate) fn walk(&self, finder: &mut dyn Finder) -> io::Result<()> {
        self.lost.iter().for_each(|lost| finder.lost(lost.clone()));
        let mut next_offset = HEADER_LEN as u64;
        for index in 0..self.segment.sections.len() {
            match self.segment.section_at(index) {
                Ok(section) => {
                    let mut walk = Walk {
                        segment: &self.segment,
                        section: &section,
                        next_group: 0,
                        next_block: 0,
                        next_offset,
                        finder,
                    };
                    let walked = walk.series();
                    next_offset = walk.next_offset;
                    walked?;
                }
                Err(error) => finder.lost(Lost::anything(error.to_damage())),
            }
        }
        Ok(())
    }
}

/// Whose a file is, by its header or, if that is damaged, by its meta region.
pub(crate) fn identity(data: &dyn Map) -> Option<StoreId> {
    if let Some((store, _)) = peek_identity(data) {
        return Some(store);
    }
    let (base, _) = find_meta(data).ok()??;
    let mut common = [0; FILE_HEADER_LEN];
    data.copy_at(base + PAGE_HEADER_LEN as u64, &mut common).ok()?;
    FileHeader::decode(&common, "", super::layout::META_MAGIC, None, None).ok().map(|header| header.store)
}

/// The last place where a whole first page of a meta region stands: what a user's text could hold stands before it.
fn find_meta(data: &dyn Map) -> io::Result<Option<(u64, PageHeader)>> {
    let len = data.len();
    let mut found = None;
    let mut window = vec![0; SEARCH_BYTES + PAGE_HEADER_LEN];
    let mut start = HEADER_LEN as u64;
    while start + PAGE_LEN as u64 <= len {
        let window_len = window.len().min(usize::try_from(len - start).unwrap_or(usize::MAX));
        let piece = &mut window[..window_len];
        if data.copy_at(start, piece).is_err() {
            // A stretch that the device does not give: sector by sector.
            piece.fill(0);
            for (at, sector) in piece.chunks_mut(HEADER_LEN).enumerate() {
                if data.copy_at(start + (at * HEADER_LEN) as u64, sector).is_err() {
                    sector.fill(0);
                }
            }
        }
        for at in (0..piece.len().min(SEARCH_BYTES)).step_by(HEADER_LEN) {
            let Some(header) = piece.get(at..at + PAGE_HEADER_LEN) else { break };
            let header: PageHeader = bytemuck::pod_read_unaligned(header);
            let offset = start + at as u64;
            if header.page_magic.get() != PAGE_MAGIC
                || header.page_number.get() != 0
                || offset + PAGE_LEN as u64 > len
            {
                continue;
            }
            let mut page = Page::zeroed();
            let (segment, count) = (SegmentId(header.segment.get()), header.page_count.get());
            let whole =
                data.copy_at(offset, page.raw_mut()).is_ok() && page.verify(segment, 0, count).is_ok();
            if whole && count > 0 {
                found = Some((offset, header));
            }
        }
        start += SEARCH_BYTES as u64;
    }
    Ok(found)
}

/// A segment by its meta region alone. What cannot be read of the directory is left out.
fn without_ends(data: Arc<dyn Map>, meta: Meta, store: StoreId, lost: &mut Vec<Lost>) -> Segment {
    let (min_seq, max_seq) = meta.seqs();
    let mut note = |error: SegmentError| lost.push(Lost::anything(error.to_damage()));
    let spec = SegmentSpec {
        store,
        id: meta.segment(),
        namespace: meta.namespace,
        namespace_name: meta.namespace_name().map_err(&mut note).unwrap_or_default(),
        min_seq,
        max_seq,
        first_day: meta.header.first_day.get(),
        end_day: meta.header.end_day.get(),
        midnights: Vec::new(),
    };
    let (count, offset) = (meta.header.section_count.get(), meta.header.directory_offset.get());
    let entry_len = size_of::<SectionEntry>() as u64;
    let mut sections = Vec::new();
    if let Err(error) = meta.check_range("section_count", offset, u64::from(count) * entry_len) {
        note(error);
    } else {
        let mut at = offset;
        while at < offset + u64::from(count) * entry_len {
            match meta.read::<SectionEntry>("section", at) {
                Ok(entry) => {
                    sections.push((entry, OnceLock::new()));
                    at += entry_len;
                }
                Err(error) => {
                    note(error);
                    // On with the first entry that begins on a later page.
                    let page_end = (at / PAGE_CONTENT_LEN as u64 + 1) * PAGE_CONTENT_LEN as u64;
                    at += (page_end - at).div_ceil(entry_len) * entry_len;
                }
            }
        }
    }
    let footer = super::layout::Footer { data_end: meta.header.data_end, ..Zeroable::zeroed() };
    Segment { data, meta, spec, footer, sections }
}

/// The walk through one section.
struct Walk<'a> {
    segment: &'a Segment,
    section: &'a Section,
    next_group: u32,
    next_block: u32,
    /// Blocks follow each other in the file; none may begin before this.
    next_offset: u64,
    finder: &'a mut dyn Finder,
}

impl Walk<'_> {
    fn lose(&mut self, error: &SegmentError) {
        self.finder.lost(Lost::of_section(self.section, error));
    }

    /// Something in a group; all its fields if none is named.
    fn lose_in(&mut self, group: &RowGroup, place: Option<usize>, error: &SegmentError) {
        let field = place.and_then(|place| self.section.fields().get(place)).map(|field| field.name.clone());
        let times = Some((group.first_time, group.last_time));
        self.finder.lost(Lost { field, times, ..Lost::of_section(self.section, error) });
    }

    fn series(&mut self) -> io::Result<()> {
        let (segment, section) = (self.segment, self.section);
        let tables = || {
            let meta = &segment.meta;
            Ok((section.series_table(meta)?, section.group_table(meta)?, section.block_table(meta)?))
        };
        let (mut series, mut groups, mut blocks) = match tables() {
            Ok(tables) => tables,
            Err(error) => {
                self.lose(&error);
                return Ok(());
            }
        };
        let mut keys: (Option<u32>, Vec<TagSet>) = (None, Vec::new());
        let mut ordinal = 0;
        while ordinal < series.len() {
            let entry = match series.get(ordinal) {
                Ok(entry) => entry,
                Err(error) => {
                    self.lose(&error);
                    ordinal = series.after_page(ordinal);
                    continue;
                }
            };
            let chunk = ordinal / KEY_CHUNK_SERIES as u32;
            if keys.0 != Some(chunk) {
                // Names that are lost here may be told elsewhere; who cannot find them says so.
                keys = (Some(chunk), section.key_chunk(&segment.meta, chunk).unwrap_or_default());
            }
            let tags = keys.1.get(ordinal as usize % KEY_CHUNK_SERIES);
            ordinal += 1;
            let first = entry.first_group.get();
            let end = first.saturating_add(entry.group_count.get());
            if first < self.next_group || end > groups.len() {
                let (expected, found) = (u64::from(self.next_group), u64::from(first));
                let damage =
                    segment.meta.damage("series.first_group", series.place(ordinal - 1), expected, found);
                self.lose(&damage.into());
                continue;
            }
            self.next_group = end;
            let mut at = first;
            while at < end {
                if let Err(error) = groups.get(at) {
                    self.lose(&error);
                    at = groups.after_page(at);
                    continue;
                }
                match segment.row_group(section.index, at, &mut groups) {
                    Ok(group) => {
                        self.group((SeriesId(entry.series.get()), tags), &group, &mut blocks)?;
                    }
                    Err(error) => self.lose(&error),
                }
                at += 1;
            }
        }
        Ok(())
    }

    fn group(
        &mut self,
        series: (SeriesId, Option<&TagSet>),
        group: &RowGroup,
        blocks: &mut Table<'_, BlockEntry>,
    ) -> io::Result<()> {
        let mut gathered = Gathered::default();
        if !self.advance(group, group.offset(), group.compact_len()) {
            return Ok(());
        }
        if group.compact {
            self.compact(series, group, &mut gathered)?;
        } else {
            self.blocks(series, group, blocks, &mut gathered)?;
        }
        self.hand_on(series, &mut gathered)
    }

    /// Whether bytes lie behind all that was read before.
    fn advance(&mut self, group: &RowGroup, offset: u64, len: u32) -> bool {
        if offset < self.next_offset {
            let damage = self.segment.damage("block_place", offset, self.next_offset, offset);
            self.lose_in(group, None, &damage.into());
            return false;
        }
        self.next_offset = offset.saturating_add(u64::from(len));
        true
    }

    fn blocks(
        &mut self,
        series: (SeriesId, Option<&TagSet>),
        group: &RowGroup,
        blocks: &mut Table<'_, BlockEntry>,
        gathered: &mut Gathered,
    ) -> io::Result<()> {
        let (first, count) = group.block_range();
        let end = first.saturating_add(count);
        if first < self.next_block || end > blocks.len() || count == 0 {
            let (expected, found) = (u64::from(self.next_block), u64::from(first));
            let damage = self.segment.meta.damage("group.first_block", 0, expected, found);
            self.lose_in(group, None, &damage.into());
            return Ok(());
        }
        self.next_block = end;
        let mut at = first;
        while at < end {
            let entry = match blocks.get(at) {
                Ok(entry) => entry,
                Err(error) => {
                    self.lose_in(group, None, &error);
                    if at == first {
                        // Without its times no value has a place.
                        return Ok(());
                    }
                    at = blocks.after_page(at);
                    continue;
                }
            };
            let offset = group.offset().saturating_add(u64::from(entry.offset.get()));
            let is_time = at == first;
            at += 1;
            let place = (!is_time).then_some(usize::from(entry.field.get()));
            if !self.advance(group, offset, entry.len.get()) {
                continue;
            }
            let read = self.block(group, &entry, offset, gathered);
            if let Err(error) = read {
                self.lose_in(group, place, &error);
                if is_time {
                    return Ok(());
                }
            }
            if gathered.bytes >= MAX_PIECE_BYTES {
                self.hand_on(series, gathered)?;
            }
        }
        Ok(())
    }

    fn block(
        &self,
        group: &RowGroup,
        entry: &BlockEntry,
        offset: u64,
        gathered: &mut Gathered,
    ) -> Result<(), SegmentError> {
        let (segment, crc) = (self.segment, entry.crc.get());
        segment.with_verified(offset, entry.len.get(), crc, "block_crc", |bytes| {
            if gathered.rows.times.is_empty() {
                return segment.list_times(bytes, group, offset, &mut gathered.rows.times);
            }
            self.field(group, entry.field.get(), (bytes, entry.presence, offset), gathered)
        })
    }

    fn field(
        &self,
        group: &RowGroup,
        place: u16,
        (bytes, presence, offset): (&[u8], u8, u64),
        gathered: &mut Gathered,
    ) -> Result<(), SegmentError> {
        let (segment, section) = (self.segment, self.section);
        let Some(field) = section.fields().get(usize::from(place)) else {
            let fields = section.fields().len() as u64;
            return Err(segment.damage("block.field", offset, fields, u64::from(place)).into());
        };
        let texts = section.texts(&segment.meta, usize::from(place))?;
        let mut column = Column { presence: Presence::All, values: Values::new(field.field_type) };
        block::decode(bytes, presence, group.rows as usize, field.field_type, &texts, &mut column)
            .map_err(|bad| segment.bad_block("field_block", offset, bad))?;
        gathered.bytes += bytes_of(&column);
        gathered.rows.columns.push((field.id, column));
        Ok(())
    }

    fn compact(
        &mut self,
        series: (SeriesId, Option<&TagSet>),
        group: &RowGroup,
        gathered: &mut Gathered,
    ) -> io::Result<()> {
        let segment = self.segment;
        // One checksum covers the group: it is copied once, and its blocks are taken out of the copy.
        let bytes = match segment.with_compact(group, |bytes| Ok(bytes.to_vec())) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.lose_in(group, None, &error);
                return Ok(());
            }
        };
        let mut at = 0;
        while let Some(block) = block::take_compact(&bytes, &mut at) {
            let block = match block {
                Ok(block) => block,
                Err(bad) => {
                    let error = segment.bad_block("compact_group", group.offset(), bad);
                    self.lose_in(group, None, &error);
                    return Ok(());
                }
            };
            let offset = group.offset() + block.offset as u64;
            if block.field == TIME_FIELD {
                let read = segment.list_times(block.bytes, group, offset, &mut gathered.rows.times);
                if let Err(error) = read {
                    self.lose_in(group, None, &error);
                    return Ok(());
                }
                continue;
            }
            let part = (block.bytes, block.presence, offset);
            if let Err(error) = self.field(group, block.field, part, gathered) {
                self.lose_in(group, Some(usize::from(block.field)), &error);
            }
            if gathered.bytes >= MAX_PIECE_BYTES && !gathered.rows.times.is_empty() {
                self.hand_on(series, gathered)?;
            }
        }
        if gathered.rows.times.is_empty() {
            gathered.rows.columns.clear();
            let damage = segment.damage("time_block", group.offset(), 1, 0);
            self.lose_in(group, None, &damage.into());
        }
        Ok(())
    }

    /// Gives the columns gathered so far; the times stay for those that follow.
    fn hand_on(
        &mut self,
        (series, tags): (SeriesId, Option<&TagSet>),
        gathered: &mut Gathered,
    ) -> io::Result<()> {
        if !gathered.rows.columns.is_empty() {
            self.finder.found(&Piece { section: self.section, series, tags, rows: &gathered.rows })?;
            gathered.rows.columns.clear();
            gathered.bytes = 0;
        }
        Ok(())
    }
}

/// Columns of a group that were decoded.
#[derive(Default)]
struct Gathered {
    rows: SeriesRows,
    bytes: usize,
}

fn bytes_of(column: &Column) -> usize {
    match &column.values {
        Values::String(texts) => texts.iter().map(|text| 16 + text.len()).sum(),
        values => 8 * values.len(),
    }
}
