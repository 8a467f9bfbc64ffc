//! Steps of the evaluation of alerts: whole or absent, each event once, nobody's step over another's.

use crate::on_both;
use crate::support::{NOW, actor};
use serde_json::json;
use wattlog_ledger::schema::{
    AlertBacklog, AlertDelivery, AlertEvent, AlertFinding, AlertRule, AlertState, AlertStep, AlertStepDone,
    AlertsForgotten, DeliveryStatus, EventState, Severity,
};
use wattlog_ledger::{Expected, Ledger, LedgerError, Listing};
use wattlog_model::Timestamp;

async fn rule(ledger: &Ledger, name: &str) -> i64 {
    let rule = AlertRule {
        name: name.to_owned(),
        severity: Severity::Warning,
        enabled: true,
        definition: json!({}),
        channels: vec!["phone".to_owned()],
        note: String::new(),
    };
    ledger.insert(rule, &actor()).await.unwrap().id
}

fn state(rule_id: i64, evaluated: i64) -> AlertState {
    AlertState { rule_id, state: json!({"at": evaluated}), evaluated: Timestamp(evaluated) }
}

fn finding(rule_id: i64, key: &str, state: EventState, channels: &[&str]) -> AlertFinding {
    let event = AlertEvent {
        event_key: key.to_owned(),
        rule_id: Some(rule_id),
        rule_name: "r".to_owned(),
        severity: Severity::Warning,
        state,
        at: NOW,
        value: Some(1.5),
        message: "m".to_owned(),
        silenced: false,
        details: json!({}),
    };
    AlertFinding { event, channels: channels.iter().map(|&name| name.to_owned()).collect() }
}

async fn counts(ledger: &Ledger) -> (usize, usize, usize) {
    let all = Listing::all();
    (
        ledger.list::<AlertState>(&all).await.unwrap().records.len(),
        ledger.list::<AlertEvent>(&all).await.unwrap().records.len(),
        ledger.list::<AlertDelivery>(&all).await.unwrap().records.len(),
    )
}

