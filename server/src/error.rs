//! The one map from what went wrong to what a client is told.
//!
//! Promise: every answer that is no success carries a body in the dialect of its route, a text the client can act on,
//! and the request id that the log line has too. Domain errors know no HTTP; this file alone knows status codes.

use crate::options::Size;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use std::time::Duration;
use wattlog_ledger::LedgerError;
use wattlog_wire::shortened;

/// Whose words a route speaks when it has to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"code","message","request_id"}`.
    Own,
    /// InfluxDB 1.x: `{"error"}` and `X-Influxdb-Error`.
    Influx1,
    /// InfluxDB 2.x: `{"code","message"}`, `X-Influxdb-Error` and `X-Platform-Error-Code`.
    Influx2,
}

impl Dialect {
    /// The dialect of a path, also of one that has no route.
    pub(crate) fn of_path(path: &str) -> Self {
        match path {
            "/write" | "/query" | "/ping" => Self::Influx1,
            _ if path.starts_with("/api/v2/") => Self::Influx2,
            _ => Self::Own,
        }
    }
}

/// A refusal, before it is put into words of a dialect.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// One of a small closed set of words (docs/api.md, "Errors").
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    /// Further members of the own dialect's body.
    pub(crate) details: Map<String, Value>,
    /// The connection cannot be used any more: part of the body was left unread.
    pub(crate) close: bool,
    /// Name of the limit that was met; counted when the refusal is told.
    pub(crate) limit: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            details: Map::new(),
            close: false,
            limit: None,
        }
    }

    /// 422: an answer beyond a limit of the store or the server.
    pub(crate) fn beyond(limit: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "limit exceeded", message).at_limit(limit)
    }

    /// 400: the request itself is wrong.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", message)
    }

    /// 413: a body above the limit of that name.
    pub(crate) fn too_large(limit: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request too large", message).at_limit(limit)
    }

    /// 413: the points of a body take more memory than one body may.
    pub(crate) fn batch_too_large(limit: Size) -> Self {
        let message = format!("the points of the body take more than {limit} of memory: send it in parts");
        Self::too_large("batch", message)
    }

    /// 503 with the time after which to try again.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }

    /// 507 with the time after which to try again: the disk is full. Every client of the write routes tries again on it, and
    /// the owner sees at once what is wrong.
    pub(crate) fn no_room(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::INSUFFICIENT_STORAGE, "insufficient storage", message)
        }
    }

    /// 500: our fault; the text says no more than that.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error", message)
    }

    /// Says which limit was met.
    pub(crate) fn at_limit(self, name: &'static str) -> Self {
        Self { limit: Some(name), ..self }
    }

    /// Says that the rest of the body was left unread, so that the connection ends after the answer.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// Adds a member to the own dialect's body.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// The body, in the words of `dialect`.
    fn text(&self, dialect: Dialect, request_id: &str) -> String {
        let mut body = Map::new();
        match dialect {
            Dialect::Influx1 => {
                body.insert("error".into(), self.influx1_text().into());
            }
            Dialect::Influx2 => {
                body.insert("code".into(), self.code.into());
                body.insert("message".into(), self.message.as_str().into());
            }
            Dialect::Own => {
                body.insert("code".into(), self.code.into());
                body.insert("message".into(), self.message.as_str().into());
                body.insert("request_id".into(), request_id.into());
                body.extend(self.details.clone());
            }
        }
        let mut text = Value::Object(body).to_string();
        text.push('\n');
        text
    }

    /// A whole answer as bytes, for a connection that has no route. Its path is not known, so the body speaks the own
    /// dialect and has the member that 1.x clients read.
    pub(crate) fn raw(&self, request_id: &str) -> Vec<u8> {
        let body = self.clone().with("error", self.influx1_text()).text(Dialect::Own, request_id);
        let (status, length) = (self.status, body.len());
        let retry =
            self.retry_after.map(|wait| format!("retry-after: {}\r\n", seconds(wait))).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{retry}\
             x-request-id: {request_id}\r\nconnection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }

    /// The answer, in the words of `dialect`.
    pub(crate) fn render(&self, dialect: Dialect, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::from(self.text(dialect, request_id)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if dialect != Dialect::Own && self.status != StatusCode::UNAUTHORIZED {
            let text = if dialect == Dialect::Influx1 { self.influx1_text() } else { &self.message };
            headers.insert(HeaderName::from_static("x-influxdb-error"), header_text(text));
        }
        if dialect == Dialect::Influx2 {
            headers.insert(HeaderName::from_static("x-platform-error-code"), header_text(self.code));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Clients of the 1.x API look for these exact words; our longer text would make some drop what they hold.
    fn influx1_text(&self) -> &str {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => "timeout",
            StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
            _ => &self.message,
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::Unavailable { .. } => Self::unavailable(text, LEDGER_RETRY),
            LedgerError::NoRoom { .. } => Self::no_room(text, LEDGER_RETRY),
            LedgerError::Conflict { expected, found, .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "conflict", text)
                    .with("expected", expected)
                    .with("found", found)
            }
            LedgerError::Exists { .. } => Self::new(StatusCode::CONFLICT, "exists", text),
            LedgerError::Missing { .. } => Self::not_found(text),
            LedgerError::Invalid { invalid, .. } => Self::bad_request(text).with("field", invalid.field),
            LedgerError::TooLarge { .. } => Self::beyond("ledger_answer", text),
            LedgerError::Refused { .. } => Self::bad_request(text),
            LedgerError::Schema { .. } | LedgerError::Damaged { .. } | LedgerError::File { .. } => {
                Self::unavailable(text, LEDGER_RETRY)
            }
            other => {
                tracing::error!(error = %other, "the ledger failed in a way that is not known");
                Self::internal("the ledger failed: the log says more")
            }
        }
    }
}

