//! Rules of every kind against planted values: which events, told to whom.

use crate::support::{Home, SECOND, actor, at, soc_below};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use wattlog_alerts::{Alerts, AlertsConfig, ReadingsError};
use wattlog_ledger::Expected;
use wattlog_ledger::schema::{AlertDelivery, AlertEvent, AlertRule, AlertState, DeliveryStatus};
use wattlog_model::{Clock as _, ManualClock, Timestamp};

struct Run {
    home: Home,
    clock: Arc<ManualClock>,
    alerts: Alerts,
}

/// With a field for one of the prices.
fn config() -> AlertsConfig {
    let price = json!({"measurement": "energy_prices", "field": "price"});
    serde_json::from_value(json!({"prices": {"total": price}})).unwrap()
}

impl Run {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at(0)));
        let home = Home::new(clock.clone()).await;
        let alerts = home.alerts(&config());
        Self { home, clock, alerts }
    }

    /// Lets time pass until `second`, evaluating every ten seconds.
    async fn until(&mut self, second: i64) {
        while self.clock.wall() < at(second) {
            let left = u64::try_from(at(second).0 - self.clock.wall().0).unwrap();
            self.clock.advance(Duration::from_nanos(left.min(10_000_000_000)));
            self.alerts.evaluate_once().await.unwrap();
        }
    }

    async fn check(&self, expected: &[(&str, &str, i64, bool)]) {
        let events = self.home.events().await;
        let events: Vec<_> =
            events.iter().map(|(rule, state, at, quiet)| (rule.as_str(), *state, *at, *quiet)).collect();
        assert_eq!(events, expected);
    }

    async fn told(&self) -> Vec<(String, String)> {
        let events = self.home.all::<AlertEvent>().await;
        let key = |id| events.iter().find(|event| event.id == id).unwrap().record.event_key.clone();
        let mut told: Vec<_> =
            self.home.deliveries().await.into_iter().map(|one| (key(one.event_id), one.channel)).collect();
        told.sort();
        told
    }

    async fn change(&self, id: i64, change: impl FnOnce(&mut AlertRule)) {
        let mut rule = self.home.ledger.get::<AlertRule>(id).await.unwrap().unwrap().record;
        change(&mut rule);
        self.home.ledger.update(id, Expected::Any, rule, &actor()).await.unwrap();
    }
}

#[tokio::test]
async fn a_threshold_that_holds_fires_and_is_told_when_it_fires_and_when_it_ends() {
    let mut run = Run::new().await;
    let id = run.home.rule("battery low", soc_below(60), &["phone", "mail"]).await;
    run.home.rule("other", soc_below(0), &[]).await;
    run.home.plant.put("battery_soc", -5, 40.0);
    run.until(100).await;
    run.check(&[]).await;
    run.home.plant.put("battery_soc", 101, 9.0);
    run.home.plant.put("battery_soc", 130, 12.0);
    run.until(200).await;
    run.home.plant.put("battery_soc", 201, 16.0);
    run.until(300).await;
    run.check(&[
        ("battery low", "pending", 101, false),
        ("other", "firing", 101, false),
        ("battery low", "firing", 161, false),
        ("battery low", "resolved", 201, false),
        ("other", "resolved", 201, false),
    ])
    .await;
    let episode = at(101).0;
    let key = |state: &str| format!("{id}-1/{episode}/{state}");
    let told: Vec<(String, String)> = ["firing", "resolved"]
        .iter()
        .flat_map(|state| ["mail", "phone"].map(|channel| (key(state), channel.to_owned())))
        .collect();
    assert_eq!(run.told().await, told);
    let deliveries = run.home.all::<AlertDelivery>().await;
    assert!(
        deliveries.iter().all(|one| one.record.status == DeliveryStatus::Pending && one.record.attempts == 0)
    );
    let fired = &run.home.all::<AlertEvent>().await[2].record;
    assert_eq!(fired.value, Some(12.0));
    assert!(
        fired.message.contains(
            "battery_soc is at or below 10 % since 2026-03-01 10:01:41 (+00:00), for 1 min now. Value: 12 %."
        ),
        "{}",
        fired.message
    );
    assert_eq!(fired.details["title"], "battery low: firing");
}