on_both! {
    async fn a_step_is_stored_with_its_events_and_their_deliveries_and_each_event_once(place) {
        let ledger = place.open().await;
        let id = rule(&ledger, "battery low").await;
        let firing = finding(id, "1/5/firing", EventState::Firing, &["phone", "mail", "phone"]);
        let step = AlertStep { state: Some((0, state(id, 5))), findings: vec![firing.clone()] };
        let done = ledger.store_alert_step(step, &actor()).await.unwrap();
        assert_eq!(done, AlertStepDone { state_version: 1, events: 1, deliveries: 2 });
        // Found again, as after a restart that did not hear the answer.
        let again = AlertStep { state: Some((1, state(id, 6))), findings: vec![firing] };
        let done = ledger.store_alert_step(again, &actor()).await.unwrap();
        assert_eq!(done, AlertStepDone { state_version: 2, events: 0, deliveries: 0 });
        assert_eq!(counts(&ledger).await, (1, 1, 2));
        let deliveries = ledger.list::<AlertDelivery>(&Listing::all()).await.unwrap().records;
        assert!(deliveries.iter().all(|one| one.record.next_attempt == NOW && one.record.attempts == 0));
    }

    async fn nothing_of_a_step_is_stored_if_another_was_quicker_or_a_part_is_refused(place) {
        let ledger = place.open().await;
        let id = rule(&ledger, "battery low").await;
        let step = |before, key: &str, channel: &str| AlertStep {
            state: Some((before, state(id, 5))),
            findings: vec![finding(id, key, EventState::Firing, &["phone"]), finding(id, "other", EventState::Firing, &[channel])],
        };
        for before in [1, 7] {
            let refused = ledger.store_alert_step(step(before, "a", "mail"), &actor()).await.unwrap_err();
            assert!(matches!(refused, LedgerError::Conflict { found: 0, .. }), "{refused}");
        }
        let refused = ledger.store_alert_step(step(0, "a", ""), &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Invalid { .. }), "{refused}");
        assert_eq!(counts(&ledger).await, (0, 0, 0));
        let mut both = tokio::task::JoinSet::new();
        for key in ["a", "b"] {
            let (ledger, step) = (ledger.clone(), step(0, key, "mail"));
            both.spawn(async move { ledger.store_alert_step(step, &actor()).await });
        }
        let both = both.join_all().await;
        assert_eq!(both.iter().filter(|one| one.is_ok()).count(), 1, "{both:?}");
        assert!(both.iter().any(|one| matches!(one, Err(LedgerError::Conflict { .. }))), "{both:?}");
        assert_eq!(counts(&ledger).await, (1, 2, 2));
    }

    async fn an_event_of_a_silence_is_told_later_once(place) {
        let ledger = place.open().await;
        let id = rule(&ledger, "battery low").await;
        let mut silenced = finding(id, "1/5/firing", EventState::Firing, &[]);
        silenced.event.silenced = true;
        let step = AlertStep { state: None, findings: vec![silenced] };
        assert_eq!(ledger.store_alert_step(step, &actor()).await.unwrap().deliveries, 0);
        for deliveries in [1, 0] {
            let told = finding(id, "1/5/firing", EventState::Firing, &["phone"]);
            let step = AlertStep { state: None, findings: vec![told] };
            let done = ledger.store_alert_step(step, &actor()).await.unwrap();
            assert_eq!(done, AlertStepDone { state_version: 0, events: 0, deliveries });
        }
        let event = ledger.list::<AlertEvent>(&Listing::all()).await.unwrap().records.remove(0);
        assert!(!event.record.silenced);
    }

    async fn what_a_removed_rule_left_pending_or_firing_is_found_until_it_is_ended(place) {
        let ledger = place.open().await;
        let id = rule(&ledger, "battery low").await;
        let kept = rule(&ledger, "grid").await;
        let findings = vec![
            finding(id, "1-1/2/pending", EventState::Pending, &[]),
            finding(id, "1-1/2/ok", EventState::Resolved, &[]),
            finding(id, "1-1/3/pending", EventState::Pending, &[]),
            finding(id, "1-1/5/pending", EventState::Pending, &[]),
            finding(id, "1-1/5/firing", EventState::Firing, &["phone"]),
            finding(id, "1-1/7/pending", EventState::Pending, &[]),
            finding(kept, "2-1/4/pending", EventState::Pending, &[]),
            finding(id, "1-1/3/firing", EventState::Firing, &[]),
            finding(id, "1-1/3/resolved", EventState::Resolved, &[]),
            finding(kept, "2-1/5/firing", EventState::Firing, &[]),
        ];
        let step = AlertStep { state: Some((0, state(id, 5))), findings };
        ledger.store_alert_step(step.clone(), &actor()).await.unwrap();
        assert_eq!(ledger.unended_without_rule(10).await.unwrap(), []);
        ledger.remove::<AlertRule>(id, Expected::Any, &actor()).await.unwrap();
        let left = ledger.unended_without_rule(10).await.unwrap();
        assert_eq!(left.iter().map(|one| one.record.event_key.as_str()).collect::<Vec<_>>(), ["1-1/5/firing", "1-1/7/pending"]);
        // A step of a rule that is gone is refused whole.
        let late = AlertStep { state: Some((0, state(id, 6))), ..step };
        assert!(matches!(ledger.store_alert_step(late, &actor()).await, Err(LedgerError::Refused { .. })));
        for key in ["1-1/5/resolved", "1-1/7/ok"] {
            let mut end = finding(id, key, EventState::Resolved, &[]);
            end.event.rule_id = None;
            ledger.store_alert_step(AlertStep { state: None, findings: vec![end] }, &actor()).await.unwrap();
        }
        assert_eq!(ledger.unended_without_rule(10).await.unwrap(), []);
    }

    async fn old_episodes_go_whole_and_none_that_goes_on_or_waits_for_its_channel(place) {
        let ledger = place.open().await;
        let id = rule(&ledger, "battery low").await;
        let event = |key: &str, state: EventState, second: i64, channels: &[&str]| {
            let mut made = finding(id, key, state, channels);
            made.event.at = Timestamp(NOW.0 + second * 1_000_000_000);
            made
        };
        let (pending, firing, resolved) = (EventState::Pending, EventState::Firing, EventState::Resolved);
        let findings = vec![
            event("1-1/1/pending", pending, 1, &[]),
            event("1-1/1/firing", firing, 2, &["phone", "mail"]),
            event("1-1/1/resolved", resolved, 3, &["phone", "mail"]),
            event("1-1/10/pending", pending, 10, &[]),
            event("1-1/10/ok", resolved, 11, &[]),
            // Its end is told late: the channel was away.
            event("1-1/20/firing", firing, 20, &["phone"]),
            event("1-1/20/resolved", resolved, 21, &["slow"]),
            // Told to two, of whom one has heard nothing yet.
            event("1-1/30/firing", firing, 30, &["slow"]),
            event("1-1/30/resolved", resolved, 31, &["phone"]),
            // It began before all of them and goes on.
            event("1-1/0/firing", firing, 0, &["phone"]),
            event("1-1/40/firing", firing, 40, &[]),
            event("1-1/40/resolved", resolved, 100, &[]),
        ];
        let step = AlertStep { state: None, findings };
        ledger.store_alert_step(step, &actor()).await.unwrap();
        let of_channel = |name: &str| Listing::all().with_text("channel", name);
        assert_eq!(ledger.alert_backlog().await.unwrap(), AlertBacklog { pending: 9, oldest_pending: Some(NOW), dead: 0 });
        for name in ["phone", "mail"] {
            for one in ledger.list::<AlertDelivery>(&of_channel(name)).await.unwrap().records {
                let dead = name == "mail";
                let settled = AlertDelivery {
                    status: if dead { DeliveryStatus::Dead } else { DeliveryStatus::Delivered },
                    delivered: (!dead).then_some(NOW),
                    attempts: 1,
                    ..one.record
                };
                assert_eq!(settled.again(NOW).is_some(), dead);
                ledger.update(one.id, Expected::Any, settled, &actor()).await.unwrap();
            }
        }
        assert_eq!(ledger.alert_backlog().await.unwrap(), AlertBacklog { pending: 2, oldest_pending: Some(NOW), dead: 2 });
        let keys = || async {
            let events = ledger.list::<AlertEvent>(&Listing::all()).await.unwrap().records;
            events.into_iter().map(|event| event.record.event_key).collect::<Vec<_>>()
        };
        let at = |second: i64| Timestamp(NOW.0 + second * 1_000_000_000);
        let forget = async |before, most| ledger.forget_alerts(before, most, &actor()).await.unwrap();
        assert_eq!(forget(at(3), 10).await, AlertsForgotten::default(), "the end is not before that instant");
        assert_eq!(forget(at(100), 1).await, AlertsForgotten { episodes: 1, events: 3 });
        assert_eq!(ledger.alert_backlog().await.unwrap().dead, 0, "dead letters go with their event");
        assert_eq!(forget(at(100), 10).await, AlertsForgotten { episodes: 1, events: 2 });
        assert_eq!(forget(at(100), 10).await, AlertsForgotten::default());
        let left = [
            "1-1/0/firing", "1-1/20/firing", "1-1/20/resolved", "1-1/30/firing", "1-1/30/resolved", "1-1/40/firing",
            "1-1/40/resolved",
        ];
        assert_eq!(keys().await, left);
        for one in ledger.list::<AlertDelivery>(&of_channel("slow")).await.unwrap().records {
            let dead = AlertDelivery { status: DeliveryStatus::Dead, ..one.record };
            ledger.update(one.id, Expected::Any, dead, &actor()).await.unwrap();
        }
        assert_eq!(forget(at(101), 10).await, AlertsForgotten { episodes: 3, events: 6 });
        assert_eq!(keys().await, ["1-1/0/firing"]);
    }
}
