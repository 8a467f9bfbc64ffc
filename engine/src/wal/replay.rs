//! Replay: all logs of a store, in one order, when it opens. Format-spec.md, "Replay", is this file in prose.
//!
//! Let D be the highest sequence that anything attests as durable: a record's `durable_seq`, a log's first sequence (all
//! below it was durable when the log was made), the manifest. A log counts from its first sequence up to the first
//! sequence of any later log; what it holds at or above that was given up and is void.
//!
//! Invariants
//! 1. A bad record above D was never acknowledged with certainty: it and all after it is a torn tail, dropped. So what
//!    survives is a prefix without holes.
//! 2. A bad record at or below D is damage: counted, reported, stepped over; later records are used.
//! 3. Records come to the visitor in rising sequence, each once.
//! 4. Logs are synced and their cached pages dropped before they are read: what replay gives is on the device, not only
//!    in the page cache that a killed process or a failed sync left, so the next log may attest it.
//! 5. Nothing is written to a log. Memory: one window and one payload.

use crate::error::Damage;
use crate::file_header::{FILE_HEADER_LEN, FileHeader, HeaderError};
use crate::ids::{LogId, Seq, StoreId};
use crate::io::{Access, Disk, File, in_context};
use crate::wal::record::{
    EndPayload, FIRST_RECORD_OFFSET, LOG_MAGIC, RecordHead, RecordHeader, RecordKind, log_id_of, log_path,
};
use crate::wal::scan::LogScan;
use std::io;
use std::sync::Arc;

/// What the manifest knows when replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayFloor {
    /// Every record up to here is in segments and catalog files; it is not given again, but for definitions.
    pub flushed_seq: Seq,
    /// Highest sequence the manifest attests as durable, if it knows a higher one than `flushed_seq`.
    pub durable_seq: Seq,
    /// There is no manifest to tell: what lies below the first log was retired, so it is sealed.
    pub unknown: bool,
}

/// A record as replay gives it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The log it is in.
    pub log: LogId,
    /// Its header's fields.
    pub head: RecordHead,
    /// Its payload, checked.
    pub payload: &'a [u8],
    /// Where it begins in its log.
    pub offset: u64,
    /// Its length there, header and padding included.
    pub len: u64,
}

/// A log that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Its id.
    pub id: LogId,
    /// Sequence of its first record, there or not; none if nothing of it can be read.
    pub first_seq: Option<Seq>,
    /// Last sequence in it that counts; zero if none does.
    pub last_seq: Seq,
    /// Length of the file.
    pub bytes: u64,
}

/// The end of a log that was being written when the power went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Path within the store.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// Sequence that the record there would have had.
    pub seq: Seq,
}

/// Bytes of a log that should have been good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDamage {
    /// Where, and what did not fit.
    pub damage: Damage,
    /// Bytes stepped over, from the first that could not be used.
    pub offset: u64,
    /// How many.
    pub len: u64,
    /// First and last sequence that are lost by it and were not sealed yet.
    pub lost: Option<(Seq, Seq)>,
}

/// What replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Logs by rising id.
    pub logs: Vec<LogFile>,
    /// Records given to the visitor.
    pub records: u64,
    /// Everything up to here is sealed: as the manifest said, or as the first log shows.
    pub flushed_seq: Seq,
    /// Records left out because they are sealed.
    pub sealed: u64,
    /// Records left out because a later log begins at or below them.
    pub void: u64,
    /// Ends that were torn; at most one a log.
    pub torn: Vec<TornTail>,
    /// Everything that should have been readable and was not.
    pub corrupt: Vec<LogDamage>,
    /// Highest sequence used, lost or sealed: the next record gets one more.
    pub last_seq: Seq,
    /// Highest sequence that is attested as durable.
    pub highest_durable: Seq,
    /// Whether the newest log ends with its sealing record, nothing lost. True if there is no log.
    pub ended_cleanly: bool,
    /// Highest log id in use.
    pub max_log_id: LogId,
    /// Highest manifest edit that a record attests.
    pub manifest_edit_attested: u64,
    /// False if a log could not be synced before it was read: what replay gave must be sealed before a new log begins.
    pub durable: bool,
}

