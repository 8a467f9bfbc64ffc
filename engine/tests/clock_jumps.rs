//! Clock jumps: a second, an hour, 400 days, to 1970 and to 2262, while the store runs and before it starts.
//!
//! After each of them no point is lost and none is hidden, the store opens, its log replays, and a point without a time gets
//! one that a point may have. Retention keeps 30 days; the points are at most 28 days old.

use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::{Cut, SimDisk, Survives};
use wattlog_engine::query::{Function, QueryControl, QueryRequest, ResultValues, Shape};
use wattlog_engine::{ClockCondition, Engine, Options, Rule, WriteBatch};
use wattlog_model::{Clock, FieldValue, ManualClock, Point, TagSet, Timestamp};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = Timestamp::DAY_NS;
const START: i64 = 1_775_001_600 * SECOND;

/// Where the wall clock goes from `now`.
fn jumps(now: i64) -> [(&'static str, i64); 8] {
    [
        ("+1 s", now + SECOND),
        ("-1 s", now - SECOND),
        ("+1 h", now + HOUR),
        ("-1 h", now - HOUR),
        ("+400 d", now + 400 * DAY),
        ("-400 d", now - 400 * DAY),
        ("1970", 0),
        ("2262", 9_214_646_400 * SECOND),
    ]
}

/// Whether retention may follow the clock there.
fn is_followed(name: &str) -> bool {
    matches!(name, "+1 s" | "-1 s" | "+1 h" | "-1 h")
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Engine {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, clock.clone(), [7; 16]).expect("a store always opens")
}

fn write(engine: &Engine, times: &[i64]) {
    let mut batch = WriteBatch::new("home", None);
    let slot = batch.series("power", &TagSet::default());
    for (line, time) in times.iter().enumerate() {
        batch.row(slot, Timestamp(*time), line as u32).float("watts", 1.5);
    }
    assert_eq!(engine.write(batch).unwrap().rejected, []);
}

fn all_times(engine: &Engine) -> Vec<i64> {
    let request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    assert!(!result.is_partial());
    match result.series.first().map(|series| &series.columns[0].values) {
        Some(ResultValues::Time(times)) => times.iter().flatten().copied().collect(),
        _ => Vec::new(),
    }
}

fn count(engine: &Engine) -> i64 {
    let mut request = QueryRequest::raw("home", "power", Timestamp::MIN, Timestamp(i64::MAX));
    request.shape = Shape::aggregate(vec![Function::Count], None);
    let result = engine.query(&request, &QueryControl::default()).unwrap();
    match result.series.first().map(|series| &series.columns[1].values) {
        Some(ResultValues::Integer(counts)) => counts[0].unwrap_or(0),
        _ => 0,
    }
}

/// A store with 28 days in segments and in its log, and a rule of 30 days that hides nothing of it.
struct Life {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    engine: Option<Engine>,
    written: Vec<i64>,
}

impl Life {
    /// `proven`: the clock was confirmed. If not, the store is new.
    fn new(seed: u64, proven: bool) -> Self {
        let (disk, clock) = (SimDisk::new(seed), Arc::new(ManualClock::new(Timestamp(START))));
        let engine = open(&disk, &clock);
        let written: Vec<i64> = (0..28 * 24).map(|hour| START - hour * HOUR).rev().collect();
        write(&engine, &written[..300]);
        engine.set_retention("home", None, None, Rule::Keep { ns: (30 * DAY).unsigned_abs() }).unwrap();
        if proven {
            engine.confirm_clock().unwrap();
        }
        engine.seal().unwrap();
        write(&engine, &written[300..]);
        Self { disk, clock, engine: Some(engine), written }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("an open store")
    }

    /// Retention has its turn, merges have theirs, and all is there.
    fn check(&self, what: &str) {
        let engine = self.engine();
        engine.retain().unwrap();
        assert_eq!(all_times(engine), self.written, "{what}");
        assert_eq!(count(engine), self.written.len() as i64, "{what}");
        assert_eq!(engine.metrics().retention_segments, 0, "{what}");
        assert!(engine.health().writable, "{what}");
    }

    fn write(&mut self, time: i64) {
        write(self.engine(), &[time]);
        self.written.push(time);
        self.written.sort_unstable();
    }

    fn reopen(&mut self, what: &str) {
        self.engine.take().expect("an open store").close().unwrap();
        self.open(what);
    }

    fn open(&mut self, what: &str) {
        let engine = open(&self.disk, &self.clock);
        let report = engine.recovery_report();
        assert!(report.damage.is_empty() && report.alarms.is_empty(), "{what}: {report:?}");
        self.engine = Some(engine);
    }

    fn pass(&self, hours: u64) {
        for _ in 0..hours {
            self.clock.advance(Duration::from_secs(3600));
            self.engine().retain().unwrap();
        }
    }
}

#[test]
fn while_it_runs() {
    for proven in [true, false] {
        for (name, to) in jumps(START) {
            let what = format!("{name}, proven {proven}");
            let mut life = Life::new(1, proven);
            life.clock.set_wall(Timestamp(to));
            life.check(&what);
            life.write(START + 60 * SECOND);
            life.pass(3);
            life.check(&what);
            // In segments and merged, under the wrong clock.
            life.engine().compact().unwrap();
            life.check(&what);
            life.write(START + 120 * SECOND);
            life.reopen(&what);
            life.check(&what);
            life.clock.set_wall(Timestamp(START + 3 * HOUR));
            life.check(&what);
            life.reopen(&what);
            life.check(&what);
            // A new store has followed the clock back and does not believe the way forward for a day.
            let quiet = proven || to > START - 2 * HOUR;
            assert_eq!(
                life.engine().health().alarms.is_empty(),
                quiet,
                "{what}: {:?}",
                life.engine().health()
            );
        }
    }
}

#[test]
fn before_a_start_and_at_many_starts() {
    for proven in [true, false] {
        for (name, to) in jumps(START) {
            let what = format!("{name}, proven {proven}");
            let mut life = Life::new(2, proven);
            for start in 0..20 {
                life.clock.set_wall(Timestamp(to.saturating_add(i64::from(start))));
                life.reopen(&format!("{what}, start {start}"));
                life.check(&what);
            }
            life.write(START + 60 * SECOND);
            life.clock.set_wall(Timestamp(START));
            life.reopen(&what);
            life.check(&what);
        }
    }
}

#[test]
fn in_a_group_of_commits_and_with_a_power_cut_behind_it() {
    for (name, to) in jumps(START) {
        let mut life = Life::new(3, true);
        for step in 1..20 {
            // To and fro: each step is recorded in the log, which is replayed.
            life.clock.set_wall(Timestamp(if step % 2 == 0 { START } else { to }));
            life.write(START + step * SECOND);
        }
        let cut = life.disk.fork().cut(Cut { seed: 9, survives: Survives::Nothing });
        drop(life.engine.take());
        life.disk = cut;
        life.open(name);
        assert!(life.engine().recovery_report().replayed_points >= 19, "{name}");
        life.check(name);
    }
}

#[test]
fn a_jump_that_may_not_be_believed_is_told_and_one_that_may_is_followed() {
    for (name, to) in jumps(START) {
        let life = Life::new(4, true);
        life.clock.set_wall(Timestamp(to));
        life.engine().retain().unwrap();
        let found = life.engine().retention_clock().unwrap();
        let alarms = life.engine().health().alarms;
        match found.condition {
            ClockCondition::Followed => assert!(is_followed(name) && alarms.is_empty(), "{name}: {alarms:?}"),
            ClockCondition::Held { .. } | ClockCondition::Behind { .. } => {
                assert!(!is_followed(name), "{name}");
                assert_eq!(alarms.len(), 1, "{name}");
            }
        }
        let believed = if name == "+1 h" || name == "+1 s" { to } else { START };
        assert_eq!(found.believed.0, believed, "{name}");
        assert_eq!(
            life.engine().metrics().clocks_held,
            u64::from(matches!(name, "+400 d" | "2262")),
            "{name}"
        );
    }
}

#[test]
fn a_day_of_steady_running_or_a_word_ends_the_hold() {
    let life = Life::new(5, true);
    life.clock.set_wall(Timestamp(START + 400 * DAY));
    life.pass(23);
    life.check("23 hours after +400 d");
    life.pass(2);
    assert_eq!(count(life.engine()), 0, "they are 400 days old");
    assert!(life.engine().metrics().retention_segments > 0);

    let life = Life::new(6, true);
    life.clock.set_wall(Timestamp(START + 400 * DAY));
    life.check("+400 d");
    life.engine().confirm_clock().unwrap();
    assert_eq!(count(life.engine()), 0);
    assert!(life.engine().health().alarms.is_empty());
}

#[test]
fn default_times_are_those_a_point_may_have() {
    for (name, to) in jumps(START).into_iter().chain([("the end", Timestamp::MAX.0)]) {
        let life = Life::new(7, true);
        life.clock.set_wall(Timestamp(to));
        let received = life.clock.wall().truncated_to_millis();
        let mut batch = WriteBatch::new("home", None);
        let point = Point {
            measurement: "late".into(),
            tags: TagSet::default(),
            time: None,
            fields: vec![("v".into(), FieldValue::Float(1.0))],
        };
        batch.push(&point, received, 0);
        let receipt = life.engine().write(batch).unwrap();
        assert!((Timestamp::MIN..=Timestamp::MAX).contains(&received), "{name}");
        // Where retention reaches beyond the wrong clock, the sender is told.
        let stored = received.0 >= START - 30 * DAY;
        assert_eq!(
            (receipt.points, receipt.rejected.len()),
            (u64::from(stored), usize::from(!stored)),
            "{name}"
        );
        life.check(name);
    }
}
