//! Old events go, but not by a clock that jumped, and nothing that goes on.

use crate::support::{Home, NOW, SECOND, soc_below};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use wattlog_alerts::AlertsConfig;
use wattlog_model::{Clock as _, ManualClock, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn events_go_after_the_time_they_are_kept_and_not_because_the_clock_was_set() {
    let clock = Arc::new(ManualClock::new(NOW));
    let home = Home::new(clock.clone()).await;
    let config: AlertsConfig = serde_json::from_value(json!({ "keep": "35d" })).unwrap();
    let rule = home.rule("battery low", soc_below(0), &[]).await;
    let mut alerts = home.alerts(&config);
    let handle = alerts.handle();
    for (second, soc) in [(-20, 9.0), (30, 90.0), (100, 8.0)] {
        home.plant.put("battery_soc", second, soc);
        alerts.evaluate_once().await.unwrap();
        assert_eq!(handle.report().firing.contains_key(&rule), soc < 10.0);
        clock.advance(Duration::from_secs(60));
    }
    let states = |events: Vec<(String, &'static str, i64, bool)>| {
        events.into_iter().map(|e| (e.1, e.2)).collect::<Vec<_>>()
    };
    let all = [("firing", -20), ("resolved", 30), ("firing", 100)];
    assert_eq!(states(home.events().await), all);
    assert_eq!(handle.report().firing[&rule].since, Timestamp(NOW.0 + 100 * SECOND));

    // The first look only begins to watch the clock.
    assert_eq!(alerts.forget_once().await.unwrap(), 0);
    // Somebody sets the clock forty days ahead, and sets it right a moment later.
    clock.set_wall(Timestamp(NOW.0 + 40 * DAY.as_nanos() as i64));
    assert_eq!(alerts.forget_once().await.unwrap(), 0);
    clock.advance(DAY / 2);
    assert_eq!(alerts.forget_once().await.unwrap(), 0, "half a day is no proof");
    clock.set_wall(Timestamp(NOW.0 + DAY.as_nanos() as i64 / 2));
    assert_eq!(alerts.forget_once().await.unwrap(), 0);
    clock.advance(DAY * 34);
    assert_eq!(alerts.forget_once().await.unwrap(), 0, "34 days and a half");
    assert_eq!(home.events().await.len(), 3);
    clock.advance(DAY);
    let wall = clock.wall();
    assert!(wall.0 - NOW.0 > 35 * DAY.as_nanos() as i64);
    assert_eq!(alerts.forget_once().await.unwrap(), 2);
    assert_eq!(states(home.events().await), [("firing", 100)], "what fires is kept, however old");
    assert_eq!((alerts.forget_once().await.unwrap(), handle.report().forgotten), (0, 2));
}

#[tokio::test]
async fn a_reload_does_not_begin_the_day_of_proof_anew() {
    let clock = Arc::new(ManualClock::new(NOW));
    let home = Home::new(clock.clone()).await;
    let config: AlertsConfig = serde_json::from_value(json!({ "keep": "35d" })).unwrap();
    home.rule("battery low", soc_below(0), &[]).await;
    let mut alerts = home.alerts(&config);
    for (second, soc) in [(-20, 9.0), (30, 90.0)] {
        home.plant.put("battery_soc", second, soc);
        alerts.evaluate_once().await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(home.events().await.len(), 2);
    clock.advance(DAY * 35);
    // Twenty-four reloads, an hour from each to the next.
    for _ in 0..24 {
        assert_eq!(alerts.forget_once().await.unwrap(), 0, "not a day yet");
        alerts = home.alerts(&config).counting_on(&alerts.handle());
        clock.advance(Duration::from_secs(3600));
    }
    // A start of the program has watched no clock.
    assert_eq!(home.alerts(&config).forget_once().await.unwrap(), 0);
    assert_eq!(alerts.forget_once().await.unwrap(), 2);
}
