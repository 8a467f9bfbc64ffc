//! Prices of past months, remembered: a year has some 35 000 of them.

use crate::months::months;
use crate::price::{PriceError, PricePiece, StoredTariff};
use crate::remembered::Remembered;
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, Zone};

/// Bytes of pieces that are kept: some four years of quarters of an hour.
const MOST_BYTES: usize = 4 << 20;

/// Pieces of tariffs that were asked for lately.
#[derive(Debug)]
pub struct PriceCache(Remembered<Key, Vec<PricePiece>>);

impl Default for PriceCache {
    fn default() -> Self {
        Self(Remembered::new(MOST_BYTES))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The tariff as it is written.
    definition: Arc<str>,
    database: String,
    zone: String,
    times: Range<i64>,
}

impl PriceCache {
    /// Prices of a stored tariff over `range`, as [`StoredTariff::pieces`]; months of which no price changed are not read
    /// again.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn pieces(
        &self,
        definition: &Value,
        (engine, database): (&Engine, &str),
        range: &Range<i64>,
        zone: &Zone,
        control: &QueryControl,
    ) -> Result<Vec<PricePiece>, PriceError> {
        let tariff = StoredTariff::parse(definition)?;
        let definition: Arc<str> = definition.to_string().into();
        let mut out = Vec::new();
        for times in months(range, zone)? {
            let version = tariff.version(engine, database, &times)?;
            let (definition, database_name) = (Arc::clone(&definition), database.to_owned());
            let zone_name = zone.name().to_owned();
            let key = Key { definition, database: database_name, zone: zone_name, times: times.clone() };
            if let Some(known) = self.0.get(&key, version) {
                out.extend_from_slice(&known);
                continue;
            }
            let pieces = Arc::new(tariff.pieces(engine, database, &times, zone, control)?);
            out.extend_from_slice(&pieces);
            let texts = key.definition.len() + key.database.len() + key.zone.len();
            let bytes = size_of::<Key>() + texts + size_of_val(pieces.as_slice());
            self.0.put(key, version, pieces, bytes);
        }
        Ok(out)
    }
}
