//! The one table of routes: path, methods, who may call, how long the connection may rest.
//!
//! Promise: nothing is served that does not stand in [`table`]; a test compares it with `/openapi.json`, so neither can
//! forget a route. `access` is what authentication will ask; today every caller that can connect may do all.

use crate::activity::Activity;
use crate::error::{no_such_route, wrong_method};
use crate::handlers::records::routes::{
    alert_deliveries, alert_events, alert_rules, alert_silences, annotations, decisions, devices,
    import_runs, preferences, reports, sessions, tariffs,
};
use crate::handlers::records::{configurations, sessions as charging};
use crate::handlers::{
    admin, alerts, changes, delete as deletion, energy, energy_data, export, feeds, front_page, health,
    metrics, openapi, prices, quality, query, retention, schema, scorecard, status, storage, trends, write,
};
use crate::state::ServerState;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anyone: probes and the front page.
    Open,
    /// Who may read the store.
    Read,
    /// Who may add points.
    Write,
    /// Who runs the machine.
    Admin,
}

/// How long a connection may stay silent while the route is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The usual limits.
    Bounded,
    /// None: the route streams for as long as the client stays.
    LongLived,
}

/// One row of the table.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    /// `GET` includes `HEAD`.
    #[cfg_attr(not(test), expect(dead_code, reason = "the handler knows it; tests compare the table by it"))]
    pub(crate) method: &'static str,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "authentication will ask it; tests hold the rows to it")
    )]
    pub(crate) access: Access,
    pub(crate) idle: Idle,
    handler: MethodRouter<ServerState>,
}

impl Route {
    fn get(path: &'static str, access: Access, handler: MethodRouter<ServerState>) -> Self {
        Self { path, method: "GET", access, idle: Idle::Bounded, handler }
    }

    fn post(path: &'static str, access: Access, handler: MethodRouter<ServerState>) -> Self {
        Self { path, method: "POST", access, idle: Idle::Bounded, handler }
    }

    fn put(path: &'static str, access: Access, handler: MethodRouter<ServerState>) -> Self {
        Self { path, method: "PUT", access, idle: Idle::Bounded, handler }
    }

    fn delete(path: &'static str, access: Access, handler: MethodRouter<ServerState>) -> Self {
        Self { path, method: "DELETE", access, idle: Idle::Bounded, handler }
    }
}

