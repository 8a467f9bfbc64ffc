//! When a feed is due and what it asks for: pure, time is an argument.
//!
//! Prices come by local days: tomorrow's is polled from its hour of publication until it is whole, a day that is not
//! whole is asked for again ever less often, and the last days are looked at again for republished values. Rates and
//! weather come at a steady pace, from the last day that was heard on.
//!
//! Invariants
//! 1. A day that is not whole is asked for again as long as it is within the backfill; one that is over is whole when it
//!    has what comes last.
//! 2. After `tries` failures in a row a feed rests, at last for an hour; between them it waits at random, up to twice as
//!    long each time.
//! 3. A clock that is set back delays nothing: what was to wait for a later hour is due at once.
//! 4. A day whose answer cannot be used costs itself alone: it is asked for without the days beside it, and put off.

use super::day;
use super::rows::MINUTE_NS;
use crate::seed::Rng;
use jiff::ToSpan;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::time::Duration;
use wattlog_model::Timestamp;

/// How often a service has something new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rhythm {
    /// A local day at once, on the day before from this local time on.
    Days { opens: Time },
    /// Every so often; an answer goes back `overlap` days from today, a request covers at most `span` days. The first
    /// one begins `lead` days before the first wanted day.
    Steady { interval: Duration, lead: i32, overlap: i32, span: i32 },
}

/// Local days to ask for, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) first: Date,
    pub(crate) last: Date,
}

/// How much of a row or a day is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fill {
    /// Something is missing that should be there in time.
    Open,
    /// Nothing is missing but what comes a day or more after the day is over.
    InTime,
    /// Nothing is still to come.
    All,
}

/// Limits of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) zone: TimeZone,
    pub(crate) backfill_days: i32,
    pub(crate) recheck_days: i32,
    pub(crate) tries: u32,
    pub(crate) rest: Duration,
}

#[derive(Debug)]
pub(crate) struct Agenda {
    rhythm: Rhythm,
    terms: Terms,
    days: BTreeMap<Date, Day>,
    /// Steady: the first day that is still to be heard, and when the next look is due.
    from: Option<Date>,
    steady_due_ns: i64,
    failures: u32,
    not_before_ns: i64,
    last_now_ns: i64,
    rng: Rng,
}

#[derive(Debug, Clone, Copy)]
struct Day {
    fill: Fill,
    looks: u32,
    /// Answers in a row that could not be used; asked for alone.
    unusable: u32,
    /// Looks since it was over.
    late_looks: u32,
    due_ns: i64,
}

impl Agenda {
    pub(crate) fn new(rhythm: Rhythm, terms: Terms, seed: u64) -> Self {
        Self {
            rhythm,
            terms,
            days: BTreeMap::new(),
            from: None,
            steady_due_ns: i64::MIN,
            failures: 0,
            not_before_ns: i64::MIN,
            last_now_ns: i64::MIN,
            rng: Rng::new(seed),
        }
    }

    /// Days that may be asked for at `now`, both included.
    pub(crate) fn wanted(&self, now: Timestamp) -> Ask {
        let local = day::local(now, &self.terms.zone);
        let today = local.date();
        let back = self.terms.backfill_days.max(self.terms.recheck_days);
        let last = match self.rhythm {
            Rhythm::Days { opens } if local.time() >= opens => today.tomorrow().unwrap_or(today),
            _ => today,
        };
        Ask { first: minus(today, back), last }
    }

    /// Takes over which days the store has.
    pub(crate) fn learn(&mut self, now: Timestamp, is_whole: impl Fn(Date) -> bool) {
        self.roll(now);
        let recheck_from = minus(day::local(now, &self.terms.zone).date(), self.terms.recheck_days);
        for (date, day) in &mut self.days {
            day.fill = if is_whole(*date) { Fill::All } else { Fill::Open };
            if day.fill == Fill::All && *date < recheck_from {
                day.due_ns = i64::MAX;
            }
        }
    }

    /// Steady: takes over the first day that the store does not have.
    pub(crate) fn learn_from(&mut self, first: Date) {
        self.from = Some(first);
    }

    /// What is to be asked now, if anything.
    pub(crate) fn ask(&mut self, now: Timestamp) -> Option<Ask> {
        self.roll(now);
        if now.0 < self.not_before_ns {
            return None;
        }
        let wanted = self.wanted(now);
        if let Rhythm::Steady { lead, overlap, span, .. } = self.rhythm {
            if now.0 < self.steady_due_ns {
                return None;
            }
            let (earliest, usual) = (minus(wanted.first, lead), minus(wanted.last, overlap));
            let first = self.from.unwrap_or(earliest).clamp(earliest.min(usual), usual);
            let last = wanted.last.min(minus(first, 1 - span));
            return Some(Ask { first, last });
        }
        let is_due = |date: Date| self.days.get(&date).filter(|day| day.due_ns <= now.0);
        let last = *self.days.iter().rev().find(|(_, day)| day.due_ns <= now.0)?.0;
        let mut first = last;
        let is_fresh = |day: &Day| day.looks == 0 && day.unusable == 0;
        if is_due(last).is_some_and(is_fresh) {
            // Days that were never asked for go together; one that did not come whole goes alone.
            while let Ok(before) = first.yesterday()
                && is_due(before).is_some_and(is_fresh)
                && before >= minus(last, MAX_DAYS_AT_ONCE - 1)
            {
                first = before;
            }
        }
        Some(Ask { first, last })
    }

