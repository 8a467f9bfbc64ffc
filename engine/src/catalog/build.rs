//! Writing a catalog file: sorted series, hashes and postings stream through, only the directory is held.

use super::definition::{Definition, encode_definitions};
use super::layout::{
    BLOCK_BYTES, BlockEntry, BlockKind, CATALOG_MAGIC, Footer, HASH_ENTRY_LEN, MAX_INLINE_IDS, PostedIds,
    Posting, block_crc, file_path, put_posting, put_series,
};
use crate::bytes::put_varint;
use crate::file_header::FileHeader;
use crate::ids::{CatalogFileId, MeasurementId, SeriesId, StoreId};
use crate::io::{Disk, File};
use crate::manifest::CatalogEntry;
use roaring::RoaringBitmap;
use std::io;
use std::sync::Arc;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// A catalog file being written under its temporary name. The calls come in the order of the methods.
#[derive(Debug)]
pub(crate) struct FileBuilder {
    file: Arc<dyn File>,
    id: CatalogFileId,
    buffer: Vec<u8>,
    /// Bytes before `buffer`.
    written: u64,
    directory: Vec<BlockEntry>,
    /// The block that grows, its fence, and what its next entry is a difference to.
    block: Vec<u8>,
    fence: u64,
    last_id: SeriesId,
    last_key: Vec<u8>,
    last_posting: Option<(MeasurementId, String)>,
    series_count: u64,
    definition_count: u64,
}

impl FileBuilder {
    pub(crate) fn create(disk: &dyn Disk, store: StoreId, id: CatalogFileId) -> io::Result<Self> {
        let file = disk.create(&temporary_path(id))?;
        let header = FileHeader { magic: CATALOG_MAGIC, store, file_id: id.0, param: 0 };
        Ok(Self {
            file,
            id,
            buffer: header.encode().to_vec(),
            written: 0,
            directory: Vec::new(),
            block: Vec::new(),
            fence: 0,
            last_id: SeriesId(0),
            last_key: Vec::new(),
            last_posting: None,
            series_count: 0,
            definition_count: 0,
        })
    }

    /// First: what is not a series, how many series each measurement has here, and the ids of all of them.
    pub(crate) fn names(
        &mut self,
        names: &[Definition],
        counts: &[(MeasurementId, u64)],
        ids: &RoaringBitmap,
    ) -> io::Result<()> {
        encode_definitions(names, &mut self.block);
        put_varint(&mut self.block, counts.len() as u64);
        for (measurement, count) in counts {
            put_varint(&mut self.block, u64::from(measurement.0));
            put_varint(&mut self.block, *count);
        }
        self.definition_count = names.len() as u64;
        self.close_block(BlockKind::Names)?;
        ids.serialize_into(&mut self.block)?;
        self.close_block(BlockKind::Ids)
    }

    /// Then every series, ids rising strictly.
    pub(crate) fn series(&mut self, id: SeriesId, key: &[u8]) -> io::Result<()> {
        if self.block.is_empty() {
            self.fence = u64::from(id.0);
            self.last_id = id;
            self.last_key.clear();
        }
        put_series(&mut self.block, id.0 - self.last_id.0, &self.last_key, key);
        self.last_id = id;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.series_count += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block(BlockKind::Series) } else { Ok(()) }
    }

    pub(crate) fn end_series(&mut self) -> io::Result<()> {
        self.close_open_block(BlockKind::Series)
    }

    /// Then the hash of every series' key, rising by (hash, id).
    pub(crate) fn hash(&mut self, hash: u64, id: SeriesId) -> io::Result<()> {
        if self.block.is_empty() {
            self.fence = hash;
        }
        self.block.extend_from_slice(&hash.to_le_bytes());
        self.block.extend_from_slice(&id.0.to_le_bytes());
        let full = self.block.len() + HASH_ENTRY_LEN > BLOCK_BYTES;
        if full { self.close_block(BlockKind::Hashes) } else { Ok(()) }
    }

    pub(crate) fn end_hashes(&mut self) -> io::Result<()> {
        self.close_open_block(BlockKind::Hashes)
    }

    /// Then the postings, rising by (measurement, key, value).
    pub(crate) fn posting(
        &mut self,
        (measurement, key, value): (MeasurementId, &str, &str),
        ids: &RoaringBitmap,
    ) -> io::Result<()> {
        let ids = if ids.len() as usize <= MAX_INLINE_IDS {
            PostedIds::List(ids.iter().collect())
        } else {
            // The bitmap's block comes before the block that is still growing.
            let mut bytes = Vec::with_capacity(ids.serialized_size());
            ids.serialize_into(&mut bytes)?;
            PostedIds::Block(self.add_block(BlockKind::Bitmap, 0, &bytes)?)
        };
        if self.block.is_empty() {
            self.fence = u64::from(measurement.0);
            self.last_posting = None;
        }
        let same_key = self.last_posting.as_ref().is_some_and(|(m, k)| *m == measurement && k == key);
        let posting = Posting { measurement, key: key.to_owned(), value: value.to_owned(), ids };
        put_posting(&mut self.block, same_key, &posting);
        if !same_key {
            self.last_posting = Some((measurement, posting.key));
        }
        if self.block.len() >= BLOCK_BYTES { self.close_block(BlockKind::Postings) } else { Ok(()) }
    }

    /// Directory and footer; then the file is made durable under its own name.
    pub(crate) fn finish(mut self, disk: &dyn Disk) -> io::Result<CatalogEntry> {
        self.close_open_block(BlockKind::Postings)?;
        let mut directory = Vec::new();
        self.directory.iter().for_each(|entry| entry.encode(&mut directory));
        let footer = Footer {
            file_id: self.id,
            directory_offset: self.written + self.buffer.len() as u64,
            block_count: self.directory.len() as u32,
            directory_crc: crc32fast::hash(&directory),
            series_count: self.series_count,
            definition_count: self.definition_count + self.series_count,
        };
        self.buffer.append(&mut directory);
        self.buffer.extend_from_slice(&footer.encode());
        self.flush()?;
        self.file.sync_data()?;
        disk.rename(&temporary_path(self.id), &file_path(self.id))?;
        disk.sync_dir("catalog")?;
        Ok(CatalogEntry { id: self.id, file_bytes: self.written, definitions: footer.definition_count })
    }

    fn close_open_block(&mut self, kind: BlockKind) -> io::Result<()> {
        if self.block.is_empty() { Ok(()) } else { self.close_block(kind) }
    }

    fn close_block(&mut self, kind: BlockKind) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let fence = std::mem::take(&mut self.fence);
        self.add_block(kind, fence, &block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn add_block(&mut self, kind: BlockKind, fence: u64, bytes: &[u8]) -> io::Result<u32> {
        let number = self.directory.len() as u32;
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let offset = self.written + self.buffer.len() as u64;
        self.directory.push(BlockEntry { offset, fence, len, crc: block_crc(self.id, number, bytes), kind });
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(number)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Name of a file that is not finished; collected when the store opens.
pub(crate) fn temporary_path(id: CatalogFileId) -> String {
    format!("{}.tmp", file_path(id))
}
