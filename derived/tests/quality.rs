//! Reports from a real store: damage is told and costs its days alone, memory is given back, long ranges come in parts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use wattlog_derived::energy::RAW;
use wattlog_derived::quality::{QualityRequest, ReportError, SeriesQuality, report};
use wattlog_derived::series::Selection;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{QueryControl, QueryError, QueryMemory, Zone};
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2026-10-24T22:00:00Z: midnight in Warsaw, before the day with 25 hours.
const START: i64 = 1_792_879_200 * SECOND;

fn engine() -> Engine {
    let clock = Arc::new(ManualClock::new(Timestamp(START + 30 * DAY)));
    let options = Options { auto_create_databases: true, ..Options::default() };
    Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).unwrap()
}

/// Points of all `fields`, each `step` seconds.
fn write(engine: &Engine, measurement: &str, fields: &[String], range: Range<i64>, step: i64) {
    let tags = TagSet::new([("device_id", "roof")]).unwrap();
    let times: Vec<i64> = range.step_by((step * SECOND) as usize).collect();
    for chunk in times.chunks(20_000) {
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series(measurement, &tags);
        for (line, time) in chunk.iter().enumerate() {
            let mut row = batch.row(slot, Timestamp(*time), line as u32);
            for name in fields {
                row.float(name, ((*time / SECOND) % 977) as f64);
            }
        }
        assert_eq!(engine.write(batch).unwrap().rejected, []);
    }
}

fn request(measurement: &str, range: Range<i64>) -> QualityRequest {
    let zone = Zone::named("Europe/Warsaw").unwrap();
    QualityRequest {
        selection: Selection {
            database: "wattlog".to_owned(),
            measurement: measurement.to_owned(),
            tags: Vec::new(),
        },
        fields: None,
        range,
        zone: zone.clone(),
        home: zone,
        interval_ns: None,
        devices: BTreeMap::new(),
        rated_w: None,
        inverters_w: BTreeMap::new(),
    }
}

fn ask(engine: &Engine, request: &QualityRequest) -> SeriesQuality {
    let mut found = report(engine, request, &QueryControl::default()).unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn damage_costs_the_days_that_it_meets_and_is_told() {
    let engine = engine();
    let fields = ["pv_power".to_owned(), "grid_power".to_owned()];
    // Five days by the clock of the home, of which the first has 25 hours; the third will be damaged.
    let day = |number: i64| START + number * DAY + if number > 0 { 3600 * SECOND } else { 0 };
    write(&engine, RAW, &fields, day(0)..day(2), 60);
    engine.seal().unwrap();
    write(&engine, RAW, &fields, day(2)..day(3), 60);
    engine.seal().unwrap();
    write(&engine, RAW, &fields, day(3)..day(5), 60);
    let whole = ask(&engine, &request(RAW, day(0)..day(5)));
    assert_eq!((whole.parts.len(), whole.unread.len()), (1, 0));
    assert_eq!(whole.parts[0].fields[0].points, (5 * 24 + 1) * 60);
    assert_eq!(whole.absent, ["battery_power", "consumption", "battery_soc"]);
    assert!(!whole.parts[0].has_battery);

    let snapshot = engine.snapshot();
    let damaged = snapshot.segments().iter().map(|segment| segment.entry().id).max().unwrap();
    drop(snapshot);
    engine.quarantine(damaged).unwrap();
    let found = ask(&engine, &request(RAW, day(0)..day(5)));
    let parts: Vec<(Range<i64>, u64)> =
        found.parts.iter().map(|part| (part.range.clone(), part.fields[0].points)).collect();
    assert_eq!(parts, [(day(0)..day(2), 49 * 60), (day(3)..day(5), 48 * 60)]);
    assert!(found.parts.iter().all(|part| part.fields[0].report.completeness.value.missing == 0));
    assert_eq!(found.unread.len(), 1);
    assert_eq!((found.unread[0].range.clone(), &found.unread[0].field), (day(2)..day(3), &None));
    assert!(found.unread[0].reason.contains("wattlog check"), "{}", found.unread[0].reason);
}

#[test]
fn a_range_with_many_points_comes_in_parts_of_whole_days() {
    let engine = engine();
    // A point each second: two days are 172 800, three would be too many.
    let start = START + 7 * DAY + 3600 * SECOND;
    write(&engine, "fast", &["v".to_owned()], start..start + 5 * DAY, 1);
    let found = ask(&engine, &request("fast", start..start + 5 * DAY));
    let days: Vec<(i64, u64)> = found
        .parts
        .iter()
        .map(|part| ((part.range.end - part.range.start) / DAY, part.fields[0].points))
        .collect();
    assert_eq!(days, [(2, 172_800), (2, 172_800), (1, 86_400)]);
    // A day of more than that is told and not judged.
    write(&engine, "faster", &["v".to_owned()], start..start + DAY, 1);
    let half = SECOND / 3;
    write(&engine, "faster", &["v".to_owned()], start + half..start + DAY, 1);
    write(&engine, "faster", &["v".to_owned()], start + 2 * half..start + DAY, 1);
    let found = ask(&engine, &request("faster", start..start + DAY));
    assert_eq!((found.parts.len(), found.unread.len()), (0, 1));
    assert!(found.unread[0].reason.contains("200000"), "{}", found.unread[0].reason);
}

#[test]
fn memory_of_a_field_is_given_back_before_the_next() {
    let engine = engine();
    let fields: Vec<String> = (0..40).map(|number| format!("f{number:02}")).collect();
    write(&engine, "wide", &fields, START..START + 5000 * SECOND, 1);
    let control = |limit: u64| {
        let memory = QueryMemory::new(limit);
        (memory.clone(), QueryControl { memory: memory.charge(), ..QueryControl::default() })
    };
    let asked = request("wide", START..START + 5000 * SECOND);
    // 5000 times and values of a field are 120 kB and more; of forty fields nearly five megabytes.
    let (memory, enough) = control(2_000_000);
    let found = report(&engine, &asked, &enough).unwrap();
    assert_eq!(found[0].parts[0].fields.len(), 40);
    assert!(found[0].parts[0].fields.iter().all(|field| field.points == 5000));
    drop(enough);
    assert_eq!(memory.held(), 0);
    let (_, little) = control(10_000);
    let refused = report(&engine, &asked, &little).unwrap_err();
    assert!(matches!(refused, ReportError::Query(QueryError::MemoryTaken { .. })), "{refused}");
}
