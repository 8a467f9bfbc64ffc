//! How complete the newest points are and how many of them are faulty, by the quality report of each device.

use super::Asked;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wattlog_derived::energy::{DEVICE, RAW};
use wattlog_derived::quality::{QualityRequest, SeriesQuality, report};
use wattlog_derived::series::Selection;
use wattlog_engine::Engine;
use wattlog_engine::query::{
    GroupBy, PartialRange, QueryControl, QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues,
    Shape, TagFilter, TagPredicate, Zone,
};
use wattlog_model::Timestamp;

/// How far back points of devices are judged.
const JUDGED_NS: i64 = 7 * Timestamp::DAY_NS;
/// Devices that are judged; how many there are beyond them is told.
const MAX_DEVICES: usize = 50;
/// A device of which the first point is younger is too new to miss one, or so many of its poll intervals.
const NEW_NS: i64 = 600_000_000_000;
const NEW_POLLS: i64 = 3;

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeviceCompleteness {
    pub(crate) device: String,
    /// Mean of its fields.
    pub(crate) share: f64,
    /// Since when it is looked at.
    pub(crate) range: Range<Timestamp>,
    /// Fields that it once had and has no more, or of which it has a point or two: each counts as 0.
    pub(crate) lacks: Vec<String>,
}

/// What was judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    pub(crate) range: Range<Timestamp>,
    pub(crate) points: u64,
    pub(crate) faulty: u64,
    /// Stretches of time that could not be judged.
    pub(crate) unread: usize,
    /// Points that cannot be read may be those of a device or field that is not known otherwise.
    pub(crate) is_lost: bool,
    /// Polled devices that were never heard.
    pub(crate) unheard: usize,
    pub(crate) devices: Vec<DeviceCompleteness>,
    /// Devices beyond those that are judged at a time.
    pub(crate) left_out: usize,
}

impl Judged {
    /// Judges `energy_data` of the last days; the error says why that cannot be.
    pub(super) fn of(
        engine: &Engine,
        asked: &Asked,
        home: &Zone,
        control: &QueryControl,
    ) -> Result<Self, String> {
        let judging = Judging { engine, asked, home, control, is_lost: Cell::new(false) };
        judging.all().map_err(|error| error.to_string())
    }

    /// Mean over the devices of the share of expected points that are there.
    pub(crate) fn completeness(&self) -> Result<f64, String> {
        if self.devices.is_empty() {
            return Err(format!("no device gave points of {RAW} in that time, or for long enough"));
        }
        let sum: f64 = self.devices.iter().map(|device| device.share).sum();
        Ok(sum / self.devices.len() as f64)
    }

    /// Share of points without a fault.
    pub(crate) fn accuracy(&self) -> Result<f64, String> {
        if self.points == 0 {
            return Err(format!("no points of {RAW} in the last 7 days that can be judged"));
        }
        Ok(1.0 - self.faulty as f64 / self.points as f64)
    }

    /// Why its figures decide nothing.
    pub(crate) fn doubt(&self) -> Option<String> {
        if self.left_out > 0 {
            return Some(format!("{} devices beyond the first {MAX_DEVICES} were not judged", self.left_out));
        }
        if self.is_lost {
            return Some(format!(
                "a part of {RAW} cannot be read, and a device or field may have its points there: see /api/v1/storage/health"
            ));
        }
        (self.unread > 0).then(|| {
            format!("{} stretches of time could not be judged; `unread` of the source has them", self.unread)
        })
    }

    fn add(&mut self, series: &SeriesQuality) {
        // A field with a point or two has no stretch that cannot be read: see `scarce`.
        self.unread += series.unread.iter().filter(|unread| unread.field.is_none()).count();
        for field in series.parts.iter().flat_map(|part| &part.fields) {
            let share = field.report.accuracy.as_ref().map_or(1.0, |share| share.value);
            self.points += field.points;
            self.faulty += ((1.0 - share) * field.points as f64).round() as u64;
        }
    }
}

struct Judging<'a> {
    engine: &'a Engine,
    asked: &'a Asked,
    home: &'a Zone,
    control: &'a QueryControl,
    /// See [`Judged::is_lost`].
    is_lost: Cell<bool>,
}

#[derive(Debug, thiserror::Error)]
enum JudgeError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Report(#[from] wattlog_derived::quality::ReportError),
}

