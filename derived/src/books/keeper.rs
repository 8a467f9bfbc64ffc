//! The task that keeps the books.

use super::{BookError, BookOptions, BookStatus, Hands, MOST_EDITS, Named};
use crate::energy::{EnergyKeeper, QUARTERS, RAW};
use crate::follow::{Followed, Owner};
use crate::pending::{LOST_EVERY, Pending};
use crate::price::{PRICES, touched_by};
use crate::reports::{Batteries, Known, Length, due};
use crate::sessions::{Part, bounds, days_of, has_any, next_from, params, silent};
use crate::tariffs::{stored_tariffs, times_of};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_analytics::session::Params;
use wattlog_engine::query::{CancelFlag, QueryControl, Zone};
use wattlog_engine::{Cause, ChangeEvent, ChangeRequest, Engine};
use wattlog_ledger::schema::{Report, Tariff};
use wattlog_ledger::{Edit, Ledger, Stored};
use wattlog_model::Clock;

/// Raised when the same points and tariffs give other records: all are then made again.
const VERSION: u32 = 1;
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

/// A tariff as it was seen: number, version, and when it holds.
type Seen = (i64, i64, i64, i64);

/// What is written with the place in the feed. Ranges are start and end.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// [`VERSION`] of the records.
    #[serde(default)]
    version: u32,
    sessions: Vec<(i64, i64)>,
    /// By [`Length`].
    reports: [Vec<(i64, i64)>; 3],
    tariffs: BTreeSet<Seen>,
    /// [`Batteries::fingerprint`].
    #[serde(default)]
    batteries: String,
    zone: String,
    /// None of a version that did not know it: then all reports are due.
    lost: Option<WrittenLost>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenLost {
    sessions: Vec<(i64, i64)>,
    reports: [Vec<(i64, i64)>; 3],
}

/// A place in the feed, and what is due by what it told.
struct Follower {
    /// Shared with the thread that waits for the store.
    feed: Arc<Mutex<Followed>>,
    sessions: Pending,
    reports: [Pending; 3],
    /// Of these something could not be read; and when all of them were tried last.
    lost: Lost,
    tried: Duration,
    tariffs: BTreeSet<Seen>,
    batteries: String,
    /// Whether the ledger was looked at: one that was begun anew has nothing of what was written.
    is_checked: bool,
}

/// Times of which not all could be read.
#[derive(Default)]
struct Lost {
    sessions: Pending,
    reports: [Pending; 3],
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
        let feed = Arc::new(Mutex::new(feed));
        let (lost, tried) = (Lost::default(), self.clock.monotonic());
        let of = |ranges: &[(i64, i64)]| Pending::new(ranges.iter().map(|(start, end)| *start..*end));
        Ok(match written {
            // By other midnights every report is another.
            Some(written) if written.zone == hands.zone.name() && written.version == VERSION => {
                let reports = written.reports.each_ref().map(|ranges| of(ranges));
                let (sessions, tariffs, batteries) =
                    (of(&written.sessions), written.tariffs, written.batteries);
                let mut follower =
                    Follower { feed, sessions, reports, lost, tried, tariffs, batteries, is_checked: false };
                match written.lost {
                    Some(lost) => {
                        follower.lost.sessions = of(&lost.sessions);
                        follower.lost.reports = lost.reports.each_ref().map(|ranges| of(ranges));
                    }
                    None => follower.lost.reports = [(); 3].map(|()| everything()),
                }
                follower.try_lost(tried);
                follower
            }
            _ => {
                let (sessions, reports) = (everything(), [(); 3].map(|()| everything()));
                let (tariffs, batteries) = (BTreeSet::new(), String::new());
                Follower { feed, sessions, reports, lost, tried, tariffs, batteries, is_checked: true }
            }
        })
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
        let ranges = |pending: &Pending| pending.ranges().iter().map(|r| (r.start, r.end)).collect();
        let lost = WrittenLost {
            sessions: ranges(&follower.lost.sessions),
            reports: follower.lost.reports.each_ref().map(ranges),
        };
        let state = Written {
            version: VERSION,
            sessions: ranges(&follower.sessions),
            reports: follower.reports.each_ref().map(ranges),
            tariffs: follower.tariffs.clone(),
            batteries: follower.batteries.clone(),
            zone: self.hands.zone.name().to_owned(),
            lost: Some(lost),
        };
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

fn everything() -> Pending {
    Pending::new(std::iter::once(i64::MIN..i64::MAX))
}

async fn rest(pause: Duration, over: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = over.cancelled() => {}
    }
}

