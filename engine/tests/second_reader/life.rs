//! A store's short and eventful life on a real folder, made from a seed.

use crate::canonical;
use crate::dice::Dice;
use crate::values::{Kind, Presence, Source};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::query::{TagFilter, TagPredicate};
use wattlog_engine::{DeleteRequest, Durability, Engine, Options, RejectReason, Rejection, Rule, WriteBatch};
use wattlog_model::{Clock, FieldKind, FieldMeaning, ManualClock, TagSet, Timestamp, Unit};

const SECOND_NS: i64 = 1_000_000_000;

/// How a store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    /// A copy of the folder of an open store: what `kill -9` leaves.
    Killed,
    /// The same, and the end of the newest log is cut off or overwritten: what a power cut may leave.
    Torn,
    /// The same, and one bit of one log is another.
    Damaged,
}

/// A store as files, and all of its points as the engine tells them.
#[derive(Debug)]
pub struct Lived {
    pub folder: PathBuf,
    pub points: String,
    pub end: End,
    /// True if the engine says that bytes which somebody was told are stored are not as they were.
    pub damaged: bool,
}

/// Lives the life of `seed` in folders below `room`.
pub fn live(seed: u64, room: &Path) -> Lived {
    let mut life = Life::new(seed, room);
    let events = 3 + life.dice.below(12);
    for _ in 0..events {
        life.event();
    }
    life.end()
}

struct Life {
    dice: Dice,
    seed: u64,
    room: PathBuf,
    folder: PathBuf,
    copies: u32,
    clock: Arc<ManualClock>,
    /// Gone only while the store is reopened.
    engine: Option<Engine>,
    tables: Vec<Table>,
    now_ns: i64,
}

/// A measurement with its series and fields.
struct Table {
    database: String,
    policy: Option<String>,
    measurement: String,
    fields: Vec<(String, Presence, Source)>,
    tag_sets: Vec<TagSet>,
    step_ns: i64,
    jitter_ns: i64,
    last_ns: Vec<i64>,
    /// Times of each series' body before.
    before: Vec<Vec<i64>>,
    many_rows: bool,
}

