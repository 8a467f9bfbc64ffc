//! Bytes of the log: the file's header and the records behind it.
//!
//! Bytes: format-spec.md, "WAL". Parsing knows no files; any bytes give a header or `None`.
//!
//! Invariants
//! 1. A record's header carries its own checksum over the store's id, the record's offset and the header's fields, the log
//!    id among them: bytes left by an earlier use of a recycled file, of another store, or moved by the disk never pass.
//! 2. The payload's checksum stands in the header, so header and payload cannot be mixed.
//! 3. Zeros are never a record: the magic is not zero.

use crate::file_header::{FILE_HEADER_LEN, field};
use crate::ids::{LogId, Seq, StoreId};
use wattlog_model::Timestamp;

/// First bytes of a log file.
pub const LOG_MAGIC: [u8; 8] = *b"WATTWAL1";
/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 4] = *b"WREC";
/// Length of a record's header.
pub const RECORD_HEADER_LEN: usize = 64;
/// Where the first record begins.
pub const FIRST_RECORD_OFFSET: u64 = FILE_HEADER_LEN as u64;
/// Longest payload of one record. Readers refuse more, so that no damaged length costs memory.
pub const MAX_PAYLOAD_LEN: usize = 64 << 20;
/// Length of the payload of an End record.
pub const END_PAYLOAD_LEN: usize = 16;

/// Names, offsets and lengths of the parts of a record's header, as in format-spec.md.
pub const RECORD_PARTS: &[(&str, usize, usize)] = &[
    ("record_magic", 0, 4),
    ("kind", 4, 1),
    ("flags", 5, 1),
    ("reserved", 6, 2),
    ("payload_len", 8, 4),
    ("payload_crc", 12, 4),
    ("log_id", 16, 8),
    ("seq", 24, 8),
    ("durable_seq", 32, 8),
    ("wall_ns", 40, 8),
    ("manifest_edit", 48, 8),
    ("reserved2", 56, 4),
    ("record_crc", 60, 4),
];

/// Names, offsets and lengths of the parts of the payload of an End record.
pub const END_PARTS: &[(&str, usize, usize)] = &[("end_last_seq", 0, 8), ("end_count", 8, 8)];

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The points of one body.
    Points = 1,
    /// A list of definitions, before the first record that uses them.
    Define = 2,
    /// The wall clock stepped against the monotonic one.
    Clock = 3,
    /// The sealing record: nothing follows in this log. It repeats the last sequence and takes none of its own.
    End = 4,
    /// A delete. Reserved: this version neither writes nor applies it.
    Delete = 5,
}

impl RecordKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Points, Self::Define, Self::Clock, Self::End, Self::Delete];

    /// The kind with that number in a file, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its name in format-spec.md.
    pub fn name(self) -> &'static str {
        match self {
            Self::Points => "Points",
            Self::Define => "Define",
            Self::Clock => "Clock",
            Self::End => "End",
            Self::Delete => "Delete",
        }
    }
}

/// What the writer says of a record besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// What the payload is.
    pub kind: RecordKind,
    /// Place in the commit order.
    pub seq: Seq,
    /// Highest sequence known durable when this record was written.
    pub durable_seq: Seq,
    /// Wall clock at the commit.
    pub wall: Timestamp,
    /// Highest manifest edit known durable when this record was written.
    pub manifest_edit: u64,
}

/// A record's header as it stands in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// The fields the writer gave.
    pub head: RecordHead,
    /// Bytes of the payload that follows.
    pub payload_len: u32,
    /// crc32 of the payload.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// The bytes of this header at `offset` of log `log` of `store`.
    pub fn encode(&self, store: StoreId, log: LogId, offset: u64) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        out[..4].copy_from_slice(&RECORD_MAGIC);
        out[4] = self.head.kind as u8;
        out[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[16..24].copy_from_slice(&log.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.head.seq.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.head.durable_seq.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.head.wall.0.to_le_bytes());
        out[48..56].copy_from_slice(&self.head.manifest_edit.to_le_bytes());
        let crc = record_crc(store, offset, &out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at `offset` of log `log` of `store`; none if it is not one of theirs, whole.
    pub fn decode(bytes: &[u8], store: StoreId, log: LogId, offset: u64) -> Option<Self> {
        let bytes = bytes.first_chunk::<RECORD_HEADER_LEN>()?;
        if bytes[..4] != RECORD_MAGIC || u64::from_le_bytes(field(bytes, 16)) != log.0 {
            return None;
        }
        if u32::from_le_bytes(field(bytes, 60)) != record_crc(store, offset, &bytes[..60]) {
            return None;
        }
        let payload_len = u32::from_le_bytes(field(bytes, 8));
        let reserved = bytes[5] != 0 || bytes[6..8] != [0; 2] || bytes[56..60] != [0; 4];
        if reserved || payload_len as usize > MAX_PAYLOAD_LEN {
            return None;
        }
        Some(Self {
            head: RecordHead {
                kind: RecordKind::from_number(bytes[4])?,
                seq: Seq(u64::from_le_bytes(field(bytes, 24))),
                durable_seq: Seq(u64::from_le_bytes(field(bytes, 32))),
                wall: Timestamp(i64::from_le_bytes(field(bytes, 40))),
                manifest_edit: u64::from_le_bytes(field(bytes, 48)),
            },
            payload_len,
            payload_crc: u32::from_le_bytes(field(bytes, 12)),
        })
    }

    /// Bytes of header and payload together.
    pub fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + u64::from(self.payload_len)
    }
}

