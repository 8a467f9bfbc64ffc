//! Where a field goes: a line through it, its usual day, week or year, and the same times a year ago.
//!
//! The inputs are the engine's own: means of hours for the usual day, means of days for all else; of a counter its growth in
//! them. A bucket that the range cuts, or that is covered by less than [`TrendRequest::least_coverage`], is left out and
//! counted: nothing is made up where data are missing.
//!
//! Limits: [`MOST_DAYS`] days, [`MOST_SERIES`] series.

use crate::energy::number;
use crate::series::{Selection, Tags, keys, lost_of, times};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::trend::{Comparison, Line, Season, SeasonalMean, TrendError, compare, line, seasonal};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, Function, QueryControl, QueryError, QueryResult, Shape, Zone,
};
use wattlog_model::{FieldKind, FieldType, Timestamp, Unit};

/// Most days of a range: twenty years.
pub const MOST_DAYS: i64 = 7320;
/// Most series of an answer.
pub const MOST_SERIES: usize = 50;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendRequest {
    /// Which series.
    pub selection: Selection,
    /// Their field.
    pub field: String,
    /// Which points.
    pub range: Range<i64>,
    /// What is compared with what.
    pub season: Season,
    /// Whose hours, days and years.
    pub zone: Zone,
    /// Longest time between two points that counts as covered.
    pub max_gap_ns: i64,
    /// Buckets with less coverage are left out, 0..=1.
    pub least_coverage: f64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendAnswer {
    /// What the inputs are of each bucket: `mean`, or `increase` of a counter.
    pub function: Function,
    /// Unit of the field.
    pub unit: Option<Unit>,
    /// The same times of the year before, by the calendar of the zone.
    pub year_before: Range<i64>,
    /// By rising tags.
    pub series: Vec<SeriesTrend>,
    /// Times of which something cannot be read.
    pub lost: Vec<Range<i64>>,
}

/// Where one series goes.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesTrend {
    /// Its tags.
    pub tags: Tags,
    /// Line through its days; none with fewer than two.
    pub line: Option<Line>,
    /// What the line rests on.
    pub days: Inputs,
    /// Means by place of the season.
    pub seasonal: Vec<SeasonalMean>,
    /// What they rest on.
    pub seasonal_inputs: Inputs,
    /// This range, if it has points.
    pub this: Option<Figure>,
    /// The same times of the year before, if they have points.
    pub before: Option<Figure>,
    /// Both together.
    pub comparison: Option<Comparison>,
}

/// Buckets that something rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Whole buckets of the range.
    pub expected: u64,
    /// Those that were taken.
    pub used: u64,
    /// Those that have points but too little coverage.
    pub left_out: u64,
}

