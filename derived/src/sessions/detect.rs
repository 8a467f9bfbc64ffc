//! Detecting one window again from stored points.

use super::samples::{Kept, Samples, SamplesError, Source, Wanted};
use super::saving::{Reckoned, savings};
use std::ops::Range;
use wattlog_analytics::session::{Kind, Params, Session, Status, affected_window, redetect};
use wattlog_model::Timestamp;

/// What is to be detected again.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pub(super) device: &'a str,
    pub(super) kind: Kind,
    /// Times in which something changed.
    pub(super) late: &'a Range<i64>,
    /// Sessions that are known: see [`affected_window`].
    pub(super) old: &'a [Session],
    /// No session is known of from here on.
    pub(super) upto: i64,
    pub(super) now: i64,
}

/// What came out.
#[derive(Debug)]
pub(super) enum Found {
    /// Sessions with what they saved, and the times in which they take the place of those that begin there.
    Whole { times: Range<i64>, sessions: Vec<(Session, Reckoned)>, notes: Vec<String> },
    /// It reaches beyond what sessions are known of.
    Further,
}

/// Where detection begins.
pub(super) fn start_of(old: &[Session], late: &Range<i64>, params: &Params) -> i64 {
    affected_window(old, &(Timestamp(late.start)..Timestamp(late.end)), params).start.0
}

/// `kept` is that of the device.
pub(super) fn detect(
    source: &Source<'_>,
    window: &Window<'_>,
    kept: &mut Kept,
) -> Result<Found, SamplesError> {
    let (params, late) = (source.params, Timestamp(window.late.start)..Timestamp(window.late.end));
    let affected = affected_window(window.old, &late, &params);
    // If the device goes on, one reading after that is enough.
    let surely = window.late.start..affected.settle_after.0.saturating_add(params.max_gap_ns);
    let (device, kind, times) = (window.device, window.kind, affected.start.0..window.upto);
    let mut samples = Samples::new(source, Wanted { device, kind, times, surely }, kept);
    let found = redetect(window.device, window.kind, params, affected, window.old, &mut samples);
    if let Some(failure) = samples.failure {
        return Err(failure);
    }
    let mut found = found?;
    if let Some(detector) = &mut found.detector {
        if window.upto < i64::MAX {
            return Ok(Found::Further);
        }
        // A device that fell silent does not keep its last session open for ever.
        if let Some(closed) = detector.advance(Timestamp(window.now)) {
            found.sessions.retain(|session| session.status == Status::Closed);
            found.sessions.push(closed);
        }
    }
    let times = found.window.start.0..found.window.end.0;
    let mut notes = samples.notes;
    let saved = savings(source, &found.sessions, &mut notes)?;
    let sessions = found.sessions.into_iter().zip(saved).collect();
    Ok(Found::Whole { times, sessions, notes })
}
