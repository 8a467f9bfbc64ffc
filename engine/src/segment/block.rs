//! Blocks of a row group: rows that have a value, then values; with their place mixed into the checksum.
//!
//! Bytes: format-spec.md section 5.3; the values' own bytes are those of `codec` (section 6).

use super::describe::DictionaryWriter;
use super::layout::{MAX_BLOCK_BYTES, MAX_GROUP_ROWS, TIME_FIELD};
use super::plan::ColumnPart;
use crate::bytes::{Reader, put_sized, put_varint};
use crate::codec::{self, CodecTag, DecodeError, FloatHint, NotFolded, Stretch, Wanted};
use crate::column::{Column, Presence, Values};
use std::sync::Arc;
use wattlog_model::FieldType;

/// Every row of the group has a value.
pub(crate) const PRESENT_ALL: u8 = 0;
/// The block begins with the rows that have one.
pub(crate) const PRESENT_LISTED: u8 = 1;

/// What a written block is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub codec: u8,
    pub presence: u8,
}

/// How much work a block is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Quick to write and to read.
    Fast,
    /// PCO where that is smaller.
    Smallest,
}

/// State of one field while its blocks are written.
#[derive(Debug, Default)]
pub(crate) struct FieldCoder {
    hint: FloatHint,
    pub(crate) dictionary: DictionaryWriter,
    scratch: Vec<u8>,
}

impl FieldCoder {
    /// Appends the block of `part`, a column's values in a group of `rows` rows.
    pub(crate) fn encode(
        &mut self,
        part: &ColumnPart<'_>,
        rows: usize,
        packing: Packing,
        out: &mut Vec<u8>,
    ) -> Written {
        let presence = match &part.positions {
            None => PRESENT_ALL,
            Some(positions) => {
                self.scratch.clear();
                codec::encode_positions(positions, rows as u32, &mut self.scratch);
                put_sized(out, &self.scratch);
                PRESENT_LISTED
            }
        };
        let range = part.range.clone();
        let (start, count) = (out.len(), range.len());
        let tag = match part.values {
            Values::Float(v) => codec::encode_floats(&v[range], &mut self.hint, out).tag,
            Values::Integer(v) => codec::encode_integers(&v[range], out),
            Values::Unsigned(v) => codec::encode_unsigned(&v[range], out),
            Values::Boolean(v) => codec::encode_booleans(&v[range], out),
            Values::String(v) => self.encode_texts(&v[range], out),
        };
        let repacked = match part.values {
            Values::Float(_) if packing == Packing::Smallest => codec::repack_floats(out, start, count),
            Values::Integer(_) | Values::Unsigned(_) if packing == Packing::Smallest => {
                codec::repack_integers(out, start, count)
            }
            _ => Ok(None),
        };
        let tag = repacked.expect("what was just encoded decodes").unwrap_or(tag);
        Written { codec: tag as u8, presence }
    }

    /// By the dictionary where that is smaller, new entries counted; else plain.
    fn encode_texts(&mut self, texts: &[Arc<str>], out: &mut Vec<u8>) -> CodecTag {
        let start = out.len();
        let mark = self.dictionary.mark();
        let by_dictionary = self.dictionary.take_in(texts).map(|(ids, new_bytes)| {
            codec::encode_string_ids(&ids, out);
            out.len() - start + new_bytes
        });
        // Plain texts take a byte of length each at the very least, unless they are packed.
        if by_dictionary.is_some_and(|len| len <= texts.len() / 4) {
            return CodecTag::StrDict;
        }
        self.scratch.clear();
        let plain = codec::encode_strings(texts, &mut self.scratch);
        if by_dictionary.is_some_and(|len| len <= self.scratch.len()) {
            return CodecTag::StrDict;
        }
        self.dictionary.back_to(mark);
        out.truncate(start);
        out.extend_from_slice(&self.scratch);
        plain
    }
}

/// Why a block's bytes, whose checksum was right, are no such block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BadBlock {
    pub offset: usize,
}

impl From<DecodeError> for BadBlock {
    fn from(error: DecodeError) -> Self {
        Self { offset: error.offset }
    }
}

/// Decodes the block of a field in a group of `rows` rows into `out`, which takes the field's type.
///
/// After an error `out` holds nothing of use.
pub(crate) fn decode(
    bytes: &[u8],
    presence: u8,
    rows: usize,
    field_type: FieldType,
    texts: &[Arc<str>],
    out: &mut Column,
) -> Result<(), BadBlock> {
    if out.values.field_type() == field_type {
        out.values.clear();
    } else {
        out.values = Values::new(field_type);
    }
    let (bytes, skipped) = decode_presence(bytes, presence, rows, &mut out.presence)?;
    let count = match &out.presence {
        Presence::All => rows,
        Presence::Rows(present) => present.len(),
    };
    let result = match &mut out.values {
        Values::Float(v) => codec::decode_floats(bytes, count, v),
        Values::Integer(v) => codec::decode_integers(bytes, count, v),
        Values::Unsigned(v) => codec::decode_unsigned(bytes, count, v),
        Values::Boolean(v) => codec::decode_booleans(bytes, count, v),
        Values::String(v) => decode_texts(bytes, count, texts, v),
    };
    result.map_err(|error| BadBlock { offset: skipped + error.offset })
}

