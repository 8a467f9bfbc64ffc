//! A home with values that a test plants, its ledger, and channels that fail as they are told.

#![allow(dead_code, reason = "each test uses what it needs")]

pub mod broker;
pub mod http;
pub mod smtp;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use wattlog_alerts::{
    Alerts, AlertsConfig, BoxFuture, FieldOf, PriceFigure, Readings, ReadingsError, Sample, StorageFigures,
};
use wattlog_ledger::schema::{AlertDelivery, AlertEvent, AlertRule, AlertSilence, AlertState, Severity};
use wattlog_ledger::{Actor, Backend, Ledger, LedgerOptions, Listing, Record, Stored};
use wattlog_model::{Clock, Timestamp};

/// 2026-03-01T10:00:00Z.
pub const NOW: Timestamp = Timestamp(1_772_359_200_000_000_000);
pub const SECOND: i64 = 1_000_000_000;

pub fn at(second: i64) -> Timestamp {
    Timestamp(NOW.0 + second * SECOND)
}

pub fn actor() -> Actor {
    Actor::new("test")
}

/// A plant whose values are what the test says.
#[derive(Debug, Default)]
pub struct Plant {
    values: Mutex<BTreeMap<String, BTreeMap<i64, f64>>>,
    storage: Mutex<Option<StorageFigures>>,
    trouble: Mutex<Option<ReadingsError>>,
    prices: Mutex<Option<Result<Vec<Sample>, ReadingsError>>>,
}

impl Plant {
    pub fn put(&self, field: &str, second: i64, value: f64) {
        self.put_at(field, at(second), value);
    }

    pub fn put_at(&self, field: &str, time: Timestamp, value: f64) {
        self.values.lock().unwrap().entry(field.to_owned()).or_default().insert(time.0, value);
    }

    pub fn set_free(&self, free_bytes: u64) {
        *self.storage.lock().unwrap() =
            Some(StorageFigures { free_bytes, disk_bytes: 1000, store_bytes: 1000 - free_bytes });
    }

    pub fn set_trouble(&self, trouble: Option<ReadingsError>) {
        *self.trouble.lock().unwrap() = trouble;
    }

    /// Second and price of each quarter of an hour, for every figure.
    pub fn set_prices(&self, prices: Result<&[(i64, f64)], &str>) {
        let prices = prices.map_err(|reason| ReadingsError::Unknown { reason: reason.to_owned() });
        let sample = |(second, value): &(i64, f64)| Sample { time: at(*second), value: *value };
        *self.prices.lock().unwrap() = Some(prices.map(|prices| prices.iter().map(sample).collect()));
    }

    fn read(&self, of: &FieldOf, range: &Range<Timestamp>) -> Result<Vec<Sample>, ReadingsError> {
        if let Some(trouble) = self.trouble.lock().unwrap().clone() {
            return Err(trouble);
        }
        let values = self.values.lock().unwrap();
        let found =
            values.get(&of.field).into_iter().flat_map(|field| field.range(range.start.0..range.end.0));
        Ok(found.map(|(ns, value)| Sample { time: Timestamp(*ns), value: *value }).collect())
    }
}

impl Readings for Plant {
    fn values<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Sample>, ReadingsError>> {
        Box::pin(async move {
            let mut found = self.read(of, &range)?;
            found.truncate(limit);
            Ok(found)
        })
    }

    fn newest<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Option<Sample>, ReadingsError>> {
        Box::pin(async move { Ok(self.read(of, &range)?.last().copied()) })
    }

    fn prices(
        &self,
        _figure: PriceFigure,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sample>, ReadingsError>> {
        let prices = self.prices.lock().unwrap().clone().unwrap_or(Ok(Vec::new()));
        let within = move |prices: Vec<Sample>| {
            prices.into_iter().filter(|price| range.contains(&price.time)).take(limit).collect()
        };
        Box::pin(async move { prices.map(within) })
    }

    fn unit<'a>(&'a self, of: &'a FieldOf) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { (of.field == "battery_soc").then(|| "%".to_owned()) })
    }

