//! What a rule remembers from one evaluation to the next, and what it tells.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use wattlog_model::Timestamp;

/// One value of what a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When it was true.
    pub time: Timestamp,
    /// The value, in the unit of the input.
    pub value: f64,
}

/// Where a rule stands. An episode is named by the instant at which the rule became true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not true.
    #[default]
    Ok,
    /// True, but not for long enough.
    Pending {
        /// Start of the episode.
        episode: Timestamp,
    },
    /// True for long enough.
    Firing {
        /// Start of the episode.
        episode: Timestamp,
    },
    /// Not true any more.
    Resolved {
        /// Start of the episode that ended.
        episode: Timestamp,
    },
}

/// A phase without its episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// See [`Phase::Ok`].
    Ok,
    /// See [`Phase::Pending`].
    Pending,
    /// See [`Phase::Firing`].
    Firing,
    /// See [`Phase::Resolved`].
    Resolved,
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        })
    }
}

/// All that a rule remembers. At most some 130 samples, and only for rules about a rise or fall.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// The last sample taken: the next question needs those after it.
    pub last: Option<Sample>,
    /// What was judged last: the level, or the change per hour.
    pub(super) judged: Option<f64>,
    /// Since when it has been asked; for absence where no sample ever came.
    pub(super) begun: Option<Timestamp>,
    /// Samples of the time over which a change is taken.
    #[serde(default)]
    pub(super) recent: VecDeque<Sample>,
}

/// A change of phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// Id of the rule.
    pub rule: String,
    /// Start of the episode.
    pub episode: Timestamp,
    /// The new phase.
    pub to: PhaseName,
    /// When it happened: the time of a sample, or the instant at which something became due.
    pub time: Timestamp,
    /// The value that the rule judged last, if there is one: the level, or the change per hour.
    pub value: Option<f64>,
}

impl Transition {
    /// The same text whenever this transition is calculated again: `rule/episode/phase`.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.rule, self.episode.0, self.to)
    }
}

/// Samples that were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ignored {
    /// Not later than the last one taken.
    pub late: u64,
    /// More than five minutes ahead of `now`; they are taken once they are not.
    pub ahead: u64,
    /// No finite number.
    pub not_finite: u64,
}

/// What an evaluation gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The state to remember.
    pub state: State,
    /// What happened, in order of time.
    pub transitions: Vec<Transition>,
    /// What was not taken.
    pub ignored: Ignored,
}
