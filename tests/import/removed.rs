//! `--remove`: what the import stored goes, all else stays, and an import after it is the first.

use crate::asked::{Answers, records};
use crate::settings::SETTINGS;
use crate::support::{Dice, knob, wattlog};
use crate::{Home, made_tree};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Points of others, in the measurements and at the places that the import uses.
const OWN: &str =
    "energy_data,data_source=goodwe,device_id=roof,location=home pv_power=1200 1764712800000000000
weather_data,kind=observation,location=home,source=imgw temperature=-0.5 1764712800000000000
prices,area=PL,product=csdac-pln,source=pse market_price=0.31 1764712800000000000
tariff_prices,source=own total_price=0.7 1764712800000000000
price_forecasts,source=own price=0.7 1764712800000000000
notes text=\"mine\" 1764712800000000000
";

impl Home {
    /// `import optimiser --remove --data data ...`, its exit code and its report.
    pub(crate) fn remove(&self, more: &[&str]) -> (i32, Value) {
        let output = self.remover(more).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), report)
    }

    fn remover(&self, more: &[&str]) -> std::process::Command {
        let mut command = wattlog(self.path());
        command.args(["import", "optimiser", "--remove", "--data", "data", "--json"]);
        command.args(more).stdin(Stdio::null());
        command
    }

    /// Everything that is asked of a running server, and the devices of the ledger.
    fn all(&self) -> (Answers, Vec<String>) {
        let server = self.serve();
        let answers = Answers::of_server(&server);
        let known = records(&server, "devices");
        let devices = known.iter().map(|device| device["device_id"].to_string()).collect();
        assert!(server.stop().success());
        (answers, devices)
    }
}

