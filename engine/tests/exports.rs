//! Exports hand over the rows of the same query, piece by piece, whatever the data looks like; damage ends them.

use std::sync::Arc;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::query::{
    Condition, ExportHead, ExportSink, Exported, GroupBy, Literal, OnDamage, Operator, QueryControl,
    QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues, Shape,
};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{FieldValue, ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_780_272_000 * SECOND;

fn open(disk: &SimDisk) -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(START)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).expect("a store always opens")
}

/// Rows of one series at these times; `i` is the number of the row, and every seventh has a text alone.
fn write(engine: &Engine, tags: &[(&str, &str)], times: &[i64]) {
    for (part, times) in times.chunks(20_000).enumerate() {
        let mut batch = WriteBatch::new("d", None);
        let slot = batch.series("m", &TagSet::new(tags.iter().copied()).unwrap());
        for (i, time) in times.iter().enumerate() {
            let row = (part * 20_000 + i) as i64;
            let mut cells = batch.row(slot, Timestamp(*time), i as u32);
            if row % 7 == 6 {
                cells.value("note", &FieldValue::String(format!("row {row}").into()));
            } else {
                cells.value("i", &FieldValue::Integer(row));
                cells.value("v", &FieldValue::Float(row as f64 / 8.0));
            }
        }
        assert_eq!(engine.write(batch).unwrap().rejected, []);
    }
}

#[derive(Default)]
struct Taken {
    head: Option<ExportHead>,
    pieces: Vec<ResultSeries>,
    /// Pieces after which to stop.
    most: Option<usize>,
}

impl ExportSink for Taken {
    fn head(&mut self, head: &ExportHead) -> Result<(), QueryError> {
        assert!(self.head.replace(head.clone()).is_none() && self.pieces.is_empty());
        Ok(())
    }

    fn piece(&mut self, piece: ResultSeries) -> Result<(), QueryError> {
        let head = self.head.as_ref().expect("the head comes first");
        let names = piece.columns.iter().map(|column| &column.name);
        assert!(names.eq(head.columns.iter().map(|(name, _)| name)), "every piece has all columns");
        assert!(piece.rows() > 0 && piece.rows() <= 65_536, "{} rows", piece.rows());
        assert!(piece.tags.iter().all(|(key, _)| head.tag_keys.contains(key)));
        if self.most == Some(self.pieces.len()) {
            return Err(QueryError::Cancelled);
        }
        self.pieces.push(piece);
        Ok(())
    }
}

fn export(
    engine: &Engine,
    request: &QueryRequest,
    on_damage: OnDamage,
) -> (Taken, Result<Exported, QueryError>) {
    let mut taken = Taken::default();
    let exported = engine.export(request, &QueryControl::default(), on_damage, &mut taken);
    (taken, exported)
}

/// One line per row: tags, time, and what has a value.
fn lines<'a>(series: impl IntoIterator<Item = &'a ResultSeries>) -> Vec<String> {
    let cell = |values: &ResultValues, row: usize| match values {
        ResultValues::Time(v) | ResultValues::Integer(v) => v[row].map(|v| v.to_string()),
        ResultValues::Float(v) => v[row].map(|v| v.to_bits().to_string()),
        ResultValues::Unsigned(v) => v[row].map(|v| v.to_string()),
        ResultValues::Boolean(v) => v[row].map(|v| v.to_string()),
        ResultValues::String(v) => v[row].as_ref().map(ToString::to_string),
    };
    let mut out = Vec::new();
    for series in series {
        for row in 0..series.rows() {
            let cells =
                series.columns.iter().filter_map(|c| Some(format!("{}={}", c.name, cell(&c.values, row)?)));
            out.push(format!("{:?} {}", series.tags, cells.collect::<Vec<_>>().join(" ")));
        }
    }
    out
}

/// An export has the rows of the query. Gives its pieces.
fn compare(engine: &Engine, request: &QueryRequest) -> usize {
    let (taken, exported) = export(engine, request, OnDamage::Stop);
    let exported = exported.unwrap();
    let whole: QueryResult = engine.query(request, &QueryControl::default()).unwrap();
    let (expected, found) = (lines(&whole.series), lines(&taken.pieces));
    let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
    assert_eq!((differs, found.len()), (None, expected.len()), "{request:?}");
    assert!(exported.partial.is_empty());
    assert_eq!(exported.stats.series, whole.stats.series);
    taken.pieces.len()
}

fn all() -> QueryRequest {
    QueryRequest::raw("d", "m", Timestamp::MIN, Timestamp::MAX)
}

#[test]
fn rows_of_every_density_come_in_order_and_in_bounded_pieces() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    // One row a month for ten years, then 200 000 in a fifth of a millisecond, then one every 10 s, written out of order.
    let months = (0..120).map(|i| START + i * 30 * 86_400 * SECOND);
    let burst = (0..200_000).map(|i| START + 4000 * 86_400 * SECOND + i);
    let steady = (0..50_000).map(|i| START + 4001 * 86_400 * SECOND + i * 10 * SECOND);
    let times: Vec<i64> = months.chain(burst).chain(steady).collect();
    write(&engine, &[("site", "x")], &times);
    engine.seal().unwrap();
    let mut late: Vec<i64> = times.iter().copied().step_by(3).map(|time| time + 1).collect();
    late.reverse();
    write(&engine, &[("site", "x")], &late);
    write(&engine, &[("site", "y"), ("room", "k")], &times[..1000]);
    let pieces = compare(&engine, &all());
    assert!(pieces > 10, "{pieces} pieces");

    let request = QueryRequest { group_by: GroupBy::Keys(Vec::new()), ..all() };
    compare(&engine, &request);
    engine.compact().unwrap();
    compare(&engine, &request);
    let named = QueryRequest { fields: Some(vec!["v".into()]), ..all() };
    compare(&engine, &named);
    let few = Condition::compare("i", Operator::Less, Literal::Integer(20));
    compare(&engine, &QueryRequest { condition: Some(few), ..all() });
}

