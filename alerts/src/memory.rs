//! What the evaluation of a rule remembers, as it stands in `alert_states.state`, and what it finds: events and whom to tell.
//!
//! Pure: no clock, no database. What happens when a rule is changed, switched off or muted is decided here.
//!
//! Invariants
//! 1. An episode that was begun is ended: by its rule, or because the rule was changed, switched off or removed.
//! 2. The end of an episode goes to the channels that were told that it fired, whatever the rule names by then, and to no
//!    other; if it ends in a silence, after that silence.
//! 3. A generation is never used twice for a rule, so keys are never either.

use crate::definition::Definition;
use crate::message::{self, Message};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wattlog_analytics::alert::{Phase, PhaseName, State, Transition};
use wattlog_ledger::schema::{AlertEvent, AlertFinding, AlertRule, AlertSilence, EventState};
use wattlog_model::Timestamp;

/// All that is remembered of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// Part of the keys of its episodes.
    pub(crate) generation: i64,
    /// What is evaluated; null: nothing (the rule is off, or has no sense).
    pub(crate) definition: Value,
    /// Where the evaluation stands.
    pub(crate) machine: State,
    /// Nobody was told that the present episode fires, because of a silence.
    #[serde(default)]
    pub(crate) is_muted: bool,
    /// Channels that were told that the present episode fires.
    #[serde(default)]
    pub(crate) told: Vec<String>,
    /// The end of an episode before it, and who is to hear of it once the silence is over. One at most: what begins in a silence
    /// is told to nobody.
    #[serde(default)]
    pub(crate) owed: Option<Owed>,
}

/// An end that is told later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owed {
    event: AlertEvent,
    channels: Vec<String>,
}

/// Where findings come from and go to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Number of the rule.
    pub(crate) number: i64,
    pub(crate) rule: &'a AlertRule,
    pub(crate) silences: &'a [AlertSilence],
    pub(crate) zone: &'a TimeZone,
    /// Unit of the field, if it is known.
    pub(crate) unit: Option<String>,
    pub(crate) now: Timestamp,
}

impl Memory {
    /// Nothing is known yet.
    pub(crate) fn new(generation: i64, definition: Value) -> Self {
        let machine = State::default();
        Self { generation, definition, machine, is_muted: false, told: Vec::new(), owed: None }
    }

    /// The same for what the rule says now.
    pub(crate) fn renewed(self, generation: i64, definition: Value) -> Self {
        Self { owed: self.owed, ..Self::new(generation, definition) }
    }

    /// Takes over what the analytics found in its order.
    pub(crate) fn take(
        &mut self,
        machine: State,
        transitions: &[Transition],
        definition: &Definition,
        context: &Context<'_>,
    ) -> Vec<AlertFinding> {
        self.machine = machine;
        let mut findings = Vec::with_capacity(transitions.len());
        for transition in transitions {
            let message = message::of_transition(
                context.rule,
                definition,
                transition,
                context.unit.as_deref(),
                context.zone,
            );
            findings.push(self.finding(transition, message, context));
        }
        findings
    }

    /// Ends the episode that goes on, if there is one.
    pub(crate) fn end(&mut self, reason: &str, context: &Context<'_>) -> Option<AlertFinding> {
        let (episode, to) = match self.machine.phase {
            Phase::Pending { episode } => (episode, PhaseName::Ok),
            Phase::Firing { episode } => (episode, PhaseName::Resolved),
            Phase::Ok | Phase::Resolved { .. } => return None,
        };
        let rule = format!("{}-{}", context.number, self.generation);
        let transition = Transition { rule, episode, to, time: context.now, value: None };
        let message = message::of_end(&context.rule.name, episode, reason, context.zone);
        let mut finding = self.finding(&transition, message, context);
        if let Value::Object(details) = &mut finding.event.details {
            details.insert("ended_because".to_owned(), json!(reason));
        }
        self.machine = State::default();
        Some(finding)
    }

