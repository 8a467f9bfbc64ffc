//! Prices by hand: the check values of the tariffs, borders of days, seasons and hours, and definitions that are refused.

use super::*;
use crate::zone;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use wattlog_model::Timestamp;

const HOUR: i64 = 3_600_000_000_000;

fn warsaw() -> TimeZone {
    zone("Europe/Warsaw").unwrap()
}

/// An instant written with its offset.
fn at(text: &str) -> Timestamp {
    Timestamp(i64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap())
}

/// An instant written as the clock in Warsaw shows it.
fn local(text: &str) -> Timestamp {
    let instant = warsaw().to_timestamp(text.parse().unwrap()).unwrap();
    Timestamp(i64::try_from(instant.as_nanosecond()).unwrap())
}

fn zone_at(tariff: &str, time: &str) -> String {
    builtin(tariff).unwrap().distribution(local(time), &warsaw(), None).zone.to_owned()
}

#[test]
fn check_values_of_total_prices() {
    let check = |tariff: &str, market_pln_kwh: f64, time: &str, code: Option<u8>, expected: f64| {
        let tariff = builtin(tariff).unwrap();
        let code = code.map(|code| Kompas::from_code(code).unwrap());
        let total = tariff.total_pln_kwh(market_pln_kwh * 1000.0, local(time), &warsaw(), code);
        assert!((total - expected).abs() < 1e-9, "{} at {time}: {total}", tariff.name());
    };
    check("g12w", 0.5, "2025-11-13T12:00", None, 0.9458);
    check("g12w", 0.5, "2025-11-13T23:00", None, 0.6641);
    check("g12w", 0.25, "2025-11-13T02:00", None, 0.4141);
    check("g11", 0.5, "2025-11-13T12:00", None, 0.9017);
    check("g14dynamic", 0.5, "2025-11-13T12:00", Some(1), 0.6470);
    check("g14dynamic", 0.5, "2025-11-13T12:00", Some(0), 0.6037);
    check("g14dynamic", 0.5, "2025-11-13T12:00", Some(2), 1.0231);
    check("g14dynamic", 0.5, "2025-11-13T12:00", Some(3), 3.4823);
    check("g14dynamic", 0.5, "2025-11-13T12:00", None, 0.6470);
    // Prices that the optimiser stored: market 5.29 at night, 4.15 at noon of a Sunday, both in g12.
    check("g12", 0.00529, "2025-11-13T02:31", None, 0.16939);
    check("g12", 0.00415, "2025-10-26T11:04", None, 0.00415 + 0.0892 + 0.3566);
    check("g12w", -0.3, "2025-06-01T13:00", None, 0.1458);
}

#[test]
fn a_kompas_code_that_is_not_known_is_assumed_and_says_so() {
    let tariff = builtin("g14dynamic").unwrap();
    let price = |code| tariff.distribution(Timestamp(0), &TimeZone::UTC, code);
    assert!(price(None).assumed && !price(Some(Kompas::Normal)).assumed);
    assert_eq!((price(None).zone, price(Some(Kompas::Normal)).zone), ("unknown", "normal"));
    assert_eq!(price(None).pln_kwh, price(Some(Kompas::Normal)).pln_kwh);
    assert_eq!(Kompas::from_code(4), None);
    assert!(tariff.needs_kompas() && !builtin("g11").unwrap().needs_kompas());
}

#[test]
fn zones_begin_at_their_hour_and_end_before_it() {
    for (tariff, time, expected) in [
        ("g11", "2025-06-01T00:00", "all"),
        ("g12", "2025-06-02T06:59:59", "off"),
        ("g12", "2025-06-02T07:00", "peak"),
        ("g12", "2025-06-02T12:59:59", "peak"),
        ("g12", "2025-06-02T13:00", "off"),
        ("g12", "2025-06-02T15:00", "peak"),
        ("g12", "2025-06-02T22:00", "off"),
        // No weekend rule.
        ("g12", "2025-06-01T07:00", "peak"),
        ("g12w", "2025-06-01T05:59:59", "off"),
        ("g12w", "2025-06-01T06:00", "peak"),
        ("g12w", "2025-12-25T21:59:59", "peak"),
        ("g12w", "2025-12-25T22:00", "off"),
        ("g12as", "2025-06-02T07:00", "peak"),
        ("g12as", "2025-06-02T13:00", "off"),
    ] {
        assert_eq!(zone_at(tariff, time), expected, "{tariff} at {time}");
    }
}

