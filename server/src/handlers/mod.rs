//! One file per resource: parameters in, one call of the store, an answer out.

pub(crate) mod health;
pub(crate) mod metrics;
