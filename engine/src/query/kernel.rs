//! Loops over slices: sums and extremes of the values of one bucket.
//!
//! A sum is the one [`ExactSum`] defines, value by value; the fast way below gives the same bits for decimals.

use super::deviation::Squares;
use std::cmp::Ordering;
use std::sync::Arc;
use wattlog_model::{ExactSum, FieldValue, short_decimal};

/// What an accumulator needs to know of a value type.
pub(super) trait Cell: Clone {
    /// The value out of a statistic, if it has this type.
    fn of(value: &FieldValue) -> Option<Self>;
    /// The value of an integer in a block that was folded, whose exponent is `exponent`; none for types that are not.
    fn of_folded(_integer: i64, _exponent: u8) -> Option<Self> {
        None
    }
    /// Adds the total of a stretch of such a block.
    fn add_total(_total: i128, _exponent: u8, _sum: &mut ExactSum) {}
    /// Adds all of `values` to `sum`. `hint` is the decimal exponent that fitted last time, 0 at first.
    fn sum(_values: &[Self], _hint: &mut u8, _sum: &mut ExactSum) {}
    /// Adds all of `values` to sums of squares.
    fn squares(_values: &[Self], _squares: &mut Squares) {}
    /// The nearest double; none for texts and booleans.
    fn float(&self) -> Option<f64> {
        None
    }
    /// Order of sorting. Values that count as equal stand together.
    fn order(&self, other: &Self) -> Ordering;
    /// Whether both are the same value: zeros of either sign are.
    fn is_same(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Equal
    }
    /// Bytes of a text; zero for all else.
    fn text_bytes(&self) -> u64 {
        0
    }
    /// Whether this is less than `other`; false for types without an order.
    fn is_less(&self, _other: &Self) -> bool {
        false
    }
    /// Positions of the first least and the first greatest of `values`, which are not empty.
    fn extremes(values: &[Self]) -> (usize, usize) {
        let (mut least, mut greatest) = (0, 0);
        for i in 1..values.len() {
            if values[i].is_less(&values[least]) {
                least = i;
            }
            if values[greatest].is_less(&values[i]) {
                greatest = i;
            }
        }
        (least, greatest)
    }
}

impl Cell for f64 {
    fn of_folded(integer: i64, exponent: u8) -> Option<Self> {
        Some(integer as f64 / POWERS[usize::from(exponent)])
    }

    fn add_total(total: i128, exponent: u8, sum: &mut ExactSum) {
        sum.add_decimal(total, exponent);
    }

    fn squares(values: &[Self], squares: &mut Squares) {
        values.iter().for_each(|value| squares.add_float(*value));
    }

    fn float(&self) -> Option<f64> {
        Some(*self)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.total_cmp(other)
    }

    fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    fn of(value: &FieldValue) -> Option<Self> {
        if let FieldValue::Float(v) = value { Some(*v) } else { None }
    }

    fn sum(values: &[Self], hint: &mut u8, sum: &mut ExactSum) {
        values.chunks(MAX_CHUNK).for_each(|chunk| sum_floats(chunk, hint, sum));
    }

    fn is_less(&self, other: &Self) -> bool {
        self < other
    }

    fn extremes(values: &[Self]) -> (usize, usize) {
        const LANES: usize = 8;
        let (mut low, mut high) = ([values[0]; LANES], [values[0]; LANES]);
        let (lanes, rest) = values.as_chunks::<LANES>();
        for chunk in lanes {
            for i in 0..LANES {
                low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
                high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
            }
        }
        let least = low.iter().chain(rest).fold(values[0], |a, b| if *b < a { *b } else { a });
        let greatest = high.iter().chain(rest).fold(values[0], |a, b| if *b > a { *b } else { a });
        // Equality finds the first of equal values, and of both zeros: the oldest counts.
        let place = |wanted: f64| values.iter().position(|v| *v == wanted).unwrap_or(0);
        (place(least), place(greatest))
    }
}

impl Cell for i64 {
    fn of_folded(integer: i64, exponent: u8) -> Option<Self> {
        Some(integer * 10_i64.pow(exponent.into()))
    }

    fn add_total(total: i128, exponent: u8, sum: &mut ExactSum) {
        sum.add_integer(total * 10_i128.pow(exponent.into()));
    }

    fn squares(values: &[Self], squares: &mut Squares) {
        values.iter().for_each(|value| squares.add_integer(i128::from(*value)));
    }

    fn float(&self) -> Option<f64> {
        Some(*self as f64)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn of(value: &FieldValue) -> Option<Self> {
        if let FieldValue::Integer(v) = value { Some(*v) } else { None }
    }

    fn sum(values: &[Self], _hint: &mut u8, sum: &mut ExactSum) {
        sum.add_integer(values.iter().map(|v| i128::from(*v)).sum());
    }

    fn is_less(&self, other: &Self) -> bool {
        self < other
    }
}

impl Cell for u64 {
    fn of_folded(integer: i64, exponent: u8) -> Option<Self> {
        Some((integer as u64) * 10_u64.pow(exponent.into()))
    }

