//! An ordered map of points, and the answers it gives: every rule of the query contract, the slow way.

mod answer;
mod buckets;
mod changes;
mod curve;
mod functions;
mod rows;

pub(crate) use answer::{Series, check};
pub(crate) use changes::{Body, Cutoff, Deletion, Point, Retention};

use crate::exact::Wide;
use crate::history::{NOW, PATTERNS, START};
use rows::{fields, last, picture, raw};
use std::collections::BTreeMap;
use wattlog_engine::query::{
    Comparison, Condition, GroupBy, Literal, Name, Operator, QueryRequest, Shape, TagPredicate,
};
use wattlog_model::{FieldType, FieldValue};

pub(crate) const FIELDS: [(&str, FieldType); 6] = [
    ("power", FieldType::Float),
    ("voltage", FieldType::Float),
    ("energy", FieldType::Integer),
    ("total", FieldType::Unsigned),
    ("on", FieldType::Boolean),
    ("mode", FieldType::String),
];

pub(crate) const SERIES: [(&str, &[(&str, &str)]); 7] = [
    ("energy_data", &[("device_id", "a"), ("location", "roof")]),
    ("energy_data", &[("device_id", "b"), ("location", "roof")]),
    ("energy_data", &[("device_id", "c"), ("location", "garage")]),
    ("energy_data", &[("device_id", "a")]),
    ("energy_data", &[]),
    ("weather_data", &[("location", "roof")]),
    ("weather_data", &[("location", "garage")]),
];

type Row = [Option<FieldValue>; FIELDS.len()];

/// All that was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Before this nothing is kept of measurements without a rule of their own.
    cutoff: Option<i64>,
    /// Cutoffs of those with one, and whether it is that of the database again.
    own: BTreeMap<&'static str, (Option<i64>, bool)>,
    rows: BTreeMap<(usize, i64), Row>,
    /// Series by their first write, which is the order of their ids.
    order: Vec<usize>,
}

impl Store {
    pub(crate) fn delete(&mut self, deletion: &Deletion) {
        let covers = |series: usize| {
            SERIES[series].0 == deletion.measurement && deletion.series.is_none_or(|only| only == series)
        };
        self.rows.retain(|(series, time), row| {
            if covers(*series) && (deletion.range.0..deletion.range.1).contains(time) {
                match &deletion.fields {
                    None => *row = Row::default(),
                    Some(fields) => fields.iter().for_each(|field| row[*field] = None),
                }
            }
            row.iter().any(Option::is_some)
        });
    }

    /// First time that is kept of a measurement.
    fn kept_from(&self, measurement: &str) -> Option<i64> {
        match self.own.get(measurement) {
            None => self.cutoff,
            Some((own, true)) => self.cutoff.max(*own),
            Some((own, false)) => *own,
        }
    }

    pub(crate) fn retain(&mut self, retention: &Retention) {
        let new = if let Cutoff::At(cutoff) = retention.cutoff { Some(cutoff) } else { None };
        match retention.measurement {
            None => self.cutoff = self.cutoff.max(new),
            Some(measurement) => {
                let inherited = matches!(retention.cutoff, Cutoff::Inherited);
                let cutoff = self.kept_from(measurement).max(new);
                self.own.insert(measurement, (cutoff, inherited));
            }
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|(series, time), _| self.kept_from(SERIES[*series].0).is_none_or(|first| *time >= first));
        self.rows = rows;
    }

    /// About the time of the oldest rows of a series, so many hundredths of them left out.
    pub(crate) fn oldest(&self, series: usize, hundredths: u64) -> i64 {
        let rows = self.rows.range((series, i64::MIN)..(series + 1, i64::MIN));
        let times: Vec<i64> = rows.map(|((_, time), _)| *time).collect();
        times.get(times.len() * hundredths as usize / 100).map_or(START, |time| (*time).clamp(START, NOW - 1))
    }

    /// Takes a body in; the lines of the rows that are too old.
    pub(crate) fn write(&mut self, body: &Body) -> Vec<u32> {
        let mut refused = Vec::new();
        for (line, point) in body.0.iter().enumerate() {
            if self.kept_from(SERIES[point.series].0).is_some_and(|first| point.time < first) {
                refused.push(line as u32 + 1);
                continue;
            }
            if !self.order.contains(&point.series) {
                self.order.push(point.series);
            }
            let row = self.rows.entry((point.series, point.time)).or_default();
            for (field, value) in &point.values {
                row[*field] = Some(value.clone());
            }
        }
        refused
    }

    /// A time at which the series has a row, at or after `time` if there is one; else `time`.
    pub(crate) fn time_near(&self, series: usize, time: i64) -> i64 {
        let next = self.rows.range((series, time)..(series + 1, i64::MIN)).next();
        next.map_or(time, |((_, time), _)| *time)
    }

    pub(crate) fn answer(&self, request: &QueryRequest) -> Vec<Series> {
        let fields = fields(request);
        if request.limit == Some(0) || fields.is_empty() {
            return Vec::new();
        }
        let groups = self.groups(request).into_iter();
        groups.filter_map(|(tags, members)| self.group(request, &fields, tags, &members)).collect()
    }