#[tokio::test]
async fn a_quiet_rule_costs_one_commit_an_hour() {
    let mut run = Run::new().await;
    run.home.rule("battery low", soc_below(60), &["phone"]).await;
    for second in 0..360 {
        run.home.plant.put("battery_soc", second * 10, 40.0 + (second % 7) as f64);
    }
    run.until(3580).await;
    // Its beginning, and its first evaluation.
    assert_eq!(run.home.state_version().await, 2);
    run.until(3620).await;
    assert_eq!(run.home.state_version().await, 3);
    // Each value was read once.
    assert_eq!(run.alerts.status().report().samples, 359);
}

#[tokio::test]
async fn absence_rise_storage_quality_and_price_have_their_events() {
    let mut run = Run::new().await;
    let field = |name: &str| json!({"field": {"measurement": "energy_data", "tags": {"device_id": "roof"}, "field": name}});
    run.home
        .rule(
            "silent",
            json!({"input": field("pv"), "condition": {"absent": {"longer_than_ns": 60 * SECOND}}}),
            &["phone"],
        )
        .await;
    let rising = json!({"rising": {"fire": 36.0, "clear": 18.0, "over_ns": 100 * SECOND}});
    run.home.rule("rising", json!({"input": field("temperature"), "condition": rising}), &[]).await;
    run.home.rule("disk", json!({"input": {"storage": {"figure": "free_share"}}, "condition": {"below": {"fire": 0.1, "clear": 0.2}}}), &[]).await;
    run.home.rule("dear", json!({"input": {"price": {"figure": "total"}}, "condition": {"above": {"fire": 1.5, "clear": 1.2}}}), &[]).await;
    let gaps = json!({"input": {"quality": {"measurement": "energy_data", "field": "meter", "figure": "completeness"}},
        "condition": {"below": {"fire": 0.5, "clear": 0.9}},
        "quality": {"window_ns": 300 * SECOND, "interval_ns": 10 * SECOND, "every_ns": 60 * SECOND}});
    run.home.rule("gaps", gaps, &[]).await;
    run.home.plant.set_free(500);
    run.home.plant.put("price", -3600, 0.5);
    run.home.plant.put("price", 900, 1.6);
    run.home.plant.put("price", 1800, -0.1);
    for second in -30..60 {
        run.home.plant.put("meter", second * 10, 1.0);
        run.home.plant.put("pv", second * 10, 5.0);
        run.home.plant.put(
            "temperature",
            second * 10,
            if second < 0 { 20.0 } else { 20.0 + second as f64 * 0.15 },
        );
    }
    run.until(630).await;
    run.home.plant.set_free(50);
    run.until(2000).await;
    run.home.plant.set_free(300);
    run.home.plant.put("pv", 2005, 1.0);
    for second in 201..300 {
        run.home.plant.put("meter", second * 10, 1.0);
        run.home.plant.put("temperature", second * 10, 29.0);
    }
    run.until(2400).await;
    let events = run.home.events().await;
    let of = |rule: &str| -> Vec<(&str, i64)> {
        events.iter().filter(|event| event.0 == rule).map(|event| (event.1, event.2)).collect()
    };
    assert_eq!(of("silent"), [("firing", 650), ("resolved", 2005), ("firing", 2065)]);
    // 0.15 in 10 s are 54 an hour; over the whole time that is above 36 once two thirds of it rise.
    let rising = of("rising");
    assert_eq!(rising.len(), 2, "{rising:?}");
    assert!((50..=90).contains(&rising[0].1) && rising[1].0 == "resolved", "{rising:?}");
    assert_eq!(of("dear"), [("firing", 900), ("resolved", 1800)]);
    let disk = of("disk");
    assert_eq!(disk.len(), 2, "{disk:?}");
    assert!((640..=700).contains(&disk[0].1) && (2000..=2070).contains(&disk[1].1), "{disk:?}");
    // Of five minutes half is missing 150 s after the last value: 590 + 150, at a whole minute.
    let gaps = of("gaps");
    assert_eq!(gaps[0], ("firing", 780), "{gaps:?}");
    assert_eq!(gaps[1].0, "resolved", "{gaps:?}");
    assert!(run.alerts.status().report().troubles.is_empty());
}

