//! An ordered map of points, and the answers it gives: every rule of the query contract, the slow way.

use crate::exact::{Wide, decimal, ulps_between};
use crate::history::{NOW, PATTERNS, START};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_engine::query::{
    Aggregate, Buckets, Comparison, Condition, Every, Fill, Function, GroupBy, Literal, Name, Operator,
    Order, QueryRequest, ResultSeries, ResultValues, Shape, TagFilter, TagPredicate, Zone,
};
use wattlog_engine::{DeleteRequest, Rule, WriteBatch};
use wattlog_model::{FieldType, FieldValue, TagSet, Timestamp};

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

/// One row that is written.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) series: usize,
    pub(crate) time: i64,
    /// Field and value.
    pub(crate) values: Vec<(usize, FieldValue)>,
}

/// Rows of one write, in their order.
#[derive(Debug)]
pub(crate) struct Body(Vec<Point>);

impl Body {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, point: Point) {
        self.0.push(point);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Point) -> bool) {
        self.0.retain(keep);
    }

    pub(crate) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new("home", None);
        for (line, point) in self.0.iter().enumerate() {
            let (measurement, tags) = SERIES[point.series];
            let tags = TagSet::new(tags.iter().copied()).expect("the tags above are good");
            let slot = batch.series(measurement, &tags);
            let mut row = batch.row(slot, Timestamp(point.time), line as u32 + 1);
            point.values.iter().for_each(|(field, value)| row.value(FIELDS[*field].0, value));
        }
        batch
    }
}

impl FromIterator<Point> for Body {
    fn from_iter<T: IntoIterator<Item = Point>>(points: T) -> Self {
        Self(points.into_iter().collect())
    }
}

type Row = [Option<FieldValue>; FIELDS.len()];

/// Values to hide: of one series or a whole measurement, of some fields or all.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) measurement: &'static str,
    pub(crate) series: Option<usize>,
    pub(crate) fields: Option<Vec<usize>>,
    /// First time, and the first that is not covered.
    pub(crate) range: (i64, i64),
}

impl Deletion {
    pub(crate) fn request(&self) -> DeleteRequest {
        let is = |(key, value): (&str, &str)| TagFilter {
            key: key.to_owned(),
            predicate: TagPredicate::In(vec![value.to_owned()]),
        };
        let tags = self.series.map_or(Vec::new(), |series| {
            let value =
                |key| SERIES[series].1.iter().find(|(own, _)| *own == key).map_or("", |(_, value)| value);
            ["device_id", "location"].map(|key| is((key, value(key)))).to_vec()
        });
        let names = |fields: &Vec<usize>| fields.iter().map(|field| FIELDS[*field].0.to_owned()).collect();
        DeleteRequest {
            database: "home".to_owned(),
            retention_policy: None,
            measurement: Some(self.measurement.to_owned()),
            fields: self.fields.as_ref().map(names),
            tags,
            start: Timestamp(self.range.0),
            end: Timestamp(self.range.1),
        }
    }
}

/// What is kept of a measurement, or of all that have no rule of their own.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) measurement: Option<&'static str>,
    pub(crate) cutoff: Cutoff,
}

#[derive(Debug)]
pub(crate) enum Cutoff {
    Forever,
    /// As the database has it.
    Inherited,
    At(i64),
}

impl Retention {
    pub(crate) fn rule(&self) -> Rule {
        match self.cutoff {
            Cutoff::Forever => Rule::Forever,
            Cutoff::Inherited => Rule::Inherited,
            Cutoff::At(cutoff) => Rule::Keep { ns: NOW.abs_diff(cutoff) },
        }
    }
}

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

/// One series of an answer.
#[derive(Debug)]
pub(crate) struct Series {
    tags: Vec<(String, String)>,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    values: Vec<Option<FieldValue>>,
    /// By how many units in the last place each row may be off: sums of doubles that are no short decimals.
    ulps: Vec<u64>,
    /// By how much each row may be off.
    slack: Vec<f64>,
}

impl Column {
    fn exact(name: String, values: Vec<Option<FieldValue>>) -> Self {
        let ulps = vec![0; values.len()];
        let slack = vec![0.0; values.len()];
        Self { name, values, ulps, slack }
    }
}

