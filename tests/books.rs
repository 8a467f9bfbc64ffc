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
