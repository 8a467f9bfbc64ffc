//! Sessions of charging and selling: alone, in lists, in daily plans, and the bare moments of the tracker.
//!
//! Promise: an energy or an amount says whether it was measured or planned. The battery's charge stood in selling sessions
//! alone; a session that failed is one, with that status.

use super::draft::{Quantity, rest, text};
use super::reading::Found;
use crate::context::Intake;
use crate::record::{Basis, Body, DailyPlan, Kind, Origin, Purpose, Session};
use crate::report::Rule;
use crate::tariff::rounded;
use crate::time::{Order, parse_day};
use serde_json::Value;

const TAKEN: &[&str] = &[
    "session_id",
    "start_time",
    "end_time",
    "started_at",
    "completed_at",
    "status",
    "priority",
    "actual_energy_kwh",
    "target_energy_kwh",
    "energy_kwh",
    "energy_sold_kwh",
    "actual_cost_pln",
    "estimated_cost_pln",
    "cost_pln",
    "revenue_pln",
    "average_price_pln",
    "avg_price",
    "estimated_savings_pln",
    "start_soc",
    "end_soc",
    "created_at",
];

const PLAN_TAKEN: &[&str] = &[
    "date",
    "created_at",
    "status",
    "total_sessions",
    "total_duration_hours",
    "total_estimated_energy_kwh",
    "total_estimated_cost_pln",
    "total_estimated_savings_pln",
    "sessions",
];

/// Takes one session.
pub(crate) fn session(
    found: Found<'_>,
    purpose: Purpose,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let object = found.object;
    let zone = intake.context.options.zone.clone();
    // Start and end follow each other; nothing is known of what came before.
    let mut order = Order::default();
    let start = match draft.time(object, "start_time", &zone, &mut order) {
        Ok(resolved) => resolved.at,
        Err(reason) => return intake.refuse(Some(Kind::Session), found.position, reason),
    };
    let end = draft.optional_time(object, "end_time", &zone, &mut order);
    let mut order = Order::default();
    let started_at = draft.optional_time(object, "started_at", &zone, &mut order);
    let completed_at = draft.optional_time(object, "completed_at", &zone, &mut order);

    let mut first = |keys: &[(&str, Basis)], field: &str, quantity| {
        keys.iter().find_map(|(key, basis)| Some((draft.number(object, key, field, quantity)?, *basis)))
    };
    let energy = first(
        &[
            ("actual_energy_kwh", Basis::Actual),
            ("energy_sold_kwh", Basis::Actual),
            ("energy_kwh", Basis::Actual),
            ("target_energy_kwh", Basis::Planned),
        ],
        "energy_kwh",
        Quantity::DayKwh,
    );
    let amount = first(
        &[
            ("actual_cost_pln", Basis::Actual),
            ("revenue_pln", Basis::Actual),
            ("cost_pln", Basis::Actual),
            ("estimated_cost_pln", Basis::Planned),
        ],
        "amount_pln",
        Quantity::Pln,
    );
    let average = first(
        &[("average_price_pln", Basis::Actual), ("avg_price", Basis::Actual)],
        "average_price_pln_kwh",
        Quantity::PlnPerKwh,
    );
    let average = average.map(|(price, _)| price).or_else(|| match (amount, energy) {
        // Planned and measured do not make one price.
        (Some((amount, a)), Some((energy, b))) if a == b && energy > 0.0 => Some(rounded(amount / energy)),
        _ => None,
    });
    let id = text(object, "session_id");
    let about = match purpose {
        Purpose::Charging => "charging",
        Purpose::Selling => "selling",
    };
    let key = match &id {
        Some(id) => format!("session/{about}/{id}"),
        None => format!("session/{about}/at/{}", start.0),
    };
    let session = Session {
        purpose,
        id,
        start,
        end,
        created_at: draft.optional_time(object, "created_at", &zone, &mut Order::default()),
        started_at,
        completed_at,
        status: text(object, "status"),
        priority: draft
            .count(object, "priority", "priority")
            .and_then(|priority| i64::try_from(priority).ok()),
        energy_kwh: energy.map(|(energy, _)| energy),
        energy_is: energy.map_or(Basis::Absent, |(_, basis)| basis),
        amount_pln: amount.map(|(amount, _)| amount),
        amount_is: amount.map_or(Basis::Absent, |(_, basis)| basis),
        average_price_pln_kwh: average,
        estimated_savings_pln: draft.number(
            object,
            "estimated_savings_pln",
            "estimated_savings_pln",
            Quantity::Pln,
        ),
        start_soc: draft.number(object, "start_soc", "start_soc", Quantity::Percent),
        end_soc: draft.number(object, "end_soc", "end_soc", Quantity::Percent),
        rest: rest(object, TAKEN),
    };
    intake.record(key, found.position, found.origin, draft.repairs, Body::Session(Box::new(session)))
}

