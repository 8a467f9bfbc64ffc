//! The optimiser's SQLite store, read from a copy.
//!
//! Promise: the original is opened for reading as a file and by nothing else. Rows that live only in its write-ahead log
//! are read. Rows come in the order in which they were written, in pieces of [`PIECE_ROWS`].
//!
//! Invariants
//! 1. Only tables are read, no views and no virtual tables: a foreign file cannot make SQLite compute.
//! 2. Columns are asked for by name after a look at which are there; versions before 4 lack five of `energy_data`.
//! 3. A piece that cannot be read ends its table with a refusal that tells the last row; other tables go on.

mod rows;

use crate::context::{Context, Hold, Intake, Out};
use crate::error::Error;
use crate::files;
use crate::read::Orders;
use crate::report::{Place, Position};
use crate::tree::FoundFile;
use rows::{TABLES, Table};
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, TypeInfo, ValueRef};
use std::path::Path;
use std::sync::Arc;

/// Rows held at a time: with the longest texts allowed some tens of megabytes.
const PIECE_ROWS: i64 = 64;

/// Reads a store.
pub(crate) async fn read(
    file: &FoundFile,
    context: &mut Context,
    out: &mut (dyn Out + Send),
) -> Result<(), Error> {
    let copy = files::copy_store(
        &file.path,
        context.options.temporary.as_deref(),
        context.options.limits.store_bytes,
    )?;
    let mut intake = Intake::new(context, out, file.name.clone(), Hold::Nothing);
    match open(&copy.database).await {
        Ok(mut connection) => {
            read_tables(&mut connection, &mut intake).await?;
            // The copy goes with its folder, whatever closing says.
            let _ = connection.close().await;
        }
        Err(error) => refuse(&mut intake, "sqlite_master", 0, format!("no readable SQLite store: {error}"))?,
    }
    intake.finish()
}

async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(false)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // Opening reads nothing: the first query tells whether this is a store at all.
    sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut connection).await?;
    Ok(connection)
}

async fn read_tables(connection: &mut SqliteConnection, intake: &mut Intake<'_>) -> Result<(), Error> {
    let checked = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut *connection).await;
    let verdict = checked.and_then(|row| row.try_get::<String, _>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => {}
        Ok(verdict) => {
            let reason = format!("damaged; what can be read is read: {}", crate::report::shortened(&verdict));
            refuse(intake, "sqlite_master", 0, reason)?;
        }
        Err(error) => {
            refuse(intake, "sqlite_master", 0, format!("damaged; what can be read is read: {error}"))?;
        }
    }
    let version = match table_kind(connection, "schema_version").await {
        Ok(TableKind::Plain) => {
            let row =
                sqlx::query("SELECT max(version) FROM schema_version").fetch_one(&mut *connection).await;
            row.and_then(|row| row.try_get::<Option<i64>, _>(0)).ok().flatten()
        }
        _ => None,
    };
    // The first stores had no such table.
    intake.shape(
        &version.map_or("store, schema not told".to_owned(), |version| format!("store, schema {version}")),
    );
    let mut found = 0;
    for table in TABLES {
        match table_kind(connection, table.name).await {
            Ok(TableKind::Plain) => {}
            Ok(TableKind::Absent) => continue,
            Ok(TableKind::Other) => {
                refuse(intake, table.name, 0, "no plain table: not read".to_owned())?;
                continue;
            }
            Err(error) => {
                refuse(intake, table.name, 0, format!("it cannot be looked up: {error}"))?;
                continue;
            }
        }
        found += 1;
        read_table(connection, table, intake).await?;
    }
    if found == 0 {
        refuse(intake, "sqlite_master", 0, "none of the optimiser's tables".to_owned())?;
    }
    Ok(())
}

/// What a name of the schema stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableKind {
    Plain,
    /// A view, an index, a virtual table.
    Other,
    Absent,
}

async fn table_kind(connection: &mut SqliteConnection, name: &'static str) -> Result<TableKind, sqlx::Error> {
    let row = sqlx::query("SELECT type, sql FROM sqlite_master WHERE name = ?1").bind(name);
    let Some(row) = row.fetch_optional(connection).await? else { return Ok(TableKind::Absent) };
    let text = |index: usize| row.try_get::<Option<String>, _>(index).ok().flatten().unwrap_or_default();
    let plain = text(0) == "table" && !text(1).to_ascii_uppercase().starts_with("CREATE VIRTUAL");
    Ok(if plain { TableKind::Plain } else { TableKind::Other })
}

