//! Quality of inverters without a battery, over HTTP: what they live off is the sun, and their nights are no fault.

use crate::completeness::Polled;
use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::sync::Arc;
use wattlog_ledger::{Backend, Ledger, LedgerOptions};

const MINUTE: i64 = 60_000_000_000;
/// Minutes of a week, which ends at [`NOW`], 11:00 in Warsaw.
const WEEK: i64 = 7 * 1440;

async fn server() -> Running {
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    setup.start().await
}

/// Minute of the day in Warsaw, which is UTC+1 in that week.
fn of_day(minute: i64) -> i64 {
    (660 + minute).rem_euclid(1440)
}

/// PV of a day in March: light from 6:30 to 17:30; a little of it is needed to speak.
fn pv(minute: i64) -> f64 {
    let day = (of_day(minute) - 390) as f64 / 660.0;
    if (0.0..=1.0).contains(&day) { (4000.0 * (day * std::f64::consts::PI).sin()).round() } else { 0.0 }
}

/// Points of the minutes that `speaks` says; all of them vary, so that nothing stands still.
async fn store(
    running: &Running,
    device: &str,
    fields: impl Fn(i64) -> String,
    speaks: impl Fn(i64) -> bool,
) {
    let line = |minute: i64| {
        format!("energy_data,device_id={device} {} {}\n", fields(minute), NOW.0 - (WEEK - minute) * MINUTE)
    };
    let minutes: Vec<i64> = (0..WEEK).filter(|minute| speaks(*minute)).collect();
    for part in minutes.chunks(5000) {
        running.store(&part.iter().map(|minute| line(*minute)).collect::<String>()).await;
    }
}

async fn series(running: &Running, query: &str) -> Value {
    let answer = running.get(&format!("/api/v1/quality?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["series"][0].clone()
}

fn field<'v>(series: &'v Value, name: &str) -> &'v Value {
    let fields = series["parts"][0]["fields"].as_array().unwrap();
    fields.iter().find(|field| field["field"] == name).unwrap_or_else(|| panic!("no {name}: {series}"))
}

fn grid_only(minute: i64) -> String {
    format!("pv_power={},grid_power={}", pv(minute), pv(minute) - 300.0 - (minute % 7) as f64)
}

