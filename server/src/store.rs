//! The one bridge from async to the engine's threads.
//!
//! Promise: engine calls run off the async threads, at most `concurrent_queries`, `concurrent_writes` and
//! `concurrent_exports` of them at a time; who does not get a turn within `queue_time` hears 503 with a time to come back; a query ends soon after its
//! client went away or its time is over.
//!
//! Figures for probes have a way of their own, so that a busy store can be seen to be busy, and so have surveys.
//!
//! Invariant: the permit of a call lives on the engine's side, so that a call whose client has gone still counts.

use crate::error::ApiError;
use crate::options::Limits;
use crate::queries::Watched;
use crate::state::ServerState;
use axum::http::StatusCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use wattlog_engine::query::{CancelFlag, QueryControl, QueryError};
use wattlog_engine::{ChangeRequest, ChangeStart, Changes, Engine, EngineError, WriteError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    engine: OnceLock<Engine>,
    queries: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    tasks: Arc<Semaphore>,
    figures: Arc<Semaphore>,
    surveys: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

/// When a client may come back to a server that is at its limit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// When to come back to a store that is busy with long work.
const LONG_WORK_RETRY: Duration = Duration::from_secs(10);

/// Longest time of a survey; a call of the engine that has no time limit of its own may still end after it.
pub(crate) const SURVEY_TIME: Duration = Duration::from_secs(10);

/// Between looks whether the server is to stop.
const CHANGES_SLICE: Duration = Duration::from_millis(500);

/// Counts for as long as a request waits for changes.
struct Waiting(ServerState);

impl Waiting {
    fn new(state: &ServerState) -> Self {
        state.shared.metrics.changes_waiting.inc();
        Self(state.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.shared.metrics.changes_waiting.dec();
    }
}

/// Sets the flag when the request's future goes away before its answer.
pub(crate) struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Store {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            engine: OnceLock::new(),
            queries: Arc::new(Semaphore::new(limits.concurrent_queries as usize)),
            writes: Arc::new(Semaphore::new(limits.concurrent_writes as usize)),
            exports: Arc::new(Semaphore::new(limits.concurrent_exports as usize)),
            tasks: Arc::new(Semaphore::new(1)),
            figures: Arc::new(Semaphore::new(1)),
            surveys: Arc::new(Semaphore::new(1)),
            changes: Arc::new(Semaphore::new(limits.waiting_changes as usize)),
        }
    }

    /// False if there is one already.
    pub(crate) fn set(&self, engine: Engine) -> bool {
        self.engine.set(engine).is_ok()
    }

    pub(crate) fn opened(&self) -> Option<&Engine> {
        self.engine.get()
    }

    fn engine(&self) -> Result<Engine, ApiError> {
        let starting = || ApiError::unavailable("the store is being opened, try again", RETRY_AFTER);
        self.engine.get().cloned().ok_or_else(starting)
    }
}

