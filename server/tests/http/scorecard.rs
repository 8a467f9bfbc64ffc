//! `/api/v1/scorecard`: each number against what was stored, worked out here.

use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::Timestamp;
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

const SECOND: i64 = 1_000_000_000;

async fn scorecard(server: &Running) -> Value {
    let answer = server.get("/api/v1/scorecard").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn metric<'a>(card: &'a Value, name: &str) -> &'a Value {
    let found = card["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {card}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn reason(metric: &Value) -> &str {
    metric["reason"].as_str().unwrap_or_else(|| panic!("no reason: {metric}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_reasons_and_no_numbers() {
    let server = Setup::default().start_closed().await;
    assert_eq!(server.get("/api/v1/scorecard").await.status, 503);
    server.open_store();
    let card = scorecard(&server).await;
    let metrics = card["metrics"].as_array().unwrap();
    let names: Vec<&str> = metrics.iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    let expected = [
        "query_time_p99",
        "query_speed_up",
        "ingest_rate",
        "storage_saved",
        "memory_saved",
        "uptime",
        "retention",
        "completeness",
        "accuracy",
        "backup_success",
    ];
    assert_eq!(names, expected);
    for metric in metrics {
        assert_eq!((&metric["value"], &metric["met"]), (&Value::Null, &Value::Null), "{metric}");
        assert!(reason(metric).len() > 10, "{metric}");
    }
    assert_eq!(card["sample"], Value::Null);
    assert_eq!(server.get("/api/v1/scorecard?x=1").await.status, 400);
}

/// A point each five seconds for half of ten thousand seconds, the other half is missing.
fn half() -> String {
    let line = |n: i64| {
        let time = NOW.0 - 10_000 * SECOND + n * 5 * SECOND;
        format!("energy_data,device_id=roof pv_power={}.5,name=\"x\",soc={}i {time}\n", n % 90, n % 7)
    };
    (0..=1000).map(line).collect()
}

/// The same as lines of JSON, worked out without the server.
fn half_json_bytes() -> usize {
    let line = |n: i64| {
        let instant = jiff::Timestamp::from_second((NOW.0 / SECOND) - 10_000 + n * 5).unwrap();
        format!(
            "{{\"time\":\"{instant}\",\"device_id\":\"roof\",\"pv_power\":{}.5,\"name\":\"x\",\"soc\":{}}}\n",
            n % 90,
            n % 7
        )
        .len()
    };
    (0..=1000).map(line).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_is_measured_once_and_its_numbers_can_be_asked_for() {
    let server = Setup::default().start().await;
    server.store(&half()).await;
    let (one, other) = tokio::join!(scorecard(&server), scorecard(&server));
    assert_eq!(one["sample"], other["sample"], "two at a time measure once");
    let sample = &one["sample"];
    assert_eq!((&sample["rows"], &sample["values"]), (&json!(1001), &json!(3003)));
    assert_eq!((&sample["measurement"], &sample["field"]), (&json!("energy_data"), &json!("pv_power")));
    assert_eq!(sample["json_bytes"], half_json_bytes());
    let speed_up = metric(&one, "query_speed_up");
    let expected = number(&sample["json_scan_ms"]) / number(&sample["query_ms"]);
    assert!((number(&speed_up["value"]) / expected - 1.0).abs() < 1e-6, "{speed_up}");
    assert_eq!((&speed_up["target"], &speed_up["met"]), (&json!("> 10"), &json!(expected > 10.0)));
    let again = server.get(speed_up["source"].as_str().unwrap()).await;
    assert_eq!(again.status, 200, "{}", again.text());
    let again = again.json();
    let series = &again["series"][0];
    let columns: Vec<&str> =
        series["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let count = columns.iter().position(|name| *name == "pv_power_count").unwrap();
    let counts = series["values"][count].as_array().unwrap();
    assert_eq!(counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 1001);

    // Kept for five minutes.
    server.clock.advance(Duration::from_secs(299));
    assert_eq!(scorecard(&server).await["sample"], *sample);
    server.clock.advance(Duration::from_secs(1));
    let later = scorecard(&server).await;
    assert_eq!(later["sample"]["measured"], "2026-03-01T10:05:00Z");

    let storage = metric(&one, "storage_saved");
    let disk = number(&server.get("/api/v1/storage/health").await.json()["total_bytes"]);
    let saved = 1.0 - disk / half_json_bytes() as f64;
    assert!((number(&storage["value"]) - saved).abs() < 1e-6, "{storage}, {saved}");
    assert_eq!(storage["met"], Value::Null, "too little to tell");
    let memory = metric(&one, "memory_saved");
    let resident = number(&memory["details"]["resident_bytes"]);
    assert!((number(&memory["value"]) - (1.0 - resident / (3003.0 * 16.0))).abs() < 1e-9, "{memory}");
    assert!(reason(memory).contains("the program alone takes"), "{memory}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_too_little_is_none() {
    let server = Setup::default().start().await;
    let lines: String =
        (0..500).map(|n| format!("energy_data,device_id=a pv_power=1 {}\n", NOW.0 - n * SECOND)).collect();
    server.store(&lines).await;
    let card = scorecard(&server).await;
    for name in ["query_speed_up", "storage_saved"] {
        let metric = metric(&card, name);
        assert_eq!(metric["value"], Value::Null);
        assert!(reason(metric).contains("500 values of pv_power are stored, 1000 are needed"), "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_with_points_is_told_by_device_and_program() {
    let server = Setup::default().start().await;
    server.store(&half()).await;
    // The program's own points each minute for two days, but for an hour.
    let own = (0..=2880).filter(|minute| !(1440..1500).contains(minute)).map(|minute| {
        format!(
            "system_metrics,component=wattlog,status=ok cpu=0.5 {}\n",
            NOW.0 - (2880 - minute) * 60 * SECOND
        )
    });
    server.store(&own.collect::<String>()).await;
    let card = scorecard(&server).await;
    let completeness = metric(&card, "completeness");
    // Of two thousand points 1001 are there.
    assert!((number(&completeness["value"]) - 0.5005).abs() < 1e-9, "{completeness}");
    assert_eq!((&completeness["met"], &completeness["target"]), (&json!(false), &json!("> 0.99")));
    assert_eq!(completeness["details"]["devices"][0]["device_id"], "roof");
    let uptime = metric(&card, "uptime");
    // The stretch of the first point is not counted: nobody knows when it began. Twelve of the others have none.
    let expected = (575.0 - 12.0) / 575.0;
    assert!((number(&uptime["value"]) - expected).abs() < 1e-9, "{uptime}");
    assert_eq!(uptime["met"], false);
    assert!(uptime["source"].as_str().unwrap().starts_with("stored points"));

    let retention = metric(&card, "retention");
    assert_eq!((number(&retention["value"]), &retention["met"]), (2.0, &Value::Null));
    assert!(reason(retention).contains("no older points"), "{retention}");
    let kept = server.post("/api/v1/retention?measurement=system_metrics", b"{\"keep\":\"30d\"}").await;
    assert_eq!(kept.status, 200, "{}", kept.text());
    let card = scorecard(&server).await;
    let retention = metric(&card, "retention");
    assert_eq!(retention["met"], false);
    assert!(reason(retention).contains("measurement system_metrics are kept for 30 days"), "{retention}");
    server.store(&format!("old v=1 {}\n", NOW.0 - 400 * 86_400 * SECOND)).await;
    let card = scorecard(&server).await;
    let retention = metric(&card, "retention");
    assert_eq!((number(&retention["value"]), &retention["met"]), (400.0, &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_times_are_those_of_what_was_asked() {
    let server = Setup::default().start().await;
    server.store(&half()).await;
    let card = scorecard(&server).await;
    let ingest = metric(&card, "ingest_rate");
    assert_eq!((number(&ingest["value"]), &ingest["met"]), (100.1, &Value::Null));
    assert!(reason(ingest).contains("no more points were offered"), "{ingest}");
    server.clock.advance(Duration::from_secs(100));
    for part in 0..2 {
        let lines: String = (0..10_000).map(|n| format!("m v=1 {}\n", NOW.0 - part * 10_000 - n)).collect();
        server.store(&lines).await;
    }
    let card = scorecard(&server).await;
    let ingest = metric(&card, "ingest_rate");
    assert_eq!((number(&ingest["value"]), &ingest["met"]), (2000.0, &json!(true)));
    assert_eq!(number(&ingest["details"]["mean_since_start"]), 21_001.0 / 100.0);

    let time = metric(&card, "query_time_p99");
    assert_eq!(time["value"], Value::Null, "figures of the scorecard itself are no queries");
    for _ in 0..99 {
        assert_eq!(server.get("/api/v1/query?measurement=m&start=-1h&fn=mean").await.status, 200);
    }
    let card = scorecard(&server).await;
    let time = metric(&card, "query_time_p99");
    assert!(number(&time["value"]) > 0.0 && time["met"].is_null(), "{time}");
    assert!(reason(time).starts_with("99 queries were asked"), "{time}");
    assert_eq!(server.get("/api/v1/last?measurement=m").await.status, 200);
    let card = scorecard(&server).await;
    let time = metric(&card, "query_time_p99");
    assert_eq!((&time["met"], &time["reason"]), (&json!(number(&time["value"]) < 100.0), &Value::Null));
}

struct Slow;

impl DeviceStatusProvider for Slow {
    fn devices(&self) -> Vec<DeviceStatus> {
        Vec::new()
    }

    fn own_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(600))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uptime_is_told_by_stretches_as_long_as_the_program_takes_for_three_points() {
    let server = Setup::default().start().await;
    // A point each ten minutes for two days, but for three hours.
    let own = (0..=288)
        .filter(|n| !(144..162).contains(n))
        .map(|n| format!("system_metrics,component=wattlog cpu=0.5 {}\n", NOW.0 - (288 - n) * 600 * SECOND));
    server.store(&own.collect::<String>()).await;
    let card = scorecard(&server).await;
    assert!(number(&metric(&card, "uptime")["value"]) < 0.5, "every second stretch of five minutes has none");
    server.state.set_devices(Arc::new(Slow));
    let card = scorecard(&server).await;
    let uptime = metric(&card, "uptime");
    // 96 stretches of half an hour; the first is not counted, and six have no point.
    assert!((number(&uptime["value"]) - 89.0 / 95.0).abs() < 1e-9, "{uptime}");
    assert!(uptime["source"].as_str().unwrap().contains("stretches of 1800 s"), "{uptime}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_complete_though_its_tags_changed_and_though_it_is_new() {
    let server = Setup::default().start().await;
    let points = |tags: &str, minutes: std::ops::Range<i64>| -> String {
        let line =
            |minute: i64| format!("energy_data,{tags} pv_power={minute} {}\n", NOW.0 - minute * 60 * SECOND);
        minutes.map(line).collect()
    };
    // Two days of one device, whose tags changed in the middle; an hour of a new one; one that has only just begun.
    server.store(&points("device_id=roof,status=ok", 1440..2881)).await;
    server.store(&points("device_id=roof,status=degraded", 0..1440)).await;
    server.store(&points("device_id=barn", 0..61)).await;
    server.store(&points("device_id=shed", 0..2)).await;
    let card = scorecard(&server).await;
    let completeness = metric(&card, "completeness");
    let devices = completeness["details"]["devices"].as_array().unwrap();
    let told: Vec<(&str, &str, f64)> = devices
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap();
            (text("device_id"), text("since"), number(&one["completeness"]))
        })
        .collect();
    let expected = [("barn", "2026-03-01T09:00:00Z", 1.0), ("roof", "2026-02-27T10:00:00Z", 1.0)];
    assert_eq!(told.len(), 2, "{completeness}");
    for (one, expected) in told.iter().zip(expected) {
        assert_eq!((one.0, one.1), (expected.0, expected.1));
        assert!((one.2 - expected.2).abs() < 1e-9, "{completeness}");
    }
    assert_eq!(completeness["met"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_begins_where_its_rows_do_however_old_they_are_and_a_reason_is_kept_for_a_minute() {
    let server = Setup::default().start().await;
    // 1701 and a gap of three centuries; the newest points are of two devices at the same instants.
    let old = -8_487_000_000 * SECOND;
    let line = |n: i64, device: &str| {
        format!("energy_data,device_id={device} pv_power={n} {}\n", NOW.0 - n * SECOND)
    };
    server.store(&format!("energy_data,device_id=a pv_power=7 {old}\n")).await;
    let card = scorecard(&server).await;
    assert!(reason(metric(&card, "query_speed_up")).contains("1 values of pv_power are stored"), "{card}");
    let lines: String = (0..600).flat_map(|n| [line(n, "a"), line(n, "b")]).collect();
    server.store(&lines).await;
    assert_eq!(scorecard(&server).await["sample"], Value::Null, "the reason is kept");
    server.clock.advance(Duration::from_secs(60));
    let card = scorecard(&server).await;
    let sample = &card["sample"];
    assert_eq!((&sample["rows"], &sample["values"]), (&json!(1201), &json!(1201)), "{card}");
    assert_eq!(sample["start"], jiff::Timestamp::from_second(old / SECOND).unwrap().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_of_an_inverter_with_many_long_fields_is_cut_to_what_fits() {
    let server = Setup::default().start().await;
    let names: Vec<String> = (0..150).map(|field| format!("{}_{field}", "long_name".repeat(12))).collect();
    let row = |n: i64| {
        let mut line = String::from("energy_data,device_id=roof pv_power=1.5");
        for name in &names {
            let _ = write!(line, ",{name}={n}.5");
        }
        format!("{line} {}\n", NOW.0 - n * SECOND)
    };
    for part in 0..4 {
        server.store(&(0..600).map(|n| row(part * 600 + n)).collect::<String>()).await;
    }
    let card = scorecard(&server).await;
    let sample = &card["sample"];
    let (rows, bytes) = (sample["rows"].as_u64().unwrap(), sample["json_bytes"].as_u64().unwrap());
    assert!((1000..2400).contains(&rows), "{sample}");
    let row = bytes / rows;
    assert!(bytes <= 32 << 20 && bytes + 2 * row > 32 << 20, "as much as fits: {sample}");
    assert_eq!(sample["values"], json!(rows * 151));
    let start = Timestamp(NOW.0 - (rows as i64 - 1) * SECOND);
    assert_eq!(sample["start"], jiff::Timestamp::from_nanosecond(start.0.into()).unwrap().to_string());
    assert!(number(&metric(&card, "query_speed_up")["value"]) > 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_point_of_a_rule_is_of_those_that_it_keeps() {
    let server = Setup::default().start().await;
    let days = |n: i64| NOW.0 - n * 86_400 * SECOND;
    server.store(&format!("a v=1 {}\nb v=1 {}\nc v=1 {}\n", days(20), days(10), days(5))).await;
    for (target, keep) in [("/api/v1/retention", "60d"), ("/api/v1/retention?measurement=a", "inf")] {
        let set = server.post(target, format!("{{\"keep\":\"{keep}\"}}")).await;
        assert_eq!(set.status, 200, "{}", set.text());
    }
    let told = server.get("/api/v1/storage/health").await.json();
    assert_eq!((&told["oldest"], &told["times_reason"]), (&json!("2026-02-09T10:00:00Z"), &Value::Null));
    let rules = told["retention"]["rules"].as_array().unwrap();
    let oldest = |measurement: Value| {
        let rule = rules.iter().find(|rule| rule["measurement"] == measurement);
        rule.unwrap_or_else(|| panic!("{told}"))["oldest"].clone()
    };
    assert_eq!(oldest(Value::Null), "2026-02-19T10:00:00Z");
    assert_eq!(oldest(json!("a")), "2026-02-09T10:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn accuracy_is_the_share_of_points_that_the_quality_report_finds_no_fault_with() {
    let server = Setup::default().start().await;
    let card = scorecard(&server).await;
    let told = metric(&card, "accuracy");
    assert!(told["met"].is_null() && reason(told).contains("no points of energy_data"), "{told}");
    // A reason is kept for a minute.
    server.clock.advance(Duration::from_secs(60));
    // A day by minutes of two fields; three states of charge that no battery has.
    let line = |minute: i64| {
        let soc = if [300, 700, 1100].contains(&minute) { 150 } else { 40 + minute % 3 };
        let time = NOW.0 - minute * 60 * SECOND;
        format!("energy_data,device_id=roof pv_power={},battery_soc={soc} {time}\n", 100 + minute % 90)
    };
    server.store(&(1..=1440).map(line).collect::<String>()).await;
    let card = scorecard(&server).await;
    let told = metric(&card, "accuracy");
    assert_eq!((&told["details"]["points"], &told["details"]["faulty"]), (&json!(2880), &json!(3)), "{told}");
    assert!((number(&told["value"]) - (1.0 - 3.0 / 2880.0)).abs() < 1e-12, "{told}");
    assert_eq!((&told["met"], &told["target"]), (&json!(false), &json!("> 0.999")));
    // The source says the same, of each field by itself.
    let quality = server.get(told["source"].as_str().unwrap()).await.json();
    let fields = quality["series"][0]["parts"][0]["fields"].as_array().unwrap();
    let shares: Vec<f64> = fields.iter().map(|field| number(&field["accuracy"]["share"])).collect();
    assert_eq!(shares.len(), 2);
    assert!((shares.iter().sum::<f64>() / 2.0 - number(&told["value"])).abs() < 1e-12, "{shares:?}");
}
