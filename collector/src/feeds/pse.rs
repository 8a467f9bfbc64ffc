//! Answers of PSE: `csdac-pln`, `rce-pln`, `energy-prices`, `pdgsz`.
//!
//! Only `dtime_utc` tells the time: it is the **end** of a price's quarter of an hour and the **start** of an hour of
//! `pdgsz`. Local labels are not looked at: in the repeated hour they carry a letter.

use super::rows::{HOUR_NS, ParseError, Parsed, QUARTER_NS, Row, number, per_kwh, utc};
use crate::config::PseProduct;
use serde_json::{Map, Value};
use wattlog_model::{FieldKind, FieldMeaning, FieldValue, Timestamp, Unit};

/// Field of the answer, field of the point. The first one makes a period whole.
fn columns(product: PseProduct) -> &'static [(&'static str, &'static str)] {
    match product {
        PseProduct::CsdacPln => &[("csdac_pln", "market_price")],
        PseProduct::RcePln => &[("rce_pln", "market_price")],
        PseProduct::EnergyPrices => &[
            ("csdac_pln", "market_price"),
            ("cen_cost", "cen_cost"),
            ("ceb_pp_cost", "ceb_pp_cost"),
            ("ceb_sr_cost", "ceb_sr_cost"),
            ("cor_cost", "cor_cost"),
            ("sk_cost", "sk_cost"),
        ],
        PseProduct::Pdgsz => &[("usage_fcst", "usage_forecast")],
    }
}

/// The field that each period of this product has.
pub(crate) fn main_field(product: PseProduct) -> &'static str {
    columns(product)[0].1
}

/// Length of its periods.
pub(crate) fn period_ns(product: PseProduct) -> i64 {
    if product == PseProduct::Pdgsz { HOUR_NS } else { QUARTER_NS }
}

/// Units and kinds of what a product stores.
pub(crate) fn meanings(product: PseProduct) -> Vec<FieldMeaning> {
    let unit = if product == PseProduct::Pdgsz { None } else { Unit::new("PLN/kWh") };
    let meaning = |(_, field): &(&str, &str)| FieldMeaning {
        field: (*field).to_owned(),
        unit: unit.clone(),
        kind: FieldKind::Step,
    };
    columns(product).iter().map(meaning).collect()
}

/// Reads one page. Prices become PLN/kWh; Kompas codes are integers of 0 to 3.
///
/// Rows whose values are all null are left out: not published yet. Rows of `pdgsz` that are not active are old versions.
/// # Errors
/// If the bytes are no JSON, have no list `value`, or hold rows of which none can be used.
pub fn parse(product: PseProduct, body: &[u8]) -> Result<Parsed, ParseError> {
    let tree: Value = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    let Some(rows) = tree.get("value").and_then(Value::as_array) else {
        return Err(ParseError("the answer has no list \"value\"".to_owned()));
    };
    let mut parsed =
        Parsed { next: tree.get("nextLink").and_then(Value::as_str).map(str::to_owned), ..Parsed::default() };
    for entry in rows {
        let row = match entry.as_object() {
            Some(entry) => row(product, entry),
            None => Err("a row is no object".to_owned()),
        };
        parsed.add(row);
    }
    parsed.or_all_refused()
}

fn row(product: PseProduct, entry: &Map<String, Value>) -> Result<Option<Row>, String> {
    if product == PseProduct::Pdgsz && entry.get("is_active") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let length_ns = period_ns(product);
    let told = utc(text("dtime_utc").ok_or("a row has no dtime_utc")?)?;
    let time = if product == PseProduct::Pdgsz { told } else { Timestamp(told.0.saturating_sub(length_ns)) };
    if time.0.rem_euclid(length_ns) != 0 {
        return Err(format!("{:?} does not end a period", text("dtime_utc").unwrap_or_default()));
    }
    let mut fields = Vec::new();
    for (column, field) in columns(product) {
        let Some(value) = number(entry.get(*column)).map_err(|error| format!("{column}: {error}"))? else {
            continue;
        };
        let value = match product {
            PseProduct::Pdgsz if value.fract() == 0.0 && (0.0..=3.0).contains(&value) => {
                FieldValue::Integer(value as i64)
            }
            PseProduct::Pdgsz => return Err(format!("{column}: {value} is no code of 0 to 3")),
            _ => FieldValue::Float(per_kwh(value).ok_or_else(|| format!("{column}: {value} is no price"))?),
        };
        fields.push((*field, value));
    }
    let published = text("publication_ts_utc").map(utc).transpose()?;
    Ok((!fields.is_empty()).then_some(Row { time, length_ns, published, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(product: PseProduct, row: &str) -> Result<Parsed, ParseError> {
        parse(product, format!(r#"{{"value":[{row}]}}"#).as_bytes())
    }

    #[test]
    fn rows_that_say_nothing_are_left_out_and_wrong_ones_refused() {
        let time = r#""dtime_utc":"2026-03-29 01:00:00""#;
        let row = |rest: &str| one(PseProduct::RcePln, &format!("{{{time},{rest}}}"));
        let whole = row(r#""rce_pln":-12.5"#).unwrap();
        assert_eq!(whole.rows[0].time, Timestamp(1_774_745_100_000_000_000));
        assert_eq!(whole.rows[0].fields, [("market_price", FieldValue::Float(-0.0125))]);
        assert_eq!(row(r#""rce_pln":7"#).unwrap().rows[0].fields[0].1, FieldValue::Float(0.007));
        assert_eq!(row(r#""rce_pln":null"#).unwrap(), Parsed::default());
        assert!(row(r#""rce_pln":"dear""#).is_err());
        assert!(one(PseProduct::RcePln, r#"{"dtime":"2026-03-29 02a:15:00","rce_pln":1}"#).is_err());
        assert!(one(PseProduct::RcePln, r#"{"dtime_utc":"2026-03-29 01:07","rce_pln":1}"#).is_err());
        assert!(one(PseProduct::Pdgsz, &format!(r#"{{{time},"usage_fcst":4}}"#)).is_err());
        let old = one(PseProduct::Pdgsz, &format!(r#"{{{time},"usage_fcst":2,"is_active":false}}"#));
        assert_eq!(old.unwrap(), Parsed::default());
        assert!(parse(PseProduct::RcePln, b"<html>").is_err());
    }
}