    /// An answer came; `fill` tells of each day asked for. What a day once had it keeps.
    pub(crate) fn heard(&mut self, ask: Ask, now: Timestamp, fill: impl Fn(Date) -> Fill) {
        self.failures = 0;
        self.not_before_ns = i64::MIN;
        let local = day::local(now, &self.terms.zone);
        let today = local.date();
        if let Rhythm::Steady { interval, overlap, .. } = self.rhythm {
            let usual = minus(today, overlap);
            let is_caught_up = ask.last >= today;
            self.from = Some(if is_caught_up { usual } else { ask.last.tomorrow().unwrap_or(usual) });
            let jitter = (self.rng.unit() * JITTER_NS) as i64;
            let next_ns = now.0.saturating_add(nanos(interval)).saturating_add(jitter);
            self.steady_due_ns = if is_caught_up { next_ns } else { now.0 };
            return;
        }
        let rest_ns = nanos(self.terms.rest);
        let dates: Vec<Date> = self.days.range(ask.first..=ask.last).map(|(date, _)| *date).collect();
        for date in dates {
            let jitter = (self.rng.unit() * JITTER_NS) as i64;
            let Some(day) = self.days.get_mut(&date) else { continue };
            day.looks = day.looks.saturating_add(1);
            day.unusable = 0;
            day.fill = day.fill.max(fill(date));
            let is_whole = day.fill >= if date < today { Fill::All } else { Fill::InTime };
            let wait_ns = match () {
                // Also after an outage there is one look when everything about the day should have been said.
                () if is_whole && date < minus(today, self.terms.recheck_days) => i64::MAX,
                () if is_whole => RECHECK_NS,
                () if date > today && local.time() < EVENING => POLL_NS,
                () if date > today => rest_ns,
                () if date == today => rest_ns.min(60 * MINUTE_NS),
                () => {
                    day.late_looks = day.late_looks.saturating_add(1);
                    rest_ns.saturating_mul(1 << day.late_looks.min(10)).min(Timestamp::DAY_NS)
                }
            };
            day.due_ns = now.0.saturating_add(wait_ns).saturating_add(jitter);
        }
    }

    /// An answer came that cannot be used. Tells whether the feed rests now.
    pub(crate) fn unusable(&mut self, ask: Ask, now: Timestamp) -> bool {
        let is_alone = ask.first == ask.last;
        let today = day::local(now, &self.terms.zone).date();
        let rest_ns = nanos(self.terms.rest);
        for (date, day) in self.days.range_mut(ask.first..=ask.last) {
            day.unusable = if is_alone { day.unusable.saturating_add(1) } else { day.unusable.max(1) };
            if is_alone {
                let longest_ns = if *date < today { Timestamp::DAY_NS } else { rest_ns.min(60 * MINUTE_NS) };
                let doubled_ns = rest_ns.saturating_mul(1 << day.unusable.saturating_sub(2).min(10));
                day.due_ns = now.0.saturating_add(doubled_ns.min(longest_ns));
            }
        }
        self.failed(now, None)
    }

    /// No answer. Tells whether the feed rests now.
    pub(crate) fn failed(&mut self, now: Timestamp, retry_after: Option<Duration>) -> bool {
        self.failures = self.failures.saturating_add(1);
        let rests = self.failures.is_multiple_of(self.terms.tries);
        let wait = if rests {
            let doublings = (self.failures / self.terms.tries - 1).min(10);
            (self.terms.rest * (1 << doublings)).min(LONGEST_REST.max(self.terms.rest))
        } else {
            let doublings = (self.failures % self.terms.tries - 1).min(10);
            let longest = (FIRST_WAIT * (1 << doublings)).min(self.terms.rest);
            longest.mul_f64(self.rng.unit()).max(LEAST_WAIT)
        };
        let wait = wait.max(retry_after.unwrap_or_default());
        self.not_before_ns = now.0.saturating_add(nanos(wait));
        rests
    }

