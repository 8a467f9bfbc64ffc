//! What the server tells of alerts, from those that run at the moment.

use parking_lot::RwLock;
use wattlog_alerts::{AlertsHandle, StatusReport};
use wattlog_server::{AlertChannel, AlertTrouble, AlertsProvider, AlertsStatus, FiringAlert};

/// The alerts' status; after a reload they count on.
#[derive(Debug, Default)]
pub(crate) struct Alerting(RwLock<Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// The last that ran.
    handle: Option<AlertsHandle>,
    is_running: bool,
}

impl Alerting {
    /// Watches these from now on.
    pub(crate) fn watch(&self, handle: AlertsHandle) {
        *self.0.write() = Watched { handle: Some(handle), is_running: true };
    }

    /// They are switched off, or about to be replaced.
    pub(crate) fn stopped(&self) {
        self.0.write().is_running = false;
    }

    /// Those that ran last.
    pub(crate) fn last(&self) -> Option<AlertsHandle> {
        self.0.read().handle.clone()
    }
}

impl AlertsProvider for Alerting {
    fn status(&self) -> Option<AlertsStatus> {
        let watched = self.0.read();
        let handle = watched.handle.as_ref().filter(|_| watched.is_running)?;
        Some(told(handle.report()))
    }

    fn wake(&self) {
        if let Some(handle) = &self.0.read().handle {
            handle.wake();
        }
    }
}

fn told(report: StatusReport) -> AlertsStatus {
    let firing = report.firing.into_iter().map(|(rule_id, rule)| FiringAlert {
        rule_id,
        name: rule.name,
        since: rule.since,
    });
    let troubles = report.troubles.into_iter().map(|(rule_id, rule)| AlertTrouble {
        rule_id,
        name: rule.name,
        reason: rule.reason,
    });
    let channels = report.channels.into_iter().map(|(name, counts)| AlertChannel {
        name,
        delivered: counts.delivered,
        retried: counts.retried,
        dead: counts.dead,
    });
    AlertsStatus {
        evaluations: report.rounds,
        failed_evaluations: report.failed_rounds,
        last_evaluation: report.last_round,
        samples: report.samples,
        ignored_samples: report.ignored_samples,
        events: report.events,
        forgotten_events: report.forgotten,
        firing: firing.collect(),
        troubles: troubles.collect(),
        channels: channels.collect(),
    }
}
