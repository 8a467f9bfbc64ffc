//! What may not be: told by the checks with a text for people, and held by the schema against whoever writes past them.

use crate::on_both;
use crate::support::{NOW, Place, actor};
use serde_json::json;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use wattlog_ledger::schema::{AlertEvent, AlertRule, AlertState, Session, Tariff, Token, User};
use wattlog_ledger::{Backend, Expected, LedgerError, Listing, Record};

/// A connection of its own, past the ledger, as a tool of the owner has it.
pub(crate) async fn aside(place: &Place) -> AnyConnection {
    let mut connection = AnyConnection::connect(&place.url()).await.unwrap();
    if matches!(place.backend, Backend::Sqlite(_)) {
        connection.execute("PRAGMA foreign_keys = ON").await.unwrap();
    }
    connection
}

fn refused<R: Record>(told: serde_json::Value, field: &str) {
    let record: R = serde_json::from_value(told).unwrap();
    assert_eq!(record.check().unwrap_err().field, field);
}

fn session() -> serde_json::Value {
    json!({"session_id": "s", "kind": "charging", "start": "2026-03-01T10:00:00Z", "end": "2026-03-01T11:00:00Z", "source": "grid",
        "status": "completed", "origin": "reported"})
}

fn with(mut told: serde_json::Value, field: &str, value: serde_json::Value) -> serde_json::Value {
    told[field] = value;
    told
}

fn tariff(direction: &str, from: &str, until: Option<&str>) -> Tariff {
    serde_json::from_value(json!({
        "name": "g12", "direction": direction, "valid_from": from, "valid_until": until, "definition": {}}))
    .unwrap()
}

#[test]
fn a_wrong_field_is_named() {
    refused::<Session>(with(session(), "battery_soc_start", json!(100.5)), "battery_soc_start");
    refused::<Session>(with(session(), "energy_kwh", json!(-1.0)), "energy_kwh");
    refused::<Session>(with(session(), "end", json!("2026-03-01T09:59:59Z")), "end");
    refused::<Session>(with(session(), "end", json!(null)), "end");
    refused::<Session>(with(session(), "currency", json!("zl")), "currency");
    refused::<Session>(with(session(), "session_id", json!("a\nb")), "session_id");
    refused::<Session>(with(session(), "coverage", json!(1.01)), "coverage");
    refused::<Session>(with(session(), "details", json!([])), "details");
    let token = json!({"name": "t", "user_id": 1, "token_hash": "secret", "access": ["read"]});
    refused::<Token>(token.clone(), "token_hash");
    refused::<Token>(
        with(with(token, "token_hash", json!("0".repeat(64))), "access", json!(["all"])),
        "access",
    );
    refused::<User>(json!({"name": "a", "role": "admin", "password_hash": "geheim"}), "password_hash");
    // A field that is not there, or of another type, does not even parse.
    assert!(serde_json::from_value::<Session>(with(session(), "kindd", json!(1))).is_err());
    assert!(serde_json::from_value::<Session>(with(session(), "kind", json!("steal"))).is_err());
    assert!(serde_json::from_value::<Session>(with(session(), "start", json!("yesterday"))).is_err());
}