/// Folds the block of a number field in which every row has a value; see [`codec::fold_floats`].
pub(crate) fn fold(
    bytes: &[u8],
    presence: u8,
    field_type: FieldType,
    ends: &[u32],
    wanted: Wanted,
    out: &mut Vec<Stretch>,
) -> Result<Result<u8, NotFolded>, BadBlock> {
    let rows = ends.last().map_or(0, |end| *end as usize);
    let folded = match field_type {
        _ if presence != PRESENT_ALL => return Ok(Err(NotFolded)),
        FieldType::Float => codec::fold_floats(bytes, rows, ends, wanted, out),
        FieldType::Integer => codec::fold_integers(bytes, rows, ends, wanted, out),
        FieldType::Unsigned => codec::fold_unsigned(bytes, rows, ends, wanted, out),
        FieldType::Boolean | FieldType::String => return Ok(Err(NotFolded)),
    };
    Ok(folded?)
}

/// Reads which rows have a value; gives the rest of the block and its place.
fn decode_presence<'a>(
    bytes: &'a [u8],
    presence: u8,
    rows: usize,
    out: &mut Presence,
) -> Result<(&'a [u8], usize), BadBlock> {
    match presence {
        PRESENT_ALL => {
            *out = Presence::All;
            Ok((bytes, 0))
        }
        PRESENT_LISTED => {
            let mut reader = Reader::new(bytes);
            let listed = reader.sized().ok_or(BadBlock { offset: 0 })?;
            let skipped = reader.offset();
            let mut positions = match std::mem::replace(out, Presence::All) {
                Presence::Rows(positions) => positions,
                Presence::All => Vec::new(),
            };
            positions.clear();
            codec::decode_positions(listed, rows as u32, &mut positions)?;
            if positions.is_empty() || positions.len() >= rows {
                return Err(BadBlock { offset: 0 });
            }
            *out = Presence::Rows(positions);
            Ok((&bytes[skipped..], skipped))
        }
        _ => Err(BadBlock { offset: 0 }),
    }
}

/// What follows the rows in a block that begins with them; empty if it does not.
pub(crate) fn after_presence(bytes: &[u8]) -> &[u8] {
    let mut reader = Reader::new(bytes);
    reader.sized().map_or(&[], |_| &bytes[reader.offset()..])
}

fn decode_texts(
    bytes: &[u8],
    count: usize,
    texts: &[Arc<str>],
    out: &mut Vec<Arc<str>>,
) -> Result<(), DecodeError> {
    if bytes.first() != Some(&(CodecTag::StrDict as u8)) {
        return codec::decode_strings(bytes, count, MAX_BLOCK_BYTES, out);
    }
    let mut ids = Vec::new();
    codec::decode_string_ids(bytes, count, &mut ids)?;
    out.reserve(count);
    for id in ids {
        let text = texts.get(id as usize).ok_or(DecodeError { offset: 0, what: "no such text" })?;
        out.push(Arc::clone(text));
    }
    Ok(())
}

/// One block of a compact group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompactBlock<'a> {
    pub field: u16,
    pub presence: u8,
    pub bytes: &'a [u8],
    /// Where `bytes` starts in the group.
    pub offset: usize,
}

/// Appends one block of a compact group.
pub(crate) fn put_compact(field: u16, presence: u8, block: &[u8], out: &mut Vec<u8>) {
    put_varint(out, u64::from(field));
    out.push(presence);
    put_sized(out, block);
}

/// Takes the next block off a compact group; `at` moves on. None at its end.
pub(crate) fn take_compact<'a>(
    group: &'a [u8],
    at: &mut usize,
) -> Option<Result<CompactBlock<'a>, BadBlock>> {
    let rest = group.get(*at..).filter(|rest| !rest.is_empty())?;
    let mut reader = Reader::new(rest);
    let mut take = || {
        let field = u16::try_from(reader.varint()?).ok()?;
        let presence = reader.u8()?;
        let bytes = reader.sized()?;
        Some((field, presence, bytes, reader.offset()))
    };
    let Some((field, presence, bytes, used)) = take() else {
        return Some(Err(BadBlock { offset: *at }));
    };
    *at += used;
    Some(Ok(CompactBlock { field, presence, bytes, offset: *at - bytes.len() }))
}

const _: () = assert!(MAX_GROUP_ROWS <= codec::MAX_BLOCK_LEN && TIME_FIELD == u16::MAX);
