//! Taking single values out of what was written, and writing down what was changed on the way.
//!
//! Promise: a value is what was written, or missing; whatever differs leaves a [`Repair`] with the original. The words the
//! optimiser used for "not known" (`"Unknown"`, null, an absent key) are missing without a repair: nothing was changed.

use crate::report::{Repair, Rule};
use crate::time::{Order, Resolved, Sureness, parse, resolve};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use wattlog_model::Timestamp;

pub(crate) type Object = Map<String, Value>;

/// What a number can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    Percent,
    Volt,
    Ampere,
    Celsius,
    Watt,
    /// Power of one PV string: -1 is the register's "no string".
    StringWatt,
    Hertz,
    /// A lifetime counter.
    TotalKwh,
    /// A counter that starts anew each day, or the energy of one session.
    DayKwh,
    PlnPerKwh,
    Pln,
    Hours,
    /// Anything finite.
    Free,
}

impl Quantity {
    fn range(self) -> (f64, f64) {
        match self {
            Self::Percent => (0.0, 100.0),
            Self::Volt => (0.0, 1000.0),
            Self::Ampere => (-500.0, 500.0),
            Self::Celsius => (-40.0, 120.0),
            // A house connection carries 43.5 kW; an i16 shows 32.8 kW, and 65 535 is its "no data".
            Self::Watt => (-60_000.0, 60_000.0),
            Self::StringWatt => (0.0, 60_000.0),
            Self::Hertz => (0.0, 100.0),
            Self::TotalKwh => (0.0, 10_000_000.0),
            Self::DayKwh => (0.0, 2_000.0),
            Self::PlnPerKwh => (-1_000.0, 1_000.0),
            Self::Pln => (-1_000_000.0, 1_000_000.0),
            Self::Hours => (0.0, 10_000.0),
            Self::Free => (f64::MIN, f64::MAX),
        }
    }

    pub(crate) fn judge(self, number: f64) -> Result<f64, Rule> {
        let (first, last) = self.range();
        if (first..=last).contains(&number) {
            return Ok(number);
        }
        let no_data = NO_DATA.contains(&number) || (self == Self::StringWatt && number == -1.0);
        Err(if no_data { Rule::NoData } else { Rule::OutOfRange })
    }
}

/// Registers of all ones under the divisors in use; 32767 is a temperature's "no data".
const NO_DATA: [f64; 10] = [
    65_535.0,
    6_553.5,
    655.35,
    65.535,
    4_294_967_295.0,
    429_496_729.5,
    42_949_672.95,
    4_294_967.295,
    32_767.0,
    3_276.7,
];

/// A record in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) repairs: Vec<Repair>,
}

impl Draft {
    pub(crate) fn repair(&mut self, rule: Rule, field: &str, original: Value, repaired: Value) {
        self.repairs.push(Repair { rule, field: field.to_owned(), original, repaired });
    }

