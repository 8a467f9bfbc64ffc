//! Records through the real binary: over `kill -9`, over a damaged file, and with a PostgreSQL that goes away.

#[path = "../ledger/tests/support/cluster.rs"]
mod cluster;
mod support;

use cluster::Cluster;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::Server;

/// Posts numbered remarks until told to stop; gives how many were acknowledged.
fn write_until(over: &AtomicBool, address: &str, writer: usize, round: usize) -> usize {
    let mut acknowledged = 0;
    while !over.load(Ordering::Relaxed) {
        let title = format!("{round}.{writer}.{acknowledged}");
        let body = json!({"start": "2026-03-01T10:00:00Z", "title": title}).to_string();
        match support::request(address, "POST", "/api/v1/annotations", body.as_bytes()) {
            Ok((201, _)) => acknowledged += 1,
            Ok((status, text)) => panic!("{status} {text}"),
            // The server is gone; whether this one was stored nobody can say.
            Err(_) => break,
        }
    }
    acknowledged
}

fn titles(server: &Server) -> Vec<String> {
    let (mut titles, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/v1/annotations?order=asc&limit=500{after}"));
        let records = page["records"].as_array().unwrap();
        titles.extend(records.iter().map(|one| one["title"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return titles,
        }
    }
}

fn nothing_acknowledged_is_lost(config: &str) {
    const WRITERS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut expected: Vec<(usize, usize, usize)> = Vec::new();
    for round in 0..3 {
        let server = Server::start(&data, config);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (over, address) = (&over, server.address.clone());
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let address = address.clone();
                    scope.spawn(move || write_until(over, &address, writer, round))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(150 + 200 * round as u64));
            server.kill();
            for (writer, thread) in writers.into_iter().enumerate() {
                expected.push((round, writer, thread.join().unwrap()));
            }
            over.store(true, Ordering::Relaxed);
        });
    }
    let server = Server::start(&data, config);
    let stored = titles(&server);
    let all: usize = expected.iter().map(|(_, _, count)| count).sum();
    assert!(all > 20, "too few were acknowledged to prove anything: {expected:?}");
    for (round, writer, count) in &expected {
        let prefix = format!("{round}.{writer}.");
        let own: Vec<&String> = stored.iter().filter(|title| title.starts_with(&prefix)).collect();
        // In order, each once, and at most one more whose answer was lost.
        assert!(
            (*count..=count + 1).contains(&own.len()),
            "{prefix}: {count} acknowledged, {} stored",
            own.len()
        );
        for (number, title) in own.iter().enumerate() {
            assert_eq!(**title, format!("{prefix}{number}"));
        }
    }
    server.stop();
}

#[test]
fn no_acknowledged_record_is_lost_by_a_kill_on_sqlite() {
    nothing_acknowledged_is_lost("");
}

#[test]
fn no_acknowledged_record_is_lost_by_a_kill_on_postgresql() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    nothing_acknowledged_is_lost(&format!("ledger: {{ url: {} }}", json!(cluster.url("postgres"))));
}

#[test]
fn a_damaged_ledger_keeps_nothing_from_starting_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, "");
    let store = |server: &Server, value: u32| {
        let line = format!("m v={value} {}", 1_772_359_200_000_000_000 + i64::from(value));
        assert_eq!(server.post("/write?db=wattlog", line.as_bytes()).0, 204);
    };
    store(&server, 1);
    let remark =
        json!({"start": "2026-03-01T10:00:00Z", "title": "t", "text": "x".repeat(100_000)}).to_string();
    assert_eq!(server.post("/api/v1/annotations", remark.as_bytes()).0, 201);
    assert!(server.stop().success());

    let file = data.join("ledger.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100..4096].fill(0xff);
    std::fs::write(&file, &bytes).unwrap();
    let server = Server::start(&data, "");
    store(&server, 2);
    assert_eq!(server.get("/api/v1/annotations")["records"], json!([]));
    let health = server.get("/health");
    assert_eq!((&health["status"], &health["checks"][0]["name"]), (&json!("pass"), &json!("ledger")));
    let aside = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap());
    // Beside it lie the logs that its check had begun.
    let is_file =
        |name: &str| name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm");
    let aside: Vec<_> = aside.filter(|entry| is_file(&entry.file_name().to_string_lossy())).collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(aside[0].path()).unwrap(), bytes, "what was set aside is as it was found");
    let count = server.get("/api/v1/query?measurement=m&start=2026-03-01T00:00:00Z&fields=v&fn=count");
    assert_eq!(count["series"][0]["values"][1][0], json!(2), "{count}");
    server.kill(); // the log has the ERROR that says so
}

#[test]
fn a_postgresql_that_goes_away_keeps_no_point_from_being_stored() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = format!("ledger: {{ url: {}, wait: 1s }}", json!(cluster.url("postgres")));
    let server = Server::start(&data, &config);
    let remark = json!({"start": "2026-03-01T10:00:00Z", "title": "t"}).to_string();
    let post = || server.post("/api/v1/annotations", remark.as_bytes());
    assert_eq!(post().0, 201);
    drop(cluster);
    let (status, text) = post();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &told["code"]), (503, &json!("unavailable")), "{text}");
    assert_eq!(server.post("/write?db=wattlog", b"m v=1").0, 204);
    let health = server.get("/health");
    assert_eq!((&health["status"], &health["checks"][0]["name"]), (&json!("pass"), &json!("ledger")));
    assert!(server.stop().success());
}
