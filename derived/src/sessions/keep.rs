//! Bringing the ledger's sessions of a stretch of time in step with the points.

use super::detect::{Found, Window, detect, start_of};
use super::record::{Change, changes, is_of, kind_of, known_of, record_of};
use super::samples::{SamplesError, Source};
use super::{KINDS, reach_ns};
use crate::books::{ACTOR, BookError, Hands};
use crate::energy::{DEVICE, RAW};
use crate::follow::cutoff;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use wattlog_analytics::session::{self, Kind, Params};
use wattlog_engine::query::{GroupBy, QueryError, QueryRequest, Shape};
use wattlog_ledger::schema::{Report, ReportOrigin, Session, SessionOrigin, SessionStatus, Tariff};
use wattlog_ledger::{Actor, Expected, LedgerError, Listing, Order, Stored, Value};
use wattlog_model::Timestamp;

/// Sessions that are asked for at a time.
const PAGE: usize = 500;
/// Longest name of a device whose sessions can be named in the ledger, in bytes.
const MOST_NAME_BYTES: usize = 200;

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
    /// What is wrong with prices and points, for people.
    pub(crate) notes: Vec<String>,
}

fn of_kind(device: &str, kind: Kind) -> Listing {
    let device = Value::Text((!device.is_empty()).then(|| device.to_owned()));
    detected().with("device_id", device).with_text("kind", kind_of(kind).as_str())
}

fn detected() -> Listing {
    Listing::all().with_text("origin", SessionOrigin::Detected.as_str())
}

/// From the first to the last instant of which something is known.
#[derive(Debug)]
pub(crate) struct Bounds(pub(crate) Option<Range<i64>>);

impl Bounds {
    /// Of points that age does not hide, and of sessions whose beginning it leaves as it is.
    pub(crate) async fn of(hands: &Hands, params: &Params) -> Result<Self, BookError> {
        let known = hands.engine.measurement(&hands.database, RAW)?;
        let mut times = known.and_then(|known| known.first.zip(known.last)).map(|(a, b)| a.0..b.0);
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let listing = Listing { order, limit: 1, ..detected() };
            for found in hands.ledger.list::<Session>(&listing).await?.records {
                let start = found.record.start.0;
                times = Some(times.map_or(start..start, |t| t.start.min(start)..t.end.max(start)));
            }
        }
        let whole = whole_from(hands, params);
        Ok(Self(times.map(|times| times.start.max(whole)..times.end.saturating_add(1))))
    }
}

/// The first instant before which, as far as points reach, nothing is hidden by age.
fn whole_from(hands: &Hands, params: &Params) -> i64 {
    let hidden = cutoff(&hands.engine, &hands.database, RAW);
    hidden.map_or(i64::MIN, |cutoff| cutoff.saturating_add(reach_ns(params)))
}

/// Whether the ledger holds any session or report that was made here.
pub(crate) async fn has_any(hands: &Hands) -> Result<bool, BookError> {
    let sessions = Listing { limit: 1, ..detected() };
    let reports = Listing { limit: 1, ..Listing::all() };
    let reports = reports.with_text("origin", ReportOrigin::Computed.as_str());
    Ok(!hands.ledger.list::<Session>(&sessions).await?.records.is_empty()
        || !hands.ledger.list::<Report>(&reports).await?.records.is_empty())
}

/// Sessions that go on in the ledger although their device has been silent for too long.
pub(crate) async fn silent(hands: &Hands, params: &Params, now: i64) -> Result<Vec<Range<i64>>, BookError> {
    let listing = Listing { limit: PAGE, ..detected().with_text("status", SessionStatus::Active.as_str()) };
    let page = hands.ledger.list::<Session>(&listing).await?;
    let known = page.records.iter().map(|stored| known_of(&stored.record));
    let silence = params.max_gap_ns.max(params.merge_pause_ns);
    let over = known.filter(|session| now.saturating_sub(session.end.0) > silence);
    Ok(over.map(|session| session.end.0..session.end.0.saturating_add(1)).collect())
}

