//! Relational facts of a home: sessions, decisions, configurations, tariffs, reports, alerts, who may do what.
//!
//! Numbers over time live in the engine; what is counted in dozens a day and has to be changed, looked up by name or
//! joined lives here: in one SQLite file beside the store, or in a PostgreSQL database.
//!
//! Promises
//! 1. A call that returned `Ok` after a change survives a power cut: SQLite syncs its log at each commit, PostgreSQL as it is
//!    configured (`synchronous_commit`).
//! 2. Every change of a record carries who made it and when, and leaves a row in `history`, in the same transaction.
//! 3. Who changes a record says which version was seen; another version is a [`LedgerError::Conflict`], nothing is lost.
//! 4. Both databases hold the same tables under the same constraints and answer the same: one suite runs on both.
//!
//! Not here: what a session or an alert is (`analytics`), who may call (`server`), reading old files (`migrate`).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod database;
mod edits;
mod error;
mod history;
mod instant;
mod ledger;
mod listing;
mod migrations;
mod options;
mod record;
pub mod schema;
mod store;

pub use edits::Edit;
pub use error::LedgerError;
pub use ledger::{Health, Ledger, Opened};
pub use listing::{Cursor, Listing, Order, Page};
pub use options::{Backend, InvalidLedgerUrl, LedgerOptions};
pub use record::{Actor, Change, Changed, Invalid, Record, Stored, Value};
pub use store::{Action, Expected, Outcome};
