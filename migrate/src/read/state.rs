//! States of the coordinator, and the reading inside each.
//!
//! Promise: the state's time and the reading's time stay apart: the reading may be hours older, and several states may
//! hold the same one, which then counts as a duplicate.

use super::draft::{Quantity, rest, text};
use super::reading::{Found, nested};
use crate::context::Intake;
use crate::record::{Body, Kind, Origin, SystemState};
use crate::report::Rule;
use crate::time::Order;
use serde_json::Value;

/// Order of the times in one file of states.
#[derive(Debug, Default)]
pub(crate) struct StateOrder {
    states: Order,
    readings: Order,
}

const TAKEN: &[&str] = &[
    "timestamp",
    "state",
    "uptime_seconds",
    "uptime",
    "decision_count",
    "last_error",
    "current_data",
    "performance_metrics",
];

/// Groups that the coordinator put beside the reading: no readings of the inverter, kept with the state as they are.
const BESIDE_THE_READING: &[&str] = &["weather", "battery_selling", "battery_selling_safety"];

/// Takes a state, then the reading inside it, if there is one.
pub(crate) fn state(
    found: Found<'_>,
    order: &mut StateOrder,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    // Those go with the reading.
    draft.repairs.retain(|repair| !repair.field.starts_with("current_data/"));
    let object = found.object;
    let zone = intake.context.options.zone.clone();
    let at = match draft.time(object, "timestamp", &zone, &mut order.states) {
        Ok(resolved) => resolved.at,
        Err(reason) => {
            intake.refuse(Some(Kind::SystemState), found.position.clone(), reason)?;
            return reading_inside(&found, order, intake);
        }
    };
    let metrics = object.get("performance_metrics").and_then(Value::as_object);
    let pv_power_w =
        metrics.and_then(|metrics| draft.number(metrics, "pv_efficiency", "pv_power_w", Quantity::Watt));
    if let Some(power) = pv_power_w {
        let original = serde_json::json!({ "pv_efficiency": power });
        draft.repair(Rule::Misnamed, "pv_power_w", original, Value::from(power));
    }
    let mut rest = rest(object, TAKEN);
    // The other two measures of it were always 0, and its time is the state's.
    let left = ["pv_efficiency", "battery_utilization", "grid_dependency", "last_update"];
    for (key, value) in metrics.into_iter().flatten().filter(|(key, _)| !left.contains(&key.as_str())) {
        rest.insert(key.clone(), value.clone());
    }
    let inside = object.get("current_data").and_then(Value::as_object);
    for (key, value) in
        inside.into_iter().flatten().filter(|(key, _)| BESIDE_THE_READING.contains(&key.as_str()))
    {
        rest.insert(key.clone(), value.clone());
    }
    let uptime_s = draft.number(object, "uptime_seconds", "uptime_s", Quantity::Free);
    let body = SystemState {
        at,
        state: text(object, "state"),
        uptime_s: uptime_s.or_else(|| draft.number(object, "uptime", "uptime_s", Quantity::Free)),
        decision_count: draft.count(object, "decision_count", "decision_count"),
        pv_power_w,
        last_error: text(object, "last_error"),
        rest,
    };
    let key = format!("system_state/{}", at.0);
    intake.record(key, found.position.clone(), found.origin, draft.repairs, Body::SystemState(body))?;
    reading_inside(&found, order, intake)
}

fn reading_inside(
    found: &Found<'_>,
    order: &mut StateOrder,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let Some(object) = found.object.get("current_data").and_then(Value::as_object) else { return Ok(()) };
    if object.is_empty() {
        return Ok(());
    }
    let not_finite = super::marks_below(&found.not_finite, "current_data");
    let inner = Found { object, position: found.position.clone(), origin: Origin::State, not_finite };
    nested(inner, &mut order.readings, intake)
}