#[tokio::test]
async fn a_rule_that_is_changed_while_it_fires_ends_and_begins_anew() {
    let mut run = Run::new().await;
    let id = run.home.rule("battery low", soc_below(0), &["phone"]).await;
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(20).await;
    // Another name, another channel: the same condition goes on.
    run.change(id, |rule| rule.channels = vec!["mail".to_owned()]).await;
    run.until(40).await;
    run.check(&[("battery low", "firing", 5, false)]).await;
    let higher = json!({"input": {"field": {"measurement": "energy_data", "field": "battery_soc"}}, "condition": {"below": {"fire": 12, "clear": 15}}});
    run.change(id, |rule| rule.definition = higher).await;
    run.until(60).await;
    run.check(&[
        ("battery low", "firing", 5, false),
        ("battery low", "resolved", 50, false),
        ("battery low", "firing", 5, false),
    ])
    .await;
    let keys: Vec<String> =
        run.home.all::<AlertEvent>().await.into_iter().map(|one| one.record.event_key).collect();
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{keys:?}");
    // The end went to who was told of the beginning, the new episode to who is named now.
    assert_eq!(
        run.told().await.into_iter().map(|told| told.1).collect::<Vec<_>>(),
        ["phone", "phone", "mail"]
    );
    let ended =
        run.home.all::<AlertEvent>().await.into_iter().find(|one| one.record.state.as_str() == "resolved");
    let ended = ended.unwrap().record;
    assert!(
        ended.message.contains("because its rule was changed") && ended.value.is_none(),
        "{}",
        ended.message
    );

    run.change(id, |rule| rule.enabled = false).await;
    run.until(80).await;
    run.change(id, |rule| rule.enabled = true).await;
    run.until(100).await;
    run.change(id, |rule| rule.definition = json!({"input": 1})).await;
    run.until(120).await;
    let states: Vec<&str> = run.home.events().await.into_iter().map(|event| event.1).collect();
    assert_eq!(states, ["firing", "resolved", "firing", "resolved", "firing", "resolved"]);
    let report = run.alerts.status().report();
    assert!(report.troubles[&id].reason.starts_with("definition: "), "{report:?}");
}

#[tokio::test]
async fn a_rule_that_is_removed_while_it_fires_is_told_to_be_over_also_after_a_restart() {
    for restart in [false, true] {
        let mut run = Run::new().await;
        let id = run.home.rule("battery low", soc_below(0), &["phone"]).await;
        run.home.plant.put("battery_soc", 5, 9.0);
        run.until(20).await;
        run.home.ledger.remove::<AlertRule>(id, Expected::Any, &actor()).await.unwrap();
        if restart {
            run.alerts = run.home.alerts(&AlertsConfig::default());
        }
        run.until(60).await;
        run.check(&[("battery low", "firing", 5, false), ("battery low", "resolved", 30, false)]).await;
        let told = run.told().await;
        assert_eq!(told.iter().map(|told| told.1.as_str()).collect::<Vec<_>>(), ["phone", "phone"]);
        let ended = run.home.all::<AlertEvent>().await.remove(1).record;
        assert_eq!((ended.rule_id, &ended.details["ended_because"]), (None, &json!("its rule was removed")));
        assert!(ended.message.contains("true since 2026-03-01 10:00:05"), "{}", ended.message);
    }
}

