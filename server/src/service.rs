//! What every request passes on its way to its route and back: prefix, request id, time limit, panic guard, headers.

use crate::activity::{Activity, Phase};
use crate::budget::Peer;
use crate::error::{ApiError, Dialect};
use crate::router;
use crate::state::ServerState;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use futures_util::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
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
    peer: Peer,
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// When to come back after a request that took too long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest request id taken from a client.
const REQUEST_ID_BYTES: usize = 128;

impl Service {
    pub(crate) fn new(state: ServerState) -> Self {
        // Checked by `ServerOptions::check`.
        let version = HeaderValue::from_str(&state.shared.options.reported_version)
            .unwrap_or(HeaderValue::from_static("1.8.10-wattlog"));
        Self { routes: router::routes(state.clone()), version, state }
    }

    pub(crate) fn for_connection(&self, activity: Arc<Activity>, peer: Peer) -> ConnectionService {
        ConnectionService { service: self.clone(), activity, peer }
    }

    /// Answers one request; never fails, never panics.
    pub(crate) async fn answer(self, mut request: Request) -> Response<Body> {
        let prefix = &self.state.shared.options.path_prefix;
        if let Some(redirect) = to_prefix_folder(&request, prefix) {
            return self.finished(redirect, &self.state.next_request_id());
        }
        strip_prefix(&mut request, prefix);
        let id = request_id(request.headers()).unwrap_or_else(|| self.state.next_request_id());
        let path = request.uri().path().to_owned();
        let mut response = self.guarded(request, &id, &path).await;
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            self.state.note_refusal(&error, &id);
            let rendered = error.render(Dialect::of_path(&path), &id);
            let headers = std::mem::take(response.headers_mut());
            response = rendered;
            // What the routes added (Allow, for one) stays; the length was that of the empty answer.
            for (name, value) in &headers {
                if name != header::CONTENT_LENGTH && !response.headers().contains_key(name) {
                    response.headers_mut().insert(name.clone(), value.clone());
                }
            }
        }
        self.finished(response, &id)
    }

    /// Counts an answer and adds what every answer carries.
    fn finished(&self, mut response: Response<Body>, id: &str) -> Response<Body> {
        self.state.shared.metrics.answered(response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(id) {
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
                ApiError::internal("the request met a bug; the log has this request id").closing()
            }
            Err(_) => {
                let limit = self.state.shared.options.limits.request_time;
                ApiError::unavailable(format!("the request took longer than {limit}"), RETRY_AFTER)
                    .at_limit("request_time")
                    .closing()
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
        request.extensions_mut().insert(self.peer);
        let end = AnswerEnd(self.activity.clone());
        let service = self.service.clone();
        Box::pin(async move { Ok(service.answer(request).await.map(|body| WatchedBody::new(body, end))) })
    }
}

/// The body of an answer in pieces, so that no more of it than one piece waits in the connection; when it is gone, all
/// that is left is to send what waits.
pub(crate) struct WatchedBody {
    body: Body,
    /// What is left of a frame that was longer than a piece.
    rest: Bytes,
    _end: AnswerEnd,
}

struct AnswerEnd(Arc<Activity>);

impl Drop for AnswerEnd {
    fn drop(&mut self) {
        self.0.enter(Phase::Sending);
    }
}

/// Longest piece of an answer.
const PIECE_BYTES: usize = 64 * 1024;

impl WatchedBody {
    fn new(body: Body, end: AnswerEnd) -> Self {
        Self { body, rest: Bytes::new(), _end: end }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl ServerState {
    /// Counts a refusal by the limit that was met, and logs it if it is no fault of the client.
    pub(crate) fn note_refusal(&self, error: &ApiError, id: &str) {
        if let Some(limit) = error.limit {
            self.shared.metrics.limit_reached(limit);
        }
        if error.status.is_server_error() {
            tracing::warn!(request_id = %id, status = error.status.as_u16(), message = %error.message, "refused");
        }
    }

    /// A whole answer as bytes, for a connection on which no route answers: it is counted like any other.
    pub(crate) fn raw_refusal(&self, error: &ApiError) -> Vec<u8> {
        let id = self.next_request_id();
        self.note_refusal(error, &id);
        self.shared.metrics.answered(error.status.as_u16());
        error.raw(&id)
    }
}

/// The client's id, if it is one a log line can hold.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(X_REQUEST_ID).or_else(|| headers.get(REQUEST_ID))?.to_str().ok()?;
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b));
    (plain && (1..=REQUEST_ID_BYTES).contains(&value.len())).then(|| value.to_owned())
}

/// `GET /wattlog` would show a page whose relative links lead outside: the folder is `/wattlog/`.
fn to_prefix_folder(request: &Request, prefix: &str) -> Option<Response<Body>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if prefix.is_empty() || request.uri().path() != prefix || !reads {
        return None;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{prefix}/{query}")).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
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
