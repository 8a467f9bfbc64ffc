//! Where a field goes: a line through it, its usual day, week or year, and the same times a year ago.
//!
//! The inputs are the engine's own: means of hours for the usual day, means of days for all else; of a counter its growth in
//! them. A bucket that the range cuts, or that is covered by less than [`TrendRequest::least_coverage`], is left out and
//! counted: nothing is made up where data are missing. Coverage is that of the device: of its sets of tags each is asked by
//! itself, and their shares are added up, to 1 at most.
//!
//! Limits: [`MOST_DAYS`] days, [`MOST_SERIES`] series.

use crate::energy::number;
use crate::series::{Selection, Tags, keys, lost_of, times};
use jiff::tz::AmbiguousOffset;
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::trend::{Comparison, Line, Season, SeasonalMean, TrendError, compare, line, seasonal};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, Function, GroupBy, QueryControl, QueryError, QueryRequest, QueryResult, Shape,
    Zone,
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
    /// The same times of the year before, by the calendar of the zone; none if its clock did not show them in that order.
    pub year_before: Option<Range<i64>>,
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
    let year_before = (year_before.start < year_before.end).then_some(year_before);
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
    let before = match &year_before {
        Some(before) => asking.figures(before)?,
        None => BTreeMap::new(),
    };
    let ranges = year_before.as_ref().map(|before| (instants(range), instants(before)));
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
            comparison: ranges.as_ref().and_then(|ranges| compare(value(this), value(before), ranges)),
        });
    }
    Ok(TrendAnswer { function, unit: field.unit.clone(), year_before, series, lost: asking.lost })
}

const HOUR_NS: u64 = 3_600_000_000_000;

fn instants(range: &Range<i64>) -> Range<Timestamp> {
    Timestamp(range.start)..Timestamp(range.end)
}

/// Where the clock of the zone showed the same a year before; 28 February for 29 February. The end goes by the last instant,
/// so a day stays whole. What the clock left out is where it went forward, which may leave nothing.
fn year_before(range: &Range<i64>, zone: &Zone) -> Option<Range<i64>> {
    let zone = zone.time_zone();
    let earlier = |ns: i64, is_end: bool| {
        let shown = zone.to_datetime(jiff::Timestamp::from_nanosecond(i128::from(ns)).ok()?);
        let shown = zone.to_ambiguous_timestamp(shown.checked_sub(jiff::Span::new().years(1)).ok()?);
        let (first, second) = (shown.earlier().ok()?, shown.later().ok()?);
        let (time, after) = match shown.offset() {
            AmbiguousOffset::Gap { .. } => (zone.following(first).next()?.timestamp(), 0),
            AmbiguousOffset::Fold { .. } if is_end => (second, 1),
            _ => (first, i64::from(is_end)),
        };
        i64::try_from(time.as_nanosecond()).ok()?.checked_add(after)
    };
    Some(earlier(range.start, false)?..earlier(range.end.checked_sub(1)?, true)?)
}

struct Asking<'a> {
    engine: &'a Engine,
    request: &'a TrendRequest,
    control: &'a QueryControl,
    function: Function,
    keys: Vec<String>,
    lost: Vec<Range<i64>>,
}

/// Share that has data, by series and time of a bucket.
type Covered = BTreeMap<Tags, BTreeMap<i64, f64>>;

fn share(covered: Option<&BTreeMap<i64, f64>>, time: i64) -> f64 {
    covered.and_then(|shares| shares.get(&time)).map_or(0.0, |share| share.min(1.0))
}

