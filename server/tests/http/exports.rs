//! Exports: the text of the query's answer, of any length, in bounded memory; a client that takes slowly slows it down.

use super::support::{Running, Setup, request};
use wattlog_server::{Limits, Size, Span};

const ROWS: u64 = 300_000;

/// A row a second, in two series, sealed.
async fn filled(limits: impl FnOnce(&mut Limits)) -> Running {
    let server = Setup::limits(limits).start().await;
    for part in 0..ROWS / 30_000 {
        let line = |i: u64| {
            let device = ["a", "b"][i as usize % 2];
            format!(
                "energy,device_id={device} power={}.5,mode=\"m{}\" {}000000000\n",
                i % 97,
                i % 3,
                86_400 + i / 2
            )
        };
        server.store(&(part * 30_000..(part + 1) * 30_000).map(line).collect::<String>()).await;
    }
    assert_eq!(server.post("/api/v1/admin/seal", "").await.status / 100, 2);
    server
}

const EXPORT: &str = "/api/v1/export?measurement=energy&start=0s";

#[tokio::test]
async fn an_export_is_the_text_of_the_query_without_its_limit_of_length() {
    let server = filled(|limits| {
        limits.answer = Size::mib(1);
        limits.answers_per_address = Size::mib(8);
    })
    .await;
    for (format, media_type) in [("csv", "text/csv; charset=utf-8"), ("ndjson", "application/x-ndjson")] {
        let refused = server.get(&format!("/api/v1/query?measurement=energy&start=0s&format={format}")).await;
        assert_eq!(refused.status, 422, "longer than a query may answer");
        let answer = server.get(&format!("{EXPORT}&format={format}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type));
        assert_eq!(answer.header("transfer-encoding"), "chunked");
        assert!(answer.header("x-wattlog-as-of").contains('-'));
        let text = answer.text();
        assert!(text.len() > 4 << 20);
        assert_eq!(text.lines().count() as u64, ROWS + u64::from(format == "csv"));
        // A part of it that a query may answer.
        let part = format!("measurement=energy&start=86500s&end=87000s&format={format}&tag.device_id=b");
        let (query, export) = (
            server.get(&format!("/api/v1/query?{part}")).await,
            server.get(&format!("/api/v1/export?{part}")).await,
        );
        assert_eq!(query.text(), export.text());
    }
    let header = server.get(&format!("{EXPORT}&fields=mode,power&end=1s")).await;
    assert_eq!(header.text(), "time,device_id,mode,power\n", "a header without rows");
}

#[tokio::test]
async fn json_is_one_array_of_the_objects_that_ndjson_has_a_line_for() {
    let server = filled(|_| {}).await;
    let lines = server.get(&format!("{EXPORT}&end=106400s&format=ndjson")).await.text();
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.len() > 10_000);
    let answer = server.get(&format!("{EXPORT}&end=106400s&format=json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&answer.text()).unwrap(), objects);
    let none = server.get(&format!("{EXPORT}&end=1s&format=json&tag.device_id=none")).await;
    assert_eq!(none.text(), "[]\n");
}

#[tokio::test]
async fn a_client_that_could_not_tell_a_cut_from_the_end_is_refused() {
    let server = filled(|_| {}).await;
    let mut client = server.connect().await;
    client.send(format!("GET {EXPORT} HTTP/1.0\r\nhost: x\r\n\r\n")).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 505") || answer.starts_with("HTTP/1.1 505"), "{answer}");
    assert!(answer.contains("proxy_http_version"), "{answer}");
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let server = filled(|_| {}).await;
    for (target, status, said) in [
        ("/api/v1/export?measurement=energy&start=0s&limit=5", 400, "limit"),
        ("/api/v1/export?measurement=energy&start=0s&format=xml", 400, "csv, ndjson"),
        ("/api/v1/export?measurement=energy&start=0s&damaged=x", 400, "damaged"),
        ("/api/v1/export?measurement=energy", 400, "start"),
        ("/api/v1/export?db=none&measurement=energy&start=0s", 404, "database not found"),
    ] {
        let answer = server.get(target).await;
        let (_, message) = answer.refusal();
        assert_eq!(answer.status, status, "{target}: {message}");
        assert!(message.contains(said), "{target}: {message}");
    }
}

#[tokio::test]
async fn an_export_that_nobody_takes_holds_little_takes_its_turn_and_ends_with_its_client() {
    let server = filled(|limits| {
        limits.concurrent_exports = 1;
        limits.queue_time = Span::millis(50);
        limits.body_idle_time = Span::secs(600);
    })
    .await;
    let mut slow = server.connect().await;
    slow.send(request("GET", EXPORT, &[], b"")).await;
    server
        .until("the export has begun", async |server| {
            let running = server.get("/api/v1/queries/slow").await.json();
            running["running"].as_array().unwrap().iter().any(|query| query["endpoint"] == "export")
        })
        .await;
    let refused = server.get(EXPORT).await;
    assert_eq!(refused.status, 503);
    assert_eq!(server.limit_reached("concurrent_exports").await, 1.0);
    // Other work goes on.
    assert_eq!(server.get("/api/v1/last?measurement=energy").await.status, 200);
    drop(slow);
    server.until("the turn is free", async |server| server.get(EXPORT).await.status == 200).await;
}

#[tokio::test]
async fn damage_cuts_the_connection_or_is_left_out_and_told_behind_the_rows() {
    let server = filled(|_| {}).await;
    let disk = server.disk.clone();
    let (segment, len) = disk
        .paths()
        .into_iter()
        .filter(|(path, _)| path.starts_with("segments/"))
        .max_by_key(|p| p.1)
        .unwrap();
    disk.flip_bit(&segment, len / 2, 1);
    let mut client = server.connect().await;
    client.send(request("GET", EXPORT, &[("te", "trailers")], b"")).await;
    let cut = client.rest().await;
    assert!(cut.starts_with("HTTP/1.1 200") && cut.len() > 1 << 20, "{:?}", cut.get(..300));
    assert!(!cut.ends_with("\r\n0\r\n\r\n") && !cut.contains("x-wattlog-partial: "), "it looks whole");
    let mut client = server.connect().await;
    client
        .send(request(
            "GET",
            &format!("{EXPORT}&damaged=skip"),
            &[("te", "trailers"), ("connection", "close")],
            b"",
        ))
        .await;
    let text = client.rest().await;
    assert!(
        text.contains("trailer: x-wattlog-partial") && text.ends_with("0\r\nx-wattlog-partial: true\r\n\r\n")
    );
    assert!(text.len() > 4 << 20);
}
