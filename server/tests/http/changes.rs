//! `/api/v1/changes`: a client that follows hears of everything once, and can be sent away.

use super::support::{NOW, PATIENCE, Running, Setup};
use serde_json::{Value, json};
use wattlog_server::Span;

/// One row, so many minutes before the clock.
fn line(minutes: i64) -> String {
    format!("power,device=a watts=1 {}", NOW.0 - minutes * 60_000_000_000)
}

fn minute(minutes: i64) -> i64 {
    NOW.0 / 1_000_000 - minutes * 60_000
}

fn event(name: &str, (from, to): (i64, i64), more: &Value) -> Value {
    let mut event = json!({ "event": name, "start": minute(from), "end": minute(to) });
    if name != "finished" {
        event["database"] = json!("wattlog");
        event["retention_policy"] = json!("autogen");
        event["measurement"] = json!("power");
    }
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

async fn changes(server: &Running, query: &str) -> (Value, String) {
    let answer = server.get(&format!("/api/v1/changes?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    (answer["events"].clone(), answer["cursor"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_client_that_follows_hears_of_rows_late_rows_and_deletes() {
    let server = Setup::default().start().await;
    server.store(&line(150)).await;
    let (events, start) = changes(&server, "wait=0s").await;
    assert_eq!(events, json!([]));
    let hourly = "measurement=power&every=1h&tz=UTC";
    // It waits first, and is woken by the row.
    let waiting = format!("{hourly}&after={start}&wait=30s");
    let (told, ()) = tokio::join!(changes(&server, &waiting), async {
        server
            .until("a request waits", async |server| server.metric("wattlog_changes_waiting").await == 1.0)
            .await;
        server.store(&line(50)).await;
    });
    let none = json!({});
    let passed = json!([event("finished", (180, 120), &none), event("finished", (120, 60), &none)]);
    assert_eq!(told.0, passed);
    let (ranges, after) = changes(&server, &format!("after={start}&wait=0s")).await;
    let rows = json!([event("appended", (50, 50), &json!({ "rows": 1, "end": minute(50) + 1 }))]);
    assert_eq!(ranges, rows);

    server.store(&line(130)).await;
    let (revised, cursor) = changes(&server, &format!("{hourly}&after={}&wait=5s", told.1)).await;
    assert_eq!(revised, json!([event("revised", (180, 120), &json!({ "cause": "late" }))]));
    let (dirty, _) = changes(&server, &format!("after={after}&wait=5s")).await;
    let late = json!({ "cause": "late", "fields": null, "end": minute(130) + 1 });
    assert_eq!(dirty, json!([event("dirty", (130, 130), &late)]));

    let range = format!("start={}ns&end={}ns", NOW.0 - 100 * 60_000_000_000, NOW.0);
    let deleted = server.post(&format!("/api/v1/delete?measurement=power&fields=watts&{range}"), "").await;
    assert_eq!(deleted.status, 200);
    let (revised, cursor) = changes(&server, &format!("{hourly}&after={cursor}&wait=5s")).await;
    assert_eq!(revised, json!([event("revised", (120, 60), &json!({ "cause": "delete" }))]));
    let lines = server.get(&format!("/api/v1/changes?after={after}&wait=0s&format=ndjson")).await.text();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let delete = event("dirty", (100, 0), &json!({ "cause": "delete", "fields": ["watts"] }));
    assert_eq!(lines[1..2], [delete]);
    assert!(lines[2]["cursor"].is_string() && lines.len() == 3, "{lines:?}");
    // Nothing more: it answers when the time is over.
    assert_eq!(changes(&server, &format!("{hourly}&after={cursor}&wait=10ms")).await.0, json!([]));
    assert!(server.metric("wattlog_change_events_total").await >= 7.0);
    assert_eq!(server.metric("wattlog_changes_waiting").await, 0.0);
}

#[tokio::test]
async fn too_many_that_wait_are_sent_away_and_a_stop_ends_the_wait() {
    let mut server = Setup::limits(|limits| {
        limits.waiting_changes = 1;
        limits.queue_time = Span::millis(10);
    })
    .start()
    .await;
    let mut waiting = server.connect().await;
    let request = "GET /api/v1/changes?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n";
    waiting.send(request.as_bytes().to_vec()).await;
    server
        .until("a request waits", async |server| server.metric("wattlog_changes_waiting").await == 1.0)
        .await;
    let refused = server.get("/api/v1/changes?wait=0s").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(server.limit_reached("waiting_changes").await, 1.0);
    let begun = std::time::Instant::now();
    server.begin_stop();
    let answer = waiting.answer().await;
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!([])));
    assert!(begun.elapsed() < PATIENCE, "it waited for its time to be over");
}

#[tokio::test]
async fn a_client_that_went_away_gives_its_place_back() {
    let server = Setup::limits(|limits| limits.waiting_changes = 1).start().await;
    let mut gone = server.connect().await;
    gone.send(b"GET /api/v1/changes?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()).await;
    server
        .until("a request waits", async |server| server.metric("wattlog_changes_waiting").await == 1.0)
        .await;
    drop(gone);
    // Within `queue_time`.
    let answer = server.get("/api/v1/changes?wait=0s").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_its_name() {
    let server = Setup::default().start().await;
    for (query, text) in [
        ("after=x", "after: a cursor looks like"),
        ("filed=x", "unknown parameter"),
        ("limit=0", "limit: "),
        ("every=1d&offset=25h", "a bucket must be at least"),
        ("db=a&db=b", "stands more than once"),
    ] {
        let answer = server.get(&format!("/api/v1/changes?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(text), "{query}: {}", answer.text());
    }
}
