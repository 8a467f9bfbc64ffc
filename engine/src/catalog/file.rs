//! Reading a catalog file: only the blocks a question needs, each copied out and checked every time.
//!
//! Held in memory: the directory (32 bytes per 4 KiB), the bitmap of ids, the number of series of each measurement.

use super::CatalogError;
use super::definition::{Definition, decode_definitions_from};
use super::key::key_hash;
use super::layout::{
    BlockEntry, BlockKind, CATALOG_MAGIC, DIRECTORY_ENTRY_LEN, FOOTER_LEN, Footer, HASH_ENTRY_LEN, PostedIds,
    Posting, PostingWalk, SeriesWalk, block_crc, file_path, read_postings, read_series,
};
use crate::bytes::Reader;
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader, field};
use crate::ids::{CatalogFileId, MeasurementId, SeriesId, StoreId};
use crate::io::reread::RereadMap;
use crate::io::{Disk, Map, ReadMode};
use crate::manifest::CatalogEntry;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A sealed catalog file.
#[derive(Debug)]
pub(crate) struct CatalogFile {
    path: String,
    store: StoreId,
    entry: CatalogEntry,
    map: Arc<dyn Map>,
    /// A block of it could not be read or is not what was written.
    broken: AtomicBool,
    directory: Vec<BlockEntry>,
    /// Numbers of the blocks of a kind, in order of their fences.
    series: Vec<u32>,
    hashes: Vec<u32>,
    postings: Vec<u32>,
    /// Ids of the series it holds.
    pub(crate) ids: RoaringBitmap,
    counts: HashMap<MeasurementId, u64>,
}