/// Every route of the server.
pub(crate) fn table() -> Vec<Route> {
    use Access::{Admin, Open, Read, Write};
    vec![
        Route::post("/write", Write, post(write::write_influx1)),
        Route::post("/api/v2/write", Write, post(write::write_influx2)),
        Route::post("/api/v2/delete", Write, post(deletion::delete_influx2)),
        Route::post("/api/v1/delete", Write, post(deletion::delete)),
        Route::post("/api/energy-data", Write, post(energy_data::store)),
        Route::get("/api/energy-data", Read, get(energy_data::list)),
        Route::get("/api/v1/query", Read, get(query::query)),
        Route::get("/api/v1/last", Read, get(query::last)),
        Route::get("/api/v1/export", Read, get(export::export)),
        Route::get("/api/v1/queries/slow", Read, get(query::slow)),
        Route::get("/api/v1/changes", Read, get(changes::changes)),
        Route::get("/api/v1/energy", Read, get(energy::energy)),
        Route::get("/api/v1/quality", Read, get(quality::quality)),
        Route::get("/api/v1/trends", Read, get(trends::trends)),
        Route::get("/api/v1/prices", Read, get(prices::prices)),
        Route::get("/api/v1/databases", Read, get(schema::databases)),
        Route::get("/api/v1/measurements", Read, get(schema::measurements)),
        Route::get("/api/v1/measurements/{measurement}", Read, get(schema::measurement)),
        Route::post("/api/v1/measurements/{measurement}/fields/{field}", Write, post(schema::describe_field)),
        Route::get("/api/v1/measurements/{measurement}/tags/{key}", Read, get(schema::tag_values)),
        Route::get("/api/v1/sessions", Read, get(sessions::all)),
        Route::get("/api/v1/sessions/{id}", Read, get(sessions::single)),
        Route::post("/api/v1/sessions", Write, post(sessions::make)),
        Route::put("/api/v1/sessions/{id}", Write, put(sessions::exchange)),
        Route::delete("/api/v1/sessions/{id}", Write, delete(sessions::drop_it)),
        Route::get("/api/v1/sessions/{id}/history", Read, get(sessions::changes)),
        Route::get("/api/v1/decisions", Read, get(decisions::all)),
        Route::get("/api/v1/decisions/{id}", Read, get(decisions::single)),
        Route::post("/api/v1/decisions", Write, post(decisions::make)),
        Route::put("/api/v1/decisions/{id}", Write, put(decisions::exchange)),
        Route::delete("/api/v1/decisions/{id}", Write, delete(decisions::drop_it)),
        Route::get("/api/v1/decisions/{id}/history", Read, get(decisions::changes)),
        Route::get("/api/v1/preferences", Read, get(preferences::all)),
        Route::get("/api/v1/preferences/{id}", Read, get(preferences::single)),
        Route::post("/api/v1/preferences", Write, post(preferences::make)),
        Route::put("/api/v1/preferences/{id}", Write, put(preferences::exchange)),
        Route::delete("/api/v1/preferences/{id}", Write, delete(preferences::drop_it)),
        Route::get("/api/v1/preferences/{id}/history", Read, get(preferences::changes)),
        Route::get("/api/v1/reports", Read, get(reports::all)),
        Route::get("/api/v1/reports/{id}", Read, get(reports::single)),
        Route::post("/api/v1/reports", Write, post(reports::make)),
        Route::put("/api/v1/reports/{id}", Write, put(reports::exchange)),
        Route::delete("/api/v1/reports/{id}", Write, delete(reports::drop_it)),
        Route::get("/api/v1/reports/{id}/history", Read, get(reports::changes)),
        Route::get("/api/v1/tariffs", Read, get(tariffs::all)),
        Route::get("/api/v1/tariffs/{id}", Read, get(tariffs::single)),
        Route::post("/api/v1/tariffs", Admin, post(tariffs::make)),
        Route::put("/api/v1/tariffs/{id}", Admin, put(tariffs::exchange)),
        Route::delete("/api/v1/tariffs/{id}", Admin, delete(tariffs::drop_it)),
        Route::get("/api/v1/tariffs/{id}/history", Read, get(tariffs::changes)),
        Route::get("/api/v1/annotations", Read, get(annotations::all)),
        Route::get("/api/v1/annotations/{id}", Read, get(annotations::single)),
        Route::post("/api/v1/annotations", Write, post(annotations::make)),
        Route::put("/api/v1/annotations/{id}", Write, put(annotations::exchange)),
        Route::delete("/api/v1/annotations/{id}", Write, delete(annotations::drop_it)),
        Route::get("/api/v1/annotations/{id}/history", Read, get(annotations::changes)),
        Route::get("/api/v1/devices/{id}", Read, get(devices::single)),
        Route::post("/api/v1/devices", Admin, post(devices::make)),
        Route::put("/api/v1/devices/{id}", Admin, put(devices::exchange)),
        Route::delete("/api/v1/devices/{id}", Admin, delete(devices::drop_it)),
        Route::get("/api/v1/devices/{id}/history", Read, get(devices::changes)),
        Route::get("/api/v1/alerts/rules", Read, get(alert_rules::all)),
        Route::get("/api/v1/alerts/rules/{id}", Read, get(alert_rules::single)),
        Route::post("/api/v1/alerts/rules", Admin, post(alert_rules::make)),
        Route::put("/api/v1/alerts/rules/{id}", Admin, put(alert_rules::exchange)),
        Route::delete("/api/v1/alerts/rules/{id}", Admin, delete(alert_rules::drop_it)),
        Route::get("/api/v1/alerts/rules/{id}/history", Read, get(alert_rules::changes)),
        Route::get("/api/v1/alerts/silences", Read, get(alert_silences::all)),
        Route::get("/api/v1/alerts/silences/{id}", Read, get(alert_silences::single)),
        Route::post("/api/v1/alerts/silences", Admin, post(alert_silences::make)),
        Route::put("/api/v1/alerts/silences/{id}", Admin, put(alert_silences::exchange)),
        Route::delete("/api/v1/alerts/silences/{id}", Admin, delete(alert_silences::drop_it)),
        Route::get("/api/v1/alerts/silences/{id}/history", Read, get(alert_silences::changes)),
        Route::get("/api/v1/alerts/events", Read, get(alert_events::all)),
        Route::get("/api/v1/alerts/events/{id}", Read, get(alert_events::single)),
        Route::get("/api/v1/alerts/deliveries", Read, get(alert_deliveries::all)),
        Route::get("/api/v1/alerts/deliveries/{id}", Read, get(alert_deliveries::single)),
        Route::get("/api/v1/alerts/status", Read, get(alerts::status)),
        Route::get("/api/v1/alerts/dead-letters", Read, get(alerts::dead_letters)),
        Route::post("/api/v1/alerts/dead-letters/{id}/retry", Admin, post(alerts::retry)),
        Route::get("/api/v1/imports", Read, get(import_runs::all)),
        Route::get("/api/v1/imports/{id}", Read, get(import_runs::single)),
        Route::get("/api/v1/configs", Read, get(configurations::configurations)),
        Route::get("/api/v1/configs/{name}", Read, get(configurations::configuration)),
        Route::put("/api/v1/configs/{name}", Admin, put(configurations::save)),
        Route::get("/api/v1/configs/{name}/revisions", Read, get(configurations::revisions)),
        Route::get("/api/v1/configs/{name}/history", Read, get(configurations::history)),
        Route::get("/api/v1/configs/{name}/diff", Read, get(configurations::difference)),
        Route::post("/api/v1/configs/{name}/activate", Admin, post(configurations::activate)),
        Route::get("/api/charging-sessions", Read, get(charging::charging_sessions)),
        Route::post("/api/charging-sessions", Write, post(charging::store_charging_session)),
        Route::get("/api/v1/storage", Read, get(storage::storage)),
        Route::get("/api/v1/storage/health", Read, get(storage::health)),
        Route::get("/api/v1/scorecard", Read, get(scorecard::scorecard)),
        Route::get("/api/v1/devices", Read, get(status::devices)),
        Route::get("/api/v1/feeds", Read, get(feeds::feeds)),
        Route::get("/api/v1/tasks/{id}", Read, get(status::task)),
        Route::get("/api/v1/retention", Read, get(retention::list)),
        Route::post("/api/v1/retention", Admin, post(retention::set)),
        Route::post("/api/v1/admin/confirm-clock", Admin, post(retention::confirm_clock)),
        Route::post("/api/v1/admin/seal", Admin, post(admin::seal)),
        Route::post("/api/v1/admin/compact", Admin, post(admin::compact)),
        Route::post("/api/v1/admin/scrub", Admin, post(admin::scrub)),
        Route::get("/ping", Open, get(health::ping)),
        Route::get("/health", Open, get(health::health)),
        Route::get("/ready", Open, get(health::ready)),
        Route::get("/metrics", Read, get(metrics::metrics)),
        Route::get("/openapi.json", Open, get(openapi::openapi)),
        Route::get("/", Read, get(front_page::front_page)),
    ]
}

