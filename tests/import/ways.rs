//! Dry runs, comparisons that find something, stores elsewhere, stores in use, and what is refused.

use crate::asked::{Answers, Row, rows};
use crate::{Home, file, made_tree};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Every file below a folder with its bytes.
fn look(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.push((path.display().to_string(), Vec::new()));
                folders.push(path);
            } else {
                all.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_dry_run_writes_nothing_and_tells_the_same() {
    let (tree, _) = made_tree(3);
    let home = Home::new();
    let (source, before) = (look(tree.path()), look(home.path()));
    let (code, dry) = home.import(tree.path(), &["--dry-run"]);
    assert_eq!(look(home.path()), before, "no folder was made");
    assert_eq!(look(tree.path()), source, "the source is only read");
    let (wet_code, wet) = home.import(tree.path(), &[]);
    assert_eq!(look(tree.path()), source, "the source is only read");
    assert_eq!(code, wet_code);
    for part in ["read", "points", "refused", "refusals", "skipped", "device", "tariff"] {
        assert_eq!(dry[part], wet[part], "{part}");
    }
    assert_eq!((dry["dry_run"].clone(), wet["dry_run"].clone()), (json!(true), json!(false)));
    for table in ["decisions", "sessions", "reports"] {
        assert_eq!(dry["records"][table]["stored"], wet["records"][table]["stored"], "{table}");
    }
    // A second dry run does not know what is done, and changes nothing either.
    let before = look(&home.data());
    home.import(tree.path(), &["--dry-run"]);
    assert_eq!(look(&home.data()), before);
}

#[test]
fn a_planted_difference_is_found() {
    let (tree, _) = made_tree(4);
    let home = Home::new();
    home.import(tree.path(), &[]);
    let server = home.serve();
    let rows = rows(&server, "energy_data");
    let row = rows.iter().find(|row| row.contains("\"migration\"") && row.contains("battery_temp")).unwrap();
    let row = Row::of(row);
    let device = row.tags["device_id"].as_str().unwrap();
    let line = format!(
        "energy_data,data_source=migration,device_id={device},location=home battery_temp=99.25 {}",
        row.time_ns
    );
    assert_eq!(server.post("/write?db=wattlog", line.as_bytes()).0, 204);
    let session = crate::asked::records(&server, "sessions").remove(0);
    let request = format!(
        "DELETE /api/v1/sessions/{} HTTP/1.1\r\nHost: x\r\nIf-Match: *\r\nConnection: close\r\n\r\n",
        session["id"]
    );
    let answer = crate::raw(&server.address, &request);
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    assert!(server.stop().success());
    let (code, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!(code, 65);
    let differences: Vec<&str> = report["validation"]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    let found = |word: &str| differences.iter().any(|one| one.contains(word));
    assert!(found("battery_temp") && found("not in the ledger"), "{differences:#?}");
    assert_eq!(differences.len(), 2, "{differences:#?}");
    // What was deleted or overwritten is there again if it is wanted.
    let (_, report) = home.import(tree.path(), &["--validate", "--again"]);
    assert_eq!(report["files_done_before"], 0);
    assert_eq!(report["validation"]["differences"], json!([]));
}

#[test]
fn rows_that_live_only_in_the_log_of_a_store_elsewhere_are_read() {
    let (tree, made) = made_tree(5);
    let home = Home::new();
    let store = tree.path().join("data/goodwe_energy.db");
    assert!(store.with_extension("db-wal").exists(), "the generator leaves a log");
    let (_, report) = home.import(&tree.path().join("out"), &["--db", store.to_str().unwrap()]);
    let told = file(&report, "goodwe_energy.db");
    let expected = &made.files["data/goodwe_energy.db"];
    assert_eq!(
        told["kinds"]["reading"]["kept"].as_u64(),
        expected.kept.get(&wattlog_migrate::Kind::Reading).copied()
    );
    assert_eq!(
        told["kinds"]["decision"]["kept"].as_u64(),
        expected.kept.get(&wattlog_migrate::Kind::Decision).copied()
    );
}

#[test]
fn every_reading_of_a_made_up_tree_can_be_asked_for() {
    let (tree, made) = made_tree(7);
    let home = Home::new();
    home.import(tree.path(), &[]);
    let server = home.serve();
    let mut got = std::collections::BTreeMap::new();
    for row in rows(&server, "energy_data").iter().filter(|row| row.contains("\"migration\"")) {
        let row = Row::of(row);
        let Some(power) = row.fields["pv_power"].as_f64() else { continue };
        let key = format!("reading/{}/{}", row.tags["device_id"].as_str().unwrap(), row.time_ns);
        got.insert(key, power as i64);
    }
    assert!(got == made.readings, "{} of {} readings", got.len(), made.readings.len());
    assert!(server.stop().success());
}

#[test]
fn a_running_server_keeps_its_store_and_says_what_to_do() {
    let (tree, _) = made_tree(6);
    let home = Home::new();
    let server = home.serve();
    let output = home.run(tree.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("stop wattlog, import, start it again"), "{said}");
    // A dry run needs no store.
    assert!(home.run(tree.path(), &["--dry-run"]).status.code().is_some_and(|code| code == 65 || code == 0));
    assert!(server.stop().success());
}

#[test]
fn points_beyond_a_retention_are_told_and_the_rest_is_stored() {
    let (tree, _) = made_tree(6);
    let home = Home::new();
    let config = "databases: { wattlog: { retention: 2d } }\n";
    fs::write(home.path().join("wattlog.yaml"), config).unwrap();
    let (code, report) = home.import(tree.path(), &[]);
    assert_eq!(code, 65);
    let told = report["refusals"].as_array().unwrap();
    assert!(told.iter().any(|one| one["reason"].as_str().unwrap().contains("beyond retention")), "{told:?}");
    assert!(report["records"]["decisions"]["stored"].as_u64().unwrap() > 0, "the ledger has no retention");
    // Their files are not done: the next run tells the same, and another database takes them.
    let (_, again) = home.import(tree.path(), &[]);
    assert_eq!(again["refused"], report["refused"]);
    fs::write(home.path().join("wattlog.yaml"), format!("{config}server: {{ default_database: home }}\n"))
        .unwrap();
    let (_, report) = home.import(tree.path(), &["--validate"]);
    assert!(report["points"]["energy_data"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["validation"]["differences"], json!([]));
}

#[test]
fn a_ledger_in_postgresql_takes_the_records_and_outlives_a_store() {
    let Some(cluster) = crate::cluster::Cluster::start(&[]) else { return };
    let (tree, made) = made_tree(9);
    let home = Home::new();
    let config = format!("ledger: {{ url: {} }}\n", json!(cluster.url("postgres")));
    fs::write(home.path().join("wattlog.yaml"), config).unwrap();
    let (_, first) = home.import(tree.path(), &["--validate"]);
    assert_eq!(first["validation"]["differences"], json!([]));
    assert_eq!(first["records"]["decisions"]["stored"], json!(made.decisions.len()));
    let (_, second) = home.import(tree.path(), &[]);
    assert_eq!((&second["points"], &second["records"]), (&json!({}), &json!({})));
    // A new store knows nothing, whatever the ledger remembers of another.
    fs::remove_dir_all(home.data()).unwrap();
    let (_, third) = home.import(tree.path(), &["--validate"]);
    assert_eq!(third["files_done_before"], 0);
    assert_eq!(third["points"], first["points"]);
    assert_eq!(third["records"]["sessions"]["stored"], 0, "{third}");
    assert_eq!(third["validation"]["differences"], json!([]));
    let (_, removed) = home.remove(&[]);
    assert_eq!(removed["records"]["decisions"], json!(made.decisions.len()), "{removed}");
    assert_eq!(removed["points"], first["points"], "no point of this tree is written twice");
    let (_, fourth) = home.import(tree.path(), &["--validate"]);
    assert_eq!((&fourth["files_done_before"], &fourth["records"]), (&json!(0), &first["records"]));
    assert_eq!(fourth["validation"]["differences"], json!([]));
}

#[test]
fn the_name_of_a_device_is_that_of_all_its_points() {
    let (tree, _) = made_tree(8);
    let home = Home::new();
    home.import(tree.path(), &["--device", "roof", "--location", "barn", "--validate"]);
    let answers = Answers::of(&home);
    let readings = &answers.points["energy_data"];
    assert!(!readings.is_empty());
    assert!(readings.iter().all(|row| row.contains("\"roof\"") && row.contains("\"barn\"")), "{readings:?}");
    assert!(answers.records["decisions"].iter().all(|one| one.contains("\"device_id\":\"roof\"")));
}

#[test]
fn imported_weather_is_told_from_that_of_a_feed() {
    // Both name the same sources: taking the import out by its source took the feed's weather along.
    let (tree, _) = made_tree(8);
    let home = Home::new();
    home.import(tree.path(), &[]);
    let answers = Answers::of(&home);
    let weather = &answers.points["weather_data"];
    assert!(!weather.is_empty() && weather.iter().all(|row| row.contains("\"migration\"")), "{weather:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (tree, _) = made_tree(8);
    let home = Home::new();
    let said = |more: &[&str], source: &Path| {
        let output = home.run(source, more);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = said(&[], Path::new("nowhere"));
    assert!(code == Some(2) && text.contains("no such folder"), "{text}");
    assert_eq!(said(&["--dry-run", "--validate"], tree.path()).0, Some(2));
    assert_eq!(said(&["--device", "a,b"], tree.path()).0, Some(2));
    let (code, text) = said(&["--db", "nowhere.db"], tree.path());
    assert!(code == Some(74) && text.contains("nowhere.db"), "{text}");
    assert!(!home.data().exists(), "nothing was made");
}
