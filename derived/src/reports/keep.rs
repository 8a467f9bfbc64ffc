//! Bringing the ledger's reports of one period in step with what they are made from.

use super::Length;
use super::reckon::{Figures, Question, Told, quarters_of};
use crate::books::{ACTOR, BookError, Hands, unnameable};
use crate::energy::{EnergyError, EnergyKeeper, QUARTER_NS, QUARTERS, RAW};
use crate::follow::cutoff;
use crate::tariffs::times_of;
use serde_json::{Map, Value as Json, json};
use std::ops::Range;
use std::sync::Arc;
use wattlog_engine::query::Zone;
use wattlog_ledger::schema::{Device, Report, ReportOrigin, Session, SessionOrigin, SessionStatus, Tariff};
use wattlog_ledger::{Actor, Expected, LedgerError, Listing, Order, Stored, Value};
use wattlog_model::Timestamp;

/// Records that are asked for at a time.
const PAGE: usize = 500;
/// What is said of them has another meaning when this is another number: then all are made again.
const EDITION: u32 = 1;

/// What was done of a period.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Reports made, written or removed.
    pub(crate) written: u64,
    /// Its energies are still to be computed.
    pub(crate) waits: bool,
    /// Something that it rests on cannot be read.
    pub(crate) is_lost: bool,
    pub(crate) notes: Vec<String>,
}

impl Length {
    /// From the first to the last instant that a report can be about, or is.
    pub(crate) async fn bounds(self, hands: &Hands) -> Result<Range<i64>, BookError> {
        let known = hands.engine.measurement(&hands.database, QUARTERS)?;
        let rows = known.and_then(|known| known.first.zip(known.last));
        let mut times = rows.map(|(first, last)| first.0..last.0.saturating_add(QUARTER_NS));
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let listing = Listing { order, limit: 1, ..self.listing() };
            for Stored { record, .. } in hands.ledger.list::<Report>(&listing).await?.records {
                let (start, end) = (record.start.0, record.end.0);
                times = Some(times.map_or(start..end, |t| t.start.min(start)..t.end.max(end)));
            }
        }
        Ok(times.unwrap_or(0..0))
    }

    fn listing(self) -> Listing {
        let listing = Listing { limit: PAGE, ..Listing::all() };
        listing.with_text("report_type", self.name()).with_text("origin", ReportOrigin::Computed.as_str())
    }

    /// Makes the reports of every device for `period`, where they are not there or their inputs are others.
    ///
    /// # Errors
    /// The store's and the ledger's; what was written stays, and it may be done again.
    pub(crate) async fn keep(
        self,
        hands: &Hands,
        energy: &EnergyKeeper,
        period: &Range<i64>,
        tariffs: &Arc<Vec<Stored<Tariff>>>,
    ) -> Result<Made, BookError> {
        let hidden_before = |measurement| cutoff(&hands.engine, &hands.database, measurement);
        if hidden_before(QUARTERS).is_some_and(|cutoff| cutoff > quarters_of(period).start) {
            // What the energies were is not known any more: the records are.
            return Ok(Made::default());
        }
        let question = Question {
            database: hands.database.clone(),
            options: energy.options().clone(),
            status: energy.status(),
            length: self,
            period: period.clone(),
            zone: hands.zone.clone(),
            tariffs: tariffs.clone(),
        };
        let told = match hands.ask(move |engine, control| question.ask(engine, control)).await? {
            Ok(told) => told,
            Err(error @ EnergyError::Points { .. }) => {
                let (kind, from, to) = (self.name(), period.start, period.end);
                tracing::warn!(%error, kind, from, to, "reports stay as they were");
                let note =
                    format!("{kind} reports of {} stay as they were: {error}", told_day(period, &hands.zone));
                return Ok(Made { is_lost: true, notes: vec![note], ..Made::default() });
            }
            Err(error) => return Err(error.into()),
        };
        if told.is_pending {
            return Ok(Made { waits: true, ..Made::default() });
        }
        let sessions = sessions(hands, period).await?;
        let held: Vec<(i64, i64)> = tariffs
            .iter()
            .filter(|tariff| {
                let times = times_of(&tariff.record);
                times.start < period.end && period.start < times.end
            })
            .map(|tariff| (tariff.id, tariff.version))
            .collect();
        let Told { devices, is_lost, notes, .. } = told;
        let mut made = Made { is_lost, notes, ..Made::default() };
        let mut stored = self.stored(hands, period).await?;
        let is_hidden = hidden_before(RAW).is_some_and(|cutoff| cutoff > period.start);
        for (device, figures) in &devices {
            if let Some(note) = unnameable(device, "reports") {
                made.notes.push(note);
                continue;
            }
            // Of another zone with the same midnights, too: the ledger has one report of a device and an instant.
            let is_this = |stored: &Stored<Report>| {
                (&stored.record.device_id, stored.record.start.0) == (device, period.start)
            };
            let old = stored.iter().position(is_this).map(|at| stored.swap_remove(at));
            if is_lost && old.is_some() {
                continue;
            }
            let mine: Vec<&Stored<Session>> = sessions
                .iter()
                .filter(|session| session.record.device_id.as_deref().unwrap_or_default() == device)
                .collect();
            let mut data = data(hands, device, figures, &mine).await?;
            data.insert("is_partial".into(), is_lost.into());
            for name in ["peak", "battery"].into_iter().filter(|_| is_hidden) {
                if let Some(before) = old.as_ref().and_then(|old| old.record.data.get(name)) {
                    data.insert(name.into(), before.clone());
                }
            }
            let seen: Vec<(i64, i64)> = mine.iter().map(|session| (session.id, session.version)).collect();
            let inputs = fingerprint(&json!([EDITION, data, held, seen]));
            let report = Report {
                report_type: self.name().to_owned(),
                device_id: device.clone(),
                start: Timestamp(period.start),
                end: Timestamp(period.end),
                time_zone: hands.zone.name().to_owned(),
                data: Json::Object(data),
                inputs: Some(inputs),
                origin: ReportOrigin::Computed,
            };
            made.written += u64::from(write(hands, old, report).await?);
        }
        // What is left is of devices without any energy in it, or by other midnights.
        for old in stored.into_iter().filter(|_| !is_lost) {
            let (expected, actor) = (Expected::Version(old.version), Actor::new(ACTOR));
            hands.ledger.remove::<Report>(old.id, expected, &actor).await?;
            made.written += 1;
        }
        Ok(made)
    }

    /// Reports that begin in the period.
    async fn stored(self, hands: &Hands, period: &Range<i64>) -> Result<Vec<Stored<Report>>, BookError> {
        let times = Timestamp(period.start)..Timestamp(period.end);
        let mut listing = self.listing().within(times);
        let mut found = Vec::new();
        loop {
            let page = hands.ledger.list::<Report>(&listing).await?;
            found.extend(page.records);
            let Some(next) = page.next else { return Ok(found) };
            listing.after = Some(next);
        }
    }
}

