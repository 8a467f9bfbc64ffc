//! The optimiser's own files, real and made up, give what `expected.json` and its history say. Skipped without them.

mod support;

use serde_json::Value;
use std::fs;
use support::{Migrated, migrate, shared, utc};
use wattlog_migrate::{Basis, Body, Kind, Origin, Record, Rule};
use wattlog_model::{FieldValue, Timestamp};

fn at(record: &Record) -> Timestamp {
    match &record.body {
        Body::Reading(reading) => reading.at,
        Body::Decision(decision) => decision.at,
        Body::Session(session) => session.start,
        other => panic!("no time: {other:?}"),
    }
}

fn decision<'a>(migrated: &'a Migrated, file: &'a str) -> &'a wattlog_migrate::Decision {
    match &migrated.of_file(file).next().unwrap_or_else(|| panic!("{file} gives a decision")).body {
        Body::Decision(decision) => decision,
        other => panic!("{other:?}"),
    }
}

/// Records in the sense of `expected.json`: the reading inside a state and the plan around sessions are not counted.
fn records(migrated: &Migrated, name: &str) -> u64 {
    let kinds = &migrated.file(name).kinds;
    let read = |kind| kinds.get(&kind).map_or(0, |counts| counts.read - counts.refused);
    if kinds.contains_key(&Kind::SystemState) {
        read(Kind::SystemState)
    } else if kinds.contains_key(&Kind::DailyPlan) {
        read(Kind::Session)
    } else {
        kinds.keys().map(|kind| read(*kind)).sum()
    }
}

#[test]
fn every_made_up_file_gives_the_records_that_are_expected_of_it() {
    let Some(folder) = shared("synthetic") else { return };
    let migrated = migrate(&folder, None);
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= 34, "{} files", expected.len());
    for (name, expectation) in expected {
        let number = |key: &str| expectation.get(key).and_then(Value::as_u64);
        let wanted =
            number("records").or_else(|| number("records_recoverable")).expect("a number of records");
        assert_eq!(records(&migrated, name), wanted, "{name}: {:?}", migrated.file(name));
        let kept: u64 = migrated.file(name).kinds.values().map(|counts| counts.kept).sum();
        if let Some(new) = number("new_records").or_else(|| number("distinct")) {
            assert_eq!(kept, new, "{name} keeps");
        }
        if let Some(cost) = expectation.get("cost_should_be").and_then(Value::as_f64) {
            assert_eq!(decision(&migrated, name).estimated_cost_pln, Some(cost), "{name}");
        }
    }
    let scaled = decision(&migrated, "out/energy_data/charging_decision_20251113_230000.json");
    assert_eq!(scaled.price_pln_kwh, Some(0.16939));
    let read: Vec<&String> = migrated
        .report
        .files
        .iter()
        .map(|file| &file.file)
        .filter(|file| !expected.contains_key(*file))
        .collect();
    assert!(read.is_empty(), "read without being expected: {read:?}");
}

#[test]
fn what_is_damaged_is_refused_with_its_place() {
    let Some(folder) = shared("synthetic") else { return };
    let migrated = migrate(&folder, None);
    let mut told: Vec<String> = migrated
        .out
        .refusals
        .iter()
        .map(|refusal| format!("{}: {}", refusal.position, refusal.reason))
        .collect();
    told.sort();
    let starts = [
        "out/charging_decision_20251209.json, line 2 (byte ",
        "out/energy_data/empty_object.json, line 1 (byte 0), record 0: not a file of the optimiser: an empty object",
        "out/energy_data/energy_data_2025-12-04.json, line ",
        "out/multi_session_data/daily_plan_20250917.json, line ",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told} should start with {start}");
    }
}

