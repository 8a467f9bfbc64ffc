//! Signed and unsigned integers (format-spec.md 6.4 and 6.6).
//!
//! A power of ten common to all values of a block is stripped (a meter that counts in steps of 100 Wh). Unsigned
//! values go through the same code as their 64 bits: all arithmetic is modulo 2^64.

use super::cursor::Cursor;
use super::numbers::{self, Hope, Sink};
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN};
use std::borrow::Cow;

/// Bytes of a value under RAW64.
pub(crate) const RAW64_VALUE_LEN: usize = 8;
/// 10^18 is the largest power of ten below 2^63.
const MAX_STRIPPED: u8 = 18;

/// Appends a block of `values`; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_integers(values: &[i64], out: &mut Vec<u8>) -> CodecTag {
    encode(values, Hope::Any, out)
}

/// Appends the `count` values of a block to `out`, which after an error is as before.
pub fn decode_integers(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    decode(bytes, count, out, |value| value)
}

/// Appends a block of `values`; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_unsigned(values: &[u64], out: &mut Vec<u8>) -> CodecTag {
    encode(bytemuck::cast_slice(values), Hope::Any, out)
}

/// Appends the `count` values of a block to `out`, which after an error is as before.
pub fn decode_unsigned(bytes: &[u8], count: usize, out: &mut Vec<u64>) -> Result<(), DecodeError> {
    decode(bytes, count, out, |value| value as u64)
}

pub(crate) fn encode(values: &[i64], hope: Hope, out: &mut Vec<u8>) -> CodecTag {
    assert!(values.len() <= MAX_BLOCK_LEN, "a block of {} values", values.len());
    let (stripped, exponent) = strip(values);
    let limit = 1 + RAW64_VALUE_LEN * values.len();
    if let Some(tag) = numbers::encode(&stripped, &[exponent], hope, limit, out) {
        return tag;
    }
    out.push(CodecTag::Raw64 as u8);
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    CodecTag::Raw64
}

pub(crate) fn decode<T: Copy>(
    bytes: &[u8],
    count: usize,
    out: &mut Vec<T>,
    from: impl Fn(i64) -> T + Copy,
) -> Result<(), DecodeError> {
    let start = out.len();
    let mut cursor = Cursor::new(bytes);
    match read_head(&mut cursor, count)? {
        Head::Raw64(words) => out.extend(words.iter().map(|word| from(i64::from_le_bytes(*word)))),
        Head::Scaled(tag, exponent) => {
            out.reserve(count);
            let result = numbers::decode(tag, &mut cursor, count, &mut IntegerSink::new(out, exponent, from));
            if result.is_err() {
                out.truncate(start);
            }
            result?;
        }
    }
    Ok(())
}

/// A block up to its payload.
pub(crate) enum Head<'a> {
    /// All of it: the values.
    Raw64(&'a [[u8; 8]]),
    /// Integers under a tag, to be multiplied by this power of ten.
    Scaled(CodecTag, u8),
}

pub(crate) fn read_head<'a>(cursor: &mut Cursor<'a>, count: usize) -> Result<Head<'a>, DecodeError> {
    let tag = numbers::read_tag(cursor, count)?;
    if tag == CodecTag::Raw64 {
        return Ok(Head::Raw64(read_raw64(cursor, count)?));
    }
    let exponent = cursor.byte()?;
    if exponent > MAX_STRIPPED {
        return Err(cursor.error("scale"));
    }
    Ok(Head::Scaled(tag, exponent))
}

/// Scale byte and integers of a block of integers; those of RAW64 are the values.
pub(super) fn integers(bytes: &[u8], count: usize) -> Result<(u8, Vec<i64>), DecodeError> {
    let mut integers = Vec::new();
    if bytes.first() == Some(&(CodecTag::Raw64 as u8)) {
        decode_integers(bytes, count, &mut integers)?;
        return Ok((0, integers));
    }
    let mut cursor = Cursor::new(bytes);
    let tag = numbers::read_tag(&mut cursor, count)?;
    let scale = cursor.byte()?;
    let mut sink = IntegerSink::new(&mut integers, 0, |value| value);
    numbers::decode(tag, &mut cursor, count, &mut sink)?;
    Ok((scale, integers))
}

/// The rest of a RAW64 block.
pub(crate) fn read_raw64<'a>(cursor: &mut Cursor<'a>, count: usize) -> Result<&'a [[u8; 8]], DecodeError> {
    let bytes = cursor.take(count * RAW64_VALUE_LEN)?;
    cursor.end()?;
    Ok(bytes.as_chunks().0)
}

