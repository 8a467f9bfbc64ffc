//! `/api/charging-sessions`: the optimiser's `store_charging_session` and `get_charging_sessions` over HTTP.
//!
//! Names are those of the optimiser's plan; the same sessions with all their fields are at `/api/v1/sessions`.

use super::plan::{Told, shown, stored_name};
use super::{receive, refuse_kept};
use crate::answer::AnswerWriter;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::handlers::health::json_response;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::{Fold, parse_local_time};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use jiff::civil;
use std::time::Duration;
use wattlog_ledger::schema::{Session, SessionKind, SessionOrigin};
use wattlog_ledger::{Action, Expected, Ledger, LedgerError, Listing, Outcome, Stored};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Sessions that began in a range of days, the oldest first.
#[utoipa::path(get, path = "/api/charging-sessions", tag = "plan",
    params(
        ("start_date" = Option<String>, Query, description = "First day, or instant; without a zone in the home zone"),
        ("end_date" = Option<String>, Query, description = "Last day, the whole of it; or instant"),
        ("device_id" = Option<String>, Query, description = "Only of this device"),
        ("origin" = Option<String>, Query, description = "reported, imported, detected or all; default those that were reported or imported")),
    responses((status = 200, description = "A list of sessions with the names of the plan"),
        (status = 400, description = "A parameter that cannot be read"), (status = 422, description = "More than 10000, or too long an answer"),
        (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn charging_sessions(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [start, end, device, origin] = query.only(["start_date", "end_date", "device_id", "origin"])?;
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
    listing = match origin.as_deref() {
        // What the appliance finds is the same energy told once more.
        None => listing.without_text("origin", SessionOrigin::Detected.as_str()),
        Some("all") => listing,
        Some(text) => match SessionOrigin::ALL.iter().find(|origin| origin.as_str() == text) {
            Some(origin) => listing.with_text("origin", origin.as_str()),
            None => {
                let message =
                    format!("origin: {:?} is none of reported, imported, detected, all", shortened(text));
                return Err(ApiError::bad_request(message));
            }
        },
    };
    let ledger = state.ledger()?;
    let mut answer = AnswerWriter::new(&state, peer);
    let mut told = 0;
    answer.text("[")?;
    loop {
        // A page also ends where its records are large.
        let page = ledger.list::<Session>(&listing).await?;
        for stored in &page.records {
            if told > 0 {
                answer.text(",")?;
            }
            answer.json(&shown(stored))?;
            told += 1;
        }
        let Some(next) = page.next else { break };
        if told == Listing::MAX_LIMIT {
            let message =
                format!("more than {told} sessions: ask for fewer days, or /api/v1/sessions by pages");
            return Err(ApiError::beyond("ledger_page", message));
        }
        listing = Listing { limit: Listing::MAX_LIMIT - told, after: Some(next), ..listing };
    }
    answer.text("]")?;
    Ok(json_response(StatusCode::OK, answer.finish()?))
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

/// Stores a session; the same `session_id` again replaces it.
#[utoipa::path(post, path = "/api/charging-sessions", tag = "plan",
    request_body(content_type = "application/json", content = Object,
        description = "`start_time` and, as far as known, `session_id`, `end_time`, `battery_soc_start`, `battery_soc_end`, `energy_charged_kwh`, `average_price_pln`, `total_cost_pln`, `status`"),
    responses((status = 200, description = "Changed, or already so"), (status = 201, description = "Made"),
        (status = 400, description = "A field is wrong"), (status = 409, description = "A selling session has this name, or one that the appliance keeps"),
        (status = 503, description = "Try again")))]
pub(crate) async fn store_charging_session(
    State(state): State<ServerState>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let peer = Peer::of(request.extensions());
    let (told, actor, _) = receive::<Told>(&state, request).await?;
    let told = told.read(&state)?;
    let ledger = state.ledger()?;
    for _ in 0..ATTEMPTS {
        let old = found(ledger, &told.session_id).await?;
        let session = told.record(old.as_ref().map(|old| &old.record));
        let stored = match old {
            Some(old) => ledger.update(old.id, Expected::Version(old.version), session, &actor).await,
            None => {
                let made = ledger.insert(session, &actor).await;
                made.map(|stored| Outcome { action: Action::Created, stored })
            }
        };
        match stored {
            // Somebody made, changed or removed it since: look again.
            Err(LedgerError::Exists { .. } | LedgerError::Conflict { .. } | LedgerError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(Outcome { action, stored }) => {
                let status = if action == Action::Created { StatusCode::CREATED } else { StatusCode::OK };
                let mut answer = AnswerWriter::new(&state, peer);
                answer.json(&shown(&stored))?;
                return Ok(json_response(status, answer.finish()?));
            }
        }
    }
    let message = format!("session {:?} is being changed by others, try again", shortened(&told.session_id));
    Err(ApiError::unavailable(message, Duration::from_secs(1)))
}

/// How often a session is looked for anew because another changed it meanwhile.
const ATTEMPTS: usize = 5;

/// The charging session of that name: one that was told here or imported, or one that `/api/v1/sessions` took under it.
///
/// # Errors
/// 409: what has this name cannot be replaced here.
async fn found(ledger: &Ledger, name: &str) -> Result<Option<Stored<Session>>, ApiError> {
    for name in [stored_name(name), name.to_owned()] {
        let Some(old) = ledger.find::<Session>(&[wattlog_ledger::Value::Text(Some(name))]).await? else {
            continue;
        };
        refuse_kept(&old)?;
        if old.record.kind != SessionKind::Charging {
            let message = format!("session {:?} is no charging session", shortened(&old.record.session_id));
            return Err(ApiError::new(StatusCode::CONFLICT, "exists", message));
        }
        return Ok(Some(old));
    }
    Ok(None)
}
