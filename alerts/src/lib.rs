//! Alerts that run: rules of the ledger are evaluated against the store, what they find is kept, and people are told.
//!
//! ```text
//! rules, silences (ledger) --+
//! values (Readings)        --+-> evaluator -> [state, event, deliveries: one transaction] -> outbox -> channels
//! ```
//!
//! Promises
//! 1. Each event is kept once, under a key that is the same whenever it is found again (`evaluator`).
//! 2. Each of its deliveries reaches its channel at least once, or is dead and says why; after an acknowledgement that the
//!    ledger has it is never sent again (`outbox`).
//! 3. A channel that fails or hangs holds up neither another channel nor the evaluation.
//! 4. Secrets stand in no log, no error and no record.
//!
//! Time is an argument (`Clock`); the store is a trait ([`Readings`]). Not here: what a rule means (`analytics`), the tables
//! (`ledger`), the routes (`server`).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod backoff;
mod config;
mod definition;
mod evaluator;
mod forgetting;
mod memory;
mod message;
mod notifier;
mod outbox;
mod readings;
mod samples;
mod secret;
mod service;
mod status;

pub use config::{
    AlertsConfig, ChannelConfig, EmailConfig, InvalidConfig, MailTls, MqttConfig, NtfyConfig, PriceField,
    PricesConfig, RetryConfig, WebhookConfig,
};
pub use definition::{Definition, InvalidDefinition, QualityWindow};
pub use evaluator::MAX_RULES;
pub use notifier::{Notice, Receipt, SendError};
pub use readings::{BoxFuture, FieldOf, Readings, ReadingsError, StorageFigures};
pub use secret::Secret;
pub use service::{Alerts, AlertsHandle, TestError, send_test};
pub use status::{ChannelCounts, FiringRule, RuleTrouble, Status, StatusReport};
pub use wattlog_analytics::alert::{PriceFigure, Sample};
