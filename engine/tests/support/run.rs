//! Lives a history on a disk and notes what its callers were told.

use super::content::{Body, DATABASES, INTERVAL_DATABASE, SERIES};
use super::history::{INTERVAL, START_NS, Step, is_interval};
use std::sync::Arc;
use wattlog_engine::error::WriteError;
use wattlog_engine::ids::Seq;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::options::{Durability, Options};
use wattlog_engine::query::QueryError;
use wattlog_engine::{DeleteError, DeleteRequest, Engine, RejectReason, Rejection, Rule};
use wattlog_model::{Clock, FieldKind, FieldMeaning, ManualClock, Timestamp, Unit};

/// What the caller of one body was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Durable.
    Stored,
    /// Taken, durable soon.
    Taken,
    /// Nothing, or that nobody knows.
    Unknown,
    /// That nothing was stored.
    Refused,
    /// That no store was open, or that it takes nothing any more: so it is nowhere.
    Unasked,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) body: Body,
    pub(crate) told: Told,
    /// Written beside others: its place in the commit order is not known.
    pub(crate) beside: bool,
}

/// A store that is used until the power goes.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) options: Options,
    pub(crate) clock: Arc<ManualClock>,
    /// In the order of the calls.
    pub(crate) entries: Vec<Entry>,
    /// Errors on a disk that had power and no fault: none may happen.
    pub(crate) complaints: Vec<String>,
    /// By database.
    pub(crate) cutoffs: [Cutoff; DATABASES.len()],
    /// An opening told of damage: points may be missing from then on.
    pub(crate) damage_told: bool,
    engine: Option<Engine>,
    interval_set: bool,
    /// A rule that moves with the clock could not be taken back: time stands still.
    timed: bool,
}

/// What is too old by what callers were told, and what may be by what they asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cutoff {
    pub(crate) certain: Option<i64>,
    possible: Option<i64>,
}

impl Run {
    pub(crate) fn new(disk: SimDisk, options: Options) -> Self {
        Self {
            disk,
            options,
            clock: Arc::new(ManualClock::new(Timestamp(START_NS))),
            entries: Vec::new(),
            complaints: Vec::new(),
            cutoffs: [Cutoff::default(); DATABASES.len()],
            damage_told: false,
            engine: None,
            interval_set: false,
            timed: false,
        }
    }

    /// Lives until the history ends or the power goes. The store is left open, as a power cut finds it.
    pub(crate) fn live(&mut self, history: &[Step]) {
        self.open();
        for step in history {
            if self.disk.is_off() {
                return;
            }
            self.step(step);
        }
    }

