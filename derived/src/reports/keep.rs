//! Bringing the ledger's reports of one period in step with what they are made from.

use super::reckon::{Question, Told, quarters_of};
use super::{Known, Length};
use crate::books::{BookError, Hands, unnameable};
use crate::energy::{EnergyError, EnergyKeeper, QUARTER_NS, QUARTERS, RAW};
use crate::follow::cutoff;
use crate::tariffs::times_of;
use serde_json::{Value as Json, json};
use std::ops::Range;
use wattlog_engine::query::Zone;
use wattlog_ledger::schema::{Report, ReportOrigin, Session, SessionOrigin, SessionStatus};
use wattlog_ledger::{Edit, Expected, Listing, Order, Stored};
use wattlog_model::Timestamp;

/// Records that are asked for at a time.
const PAGE: usize = 500;
/// What is said of them has another meaning when this is another number: then all are made again.
const EDITION: u32 = 1;

/// What was done of a period.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// What is to be written.
    pub(crate) edits: Vec<Edit<Report>>,
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

    /// What makes the reports of every device for `period` those of its points, where they are not there or their inputs are others.
    ///
    /// # Errors
    /// The store's and the ledger's.
    pub(crate) async fn make(
        self,
        hands: &Hands,
        energy: &EnergyKeeper,
        period: &Range<i64>,
        known: &Known,
    ) -> Result<Made, BookError> {
        let tariffs = &known.tariffs;
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
            let begun: Vec<&Session> = mine.iter().map(|stored| &stored.record).collect();
            let mut data = figures.data(&begun, known.batteries.capacity_kwh(device));
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
            made.edits.extend(edit(old, report));
        }
        // What is left is of devices without any energy in it, or by other midnights.
        for old in stored.into_iter().filter(|_| !is_lost) {
            made.edits.push(Edit::Remove(old.id, Expected::Version(old.version)));
        }
        Ok(made)
    }

    /// Reports that begin in the period.
    async fn stored(self, hands: &Hands, period: &Range<i64>) -> Result<Vec<Stored<Report>>, BookError> {
        hands.list_all(self.listing().within(Timestamp(period.start)..Timestamp(period.end))).await
    }
}

/// Sessions that began in the period and are over.
async fn sessions(hands: &Hands, period: &Range<i64>) -> Result<Vec<Stored<Session>>, BookError> {
    let times = Timestamp(period.start)..Timestamp(period.end);
    let listing = Listing { limit: PAGE, ..Listing::all().within(times) };
    let listing = listing.with_text("origin", SessionOrigin::Detected.as_str());
    hands.list_all(listing.with_text("status", SessionStatus::Completed.as_str())).await
}

/// What makes the record say `report`, if it does not say it already.
fn edit(old: Option<Stored<Report>>, report: Report) -> Option<Edit<Report>> {
    match old {
        Some(old) if is_same(&old.record, &report) => None,
        Some(old) => Some(Edit::Update(old.id, Expected::Version(old.version), report)),
        None => Some(Edit::Insert(report)),
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
pub(super) fn fingerprint(inputs: &Json) -> String {
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