impl Series {
    pub(crate) fn of(series: &ResultSeries) -> Self {
        let columns = series.columns.iter().map(|column| {
            let (name, rows) = (column.name.clone(), column.values.len());
            Column::exact(name, (0..rows).map(|row| value_at(&column.values, row)).collect())
        });
        Self { tags: series.tags.clone(), columns: columns.collect() }
    }
}

fn value_at(values: &ResultValues, row: usize) -> Option<FieldValue> {
    match values {
        ResultValues::Float(v) => v[row].map(FieldValue::Float),
        ResultValues::Integer(v) | ResultValues::Time(v) => v[row].map(FieldValue::Integer),
        ResultValues::Unsigned(v) => v[row].map(FieldValue::Unsigned),
        ResultValues::Boolean(v) => v[row].map(FieldValue::Boolean),
        ResultValues::String(v) => v[row].clone().map(FieldValue::String),
    }
}

/// Fails unless the answer is the expected one, value by value.
pub(crate) fn check(found: &[Series], expected: &[Series], request: &QueryRequest) {
    let tags = |series: &[Series]| series.iter().map(|s| s.tags.clone()).collect::<Vec<_>>();
    assert_eq!(tags(found), tags(expected), "series of {request:?}");
    for (found, expected) in found.iter().zip(expected) {
        let names = |series: &Series| series.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(found), names(expected), "columns of {:?}: {request:?}", expected.tags);
        for (own, wanted) in found.columns.iter().zip(&expected.columns) {
            let what = format!("{} of {:?}: {request:?}", wanted.name, expected.tags);
            assert_eq!(own.values.len(), wanted.values.len(), "rows of {what}");
            for (row, (a, b)) in own.values.iter().zip(&wanted.values).enumerate() {
                let same = match (a, b) {
                    (Some(FieldValue::Float(a)), Some(FieldValue::Float(b))) => {
                        a.to_bits() == b.to_bits()
                            || (a - b).abs() <= wanted.slack[row]
                            || wanted.ulps[row] > 0 && ulps_between(*a, *b) <= wanted.ulps[row]
                    }
                    (Some(a), Some(b)) => a.same_bits(b),
                    (a, b) => a.is_none() && b.is_none(),
                };
                assert!(same, "row {row}: found {a:?}, expected {b:?} in {what}");
            }
        }
    }
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
            Shape::Aggregate(aggregate) => buckets(request, &fields, aggregate, &rows, &curves),
        };
        Some(Series { tags, columns })
    }

    /// What lies between points, by field and bucket.
    fn curves(&self, request: &QueryRequest, fields: &[usize], members: &[usize]) -> Curves {
        let mut curves = Curves::new();
        let Shape::Aggregate(aggregate) = &request.shape else { return curves };
        let gap = aggregate.max_gap_ns;
        let range = request.start.0..request.end.0;
        let buckets = Buckets::new(aggregate, range.clone()).expect("a good length");
        let (from, to) = (request.start.0.saturating_sub(gap), request.end.0.saturating_add(gap));
        for field in fields {
            let wanted = |of: &[Function]| {
                aggregate
                    .functions
                    .iter()
                    .any(|function| of.contains(function) && is_defined(*function, *field))
            };
            let area = wanted(&[Function::Integral, Function::Twa, Function::Coverage]);
            let rise = wanted(&[Function::Increase, Function::Rate]);
            if !area && !rise {
                continue;
            }
            let curve = curves.entry(*field).or_default();
            for series in members {
                let rows = self.rows.range((*series, from)..(*series, to));
                let points: Vec<(i64, f64, bool)> = rows
                    .filter_map(|((_, time), row)| {
                        Some((*time, number(row[*field].as_ref()?), counts(request, *series, row)))
                    })
                    .collect();
                // A value that does not count parts its neighbours.
                for numbers in points.split(|(.., counts)| !counts) {
                    let numbers: Vec<(i64, f64)> = numbers.iter().map(|(time, v, _)| (*time, *v)).collect();
                    if area {
                        for pair in numbers
                            .windows(2)
                            .filter(|pair| i128::from(pair[1].0) - i128::from(pair[0].0) <= i128::from(gap))
                        {
                            divide(&buckets, &range, pair[0].0, pair[1].0, |bucket, a, b| {
                                let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
                                let at = |t: i64| v0 + (v1 - v0) * ((t - t0) as f64 / (t1 - t0) as f64);
                                let piece = f64::midpoint(at(a), at(b)) * (b - a) as f64;
                                let bucket = curve.entry(bucket).or_default();
                                bucket.area += piece;
                                bucket.size += v0.abs().max(v1.abs()) * (b - a) as f64;
                                bucket.covered += (b - a) as f64;
                                bucket.parts += 1.0;
                            });
                        }
                    }
                    if rise {
                        for ((t0, v0), (t1, v1)) in growths(numbers) {
                            let span = (i128::from(t1) - i128::from(t0)) as f64;
                            divide(&buckets, &range, t0, t1, |bucket, a, b| {
                                let bucket = curve.entry(bucket).or_default();
                                let length = (i128::from(b) - i128::from(a)) as f64;
                                bucket.rise += (v1 - v0) * (length / span);
                                bucket.risen += v0.abs().max(v1.abs()) * (length / span);
                                bucket.observed += length;
                                bucket.parts += 1.0;
                            });
                        }
                    }
                }
            }
            let series = members.iter().filter(|series| {
                let counted = |row: &Row| row[*field].is_some() && counts(request, **series, row);
                self.rows.range((**series, from)..(**series, to)).any(|(_, row)| counted(row))
            });
            let series = series.count() as f64;
            curve.values_mut().for_each(|bucket| bucket.series = series);
        }
        curves
    }
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

