//! Sums that do not depend on how the values were grouped.
//!
//! A value that is a short decimal (an integer below 2^53 over 10^0..10^9) is counted exactly, as an `i128` number of
//! billionths; any other value goes to a double-double. There is one rounding, in [`ExactSum::value`]. So the sum of
//! sensor readings has the same bits before a seal, after it, and however blocks are joined; a sum with values that
//! are no short decimals stays within one unit in the last place.

/// Mergeable sum of floats or integers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ExactSum {
    /// Billionths of all values that are short decimals.
    nanos: i128,
    /// Unevaluated sum `rest_high + rest_low` of the others (Dekker's double-double).
    rest_high: f64,
    rest_low: f64,
}

/// Billionths in one.
pub const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// Integers at or above this no longer name one double each.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Finds the smallest exponent `e` in 0..=9 such that `round(v * 10^e) / 10^e` has the bits of `v` and the integer is
/// below 2^53; gives (integer, e). None for NaN, infinities, -0.0 and values that are no short decimals.
pub fn short_decimal(value: f64) -> Option<(i64, u8)> {
    for (exponent, power) in POWERS.iter().enumerate() {
        // Adding zero turns -0.0 into 0.0, whose bits then differ: a negative zero is no decimal.
        let scaled = (value * power).round_ties_even() + 0.0;
        if scaled.is_nan() || scaled.abs() >= EXACT_LIMIT {
            return None;
        }
        if (scaled / power).to_bits() == value.to_bits() {
            return Some((scaled as i64, exponent as u8));
        }
    }
    None
}

impl ExactSum {
    /// Adds one float.
    pub fn add_float(&mut self, value: f64) {
        match short_decimal(value) {
            Some((integer, exponent)) => self.add_decimal(i128::from(integer), exponent),
            None => self.add_rest(value),
        }
    }

    /// Adds `integer / 10^exponent`, exactly; `exponent` is at most 9 and |`integer`| below 2^96.
    ///
    /// A block whose values share one exponent hands over the sum of its integers in one call.
    pub fn add_decimal(&mut self, integer: i128, exponent: u8) {
        debug_assert!(exponent <= 9);
        self.add_nanos(integer * 10_i128.pow(u32::from(9 - exponent.min(9))));
    }

    /// Adds one integer.
    pub fn add_integer(&mut self, value: i128) {
        self.add_nanos(value * NANOS_PER_UNIT);
    }

    /// Adds a value that is known to be no short decimal.
    pub fn add_rest(&mut self, value: f64) {
        let (high, error) = two_sum(self.rest_high, value);
        let (high, low) = two_sum(high, self.rest_low + error);
        self.rest_high = high;
        self.rest_low = if high.is_finite() { low } else { 0.0 };
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.add_nanos(other.nanos);
        self.add_rest(other.rest_high);
        self.add_rest(other.rest_low);
    }

    /// The sum, rounded once to the nearest double.
    pub fn value(&self) -> f64 {
        if self.rest_high == 0.0 && self.rest_low == 0.0 {
            return nanos_to_float(self.nanos);
        }
        if !self.rest_high.is_finite() {
            return self.rest_high;
        }
        let [a, b, c] = nanos_to_floats(self.nanos);
        round_sum(&[a, b, c, self.rest_high, self.rest_low])
    }

    /// The sum as an integer, if every value was one and it fits.
    pub fn integer(&self) -> Option<i128> {
        let exact = self.rest_high == 0.0 && self.rest_low == 0.0 && self.nanos % NANOS_PER_UNIT == 0;
        exact.then_some(self.nanos / NANOS_PER_UNIT)
    }

    /// The parts as they stand in a file: billionths, high and low part of the rest.
    pub fn parts(&self) -> (i128, f64, f64) {
        (self.nanos, self.rest_high, self.rest_low)
    }

    /// Rebuilds a sum from [`ExactSum::parts`].
    pub fn from_parts(nanos: i128, rest_high: f64, rest_low: f64) -> Self {
        Self { nanos, rest_high, rest_low }
    }

