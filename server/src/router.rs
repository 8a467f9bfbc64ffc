//! The one table of routes: path, methods, who may call, how long the connection may rest.
//!
//! Promise: nothing is served that does not stand in [`table`]; a test compares it with `/openapi.json`, so neither can
//! forget a route. `access` is what authentication will ask; today every caller that can connect may do all.

use crate::activity::Activity;
use crate::error::{no_such_route, wrong_method};
use crate::handlers::{health, metrics};
use crate::state::ServerState;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
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
    pub(crate) method: &'static str,
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
}

/// Every route of the server.
pub(crate) fn table() -> Vec<Route> {
    use Access::Open;
    vec![
        Route::get("/ping", Open, get(health::ping)),
        Route::get("/health", Open, get(health::health)),
        Route::get("/ready", Open, get(health::ready)),
        Route::get("/metrics", Access::Read, get(metrics::metrics)),
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
