//! What a feed needs from the store: what is there already, and a place to put points. The embedder fits the first to
//! its engine; the second is the collector's own way to the sink.

use crate::outbox::Outbox;
use crate::sink::{BoxFuture, Sink, SinkError};
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{Point, TagSet, Timestamp};

/// Tells what the store has.
pub trait Known: Send + Sync {
    /// Times at which a series has a value of `field`, ascending, within a half-open range.
    ///
    /// A series that does not exist has none. An error is a reason for people; the question comes again later, and
    /// nothing is fetched before it is answered.
    fn times<'a>(
        &'a self,
        measurement: &'a str,
        tags: &'a TagSet,
        field: &'a str,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<Timestamp>, String>>;
}

/// A store of which nothing is known: every start fetches all days of the backfill again, to the same points.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingKnown;

impl Known for NothingKnown {
    fn times<'a>(
        &'a self,
        _: &'a str,
        _: &'a TagSet,
        _: &'a str,
        _: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Vec<Timestamp>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Takes points and answers when they are stored.
pub(crate) trait Deposit: Send + Sync {
    /// Waits as long as the store refuses for now; tells how many points it rejected for good.
    fn deposit(&self, points: Vec<Point>) -> BoxFuture<'_, Result<u64, NotStored>>;
}

/// The points were not stored, and are to be fetched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the points were not stored: {0}")]
pub(crate) struct NotStored(pub(crate) String);

impl Deposit for Outbox {
    fn deposit(&self, points: Vec<Point>) -> BoxFuture<'_, Result<u64, NotStored>> {
        let stored = self.hand_over(points);
        Box::pin(async move { stored.await.ok_or_else(|| NotStored("the collector stops".to_owned())) })
    }
}

/// Straight to a sink, without a collector: a refusal is an error at once.
pub(crate) struct Direct(pub(crate) Arc<dyn Sink>);

impl Deposit for Direct {
    fn deposit(&self, points: Vec<Point>) -> BoxFuture<'_, Result<u64, NotStored>> {
        let stored = self.0.store(points);
        Box::pin(async move {
            match stored.await {
                Ok(()) => Ok(0),
                Err(SinkError::Rejected { points, .. }) => Ok(points.len() as u64),
                Err(error) => Err(NotStored(error.to_string())),
            }
        })
    }
}
