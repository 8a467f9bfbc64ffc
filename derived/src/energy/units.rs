//! Units of the rows of quarters.

use super::{FIELDS, QUARTERS};
use wattlog_engine::{Engine, WriteError};
use wattlog_model::{FieldMeaning, Unit};

/// Tells the units of the fields that have none; a unit that somebody set stays.
pub(super) fn tell_units(engine: &Engine, database: &str) -> Result<(), WriteError> {
    let Ok(Some(known)) = engine.measurement(database, QUARTERS) else { return Ok(()) };
    let unit_of = |name: &str| Unit::new(if name.ends_with("_kwh") { "kWh" } else { "s" });
    let fields =
        known.fields.into_iter().filter(|field| field.unit.is_none() && FIELDS.contains(&&*field.name));
    let missing: Vec<FieldMeaning> = fields
        .map(|field| FieldMeaning { unit: unit_of(&field.name), kind: field.kind, field: field.name })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    engine.describe_fields(database, QUARTERS, &missing).map(drop)
}
