//! Channels: what is said, and what counts as heard.
//!
//! Promise: `Ok` means that the channel acknowledged the message: a status of 2xx, a PUBACK, a 250. A refusal that will be the
//! same tomorrow is [`SendError::Refused`], everything else [`SendError::Failed`]. No error shows a secret or an address.
//!
//! Every message carries the key of its event, the same at each attempt, so that a receiver can drop what it has.
//! Not here: when to send and how long to wait (`outbox`).

mod email;
mod http;
mod mqtt;
mod ntfy;
mod webhook;

use crate::config::{ChannelConfig, InvalidConfig, invalid};
use crate::readings::BoxFuture;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use wattlog_ledger::schema::{AlertEvent, EventState, Severity};
use wattlog_model::Timestamp;

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The same for the same event at each attempt: `RULE-GENERATION/EPISODE/STATE`.
    pub key: String,
    /// Name of the rule.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// `firing` or `resolved`.
    pub state: EventState,
    /// When it happened, RFC 3339.
    #[serde(serialize_with = "instant")]
    pub at: Timestamp,
    /// Since when the condition is or was true, RFC 3339, if it is known.
    #[serde(serialize_with = "maybe_instant")]
    pub since: Option<Timestamp>,
    /// What was measured.
    pub value: Option<f64>,
    /// One line.
    pub title: String,
    /// All of it, at most [`Notice::MAX_TEXT_CHARS`] characters.
    pub message: String,
}

impl Notice {
    /// Longest text, in characters; a channel that counts bytes cuts it further (`ntfy`).
    pub const MAX_TEXT_CHARS: usize = 2_000;
    /// Longest title, in characters.
    pub const MAX_TITLE_CHARS: usize = 200;

    /// What an event says.
    pub fn of(event: &AlertEvent) -> Self {
        let title = event.details.get("title").and_then(Value::as_str);
        let title =
            title.map_or_else(|| format!("{}: {}", event.rule_name, event.state.as_str()), str::to_owned);
        Self {
            key: event.event_key.clone(),
            rule: event.rule_name.clone(),
            severity: event.severity,
            state: event.state,
            at: event.at,
            since: event.details.get("since_ns").and_then(Value::as_i64).map(Timestamp),
            value: event.value,
            title: cut(&title, Self::MAX_TITLE_CHARS),
            message: cut(&event.message, Self::MAX_TEXT_CHARS),
        }
    }
}

/// What a channel gave back beside its acknowledgement: a number of the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt(pub Option<String>);

/// Why a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later.
    #[error("{reason}")]
    Failed {
        /// What happened.
        reason: String,
        /// How long the channel asks to wait.
        wait: Option<Duration>,
    },
    /// It will not work, however often it is tried.
    #[error("refused: {reason}")]
    Refused {
        /// What happened.
        reason: String,
    },
}

impl SendError {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), wait: None }
    }
}

/// A way to tell somebody.
pub trait Notifier: Send + Sync {
    /// Sends one message and waits until it is acknowledged. The caller limits how long.
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Receipt, SendError>>;
}

/// The notifier of a channel; `path` is that of its settings.
pub(crate) fn build(path: &str, channel: &ChannelConfig) -> Result<Arc<dyn Notifier>, InvalidConfig> {
    // One TLS for the process; an error says that it is there already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    match (&channel.webhook, &channel.mqtt, &channel.email, &channel.ntfy) {
        (Some(config), None, None, None) => {
            Ok(Arc::new(webhook::Webhook::new(&format!("{path}.webhook"), config)?))
        }
        (None, Some(config), None, None) => Ok(Arc::new(mqtt::Mqtt::new(&format!("{path}.mqtt"), config)?)),
        (None, None, Some(config), None) => {
            Ok(Arc::new(email::Email::new(&format!("{path}.email"), config, channel.timeout.0)?))
        }
        (None, None, None, Some(config)) => Ok(Arc::new(ntfy::Ntfy::new(&format!("{path}.ntfy"), config)?)),
        _ => Err(invalid(path, "name one of webhook, mqtt, email, ntfy")),
    }
}

fn cut(text: &str, chars: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// RFC 3339 in UTC.
fn rfc3339(at: Timestamp) -> String {
    // Every i64 of nanoseconds is an instant of jiff.
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map(|at| at.to_string()).unwrap_or_default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn maybe_instant<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}