/// Takes a moment of the tracker, which has no end, no energy and no name.
pub(crate) fn tracked(
    found: Found<'_>,
    order: &mut Order,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let zone = intake.context.options.zone.clone();
    let start = match draft.time(found.object, "timestamp", &zone, order) {
        Ok(resolved) => resolved.at,
        Err(reason) => return intake.refuse(Some(Kind::Session), found.position, reason),
    };
    let session = Session {
        purpose: Purpose::Charging,
        id: None,
        start,
        end: None,
        created_at: None,
        started_at: None,
        completed_at: None,
        status: None,
        priority: None,
        energy_kwh: None,
        energy_is: Basis::Absent,
        amount_pln: None,
        amount_is: Basis::Absent,
        average_price_pln_kwh: None,
        estimated_savings_pln: None,
        start_soc: None,
        end_soc: None,
        rest: rest(found.object, &["timestamp"]),
    };
    let key = format!("session/tracked/{}", start.0);
    intake.record(key, found.position, found.origin, draft.repairs, Body::Session(Box::new(session)))
}

/// Whether the file held the whole of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    Cut,
}

/// Takes a daily plan and its sessions.
pub(crate) fn plan(found: Found<'_>, extent: Extent, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    draft.repairs.retain(|repair| !repair.field.starts_with("sessions/"));
    let object = found.object;
    let date =
        match object.get("date").and_then(Value::as_str).ok_or("no date".to_owned()).and_then(parse_day) {
            Ok(date) => date,
            Err(reason) => return intake.refuse(Some(Kind::DailyPlan), found.position, reason),
        };
    let zone = intake.context.options.zone.clone();
    let sessions = object.get("sessions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let total_sessions = draft.count(object, "total_sessions", "total_sessions");
    if extent == Extent::Cut {
        draft.repair(
            Rule::CutOff,
            "sessions",
            total_sessions.map_or(Value::Null, Value::from),
            Value::from(sessions.len()),
        );
    }
    let body = DailyPlan {
        date,
        created_at: draft.optional_time(object, "created_at", &zone, &mut Order::default()),
        status: text(object, "status"),
        total_sessions,
        total_duration_h: draft.number(object, "total_duration_hours", "total_duration_h", Quantity::Hours),
        total_energy_kwh: draft.number(
            object,
            "total_estimated_energy_kwh",
            "total_energy_kwh",
            Quantity::DayKwh,
        ),
        total_cost_pln: draft.number(object, "total_estimated_cost_pln", "total_cost_pln", Quantity::Pln),
        total_savings_pln: draft.number(
            object,
            "total_estimated_savings_pln",
            "total_savings_pln",
            Quantity::Pln,
        ),
        rest: rest(object, PLAN_TAKEN),
    };
    intake.record(
        format!("daily_plan/{date}"),
        found.position.clone(),
        Origin::Other,
        draft.repairs,
        Body::DailyPlan(body),
    )?;
    let mut marks = super::marks_of_elements(&found.not_finite, "sessions/");
    for (index, element) in sessions.iter().enumerate() {
        let inner = super::inner(&found, index, Origin::Plan, &mut marks);
        match element.as_object() {
            Some(object) => session(Found { object, ..inner }, Purpose::Charging, intake)?,
            None => intake.refuse(
                Some(Kind::Session),
                inner.position,
                "a session that is no object".to_owned(),
            )?,
        }
    }
    Ok(())
}
