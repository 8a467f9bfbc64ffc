//! Sums by the definition, in whole numbers wide enough for every double: slow, and beyond doubt.
//!
//! A value that is a short decimal counts as that decimal, any other as the double it is; the sum of all is rounded
//! once, to nearest, ties to even.

use wattlog_model::FieldValue;

/// Two's complement number of 2304 bits, in units of 2^-1074 / 10^9.
#[derive(Debug, Clone)]
pub(crate) struct Wide([u64; WORDS]);

const WORDS: usize = 36;
/// Bits below one.
const FRACTION_BITS: usize = 1074;
const BILLION: u64 = 1_000_000_000;

impl Wide {
    pub(crate) fn zero() -> Self {
        Self([0; WORDS])
    }

    /// One value as the double or integer that it is.
    pub(crate) fn of(value: &FieldValue) -> Self {
        let mut wide = Self::zero();
        match value {
            FieldValue::Float(v) => wide.add_bits(*v),
            FieldValue::Integer(v) => wide.add_integer((*v).into()),
            FieldValue::Unsigned(v) => wide.add_integer((*v).into()),
            other => unreachable!("{other:?} is no number"),
        }
        wide
    }

    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        let sign = |wide: &Self| wide.0[WORDS - 1] >> 63 == 0;
        sign(self).cmp(&sign(other)).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Adds a float as the definition counts it.
    pub(crate) fn add_float(&mut self, value: f64) {
        match decimal(value) {
            Some(billionths) => self.add_shifted(billionths < 0, billionths.unsigned_abs(), FRACTION_BITS),
            None => self.add_bits(value),
        }
    }

    /// Adds a float as the double it is.
    fn add_bits(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as usize;
        let hidden = u64::from(exponent > 0) << 52;
        let mantissa = u128::from(bits & ((1 << 52) - 1) | hidden) * u128::from(BILLION);
        self.add_shifted(value.is_sign_negative(), mantissa, exponent.max(1) - 1);
    }

    pub(crate) fn add_integer(&mut self, value: i128) {
        let billionths = value.unsigned_abs() * u128::from(BILLION);
        self.add_shifted(value < 0, billionths, FRACTION_BITS);
    }

    fn add_shifted(&mut self, negative: bool, magnitude: u128, shift: usize) {
        let mut term = [0_u64; WORDS];
        let (word, bit) = (shift / 64, shift % 64);
        let low = magnitude << bit;
        let high = if bit == 0 { 0 } else { (magnitude >> (128 - bit)) as u64 };
        term[word] = low as u64;
        term[word + 1] = (low >> 64) as u64;
        term[word + 2] = high;
        if negative {
            negate(&mut term);
        }
        let mut carry = 0;
        for (own, term) in self.0.iter_mut().zip(term) {
            let sum = u128::from(*own) + u128::from(term) + carry;
            *own = sum as u64;
            carry = sum >> 64;
        }
    }

    /// The nearest double.
    pub(crate) fn value(&self) -> f64 {
        let negative = self.0[WORDS - 1] >> 63 == 1;
        let mut words = self.0;
        if negative {
            negate(&mut words);
        }
        let mut remainder = 0_u128;
        for word in words.iter_mut().rev() {
            let part = remainder << 64 | u128::from(*word);
            *word = (part / u128::from(BILLION)) as u64;
            remainder = part % u128::from(BILLION);
        }
        let bit = |at: usize| words[at / 64] >> (at % 64) & 1;
        let Some(top) = (0..WORDS * 64).rev().find(|at| bit(*at) == 1) else { return 0.0 };
        // Bit 0 is 2^-1074; a double has 53 bits from `top` down, and none below bit 0.
        let lowest = top.saturating_sub(52);
        let mut mantissa = (lowest..=top).rev().fold(0_u64, |m, at| m << 1 | bit(at));
        let half = lowest > 0 && bit(lowest - 1) == 1;
        let below = remainder > 0 || (0..lowest.saturating_sub(1)).any(|at| bit(at) == 1);
        let (half, below) = if lowest > 0 {
            (half, below)
        } else {
            // Bit 0 is the last of the quotient: what the division left decides.
            let twice = 2 * remainder;
            (twice >= u128::from(BILLION), twice != u128::from(BILLION) && twice > 0)
        };
        mantissa += u64::from(half && (below || mantissa & 1 == 1));
        let exponent = lowest as i32 - FRACTION_BITS as i32;
        let magnitude = mantissa as f64 * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2);
        if negative { -magnitude } else { magnitude }
    }
}

/// Billionths of a value that is a short decimal: an integer below 2^53 over 10^0..10^9 whose quotient is the value.
pub(crate) fn decimal(value: f64) -> Option<i128> {
    for exponent in 0..=9 {
        let power = 10_f64.powi(exponent);
        let integer = (value * power).round_ties_even();
        if integer.abs() >= 2_f64.powi(53) {
            return None;
        }
        if (integer as i64 as f64 / power).to_bits() == value.to_bits() {
            return Some(i128::from(integer as i64) * 10_i128.pow(9 - exponent as u32));
        }
    }
    None
}

/// Doubles between two of one sign, and equal ones: zero.
pub(crate) fn ulps_between(a: f64, b: f64) -> u64 {
    let order = |v: f64| {
        let bits = v.to_bits() as i64;
        i128::from(if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits })
    };
    u64::try_from((order(a) - order(b)).unsigned_abs()).unwrap_or(u64::MAX)
}

fn negate(words: &mut [u64; WORDS]) {
    let mut carry = true;
    for word in words {
        let (negated, overflow) = (!*word).overflowing_add(u64::from(carry));
        (*word, carry) = (negated, overflow);
    }
}

#[test]
fn the_exact_sum_rounds_once() {
    let sum = |values: &[f64]| {
        let mut sum = Wide::zero();
        values.iter().for_each(|v| sum.add_float(*v));
        sum.value()
    };
    assert_eq!(sum(&[0.1, 0.2]), 0.3);
    assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
    assert_eq!(sum(&[f64::MAX, f64::MIN_POSITIVE, -f64::MAX]), f64::MIN_POSITIVE);
    assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
    assert_eq!(sum(&[230.1, 1.0 / 3.0]), 230.433_333_333_333_34);
    assert_eq!(sum(&[-0.0]).to_bits(), 0);
    assert_eq!(ulps_between(-5e-324, 5e-324), 2);
}
