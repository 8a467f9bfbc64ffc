//! Alerts: a rule, what it knew before, and the samples since give what it knows now and what happened.
//!
//! [`evaluate`] is a pure function: no clock, no timer. It may be asked as often or as seldom as one likes; what becomes
//! due between two samples (something held long enough, something absent for too long) happens at the instant at which it
//! was due, not when the question came. [`due`] tells when the next question is worth while.
//!
//! Phases: ok -> pending (true, but not for long enough yet) -> firing -> resolved -> pending ...; a pending one that is
//! no longer true goes back to ok. A rule without a time to hold goes to firing at once.
//!
//! Invariants
//! 1. Samples rise: one that is not later than the last one taken is ignored and counted. So the same samples again give
//!    no second transition.
//! 2. How samples are cut into calls changes nothing, if each call has all samples up to its `now`.
//! 3. A transition has a key (rule, start of its episode, phase) that is the same whenever it is calculated again: who
//!    keeps transitions by key keeps each once, also if the state of before a restart is asked again.
//! 4. A `now` that goes back makes nothing due and undoes nothing.
//!
//! Not here: sending (the server), reading samples (queries), remembering states and transitions (the ledger).

mod evaluate;
mod rule;
mod state;

pub use evaluate::{due, evaluate};
pub use rule::{
    Condition, FUTURE_TOLERANCE_NS, Input, InvalidRule, MAX_RULE_TIME_NS, PriceFigure, QualityFigure, Rule,
    Severity, StorageFigure,
};
pub use state::{Evaluation, Ignored, Phase, PhaseName, Sample, State, Transition};

#[cfg(test)]
mod tests;
