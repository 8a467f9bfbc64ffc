//! `/api/charging-sessions`: the optimiser's `store_charging_session` and `get_charging_sessions` over HTTP.
//!
//! Names are those of the optimiser's plan; the same sessions with all their fields are at `/api/v1/sessions`.

use super::receive;
use crate::error::ApiError;
use crate::handlers::health::json_response;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::{Fold, parse_local_time, rfc3339};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use jiff::civil;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wattlog_ledger::schema::{Session, SessionKind, SessionOrigin, SessionSource, SessionStatus};
use wattlog_ledger::{Action, Listing, Stored};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Sessions that began in a range of days, the oldest first.
#[utoipa::path(get, path = "/api/charging-sessions", tag = "plan",
    params(
        ("start_date" = Option<String>, Query, description = "First day, or instant; without a zone in the home zone"),
        ("end_date" = Option<String>, Query, description = "Last day, the whole of it; or instant"),
        ("device_id" = Option<String>, Query, description = "Only of this device")),
    responses((status = 200, description = "A list of sessions with the names of the plan"),
        (status = 400, description = "A parameter that cannot be read"), (status = 422, description = "More than 10000"),
        (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn charging_sessions(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [start, end, device] = query.only(["start_date", "end_date", "device_id"])?;
    let mut listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() }
        .with_text("kind", SessionKind::Charging.as_str());
    if let Some(text) = start {
        listing.time.start = edge(&state, &text, Edge::Start)?;
    }
    if let Some(text) = end {
        listing.time.end = edge(&state, &text, Edge::End)?;
    }
    if let Some(device) = device {
        listing = listing.with_text("device_id", &device);
    }
    let page = state.ledger()?.list::<Session>(&listing).await?;
    if page.next.is_some() {
        let message = format!(
            "more than {} sessions: ask for fewer days, or /api/v1/sessions by pages",
            Listing::MAX_LIMIT
        );
        return Err(ApiError::beyond("ledger_page", message));
    }
    let list: Vec<Value> = page.records.iter().map(shown).collect();
    Ok(json_response(StatusCode::OK, Value::from(list).to_string()))
}

#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// A day means all of it.
fn edge(state: &ServerState, text: &str, edge: Edge) -> Result<Timestamp, ApiError> {
    let zone = &state.shared.home_zone;
    let fold = match edge {
        Edge::Start => Fold::Earlier,
        Edge::End => Fold::Later,
    };
    if text.len() == "2026-03-01".len()
        && let Ok(day) = text.parse::<civil::Date>()
    {
        let day = match edge {
            Edge::Start => Ok(day),
            Edge::End => day.tomorrow(),
        };
        // A day whose midnight is skipped begins when the clock goes on.
        let start = day.and_then(|day| {
            zone.to_ambiguous_timestamp(day.to_datetime(civil::Time::midnight())).compatible()
        });
        let ns = start.ok().and_then(|at| i64::try_from(at.as_nanosecond()).ok());
        return ns
            .map(Timestamp)
            .ok_or_else(|| ApiError::bad_request(format!("{text} is outside the years 1678 to 2261")));
    }
    parse_local_time(text, zone, fold).map_err(ApiError::bad_request)
}

/// A session as the plan writes it; what it does not name goes to the details.
#[derive(Debug, Deserialize)]
struct Told {
    session_id: Option<String>,
    start_time: String,
    end_time: Option<String>,
    device_id: Option<String>,
    battery_soc_start: Option<f64>,
    battery_soc_end: Option<f64>,
    energy_charged_kwh: Option<f64>,
    energy_kwh: Option<f64>,
    average_price_pln: Option<f64>,
    total_cost_pln: Option<f64>,
    status: Option<String>,
    source: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Stores a session; the same `session_id` again replaces it.
#[utoipa::path(post, path = "/api/charging-sessions", tag = "plan",
    request_body(content_type = "application/json", content = Object,
        description = "`start_time` and, as far as known, `session_id`, `end_time`, `battery_soc_start`, `battery_soc_end`, `energy_charged_kwh`, `average_price_pln`, `total_cost_pln`, `status`"),
    responses((status = 200, description = "Changed, or already so"), (status = 201, description = "Made"),
        (status = 400, description = "A field is wrong"), (status = 409, description = "A selling session has this name"),
        (status = 503, description = "Try again")))]
