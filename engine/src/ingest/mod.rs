//! The one door for writes: resolve and encode on the caller's thread, order and sync on the writer's.
//!
//! Promise: `Ingest::write` returns `Ok` only when the body is as durable as its namespace asks; a full queue means
//! wait, then refuse with a hint; nothing is dropped in silence.
//!
//! Threads: callers; the writer (see `writer`). Not here: bytes of the log (`wal`), what a query sees (`snapshot`).

mod batch;
mod delete;
mod names;
pub(crate) mod payload;
mod prepare;
mod reject;
mod repeated;
pub(crate) mod writer;

pub use batch::{Row, SeriesSlot, WriteBatch};
pub use delete::{DeleteError, DeleteReceipt, DeleteRequest};
pub use reject::{RejectReason, Rejection};
pub use repeated::RepeatedRow;

use crate::engine::{DEFAULT_POLICY, Shared};
use crate::error::{EngineError, WriteError};
use crate::feed::Cursor;
use crate::ids::{MeasurementId, NamespaceId};
use crate::seal::{self, SealReport};
use crossbeam_channel::{RecvError, SendTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use prepare::Rules;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use wattlog_model::{FieldMeaning, MAX_KEY_LEN_BYTES};
use writer::{Answer, Request, Writer, WriterStart};

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteReceipt {
    /// Its place in the commit order; that of the store if no row was stored.
    pub cursor: Cursor,
    /// Rows stored.
    pub points: u64,
    /// Values stored.
    pub values: u64,
    /// Rows refused, in no particular order.
    pub rejected: Vec<Rejection>,
}

/// The way to the writer thread.
#[derive(Debug)]
pub(crate) struct Ingest {
    requests: Sender<Request>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Ingest {
    /// Starts the writer and the sealer.
    pub(crate) fn start(shared: &Arc<Shared>, start: WriterStart) -> Self {
        let (requests, queue) = bounded(shared.options.queue_len.max(1));
        // The writer freezes no more than `max_frozen` beyond the one being sealed.
        let (jobs, job_queue) = unbounded();
        let (news, news_queue) = unbounded();
        let writer = Writer::new(shared.clone(), queue, news_queue, jobs, start);
        let sealing = shared.clone();
        let threads = vec![
            spawn("wattlog-writer", move || writer.run()),
            spawn("wattlog-sealer", move || seal::run(&sealing, &job_queue, &news)),
        ];
        Self { requests, threads: Mutex::new(threads) }
    }

    pub(crate) fn write(&self, shared: &Shared, batch: WriteBatch) -> Result<WriteReceipt, WriteError> {
        let namespace = self.namespace(shared, batch.database(), batch.policy.as_deref())?;
        let now = shared.clock.wall();
        let retentions = shared.view().retentions.clone();
        let rules = Rules { max_series: shared.options.max_series, retentions: &retentions, now };
        let prepared = prepare::prepare(&shared.catalog, namespace, batch, rules)
            .map_err(|error| WriteError::Disk(error.to_string()))?;
        if prepared.batches.is_empty() {
            shared.metrics.rejected_points.add(prepared.rejections.len() as u64);
            let cursor = shared.published();
            return Ok(WriteReceipt { cursor, points: 0, values: 0, rejected: prepared.rejections });
        }
        if prepare::is_scattered(&prepared.batches) {
            return Err(WriteError::TooScattered { limit: prepare::MAX_SERIES_DAYS });
        }
        let durability = shared.durability(namespace);
        let (reply, answer) = bounded(1);
        self.send(shared, Request::Write { prepared: Box::new(prepared), durability, reply })?;
        match answer.recv() {
            Ok(Answer::Stored(stored)) => Ok(WriteReceipt {
                cursor: stored.cursor,
                points: stored.points,
                values: stored.values,
                rejected: stored.rejections,
            }),
            Ok(Answer::Failed(error)) => Err(error),
            Err(RecvError) => Err(WriteError::Closed),
        }
    }

    pub(crate) fn create_database(&self, shared: &Shared, name: &str) -> Result<bool, WriteError> {
        if shared.catalog.namespace(name, None).is_some() {
            return Ok(false);
        }
        self.create_namespace(shared, name, DEFAULT_POLICY).map(|_| true)
    }

    pub(crate) fn create_policy(
        &self,
        shared: &Shared,
        name: &str,
        policy: &str,
    ) -> Result<bool, WriteError> {
        let created = self.create_database(shared, name)?;
        if shared.catalog.namespace(name, Some(policy)).is_some() {
            return Ok(created);
        }
        self.create_namespace(shared, name, policy).map(|_| true)
    }

    /// The id of a measurement, given durably now if it has none.
    pub(crate) fn create_measurement(
        &self,
        shared: &Shared,
        namespace: NamespaceId,
        name: &str,
    ) -> Result<MeasurementId, WriteError> {
        if let Some(id) = shared.catalog.measurement(namespace, name) {
            return Ok(id);
        }
        if name.is_empty() || name.len() > MAX_KEY_LEN_BYTES {
            let why = format!("a measurement name has 1 to {MAX_KEY_LEN_BYTES} bytes");
            return Err(WriteError::InvalidName(why));
        }
        let (reply, answer) = bounded(1);
        self.send(shared, Request::Measurement { namespace, name: name.into(), reply })?;
        answer.recv().unwrap_or(Err(WriteError::Closed))
    }

    /// Gives back the names of fields that do not exist yet.
    pub(crate) fn describe_fields(
        &self,
        shared: &Shared,
        database: &str,
        measurement: &str,
        fields: &[FieldMeaning],
    ) -> Result<Vec<String>, WriteError> {
        let catalog = &shared.catalog;
        let measurement =
            catalog.namespace(database, None).and_then(|ns| catalog.measurement(ns, measurement));
        let (mut meanings, mut unknown) = (Vec::new(), Vec::new());
        for told in fields {
            match measurement.and_then(|id| catalog.field(id, &told.field)) {
                Some(field) if field.unit != told.unit || field.kind != told.kind => {
                    meanings.push((field.id, told.unit.clone(), told.kind));
                }
                Some(_) => {}
                None => unknown.push(told.field.clone()),
            }
        }
        if !meanings.is_empty() {
            let (reply, answer) = bounded(1);
            self.send(shared, Request::Meanings { meanings, reply })?;
            answer.recv().unwrap_or(Err(WriteError::Closed))?;
        }
        Ok(unknown)
    }

    /// True if the writer thread goes round within `patience`, of two seconds at least: idle, it does so every second.
    pub(crate) fn ping(&self, shared: &Shared, patience: Duration) -> bool {
        let before = shared.status.beats();
        let step = Duration::from_millis(20);
        let patience = patience.max(Duration::from_secs(2));
        (0..patience.as_millis() / step.as_millis()).any(|_| {
            std::thread::sleep(step);
            shared.status.beats() != before
        })
    }

    pub(crate) fn seal(&self) -> Result<SealReport, EngineError> {
        let (reply, answer) = bounded(1);
        self.requests.send(Request::Seal(reply)).map_err(|_| EngineError::Closed)?;
        answer.recv().unwrap_or(Err(EngineError::Closed))
    }

    pub(crate) fn close(&self, shared: &Shared) -> Result<(), EngineError> {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return Ok(());
        }
        shared.status.set_closing();
        let (reply, answer) = bounded(1);
        let result = match self.requests.send(Request::Close(reply)) {
            Ok(()) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            Err(_) => Err(EngineError::Closed),
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in a panic");
            }
        }
        result
    }

    fn namespace(
        &self,
        shared: &Shared,
        database: &str,
        policy: Option<&str>,
    ) -> Result<NamespaceId, WriteError> {
        if let Some(id) = shared.catalog.namespace(database, policy) {
            return Ok(id);
        }
        let known = shared.catalog.namespace(database, None).is_some();
        match policy {
            Some(policy) if known => Err(WriteError::RetentionPolicyNotFound(policy.to_owned())),
            Some(policy) if policy != DEFAULT_POLICY => {
                Err(WriteError::DatabaseNotFound(database.to_owned()))
            }
            _ if !shared.options.auto_create_databases => {
                Err(WriteError::DatabaseNotFound(database.to_owned()))
            }
            _ => self.create_namespace(shared, database, DEFAULT_POLICY),
        }
    }

    fn create_namespace(
        &self,
        shared: &Shared,
        database: &str,
        policy: &str,
    ) -> Result<NamespaceId, WriteError> {
        for name in [database, policy] {
            if name.is_empty()
                || name.len() > MAX_KEY_LEN_BYTES.min(255)
                || name.chars().any(char::is_control)
            {
                let why = "a database or policy name has 1 to 255 bytes and no control characters";
                return Err(WriteError::InvalidName(why.to_owned()));
            }
        }
        let (reply, answer) = bounded(1);
        let (database, policy) = (database.to_owned(), policy.to_owned());
        self.send(shared, Request::Namespace { database, policy, reply })?;
        answer.recv().unwrap_or(Err(WriteError::Closed))
    }

    fn send(&self, shared: &Shared, request: Request) -> Result<(), WriteError> {
        self.requests.send_timeout(request, shared.options.queue_wait).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => {
                shared.metrics.overloaded.add(1);
                WriteError::Overloaded { retry_after: Duration::from_secs(1) }
            }
            SendTimeoutError::Disconnected(_) => WriteError::Closed,
        })
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system gives a thread at start")
}