/// Checksum of a header's fields, bound to the store and to the place in the file.
pub(crate) fn record_crc(store: StoreId, offset: u64, fields: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&store.0);
    hasher.update(&offset.to_le_bytes());
    hasher.update(fields);
    hasher.finalize()
}

/// What a sealing record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndPayload {
    /// Last sequence of the log; one less than its first if it holds none.
    pub last_seq: Seq,
    /// Records before this one.
    pub count: u64,
}

impl EndPayload {
    /// The payload's bytes.
    pub fn encode(&self) -> [u8; END_PAYLOAD_LEN] {
        let mut out = [0; END_PAYLOAD_LEN];
        out[..8].copy_from_slice(&self.last_seq.0.to_le_bytes());
        out[8..].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    /// Reads a payload; none if its length is another.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; END_PAYLOAD_LEN] = bytes.try_into().ok()?;
        Some(Self {
            last_seq: Seq(u64::from_le_bytes(field(bytes, 0))),
            count: u64::from_le_bytes(field(bytes, 8)),
        })
    }
}

/// Path of a log: `wal/wal-<id>.log`, sixteen lower-case hexadecimal digits.
pub fn log_path(id: LogId) -> String {
    format!("wal/wal-{:016x}.log", id.0)
}

/// Path of a spare: `wal/spare-<n>.log`.
pub fn spare_path(number: u64) -> String {
    format!("wal/spare-{number:016x}.log")
}

/// The id in the name of a log within `wal/`.
pub fn log_id_of(name: &str) -> Option<LogId> {
    hex_between(name, "wal-").map(LogId)
}

/// The number in the name of a spare within `wal/`.
pub fn spare_number_of(name: &str) -> Option<u64> {
    hex_between(name, "spare-")
}

fn hex_between(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".log")?;
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(lower) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: StoreId = StoreId([3; 16]);

    fn header() -> RecordHeader {
        RecordHeader {
            head: RecordHead {
                kind: RecordKind::Points,
                seq: Seq(7),
                durable_seq: Seq(5),
                wall: Timestamp(1_780_272_000_000_000_000),
                manifest_edit: 2,
            },
            payload_len: 10,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = header().encode(STORE, LogId(4), 64);
        assert_eq!(RecordHeader::decode(&bytes, STORE, LogId(4), 64), Some(header()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, STORE, LogId(4), 64), None, "bit {bit}");
        }
    }

    #[test]
    fn another_log_store_or_place_is_refused() {
        let bytes = header().encode(STORE, LogId(4), 64);
        assert_eq!(RecordHeader::decode(&bytes, STORE, LogId(5), 64), None);
        assert_eq!(RecordHeader::decode(&bytes, StoreId([4; 16]), LogId(4), 64), None);
        assert_eq!(RecordHeader::decode(&bytes, STORE, LogId(4), 128), None);
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(RecordHeader::decode(&[0; RECORD_HEADER_LEN], StoreId([0; 16]), LogId(0), 0), None);
    }

    #[test]
    fn names_of_files_follow_one_grammar() {
        assert_eq!(log_path(LogId(10)), "wal/wal-000000000000000a.log");
        assert_eq!(log_id_of("wal-000000000000000a.log"), Some(LogId(10)));
        assert_eq!(spare_number_of("spare-00000000000000ff.log"), Some(255));
        for bad in [
            "wal-0a.log",
            "wal-000000000000000A.log",
            "wal-000000000000000a.log.tmp",
            "wal-+00000000000000a.log",
        ] {
            assert_eq!(log_id_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_cover_the_header_without_gaps() {
        for (parts, len) in [(RECORD_PARTS, RECORD_HEADER_LEN), (END_PARTS, END_PAYLOAD_LEN)] {
            let end = parts.iter().fold(0, |at, &(name, offset, len)| {
                assert_eq!(offset, at, "{name}");
                at + len
            });
            assert_eq!(end, len);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(RecordHeader::decode(&bytes, STORE, LogId(1), 0), None);
            let _ = EndPayload::decode(&bytes);
        }
    }
}
