//! Columns that are computed row by row from the fields of a row: `pv_power - consumption`.
//!
//! Meaning (docs/api.md, "Computed columns"): a row is all fields of one series at one time, after the last write of each
//! has won; where an operand is missing, or a result is no finite number, the computed value is missing.
//!
//! Invariant: sums and differences of short decimals are the double nearest to the decimal sum, so that what is computed
//! is a short decimal again, and sums over it are as exact as over a field.

use super::error::QueryError;
use super::filter::Mask;
use crate::column::{Column, Presence, Values};
use crate::segment::FieldDef;
use wattlog_model::{FieldKind, FieldType, Unit, short_decimal};

/// A column that no field has.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// Its name in the answer and in conditions.
    pub name: String,
    /// Its value in a row.
    pub expression: Expression,
}

/// Arithmetic over the numeric fields of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A finite number.
    Number(f64),
    /// A field.
    Field(String),
    /// Less than nothing of it.
    Negate(Box<Expression>),
    /// Two of them together.
    Binary(Arithmetic, Box<Expression>, Box<Expression>),
}

/// How two numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Expression {
    /// Most numbers and fields of one expression.
    pub const MAX_OPERANDS: usize = 64;
    /// Deepest nesting of one expression.
    pub const MAX_DEPTH: usize = 32;
    /// Most computed columns of one query.
    pub const MAX_COLUMNS: usize = 16;
}

/// An expression with its fields looked up.
#[derive(Debug, Clone)]
pub(super) enum Formula {
    Number(f64),
    /// Place in [`Ready::operands`].
    Operand(usize),
    Negate(Box<Formula>),
    Binary(Arithmetic, Box<Formula>, Box<Formula>),
}

/// An expression that can be computed.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// The fields it asks, each once.
    pub(super) operands: Vec<FieldDef>,
    formula: Formula,
    pub(super) unit: Option<Unit>,
    pub(super) kind: FieldKind,
}

impl Ready {
    /// Looks the fields of an expression up.
    ///
    /// # Errors
    /// An unknown field, one that has no numbers, an expression beyond its limits.
    pub(super) fn new(
        expression: &Expression,
        field: impl Fn(&str) -> Option<FieldDef>,
    ) -> Result<Self, QueryError> {
        let mut operands = Vec::new();
        let mut left = Expression::MAX_OPERANDS;
        let formula = compile(expression, &field, &mut operands, &mut left, 0)?;
        if operands.is_empty() {
            let reason = "it names no field: a number alone is no column".to_owned();
            return Err(QueryError::BadExpression { reason });
        }
        let unit = match counted_in(&formula, &operands) {
            CountedIn::Unit(unit) => Some(unit),
            CountedIn::Anything | CountedIn::Unknown => None,
        };
        let all_steps = operands.iter().all(|def| def.kind == FieldKind::Step);
        let kind = if all_steps { FieldKind::Step } else { FieldKind::Linear };
        Ok(Self { operands, formula, unit, kind })
    }

    /// The column of `rows` rows; `operand` gives that of a place in [`Ready::operands`].
    pub(super) fn compute<'a>(&self, rows: usize, operand: impl Fn(usize) -> Option<&'a Column>) -> Column {
        let Dense { values, present } = evaluate(&self.formula, rows, &operand);
        let mut finite = Mask::of(&values, |value| value.is_finite());
        if let Some(present) = present {
            finite.and(&present);
        }
        if finite.is_full() {
            return Column { presence: Presence::All, values: Values::Float(values) };
        }
        let kept: Vec<u32> = finite.rows().map(|row| row as u32).collect();
        let values = kept.iter().map(|row| values[*row as usize]).collect();
        Column { presence: Presence::Rows(kept), values: Values::Float(values) }
    }
}

fn compile(
    expression: &Expression,
    field: &impl Fn(&str) -> Option<FieldDef>,
    operands: &mut Vec<FieldDef>,
    left: &mut usize,
    depth: usize,
) -> Result<Formula, QueryError> {
    if depth > Expression::MAX_DEPTH {
        let reason = format!("an expression is nested at most {} deep", Expression::MAX_DEPTH);
        return Err(QueryError::BadExpression { reason });
    }
    if let Expression::Number(_) | Expression::Field(_) = expression {
        *left = left.checked_sub(1).ok_or_else(|| QueryError::BadExpression {
            reason: format!("an expression has at most {} numbers and fields", Expression::MAX_OPERANDS),
        })?;
    }
    Ok(match expression {
        Expression::Number(number) => Formula::Number(*number),
        Expression::Field(name) => {
            let def = field(name).ok_or_else(|| QueryError::UnknownName { name: name.clone() })?;
            if matches!(def.field_type, FieldType::Boolean | FieldType::String) {
                let reason =
                    format!("\"{name}\" is a {} field: only numbers can be computed with", def.field_type);
                return Err(QueryError::BadExpression { reason });
            }
            let known = operands.iter().position(|known| known.id == def.id);
            Formula::Operand(known.unwrap_or_else(|| {
                operands.push(def);
                operands.len() - 1
            }))
        }
        Expression::Negate(inner) => {
            Formula::Negate(Box::new(compile(inner, field, operands, left, depth + 1)?))
        }
        Expression::Binary(operator, a, b) => {
            let a = compile(a, field, operands, left, depth + 1)?;
            let b = compile(b, field, operands, left, depth + 1)?;
            Formula::Binary(*operator, Box::new(a), Box::new(b))
        }
    })
}

