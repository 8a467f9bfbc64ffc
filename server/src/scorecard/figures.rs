//! Figures of the scorecard that the store tells by itself: what it holds, since when, and how much of the time there were points.

use crate::handlers::{Held, disk_bytes};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, Function, GroupBy, QueryControl, QueryRequest, QueryResult, ResultValues,
    Shape, TagFilter, TagPredicate,
};
use wattlog_engine::{Engine, Rule};
use wattlog_model::Timestamp;

/// What is asked of the store.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) database: String,
    pub(crate) now: Timestamp,
    /// Poll interval of each device that is configured.
    pub(crate) devices: BTreeMap<String, Duration>,
    /// Poll interval of the program's own figures.
    pub(crate) own_interval: Duration,
}

/// A share of a time, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Share {
    pub(crate) value: Result<f64, String>,
    pub(crate) range: Range<Timestamp>,
}

/// How much of the time a device gave points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceCoverage {
    pub(crate) device: String,
    pub(crate) coverage: f64,
    pub(crate) max_gap: Duration,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) points: u64,
    pub(crate) values: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) overloaded: u64,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) newest: Option<Timestamp>,
    /// The shortest rule of retention that is below the goal, as a text.
    pub(crate) short_rule: Option<String>,
    pub(crate) uptime: Share,
    pub(crate) coverage: Share,
    pub(crate) devices: Vec<DeviceCoverage>,
}

const MINUTE_NS: i64 = 60_000_000_000;
const DAY_NS: i64 = 24 * 60 * MINUTE_NS;
/// Points of the program itself are looked for in stretches of this length, or of three of its intervals.
const UPTIME_STRETCH_NS: i64 = 5 * MINUTE_NS;
/// How far back the program's own points are looked at.
const UPTIME_NS: i64 = 30 * DAY_NS;
/// How far back points of devices are looked at.
const COVERAGE_NS: i64 = 7 * DAY_NS;
/// Longest time between points of a device that is not configured.
const USUAL_GAP: Duration = Duration::from_secs(600);
/// A device may miss two polls.
const POLLS: u32 = 3;
/// Devices that are looked at.
const MAX_DEVICES: usize = 50;
const HOUR_NS: u64 = 3_600_000_000_000;
/// The plan asks for a year.
pub(crate) const YEAR_NS: i64 = 365 * DAY_NS;

const OWN: &str = "system_metrics";
const ENERGY: &str = "energy_data";

