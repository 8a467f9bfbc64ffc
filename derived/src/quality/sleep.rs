//! Inverters that live off their own PV: grid-only ones are silent from dusk to dawn, and nothing is missing then.
//!
//! Points tell which device is one: it has PV by day, no battery, and next to nothing around midnight. It sleeps where it gave
//! nothing, no light is expected, and PV was next to nothing before and after: who falls silent in the sun has a gap, and so has who
//! is silent in one night and not in others.

use super::checks::{dark, jiff_time};
use super::plant::{BATTERY, CHARGE, PLANT};
use super::{QualityRequest, checks};
use crate::energy::number;
use crate::series::{Rows, Tags, lost_of, times};
use std::ops::Range;
use wattlog_engine::Engine;
use wattlog_engine::query::{Aggregate, Every, Function, QueryControl, QueryError, Shape, Zone};
use wattlog_model::Timestamp;

/// A range may be shorter than a night: nights of so long a time before it are looked at too.
const BACK_NS: i64 = 7 * Timestamp::DAY_NS;
/// Of a longer range the last so many days tell.
const MOST_NS: i64 = 60 * Timestamp::DAY_NS;
/// Hours of the clock at which it is dark on any day of the year.
const NIGHT_HOURS: [i8; 3] = [23, 0, 1];
/// So many hours by day with points allow for one at night: a stray answer wakes nobody.
const STRAY: usize = 10;
/// Where PV is in the list of the plant's fields.
const PV: usize = 0;
/// PV is next to nothing up to this share of its greatest value.
const LOW_SHARE: f64 = 0.1;

/// Whether the device of these tags is silent at night by its nature.
pub(super) fn is_sleeper(
    engine: &Engine,
    request: &QualityRequest,
    tags: &Tags,
    control: &QueryControl,
) -> Result<bool, QueryError> {
    let Range { start, end } = request.range;
    let range = start.saturating_sub(BACK_NS).max(end.saturating_sub(MOST_NS))..end;
    let rule = Aggregate {
        functions: vec![Function::Count],
        every: Some(Every::Nanos(checks::HOUR_NS.unsigned_abs())),
        ..Aggregate::default()
    };
    let keys: Vec<String> = tags.iter().map(|(key, _)| key.clone()).collect();
    let question = request.selection.only(tags).request(&PLANT, &range, Shape::Aggregate(rule), &keys);
    let result = match engine.query(&question, control) {
        Err(QueryError::DatabaseNotFound(_)) => return Ok(false),
        asked => asked?,
    };
    // What cannot be read may tell of a battery.
    if !lost_of(&result).is_empty() {
        return Ok(false);
    }
    let (mut by_day, mut by_night) = (0, 0);
    for series in &result.series {
        let columns = PLANT.map(|name| series.column(&format!("{name}_count")).map(|column| &column.values));
        for (row, time) in times(series).enumerate() {
            let has = columns
                .map(|column| column.and_then(|values| number(values, row)).is_some_and(|count| count > 0.0));
            if has[BATTERY] || has[CHARGE] {
                return Ok(false);
            }
            let hour = request.home.time_zone().to_datetime(jiff_time(time)).hour();
            by_day += usize::from(checks::LIGHT_HOURS.contains(&hour) && has[PV]);
            by_night += usize::from(NIGHT_HOURS.contains(&hour) && has.contains(&true));
        }
    }
    Ok(by_day > 0 && by_night <= by_day / STRAY)
}

/// Where a sleeper of which these are the rows of [`PLANT`] gives nothing and need not.
pub(super) fn stretches(
    rows: &Rows,
    range: &Range<i64>,
    home: &Zone,
    interval_ns: i64,
) -> Vec<Range<Timestamp>> {
    let dark = dark(range, home);
    let pv: Vec<(Timestamp, f64)> = rows.points(PV);
    let peak = pv.iter().map(|(_, power)| *power).fold(0.0, f64::max);
    let low = (LOW_SHARE * peak).max(checks::NOISE_W);
    let is_low =
        |place: Option<usize>| place.and_then(|place| pv.get(place)).is_none_or(|(_, power)| *power <= low);
    let before = std::iter::once(None).chain(rows.times.iter().copied().map(Some));
    let after = rows.times.iter().copied().map(Some).chain(std::iter::once(None));
    let silence = before.zip(after).filter_map(|(before, after)| {
        // The next point is missed an interval after the last one.
        let start = before.map_or(range.start, |before| before.saturating_add(interval_ns));
        let end = after.unwrap_or(range.end);
        let is_long = end.saturating_sub(before.unwrap_or(range.start)) > checks::longest_gap_ns(interval_ns);
        let next = before.map_or(0, |before| pv.partition_point(|(time, _)| time.0 <= before));
        let is_dim = is_low(next.checked_sub(1)) && is_low(Some(next));
        let stretch = Timestamp(start)..Timestamp(end);
        let is_dark = dark.iter().any(|dark| dark.start <= stretch.start && stretch.end <= dark.end);
        (is_long && is_dim && is_dark && start < end).then_some(stretch)
    });
    silence.collect()
}
