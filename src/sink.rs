//! Where collector and engine meet: points in, one batch, one record.
//!
//! Promise: "stored" means what the database's durability says; a refusal that may pass is told as such, so that the
//! collector keeps its points; a point that can never be stored is named and not offered again. What was stored is
//! counted where everything that came in is.

use std::sync::Arc;
use wattlog_collector::{BoxFuture, Sink, SinkError};
use wattlog_engine::{Engine, WriteBatch, WriteError};
use wattlog_model::{Clock, FieldMeaning, Point};

/// The engine as the collector sees it.
pub(crate) struct EngineSink {
    engine: Engine,
    database: Arc<str>,
    clock: Arc<dyn Clock>,
    count_stored: Arc<CountStored>,
}

/// Told how many points of a batch were stored.
pub(crate) type CountStored = dyn Fn(u64) + Send + Sync;

impl EngineSink {
    pub(crate) fn new(
        engine: Engine,
        database: &str,
        clock: Arc<dyn Clock>,
        count_stored: Arc<CountStored>,
    ) -> Self {
        Self { engine, database: database.into(), clock, count_stored }
    }
}

impl Sink for EngineSink {
    fn store(&self, points: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>> {
        let (engine, database) = (self.engine.clone(), self.database.clone());
        let count_stored = Arc::clone(&self.count_stored);
        let received = self.clock.wall().truncated_to_millis();
        Box::pin(off_the_loop(move || {
            let mut batch = WriteBatch::new(&database, None);
            for (index, point) in points.iter().enumerate() {
                batch.push(point, received, index as u32);
            }
            let receipt = engine.write(batch).map_err(|error| refusal(&error, points.len()))?;
            // A point of which two fields were refused is one point.
            let mut rejected: Vec<usize> = receipt.rejected.iter().map(|row| row.line as usize).collect();
            rejected.sort_unstable();
            rejected.dedup();
            count_stored(points.len().saturating_sub(rejected.len()) as u64);
            match receipt.rejected.first() {
                None => Ok(()),
                Some(first) => {
                    Err(SinkError::Rejected { points: rejected, reason: first.reason.to_string() })
                }
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
    let over = |error: tokio::task::JoinError| {
        Err(SinkError::Refused { retry_after: None, reason: error.to_string() })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(over)
}

/// What a failed write means for a batch of `count` points.
fn refusal(error: &WriteError, count: usize) -> SinkError {
    let reason = error.to_string();
    match error {
        WriteError::Overloaded { retry_after } => {
            SinkError::Refused { retry_after: Some(*retry_after), reason }
        }
        // Never, whatever is tried again.
        WriteError::TooLarge { .. } | WriteError::TooScattered { .. } | WriteError::InvalidName(_) => {
            SinkError::Rejected { points: (0..count).collect(), reason }
        }
        // A full disk, a dying one, a store that is closing, a database that somebody has to create. Writing the same
        // values again is harmless, so "outcome unknown" counts as not stored.
        _ => SinkError::Refused { retry_after: None, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_kept_while_somebody_can_help_and_given_up_otherwise() {
        for kept in [
            WriteError::DatabaseNotFound("wattlog".into()),
            WriteError::Overloaded { retry_after: std::time::Duration::from_secs(1) },
            WriteError::DiskFull("no space".into()),
            WriteError::OutcomeUnknown("sync".into()),
            WriteError::ReadOnly("sync".into()),
            WriteError::Closed,
        ] {
            assert!(matches!(refusal(&kept, 3), SinkError::Refused { .. }), "{kept}");
        }
        let lost = refusal(&WriteError::TooLarge { len: 9, limit: 8 }, 3);
        assert!(matches!(&lost, SinkError::Rejected { points, .. } if *points == [0, 1, 2]), "{lost}");
    }
}