impl Figures {
    /// Asks the store; what cannot be read is a reason in its place.
    pub(crate) fn of(engine: &Engine, asked: &Asked, control: &QueryControl) -> Self {
        let info = engine.storage();
        let held = Held::of_all(engine);
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
        let (coverage, devices) = coverage(engine, asked, control);
        Self {
            points: info.points,
            values: info.values,
            disk_bytes: disk_bytes(&info),
            overloaded: engine.metrics().overloaded,
            oldest: held.oldest,
            newest: held.newest,
            short_rule,
            uptime: uptime(engine, asked, control),
            coverage,
            devices,
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
    let held = Held::of(engine, &asked.database, Some(measurement));
    let first = held.oldest.ok_or_else(|| format!("no points of {measurement} are stored"))?;
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
    fn ask(
        self,
        range: &Range<Timestamp>,
        aggregate: Aggregate,
        tags: Vec<TagFilter>,
        group_by: GroupBy,
    ) -> Result<QueryResult, String> {
        let request = QueryRequest {
            fields: Some(vec![self.field.to_owned()]),
            tags,
            shape: Shape::Aggregate(aggregate),
            group_by,
            ..QueryRequest::raw(self.database, self.measurement, range.start, range.end)
        };
        let answer = self.engine.query(&request, self.control).map_err(|error| error.to_string())?;
        if answer.is_partial() { Err("a part of the store cannot be read".to_owned()) } else { Ok(answer) }
    }
}

/// Of the whole stretches of five minutes since the first own point, those that have one.
fn uptime(engine: &Engine, asked: &Asked, control: &QueryControl) -> Share {
    let stretch = i64::try_from((asked.own_interval * POLLS).as_nanos()).unwrap_or(i64::MAX);
    let stretch = stretch.clamp(UPTIME_STRETCH_NS, DAY_NS);
    let mut share = Share { value: Err(String::new()), range: asked.now..asked.now };
    share.value = (|| {
        let range = range_of(engine, asked, OWN, UPTIME_NS)?;
        let start = range.start.0.div_euclid(stretch).saturating_add(1).saturating_mul(stretch);
        let end = range.end.0.div_euclid(stretch).saturating_mul(stretch);
        share.range = Timestamp(start)..Timestamp(end.max(start));
        if end <= start {
            return Err("the program has run for less than five minutes".to_owned());
        }
        let field = field_of(engine, asked, OWN)?;
        let aggregate = Aggregate {
            functions: vec![Function::Count],
            every: Some(Duration::from_nanos(stretch.unsigned_abs()).into()),
            ..Aggregate::default()
        };
        let of = Of { engine, control, database: &asked.database, measurement: OWN, field: &field };
        let answer = of.ask(&share.range, aggregate, Vec::new(), GroupBy::Default)?;
        Ok(answer.rows() as f64 / ((end - start) / stretch) as f64)
    })();
    share
}

/// Of each hour the greatest share that one set of tags covers: a device whose tags change goes on, and what two sets tell
/// at a time counts once.
fn hours_covered(answer: &QueryResult, column: &str) -> BTreeMap<i64, f64> {
    let mut hours: BTreeMap<i64, f64> = BTreeMap::new();
    for series in &answer.series {
        let times = series.columns.first().map(|column| &column.values);
        let shares = series.column(column).map(|column| &column.values);
        let (Some(ResultValues::Time(times)), Some(ResultValues::Float(shares))) = (times, shares) else {
            continue;
        };
        for (time, share) in times.iter().zip(shares) {
            if let (Some(time), Some(share)) = (time, share) {
                let hour = hours.entry(*time).or_default();
                *hour = hour.max(*share);
            }
        }
    }
    hours
}

/// Mean over the devices of the share of time that their points cover.
fn coverage(engine: &Engine, asked: &Asked, control: &QueryControl) -> (Share, Vec<DeviceCoverage>) {
    let mut devices = Vec::new();
    let mut share = Share { value: Err(String::new()), range: asked.now..asked.now };
    share.value = (|| {
        share.range = range_of(engine, asked, ENERGY, COVERAGE_NS)?;
        let field = field_of(engine, asked, ENERGY)?;
        let stored = engine.tag_values(&asked.database, ENERGY, "device_id").unwrap_or_default();
        for device in stored.iter().take(MAX_DEVICES) {
            let interval = asked.devices.get(device);
            let max_gap = interval.map_or(USUAL_GAP, |interval| *interval * POLLS);
            let aggregate = Aggregate {
                functions: vec![Function::Coverage],
                every: Some(Every::Nanos(HOUR_NS)),
                max_gap_ns: i64::try_from(max_gap.as_nanos()).unwrap_or(i64::MAX),
                ..Aggregate::default()
            };
            let share_range = share.range.start.0..share.range.end.0;
            let Some(buckets) = Buckets::new(&aggregate, share_range.clone()) else { continue };
            let own =
                TagFilter { key: "device_id".to_owned(), predicate: TagPredicate::In(vec![device.clone()]) };
            let of = Of { engine, control, database: &asked.database, measurement: ENERGY, field: &field };
            let answer = of.ask(&share.range, aggregate, vec![own], GroupBy::All)?;
            let column = format!("{field}_coverage");
            let hours = hours_covered(&answer, &column);
            let hour = |(time, share): (&i64, &f64)| {
                let hour = buckets.of(*time);
                let length = hour.end.min(share_range.end) - hour.start.max(share_range.start);
                share * length as f64
            };
            let covered: f64 = hours.iter().map(hour).sum();
            let covered = (!hours.is_empty()).then(|| covered / (share_range.end - share_range.start) as f64);
            // A device that is not configured and gave nothing is gone, and misses nothing.
            match (covered, interval) {
                (None, None) => {}
                (covered, _) => devices.push(DeviceCoverage {
                    device: device.clone(),
                    coverage: covered.unwrap_or(0.0),
                    max_gap,
                }),
            }
        }
        let sum: f64 = devices.iter().map(|device| device.coverage).sum();
        if devices.is_empty() {
            return Err(format!("no device gave points of {ENERGY} in that time"));
        }
        Ok(sum / devices.len() as f64)
    })();
    (share, devices)
}
