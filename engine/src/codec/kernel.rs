//! Kernels over whole mini-blocks, compiled twice: for any machine and for AVX2 with FMA, chosen at run time.
//!
//! The second copy is the same safe source under `#[target_feature]`; the only unsafe thing is calling it, after the
//! processor was asked. Both give the same bits for any input (`engine/tests/codecs.rs` compares them): all arithmetic
//! is on integers modulo 2^64, or is a correctly rounded division, which the FMA form reaches too (see [`divide_fma`]).
//! Packing itself is the `bitpacking` crate's `BitPacker4x`, whose lane order format-spec.md 6.3 spells out.

#![allow(
    unsafe_code,
    reason = "the one codec file that may call kernels compiled for a processor found at run time"
)]

use super::MINI_BLOCK_LEN;
use super::cursor::{bit_len, zigzag};
use bitpacking::{BitPacker, BitPacker4x};
use std::sync::atomic::{AtomicU8, Ordering};

/// Powers of ten that a float block may be divided by, exact doubles.
pub(crate) const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// 1.5 * 2^52: adding it rounds a double below 2^51 to an integer (ties to even) in the low bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// Integers below this survive the trick with [`MAGIC`].
pub(crate) const MAGIC_LIMIT: i64 = 1 << 51;

/// Which copy of the kernels runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// Portable code.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
}

/// What is known of the processor: 0 is nothing yet, else one of the two below.
static RUNS: AtomicU8 = AtomicU8::new(0);
const SCALAR: u8 = 1;
const AVX2: u8 = 2;

/// The copy that runs on this machine; `Some(Dispatch::Scalar)` makes the whole process use the portable one (tests
/// and benches compare the two), `Some(Dispatch::Avx2)` undoes that. Gives what runs from now on.
pub fn dispatch(force: Option<Dispatch>) -> Dispatch {
    match force {
        Some(Dispatch::Scalar) => RUNS.store(SCALAR, Ordering::Relaxed),
        Some(Dispatch::Avx2) => RUNS.store(0, Ordering::Relaxed),
        None => {}
    }
    if has_avx2() { Dispatch::Avx2 } else { Dispatch::Scalar }
}

#[inline]
fn has_avx2() -> bool {
    match RUNS.load(Ordering::Relaxed) {
        AVX2 => true,
        SCALAR => false,
        _ => look_for_avx2(),
    }
}

#[cold]
fn look_for_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    RUNS.store(if found { AVX2 } else { SCALAR }, Ordering::Relaxed);
    found
}

/// Declares `pub(crate) fn name(args) -> ret` that runs `$scalar` or, where the processor has it, `$vector` (usually
/// the same function), both inlined into their copy.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)?, $scalar:path, $vector:path) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name($($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
                fn vector($($arg: $type),*) $(-> $ret)? {
                    $vector($($arg),*)
                }
                if has_avx2() {
                    // SAFETY: `has_avx2` just found every feature that `vector` is compiled for on this processor;
                    // its body is safe code. Guard: test `vector_and_scalar_kernels_agree`.
                    return unsafe { vector($($arg),*) };
                }
            }
            $scalar($($arg),*)
        }
    };
}

kernel! {
    /// `out[i] = base + offsets[i]`, modulo 2^64.
    widen(offsets: &[u32; MINI_BLOCK_LEN], base: i64, out: &mut [i64; MINI_BLOCK_LEN]), widen_body, widen_body
}

#[inline(always)]
fn widen_body(offsets: &[u32; MINI_BLOCK_LEN], base: i64, out: &mut [i64; MINI_BLOCK_LEN]) {
    for (out, offset) in out.iter_mut().zip(offsets) {
        *out = base.wrapping_add(i64::from(*offset));
    }
}

kernel! {
    /// `out[i] = start + (i + 1) * step + sums[i]`, modulo 2^64; both have the same length.
    widen_line(sums: &[u32], start: i64, step: i64, out: &mut [i64]), widen_line_body, widen_line_body
}

#[inline(always)]
fn widen_line_body(sums: &[u32], start: i64, step: i64, out: &mut [i64]) {
    let mut expected = start;
    for (out, sum) in out.iter_mut().zip(sums) {
        expected = expected.wrapping_add(step);
        *out = expected.wrapping_add(i64::from(*sum));
    }
}

