//! How feeds, broker and alerts stand, over HTTP: from providers and a ledger with known content.

use crate::support::{NOW, Running, Setup};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wattlog_ledger::schema::{
    AlertDelivery, AlertEvent, AlertFinding, AlertStep, DeliveryStatus, EventState, Severity,
};
use wattlog_ledger::{Actor, Backend, Expected, Ledger, LedgerOptions, Listing};
use wattlog_model::Timestamp;
use wattlog_server::{
    AlertChannel, AlertTrouble, AlertsProvider, AlertsStatus, BrokerStatus, FeedStatus, FeedStatusProvider,
    FiringAlert,
};

fn at(second: i64) -> Timestamp {
    Timestamp(NOW.0 + second * 1_000_000_000)
}

struct Feeds;

impl FeedStatusProvider for Feeds {
    fn feeds(&self) -> Vec<FeedStatus> {
        let well = FeedStatus {
            name: "nbp".to_owned(),
            kind: "rates",
            last_attempt: Some(at(-60)),
            last_success: Some(at(-59)),
            next_attempt: Some(at(3600)),
            looks: 3,
            requests: 4,
            stored: 12,
            ..FeedStatus::default()
        };
        let ill = FeedStatus {
            name: "pse/rce-pln".to_owned(),
            kind: "prices",
            last_attempt: Some(at(-5)),
            looks: 2,
            failed_looks: 2,
            failures_in_a_row: 2,
            last_error: Some("HTTP 500".to_owned()),
            ..FeedStatus::default()
        };
        vec![well, ill]
    }

    fn broker(&self) -> Option<BrokerStatus> {
        Some(BrokerStatus {
            address: "mqtt://broker.lan".to_owned(),
            topics: vec!["tele/+/SENSOR".to_owned()],
            is_connected: true,
            connections: 2,
            messages: 10,
            last_message: Some(at(-1)),
            acknowledged: 9,
            stored: 7,
            refused: vec![("unusable", 2), ("retained", 1)],
            last_error: None,
            last_unusable: Some("no number".to_owned()),
        })
    }
}

#[tokio::test]
async fn feeds_and_broker_are_shown_and_counted() {
    let server = Setup::default().start().await;
    assert_eq!(server.get("/api/v1/feeds").await.json(), json!({ "feeds": [], "mqtt": null }));
    assert!(!server.get("/metrics").await.text().contains("wattlog_mqtt_"));
    server.state.set_feeds(Arc::new(Feeds));
    let told = server.get("/api/v1/feeds").await.json();
    let (well, ill) = (&told["feeds"][0], &told["feeds"][1]);
    assert_eq!((&well["name"], &well["kind"], &well["stored"]), (&json!("nbp"), &json!("rates"), &json!(12)));
    assert_eq!(well["last_success"], "2026-03-01T09:59:01Z");
    assert_eq!(well["next_attempt"], "2026-03-01T11:00:00Z");
    assert_eq!((&well["last_error"], &well["failures_in_a_row"]), (&Value::Null, &json!(0)));
    assert_eq!((&ill["last_success"], &ill["last_error"]), (&Value::Null, &json!("HTTP 500")));
    let broker = json!({
        "address": "mqtt://broker.lan", "topics": ["tele/+/SENSOR"], "connected": true, "connections": 2,
        "messages": 10, "last_message": "2026-03-01T09:59:59Z", "acknowledged": 9, "stored": 7,
        "refused": { "unusable": 2, "retained": 1 }, "last_error": null, "last_unusable": "no number",
    });
    assert_eq!(told["mqtt"], broker);
    let answer = server.get("/api/v1/feeds?colour=red").await;
    assert_eq!(answer.status, 400, "{}", answer.text());

    for (sample, value) in [
        ("wattlog_feed_failures_in_a_row{feed=\"pse/rce-pln\"}", 2.0),
        ("wattlog_feed_stored_points_total{feed=\"nbp\"}", 12.0),
        ("wattlog_feed_requests_total{feed=\"nbp\"}", 4.0),
        ("wattlog_feed_last_success_timestamp_seconds{feed=\"nbp\"}", at(-59).0 as f64 / 1e9),
        ("wattlog_mqtt_connected", 1.0),
        ("wattlog_mqtt_messages_total", 10.0),
        ("wattlog_mqtt_refused_total{reason=\"unusable\"}", 2.0),
    ] {
        assert_eq!(server.metric(sample).await, value, "{sample}");
    }
    // A feed that never succeeded has no time of a success.
    let text = server.get("/metrics").await.text();
    assert!(!text.contains("wattlog_feed_last_success_timestamp_seconds{feed=\"pse/rce-pln\"}"), "{text}");
}

#[derive(Default)]
struct Alerts {
    woken: AtomicU64,
    off: Mutex<bool>,
}