/// Sessions that began in the period and are over.
async fn sessions(hands: &Hands, period: &Range<i64>) -> Result<Vec<Stored<Session>>, BookError> {
    let times = Timestamp(period.start)..Timestamp(period.end);
    let mut listing = Listing { limit: PAGE, ..Listing::all().within(times) }
        .with_text("origin", SessionOrigin::Detected.as_str())
        .with_text("status", SessionStatus::Completed.as_str());
    let mut found = Vec::new();
    loop {
        let page = hands.ledger.list::<Session>(&listing).await?;
        found.extend(page.records);
        let Some(next) = page.next else { return Ok(found) };
        listing.after = Some(next);
    }
}

async fn data(
    hands: &Hands,
    device: &str,
    figures: &Figures,
    sessions: &[&Stored<Session>],
) -> Result<Map<String, Json>, BookError> {
    let key = [Value::Text(Some(device.to_owned()))];
    let known = hands.ledger.find::<Device>(&key).await?;
    let capacity_kwh = known.and_then(|known| known.record.battery_capacity_kwh);
    let sessions: Vec<&Session> = sessions.iter().map(|stored| &stored.record).collect();
    Ok(figures.data(&sessions, capacity_kwh))
}

/// True if something was written. What the ledger refuses stays unsaid there.
async fn write(hands: &Hands, old: Option<Stored<Report>>, report: Report) -> Result<bool, BookError> {
    let actor = Actor::new(ACTOR);
    let done = match old {
        Some(old) if is_same(&old.record, &report) => return Ok(false),
        Some(old) => {
            let expected = Expected::Version(old.version);
            hands.ledger.update(old.id, expected, report, &actor).await.map(drop)
        }
        None => hands.ledger.insert(report, &actor).await.map(drop),
    };
    match done {
        Ok(()) => Ok(true),
        Err(error @ (LedgerError::Invalid { .. } | LedgerError::Refused { .. })) => {
            tracing::warn!(%error, "a report is not kept");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether it says the same of the same time.
fn is_same(old: &Report, new: &Report) -> bool {
    (&old.inputs, old.end, &old.time_zone) == (&new.inputs, new.end, &new.time_zone)
}

/// The first day of a period.
fn told_day(period: &Range<i64>, zone: &Zone) -> String {
    let start = jiff::Timestamp::from_nanosecond(i128::from(period.start));
    start.map(|start| zone.time_zone().to_datetime(start).date().to_string()).unwrap_or_default()
}

/// FNV-1a with 64 bits (Fowler, Noll, Vo) over the text: the same on every machine and in every version.
fn fingerprint(inputs: &Json) -> String {
    let hash = inputs.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{EDITION}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_that_of_fnv() {
        // From the authors' test vectors: "" and "a"; here as what stands between quotes of JSON, so reckoned by hand.
        let by_hand = |text: &str| {
            text.bytes().fold(14_695_981_039_346_656_037_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
            })
        };
        assert_eq!(by_hand("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fingerprint(&json!([1])), format!("1-{:016x}", by_hand("[1]")));
    }
}