impl Life {
    fn new(seed: u64, room: &Path) -> Self {
        let mut dice = Dice::new(seed);
        let folder = room.join(format!("{seed}-0"));
        let now_ns = *dice.pick(&[
            1_767_571_200 * SECOND_NS,         // 2026-01-05
            1_772_323_000 * SECOND_NS,         // a few minutes before March 2026
            -3 * 3600 * SECOND_NS,             // around 1970
            4_102_444_800 * SECOND_NS + 12345, // 2100
        ]);
        let clock = Arc::new(ManualClock::new(Timestamp(now_ns.max(0))));
        let engine = open(&folder, &clock, seed);
        let tables = tables(&engine, &mut dice, now_ns);
        Self {
            dice,
            seed,
            room: room.to_owned(),
            folder,
            copies: 0,
            clock,
            engine: Some(engine),
            tables,
            now_ns,
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("an open store")
    }

    fn event(&mut self) {
        self.clock.advance(Duration::from_millis(self.dice.below(5000)));
        match self.dice.below(100) {
            0..46 => self.write(),
            46..48 => self.merge_a_day(),
            48..58 => {
                self.engine().seal().unwrap();
            }
            58..70 => self.delete(),
            70..77 => {
                // Days that are over are packed, where the options say so: it is a week later for a moment.
                let wall = self.clock.wall();
                if self.dice.chance(50) {
                    self.clock.set_wall(Timestamp(wall.0 + 7 * 86_400 * SECOND_NS));
                }
                self.engine().compact().unwrap();
                self.clock.set_wall(wall);
            }
            77..79 => self.retain(),
            79..83 => {
                let folder = self.folder.clone();
                self.reopen(&folder);
            }
            83..88 => {
                let folder = self.copy();
                self.reopen(&folder);
            }
            88..94 => self.describe(),
            94..97 => {
                let wall = self.now_ns.max(0) + self.dice.between(-90, 90) * SECOND_NS;
                self.clock.set_wall(Timestamp(wall));
                self.write();
            }
            _ => {
                let interval = Durability::Interval(Duration::from_millis(1 + self.dice.below(50)));
                self.engine().create_database(&self.tables[0].database).unwrap();
                self.engine().set_durability(&self.tables[0].database, None, interval).unwrap();
            }
        }
    }

    fn write(&mut self) {
        let bodies = 1 + self.dice.below(4);
        for _ in 0..bodies {
            let index = self.dice.below(self.tables.len() as u64) as usize;
            let body = self.tables[index].body(&mut self.dice);
            let receipt = self.engine().write(body).unwrap();
            let too_old = |row: &Rejection| row.reason == RejectReason::BeyondRetention;
            assert!(receipt.rejected.iter().all(too_old), "{:?}", receipt.rejected);
        }
    }

    /// A day is over and its first files become one, behind which one with younger values of that day stays: then the younger
    /// file has the lower id. The compactor looks once a second.
    fn merge_a_day(&mut self) {
        let day_ns = self.now_ns - self.now_ns.rem_euclid(Timestamp::DAY_NS) + 7 * Timestamp::DAY_NS;
        self.engine().seal().unwrap();
        for days in [1, 1, 2] {
            let table = &mut self.tables[0];
            let mut batch = WriteBatch::new(&table.database, table.policy.as_deref());
            let slot = batch.series(&table.measurement, &table.tag_sets[0]);
            for line in 0..20 * days {
                let time = day_ns + Timestamp::DAY_NS * (line / 20) + 60 * SECOND_NS * (line % 20);
                let mut row = batch.row(slot, Timestamp(time), line as u32);
                for (name, _, source) in &mut table.fields {
                    row.value(name, &source.next(&mut self.dice));
                }
            }
            self.engine().write(batch).unwrap();
            self.engine().seal().unwrap();
        }
        let newest = |engine: &Engine| engine.snapshot().segments().iter().map(|held| held.entry().id).max();
        let before = newest(self.engine());
        self.clock.set_wall(Timestamp((day_ns + 4 * Timestamp::DAY_NS).max(0)));
        let begin = std::time::Instant::now();
        while newest(self.engine()) == before && begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Some fields or whole points, of some series or all, for a while or for ever; often near what was written last, and
    /// so over the time of a delete before it.
    fn delete(&mut self) {
        let table = &self.tables[self.dice.below(self.tables.len() as u64) as usize];
        let engine = self.engine.as_ref().expect("an open store");
        let is_known = |info: &wattlog_engine::DatabaseInfo| info.name == table.database;
        if !engine.databases().iter().any(is_known) {
            return;
        }
        let dice = &mut self.dice;
        let names = table.fields.iter().map(|(name, ..)| name.clone());
        let fields = dice.chance(50).then(|| names.filter(|_| dice.chance(40)).collect::<Vec<String>>());
        let fields = fields.filter(|fields| !fields.is_empty());
        let series = dice.below(table.tag_sets.len() as u64) as usize;
        let devices = vec![format!("inv{series}"), format!("inv{}", series + 2)];
        let tags = match dice.below(6) {
            0..2 => Some(("device_id", TagPredicate::In(devices))),
            2 => Some(("location", TagPredicate::NotIn(vec!["dach".to_owned()]))),
            _ => None,
        };
        let end = table.last_ns[series] - dice.between(-3, 60) * table.step_ns;
        let (start, end) = match dice.below(10) {
            0 => (Timestamp::MIN.0, i64::MAX),
            1 => (end, i64::MAX),
            2 => (self.now_ns, end.max(self.now_ns + 1)),
            3..5 => (end - 1 - dice.between(0, 3000) * table.step_ns, end),
            _ => (end - 1 - dice.between(0, 40) * table.step_ns, end),
        };
        let request = DeleteRequest {
            database: table.database.clone(),
            retention_policy: table.policy.clone(),
            measurement: dice.chance(85).then(|| table.measurement.clone()),
            fields,
            tags: tags
                .map(|(key, predicate)| TagFilter { key: key.to_owned(), predicate })
                .into_iter()
                .collect(),
            start: Timestamp(start),
            end: Timestamp(end),
        };
        engine.delete(&request).unwrap();
    }

    /// Hides the oldest part of what a table has, of it alone or of all that is beside it. No rule that moves with the clock is
    /// left: the store is to stay as it is while it is read.
    fn retain(&mut self) {
        let table = &self.tables[self.dice.below(self.tables.len() as u64) as usize];
        let engine = self.engine.as_ref().expect("an open store");
        if !engine.databases().iter().any(|info| info.name == table.database) {
            return;
        }
        let dice = &mut self.dice;
        let oldest = table.before.iter().flatten().copied().min().unwrap_or(self.now_ns);
        let cutoff = oldest + dice.between(0, 200) * table.step_ns;
        engine.confirm_clock().unwrap();
        self.clock.set_wall(Timestamp(self.clock.wall().0.max(cutoff + SECOND_NS)));
        let own = dice.chance(60).then_some(&*table.measurement);
        let set = |rule| engine.set_retention(&table.database, table.policy.as_deref(), own, rule).unwrap();
        set(Rule::Keep { ns: self.clock.wall().0.abs_diff(cutoff) });
        set(if own.is_some() && dice.chance(30) { Rule::Inherited } else { Rule::Forever });
        engine.retain().unwrap();
    }

    fn describe(&mut self) {
        let table = &self.tables[self.dice.below(self.tables.len() as u64) as usize];
        let units = ["W", "kWh", "%", "°C", "PLN/kWh"];
        let kinds = [FieldKind::Linear, FieldKind::Step, FieldKind::Counter];
        let meanings: Vec<FieldMeaning> = table
            .fields
            .iter()
            .map(|(field, ..)| FieldMeaning {
                field: field.clone(),
                unit: if self.dice.chance(70) { Unit::new(units[self.dice.below(5) as usize]) } else { None },
                kind: *self.dice.pick(&kinds),
            })
            .collect();
        if self.engine().measurements(&table.database).is_ok_and(|known| known.contains(&table.measurement)) {
            self.engine().describe_fields(&table.database, &table.measurement, &meanings).unwrap();
        }
    }

    /// Goes on with the store in `folder`: in this one after an orderly end, or in a copy as after a crash.
    fn reopen(&mut self, folder: &Path) {
        let before = canonical::points(self.engine());
        self.engine.take().expect("an open store").close().unwrap();
        let engine = open(folder, &self.clock, self.seed);
        assert!(engine.recovery_report().damage.is_empty(), "{:?}", engine.recovery_report());
        assert!(before == canonical::points(&engine), "seed {}: other points after reopening", self.seed);
        self.engine = Some(engine);
        self.folder = folder.to_owned();
    }

    fn copy(&mut self) -> PathBuf {
        self.copies += 1;
        let to = self.room.join(format!("{}-{}", self.seed, self.copies));
        copy_folder(&self.folder, &to);
        to
    }

    fn end(mut self) -> Lived {
        if self.dice.chance(40) {
            // One that stands in the log alone.
            self.write();
            self.delete();
            if self.dice.chance(50) {
                self.write();
            }
        }
        match self.dice.below(5) {
            0 => {
                let points = canonical::points(self.engine());
                self.engine.take().expect("an open store").close().unwrap();
                Lived { folder: self.folder.clone(), points, end: End::Closed, damaged: false }
            }
            1 => {
                let folder = self.copy();
                Lived { folder, points: canonical::points(self.engine()), end: End::Killed, damaged: false }
            }
            end => {
                let folder = self.copy();
                let (end, spoil): (_, fn(&Path, &mut Dice)) =
                    if end == 4 { (End::Damaged, flip) } else { (End::Torn, tear) };
                spoil(&folder, &mut self.dice);
                // The engine opens a copy of its own: opening changes files, and the reader is to see them as they were.
                let opened = self.room.join(format!("{}-opened", self.seed));
                copy_folder(&folder, &opened);
                let engine = open(&opened, &self.clock, self.seed);
                let damaged = !engine.recovery_report().damage.is_empty();
                Lived { folder, points: canonical::points(&engine), end, damaged }
            }
        }
    }
}

impl Table {
    fn body(&mut self, dice: &mut Dice) -> WriteBatch {
        let mut batch = WriteBatch::new(&self.database, self.policy.as_deref());
        for (index, tags) in self.tag_sets.iter().enumerate() {
            if !dice.chance(70) {
                continue;
            }
            let slot = batch.series(&self.measurement, tags);
            let rows = if self.many_rows { 20 + dice.below(600) } else { 1 + dice.below(30) };
            let mut times = Vec::new();
            for _ in 0..rows {
                self.last_ns[index] +=
                    self.step_ns * if dice.chance(3) { 1 + dice.between(0, 40) } else { 1 };
                times.push(self.last_ns[index] + dice.between(-self.jitter_ns, self.jitter_ns));
            }
            if dice.chance(15) {
                let late = dice.between(0, 50) * self.step_ns;
                times.iter_mut().for_each(|time| *time -= late);
            }
            if dice.chance(25) && !self.before[index].is_empty() {
                // Written again, with a few that are new.
                let again = self.before[index].iter().copied().filter(|_| dice.chance(80));
                times = again.chain(times.iter().copied().take(3)).collect();
            }
            if dice.chance(15) {
                let rows = times.len() as u64;
                for _ in 0..rows {
                    let (a, b) = (dice.below(rows) as usize, dice.below(rows) as usize);
                    times.swap(a, b);
                }
            }
            if dice.chance(10) {
                times.push(times[0]);
            }
            self.before[index].clone_from(&times);
            let rows = times.len() as u64;
            for (number, time) in times.iter().enumerate() {
                let mut row = batch.row(slot, Timestamp(*time), number as u32);
                for (name, presence, source) in &mut self.fields {
                    if presence.is_there(number as u64, rows, dice) {
                        row.value(name, &source.next(dice));
                    }
                }
            }
        }
        batch
    }
}

fn tables(engine: &Engine, dice: &mut Dice, now_ns: i64) -> Vec<Table> {
    let mut tables = Vec::new();
    for number in 0..=dice.below(4) {
        let database = (*dice.pick(&["wattlog", "home", "dom"])).to_owned();
        let policy = dice.chance(25).then(|| "rp \"52w\"".to_owned());
        if let Some(policy) = &policy {
            engine.create_policy(&database, policy).unwrap();
        }
        let fields = (0..=dice.below(7))
            .map(|field| {
                let kind = Kind::random(dice);
                (format!("pole {field}"), Presence::random(dice), Source::new(kind, dice))
            })
            .collect();
        let series = if dice.chance(6) { 60 + dice.below(120) } else { 1 + dice.below(4) };
        let tag_sets: Vec<TagSet> = (0..series).map(|id| tags(id, dice)).collect();
        let step_ns =
            *dice.pick(&[1, 1_000_000, SECOND_NS, 10 * SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS]);
        tables.push(Table {
            database,
            policy,
            measurement: format!("m{number}{}", dice.pick(&["", " energia", "=,\\"])),
            fields,
            last_ns: vec![now_ns; tag_sets.len()],
            before: vec![Vec::new(); tag_sets.len()],
            many_rows: series < 5 && dice.chance(50),
            tag_sets,
            step_ns,
            jitter_ns: if dice.chance(50) { step_ns / 20 } else { 0 },
        });
    }
    tables
}

fn tags(id: u64, dice: &mut Dice) -> TagSet {
    let mut pairs = vec![("device_id".to_owned(), format!("inv{id}"))];
    if dice.chance(50) {
        pairs.push(("location".to_owned(), (*dice.pick(&["dach", "garaż", "=x y,"])).to_owned()));
    }
    if id == 0 && dice.chance(30) {
        pairs.clear();
    }
    TagSet::new(pairs).unwrap()
}

pub fn open(folder: &Path, clock: &Arc<ManualClock>, seed: u64) -> Engine {
    let mut identity = [7; 16];
    identity[..8].copy_from_slice(&seed.to_le_bytes());
    let options = Options {
        ballast_bytes: 4096,
        min_retention: Duration::ZERO,
        // What is of yesterday is packed at once, in every other store.
        pco_after: seed.is_multiple_of(2).then_some(Duration::ZERO),
        ..Options::default()
    };
    Engine::open(Arc::new(OsDisk::new(folder).unwrap()), options, clock.clone(), identity).unwrap()
}

/// Takes some bytes from the end of the newest log, or writes over them.
pub fn tear(folder: &Path, dice: &mut Dice) {
    let Some(log) = logs(folder).pop() else { return };
    let mut bytes = fs::read(&log).unwrap();
    let torn = (1 + dice.below(200) as usize).min(bytes.len().saturating_sub(64));
    if dice.chance(50) {
        bytes.truncate(bytes.len() - torn);
    } else {
        let from = bytes.len() - torn;
        bytes[from..].fill_with(|| dice.next() as u8);
    }
    fs::write(log, bytes).unwrap();
}

fn flip(folder: &Path, dice: &mut Dice) {
    let logs = logs(folder);
    if logs.is_empty() {
        return;
    }
    let log = dice.pick(&logs);
    let mut bytes = fs::read(log).unwrap();
    let at = dice.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << dice.below(8);
    fs::write(log, bytes).unwrap();
}

/// Logs, oldest first. A store in which nothing was written has none, and a copy of it not even their folder.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("wal")) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap().path());
    let mut logs: Vec<PathBuf> =
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("wal-")).collect();
    logs.sort();
    logs
}

/// Copies a store as it is at one moment: a seal's last steps (old logs go) may still be under way behind its answer.
pub fn copy_folder(from: &Path, to: &Path) {
    for _ in 0..1000 {
        let before = listing(from);
        let copied = before.iter().all(|(name, _)| {
            let target = to.join(name);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(from.join(name), target).is_ok()
        });
        if copied && listing(from) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} does not come to rest", from.display());
}

/// Files below a folder by their path in it, with their lengths.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(folder.join(&path)).unwrap() {
            let entry = entry.unwrap();
            let name = path.join(entry.file_name());
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(name),
                found => files.push((name, found.map_or(u64::MAX, |metadata| metadata.len()))),
            }
        }
    }
    files.sort();
    files
}
