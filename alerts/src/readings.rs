//! What alerts ask of the home: values of a field, what a kWh costs, how full the disk is. The root fits it to engine and ledger.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use wattlog_analytics::alert::{PriceFigure, Sample};
use wattlog_model::Timestamp;

/// A future that can be spawned.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One field of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldOf {
    /// Measurement.
    pub measurement: String,
    /// Tags that the series has; others it may have besides.
    pub tags: BTreeMap<String, String>,
    /// Field.
    pub field: String,
}

/// How full the disk of the store is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFigures {
    /// Free on the disk.
    pub free_bytes: u64,
    /// Size of the disk; more than 0.
    pub disk_bytes: u64,
    /// Taken by the store.
    pub store_bytes: u64,
}

/// Values could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadingsError {
    /// More than one series has these tags.
    #[error("{count} series have these tags: name more tags, so that one is left ({example})")]
    Ambiguous {
        /// How many.
        count: usize,
        /// Tags of two of them.
        example: String,
    },
    /// It is not known at all in this installation, or cannot be a number.
    #[error("{reason}")]
    Unknown {
        /// What is missing, and what to do.
        reason: String,
    },
    /// The store does not answer now.
    #[error("the store does not answer: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
}

/// The store as alerts see it. Values are numbers (a truth value is 0 or 1), rise in time and have one value for each
/// instant; what is missing is left out. No series of that name is no values.
pub trait Readings: Send + Sync {
    /// The oldest `limit` values in `range`.
    fn values<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Sample>, ReadingsError>>;

    /// The newest value in `range`.
    fn newest<'a>(
        &'a self,
        of: &'a FieldOf,
        range: Range<Timestamp>,
    ) -> BoxFuture<'a, Result<Option<Sample>, ReadingsError>>;

    /// Prices in PLN/kWh by what the home knows of them (tariffs, market), each from its instant on: the oldest `limit` whose
    /// instant is in `range`, a few days at most. The same instants and prices whatever range they are asked for in.
    fn prices(
        &self,
        figure: PriceFigure,
        range: Range<Timestamp>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sample>, ReadingsError>>;

    /// Unit of a field, if it is known.
    fn unit<'a>(&'a self, of: &'a FieldOf) -> BoxFuture<'a, Option<String>>;

    /// How full the disk is now.
    fn storage(&self) -> BoxFuture<'_, Result<StorageFigures, ReadingsError>>;
}