    /// Failures since the last answer.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When [`Agenda::ask`] may have something next; not before `now`.
    pub(crate) fn next_due(&self, now: Timestamp) -> Timestamp {
        let due_ns = match self.rhythm {
            Rhythm::Steady { .. } => self.steady_due_ns,
            Rhythm::Days { opens } => {
                let local = day::local(now, &self.terms.zone);
                let next = if local.time() < opens {
                    local.date().to_datetime(opens)
                } else {
                    local.date().tomorrow().unwrap_or(local.date()).to_datetime(Time::midnight())
                };
                let rolls = self.terms.zone.to_timestamp(next).ok();
                let rolls_ns = rolls.and_then(super::rows::timestamp).map_or(i64::MAX, |at| at.0);
                self.days.values().map(|day| day.due_ns).min().unwrap_or(i64::MIN).min(rolls_ns)
            }
        };
        Timestamp(due_ns.max(self.not_before_ns).clamp(now.0, Timestamp::MAX.0))
    }

    fn roll(&mut self, now: Timestamp) {
        if now.0 < self.last_now_ns.saturating_sub(MINUTE_NS) {
            self.not_before_ns = i64::MIN;
            self.steady_due_ns = i64::MIN;
            for day in self.days.values_mut().filter(|day| day.fill < Fill::All) {
                day.due_ns = i64::MIN;
            }
        }
        self.last_now_ns = now.0;
        if matches!(self.rhythm, Rhythm::Steady { .. }) {
            return;
        }
        let wanted = self.wanted(now);
        self.days.retain(|date, _| (wanted.first..=wanted.last).contains(date));
        let fresh = Day { fill: Fill::Open, looks: 0, unusable: 0, late_looks: 0, due_ns: i64::MIN };
        let mut date = wanted.first;
        while date <= wanted.last {
            self.days.entry(date).or_insert(fresh);
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
    }
}

fn minus(date: Date, days: i32) -> Date {
    date.checked_sub(days.days()).unwrap_or(Date::MIN)
}

fn nanos(wait: Duration) -> i64 {
    i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)
}