impl CatalogFile {
    /// Opens the file and gives what is not a series, in the order to apply it.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        store: StoreId,
        id: CatalogFileId,
        mode: ReadMode,
    ) -> Result<(Self, Vec<Definition>), CatalogError> {
        let path = file_path(id);
        let map = RereadMap::open(disk, &path, mode)
            .map_err(|source| CatalogError::Io { file: path.clone(), source })?;
        Self::read(Arc::new(map), path, store, id)
    }

    /// The same for bytes that lie elsewhere; `path` is how they are called when something is wrong.
    pub(crate) fn read(
        map: Arc<dyn Map>,
        path: String,
        store: StoreId,
        id: CatalogFileId,
    ) -> Result<(Self, Vec<Definition>), CatalogError> {
        let io = |source| CatalogError::Io { file: path.clone(), source };
        let damage = |offset, part, expected, found| {
            CatalogError::Damage(Damage { file: path.clone(), offset, part, expected, found })
        };
        let len = map.len();
        let least = (FILE_HEADER_LEN + FOOTER_LEN) as u64;
        if len < least {
            return Err(damage(0, "catalog file", least, len));
        }
        let mut header = [0; FILE_HEADER_LEN];
        map.copy_at(0, &mut header).map_err(io)?;
        FileHeader::decode(&header, &path, CATALOG_MAGIC, Some(store), Some(id.0))?;
        let footer_at = len - FOOTER_LEN as u64;
        let mut footer = [0; FOOTER_LEN];
        map.copy_at(footer_at, &mut footer).map_err(io)?;
        let crc = (crc32fast::hash(&footer[..60]), u32::from_le_bytes(field(&footer, 60)));
        let footer = Footer::decode(&footer)
            .filter(|footer| footer.file_id == id)
            .ok_or_else(|| damage(footer_at, "footer_crc", u64::from(crc.0), u64::from(crc.1)))?;
        let directory_len = u64::from(footer.block_count) * DIRECTORY_ENTRY_LEN as u64;
        if footer.directory_offset.checked_add(directory_len) != Some(footer_at) {
            return Err(damage(
                footer_at + 16,
                "directory_offset",
                footer_at.saturating_sub(directory_len),
                footer.directory_offset,
            ));
        }
        let mut bytes = vec![0; directory_len as usize];
        map.copy_at(footer.directory_offset, &mut bytes).map_err(io)?;
        let crc = crc32fast::hash(&bytes);
        if crc != footer.directory_crc {
            let (expected, found) = (u64::from(footer.directory_crc), u64::from(crc));
            return Err(damage(footer.directory_offset, "directory_crc", expected, found));
        }
        let malformed = |number: usize| {
            damage(footer.directory_offset + (number * DIRECTORY_ENTRY_LEN) as u64, "directory_entry", 1, 0)
        };
        let mut directory = Vec::with_capacity(footer.block_count as usize);
        let mut at = FILE_HEADER_LEN as u64;
        for (number, entry) in bytes.chunks_exact(DIRECTORY_ENTRY_LEN).enumerate() {
            let entry = BlockEntry::decode(&field(entry, 0)).filter(|entry| entry.offset == at);
            let entry = entry.ok_or_else(|| malformed(number))?;
            at += u64::from(entry.len);
            directory.push(entry);
        }
        if at != footer.directory_offset {
            return Err(malformed(directory.len()));
        }
        let of_kind = |kind| -> Option<Vec<u32>> {
            let numbers = (0_u32..).zip(&directory).filter(|(_, e)| e.kind == kind).map(|(n, _)| n);
            let numbers: Vec<u32> = numbers.collect();
            let sorted = numbers.is_sorted_by_key(|n| directory[*n as usize].fence);
            sorted.then_some(numbers)
        };
        let lists = (of_kind(BlockKind::Series), of_kind(BlockKind::Hashes), of_kind(BlockKind::Postings));
        let (Some(series), Some(hashes), Some(postings)) = lists else {
            return Err(malformed(0));
        };
        let entry = CatalogEntry { id, file_bytes: len, definitions: footer.definition_count };
        let mut file = Self {
            path,
            store,
            entry,
            map,
            broken: AtomicBool::new(false),
            directory,
            series,
            hashes,
            postings,
            ids: RoaringBitmap::new(),
            counts: HashMap::new(),
        };
        let names = file.load_names()?;
        if file.ids.len() != footer.series_count {
            let (expected, found) = (footer.series_count, file.ids.len());
            return Err(CatalogError::Damage(file.damage(1, expected, found)));
        }
        Ok((file, names))
    }

    fn load_names(&mut self) -> Result<Vec<Definition>, CatalogError> {
        if self.directory.len() < 2
            || self.directory[0].kind != BlockKind::Names
            || self.directory[1].kind != BlockKind::Ids
        {
            return Err(CatalogError::Damage(Damage {
                file: self.path.clone(),
                offset: FILE_HEADER_LEN as u64,
                part: BlockKind::Names.name(),
                expected: 1,
                found: 0,
            }));
        }
        let (names, counts) = decode_names(&self.block(0)?).ok_or_else(|| self.damage(0, 1, 0))?;
        self.counts = counts;
        self.ids = self.bitmap(1)?;
        Ok(names)
    }

    /// Where the blocks stand.
    pub(crate) fn directory(&self) -> &[BlockEntry] {
        &self.directory
    }

    pub(crate) fn entry(&self) -> &CatalogEntry {
        &self.entry
    }

    /// Number of series of a measurement in this file.
    pub(crate) fn series_count(&self, measurement: MeasurementId) -> u64 {
        self.counts.get(&measurement).copied().unwrap_or(0)
    }

    /// Number of series of each measurement in this file.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (MeasurementId, u64)> {
        self.counts.iter().map(|(measurement, count)| (*measurement, *count))
    }

    /// Copies a block out and checks the copy.
    pub(crate) fn block(&self, number: u32) -> Result<Vec<u8>, CatalogError> {
        let checked = self.checked_block(number);
        if let Err(error) = &checked
            && !error.is_for_want_of_resources()
        {
            self.broken.store(true, Relaxed);
        }
        checked
    }

    fn checked_block(&self, number: u32) -> Result<Vec<u8>, CatalogError> {
        let entry = self.directory[number as usize];
        let mut bytes = vec![0; entry.len as usize];
        self.map
            .copy_at(entry.offset, &mut bytes)
            .map_err(|source| CatalogError::Io { file: self.path.clone(), source })?;
        let crc = block_crc(self.entry.id, number, &bytes);
        if crc != entry.crc {
            return Err(CatalogError::Damage(self.damage(number, u64::from(entry.crc), u64::from(crc))));
        }
        Ok(bytes)
    }

    /// From now on it counts as one of which a block could not be used.
    pub(crate) fn distrust(&self) {
        self.broken.store(true, Relaxed);
    }

    /// Whether a block of it could not be used since it was opened.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    pub(crate) fn damage(&self, number: u32, expected: u64, found: u64) -> Damage {
        let entry = self.directory[number as usize];
        Damage { file: self.path.clone(), offset: entry.offset, part: entry.kind.name(), expected, found }
    }

    fn malformed(&self, number: u32) -> CatalogError {
        CatalogError::Damage(self.damage(number, 1, 0))
    }

    /// A block of kind Bitmap or Ids.
    pub(crate) fn bitmap(&self, number: u32) -> Result<RoaringBitmap, CatalogError> {
        let block = self.block(number)?;
        let mut rest = block.as_slice();
        let bitmap = RoaringBitmap::deserialize_from(&mut rest).ok().filter(|_| rest.is_empty());
        bitmap.ok_or_else(|| self.malformed(number))
    }

    /// Id of the series with that key; the newest, should a key have several.
    pub(crate) fn series_by_key(&self, key: &[u8]) -> Result<Option<SeriesId>, CatalogError> {
        let hash = key_hash(self.store, key);
        let fence = |number: &u32| self.directory[*number as usize].fence;
        // Equal hashes may begin in the block before the first one whose fence reaches them.
        let first = self.hashes.partition_point(|number| fence(number) < hash).saturating_sub(1);
        let mut newest = None;
        for number in self.hashes[first..].iter().take_while(|number| fence(number) <= hash) {
            let block = self.block(*number)?;
            let (entries, rest) = block.as_chunks::<HASH_ENTRY_LEN>();
            if !rest.is_empty() {
                return Err(self.malformed(*number));
            }
            let start = entries.partition_point(|entry| hash_of(entry).0 < hash);
            for (_, id) in entries[start..].iter().map(hash_of).take_while(|(found, _)| *found == hash) {
                if self.with_key(id, |found| found == key)? == Some(true) {
                    newest = newest.max(Some(id));
                }
            }
        }
        Ok(newest)
    }

    /// Gives the key of a series to `visit`; none if it is not here.
    pub(crate) fn with_key<T>(
        &self,
        id: SeriesId,
        visit: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, CatalogError> {
        let Some(number) = self.series_block(id) else { return Ok(None) };
        let mut walk = self.series_walk(number)?;
        self.find_series(number, &mut walk, id).map(|key| Some(visit(key)))
    }

    /// Number of the block that a series is in; none if it is not here.
    pub(super) fn series_block(&self, id: SeriesId) -> Option<u32> {
        if !self.ids.contains(id.0) {
            return None;
        }
        let fence = |number: &u32| self.directory[*number as usize].fence;
        let after = self.series.partition_point(|number| fence(number) <= u64::from(id.0));
        after.checked_sub(1).map(|index| self.series[index])
    }

    /// A walk through a block of series, which was copied out and checked.
    pub(super) fn series_walk(&self, number: u32) -> Result<SeriesWalk<Vec<u8>>, CatalogError> {
        Ok(SeriesWalk::new(self.block(number)?, self.directory[number as usize].fence))
    }

    /// The key of a series that stands where `walk` does, or after that.
    pub(super) fn find_series<'a>(
        &self,
        number: u32,
        walk: &'a mut SeriesWalk<Vec<u8>>,
        id: SeriesId,
    ) -> Result<&'a [u8], CatalogError> {
        while walk.current().is_none_or(|(found, _)| found < id) {
            // The bitmap promised it.
            if walk.advance() != Some(true) {
                return Err(self.malformed(number));
            }
        }
        let found = walk.current().filter(|(found, _)| *found == id);
        found.map(|(_, key)| key).ok_or_else(|| self.malformed(number))
    }

    /// All series, rising by id, block by block.
    pub(crate) fn series(
        self: &Arc<Self>,
    ) -> impl Iterator<Item = Result<(SeriesId, Vec<u8>), CatalogError>> {
        let file = self.clone();
        blocks(self.series.clone(), move |number| {
            let mut out = Vec::new();
            read_series(&file.block(number)?, file.directory[number as usize].fence, |id, key| {
                out.push((id, key.to_vec()));
                true
            })
            .ok_or_else(|| file.malformed(number))?;
            Ok(out)
        })
    }

    /// All hashes, rising.
    pub(crate) fn hashes(self: &Arc<Self>) -> impl Iterator<Item = Result<(u64, SeriesId), CatalogError>> {
        let file = self.clone();
        blocks(self.hashes.clone(), move |number| {
            let block = file.block(number)?;
            let (entries, rest) = block.as_chunks::<HASH_ENTRY_LEN>();
            if !rest.is_empty() {
                return Err(file.malformed(number));
            }
            Ok(entries.iter().map(hash_of).collect())
        })
    }

    /// All postings from the first that is not below `place`, rising.
    pub(crate) fn postings_from(
        self: &Arc<Self>,
        place: (MeasurementId, &str, &str),
    ) -> Result<impl Iterator<Item = Result<Posting, CatalogError>> + use<>, CatalogError> {
        let numbers = self.posting_blocks(place)?.to_vec();
        let (measurement, key, value) = (place.0, place.1.to_owned(), place.2.to_owned());
        let file = self.clone();
        Ok(blocks(numbers, move |number| {
            let block = file.block(number)?;
            read_postings(&block, (measurement, &*key, &*value)).ok_or_else(|| file.malformed(number))
        }))
    }

    /// The first posting that is not below `place`.
    pub(super) fn first_posting(
        &self,
        place: (MeasurementId, &str, &str),
    ) -> Result<Option<Posting>, CatalogError> {
        for number in self.posting_blocks(place)? {
            let block = self.block(*number)?;
            let found = PostingWalk::new(&block).seek(place).map_err(|_| self.malformed(*number))?;
            if let Some(posting) = found {
                return Ok(Some(posting.to_posting()));
            }
        }
        Ok(None)
    }

    /// Blocks of postings from the last one that does not begin above `place`.
    fn posting_blocks(&self, place: (MeasurementId, &str, &str)) -> Result<&[u32], CatalogError> {
        let (mut low, mut high) = (0, self.postings.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.begins_above(self.postings[middle], place)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(&self.postings[low.saturating_sub(1)..])
    }

    fn begins_above(&self, number: u32, place: (MeasurementId, &str, &str)) -> Result<bool, CatalogError> {
        match self.directory[number as usize].fence.cmp(&u64::from(place.0.0)) {
            Ordering::Less => Ok(false),
            Ordering::Greater => Ok(true),
            Ordering::Equal => {
                let block = self.block(number)?;
                let first = PostingWalk::new(&block).next().map_err(|_| self.malformed(number))?;
                Ok(first.is_some_and(|first| first.place() > place))
            }
        }
    }

    /// The series of exactly that posting, added to `out`.
    pub(crate) fn add_posting(
        &self,
        place: (MeasurementId, &str, &str),
        out: &mut RoaringBitmap,
    ) -> Result<(), CatalogError> {
        match self.first_posting(place)? {
            Some(posting) if posting.place() == place => self.add_ids(&posting.ids, out),
            _ => Ok(()),
        }
    }

    /// The series a posting names, added to `out`.
    pub(crate) fn add_ids(&self, ids: &PostedIds, out: &mut RoaringBitmap) -> Result<(), CatalogError> {
        match ids {
            PostedIds::List(ids) => out.extend(ids),
            PostedIds::Block(number) => {
                let known = self.directory.get(*number as usize).is_some_and(|e| e.kind == BlockKind::Bitmap);
                if !known {
                    return Err(self.malformed(0));
                }
                *out |= self.bitmap(*number)?;
            }
        }
        Ok(())
    }
}

