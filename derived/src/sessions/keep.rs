//! Bringing the ledger's sessions of a stretch of time in step with the points.

use super::detect::{Found, Window, detect, start_of};
use super::record::{changes, is_of, keep_money, kind_of, known_of, record_of};
use super::samples::{Kept, SamplesError, Source};
use super::saving::Reckoned;
use super::{KINDS, reach_ns};
use crate::books::{BookError, Hands, Named, unnameable};
use crate::energy::{DEVICE, RAW, times};
use crate::follow::cutoff;
use crate::price::PRICES;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use wattlog_analytics::session::{self, Kind, Params};
use wattlog_engine::query::{GroupBy, QueryError, QueryRequest, Shape};
use wattlog_ledger::schema::{Report, ReportOrigin, Session, SessionOrigin, SessionStatus, Tariff};
use wattlog_ledger::{Edit, Expected, Listing, Order, Stored, Value};
use wattlog_model::Timestamp;

/// Sessions that are asked for at a time.
const PAGE: usize = 500;
/// The same of one kind of a device: few are wanted behind a part.
const NEAR: usize = 50;

/// Prices of so long a time before it count for a session: a long day of the home, and what tells how long a price holds.
const PRICED_NS: i64 = 28 * 3_600_000_000_000;

/// Without it there is no session.
const BATTERY: &str = "battery_power";

/// A stretch of time in which something changed.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) late: Range<i64>,
    pub(crate) tariffs: &'a Arc<Vec<Stored<Tariff>>>,
    pub(crate) params: Params,
    pub(crate) now: i64,
}

/// What was done of a part.
#[derive(Debug)]
pub(crate) struct Done {
    /// Times in which sessions may have changed.
    pub(crate) times: Range<i64>,
    /// Records that were made, written or removed.
    pub(crate) written: u64,
    /// Points or prices of it cannot be read: its sessions, or what they saved, are as they were.
    pub(crate) is_lost: bool,
    /// What is wrong with prices and points, for people.
    pub(crate) notes: Vec<String>,
}

/// Of which sessions there is talk, and what is known for them.
#[derive(Debug, Clone, Copy)]
struct Whose<'a> {
    device: &'a str,
    kind: Kind,
    /// All that go on, of whatever device and kind.
    active: &'a [Stored<Session>],
    /// Readings of the device.
    kept: &'a Arc<Mutex<Kept>>,
}

fn of_kind(device: &str, kind: Kind) -> Listing {
    let device = Value::Text((!device.is_empty()).then(|| device.to_owned()));
    detected().with("device_id", device).with_text("kind", kind_of(kind).as_str())
}

fn detected() -> Listing {
    Listing::all().with_text("origin", SessionOrigin::Detected.as_str())
}

/// The first instant at or after `from` at which there may be a reading of a battery, or a session begins.
///
/// What lies between the end of a part and that instant needs no look: a session that reaches into it is looked at with the part.
///
/// # Errors
/// The store's and the ledger's.
pub(crate) async fn next_from(hands: &Hands, from: i64) -> Result<Option<i64>, BookError> {
    let request = QueryRequest {
        fields: Some(vec![BATTERY.to_owned()]),
        group_by: GroupBy::All,
        limit: Some(1),
        ..QueryRequest::raw(&hands.database, RAW, Timestamp(from), Timestamp(i64::MAX))
    };
    let result = hands.ask(move |engine, control| engine.query(&request, control)).await??;
    if !result.partial.is_empty() {
        return Ok(Some(from));
    }
    let reading = result.series.first().and_then(|series| times(series).next());
    let listing = Listing { limit: 1, ..detected().within(Timestamp(from)..Timestamp(i64::MAX)) };
    let begun = hands.ledger.list::<Session>(&listing).await?.records;
    Ok(reading.into_iter().chain(begun.iter().map(|stored| stored.record.start.0)).min())
}

/// Times of which sessions can be found: nothing that belongs to them is hidden by age.
pub(crate) fn bounds(hands: &Hands, params: &Params) -> Range<i64> {
    whole_from(hands, params)..i64::MAX
}

/// The first instant before which, as far as points reach, nothing is hidden by age.
fn whole_from(hands: &Hands, params: &Params) -> i64 {
    let hidden = cutoff(&hands.engine, &hands.database, RAW);
    hidden.map_or(i64::MIN, |cutoff| cutoff.saturating_add(reach_ns(params)))
}

/// The first instant from which on no price that counts for a session is hidden by age.
fn priced_from(hands: &Hands) -> i64 {
    let hidden = cutoff(&hands.engine, &hands.database, PRICES);
    hidden.map_or(i64::MIN, |cutoff| cutoff.saturating_add(PRICED_NS))
}

/// Whether the two share an instant.
fn meet(one: &session::Session, other: &session::Session) -> bool {
    one.start <= other.end && other.start <= one.end
}

