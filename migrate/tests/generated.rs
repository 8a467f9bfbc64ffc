//! A tree of every era, every damaged form and a live store gives exactly what was put into it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use support::generator::make;
use support::{Migrated, migrate, migrate_with, utc};
use wattlog_migrate::{Body, Hole, Kind, Options, Rule};
use wattlog_model::FieldValue;

fn migrated(seed: u64) -> (support::generator::Made, Migrated, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = make(folder.path(), seed);
    let migrated = migrate(folder.path(), None);
    (made, migrated, folder)
}

#[test]
fn every_file_gives_what_was_written_into_it() {
    for seed in [1, 2, 3] {
        let (made, migrated, _folder) = migrated(seed);
        for (name, expected) in &made.files {
            let file = migrated.file(name);
            let read: BTreeMap<Kind, u64> =
                file.kinds.iter().map(|(kind, counts)| (*kind, counts.read)).collect();
            let kept: BTreeMap<Kind, u64> =
                file.kinds.iter().map(|(kind, counts)| (*kind, counts.kept)).collect();
            let about = format!("{name} (seed {seed}): {:?}", migrated.out.refusals);
            assert_eq!(read, expected.read, "read of {about}");
            assert_eq!(kept, expected.kept, "kept of {about}");
            assert_eq!(file.unread, expected.unread, "places that are no record in {about}");
            assert_eq!(file.repairs, expected.repairs, "repairs of {about}");
        }
        let read: Vec<&str> = migrated.report.files.iter().map(|file| file.file.as_str()).collect();
        assert!(read.iter().all(|name| made.files.contains_key(*name)), "nothing else is read: {read:?}");
    }
}

#[test]
fn the_readings_are_those_that_were_made_to_the_instant_and_the_watt() {
    let (made, migrated, _folder) = migrated(7);
    let mut got = BTreeMap::new();
    for record in migrated.of_kind(Kind::Reading) {
        let Body::Reading(reading) = &record.body else { unreachable!("asked for readings") };
        let pv = reading.fields.iter().find(|(name, _)| *name == "pv_power");
        let Some((_, FieldValue::Float(pv))) = pv else { continue };
        got.insert(record.key.clone(), *pv as i64);
    }
    assert_eq!(got, made.readings);
}

#[test]
fn the_decisions_are_those_that_were_made() {
    let (made, migrated, _folder) = migrated(7);
    let got: std::collections::BTreeSet<String> =
        migrated.of_kind(Kind::Decision).map(|record| record.key.clone()).collect();
    assert_eq!(got, made.decisions);
}

#[test]
fn repairs_carry_the_original_and_the_new_value() {
    let (_, migrated, _folder) = migrated(1);
    let name = "out/energy_data/charging_decision_20250917_123809.json";
    let record = migrated.of_file(name).next().expect("the decision");
    let Body::Decision(decision) = &record.body else { panic!("{record:?}") };
    assert_eq!(decision.estimated_cost_pln, Some(2.6816));
    let repair = &record.repairs[0];
    assert_eq!((repair.rule, repair.field.as_str()), (Rule::CostScale, "estimated_cost_pln"));
    assert_eq!((&repair.original, &repair.repaired), (&0.00268.into(), &2.6816.into()));
    // The battery's totals stood under each other's name.
    let stats = migrated.of_kind(Kind::DailyStats).next().expect("the statistics");
    let Body::DailyStats(stats) = &stats.body else { panic!("{stats:?}") };
    assert_eq!(stats.battery["total_charge_kwh"], 1.7);
    assert_eq!(stats.grid["total_import_kwh"], 0.1);
    assert_eq!(stats.grid["net_consumption"], -0.3);
    let record = migrated.of_kind(Kind::DailyStats).next().expect("the statistics");
    let net = record.repairs.iter().find(|repair| repair.field == "grid/net_consumption").expect("a repair");
    assert_eq!((&net.original, &net.repaired), (&0.3.into(), &(-0.3).into()));
    assert_eq!(
        (stats.started_on.to_string(), stats.saved_on.unwrap().to_string()),
        ("2025-09-17".into(), "2025-09-18".into())
    );
}

