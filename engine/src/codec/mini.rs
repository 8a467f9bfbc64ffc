//! Mini-blocks: up to 128 integers as packed offsets from a base, with patches for the few that do not fit
//! (format-spec.md 6.3).
//!
//! All arithmetic is modulo 2^64, so any integers round-trip. The plan of a mini-block knows its size to the byte.

use super::bits::{get_stream, low_mask, put_stream, stream_len};
use super::cursor::{Cursor, bit_len, put_varint, unzigzag, varint_len, zigzag};
use super::kernel::Anchor;
use super::{DecodeError, MINI_BLOCK_LEN, kernel};

/// Set in the first byte when patches follow; the low seven bits are the width.
const HAS_PATCHES: u8 = 0x80;
/// Most patches in one mini-block: their number has five bits.
const MAX_PATCHES: usize = 31;

/// How one mini-block will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    base: i64,
    width: u32,
    patches: usize,
    /// Bytes of each patch value, 1..=8; nothing without patches.
    patch_bytes: usize,
}

/// Where the bulk of the values is expected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Center {
    /// Around the median of a few samples.
    Sampled,
    /// Around zero where zero is in the range, as differences are.
    Zero,
}

/// The plans of consecutive mini-blocks, and the bytes they come to.
#[derive(Debug, Default)]
pub(crate) struct StreamPlan {
    plans: Vec<Plan>,
    pub(crate) bytes: usize,
}

impl StreamPlan {
    /// Plans a stream; gives up early, with more than `limit` bytes, when it would not fit.
    pub(crate) fn new(values: &[i64], center: Center, limit: usize) -> Self {
        let mut stream = Self { plans: Vec::with_capacity(values.len().div_ceil(MINI_BLOCK_LEN)), bytes: 0 };
        let mut previous_base = 0;
        for mini in values.chunks(MINI_BLOCK_LEN) {
            let plan = Plan::new(mini, center);
            stream.bytes += plan.bytes(mini.len(), previous_base);
            previous_base = plan.base;
            stream.plans.push(plan);
            if stream.bytes > limit {
                break;
            }
        }
        stream
    }

    /// Writes the values it was made for.
    pub(crate) fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        debug_assert_eq!(self.plans.len(), values.len().div_ceil(MINI_BLOCK_LEN));
        let mut previous_base = 0;
        for (plan, mini) in self.plans.iter().zip(values.chunks(MINI_BLOCK_LEN)) {
            plan.write(mini, previous_base, out);
            previous_base = plan.base;
        }
    }
}