pub(crate) async fn store_charging_session(
    State(state): State<ServerState>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (told, actor, _) = receive::<Told>(&state, request).await?;
    let session = session(&state, told)?;
    let ledger = state.ledger()?;
    let key = [wattlog_ledger::Value::Text(Some(session.session_id.clone()))];
    if ledger.find::<Session>(&key).await?.is_some_and(|old| old.record.kind != SessionKind::Charging) {
        let message = format!("session {:?} is no charging session", shortened(&session.session_id));
        return Err(ApiError::new(StatusCode::CONFLICT, "exists", message));
    }
    let outcome = ledger.put(session, &actor).await?;
    let status = if outcome.action == Action::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_response(status, shown(&outcome.stored).to_string()))
}

fn session(state: &ServerState, told: Told) -> Result<Session, ApiError> {
    let zone = &state.shared.home_zone;
    let time = |text: &str, fold| parse_local_time(text, zone, fold).map_err(ApiError::bad_request);
    let start = time(&told.start_time, Fold::Earlier)?;
    let end = told.end_time.as_deref().map(|text| time(text, Fold::Later)).transpose()?;
    let word = |text: &str, known: &str| ApiError::bad_request(format!("{text:?} is none of {known}"));
    let status = match told.status.as_deref() {
        None if end.is_some() => SessionStatus::Completed,
        None => SessionStatus::Active,
        Some(text) => {
            let known = SessionStatus::ALL.iter().copied().find(|status| status.as_str() == text);
            known.ok_or_else(|| word(text, "planned, active, completed, cancelled, failed"))?
        }
    };
    let source = match told.source.as_deref() {
        None => SessionSource::Unknown,
        // The optimiser's word.
        Some("hybrid") => SessionSource::Mixed,
        Some(text) => {
            let known = SessionSource::ALL.iter().copied().find(|source| source.as_str() == text);
            known.ok_or_else(|| word(text, "grid, pv, mixed, hybrid, unknown"))?
        }
    };
    let device = told.device_id;
    let own = || format!("{} {}", device.as_deref().unwrap_or("charging"), rfc3339(start.0));
    Ok(Session {
        session_id: told.session_id.unwrap_or_else(own),
        kind: SessionKind::Charging,
        start,
        end,
        source,
        status,
        origin: SessionOrigin::Reported,
        priority: None,
        target_energy_kwh: None,
        target_soc: None,
        battery_soc_start: told.battery_soc_start,
        battery_soc_end: told.battery_soc_end,
        energy_kwh: told.energy_charged_kwh.or(told.energy_kwh),
        energy_grid_kwh: None,
        energy_pv_kwh: None,
        peak_power_w: None,
        average_price: told.average_price_pln,
        total_cost: told.total_cost_pln,
        revenue: None,
        savings: None,
        currency: "PLN".to_owned(),
        coverage: None,
        details: Value::Object(told.others),
        device_id: device,
    })
}

/// With the names of the plan, and what it did not have.
fn shown(stored: &Stored<Session>) -> Value {
    let session = &stored.record;
    json!({
        "id": stored.id, "session_id": session.session_id,
        "start_time": rfc3339(session.start.0), "end_time": session.end.map(|end| rfc3339(end.0)),
        "battery_soc_start": session.battery_soc_start, "battery_soc_end": session.battery_soc_end,
        "energy_charged_kwh": session.energy_kwh, "average_price_pln": session.average_price,
        "total_cost_pln": session.total_cost, "status": session.status,
        "created_at": rfc3339(stored.created.at.0), "updated_at": rfc3339(stored.updated.at.0),
        "device_id": session.device_id, "source": session.source, "origin": session.origin,
        "energy_grid_kwh": session.energy_grid_kwh, "energy_pv_kwh": session.energy_pv_kwh,
        "savings_pln": session.savings, "currency": session.currency, "details": session.details,
    })
}
