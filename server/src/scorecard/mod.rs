//! What the scorecard is made of: a sample of stored points measured against the same points as JSON, and figures of the store.
//!
//! Promise: one measurement at a time, bounded in rows, values, bytes and time; its result is kept for some minutes, a
//! reason for one. What cannot be measured has a reason in place of a number.

mod figures;
mod sample;

pub(crate) use figures::{Asked, Figures, Share, YEAR_NS};
pub(crate) use sample::Sample;

use crate::error::ApiError;
use crate::state::ServerState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// For how long a sample is good.
pub(crate) const SAMPLE_AGE: Duration = Duration::from_secs(300);

/// For how long the reason is good why there is none.
const REASON_AGE: Duration = Duration::from_secs(60);

type Taken = Result<Arc<Sample>, String>;

/// The last sample, or why there is none, and when that was by the monotonic clock. Who holds it measures.
#[derive(Debug, Default)]
pub(crate) struct Samples(Arc<Mutex<Option<(Duration, Taken)>>>);

impl ServerState {
    /// The sample; measured now if the last one is too old. The inner error is why there is none.
    pub(crate) async fn sample(&self) -> Result<Taken, ApiError> {
        let mut kept = self.shared.samples.0.clone().lock_owned().await;
        let now = self.uptime();
        if let Some((measured, taken)) = &*kept {
            let age = if taken.is_ok() { SAMPLE_AGE } else { REASON_AGE };
            if now.saturating_sub(*measured) < age {
                return Ok(taken.clone());
            }
        }
        let (state, wall) = (self.clone(), self.shared.clock.wall());
        // The place is held by the work itself: a client that goes away makes no room for a second one.
        self.survey(move |engine, control| {
            let database = &state.shared.options.default_database;
            let taken = sample::take(engine, database, control, wall).map(Arc::new);
            // That a client went away is no reason for the next one.
            if taken.is_ok() || !control.cancel.is_cancelled() {
                *kept = Some((now, taken.clone()));
            }
            Ok(taken)
        })
        .await
    }
}
