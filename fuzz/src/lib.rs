//! What the fuzz targets share: an input taken apart, and values read out of its bytes.
//!
//! An input is a mode byte, a count (two bytes, little-endian) and the rest. Mode 0 throws the rest at decoders; any
//! other reads values out of it and sends them round.

use std::fmt::Debug;

/// An input taken apart.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What to do with it.
    pub mode: u8,
    /// Number of values the container would promise.
    pub count: usize,
    /// The block, or where values are read from.
    pub rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// None if it is too short.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (head, rest) = data.split_first_chunk::<3>()?;
        Some(Self { mode: head[0], count: usize::from(u16::from_le_bytes([head[1], head[2]])), rest })
    }

    /// Integers of a width that the mode gives (1, 2, 4 or 8 bytes each), as they are or added up: the second look like
    /// readings and reach the codecs for differences and lines.
    pub fn integers(&self) -> Vec<i64> {
        let width = 1_usize << (self.mode & 3);
        let mut level = 0_i64;
        self.rest
            .chunks_exact(width)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..width].copy_from_slice(chunk);
                let unused = 64 - 8 * width as u32;
                let value = i64::from_le_bytes(word) << unused >> unused;
                level = if self.mode & 4 == 0 {
                    value
                } else {
                    level.wrapping_add(value).wrapping_add(self.step())
                };
                level
            })
            .collect()
    }

    fn step(&self) -> i64 {
        if self.mode & 8 == 0 { 0 } else { self.count as i64 * 1_000_000 }
    }
}

/// Encodes and decodes; the same values must come back.
pub fn round_trip<T: Debug>(
    values: &[T],
    encode: impl FnOnce(&[T], &mut Vec<u8>),
    decode: impl FnOnce(&[u8], usize, &mut Vec<T>) -> Result<(), wattlog_engine::codec::DecodeError>,
    same: impl Fn(&T, &T) -> bool,
) {
    let mut block = Vec::new();
    encode(values, &mut block);
    let mut back = Vec::new();
    decode(&block, values.len(), &mut back).expect("what was encoded can be decoded");
    assert_eq!(values.len(), back.len());
    for (a, b) in values.iter().zip(&back) {
        assert!(same(a, b), "{a:?} came back as {b:?}");
    }
}

/// Bytes to turn over in a file: a count, then (offset, mask) of three bytes each; and the rest of the input.
///
/// None if the input is too short.
pub fn take_flips(data: &[u8], most: usize) -> Option<(Vec<(usize, u8)>, &[u8])> {
    let (count, mut rest) = data.split_first()?;
    let mut flips = Vec::new();
    for _ in 0..usize::from(*count) % (most + 1) {
        let (flip, after) = rest.split_first_chunk::<3>()?;
        flips.push((usize::from(u16::from_le_bytes([flip[0], flip[1]])), flip[2]));
        rest = after;
    }
    Some((flips, rest))
}

/// Turns `flips` over; places beyond the end come round from the beginning.
pub fn turn_over(bytes: &mut [u8], flips: &[(usize, u8)]) {
    let len = bytes.len();
    for (offset, mask) in flips.iter().filter(|_| len > 0) {
        bytes[offset % len] ^= mask;
    }
}
