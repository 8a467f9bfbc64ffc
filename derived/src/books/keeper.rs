//! The task that keeps the books.

use super::follower::{Follower, Written};
use super::{BookError, BookOptions, BookStatus, Hands, MOST_EDITS, Named};
use crate::energy::EnergyKeeper;
use crate::follow::{Followed, Owner};
use crate::reports::{Batteries, Known, Length, due};
use crate::sessions::{Part, bounds, has_any, next_from, params, silent};
use crate::tariffs::stored_tariffs;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_analytics::session::Params;
use wattlog_engine::query::{CancelFlag, QueryControl};
use wattlog_engine::{ChangeRequest, Engine};
use wattlog_ledger::schema::{Report, Tariff};
use wattlog_ledger::{Edit, Ledger, Stored};
use wattlog_model::Clock;

/// Sessions of so long a time are looked for at a time: two weeks, so that most of it is reading what changed and not what lies
/// around it, and few questions to the ledger.
const STEP_NS: i64 = 14 * DAY_NS;
/// Where something cannot be read, so long a time: days beside it have their sessions.
const DAY_NS: i64 = 86_400_000_000_000;
/// Periods whose reports are written at a time.
const MOST_PERIODS: usize = 32;
/// After a failure it waits this long, then twice as long each time, and at most [`MOST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// While reports wait for energies it looks again after this long.
const SOON: Duration = Duration::from_secs(2);
/// Most notes that are kept.
const MOST_NOTES: usize = 20;
/// While it works through sessions it writes this often how far it is.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Looks at the feed at a time: whoever writes all the while does not hold up the work, or a stop.
const MOST_LOOKS: usize = 1000;

/// Keeps sessions and reports in the ledger.
#[derive(Debug)]
pub struct Bookkeeper {
    hands: Hands,
    energy: Arc<EnergyKeeper>,
    clock: Arc<dyn Clock>,
    every: Duration,
    params: Params,
    status: Mutex<BookStatus>,
}

struct Ending<'a>(&'a Mutex<BookStatus>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
    }
}

/// What came of a round.
#[derive(Debug, Default)]
struct Done {
    notes: BTreeSet<String>,
    steps: usize,
}

impl Bookkeeper {
    /// Nothing runs before [`Bookkeeper::run`].
    pub fn new(
        engine: Engine,
        ledger: Ledger,
        energy: Arc<EnergyKeeper>,
        options: BookOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let active_every_ns = i64::try_from(options.active_every.as_nanos()).unwrap_or(i64::MAX);
        let control = QueryControl { cancel: CancelFlag::default(), ..QueryControl::default() };
        let BookOptions { database, zone, every, .. } = options;
        let hands = Hands { engine, database, ledger, zone, control, active_every_ns };
        Self { hands, energy, clock, every, params: params(), status: Mutex::default() }
    }

    /// How it stands.
    pub fn status(&self) -> BookStatus {
        self.status.lock().clone()
    }

    /// Keeps the books until `over`, then writes how far they are.
    pub async fn run(&self, over: CancellationToken) {
        let (watched, cancel) = (over.clone(), self.hands.control.cancel.clone());
        let watch = tokio::spawn(async move {
            watched.cancelled().await;
            cancel.cancel();
        });
        self.status.lock().is_running = true;
        // Also if it panics.
        let _ending = Ending(&self.status);
        let mut pause = FIRST_PAUSE;
        while !over.is_cancelled() {
            let Err(error) = self.follow(&over, &mut pause).await else { break };
            if over.is_cancelled() {
                break;
            }
            if !error.is_new() {
                tracing::warn!(%error, "sessions and reports are not kept: tried again in {pause:?}");
                let mut status = self.status.lock();
                (status.error, status.failures) = (Some(error.to_string()), status.failures + 1);
            }
            rest(pause, &over).await;
            pause = if error.is_new() { FIRST_PAUSE } else { (2 * pause).min(MOST_PAUSE) };
        }
        watch.abort();
    }

