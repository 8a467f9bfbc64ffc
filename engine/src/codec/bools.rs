//! Booleans: one value, a bit each, or runs (format-spec.md 6.7).

use super::cursor::{Cursor, put_varint};
use super::mini::{Center, StreamPlan, read_stream};
use super::numbers::read_tag;
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN};

/// Appends a block of `values`; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_booleans(values: &[bool], out: &mut Vec<u8>) -> CodecTag {
    assert!(values.len() <= MAX_BLOCK_LEN, "a block of {} values", values.len());
    let Some(first) = values.first() else {
        out.push(CodecTag::Bitmap as u8);
        return CodecTag::Bitmap;
    };
    let lengths: Vec<i64> = values.chunk_by(|a, b| a == b).map(|run| run.len() as i64 - 1).collect();
    if lengths.len() == 1 {
        out.extend_from_slice(&[CodecTag::Const as u8, u8::from(*first)]);
        return CodecTag::Const;
    }
    let bitmap_len = values.len().div_ceil(8);
    let plan = StreamPlan::new(&lengths, Center::Sampled, bitmap_len);
    // The first value and up to three bytes for the number of runs.
    if plan.bytes + 4 < bitmap_len {
        out.extend_from_slice(&[CodecTag::Rle as u8, u8::from(*first)]);
        put_varint(lengths.len() as u64, out);
        plan.write(&lengths, out);
        return CodecTag::Rle;
    }
    out.push(CodecTag::Bitmap as u8);
    put_bitmap(values, out);
    CodecTag::Bitmap
}

/// Appends the `count` values of a block to `out`, which after an error is as before.
pub fn decode_booleans(bytes: &[u8], count: usize, out: &mut Vec<bool>) -> Result<(), DecodeError> {
    let start = out.len();
    let result = decode_into(bytes, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_into(bytes: &[u8], count: usize, out: &mut Vec<bool>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    match read_tag(&mut cursor, count)? {
        CodecTag::Bitmap => {
            let bits = cursor.take(count.div_ceil(8))?;
            if has_padding_bits(bits, count) {
                return Err(cursor.error("padding bits are not zero"));
            }
            out.extend((0..count).map(|i| bits[i / 8] >> (i % 8) & 1 == 1));
        }
        CodecTag::Const => {
            let value = read_bool(&mut cursor)?;
            out.resize(out.len() + count, value);
        }
        CodecTag::Rle => {
            let mut value = read_bool(&mut cursor)?;
            let runs = cursor.varint_in(1..=count, "number of runs")?;
            let mut left = count;
            read_stream(&mut cursor, runs, |lengths, at| {
                for length in lengths {
                    let length = usize::try_from(*length).ok().filter(|length| *length < left);
                    let length = length.ok_or_else(|| at.error("length of a run"))? + 1;
                    left -= length;
                    out.resize(out.len() + length, value);
                    value = !value;
                }
                Ok(())
            })?;
            if left > 0 {
                return Err(cursor.error("runs end early"));
            }
        }
        _ => return Err(DecodeError { offset: 0, what: "codec is not one for booleans" }),
    }
    cursor.end()
}

fn read_bool(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    match cursor.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(cursor.error("neither true nor false")),
    }
}

/// One bit for each, the first in the lowest bit; the last byte filled with zeros.
fn put_bitmap(values: &[bool], out: &mut Vec<u8>) {
    out.extend(
        values.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))),
    );
}

/// True if a bit after the last of `count` is set in a bitmap of just as many bytes as needed.
pub(crate) fn has_padding_bits(bitmap: &[u8], count: usize) -> bool {
    !count.is_multiple_of(8) && bitmap[count / 8] >> (count % 8) != 0
}
