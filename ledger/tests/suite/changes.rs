//! Who changed what, from which version, and what became of it.

use crate::on_both;
use crate::support::{NOW, actor};
use serde_json::json;
use std::time::Duration;
use wattlog_ledger::schema::{Annotation, Preference};
use wattlog_ledger::{Action, Actor, Edit, Expected, LedgerError, Listing};
use wattlog_model::Timestamp;

fn annotation(title: &str) -> Annotation {
    serde_json::from_value(json!({"start": "2026-03-01T10:00:00Z", "title": title})).unwrap()
}

fn preference(value: i64) -> Preference {
    Preference { owner: String::new(), name: "theme".into(), value: json!(value) }
}

on_both! {
    async fn each_change_tells_who_and_when_and_stays_in_the_history(place) {
        let ledger = place.open().await;
        let anna = Actor::new("user:anna");
        let first = ledger.insert(annotation("first"), &actor()).await.unwrap();
        place.clock.advance(Duration::from_secs(60));
        let changed = ledger.update(first.id, Expected::Version(1), annotation("second"), &anna).await.unwrap();
        assert_eq!(changed.action, Action::Changed);
        let second = changed.stored;
        assert_eq!((second.version, second.created.clone()), (2, first.created.clone()));
        let later = Timestamp(NOW.0 + 60_000_000_000);
        assert_eq!((second.updated.at, second.updated.by.as_str()), (later, "user:anna"));
        let removed = ledger.remove::<Annotation>(first.id, Expected::Any, &anna).await.unwrap();
        assert_eq!(removed, second);
        assert_eq!(ledger.get::<Annotation>(first.id).await.unwrap(), None);
        let history = ledger.history::<Annotation>(first.id, 0).await.unwrap().0;
        let told: Vec<_> = history
            .iter()
            .map(|change| (change.version, change.action.as_str(), change.changed.by.as_str(), change.record["title"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [(1, "created", "test", "first"), (2, "changed", "user:anna", "second"), (3, "removed", "user:anna", "second")]);
        assert_eq!(history[1].changed.at, later);
    }

    async fn a_change_from_another_version_is_a_conflict_and_alters_nothing(place) {
        let ledger = place.open().await;
        let stored = ledger.insert(annotation("a"), &actor()).await.unwrap();
        ledger.update(stored.id, Expected::Version(1), annotation("b"), &actor()).await.unwrap();
        let late = ledger.update(stored.id, Expected::Version(1), annotation("c"), &actor()).await.unwrap_err();
        assert!(matches!(late, LedgerError::Conflict { expected: 1, found: 2, .. }), "{late}");
        let late = ledger.remove::<Annotation>(stored.id, Expected::Version(1), &actor()).await.unwrap_err();
        assert!(matches!(late, LedgerError::Conflict { .. }), "{late}");
        let now = ledger.get::<Annotation>(stored.id).await.unwrap().unwrap();
        assert_eq!((now.version, now.record.title.as_str()), (2, "b"));
        let gone = ledger.update(stored.id + 1, Expected::Any, annotation("x"), &actor()).await.unwrap_err();
        assert!(matches!(gone, LedgerError::Missing { .. }), "{gone}");
        assert_eq!(ledger.history::<Annotation>(stored.id, 0).await.unwrap().0.len(), 2);
    }

    async fn telling_the_same_twice_is_telling_it_once(place) {
        let ledger = place.open().await;
        let made = ledger.put(preference(1), &actor()).await.unwrap();
        assert_eq!(made.action, Action::Created);
        let again = ledger.put(preference(1), &Actor::new("other")).await.unwrap();
        assert_eq!((again.action, &again.stored), (Action::Unchanged, &made.stored));
        let changed = ledger.put(preference(2), &actor()).await.unwrap();
        assert_eq!((changed.action, changed.stored.id, changed.stored.version), (Action::Changed, made.stored.id, 2));
        assert_eq!(ledger.history::<Preference>(made.stored.id, 0).await.unwrap().0.len(), 2);
        let exists = ledger.insert(preference(3), &actor()).await.unwrap_err();
        assert!(matches!(exists, LedgerError::Exists { .. }), "{exists}");
    }

    async fn many_are_stored_all_or_none(place) {
        let ledger = place.open().await;
        let named = |name: &str, value| Preference { name: name.into(), ..preference(value) };
        // The third is refused by its check, before anything is written.
        let wrong = vec![named("a", 1), named("b", 1), named(" ", 1)];
        assert!(matches!(ledger.put_all(wrong, &actor()).await.unwrap_err(), LedgerError::Invalid { .. }));
        assert!(ledger.list::<Preference>(&Listing::all()).await.unwrap().records.is_empty());
        // A record twice in one call is made and then changed.
        let outcomes = ledger.put_all(vec![named("a", 1), named("b", 1), named("a", 2)], &actor()).await.unwrap();
        let actions: Vec<_> = outcomes.iter().map(|outcome| outcome.action).collect();
        assert_eq!(actions, [Action::Created, Action::Created, Action::Changed]);
        assert_eq!(ledger.list::<Preference>(&Listing::all()).await.unwrap().records.len(), 2);
    }

    async fn changes_of_one_transaction_are_all_made_or_none(place) {
        let ledger = place.open().await;
        let first = ledger.insert(annotation("first"), &actor()).await.unwrap();
        let second = ledger.insert(annotation("second"), &actor()).await.unwrap();
        let anna = Actor::new("user:anna");
        let edits = |version: i64| {
            [
                Edit::Remove(first.id, Expected::Any),
                Edit::Insert(annotation("third")),
                Edit::Update(second.id, Expected::Version(version), annotation("other")),
            ]
        };
        let late = ledger.edit_all(&edits(2), &anna).await.unwrap_err();
        assert!(matches!(late, LedgerError::Conflict { expected: 2, found: 1, .. }), "{late}");
        let unchanged = ledger.list::<Annotation>(&Listing::all()).await.unwrap().records;
        assert_eq!(unchanged.len(), 2);
        assert_eq!(ledger.history::<Annotation>(first.id, 0).await.unwrap().0.len(), 1);
        let done = ledger.edit_all(&edits(1), &anna).await.unwrap();
        assert_eq!(done, [Action::Removed, Action::Created, Action::Changed]);
        let same = [Edit::Update(second.id, Expected::Version(2), annotation("other"))];
        assert_eq!(ledger.edit_all(&same, &anna).await.unwrap(), [Action::Unchanged]);
        let mut left = ledger.list::<Annotation>(&Listing::all()).await.unwrap().records;
        left.sort_by_key(|stored| stored.id);
        let left: Vec<_> = left.iter().map(|stored| (stored.version, stored.record.title.as_str())).collect();
        assert_eq!(left, [(2, "other"), (1, "third")]);
        let history = ledger.history::<Annotation>(first.id, 0).await.unwrap().0;
        assert_eq!((history[1].action.as_str(), history[1].changed.by.as_str()), ("removed", "user:anna"));
    }

    async fn what_the_schema_refuses_in_the_middle_leaves_nothing_behind(place) {
        use wattlog_ledger::schema::{DeliveryStatus, AlertDelivery};
        let ledger = place.open().await;
        let delivery = |event_id| AlertDelivery {
            event_id, channel: "mail".into(), status: DeliveryStatus::Pending, attempts: 0, next_attempt: NOW,
            delivered: None, last_error: None,
        };
        let event = serde_json::from_value(json!({
            "event_key": "e", "rule_name": "r", "severity": "info", "state": "firing", "at": "2026-03-01T10:00:00Z", "message": "m"}));
        let event: wattlog_ledger::schema::AlertEvent = event.unwrap();
        let event = ledger.insert(event, &actor()).await.unwrap();
        let refused = ledger.put_all(vec![delivery(event.id), delivery(event.id + 7)], &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Refused { .. }), "{refused}");
        assert!(ledger.list::<AlertDelivery>(&Listing::all()).await.unwrap().records.is_empty());
    }
}
