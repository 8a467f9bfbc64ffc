//! PCO: what is packed again comes back bit for bit, is smaller, and folds; chunks that nobody wrote end in an error.

use crate::damage::DECODERS;
use crate::shapes::{FLOAT_SHAPES, INTEGER_SHAPES, LENGTHS, ODD_FLOATS, Random, floats, integers};
use wattlog_engine::codec::{
    self, CodecTag, DecodeError, FloatHint, Stretch, Wanted, repack_floats, repack_integers,
};

/// The block of `values` behind a byte that is already there, packed again; none where that gains too little.
pub(crate) fn packed_floats(values: &[f64]) -> Option<Vec<u8>> {
    let mut fast = vec![0xa5];
    codec::encode_floats(values, &mut FloatHint::default(), &mut fast);
    packed(fast, values.len(), repack_floats)
}

pub(crate) fn packed_integers(values: &[i64]) -> Option<Vec<u8>> {
    let mut fast = vec![0xa5];
    codec::encode_integers(values, &mut fast);
    packed(fast, values.len(), repack_integers)
}

type Repack = fn(&mut Vec<u8>, usize, usize) -> Result<Option<CodecTag>, DecodeError>;

fn packed(fast: Vec<u8>, count: usize, repack: Repack) -> Option<Vec<u8>> {
    let mut out = fast.clone();
    let Some(tag) = repack(&mut out, 1, count).expect("what was encoded") else {
        assert_eq!(out, fast, "a block that gains nothing stays as it is");
        return None;
    };
    assert_eq!((tag, out[0], out[1]), (CodecTag::Pco, 0xa5, CodecTag::Pco as u8));
    assert!((out.len() - 1) * 105 < (fast.len() - 1) * 100, "{} of {} bytes", out.len(), fast.len());
    Some(out.split_off(1))
}

#[test]
fn packed_blocks_come_back_bit_for_bit() {
    let seed = 0x9ac4_ed00;
    let mut random = Random(seed);
    let (mut of_floats, mut of_integers, mut blocks) = (0, 0, 0);
    for round in 0..3 {
        for len in LENGTHS {
            for shape in 0..FLOAT_SHAPES {
                let mut values = floats(&mut random, shape, len);
                if round == 2 {
                    // Odd ones among them become exceptions, or bit patterns.
                    for _ in 0..=len / 50 {
                        values[random.below(len as u64) as usize] =
                            ODD_FLOATS[random.below(ODD_FLOATS.len() as u64) as usize];
                    }
                }
                blocks += 1;
                let Some(block) = packed_floats(&values) else { continue };
                let mut back = Vec::new();
                codec::decode_floats(&block, len, &mut back).expect("what was packed");
                assert!(
                    back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())),
                    "seed {seed}, round {round}, shape {shape}, {len} values"
                );
                of_floats += 1;
            }
            for shape in 0..INTEGER_SHAPES {
                let values = integers(&mut random, shape, len);
                let Some(block) = packed_integers(&values) else { continue };
                let mut back = Vec::new();
                codec::decode_integers(&block, len, &mut back).expect("what was packed");
                assert_eq!(back, values, "seed {seed}, round {round}, shape {shape}");
                let mut back = Vec::new();
                codec::decode_unsigned(&block, len, &mut back).expect("what was packed");
                assert!(back.iter().map(|value| *value as i64).eq(values.iter().copied()));
                of_integers += 1;
            }
        }
    }
    println!("{blocks} blocks of each type, packed: {of_floats} of floats, {of_integers} of integers");
    assert!(of_floats > blocks / 10 && of_integers > blocks / 10, "{of_floats}, {of_integers} of {blocks}");
}

/// Values of every width of offsets, with and without differences.
#[test]
fn every_width_is_written_and_read() {
    let mut random = Random(0x31d7);
    let mut seen = std::collections::BTreeSet::new();
    for (base, top) in [(0, 200), (-5, 60_000), (1 << 40, 4_000_000_000), (i64::MIN, i64::MAX)] {
        // Three in four are near one place: bins of many and of few.
        let spread: Vec<i64> = (0..1000)
            .map(|i| match i % 8 {
                0 => base,
                1 => base.saturating_add(top),
                _ => base.saturating_add(top / 3).saturating_add((random.below(9) * random.below(9)) as i64),
            })
            .collect();
        let mut level = base;
        let walk: Vec<i64> = (0..1000)
            .map(|i| {
                let step = random.below(5) * random.below(5);
                level = level.wrapping_add(step as i64 * (top / 9000).max(1) - i % 2);
                level
            })
            .collect();
        for values in [spread, walk] {
            let Some(block) = packed_integers(&values) else { continue };
            // Tag, scale, width, base, then mode and differences in one byte.
            let head = block[3..].iter().position(|byte| byte & 0x80 == 0).expect("a base ends");
            seen.insert((block[2], block[4 + head] >> 4));
            let mut back = Vec::new();
            codec::decode_integers(&block, values.len(), &mut back).expect("what was packed");
            assert_eq!(back, values);
        }
    }
    println!("widths and differences: {seen:?}");
    for width in [1, 2, 4, 8] {
        assert!(seen.iter().any(|(of, _)| *of == width), "no block of {width} bytes: {seen:?}");
    }
    assert!(seen.iter().any(|(_, delta)| *delta == 1), "no differences: {seen:?}");
}

