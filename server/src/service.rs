//! What every request passes on its way to its route and back: prefix, request id, time limit, panic guard, headers.

use crate::activity::{Activity, Phase};
use crate::error::{ApiError, Dialect};
use crate::router;
use crate::state::ServerState;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use futures_util::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::ServiceExt;

/// The routes with all that surrounds them.
#[derive(Clone)]
pub(crate) struct Service {
    state: ServerState,
    routes: Router,
    version: HeaderValue,
}

/// The same for one connection.
#[derive(Clone)]
pub(crate) struct ConnectionService {
    service: Service,
    activity: Arc<Activity>,
}

/// Id of a request, in its answer and its log lines.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Longest request id taken from a client.
const REQUEST_ID_BYTES: usize = 128;

impl Service {
    pub(crate) fn new(state: ServerState) -> Self {
        // Checked by `ServerOptions::check`.
        let version = HeaderValue::from_str(&state.shared.options.reported_version)
            .unwrap_or(HeaderValue::from_static("1.8.10-wattlog"));
        Self { routes: router::routes(state.clone()), version, state }
    }

    pub(crate) fn for_connection(&self, activity: Arc<Activity>) -> ConnectionService {
        ConnectionService { service: self.clone(), activity }
    }

    /// Answers one request; never fails, never panics.
    pub(crate) async fn answer(self, mut request: Request) -> Response<Body> {
        strip_prefix(&mut request, &self.state.shared.options.path_prefix);
        let id = request_id(request.headers()).unwrap_or_else(|| self.state.next_request_id());
        let dialect = Dialect::of_path(request.uri().path());
        let mut response = match ambiguous_length(request.headers()) {
            Some(error) => error.render(dialect, &id),
            None => {
                request.extensions_mut().insert(RequestId(id.clone()));
                let path = request.uri().path().to_owned();
                self.guarded(request, &id, &path).await
            }
        };
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            if error.status.is_server_error() {
                tracing::warn!(request_id = %id, status = error.status.as_u16(), message = %error.message, "refused");
            }
            let rendered = error.render(dialect, &id);
            let headers = std::mem::take(response.headers_mut());
            response = rendered;
            // What the routes added (Allow, for one) stays; the length was that of the empty answer.
            for (name, value) in &headers {
                if name != header::CONTENT_LENGTH && !response.headers().contains_key(name) {
                    response.headers_mut().insert(name.clone(), value.clone());
                }
            }
        }
        self.state.shared.metrics.answered(response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id.clone());
            headers.insert(X_REQUEST_ID, id);
        }
        headers.insert(HeaderName::from_static("x-influxdb-version"), self.version.clone());
        headers.insert(HeaderName::from_static("x-influxdb-build"), HeaderValue::from_static("OSS"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn guarded(&self, request: Request, id: &str, path: &str) -> Response<Body> {
        let routed = AssertUnwindSafe(self.routes.clone().oneshot(request)).catch_unwind();
        let limit = self.state.shared.options.limits.request_time.0;
        let outcome = tokio::time::timeout(limit, routed).await;
        let error = match outcome {
            Ok(Ok(Ok(response))) => return response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_)) => {
                self.state.shared.metrics.panics.inc();
                tracing::error!(request_id = %id, path, "a handler panicked: please report this");
                ApiError {
                    close: true,
                    ..ApiError::internal("the request met a bug; the log has this request id")
                }
            }
            Err(_) => {
                self.state.shared.metrics.limit_reached("request_time");
                ApiError {
                    close: true,
                    ..ApiError::unavailable(
                        format!(
                            "the request took longer than {}",
                            self.state.shared.options.limits.request_time
                        ),
                        std::time::Duration::from_secs(1),
                    )
                }
            }
        };
        axum::response::IntoResponse::into_response(error)
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<WatchedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.activity.enter(Phase::Request);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.activity.clone());
        let end = RequestEnd(self.activity.clone());
        let service = self.service.clone();
        Box::pin(async move { Ok(service.answer(request).await.map(|body| WatchedBody { body, _end: end })) })
    }
}

/// The body of an answer; when it is gone, the request is over.
pub(crate) struct WatchedBody {
    body: Body,
    _end: RequestEnd,
}

struct RequestEnd(Arc<Activity>);

impl Drop for RequestEnd {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request that gives its length twice could be read as two different requests by two machines in a row.
fn ambiguous_length(headers: &HeaderMap) -> Option<ApiError> {
    let both =
        headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH);
    let twice = headers.get_all(header::CONTENT_LENGTH).iter().count() > 1;
    (both || twice).then(|| ApiError {
        close: true,
        ..ApiError::bad_request("the request states its length in more than one way")
    })
}

/// The client's id, if it is one a log line can hold.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(X_REQUEST_ID).or_else(|| headers.get(REQUEST_ID))?.to_str().ok()?;
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b));
    (plain && (1..=REQUEST_ID_BYTES).contains(&value.len())).then(|| value.to_owned())
}

/// Takes the published prefix off the path, if it stands there.
fn strip_prefix(request: &mut Request, prefix: &str) {
    if prefix.is_empty() {
        return;
    }
    let uri = request.uri();
    let Some(rest) = uri.path().strip_prefix(prefix) else { return };
    if !rest.is_empty() && !rest.starts_with('/') {
        return;
    }
    let path = if rest.is_empty() { "/" } else { rest };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(path_and_query) = text.parse::<PathAndQuery>() {
        *request.uri_mut() = Uri::from(path_and_query);
    }
}

/// Status of an answer without a body.
pub(crate) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
