//! What is kept for how long, and the cutoffs that follow from it.
//!
//! Promise: a point whose time is below the cutoff of its measurement is hidden from every reader, refused by every writer
//! and, once the store's clock is proven, left out of every file that is written.
//!
//! Invariants
//! 1. A rule of a measurement stands in place of that of its namespace; [`Rule::Inherited`] is the namespace's again.
//! 2. A cutoff never goes back, whatever becomes of its rule; only a clock that is not proven takes its own step back.
//! 3. What readers use is what the manifest says: nothing is hidden that a power cut would bring back.

use crate::ids::{MeasurementId, NamespaceId};
use std::collections::BTreeMap;

/// For how long points are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As long as the namespace says. Not for a namespace.
    Inherited,
    /// For ever.
    Forever,
    /// So long; more than zero.
    Keep {
        /// Nanoseconds.
        ns: u64,
    },
}

/// A rule and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// The rule.
    pub rule: Rule,
    /// Points before this instant are hidden; [`NO_CUTOFF`] if none are.
    pub cutoff_ns: i64,
}

/// A cutoff that hides nothing.
pub const NO_CUTOFF: i64 = i64::MIN;

/// What the store believes the time to be, as the manifest holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockRecord {
    /// The instant, in nanoseconds.
    pub now_ns: i64,
    /// Nanoseconds of steady running that speak for it, up to [`PROVEN_NS`].
    pub steady_ns: u64,
}

/// A clock that ran steadily for so long is proven: what it says may be acted on for good.
pub const PROVEN_NS: u64 = 24 * 3600 * 1_000_000_000;

/// All rules and cutoffs of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retentions {
    /// None until a rule was set for the first time.
    pub clock: Option<ClockRecord>,
    /// By namespace and measurement; none: all measurements of the namespace that have no rule of their own.
    pub entries: BTreeMap<Key, Retained>,
}

/// What a rule speaks of.
pub type Key = (NamespaceId, Option<MeasurementId>);

/// Whether what a rule speaks of ever had a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// None yet.
    None,
    /// Perhaps.
    Some,
}

/// Which cutoffs to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What readers do not see and writers may not write.
    Hide,
    /// What goes for good: nothing before the clock is proven.
    Drop,
}

impl Retentions {
    /// True if nothing is hidden and nothing will be.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes over what an edit tells.
    pub fn take(&mut self, told: &Self) {
        self.clock = told.clock.or(self.clock);
        self.entries.extend(told.entries.iter().map(|(key, entry)| (*key, *entry)));
    }

    /// Whether what the clock says may be acted on for good.
    pub fn is_proven(&self) -> bool {
        self.clock.is_some_and(|clock| clock.steady_ns >= PROVEN_NS)
    }