/// Gives every record that counts to `visit`, in order, and reports what was found.
///
/// # Errors
/// The disk's, where a folder or a file cannot be opened; `Unsupported` for a log of a newer version; `visit`'s.
/// Damage is no error.
pub fn replay(
    disk: &Arc<dyn Disk>,
    store: StoreId,
    mut floor: ReplayFloor,
    visit: &mut dyn FnMut(Record<'_>) -> io::Result<()>,
) -> io::Result<ReplayReport> {
    let mut report = ReplayReport { durable: true, ended_cleanly: true, ..ReplayReport::default() };
    let mut logs = Vec::new();
    for id in log_ids(&**disk)? {
        logs.push(Log::open(&**disk, store, id, &mut report.durable)?);
    }
    if !logs.is_empty()
        && let Err(error) = disk.sync_dir("wal")
    {
        tracing::error!(%error, "the folder of the logs could not be synced");
        report.durable = false;
    }
    let attested = logs.iter().map(Log::attested_seq).max().unwrap_or_default();
    report.highest_durable = attested.max(floor.durable_seq).max(floor.flushed_seq);
    report.manifest_edit_attested = logs.iter().map(|log| log.manifest_edit).max().unwrap_or(0);
    report.max_log_id = logs.last().map_or(LogId(0), |log| log.id);
    if floor.unknown {
        let first = logs.iter().filter_map(|log| log.first_seq).min().unwrap_or_default();
        floor.flushed_seq = floor.flushed_seq.max(Seq(first.0.saturating_sub(1)));
    }
    report.flushed_seq = floor.flushed_seq;
    let mut run =
        Run { report, flushed: floor.flushed_seq.0, next: floor.flushed_seq.0 + 1, ended: true, visit };
    for index in 0..logs.len() {
        // Where any later log begins, this one ends.
        let limit = logs[index + 1..].iter().filter_map(|log| log.first_seq).min();
        run.log(&mut logs[index], limit.map_or(u64::MAX, |seq| seq.0))?;
    }
    let attested = run.report.highest_durable.0;
    if run.next <= attested {
        let damage = damage_at("wal", 0, "durable_seq", attested, run.next - 1);
        run.damaged(damage, 0, 0, Some((run.next, attested)));
    }
    let Run { mut report, next, ended, .. } = run;
    report.ended_cleanly = ended && report.corrupt.is_empty();
    report.last_seq = Seq(next - 1).max(report.highest_durable);
    Ok(report)
}

/// Shows every record of definitions that counts to `visit`, also of the log that is being written. Nothing is synced, so
/// what it shows may not be durable yet; a log that is retired meanwhile is passed over.
///
/// # Errors
/// The disk's, where a folder or a file cannot be opened. Damage is stepped over.
pub(crate) fn each_definition(
    disk: &dyn Disk,
    store: StoreId,
    visit: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let mut logs = Vec::new();
    for id in log_ids(disk)? {
        let path = log_path(id);
        match disk.open(&path, Access::Read).and_then(|file| Log::read(file, path, store, id)) {
            Ok(log) => logs.push(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for index in 0..logs.len() {
        // Void records may give an id that was given again later.
        let limit = logs[index + 1..].iter().filter_map(|log| log.first_seq).min();
        let scan = &mut logs[index].scan;
        let mut offset = FIRST_RECORD_OFFSET;
        while let Some((at, header)) = scan.find_header(offset) {
            if limit.is_some_and(|limit| header.head.seq >= limit) {
                break;
            }
            if header.head.kind == RecordKind::Define
                && let Ok(payload) = scan.payload(at, &header)
            {
                visit(payload);
            }
            offset = at + header.record_len();
        }
    }
    Ok(())
}

/// Ids of the logs that are there, rising.
pub(crate) fn log_ids(disk: &dyn Disk) -> io::Result<Vec<LogId>> {
    let mut ids: Vec<LogId> = match disk.list("wal") {
        Ok(entries) => {
            entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| log_id_of(&entry.name)).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    ids.sort_unstable();
    Ok(ids)
}

/// A log and what a first walk over its headers told.
#[derive(Debug)]
struct Log {
    id: LogId,
    scan: LogScan,
    /// Why its header was not taken.
    header_damage: Option<Damage>,
    /// Where it begins to count: as its header says, else its first whole record. None: it never came into use.
    first_seq: Option<Seq>,
    durable_seq: Seq,
    manifest_edit: u64,
}

impl Log {
    fn open(disk: &dyn Disk, store: StoreId, id: LogId, durable: &mut bool) -> io::Result<Self> {
        let path = log_path(id);
        let file = open_synced(disk, &path, durable)?;
        Self::read(file, path, store, id)
    }

    fn read(file: Arc<dyn File>, path: String, store: StoreId, id: LogId) -> io::Result<Self> {
        let len = file.len().map_err(|error| in_context("read", &path, &error))?;
        let mut scan = LogScan::new(file, path, store, id, len);
        let path = scan.path.clone();
        let header = scan.bytes(0, FILE_HEADER_LEN);
        let (mut first_seq, header_damage) =
            match FileHeader::decode(header, &path, LOG_MAGIC, Some(store), Some(id.0)) {
                Ok(header) => (Some(Seq(header.param)), None),
                Err(HeaderError::Damage(damage)) => (None, Some(damage)),
                Err(error @ HeaderError::TooNew(_)) => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, error.to_string()));
                }
            };
        let (mut durable_seq, mut manifest_edit) = (Seq(0), 0);
        let mut offset = FIRST_RECORD_OFFSET;
        let mut first_record = None;
        while let Some((at, header)) = scan.find_header(offset) {
            durable_seq = durable_seq.max(header.head.durable_seq);
            manifest_edit = manifest_edit.max(header.head.manifest_edit);
            first_record.get_or_insert(header.head.seq);
            offset = at + header.record_len();
        }
        first_seq = first_seq.or(first_record);
        // Without a record behind it, it is a log that never came into use: its header was not written whole, and what is in
        // its place may be anything. Were records lost with it, something attests their sequences.
        let header_damage = header_damage.filter(|_| first_seq.is_some());
        Ok(Self { id, scan, header_damage, first_seq, durable_seq, manifest_edit })
    }

    /// Highest sequence this log attests as durable: by its records, and by having been made at all.
    fn attested_seq(&self) -> Seq {
        let before = self.first_seq.map_or(0, |first| first.0.saturating_sub(1));
        self.durable_seq.max(Seq(before))
    }
}

/// Opens a log so that what is read from it is durable.
fn open_synced(disk: &dyn Disk, path: &str, durable: &mut bool) -> io::Result<Arc<dyn File>> {
    let synced = disk.open(path, Access::ReadWrite).and_then(|file| {
        file.sync_data()?;
        // A sync that failed before we came left its pages in memory, and counts for nothing after that.
        file.forget_cached()?;
        Ok(file)
    });
    match synced {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(error) => {
            tracing::error!(file = %path, %error, "a log could not be synced before it was read");
            *durable = false;
            disk.open(path, Access::Read)
        }
    }
}

/// The second walk, through all logs.
struct Run<'a> {
    report: ReplayReport,
    flushed: u64,
    /// Next sequence wanted.
    next: u64,
    /// Whether the last log looked at ends with its sealing record.
    ended: bool,
    visit: &'a mut dyn FnMut(Record<'_>) -> io::Result<()>,
}