/// Reads `count` values mini-block by mini-block.
pub(crate) fn read_stream(
    cursor: &mut Cursor<'_>,
    count: usize,
    mut visit: impl FnMut(&mut [i64], &Cursor<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut values = [0; MINI_BLOCK_LEN];
    let mut base = 0;
    let mut left = count;
    while left > 0 {
        let len = left.min(MINI_BLOCK_LEN);
        base = read_mini(cursor, len, base, &mut values)?;
        visit(&mut values[..len], cursor)?;
        left -= len;
    }
    Ok(())
}

/// Reads `count` values into a list of their own.
pub(crate) fn read_list(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    let mut list = Vec::with_capacity(count);
    read_stream(cursor, count, |mini, _| {
        list.extend_from_slice(mini);
        Ok(())
    })?;
    Ok(list)
}

/// Bytes of `count` packed offsets: the lanes of a whole mini-block, or a plain bit stream of a shorter one.
pub(crate) fn packed_len(count: usize, width: u32) -> usize {
    if count == MINI_BLOCK_LEN { kernel::packed_len(width) } else { stream_len(count, width) }
}

/// Packs offsets, all below 2^`width`.
pub(crate) fn put_packed(offsets: &[u64], width: u32, out: &mut Vec<u8>) {
    match offsets.try_into() {
        Ok(whole) => kernel::pack(whole, width, out),
        Err(_) => put_stream(offsets, width, out),
    }
}

/// Reads packed offsets, each plus `base`.
pub(crate) fn get_packed(
    cursor: &mut Cursor<'_>,
    count: usize,
    width: u32,
    base: i64,
    out: &mut [i64; MINI_BLOCK_LEN],
) -> Result<(), DecodeError> {
    let bytes = cursor.take(packed_len(count, width))?;
    if count == MINI_BLOCK_LEN {
        kernel::unpack(bytes, width, base, out);
        return Ok(());
    }
    get_stream(bytes, width, base, &mut out[..count]);
    Ok(())
}

/// A mini-block up to its packed offsets.
struct Head {
    base: i64,
    width: u32,
    patches: usize,
    patch_bytes: usize,
}

impl Head {
    fn read(cursor: &mut Cursor<'_>, count: usize, previous_base: i64) -> Result<Self, DecodeError> {
        let head = cursor.byte()?;
        let width = u32::from(head & !HAS_PATCHES);
        if width > 64 {
            return Err(cursor.error("width above 64 bits"));
        }
        let base = previous_base.wrapping_add(cursor.zigzag()?);
        if head & HAS_PATCHES == 0 {
            return Ok(Self { base, width, patches: 0, patch_bytes: 0 });
        }
        let shape = cursor.byte()?;
        let (patches, patch_bytes) = ((shape & 0x1f) as usize, (shape >> 5) as usize + 1);
        if patches == 0 || patches > count {
            return Err(cursor.error("number of patches"));
        }
        Ok(Self { base, width, patches, patch_bytes })
    }

    /// What follows the packed offsets: (index of a value, what it is beyond the base), rising.
    fn patches<'a>(
        &self,
        cursor: &mut Cursor<'a>,
        count: usize,
    ) -> Result<impl Iterator<Item = (usize, i64)> + use<'a>, DecodeError> {
        let positions = cursor.take(self.patches)?;
        let out_of_range = positions.last().is_some_and(|last| usize::from(*last) >= count);
        if out_of_range || !positions.is_sorted_by(|a, b| a < b) {
            return Err(cursor.error("position of a patch"));
        }
        // Whole words are read where the block has as much behind a patch: the bytes beyond it are masked.
        let behind = cursor.rest();
        let len = self.patch_bytes;
        cursor.take(self.patches * len)?;
        let mask = u64::MAX >> (64 - 8 * len.max(1));
        let value = move |i: usize| match behind[i * len..].first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word) & mask,
            None => behind[i * len..(i + 1) * len].iter().rev().fold(0, |word, b| word << 8 | u64::from(*b)),
        };
        let values = (0..self.patches).map(move |i| unzigzag(value(i)));
        Ok(positions.iter().map(|position| usize::from(*position)).zip(values))
    }
}

/// Gives the base, from which the next one is counted.
fn read_mini(
    cursor: &mut Cursor<'_>,
    count: usize,
    previous_base: i64,
    out: &mut [i64; MINI_BLOCK_LEN],
) -> Result<i64, DecodeError> {
    let head = Head::read(cursor, count, previous_base)?;
    get_packed(cursor, count, head.width, head.base, out)?;
    if head.patches > 0 {
        for (position, patch) in head.patches(cursor, count)? {
            out[position] = head.base.wrapping_add(patch);
        }
    }
    Ok(head.base)
}

