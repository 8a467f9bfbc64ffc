//! What the server asks of whoever polls devices. The root joins the two.

use crate::state::ServerState;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use wattlog_ledger::schema::Device;
use wattlog_ledger::{Ledger, LedgerError, Listing};
use wattlog_model::Timestamp;

/// How one device is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DeviceStatus {
    /// The `device_id` of its points.
    pub id: String,
    /// Maker or kind: `goodwe`.
    pub vendor: String,
    /// How it is reached: `tcp`, `udp`, `local`.
    pub transport: String,
    /// Host and port, or what stands for it.
    pub address: String,
    /// Time from one poll to the next.
    pub interval_ms: u64,
    /// What it says it is rated for, W; none if it did not tell.
    pub rated_power_w: Option<u32>,
    /// When it was last asked; none if never.
    #[schema(value_type = Option<i64>)]
    pub last_attempt: Option<Timestamp>,
    /// When points of it were last decoded and handed over; none if never.
    #[schema(value_type = Option<i64>)]
    pub last_success: Option<Timestamp>,
    /// Text of the last error since the last success.
    pub last_error: Option<String>,
    /// Polls that gave points.
    pub polls_ok: u64,
    /// Errors by kind (`timeout`, `exception`, `frame` ...): a small closed set of words.
    pub errors: Vec<(String, u64)>,
    /// Values left out because the device said "no value".
    pub sentinels: u64,
    /// Points dropped because the store refused them for too long.
    pub dropped_points: u64,
}

/// Gives the status of all devices; called once per request, must not block.
pub trait DeviceStatusProvider: Send + Sync {
    /// One entry per configured device, in the order of the configuration.
    fn devices(&self) -> Vec<DeviceStatus>;

    /// Time from one point of the program's own figures (`system_metrics`) to the next; none if there are to be none.
    fn own_interval(&self) -> Option<Duration> {
        None
    }
}

impl ServerState {
    /// Rated power of the inverters of which it is known, W: as the ledger has it, else as they say themselves.
    pub(crate) async fn inverters_w(&self) -> BTreeMap<String, f64> {
        let says = |one: DeviceStatus| Some((one.id, f64::from(one.rated_power_w?)));
        let mut known: BTreeMap<String, f64> = self.devices().into_iter().filter_map(says).collect();
        let Ok(ledger) = self.ledger() else { return known };
        match stored_w(ledger).await {
            Ok(stored) => known.extend(stored),
            // Points are judged all the same; by which limits is told.
            Err(error) => tracing::debug!(%error, "rated powers of the ledger are not known"),
        }
        known
    }
}

async fn stored_w(ledger: &Ledger) -> Result<Vec<(String, f64)>, LedgerError> {
    let mut listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all().with_text("kind", "inverter") };
    let mut found = Vec::new();
    loop {
        let page = ledger.list::<Device>(&listing).await?;
        let rated = |device: Device| Some((device.device_id, device.rated_power_w?));
        found.extend(page.records.into_iter().filter_map(|stored| rated(stored.record)));
        let Some(next) = page.next else { return Ok(found) };
        listing.after = Some(next);
    }
}

/// For a server without a collector.
impl DeviceStatusProvider for () {
    fn devices(&self) -> Vec<DeviceStatus> {
        Vec::new()
    }
}
