//! Bytes of a catalog file: header, blocks, directory, footer. Format-spec.md, "Catalog".
//!
//! Parsing knows no files; any bytes give a value or `None`.

use crate::bytes::{Reader, put_sized, put_varint};
use crate::file_header::field;
use crate::ids::{CatalogFileId, MeasurementId, SeriesId};

/// First bytes of a catalog file.
pub const CATALOG_MAGIC: [u8; 8] = *b"WATTCAT1";
/// First bytes of its footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"WATTCATF";
/// Length of the footer, the last bytes of the file.
pub const FOOTER_LEN: usize = 64;
/// Length of one entry of the directory.
pub const DIRECTORY_ENTRY_LEN: usize = 32;
/// A block is closed once it has grown to this; one entry may be longer.
pub const BLOCK_BYTES: usize = 4096;
/// Longest block a reader takes. A series of 256 tags of the greatest length fits.
pub const MAX_BLOCK_LEN: u32 = 64 << 20;
/// Length of an entry in a hash block.
pub const HASH_ENTRY_LEN: usize = 12;
/// Most series that stand in a posting itself; more get a bitmap block.
pub const MAX_INLINE_IDS: usize = 32;

/// Names, offsets and lengths of the parts of the footer.
pub const FOOTER_PARTS: &[(&str, usize, usize)] = &[
    ("footer_magic", 0, 8),
    ("file_id", 8, 8),
    ("directory_offset", 16, 8),
    ("block_count", 24, 4),
    ("directory_crc", 28, 4),
    ("series_count", 32, 8),
    ("definition_count", 40, 8),
    ("reserved", 48, 12),
    ("footer_crc", 60, 4),
];

/// Names, offsets and lengths of the parts of an entry of the directory.
pub const DIRECTORY_PARTS: &[(&str, usize, usize)] = &[
    ("block_offset", 0, 8),
    ("block_fence", 8, 8),
    ("block_len", 16, 4),
    ("block_crc", 20, 4),
    ("block_kind", 24, 1),
    ("reserved", 25, 7),
];

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Definitions but series, and the number of series of each measurement. The first block; exactly one.
    Names = 1,
    /// Bitmap of the ids of all series in the file. The second block; exactly one.
    Ids = 2,
    /// Series by rising id, with their keys. Fence: the first id.
    Series = 3,
    /// Series by the hash of their keys. Fence: the first hash.
    Hashes = 4,
    /// Series ids by measurement, tag key and tag value. Fence: the first measurement.
    Postings = 5,
    /// Bitmap of the series of one posting.
    Bitmap = 6,
}

impl BlockKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Names, Self::Ids, Self::Series, Self::Hashes, Self::Postings, Self::Bitmap];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Its name in format-spec.md.
    pub fn name(self) -> &'static str {
        match self {
            Self::Names => "names_block",
            Self::Ids => "ids_block",
            Self::Series => "series_block",
            Self::Hashes => "hashes_block",
            Self::Postings => "postings_block",
            Self::Bitmap => "bitmap_block",
        }
    }
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) offset: u64,
    pub(crate) fence: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) kind: BlockKind,
}

impl BlockEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(&[0; 7]);
    }

    pub(crate) fn decode(bytes: &[u8; DIRECTORY_ENTRY_LEN]) -> Option<Self> {
        let entry = Self {
            offset: u64::from_le_bytes(field(bytes, 0)),
            fence: u64::from_le_bytes(field(bytes, 8)),
            len: u32::from_le_bytes(field(bytes, 16)),
            crc: u32::from_le_bytes(field(bytes, 20)),
            kind: BlockKind::from_number(bytes[24])?,
        };
        (entry.len <= MAX_BLOCK_LEN && bytes[25..] == [0; 7]).then_some(entry)
    }
}

