//! The way out: deliveries that are due are claimed, sent, and marked by what the channel said.
//!
//! Promise: each delivery reaches its channel at least once, or is dead with its reason. It is marked delivered only after the
//! channel acknowledged it, and never sent after that mark. If the process ends between the two it is sent once more, under
//! the same key.
//!
//! Invariants
//! 1. Before it is sent a delivery is claimed: its attempts rise and its next attempt lies beyond the time that sending may take,
//!    in the ledger. So no second process sends it meanwhile, and a message that ends the process is not tried for ever.
//! 2. Each channel has a worker of its own that sends one message at a time: a channel that hangs delays no other.
//! 3. What a worker could not mark because the ledger did not answer it marks before it sends anything else.
//!
//! Order: the oldest attempt first. A message that is tried again may arrive after a later one; each tells its own instant.

use crate::backoff;
use crate::config::RetryConfig;
use crate::notifier::{Notice, Notifier, Receipt, SendError};
use crate::secret::shown;
use crate::status::Status;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wattlog_ledger::schema::{AlertDelivery, AlertEvent, DeliveryStatus};
use wattlog_ledger::{Actor, Expected, Ledger, LedgerError, Listing, Stored};
use wattlog_model::{Clock, Timestamp};

/// Longest time between two looks into the ledger; new deliveries wake the workers.
const POLL: Duration = Duration::from_secs(30);
/// A claim outlasts the sending by this, for the mark.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);
/// How long a stop waits for a message that is on its way.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Deliveries of one look.
const AT_ONCE: usize = 100;
/// A next attempt further ahead than all waits together was set by a clock that was ahead.
const CLOCK_MARGIN: Duration = Duration::from_secs(3600);

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: RetryConfig,
    pub(crate) status: Arc<Status>,
    /// Told when there are new deliveries.
    pub(crate) wake: Arc<Notify>,
}

/// Whose deliveries a worker sends.
pub(crate) enum Route {
    /// Those of one channel.
    Channel { name: String, notifier: Arc<dyn Notifier>, timeout: Duration },
    /// Those of channels that are not in the configuration: tried as if they failed, so that an owner who puts the name right in
    /// time loses nothing.
    Unknown { configured: BTreeSet<String> },
}