impl ServerState {
    /// Runs a query, or another call that only reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &QueryControl) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let permit = self.turn(&store.queries, "concurrent_queries").await?;
        self.controlled(engine, permit, self.shared.options.limits.query_time.0, work).await
    }

    /// Measures the store for who looks after it, one survey at a time and for at most [`SURVEY_TIME`]. Surveys wait for each
    /// other for at most `queue_time` and take no turn of a query, nor do queries of theirs.
    pub(crate) async fn survey<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &QueryControl) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let wait = self.shared.options.limits.queue_time.0;
        let Ok(permit) = tokio::time::timeout(wait, store.surveys.clone().acquire_owned()).await else {
            let message = "the store is being measured for others, try again";
            return Err(ApiError::unavailable(message, RETRY_AFTER).at_limit("surveys"));
        };
        let time = SURVEY_TIME.min(self.shared.options.limits.query_time.0);
        self.controlled(engine, permit.map_err(|_| closed())?, time, work).await
    }

    /// Runs what ends soon after `time`, or after its client went away.
    async fn controlled<T: Send + 'static>(
        &self,
        engine: Engine,
        permit: OwnedSemaphorePermit,
        time: Duration,
        work: impl FnOnce(&Engine, &QueryControl) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let cancel = CancelFlag::default();
        let _cancel = CancelOnDrop(cancel.clone());
        let memory = self.shared.query_memory.charge();
        let control = QueryControl { deadline: Some(Instant::now() + time), cancel, memory };
        self.off_thread(permit, move || work(&engine, &control)).await
    }

    /// Runs a query that `/metrics` and the list of slow queries tell of: its time from its turn on, its text in the URL,
    /// and the statistics that `work` notes, however it ends.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        endpoint: &'static str,
        text: String,
        work: impl FnOnce(&Engine, &QueryControl, &mut Watched) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let state = self.clone();
        self.read(move |engine, control| {
            let begun = Instant::now();
            let mut watched = state.shared.queries.begin(endpoint, &text, state.shared.clock.wall());
            let result = work(engine, control, &mut watched);
            let scanned = watched.stats.map_or(0, |stats| stats.points_scanned);
            watched.error = result.as_ref().err().map(|error| error.message.clone());
            let took = begun.elapsed();
            state.shared.metrics.query(endpoint, took, scanned);
            state.shared.query_times.note(took);
            result
        })
        .await
    }

    /// Begins long reading whose rows go out while it goes on, at most `concurrent_exports` at a time and without a time
    /// limit: it ends when what is given back is dropped. `work` tells its client by itself how it ended.
    pub(crate) async fn stream(
        &self,
        endpoint: &'static str,
        text: String,
        work: impl FnOnce(&Engine, &QueryControl, &mut Watched) + Send + 'static,
    ) -> Result<CancelOnDrop, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let permit = self.turn(&store.exports, "concurrent_exports").await?;
        let cancel = CancelFlag::default();
        let memory = self.shared.query_memory.charge();
        let control = QueryControl { deadline: None, cancel: cancel.clone(), memory };
        let state = self.clone();
        tokio::spawn(async move {
            let shared = state.clone();
            let done = state.off_thread(permit, move || {
                let begun = Instant::now();
                let mut watched = shared.shared.queries.begin(endpoint, &text, shared.shared.clock.wall());
                work(&engine, &control, &mut watched);
                let scanned = watched.stats.map_or(0, |stats| stats.points_scanned);
                shared.shared.metrics.query(endpoint, begun.elapsed(), scanned);
                Ok(())
            });
            // A panic is counted and logged; the client finds its channel closed.
            let _ = done.await;
        });
        Ok(CancelOnDrop(cancel))
    }

    /// Reads figures of the store for a probe, whatever else is going on; none before it is open. Probes wait for each
    /// other and never for queries, so an overloaded store can still be seen to be one.
    pub(crate) async fn figures<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let store = &self.shared.store;
        let engine = store.engine().ok()?;
        let permit = store.figures.clone().acquire_owned().await.ok()?;
        self.off_thread(permit, move || Ok(work(&engine))).await.ok()
    }

    /// Stores a body.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let permit = self.turn(&store.writes, "concurrent_writes").await?;
        self.off_thread(permit, move || work(&engine)).await
    }

    /// Does long work, one at a time; who does not get a turn within `queue_time` is refused.
    pub(crate) async fn long_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let wait = self.shared.options.limits.queue_time.0;
        let Ok(permit) = tokio::time::timeout(wait, store.tasks.clone().acquire_owned()).await else {
            let message = "other long work is going on, try again when it is done";
            return Err(ApiError::unavailable(message, LONG_WORK_RETRY).at_limit("long_work"));
        };
        self.off_thread(permit.map_err(|_| closed())?, move || work(&engine)).await
    }

    /// Waits for changes, for at most `wait` and half of `request_time`. Soon after its client went away or the server was
    /// told to stop it ends.
    pub(crate) async fn follow(
        &self,
        request: ChangeRequest,
        start: ChangeStart,
        wait: Duration,
    ) -> Result<Changes, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let permit = Arc::new(self.turn(&store.changes, "waiting_changes").await?);
        let _waiting = Waiting::new(self);
        let cancel = CancelFlag::default();
        let _cancel = CancelOnDrop(cancel.clone());
        let deadline = Instant::now() + wait.min(self.shared.options.limits.request_time.0 / 2);
        let begin = move || Ok(engine.changes(request, start)?);
        let mut reader = self.off_thread(permit.clone(), begin).await?;
        loop {
            let slice = deadline.saturating_duration_since(Instant::now()).min(CHANGES_SLICE);
            let cancel = cancel.clone();
            let look = move || {
                let told = reader.next(slice, &cancel);
                Ok((reader, told))
            };
            let (same, told) = self.off_thread(permit.clone(), look).await?;
            reader = same;
            let over = Instant::now() >= deadline || self.shared.stopping.load(Ordering::Relaxed);
            if !told.events.is_empty() || over {
                return Ok(told);
            }
            if told.closed {
                return Err(closed());
            }
        }
    }

    async fn turn(
        &self,
        queue: &Arc<Semaphore>,
        limit: &'static str,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let wait = self.shared.options.limits.queue_time.0;
        match tokio::time::timeout(wait, queue.clone().acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| closed()),
            Err(_) => {
                let message = format!("server.limits.{limit} is reached, try again");
                Err(ApiError::unavailable(message, RETRY_AFTER).at_limit(limit))
            }
        }
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        permit: impl Send + 'static,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|error| Err(self.work_failed(&error)))
    }

    fn work_failed(&self, error: &JoinError) -> ApiError {
        if error.is_panic() {
            self.shared.metrics.panics.inc();
            tracing::error!("a call of the store panicked: please report this");
            return ApiError::internal("the request met a bug; the log has this request id");
        }
        closed()
    }
}

