//! What the server asks of whoever evaluates alerts and delivers messages. The root joins the two.

use wattlog_model::Timestamp;

/// How alerts are doing; counters are those since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertsStatus {
    /// Evaluations of all rules.
    pub evaluations: u64,
    /// Of them, those that could not begin because the ledger did not answer.
    pub failed_evaluations: u64,
    /// When the last evaluation ended well; none if never.
    pub last_evaluation: Option<Timestamp>,
    /// Values that were read.
    pub samples: u64,
    /// Values that were not taken.
    pub ignored_samples: u64,
    /// Events that were stored.
    pub events: u64,
    /// Events that were old enough to be taken away.
    pub forgotten_events: u64,
    /// Rules that fire.
    pub firing: Vec<FiringAlert>,
    /// Rules that cannot be evaluated.
    pub troubles: Vec<AlertTrouble>,
    /// By name of the channel.
    pub channels: Vec<AlertChannel>,
}

/// A rule that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringAlert {
    /// Its number.
    pub rule_id: i64,
    /// Its name.
    pub name: String,
    /// Since when its condition holds.
    pub since: Timestamp,
}

/// A rule that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertTrouble {
    /// Its number.
    pub rule_id: i64,
    /// Its name.
    pub name: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// What became of attempts by one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertChannel {
    /// Its name; a bounded number of them.
    pub name: String,
    /// Acknowledged.
    pub delivered: u64,
    /// Failed, to be tried again.
    pub retried: u64,
    /// Given up.
    pub dead: u64,
}

/// Gives the status of alerts; called once per request, must not block.
pub trait AlertsProvider: Send + Sync {
    /// None if alerts are switched off.
    fn status(&self) -> Option<AlertsStatus>;
    /// There is something to deliver.
    fn wake(&self);
}

/// For a server without alerts.
impl AlertsProvider for () {
    fn status(&self) -> Option<AlertsStatus> {
        None
    }

    fn wake(&self) {}
}
