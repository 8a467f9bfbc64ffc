//! Folds: sums and extremes of stretches of a block of numbers, without making the values.
//!
//! A block of decimals is a block of integers over one power of ten, and so is what can be said of a stretch of it: the
//! values need not be divided, stored and scaled back to be added up exactly.
//!
//! Invariants
//! 1. What a fold says is what the decoded values say: [`ExactSum::add_decimal`](wattlog_model::ExactSum::add_decimal)
//!    of a total has the bits of adding them one by one, `min` and `max` name the oldest of equal values.
//! 2. A block that cannot be folded so (doubles that are no decimals, exceptions, integers from 2^50 up) is [`NotFolded`]:
//!    decode it.

use super::cursor::Cursor;
use super::floats;
use super::mini::SumLine;
use super::numbers::{self, Sink};
use super::{CodecTag, DecodeError, MINI_BLOCK_LEN, kernel};

/// What is known of one stretch of a block. Values are integers over a power of ten that the block has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Sum of all.
    pub total: i128,
    /// The value of the first and of the last row.
    pub first: i64,
    pub last: i64,
    /// Row, counted from the first of the block, and value of the first least and the first greatest; those of the first
    /// row unless [`Wanted::Extremes`] was asked for.
    pub min: (u32, i64),
    pub max: (u32, i64),
}

/// What a fold is asked for besides totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Totals alone.
    Totals,
    /// Totals, least and greatest.
    Extremes,
}

/// A block that must be decoded instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFolded;

/// The result of a fold: the decimal exponent of all stretches (values are integers over 10^exponent).
pub type Folded = Result<Result<u8, NotFolded>, DecodeError>;

/// Folds a block of `count` doubles. `ends` are the rows at which stretches end: rising, the last is `count`. On success
/// `out` has a stretch for each; otherwise nothing of use.
pub fn fold_floats(
    bytes: &[u8],
    count: usize,
    ends: &[u32],
    wanted: Wanted,
    out: &mut Vec<Stretch>,
) -> Folded {
    match floats::decimals(bytes, count)? {
        Some((tag, exponent, payload)) => {
            Ok(fold(tag, payload, count, ends, wanted, Bounds::SIGNED, out)?.map(|()| exponent))
        }
        None => Ok(Err(NotFolded)),
    }
}

/// The same for signed integers: values are `integer * 10^exponent`.
pub fn fold_integers(
    bytes: &[u8],
    count: usize,
    ends: &[u32],
    wanted: Wanted,
    out: &mut Vec<Stretch>,
) -> Folded {
    fold_whole(bytes, count, ends, wanted, Bounds::SIGNED, out)
}

/// The same for unsigned integers.
pub fn fold_unsigned(
    bytes: &[u8],
    count: usize,
    ends: &[u32],
    wanted: Wanted,
    out: &mut Vec<Stretch>,
) -> Folded {
    fold_whole(bytes, count, ends, wanted, Bounds::UNSIGNED, out)
}

/// With this exponent an integer below 2^50 stays one of 64 bits when it is scaled up.
const MAX_WHOLE_EXPONENT: u8 = 3;

fn fold_whole(
    bytes: &[u8],
    count: usize,
    ends: &[u32],
    wanted: Wanted,
    bounds: Bounds,
    out: &mut Vec<Stretch>,
) -> Folded {
    let mut cursor = Cursor::new(bytes);
    let tag = numbers::read_tag(&mut cursor, count)?;
    if tag == CodecTag::Raw64 {
        return Ok(Err(NotFolded));
    }
    let exponent = cursor.byte()?;
    if exponent > MAX_WHOLE_EXPONENT {
        return Ok(Err(NotFolded));
    }
    Ok(fold(tag, cursor, count, ends, wanted, bounds, out)?.map(|()| exponent))
}

fn fold(
    tag: CodecTag,
    mut payload: Cursor<'_>,
    count: usize,
    ends: &[u32],
    wanted: Wanted,
    bounds: Bounds,
    out: &mut Vec<Stretch>,
) -> Result<Result<(), NotFolded>, DecodeError> {
    debug_assert!(ends.is_sorted_by(|a, b| a < b) && ends.last().is_some_and(|end| *end as usize == count));
    out.clear();
    let beyond = match wanted {
        Wanted::Totals => {
            let mut folder = Folder::<false> { ends, bounds, at: 0, beyond: 0, is_open: false, out };
            numbers::decode(tag, &mut payload, count, &mut folder)?;
            folder.beyond
        }
        Wanted::Extremes => {
            let mut folder = Folder::<true> { ends, bounds, at: 0, beyond: 0, is_open: false, out };
            numbers::decode(tag, &mut payload, count, &mut folder)?;
            folder.beyond
        }
    };
    Ok(if beyond == 0 { Ok(()) } else { Err(NotFolded) })
}

/// Which integers stand for themselves, and for one decimal each.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Added before the look at the high bits.
    lift: i64,
    /// Bits that a lifted integer may have.
    bits: u32,
}