/// Reads `count` values whose differences are a stream, the first counted from `start`, mini-block by mini-block.
pub(crate) fn read_sums(
    cursor: &mut Cursor<'_>,
    count: usize,
    start: i64,
    mut visit: impl FnMut(&mut [i64], &Cursor<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut values = [0; MINI_BLOCK_LEN];
    let (mut base, mut carry) = (0, start);
    let mut left = count;
    while left > 0 {
        let len = left.min(MINI_BLOCK_LEN);
        base = read_mini_sums(cursor, len, base, carry, &mut values)?;
        carry = values[len - 1];
        visit(&mut values[..len], cursor)?;
        left -= len;
    }
    Ok(())
}

/// [`read_mini`] and a prefix sum from `carry`. Narrow whole mini-blocks are summed while they are unpacked.
fn read_mini_sums(
    cursor: &mut Cursor<'_>,
    count: usize,
    previous_base: i64,
    carry: i64,
    out: &mut [i64; MINI_BLOCK_LEN],
) -> Result<i64, DecodeError> {
    let mut ahead = *cursor;
    let head = Head::read(&mut ahead, count, previous_base)?;
    if count < MINI_BLOCK_LEN || head.width > kernel::MAX_SUMMED_WIDTH {
        let base = read_mini(cursor, count, previous_base, out)?;
        kernel::prefix_sum(&mut out[..count], carry);
        return Ok(base);
    }
    *cursor = ahead;
    let (mut sums, mut lifts) = ([0; MINI_BLOCK_LEN], Lifts::default());
    read_summed(cursor, &head, carry, &mut sums, &mut lifts)?.values(out);
    Ok(head.base)
}

/// Values before they are made: the i-th is `start + (i + 1) * step + sums[i]` and all lifts at or before it, modulo 2^64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SumLine<'a> {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) sums: &'a [u32; MINI_BLOCK_LEN],
    /// By rising index.
    pub(crate) lifts: &'a [(u8, i64)],
}

/// Room for the lifts of a mini-block: a patch among values lifts its own alone, up and down again.
#[derive(Debug)]
struct Lifts {
    list: [(u8, i64); 2 * MAX_PATCHES],
    len: usize,
}

impl Default for Lifts {
    fn default() -> Self {
        Self { list: [(0, 0); 2 * MAX_PATCHES], len: 0 }
    }
}

impl Lifts {
    fn push(&mut self, index: usize, lift: i64) {
        if index < MINI_BLOCK_LEN {
            self.list[self.len] = (index as u8, lift);
            self.len += 1;
        }
    }
}

impl SumLine<'_> {
    /// Makes the values.
    pub(crate) fn values(&self, out: &mut [i64; MINI_BLOCK_LEN]) {
        let (mut from, mut start) = (0, self.start);
        for (index, lift) in self.lifts {
            let to = usize::from(*index);
            if to > from {
                kernel::widen_line(&self.sums[from..to], start, self.step, &mut out[from..to]);
                start = start.wrapping_add(self.step.wrapping_mul((to - from) as i64));
                from = to;
            }
            start = start.wrapping_add(*lift);
        }
        kernel::widen_line(&self.sums[from..], start, self.step, &mut out[from..]);
    }

    /// The last value.
    fn last(&self) -> i64 {
        let lifted = self.lifts.iter().fold(self.start, |start, (_, lift)| start.wrapping_add(*lift));
        let climbed = self.step.wrapping_mul(MINI_BLOCK_LEN as i64);
        lifted.wrapping_add(climbed).wrapping_add(i64::from(self.sums[MINI_BLOCK_LEN - 1]))
    }
}

/// The packed part of a whole narrow mini-block of differences: a patch lifts all values from its place on.
fn read_summed<'a>(
    cursor: &mut Cursor<'_>,
    head: &Head,
    carry: i64,
    sums: &'a mut [u32; MINI_BLOCK_LEN],
    lifts: &'a mut Lifts,
) -> Result<SumLine<'a>, DecodeError> {
    let bytes = cursor.take(kernel::packed_len(head.width))?;
    if head.width > 0 {
        kernel::unpack_sums(bytes, head.width, sums);
    } else {
        sums.fill(0);
    }
    lifts.len = 0;
    if head.patches > 0 {
        for (index, patch) in head.patches(cursor, MINI_BLOCK_LEN)? {
            let offset = if index == 0 { sums[0] } else { sums[index] - sums[index - 1] };
            lifts.push(index, patch.wrapping_sub(i64::from(offset)));
        }
    }
    Ok(SumLine { start: carry, step: head.base, sums, lifts: &lifts.list[..lifts.len] })
}