    /// The end of an episode that was told, if it came in a silence that is over.
    pub(crate) fn tell_owed(&mut self, context: &Context<'_>) -> Option<AlertFinding> {
        if context.is_silent(context.now) {
            return None;
        }
        // The event is there already; it is made known as it was stored, with deliveries.
        let Owed { event, channels } = self.owed.take()?;
        Some(AlertFinding { event: AlertEvent { silenced: false, ..event }, channels })
    }

    /// An episode that a silence kept from being told and that outlasts it is told now.
    pub(crate) fn unmute(&mut self, definition: &Definition, context: &Context<'_>) -> Option<AlertFinding> {
        let Phase::Firing { episode } = self.machine.phase else { return None };
        if !self.is_muted || context.is_silent(context.now) {
            return None;
        }
        self.is_muted = false;
        self.told.clone_from(&context.rule.channels);
        // The event is there already, under this key; it is made known as it was stored, with deliveries.
        let rule = format!("{}-{}", context.number, self.generation);
        let transition = Transition { rule, episode, to: PhaseName::Firing, time: context.now, value: None };
        let message = message::of_transition(
            context.rule,
            definition,
            &transition,
            context.unit.as_deref(),
            context.zone,
        );
        let event = event(&transition, EventState::Firing, message, false, context);
        Some(AlertFinding { event, channels: self.told.clone() })
    }

    fn finding(&mut self, transition: &Transition, message: Message, context: &Context<'_>) -> AlertFinding {
        let is_silent = context.is_silent(transition.time) || context.is_silent(context.now);
        let (state, channels, silenced) = match transition.to {
            PhaseName::Pending => (EventState::Pending, Vec::new(), false),
            // What never fired: the history shows its end, nobody is told.
            PhaseName::Ok => (EventState::Resolved, Vec::new(), false),
            PhaseName::Firing => {
                self.is_muted = is_silent;
                self.told = if is_silent { Vec::new() } else { context.rule.channels.clone() };
                (EventState::Firing, self.told.clone(), is_silent)
            }
            PhaseName::Resolved => {
                let told = std::mem::take(&mut self.told);
                // A silence that is over by now does not keep from anybody that it ended.
                let is_quiet = std::mem::take(&mut self.is_muted) || context.is_silent(context.now);
                (EventState::Resolved, told, is_quiet)
            }
        };
        let event = event(transition, state, message, silenced, context);
        if silenced && !channels.is_empty() {
            self.owed = Some(Owed { event: event.clone(), channels });
            return AlertFinding { event, channels: Vec::new() };
        }
        AlertFinding { event, channels }
    }
}

impl Context<'_> {
    fn is_silent(&self, at: Timestamp) -> bool {
        self.silences.iter().any(|silence| silence.covers(&self.rule.name, at))
    }
}

fn event(
    transition: &Transition,
    state: EventState,
    message: Message,
    silenced: bool,
    context: &Context<'_>,
) -> AlertEvent {
    AlertEvent {
        event_key: transition.key(),
        rule_id: Some(context.number),
        rule_name: context.rule.name.clone(),
        severity: context.rule.severity,
        state,
        at: transition.time,
        value: transition.value,
        message: message.text,
        silenced,
        details: json!({ "title": message.title, "since_ns": transition.episode.0 }),
    }
}

/// The event that ends what a removed rule left; `left` is the event that it left, pending or firing.
pub(crate) fn end_of_removed(left: &AlertEvent, now: Timestamp, zone: &TimeZone) -> AlertEvent {
    let since = left.details.get("since_ns").and_then(Value::as_i64).map_or(left.at, Timestamp);
    let reason = "its rule was removed";
    let message = message::of_end(&left.rule_name, since, reason, zone);
    let stem = left.event_key.strip_suffix(left.state.as_str()).unwrap_or(&left.event_key);
    // As the rule itself would have ended it.
    let to = if left.state == EventState::Pending { PhaseName::Ok } else { PhaseName::Resolved };
    AlertEvent {
        event_key: format!("{stem}{to}"),
        rule_id: None,
        state: EventState::Resolved,
        at: now,
        value: None,
        message: message.text,
        details: json!({ "title": message.title, "since_ns": since.0, "ended_because": reason }),
        ..left.clone()
    }
}
