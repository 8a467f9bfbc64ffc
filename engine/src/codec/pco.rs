//! PCO: integers as offsets in bins, the bins coded by their frequency (format-spec.md 6.15).
//!
//! The bytes of a chunk are those of `pco` (format 4.1, wrapped), held to a part of what that format allows: one latent
//! variable in classic mode, no differences or those of neighbours, at most 256 bins. The rest (other modes, lookback,
//! convolution) is refused before the library sees a byte.
//!
//! Promise: a block takes the place of another one only if it is more than 5 % smaller and gives the same integers.
//!
//! Invariants
//! 1. Decoding takes at most half a mebibyte, whatever the bytes say: 2^14 states of twelve bytes, 256 bins, a batch.
//! 2. It is slow (a tenth of the other codecs): only compaction writes it, only for days long past (ADR 0012).
//!
//! Not here: which blocks are old enough (`compaction`).

use super::cursor::{Cursor, put_zigzag};
use super::numbers::{self, Sink};
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN, MINI_BLOCK_LEN, floats, ints};
use ::pco::data_types::Number;
use ::pco::wrapped::{FileCompressor, FileDecompressor};
use ::pco::{ChunkConfig, DeltaSpec, FULL_BATCH_N, ModeSpec, PagingSpec};

/// What `pco` writes at the head of a file; a block leaves it out.
const FILE_HEAD: [u8; 2] = [4, 1];
/// The library's default: higher ones gain 0.3 %.
const LEVEL: usize = 8;
/// Shorter blocks cannot gain: the bins alone take as much.
const MIN_BLOCK_BYTES: usize = 24;
/// Bins of a chunk.
const MAX_BINS: u64 = 256;
/// Bits of a state.
const MAX_STATE_BITS: u64 = 14;

/// Writes the block of `count` doubles that is `out[start..]` again under PCO, if that is more than 5 % smaller; else
/// leaves it. Values keep their exact bits. Gives the new tag.
///
/// # Errors
/// Those of [`decode_floats`](super::decode_floats); `out` is then as before.
pub fn repack_floats(out: &mut Vec<u8>, start: usize, count: usize) -> Result<Option<CodecTag>, DecodeError> {
    let block = &out[start..];
    if block.len() < MIN_BLOCK_BYTES {
        return Ok(None);
    }
    let (head, integers) = floats::integers(block, count)?;
    Ok(repack(&head, &integers, out, start))
}

/// The same for integers, signed or not.
///
/// # Errors
/// Those of [`decode_integers`](super::decode_integers); `out` is then as before.
pub fn repack_integers(
    out: &mut Vec<u8>,
    start: usize,
    count: usize,
) -> Result<Option<CodecTag>, DecodeError> {
    let block = &out[start..];
    if block.len() < MIN_BLOCK_BYTES {
        return Ok(None);
    }
    let (scale, integers) = ints::integers(block, count)?;
    Ok(repack(&[scale], &integers, out, start))
}

fn repack(head: &[u8], integers: &[i64], out: &mut Vec<u8>, start: usize) -> Option<CodecTag> {
    let mut block = vec![CodecTag::Pco as u8];
    block.extend_from_slice(head);
    let payload = block.len();
    encode(integers, &mut block)?;
    if block.len() * 105 >= (out.len() - start) * 100 {
        return None;
    }
    // What is kept for decades is read once before the plain form is given up.
    let mut back = Vec::with_capacity(integers.len());
    let mut sink = ints::IntegerSink::new(&mut back, 0, |value| value);
    let read = numbers::decode(CodecTag::Pco, &mut Cursor::new(&block[payload..]), integers.len(), &mut sink);
    if read.is_err() || back != integers {
        debug_assert!(false, "PCO gave other integers than it was given: {read:?}");
        return None;
    }
    out.truncate(start);
    out.extend_from_slice(&block);
    Some(CodecTag::Pco)
}