/// Definitions that stand in a names block, and the number of series of each measurement in the file.
pub(crate) type NamesBlock = (Vec<Definition>, HashMap<MeasurementId, u64>);

/// Reads a names block; none if it is not of the form.
pub(crate) fn decode_names(block: &[u8]) -> Option<NamesBlock> {
    let mut reader = Reader::new(block);
    let names = decode_definitions_from(&mut reader).ok()?;
    let count = reader.count(2)?;
    let counts: Option<_> =
        (0..count).map(|_| Some((MeasurementId(reader.varint32()?), reader.varint()?))).collect();
    Some((names, counts.filter(|_| reader.is_empty())?))
}

fn hash_of(entry: &[u8; HASH_ENTRY_LEN]) -> (u64, SeriesId) {
    (u64::from_le_bytes(field(entry, 0)), SeriesId(u32::from_le_bytes(field(entry, 8))))
}

/// What the blocks `numbers` hold, each read when its turn comes. Ends after the first error.
fn blocks<T>(
    numbers: Vec<u32>,
    mut read: impl FnMut(u32) -> Result<Vec<T>, CatalogError>,
) -> impl Iterator<Item = Result<T, CatalogError>> {
    let mut numbers = numbers.into_iter();
    let mut current = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(item) = current.next() {
                return Some(Ok(item));
            }
            match read(numbers.next()?) {
                Ok(items) => current = items.into_iter(),
                // Who wants all stops here; who wants what is left goes on with the next block.
                Err(error) => return Some(Err(error)),
            }
        }
    })
}