    fn add_nanos(&mut self, nanos: i128) {
        if let Some(sum) = self.nanos.checked_add(nanos) {
            self.nanos = sum;
        } else {
            // More than 10^10 of the largest integers: exactness ends, the magnitude does not.
            let before = self.nanos;
            self.nanos = nanos;
            self.add_rest(nanos_to_float(before));
        }
    }
}

/// Knuth's error-free addition: `a + b` rounded, and what the rounding lost.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_seen = sum - a;
    let error = (a - (sum - b_seen)) + (b - b_seen);
    (sum, if error.is_finite() { error } else { 0.0 })
}

/// `nanos / 10^9`, correctly rounded to nearest, ties to even.
fn nanos_to_float(nanos: i128) -> f64 {
    if nanos == 0 {
        return 0.0;
    }
    let magnitude = nanos.unsigned_abs();
    let shift = magnitude.leading_zeros();
    let scaled = magnitude << shift;
    let divisor = NANOS_PER_UNIT.unsigned_abs();
    // At least 98 significant bits; the remainder survives as a sticky lowest bit, so the cast rounds once.
    let quotient = (scaled / divisor) | u128::from(!scaled.is_multiple_of(divisor));
    let value = quotient as f64 * 2.0_f64.powi(-(shift as i32));
    if nanos < 0 { -value } else { value }
}

/// `nanos / 10^9` as three doubles, each the nearest to what those before it leave: 159 bits of the quotient.
fn nanos_to_floats(nanos: i128) -> [f64; 3] {
    let mut parts = [0.0; 3];
    // What is left is `left / 10^9 * 2^scale`, without an error.
    let (mut left, mut scale) = (nanos, 0);
    for part in &mut parts {
        if left == 0 {
            break;
        }
        let nearest = nanos_to_float(left);
        *part = nearest * 2.0_f64.powi(scale);
        // `nearest` is mantissa * 2^exponent; it is at least 10^-9, so never subnormal.
        let bits = nearest.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32 - 1075;
        let mantissa = i128::from(bits & ((1 << 52) - 1) | 1 << 52) * left.signum();
        // Either product may pass the end of 128 bits; their difference is small, so it is right all the same.
        if exponent >= 0 {
            left = left.wrapping_sub((mantissa << exponent).wrapping_mul(NANOS_PER_UNIT));
        } else {
            left = (left << -exponent).wrapping_sub(mantissa * NANOS_PER_UNIT);
            scale += exponent;
        }
    }
    parts
}