/// By field and first instant of the bucket.
type Curves = BTreeMap<usize, BTreeMap<i64, Between>>;

/// What lies between the points of a bucket, in units, nanoseconds and units times nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Between {
    area: f64,
    /// Bound of what was added to the area, for the tolerance.
    size: f64,
    covered: f64,
    rise: f64,
    risen: f64,
    observed: f64,
    /// Parts of pairs, each of which is rounded to a billionth of a unit, or of a unit and nanosecond.
    parts: f64,
    series: f64,
}

fn number(value: &FieldValue) -> f64 {
    match value {
        FieldValue::Float(v) => *v,
        FieldValue::Integer(v) => *v as f64,
        FieldValue::Unsigned(v) => *v as f64,
        FieldValue::Boolean(_) | FieldValue::String(_) => 0.0,
    }
}

/// The parts of a stretch within the range, bucket by bucket.
fn divide(buckets: &Buckets, range: &Range<i64>, from: i64, to: i64, mut add: impl FnMut(i64, i64, i64)) {
    let (mut at, end) = (from.max(range.start), to.min(range.end));
    while at < end {
        let bucket = buckets.of(at);
        let stop = bucket.end.min(end);
        add(bucket.start, at, stop);
        at = stop;
    }
}

/// Pairs of readings between which a counter grew: first all that is out of line with both neighbours is left out, then
/// falls of at most a hundredth; other falls begin at zero, but for the very last.
fn growths(readings: Vec<(i64, f64)>) -> Vec<((i64, f64), (i64, f64))> {
    let mut all = Vec::new();
    let mut readings = readings.into_iter().peekable();
    let Some(mut level) = readings.next() else { return all };
    while let Some(reading) = readings.next() {
        let falls = reading.1 < level.1;
        match readings.peek() {
            Some(next) if next.1 >= level.1 && (falls || next.1 < reading.1) => continue,
            None if falls => continue,
            _ => {}
        }
        if falls && level.1 - reading.1 <= level.1.abs() / 100.0 * (1.0 + 1e-12) {
            continue;
        }
        all.push(if falls { ((level.0, 0.0), reading) } else { (level, reading) });
        level = reading;
    }
    all
}