/// A range as one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Mean, or growth.
    pub value: f64,
    /// Points it rests on.
    pub points: u64,
    /// Share of the range that has data.
    pub coverage: f64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrendRefused {
    /// The points could not be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// They are no numbers.
    #[error(transparent)]
    Trend(#[from] TrendError),
    /// No such measurement.
    #[error("measurement not found: {0:?}")]
    Measurement(String),
    /// A field that is not there, or holds no numbers.
    #[error("field: {field:?} {problem}")]
    Field {
        /// As it was asked for.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A range that is too long, or has no year before it.
    #[error("start: {0}")]
    Range(&'static str),
    /// Too many series.
    #[error("{found} series, at most {MOST_SERIES} are told at a time: name a device, or a tag")]
    Series {
        /// How many there are.
        found: usize,
    },
}

/// Answers `request`.
///
/// # Errors
/// See [`TrendRefused`].
pub fn answer(
    engine: &Engine,
    request: &TrendRequest,
    control: &QueryControl,
) -> Result<TrendAnswer, TrendRefused> {
    let range = &request.range;
    if range.start >= range.end {
        return Err(QueryError::EmptyRange.into());
    }
    if range.end.saturating_sub(range.start) / Timestamp::DAY_NS > MOST_DAYS {
        return Err(TrendRefused::Range("at most 7320 days before end"));
    }
    let unknown = || TrendRefused::Measurement(request.selection.measurement.clone());
    let info = request.selection.info(engine)?.ok_or_else(unknown)?;
    let bad = |problem| TrendRefused::Field { field: request.field.clone(), problem };
    let field = info.fields.iter().find(|field| field.name == request.field);
    let field = field.ok_or_else(|| bad("is no field of the measurement"))?;
    if matches!(field.field_type, FieldType::Boolean | FieldType::String) {
        return Err(bad("holds no numbers: name a field that does"));
    }
    let function = if field.kind == FieldKind::Counter { Function::Increase } else { Function::Mean };
    let year_before = year_before(range, &request.zone)
        .ok_or(TrendRefused::Range("there must be a year before it (1678 to 2261)"))?;
    let mut asking = Asking { engine, request, control, function, keys: keys(&info), lost: Vec::new() };
    let days = asking.buckets(Every::Days(1))?;
    if days.len() > MOST_SERIES {
        return Err(TrendRefused::Series { found: days.len() });
    }
    let hours = match request.season {
        Season::HourOfDay => Some(asking.buckets(Every::Nanos(HOUR_NS))?),
        Season::DayOfWeek | Season::MonthOfYear => None,
    };
    let this = asking.figures(range)?;
    let before = asking.figures(&year_before)?;
    let ranges = (instants(range), instants(&year_before));
    let mut series = Vec::new();
    for (tags, days) in &days {
        let seasonal_of = match &hours {
            Some(hours) => hours.get(tags),
            None => Some(days),
        };
        let (this, before) = (this.get(tags).copied(), before.get(tags).copied());
        let value = |figure: Option<Figure>| figure.map(|figure| figure.value);
        series.push(SeriesTrend {
            tags: tags.clone(),
            line: line(&days.middles())?,
            days: days.inputs,
            seasonal: match seasonal_of {
                Some(found) => seasonal(&found.starts(), request.season, request.zone.time_zone())?,
                None => Vec::new(),
            },
            seasonal_inputs: seasonal_of.map(|found| found.inputs).unwrap_or_default(),
            this,
            before,
            comparison: compare(value(this), value(before), &ranges),
        });
    }
    Ok(TrendAnswer { function, unit: field.unit.clone(), year_before, series, lost: asking.lost })
}

const HOUR_NS: u64 = 3_600_000_000_000;

fn instants(range: &Range<i64>) -> Range<Timestamp> {
    Timestamp(range.start)..Timestamp(range.end)
}

/// Where the clock of the zone showed the same a year before; 28 February for 29 February.
fn year_before(range: &Range<i64>, zone: &Zone) -> Option<Range<i64>> {
    let earlier = |ns: i64| {
        let shown = zone.time_zone().to_datetime(jiff::Timestamp::from_nanosecond(i128::from(ns)).ok()?);
        let shown = shown.checked_sub(jiff::Span::new().years(1)).ok()?;
        i64::try_from(zone.time_zone().to_timestamp(shown).ok()?.as_nanosecond()).ok()
    };
    let before = earlier(range.start)?..earlier(range.end)?;
    (before.start < before.end).then_some(before)
}

struct Asking<'a> {
    engine: &'a Engine,
    request: &'a TrendRequest,
    control: &'a QueryControl,
    function: Function,
    keys: Vec<String>,
    lost: Vec<Range<i64>>,
}

/// Buckets of one series that are taken.
#[derive(Debug, Default)]
struct Found {
    values: Vec<(Range<i64>, f64)>,
    inputs: Inputs,
}

impl Found {
    fn starts(&self) -> Vec<(Timestamp, f64)> {
        self.values.iter().map(|(bucket, value)| (Timestamp(bucket.start), *value)).collect()
    }

    fn middles(&self) -> Vec<(Timestamp, f64)> {
        let middle = |bucket: &Range<i64>| Timestamp(bucket.start.midpoint(bucket.end));
        self.values.iter().map(|(bucket, value)| (middle(bucket), *value)).collect()
    }
}

impl Asking<'_> {
    /// Whole buckets by series.
    fn buckets(&mut self, every: Every) -> Result<BTreeMap<Tags, Found>, TrendRefused> {
        let range = &self.request.range;
        let shape = self.shape(Some(every), vec![self.function, Function::Coverage]);
        let buckets = Buckets::new(&shape, range.clone()).ok_or(QueryError::BadBucket)?;
        let is_whole = |bucket: &Range<i64>| range.start <= bucket.start && bucket.end <= range.end;
        let (mut expected, mut at) = (0, range.start);
        while at < range.end {
            let bucket = buckets.of(at);
            expected += u64::from(is_whole(&bucket));
            at = bucket.end;
        }
        let result = self.ask(range, shape)?;
        let mut all = BTreeMap::new();
        for series in &result.series {
            let column = |function: Function| {
                series.column(&format!("{}_{function}", self.request.field)).map(|column| &column.values)
            };
            let mut found = Found { inputs: Inputs { expected, ..Inputs::default() }, ..Found::default() };
            for (row, time) in times(series).enumerate() {
                let bucket = buckets.of(time);
                let value = |function| column(function).and_then(|values| number(values, row));
                let Some(value_of) = value(self.function).filter(|value| value.is_finite()) else { continue };
                if !is_whole(&bucket) {
                    continue;
                }
                if value(Function::Coverage).unwrap_or_default() < self.request.least_coverage {
                    found.inputs.left_out += 1;
                    continue;
                }
                found.inputs.used += 1;
                found.values.push((bucket, value_of));
            }
            all.insert(series.tags.clone(), found);
        }
        Ok(all)
    }

    /// A range as one number, by series.
    fn figures(&mut self, range: &Range<i64>) -> Result<BTreeMap<Tags, Figure>, TrendRefused> {
        let shape = self.shape(None, vec![self.function, Function::Count, Function::Coverage]);
        let result = self.ask(range, shape)?;
        let mut all = BTreeMap::new();
        for series in &result.series {
            let value = |function: Function| {
                let column = series.column(&format!("{}_{function}", self.request.field))?;
                number(&column.values, 0)
            };
            if let Some(found) = value(self.function).filter(|value| value.is_finite()) {
                let points = value(Function::Count).unwrap_or_default() as u64;
                let coverage = value(Function::Coverage).unwrap_or_default();
                all.insert(series.tags.clone(), Figure { value: found, points, coverage });
            }
        }
        Ok(all)
    }

    fn shape(&self, every: Option<Every>, functions: Vec<Function>) -> Aggregate {
        let Self { request, .. } = self;
        let (zone, max_gap_ns) = (request.zone.clone(), request.max_gap_ns);
        Aggregate { functions, every, zone, max_gap_ns, ..Aggregate::default() }
    }

    fn ask(&mut self, range: &Range<i64>, shape: Aggregate) -> Result<QueryResult, TrendRefused> {
        let Self { request, .. } = self;
        let fields = [request.field.as_str()];
        let question = request.selection.request(&fields, range, Shape::Aggregate(shape), &self.keys);
        let result = self.engine.query(&question, self.control)?;
        let lost = lost_of(&result);
        self.lost.extend(lost.into_iter().map(|lost| lost.start.max(range.start)..lost.end.min(range.end)));
        self.lost.sort_by_key(|lost| lost.start);
        self.lost.dedup();
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_before_is_found_by_the_calendar() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
        let found = |start: &str, end: &str| year_before(&(at(start)..at(end)), &warsaw);
        // March, whose clock goes forward on another day each year.
        assert_eq!(
            found("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
            Some(at("2025-02-28T23:00:00Z")..at("2025-03-31T22:00:00Z"))
        );
        assert_eq!(
            found("2026-03-29T12:00:00Z", "2026-03-29T13:00:00Z"),
            Some(at("2025-03-29T13:00:00Z")..at("2025-03-29T14:00:00Z"))
        );
        // A leap day is compared with the day before it.
        assert_eq!(
            found("2024-02-28T23:00:00Z", "2024-02-29T12:00:00Z"),
            Some(at("2023-02-27T23:00:00Z")..at("2023-02-28T12:00:00Z"))
        );
        assert_eq!(year_before(&(i64::MIN..0), &warsaw), None);
    }
}
