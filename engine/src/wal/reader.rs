//! Replay: all logs in one order, and what is wrong with them.
//!
//! Rules (format-spec.md, "WAL", replay). Let D be the highest sequence that anything valid says is durable: a record's
//! `durable_seq`, one less than the first sequence of a later log, the manifest's flushed sequence.
//! * What an older log holds at or above the first sequence of a later one is void: nobody was told that it is stored.
//! * The first bad record above D is a torn tail: it and all after it never counted, so a prefix survives, without holes.
//! * A bad record at or below D is damage: reported, stepped over; later records count.
//!
//! Two passes: headers of all logs first (D needs them all), then payloads, one log in memory at a time.

use super::record::{EndPayload, FIRST_RECORD_OFFSET, LOG_MAGIC, RECORD_HEADER_LEN, RECORD_MAGIC};
use super::record::{RecordHead, RecordHeader, RecordKind, log_id_of, log_path};
use crate::error::Damage;
use crate::file_header::{FileHeader, HeaderError, field};
use crate::ids::{LogId, Seq, StoreId};
use crate::io::{Access, Disk, read_all};
use std::io;
use std::sync::Arc;

/// Longest log that is read: four times the longest record, far above the size at which a log is left.
const MAX_LOG_BYTES: u64 = 256 << 20;

/// One record as replay gives it to its visitor: whole, checked, next in the commit order.
#[derive(Debug)]
pub struct Record<'a> {
    /// Log it stands in.
    pub log: LogId,
    /// Fields of its header.
    pub head: RecordHead,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What the manifest already knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayFloor {
    /// Every record up to here is in segments: it may be missing from the logs, and its points are not replayed.
    pub flushed_seq: Seq,
}

/// The end of a log that a power cut tore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Log file.
    pub file: String,
    /// Where the torn record begins.
    pub offset: u64,
}

/// A log found at open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLog {
    /// Its id.
    pub id: LogId,
    /// Last sequence in it that counts; one less than its first if none does.
    pub last: Seq,
    /// True if parts of it are damaged: it is set aside instead of being used again.
    pub damaged: bool,
}

/// What replay found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Logs by rising id.
    pub logs: Vec<FoundLog>,
    /// Records given to the visitor.
    pub records: u64,
    /// Records in older logs that a later log made void.
    pub void: u64,
    /// Torn ends; nothing in them was acknowledged.
    pub torn: Vec<TornTail>,
    /// Damage at or below D: acknowledged records may be gone.
    pub damage: Vec<Damage>,
    /// Last sequence that was ever given.
    pub last_seq: Seq,
    /// Log of the last record.
    pub last_log: LogId,
    /// Highest id of any log file, whole or not.
    pub max_log_id: LogId,
    /// Highest manifest edit that a record attests.
    pub manifest_edit: u64,
    /// True if every log ended with its sealing record.
    pub ended: bool,
}

/// Headers of one log.
#[derive(Debug)]
struct Scan {
    id: LogId,
    path: String,
    first_seq: Option<Seq>,
    /// Good headers with their offsets, rising.
    records: Vec<(u64, RecordHeader)>,
    /// Offsets where a record should be and none is, each before the next good one (or at the end of what is good).
    bad: Vec<u64>,
    /// True if the bytes at the last bad offset are the beginning of a record of this log.
    torn_start: bool,
    unreadable: bool,
    header_damage: Option<Damage>,
}