/// Sum of a few doubles, rounded once to nearest, ties to even.
///
/// # Source
/// Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997 (growing expansions); the last rounding is that of
/// Python's `math.fsum`.
fn round_sum(values: &[f64; 5]) -> f64 {
    // Parts that do not overlap, the smallest first; their sum is exact.
    let mut parts = [0.0; 6];
    let mut len = 0;
    for value in values {
        let mut high = *value;
        let mut kept = 0;
        for i in 0..len {
            let (sum, error) = two_sum(high, parts[i]);
            if error != 0.0 {
                parts[kept] = error;
                kept += 1;
            }
            high = sum;
        }
        parts[kept] = high;
        len = kept + 1;
    }
    let mut sum = 0.0;
    while len > 0 {
        len -= 1;
        let (high, low) = two_sum(sum, parts[len]);
        sum = high;
        if low != 0.0 {
            // `high` is the nearest to the last two; half way between two doubles, what comes below decides.
            let below = if len > 0 { parts[len - 1] } else { 0.0 };
            if (low < 0.0) == (below < 0.0) && below != 0.0 {
                let (moved, twice) = (high + 2.0 * low, 2.0 * low);
                if moved - high == twice {
                    sum = moved;
                }
            }
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum_of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|v| sum.add_float(*v));
        sum
    }

    #[test]
    fn tenths_add_up_exactly() {
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum_of(&[0.1, 0.2]).value(), 0.3);
        assert_eq!(sum_of(&[230.1, -230.1, 1e-9]).value(), 1e-9);
    }

    #[test]
    fn what_is_no_short_decimal_still_counts() {
        assert_eq!(short_decimal(-0.0), None);
        assert_eq!(short_decimal(f64::NAN), None);
        assert_eq!(short_decimal(1.48e23), None);
        assert_eq!(short_decimal(230.1), Some((2301, 1)));
        let third = 1.0 / 3.0;
        assert_eq!(sum_of(&[third, third, third]).value(), 1.0);
        assert_eq!(sum_of(&[1e300, 1.0, -1e300]).value(), 1.0);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
    }

    #[test]
    fn decimals_and_others_together_are_rounded_once() {
        let sum = |values: &[f64]| sum_of(values).value();
        assert_eq!(sum(&[230.1, 1.0 / 3.0]), 230.433_333_333_333_34);
        assert_eq!(sum(&[0.1, 1e-20]), 0.1);
        assert_eq!(sum(&[1.5, f64::MAX]), f64::MAX);
        // The decimal one tenth is less than the double it is written as; the difference is all that is left.
        assert_eq!(sum(&[0.3, -(0.1 + 0.2)]), -4.440_892_098_500_626_4e-17);
        assert_eq!(sum(&[1e20, -1e9, 1e-9]), 99_999_999_999_000_000_000.0);
    }

    #[test]
    fn integers_come_back_as_integers() {
        let mut sum = ExactSum::default();
        (0..1000).for_each(|_| sum.add_integer(i128::from(i64::MAX)));
        assert_eq!(sum.integer(), Some(1000 * i128::from(i64::MAX)));
        sum.add_float(0.5);
        assert_eq!(sum.integer(), None);
    }

    proptest! {
        #[test]
        fn grouping_of_decimals_does_not_change_a_bit(
            ints in prop::collection::vec((-10_000_000_i64..10_000_000, 0_u8..6), 1..200), cut in 0_usize..200,
        ) {
            let values: Vec<f64> = ints.iter().map(|(i, e)| *i as f64 / POWERS[*e as usize]).collect();
            let cut = cut.min(values.len());
            let mut joined = sum_of(&values[..cut]);
            joined.merge(&sum_of(&values[cut..]));
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(joined.value().to_bits(), sum_of(&values).value().to_bits());
            prop_assert_eq!(sum_of(&reversed).value().to_bits(), sum_of(&values).value().to_bits());
        }

        #[test]
        fn mixed_sums_are_the_nearest_double(
            decimals in prop::collection::vec((-100_000_000_i64..100_000_000, 0_u8..10), 0..20),
            binary in prop::collection::vec(-(1_i64 << 50)..(1 << 50), 1..20),
        ) {
            let mut sum = ExactSum::default();
            let mut billionths = 0_i128;
            for (integer, exponent) in decimals {
                sum.add_decimal(i128::from(integer), exponent);
                billionths += i128::from(integer) * 10_i128.pow(u32::from(9 - exponent));
            }
            for value in &binary {
                sum.add_rest(*value as f64 / 65536.0);
            }
            // billionths / 10^9 + binary / 2^16, over 10^25; the text is read as the nearest double.
            let binary: i128 = binary.into_iter().map(i128::from).sum();
            let over = billionths * 10_i128.pow(16) + binary * 5_i128.pow(16) * 10_i128.pow(9);
            let expected: f64 = format!("{over}e-25").parse().unwrap();
            prop_assert_eq!(sum.value().to_bits(), (expected + 0.0).to_bits());
        }

        #[test]
        fn division_by_a_billion_is_correctly_rounded(nanos in -(1_i128 << 52)..(1_i128 << 52)) {
            // Both operands are exact doubles here, so the machine's own division is the oracle.
            prop_assert_eq!(nanos_to_float(nanos).to_bits(), (nanos as f64 / 1e9 + 0.0).to_bits());
        }
    }
}
