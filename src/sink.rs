//! Where collector and engine meet: points in, one batch, one record.
//!
//! Promise: "stored" means what the database's durability says; a refusal that may pass is told as such, so that the
//! collector keeps its points; a point that can never be stored is named and not offered again.

use std::sync::Arc;
use wattlog_collector::{BoxFuture, Sink, SinkError};
use wattlog_engine::{Engine, WriteBatch, WriteError};
use wattlog_model::{Clock, FieldMeaning, Point};

/// The engine as the collector sees it.
pub(crate) struct EngineSink {
    engine: Engine,
    database: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl EngineSink {
    pub(crate) fn new(engine: Engine, database: &str, clock: Arc<dyn Clock>) -> Self {
        Self { engine, database: database.into(), clock }
    }
}

impl Sink for EngineSink {
    fn store(&self, points: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>> {
        let (engine, database) = (self.engine.clone(), self.database.clone());
        let received = self.clock.wall().truncated_to_millis();
        Box::pin(off_the_loop(move || {
            let mut batch = WriteBatch::new(&database, None);
            for (index, point) in points.iter().enumerate() {
                batch.push(point, received, index as u32);
            }
            let total = points.len() as u64;
            let receipt = engine.write(batch).map_err(|error| refusal(&error, total))?;
            match receipt.rejected.as_slice() {
                [] => Ok(()),
                [first, ..] => Err(SinkError::Rejected {
                    points: receipt.rejected.len() as u64,
                    reason: first.reason.to_string(),
                }),
            }
        }))
    }

    fn describe<'a>(
        &'a self,
        measurement: &'a str,
        fields: Vec<FieldMeaning>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        let (engine, database, measurement) =
            (self.engine.clone(), self.database.clone(), measurement.to_owned());
        Box::pin(off_the_loop(move || {
            // Told after the points were stored; a field that is not there was rejected with its points.
            let told = engine.describe_fields(&database, &measurement, &fields);
            told.map(|_missing| ()).map_err(|error| refusal(&error, 0))
        }))
    }
}

/// Engine calls wait for the disk, so they never run on a thread of the event loop.
async fn off_the_loop(
    work: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<(), SinkError> {
    // The one way to fail here is the runtime going down around us: the points are offered again or lost with it.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SinkError::Refused { retry_after: None }))
}

/// What a failed write means for `points` points of the collector.
fn refusal(error: &WriteError, points: u64) -> SinkError {
    match error {
        WriteError::Overloaded { retry_after } => SinkError::Refused { retry_after: Some(*retry_after) },
        // Never, whatever is tried again.
        WriteError::TooLarge { .. } | WriteError::InvalidName(_) => {
            SinkError::Rejected { points, reason: error.to_string() }
        }
        // A full disk, a dying one, a store that is closing. Writing the same values again is harmless, so "outcome
        // unknown" counts as not stored.
        _ => SinkError::Refused { retry_after: None },
    }
}