/// Most days of one request.
const MAX_DAYS_AT_ONCE: i32 = 7;
/// Between two looks for tomorrow's prices; until the evening, then the configured rest.
const POLL_NS: i64 = 5 * MINUTE_NS;
const EVENING: Time = Time::constant(18, 0, 0, 0);
/// Between two looks at a day that is whole.
const RECHECK_NS: i64 = 6 * 60 * MINUTE_NS;
/// Spread over which a fleet of homes asks.
const JITTER_NS: f64 = 20e9;
/// A service that is out of order for long is asked this often.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// Bounds of the first wait after a failure; the longer one doubles.
const FIRST_WAIT: Duration = Duration::from_secs(4);
const LEAST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn agenda(rhythm: Rhythm) -> Agenda {
        let terms = Terms {
            zone: TimeZone::get("Europe/Warsaw").unwrap(),
            backfill_days: 9,
            recheck_days: 2,
            tries: 3,
            rest: Duration::from_secs(600),
        };
        Agenda::new(rhythm, terms, 7)
    }

    fn at(text: &str) -> Timestamp {
        crate::feeds::rows::timestamp(text.parse().unwrap()).unwrap()
    }

    const DAYS: Rhythm = Rhythm::Days { opens: Time::constant(12, 30, 0, 0) };

    #[test]
    fn days_are_caught_up_together_and_tomorrow_is_polled_until_whole() {
        let mut agenda = agenda(DAYS);
        let morning = at("2026-03-28T08:00:00Z");
        let ask = agenda.ask(morning).unwrap();
        assert_eq!(ask, Ask { first: date(2026, 3, 22), last: date(2026, 3, 28) });
        agenda.heard(ask, morning, |_| Fill::All);
        let ask = agenda.ask(morning).unwrap();
        assert_eq!(ask, Ask { first: date(2026, 3, 19), last: date(2026, 3, 21) });
        agenda.heard(ask, morning, |_| Fill::All);
        assert_eq!(agenda.ask(morning), None);
        // 12:30 local is 11:30 in UTC.
        let opens = at("2026-03-28T11:30:00Z");
        assert_eq!(agenda.next_due(morning), opens);
        let tomorrow = Ask { first: date(2026, 3, 29), last: date(2026, 3, 29) };
        assert_eq!(agenda.ask(opens), Some(tomorrow));
        agenda.heard(tomorrow, opens, |_| Fill::Open);
        let poll = agenda.next_due(opens);
        assert!((POLL_NS..POLL_NS + 20_000_000_000).contains(&(poll.0 - opens.0)));
        assert_eq!(agenda.ask(poll), Some(tomorrow));
        agenda.heard(tomorrow, poll, |_| Fill::All);
        // Quiet, but for the days looked at again.
        assert!(agenda.next_due(poll).0 - morning.0 >= RECHECK_NS);
    }

    #[test]
    fn failures_wait_longer_then_rest_and_a_named_wait_is_obeyed() {
        let mut agenda = agenda(DAYS);
        let now = at("2026-03-28T08:00:00Z");
        let mut waits = Vec::new();
        for _ in 0..6 {
            agenda.failed(now, None);
            waits.push((agenda.next_due(now).0 - now.0) / 1_000_000_000);
        }
        assert!(waits[0] <= 4 && waits[1] <= 8 && waits[2] == 600 && waits[5] == 1_200, "{waits:?}");
        agenda.failed(now, Some(Duration::from_secs(1_234)));
        assert_eq!((agenda.next_due(now).0 - now.0) / 1_000_000_000, 1_234);
        assert_eq!(agenda.ask(Timestamp(now.0 + 1_000_000_000)), None);
        // The clock is set back by a day: nothing waits for the future.
        assert!(agenda.ask(at("2026-03-27T08:00:00Z")).is_some());
    }

    #[test]
    fn a_steady_feed_goes_on_from_where_it_was_in_steps() {
        let mut agenda =
            agenda(Rhythm::Steady { interval: Duration::from_secs(3_600), lead: 0, overlap: 1, span: 4 });
        let now = at("2026-03-28T08:00:00Z");
        let mut asked = Vec::new();
        while let Some(ask) = agenda.ask(now) {
            asked.push((ask.first.day(), ask.last.day()));
            agenda.heard(ask, now, |_| Fill::All);
        }
        assert_eq!(asked, [(19, 22), (23, 26), (27, 28)]);
        // Away for three days.
        let later = at("2026-03-31T08:00:00Z");
        let ask = agenda.ask(later).unwrap();
        assert_eq!((ask.first.day(), ask.last.day()), (27, 30));
    }

    #[test]
    fn a_day_whose_answer_cannot_be_used_costs_itself_alone() {
        // Six days beside it were asked for with it each time, and the older ones never.
        let mut agenda = agenda(DAYS);
        let mut now = at("2026-03-28T08:00:00Z");
        let (bad, mut asked_bad) = (date(2026, 3, 25), 0);
        let mut whole = std::collections::BTreeSet::new();
        let end = now.0 + 3_600_000_000_000;
        loop {
            now = agenda.next_due(now).max(Timestamp(now.0 + 1));
            if now.0 > end {
                break;
            }
            let Some(ask) = agenda.ask(now) else { continue };
            if (ask.first..=ask.last).contains(&bad) {
                agenda.unusable(ask, now);
                asked_bad += 1;
            } else {
                agenda.heard(ask, now, |_| Fill::All);
                whole.extend((ask.first.day()..=ask.last.day()).map(i32::from));
            }
        }
        let all: Vec<i32> = (19..=28).filter(|day| *day != 25).collect();
        assert_eq!(whole.into_iter().collect::<Vec<_>>(), all);
        // Once with the others, then after 0, 10, 30 minutes.
        assert_eq!(asked_bad, 4);
    }

    #[test]
    fn a_day_that_is_over_is_asked_for_until_it_has_what_comes_last() {
        // Balancing prices that came after the last look at a day were never fetched.
        let mut agenda = agenda(DAYS);
        let mut now = at("2026-03-28T08:00:00Z");
        while let Some(ask) = agenda.ask(now) {
            agenda.heard(ask, now, |_| Fill::InTime);
        }
        let settled =
            |date: Date| if date < jiff::civil::date(2026, 3, 31) { Fill::All } else { Fill::InTime };
        let day = date(2026, 3, 28);
        let mut looks = Vec::new();
        while now < at("2026-04-05T08:00:00Z") {
            now = agenda.next_due(now).max(Timestamp(now.0 + 1));
            let Some(ask) = agenda.ask(now) else { continue };
            let is_out = now >= at("2026-04-02T08:00:00Z");
            agenda.heard(ask, now, |date| if is_out { settled(date) } else { Fill::InTime });
            if ask.first <= day && day <= ask.last {
                looks.push((now.0 - at("2026-03-28T08:00:00Z").0) / Timestamp::DAY_NS);
            }
        }
        // Looked at until it was there, and no more after that.
        assert!(looks.contains(&4) || looks.contains(&5), "{looks:?}");
        assert!(looks.len() < 25 && !looks.contains(&7), "{looks:?}");
    }

    #[test]
    fn the_first_look_at_rates_begins_before_the_first_day_that_needs_one() {
        let steady = |lead| Rhythm::Steady { interval: Duration::from_secs(60), lead, overlap: 5, span: 90 };
        let first = |lead| agenda(steady(lead)).ask(at("2026-03-28T08:00:00Z")).unwrap().first;
        assert_eq!((first(0), first(10)), (date(2026, 3, 19), date(2026, 3, 9)));
    }
}