/// Multiplies by a power of ten, modulo 2^64, and appends what `from` makes of it.
pub(crate) struct IntegerSink<'a, T, F> {
    out: &'a mut Vec<T>,
    factor: i64,
    from: F,
}

impl<'a, T, F: Fn(i64) -> T> IntegerSink<'a, T, F> {
    /// `exponent` is at most 18.
    pub(crate) fn new(out: &'a mut Vec<T>, exponent: u8, from: F) -> Self {
        Self { out, factor: 10_i64.pow(u32::from(exponent)), from }
    }
}

impl<T: Copy, F: Fn(i64) -> T> Sink for IntegerSink<'_, T, F> {
    fn run(&mut self, value: i64, count: usize) -> Result<(), &'static str> {
        self.out.resize(self.out.len() + count, (self.from)(value.wrapping_mul(self.factor)));
        Ok(())
    }

    fn chunk(&mut self, values: &mut [i64]) -> Result<(), &'static str> {
        if self.factor == 1 {
            self.out.extend(values.iter().map(|value| (self.from)(*value)));
        } else {
            self.out.extend(values.iter().map(|value| (self.from)(value.wrapping_mul(self.factor))));
        }
        Ok(())
    }

    fn exact_line(&mut self, start: i64, step: i64, count: usize) -> Result<(), &'static str> {
        let (mut next, step) = (start.wrapping_mul(self.factor), step.wrapping_mul(self.factor));
        self.out.extend((0..count).map(|_| {
            let value = next;
            next = next.wrapping_add(step);
            (self.from)(value)
        }));
        Ok(())
    }
}

/// The values over the largest power of ten that divides them all, and its exponent.
fn strip(values: &[i64]) -> (Cow<'_, [i64]>, u8) {
    let mut exponent = MAX_STRIPPED;
    let mut seen_one = false;
    for value in values.iter().filter(|value| **value != 0) {
        while !DIVISORS[exponent as usize].divides(*value) {
            exponent -= 1;
        }
        seen_one = true;
        if exponent == 0 {
            break;
        }
    }
    if exponent == 0 || !seen_one {
        return (Cow::Borrowed(values), 0);
    }
    let divisor = &DIVISORS[exponent as usize];
    (values.iter().map(|value| divisor.quotient(*value)).collect(), exponent)
}

/// Exact division by 10^`exponent` by multiplying with the inverse of 5^`exponent` modulo 2^64 (Granlund and
/// Montgomery, Division by invariant integers, PLDI 1994, section 9).
#[derive(Clone, Copy)]
struct Divisor {
    exponent: u32,
    inverse: u64,
    /// Largest quotient of a multiple of 5^`exponent`.
    most: u64,
}

/// By exponent.
static DIVISORS: [Divisor; MAX_STRIPPED as usize + 1] = {
    const INVERSE_OF_FIVE: u64 = 0xcccc_cccc_cccc_cccd;
    let mut divisors = [Divisor { exponent: 0, inverse: 1, most: u64::MAX }; MAX_STRIPPED as usize + 1];
    let mut exponent = 1;
    while exponent <= MAX_STRIPPED as usize {
        let last = divisors[exponent - 1];
        divisors[exponent] = Divisor {
            exponent: exponent as u32,
            inverse: last.inverse.wrapping_mul(INVERSE_OF_FIVE),
            most: u64::MAX / 5_u64.pow(exponent as u32),
        };
        exponent += 1;
    }
    divisors
};

impl Divisor {
    fn divides(&self, value: i64) -> bool {
        let by_twos = value.trailing_zeros() >= self.exponent;
        by_twos && value.unsigned_abs().wrapping_mul(self.inverse) <= self.most
    }

    /// Of a multiple.
    fn quotient(&self, value: i64) -> i64 {
        ((value >> self.exponent) as u64).wrapping_mul(self.inverse) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripping_divides_exactly() {
        let check = |values: &[i64], exponent: u8| {
            let (stripped, found) = strip(values);
            assert_eq!(found, exponent, "{values:?}");
            let factor = 10_i64.pow(u32::from(found));
            assert!(stripped.iter().zip(values).all(|(s, v)| s * factor == *v), "{values:?}");
        };
        check(&[], 0);
        check(&[0, 0], 0);
        check(&[100, -300, 0, 7_000], 2);
        check(&[1_700_000_000_000_000_000, 1_700_000_010_000_000_000], 10);
        check(&[1_000_000_000_000_000_000, -9_000_000_000_000_000_000], 18);
        check(&[i64::MIN, 0], 0);
        check(&[i64::MAX, 10], 0);
        check(&[1 << 40, 10], 0);
    }
}