    /// Series that satisfy the filters, by rising group tags.
    fn groups(&self, request: &QueryRequest) -> BTreeMap<Vec<(String, String)>, Vec<usize>> {
        let mut groups: BTreeMap<Vec<(String, String)>, Vec<usize>> = BTreeMap::new();
        for series in self.order.iter().copied() {
            let (measurement, tags) = SERIES[series];
            let tag = |key: &str| tags.iter().find(|(k, _)| *k == key).map_or("", |(_, value)| *value);
            let passes = |predicate: &TagPredicate, value: &str| match predicate {
                TagPredicate::In(values) => values.iter().any(|v| v == value),
                TagPredicate::NotIn(values) => values.iter().all(|v| v != value),
                TagPredicate::Matches(pattern) => is_match(pattern, value),
                TagPredicate::NotMatches(pattern) => !is_match(pattern, value),
            };
            if measurement != request.measurement
                || !request.tags.iter().all(|filter| passes(&filter.predicate, tag(&filter.key)))
            {
                continue;
            }
            let owned = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let group = match (&request.group_by, &request.shape) {
                (GroupBy::Default, Shape::Aggregate(_)) => Vec::new(),
                (GroupBy::Keys(keys), _) => keys.iter().map(|key| owned(key, tag(key))).collect(),
                _ => tags.iter().map(|(key, value)| owned(key, value)).collect(),
            };
            groups.entry(group).or_default().push(series);
        }
        groups
    }

    fn group(
        &self,
        request: &QueryRequest,
        fields: &[usize],
        tags: Vec<(String, String)>,
        members: &[usize],
    ) -> Option<Series> {
        let (start, end) = (request.start.0, request.end.0);
        // By time; at one time by the order of series.
        let mut rows: Vec<(i64, &Row)> = Vec::new();
        for series in members {
            let own = self.rows.range((*series, start)..(*series, end));
            let counts = own.filter(|(_, row)| counts(request, *series, row));
            rows.extend(counts.map(|((_, time), row)| (*time, row)));
        }
        rows.retain(|(_, row)| fields.iter().any(|field| row[*field].is_some()));
        rows.sort_by_key(|(time, _)| *time);
        let curves = self.curves(request, fields, members);
        if rows.is_empty() && curves.values().all(BTreeMap::is_empty) {
            return None;
        }
        let has = |field: &&usize| {
            let known = rows.iter().any(|(_, r)| r[**field].is_some());
            request.fields.is_some() || known || curves.get(*field).is_some_and(|curve| !curve.is_empty())
        };
        let fields: Vec<usize> = fields.iter().filter(has).copied().collect();
        let columns = match &request.shape {
            Shape::Raw => {
                raw(request, &fields, rows.into_iter().map(|(time, row)| (time, row.clone())).collect())
            }
            Shape::Pixels(pixels) => raw(request, &fields, picture(request, *pixels, &fields, &rows)),
            Shape::Last => last(&fields, &rows),
            Shape::Aggregate(aggregate) => buckets::buckets(request, &fields, aggregate, &rows, &curves),
        };
        Some(Series { tags, columns })
    }
}

fn is_match(pattern: &str, value: &str) -> bool {
    PATTERNS.iter().find(|(own, _)| *own == pattern).expect("a pattern of the history").1(value)
}

/// Whether a row satisfies the condition of a request.
fn counts(request: &QueryRequest, series: usize, row: &Row) -> bool {
    request.condition.as_ref().is_none_or(|condition| holds(condition, series, row))
}

fn holds(condition: &Condition, series: usize, row: &Row) -> bool {
    match condition {
        Condition::Not(inner) => !holds(inner, series, row),
        Condition::All(parts) => parts.iter().all(|part| holds(part, series, row)),
        Condition::Any(parts) => parts.iter().any(|part| holds(part, series, row)),
        Condition::Compare(comparison) => compare(comparison, series, row),
    }
}

/// Numbers are compared as billionths of an integer, so that no rule of doubles is needed.
fn compare(comparison: &Comparison, series: usize, row: &Row) -> bool {
    let Comparison { name, operator, value } = comparison;
    let says = |order: std::cmp::Ordering| match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    };
    let (Name::Any(text) | Name::Tag(text)) = name;
    let field = match name {
        Name::Any(text) => FIELDS.iter().position(|(own, _)| own == text),
        Name::Tag(_) => None,
    };
    let Some(field) = field else {
        let own = SERIES[series].1.iter().find(|(key, _)| key == text).map_or("", |(_, value)| *value);
        let Literal::Text(wanted) = value else { unreachable!("tags are asked for texts") };
        return says(own.cmp(wanted));
    };
    match (&row[field], value) {
        (None, _) => false,
        (Some(FieldValue::String(own)), Literal::Text(wanted)) => says((**own).cmp(&**wanted)),
        (Some(FieldValue::Boolean(own)), Literal::Boolean(wanted)) => says(own.cmp(wanted)),
        (Some(own), wanted) => {
            let wanted = match wanted {
                Literal::Float(v) => FieldValue::Float(*v),
                Literal::Integer(v) => {
                    FieldValue::Integer(i64::try_from(*v).expect("the history asks for such"))
                }
                other => unreachable!("numbers are not asked for {other:?}"),
            };
            says(Wide::of(own).order(&Wide::of(&wanted)))
        }
    }
}
