//! Packing statistics into a chunk.

use super::{COLUMNS, Frame, RAW_VALUES, StatColumn, nanos, packed_len, predicted_integrals};
use crate::segment::layout::STATISTICS_CHUNK;
use crate::segment::statistics::BlockStatistics;
use wattlog_model::{FieldValue, short_decimal};

/// Packs the statistics of one field. `entries` are (place 0..64 in the chunk, its frame, its statistics), rising.
///
/// Texts give their place in the dictionary through `text_id`; an entry whose texts have none must not be here.
pub(crate) fn pack(
    entries: &[(u32, Frame, BlockStatistics)],
    text_id: &dyn Fn(&str) -> Option<u32>,
    out: &mut Vec<u8>,
) {
    if entries.is_empty() {
        return;
    }
    let mask = entries.iter().fold(0_u64, |mask, (place, ..)| mask | 1 << place);
    out.extend_from_slice(&mask.to_le_bytes());

    let exponents = common_exponents(entries);
    let residues: Vec<_> =
        entries.iter().zip(exponents).map(|((.., s), e)| integral_residues(s, e)).collect();
    let units = Units::of(entries, &residues);
    let mut columns = vec![[0_i128; STATISTICS_CHUNK]; COLUMNS];
    for (i, (_, frame, statistics)) in entries.iter().enumerate() {
        let mut set = |column: StatColumn, value: i128| columns[column as usize][i] = value;
        let time = |t: i64| (i128::from(t) - i128::from(frame.first_time)) / units.time;
        set(StatColumn::MissingRows, i128::from(frame.rows).wrapping_sub(i128::from(statistics.count)));
        set(StatColumn::FirstTime, time(statistics.first.0));
        set(StatColumn::LastTime, (i128::from(frame.last_time) - i128::from(statistics.last.0)) / units.time);
        set(StatColumn::TimeUnit, i128::from(units.time_power));
        let number = |value: &FieldValue| integer_form(value, exponents[i], text_id);
        let (first, last) = (number(&statistics.first.1), number(&statistics.last.1));
        set(StatColumn::Exponent, i128::from(exponents[i]));
        set(StatColumn::FirstValue, first);
        set(StatColumn::LastValue, last);
        if let (Some(min), Some(max)) = (&statistics.min, &statistics.max) {
            set(StatColumn::MinTime, time(min.0));
            set(StatColumn::MaxTime, time(max.0));
            set(StatColumn::MinBelow, first.min(last).wrapping_sub(number(&min.1)));
            set(StatColumn::MaxAbove, number(&max.1).wrapping_sub(first.max(last)));
        } else {
            set(StatColumn::NoExtremes, 1);
        }
        let (sum, high, low) = statistics.sum.parts();
        set(StatColumn::Sum, sum / units.sum);
        set(StatColumn::SumUnit, i128::from(units.sum_power));
        set(StatColumn::SumRestHigh, i128::from(high.to_bits()));
        set(StatColumn::SumRestLow, i128::from(low.to_bits()));
        let (_, high, low) = statistics.integral_step.parts();
        let (step, trapezoid) = residues[i];
        set(StatColumn::StepResidue, step / units.integral);
        set(StatColumn::TrapezoidResidue, trapezoid / units.integral);
        set(StatColumn::IntegralUnit, i128::from(units.integral_power));
        set(StatColumn::StepRestHigh, i128::from(high.to_bits()));
        set(StatColumn::StepRestLow, i128::from(low.to_bits()));
        let (_, high, low) = statistics.integral_trapezoid_twice.parts();
        set(StatColumn::TrapezoidRestHigh, i128::from(high.to_bits()));
        set(StatColumn::TrapezoidRestLow, i128::from(low.to_bits()));
        set(StatColumn::LongestGap, i128::from(statistics.longest_gap_ns) / units.time);
        set(StatColumn::NegativeDeltas, i128::from(statistics.negative_deltas));
        set(StatColumn::Exceptions, i128::from(statistics.exceptions));
    }
    for (id, column) in columns.iter().enumerate() {
        let values = &column[..entries.len()];
        if values.iter().any(|v| *v != 0) {
            put_column(id as u8, values, out);
        }
    }
}

fn integral_residues(statistics: &BlockStatistics, exponent: u8) -> (i128, i128) {
    let number = |value: &FieldValue| match value {
        // Texts and booleans have no integral, and need no prediction.
        FieldValue::String(_) | FieldValue::Boolean(_) => 0,
        number => nanos(integer_form(number, exponent, &|_| None), exponent),
    };
    let (first, last) = (number(&statistics.first.1), number(&statistics.last.1));
    let span = i128::from(statistics.last.0) - i128::from(statistics.first.0);
    let (step, excess) = predicted_integrals(statistics.count, span, first, last, statistics.sum.parts().0);
    let true_step = statistics.integral_step.parts().0;
    let true_excess = statistics.integral_trapezoid_twice.parts().0.wrapping_sub(true_step.wrapping_mul(2));
    (true_step.wrapping_sub(step), true_excess.wrapping_sub(excess))
}

/// Largest powers of ten that divide all times, sums and integrals of a chunk.
struct Units {
    time: i128,
    time_power: u32,
    sum: i128,
    sum_power: u32,
    integral: i128,
    integral_power: u32,
}

