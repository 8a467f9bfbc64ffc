//! Statistics by the words of the specification, to compare with.

use crate::data::{ALL, SectionData};
use wattlog_engine::column::{Column, Presence, Values};
use wattlog_engine::ids::{FieldId, MeasurementId};
use wattlog_engine::segment::{BlockStatistics, RowGroup, Segment};
use wattlog_model::{ExactSum, FieldType, FieldValue, short_decimal};

/// Statistics by the words of the specification, one value at a time.
pub(crate) fn naive(points: &[(i64, FieldValue)]) -> BlockStatistics {
    let number = |value: &FieldValue| match value {
        FieldValue::Float(v) => Some(*v),
        FieldValue::Integer(v) => Some(*v as f64),
        FieldValue::Unsigned(v) => Some(*v as f64),
        _ => None,
    };
    let less = |a: &FieldValue, b: &FieldValue| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a < b,
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a < b,
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a < b,
        _ => false,
    };
    let nanos = |value: &FieldValue| match value {
        FieldValue::Float(v) => short_decimal(*v).map(|(i, e)| i128::from(i) * 10_i128.pow(9 - u32::from(e))),
        FieldValue::Integer(v) => Some(i128::from(*v) * 1_000_000_000),
        FieldValue::Unsigned(v) => Some(i128::from(*v) * 1_000_000_000),
        _ => None,
    };
    let rest = |value: f64| {
        let mut sum = ExactSum::default();
        sum.add_rest(value);
        sum
    };
    let product = |value: &FieldValue, gap: i128| {
        let Some(nanos) = nanos(value) else { return rest(number(value).unwrap() * gap as f64) };
        let exact = nanos.checked_mul(gap).map(|product| ExactSum::from_parts(product, 0.0, 0.0));
        exact.unwrap_or_else(|| rest(nanos as f64 / 1e9 * gap as f64))
    };
    let mut statistics = BlockStatistics {
        count: points.len() as u32,
        first: points[0].clone(),
        last: points[points.len() - 1].clone(),
        min: None,
        max: None,
        sum: ExactSum::default(),
        integral_step: ExactSum::default(),
        integral_trapezoid_twice: ExactSum::default(),
        longest_gap_ns: 0,
        negative_deltas: 0,
        exceptions: 0,
    };
    for (i, (time, value)) in points.iter().enumerate() {
        match value {
            FieldValue::Float(v) => statistics.sum.add_float(*v),
            FieldValue::Integer(v) => statistics.sum.add_integer(i128::from(*v)),
            FieldValue::Unsigned(v) => statistics.sum.add_integer(i128::from(*v)),
            _ => {}
        }
        if let Some(number) = number(value) {
            statistics.exceptions += u32::from(nanos(value).is_none());
            if !number.is_nan() && statistics.min.as_ref().is_none_or(|(_, min)| less(value, min)) {
                statistics.min = Some((*time, value.clone()));
            }
            if !number.is_nan() && statistics.max.as_ref().is_none_or(|(_, max)| less(max, value)) {
                statistics.max = Some((*time, value.clone()));
            }
        }
        if i > 0 {
            let (before, earlier) = &points[i - 1];
            let gap = i128::from(*time) - i128::from(*before);
            statistics.longest_gap_ns = statistics.longest_gap_ns.max(i64::try_from(gap).unwrap_or(i64::MAX));
            if number(value).is_some() {
                statistics.negative_deltas += u32::from(less(value, earlier));
                statistics.integral_step.merge(&product(earlier, gap));
                statistics.integral_trapezoid_twice.merge(&product(earlier, gap));
                statistics.integral_trapezoid_twice.merge(&product(value, gap));
            }
        }
    }
    statistics
}

pub(crate) fn points_of(segment: &Segment, group: &RowGroup, field: FieldId) -> Vec<(i64, FieldValue)> {
    let mut times = Vec::new();
    let mut column = Column { presence: Presence::All, values: Values::new(FieldType::Float) };
    segment.read_times(group, &mut times).unwrap();
    if !segment.read_column(group, field, &mut column).unwrap() {
        return Vec::new();
    }
    (0..column.values.len()).map(|i| (times[column.row(i)], column.values.get(i))).collect()
}

pub(crate) fn assert_statistics(segment: &Segment, section: &SectionData) {
    let measurement = MeasurementId(section.measurement);
    for (series, ..) in &section.series {
        let groups = segment.row_groups(measurement, *series, ALL).unwrap();
        for field in &section.fields {
            let mut at_once = Vec::new();
            segment.statistics_of(&groups, field.id, |_, statistics| at_once.push(statistics)).unwrap();
            let mut joined: Option<BlockStatistics> = None;
            let mut described = true;
            for (group, at_once) in groups.iter().zip(&at_once) {
                let points = points_of(segment, group, field.id);
                let found = segment.statistics(group, field.id).unwrap();
                assert_eq!(found.is_some(), at_once.is_some());
                let Some(found) = found else {
                    assert!(points.is_empty() || group.compact || field.field_type == FieldType::String);
                    described &= points.is_empty();
                    continue;
                };
                assert!(found.same_bits(at_once.as_ref().unwrap()));
                let expected = naive(&points);
                assert!(found.same_bits(&expected), "{found:?}\n{expected:?}");
                match &mut joined {
                    Some(joined) => joined.join(&found),
                    None => joined = Some(found),
                }
            }
            let summary = segment.series_statistics(measurement, *series, field.id).unwrap();
            if let Some(summary) = &summary {
                assert!(summary.same_bits(joined.as_ref().unwrap()), "{summary:?}\n{joined:?}");
            }
            let several = joined.as_ref().is_some_and(|j| described && j.count > 1024);
            assert!(summary.is_some() || !several, "a summary is kept where several blocks are described");
        }
    }
}