#[test]
fn a_second_reading_of_the_same_tree_gives_the_same_keys_and_records() {
    let (_, first, folder) = migrated(5);
    let second = migrate(folder.path(), None);
    assert_eq!(first.out, second.out);
    assert_eq!(first.report, second.report);
    let mut keys: Vec<&str> = first
        .out
        .records
        .iter()
        .filter(|record| !record.supersedes)
        .map(|record| record.key.as_str())
        .collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "a key comes twice only if it supersedes");
}

#[test]
fn the_original_store_and_its_log_are_not_touched() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let data = folder.path().join("data");
    let look = || {
        let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = look();
    migrate(folder.path(), None);
    assert_eq!(before, look());
}

#[test]
fn without_its_log_the_store_lacks_the_rows_that_lived_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    fs::remove_file(folder.path().join("data/goodwe_energy.db-wal")).unwrap();
    let migrated = migrate(folder.path(), None);
    let file = migrated.file("data/goodwe_energy.db");
    assert_eq!((file.kept(Kind::Reading), file.kept(Kind::Decision)), (4, 0));
}

#[test]
fn a_store_of_an_older_schema_lacks_columns_and_no_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let store = folder.path().join("data/goodwe_energy.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&store);
        let mut store = sqlx::sqlite::SqliteConnection::connect_with(&options).await.unwrap();
        for sql in [
            "ALTER TABLE energy_data DROP COLUMN tariff_zone",
            "ALTER TABLE energy_data DROP COLUMN pv_generation_total_kwh",
            "ALTER TABLE energy_data ADD COLUMN added_later TEXT",
            "DROP TABLE schema_version",
            "DROP TABLE weather_data",
            "CREATE VIEW weather_data AS SELECT 1 AS timestamp",
            // It would never end.
            "CREATE VIEW schema_version AS WITH RECURSIVE n(version) AS (SELECT 1 UNION ALL SELECT version + 1 FROM n) \
             SELECT version FROM n",
        ] {
            sqlx::query(sql).execute(&mut store).await.unwrap();
        }
        store.close().await.unwrap();
    });
    let migrated = migrate(folder.path(), None);
    let file = migrated.file("data/goodwe_energy.db");
    assert_eq!((file.kept(Kind::Reading), file.kept(Kind::Decision), file.kept(Kind::Weather)), (9, 5, 0));
    assert_eq!(file.unknown_keys.get("energy_data.added_later"), Some(&1));
    assert_eq!(file.shapes.keys().collect::<Vec<_>>(), ["store, schema not told"]);
    assert!(migrated.out.refusals.iter().any(|refusal| refusal.reason == "no plain table: not read"));
}

#[test]
fn a_store_outside_the_folder_is_read_before_the_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let migrated = migrate(&folder.path().join("out"), Some(&folder.path().join("data/goodwe_energy.db")));
    assert_eq!(&*migrated.tree.files[0].name, "goodwe_energy.db");
    let same = migrate(folder.path(), Some(&folder.path().join("data/goodwe_energy.db")));
    assert_eq!(same.tree.files.iter().filter(|file| file.name.ends_with(".db")).count(), 1);
}

#[test]
fn holes_between_decisions_are_told_longest_first() {
    let (_, migrated, _folder) = migrated(1);
    let hole = migrated.report.holes.iter().find(|hole| hole.kind == Kind::Decision).expect("a hole");
    let days = |hole: &Hole| (hole.to.0 - hole.from.0) as f64 / 86_400e9;
    assert!(days(hole) > 30.0, "{hole:?}");
    assert!(migrated.report.holes.windows(2).all(|pair| days(&pair[0]) >= days(&pair[1])));
    assert!(migrated.report.holes.iter().all(|hole| days(hole) >= 2.0 / 24.0));
}