impl Part<'_> {
    /// Detects both kinds of every device again, and writes what differs.
    ///
    /// # Errors
    /// The store's and the ledger's, as far as they may pass; what was written stays, and the part may be done again.
    pub(crate) async fn keep(&self, hands: &Hands) -> Result<Done, BookError> {
        let late = &self.late;
        let mut done = Done { times: late.clone(), written: 0, notes: Vec::new() };
        for device in self.devices(hands).await? {
            if device.len() > MOST_NAME_BYTES || device.chars().any(char::is_control) {
                let name: String = device.chars().filter(|c| !c.is_control()).take(40).collect();
                done.notes.push(format!(
                    "device {name:?}...: its sessions have no name in the ledger: give it at most {MOST_NAME_BYTES} bytes without control characters"
                ));
                continue;
            }
            for kind in KINDS {
                if hands.control.cancel.is_cancelled() {
                    return Err(QueryError::Cancelled.into());
                }
                self.keep_kind(hands, &device, kind, &mut done).await?;
            }
        }
        Ok(done)
    }

    /// Devices that have points, or sessions that begin in the part.
    async fn devices(&self, hands: &Hands) -> Result<BTreeSet<String>, BookError> {
        let request = QueryRequest {
            fields: Some(vec!["battery_power".to_owned()]),
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
        let mut listing = Listing { limit: PAGE, ..detected().within(times) };
        loop {
            let page = hands.ledger.list::<Session>(&listing).await?;
            devices.extend(page.records.into_iter().map(|s| s.record.device_id.unwrap_or_default()));
            let Some(next) = page.next else { return Ok(devices) };
            listing.after = Some(next);
        }
    }

    async fn keep_kind(
        &self,
        hands: &Hands,
        device: &str,
        kind: Kind,
        done: &mut Done,
    ) -> Result<(), BookError> {
        let (late, params) = (&self.late, self.params);
        let (found, old, times) = match self.find(hands, device, kind).await? {
            Ok((found, old, times, notes)) => {
                done.notes.extend(notes);
                (found, old, times)
            }
            Err(error) => {
                let (from, to) = (late.start, late.end);
                tracing::warn!(%error, device, %kind, from, to, "sessions stay as they were");
                done.notes.push(format!("{kind} sessions of {device:?} stay as they were: {error}"));
                return Ok(());
            }
        };
        done.times.start = done.times.start.min(times.start);
        done.times.end = done.times.end.max(late.end.saturating_add(params.max_gap_ns));
        let whole = whole_from(hands, &params);
        let is_whole = |start: Timestamp| start.0 >= whole;
        // Of a session that reaches into what age hides the beginning is not known any more: the record is.
        let held: Vec<session::Session> =
            old.iter().filter(|s| !is_whole(s.record.start)).map(|s| known_of(&s.record)).collect();
        let meets = |found: &session::Session| {
            held.iter().any(|held| held.start <= found.end && found.start <= held.end)
        };
        let found = found.iter().filter(|found| is_whole(found.start) && !meets(found)).map(record_of);
        let old = old.into_iter().filter(|stored| {
            is_whole(stored.record.start) && times.contains(&stored.record.start.0) && is_of(&stored.record)
        });
        let fresh_from = self.now.saturating_sub(hands.active_every_ns);
        let is_fresh = |stored: &Stored<Session>| stored.updated.at.0 > fresh_from;
        for change in changes(old.collect(), found.collect(), is_fresh) {
            done.written += u64::from(apply(hands, change).await?);
        }
        Ok(())
    }

    /// What detection finds, what is stored there, and in which times the one takes the place of the other; or why it finds nothing.
    async fn find(
        &self,
        hands: &Hands,
        device: &str,
        kind: Kind,
    ) -> Result<Result<FoundAll, SamplesError>, BookError> {
        let back = self.late.start.saturating_sub(reach_ns(&self.params)).saturating_add(1);
        let before = Timestamp(i64::MIN)..Timestamp(back);
        let last = Listing { order: Order::NewestFirst, limit: 1, ..of_kind(device, kind).within(before) };
        let mut edge = hands.ledger.list::<Session>(&last).await?.records;
        let active = of_kind(device, kind).with_text("status", SessionStatus::Active.as_str());
        edge.extend(hands.ledger.list::<Session>(&active).await?.records);
        let edge: Vec<session::Session> = edge.iter().map(|stored| known_of(&stored.record)).collect();
        let start = start_of(&edge, &self.late, &self.params);
        let mut listing =
            Listing { limit: PAGE, ..of_kind(device, kind).within(Timestamp(start)..Timestamp(i64::MAX)) };
        let mut old: Vec<Stored<Session>> = Vec::new();
        loop {
            let page = hands.ledger.list::<Session>(&listing).await?;
            old.extend(page.records);
            listing.after = page.next;
            let upto = match (page.next, old.last()) {
                (Some(_), Some(last)) => last.record.start.0,
                _ => i64::MAX,
            };
            let mut known = edge.clone();
            known.extend(old.iter().map(|stored| known_of(&stored.record)));
            let found = self.detected(hands, (device, kind), known, upto).await?;
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
        (device, kind): (&str, Kind),
        old: Vec<session::Session>,
        upto: i64,
    ) -> Result<Result<Found, SamplesError>, BookError> {
        let (device, late, tariffs) = (device.to_owned(), self.late.clone(), self.tariffs.clone());
        let (database, zone) = (hands.database.clone(), hands.zone.clone());
        let (params, now) = (self.params, self.now);
        hands
            .ask(move |engine, control| {
                let source = Source {
                    engine,
                    database: &database,
                    tariffs: &tariffs,
                    zone: &zone,
                    max_gap_ns: params.max_gap_ns,
                    control,
                };
                let (device, late, old) = (&device, &late, &old);
                detect(&source, &Window { device, kind, params, late, old, upto, now })
            })
            .await
    }
}

type FoundAll = (Vec<session::Session>, Vec<Stored<Session>>, Range<i64>, Vec<String>);

/// True if something was changed. Another's record that has the name stays, and so does what the ledger refuses.
async fn apply(hands: &Hands, change: Change) -> Result<bool, BookError> {
    let (ledger, actor) = (&hands.ledger, Actor::new(ACTOR));
    let done = match change {
        Change::Make(session) => ledger.insert(*session, &actor).await.map(drop),
        Change::Write(id, version, session) => {
            ledger.update(id, Expected::Version(version), *session, &actor).await.map(drop)
        }
        Change::Take(id, version) => {
            ledger.remove::<Session>(id, Expected::Version(version), &actor).await.map(drop)
        }
    };
    match done {
        Ok(()) => Ok(true),
        // Somebody was faster: what is there now is looked at again.
        Err(error @ (LedgerError::Conflict { .. } | LedgerError::Missing { .. })) => Err(error.into()),
        Err(
            error @ (LedgerError::Exists { .. } | LedgerError::Invalid { .. } | LedgerError::Refused { .. }),
        ) => {
            tracing::warn!(%error, "a session that was found is not kept");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