#[tokio::test]
async fn a_rule_that_is_removed_while_it_is_pending_is_ended_and_nobody_told() {
    // The history showed it pending for ever.
    for restart in [false, true] {
        let mut run = Run::new().await;
        let id = run.home.rule("battery low", soc_below(60), &["phone"]).await;
        run.home.plant.put("battery_soc", 5, 9.0);
        run.until(20).await;
        run.home.ledger.remove::<AlertRule>(id, Expected::Any, &actor()).await.unwrap();
        if restart {
            run.alerts = run.home.alerts(&AlertsConfig::default());
        }
        run.until(60).await;
        run.check(&[("battery low", "pending", 5, false), ("battery low", "resolved", 30, false)]).await;
        assert_eq!(run.told().await, []);
        let ended = run.home.all::<AlertEvent>().await.remove(1).record;
        assert_eq!(ended.event_key, format!("{id}-1/{}/ok", at(5).0));
        assert_eq!(ended.details["ended_because"], "its rule was removed");
    }
}

#[tokio::test]
async fn a_rule_that_is_removed_after_a_step_that_was_not_stored_is_ended_too() {
    // Whoever was told that it fires never heard of its end: the rule was forgotten with the step, and not missed.
    let mut run = Run::new().await;
    let id = run.home.rule("battery low", soc_below(0), &["phone"]).await;
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(20).await;
    let mut other = run.home.alerts(&config());
    run.home.plant.put("battery_soc", 22, 20.0);
    run.home.plant.put("battery_soc", 24, 9.0);
    run.clock.advance(Duration::from_secs(5));
    other.evaluate_once().await.unwrap();
    // The other was quicker.
    run.alerts.evaluate_once().await.unwrap();
    run.home.ledger.remove::<AlertRule>(id, Expected::Any, &actor()).await.unwrap();
    run.until(60).await;
    run.check(&[
        ("battery low", "firing", 5, false),
        ("battery low", "resolved", 22, false),
        ("battery low", "firing", 24, false),
        ("battery low", "resolved", 35, false),
    ])
    .await;
    assert_eq!(run.told().await.len(), 4);
}

#[tokio::test]
async fn the_end_is_told_to_who_was_told_after_a_silence_too() {
    // The rule named another channel by then: that one heard of an end without a beginning, and who was told of it did not.
    let mut run = Run::new().await;
    let id = run.home.rule("battery low", soc_below(0), &["phone"]).await;
    run.home.silence(Some("battery low"), 0..30).await;
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(40).await;
    run.change(id, |rule| rule.channels = vec!["mail".to_owned()]).await;
    run.alerts = run.home.alerts(&AlertsConfig::default());
    run.home.plant.put("battery_soc", 45, 20.0);
    run.until(60).await;
    let channels: Vec<String> = run.told().await.into_iter().map(|told| told.1).collect();
    assert_eq!(channels, ["phone", "phone"]);
}

#[tokio::test]
async fn a_price_that_no_field_holds_is_the_one_the_home_knows() {
    let mut run = Run::new().await;
    let cheap = json!({"input": {"price": {"figure": "export"}}, "condition": {"below": {"fire": 0.0, "clear": 0.1}}});
    run.home.rule("pays to sell", cheap, &["phone"]).await;
    // What is long over is not looked at; the newest is.
    run.home.plant.set_prices(Ok(&[(-1800, -0.5), (-900, 0.2), (900, -0.1), (1800, 0.05), (2700, 0.3)]));
    run.until(890).await;
    run.check(&[]).await;
    run.until(2800).await;
    run.check(&[("pays to sell", "firing", 900, false), ("pays to sell", "resolved", 2700, false)]).await;
    let fired = &run.home.all::<AlertEvent>().await[0].record;
    assert!(fired.value == Some(-0.1) && fired.message.contains("PLN/kWh"), "{fired:?}");
}

