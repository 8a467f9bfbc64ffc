//! Statistics of a block: what they are, how they are computed from values, and how two blocks join.
//!
//! Definitions: format-spec.md section 5.11. A block's statistics depend on its times and values alone, never on the
//! codec or on how they were computed: `check` computes them again and compares bit for bit.
//!
//! Not here: how they are packed (`chunk`), when a query may use them (the overlap rule of design and spec).

use std::sync::Arc;
use wattlog_model::{ExactSum, FieldValue, NANOS_PER_UNIT, short_decimal};

use crate::column::Values;
use std::ops::Range;

/// What is known of the values of one field in one block, or in consecutive blocks of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatistics {
    /// Values, at least one.
    pub count: u32,
    /// Time and value of the oldest and the newest value.
    pub first: (i64, FieldValue),
    pub last: (i64, FieldValue),
    /// Least and greatest value with the oldest time it has; none for texts, booleans and if every value is NaN.
    pub min: Option<(i64, FieldValue)>,
    pub max: Option<(i64, FieldValue)>,
    /// Sum of the values; zero for texts and booleans.
    pub sum: ExactSum,
    /// Sum over adjacent values of value times the nanoseconds until the next: the integral if a value holds until it changes.
    pub integral_step: ExactSum,
    /// Sum over adjacent values of (value + next value) times the nanoseconds between: **twice** the integral of the
    /// straight lines through the points, so that it stays a whole number.
    pub integral_trapezoid_twice: ExactSum,
    /// Longest time between adjacent values, in nanoseconds; zero for one value.
    pub longest_gap_ns: i64,
    /// Adjacent values of which the later is less.
    pub negative_deltas: u32,
    /// Floats that are no short decimal (see [`wattlog_model::short_decimal`]).
    pub exceptions: u32,
}

/// What a filter needs to know of the values of one field in one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    /// Values, at least one.
    pub count: u32,
    /// Least and greatest value; none for texts, booleans and if every value is NaN.
    pub extremes: Option<(FieldValue, FieldValue)>,
}

impl BlockStatistics {
    /// Statistics of `values` at `times`, which rise strictly; none if there is no value.
    pub fn compute(times: &[i64], values: &Values, range: Range<usize>) -> Option<Self> {
        debug_assert_eq!(times.len(), range.len());
        if range.is_empty() {
            return None;
        }
        Some(match values {
            Values::Float(v) => floats(times, &v[range]),
            Values::Integer(v) => {
                let v = &v[range];
                integers(times, v, Some, i128::from, FieldValue::Integer)
            }
            Values::Unsigned(v) => {
                let v = &v[range];
                integers(times, v, |x| i64::try_from(x).ok(), i128::from, FieldValue::Unsigned)
            }
            Values::Boolean(v) => {
                let v = &v[range];
                ends(times, FieldValue::Boolean(v[0]), FieldValue::Boolean(v[v.len() - 1]))
            }
            Values::String(v) => {
                let v = &v[range];
                let text = |i: usize| FieldValue::String(Arc::clone(&v[i]));
                ends(times, text(0), text(v.len() - 1))
            }
        })
    }

    /// Adds what follows: the piece between the last value here and the first of `next` is counted first.
    ///
    /// `next` must be of the same field and begin after this ends.
    pub fn join(&mut self, next: &Self) {
        let gap = i128::from(next.first.0) - i128::from(self.last.0);
        if let (Some(here), Some(there)) = (Number::of(&self.last.1), Number::of(&next.first.1)) {
            self.integral_step.merge(&here.times(gap));
            self.integral_trapezoid_twice.merge(&here.times(gap));
            self.integral_trapezoid_twice.merge(&there.times(gap));
            self.negative_deltas =
                self.negative_deltas.saturating_add(u32::from(less(&next.first.1, &self.last.1)));
        }
        self.longest_gap_ns = self.longest_gap_ns.max(saturated(gap)).max(next.longest_gap_ns);
        self.count = self.count.saturating_add(next.count);
        self.last = next.last.clone();
        if let Some((_, least)) = &next.min
            && self.min.as_ref().is_none_or(|(_, value)| less(least, value))
        {
            self.min.clone_from(&next.min);
        }
        if let Some((_, greatest)) = &next.max
            && self.max.as_ref().is_none_or(|(_, value)| less(value, greatest))
        {
            self.max.clone_from(&next.max);
        }
        self.sum.merge(&next.sum);
        self.integral_step.merge(&next.integral_step);
        self.integral_trapezoid_twice.merge(&next.integral_trapezoid_twice);
        self.negative_deltas = self.negative_deltas.saturating_add(next.negative_deltas);
        self.exceptions = self.exceptions.saturating_add(next.exceptions);
    }

