//! Functions of the values of one bucket.

use super::FIELDS;
use crate::exact::{Wide, decimal};
use wattlog_engine::query::Function;
use wattlog_model::{FieldType, FieldValue};

pub(super) fn is_defined(function: Function, field: usize) -> bool {
    let number = !matches!(FIELDS[field].1, FieldType::Boolean | FieldType::String);
    use Function::{Count, Coverage, Distinct, First, Last, Mode};
    number || matches!(function, Count | First | Last | Mode | Distinct | Coverage)
}

pub(super) fn number(value: &FieldValue) -> f64 {
    match value {
        FieldValue::Float(v) => *v,
        FieldValue::Integer(v) => *v as f64,
        FieldValue::Unsigned(v) => *v as f64,
        FieldValue::Boolean(_) | FieldValue::String(_) => 0.0,
    }
}

/// A computed value. Sums of integers stay open until their column is known.
pub(super) enum Answer {
    None,
    Value(FieldValue),
    Whole(i128),
}

impl Answer {
    pub(super) fn value(self) -> Option<FieldValue> {
        match self {
            Self::None => None,
            Self::Value(value) => Some(value),
            Self::Whole(_) => unreachable!("sums are settled first"),
        }
    }
}

/// Sums of integers stay integers if all of the column fit; else all are floats.
pub(super) fn settle_sums(field_type: FieldType, column: &mut [Answer]) {
    let fits = |answer: &Answer| match (field_type, answer) {
        (FieldType::Integer, Answer::Whole(sum)) => i64::try_from(*sum).is_ok(),
        (_, Answer::Whole(sum)) => u64::try_from(*sum).is_ok(),
        _ => true,
    };
    let all_fit = column.iter().all(fits);
    for answer in column {
        if let Answer::Whole(sum) = answer {
            *answer = Answer::Value(match (field_type, all_fit) {
                (FieldType::Integer, true) => FieldValue::Integer(*sum as i64),
                (_, true) => FieldValue::Unsigned(*sum as u64),
                (_, false) => FieldValue::Float(*sum as f64),
            });
        }
    }
}

/// The answer, and whether it may be off by one unit in the last place.
pub(super) fn compute(function: Function, values: &[&FieldValue]) -> (Answer, bool) {
    let exact = |value: FieldValue| (Answer::Value(value), false);
    if function == Function::Count {
        return exact(FieldValue::Integer(values.len() as i64));
    }
    if function == Function::Distinct {
        return exact(FieldValue::Integer(sorted(values).chunk_by(|a, b| is_same(a, b)).count() as i64));
    }
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return (Answer::None, false) };
    let mut sum = Wide::zero();
    let mut whole = 0_i128;
    let mut inexact = false;
    for value in values {
        match value {
            FieldValue::Float(v) => {
                sum.add_float(*v);
                // A zero of either sign adds nothing.
                inexact |= decimal(*v).is_none() && *v != 0.0;
            }
            FieldValue::Integer(v) => {
                sum.add_integer(i128::from(*v));
                whole += i128::from(*v);
            }
            FieldValue::Unsigned(v) => {
                sum.add_integer(i128::from(*v));
                whole += i128::from(*v);
            }
            FieldValue::Boolean(_) | FieldValue::String(_) => {}
        }
    }
    let less = |a: &FieldValue, b: &FieldValue| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a < b,
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a < b,
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a < b,
        _ => false,
    };
    match function {
        Function::Sum if matches!(first, FieldValue::Float(_)) => {
            (Answer::Value(FieldValue::Float(sum.value())), inexact)
        }
        Function::Sum => (Answer::Whole(whole), false),
        Function::Mean => (Answer::Value(FieldValue::Float(sum.value() / values.len() as f64)), inexact),
        Function::Min => exact(values.iter().fold(*first, |a, b| if less(b, a) { b } else { a }).clone()),
        Function::Max => exact(values.iter().fold(*first, |a, b| if less(a, b) { b } else { a }).clone()),
        Function::First => exact((*first).clone()),
        Function::Last => exact((*last).clone()),
        Function::Spread => {
            match (compute(Function::Min, values).0.value(), compute(Function::Max, values).0.value()) {
                (Some(FieldValue::Float(low)), Some(FieldValue::Float(high))) => {
                    let mut spread = Wide::zero();
                    spread.add_float(high);
                    spread.add_float(-low);
                    (Answer::Value(FieldValue::Float(spread.value())), inexact)
                }
                (Some(FieldValue::Integer(low)), Some(FieldValue::Integer(high))) => {
                    exact(FieldValue::Unsigned(high.abs_diff(low)))
                }
                (Some(FieldValue::Unsigned(low)), Some(FieldValue::Unsigned(high))) => {
                    exact(FieldValue::Unsigned(high - low))
                }
                other => unreachable!("{other:?} has no spread"),
            }
        }
        Function::Median => quantile(values, 0.5),
        Function::Quantile(millionths) => quantile(values, f64::from(millionths) / 1e6),
        Function::Mode => {
            let sorted = sorted(values);
            let mut groups: Vec<&[&FieldValue]> = sorted.chunk_by(|a, b| is_same(a, b)).collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
            exact(groups[0][0].clone())
        }
        Function::Stddev => {
            let numbers: Vec<f64> = values.iter().map(|value| number(value)).collect();
            if numbers.len() < 2 {
                return (Answer::None, false);
            }
            let n = numbers.len() as f64;
            // About the median, so that little cancels; values of any size then leave what they have.
            let centre = numbers.iter().sum::<f64>() / n;
            let off: f64 = numbers.iter().map(|v| v - centre).sum::<f64>() / n;
            let squares: f64 = numbers.iter().map(|v| (v - centre - off).powi(2)).sum();
            (Answer::Value(FieldValue::Float((squares / (n - 1.0)).sqrt())), true)
        }
        function => unreachable!("{function} is not among those asked for"),
    }
}

/// In order; zeros of either sign apart.
pub(super) fn sorted<'a>(values: &[&'a FieldValue]) -> Vec<&'a FieldValue> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a.total_cmp(b),
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a.cmp(b),
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a.cmp(b),
        (FieldValue::Boolean(a), FieldValue::Boolean(b)) => a.cmp(b),
        (FieldValue::String(a), FieldValue::String(b)) => a.cmp(b),
        (a, b) => unreachable!("{a:?} and {b:?} are of one field"),
    });
    sorted
}

pub(super) fn is_same(a: &FieldValue, b: &FieldValue) -> bool {
    a.same_bits(b) || matches!((a, b), (FieldValue::Float(a), FieldValue::Float(b)) if a == b)
}

pub(super) fn quantile(values: &[&FieldValue], share: f64) -> (Answer, bool) {
    let numbers: Vec<f64> = sorted(values).into_iter().map(number).collect();
    let millionths = (share * 1e6).round() as usize;
    let place = (numbers.len() - 1) * millionths;
    let (low, part) = (place / 1_000_000, (place % 1_000_000) as f64 / 1e6);
    let (a, b) = (numbers[low], numbers[(low + 1).min(numbers.len() - 1)]);
    let value = if part == 0.0 || a == b { a } else { a * (1.0 - part) + b * part };
    (Answer::Value(FieldValue::Float(value)), false)
}
