//! What is written and asked, by chance: few series and times, so that bodies meet, and all borders are among them.

use crate::naive::{Body, Cutoff, Deletion, FIELDS, Point, Retention, SERIES, Store};
use std::time::Duration;
use wattlog_engine::io::sim::Rng;
use wattlog_engine::query::{
    Aggregate, Comparison, Condition, Every, Fill, Function, GroupBy, Literal, Name, Operator, Order,
    QueryRequest, Shape, TagFilter, TagPredicate, Zone,
};
use wattlog_model::{FieldType, FieldValue, Timestamp};

/// Twenty minutes before a midnight (UTC), so that most histories cross it.
pub(crate) const START: i64 = 1_780_272_000_000_000_000 - 1200 * SECOND;
const SECOND: i64 = 1_000_000_000;
/// What the clock says: later than all points but the last there may be.
pub(crate) const NOW: i64 = START + 60 * Timestamp::DAY_NS;
/// Lengths of buckets that queries ask for, in nanoseconds.
const EVERY: [i64; 6] = [SECOND, 10 * SECOND, 60 * SECOND, 900 * SECOND, 3600 * SECOND, Timestamp::DAY_NS];

/// One operation.
#[derive(Debug)]
pub(crate) enum Step {
    Write(Body),
    Delete(Deletion),
    Retain(Retention),
    Seal,
    Compact,
    Reopen,
    Query(Box<QueryRequest>),
}

