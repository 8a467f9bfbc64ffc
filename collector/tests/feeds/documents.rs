//! Answers of ENTSO-E, Energy-Charts and NBP as their documentation has them, written by hand (`documents/README.md`):
//! exact instants and values.

use crate::shapes::at;
use jiff::tz::TimeZone;
use wattlog_collector::feeds::rows::Parsed;
use wattlog_collector::feeds::{energy_charts, entsoe, nbp};
use wattlog_model::{FieldValue, Timestamp};

const QUARTER_NS: i64 = 900_000_000_000;

/// Instants and values of the only field.
fn values(parsed: &Parsed, field: &str) -> Vec<(Timestamp, f64)> {
    let value = |fields: &[(&str, FieldValue)]| match fields {
        [(name, FieldValue::Float(value))] if *name == field => *value,
        other => panic!("{other:?}"),
    };
    parsed.rows.iter().map(|row| (row.time, value(&row.fields))).collect()
}

#[test]
fn a_day_of_entsoe_is_filled_and_its_quarters_count_before_its_hours() {
    let parsed = entsoe::parse(include_bytes!("documents/entsoe_a44_2025-10-26.xml")).unwrap();
    assert_eq!((parsed.refused, parsed.next.as_ref()), (0, None));
    assert!(parsed.rows.iter().all(|row| row.length_ns == QUARTER_NS));
    let told = values(&parsed, "market_price_eur");
    // Seven points, each valid until the next; EUR/MWh with the point moved by three places.
    let stretches = [
        ("2025-10-25T22:00:00Z", 1, 0.07142),
        ("2025-10-25T22:15:00Z", 7, 0.0649),
        // 02:00 to 03:00 local, in summer time and again in winter time.
        ("2025-10-26T00:00:00Z", 4, 0.02005),
        ("2025-10-26T01:00:00Z", 4, 0.018),
        ("2025-10-26T02:00:00Z", 32, 0.0),
        ("2025-10-26T10:00:00Z", 50, -0.00517),
        ("2025-10-26T22:30:00Z", 2, 0.08801),
    ];
    let stretch = |(from, count, price): (&'static str, i64, f64)| {
        (0..count).map(move |n| (Timestamp(at(from).0 + n * QUARTER_NS), price))
    };
    let expected: Vec<(Timestamp, f64)> = stretches.into_iter().flat_map(stretch).collect();
    assert_eq!(expected.len(), 100);
    assert_eq!(told, expected);
}

#[test]
fn a_day_that_entsoe_has_not_published_is_empty_and_no_error() {
    let parsed = entsoe::parse(include_bytes!("documents/entsoe_no_data.xml")).unwrap();
    assert_eq!(parsed, Parsed::default());
}

#[test]
fn prices_of_energy_charts_are_at_their_epochs_and_null_is_missing() {
    let parsed =
        energy_charts::parse(include_bytes!("documents/energy_charts_price_2026-03-29.json")).unwrap();
    assert_eq!(parsed.refused, 0);
    assert!(parsed.rows.iter().all(|row| row.length_ns == QUARTER_NS));
    let expected = [
        ("2026-03-29T00:00:00Z", 0.06138),
        ("2026-03-29T00:15:00Z", 0.058),
        ("2026-03-29T00:30:00Z", -0.00004),
        // Nothing at 00:45; the clock is put forward at 01:00.
        ("2026-03-29T01:00:00Z", -0.0125),
        ("2026-03-29T01:15:00Z", 0.0),
    ]
    .map(|(time, price)| (at(time), price));
    assert_eq!(values(&parsed, "market_price_eur"), expected);
}

#[test]
fn rates_of_the_bank_begin_at_the_local_midnight_of_their_table() {
    let warsaw = TimeZone::get("Europe/Warsaw").unwrap();
    let parsed = nbp::parse(include_bytes!("documents/nbp_a_eur.json"), &warsaw).unwrap();
    assert_eq!(parsed.refused, 0);
    let expected = [
        ("2025-12-30T23:00:00Z", 4.2267),
        ("2026-01-01T23:00:00Z", 4.2205),
        ("2026-03-26T23:00:00Z", 4.27),
        ("2026-03-29T22:00:00Z", 4.2689),
    ]
    .map(|(time, rate)| (at(time), rate));
    assert_eq!(values(&parsed, "rate"), expected);
}
