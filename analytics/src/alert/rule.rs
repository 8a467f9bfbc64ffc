//! What an alert looks at and when it fires.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest time in a rule: 366 days.
pub const MAX_RULE_TIME_NS: i64 = 366 * 86_400 * 1_000_000_000;
/// A sample further ahead of `now` than this is not taken yet: five minutes.
pub const FUTURE_TOLERANCE_NS: i64 = 300 * 1_000_000_000;

/// A rule of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name for ever: 1 to 64 letters, digits, `-` or `_` of ASCII. A rule that changes its sense takes a new one.
    pub id: String,
    /// What the samples are.
    pub input: Input,
    /// When it is true.
    pub condition: Condition,
    /// It must be true for so long before the alert fires, in nanoseconds.
    #[serde(default)]
    pub hold_ns: i64,
    /// A value holds until the next sample, but no longer than this: after it, what is pending goes back to ok. What fires
    /// goes on until a sample says otherwise. Without it a value holds for ever. Of no meaning for absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after_ns: Option<i64>,
    /// How much it matters.
    #[serde(default)]
    pub severity: Severity,
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// To be looked at now.
    Critical,
}

/// What the samples of a rule are. Whoever evaluates a rule reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Input {
    /// A field of a series.
    Field {
        /// Measurement.
        measurement: String,
        /// Tags that the series has.
        #[serde(default)]
        tags: BTreeMap<String, String>,
        /// Field.
        field: String,
    },
    /// A figure of the quality of a field ([`crate::quality::assess`]); shares of 0 to 1.
    Quality {
        /// Measurement.
        measurement: String,
        /// Tags that the series has.
        #[serde(default)]
        tags: BTreeMap<String, String>,
        /// Field.
        field: String,
        /// Which figure.
        figure: QualityFigure,
    },
    /// A figure of the disk of the store.
    Storage {
        /// Which figure.
        figure: StorageFigure,
    },
    /// A price, PLN/kWh.
    Price {
        /// Which price.
        figure: PriceFigure,
    },
}

/// Figures of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityFigure {
    /// Points there are over points expected.
    Completeness,
    /// Points without a fault over points.
    Accuracy,
    /// Completeness x accuracy.
    Score,
}

/// Figures of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageFigure {
    /// Free on the disk, in bytes.
    FreeBytes,
    /// Free on the disk, 0 to 1.
    FreeShare,
    /// Taken by the store, in bytes.
    StoreBytes,
}

/// Prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceFigure {
    /// Market price and distribution: what a kWh from the grid costs.
    Total,
    /// Market price alone.
    Market,
    /// What a kWh to the grid earns.
    Export,
}

/// When a rule is true. `fire` makes it true, and it stays so until `clear` is passed (hysteresis).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// From `fire` up, until below `clear`; `clear <= fire`.
    Above {
        /// True at or above.
        fire: f64,
        /// False below.
        clear: f64,
    },
    /// From `fire` down, until above `clear`; `clear >= fire`.
    Below {
        /// True at or below.
        fire: f64,
        /// False above.
        clear: f64,
    },
    /// No sample for longer than this; the next sample ends it.
    Absent {
        /// In nanoseconds.
        longer_than_ns: i64,
    },
    /// As `above`, of the rise per hour over the last `over_ns`.
    Rising {
        /// True at or above, per hour.
        fire: f64,
        /// False below, per hour.
        clear: f64,
        /// Time over which the change is taken, in nanoseconds.
        over_ns: i64,
    },
    /// As `rising`, of the fall per hour (a fall is positive here).
    Falling {
        /// True at or above, per hour.
        fire: f64,
        /// False below, per hour.
        clear: f64,
        /// Time over which the change is taken, in nanoseconds.
        over_ns: i64,
    },
}

/// A rule without sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("alert {id:?}: {problem}")]
pub struct InvalidRule {
    /// Its id, shortened.
    pub id: String,
    /// What is wrong, and what to do.
    pub problem: &'static str,
}

impl Rule {
    /// Checks it.
    ///
    /// # Errors
    /// [`InvalidRule`] says what is wrong.
    pub fn check(&self) -> Result<(), InvalidRule> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = (1..=64).contains(&self.id.len()) && self.id.bytes().all(allowed);
        let time = |ns: i64| (1..=MAX_RULE_TIME_NS).contains(&ns);
        let level = |fire: f64, clear: f64| fire.is_finite() && clear.is_finite() && clear <= fire;
        let has_levels = match self.condition {
            Condition::Above { fire, clear }
            | Condition::Rising { fire, clear, .. }
            | Condition::Falling { fire, clear, .. } => level(fire, clear),
            Condition::Below { fire, clear } => level(-fire, -clear),
            Condition::Absent { .. } => true,
        };
        let has_times = match self.condition {
            Condition::Absent { longer_than_ns: ns } => time(ns),
            Condition::Rising { over_ns: ns, .. } | Condition::Falling { over_ns: ns, .. } => time(ns),
            Condition::Above { .. } | Condition::Below { .. } => true,
        };
        let share =
            matches!(self.input, Input::Quality { .. } | Input::Storage { figure: StorageFigure::FreeShare });
        let in_share = match self.condition {
            Condition::Above { fire, .. } | Condition::Below { fire, .. } if share => {
                (0.0..=1.0).contains(&fire)
            }
            _ => true,
        };
        let problem = if !is_name {
            "the id must have 1 to 64 letters, digits, - or _"
        } else if !has_levels {
            "`clear` must be a number on the quiet side of `fire`, or equal to it"
        } else if !has_times {
            "its times must be more than 0 and at most 366 days"
        } else if !(0..=MAX_RULE_TIME_NS).contains(&self.hold_ns) {
            "hold_ns must be at least 0 and at most 366 days"
        } else if self.stale_after_ns.is_some_and(|ns| !time(ns)) {
            "stale_after_ns must be more than 0 and at most 366 days"
        } else if !in_share {
            "a share lies between 0 and 1, so this would never, or always, fire"
        } else {
            return Ok(());
        };
        Err(InvalidRule { id: self.id.chars().take(64).collect(), problem })
    }
}
