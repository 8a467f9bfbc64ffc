//! Sums of squares for the standard deviation: mergeable, exact for decimals, stable for all else.
//!
//! How: short decimals are whole billionths, whose squares are summed in 256 bits; `n * sum(x^2) - sum(x)^2` is then
//! exact and loses nothing by cancelling. All values are also summed as doubles with their squares in double-double,
//! which counts as soon as one of them is no short decimal: 106 bits lose 53 only where the mean is 2^26 deviations.

use wattlog_model::{NANOS_PER_UNIT, short_decimal};

/// What is known of the values of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Squares {
    count: u64,
    /// True once a value was no short decimal, or a sum left its bits.
    inexact: bool,
    /// Billionths of all values, and the sum of their squares.
    sum: i128,
    squares: U256,
    /// The same as doubles.
    sum_float: Double,
    squares_float: Double,
}

impl Squares {
    pub(super) fn add_float(&mut self, value: f64) {
        match short_decimal(value) {
            Some((integer, exponent)) => {
                self.add_billionths(i128::from(integer) * 10_i128.pow(9 - u32::from(exponent)), value);
            }
            // A zero of either sign is zero.
            None if value == 0.0 => self.add_billionths(0, 0.0),
            None => {
                self.inexact = true;
                self.add_double(value);
            }
        }
    }

    pub(super) fn add_integer(&mut self, value: i128) {
        self.add_billionths(value * NANOS_PER_UNIT, value as f64);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.inexact |= other.inexact;
        self.add_sums(other.sum, other.squares);
        self.sum_float = self.sum_float.plus(other.sum_float);
        self.squares_float = self.squares_float.plus(other.squares_float);
    }

    /// Standard deviation of a sample (divisor n - 1); none for fewer than two values.
    pub(super) fn deviation(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        let pairs = self.count as f64 * (self.count - 1) as f64;
        if !self.inexact
            && let Some(scaled) = self.squares.times(self.count)
            && let Some(numerator) = scaled.minus(U256::square(self.sum.unsigned_abs()))
        {
            return Some((numerator.float() / pairs).sqrt() / NANOS_PER_UNIT as f64);
        }
        let (n, sum) = (Double::of(self.count as f64), self.sum_float);
        let numerator = self.squares_float.by(n).plus(sum.by(sum).negated());
        // Rounding may leave less than nothing.
        Some((numerator.high.max(0.0) / pairs).sqrt())
    }

    fn add_billionths(&mut self, billionths: i128, value: f64) {
        self.add_sums(billionths, U256::square(billionths.unsigned_abs()));
        self.add_double(value);
    }

    fn add_sums(&mut self, sum: i128, squares: U256) {
        match (self.sum.checked_add(sum), self.squares.plus(squares)) {
            (Some(sum), Some(squares)) => (self.sum, self.squares) = (sum, squares),
            _ => self.inexact = true,
        }
    }

    fn add_double(&mut self, value: f64) {
        self.count += 1;
        self.sum_float = self.sum_float.plus(Double::of(value));
        self.squares_float = self.squares_float.plus(Double::product(value, value));
    }
}

/// Unsigned number of 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct U256 {
    high: u128,
    low: u128,
}

impl U256 {
    fn square(value: u128) -> Self {
        let (h, l) = (value >> 64, value & u128::from(u64::MAX));
        // (h * 2^64 + l)^2; twice h * l may have 129 bits, so it is added twice.
        let (low, first) = (l * l).overflowing_add((h * l) << 64);
        let (low, second) = low.overflowing_add((h * l) << 64);
        Self { high: h * h + 2 * ((h * l) >> 64) + u128::from(first) + u128::from(second), low }
    }

    fn plus(self, other: Self) -> Option<Self> {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.checked_add(other.high)?.checked_add(u128::from(carry))?;
        Some(Self { high, low })
    }

    fn minus(self, other: Self) -> Option<Self> {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        let high = self.high.checked_sub(other.high)?.checked_sub(u128::from(borrow))?;
        Some(Self { high, low })
    }

    fn times(self, factor: u64) -> Option<Self> {
        let (factor, mask) = (u128::from(factor), u128::from(u64::MAX));
        let low = (self.low & mask) * factor;
        let middle = (self.low >> 64) * factor + (low >> 64);
        let high = self.high.checked_mul(factor)?.checked_add(middle >> 64)?;
        Some(Self { high, low: (middle << 64) | (low & mask) })
    }