#[test]
fn g13s_knows_seasons_free_days_and_midnight() {
    for (time, expected) in [
        // Monday 31 March is winter, Tuesday 1 April summer.
        ("2025-03-31T09:00", "winter_peak"),
        ("2025-03-31T23:59:59", "night"),
        ("2025-04-01T00:00", "night"),
        ("2025-04-01T09:00", "summer_day"),
        ("2025-09-30T08:59:59", "summer_peak"),
        ("2025-09-30T20:59:59", "summer_peak"),
        ("2025-10-01T14:59:59", "winter_day"),
        ("2025-10-01T15:00", "winter_peak"),
        ("2025-10-01T21:00", "night"),
        // Friday to Saturday to Monday.
        ("2025-06-06T23:59:59", "night"),
        ("2025-06-07T00:00", "free_day"),
        ("2025-06-08T23:59:59", "free_day"),
        ("2025-06-09T00:00", "night"),
        ("2025-06-09T07:00", "summer_peak"),
        // Corpus Christi is a Thursday, Easter Monday moves, Christmas Eve is free from 2025 on.
        ("2025-06-19T12:00", "free_day"),
        ("2026-06-04T12:00", "free_day"),
        ("2025-04-21T12:00", "free_day"),
        ("2026-04-06T12:00", "free_day"),
        ("2024-12-24T12:00", "winter_day"),
        ("2025-12-24T12:00", "free_day"),
        ("2024-02-29T12:00", "winter_day"),
    ] {
        assert_eq!(zone_at("g13s", time), expected, "{time}");
    }
}

#[test]
fn pieces_of_days_with_23_and_25_hours() {
    let hours = |tariff: &str, from: &str, to: &str| -> Vec<(String, i64)> {
        let tariff = builtin(tariff).unwrap();
        let pieces = tariff.pieces(local(from)..local(to), &warsaw(), &[]).unwrap();
        let hours = |piece: &Piece<'_>| (piece.end.0 - piece.start.0) / HOUR;
        pieces.iter().map(|piece| (piece.distribution.zone.to_owned(), hours(piece))).collect()
    };
    let named =
        |list: &[(&str, i64)]| list.iter().map(|(name, h)| ((*name).to_owned(), *h)).collect::<Vec<_>>();
    let normal = hours("g12", "2025-06-02T00:00", "2025-06-03T00:00");
    assert_eq!(normal, named(&[("off", 7), ("peak", 6), ("off", 2), ("peak", 7), ("off", 2)]));
    let back = hours("g12", "2025-10-26T00:00", "2025-10-27T00:00");
    assert_eq!(back, named(&[("off", 8), ("peak", 6), ("off", 2), ("peak", 7), ("off", 2)]));
    let forward = hours("g12w", "2025-03-30T00:00", "2025-03-31T00:00");
    assert_eq!(forward, named(&[("off", 5), ("peak", 16), ("off", 2)]));
    assert_eq!(hours("g11", "2025-01-01T00:00", "2026-01-01T00:00"), named(&[("all", 8760)]));
}

#[test]
fn both_passes_of_a_repeated_hour_cost_the_same() {
    let definition = r#"{"name":"night owl","distribution":{"clock":{"zones":{"two":1.0,"other":0.1},
        "rules":[{"hours":["2-3"],"zone":"two"},{"zone":"other"}]}}}"#;
    let tariff: Tariff = serde_json::from_str(definition).unwrap();
    let pieces =
        tariff.pieces(at("2025-10-25T22:00:00Z")..at("2025-10-26T04:00:00Z"), &warsaw(), &[]).unwrap();
    let two: Vec<&Piece<'_>> = pieces.iter().filter(|piece| piece.distribution.zone == "two").collect();
    assert_eq!(two.len(), 1);
    assert_eq!((two[0].start, two[0].end), (at("2025-10-26T00:00:00Z"), at("2025-10-26T02:00:00Z")));
    // In spring the clock never shows two.
    let spring = tariff.pieces(local("2025-03-30T00:00")..local("2025-03-31T00:00"), &warsaw(), &[]).unwrap();
    assert_eq!(spring.len(), 1);
}

