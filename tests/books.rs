//! Sessions and reports of the real binary over `kill -9`: none is lost, doubled or wrong, whenever the process died.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Dice, Server, knob};

/// 2020-01-01T00:00:00Z: long over by any clock.
const FIRST_S: u64 = 1_577_836_800;
const DAYS: u64 = 6;
const CONFIG: &str =
    "collector: { system_metrics: { enabled: false } }\nengine: { memtable: 1MiB, wal: 1MiB }\n";

/// Points of a minute each: from 1 to 3 the battery takes 3.6 kW of the grid, the house half a kilowatt all the time.
fn body(minutes: std::ops::Range<u64>) -> String {
    let line = |minute: u64| {
        let charge = if (60..180).contains(&(minute % 1440)) { 3600 } else { 0 };
        let time = FIRST_S + minute * 60;
        format!(
            "energy_data,device_id=roof battery_power=-{charge},grid_power=-{},pv_power=0,consumption=500 {time}\n",
            charge + 500
        )
    };
    minutes.map(line).collect()
}

fn records(server: &Server, target: &str) -> Vec<Value> {
    server.try_get(target).filter(|(status, _)| *status == 200).map_or_else(Vec::new, |(_, text)| {
        serde_json::from_str::<Value>(&text).unwrap()["records"].as_array().unwrap().clone()
    })
}

