//! The evaluation of all rules: reads rules and values, lets the analytics judge, stores what came of it.
//!
//! Promise: each transition becomes one event, with its deliveries, in one transaction with the state that made it; after a
//! crash the same values give the same events under the same keys, which are stored once. A rule that is changed, switched off
//! or removed while it is pending or firing ends its episode.
//!
//! Invariants
//! 1. What is remembered in memory is what the ledger has, plus values that changed nothing; those are read again after a
//!    restart, at most an hour of them ([`CHECKPOINT_NS`]). So a quiet rule costs one commit an hour.
//! 2. A step that was not stored is forgotten: the next round begins from what the ledger has.
//! 3. A clock that was ahead of now when values were taken ends the episode and begins anew.
//!
//! Not here: sending (`outbox`), what is decided about an episode (`memory`).

use crate::config::{AlertsConfig, PricesConfig};
use crate::definition::Definition;
use crate::memory::{Context, Memory, end_of_removed};
use crate::readings::Readings;
use crate::samples;
use crate::status::Status;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wattlog_analytics::alert::{FUTURE_TOLERANCE_NS, Phase, evaluate};
use wattlog_ledger::schema::{
    AlertDelivery, AlertEvent, AlertFinding, AlertRule, AlertSilence, AlertState, AlertStep,
};
use wattlog_ledger::{Actor, Cursor, Ledger, LedgerError, Listing, Order, Record, Stored, Value as Column};
use wattlog_model::{Clock, Timestamp};

/// Most rules that are evaluated; those made last are told as trouble.
pub const MAX_RULES: usize = 1_000;
/// Longest time between two stored states of a rule that does nothing.
const CHECKPOINT_NS: i64 = 3_600_000_000_000;
/// Most batches of one rule in one round; the rest follows in the next.
const MAX_BATCHES: usize = 20;
/// Most removed rules whose episodes are ended in one round.
const MAX_ENDED: usize = 100;

/// Evaluates rules.
pub(crate) struct Evaluator {
    ledger: Ledger,
    readings: Arc<dyn Readings>,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    look_back_ns: i64,
    prices: PricesConfig,
    pub(crate) status: Arc<Status>,
    actor: Actor,
    known: BTreeMap<i64, Known>,
    /// Rules of the round before.
    numbers: BTreeSet<i64>,
    /// Whether a rule may have been removed since it was looked for.
    may_have_orphans: bool,
}

/// A rule as this process knows it.
#[derive(Debug, Clone)]
struct Known {
    memory: Memory,
    /// Version of what the ledger has; 0: nothing.
    version: i64,
    /// Until when it was evaluated when it was stored last.
    stored: Timestamp,
}