#[tokio::test]
async fn what_was_told_as_firing_and_ends_in_a_silence_is_told_as_resolved_after_it() {
    // It was told to nobody: receivers showed an alert that burned for good.
    let mut run = Run::new().await;
    let id = run.home.rule("battery low", soc_below(0), &["phone"]).await;
    let end = run.home.rule("battery empty", soc_below(0), &["phone"]).await;
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(10).await;
    assert_eq!(run.told().await.len(), 2);
    run.home.silence(None, 15..100).await;
    run.home.plant.put("battery_soc", 30, 20.0);
    run.until(40).await;
    // Neither a second episode within the silence, nor a change of the rule, nor a restart loses it.
    run.home.plant.put("battery_soc", 45, 9.0);
    run.home.plant.put("battery_soc", 50, 20.0);
    run.until(60).await;
    run.change(id, |rule| rule.definition = soc_below(60)).await;
    run.change(end, |rule| rule.enabled = false).await;
    run.until(80).await;
    run.alerts = run.home.alerts(&config());
    run.until(90).await;
    assert_eq!(run.told().await.len(), 2);
    run.until(130).await;
    let keys: Vec<String> = run.told().await.into_iter().map(|told| told.0).collect();
    let mut expected: Vec<String> = [id, end]
        .iter()
        .flat_map(|id| ["firing", "resolved"].map(|state| format!("{id}-1/{}/{state}", at(5).0)))
        .collect();
    expected.sort();
    assert_eq!(keys, expected);
    let loud = run.home.events().await.into_iter().filter(|event| !event.3 && event.1 == "resolved");
    assert_eq!(loud.map(|event| event.2).collect::<Vec<_>>(), [30, 30]);
}

#[tokio::test]
async fn a_silence_that_is_over_does_not_keep_the_end_from_anybody() {
    let mut run = Run::new().await;
    run.home.rule("battery low", soc_below(0), &["phone"]).await;
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(10).await;
    run.home.silence(None, 15..50).await;
    run.home.plant.put("battery_soc", 30, 20.0);
    // Nothing was evaluated in the silence.
    run.clock.set_wall(at(60));
    run.alerts.evaluate_once().await.unwrap();
    run.check(&[("battery low", "firing", 5, false), ("battery low", "resolved", 30, false)]).await;
    assert_eq!(run.told().await.len(), 2);
}

#[tokio::test]
async fn in_a_silence_nobody_is_told_and_what_outlasts_it_is_told_then() {
    let mut run = Run::new().await;
    run.home.rule("battery low", soc_below(0), &["phone"]).await;
    run.home.silence(Some("battery low"), 0..100).await;
    run.home.silence(Some("another"), 0..900).await;
    // Fires and ends within: nobody hears of either.
    run.home.plant.put("battery_soc", 5, 9.0);
    run.home.plant.put("battery_soc", 30, 20.0);
    run.until(50).await;
    run.check(&[("battery low", "firing", 5, true), ("battery low", "resolved", 30, true)]).await;
    assert!(run.home.deliveries().await.is_empty());
    // Outlasts it: told once it is over, and so is its end.
    run.home.plant.put("battery_soc", 60, 8.0);
    run.until(90).await;
    run.check(&[
        ("battery low", "firing", 5, true),
        ("battery low", "resolved", 30, true),
        ("battery low", "firing", 60, true),
    ])
    .await;
    assert!(run.home.deliveries().await.is_empty());
    run.until(200).await;
    assert_eq!(run.home.events().await[2], ("battery low".to_owned(), "firing", 60, false));
    assert_eq!(run.home.deliveries().await.len(), 1);
    run.home.plant.put("battery_soc", 205, 20.0);
    run.until(250).await;
    assert_eq!(run.home.events().await[3], ("battery low".to_owned(), "resolved", 205, false));
    assert_eq!(run.home.deliveries().await.len(), 2);
}