/// Checksum of a block, bound to its file and its number.
pub(crate) fn block_crc(file: CatalogFileId, number: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file.0.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The last bytes of a file: they prove that it is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) file_id: CatalogFileId,
    pub(crate) directory_offset: u64,
    pub(crate) block_count: u32,
    pub(crate) directory_crc: u32,
    pub(crate) series_count: u64,
    pub(crate) definition_count: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[..8].copy_from_slice(&FOOTER_MAGIC);
        out[8..16].copy_from_slice(&self.file_id.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.directory_offset.to_le_bytes());
        out[24..28].copy_from_slice(&self.block_count.to_le_bytes());
        out[28..32].copy_from_slice(&self.directory_crc.to_le_bytes());
        out[32..40].copy_from_slice(&self.series_count.to_le_bytes());
        out[40..48].copy_from_slice(&self.definition_count.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; FOOTER_LEN]) -> Option<Self> {
        let whole = bytes[..8] == FOOTER_MAGIC
            && crc32fast::hash(&bytes[..60]) == u32::from_le_bytes(field(bytes, 60))
            && bytes[48..60] == [0; 12];
        whole.then(|| Self {
            file_id: CatalogFileId(u64::from_le_bytes(field(bytes, 8))),
            directory_offset: u64::from_le_bytes(field(bytes, 16)),
            block_count: u32::from_le_bytes(field(bytes, 24)),
            directory_crc: u32::from_le_bytes(field(bytes, 28)),
            series_count: u64::from_le_bytes(field(bytes, 32)),
            definition_count: u64::from_le_bytes(field(bytes, 40)),
        })
    }
}

/// Appends a series to a series block: id as difference to the one before (0 for the first, which is the fence), then the
/// length of what the key shares with the key before, then the rest of the key.
pub(crate) fn put_series(out: &mut Vec<u8>, id_step: u32, previous_key: &[u8], key: &[u8]) {
    let shared = previous_key.iter().zip(key).take_while(|(a, b)| a == b).count();
    put_varint(out, u64::from(id_step));
    put_varint(out, shared as u64);
    put_sized(out, &key[shared..]);
}

/// Takes the series of a series block one after the other.
#[derive(Debug)]
pub(crate) struct SeriesWalk<B> {
    block: B,
    at: usize,
    id: Option<u32>,
    fence: u64,
    key: Vec<u8>,
}

impl<B: AsRef<[u8]>> SeriesWalk<B> {
    /// A walk through a block, before its first series.
    pub(crate) fn new(block: B, fence: u64) -> Self {
        Self { block, at: 0, id: None, fence, key: Vec::new() }
    }

    /// Goes back to before the first series.
    pub(crate) fn rewind(&mut self) {
        (self.at, self.id) = (0, None);
        self.key.clear();
    }

    /// The series that it stands at, once it has taken one.
    pub(crate) fn current(&self) -> Option<(SeriesId, &[u8])> {
        self.id.map(|id| (SeriesId(id), &*self.key))
    }

    /// Goes on to the next series: false at the end, none if the block is not of the form.
    pub(crate) fn advance(&mut self) -> Option<bool> {
        let mut reader = Reader::new(&self.block.as_ref()[self.at..]);
        if reader.is_empty() {
            return Some(false);
        }
        let step = reader.varint32()?;
        let id = match self.id {
            None if step == 0 => u32::try_from(self.fence).ok()?,
            Some(id) if step > 0 => id.checked_add(step)?,
            _ => return None,
        };
        let shared = usize::try_from(reader.varint()?).ok().filter(|&shared| shared <= self.key.len())?;
        let rest = reader.sized()?;
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.at += reader.offset();
        self.id = Some(id);
        Some(true)
    }
}

/// Walks a series block; `visit` says whether to go on. None if the block is not of the form.
pub(crate) fn read_series(
    block: &[u8],
    fence: u64,
    mut visit: impl FnMut(SeriesId, &[u8]) -> bool,
) -> Option<()> {
    let mut walk = SeriesWalk::new(block, fence);
    while walk.advance()? {
        if !walk.current().is_some_and(|(id, key)| visit(id, key)) {
            break;
        }
    }
    Some(())
}

/// Series that share a tag, as a postings block names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PostedIds {
    List(Vec<u32>),
    /// Number of a bitmap block.
    Block(u32),
}

/// One posting. The empty key stands for "any series of the measurement", the empty value for "has the key".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) measurement: MeasurementId,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) ids: PostedIds,
}

impl Posting {
    pub(crate) fn place(&self) -> (MeasurementId, &str, &str) {
        (self.measurement, &self.key, &self.value)
    }
}

