//! How feeds, broker, alerts, storage and goals stand, told by the real binary, also over a reload.

mod support;

use serde_json::Value;
use std::net::TcpListener;
use support::Server;

/// A port of this machine where nobody listens any more.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(port: u16, alerts: &str) -> String {
    format!(
        "alerts: {{ interval: 1s, {alerts} }}\n\
         collector:\n  feeds: {{ nbp: {{ url: \"http://127.0.0.1:{port}/\" }} }}\n  \
         mqtt: {{ url: \"mqtt://127.0.0.1:{port}\", topics: [ {{ topic: \"a/b\", measurement: m, fields: [ {{ field: x }} ] }} ] }}\n"
    )
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn what_cannot_be_reached_is_told_and_a_reload_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = closed_port();
    let mut server = Server::start(&data, &config(port, "look_back: 24h"));
    server.until("the feed and the broker to fail", |server| {
        let told = server.get("/api/v1/feeds");
        number(&told["feeds"][0]["failures_in_a_row"]) > 0 && !told["mqtt"]["last_error"].is_null()
    });
    let told = server.get("/api/v1/feeds");
    let feed = &told["feeds"][0];
    assert_eq!(
        (&feed["name"], &feed["kind"], &feed["last_success"]),
        (&"nbp".into(), &"rates".into(), &Value::Null)
    );
    assert!(feed["last_error"].is_string() && feed["next_attempt"].is_string(), "{feed}");
    assert_eq!((&told["mqtt"]["connected"], &told["mqtt"]["topics"][0]), (&false.into(), &"a/b".into()));
    server.until("two evaluations", |server| {
        let told = server.get("/api/v1/alerts/status");
        told["running"] == true && number(&told["evaluations"]) >= 2 && !told["backlog"].is_null()
    });
    let before = number(&server.get("/api/v1/alerts/status")["evaluations"]);
    let failed = number(&server.get("/api/v1/feeds")["feeds"][0]["failed_looks"]);

    // Other alerts, another collector.
    let file = folder.path().join("wattlog.yaml");
    let changed = format!("{}  system_metrics: {{ interval: 2s }}\n", config(port, "look_back: 23h"));
    std::fs::write(&file, changed).unwrap();
    server.signal("HUP");
    server.wait_for("reloaded");
    assert!(number(&server.get("/api/v1/alerts/status")["evaluations"]) >= before);
    let feeds = server.get("/api/v1/feeds");
    assert!(number(&feeds["feeds"][0]["failed_looks"]) >= failed, "{feeds}");
    assert!(feeds["feeds"][0]["last_error"].is_string(), "{feeds}");

    std::fs::write(&file, config(port, "enabled: false")).unwrap();
    server.signal("HUP");
    server.wait_for("reloaded");
    assert_eq!(server.get("/api/v1/alerts/status")["running"], false);

    let health = server.get("/api/v1/storage/health");
    assert_eq!(
        (&health["ledger"]["backend"], &health["ledger"]["available"]),
        (&"sqlite".into(), &true.into())
    );
    assert!(number(&health["space"]["total_bytes"]) > 0, "{health}");
    let card = server.get("/api/v1/scorecard");
    let uptime =
        card["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == "uptime").unwrap();
    assert!(uptime["reason"].is_string() && uptime["met"].is_null(), "{uptime}");
    assert!(server.stop().success());
}
