//! `/api/v1/scorecard`: each number against what was stored, worked out here.

use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::time::Duration;

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
    assert!((number(&completeness["value"]) - 0.5).abs() < 1e-9, "{completeness}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_tags_change_is_complete() {
    let server = Setup::default().start().await;
    // A point a minute for two days; the location is told anew from the second on, which begins in the middle of an hour.
    let step = 60 * SECOND;
    let first = 2 * 1440;
    let lines: String = (0..=first)
        .map(|minute| {
            let location = if minute < 1470 { "attic" } else { "cellar" };
            let time = NOW.0 - (first - minute) * step;
            format!("energy_data,device_id=roof,location={location} pv_power=1 {time}\n")
        })
        .collect();
    server.store(&lines).await;
    let card = scorecard(&server).await;
    let completeness = metric(&card, "completeness");
    // Of the hour of the change each has a half, less the minute between them.
    let covered = (2.0 * 1440.0 - 30.0) / (2.0 * 1440.0);
    let found = number(&completeness["value"]);
    assert!((found - covered).abs() < 2.0 / (2.0 * 1440.0), "{completeness} {covered}");
}