#[test]
fn links_and_foreign_names_are_skipped_with_a_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    fs::write(elsewhere.path().join("current_data_1.json"), "{}").unwrap();
    fs::write(folder.path().join("package.json"), "{}").unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".git/current_data_2.json"), "{}").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
    let mut options = Options::new(support::DEVICE);
    options.limits.json_file_bytes = 100;
    fs::write(folder.path().join("current_data_3.json"), vec![b' '; 101]).unwrap();
    let migrated = migrate_with(folder.path(), None, options);
    assert!(migrated.tree.files.is_empty(), "{:?}", migrated.tree.files);
    let skipped: Vec<&str> = migrated.tree.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
    #[cfg(unix)]
    assert_eq!(skipped, ["current_data_3.json", "linked", "package.json"]);
    assert!(migrated.tree.skipped[0].reason.contains("json_file_bytes"));
}

#[test]
fn an_archive_that_grows_beyond_the_limit_is_refused() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(&vec![b' '; 1 << 20]).unwrap();
    fs::write(folder.path().join("energy_data_2025-12-09.json.gz"), gz.finish().unwrap()).unwrap();
    let mut options = Options::new(support::DEVICE);
    options.limits.json_file_bytes = 1 << 16;
    let migrated = migrate_with(folder.path(), None, options);
    assert_eq!(migrated.out.refusals.len(), 1);
    assert!(migrated.out.refusals[0].reason.contains("json_file_bytes"), "{:?}", migrated.out.refusals);
}

#[test]
fn a_reading_of_the_second_pass_keeps_it_in_every_dump() {
    let (_, migrated, _folder) = migrated(1);
    let second = migrated.file("out/energy_data/historical_data_20251026_021500.json");
    assert_eq!(second.kinds[&Kind::Reading].duplicate, 8, "{second:?}");
    let at = |record: &wattlog_migrate::Record| match &record.body {
        Body::Reading(reading) => reading.at,
        other => panic!("{other:?}"),
    };
    let dump = migrated.of_file("out/energy_data/historical_data_20251026_021000.json").map(at);
    let pass = dump.filter(|at| *at >= utc("2025-10-26T01:00:00Z")).count();
    assert_eq!(pass, 10);
    let new = migrated.of_file("out/energy_data/historical_data_20251026_021500.json").map(at);
    assert!(
        new.into_iter().all(|at| at >= utc("2025-10-26T01:10:00Z")),
        "what follows a known pass is of it"
    );
}

#[test]
fn a_known_pass_is_no_assumption_even_if_the_record_counts_as_new() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 1);
    let mut options = Options::new(support::DEVICE);
    options.limits.remembered_keys = 0;
    let migrated = migrate_with(folder.path(), None, options);
    let name = "out/energy_data/historical_data_20251026_021500.json";
    assert_eq!(migrated.file(name).kept(Kind::Reading), 13, "nothing is remembered");
    assert!(migrated.file(name).repairs.is_empty(), "{:?}", migrated.file(name));
}

#[test]
fn columns_of_the_store_count_before_members_of_their_name() {
    let (_, migrated, _folder) = migrated(1);
    let mut seen = 0;
    for record in migrated.of_file("data/goodwe_energy.db") {
        let Body::Decision(decision) = &record.body else { continue };
        assert_eq!(decision.action.as_deref(), Some("wait"));
        seen += 1;
    }
    assert_eq!(seen, 5);
    let shapes = &migrated.file("data/goodwe_energy.db").shapes;
    assert_eq!(shapes.keys().collect::<Vec<_>>(), ["store, schema 4"]);
}

#[test]
fn a_later_file_with_another_value_supersedes_and_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, power) in [("a/energy_data_2025-12-02.json", 5), ("b/energy_data_2025-12-02.json", 6)] {
        fs::create_dir(folder.path().join(&name[..1])).unwrap();
        let text = format!("[{{\"timestamp\": \"2025-12-02T22:40:40\", \"pv_power\": {power}}}]");
        fs::write(folder.path().join(name), text).unwrap();
    }
    let migrated = migrate(folder.path(), None);
    let told: Vec<bool> = migrated.out.records.iter().map(|record| record.supersedes).collect();
    assert_eq!(told, [false, true]);
    assert_eq!(migrated.out.records[0].key, migrated.out.records[1].key);
    let counts = migrated.report.kinds[&Kind::Reading];
    assert_eq!((counts.kept, counts.superseding), (2, 1));
}