#[test]
fn kompas_hours_hold_for_one_hour_each() {
    let tariff = builtin("g14dynamic").unwrap();
    let hour =
        |h: i64, code| KompasHour { start: Timestamp(h * HOUR), code: Kompas::from_code(code).unwrap() };
    let given = [hour(1, 3), hour(2, 3), hour(5, 0)];
    let pieces = |from: i64, to: i64| -> Vec<(&str, i64, i64)> {
        let range = Timestamp(from)..Timestamp(to);
        let pieces = tariff.pieces(range, &TimeZone::UTC, &given).unwrap();
        pieces.iter().map(|piece| (piece.distribution.zone, piece.start.0, piece.end.0)).collect()
    };
    let expected = [
        ("unknown", 0, HOUR),
        ("required_limiting", HOUR, 3 * HOUR),
        ("unknown", 3 * HOUR, 5 * HOUR),
        ("recommended_use", 5 * HOUR, 6 * HOUR),
        ("unknown", 6 * HOUR, 7 * HOUR),
    ];
    assert_eq!(pieces(0, 7 * HOUR), expected);
    assert_eq!(pieces(2 * HOUR + 5, 2 * HOUR + 6), [("required_limiting", 2 * HOUR + 5, 2 * HOUR + 6)]);
    let turned = [hour(2, 1), hour(1, 1)];
    let error = tariff.pieces(Timestamp(0)..Timestamp(1), &TimeZone::UTC, &turned).unwrap_err();
    assert!(matches!(error, TariffError::Order { list: "Kompas hours", .. }), "{error}");
}

#[test]
fn a_total_price_steps_with_the_market_and_with_the_tariff() {
    let tariff = builtin("g12").unwrap();
    let quarter = HOUR / 4;
    let six = local("2025-06-02T06:30").0;
    // A price that holds over the border at 7, one that ends before the next, and one that repeats the price before it.
    let points = [
        (Timestamp(six - quarter), 100.0),
        (Timestamp(six + quarter), 200.0),
        (Timestamp(six + 6 * quarter), -50.0),
        (Timestamp(six + 8 * quarter), -50.0),
    ];
    let market = MarketPrices { points: &points, max_age_ns: 2 * quarter };
    let range = Timestamp(six - 2 * quarter)..Timestamp(six + 9 * quarter);
    let totals = tariff.total_prices(market, range, &warsaw(), &[]).unwrap();
    let found: Vec<(i64, i64, &str, f64)> = totals
        .iter()
        .map(|t| ((t.start.0 - six) / quarter, (t.end.0 - six) / quarter, t.zone, t.total_pln_kwh))
        .collect();
    let expected = [
        (-1, 1, "off", 0.1 + 0.0892 + 0.0749),
        (1, 2, "off", 0.2 + 0.0892 + 0.0749),
        (2, 3, "peak", 0.2 + 0.0892 + 0.3566),
        (6, 9, "peak", -0.05 + 0.0892 + 0.3566),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1, found.2), (expected.0, expected.1, expected.2));
        assert!((found.3 - expected.3).abs() < 1e-12);
    }
}

