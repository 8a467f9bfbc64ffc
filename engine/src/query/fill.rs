//! Filling: what stands in the buckets of a range in which nothing was measured.
//!
//! Promise: only what is missing is filled, column by column; a count of nothing is zero, which is known and not filled.
//! The buckets are those that values would fall into, see `bucket`.

use super::bucket::Buckets;
use super::budget::Budget;
use super::error::QueryError;
use super::request::Fill;
use super::result::ResultValues;
use std::ops::Range;

/// First instants of all buckets that meet `range`.
///
/// # Errors
/// [`QueryError::TooManyBuckets`] as soon as there are too many.
pub(super) fn all_buckets(
    buckets: &Buckets,
    range: &Range<i64>,
    budget: &Budget<'_>,
) -> Result<Vec<i64>, QueryError> {
    let mut starts = Vec::new();
    let mut time = range.start;
    while time < range.end {
        let bucket = buckets.of(time);
        starts.push(bucket.start);
        budget.allow_buckets(starts.len() as u64)?;
        if starts.len().is_multiple_of(4096) {
            budget.check()?;
        }
        time = bucket.end;
    }
    Ok(starts)
}

/// Fills what is missing in a column of buckets at `times` (rising).
pub(super) fn fill(fill: Fill, times: &[i64], values: ResultValues) -> ResultValues {
    match (fill, values) {
        (Fill::None | Fill::Null, values) => values,
        (Fill::Previous, values) => previous(values),
        (Fill::Number(number), ResultValues::Float(mut values)) => {
            values.iter_mut().for_each(|value| *value = value.or(Some(number)));
            ResultValues::Float(values)
        }
        (Fill::Number(number), ResultValues::Integer(values)) => {
            match whole(number).and_then(|number| i64::try_from(number).ok()) {
                Some(number) => {
                    ResultValues::Integer(values.into_iter().map(|v| v.or(Some(number))).collect())
                }
                None => fill_numbers(number, values, |v| v as f64),
            }
        }
        (Fill::Number(number), ResultValues::Unsigned(values)) => {
            match whole(number).and_then(|number| u64::try_from(number).ok()) {
                Some(number) => {
                    ResultValues::Unsigned(values.into_iter().map(|v| v.or(Some(number))).collect())
                }
                None => fill_numbers(number, values, |v| v as f64),
            }
        }
        (Fill::Linear, ResultValues::Float(values)) => linear(times, values),
        (Fill::Linear, ResultValues::Integer(values)) => linear(times, floats(values, |v| v as f64)),
        (Fill::Linear, ResultValues::Unsigned(values)) => linear(times, floats(values, |v| v as f64)),
        // Texts, booleans and times have no line between them and are no numbers.
        (Fill::Number(_) | Fill::Linear, values) => values,
    }
}

fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 9.007_199_254_740_992e15).then_some(number as i128)
}

fn floats<T>(values: Vec<Option<T>>, float: impl Fn(T) -> f64) -> Vec<Option<f64>> {
    values.into_iter().map(|value| value.map(&float)).collect()
}

fn fill_numbers<T>(number: f64, values: Vec<Option<T>>, float: impl Fn(T) -> f64) -> ResultValues {
    ResultValues::Float(values.into_iter().map(|value| Some(value.map_or(number, &float))).collect())
}

fn previous(values: ResultValues) -> ResultValues {
    fn carry<T: Clone>(mut values: Vec<Option<T>>) -> Vec<Option<T>> {
        let mut last = None;
        for value in &mut values {
            match value {
                Some(_) => last.clone_from(value),
                None => value.clone_from(&last),
            }
        }
        values
    }
    match values {
        ResultValues::Time(v) => ResultValues::Time(carry(v)),
        ResultValues::Float(v) => ResultValues::Float(carry(v)),
        ResultValues::Integer(v) => ResultValues::Integer(carry(v)),
        ResultValues::Unsigned(v) => ResultValues::Unsigned(carry(v)),
        ResultValues::Boolean(v) => ResultValues::Boolean(carry(v)),
        ResultValues::String(v) => ResultValues::String(carry(v)),
    }
}

/// Straight lines between the values on either side; none before the first and after the last.
fn linear(times: &[i64], mut values: Vec<Option<f64>>) -> ResultValues {
    let mut left: Option<usize> = None;
    for right in 0..values.len() {
        let Some(end) = values[right] else { continue };
        if let Some(left) = left
            && let Some(start) = values[left]
        {
            let span = times[right].wrapping_sub(times[left]) as u64 as f64;
            for i in left + 1..right {
                let share = times[i].wrapping_sub(times[left]) as u64 as f64 / span;
                // Both ends by their share: no overflow between two large values of different sign.
                values[i] = Some(start * (1.0 - share) + end * share);
            }
        }
        left = Some(right);
    }
    ResultValues::Float(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [i64; 5] = [0, 10, 20, 40, 50];

    fn check(how: Fill, values: ResultValues, expected: ResultValues) {
        assert_eq!(fill(how, &TIMES, values), expected, "{how:?}");
    }

    #[test]
    fn only_what_is_missing_is_filled() {
        use ResultValues::{Boolean, Float, Integer, String, Unsigned};
        let floats = || Float(vec![None, Some(1.0), None, Some(4.0), None]);
        check(Fill::Null, floats(), floats());
        check(Fill::Previous, floats(), Float(vec![None, Some(1.0), Some(1.0), Some(4.0), Some(4.0)]));
        check(Fill::Linear, floats(), Float(vec![None, Some(1.0), Some(2.0), Some(4.0), None]));
        check(
            Fill::Number(0.5),
            floats(),
            Float(vec![Some(0.5), Some(1.0), Some(0.5), Some(4.0), Some(0.5)]),
        );
        let integers = || Integer(vec![Some(1), None, None, Some(-7), None]);
        check(Fill::Number(3.0), integers(), Integer(vec![Some(1), Some(3), Some(3), Some(-7), Some(3)]));
        check(
            Fill::Number(0.5),
            integers(),
            Float(vec![Some(1.0), Some(0.5), Some(0.5), Some(-7.0), Some(0.5)]),
        );
        check(Fill::Linear, integers(), Float(vec![Some(1.0), Some(-1.0), Some(-3.0), Some(-7.0), None]));
        check(Fill::Number(-1.0), Unsigned(vec![None; 5]), Float(vec![Some(-1.0); 5]));
        let texts = || String(vec![Some("a".into()), None, None, Some("b".into()), None]);
        check(Fill::Linear, texts(), texts());
        let on = || Boolean(vec![None, Some(true), None, None, Some(false)]);
        check(Fill::Number(1.0), on(), on());
        check(Fill::Previous, on(), Boolean(vec![None, Some(true), Some(true), Some(true), Some(false)]));
    }

    #[test]
    fn a_line_between_the_largest_values_does_not_overflow() {
        let ends = ResultValues::Float(vec![Some(f64::MAX), None, None, None, Some(f64::MIN)]);
        let ResultValues::Float(filled) = fill(Fill::Linear, &[i64::MIN, -10, 0, 10, i64::MAX], ends) else {
            panic!("floats stay floats")
        };
        assert!(filled.iter().all(|value| value.is_some_and(f64::is_finite)), "{filled:?}");
    }
}
