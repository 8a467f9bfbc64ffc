//! What the server tells of devices, from the collector that runs at the moment.

use parking_lot::RwLock;
use std::collections::HashMap;
use wattlog_collector::status::{DeviceStatus as Polled, StatusHandle};
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

/// The collector's status. After a reload it is another collector's, and what the earlier ones counted goes on.
#[derive(Debug, Default)]
pub(crate) struct Devices(RwLock<Watched>);

#[derive(Debug, Default)]
struct Watched {
    running: Option<StatusHandle>,
    /// The last word of collectors that were replaced, by device.
    before: HashMap<String, Polled>,
}

impl Devices {
    /// Watches this one from now on; the one before has stopped.
    pub(crate) fn watch(&self, status: StatusHandle) {
        let mut watched = self.0.write();
        let Some(stopped) = watched.running.replace(status) else { return };
        for mut device in stopped.snapshot().devices {
            if let Some(before) = watched.before.remove(&device.id) {
                go_on(&mut device, &before);
            }
            watched.before.insert(device.id.clone(), device);
        }
    }
}

impl DeviceStatusProvider for Devices {
    fn devices(&self) -> Vec<DeviceStatus> {
        let watched = self.0.read();
        let Some(status) = &watched.running else { return Vec::new() };
        let mut devices = status.snapshot().devices;
        for device in &mut devices {
            if let Some(before) = watched.before.get(&device.id) {
                go_on(device, before);
            }
        }
        devices.into_iter().map(told).collect()
    }
}

/// Counts from where `before` ended.
fn go_on(device: &mut Polled, before: &Polled) {
    device.points += before.points;
    device.dropped += before.dropped;
    device.rejected += before.rejected;
    device.left_out.no_data += before.left_out.no_data;
    let (errors, earlier) = (&mut device.errors, &before.errors);
    errors.connect += earlier.connect;
    errors.lost += earlier.lost;
    errors.silence += earlier.silence;
    errors.refused += earlier.refused;
    errors.malformed += earlier.malformed;
    device.last_attempt = device.last_attempt.or(before.last_attempt);
    device.last_point = device.last_point.or(before.last_point);
}

/// A success is a point, here as for the reader of the API: an inverter that answers "no data" all night has none.
fn told(device: Polled) -> DeviceStatus {
    let errors = device.errors;
    let by_kind = [
        ("connect", errors.connect),
        ("lost", errors.lost),
        ("silence", errors.silence),
        ("refused", errors.refused),
        ("malformed", errors.malformed),
        // Not the device's fault, but its points.
        ("rejected", device.rejected),
    ];
    DeviceStatus {
        id: device.id,
        vendor: device.vendor.to_owned(),
        transport: format!("{:?}", device.transport).to_lowercase(),
        address: device.address,
        interval_ms: device.interval_ms,
        last_attempt: device.last_attempt,
        last_success: device.last_point,
        last_error: device.last_error,
        polls_ok: device.points,
        errors: by_kind.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        sentinels: device.left_out.no_data,
        dropped_points: device.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_collector::config::DeviceConfig;
    use wattlog_collector::{Collector, CollectorConfig};
    use wattlog_model::Timestamp;

    fn started() -> StatusHandle {
        let config =
            CollectorConfig { devices: vec![DeviceConfig::new("roof", "h")], ..CollectorConfig::default() };
        Collector::new(config).unwrap().status()
    }

    #[test]
    fn a_reload_does_not_forget_what_was_dropped() {
        let devices = Devices::default();
        let mut stopped = started().snapshot().devices.remove(0);
        (stopped.points, stopped.dropped, stopped.errors.silence) = (5, 2, 1);
        stopped.last_point = Some(Timestamp(7));
        devices.watch(started());
        devices.0.write().before.insert("roof".into(), stopped);
        devices.watch(started());
        let told = devices.devices().remove(0);
        assert_eq!((told.polls_ok, told.dropped_points, told.last_success), (5, 2, Some(Timestamp(7))));
        assert!(told.errors.contains(&("silence".to_owned(), 1)));
    }

    #[test]
    fn each_device_tells_its_own_counts_and_not_the_cycle_that_runs() {
        let mut polled = started().snapshot().devices.remove(0);
        (polled.cycles, polled.answered_cycles, polled.failed_cycles) = (9, 6, 2);
        (polled.points, polled.dropped, polled.rejected) = (5, 2, 1);
        (polled.last_attempt, polled.last_success) = (Some(Timestamp(9)), Some(Timestamp(8)));
        polled.last_point = Some(Timestamp(7));
        let told = told(polled);
        assert_eq!((told.polls_ok, told.dropped_points), (5, 2));
        assert_eq!((told.last_attempt, told.last_success), (Some(Timestamp(9)), Some(Timestamp(7))));
        assert!(told.errors.contains(&("rejected".to_owned(), 1)));
    }
}