/// The same for values that are packed themselves: a line that does not climb.
fn read_words<'a>(
    cursor: &mut Cursor<'_>,
    head: &Head,
    words: &'a mut [u32; MINI_BLOCK_LEN],
    lifts: &'a mut Lifts,
) -> Result<SumLine<'a>, DecodeError> {
    kernel::unpack_narrow(cursor.take(kernel::packed_len(head.width))?, head.width, words);
    lifts.len = 0;
    if head.patches > 0 {
        for (index, patch) in head.patches(cursor, MINI_BLOCK_LEN)? {
            let lift = patch.wrapping_sub(i64::from(words[index]));
            lifts.push(index, lift);
            lifts.push(index + 1, lift.wrapping_neg());
        }
    }
    Ok(SumLine { start: head.base, step: 0, sums: words, lifts: &lifts.list[..lifts.len] })
}

/// What [`read_lines`] hands on.
#[derive(Debug)]
pub(crate) enum Run<'a> {
    Line(SumLine<'a>),
    Values(&'a mut [i64]),
}

/// Reads `count` values, or values whose differences from `start` on are a stream, without making those of whole narrow
/// mini-blocks.
pub(crate) fn read_lines<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
    start: Option<i64>,
    mut visit: impl FnMut(Run<'_>, &Cursor<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut values = [0; MINI_BLOCK_LEN];
    let (mut words, mut lifts) = ([0; MINI_BLOCK_LEN], Lifts::default());
    let (mut base, mut carry) = (0, start);
    let mut left = count;
    while left > 0 {
        let len = left.min(MINI_BLOCK_LEN);
        let mut ahead = *cursor;
        let head = Head::read(&mut ahead, len, base)?;
        let is_narrow = len == MINI_BLOCK_LEN && head.width <= kernel::MAX_SUMMED_WIDTH;
        match &mut carry {
            Some(carry) if is_narrow => {
                *cursor = ahead;
                let line = read_summed(cursor, &head, *carry, &mut words, &mut lifts)?;
                visit(Run::Line(line), cursor)?;
                *carry = line.last();
            }
            None if is_narrow => {
                *cursor = ahead;
                visit(Run::Line(read_words(cursor, &head, &mut words, &mut lifts)?), cursor)?;
            }
            carry => {
                read_mini(cursor, len, base, &mut values)?;
                if let Some(carry) = carry {
                    *carry = kernel::prefix_sum(&mut values[..len], *carry);
                }
                visit(Run::Values(&mut values[..len]), cursor)?;
            }
        }
        base = head.base;
        left -= len;
    }
    Ok(())
}

impl Plan {
    /// The cheapest plan among: no patches; and, for every width, a window laid at one anchor.
    fn new(values: &[i64], center: Center) -> Self {
        let kernel::Survey { min, max, changes } = kernel::survey(values);
        let plain =
            Self { base: min, width: bit_len(max.wrapping_sub(min) as u64), patches: 0, patch_bytes: 0 };
        // Patches cannot pay for themselves below three bytes of packed offsets.
        if changes == 0 || packed_len(values.len(), plain.width) < 3 {
            return plain;
        }
        let anchor = Anchor::choose(values, min, max, center);
        let counts = kernel::window_widths(values, anchor);
        let mut best = plain;
        let mut best_bytes = plain.body_bytes(values.len());
        let mut outside = 0;
        // A window around a middle takes one bit more than the range at most.
        for width in (0..=plain.width.min(63)).rev() {
            outside += usize::from(counts[width as usize + 1]);
            if outside > MAX_PATCHES {
                break;
            }
            if outside == 0 || width >= best.width {
                continue;
            }
            let base = anchor.base(width);
            let plan =
                Self { base, width, patches: outside, patch_bytes: patch_bytes(min, max, base, width) };
            let bytes = plan.body_bytes(values.len());
            if bytes < best_bytes {
                (best, best_bytes) = (plan, bytes);
            }
        }
        best
    }

    /// Bytes of the packed offsets and the patches.
    fn body_bytes(&self, count: usize) -> usize {
        let patches = if self.patches == 0 { 0 } else { 1 + self.patches * (1 + self.patch_bytes) };
        packed_len(count, self.width) + patches
    }

    fn bytes(&self, count: usize, previous_base: i64) -> usize {
        1 + varint_len(zigzag(self.base.wrapping_sub(previous_base))) + self.body_bytes(count)
    }

    fn write(&self, values: &[i64], previous_base: i64, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(self.width as u8 | if self.patches > 0 { HAS_PATCHES } else { 0 });
        put_varint(zigzag(self.base.wrapping_sub(previous_base)), out);
        let mut offsets = [0_u64; MINI_BLOCK_LEN];
        for (offset, value) in offsets.iter_mut().zip(values) {
            *offset = value.wrapping_sub(self.base) as u64;
        }
        if self.patches == 0 {
            put_packed(&offsets[..values.len()], self.width, out);
        } else {
            out.push((self.patches | (self.patch_bytes - 1) << 5) as u8);
            let mask = low_mask(self.width);
            let mut positions = [0_u8; MAX_PATCHES];
            let mut patches = [0_u64; MAX_PATCHES];
            let mut found = 0;
            for (position, offset) in offsets[..values.len()].iter_mut().enumerate() {
                if *offset > mask {
                    positions[found] = position as u8;
                    patches[found] = zigzag(*offset as i64);
                    found += 1;
                    *offset = 0;
                }
            }
            debug_assert_eq!(found, self.patches);
            put_packed(&offsets[..values.len()], self.width, out);
            out.extend_from_slice(&positions[..found]);
            for patch in &patches[..found] {
                out.extend_from_slice(&patch.to_le_bytes()[..self.patch_bytes]);
            }
        }
        debug_assert_eq!(out.len() - start, self.bytes(values.len(), previous_base));
    }
}

impl Anchor {
    /// The end of the range that the bulk lies near to, or its middle.
    fn choose(values: &[i64], min: i64, max: i64, center: Center) -> Self {
        let middle = match center {
            Center::Zero if min <= 0 && max >= 0 => 0,
            _ => median_of_samples(values),
        };
        let below = middle.wrapping_sub(min) as u64;
        let above = max.wrapping_sub(middle) as u64;
        if below <= above / 4 {
            Self::Low(min)
        } else if above <= below / 4 {
            Self::High(max)
        } else {
            Self::Middle(middle)
        }
    }

    /// First value of the window of 2^`width` values.
    fn base(self, width: u32) -> i64 {
        match self {
            Self::Low(min) => min,
            Self::High(max) => max.wrapping_sub(low_mask(width) as i64),
            Self::Middle(middle) if width == 0 => middle,
            Self::Middle(middle) => middle.wrapping_sub(1 << (width - 1)),
        }
    }
}

/// Bytes for the patch farthest from `base`, which is the smallest or the largest value.
fn patch_bytes(min: i64, max: i64, base: i64, width: u32) -> usize {
    if max.wrapping_sub(min) as u64 >= 1 << 61 || width > 61 {
        // Differences may wrap here, and then the ends of the range say nothing about what lies between.
        return 8;
    }
    let below = if min < base { zigzag(min.wrapping_sub(base)) } else { 0 };
    let offset = max.wrapping_sub(base);
    let above = if offset > low_mask(width) as i64 { zigzag(offset) } else { 0 };
    (bit_len(below.max(above)) as usize).div_ceil(8).max(1)
}

fn median_of_samples(values: &[i64]) -> i64 {
    let mut samples: [i64; 7] = std::array::from_fn(|i| values[(2 * i + 1) * values.len() / 14]);
    samples.sort_unstable();
    samples[3]
}