    /// Lets go of the store: its threads end.
    pub(crate) fn end(&mut self) {
        self.engine = None;
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub(crate) fn open(&mut self) {
        match open(&self.disk, &self.options, &self.clock) {
            Ok(engine) => {
                self.damage_told |= !engine.recovery_report().damage.is_empty();
                self.engine = Some(engine);
                self.set_interval();
            }
            Err(error) => self.complain(&format!("open: {error}")),
        }
    }

    pub(crate) fn close(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        match engine.close() {
            Ok(()) => self.all_is_durable(),
            Err(error) => {
                self.none_is_promised();
                self.complain(&format!("close: {error}"));
            }
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Write(body) => {
                let (body, told) = if body.cutoff.is_some() { self.retain(body) } else { self.write(body) };
                self.entries.push(Entry { body, told, beside: false });
                self.set_interval();
            }
            Step::Burst(bodies) => self.burst(bodies),
            Step::Seal => self.seal(),
            Step::Compact => self.compact(),
            Step::Reopen => {
                self.close();
                self.open();
            }
            Step::Drop => {
                self.engine = None;
                self.open();
            }
            Step::Wait(time) if !self.timed => self.clock.advance(*time),
            Step::Wait(_) => {}
            Step::Describe => self.describe(),
        }
    }

    fn write(&mut self, body: &Body) -> (Body, Told) {
        let Some(engine) = &self.engine else { return (body.clone(), Told::Unasked) };
        let answer = write(engine, body, self.interval_set);
        self.taken(answer, body)
    }

    /// What is stored of a body by what its caller was told.
    fn taken(&mut self, answer: Answer, body: &Body) -> (Body, Told) {
        if let Some(complaint) = answer.complaint {
            self.complain(&complaint);
        }
        let stored = body.without(&answer.too_old);
        let Cutoff { certain, possible } = self.cutoffs[body.database];
        let refused = body.cells.iter().filter(|(cell, _)| stored.cells.iter().all(|(kept, _)| kept != cell));
        if refused.clone().any(|(cell, _)| possible.is_none_or(|first| cell.time >= first)) {
            self.complain("rows that are not too old were refused as such");
        }
        let is_answered = matches!(answer.told, Told::Stored | Told::Taken);
        if is_answered && stored.cells.iter().any(|(cell, _)| certain.is_some_and(|first| cell.time < first))
        {
            self.complain("rows that are too old were stored");
        }
        // Nothing was synced for a body of which nothing is left.
        let nothing = stored.cells.is_empty() && body.deletion.is_none();
        let told = if is_answered && nothing { Told::Unasked } else { answer.told };
        (stored, told)
    }

    /// Hides what is older than the body says, for good, and leaves no rule that moves with the clock.
    fn retain(&mut self, body: &Body) -> (Body, Told) {
        let (Some(engine), Some(cutoff)) = (&self.engine, body.cutoff) else {
            return (body.clone(), Told::Unasked);
        };
        let ns = self.clock.wall().0.abs_diff(cutoff);
        let name = DATABASES[body.database];
        let set = |rule| engine.set_retention(name, None, None, rule).map(|_| ());
        let known = &mut self.cutoffs[body.database];
        let told = match engine.confirm_clock().and_then(|()| {
            known.possible = known.possible.max(Some(cutoff));
            set(Rule::Keep { ns })
        }) {
            Ok(()) => {
                known.certain = known.certain.max(Some(cutoff));
                Ok(Told::Stored)
            }
            Err(WriteError::DatabaseNotFound(_)) => return (body.clone(), Told::Unasked),
            Err(error) => Err(error),
        };
        self.timed |= set(Rule::Forever).is_err();
        let told = told.unwrap_or_else(|error| {
            self.complain(&format!("retention: {error}"));
            Told::Unknown
        });
        (body.clone(), told)
    }

    fn burst(&mut self, bodies: &[Body]) {
        let Some(engine) = self.engine.clone() else { return };
        let interval_set = self.interval_set;
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let engine = &engine;
            let writers: Vec<_> =
                bodies.iter().map(|body| scope.spawn(move || write(engine, body, interval_set))).collect();
            writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
        });
        let mut answered: Vec<(Answer, &Body)> = answers.into_iter().zip(bodies).collect();
        // In commit order, as far as it is known.
        answered.sort_by_key(|(answer, _)| answer.seq.unwrap_or(Seq(u64::MAX)));
        for (answer, body) in answered {
            let (body, told) = self.taken(answer, body);
            self.entries.push(Entry { body, told, beside: true });
        }
        self.set_interval();
    }

    fn seal(&mut self) {
        let Some(engine) = &self.engine else { return };
        match engine.seal() {
            Ok(_) => self.all_is_durable(),
            Err(error) => self.complain(&format!("seal: {error}")),
        }
    }

    fn compact(&mut self) {
        let Some(engine) = &self.engine else { return };
        match engine.compact() {
            Ok(_) => self.all_is_durable(),
            Err(error) => self.complain(&format!("compact: {error}")),
        }
    }

    fn describe(&mut self) {
        let Some(engine) = &self.engine else { return };
        let meaning = |name: &str, unit: &str| FieldMeaning {
            field: name.into(),
            unit: Unit::new(unit),
            kind: FieldKind::Linear,
        };
        let fields = [meaning("power", "W"), meaning("energy", "kWh")];
        match engine.describe_fields(DATABASES[0], SERIES[0].0, &fields) {
            Ok(_) | Err(WriteError::DatabaseNotFound(_)) => {}
            Err(error) => self.complain(&format!("describe: {error}")),
        }
    }

    /// The policy of a database can be set once it is there; until then its writers wait for their sync.
    fn set_interval(&mut self) {
        let Some(engine) = &self.engine else { return };
        let name = DATABASES[INTERVAL_DATABASE];
        if self.interval_set || !engine.databases().iter().any(|database| database.name == name) {
            return;
        }
        match engine.set_durability(name, None, Durability::Interval(INTERVAL)) {
            Ok(()) => self.interval_set = true,
            // It may have become durable all the same: what follows is taken as the weaker promise.
            Err(error) => {
                self.interval_set = true;
                self.complain(&format!("set durability: {error}"));
            }
        }
    }

    /// Everything taken so far has become durable.
    fn all_is_durable(&mut self) {
        for entry in &mut self.entries {
            if entry.told == Told::Taken {
                entry.told = Told::Stored;
            }
        }
    }

    /// The store said that it could not make durable what it had taken: no later sync will.
    fn none_is_promised(&mut self) {
        for entry in &mut self.entries {
            if entry.told == Told::Taken {
                entry.told = Told::Unknown;
            }
        }
    }

    fn complain(&mut self, what: &str) {
        if !self.disk.is_off() {
            self.complaints.push(what.to_owned());
        }
    }
}

