//! How the keepers of energies, sessions and reports stand, as `/metrics` tells it: behind, failing, done, stopped.

use crate::support::{NOW, Running, Setup};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_derived::books::{BookOptions, Bookkeeper};
use wattlog_derived::energy::{EnergyKeeper, EnergyOptions};
use wattlog_engine::DeleteRequest;
use wattlog_engine::query::Zone;
use wattlog_ledger::{Backend, Ledger, LedgerOptions};
use wattlog_model::{Clock as _, Timestamp};

const MINUTE: i64 = 60_000_000_000;

/// 25 hours up to now, by the minute; from 20 to 18 hours ago the battery takes 3 kW of the grid.
fn points() -> String {
    let points = (-1500..=0).map(|minute| {
        let battery = if (-1200..-1080).contains(&minute) { -3000 } else { 0 };
        let time = NOW.0 + minute * MINUTE;
        format!(
            "energy_data,device_id=roof battery_power={battery},grid_power={},pv_power=0,consumption=500 {time}\n",
            battery - 500
        )
    });
    points.collect()
}

async fn expect(running: &Running, samples: &[(&str, f64)]) {
    let text = running.get("/metrics").await.text();
    for (sample, wanted) in samples {
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let found: Option<f64> = line.map(|number| number.parse().unwrap());
        // The last point counts for a nanosecond.
        assert!(
            found.is_some_and(|found| (found - wanted).abs() < 1e-6),
            "{sample}: {found:?}, not {wanted}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_lags_fails_and_stops_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    let running = setup.start().await;
    let text = running.get("/metrics").await.text();
    assert!(
        !text.contains("wattlog_books_") && !text.contains("wattlog_energy_"),
        "nobody keeps anything yet"
    );
    running.store(&points()).await;

    let clock = running.clock.clone();
    let energy = EnergyKeeper::start(running.engine.clone(), EnergyOptions::new("wattlog"), clock.clone());
    let energy = Arc::new(energy.unwrap());
    assert!(running.state.set_energy(energy.clone()));
    // Its folder is not there: the ledger cannot be opened.
    let away = folder.path().join("away");
    let ledger = Backend::Sqlite(away.join("ledger.db"));
    let ledger = Ledger::new(LedgerOptions::new(ledger), clock.clone()).unwrap();
    let zone = Zone::named("Europe/Warsaw").unwrap();
    let options = BookOptions { every: Duration::from_millis(10), ..BookOptions::new("wattlog", zone) };
    let books =
        Bookkeeper::new(running.engine.clone(), ledger.clone(), energy.clone(), options, clock.clone());
    let books = Arc::new(books);
    assert!(running.state.set_books(books.clone()));
    expect(&running, &[("wattlog_books_running", 0.0), ("wattlog_books_failures_total", 0.0)]).await;
    let text = running.get("/metrics").await.text();
    for unknown in ["wattlog_books_behind_seconds", "wattlog_books_last_success_timestamp_seconds"] {
        assert!(!text.contains(unknown), "{unknown} is not known before it runs");
    }

    let over = CancellationToken::new();
    let (kept, ended) = (books.clone(), over.clone());
    let task = tokio::spawn(async move { kept.run(ended).await });
    running.until("the failure", async |running| running.metric("wattlog_books_failing").await == 1.0).await;
    assert!(running.metric("wattlog_books_failures_total").await >= 1.0);
    // 25 hours of points; yesterday's 14 hours in Warsaw are a day that is over.
    let lag = [
        ("wattlog_books_running", 1.0),
        ("wattlog_books_behind_seconds{of=\"sessions\"}", 25.0 * 3600.0),
        ("wattlog_books_behind_seconds{of=\"reports\"}", 14.0 * 3600.0),
    ];
    expect(&running, &lag).await;
    assert!(!running.get("/metrics").await.text().contains("wattlog_books_last_success_timestamp_seconds"));

    std::fs::create_dir(&away).unwrap();
    let report = "wattlog_books_records_total{of=\"reports\"}";
    // Of yesterday, and of the month that ended with it.
    running.until("the reports", async |running| running.metric(report).await == 2.0).await;
    let rounds = running.metric("wattlog_books_rounds_total").await;
    running
        .until("a round", async |running| running.metric("wattlog_books_rounds_total").await > rounds)
        .await;
    let now = clock.wall().0 as f64 / 1e9;
    let done = [
        ("wattlog_books_failing", 0.0),
        ("wattlog_books_behind_seconds{of=\"sessions\"}", 0.0),
        ("wattlog_books_behind_seconds{of=\"reports\"}", 0.0),
        ("wattlog_books_records_total{of=\"sessions\"}", 1.0),
        ("wattlog_books_notes", 0.0),
        ("wattlog_books_last_success_timestamp_seconds", now),
        ("wattlog_energy_running", 1.0),
        ("wattlog_energy_failing", 0.0),
        ("wattlog_energy_failures_total", 0.0),
        ("wattlog_energy_behind_seconds", 0.0),
        ("wattlog_books_lost_seconds{of=\"sessions\"}", 0.0),
        ("wattlog_books_lost_seconds{of=\"reports\"}", 0.0),
        ("wattlog_energy_lost_seconds", 0.0),
        // The quarter that ended now may still get a step of ten minutes.
        ("wattlog_energy_quarters_total", 99.0),
        ("wattlog_energy_last_success_timestamp_seconds", now),
    ];
    expect(&running, &done).await;

    // A delete from 1970 on: what lies before the points is looked at again and again, and nothing of it is lost.
    let request = DeleteRequest {
        database: "wattlog".to_owned(),
        retention_policy: None,
        measurement: Some("energy_data".to_owned()),
        fields: None,
        tags: Vec::new(),
        start: Timestamp(0),
        end: Timestamp(NOW.0 - 1500 * MINUTE + 1),
    };
    running.engine.delete(&request).unwrap();
    let rounds = books.status().rounds;
    let is_seen = || {
        let status = energy.status();
        !status.lost.is_empty() && status.pending.is_empty() && books.status().rounds > rounds + 1
    };
    running.until("the delete", async |_| is_seen()).await;
    let lost = [
        ("wattlog_books_lost_seconds{of=\"sessions\"}", 0.0),
        ("wattlog_books_lost_seconds{of=\"reports\"}", 0.0),
        ("wattlog_energy_lost_seconds", 0.0),
    ];
    expect(&running, &lost).await;

    over.cancel();
    task.await.unwrap();
    let stopping = energy.clone();
    tokio::task::spawn_blocking(move || stopping.stop()).await.unwrap();
    expect(&running, &[("wattlog_books_running", 0.0), ("wattlog_energy_running", 0.0)]).await;
    ledger.close().await;
}