    /// Whether any rule depends on the clock.
    pub fn is_timed(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.rule, Rule::Keep { .. }))
    }

    /// First instant of a measurement that is kept; `measurement` is none for one that has no id yet.
    pub fn cutoff(
        &self,
        namespace: NamespaceId,
        measurement: Option<MeasurementId>,
        purpose: Purpose,
    ) -> i64 {
        if self.entries.is_empty() || (purpose == Purpose::Drop && !self.is_proven()) {
            return NO_CUTOFF;
        }
        let of = |key: Key| self.entries.get(&key).copied();
        let all = of((namespace, None)).map_or(NO_CUTOFF, |entry| entry.cutoff_ns);
        match measurement.and_then(|id| of((namespace, Some(id)))) {
            None => all,
            Some(Retained { rule: Rule::Inherited, cutoff_ns }) => cutoff_ns.max(all),
            Some(own) => own.cutoff_ns,
        }
    }

    /// The earliest and the latest cutoff that a measurement of the namespace may have.
    pub fn bounds(&self, namespace: NamespaceId, purpose: Purpose) -> (i64, i64) {
        let all = self.cutoff(namespace, None, purpose);
        let own = self.entries.range((namespace, None)..).take_while(|((of, _), _)| *of == namespace);
        own.map(|((_, measurement), _)| self.cutoff(namespace, *measurement, purpose))
            .fold((all, all), |(least, most), cutoff| (least.min(cutoff), most.max(cutoff)))
    }

    /// The edit that puts `rule` in force at the time of `clock`. What is hidden now stays hidden; of a measurement that never
    /// had a point (`content`) nothing is.
    pub(super) fn set(&self, key: Key, rule: Rule, clock: ClockRecord, content: Content) -> Self {
        let hidden = match content {
            Content::None => NO_CUTOFF,
            Content::Some => self.cutoff(key.0, key.1, Purpose::Hide),
        };
        let cutoff_ns = hidden.max(cutoff_of(rule, clock.now_ns));
        Self { clock: Some(clock), entries: BTreeMap::from([(key, Retained { rule, cutoff_ns })]) }
    }

    /// The edit that moves all cutoffs on to `clock`.
    pub(super) fn moved(&self, clock: ClockRecord) -> Self {
        let moved = |(key, entry): (&Key, &Retained)| {
            let cutoff_ns = entry.cutoff_ns.max(cutoff_of(entry.rule, clock.now_ns));
            (cutoff_ns > entry.cutoff_ns).then_some((*key, Retained { cutoff_ns, ..*entry }))
        };
        Self { clock: Some(clock), entries: self.entries.iter().filter_map(moved).collect() }
    }

    /// The edit after a clock that was not proven was set back by `step_ns`: what it hid goes back with it.
    pub(super) fn moved_back(&self, clock: ClockRecord, step_ns: i64) -> Self {
        let moved = |(key, entry): (&Key, &Retained)| {
            let before = entry.cutoff_ns.saturating_sub(step_ns);
            let cutoff_ns = before.max(cutoff_of(entry.rule, clock.now_ns));
            (*key, Retained { cutoff_ns, ..*entry })
        };
        let hiding = self.entries.iter().filter(|(_, entry)| entry.cutoff_ns != NO_CUTOFF);
        Self { clock: Some(clock), entries: hiding.map(moved).collect() }
    }

    /// Whether a cutoff has fallen behind `now_ns` so far that an edit is worth its sync: a twenty-fourth of what is kept,
    /// but an hour at most.
    pub(super) fn is_due(&self, now_ns: i64) -> bool {
        self.entries.values().any(|entry| {
            let Rule::Keep { ns } = entry.rule else { return false };
            let step_ns = (ns / 24).clamp(1, HOUR_NS) as i64;
            cutoff_of(entry.rule, now_ns) >= entry.cutoff_ns.saturating_add(step_ns)
        })
    }
}

/// Most rules of a store: each manifest snapshot holds them.
pub(super) const MAX_RULES: usize = 4096;

const HOUR_NS: u64 = 3600 * 1_000_000_000;