    /// Follows until told to stop, the store is closed, or something fails.
    async fn follow(&self, over: &CancellationToken, pause: &mut Duration) -> Result<(), BookError> {
        let mut follower = self.restore().await?;
        loop {
            let closed = self.hear(&mut follower).await?;
            if follower.feed.lock().take_forgotten() {
                follower.begin_anew();
            }
            self.tell(&follower);
            if closed {
                return Ok(());
            }
            let worked = self.round(&mut follower).await;
            self.tell(&follower);
            if over.is_cancelled() {
                // A step that was given up is still on its list.
                return self.leave(&mut follower).await;
            }
            let waits = worked?;
            *pause = FIRST_PAUSE;
            {
                let mut status = self.status.lock();
                (status.error, status.rounds) = (None, status.rounds + 1);
                status.last_success = Some(self.clock.wall());
            }
            if follower.feed.lock().is_due() {
                self.write_state(&follower).await?;
            }
            rest(if waits { self.every.min(SOON) } else { self.every }, over).await;
        }
    }

    fn tell(&self, follower: &Follower) {
        let mut status = self.status.lock();
        status.sessions = follower.sessions.ranges().to_vec();
        status.reports = follower.reports[0].ranges().to_vec();
        let lost = [&follower.lost.sessions, &follower.lost.reports[0]];
        [status.lost_sessions, status.lost_reports] = lost.map(|times| times.ranges().to_vec());
        status.is_following = true;
    }

    /// A step is done, or there was none to do.
    fn tell_success(&self, follower: &Follower) {
        self.tell(follower);
        self.status.lock().last_success = Some(self.clock.wall());
    }

    /// Goes on from what was written last; from nothing, everything is due.
    async fn restore(&self) -> Result<Follower, BookError> {
        let hands = &self.hands;
        let owner = Owner {
            engine: hands.engine.clone(),
            database: hands.database.clone(),
            name: "books",
            clock: self.clock.clone(),
        };
        let request =
            ChangeRequest { database: Some(hands.database.clone()), limit: 1000, ..ChangeRequest::default() };
        let opened = hands.ask(move |_, control| Followed::open::<Written>(owner, request, control)).await?;
        let (feed, written) = opened?;
        Ok(Follower::new(feed, written, hands.zone.name(), self.clock.monotonic()))
    }

    /// Takes all that the feed tells; true if nothing more will come.
    async fn hear(&self, follower: &mut Follower) -> Result<bool, BookError> {
        for _ in 0..MOST_LOOKS {
            let feed = follower.feed.clone();
            let next = move |_: &Engine, control: &QueryControl| {
                let mut feed = feed.lock();
                (feed.cursor(), feed.next(Duration::ZERO, &control.cancel))
            };
            let (before, changes) = self.hands.ask(next).await?;
            changes.events.iter().for_each(|event| follower.take(event, &self.hands.zone));
            if changes.closed || changes.cursor == before {
                return Ok(changes.closed);
            }
        }
        Ok(false)
    }

    async fn write_state(&self, follower: &Follower) -> Result<(), BookError> {
        let state = follower.written(self.hands.zone.name());
        let feed = follower.feed.clone();
        self.hands.ask(move |_, _| feed.lock().write(&state)).await??;
        Ok(())
    }

    /// Writes the place after all that was told. The row itself may be the first of another log; then the place goes there.
    async fn leave(&self, follower: &mut Follower) -> Result<(), BookError> {
        for _ in 0..2 {
            self.hear(follower).await?;
            self.write_state(follower).await?;
            self.hear(follower).await?;
            if !follower.feed.lock().is_elsewhere() {
                break;
            }
        }
        Ok(())
    }

    /// Does what is due; true if reports wait for energies.
    async fn round(&self, follower: &mut Follower) -> Result<bool, BookError> {
        let hands = &self.hands;
        let tariffs = Arc::new(stored_tariffs(&hands.ledger).await?);
        let known = Known { tariffs, batteries: Batteries::stored(hands).await? };
        follower.look_at(&known, &hands.zone);
        if !follower.is_checked && !has_any(hands).await? {
            follower.begin_anew();
        }
        follower.is_checked = true;
        let now = self.clock.wall().0;
        follower.try_lost_in_time(self.clock.monotonic());
        silent(hands, &self.params, now).await?.into_iter().for_each(|times| follower.sessions.add(times));
        follower.sessions.clip(&bounds(hands, &self.params));
        for length in Length::ALL {
            follower.clip_reports(length, &length.bounds(hands).await?, now);
        }
        self.tell(follower);
        let mut done = Done::default();
        self.find_sessions(follower, (&known.tariffs, now), &mut done).await?;
        let mut waits = false;
        for length in Length::ALL {
            follower.clip_reports(length, &length.bounds(hands).await?, now);
            if !self.energy.status().is_following {
                waits = true;
                break;
            }
            waits |= self.make_reports(follower, length, (&known, now), &mut done).await?;
        }
        if done.steps > 0 {
            let mut status = self.status.lock();
            let notes: Vec<String> = done.notes.into_iter().take(MOST_NOTES).collect();
            for note in notes.iter().filter(|note| !status.notes.contains(note)) {
                tracing::warn!(note, "sessions or reports lack something");
            }
            status.notes = notes;
        }
        Ok(waits)
    }