/// The value of a function and how far off it may be.
fn between(function: Function, bucket: Option<&Between>, length: f64) -> (Option<f64>, f64) {
    let hour = 3.6e12;
    let Some(bucket) = bucket else { return ((function == Function::Coverage).then_some(0.0), 0.0) };
    let (area, rise) = (bucket.covered > 0.0, bucket.observed > 0.0);
    let size = bucket.size * 1e-12 + bucket.parts * 2e-9;
    let risen = bucket.risen * 1e-12 + bucket.parts * 2e-9;
    match function {
        Function::Coverage => (Some(bucket.covered / (length * bucket.series.max(1.0))), 1e-12),
        Function::Integral => (area.then_some(bucket.area / hour), size / hour),
        Function::Twa => (area.then_some(bucket.area / bucket.covered), size / bucket.covered),
        Function::Increase => (rise.then_some(bucket.rise), risen),
        _ => (rise.then_some(bucket.rise / bucket.observed * hour), risen / bucket.observed * hour),
    }
}

fn needs_neighbours(function: Function) -> bool {
    use Function::{Coverage, Increase, Integral, Rate, Twa};
    matches!(function, Integral | Twa | Increase | Rate | Coverage)
}

/// Fields of the answer, in its order.
fn fields(request: &QueryRequest) -> Vec<usize> {
    let all = 0..FIELDS.len();
    match (&request.fields, &request.shape) {
        (Some(names), _) => {
            names.iter().filter_map(|name| FIELDS.iter().position(|(own, _)| own == name)).collect()
        }
        (None, Shape::Aggregate(Aggregate { functions, .. })) => {
            all.filter(|field| functions.iter().any(|function| is_defined(*function, *field))).collect()
        }
        (None, _) => all.collect(),
    }
}

fn is_defined(function: Function, field: usize) -> bool {
    let number = !matches!(FIELDS[field].1, FieldType::Boolean | FieldType::String);
    use Function::{Count, Coverage, Distinct, First, Last, Mode};
    number || matches!(function, Count | First | Last | Mode | Distinct | Coverage)
}

fn is_match(pattern: &str, value: &str) -> bool {
    PATTERNS.iter().find(|(own, _)| *own == pattern).expect("a pattern of the history").1(value)
}

fn times(times: impl Iterator<Item = i64>) -> Column {
    Column::exact("time".to_owned(), times.map(|time| Some(FieldValue::Integer(time))).collect())
}

fn raw(request: &QueryRequest, fields: &[usize], mut rows: Vec<(i64, Row)>) -> Vec<Column> {
    if request.order == Order::Descending {
        rows.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    }
    rows.truncate(request.limit.unwrap_or(usize::MAX));
    let mut columns = vec![times(rows.iter().map(|(time, _)| *time))];
    for field in fields {
        let values: Vec<_> = rows.iter().map(|(_, row)| row[*field].clone()).collect();
        // An unnamed field has a column only if one of the rows of the answer has a value.
        if request.fields.is_some() || values.iter().any(Option::is_some) {
            columns.push(Column::exact(FIELDS[*field].0.to_owned(), values));
        }
    }
    columns
}

/// The rows that draw a series: of each part of the range the first, the last, the first least and the first greatest of
/// each field, and nothing but those.
fn picture(request: &QueryRequest, pixels: u32, fields: &[usize], rows: &[(i64, &Row)]) -> Vec<(i64, Row)> {
    let (start, end) = (i128::from(request.start.0), i128::from(request.end.0));
    let part = |time: i64| (i128::from(time) - start) * i128::from(pixels) / (end - start);
    let mut kept: BTreeMap<i64, Row> = BTreeMap::new();
    for field in fields {
        let points: Vec<(i64, &FieldValue)> =
            rows.iter().filter_map(|(time, row)| Some((*time, row[*field].as_ref()?))).collect();
        for own in points.chunk_by(|a, b| part(a.0) == part(b.0)) {
            let mut wanted = vec![own[0], own[own.len() - 1]];
            if is_defined(Function::Min, *field) {
                let by = |a: &FieldValue, b: &FieldValue| Wide::of(a).order(&Wide::of(b));
                let better = |is: std::cmp::Ordering| {
                    own.iter()
                        .copied()
                        .reduce(|best, point| if by(point.1, best.1) == is { point } else { best })
                };
                wanted.extend(
                    [better(std::cmp::Ordering::Less), better(std::cmp::Ordering::Greater)]
                        .into_iter()
                        .flatten(),
                );
            }
            for (time, value) in wanted {
                kept.entry(time).or_insert_with(|| FIELDS.map(|_| None))[*field] = Some(value.clone());
            }
        }
    }
    kept.into_iter().collect()
}

