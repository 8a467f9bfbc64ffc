//! Manifest files: every edit decoded and applied in order.

use super::{DumpLine, FileReport, Owner, entries, field_lines, header_lines, unreadable};
use crate::file_header::{FILE_HEADER_LEN, FileHeader, field};
use crate::ids::StoreId;
use crate::io::{Disk, read_all};
use crate::manifest::{Edit, MANIFEST_MAGIC, RECORD_HEADER_LEN, RECORD_PARTS, State, Tail, read_records};
use std::io;

/// Longest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Verifies one generation.
pub(super) fn verify_file(disk: &dyn Disk, path: &str, owner: Owner) -> FileReport {
    let mut report = FileReport::new(path);
    match read_all(disk, path, MAX_MANIFEST_BYTES) {
        Err(error) => report.damage.push(unreadable(path, &error)),
        Ok(bytes) => {
            report.bytes = bytes.len() as u64;
            match FileHeader::decode(&bytes, path, MANIFEST_MAGIC, owner.store, owner.file_id) {
                Err(error) => report.damage.push(error.into_damage()),
                Ok(header) => {
                    report.blocks = records(&bytes).count() as u64;
                    match read_records(&bytes, path, &header) {
                        (_, None) => {}
                        (Some(_), Some((Tail::Torn, damage))) => report.torn_at = Some(damage.offset),
                        (_, Some((_, damage))) => report.damage.push(damage),
                    }
                }
            }
        }
    }
    report
}

/// Identity and state by the newest manifest that can be read.
pub(super) fn newest(disk: &dyn Disk) -> Option<(StoreId, State)> {
    let mut names = entries(disk, "manifest").ok()?;
    names.sort_unstable();
    names.into_iter().rev().find_map(|name| {
        let path = format!("manifest/{name}");
        let bytes = read_all(disk, &path, MAX_MANIFEST_BYTES).ok()?;
        let header = FileHeader::decode(&bytes, &path, MANIFEST_MAGIC, None, None).ok()?;
        Some((header.store, read_records(&bytes, &path, &header).0?))
    })
}

/// What the newest generation says, if every byte of it is as it was written.
pub(super) fn whole(disk: &dyn Disk) -> Option<State> {
    let name = entries(disk, "manifest").ok()?.into_iter().filter(|name| name.ends_with(".log")).max()?;
    let path = format!("manifest/{name}");
    let bytes = read_all(disk, &path, MAX_MANIFEST_BYTES).ok()?;
    let header = FileHeader::decode(&bytes, &path, MANIFEST_MAGIC, None, None).ok()?;
    match read_records(&bytes, &path, &header) {
        (state, None) => state,
        _ => None,
    }
}

/// Places of the records, by their lengths: (start, header, payload).
fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8], &[u8])> {
    let mut at = FILE_HEADER_LEN;
    std::iter::from_fn(move || {
        let header = bytes.get(at..at + RECORD_HEADER_LEN)?;
        let len = u32::from_le_bytes(field(header, 4)) as usize;
        let start = at + RECORD_HEADER_LEN;
        let payload = bytes.get(start..start.checked_add(len)?)?;
        let record = (at, header, payload);
        at = start + len;
        Some(record)
    })
}

/// What stands where in a manifest.
pub(super) fn dump_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    let bytes = read_all(disk, path, MAX_MANIFEST_BYTES)?;
    let mut out = Vec::new();
    header_lines(&bytes, &mut out);
    for (at, header, payload) in records(&bytes) {
        field_lines(RECORD_PARTS, header, at as u64, &mut out);
        let whole = crc32fast::hash(payload) == u32::from_le_bytes(field(header, 24));
        let edit = if whole { Edit::decode(payload) } else { None };
        let value = edit.map_or_else(|| "damaged".to_owned(), |edit| format!("{}: {edit:?}", edit.name()));
        let offset = (at + RECORD_HEADER_LEN) as u64;
        out.push(DumpLine { offset, len: payload.len() as u64, part: "payload", value });
    }
    Ok(out)
}
