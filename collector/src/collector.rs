//! Starts a task per device and per feed, one for messages, one for the system's metrics and one that carries points to
//! the sink; stops them in order: devices and the like first, then what they left is delivered.

use crate::config::{CollectorConfig, ConfigError};
use crate::device::Device;
use crate::feeds::{Deposit, Feeds, Known, NothingKnown, Runner, Service, Surroundings};
use crate::goodwe;
use crate::mqtt::{Mapping, Receiver};
use crate::outbox::{Meanings, Outbox};
use crate::sink::Sink;
use crate::status::StatusHandle;
use crate::system::{self, SystemMetrics};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattlog_model::{Clock, Timestamp};

/// A collector that was configured and not started yet.
pub struct Collector {
    config: CollectorConfig,
    seed: u64,
    status: StatusHandle,
    known: Arc<dyn Known>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How long the last points may take to be stored when the collector stops.
const LAST_DELIVERY: Duration = Duration::from_secs(5);

impl Collector {
    /// Checks the configuration; opens nothing.
    ///
    /// # Errors
    /// As [`CollectorConfig::check`].
    pub fn new(config: CollectorConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let services = Service::all(&config.feeds);
        let feeds = services.iter().map(Service::named);
        let own = &config.system_metrics;
        let mut status = StatusHandle::new(&config.devices, config.buffer_points)
            .with_feeds(feeds)
            .with_own_figures(own.enabled.then_some(own.interval.0));
        if let Some(mqtt) = &config.mqtt {
            let topics = mqtt.topics.iter().map(|topic| topic.topic.clone()).collect();
            status = status.with_mqtt(mqtt.url.clone(), topics);
        }
        Ok(Self { config, seed: 0, status, known: Arc::new(NothingKnown) })
    }

    /// Asks this store what it has, so that feeds fetch only what is missing.
    #[must_use]
    pub fn with_known(mut self, known: Arc<dyn Known>) -> Self {
        self.known = known;
        self
    }

    /// Seeds the jitter of reconnections; a number of this machine's own keeps a fleet from knocking in step.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Reads the status, before, while and after the collector runs.
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Runs until `shutdown`, then stops the devices and delivers what they left, for at most some seconds. What the
    /// store has not taken by then is lost, counted and logged.
    pub async fn run(self, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
        let outbox = Arc::new(Outbox::new(self.config.buffer_points, self.status.clone()));
        let mut meanings = Meanings::default();
        for family in self.config.devices.iter().map(|device| device.family).collect::<HashSet<_>>() {
            meanings.add(goodwe::MEASUREMENT, goodwe::fields(family));
        }
        meanings.add(system::MEASUREMENT, system::fields());
        for (measurement, fields) in Feeds::meanings(&self.config.feeds) {
            meanings.add(measurement, fields);
        }
        for (measurement, fields) in
            self.config.mqtt.as_ref().map(Mapping::new).iter().flat_map(Mapping::meanings)
        {
            meanings.add(measurement, fields);
        }

        let mut tasks = JoinSet::new();
        for (index, config) in self.config.devices.into_iter().enumerate() {
            let (status, outbox, clock) = (self.status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
            let (seed, over) = (self.seed, shutdown.clone());
            let begin = move || {
                let (status, outbox, clock) = (status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
                Device::new(index, config.clone(), seed, status, outbox, clock).run(over.clone())
            };
            tasks.spawn(keep_running(begin, shutdown.clone()));
        }
        if self.config.system_metrics.enabled {
            let interval = self.config.system_metrics.interval.0;
            let (status, outbox, clock) = (self.status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
            let over = shutdown.clone();
            let begin = move || {
                let (outbox, clock) = (Arc::clone(&outbox), Arc::clone(&clock));
                SystemMetrics::new(interval, status.clone(), outbox, clock).run(over.clone())
            };
            tasks.spawn(keep_running(begin, shutdown.clone()));
        }
        let around = Surroundings {
            deposit: Arc::clone(&outbox) as Arc<dyn Deposit>,
            known: self.known,
            clock: Arc::clone(&clock),
            rates: Arc::default(),
            status: self.status.clone(),
            seed: self.seed,
        };
        for (index, service) in Service::all(&self.config.feeds).into_iter().enumerate() {
            let (config, around, over) = (self.config.feeds.clone(), around.clone(), shutdown.clone());
            let begin = move || {
                let runner = Runner::new(index, service.clone(), &config, around.clone());
                let (clock, over) = (Arc::clone(&around.clock), over.clone());
                // A look that is cut off has stored whole parcels or none; the rest is fetched at the next start.
                async move { over.run_until_cancelled(feed_for_ever(runner, clock)).await.unwrap_or_default() }
            };
            tasks.spawn(keep_running(begin, shutdown.clone()));
        }
        if let Some(config) = self.config.mqtt {
            let (status, outbox, clock) = (self.status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
            let (seed, over) = (self.seed, shutdown.clone());
            let begin = move || {
                let (status, outbox, clock) = (status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
                Receiver::new(&config, seed, status, outbox, clock).run(over.clone())
            };
            tasks.spawn(keep_running(begin, shutdown.clone()));
        }
        let closed = CancellationToken::new();
        let deliver = {
            let (outbox, closed) = (Arc::clone(&outbox), closed.clone());
            move || {
                let (outbox, sink) = (Arc::clone(&outbox), Arc::clone(&sink));
                let (meanings, closed) = (meanings.clone(), closed.clone());
                async move { outbox.deliver(sink, meanings, closed).await }
            }
        };
        let mut delivery = JoinSet::new();
        delivery.spawn(keep_running(deliver, closed.clone()));

        shutdown.cancelled().await;
        while tasks.join_next().await.is_some() {}
        closed.cancel();
        let _in_time = tokio::time::timeout(LAST_DELIVERY, delivery.join_next()).await;
        delivery.shutdown().await;
        let lost = outbox.abandon();
        if lost > 0 {
            tracing::warn!(points = lost, "the store did not take the last points in time: they are lost");
        }
    }
}

/// Looks whenever a feed is due. The wall clock may jump, so it is asked again within a minute.
async fn feed_for_ever(mut runner: Runner, clock: Arc<dyn Clock>) {
    let (mut due, mut last) = (Timestamp::MIN, Timestamp::MIN);
    loop {
        let now = clock.wall();
        // What is due was told by a clock that was set back since.
        if due <= now || now < last {
            due = runner.step().await;
        }
        last = now;
        let wait = due.0.saturating_sub(clock.wall().0).max(0).unsigned_abs();
        tokio::time::sleep(Duration::from_nanos(wait).min(LOOK_AT_CLOCK)).await;
    }
}

/// Between two looks at the wall clock.
const LOOK_AT_CLOCK: Duration = Duration::from_mins(1);

/// Runs a task that ends at shutdown alone. One that panics has a fault of ours in it: it is said, and the task begun
/// anew.
async fn keep_running<F>(begin: impl Fn() -> F, shutdown: CancellationToken)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // A set of one, because it ends its task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(begin());
        let Some(Err(error)) = task.join_next().await else { return };
        tracing::error!(%error, "a collector task ended by itself, it is begun anew");
        if shutdown.run_until_cancelled(tokio::time::sleep(RESTART_AFTER)).await.is_none() {
            return;
        }
    }
}

/// Rest before a task that panicked is begun anew.
const RESTART_AFTER: Duration = Duration::from_secs(1);