#[test]
fn a_price_of_a_session_is_of_numbers_of_one_kind() {
    let session = |members: &str| {
        let text = format!("{{\"session_id\": \"s\", \"start_time\": \"2025-12-12T01:15:00\", {members}}}");
        let migrated = of_one("out/charging_schedule_2025-12-12.json", &text);
        let Body::Session(session) = migrated.out.records[0].body.clone() else { panic!("no session") };
        (session.energy_kwh, session.amount_pln, session.average_price_pln_kwh)
    };
    let planned = r#""target_energy_kwh": 6.0, "estimated_cost_pln": 3.0"#;
    assert_eq!(session(planned), (Some(6.0), Some(3.0), Some(0.5)));
    let done = format!(r#"{planned}, "actual_energy_kwh": 5.0, "actual_cost_pln": 2.0"#);
    assert_eq!(session(&done), (Some(5.0), Some(2.0), Some(0.4)));
    let half = format!(r#"{planned}, "actual_energy_kwh": 5.0"#);
    assert_eq!(session(&half), (Some(5.0), Some(3.0), None));
}

#[test]
fn a_number_that_is_none_is_told_with_the_record_it_stands_in() {
    let migrated = of_one(
        "out/multi_session_data/daily_plan_20251212.json",
        r#"{"date": "2025-12-12", "sessions": [{"session_id": "s", "start_time": "2025-12-12 01:15:00", "priority": NaN}]}"#,
    );
    let marks: Vec<(Kind, Vec<&str>)> = migrated
        .out
        .records
        .iter()
        .map(|r| (r.body.kind(), r.repairs.iter().map(|repair| repair.field.as_str()).collect()))
        .collect();
    assert_eq!(marks, [(Kind::DailyPlan, vec![]), (Kind::Session, vec!["priority"])]);
}

#[test]
fn a_day_at_one_charge_keeps_its_extremes() {
    let migrated = of_one(
        "out/energy_data/daily_stats_20251212.json",
        r#"{"date": "2025-12-12", "pv_production": {}, "battery": {"min_soc": 60, "max_soc": 60}}"#,
    );
    let Body::DailyStats(stats) = &migrated.out.records[0].body else { panic!("no statistics") };
    assert_eq!(stats.battery["min_soc"], 60);
    assert!(migrated.out.records[0].repairs.is_empty());
}

fn of_one(name: &str, text: &str) -> Migrated {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    migrate(folder.path(), None)
}

#[test]
fn prices_below_zero_that_the_history_left_out_are_holes() {
    let migrated = of_one(
        "data/price_history.json",
        r#"[["2025-06-01T12:15:00", 0.01], ["2025-06-01T12:30:00", 0.002], ["2025-06-01T13:15:00", 0.003]]"#,
    );
    let expected =
        Hole { kind: Kind::MarketPrice, from: utc("2025-06-01T10:15:00Z"), to: utc("2025-06-01T11:00:00Z") };
    assert_eq!(migrated.report.holes, [expected]);
}

#[test]
fn a_total_price_of_a_first_start_is_no_market_price() {
    // Stored as market prices they had selling component and distribution added twice by whoever fell back on them.
    let migrated = of_one(
        "data/price_history.json",
        r#"[["2025-12-02T10:07:31.123456", 0.5391], ["2025-12-02T10:15:00.000001", 0.5812],
            ["2025-12-02T10:15:00", 0.31], ["2025-12-02 10:30", 0.32], ["2025-12-02T10:38:00", 0.6]]"#,
    );
    let starts: Vec<_> = migrated
        .of_kind(Kind::MarketPrice)
        .map(|record| match &record.body {
            Body::MarketPrice(price) => (price.start, price.price_pln_kwh),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(starts, [(utc("2025-12-02T09:00:00Z"), 0.31), (utc("2025-12-02T09:15:00Z"), 0.32)]);
    let counts = migrated.report.kinds[&Kind::MarketPrice];
    assert_eq!((counts.read, counts.kept, counts.refused), (5, 2, 3));
    let told: Vec<(u64, &str)> =
        migrated.out.refusals.iter().map(|one| (one.position.record, one.reason.as_str())).collect();
    let reason = "ends no quarter of an hour: the total price of a decision, and no market price";
    assert_eq!(told.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [0, 1, 4], "{told:?}");
    assert!(told.iter().all(|(_, told)| told.ends_with(reason)), "{told:?}");
    assert!(migrated.out.refusals.iter().all(|one| &*one.position.file == "data/price_history.json"));
}

#[test]
fn a_history_fetched_twice_on_the_25_hour_day_keeps_both_passes() {
    let hours = [0, 1, 2, 2, 3].map(|hour| [0, 15, 30, 45].map(|minute| format!("{hour:02}:{minute:02}")));
    let quarters: Vec<String> = hours.into_iter().flatten().collect();
    let once = |offset: f64| {
        let pair = |(index, time): (usize, &String)| {
            format!("[\"2025-10-26T{time}:00\", {}]", offset + index as f64 / 100.0)
        };
        quarters.iter().enumerate().map(pair).collect::<Vec<_>>().join(", ")
    };
    let migrated = of_one("data/price_history.json", &format!("[{}, {}]", once(0.1), once(0.1)));
    let counts = migrated.report.kinds[&Kind::MarketPrice];
    assert_eq!((counts.read, counts.kept, counts.duplicate), (40, 20, 20));
    assert!(migrated.report.holes.is_empty(), "{:?}", migrated.report.holes);
    assert!(!migrated.report.repairs.contains_key(&Rule::FirstPassAssumed));
}

#[test]
fn the_later_adapters_names_are_known_and_what_is_not_is_counted() {
    let migrated = of_one(
        "out/energy_data/current_data_20260108_120000.json",
        r#"{"timestamp": "2026-01-08T12:00:00", "battery": {"soc_percent": 50, "health": 99},
            "photovoltaic": {"daily_generation_kwh": 3.5, "string1_power_w": 700, "string3_power_w": -1},
            "grid": {"current_power_w": -20, "daily_import_kwh": 1.5, "frequency": 50.01, "phase1_current_a": 1.5},
            "inverter": {"model": "GW10KN-ET", "serial": "a serial number", "temperature": 41.5, "status": "ok"},
            "daily_totals": {"pv": 1}, "note": "x"}"#,
    );
    let record = &migrated.out.records[0];
    let Body::Reading(reading) = &record.body else { panic!("{record:?}") };
    let expected: Vec<(&str, FieldValue)> = [
        ("ac_current_l1", 1.5),
        ("ac_frequency_l1", 50.01),
        ("ac_import_energy_today", 1.5),
        ("battery_soc", 50.0),
        ("grid_power", -20.0),
        ("inverter_temp", 41.5),
        ("pv1_power", 700.0),
        ("pv_energy_today", 3.5),
    ]
    .map(|(name, number)| (name, FieldValue::Float(number)))
    .into();
    assert_eq!(reading.fields, expected);
    // A serial number has no spaces: the configured device it is, and that is told.
    assert_eq!(reading.device, support::DEVICE);
    let rules: Vec<Rule> = record.repairs.iter().map(|repair| repair.rule).collect();
    assert_eq!(rules, [Rule::NoData, Rule::OutOfRange]);
    let unknown: Vec<&str> = migrated.report.files[0].unknown_keys.keys().map(String::as_str).collect();
    assert_eq!(unknown, ["battery/health", "daily_totals/pv", "note"]);
}

#[test]
fn the_device_is_found_in_the_first_reading_that_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let limits = wattlog_migrate::Limits::default();
    let device = |folder: &std::path::Path| {
        let tree = wattlog_migrate::Tree::scan(folder, None, &limits).unwrap();
        wattlog_migrate::find_device(&tree, &limits)
    };
    assert_eq!(device(folder.path()).as_deref(), Some(support::DEVICE));
    assert_eq!(
        device(&folder.path().join("out/zz_state")).as_deref(),
        Some(support::DEVICE),
        "inside a state"
    );
    assert_eq!(device(&folder.path().join("data")), None);
}

#[test]
fn a_migration_can_be_a_task_of_its_own() {
    fn task<T: Send + 'static>(task: T) -> T {
        task
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let options = Options::new(support::DEVICE);
    let tree = wattlog_migrate::Tree::scan(folder.path(), None, &options.limits).unwrap();
    let work = task(async move {
        let mut context = wattlog_migrate::Context::new(options);
        let mut out = wattlog_migrate::Collected::default();
        for file in &tree.files {
            wattlog_migrate::read_file(file, &mut context, &mut out).await.unwrap();
        }
        out.records.len()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let count = runtime.block_on(runtime.spawn(work)).unwrap();
    assert_eq!(count, migrate(folder.path(), None).out.records.len());
}

#[test]
fn what_stood_beside_the_reading_stays_with_the_state() {
    let migrated = of_one(
        "out/coordinator_state_20251203.json",
        r#"{"timestamp": "2025-12-03T01:00:00", "state": "error", "current_data": {"timestamp": "2025-12-03T00:59:00",
            "battery": {"soc_percent": 0, "voltage": 0.0, "current": 0.0, "power_w": 0},
            "weather": {"temperature": NaN, "source": "IMGW"}}, "performance_metrics": {}}"#,
    );
    let state = migrated.of_kind(Kind::SystemState).next().expect("the state");
    let Body::SystemState(body) = &state.body else { panic!("{state:?}") };
    assert_eq!(body.rest["weather"]["source"], "IMGW");
    assert!(state.repairs.is_empty(), "what is wrong inside the reading is told with the reading: {state:?}");
    let reading = migrated.of_kind(Kind::Reading).next().expect("the reading");
    // Zeros of a battery that answers nothing are missing; its power is what it is.
    let Body::Reading(body) = &reading.body else { panic!("{reading:?}") };
    assert_eq!(body.fields, [("battery_power", FieldValue::Float(0.0))]);
    let rules: Vec<Rule> = reading.repairs.iter().map(|repair| repair.rule).collect();
    assert_eq!(rules, [Rule::NotFinite, Rule::FalseZero, Rule::FalseZero, Rule::FalseZero]);
}

#[test]
fn a_report_and_a_record_can_be_written_down_and_the_report_read_again() {
    let (_, migrated, _folder) = migrated(9);
    let text = serde_json::to_string(&migrated.report).unwrap();
    assert_eq!(serde_json::from_str::<wattlog_migrate::Report>(&text).unwrap(), migrated.report);
    for record in &migrated.out.records {
        let value = serde_json::to_value(record).unwrap();
        assert_eq!(value["key"], record.key);
        assert!(value["body"]["kind"].is_string(), "{value}");
    }
}

#[test]
fn an_out_that_is_full_ends_the_migration_with_its_reason() {
    struct Full;
    impl wattlog_migrate::Out for Full {
        fn record(&mut self, _: wattlog_migrate::Record) -> Result<(), wattlog_migrate::OutError> {
            Err("the disk is full".into())
        }
        fn refusal(&mut self, _: wattlog_migrate::Refusal) -> Result<(), wattlog_migrate::OutError> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make(folder.path(), 4);
    let options = Options::new(support::DEVICE);
    let tree = wattlog_migrate::Tree::scan(folder.path(), None, &options.limits).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut context = wattlog_migrate::Context::new(options);
    let error = runtime
        .block_on(wattlog_migrate::read_file(&tree.files[0], &mut context, &mut Full))
        .expect_err("full");
    assert_eq!(error.to_string(), "hand on what was read in data/goodwe_energy.db");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is full");
}

#[test]
fn a_reading_of_the_second_pass_alone_is_the_one_of_the_dump_that_ends_with_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let reading = |time: &str, power: u32| {
        format!(
            r#"{{"timestamp": "2025-10-26T{time}:00.25", "battery": {{"soc_percent": 50}}, "photovoltaic": {{"current_power_w": {power}}}}}"#
        )
    };
    // A minute apart from 02:50 of the first pass to 02:10 of the second.
    let times = (50..60).chain(0..=10).map(|minute| format!("02:{minute:02}"));
    let first = reading("01:59", 1);
    let dump: Vec<String> =
        std::iter::once(first).chain(times.zip(2..).map(|(time, power)| reading(&time, power))).collect();
    let last = dump.last().expect("a reading").clone();
    let dump = format!("[{}]", dump.join(", "));
    let state =
        format!(r#"{{"timestamp": "2025-10-26T02:11:00", "state": "charging", "current_data": {last}}}"#);
    for (name, text) in [
        ("historical_data_20251026_021001.json", &dump),
        ("current_data_20251026_021001.json", &last),
        ("coordinator_state_20251026_021100.json", &state),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let migrated = migrate(folder.path(), None);
    let of_last: Vec<_> = migrated
        .of_kind(Kind::Reading)
        .filter_map(|record| match &record.body {
            Body::Reading(reading) if reading.fields.contains(&("pv_power", FieldValue::Float(22.0))) => {
                Some(reading.at)
            }
            _ => None,
        })
        .collect();
    assert_eq!(of_last, [utc("2025-10-26T01:10:00.25Z")]);
    let counts = migrated.report.kinds[&Kind::Reading];
    assert_eq!((counts.read, counts.kept, counts.duplicate), (24, 22, 2));
    assert_eq!(migrated.file("current_data_20251026_021001.json").repairs, [].into());
}

#[test]
fn the_device_is_found_behind_dumps_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for minute in 0..25 {
        let name = format!("historical_data_20250917_12{minute:02}00.json");
        fs::write(folder.path().join(name), "[").unwrap();
    }
    let limits = wattlog_migrate::Limits::default();
    let device = || {
        let tree = wattlog_migrate::Tree::scan(folder.path(), None, &limits).unwrap();
        wattlog_migrate::find_device(&tree, &limits)
    };
    let named =
        |serial: &str| format!(r#"{{"timestamp": "t", "system": {{"inverter_serial": "{serial}"}}}}"#);
    let state = format!(r#"{{"timestamp": "t", "state": "x", "current_data": {}}}"#, named("OF-A-STATE"));
    fs::write(folder.path().join("coordinator_state_20250917_130000.json"), state).unwrap();
    assert_eq!(device().as_deref(), Some("OF-A-STATE"));
    fs::write(folder.path().join("current_data_20250917_130000.json"), named("OF-A-READING")).unwrap();
    assert_eq!(device().as_deref(), Some("OF-A-READING"), "single readings come first");
}

#[test]
fn two_records_of_one_instant_in_a_file_are_one_reading_with_the_fields_of_both() {
    let record = |members: &str| format!(r#"{{"timestamp": "2025-12-02T22:40:40", {members}}}"#);
    let list = |records: &[String]| {
        let migrated =
            of_one("out/energy_data/energy_data_2025-12-02.json", &format!("[{}]", records.join(", ")));
        let counts = migrated.report.kinds[&Kind::Reading];
        let [record] = migrated.out.records.as_slice() else { panic!("{:?}", migrated.out.records) };
        let Body::Reading(reading) = &record.body else { panic!("{record:?}") };
        let rules: Vec<Rule> = record.repairs.iter().map(|repair| repair.rule).collect();
        (reading.fields.clone(), rules, (counts.kept, counts.replaced, counts.duplicate))
    };
    let first = record(r#""pv_power": 5, "battery_soc": 60, "grid_voltage": 65535, "battery_power": 65535"#);
    let second = record(r#""pv_power": 6, "battery_power": 7"#);
    let merged = |pv| {
        [("battery_power", 7.0), ("battery_soc", 60.0), ("pv_power", pv)]
            .map(|(name, number)| (name, FieldValue::Float(number)))
            .to_vec()
    };
    // What was wrong with the first one's battery power is of no account any more.
    assert_eq!(list(&[first.clone(), second.clone()]), (merged(6.0), vec![Rule::NoData], (1, 1, 0)));
    let nothing_new = record(r#""battery_soc": 60"#);
    assert_eq!(list(&[first, second, nothing_new]), (merged(6.0), vec![Rule::NoData], (1, 1, 1)));
}