/// Replays all logs of the store in commit order.
///
/// `visit` gets each record once; what it cannot use (and a checksum said was whole) it names, and that is damage.
///
/// # Errors
/// The disk's, if the folder cannot be listed; a file of a newer version. A log that cannot be read is damage.
pub fn replay(
    disk: &Arc<dyn Disk>,
    store: StoreId,
    floor: ReplayFloor,
    visit: &mut dyn FnMut(Record<'_>) -> Result<(), &'static str>,
) -> Result<ReplayReport, ReplayError> {
    let mut ids: Vec<LogId> = disk.list("wal")?.iter().filter_map(|entry| log_id_of(&entry.name)).collect();
    ids.sort_unstable();
    let mut scans = Vec::with_capacity(ids.len());
    for id in &ids {
        scans.push(scan(&**disk, store, *id)?);
    }
    let mut report =
        ReplayReport { max_log_id: ids.last().copied().unwrap_or_default(), ..Default::default() };
    let mut durable = floor.flushed_seq;
    for scan in &scans {
        for (_, header) in &scan.records {
            durable = durable.max(header.head.durable_seq);
            report.manifest_edit = report.manifest_edit.max(header.head.manifest_edit);
        }
    }
    // The first sequence of a log says that all before it is durable, and voids the same numbers in older logs.
    let mut void_from = vec![Seq(u64::MAX); scans.len()];
    let mut lowest = Seq(u64::MAX);
    for (i, scan) in scans.iter().enumerate().rev() {
        void_from[i] = lowest;
        if let Some(first) = scan.first_seq {
            durable = durable.max(Seq(first.0.saturating_sub(1)));
            lowest = lowest.min(first);
        }
    }
    report.ended = true;
    let mut pass = Pass { disk, store, floor, durable, last: None, cut: false, report, visit };
    for (scan, void_from) in scans.iter().zip(void_from) {
        pass.log(scan, void_from);
    }
    let last = pass.last.unwrap_or_default();
    let mut report = pass.report;
    if last < durable && durable > floor.flushed_seq && report.damage.is_empty() {
        // Something attests more than there is, and no bad bytes explain it: a log is gone.
        let damage = Damage {
            file: "wal".to_owned(),
            offset: 0,
            part: "last durable sequence",
            expected: durable.0,
            found: last.0,
        };
        report.damage.push(damage);
    }
    report.last_seq = last.max(durable);
    Ok(report)
}

/// Why the logs could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The disk failed.
    #[error("read the log")]
    Io(#[from] io::Error),
    /// A log was written by a newer version.
    #[error("a log was written by a newer version")]
    TooNew(Damage),
}

/// Makes what replay read of unended logs durable: after a crash of the process alone it may only be cached, and the
/// next log will say that it is durable.
pub fn sync_found(disk: &dyn Disk, logs: &[FoundLog]) -> io::Result<()> {
    for log in logs {
        disk.open(&log_path(log.id), Access::ReadWrite)?.sync_data()?;
    }
    Ok(())
}

fn scan(disk: &dyn Disk, store: StoreId, id: LogId) -> Result<Scan, ReplayError> {
    let path = log_path(id);
    let mut out = Scan {
        id,
        first_seq: None,
        records: Vec::new(),
        bad: Vec::new(),
        torn_start: false,
        unreadable: false,
        header_damage: None,
        path: path.clone(),
    };
    let Ok(bytes) = read_all(disk, &path, MAX_LOG_BYTES) else {
        out.unreadable = true;
        return Ok(out);
    };
    match FileHeader::decode(&bytes, &path, LOG_MAGIC, Some(store), Some(id.0)) {
        Ok(header) => out.first_seq = Some(Seq(header.param)),
        Err(HeaderError::TooNew(damage)) => return Err(ReplayError::TooNew(damage)),
        Err(HeaderError::Damage(damage)) => out.header_damage = Some(damage),
    }
    let mut at = FIRST_RECORD_OFFSET;
    loop {
        let here = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        if let Some(header) = RecordHeader::decode(here, store, id, at) {
            out.records.push((at, header));
            at += header.record_len();
            if header.head.kind == RecordKind::End {
                break;
            }
            continue;
        }
        out.bad.push(at);
        out.torn_start = here.len() >= 4 && here[..4] == RECORD_MAGIC && belongs(here, id);
        // Only a header whose own checksum covers this log id and this offset can end the search.
        match (1..here.len()).find(|skip| {
            here[*skip..].starts_with(&RECORD_MAGIC)
                && RecordHeader::decode(&here[*skip..], store, id, at + *skip as u64).is_some()
        }) {
            Some(skip) => at += skip as u64,
            None => break,
        }
    }
    if out.first_seq.is_none() {
        out.first_seq = out.records.first().map(|(_, header)| header.head.seq);
    }
    Ok(out)
}

fn belongs(bytes: &[u8], id: LogId) -> bool {
    bytes.len() >= 24 && u64::from_le_bytes(field(bytes, 16)) == id.0
}

struct Pass<'a> {
    disk: &'a Arc<dyn Disk>,
    store: StoreId,
    floor: ReplayFloor,
    durable: Seq,
    /// Last sequence taken or accounted for.
    last: Option<Seq>,
    /// True once a torn tail was met: nothing counts any more.
    cut: bool,
    report: ReplayReport,
    visit: &'a mut dyn FnMut(Record<'_>) -> Result<(), &'static str>,
}

