//! Every kind of record, with all its fields and with as few as it may have.

use crate::on_both;
use crate::support::{NOW, actor};
use serde_json::{Value, json};
use wattlog_ledger::schema::{
    AlertDelivery, AlertEvent, AlertRule, AlertSilence, AlertState, Annotation, Configuration, Decision,
    Device, ImportRun, Preference, Report, Session, Tariff, Token, User,
};
use wattlog_ledger::{Ledger, Listing, Record};

fn parsed<R: Record>(told: Value) -> R {
    serde_json::from_value(told).unwrap()
}

const DOCS: &str = include_str!("../../../docs/ledger.md");

/// The table of a kind in the documentation has its columns, in their order, and no others.
fn is_documented<R: Record>() {
    let heading = format!("\n## {}\n", R::TABLE);
    let section = DOCS.split(&heading).nth(1).unwrap_or_else(|| panic!("no section {}", R::TABLE));
    let section = section.split("\n## ").next().unwrap();
    let named: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(named, R::COLUMNS, "{}", R::TABLE);
}

/// Stores, reads by number, by listing and as JSON.
async fn comes_back<R: Record>(ledger: &Ledger, told: Value) -> i64 {
    is_documented::<R>();
    let record: R = parsed(told.clone());
    let stored = ledger.insert(record.clone(), &actor()).await.unwrap();
    assert_eq!((stored.version, stored.created.at, stored.created.by.as_str()), (1, NOW, "test"));
    assert_eq!(stored.created, stored.updated);
    let read = ledger.get::<R>(stored.id).await.unwrap().unwrap();
    assert_eq!(read, stored);
    let listed = ledger.list::<R>(&Listing::all()).await.unwrap();
    assert!(listed.records.contains(&stored));
    // What was told stands in the answer, under the same names.
    let shown = serde_json::to_value(&read).unwrap();
    // A column is named as its field, but for the unit of instants: what is written as CSV relies on it.
    for column in R::COLUMNS {
        let name = column.strip_suffix("_ns").unwrap_or(column);
        assert!(shown.get(name).is_some(), "{name} of {}", R::TABLE);
    }
    for (name, value) in told.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name} of {}", R::TABLE);
    }
    stored.id
}

