//! What is there for machines and visitors: probes, metrics, the description, the front page, the prefix.

use super::support::Setup;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn probes_say_not_yet_until_the_store_is_open() {
    let server = Setup::default().start_closed().await;
    let ready = server.get("/ready").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "1"));
    assert_eq!(ready.json()["status"], "starting");
    let health = server.get("/health").await;
    assert_eq!((health.status, health.json()["status"].clone()), (503, json!("fail")));
    assert_eq!(server.get("/ping").await.status, 204);
    assert_eq!(server.get("/metrics").await.status, 200);
    let answer = server.get("/api/v1/databases").await;
    assert_eq!((answer.status, answer.refusal().0), (503, "unavailable".to_owned()));
    assert!(!answer.header("retry-after").is_empty());
    let answer = server.post("/write?db=a", "m v=1").await;
    assert_eq!((answer.status, answer.json()), (503, json!({ "error": "timeout" })));

    server.open_store();
    let ready = server.get("/ready").await;
    assert_eq!((ready.status, ready.json()["status"].clone()), (200, json!("ready")));
    let health = server.get("/health").await.json();
    assert_eq!(
        health,
        json!({"name": "influxdb", "message": "ready for queries and writes", "status": "pass", "checks": [],
            "version": "1.8.10-wattlog", "commit": "abc"})
    );
    assert_eq!(server.post("/write?db=a", "m v=1").await.status, 204);
    let ping = server.get("/ping?verbose=true").await;
    assert_eq!((ping.status, ping.json()), (200, json!({ "version": "1.8.10-wattlog" })));
    assert_eq!(ping.header("x-influxdb-version"), "1.8.10-wattlog");
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_look_for() {
    let server = Setup::default().start().await;
    server.store("m v=1 1\nm v=2 2").await;
    server.post("/write?db=wattlog", "m v=").await;
    server.get("/api/v1/query?measurement=m&start=0s").await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    for sample in [
        "wattlog_ingest_points_total{source=\"influx1\"} 2",
        "wattlog_ingest_rejected_points_total{reason=\"unparsed\"} 1",
        "wattlog_query_duration_seconds_count{endpoint=\"query\"} 1",
        "wattlog_query_points_scanned_total 2",
        "wattlog_series 1",
        "wattlog_store_points_total 2",
        "wattlog_build_info{version=\"9.9.9\",commit=\"abc\"} 1",
    ] {
        assert!(text.lines().any(|line| line.starts_with(sample)), "no {sample} in\n{text}");
    }
    for name in
        ["wattlog_wal_fsync_duration_seconds_bucket{", "wattlog_wal_bytes ", "process_start_time_seconds "]
    {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
    }
    let headers = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = server.ask("GET", "/metrics", &headers, b"").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_route_of_the_description_is_served() {
    let server = Setup::default().start().await;
    server.store("m,key=a v=1").await;
    let description = server.get("/openapi.json").await.json();
    let mut routes = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            routes.insert((path.clone(), method.to_uppercase()));
        }
    }
    assert_eq!(routes.len(), 109);
    for (path, method) in routes {
        let target = path
            .replace("{measurement}", "m")
            .replace("{key}", "key")
            .replace("{field}", "v")
            .replace("{id}", "1")
            .replace("{name}", "n")
            // Which else waits for a change.
            .replace("/changes", "/changes?wait=0s");
        let answer = server.ask(&method, &target, &[], b"").await;
        assert_ne!(answer.status, 405, "{method} {path}");
        if answer.status == 404 {
            assert!(!answer.text().contains("/openapi.json"), "{method} {path} has no route");
        }
    }
}

#[tokio::test]
async fn the_front_page_escapes_what_it_shows_and_fetches_nothing() {
    let server = Setup::default().start().await;
    server.store("energy_data,device_id=<b>&x pv_power=5").await;
    let answer = server.get("/").await;
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    let page = answer.text();
    assert!(page.contains("&lt;b&gt;&amp;x") && !page.contains("<b>"), "{page}");
    let head = server.ask("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, &*page.len().to_string()));
}

#[tokio::test]
async fn every_route_answers_with_and_without_the_prefix_and_its_folder_is_found() {
    let mut setup = Setup::default();
    setup.server.path_prefix = "/tools/wattlog".to_owned();
    let server = setup.start().await;
    assert_eq!(server.post("/tools/wattlog/write?db=wattlog", "m v=1 1").await.status, 204);
    assert_eq!(server.get("/tools/wattlog/api/v1/measurements").await.json()["measurements"], json!(["m"]));
    assert_eq!(server.get("/api/v1/measurements").await.status, 200);
    assert!(server.get("/tools/wattlog/").await.text().contains("<h1>wattlog</h1>"));
    let answer = server.get("/tools/wattlog?a=b").await;
    assert_eq!((answer.status, answer.header("location")), (308, "/tools/wattlog/?a=b"));
    assert_eq!(server.get("/tools/wattlogs").await.status, 404);
}

#[tokio::test]
async fn long_answers_are_packed_for_who_takes_that() {
    let server = Setup::default().start().await;
    let lines: String = (0..2000).map(|n| format!("m v={n} {n}000000\n")).collect();
    server.store(&lines).await;
    let target = "/api/v1/query?measurement=m&start=0s";
    let plain = server.get(target).await;
    let packed = server.ask("GET", target, &[("accept-encoding", "gzip")], b"").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < plain.body.len() / 2);
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*packed.body), &mut unpacked).unwrap();
    let unpacked: serde_json::Value = serde_json::from_str(&unpacked).unwrap();
    assert_eq!(unpacked["series"], plain.json()["series"]);
}
