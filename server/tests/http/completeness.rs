//! How complete points are, by the scorecard: each share worked out here from what was left out.

use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::Options;
use wattlog_engine::io::ReadMode;
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;

/// Devices by name, how often each is polled, and what it says it is rated for.
pub struct Polled(pub Vec<(String, u64, Option<u32>)>);

impl DeviceStatusProvider for Polled {
    fn devices(&self) -> Vec<DeviceStatus> {
        let device = |(id, interval_ms, rated_power_w): &(String, u64, Option<u32>)| DeviceStatus {
            id: id.clone(),
            vendor: "goodwe".to_owned(),
            transport: "tcp".to_owned(),
            address: "192.0.2.1:502".to_owned(),
            interval_ms: *interval_ms,
            rated_power_w: *rated_power_w,
            last_attempt: None,
            last_success: None,
            last_error: None,
            polls_ok: 0,
            errors: Vec::new(),
            sentinels: 0,
            dropped_points: 0,
        };
        self.0.iter().map(device).collect()
    }
}

async fn polled(devices: &[(&str, u64)]) -> Running {
    let server = Setup::default().start().await;
    let devices = devices.iter().map(|(name, seconds)| ((*name).to_owned(), seconds * 1000, None)).collect();
    server.state.set_devices(Arc::new(Polled(devices)));
    server
}