kernel! {
    /// Replaces each difference by the running sum that starts at `start`; gives the last sum.
    prefix_sum(values: &mut [i64], start: i64) -> i64, prefix_sum_body, prefix_sum_body
}

#[inline(always)]
fn prefix_sum_body(values: &mut [i64], start: i64) -> i64 {
    let mut carry = start;
    let mut quads = values.chunks_exact_mut(4);
    for quad in &mut quads {
        // Sums inside the quad do not wait for the carry: one addition per quad is on the critical path.
        let first = quad[0];
        let second = first.wrapping_add(quad[1]);
        let pair = quad[2].wrapping_add(quad[3]);
        let third = second.wrapping_add(quad[2]);
        let fourth = second.wrapping_add(pair);
        quad[0] = carry.wrapping_add(first);
        quad[1] = carry.wrapping_add(second);
        quad[2] = carry.wrapping_add(third);
        quad[3] = carry.wrapping_add(fourth);
        carry = carry.wrapping_add(fourth);
    }
    for value in quads.into_remainder() {
        carry = carry.wrapping_add(*value);
        *value = carry;
    }
    carry
}

kernel! {
    /// Appends `values[i] / 10^exponent`, rounded correctly, if every value is in -2^51..2^51; otherwise gives false,
    /// and what it appended is nonsense.
    to_decimals(values: &[i64], exponent: u8, out: &mut Vec<f64>) -> bool, to_decimals_divide, to_decimals_fma
}

#[inline(always)]
fn to_decimals_divide(values: &[i64], exponent: u8, out: &mut Vec<f64>) -> bool {
    let power = POWERS[exponent as usize];
    let mut beyond = 0;
    out.extend(values.iter().map(|value| {
        beyond |= value.wrapping_add(MAGIC_LIMIT) as u64;
        small_to_float(*value) / power
    }));
    beyond >> 52 == 0
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn to_decimals_fma(values: &[i64], exponent: u8, out: &mut Vec<f64>) -> bool {
    let power = POWERS[exponent as usize];
    let inverse = 1.0 / power;
    let mut beyond = 0;
    let start = out.len();
    out.resize(start + values.len(), 0.0);
    for (out, value) in out[start..].iter_mut().zip(values) {
        beyond |= value.wrapping_add(MAGIC_LIMIT) as u64;
        *out = divide_fma(small_to_float(*value), power, inverse);
    }
    beyond >> 52 == 0
}

/// `value as f64` for |value| < 2^51, in instructions that come four at a time (AVX2 has no such conversion).
#[inline(always)]
fn small_to_float(value: i64) -> f64 {
    f64::from_bits((value as u64).wrapping_add(MAGIC.to_bits())) - MAGIC
}

/// `a / power`, correctly rounded, for integers |a| < 2^53 and `power` = 10^0..10^9, by Markstein's correction step.
///
/// Why it is exact: with q = RN(a * inverse), |q - a / power| is at most 1.5 ulp, so the remainder a - q * power is a
/// multiple of ulp(q) of at most 1.5e9 of them and the first FMA gives it exactly. Then q + remainder * inverse differs
/// from a / power by less than 2^-52 ulp, and the second FMA rounds it once. That could only go wrong within 2^-52 ulp
/// of a midpoint between doubles; but the quotient is at least ulp / (2 * 10^9) away from any midpoint, because both are
/// multiples of ulp / (2 * power), and it is never one: midpoint * power would have more than 53 significant bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn divide_fma(a: f64, power: f64, inverse: f64) -> f64 {
    let quotient = a * inverse;
    (-quotient).mul_add(power, a).mul_add(inverse, quotient)
}

kernel! {
    /// Scales by 10^exponent: `out[i]` is the nearest integer. Gives the number of values that do not come back with
    /// the same bits from `out[i] / 10^exponent` (NaN, infinities, -0.0, long fractions, integers from 2^51 up).
    scan_decimals(values: &[f64], exponent: u8, out: &mut [i64]) -> usize, scan_decimals_divide, scan_decimals_fma
}

