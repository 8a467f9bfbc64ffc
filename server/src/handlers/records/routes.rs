//! One handler for each route of each kind of record, so that each is described.

#![allow(clippy::wildcard_imports, reason = "the modules of the kinds differ in nothing but their names")]

use super::{create, history, list, read, remove, replace};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use wattlog_ledger::schema;

/// Many of one kind.
macro_rules! listed {
    ($record:ident, $tag:literal, $many:literal) => {
        /// Lists them, the newest first.
        #[utoipa::path(get, path = $many, tag = $tag, operation_id = concat!("list_", $tag),
            params(
                ("start" = Option<String>, Query, description = "From this instant"),
                ("end" = Option<String>, Query, description = "Until before this instant"),
                ("order" = Option<String>, Query, description = "desc (default) or asc"),
                ("limit" = Option<u32>, Query, description = "Records of a page, 1 to 10000; default 1000"),
                ("after" = Option<String>, Query, description = "`next` of the page before"),
                ("format" = Option<String>, Query, description = "json (default) or csv")),
            responses((status = 200, description = "`{\"records\":[...],\"next\"}`"),
                (status = 400, description = "A parameter that cannot be read"),
                (status = 503, description = "The ledger does not answer")))]
        pub(crate) async fn all(
            State(state): State<ServerState>,
            peer: Peer,
            query: QueryPairs,
        ) -> Result<Response<Body>, ApiError> {
            list::<schema::$record>(&state, peer, query).await
        }
    };
}

/// One of a kind.
macro_rules! readable {
    ($record:ident, $tag:literal, $single:literal) => {
        /// One of them.
        #[utoipa::path(get, path = $single, tag = $tag, operation_id = concat!("read_", $tag),
                            params(("id" = i64, Path, description = "Its number")),
                            responses((status = 200, description = "The record; its version is the ETag"),
                                (status = 404, description = "No such record")))]
        pub(crate) async fn single(
            State(state): State<ServerState>,
            peer: Peer,
            PathParts(id): PathParts<String>,
        ) -> Result<Response<Body>, ApiError> {
            read::<schema::$record>(&state, peer, &id).await
        }
    };
}

/// What clients may change of one kind.
macro_rules! writable {
    ($record:ident, $tag:literal, $many:literal, $single:literal, $history:literal) => {
        /// Makes one.
        #[utoipa::path(post, path = $many, tag = $tag, operation_id = concat!("make_", $tag),
            request_body(content_type = "application/json", content = Object, description = "The record"),
            responses((status = 201, description = "The record as it is stored"), (status = 400, description = "A field is wrong"),
                (status = 409, description = "There is one with the same key"), (status = 503, description = "Try again")))]
        pub(crate) async fn make(
            State(state): State<ServerState>,
            request: Request,
        ) -> Result<Response<Body>, ApiError> {
            create::<schema::$record>(&state, request).await
        }

        /// Replaces one.
        #[utoipa::path(put, path = $single, tag = $tag, operation_id = concat!("replace_", $tag),
            params(("id" = i64, Path, description = "Its number"),
                ("If-Match" = String, Header, description = "The ETag that was seen, or *")),
            request_body(content_type = "application/json", content = Object, description = "The whole record, as `GET` answers it or without what is not its own fields"),
            responses((status = 200, description = "The record as it is stored"), (status = 400, description = "A field is wrong"),
                (status = 404, description = "No such record"), (status = 409, description = "The appliance keeps it"),
                (status = 412, description = "Somebody changed it since"), (status = 428, description = "No If-Match")))]
        pub(crate) async fn exchange(
            State(state): State<ServerState>,
            PathParts(id): PathParts<String>,
            request: Request,
        ) -> Result<Response<Body>, ApiError> {
            replace::<schema::$record>(&state, &id, request).await
        }

        /// Removes one; its history stays.
        #[utoipa::path(delete, path = $single, tag = $tag, operation_id = concat!("remove_", $tag),
            params(("id" = i64, Path, description = "Its number"),
                ("If-Match" = String, Header, description = "The ETag that was seen, or *")),
            responses((status = 200, description = "The record as it was"), (status = 404, description = "No such record"),
                (status = 409, description = "The appliance keeps it"),
                (status = 412, description = "Somebody changed it since"), (status = 428, description = "No If-Match")))]
        pub(crate) async fn drop_it(
            State(state): State<ServerState>,
            PathParts(id): PathParts<String>,
            request: Request,
        ) -> Result<Response<Body>, ApiError> {
            remove::<schema::$record>(&state, &id, request).await
        }

        /// Who changed it, when, and to what.
        #[utoipa::path(get, path = $history, tag = $tag, operation_id = concat!("history_of_", $tag),
            params(("id" = i64, Path, description = "Its number"),
                ("after" = Option<i64>, Query, description = "`next` of the page before: changes after this version")),
            responses((status = 200, description = "`{\"changes\":[{\"version\",\"action\",\"at\",\"by\",\"record\"}],\"next\"}`, the oldest first"),
                (status = 404, description = "There never was such a record")))]
        pub(crate) async fn changes(
            State(state): State<ServerState>,
            peer: Peer,
            PathParts(id): PathParts<String>,
            query: QueryPairs,
        ) -> Result<Response<Body>, ApiError> {
            history::<schema::$record>(&state, peer, &id, query).await
        }
    };
}

