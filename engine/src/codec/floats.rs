//! Doubles: as scaled integers where they are short decimals, as bit patterns or by XOR where they are not
//! (format-spec.md 6.4, 6.5 and 6.10).
//!
//! A sensor reading of one decimal is an integer over ten; as a double its low bits look random, as an integer it
//! takes four bits. A block has one decimal exponent; the few values that do not follow it (a garbage register, a NaN,
//! -0.0) are kept apart as exceptions. The encoder checks every value bit by bit.

use super::cursor::{Cursor, put_varint};
use super::ints::{IntegerSink, RAW64_VALUE_LEN, read_raw64};
use super::numbers::{self, Hope, Sink};
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN, kernel, xor};
use std::borrow::Cow;

/// Low five bits of the scale byte: the decimal exponent, 0..=9, or that the integers are bit patterns.
const EXPONENT_MASK: u8 = 0x1f;
const BIT_PATTERNS: u8 = 31;
const MAX_EXPONENT: u8 = 9;
/// Set in the scale byte when exceptions follow.
const HAS_EXCEPTIONS: u8 = 0x80;
/// Doubles name every integer below this.
const EXACT_LIMIT: u64 = 1 << 53;
/// Values looked at before a block is scanned.
const SAMPLES: usize = 32;

/// What the encoder remembers between blocks of a column. It never changes what a block decodes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FloatHint {
    exponent: Option<u8>,
}

/// What became of a block of doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The codec chosen.
    pub tag: CodecTag,
    /// Values kept apart because they do not follow the block's decimal exponent.
    pub exceptions: u32,
}

/// Appends a block of `values`; at most [`MAX_BLOCK_LEN`] of them.
pub fn encode_floats(values: &[f64], hint: &mut FloatHint, out: &mut Vec<u8>) -> Encoded {
    assert!(values.len() <= MAX_BLOCK_LEN, "a block of {} values", values.len());
    let raw_len = 1 + RAW64_VALUE_LEN * values.len();
    let start = out.len();
    if let Some(decimals) = Decimals::find(values, hint.exponent) {
        hint.exponent = Some(decimals.exponent);
        if let Some(mut encoded) = decimals.encode(values, raw_len, out) {
            // Many exceptions may cost more than one more decimal for everybody.
            if decimals.failed > values.len() / 128
                && let Some(finer) = decimals.finer(values)
            {
                let first_len = out.len() - start;
                if let Some(second) = finer.encode(values, first_len, out) {
                    out.drain(start..start + first_len);
                    hint.exponent = Some(finer.exponent);
                    encoded = second;
                }
            }
            return encoded;
        }
    }
    Encoded { tag: encode_bits(values, raw_len, out), exceptions: 0 }
}

/// Doubles that are no decimals: runs and repetitions of bit patterns, XOR, or as they are.
fn encode_bits(values: &[f64], raw_len: usize, out: &mut Vec<u8>) -> CodecTag {
    let start = out.len();
    let tag = numbers::encode(bytemuck::cast_slice(values), &[BIT_PATTERNS], Hope::Any, raw_len, out);
    let bits_len = if tag.is_some() { out.len() - start } else { raw_len };
    // XOR decodes several times more slowly: it has to be 3 % smaller.
    if bits_len > 16 {
        let mut gorilla = vec![CodecTag::Xor as u8];
        xor::encode(values, &mut gorilla);
        if gorilla.len() * 103 < bits_len * 100 {
            out.truncate(start);
            out.extend_from_slice(&gorilla);
            return CodecTag::Xor;
        }
    }
    tag.unwrap_or_else(|| {
        out.push(CodecTag::Raw64 as u8);
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        CodecTag::Raw64
    })
}

/// A block of values scaled to integers.
struct Decimals {
    exponent: u8,
    integers: Vec<i64>,
    /// Values that do not come back from their integer.
    failed: usize,
}

impl Decimals {
    /// The smallest exponent that leaves at most 6 % of the values over, and the integers.
    fn find(values: &[f64], before: Option<u8>) -> Option<Self> {
        let first = likely_exponent(values, before)?;
        (first..=MAX_EXPONENT)
            .map(|exponent| Self::scan(values, exponent))
            .find(|found| found.failed <= most(values.len()))
    }

    /// The next exponent that at least halves what is left over.
    fn finer(&self, values: &[f64]) -> Option<Self> {
        (self.exponent + 1..=MAX_EXPONENT)
            .map(|exponent| Self::scan(values, exponent))
            .find(|found| found.failed <= self.failed / 2)
    }