    /// The nearest double but one: two roundings.
    fn float(self) -> f64 {
        self.high as f64 * 2.0_f64.powi(128) + self.low as f64
    }
}

/// Unevaluated sum of two doubles (Dekker).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    fn of(value: f64) -> Self {
        Self { high: value, low: 0.0 }
    }

    fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self { high, low: finite(a.mul_add(b, -high)) }
    }

    fn plus(self, other: Self) -> Self {
        let (high, error) = two_sum(self.high, other.high);
        let (high, low) = two_sum(high, error + self.low + other.low);
        Self { high, low }
    }

    fn by(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        let rest = finite(self.high * other.low + self.low * other.high);
        let (high, low) = two_sum(product.high, product.low + rest);
        Self { high, low }
    }

    fn negated(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_seen = sum - a;
    (sum, finite((a - (sum - b_seen)) + (b - b_seen)))
}

/// What is beyond all doubles stays infinite instead of becoming no number.
fn finite(error: f64) -> f64 {
    if error.is_finite() { error } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deviation(values: &[f64]) -> Option<f64> {
        let mut squares = Squares::default();
        values.iter().for_each(|value| squares.add_float(*value));
        squares.deviation()
    }

    #[test]
    fn deviations_of_little_and_of_much() {
        assert_eq!(deviation(&[]), None);
        assert_eq!(deviation(&[7.0]), None);
        assert_eq!(deviation(&[0.1, 0.1, 0.1]), Some(0.0));
        assert_eq!(deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), Some((32.0_f64 / 7.0).sqrt()));
        // A large mean costs nothing.
        let found = deviation(&[1e6, 1e6 + 1e-9]).unwrap();
        assert!((found / (0.5_f64.sqrt() * 1e-9) - 1.0).abs() < 1e-15, "{found}");
        let third = 1e6 + 1.0 / 3.0;
        let found = deviation(&[third, third + 0.25, third + 0.5]).unwrap();
        assert!((found - 0.25).abs() < 1e-9, "{found}");
        assert_eq!(deviation(&[f64::MAX, f64::MIN]), Some(f64::INFINITY));
        let mut integers = Squares::default();
        [u64::MAX, 0].iter().for_each(|value| integers.add_integer(i128::from(*value)));
        let found = integers.deviation().unwrap();
        assert!((found / (u64::MAX as f64 / 2.0_f64.sqrt()) - 1.0).abs() < 1e-15, "{found}");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter_for_decimals(
            integers in prop::collection::vec((-1_000_000_000_i64..1_000_000_000, 0_i32..9), 2..60), cut in 0_usize..60,
        ) {
            let values: Vec<f64> = integers.iter().map(|(i, e)| *i as f64 / 10_f64.powi(*e)).collect();
            let cut = cut.min(values.len());
            let (mut left, mut right) = (Squares::default(), Squares::default());
            values[..cut].iter().for_each(|value| left.add_float(*value));
            values[cut..].iter().for_each(|value| right.add_float(*value));
            left.merge(&right);
            prop_assert_eq!(left.deviation().map(f64::to_bits), deviation(&values).map(f64::to_bits));
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
            let plain = (squares / (values.len() - 1) as f64).sqrt();
            prop_assert!((deviation(&values).unwrap() - plain).abs() <= plain * 1e-9 + 1e-9);
        }

        #[test]
        fn wide_numbers_are_those_of_a_check_by_parts(a in any::<u64>(), b in any::<u64>(), n in any::<u64>()) {
            // (a * 2^40 + b)^2 by its parts, in numbers of 128 bits modulo a prime.
            const P: u128 = 0x7fff_ffff_ffff_ffe7;
            let value = (u128::from(a) << 30) | u128::from(b) >> 34;
            let mod_p = |x: U256| {
                let two_64 = (1_u128 << 64) % P;
                let two_128 = two_64 * two_64 % P;
                (x.high % P * two_128 % P + x.low % P) % P
            };
            prop_assert_eq!(mod_p(U256::square(value)), value % P * (value % P) % P);
            if let Some(product) = U256::square(value).times(n) {
                prop_assert_eq!(mod_p(product), mod_p(U256::square(value)) * (u128::from(n) % P) % P);
                prop_assert_eq!(product.minus(U256::square(value)).and_then(|d| d.plus(U256::square(value))), (n > 0).then_some(product));
            }
        }
    }
}