/// What a formula is counted in.
#[derive(Debug, Clone, PartialEq)]
enum CountedIn {
    /// A plain number: in whatever it is joined with.
    Anything,
    Unknown,
    Unit(Unit),
}

fn counted_in(formula: &Formula, operands: &[FieldDef]) -> CountedIn {
    use CountedIn::{Anything, Unknown};
    match formula {
        Formula::Number(_) => Anything,
        Formula::Operand(place) => operands[*place].unit.clone().map_or(Unknown, CountedIn::Unit),
        Formula::Negate(inner) => counted_in(inner, operands),
        Formula::Binary(operator, a, b) => match (counted_in(a, operands), counted_in(b, operands)) {
            (Anything, Anything) => Anything,
            (Anything, _) if *operator == Arithmetic::Divide => Unknown,
            (Anything, unit) | (unit, Anything) => unit,
            (a, b) if a == b && matches!(operator, Arithmetic::Add | Arithmetic::Subtract) => a,
            _ => Unknown,
        },
    }
}

/// A value per row; where it is missing, any.
struct Dense {
    values: Vec<f64>,
    /// All rows if none.
    present: Option<Mask>,
}

fn evaluate<'a>(formula: &Formula, rows: usize, operand: &impl Fn(usize) -> Option<&'a Column>) -> Dense {
    match formula {
        Formula::Number(number) => Dense { values: vec![*number; rows], present: None },
        Formula::Operand(place) => dense(operand(*place), rows),
        Formula::Negate(inner) => {
            let mut inner = evaluate(inner, rows, operand);
            // Zero less the value: minus zero is no decimal.
            inner.values.iter_mut().for_each(|value| *value = 0.0 - *value);
            inner
        }
        Formula::Binary(operator, a, b) => {
            let (mut a, b) = (evaluate(a, rows, operand), evaluate(b, rows, operand));
            a.present = match (a.present.take(), b.present) {
                (Some(mut a), Some(b)) => {
                    a.and(&b);
                    Some(a)
                }
                (a, b) => a.or(b),
            };
            let pairs = a.values.iter_mut().zip(&b.values);
            match operator {
                Arithmetic::Add => {
                    let mut hint = 0;
                    pairs.for_each(|(a, b)| *a = add(*a, *b, &mut hint));
                }
                Arithmetic::Subtract => {
                    let mut hint = 0;
                    pairs.for_each(|(a, b)| *a = add(*a, -*b, &mut hint));
                }
                Arithmetic::Multiply => pairs.for_each(|(a, b)| *a = multiply(*a, *b)),
                Arithmetic::Divide => pairs.for_each(|(a, b)| *a /= b),
            }
            a
        }
    }
}

fn dense(column: Option<&Column>, rows: usize) -> Dense {
    let Some(column) = column else {
        return Dense { values: vec![0.0; rows], present: Some(Mask::none(rows)) };
    };
    let present: Vec<f64> = match &column.values {
        Values::Float(v) => v.clone(),
        Values::Integer(v) => v.iter().map(|v| *v as f64).collect(),
        Values::Unsigned(v) => v.iter().map(|v| *v as f64).collect(),
        Values::Boolean(_) | Values::String(_) => {
            debug_assert!(false, "only numbers are computed with");
            return Dense { values: vec![0.0; rows], present: Some(Mask::none(rows)) };
        }
    };
    match &column.presence {
        Presence::All => Dense { values: present, present: None },
        Presence::Rows(at) => {
            let (mut values, mut mask) = (vec![0.0; rows], Mask::none(rows));
            for (row, value) in at.iter().zip(present) {
                values[*row as usize] = value;
                mask.set(*row as usize);
            }
            Dense { values, present: Some(mask) }
        }
    }
}

const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// A scaled integer below this stands for the same decimal as the one of the smallest exponent.
const SAFE_SCALED: f64 = (1_u64 << 50) as f64;
/// Whole numbers from here on do not name one double each.
const EXACT_LIMIT: u128 = 1 << 53;

