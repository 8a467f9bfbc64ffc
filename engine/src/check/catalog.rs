//! Catalog files: every block decoded, and the three ways to a series (id, hash, posting) compared with each other.

use super::{DumpLine, FileReport, Owner, field_lines, header_lines};
use crate::catalog::{
    BlockEntry, BlockKind, CatalogError, CatalogFile, DIRECTORY_ENTRY_LEN, DIRECTORY_PARTS, FOOTER_LEN,
    FOOTER_PARTS, key_hash, parse_key, read_postings, read_series,
};
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, field};
use crate::ids::{CatalogFileId, MeasurementId, SeriesId, StoreId};
use crate::io::{Disk, ReadMode, open_sealed, read_all};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Longest catalog file that is dumped.
const MAX_DUMP_BYTES: u64 = 1 << 30;

/// Verifies one file.
pub(super) fn verify_file(disk: &dyn Disk, path: &str, owner: Owner) -> FileReport {
    let mut report = FileReport::new(path);
    if let Err(error) = prove(disk, path, owner, &mut report) {
        report.damage.push(match error {
            CatalogError::Damage(damage) | CatalogError::TooNew(damage) => damage,
            CatalogError::Io { source, .. } => super::unreadable(path, &source),
        });
    }
    report
}

fn prove(disk: &dyn Disk, path: &str, owner: Owner, report: &mut FileReport) -> Result<(), CatalogError> {
    let io = |source| CatalogError::Io { file: path.to_owned(), source };
    let map = open_sealed(disk, path, ReadMode::Pread).map_err(io)?;
    report.bytes = map.len();
    let mut header = [0; FILE_HEADER_LEN];
    if map.len() >= FILE_HEADER_LEN as u64 {
        map.copy_at(0, &mut header).map_err(io)?;
    }
    // What the file says of itself where nothing else is known; a header that is damaged is found by the open.
    let store = owner.store.unwrap_or(StoreId(field(&header, 24)));
    let id = CatalogFileId(owner.file_id.unwrap_or(u64::from_le_bytes(field(&header, 40))));
    let (file, names) = CatalogFile::read(map, path.to_owned(), store, id)?;
    let file = Arc::new(file);
    for number in 0..file.directory().len() as u32 {
        match file.block(number) {
            Ok(_) => report.blocks += 1,
            Err(CatalogError::Damage(damage)) => report.damage.push(damage),
            Err(error) => return Err(error),
        }
    }
    if report.damage.is_empty() {
        let found = Content::of(&file, store)?;
        report.damage.extend(found.compare(&file, names.len() as u64)?);
    }
    Ok(())
}

/// What the series of a file say must stand in its other blocks.
struct Content {
    ids: RoaringBitmap,
    counts: BTreeMap<MeasurementId, u64>,
    hashes: Vec<(u64, SeriesId)>,
    postings: BTreeMap<(MeasurementId, String, String), RoaringBitmap>,
}

impl Content {
    fn of(file: &Arc<CatalogFile>, store: StoreId) -> Result<Self, CatalogError> {
        let mut content = Self {
            ids: RoaringBitmap::new(),
            counts: BTreeMap::new(),
            hashes: Vec::new(),
            postings: BTreeMap::new(),
        };
        for series in file.series() {
            let (id, key) = series?;
            let Some((measurement, tags)) = parse_key(&key) else {
                return Err(file.damage(0, u64::from(id.0), 0).into());
            };
            content.ids.insert(id.0);
            *content.counts.entry(measurement).or_default() += 1;
            content.hashes.push((key_hash(store, &key), id));
            let mut post = |key: &str, value: &str| {
                let place = (measurement, key.to_owned(), value.to_owned());
                content.postings.entry(place).or_default().insert(id.0);
            };
            post("", "");
            for (key, value) in tags.iter() {
                post(key, "");
                post(key, value);
            }
        }
        content.hashes.sort_unstable();
        Ok(content)
    }

