//! Texts: indexes into a dictionary that the container owns, or lengths and bytes (format-spec.md 6.8).
//!
//! zstd runs in one pass into a buffer of the size that the lengths give: neither a window nor a size from the frame
//! decides how much memory is taken, and the caller's limit is checked before anything is.

use super::cursor::{Cursor, put_varint};
use super::numbers::read_tag;
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN, ints};
use std::sync::Arc;

/// Below this zstd's frame costs more than it saves.
const MIN_ZSTD_LEN: usize = 64;
/// The library's default, as fast as the disk.
const ZSTD_LEVEL: i32 = 3;

/// Appends a block of `values`; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_strings(values: &[Arc<str>], out: &mut Vec<u8>) -> CodecTag {
    assert!(values.len() <= MAX_BLOCK_LEN, "a block of {} values", values.len());
    let lengths: Vec<u64> = values.iter().map(|value| value.len() as u64).collect();
    let mut length_block = Vec::new();
    ints::encode_unsigned(&lengths, &mut length_block);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).collect();
    let packed = if bytes.len() < MIN_ZSTD_LEN {
        None
    } else {
        // Only memory can fail it; plain bytes serve then.
        zstd::bulk::compress(&bytes, ZSTD_LEVEL).ok().filter(|packed| packed.len() < bytes.len())
    };
    let tag = if packed.is_some() { CodecTag::PlainZstd } else { CodecTag::Plain };
    out.push(tag as u8);
    put_varint(length_block.len() as u64, out);
    out.extend_from_slice(&length_block);
    out.extend_from_slice(packed.as_ref().unwrap_or(&bytes));
    tag
}

/// Appends the `count` texts of a block to `out`, which after an error is as before; an error too if they have more
/// than `max_bytes` bytes in all. Equal neighbours share one allocation.
pub fn decode_strings(
    bytes: &[u8],
    count: usize,
    max_bytes: usize,
    out: &mut Vec<Arc<str>>,
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let tag = read_tag(&mut cursor, count)?;
    if !matches!(tag, CodecTag::Plain | CodecTag::PlainZstd) {
        return Err(DecodeError { offset: 0, what: "codec is not one for texts" });
    }
    let length_block = cursor.varint_in(0..=cursor.left(), "length of the block of lengths")?;
    let at = cursor.error("");
    let mut lengths = Vec::new();
    ints::decode_unsigned(cursor.take(length_block)?, count, &mut lengths)
        .map_err(|error| DecodeError { offset: at.offset + error.offset, ..error })?;
    let total = lengths.iter().try_fold(0_u64, |sum, length| sum.checked_add(*length));
    let total = total.and_then(|total| usize::try_from(total).ok()).filter(|total| *total <= max_bytes);
    let total = total.ok_or_else(|| cursor.error("texts exceed the limit"))?;
    let unpacked;
    let mut text = if tag == CodecTag::Plain {
        cursor.take(total)?
    } else {
        let frame = cursor.take(cursor.left())?;
        unpacked = zstd::bulk::decompress(frame, total).map_err(|_| cursor.error("zstd frame"))?;
        &unpacked
    };
    if text.len() != total {
        return Err(cursor.error("zstd frame is shorter than the lengths say"));
    }
    cursor.end()?;
    let start = out.len();
    let mut last: Option<Arc<str>> = None;
    for length in lengths {
        let (value, rest) = text.split_at(length as usize);
        text = rest;
        let shared = if let Some(last) = last.take_if(|last| last.as_bytes() == value) {
            last
        } else if let Ok(value) = std::str::from_utf8(value) {
            Arc::from(value)
        } else {
            out.truncate(start);
            return Err(cursor.error("text is not UTF-8"));
        };
        last = Some(Arc::clone(&shared));
        out.push(shared);
    }
    Ok(())
}

/// Appends a block of indexes into the container's dictionary; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_string_ids(ids: &[u32], out: &mut Vec<u8>) {
    out.push(CodecTag::StrDict as u8);
    let ids: Vec<u64> = ids.iter().map(|id| u64::from(*id)).collect();
    ints::encode_unsigned(&ids, out);
}

/// Appends the `count` indexes of a block to `out`, which after an error is as before. Whether the dictionary has them
/// is for the caller to check.
pub fn decode_string_ids(bytes: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    if read_tag(&mut cursor, count)? != CodecTag::StrDict {
        return Err(DecodeError { offset: 0, what: "codec is not STRDICT" });
    }
    let mut ids: Vec<u64> = Vec::new();
    ints::decode_unsigned(cursor.rest(), count, &mut ids)
        .map_err(|error| DecodeError { offset: 1 + error.offset, ..error })?;
    if ids.iter().any(|id| *id > u64::from(u32::MAX)) {
        return Err(cursor.error("index exceeds 32 bits"));
    }
    out.extend(ids.iter().map(|id| *id as u32));
    Ok(())
}
