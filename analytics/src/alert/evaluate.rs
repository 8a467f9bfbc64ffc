//! One step of a rule: from the old state over samples and time to the new one.

use super::{
    Condition, Evaluation, FUTURE_TOLERANCE_NS, Ignored, InvalidRule, Phase, PhaseName, Rule, Sample, State,
    Transition,
};
use wattlog_model::Timestamp;

/// Parts into which the time of a change is divided; one sample of each is remembered.
const SLOTS: i64 = 128;

/// Takes the samples since the last question, in order of time, and lets time pass until `now`.
///
/// # Errors
/// [`InvalidRule`] if the rule has no sense; the state is not touched.
pub fn evaluate(
    rule: &Rule,
    state: State,
    samples: &[Sample],
    now: Timestamp,
) -> Result<Evaluation, InvalidRule> {
    rule.check()?;
    let mut run = Run { rule, state, transitions: Vec::new() };
    // A clock that was ahead when the rule began must not put absence off until it is there again.
    run.state.begun = Some(run.state.begun.map_or(now, |begun| begun.min(now)));
    let mut ignored = Ignored::default();
    for sample in samples {
        if !sample.value.is_finite() {
            ignored.not_finite += 1;
        } else if run.state.last.is_some_and(|last| sample.time <= last.time) {
            ignored.late += 1;
        } else if sample.time.0.saturating_sub(now.0) > FUTURE_TOLERANCE_NS {
            ignored.ahead += 1;
        } else {
            // What was due at the very instant of the sample is decided with it, not before it.
            run.elapse(Timestamp(sample.time.0.saturating_sub(1)));
            run.take(*sample);
        }
    }
    run.elapse(now);
    Ok(Evaluation { state: run.state, transitions: run.transitions, ignored })
}

/// When something becomes due if no sample comes; none if nothing does.
pub fn due(rule: &Rule, state: &State) -> Option<Timestamp> {
    next_due(rule, state).map(|(time, _)| time)
}

/// What becomes due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Due {
    /// Absence has lasted too long.
    Absent,
    /// What is pending has held for long enough.
    Matured,
    /// The value is too old to be held.
    Stale,
}

/// A rule at work on its state.
#[derive(Debug)]
struct Run<'r> {
    rule: &'r Rule,
    state: State,
    transitions: Vec<Transition>,
}