fn last(fields: &[usize], rows: &[(i64, &Row)]) -> Vec<Column> {
    let newest = |field: usize| rows.iter().rev().find_map(|(time, r)| Some((*time, r[field].clone()?)));
    let row_time = fields.iter().filter_map(|field| newest(*field)).map(|(time, _)| time).max();
    let row_time = row_time.expect("a row has a value");
    let mut columns = vec![times([row_time].into_iter())];
    for field in fields {
        let (name, newest) = (FIELDS[*field].0, newest(*field));
        columns.push(Column::exact(name.to_owned(), vec![newest.clone().map(|(_, value)| value)]));
        if let Some((time, _)) = newest.filter(|(time, _)| *time < row_time) {
            columns.push(Column::exact(format!("{name}_time"), vec![Some(FieldValue::Integer(time))]));
        }
    }
    columns
}

/// First instant of the bucket of an instant.
fn bucket_start(request: &QueryRequest, aggregate: &Aggregate) -> impl Fn(i64) -> i64 {
    let (start, offset, every) = (request.start.0, aggregate.offset_ns, aggregate.every);
    // Borders in zones have a suite of their own (`calendar`); here it matters that all sources use the same.
    let buckets = Buckets::new(aggregate, start..request.end.0).expect("a good length");
    let utc = aggregate.zone == Zone::UTC;
    move |time| match every {
        None => start,
        Some(Every::Nanos(ns)) if utc => {
            let (ns, offset) = (i128::from(ns), i128::from(offset));
            let start = (i128::from(time) - offset).div_euclid(ns) * ns + offset;
            start.max(i128::from(i64::MIN)) as i64
        }
        Some(_) => buckets.of(time).start,
    }
}