impl Pass<'_> {
    fn log(&mut self, scan: &Scan, void_from: Seq) {
        let damage_before = self.report.damage.len();
        let first = scan.first_seq.unwrap_or_default();
        let mut found =
            FoundLog { id: scan.id, last: Seq(first.0.saturating_sub(1)), damaged: scan.unreadable };
        if scan.unreadable {
            self.damage(scan, 0, "log file", 1, 0);
        }
        if let Some(damage) = &scan.header_damage {
            // A log whose header never became durable holds no records; one with records has a damaged header.
            if scan.records.is_empty() {
                self.report.torn.push(TornTail { file: scan.path.clone(), offset: 0 });
            } else {
                self.report.damage.push(damage.clone());
            }
        }
        let bytes = if scan.records.is_empty() || self.cut {
            Vec::new()
        } else {
            read_all(&**self.disk, &scan.path, MAX_LOG_BYTES).unwrap_or_default()
        };
        let mut ended = false;
        for (at, header) in &scan.records {
            if self.cut {
                break;
            }
            ended = self.record(scan, &bytes, *at, header, void_from, &mut found);
        }
        if !self.cut && !ended {
            self.tail(scan, void_from);
        }
        self.report.ended &= ended;
        found.damaged |= self.report.damage.len() > damage_before;
        self.report.logs.push(found);
    }

    /// Takes one record whose header is good; true if it is the log's sealing record.
    fn record(
        &mut self,
        scan: &Scan,
        bytes: &[u8],
        at: u64,
        header: &RecordHeader,
        void_from: Seq,
        found: &mut FoundLog,
    ) -> bool {
        let start = at as usize + RECORD_HEADER_LEN;
        let payload = bytes.get(start..start + header.payload_len as usize);
        let payload = payload.filter(|payload| crc32fast::hash(payload) == header.payload_crc);
        let head = header.head;
        if head.kind == RecordKind::End {
            let end = payload.and_then(EndPayload::decode);
            if let Some(end) = end
                && end.last_seq < void_from
            {
                self.account_for(scan, at, end.last_seq);
            }
            return end.is_some();
        }
        if head.seq >= void_from {
            self.report.void += 1;
            return false;
        }
        let expected = self.expected(scan);
        if head.seq < expected {
            return false;
        }
        if payload.is_none() {
            self.bad(scan, at, head.seq, "payload_crc");
            return false;
        }
        if head.seq > expected {
            self.account_for(scan, at, Seq(head.seq.0 - 1));
            if self.cut {
                return false;
            }
        }
        self.last = Some(head.seq);
        found.last = head.seq;
        self.report.last_log = scan.id;
        if let Some(payload) = payload {
            self.report.records += 1;
            if let Err(what) = (self.visit)(Record { log: scan.id, head, payload }) {
                self.damage(scan, at, what, 0, head.seq.0);
            }
        }
        false
    }

    fn expected(&self, scan: &Scan) -> Seq {
        match (self.last, scan.first_seq) {
            (Some(last), _) => Seq(last.0 + 1),
            (None, Some(first)) => first,
            (None, None) => Seq(1),
        }
    }

    /// A record that should be there is bad: damage if it was durable, else the torn end of everything.
    fn bad(&mut self, scan: &Scan, at: u64, seq: Seq, part: &'static str) {
        if seq <= self.durable {
            if seq > self.floor.flushed_seq {
                self.damage(scan, at, part, seq.0, 0);
            }
            self.last = Some(seq);
        } else {
            self.cut = true;
            self.report.torn.push(TornTail { file: scan.path.clone(), offset: at });
        }
    }

    /// Sequences up to `upto` must have been seen by now.
    fn account_for(&mut self, scan: &Scan, at: u64, upto: Seq) {
        let expected = self.expected(scan);
        if upto < expected {
            return;
        }
        let offset = scan.bad.iter().rev().find(|bad| **bad < at).copied().unwrap_or(at);
        if upto <= self.floor.flushed_seq {
            self.last = Some(upto);
        } else {
            self.bad(scan, offset, upto, "record_crc");
        }
    }

    /// Behind the last good record of a log without a sealing record.
    fn tail(&mut self, scan: &Scan, void_from: Seq) {
        let expected = self.expected(scan);
        let Some(offset) = scan.bad.last().copied() else { return };
        if expected >= void_from || expected <= self.floor.flushed_seq {
            // The log was left here; the next one goes on.
            return;
        }
        if expected <= self.durable {
            let missing = Seq(self.durable.0.min(void_from.0 - 1));
            self.damage(scan, offset, "record_crc", missing.0, expected.0);
            self.last = Some(missing);
        } else if scan.torn_start {
            self.cut = true;
            self.report.torn.push(TornTail { file: scan.path.clone(), offset });
        }
    }

    fn damage(&mut self, scan: &Scan, offset: u64, part: &'static str, expected: u64, found: u64) {
        self.report.damage.push(Damage { file: scan.path.clone(), offset, part, expected, found });
    }
}