/// Answers below this are not worth compressing.
const COMPRESS_ABOVE_BYTES: u64 = 1024;

/// The table as a router.
pub(crate) fn routes(state: ServerState) -> Router {
    build(table(), state)
}

fn build(table: Vec<Route>, state: ServerState) -> Router {
    let mut router = Router::new();
    for route in table {
        let mut handler = route.handler;
        if route.idle == Idle::LongLived {
            handler = handler.layer(middleware::from_fn(long_lived));
        }
        router = router.route(route.path, handler);
    }
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_ABOVE_BYTES)))
        .with_state(state)
}

async fn long_lived(request: Request, next: Next) -> Response {
    if let Some(activity) = request.extensions().get::<Arc<Activity>>() {
        activity.exempt();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use utoipa::OpenApi;

    #[test]
    fn the_table_and_the_description_name_the_same_routes() {
        let ours: BTreeSet<String> = table().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        assert_eq!(ours.len(), table().len(), "a route stands twice");
        let description: serde_json::Value = serde_json::to_value(openapi::Api::openapi()).unwrap();
        let described: BTreeSet<String> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        assert_eq!(ours, described);
    }

    #[test]
    fn only_probes_and_the_description_are_open_and_a_get_changes_nothing() {
        let open: Vec<_> = table().into_iter().filter(|r| r.access == Access::Open).map(|r| r.path).collect();
        assert_eq!(open, ["/ping", "/health", "/ready", "/openapi.json"]);
        for route in table() {
            let changes = matches!(route.access, Access::Write | Access::Admin);
            assert_eq!(changes, route.method != "GET", "{} {}", route.method, route.path);
        }
    }
}
