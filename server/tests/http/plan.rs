//! The plan's sessions: one session is told once, whoever told it and in which order, and telling it again loses nothing.

use super::records::{Home, home};
use serde_json::{Value, json};
use wattlog_ledger::schema::Session;
use wattlog_ledger::{Actor, Stored};

const ROUTE: &str = "/api/charging-sessions";

/// As the import of the optimiser's session `20251202_1` stores it.
fn imported() -> Value {
    json!({"session_id": "charging/20251202_1", "kind": "charging", "device_id": "roof", "start": "2025-12-02T01:00:00Z",
        "end": "2025-12-02T03:00:00Z", "source": "grid", "status": "completed", "origin": "imported", "priority": 2,
        "target_energy_kwh": 8.0, "energy_kwh": 7.5, "savings": 1.25, "details": {"optimiser_id": "20251202_1", "rest": {"x": 1}}})
}

/// As the appliance finds it in the points.
fn detected() -> Value {
    json!({"session_id": "roof/charging/1764637260000000000", "kind": "charging", "device_id": "roof", "start": "2025-12-02T01:01:00Z",
        "end": "2025-12-02T02:59:00Z", "source": "grid", "status": "completed", "origin": "detected", "energy_kwh": 7.4, "energy_grid_kwh": 7.4,
        "details": {"readings": 700}})
}

/// As the optimiser tells it.
fn told() -> Value {
    json!({"session_id": "20251202_1", "start_time": "2025-12-02T02:00:00", "end_time": "2025-12-02T04:00:00", "status": "completed",
        "energy_charged_kwh": 7.6, "total_cost_pln": 3.1})
}

impl Home {
    /// Stores a record past HTTP, as the import and the appliance do.
    async fn keep(&self, record: Value, by: &str) -> Stored<Session> {
        let session: Session = serde_json::from_value(record).unwrap();
        self.ledger.put(session, &Actor::new(by)).await.unwrap().stored
    }

    /// Name and origin of each session of the plan's listing of that day.
    async fn day(&self, more: &str) -> Vec<(String, String)> {
        let (status, list) =
            self.get(&format!("{ROUTE}?start_date=2025-12-02&end_date=2025-12-02{more}")).await;
        assert_eq!(status, 200, "{list}");
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(|one| (text(one, "session_id"), text(one, "origin"))).collect()
    }
}

