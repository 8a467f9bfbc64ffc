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
