//! One suite on both databases: what is stored, changed, refused and listed is the same in SQLite and in PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod changes;
mod concurrency;
mod configurations;
mod constraints;
mod hostile;
mod kill;
mod listing;
mod migrations;
mod postgres_server;
mod records;
mod sqlite_file;
