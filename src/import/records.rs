//! What becomes a record of the ledger: decisions, sessions, and the optimiser's own sums and plans as reports.
//!
//! Promise: the same thing has the same key in every run. What has no column stands in `details` or `data` as written, what
//! was repaired in `repairs` with its original, and where it was read in `imported_from`.

use super::points::{Place, object, rfc3339};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use wattlog_ledger::schema::{
    Decision, DecisionKind, DecisionOrigin, Report, ReportOrigin, Session, SessionKind, SessionOrigin,
    SessionSource, SessionStatus,
};
use wattlog_migrate as source;
use wattlog_migrate::{Basis, Body, Purpose, Record, Span};
use wattlog_model::Timestamp;

/// A decision.
pub(super) fn decision(record: &Record, decision: &source::Decision, place: &Place) -> Decision {
    let action = decision.action.clone().or_else(|| decision.choice.clone());
    Decision {
        decision_key: record.key.clone(),
        at: decision.at,
        kind: match decision.about {
            Purpose::Charging => DecisionKind::Charging,
            Purpose::Selling => DecisionKind::Selling,
        },
        device_id: Some(place.device.clone()),
        // The column cannot be empty; a file that held nothing but a time has no action.
        action: action.unwrap_or_else(|| "unknown".to_owned()),
        source: decision.source.clone(),
        priority: decision.priority.clone(),
        reason: decision.reason.clone(),
        confidence: decision.confidence,
        duration_h: decision.duration_h,
        energy_kwh: decision.energy_kwh,
        estimated_cost: decision.estimated_cost_pln,
        estimated_savings: decision.estimated_savings_pln,
        expected_revenue: decision.expected_revenue_pln,
        price_kwh: decision.price_pln_kwh,
        cheapest_price_kwh: decision.cheapest_price_pln_kwh,
        cheapest_hour: decision.cheapest_hour.map(i64::from),
        currency: CURRENCY.to_owned(),
        battery_soc: decision.battery_soc,
        pv_power_w: decision.pv_power_w,
        consumption_w: decision.consumption_w,
        tariff_zone: decision.tariff_zone.clone(),
        origin: DecisionOrigin::Imported,
        details: object(vec![
            ("choice", json!(decision.choice)),
            ("selling_power_w", json!(decision.selling_power_w)),
            ("executed", json!(decision.executed)),
            ("execution_error", json!(decision.execution_error)),
            ("rest", Value::Object(decision.rest.clone())),
            ("imported_from", json!(record.position.to_string())),
        ]),
        repairs: json!(record.repairs),
    }
}

