//! Feeds of prices, rates and weather, and the messages of a broker: how they are doing.

use super::health::json_response;
use crate::error::ApiError;
use crate::exposition::Group;
use crate::feeds::{BrokerStatus, FeedStatus};
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use wattlog_model::Timestamp;

/// When each feed was asked and what it gave, and how the broker is doing.
#[utoipa::path(get, path = "/api/v1/feeds", tag = "status",
    responses((status = 200, description = "`{\"feeds\":[...],\"mqtt\"}`: one entry per configured feed; `mqtt` is null if no broker is configured")))]
pub(crate) async fn feeds(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [] = query.only([])?;
    let provider = state.feeds();
    let feeds: Vec<Value> = provider.feeds().iter().map(feed_json).collect();
    let body = json!({ "feeds": feeds, "mqtt": provider.broker().as_ref().map(broker_json) });
    Ok(json_response(StatusCode::OK, body.to_string()))
}

fn feed_json(feed: &FeedStatus) -> Value {
    json!({
        "name": feed.name, "kind": feed.kind,
        "last_attempt": instant(feed.last_attempt), "last_success": instant(feed.last_success),
        "next_attempt": instant(feed.next_attempt),
        "looks": feed.looks, "requests": feed.requests, "failed_looks": feed.failed_looks,
        "failures_in_a_row": feed.failures_in_a_row,
        "stored": feed.stored, "rejected": feed.rejected, "refused_rows": feed.refused_rows,
        "refused_values": feed.refused_values,
        "last_error": feed.last_error, "note": feed.note,
    })
}

fn broker_json(broker: &BrokerStatus) -> Value {
    let refused: Map<String, Value> =
        broker.refused.iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect();
    json!({
        "address": broker.address, "topics": broker.topics, "connected": broker.is_connected,
        "connections": broker.connections, "messages": broker.messages,
        "last_message": instant(broker.last_message), "acknowledged": broker.acknowledged,
        "stored": broker.stored, "refused": refused,
        "last_error": broker.last_error, "last_unusable": broker.last_unusable,
    })
}

/// RFC 3339, or null.
pub(super) fn instant(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| rfc3339(time.0))
}

impl ServerState {
    /// What `/metrics` says of feeds and broker.
    pub(crate) fn feed_groups(&self) -> Vec<Group> {
        let provider = self.feeds();
        let feeds = provider.feeds();
        let of = |feed: &FeedStatus| vec![("feed", feed.name.clone())];
        let count = |get: fn(&FeedStatus) -> u64| feeds.iter().map(|feed| (of(feed), get(feed))).collect();
        let time = |get: fn(&FeedStatus) -> Option<Timestamp>| {
            feeds.iter().filter_map(|feed| Some((of(feed), get(feed)?.0 as f64 / 1e9))).collect()
        };
        let in_a_row = feeds.iter().map(|feed| (of(feed), feed.failures_in_a_row as f64)).collect();
        let mut groups = vec![
            Group::gauges(
                "feed_last_success_timestamp_seconds",
                "When an answer of the feed was stored last",
                time(|feed| feed.last_success),
            ),
            Group::gauges(
                "feed_last_attempt_timestamp_seconds",
                "When the feed was asked last",
                time(|feed| feed.last_attempt),
            ),
            Group::gauges(
                "feed_next_attempt_timestamp_seconds",
                "When the feed is asked next",
                time(|feed| feed.next_attempt),
            ),
            Group::gauges(
                "feed_failures_in_a_row",
                "Looks that brought nothing since the last success",
                in_a_row,
            ),
            Group::counters("feed_looks", "Looks begun", count(|feed| feed.looks)),
            Group::counters(
                "feed_failed_looks",
                "Looks that brought nothing",
                count(|feed| feed.failed_looks),
            ),
            Group::counters("feed_requests", "Requests sent", count(|feed| feed.requests)),
            Group::counters("feed_stored_points", "Points stored", count(|feed| feed.stored)),
            Group::counters(
                "feed_rejected_points",
                "Points that the store rejected for good",
                count(|feed| feed.rejected),
            ),
            Group::counters(
                "feed_refused_rows",
                "Rows of answers that could not be used",
                count(|feed| feed.refused_rows),
            ),
            Group::counters(
                "feed_refused_values",
                "Values that could not be used, of rows that were stored without them",
                count(|feed| feed.refused_values),
            ),
        ];
        groups.extend(provider.broker().iter().flat_map(broker_groups));
        groups
    }
}

fn broker_groups(broker: &BrokerStatus) -> Vec<Group> {
    let refused = broker
        .refused
        .iter()
        .map(|(reason, count)| (vec![("reason", (*reason).to_owned())], *count))
        .collect();
    let mut groups = vec![
        Group::gauge(
            "mqtt_connected",
            "1 while there is a connection to the broker",
            f64::from(u8::from(broker.is_connected)),
        ),
        Group::counter("mqtt_connections", "Connections made to the broker", broker.connections),
        Group::counter("mqtt_messages", "Messages that came, repeated ones too", broker.messages),
        Group::counter("mqtt_acknowledged", "Messages acknowledged", broker.acknowledged),
        Group::counter("mqtt_stored_points", "Points stored", broker.stored),
        Group::counters("mqtt_refused", "Messages and points that were not stored, by reason", refused),
    ];
    if let Some(last) = broker.last_message {
        let help = "When the last message came; not there before the first";
        groups.push(Group::gauge("mqtt_last_message_timestamp_seconds", help, last.0 as f64 / 1e9));
    }
    groups
}