#[test]
fn a_day_that_is_all_in_memory_is_cut_like_any_other() {
    let engine = open(&SimDisk::new(1));
    let times: Vec<i64> = (0..450_000).map(|i| START + i * 1000).collect();
    write(&engine, &[("site", "x")], &times);
    let pieces = compare(&engine, &all());
    assert!((20..200).contains(&pieces), "{pieces} pieces");
    // More series than a piece would have rows otherwise, all with a row at the same instants.
    for series in 0..300 {
        write(&engine, &[("site", "many"), ("room", &format!("{series:03}"))], &times[..3]);
    }
    compare(&engine, &QueryRequest { group_by: GroupBy::Keys(Vec::new()), ..all() });
}

#[test]
fn random_histories_come_out_as_the_query_has_them() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let engine = open(&SimDisk::new(seed));
        for _ in 0..=rng.below(4) {
            let mut time = START + rng.below(1000) as i64 * SECOND;
            let mut times = Vec::new();
            for _ in 0..rng.below(3000) {
                let step = [1, SECOND, 10 * SECOND, 86_400 * SECOND][rng.below(4) as usize];
                time += step * (1 + rng.below(3) as i64);
                times.push(time);
            }
            let site = ["x", "y", "z"][rng.below(3) as usize];
            write(&engine, &[("site", site)], &times);
            if rng.below(2) == 0 {
                engine.seal().unwrap();
            }
        }
        let group_by =
            [GroupBy::Default, GroupBy::All, GroupBy::Keys(Vec::new())][rng.below(3) as usize].clone();
        let start = Timestamp(START + rng.below(5000) as i64 * SECOND);
        compare(&engine, &QueryRequest { group_by, start, ..all() });
    }
}

#[test]
fn what_is_no_export_is_refused_and_what_does_not_exist_is_empty() {
    let engine = open(&SimDisk::new(1));
    let unknown = export(&engine, &all(), OnDamage::Stop);
    assert!(matches!(unknown.1, Err(QueryError::DatabaseNotFound(_))));
    write(&engine, &[("site", "x")], &[START]);
    let (taken, exported) =
        export(&engine, &QueryRequest { measurement: "other".into(), ..all() }, OnDamage::Stop);
    assert!(exported.is_ok() && taken.pieces.is_empty());
    assert_eq!(taken.head.unwrap().columns, [("time".to_owned(), None)]);
    let refused = [
        QueryRequest { shape: Shape::Last, ..all() },
        QueryRequest { limit: Some(1), ..all() },
        QueryRequest { order: wattlog_engine::query::Order::Descending, ..all() },
    ];
    for request in refused {
        assert_eq!(export(&engine, &request, OnDamage::Stop).1.unwrap_err(), QueryError::NotRows);
    }
}

#[test]
fn a_sink_that_has_enough_ends_the_reading() {
    let engine = open(&SimDisk::new(1));
    let times: Vec<i64> = (0..200_000).map(|i| START + i * SECOND).collect();
    write(&engine, &[("site", "x")], &times);
    engine.seal().unwrap();
    let mut taken = Taken { most: Some(1), ..Taken::default() };
    let ended = engine.export(&all(), &QueryControl::default(), OnDamage::Stop, &mut taken);
    assert_eq!((ended.unwrap_err(), taken.pieces.len()), (QueryError::Cancelled, 1));
}

#[test]
fn damage_ends_an_export_before_the_rows_behind_it_or_is_left_out_and_told() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    let day =
        |number: i64| (0..8640).map(move |i| START + (number * 8640 + i) * 10 * SECOND).collect::<Vec<_>>();
    let mut lost = (String::new(), 0);
    for number in 0..3 {
        let before = disk.paths();
        write(&engine, &[("site", "x")], &day(number));
        engine.seal().unwrap();
        if number == 1 {
            let new = disk
                .paths()
                .into_iter()
                .find(|path| path.0.starts_with("segments/") && !before.contains(path));
            lost = new.expect("a seal makes a segment");
        }
    }
    let whole = lines(&engine.query(&all(), &QueryControl::default()).unwrap().series);
    engine.close().unwrap();
    // A byte of the data in the middle of the second day.
    disk.flip_bit(&lost.0, lost.1 / 3, 3);
    let engine = open(&disk);
    let (taken, ended) = export(&engine, &all(), OnDamage::Stop);
    assert!(matches!(ended, Err(QueryError::Damaged(_))), "{ended:?}");
    let found = lines(&taken.pieces);
    assert!(!found.is_empty() && found.len() < 2 * 8640, "{} rows", found.len());
    assert_eq!(found, whole[..found.len()]);

    let (taken, ended) = export(&engine, &all(), OnDamage::LeaveOut);
    let partial = ended.unwrap().partial;
    assert_eq!(partial.len(), 1, "{partial:?}");
    let answered = engine.query(&all(), &QueryControl::default()).unwrap();
    assert!(answered.is_partial());
    assert_eq!(lines(&taken.pieces), lines(&answered.series));
}
