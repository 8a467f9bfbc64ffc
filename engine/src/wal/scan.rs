//! Reading one log file in bounded pieces: the header at an offset, the next header after one, a payload.
//!
//! A piece that the disk cannot read counts as zeros, which are never a record, and is remembered: an unreadable sector
//! costs the records on it, not the start of the store.

use crate::error::Damage;
use crate::ids::{LogId, StoreId};
use crate::io::File;
use crate::wal::record::{MAX_PAYLOAD_LEN, RECORD_HEADER_LEN, RECORD_MAGIC, RecordHeader};
use std::sync::Arc;

/// Bytes read at once. A payload longer than that is read whole, up to [`MAX_PAYLOAD_LEN`].
const WINDOW_BYTES: usize = 1 << 20;
/// Unit in which an unreadable stretch is tried again.
const SECTOR_BYTES: usize = 4096;

/// A log file being read.
#[derive(Debug)]
pub(crate) struct LogScan {
    file: Arc<dyn File>,
    pub(crate) path: String,
    store: StoreId,
    id: LogId,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    pub(crate) unreadable: Vec<Damage>,
}

impl LogScan {
    pub(crate) fn new(file: Arc<dyn File>, path: String, store: StoreId, id: LogId, len: u64) -> Self {
        Self { file, path, store, id, len, window: Vec::new(), window_at: 0, unreadable: Vec::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes at `offset`; fewer at the end of the file.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> &[u8] {
        let len = len.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        if len == 0 {
            // A record whose payload is cut off is stepped over by its length: behind the end of the file.
            return &[];
        }
        let loaded =
            offset >= self.window_at && offset + len as u64 <= self.window_at + self.window.len() as u64;
        if !loaded {
            self.load(offset, len);
        }
        let at = (offset - self.window_at) as usize;
        &self.window[at..at + len]
    }

    /// Puts the window at `offset`, with `len` bytes at least.
    fn load(&mut self, offset: u64, len: usize) {
        let rest = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
        let wanted = rest.min(len.max(WINDOW_BYTES));
        self.window.clear();
        self.window.resize(wanted, 0);
        self.window_at = offset;
        // Short only at the end of the file, which is not before `len` unless someone cuts the file: zeros then.
        if self.file.read_at(offset, &mut self.window).is_ok() {
            return;
        }
        for (index, sector) in self.window.chunks_mut(SECTOR_BYTES).enumerate() {
            let at = offset + (index * SECTOR_BYTES) as u64;
            if let Err(error) = self.file.read_at(at, sector) {
                sector.fill(0);
                tracing::error!(file = %self.path, offset = at, %error, "a log cannot be read here");
                let (expected, found) = (sector.len() as u64, 0);
                let damage =
                    Damage { file: self.path.clone(), offset: at, part: "unreadable", expected, found };
                if !self.unreadable.contains(&damage) {
                    self.unreadable.push(damage);
                }
            }
        }
    }

    /// The header at `offset`, if there is a whole one of this log.
    pub(crate) fn header_at(&mut self, offset: u64) -> Option<RecordHeader> {
        if offset + RECORD_HEADER_LEN as u64 > self.len {
            return None;
        }
        let (store, id) = (self.store, self.id);
        RecordHeader::decode(self.bytes(offset, RECORD_HEADER_LEN), store, id, offset)
    }

    /// The first whole header of this log at or after `offset`, found by its magic.
    pub(crate) fn find_header(&mut self, mut offset: u64) -> Option<(u64, RecordHeader)> {
        // In a whole log the next header follows at once: no window is read anew for it.
        if let Some(header) = self.header_at(offset) {
            return Some((offset, header));
        }
        let (store, id) = (self.store, self.id);
        while offset + RECORD_HEADER_LEN as u64 <= self.len {
            let piece = self.bytes(offset, WINDOW_BYTES);
            // Only where a whole header fits; the rest is looked at again with the bytes that follow.
            let starts = piece.len() - RECORD_HEADER_LEN + 1;
            let mut at = 0;
            while let Some(step) = piece[at..starts].iter().position(|&byte| byte == RECORD_MAGIC[0]) {
                at += step;
                let place = offset + at as u64;
                if let Some(header) = RecordHeader::decode(&piece[at..], store, id, place) {
                    return Some((place, header));
                }
                at += 1;
            }
            offset += starts as u64;
        }
        None
    }

    /// The payload behind `header` at `offset`, if it is all there and its checksum fits; else what was found.
    pub(crate) fn payload(&mut self, offset: u64, header: &RecordHeader) -> Result<&[u8], Damage> {
        let len = header.payload_len as usize;
        debug_assert!(len <= MAX_PAYLOAD_LEN, "decode refuses longer ones");
        let start = offset + RECORD_HEADER_LEN as u64;
        if start + len as u64 > self.len {
            let (expected, found) = (len as u64, self.len.saturating_sub(start));
            return Err(Damage {
                file: self.path.clone(),
                offset: start,
                part: "payload_len",
                expected,
                found,
            });
        }
        let crc = crc32fast::hash(self.bytes(start, len));
        if crc != header.payload_crc {
            let (expected, found) = (u64::from(header.payload_crc), u64::from(crc));
            return Err(Damage {
                file: self.path.clone(),
                offset: start,
                part: "payload_crc",
                expected,
                found,
            });
        }
        Ok(self.bytes(start, len))
    }

    /// Whether the bytes at `offset` look like a record of this log that was torn: our magic and id, but no whole header.
    pub(crate) fn looks_torn(&mut self, offset: u64) -> bool {
        let id = self.id.0.to_le_bytes();
        let bytes = self.bytes(offset, RECORD_HEADER_LEN);
        bytes.starts_with(&RECORD_MAGIC) && bytes.get(16..24).is_some_and(|found| found == id)
    }
}
