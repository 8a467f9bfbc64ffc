//! One comparison, made ready for the type of its field: asked of whole columns, or of what statistics know of a block.
//!
//! Invariant: a verdict never says more than the values of the block do. So what statistics skip changes no answer.

use super::mask::Mask;
use crate::column::{Column, Presence, Values};
use crate::query::condition::{Literal, Operator};
use crate::segment::Extent;
use std::sync::Arc;
use wattlog_model::{FieldType, FieldValue};

/// What is known of a condition over all rows of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::query) enum Verdict {
    Never,
    Always,
    Maybe,
}

/// A comparison of values of one type with one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Float(Operator, f64),
    Integer(Operator, i64),
    Unsigned(Operator, u64),
    Boolean(Operator, bool),
    Text(Operator, Arc<str>),
    /// Every value of the type passes, or none.
    Constant(bool),
}

impl Test {
    /// None if values of that type cannot be compared so.
    pub(super) fn new(field_type: FieldType, operator: Operator, value: &Literal) -> Option<Self> {
        Some(match (field_type, value) {
            (FieldType::Float, Literal::Float(bound)) => Self::Float(operator, *bound),
            (FieldType::Float, Literal::Integer(bound)) => float_against(operator, *bound),
            (FieldType::Integer, Literal::Integer(bound)) => {
                narrowed(operator, *bound, i64::MIN.into(), i64::MAX.into(), |bound| {
                    Self::Integer(operator, bound as i64)
                })
            }
            (FieldType::Unsigned, Literal::Integer(bound)) => {
                narrowed(operator, *bound, 0, u64::MAX.into(), |bound| Self::Unsigned(operator, bound as u64))
            }
            (FieldType::Integer | FieldType::Unsigned, Literal::Float(bound)) => {
                let (operator, bound) = match whole(operator, *bound) {
                    Ok(whole) => whole,
                    Err(constant) => return Some(Self::Constant(constant)),
                };
                return Self::new(field_type, operator, &Literal::Integer(bound));
            }
            (FieldType::Boolean, Literal::Boolean(bound)) if !operator.is_order() => {
                Self::Boolean(operator, *bound)
            }
            (FieldType::String, Literal::Text(bound)) => Self::Text(operator, bound.as_str().into()),
            _ => return None,
        })
    }

    /// Rows of `0..rows` whose value passes; a row without a value does not.
    pub(super) fn mask(&self, column: &Column, rows: usize) -> Mask {
        match (self, &column.values) {
            (Self::Float(operator, bound), Values::Float(v)) => mask(column, rows, v, *operator, bound),
            (Self::Integer(operator, bound), Values::Integer(v)) => mask(column, rows, v, *operator, bound),
            (Self::Unsigned(operator, bound), Values::Unsigned(v)) => mask(column, rows, v, *operator, bound),
            (Self::Boolean(operator, bound), Values::Boolean(v)) => mask(column, rows, v, *operator, bound),
            (Self::Text(operator, bound), Values::String(v)) => mask(column, rows, v, *operator, bound),
            (Self::Constant(true), _) => present(column, rows),
            (Self::Constant(false), _) => Mask::none(rows),
            (_, values) => {
                debug_assert!(false, "a field has one type, found {}", values.field_type());
                Mask::none(rows)
            }
        }
    }

    /// What a block of `rows` rows says, of which `extent` is known.
    pub(super) fn verdict(&self, extent: &Extent, rows: u32) -> Verdict {
        let values = match (self, &extent.extremes) {
            (Self::Constant(true), _) => Verdict::Always,
            (Self::Constant(false), _) => Verdict::Never,
            (Self::Float(op, bound), Some((FieldValue::Float(low), FieldValue::Float(high)))) => {
                between(*op, low, high, bound)
            }
            (Self::Integer(op, bound), Some((FieldValue::Integer(low), FieldValue::Integer(high)))) => {
                between(*op, low, high, bound)
            }
            (Self::Unsigned(op, bound), Some((FieldValue::Unsigned(low), FieldValue::Unsigned(high)))) => {
                between(*op, low, high, bound)
            }
            _ => Verdict::Maybe,
        };
        match values {
            // Rows without a value do not pass.
            Verdict::Always if extent.count < rows => Verdict::Maybe,
            verdict => verdict,
        }
    }
}

