//! The change feed against a naive oracle: consumers that look again only at what they are told hold the right answers.
//!
//! A random history of a store (rows in order, late, ahead and written again; deletes, retention, seals, compactions, clean stops,
//! kills, power cuts) is watched by consumers. One keeps a copy of all rows, others of finished buckets; each refreshes from the
//! store what an event names, and nothing else. After each drain the copy must equal the store. So no change goes untold,
//! whatever its cause and whatever became of the process. The other way round, an event must name something that happened.
//!
//! `WATTLOG_CHANGES` sets how many histories, `WATTLOG_SEED` which.

mod consumer;
mod named;

use consumer::{Consumer, Happened, store_rows};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::sim::{Cut, Rng, SimDisk};
use wattlog_engine::query::{TagFilter, TagPredicate};
use wattlog_engine::{DeleteRequest, Durability, Engine, Options, Rule, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3600 * SECOND;
/// 2026-03-28, so that histories of some days cross the change of the clocks in Warsaw.
pub(crate) const T0: i64 = 1_774_656_000 * SECOND;

pub(crate) const DATABASE: &str = "home";
const FIELDS: [&str; 2] = ["x", "y"];
pub(crate) const MEASUREMENTS: [&str; 3] = ["power", "price", "weather"];

#[test]
fn consumers_that_look_only_at_what_they_are_told_hold_the_right_answers() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let histories = number("WATTLOG_CHANGES").unwrap_or(60);
    let first = number("WATTLOG_SEED").unwrap_or(1);
    let mut met = BTreeMap::<String, u64>::new();
    for seed in first..first + histories {
        println!("WATTLOG_SEED={seed}");
        History::new(seed).live(&mut met);
    }
    println!("{met:?}");
    // A suite that never sees a kind of event proves nothing about it.
    if histories >= 60 {
        for kind in [
            "appended",
            "finished",
            "revised late",
            "revised delete",
            "revised retention",
            "dirty late",
            "dirty delete",
            "dirty retention",
            "dirty many",
            "dirty missed",
        ] {
            assert!(met.contains_key(kind), "{kind} was never met: {met:?}");
        }
    }
}

