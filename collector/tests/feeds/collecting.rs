//! Feeds inside a collector: through the outbox, with a store that refuses, and from what the store has.

use crate::store::Store;
use jiff::civil::date;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::{FeedsConfig, PseProduct, SystemMetricsConfig};
use wattlog_collector::simulator::feeds::{FeedServer, Market, midnight};
use wattlog_collector::status::FeedStatus;
use wattlog_collector::{Collector, CollectorConfig, StatusHandle};
use wattlog_model::{ManualClock, Timestamp};

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "no {what} within 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn feeds(status: &StatusHandle) -> Vec<FeedStatus> {
    status.snapshot().feeds
}

#[tokio::test]
async fn a_collector_keeps_answers_while_the_store_refuses_and_later_asks_only_for_what_is_missing() {
    let market = Market::new(4, TimeZone::get("Europe/Warsaw").unwrap());
    // Four in the afternoon before the clock is put forward; it stands still.
    let now = Timestamp(midnight(date(2026, 3, 28), &market).0 + 16 * 3_600_000_000_000);
    let clock = Arc::new(ManualClock::new(now));
    let server = FeedServer::bind(([127, 0, 0, 1], 0).into(), market, Arc::clone(&clock) as _).await.unwrap();
    let (control, stop) = (server.control(), CancellationToken::new());
    let services = tokio::spawn(server.run(stop.clone()));
    let mut config = FeedsConfig { backfill_days: 9, recheck_days: 1, ..control.config() };
    config.pse.as_mut().unwrap().products = vec![PseProduct::RcePln];
    let config = CollectorConfig {
        feeds: config,
        system_metrics: SystemMetricsConfig { enabled: false, ..SystemMetricsConfig::default() },
        ..CollectorConfig::default()
    };
    let store = Arc::new(Store::default());
    let start = || {
        let collector = Collector::new(config.clone()).unwrap().with_known(Arc::clone(&store) as _);
        let (status, over) = (collector.status(), CancellationToken::new());
        let run = collector.run(Arc::clone(&store) as _, Arc::clone(&clock) as _, over.clone());
        (status, over, tokio::spawn(run))
    };

    store.set_refusing(true);
    let (status, over, task) = start();
    eventually("refusal", || status.snapshot().buffer.refusals > 1).await;
    assert!(store.points().is_empty() && feeds(&status).iter().all(|feed| feed.stored == 0));
    store.set_refusing(false);
    // 11 days of quarters, one of them with 92: from the backfill to tomorrow.
    let rce = || feeds(&status).into_iter().find(|feed| feed.name == "pse/rce-pln").unwrap();
    eventually("whole days", || rce().stored == 11 * 96 - 4).await;
    eventually("all services", || feeds(&status).iter().all(|feed| feed.last_success.is_some())).await;
    assert_eq!(store.unit("prices", "market_price").as_deref(), Some("PLN/kWh"));
    assert_eq!(store.unit("weather_data", "irradiance").as_deref(), Some("W/m2"));
    assert_eq!((status.snapshot().buffer.dropped, store.doubles()), (0, 0));
    over.cancel();
    task.await.unwrap();

    store.begin_new_life();
    control.take_targets();
    let (status, over, task) = start();
    eventually("all services", || feeds(&status).iter().all(|feed| feed.last_success.is_some())).await;
    let asked: Vec<String> =
        control.take_targets().into_iter().filter(|target| target.contains("rce-pln")).collect();
    // Yesterday, today and tomorrow together, for what may have been published anew.
    assert!(asked.len() <= 3 && asked[0].contains("ge%20%272026-03-27%27"), "{asked:?}");
    over.cancel();
    task.await.unwrap();
    stop.cancel();
    services.await.unwrap().unwrap();
}
