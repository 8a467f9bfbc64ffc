//! Gathers points part by part and has them judged.

use super::checks::{self, Rated, Role, days};
use super::pieces::{median_step, pieces};
use super::plant::{self, CLOCK, PLANT};
use super::{
    FieldQuality, IntervalFrom, MOST_DAYS, MOST_FIELDS, MOST_REPORTS, MOST_SERIES, Part, QualityRequest,
    ReportError, SeriesQuality, Unread, cut, sleep,
};
use crate::energy::{DEVICE, RAW, number};
use crate::series::{Rows, Tags, keys, lost_of, times};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::quality::{FieldName, FieldReport, Rest, assess};
use wattlog_engine::query::{Aggregate, Every, Function, QueryControl, QueryError, Shape};
use wattlog_engine::{Engine, FieldInfo, MeasurementInfo};
use wattlog_model::{FieldKind, FieldType, TagSet, Timestamp};

/// Judges the series of a request, by rising tags. A plant's device that is known and has no points is told too.
///
/// # Errors
/// See [`ReportError`]. Damage is none: what it hides is told as not read.
pub fn report(
    engine: &Engine,
    request: &QualityRequest,
    control: &QueryControl,
) -> Result<Vec<SeriesQuality>, ReportError> {
    let range = &request.range;
    if range.start >= range.end {
        return Err(QueryError::EmptyRange.into());
    }
    let whole_days = range.end.saturating_sub(range.start) / Timestamp::DAY_NS;
    if whole_days > MOST_DAYS {
        return Err(too_many("days", whole_days as usize, MOST_DAYS as usize, "ask for a shorter range"));
    }
    let measurement = &request.selection.measurement;
    let is_plant = measurement == RAW && request.fields.is_none();
    let info = match request.selection.info(engine)? {
        Some(info) => info,
        None if is_plant => MeasurementInfo {
            fields: Vec::new(),
            tag_keys: vec![DEVICE.to_owned()],
            series: 0,
            first: None,
            last: None,
        },
        None => return Err(ReportError::Measurement(measurement.clone())),
    };
    let fields = fields(request, is_plant, &info)?;
    let mut gathering = Gathering { engine, request, control, is_plant, fields, reports: 0 };
    let counted = gathering.count(&keys(&info))?;
    if counted.series.len() > MOST_SERIES {
        let found = counted.series.len();
        return Err(too_many("series", found, MOST_SERIES, "name a device, or a tag"));
    }
    let mut all = Vec::new();
    for (tags, counts) in &counted.series {
        all.push(gathering.series(tags, counts, &counted)?);
    }
    Ok(all)
}

fn too_many(what: &'static str, found: usize, most: usize, advice: &'static str) -> ReportError {
    ReportError::TooMany { what, found, most, advice }
}

/// The fields to judge, with what they are.
fn fields(
    request: &QualityRequest,
    is_plant: bool,
    info: &MeasurementInfo,
) -> Result<Vec<(String, Role)>, ReportError> {
    let measurement = &request.selection.measurement;
    let known = |name: &str| info.fields.iter().find(|field| field.name == name);
    let is_number = |field: &FieldInfo| !matches!(field.field_type, FieldType::Boolean | FieldType::String);
    let role = |field: &FieldInfo| (field.name.clone(), Role::of(measurement, field));
    let found: Vec<(String, Role)> = match &request.fields {
        Some(named) => {
            let mut found = Vec::new();
            for name in named {
                let bad = |problem| ReportError::BadField { field: name.clone(), problem };
                let field = known(name).ok_or_else(|| bad("is no field of the measurement"))?;
                if !is_number(field) {
                    return Err(bad("holds no numbers: name fields that do"));
                }
                if !found.iter().any(|(known, _)| known == name) {
                    found.push(role(field));
                }
            }
            found
        }
        // A store that never heard of a plant yet knows what one has.
        None if is_plant => PLANT
            .map(|name| FieldInfo {
                name: name.to_owned(),
                field_type: FieldType::Float,
                unit: None,
                kind: FieldKind::Linear,
            })
            .iter()
            .map(role)
            .collect(),
        None => info.fields.iter().filter(|field| is_number(field)).map(role).collect(),
    };
    if found.len() > MOST_FIELDS {
        return Err(too_many("fields", found.len(), MOST_FIELDS, "name those you want"));
    }
    Ok(found)
}