impl Bounds {
    /// -2^50..2^50.
    const SIGNED: Self = Self { lift: 1 << 50, bits: 51 };
    /// 0..2^50.
    const UNSIGNED: Self = Self { lift: 0, bits: 50 };
}

struct Folder<'a, const EXTREMES: bool> {
    ends: &'a [u32],
    bounds: Bounds,
    /// Rows seen.
    at: u32,
    /// Not zero once an integer was out of bounds.
    beyond: u64,
    /// Whether the last stretch of `out` takes more rows.
    is_open: bool,
    out: &'a mut Vec<Stretch>,
}

impl<const EXTREMES: bool> Folder<'_, EXTREMES> {
    /// Rows that the next `count` have in the stretch that takes the next one.
    fn room(&self, count: usize) -> usize {
        let stretch = self.out.len() - usize::from(self.is_open);
        count.min((self.ends[stretch] - self.at) as usize)
    }

    /// The stretch that takes the next row, whose value is `first`.
    fn stretch(&mut self, first: i64) -> &mut Stretch {
        if !self.is_open {
            self.is_open = true;
            let at = self.at;
            self.out.push(Stretch { total: 0, first, last: first, min: (at, first), max: (at, first) });
        }
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    fn advance(&mut self, rows: usize) {
        self.at += rows as u32;
        self.is_open = self.ends[self.out.len() - 1] > self.at;
    }
}

impl<const EXTREMES: bool> Sink for Folder<'_, EXTREMES> {
    const TAKES_LINES: bool = !EXTREMES;

    fn run(&mut self, value: i64, count: usize) -> Result<(), &'static str> {
        self.beyond |= value.wrapping_add(self.bounds.lift) as u64 >> self.bounds.bits;
        let mut left = count;
        while left > 0 {
            let (rows, at) = (self.room(left), self.at);
            let stretch = self.stretch(value);
            stretch.total += i128::from(value) * rows as i128;
            stretch.last = value;
            if value < stretch.min.1 {
                stretch.min = (at, value);
            }
            if value > stretch.max.1 {
                stretch.max = (at, value);
            }
            self.advance(rows);
            left -= rows;
        }
        Ok(())
    }

    fn chunk(&mut self, values: &mut [i64]) -> Result<(), &'static str> {
        let mut values = &*values;
        while !values.is_empty() {
            let (piece, rest) = values.split_at(self.room(values.len()));
            let (at, lift) = (self.at, self.bounds.lift);
            let stretch = self.stretch(piece[0]);
            let seen = if EXTREMES {
                let kernel::Fold { total, seen, min, max } = kernel::fold(piece, lift);
                stretch.total += i128::from(total);
                let place = |wanted: i64| at + piece.iter().position(|v| *v == wanted).unwrap_or(0) as u32;
                if min < stretch.min.1 {
                    stretch.min = (place(min), min);
                }
                if max > stretch.max.1 {
                    stretch.max = (place(max), max);
                }
                seen
            } else {
                let (total, seen) = kernel::totals(piece, lift);
                stretch.total += i128::from(total);
                seen
            };
            stretch.last = piece[piece.len() - 1];
            self.beyond |= seen >> self.bounds.bits;
            self.advance(piece.len());
            values = rest;
        }
        Ok(())
    }
    fn line(&mut self, line: SumLine<'_>) -> Result<(), &'static str> {
        let SumLine { start, step, sums, lifts } = line;
        let climb = step.unsigned_abs().saturating_mul(MINI_BLOCK_LEN as u64);
        let lifted = |reach: u64, lift: &(u8, i64)| reach.saturating_add(lift.1.unsigned_abs());
        let reach = lifts.iter().fold(start.unsigned_abs().saturating_add(climb), lifted);
        if self.bounds.lift == 0 || reach >= LINE_REACH {
            let mut values = [0; MINI_BLOCK_LEN];
            line.values(&mut values);
            return self.chunk(&mut values);
        }
        let mut lifts = lifts.iter().map(|(index, lift)| (usize::from(*index), *lift)).peekable();
        let (mut from, mut start) = (0, start);
        while from < MINI_BLOCK_LEN {
            let rows = self.room(MINI_BLOCK_LEN - from);
            let to = from + rows;
            while let Some((_, lift)) = lifts.next_if(|(index, _)| *index == from) {
                start += lift;
            }
            let value = |start: i64, i: usize| start + step * (i as i64 + 1) + i64::from(sums[i]);
            let first = value(start, from);
            // The sum of from + 1 ..= to.
            let steps = (rows * (from + to + 1) / 2) as i64;
            let mut total = start * rows as i64 + step * steps + kernel::sum_words(&sums[from..to]) as i64;
            while let Some((index, lift)) = lifts.next_if(|(index, _)| *index < to) {
                total += lift * (to - index) as i64;
                start += lift;
            }
            let last = value(start, to - 1);
            let stretch = self.stretch(first);
            stretch.total += i128::from(total);
            stretch.last = last;
            self.advance(rows);
            from = to;
        }
        Ok(())
    }
}

/// A line that starts, climbs and is lifted within this has values below 2^50, and totals of 128 of them below 2^58.
const LINE_REACH: u64 = 1 << 49;
