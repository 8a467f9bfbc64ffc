//! Exports: all rows of a range, written while they are read.
//!
//! Promise: whatever the range, an export holds a few pieces of text and no more; a client that takes them slowly slows
//! the reading down, one that is gone ends it. What cannot be given whole is not ended like what is: a failure before
//! the first rows is an error, a later one cuts the connection, so that a file that ends well is complete.

use super::query::{PARTIAL, partial_text};
use crate::answer::Piece;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::answer::{AnswerFormat, ExportWriter, TimeFormat};
use crate::wire::bounded::Bounded;
use crate::wire::params::{self, Route};
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::io;
use tokio::sync::mpsc;
use wattlog_engine::query::{ExportHead, ExportSink, QueryControl, QueryError, ResultSeries};

/// Pieces of text that wait for the client.
const WAITING_PIECES: usize = 2;
/// A text is sent once it is so long: what an export holds does not grow with its rows, nor with their tags.
const TEXT_BYTES: usize = 256 * 1024;
/// Rows that are written before it is known how long they are, and at most at a time.
const FIRST_ROWS: usize = 16;
const MOST_ROWS: usize = 4096;

/// All rows of a measurement in a range, oldest first, as a stream.
#[utoipa::path(get, path = "/api/v1/export", tag = "read",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("start" = String, Query, description = "Beginning, included, as for /api/v1/query"),
        ("end" = Option<String>, Query, description = "End, not included; default now"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default all"),
        ("expr" = Option<String>, Query, description = "Computed column, as for /api/v1/query"),
        ("as" = Option<String>, Query, description = "Its name"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE, !VALUE, ~regex, !~regex"),
        ("where" = Option<String>, Query, description = "Condition on rows, as for /api/v1/query"),
        ("group_by" = Option<String>, Query, description = "Comma list of tag keys, or *"),
        ("tz" = Option<String>, Query, description = "IANA zone of rfc3339 times; default UTC"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "csv (default), ndjson, json (one array of the objects of ndjson)"),
        ("damaged" = Option<String>, Query, description = "What becomes of rows that cannot be read: stop (default) ends the export, skip leaves them out")),
    responses(
        (status = 200, description = "Rows, series after series; a connection that is cut means that they are not all"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown database"),
        (status = 500, description = "The beginning of the range is damaged"),
        (status = 503, description = "Too many exports at a time"),
        (status = 505, description = "HTTP/1.0, which cannot tell a cut from an end")))]