/// The double nearest to the sum of two short decimals; of others the sum of doubles. `hint` is the exponent that fitted
/// last time.
fn add(a: f64, b: f64, hint: &mut usize) -> f64 {
    let scaled = |value: f64, power: f64| {
        let integer = (value * power).round_ties_even();
        (integer.abs() < SAFE_SCALED && integer / power == value).then_some(integer)
    };
    let at = |exponent: usize| {
        let power = POWERS[exponent];
        Some((scaled(a, power)? + scaled(b, power)?) / power)
    };
    if let Some(sum) = at(*hint) {
        return sum;
    }
    let exponent = |value: f64| short_decimal(value + 0.0).map(|(_, exponent)| usize::from(exponent));
    let Some((a_exponent, b_exponent)) = exponent(a).zip(exponent(b)) else { return a + b };
    let exponent = a_exponent.max(b_exponent);
    match at(exponent) {
        Some(sum) => {
            *hint = exponent;
            sum
        }
        None => a + b,
    }
}

/// The double nearest to the product of two short decimals, if its digits fit; else the product of doubles.
fn multiply(a: f64, b: f64) -> f64 {
    let Some(((a_integer, a_exponent), (b_integer, b_exponent))) = short_decimal(a).zip(short_decimal(b))
    else {
        return a * b;
    };
    let product = i128::from(a_integer) * i128::from(b_integer);
    if product.unsigned_abs() >= EXACT_LIMIT {
        return a * b;
    }
    // Powers of ten up to 10^22 are doubles: one rounding.
    product as f64 / (POWERS[usize::from(a_exponent)] * POWERS[usize::from(b_exponent)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text of a decimal, which the parser of doubles rounds once.
    fn nearest(integer: i128, exponent: usize) -> f64 {
        format!("{integer}e-{exponent}").parse().unwrap()
    }

    #[test]
    fn decimals_add_up_as_decimals() {
        assert_eq!(add(0.1, 0.2, &mut 0), 0.3);
        assert_eq!(add(1.1, -1.0, &mut 0), 0.1);
        assert_eq!(add(0.0, -0.0, &mut 3).to_bits(), 0.0_f64.to_bits());
        assert_eq!(add(1.0 / 3.0, 0.1, &mut 0), 1.0 / 3.0 + 0.1);
        assert_eq!(add(1e300, 0.1, &mut 0), 1e300);
        assert_eq!(multiply(0.1, 3.0), 0.3);
        assert_eq!(multiply(1.1, 1.1), 1.21);
    }

    #[test]
    fn units_follow_the_arithmetic() {
        let def = |id: u32, unit: &str| FieldDef {
            id: crate::ids::FieldId(id),
            name: format!("f{id}").into(),
            field_type: FieldType::Float,
            unit: Unit::new(unit),
            kind: FieldKind::Linear,
        };
        let field = |name: &str| match name {
            "pv" => Some(def(1, "W")),
            "load" => Some(def(2, "W")),
            "price" => Some(def(3, "PLN/kWh")),
            _ => None,
        };
        let leaf = |name: &str| Box::new(Expression::Field(name.into()));
        let two = || Box::new(Expression::Number(2.0));
        let unit = |expression: Expression| {
            Ready::new(&expression, field).unwrap().unit.map(|unit| unit.to_string()).unwrap_or_default()
        };
        use Arithmetic::{Add, Divide, Multiply, Subtract};
        assert_eq!(unit(Expression::Binary(Subtract, leaf("pv"), leaf("load"))), "W");
        assert_eq!(unit(Expression::Binary(Add, leaf("pv"), leaf("price"))), "");
        assert_eq!(unit(Expression::Binary(Multiply, two(), leaf("pv"))), "W");
        assert_eq!(unit(Expression::Binary(Divide, leaf("pv"), two())), "W");
        assert_eq!(unit(Expression::Binary(Divide, two(), leaf("pv"))), "");
        assert_eq!(unit(Expression::Binary(Multiply, leaf("pv"), leaf("price"))), "");
        assert!(Ready::new(&two(), field).is_err(), "a number alone is no column");
    }

    proptest! {
        #[test]
        fn sums_and_products_of_decimals_are_rounded_once(
            (a, b) in (-1_000_000_000_i64..1_000_000_000, -1_000_000_000_i64..1_000_000_000),
            (e, f) in (0_usize..6, 0_usize..6),
            hint in 0_usize..10,
        ) {
            let (x, y) = (a as f64 / POWERS[e], b as f64 / POWERS[f]);
            let whole = |v: i64, own: usize| i128::from(v) * 10_i128.pow((6 - own) as u32);
            prop_assert_eq!(add(x, y, &mut hint.clone()), nearest(whole(a, e) + whole(b, f), 6));
            let product = i128::from(a) * i128::from(b);
            let expected = nearest(product, e + f);
            if product.unsigned_abs() < EXACT_LIMIT {
                prop_assert_eq!(multiply(x, y), expected + 0.0);
            } else {
                // Both factors and the product are rounded.
                prop_assert!((multiply(x, y) - expected).abs() <= 1.5 * expected.abs() * f64::EPSILON);
            }
        }
    }
}