#[tokio::test]
async fn trouble_of_one_rule_holds_up_no_other_and_is_told_once_it_is_over() {
    let mut run = Run::new().await;
    let broken = run.home.rule("broken", json!({"input": {}}), &[]).await;
    let field = run.home.rule("battery low", soc_below(0), &[]).await;
    let market = json!({"input": {"price": {"figure": "market"}}, "condition": {"above": {"fire": 1.0, "clear": 1.0}}});
    let market = run.home.rule("market", market, &[]).await;
    run.home.plant.set_prices(Err("no market price is stored yet"));
    let disk = json!({"input": {"storage": {"figure": "free_bytes"}}, "condition": {"below": {"fire": 100, "clear": 200}}});
    run.home.rule("disk", disk, &[]).await;
    run.home.plant.set_free(50);
    let trouble = ReadingsError::Ambiguous { count: 2, example: "device_id=a, device_id=b".to_owned() };
    run.home.plant.set_trouble(Some(trouble));
    run.until(20).await;
    run.check(&[("disk", "firing", 10, false)]).await;
    let report = run.alerts.status().report();
    assert_eq!(report.troubles.keys().copied().collect::<Vec<_>>(), [broken, field, market]);
    assert!(report.troubles[&market].reason.contains("no market price"), "{report:?}");
    assert!(report.troubles[&field].reason.contains("name more tags"), "{report:?}");
    // Not read is not absent, and nothing is lost: what came meanwhile is evaluated when it can be read.
    run.home.plant.put("battery_soc", 12, 9.0);
    run.home.plant.set_trouble(None);
    run.until(40).await;
    run.check(&[("disk", "firing", 10, false), ("battery low", "firing", 12, false)]).await;
    assert_eq!(run.alerts.status().report().troubles.keys().copied().collect::<Vec<_>>(), [broken, market]);
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_stop_a_rule() {
    let mut run = Run::new().await;
    run.home.rule("battery low", soc_below(0), &[]).await;
    run.home.plant.put("battery_soc", 400 * 86_400, 9.0);
    run.clock.set_wall(at(400 * 86_400 + 5));
    run.alerts.evaluate_once().await.unwrap();
    run.clock.set_wall(at(0));
    run.home.plant.put("battery_soc", 5, 9.0);
    run.until(20).await;
    let states: Vec<(&str, i64)> =
        run.home.events().await.into_iter().map(|event| (event.1, event.2)).collect();
    assert_eq!(states, [("firing", 400 * 86_400), ("resolved", 10), ("firing", 5)]);
}

#[tokio::test]
async fn a_long_stop_is_evaluated_as_far_back_as_the_look_back() {
    let mut run = Run::new().await;
    run.home.rule("battery low", soc_below(0), &["phone"]).await;
    let silent = json!({"input": {"field": {"measurement": "energy_data", "field": "battery_soc"}}, "condition": {"absent": {"longer_than_ns": 60 * SECOND}}});
    run.home.rule("silent", silent, &[]).await;
    run.home.plant.put("battery_soc", 0, 50.0);
    run.until(10).await;
    let day = 86_400;
    // Eight hours of values every second are more than one batch.
    run.home.plant.put("battery_soc", day, 9.0);
    run.home.plant.put("battery_soc", day + 60, 50.0);
    for second in 0..30_000 {
        run.home.plant.put("battery_soc", 3 * day + second, if second == 20_000 { 9.0 } else { 50.0 });
    }
    run.clock.set_wall(at(3 * day + 30_000));
    run.alerts.evaluate_once().await.unwrap();
    run.check(&[
        ("battery low", "firing", 3 * day + 20_000, false),
        ("battery low", "resolved", 3 * day + 20_001, false),
        // The end of a batch is no silence.
        ("silent", "firing", 60, false),
        ("silent", "resolved", 3 * day, false),
    ])
    .await;
    // The state reaches to the last batch at least.
    let state: Timestamp = run.home.all::<AlertState>().await[0].record.evaluated;
    assert!(state > at(3 * day + 20_000));
}