impl Units {
    fn of(entries: &[(u32, Frame, BlockStatistics)], residues: &[(i128, i128)]) -> Self {
        let (mut time, mut sum, mut integral) = (Power::new(18), Power::new(38), Power::new(38));
        for (_, frame, s) in entries {
            let from = |t: i64| i128::from(t) - i128::from(frame.first_time);
            time.divide(from(s.first.0));
            time.divide(i128::from(frame.last_time) - i128::from(s.last.0));
            s.min.iter().chain(&s.max).for_each(|(t, _)| time.divide(from(*t)));
            time.divide(i128::from(s.longest_gap_ns));
            sum.divide(s.sum.parts().0);
        }
        for (step, trapezoid) in residues {
            integral.divide(*step);
            integral.divide(*trapezoid);
        }
        Self {
            time: time.value,
            time_power: time.exponent,
            sum: sum.value,
            sum_power: sum.exponent,
            integral: integral.value,
            integral_power: integral.exponent,
        }
    }
}

/// The largest power of ten that divides everything shown to it. Zero only if all was zero: then it is one.
struct Power {
    value: i128,
    exponent: u32,
    seen: bool,
    most: u32,
}

impl Power {
    fn new(most: u32) -> Self {
        Self { value: 1, exponent: 0, seen: false, most }
    }

    fn divide(&mut self, number: i128) {
        if number == 0 {
            return;
        }
        if !self.seen {
            self.seen = true;
            while self.exponent < self.most && number % (self.value * 10) == 0 {
                self.value *= 10;
                self.exponent += 1;
            }
        }
        while number % self.value != 0 {
            self.value /= 10;
            self.exponent -= 1;
        }
    }
}

/// One exponent per entry: the chunk's greatest where the integers stay below 2^53, else the entry's own.
fn common_exponents(entries: &[(u32, Frame, BlockStatistics)]) -> [u8; STATISTICS_CHUNK] {
    let mut own = [0_u8; STATISTICS_CHUNK];
    let mut greatest = 0;
    for (i, (.., statistics)) in entries.iter().enumerate() {
        own[i] = decimal_exponent(statistics);
        if own[i] != RAW_VALUES {
            greatest = greatest.max(own[i]);
        }
    }
    for (i, (.., statistics)) in entries.iter().enumerate() {
        let fits = |v: &FieldValue| match v {
            FieldValue::Float(v) => scaled(*v, greatest).is_some(),
            _ => true,
        };
        if own[i] != RAW_VALUES && values_of(statistics).all(fits) {
            own[i] = greatest;
        }
    }
    own
}

fn values_of(statistics: &BlockStatistics) -> impl Iterator<Item = &FieldValue> {
    [&statistics.first, &statistics.last]
        .into_iter()
        .chain(&statistics.min)
        .chain(&statistics.max)
        .map(|(_, v)| v)
}

/// Smallest exponent over which all four values are whole, or [`RAW_VALUES`].
fn decimal_exponent(statistics: &BlockStatistics) -> u8 {
    let mut exponent = 0;
    for value in values_of(statistics) {
        if let FieldValue::Float(v) = value {
            match short_decimal(*v) {
                Some((_, own)) => exponent = exponent.max(own),
                None => return RAW_VALUES,
            }
        }
    }
    let fits = |v: &FieldValue| match v {
        FieldValue::Float(v) => scaled(*v, exponent).is_some(),
        _ => true,
    };
    if values_of(statistics).all(fits) { exponent } else { RAW_VALUES }
}

/// `value` over 10^`exponent`, if it is a short decimal of at most that exponent and comes back bit for bit.
fn scaled(value: f64, exponent: u8) -> Option<i64> {
    let (integer, own) = short_decimal(value)?;
    let more = exponent.checked_sub(own)?;
    let integer = integer.checked_mul(10_i64.pow(u32::from(more)))?;
    (integer.unsigned_abs() < 1 << 53).then_some(integer)
}

fn integer_form(value: &FieldValue, exponent: u8, text_id: &dyn Fn(&str) -> Option<u32>) -> i128 {
    match value {
        FieldValue::Float(v) if exponent == RAW_VALUES => i128::from(v.to_bits()),
        FieldValue::Float(v) => {
            i128::from(scaled(*v, exponent).expect("the exponent was chosen for this value"))
        }
        FieldValue::Integer(v) => i128::from(*v),
        FieldValue::Unsigned(v) => i128::from(*v),
        FieldValue::Boolean(v) => i128::from(*v),
        FieldValue::String(v) => {
            i128::from(text_id(v).expect("only texts of the dictionary have statistics"))
        }
    }
}

pub(super) fn put_column(id: u8, values: &[i128], out: &mut Vec<u8>) {
    let base = *values.iter().min().expect("a column has at least one value");
    let widest = values.iter().map(|v| v.wrapping_sub(base) as u128).max().unwrap_or(0);
    let width = u128::BITS - widest.leading_zeros();
    out.push(id);
    out.push(width as u8);
    put_zigzag(base, out);
    let start = out.len();
    out.resize(start + packed_len(values.len(), width), 0);
    for (i, value) in values.iter().enumerate() {
        put_bits(&mut out[start..], i * width as usize, width, value.wrapping_sub(base) as u128);
    }
}

pub(super) fn put_bits(out: &mut [u8], at: usize, width: u32, value: u128) {
    let mut done = 0;
    while done < width {
        let bit = at + done as usize;
        let room = 8 - (bit % 8) as u32;
        let taken = room.min(width - done);
        let part = (value >> done) as u8 & (0xff >> (8 - taken));
        out[bit / 8] |= part << (bit % 8);
        done += taken;
    }
}

pub(super) fn put_zigzag(value: i128, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 127)) as u128;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
