//! Logs: each walked by itself, and all together as replay would take them.
//!
//! Where a record is bad, its sequence decides: at or below the highest sequence attested as durable it is damage, above
//! it the tail of a write that was never answered.

use super::{CheckReport, DumpLine, FileReport, Owner, field_lines, header_lines, unreadable};
use crate::catalog::decode_definitions;
use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{LogId, Seq, StoreId};
use crate::ingest::payload;
use crate::io::{Disk, read_all};
use crate::manifest::State;
use crate::tombstone::decode_deletes;
use crate::wal::record::{
    END_PARTS, EndPayload, FIRST_RECORD_OFFSET, LOG_MAGIC, RECORD_HEADER_LEN, RECORD_MAGIC, RECORD_PARTS,
    RecordHeader, RecordKind,
};
use crate::wal::{Record, ReplayFloor, log_path, replay};
use std::io;
use std::sync::Arc;

/// Longest log that is read; one record may have 64 MiB.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// Verifies one log.
pub(super) fn verify_file(disk: &dyn Disk, path: &str, owner: Owner) -> FileReport {
    let mut report = FileReport::new(path);
    let bytes = match read_all(disk, path, MAX_LOG_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.damage.push(unreadable(path, &error));
            return report;
        }
    };
    report.bytes = bytes.len() as u64;
    let header = match FileHeader::decode(&bytes, path, LOG_MAGIC, owner.store, owner.file_id) {
        Ok(header) => header,
        Err(error) => {
            // Zeros or nothing: the power went before the log was in use.
            if bytes.iter().take(FILE_HEADER_LEN).any(|byte| *byte != 0) {
                report.damage.push(error.into_damage());
            }
            return report;
        }
    };
    let log = Log { bytes: &bytes, path, store: header.store, id: LogId(header.file_id) };
    let durable = log.headers().map(|(_, header)| header.head.durable_seq).max().unwrap_or_default();
    let mut next = header.param;
    let mut at = FIRST_RECORD_OFFSET as usize;
    while let Some(step) = log.step(at, next, durable) {
        match step {
            Step::Record(header, payload) => {
                report.blocks += 1;
                let taken = if header.head.kind == RecordKind::End {
                    let end = EndPayload::decode(payload);
                    end.is_some_and(|end| end.count + 1 == report.blocks || !report.damage.is_empty())
                } else {
                    true
                };
                if !taken {
                    report.damage.push(log.damage("end_count", at, report.blocks - 1, 0));
                }
                if header.head.kind == RecordKind::End {
                    break;
                }
                next = header.head.seq.0 + 1;
                at += header.record_len() as usize;
            }
            Step::Damage(damage, resume) => {
                report.damage.push(damage);
                let Some((place, header)) = resume else { break };
                (at, next) = (place, header.head.seq.0);
            }
            Step::Torn => {
                report.torn_at = Some(at as u64);
                break;
            }
        }
    }
    report
}

/// A log held in memory.
struct Log<'a> {
    bytes: &'a [u8],
    path: &'a str,
    store: StoreId,
    id: LogId,
}

enum Step<'a> {
    Record(RecordHeader, &'a [u8]),
    /// Bad, and where to go on.
    Damage(Damage, Option<(usize, RecordHeader)>),
    Torn,
}

impl<'a> Log<'a> {
    fn header_at(&self, at: usize) -> Option<RecordHeader> {
        RecordHeader::decode(self.bytes.get(at..)?, self.store, self.id, at as u64)
    }

    /// Every whole header, found by its magic.
    fn headers(&self) -> impl Iterator<Item = (usize, RecordHeader)> {
        self.headers_from(FIRST_RECORD_OFFSET as usize)
    }

    fn headers_from(&self, start: usize) -> impl Iterator<Item = (usize, RecordHeader)> {
        let ends = self.bytes.len().saturating_sub(RECORD_HEADER_LEN - 1);
        (start..ends)
            .filter(|at| self.bytes[*at] == RECORD_MAGIC[0])
            .filter_map(|at| Some((at, self.header_at(at)?)))
    }

    /// What stands at `at`, where the record of sequence `next` should be. None where the log just ends: nothing of it
    /// follows, and nothing attests that it should.
    fn step(&self, at: usize, next: u64, durable: Seq) -> Option<Step<'a>> {
        let header = self.header_at(at);
        let payload = header.and_then(|header| {
            let start = at + RECORD_HEADER_LEN;
            let payload = self.bytes.get(start..start + header.payload_len as usize)?;
            (crc32fast::hash(payload) == header.payload_crc).then_some((header, payload))
        });
        if let Some((header, payload)) = payload {
            let expected = if header.head.kind == RecordKind::End { next.wrapping_sub(1) } else { next };
            if header.head.seq.0 == expected {
                return Some(Step::Record(header, payload));
            }
        }
        let resume = self.headers_from(at + 1).find(|(_, header)| header.head.seq.0 > next.saturating_sub(1));
        if next <= durable.0 {
            let found = header.map_or(0, |header| header.head.seq.0);
            let part = if header.is_some() { "payload_crc" } else { "record_crc" };
            return Some(Step::Damage(self.damage(part, at, next, found), resume));
        }
        let ours = self.bytes.get(at..).is_some_and(|rest| {
            rest.starts_with(&RECORD_MAGIC)
                && rest.get(16..24).is_some_and(|id| id == self.id.0.to_le_bytes())
        });
        (ours || resume.is_some()).then_some(Step::Torn)
    }

    fn damage(&self, part: &'static str, at: usize, expected: u64, found: u64) -> Damage {
        Damage { file: self.path.to_owned(), offset: at as u64, part, expected, found }
    }
}

