//! What a record of `alert_rules` says in its `definition`, and the rule of the analytics that it becomes.
//!
//! ```json
//! {"input": {"field": {"measurement": "energy_data", "tags": {"device_id": "roof"}, "field": "battery_soc"}},
//!  "condition": {"below": {"fire": 10, "clear": 15}}, "hold_ns": 300000000000}
//! ```
//!
//! Name and severity are those of the record; the id is the number of the record and its generation, which rises whenever the
//! evaluation begins anew, so that no episode of a rule has the key of an earlier one.

use serde::{Deserialize, Serialize};
use wattlog_analytics::alert::{
    Condition, Input, MAX_RULE_TIME_NS, QualityFigure, Rule, Severity as RuleSeverity,
};
use wattlog_analytics::quality::Limits;
use wattlog_ledger::schema::Severity;

/// The condition of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What is looked at.
    pub input: Input,
    /// When it is true.
    pub condition: Condition,
    /// For how long it must be true, in nanoseconds.
    #[serde(default)]
    pub hold_ns: i64,
    /// How long a value holds without a next one, in nanoseconds; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after_ns: Option<i64>,
    /// How quality is measured; for that input, and only for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityWindow>,
}

/// Over which time quality is measured, and against what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityWindow {
    /// Length of time that each figure is about, in nanoseconds; 1 minute to 7 days, at most [`QualityWindow::MAX_POINTS`] points.
    pub window_ns: i64,
    /// A point is expected so often, in nanoseconds.
    pub interval_ns: i64,
    /// A figure is made so often, in nanoseconds; at least a minute.
    #[serde(default = "five_minutes")]
    pub every_ns: i64,
    /// Values outside are faults; needed for `accuracy` and `score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

impl QualityWindow {
    /// Most points that a window is expected to have.
    pub const MAX_POINTS: i64 = 100_000;
}

fn five_minutes() -> i64 {
    5 * MINUTE_NS
}

/// A definition without sense: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("definition: {problem}")]
pub struct InvalidDefinition {
    problem: String,
}

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(definition: &serde_json::Value) -> Result<Self, InvalidDefinition> {
        let wrong = |problem: String| InvalidDefinition { problem };
        let read: Self =
            serde_json::from_value(definition.clone()).map_err(|error| wrong(error.to_string()))?;
        read.rule(1, 1, Severity::Warning).check().map_err(|error| wrong(error.problem.to_owned()))?;
        read.check().map_err(|problem| wrong(problem.to_owned()))?;
        Ok(read)
    }

    fn check(&self) -> Result<(), &'static str> {
        let named = |text: &str| !text.is_empty() && text.len() <= wattlog_model::MAX_KEY_LEN_BYTES;
        if let Input::Field { measurement, field, .. } | Input::Quality { measurement, field, .. } =
            &self.input
            && !(named(measurement) && named(field))
        {
            return Err("measurement and field must be named");
        }
        let is_field = matches!(self.input, Input::Field { .. });
        if matches!(self.condition, Condition::Absent { .. }) && !is_field {
            return Err("absence is a condition of fields alone");
        }
        match (&self.input, self.quality) {
            (Input::Quality { figure, .. }, Some(window)) => window.check(*figure),
            (Input::Quality { .. }, None) => {
                Err("a rule about quality needs `quality` with window_ns and interval_ns")
            }
            (_, Some(_)) => Err("`quality` belongs to rules about quality alone"),
            (_, None) => Ok(()),
        }
    }

    /// The rule for the analytics.
    pub(crate) fn rule(&self, number: i64, generation: i64, severity: Severity) -> Rule {
        Rule {
            id: format!("{number}-{generation}"),
            input: self.input.clone(),
            condition: self.condition,
            hold_ns: self.hold_ns,
            stale_after_ns: self.stale_after_ns,
            severity: match severity {
                Severity::Info => RuleSeverity::Info,
                Severity::Warning => RuleSeverity::Warning,
                Severity::Critical => RuleSeverity::Critical,
            },
        }
    }

    /// How far back a rule that knows nothing yet has to look, for its first judgement to be right.
    pub(crate) fn first_look_ns(&self) -> Option<i64> {
        match self.condition {
            Condition::Rising { over_ns, .. } | Condition::Falling { over_ns, .. } => Some(over_ns),
            _ => None,
        }
    }
}

impl QualityWindow {
    fn check(&self, figure: QualityFigure) -> Result<(), &'static str> {
        if !(MINUTE_NS..=7 * 1440 * MINUTE_NS).contains(&self.window_ns) {
            return Err("quality.window_ns must be 1 minute to 7 days");
        }
        if self.interval_ns < 1 || self.window_ns / self.interval_ns > Self::MAX_POINTS {
            return Err("quality.interval_ns must be more than 0, and a window have at most 100000 points");
        }
        if !(MINUTE_NS..=MAX_RULE_TIME_NS).contains(&self.every_ns) {
            return Err("quality.every_ns must be at least a minute");
        }
        match self.limits {
            Some(limits) if limits.low > limits.high => Err("quality.limits: `low` must not be above `high`"),
            None if figure != QualityFigure::Completeness => {
                Err("accuracy and score need quality.limits: without a check no point is faulty")
            }
            _ => Ok(()),
        }
    }
}

const MINUTE_NS: i64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_is_read_and_one_without_sense_is_refused_with_what_to_do() {
        let soc = json!({"field": {"measurement": "energy_data", "field": "battery_soc"}});
        let below = json!({"below": {"fire": 10, "clear": 15}});
        let quality = |figure: &str| json!({"quality": {"measurement": "m", "field": "f", "figure": figure}});
        let window = json!({"window_ns": 3_600_000_000_000_i64, "interval_ns": 10_000_000_000_i64});
        let read = Definition::read(&json!({"input": soc, "condition": below, "hold_ns": 5})).unwrap();
        assert_eq!(read.rule(7, 2, Severity::Critical).id, "7-2");
        let low = json!({"below": {"fire": 0.5, "clear": 0.9}});
        Definition::read(&json!({"input": quality("completeness"), "condition": low, "quality": window}))
            .unwrap();
        for (wrong, says) in [
            (json!({}), "input"),
            (json!({"input": soc, "condition": below, "hold": 5}), "hold"),
            (json!({"input": soc, "condition": {"below": {"fire": 10, "clear": 5}}}), "quiet side"),
            (
                json!({"input": {"field": {"measurement": "", "field": "x"}}, "condition": below}),
                "must be named",
            ),
            (json!({"input": soc, "condition": below, "quality": window}), "alone"),
            (json!({"input": quality("completeness"), "condition": low}), "needs `quality`"),
            (json!({"input": quality("score"), "condition": low, "quality": window}), "quality.limits"),
            (
                json!({"input": quality("completeness"), "condition": low, "quality": {"window_ns": 3_600_000_000_000_i64, "interval_ns": 1}}),
                "100000 points",
            ),
            (
                json!({"input": {"price": {"figure": "total"}}, "condition": {"absent": {"longer_than_ns": 5}}}),
                "fields alone",
            ),
        ] {
            let error = Definition::read(&wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