    fn scan(values: &[f64], exponent: u8) -> Self {
        let mut integers = vec![0; values.len()];
        let failed = kernel::scan_decimals(values, exponent, &mut integers);
        Self { exponent, integers, failed }
    }

    fn encode(&self, values: &[f64], limit: usize, out: &mut Vec<u8>) -> Option<Encoded> {
        let (head, integers) = if self.failed == 0 {
            (vec![self.exponent], Cow::Borrowed(&self.integers))
        } else {
            let (head, integers) = self.set_exceptions_apart(values);
            (head, Cow::Owned(integers))
        };
        let tag = numbers::encode(&integers, &head, Hope::Any, limit, out)?;
        Some(Encoded { tag, exceptions: self.failed as u32 })
    }

    /// The head of the block with the exceptions, and the integers with something harmless in their places.
    fn set_exceptions_apart(&self, values: &[f64]) -> (Vec<u8>, Vec<i64>) {
        let fails = |value: f64| kernel::decimal(value, self.exponent).is_none();
        let mut head = vec![self.exponent | HAS_EXCEPTIONS];
        put_varint(self.failed as u64, &mut head);
        let mut bits = Vec::with_capacity(self.failed * RAW64_VALUE_LEN);
        let mut integers = self.integers.clone();
        let mut filler = values.iter().position(|value| !fails(*value)).map_or(0, |i| integers[i]);
        let mut next = 0;
        for (index, (value, integer)) in values.iter().zip(&mut integers).enumerate() {
            if fails(*value) {
                put_varint((index - next) as u64, &mut head);
                bits.extend_from_slice(&value.to_le_bytes());
                *integer = filler;
                next = index + 1;
            }
            filler = *integer;
        }
        debug_assert_eq!(bits.len(), self.failed * RAW64_VALUE_LEN);
        head.extend_from_slice(&bits);
        (head, integers)
    }
}

/// Most exceptions in a block: 6 %.
fn most(values: usize) -> usize {
    values * 6 / 100
}

/// The smallest exponent that suits a sample of the block, tried first with the one of the block before.
fn likely_exponent(values: &[f64], before: Option<u8>) -> Option<u8> {
    let samples = values.len().min(SAMPLES);
    let mut sample = [0.0; SAMPLES];
    for (i, slot) in sample[..samples].iter_mut().enumerate() {
        *slot = values[i * values.len() / samples];
    }
    let sample = &sample[..samples];
    let fits = |exponent: u8| {
        let mut integers = [0; SAMPLES];
        kernel::scan_decimals(sample, exponent, &mut integers[..samples]) <= most(samples)
    };
    if let Some(exponent) = before
        && fits(exponent)
        && (exponent == 0 || !fits(exponent - 1))
    {
        return Some(exponent);
    }
    (0..=MAX_EXPONENT).find(|exponent| fits(*exponent))
}