fn named(name: &str, origin: &str) -> (String, String) {
    (name.to_owned(), origin.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_once_whether_it_was_imported_or_posted_first() {
    for import_first in [true, false] {
        let home = home().await;
        let found = home.keep(detected(), "analytics").await;
        let first = if import_first {
            let stored = home.keep(imported(), "import:optimiser").await;
            assert_eq!(home.day("").await, [named("20251202_1", "imported")]);
            let (status, shown) = home.post(ROUTE, told()).await;
            assert_eq!(
                (status, &shown["id"]),
                (200, &json!(stored.id)),
                "it takes the place of the imported one"
            );
            // What the plan has no name for is still there.
            assert_eq!((&shown["device_id"], &shown["savings_pln"]), (&json!("roof"), &json!(1.25)));
            stored.id
        } else {
            let (status, shown) = home.post(ROUTE, told()).await;
            assert_eq!(status, 201, "{shown}");
            // An import looks for its own key, and leaves alone what somebody else wrote there.
            let key = [wattlog_ledger::Value::Text(Some("charging/20251202_1".to_owned()))];
            let stored =
                home.ledger.find::<Session>(&key).await.unwrap().expect("under the key of the import");
            assert_eq!(stored.updated.by, "http:127.0.0.1");
            stored.id
        };
        assert_eq!(home.day("").await, [named("20251202_1", "reported")]);
        assert_eq!(home.day("&origin=reported").await, [named("20251202_1", "reported")]);
        assert_eq!(home.day("&origin=imported").await, []);
        let own = named(&found.record.session_id, "detected");
        assert_eq!(home.day("&origin=all").await, [named("20251202_1", "reported"), own.clone()]);
        assert_eq!(home.day("&origin=detected").await, [own]);
        // By the name that the import gave it, too.
        let mut again = told();
        again["session_id"] = json!("charging/20251202_1");
        again["battery_soc_end"] = json!(80);
        let (status, shown) = home.post(ROUTE, again).await;
        assert_eq!((status, &shown["id"], &shown["session_id"]), (200, &json!(first), &json!("20251202_1")));
        assert_eq!(home.day("").await.len(), 1);
        assert_eq!(home.get(&format!("{ROUTE}?origin=guessed")).await.0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_read_and_told_again_loses_nothing_however_often() {
    let home = home().await;
    let full = json!({"session_id": "charging/n1", "kind": "charging", "device_id": "roof", "start": "2025-12-02T01:00:00Z",
        "source": "mixed", "status": "active", "origin": "reported", "priority": 1, "target_energy_kwh": 9.0, "target_soc": 90.0,
        "battery_soc_start": 20.0, "energy_kwh": 3.0, "energy_grid_kwh": 2.0, "energy_pv_kwh": 1.0, "peak_power_w": 4000.0,
        "average_price": 0.5, "total_cost": 1.0, "revenue": 0.25, "savings": 0.75, "currency": "EUR", "coverage": 0.99,
        "details": {"note": "kept", "mode": "fast"}});
    let before = home.keep(full, "test").await;
    let shown = home.get(&format!("{ROUTE}?start_date=2025-12-02")).await.1[0].clone();
    let (status, same) = home.post(ROUTE, shown.clone()).await;
    assert_eq!((status, &same), (200, &shown), "what is shown can be told: it changes nothing");
    for round in ["slow", "slower", "slowest"] {
        let mut done = home.get(&format!("{ROUTE}?start_date=2025-12-02")).await.1[0].clone();
        done["status"] = json!("completed");
        done["end_time"] = json!("2025-12-02T02:00:00Z");
        done["mode"] = json!(round);
        let (status, told) = home.post(ROUTE, done).await;
        assert_eq!((status, &told["details"]), (200, &json!({"note": "kept", "mode": round})), "{told}");
    }
    let stored = home.ledger.get::<Session>(before.id).await.unwrap().unwrap();
    let mut expected = serde_json::to_value(&before.record).unwrap();
    expected["status"] = json!("completed");
    expected["end"] = json!("2025-12-02T02:00:00Z");
    expected["details"]["mode"] = json!("slowest");
    assert_eq!(serde_json::to_value(&stored.record).unwrap(), expected);

    // The plan's own fields are replaced; of the others, only those that are told. A null is told.
    let least = json!({"session_id": "n1", "start_time": "2025-12-02T01:00:00Z", "energy_grid_kwh": null, "details": {"more": [1]}});
    let (_, told) = home.post(ROUTE, least).await;
    for (name, value) in [
        ("status", json!("active")),
        ("end_time", Value::Null),
        ("battery_soc_start", Value::Null),
        ("total_cost_pln", Value::Null),
        ("energy_grid_kwh", Value::Null),
        ("energy_pv_kwh", json!(1.0)),
        ("savings_pln", json!(0.75)),
        ("currency", json!("EUR")),
        ("device_id", json!("roof")),
        ("source", json!("mixed")),
        ("details", json!({"note": "kept", "mode": "slowest", "more": [1]})),
    ] {
        assert_eq!(told[name], value, "{name}: {told}");
    }
    for wrong in [json!({"details": "text"}), json!({"energy_pv_kwh": "much"}), json!({"currency": "zloty"})]
    {
        let mut body = json!({"session_id": "n1", "start_time": "2025-12-02T01:00:00Z"});
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(home.post(ROUTE, body).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_name_in_its_name_is_refused() {
    let home = home().await;
    for nameless in ["", "  ", "charging/", "charging/ "] {
        let body = json!({ "session_id": nameless, "start_time": "2025-12-02T01:00:00Z" });
        let (status, refused) = home.post(ROUTE, body).await;
        assert_eq!(status, 400, "{nameless:?}: {refused}");
    }
    let (status, made) = home.post(ROUTE, json!({ "start_time": "2025-12-02T01:00:00Z" })).await;
    assert_eq!((status, &made["session_id"]), (201, &json!("charging 2025-12-02T01:00:00Z")), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_appliance_keeps_is_its_own() {
    let home = home().await;
    let session = home.keep(detected(), "analytics").await;
    let computed = json!({"report_type": "daily", "device_id": "roof", "start": "2025-12-01T23:00:00Z", "end": "2025-12-02T23:00:00Z",
        "time_zone": "Europe/Warsaw", "data": {"pv_kwh": 3}, "inputs": "1-0", "origin": "computed"});
    let record = serde_json::from_value(computed.clone()).unwrap();
    let report =
        home.ledger.insert::<wattlog_ledger::schema::Report>(record, &Actor::new("analytics")).await.unwrap();

    let shown = home.get(&format!("{ROUTE}?origin=detected")).await.1[0].clone();
    let (status, refused) = home.post(ROUTE, shown).await;
    assert_eq!((status, &refused["code"]), (409, &json!("kept")), "{refused}");
    for (many, id, body, field) in [
        ("/api/v1/sessions", session.id, detected(), "savings"),
        ("/api/v1/reports", report.id, computed, "inputs"),
    ] {
        // None can be made.
        let (status, refused) = home.post(many, body.clone()).await;
        assert_eq!((status, &refused["field"]), (400, &json!("origin")), "{refused}");
        // None can be changed, made somebody's, or removed.
        let one = format!("{many}/{id}");
        let mut other = home.get(&one).await.1;
        let before = other.clone();
        other[field] = json!(null);
        for change in [other.clone(), {
            other["origin"] = json!("imported");
            other
        }] {
            let refused = home.put(&one, Some("\"1\""), change).await;
            assert_eq!((refused.status, &*refused.refusal().0), (409, "kept"), "{}", refused.text());
        }
        let refused = home.running.ask("DELETE", &one, &[("If-Match", "*")], b"").await;
        assert_eq!((refused.status, &*refused.refusal().0), (409, "kept"), "{}", refused.text());
        assert_eq!(home.get(&one).await.1, before);
    }
    // Nor can one's own become one.
    let mut own = detected();
    own["session_id"] = json!("mine");
    own["origin"] = json!("reported");
    let (_, made) = home.post("/api/v1/sessions", own.clone()).await;
    own["origin"] = json!("detected");
    let refused = home.put(&format!("/api/v1/sessions/{}", made["id"]), Some("*"), own).await;
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("origin")), "{}", refused.text());
    // A remark at it can be made, which is what the refusal says.
    let remark = json!({"start": "2025-12-02T01:01:00Z", "title": "the car", "device_id": "roof"});
    assert_eq!(home.post("/api/v1/annotations", remark).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_sessions_with_large_details_are_all_told() {
    // A page of the ledger ends after 8 MiB: that was taken for more than ten thousand sessions.
    let home = home().await;
    let text = "x".repeat(900_000);
    for number in 0..12 {
        let body = json!({"session_id": format!("n{number}"), "start_time": format!("2025-12-02T{number:02}:00:00Z"), "log": text});
        assert_eq!(home.post(ROUTE, body).await.0, 201);
    }
    let (status, list) = home.get(&format!("{ROUTE}?start_date=2025-12-02")).await;
    assert_eq!(status, 200, "{}", list["message"]);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|one| one["session_id"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
    assert_eq!(names, expected);
    assert!(list.as_array().unwrap().iter().all(|one| one["details"]["log"] == json!(text)));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_thousand_sessions_are_refused_with_what_to_do() {
    let home = home().await;
    let mut sessions: Vec<Session> = Vec::new();
    for number in 0..10_001 {
        let mut session: Session = serde_json::from_value(imported()).unwrap();
        session.session_id = format!("charging/{number}");
        session.start.0 += number;
        sessions.push(session);
    }
    home.ledger.put_all(sessions, &Actor::new("import:optimiser")).await.unwrap();
    let (status, refused) = home.get(ROUTE).await;
    assert_eq!((status, &refused["code"]), (422, &json!("limit exceeded")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("more than 10000 sessions"), "{refused}");
    let (status, list) = home.get(&format!("{ROUTE}?start_date=2025-12-02T01:00:00.000000001Z")).await;
    assert_eq!((status, list.as_array().unwrap().len()), (200, 10_000));
}
