//! Late samples: which window must be detected again, doing it, and what changes by it.
//!
//! Why a window is enough. Detection that starts afresh at `start` finds from there on what detection over everything
//! finds, if `start` is the start of a session that the late samples cannot reach, or lies in none. In the second case
//! only a row of runs too short to be a session may be under way at `start`; it ends within `min_duration_ns`, so before
//! the late samples can reach it, and either way it is not given.
//! Detection may stop at the first reading after the late samples' reach at which it is idle and that no old session
//! holds: from there on both find the same. An old session holds until its merge pause is over, since a running detector
//! adds later runs to it until then. One that is too short to be known, and that the late samples may have changed, began
//! before their end, so it and its pause are over `min_duration_ns + merge_pause_ns` after that. How far detection has to
//! go depends on the samples, so [`redetect`] finds it.

use super::{Detector, InvalidParams, Kind, Params, Sample, Session, SessionError, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_model::Timestamp;

/// What must be read to detect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffectedWindow {
    /// Samples from here on are needed for their prices.
    pub prices_from: Timestamp,
    /// Detection begins here: samples at this time and after it count.
    pub start: Timestamp,
    /// Detection may end once it is idle after this.
    pub settle_after: Timestamp,
}

/// The window that late samples in `late` affect. `sessions` are those known of the device and kind: all that are open, and
/// all that end after `late.start` less `min_duration + merge_pause + max_gap`; more do no harm.
pub fn affected_window(sessions: &[Session], late: &Range<Timestamp>, params: &Params) -> AffectedWindow {
    let back = params.reach_ns().saturating_add(params.min_duration_ns).saturating_add(1);
    let reach = late.start.0.saturating_sub(back);
    let holding = sessions.iter().find(|session| session.start.0 <= reach && reach <= session.end.0);
    // One that is open may be closed by samples that are far too late to belong to it.
    let open = sessions.iter().filter(|session| session.status == Status::Open);
    let start = holding.into_iter().chain(open).map(|session| session.start.0).fold(reach, i64::min);
    let unknown = params.min_duration_ns.saturating_add(params.merge_pause_ns);
    let settle = params.max_gap_ns.max(params.price_max_age_ns).max(unknown);
    AffectedWindow {
        prices_from: Timestamp(start.saturating_sub(params.price_max_age_ns)),
        start: Timestamp(start),
        settle_after: Timestamp(late.end.0.saturating_add(settle)),
    }
}

/// A window that was detected again.
#[derive(Debug, Clone, PartialEq)]
pub struct Redetection {
    /// All sessions that start in it are new; the old ones that start in it are void.
    pub window: Range<Timestamp>,
    /// Its sessions, in order; the last may be open.
    pub sessions: Vec<Session>,
    /// If the samples ended before detection settled: its state, which goes on from there. It replaces that of the
    /// running detector. `None` if that goes on as it is.
    pub detector: Option<Detector>,
}

/// Why detection again was not possible.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RedetectError {
    /// See [`InvalidParams`].
    #[error(transparent)]
    Params(#[from] InvalidParams),
    /// See [`SessionError`].
    #[error(transparent)]
    Sample(#[from] SessionError),
}

/// Detects `window` again. `samples` rise from [`AffectedWindow::prices_from`] on, with the late ones among them, and are
/// read only as far as needed; `old` are the sessions known for the device and kind.
///
/// # Errors
/// See [`RedetectError`].
pub fn redetect(
    device: &str,
    kind: Kind,
    params: Params,
    window: AffectedWindow,
    old: &[Session],
    samples: impl IntoIterator<Item = Sample>,
) -> Result<Redetection, RedetectError> {
    let mut detector = Detector::new(device, kind, params)?;
    let mut sessions = Vec::new();
    for sample in samples {
        if sample.time < window.start {
            detector.feed_price(&sample)?;
            continue;
        }
        sessions.extend(detector.feed(&sample)?);
        let is_reading = kind.power_w(&sample).is_some();
        let held = || {
            old.iter().any(|session| {
                let until = session.end.0.saturating_add(params.merge_pause_ns);
                session.start <= sample.time && sample.time.0 <= until
            })
        };
        if is_reading && sample.time > window.settle_after && detector.is_idle() && !held() {
            return Ok(Redetection { window: window.start..sample.time, sessions, detector: None });
        }
    }
    sessions.extend(detector.open_session());
    Ok(Redetection { window: window.start..Timestamp(i64::MAX), sessions, detector: Some(detector) })
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Created(Session),
    /// It has the same key and other content.
    Changed {
        /// As it was.
        old: Session,
        /// As it is.
        new: Session,
    },
    /// It is no session any more.
    Withdrawn(Session),
}

/// Changes in order of start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Revision {
    /// Empty if both lists say the same.
    pub changes: Vec<Change>,
}

/// Compares the sessions of a window before and after, by key. `old` and `new` hold those that start in the window.
pub fn revise(old: &[Session], new: &[Session]) -> Revision {
    type Key<'s> = (Timestamp, Kind, &'s str);
    fn key(session: &Session) -> Key<'_> {
        (session.start, session.kind, &session.device)
    }
    let mut pairs: BTreeMap<Key<'_>, (Option<&Session>, Option<&Session>)> = BTreeMap::new();
    for session in old {
        pairs.entry(key(session)).or_default().0 = Some(session);
    }
    for session in new {
        pairs.entry(key(session)).or_default().1 = Some(session);
    }
    let change = |pair: (Option<&Session>, Option<&Session>)| match pair {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => Some(Change::Changed { old: old.clone(), new: new.clone() }),
        (Some(old), None) => Some(Change::Withdrawn(old.clone())),
        (None, Some(new)) => Some(Change::Created(new.clone())),
        (None, None) => None,
    };
    Revision { changes: pairs.into_values().filter_map(change).collect() }
}
