//! What the scorecard is made of: a sample of stored points measured against the same points as JSON, how many points are
//! missing or faulty, and figures of the store.
//!
//! Promise: one measurement at a time, bounded in rows, values, bytes and time; its result is kept for some minutes, a
//! reason for one, and so is that a polled device was never heard. What cannot be measured has a reason in place of a number.

mod figures;
mod judged;
mod sample;

pub(crate) use figures::{Asked, Figures, Share, YEAR_NS};
pub(crate) use judged::Judged;
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

/// What is measured together and kept for a while; in place of each, why there is none.
#[derive(Debug)]
pub(crate) struct Taken {
    /// When, by the monotonic clock.
    at: Duration,
    pub(crate) sample: Result<Sample, String>,
    pub(crate) judged: Result<Judged, String>,
}

impl Taken {
    fn is_measured(&self) -> bool {
        let is_judged = |judged: &Judged| judged.accuracy().is_ok() && judged.unheard == 0;
        self.sample.is_ok() && self.judged.as_ref().is_ok_and(is_judged)
    }
}

/// What was measured last. Who holds it measures.
#[derive(Debug, Default)]
pub(crate) struct Samples(Arc<Mutex<Option<Arc<Taken>>>>);

impl ServerState {
    /// The sample and the accuracy; measured now if those there are have become too old.
    pub(crate) async fn sample(&self, asked: &Asked) -> Result<Arc<Taken>, ApiError> {
        let mut kept = self.shared.samples.0.clone().lock_owned().await;
        let now = self.uptime();
        if let Some(taken) = &*kept {
            let age = if taken.is_measured() { SAMPLE_AGE } else { REASON_AGE };
            if now.saturating_sub(taken.at) < age {
                return Ok(Arc::clone(taken));
            }
        }
        let (home, asked) = (self.shared.bucket_zone.clone(), asked.clone());
        // The place is held by the work itself: a client that goes away makes no room for a second one.
        self.survey(move |engine, control| {
            let taken = Arc::new(Taken {
                at: now,
                sample: sample::take(engine, &asked.database, control, asked.now),
                judged: Judged::of(engine, &asked, &home, control),
            });
            // That a client went away is no reason for the next one.
            if taken.is_measured() || !control.cancel.is_cancelled() {
                *kept = Some(Arc::clone(&taken));
            }
            Ok(taken)
        })
        .await
    }
}
