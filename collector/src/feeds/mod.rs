//! Prices, rates of exchange and weather from public services.
//!
//! Promise: each period is stored at its exact instant, once; what a service publishes again takes the place of what it
//! said before; what was missed while the program or the service was away is fetched later, as far as the service
//! still has it and the backfill goes. A service that fails in any way costs its own data and nobody else's.
//!
//! Invariants
//! 1. Instants come from UTC times of the services, never from local labels.
//! 2. Parsing is apart from fetching and total; [`rows`] has its rules.
//! 3. Missing is missing: null is no value, and never 0.
//!
//! Not here: what prices mean for a bill (`wattlog-analytics`).

mod agenda;
mod day;
pub mod energy_charts;
pub mod entsoe;
mod fetch;
pub mod known;
pub mod nbp;
pub mod pse;
pub mod rows;
mod runner;
mod seen;
mod service;
pub mod weather;

pub use known::{Known, NothingKnown};

use crate::config::{CollectorConfig, ConfigError, FeedsConfig};
use crate::sink::Sink;
use crate::status::{FeedStatus, StatusHandle};
pub(crate) use known::Deposit;
pub(crate) use runner::{Runner, Surroundings};
pub(crate) use service::Service;
use std::sync::Arc;
use wattlog_model::{Clock, FieldMeaning, Timestamp};

/// The configured feeds without a collector around them: they do what is due when they are told to, by a clock of the
/// caller's choice. For tools that fetch once and for days that pass in seconds.
pub struct Feeds {
    runners: Vec<Runner>,
    due: Vec<Timestamp>,
    /// Clock of the last step.
    last: Timestamp,
    clock: Arc<dyn Clock>,
    status: StatusHandle,
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Feeds {
    /// Checks the configuration; asks nobody yet.
    ///
    /// # Errors
    /// As [`CollectorConfig::check`].
    pub fn new(
        config: &FeedsConfig,
        sink: Arc<dyn Sink>,
        known: Arc<dyn Known>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        CollectorConfig { feeds: config.clone(), ..CollectorConfig::default() }.check()?;
        let services = Service::all(config);
        let status = StatusHandle::new(&[], 0).with_feeds(services.iter().map(Service::named));
        let deposit: Arc<dyn Deposit> = Arc::new(known::Direct(sink));
        let around = Surroundings {
            deposit,
            known,
            clock: Arc::clone(&clock),
            rates: Arc::default(),
            status: status.clone(),
            seed,
        };
        let runners: Vec<Runner> = services
            .into_iter()
            .enumerate()
            .map(|(index, service)| Runner::new(index, service, config, around.clone()))
            .collect();
        let due = vec![Timestamp::MIN; runners.len()];
        Ok(Self { runners, due, last: Timestamp::MIN, clock, status })
    }

    /// One look of each feed that is due, one after the other; tells when the next one is due. None without feeds.
    ///
    /// Never waits for a time to come; a feed that has more to ask is due at once.
    pub async fn step(&mut self) -> Option<Timestamp> {
        let was_set_back = self.clock.wall() < self.last;
        for (runner, due) in self.runners.iter_mut().zip(&mut self.due) {
            if *due <= self.clock.wall() || was_set_back {
                *due = runner.step().await;
            }
        }
        self.last = self.clock.wall();
        self.due.iter().min().copied()
    }

    /// Units and kinds of what the feeds store, by measurement.
    pub fn meanings(config: &FeedsConfig) -> Vec<(&'static str, Vec<FieldMeaning>)> {
        Service::all(config).into_iter().map(|service| (service.measurement, service.meanings())).collect()
    }

    /// One entry per feed.
    pub fn status(&self) -> Vec<FeedStatus> {
        self.status.snapshot().feeds
    }
}

/// Bounds of a local day; empty for one that no point can have. For the simulated services.
pub(crate) fn local_day(day: jiff::civil::Date, zone: &jiff::tz::TimeZone) -> std::ops::Range<Timestamp> {
    day::bounds(day, zone).unwrap_or(Timestamp(0)..Timestamp(0))
}