/// Whether the ledger holds any session or report that was made here.
pub(crate) async fn has_any(hands: &Hands) -> Result<bool, BookError> {
    let sessions = Listing { limit: 1, ..detected() };
    let reports = Listing { limit: 1, ..Listing::all() };
    let reports = reports.with_text("origin", ReportOrigin::Computed.as_str());
    Ok(!hands.ledger.list::<Session>(&sessions).await?.records.is_empty()
        || !hands.ledger.list::<Report>(&reports).await?.records.is_empty())
}

/// Sessions that go on in the ledger although their device has been silent for too long. Those that cannot be found again, since
/// age hides where they begin, are closed at their last reading.
pub(crate) async fn silent(hands: &Hands, params: &Params, now: i64) -> Result<Vec<Range<i64>>, BookError> {
    let listing = Listing { limit: PAGE, ..detected().with_text("status", SessionStatus::Active.as_str()) };
    let page = hands.ledger.list::<Session>(&listing).await?;
    let silence = params.max_gap_ns.max(params.merge_pause_ns);
    let whole = whole_from(hands, params);
    let mut over = Vec::new();
    for Stored { id, version, record, .. } in page.records {
        let last = known_of(&record).end;
        if now.saturating_sub(last.0) <= silence {
            continue;
        }
        if record.start.0 < whole {
            let closed = Session { status: SessionStatus::Completed, end: Some(last), ..record };
            let edit = Edit::Update(id, Expected::Version(version), closed);
            hands.apply(&[edit], Named::Stays).await?;
        } else {
            over.push(last.0..last.0.saturating_add(1));
        }
    }
    Ok(over)
}

