//! Originals of what was repaired: each is kept, whoever else was repaired at the same instant.

use crate::asked::{Row, rows};
use crate::migrate_support::truth::{Seed, State};
use crate::migrate_support::utc;
use crate::{Home, raw};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// By measurement, what tells the series apart, and rule: the originals.
fn originals(home: &Home) -> BTreeMap<String, Vec<String>> {
    let server = home.serve();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows(&server, "import_repairs") {
        let row = Row::of(&row);
        let tag = |key: &str| row.tags[key].as_str().unwrap_or("-").to_owned();
        let whose = if row.tags["device_id"].is_string() { tag("device_id") } else { tag("hours_ahead") };
        let key = format!("{} {whose} {} {}", tag("measurement"), tag("rule"), tag("field"));
        all.entry(key).or_default().push(row.fields["original"].as_str().unwrap().to_owned());
    }
    assert!(server.stop().success());
    all.values_mut().for_each(|originals| originals.sort());
    all
}

#[test]
fn two_inverters_and_two_forecasts_of_one_hour_keep_their_originals() {
    // They overwrote each other: the tags told measurement, rule and field, and neither device nor forecast.
    let tree = tempfile::tempdir().unwrap();
    let out = tree.path().join("out/energy_data");
    fs::create_dir_all(&out).unwrap();
    let state = State::random(&mut Seed(5), utc("2025-11-13T04:00:00Z").0 / 1000);
    for (device, charge, minute) in [("ROOF1", json!(65535), 1), ("BARN2", json!(6553.5), 2)] {
        let mut reading = state.nested(device);
        reading["battery"]["soc_percent"] = charge;
        if device == "ROOF1" {
            // Two names of one field, neither of them a number.
            reading["photovoltaic"]["daily_production_kwh"] = json!("5,7");
            reading["photovoltaic"]["daily_generation_kwh"] = json!("much");
        }
        fs::write(out.join(format!("current_data_20251113_05000{minute}.json")), reading.to_string())
            .unwrap();
    }
    for (made, power_kw) in [("10:15", 3.2), ("11:15", 2.8)] {
        let forecast = json!({ "timestamp": format!("2025-11-13T{made}:00"),
            "forecasts": [{ "timestamp": "2025-11-13T12:00:00", "forecasted_power_kw": power_kw }] });
        let name = format!("pv_forecast_20251113_{}00.json", made.replace(':', ""));
        fs::write(out.join(name), forecast.to_string()).unwrap();
    }
    let expected: BTreeMap<String, Vec<String>> = [
        ("energy_data BARN2 no_data battery_soc", &["6553.5"][..]),
        ("energy_data ROOF1 no_data battery_soc", &["65535"]),
        ("energy_data ROOF1 not_a_number pv_energy_today", &["\"5,7\"", "\"much\""]),
        ("pv_forecasts 0 watts_from_kilowatts power_w", &["2.8"]),
        ("pv_forecasts 1 watts_from_kilowatts power_w", &["3.2"]),
    ]
    .into_iter()
    .map(|(key, originals)| (key.to_owned(), originals.iter().map(|one| (*one).to_owned()).collect()))
    .collect();
    let home = Home::new();
    let (code, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!((code, &report["validation"]["differences"]), (0, &json!([])));
    assert_eq!(report["points"]["import_repairs"], 6, "{report}");
    assert_eq!(originals(&home), expected);
    let (_, again) = home.import(tree.path(), &["--validate", "--again"]);
    assert_eq!(again["validation"]["differences"], json!([]));
    assert_eq!(originals(&home), expected, "twice is once");

    // An original that is gone is a difference.
    let server = home.serve();
    let answer = raw(
        &server.address,
        "POST /api/v1/delete?measurement=import_repairs&tag.device_id=ROOF1&start=2025-01-01T00:00:00Z&end=2026-01-01T00:00:00Z HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    assert!(server.stop().success());
    let (code, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!(code, 65);
    let differences: &Vec<Value> = report["validation"]["differences"].as_array().unwrap();
    assert!(!differences.is_empty(), "{report}");
    assert!(differences.iter().all(|one| one.as_str().unwrap().contains("ROOF1")), "{differences:?}");
}