#[inline(always)]
fn scan_decimals_divide(values: &[f64], exponent: u8, out: &mut [i64]) -> usize {
    let power = POWERS[exponent as usize];
    let mut failed = 0_u64;
    for (out, value) in out.iter_mut().zip(values) {
        let (integer, rounded) = nearest(*value * power);
        *out = integer;
        failed += u64::from(!comes_back(*value, rounded, rounded / power));
    }
    failed as usize
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn scan_decimals_fma(values: &[f64], exponent: u8, out: &mut [i64]) -> usize {
    let power = POWERS[exponent as usize];
    let inverse = 1.0 / power;
    let mut failed = 0_u64;
    for (out, value) in out.iter_mut().zip(values) {
        let (integer, rounded) = nearest(*value * power);
        *out = integer;
        failed += u64::from(!comes_back(*value, rounded, divide_fma(rounded, power, inverse)));
    }
    failed as usize
}

/// Nearest integer of a scaled value below 2^51 in size, as an integer and as a double; nonsense above.
#[inline(always)]
fn nearest(scaled: f64) -> (i64, f64) {
    let shifted = scaled + MAGIC;
    ((shifted.to_bits()).wrapping_sub(MAGIC.to_bits()) as i64, shifted - MAGIC)
}

#[inline(always)]
fn comes_back(value: f64, rounded: f64, quotient: f64) -> bool {
    // Nonsense from `nearest` is caught by the size; a NaN compares false. No short circuit: this runs four at a time.
    (quotient.to_bits() == value.to_bits()) & (rounded.abs() < MAGIC_LIMIT as f64)
}

/// True if `value` is an integer below 2^51 over 10^exponent, bit for bit; gives that integer.
pub(crate) fn decimal(value: f64, exponent: u8) -> Option<i64> {
    let power = POWERS[exponent as usize];
    let (integer, rounded) = nearest(value * power);
    comes_back(value, rounded, rounded / power).then_some(integer)
}

/// Where the windows of a mini-block are laid: from its smallest value up, from its largest down, or around a middle.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Low(i64),
    High(i64),
    Middle(i64),
}

kernel! {
    /// Number of values (at most 128) by the width in bits of the narrowest window at the anchor that holds them.
    window_widths(values: &[i64], anchor: Anchor) -> [u8; 65], window_widths_body, window_widths_body
}

#[inline(always)]
fn window_widths_body(values: &[i64], anchor: Anchor) -> [u8; 65] {
    match anchor {
        Anchor::Low(min) => count_widths(values, |v| v.wrapping_sub(min) as u64),
        Anchor::High(max) => count_widths(values, |v| max.wrapping_sub(v) as u64),
        Anchor::Middle(middle) => count_widths(values, |v| zigzag(v.wrapping_sub(middle))),
    }
}

#[inline(always)]
fn count_widths(values: &[i64], key: impl Fn(i64) -> u64) -> [u8; 65] {
    // Four tables, so that equal neighbours do not wait for each other's increment.
    let mut tables = [[0_u8; 65]; 4];
    let mut quads = values.chunks_exact(4);
    for quad in &mut quads {
        for (table, value) in tables.iter_mut().zip(quad) {
            table[bit_len(key(*value)) as usize] += 1;
        }
    }
    for value in quads.remainder() {
        tables[0][bit_len(key(*value)) as usize] += 1;
    }
    std::array::from_fn(|i| tables[0][i] + tables[1][i] + tables[2][i] + tables[3][i])
}

kernel! {
    /// Smallest and largest value, and the number of neighbours that differ. Not for an empty slice.
    survey(values: &[i64]) -> Survey, survey_body, survey_body
}

/// [`survey`] of what may be empty.
pub(crate) fn survey_checked(values: &[i64]) -> Option<Survey> {
    if values.is_empty() { None } else { Some(survey(values)) }
}

/// What the choice of a codec starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survey {
    pub(crate) min: i64,
    pub(crate) max: i64,
    /// Neighbours that differ; one less than the number of runs.
    pub(crate) changes: usize,
}

#[inline(always)]
fn survey_body(values: &[i64]) -> Survey {
    let (mut min, mut max, mut changes) = (values[0], values[0], 0_u64);
    for value in values {
        min = min.min(*value);
        max = max.max(*value);
    }
    for (a, b) in values.iter().zip(&values[1..]) {
        changes += u64::from(a != b);
    }
    Survey { min, max, changes: changes as usize }
}