/// Each night was a gap, and a third of the points was missing.
#[tokio::test(flavor = "multi_thread")]
async fn nights_of_an_inverter_that_lives_off_its_pv_are_no_gaps() {
    let running = server().await;
    let is_light = |minute: i64| pv(minute) > 20.0;
    store(&running, "shed", grid_only, is_light).await;
    let clean = series(&running, "device_id=shed").await;
    assert_eq!((&clean["problems"], &clean["score"]), (&json!([]), &json!(1.0)), "{clean}");
    assert_eq!(clean["sleeps"], true);
    let asleep = &clean["parts"][0]["asleep"];
    assert_eq!(asleep["count"], 7);
    let spoke = (0..WEEK).filter(|minute| is_light(*minute)).count();
    let pv_power = field(&clean, "pv_power");
    let told = &pv_power["completeness"];
    assert_eq!((&told["expected"], &told["missing"]), (&json!(spoke), &json!(0)), "{told}");
    // That nothing was there can be asked for.
    for night in asleep["list"].as_array().unwrap() {
        let answer = running.get(night["query"].as_str().unwrap()).await.json();
        let counts = answer["series"].as_array().unwrap().iter().map(|one| one["values"][1][0].clone());
        assert!(counts.into_iter().all(|count| count == 0), "{answer}");
    }
    // The same of a field by itself, and of a range that is all night: 2026-02-28, 20 to 23 o'clock.
    let single = series(&running, "device_id=shed&fields=grid_power").await;
    assert_eq!((&single["problems"], &single["score"]), (&json!([]), &json!(1.0)));
    running.state.set_devices(Arc::new(Polled(vec![("shed".to_owned(), 60_000, None)])));
    let dark = series(&running, "start=2026-02-28T19:00:00Z&end=2026-02-28T22:00:00Z&device_id=shed").await;
    assert_eq!((&dark["problems"], &dark["score"]), (&json!([]), &json!(1.0)), "{dark}");
    assert_eq!(field(&dark, "pv_power")["completeness"]["expected"], 0);

    // Silence in the sun is a gap, one of the field that stops early too.
    let is_out = |minute: i64| (4320..4350).contains(&minute);
    store(&running, "hall", grid_only, |minute| is_light(minute) && !is_out(minute)).await;
    let found = series(&running, "device_id=hall").await;
    let gaps = &field(&found, "pv_power")["gaps"];
    assert_eq!((&gaps["count"], &gaps["list"][0]["start"]), (&json!(1), &json!("2026-02-25T10:59:00+01:00")));
    assert_eq!(field(&found, "pv_power")["completeness"]["missing"], 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn nights_of_others_are_gaps() {
    let running = server().await;
    let is_light = |minute: i64| pv(minute) > 20.0;
    // A battery speaks at night.
    let hybrid = |minute: i64| format!("{},battery_soc={}", grid_only(minute), 20 + minute % 50);
    store(&running, "hybrid", hybrid, is_light).await;
    let found = series(&running, "device_id=hybrid").await;
    assert_eq!((&found["sleeps"], &field(&found, "pv_power")["gaps"]["count"]), (&json!(false), &json!(7)));
    // One that spoke in all nights but one was out in that.
    let last_night = |minute: i64| minute > WEEK - 1440;
    store(&running, "meter", grid_only, |minute| is_light(minute) || !last_night(minute)).await;
    let found = series(&running, "device_id=meter").await;
    assert_eq!((&found["sleeps"], &field(&found, "pv_power")["gaps"]["count"]), (&json!(false), &json!(1)));
    // One that fell silent in full sun and came back in the morning did not sleep.
    let is_cut = |minute: i64| (WEEK - 1440..WEEK).contains(&minute) && of_day(minute) > 720;
    store(&running, "cut", grid_only, |minute| is_light(minute) && !is_cut(minute)).await;
    let found = series(&running, "device_id=cut").await;
    assert_eq!((&found["sleeps"], &field(&found, "pv_power")["gaps"]["count"]), (&json!(true), &json!(1)));
}

/// Sixteen times what the meter measured was within the limits of the largest plant, though the ledger knew of ten kilowatts.
#[tokio::test(flavor = "multi_thread")]
async fn a_rated_power_that_is_known_bounds_the_powers() {
    let running = server().await;
    let folder = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    assert!(running.state.set_ledger(Ledger::new(options, running.clock.clone()).unwrap()));
    // Three polls in a row, of 1.9 kW bought each.
    let faulty = |minute: i64| {
        let grid = -1900.0 - (minute % 7) as f64;
        let grid = if (5000..5003).contains(&minute) { 16.0 * grid } else { grid };
        format!("grid_power={grid}")
    };
    store(&running, "roof", faulty, |_| true).await;
    let bare = series(&running, "device_id=roof").await;
    assert_eq!(
        (&bare["rated_w"], &field(&bare, "grid_power")["out_of_range"]["points"]),
        (&Value::Null, &json!(0))
    );
    // What it says itself counts as long as the ledger has no other.
    running.state.set_devices(Arc::new(Polled(vec![("roof".to_owned(), 60_000, Some(25_000))])));
    let says = series(&running, "device_id=roof").await;
    assert_eq!(
        (&says["rated_w"], &field(&says, "grid_power")["out_of_range"]["low"]),
        (&json!(25_000.0), &json!(-37_500.0))
    );
    let device = json!({ "device_id": "roof", "kind": "inverter", "rated_power_w": 10_000 });
    let made = running.post("/api/v1/devices", device.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let known = series(&running, "device_id=roof").await;
    let outside = &field(&known, "grid_power")["out_of_range"];
    assert_eq!(
        (&known["rated_w"], &outside["points"], &outside["low"]),
        (&json!(10_000.0), &json!(3), &json!(-25_875.0))
    );
    // Who asks knows better.
    let asked = series(&running, "device_id=roof&rated_w=30000").await;
    assert_eq!(field(&asked, "grid_power")["out_of_range"]["points"], 0);
}