async fn completeness(server: &Running) -> Value {
    let answer = server.get("/api/v1/scorecard").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let card = answer.json();
    let metrics = card["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["name"] == "completeness").unwrap().clone()
}

fn near(value: &Value, wanted: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
}

/// A point of these fields at each of so many steps before now that are kept, the oldest first.
fn points(tags: &str, fields: &str, step: i64, steps: i64, kept: impl Fn(i64) -> bool) -> String {
    let line = |n: i64| format!("energy_data,{tags} {fields} {}\n", NOW.0 - n * step);
    (1..=steps).rev().filter(|n| kept(*n)).map(line).collect()
}

/// The gap of three polls that was allowed hid that two of three points were lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_loses_two_of_three_points_is_a_third_complete() {
    let server = polled(&[("roof", 10)]).await;
    // Two hours of a point each 30 s where one each 10 s is expected.
    server.store(&points("device_id=roof", "pv_power=5", 30 * SECOND, 240, |_| true)).await;
    let told = completeness(&server).await;
    near(&told["value"], 1.0 / 3.0);
    assert_eq!(told["met"], false);
    // The source opens and says the same.
    let device = &told["details"]["devices"][0];
    assert_eq!((&device["device_id"], &device["since"]), (&json!("roof"), &json!("2026-03-01T08:00:00Z")));
    for source in [&told["source"], &device["source"]] {
        let answer = server.get(source.as_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{source}: {}", answer.text());
    }
    let quality = server.get(device["source"].as_str().unwrap()).await.json();
    let field = &quality["series"][0]["parts"][0]["fields"][0];
    assert_eq!((&field["field"], &field["completeness"]["missing"]), (&json!("pv_power"), &json!(480)));
    near(&field["completeness"]["share"], 1.0 / 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_stops_costs_its_share() {
    let server = polled(&[("roof", 60), ("barn", 60)]).await;
    // A day of which the second half has no consumption; another that had a state of charge two weeks ago.
    server.store(&points("device_id=roof", "pv_power=5", MINUTE, 1440, |_| true)).await;
    server.store(&points("device_id=roof", "consumption=5", MINUTE, 1440, |n| n > 720)).await;
    let week = 7 * 1440;
    server.store(&points("device_id=barn", "pv_power=5", MINUTE, week, |_| true)).await;
    server.store(&points("device_id=barn", "battery_soc=50", MINUTE, 2 * week, |n| n > 2 * week - 5)).await;
    let told = completeness(&server).await;
    let devices = told["details"]["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2, "{told}");
    assert_eq!((&devices[0]["device_id"], &devices[0]["lacks"]), (&json!("barn"), &json!(["battery_soc"])));
    near(&devices[0]["completeness"], 0.5);
    assert_eq!(devices[1]["lacks"], json!([]), "what it never had it does not lack");
    near(&devices[1]["completeness"], 0.75);
    near(&told["value"], 0.625);
}

/// Shares of the sets of tags of one device were added up to 1, and an outage between or beside them did not show.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_shows_though_tags_changed() {
    let server = polled(&[("roof", 60)]).await;
    let out = |n: i64| (600..720).contains(&n);
    server
        .store(&points("device_id=roof,status=ok", "pv_power=5", MINUTE, 1440, |n| n > 400 && !out(n)))
        .await;
    server
        .store(&points("device_id=roof,status=degraded", "pv_power=5", MINUTE, 1440, |n| n <= 800 && !out(n)))
        .await;
    let told = completeness(&server).await;
    near(&told["value"], 1.0 - 120.0 / 1440.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_never_heard_counts_as_nothing_and_what_is_left_out_is_said() {
    let server = polled(&[("barn", 60)]).await;
    let told = completeness(&server).await;
    assert_eq!((&told["value"], &told["met"]), (&Value::Null, &Value::Null), "not yet: {told}");
    server.clock.advance(Duration::from_secs(180));
    let told = completeness(&server).await;
    assert_eq!((&told["value"], &told["met"]), (&json!(0.0), &json!(false)), "{told}");
    // What was found wanting is looked at again after a minute.
    server.clock.advance(Duration::from_secs(60));
    server.store(&points("device_id=roof", "pv_power=5", MINUTE, 1440, |_| true)).await;
    let told = completeness(&server).await;
    let devices = told["details"]["devices"].as_array().unwrap();
    assert_eq!((&devices[0]["device_id"], &devices[0]["completeness"]), (&json!("barn"), &json!(0.0)));
    assert_eq!(devices[1]["device_id"], "roof");
    // The minutes that went by have none.
    near(&devices[1]["completeness"], 1.0 - 4.0 / 1444.0);
    near(&told["value"], 0.5 * (1.0 - 4.0 / 1444.0));
    // One that is heard at last is not held back by an answer that is kept for longer.
    server.clock.advance(Duration::from_secs(60));
    server.store(&format!("energy_data,device_id=barn pv_power=5 {}\n", NOW.0 + 5 * MINUTE)).await;
    let told = completeness(&server).await;
    assert_eq!(told["details"]["devices"].as_array().unwrap().len(), 1, "too new to miss a point: {told}");
    near(&told["value"], 1.0 - 5.0 / 1445.0);

    let names: Vec<String> = (0..52).map(|n| format!("d{n:02}")).collect();
    let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 60)).collect();
    let server = polled(&many).await;
    let lines: String = names
        .iter()
        .map(|name| points(&format!("device_id={name}"), "pv_power=5", MINUTE, 30, |_| true))
        .collect();
    server.store(&lines).await;
    let told = completeness(&server).await;
    assert_eq!((&told["value"], &told["met"]), (&json!(1.0), &Value::Null), "{told}");
    assert_eq!(told["details"]["devices_left_out"], 2);
    assert!(told["reason"].as_str().unwrap().starts_with("2 devices beyond the first 50"), "{told}");
}

/// A field of which there were two points in a day counted as if it had never been expected.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_with_a_point_or_two_is_one_that_is_lacking() {
    let server = polled(&[]).await;
    server.store(&points("device_id=roof", "pv_power=5", MINUTE, 1440, |_| true)).await;
    server.store(&points("device_id=roof", "consumption=5", MINUTE, 1440, |n| n == 700 || n == 900)).await;
    let told = completeness(&server).await;
    assert_eq!(told["details"]["devices"][0]["lacks"], json!(["consumption"]), "{told}");
    assert_eq!((&told["value"], &told["met"]), (&json!(0.5), &json!(false)));
}

/// A device all of whose points lay in a damaged file was taken for one that was never heard.
#[tokio::test(flavor = "multi_thread")]
async fn points_that_cannot_be_read_are_no_points_that_are_missing() {
    let engine = Options { read_mode: ReadMode::Pread, ..Options::default() };
    let server = Setup { engine, ..Setup::default() }.start().await;
    server.state.set_devices(Arc::new(Polled(vec![("roof".to_owned(), 60_000, None)])));
    // Of one day, so that they are in one block of times, the first behind the header.
    server.store(&points("device_id=roof", "pv_power=5", MINUTE, 590, |_| true)).await;
    assert_eq!(server.post("/api/v1/admin/seal", b"").await.status, 200);
    let paths = server.disk.paths();
    let (segment, _) = paths.iter().find(|(path, _)| path.starts_with("segments/")).unwrap();
    server.disk.flip_bit(segment, 514, 1);
    server.clock.advance(Duration::from_secs(180));
    let told = completeness(&server).await;
    assert_eq!(told["met"], Value::Null, "{told}");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("cannot be read") || reason.contains("could not be judged"), "{reason}");
}