#[test]
fn a_packed_block_folds_as_the_plain_one_does() {
    let mut random = Random(0xf01d);
    let mut folded = 0;
    for len in [130, 257, 960, 1024] {
        for shape in 0..FLOAT_SHAPES + 10 {
            let mut level = 2300;
            // Steps that are mostly small are what homes have, and what is packed.
            let mut step = || {
                level += (random.below(5) * random.below(5)) as i64 - 4;
                level as f64 / 10_f64.powi(shape as i32 % 4)
            };
            let values = if shape < 10 {
                (0..len).map(|_| step()).collect()
            } else {
                floats(&mut random, shape - 10, len)
            };
            let Some(block) = packed_floats(&values) else { continue };
            let mut plain = Vec::new();
            codec::encode_floats(&values, &mut FloatHint::default(), &mut plain);
            let ends = [1, len as u32 / 3, len as u32];
            for wanted in [Wanted::Totals, Wanted::Extremes] {
                let fold = |block: &[u8]| {
                    let mut out: Vec<Stretch> = Vec::new();
                    let folded = codec::fold_floats(block, len, &ends, wanted, &mut out).expect("good");
                    folded.map(|exponent| (exponent, out))
                };
                let (one, other) = (fold(&block), fold(&plain));
                // XOR does not fold, and the bit patterns that it becomes do not either.
                assert_eq!(one, other, "shape {shape}, {len} values");
                folded += usize::from(one.is_ok());
            }
        }
    }
    assert!(folded > 10, "{folded}");
}

/// Chunks with a good beginning and noise behind it: values or an error.
#[test]
fn chunks_that_nobody_wrote_never_panic() {
    let mut random = Random(0xbad_c0de);
    let (mut values, mut refused) = (0, 0);
    for _ in 0..1500 {
        let width = [1, 2, 4, 8][random.below(4) as usize];
        let mut bits = Bits::default();
        let delta = random.below(2);
        bits.put(0, 4);
        bits.put(delta, 4);
        if delta == 1 {
            bits.put(1, 4);
        }
        let state_bits = [0, 1, 3, 8, 14][random.below(5) as usize];
        let most_bins = if random.chance(10) { 256 } else { 9 };
        let bins = 1 + random.below((1 << state_bits).min(most_bins));
        bits.put(state_bits, 4);
        bits.put(bins, 15);
        let mut left = 1_u64 << state_bits;
        for bin in 0..bins {
            let most = left - (bins - bin - 1);
            let weight = if bin + 1 == bins { left } else { 1 + random.below(most) };
            left -= weight;
            bits.put(weight - 1, state_bits as u32);
            bits.put(random.next(), 8 * width);
            let wide = u64::from(random.chance(3));
            bits.put(random.below(8 * u64::from(width) + 1 + wide), 4 + width.trailing_zeros());
        }
        bits.align();
        for _ in 0..random.below(60) {
            bits.put(random.next(), 64);
        }
        let mut block = vec![CodecTag::Pco as u8, [0, 1, 31, 9][random.below(4) as usize], width as u8, 6];
        block.extend_from_slice(&bits.bytes);
        let count = [1, 2, 255, 256, 257, 300, 1024][random.below(7) as usize];
        // Where a chunk ends is found by its length alone: cut it until it fits, or never does.
        for cut in 0..40.min(block.len()) {
            let bytes = &block[..block.len() - cut];
            for (_, decode) in &DECODERS[..2] {
                match decode(bytes, count) {
                    Ok(_) => values += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    println!("{values} blocks had values, {refused} were refused");
    assert!(values > 10 && refused > 1000, "{values} had values, {refused} were refused");
}

/// A string of bits, low bits first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) {
        for bit in 0..count {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (8 - self.free);
            self.free -= 1;
        }
    }

    fn align(&mut self) {
        self.free = 0;
    }
}