async fn read_table(
    connection: &mut SqliteConnection,
    table: &Table,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    let columns = match columns_of(connection, table, intake).await {
        Ok(columns) => columns,
        Err(error) => return refuse(intake, table.name, 0, format!("its columns cannot be read: {error}")),
    };
    let text_limit = intake.context.options.limits.store_text_bytes;
    // One character more than allowed shows that a text is too long, without it being read whole.
    let selected: Vec<String> = columns
        .iter()
        .map(|column| {
            format!(
                "CASE typeof({column}) WHEN 'text' THEN substr({column}, 1, {}) ELSE {column} END",
                text_limit.saturating_add(1)
            )
        })
        .collect();
    let separator = if selected.is_empty() { "" } else { ", " };
    let sql = format!(
        "SELECT rowid{separator}{} FROM {} WHERE rowid > ?1 ORDER BY rowid LIMIT {PIECE_ROWS}",
        selected.join(", "),
        table.name
    );
    let mut orders = Orders::default();
    let mut after = i64::MIN;
    let mut record = 0;
    loop {
        let piece = sqlx::query(AssertSqlSafe(sql.clone())).bind(after).fetch_all(&mut *connection).await;
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                return refuse(
                    intake,
                    table.name,
                    after,
                    format!("rows behind this one cannot be read: {error}"),
                );
            }
        };
        let len = piece.len() as i64;
        for row in &piece {
            // A damaged index may lead in a circle.
            let Some(rowid) = row.try_get::<i64, _>(0).ok().filter(|rowid| *rowid > after) else {
                return refuse(
                    intake,
                    table.name,
                    after,
                    "rows behind this one are out of order: damaged".to_owned(),
                );
            };
            after = rowid;
            let position = position(intake, table.name, rowid, record);
            record += 1;
            match object_of(row, &columns, text_limit) {
                Ok(object) => rows::take(table, object, position, &mut orders, intake)?,
                Err(reason) => intake.refuse(Some(table.kind), position, reason)?,
            }
        }
        if len < PIECE_ROWS {
            return Ok(());
        }
    }
}

/// The columns of the table that are known; others that hold something of the optimiser's owner are counted.
async fn columns_of(
    connection: &mut SqliteConnection,
    table: &Table,
    intake: &mut Intake<'_>,
) -> Result<Vec<&'static str>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT name FROM pragma_table_info(?1)").bind(table.name).fetch_all(connection).await?;
    let mut columns = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        match table.columns.iter().find(|column| **column == name) {
            Some(column) => columns.push(*column),
            None => intake.unknown_key(&format!("{}.{name}", table.name)),
        }
    }
    Ok(columns)
}

/// A row as an object; columns without a value are absent.
fn object_of(
    row: &SqliteRow,
    columns: &[&'static str],
    text_limit: usize,
) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    for (index, column) in columns.iter().enumerate() {
        let unreadable = |error: sqlx::Error| format!("{column} cannot be read: {error}");
        let index = index + 1;
        let (is_null, type_name) = {
            let raw = row.try_get_raw(index).map_err(unreadable)?;
            (raw.is_null(), raw.type_info().name().to_owned())
        };
        if is_null {
            continue;
        }
        let value = match type_name.as_str() {
            "INTEGER" => Value::from(row.try_get_unchecked::<i64, _>(index).map_err(unreadable)?),
            "REAL" => {
                let number = row.try_get_unchecked::<f64, _>(index).map_err(unreadable)?;
                // The database holds infinities; they are told like those of a file.
                if number.is_finite() { Value::from(number) } else { Value::from(number.to_string()) }
            }
            "TEXT" => {
                let text = row.try_get_unchecked::<String, _>(index).map_err(unreadable)?;
                if text.len() > text_limit {
                    return Err(format!(
                        "{column} is longer than {text_limit} bytes (limit `store_text_bytes`)"
                    ));
                }
                Value::from(text)
            }
            other => return Err(format!("{column} is a {other}, where text or a number should be")),
        };
        object.insert((*column).to_owned(), value);
    }
    Ok(object)
}

fn position(intake: &Intake<'_>, table: &str, rowid: i64, record: u64) -> Position {
    Position { file: intake.file(), record, place: Place::Row { table: Arc::from(table), rowid } }
}

fn refuse(intake: &mut Intake<'_>, table: &str, rowid: i64, reason: String) -> Result<(), Error> {
    let position = position(intake, table, rowid, 0);
    intake.refuse(None, position, reason)
}