/// What a fold learns of a few integers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold {
    /// Their sum modulo 2^64.
    pub(crate) total: i64,
    /// Bits that are set in any of them, lifted.
    pub(crate) seen: u64,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

/// Below this a call of a vector kernel costs more than it saves.
const FEW: usize = 12;

/// Sum modulo 2^64, and the bits that are set in any `value + lift`.
#[inline]
pub(crate) fn totals(values: &[i64], lift: i64) -> (i64, u64) {
    if values.len() < FEW { totals_body(values, lift) } else { many_totals(values, lift) }
}

/// The same with the least and the greatest; not for an empty slice.
#[inline]
pub(crate) fn fold(values: &[i64], lift: i64) -> Fold {
    if values.len() < FEW { fold_body(values, lift) } else { many_folds(values, lift) }
}

kernel! {
    /// Sum of at most 2^32 words.
    sum_words(words: &[u32]) -> u64, sum_words_body, sum_words_body
}

#[inline(always)]
fn sum_words_body(words: &[u32]) -> u64 {
    words.iter().map(|word| u64::from(*word)).sum()
}

kernel! {
    /// [`totals`] of many.
    many_totals(values: &[i64], lift: i64) -> (i64, u64), totals_body, totals_body
}

kernel! {
    /// [`fold`] of many.
    many_folds(values: &[i64], lift: i64) -> Fold, fold_body, fold_body
}

#[inline(always)]
fn totals_body(values: &[i64], lift: i64) -> (i64, u64) {
    let (mut total, mut seen) = (0_i64, 0_u64);
    for value in values {
        total = total.wrapping_add(*value);
        seen |= value.wrapping_add(lift) as u64;
    }
    (total, seen)
}

#[inline(always)]
fn fold_body(values: &[i64], lift: i64) -> Fold {
    let (mut min, mut max) = (values[0], values[0]);
    for value in values {
        min = min.min(*value);
        max = max.max(*value);
    }
    let (total, seen) = totals_body(values, lift);
    Fold { total, seen, min, max }
}

kernel! {
    /// `out[i] = values[i] - values[i - 1]` modulo 2^64; the first is `values[0] - before`.
    differences(values: &[i64], before: i64, out: &mut [i64]), differences_body, differences_body
}

#[inline(always)]
fn differences_body(values: &[i64], before: i64, out: &mut [i64]) {
    let mut previous = before;
    for (out, value) in out.iter_mut().zip(values) {
        *out = value.wrapping_sub(previous);
        previous = *value;
    }
}

kernel! {
    /// Adds `start + i * step` to `values[i]`, modulo 2^64.
    add_line(values: &mut [i64], start: i64, step: i64), add_line_body, add_line_body
}

#[inline(always)]
fn add_line_body(values: &mut [i64], start: i64, step: i64) {
    let mut expected = start;
    for value in values {
        *value = value.wrapping_add(expected);
        expected = expected.wrapping_add(step);
    }
}

/// Bytes of a whole mini-block of `width` bits (0..=64).
pub(crate) fn packed_len(width: u32) -> usize {
    width as usize * (MINI_BLOCK_LEN / 8)
}

/// Appends 128 offsets below 2^`width`: up to 32 bits in the four lanes of `BitPacker4x`; above, first the low words
/// at 32 bits, then the high parts at `width` - 32.
pub(crate) fn pack(offsets: &[u64; MINI_BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    let mut words = [0_u32; MINI_BLOCK_LEN];
    for (word, offset) in words.iter_mut().zip(offsets) {
        *word = *offset as u32;
    }
    pack_words(&words, width.min(32), out);
    if width > 32 {
        for (word, offset) in words.iter_mut().zip(offsets) {
            *word = (*offset >> 32) as u32;
        }
        pack_words(&words, width - 32, out);
    }
}

fn pack_words(words: &[u32; MINI_BLOCK_LEN], width: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + packed_len(width), 0);
    BitPacker4x::new().compress(words, &mut out[start..], width as u8);
    if cfg!(target_endian = "big") {
        out[start..].chunks_exact_mut(4).for_each(<[u8]>::reverse);
    }
}