#[derive(Debug)]
pub(crate) struct History {
    rng: Rng,
    /// Where the next run of rows of a series begins.
    heads: [i64; SERIES.len()],
    /// Before these times nothing is rewritten for now, so that some row groups meet no other.
    quiet: [i64; SERIES.len()],
    /// The heads at the last seal.
    last_seal: [i64; SERIES.len()],
    begun: bool,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let start = [START; SERIES.len()];
        Self { rng: Rng::new(seed), heads: start, quiet: start, last_seal: start, begun: false }
    }

    pub(crate) fn next(&mut self, store: &Store) -> Step {
        if !std::mem::replace(&mut self.begun, true) {
            return Step::Write(self.first_body());
        }
        match self.rng.below(1000) {
            0..=19 => {
                let last_seal = std::mem::replace(&mut self.last_seal, self.heads);
                self.quiet = match self.rng.below(100) {
                    0..=69 => self.heads,
                    70..=97 => last_seal,
                    _ => [START; SERIES.len()],
                };
                Step::Seal
            }
            20..=31 => Step::Reopen,
            32..=34 => Step::Compact,
            35..=44 => Step::Delete(self.deletion(store)),
            45..=48 => Step::Retain(self.retention(store)),
            49..=161 => Step::Write(self.run_of_rows()),
            162..=480 => Step::Write(self.scattered(store)),
            _ => Step::Query(Box::new(self.query(store))),
        }
    }

    /// One row of the first series of each measurement with every field: fixes the order of fields.
    fn first_body(&mut self) -> Body {
        let series: Vec<usize> =
            (0..SERIES.len()).filter(|i| *i == 0 || SERIES[*i].0 != SERIES[*i - 1].0).collect();
        series.into_iter().map(|series| self.point(series, START - SECOND, |_| true)).collect()
    }

    /// Many rows of one series, mostly in step, and mostly of one shape.
    fn run_of_rows(&mut self) -> Body {
        let series = self.rng.index(SERIES.len());
        let rows = 20 + self.rng.below(200);
        let step = *self.rng.pick(&[SECOND, 10 * SECOND, 10 * SECOND, 60 * SECOND]);
        let (shape, holes) = (1 + self.rng.below(63), self.rng.chance(30));
        let mut body = Body::new();
        for _ in 0..rows {
            let at = self.heads[series];
            let jitter = if self.rng.chance(3) { self.rng.below(SECOND as u64) as i64 } else { 0 };
            self.heads[series] += step;
            let gaps = if holes { self.rng.next_u64() } else { u64::MAX };
            body.push(self.point(series, at + jitter, |field| shape & gaps >> field & 1 == 1));
        }
        if self.rng.chance(20) {
            // The next run begins late, or meets this one.
            let next = self.heads[series] + step * (self.rng.below(400) as i64 - 250);
            self.heads[series] = next.max(self.quiet[series]);
        }
        body.retain(|point| !point.values.is_empty());
        body
    }

    /// A stretch of time, short or long, of one series or all, of all fields or some.
    fn deletion(&mut self, store: &Store) -> Deletion {
        let series = self.rng.index(SERIES.len());
        let start = self.time(series, START - SECOND, store);
        let len = *self.rng.pick(&[1, 10 * SECOND, 600 * SECOND, 7200 * SECOND, Timestamp::DAY_NS]);
        let range = (start.min(i64::MAX - 1), start.saturating_add(len));
        let some = (0..FIELDS.len()).filter(|_| self.rng.chance(40)).collect::<Vec<_>>();
        let fields = (self.rng.chance(50) && !some.is_empty()).then_some(some);
        Deletion {
            measurement: SERIES[series].0,
            series: self.rng.chance(70).then_some(series),
            fields,
            range,
        }
    }

    /// Hides the oldest few points of a measurement, or of all; now and then a rule that hides nothing new.
    fn retention(&mut self, store: &Store) -> Retention {
        let series = self.rng.index(SERIES.len());
        let measurement = self.rng.chance(60).then_some(SERIES[series].0);
        let cutoff = match self.rng.below(10) {
            0 => Cutoff::Forever,
            1 if measurement.is_some() => Cutoff::Inherited,
            2 => Cutoff::At(START - 7200 * SECOND),
            _ => {
                let cutoff = store.oldest(series, self.rng.below(6)) + self.rng.below(2) as i64;
                // A rule keeps at least a nanosecond.
                Cutoff::At(cutoff.min(NOW - 1))
            }
        };
        Retention { measurement, cutoff }
    }

    /// A few rows where something is already, or where a border is.
    fn scattered(&mut self, store: &Store) -> Body {
        let mut body = Body::new();
        for _ in 0..=self.rng.below(12) {
            let series = self.rng.index(SERIES.len());
            let time = self.time(series, self.quiet[series], store);
            let shape = self.rng.next_u64();
            let point = self.point(series, time, |field| shape >> field & 1 == 1);
            if !point.values.is_empty() {
                body.push(point);
            }
        }
        if body.is_empty() {
            body.push(self.point(0, START, |_| true));
        }
        body
    }

    /// A time from `first` on at which something stands, or beside a border of buckets, days or all time.
    fn time(&mut self, series: usize, first: i64, store: &Store) -> i64 {
        let span = (self.heads[series] - first).max(0);
        let any = first + (self.rng.next_u64() % (span as u64 + 1)) as i64;
        match self.rng.below(100) {
            0..=59 => store.time_near(series, any),
            60..=98 => {
                let every = *self.rng.pick(&EVERY);
                let border = (any.div_euclid(every) + self.rng.below(2) as i64).saturating_mul(every);
                let border = border + self.rng.below(3) as i64 - 1;
                let last = if self.rng.chance(3) { i64::MAX } else { self.heads[series].max(first) };
                border.clamp(first, last)
            }
            _ => *self.rng.pick(&[Timestamp::MIN.0, Timestamp::MAX.0]),
        }
    }

    fn point(&mut self, series: usize, time: i64, has: impl Fn(usize) -> bool) -> Point {
        let fields = (0..FIELDS.len()).filter(|field| has(*field));
        let values = fields.map(|field| (field, self.value(field))).collect();
        Point { series, time, values }
    }

    fn value(&mut self, field: usize) -> FieldValue {
        let rng = &mut self.rng;
        match (field, FIELDS[field].1) {
            // Short decimals of all kinds: their sums must be right to the bit.
            (0, _) => FieldValue::Float(match rng.below(40) {
                0 => -0.0,
                1 => 0.0,
                2 => (rng.below(1 << 52) as f64) / 1e3,
                3 => -(rng.below(1_000_000_000) as f64) / 1e9,
                _ => (rng.below(9000) as f64 - 2000.0) / 10.0,
            }),
            // Any doubles of one sign: sums lose nothing by cancelling, and must be right to one unit.
            (_, FieldType::Float) => FieldValue::Float(match rng.below(4) {
                0 => 1.0 / (1.0 + rng.below(1000) as f64),
                1 => f64::from_bits(rng.below(1 << 52) | (1023 + rng.below(40)) << 52),
                _ => 230.0 + rng.below(100) as f64 / 10.0,
            }),
            (_, FieldType::Integer) => FieldValue::Integer(match rng.below(20) {
                0 => *rng.pick(&[i64::MIN, i64::MAX, 0]),
                _ => rng.below(2000) as i64 - 1000,
            }),
            (_, FieldType::Unsigned) => FieldValue::Unsigned(match rng.below(20) {
                0 => u64::MAX,
                _ => rng.below(100_000),
            }),
            (_, FieldType::Boolean) => FieldValue::Boolean(rng.chance(50)),
            (_, FieldType::String) => FieldValue::String(match rng.below(10) {
                0 => format!("free text {}", rng.next_u64()).into(),
                1 => "".into(),
                _ => (*rng.pick(&["idle", "charging", "Ładowanie"])).into(),
            }),
        }
    }

    fn query(&mut self, store: &Store) -> QueryRequest {
        let series = self.rng.index(SERIES.len());
        let (start, end) = match self.rng.below(10) {
            0..=2 => (Timestamp::MIN.0, i64::MAX),
            _ => {
                let [a, b] = [(); 2].map(|()| self.time(series, START - SECOND, store));
                // Half-open: borders lie on points as often as behind them.
                (a.min(b), a.max(b).saturating_add(1 - self.rng.below(2) as i64).max(a.min(b) + 1))
            }
        };
        let mut request = QueryRequest::raw("home", SERIES[series].0, Timestamp(start), Timestamp(end));
        request.shape = match self.rng.below(10) {
            0..=3 => Shape::Raw,
            4 => Shape::Last,
            5 => Shape::Pixels(*self.rng.pick(&[1, 2, 10, 1000, u32::MAX])),
            _ => {
                let functions = Function::ALL.into_iter().filter(|_| self.rng.chance(30)).collect::<Vec<_>>();
                let functions = if functions.is_empty() { vec![Function::Sum] } else { functions };
                Shape::Aggregate(self.aggregate(functions))
            }
        };
        if let Shape::Aggregate(aggregate) = &mut request.shape {
            // All buckets only where they are few: some histories have points at both ends of time.
            let length = match aggregate.every {
                Some(Every::Nanos(ns)) => i128::from(ns),
                Some(_) => i128::from(Timestamp::DAY_NS),
                None => i128::MAX,
            };
            if (i128::from(end) - i128::from(start)) / length > 3000 {
                aggregate.fill = Fill::None;
            }
        }
        if let Shape::Aggregate(aggregate) = &mut request.shape {
            // Two points may be centuries apart: a counter grows in each bucket between them.
            let counts = |function: &Function| matches!(function, Function::Increase | Function::Rate);
            if aggregate.every.is_some() && aggregate.functions.iter().any(counts) {
                aggregate.every = None;
            }
        }
        if self.rng.chance(70) {
            request.fields = Some(self.fields(&request.shape));
        }
        request.tags = (0..self.rng.below(3)).map(|_| self.filter()).collect();
        request.condition = self.rng.chance(40).then(|| self.condition(series, 0));
        request.group_by = match self.rng.below(4) {
            0 | 1 => GroupBy::Default,
            2 => GroupBy::All,
            _ => {
                let keys: &[&[&str]] =
                    &[&["location"], &["device_id"], &["location", "device_id"], &["nowhere"], &[]];
                GroupBy::Keys(self.rng.pick(keys).iter().map(|key| (*key).to_owned()).collect())
            }
        };
        if matches!(request.shape, Shape::Pixels(_)) && matches!(request.group_by, GroupBy::Keys(_)) {
            // Each series is drawn by itself.
            request.group_by = GroupBy::Default;
        }
        request.order = if self.rng.chance(50) { Order::Ascending } else { Order::Descending };
        let limit = *self.rng.pick(&[0, 1, 2, 7, 100, 100_000]);
        request.limit = self.rng.chance(50).then_some(limit);
        request
    }

    /// Comparisons that hold often, seldom, always or never, joined in any way.
    fn condition(&mut self, series: usize, depth: u32) -> Condition {
        match self.rng.below(10) {
            0 | 1 if depth < 3 => {
                Condition::All((0..=self.rng.below(3)).map(|_| self.condition(series, depth + 1)).collect())
            }
            2 | 3 if depth < 3 => {
                Condition::Any((0..=self.rng.below(3)).map(|_| self.condition(series, depth + 1)).collect())
            }
            4 if depth < 3 => Condition::Not(Box::new(self.condition(series, depth + 1))),
            5 => {
                // Keys that the measurement has.
                let keys: &[&str] = if SERIES[series].0 == "weather_data" {
                    &["location"]
                } else {
                    &["device_id", "location"]
                };
                let key = (*self.rng.pick(keys)).to_owned();
                let value = (*self.rng.pick(&["a", "b", "roof", "garage", ""])).to_owned();
                let name = if self.rng.chance(50) { Name::Any(key) } else { Name::Tag(key) };
                let operator = self.operator();
                Condition::Compare(Comparison { name, operator, value: Literal::Text(value) })
            }
            _ => self.comparison(),
        }
    }

    fn operator(&mut self) -> Operator {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        *self.rng.pick(&[Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual])
    }

    fn comparison(&mut self) -> Condition {
        let field = self.rng.index(FIELDS.len());
        let mut operator = self.operator();
        let value = match (self.value(field), self.rng.below(6)) {
            (FieldValue::Boolean(v), _) => {
                operator = if self.rng.chance(50) { Operator::Equal } else { Operator::NotEqual };
                Literal::Boolean(v)
            }
            (FieldValue::String(v), _) => Literal::Text(v.to_string()),
            // Beyond all values, or at their edge.
            (_, 0) => Literal::Integer(*self.rng.pick(&[
                -5000,
                0,
                1_000_000,
                i128::from(i64::MIN),
                i128::from(i64::MAX),
            ])),
            (_, 1) => Literal::Float(*self.rng.pick(&[
                -0.0,
                -5000.5,
                0.5,
                1e300,
                -1e300,
                9_223_372_036_854_775_807.0,
            ])),
            (FieldValue::Float(v), _) => Literal::Float(v),
            (FieldValue::Integer(v), _) => Literal::Integer(v.into()),
            (FieldValue::Unsigned(v), _) => Literal::Integer(i64::try_from(v).unwrap_or(i64::MAX).into()),
        };
        Condition::compare(FIELDS[field].0, operator, value)
    }

    /// Buckets of any length in any zone, or one.
    fn aggregate(&mut self, functions: Vec<Function>) -> Aggregate {
        let nanos = Every::Nanos(*self.rng.pick(&EVERY) as u64);
        let every = match self.rng.below(20) {
            0..=4 => None,
            5..=16 => Some(nanos),
            _ => Some(*self.rng.pick(&[Every::Days(1), Every::Weeks(1), Every::Months(1)])),
        };
        // The history crosses a midnight of UTC.
        let zone = match self.rng.below(10) {
            0..=5 => "UTC",
            6 | 7 => "Europe/Warsaw",
            _ => "Asia/Kathmandu",
        };
        let zone = Zone::named(zone).expect("the zone is built in");
        let offset_ns =
            if self.rng.chance(20) { self.rng.below(SECOND as u64) as i64 - SECOND / 2 } else { 0 };
        let fill = *self.rng.pick(&[
            Fill::Null,
            Fill::Previous,
            Fill::Linear,
            Fill::Number(-0.5),
            Fill::Number(7.0),
        ]);
        let fill = if self.rng.chance(30) { fill } else { Fill::None };
        let max_gap_ns = *self.rng.pick(&[SECOND, 10 * SECOND, 60 * SECOND, 3600 * SECOND]);
        Aggregate { functions, every, offset_ns, zone, fill, max_gap_ns, ..Aggregate::default() }
    }

    /// A subset of the fields in any order, an unknown one among them at times; all fit the shape's functions.
    fn fields(&mut self, shape: &Shape) -> Vec<String> {
        let fits = |field_type: FieldType| match shape {
            Shape::Aggregate(Aggregate { functions, .. }) => {
                !matches!(field_type, FieldType::Boolean | FieldType::String)
                    || functions.iter().all(|function| function.takes_any_type())
            }
            _ => true,
        };
        let mut names: Vec<String> = Vec::new();
        for (name, field_type) in FIELDS {
            if fits(field_type) && self.rng.chance(45) {
                let at = self.rng.index(names.len() + 1);
                names.insert(at, name.to_owned());
            }
        }
        if names.is_empty() || self.rng.chance(5) {
            names.push("unknown".to_owned());
        }
        names
    }

    fn filter(&mut self) -> TagFilter {
        let key = (*self.rng.pick(&["device_id", "device_id", "location", "nowhere"])).to_owned();
        let values = || ["a", "b", "c", "roof", "garage", ""].map(str::to_owned);
        let some = values().into_iter().filter(|_| self.rng.chance(45)).collect();
        let pattern = self.rng.pick(&PATTERNS).0.to_owned();
        let predicate = match self.rng.below(4) {
            0 => TagPredicate::In(some),
            1 => TagPredicate::NotIn(some),
            2 => TagPredicate::Matches(pattern),
            _ => TagPredicate::NotMatches(pattern),
        };
        TagFilter { key, predicate }
    }
}