fn closed() -> ApiError {
    ApiError::unavailable("the server is stopping", RETRY_AFTER)
}

/// When to ask again what took too long: the machine may be less busy by then.
const TIMED_OUT_RETRY: Duration = Duration::from_secs(5);
/// When to come back to a disk that is full: someone has to make room.
const DISK_FULL_RETRY: Duration = Duration::from_secs(30);

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::DatabaseNotFound(_) => Self::not_found(text),
            // 500 is what the 1.x server says, and what its clients expect.
            WriteError::RetentionPolicyNotFound(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not found", text)
            }
            WriteError::InvalidName(_) | WriteError::RetentionTooShort { .. } => Self::bad_request(text),
            WriteError::TooLarge { .. } => Self::too_large("record", text),
            WriteError::TooScattered { .. } => Self::too_large("series_days", text),
            WriteError::Overloaded { retry_after } => {
                Self::unavailable(text, retry_after).at_limit("engine_queue")
            }
            WriteError::TooManyDeletes { .. } => Self::unavailable(text, DISK_FULL_RETRY).at_limit("deletes"),
            WriteError::TooManyRetentions { .. } => Self::beyond("retentions", text),
            WriteError::DiskFull(_) => Self::no_room(text, DISK_FULL_RETRY),
            WriteError::ReadOnly(_) => Self::unavailable(text, DISK_FULL_RETRY),
            WriteError::Closed => closed(),
            _ => Self::internal(text),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::DatabaseNotFound(_) | QueryError::RetentionPolicyNotFound(_) => Self::not_found(text),
            QueryError::TimedOut => Self {
                code: "query timed out",
                ..Self::unavailable(text, TIMED_OUT_RETRY).at_limit("query_time")
            },
            // The client that went away does not see it.
            QueryError::Cancelled | QueryError::NoResources(_) => Self::unavailable(text, RETRY_AFTER),
            QueryError::TooManySeries { .. } => Self::beyond("query_series", text),
            QueryError::TooManyBuckets { .. } => Self::beyond("query_buckets", text),
            QueryError::TooManyPoints { .. } => Self::beyond("query_points", text),
            QueryError::TooMuchScanned { .. } => Self::beyond("query_scanned", text),
            QueryError::TooManyBytes { .. } => Self::beyond("query_bytes", text),
            QueryError::MemoryTaken { .. } => {
                Self::unavailable(text, RETRY_AFTER).at_limit("queries_in_memory")
            }
            QueryError::Catalog(_) | QueryError::Damaged(_) => Self::internal(text),
            _ => Self::bad_request(text),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Closed => closed(),
            other => Self::internal(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::AnswerWatch;
    use crate::budget::Peer;
    use crate::error::Dialect;
    use crate::{BuildInfo, ServerOptions};
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::mpsc;
    use wattlog_engine::io::sim::SimDisk;
    use wattlog_model::{ManualClock, Timestamp};

    fn state(change: impl FnOnce(&mut Limits)) -> ServerState {
        let mut options = ServerOptions::default();
        change(&mut options.limits);
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let build = BuildInfo { version: "0".into(), commit: "0".into() };
        let state = ServerState::new(options, build, clock.clone()).unwrap();
        let options = wattlog_engine::Options::default();
        assert!(state.set_engine(Engine::open(Arc::new(SimDisk::new(1)), options, clock, [1; 16]).unwrap()));
        state
    }

    #[tokio::test]
    async fn figures_and_surveys_are_read_while_every_query_has_to_wait() {
        let state = state(|limits| {
            limits.concurrent_queries = 1;
            limits.queue_time = crate::Span::millis(10);
        });
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let busy = state.clone();
        let busy = tokio::spawn(async move {
            busy.read(move |_, _| {
                begun.send(()).unwrap();
                Ok(ended.recv().is_ok())
            })
            .await
        });
        has_begun.await.unwrap();
        let error = state.read(|_, _| Ok(())).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.limit), (503, Some("concurrent_queries")));
        assert!(error.retry_after.is_some());
        assert_eq!(state.figures(|engine| engine.storage().series).await, Some(0));
        let controlled = |control: &QueryControl| {
            control.deadline.is_some_and(|deadline| deadline <= Instant::now() + SURVEY_TIME)
        };
        assert!(state.survey(move |_, control| Ok(controlled(control))).await.unwrap());
        let _survey = state.shared.store.surveys.clone().acquire_owned().await.unwrap();
        let error = state.survey(|_, _| Ok(())).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.limit), (503, Some("surveys")));
        end.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_query_out_of_time_may_be_asked_again_and_is_observed() {
        let state = state(|_| {});
        let failed = state
            .query("query", "start=-1h".into(), |_, _, _| Err::<(), _>(QueryError::TimedOut.into()))
            .await;
        let error = failed.unwrap_err();
        assert_eq!((error.status.as_u16(), error.limit), (503, Some("query_time")));
        let response = error.render(Dialect::Own, "id");
        assert!(response.headers().contains_key(axum::http::header::RETRY_AFTER));
        assert_eq!(state.shared.queries.running().len(), 0);
        let mut text = String::new();
        state.shared.metrics.encode(&mut text);
        assert!(text.contains("wattlog_query_duration_seconds_count{endpoint=\"query\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn long_work_is_done_one_at_a_time_and_the_second_hears_so() {
        let state = state(|limits| limits.queue_time = crate::Span::millis(10));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let busy = state.clone();
        let busy = tokio::spawn(async move {
            busy.long_work(move |_| {
                begun.send(()).unwrap();
                Ok(ended.recv().is_ok())
            })
            .await
        });
        has_begun.await.unwrap();
        let error = state.long_work(|_| Ok(())).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.limit), (503, Some("long_work")));
        end.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
        state.long_work(|_| Ok(())).await.unwrap();
    }

    #[test]
    fn an_answer_stops_growing_when_its_time_is_over_or_its_client_is_gone() {
        let state = state(|_| {});
        let peer = Peer(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let over = QueryControl { deadline: Some(Instant::now()), ..QueryControl::default() };
        let error = AnswerWatch::new(&state, peer, &over).look(&Vec::new()).unwrap_err();
        assert_eq!(error.limit, Some("query_time"));
        let gone = QueryControl::default();
        gone.cancel.cancel();
        assert!(AnswerWatch::new(&state, peer, &gone).look(&Vec::new()).is_err());
    }
}
