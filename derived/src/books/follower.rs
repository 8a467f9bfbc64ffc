//! What the books know of their place in the feed: which times are due by what it told, and of which something could not be read.

use crate::energy::{QUARTERS, RAW};
use crate::follow::Followed;
use crate::pending::{LOST_EVERY, Pending};
use crate::price::{PRICES, touched_by};
use crate::reports::{Known, Length};
use crate::sessions::days_of;
use crate::tariffs::times_of;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::query::Zone;
use wattlog_engine::{Cause, ChangeEvent};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::Tariff;

/// Raised when the same points and tariffs give other records: all are then made again.
const VERSION: u32 = 1;

/// A tariff as it was seen: number, version, and when it holds.
type Seen = (i64, i64, i64, i64);

/// What is written with the place in the feed. Ranges are start and end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written {
    /// [`VERSION`] of the records.
    #[serde(default)]
    version: u32,
    sessions: Vec<(i64, i64)>,
    /// By [`Length`].
    reports: [Vec<(i64, i64)>; 3],
    tariffs: BTreeSet<Seen>,
    /// [`crate::reports::Batteries::fingerprint`].
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
pub(super) struct Follower {
    /// Shared with the thread that waits for the store.
    pub(super) feed: Arc<Mutex<Followed>>,
    pub(super) sessions: Pending,
    pub(super) reports: [Pending; 3],
    /// Of these something could not be read; and when all of them were tried last.
    pub(super) lost: Lost,
    tried: Duration,
    tariffs: BTreeSet<Seen>,
    batteries: String,
    /// Whether the ledger was looked at: one that was begun anew has nothing of what was written.
    pub(super) is_checked: bool,
}

/// Times of which not all could be read.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) sessions: Pending,
    pub(super) reports: [Pending; 3],
}

impl Follower {
    /// Goes on from what was written last, at `now`; from nothing, everything is due.
    pub(super) fn new(feed: Followed, written: Option<Written>, zone: &str, now: Duration) -> Self {
        let feed = Arc::new(Mutex::new(feed));
        // By other midnights every report is another.
        let is_ours = |written: &Written| written.zone == zone && written.version == VERSION;
        let Some(written) = written.filter(is_ours) else {
            return Self {
                feed,
                sessions: everything(),
                reports: [(); 3].map(|()| everything()),
                lost: Lost::default(),
                tried: now,
                tariffs: BTreeSet::new(),
                batteries: String::new(),
                is_checked: true,
            };
        };
        let of = |ranges: Vec<(i64, i64)>| Pending::new(ranges.into_iter().map(|(start, end)| start..end));
        let lost = written.lost.map_or_else(
            || Lost { sessions: Pending::default(), reports: [(); 3].map(|()| everything()) },
            |lost| Lost { sessions: of(lost.sessions), reports: lost.reports.map(of) },
        );
        let mut follower = Self {
            feed,
            sessions: of(written.sessions),
            reports: written.reports.map(of),
            lost,
            tried: now,
            tariffs: written.tariffs,
            batteries: written.batteries,
            is_checked: false,
        };
        follower.try_lost(now);
        follower
    }

    /// What a follower goes on from.
    pub(super) fn written(&self, zone: &str) -> Written {
        let ranges = |pending: &Pending| pending.ranges().iter().map(|r| (r.start, r.end)).collect();
        let lost = WrittenLost {
            sessions: ranges(&self.lost.sessions),
            reports: self.lost.reports.each_ref().map(ranges),
        };
        Written {
            version: VERSION,
            sessions: ranges(&self.sessions),
            reports: self.reports.each_ref().map(ranges),
            tariffs: self.tariffs.clone(),
            batteries: self.batteries.clone(),
            zone: zone.to_owned(),
            lost: Some(lost),
        }
    }

    pub(super) fn take(&mut self, event: &ChangeEvent, home: &Zone) {
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
    pub(super) fn clip_reports(&mut self, length: Length, bounds: &Range<i64>, now: i64) {
        let due = &mut self.reports[length as usize];
        let mut left_out = due.clone();
        left_out.clip(&(i64::MIN..now));
        due.clip(bounds);
        due.ranges().iter().for_each(|kept| left_out.done(kept));
        self.lost.reports[length as usize].add_all(left_out);
    }

    pub(super) fn try_lost_in_time(&mut self, now: Duration) {
        if now.saturating_sub(self.tried) >= LOST_EVERY {
            self.try_lost(now);
        }
    }

    pub(super) fn begin_anew(&mut self) {
        self.lost = Lost::default();
        (self.sessions, self.reports) = (everything(), [(); 3].map(|()| everything()));
    }

    fn make_due(&mut self, times: &Range<i64>) {
        self.reports.iter_mut().for_each(|reports| reports.add(times.clone()));
    }

    /// Times of tariffs that came, went or changed are due again; with another battery, all reports.
    pub(super) fn look_at(&mut self, known: &Known, home: &Zone) {
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

fn everything() -> Pending {
    Pending::new(std::iter::once(i64::MIN..i64::MAX))
}