    async fn find_sessions(
        &self,
        follower: &mut Follower,
        (tariffs, now): (&Arc<Vec<Stored<Tariff>>>, i64),
        done: &mut Done,
    ) -> Result<(), BookError> {
        let hands = &self.hands;
        let mut written = self.clock.monotonic();
        let mut by_days_until = i64::MIN;
        while let Some(first) = follower.sessions.ranges().first().map(|range| range.start) {
            let step = if first < by_days_until { DAY_NS } else { STEP_NS };
            let Some(late) = follower.sessions.oldest(step) else { break };
            let part = Part { late: late.clone(), tariffs, params: self.params, now };
            let found = part.keep(hands).await?;
            self.status.lock().sessions_written += found.written;
            follower.reports.iter_mut().for_each(|reports| reports.add(found.times.clone()));
            if found.is_lost && late.end.saturating_sub(late.start) > DAY_NS {
                by_days_until = late.end;
                continue;
            }
            follower.sessions.done(&late);
            if found.is_lost {
                follower.lost.sessions.add(late.clone());
            }
            let rest = follower.sessions.ranges().first().filter(|rest| rest.start == late.end).cloned();
            if let Some(rest) = rest {
                let next = next_from(hands, rest.start).await?.unwrap_or(rest.end);
                follower.sessions.done(&(rest.start..next.min(rest.end)));
            }
            done.notes.extend(found.notes);
            done.steps += 1;
            self.tell_success(follower);
            if self.clock.monotonic().saturating_sub(written) >= WRITE_EVERY {
                self.write_state(follower).await?;
                written = self.clock.monotonic();
            }
        }
        if done.steps > 1 {
            self.write_state(follower).await?;
        }
        Ok(())
    }

    /// True if some of them wait for energies.
    async fn make_reports(
        &self,
        follower: &mut Follower,
        length: Length,
        (known, now): (&Known, i64),
        done: &mut Done,
    ) -> Result<bool, BookError> {
        let hands = &self.hands;
        let mut waiting = self.energy.status().pending;
        let mut waits = !waiting.is_empty();
        let mut left = follower.reports[length as usize].clone();
        let mut prepared = Prepared::default();
        loop {
            let is_over = hands.control.cancel.is_cancelled();
            let period = due(&left, length, &hands.zone, now, &waiting).filter(|_| !is_over);
            if period.is_none()
                || prepared.edits.len() >= MOST_EDITS
                || prepared.periods.len() >= MOST_PERIODS
            {
                self.write_reports(follower, length, &mut prepared).await?;
            }
            let Some(period) = period else { return Ok(waits) };
            let made = length.make(hands, &self.energy, &period, known).await;
            if made.is_err() {
                // One that fails again and again takes no other with it.
                self.write_reports(follower, length, &mut prepared).await?;
            }
            let made = made?;
            self.status.lock().last_success = Some(self.clock.wall());
            done.notes.extend(made.notes);
            if made.waits {
                waits = true;
                waiting.push(period);
                continue;
            }
            done.steps += 1;
            left.done(&period);
            prepared.edits.extend(made.edits);
            prepared.periods.push((period, made.is_lost));
        }
    }

    async fn write_reports(
        &self,
        follower: &mut Follower,
        length: Length,
        prepared: &mut Prepared,
    ) -> Result<(), BookError> {
        let Prepared { periods, edits } = std::mem::take(prepared);
        let written = self.hands.apply(&edits, Named::Fails).await?;
        self.status.lock().reports_written += written;
        // Only now: what was not written is made again.
        for (period, is_lost) in periods {
            follower.reports[length as usize].done(&period);
            if is_lost {
                follower.lost.reports[length as usize].add(period);
            }
        }
        self.tell_success(follower);
        Ok(())
    }
}

/// Reports that were made and are not in the ledger yet.
#[derive(Default)]
struct Prepared {
    /// Each with whether something of it could not be read.
    periods: Vec<(Range<i64>, bool)>,
    edits: Vec<Edit<Report>>,
}

async fn rest(pause: Duration, over: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = over.cancelled() => {}
    }
}