/// Appends a posting: 1 and the value if measurement and key are those of the posting before, else 0, measurement, key and
/// value; then the number of ids and their differences, or 0 and the number of a bitmap block.
pub(crate) fn put_posting(out: &mut Vec<u8>, same_key: bool, posting: &Posting) {
    out.push(u8::from(same_key));
    if !same_key {
        put_varint(out, u64::from(posting.measurement.0));
        put_sized(out, posting.key.as_bytes());
    }
    put_sized(out, posting.value.as_bytes());
    match &posting.ids {
        PostedIds::Block(number) => {
            put_varint(out, 0);
            put_varint(out, u64::from(*number));
        }
        PostedIds::List(ids) => {
            put_varint(out, ids.len() as u64);
            let mut before = 0;
            for &id in ids {
                put_varint(out, u64::from(id - before));
                before = id;
            }
        }
    }
}

/// A posting as it stands in its block; its ids are well-formed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawPosting<'a> {
    measurement: MeasurementId,
    key: &'a str,
    value: &'a str,
    /// Differences of that many ids; for none, the number of a bitmap block.
    count: usize,
    ids: &'a [u8],
}

impl<'a> RawPosting<'a> {
    pub(crate) fn place(&self) -> (MeasurementId, &'a str, &'a str) {
        (self.measurement, self.key, self.value)
    }

    pub(crate) fn to_posting(self) -> Posting {
        let mut reader = Reader::new(self.ids);
        let mut steps = std::iter::from_fn(|| reader.varint32());
        let ids = match self.count {
            0 => PostedIds::Block(steps.next().unwrap_or_default()),
            _ => PostedIds::List(
                steps
                    .scan(0, |id, step| {
                        *id += step;
                        Some(*id)
                    })
                    .collect(),
            ),
        };
        let (key, value) = (self.key.to_owned(), self.value.to_owned());
        Posting { measurement: self.measurement, key, value, ids }
    }
}

/// A block is not of the form of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes the postings of a block one after the other without owning them.
#[derive(Debug)]
pub(crate) struct PostingWalk<'a> {
    reader: Reader<'a>,
    before: Option<RawPosting<'a>>,
}

impl<'a> PostingWalk<'a> {
    pub(crate) fn new(block: &'a [u8]) -> Self {
        Self { reader: Reader::new(block), before: None }
    }

    /// The next posting, none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RawPosting<'a>>, Malformed> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        self.take().map(Some).ok_or(Malformed)
    }

    fn take(&mut self) -> Option<RawPosting<'a>> {
        let reader = &mut self.reader;
        let (measurement, key) = match (reader.u8()?, &self.before) {
            (0, _) => (MeasurementId(reader.varint32()?), reader.text()?),
            (1, Some(before)) => (before.measurement, before.key),
            _ => return None,
        };
        let value = reader.text()?;
        let count = reader.count(1).filter(|count| *count <= MAX_INLINE_IDS)?;
        let from = reader.clone();
        let mut id = 0_u32;
        for index in 0..count.max(1) {
            let step = reader.varint32()?;
            if step == 0 && index > 0 {
                return None;
            }
            id = id.checked_add(step)?;
        }
        let ids = from.clone().bytes(reader.offset() - from.offset())?;
        let posting = RawPosting { measurement, key, value, count, ids };
        if self.before.is_some_and(|before| before.place() >= posting.place()) {
            return None;
        }
        self.before = Some(posting);
        Some(posting)
    }

    /// The first posting of what is left that is not below `place`.
    pub(crate) fn seek(
        &mut self,
        place: (MeasurementId, &str, &str),
    ) -> Result<Option<RawPosting<'a>>, Malformed> {
        loop {
            match self.next()? {
                Some(posting) if posting.place() < place => {}
                found => return Ok(found),
            }
        }
    }
}

/// All postings of a block from the first that is not below `place`; none if it is not of the form.
pub(crate) fn read_postings(block: &[u8], place: (MeasurementId, &str, &str)) -> Option<Vec<Posting>> {
    let mut walk = PostingWalk::new(block);
    let mut out = Vec::new();
    let mut next = walk.seek(place).ok()?;
    while let Some(posting) = next {
        out.push(posting.to_posting());
        next = walk.next().ok()?;
    }
    Some(out)
}

/// Path of a catalog file within the store.
pub fn file_path(id: CatalogFileId) -> String {
    format!("catalog/cat-{:016x}.cat", id.0)
}

/// The id in the name of a file within `catalog/`.
pub(crate) fn file_id_of(name: &str) -> Option<CatalogFileId> {
    let digits = name.strip_prefix("cat-")?.strip_suffix(".cat")?;
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits.len() != 16 || !lower {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().map(CatalogFileId)
}