    /// Whether both say the same, bit for bit.
    pub fn same_bits(&self, other: &Self) -> bool {
        let point = |a: &(i64, FieldValue), b: &(i64, FieldValue)| a.0 == b.0 && a.1.same_bits(&b.1);
        let extreme = |a: &Option<(i64, FieldValue)>, b: &Option<(i64, FieldValue)>| match (a, b) {
            (Some(a), Some(b)) => point(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let sum = |a: &ExactSum, b: &ExactSum| bits(a) == bits(b);
        self.count == other.count
            && point(&self.first, &other.first)
            && point(&self.last, &other.last)
            && extreme(&self.min, &other.min)
            && extreme(&self.max, &other.max)
            && sum(&self.sum, &other.sum)
            && sum(&self.integral_step, &other.integral_step)
            && sum(&self.integral_trapezoid_twice, &other.integral_trapezoid_twice)
            && self.longest_gap_ns == other.longest_gap_ns
            && self.negative_deltas == other.negative_deltas
            && self.exceptions == other.exceptions
    }
}

/// The parts of a sum, comparable.
fn bits(sum: &ExactSum) -> (i128, u64, u64) {
    let (nanos, high, low) = sum.parts();
    (nanos, high.to_bits(), low.to_bits())
}

/// Order of two values of one numeric type; false if either is NaN or they are no numbers.
fn less(a: &FieldValue, b: &FieldValue) -> bool {
    match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a < b,
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a < b,
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a < b,
        _ => false,
    }
}

/// A value as sums see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    /// A whole number of billionths.
    Nanos(i128),
    /// A float that is no short decimal.
    Rest(f64),
}

impl Number {
    pub(crate) fn of(value: &FieldValue) -> Option<Self> {
        match *value {
            FieldValue::Float(v) => Some(Self::of_float(v)),
            FieldValue::Integer(v) => Some(Self::of_integer(v.into())),
            FieldValue::Unsigned(v) => Some(Self::of_integer(v.into())),
            FieldValue::Boolean(_) | FieldValue::String(_) => None,
        }
    }

    /// The value at a position; zero for texts and booleans.
    pub(crate) fn at(values: &Values, position: usize) -> Self {
        match values {
            Values::Float(v) => Self::of_float(v[position]),
            Values::Integer(v) => Self::of_integer(v[position].into()),
            Values::Unsigned(v) => Self::of_integer(v[position].into()),
            Values::Boolean(_) | Values::String(_) => Self::Nanos(0),
        }
    }

    /// An integer of 64 bits, with or without sign.
    pub(crate) fn of_integer(value: i128) -> Self {
        Self::Nanos(value * NANOS_PER_UNIT)
    }

    pub(crate) fn of_float(value: f64) -> Self {
        match short_decimal(value) {
            Some((integer, exponent)) => {
                Self::Nanos(i128::from(integer) * 10_i128.pow(9 - u32::from(exponent)))
            }
            None => Self::Rest(value),
        }
    }

    /// This times a length of time: exact, or a double where it leaves 128 bits.
    pub(crate) fn times(self, gap: i128) -> ExactSum {
        match self {
            Self::Nanos(nanos) => match nanos.checked_mul(gap) {
                Some(product) => ExactSum::from_parts(product, 0.0, 0.0),
                None => rest(nanos as f64 / NANOS_PER_UNIT as f64 * gap as f64),
            },
            Self::Rest(value) => rest(value * gap as f64),
        }
    }

    fn sum(self) -> ExactSum {
        match self {
            Self::Nanos(nanos) => ExactSum::from_parts(nanos, 0.0, 0.0),
            Self::Rest(value) => rest(value),
        }
    }
}

fn rest(value: f64) -> ExactSum {
    let mut sum = ExactSum::default();
    sum.add_rest(value);
    sum
}

fn saturated(gap: i128) -> i64 {
    i64::try_from(gap).unwrap_or(i64::MAX)
}

fn longest_gap(times: &[i64]) -> i64 {
    // Times rise, so a difference fits 64 bits without a sign.
    let longest = times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) as u64).fold(0, u64::max);
    i64::try_from(longest).unwrap_or(i64::MAX)
}

/// Statistics of values that are no numbers.
fn ends(times: &[i64], first: FieldValue, last: FieldValue) -> BlockStatistics {
    BlockStatistics {
        count: times.len() as u32,
        first: (times[0], first),
        last: (times[times.len() - 1], last),
        min: None,
        max: None,
        sum: ExactSum::default(),
        integral_step: ExactSum::default(),
        integral_trapezoid_twice: ExactSum::default(),
        longest_gap_ns: longest_gap(times),
        negative_deltas: 0,
        exceptions: 0,
    }
}