#[test]
fn missing_values_of_the_night_are_missing() {
    let Some(folder) = shared("synthetic") else { return };
    let migrated = migrate(&folder, None);
    let record =
        migrated.of_file("out/energy_data/current_data_20251207_230000.json").next().expect("the reading");
    let Body::Reading(reading) = &record.body else { panic!("{record:?}") };
    let names: Vec<&str> = reading.fields.iter().map(|(name, _)| *name).collect();
    for missing in ["battery_soc", "battery_voltage", "battery_power", "battery_temp", "grid_power"] {
        assert!(!names.contains(&missing), "{missing} in {names:?}");
    }
    assert!(reading.fields.contains(&("pv_power", FieldValue::Float(1000.0))));
    let zeros: Vec<&str> =
        record.repairs.iter().filter(|r| r.rule == Rule::FalseZero).map(|r| r.field.as_str()).collect();
    assert_eq!(zeros, ["battery_power", "grid_power"]);
}

#[test]
fn readings_of_the_25_hour_day_have_the_right_instants() {
    let Some(folder) = shared("dst") else { return };
    let migrated = migrate(&folder, None);
    let expected: Vec<String> =
        serde_json::from_slice(&fs::read(folder.join("expected_utc.json")).unwrap()).unwrap();
    let got: Vec<Timestamp> = migrated.of_kind(Kind::Reading).map(at).collect();
    let expected: Vec<Timestamp> = expected.iter().map(|text| utc(text)).collect();
    assert_eq!(got.len(), 300);
    assert_eq!(got, expected);
    assert!(!migrated.report.repairs.contains_key(&Rule::FirstPassAssumed));
}

#[test]
fn the_real_store_gives_all_rows_and_its_hole() {
    let Some(folder) = shared("real") else { return };
    let migrated = migrate(&folder, None);
    let store = migrated.file("goodwe_energy_2025-09-17_2025-10-15.db");
    assert_eq!((store.kept(Kind::Decision), store.kept(Kind::Reading)), (1565, 3));
    assert_eq!(store.refused(), 0);
    assert!(!store.repairs.contains_key(&Rule::PriceScale), "{:?}", store.repairs);
    let of_store = |record: &&Record| record.origin == Origin::Store;
    let mut times: Vec<Timestamp> = migrated.of_kind(Kind::Decision).filter(of_store).map(at).collect();
    times.sort();
    assert_eq!(times[0], utc("2025-09-17T10:22:31.032154Z"));
    let hole = migrated
        .report
        .holes
        .iter()
        .filter(|hole| hole.kind == Kind::Decision)
        .max_by_key(|hole| hole.to.0 - hole.from.0);
    let hole = hole.expect("the hole of September");
    let days = (hole.to.0 - hole.from.0) as f64 / 86_400e9;
    assert!((11.3..11.5).contains(&days), "{days} days, {hole:?}");
    assert!(hole.to < utc("2025-09-29T00:00:00Z"));
}

#[test]
fn the_real_decisions_hold_exactly_two_wrong_prices_of_their_time() {
    let Some(folder) = shared("real") else { return };
    let migrated = migrate(&folder, None);
    let lines = "decisions_2025-09-17_2025-11-09.jsonl";
    let counts = migrated.file(lines).kinds[&Kind::Decision];
    assert_eq!(
        (counts.read, counts.duplicate, counts.refused),
        (3901, 1565, 0),
        "the store holds the first 1565"
    );
    let repaired: Vec<(Timestamp, f64)> = migrated
        .of_kind(Kind::Decision)
        .flat_map(|record| record.repairs.iter().map(move |repair| (record, repair)))
        .filter(|(_, repair)| repair.rule == Rule::PriceScale)
        .map(|(record, repair)| (at(record), repair.original.as_f64().unwrap()))
        .map(|(at, original)| {
            (Timestamp(at.0 - at.0.rem_euclid(60_000_000_000)), (original * 1e4).round() / 1e4)
        })
        .collect();
    // 11:04 and 05:18 local, after the clocks went back.
    assert_eq!(repaired, [(utc("2025-10-26T10:04:00Z"), 4.5958), (utc("2025-10-27T04:18:00Z"), -1.8259)]);
}

