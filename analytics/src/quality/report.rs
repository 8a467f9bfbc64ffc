//! The checks of one field together, and its score.
//!
//! The score. `accuracy = 1 - faulty / points`, where a point is faulty if it is out of range, a spike, or part of a value
//! that stands still (once, whatever the number of its faults). `score = completeness x accuracy`. Both lie in 0..=1; a
//! field without points has a completeness and a score of 0 and no accuracy.

use super::{
    Completeness, FieldName, Findings, Function, Gap, Limits, MAX_FINDINGS, QualityError, Rest, Source,
    Sourced, SpikeRule, StuckRule, check_inside, check_order, completeness, gaps, limits, spikes, stuck,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// What a field is held against. A check that has no rule is not made, and its list is not in the report.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChecks {
    /// A point is expected so often, in nanoseconds.
    pub interval_ns: i64,
    /// A stretch without points for longer than this is a gap.
    pub longest_gap_ns: i64,
    /// Where none is expected: rising, and none touches the next.
    pub asleep: Vec<Range<Timestamp>>,
    /// What values can be.
    pub limits: Option<Limits>,
    /// When a value stands still for too long.
    pub stuck: Option<StuckRule>,
    /// Where it may stand still.
    pub rests: Vec<Rest>,
    /// When a value is too far from its neighbours.
    pub spikes: Option<SpikeRule>,
}

/// How good one field of one series is over a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldReport {
    /// Points there are against points expected.
    pub completeness: Sourced<Completeness>,
    /// Stretches without points, in order; the first 1000.
    pub gaps: Sourced<Vec<Gap>>,
    /// Number of gaps, those left out of the list included.
    pub gap_count: u64,
    /// Values outside their limits.
    pub out_of_range: Option<Sourced<Findings>>,
    /// Values that stand still.
    pub stuck: Option<Sourced<Findings>>,
    /// Spikes.
    pub spikes: Option<Sourced<Findings>>,
    /// Share of points without a fault; none without points.
    pub accuracy: Option<Sourced<f64>>,
    /// Completeness x accuracy.
    pub score: Sourced<f64>,
}

/// Checks one field over `range`. `points` are all its points there, rising in time.
///
/// # Errors
/// See [`QualityError`].
pub fn assess(
    name: &FieldName,
    points: &[(Timestamp, f64)],
    range: &Range<Timestamp>,
    checks: &FieldChecks,
) -> Result<FieldReport, QualityError> {
    let mut faulty = vec![false; points.len()];
    let mut mark = |places: Range<usize>| faulty[places].fill(true);
    let of = |function| Source::of(name, range, function);
    let (share, mut all_gaps) = awake(points, range, checks)?;
    let gap_count = all_gaps.len() as u64;
    // As long as there may be points: what is left out is given back.
    all_gaps.truncate(MAX_FINDINGS);
    all_gaps.shrink_to_fit();

    let mut out_of_range = None;
    if let Some(rule) = checks.limits {
        let mut value = Findings::default();
        limits::visit(points, rule, |places, row| {
            mark(places);
            value.push(row);
        })?;
        out_of_range = Some(Sourced { value, source: of(Function::OutOfRange) });
    }
    let mut still = None;
    if let Some(rule) = checks.stuck {
        let mut value = Findings::default();
        stuck::visit(points, rule, &checks.rests, |places, row| {
            mark(places);
            value.push(row);
        })?;
        still = Some(Sourced { value, source: of(Function::Stuck) });
    }
    let mut wild = None;
    if let Some(rule) = checks.spikes {
        let mut value = Findings::default();
        spikes::visit(points, rule, |place, row| {
            mark(place..place + 1);
            value.push(row);
        })?;
        wild = Some(Sourced { value, source: of(Function::Spikes) });
    }
    let bad = faulty.iter().filter(|faulty| **faulty).count();
    // Silence where silence is expected is no fault.
    let nothing = if share.expected == 0 { 1.0 } else { 0.0 };
    let accuracy = (!points.is_empty()).then(|| 1.0 - bad as f64 / points.len() as f64);
    Ok(FieldReport {
        completeness: Sourced { value: share, source: of(Function::Completeness) },
        gaps: Sourced { value: all_gaps, source: of(Function::Gaps) },
        gap_count,
        out_of_range,
        stuck: still,
        spikes: wild,
        accuracy: accuracy.map(|value| Sourced { value, source: of(Function::Accuracy) }),
        score: Sourced { value: share.share * accuracy.unwrap_or(nothing), source: of(Function::Score) },
    })
}

