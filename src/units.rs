//! Units and kinds of pushed fields, from the configuration into the catalog.
//!
//! A field can be told its unit only once it exists, so the configured ones are compared with the catalog again and again; what is
//! right already costs a look-up and no write. A unit set here goes over one that a client told.

use crate::config::Meaning;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_engine::Engine;
use wattlog_model::FieldMeaning;

/// measurement -> field -> meaning, as in the configuration.
pub(crate) type Units = BTreeMap<String, BTreeMap<String, Meaning>>;

/// A new field waits at most so long for its unit.
const EVERY: Duration = Duration::from_secs(5);

/// Runs until `over`.
pub(crate) async fn keep_told(engine: Engine, units: Units, over: CancellationToken) {
    if units.is_empty() {
        return over.cancelled().await;
    }
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (engine, units) = (engine.clone(), units.clone());
        // Joined before the next round: two rounds never overlap.
        if tokio::task::spawn_blocking(move || tell(&engine, &units)).await.is_err() {
            return;
        }
    }
}

fn tell(engine: &Engine, units: &Units) {
    for database in engine.databases() {
        for (measurement, fields) in units {
            let Ok(Some(known)) = engine.measurement(&database.name, measurement) else { continue };
            let missing: Vec<FieldMeaning> = known
                .fields
                .iter()
                .filter_map(|field| {
                    let wanted = fields.get(&*field.name)?;
                    let right = field.unit == wanted.unit && field.kind == wanted.kind;
                    (!right).then(|| FieldMeaning {
                        field: field.name.clone(),
                        unit: wanted.unit.clone(),
                        kind: wanted.kind,
                    })
                })
                .collect();
            if missing.is_empty() {
                continue;
            }
            match engine.describe_fields(&database.name, measurement, &missing) {
                Ok(_) => tracing::info!(
                    database = database.name,
                    measurement,
                    fields = missing.len(),
                    "units told"
                ),
                // A full disk or a closing store; the next round comes.
                Err(error) => {
                    tracing::debug!(database = database.name, measurement, %error, "units not told");
                }
            }
        }
    }
}