struct History {
    rng: Rng,
    seed: u64,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    options: Options,
    engine: Option<Engine>,
    consumers: Vec<Consumer>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let durability = Durability::Interval(Duration::from_secs(3600));
        let options = Options {
            ballast_bytes: 0,
            min_retention: Duration::ZERO,
            // Some feeds forget at once, some hold a few bodies, most hold all.
            feed_bytes: *rng.pick(&[0, 2000, 4 << 20, 4 << 20, 4 << 20]),
            memtable_bytes: *rng.pick(&[20_000, 32 << 20]),
            default_durability: *rng.pick(&[Durability::Always, Durability::Always, durability]),
            ..Options::default()
        };
        let (disk, clock) = (SimDisk::new(seed), Arc::new(ManualClock::new(Timestamp(T0))));
        Self { rng, seed, disk, clock, options, engine: None, consumers: Vec::new() }
    }

    fn live(&mut self, met: &mut BTreeMap<String, u64>) {
        self.open();
        for _ in 0..self.rng.below(20) {
            self.step();
        }
        for kind in 0..4 {
            let mut rng = self.rng.split();
            let forgetful = self.options.feed_bytes < 1 << 20;
            let consumer = Consumer::subscribe(self.engine(), &mut rng, kind, forgetful);
            self.consumers.push(consumer);
        }
        for step in 0..80 {
            let happened = self.step();
            if std::env::var_os("WATTLOG_TRACE").is_some() {
                println!("{step}: {happened:?}, then {}", self.engine().snapshot().cursor());
            }
            self.consumers.iter_mut().for_each(|consumer| consumer.note(&happened));
            if self.rng.chance(40) || step == 79 {
                let engine = self.engine.as_ref().unwrap();
                let truth = store_rows(engine);
                for consumer in &mut self.consumers {
                    let place = format!("seed {}, step {step}", self.seed);
                    consumer.drain(engine, &truth, met, &place);
                }
            }
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open between steps")
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let engine = Engine::open(disk, self.options.clone(), self.clock.clone(), [7; 16]).unwrap();
        self.engine = Some(engine);
    }

    fn step(&mut self) -> Happened {
        match self.rng.below(100) {
            0..70 => self.write(),
            70..78 => self.delete(),
            78..83 => self.retain(),
            83..88 => {
                self.engine().seal().unwrap();
                Happened::Nothing
            }
            88..90 => {
                self.engine().compact().unwrap();
                Happened::Nothing
            }
            90..93 => {
                self.engine.take().unwrap().close().unwrap();
                self.open();
                Happened::Restart
            }
            93..97 => {
                // A killed process: the disk stays as it is.
                let left = self.disk.fork();
                drop(self.engine.take());
                self.disk = left;
                self.open();
                Happened::Restart
            }
            _ => {
                let left = self.disk.cut(Cut::from_seed(self.rng.next_u64()));
                drop(self.engine.take());
                self.disk = left;
                self.open();
                Happened::Restart
            }
        }
    }

    fn write(&mut self) -> Happened {
        self.clock.advance(Duration::from_secs(self.rng.below(3600)));
        self.engine().retain().unwrap();
        let wall = self.clock.wall_ns();
        let mut batch = WriteBatch::new(DATABASE, None);
        let mut rows = Vec::new();
        let style = self.rng.below(10);
        for line in 0..=self.rng.below(5) {
            let back = match style {
                0..6 => self.rng.below(1200) as i64 * SECOND,
                6..8 => self.rng.below(3 * 24 * 3600) as i64 * SECOND,
                8 => -(self.rng.below(2 * 24 * 3600) as i64) * SECOND,
                // A few times that come again and again.
                _ => wall - (T0 - HOUR * self.rng.below(4) as i64),
            };
            let time = wall - back;
            let measurement = *self.rng.pick(&MEASUREMENTS);
            let tags = TagSet::new([("device", *self.rng.pick(&["a", "b"]))]).unwrap();
            let slot = batch.series(measurement, &tags);
            let field = FIELDS[self.rng.index(FIELDS.len())];
            batch.row(slot, Timestamp(time), line as u32).float(field, self.rng.below(3) as f64);
            rows.push((measurement, time));
        }
        let receipt = self.engine().write(batch).unwrap();
        let mut rejected: Vec<usize> = receipt.rejected.iter().map(|row| row.line as usize).collect();
        rejected.sort_unstable();
        for line in rejected.into_iter().rev() {
            rows.remove(line);
        }
        Happened::Written { rows, wall }
    }

    fn delete(&mut self) -> Happened {
        let from = self.clock.wall_ns() - self.rng.below(80) as i64 * HOUR;
        let range = if self.rng.chance(10) {
            i64::MIN..i64::MAX
        } else {
            from..from + (1 + self.rng.below(5)) as i64 * HOUR / 2
        };
        let device = TagFilter { key: "device".into(), predicate: TagPredicate::In(vec!["a".into()]) };
        let request = DeleteRequest {
            database: DATABASE.into(),
            retention_policy: None,
            measurement: self.rng.chance(80).then(|| (*self.rng.pick(&MEASUREMENTS)).to_owned()),
            fields: self.rng.chance(30).then(|| vec!["x".to_owned()]),
            tags: if self.rng.chance(50) { vec![device] } else { Vec::new() },
            start: Timestamp(range.start),
            end: Timestamp(range.end),
        };
        match self.engine().delete(&request) {
            Ok(_) => Happened::Deleted { measurement: request.measurement, range },
            // Nothing was written yet.
            Err(_) => Happened::Nothing,
        }
    }

    fn retain(&mut self) -> Happened {
        let measurement = self.rng.chance(60).then(|| *self.rng.pick(&MEASUREMENTS));
        let rule = match self.rng.below(4) {
            0 => Rule::Forever,
            1 if measurement.is_some() => Rule::Inherited,
            _ => Rule::Keep { ns: ((8 + self.rng.below(72)) as i64 * HOUR).unsigned_abs() },
        };
        // Fails as long as there is no database.
        let _ = self.engine().set_retention(DATABASE, None, measurement, rule);
        self.engine().retain().unwrap();
        Happened::Nothing
    }
}

/// For messages.
pub(crate) fn times(range: &Range<i64>) -> String {
    let show = |time: i64| match time {
        i64::MIN => "min".to_owned(),
        i64::MAX => "max".to_owned(),
        time => format!("T0{:+}s", (time - T0) / SECOND),
    };
    format!("{}..{}", show(range.start), show(range.end))
}

pub(crate) trait WallNs {
    fn wall_ns(&self) -> i64;
}

impl WallNs for Arc<ManualClock> {
    fn wall_ns(&self) -> i64 {
        wattlog_model::Clock::wall(&**self).0
    }
}