impl AlertsProvider for Alerts {
    fn status(&self) -> Option<AlertsStatus> {
        (!*self.off.lock()).then(|| AlertsStatus {
            evaluations: 8,
            failed_evaluations: 1,
            last_evaluation: Some(at(-3)),
            samples: 80,
            ignored_samples: 5,
            events: 2,
            forgotten_events: 4,
            firing: vec![FiringAlert { rule_id: 7, name: "battery low".to_owned(), since: at(-600) }],
            troubles: vec![AlertTrouble {
                rule_id: 9,
                name: "odd".to_owned(),
                reason: "no such field".to_owned(),
            }],
            channels: vec![AlertChannel { name: "phone".to_owned(), delivered: 3, retried: 6, dead: 1 }],
        })
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

struct Home {
    server: Running,
    ledger: Ledger,
    alerts: Arc<Alerts>,
    _folder: tempfile::TempDir,
}

/// One event whose phone was given up after four attempts, and whose mail waits for its first.
async fn home() -> Home {
    let server = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    let ledger = Ledger::new(options, server.clock.clone()).unwrap();
    ledger.ready().await.unwrap();
    assert!(server.state.set_ledger(ledger.clone()));
    let alerts = Arc::new(Alerts::default());
    server.state.set_alerts(alerts.clone());
    let event = AlertEvent {
        event_key: "7-1/5/firing".to_owned(),
        rule_id: None,
        rule_name: "battery low".to_owned(),
        severity: Severity::Critical,
        state: EventState::Firing,
        at: at(-600),
        value: Some(9.0),
        message: "The battery is at 9 %.".to_owned(),
        silenced: false,
        details: json!({}),
    };
    let channels = vec!["phone".to_owned(), "mail".to_owned()];
    let step = AlertStep { state: None, findings: vec![AlertFinding { event, channels }] };
    let actor = Actor::new("test");
    ledger.store_alert_step(step, &actor).await.unwrap();
    let phone = Listing::all().with_text("channel", "phone");
    let phone = ledger.list::<AlertDelivery>(&phone).await.unwrap().records.remove(0);
    let dead = AlertDelivery {
        status: DeliveryStatus::Dead,
        attempts: 4,
        last_error: Some("refused: 403".to_owned()),
        ..phone.record
    };
    ledger.update(phone.id, Expected::Any, dead, &actor).await.unwrap();
    Home { server, ledger, alerts, _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_tell_what_fires_what_fails_and_what_waits() {
    let home = home().await;
    home.server.clock.advance(Duration::from_secs(90));
    let told = home.server.get("/api/v1/alerts/status").await.json();
    assert_eq!((&told["running"], &told["evaluations"]), (&json!(true), &json!(8)));
    assert_eq!(told["last_evaluation"], "2026-03-01T09:59:57Z");
    let firing = json!([{ "rule_id": 7, "name": "battery low", "since": "2026-03-01T09:50:00Z" }]);
    assert_eq!(told["firing"], firing);
    assert_eq!(told["troubles"], json!([{ "rule_id": 9, "name": "odd", "reason": "no such field" }]));
    assert_eq!(told["channels"], json!({ "phone": { "delivered": 3, "retried": 6, "dead": 1 } }));
    let backlog = json!({ "pending": 1, "dead": 1, "oldest_pending": "2026-03-01T10:00:00Z", "oldest_pending_age_s": 90.0 });
    assert_eq!(told["backlog"], backlog);
    for (sample, value) in [
        ("wattlog_alert_evaluations_total", 8.0),
        ("wattlog_alert_rules_firing", 1.0),
        ("wattlog_alert_rules_in_trouble", 1.0),
        ("wattlog_alert_forgotten_events_total", 4.0),
        ("wattlog_alert_deliveries_total{channel=\"phone\",outcome=\"retried\"}", 6.0),
        ("wattlog_alert_dead_letters", 1.0),
        ("wattlog_alert_pending_deliveries", 1.0),
        ("wattlog_alert_oldest_undelivered_seconds", 90.0),
    ] {
        assert_eq!(home.server.metric(sample).await, value, "{sample}");
    }
    // Alerts that are switched off leave what waits visible; a ledger that is closed leaves the rest.
    *home.alerts.off.lock() = true;
    let told = home.server.get("/api/v1/alerts/status").await.json();
    assert_eq!(told, json!({ "running": false, "backlog": backlog }));
    home.ledger.close().await;
    *home.alerts.off.lock() = false;
    let told = home.server.get("/api/v1/alerts/status").await.json();
    assert_eq!((&told["backlog"], &told["events"]), (&Value::Null, &json!(2)));
    assert!(!home.server.get("/metrics").await.text().contains("wattlog_alert_dead_letters"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_and_sent_again_under_its_key() {
    let home = home().await;
    let told = home.server.get("/api/v1/alerts/dead-letters").await.json();
    let letter = &told["dead_letters"][0];
    assert_eq!((told["dead_letters"].as_array().unwrap().len(), &told["next"]), (1, &Value::Null));
    assert_eq!((&letter["channel"], &letter["attempts"]), (&json!("phone"), &json!(4)));
    assert_eq!(
        (&letter["last_error"], &letter["event"]["key"]),
        (&json!("refused: 403"), &json!("7-1/5/firing"))
    );
    assert_eq!(letter["event"]["at"], "2026-03-01T09:50:00Z");
    let id = letter["id"].as_i64().unwrap();
    home.server.clock.advance(Duration::from_secs(30));
    let retry = |id: i64| format!("/api/v1/alerts/dead-letters/{id}/retry");
    let again = home.server.post(&retry(id), b"").await;
    assert_eq!(again.status, 200, "{}", again.text());
    let again = again.json();
    assert_eq!((&again["status"], &again["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(again["next_attempt"], "2026-03-01T10:00:30Z");
    assert_eq!(again["event_id"], letter["event"]["id"], "the event, and with it the key, stays");
    assert_eq!(again["last_error"], "refused: 403");
    assert_eq!(home.alerts.woken.load(Ordering::Relaxed), 1);
    assert_eq!(home.server.get("/api/v1/alerts/dead-letters").await.json()["dead_letters"], json!([]));

    let twice = home.server.post(&retry(id), b"").await;
    assert_eq!((twice.status, twice.refusal().0.as_str()), (409, "not dead"));
    assert_eq!(home.server.post(&retry(99), b"").await.status, 404);
    assert_eq!(home.server.post("/api/v1/alerts/dead-letters/x/retry", b"").await.status, 404);
    assert_eq!(home.alerts.woken.load(Ordering::Relaxed), 1);
    for query in ["limit=0", "limit=201", "after=x", "colour=red"] {
        let answer = home.server.get(&format!("/api/v1/alerts/dead-letters?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
}