fn buckets(
    request: &QueryRequest,
    fields: &[usize],
    aggregate: &Aggregate,
    rows: &[(i64, &Row)],
    curves: &Curves,
) -> Vec<Column> {
    let start = bucket_start(request, aggregate);
    let mut by_bucket: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for (time, row) in rows {
        by_bucket.entry(start(*time)).or_default().push(row);
    }
    let is_filled = aggregate.fill != Fill::None;
    for start in curves.values().flat_map(BTreeMap::keys) {
        by_bucket.entry(*start).or_default();
    }
    if is_filled {
        for start in all_buckets(request, aggregate) {
            by_bucket.entry(start).or_default();
        }
    }
    let mut buckets: Vec<(i64, Vec<&Row>)> = by_bucket.into_iter().collect();
    let limit = request.limit.unwrap_or(usize::MAX).min(buckets.len());
    let kept = match request.order {
        Order::Ascending => 0..limit,
        Order::Descending => buckets.len() - limit..buckets.len(),
    };
    if !is_filled {
        buckets = buckets[kept.clone()].to_vec();
    }
    let starts: Vec<i64> = buckets.iter().map(|(start, _)| *start).collect();
    let mut columns = vec![times(starts.iter().copied())];
    for field in fields {
        for function in aggregate.functions.iter().filter(|function| is_defined(**function, *field)) {
            let name = format!("{}_{function}", FIELDS[*field].0);
            if needs_neighbours(*function) {
                let ranges = Buckets::new(aggregate, request.start.0..request.end.0).expect("a good length");
                let found = starts.iter().map(|start| {
                    let bucket = ranges.of((*start).max(request.start.0));
                    let clipped = i128::from(bucket.end.min(request.end.0))
                        - i128::from(bucket.start.max(request.start.0));
                    between(*function, curves.get(field).and_then(|curve| curve.get(start)), clipped as f64)
                });
                let (values, slack): (Vec<_>, Vec<_>) = found.unzip();
                let values = values.into_iter().map(|value| value.map(FieldValue::Float)).collect();
                let mut column = Column { name, values, ulps: vec![0; slack.len()], slack };
                if *function != Function::Coverage {
                    fill(aggregate.fill, &starts, &mut column, &FieldValue::Float(0.0));
                }
                columns.push(column);
                continue;
            }
            let values = buckets.iter().map(|(_, rows)| {
                let values: Vec<&FieldValue> = rows.iter().filter_map(|row| row[*field].as_ref()).collect();
                compute(*function, &values)
            });
            let (mut values, inexact): (Vec<_>, Vec<_>) = values.unzip();
            if *function == Function::Sum {
                settle_sums(FIELDS[*field].1, &mut values);
            }
            let values = values.into_iter().map(Answer::value).collect();
            let ulps: Vec<u64> = inexact
                .into_iter()
                .map(|inexact| match (inexact, function) {
                    (true, Function::Stddev) => 1 << 20,
                    (inexact, _) => u64::from(inexact),
                })
                .collect();
            let largest = |rows: &[&Row]| {
                rows.iter()
                    .filter_map(|row| row[*field].as_ref())
                    .map(|v| number(v).abs())
                    .fold(0.0, f64::max)
            };
            let slack = buckets.iter().map(|(_, rows)| match function {
                Function::Stddev => largest(rows) * 1e-9,
                _ => 0.0,
            });
            let slack = slack.collect();
            let mut column = Column { name, values, ulps, slack };
            let empty = match (FIELDS[*field].1, function) {
                (_, Function::Mean | Function::Stddev | Function::Median | Function::Quantile(_))
                | (FieldType::Float, _) => FieldValue::Float(0.0),
                (FieldType::Integer, Function::Spread) => FieldValue::Unsigned(0),
                (FieldType::Integer, _) => FieldValue::Integer(0),
                (FieldType::Unsigned, _) => FieldValue::Unsigned(0),
                (FieldType::Boolean | FieldType::String, _) => FieldValue::Boolean(false),
            };
            if !matches!(function, Function::Count | Function::Distinct) {
                fill(aggregate.fill, &starts, &mut column, &empty);
            }
            columns.push(column);
        }
    }
    for column in &mut columns {
        if is_filled {
            column.values = column.values[kept.clone()].to_vec();
            column.ulps = column.ulps[kept.clone()].to_vec();
            column.slack = column.slack[kept.clone()].to_vec();
        }
        if request.order == Order::Descending {
            column.values.reverse();
            column.ulps.reverse();
            column.slack.reverse();
        }
    }
    columns
}

/// First instants of all buckets that meet the range, found by asking for one instant after the other.
fn all_buckets(request: &QueryRequest, aggregate: &Aggregate) -> Vec<i64> {
    let start_of = bucket_start(request, aggregate);
    let step = match aggregate.every {
        None => return vec![request.start.0],
        Some(Every::Nanos(ns)) => ns as i64,
        Some(_) => 3_600_000_000_000,
    };
    let mut starts: Vec<i64> = Vec::new();
    let mut time = request.start.0;
    while time < request.end.0 {
        starts.push(start_of(time));
        time = time.saturating_add(step);
    }
    starts.push(start_of(request.end.0 - 1));
    starts.dedup();
    starts
}

