//! How alerts are doing, and what could not be delivered.

use super::feeds::instant;
use super::health::json_response;
use super::records::{actor, missing_text, one};
use crate::alerting::AlertsStatus;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::exposition::Group;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::time::Duration;
use wattlog_ledger::schema::{AlertBacklog, AlertDelivery, AlertEvent, DeliveryStatus};
use wattlog_ledger::{Expected, Listing, Order, Stored};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Counters, rules that fire or cannot be evaluated, and what waits for its channel.
#[utoipa::path(get, path = "/api/v1/alerts/status", tag = "alerts",
    responses((status = 200, description = "`running` is false if alerts are switched off; `backlog` is null while the ledger does not answer")))]
pub(crate) async fn status(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [] = query.only([])?;
    let now = state.shared.clock.wall();
    let backlog = state.alert_backlog().await.map(|backlog| backlog_json(&backlog, now));
    let running = state.alerts().status();
    let mut body = match &running {
        Some(status) => status_json(status),
        None => Map::new(),
    };
    body.insert("running".to_owned(), json!(running.is_some()));
    body.insert("backlog".to_owned(), json!(backlog));
    Ok(json_response(StatusCode::OK, Value::Object(body).to_string()))
}

fn status_json(status: &AlertsStatus) -> Map<String, Value> {
    let firing = status.firing.iter().map(
        |rule| json!({ "rule_id": rule.rule_id, "name": rule.name, "since": instant(Some(rule.since)) }),
    );
    let troubles = status
        .troubles
        .iter()
        .map(|rule| json!({ "rule_id": rule.rule_id, "name": rule.name, "reason": rule.reason }));
    let channels = status.channels.iter().map(|channel| {
        let counts =
            json!({ "delivered": channel.delivered, "retried": channel.retried, "dead": channel.dead });
        (channel.name.clone(), counts)
    });
    let members = [
        ("evaluations", json!(status.evaluations)),
        ("failed_evaluations", json!(status.failed_evaluations)),
        ("last_evaluation", json!(instant(status.last_evaluation))),
        ("samples", json!(status.samples)),
        ("ignored_samples", json!(status.ignored_samples)),
        ("events", json!(status.events)),
        ("forgotten_events", json!(status.forgotten_events)),
        ("firing", firing.collect()),
        ("troubles", troubles.collect()),
        ("channels", Value::Object(channels.collect())),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn backlog_json(backlog: &AlertBacklog, now: Timestamp) -> Value {
    json!({
        "pending": backlog.pending, "dead": backlog.dead,
        "oldest_pending": instant(backlog.oldest_pending),
        "oldest_pending_age_s": backlog.oldest_pending.map(|made| age_s(made, now)),
    })
}

fn age_s(made: Timestamp, now: Timestamp) -> f64 {
    now.0.saturating_sub(made.0).max(0) as f64 / 1e9
}

/// Most dead letters of one answer: each is read with its event.
const MAX_LETTERS: usize = 200;

/// Deliveries that were given up, each with its event, the newest first.
#[utoipa::path(get, path = "/api/v1/alerts/dead-letters", tag = "alerts",
    params(("limit" = Option<u32>, Query, description = "1 to 200; default 200"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "`{\"dead_letters\":[{\"id\",\"channel\",\"attempts\",\"last_error\",\"given_up\",\"event\"}],\"next\"}`"),
        (status = 400, description = "A parameter that cannot be read"),
        (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn dead_letters(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [limit, after] = query.only(["limit", "after"])?;
    let wrong = |name: &str, text: &str, takes: &str| {
        ApiError::bad_request(format!("{name}={}: {takes}", shortened(text)))
    };
    let limit = match limit {
        None => MAX_LETTERS,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_LETTERS).contains(limit));
            limit.ok_or_else(|| wrong("limit", &text, "1 to 200 are expected"))?
        }
    };
    let after = after
        .map(|text| {
            text.parse().map_err(|_| wrong("after", &text, "the `next` of the page before is expected"))
        })
        .transpose()?;
    let listing = Listing { order: Order::NewestFirst, limit, after, ..Listing::all() }
        .with_text("status", DeliveryStatus::Dead.as_str());
    let ledger = state.ledger()?;
    let page = ledger.list::<AlertDelivery>(&listing).await?;
    let mut letters = Vec::with_capacity(page.records.len());
    for letter in page.records {
        // One whose event went meanwhile went with it.
        if let Some(event) = ledger.get::<AlertEvent>(letter.record.event_id).await? {
            letters.push(letter_json(&letter, &event));
        }
    }
    let body = json!({ "dead_letters": letters, "next": page.next.map(|next| next.to_string()) });
    Ok(json_response(StatusCode::OK, body.to_string()))
}

fn letter_json(letter: &Stored<AlertDelivery>, event: &Stored<AlertEvent>) -> Value {
    let delivery = &letter.record;
    json!({
        "id": letter.id, "channel": delivery.channel, "attempts": delivery.attempts,
        "last_error": delivery.last_error, "given_up": instant(Some(delivery.next_attempt)),
        "event": {
            "id": event.id, "key": event.record.event_key, "rule": event.record.rule_name,
            "severity": event.record.severity, "state": event.record.state,
            "at": instant(Some(event.record.at)), "message": event.record.message,
        },
    })
}

/// Sends a delivery that was given up again, as often as a new one; the key of its message stays the same.
#[utoipa::path(post, path = "/api/v1/alerts/dead-letters/{id}/retry", tag = "alerts",
    params(("id" = i64, Path, description = "Number of the delivery")),
    responses((status = 200, description = "The delivery, to be sent now"),
        (status = 404, description = "No such delivery"), (status = 409, description = "It was not given up"),
        (status = 412, description = "Somebody changed it meanwhile"), (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn retry(
    State(state): State<ServerState>,
    PathParts(id): PathParts<String>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let peer = Peer::of(request.extensions());
    let actor = actor(peer);
    drop(request);
    let missing = || missing_text("alert_deliveries", &id);
    let number = id.parse().map_err(|_| missing())?;
    let ledger = state.ledger()?;
    let stored = ledger.get::<AlertDelivery>(number).await?.ok_or_else(missing)?;
    let Some(again) = stored.record.again(state.shared.clock.wall()) else {
        let status = stored.record.status.as_str();
        let message = format!("delivery {number} is {status}: only one that is dead is sent again");
        return Err(ApiError::new(StatusCode::CONFLICT, "not dead", message));
    };
    let outcome = ledger.update(number, Expected::Version(stored.version), again, &actor).await?;
    state.alerts().wake();
    tracing::info!(delivery = number, channel = outcome.stored.record.channel, "a dead letter is sent again");
    one(&state, peer, StatusCode::OK, &outcome.stored)
}

/// How long a probe waits for the ledger.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);

impl ServerState {
    /// What waits for its channel; none while the ledger does not answer at once.
    async fn alert_backlog(&self) -> Option<AlertBacklog> {
        let ledger = self.ledger().ok()?;
        // One that is still being opened is not waited for.
        ledger.opened()?;
        tokio::time::timeout(LEDGER_PATIENCE, ledger.alert_backlog()).await.ok()?.ok()
    }

    /// What `/metrics` says of alerts.
    pub(crate) async fn alert_groups(&self) -> Vec<Group> {
        let mut groups = self.alerts().status().map_or(Vec::new(), |status| status_groups(&status));
        if let Some(backlog) = self.alert_backlog().await {
            let now = self.shared.clock.wall();
            groups.push(Group::gauge(
                "alert_pending_deliveries",
                "Deliveries to be sent",
                backlog.pending as f64,
            ));
            groups.push(Group::gauge(
                "alert_dead_letters",
                "Deliveries that were given up",
                backlog.dead as f64,
            ));
            groups.push(Group::gauge(
                "alert_oldest_undelivered_seconds",
                "Age of the oldest delivery to be sent; 0 if there is none",
                backlog.oldest_pending.map_or(0.0, |made| age_s(made, now)),
            ));
        }
        groups
    }
}

fn status_groups(status: &AlertsStatus) -> Vec<Group> {
    let deliveries = status.channels.iter().flat_map(|channel| {
        let outcomes =
            [("delivered", channel.delivered), ("retried", channel.retried), ("dead", channel.dead)];
        outcomes.map(|(outcome, count)| {
            (vec![("channel", channel.name.clone()), ("outcome", outcome.to_owned())], count)
        })
    });
    let mut groups = vec![
        Group::counter("alert_evaluations", "Evaluations of all rules", status.evaluations),
        Group::counter(
            "alert_failed_evaluations",
            "Evaluations that could not begin because the ledger did not answer",
            status.failed_evaluations,
        ),
        Group::counter("alert_samples", "Values that rules were given", status.samples),
        Group::counter(
            "alert_ignored_samples",
            "Values that were not taken: late, ahead of the clock, no numbers",
            status.ignored_samples,
        ),
        Group::counter("alert_events", "Events that were stored", status.events),
        Group::counter("alert_forgotten_events", "Events taken away by age", status.forgotten_events),
        Group::gauge("alert_rules_firing", "Rules that fire", status.firing.len() as f64),
        Group::gauge(
            "alert_rules_in_trouble",
            "Rules that cannot be evaluated",
            status.troubles.len() as f64,
        ),
        Group::counters("alert_deliveries", "Attempts to deliver, by outcome", deliveries.collect()),
    ];
    if let Some(last) = status.last_evaluation {
        let help = "When rules were evaluated last; not there before the first time";
        groups.push(Group::gauge("alert_last_evaluation_timestamp_seconds", help, last.0 as f64 / 1e9));
    }
    groups
}
