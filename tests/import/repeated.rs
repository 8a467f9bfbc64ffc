//! Twice is once: nothing is added, nothing that somebody changed is lost, and what is new is found.

use crate::asked::{Answers, Row, records};
use crate::{Home, made_tree};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::fs;

#[test]
fn twice_is_once() {
    let (tree, made) = made_tree(1);
    let home = Home::new();
    let (_, first) = home.import(tree.path(), &["--validate"]);
    assert_eq!(first["validation"]["differences"], json!([]));
    assert_eq!(first["read"]["kinds"]["decision"]["refused"], 0);
    let before = Answers::of(&home);
    assert_eq!(before.records["decisions"].len(), made.decisions.len());
    let (_, second) = home.import(tree.path(), &["--validate"]);
    assert_eq!(second["validation"]["differences"], json!([]));
    // What gave nothing but refusals may be readable next time.
    let readable = made.files.values().filter(|file| file.unread == 0 || !file.read.is_empty()).count();
    assert!(readable < made.files.len());
    assert_eq!(second["files_done_before"], json!(readable));
    assert_eq!(second["points"], json!({}), "nothing is written again");
    assert_eq!(second["records"], json!({}));
    assert_eq!(second["read"], first["read"], "the same was read");
    before.assert_same(&Answers::of(&home), "after the second import");
}

#[test]
fn what_is_new_is_stored_and_later_files_still_win() {
    let home = Home::new();
    let tree = tempfile::tempdir().unwrap();
    let out = tree.path().join("out/energy_data");
    fs::create_dir_all(&out).unwrap();
    let list = |power: i64| {
        format!("[{{\"timestamp\": \"2025-12-02T22:40:40\", \"pv_power\": {power}, \"battery_soc\": 50}}]")
    };
    fs::write(out.join("energy_data_2025-12-02.json"), list(5)).unwrap();
    // The second file of the same reading wins.
    fs::write(
        out.join("energy_data_2025-12-03.json"),
        "[{\"timestamp\": \"2025-12-02T22:40:40\", \"pv_power\": 6}]",
    )
    .unwrap();
    let power = |home: &Home| {
        let server = home.serve();
        let rows = crate::asked::rows(&server, "energy_data");
        assert!(server.stop().success());
        assert_eq!(rows.len(), 1);
        let fields = Row::of(&rows[0]).fields;
        (fields["pv_power"].as_f64().unwrap(), fields["battery_soc"].as_f64().unwrap())
    };
    assert_eq!(home.import(tree.path(), &["--validate"]).0, 0);
    assert_eq!(power(&home), (6.0, 50.0));
    // The first file grows, and its older value must not come back.
    let grown = list(5).replace("50", "51");
    fs::write(out.join("energy_data_2025-12-02.json"), format!("{grown}\n")).unwrap();
    let (code, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!((code, report["files_done_before"].as_u64()), (0, Some(1)), "{report}");
    assert_eq!(power(&home), (6.0, 51.0));
}

#[test]
fn two_forecasts_that_become_one_point_keep_their_order() {
    // Made within one hour they have keys of their own and one point: when the first file was stored anew, the older one won.
    let home = Home::new();
    let tree = tempfile::tempdir().unwrap();
    let out = tree.path().join("out/energy_data");
    fs::create_dir_all(&out).unwrap();
    let forecast = |minute: u32, power: u32| {
        format!(
            "{{\"timestamp\": \"2025-09-17T10:{minute}:00\", \"forecasts\": [{{\"timestamp\": \"2025-09-17T12:00:00\", \"forecasted_power_w\": {power}}}]}}"
        )
    };
    let first = out.join("pv_forecast_20250917_101500.json");
    fs::write(&first, forecast(15, 1000)).unwrap();
    fs::write(out.join("pv_forecast_20250917_104500.json"), forecast(45, 2000)).unwrap();
    let power = |home: &Home| {
        let server = home.serve();
        let rows = crate::asked::rows(&server, "pv_forecasts");
        assert!(server.stop().success());
        assert_eq!(rows.len(), 1, "{rows:?}");
        Row::of(&rows[0]).fields["power"].as_f64().unwrap()
    };
    home.import(tree.path(), &[]);
    assert_eq!(power(&home), 2000.0);
    fs::write(&first, format!("{}\n", forecast(15, 1500))).unwrap();
    let (_, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!(report["files_done_before"], 1, "{report}");
    assert_eq!(power(&home), 2000.0);
}

#[test]
fn a_record_that_somebody_changed_stays_as_it_is() {
    let (tree, _) = made_tree(2);
    let home = Home::new();
    home.import(tree.path(), &[]);
    let server = home.serve();
    let mut decision = records(&server, "decisions").remove(0);
    let (id, version) = (decision["id"].clone(), decision["version"].clone());
    decision["reason"] = "corrected by hand".into();
    let members = decision.as_object_mut().unwrap();
    for common in ["id", "version", "created", "updated"] {
        members.remove(common);
    }
    let body = decision.to_string();
    let request = format!(
        "PUT /api/v1/decisions/{id} HTTP/1.1\r\nHost: x\r\nIf-Match: \"{version}\"\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = crate::raw(&server.address, &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.stop().success());
    // Everything is new again: another change of every file's time.
    touch(tree.path());
    let (_, report) = home.import(tree.path(), &["--validate"]);
    assert_eq!(report["files_done_before"], 0);
    assert_eq!(report["records"]["decisions"]["kept"], 1, "{}", report["kept"]);
    assert!(report["kept"][0].as_str().unwrap().contains("changed by"), "{}", report["kept"]);
    assert_eq!(report["validation"]["differences"], json!([]));
    assert_eq!(report["validation"]["changed_since"], 1);
    let server = home.serve();
    let reasons =
        records(&server, "decisions").into_iter().filter(|one| one["reason"] == "corrected by hand").count();
    assert_eq!(reasons, 1);
    assert!(server.stop().success());
}

#[test]
fn what_was_stored_by_other_rules_is_told_with_the_way_to_be_rid_of_it() {
    let (tree, _) = made_tree(2);
    let home = Home::new();
    let (_, first) = home.import(tree.path(), &[]);
    assert_eq!(first["notes"], json!([]));
    // As an earlier version left it.
    let file = home.data().join("ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let changed = runtime.block_on(async {
        let mut ledger =
            SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
        let sql = "UPDATE import_runs SET progress = json_set(progress, '$.rules', 2)";
        let changed = sqlx::query(sql).execute(&mut ledger).await.unwrap().rows_affected();
        ledger.close().await.unwrap();
        changed
    });
    assert_eq!(changed, 1);
    let (_, report) = home.import(tree.path(), &["--again"]);
    let notes = report["notes"].as_array().unwrap();
    assert!(notes.len() == 1 && notes[0].as_str().unwrap().contains("--remove"), "{notes:?}");
    let (_, report) = home.import(tree.path(), &[]);
    assert_eq!(report["notes"], json!([]), "told once");
}

fn touch(folder: &std::path::Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            touch(&path);
        } else {
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
            fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        }
    }
}
