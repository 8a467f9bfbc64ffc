//! A session that was found, as a record of the ledger, and what differs between two lists of them.

use crate::energy::rounded;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wattlog_analytics::session::{self, Kind, Status};
use wattlog_ledger::schema::{Session, SessionKind, SessionOrigin, SessionSource, SessionStatus};
use wattlog_ledger::{Edit, Expected, Stored};
use wattlog_model::Timestamp;

/// At least this share from one side is all from there: what the flanks mix in is none.
const ALL: f64 = 0.95;
/// So much without a price is rounding, kWh.
const ROUNDED_KWH: f64 = 5e-6;

/// Name of the kind in the ledger.
pub(super) fn kind_of(kind: Kind) -> SessionKind {
    match kind {
        Kind::Charging => SessionKind::Charging,
        Kind::Selling => SessionKind::Selling,
    }
}

/// The record of a session that was found, without what it saved.
pub(super) fn record_of(found: &session::Session) -> Session {
    let is_charging = found.kind == Kind::Charging;
    let is_over = found.status == Status::Closed;
    // Registers say what they like; the ledger holds shares.
    let percent = |soc: Option<f64>| soc.filter(|soc| (0.0..=100.0).contains(soc)).map(rounded);
    let money = found.cost_pln.map(rounded);
    Session {
        session_id: found.key(),
        kind: kind_of(found.kind),
        device_id: (!found.device.is_empty()).then(|| found.device.clone()),
        start: found.start,
        end: is_over.then_some(found.end),
        source: source_of(found),
        status: if is_over { SessionStatus::Completed } else { SessionStatus::Active },
        origin: SessionOrigin::Detected,
        priority: None,
        target_energy_kwh: None,
        target_soc: None,
        battery_soc_start: percent(found.soc_start_percent),
        battery_soc_end: percent(found.soc_end_percent),
        energy_kwh: Some(rounded(found.energy_kwh)),
        energy_grid_kwh: Some(rounded(found.grid_kwh)),
        energy_pv_kwh: is_charging.then_some(rounded(found.local_kwh)),
        peak_power_w: Some(rounded(found.peak_w.max(0.0))),
        average_price: found.average_price_pln_kwh.map(rounded),
        total_cost: money.filter(|_| is_charging),
        // What is earned is a cost below zero.
        revenue: money.filter(|_| !is_charging).map(|cost| rounded(-cost)),
        savings: None,
        currency: "PLN".to_owned(),
        coverage: Some(rounded(found.coverage().clamp(0.0, 1.0))),
        details: json!({
            "last_reading": instant(found.end), "readings": found.sample_count,
            "unsplit_kwh": rounded(found.unsplit_kwh), PRICED: rounded(found.priced_kwh),
        }),
    }
}

fn source_of(found: &session::Session) -> SessionSource {
    if found.kind == Kind::Selling {
        return SessionSource::Battery;
    }
    let known = found.grid_kwh + found.local_kwh;
    if known <= found.unsplit_kwh || known <= 0.0 {
        return SessionSource::Unknown;
    }
    match found.grid_kwh / known {
        share if share >= ALL => SessionSource::Grid,
        share if share <= 1.0 - ALL => SessionSource::Pv,
        _ => SessionSource::Mixed,
    }
}

/// What detection has to know of a session that is stored: when it was, and whether it may go on.
pub(super) fn known_of(stored: &Session) -> session::Session {
    let last = stored.details.get("last_reading").and_then(Value::as_str).and_then(parsed);
    let is_over = stored.status != SessionStatus::Active;
    session::Session {
        device: stored.device_id.clone().unwrap_or_default(),
        kind: if stored.kind == SessionKind::Charging { Kind::Charging } else { Kind::Selling },
        start: stored.start,
        end: stored.end.or(last).unwrap_or(stored.start).max(stored.start),
        status: if is_over { Status::Closed } else { Status::Open },
        energy_kwh: 0.0,
        grid_kwh: 0.0,
        local_kwh: 0.0,
        unsplit_kwh: 0.0,
        priced_kwh: 0.0,
        cost_pln: None,
        average_price_pln_kwh: None,
        soc_start_percent: None,
        soc_end_percent: None,
        peak_w: 0.0,
        sample_count: 0,
        covered_ns: 0,
    }
}

fn instant(at: Timestamp) -> String {
    // Every i64 of nanoseconds is an instant of jiff.
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map(|at| at.to_string()).unwrap_or_default()
}

fn parsed(text: &str) -> Option<Timestamp> {
    let told: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(told.as_nanosecond()).ok().map(Timestamp)
}

/// In the details: energy from or to the grid that has a price.
const PRICED: &str = "priced_kwh";

/// Energy from or to the grid that has no price, kWh.
fn unpriced_kwh(session: &Session) -> f64 {
    let priced = session.details.get(PRICED).and_then(Value::as_f64).unwrap_or(0.0);
    session.energy_grid_kwh.unwrap_or(0.0) - priced
}

/// Takes over the money of the record whose place `found` takes, where it has more of it.
pub(super) fn keep_money(found: &mut Session, stored: &Session) {
    let money = |session: &Session| session.total_cost.or(session.revenue);
    let is_less = money(found).is_none() || unpriced_kwh(found) > unpriced_kwh(stored) + ROUNDED_KWH;
    if money(stored).is_some() && is_less {
        (found.total_cost, found.revenue) = (stored.total_cost, stored.revenue);
        found.average_price = stored.average_price;
        let priced = stored.details.get(PRICED).cloned().unwrap_or_default();
        if let Value::Object(details) = &mut found.details {
            details.insert(PRICED.to_owned(), priced);
        }
    }
    found.savings = found.savings.or(stored.savings);
}

/// Whether a record was found by this module.
pub(super) fn is_of(stored: &Session) -> bool {
    stored.origin == SessionOrigin::Detected
}

/// What makes the records of a window those that were found; removals first, so that no session is there twice. `is_fresh` says of a
/// record that goes on that it was written a moment ago: it is not written again before its time.
pub(super) fn changes(
    old: Vec<Stored<Session>>,
    new: Vec<Session>,
    is_fresh: impl Fn(&Stored<Session>) -> bool,
) -> Vec<Edit<Session>> {
    let mut new: BTreeMap<String, Session> =
        new.into_iter().map(|session| (session.session_id.clone(), session)).collect();
    let (mut taken, mut written) = (Vec::new(), Vec::new());
    for stored in old {
        match new.remove(&stored.record.session_id) {
            None => taken.push(Edit::Remove(stored.id, Expected::Version(stored.version))),
            Some(found) if found == stored.record => {}
            Some(found) => {
                let goes_on = [&found, &stored.record].iter().all(|s| s.status == SessionStatus::Active);
                if !(goes_on && is_fresh(&stored)) {
                    written.push(Edit::Update(stored.id, Expected::Version(stored.version), found));
                }
            }
        }
    }
    taken.extend(written);
    taken.extend(new.into_values().map(Edit::Insert));
    taken
}