/// Appends the `count` values of a block to `out`.
///
/// Values keep their exact bits. After an error `out` is as before.
pub fn decode_floats(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let start = out.len();
    let result = decode_into(bytes, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_into(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let mut block = match Block::parse(bytes, count)? {
        Parsed::Raw(raw) => {
            out.extend(raw.iter().map(|word| f64::from_le_bytes(*word)));
            return Ok(());
        }
        Parsed::Xor(stream) => return xor::decode(stream, count, out),
        Parsed::Numbers(block) => block,
    };
    let start = out.len();
    out.reserve(count);
    if block.exponent == BIT_PATTERNS {
        let mut sink = IntegerSink::new(out, 0, |bits| f64::from_bits(bits as u64));
        return numbers::decode(block.tag, &mut block.payload, count, &mut sink);
    }
    let mut sink = DecimalSink { out, exponent: block.exponent };
    numbers::decode(block.tag, &mut block.payload, count, &mut sink)?;
    for (position, value) in block.exceptions() {
        out[start + position] = value;
    }
    Ok(())
}

/// What a fold of a block needs, if all its values are decimals: codec, exponent, payload.
pub(super) fn decimals(
    bytes: &[u8],
    count: usize,
) -> Result<Option<(CodecTag, u8, Cursor<'_>)>, DecodeError> {
    Ok(match Block::parse(bytes, count)? {
        Parsed::Numbers(block) if block.exponent != BIT_PATTERNS && block.positions.is_empty() => {
            Some((block.tag, block.exponent, block.payload))
        }
        _ => None,
    })
}

/// What precedes the payload of a block of numbers (scale, exceptions), and its integers; bit patterns for doubles that
/// are stored otherwise.
pub(super) fn integers(bytes: &[u8], count: usize) -> Result<(Vec<u8>, Vec<i64>), DecodeError> {
    let mut integers = Vec::new();
    let Parsed::Numbers(mut block) = Block::parse(bytes, count)? else {
        let mut values = Vec::new();
        decode_floats(bytes, count, &mut values)?;
        integers.extend(values.iter().map(|value| value.to_bits() as i64));
        return Ok((vec![BIT_PATTERNS], integers));
    };
    let head = bytes[1..bytes.len() - block.payload.left()].to_vec();
    let mut sink = IntegerSink::new(&mut integers, 0, |value| value);
    numbers::decode(block.tag, &mut block.payload, count, &mut sink)?;
    Ok((head, integers))
}

enum Parsed<'a> {
    Raw(&'a [[u8; 8]]),
    Xor(&'a [u8]),
    Numbers(Block<'a>),
}

/// A block up to its payload.
struct Block<'a> {
    tag: CodecTag,
    exponent: u8,
    /// Of the exceptions, rising.
    positions: Vec<usize>,
    exception_bits: &'a [u8],
    payload: Cursor<'a>,
}

impl<'a> Block<'a> {
    fn parse(bytes: &'a [u8], count: usize) -> Result<Parsed<'a>, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let tag = numbers::read_tag(&mut cursor, count)?;
        match tag {
            CodecTag::Raw64 => return read_raw64(&mut cursor, count).map(Parsed::Raw),
            CodecTag::Xor => return Ok(Parsed::Xor(cursor.rest())),
            _ => {}
        }
        let scale = cursor.byte()?;
        let exponent = scale & EXPONENT_MASK;
        let known = if exponent == BIT_PATTERNS {
            scale == BIT_PATTERNS
        } else {
            exponent <= MAX_EXPONENT && scale & !(EXPONENT_MASK | HAS_EXCEPTIONS) == 0
        };
        if !known {
            return Err(cursor.error("scale"));
        }
        let mut block = Self { tag, exponent, positions: Vec::new(), exception_bits: &[], payload: cursor };
        if scale & HAS_EXCEPTIONS != 0 {
            let cursor = &mut block.payload;
            // Each takes nine bytes at least.
            let len = cursor.varint_in(1..=count.min(cursor.left() / 9), "number of exceptions")?;
            block.positions.reserve_exact(len);
            let mut next = 0;
            for _ in 0..len {
                let gap = cursor.varint_in(0..=count, "position of an exception")?;
                if next + gap >= count {
                    return Err(cursor.error("position of an exception"));
                }
                block.positions.push(next + gap);
                next += gap + 1;
            }
            block.exception_bits = cursor.take(len * RAW64_VALUE_LEN)?;
        }
        Ok(Parsed::Numbers(block))
    }

    fn exceptions(&self) -> impl Iterator<Item = (usize, f64)> {
        let (words, _) = self.exception_bits.as_chunks::<8>();
        self.positions.iter().copied().zip(words.iter().map(|word| f64::from_le_bytes(*word)))
    }
}

/// Divides by a power of ten.
struct DecimalSink<'a> {
    out: &'a mut Vec<f64>,
    exponent: u8,
}

impl DecimalSink<'_> {
    fn one(&self, value: i64) -> Result<f64, &'static str> {
        if value.unsigned_abs() >= EXACT_LIMIT {
            return Err("integer beyond 2^53 in a block of doubles");
        }
        Ok(value as f64 / kernel::POWERS[self.exponent as usize])
    }
}

impl Sink for DecimalSink<'_> {
    fn run(&mut self, value: i64, count: usize) -> Result<(), &'static str> {
        let value = self.one(value)?;
        self.out.resize(self.out.len() + count, value);
        Ok(())
    }

    fn chunk(&mut self, values: &mut [i64]) -> Result<(), &'static str> {
        let start = self.out.len();
        if !kernel::to_decimals(values, self.exponent, self.out) {
            self.out.truncate(start);
            for value in values {
                self.out.push(self.one(*value)?);
            }
        }
        Ok(())
    }
}