impl Follower {
    fn take(&mut self, event: &ChangeEvent, home: &Zone) {
        let (ChangeEvent::Appended { of, times, .. }
        | ChangeEvent::Dirty { of, times, .. }
        | ChangeEvent::Revised { of, bucket: times, .. }) = event
        else {
            return;
        };
        if let ChangeEvent::Dirty { cause: Cause::Meaning | Cause::Retention | Cause::Damage, .. } = event {
            // Values are as they were; or they are hidden by age, or lost, and the records outlive them.
            return;
        }
        let (sessions, reports) = match of.measurement.as_deref() {
            None | Some(PRICES) => {
                let longer = touched_by(times);
                // What a session saved depends on all prices of its day.
                (Some(days_of(&longer, home)), Some(longer))
            }
            Some(RAW) => (Some(times.clone()), None),
            Some(QUARTERS) => (None, Some(times.clone())),
            Some(_) => (None, None),
        };
        if let Some(times) = sessions {
            self.sessions.add(times);
        }
        if let Some(times) = reports {
            self.make_due(&times);
        }
    }

    /// All that could not be read is due once more; what still cannot be read comes back to the list.
    fn try_lost(&mut self, now: Duration) {
        let Lost { sessions, reports } = std::mem::take(&mut self.lost);
        self.sessions.add_all(sessions);
        self.reports.iter_mut().zip(reports).for_each(|(due, lost)| due.add_all(lost));
        self.tried = now;
    }

    /// Leaves out what no report can be about. What is known of a file that is set aside is not known: up to `now` it is tried again.
    fn clip_reports(&mut self, length: Length, bounds: &Range<i64>, now: i64) {
        let due = &mut self.reports[length as usize];
        let mut left_out = due.clone();
        left_out.clip(&(i64::MIN..now));
        due.clip(bounds);
        due.ranges().iter().for_each(|kept| left_out.done(kept));
        self.lost.reports[length as usize].add_all(left_out);
    }

    fn try_lost_in_time(&mut self, now: Duration) {
        if now.saturating_sub(self.tried) >= LOST_EVERY {
            self.try_lost(now);
        }
    }

    fn begin_anew(&mut self) {
        self.lost = Lost::default();
        (self.sessions, self.reports) = (everything(), [(); 3].map(|()| everything()));
    }

    fn make_due(&mut self, times: &Range<i64>) {
        self.reports.iter_mut().for_each(|reports| reports.add(times.clone()));
    }

    /// Times of tariffs that came, went or changed are due again; with another battery, all reports.
    fn look_at(&mut self, known: &Known, home: &Zone) {
        let batteries = known.batteries.fingerprint();
        if self.batteries != batteries {
            self.batteries = batteries;
            self.make_due(&(i64::MIN..i64::MAX));
        }
        let seen = |tariff: &Stored<Tariff>| {
            let times = times_of(&tariff.record);
            (tariff.id, tariff.version, times.start, times.end)
        };
        let seen: BTreeSet<Seen> = known.tariffs.iter().map(seen).collect();
        let changed: Vec<Range<i64>> =
            self.tariffs.symmetric_difference(&seen).map(|(_, _, start, end)| *start..*end).collect();
        for times in changed {
            self.sessions.add(days_of(&times, home));
            self.make_due(&times);
        }
        self.tariffs = seen;
    }
}
