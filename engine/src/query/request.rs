//! What a caller asks: names, a half-open range of time, a shape, and how much it may cost.

use super::condition::Condition;
use super::expression::Computed;
use super::memory::QueryCharge;
use super::zone::Zone;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wattlog_model::Timestamp;

/// One question about one measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    /// Name of the database.
    pub database: String,
    /// Retention policy; the default one if none is named.
    pub retention_policy: Option<String>,
    /// Name of the measurement.
    pub measurement: String,
    /// Fields by name, in the order of the answer's columns; all, in the order of their first write, if none.
    pub fields: Option<Vec<String>>,
    /// Computed columns, after those of the fields; if there are any and no fields are named, only these.
    pub computed: Vec<Computed>,
    /// First instant that counts.
    pub start: Timestamp,
    /// First instant that does not count any more.
    pub end: Timestamp,
    /// Conditions on tags; a series satisfies all of them.
    pub tags: Vec<TagFilter>,
    /// What a row must satisfy to count; all count if there is none.
    pub condition: Option<Condition>,
    /// Points, aggregates or newest values.
    pub shape: Shape,
    /// What is then made of the columns, one after the other.
    pub steps: Vec<Step>,
    /// Which series of the store become one series of the answer.
    pub group_by: GroupBy,
    /// Order of the rows of each series of the answer.
    pub order: Order,
    /// Most rows of each series of the answer.
    pub limit: Option<usize>,
}

impl QueryRequest {
    /// Asks for all points of a measurement in `start..end`.
    pub fn raw(database: &str, measurement: &str, start: Timestamp, end: Timestamp) -> Self {
        Self {
            database: database.to_owned(),
            retention_policy: None,
            measurement: measurement.to_owned(),
            fields: None,
            computed: Vec::new(),
            start,
            end,
            tags: Vec::new(),
            condition: None,
            shape: Shape::Raw,
            steps: Vec::new(),
            group_by: GroupBy::Default,
            order: Order::Ascending,
            limit: None,
        }
    }
}

/// A condition on one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// Key of the tag.
    pub key: String,
    /// What its value must be.
    pub predicate: TagPredicate,
}

/// What the value of a tag must be. A series without the tag has the empty value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagPredicate {
    /// One of these.
    In(Vec<String>),
    /// None of these.
    NotIn(Vec<String>),
    /// A text in which this regular expression is found (not anchored).
    Matches(String),
    /// A text in which it is not found.
    NotMatches(String),
}

/// What is made of the points of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// The points as they are: one row per time.
    Raw,
    /// One row per bucket.
    Aggregate(Aggregate),
    /// Points that draw the same line as all of them on so many pixels from `start` to `end`: of each pixel the first,
    /// the last, a least and a greatest of each field. Booleans and texts have no least and no greatest.
    Pixels(u32),
    /// One row per series: the newest value of each field.
    Last,
}

/// Functions, and the buckets that they are computed for.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Columns per field, in this order.
    pub functions: Vec<Function>,
    /// Length of a bucket; without it the whole range is one bucket, whose time is its start.
    pub every: Option<Every>,
    /// How much later than the clock or calendar says each bucket begins, in nanoseconds; shorter than a bucket.
    pub offset_ns: i64,
    /// Whose clock and calendar that is.
    pub zone: Zone,
    /// What stands where there is no value.
    pub fill: Fill,
    /// Longest time between two points that counts as covered, in nanoseconds. As far beyond the range neighbours are
    /// looked for.
    pub max_gap_ns: i64,
    /// What integrals and rates are counted in.
    pub unit: OutputUnit,
    /// The price that costs are computed with.
    pub price: Option<PriceSource>,
}

/// Where a price is found: one field of one series, of the same database. It holds from each of its points to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSource {
    /// Name of the measurement.
    pub measurement: String,
    /// Name of the field.
    pub field: String,
    /// Conditions on tags; one series must satisfy them all.
    pub tags: Vec<TagFilter>,
    /// Longest time that a price holds, in nanoseconds.
    pub max_age_ns: i64,
}

impl PriceSource {
    /// [`PriceSource::max_age_ns`] unless another is asked for: a day.
    pub const DEFAULT_MAX_AGE_NS: i64 = 86_400_000_000_000;
}

impl Aggregate {
    /// [`Aggregate::max_gap_ns`] unless another is asked for: an hour.
    pub const DEFAULT_MAX_GAP_NS: i64 = 3_600_000_000_000;

    /// How far beyond the range rows are looked at, in nanoseconds.
    pub(super) fn margin_ns(&self) -> i64 {
        let needed = self.functions.iter().any(|function| function.needs_neighbours());
        if needed { self.max_gap_ns } else { 0 }
    }
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            functions: Vec::new(),
            every: None,
            offset_ns: 0,
            zone: Zone::UTC,
            fill: Fill::None,
            max_gap_ns: Self::DEFAULT_MAX_GAP_NS,
            unit: OutputUnit::default(),
            price: None,
        }
    }
}