/// Why a rule was not evaluated to its end.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Definition(#[from] crate::definition::InvalidDefinition),
    #[error(transparent)]
    Readings(#[from] crate::readings::ReadingsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Evaluator {
    pub(crate) fn new(
        config: &AlertsConfig,
        ledger: Ledger,
        readings: Arc<dyn Readings>,
        clock: Arc<dyn Clock>,
        zone: TimeZone,
        status: Arc<Status>,
    ) -> Self {
        Self {
            ledger,
            readings,
            clock,
            zone,
            look_back_ns: config.look_back.ns(),
            prices: config.prices.clone(),
            status,
            actor: Actor::new("alerts"),
            known: BTreeMap::new(),
            numbers: BTreeSet::new(),
            may_have_orphans: true,
        }
    }

    /// Evaluates every rule until now. Gives how many deliveries were made.
    ///
    /// # Errors
    /// The rules cannot be listed; trouble of one rule is told in the status and holds up no other.
    pub(crate) async fn round(&mut self) -> Result<u64, LedgerError> {
        let now = self.clock.wall();
        let rules: Vec<Stored<AlertRule>> = all(&self.ledger, Listing::all(), MAX_RULES + 1).await?;
        let newest_first = Listing { order: Order::NewestFirst, ..Listing::all() };
        let silences: Vec<Stored<AlertSilence>> = all(&self.ledger, newest_first, Listing::MAX_LIMIT).await?;
        // A silence counts for the instant of an event too, which is never older than the look-back.
        let oldest = now.0.saturating_sub(self.look_back_ns);
        let silences: Vec<AlertSilence> = silences
            .into_iter()
            .map(|silence| silence.record)
            .filter(|silence| silence.end.0 > oldest)
            .collect();
        let numbers: BTreeSet<i64> = rules.iter().map(|rule| rule.id).collect();
        self.known.retain(|number, _| numbers.contains(number));
        // Not `known`: a rule whose step was not stored is missing there, and may be removed before the next round.
        self.may_have_orphans |= !self.numbers.is_subset(&numbers);
        self.status.keep_rules(&numbers);
        self.numbers = numbers;

        let mut deliveries = 0;
        for (place, rule) in rules.iter().enumerate() {
            if place >= MAX_RULES {
                self.status.trouble(rule.id, &rule.record.name, &format!("more than {MAX_RULES} rules"));
                continue;
            }
            match self.evaluate(rule, &silences, now).await {
                Ok(made) => {
                    deliveries += made;
                    self.status.evaluated(rule.id);
                    let phase =
                        self.known.get(&rule.id).map_or(Phase::Ok, |known| known.memory.machine.phase);
                    self.status.stands(rule.id, &rule.record.name, phase);
                }
                Err(trouble) => {
                    let is_race = matches!(
                        trouble,
                        Trouble::Ledger(LedgerError::Conflict { .. } | LedgerError::Refused { .. })
                    );
                    // Another process, or a removal, was quicker: the next round sees it.
                    if is_race {
                        self.may_have_orphans = true;
                    } else {
                        self.status.trouble(rule.id, &rule.record.name, &trouble.to_string());
                    }
                    if matches!(trouble, Trouble::Ledger(_)) {
                        self.known.remove(&rule.id);
                    }
                }
            }
        }
        if self.may_have_orphans {
            deliveries += self.end_removed(&silences, now).await?;
        }
        Ok(deliveries)
    }

    async fn evaluate(
        &mut self,
        stored: &Stored<AlertRule>,
        silences: &[AlertSilence],
        now: Timestamp,
    ) -> Result<u64, Trouble> {
        let (number, rule) = (stored.id, &stored.record);
        let mut known = match self.known.get(&number) {
            Some(known) => known.clone(),
            None => self.load(number).await?,
        };
        let definition = if rule.enabled { Some(Definition::read(&rule.definition)) } else { None };
        let wanted = match &definition {
            Some(Ok(_)) => rule.definition.clone(),
            _ => Value::Null,
        };
        let zone = self.zone.clone();
        let mut context = Context { number, rule, silences, zone: &zone, unit: None, now };
        let mut deliveries = 0;

        let latest = known.memory.machine.last.map_or(i64::MIN, |last| last.time.0);
        let ended_by = if known.memory.definition != wanted {
            match &definition {
                None => Some("its rule was switched off"),
                Some(_) => Some("its rule was changed"),
            }
        } else if latest.saturating_sub(now.0) > FUTURE_TOLERANCE_NS {
            Some("the clock was set back")
        } else {
            None
        };
        if let Some(reason) = ended_by {
            let finding = known.memory.end(reason, &context);
            known.memory = known.memory.renewed(known.version + 1, wanted);
            deliveries += self.store(number, &mut known, finding.into_iter().collect(), now).await?;
            // Its first evaluation is stored too: from when absence counts must outlast a restart.
            known.stored = Timestamp::MIN;
            self.known.insert(number, known.clone());
        }
        if let Some(ended) = known.memory.tell_owed(&context) {
            deliveries += self.store(number, &mut known, vec![ended], now).await?;
        }
        let definition = match definition {
            None => return Ok(deliveries),
            Some(read) => read?,
        };

        let analytic = definition.rule(number, known.memory.generation, rule.severity);
        for _ in 0..MAX_BATCHES {
            let machine = known.memory.machine.clone();
            let batch = samples::read(
                self.readings.as_ref(),
                &definition,
                &self.prices,
                &machine,
                self.look_back_ns,
                now,
            )
            .await?;
            // It was checked when it was read.
            let Ok(judged) = evaluate(&analytic, machine, &batch.samples, batch.until) else { break };
            self.status.took(batch.samples.len() as u64, &judged.ignored);
            if !judged.transitions.is_empty()
                && context.unit.is_none()
                && let Some(field) = samples::field_with_unit(&definition)
            {
                context.unit = self.readings.unit(&field).await;
            }
            let findings = known.memory.take(judged.state, &judged.transitions, &definition, &context);
            let is_due = batch.until.0.saturating_sub(known.stored.0) >= CHECKPOINT_NS;
            if !findings.is_empty() || known.version == 0 || is_due {
                deliveries += self.store(number, &mut known, findings, batch.until).await?;
            } else {
                self.known.insert(number, known.clone());
            }
            if batch.is_last {
                break;
            }
        }
        if let Some(told) = known.memory.unmute(&definition, &context) {
            deliveries += self.store(number, &mut known, vec![told], now).await?;
        }
        Ok(deliveries)
    }

    async fn load(&self, number: i64) -> Result<Known, LedgerError> {
        let stored: Option<Stored<AlertState>> = self.ledger.find(&[Column::Int(Some(number))]).await?;
        let Some(stored) = stored else {
            return Ok(Known { memory: Memory::new(1, Value::Null), version: 0, stored: Timestamp::MIN });
        };
        let memory = serde_json::from_value(stored.record.state).unwrap_or_else(|error| {
            tracing::warn!(rule = number, %error, "the state of an alert cannot be read: it is evaluated anew");
            Memory::new(stored.version + 1, Value::Null)
        });
        Ok(Known { memory, version: stored.version, stored: stored.record.evaluated })
    }

    /// Stores what a rule remembers with what it found; gives how many deliveries that made.
    async fn store(
        &mut self,
        number: i64,
        known: &mut Known,
        findings: Vec<AlertFinding>,
        until: Timestamp,
    ) -> Result<u64, LedgerError> {
        // Until it is stored, nobody may go on from it.
        self.known.remove(&number);
        let state = serde_json::to_value(&known.memory)
            .map_err(|error| LedgerError::Refused { entity: AlertState::TABLE, reason: error.to_string() })?;
        let state = AlertState { rule_id: number, state, evaluated: until };
        let told = findings.clone();
        let step = AlertStep { state: Some((known.version, state)), findings };
        let done = self.ledger.store_alert_step(step, &self.actor).await?;
        known.version = done.state_version;
        known.stored = until;
        self.known.insert(number, known.clone());
        self.note(&told, done.events);
        Ok(done.deliveries)
    }

    fn note(&self, findings: &[AlertFinding], new: u64) {
        self.status.found(new);
        for AlertFinding { event, channels } in findings {
            tracing::info!(
                rule = event.rule_name,
                state = event.state.as_str(),
                key = event.event_key,
                silenced = event.silenced,
                channels = channels.len(),
                "alert"
            );
        }
    }

    /// Ends the episodes that removed rules left; whoever was told that they fire is told that they do not.
    async fn end_removed(&mut self, silences: &[AlertSilence], now: Timestamp) -> Result<u64, LedgerError> {
        let left = self.ledger.unended_without_rule(MAX_ENDED).await?;
        let mut deliveries = 0;
        for one in &left {
            let mut event = end_of_removed(&one.record, now, &self.zone);
            let is_silent = silences.iter().any(|silence| silence.covers(&event.rule_name, now));
            event.silenced |= is_silent;
            let channels = if event.silenced { Vec::new() } else { self.told(one).await? };
            let findings = vec![AlertFinding { event, channels }];
            let step = AlertStep { state: None, findings: findings.clone() };
            let done = self.ledger.store_alert_step(step, &self.actor).await?;
            self.note(&findings, done.events);
            deliveries += done.deliveries;
        }
        self.may_have_orphans = left.len() >= MAX_ENDED;
        Ok(deliveries)
    }

    /// Channels that have a delivery of this event.
    async fn told(&self, event: &Stored<AlertEvent>) -> Result<Vec<String>, LedgerError> {
        let listing = Listing::all().with("event_id", Column::Int(Some(event.id)));
        let deliveries: Vec<Stored<AlertDelivery>> = all(&self.ledger, listing, Listing::MAX_LIMIT).await?;
        Ok(deliveries.into_iter().map(|delivery| delivery.record.channel).collect())
    }
}

/// All records of a listing, at most `most`, page by page.
pub(crate) async fn all<R: Record>(
    ledger: &Ledger,
    listing: Listing,
    most: usize,
) -> Result<Vec<Stored<R>>, LedgerError> {
    let mut records: Vec<Stored<R>> = Vec::new();
    let mut after: Option<Cursor> = listing.after;
    loop {
        let page =
            ledger.list::<R>(&Listing { after, limit: most - records.len(), ..listing.clone() }).await?;
        records.extend(page.records);
        match page.next {
            Some(next) if records.len() < most => after = Some(next),
            _ => return Ok(records),
        }
    }
}
