//! The optimiser's own files, through the whole import. Skipped without them.

use crate::asked::{Row, records, rows};
use crate::migrate_support::utc;
use crate::{Home, file, shared};
use serde_json::Value;

/// Records in the sense of `expected.json`: the reading inside a state and the plan around sessions are not counted.
fn counted(file: &Value) -> u64 {
    let kinds = file["kinds"].as_object().unwrap();
    let read = |kind: &str| {
        kinds
            .get(kind)
            .map_or(0, |counts| counts["read"].as_u64().unwrap() - counts["refused"].as_u64().unwrap())
    };
    if kinds.contains_key("system_state") {
        read("system_state")
    } else if kinds.contains_key("daily_plan") {
        read("session")
    } else {
        kinds.keys().map(|kind| read(kind)).sum()
    }
}

#[test]
fn every_made_up_file_gives_what_is_expected_of_it() {
    let Some(folder) = shared("optimiser-json/synthetic") else { return };
    let home = Home::new();
    let (code, report) = home.import(&folder, &["--validate"]);
    assert_eq!(code, 65, "four places are damaged");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= 34, "{} files", expected.len());
    for (name, expectation) in expected {
        let number = |key: &str| expectation[key].as_u64();
        let wanted =
            number("records").or_else(|| number("records_recoverable")).expect("a number of records");
        let told = file(&report, name);
        assert_eq!(counted(told), wanted, "{name}: {told}");
        if let Some(new) = number("new_records").or_else(|| number("distinct")) {
            let kept: u64 = told["kinds"]
                .as_object()
                .unwrap()
                .values()
                .map(|counts| counts["kept"].as_u64().unwrap())
                .sum();
            assert_eq!(kept, new, "{name} keeps");
        }
    }
    assert_eq!(report["validation"]["differences"], serde_json::json!([]));
    let refused: Vec<&Value> = report["refusals"].as_array().unwrap().iter().collect();
    assert_eq!((refused.len(), report["refused"].as_u64()), (4, Some(4)), "{refused:#?}");

    let server = home.serve();
    let kept = |kind: &str| {
        report["read"]["kinds"][kind]["kept"].as_u64().unwrap()
            - report["read"]["kinds"][kind]["superseding"].as_u64().unwrap()
    };
    let decisions = records(&server, "decisions");
    assert_eq!(decisions.len() as u64, kept("decision"));
    assert_eq!(records(&server, "sessions").len() as u64, kept("session"));
    let of_migration =
        |rows: Vec<String>| rows.into_iter().filter(|row| row.contains("\"migration\"")).count() as u64;
    assert_eq!(of_migration(rows(&server, "energy_data")), kept("reading"));
    assert_eq!(rows(&server, "prices").len() as u64, kept("market_price"));
    assert_eq!(rows(&server, "pv_forecasts").len() as u64, kept("pv_forecast"));
    assert_eq!(rows(&server, "optimiser_state").len() as u64, kept("system_state"));
    // A cost that was divided twice is right, and its original is kept.
    let repaired = decisions
        .iter()
        .find(|one| {
            one["details"]["imported_from"].as_str().unwrap().contains("charging_decision_20250917_123809")
        })
        .expect("the decision");
    assert_eq!(repaired["estimated_cost"], 2.6816);
    assert_eq!(repaired["repairs"][0]["original"], 0.00268);
    // A false zero of a night is missing, and its original is kept.
    let zeros: Vec<String> = rows(&server, "import_repairs")
        .into_iter()
        .filter(|row| row.contains("current_data_20251207_230000") && row.contains("false_zero"))
        .collect();
    assert_eq!(zeros.len(), 2, "{zeros:#?}");
    let unit = server.get("/api/v1/measurements/energy_data?db=wattlog").to_string();
    assert!(unit.contains("\"W\"") && unit.contains("\"kWh\""), "{unit}");
    assert!(server.stop().success());
}

#[test]
fn the_25_hour_day_has_the_right_instants() {
    let Some(folder) = shared("optimiser-json/dst") else { return };
    let home = Home::new();
    let (code, report) = home.import(&folder, &["--device", "roof"]);
    // The list of instants beside it is none of the optimiser's files.
    assert_eq!(report["read"]["kinds"]["reading"]["kept"], 300, "{code}");
    let expected: Vec<String> =
        serde_json::from_slice(&std::fs::read(folder.join("expected_utc.json")).unwrap()).unwrap();
    let mut expected: Vec<i64> = expected.iter().map(|text| utc(text).0).collect();
    expected.sort_unstable();
    let server = home.serve();
    let mut got: Vec<i64> = rows(&server, "energy_data").iter().map(|row| Row::of(row).time_ns).collect();
    got.sort_unstable();
    assert_eq!(got, expected);
    assert!(server.stop().success());
}

#[test]
fn the_real_store_and_the_real_decisions_are_whole() {
    let Some(folder) = shared("optimiser-json/real") else { return };
    let home = Home::new();
    let (code, report) = home.import(&folder, &["--validate"]);
    assert_eq!(code, 65, "the list of sensors is cut off");
    assert_eq!(report["validation"]["differences"], serde_json::json!([]));
    let store = file(&report, "goodwe_energy_2025-09-17_2025-10-15.db");
    assert_eq!(
        (store["kinds"]["decision"]["kept"].as_u64(), store["kinds"]["reading"]["kept"].as_u64()),
        (Some(1565), Some(3))
    );
    assert_eq!(store["repairs"].get("price_scale"), None, "no price of the store was wrong");
    let lines = file(&report, "decisions_2025-09-17_2025-11-09.jsonl");
    assert_eq!(lines["kinds"]["decision"]["read"], 3901);
    assert_eq!(lines["repairs"]["price_scale"], 2);
    let hole = &report["read"]["holes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hole| hole["kind"] == "decision")
        .expect("a hole")
        .clone();
    let days = (hole["to"].as_i64().unwrap() - hole["from"].as_i64().unwrap()) as f64 / 86_400e9;
    assert!((11.3..11.5).contains(&days), "{days} days: {hole}");

    let server = home.serve();
    let decisions = records(&server, "decisions");
    assert_eq!(decisions.len(), 3901, "the store holds the first 1565 of them");
    let mut wrong: Vec<(&str, f64)> = decisions
        .iter()
        .filter(|one| one["repairs"].as_array().unwrap().iter().any(|repair| repair["rule"] == "price_scale"))
        .map(|one| (one["at"].as_str().unwrap(), one["price_kwh"].as_f64().unwrap()))
        .collect();
    wrong.sort_by(|a, b| a.0.cmp(b.0));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].0.starts_with("2025-10-26T10:04") && (wrong[0].1 - 0.44995).abs() < 1e-9, "{wrong:?}");
    assert!(wrong[1].0.starts_with("2025-10-27T04:18") && (wrong[1].1 - 0.16211).abs() < 1e-9, "{wrong:?}");
    let prices = decisions.iter().filter(|one| one["price_kwh"].is_number()).count();
    assert_eq!(rows(&server, "tariff_prices").len(), prices);
    let readings =
        rows(&server, "energy_data").into_iter().filter(|row| row.contains("\"migration\"")).count();
    assert_eq!(readings, 3);
    let moments = records(&server, "sessions");
    assert_eq!(moments.len(), 3);
    assert!(moments.iter().all(|one| one["details"]["only_a_moment"] == true && one["start"] == one["end"]));
    assert!(server.stop().success());
}
