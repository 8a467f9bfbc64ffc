//! Rules, what they found, and whom it was told.
//!
//! An event has a key that is the same however often it is found, and a delivery for each channel; so an event that is found
//! again after a restart is not told again.

use super::{check_after, check_name, check_object, empty_object};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// How much it matters.
    pub enum Severity {
        /// Good to know.
        Info = "info",
        /// Look at it today.
        Warning = "warning",
        /// Look at it now.
        Critical = "critical",
    }
}

words! {
    /// What an event says of its rule.
    pub enum EventState {
        /// The condition holds, not yet for long enough.
        Pending = "pending",
        /// It held for long enough.
        Firing = "firing",
        /// It holds no more.
        Resolved = "resolved",
    }
}

words! {
    /// How far a delivery is.
    pub enum DeliveryStatus {
        /// To be tried, or tried again.
        Pending = "pending",
        /// The channel acknowledged it.
        Delivered = "delivered",
        /// Given up.
        Dead = "dead",
    }
}

record! {
    /// What is watched.
    pub struct AlertRule in "alert_rules"
    key ["name"] time "created_ns" filters ["name", "severity", "enabled"] history true
    {
        /// In a few words.
        name: String => "name",
        /// How much it matters.
        severity: Severity => "severity",
        /// Whether it is evaluated.
        enabled: bool => "enabled",
        /// The condition, a JSON object.
        definition: Value => "definition",
        /// Names of the channels that are told.
        #[serde(default)] channels: Vec<String> => "channels",
        /// For people.
        #[serde(default)] note: String => "note",
    }
}

record! {
    /// Where the evaluation of a rule stands.
    pub struct AlertState in "alert_states"
    key ["rule_id"] time "created_ns" filters ["rule_id"] history false
    {
        /// Number of the rule.
        rule_id: i64 => "rule_id",
        /// What the evaluation remembers.
        state: Value => "state",
        /// Until when it was evaluated.
        #[serde(with = "crate::instant")] evaluated: Timestamp => "evaluated_ns",
    }
}

record! {
    /// What a rule found.
    pub struct AlertEvent in "alert_events"
    key ["event_key"] time "at_ns" filters ["event_key", "rule_id", "rule_name", "severity", "state"] history false
    {
        /// The same for the same event, however often it is found.
        event_key: String => "event_key",
        /// Number of the rule; none when the rule is gone.
        #[serde(default)] rule_id: Option<i64> => "rule_id",
        /// Its name at that time.
        rule_name: String => "rule_name",
        /// How much it matters.
        severity: Severity => "severity",
        /// What it says of the rule.
        state: EventState => "state",
        /// When.
        #[serde(with = "crate::instant")] at: Timestamp => "at_ns",
        /// What was measured.
        #[serde(default)] value: Option<f64> => "value",
        /// For people.
        message: String => "message",
        /// Nobody was told, because of a silence.
        #[serde(default)] silenced: bool => "silenced",
        /// Anything else, a JSON object.
        #[serde(default = "empty_object")] details: Value => "details",
    }
}

record! {
    /// Telling one event by one channel.
    pub struct AlertDelivery in "alert_deliveries"
    key ["event_id", "channel"] time "next_attempt_ns" filters ["event_id", "channel", "status"] history false
    {
        /// Number of the event.
        event_id: i64 => "event_id",
        /// Name of the channel.
        channel: String => "channel",
        /// How far it is.
        status: DeliveryStatus => "status",
        /// How often it was tried.
        attempts: i64 => "attempts",
        /// When it is tried next.
        #[serde(with = "crate::instant")] next_attempt: Timestamp => "next_attempt_ns",
        /// When the channel acknowledged it.
        #[serde(default, with = "crate::instant::maybe")] delivered: Option<Timestamp> => "delivered_ns",
        /// What went wrong last.
        #[serde(default)] last_error: Option<String> => "last_error",
    }
}

record! {
    /// A time in which nobody is told.
    pub struct AlertSilence in "alert_silences"
    key [] time "start_ns" filters ["rule_name"] history true
    {
        /// Which rule; none: all.
        #[serde(default)] rule_name: Option<String> => "rule_name",
        /// From when.
        #[serde(with = "crate::instant")] start: Timestamp => "start_ns",
        /// Until when.
        #[serde(with = "crate::instant")] end: Timestamp => "end_ns",
        /// Why.
        reason: String => "reason",
    }
}

impl AlertRule {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        self.channels.iter().try_for_each(|channel| check_name("channels", channel))?;
        check_object("definition", &self.definition)
    }
}

impl AlertState {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_object("state", &self.state)
    }
}

impl AlertEvent {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("event_key", &self.event_key)?;
        check_object("details", &self.details)
    }
}

impl AlertDelivery {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("channel", &self.channel)?;
        if (self.status == DeliveryStatus::Delivered) != self.delivered.is_some() {
            return Err(Invalid::new(
                "delivered",
                "a delivery has this time if it was acknowledged, and only then",
            ));
        }
        if self.attempts < 0 {
            return Err(Invalid::new("attempts", "at least 0"));
        }
        Ok(())
    }
}

impl AlertSilence {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_after("end", self.start, Some(self.end))
    }

    /// True if `rule` is not told at `at`.
    pub fn covers(&self, rule: &str, at: Timestamp) -> bool {
        (self.start..self.end).contains(&at) && self.rule_name.as_ref().is_none_or(|name| name == rule)
    }
}