/// Completeness and gaps of the times in which points are expected.
fn awake(
    points: &[(Timestamp, f64)],
    range: &Range<Timestamp>,
    checks: &FieldChecks,
) -> Result<(Completeness, Vec<Gap>), QualityError> {
    if checks.asleep.is_empty() {
        return Ok((
            completeness(points, range, checks.interval_ns)?,
            gaps(points, range, checks.longest_gap_ns)?,
        ));
    }
    check_order(points.iter().map(|(time, _)| *time))?;
    check_inside(points, range)?;
    let (mut expected, mut missing, mut all_gaps) = (0, 0, Vec::new());
    let ends = checks.asleep.iter().map(|asleep| asleep.start).chain(std::iter::once(range.end));
    let starts = std::iter::once(range.start).chain(checks.asleep.iter().map(|asleep| asleep.end));
    for (start, end) in starts.zip(ends) {
        let part = start.max(range.start)..end.min(range.end);
        if part.is_empty() {
            continue;
        }
        let place = |time: Timestamp| points.partition_point(|(known, _)| *known < time);
        let points = &points[place(part.start)..place(part.end)];
        let found = completeness(points, &part, checks.interval_ns)?;
        (expected, missing) = (expected + found.expected, missing + found.missing);
        all_gaps.extend(gaps(points, &part, checks.longest_gap_ns)?);
    }
    let share = if expected == 0 { 1.0 } else { 1.0 - missing as f64 / expected as f64 };
    Ok((Completeness { expected, missing, share }, all_gaps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_model::TagSet;

    fn name() -> FieldName {
        FieldName {
            measurement: "energy_data".to_owned(),
            tags: TagSet::new([("device_id", "roof")]).unwrap(),
            field: "battery_soc".to_owned(),
        }
    }

    fn checks() -> FieldChecks {
        FieldChecks {
            interval_ns: 10,
            longest_gap_ns: 25,
            asleep: Vec::new(),
            limits: Some(Limits { low: 0.0, high: 100.0 }),
            stuck: Some(StuckRule { longest_ns: 45, max_gap_ns: 25 }),
            rests: Vec::new(),
            spikes: Some(SpikeRule { side: 5, spreads: 6.0, least: 20.0 }),
        }
    }

    #[test]
    fn where_a_device_sleeps_nothing_is_missing() {
        // Awake from 0 to 300 and from 700 to 1000, and three points are missing at 800.
        let times = (0..30).chain(70..80).chain(83..100);
        let points: Vec<(Timestamp, f64)> =
            times.map(|i| (Timestamp(i * 10), 50.0 + (i % 7) as f64)).collect();
        let range = Timestamp(0)..Timestamp(1000);
        let night = Timestamp(300)..Timestamp(700);
        let rules = FieldChecks { asleep: vec![night.clone()], ..checks() };
        let report = assess(&name(), &points, &range, &rules).unwrap();
        assert_eq!((report.completeness.value.expected, report.completeness.value.missing), (60, 3));
        assert_eq!(report.gaps.value, [Gap { start: Timestamp(790), end: Timestamp(830) }]);
        // A field that ends before the others has its gap up to the night.
        let report = assess(&name(), &points[..20], &range, &rules).unwrap();
        assert_eq!(
            report.gaps.value,
            [(190, 300), (700, 1000)]
                .map(|(start, end)| Gap { start: Timestamp(start), end: Timestamp(end) })
        );
        // A range that is all night expects nothing.
        let report = assess(&name(), &[], &night, &rules).unwrap();
        assert_eq!((report.completeness.value.expected, report.score.value), (0, 1.0));
        assert_eq!((report.gap_count, report.accuracy), (0, None));
    }

    #[test]
    fn a_report_names_its_faults_and_counts_each_point_once() {
        // A hundred places, ten of them empty; a spike that is out of range too, and six points that stand still.
        let mut points: Vec<(Timestamp, f64)> =
            (0..100).map(|i| (Timestamp(i * 10), 50.0 + (i % 7) as f64)).collect();
        points[20].1 = 250.0;
        points[50..56].iter_mut().for_each(|point| point.1 = 53.5);
        points.drain(80..90);
        let range = Timestamp(0)..Timestamp(1000);
        let report = assess(&name(), &points, &range, &checks()).unwrap();
        assert_eq!((report.completeness.value.expected, report.completeness.value.missing), (100, 10));
        assert_eq!(report.gaps.value, [Gap { start: Timestamp(790), end: Timestamp(900) }]);
        let firsts = |findings: &Option<Sourced<Findings>>| -> Vec<(i64, u64)> {
            findings.as_ref().unwrap().value.stretches.iter().map(|s| (s.first.0, s.points)).collect()
        };
        assert_eq!(firsts(&report.out_of_range), [(200, 1)]);
        assert_eq!(firsts(&report.spikes), [(200, 1)]);
        assert_eq!(firsts(&report.stuck), [(500, 6)]);
        assert_eq!(report.accuracy.as_ref().unwrap().value, 1.0 - 7.0 / 90.0);
        assert!((report.score.value - 0.9 * (1.0 - 7.0 / 90.0)).abs() < 1e-12);
        let source = &report.stuck.as_ref().unwrap().source;
        assert_eq!(
            (source.function, source.fields.as_slice()),
            (Function::Stuck, &["battery_soc".to_owned()][..])
        );
        assert_eq!((source.start, source.end, source.tags.len()), (range.start, range.end, 1));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<FieldReport>(&text).unwrap(), report);
    }

    #[test]
    fn a_field_without_points_has_a_score_of_zero() {
        let checks = FieldChecks { limits: None, spikes: None, ..checks() };
        let report = assess(&name(), &[], &(Timestamp(0)..Timestamp(1000)), &checks).unwrap();
        assert_eq!((report.score.value, report.accuracy, report.gap_count), (0.0, None, 1));
        assert!(report.out_of_range.is_none() && report.spikes.is_none() && report.stuck.is_some());
    }

    #[test]
    fn lists_are_bounded_and_counts_are_of_all() {
        let points: Vec<(Timestamp, f64)> =
            (0..5000).map(|i| (Timestamp(i * 30), if i % 2 == 0 { 200.0 } else { 5.0 })).collect();
        let range = Timestamp(0)..Timestamp(150_000);
        let report = assess(&name(), &points, &range, &checks()).unwrap();
        let outside = report.out_of_range.unwrap().value;
        assert_eq!((outside.stretches.len(), outside.count, outside.points), (MAX_FINDINGS, 2500, 2500));
        assert_eq!((report.gaps.value.len() as u64, report.gap_count), (1000, 5000));
        assert!(report.gaps.value.capacity() < 1100, "{}", report.gaps.value.capacity());
        assert_eq!(report.accuracy.unwrap().value, 0.5);
    }
}