/// Opens the store on `disk`.
pub(crate) fn open(disk: &SimDisk, options: &Options, clock: &Arc<ManualClock>) -> Result<Engine, String> {
    Engine::open(Arc::new(disk.clone()), options.clone(), Arc::clone(clock) as _, [7; 16])
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
}

/// What a writer of one body hears.
struct Answer {
    told: Told,
    /// Its place in the commit order.
    seq: Option<Seq>,
    /// What would be wrong on a disk that works.
    complaint: Option<String>,
    /// Lines that were refused for their age.
    too_old: Vec<u32>,
}

impl Answer {
    fn new(told: Told, seq: Option<Seq>, complaint: Option<String>) -> Self {
        Self { told, seq, complaint, too_old: Vec::new() }
    }
}

fn write(engine: &Engine, body: &Body, interval_set: bool) -> Answer {
    if let Some(request) = body.delete() {
        return delete(engine, &request);
    }
    let taken = interval_set && is_interval(body.database);
    match engine.write(body.batch()) {
        Ok(receipt) => {
            let told = if taken { Told::Taken } else { Told::Stored };
            let is_old = |row: &&Rejection| row.reason == RejectReason::BeyondRetention;
            let too_old = receipt.rejected.iter().filter(is_old).map(|row| row.line).collect();
            let other = !receipt.rejected.iter().all(|row| is_old(&row));
            let complaint = other.then(|| format!("rows refused: {:?}", receipt.rejected));
            Answer { told, seq: Some(receipt.cursor.seq), complaint, too_old }
        }
        Err(error) => refused(&error),
    }
}

fn delete(engine: &Engine, request: &DeleteRequest) -> Answer {
    match engine.delete(request) {
        // It stands in no log, so no sync of its own covers what was taken before.
        Ok(receipt) if receipt.series == 0 => Answer::new(Told::Unasked, None, None),
        Ok(receipt) => Answer::new(Told::Stored, Some(receipt.cursor.seq), None),
        // Nothing was ever written there.
        Err(DeleteError::Request(QueryError::DatabaseNotFound(_))) => Answer::new(Told::Unasked, None, None),
        Err(DeleteError::Commit(error)) => refused(&error),
        Err(error) => Answer::new(Told::Unasked, None, Some(format!("delete: {error}"))),
    }
}

fn refused(error: &WriteError) -> Answer {
    let unknown = matches!(error, WriteError::OutcomeUnknown(_) | WriteError::Closed);
    let told = match error {
        _ if unknown => Told::Unknown,
        WriteError::ReadOnly(_) => Told::Unasked,
        _ => Told::Refused,
    };
    Answer::new(told, None, Some(format!("write: {error}")))
}