/// A session.
///
/// A session that says it is over and tells no end ended when it was completed; the bare moments of the tracker are
/// sessions without length, and say so.
pub(super) fn session(record: &Record, session: &source::Session, place: &Place) -> Session {
    let told = session.status.as_deref();
    let status = SessionStatus::ALL.iter().copied().find(|status| Some(status.as_str()) == told);
    let only_a_moment = session.end.is_none() && session.completed_at.is_none() && status.is_none();
    let status = status.unwrap_or(SessionStatus::Completed);
    let (mut start, mut end) = match status {
        SessionStatus::Planned => (session.start, session.end),
        _ => (session.started_at.unwrap_or(session.start), session.completed_at.or(session.end)),
    };
    if only_a_moment {
        end = Some(start);
    }
    if end.is_some_and(|end| end < start) {
        // One of the two was planned, the other not.
        (start, end) = (session.start, session.end);
    }
    let selling = session.purpose == Purpose::Selling;
    let energy = |basis: Basis| session.energy_kwh.filter(|_| session.energy_is == basis);
    let amount = |basis: Basis| session.amount_pln.filter(|_| session.amount_is == basis);
    let key = record.key.strip_prefix("session/").unwrap_or(&record.key);
    Session {
        session_id: key.to_owned(),
        kind: if selling { SessionKind::Selling } else { SessionKind::Charging },
        device_id: Some(place.device.clone()),
        start,
        end,
        source: if selling { SessionSource::Battery } else { SessionSource::Unknown },
        status,
        origin: SessionOrigin::Imported,
        priority: session.priority,
        target_energy_kwh: energy(Basis::Planned),
        target_soc: None,
        battery_soc_start: session.start_soc,
        battery_soc_end: session.end_soc,
        energy_kwh: energy(Basis::Actual),
        energy_grid_kwh: None,
        energy_pv_kwh: None,
        peak_power_w: None,
        average_price: session.average_price_pln_kwh,
        total_cost: amount(Basis::Actual).filter(|_| !selling),
        revenue: amount(Basis::Actual).filter(|_| selling),
        savings: session.estimated_savings_pln,
        currency: CURRENCY.to_owned(),
        coverage: None,
        details: object(vec![
            ("optimiser_id", json!(session.id)),
            ("optimiser_status", told.map_or(Value::Null, Value::from)),
            ("only_a_moment", if only_a_moment { json!(true) } else { Value::Null }),
            ("planned_amount", json!(amount(Basis::Planned))),
            ("planned_start", json!(rfc3339(session.start))),
            ("planned_end", json!(session.end.map(rfc3339))),
            ("created_at", json!(session.created_at.map(rfc3339))),
            ("rest", Value::Object(session.rest.clone())),
            ("repairs", json!(record.repairs)),
            ("imported_from", json!(record.position.to_string())),
        ]),
    }
}

/// A sum, a plan or an analysis of a day or a month; `None` if the record is none.
///
/// # Errors
/// A day beyond the calendar.
pub(super) fn report(record: &Record, zone: &TimeZone) -> Result<Option<Report>, String> {
    let (report_type, first, days) = match &record.body {
        Body::DailyPlan(plan) => ("daily_plan", plan.date, Days::One),
        Body::PriceSchedule(schedule) => ("price_schedule", schedule.date, Days::One),
        // The sums run since the process started; the day of saving names them.
        Body::DailyStats(stats) => ("daily_stats", stats.saved_on.unwrap_or(stats.started_on), Days::One),
        Body::Snapshot(snapshot) => match snapshot.span {
            Span::Day => ("daily", snapshot.first_day, Days::One),
            Span::Month => ("monthly", snapshot.first_day, Days::Month),
        },
        Body::SocDrop(drop) => ("soc_drop", drop.date, Days::One),
        _ => return Ok(None),
    };
    let beyond = |_| format!("{first} has no midnight");
    let next = match days {
        Days::One => first.tomorrow(),
        Days::Month => first.checked_add(jiff::Span::new().months(1)),
    };
    let data = serde_json::to_value(&record.body).map_err(|error| error.to_string())?;
    Ok(Some(Report {
        report_type: report_type.to_owned(),
        device_id: String::new(),
        start: midnight(first, zone).map_err(beyond)?,
        end: midnight(next.map_err(beyond)?, zone).map_err(beyond)?,
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        data: object(vec![
            ("told", data),
            ("repairs", json!(record.repairs)),
            ("imported_from", json!(record.position.to_string())),
        ]),
        inputs: None,
        origin: ReportOrigin::Imported,
    }))
}

enum Days {
    One,
    Month,
}

/// The first instant of a local day.
pub(super) fn midnight(day: Date, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    let start = zone.to_ambiguous_zoned_datetime(day.at(0, 0, 0, 0)).compatible()?;
    // Days of our calendar that i64 nanoseconds do not reach are clamped to those it does.
    let ns = start.timestamp().as_nanosecond();
    let bounds = i128::from(Timestamp::MIN.0)..=i128::from(Timestamp::MAX.0);
    Ok(Timestamp(ns.clamp(*bounds.start(), *bounds.end()) as i64))
}

/// The optimiser knew no other.
const CURRENCY: &str = "PLN";