/// What is known of values of `low..=high`, both of which occur.
fn between<T: PartialOrd>(operator: Operator, low: &T, high: &T, bound: &T) -> Verdict {
    let both = |holds: bool| if holds { Verdict::Always } else { Verdict::Never };
    match operator {
        Operator::Equal | Operator::NotEqual => {
            let equal = operator == Operator::Equal;
            if low > bound || high < bound {
                both(!equal)
            } else if low == bound && high == bound {
                both(equal)
            } else {
                Verdict::Maybe
            }
        }
        order => match (order.holds(low, bound), order.holds(high, bound)) {
            (true, true) => Verdict::Always,
            (false, false) => Verdict::Never,
            _ => Verdict::Maybe,
        },
    }
}

fn mask<T: PartialOrd>(column: &Column, rows: usize, values: &[T], operator: Operator, bound: &T) -> Mask {
    match operator {
        Operator::Equal => spread(column, rows, values, |v| v == bound),
        Operator::NotEqual => spread(column, rows, values, |v| v != bound),
        Operator::Less => spread(column, rows, values, |v| v < bound),
        Operator::LessOrEqual => spread(column, rows, values, |v| v <= bound),
        Operator::Greater => spread(column, rows, values, |v| v > bound),
        Operator::GreaterOrEqual => spread(column, rows, values, |v| v >= bound),
    }
}

fn spread<T>(column: &Column, rows: usize, values: &[T], holds: impl Fn(&T) -> bool) -> Mask {
    match &column.presence {
        Presence::All => Mask::of(values, holds),
        Presence::Rows(present) => {
            let mut mask = Mask::none(rows);
            for (row, _) in present.iter().zip(values).filter(|(_, value)| holds(value)) {
                mask.set(*row as usize);
            }
            mask
        }
    }
}

fn present(column: &Column, rows: usize) -> Mask {
    match &column.presence {
        Presence::All => Mask::all(rows),
        Presence::Rows(present) => {
            let mut mask = Mask::none(rows);
            present.iter().for_each(|row| mask.set(*row as usize));
            mask
        }
    }
}

/// Doubles against a whole number, also one that is none: between two doubles, that is against one of them.
fn float_against(operator: Operator, bound: i128) -> Test {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let nearest = bound as f64;
    let found = nearest as i128;
    // 2^127 is a double and no i128: back from it the cast saturates.
    let above = found > bound || nearest >= 2.0_f64.powi(127);
    if found == bound && !above {
        return Test::Float(operator, nearest);
    }
    match (operator, above) {
        (Equal, _) => Test::Constant(false),
        (NotEqual, _) => Test::Constant(true),
        (Less | LessOrEqual, true) => Test::Float(Less, nearest),
        (Less | LessOrEqual, false) => Test::Float(LessOrEqual, nearest),
        (Greater | GreaterOrEqual, true) => Test::Float(GreaterOrEqual, nearest),
        (Greater | GreaterOrEqual, false) => Test::Float(Greater, nearest),
    }
}

/// A comparison of whole numbers with a double as one with a whole number; or what it always is.
fn whole(operator: Operator, bound: f64) -> Result<(Operator, i128), bool> {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    // Every double of 2^63 and more is beyond what a field holds, and clamps to it.
    let floor = bound.floor() as i128;
    let is_whole = bound.fract() == 0.0;
    match operator {
        Equal | NotEqual if !is_whole => Err(operator == NotEqual),
        Less | LessOrEqual if !is_whole => Ok((LessOrEqual, floor)),
        Greater | GreaterOrEqual if !is_whole => Ok((Greater, floor)),
        operator => Ok((operator, floor)),
    }
}