#[test]
fn questions_without_sense_say_what_to_do() {
    let tariff = builtin("g12").unwrap();
    let ask = |range: std::ops::Range<i64>| {
        tariff.pieces(Timestamp(range.start)..Timestamp(range.end), &warsaw(), &[]).map(|pieces| pieces.len())
    };
    assert_eq!(ask(0..MAX_RANGE_NS).unwrap(), 20 * 366 * 4 + 1);
    let late = MAX_RANGE_NS + 1;
    for (start, end) in [(0, 0), (5, 4), (0, late), (i64::MIN, i64::MAX), (i64::MIN, i64::MIN + 5)] {
        assert!(matches!(ask(start..end), Err(TariffError::Range { .. })));
    }
    let totals = |points: &[(Timestamp, f64)], max_age_ns| {
        let market = MarketPrices { points, max_age_ns };
        tariff.total_prices(market, Timestamp(0)..Timestamp(HOUR), &warsaw(), &[]).map(|totals| totals.len())
    };
    assert!(matches!(totals(&[], 0), Err(TariffError::MaxAge { max_age_ns: 0 })));
    assert!(matches!(totals(&[(Timestamp(1), 1.0), (Timestamp(1), 2.0)], 9), Err(TariffError::Order { .. })));
    assert!(matches!(totals(&[(Timestamp(1), f64::NAN)], 9), Err(TariffError::MarketPrice { .. })));
    assert_eq!(totals(&[], 9), Ok(0));
    assert_eq!(
        totals(&[(Timestamp::MIN, 1.0), (Timestamp(-5), 1.0), (Timestamp::MAX, 1.0)], i64::MAX),
        Ok(1)
    );
}

#[test]
fn g13_says_that_it_has_no_rates_and_others_that_they_are_unknown() {
    assert!(matches!(builtin("g13"), Err(TariffError::NoRates { .. })));
    let error = builtin("g99").unwrap_err().to_string();
    assert!(error.contains("g12as") && error.contains("zones and rules"), "{error}");
    for name in BUILTIN_NAMES {
        assert_eq!(builtin(name).unwrap().name(), name);
    }
}

#[test]
fn a_builtin_tariff_is_data_that_comes_back_the_same() {
    for name in BUILTIN_NAMES {
        let tariff = builtin(name).unwrap();
        let text = serde_json::to_string(&tariff).unwrap();
        assert_eq!(serde_json::from_str::<Tariff>(&text).unwrap(), tariff, "{text}");
    }
}

#[test]
fn the_weekend_rule_of_the_real_g12w_can_be_written() {
    let text = r#"{"name":"g12w of 2025","distribution":{"clock":{
        "zones":{"peak":0.3566,"off":0.0749},
        "rules":[{"days":"free_day","zone":"off"},{"hours":["6-13","15-22"],"zone":"peak"},{"zone":"off"}]}}}"#;
    let tariff: Tariff = serde_json::from_str(text).unwrap();
    let zone = |time| tariff.distribution(local(time), &warsaw(), None).zone;
    assert_eq!(zone("2025-06-06T12:00"), "peak");
    assert_eq!(zone("2025-06-06T14:00"), "off");
    assert_eq!(zone("2025-06-07T12:00"), "off");
    assert_eq!(zone("2025-06-19T12:00"), "off");
}

#[test]
fn hours_over_midnight_end_before_their_end() {
    let night = HourRange::new(21, 7).unwrap();
    let inside: Vec<u8> = (0..24).filter(|hour| night.contains(*hour)).collect();
    assert_eq!(inside, [0, 1, 2, 3, 4, 5, 6, 21, 22, 23]);
    let day = HourRange::new(7, 21).unwrap();
    assert!((0..24).all(|hour| day.contains(hour) != night.contains(hour)));
    assert!((0..24).all(|hour| HourRange::new(0, 24).unwrap().contains(hour)));
    assert_eq!((HourRange::new(24, 1), HourRange::new(3, 0), HourRange::new(3, 3)), (None, None, None));
}

#[test]
fn the_example_of_the_documentation_is_a_tariff() {
    // The lines of the example in `definition.rs`, as a household would write them in its configuration.
    let documentation = include_str!("definition.rs");
    let example = documentation.split("```").nth(1).unwrap().trim_start_matches("yaml");
    let example: Vec<&str> = example.lines().map(|line| line.trim_start_matches("//!")).collect();
    let tariff: Tariff = serde_saphyr::from_str(&example.join("\n")).unwrap();
    let price = |time| tariff.distribution(local(time), &warsaw(), None).pln_kwh;
    assert_eq!(
        (price("2025-06-06T12:00"), price("2025-06-06T14:00"), price("2025-06-07T12:00")),
        (0.3566, 0.0749, 0.0749)
    );
    assert_eq!(tariff.definition().sc_component_pln_kwh, SC_COMPONENT_PLN_KWH);
    // An error in it names what is wrong.
    let wrong = example.join("\n").replace("6-13", "6-30");
    let error = serde_saphyr::from_str::<Tariff>(&wrong).unwrap_err().to_string();
    assert!(error.contains("no range of hours"), "{error}");
}