/// All logs as replay takes them: what is missing between them, and what only a later log attests as durable.
pub(super) fn together(disk: &Arc<dyn Disk>, newest: Option<&(StoreId, State)>, report: &mut CheckReport) {
    let logs = || report.files.iter().filter(|file| file.file.starts_with("wal/"));
    if logs().next().is_none() {
        return;
    }
    let of_log = logs().find_map(|file| {
        let bytes = read_all(&**disk, &file.file, MAX_LOG_BYTES).ok()?;
        FileHeader::decode(&bytes, &file.file, LOG_MAGIC, None, None).ok().map(|header| header.store)
    });
    let Some(store) = newest.map(|(store, _)| *store).or(of_log) else { return };
    let flushed_seq = newest.map_or(Seq(0), |(_, state)| state.flushed_seq);
    let floor = ReplayFloor { flushed_seq, durable_seq: flushed_seq, unknown: false };
    let mut malformed = Vec::new();
    let mut prove = |record: Record<'_>| {
        let fits = match record.head.kind {
            RecordKind::Define => decode_definitions(record.payload).is_ok(),
            RecordKind::Points => payload::decode(record.payload).is_ok(),
            RecordKind::Delete => decode_deletes(record.payload, record.head.seq).is_some(),
            RecordKind::Clock | RecordKind::End => true,
        };
        if !fits {
            malformed.push(Damage {
                file: log_path(record.log),
                offset: 0,
                part: record.head.kind.name(),
                expected: record.head.seq.0,
                found: 0,
            });
        }
        Ok(())
    };
    match replay(disk, store, floor, &mut prove) {
        Ok(replayed) => {
            for corrupt in replayed.corrupt {
                let places = [corrupt.damage.offset, corrupt.offset];
                let told =
                    |known: &Damage| known.file == corrupt.damage.file && places.contains(&known.offset);
                if !report.damage().any(told) {
                    report.between.push(corrupt.damage);
                }
            }
        }
        Err(error) => report.between.push(unreadable("wal", &error)),
    }
    report.between.extend(malformed);
}

/// What stands where in a log.
pub(super) fn dump_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    let bytes = read_all(disk, path, MAX_LOG_BYTES)?;
    let mut out = Vec::new();
    header_lines(&bytes, &mut out);
    let Ok(header) = FileHeader::decode(&bytes, path, LOG_MAGIC, None, None) else { return Ok(out) };
    let log = Log { bytes: &bytes, path, store: header.store, id: LogId(header.file_id) };
    let mut next = FIRST_RECORD_OFFSET as usize;
    for (at, header) in log.headers() {
        // Only at record ends: payloads may hold bytes that look like a header, but never with a right checksum.
        if at > next {
            let (offset, len) = (next as u64, (at - next) as u64);
            out.push(DumpLine { offset, len, part: "damage", value: "no record of this log".to_owned() });
        }
        let base = at as u64;
        field_lines(RECORD_PARTS, &bytes[at..at + RECORD_HEADER_LEN], base, &mut out);
        let start = at + RECORD_HEADER_LEN;
        next = start + header.payload_len as usize;
        let payload = bytes.get(start..next).filter(|payload| crc32fast::hash(payload) == header.payload_crc);
        let kind = header.head.kind;
        let value = match (payload, kind) {
            (None, _) => "damaged".to_owned(),
            (Some(payload), RecordKind::Define) => match decode_definitions(payload) {
                Ok(definitions) => format!("{definitions:?}"),
                Err(error) => format!("no definitions: {error}"),
            },
            (Some(payload), RecordKind::Delete) => match decode_deletes(payload, header.head.seq) {
                Some(tombstones) => format!("{tombstones:?}"),
                None => "no deletes".to_owned(),
            },
            (Some(payload), RecordKind::End) => {
                field_lines(END_PARTS, payload, start as u64, &mut out);
                kind.name().to_owned()
            }
            (Some(payload), _) => format!("{}, {} bytes", kind.name(), payload.len()),
        };
        out.push(DumpLine {
            offset: start as u64,
            len: u64::from(header.payload_len),
            part: "payload",
            value,
        });
    }
    Ok(out)
}