on_both! {
    async fn every_kind_comes_back_as_it_was_told(place) {
        let ledger = place.open().await;
        comes_back::<Device>(&ledger, json!({
            "device_id": "roof", "kind": "inverter", "manufacturer": "GoodWe", "model": "GW10K-ET", "serial_number": "9010KETU",
            "location": "home", "rated_power_w": 10000.0, "battery_capacity_kwh": 20.0, "commissioned": "2024-05-01T00:00:00Z",
            "retired": "2044-05-01T00:00:00Z", "settings": {"family": "ET", "strings": [1, 2]}, "note": "south, 30\u{b0}"})).await;
        comes_back::<Device>(&ledger, json!({"device_id": "car", "kind": "charger"})).await;
        comes_back::<Session>(&ledger, json!({
            "session_id": "20251212_1", "kind": "charging", "device_id": "roof", "start": "2025-12-12T22:30:00.5Z",
            "end": "2025-12-13T01:00:00.000000001Z", "source": "mixed", "status": "completed", "origin": "imported", "priority": 1,
            "target_energy_kwh": 5.0, "target_soc": 90.0, "battery_soc_start": 31.0, "battery_soc_end": 90.5,
            "energy_kwh": 11.9, "energy_grid_kwh": 11.4, "energy_pv_kwh": 0.5, "peak_power_w": 5012.0, "average_price": 0.4321,
            "total_cost": -0.01, "revenue": 0.0, "savings": 1.25, "currency": "EUR", "coverage": 1.0, "details": {"file": "x"}})).await;
        comes_back::<Session>(&ledger, json!({
            "session_id": "s2", "kind": "selling", "start": "2025-12-12T00:00:00Z", "source": "battery", "status": "active",
            "origin": "detected"})).await;
        comes_back::<Decision>(&ledger, json!({
            "decision_key": "k1", "at": "2025-11-13T01:31:00.130007Z", "kind": "charging", "device_id": "roof", "action": "charge",
            "source": "grid", "priority": "high", "reason": "cena 0,17 z\u{142}", "confidence": 0.85, "duration_h": 1.5, "energy_kwh": 5.0,
            "estimated_cost": 0.85, "estimated_savings": 1.15, "expected_revenue": 0.0, "price_kwh": 0.16939,
            "cheapest_price_kwh": -0.5, "cheapest_hour": 13, "currency": "PLN", "battery_soc": 33.0, "pv_power_w": 0.0,
            "consumption_w": 612.0, "tariff_zone": "T2", "origin": "imported", "details": {},
            "repairs": [{"rule": "price-scale", "field": "price_kwh", "original": 5.4541, "repaired": 0.16939}]})).await;
        comes_back::<Decision>(&ledger, json!({
            "decision_key": "k2", "at": "2025-11-13T02:00:00Z", "kind": "other", "action": "wait", "origin": "reported"})).await;
        comes_back::<Configuration>(&ledger, json!({
            "name": "optimiser", "revision": 3, "label": "1.2", "data": {"a": [1, 2.5, null, "x"]}, "active": true, "note": "n"})).await;
        comes_back::<Preference>(&ledger, json!({"owner": "anna", "name": "language", "value": "pl"})).await;
        comes_back::<Preference>(&ledger, json!({"name": "language", "value": null})).await;
        comes_back::<Report>(&ledger, json!({
            "report_type": "daily", "device_id": "roof", "start": "2026-02-28T23:00:00Z", "end": "2026-03-01T23:00:00Z",
            "time_zone": "Europe/Warsaw", "data": {"pv_kwh": 12.5}, "inputs": "etag-1", "origin": "computed"})).await;
        comes_back::<Tariff>(&ledger, json!({
            "name": "g12", "direction": "import", "valid_from": "2025-01-01T00:00:00Z", "valid_until": "2026-01-01T00:00:00Z",
            "currency": "PLN", "definition": {"kind": "g12"}, "note": ""})).await;
        comes_back::<Tariff>(&ledger, json!({
            "name": "rce", "direction": "export", "valid_from": "2025-01-01T00:00:00Z", "definition": {}})).await;
        comes_back::<Annotation>(&ledger, json!({
            "start": "2026-03-01T10:00:00Z", "end": "2026-03-01T11:00:00Z", "title": "washed the panels", "text": "with rain water",
            "device_id": "roof", "tags": ["pv", "care"]})).await;
        comes_back::<Annotation>(&ledger, json!({"start": "2026-03-01T10:00:00Z", "title": "t"})).await;
        let rule = comes_back::<AlertRule>(&ledger, json!({
            "name": "battery low", "severity": "warning", "enabled": true, "definition": {"kind": "threshold"},
            "channels": ["phone", "mail"], "note": "below the reserve"})).await;
        comes_back::<AlertState>(&ledger, json!({"rule_id": rule, "state": {"since": 1}, "evaluated": "2026-03-01T10:00:00Z"})).await;
        let event = comes_back::<AlertEvent>(&ledger, json!({
            "event_key": "1/2026/firing", "rule_id": rule, "rule_name": "battery low", "severity": "critical", "state": "firing",
            "at": "2026-03-01T10:00:00Z", "value": 9.5, "message": "9.5 %", "silenced": true, "details": {"x": 1}})).await;
        comes_back::<AlertDelivery>(&ledger, json!({
            "event_id": event, "channel": "phone", "status": "delivered", "attempts": 2, "next_attempt": "2026-03-01T10:00:00Z",
            "delivered": "2026-03-01T10:00:01Z", "last_error": "timeout"})).await;
        comes_back::<AlertSilence>(&ledger, json!({
            "rule_name": "battery low", "start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z", "reason": "away"})).await;
        comes_back::<ImportRun>(&ledger, json!({
            "run_key": "dir-1", "tool": "optimiser", "source": "/data/out", "status": "running", "started": "2026-03-01T10:00:00Z",
            "progress": {"file": 3}, "report": {}})).await;
        let user = comes_back::<User>(&ledger, json!({
            "name": "anna", "role": "admin", "password_hash": "$argon2id$v=19$x", "disabled": false})).await;
        comes_back::<Token>(&ledger, json!({
            "name": "grafana", "user_id": user, "token_hash": "0123456789abcdef".repeat(4), "access": ["read"],
            "expires": "2027-01-01T00:00:00Z"})).await;
        ledger.close().await;
    }

    async fn everything_is_there_after_the_ledger_was_closed_and_opened(place) {
        let ledger = place.open().await;
        let told = json!({"start": "2026-03-01T10:00:00Z", "title": "remember"});
        let stored = ledger.insert(parsed::<Annotation>(told), &actor()).await.unwrap();
        ledger.close().await;
        assert!(ledger.get::<Annotation>(stored.id).await.unwrap_err().may_pass());
        let again = place.open().await;
        assert_eq!(again.get::<Annotation>(stored.id).await.unwrap().unwrap(), stored);
        assert_eq!(again.opened().unwrap().set_aside, None);
        assert!(again.health().await.available);
    }

    async fn a_record_is_found_by_what_names_it(place) {
        let ledger = place.open().await;
        for (owner, value) in [("anna", 1), ("", 2)] {
            let told = json!({"owner": owner, "name": "theme", "value": value});
            ledger.insert(parsed::<Preference>(told), &actor()).await.unwrap();
        }
        let key = |owner: &str| {
            [owner, "theme"].map(|text| wattlog_ledger::Value::Text(Some(text.to_owned())))
        };
        let found = ledger.find::<Preference>(&key("anna")).await.unwrap().unwrap();
        assert_eq!(found.record.value, json!(1));
        assert_eq!(ledger.find::<Preference>(&key("")).await.unwrap().unwrap().record.value, json!(2));
        assert_eq!(ledger.find::<Preference>(&key("jan")).await.unwrap(), None);
    }
}
