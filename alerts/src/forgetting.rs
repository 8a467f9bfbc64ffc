//! Old events and deliveries go, in small steps.
//!
//! Promise: an episode goes whole, at the earliest `keep` after its end, and never while one of its deliveries is still to be sent
//! (`ledger`: `forget_alerts`). By a clock that is not proven nothing goes: the wall clock must have run for a day without a
//! step, as retention asks of it. A reload does not begin that day anew; a start of the program does.

use crate::status::Status;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_ledger::{Actor, Ledger, LedgerError};
use wattlog_model::{Clock, Interval, Timestamp};

/// Between two looks at what is old.
const LOOK: Duration = Duration::from_secs(3600);
/// Episodes of one transaction.
const STEP: usize = 100;
/// Transactions of one look; what is left waits for the next.
const MAX_STEPS: usize = 50;
/// Between two transactions, so that others can write.
const REST: Duration = Duration::from_millis(50);
/// How long the wall clock must have run without a step.
const PROOF: Duration = Duration::from_secs(24 * 3600);
/// By how much it may drift meanwhile.
const DRIFT_NS: i64 = 60_000_000_000;

/// Wall and monotonic time since when the two go together; one for all alerts of a process, so that a reload does not begin it anew.
pub(crate) type Steady = Arc<Mutex<Option<(Timestamp, Duration)>>>;

/// Takes away what is old.
#[derive(Debug)]
pub(crate) struct Forgetting {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: Arc<Status>,
    pub(crate) keep: Interval,
    pub(crate) steady: Steady,
}

impl Forgetting {
    /// Looks again and again until it is over.
    pub(crate) async fn run(mut self, over: CancellationToken) {
        let mut may_warn = true;
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                done = self.look() => match done {
                    Ok(_) => may_warn = true,
                    Err(error) => {
                        if std::mem::take(&mut may_warn) {
                            tracing::warn!(%error, "old alerts could not be taken away; tried again each hour");
                        }
                    }
                },
            }
            tokio::select! {
                () = over.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Takes away what is old now; gives the number of events. What was taken away before an error stays so.
    pub(crate) async fn look(&mut self) -> Result<u64, LedgerError> {
        let Some(now) = self.proven() else { return Ok(0) };
        let before = Timestamp(now.0.saturating_sub(self.keep.ns()));
        let mut events = 0;
        for _ in 0..MAX_STEPS {
            let done = self.ledger.forget_alerts(before, STEP, &Actor::new("alerts")).await?;
            self.status.forgot(done.events);
            events += done.events;
            if done.episodes < STEP {
                break;
            }
            tokio::time::sleep(REST).await;
        }
        if events > 0 {
            tracing::info!(events, keep = %self.keep, "old alerts were taken away");
        }
        Ok(events)
    }

    /// The wall clock, if it can be believed.
    fn proven(&self) -> Option<Timestamp> {
        let (wall, monotonic) = (self.clock.wall(), self.clock.monotonic());
        let mut steady = self.steady.lock();
        let (since, begun) = *steady.get_or_insert((wall, monotonic));
        let ran = monotonic.saturating_sub(begun);
        let off = i128::from(wall.0) - i128::from(since.0) - ran.as_nanos().cast_signed();
        if off.unsigned_abs() > u128::from(DRIFT_NS.unsigned_abs()) {
            *steady = Some((wall, monotonic));
            return None;
        }
        (ran >= PROOF).then_some(wall)
    }
}
