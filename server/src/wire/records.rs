//! Records of the ledger as CSV.
//!
//! One column for each field, named as in JSON; lists and objects are JSON text in their cell; null is an empty cell.

use crate::asked::csv_line;
use serde_json::Value;
use wattlog_ledger::{Record, Stored};

/// Names of the columns: what every record has, then its own fields.
pub(crate) fn named_columns<R: Record>() -> Vec<String> {
    let common = ["id", "version", "created_at", "created_by", "updated_at", "updated_by"];
    let own = R::COLUMNS.iter().map(|column| column.strip_suffix("_ns").unwrap_or(column));
    common.into_iter().chain(own).map(str::to_owned).collect()
}

/// The line of names.
pub(crate) fn csv_head(columns: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    csv_line(&mut out, columns.iter().cloned());
    out
}

/// The line of a record.
///
/// # Errors
/// A record that cannot be written as JSON; none of ours.
pub(crate) fn csv_record<R: Record>(columns: &[String], stored: &Stored<R>) -> Result<Vec<u8>, String> {
    let shown = serde_json::to_value(stored).map_err(|error| error.to_string())?;
    let cells = columns.iter().map(|name| match name.rsplit_once('_') {
        Some((change @ ("created" | "updated"), part)) => cell(&shown[change][part]),
        _ => cell(&shown[name]),
    });
    let mut out = Vec::new();
    csv_line(&mut out, cells);
    Ok(out)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