#[test]
fn definitions_without_sense_are_refused_with_a_reason() {
    let clock = |inner: &str| format!(r#"{{"name":"x","distribution":{{"clock":{{{inner}}}}}}}"#);
    for (text, reason) in [
        (r#"{"name":"","distribution":{"clock":{"zones":{"a":1},"rules":[{"zone":"a"}]}}}"#.to_owned(), "name"),
        (clock(r#""zones":{},"rules":[]"#), "0 zones"),
        (clock(r#""zones":{"a":1},"rules":[]"#), "no rule covers 01-01, a workday, 0 o'clock"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"b"}]"#), "which has no price"),
        (clock(r#""zones":{"a":356.6},"rules":[{"zone":"a"}]"#), "PLN/kWh"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","hours":[]}]"#), "empty list of hours"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","hours":["7-7"]}]"#), "range of hours"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","hours":["7-25"]}]"#), "range of hours"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","hours":["+7-9"]}]"#), "range of hours"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","season":{"from":"02-30","to":"03-01"}}]"#), "day of a year"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","season":{"from":"1-1","to":"2-28"}}]"#), "covers 02-29"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","hour":["7-9"]}]"#), "unknown field"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a"}],"extra":1"#), "unknown field"),
        (clock(r#""zones":{"a":1},"rules":[{"zone":"a","days":"weekday"}]"#), "unknown variant"),
        (r#"{"name":"x","currency":"EUR","distribution":{"clock":{"zones":{"a":1},"rules":[{"zone":"a"}]}}}"#.to_owned(), "unknown field"),
        (r#"{"name":"x","distribution":{"kompas":{"recommended_use":0,"normal":0,"recommended_saving":0,"required_limiting":1e9,"unknown":0}}}"#.to_owned(), "required_limiting costs"),
    ] {
        let error = serde_json::from_str::<Tariff>(&text).expect_err(&text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let many: Vec<String> = (0..=MAX_ZONES).map(|i| format!(r#""z{i}":1"#)).collect();
    let text = clock(&format!(r#""zones":{{{}}},"rules":[{{"zone":"z1"}}]"#, many.join(",")));
    assert!(serde_json::from_str::<Tariff>(&text).unwrap_err().to_string().contains("17 zones"));
}

proptest! {
    #[test]
    fn pieces_cover_the_range_and_agree_with_every_instant(
        index in 0..BUILTIN_NAMES.len(), start in 0_i64..4_000_000_000, length in 1_i64..1_000_000,
        codes in proptest::collection::btree_map(0_i64..300, 0_u8..4, 0..40),
    ) {
        let tariff = builtin(BUILTIN_NAMES[index]).unwrap();
        let (zone, second) = (warsaw(), 1_000_000_000);
        let first_hour = start / 3600;
        let hour = |h: i64| Timestamp((first_hour + h) * HOUR);
        let hours: Vec<KompasHour> = codes
            .iter()
            .map(|(h, code)| KompasHour { start: hour(*h), code: Kompas::from_code(*code).unwrap() })
            .collect();
        let range = Timestamp(start * second)..Timestamp((start + length) * second);
        let pieces = tariff.pieces(range.clone(), &zone, &hours).unwrap();
        prop_assert_eq!(pieces[0].start, range.start);
        prop_assert_eq!(pieces.last().unwrap().end, range.end);
        for pair in pieces.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
            prop_assert!(pair[0].distribution != pair[1].distribution);
        }
        for piece in &pieces {
            prop_assert!(piece.start < piece.end);
            for time in [piece.start.0, i64::midpoint(piece.start.0, piece.end.0), piece.end.0 - 1] {
                let code = codes.get(&(time / HOUR - first_hour)).and_then(|code| Kompas::from_code(*code));
                prop_assert_eq!(tariff.distribution(Timestamp(time), &zone, code), piece.distribution);
            }
        }
    }
}