/// Rows of each measurement, without those that have none.
fn rows(answers: &Answers) -> Vec<(&str, usize)> {
    let counts = answers.points.iter().map(|(name, rows)| (name.as_str(), rows.len()));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn imported_removed_and_imported_again_is_imported() {
    let (tree, _) = made_tree(11);
    let home = Home::new();
    let settings = tree.path().join("master_coordinator_config.yaml");
    fs::write(&settings, SETTINGS).unwrap();
    let server = home.serve();
    assert_eq!(server.post("/write?db=wattlog", OWN.as_bytes()).0, 204);
    let own = json!({ "decision_key": "own", "at": "2025-12-01T00:00:00Z", "kind": "charging", "action": "wait",
        "currency": "PLN", "origin": "imported" });
    let made = server.post("/api/v1/decisions", own.to_string().as_bytes());
    assert_eq!(made.0, 201, "{}", made.1);
    assert!(server.stop().success());
    let (before, no_devices) = home.all();
    let import = || home.import(tree.path(), &["--config", settings.to_str().unwrap(), "--validate"]);
    let (_, first) = import();
    assert_eq!(first["validation"]["differences"], json!([]));
    let (imported, devices) = home.all();
    assert!(devices.len() > no_devices.len(), "{devices:?}");
    for list in ["decisions", "sessions", "reports", "tariffs", "configs", "imports"] {
        assert!(imported.records[list].len() > before.records[list].len(), "{list}");
    }

    let (code, pretended) = home.remove(&["--dry-run"]);
    assert_eq!((code, &pretended["dry_run"]), (0, &json!(true)));
    imported.assert_same(&home.all().0, "after a dry run");
    let (code, removed) = home.remove(&[]);
    assert_eq!((code, &removed["dry_run"]), (0, &json!(false)));
    for part in ["points", "records", "kept"] {
        assert_eq!(removed[part], pretended[part], "{part}");
    }
    // As many as there are rows now beyond those of others.
    for (name, count) in rows(&imported) {
        let own = before.points.get(name).map_or(0, Vec::len);
        let told = removed["points"][name].as_u64().unwrap_or(0) as usize;
        assert_eq!(told, count - own, "{name}: {removed}");
    }
    assert_eq!(removed["records"]["decisions"], imported.records["decisions"].len() - 1);
    assert_eq!(removed["kept"], json!([]));

    let (after, devices) = home.all();
    assert_eq!((rows(&after), &devices), (rows(&before), &no_devices));
    assert_eq!(after.records, before.records);
    for (name, own) in &before.points {
        assert_eq!(&after.points[name], own, "{name}");
    }
    let (code, again) = home.remove(&[]);
    assert_eq!((code, &again["points"], &again["records"]), (0, &json!({}), &json!({})));

    let (_, second) = import();
    assert_eq!((&second["files_done_before"], &second["validation"]["differences"]), (&json!(0), &json!([])));
    assert_eq!((&second["points"], &second["records"]), (&first["points"], &first["records"]));
    imported.assert_same(&home.all().0, "after the second import");
}

#[test]
fn a_record_that_somebody_changed_stays_and_is_told() {
    let (tree, _) = made_tree(12);
    let home = Home::new();
    home.import(tree.path(), &[]);
    let server = home.serve();
    let mut decision = records(&server, "decisions").remove(0);
    let id = decision["id"].clone();
    // As the optimiser does that tells a session again, which was imported.
    decision["origin"] = "reported".into();
    decision["reason"] = "corrected by hand".into();
    let members = decision.as_object_mut().unwrap();
    for common in ["id", "version", "created", "updated"] {
        members.remove(common);
    }
    let body = decision.to_string();
    let request = format!(
        "PUT /api/v1/decisions/{id} HTTP/1.1\r\nHost: x\r\nIf-Match: *\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = crate::raw(&server.address, &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let all = records(&server, "decisions").len();
    assert!(server.stop().success());
    let (code, removed) = home.remove(&[]);
    assert_eq!((code, &removed["records"]["decisions"]), (0, &json!(all - 1)), "{removed}");
    let kept = removed["kept"].as_array().unwrap();
    assert!(
        kept.len() == 1 && kept[0].as_str().unwrap().starts_with(&format!("decisions {id}: changed by ")),
        "{removed}"
    );
    let left = home.all().0.records["decisions"].clone();
    assert!(left.len() == 1 && left[0].contains("corrected by hand"), "{left:?}");
}

#[test]
fn killed_while_it_removes_and_begun_again_it_ends_as_one_run() {
    let (tree, _) = made_tree(13);
    let whole = Home::new();
    whole.import(tree.path(), &[]);
    let imported = whole.all().0;
    let begin = Instant::now();
    let (_, removed) = whole.remove(&[]);
    let took_ms = begin.elapsed().as_millis() as u64;
    assert!(removed["points"]["energy_data"].as_u64().unwrap() > 100, "{removed}");
    let expected = whole.all();

    let mut dice = Dice(knob("WATTLOG_SEED", 3));
    let mut met = 0;
    for round in 0..knob("WATTLOG_KILLS", 4) {
        let home = Home::new();
        home.import(tree.path(), &[]);
        let mut child = home.remover(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Well within: the next run may be quicker.
        std::thread::sleep(Duration::from_millis(dice.roll(took_ms.div_ceil(2))));
        met += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        if round % 2 == 0 {
            home.remove(&[]);
            let (answers, devices) = home.all();
            assert_eq!(
                (rows(&answers), &answers.records),
                (rows(&expected.0), &expected.0.records),
                "round {round}"
            );
            assert_eq!(devices, expected.1, "round {round}");
        } else {
            // An import after half a removal stores what is gone.
            let (_, report) = home.import(tree.path(), &["--validate"]);
            assert_eq!(report["validation"]["differences"], json!([]), "round {round}");
            imported.assert_same(&home.all().0, &format!("round {round}"));
        }
    }
    println!("removed: {met} kills met a running removal of {took_ms} ms");
    assert!(met > 0, "no kill met a running removal");
}

#[test]
fn where_nothing_is_to_be_removed_nothing_is_made() {
    let home = Home::new();
    let said = |more: &[&str]| {
        let output = home.remover(more).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for more in [&[][..], &["--dry-run"]] {
        let (code, text) = said(more);
        assert!(code == Some(2) && text.contains("no store is here"), "{text}");
    }
    assert!(!home.data().exists(), "nothing was made");
    fs::create_dir(home.data()).unwrap();
    assert_eq!(said(&[]).0, Some(2), "a folder that is no store");
    assert_eq!(fs::read_dir(home.data()).unwrap().count(), 0, "nothing was made");
    assert_eq!(said(&["--validate"]).0, Some(2));
    assert_eq!(said(&["somewhere"]).0, Some(2));
    assert_eq!(said(&["--location", "barn"]).0, Some(2));
    let server = home.serve();
    let (code, text) = said(&[]);
    assert!(code == Some(75) && text.contains("stop wattlog"), "{text}");
    assert!(server.stop().success());
    assert_eq!(
        home.remove(&[]),
        (
            0,
            json!({ "dry_run": false, "points": {}, "records": {}, "kept": [], "kept_more": 0, "unread": [] })
        )
    );
}
