//! The one bridge from async to the engine's threads.
//!
//! Promise: engine calls run off the async threads, at most `concurrent_queries` and `concurrent_writes` of them at a
//! time; who does not get a turn within `queue_time` hears 503 with a time to come back; a query ends soon after its
//! client went away or its time is over.
//!
//! Invariant: the permit of a call lives on the engine's side, so that a call whose client has gone still counts.

use crate::error::ApiError;
use crate::options::Limits;
use crate::state::ServerState;
use axum::http::StatusCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use wattlog_engine::query::{CancelFlag, QueryControl, QueryError};
use wattlog_engine::{Engine, EngineError, WriteError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    engine: OnceLock<Engine>,
    queries: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    tasks: Arc<Semaphore>,
}

/// When a client may come back to a server that is at its limit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Sets the flag when the request's future goes away before its answer.
struct CancelOnDrop(CancelFlag);

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
            tasks: Arc::new(Semaphore::new(1)),
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
        let cancel = CancelFlag::default();
        let _cancel = CancelOnDrop(cancel.clone());
        let deadline = Instant::now() + self.shared.options.limits.query_time.0;
        let control = QueryControl { deadline: Some(deadline), cancel };
        self.off_thread(permit, move || work(&engine, &control)).await
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

    /// Does long work, one at a time.
    pub(crate) async fn long_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = &self.shared.store;
        let engine = store.engine()?;
        let permit = store.tasks.clone().acquire_owned().await.map_err(|_| closed())?;
        self.off_thread(permit, move || work(&engine)).await
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
                self.shared.metrics.limit_reached(limit);
                Err(ApiError::unavailable(
                    format!("server.limits.{limit} is reached, try again"),
                    RETRY_AFTER,
                ))
            }
        }
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
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
            WriteError::InvalidName(_) => Self::bad_request(text),
            WriteError::TooLarge { .. } => Self::too_large(text),
            WriteError::Overloaded { retry_after } => Self::unavailable(text, retry_after),
            WriteError::DiskFull(_) => Self::unavailable(text, DISK_FULL_RETRY),
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
            QueryError::TimedOut => Self::new(StatusCode::SERVICE_UNAVAILABLE, "query timed out", text),
            // The client that went away does not see it.
            QueryError::Cancelled | QueryError::NoResources(_) => Self::unavailable(text, RETRY_AFTER),
            QueryError::TooManySeries { .. }
            | QueryError::TooManyBuckets { .. }
            | QueryError::TooManyPoints { .. }
            | QueryError::TooMuchScanned { .. }
            | QueryError::TooManyBytes { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "limit exceeded", text)
            }
            QueryError::Catalog(_) => Self::internal(text),
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