pub(crate) async fn export(
    State(state): State<ServerState>,
    peer: Peer,
    version: Version,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, ApiError> {
    if version < Version::HTTP_11 {
        let message = "an export needs HTTP/1.1: by 1.0 nobody can tell a connection that was cut from the end; nginx has proxy_http_version 1.1";
        return Err(ApiError::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "invalid", message));
    }
    let text = query.unwrap_or_default();
    let default_database = &state.shared.options.default_database;
    let now = state.shared.clock.wall();
    let parameters = params::parse(&text, Route::Export, default_database, &state.shared.bucket_zone, now)
        .map_err(ApiError::bad_request)?;
    let format = parameters.format;
    let (pieces, mut received) = mpsc::channel(WAITING_PIECES);
    let shared = state.clone();
    let cancel = state
        .stream("export", text, move |engine, control, watched| {
            let params::Parameters { request, time_format, on_damage, .. } = parameters;
            let mut writer = Writer {
                state: &shared,
                peer,
                control,
                format: (format, time_format),
                writer: None,
                waiting: None,
                as_of: String::new(),
                pieces: &pieces,
            };
            let exported = engine.export(&request, control, on_damage, &mut writer).map_err(ApiError::from);
            let ended = exported.and_then(|exported| {
                watched.stats = Some(exported.stats);
                writer.end()?;
                Ok(!exported.partial.is_empty())
            });
            watched.error = ended.as_ref().err().map(|error| error.message.clone());
            if let Err(error) = &ended {
                tracing::warn!("an export was not finished: {}", error.message);
            }
            // Nobody is left to hear of it if this fails.
            let _ = pieces.blocking_send(ended.map(Sent::End));
        })
        .await?;
    let first = received.recv().await.unwrap_or_else(|| Err(ApiError::internal("the export ended early")))?;
    let as_of = if let Sent::Rows { as_of, .. } = &first { as_of.clone() } else { String::new() };
    let begun = Next::Given(first);
    let rest = stream::unfold((begun, received, cancel), |(next, mut received, cancel)| async move {
        let sent = match next {
            Next::Given(first) => Ok(first),
            // A channel that closes without an end is a thread that panicked.
            Next::Wait => {
                received.recv().await.unwrap_or_else(|| Err(ApiError::internal("the export broke off")))
            }
            Next::Nothing => return None,
        };
        let (frame, next) = match sent {
            Ok(Sent::Rows { text, .. }) => (Ok(Frame::data(text)), Next::Wait),
            Ok(Sent::End(partial)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert(PARTIAL, partial_text(partial));
                (Ok(Frame::trailers(trailers)), Next::Nothing)
            }
            Err(error) => (Err(io::Error::other(error.message)), Next::Nothing),
        };
        Some((frame, (next, received, cancel)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(Box::pin(rest))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::TRAILER, HeaderValue::from_static("x-wattlog-partial"));
    if let Ok(cursor) = HeaderValue::from_str(&as_of) {
        headers.insert(HeaderName::from_static("x-wattlog-as-of"), cursor);
    }
    Ok(response)
}

/// What the answer goes on with.
enum Next {
    Given(Sent),
    Wait,
    Nothing,
}

/// What the reading thread tells.
enum Sent {
    Rows {
        text: Bytes,
        as_of: String,
    },
    /// All rows were sent, or, if true, all that could be read.
    End(bool),
}

/// Turns pieces into texts and sends them; what stands before all rows goes with the first of them.
struct Writer<'a> {
    state: &'a ServerState,
    peer: Peer,
    control: &'a QueryControl,
    format: (AnswerFormat, TimeFormat),
    writer: Option<ExportWriter>,
    /// What stands before the first rows, until they are there.
    waiting: Option<Vec<u8>>,
    as_of: String,
    pieces: &'a mpsc::Sender<Result<Sent, ApiError>>,
}

impl Writer<'_> {
    fn text(
        &self,
        begun: Vec<u8>,
        write: impl FnOnce(&mut Bounded<'_, QueryError>) -> Result<(), QueryError>,
    ) -> Result<Vec<u8>, QueryError> {
        let cancelled = |_: &Vec<u8>| {
            if self.control.cancel.is_cancelled() { Err(QueryError::Cancelled) } else { Ok(()) }
        };
        let mut watch = cancelled;
        let mut bounded = Bounded::behind(begun, &mut watch);
        write(&mut bounded)?;
        bounded.finish()
    }

    fn send(&self, text: Vec<u8>) -> Result<(), QueryError> {
        let piece = Piece::new(self.state, self.peer, self.control, text)?;
        let sent = Sent::Rows { text: Bytes::from_owner(piece), as_of: self.as_of.clone() };
        self.pieces.blocking_send(Ok(sent)).map_err(|_| QueryError::Cancelled)
    }

    /// Sends what stands before the rows, if there were none, and what stands behind them.
    fn end(&mut self) -> Result<(), QueryError> {
        let mut text = self.waiting.take().unwrap_or_default();
        text.extend_from_slice(self.writer.as_ref().map_or(b"", ExportWriter::tail));
        if text.is_empty() { Ok(()) } else { self.send(text) }
    }
}

impl ExportSink for Writer<'_> {
    fn head(&mut self, head: &ExportHead) -> Result<(), QueryError> {
        let (format, time_format) = self.format.clone();
        let writer = ExportWriter::new(format, time_format, head.clone());
        self.as_of = head.as_of.to_string();
        self.waiting = Some(self.text(Vec::new(), |bounded| writer.head(bounded))?);
        self.writer = Some(writer);
        Ok(())
    }

    fn piece(&mut self, piece: ResultSeries) -> Result<(), QueryError> {
        let mut text = self.waiting.take().unwrap_or_default();
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let (mut row, mut step) = (0, FIRST_ROWS);
        while row < piece.rows() {
            let (before, end) = (text.len(), (row + step).min(piece.rows()));
            text = self.text(text, |bounded| writer.rows(bounded, &piece, row..end))?;
            // As many as make about one text, by what these took.
            let row_bytes = ((text.len() - before) / (end - row)).max(1);
            (row, step) = (end, (TEXT_BYTES / row_bytes).clamp(1, MOST_ROWS));
            if text.len() >= TEXT_BYTES {
                self.send(std::mem::take(&mut text))?;
            }
        }
        self.writer = Some(writer);
        if text.is_empty() { Ok(()) } else { self.send(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildInfo, ServerOptions, Size};
    use http_body_util::BodyExt;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::ThreadId;
    use std::time::Duration;
    use wattlog_engine::io::sim::SimDisk;
    use wattlog_engine::query::QueryRequest;
    use wattlog_engine::{Engine, Options, WriteBatch};
    use wattlog_model::{Clock, FieldValue, ManualClock, TagSet, Timestamp};

    const ROWS: usize = 45;
    const TEXT_BYTES: usize = 20_000;

    /// A server that may hold little more than the rows of its store in its queries.
    fn state(clock: Arc<dyn Clock>) -> (ServerState, Engine) {
        let mut options = ServerOptions::default();
        options.limits.query_bytes = Size::mib(1);
        options.limits.queries_in_memory = Size::mib(1);
        options.limits.concurrent_exports = 1;
        let build = BuildInfo { version: "0".into(), commit: "0".into() };
        let state = ServerState::new(options, build, clock).unwrap();
        let options = Options { ballast_bytes: 0, ..Options::default() };
        let own_clock = Arc::new(ManualClock::new(Timestamp(0)));
        let engine = Engine::open(Arc::new(SimDisk::new(1)), options, own_clock, [1; 16]).unwrap();
        let mut batch = WriteBatch::new("wattlog", None);
        let slot = batch.series("notes", &TagSet::default());
        for row in 0..ROWS {
            let text = FieldValue::String(format!("{row:0TEXT_BYTES$}").into());
            batch.row(slot, Timestamp(row as i64), row as u32).value("text", &text);
        }
        engine.write(batch).unwrap();
        assert!(state.set_engine(engine.clone()));
        (state, engine)
    }

    async fn ask(state: &ServerState) -> Result<Response<Body>, ApiError> {
        let peer = Peer(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let query = Some("measurement=notes&start=0s".to_owned());
        export(State(state.clone()), peer, Version::HTTP_11, RawQuery(query)).await
    }

    /// Rows of an export that ends well.
    async fn rows(state: &ServerState) -> usize {
        let body = ask(state).await.unwrap().into_body().collect().await.unwrap();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        text.lines().count() - 1
    }

    /// Waits until what another task brings about is so.
    async fn until(mut holds: impl FnMut() -> bool) {
        let waiting = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok(), "waited in vain");
    }

    #[tokio::test]
    async fn an_export_waits_for_memory_that_queries_hold_and_leaves_its_turn_if_its_client_does() {
        let (state, engine) = state(Arc::new(ManualClock::new(Timestamp(60_000_000_000))));
        // A query whose answer was not written yet.
        let memory = state.shared.query_memory.charge();
        let control = QueryControl { memory: memory.clone(), ..QueryControl::default() };
        let request = QueryRequest::raw("wattlog", "notes", Timestamp(0), Timestamp::MAX);
        assert_eq!(engine.query(&request, &control).unwrap().rows(), ROWS);
        let held = state.shared.query_memory.held();
        assert!(held > (ROWS * TEXT_BYTES) as u64);
        drop(control);

        let running = || state.shared.queries.running().len();
        let waiting = tokio::time::timeout(Duration::from_millis(300), ask(&state)).await;
        assert!(waiting.is_err(), "it is neither refused nor begun");
        // Its client left, so that it ends while the memory is still taken.
        until(|| running() == 0).await;
        assert_eq!(state.shared.query_memory.held(), held, "it gave back what it had");

        let patient = tokio::spawn({
            let state = state.clone();
            async move { rows(&state).await }
        });
        until(|| running() == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!patient.is_finished());
        drop(memory);
        assert_eq!(patient.await.unwrap(), ROWS);
        until(|| running() == 0 && state.shared.query_memory.held() == 0).await;
        assert_eq!(rows(&state).await, ROWS, "later ones are as if nothing had been");
    }

    /// A clock that panics, if it shall, on any thread but the one that made it.
    #[derive(Debug)]
    struct BrokenElsewhere {
        inner: ManualClock,
        own: ThreadId,
        is_broken: AtomicBool,
    }

    impl Clock for BrokenElsewhere {
        fn wall(&self) -> Timestamp {
            let elsewhere = std::thread::current().id() != self.own;
            assert!(!(elsewhere && self.is_broken.load(Ordering::Relaxed)), "a bug, on purpose");
            self.inner.wall()
        }

        fn monotonic(&self) -> Duration {
            self.inner.monotonic()
        }
    }

    #[tokio::test]
    async fn a_bug_in_the_thread_of_an_export_is_an_error_and_frees_its_turn() {
        let clock = Arc::new(BrokenElsewhere {
            inner: ManualClock::new(Timestamp(60_000_000_000)),
            own: std::thread::current().id(),
            is_broken: AtomicBool::new(true),
        });
        let (state, _engine) = state(clock.clone());
        let error = ask(&state).await.unwrap_err();
        assert_eq!((error.status.as_u16(), &*error.message), (500, "the export ended early"));
        until(|| {
            let mut text = String::new();
            state.shared.metrics.encode(&mut text);
            text.lines().any(|line| line == "wattlog_http_panics_total 1")
        })
        .await;
        clock.is_broken.store(false, Ordering::Relaxed);
        // There is one turn.
        assert_eq!(rows(&state).await, ROWS);
    }
}
