//! Answers of Energy-Charts: `/price`, arrays of epochs and prices in EUR/MWh.

use super::rows::{HOUR_NS, ParseError, Parsed, QUARTER_NS, Row, number, per_kwh};
use serde::Deserialize;
use serde_json::Value;
use wattlog_model::{FieldValue, Timestamp};

#[derive(Deserialize)]
struct Answer {
    unix_seconds: Vec<i64>,
    price: Vec<Value>,
    unit: String,
}

/// Reads an answer; `market_price_eur` in EUR/kWh.
///
/// A period is as long as the shorter of the ways to its neighbours, an hour or a quarter of one.
/// # Errors
/// If the bytes are no such JSON, the arrays differ in length, the unit is another, or no row can be used.
pub fn parse(body: &[u8]) -> Result<Parsed, ParseError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    if answer.unit.replace(' ', "") != "EUR/MWh" {
        return Err(ParseError(format!("the unit is {:?}, not EUR / MWh", answer.unit)));
    }
    let (seconds, prices) = (&answer.unix_seconds, &answer.price);
    if seconds.len() != prices.len() {
        let (times, prices) = (seconds.len(), prices.len());
        return Err(ParseError(format!("{times} times and {prices} prices")));
    }
    let mut parsed = Parsed::default();
    for (i, (second, price)) in seconds.iter().zip(prices).enumerate() {
        let before = i.checked_sub(1).and_then(|i| seconds.get(i));
        let ways = [before, seconds.get(i + 1)].into_iter().flatten().map(|other| other.abs_diff(*second));
        let length_ns = if ways.min() == Some(900) { QUARTER_NS } else { HOUR_NS };
        parsed.add(row(*second, price, length_ns));
    }
    parsed.or_all_refused()
}

fn row(second: i64, price: &Value, length_ns: i64) -> Result<Option<Row>, String> {
    let time = Timestamp::from_units(second, 1_000_000_000).map_err(|error| error.to_string())?;
    if time.0.rem_euclid(length_ns) != 0 {
        return Err(format!("{second} s begins no period"));
    }
    let Some(price) = number(Some(price))? else { return Ok(None) };
    let price = per_kwh(price).ok_or_else(|| format!("{price} is no price"))?;
    let fields = vec![("market_price_eur", FieldValue::Float(price))];
    Ok(Some(Row { time, length_ns, published: None, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_quarters_are_told_apart_and_nulls_left_out() {
        let body = br#"{"license_info":"x","unix_seconds":[3600,7200,8100,9000],"price":[1.5,-2,null,3],"unit":"EUR / MWh"}"#;
        let parsed = parse(body).unwrap();
        let rows: Vec<(i64, i64)> = parsed
            .rows
            .iter()
            .map(|row| (row.time.0 / 1_000_000_000, row.length_ns / 60_000_000_000))
            .collect();
        assert_eq!(rows, [(3600, 60), (7200, 15), (9000, 15)]);
        assert_eq!(parsed.rows[1].fields, [("market_price_eur", FieldValue::Float(-0.002))]);
        for bad in [
            &br#"{"unix_seconds":[0],"price":[],"unit":"EUR/MWh"}"#[..],
            br#"{"unix_seconds":[0],"price":[1],"unit":"EUR/kWh"}"#,
            br#"{"unix_seconds":[9223372036854775807],"price":[1],"unit":"EUR/MWh"}"#,
            br#"{"unix_seconds":[7],"price":[1],"unit":"EUR/MWh"}"#,
        ] {
            assert!(parse(bad).is_err());
        }
    }
}