on_both! {
    async fn the_schema_holds_it_against_other_writers(place) {
        let ledger = place.open().await;
        ledger.insert(serde_json::from_value::<Session>(session()).unwrap(), &actor()).await.unwrap();
        let told = json!({"name": "r", "severity": "info", "enabled": true, "definition": {}});
        ledger.insert(serde_json::from_value::<AlertRule>(told).unwrap(), &actor()).await.unwrap();
        let mut aside = aside(place).await;
        let wrong = [
            "UPDATE sessions SET kind = 'steal'",
            "UPDATE sessions SET end_ns = start_ns - 1",
            "UPDATE sessions SET end_ns = NULL",
            "UPDATE sessions SET battery_soc_end = 101",
            "UPDATE sessions SET energy_kwh = -0.1",
            "UPDATE sessions SET currency = 'ZLOTY'",
            "UPDATE sessions SET version = 0",
            "UPDATE sessions SET details = '{'",
            "UPDATE sessions SET session_id = ''",
            "UPDATE sessions SET start_ns = NULL",
            "UPDATE alert_rules SET enabled = 2",
            "UPDATE alert_rules SET severity = 'loud'",
            "UPDATE history SET action = 'forgotten'",
            "INSERT INTO alert_states (version, created_ns, created_by, updated_ns, updated_by, rule_id, state, evaluated_ns) \
             VALUES (1, 0, 'x', 0, 'x', 4711, '{}', 0)",
            "INSERT INTO sessions (version, created_ns, created_by, updated_ns, updated_by, session_id, kind, start_ns, source, status, \
             origin, currency, details) VALUES (1, 0, 'x', 0, 'x', 's', 'charging', 0, 'grid', 'active', 'reported', 'PLN', '{}')",
        ];
        for sql in wrong {
            assert!(aside.execute(sql).await.is_err(), "{sql}");
        }
        aside.execute("UPDATE sessions SET battery_soc_end = 100").await.unwrap();
    }

    async fn two_tariffs_of_one_direction_never_hold_at_once(place) {
        let ledger = place.open().await;
        let (start, middle, end) = ("2025-01-01T00:00:00Z", "2025-07-01T00:00:00Z", "2026-01-01T00:00:00Z");
        let first = ledger.insert(tariff("import", start, Some(middle)), &actor()).await.unwrap();
        // One begins where the other ends; the other direction has its own.
        ledger.insert(tariff("import", middle, Some(end)), &actor()).await.unwrap();
        ledger.insert(tariff("export", start, None), &actor()).await.unwrap();
        for (from, until) in [(start, Some(middle)), ("2024-01-01T00:00:00Z", None), ("2025-12-31T23:59:59Z", None)] {
            let refused = ledger.insert(tariff("import", from, until), &actor()).await.unwrap_err();
            assert!(matches!(&refused, LedgerError::Invalid { invalid, .. } if invalid.field == "valid_from"), "{refused:?}");
        }
        let longer = tariff("import", start, Some(end));
        let refused = ledger.update(first.id, Expected::Version(1), longer, &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Invalid { .. }), "{refused:?}");
        let refused = ledger.insert(tariff("export", end, None), &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Invalid { .. }), "{refused:?}");
        // A change that leaves it apart from the others is none of their business.
        let shorter = tariff("import", start, Some("2025-06-01T00:00:00Z"));
        ledger.update(first.id, Expected::Version(1), shorter, &actor()).await.unwrap();
        ledger.insert(tariff("import", end, None), &actor()).await.unwrap();
        assert_eq!(ledger.list::<Tariff>(&Listing::all()).await.unwrap().records.len(), 4);
    }

    async fn what_hangs_on_a_record_goes_or_stays_as_it_should(place) {
        let ledger = place.open().await;
        let told = json!({"name": "r", "severity": "info", "enabled": true, "definition": {}});
        let rule = ledger.insert(serde_json::from_value::<AlertRule>(told).unwrap(), &actor()).await.unwrap();
        let state = AlertState { rule_id: rule.id, state: json!({}), evaluated: NOW };
        ledger.insert(state, &actor()).await.unwrap();
        let told = json!({"event_key": "e", "rule_id": rule.id, "rule_name": "r", "severity": "info", "state": "firing",
            "at": "2026-03-01T10:00:00Z", "message": "m"});
        let event = ledger.insert(serde_json::from_value::<AlertEvent>(told).unwrap(), &actor()).await.unwrap();
        ledger.remove::<AlertRule>(rule.id, Expected::Any, &actor()).await.unwrap();
        assert!(ledger.list::<AlertState>(&Listing::all()).await.unwrap().records.is_empty());
        // What happened stays, under the name the rule had.
        let kept = ledger.get::<AlertEvent>(event.id).await.unwrap().unwrap().record;
        assert_eq!((kept.rule_id, kept.rule_name.as_str()), (None, "r"));
    }

    async fn a_user_goes_after_the_tokens_so_that_each_end_is_in_the_history(place) {
        let ledger = place.open().await;
        let user = serde_json::from_value::<User>(json!({"name": "anna", "role": "reader"})).unwrap();
        let user = ledger.insert(user, &actor()).await.unwrap();
        let told = json!({"name": "t", "user_id": user.id, "token_hash": "0".repeat(64), "access": ["read"]});
        let token = ledger.insert(serde_json::from_value::<Token>(told).unwrap(), &actor()).await.unwrap();
        let refused = ledger.remove::<User>(user.id, Expected::Any, &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Refused { .. }), "{refused}");
        ledger.remove::<Token>(token.id, Expected::Any, &actor()).await.unwrap();
        ledger.remove::<User>(user.id, Expected::Any, &actor()).await.unwrap();
    }
}
