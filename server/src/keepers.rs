//! How what is kept in step with the points stands: energies by quarter, sessions and reports.

use crate::exposition::Group;
use crate::state::ServerState;
use std::ops::Range;
use wattlog_derived::books::BookStatus;
use wattlog_derived::energy::{EnergyStatus, QUARTER_NS, RAW};
use wattlog_engine::query::{Aggregate, Buckets, Every};

impl ServerState {
    /// What `/metrics` says of the keepers that were joined.
    pub(crate) fn keeper_groups(&self) -> Vec<Group> {
        let points = self.book_times().map(|(points, _)| points);
        let energy = self.energy().ok().map(|keeper| energy_groups(&keeper.status(), points));
        let books = self.books().map(|books| self.book_groups(&books.status()));
        energy.into_iter().chain(books).flatten().collect()
    }

    fn book_groups(&self, status: &BookStatus) -> Vec<Group> {
        let of = |name: &str| vec![("of", name.to_owned())];
        let is = |yes: bool| f64::from(u8::from(yes));
        let mut groups = vec![
            Group::gauge("books_running", "1 while sessions and reports are kept", is(status.is_running)),
            Group::gauge(
                "books_failing",
                "1 if the last attempt failed: the log says why",
                is(status.error.is_some()),
            ),
            Group::counter("books_failures", "Attempts that failed", status.failures),
            Group::counter(
                "books_rounds",
                "Looks after which nothing was left that could be done",
                status.rounds,
            ),
            Group::counters(
                "books_records",
                "Records made, written or removed",
                vec![(of("sessions"), status.sessions_written), (of("reports"), status.reports_written)],
            ),
            Group::gauge(
                "books_notes",
                "Things that are wrong with tariffs, prices and points: the log says which",
                status.notes.len() as f64,
            ),
        ];
        groups.extend(status.last_success.map(|at| {
            let help = "When a step was done last, or nothing was to do; not there before the first";
            Group::gauge("books_last_success_timestamp_seconds", help, at.0 as f64 / 1e9)
        }));
        if let Some((points, days)) = self.book_times().filter(|_| status.is_following) {
            let behind = [("sessions", &status.sessions, &points), ("reports", &status.reports, &days)]
                .map(|(name, pending, times)| (of(name), seconds_within(pending, times)));
            let help = "Time of points whose records are yet to be made or looked at again";
            groups.push(Group::gauges("books_behind_seconds", help, behind.to_vec()));
            let known = days.start..days.end.min(points.end);
            let lost =
                [("sessions", &status.lost_sessions, &points), ("reports", &status.lost_reports, &known)]
                    .map(|(name, lost, times)| (of(name), seconds_within(lost, times)));
            let help = "Time of points whose records lack what cannot be read";
            groups.push(Group::gauges("books_lost_seconds", help, lost.to_vec()));
        }
        groups
    }

    /// The times that there may be sessions of, and those of days that are over. None without points.
    fn book_times(&self) -> Option<(Range<i64>, Range<i64>)> {
        let engine = self.shared.store.opened()?;
        let known = engine.measurement(&self.shared.options.default_database, RAW).ok()??;
        let (first, last) = known.first.zip(known.last)?;
        let every = Some(Every::Days(1));
        let shape = Aggregate { every, zone: self.shared.bucket_zone.clone(), ..Aggregate::default() };
        let now = self.shared.clock.wall().0.saturating_sub(QUARTER_NS);
        let today = Buckets::new(&shape, now..now.saturating_add(1))?.of(now);
        Some((first.0..last.0.saturating_add(1), first.0..today.start))
    }
}

/// `points` are the times that there are points of.
fn energy_groups(status: &EnergyStatus, points: Option<Range<i64>>) -> Vec<Group> {
    let is = |yes: bool| f64::from(u8::from(yes));
    let mut groups = vec![
        Group::gauge("energy_running", "1 while energies by quarter are kept", is(status.is_running)),
        Group::gauge(
            "energy_failing",
            "1 if the last attempt failed: the log says why",
            is(status.error.is_some()),
        ),
        Group::counter("energy_failures", "Attempts that failed", status.failures),
        Group::counter("energy_quarters", "Rows of quarters written", status.rows),
    ];
    groups.extend(status.last_success.map(|at| {
        let help = "When a step was done last, or nothing was to do; not there before the first";
        Group::gauge("energy_last_success_timestamp_seconds", help, at.0 as f64 / 1e9)
    }));
    if status.is_following {
        let help = "Time of points whose energies are yet to be computed";
        let behind = seconds_within(&status.pending, &(i64::MIN..i64::MAX));
        groups.push(Group::gauge("energy_behind_seconds", help, behind));
        let help = "Time of points whose energies lack what cannot be read";
        // What lies beyond all points is tried again too, and is no loss.
        let lost = seconds_within(&status.lost, &points.unwrap_or(0..0));
        groups.push(Group::gauge("energy_lost_seconds", help, lost));
    }
    groups
}

/// How much of `times` lies in `ranges`, which are apart.
fn seconds_within(ranges: &[Range<i64>], times: &Range<i64>) -> f64 {
    let length = |range: &Range<i64>| {
        range.end.min(times.end).saturating_sub(range.start.max(times.start)).max(0) as f64 / 1e9
    };
    ranges.iter().map(length).sum()
}
