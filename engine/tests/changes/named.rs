//! Single cases, told as a consumer would tell them.

use crate::consumer::show;
use crate::{DATABASE, HOUR, SECOND, T0};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::query::{CancelFlag, Every, QueryError, Zone};
use wattlog_engine::{
    BucketRule, ChangeCursor, ChangeEvent, ChangeReader, ChangeRequest, ChangeStart, DeleteRequest, Engine,
    Options, Rule, WriteBatch,
};
use wattlog_model::{FieldKind, FieldMeaning, ManualClock, TagSet, Timestamp, Unit};

fn open(disk: &SimDisk) -> Engine {
    let options = Options { ballast_bytes: 0, min_retention: Duration::ZERO, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(T0)));
    Engine::open(Arc::new(disk.clone()), options, clock, [7; 16]).unwrap()
}

/// Rows of `power`, so many minutes before the clock.
fn write(engine: &Engine, minutes: &[i64]) {
    let mut batch = WriteBatch::new(DATABASE, None);
    let slot = batch.series("power", &TagSet::new([("device", "a")]).unwrap());
    for (line, minute) in minutes.iter().enumerate() {
        batch.row(slot, Timestamp(T0 - minute * 60 * SECOND), line as u32).float("x", 1.0);
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

fn plain() -> ChangeRequest {
    ChangeRequest { limit: 100, ..ChangeRequest::default() }
}

fn hourly() -> ChangeRequest {
    let every = Every::from(Duration::from_secs(3600));
    let buckets = Some(BucketRule { every, offset_ns: 0, zone: Zone::UTC });
    ChangeRequest { buckets, measurement: Some("power".to_owned()), ..plain() }
}

fn subscribe(engine: &Engine, request: ChangeRequest) -> ChangeReader {
    engine.changes(request, ChangeStart::Now).unwrap()
}

fn told(reader: &mut ChangeReader) -> Vec<String> {
    reader.next(Duration::ZERO, &CancelFlag::default()).events.iter().map(show).collect()
}

#[test]
fn rows_in_order_finish_buckets_and_late_rows_revise_them() {
    let engine = open(&SimDisk::new(1));
    let mut buckets = subscribe(&engine, hourly());
    let mut ranges = subscribe(&engine, plain());
    write(&engine, &[150, 110]);
    assert_eq!(told(&mut buckets), ["finished  T0-10800s..T0-7200s"]);
    assert_eq!(told(&mut ranges), ["appended power T0-9000s..T0-6599s"]);
    write(&engine, &[130, 50]);
    assert_eq!(
        told(&mut buckets),
        ["revised late power T0-10800s..T0-7200s", "finished  T0-7200s..T0-3600s"]
    );
    assert_eq!(
        told(&mut ranges),
        ["dirty late power T0-7800s..T0-7799s", "appended power T0-3000s..T0-2999s"]
    );
    // Two late rows of one bucket are one revision, and a row ahead of the clock counts as the clock.
    write(&engine, &[170, 171]);
    write(&engine, &[172]);
    write(&engine, &[-600]);
    assert_eq!(told(&mut buckets), ["revised late power T0-10800s..T0-7200s", "finished  T0-3600s..T0+0s"]);
    assert!(buckets.cursor().to_string().ends_with(&format!("-{T0}")));
}

#[test]
fn grace_lets_rows_be_late_without_a_revision() {
    let engine = open(&SimDisk::new(1));
    write(&engine, &[270]);
    let patient = ChangeRequest { grace_ns: (HOUR / 2).unsigned_abs(), ..hourly() };
    let mut reader = subscribe(&engine, patient);
    write(&engine, &[215]);
    assert_eq!(told(&mut reader), [""; 0], "the hour is over by 25 minutes");
    write(&engine, &[250, 205]);
    assert_eq!(told(&mut reader), ["finished  T0-18000s..T0-14400s"]);
}

#[test]
fn deletes_retention_and_meanings_are_told() {
    let engine = open(&SimDisk::new(1));
    write(&engine, &[300, 200, 10]);
    let mut buckets = subscribe(&engine, hourly());
    let mut ranges = subscribe(&engine, plain());
    let delete = DeleteRequest {
        database: DATABASE.into(),
        retention_policy: None,
        measurement: Some("power".into()),
        fields: Some(vec!["x".into()]),
        tags: Vec::new(),
        start: Timestamp(T0 - 4 * HOUR - 1),
        end: Timestamp(T0 - 3 * HOUR),
    };
    engine.delete(&delete).unwrap();
    assert_eq!(
        told(&mut buckets),
        ["revised delete power T0-18000s..T0-14400s", "revised delete power T0-14400s..T0-10800s"]
    );
    let events = ranges.next(Duration::ZERO, &CancelFlag::default()).events;
    let [ChangeEvent::Dirty { fields: Some(fields), times, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&fields[..], times), (&["x".to_owned()][..], &(delete.start.0..delete.end.0)));
    engine
        .set_retention(DATABASE, None, Some("power"), Rule::Keep { ns: (HOUR / 4 * 17).unsigned_abs() })
        .unwrap();
    // What a first cutoff hides has no beginning, and so no end of buckets.
    assert_eq!(told(&mut buckets), ["dirty retention power min..T0-14400s"]);
    assert_eq!(told(&mut ranges), ["dirty retention power min..T0-15300s"]);
    let meaning = FieldMeaning { field: "x".into(), unit: Unit::new("W"), kind: FieldKind::Step };
    engine.describe_fields(DATABASE, "power", std::slice::from_ref(&meaning)).unwrap();
    assert_eq!(told(&mut ranges), ["dirty meaning power min..max"]);
    engine.describe_fields(DATABASE, "power", &[meaning]).unwrap();
    assert_eq!(told(&mut ranges), [""; 0], "it was so before");
}

#[test]
fn a_damaged_file_that_is_set_aside_is_told() {
    let engine = open(&SimDisk::new(1));
    write(&engine, &[300, 200]);
    engine.seal().unwrap();
    write(&engine, &[10]);
    let mut buckets = subscribe(&engine, hourly());
    let segment = engine.snapshot().segments().iter().next().unwrap().entry().id;
    engine.quarantine(segment).unwrap();
    assert_eq!(
        told(&mut buckets),
        ["revised damage power T0-18000s..T0-14400s", "revised damage power T0-14400s..T0-10800s"]
    );
}

#[test]
fn what_one_change_needs_beyond_the_limit_is_one_range() {
    let engine = open(&SimDisk::new(1));
    write(&engine, &[3000]);
    let mut reader = subscribe(&engine, ChangeRequest { limit: 3, ..hourly() });
    write(&engine, &[1]);
    assert_eq!(told(&mut reader), ["dirty many power T0-180000s..T0-3600s"]);
    write(&engine, &[2000, 1900, 1800, 1700]);
    assert_eq!(told(&mut reader), ["dirty late power T0-122400s..T0-100800s"]);
    // More than one answer holds: the next one goes on.
    write(&engine, &[2000, 1900]);
    write(&engine, &[1800, 1700]);
    assert_eq!(told(&mut reader).len(), 2);
    assert_eq!(told(&mut reader).len(), 2);
}

#[test]
fn a_cursor_goes_on_after_a_kill_and_knows_when_it_cannot() {
    let disk = SimDisk::new(1);
    let engine = open(&disk);
    write(&engine, &[300, 200]);
    let mut reader = subscribe(&engine, hourly());
    write(&engine, &[130]);
    assert_eq!(told(&mut reader), ["finished  T0-14400s..T0-10800s"]);
    let cursor = reader.cursor();
    let as_of = engine.snapshot().cursor();
    write(&engine, &[290]);
    write(&engine, &[50]);
    let killed = disk.fork();
    drop(engine);
    let engine = open(&killed);
    let after = |cursor| engine.changes(hourly(), ChangeStart::After(cursor)).unwrap();
    assert_eq!(
        told(&mut after(cursor)),
        [
            "revised late power T0-18000s..T0-14400s",
            "finished  T0-10800s..T0-7200s",
            "finished  T0-7200s..T0-3600s"
        ]
    );
    // That of a query has no watermark: what was written since is late by that of now.
    assert_eq!(told(&mut after(as_of.into())), ["revised late power T0-18000s..T0-14400s"]);
    // Sealed and closed: what the log does not hold any more is one range.
    engine.seal().unwrap();
    write(&engine, &[49]);
    engine.seal().unwrap();
    write(&engine, &[48]);
    engine.close().unwrap();
    let engine = open(&killed);
    let after = |cursor| engine.changes(hourly(), ChangeStart::After(cursor)).unwrap();
    assert_eq!(
        told(&mut after(cursor)),
        [
            "dirty missed power min..T0-10800s",
            "finished  T0-10800s..T0-7200s",
            "finished  T0-7200s..T0-3600s"
        ]
    );
    let made_up: ChangeCursor = "ff-999999-0-0".parse().unwrap();
    assert!(told(&mut after(made_up))[0].starts_with("dirty missed"));
}

#[test]
fn a_reader_that_waits_is_woken_and_one_whose_caller_left_ends() {
    let engine = open(&SimDisk::new(1));
    let mut reader = subscribe(&engine, plain());
    let waiting = std::thread::spawn(move || {
        let told = reader.next(Duration::from_secs(30), &CancelFlag::default());
        (told.events.len(), reader)
    });
    write(&engine, &[1]);
    let (events, mut reader) = waiting.join().unwrap();
    assert_eq!(events, 1);
    let gone = CancelFlag::default();
    gone.cancel();
    assert_eq!(reader.next(Duration::from_secs(30), &gone).events, []);
    engine.close().unwrap();
    assert!(reader.next(Duration::from_secs(30), &CancelFlag::default()).closed);
}

#[test]
fn buckets_that_cannot_be_are_refused() {
    let engine = open(&SimDisk::new(1));
    for (every, offset_ns) in [(Every::Parts(3), 0), (Every::Nanos(0), 0), (Every::Days(1), 25 * HOUR)] {
        let buckets = Some(BucketRule { every, offset_ns, zone: Zone::UTC });
        let refused = engine.changes(ChangeRequest { buckets, ..plain() }, ChangeStart::Now);
        assert!(matches!(refused, Err(QueryError::BadBucket)), "{every:?}");
    }
}
