//! Bit order: the two streams of a block that are not whole mini-blocks (format-spec.md 6.3 and 6.10).
//!
//! * Low bits first: the packed offsets of a mini-block with fewer than 128 values.
//! * High bits first: Gorilla's stream of XORed doubles.

use super::{DecodeError, MINI_BLOCK_LEN};

/// Bytes of `count` fields of `width` bits, low bits first.
pub(crate) fn stream_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends fewer than 128 `values`, each below 2^`width`, low bits first, the last byte filled with zeros.
pub(crate) fn put_stream(values: &[u64], width: u32, out: &mut Vec<u8>) {
    let mut pending: u128 = 0;
    let mut filled = 0;
    for value in values {
        pending |= u128::from(*value) << filled;
        filled += width;
        while filled >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// Reads `out.len()` fields of `width` bits, each plus `base` modulo 2^64, from `bytes`, which has exactly [`stream_len`]
/// bytes.
pub(crate) fn get_stream(bytes: &[u8], width: u32, base: i64, out: &mut [i64]) {
    debug_assert!(out.len() < MINI_BLOCK_LEN && width <= 64);
    debug_assert_eq!(bytes.len(), stream_len(out.len(), width));
    let Some(last_load) = bytes.len().checked_sub(8) else {
        // All fields are within one word.
        let word = bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        for (i, value) in out.iter_mut().enumerate() {
            let field = word.checked_shr(i as u32 * width).unwrap_or(0) & low_mask(width);
            *value = base.wrapping_add(field as i64);
        }
        return;
    };
    let mask = low_mask(width);
    let mut bit = 0;
    for value in out {
        // The last fields are loaded from the last whole word, which holds them entirely.
        let at = (bit / 8).min(last_load);
        let shift = (bit - 8 * at) as u32;
        let low = load(bytes, at) >> shift;
        // Only fields above 57 bits can reach into a ninth byte.
        let high = if shift + width > 64 { u64::from(bytes[at + 8]) << (64 - shift) } else { 0 };
        *value = base.wrapping_add(((low | high) & mask) as i64);
        bit += width as usize;
    }
}

/// The low `width` bits set.
pub(crate) fn low_mask(width: u32) -> u64 {
    if width == 0 { 0 } else { u64::MAX >> (64 - width) }
}

fn load(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Writes high bits first.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits not written yet, at the top.
    pending: u64,
    filled: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, filled: 0 }
    }

    /// Appends the low `count` bits of `bits`; `count` is 1..=64 and the bits above are zero.
    #[inline]
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        let room = 64 - self.filled;
        if count < room {
            self.pending |= bits << (room - count);
            self.filled += count;
            return;
        }
        let left = count - room;
        self.out.extend_from_slice(&(self.pending | (bits >> left)).to_be_bytes());
        self.pending = if left == 0 { 0 } else { bits << (64 - left) };
        self.filled = left;
    }

    /// Writes what is pending, the last byte filled with zeros.
    pub(crate) fn finish(self) {
        self.out.extend_from_slice(&self.pending.to_be_bytes()[..self.filled.div_ceil(8) as usize]);
    }
}

/// Reads high bits first.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Next byte to load.
    at: usize,
    /// Loaded bits, at the top; below `filled` all zero.
    window: u64,
    filled: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, filled: 0 }
    }

    fn refill(&mut self) {
        if let Some((word, _)) = self.bytes[self.at..].split_first_chunk::<8>() {
            // Whole bytes that fit below the bits already there.
            self.window |= u64::from_be_bytes(*word) >> self.filled;
            let taken = (64 - self.filled) / 8;
            self.at += taken as usize;
            self.filled += taken * 8;
            // Bits beyond `filled` came from a byte that was not counted; they are loaded again next time.
            if self.filled < 64 {
                self.window &= !(u64::MAX >> self.filled);
            }
            return;
        }
        while self.filled <= 56 && self.at < self.bytes.len() {
            self.window |= u64::from(self.bytes[self.at]) << (56 - self.filled);
            self.at += 1;
            self.filled += 8;
        }
    }

    /// Takes `count` bits, 1..=64.
    #[inline]
    pub(crate) fn take(&mut self, count: u32) -> Result<u64, DecodeError> {
        if count > self.filled {
            if count > 32 {
                // A refill may leave seven bits short of 64: two halves always fit.
                let high = self.take_short(count - 32)?;
                return Ok(high << 32 | self.take_short(32)?);
            }
            return self.take_short(count);
        }
        Ok(self.consume(count))
    }

    fn take_short(&mut self, count: u32) -> Result<u64, DecodeError> {
        if count > self.filled {
            self.refill();
            if count > self.filled {
                return Err(DecodeError { offset: self.bytes.len(), what: "ends early" });
            }
        }
        Ok(self.consume(count))
    }

    #[inline]
    fn consume(&mut self, count: u32) -> u64 {
        let bits = self.window >> (64 - count);
        self.window = if count == 64 { 0 } else { self.window << count };
        self.filled -= count;
        bits
    }

    /// Nothing but the zero bits that fill the last byte may be left.
    pub(crate) fn end(mut self) -> Result<(), DecodeError> {
        if self.filled < 8 {
            self.refill();
        }
        let error = |what| Err(DecodeError { offset: self.at, what });
        if self.filled >= 8 {
            return error("bytes after the last value");
        }
        if self.window != 0 { error("padding bits are not zero") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_first_round_trips_at_every_width_and_length() {
        for width in 0..=64 {
            for count in [0, 1, 2, 7, 63, 64, 65, 127] {
                let values: Vec<u64> = (0..count)
                    .map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & low_mask(width))
                    .collect();
                let mut bytes = Vec::new();
                put_stream(&values, width, &mut bytes);
                assert_eq!(bytes.len(), stream_len(values.len(), width));
                for base in [0, -3, i64::MAX] {
                    let mut back = vec![0; values.len()];
                    get_stream(&bytes, width, base, &mut back);
                    let expected: Vec<i64> = values.iter().map(|v| base.wrapping_add(*v as i64)).collect();
                    assert_eq!(back, expected, "width {width}");
                }
            }
        }
    }

    #[test]
    fn high_bits_first_round_trips() {
        let fields: Vec<(u64, u32)> = (0..4000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), (i * 7 % 64 + 1) as u32))
            .map(|(bits, count)| (bits & low_mask(count), count))
            .collect();
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        for (bits, count) in &fields {
            writer.put(*bits, *count);
        }
        writer.finish();
        let mut reader = BitReader::new(&bytes);
        for (bits, count) in &fields {
            assert_eq!(reader.take(*count), Ok(*bits));
        }
        reader.end().unwrap();
        assert!(BitReader::new(&[0x80]).end().is_err());
    }
}