const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Scaled integers up to this are what [`short_decimal`] would give at its own, smaller exponent: the rounding error
/// of value and product together stays below half a unit.
const SAFE_SCALED: f64 = (1_u64 << 50) as f64;

fn floats(times: &[i64], values: &[f64]) -> BlockStatistics {
    let mut scaled = [0_i64; super::layout::MAX_GROUP_ROWS];
    if let Some(scaled) = scaled.get_mut(..values.len())
        && let Some(exponent) = scale(values, scaled)
        && let Some(sums) = Sums::whole(times, scaled, 10_i128.pow(9 - exponent))
    {
        return sums.statistics(times, values, FieldValue::Float, 0);
    }
    let mut exceptions = 0;
    let numbers = values.iter().map(|v| {
        let number = Number::of_float(*v);
        exceptions += u32::from(matches!(number, Number::Rest(_)));
        number
    });
    let sums = Sums::one_by_one(times, numbers, |i, j| values[i] < values[j], |i| !values[i].is_nan());
    sums.statistics(times, values, FieldValue::Float, exceptions)
}

/// Writes all values as integers over one power of ten, if they are short decimals of modest size.
fn scale(values: &[f64], scaled: &mut [i64]) -> Option<u32> {
    // One look at a few values finds the exponent of nearly every column; the loop below decides.
    let step = values.len().div_ceil(8).max(1);
    let mut exponent = 0;
    for value in values.iter().step_by(step) {
        exponent = exponent.max(short_decimal(*value)?.1);
    }
    loop {
        if scale_all(values, POWERS[exponent as usize], scaled) {
            return Some(u32::from(exponent));
        }
        let power = POWERS[exponent as usize];
        let misfit = values.iter().find(|value| scale_one(**value, power).is_none())?;
        let (_, wanted) = short_decimal(*misfit)?;
        if wanted <= exponent {
            return None;
        }
        exponent = wanted;
    }
}

/// Adding and taking off 1.5 * 2^52 rounds to the nearest integer, ties to even, as long as it is below 2^51; and the
/// low bits of the sum are that integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// `value * power` as a whole number that gives back the bits of `value`, if it is of modest size.
#[inline(always)]
fn scale_one(value: f64, power: f64) -> Option<i64> {
    let shifted = value * power + ROUNDER;
    let integer = shifted - ROUNDER;
    let fits = (integer.abs() < SAFE_SCALED) & ((integer / power).to_bits() == value.to_bits());
    fits.then(|| shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i64)
}

/// [`scale_one`] for all; no branch in the loop, so that it runs on vectors.
fn scale_all(values: &[f64], power: f64, scaled: &mut [i64]) -> bool {
    let mut all = true;
    for (value, out) in values.iter().zip(scaled) {
        let shifted = value * power + ROUNDER;
        let integer = shifted - ROUNDER;
        all &= (integer.abs() < SAFE_SCALED) & ((integer / power).to_bits() == value.to_bits());
        *out = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i64;
    }
    all
}

fn integers<T: Copy + PartialOrd>(
    times: &[i64],
    values: &[T],
    narrow: impl Fn(T) -> Option<i64>,
    widen: impl Fn(T) -> i128,
    wrap: impl Fn(T) -> FieldValue,
) -> BlockStatistics {
    let mut narrowed = [0_i64; super::layout::MAX_GROUP_ROWS];
    if let Some(narrowed) = narrowed.get_mut(..values.len())
        && values.iter().zip(narrowed.iter_mut()).all(|(v, out)| narrow(*v).map(|n| *out = n).is_some())
        && let Some(sums) = Sums::whole(times, narrowed, NANOS_PER_UNIT)
    {
        return sums.statistics(times, values, wrap, 0);
    }
    let numbers = values.iter().map(|v| Number::Nanos(widen(*v) * NANOS_PER_UNIT));
    let sums = Sums::one_by_one(times, numbers, |i, j| values[i] < values[j], |_| true);
    sums.statistics(times, values, wrap, 0)
}

/// Sums over adjacent values of (gap - usual gap) times the value here, and times the next.
struct Residues {
    here: i128,
    next: i128,
}

impl Residues {
    /// `magnitude` is that of the greatest value; the span of `times` fits 63 bits.
    fn of(times: &[i64], values: &[i64], usual: i64, magnitude: u64) -> Self {
        let odd = |pair: &[i64]| (pair[1] - pair[0]).wrapping_sub(usual);
        let greatest = times.windows(2).map(|pair| odd(pair).unsigned_abs()).fold(0, u64::max);
        if greatest == 0 {
            return Self { here: 0, next: 0 };
        }
        let bits = |v: u64| u64::BITS - v.leading_zeros();
        let pairs = times.windows(2).zip(values.windows(2));
        if bits(greatest) + bits(magnitude) + bits(values.len() as u64) < 63 {
            let (mut here, mut next) = (0, 0);
            for (time, value) in pairs {
                here += odd(time) * value[0];
                next += odd(time) * value[1];
            }
            return Self { here: i128::from(here), next: i128::from(next) };
        }
        let (mut here, mut next) = (0, 0);
        for (time, value) in pairs {
            // Two factors of 64 bits: one multiplication each.
            here += i128::from(odd(time)) * i128::from(value[0]);
            next += i128::from(odd(time)) * i128::from(value[1]);
        }
        Self { here, next }
    }
}

