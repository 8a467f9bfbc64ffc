//! What a service's answer comes to: rows with an exact instant, and how many could not be used.
//!
//! Invariants
//! 1. A row's instant is UTC and was never guessed from a local label.
//! 2. A value that was null, missing or no number is no field of its row; a row without fields is no row.
//! 3. Parsing is total: any bytes give rows or a [`ParseError`], and memory is bounded by the length of the bytes.

use jiff::civil::DateTime;
use serde_json::Value;
use wattlog_model::{FieldValue, Timestamp};

/// One period of prices or one instant of weather.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// First instant of the period, or the instant itself.
    pub time: Timestamp,
    /// Length of the period in nanoseconds; 0 for an instant.
    pub length_ns: i64,
    /// When the service published it, if it says so.
    pub published: Option<Timestamp>,
    /// Values in the units wattlog stores.
    pub fields: Vec<(&'static str, FieldValue)>,
}

/// An answer, or one page of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// In the order of the answer.
    pub rows: Vec<Row>,
    /// Rows that were there and could not be used.
    pub refused: u64,
    /// Values that could not be used, of rows that are there without them.
    pub refused_values: u64,
    /// What was wrong with the first row or value.
    pub first_refusal: Option<String>,
    /// Where the next page is, as the service says; not to be trusted.
    pub next: Option<String>,
}

impl Parsed {
    pub(crate) fn add(&mut self, row: Result<Option<Row>, String>) {
        match row {
            Ok(Some(row)) => self.rows.push(row),
            Ok(None) => {}
            Err(reason) => {
                self.refused += 1;
                self.first_refusal.get_or_insert(reason);
            }
        }
    }

    /// An answer of which nothing could be used is an error, not an empty day.
    pub(crate) fn or_all_refused(self) -> Result<Self, ParseError> {
        match (&self.first_refusal, self.rows.is_empty()) {
            (Some(reason), true) => Err(ParseError(format!("no row can be used: {reason}"))),
            _ => Ok(self),
        }
    }
}

/// An answer that is not what the service documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) String);

impl ParseError {
    pub(crate) fn json(error: &serde_json::Error, body: &[u8]) -> Self {
        Self(format!("no valid JSON ({error}); it begins with {:?}", beginning(body)))
    }
}

/// A short piece of text for messages.
pub(crate) fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned()
}

/// A price per MWh as one per kWh, with the decimals it was written with and no others.
///
/// None if it is no price that a market could have.
pub(crate) fn per_kwh(per_mwh: f64) -> Option<f64> {
    // The quotient of a whole number and 1e9 is the double next to the decimal; x / 1000 is not always.
    let fits = per_mwh.is_finite() && per_mwh.abs() <= MAX_PER_MWH;
    fits.then(|| (per_mwh * 1e6).round() / 1e9 + 0.0)
}

/// Far beyond the limits of any market (day-ahead 4 000 EUR, balancing 15 000 EUR).
const MAX_PER_MWH: f64 = 1e6;

/// `2026-03-29 00:15[:SS[.f]]` in UTC.
pub(crate) fn utc(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("{:?} is no date and time", beginning(text.as_bytes()));
    // A date alone is read as its midnight.
    let text = Some(text.trim()).filter(|text| text.contains(':')).ok_or_else(wrong)?;
    let civil: DateTime = text.parse().map_err(|_| wrong())?;
    let instant = jiff::tz::TimeZone::UTC.to_timestamp(civil).map_err(|_| wrong())?;
    timestamp(instant).ok_or_else(wrong)
}

/// None outside the years that a point may have.
pub(crate) fn timestamp(instant: jiff::Timestamp) -> Option<Timestamp> {
    let ns = i64::try_from(instant.as_nanosecond()).ok()?;
    (Timestamp::MIN.0..=Timestamp::MAX.0).contains(&ns).then_some(Timestamp(ns))
}

/// A JSON number, or text that is one; none if it is null.
pub(crate) fn number(value: Option<&Value>) -> Result<Option<f64>, String> {
    let read = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match read.filter(|number: &f64| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None => Err("a value is no number".to_owned()),
    }
}

/// Nanoseconds of a minute.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
/// Nanoseconds of the periods that prices have.
pub(crate) const QUARTER_NS: i64 = 15 * MINUTE_NS;
pub(crate) const HOUR_NS: i64 = 60 * MINUTE_NS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_keep_their_decimals_and_their_sign() {
        for (per_mwh, expected) in
            [(162.94, 0.16294), (-600.0, -0.6), (0.0, 0.0), (-0.0, 0.0), (4955.25, 4.95525)]
        {
            assert_eq!(per_kwh(per_mwh).map(f64::to_bits), Some(expected_bits(expected)), "{per_mwh}");
        }
        assert_eq!((per_kwh(f64::NAN), per_kwh(1e7)), (None, None));
    }

    fn expected_bits(value: f64) -> u64 {
        value.to_bits()
    }

    #[test]
    fn times_are_read_with_and_without_seconds() {
        let at = Timestamp(1_764_630_900_000_000_000);
        assert_eq!(utc("2025-12-01 23:15"), Ok(at));
        assert_eq!(utc("2025-12-01 23:15:00.000"), Ok(at));
        for bad in ["", "02a:15:00", "2025-12-01", "2025-02-30 10:00", "9999-12-31 23:59"] {
            assert!(utc(bad).is_err(), "{bad}");
        }
    }
}
