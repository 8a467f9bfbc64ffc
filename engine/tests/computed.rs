//! Computed columns against a store in which their values are written as a field: every answer must be the same, bit for
//! bit, whatever is sealed, merged, overwritten or deleted beneath.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{
    Aggregate, Arithmetic, Computed, Condition, Every, Expression, Function, GroupBy, Literal, Operator,
    Order, QueryControl, QueryRequest, QueryResult, Shape,
};
use wattlog_engine::{DeleteRequest, Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND - 600 * SECOND;
const SITES: [&str; 2] = ["x", "y"];

/// By site and time: `a` in tenths, `b` in hundredths.
type Truth = BTreeMap<(usize, i64), (Option<i64>, Option<i64>)>;

fn open() -> Engine {
    let options = Options { ballast_bytes: 0, memtable_bytes: 256 << 10, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).expect("a store always opens")
}

fn write(engine: &Engine, site: usize, rows: &[(i64, &str, f64)]) {
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::new([("site", SITES[site])]).unwrap());
    for (line, (time, field, value)) in rows.iter().enumerate() {
        batch.row(slot, Timestamp(*time), line as u32).value(field, &FieldValue::Float(*value));
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

/// Writes, overwrites, deletes, seals and merges; what must then be there is the truth.
fn history(rng: &mut Rng, engine: &Engine) -> Truth {
    let mut truth = Truth::new();
    for _ in 0..40 {
        let site = rng.index(2);
        let begin = START + rng.below(4000) as i64 * 10 * SECOND;
        match rng.below(20) {
            0..=2 => engine.seal().map(drop).expect("a good disk takes a seal"),
            3 => engine.compact().map(drop).expect("a good disk takes a compaction"),
            4 => {
                let end = begin + 2000 * SECOND;
                let request = DeleteRequest {
                    database: "d".to_owned(),
                    retention_policy: None,
                    measurement: Some("m".to_owned()),
                    fields: Some(vec!["a".to_owned()]),
                    tags: Vec::new(),
                    start: Timestamp(begin),
                    end: Timestamp(end),
                };
                engine.delete(&request).expect("a good disk takes a delete");
                truth
                    .iter_mut()
                    .filter(|((_, time), _)| (begin..end).contains(time))
                    .for_each(|(_, row)| row.0 = None);
            }
            _ => {
                let field = if rng.chance(50) { "a" } else { "b" };
                let mut rows: Vec<(i64, i64)> = Vec::new();
                for i in 0..=rng.below(400) as i64 {
                    if rng.chance(95) {
                        rows.push((begin + i * 10 * SECOND, rng.below(20_000) as i64 - 5000));
                    }
                }
                for (time, value) in &rows {
                    let row = truth.entry((site, *time)).or_default();
                    *(if field == "a" { &mut row.0 } else { &mut row.1 }) = Some(*value);
                }
                let scale = if field == "a" { 10.0 } else { 100.0 };
                let rows: Vec<_> = rows.iter().map(|(time, v)| (*time, field, *v as f64 / scale)).collect();
                write(engine, site, &rows);
            }
        }
    }
    truth
}

/// The same points in a store of its own, with `a - b` in `c`.
fn written_out(truth: &Truth) -> Engine {
    let engine = open();
    for site in 0..2 {
        let mut rows = Vec::new();
        for ((_, time), (a, b)) in truth.iter().filter(|((own, _), _)| *own == site) {
            rows.extend(a.map(|a| (*time, "a", a as f64 / 10.0)));
            rows.extend(a.zip(*b).map(|(a, b)| (*time, "c", (10 * a - b) as f64 / 100.0)));
        }
        // So that names are known and series have an order, whatever there is.
        rows.push((0, "a", 1.0));
        rows.push((0, "c", 1.0));
        write(&engine, site, &rows);
    }
    engine.compact().expect("a good disk takes a compaction");
    engine
}

fn request(rng: &mut Rng) -> QueryRequest {
    let time = |rng: &mut Rng| START + rng.below(5000) as i64 * 10 * SECOND;
    let [a, b] = [(); 2].map(|()| time(rng));
    let mut request = QueryRequest::raw("d", "m", Timestamp(a.min(b)), Timestamp(a.max(b) + 1));
    request.shape = match rng.below(10) {
        0..=2 => Shape::Raw,
        3 => Shape::Last,
        _ => Shape::Aggregate(Aggregate {
            functions: Function::ALL.into_iter().filter(|_| rng.chance(40)).chain([Function::Sum]).collect(),
            every: rng
                .chance(70)
                .then(|| Every::from(Duration::from_secs(*rng.pick(&[60, 900, 3600, 86_400])))),
            max_gap_ns: *rng.pick(&[10, 60, 3600]) * SECOND,
            ..Aggregate::default()
        }),
    };
    let bound = Literal::Float(rng.below(2000) as f64 / 10.0 - 50.0);
    let name = if rng.chance(70) { "c" } else { "a" };
    let operator = *rng.pick(&[Operator::Less, Operator::GreaterOrEqual, Operator::NotEqual]);
    let compare = Condition::compare(name, operator, bound);
    request.condition = match rng.below(10) {
        0..=3 => None,
        4 | 5 => Some(Condition::Not(Box::new(compare))),
        _ => Some(compare),
    };
    request.group_by = if rng.chance(50) { GroupBy::All } else { GroupBy::Default };
    request.order = if rng.chance(50) { Order::Ascending } else { Order::Descending };
    request.limit = rng.chance(30).then(|| 1 + rng.index(20));
    request
}

/// `a - b` as `c`.
fn difference() -> Computed {
    let field = |name: &str| Box::new(Expression::Field(name.to_owned()));
    Computed {
        name: "c".to_owned(),
        expression: Expression::Binary(Arithmetic::Subtract, field("a"), field("b")),
    }
}

fn ask(engine: &Engine, request: &QueryRequest) -> QueryResult {
    engine.query(request, &QueryControl::default()).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

#[test]
fn a_computed_column_answers_like_a_field_with_its_values() {
    let mut answered = 0;
    for seed in 1..=12 {
        let mut rng = Rng::new(seed);
        let engine = open();
        write(&engine, 0, &[(0, "a", 1.0), (0, "b", 0.0)]);
        write(&engine, 1, &[(0, "a", 1.0), (0, "b", 0.0)]);
        let truth = history(&mut rng, &engine);
        let other = written_out(&truth);
        for _ in 0..60 {
            let mut computed = request(&mut rng);
            let mut written = computed.clone();
            let with_field = rng.chance(30);
            computed.fields = with_field.then(|| vec!["a".to_owned()]);
            computed.computed = vec![difference()];
            let names = if with_field { vec!["a", "c"] } else { vec!["c"] };
            written.fields = Some(names.into_iter().map(str::to_owned).collect());
            let (found, expected) = (ask(&engine, &computed), ask(&other, &written));
            assert_eq!(found.series, expected.series, "seed {seed}: {computed:?}");
            answered += found.rows();
        }
    }
    assert!(answered > 10_000, "{answered} rows are no test");
}

#[test]
fn what_is_no_number_is_missing_and_bad_expressions_are_refused() {
    let engine = open();
    write(&engine, 0, &[(0, "a", 1.0), (0, "b", 0.0), (10, "a", 1.0), (10, "b", 4.0), (20, "a", 1.0)]);
    let field = |name: &str| Box::new(Expression::Field(name.to_owned()));
    let asked = |expression| {
        let mut request = QueryRequest::raw("d", "m", Timestamp(0), Timestamp(100));
        request.computed = vec![Computed { name: "q".to_owned(), expression }];
        engine.query(&request, &QueryControl::default())
    };
    let quotient = asked(Expression::Binary(Arithmetic::Divide, field("a"), field("b"))).unwrap();
    assert_eq!(quotient.rows(), 1, "neither by zero nor by nothing: {quotient:?}");
    let message = |expression| asked(expression).unwrap_err().to_string();
    assert!(message(*field("nowhere")).contains("neither a field nor a tag \"nowhere\""));
    let deep = (0..=Expression::MAX_DEPTH).fold(*field("a"), |inner, _| Expression::Negate(Box::new(inner)));
    assert!(message(Expression::Number(1.0)).contains("names no field"));
    assert!(message(deep).contains("nested at most 32 deep"));
    let mut request = QueryRequest::raw("d", "m", Timestamp(0), Timestamp(100));
    request.fields = Some(vec!["a".to_owned()]);
    request.computed = vec![Computed { name: "a".to_owned(), expression: Expression::Number(1.0) }];
    let error = engine.query(&request, &QueryControl::default()).unwrap_err();
    assert!(error.to_string().contains("a name that no other column has"), "{error}");
}