/// Appends the payload: width, base, chunk. None if there are no values or the library refuses them.
fn encode(values: &[i64], out: &mut Vec<u8>) -> Option<()> {
    let base = *values.iter().min()?;
    let range = values.iter().max()?.wrapping_sub(base) as u64;
    let offsets = || values.iter().map(|value| value.wrapping_sub(base) as u64);
    let (width, chunk) = if u8::try_from(range).is_ok() {
        (1, chunk(&offsets().map(|o| o as u8).collect::<Vec<_>>()))
    } else if u16::try_from(range).is_ok() {
        (2, chunk(&offsets().map(|o| o as u16).collect::<Vec<_>>()))
    } else if u32::try_from(range).is_ok() {
        (4, chunk(&offsets().map(|o| o as u32).collect::<Vec<_>>()))
    } else {
        (8, chunk(&offsets().collect::<Vec<_>>()))
    };
    out.push(width);
    put_zigzag(base, out);
    out.extend_from_slice(&chunk?);
    Some(())
}

/// The smaller one of a chunk of values and one of differences.
fn chunk<T: Number>(values: &[T]) -> Option<Vec<u8>> {
    let deltas = [DeltaSpec::NoOp, DeltaSpec::TryConsecutive(1)];
    let chunks = deltas.into_iter().filter_map(|delta| {
        let config = ChunkConfig::default()
            .with_compression_level(LEVEL)
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(delta)
            .with_paging_spec(PagingSpec::EqualPagesUpTo(MAX_BLOCK_LEN))
            .with_enable_8_bit(true);
        let mut chunk = FileCompressor::default().chunk_compressor(values, &config).ok()?;
        let mut bytes = Vec::new();
        chunk.write_meta(&mut bytes).ok()?;
        chunk.write_page(0, &mut bytes).ok()?;
        Some(bytes)
    });
    chunks.min_by_key(Vec::len)
}

/// Reads the payload of `count` integers (at least one) and hands them on; reads to the end of the block.
pub(super) fn decode(cursor: &mut Cursor<'_>, count: usize, sink: &mut impl Sink) -> Result<(), DecodeError> {
    let width = cursor.byte()?;
    let base = cursor.zigzag()?;
    check_meta(cursor)?;
    match width {
        1 => read::<u8>(cursor, base, count, sink),
        2 => read::<u16>(cursor, base, count, sink),
        4 => read::<u32>(cursor, base, count, sink),
        8 => read::<u64>(cursor, base, count, sink),
        _ => Err(cursor.error("width of a PCO chunk")),
    }
}

/// Refuses chunks outside the part of the format that we take. The cursor stays.
fn check_meta(cursor: &Cursor<'_>) -> Result<(), DecodeError> {
    let mut word = [0; 8];
    let rest = cursor.rest();
    let len = rest.len().min(word.len());
    word[..len].copy_from_slice(&rest[..len]);
    let mut bits = u64::from_le_bytes(word);
    let mut take = |count: u32| {
        let field = bits & ((1 << count) - 1);
        bits >>= count;
        field
    };
    if take(4) != 0 {
        return Err(cursor.error("mode of a PCO chunk"));
    }
    let delta = take(4);
    // One difference, and none of a second variable.
    if delta > 1 || delta == 1 && (take(3), take(1)) != (1, 0) {
        return Err(cursor.error("differences of a PCO chunk"));
    }
    let (state_bits, bins) = (take(4), take(15));
    if state_bits > MAX_STATE_BITS || bins == 0 || bins > MAX_BINS {
        return Err(cursor.error("bins of a PCO chunk"));
    }
    Ok(())
}

fn read<T: Number + Default + Into<u64>>(
    cursor: &mut Cursor<'_>,
    base: i64,
    count: usize,
    sink: &mut impl Sink,
) -> Result<(), DecodeError> {
    let at = *cursor;
    let bad = |_| at.error("PCO chunk");
    let (file, _) = FileDecompressor::new(&FILE_HEAD[..]).map_err(bad)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(cursor.rest()).map_err(bad)?;
    let mut page = chunk.page_decompressor(rest, count).map_err(bad)?;
    let mut batch = [T::default(); FULL_BATCH_N];
    let mut values = [0; MINI_BLOCK_LEN];
    let mut left = count;
    while left > 0 {
        let len = left.min(FULL_BATCH_N);
        if page.read(&mut batch).map_err(bad)?.n_processed != len {
            return Err(at.error("PCO chunk"));
        }
        for part in batch[..len].chunks(MINI_BLOCK_LEN) {
            for (value, offset) in values.iter_mut().zip(part) {
                *value = base.wrapping_add_unsigned((*offset).into());
            }
            sink.chunk(&mut values[..part.len()]).map_err(|what| at.error(what))?;
        }
        left -= len;
    }
    cursor.take(cursor.left() - page.into_src().len())?;
    Ok(())
}