/// Those that meet the range, cut by it: a neighbour that cannot be read may lie beside it.
fn within(lost: Vec<Range<i64>>, range: &Range<i64>) -> impl Iterator<Item = Range<i64>> {
    let lost = lost.into_iter().filter(|lost| lost.start < range.end && range.start < lost.end);
    lost.map(|lost| lost.start.max(range.start)..lost.end.min(range.end))
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
        let shape = self.shape(Some(every), vec![self.function]);
        let buckets = Buckets::new(&shape, range.clone()).ok_or(QueryError::BadBucket)?;
        let is_whole = |bucket: &Range<i64>| range.start <= bucket.start && bucket.end <= range.end;
        let (mut expected, mut at) = (0, range.start);
        while at < range.end {
            let bucket = buckets.of(at);
            expected += u64::from(is_whole(&bucket));
            at = bucket.end;
        }
        let result = self.ask(range, shape, None)?;
        let covered = self.coverage(range, Some(every))?;
        let mut all = BTreeMap::new();
        for series in &result.series {
            let column = series.column(&self.column(self.function)).map(|column| &column.values);
            let covered = covered.get(&series.tags);
            let mut found = Found { inputs: Inputs { expected, ..Inputs::default() }, ..Found::default() };
            for (row, time) in times(series).enumerate() {
                let bucket = buckets.of(time);
                let value = column.and_then(|values| number(values, row));
                let Some(value) = value.filter(|value| value.is_finite()) else { continue };
                if !is_whole(&bucket) {
                    continue;
                }
                if share(covered, time) < self.request.least_coverage {
                    found.inputs.left_out += 1;
                    continue;
                }
                found.inputs.used += 1;
                found.values.push((bucket, value));
            }
            all.insert(series.tags.clone(), found);
        }
        Ok(all)
    }

    /// A range as one number, by series.
    fn figures(&mut self, range: &Range<i64>) -> Result<BTreeMap<Tags, Figure>, TrendRefused> {
        let shape = self.shape(None, vec![self.function, Function::Count]);
        let result = self.ask(range, shape, None)?;
        let covered = self.coverage(range, None)?;
        let mut all = BTreeMap::new();
        for series in &result.series {
            let value = |function: Function| {
                let column = series.column(&self.column(function))?;
                number(&column.values, 0)
            };
            if let Some(found) = value(self.function).filter(|value| value.is_finite()) {
                let points = value(Function::Count).unwrap_or_default() as u64;
                let at = times(series).next().unwrap_or(range.start);
                let coverage = share(covered.get(&series.tags), at);
                all.insert(series.tags.clone(), Figure { value: found, points, coverage });
            }
        }
        Ok(all)
    }

    /// Share of each bucket that has data, by series and the bucket's time. The engine means a bucket of all the sets of tags
    /// that it is asked for together: of a device that was moved each had but its own time.
    fn coverage(&mut self, range: &Range<i64>, every: Option<Every>) -> Result<Covered, TrendRefused> {
        let shape = self.shape(every, vec![Function::Coverage]);
        let result = self.ask(range, shape, Some(GroupBy::All))?;
        let mut all = Covered::new();
        for series in &result.series {
            let Some(column) = series.column(&self.column(Function::Coverage)) else { continue };
            let value_of = |key: &String| {
                let tag = series.tags.iter().find(|(known, _)| known == key);
                (key.clone(), tag.map_or_else(String::new, |(_, value)| value.clone()))
            };
            let shares = all.entry(self.keys.iter().map(value_of).collect()).or_default();
            for (row, time) in times(series).enumerate() {
                *shares.entry(time).or_default() += number(&column.values, row).unwrap_or_default();
            }
        }
        Ok(all)
    }

    fn column(&self, function: Function) -> String {
        format!("{}_{function}", self.request.field)
    }

    fn shape(&self, every: Option<Every>, functions: Vec<Function>) -> Aggregate {
        let Self { request, .. } = self;
        let (zone, max_gap_ns) = (request.zone.clone(), request.max_gap_ns);
        Aggregate { functions, every, zone, max_gap_ns, ..Aggregate::default() }
    }

    /// Told apart by the keys, unless `group_by` says how.
    fn ask(
        &mut self,
        range: &Range<i64>,
        shape: Aggregate,
        group_by: Option<GroupBy>,
    ) -> Result<QueryResult, TrendRefused> {
        let Self { request, .. } = self;
        let fields = [request.field.as_str()];
        let question = request.selection.request(&fields, range, Shape::Aggregate(shape), &self.keys);
        let group_by = group_by.unwrap_or_else(|| question.group_by.clone());
        let result = self.engine.query(&QueryRequest { group_by, ..question }, self.control)?;
        self.lost.extend(within(lost_of(&result), range));
        self.lost.sort_by_key(|lost| lost.start);
        self.lost.dedup();
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
