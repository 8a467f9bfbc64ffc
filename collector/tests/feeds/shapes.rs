//! Recorded shapes of answers: exact instants and values.

use std::path::PathBuf;
use wattlog_collector::config::PseProduct;
use wattlog_collector::feeds::rows::Parsed;
use wattlog_collector::feeds::{pse, weather};
use wattlog_model::{FieldValue, Timestamp};

/// The bytes of a recorded answer; none, said aloud, where the recordings are not.
pub(crate) fn recorded(name: &str) -> Option<Vec<u8>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let root = std::env::var_os("WATTLOG_SHARED").map_or_else(beside, PathBuf::from);
    let file = root.join("fixtures/optimiser-json/api-shapes").join(name);
    let read = std::fs::read(&file).ok();
    if read.is_none() {
        eprintln!("SKIPPED: no recorded answer {name}");
    }
    read
}

pub(crate) fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp(i64::try_from(instant.as_nanosecond()).unwrap())
}

fn values(parsed: &Parsed) -> Vec<(Timestamp, FieldValue)> {
    parsed.rows.iter().map(|row| (row.time, row.fields[0].1.clone())).collect()
}

/// Count of rows, the first, the last; all of them a period apart.
fn check_prices(product: PseProduct, name: &str, count: usize, first: (&str, f64), last: (&str, f64)) {
    let Some(body) = recorded(name) else { return };
    let parsed = pse::parse(product, &body).unwrap();
    assert_eq!((parsed.refused, parsed.next.clone()), (0, None));
    let told = values(&parsed);
    assert_eq!(told.len(), count, "{name}");
    let expected = |(time, price): (&str, f64)| (at(time), FieldValue::Float(price));
    assert_eq!((told[0].clone(), told[count - 1].clone()), (expected(first), expected(last)), "{name}");
    assert!(told.windows(2).all(|pair| pair[1].0.0 - pair[0].0.0 == 900_000_000_000), "{name}");
}

#[test]
fn prices_of_ordinary_and_clock_change_days_are_at_their_instants() {
    check_prices(
        PseProduct::CsdacPln,
        "csdac-pln_2025-12-02.json",
        96,
        ("2025-12-01T23:00:00Z", 0.16294),
        ("2025-12-02T22:45:00Z", 0.76544),
    );
    check_prices(
        PseProduct::RcePln,
        "rce-pln_2025-10-26_dst-back.json",
        100,
        ("2025-10-25T22:00:00Z", 0.16294),
        ("2025-10-26T22:45:00Z", 0.39878),
    );
    check_prices(
        PseProduct::RcePln,
        "rce-pln_2026-03-29_dst-forward.json",
        92,
        ("2026-03-28T23:00:00Z", 0.16294),
        ("2026-03-29T21:45:00Z", 0.09458),
    );
}

#[test]
fn a_day_that_is_not_published_is_empty_and_no_error() {
    let Some(body) = recorded("csdac-pln_not-yet-published.json") else { return };
    assert_eq!(pse::parse(PseProduct::CsdacPln, &body).unwrap(), Parsed::default());
}

#[test]
fn kompas_hours_begin_where_they_say() {
    let Some(body) = recorded("pdgsz_2025-12-02.json") else { return };
    let told = values(&pse::parse(PseProduct::Pdgsz, &body).unwrap());
    assert_eq!(told.len(), 24);
    assert_eq!(told[0], (at("2025-12-01T23:00:00Z"), FieldValue::Integer(1)));
    assert_eq!(told[23], (at("2025-12-02T22:00:00Z"), FieldValue::Integer(2)));
}

#[test]
fn an_observation_keeps_what_is_there_and_a_forecast_in_local_labels_is_refused() {
    if let Some(body) = recorded("imgw_synop_krakow.json") {
        let row = weather::parse_imgw(&body).unwrap().rows.remove(0);
        assert_eq!(row.time, at("2025-12-02T21:00:00Z"));
        let float = FieldValue::Float;
        let expected = [
            ("temperature", float(-0.6)),
            ("wind_speed", float(3.0)),
            ("wind_direction", float(40.0)),
            ("humidity", float(65.7)),
            ("precipitation", float(0.0)),
        ];
        assert_eq!(row.fields, expected);
    }
    if let Some(body) = recorded("open-meteo_2025-12-02.json") {
        let error = weather::parse_open_meteo(&body).unwrap_err().to_string();
        assert!(error.contains("seconds of GMT"), "{error}");
    }
}