impl Judging<'_> {
    fn all(&self) -> Result<Judged, JudgeError> {
        let now = self.asked.now;
        let range = Timestamp(now.0.saturating_sub(JUDGED_NS))..now;
        let stored = self.stored(&range)?;
        let configured = &self.asked.devices;
        let names: BTreeSet<&String> = stored.keys().chain(configured.keys()).collect();
        // One that is not configured and gave nothing is gone, and misses nothing.
        let is_there = |name: &&&String| {
            configured.contains_key(**name) || stored.get(**name).is_some_and(|last| *last >= range.start)
        };
        let names: Vec<&String> = names.iter().filter(is_there).copied().collect();
        let mut judged = Judged {
            range: range.clone(),
            points: 0,
            faulty: 0,
            unread: 0,
            is_lost: false,
            unheard: 0,
            devices: Vec::new(),
            left_out: names.len().saturating_sub(MAX_DEVICES),
        };
        for name in names.into_iter().take(MAX_DEVICES) {
            let first = if stored.contains_key(name) { self.first(name, &range)? } else { None };
            // Nothing is there yet of a polled device whose points all lie ahead of the clock.
            let ahead = now.0.saturating_add(self.new_ns(name));
            let first = first.filter(|first| !configured.contains_key(name) || first.0 < ahead);
            let Some(first) = first else {
                if !self.is_new(name) {
                    let (device, range, lacks) = (name.clone(), range.clone(), Vec::new());
                    judged.devices.push(DeviceCompleteness { device, share: 0.0, range, lacks });
                    judged.unheard += 1;
                }
                continue;
            };
            if first >= now {
                continue;
            }
            // What is new misses nothing before its first point.
            let since = first.max(range.start)..now;
            self.judge(name, &since, &mut judged)?;
        }
        judged.is_lost = self.is_lost.get();
        Ok(judged)
    }

    fn interval_ns(&self, name: &str) -> Option<i64> {
        let interval = self.asked.devices.get(name)?;
        i64::try_from(interval.as_nanos()).ok().filter(|ns| *ns > 0)
    }

    /// For so long nothing is expected of a device.
    fn new_ns(&self, name: &str) -> i64 {
        self.interval_ns(name).map_or(NEW_NS, |ns| ns.saturating_mul(NEW_POLLS))
    }

    /// Whether a device that was never heard is polled for too short a time to say so, or is not polled at all.
    fn is_new(&self, name: &str) -> bool {
        let since = i64::try_from(self.asked.uptime.as_nanos()).unwrap_or(i64::MAX);
        !self.asked.devices.contains_key(name) || since < self.new_ns(name)
    }

    fn judge(&self, name: &str, range: &Range<Timestamp>, judged: &mut Judged) -> Result<(), JudgeError> {
        let interval_ns = self.interval_ns(name);
        let request = QualityRequest {
            selection: Selection {
                database: self.asked.database.clone(),
                measurement: RAW.to_owned(),
                tags: vec![own(name)],
            },
            fields: None,
            range: range.start.0..range.end.0,
            zone: self.home.clone(),
            home: self.home.clone(),
            interval_ns: None,
            devices: interval_ns.map(|ns| (name.to_owned(), ns)).into_iter().collect(),
            rated_w: None,
            inverters_w: self.asked.inverters_w.clone(),
        };
        for series in report(self.engine, &request, self.control)? {
            judged.add(&series);
            if range.end.0.saturating_sub(range.start.0) < self.new_ns(name) {
                continue;
            }
            let mut lacks = Vec::new();
            for field in &series.absent {
                if self.had(name, field, range.start)? {
                    lacks.push(field.clone());
                }
            }
            lacks.extend(scarce(&series));
            if let Some(share) = share_of(&series, lacks.len()) {
                let (device, range) = (name.to_owned(), range.clone());
                judged.devices.push(DeviceCompleteness { device, share, range, lacks });
            }
        }
        Ok(())
    }

    /// Devices of which there are points, and when the last one is.
    fn stored(&self, judged: &Range<Timestamp>) -> Result<BTreeMap<String, Timestamp>, QueryError> {
        let request = QueryRequest {
            shape: Shape::Last,
            group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
            ..self.request(Timestamp::MIN, Timestamp::MAX)
        };
        let found = self.ask(&request)?;
        let last = |series: &ResultSeries| {
            let name = series.tags.first().map(|(_, value)| value.clone()).unwrap_or_default();
            Some((name, times(series).max()?))
        };
        let stored: BTreeMap<String, Timestamp> =
            found.iter().flat_map(|result| &result.series).filter_map(last).collect();
        let is_of_now = |lost: &PartialRange| lost.first < judged.end.0 && judged.start.0 <= lost.last;
        let lost = || found.iter().flat_map(|result| &result.partial);
        let is_missing = self.asked.devices.keys().any(|name| !stored.contains_key(name));
        self.lose_if(lost().any(is_of_now) || (is_missing && lost().next().is_some()));
        Ok(stored)
    }

    /// Time of the oldest point of a device.
    fn first(&self, name: &str, judged: &Range<Timestamp>) -> Result<Option<Timestamp>, QueryError> {
        let request = QueryRequest {
            tags: vec![own(name)],
            limit: Some(1),
            ..self.request(Timestamp::MIN, Timestamp::MAX)
        };
        let found = self.ask(&request)?;
        let first = found.iter().flat_map(|result| &result.series).flat_map(times).min();
        let is_old = first.is_some_and(|first| first <= judged.start);
        self.lose_if(!is_old && found.is_some_and(|result| result.is_partial()));
        Ok(first)
    }

    /// Whether the device had a field before.
    fn had(&self, name: &str, field: &str, before: Timestamp) -> Result<bool, QueryError> {
        let request = QueryRequest {
            fields: Some(vec![field.to_owned()]),
            tags: vec![own(name)],
            limit: Some(1),
            ..self.request(Timestamp::MIN, before)
        };
        let found = self.ask(&request)?;
        let had = found.as_ref().is_some_and(|result| result.rows() > 0);
        self.lose_if(!had && found.is_some_and(|result| result.is_partial()));
        Ok(had)
    }

    fn lose_if(&self, is_lost: bool) {
        self.is_lost.set(self.is_lost.get() || is_lost);
    }

    fn request(&self, start: Timestamp, end: Timestamp) -> QueryRequest {
        QueryRequest::raw(&self.asked.database, RAW, start, end)
    }

    /// None before there is anything to ask.
    fn ask(&self, request: &QueryRequest) -> Result<Option<QueryResult>, QueryError> {
        match self.engine.query(request, self.control) {
            Err(QueryError::DatabaseNotFound(_)) => Ok(None),
            asked => asked.map(Some),
        }
    }
}

