//! One file per resource: parameters in, one call of the store, an answer out.

pub(crate) mod admin;
pub(crate) mod alerts;
pub(crate) mod changes;
pub(crate) mod delete;
pub(crate) mod energy;
pub(crate) mod energy_data;
pub(crate) mod export;
pub(crate) mod feeds;
pub(crate) mod front_page;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod prices;
pub(crate) mod quality;
pub(crate) mod query;
pub(crate) mod records;
pub(crate) mod retention;
pub(crate) mod schema;
pub(crate) mod scorecard;
pub(crate) mod status;
pub(crate) mod storage;
pub(crate) mod trends;
pub(crate) mod write;

pub(crate) use storage::disk_bytes;