    fn storage(&self) -> BoxFuture<'_, Result<StorageFigures, ReadingsError>> {
        let figures = *self.storage.lock().unwrap();
        Box::pin(
            async move { figures.ok_or_else(|| ReadingsError::Unavailable { reason: "no disk".to_owned() }) },
        )
    }
}

/// Ledger on disk, plant, clock.
pub struct Home {
    pub folder: TempDir,
    pub plant: Arc<Plant>,
    pub clock: Arc<dyn Clock>,
    pub ledger: Ledger,
}

impl Home {
    pub async fn new(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder, &clock);
        ledger.ready().await.unwrap();
        Self { folder, plant: Arc::new(Plant::default()), clock, ledger }
    }

    /// Another handle, as after a restart.
    pub fn reopened(&self) -> Ledger {
        open(&self.folder, &self.clock)
    }

    pub fn alerts(&self, config: &AlertsConfig) -> Alerts {
        self.alerts_on(config, self.ledger.clone())
    }

    pub fn alerts_on(&self, config: &AlertsConfig, ledger: Ledger) -> Alerts {
        Alerts::new(config, ledger, self.plant.clone(), self.clock.clone(), TimeZone::UTC).unwrap()
    }

    pub async fn rule(&self, name: &str, definition: Value, channels: &[&str]) -> i64 {
        let rule = AlertRule {
            name: name.to_owned(),
            severity: Severity::Warning,
            enabled: true,
            definition,
            channels: channels.iter().map(|&name| name.to_owned()).collect(),
            note: String::new(),
        };
        self.ledger.insert(rule, &actor()).await.unwrap().id
    }

    pub async fn silence(&self, rule: Option<&str>, seconds: Range<i64>) -> i64 {
        let silence = AlertSilence {
            rule_name: rule.map(str::to_owned),
            start: at(seconds.start),
            end: at(seconds.end),
            reason: "away".to_owned(),
        };
        self.ledger.insert(silence, &actor()).await.unwrap().id
    }

    pub async fn all<R: Record>(&self) -> Vec<Stored<R>> {
        let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
        let page = self.ledger.list::<R>(&listing).await.unwrap();
        assert!(page.next.is_none());
        page.records
    }

    /// Events as (rule, state, second, silenced), the oldest first.
    pub async fn events(&self) -> Vec<(String, &'static str, i64, bool)> {
        let mut events = self.all::<AlertEvent>().await;
        events.sort_by_key(|event| event.id);
        let row = |event: Stored<AlertEvent>| {
            let event = event.record;
            (event.rule_name, event.state.as_str(), (event.at.0 - NOW.0) / SECOND, event.silenced)
        };
        events.into_iter().map(row).collect()
    }

    pub async fn deliveries(&self) -> Vec<AlertDelivery> {
        self.all::<AlertDelivery>().await.into_iter().map(|one| one.record).collect()
    }

    pub async fn state_version(&self) -> i64 {
        self.all::<AlertState>().await.iter().map(|state| state.version).sum()
    }
}

fn open(folder: &TempDir, clock: &Arc<dyn Clock>) -> Ledger {
    let backend = Backend::Sqlite(folder.path().join("ledger.db"));
    Ledger::new(LedgerOptions::new(backend), clock.clone()).unwrap()
}

/// `battery_soc` at or below 10 %, for `hold` seconds; clear above 15 %.
pub fn soc_below(hold: i64) -> Value {
    json!({"input": {"field": {"measurement": "energy_data", "field": "battery_soc"}},
        "condition": {"below": {"fire": 10, "clear": 15}}, "hold_ns": hold * SECOND})
}

/// The clock of the machine, and by how much the test has put it forward.
#[derive(Debug)]
pub struct LeapClock {
    started: std::time::Instant,
    ahead_ns: AtomicI64,
}

impl Default for LeapClock {
    fn default() -> Self {
        Self { started: std::time::Instant::now(), ahead_ns: AtomicI64::new(0) }
    }
}

impl LeapClock {
    pub fn leap(&self, seconds: i64) {
        self.ahead_ns.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }
}

impl Clock for LeapClock {
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(since.as_nanos() as i64 + self.ahead_ns.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

/// What the test waits for, at most twenty seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed().as_secs() < 20, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