    fn add_total(total: i128, exponent: u8, sum: &mut ExactSum) {
        sum.add_integer(total * 10_i128.pow(exponent.into()));
    }

    fn squares(values: &[Self], squares: &mut Squares) {
        values.iter().for_each(|value| squares.add_integer(i128::from(*value)));
    }

    fn float(&self) -> Option<f64> {
        Some(*self as f64)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn of(value: &FieldValue) -> Option<Self> {
        if let FieldValue::Unsigned(v) = value { Some(*v) } else { None }
    }

    fn sum(values: &[Self], _hint: &mut u8, sum: &mut ExactSum) {
        sum.add_integer(values.iter().map(|v| i128::from(*v)).sum());
    }

    fn is_less(&self, other: &Self) -> bool {
        self < other
    }
}

impl Cell for bool {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn of(value: &FieldValue) -> Option<Self> {
        if let FieldValue::Boolean(v) = value { Some(*v) } else { None }
    }
}

impl Cell for Arc<str> {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn of(value: &FieldValue) -> Option<Self> {
        if let FieldValue::String(v) = value { Some(v.clone()) } else { None }
    }

    fn text_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// Most values of one call of [`sum_floats`]: with [`SAFE_SCALED`] their sum stays below 2^61.
const MAX_CHUNK: usize = 1024;
/// A scaled integer up to this stands for the same decimal as the one of the smallest exponent.
const SAFE_SCALED: f64 = (1_u64 << 50) as f64;
/// Adding this to a double below 2^51 leaves its nearest integer (ties to even) in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

fn sum_floats(values: &[f64], hint: &mut u8, sum: &mut ExactSum) {
    let mut exponent = *hint;
    loop {
        let (integers, misfits) = scaled_sum(values, POWERS[usize::from(exponent)]);
        if misfits == 0 {
            *hint = exponent;
            return sum.add_decimal(i128::from(integers), exponent);
        }
        // A finer decimal among the values: once found, it fits its neighbours too.
        let finest = values.iter().filter_map(|v| short_decimal(*v)).map(|(_, e)| e).max().unwrap_or(0);
        if finest <= exponent {
            break;
        }
        exponent = finest;
    }
    // Some are no short decimals, or too large for one common scale: one by one.
    for value in values {
        sum.add_float(*value);
    }
}

/// Sum of all values over one power of ten, and how many of them are no such decimals (and not in the sum).
fn scaled_sum(values: &[f64], power: f64) -> (i64, usize) {
    let (mut sum, mut misfits) = (0_i64, 0_usize);
    for value in values {
        let shifted = value * power + ROUNDER;
        let scaled = shifted - ROUNDER;
        let fits = scaled.abs() < SAFE_SCALED && (scaled / power).to_bits() == value.to_bits();
        let integer = (shifted.to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64);
        sum += if fits { integer } else { 0 };
        misfits += usize::from(!fits);
    }
    (sum, misfits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|v| sum.add_float(*v));
        sum
    }

    fn fast(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        f64::sum(values, &mut 0, &mut sum);
        sum
    }

    fn check(values: &[f64]) {
        assert_eq!(fast(values).value().to_bits(), plain(values).value().to_bits(), "{values:?}");
    }

    #[test]
    fn the_fast_sum_is_the_plain_sum() {
        check(&[]);
        check(&[0.1; 3000]);
        check(&[230.1, -0.0, 1e-9, 5.0]);
        check(&[-0.0, -0.0]);
        check(&[1.0 / 3.0; 2000]);
        check(&[f64::MAX, 1.0, f64::MIN]);
        check(&[f64::MAX, f64::MAX]);
        check(&[9_007_199_254_740_991.0; 1024]);
        check(&[1_125_899_906_842_623.5, 0.123_456_789, 4e-320]);
    }

    #[test]
    fn the_oldest_of_equal_extremes_counts_and_zeros_are_equal() {
        assert_eq!(f64::extremes(&[0.0, -0.0, 1.0, 1.0]), (0, 2));
        assert_eq!(f64::extremes(&[-0.0, 0.0]), (0, 0));
        assert_eq!(i64::extremes(&[3, 1, 1, 3]), (1, 0));
        assert_eq!(u64::extremes(&[u64::MAX]), (0, 0));
    }

    proptest! {
        #[test]
        fn sums_and_extremes_agree_with_the_plain_way(
            decimals in prop::collection::vec((-100_000_000_i64..100_000_000, 0_usize..10), 1..300),
            odd in prop::collection::vec((any::<prop::sample::Index>(), prop::num::f64::NORMAL), 0..3),
        ) {
            let mut values: Vec<f64> = decimals.iter().map(|(i, e)| *i as f64 / POWERS[*e]).collect();
            prop_assert_eq!(fast(&values).parts().0, plain(&values).parts().0);
            for (at, value) in &odd {
                let at = at.index(values.len());
                values[at] = *value;
            }
            prop_assert_eq!(fast(&values).value().to_bits(), plain(&values).value().to_bits());
            let (least, greatest) = f64::extremes(&values);
            let first = |wanted: f64| values.iter().position(|v| *v == wanted).unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!((least, greatest), (first(low), first(high)));
        }
    }
}