impl Run<'_> {
    /// Replays one log, whose records count below `limit`.
    fn log(&mut self, log: &mut Log, limit: u64) -> io::Result<()> {
        if let Some(damage) = log.header_damage.take() {
            self.damaged(damage, 0, FIRST_RECORD_OFFSET, None);
        }
        let bytes = log.scan.len();
        let last_seq = match log.first_seq {
            Some(first) => {
                self.bridge(&log.scan.path, first.0.min(limit));
                self.records(log, first.0, limit)?
            }
            None => 0,
        };
        for damage in std::mem::take(&mut log.scan.unreadable) {
            let (offset, len) = (damage.offset, damage.expected);
            self.damaged(damage, offset, len, None);
        }
        self.report.logs.push(LogFile {
            id: log.id,
            first_seq: log.first_seq,
            last_seq: Seq(last_seq),
            bytes,
        });
        Ok(())
    }

    /// Sequences below `first` that no log holds any more: one is missing, or its end.
    fn bridge(&mut self, path: &str, first: u64) {
        if first <= self.next {
            return;
        }
        let damage = Damage {
            file: path.to_owned(),
            offset: 48,
            part: "first_seq",
            expected: self.next,
            found: first,
        };
        self.damaged(damage, 0, 0, Some((self.next, first - 1)));
        self.next = first;
    }

    /// Returns the last sequence of the log that counts.
    fn records(&mut self, log: &mut Log, first: u64, limit: u64) -> io::Result<u64> {
        // At or below `must` a record has to be here and whole.
        let must = self.report.highest_durable.0.min(limit.saturating_sub(1));
        let mut expected = first;
        let mut offset = FIRST_RECORD_OFFSET;
        let mut open_gap: Option<usize> = None;
        self.ended = false;
        loop {
            let Some(header) = log.scan.header_at(offset) else {
                if expected > must {
                    self.tail(&mut log.scan, offset, expected);
                    break;
                }
                let later = log.scan.find_header(offset + 1);
                if later.is_none() && must <= self.flushed {
                    // A log whose sync failed was sealed and could not be removed yet: what it lacks at its end is in segments.
                    expected = must + 1;
                    break;
                }
                let end = later.map_or(log.scan.len(), |(at, _)| at);
                open_gap = Some(self.bad_header(&mut log.scan, offset, end));
                if later.is_none() {
                    break;
                }
                offset = end;
                continue;
            };
            let seq = header.head.seq.0;
            let is_end = header.head.kind == RecordKind::End;
            // A sealing record repeats the last sequence.
            let wanted = if is_end { seq.saturating_add(1) } else { seq };
            if wanted > expected && wanted - 1 > must {
                // Not all of what lies between is attested: a prefix ends here.
                self.tail(&mut log.scan, offset, expected);
                break;
            }
            if wanted < expected {
                let damage = damage_at(&log.scan.path, offset + 24, "seq", expected, seq);
                self.damaged(damage, offset, header.record_len(), None);
                offset += header.record_len();
                continue;
            }
            if wanted > expected {
                let gap = open_gap.take().unwrap_or_else(|| {
                    let damage = damage_at(&log.scan.path, offset + 24, "seq", expected, seq);
                    self.damaged(damage, offset, 0, None)
                });
                self.lose(gap, expected, wanted - 1);
                expected = wanted;
            }
            open_gap = None;
            if !is_end && seq >= limit {
                self.report.void += 1;
                break;
            }
            let payload = log.scan.payload(offset, &header);
            if is_end {
                let last = payload.ok().and_then(EndPayload::decode);
                self.ended = last.is_some_and(|end| end.last_seq.0 == seq);
                break;
            }
            match payload {
                Ok(payload) => self.give(log.id, offset, &header, payload)?,
                Err(_) if seq > must => {
                    self.torn(&log.scan.path, offset, seq);
                    break;
                }
                Err(damage) => {
                    let gap = self.damaged(damage, offset, header.record_len(), None);
                    self.lose(gap, seq, seq);
                }
            }
            expected = seq.saturating_add(1);
            self.next = self.next.max(expected);
            offset += header.record_len();
        }
        if expected <= must && !self.ended {
            let gap = open_gap.unwrap_or_else(|| {
                let damage = damage_at(&log.scan.path, offset, "record", must, expected - 1);
                self.damaged(damage, offset, 0, None)
            });
            self.lose(gap, expected, must);
            expected = must + 1;
        }
        self.next = self.next.max(expected);
        Ok(if expected > first { expected - 1 } else { 0 })
    }

    fn give(&mut self, log: LogId, offset: u64, header: &RecordHeader, payload: &[u8]) -> io::Result<()> {
        // A definition is given even if it is sealed: it does no harm twice, and helps if a catalog file is damaged.
        if header.head.seq.0 <= self.flushed && header.head.kind != RecordKind::Define {
            self.report.sealed += 1;
            return Ok(());
        }
        self.report.records += 1;
        (self.visit)(Record { log, head: header.head, payload, offset, len: header.record_len() })
    }

    /// Notes where a log stops above D: torn if there is a trace of a record.
    fn tail(&mut self, scan: &mut LogScan, offset: u64, seq: u64) {
        if scan.header_at(offset).is_some()
            || scan.looks_torn(offset)
            || scan.find_header(offset + 1).is_some()
        {
            let path = scan.path.clone();
            self.torn(&path, offset, seq);
        }
    }

    fn torn(&mut self, path: &str, offset: u64, seq: u64) {
        self.report.torn.push(TornTail { file: path.to_owned(), offset, seq: Seq(seq) });
    }

    /// Notes a stretch without a whole header where there has to be one; returns its place in the report.
    fn bad_header(&mut self, scan: &mut LogScan, offset: u64, end: u64) -> usize {
        let found = scan.bytes(offset, 4).iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let magic = u64::from(u32::from_le_bytes(crate::wal::record::RECORD_MAGIC));
        let damage = if found == magic {
            damage_at(&scan.path, offset, "record_crc", 1, 0)
        } else {
            damage_at(&scan.path, offset, "record_magic", magic, found)
        };
        self.damaged(damage, offset, end.saturating_sub(offset), None)
    }

    fn damaged(&mut self, damage: Damage, offset: u64, len: u64, lost: Option<(u64, u64)>) -> usize {
        let index = self.report.corrupt.len();
        self.report.corrupt.push(LogDamage { damage, offset, len, lost: None });
        if let Some((first, last)) = lost {
            self.lose(index, first, last);
        }
        index
    }

    /// Says which sequences a damage cost; what is sealed is not lost.
    fn lose(&mut self, index: usize, first: u64, last: u64) {
        let first = first.max(self.flushed + 1);
        if first <= last {
            self.report.corrupt[index].lost = Some((Seq(first), Seq(last)));
        }
    }
}

fn damage_at(path: &str, offset: u64, part: &'static str, expected: u64, found: u64) -> Damage {
    Damage { file: path.to_owned(), offset, part, expected, found }
}