#[test]
fn prices_after_repair_have_the_medians_that_are_known() {
    let Some(folder) = shared("real") else { return };
    let migrated = migrate(&folder, None);
    let (from, to) = (utc("2025-09-30T22:00:00Z"), utc("2025-10-31T23:00:00Z"));
    let mut prices: Vec<f64> = migrated
        .of_kind(Kind::Decision)
        .filter_map(|record| match &record.body {
            Body::Decision(decision) if (from..to).contains(&decision.at) => decision.price_pln_kwh,
            _ => None,
        })
        .collect();
    prices.sort_by(f64::total_cmp);
    let median = prices[prices.len() / 2];
    assert!((median - 0.568).abs() < 0.002, "October 2025: {median} of {}", prices.len());
    assert!(
        prices[0] > 0.07 && prices[prices.len() - 1] < 2.5,
        "{} to {}",
        prices[0],
        prices[prices.len() - 1]
    );
}

#[test]
fn the_tracker_and_the_analysis_and_the_broken_sensor_list_are_known_for_what_they_are() {
    let Some(folder) = shared("real") else { return };
    let migrated = migrate(&folder, None);
    let sessions: Vec<&Record> = migrated.of_file("partial_charging_sessions.json").collect();
    assert_eq!(sessions.len(), 3);
    assert_eq!(at(sessions[0]), utc("2025-11-26T18:28:26.051202Z"));
    let Body::Session(session) = &sessions[0].body else { panic!("{sessions:?}") };
    assert_eq!((session.energy_is, session.end), (Basis::Absent, None));

    let schedule = migrated.of_kind(Kind::PriceSchedule).next().expect("the analysis");
    let Body::PriceSchedule(schedule) = &schedule.body else { panic!("{schedule:?}") };
    assert_eq!(schedule.windows[0].average_price_pln_mwh, Some(227.22));
    assert_eq!(schedule.windows[0].start, utc("2025-08-31T09:15:00Z"));

    let sensors = migrated.file("sensor_investigation.truncated.json");
    assert!(sensors.kinds.is_empty() && sensors.unread == 1, "{sensors:?}");
    let refusal = migrated
        .out
        .refusals
        .iter()
        .find(|refusal| refusal.position.file.starts_with("sensor"))
        .expect("a refusal");
    assert!(refusal.reason.contains("cut off") && refusal.reason.contains("list of sensors"), "{refusal:?}");
}

#[test]
fn a_cut_of_any_file_gives_records_of_the_whole_one_and_no_others() {
    let Some(folder) = shared("synthetic") else { return };
    let whole = migrate(&folder, None);
    for file in &whole.tree.files {
        let bytes = fs::read(&file.path).unwrap();
        // A file with its own records alone: duplicates of other files count as its own here.
        let lone = cut_copy(&file.name, &bytes);
        let all: Vec<(&str, &Body)> =
            lone.out.records.iter().map(|record| (record.key.as_str(), &record.body)).collect();
        let mut before = 0;
        let step = (bytes.len() / 40).max(1);
        for end in (0..bytes.len()).step_by(step) {
            let cut = cut_copy(&file.name, &bytes[..end]);
            for record in &cut.out.records {
                let same = all.contains(&(record.key.as_str(), &record.body));
                let plan = matches!(record.body, Body::DailyPlan(_));
                // Of records that replace each other in the file, the cut may hold the earlier.
                let replaced = lone.report.kinds.values().any(|counts| counts.replaced > 0);
                assert!(same || plan || replaced, "{} cut at {end} makes up {record:?}", file.name);
            }
            let kept: u64 = cut.report.kinds.values().map(|counts| counts.read - counts.refused).sum();
            assert!(
                kept >= before || file.name.ends_with(".gz"),
                "{} cut at {end} loses whole records",
                file.name
            );
            before = kept;
        }
    }
}

fn cut_copy(name: &str, bytes: &[u8]) -> Migrated {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    migrate(folder.path(), None)
}
