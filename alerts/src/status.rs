//! What alerts did and what is wrong with them, for metrics and health.
//!
//! Trouble of a rule is logged when it begins and when it changes, not each round.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use wattlog_analytics::alert::{Ignored, Phase};
use wattlog_model::Timestamp;

/// Counters since the start, and present trouble.
#[derive(Debug, Default)]
pub struct Status {
    rounds: AtomicU64,
    failed_rounds: AtomicU64,
    samples: AtomicU64,
    ignored_samples: AtomicU64,
    events: AtomicU64,
    forgotten: AtomicU64,
    last_round: Mutex<Option<Timestamp>>,
    firing: Mutex<BTreeMap<i64, FiringRule>>,
    troubles: Mutex<BTreeMap<i64, RuleTrouble>>,
    channels: Mutex<BTreeMap<String, ChannelCounts>>,
}

/// A rule that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleTrouble {
    /// Its name.
    pub name: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A rule that fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FiringRule {
    /// Its name.
    pub name: String,
    /// Since when its condition holds.
    pub since: Timestamp,
}

/// What became of attempts by one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ChannelCounts {
    /// Acknowledged.
    pub delivered: u64,
    /// Failed, to be tried again.
    pub retried: u64,
    /// Given up.
    pub dead: u64,
}

/// A copy of all of it at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// Evaluations of all rules.
    pub rounds: u64,
    /// Of them, those that could not begin because the ledger did not answer.
    pub failed_rounds: u64,
    /// Values that were read.
    pub samples: u64,
    /// Values that were not taken: late, ahead of the clock, no numbers.
    pub ignored_samples: u64,
    /// Events that were stored.
    pub events: u64,
    /// Events that were old enough to be taken away.
    pub forgotten: u64,
    /// When the last evaluation of all rules ended.
    pub last_round: Option<Timestamp>,
    /// Rules that fire, by number.
    pub firing: BTreeMap<i64, FiringRule>,
    /// By number of the rule.
    pub troubles: BTreeMap<i64, RuleTrouble>,
    /// By name of the channel.
    pub channels: BTreeMap<String, ChannelCounts>,
}

impl Status {
    /// What it is now.
    pub fn report(&self) -> StatusReport {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatusReport {
            rounds: load(&self.rounds),
            failed_rounds: load(&self.failed_rounds),
            samples: load(&self.samples),
            ignored_samples: load(&self.ignored_samples),
            events: load(&self.events),
            forgotten: load(&self.forgotten),
            last_round: *self.last_round.lock(),
            firing: self.firing.lock().clone(),
            troubles: self.troubles.lock().clone(),
            channels: self.channels.lock().clone(),
        }
    }

    pub(crate) fn round(&self, has_failed: bool, now: Timestamp) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.failed_rounds.fetch_add(u64::from(has_failed), Ordering::Relaxed);
        if !has_failed {
            *self.last_round.lock() = Some(now);
        }
    }

    pub(crate) fn forgot(&self, events: u64) {
        self.forgotten.fetch_add(events, Ordering::Relaxed);
    }

    /// Where a rule stands after its evaluation.
    pub(crate) fn stands(&self, rule: i64, name: &str, phase: Phase) {
        let mut firing = self.firing.lock();
        match phase {
            Phase::Firing { episode } => {
                firing.insert(rule, FiringRule { name: name.to_owned(), since: episode });
            }
            Phase::Ok | Phase::Pending { .. } | Phase::Resolved { .. } => {
                firing.remove(&rule);
            }
        }
    }

    pub(crate) fn took(&self, samples: u64, ignored: &Ignored) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        let ignored = ignored.late + ignored.ahead + ignored.not_finite;
        self.ignored_samples.fetch_add(ignored, Ordering::Relaxed);
    }

    pub(crate) fn found(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn evaluated(&self, rule: i64) {
        if let Some(over) = self.troubles.lock().remove(&rule) {
            tracing::info!(rule = over.name, "the alert is evaluated again");
        }
    }

    pub(crate) fn trouble(&self, rule: i64, name: &str, reason: &str) {
        let now = RuleTrouble { name: name.to_owned(), reason: reason.to_owned() };
        let before = self.troubles.lock().insert(rule, now.clone());
        if before.as_ref() != Some(&now) {
            tracing::warn!(rule = name, reason, "the alert cannot be evaluated");
        }
    }

    /// Forgets rules that are gone.
    pub(crate) fn keep_rules(&self, rules: &BTreeSet<i64>) {
        self.troubles.lock().retain(|rule, _| rules.contains(rule));
        self.firing.lock().retain(|rule, _| rules.contains(rule));
    }

    pub(crate) fn delivered(&self, channel: &str) {
        self.count(channel, |counts| counts.delivered += 1);
    }

    pub(crate) fn retried(&self, channel: &str) {
        self.count(channel, |counts| counts.retried += 1);
    }

    pub(crate) fn dead(&self, channel: &str) {
        self.count(channel, |counts| counts.dead += 1);
    }

    /// Names come from rules too: beyond a number of them, all others have one line.
    fn count(&self, channel: &str, count: impl FnOnce(&mut ChannelCounts)) {
        const MAX_NAMES: usize = 100;
        let mut channels = self.channels.lock();
        let is_known = channels.contains_key(channel) || channels.len() < MAX_NAMES;
        let channel = if is_known { channel } else { "(others)" };
        count(channels.entry(channel.to_owned()).or_default());
    }
}
