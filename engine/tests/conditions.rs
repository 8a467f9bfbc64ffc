//! Conditions on rows: what they read, what they refuse, and what they do beside damage. What they answer is compared with
//! an ordered map in `model`.

use std::sync::Arc;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{
    Condition, Function, Literal, Operator, QueryControl, QueryError, QueryRequest, QueryResult,
    ResultValues, Shape,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND;
const DAY: i64 = Timestamp::DAY_NS;

fn open(disk: &SimDisk) -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

fn write(engine: &Engine, rows: impl IntoIterator<Item = (i64, &'static str, FieldValue)>) {
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::new([("site", "x")]).unwrap());
    for (line, (time, field, value)) in rows.into_iter().enumerate() {
        batch.row(slot, Timestamp(time), line as u32).value(field, &value);
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

/// A day of rows every 10 s: `soc` is the number of the day, `power` the number of the row.
fn day(number: i64) -> impl Iterator<Item = (i64, &'static str, FieldValue)> {
    (0..8640).flat_map(move |i| {
        let time = START + number * DAY + i * 10 * SECOND;
        [(time, "soc", FieldValue::Float(number as f64)), (time, "power", FieldValue::Float(i as f64))]
    })
}

fn compare(name: &str, operator: Operator, value: Literal) -> Condition {
    Condition::compare(name, operator, value)
}

fn above(name: &str, bound: i128) -> Condition {
    compare(name, Operator::Greater, Literal::Integer(bound))
}

fn request(shape: Shape, fields: &[&str], condition: Condition) -> QueryRequest {
    let mut request = QueryRequest::raw("d", "m", Timestamp::MIN, Timestamp::MAX);
    request.shape = shape;
    request.fields = Some(fields.iter().map(|name| (*name).to_owned()).collect());
    request.condition = Some(condition);
    request
}

fn ask(engine: &Engine, request: &QueryRequest) -> QueryResult {
    engine.query(request, &QueryControl::default()).unwrap()
}

fn refused(engine: &Engine, condition: Condition) -> QueryError {
    let request = request(Shape::Raw, &["power"], condition);
    engine.query(&request, &QueryControl::default()).unwrap_err()
}

fn sums(function: Function) -> Shape {
    Shape::aggregate(vec![function], None)
}

fn only(result: &QueryResult, column: &str) -> FieldValue {
    match &result.series[0].column(column).expect("the column is there").values {
        ResultValues::Float(values) => FieldValue::Float(values[0].unwrap()),
        ResultValues::Integer(values) => FieldValue::Integer(values[0].unwrap()),
        other => panic!("numbers were asked for, found {other:?}"),
    }
}

#[test]
fn groups_that_cannot_match_are_not_decoded_and_those_that_must_are_answered_from_statistics() {
    let engine = open(&SimDisk::new(1));
    for number in 0..3 {
        write(&engine, day(number));
        engine.seal().unwrap();
    }
    let never = ask(&engine, &request(sums(Function::Sum), &["power"], above("soc", 2)));
    assert_eq!((never.rows(), never.stats.blocks_decoded, never.stats.points_scanned), (0, 0, 0));
    assert_eq!(never.stats.groups_pruned, 27, "{:?}", never.stats);

    let one_day = request(sums(Function::Sum), &["power"], above("soc", 1));
    let found = ask(&engine, &one_day);
    assert_eq!(only(&found, "power_sum"), FieldValue::Float((0..8640).sum::<i64>() as f64));
    assert_eq!((found.stats.blocks_decoded, found.stats.groups_pruned), (0, 18), "{:?}", found.stats);

    // One group of a day has rows on both sides: its two fields and its times are decoded.
    let both = Condition::All(vec![above("soc", 1), above("power", 8630)]);
    let found = ask(&engine, &request(sums(Function::Count), &["soc"], both));
    assert_eq!(only(&found, "soc_count"), FieldValue::Integer(9));
    assert_eq!((found.stats.blocks_decoded, found.stats.groups_pruned), (3, 26), "{:?}", found.stats);

    let told = engine.explain(&one_day, &QueryControl::default()).unwrap();
    assert_eq!(
        (told.groups_pruned, told.groups_whole, told.groups_judged, told.groups_merged),
        (18, 9, 0, 0)
    );
    assert_eq!((told.blocks_from_statistics, told.blocks_decoded, told.segments), (9, 0, 3));
}

#[test]
fn a_plan_tells_what_is_merged_in_memory_and_outside() {
    let engine = open(&SimDisk::new(1));
    write(&engine, day(0));
    engine.seal().unwrap();
    let mut points = request(Shape::Raw, &["power"], above("soc", -1));
    points.end = Timestamp(START + 8 * 3600 * SECOND);
    let explain = |points: &QueryRequest| engine.explain(points, &QueryControl::default()).unwrap();
    let told = explain(&points);
    assert_eq!((told.groups_outside, told.groups_whole, told.groups_merged), (6, 3, 0), "{told:?}");
    assert_eq!((told.blocks_decoded, told.blocks_from_statistics), (3, 0));
    // A late row meets the second group of the day: it may change anything there.
    write(&engine, [(START + 9601 * SECOND, "soc", FieldValue::Float(-5.0))]);
    let told = explain(&points);
    assert_eq!((told.rows_in_memory, told.groups_merged, told.groups_whole), (1, 1, 2), "{told:?}");
    let found = ask(&engine, &points);
    assert_eq!(found.rows(), 2880);
}

#[test]
fn statistics_rule_nothing_out_where_rows_overlap() {
    let engine = open(&SimDisk::new(1));
    write(&engine, day(0));
    engine.seal().unwrap();
    // In its own segment the new value satisfies the condition, and the old one does not.
    write(&engine, [(START + 50 * SECOND, "soc", FieldValue::Float(99.0))]);
    engine.seal().unwrap();
    let found = ask(&engine, &request(sums(Function::Sum), &["power"], above("soc", 50)));
    assert_eq!(only(&found, "power_sum"), FieldValue::Float(5.0));
    // And the other way round: what was overwritten does not count any more.
    write(&engine, [(START + 60 * SECOND, "power", FieldValue::Float(-1.0))]);
    let negative = compare("power", Operator::Less, Literal::Integer(0));
    let found = ask(&engine, &request(sums(Function::Count), &["power"], negative));
    assert_eq!(only(&found, "power_count"), FieldValue::Integer(1));
}

#[test]
fn a_value_that_does_not_count_parts_its_neighbours() {
    let engine = open(&SimDisk::new(1));
    let rows = [(0, 1.0), (10, 1.0), (20, 9.0), (30, 1.0), (40, 1.0), (50, 1.0)];
    write(&engine, rows.map(|(s, v)| (START + s * SECOND, "power", FieldValue::Float(v))));
    let low = compare("power", Operator::Less, Literal::Integer(5));
    let seconds = |condition: Condition| {
        let found = ask(&engine, &request(sums(Function::Integral), &["power"], condition));
        let FieldValue::Float(hours) = only(&found, "power_integral") else {
            panic!("an integral is a float")
        };
        (hours * 3600.0).round()
    };
    assert_eq!(seconds(low.clone()), 30.0, "10 s before the peak, 20 s after it");
    assert_eq!(seconds(Condition::Any(vec![low, above("power", 5)])), 130.0);
}

#[test]
fn the_newest_value_that_counts_may_be_far_back() {
    let engine = open(&SimDisk::new(1));
    for number in 0..3 {
        write(&engine, day(number));
        engine.seal().unwrap();
    }
    let first_day = compare("soc", Operator::Less, Literal::Float(0.5));
    let found = ask(&engine, &request(Shape::Last, &["power", "soc"], first_day));
    assert_eq!(only(&found, "power"), FieldValue::Float(8639.0));
    assert_eq!(only(&found, "soc"), FieldValue::Float(0.0));
    assert!(found.stats.groups_pruned >= 18, "{:?}", found.stats);
    let none = ask(&engine, &request(Shape::Last, &["power"], above("soc", 99)));
    assert_eq!(none.rows(), 0);
}

#[test]
fn conditions_that_say_nothing_are_refused() {
    let engine = open(&SimDisk::new(1));
    write(&engine, day(0).take(4));
    write(
        &engine,
        [(START, "on", FieldValue::Boolean(true)), (START, "mode", FieldValue::String("a".into()))],
    );
    let text = || Literal::Text("x".into());
    let message = |condition| refused(&engine, condition).to_string();
    assert_eq!(message(above("scо", 1)), "the measurement has neither a field nor a tag \"scо\"");
    assert!(message(compare("soc", Operator::Equal, text())).contains("\"soc\" is a float field"));
    assert!(
        message(compare("on", Operator::Less, Literal::Boolean(true))).contains("\"on\" is a boolean field")
    );
    assert!(
        message(compare("mode", Operator::Equal, Literal::Integer(1))).contains("\"mode\" is a string field")
    );
    assert!(message(above("site", 1)).contains("\"site\" is a tag"));
    let deep = (0..=Condition::MAX_DEPTH).fold(above("soc", 1), |inner, _| Condition::Not(Box::new(inner)));
    assert!(matches!(refused(&engine, deep), QueryError::ConditionTooDeep { .. }));
    let many = Condition::Any(vec![above("soc", 1); Condition::MAX_COMPARISONS + 1]);
    assert!(matches!(refused(&engine, many), QueryError::TooManyComparisons { .. }));
}

#[test]
fn a_row_whose_missing_value_may_be_lost_does_not_count() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    let minutes = |count: i64| (0..count).map(|i| START + i * 60 * SECOND);
    write(&engine, minutes(10).map(|time| (time, "price", FieldValue::Float(5.0))));
    engine.seal().unwrap();
    let (lost, len) = disk.paths().into_iter().find(|(path, _)| path.starts_with("segments/")).unwrap();
    write(&engine, minutes(20).map(|time| (time, "power", FieldValue::Float(1.0))));
    engine.seal().unwrap();
    let cheap = Condition::Not(Box::new(above("price", 1)));
    let cheap = request(sums(Function::Count), &["power"], cheap);
    assert_eq!(only(&ask(&engine, &cheap), "power_count"), FieldValue::Integer(10));
    engine.close().unwrap();
    disk.flip_bit(&lost, len - 1, 0);
    let engine = open(&disk);
    let found = ask(&engine, &cheap);
    assert!(found.is_partial());
    assert_eq!(
        only(&found, "power_count"),
        FieldValue::Integer(10),
        "without a price only because it is lost"
    );
    let all = ask(&engine, &request(sums(Function::Count), &["power"], above("power", 0)));
    assert_eq!(only(&all, "power_count"), FieldValue::Integer(20));
}
