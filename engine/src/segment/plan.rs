//! How the rows of a series are cut into row groups. Pure.
//!
//! A group holds up to 1024 rows and never crosses a UTC day; a series with fewer than 256 rows on each day of a month
//! may have groups that span days of that month. A series with fewer than 64 rows in the segment gets compact groups,
//! one for each month it touches (format-spec.md section 5.3).

use super::layout::{COMPACT_ROWS, MAX_GROUP_BYTES, MAX_GROUP_ROWS, SPARSE_DAY_ROWS};
use crate::column::{Column, Presence, SeriesRows, Values};
use std::ops::Range;
use wattlog_model::Timestamp;

/// What the rows given at once are of their series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All that the segment has of it.
    Whole,
    /// Some of a long series: neither compact nor sparse, whatever its own length.
    OfMany,
}

/// One row group to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupPlan {
    pub rows: Range<usize>,
    pub compact: bool,
}

/// Cuts `rows`, whose times rise strictly, into groups: at UTC midnights, or, if some are given, at `midnights` and then
/// each day in equal parts.
pub(crate) fn groups(rows: &SeriesRows, part: Part, midnights: &[i64]) -> Vec<GroupPlan> {
    let times = &rows.times;
    let texts = TextBytes::of(rows);
    let values: usize = rows.columns.iter().map(|(_, column)| column.values.len()).sum();
    let plain_bytes = 8 * (times.len() + values) + texts.of_rows(0..times.len());
    let compact = part == Part::Whole && times.len() < COMPACT_ROWS && plain_bytes <= MAX_GROUP_BYTES;
    let mut plan = Vec::new();
    for run in runs(times, part, midnights) {
        let mut start = run.start;
        // A day of 8640 rows becomes nine groups of 960: the same cuts every day, and an hour lies in few of them.
        let most = if midnights.is_empty() {
            MAX_GROUP_ROWS
        } else {
            run.len().div_ceil(run.len().div_ceil(MAX_GROUP_ROWS))
        };
        while start < run.end {
            let mut end = run.end.min(start + most);
            while end - start > 1 && texts.of_rows(start..end) > MAX_GROUP_BYTES {
                end = start + (end - start) / 2;
            }
            plan.push(GroupPlan { rows: start..end, compact });
            start = end;
        }
    }
    plan
}

/// Ranges of rows that no group may leave: months where the series is sparse, days where it is not.
fn runs(times: &[i64], part: Part, midnights: &[i64]) -> Vec<Range<usize>> {
    let mut days: Vec<(i64, Range<usize>)> = Vec::new();
    let mut start = 0;
    while start < times.len() {
        let day = Timestamp(times[start]).utc_day();
        let next = midnights.partition_point(|midnight| *midnight <= times[start]);
        let end = times[start..].partition_point(|time| {
            if midnights.is_empty() {
                Timestamp(*time).utc_day() == day
            } else {
                midnights.get(next).is_none_or(|midnight| time < midnight)
            }
        });
        days.push((month_of(day), start..start + end));
        start += end;
    }
    let mut runs = Vec::new();
    for month in days.chunk_by(|a, b| a.0 == b.0) {
        if part == Part::Whole && month.iter().all(|(_, rows)| rows.len() < SPARSE_DAY_ROWS) {
            runs.push(month[0].1.start..month[month.len() - 1].1.end);
        } else {
            runs.extend(month.iter().map(|(_, rows)| rows.clone()));
        }
    }
    runs
}

/// Months since year 0 of the proleptic Gregorian calendar, for a day since the Unix epoch.
fn month_of(day: i32) -> i64 {
    // Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: eras of 400 years that begin in March.
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    (era * 400 + year_of_era) * 12 + (5 * day_of_year + 2) / 153
}

/// Running total of the bytes of text before each row; empty if the rows hold no text.
struct TextBytes(Vec<usize>);

impl TextBytes {
    fn of(rows: &SeriesRows) -> Self {
        let mut before = Vec::new();
        for (_, column) in &rows.columns {
            let Values::String(texts) = &column.values else { continue };
            before.resize(rows.times.len() + 1, 0);
            for (i, text) in texts.iter().enumerate() {
                // A few bytes for the length.
                before[column.row(i) + 1] += text.len() + 4;
            }
        }
        let mut total = 0;
        for bytes in &mut before {
            total += *bytes;
            *bytes = total;
        }
        Self(before)
    }

    fn of_rows(&self, rows: Range<usize>) -> usize {
        if self.0.is_empty() { 0 } else { self.0[rows.end] - self.0[rows.start] }
    }
}

/// The part of a column that lies in one group.
#[derive(Debug, Clone)]
pub(crate) struct ColumnPart<'a> {
    /// Rows of the group that have a value, counted from its start; none if all have.
    pub positions: Option<Vec<u32>>,
    pub values: &'a Values,
    pub range: Range<usize>,
}

