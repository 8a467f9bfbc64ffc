//! The demo's past: the same plant as the live one, from registers through the decoder, oldest first, in ordinary bodies.

use super::{DEVICE, LOCATION, stopped_early};
use crate::failure::{Failure, Kind};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::FieldChoice;
use wattlog_collector::goodwe::MEASUREMENT;
use wattlog_collector::simulator::{Plant, PlantPoints};
use wattlog_engine::{Engine, WriteBatch};
use wattlog_model::Timestamp;

/// Most values of one body.
const BODY_VALUES: u64 = 30_000;
/// Bodies made ahead of the writer.
const AHEAD: usize = 2;

/// What is to be filled.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// When the plant began to work: the start of the oldest history there is, so that its counters go on.
    pub(super) commissioned: Timestamp,
    start: Timestamp,
    end: Timestamp,
    step: Duration,
}

impl Plan {
    /// The last `days` before `now`, less what a former demo has stored already.
    pub(super) fn new(
        engine: &Engine,
        database: &str,
        now: Timestamp,
        days: u32,
        step: Duration,
    ) -> Result<Self, Failure> {
        let step_ns = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
        let end = now.0.div_euclid(step_ns) * step_ns;
        let mut start = end - i64::from(days) * Timestamp::DAY_NS;
        let mut commissioned = start;
        if engine.databases().iter().any(|known| known.name == database) {
            let former = engine
                .measurement(database, MEASUREMENT)
                .map_err(|error| Failure::from_error(Kind::Io, &error))?;
            if let Some((first, last)) = former.and_then(|former| former.first.zip(former.last)) {
                commissioned = first.0;
                start = start.max(last.0 + 1);
            }
        }
        // On the grid of the step, upwards.
        start = start.div_euclid(step_ns).saturating_add(i64::from(start.rem_euclid(step_ns) != 0)) * step_ns;
        Ok(Self {
            commissioned: Timestamp(commissioned),
            start: Timestamp(start),
            end: Timestamp(end.max(start)),
            step,
        })
    }

    fn points(&self) -> u64 {
        (self.end.0 - self.start.0).unsigned_abs() / self.step.as_nanos().max(1) as u64
    }
}

/// What was filled.
#[derive(Debug)]
pub(super) struct Filled {
    points: u64,
    values: u64,
    took: Duration,
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64().max(1e-3);
        write!(
            f,
            "history: {} points ({} values) in {seconds:.1} s, {:.0} points/s, {:.1} million values/s, each body synced",
            self.points,
            self.values,
            self.points as f64 / seconds,
            self.values as f64 / seconds / 1e6,
        )
    }
}

/// Writes the plan through the engine's door: one thread makes bodies, this one writes them.
///
/// # Errors
/// If the store refuses a body or a point of it, and as soon as `over` is cancelled; what was written stays.
pub(super) fn fill(
    engine: &Engine,
    database: &str,
    plant: &Plant,
    plan: &Plan,
    over: &CancellationToken,
) -> Result<Filled, Failure> {
    let bar = ProgressBar::new(plan.points());
    let style = ProgressStyle::with_template("history [{bar:40}] {percent}% {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    let begin = Instant::now();
    let (sender, receiver) = sync_channel::<WriteBatch>(AHEAD);
    let filled = std::thread::scope(|scope| {
        scope.spawn(move || make_bodies(database, plant, plan, |body| sender.send(body).is_ok()));
        let mut filled = Filled { points: 0, values: 0, took: Duration::ZERO };
        for body in receiver {
            if over.is_cancelled() {
                return Err(stopped_early());
            }
            filled.points += body.points();
            filled.values += body.values();
            bar.inc(body.points());
            write(engine, body)?;
        }
        Ok(filled)
    });
    bar.finish_and_clear();
    filled.map(|filled| Filled { took: begin.elapsed(), ..filled })
}

/// Gives `take` one body after the other, until it wants no more.
fn make_bodies(database: &str, plant: &Plant, plan: &Plan, take: impl Fn(WriteBatch) -> bool) {
    let mut points = PlantPoints::new(DEVICE, LOCATION, FieldChoice::All);
    let mut body = WriteBatch::new(database, None);
    for state in plant.history(plan.start..plan.end, plan.step) {
        let point = points.point(&state);
        if body.values() + point.fields.len() as u64 > BODY_VALUES {
            let full = std::mem::replace(&mut body, WriteBatch::new(database, None));
            if !take(full) {
                return;
            }
        }
        body.push(&point, state.time, 0);
    }
    if !body.is_empty() {
        take(body);
    }
}

fn write(engine: &Engine, body: WriteBatch) -> Result<(), Failure> {
    let receipt = engine.write(body).map_err(|error| Failure::from_error(Kind::Io, &error))?;
    match receipt.rejected.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let (count, reason) = (receipt.rejected.len(), &first.reason);
            Err(Failure::new(Kind::Data, format!("{count} points of the history were refused: {reason}")))
        }
    }
}