impl Outbox {
    /// Sends what is due until it is over.
    pub(crate) async fn run(self, route: Route, over: CancellationToken) {
        let mut may_warn = true;
        loop {
            // Asked for before the look, so that what is stored in between is not overslept.
            let mut woken = std::pin::pin!(self.wake.notified());
            woken.as_mut().enable();
            let wait = match self.look(&route, &over).await {
                Ok(wait) => {
                    may_warn = true;
                    wait
                }
                Err(error) => {
                    if std::mem::take(&mut may_warn) {
                        tracing::warn!(channel = route.name(), %error, "deliveries wait for the ledger");
                    }
                    self.retry.first.0.clamp(Duration::from_millis(100), POLL)
                }
            };
            tokio::select! {
                () = over.cancelled() => return,
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends everything that is due now; gives how long nothing more will be.
    async fn look(&self, route: &Route, over: &CancellationToken) -> Result<Duration, LedgerError> {
        loop {
            let now = self.clock.wall();
            let due = self.due(route, now).await?;
            if due.is_empty() {
                return self.until_next(route, now).await;
            }
            for delivery in due {
                if over.is_cancelled() {
                    return Ok(POLL);
                }
                self.deliver(route, delivery, over).await?;
            }
        }
    }

    async fn due(&self, route: &Route, now: Timestamp) -> Result<Vec<Stored<AlertDelivery>>, LedgerError> {
        let until = Timestamp(now.0.saturating_add(1));
        let mut due = self.pending(route, Timestamp::MIN..until, AT_ONCE).await?;
        if due.is_empty() {
            let ahead = [self.retry.longest.0, route.claim(), CLOCK_MARGIN].iter().sum();
            due = self.pending(route, after(now, ahead)..Timestamp::MAX, AT_ONCE).await?;
        }
        Ok(due)
    }

    async fn until_next(&self, route: &Route, now: Timestamp) -> Result<Duration, LedgerError> {
        let next = self.pending(route, Timestamp::MIN..Timestamp::MAX, 1).await?;
        let wait = next.first().map(|next| next.record.next_attempt.0.saturating_sub(now.0).max(0));
        Ok(wait
            .map_or(POLL, |ns| Duration::from_nanos(ns.unsigned_abs()).clamp(Duration::from_millis(1), POLL)))
    }

    /// Pending deliveries of a route whose next attempt lies in `time`, the earliest first.
    async fn pending(
        &self,
        route: &Route,
        time: std::ops::Range<Timestamp>,
        most: usize,
    ) -> Result<Vec<Stored<AlertDelivery>>, LedgerError> {
        let pending = Listing::all().with_text("status", DeliveryStatus::Pending.as_str()).within(time);
        match route {
            Route::Channel { name, .. } => {
                let listing = Listing { limit: most, ..pending.with_text("channel", name) };
                Ok(self.ledger.list::<AlertDelivery>(&listing).await?.records)
            }
            Route::Unknown { configured } => {
                let mut all =
                    crate::evaluator::all::<AlertDelivery>(&self.ledger, pending, Listing::MAX_LIMIT).await?;
                all.retain(|delivery| !configured.contains(&delivery.record.channel));
                all.truncate(most);
                Ok(all)
            }
        }
    }

    /// One attempt: claim, send, mark.
    async fn deliver(
        &self,
        route: &Route,
        delivery: Stored<AlertDelivery>,
        over: &CancellationToken,
    ) -> Result<(), LedgerError> {
        let now = self.clock.wall();
        if delivery.record.attempts >= i64::from(self.retry.attempts) {
            // The process ended during the last attempt.
            let reason = "the last attempt was not finished";
            let reason = delivery.record.last_error.clone().unwrap_or_else(|| reason.to_owned());
            let dead = given_up(&delivery.record, &reason);
            return self.mark(delivery.id, delivery.version, dead, over).await;
        }
        // A delivery goes with its event.
        let Some(event) = self.ledger.get::<AlertEvent>(delivery.record.event_id).await? else {
            return Ok(());
        };
        let claim = AlertDelivery {
            attempts: delivery.record.attempts + 1,
            next_attempt: after(now, route.claim()),
            ..delivery.record.clone()
        };
        let claimed =
            match self.ledger.update(delivery.id, Expected::Version(delivery.version), claim, &actor()).await
            {
                Ok(outcome) => outcome.stored,
                // Another process has it, or it is gone with its event.
                Err(LedgerError::Conflict { .. } | LedgerError::Missing { .. }) => return Ok(()),
                Err(other) => return Err(other),
            };
        let sent = match route {
            Route::Unknown { .. } => Err(SendError::Failed {
                reason: format!(
                    "no channel {:?} is configured: name one of alerts.channels",
                    claimed.record.channel
                ),
                wait: None,
            }),
            Route::Channel { notifier, timeout, .. } => {
                let notice = Notice::of(&event.record);
                let sending = tokio::time::timeout(*timeout, notifier.send(&notice));
                let stopped = async {
                    over.cancelled().await;
                    tokio::time::sleep(STOP_WAIT).await;
                };
                tokio::select! {
                    sent = sending => sent.unwrap_or_else(|_| Err(SendError::Failed {
                        reason: format!("no answer within {} ms", timeout.as_millis()),
                        wait: None,
                    })),
                    // The claim stands: it is sent again, under its key, after the next start.
                    () = stopped => return Ok(()),
                }
            }
        };
        if let Ok(Receipt(Some(number))) = &sent {
            tracing::debug!(channel = route.name(), number, "the channel gave the message a number");
        }
        let marked = self.marked(&claimed, sent);
        self.mark(claimed.id, claimed.version, marked, over).await
    }

    /// The delivery after an attempt.
    fn marked(&self, claimed: &Stored<AlertDelivery>, sent: Result<Receipt, SendError>) -> AlertDelivery {
        let record = &claimed.record;
        let now = self.clock.wall();
        let attempts = u32::try_from(record.attempts).unwrap_or(u32::MAX);
        match sent {
            Ok(_) => AlertDelivery {
                status: DeliveryStatus::Delivered,
                delivered: Some(now),
                next_attempt: now,
                last_error: None,
                ..record.clone()
            },
            Err(SendError::Refused { reason }) => AlertDelivery {
                status: DeliveryStatus::Dead,
                next_attempt: now,
                last_error: Some(shown(&format!("refused: {reason}"), &[])),
                ..record.clone()
            },
            Err(SendError::Failed { reason, .. }) if attempts >= self.retry.attempts => {
                AlertDelivery { next_attempt: now, ..given_up(record, &reason) }
            }
            Err(SendError::Failed { reason, wait }) => AlertDelivery {
                next_attempt: after(
                    now,
                    backoff::wait(&self.retry, attempts, claimed.id.unsigned_abs(), wait),
                ),
                last_error: Some(shown(&reason, &[])),
                ..record.clone()
            },
        }
    }

    /// Stores what became of an attempt, however long the ledger takes; at a stop it is tried for a while.
    async fn mark(
        &self,
        id: i64,
        version: i64,
        marked: AlertDelivery,
        over: &CancellationToken,
    ) -> Result<(), LedgerError> {
        let mut wait = Duration::from_millis(50);
        let mut stopping = Duration::ZERO;
        loop {
            match self.ledger.update(id, Expected::Version(version), marked.clone(), &actor()).await {
                Ok(_) => {
                    self.count(&marked);
                    return Ok(());
                }
                // Somebody else changed it meanwhile: what is there is newer than what is known here.
                Err(LedgerError::Conflict { .. } | LedgerError::Missing { .. }) => return Ok(()),
                Err(error) if error.may_pass() && stopping < STOP_WAIT => {
                    if over.is_cancelled() {
                        stopping += wait;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn count(&self, marked: &AlertDelivery) {
        let (channel, attempts) = (marked.channel.as_str(), marked.attempts);
        let error = marked.last_error.as_deref().unwrap_or_default();
        match marked.status {
            DeliveryStatus::Delivered => {
                self.status.delivered(channel);
                tracing::info!(channel, attempts, event = marked.event_id, "alert delivered");
            }
            DeliveryStatus::Dead => {
                self.status.dead(channel);
                tracing::error!(
                    channel,
                    attempts,
                    event = marked.event_id,
                    error,
                    "an alert could not be delivered and was given up: see /api/v1/alerts/deliveries?status=dead"
                );
            }
            DeliveryStatus::Pending => {
                self.status.retried(channel);
                tracing::warn!(
                    channel,
                    attempts,
                    event = marked.event_id,
                    error,
                    "an alert is sent again later"
                );
            }
        }
    }
}

impl Route {
    fn name(&self) -> &str {
        match self {
            Self::Channel { name, .. } => name,
            Self::Unknown { .. } => "(not configured)",
        }
    }

    /// How long a claim holds.
    fn claim(&self) -> Duration {
        match self {
            Self::Channel { timeout, .. } => *timeout + CLAIM_MARGIN,
            Self::Unknown { .. } => CLAIM_MARGIN,
        }
    }
}

fn given_up(record: &AlertDelivery, reason: &str) -> AlertDelivery {
    AlertDelivery {
        status: DeliveryStatus::Dead,
        last_error: Some(shown(&format!("given up after {} attempts: {reason}", record.attempts), &[])),
        ..record.clone()
    }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
}

fn actor() -> Actor {
    Actor::new("alerts")
}
