//! The 64 bytes every file of a store begins with: what it is, who may read it, whose it is.
//!
//! Bytes: format-spec.md section 3. Parsing knows no files; any bytes give a header or the reason why not.

use crate::error::Damage;
use crate::ids::StoreId;

/// Length of the header of every file.
pub const FILE_HEADER_LEN: usize = 64;
/// Version of the format this program writes, and the newest it reads.
pub const FORMAT_VERSION: u16 = 1;
/// Oldest reader that understands what this program writes.
pub const OLDEST_READER: u16 = 1;

/// Header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// What kind of file it is.
    pub magic: [u8; 8],
    /// The store it belongs to.
    pub store: StoreId,
    /// Its number; the same as in its name.
    pub file_id: u64,
    /// A number of the kind: first sequence of a log, generation before a manifest, else 0.
    pub param: u64,
}

/// Why a file's header was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is damaged, or the file is not what its name says.
    #[error(transparent)]
    Damage(Damage),
    /// It is whole, and says that this program must not touch the file: another version wrote it.
    #[error("written by a newer version: {0}")]
    TooNew(Damage),
}

impl HeaderError {
    /// Where it did not fit.
    pub fn into_damage(self) -> Damage {
        match self {
            Self::Damage(damage) | Self::TooNew(damage) => damage,
        }
    }
}

/// Names, offsets and lengths of the parts, as in format-spec.md section 3.
pub const PARTS: &[(&str, usize, usize)] = &[
    ("magic", 0, 8),
    ("format_version", 8, 2),
    ("oldest_reader", 10, 2),
    ("incompat_flags", 12, 4),
    ("ro_compat_flags", 16, 4),
    ("compat_flags", 20, 4),
    ("store_id", 24, 16),
    ("file_id", 40, 8),
    ("param", 48, 8),
    ("reserved", 56, 4),
    ("header_crc", 60, 4),
];

impl FileHeader {
    /// The bytes of this header.
    pub fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut out = [0; FILE_HEADER_LEN];
        out[..8].copy_from_slice(&self.magic);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&OLDEST_READER.to_le_bytes());
        out[24..40].copy_from_slice(&self.store.0);
        out[40..48].copy_from_slice(&self.file_id.to_le_bytes());
        out[48..56].copy_from_slice(&self.param.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of `file`, which must be of kind `magic` and, where given, belong to `store` and bear `file_id`.
    pub fn decode(
        bytes: &[u8],
        file: &str,
        magic: [u8; 8],
        store: Option<StoreId>,
        file_id: Option<u64>,
    ) -> Result<Self, HeaderError> {
        let differs = |part, offset: usize, expected, found| Damage {
            file: file.to_owned(),
            offset: offset as u64,
            part,
            expected,
            found,
        };
        let damage =
            |part, offset, expected, found| HeaderError::Damage(differs(part, offset, expected, found));
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_LEN>() else {
            return Err(damage("file_header", 0, FILE_HEADER_LEN as u64, bytes.len() as u64));
        };
        let found_magic = u64::from_le_bytes(field(bytes, 0));
        if bytes[..8] != magic {
            return Err(damage("magic", 0, u64::from_le_bytes(magic), found_magic));
        }
        let (crc, found) = (crc32fast::hash(&bytes[..60]), u32::from_le_bytes(field(bytes, 60)));
        if crc != found {
            return Err(damage("header_crc", 60, u64::from(crc), u64::from(found)));
        }
        // From here on the bytes are what a program wrote: what does not fit is from another program or another store.
        let oldest = u16::from_le_bytes(field(bytes, 10));
        if oldest > FORMAT_VERSION {
            let found = u64::from(oldest);
            return Err(HeaderError::TooNew(differs("oldest_reader", 10, u64::from(FORMAT_VERSION), found)));
        }
        // No incompatible or read-only-compatible feature exists in version 1; compatible ones are ignored.
        for (part, offset) in [("incompat_flags", 12), ("ro_compat_flags", 16), ("reserved", 56)] {
            let flags = u32::from_le_bytes(field(bytes, offset));
            if flags != 0 {
                return Err(HeaderError::TooNew(differs(part, offset, 0, u64::from(flags))));
            }
        }
        let header = Self {
            magic,
            store: StoreId(field(bytes, 24)),
            file_id: u64::from_le_bytes(field(bytes, 40)),
            param: u64::from_le_bytes(field(bytes, 48)),
        };
        if let Some(store) = store
            && store != header.store
        {
            let head = |id: StoreId| u64::from_le_bytes(field(&id.0, 0));
            return Err(damage("store_id", 24, head(store), head(header.store)));
        }
        if let Some(id) = file_id
            && id != header.file_id
        {
            return Err(damage("file_id", 40, id, header.file_id));
        }
        Ok(header)
    }
}

/// `N` bytes of `bytes` from `offset`, which the caller knows to be there.
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[offset..offset + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader =
        FileHeader { magic: *b"WATTTEST", store: StoreId([7; 16]), file_id: 42, param: 9 };

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = HEADER.encode();
        assert_eq!(FileHeader::decode(&bytes, "f", HEADER.magic, Some(HEADER.store), Some(42)), Ok(HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&flipped, "f", HEADER.magic, None, None).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_of_another_store_or_name_is_refused() {
        let bytes = HEADER.encode();
        let part = |bytes: &[u8], store, id| {
            FileHeader::decode(bytes, "f", HEADER.magic, store, id).unwrap_err().into_damage().part
        };
        assert_eq!(part(&bytes, Some(StoreId([8; 16])), None), "store_id");
        assert_eq!(part(&bytes, None, Some(43)), "file_id");
        assert_eq!(part(&bytes[..63], None, None), "file_header");
    }

    #[test]
    fn a_newer_file_is_told_from_a_damaged_one() {
        for (offset, value) in [(10, 2), (12, 1), (16, 1)] {
            let mut bytes = HEADER.encode();
            bytes[offset] = value;
            let crc = crc32fast::hash(&bytes[..60]);
            bytes[60..].copy_from_slice(&crc.to_le_bytes());
            let error = FileHeader::decode(&bytes, "f", HEADER.magic, None, None).unwrap_err();
            assert!(matches!(error, HeaderError::TooNew(_)), "{error}");
        }
        let mut bytes = HEADER.encode();
        bytes[20] = 1; // A compatible feature is none of our business.
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::decode(&bytes, "f", HEADER.magic, None, None), Ok(HEADER));
    }

    #[test]
    fn parts_cover_the_header_without_gaps() {
        let end = PARTS.iter().fold(0, |at, &(name, offset, len)| {
            assert_eq!(offset, at, "{name}");
            at + len
        });
        assert_eq!(end, FILE_HEADER_LEN);
    }
}
