//! What the server tells of devices, from the collector that runs at the moment.

use parking_lot::RwLock;
use wattlog_collector::status::{DeviceStatus as Polled, StatusHandle};
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

/// The collector's status; another one after a reload.
#[derive(Debug, Default)]
pub(crate) struct Devices(RwLock<Option<StatusHandle>>);

impl Devices {
    pub(crate) fn watch(&self, status: StatusHandle) {
        *self.0.write() = Some(status);
    }
}

impl DeviceStatusProvider for Devices {
    fn devices(&self) -> Vec<DeviceStatus> {
        let Some(status) = self.0.read().clone() else { return Vec::new() };
        let snapshot = status.snapshot();
        let dropped = snapshot.buffer.dropped;
        snapshot.devices.into_iter().map(|device| told(device, dropped)).collect()
    }
}

fn told(device: Polled, dropped_points: u64) -> DeviceStatus {
    let errors = device.errors;
    let by_kind = [
        ("connect", errors.connect),
        ("lost", errors.lost),
        ("silence", errors.silence),
        ("refused", errors.refused),
        ("malformed", errors.malformed),
    ];
    DeviceStatus {
        id: device.id,
        vendor: device.vendor.to_owned(),
        transport: format!("{:?}", device.transport).to_lowercase(),
        address: device.address,
        interval_ms: device.interval_ms,
        last_attempt: None,
        last_success: device.last_success,
        last_error: device.last_error,
        polls_ok: device.cycles - device.failed_cycles,
        errors: by_kind.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        sentinels: device.left_out.no_data,
        dropped_points,
    }
}
