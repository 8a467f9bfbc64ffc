//! What a report says in a word: its problems with what to do about them, and a score.

use std::collections::BTreeMap;
use wattlog_analytics::quality::{Sign, Sourced};
use wattlog_derived::quality::{Part, SeriesQuality};

/// A clock that is so far off, in seconds, is told.
const CLOCK_OFF_S: f64 = 300.0;
/// Or that drifts by so many seconds a day.
const CLOCK_DRIFTS_S: f64 = 30.0;

/// One kind of fault of one field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) check: &'static str,
    pub(super) field: String,
    pub(super) count: u64,
    pub(super) advice: &'static str,
}

/// The problems of all parts together, by check and field.
pub(super) fn problems(series: &SeriesQuality) -> Vec<Problem> {
    let mut counts: BTreeMap<(usize, String), u64> = BTreeMap::new();
    for part in &series.parts {
        for (kind, field, count) in of_fields(part).into_iter().chain(of_plant(part)) {
            if count > 0 {
                *counts.entry((kind, field)).or_default() += count;
            }
        }
    }
    let problem = |((kind, field), count): ((usize, String), u64)| {
        let (check, advice) = KINDS[kind];
        Problem { check, field, count, advice }
    };
    counts.into_iter().map(problem).collect()
}

const KINDS: [(&str, &str); 7] = [
    ("gaps", "points are missing: look at the device's status and its network"),
    ("out_of_range", "the device or its registers gave what cannot be: delete or correct the points"),
    ("stuck", "the value stands still while it should move: the device answers with what it last knew"),
    ("spikes", "single readings far off their neighbours: delete or correct the points"),
    ("balance", "the powers do not add up: a meter is missing, or registers were not read together"),
    (
        "sign",
        "counts the wrong way round: battery + is discharge, grid + is export; set the sign where points come from",
    ),
    ("clock", "the device's clock is off or was set: set it right, daily counters turn over by it"),
];
const GAPS: usize = 0;
const OUT_OF_RANGE: usize = 1;
const STUCK: usize = 2;
const SPIKES: usize = 3;
const BALANCE: usize = 4;
const SIGN: usize = 5;
const CLOCK: usize = 6;

fn of_fields(part: &Part) -> Vec<(usize, String, u64)> {
    let mut found = Vec::new();
    for field in &part.fields {
        let report = &field.report;
        found.push((GAPS, field.field.clone(), report.gap_count));
        let lists = [(OUT_OF_RANGE, &report.out_of_range), (STUCK, &report.stuck), (SPIKES, &report.spikes)];
        for (kind, list) in lists {
            let count = list.as_ref().map_or(0, |list| list.value.count);
            found.push((kind, field.field.clone(), count));
        }
    }
    found
}

fn of_plant(part: &Part) -> Vec<(usize, String, u64)> {
    let Some(plant) = &part.plant else { return Vec::new() };
    let mut found = vec![(
        BALANCE,
        "pv_power, battery_power, grid_power, consumption".to_owned(),
        plant.balance.value.count,
    )];
    let reversed = |verdicts: &[&Sourced<wattlog_analytics::quality::SignVerdict>]| {
        u64::from(verdicts.iter().any(|verdict| verdict.value.sign == Sign::Reversed))
    };
    found.push((
        SIGN,
        "battery_power".to_owned(),
        reversed(&[&plant.battery_by_soc, &plant.battery_by_balance]),
    ));
    found.push((SIGN, "grid_power".to_owned(), reversed(&[&plant.grid_by_balance])));
    if let Some(clock) = &plant.clock {
        let clock = &clock.value;
        let is_off = clock.offset_s.abs() > CLOCK_OFF_S
            || clock.drift_s_per_day.is_some_and(|drift| drift.abs() > CLOCK_DRIFTS_S);
        let count = clock.step_count + u64::from(is_off);
        found.push((CLOCK, "inverter_clock".to_owned(), count));
    }
    found
}

/// Mean of the scores of all fields, each as long as its part; none without any.
pub(super) fn score(series: &SeriesQuality) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for part in &series.parts {
        let length = (part.range.end - part.range.start) as f64;
        for field in &part.fields {
            sum += field.report.score.value * length;
            weight += length;
        }
    }
    (weight > 0.0).then(|| sum / weight)
}