pub(crate) mod sessions {
    use super::*;
    listed!(Session, "sessions", "/api/v1/sessions");
    readable!(Session, "sessions", "/api/v1/sessions/{id}");
    writable!(
        Session,
        "sessions",
        "/api/v1/sessions",
        "/api/v1/sessions/{id}",
        "/api/v1/sessions/{id}/history"
    );
}

pub(crate) mod decisions {
    use super::*;
    listed!(Decision, "decisions", "/api/v1/decisions");
    readable!(Decision, "decisions", "/api/v1/decisions/{id}");
    writable!(
        Decision,
        "decisions",
        "/api/v1/decisions",
        "/api/v1/decisions/{id}",
        "/api/v1/decisions/{id}/history"
    );
}

pub(crate) mod preferences {
    use super::*;
    listed!(Preference, "preferences", "/api/v1/preferences");
    readable!(Preference, "preferences", "/api/v1/preferences/{id}");
    writable!(
        Preference,
        "preferences",
        "/api/v1/preferences",
        "/api/v1/preferences/{id}",
        "/api/v1/preferences/{id}/history"
    );
}

pub(crate) mod reports {
    use super::*;
    listed!(Report, "reports", "/api/v1/reports");
    readable!(Report, "reports", "/api/v1/reports/{id}");
    writable!(Report, "reports", "/api/v1/reports", "/api/v1/reports/{id}", "/api/v1/reports/{id}/history");
}

pub(crate) mod tariffs {
    use super::*;
    listed!(Tariff, "tariffs", "/api/v1/tariffs");
    readable!(Tariff, "tariffs", "/api/v1/tariffs/{id}");
    writable!(Tariff, "tariffs", "/api/v1/tariffs", "/api/v1/tariffs/{id}", "/api/v1/tariffs/{id}/history");
}

pub(crate) mod annotations {
    use super::*;
    listed!(Annotation, "annotations", "/api/v1/annotations");
    readable!(Annotation, "annotations", "/api/v1/annotations/{id}");
    writable!(
        Annotation,
        "annotations",
        "/api/v1/annotations",
        "/api/v1/annotations/{id}",
        "/api/v1/annotations/{id}/history"
    );
}

pub(crate) mod devices {
    // `/api/v1/devices` itself also tells how they answer: `handlers::status`.
    use super::*;
    readable!(Device, "devices", "/api/v1/devices/{id}");
    writable!(Device, "devices", "/api/v1/devices", "/api/v1/devices/{id}", "/api/v1/devices/{id}/history");
}

pub(crate) mod alert_rules {
    use super::*;
    listed!(AlertRule, "alert_rules", "/api/v1/alerts/rules");
    readable!(AlertRule, "alert_rules", "/api/v1/alerts/rules/{id}");
    writable!(
        AlertRule,
        "alert_rules",
        "/api/v1/alerts/rules",
        "/api/v1/alerts/rules/{id}",
        "/api/v1/alerts/rules/{id}/history"
    );
}

pub(crate) mod alert_silences {
    use super::*;
    listed!(AlertSilence, "alert_silences", "/api/v1/alerts/silences");
    readable!(AlertSilence, "alert_silences", "/api/v1/alerts/silences/{id}");
    writable!(
        AlertSilence,
        "alert_silences",
        "/api/v1/alerts/silences",
        "/api/v1/alerts/silences/{id}",
        "/api/v1/alerts/silences/{id}/history"
    );
}

pub(crate) mod alert_events {
    use super::*;
    listed!(AlertEvent, "alert_events", "/api/v1/alerts/events");
    readable!(AlertEvent, "alert_events", "/api/v1/alerts/events/{id}");
}

pub(crate) mod alert_deliveries {
    use super::*;
    listed!(AlertDelivery, "alert_deliveries", "/api/v1/alerts/deliveries");
    readable!(AlertDelivery, "alert_deliveries", "/api/v1/alerts/deliveries/{id}");
}

pub(crate) mod import_runs {
    use super::*;
    listed!(ImportRun, "import_runs", "/api/v1/imports");
    readable!(ImportRun, "import_runs", "/api/v1/imports/{id}");
}