impl Run<'_> {
    /// Lets time pass until `until`, inclusive, without a sample.
    fn elapse(&mut self, until: Timestamp) {
        // Absence becomes due, then it matures: two steps at most.
        while let Some((time, what)) = next_due(self.rule, &self.state).filter(|(time, _)| *time <= until) {
            match (what, self.state.phase) {
                (Due::Absent, _) => self.becomes_true(time),
                (Due::Matured, Phase::Pending { episode }) => self.enter(Phase::Firing { episode }, time),
                // Only what is pending matures or gets stale.
                (Due::Stale | Due::Matured, _) => self.enter(Phase::Ok, time),
            }
        }
    }

    /// Takes a sample that is later than all before it.
    fn take(&mut self, sample: Sample) {
        let is_active = matches!(self.state.phase, Phase::Pending { .. } | Phase::Firing { .. });
        if let Condition::Rising { over_ns, .. } | Condition::Falling { over_ns, .. } = self.rule.condition {
            self.remember(sample, over_ns);
        }
        self.state.last = Some(sample);
        let level = self.level(sample);
        let is_true = match (self.rule.condition, level) {
            (Condition::Absent { .. }, _) => Some(false),
            (_, None) => None,
            (Condition::Below { fire, clear }, Some(level)) => {
                Some(level <= if is_active { clear } else { fire })
            }
            (
                Condition::Above { fire, clear }
                | Condition::Rising { fire, clear, .. }
                | Condition::Falling { fire, clear, .. },
                Some(level),
            ) => Some(level >= if is_active { clear } else { fire }),
        };
        self.state.judged = level.or(self.state.judged);
        match (is_true, self.state.phase) {
            (Some(true), Phase::Ok | Phase::Resolved { .. }) => self.becomes_true(sample.time),
            (Some(false), Phase::Pending { .. }) => self.enter(Phase::Ok, sample.time),
            (Some(false), Phase::Firing { episode }) => self.enter(Phase::Resolved { episode }, sample.time),
            _ => {}
        }
    }

    fn becomes_true(&mut self, episode: Timestamp) {
        let phase =
            if self.rule.hold_ns > 0 { Phase::Pending { episode } } else { Phase::Firing { episode } };
        self.enter(phase, episode);
    }

    fn enter(&mut self, phase: Phase, time: Timestamp) {
        let before = std::mem::replace(&mut self.state.phase, phase);
        let (to, episode) = match (phase, before) {
            (Phase::Pending { episode }, _) => (PhaseName::Pending, episode),
            (Phase::Firing { episode }, _) => (PhaseName::Firing, episode),
            (Phase::Resolved { episode }, _) => (PhaseName::Resolved, episode),
            (
                Phase::Ok,
                Phase::Pending { episode } | Phase::Firing { episode } | Phase::Resolved { episode },
            ) => (PhaseName::Ok, episode),
            (Phase::Ok, Phase::Ok) => return,
        };
        let rule = self.rule.id.clone();
        self.transitions.push(Transition { rule, episode, to, time, value: self.state.judged });
    }

    /// Keeps the first sample of each part of the time, and none that is too old. Parts are cut on the clock, so what is
    /// kept does not depend on when the rule was asked.
    fn remember(&mut self, sample: Sample, over_ns: i64) {
        let recent = &mut self.state.recent;
        let oldest = sample.time.0.saturating_sub(over_ns);
        while recent.front().is_some_and(|first| first.time.0 < oldest) {
            recent.pop_front();
        }
        let part = |time: Timestamp| time.0.div_euclid((over_ns / SLOTS).max(1));
        if recent.back().is_none_or(|last| part(last.time) < part(sample.time)) {
            recent.push_back(sample);
        }
    }

    /// What the condition judges: the value, or its change per hour; none if that is not known.
    fn level(&self, sample: Sample) -> Option<f64> {
        let (over_ns, sign) = match self.rule.condition {
            Condition::Above { .. } | Condition::Below { .. } | Condition::Absent { .. } => {
                return Some(sample.value);
            }
            Condition::Rising { over_ns, .. } => (over_ns, 1.0),
            Condition::Falling { over_ns, .. } => (over_ns, -1.0),
        };
        let first = self.state.recent.front()?;
        let run_ns = sample.time.0.saturating_sub(first.time.0);
        // Over less than half of the time a change says little.
        let is_long = run_ns > 0 && run_ns >= over_ns / 2;
        let per_hour = sign * (sample.value - first.value) / (run_ns as f64 / 3.6e12);
        (is_long && per_hour.is_finite()).then_some(per_hour)
    }
}

/// The first thing that becomes due if no sample comes.
fn next_due(rule: &Rule, state: &State) -> Option<(Timestamp, Due)> {
    let after = |time: Timestamp, ns: i64| Timestamp(time.0.saturating_add(ns));
    match (rule.condition, state.phase) {
        (Condition::Absent { longer_than_ns }, Phase::Ok | Phase::Resolved { .. }) => {
            let since = state.last.map(|last| last.time).or(state.begun)?;
            // Longer than that: the instant at which it is reached is the last one at which a sample would be in time.
            Some((after(since, longer_than_ns), Due::Absent))
        }
        (condition, Phase::Pending { episode }) => {
            let matured = after(episode, rule.hold_ns);
            let is_absence = matches!(condition, Condition::Absent { .. });
            let stale = state.last.zip(rule.stale_after_ns).map(|(last, ns)| after(last.time, ns));
            match stale.filter(|stale| !is_absence && *stale < matured) {
                Some(stale) => Some((stale, Due::Stale)),
                None => Some((matured, Due::Matured)),
            }
        }
        _ => None,
    }
}
