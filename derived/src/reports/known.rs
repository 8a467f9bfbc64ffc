//! What reports rest on besides points and sessions: tariffs, and what batteries hold.

use super::keep::fingerprint;
use crate::books::{BookError, Hands};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use wattlog_ledger::schema::{Device, Tariff};
use wattlog_ledger::{Listing, Stored};

/// See the module.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) tariffs: Arc<Vec<Stored<Tariff>>>,
    pub(crate) batteries: Batteries,
}

/// Capacities by device, kWh.
#[derive(Debug)]
pub(crate) struct Batteries(BTreeMap<String, f64>);

impl Batteries {
    /// As the ledger has them.
    pub(crate) async fn stored(hands: &Hands) -> Result<Self, BookError> {
        let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
        let devices = hands.list_all::<Device>(listing).await?.into_iter().map(|stored| stored.record);
        let known = devices.filter_map(|device| Some((device.device_id, device.battery_capacity_kwh?)));
        Ok(Self(known.collect()))
    }

    pub(super) fn capacity_kwh(&self, device: &str) -> Option<f64> {
        self.0.get(device).copied()
    }

    /// Another if one of them is.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&json!(self.0))
    }
}
