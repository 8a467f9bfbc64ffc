//! The running whole: one task that evaluates, one worker for each channel, one for deliveries whose channel is unknown, one that
//! takes away what is old.
//!
//! A stop ends the evaluation between two rules' transactions, waits a few seconds for messages on their way, and leaves the rest
//! to the next start; nothing has to be put in order for that.

use crate::config::{AlertsConfig, InvalidConfig};
use crate::evaluator::Evaluator;
use crate::forgetting::{Forgetting, Steady};
use crate::notifier::{self, Notice, Notifier, Receipt, SendError};
use crate::outbox::{Outbox, Route};
use crate::readings::Readings;
use crate::status::{Status, StatusReport};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattlog_ledger::Ledger;
use wattlog_ledger::schema::{EventState, Severity};
use wattlog_model::{Clock, Timestamp};

/// Alerts, ready to run.
pub struct Alerts {
    evaluator: Evaluator,
    outbox: Outbox,
    forgetting: Forgetting,
    channels: BTreeMap<String, (Arc<dyn Notifier>, Duration)>,
    interval: Duration,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let channels: Vec<&String> = self.channels.keys().collect();
        f.debug_struct("Alerts")
            .field("channels", &channels)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Alerts {
    /// Joins configuration, ledger and store. `zone` is that of the clock at home, for the texts.
    ///
    /// # Errors
    /// A configuration that cannot be run.
    pub fn new(
        config: &AlertsConfig,
        ledger: Ledger,
        readings: Arc<dyn Readings>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        let mut channels = BTreeMap::new();
        for (name, channel) in &config.channels {
            let notifier = notifier::build(&format!("alerts.channels.{name}"), channel)?;
            channels.insert(name.clone(), (notifier, channel.timeout.0));
        }
        let status = Arc::new(Status::default());
        let outbox = Outbox {
            ledger: ledger.clone(),
            clock: clock.clone(),
            retry: config.retry.clone(),
            status: status.clone(),
            wake: Arc::new(Notify::new()),
        };
        let forgetting = Forgetting {
            ledger: ledger.clone(),
            clock: clock.clone(),
            status: status.clone(),
            keep: config.keep,
            steady: Steady::default(),
        };
        let evaluator = Evaluator::new(config, ledger, readings, clock, zone, status);
        Ok(Self { evaluator, outbox, forgetting, channels, interval: config.interval.0 })
    }

    /// Counts on from where the alerts that these replace ended, and goes on watching the clock since they did.
    #[must_use]
    pub fn counting_on(mut self, before: &AlertsHandle) -> Self {
        let status = before.status.clone();
        self.evaluator.status = status.clone();
        self.forgetting.status = status.clone();
        self.forgetting.steady = before.steady.clone();
        self.outbox.status = status;
        self
    }

    /// Counters and trouble, also while it runs.
    pub fn status(&self) -> Arc<Status> {
        self.outbox.status.clone()
    }

    /// For whoever looks at it while it runs.
    pub fn handle(&self) -> AlertsHandle {
        let steady = self.forgetting.steady.clone();
        AlertsHandle { status: self.status(), wake: self.outbox.wake.clone(), steady }
    }

    /// Evaluates and sends until it is over.
    pub async fn run(self, over: CancellationToken) {
        let Self { evaluator, outbox, forgetting, channels, interval } = self;
        let mut workers = JoinSet::new();
        workers.spawn(forgetting.run(over.clone()));
        let unknown = Route::Unknown { configured: channels.keys().cloned().collect() };
        workers.spawn(outbox.clone().run(unknown, over.clone()));
        for (name, (notifier, timeout)) in channels {
            let route = Route::Channel { name, notifier, timeout };
            workers.spawn(outbox.clone().run(route, over.clone()));
        }
        evaluate(evaluator, &outbox, interval, &over).await;
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a worker of the alerts ended by itself: restart the program");
            }
        }
    }

    /// One evaluation of all rules, as the running task makes it; gives how many deliveries it made.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub async fn evaluate_once(&mut self) -> Result<u64, wattlog_ledger::LedgerError> {
        self.evaluator.round().await
    }

    /// Takes away what is old, as the running task does each hour; gives how many events that were.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub async fn forget_once(&mut self) -> Result<u64, wattlog_ledger::LedgerError> {
        self.forgetting.look().await
    }
}

/// The outside of alerts that run; clone freely.
#[derive(Debug, Clone)]
pub struct AlertsHandle {
    status: Arc<Status>,
    wake: Arc<Notify>,
    steady: Steady,
}

impl AlertsHandle {
    /// Counters and trouble now.
    pub fn report(&self) -> StatusReport {
        self.status.report()
    }

    /// Says that there is something to deliver.
    pub fn wake(&self) {
        self.wake.notify_waiters();
    }
}

async fn evaluate(mut evaluator: Evaluator, outbox: &Outbox, interval: Duration, over: &CancellationToken) {
    let mut was_failing = false;
    loop {
        let done = tokio::select! {
            () = over.cancelled() => return,
            done = evaluator.round() => done,
        };
        outbox.status.round(done.is_err(), outbox.clock.wall());
        match done {
            Ok(deliveries) => {
                if std::mem::take(&mut was_failing) {
                    tracing::info!("alerts are evaluated again");
                }
                if deliveries > 0 {
                    outbox.wake.notify_waiters();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut was_failing, true) {
                    tracing::warn!(%error, "alerts wait for the ledger: nothing is evaluated until it answers");
                }
            }
        }
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Why a test message did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// No such channel.
    #[error("there is no channel {name:?}; configured are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The channel cannot be used as it is configured.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The channel did not acknowledge it.
    #[error("{name}: {error}")]
    Send {
        /// The channel.
        name: String,
        /// What it said.
        error: SendError,
    },
}

/// Sends one test message by `channel` and waits for its acknowledgement; nothing is stored or tried again.
///
/// # Errors
/// No such channel, or what it said.
pub async fn send_test(config: &AlertsConfig, channel: &str, now: Timestamp) -> Result<Receipt, TestError> {
    let Some(found) = config.channels.get(channel) else {
        let known: Vec<&str> = config.channels.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(TestError::Unknown { name: channel.to_owned(), known });
    };
    let notifier = notifier::build(&format!("alerts.channels.{channel}"), found)?;
    let notice = Notice {
        key: format!("test/{}/firing", now.0),
        rule: "test".to_owned(),
        severity: Severity::Info,
        state: EventState::Firing,
        at: now,
        since: None,
        value: None,
        title: "wattlog: test".to_owned(),
        message: format!("This is a test of the channel {channel}. Nothing is wrong."),
    };
    let sent = tokio::time::timeout(found.timeout.0, notifier.send(&notice)).await;
    let sent = sent.unwrap_or_else(|_| {
        Err(SendError::Failed { reason: format!("no answer within {}", found.timeout), wait: None })
    });
    sent.map_err(|error| TestError::Send { name: channel.to_owned(), error })
}