/// An expression, and what it finds, told in another way.
type Pattern = (&'static str, fn(&str) -> bool);

/// Expressions that filters use.
pub(crate) const PATTERNS: [Pattern; 5] = [
    ("^[ab]$", |text| text == "a" || text == "b"),
    ("o+f|^c", |text| text.contains("of") || text.starts_with('c')),
    ("^$", str::is_empty),
    ("", |_| true),
    ("age$", |text| text.ends_with("age")),
];

/// Sums of the fields whose sums are exact, for every series and in buckets of an hour: a seal must not change a bit.
pub(crate) fn sums_of_everything() -> Vec<QueryRequest> {
    let measurements = SERIES.iter().map(|(measurement, _)| *measurement);
    let mut measurements: Vec<&str> = measurements.collect();
    measurements.dedup();
    let request = |measurement| {
        let mut request = QueryRequest::raw("home", measurement, Timestamp::MIN, Timestamp(i64::MAX));
        request.fields = Some(["power", "energy", "total"].map(str::to_owned).to_vec());
        request.group_by = GroupBy::All;
        request.shape = Shape::aggregate(vec![Function::Sum], Some(Duration::from_secs(3600)));
        request
    };
    let mut all: Vec<QueryRequest> = measurements.iter().copied().map(request).collect();
    for (i, measurement) in measurements.into_iter().enumerate() {
        let mut request = request(measurement);
        request.fields = Some(vec!["power".to_owned()]);
        // Some need what lies between points; statistics must not change a bit of it.
        let functions =
            vec![Function::Integral, Function::Coverage, Function::Twa, Function::Stddev, Function::Median];
        request.shape = match i {
            0 => Shape::aggregate(functions, Some(Duration::from_secs(3600))),
            _ => Shape::aggregate(vec![Function::Increase, Function::Rate, Function::Mode], None),
        };
        all.push(request);
    }
    all
}
