//! Rates of the Polish national bank (table A), and which of them holds for a day of delivery.
//!
//! Invariant: a rate is used for days after its own date only, and never more than `MAX_AGE_DAYS` days after it.

use super::rows::{ParseError, Parsed, Row, timestamp};
use jiff::ToSpan;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use wattlog_model::FieldValue;

/// Days after which a rate is too old to be used: no run of holidays is as long.
pub(crate) const MAX_AGE_DAYS: i32 = 10;

#[derive(Deserialize)]
struct Answer {
    code: String,
    rates: Vec<Rate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rate {
    effective_date: String,
    mid: f64,
}

/// Reads an answer; `rate` in PLN per EUR, at the local midnight in `zone` that begins its date.
///
/// # Errors
/// If the bytes are no such JSON, the currency is another, or no row can be used.
pub fn parse(body: &[u8], zone: &TimeZone) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    let answer: Answer = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    if answer.code != "EUR" {
        return Err(ParseError(format!("the currency is {:?}, not EUR", answer.code)));
    }
    for rate in answer.rates {
        parsed.add(row(&rate, zone).map(Some));
    }
    parsed.or_all_refused()
}

fn row(rate: &Rate, zone: &TimeZone) -> Result<Row, String> {
    let date: Date = rate.effective_date.parse().map_err(|_| "an effectiveDate is no date".to_owned())?;
    if !(0.01..=1_000.0).contains(&rate.mid) {
        return Err(format!("{} PLN is no rate", rate.mid));
    }
    let midnight =
        zone.to_timestamp(date.to_datetime(Time::midnight())).map_err(|error| error.to_string())?;
    let time = timestamp(midnight).ok_or("a date outside range")?;
    Ok(Row { time, length_ns: 0, published: None, fields: vec![("rate", FieldValue::Float(rate.mid))] })
}

/// Rates by date, shared by the feed that fetches them and those that convert with them.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_date: BTreeMap<Date, f64>,
    /// All tables up to this date are known.
    settled: Option<Date>,
}

/// A rate to convert with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateOfDay {
    pub(crate) pln_per_eur: f64,
    /// Date of its table.
    pub(crate) date: Date,
    /// No later table can take its place.
    pub(crate) is_final: bool,
}

impl Rates {
    /// Takes over rates; all tables up to `settled` are known now, or no more than before.
    pub(crate) fn learn(&self, rates: impl IntoIterator<Item = (Date, f64)>, settled: Option<Date>) {
        let mut known = self.0.lock();
        known.by_date.extend(rates);
        while known.by_date.len() > MAX_RATES {
            known.by_date.pop_first();
        }
        known.settled = known.settled.max(settled);
    }

    /// The rate of the last table before `day`, the day of delivery.
    pub(crate) fn for_day(&self, day: Date) -> Option<RateOfDay> {
        let known = self.0.lock();
        let (date, rate) = known.by_date.range(..day).next_back()?;
        let oldest = day.checked_sub(MAX_AGE_DAYS.days()).ok()?;
        let is_final = known.settled.is_some_and(|settled| settled.tomorrow().is_ok_and(|next| next >= day));
        (*date >= oldest).then_some(RateOfDay { pln_per_eur: *rate, date: *date, is_final })
    }
}

/// Two years of working days.
const MAX_RATES: usize = 520;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn the_last_table_before_the_day_counts_and_an_old_one_is_said_or_not_used() {
        let rates = Rates::default();
        assert_eq!(rates.for_day(date(2026, 3, 30)), None);
        rates.learn([(date(2026, 3, 26), 4.25), (date(2026, 3, 27), 4.26)], Some(date(2026, 3, 27)));
        let of = |day| rates.for_day(day).map(|rate| (rate.pln_per_eur, rate.date.day(), rate.is_final));
        assert_eq!(of(date(2026, 3, 27)), Some((4.25, 26, true)));
        assert_eq!(of(date(2026, 3, 28)), Some((4.26, 27, true)));
        assert_eq!(of(date(2026, 3, 30)), Some((4.26, 27, false)));
        assert_eq!(of(date(2026, 4, 7)), None);
        rates.learn([], None);
        assert_eq!(of(date(2026, 3, 30)), Some((4.26, 27, false)));
        rates.learn([], Some(date(2026, 3, 29)));
        assert_eq!(of(date(2026, 3, 30)), Some((4.26, 27, true)));
    }

    #[test]
    fn rates_are_read_with_their_dates() {
        let body = br#"{"table":"A","currency":"euro","code":"EUR","rates":[{"no":"060/A/NBP/2026","effectiveDate":"2026-03-27","mid":4.2689}]}"#;
        let warsaw = TimeZone::get("Europe/Warsaw").unwrap();
        let parsed = parse(body, &warsaw).unwrap();
        assert_eq!(parsed.rows[0].time.0, 1_774_566_000_000_000_000);
        assert_eq!(parsed.rows[0].fields, [("rate", FieldValue::Float(4.2689))]);
        assert!(parse(br#"{"code":"USD","rates":[]}"#, &warsaw).is_err());
        assert!(
            parse(br#"{"code":"EUR","rates":[{"effectiveDate":"2026-03-27","mid":0}]}"#, &warsaw).is_err()
        );
    }
}
