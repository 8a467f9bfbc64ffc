//! Figures of the scorecard that the store tells by itself: what it holds, since when, and how much of the time the program ran.

use crate::handlers::disk_bytes;
use crate::held::{Held, Times};
use crate::store::SURVEY_TIME;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use wattlog_engine::query::{Aggregate, Function, QueryControl, QueryRequest, QueryResult, Shape};
use wattlog_engine::{Engine, Rule};
use wattlog_model::Timestamp;

/// What is asked of the store.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) database: String,
    pub(crate) now: Timestamp,
    /// For how long the program runs.
    pub(crate) uptime: Duration,
    /// Poll interval of each device that is configured.
    pub(crate) devices: BTreeMap<String, Duration>,
    /// Rated power of the inverters of which it is known, W.
    pub(crate) inverters_w: BTreeMap<String, f64>,
    /// Poll interval of the program's own figures.
    pub(crate) own_interval: Duration,
}

/// A share of a time, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) value: Result<f64, String>,
    pub(crate) range: Range<Timestamp>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) points: u64,
    pub(crate) values: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) overloaded: u64,
    /// Of all points, or why they are not known.
    pub(crate) times: Result<Times, String>,
    /// The shortest rule of retention that is below the goal, as a text.
    pub(crate) short_rule: Option<String>,
    pub(crate) uptime: Share,
    /// Length of the stretches that uptime is told by.
    pub(crate) stretch: Duration,
}

const MINUTE_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 24 * 60 * MINUTE_NS;
/// Points of the program itself are looked for in stretches of this length, or of three of its intervals if that is longer.
const UPTIME_STRETCH_NS: i64 = 5 * MINUTE_NS;
/// How far back the program's own points are looked at.
const UPTIME_NS: i64 = 30 * DAY_NS;
/// A stretch has so many of the program's own intervals: two points may be missed.
const POLLS: u32 = 3;
/// The plan asks for a year.
pub(crate) const YEAR_NS: i64 = 365 * DAY_NS;

const OWN: &str = "system_metrics";

impl Figures {
    /// Asks the store; what cannot be read is a reason in its place.
    pub(crate) fn of(engine: &Engine, asked: &Asked, control: &QueryControl) -> Self {
        let info = engine.storage();
        let rules = engine.retentions();
        let short = rules.iter().filter_map(|rule| match rule.rule {
            Rule::Keep { ns } if ns < YEAR_NS.unsigned_abs() => Some((ns, rule)),
            _ => None,
        });
        let short_rule = short.min_by_key(|(ns, _)| *ns).map(|(ns, rule)| {
            let of = rule.measurement.as_ref().map_or(String::new(), |name| format!(", measurement {name}"));
            format!(
                "points of database {}{of} are kept for {} days",
                rule.database,
                ns / DAY_NS.unsigned_abs()
            )
        });
        let stretch = stretch_of(asked.own_interval);
        let uptime = uptime(engine, asked, stretch, control);
        // Last, as it takes whatever time there is.
        let deadline = control.deadline.unwrap_or_else(|| Instant::now() + SURVEY_TIME);
        let times = Held::until(engine, deadline).all();
        Self {
            points: info.points,
            values: info.values,
            disk_bytes: disk_bytes(&info),
            overloaded: engine.metrics().overloaded,
            times,
            short_rule,
            uptime,
            stretch: Duration::from_nanos(stretch.unsigned_abs()),
        }
    }
}

/// The range from `back` before now, or from the first point on.
fn range_of(
    engine: &Engine,
    asked: &Asked,
    measurement: &str,
    back: i64,
) -> Result<Range<Timestamp>, String> {
    let info = engine.measurement(&asked.database, measurement).ok().flatten();
    let first =
        info.and_then(|info| info.first).ok_or_else(|| format!("no points of {measurement} are stored"))?;
    let start = Timestamp(asked.now.0.saturating_sub(back)).max(first);
    if start < asked.now {
        Ok(start..asked.now)
    } else {
        Err(format!("{measurement} has no points before now"))
    }
}

/// The first of these fields that the measurement has, or its first number.
fn field_of(engine: &Engine, asked: &Asked, measurement: &str) -> Result<String, String> {
    let info = engine.measurement(&asked.database, measurement).ok().flatten();
    let field = info.as_ref().and_then(super::sample::number_field);
    field.ok_or_else(|| format!("{measurement} has no field of numbers"))
}

/// One field of one measurement.
#[derive(Clone, Copy)]
struct Of<'a> {
    engine: &'a Engine,
    control: &'a QueryControl,
    database: &'a str,
    measurement: &'a str,
    field: &'a str,
}

impl Of<'_> {
    fn ask(self, range: &Range<Timestamp>, aggregate: Aggregate) -> Result<QueryResult, String> {
        let request = QueryRequest {
            fields: Some(vec![self.field.to_owned()]),
            shape: Shape::Aggregate(aggregate),
            ..QueryRequest::raw(self.database, self.measurement, range.start, range.end)
        };
        self.whole(&request)
    }

    fn whole(self, request: &QueryRequest) -> Result<QueryResult, String> {
        let answer = self.engine.query(request, self.control).map_err(|error| error.to_string())?;
        if answer.is_partial() { Err("a part of the store cannot be read".to_owned()) } else { Ok(answer) }
    }
}

fn stretch_of(interval: Duration) -> i64 {
    let stretch = i64::try_from(interval.saturating_mul(POLLS).as_nanos()).unwrap_or(i64::MAX);
    stretch.clamp(UPTIME_STRETCH_NS, DAY_NS)
}

/// Of the whole stretches since the first own point, those that have one.
fn uptime(engine: &Engine, asked: &Asked, stretch: i64, control: &QueryControl) -> Share {
    let mut share = Share { value: Err(String::new()), range: asked.now..asked.now };
    share.value = (|| {
        let range = range_of(engine, asked, OWN, UPTIME_NS)?;
        let start = range.start.0.div_euclid(stretch).saturating_add(1).saturating_mul(stretch);
        let end = range.end.0.div_euclid(stretch).saturating_mul(stretch);
        share.range = Timestamp(start)..Timestamp(end.max(start));
        if end <= start {
            return Err(format!("the program has run for less than {} s", stretch / 1_000_000_000));
        }
        let field = field_of(engine, asked, OWN)?;
        let aggregate = Aggregate {
            functions: vec![Function::Count],
            every: Some(Duration::from_nanos(stretch.unsigned_abs()).into()),
            ..Aggregate::default()
        };
        let of = Of { engine, control, database: &asked.database, measurement: OWN, field: &field };
        let answer = of.ask(&share.range, aggregate)?;
        Ok(answer.rows() as f64 / ((end - start) / stretch) as f64)
    })();
    share
}