/// Fills what is missing; `empty` has the type of a column without a value.
fn fill(fill: Fill, starts: &[i64], column: &mut Column, empty: &FieldValue) {
    let old = column.values.clone();
    let before = |i: usize| (0..i).rev().find_map(|j| Some((j, old[j].clone()?)));
    let after = |i: usize| (i + 1..old.len()).find_map(|j| Some((j, old[j].clone()?)));
    let float = |value: &FieldValue| match value {
        FieldValue::Float(v) => Some(*v),
        FieldValue::Integer(v) => Some(*v as f64),
        FieldValue::Unsigned(v) => Some(*v as f64),
        FieldValue::Boolean(_) | FieldValue::String(_) => None,
    };
    let sample = old.iter().flatten().next().unwrap_or(empty);
    for (i, value) in column.values.iter_mut().enumerate().filter(|(_, value)| value.is_none()) {
        match fill {
            Fill::None | Fill::Null => {}
            Fill::Previous => {
                if let Some((j, known)) = before(i) {
                    (*value, column.ulps[i]) = (Some(known), column.ulps[j]);
                    column.slack[i] = column.slack[j];
                }
            }
            Fill::Number(number) => *value = float(sample).map(|_| FieldValue::Float(number)),
            Fill::Linear => {
                if let (Some((l, left)), Some((r, right))) = (before(i), after(i))
                    && let (Some(left), Some(right)) = (float(&left), float(&right))
                {
                    let share = (starts[i] - starts[l]) as f64 / (starts[r] - starts[l]) as f64;
                    *value = Some(FieldValue::Float(left * (1.0 - share) + right * share));
                    column.ulps[i] = 4 * column.ulps[l].max(column.ulps[r]);
                    column.slack[i] = 2.0 * column.slack[l].max(column.slack[r]);
                }
            }
        }
    }
    // A column has one type: integers stay integers only beside integers.
    let whole = |value: &Option<FieldValue>| match (value, sample) {
        (Some(FieldValue::Float(v)), FieldValue::Integer(_)) => v.fract() == 0.0,
        (Some(FieldValue::Float(v)), FieldValue::Unsigned(_)) => v.fract() == 0.0 && *v >= 0.0,
        _ => true,
    };
    let stays = !matches!(fill, Fill::Linear)
        && match fill {
            Fill::Number(number) => whole(&Some(FieldValue::Float(number))),
            _ => true,
        };
    for value in &mut column.values {
        *value = match (value.take(), sample) {
            (Some(FieldValue::Float(v)), FieldValue::Integer(_)) if stays => {
                Some(FieldValue::Integer(v as i64))
            }
            (Some(FieldValue::Float(v)), FieldValue::Unsigned(_)) if stays => {
                Some(FieldValue::Unsigned(v as u64))
            }
            (Some(value), _) if !stays => Some(float(&value).map_or(value, FieldValue::Float)),
            (value, _) => value,
        };
    }
}

/// A computed value. Sums of integers stay open until their column is known.
enum Answer {
    None,
    Value(FieldValue),
    Whole(i128),
}

impl Answer {
    fn value(self) -> Option<FieldValue> {
        match self {
            Self::None => None,
            Self::Value(value) => Some(value),
            Self::Whole(_) => unreachable!("sums are settled first"),
        }
    }
}

/// Sums of integers stay integers if all of the column fit; else all are floats.
fn settle_sums(field_type: FieldType, column: &mut [Answer]) {
    let fits = |answer: &Answer| match (field_type, answer) {
        (FieldType::Integer, Answer::Whole(sum)) => i64::try_from(*sum).is_ok(),
        (_, Answer::Whole(sum)) => u64::try_from(*sum).is_ok(),
        _ => true,
    };
    let all_fit = column.iter().all(fits);
    for answer in column {
        if let Answer::Whole(sum) = answer {
            *answer = Answer::Value(match (field_type, all_fit) {
                (FieldType::Integer, true) => FieldValue::Integer(*sum as i64),
                (_, true) => FieldValue::Unsigned(*sum as u64),
                (_, false) => FieldValue::Float(*sum as f64),
            });
        }
    }
}

