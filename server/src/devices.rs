//! What the server asks of whoever polls devices. The root joins the two.

use serde::Serialize;
use std::time::Duration;
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

/// For a server without a collector.
impl DeviceStatusProvider for () {
    fn devices(&self) -> Vec<DeviceStatus> {
        Vec::new()
    }
}