/// What integrals and rates are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputUnit {
    /// Units of the field times, or over, a second.
    Second,
    /// Times, or over, a minute.
    Minute,
    /// Times, or over, an hour: `W` becomes `Wh`, a counter of `kWh` has a rate in `kW`.
    #[default]
    Hour,
    /// Times, or over, a day.
    Day,
    /// Watt hours, for integrals of fields in `W`, `kW` or `MW`.
    WattHour,
    /// Kilowatt hours, likewise.
    KilowattHour,
    /// Megawatt hours, likewise.
    MegawattHour,
}

/// What stands in a bucket, or a column of it, that has no value. A series without any value in the range has no rows
/// all the same.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fill {
    /// Only buckets with a value have rows.
    #[default]
    None,
    /// All buckets of the range have rows; what is missing is missing.
    Null,
    /// The value of the bucket before it within the range.
    Previous,
    /// What a straight line between the values on either side says; numbers only.
    Linear,
    /// This number; numbers only.
    Number(f64),
}

/// Length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Nanoseconds by the local clock, counted from 1970-01-01T00:00 local.
    Nanos(u64),
    /// Days, counted from 1970-01-01.
    Days(u32),
    /// Weeks from Monday, counted from the one of 1970-01-01.
    Weeks(u32),
    /// Months, counted from January 1970.
    Months(u32),
    /// So many equal parts of the range asked for.
    Parts(u32),
}

impl From<Duration> for Every {
    /// Beyond 584 years: the longest there is, which no query takes.
    fn from(length: Duration) -> Self {
        Self::Nanos(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Shape {
    /// Functions over buckets of so many nanoseconds in UTC, or over the whole range.
    pub fn aggregate(functions: Vec<Function>, every: Option<Duration>) -> Self {
        let every = every.map(Every::from);
        Self::Aggregate(Aggregate { functions, every, ..Aggregate::default() })
    }
}

/// What is computed from the values of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Function {
    /// Number of values.
    Count,
    /// Their sum, exact for decimals.
    Sum,
    /// Sum over count.
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The oldest value.
    First,
    /// The newest value.
    Last,
    /// Greatest less least value.
    Spread,
    /// Standard deviation of a sample.
    Stddev,
    /// The middle value, or the mean of the two.
    Median,
    /// The value below which a share of the values lies, in millionths, between neighbours by a straight line.
    Quantile(u32),
    /// The most frequent value, the least of several.
    Mode,
    /// Number of different values.
    Distinct,
    /// Value times time: power to energy.
    Integral,
    /// Mean weighted by time.
    Twa,
    /// Growth of a counter.
    Increase,
    /// Growth of a counter over time.
    Rate,
    /// Share of the bucket that has data.
    Coverage,
    /// Power times a price that holds from point to point, over time.
    Cost,
    /// Share of the covered time that has a price.
    Priced,
}

impl Function {
    /// All functions that need nothing but the field; of the quantiles one.
    pub const ALL: [Self; 18] = [
        Self::Count,
        Self::Sum,
        Self::Mean,
        Self::Min,
        Self::Max,
        Self::First,
        Self::Last,
        Self::Spread,
        Self::Stddev,
        Self::Median,
        Self::Quantile(950_000),
        Self::Mode,
        Self::Distinct,
        Self::Integral,
        Self::Twa,
        Self::Increase,
        Self::Rate,
        Self::Coverage,
    ];

    /// Its name in requests and in column names; none for quantiles, whose name has a number.
    fn word(self) -> Option<&'static str> {
        Some(match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Spread => "spread",
            Self::Stddev => "stddev",
            Self::Median => "median",
            Self::Quantile(_) => return None,
            Self::Mode => "mode",
            Self::Distinct => "distinct",
            Self::Integral => "integral",
            Self::Twa => "twa",
            Self::Increase => "increase",
            Self::Rate => "rate",
            Self::Coverage => "coverage",
            Self::Cost => "cost",
            Self::Priced => "priced",
        })
    }

    /// True if it is defined for texts and booleans too.
    pub fn takes_any_type(self) -> bool {
        use Function::{Count, Coverage, Distinct, First, Last, Mode};
        matches!(self, Count | First | Last | Mode | Distinct | Coverage)
    }

    /// True if nothing has a value of it: no values are none, and that is not filled.
    pub(super) fn knows_nothing(self) -> bool {
        matches!(self, Self::Count | Self::Distinct | Self::Coverage)
    }

    /// True if it speaks of what lies between points.
    pub(super) fn needs_neighbours(self) -> bool {
        use Function::{Coverage, Increase, Integral, Rate, Twa};
        matches!(self, Integral | Twa | Increase | Rate | Coverage) || self.needs_price()
    }

    /// True if it joins a price.
    pub(super) fn needs_price(self) -> bool {
        matches!(self, Self::Cost | Self::Priced)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.word()) {
            (_, Some(word)) => f.write_str(word),
            (Self::Quantile(millionths), None) => {
                write!(f, "p{}", millionths / 10_000)?;
                match millionths % 10_000 {
                    0 => Ok(()),
                    part => write!(f, ".{}", format!("{part:04}").trim_end_matches('0')),
                }
            }
            (_, None) => Ok(()),
        }
    }
}