    /// A number under `key`, for `field` of the record.
    pub(crate) fn number(
        &mut self,
        object: &Object,
        key: &str,
        field: &str,
        quantity: Quantity,
    ) -> Option<f64> {
        let written = object.get(key)?;
        let number = match written {
            Value::Null => return None,
            Value::Number(number) => number.as_f64(),
            Value::String(text) if is_unknown(text) => return None,
            Value::String(text) => {
                let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
                self.repair(
                    Rule::NotANumber,
                    field,
                    written.clone(),
                    number.map_or(Value::Null, Value::from),
                );
                number
            }
            _ => {
                self.repair(Rule::NotANumber, field, shortened(written), Value::Null);
                None
            }
        }?;
        match quantity.judge(number) {
            Ok(number) => Some(number),
            Err(rule) => {
                self.repair(rule, field, written.clone(), Value::Null);
                None
            }
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&mut self, object: &Object, key: &str, field: &str) -> Option<u64> {
        let number = self.number(object, key, field, Quantity::Free)?;
        if (0.0..=9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0 {
            return Some(number as u64);
        }
        self.repair(Rule::OutOfRange, field, Value::from(number), Value::Null);
        None
    }

    /// 0 to 1; a dashboard of the optimiser also took percent.
    pub(crate) fn confidence(&mut self, object: &Object, key: &str) -> Option<f64> {
        let number = self.number(object, key, "confidence", Quantity::Percent)?;
        if number <= 1.0 {
            return Some(number);
        }
        let share = number / 100.0;
        self.repair(Rule::ConfidenceInPercent, "confidence", Value::from(number), Value::from(share));
        Some(share)
    }

    /// The record's own time. Without it there is no record.
    ///
    /// # Errors
    /// A sentence, if there is none or it cannot be read.
    pub(crate) fn time(
        &mut self,
        object: &Object,
        key: &str,
        zone: &TimeZone,
        order: &mut Order,
    ) -> Result<Resolved, String> {
        let text = match object.get(key) {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => return Err(format!("no {key}: nothing tells when it was")),
            Some(other) => return Err(format!("{key} is {}, and no text", shortened(other))),
        };
        let resolved = resolve(parse(text)?, zone, order)?;
        self.note_sureness(key, text, resolved);
        Ok(resolved)
    }

    /// A time that may be missing; one that cannot be read is missing, with a repair.
    pub(crate) fn optional_time(
        &mut self,
        object: &Object,
        key: &str,
        zone: &TimeZone,
        order: &mut Order,
    ) -> Option<Timestamp> {
        match object.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(written) => match self.time(object, key, zone, order) {
                Ok(resolved) => Some(resolved.at),
                Err(_) => {
                    self.repair(Rule::NotANumber, key, shortened(written), Value::Null);
                    None
                }
            },
        }
    }

    pub(crate) fn note_sureness(&mut self, field: &str, text: &str, resolved: Resolved) {
        let rule = match resolved.sureness {
            Sureness::Sure => return,
            Sureness::FirstPassAssumed => Rule::FirstPassAssumed,
            Sureness::MissingHour => Rule::MissingHour,
        };
        self.repair(rule, field, Value::from(text), Value::from(rfc3339(resolved.at)));
    }
}

/// Text under a key; empty text and "Unknown" are missing.
pub(crate) fn text(object: &Object, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) if !is_unknown(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(crate) fn truth(object: &Object, key: &str) -> Option<bool> {
    match object.get(key)? {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// Keys that no part of the record took.
pub(crate) fn rest(object: &Object, taken: &[&str]) -> Object {
    object
        .iter()
        .filter(|(key, _)| !taken.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// A value for a message or a repair, of bounded length.
pub(crate) fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(elements) => Value::from(format!("a list of {}", elements.len())),
        Value::Object(members) => Value::from(format!("an object of {} members", members.len())),
        Value::String(text) => Value::from(crate::report::shortened(text)),
        other => other.clone(),
    }
}

pub(crate) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .map_or_else(|_| at.0.to_string(), |instant| instant.to_string())
}

fn is_unknown(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || ["unknown", "none", "null", "n/a"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(written: Value, quantity: Quantity, expected: Option<f64>, rule: Option<Rule>) {
        let object = json!({ "x": written });
        let mut draft = Draft::default();
        let got = draft.number(object.as_object().unwrap(), "x", "x", quantity);
        let rules: Vec<Rule> = draft.repairs.iter().map(|repair| repair.rule).collect();
        assert_eq!((got, rules), (expected, rule.into_iter().collect()), "{object}");
        assert!(draft.repairs.iter().all(|repair| !repair.original.is_null()), "the original is kept");
    }

    #[test]
    fn numbers_are_themselves_or_missing_with_their_original() {
        check(json!(41), Quantity::Percent, Some(41.0), None);
        check(json!(null), Quantity::Percent, None, None);
        check(json!("Unknown"), Quantity::Percent, None, None);
        check(json!("12.5"), Quantity::Volt, Some(12.5), Some(Rule::NotANumber));
        check(json!("inf"), Quantity::Volt, None, Some(Rule::NotANumber));
        check(json!([1]), Quantity::Volt, None, Some(Rule::NotANumber));
        check(json!(65535), Quantity::Percent, None, Some(Rule::NoData));
        check(json!(6553.5), Quantity::Ampere, None, Some(Rule::NoData));
        check(json!(429_496_729.5), Quantity::TotalKwh, None, Some(Rule::NoData));
        check(json!(6553.5), Quantity::TotalKwh, Some(6553.5), None);
        check(json!(4_294_967_295_u32), Quantity::Watt, None, Some(Rule::NoData));
        check(json!(-1), Quantity::StringWatt, None, Some(Rule::NoData));
        check(json!(101), Quantity::Percent, None, Some(Rule::OutOfRange));
        check(json!(-52_800), Quantity::Watt, Some(-52_800.0), None);
    }

    #[test]
    fn confidence_in_percent_becomes_a_share() {
        let object = json!({"confidence": 85});
        let mut draft = Draft::default();
        assert_eq!(draft.confidence(object.as_object().unwrap(), "confidence"), Some(0.85));
        assert_eq!(draft.repairs[0].rule, Rule::ConfidenceInPercent);
    }
}
