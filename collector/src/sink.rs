//! Where points go: the collector names what it needs, the program that embeds it joins the store to it.
//!
//! Promise: the collector calls [`Sink::store`] with points in the order they were measured, one call at a time,
//! and takes "stored" to mean durable as the store's own policy says.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use wattlog_model::{FieldMeaning, Point};

/// A future on the heap, so that `dyn Sink` works.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store for points.
pub trait Sink: Send + Sync {
    /// Stores a batch, whole or not at all, apart from points that can never be stored ([`SinkError::Rejected`]).
    fn store(&self, points: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Tells units and kinds of fields of a measurement. Called after a batch that held these fields for the first
    /// time was stored, and again later if it fails.
    fn describe<'a>(
        &'a self,
        measurement: &'a str,
        fields: Vec<FieldMeaning>,
    ) -> BoxFuture<'a, Result<(), SinkError>>;
}

/// Why a batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Not now: the store is busy, full or read-only. The same points are offered again later.
    #[error("the store takes nothing for now: {reason}")]
    Refused {
        /// When to try again, if the store knows.
        retry_after: Option<Duration>,
        /// Why it takes nothing.
        reason: String,
    },
    /// Never: some points of the batch cannot be stored as they are; the others are stored.
    #[error("{count} points cannot be stored: {reason}", count = points.len())]
    Rejected {
        /// Places in the batch, from 0, of the points that were not stored.
        points: Vec<usize>,
        /// What was wrong with them.
        reason: String,
    },
}