/// Fields with too few points to be judged, beside others that were.
fn scarce(series: &SeriesQuality) -> BTreeSet<String> {
    let judged: BTreeSet<&str> =
        series.parts.iter().flat_map(|part| &part.fields).map(|field| field.field.as_str()).collect();
    let fields = series.unread.iter().filter_map(|unread| unread.field.as_deref());
    let scarce = fields.filter(|field| !judged.is_empty() && !judged.contains(field));
    scarce.map(str::to_owned).collect()
}

/// Share of the points expected that are there, mean of the fields, of which `lacking` have none; none if nothing was judged.
fn share_of(series: &SeriesQuality, lacking: usize) -> Option<f64> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for field in series.parts.iter().flat_map(|part| &part.fields) {
        let found = field.report.completeness.value;
        let (expected, missing) = counts.entry(&field.field).or_default();
        (*expected, *missing) = (*expected + found.expected, *missing + found.missing);
    }
    let share = |(expected, missing): &(u64, u64)| {
        if *expected == 0 { 1.0 } else { 1.0 - *missing as f64 / *expected as f64 }
    };
    let fields = counts.len() + lacking;
    (fields > 0).then(|| counts.values().map(share).sum::<f64>() / fields as f64)
}

fn own(name: &str) -> TagFilter {
    TagFilter { key: DEVICE.to_owned(), predicate: TagPredicate::In(vec![name.to_owned()]) }
}

fn times(series: &ResultSeries) -> impl Iterator<Item = Timestamp> {
    let times = match series.columns.first().map(|column| &column.values) {
        Some(ResultValues::Time(times)) => times.as_slice(),
        _ => &[],
    };
    times.iter().filter_map(|time| time.map(Timestamp))
}