/// A word that names no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown function \"{0}\": use count, sum, mean, min, max, first, last, spread, stddev, median, p95 or quantile(0.95), \
     mode, distinct, integral, twa, increase, rate, coverage, cost or priced"
)]
pub struct UnknownFunction(pub String);

impl FromStr for Function {
    type Err = UnknownFunction;

    fn from_str(name: &str) -> Result<Self, UnknownFunction> {
        let unknown = || UnknownFunction(name.to_owned());
        let mut all = Self::ALL.into_iter().chain([Self::Cost, Self::Priced]);
        if let Some(function) = all.find(|f| f.word() == Some(name)) {
            return Ok(function);
        }
        // Shares have at most six places, percents four: what is asked for is what is computed.
        let quantile = |text: &str, places: usize, one: u32| {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if whole.is_empty() || whole.len() > 3 || part.len() > places || !digits(whole) || !digits(part) {
                return None;
            }
            let part = format!("{part:0<places$}");
            let millionths = whole.parse::<u32>().ok()? * one + part.parse::<u32>().ok()?;
            (millionths <= 1_000_000).then_some(Self::Quantile(millionths))
        };
        let share = name.strip_prefix("quantile(").and_then(|rest| rest.strip_suffix(')'));
        match (share, name.strip_prefix('p')) {
            (Some(share), _) => quantile(share.trim(), 6, 1_000_000).ok_or_else(unknown),
            (None, Some(percent)) => quantile(percent, 4, 10_000).ok_or_else(unknown),
            (None, None) => Err(unknown()),
        }
    }
}

/// A function over the columns of an answer. The value before another is the nearest earlier one that is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Each value less the one before it, over the time between them.
    Derivative {
        /// Time that the slope speaks of, in nanoseconds.
        unit_ns: i64,
        /// Leave out what falls.
        non_negative: bool,
    },
    /// Each value less the one before it.
    Difference {
        /// Leave out what falls.
        non_negative: bool,
    },
    /// All values up to here together.
    CumulativeSum,
    /// Mean of so many values up to here, from where there are so many.
    MovingAverage(u32),
    /// The greatest values; of equal ones the oldest.
    Top(u32),
    /// The least values; of equal ones the oldest.
    Bottom(u32),
    /// How many values are in each of some bins: one row per bin.
    Histogram(HistogramEdges),
}

/// Bins of a histogram. A bin holds its lower edge, the last one its upper edge too.
#[derive(Debug, Clone, PartialEq)]
pub enum HistogramEdges {
    /// So many of one width from the least to the greatest value; one if all values are equal.
    Equal(u32),
    /// Between neighbours of these; what lies outside is not counted.
    Given(Vec<f64>),
}

impl Step {
    /// Most steps of one query.
    pub const MAX_STEPS: usize = 8;
    /// Most values that a moving average is over.
    pub const MAX_WINDOW: u32 = 100_000;
    /// Most bins of a histogram.
    pub const MAX_BINS: u32 = 10_000;

    /// Its name in requests and in column names.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Derivative { non_negative: false, .. } => "derivative",
            Self::Derivative { non_negative: true, .. } => "non_negative_derivative",
            Self::Difference { non_negative: false } => "difference",
            Self::Difference { non_negative: true } => "non_negative_difference",
            Self::CumulativeSum => "cumulative_sum",
            Self::MovingAverage(_) => "moving_average",
            Self::Top(_) => "top",
            Self::Bottom(_) => "bottom",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which series of the store become one series of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// Points and newest values: each tag set by itself. Aggregates: all in one.
    #[default]
    Default,
    /// Each tag set by itself.
    All,
    /// Those with equal values of these tags; a missing tag has the empty value.
    Keys(Vec<String>),
}

/// Order of rows by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// What stops a query from outside.
#[derive(Debug, Clone, Default)]
pub struct QueryControl {
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// Set by whoever no longer wants the answer.
    pub cancel: CancelFlag,
    /// What it holds of the memory that queries share, until this and its copies are dropped.
    pub memory: QueryCharge,
}

/// A switch that ends a running query; clones share it.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Ends the queries that hold this flag, at their next block.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once [`CancelFlag::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one query may cost. Reaching a limit is an error that names it; nothing is cut off in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Most series of the store that are looked at.
    pub max_series: u64,
    /// Most buckets of the answer, over all of its series.
    pub max_buckets: u64,
    /// Most rows of the answer, over all of its series.
    pub max_points: u64,
    /// Most values decoded or copied.
    pub max_scanned: u64,
    /// Most bytes of memory for the rows or buckets in hand.
    pub max_bytes: u64,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            max_series: 100_000,
            max_buckets: 1_000_000,
            max_points: 10_000_000,
            max_scanned: 2_000_000_000,
            max_bytes: 512 << 20,
        }
    }
}