    /// The first block of each kind that says something else.
    fn compare(self, file: &Arc<CatalogFile>, names: u64) -> Result<Vec<Damage>, CatalogError> {
        let mut damage = Vec::new();
        let mut tell = |kind: BlockKind, expected: u64, found: u64| {
            let number = file.directory().iter().position(|entry| entry.kind == kind).unwrap_or(0);
            damage.push(Damage { part: kind.name(), ..file.damage(number as u32, expected, found) });
        };
        let counts: BTreeMap<MeasurementId, u64> = file.counts().collect();
        if counts != self.counts || file.entry().definitions != names + self.ids.len() {
            tell(BlockKind::Names, names + self.ids.len(), file.entry().definitions);
        }
        if file.ids != self.ids {
            tell(BlockKind::Ids, self.ids.len(), file.ids.len());
        }
        let hashes = file.hashes().collect::<Result<Vec<_>, _>>()?;
        if hashes != self.hashes {
            tell(BlockKind::Hashes, self.hashes.len() as u64, hashes.len() as u64);
        }
        let mut postings = BTreeMap::new();
        for posting in file.postings_from((MeasurementId(0), "", ""))? {
            let posting = posting?;
            let mut ids = RoaringBitmap::new();
            file.add_ids(&posting.ids, &mut ids)?;
            postings.insert((posting.measurement, posting.key, posting.value), ids);
        }
        if postings != self.postings {
            tell(BlockKind::Postings, self.postings.len() as u64, postings.len() as u64);
        }
        Ok(damage)
    }
}

/// What stands where in a catalog file.
pub(super) fn dump_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    let bytes = read_all(disk, path, MAX_DUMP_BYTES)?;
    let mut out = Vec::new();
    header_lines(&bytes, &mut out);
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_LEN).filter(|at| *at >= FILE_HEADER_LEN) else {
        return Ok(out);
    };
    let footer = &bytes[footer_at..];
    let start = usize::try_from(u64::from_le_bytes(field(footer, 16))).unwrap_or(usize::MAX);
    let directory = bytes[..footer_at].get(start..).unwrap_or_default();
    let entries = directory.as_chunks::<DIRECTORY_ENTRY_LEN>().0;
    for entry in entries.iter().filter_map(BlockEntry::decode) {
        let place = usize::try_from(entry.offset).ok();
        let block = place.and_then(|at| bytes.get(at..at.checked_add(entry.len as usize)?));
        let value = block.and_then(|block| content(&entry, block)).unwrap_or_else(|| "damaged".to_owned());
        let (offset, len) = (entry.offset, u64::from(entry.len));
        out.push(DumpLine { offset, len, part: entry.kind.name(), value });
    }
    for (number, entry) in entries.iter().enumerate() {
        field_lines(DIRECTORY_PARTS, entry, (start + number * DIRECTORY_ENTRY_LEN) as u64, &mut out);
    }
    field_lines(FOOTER_PARTS, footer, footer_at as u64, &mut out);
    Ok(out)
}

/// A block in words; none if it is not of its form.
fn content(entry: &BlockEntry, block: &[u8]) -> Option<String> {
    Some(match entry.kind {
        BlockKind::Names => format!("{:?}", crate::catalog::decode_names(block)?),
        BlockKind::Ids | BlockKind::Bitmap => {
            format!("{} ids", RoaringBitmap::deserialize_from(block).ok()?.len())
        }
        BlockKind::Series => {
            let mut text = Vec::new();
            read_series(block, entry.fence, |id, key| {
                text.push(
                    parse_key(key).map(|(measurement, tags)| format!("{id:?} {measurement:?} {tags:?}")),
                );
                true
            })?;
            text.into_iter().collect::<Option<Vec<_>>>()?.join("; ")
        }
        BlockKind::Hashes => format!("{} hashes", block.len() / crate::catalog::HASH_ENTRY_LEN),
        BlockKind::Postings => {
            let postings = read_postings(block, (MeasurementId(0), "", ""))?;
            let line = |p: &crate::catalog::Posting| {
                format!("{:?} {:?}={:?} {:?}", p.measurement, p.key, p.value, p.ids)
            };
            postings.iter().map(line).collect::<Vec<_>>().join("; ")
        }
    })
}
