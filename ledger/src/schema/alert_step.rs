//! What one evaluation of an alert rule leaves behind: its state, what it found and whom that is to be told, in one transaction.
//!
//! Promise: after a crash at any moment all of a step is there or nothing of it, so a step that is made again neither repeats
//! an event nor loses a delivery.
//!
//! Invariants
//! 1. The state of a rule is exchanged only by who saw the one before it: of two evaluations at the same time one is a
//!    [`LedgerError::Conflict`], and nothing of it is stored.
//! 2. An event is made once for its key, and its deliveries with it; found again, it makes none.
//! 3. An event that a silence kept from being told can be told later, once.

use super::{AlertDelivery, AlertEvent, AlertState, DeliveryStatus};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::record::{Actor, Record as _, Stored, Value, checked_values, read_stored};
use crate::store::{Writing, bind, columns, failed};
use wattlog_model::Timestamp;

/// One step of the evaluation of one rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AlertStep {
    /// What it remembers now, and the version of what it remembered before; 0: nothing was stored. None: no change.
    pub state: Option<(i64, AlertState)>,
    /// What it found, the oldest first.
    pub findings: Vec<AlertFinding>,
}

/// An event, and the channels that are to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertFinding {
    /// The event.
    pub event: AlertEvent,
    /// Names of channels; each has one delivery, however often it stands here.
    pub channels: Vec<String>,
}

/// What of a step was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlertStepDone {
    /// Version of the state after it; 0 if the step had none.
    pub state_version: i64,
    /// Events that were not there before.
    pub events: u64,
    /// Deliveries that were not there before.
    pub deliveries: u64,
}

impl Ledger {
    /// Stores a step, whole or not at all.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] if another evaluation was quicker, or the state is gone; [`LedgerError::Refused`] if the rule is gone;
    /// [`LedgerError::Invalid`]; the database.
    pub async fn store_alert_step(
        &self,
        step: AlertStep,
        actor: &Actor,
    ) -> Result<AlertStepDone, LedgerError> {
        self.noted(async {
            let now = self.now();
            let mut writing = self.write(actor).await?;
            let mut done = AlertStepDone::default();
            if let Some((before, state)) = step.state {
                done.state_version = exchange(&mut writing, before, state).await?;
            }
            for finding in step.findings {
                tell(&mut writing, finding, now, &mut done).await?;
            }
            writing.commit(done).await
        })
        .await
    }

    /// Events of rules that were removed while they were pending or firing, the oldest first, one for each episode: those
    /// that no event with the same key but for its state answers (`/pending` by `/firing` or an end, `/firing` by an end;
    /// an end is `/ok` or `/resolved`).
    ///
    /// # Errors
    /// The database.
    pub async fn unended_without_rule(&self, limit: usize) -> Result<Vec<Stored<AlertEvent>>, LedgerError> {
        self.noted(async {
        let pool = self.pool().await?;
        let stem =
            "substr(alert_events.event_key, 1, length(alert_events.event_key) - length(alert_events.state))";
        let sql = format!(
            "SELECT {} FROM alert_events WHERE rule_id IS NULL AND state IN ('pending', 'firing') \
             AND event_key LIKE '%/' || state AND NOT EXISTS (SELECT 1 FROM alert_events AS later \
             WHERE later.event_key IN ({stem} || 'ok', {stem} || 'resolved', \
             {stem} || CASE alert_events.state WHEN 'pending' THEN 'firing' ELSE 'ok' END)) ORDER BY id LIMIT {}",
            columns::<AlertEvent>(),
            limit.clamp(1, crate::Listing::MAX_LIMIT)
        );
        let rows = bind(&sql, &[]).fetch_all(&pool).await;
        let rows = rows.map_err(|error| failed::<AlertEvent>("list", error))?;
        let read = rows.iter().map(read_stored).collect::<Result<_, _>>();
        read.map_err(|error| failed::<AlertEvent>("read", error))
        })
        .await
    }
}

async fn exchange(writing: &mut Writing, before: i64, state: AlertState) -> Result<i64, LedgerError> {
    let values = checked_values(&state)?;
    let key = [Value::Int(Some(state.rule_id))];
    let old: Option<Stored<AlertState>> = writing.find(&key).await?;
    let (id, found) = old.as_ref().map_or((0, 0), |old| (old.id, old.version));
    let conflict = |found| LedgerError::Conflict { entity: AlertState::TABLE, id, expected: before, found };
    if found != before {
        return Err(conflict(found));
    }
    match old {
        Some(old) => Ok(writing.change(old, state, &values).await?.stored.version),
        None => match writing.create(state, &values).await {
            Ok(stored) => Ok(stored.version),
            // Another made it between the look and the storing.
            Err(LedgerError::Exists { .. }) => Err(conflict(1)),
            Err(other) => Err(other),
        },
    }
}

async fn tell(
    writing: &mut Writing,
    finding: AlertFinding,
    now: Timestamp,
    done: &mut AlertStepDone,
) -> Result<(), LedgerError> {
    let AlertFinding { event, channels } = finding;
    let values = checked_values(&event)?;
    let key = [Value::Text(Some(event.event_key.clone()))];
    let old: Option<Stored<AlertEvent>> = writing.find(&key).await?;
    let event_id = match old {
        None => {
            done.events += 1;
            writing.create(event, &values).await?.id
        }
        Some(old) if old.record.silenced && !event.silenced => {
            let (id, told) = (old.id, AlertEvent { silenced: false, ..old.record.clone() });
            let values = checked_values(&told)?;
            writing.change(old, told, &values).await?;
            id
        }
        Some(_) => return Ok(()),
    };
    let mut told: Vec<String> = Vec::new();
    for channel in channels {
        if told.contains(&channel) {
            continue;
        }
        let delivery = AlertDelivery {
            event_id,
            channel: channel.clone(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt: now,
            delivered: None,
            last_error: None,
        };
        let values = checked_values(&delivery)?;
        writing.create(delivery, &values).await?;
        done.deliveries += 1;
        told.push(channel);
    }
    Ok(())
}