fn cutoff_of(rule: Rule, now_ns: i64) -> i64 {
    match rule {
        Rule::Keep { ns } => now_ns.saturating_sub_unsigned(ns),
        Rule::Forever | Rule::Inherited => NO_CUTOFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(1);
    const OWN: Option<MeasurementId> = Some(MeasurementId(7));
    const OTHER: Option<MeasurementId> = Some(MeasurementId(8));

    fn keep(ns: u64) -> Rule {
        Rule::Keep { ns }
    }

    fn clock(now_ns: i64) -> ClockRecord {
        ClockRecord { now_ns, steady_ns: PROVEN_NS }
    }

    fn set(retentions: &mut Retentions, measurement: Option<MeasurementId>, rule: Rule, now_ns: i64) {
        let edit = retentions.set((NAMESPACE, measurement), rule, clock(now_ns), Content::Some);
        retentions.take(&edit);
    }

    fn hidden(retentions: &Retentions, measurement: Option<MeasurementId>) -> i64 {
        retentions.cutoff(NAMESPACE, measurement, Purpose::Hide)
    }

    #[test]
    fn a_rule_of_a_measurement_stands_in_place_of_that_of_its_namespace() {
        let mut retentions = Retentions::default();
        set(&mut retentions, OWN, Rule::Forever, 1000);
        set(&mut retentions, None, keep(100), 1000);
        assert_eq!((hidden(&retentions, OWN), hidden(&retentions, OTHER)), (NO_CUTOFF, 900));
        assert_eq!(hidden(&retentions, None), 900, "one that has no id yet");
        assert_eq!(retentions.cutoff(NamespaceId(2), OTHER, Purpose::Hide), NO_CUTOFF);
        assert_eq!(retentions.bounds(NAMESPACE, Purpose::Drop), (NO_CUTOFF, 900));
        set(&mut retentions, OWN, Rule::Inherited, 1000);
        assert_eq!(hidden(&retentions, OWN), 900);
        let edit = retentions.set((NAMESPACE, OTHER), Rule::Forever, clock(1000), Content::None);
        retentions.take(&edit);
        assert_eq!(hidden(&retentions, OTHER), NO_CUTOFF, "there is nothing that could come back");
    }

    #[test]
    fn a_cutoff_never_goes_back_whatever_becomes_of_its_rule() {
        let mut retentions = Retentions::default();
        set(&mut retentions, None, keep(100), 1000);
        for rule in [keep(500), Rule::Forever, keep(100)] {
            set(&mut retentions, None, rule, 1000);
            assert_eq!(hidden(&retentions, OTHER), 900, "{rule:?}");
        }
        // Its own rule takes over what is hidden, and gives it back.
        set(&mut retentions, OWN, keep(5000), 1000);
        assert_eq!(hidden(&retentions, OWN), 900);
        set(&mut retentions, OWN, keep(10), 1000);
        set(&mut retentions, OWN, Rule::Inherited, 1000);
        assert_eq!(hidden(&retentions, OWN), 990);
        let later = retentions.moved(clock(1200));
        retentions.take(&later);
        assert_eq!((hidden(&retentions, OWN), hidden(&retentions, OTHER)), (1100, 1100));
        let earlier = retentions.moved(clock(0));
        assert!(earlier.entries.is_empty());
    }

    #[test]
    fn nothing_is_dropped_before_the_clock_is_proven_and_its_step_back_is_taken_back() {
        let unproven = |now_ns| ClockRecord { now_ns, steady_ns: PROVEN_NS - 1 };
        let mut retentions = Retentions::default();
        let edit = retentions.set((NAMESPACE, None), keep(100), unproven(1000), Content::Some);
        retentions.take(&edit);
        assert_eq!(hidden(&retentions, OWN), 900);
        assert_eq!(retentions.cutoff(NAMESPACE, OWN, Purpose::Drop), NO_CUTOFF);
        let back = retentions.moved_back(unproven(600), 400);
        retentions.take(&back);
        assert_eq!(hidden(&retentions, OWN), 500);
        let proven = retentions.moved(clock(600));
        retentions.take(&proven);
        assert_eq!(retentions.cutoff(NAMESPACE, OWN, Purpose::Drop), 500);
    }

    #[test]
    fn an_edit_is_due_once_for_each_part_of_what_is_kept() {
        let mut retentions = Retentions::default();
        set(&mut retentions, None, keep(24 * HOUR_NS), 0);
        assert!(!retentions.is_due(HOUR_NS as i64 - 1) && retentions.is_due(HOUR_NS as i64));
        set(&mut retentions, None, keep(HOUR_NS), 0);
        assert!(!retentions.is_due(149 * 1_000_000_000) && retentions.is_due(150 * 1_000_000_000));
        set(&mut retentions, None, keep(5000 * HOUR_NS), 0);
        assert!(!retentions.is_due(i64::MIN + 1));
    }
}