/// The answer, and whether it may be off by one unit in the last place.
fn compute(function: Function, values: &[&FieldValue]) -> (Answer, bool) {
    let exact = |value: FieldValue| (Answer::Value(value), false);
    if function == Function::Count {
        return exact(FieldValue::Integer(values.len() as i64));
    }
    if function == Function::Distinct {
        return exact(FieldValue::Integer(sorted(values).chunk_by(|a, b| is_same(a, b)).count() as i64));
    }
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return (Answer::None, false) };
    let mut sum = Wide::zero();
    let mut whole = 0_i128;
    let mut inexact = false;
    for value in values {
        match value {
            FieldValue::Float(v) => {
                sum.add_float(*v);
                // A zero of either sign adds nothing.
                inexact |= decimal(*v).is_none() && *v != 0.0;
            }
            FieldValue::Integer(v) => {
                sum.add_integer(i128::from(*v));
                whole += i128::from(*v);
            }
            FieldValue::Unsigned(v) => {
                sum.add_integer(i128::from(*v));
                whole += i128::from(*v);
            }
            FieldValue::Boolean(_) | FieldValue::String(_) => {}
        }
    }
    let less = |a: &FieldValue, b: &FieldValue| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a < b,
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a < b,
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a < b,
        _ => false,
    };
    match function {
        Function::Sum if matches!(first, FieldValue::Float(_)) => {
            (Answer::Value(FieldValue::Float(sum.value())), inexact)
        }
        Function::Sum => (Answer::Whole(whole), false),
        Function::Mean => (Answer::Value(FieldValue::Float(sum.value() / values.len() as f64)), inexact),
        Function::Min => exact(values.iter().fold(*first, |a, b| if less(b, a) { b } else { a }).clone()),
        Function::Max => exact(values.iter().fold(*first, |a, b| if less(a, b) { b } else { a }).clone()),
        Function::First => exact((*first).clone()),
        Function::Last => exact((*last).clone()),
        Function::Spread => {
            match (compute(Function::Min, values).0.value(), compute(Function::Max, values).0.value()) {
                (Some(FieldValue::Float(low)), Some(FieldValue::Float(high))) => {
                    let mut spread = Wide::zero();
                    spread.add_float(high);
                    spread.add_float(-low);
                    (Answer::Value(FieldValue::Float(spread.value())), inexact)
                }
                (Some(FieldValue::Integer(low)), Some(FieldValue::Integer(high))) => {
                    exact(FieldValue::Unsigned(high.abs_diff(low)))
                }
                (Some(FieldValue::Unsigned(low)), Some(FieldValue::Unsigned(high))) => {
                    exact(FieldValue::Unsigned(high - low))
                }
                other => unreachable!("{other:?} has no spread"),
            }
        }
        Function::Median => quantile(values, 0.5),
        Function::Quantile(millionths) => quantile(values, f64::from(millionths) / 1e6),
        Function::Mode => {
            let sorted = sorted(values);
            let mut groups: Vec<&[&FieldValue]> = sorted.chunk_by(|a, b| is_same(a, b)).collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
            exact(groups[0][0].clone())
        }
        Function::Stddev => {
            let numbers: Vec<f64> = values.iter().map(|value| number(value)).collect();
            if numbers.len() < 2 {
                return (Answer::None, false);
            }
            let n = numbers.len() as f64;
            // About the median, so that little cancels; values of any size then leave what they have.
            let centre = numbers.iter().sum::<f64>() / n;
            let off: f64 = numbers.iter().map(|v| v - centre).sum::<f64>() / n;
            let squares: f64 = numbers.iter().map(|v| (v - centre - off).powi(2)).sum();
            (Answer::Value(FieldValue::Float((squares / (n - 1.0)).sqrt())), true)
        }
        function => unreachable!("{function} is not among those asked for"),
    }
}

/// In order; zeros of either sign apart.
fn sorted<'a>(values: &[&'a FieldValue]) -> Vec<&'a FieldValue> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a.total_cmp(b),
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a.cmp(b),
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a.cmp(b),
        (FieldValue::Boolean(a), FieldValue::Boolean(b)) => a.cmp(b),
        (FieldValue::String(a), FieldValue::String(b)) => a.cmp(b),
        (a, b) => unreachable!("{a:?} and {b:?} are of one field"),
    });
    sorted
}

fn is_same(a: &FieldValue, b: &FieldValue) -> bool {
    a.same_bits(b) || matches!((a, b), (FieldValue::Float(a), FieldValue::Float(b)) if a == b)
}

fn quantile(values: &[&FieldValue], share: f64) -> (Answer, bool) {
    let numbers: Vec<f64> = sorted(values).into_iter().map(number).collect();
    let millionths = (share * 1e6).round() as usize;
    let place = (numbers.len() - 1) * millionths;
    let (low, part) = (place / 1_000_000, (place % 1_000_000) as f64 / 1e6);
    let (a, b) = (numbers[low], numbers[(low + 1).min(numbers.len() - 1)]);
    let value = if part == 0.0 || a == b { a } else { a * (1.0 - part) + b * part };
    (Answer::Value(FieldValue::Float(value)), false)
}