/// Cuts `rows` out of a column; none if no value lies there.
pub(crate) fn part<'a>(column: &'a Column, rows: &Range<usize>) -> Option<ColumnPart<'a>> {
    let (range, positions) = match &column.presence {
        Presence::All => (rows.clone(), None),
        Presence::Rows(present) => {
            let start = present.partition_point(|row| (*row as usize) < rows.start);
            let end = start + present[start..].partition_point(|row| (*row as usize) < rows.end);
            let positions = present[start..end].iter().map(|row| row - rows.start as u32).collect();
            (start..end, (end - start < rows.len()).then_some(positions))
        }
    };
    (!range.is_empty()).then_some(ColumnPart { positions, values: &column.values, range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FieldId;
    use std::sync::Arc;

    fn rows_at(times: Vec<i64>) -> SeriesRows {
        let values = Values::Float(vec![1.0; times.len()]);
        SeriesRows { times, columns: vec![(FieldId(1), Column { presence: Presence::All, values })] }
    }

    fn check(times: Vec<i64>, expected: &[(Range<usize>, bool)]) {
        let found = groups(&rows_at(times), Part::Whole, &[]);
        let found: Vec<_> = found.into_iter().map(|g| (g.rows, g.compact)).collect();
        assert_eq!(found, expected);
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_day_of_ten_seconds_is_cut_at_1024_rows_and_at_midnight() {
        let times = (0..8642).map(|i| i * 10 * SECOND).collect();
        let mut expected: Vec<_> = (0..8).map(|g| (g * 1024..(g + 1) * 1024, false)).collect();
        expected.push((8192..8640, false));
        expected.push((8640..8642, false));
        check(times, &expected);
    }

    #[test]
    fn midnights_given_cut_the_groups_and_a_day_is_divided_evenly() {
        let midnights = [-7200 * SECOND, 79_200 * SECOND, 165_600 * SECOND];
        let rows = rows_at((0..8640 + 720).map(|i| i * 10 * SECOND).collect());
        let plan = groups(&rows, Part::Whole, &midnights);
        let lens: Vec<usize> = plan.iter().map(|group| group.rows.len()).collect();
        assert_eq!(lens, [[990; 8].as_slice(), &[720; 2]].concat());
        let few = rows_at((0..60).map(|i| i * 3600 * SECOND).collect());
        assert_eq!(groups(&few, Part::Whole, &midnights), [GroupPlan { rows: 0..60, compact: true }]);
        let cut: Vec<_> = groups(&few, Part::OfMany, &midnights).into_iter().map(|g| g.rows).collect();
        assert_eq!(cut, [0..22, 22..46, 46..60]);
    }

    #[test]
    fn a_sparse_series_spans_days_of_one_month() {
        // Every quarter of an hour from 30 January 1970: 96 rows a day.
        let start = 29 * Timestamp::DAY_NS;
        let times = (0..96 * 4).map(|i| start + i * 900 * SECOND).collect();
        check(times, &[(0..192, false), (192..384, false)]);
    }

    #[test]
    fn a_few_rows_are_compact_one_group_a_month() {
        check(vec![-1, 0, 5 * Timestamp::DAY_NS], &[(0..1, true), (1..3, true)]);
        check((0..63).collect(), &[(0..63, true)]);
        check((0..64).collect(), &[(0..64, false)]);
        check(vec![], &[]);
    }

    #[test]
    fn long_texts_make_short_groups() {
        let text: Arc<str> = "x".repeat(64 * 1024).into();
        let values = Values::String(vec![text; 100]);
        let rows = SeriesRows {
            times: (0..100).collect(),
            columns: vec![(FieldId(1), Column { presence: Presence::All, values })],
        };
        let plan = groups(&rows, Part::Whole, &[]);
        assert!(plan.iter().all(|g| !g.compact && g.rows.len() * 64 * 1024 <= MAX_GROUP_BYTES), "{plan:?}");
        assert_eq!(plan.iter().map(|g| g.rows.len()).sum::<usize>(), 100);
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (last_of_month, days) in [(30, 1), (58, 1), (-1, 1), (789, 1), (11_016, 1)] {
            assert_eq!(month_of(last_of_month) + 1, month_of(last_of_month + days), "{last_of_month}");
            assert_eq!(month_of(last_of_month), month_of(last_of_month - 1));
        }
        // 29 February 2000 belongs to February.
        assert_eq!(month_of(11_016), month_of(11_015));
        assert_eq!(month_of(106_751), 2262 * 12 + 1);
    }

    #[test]
    fn a_part_of_a_column_counts_its_rows_from_the_group() {
        let column =
            Column { presence: Presence::Rows(vec![1, 5, 6, 9]), values: Values::Integer(vec![1, 2, 3, 4]) };
        let found = part(&column, &(5..9)).unwrap();
        assert_eq!((found.positions, found.range), (Some(vec![0, 1]), 1..3));
        assert_eq!(part(&column, &(5..7)).unwrap().positions, None);
        assert!(part(&column, &(2..5)).is_none());
    }
}