impl Part<'_> {
    /// Detects both kinds of every device again, and writes what differs.
    ///
    /// # Errors
    /// The store's and the ledger's, as far as they may pass; what was written stays, and the part may be done again.
    pub(crate) async fn keep(&self, hands: &Hands) -> Result<Done, BookError> {
        let late = &self.late;
        let mut done = Done { times: late.clone(), written: 0, is_lost: false, notes: Vec::new() };
        let active = Listing { limit: PAGE, ..detected() };
        let active = active.with_text("status", SessionStatus::Active.as_str());
        let active: Vec<Stored<Session>> = hands.list_all(active).await?;
        for device in self.devices(hands).await? {
            if let Some(note) = unnameable(&device, "sessions") {
                done.notes.push(note);
                continue;
            }
            let kept = Arc::default();
            for kind in KINDS {
                if hands.control.cancel.is_cancelled() {
                    return Err(QueryError::Cancelled.into());
                }
                self.keep_kind(
                    hands,
                    Whose { device: &device, kind, active: &active, kept: &kept },
                    &mut done,
                )
                .await?;
            }
        }
        Ok(done)
    }

    /// Devices that have points, or sessions that begin in the part.
    async fn devices(&self, hands: &Hands) -> Result<BTreeSet<String>, BookError> {
        let request = QueryRequest {
            fields: Some(vec![BATTERY.to_owned()]),
            group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
            shape: Shape::Last,
            ..QueryRequest::raw(&hands.database, RAW, Timestamp(i64::MIN), Timestamp(i64::MAX))
        };
        let result = hands.ask(move |engine, control| engine.query(&request, control)).await??;
        let name = |series: &wattlog_engine::query::ResultSeries| {
            series.tags.first().map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let mut devices: BTreeSet<String> = result.series.iter().map(name).collect();
        let times = Timestamp(self.late.start)..Timestamp(self.late.end);
        let listing = Listing { limit: PAGE, ..detected().within(times) };
        let begun = hands.list_all::<Session>(listing).await?;
        devices.extend(begun.into_iter().map(|stored| stored.record.device_id.unwrap_or_default()));
        Ok(devices)
    }

    async fn keep_kind(&self, hands: &Hands, whose: Whose<'_>, done: &mut Done) -> Result<(), BookError> {
        let (late, params) = (&self.late, self.params);
        let (found, old, times) = match self.find(hands, whose).await? {
            Ok((found, old, times, notes)) => {
                done.notes.extend(notes);
                (found, old, times)
            }
            Err(error) => {
                let (from, to, Whose { device, kind, .. }) = (late.start, late.end, whose);
                tracing::warn!(%error, device, %kind, from, to, "sessions stay as they were");
                done.is_lost |= matches!(error, SamplesError::Damaged(_));
                done.notes.push(format!("{kind} sessions of {device:?} stay as they were: {error}"));
                return Ok(());
            }
        };
        done.times.start = done.times.start.min(times.start);
        done.times.end = done.times.end.max(late.end.saturating_add(params.max_gap_ns));
        let (whole, priced) = (whole_from(hands, &params), priced_from(hands));
        let is_whole = |start: Timestamp| start.0 >= whole;
        let found: Vec<(session::Session, Session)> =
            found.into_iter().map(|(found, saved)| recorded(found, saved, (&old, priced), done)).collect();
        // Of a session that reaches into what age hides the beginning is not known any more: the record is.
        let (old, held): (Vec<_>, Vec<_>) = old.into_iter().partition(|stored| is_whole(stored.record.start));
        let held: Vec<session::Session> = held.iter().map(|stored| known_of(&stored.record)).collect();
        let is_new =
            |found: &session::Session| is_whole(found.start) && !held.iter().any(|held| meet(held, found));
        let found = found.iter().filter(|(found, _)| is_new(found)).map(|(_, record)| record.clone());
        let old =
            old.into_iter().filter(|stored| times.contains(&stored.record.start.0) && is_of(&stored.record));
        let fresh_from = self.now.saturating_sub(hands.active_every_ns);
        let is_fresh = |stored: &Stored<Session>| stored.updated.at.0 > fresh_from;
        done.written += hands.apply(&changes(old.collect(), found.collect(), is_fresh), Named::Stays).await?;
        Ok(())
    }

    /// What detection finds, what is stored there, and in which times the one takes the place of the other; or why it finds nothing.
    async fn find(
        &self,
        hands: &Hands,
        whose: Whose<'_>,
    ) -> Result<Result<FoundAll, SamplesError>, BookError> {
        let Whose { device, kind, active, .. } = whose;
        let back = self.late.start.saturating_sub(reach_ns(&self.params)).saturating_add(1);
        let before = Timestamp(i64::MIN)..Timestamp(back);
        let last = Listing { order: Order::NewestFirst, limit: 1, ..of_kind(device, kind).within(before) };
        let last = hands.ledger.list::<Session>(&last).await?.records;
        let is_mine = |session: &&Stored<Session>| {
            let of = session.record.device_id.as_deref().unwrap_or_default();
            of == device && session.record.kind == kind_of(kind)
        };
        let edge = last.iter().chain(active.iter().filter(is_mine));
        let edge: Vec<session::Session> = edge.map(|stored| known_of(&stored.record)).collect();
        let start = start_of(&edge, &self.late, &self.params);
        let mut listing =
            Listing { limit: NEAR, ..of_kind(device, kind).within(Timestamp(start)..Timestamp(i64::MAX)) };
        let mut old: Vec<Stored<Session>> = Vec::new();
        loop {
            let page = hands.ledger.list::<Session>(&listing).await?;
            old.extend(page.records);
            listing.after = page.next;
            let upto = match (page.next, old.last()) {
                (Some(_), Some(last)) => last.record.start.0,
                _ => i64::MAX,
            };
            if upto < self.late.end {
                continue;
            }
            let mut known = edge.clone();
            known.extend(old.iter().map(|stored| known_of(&stored.record)));
            let found = self.detected(hands, whose, known, upto).await?;
            match found {
                Ok(Found::Further) => {}
                Ok(Found::Whole { times, sessions, notes }) => return Ok(Ok((sessions, old, times, notes))),
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn detected(
        &self,
        hands: &Hands,
        whose: Whose<'_>,
        old: Vec<session::Session>,
        upto: i64,
    ) -> Result<Result<Found, SamplesError>, BookError> {
        let (device, kind, kept) = (whose.device.to_owned(), whose.kind, whose.kept.clone());
        let (late, tariffs) = (self.late.clone(), self.tariffs.clone());
        let (database, zone) = (hands.database.clone(), hands.zone.clone());
        let (params, now) = (self.params, self.now);
        hands
            .ask(move |engine, control| {
                let source =
                    Source { engine, database: &database, tariffs: &tariffs, zone: &zone, params, control };
                let (device, late, old) = (&device, &late, &old);
                detect(&source, &Window { device, kind, late, old, upto, now }, &mut kept.lock())
            })
            .await
    }
}

/// A session with its record. What it saved and cannot be reckoned again stays as it was, and is lost for now; of what began before
/// `priced` age may hide prices that the record was made with: the money that it has stays too.
fn recorded(
    found: session::Session,
    saved: Reckoned,
    (old, priced): (&[Stored<Session>], i64),
    done: &mut Done,
) -> (session::Session, Session) {
    let mut record = record_of(&found);
    let same = old.iter().map(|stored| &stored.record).find(|old| old.session_id == record.session_id);
    record.savings = match saved {
        Reckoned::Known(savings) => savings,
        Reckoned::Lost => {
            done.is_lost = true;
            same.and_then(|old| old.savings)
        }
    };
    if let Some(old) = same.filter(|old| old.start.0 < priced) {
        keep_money(&mut record, old);
    }
    (found, record)
}

type FoundAll = (Vec<(session::Session, Reckoned)>, Vec<Stored<Session>>, Range<i64>, Vec<String>);