struct Gathering<'a> {
    engine: &'a Engine,
    request: &'a QualityRequest,
    control: &'a QueryControl,
    is_plant: bool,
    fields: Vec<(String, Role)>,
    /// Of fields over parts, so far.
    reports: usize,
}

/// How many points there are where.
struct Counted {
    days: Vec<Range<i64>>,
    /// By series and day: of each field.
    series: BTreeMap<Tags, Vec<Vec<u64>>>,
    lost: Vec<Range<i64>>,
}

impl Gathering<'_> {
    fn count(&self, keys: &[String]) -> Result<Counted, ReportError> {
        let Self { request, fields, .. } = self;
        let range = &request.range;
        let days = days(range, &request.zone);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let shape = Shape::Aggregate(Aggregate {
            functions: vec![Function::Count],
            every: Some(Every::Days(1)),
            zone: request.zone.clone(),
            ..Aggregate::default()
        });
        let question = request.selection.request(&names, range, shape, keys);
        let mut counted = Counted { days, series: BTreeMap::new(), lost: Vec::new() };
        let nothing = || vec![vec![0; names.len()]; counted.days.len()];
        match self.engine.query(&question, self.control) {
            Err(QueryError::DatabaseNotFound(_)) if self.is_plant => {}
            Err(error) => return Err(error.into()),
            Ok(result) => {
                counted.lost = lost_of(&result);
                for series in &result.series {
                    let mut counts = nothing();
                    for (row, time) in times(series).enumerate() {
                        // The first bucket may begin before the range.
                        let day = counted.days.partition_point(|day| day.start <= time).max(1) - 1;
                        for (place, name) in names.iter().enumerate() {
                            let column = series.column(&format!("{name}_count"));
                            let count = column.and_then(|column| number(&column.values, row));
                            counts[day][place] += count.unwrap_or_default() as u64;
                        }
                    }
                    counted.series.insert(series.tags.clone(), counts);
                }
            }
        }
        if self.is_plant {
            for device in request.devices.keys() {
                let tags = vec![(DEVICE.to_owned(), device.clone())];
                counted.series.entry(tags).or_insert_with(&nothing);
            }
        }
        Ok(counted)
    }

    fn series(
        &mut self,
        tags: &Tags,
        counts: &[Vec<u64>],
        counted: &Counted,
    ) -> Result<SeriesQuality, ReportError> {
        let has = |place: usize| counts.iter().any(|day| day[place] > 0);
        // Nothing at all is silence, of the whole device.
        let is_silent = !(0..self.fields.len()).any(has);
        let absent: Vec<String> = (0..self.fields.len())
            .filter(|place| !is_silent && !has(*place))
            .map(|place| self.fields[place].0.clone())
            .collect();
        let has_battery = self.is_plant && (has(plant::BATTERY) || has(plant::CHARGE));
        let sleeps = self.request.selection.measurement == RAW
            && !has_battery
            && sleep::is_sleeper(self.engine, self.request, tags, self.control)?;
        let most: Vec<u64> = counts.iter().map(|day| day.iter().copied().max().unwrap_or(0)).collect();
        let (parts, unread) = (Vec::new(), Vec::new());
        let mut found = SeriesQuality { tags: tags.clone(), absent, sleeps, parts, unread };
        self.days(&counted.days, &most, &counted.lost, &mut found)?;
        found.unread.sort_by_key(|unread| unread.range.start);
        Ok(found)
    }

    /// Judges days, of which those that `lost` meets cannot be read.
    fn days(
        &mut self,
        days: &[Range<i64>],
        counts: &[u64],
        lost: &[Range<i64>],
        out: &mut SeriesQuality,
    ) -> Result<(), ReportError> {
        for piece in pieces(days, counts, lost) {
            let range = days[piece.places.start].start..days[piece.places.end - 1].end;
            if let Some(reason) = piece.unread {
                out.unread.push(Unread { range, field: None, reason: reason.to_owned() });
                continue;
            }
            let unread = out.unread.len();
            match self.part(range, out)? {
                Ok(part) => {
                    self.reports += part.fields.len() + (out.unread.len() - unread);
                    if self.reports > MOST_REPORTS {
                        let advice = "ask for less time, or name fields";
                        return Err(too_many("reports", self.reports, MOST_REPORTS, advice));
                    }
                    out.parts.push(part);
                }
                // Each time at least one day is less.
                Err(lost) => self.days(&days[piece.places.clone()], &counts[piece.places], &lost, out)?,
            }
        }
        Ok(())
    }

    /// Judges a part; or tells which of its times cannot be read.
    fn part(
        &self,
        range: Range<i64>,
        out: &mut SeriesQuality,
    ) -> Result<Result<Part, Vec<Range<i64>>>, ReportError> {
        let (asleep, fields) = (Vec::new(), Vec::new());
        let mut part = Part { range, asleep, fields, plant: None, has_battery: false };
        let mut unread = Vec::new();
        if self.is_plant {
            let names: Vec<&str> = PLANT.into_iter().chain([CLOCK]).collect();
            let rows = match self.rows(&out.tags, &names, &part.range)? {
                Ok(rows) => rows,
                Err(lost) => return Ok(Err(lost)),
            };
            part.asleep = self.asleep(&rows, out, &part.range);
            let battery = rows.points(plant::BATTERY);
            for (place, (name, role)) in self.fields.iter().enumerate() {
                if !out.absent.contains(name) {
                    self.field(
                        (name, *role),
                        &rows.points(place),
                        &battery,
                        &out.tags,
                        &mut part,
                        &mut unread,
                    )?;
                }
            }
            part.has_battery = !battery.is_empty() || !rows.points(plant::CHARGE).is_empty();
            let interval = part.fields.iter().map(|field| field.interval_ns).max();
            if let Some(interval_ns) = interval {
                let name = self.name(&out.tags, "")?;
                let judged = plant::judge(&rows, name, &part, &self.request.home, interval_ns);
                part.plant = Some(judged.map_err(|error| {
                    let field = PLANT.join(", ");
                    ReportError::Field { field, error }
                })?);
            }
        } else {
            if out.sleeps {
                part.asleep = match self.rows(&out.tags, &PLANT, &part.range)? {
                    Ok(rows) => self.asleep(&rows, out, &part.range),
                    Err(lost) => return Ok(Err(lost)),
                };
            }
            for (name, role) in self.fields.iter().filter(|(name, _)| !out.absent.contains(name)) {
                let rows = match self.rows(&out.tags, &[name], &part.range)? {
                    Ok(rows) => rows,
                    Err(lost) => return Ok(Err(lost)),
                };
                self.field((name, *role), &rows.points(0), &[], &out.tags, &mut part, &mut unread)?;
            }
        }
        out.unread.append(&mut unread);
        Ok(Ok(part))
    }

    /// Where the device slept, of which these are the rows of [`PLANT`].
    fn asleep(&self, rows: &Rows, of: &SeriesQuality, range: &Range<i64>) -> Vec<Range<Timestamp>> {
        let interval = || self.interval(&of.tags, &rows.points(0));
        match of.sleeps.then(interval).flatten() {
            Some((interval_ns, _)) => sleep::stretches(rows, range, &self.request.home, interval_ns),
            None => Vec::new(),
        }
    }

    fn rows(
        &self,
        tags: &Tags,
        fields: &[&str],
        range: &Range<i64>,
    ) -> Result<Result<Rows, Vec<Range<i64>>>, ReportError> {
        let selection = &self.request.selection;
        let rows = match Rows::read(self.engine, selection, tags, fields, range, self.control) {
            Err(QueryError::DatabaseNotFound(_)) if self.is_plant => Rows::default(),
            read => read?,
        };
        let is_within = |lost: &Range<i64>| lost.start < range.end && range.start < lost.end;
        let lost: Vec<Range<i64>> = rows.lost.iter().filter(|lost| is_within(lost)).cloned().collect();
        Ok(if lost.is_empty() { Ok(rows) } else { Err(lost) })
    }

    fn field(
        &self,
        (field, role): (&str, Role),
        points: &[(Timestamp, f64)],
        battery: &[(Timestamp, f64)],
        tags: &Tags,
        part: &mut Part,
        unread: &mut Vec<Unread>,
    ) -> Result<(), ReportError> {
        let range = part.range.clone();
        let Some((interval_ns, interval_from)) = self.interval(tags, points) else {
            let reason = "fewer than three points: how often one is expected is not known; give interval";
            unread.push(Unread { range, field: Some(field.to_owned()), reason: reason.to_owned() });
            return Ok(());
        };
        let Self { request, .. } = self;
        let rests: Vec<Rest> =
            checks::rests(role, &range, &request.home, battery, checks::longest_gap_ns(interval_ns));
        let rated = self.rated(tags);
        let checks = checks::of_field(role, points, interval_ns, rated, rests, part.asleep.clone());
        let name = self.name(tags, field)?;
        let times = Timestamp(range.start)..Timestamp(range.end);
        let mut report = assess(&name, points, &times, &checks)
            .map_err(|error| ReportError::Field { field: field.to_owned(), error })?;
        shorten(&mut report);
        part.fields.push(FieldQuality {
            field: field.to_owned(),
            points: points.len() as u64,
            interval_ns,
            interval_from,
            longest_gap_ns: checks.longest_gap_ns,
            limits: checks.limits,
            report,
        });
        Ok(())
    }

    fn name(&self, tags: &Tags, field: &str) -> Result<FieldName, ReportError> {
        let known = tags.iter().filter(|(_, value)| !value.is_empty());
        let tags = TagSet::new(known.map(|(key, value)| (key.as_str(), value.as_str())));
        // They are those of points in the store.
        let tags = tags.map_err(|_| ReportError::BadField {
            field: field.to_owned(),
            problem: "has a series whose tags cannot be told",
        })?;
        let measurement = self.request.selection.measurement.clone();
        Ok(FieldName { measurement, tags, field: field.to_owned() })
    }

    fn rated(&self, tags: &Tags) -> Option<Rated> {
        let Self { request, .. } = self;
        let own = || {
            let (_, name) = tags.iter().find(|(key, _)| key == DEVICE)?;
            request.inverters_w.get(name).map(|watts| Rated::Inverter(*watts))
        };
        request.rated_w.map(Rated::Plant).or_else(own)
    }

    fn interval(&self, tags: &Tags, points: &[(Timestamp, f64)]) -> Option<(i64, IntervalFrom)> {
        let Self { request, .. } = self;
        if let Some(asked) = request.interval_ns {
            return Some((asked, IntervalFrom::Request));
        }
        let device =
            tags.iter().find(|(key, _)| key == DEVICE).and_then(|(_, name)| request.devices.get(name));
        if let Some(polled) = device.filter(|_| request.selection.measurement == RAW) {
            return Some((*polled, IntervalFrom::Device));
        }
        Some((median_step(points)?, IntervalFrom::Points))
    }
}

/// Cuts the lists of a report; its counts are of all.
fn shorten(report: &mut FieldReport) {
    cut(&mut report.gaps.value);
    let lists = [&mut report.out_of_range, &mut report.stuck, &mut report.spikes];
    for list in lists.into_iter().flatten() {
        cut(&mut list.value.stretches);
    }
}
