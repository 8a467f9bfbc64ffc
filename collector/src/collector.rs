//! Starts a task per device, one for the system's metrics and one that carries points to the sink; stops them in
//! order: devices first, then what they left is delivered.

use crate::config::{CollectorConfig, ConfigError};
use crate::device::Device;
use crate::goodwe;
use crate::outbox::{Meanings, Outbox};
use crate::sink::Sink;
use crate::status::StatusHandle;
use crate::system::{self, SystemMetrics};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattlog_model::Clock;

/// A collector that was configured and not started yet.
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    seed: u64,
    status: StatusHandle,
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
        let status = StatusHandle::new(&config.devices, config.buffer_points);
        Ok(Self { config, seed: 0, status })
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

    /// Runs until `shutdown`, then stops the devices and delivers what they left, for at most some seconds.
    pub async fn run(self, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
        let outbox = Arc::new(Outbox::new(self.config.buffer_points, self.status.clone()));
        let mut meanings = Meanings::default();
        for family in self.config.devices.iter().map(|device| device.family).collect::<HashSet<_>>() {
            meanings.add(goodwe::MEASUREMENT, goodwe::fields(family));
        }
        meanings.add(system::MEASUREMENT, system::fields());

        let mut tasks = JoinSet::new();
        for (index, config) in self.config.devices.into_iter().enumerate() {
            let (status, outbox, clock) = (self.status.clone(), Arc::clone(&outbox), Arc::clone(&clock));
            let device = Device::new(index, config, self.seed, status, outbox, clock);
            tasks.spawn(device.run(shutdown.clone()));
        }
        if self.config.system_metrics.enabled {
            let interval = self.config.system_metrics.interval.0;
            let metrics = SystemMetrics::new(interval, self.status.clone(), Arc::clone(&outbox), clock);
            tasks.spawn(metrics.run(shutdown.clone()));
        }
        let closed = CancellationToken::new();
        let delivery = tokio::spawn({
            let (outbox, closed) = (Arc::clone(&outbox), closed.clone());
            async move { outbox.deliver(sink, meanings, closed).await }
        });

        // Tasks end at shutdown alone. One that ends before has a fault of ours in it: say so at once, keep the others.
        let mut stopping = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if !stopping => stopping = true,
                ended = tasks.join_next(), if stopping || !tasks.is_empty() => match ended {
                    Some(Err(error)) => tracing::error!(%error, "a collector task ended by itself"),
                    Some(Ok(())) => {}
                    None => break,
                },
            }
        }
        closed.cancel();
        let unfinished = delivery.abort_handle();
        if tokio::time::timeout(LAST_DELIVERY, delivery).await.is_err() {
            unfinished.abort();
            tracing::warn!("the store did not take the last points in time");
        }
    }
}