/// What one pass over the values gathers.
struct Sums {
    sum: ExactSum,
    step: ExactSum,
    trapezoid_twice: ExactSum,
    /// Positions of the extremes.
    extremes: Option<(usize, usize)>,
    negative_deltas: u32,
}

impl Sums {
    /// All values as integers, each worth `unit` billionths. None if a product could leave 128 bits: the other way
    /// defines what happens then, and below that both give the same bits.
    fn whole(times: &[i64], values: &[i64], unit: i128) -> Option<Self> {
        let span = times[times.len() - 1].checked_sub(times[0])?;
        let least = values.iter().copied().fold(values[0], i64::min);
        let greatest = values.iter().copied().fold(values[0], i64::max);
        let magnitude = least.unsigned_abs().max(greatest.unsigned_abs());
        let bits = |v: u128| u128::BITS - v.leading_zeros();
        if bits(u128::from(magnitude)) + bits(unit as u128) + bits(span as u128) > 124 {
            return None;
        }
        let position = |wanted: i64| values.iter().position(|value| *value == wanted).unwrap_or_default();
        let negative_deltas = values.windows(2).map(|pair| u32::from(pair[1] < pair[0])).sum();
        let sum = if bits(u128::from(magnitude)) + bits(values.len() as u128) < 63 {
            i128::from(values.iter().sum::<i64>())
        } else {
            values.iter().map(|value| i128::from(*value)).sum()
        };
        let (first, last) = (i128::from(values[0]), i128::from(values[values.len() - 1]));
        // Every gap is the first one and a difference, usually none or small: the differences are what needs a loop.
        let usual = if times.len() > 1 { times[1] - times[0] } else { 0 };
        let residue = Residues::of(times, values, usual, magnitude);
        let usual = i128::from(usual);
        let step = (sum - last) * usual + residue.here;
        let trapezoid = step + (sum - first) * usual + residue.next;
        let exact = |integer: i128| ExactSum::from_parts(integer * unit, 0.0, 0.0);
        Some(Self {
            sum: exact(sum),
            step: exact(step),
            trapezoid_twice: exact(trapezoid),
            extremes: Some((position(least), position(greatest))),
            negative_deltas,
        })
    }

    /// In time order, each product by itself; `less` compares two positions, `counts` says which can be an extreme.
    fn one_by_one(
        times: &[i64],
        numbers: impl Iterator<Item = Number>,
        less: impl Fn(usize, usize) -> bool,
        counts: impl Fn(usize) -> bool,
    ) -> Self {
        let mut all = Self {
            sum: ExactSum::default(),
            step: ExactSum::default(),
            trapezoid_twice: ExactSum::default(),
            extremes: None,
            negative_deltas: 0,
        };
        let mut before: Option<Number> = None;
        for (i, number) in numbers.enumerate() {
            all.sum.merge(&number.sum());
            if let Some(before) = before {
                let gap = i128::from(times[i]) - i128::from(times[i - 1]);
                all.step.merge(&before.times(gap));
                all.trapezoid_twice.merge(&before.times(gap));
                all.trapezoid_twice.merge(&number.times(gap));
                all.negative_deltas += u32::from(less(i, i - 1));
            }
            before = Some(number);
            if counts(i) {
                let (least, greatest) = all.extremes.unwrap_or((i, i));
                all.extremes = Some((
                    if less(i, least) { i } else { least },
                    if less(greatest, i) { i } else { greatest },
                ));
            }
        }
        all
    }

    fn statistics<T: Copy>(
        self,
        times: &[i64],
        values: &[T],
        wrap: impl Fn(T) -> FieldValue,
        exceptions: u32,
    ) -> BlockStatistics {
        let point = |i: usize| (times[i], wrap(values[i]));
        BlockStatistics {
            count: times.len() as u32,
            first: point(0),
            last: point(times.len() - 1),
            min: self.extremes.map(|(least, _)| point(least)),
            max: self.extremes.map(|(_, greatest)| point(greatest)),
            sum: self.sum,
            integral_step: self.step,
            integral_trapezoid_twice: self.trapezoid_twice,
            longest_gap_ns: longest_gap(times),
            negative_deltas: self.negative_deltas,
            exceptions,
        }
    }
}