/// A test against a whole number that may lie outside of what the type holds.
fn narrowed(operator: Operator, bound: i128, least: i128, most: i128, test: impl Fn(i128) -> Test) -> Test {
    if (least..=most).contains(&bound) {
        return test(bound);
    }
    // Any value of the type stands for all.
    Test::Constant(operator.holds(&0, &bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPERATORS: [Operator; 6] = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
    ];

    fn passes(values: Values, operator: Operator, literal: &Literal) -> bool {
        let test = Test::new(values.field_type(), operator, literal).unwrap();
        test.mask(&Column { presence: Presence::All, values }, 1).contains(0)
    }

    #[test]
    fn numbers_are_compared_without_rounding() {
        use Operator::{Equal, Greater, Less, NotEqual};
        let big = 1_i128 << 53;
        let float = |v: f64| Values::Float(vec![v]);
        // 2^53 + 1 is no double: it lies between two.
        assert!(passes(float(big as f64), Less, &Literal::Integer(big + 1)));
        assert!(!passes(float(big as f64), Equal, &Literal::Integer(big + 1)));
        assert!(passes(float((big + 2) as f64), Greater, &Literal::Integer(big + 1)));
        assert!(passes(float(1e300), Greater, &Literal::Integer(i128::MAX)));
        assert!(passes(float(1.701_411_834_604_692_3e38), Greater, &Literal::Integer(i128::MAX)));
        assert!(passes(float(-0.0), Equal, &Literal::Integer(0)));
        let integer = |v| Values::Integer(vec![v]);
        assert!(passes(integer(i64::MAX), Less, &Literal::Float(9.223_372_036_854_776e18)));
        assert!(passes(integer(i64::MAX), Less, &Literal::Float(1e300)));
        assert!(passes(integer(i64::MIN), Greater, &Literal::Float(-1e300)));
        assert!(passes(integer(20), Less, &Literal::Float(20.5)));
        assert!(passes(integer(21), Greater, &Literal::Float(20.5)));
        assert!(passes(integer(-20), Greater, &Literal::Float(-20.5)));
        assert!(passes(integer(20), NotEqual, &Literal::Float(20.5)));
        let unsigned = |v| Values::Unsigned(vec![v]);
        assert!(passes(unsigned(0), Greater, &Literal::Integer(-1)));
        assert!(passes(unsigned(u64::MAX), Less, &Literal::Integer(1 << 64)));
        assert!(!passes(unsigned(u64::MAX), Equal, &Literal::Integer(-1)));
    }

    #[test]
    fn types_that_have_no_order_are_refused() {
        let text = Literal::Text("a".into());
        for (field_type, operator, literal) in [
            (FieldType::Float, Operator::Equal, &text),
            (FieldType::String, Operator::Equal, &Literal::Integer(1)),
            (FieldType::Boolean, Operator::Less, &Literal::Boolean(true)),
            (FieldType::Boolean, Operator::Equal, &Literal::Integer(1)),
            (FieldType::Integer, Operator::Equal, &Literal::Boolean(true)),
        ] {
            assert_eq!(Test::new(field_type, operator, literal), None);
        }
    }

    proptest! {
        /// Against the plain rule: integers compared as 128-bit integers.
        #[test]
        fn integers_of_all_kinds_agree_with_wide_ones(
            value in prop_oneof![any::<i64>(), -3_i64..3],
            bound in prop_oneof![any::<i64>().prop_map(i128::from), -3_i128..3, any::<i128>()],
        ) {
            for operator in OPERATORS {
                let expected = operator.holds(&i128::from(value), &bound);
                prop_assert_eq!(passes(Values::Integer(vec![value]), operator, &Literal::Integer(bound)), expected);
                let expected = operator.holds(&i128::from(value as u64), &bound);
                prop_assert_eq!(passes(Values::Unsigned(vec![value as u64]), operator, &Literal::Integer(bound)), expected);
                if value.unsigned_abs() < 1 << 53 {
                    let expected = operator.holds(&i128::from(value), &bound);
                    prop_assert_eq!(passes(Values::Float(vec![value as f64]), operator, &Literal::Integer(bound)), expected);
                }
            }
        }

        #[test]
        fn a_verdict_is_what_every_row_says(
            values in prop::collection::vec(-3_i64..4, 1..6),
            missing in 0_u32..2,
            bound in prop_oneof![(-4_i128..5).prop_map(Literal::Integer), (-9_i32..9).prop_map(|v| Literal::Float(f64::from(v) / 2.0))],
        ) {
            let floats: Vec<f64> = values.iter().map(|v| *v as f64).collect();
            let rows = values.len() as u32 + missing;
            let (low, high) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
            for operator in OPERATORS {
                for (values, low, high) in [
                    (Values::Float(floats.clone()), FieldValue::Float(low as f64), FieldValue::Float(high as f64)),
                    (Values::Integer(values.clone()), FieldValue::Integer(low), FieldValue::Integer(high)),
                ] {
                    let test = Test::new(values.field_type(), operator, &bound).unwrap();
                    let extent = Extent { count: values.len() as u32, extremes: Some((low, high)) };
                    let presence = Presence::Rows((0..values.len() as u32).collect());
                    let mask = test.mask(&Column { presence, values }, rows as usize);
                    match test.verdict(&extent, rows) {
                        Verdict::Never => prop_assert!(mask.is_empty()),
                        Verdict::Always => prop_assert!(mask.is_full()),
                        // Between the extremes there may be anything but one value, which is then both.
                        Verdict::Maybe => {
                            prop_assert!(missing > 0 || !mask.is_full() || operator == Operator::NotEqual);
                        }
                    }
                }
            }
        }
    }
}
