//! `/api/v1/storage/health`: what is shown of a sound store, and what is said and advised when it is not.

use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::Options;
use wattlog_engine::io::ReadMode;
use wattlog_ledger::{Backend, Ledger, LedgerOptions};
use wattlog_model::ManualClock;

const PATH: &str = "/api/v1/storage/health";

async fn health(server: &Running) -> Value {
    let answer = server.get(PATH).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Level, area and action of each problem.
fn problems(health: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let problems = health["problems"].as_array().unwrap();
    assert!(
        problems
            .iter()
            .all(|problem| text(&problem["message"]).len() > 5 && text(&problem["action"]).len() > 20)
    );
    problems.iter().map(|problem| (text(&problem["level"]), text(&problem["area"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_shows_what_it_holds_and_did() {
    let folder = tempfile::tempdir().unwrap();
    let server = Setup::default().start_closed().await;
    assert_eq!(server.get(PATH).await.status, 503, "the store is not open yet");
    server.open_store();
    let empty = health(&server).await;
    assert_eq!((&empty["status"], &empty["ledger"]), (&json!("ok"), &Value::Null));
    assert_eq!((&empty["oldest"], &empty["seal"]["last"]), (&Value::Null, &Value::Null));
    assert_eq!(empty["write_amplification"], Value::Null);

    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    let ledger = Ledger::new(options, server.clock.clone()).unwrap();
    ledger.ready().await.unwrap();
    server.state.set_ledger(ledger.clone());
    server.store(&format!("m,d=a v=1 {}\nm,d=a v=2 {}\n", NOW.0 - 7_200_000_000_000, NOW.0)).await;
    server.store(&format!("n v=3 {}\n", NOW.0 - 60_000_000_000)).await;
    let told = health(&server).await;
    assert_eq!(told["memtable"]["values"], 3);
    assert_eq!(server.post("/api/v1/admin/seal", b"").await.status, 200);
    assert_eq!(server.post("/api/v1/admin/scrub", b"").await.status, 200);
    let kept = server.post("/api/v1/retention?measurement=n", b"{\"keep\":\"30d\"}").await;
    assert_eq!(kept.status, 200, "{}", kept.text());

    let told = health(&server).await;
    assert_eq!(told["status"], "ok", "{told}");
    assert_eq!(told["problems"], json!([]));
    assert_eq!(
        (&told["oldest"], &told["newest"]),
        (&json!("2026-03-01T08:00:00Z"), &json!("2026-03-01T10:00:00Z"))
    );
    assert_eq!((&told["memtable"]["values"], &told["tombstones"]), (&json!(0), &json!(0)));
    assert_eq!((&told["seal"]["done"], &told["seal"]["failed"]), (&json!(1), &json!(0)));
    let last = &told["seal"]["last"];
    assert_eq!((&last["ended"], &last["error"]), (&json!("2026-03-01T10:00:00Z"), &Value::Null));
    let storage = server.get("/api/v1/storage").await.json();
    let bytes =
        |names: [&str; 3]| names.iter().map(|name| storage["bytes"][name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(told["segments"]["bytes"], bytes(["data", "timestamps", "meta"]));
    assert_eq!(told["segments"]["count"], storage["segments"]);
    assert_eq!(told["segments"]["quarantined"], 0);
    assert!(last["bytes"].as_u64().unwrap() > 0);
    assert_eq!(told["logs"]["bytes"], storage["bytes"]["wal"]);
    let logs = server.disk.paths().iter().filter(|(path, _)| path.starts_with("wal/")).count();
    assert_eq!(told["logs"]["files"], logs);
    assert_eq!(
        (&told["scrub"]["passes"], &told["scrub"]["finished"]),
        (&json!(1), &json!("2026-03-01T10:00:00Z"))
    );
    assert_eq!(told["quarantine"], json!({ "files": 0, "bytes": 0 }));
    let rule = &told["retention"]["rules"][0];
    assert_eq!((&rule["measurement"], &rule["keep"]), (&json!("n"), &json!("30d")));
    assert_eq!(rule["oldest"], "2026-03-01T09:59:00Z");
    let amplified = told["write_amplification"].as_f64().unwrap();
    assert_eq!(server.metric("wattlog_write_amplification_ratio").await, amplified);
    assert_eq!((&told["ledger"]["backend"], &told["ledger"]["available"]), (&json!("sqlite"), &json!(true)));
    assert!(told["ledger"]["schema_version"].as_i64().unwrap() >= 1);

    // A ledger that is gone refuses records.
    ledger.close().await;
    let told = health(&server).await;
    assert_eq!(told["status"], "critical");
    assert_eq!(problems(&told), [("critical".to_owned(), "ledger".to_owned())]);
    assert_eq!(told["ledger"]["last_error"], told["problems"][0]["message"]);
    assert_eq!(server.get(&format!("{PATH}?x=1")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_warns_and_a_full_one_is_critical() {
    let mut setup = Setup::default();
    setup.engine.disk_reserve_bytes = Some(4 << 20);
    setup.engine.disk_warning_bytes = Some(64 << 20);
    setup.disk.set_capacity_bytes(Some(256 << 20));
    let clock = Arc::new(ManualClock::new(NOW));
    setup.engine_clock = clock.clone();
    let server = setup.start().await;
    server.store(&format!("m v=1 {}\n", NOW.0)).await;
    assert_eq!(health(&server).await["status"], "ok");
    let left = |bytes: u64| Some(server.disk.used_bytes() + bytes);
    server.disk.set_capacity_bytes(left(32 << 20));
    // The store looks once a second, when it writes.
    server
        .until("the disk to be low", async |server| {
            clock.advance(Duration::from_secs(2));
            server.store(&format!("m v=1 {}\n", NOW.0)).await;
            health(server).await["status"] == "warning"
        })
        .await;
    let told = health(&server).await;
    assert_eq!(problems(&told), [("warning".to_owned(), "store".to_owned())]);
    assert!(told["problems"][0]["action"].as_str().unwrap().contains("set a retention"), "{told}");
    assert_eq!(told["space"]["warning_bytes"], 64 << 20);
    server.disk.set_capacity_bytes(left(1 << 20));
    let refused = async |server: &Running| {
        clock.advance(Duration::from_secs(2));
        let answer = server.post("/write?db=wattlog", format!("m v=1 {}\n", NOW.0)).await;
        answer.status == 507
    };
    server.until("writes to be refused", refused).await;
    let told = health(&server).await;
    assert_eq!((&told["status"], &told["space"]["full"]), (&json!("critical"), &json!(true)));
    assert!(problems(&told).contains(&("critical".to_owned(), "writes".to_owned())), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_critical_and_names_the_file() {
    let engine = Options { read_mode: ReadMode::Pread, ..Options::default() };
    let server = Setup { engine, ..Setup::default() }.start().await;
    let lines: String =
        (0..2000).map(|n| format!("m v={}.5 {}\n", n * 7919 % 1000, NOW.0 - n * 1_000_000_000)).collect();
    server.store(&lines).await;
    assert_eq!(server.post("/api/v1/admin/seal", b"").await.status, 200);
    let paths = server.disk.paths();
    let (segment, len) = paths.iter().find(|(path, _)| path.starts_with("segments/")).unwrap();
    server.disk.flip_bit(segment, len / 2, 3);
    assert_eq!(server.post("/api/v1/admin/scrub", b"").await.status, 200);
    let told = health(&server).await;
    assert_eq!((&told["status"], &told["scrub"]["damaged_files"]), (&json!("critical"), &json!(1)));
    assert_eq!(problems(&told)[0], ("critical".to_owned(), "damage".to_owned()));
    let name = segment.trim_start_matches("segments/");
    assert!(told["damage"][0].as_str().unwrap().contains(name), "{told}");
}