/// `out[i] = base + offset i`, from exactly [`packed_len`] bytes.
pub(crate) fn unpack(bytes: &[u8], width: u32, base: i64, out: &mut [i64; MINI_BLOCK_LEN]) {
    debug_assert_eq!(bytes.len(), packed_len(width));
    if width == 0 {
        out.fill(base);
        return;
    }
    let mut words = [0_u32; MINI_BLOCK_LEN];
    let (low, high) = bytes.split_at(packed_len(width.min(32)));
    unpack_words(low, width.min(32), &mut words);
    widen(&words, base, out);
    if width > 32 {
        unpack_words(high, width - 32, &mut words);
        for (out, word) in out.iter_mut().zip(&words) {
            *out = out.wrapping_add(i64::from(*word) << 32);
        }
    }
}

/// Widest offsets whose 128 sums stay below 2^32.
pub(crate) const MAX_SUMMED_WIDTH: u32 = 25;

/// 128 offsets of at most [`MAX_SUMMED_WIDTH`] bits.
pub(crate) fn unpack_narrow(bytes: &[u8], width: u32, words: &mut [u32; MINI_BLOCK_LEN]) {
    if width == 0 { words.fill(0) } else { unpack_words(bytes, width, words) }
}

/// Running sums of 128 offsets of at most [`MAX_SUMMED_WIDTH`] bits, unpacked and added up in one go.
pub(crate) fn unpack_sums(bytes: &[u8], width: u32, sums: &mut [u32; MINI_BLOCK_LEN]) {
    debug_assert!(bytes.len() == packed_len(width) && width <= MAX_SUMMED_WIDTH);
    if cfg!(target_endian = "big") {
        unpack_words(bytes, width, sums);
        let mut sum = 0_u32;
        for word in sums {
            sum = sum.wrapping_add(*word);
            *word = sum;
        }
    } else {
        // The crate reads a list packed as differences from zero: these are the offsets.
        BitPacker4x::new().decompress_sorted(0, bytes, sums, width as u8);
    }
}

fn unpack_words(bytes: &[u8], width: u32, words: &mut [u32; MINI_BLOCK_LEN]) {
    if cfg!(target_endian = "big") {
        let mut swapped = bytes.to_vec();
        swapped.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        BitPacker4x::new().decompress(&swapped, words, width as u8);
    } else {
        BitPacker4x::new().decompress(bytes, words, width as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lane order as the format describes it: value 4 * r + l is row r of lane l; a lane is a stream of 32 rows,
    /// low bits first, in 32-bit words; word k of lane l is the little-endian word 4 * k + l.
    fn unpack_by_the_book(bytes: &[u8], width: u32) -> Vec<u32> {
        let word = |lane: usize, k: usize| {
            u32::from_le_bytes(bytes[4 * (4 * k + lane)..4 * (4 * k + lane) + 4].try_into().unwrap())
        };
        (0..MINI_BLOCK_LEN)
            .map(|i| {
                let (row, lane) = (i / 4, i % 4);
                (0..width as usize).fold(0, |value, b| {
                    let bit = row * width as usize + b;
                    value | ((word(lane, bit / 32) >> (bit % 32)) & 1) << b
                })
            })
            .collect()
    }

    #[test]
    fn packing_follows_the_book_at_every_width() {
        for width in 0..=64_u32 {
            let mask = super::super::bits::low_mask(width);
            let offsets: [u64; MINI_BLOCK_LEN] =
                std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask);
            let mut bytes = Vec::new();
            pack(&offsets, width, &mut bytes);
            assert_eq!(bytes.len(), packed_len(width));
            let (low, high) = bytes.split_at(packed_len(width.min(32)));
            let low = unpack_by_the_book(low, width.min(32));
            let high = unpack_by_the_book(high, width.saturating_sub(32));
            for (i, offset) in offsets.iter().enumerate() {
                assert_eq!(u64::from(low[i]) | u64::from(high[i]) << 32, *offset, "width {width}, value {i}");
            }
            let mut back = [0; MINI_BLOCK_LEN];
            unpack(&bytes, width, -5, &mut back);
            for (back, offset) in back.iter().zip(&offsets) {
                assert_eq!(*back, (-5_i64).wrapping_add(*offset as i64));
            }
        }
    }
}
