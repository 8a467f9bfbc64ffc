//! A consumer of changes that knows nothing but what it is told, and the naive view of what it should have been told.

use crate::{DATABASE, HOUR, MEASUREMENTS, times};
use jiff::ToSpan;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;
use wattlog_engine::io::sim::Rng;
use wattlog_engine::query::{
    CancelFlag, Every, GroupBy, QueryControl, QueryError, QueryRequest, ResultValues, Zone,
};
use wattlog_engine::{
    BucketRule, Cause, ChangeCursor, ChangeEvent, ChangeRequest, ChangeStart, Engine, Subject,
};
use wattlog_model::Timestamp;

/// (time, measurement, tags) -> all values, as texts.
pub(crate) type Rows = BTreeMap<(i64, String, String), String>;

/// Everything the store shows.
pub(crate) fn store_rows(engine: &Engine) -> Rows {
    let mut rows = Rows::new();
    for measurement in MEASUREMENTS {
        let mut request = QueryRequest::raw(DATABASE, measurement, Timestamp::MIN, Timestamp(i64::MAX));
        request.group_by = GroupBy::All;
        let result = match engine.query(&request, &QueryControl::default()) {
            Ok(result) => result,
            Err(QueryError::DatabaseNotFound(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        assert!(!result.is_partial());
        for series in result.series {
            let ResultValues::Time(times) = &series.columns[0].values else { panic!("no times") };
            for (row, time) in times.iter().enumerate() {
                let values = series.columns[1..].iter().filter_map(|column| match &column.values {
                    ResultValues::Float(values) => Some(format!("{}={}", column.name, values[row]?)),
                    other => panic!("{other:?}"),
                });
                let (key, values) = (format!("{:?}", series.tags), values.collect::<Vec<_>>());
                rows.insert((time.unwrap(), measurement.to_owned(), key), values.join(" "));
            }
        }
    }
    rows
}

/// What a step of a history did.
#[derive(Debug)]
pub(crate) enum Happened {
    Nothing,
    Restart,
    Written { rows: Vec<(&'static str, i64)>, wall: i64 },
    Deleted { measurement: Option<String>, range: Range<i64> },
}

pub(crate) struct Consumer {
    request: ChangeRequest,
    rule: Option<NaiveRule>,
    cursor: ChangeCursor,
    copy: Rows,
    /// Buckets before this instant were announced.
    upto: Option<i64>,
    /// What the watermark must be, as long as nothing was missed.
    watermark: Option<i64>,
    since: Since,
    forgetful: bool,
}

/// What happened since the last drain.
#[derive(Default)]
struct Since {
    written: Vec<(&'static str, i64)>,
    deleted: Vec<(Option<String>, Range<i64>)>,
    /// Before anything else happened there may have been a restart.
    restarted: bool,
}

#[derive(Clone, Copy)]
enum NaiveRule {
    Quarter,
    OffsetHour,
    LocalDay,
    LocalMonth,
}

impl NaiveRule {
    fn rule(self) -> BucketRule {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let (every, offset_ns, zone) = match self {
            Self::Quarter => (Every::from(Duration::from_secs(900)), 0, Zone::UTC),
            Self::OffsetHour => (Every::from(Duration::from_secs(3600)), HOUR / 6, Zone::UTC),
            Self::LocalDay => (Every::Days(1), 0, warsaw),
            Self::LocalMonth => (Every::Months(1), 0, warsaw),
        };
        BucketRule { every, offset_ns, zone }
    }

    /// The bucket of an instant, by other means than the engine's.
    fn bucket(self, time: i64) -> Range<i64> {
        let fixed = |length: i64, offset: i64| {
            let start = (time - offset).div_euclid(length) * length + offset;
            start..start + length
        };
        let local = |months: bool| {
            let zone: TimeZone = TimeZoneDatabase::bundled().get("Europe/Warsaw").unwrap();
            let at = zone.to_datetime(jiff::Timestamp::from_nanosecond(time.into()).unwrap()).date();
            let first = if months { at.first_of_month() } else { at };
            let next = first.checked_add(if months { 1.month() } else { 1.day() }).unwrap();
            // Clocks in Warsaw are not set at midnight.
            let ns = |date: jiff::civil::Date| {
                let midnight = zone.to_timestamp(date.at(0, 0, 0, 0)).unwrap();
                i64::try_from(midnight.as_nanosecond()).unwrap()
            };
            ns(first)..ns(next)
        };
        match self {
            Self::Quarter => fixed(HOUR / 4, 0),
            Self::OffsetHour => fixed(HOUR, HOUR / 6),
            Self::LocalDay => local(false),
            Self::LocalMonth => local(true),
        }
    }
}

fn watermark_of(cursor: &ChangeCursor) -> Option<i64> {
    cursor.to_string().splitn(4, '-').nth(3).map(|text| text.parse().unwrap())
}

impl Consumer {
    /// The first kind wants no buckets.
    pub(crate) fn subscribe(engine: &Engine, rng: &mut Rng, kind: u64, forgetful: bool) -> Self {
        let rules = [NaiveRule::Quarter, NaiveRule::OffsetHour, NaiveRule::LocalDay, NaiveRule::LocalMonth];
        let rule = (kind > 0).then(|| *rng.pick(&rules));
        let request = ChangeRequest {
            database: rng.chance(70).then(|| DATABASE.to_owned()),
            retention_policy: None,
            measurement: rng.chance(60).then(|| (*rng.pick(&MEASUREMENTS)).to_owned()),
            buckets: rule.map(NaiveRule::rule),
            grace_ns: rng.below(3) * (HOUR / 3).unsigned_abs(),
            limit: *rng.pick(&[1, 7, 1000, 1000]),
        };
        let mut reader = engine.changes(request.clone(), ChangeStart::Now).unwrap();
        let cursor = reader.cursor();
        assert_eq!(reader.next(Duration::ZERO, &CancelFlag::default()).events, []);
        let watermark = watermark_of(&cursor);
        let mut consumer = Self {
            request,
            rule,
            cursor,
            copy: Rows::new(),
            upto: None,
            watermark,
            since: Since::default(),
            forgetful,
        };
        consumer.upto = consumer.horizon();
        let all = store_rows(engine).into_iter();
        consumer.copy = all.filter(|((_, measurement, _), _)| consumer.wants(measurement)).collect();
        consumer
    }

    fn wants(&self, measurement: &str) -> bool {
        self.request.measurement.as_deref().is_none_or(|wanted| wanted == measurement)
    }

    /// First instant that is not finished, by the rule as it is written down; none before the first row.
    fn horizon(&self) -> Option<i64> {
        let edge = self.watermark? - i64::try_from(self.request.grace_ns).unwrap();
        Some(self.rule.map_or(edge, |rule| rule.bucket(edge).start))
    }

    pub(crate) fn note(&mut self, happened: &Happened) {
        match happened {
            Happened::Nothing => {}
            Happened::Restart => self.since.restarted = true,
            Happened::Deleted { measurement, range } => {
                self.since.deleted.push((measurement.clone(), range.clone()));
            }
            Happened::Written { rows, wall } => {
                let wanted: Vec<_> = rows.iter().copied().filter(|(name, _)| self.wants(name)).collect();
                if let (Some(first), Some(last)) =
                    (wanted.iter().map(|row| row.1).min(), wanted.iter().map(|row| row.1).max())
                {
                    let is_first = self.watermark.is_none();
                    self.watermark = self.watermark.max(Some(last.min(*wall)));
                    if is_first {
                        let first = self.rule.map(|rule| rule.bucket(first).start);
                        self.upto = first.min(self.horizon());
                    }
                }
                self.since.written.extend(wanted);
            }
        }
    }

    /// Hears all there is and looks again at what it is told, nothing else.
    pub(crate) fn drain(
        &mut self,
        engine: &Engine,
        truth: &Rows,
        met: &mut BTreeMap<String, u64>,
        place: &str,
    ) {
        let begin = ChangeStart::After(self.cursor.to_string().parse().unwrap());
        let mut reader = engine.changes(self.request.clone(), begin).unwrap();
        if std::env::var_os("WATTLOG_TRACE").is_some() {
            println!("{place}: drained after {}", self.cursor);
        }
        // A feed that keeps nothing tells ranges, and the watermark by the clock of the reading.
        let mut missed = self.forgetful;
        let mut heard = Vec::new();
        loop {
            let told = reader.next(Duration::ZERO, &CancelFlag::default());
            assert!(told.events.len() <= self.request.limit, "{place}: {told:?}");
            self.cursor = told.cursor;
            if told.events.is_empty() {
                break;
            }
            heard.extend(told.events);
        }
        let told = || heard.iter().map(|event| format!("\n  {}", show(event))).collect::<String>();
        for event in &heard {
            *met.entry(kind(event)).or_default() += 1;
            missed |= matches!(event, ChangeEvent::Dirty { cause: Cause::Missed, .. });
            self.hear(event, truth, missed, place);
        }
        // A range of all time that was missed hides how far the watermark went meanwhile.
        if missed || self.since.restarted {
            self.watermark = watermark_of(&self.cursor);
            // The only row may have gone with the power.
            self.upto = self.horizon().and(self.upto.max(self.horizon()));
        }
        let why = format!("{place}: {:?} {:?}:{}", self.request, self.since.written, told());
        assert_eq!(watermark_of(&self.cursor), self.watermark, "{why}");
        if self.rule.is_some() {
            assert_eq!(self.upto, self.horizon(), "{place}: finished up to here:{}", told());
        }
        let end = if self.rule.is_some() { self.horizon().unwrap_or(i64::MIN) } else { i64::MAX };
        let keys: BTreeSet<_> = truth.keys().chain(self.copy.keys()).collect();
        for key in keys.into_iter().filter(|(time, name, _)| *time < end && self.wants(name)) {
            let (here, there) = (self.copy.get(key), truth.get(key));
            assert_eq!(here, there, "{place}: {key:?} changed and nobody was told:{}", told());
        }
        self.since = Since::default();
    }

    fn hear(&mut self, event: &ChangeEvent, truth: &Rows, missed: bool, place: &str) {
        match event {
            ChangeEvent::Appended { of, times, .. } => {
                assert!(self.rule.is_none(), "{place}");
                let held = self.since.written.iter().any(|(_, time)| times.contains(time));
                assert!(held || missed, "{place}: nothing was appended: {}", show(event));
                self.look(of, times, truth);
            }
            ChangeEvent::Finished { bucket } => {
                let rule = self.rule.expect("buckets were asked for");
                assert_eq!(rule.bucket(bucket.start), *bucket, "{place}");
                if !missed && !self.since.restarted {
                    assert_eq!(self.upto, Some(bucket.start), "{place}: once and in order: {}", show(event));
                }
                self.upto = Some(bucket.end);
                self.look(&Subject::default(), bucket, truth);
            }
            ChangeEvent::Revised { of, bucket, cause } => {
                let rule = self.rule.expect("buckets were asked for");
                assert_eq!(rule.bucket(bucket.start), *bucket, "{place}");
                let since = &self.since;
                let named = |name: &str| of.measurement.as_deref().is_none_or(|of| of == name);
                let happened = match cause {
                    Cause::Late => {
                        since.written.iter().any(|(name, time)| named(name) && bucket.contains(time))
                    }
                    Cause::Delete => since.deleted.iter().any(|(name, range)| {
                        name.as_deref().is_none_or(named)
                            && range.start < bucket.end
                            && bucket.start < range.end
                    }),
                    _ => true,
                };
                assert!(happened || missed, "{place}: nothing happened to it: {}", show(event));
                self.look(of, bucket, truth);
            }
            ChangeEvent::Dirty { of, times, cause, .. } => {
                if *cause == Cause::Many && Some(times.start) <= self.upto && Some(times.end) > self.upto {
                    self.upto = self.rule.map(|_| times.end);
                }
                self.look(of, times, truth);
            }
            other => panic!("{other:?}"),
        }
    }

    fn look(&mut self, of: &Subject, range: &Range<i64>, truth: &Rows) {
        let named = |name: &str| of.measurement.as_deref().is_none_or(|of| of == name);
        let database = of.database.as_deref();
        assert!(database.is_none_or(|name| name == DATABASE));
        self.copy.retain(|(time, name, _), _| !(range.contains(time) && named(name)));
        let again = truth.iter().filter(|((time, name, _), _)| range.contains(time) && named(name));
        let again: Vec<_> = again.filter(|((_, name, _), _)| self.wants(name)).collect();
        self.copy.extend(again.into_iter().map(|(key, values)| (key.clone(), values.clone())));
    }
}

fn kind(event: &ChangeEvent) -> String {
    match event {
        ChangeEvent::Appended { .. } => "appended".to_owned(),
        ChangeEvent::Finished { .. } => "finished".to_owned(),
        ChangeEvent::Revised { cause, .. } => format!("revised {cause}"),
        ChangeEvent::Dirty { cause, .. } => format!("dirty {cause}"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn show(event: &ChangeEvent) -> String {
    let (ChangeEvent::Appended { times: range, .. }
    | ChangeEvent::Dirty { times: range, .. }
    | ChangeEvent::Finished { bucket: range }
    | ChangeEvent::Revised { bucket: range, .. }) = event
    else {
        panic!("{event:?}")
    };
    let of = match event {
        ChangeEvent::Appended { of, .. }
        | ChangeEvent::Dirty { of, .. }
        | ChangeEvent::Revised { of, .. } => of.measurement.as_deref().unwrap_or("any"),
        _ => "",
    };
    format!("{} {of} {}", kind(event), times(range))
}