/// When to ask a ledger again that does not answer.
const LEDGER_RETRY: Duration = Duration::from_secs(5);

/// Whole seconds for `Retry-After`, at least one.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs_f64().ceil().max(1.0) as u64
}

/// The error travels in the extensions of an empty answer until the outermost layer, which knows dialect and request
/// id, renders it.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Longest text put into a header.
const HEADER_TEXT_BYTES: usize = 1024;

/// Makes any text fit for a header: one line, bounded.
fn header_text(text: &str) -> HeaderValue {
    let mut bytes: Vec<u8> = text.bytes().take(HEADER_TEXT_BYTES).collect();
    for byte in &mut bytes {
        if byte.is_ascii_control() {
            *byte = b' ';
        }
    }
    HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("error"))
}

/// Any path without a route.
pub(crate) async fn no_such_route(request: axum::extract::Request) -> ApiError {
    let path = request.uri().path();
    let message = match path {
        "/query" => "InfluxQL is not served by this version; ask /api/v1/query".to_owned(),
        _ if path.starts_with("/assets/") || path == "/api/v1/live" || path.starts_with("/prometheus/") => {
            format!("{} is reserved and not served by this version", shortened(path))
        }
        _ => format!("there is no {} here; the routes are in /openapi.json", shortened(path)),
    };
    ApiError::not_found(message)
}

/// A path with a route, but not for this method.
pub(crate) async fn wrong_method(method: Method) -> ApiError {
    let message =
        format!("{} is not for this path; the Allow header says what is", shortened(method.as_str()));
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    fn body(error: &ApiError, dialect: Dialect) -> String {
        let response = error.render(dialect, "id-1");
        let bytes = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn each_dialect_has_its_words() {
        let error = ApiError::not_found("database not found: \"nope\"").with("database", "nope");
        assert_eq!(body(&error, Dialect::Influx1), "{\"error\":\"database not found: \\\"nope\\\"\"}\n");
        assert_eq!(
            body(&error, Dialect::Influx2),
            "{\"code\":\"not found\",\"message\":\"database not found: \\\"nope\\\"\"}\n"
        );
        let own: Value = serde_json::from_str(&body(&error, Dialect::Own)).unwrap();
        assert_eq!((&own["request_id"], &own["database"]), (&Value::from("id-1"), &Value::from("nope")));
    }

    #[test]
    fn overload_is_a_timeout_to_1x_clients_and_says_when_to_come_back() {
        let error = ApiError::unavailable("too many writes at a time", Duration::from_millis(100));
        assert_eq!(body(&error, Dialect::Influx1), "{\"error\":\"timeout\"}\n");
        let response = error.render(Dialect::Influx2, "id");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()["x-platform-error-code"], "unavailable");
    }

    #[test]
    fn a_text_with_line_breaks_fits_a_header() {
        let error = ApiError::bad_request("unable to parse 'a': b\nunable to parse 'ü': d");
        let response = error.render(Dialect::Influx1, "id");
        let header = response.headers()["x-influxdb-error"].as_bytes().to_vec();
        assert_eq!(String::from_utf8(header).unwrap(), "unable to parse 'a': b unable to parse 'ü': d");
    }
}
