//! Queries: a request in, columns out, from one immutable snapshot.

mod error;
mod request;
mod result;

pub use error::QueryError;
pub use request::{
    CancelFlag, Function, GroupBy, Order, QueryControl, QueryLimits, QueryRequest, Shape, TagFilter,
    TagPredicate, UnknownFunction,
};
pub use result::{PartialRange, QueryResult, QueryStats, ResultColumn, ResultSeries, ResultValues};
pub fn run(
    _: &crate::snapshot::Snapshot,
    _: &QueryRequest,
    _: &QueryLimits,
    _: &QueryControl,
) -> Result<QueryResult, QueryError> {
    Err(QueryError::EmptyRange)
}
pub fn time_range(
    _: &crate::snapshot::Snapshot,
    _: crate::ids::NamespaceId,
    _: crate::ids::MeasurementId,
) -> Result<Option<(i64, i64)>, QueryError> {
    Ok(None)
}
