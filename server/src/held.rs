//! Since when and until when points are held, of each measurement.
//!
//! Promise: each measurement is asked once, at most [`MAX_MEASUREMENTS`] and none after the deadline: each may open a file. What was
//! not asked, or cannot be read, makes the whole unknown, with the reason, and never younger than it is.

use std::time::Instant;
use wattlog_engine::{Engine, RetentionInfo, Rule};
use wattlog_model::Timestamp;

/// Most measurements of a store that are asked for their times.
const MAX_MEASUREMENTS: usize = 10_000;

/// Times of the oldest and the newest point; none where there are no points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) newest: Option<Timestamp>,
}

/// Times of one measurement.
#[derive(Debug, Clone)]
struct Measurement {
    database: String,
    name: String,
    times: Times,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    measurements: Vec<Measurement>,
    /// Why it is not all.
    missing: Option<String>,
}

impl Held {
    /// Asks all measurements until the deadline; the one that is being asked then is waited for.
    pub(crate) fn until(engine: &Engine, deadline: Instant) -> Self {
        let mut held = Self::default();
        for database in engine.databases() {
            for name in engine.measurements(&database.name).unwrap_or_default() {
                if held.measurements.len() >= MAX_MEASUREMENTS {
                    return held.without(format!("there are more than {MAX_MEASUREMENTS} measurements"));
                }
                if Instant::now() >= deadline {
                    let asked = held.measurements.len();
                    return held
                        .without(format!("the store is busy: {asked} measurements were asked in the time"));
                }
                match engine.measurement(&database.name, &name) {
                    Ok(info) => {
                        let times = info
                            .map_or(Times::default(), |info| Times { oldest: info.first, newest: info.last });
                        held.measurements.push(Measurement { database: database.name.clone(), name, times });
                    }
                    Err(error) => held.missing = Some(format!("measurement {name}: {error}")),
                }
            }
        }
        held
    }

    fn without(self, missing: String) -> Self {
        Self { missing: Some(missing), ..self }
    }

    /// Why it is not all.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Of all databases; the error says why they are not known.
    pub(crate) fn all(&self) -> Result<Times, String> {
        self.over(|_| true)
    }

    /// Of the points that a rule of retention keeps: of its measurement, or of those of its database that have no rule of their own.
    pub(crate) fn under(&self, rule: &RetentionInfo, rules: &[RetentionInfo]) -> Result<Times, String> {
        if let Some(name) = &rule.measurement {
            let is_it = |one: &&Measurement| one.database == rule.database && one.name == *name;
            return match self.measurements.iter().find(is_it) {
                Some(known) => Ok(known.times),
                None => self.over(|_| false),
            };
        }
        let is_beside = |other: &&RetentionInfo| {
            other.database == rule.database && other.policy == rule.policy && other.rule != Rule::Inherited
        };
        let own: Vec<&String> =
            rules.iter().filter(is_beside).filter_map(|other| other.measurement.as_ref()).collect();
        self.over(|one| one.database == rule.database && !own.contains(&&one.name))
    }

    fn over(&self, counts: impl Fn(&Measurement) -> bool) -> Result<Times, String> {
        if let Some(missing) = &self.missing {
            return Err(missing.clone());
        }
        let times = || self.measurements.iter().filter(|one| counts(one)).map(|one| one.times);
        let oldest = times().filter_map(|times| times.oldest).min();
        Ok(Times { oldest, newest: times().filter_map(|times| times.newest).max() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use wattlog_engine::io::sim::SimDisk;
    use wattlog_engine::{Options, WriteBatch};
    use wattlog_model::{FieldValue, ManualClock, TagSet};

    #[test]
    fn nothing_is_asked_after_the_deadline_and_that_is_said() {
        let clock = Arc::new(ManualClock::new(Timestamp(1000)));
        let engine = Engine::open(Arc::new(SimDisk::new(1)), Options::default(), clock, [1; 16]).unwrap();
        let mut batch = WriteBatch::new("home", None);
        for (row, (name, ns)) in [("a", 30), ("b", 10), ("b", 40)].into_iter().enumerate() {
            let slot = batch.series(name, &TagSet::default());
            batch.row(slot, Timestamp(ns), row as u32).value("v", &FieldValue::Float(1.0));
        }
        engine.write(batch).unwrap();
        let held = Held::until(&engine, Instant::now() + Duration::from_secs(600));
        let all = Times { oldest: Some(Timestamp(10)), newest: Some(Timestamp(40)) };
        assert_eq!((held.all(), held.missing()), (Ok(all), None));
        let held = Held::until(&engine, Instant::now());
        let reason = "the store is busy: 0 measurements were asked in the time";
        assert_eq!((held.all(), held.missing()), (Err(reason.to_owned()), Some(reason)));
    }

    #[test]
    fn what_was_not_asked_leaves_no_time_for_all_but_those_that_are_known() {
        let times = |ns| Times { oldest: Some(Timestamp(ns)), newest: Some(Timestamp(ns + 5)) };
        let one = |name: &str, ns| Measurement {
            database: "home".to_owned(),
            name: name.to_owned(),
            times: times(ns),
        };
        let rule = |measurement: Option<&str>, rule| RetentionInfo {
            database: "home".to_owned(),
            policy: "autogen".to_owned(),
            measurement: measurement.map(str::to_owned),
            rule,
            cutoff: None,
        };
        let rules = [
            rule(None, Rule::Keep { ns: 9 }),
            rule(Some("a"), Rule::Forever),
            rule(Some("b"), Rule::Inherited),
        ];
        let held = Held { measurements: vec![one("a", 10), one("b", 20), one("c", 30)], missing: None };
        assert_eq!(held.all().map(|times| times.oldest), Ok(Some(Timestamp(10))));
        let of_database = Times { oldest: Some(Timestamp(20)), newest: Some(Timestamp(35)) };
        assert_eq!(held.under(&rules[0], &rules), Ok(of_database), "a has a rule of its own");
        assert_eq!(held.under(&rules[1], &rules), Ok(times(10)));
        let held = held.without("busy".to_owned());
        assert_eq!((held.all(), held.under(&rules[0], &rules)), (Err("busy".into()), Err("busy".into())));
        assert_eq!(held.under(&rules[1], &rules), Ok(times(10)), "it was asked before");
        assert_eq!(held.under(&rule(Some("d"), Rule::Forever), &rules), Err("busy".into()));
    }
}