/// Start (minutes of the first day), energy and cost of each session.
fn sessions(server: &Server) -> Vec<(String, f64, f64)> {
    let told = records(server, "/api/v1/sessions?limit=1000");
    let number = |of: &Value, name: &str| (of[name].as_f64().unwrap_or(f64::NAN) * 1e4).round() / 1e4;
    let mut found: Vec<_> = told
        .iter()
        .map(|s| (s["start"].as_str().unwrap().to_owned(), number(s, "energy_kwh"), number(s, "total_cost")))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn versions(server: &Server) -> BTreeMap<i64, i64> {
    let told = records(server, "/api/v1/sessions?limit=1000");
    told.iter().map(|s| (s["id"].as_i64().unwrap(), s["version"].as_i64().unwrap())).collect()
}

/// Kind, start, energy charged and number of charging sessions of each report.
fn reports(server: &Server) -> Vec<(String, String, f64, u64)> {
    let told = records(server, "/api/v1/reports?limit=100");
    let mut found: Vec<_> = told
        .iter()
        .map(|r| {
            let text = |name: &str| r[name].as_str().unwrap().to_owned();
            let kwh = (r["data"]["charge_kwh"].as_f64().unwrap() * 1e4).round() / 1e4;
            let count = r["data"]["sessions"]["charging"]["count"].as_u64().unwrap();
            (text("report_type"), text("start"), kwh, count)
        })
        .collect();
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    found
}

#[test]
fn sessions_and_reports_are_those_of_the_points_after_kill_9() {
    let kills = knob("WATTLOG_KILLS", 5);
    let mut dice = Dice(knob("WATTLOG_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data, CONFIG);
    let tariff = json!({"name": "bought", "direction": "import", "valid_from": "2019-01-01T00:00:00Z",
        "definition": {"sold": true, "energy": {"fixed_pln_kwh": 0.5}}});
    let (status, text) = server.post("/api/v1/tariffs", tariff.to_string().as_bytes());
    assert_eq!(status, 201, "{text}");
    // Bodies of some hours, in any order.
    let mut waiting: Vec<u64> = (0..DAYS * 4).collect();
    let each = waiting.len() as u64 / (kills + 1) + 1;
    while !waiting.is_empty() {
        for _ in 0..each.min(waiting.len() as u64) {
            let place = waiting.swap_remove(dice.roll(waiting.len() as u64) as usize);
            let (status, text) =
                server.post("/write?db=wattlog&precision=s", body(place * 360..place * 360 + 360).as_bytes());
            assert_eq!(status, 204, "{text}");
        }
        std::thread::sleep(Duration::from_millis(dice.roll(400)));
        if dice.roll(3) == 0 {
            assert!(server.post("/api/v1/admin/seal", b"").0 < 300);
        }
        server.kill();
        server = Server::start(&data, CONFIG);
    }
    // Two hours and two half flanks of a minute, all of it bought.
    let wanted: Vec<(String, f64, f64)> =
        (1..=DAYS).map(|day| (format!("2020-01-0{day}T00:59:00Z"), 7.2, 3.6)).collect();
    server.until("the sessions of all days", |server| sessions(server) == wanted);
    let ids = versions(&server);
    assert!(server.stop().success());
    // Started once more none of them is written again, and reports come in step once energies are there.
    let server = Server::start(&data, CONFIG);
    let daily = (1..=DAYS).map(|day| ("daily".to_owned(), format!("2020-01-0{day}T00:00:00Z"), 7.2, 1));
    let longer =
        ["monthly", "yearly"].map(|kind| (kind.to_owned(), "2020-01-01T00:00:00Z".to_owned(), 43.2, DAYS));
    let wanted: Vec<_> = daily.chain(longer).collect();
    server.until("the reports of all periods", |server| reports(server) == wanted);
    assert_eq!(versions(&server), ids);
    assert!(server.stop().success());
}

/// Writes what the optimiser kept of its session `20200101_1`: from 1 to 3 at night, in Warsaw.
fn optimiser_tree(folder: &std::path::Path) {
    let session = json!({"session_id": "20200101_1", "start_time": "2020-01-01 02:00:00", "end_time": "2020-01-01 04:00:00",
        "duration_hours": 2.0, "target_energy_kwh": 7.0, "status": "completed", "priority": 1, "estimated_savings_pln": 0.61,
        "created_at": "2019-12-31 18:00:00", "actual_energy_kwh": 7.1, "actual_cost_pln": 3.5});
    std::fs::create_dir_all(folder.join("out")).unwrap();
    std::fs::write(folder.join("out/charging_schedule_2020-01-01.json"), session.to_string()).unwrap();
}

/// Runs `import optimiser tree` in `folder`; gives its report.
fn import(folder: &std::path::Path) -> Value {
    let output = support::wattlog(folder)
        .args(["import", "optimiser", "tree", "--data", "data", "--json", "--again", "--validate"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_charge_that_was_found_imported_and_told_is_told_once() {
    // The appliance finds it, the optimiser's files have it, and the optimiser tells it: that were three sessions of one charge.
    for import_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        optimiser_tree(&folder.path().join("tree"));
        let data = folder.path().join("data");
        let config = format!("{CONFIG}server: {{ home_zone: Europe/Warsaw }}\n");
        let server = Server::start(&data, &config);
        let (status, text) = server.post("/write?db=wattlog&precision=s", body(0..360).as_bytes());
        assert_eq!(status, 204, "{text}");
        assert!(server.stop().success());
        if import_first {
            assert_eq!(import(folder.path())["records"]["sessions"]["stored"], 1);
        }
        let server = Server::start(&data, &config);
        let listed = |server: &Server, more: &str| -> Vec<(String, Value)> {
            let list = server
                .get(&format!("/api/charging-sessions?start_date=2020-01-01&end_date=2020-01-01{more}"));
            let each = list.as_array().unwrap().iter();
            each.map(|one| (one["origin"].as_str().unwrap().to_owned(), one["session_id"].clone())).collect()
        };
        server.until("the session to be found", |server| listed(server, "&origin=detected").len() == 1);
        let told = json!({"session_id": "20200101_1", "start_time": "2020-01-01T02:00:00", "end_time": "2020-01-01T04:00:00",
            "energy_charged_kwh": 7.15, "status": "completed"});
        let (status, text) = server.post("/api/charging-sessions", told.to_string().as_bytes());
        assert_eq!(status, if import_first { 200 } else { 201 }, "{text}");
        let once = [("reported".to_owned(), json!("20200101_1"))];
        assert_eq!(listed(&server, ""), once);
        assert!(server.stop().success());

        // The import finds it under its own key, and leaves what was told.
        let report = import(folder.path());
        assert_eq!(report["records"]["sessions"]["kept"], 1, "{report}");
        assert_eq!(report["validation"]["differences"], json!([]), "{report}");
        let server = Server::start(&data, &config);
        assert_eq!(listed(&server, ""), once);
        let all: Vec<String> = listed(&server, "&origin=all").into_iter().map(|(origin, _)| origin).collect();
        assert_eq!(all, ["detected", "reported"], "from 0:59:30 and from 1:00");
        let shown = server.get("/api/charging-sessions?start_date=2020-01-01&end_date=2020-01-01");
        assert_eq!(shown[0]["energy_charged_kwh"], json!(7.15));
        if import_first {
            assert_eq!(shown[0]["savings_pln"], json!(0.61), "what the plan has no name for is kept");
        }
        assert!(server.stop().success());
    }
}
